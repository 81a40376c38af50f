"""The cache of what gradfeed built in a graph, kept on the graph itself.

Kept there, graph and cache are freed together. A dictionary from graphs to
caches would keep all of them: its values point back at the graph.
"""

import collections
import threading

from gradfeed import errors

_CREATION = threading.Lock()

_ATTRIBUTE = "_gradfeed_memo"

#: A derivative that was built, with tensors by their names. ys, xs: what it is
#: of and by; stops: what it holds constant; built: the ys, or copies of them,
#: that were differentiated; results: the result for each x, None if there is
#: none; product: the `vjps.VJP` that can build it on other ops, or None;
#: recomputed: frozenset of the names of the ops that it computes itself, from
#: other values than they have in the graph.
Derivative = collections.namedtuple(
    "Derivative",
    ["ys", "xs", "stops", "built", "results", "product", "recomputed"])


class GraphCache:
  """Everything built so far on one graph.

  Attributes:
    lock: held while anything is built. TensorFlow's own construction is not
      safe from several threads.
    built: dict from a key that names a request to its result.
    derivatives: dict from the name of a tensor to the `Derivative` it is of.
    clones: dict from the name of a tensor to the names of its copies, which
      have the same value and were made to be differentiated.
    functions: set of the names of functions that gradfeed made in the graph.
  """

  def __init__(self):
    self.lock = threading.RLock()
    self.built = {}
    self.derivatives = {}
    self.clones = collections.defaultdict(list)
    self.functions = set()


def cache_of(graph):
  """The `GraphCache` of `graph`; the same one on every call."""
  cache = getattr(graph, _ATTRIBUTE, None)
  if cache is None:
    with _CREATION:
      cache = getattr(graph, _ATTRIBUTE, None)
      if cache is None:
        cache = GraphCache()
        setattr(graph, _ATTRIBUTE, cache)
  return cache


def clones_of(graph, name):
  """The names of the copies of the tensor `name`, and of their copies."""
  clones = cache_of(graph).clones
  names, queue = [], [name]
  while queue:
    for clone in clones.get(queue.pop(), ()):
      names.append(clone)
      queue.append(clone)
  return names


def cached(graph, key, build):
  """Returns what `build()` gave when `key` was first asked for on `graph`.

  Args:
    graph: `tf.Graph`.
    key: hashable; holds names, never tensors.
    build: function without arguments.

  Returns:
    The result of `build`, which is called on the first request alone.
  """
  cache = cache_of(graph)
  result = cache.built.get(key)
  if result is None:
    with cache.lock:
      result = cache.built.get(key)
      if result is None:
        result = cache.built[key] = build()
  return result


def record_derivative(graph,
                      ys,
                      xs,
                      stops,
                      built,
                      results,
                      product=None,
                      recomputed=()):
  """Notes that `results` are derivatives; see `Derivative` for the names."""
  derivative = Derivative(tuple(ys), tuple(xs), tuple(stops), tuple(built),
                          tuple(results), product, frozenset(recomputed))
  cache_of(graph).derivatives.update(
      (name, derivative) for name in results if name is not None)


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
