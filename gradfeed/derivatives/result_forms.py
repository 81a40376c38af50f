"""The forms of the derivatives that are returned: dense, sparse, as x is."""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import cache
from gradfeed.graph import tensors


def shaped(graph, leaf, parts, unconnected="zero", sparse=False):
  """The gradients of the parts of one x, in the form of that x."""
  key = ("shaped", leaf.name, type(leaf).__name__, unconnected, sparse,
         tuple(name_of(part) for part in parts))
  if all(part is None for part in parts) and unconnected != "zero":
    return None
  if isinstance(leaf, tensors.Point) and isinstance(parts[0], tf.Tensor):
    return parts[0]

  def build():
    cache.require_open(graph, "The gradient by {}".format(leaf))
    with _tf.building(graph):
      points = leaf.differentiable()
      if sparse and len(parts) == 1 and isinstance(
          parts[0], tf.IndexedSlices):
        return _summed(parts[0])
      made = [dense(*pair) for pair in zip(parts, points)]
      if isinstance(leaf, tensors.Partitioned):
        return tf.concat(made, leaf.axis)
      if isinstance(leaf, tensors.Sparse):
        return tf.SparseTensor(leaf.indices.tensor, made[0],
                               leaf.dense_shape.tensor)
      return made[0]

  return cache.once(graph, key, build)


def _summed(part):
  indices, positions = tf.unique(part.indices)
  values = tf.math.unsorted_segment_sum(
      part.values, positions, tf.size(indices))
  return tf.IndexedSlices(values, indices, part.dense_shape)


def zeros(graph, point):
  """Zeros of the shape and dtype of `point`; one tensor for each."""
  def build():
    with _tf.building(graph):
      return dense(None, point)

  return cache.once(graph, ("zeros", point.name), build)


def name_of(part):
  if isinstance(part, tf.IndexedSlices):
    return part.values.name
  return None if part is None else part.name


def dense(part, point):
  """A dense tensor of the value's shape; rows of equal indices are summed."""
  if part is None:
    if point.shape.is_fully_defined():
      return tf.zeros(point.shape, point.dtype)
    return tf.zeros_like(tensors.read_of(point))
  if isinstance(part, tf.IndexedSlices):
    rows = point.shape.as_list()[0] if point.shape.ndims else None
    if rows is None:
      rows = tf.shape(tensors.read_of(point), out_type=part.indices.dtype)[0]
    part = tf.math.unsorted_segment_sum(part.values, part.indices, rows)
    part.set_shape(point.shape)
  return part
