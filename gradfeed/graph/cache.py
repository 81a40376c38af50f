"""What gradfeed remembers about a graph, kept on the graph itself.

Kept there, graph and memo die together. A dictionary from graphs to memos
would never let go: its values point back at the graph.
"""

import collections
import threading

from gradfeed import errors

_CREATION = threading.Lock()

_ATTRIBUTE = "_gradfeed_memo"

#: One derivative that was built, all by the names of tensors: what it is the
#: derivative of and by, what it holds constant, the ys (or copies of them) that
#: it was built on, the result for each x (None if there is none); and the
#: product that can build it once more in another way, or None; and the ops that
#: it computes by itself, from other values than where they stand.
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
    clones: dict from the name of a tensor to those of its copies, which have
      the same value and were made to differentiate them.
    functions: set of the names of functions that gradfeed made there.
  """

  def __init__(self):
    self.lock = threading.RLock()
    self.built = {}
    self.derivatives = {}
    self.clones = collections.defaultdict(list)
    self.functions = set()


def cache_of(graph):
  """The `GraphCache` of `graph`; the same one on every call."""
  memo = getattr(graph, _ATTRIBUTE, None)
  if memo is None:
    with _CREATION:
      memo = getattr(graph, _ATTRIBUTE, None)
      if memo is None:
        memo = GraphCache()
        setattr(graph, _ATTRIBUTE, memo)
  return memo


def clones_of(graph, name):
  """The names of all copies of the tensor called `name`, and of theirs."""
  clones = cache_of(graph).clones
  found, queue = [], [name]
  while queue:
    for clone in clones.get(queue.pop(), ()):
      found.append(clone)
      queue.append(clone)
  return found


def cached(graph, key, build):
  """`build()` the first time that `key` is asked for on `graph`.

  Args:
    graph: `tf.Graph`.
    key: hashable; holds names, never tensors.
    build: function without arguments.

  Returns:
    What `build` returned then.
  """
  memo = cache_of(graph)
  result = memo.built.get(key)
  if result is None:
    with memo.lock:
      result = memo.built.get(key)
      if result is None:
        result = memo.built[key] = build()
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
    FinalizedGraphError: with both ways out.
  """
  if graph.finalized:
    raise errors.FinalizedGraphError(
        "{} needs new ops, and the graph is finalized.".format(purpose),
        "MonitoredSession, Supervisor and graph.finalize() close a graph for "
        "good.",
        "Build it before the session is made (the same call later finds it "
        "again), or work on a clone: "
        "`with gradfeed.snapshot(session) as clone: ...`.")
