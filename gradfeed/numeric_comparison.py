"""Whether arrays are the same: to the bit, but for rounding, within a bound.

These compare whole arrays that should be equal. Two places ask something else
and do so themselves: `checking.comparisons` looks for the one element that is
farthest beyond a bound of its own, and `streaming` for rows that differ.
"""

import numpy as np

#: How precise a number is of which NumPy knows no more than its size: bfloat16.
_OF_UNKNOWN_PRECISION = 0.1


def has_same_bits(a, b):
  """Whether two arrays have the same shape and the same bytes.

  NaN is the same as the same NaN, and -0.0 is not the same as 0.0.

  Args:
    a: array, or what NumPy makes one of.
    b: the same.

  Returns:
    bool.
  """
  a, b = np.asarray(a), np.asarray(b)
  if a.shape != b.shape or a.dtype != b.dtype or a.dtype.kind == "O":
    return a.shape == b.shape and a.tobytes() == b.tobytes()
  # Without copies: results may be large.
  a, b = [np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (a, b)]
  return np.array_equal(a, b)


def is_close(a, b):
  """Whether two arrays are equal but for half of the digits of their dtype.

  Integers, booleans and strings have to be equal.

  Args:
    a: array, whose dtype says how many digits there are.
    b: array of the same dtype.

  Returns:
    bool; False where the shapes differ. Infinities and NaN have to be in the
    same places.
  """
  if a.dtype.kind not in "fcV":
    return np.array_equal(a, b)
  return is_within(a, b, _OF_UNKNOWN_PRECISION if a.dtype.kind == "V" else
                   np.sqrt(np.finfo(a.dtype).eps))


def is_within(a, b, tolerance, size=None):
  """Whether each element of two arrays is the same but for a tolerance.

  Args:
    a: array of floating or complex numbers.
    b: the same.
    tolerance: float, how far two elements may be apart, in units of the element
      and of `size`, added up.
    size: float, the size of the numbers at large; None for `largest([a])`.

  Returns:
    bool; False where the shapes differ. Infinities and NaN have to be in the
    same places.
  """
  if np.shape(a) != np.shape(b):
    return False
  size = largest([a]) if size is None else size
  with np.errstate(all="ignore"):
    return bool(np.allclose(a, b, tolerance, tolerance * size, equal_nan=True))


def largest(arrays):
  """The largest absolute value of the finite elements of `arrays`, or 0."""
  with np.errstate(all="ignore"):
    return max([np.max(np.abs(array[np.isfinite(array)]), initial=0)
                for array in map(np.asarray, arrays)] or [0])
