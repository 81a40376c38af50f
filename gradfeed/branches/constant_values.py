"""Values of ops whose inputs are known, computed with NumPy.

Only ops that make predicates of flags are here: whatever is not certain has no
value. TensorFlow's own evaluation of constants would make the tensors that it
looks at unfeedable.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf

#: How many elements a value may have.
MOST_ELEMENTS = 64

#: Ops that hand the value of their first input on.
_PASSING = frozenset([
    "Enter", "Identity", "PlaceholderWithDefault", "PreventGradient",
    "RefEnter", "RefIdentity", "RefSwitch", "Snapshot", "StopGradient",
    "Switch"])

#: Functions of two arrays that give bools.
_COMPARISONS = {
    "Equal": np.equal, "NotEqual": np.not_equal, "Greater": np.greater,
    "GreaterEqual": np.greater_equal, "Less": np.less,
    "LessEqual": np.less_equal, "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or}

#: Functions of two arrays, that are exact for integers alone.
_ARITHMETIC = {
    "Add": np.add, "AddV2": np.add, "Sub": np.subtract, "Mul": np.multiply,
    "Maximum": np.maximum, "Minimum": np.minimum, "FloorMod": np.mod}

#: Functions of an array and of axes.
_REDUCTIONS = {"All": np.all, "Any": np.any, "Max": np.max, "Min": np.min,
               "Sum": np.sum}

#: The value of one input that decides the result whatever the other is.
_DECISIVE = {"LogicalAnd": False, "LogicalOr": True}

#: The types of all ops that have a value here.
TYPES = _PASSING.union(_COMPARISONS, _ARITHMETIC, _REDUCTIONS, [
    "Cast", "Const", "LogicalNot", "Reshape", "Select", "SelectV2", "Squeeze"])


def evaluate(op_type, values, attribute):
  """The value of an op, as far as it is certain.

  Args:
    op_type: str.
    values: list with an `np.ndarray`, or None where it is not known, for each
      input of the op.
    attribute: function from the name of an attribute to its AttrValue.

  Returns:
    `np.ndarray`, or None.
  """
  if op_type == "Const":
    return _small(_constant(attribute))
  if op_type in _PASSING:
    return values[0]
  if op_type in _DECISIVE and any(value is None for value in values):
    decisive = _DECISIVE[op_type]
    if any(value is not None and not np.ndim(value) and
           bool(value) == decisive for value in values):
      return np.array(decisive)
  if op_type in ("Select", "SelectV2"):
    return _selected(op_type, values)
  if not values or any(value is None for value in values):
    return None
  try:
    with np.errstate(all="ignore"):
      return _small(_computed(op_type, values, attribute))
  except (ValueError, TypeError, IndexError, OverflowError):
    return None  # TensorFlow may refuse it too.


def _constant(attribute):
  """The array of a constant; None if it is large."""
  proto = attribute("value").tensor
  count = 1
  for dim in proto.tensor_shape.dim:
    count *= dim.size
  if count > MOST_ELEMENTS or _tf.numpy_dtype(tf.as_dtype(proto.dtype)) is None:
    return None
  return tf.make_ndarray(proto)


def _small(value):
  """`value`, unless it is too large to be looked at."""
  return value if value is not None and value.size <= MOST_ELEMENTS else None


def _selected(op_type, values):
  """The value of Select, whose condition may be all that is known."""
  condition, then, otherwise = values
  if condition is None or np.ndim(condition):
    return None
  chosen, other = (then, otherwise) if condition else (otherwise, then)
  if chosen is None or op_type == "Select":
    return chosen  # Both have one shape.
  if other is None:
    return None if chosen.ndim else chosen
  try:
    return np.broadcast_arrays(chosen, other)[0]
  except ValueError:
    return None


def _computed(op_type, values, attribute):
  """The value of an op all of whose inputs are known, or None."""
  first = values[0]
  if op_type == "LogicalNot":
    return np.logical_not(first)
  if op_type in _COMPARISONS:
    return np.asarray(_COMPARISONS[op_type](*values), np.bool_)
  if op_type in _ARITHMETIC:
    exact = first.dtype.kind in "iu" and (
        op_type != "FloorMod" or np.all(values[1]))
    return np.asarray(_ARITHMETIC[op_type](*values)) if exact else None
  if op_type in _REDUCTIONS:
    if first.dtype.kind not in "biu":
      return None
    keep_dims = attribute("keep_dims").b
    return np.asarray(_REDUCTIONS[op_type](
        first, axis=tuple(np.ravel(values[1])), keepdims=keep_dims),
                      first.dtype)
  if op_type == "Cast":
    return None if attribute("Truncate").b else _cast(
        first, _tf.numpy_dtype(tf.as_dtype(attribute("DstT").type)))
  if op_type == "Reshape":
    return np.reshape(first, values[1])
  if op_type == "Squeeze":
    axes = tuple(attribute("squeeze_dims").list.i)
    return np.squeeze(first, axes or None)
  return None


def _cast(value, dtype):
  """`value` cast to `dtype`; None where that is not exact, or not numeric."""
  if dtype is None or not all(
      kind in "biuf" for kind in (value.dtype.kind, dtype.kind)):
    return None
  if value.dtype.kind == "f" and dtype.kind != "b":
    if not np.all(np.isfinite(value)):
      return None
    # What a number becomes that is out of range depends on the machine.
    if dtype.kind in "iu" and value.size and not (
        np.iinfo(dtype).min <= value.min() and
        value.max() < float(np.iinfo(dtype).max)):
      return None
  return value.astype(dtype)


def comparable(value):
  """An array of a value that is held, in the form that constants have.

  Args:
    value: array of a dtype that TensorFlow knows, or None.

  Returns:
    `np.ndarray`, strings as an object array of bytes; None if it is too large,
    or of floating numbers, which decide by what is computed from them.
  """
  array = np.asarray(value)
  if value is None or array.size > MOST_ELEMENTS or array.dtype.kind in "fc":
    return None
  if array.dtype.kind not in "OSU":
    return array if array.dtype.kind in "biu" else None
  result = np.empty(array.size, object)
  result[:] = [item.encode() if isinstance(item, str) else item
               for item in array.astype(object).ravel()]
  return result.reshape(array.shape)


def token(value):
  """A hashable that stands for a value, or for None."""
  if value is None:
    return None
  return (value.dtype.str, value.shape,
          tuple(value.ravel().tolist()) if value.dtype.kind == "O" else
          value.tobytes())


def same(one, other):
  """Whether two values, each an array or None, are the same."""
  return token(one) == token(other)


def truth(value):
  """Whether a branch is taken whose predicate is `value`, as a bool."""
  if value.ndim:
    return value.size > 0
  return len(value.item()) > 0 if value.dtype.kind == "O" else bool(value)
