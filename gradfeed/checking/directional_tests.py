"""Compares a gradient with finite differences, direction by direction."""

import collections

import numpy as np

from gradfeed.checking import budgets
from gradfeed.checking import finite_differences

RIGHT, WRONG, UNDECIDABLE = "right", "wrong", "undecidable"

#: How many times the bound on the error of a difference the error may be.
_SAFETY = 5.0

#: How many times the change that rounding x makes in a gradient, as measured at
#: a few points, the gradient may be off because of it.
_SPREAD = 30.0

#: With a larger relative error a difference decides nothing.
_USEFUL = 0.02

#: The test of one direction: the slopes by the gradient and by differences; how
#: far apart they may be; the size of the terms that the gradient adds up there,
#: 0 where that is lost in the rounding of y; the verdict; the
#: `finite_differences.Slope` where there is a kink, else None; the bound on the
#: error of the difference.
DirectionalTest = collections.namedtuple("DirectionalTest", [
    "direction", "gradient", "difference", "tolerance", "size", "verdict",
    "kink", "error"])


def relative_tolerance(eps):
  """The relative error that a gradient may have that is rounded to `eps`."""
  for precision, tolerance in ((1e-12, 1e-6), (1e-5, 1e-3), (2e-3, 0.05)):
    if eps < precision:
      return tolerance
  return 0.2


class Differences:
  """Slopes of sum(f(x)) at a point, from finite differences.

  Attributes:
    noise: float, the rounding error of a value of sum(f(x)).
    resolution: float; a slope below is lost in these errors.
  """

  def __init__(self, f, values, gradients, eps, rounded, cancelled=0.0):
    """Evaluates `f` once, at the point.

    Args:
      f: function from a list of arrays to the list of the values of y.
      values: list of arrays, the point.
      gradients: list of arrays, to correct f(x) for the rounding of x.
      eps: float, the rounding of the numbers that `f` computes with.
      rounded: function from a list of float64 arrays to what `f` takes.
      cancelled: float, the size of larger numbers that cancel in `f`.
    """
    self._f = f
    self._values = [_in_float64(value) for value in values]
    self._gradients = gradients
    self._rounded = rounded
    self._steps = (finite_differences.FINE_STEPS if eps < 1e-12
                   else finite_differences.COARSE_STEPS)
    self._last = {}  # Slopes by whether the direction is a single element.
    ys = to_float64(f(rounded(self._values)))
    self._total_at_point = sum(float(np.sum(y.real)) for y in ys)
    self.noise = eps * (cancelled + sum(float(np.sum(np.abs(y))) for y in ys))
    self.resolution = self.noise * (1e6 if eps < 1e-12 else 100.0)

  def slope(self, direction, goal, least_kink=0.0):
    """The slope along a direction.

    Args:
      direction: `finite_differences.Direction`.
      goal, least_kink: floats, as in `finite_differences.slopes`.

    Returns:
      `finite_differences.Slope`.
    """

    def corrected_value(step):
      exact = [value + step * array for value, array in zip(
          self._values, direction.arrays)]
      given = self._rounded(exact)
      total = self._total(given) if step else self._total_at_point
      return np.array([total - finite_differences.inner(self._gradients, [
          _in_float64(taken) - value for taken, value in zip(given, exact)])])

    is_element = direction.length is not None
    slope = finite_differences.slopes(
        corrected_value, self._steps, np.array([self.noise]),
        np.array([goal]), finite_differences.first_step(
            self._steps, self.noise, goal, self._last.get(is_element)),
        least_kink)[0]
    self._last[is_element] = slope
    return slope

  def _total(self, xs):
    """The sum of f(xs)."""
    return sum(float(np.sum(_in_float64(y).real)) for y in self._f(xs))


def _in_float64(array):
  array = np.asarray(array)
  return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def to_float64(arrays):
  """The list of `arrays` as float64, or complex128 if they are complex."""
  return [_in_float64(array) for array in arrays]


