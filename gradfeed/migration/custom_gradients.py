"""What the gradients of `tf.custom_gradient` read of a legacy graph.

A function given to `tf.custom_gradient` may read tensors that nothing else
needs. They are computed along, so that a copy of the op has all it needs.
"""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import traversal
from gradfeed.rewriting import custom_gradient_ops


def tensors_read(results, places):
  """The tensors that backward functions read, in the graph of `results`.

  Args:
    results: list of `tf.Tensor`.
    places: container of the names of tensors that get values.

  Returns:
    list of `tf.Tensor`, outside of loops and branches.
  """
  found, done, targets = [], set(), list(results)
  while targets:
    ops = traversal.ancestors(targets, places)
    targets = []
    for name, op in ops.items():
      if name not in done:
        done.add(name)
        targets.extend(_read_by(op))
    found.extend(targets)
  return found


def _read_by(op):
  """The tensors that the backward function of an op reads."""
  if op.type != "IdentityN" or not _tf.has_own_gradient(op.node_def) or (
      custom_gradient_ops.is_foreign(op)):
    return []
  gradient = _tf.registered_gradient(
      op.get_attr("_gradient_op_type").decode())
  scratch = _tf.scratch_graph()
  try:
    with scratch.as_default():
      gradient(op, *[tf.placeholder(t.dtype, t.shape) for t in op.outputs])
  except Exception:  # pylint: disable=broad-except
    return []  # It is told where it is differentiated.
  return [outer for outer, _ in _tf.captures(scratch)
          if getattr(outer, "graph", None) is op.graph and
          not _tf.is_inside(outer.op)]
