"""A gradient held against differences, in one direction after the other."""

import collections

import numpy as np

from gradfeed.checking import finite_differences

RIGHT, WRONG, UNDECIDABLE = "right", "wrong", "undecidable"

#: How far a bound on the error of a difference is trusted.
_SAFETY = 5.0

#: How many times what rounding x does to a gradient it may do by itself.
_SPREAD = 30.0

#: A difference that is known no better than this settles nothing.
_USEFUL = 0.02

#: One direction: what the gradient says, what the differences say; how far
#: they may be apart; the size of what the gradient adds up there, 0 where that
#: is lost in the rounding of y; why it is undecidable: a kink, or the error of
#: the difference.
DirectionalTest = collections.namedtuple("Trial", [
    "direction", "gradient", "difference", "tolerance", "size", "verdict",
    "kink", "error"])


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

  def __init__(self, f, values, gradients, eps, rounds, hidden=0.0):
    """Prepares.

    Args:
      f: function from a list of arrays to the list of the values of y.
      values: list of arrays, the point.
      gradients: list of arrays; what x is off when it is rounded is put right
        by them.
      eps: float, the rounding of the numbers that `f` computes with.
      rounds: function from a list of float64 arrays to what `f` can take.
      hidden: float, the size of numbers that its values are the rest of.
    """
    self._f = f
    self._values = [_broad(value) for value in values]
    self._gradients = gradients
    self._rounds = rounds
    self._steps = (finite_differences.FINE_STEPS if eps < 1e-12
                   else finite_differences.COARSE_STEPS)
    self.noise = eps * (hidden + sum(
        float(np.sum(np.abs(_broad(y)))) for y in f(rounds(self._values))))
    self.unseen = self.noise * (1e6 if eps < 1e-12 else 100.0)

  def slope(self, direction, goal):
    """The `finite_differences.Slope` along a `finite_differences.Direction`."""

    def moved(step):
      wanted = [value + step * array for value, array in zip(
          self._values, direction.arrays)]
      given = self._rounds(wanted)
      total = sum(float(np.sum(_broad(y).real)) for y in self._f(given))
      return np.array([total - finite_differences.inner(self._gradients, [
          _broad(is_at) - should for is_at, should in zip(given, wanted)])])

    return finite_differences.slopes(
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
    directions: list of `finite_differences.Direction`.
    eps: float, the rounding that the gradients were computed with.

  Returns:
    list of `DirectionalTest`.
  """
  usual = [finite_differences.size(gradients, direction.arrays)
           for direction in directions if direction.length is None]
  count = sum(np.size(g) for g in gradients)
  least = 1e-3 * max(usual) / np.sqrt(max(count, 1))
  found = []
  for direction in directions:
    expected = finite_differences.inner(gradients, direction.arrays)
    size = max(finite_differences.size(gradients, direction.arrays),
               abs(expected), least)
    allowed = relative(eps) * size
    slope = source.slope(direction, max(0.05 * allowed, source.noise))
    found.append(judge(direction, expected, slope, size, allowed, source))
  return found


def judge(direction, expected, slope, size, allowed, source):
  """The `DirectionalTest` for one slope."""
  tolerance = allowed + _SAFETY * slope.error
  jump = abs(slope.right - slope.left)
  has_kink = slope.has_kink and jump > allowed and slope.error < 0.1 * jump
  verdict = RIGHT
  if has_kink or slope.is_rough and jump > allowed or not slope.error <= max(
      _USEFUL * max(size, abs(slope.value)), source.unseen):
    verdict = UNDECIDABLE
  elif not abs(slope.value - expected) <= tolerance:
    verdict = WRONG
  is_seen = max(size, abs(slope.value)) > source.unseen
  return DirectionalTest(direction, expected, slope.value, tolerance,
                         size if is_seen else 0.0, verdict,
                         slope if has_kink else None, slope.error)


def eased(found, gradients, others):
  """The trials, where what the gradient is depends on how x is rounded.

  Args:
    found: list of `DirectionalTest`.
    gradients: list of arrays.
    others: list of the gradients at points within the rounding of x.

  Returns:
    list of `DirectionalTest`, undecidable instead of wrong where that explains
    it.
  """
  result = []
  for trial in found:
    arrays = trial.direction.arrays
    spread = max(abs(finite_differences.inner(
        [a - b for a, b in zip(other, gradients)], arrays))
                 for other in others)
    if trial.verdict == WRONG and (
        abs(trial.gradient - trial.difference) <=
        trial.tolerance + _SPREAD * spread):
      trial = trial._replace(verdict=UNDECIDABLE, error=_SPREAD * spread)
    result.append(trial)
  return result


def nearby(values, eps, seed, count=3):
  """Points that differ from `values` by some roundings."""
  generator = np.random.RandomState(seed)
  return [[value + 4.0 * eps * generator.uniform(
      -1.0, 1.0, size=np.shape(value)) * np.where(
          np.abs(value) > 0, np.abs(value), finite_differences.scale(value))
           for value in values] for _ in range(count)]


def matters(trial):
  """Whether an undecidable trial leaves the verdict open.

  A single element may have too small a part in y to be seen; a kink is one.
  """
  return trial.kink is not None or trial.direction.length is None


def verdict_of(found):
  """The verdict of all trials: one that is wrong is enough."""
  if any(trial.verdict == WRONG for trial in found):
    return WRONG
  if any(trial.verdict == UNDECIDABLE and matters(trial) for trial in found):
    return UNDECIDABLE
  return RIGHT
