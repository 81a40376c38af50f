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
  if isinstance(leaf, tensors.Dense) and isinstance(parts[0], tf.Tensor):
    return parts[0]

  def build():
    cache.check_not_finalized(graph, "The gradient by {}".format(leaf))
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

  return cache.cached(graph, key, build)


def _summed(part):
  indices, positions = tf.unique(part.indices)
  values = tf.math.unsorted_segment_sum(
      part.values, positions, tf.size(indices))
  return tf.IndexedSlices(values, indices, part.dense_shape)


def zeros(graph, component):
  """Zeros of the shape and dtype of `component`; one tensor for each."""
  def build():
    with _tf.building(graph):
      return dense(None, component)

  return cache.cached(graph, ("zeros", component.name), build)


def name_of(part):
  if isinstance(part, tf.IndexedSlices):
    return part.values.name
  return None if part is None else part.name


def dense(part, component):
  """A dense tensor of the value's shape; rows of equal indices are summed."""
  if part is None:
    if component.shape.is_fully_defined():
      return tf.zeros(component.shape, component.dtype)
    return tf.zeros_like(tensors.read_of(component))
  if isinstance(part, tf.IndexedSlices):
    rows = component.shape.as_list()[0] if component.shape.ndims else None
    if rows is None:
      rows = tf.shape(tensors.read_of(component),
                      out_type=part.indices.dtype)[0]
    part = tf.math.unsorted_segment_sum(part.values, part.indices, rows)
    part.set_shape(component.shape)
  return part
