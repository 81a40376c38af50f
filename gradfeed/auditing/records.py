"""What is counted at each line of a program that is watched."""

import collections
import time
import weakref

from gradfeed._tf import tf
from gradfeed.auditing import feeds
from gradfeed.graph import effects
from gradfeed.graph import nest
from gradfeed.graph import provenance
from gradfeed.graph import traversal

# pylint: disable=protected-access

#: A line of the program: the path of the file, and the number.
Site = collections.namedtuple("Site", ["path", "line"])


def label(site):
  """`train.py:12`."""
  return "{}:{}".format(site.path.replace("\\", "/").split("/")[-1], site.line)


class Build:
  """The calls of `tf.gradients` of one line, in one graph.

  Attributes:
    site: `Site`.
    count: int, the calls.
    rebuilds: int, those with a run of the graph since the call before.
    ops: int, what all of them added to the graph.
    slices: dict from (name of a tensor, names of the xs) to the number of
      calls that differentiated one element of that tensor.
    none_xs: list of the names of the xs without a gradient.
  """

  def __init__(self, site):
    self.site = site
    self.count = self.rebuilds = self.ops = 0
    self.runs_before = None
    self.slices = collections.Counter()
    self.none_xs = []


class Run:
  """The calls of `Session.run` of one line, of the same fetches and feeds.

  Attributes:
    site: `Site`.
    fetches: tuple of names.
    feeds: tuple of names.
    count: int, the calls.
    singles: int, those in which each value with rows had one row.
    seconds: float, the time of all calls.
    has_gradient: bool, whether a tensor of `tf.gradients` is computed.
    changes: bool, whether a run changes, draws or waits for something.
    takes_rows: bool, whether a placeholder that is fed takes any number of
      rows.
    problems: list of (name of a fed tensor, why it is ignored).
    recorded: (weak reference to the session, fetches, feed_dict) or None.
  """

  def __init__(self, site, fetches, fed):
    self.site, self.fetches, self.feeds = site, fetches, fed
    self.count = self.singles = 0
    self.seconds = 0.0
    self.has_gradient = self.takes_rows = False
    self.changes = True
    self.problems = []
    self.recorded = None


class Growth:
  """How one graph grows between the runs of one line."""

  def __init__(self, site, version):
    self.site, self.version = site, version
    self.steps = self.ops = 0
    self.made_at = ""


class GraphRecord:
  """What was recorded of one graph."""

  def __init__(self):
    self.runs_done = 0
    self.gradients = set()  # Names of ops.
    self.builds, self.runs, self.growths = {}, {}, {}


