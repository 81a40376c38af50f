"""Cotangents to multiply a Jacobian with: a checked value, or a placeholder."""

import hashlib

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import assertions
from gradfeed.graph import cache
from gradfeed.graph import captures
from gradfeed.graph import tensors

#: What a cotangent of x, the direction that x moves in, is called in errors.
TANGENT = "tangent v"


def as_array(value, y, role):
  """`value` as an array, cast to the dtype of `y` where that is no mistake.

  Any real number is cast for a floating `y`, and any number for a complex one.

  Args:
    value: array or what can be converted to one.
    y: `tensors.Dense` or the like that it is for.
    role: key of `assertions.SHAPE_ERRORS`.
  """
  array = array_of(value, assertions.SHAPE_ERRORS[role], role)
  if array.dtype.kind in "iufb" and y.dtype.is_floating or (
      array.dtype.kind in "iufbc" and y.dtype.is_complex):
    return array.astype(y.dtype.as_numpy_dtype)
  if array.dtype.kind not in "cfVb" or array.dtype.names:
    raise unfit(role, array.dtype, array.shape, y)
  return array


def array_of(value, error_class, role):
  """`value` as an array, or an `error_class` that says what cannot be one."""
  try:
    return np.asarray(value)
  except Exception as error:  # pylint: disable=broad-except
    # Whatever the class of the value, or of one in it, raises.
    raise error_class(
        "{} is a {} that is no array.".format(role, type(value).__name__),
        "{}: {}".format(type(error).__name__, str(error).split("\n")[0]),
        "Pass one tensor (tf.stack makes one of a list) or an array of "
        "numbers.") from None


def unfit(role, dtype, shape, y):
  """The error for a `grad_ys` or `v` that is not for this `y`."""
  return assertions.SHAPE_ERRORS[role](
      "{} ({}, {}) does not fit {} = {}.".format(
          role, getattr(dtype, "name", dtype), tensors.format_shape(shape),
          "x" if role == TANGENT else "y", tensors.describe(y)),
      "TensorFlow broadcasts a cotangent of another shape without a word, "
      "and the result is the gradient of something else.",
      "Pass a value with the shape and dtype of {0}; a single weight is "
      "`weight * tf.ones_like({0})`.".format("x" if role == TANGENT else "y"))


class Cotangent:
  """One checked value of `grad_ys` or `v`.

  Attributes:
    key: hashable that names the content, for the keys of the cache.
  """

  def __init__(self, value, y, graph, role="grad_ys"):
    self._given = value
    self._y = y
    self._role = role
    self._slices = None
    if isinstance(value, tf.IndexedSlices):
      dtype, shape = self._take_slices(value, graph)
    elif (isinstance(value, (tf.Tensor, str)) or _tf.is_variable(value)) and (
        not _is_eager_in_function(value, graph)):
      self._given = tensors.read_of(
          tensors.resolve(value, graph, role, around=True))
      self.key = _name_in(graph, self._given)
      dtype, shape = self._given.dtype.base_dtype, self._given.shape
    else:
      self._given = as_array(value, y, role)
      self.key = (self._given.dtype.str, self._given.shape, hashlib.sha256(
          np.ascontiguousarray(self._given).tobytes()).hexdigest())
      dtype = tf.as_dtype(self._given.dtype)
      shape = tf.TensorShape(self._given.shape)
    self._is_shape_known = shape.is_fully_defined(
    ) and y.shape.is_fully_defined()
    if dtype != y.dtype or not shape.is_compatible_with(y.shape):
      raise unfit(role, dtype, shape, y)

  def _take_slices(self, slices, graph):
    """Takes a `tf.IndexedSlices`.

    Returns:
      (`tf.DType`, `tf.TensorShape`) of the dense form.
    """
    parts = [None if part is None else tensors.resolve(
        part, graph, self._role, around=True).tensor
             for part in (slices.values, slices.indices, slices.dense_shape)]
    self._slices = tf.IndexedSlices(*parts)
    self.key = ("slices",) + tuple(
        part is not None and _name_in(graph, part) for part in parts)
    rows = self._y.shape[:1] if self._y.shape.ndims else [None]
    values = self._slices.values
    return values.dtype.base_dtype, (
        values.shape if values.shape.ndims is None else
        tf.TensorShape(rows).concatenate(values.shape[1:]))

  def of(self, unused_copy):
    """The cotangent of a copy of y: the same value."""
    return self

  def tensor(self):
    """Builds the cotangent, with an assertion of its shape where needed.

    Returns:
      `tf.Tensor`, or the `tf.IndexedSlices` that was given.
    """
    if self._slices is not None:
      return self._slices
    given = tf.convert_to_tensor(self._given, dtype=self._y.dtype)
    if self._is_shape_known:
      return given
    y = tensors.read_of(self._y)
    message = assertions.SHAPE_OF_COTANGENT.format(self._role, given.name,
                                                   y.name)
    rank = tf.assert_equal(tf.rank(given), tf.rank(y), message=message)
    with tf.control_dependencies([rank]):
      shape = tf.assert_equal(tf.shape(given), tf.shape(y), message=message)
    with tf.control_dependencies([shape]):
      return tf.identity(given)


def _is_eager_in_function(value, graph):
  """Whether `value` is eager and taken as a constant by a function."""
  return _tf.is_eager(value) and isinstance(value, tf.Tensor) and (
      _tf.outer_graph(graph) is not None)


def _name_in(graph, tensor):
  """A name of `tensor` that no other tensor of `graph` or around it has."""
  level = captures.enclosing(graph).index(tensor.graph)
  return (level, tensor.name) if level else tensor.name


class Seed:
  """A cotangent that others are put in the place of.

  All that depends on it is linear in it. Its value is one, since some gradients
  of TensorFlow divide by the cotangent or take its logarithm. It is a
  placeholder with a default, since TensorFlow folds constants.
  """

  key = "seed"

  def __init__(self, y):
    self._y = y

  def of(self, copy):
    """The cotangent of a copy of y: a seed of its own."""
    return Seed(copy)

  def tensor(self):
    """Builds the seed, once for each y."""
    y = tensors.read_of(self._y)

    def build():
      return tf.placeholder_with_default(
          tf.ones_like(y), y.shape, name="seed")

    return cache.cached(y.graph, ("seed", y.name), build)