def run(source, gradients, directions, eps, budget=None):
  """Compares the slope by gradients with differences in each direction.

  Args:
    source: `Differences`.
    gradients: list of float64 arrays, one for each x.
    directions: list of `finite_differences.Direction`.
    eps: float, the rounding that the gradients were computed with.
    budget: `budgets.Budget` in which the directions are counted, and that ends
      the comparison when it is spent; or None to raise `budgets.OutOfTime`.

  Returns:
    list of `DirectionalTest`, in the order of `directions`; those that there
    was no time for are left out.
  """
  sizes = [finite_differences.size(gradients, direction.arrays)
           for direction in directions if direction.length is None]
  count = sum(np.size(g) for g in gradients)
  smallest = 1e-3 * max(sizes) / np.sqrt(max(count, 1))
  tests = {}
  for i in finite_differences.most_telling_first(directions, gradients):
    direction = directions[i]
    expected = finite_differences.inner(gradients, direction.arrays)
    size = max(finite_differences.size(gradients, direction.arrays),
               abs(expected), smallest)
    allowed = relative_tolerance(eps) * size
    try:
      slope = source.slope(
          direction, max(0.05 * allowed, source.noise), allowed)
    except budgets.OutOfTime:
      if budget is None:
        raise
      break
    tests[i] = _test_slope(
        direction, expected, slope, size, allowed, source.resolution)
    if budget is not None:
      budget.compared += 1
  return [test for _, test in sorted(tests.items())]


def _test_slope(direction, expected, slope, size, allowed, resolution):
  """Compares one slope with that of the gradient.

  Args:
    direction: `finite_differences.Direction`.
    expected: float, the slope by the gradient.
    slope: `finite_differences.Slope`.
    size: float, of the terms that the gradient adds up.
    allowed: float, how far the gradient may be off.
    resolution: float, the smallest slope that differences show.

  Returns:
    `DirectionalTest`.
  """
  tolerance = allowed + _SAFETY * slope.error
  jump = abs(slope.right - slope.left)
  has_kink = slope.has_kink and jump > allowed and slope.error < 0.1 * jump
  verdict = RIGHT
  if has_kink or slope.is_rough and jump > allowed or not slope.error <= max(
      _USEFUL * max(size, abs(slope.value)), resolution):
    verdict = UNDECIDABLE
  elif not abs(slope.value - expected) <= tolerance:
    verdict = WRONG
  is_seen = max(size, abs(slope.value)) > resolution
  return DirectionalTest(direction, expected, slope.value, tolerance,
                         size if is_seen else 0.0, verdict,
                         slope if has_kink else None, slope.error)


def excuse_rounding_of_x(tests, gradients, gradients_nearby):
  """Makes wrong tests undecidable where the rounding of x explains them.

  Args:
    tests: list of `DirectionalTest`.
    gradients: list of arrays, one for each x.
    gradients_nearby: list of such lists, at points within the rounding of x.

  Returns:
    list of `DirectionalTest`.
  """
  result = []
  for test in tests:
    arrays = test.direction.arrays
    spread = max(abs(finite_differences.inner(
        [a - b for a, b in zip(other, gradients)], arrays))
                 for other in gradients_nearby)
    if test.verdict == WRONG and (
        abs(test.gradient - test.difference) <=
        test.tolerance + _SPREAD * spread):
      test = test._replace(verdict=UNDECIDABLE, error=_SPREAD * spread)
    result.append(test)
  return result


def points_nearby(values, eps, seed, count=3):
  """Random points within a few roundings of a point.

  Args:
    values: list of arrays, one for each x.
    eps: float, the relative rounding error of x.
    seed: int.
    count: int, how many points.

  Returns:
    list of `count` lists of arrays.
  """
  generator = np.random.RandomState(seed)
  return [[value + 4.0 * eps * generator.uniform(
      -1.0, 1.0, size=np.shape(value)) * np.where(
          np.abs(value) > 0, np.abs(value), finite_differences.scale(value))
           for value in values] for _ in range(count)]


def leaves_verdict_open(test):
  """Whether the verdict is undecidable if this undecidable test is.

  That of a single element is left out, unless it shows a kink: it may have too
  small an effect on y.
  """
  return test.kink is not None or test.direction.length is None


def verdict_of(tests):
  """The verdict of a list of `DirectionalTest`: one that is wrong decides."""
  if any(test.verdict == WRONG for test in tests):
    return WRONG
  if any(test.verdict == UNDECIDABLE and leaves_verdict_open(test)
         for test in tests):
    return UNDECIDABLE
  return RIGHT
