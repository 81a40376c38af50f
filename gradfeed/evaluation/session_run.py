"""A drop-in for `Session.run` in which every feed counts or is refused."""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation import executables
from gradfeed.evaluation import fetchables
from gradfeed.evaluation.inputs import arguments
from gradfeed.evaluation.inputs import feed_dicts
from gradfeed.evaluation.inputs import feeds
from gradfeed.evaluation import sessions
from gradfeed.graph import cache
from gradfeed.graph import nest


#: How many `executables.Executable`s are kept for other values of one feed,
#: where values decide whether a run is refused.
_MOST_DECISIONS = 32


def run(session, fetches, feed_dict=None, options=None, run_metadata=None,
        points=(), timeout=None):
  """Takes the place of `session.run`: any feed takes effect or is refused.

  What differs: a value fed to anything but a placeholder is never ignored; a
  feed of a layer or a variable that has no effect, a lossy cast and a wrong
  shape are errors before anything runs; so are placeholders without a value,
  all at once; a None among the fetches is explained; variables that are not
  initialised are all named; the same fetches and feeds are compiled once and
  run in a fraction of the time.

  What a graph has already is run without adding an op to it, so that a graph
  may be finalized; another value at a layer or a variable needs a copy of what
  depends on it.

  In a `MonitoredSession` what changes a variable, such as a train op, is run
  by that session, and its hooks are called; for all else no hook is.

  Args:
    session: a session, as in `function`; None for the default one.
    fetches: tensor, op, variable, `tf.SparseTensor`, `tf.IndexedSlices`, name,
      or object of a type that `tf.register_session_run_conversion_functions`
      knows, or nested lists, tuples, dicts and objects of `attrs` of them.
    feed_dict: dict from tensors, variables, names, `tf.SparseTensor`,
      `tf.IndexedSlices`, objects of registered types, or (nested) tuples of
      them, such as the state of an LSTM, to values, or to what a
      `tf.get_session_handle` gave. Not changed.
    options: `tf.RunOptions`, or None. With it, or with `run_metadata`, the run
      is one of TensorFlow's own, once the feeds are checked.
    run_metadata: `tf.RunMetadata` that is filled in, or None.
    points: tensors of `feed_dict` between the x and the y of a derivative, as
      in `function`.
    timeout: float, seconds that the run may take, or None.

  Returns:
    The structure of `fetches`: NumPy arrays or scalars, None for an op.

  Raises:
    FeedError, MissingFeedError, UninitializedError, SessionError,
    TimeLimitError: as in `function`.
    ArgumentError: `options` or `run_metadata` is something else.
    DisconnectedError: a fetch is None.
    AssignmentError: a derivative and an op that changes a variable it reads
      are fetched together.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   h = tf.constant(3.0) * 3.0
    ...   print(gf.run(session, tf.exp(-h), {h: 0.0}))
    1.0
  """
  session = session if session is not None else sessions.default_session()
  graph = sessions.graph_of(session)
  arguments.check_timeout(timeout)
  _check_options(options, run_metadata)
  converted = _converted(fetches)
  if converted is not None:
    parts, contract = converted
    return contract(run(
        session, parts, feed_dict, options, run_metadata, points, timeout))
  pairs = feed_dicts.taken_apart(feed_dict)
  key = ("run", _token(fetches, graph), timeout, _token(points, graph),
         tuple(_token(key, graph) for key, _ in pairs))
  executable = cache.cache_of(graph).built.get(key, cache.MISSING)
  if executable is cache.MISSING:
    executable = _executable(key, fetches, pairs, graph, points, timeout)
  executable.require_all_fed()
  values = [value for _, value in pairs]
  if options is not None or run_metadata is not None or (
      executable.is_run_by(session) or
      any(map(_tf.is_session_handle, values))):
    arrays = executable.fit(values, feeds.Slot.fit_or_handle)
    results = executable.evaluate_by(session, arrays, options, run_metadata)
  else:
    results = executable.evaluate(session, executable.fit(values))
  return nest.pack(fetches, results)


