"""Derivatives from values alone, each with a bound on its error.

Central differences at steps that shrink by four, extrapolated as Richardson and
Ridders do, until estimates that follow each other agree. What does not settle,
and what has another slope to the left than to the right, says so.

C. J. F. Ridders, Accurate computation of F'(x) and F'(x)F''(x), 1982.
"""

import collections

import numpy as np

_RATIO = 4.0

_LEVELS = 3

#: Steps in units of the size of what moves. Where values have rounding errors
#: of 1e-16 small steps are best, and kinks nearby are stepped over; with 1e-7
#: they drown.
FINE_STEPS = tuple(2.0 ** -8 * _RATIO ** -k for k in range(11))
COARSE_STEPS = tuple(2.0 ** -1 * _RATIO ** -k for k in range(7))

#: A slope at a point: its value; a bound on the error, infinite if no estimate
#: was finite; whether the slopes on both sides differ; whether they do not come
#: closer to each other where the value was taken, as after a jump; and these.
Slope = collections.namedtuple(
    "Slope", ["value", "error", "has_kink", "is_rough", "left", "right"])

#: A direction to move in: a label for people, one array for each x; along a
#: single element, how far it moves, else None.
Direction = collections.namedtuple("Direction", ["label", "arrays", "length"])


def norm(direction):
  """The Euclidean length of a `Direction`; 1 if there is none."""
  return np.sqrt(sum(np.sum(np.abs(array) ** 2)
                     for array in direction.arrays)) or 1.0


def slopes(f, steps, noise, goal):
  """The slopes of the components of `f` at 0.

  Args:
    f: function from a float to a float64 array of shape [M].
    steps: sequence of floats, each a quarter of the one before.
    noise: float64 array [M], rounding errors that values of `f` have at least.
    goal: float64 array [M]; once all errors are below, no more steps are made.

  Returns:
    list of M `Slope`.
  """
  centre = f(0.0)
  tables = [_Table(*some) for some in zip(noise, goal)]
  for step in steps:
    above, below = f(step), f(-step)
    for i, table in enumerate(tables):
      table.add(step, above[i], centre[i], below[i])
    if all(table.is_settled() for table in tables):
      break
  return [table.slope() for table in tables]


class _Table:
  """The estimates of one slope, the largest step first."""

  def __init__(self, noise, goal):
    self._noise = noise
    self._goal = goal
    self._steps, self._jumps = [], []
    self._levels = [[] for _ in range(_LEVELS)]

  def add(self, step, above, centre, below):
    with np.errstate(all="ignore"):
      self._steps.append(step)
      self._jumps.append(((above - centre) - (centre - below)) / step)
      self._levels[0].append((above - below) / (2.0 * step))
      for level in range(1, _LEVELS):
        before = self._levels[level - 1][-2:]
        if len(before) < 2:
          break
        weight = _RATIO ** (2 * level)
        self._levels[level].append(
            (weight * before[1] - before[0]) / (weight - 1.0))

  def is_settled(self):
    value, error, _ = self._best()
    if not error <= self._goal or not np.isfinite(value):
      return False
    jumps = np.abs(self._jumps[-2:])
    return len(jumps) == 2 and (
        jumps[1] <= self._goal or jumps[1] < 0.5 * jumps[0])

  def _floor(self):
    """What rounding adds to a value, at the least and as it is seen."""
    plain, steps = self._levels[0], self._steps
    if len(steps) < 5:
      return self._noise
    seen = [abs(plain[k] - plain[k - 1]) * steps[k]
            for k in range(len(steps) - 3, len(steps))]
    return max(self._noise, 0.5 * float(np.median(seen)))

  def _best(self):
    """(value, error, index of the step) of the estimate to trust most."""
    best, floor = (np.nan, np.inf, len(self._steps) - 1), self._floor()
    for level, estimates in enumerate(self._levels):
      for k in range(2, len(estimates)):
        one, two, three = estimates[k - 2:k + 1]
        place = k + level
        error = (max(abs(three - two), abs(two - one) / _RATIO) +
                 2.0 * floor / self._steps[place])
        if error < best[1]:  # Never where one of them is not a number.
          best = three, error, place
    return best

  def slope(self):
    value, error, place = self._best()
    jump = self._jumps[place]
    is_rough = place > 0 and abs(jump) > max(
        0.6 * abs(self._jumps[place - 1]),
        16.0 * self._floor() / self._steps[place])
    return Slope(value, error, self._has_kink(value), is_rough,
                 value - 0.5 * jump, value + 0.5 * jump)

  def _has_kink(self, value):
    """Whether the slopes on both sides stay apart as the steps shrink."""
    if not np.isfinite(value):
      return False
    floor = self._floor()
    jumps = [abs(jump) for jump, step in zip(self._jumps, self._steps)
             if abs(jump) > 16.0 * floor / step]
    jumps = jumps[-3:]
    return len(jumps) == 3 and jumps[2] > 4.0 * self._goal and all(
        after > 0.6 * before for before, after in zip(jumps, jumps[1:]))


