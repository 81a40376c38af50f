"""What has no derivative because of `tf.py_function`.

TensorFlow's gradient of such a call takes what it needs from a tape that the
call has left, and no edge of the graph says so. There is one tape for each
function: that of its last call, and it is taken once. So a second derivative
lacks a part, and of several calls or gradients in one run only one is right.
"""

from gradfeed import _tf
from gradfeed.analysis import gradient_flow
from gradfeed.graph import op_types
from gradfeed.graph import provenance
from gradfeed.graph import python_functions
from gradfeed.graph import traversal

#: What to do about it.
_FIX = ("Write the function from TensorFlow's ops in the place of "
        "tf.py_function, or give the call a gradient of its own that reads its "
        "inputs (tf.custom_gradient).")

NO_SECOND = (
    "TensorFlow's gradient of tf.py_function reads what the function read "
    "through a tape, not through the graph, and its derivative lacks that "
    "part.", _FIX)


def calls(flow):
  """The calls of `tf.py_function` that a gradient passes.

  Args:
    flow: `gradient_flow.GradientFlow`.

  Yields:
    (op, the op of the graph in whose function it is, or None).
  """
  for outer, trace in flow.traces:
    for op in trace.path.values():
      if op.type == python_functions.OP_TYPE:
        yield op, outer


def without_gradient(flow):
  """The calls that a gradient passes and that have none that is right.

  Args:
    flow: `gradient_flow.GradientFlow`.

  Yields:
    (op, outer op or None, str why, str fix).
  """
  for op, outer in calls(flow):
    if _tf.is_inside_while(op) if outer is None else python_functions.is_within(
        op, outer, op_types.FUNCTIONAL_LOOPS):
      yield op, outer, (
          "It is called in a loop, and TensorFlow keeps the tape of its last "
          "call alone, which its gradient takes once."), _FIX
    elif outer is not None and python_functions.is_within(
        op, outer, op_types.FUNCTIONAL_BRANCHES):
      yield op, outer, (
          "It is in a branch, where TensorFlow's gradient of tf.py_function "
          "cannot be built."), (
              "Call it outside of the branch, or build that with control flow "
              "v1 (tf.disable_control_flow_v2()).")


def left_out(ys, xs, stops):
  """The calls whose gradients lie above `ys` and lack how they depend on `xs`.

  Args:
    ys: list of `tf.Tensor`.
    xs: list of `tf.Tensor`.
    stops: list of `tf.Tensor` that are held constant.

  Yields:
    `tf.Operation`, one that runs a function of `tf.py_function`.
  """
  if not _tf.has_python_functions():
    return
  tapes = python_functions.Tapes(traversal.ancestors(ys))
  for token in tapes.taken:
    for op in tapes.left[token]:
      inputs = [t for t in op.inputs if _tf.is_trainable_dtype(t.dtype)]
      trace = gradient_flow.GradientTrace(inputs, xs, stops)
      if any(x.name in trace.tensors for x in xs):
        yield op


def describe(op, outer=None):
  """str: the type, name and line of a call, and the op it is inside of."""
  line = provenance.in_line(op)
  if outer is None:
    return "{} '{}'{}".format(op.type, op.name, line)
  return "{} '{}'{} in {} '{}'{}".format(
      op.type, op.name, line, outer.type, outer.name,
      "" if line else provenance.in_line(outer))
