"""Feeds that TensorFlow ignores, and tensors that are an element of another."""

from gradfeed import _tf
from gradfeed.graph import op_types
from gradfeed.graph import traversal

#: Ops that take elements of a tensor, and those that may follow them.
_ELEMENTS = ("StridedSlice", "Slice", "GatherV2", "Gather", "GatherNd")
_FOLLOWING = ("Sum", "Mean", "Squeeze", "Reshape", "Identity", "Neg")


def element_of(y):
  """The tensor that `y` is an element or a column of, or None."""
  for _ in range(4):
    op = y.op
    if op.type in _ELEMENTS:
      return op.inputs[0]
    if op.type not in _FOLLOWING:
      return None
    y = op.inputs[0]
  return None


def ignored(wanted, fed, ops):
  """The feeds without an effect in a run by TensorFlow.

  Args:
    wanted: list of the `tf.Tensor` and `tf.Operation` that are fetched.
    fed: list of `tf.Tensor`.
    ops: dict from name to op, of what is computed.

  Returns:
    list of (name, why).
  """
  found = []
  read = {tensor.name for op in ops.values() for tensor in op.inputs}
  read.update(item.name for item in wanted)
  for tensor in fed:
    if tensor.op.type in op_types.PLACEHOLDERS:
      continue
    if tensor.name not in read:
      found.append((tensor.name, "nothing that is fetched depends on it"))
    elif _is_constant(tensor) and _tf.IS_TF2:
      found.append((tensor.name, "it is computed from constants alone, which "
                    "TensorFlow 2 computes before it looks at the feeds"))
  return found


def _is_constant(tensor):
  """Whether a tensor is computed, and from constants alone."""
  if tensor.op.type == "Const" or not tensor.op.inputs:
    return False
  above = traversal.ancestors([tensor])
  return all(op.inputs or op.type == "Const" for op in above.values())