def inner(gradients, arrays):
  """How fast sum(y) changes along `arrays`, as the gradients say.

  Those by complex tensors are conjugated, as TensorFlow's are.
  """
  return float(sum(np.sum((np.conj(g) * v).real)
                   for g, v in zip(gradients, arrays)))


def size(gradients, arrays):
  """The root of the sum of squares of what `inner` adds up."""
  return float(np.sqrt(sum(np.sum(np.abs(g * v) ** 2)
                           for g, v in zip(gradients, arrays))))


def scale(value):
  """The root mean square of `value`, or 1 where that is none."""
  # Of half the size each, lest squares overflow.
  size_of_one = np.abs(np.asarray(value)).max() if np.size(value) else 0.0
  if not size_of_one or not np.isfinite(size_of_one):
    return 1.0
  return float(size_of_one * np.sqrt(np.mean(
      np.abs(value / size_of_one) ** 2)))


def directions(values, gradients, names, seed, randoms=3, largest=3, zeros=3):
  """Where to look: along the gradient, at random, along single elements.

  A random direction mixes all elements. An error in one of many is found along
  that element: those that matter most, and some that are said not to matter.

  Args:
    values: list of float64 or complex128 arrays, the point.
    gradients: list of arrays of the same shapes.
    names: list of str, one for each x.
    seed: int, for the generator of its own.
    randoms: int, how many random directions.
    largest: int, how many elements with the largest gradients.
    zeros: int, how many elements whose gradient is exactly zero.

  Returns:
    list of `Direction`.
  """
  generator = np.random.RandomState(seed)
  sizes = [scale(value) for value in values]
  found = [Direction("the gradient", [
      _along(g, length, generator)
      for g, length in zip(gradients, sizes)], None)]
  for k in range(randoms):
    found.append(Direction("direction {}".format(k + 1), [
        _random(value, length, generator)
        for value, length in zip(values, sizes)], None))
  weights = np.concatenate([
      np.abs(g).ravel() * length for g, length in zip(gradients, sizes)])
  if len(weights) > 1:
    order = np.argsort(-weights, kind="stable")[:largest]
    places = [place for place in order if weights[place] > 0]
    flat = np.flatnonzero(weights == 0)
    if len(flat):
      places += sorted(generator.choice(
          flat, min(zeros, len(flat)), replace=False))
    found += [_element(values, names, sizes, place) for place in places]
  return found


def _signs(value, generator):
  signs = np.where(generator.uniform(size=np.shape(value)) < 0.5, -1.0, 1.0)
  if np.iscomplexobj(value):
    return signs * np.exp(1j * generator.uniform(size=np.shape(value)))
  return signs


def _random(value, length, generator):
  return length * _signs(value, generator) * generator.uniform(
      0.5, 1.5, size=np.shape(value))


def _along(gradient, length, generator):
  """Up the gradient, every element as far; at random where it is zero."""
  size_of_each = np.abs(gradient)
  signs = _signs(gradient, generator)
  with np.errstate(all="ignore"):
    return length * np.where(
        size_of_each > 0, gradient / np.maximum(size_of_each, 1e-300), signs)


def _element(values, names, sizes, place):
  arrays = [np.zeros_like(value) for value in values]
  for value, name, length, array in zip(values, names, sizes, arrays):
    if place < value.size:
      index = np.unravel_index(place, value.shape)
      array[index] = length * (0.6 + 0.8j if np.iscomplexobj(value) else 1.0)
      label = "'{}'[{}]".format(name, ", ".join(map(str, index)))
      return Direction(label if index else "'{}'".format(name), arrays, length)
    place -= value.size
  raise IndexError(place)
