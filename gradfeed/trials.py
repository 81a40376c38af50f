"""A gradient held against differences, in one direction after the other."""

import collections

import numpy as np

from gradfeed import differences

RIGHT, WRONG, UNDECIDABLE = "right", "wrong", "undecidable"

#: How far a bound on the error of a difference is trusted.
_SAFETY = 5.0

#: A difference that is known no better than this settles nothing.
_USEFUL = 0.02

#: One direction: what the gradient says, what the differences say; how far
#: they may be apart; `kink` and `noise` are why it is undecidable, if it is.
Trial = collections.namedtuple("Trial", [
    "label", "gradient", "difference", "tolerance", "size", "verdict", "kink"])


def relative(eps):
  """How far a gradient may be off that was computed with a rounding of eps."""
  for precision, tolerance in ((1e-12, 1e-6), (1e-5, 1e-3), (2e-3, 0.05)):
    if eps < precision:
      return tolerance
  return 0.2


class Differences:
  """Slopes of a function from x to numbers along directions.

  Attributes:
    noise: float, rounding errors of its values.
    unseen: float, slopes that are lost in these.
  """

  def __init__(self, f, values, gradients, eps, rounds):
    """Prepares.

    Args:
      f: function from a list of arrays to the list of the values of y.
      values: list of arrays, the point.
      gradients: list of arrays; what x is off when it is rounded is put right
        by them.
      eps: float, the rounding of the numbers that `f` computes with.
      rounds: function from a list of float64 arrays to what `f` can take.
    """
    self._f = f
    self._values = [_broad(value) for value in values]
    self._gradients = gradients
    self._rounds = rounds
    self._steps = (differences.FINE_STEPS if eps < 1e-12
                   else differences.COARSE_STEPS)
    self.noise = eps * sum(
        float(np.sum(np.abs(_broad(y)))) for y in f(rounds(self._values)))
    self.unseen = self.noise * (1e6 if eps < 1e-12 else 100.0)

  def slope(self, direction, goal):
    """The `differences.Slope` along a `differences.Direction`."""

    def moved(step):
      wanted = [value + step * array for value, array in zip(
          self._values, direction.arrays)]
      given = self._rounds(wanted)
      total = sum(float(np.sum(_broad(y).real)) for y in self._f(given))
      return np.array([total - differences.inner(self._gradients, [
          _broad(is_at) - should for is_at, should in zip(given, wanted)])])

    return differences.slopes(
        moved, self._steps, np.array([self.noise]), np.array([goal]))[0]


def _broad(array):
  array = np.asarray(array)
  return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def broad(arrays):
  """Arrays as float64 or complex128."""
  return [_broad(array) for array in arrays]


def run(source, gradients, directions, eps):
  """Holds gradients against differences.

  Args:
    source: `Differences`, or what has its `slope`, `noise` and `unseen`.
    gradients: list of float64 arrays.
    directions: list of `differences.Direction`.
    eps: float, the rounding that the gradients were computed with.

  Returns:
    list of `Trial`.
  """
  usual = [differences.size(gradients, direction.arrays)
           for direction in directions if not is_element(direction)]
  count = sum(np.size(g) for g in gradients)
  least = 1e-3 * max(usual) / np.sqrt(max(count, 1))
  found = []
  for direction in directions:
    expected = differences.inner(gradients, direction.arrays)
    size = max(differences.size(gradients, direction.arrays), abs(expected),
               least)
    allowed = relative(eps) * size
    slope = source.slope(direction, max(0.05 * allowed, source.noise))
    found.append(judge(direction, expected, slope, size, allowed, source))
  return found


def is_element(direction):
  return direction.label.startswith("'")


def judge(direction, expected, slope, size, allowed, source):
  """The `Trial` for one slope."""
  tolerance = allowed + _SAFETY * slope.error
  verdict = RIGHT
  if slope.has_kink and abs(slope.right - slope.left) > allowed:
    verdict = UNDECIDABLE
  elif not slope.error <= max(_USEFUL * max(size, abs(slope.value)),
                              source.unseen):
    verdict = UNDECIDABLE
  elif not abs(slope.value - expected) <= tolerance:
    verdict = WRONG
  return Trial(direction.label, expected, slope.value, tolerance, size,
               verdict, slope if slope.has_kink else None)


def verdict_of(found):
  """The verdict of all trials: one that is wrong is enough.

  Single elements that settle nothing do not count: their part in y may be too
  small to be seen. But a kink does.
  """
  if any(trial.verdict == WRONG for trial in found):
    return WRONG
  if any(trial.verdict == UNDECIDABLE and (
      trial.kink or not trial.label.startswith("'")) for trial in found):
    return UNDECIDABLE
  return RIGHT
