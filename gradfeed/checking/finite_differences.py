"""Slopes from finite differences, each with a bound on its error.

Central differences at steps that shrink by four, extrapolated as Richardson and
Ridders do, until estimates that follow each other agree. A `Slope` says whether
they do not, and whether the slopes to the left and to the right differ.

C. J. F. Ridders, Accurate computation of F'(x) and F'(x)F''(x), 1982.
"""

import collections

import numpy as np

#: One step divided by the next.
_RATIO = 4.0

#: Differences, and how many times they are extrapolated, plus one.
_LEVELS = 3

#: Steps in units of the size of x. Where values have rounding errors of 1e-16
#: small steps are best, as they do not reach a kink nearby; with errors of 1e-7
#: small differences are lost.
FINE_STEPS = tuple(2.0 ** -8 * _RATIO ** -k for k in range(11))
COARSE_STEPS = tuple(2.0 ** -1 * _RATIO ** -k for k in range(7))

#: How many steps have to make nothing better before an error is taken as it is.
_PATIENCE = 2

#: How many times what does not matter an error may be that kinks are the reason
#: of, for the larger steps to be left out.
_USEFUL = 1e3

#: How many steps show the rounding error of a value. After these, smaller steps
#: whose rounding error alone is too large are left out.
_ENOUGH = 5

#: The index of the fine step to begin with where nothing is known.
_FIRST = 4

#: A slope at a point: its value; a bound on the error, infinite if no estimate
#: was finite; whether the slopes to the left and to the right stay apart as the
#: steps shrink (a kink); whether they did not come closer at the last step that
#: was used (a jump, or noise); the slopes to the left and to the right; the
#: smallest step that the value was taken from.
Slope = collections.namedtuple("Slope", [
    "value", "error", "has_kink", "is_rough", "left", "right", "step"])

#: A direction in the space of all x: a label for messages; one array for each
#: x; where it is a single element, the size of the x it is in, else None.
Direction = collections.namedtuple("Direction", ["label", "arrays", "length"])


def norm(direction):
  """The Euclidean length of a `Direction`; 1 if there is none."""
  return np.sqrt(sum(np.sum(np.abs(array) ** 2)
                     for array in direction.arrays)) or 1.0


def slopes(f, steps, noise, goal, first=0, least_kink=0.0):
  """Estimates the slopes of the components of `f` at 0.

  Args:
    f: function from a float to a float64 array of shape [M].
    steps: sequence of floats, each a quarter of the one before.
    noise: float64 array [M], the least rounding error of a value of `f`.
    goal: float64 array [M], bounds on the errors that are good enough.
    first: int, the index of the step to begin with. Smaller ones follow, and
      then those that were left out, until all estimates have settled, or are
      good enough and become no better.
    least_kink: float, below which it does not matter how far the slopes to the
      left and to the right are apart.

  Returns:
    list of M `Slope`.
  """
  centre = f(0.0)
  taken = []  # (step, values above, values below), the largest step first.
  low = high = first  # The steps from `low` to `high`, exclusive, are taken.
  goes_up = False
  best, since = np.inf, 0  # The least error, and for how many steps it was so.
  while low > 0 or high < len(steps):
    k = low - 1 if high == len(steps) or goes_up and low > 0 else high
    taken.insert(k - low if k >= low else 0, (
        steps[k], f(steps[k]), f(-steps[k])))
    low, high = min(low, k), max(high, k + 1)
    estimates = [
        _Estimates(*limits, max(limits[1], least_kink)).added(
            (step, above[i], centre[i], below[i])
            for step, above, below in taken)
        for i, limits in enumerate(zip(noise, goal))]
    error = max(estimate.error() for estimate in estimates)
    best, since = (error, 0) if error < 0.7 * best else (best, since + 1)
    is_smooth = all(estimate.is_smooth() for estimate in estimates)
    if is_smooth and (
        all(estimate.is_settled(since >= _PATIENCE) for estimate in estimates)
        or low == 0 and _is_hopeless(steps, high, max(noise), error)):
      break
    is_noisy = all(estimate.is_noisy() for estimate in estimates)
    if high == len(steps) == len(FINE_STEPS) and len(taken) >= _ENOUGH and (
        error <= _USEFUL * least_kink) and (
            since >= _PATIENCE or not is_noisy):
      break  # Larger steps cross more kinks.
    goes_up = all(
        is_noisy or is_smooth and since > 0 and
        estimate.is_settled(True) and estimate.is_best_before_the_end()
        for estimate in estimates)
  return [estimate.slope() for estimate in estimates]


