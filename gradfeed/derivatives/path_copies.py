"""Copies of what lies between the xs and the ys of a product."""

import functools

from gradfeed import _tf
from gradfeed.derivatives import preconditions
from gradfeed.graph import cache
from gradfeed.graph import op_types
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
  functional = [op for op in trace.path.values()
                if op.type in op_types.FUNCTIONAL]
  if not functional or _tf.outer_graph(vjp.graph):
    return {}
  ops, op_names = subgraphs.from_functional_ops(
      vjp.graph, [y.tensor for y in vjp.ys], functional)
  preconditions.check_copied(
      vjp, [ops[name] for name in op_names if name in trace.path],
      functional[0])
  copied = cloning.clone_subgraph(
      vjp.graph, op_names, ops, {}, "path", renew={x.name for x in vjp.xs},
      rewrite=functools.partial(cloning.without_assignments, vjp.graph))
  cache.record_clones(vjp.graph, copied)
  return copied


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
