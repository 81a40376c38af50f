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
    "Derivative", ["ys", "xs", "stops", "built", "results", "product", "anew"])


class Memo:
  """Everything built so far on one graph.

  Attributes:
    lock: held while anything is built. TensorFlow's own construction is not
      safe from several threads.
    built: dict from a key that names a request to its result.
    derivatives: dict from the name of a tensor to the `Derivative` it is of.
    twins: dict from the name of a tensor to those of its copies, which have
      the same value and were made to differentiate them.
    functions: set of the names of functions that gradfeed made there.
  """

  def __init__(self):
    self.lock = threading.RLock()
    self.built = {}
    self.derivatives = {}
    self.twins = collections.defaultdict(list)
    self.functions = set()


def memo_of(graph):
  """The `Memo` of `graph`; the same one on every call."""
  memo = getattr(graph, _ATTRIBUTE, None)
  if memo is None:
    with _CREATION:
      memo = getattr(graph, _ATTRIBUTE, None)
      if memo is None:
        memo = Memo()
        setattr(graph, _ATTRIBUTE, memo)
  return memo


def twins_of(graph, name):
  """The names of all copies of the tensor called `name`, and of theirs."""
  twins = memo_of(graph).twins
  found, queue = [], [name]
  while queue:
    for twin in twins.get(queue.pop(), ()):
      found.append(twin)
      queue.append(twin)
  return found


def once(graph, key, build):
  """`build()` the first time that `key` is asked for on `graph`.

  Args:
    graph: `tf.Graph`.
    key: hashable; holds names, never tensors.
    build: function without arguments.

  Returns:
    What `build` returned then.
  """
  memo = memo_of(graph)
  result = memo.built.get(key)
  if result is None:
    with memo.lock:
      result = memo.built.get(key)
      if result is None:
        result = memo.built[key] = build()
  return result


def remember(graph, ys, xs, stops, built, results, product=None, anew=()):
  """Notes that `results` are derivatives; see `Derivative` for the names."""
  derivative = Derivative(tuple(ys), tuple(xs), tuple(stops), tuple(built),
                          tuple(results), product, frozenset(anew))
  memo_of(graph).derivatives.update(
      (name, derivative) for name in results if name is not None)


def require_open(graph, purpose):
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
