"""Values of ops whose inputs are known, as shapes and counters need them.

Those of `branches.constant_values`, and ops that move elements or work with
shapes. Nothing here rounds.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.branches import constant_values
from gradfeed.rewriting.unrolling import values as kinds

#: How many elements a value may have that is known.
MOST_ELEMENTS = 4096


#: Ops of two bools to the one that decides alone.
_DECIDING = {"LogicalAnd": False, "LogicalOr": True}


def evaluate(op, values):
  """The outputs of an op whose inputs are known.

  Args:
    op: `tf.Operation`.
    values: list with an array for each input.

  Returns:
    list with an array for each output; None where they are not known.
  """
  try:
    if op.type in _RULES:
      outputs = _RULES[op.type](op, *values)
      outputs = outputs if isinstance(outputs, list) else [outputs]
    elif op.type in constant_values.TYPES and op.type != "Const":
      outputs = [constant_values.evaluate(
          op.type, values, lambda name: op.node_def.attr[name])]
    else:
      return None
  except (ValueError, TypeError, LookupError, OverflowError):
    return None  # TensorFlow may refuse it too.
  dtypes = [_tf.numpy_dtype(t.dtype) for t in op.outputs]
  # Not `None in dtypes`: NumPy takes None for float64.
  if len(outputs) != len(dtypes) or any(
      dtype is None for dtype in dtypes) or any(
          value is None or np.size(value) > MOST_ELEMENTS
          for value in outputs):
    return None
  return [np.asarray(value, dtype) for value, dtype in zip(outputs, dtypes)]


def truth(value):
  """The value of a predicate, which has to be known: bool."""
  if not isinstance(value, np.ndarray) or value.ndim or value.dtype != np.bool_:
    raise kinds.NotUnrolled("how often a loop turns, or which branch is "
                            "taken, is not known before the run")
  return bool(value)


def is_true(value):
  """Whether a value is known to be the scalar True."""
  return (isinstance(value, np.ndarray) and not value.ndim and
          value.dtype == np.bool_ and bool(value))


def decided(op, values):
  """The value of an `and` or an `or` of two scalars of which one is known.

  Args:
    op: `tf.Operation`.
    values: list with the value of each input.

  Returns:
    value; None where both are needed, or for other ops.
  """
  if op.type not in _DECIDING or any(
      tf.TensorShape(value.shape).rank != 0 for value in values):
    return None
  for value, other in (values, reversed(values)):
    if isinstance(value, np.ndarray):
      return value if bool(value) == _DECIDING[op.type] else other
  return None


def constant(op):
  """The value of a Const, an array; None if it is large or no number."""
  proto = op.get_attr("value")
  shape = tf.TensorShape(proto.tensor_shape)
  if shape.num_elements() > MOST_ELEMENTS or (
      _tf.numpy_dtype(tf.as_dtype(proto.dtype)) is None):
    return None
  return tf.make_ndarray(proto)


def of_shape(op, shape):
  """The value of an op that reads a shape and nothing else, for one output.

  Args:
    op: `tf.Operation` of a type in `op_types.SHAPE_READING`.
    shape: `tf.TensorShape` of the input.

  Returns:
    array of the dtype of the output; None where it is not known.
  """
  if shape.ndims is None or (
      op.type != "Rank" and not shape.is_fully_defined()):
    return None
  value = {"Rank": lambda: shape.ndims,
           "Size": lambda: np.prod(shape.as_list(), dtype=np.int64)}.get(
               op.type, shape.as_list)()
  return np.asarray(value, _tf.numpy_dtype(op.outputs[0].dtype))


def _whole(function):
  """The rule of exact arithmetic of integers alone."""
  def rule(unused_op, *values):
    if values[0].dtype.kind not in "iu":
      raise ValueError
    return function(*values)
  return rule


def _strided(op, value, begin, end, strides):
  masks = {name: op.get_attr(name + "_mask") for name in (
      "begin", "end", "ellipsis", "new_axis", "shrink_axis")}
  picked = []
  for i, step in enumerate(strides.tolist()):
    at = 1 << i
    if masks["ellipsis"] & at:
      picked.append(Ellipsis)
    elif masks["new_axis"] & at:
      picked.append(np.newaxis)
    elif masks["shrink_axis"] & at:
      picked.append(int(begin[i]))
    else:
      picked.append(slice(
          None if masks["begin"] & at else int(begin[i]),
          None if masks["end"] & at else int(end[i]), step))
  return value[tuple(picked)]


def _divided(unused_op, value, divisor):
  if value.dtype.kind not in "iu" or not np.all(divisor):
    raise ValueError
  return np.floor_divide(value, divisor)


def _slice(unused_op, value, begin, size):
  if np.any(begin < 0) or np.any(begin + np.maximum(size, 0) > value.shape):
    raise ValueError
  return value[tuple(
      slice(first, None if count < 0 else first + count)
      for first, count in zip(begin.tolist(), size.tolist()))]


def _fill(unused_op, dims, value):
  if np.prod(dims, dtype=np.int64) > MOST_ELEMENTS:
    raise ValueError
  return np.full(tuple(dims), value)


def _range(unused_op, start, limit, delta):
  if start.dtype.kind not in "iu":
    raise ValueError
  return np.arange(start, limit, delta)


def _gather(op, params, indices, *axis):
  if op.type == "GatherV2" and op.node_def.attr["batch_dims"].i:
    raise ValueError
  if indices.size and indices.min() < 0:
    raise ValueError
  return np.take(params, indices, int(axis[0]) if axis else 0)


def _prod(op, value, axes):
  if value.dtype.kind not in "iu":
    raise ValueError
  return np.prod(value, tuple(np.ravel(axes)), value.dtype,
                 keepdims=op.get_attr("keep_dims"))


def _unbroadcast(unused_op, one, other):
  rank = max(len(one), len(other))
  dims = [[1] * (rank - len(shape)) + shape.tolist() for shape in (one, other)]
  if any(1 not in (a, b) and a != b for a, b in zip(*dims)):
    raise ValueError
  if one.tolist() == other.tolist():
    return [np.zeros([0], np.int32)] * 2
  # An axis of length 1 in both stays as it is: a Reshape follows.
  return [np.array([i for i, (a, b) in enumerate(zip(own, beside)) if (
      i < rank - len(shape) or a == 1 != b)], np.int32)
          for own, beside, shape in (
              dims + [one], dims[::-1] + [other])]


def _stitched(unused_op, *values):
  places = values[:len(values) // 2]
  merged = {}
  for indices, data in zip(places, values[len(places):]):
    if data.ndim > 1 or indices.ndim > 1:
      raise ValueError
    merged.update(zip(np.ravel(indices).tolist(), np.ravel(data)))
  return np.stack([merged[i] for i in range(len(merged))])


def _offsets(unused_op, axis, *shapes):
  lengths = np.cumsum([0] + [shape[int(axis)] for shape in shapes[:-1]])
  starts = np.zeros([len(shapes), len(shapes[0])], np.int32)
  starts[:, int(axis)] = lengths
  return list(starts)


def _expanded(unused_op, value, axis):
  at = int(axis)
  return np.expand_dims(value, at if at >= 0 else at + value.ndim + 1)


def _unpacked(op, value):
  axis = op.get_attr("axis")
  return [np.squeeze(part, axis) for part in np.split(
      value, value.shape[axis], axis)]


#: dict from op type to a function of the op and of the values of its inputs.
_RULES = {
    "BroadcastGradientArgs": _unbroadcast,
    "ConcatOffset": _offsets,
    "ConcatV2": lambda op, *parts: np.concatenate(
        parts[:-1], int(parts[-1])),
    "DynamicStitch": _stitched,
    "ExpandDims": _expanded,
    "Fill": _fill,
    "FloorDiv": _divided,
    "Gather": _gather,
    "GatherV2": _gather,
    "InvertPermutation": lambda op, value: np.argsort(value),
    "Neg": _whole(np.negative),
    "OnesLike": lambda op, value: np.ones_like(value),
    "Pack": lambda op, *parts: np.stack(parts, op.get_attr("axis")),
    "Prod": _prod,
    "Range": _range,
    "Slice": _slice,
    "StridedSlice": _strided,
    "Tile": lambda op, value, counts: np.tile(value, counts),
    "Transpose": lambda op, value, order: np.transpose(value, order),
    "Unpack": _unpacked,
    "ZerosLike": lambda op, value: np.zeros_like(value),
}