class Recorder:
  """All that is recorded while a program is watched.

  Attributes:
    graphs: list of `GraphRecord`.
    run_seconds: float, the time of all runs of the program.
    fetched_none: set of `Site` at which a None was fetched.
  """

  def __init__(self):
    self.graphs = []
    self.run_seconds = 0.0
    self.fetched_none = set()
    self._of_graph = weakref.WeakKeyDictionary()
    self._is_user_code = {}

  def gradients(self, call, frame, ys, xs):
    """Calls `call` and records it, as a call from `frame`."""
    site = self._site(frame)
    ys, xs = ([leaf for leaf in nest.flatten(part) if leaf is not None]
              for part in (ys, xs))
    graph = next((leaf.graph for leaf in ys
                  if isinstance(leaf, tf.Tensor) and hasattr(leaf, "graph")),
                 None)
    if graph is None or site is None:
      return call()
    record = self._record(graph)
    before = graph.version
    results = call()
    build = record.builds.get(site)
    if build is None:
      build = record.builds[site] = Build(site)
    build.count += 1
    build.ops += graph.version - before
    if build.runs_before not in (None, record.runs_done):
      build.rebuilds += 1
    build.runs_before = record.runs_done
    for y in ys:
      whole = feeds.element_of(y) if isinstance(y, tf.Tensor) else None
      if whole is not None:
        build.slices[whole.name, tuple(_name(x) for x in xs)] += 1
    for x, result in zip(xs, nest.flatten(results)):
      if result is None:
        build.none_xs.append(_name(x))
      else:
        values = getattr(result, "values", result)
        record.gradients.add(values.op.name)
    return results

  def run(self, call, frame, session, fetches, feed_dict):
    """Calls `call` and records it, as a call from `frame`."""
    graph, site = session.graph, self._site(frame)
    if site is None:
      return call()
    start = time.perf_counter()
    try:
      results = call()
    except TypeError:
      if any(leaf is None for leaf in nest.flatten([fetches])):
        self.fetched_none.add(site)
      raise
    seconds = time.perf_counter() - start
    self.run_seconds += seconds
    record = self._record(graph)
    record.runs_done += 1
    pairs = list(feed_dict.items()) if isinstance(feed_dict, dict) else []
    key = site, _names(fetches), tuple([_name(key) for key, _ in pairs])
    run = record.runs.get(key)
    if run is None:
      run = record.runs[key] = Run(*key)
      self._study(run, record, graph, fetches, pairs)
    run.count += 1
    run.seconds += seconds
    if run.takes_rows and _is_single(pairs):
      run.singles += 1
    if not run.changes and run.has_gradient:
      run.recorded = weakref.ref(session), fetches, feed_dict
    self._grow(record, site, graph)
    return results

  def forget(self):
    """Lets go of the values of the program."""
    for record in self.graphs:
      for run in record.runs.values():
        run.recorded = None

  def _study(self, run, record, graph, fetches, pairs):
    """Finds out once about runs of the same fetches and feeds."""
    try:
      wanted = [graph.as_graph_element(leaf)
                for leaf in nest.flatten([fetches])]
      fed = [graph.as_graph_element(key) for key, _ in pairs]
      ops = traversal.ancestors(wanted, {tensor.name for tensor in fed})
    except Exception:  # pylint: disable=broad-except
      return  # What is fetched is of a kind that only TensorFlow knows.
    run.has_gradient = any(
        name in record.gradients or "_grad/" in name for name in ops)
    run.changes = not effects.is_repeatable(ops)
    run.takes_rows = any(
        tensor.shape.ndims and tf.Dimension(tensor.shape[0]).value is None
        for tensor in fed)
    run.problems = feeds.ignored(wanted, fed, ops)

  def _grow(self, record, site, graph):
    growth = record.growths.get(site)
    version = graph.version
    if growth is None:
      record.growths[site] = Growth(site, version)
    elif version != growth.version:
      growth.steps += 1
      growth.ops += version - growth.version
      growth.version = version
      if growth.steps == 3:
        growth.made_at = provenance.made_at(graph.get_operations()[-1])

  def _record(self, graph):
    record = self._of_graph.get(graph)
    if record is None:
      record = self._of_graph[graph] = GraphRecord()
      self.graphs.append(record)
    return record

  def _site(self, frame):
    """The innermost line outside of libraries, or None."""
    while frame is not None:
      code = frame.f_code
      is_user_code = self._is_user_code.get(code)
      if is_user_code is None:
        is_user_code = self._is_user_code[code] = (
            not provenance.is_library(code.co_filename))
      if is_user_code:
        return Site(code.co_filename, frame.f_lineno)
      frame = frame.f_back
    return None


def _names(fetches):
  if isinstance(fetches, (tf.Tensor, tf.Operation)):
    return (fetches.name,)
  return tuple([_name(leaf) for leaf in nest.flatten([fetches])])


def _name(leaf):
  return leaf if isinstance(leaf, str) else str(
      getattr(leaf, "name", None) or type(leaf).__name__)


def _is_single(pairs):
  """Whether values have rows, and each of them one."""
  sizes = [shape[0] if shape else None for shape in (
      getattr(value, "shape", None) if hasattr(value, "shape") else
      (len(value),) if isinstance(value, (list, tuple)) else ()
      for _, value in pairs)]
  sizes = [size for size in sizes if size is not None]
  return bool(sizes) and all(size == 1 for size in sizes)