def _is_hopeless(steps, count, noise, error):
  """Whether steps after the first `count` cannot make an error smaller."""
  return _ENOUGH <= count < len(steps) == len(FINE_STEPS) and (
      _margin(noise, steps[count]) > error)


def first_step(steps, noise, goal, slope=None):
  """The index of the step to begin with.

  Args:
    steps: sequence of floats, as in `slopes`.
    noise: float, the rounding error of a value.
    goal: float, the error of a slope that is good enough.
    slope: `Slope` of the same function in a direction of the same kind, or
      None if there is none yet.

  Returns:
    int: of a small step, where kinks are seldom near enough to be crossed, or
    of those that the other slope was found with; of a larger one where the
    rounding error of smaller ones would be too large.
  """
  if len(steps) < len(FINE_STEPS):
    return 0
  wanted = _FIRST if slope is None else steps.index(slope.step) - _LEVELS + 1
  while wanted > 0 and _margin(
      noise, steps[wanted + _LEVELS - 1]) > 0.25 * goal:
    wanted -= 1
  return max(wanted, 0)


def _margin(noise, step):
  """How far rounding may move an estimate with this step."""
  return 2.0 * noise / step


class _Estimates:
  """Estimates of one slope: a list for each level, the largest step first."""

  def __init__(self, noise, goal, least_kink):
    """Has no estimate yet; the arguments are floats, as in `slopes`."""
    self._noise = noise
    self._goal = goal
    self._least_kink = least_kink
    self._steps, self._jumps = [], []
    self._levels = [[] for _ in range(_LEVELS)]

  def added(self, values):
    """Itself, with the values (step, above, centre, below) of each step."""
    for one in values:
      self._add(*one)
    return self

  def _add(self, step, above, centre, below):
    """Adds the estimates that the values at a smaller step give."""
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

  def error(self):
    """The bound on the error of the best estimate; infinite without one."""
    return self._best()[1]

  def is_settled(self, is_at_rest):
    """Whether the error is small enough.

    Args:
      is_at_rest: bool, whether it has not become smaller for some steps.
    """
    return self.error() <= (self._least_kink if is_at_rest else self._goal)

  def is_smooth(self):
    """Whether there is an estimate, and no kink can be ahead."""
    value, error, index = self._best()
    if not np.isfinite(value) or not np.isfinite(error):
      return False
    before, jump = np.abs(self._jumps[index - 1:index + 1])
    with np.errstate(invalid="ignore"):
      return bool(jump <= self._least_kink or jump < 0.5 * before)

  def is_best_before_the_end(self):
    """Whether the best estimate is one without the smallest step."""
    return self._best()[2] < len(self._steps) - 1

  def is_noisy(self):
    """Whether the slopes of both sides come apart as the steps shrink.

    Those of a kink do not; rounding makes them do so.
    """
    jumps = np.abs(self._jumps[-_LEVELS:])
    with np.errstate(invalid="ignore"):
      return len(jumps) == _LEVELS and bool(
          np.all(jumps[1:] > 2.0 * jumps[:-1]))

  def _floor(self):
    """The rounding error of a value: as given, or as observed if larger."""
    differences, steps = self._levels[0], self._steps
    if len(steps) < _ENOUGH:
      return self._noise
    observed = [abs(differences[k] - differences[k - 1]) * steps[k]
                for k in range(len(steps) - 3, len(steps))]
    return max(self._noise, 0.5 * float(np.median(observed)))

  def _best(self):
    """(value, error, index of the step) of the estimate to trust most."""
    best, floor = (np.nan, np.inf, len(self._steps) - 1), self._floor()
    for level, estimates in enumerate(self._levels):
      for k in range(2, len(estimates)):
        before, previous, last = estimates[k - 2:k + 1]
        index = k + level
        error = (max(abs(last - previous), abs(previous - before) / _RATIO) +
                 _margin(floor, self._steps[index]))
        if error < best[1]:  # Never where one of them is not a number.
          best = last, error, index
    return best

  def slope(self):
    """The `Slope` of the best estimate."""
    value, error, index = self._best()
    jump = self._jumps[index]
    is_rough = index > 0 and abs(jump) > max(
        0.6 * abs(self._jumps[index - 1]),
        16.0 * self._floor() / self._steps[index])
    return Slope(value, error, self._has_kink(value), is_rough,
                 value - 0.5 * jump, value + 0.5 * jump, self._steps[index])

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
  """The slope of sum(y) along `arrays` by its gradients.

  Args:
    gradients: list of arrays, those by complex tensors conjugated, as
      TensorFlow's are.
    arrays: list of arrays of the same shapes.

  Returns:
    float.
  """
  return float(sum(np.sum((np.conj(g) * v).real)
                   for g, v in zip(gradients, arrays)))


