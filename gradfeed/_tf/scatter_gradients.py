"""Gradients of ops that write rows to places, where a place is written twice.

The last row takes the place, so that y does not depend on those before it.
TensorFlow's gradients go to all of them. Those here go to the row that counts.
"""

from gradfeed._tf import tensors
from gradfeed._tf.api import tf


def _kept(gradient, is_last):
  """`gradient` with zeros in the rows that are overwritten.

  Args:
    gradient: `tf.Tensor`, or None.
    is_last: bool `tf.Tensor`, its axes are the first ones of `gradient`.
  """
  if gradient is None:
    return None
  rest = tf.rank(gradient) - tf.rank(is_last)
  is_last = tf.reshape(is_last, tf.concat(
      [tf.shape(is_last), tf.ones([rest], tf.int32)], 0))
  return tf.where_v2(is_last, gradient, tf.zeros_like(gradient))


def _are_unique(indices, rows=-1):
  """Whether static indices are known to name no place twice.

  Args:
    indices: `tf.Tensor`; the last axis is that of one index if `rows` is -1.
    rows: -1, or 0 if each element is an index.
  """
  value = tensors.static_value(indices)
  if value is None:
    return False
  places = value.reshape([-1, value.shape[-1]] if rows else [-1]).tolist()
  return len(set(map(str, places))) == len(places)


def _places(shape):
  """0, 1, ... in the shape `shape`, an int32 tensor."""
  return tf.reshape(tf.range(tf.reduce_prod(shape)), shape)


def _tensor_scatter_update(original, op, dy):
  """The gradient of TensorScatterUpdate."""
  to, indices, _ = op.inputs
  by_to, by_indices, by_updates = original(op, dy)
  if not _are_unique(indices):
    own = _places(tf.shape(indices)[:-1])
    written = tf.tensor_scatter_nd_update(
        tf.fill(tf.shape(to)[:tf.shape(indices)[-1]], -1), indices, own)
    by_updates = _kept(by_updates, tf.equal(
        tf.gather_nd(written, indices), own))
  return by_to, by_indices, by_updates


def _sparse_to_dense(unused_original, op, dy):
  """The gradient of SparseToDense, whose indices may also be a vector."""
  indices, shape, values, _ = op.inputs
  matrix = indices
  if indices.shape.ndims is not None and indices.shape.ndims < 2:
    matrix = tf.reshape(indices, [-1, 1])
  by_values = tf.gather_nd(dy, matrix)
  if not op.get_attr("validate_indices") and not _are_unique(matrix):
    own = tf.range(tf.shape(matrix)[0])
    written = tf.sparse_to_dense(
        matrix, shape, own, -1, validate_indices=False)
    by_values = _kept(by_values, tf.equal(tf.gather_nd(written, matrix), own))
  by_default = tf.reduce_sum(dy) - tf.reduce_sum(by_values)
  if values.shape.ndims == 0:
    by_values = tf.reduce_sum(by_values)
  return None, None, by_values, by_default


def _dynamic_stitch(original, op, dy):
  """The gradient of DynamicStitch; of ParallelDynamicStitch as if of that."""
  half = len(op.inputs) // 2
  gradients = original(op, dy)
  indices = list(op.inputs)[:half]
  if _are_apart(indices):
    return gradients
  first, own = 0, []
  for index in indices:
    own.append(first + _places(tf.shape(index)))
    first += tf.size(index)
  written = tf.dynamic_stitch(indices, own)
  return list(gradients[:half]) + [
      _kept(gradient, tf.equal(tf.gather(written, index), places))
      for gradient, index, places in zip(gradients[half:], indices, own)]


def _are_apart(indices):
  """Whether several tensors of indices are known to name no place twice."""
  parts = {index.op for index in indices}
  if len(parts) == 1 and indices[0].op.type == "DynamicPartition" and (
      indices[0].op.inputs[0].op.type == "Range"):
    return len({index.name for index in indices}) == len(indices)
  values = [tensors.static_value(index) for index in indices]
  if any(value is None for value in values):
    return False
  places = [place for value in values for place in value.ravel().tolist()]
  return len(set(places)) == len(places)


def _list_scatter(argument):
  """The gradient of an op that scatters a tensor to a list.

  Args:
    argument: int, which input is the tensor; the next one has the indices.
  """
  def gradient(original, op, dlist):
    gradients = list(original(op, dlist))
    indices = op.inputs[argument + 1]
    if not _are_unique(indices, 0):
      own = tf.range(tf.size(indices))
      last = tf.math.unsorted_segment_max(
          own, indices, tf.reduce_max(indices) + 1)
      gradients[argument] = _kept(
          gradients[argument], tf.equal(tf.gather(last, indices), own))
    return gradients

  return gradient


#: dict from the type of an op to its gradient: a function of TensorFlow's own
#: gradient function, the op and the gradients by its outputs.
GRADIENTS = {
    "DynamicStitch": _dynamic_stitch,
    "ParallelDynamicStitch": _dynamic_stitch,
    "SparseToDense": _sparse_to_dense,
    "TensorListScatter": _list_scatter(0),
    "TensorListScatterIntoExistingList": _list_scatter(1),
    "TensorListScatterV2": _list_scatter(0),
    "TensorScatterUpdate": _tensor_scatter_update,
}
