"""Checks the dtype and shape of fed values, and casts them without loss."""

import collections
import contextvars
import numbers
import warnings

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import lookup
from gradfeed.graph import tensors

_SHAPES_REMEMBERED = 1024

_HAS_CONTEXTS = int(np.__version__.split(".")[0]) >= 2
_quiet_contexts = []  # Those that no thread is in.

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

#: A leaf (or its name) that cannot be fed, and the reason, a clause in words.
Problem = collections.namedtuple("Problem", ["leaf", "reason"])


_TO_MODULE = ("gradfeed.to_module(f) gives code to be called in a tf.function "
              "or a layer of Keras")


class Unfit(Exception):
  """A value that cannot be fed; `str` of it is the reason, one sentence."""


class Slot:
  """One dense tensor that takes a value at each call.

  Attributes:
    component: `tensors.Dense` that the caller named.
    target: `tf.Tensor` that TensorFlow is fed at: that of `component` if it is
      a placeholder, else the placeholder in its place.
    dtype: `np.dtype` of the array that is fed, or None (resources).
    shapes: set of shapes that were found to fit.
  """

  __slots__ = ("component", "target", "dtype", "shapes")

  def __init__(self, component, target=None):
    self.component = component
    self.target = target
    self.dtype = _tf.numpy_dtype(component.dtype)
    self.shapes = set()

  def fit(self, value):
    """Checks a value, and gives it as an array that can be fed as it is.

    Args:
      value: array or whatever `np.asarray` takes.

    Returns:
      `np.ndarray` of exactly the tensor's dtype and of a shape that fits it;
      the very array that was passed where that is one already.

    Raises:
      Unfit: with the reason.
    """
    if type(value) is np.ndarray and value.shape in self.shapes:
      if value.dtype is self.dtype:
        return value
      if value.dtype is _FLOAT64 and self.dtype is _FLOAT32:
        cast = _as_float32(value)
        if np.count_nonzero(np.isfinite(cast)) == cast.size:
          return cast
    if self.dtype is None:
      return value
    array = _cast(_as_array(value, self.dtype), self.dtype)
    self._check_shape(array.shape)
    return array

  def fit_or_handle(self, value):
    """As `fit`; also takes what `tf.get_session_handle` gave, as it is."""
    if not _tf.is_session_handle(value):
      return self.fit(value)
    dtype = _tf.session_handle_dtype(value).base_dtype
    if dtype != self.component.dtype:
      raise Unfit("a handle of {} is not one of {}".format(
          dtype.name, self.component.dtype.name))
    return value

  def _check_shape(self, shape):
    """Refuses a shape that does not fit; adds one that does to `shapes`."""
    if shape in self.shapes:
      return
    if not self.component.shape.is_compatible_with(shape):
      raise Unfit("shape {} does not fit {}".format(
          tensors.format_shape(shape),
          tensors.format_shape(self.component.shape)))
    if len(self.shapes) >= _SHAPES_REMEMBERED:
      self.shapes.clear()
    self.shapes.add(shape)


def _as_float32(array):
  """An array of float64 in float32, whatever NumPy does about overflow.

  From NumPy 2 on, what it does belongs to a `contextvars.Context`, which is
  entered in a fraction of the time that `np.errstate` takes. A context serves
  one thread at a time.
  """
  if not _HAS_CONTEXTS:
    with np.errstate(all="ignore"):
      return array.astype(_FLOAT32)
  try:
    context = _quiet_contexts.pop()
  except IndexError:
    context = contextvars.Context()
    context.run(np.seterr, all="ignore")
  cast = context.run(array.astype, _FLOAT32)
  _quiet_contexts.append(context)
  return cast


def _as_array(value, dtype):
  """`value` as an array of any dtype; refuses what is no value."""
  if type(value) is np.ndarray or type(value) is float:
    return np.asarray(value)
  if _tf.is_session_handle(value):
    raise Unfit("a session handle can be fed in gradfeed.run alone; take its "
                "value, handle.eval()")
  if isinstance(value, tf.Tensor) or _tf.is_variable(value):
    return _of_tensor(value)
  if isinstance(value, tf.Operation):
    raise Unfit("an op is not a value")
  if _tf.is_keras_tensor(value):
    raise Unfit("a symbolic tensor of Keras is not a value; " + _TO_MODULE)
  if value is None:
    raise Unfit("None is not a value")
  if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
    raise Unfit("it is a masked array, and a mask cannot be fed; fill it")
  if isinstance(value, np.ndarray):
    return value
  try:
    array = np.asarray(value)
    if array.dtype.kind in "SU" and dtype.kind in "OSU":
      array = np.array(value, object)  # S and U drop zeros at the end.
  except Exception as error:  # pylint: disable=broad-except
    # Whatever the class of the value, or of one in it, raises.
    raise Unfit("it is not an array ({})".format(
        errors.first_line(error))) from None
  if array.dtype.kind == "O" and dtype.kind not in "OSU":
    raise Unfit("it is not an array of numbers (a {} with rows of different "
                "lengths, or with objects in it)".format(type(value).__name__))
  return array


