"""A copy of what lies between x and y that has derivatives of any order.

Loops and branches of control flow v1 become `While` and `If`, which have a
second derivative and which TensorFlow can vectorize. `tf.nn.moments` holds the
mean constant within the variance, which the first derivative does not feel and
the second does: there the mean is let go. The value of the copy is that of the
original; random ops in it draw numbers of their own.
"""

from gradfeed import _tf
from gradfeed.analysis import blockers
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import control_flow
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.rewriting import subgraphs
from gradfeed.rewriting import vectorization


def differentiable_copy(graph, ys, trace, free_means=False):
  """Copies a path without control flow of v1, once.

  Args:
    graph: `tf.Graph`, not finalized.
    ys: list of `tf.Tensor`.
    trace: `gradient_flow.GradientTrace` of them.
    free_means: bool; whether `blockers.held_means` are let go.

  Returns:
    dict from the names of the tensors that were copied to their copies; empty
    if there is nothing to copy.

  Raises:
    UnsupportedGraphError: an op has no functional form.
  """
  freed = blockers.held_means(trace) if free_means else set()
  start = freed | {
      name for name, op in trace.path.items()
      if control_flow.is_control_flow_v1(op)
  }
  if not start:
    return {}
  found = traversal.ancestors(ys)
  part = subgraphs.closed(found, start & set(found))

  def build():
    with _tf.without_runs(graph), _tf.building(graph):
      return _build(graph, {y.name for y in ys}, found, part, trace, freed)

  key = ("functional", tuple(y.name for y in ys), tuple(sorted(start)))
  return cache.cached(graph, key, build)


def _build(graph, ys, found, part, trace, freed):
  scratch = vectorization.ScratchGraph(graph)
  with scratch.building():
    new = scratch.copy_functional(part, found, freed)
  names = sorted(set(new) & trace.tensors)
  for name in sorted(trace.tensors):
    if name in ys and name.split(":")[0] in part and name not in new:
      raise errors.UnsupportedGraphError(
          "{} cannot be differentiated any further.".format(
              tensors.describe(graph.get_tensor_by_name(name))),
          "It is inside a loop or a branch of control flow v1.",
          "Take the output of the tf.while_loop or the tf.cond.")
  clones = dict(zip(names, scratch.export(
      [new[name] for name in names], "functional")))
  known = cache.cache_of(graph).clones
  for name, clone in clones.items():
    clone.set_shape(graph.get_tensor_by_name(name).shape)
    known[name].append(clone.name)
  return clones
