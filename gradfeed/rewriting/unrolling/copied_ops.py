"""Which ops may be copied for each turn of a loop."""

from gradfeed import _tf
from gradfeed.graph import op_types
from gradfeed.rewriting.unrolling import values as kinds

#: Stateful ops that do nothing but read.
_READING = frozenset([
    "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape"])

#: Ops that tell of what they see.
_CHECKS = frozenset([
    "Assert", "CheckNumerics", "CheckNumericsV2", "Print", "PrintV2"])


def check_effects(op, op_type=None):
  """Raises `NotUnrolled` for an op that does more than to compute.

  Args:
    op: `tf.Operation`.
    op_type: str, the type of an op in a function that `op` calls, or None.
  """
  op_type = op_type or op.type
  if op_type in op_types.PYTHON_CALLS or op_type in _CHECKS or (
      op_types.RANDOM.search(op_type) or op_types.WAITING.search(op_type) or
      op_types.ASSIGNING.search(op_type)):
    raise kinds.NotUnrolled("{} '{}' does more than to compute".format(
        op_type, op.name))


def check_pure(op):
  """Raises `NotUnrolled` for an op that may not be copied for each turn."""
  check_effects(op)
  if op.op_def is None or (
      op.op_def.is_stateful and op.type not in _READING) or (
          op.type in op_types.CONTROL_FLOW_V1) or (
              op.type in op_types.PLACEHOLDERS) or (
                  _tf.callees(op.node_def) or
                  _tf.function_definition(op.graph, op.type) is not None):
    raise kinds.NotUnrolled("{} '{}' is not copied".format(op.type, op.name))
