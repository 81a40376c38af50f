"""The cache of what gradfeed built in a graph, kept on the graph itself.

The cache is an attribute of the graph, so that both are released together. A
dictionary from graphs to caches would never release a graph, since its values
refer to the graph.
"""

import collections
import threading

from gradfeed import errors

_CREATION = threading.Lock()

_ATTRIBUTE = "_gradfeed_memo"


class _Missing:
  """The type of `MISSING`."""

  def __repr__(self):
    return "MISSING"


#: Stands for a value that is not in the cache; None may be in it.
MISSING = _Missing()

#: One derivative that was built. Tensors and ops are given by their names.
#:   ys: what was differentiated.
#:   xs: what it was differentiated by.
#:   stops: what was held constant.
#:   built: for each y the tensor that was differentiated: y or a copy of it.
#:   results: the derivative by each x, None if there is none.
#:   vjp: the `derivatives.vjps.VJP` that can build the derivative again in
#:     a form that can itself be differentiated, or None.
#:   recomputed: the ops between x and y that the derivative has copies of, and
#:     evaluates at other values than the ops of the graph have.
Derivative = collections.namedtuple(
    "Derivative",
    ["ys", "xs", "stops", "built", "results", "vjp", "recomputed"])


class Refusal(
    collections.namedtuple("Refusal", ["error_class", "what", "why", "fix"])):
  """The error with which a build was refused, as it is kept in the cache.

  It holds no exception: that would hold its traceback, and all that the frames
  of the traceback refer to.
  """

  __slots__ = ()

  @classmethod
  def of(cls, error):
    """The `Refusal` with the texts of a `errors.GradfeedError`."""
    return cls(type(error), error.what, error.why, error.fix)

  def error(self):
    """A new exception, to be raised."""
    return self.error_class(self.what, self.why, self.fix)


class GraphCache:
  """Everything built so far on one graph.

  Attributes:
    lock: held while anything is built. TensorFlow's own construction is not
      safe from several threads.
    built: dict from a key that names a request to its result, or to the
      `Refusal` of a request that cannot be built.
    derivatives: dict from the name of a result to the `Derivative` that it
      belongs to.
    clones: dict from the name of a tensor to a list of the names of its copies,
      which have the same value and were made to be differentiated.
    originals: dict from the name of each copy to that of what it is one of.
    waiting: dict from the name of a derivative that waits for other ops to the
      name of its clone that does not.
    functions: set of the names of the functions that gradfeed added.
    equal: dict from the name of a tensor to (the name of an earlier one that
      has the same value, dict from the names of derivatives to earlier ones):
      each derivative was built for a tensor that is computed from its earlier
      one, and given for such as are computed from the later one.
  """

  def __init__(self):
    self.lock = threading.RLock()
    self.built = {}
    self.derivatives = {}
    self.clones = collections.defaultdict(list)
    self.originals = {}
    self.waiting = {}
    self.functions = set()
    self.equal = {}


def cache_of(graph):
  """The `GraphCache` of `graph`; the same one on every call."""
  graph_cache = getattr(graph, _ATTRIBUTE, None)
  if graph_cache is None:
    with _CREATION:
      graph_cache = getattr(graph, _ATTRIBUTE, None)
      if graph_cache is None:
        graph_cache = GraphCache()
        setattr(graph, _ATTRIBUTE, graph_cache)
  return graph_cache


def clones_of(graph, name):
  """The names of all copies of the tensor called `name`, and of their copies.

  Returns:
    list of str.
  """
  clones = cache_of(graph).clones
  names, queue = [], [name]
  while queue:
    for clone in clones.get(queue.pop(), ()):
      names.append(clone)
      queue.append(clone)
  return names


def other_copies_of(graph, name):
  """The names of all that the tensor called `name` is a copy of, or that are
  copies of the same, or of it.

  Returns:
    list of str, those that others are copies of first.
  """
  graph_cache, first = cache_of(graph), name
  while first in graph_cache.originals:
    first = graph_cache.originals[first]
  if first not in graph_cache.clones:
    return []
  return [other for other in [first] + clones_of(graph, first)
          if other != name]


