"""Copies of what lies between the xs and the ys of a product."""

import functools

from gradfeed import _tf
from gradfeed.graph import cache
from gradfeed.graph import op_types
from gradfeed.graph import traversal
from gradfeed.rewriting import cloning
from gradfeed.rewriting import subgraphs


def of_functional_ops(vjp, trace):
  """Copies the functional ops on the path, and all from there to y.

  `tf.gradients` changes a functional op that it differentiates, which breaks
  sessions that have run it. None runs the body of a function that is built.

  Args:
    vjp: `vjps.VJP`.
    trace: its `gradient_flow.GradientTrace`.

  Returns:
    dict from the names of tensors and ops to their copies.
  """
  functional = _functional(vjp, trace)
  if not functional:
    return {}
  ops, op_names = subgraphs.from_functional_ops(
      vjp.graph, [y.tensor for y in vjp.ys], functional)
  copied = cloning.clone_subgraph(
      vjp.graph, op_names, ops, {}, "path", renew={x.name for x in vjp.xs},
      rewrite=functools.partial(cloning.without_assignments, vjp.graph))
  cache.record_clones(vjp.graph, copied)
  return copied


def lead_into_loops(vjp, trace):
  """Whether a loop of control flow v1 is among what `of_functional_ops` copies.

  A copy of the loop would have no context to be differentiated by.

  Args:
    vjp, trace: as in `of_functional_ops`.
  """
  functional = _functional(vjp, trace)
  return bool(functional) and any(
      _tf.is_inside_while(trace.path[name]) for name in traversal.descendants(
          trace.path, {t.name for op in functional for t in op.outputs}))


def _functional(vjp, trace):
  """The functional ops on the path; none in the body of a function."""
  if _tf.outer_graph(vjp.graph):
    return []
  return [op for op in trace.path.values() if op.type in op_types.FUNCTIONAL]


def read_by_gradient(vjp, before, copied):
  """Has the ops of a gradient read the copies that it was built on.

  A gradient function of the user (`tf.custom_gradient`) reads the tensors that
  it was made with: originals, of another run of the functional ops and of other
  random numbers.

  Args:
    vjp: `vjps.VJP`.
    before: int, how many ops there were before the gradient.
    copied: dict, as `of_functional_ops` gives it.
  """
  kept = {x.name for x in vjp.xs}
  for op in vjp.graph.get_operations()[before:] if copied else ():
    for i, tensor in enumerate(op.inputs):
      names = [name for name in [tensor.name] + cache.clones_of(
          vjp.graph, tensor.name) if name in copied]
      if names and tensor.name not in kept:
        # pylint: disable-next=protected-access
        op._update_input(i, copied[names[-1]])