def size(gradients, arrays):
  """The square root of the sum of squares of the terms that `inner` adds up."""
  return float(np.sqrt(sum(np.sum(np.abs(g * v) ** 2)
                           for g, v in zip(gradients, arrays))))


def scale(value):
  """The root mean square of `value`; 1 if it is 0, infinite or NaN."""
  # Divided by the largest, so that squares do not overflow.
  largest = np.abs(np.asarray(value)).max() if np.size(value) else 0.0
  if not largest or not np.isfinite(largest):
    return 1.0
  return float(largest * np.sqrt(np.mean(np.abs(value / largest) ** 2)))


def directions(values, gradients, names, seed, randoms=3, largest=3, zeros=3):
  """Chooses directions: along the gradient, random, along single elements.

  A random direction mixes all elements. An error in one of many is found along
  that element: the elements with the largest gradients are taken, and some with
  a gradient of zero.

  Args:
    values: list of float64 or complex128 arrays, the value of each x.
    gradients: list of arrays of the same shapes.
    names: list of str, one for each x.
    seed: int, of the random numbers; no global state is changed.
    randoms: int, how many random directions.
    largest: int, how many elements with the largest gradients.
    zeros: int, how many elements whose gradient is exactly zero.

  Returns:
    list of `Direction`.
  """
  generator = np.random.RandomState(seed)
  sizes = [scale(value) for value in values]
  result = [Direction("the gradient", [
      _along_gradient(g, length, generator)
      for g, length in zip(gradients, sizes)], None)]
  for k in range(randoms):
    result.append(Direction("direction {}".format(k + 1), [
        _random(value, length, generator)
        for value, length in zip(values, sizes)], None))
  weights = np.concatenate([
      np.abs(g).ravel() * length for g, length in zip(gradients, sizes)])
  if len(weights) > 1:
    indices = [index for index in _largest(weights, largest)
               if weights[index] > 0]
    without_gradient = np.flatnonzero(weights == 0)
    if len(without_gradient):
      indices += sorted(generator.choice(
          without_gradient, min(zeros, len(without_gradient)), replace=False))
    result += [_along_element(values, names, sizes, index) for index in indices]
  return result


def _largest(weights, count):
  """The indices of the `count` largest weights; of equal ones, the first."""
  count = min(count, len(weights))
  if not count:
    return []
  least = np.partition(weights, len(weights) - count)[len(weights) - count]
  candidates = np.flatnonzero(weights >= least)
  return candidates[np.argsort(-weights[candidates], kind="stable")][:count]


def most_telling_first(chosen, gradients):
  """The order in which to try directions while there is time.

  The gradient shows an error in scale, a random direction one in any element,
  an element with a large gradient and one with none what is its own: one of
  each kind comes before a second of any.

  Args:
    chosen: list of `Direction`, as of `directions`.
    gradients: list of arrays, as there.

  Returns:
    list of indices into `chosen`.
  """
  counts, places = collections.Counter(), []
  for i, direction in enumerate(chosen):
    kind = (int(i > 0) if direction.length is None else
            2 if size(gradients, direction.arrays) else 3)
    places.append((counts[kind], kind))
    counts[kind] += 1
  return sorted(range(len(chosen)), key=places.__getitem__)


def _signs(value, generator):
  """Random numbers of size 1 in the shape of `value`."""
  signs = np.where(generator.uniform(size=np.shape(value)) < 0.5, -1.0, 1.0)
  if np.iscomplexobj(value):
    return signs * np.exp(1j * generator.uniform(size=np.shape(value)))
  return signs


def _random(value, length, generator):
  """Random numbers of size `length` in the shape of `value`."""
  return length * _signs(value, generator) * generator.uniform(
      0.5, 1.5, size=np.shape(value))


def _along_gradient(gradient, length, generator):
  """Elements of size `length` with the signs of `gradient`, random where 0."""
  sizes = np.abs(gradient)
  signs = _signs(gradient, generator)
  with np.errstate(all="ignore"):
    return length * np.where(
        sizes > 0, gradient / np.maximum(sizes, 1e-300), signs)


def _along_element(values, names, sizes, flat_index):
  """The `Direction` along one element, counted through all `values`."""
  arrays = [np.zeros_like(value) for value in values]
  for value, name, length, array in zip(values, names, sizes, arrays):
    if flat_index < value.size:
      index = np.unravel_index(flat_index, value.shape)
      array[index] = length * (0.6 + 0.8j if np.iscomplexobj(value) else 1.0)
      label = "'{}'[{}]".format(name, ", ".join(map(str, index)))
      return Direction(label if index else "'{}'".format(name), arrays, length)
    flat_index -= value.size
  raise IndexError(flat_index)
