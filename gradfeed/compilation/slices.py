"""Slices that are taken at a place that differs between calls.

XLA compiles a Slice or a StridedSlice anew for each value of its bounds. Where
only the place differs (`x[i]`), and not how much is taken, the slice is taken
in another way, for which any place will do.
"""

from gradfeed import _tf
from gradfeed._tf import tf

#: Types of ops that take what stands between brackets, and put it back.
STRIDED = ("StridedSlice", "StridedSliceGrad")

#: From the type of an op to the indices of the inputs that are its bounds.
BOUNDS = dict({"Slice": (1, 2)}, **dict.fromkeys(STRIDED, (1, 2, 3)))

_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask",
          "shrink_axis_mask")


class Entries:
  """What stands between the brackets of a slice: `x[..., 1:3, i]`.

  Attributes:
    single: list of (place of a single index in `begin`, the axis that it is
      along); an axis after an ellipsis is counted from the end.
  """

  def __init__(self, op):
    """Reads them.

    Args:
      op: `tf.Operation` of one of `STRIDED`.
    """
    self._op = op
    ranks = [t.shape.as_list()[0] for t in op.inputs[1:4]
             if t.shape.ndims == 1]
    self._count = next((rank for rank in ranks if rank is not None), None)
    masks = {mask: op.get_attr(mask) for mask in _MASKS}
    places = range(max([mask.bit_length() for mask in masks.values()]
                       if self._count is None else [self._count]))
    self._is = {mask: [bool(value >> i & 1) for i in places]
                for mask, value in masks.items()}
    self.single, axis = [], 0
    for i in places:
      if self._is["ellipsis_mask"][i]:
        axis = -sum(not new for new in self._is["new_axis_mask"][i + 1:])
      elif not self._is["new_axis_mask"][i]:
        if self._is["shrink_axis_mask"][i]:
          self.single.append((i, axis))
        axis += 1

  def others(self):
    """The bounds (begin, end, strides) in which each single index is 0.

    Returns:
      tuple of lists of int; None where they are not constant.
    """
    if self._count is None:
      return None
    single = {i for i, _ in self.single}
    bounds = []
    for t, mask, default in zip(
        self._op.inputs[1:4], ("begin_mask", "end_mask", None), (0, 1, 1)):
      known = _tf.static_value(t, partial=True)
      values = []
      for i in range(self._count):
        if i in single or self._is["ellipsis_mask"][i] or (
            self._is["new_axis_mask"][i] or mask and self._is[mask][i]):
          values.append(default)
        elif known is None or known[i] is None:
          return None
        else:
          values.append(int(known[i]))
      bounds.append(values)
    return tuple(bounds)


def can_be_moved(op):
  """Whether an op takes as much wherever it is: `taken` serves in its place.

  Args:
    op: `tf.Operation` whose type is in `BOUNDS`.
  """
  if op.type == "Slice":
    return op.outputs[0].shape.is_fully_defined()
  return Entries(op).others() is not None


def taken(op, inputs):
  """What an op computes, at a place that may differ.

  Args:
    op: `tf.Operation` that `can_be_moved`.
    inputs: list of `tf.Tensor`, in the place of its inputs.

  Returns:
    `tf.Tensor` of the default graph.
  """
  if op.type == "Slice":
    x = inputs[0]
    for axis, size in enumerate(op.outputs[0].shape.as_list()):
      x = tf.gather(x, inputs[1][axis] + tf.range(
          size, dtype=inputs[1].dtype), axis=axis)
    return x
  entries = Entries(op)
  begin, end, strides = [tf.constant(bound, inputs[1].dtype)
                         for bound in entries.others()]
  masks = {mask: op.get_attr(mask) for mask in _MASKS}
  if op.type == "StridedSlice":
    x = inputs[0]
    for i, axis in entries.single:
      index = _from_the_start(inputs[1][i], tf.shape(x)[axis])
      x = tf.gather(x, [index], axis=axis)
    return tf.raw_ops.StridedSlice(
        input=x, begin=begin, end=end, strides=strides, **masks)
  sizes = tf.unstack(inputs[0])
  shape, is_there = list(sizes), tf.constant(True)
  for i, axis in entries.single:
    index = _from_the_start(inputs[1][i], sizes[axis])
    here = tf.equal(tf.range(sizes[axis]), tf.cast(index, sizes[axis].dtype))
    behind = len(sizes) - 1 - axis if axis >= 0 else -1 - axis
    is_there = tf.logical_and(is_there, tf.reshape(here, [-1] + [1] * behind))
    shape[axis] = tf.ones([], sizes[axis].dtype)
  rows = tf.raw_ops.StridedSliceGrad(
      shape=tf.stack(shape), begin=tf.cast(begin, inputs[0].dtype),
      end=tf.cast(end, inputs[0].dtype),
      strides=tf.cast(strides, inputs[0].dtype), dy=inputs[4], **masks)
  return tf.raw_ops.SelectV2(
      condition=is_there, t=rows, e=tf.zeros(inputs[0], rows.dtype))


def _from_the_start(index, size):
  """An index that is negative is counted from the end."""
  return tf.where_v2(index < 0, index + tf.cast(size, index.dtype), index)
