"""The forms of the derivatives that are returned: dense, sparse, as x is.

An x has one component that is differentiated by, or, if it is a partitioned
variable, several. The functions here put the derivatives by the components
together, with zeros in the place of None.
"""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import waits
from gradfeed.graph import cache
from gradfeed.graph import captures
from gradfeed.graph import tensors


class BuiltVJP:
  """The tensors that one `vjps.VJP` added to the graph.

  Attributes:
    ys: list of `tf.Tensor`, the ys or the copies that were differentiated.
    gradients: list with a `tf.Tensor`, `tf.IndexedSlices` or None for each x.
    copied: dict from the names of tensors that were copied to their copies.
    read: what gradient functions of the user read when it was built, as
      `gradient_flow.GradientTrace.settings` gives it. It serves no
      other settings; where they are None, for no other product.
    vjp: the `vjps.VJP` that it was built for, or None.
  """

  def __init__(self, ys, gradients_by_x, copied, read=(), vjp=None):
    self.ys = ys
    self.gradients = gradients_by_x
    self.copied = copied
    self.read = read
    self.vjp = vjp

  def passes_of(self, first):
    """The copies of the ys of `first` that this, a derivative of it, reads.

    Args:
      first: `BuiltVJP` whose gradients were differentiated to make this one.

    Returns:
      list of `tf.Tensor`.
    """
    return [self.copied.get(y.name, y) for y in first.ys]


#: Leaves slices as TensorFlow builds them; see `shaped`.
AS_BUILT = "as built"


def flat_values(value):
  """The tensor of numbers in a ragged tensor; any other value as it is."""
  return value.flat_values if isinstance(value, tf.RaggedTensor) else value


def numbers(y):
  """The tensor that is differentiated of a ragged tensor or of slices."""
  return y.values if isinstance(y, tf.IndexedSlices) else flat_values(y)


def ragged(x, gradient):
  """The gradient by `flat_values(x)` in the form of x."""
  if not isinstance(x, tf.RaggedTensor) or gradient is None:
    return gradient
  return x.with_flat_values(gradient)


def shaped(graph, leaf, gradients, unconnected="zero", sparse=False):
  """The gradient by one x, in the form of that x.

  Args:
    graph: `tf.Graph`.
    leaf: the x: `tensors.Dense`, `tensors.Sparse` or `tensors.Partitioned`.
    gradients: list with a `tf.Tensor`, `tf.IndexedSlices` or None for each
      component of x.
    unconnected: "error", "zero" or "none", as in `gradient`.
    sparse: bool; leave a `tf.IndexedSlices` as one, with the rows of equal
      indices summed; `AS_BUILT` for one in which they are not.

  Returns:
    `tf.Tensor` of the shape of x; `tf.SparseTensor` with the indices of a
    sparse x; `tf.IndexedSlices`; or None if all gradients are None and
    `unconnected` is not "zero".
  """
  key = ("shaped", leaf.name, type(leaf).__name__, unconnected, sparse,
         tuple(map(name_of, gradients)),
         captures.enclosing(graph).index(leaf.graph))
  if all(gradient is None for gradient in gradients) and unconnected != "zero":
    return None
  if isinstance(leaf, tensors.Dense) and isinstance(
      gradients[0],
      (tf.Tensor, tf.IndexedSlices) if sparse == AS_BUILT else tf.Tensor):
    return gradients[0]

  def build():
    cache.check_not_finalized(graph, "The gradient by {}".format(leaf))
    with _tf.building(graph):
      if sparse and len(gradients) == 1 and isinstance(
          gradients[0], tf.IndexedSlices):
        return waits.through(
            graph, gradients, lambda own: _with_unique_rows(own[0]))
      made = waits.through(graph, gradients, lambda own: _joined(
          leaf, list(map(dense, own, leaf.differentiable())), 0))
      if isinstance(leaf, tensors.Sparse):
        return tf.SparseTensor(leaf.indices.tensor, made,
                               leaf.dense_shape.tensor)
      return made

  return cache.cached(graph, key, build)


def stacked(y, leaf, derivatives, unconnected, key, fill_zeros, leading=None):
  """The derivatives by one x that have other axes before those of x.

  Args:
    y: `tensors.Dense`, what was differentiated.
    leaf: the x, as in `shaped`.
    derivatives: list with a dense `tf.Tensor` or None for each component of x.
    unconnected: "error", "zero" or "none", as in `gradient`.
    key: tuple, names the result in the cache, together with the derivatives.
    fill_zeros: function without arguments that builds the list of the
      derivatives, with zeros in the place of None.
    leading: int, the number of axes before those of x; None if not known.

  Returns:
    `tf.Tensor`; or None if all derivatives are None and `unconnected` is
    "none".
  """
  if unconnected == "none" and all(
      derivative is None for derivative in derivatives):
    return None
  if len(derivatives) == 1 and derivatives[0] is not None:
    return derivatives[0]

  def build():
    with _tf.building(y.graph):
      return _joined(leaf, fill_zeros(), leading)

  return cache.cached(
      y.graph, key + (tuple(map(name_of, derivatives)),), build)


def _joined(leaf, derivatives, leading):
  """The dense derivatives by the components of `leaf` as one tensor."""
  if not isinstance(leaf, tensors.Partitioned):
    return derivatives[0]
  axis = leaf.axis - leaf.shape.ndims if leading is None else (
      leaf.axis + leading)
  return tf.concat(derivatives, axis)


def _with_unique_rows(slices):
  """`tf.IndexedSlices` in which rows of equal indices are summed."""
  indices, positions = tf.unique(slices.indices)
  values = tf.math.unsorted_segment_sum(
      slices.values, positions, tf.size(indices))
  return tf.IndexedSlices(values, indices, slices.dense_shape)


def zeros(graph, component):
  """Zeros of the shape and dtype of a `tensors.Dense`; built once."""
  def build():
    with _tf.building(graph):
      return dense(None, component)

  return cache.cached(graph, ("zeros", component.name), build)


def name_of(gradient):
  """The name of a `tf.Tensor`, or of the values of slices or sparse ones."""
  if isinstance(gradient, (tf.IndexedSlices, tf.SparseTensor)):
    return gradient.values.name
  return None if gradient is None else gradient.name


def dense(gradient, component):
  """Builds a dense tensor from a gradient; rows of equal indices are summed.

  Args:
    gradient: `tf.Tensor`, `tf.IndexedSlices`, or None for zeros.
    component: `tensors.Dense`, what was differentiated by.

  Returns:
    `tf.Tensor` of the shape of `component`.
  """
  if gradient is None:
    if component.shape.is_fully_defined():
      return tf.zeros(component.shape, component.dtype)
    return tf.zeros_like(tensors.read_of(component))
  if isinstance(gradient, tf.IndexedSlices):
    rows = component.shape.as_list()[0] if component.shape.ndims else None
    if rows is None:
      rows = tf.shape(tensors.read_of(component),
                      out_type=gradient.indices.dtype)[0]
    gradient = tf.math.unsorted_segment_sum(
        gradient.values, gradient.indices, rows)
    gradient.set_shape(component.shape)
  return gradient


def dense_or_none(graph, gradient, component):
  """A gradient as a dense tensor; built once. None stays None.

  Args:
    graph: `tf.Graph`.
    gradient: `tf.Tensor`, `tf.IndexedSlices` or None.
    component: `tensors.Dense`, what was differentiated by.
  """
  if gradient is None or isinstance(gradient, tf.Tensor):
    return gradient

  def build():
    with _tf.building(graph):
      return dense(gradient, component)

  return cache.cached(graph, ("dense", name_of(gradient)), build)
