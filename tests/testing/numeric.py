"""Derivatives from the values of a function alone, in float64."""

import numpy as np


def central_differences(f, x, step=1e-6):
  """The gradient of a scalar function, two values for each element of `x`.

  Args:
    f: function from a float64 array of the shape of `x` to a number.
    x: float64 array-like, the point.
    step: float, added to and taken from each element in turn. The result is
      off by about the square of it, and by 1e-16 times |f| over it.

  Returns:
    float64 array of the shape of `x`.
  """
  x = np.array(x, np.float64)
  result = np.zeros(x.shape, np.float64)
  for index in np.ndindex(x.shape):
    above, below = x.copy(), x.copy()
    above[index] += step
    below[index] -= step
    result[index] = (float(f(above)) - float(f(below))) / (
        above[index] - below[index])
  return result
