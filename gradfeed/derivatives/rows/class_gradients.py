"""The gradient of one class of each example, the class being a value."""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import arguments
from gradfeed.derivatives import cotangent_types
from gradfeed import errors
from gradfeed.graph import assertions
from gradfeed.graph import nest
from gradfeed.graph import tensors


@_tf.unconverted
def class_gradient(y, x, index, axis=-1, stop_gradients=None,
                   unconnected="error"):
  """Builds the gradient of one class of each example, the index being fed.

  One gradient for all classes: the index is a value, for all examples or for
  each its own, where `gradient(y[:, 3], x)` adds ops for class 3 alone. For
  weighed classes feed the cotangent itself: `vjp(y, x, v)`.

  Args:
    y: floating `tf.Tensor` such as logits of shape `[B, classes]`, or name.
    x: what to differentiate by, as in `gradient`.
    index: integer tensor, placeholder, name or array: one class, shape `[]`;
      or a class for each example, y.shape without `axis`.
    axis: int, the axis of y that counts classes.
    stop_gradients: tensors to hold constant, or None.
    unconnected: "error", "zero" or "none", as in `gradient`.

  Returns:
    The structure of `x`, with a `tf.Tensor` of the shape and dtype of each x:
    the sum over the examples of d y[b, index[b]] / dx. By an x with examples
    of its own that is, where rows are independent, the gradient of each.

  Raises:
    The same errors as `gradient`.
    ArgumentError: an index that is no integer, or of another shape, or, when
      the result is evaluated, no class of y.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [None, 1])
    ...   index = tf.placeholder(tf.int32, [None])
    ...   logits = tf.concat([x, x ** 2, x ** 3], axis=1)
    ...   f = gf.function([x, index], gf.class_gradient(logits, x, index))
    ...   print(f([[2.0], [2.0]], [1, 2]))
    [[ 4.]
     [12.]]
  """
  arguments.check_unconnected(unconnected)
  request = arguments.Request(y, x, stop_gradients)
  if nest.is_container(y):
    raise errors.ArgumentError(
        "y is a {} of tensors.".format(type(y).__name__),
        "The index chooses among the classes of one.",
        "Pass one tensor, or call this for each.")
  one_hot = _OneHot(request.ys[0], index, axis)
  built = request.product([one_hot]).build(strict=unconnected == "error")
  return nest.pack(x, request.shaped(built.gradients, unconnected))


class _OneHot:
  """The cotangent that is one at the class of each example, else zero.

  Attributes:
    key: hashable that names the content, as in `cotangent_types.Cotangent`.
  """

  def __init__(self, y, index, axis):
    """Checks the index.

    Args:
      y: `tensors.Dense`, the logits.
      index: as in `class_gradient`.
      axis: as in `class_gradient`.
    """
    self._y = y
    self._axis = _axis_of(y, axis)
    if isinstance(index, (tf.Tensor, str)) or _tf.is_variable(index):
      self._index = tensors.read_of(tensors.resolve(index, y.graph, "index"))
      key, dtype = self._index.name, self._index.dtype.base_dtype
    else:
      self._index = cotangent_types.array_of(index, errors.ArgumentError,
                                             "index")
      key = self._index.dtype.str, self._index.shape, self._index.tobytes()
      dtype = tf.as_dtype(self._index.dtype)
    self.key = ("class", key, self._axis)
    self._check(dtype, tf.TensorShape(self._index.shape))

  def _check(self, dtype, shape):
    """Refuses an index of another dtype, or not one for each example."""
    y, axis = self._y, self._axis
    examples = y.shape[:axis].concatenate(y.shape[axis + 1:])
    if dtype not in (tf.int32, tf.int64) or not (
        shape.ndims == 0 or shape.is_compatible_with(examples)):
      raise errors.ArgumentError(
          "index ({}, {}) chooses no class of {}.".format(
              dtype.name, tensors.format_shape(shape), tensors.describe(y)),
          "It is one int32 or int64 number for all examples, or one for each.",
          "Pass an index of shape [] or {}.".format(
              tensors.format_shape(examples)))

  def tensor(self):
    """Builds the cotangent, with an assertion that the index is a class."""
    y = tensors.read_of(self._y)
    index = tf.convert_to_tensor(self._index)
    shape = tf.shape(y, out_type=index.dtype)
    examples = tf.concat([shape[:self._axis], shape[self._axis + 1:]], 0)
    message = assertions.INDEX_OF_CLASS.format(index.name, y.name)
    inside = tf.reduce_all((index >= 0) & (index < shape[self._axis]))
    fits = tf.logical_or(
        tf.equal(tf.rank(index), 0), tf.reduce_all(tf.equal(
            tf.size(index), tf.cast(tf.reduce_prod(examples), tf.int32))))
    with tf.control_dependencies(
        [tf.Assert(inside & fits, [message, index])]):
      index = tf.broadcast_to(index, examples)
    return tf.one_hot(index, tf.shape(y)[self._axis], axis=self._axis,
                      dtype=y.dtype)


def _axis_of(y, axis):
  """The axis of y that counts classes, from the front; refuses another."""
  rank = y.shape.ndims
  if rank is None or not isinstance(axis, (int, np.integer)) or not (
      -rank <= axis < rank):
    raise errors.ArgumentError(
        "y = {} has no axis {!r}.".format(tensors.describe(y), axis),
        "It is the axis that counts classes, and the rank has to be known.",
        "Pass logits of shape [B, classes] and axis=-1.")
  return axis % rank