def _executable(key, fetches, pairs, graph, points, timeout):
  """The `executables.Executable` of a run; kept on the graph.

  Only where a run would be refused, the values that are fed are looked at.

  Args:
    key: its key there.
    fetches, points, timeout: as in `run`.
    pairs: list of (key, value), as `feed_dicts.taken_apart` gives it.
    graph: `tf.Graph`.
  """
  fed = feed_dicts.resolve_pairs(pairs, graph)
  outputs = [fetchables.resolve(leaf, graph, allow_operations=True)
             for leaf in nest.flatten(fetches)]
  if not outputs and not graph.get_operations():
    raise errors.SessionError(
        "The graph of the session is empty.", "There is nothing to run in it.",
        "Build the graph first, or make the session with graph=....")
  leaves, names = [leaf for leaf, _ in fed.values()], arguments.names(
      points, graph)

  with cache.cache_of(graph).lock:
    decided = cache.cached(graph, key + ("decided",), list)
    for executable in decided:
      if executable.serves(fed):
        return executable
    executable = executables.Executable(
        graph, leaves, outputs, names, timeout, may_assign=True,
        held=lambda: feed_dicts.held_values(fed))
    if executable.serves_always:
      return cache.cached(graph, key, lambda: executable)
    decided.append(executable)
    del decided[:-_MOST_DECISIONS]
    return executable


def _converted(fetches):
  """Fetches with the tensors of each object of a registered type in its place.

  Returns:
    (list of what to fetch, function from the values to the result of the run),
    or None where there is no such object.
  """
  if isinstance(fetches, (tf.Tensor, tf.Operation, str)):
    return None
  leaves = nest.flatten(fetches)
  conversions = [
      None if isinstance(leaf, (tf.Tensor, tf.Operation, str)) else
      _tf.fetch_conversion(leaf) for leaf in leaves]
  if not any(conversions):
    return None
  parts, contracts = [], []
  for leaf, conversion in zip(leaves, conversions):
    own, contract = (leaf, None) if conversion is None else conversion(leaf)
    parts.append(own)
    contracts.append(contract)

  def contract_all(results):
    return nest.pack(fetches, [
        result if contract is None else contract(result)
        for contract, result in zip(contracts, results)])

  return parts, contract_all


def _check_options(options, run_metadata):
  """Refuses what is no `tf.RunOptions`, or no `tf.RunMetadata`."""
  for name, value, expected in (
      ("options", options, tf.RunOptions),
      ("run_metadata", run_metadata, tf.RunMetadata)):
    if value is not None and not isinstance(value, expected):
      raise errors.ArgumentError(
          "{} is a {}.".format(name, type(value).__name__),
          "It is a tf.{} in Session.run, and here.".format(expected.__name__),
          "Pass one, or None; name other arguments: points=..., timeout=....")


def _token(structure, graph):
  """A hashable that identifies what to fetch or to feed, for a cache key.

  Args:
    structure: what may be fetched or fed, or nested containers of it.
    graph: `tf.Graph`.
  """
  if isinstance(structure, (tf.Tensor, tf.Operation)) and (
      getattr(structure, "graph", None) is graph):  # Eager ones have none.
    return structure.name
  if nest.is_container(structure):
    return (type(structure).__name__,) + tuple(
        (key, _token(child, graph)) for key, child in nest.children(structure))
  if isinstance(structure, (str, bytes)):
    return structure
  leaf = _tf.dereference(structure)
  if leaf is not structure:
    return _token(leaf, graph)
  # Anything else is identified by its type and names, and checked when it is
  # resolved.
  components = [getattr(leaf, attribute, None) for attribute in (
      "values", "indices", "dense_shape")]
  return (type(leaf).__name__, id(getattr(leaf, "graph", None)),
          getattr(leaf, "name", None) if components[0] is None else tuple(
              getattr(component, "name", None) for component in components))
