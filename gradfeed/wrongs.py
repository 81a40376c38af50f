"""Ops of which a gradient that TensorFlow registers is known to be wrong.

Each was found by central differences, and leaves the caller with a number that
looks right. Where only a value can tell, nothing is refused.
"""

import numpy as np

from gradfeed import _tf


def wrong_gradients(trace):
  """The ops whose gradient would be wrong on its way from ys to xs.

  Args:
    trace: `paths.Trace` of the derivative.

  Yields:
    (op, str why, str fix).
  """
  for op in trace.path.values():
    judge = _JUDGES.get(op.type)
    found = judge and judge(op, trace)
    if found:
      yield (op,) + found


def wrong_at_values(trace):
  """The ops whose gradient is right at most values and wrong at some.

  Args:
    trace: `paths.Trace` of the derivative.

  Yields:
    (op, int order of the first derivative that is wrong, str why, str fix).
  """
  for op in trace.path.values():
    if op.type in _AT_VALUES:
      yield (op,) + _AT_VALUES[op.type]


#: Held against 2 * 3 at the first factor of 0 * 2 * 3.
_AT_VALUES = {
    "Cumprod": (
        1, "where a factor is 0 the derivative by it comes out as 0 or NaN.",
        "Multiply the factors one by one if one of them may be 0."),
    "Prod": (
        2, "where a factor is 0 the second derivative by the others and it "
        "comes out as 0 or NaN.",
        "Multiply the factors one by one if one of them may be 0."),
}


def _inverse(op, unused_trace):
  """-A^-1 dA A^-1 is not transposed where the inverse itself is."""
  if _tf.IS_TF2 or not op.get_attr("adjoint"):
    return None
  return ("it does not mind adjoint=True.",
          "Use tf.linalg.adjoint(tf.linalg.inv(a)), without adjoint=True.")


def _cross_entropy(op, trace):
  """What the gradient by the logits owes to the labels is left out."""
  if op.outputs[1].name not in trace.tensors or not trace.is_on_path(
      op.inputs[1]):
    return None
  return ("in the second derivative it leaves out that the gradient by the "
          "logits depends on the labels.",
          "Use -tf.reduce_sum(labels * tf.nn.log_softmax(logits), axis=-1) "
          "in its place; or hold the labels constant, if they are meant to be "
          "(tf.stop_gradient).")


def _stitch(op, unused_trace):
  """Of what is overwritten, nothing depends on it."""
  half = len(op.inputs) // 2
  indices = [_tf.static_value(t) for t in op.inputs[:half]]
  if any(index is None for index in indices):
    return None
  places, counts = np.unique(np.concatenate(
      [np.ravel(index) for index in indices]), return_counts=True)
  repeated = places[counts > 1]
  if not repeated.size:
    return None
  return ("index {} is there more than once: the last value takes the place, "
          "and the gradient goes to all of them.".format(repeated[0]),
          "Leave out the values that are overwritten.")


_JUDGES = {
    "DynamicStitch": _stitch,
    "MatrixInverse": _inverse,
    "ParallelDynamicStitch": _stitch,
    "SoftmaxCrossEntropyWithLogits": _cross_entropy,
}