def _of_tensor(value):
  """The array in an eager tensor or variable; refuses one of a graph.

  Where a `tf.GradientTape` watches it, there is a warning: what a session runs
  is not recorded.
  """
  if not _tf.is_eager(value):
    raise Unfit("a {} is not a value; {}".format(
        type(value).__name__,
        _TO_MODULE if _tf.is_function(value.graph) else
        "evaluate it first, or connect it in the graph"))
  if _tf.is_recorded(value):
    warnings.warn(errors.GradfeedWarning(
        "A tf.GradientTape watches a value that is given to a function of a "
        "legacy graph. No gradient is recorded there: the tape will give None. "
        "gradfeed.to_module(f) gives code that a tape can differentiate."),
                  stacklevel=lookup.stacklevel_of_caller())
  return _tf.eager_array(value)


def _of_numbers(array):
  """An array of objects as one of numbers, if all of them are; else as it is.

  Such is a column of a table whose columns have different dtypes.
  """
  if array.dtype.kind != "O" or not all(
      isinstance(item, (numbers.Number, np.bool_)) for item in array.flat):
    return array
  made = np.array(array.tolist())
  return made if made.dtype.kind in "biufc" else array


def _cast(array, dtype):
  """`array` in `dtype`; refuses to lose more than floating point precision."""
  if dtype.kind in "OSU":
    return _cast_to_strings(array)
  if array.dtype == dtype:
    return array if array.dtype is dtype else array.view(dtype)
  if array.dtype.kind == "O":
    array = _of_numbers(array)
  if array.dtype.kind not in "biufcV":
    raise Unfit("{} is not {}".format(
        "a string" if array.dtype.kind in "SU" else array.dtype.name,
        dtype.name))
  real = array
  if array.dtype.kind == "c" and dtype.kind != "c":
    _refuse(array.imag != 0, array, None, dtype)
    real = array.real
  with np.errstate(all="ignore"):
    try:
      cast = real.astype(dtype)
      if real.dtype.kind == dtype.kind == "f" and np.isfinite(cast).all():
        return cast
      if real.dtype.kind in "fcV" and dtype.kind in "fcV":
        bad = np.isfinite(real) & ~np.isfinite(cast)
      else:
        back = cast.real if dtype.kind == "c" else cast
        bad = (back.astype(real.dtype) != real) | (_sign(back) != _sign(real))
    except (TypeError, ValueError):
      raise Unfit("{} is not {}".format(array.dtype.name, dtype.name)) from None
  _refuse(bad, array, cast, dtype)
  return cast


def _cast_to_strings(array):
  """`array` as one of str or bytes objects; refuses any other element."""
  if array.dtype.kind not in "OSU" and array.size:  # [] has float64.
    raise Unfit("{} is not string".format(array.dtype.name))
  odd = [item for item in array.ravel().tolist()
         if not isinstance(item, (str, bytes))]
  if odd:
    raise Unfit("{!r} is not a string".format(odd[0]))
  return array.astype(object)


def _sign(array):
  """Where numbers are negative, as large unsigned ones may be after a cast."""
  return array < 0 if array.dtype.kind in "iuf" else np.False_


def _refuse(bad, array, cast, dtype):
  """Raises `Unfit` that names the first element where `bad`, if there is one.

  Args:
    bad: array of bool, for each element whether a cast changes it.
    array: the array before the cast.
    cast: the array after it, or None where an imaginary part would be lost.
    dtype: `np.dtype` of the cast.
  """
  if np.any(bad):
    first = np.unravel_index(np.argmax(bad), np.shape(bad))
    became = "would lose its imaginary part"
    if cast is not None:
      became = ("overflows to infinity" if np.isinf(cast[first])
                else "would become {!r}".format(cast[first].item()))
    raise Unfit("{!r} at {} {} in {}".format(
        array[first].item(), list(map(int, first)), became, dtype.name))


