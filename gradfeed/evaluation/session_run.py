"""A drop-in for `Session.run` in which every feed counts or is refused."""

from collections import abc

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.evaluation import arguments
from gradfeed.evaluation import executables
from gradfeed.evaluation import fetchables
from gradfeed.evaluation import sessions
from gradfeed.graph import cache
from gradfeed.graph import nest


def run(session, fetches, feed_dict=None, points=(), timeout=None):
  """Takes the place of `session.run`: any feed takes effect or is refused.

  What differs: a value fed to anything but a placeholder is never ignored; a
  feed that nothing reads, a lossy cast and a wrong shape are errors before
  anything runs; so are placeholders without a value and variables that are
  not initialised, all at once; a None among the fetches is explained; the
  same fetches and feeds are compiled once and run in a fraction of the time.

  Args:
    session: a session, as in `function`; None for the default one.
    fetches: tensor, op, variable, `tf.SparseTensor`, `tf.IndexedSlices` or
      name, or nested lists, tuples and dicts of them.
    feed_dict: dict from tensors, variables or names to values. Not changed.
    points: tensors of `feed_dict` between the x and the y of a derivative, as
      in `function`.
    timeout: float, seconds that the run may take, or None.

  Returns:
    The structure of `fetches`: NumPy arrays or scalars, None for an op.

  Raises:
    FeedError, MissingFeedError, UninitializedError, SessionError,
    TimeLimitError: as in `function`.
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
  arguments.check_mapping(feed_dict)
  arguments.check_timeout(timeout)
  key = ("run", _token(fetches, graph), timeout, _token(points, graph),
         tuple(_token(key, graph) for key in feed_dict or ()))
  executable = cache.cache_of(graph).built.get(key, cache.MISSING)
  if executable is cache.MISSING:
    fed = arguments.resolve_feeds(feed_dict, graph)
    outputs = [fetchables.resolve(leaf, graph, allow_operations=True)
               for leaf in nest.flatten(fetches)]
    executable = cache.cached(graph, key, lambda: executables.Executable(
        graph, [leaf for leaf, _ in fed.values()], outputs,
        arguments.names(points, graph), timeout, may_assign=True))
  executable.require_all_fed()
  arrays = executable.fit(list((feed_dict or {}).values()))
  return nest.pack(fetches, executable.evaluate(session, arrays))


def _token(structure, graph):
  """A hashable that identifies what to fetch or to feed, for a cache key.

  Args:
    structure: what may be fetched or fed, or nested containers of it.
    graph: `tf.Graph`.
  """
  if nest.is_container(structure):
    keys = list(structure) if isinstance(
        structure, abc.Mapping) else range(len(structure))
    return (type(structure).__name__,) + tuple(
        (key, _token(structure[key], graph)) for key in keys)
  leaf = _tf.dereference(structure)
  if isinstance(leaf, (tf.Tensor, tf.Operation)) and (
      not _tf.is_eager(leaf)) and leaf.graph is graph:
    return leaf.name
  if isinstance(leaf, str):
    return leaf
  # Anything else is identified by its type and names, and checked when it is
  # resolved.
  components = [getattr(leaf, attribute, None) for attribute in (
      "values", "indices", "dense_shape")]
  return (type(leaf).__name__, id(getattr(leaf, "graph", None)),
          getattr(leaf, "name", None) if components[0] is None else tuple(
              getattr(component, "name", None) for component in components))
