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
  evaluation = cache.cache_of(graph).built.get(key)
  if evaluation is None:
    fed = arguments.resolve_feeds(feed_dict, graph)
    found = [fetchables.resolve(leaf, graph, allow_operations=True)
             for leaf in nest.flatten(fetches)]
    evaluation = cache.cached(graph, key, lambda: executables.Executable(
        graph, [leaf for leaf, _ in fed.values()], found,
        arguments.names(points, graph), timeout, may_assign=True))
  evaluation.require_all_fed()
  arrays = evaluation.fit(list((feed_dict or {}).values()))
  return nest.pack(fetches, evaluation.evaluate(session, arrays))


def _token(thing, graph):
  """A hashable that names what to fetch or to feed."""
  if nest.is_container(thing):
    keys = list(thing) if isinstance(
        thing, abc.Mapping) else range(len(thing))
    return (type(thing).__name__,) + tuple(
        (key, _token(thing[key], graph)) for key in keys)
  thing = _tf.dereference(thing)
  if isinstance(thing, (tf.Tensor, tf.Operation)) and (
      not _tf.is_eager(thing)) and thing.graph is graph:
    return thing.name
  if isinstance(thing, str):
    return thing
  # Whatever is left is told apart by what it is, and checked when resolved.
  parts = [getattr(thing, attribute, None) for attribute in (
      "values", "indices", "dense_shape")]
  return (type(thing).__name__, id(getattr(thing, "graph", None)),
          getattr(thing, "name", None) if parts[0] is None else tuple(
              getattr(part, "name", None) for part in parts))