def split(leaf, value):
  """Splits the value for a leaf into the values of its dense tensors.

  Args:
    leaf: `tensors.Dense`, `tensors.Sparse` or `tensors.Partitioned`.
    value: what the caller passed for it.

  Returns:
    list with a value for each of `leaf.components()`.

  Raises:
    Unfit: with the reason.
  """
  if isinstance(leaf, tensors.Sparse):
    if isinstance(value, tf.SparseTensor):
      raise Unfit("a SparseTensor is not a value; pass a SparseTensorValue")
    value = _with_shape(leaf, value)
    _check_sparse(leaf, *map(np.asarray, value))
    return value[:len(leaf.components())]
  if isinstance(leaf, tensors.Partitioned):
    array = _as_array(value, _tf.numpy_dtype(leaf.dtype) or np.dtype("f4"))
    if not leaf.shape.is_compatible_with(array.shape):
      raise Unfit("shape {} does not fit {}".format(
          tensors.format_shape(array.shape), tensors.format_shape(leaf.shape)))
    return leaf.split(array)
  return [value]


def _with_shape(leaf, value):
  """The list [indices, values, dense_shape] of a value for a sparse tensor.

  The shape may be left out where the tensor has a static one.
  """
  is_sequence = isinstance(value, (tuple, list))
  if is_sequence and len(value) == 2 and leaf.shape.is_fully_defined():
    return list(value) + [np.array(leaf.shape.as_list(), np.int64)]
  if not is_sequence or len(value) != 3:
    raise Unfit("a sparse tensor takes a SparseTensorValue, or the tuple "
                "(indices, values, dense_shape)")
  return list(value)


def fit_all(leaves, slots, values, fit, split):
  """Checks one value for each leaf.

  Args:
    leaves: list of `tensors.Dense` and the like.
    slots: list of `Slot`, one for each dense tensor of the leaves.
    values: list of one value for each leaf.
    fit: function from a `Slot` and the value of one tensor to what to use.
    split: function from a leaf and its value to the values of its tensors.

  Returns:
    list of what `fit` returned, in the order of the slots.

  Raises:
    FeedError: lists every value for which one of the two raised `Unfit`.
  """
  results, problems = [], []
  remaining = iter(slots)
  for leaf, value in zip(leaves, values):
    own = [next(remaining) for _ in leaf.components()]
    try:
      results.extend(map(fit, own, split(leaf, value)))
    except Unfit as unfit:
      problems.append(Problem(leaf, str(unfit)))
  if problems:
    raise feed_error(problems)
  return results


def feed_error(problems):
  """One `FeedError` that lists every problem."""
  problems = list(problems)
  if len(problems) == 1:
    what = "Cannot feed {}: {}.".format(*problems[0]).replace("..", ".")
  else:
    what = "Cannot feed {} values:".format(len(problems)) + "".join(
        "\n    {}: {}".format(*problem) for problem in problems)
  return errors.FeedError(
      what, "A value is fed as it is or not at all: another shape, a lossy "
      "cast or a feed that nothing reads would give the derivative of "
      "something else.",
      "Pass, for each tensor named above, a value of the dtype and shape shown "
      "with it, or leave out what has no effect.")


def _check_sparse(leaf, indices, values, dense_shape):
  """Refuses arrays that are not a sparse tensor of the shape of `leaf`."""
  if indices.ndim != 2 or dense_shape.ndim != 1 or (
      indices.shape != (len(values) if values.ndim else -1,
                        len(dense_shape))):
    raise Unfit("indices {}, values {} and dense_shape {} do not belong to "
                "each other: [n, rank], [n] and [rank]".format(*map(
                    tensors.format_shape, (
                        indices.shape, values.shape, dense_shape.shape))))
  if not leaf.shape.is_compatible_with(dense_shape.tolist()):
    raise Unfit("dense_shape {} does not fit {}".format(
        dense_shape.tolist(), tensors.format_shape(leaf.shape)))
  outside = np.any((indices < 0) | (indices >= dense_shape), axis=1)
  if np.any(outside):
    raise Unfit("index {} lies outside of {}".format(
        indices[np.argmax(outside)].tolist(), dense_shape.tolist()))
