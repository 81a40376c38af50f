"""Whether TensorFlow would take the values that an op checks, as a tensor."""

from gradfeed._tf import tf
from gradfeed.compilation import slices

#: Ops that look for the place of an element: XLA has another order for NaN.
PLACES = ("ArgMax", "ArgMin", "MaxPoolGrad", "MaxPoolGradV2", "TopKV2")

DIVISIONS = ("Div", "FloorDiv", "FloorMod", "Mod", "RealDiv", "TruncateDiv",
             "TruncateMod")

#: Ops that do nothing but check a value, and those that hand it on as well.
CHECKS_ALONE = "Assert"
CHECKED_IDENTITIES = ("CheckNumerics", "CheckNumericsV2")

#: From the type of an op to the axis that an index is along; None for that of
#: the third input.
_AXES = {"Gather": 0, "GatherV2": None,
         "SparseSoftmaxCrossEntropyWithLogits": -1}

#: Ops of lists to which an index is given.
LISTS = ("TensorListGetItem", "TensorListSetItem")


def checked_inputs(op):
  """The inputs that `is_in_range` looks at: a list.

  Args:
    op: `tf.Operation` whose type is in `TYPES`.
  """
  count = {CHECKS_ALONE: 1, "TensorListSetItem": 2, "StridedSliceGrad": 4}.get(
      op.type)
  return list(op.inputs)[:count]


def is_in_range(op, inputs):
  """A tensor that is True where TensorFlow would take the values of an op.

  Args:
    op: `tf.Operation` whose type is in `TYPES`.
    inputs: list of `tf.Tensor`, in the place of the `checked_inputs`.

  Returns:
    bool scalar `tf.Tensor` of the default graph.
  """
  return _CONDITIONS[op.type](op, inputs)


def _is_true(unused_op, inputs):
  return tf.reduce_all(inputs[0])


def _is_no_nan(unused_op, inputs):
  return tf.reduce_all(tf.equal(inputs[0], inputs[0]))


def _is_finite(unused_op, inputs):
  return tf.reduce_all(tf.math.is_finite(inputs[0]))


def _is_not_zero(unused_op, inputs):
  return tf.reduce_all(tf.not_equal(inputs[1], tf.zeros([], inputs[1].dtype)))


def _is_not_negative(unused_op, inputs):
  return tf.reduce_all(inputs[1] >= 0)


def _does_fit(op, inputs):
  """Whether an integer is near each number that becomes one."""
  real = (tf.math.real(inputs[0]) if inputs[0].dtype.is_complex
          else inputs[0])
  number, limits = tf.cast(real, tf.float64), op.outputs[0].dtype
  return tf.reduce_all(tf.logical_and(  # False for NaN.
      number > float(limits.min) - 1., number < float(limits.max) + 1.))


def _are_indices(op, inputs):
  """Whether numbers are indices of what they are looked up in."""
  shape = None if op.type in LISTS else tf.shape(inputs[0], out_type=tf.int64)
  if op.type in LISTS:
    limit = tf.raw_ops.TensorListLength(input_handle=inputs[0])
  elif op.type == "UnsortedSegmentSum":
    limit = inputs[2]
  elif op.type == "GatherNd":
    limit = shape[:inputs[1].shape[-1]]
  else:
    axis = _AXES[op.type]
    limit = shape[inputs[2] if axis is None else axis]
  return _is_below(tf.cast(inputs[1], tf.int64), tf.cast(limit, tf.int64))


def _is_below(indices, limit):
  return tf.reduce_all(tf.logical_and(indices >= 0, indices < limit))


def _are_places(unused_op, inputs):
  """Whether what is scattered has its places in the shape that it gets."""
  limit = tf.cast(inputs[2][:inputs[0].shape[-1]], tf.int64)
  return _is_below(tf.cast(inputs[0], tf.int64), limit)


def _are_lengths(op, inputs):
  """Whether sequences are no longer than there are steps."""
  steps = tf.shape(inputs[0], out_type=tf.int64)[op.get_attr("seq_dim")]
  return _is_below(tf.cast(inputs[1], tf.int64), steps + 1)


def _is_within(unused_op, inputs):
  """Whether a slice is a part of what it is taken from."""
  shape = tf.shape(inputs[0], out_type=tf.int64)
  begin, size = [tf.cast(number, tf.int64) for number in inputs[1:3]]
  end = begin + tf.maximum(size, 0)  # A size of -1 goes to the end.
  return tf.logical_and(_is_below(begin, shape + 1), _is_below(end, shape + 1))


def _are_rows(op, inputs):
  """Whether the single indices of a strided slice are there.

  Slices from one to another are cut where there is no more.
  """
  if op.type == "StridedSliceGrad":
    shape = tf.cast(inputs[0], tf.int64)
  else:
    shape = tf.shape(inputs[0], out_type=tf.int64)
  begin = tf.cast(inputs[1], tf.int64)
  conditions = [tf.logical_and(-shape[axis] <= begin[i], begin[i] < shape[axis])
                for i, axis in slices.Entries(op).single]
  return tf.reduce_all(tf.stack(conditions + [
      tf.reduce_all(tf.not_equal(inputs[3], tf.zeros([], inputs[3].dtype)))]))


#: From the type of an op to the function that gives its condition.
_CONDITIONS = dict({
    CHECKS_ALONE: _is_true,
    "Cast": _does_fit,
    "Pow": _is_not_negative,
    "ReverseSequence": _are_lengths,
    "ScatterNd": _are_places,
    # At zero the gradient of a SELU is that of its other side in XLA.
    "SeluGrad": _is_not_zero,
    "Slice": _is_within,
}, **dict(
    [(op_type, _is_not_zero) for op_type in DIVISIONS] +
    [(op_type, _is_finite) for op_type in CHECKED_IDENTITIES] +
    [(op_type, _is_no_nan) for op_type in PLACES] +
    [(op_type, _are_rows) for op_type in slices.STRIDED] +
    [(op_type, _are_indices) for op_type in tuple(_AXES) + LISTS + (
        "GatherNd", "UnsortedSegmentSum")]))

#: The types of ops whose values can be looked at.
TYPES = frozenset(_CONDITIONS)
