"""What a function reads from the graphs around it.

The body of a `tf.function`, a Defun, or a loop or branch of control flow v2 is
a graph of its own. For a tensor of a graph around it that it reads, a capture,
it has a placeholder.
"""

import collections

from gradfeed import _tf
from gradfeed.graph import traversal

#: One tensor that a function reads: `outside`, `tf.Tensor` of a graph around
#: it, or an eager one; `inside`, the placeholder that it is in the function.
Capture = collections.namedtuple("Capture", ["outside", "inside"])


def enclosing(graph):
  """The graph and those around it: list of `tf.Graph`, innermost first."""
  graphs = []
  while graph is not None:
    graphs.append(graph)
    graph = _tf.outer_graph(graph)
  return graphs


def innermost(graphs):
  """The graph that is inside of all others; the first if there is none.

  Args:
    graphs: list of `tf.Graph`, not empty.
  """
  for graph in graphs:
    around = enclosing(graph)
    if all(other in around for other in graphs):
      return graph
  return graphs[0]


def captures_of(graph):
  """The list of `Capture` of a function; of another graph it is empty."""
  if _tf.outer_graph(graph) is None:
    return []
  return [Capture(outside, inside)
          for outside, inside in _tf.captures(graph)
          if inside.op.type == "Placeholder"]


def inside_of_eager(value, graph):
  """The placeholder for an eager tensor that a function captures, or None.

  Args:
    value: eager `tf.Tensor`.
    graph: `tf.Graph` of the function, or one inside of it.
  """
  for around in enclosing(graph):
    for capture in captures_of(around):
      if capture.outside is value:
        return capture.inside
  return None


def dependent_captures(graphs, sources):
  """The captures through which functions depend on tensors around them.

  Args:
    graphs: list of `tf.Graph`, as `enclosing` gives it.
    sources: list of `tf.Tensor` of these graphs.

  Returns:
    list with, for each of `graphs`, the list of its `Capture`s whose tensors
    outside are among `sources`, or are computed from one.
  """
  found, dependent = {}, {}
  for graph in reversed(graphs):
    found[graph] = [
        capture for capture in captures_of(graph)
        if not _tf.is_eager(capture.outside) and _is_dependent(
            capture.outside, sources, dependent)]
    starts = [t for t in sources if t.graph is graph]
    starts += [capture.inside for capture in found[graph]]
    dependent[graph] = (traversal.dependents(starts),
                        {t.name for t in starts})
  return [found[graph] for graph in graphs]


def _is_dependent(tensor, sources, dependent):
  """Whether a tensor is one of `sources` or computed from one.

  Args:
    tensor: `tf.Tensor`.
    sources: list of `tf.Tensor`.
    dependent: dict from graph to (set of the names of dependent ops, set of the
      names of tensors that are dependent by themselves).
  """
  if not _tf.is_trainable_dtype(tensor.dtype):
    return False
  ops, names = dependent.get(tensor.graph, ((), ()))
  return tensor.op.name in ops or tensor.name in names or any(
      tensor is source for source in sources)


def is_read(outside, source):
  """Whether a tensor is `source`, or the value of it without any change.

  Args:
    outside: `tf.Tensor`.
    source: `tf.Tensor`, which may be the handle of a variable, or a ref.
  """
  while outside is not source:
    if outside.op.type not in ("Identity", "ReadVariableOp"):
      return False
    outside = outside.op.inputs[0]
  return True