def with_copies(graph, names):
  """The names of tensors, each with those of `other_copies_of` it.

  Returns:
    list of str, without repeats.
  """
  return list(dict.fromkeys(
      other for name in names for other in [name] + other_copies_of(
          graph, name)))


def copies_of(graph, name):
  """As `clones_of`; for a derivative also what it was built again as.

  These are not fed in its place: they are derivatives of a copy of its y.
  """
  derivatives = cache_of(graph).derivatives
  found, queue = [], [name]
  while queue:
    original = queue.pop()
    new = clones_of(graph, original)
    derivative = derivatives.get(original)
    if derivative is not None and derivative.vjp is not None:
      new += [results[derivative.results.index(original)]
              for results in derivative.vjp.built_again()]
    new = [copy for copy in new if copy not in found and copy is not None]
    found += new
    queue += new
  return found


def cached(graph, key, build):
  """Calls `build` the first time that `key` is asked for on `graph`.

  A `build` that raises is called again the next time.

  Args:
    graph: `tf.Graph`.
    key: hashable; holds names, never tensors.
    build: function without arguments.

  Returns:
    What `build` returned the first time; None may be among it.
  """
  graph_cache = cache_of(graph)
  result = graph_cache.built.get(key, MISSING)
  if result is MISSING:
    with graph_cache.lock:
      result = graph_cache.built.get(key, MISSING)
      if result is MISSING:
        result = graph_cache.built[key] = build()
  return result


def record_derivative(graph,
                      ys,
                      xs,
                      stops,
                      built,
                      results,
                      vjp=None,
                      recomputed=()):
  """Records that the tensors named `results` are derivatives.

  Args:
    graph: `tf.Graph`.
    ys, xs, stops, built, results: sequences of names; see `Derivative`.
    vjp: as in `Derivative`.
    recomputed: iterable of names of ops.
  """
  derivative = Derivative(tuple(ys), tuple(xs), tuple(stops), tuple(built),
                          tuple(results), vjp, frozenset(recomputed))
  graph_cache = cache_of(graph)
  for name in results:
    if name is not None:
      graph_cache.derivatives[name] = derivative
      graph_cache.derivatives[graph_cache.waiting.get(name, name)] = derivative


def record_clones(graph, copied):
  """Records copies that have the values of their originals.

  Args:
    graph: `tf.Graph`.
    copied: dict from the names of tensors to their copies. Ops may be among
      them, which are left out.
  """
  graph_cache = cache_of(graph)
  for name, clone in copied.items():
    if ":" in name:
      graph_cache.clones[name].append(clone.name)
      graph_cache.originals[clone.name] = name


def record_equal(graph, equal, results):
  """Records that derivatives were given for tensors that are equal to others.

  Args:
    graph: `tf.Graph`.
    equal: dict from the names of tensors to those that they are equal to.
    results: iterable of the names of the derivatives, None among them.
  """
  names = [name for name in results if name is not None]
  known = cache_of(graph).equal
  for name, earlier in equal.items():
    known[name] = earlier, dict(
        known.get(name, (None, {}))[1], **dict.fromkeys(names, earlier))


def ignored_by(graph, name):
  """The derivatives that ignore a tensor, from which their y is computed.

  They were built for an equal y, which is computed from an earlier tensor.

  Args:
    graph: `tf.Graph`.
    name: str, of a tensor.

  Returns:
    list of (name of a derivative, name of the earlier tensor), sorted.
  """
  return sorted(cache_of(graph).equal.get(name, (None, {}))[1].items())


def earlier_of(graph, name):
  """The name of an earlier tensor that the one called `name` is equal to.

  It is `name` itself where none is known.
  """
  return cache_of(graph).equal.get(name, (name, ()))[0]


def check_not_finalized(graph, purpose):
  """Refuses to add ops to a finalized graph.

  Args:
    graph: `tf.Graph`.
    purpose: str, what the ops are for, for the message.

  Raises:
    FinalizedGraphError: the graph is finalized.
  """
  if graph.finalized:
    raise errors.FinalizedGraphError(
        "{} needs new ops, and the graph is finalized.".format(purpose),
        "MonitoredSession, Supervisor and graph.finalize() close a graph for "
        "good.",
        "Build it before the session is made (the same call later finds it "
        "again), or work on a clone: "
        "`with gradfeed.snapshot(session) as clone: ...`.")
