"""y as a function of x alone, whatever else it depends on held as it is."""

import numpy as np

from gradfeed._tf import tf
from gradfeed.checking import directional_tests
from gradfeed.checking import float64_copy
from gradfeed import errors
from gradfeed.evaluation import numeric_comparison
from gradfeed.graph import cache
from gradfeed.rewriting import float64


class ForwardFunction:
  """y at any x, in float64 where there is such a copy, else in the session.

  Attributes:
    sources: list of `tf.Tensor` whose values have to be taken in the run that
      the derivative is taken in.
    eps: float, the rounding of the values.
    why: str, why it is not in float64; or None.
  """

  def __init__(self, place, ys, held, remember=True):
    """Prepares; the copy is made once.

    Args:
      place: `evaluation_points.EvaluationPoint`.
      ys: list of `tf.Tensor`.
      held: list of `tf.Tensor` that keep their values.
      remember: bool, whether the copy is kept with the graph.
    """
    self._place = place
    self._ys = ys
    self._held = held
    self._double, self.why = self._copy(remember)
    self.sources = list(held) + (
        self._double.sources if self._double is not None else [])
    self._set_native_eps()

  def _copy(self, remember):
    names = {t.name for t in self._held} | (
        self._place.cut - {component.name for component in self._place.points})
    key = ("double", tuple(y.name for y in self._ys),
           tuple(component.name for component in self._place.points),
           tuple(sorted(names)))

    def build():
      try:
        return float64_copy.Float64Copy(
            self._place.graph, self._ys, self._place.points, names), None
      except errors.GradfeedError as error:
        return None, error.why

    return cache.cached(self._place.graph, key, build) if remember else build()

  def _set_native_eps(self):
    if self._double is not None:
      self.eps = self._double.eps
    else:
      self.eps = max(float64.eps(t.dtype) for t in list(self._ys) + list(
          self._place.points))

  @property
  def is_double(self):
    """Whether the values are those of a copy in float64."""
    return self._double is not None

  def bind(self, values, expected):
    """Takes the values of the sources, and looks whether the copy is one.

    Args:
      values: list of arrays, of `sources`.
      expected: list of arrays, what the session has for the ys.
    """
    self._values = list(values)
    if self._double is not None:
      count = len(self._held)
      self._values[count:] = self._double.widened(values[count:])
    self._shapes = [np.shape(y) for y in expected]
    self._whole = sum(float(np.sum(np.abs(y)))
                      for y in directional_tests.broad(expected))
    if self._double is not None and not self._agrees(expected):
      self._double = None
      self._set_native_eps()

  def _agrees(self, expected):
    try:
      found = self._double.values(*self._given(self._place.values))
    except (tf.errors.OpError, ValueError, TypeError) as error:
      self.why = str(error).split("\n")[0]
      return False
    for y, one, other in zip(self._ys, found, expected):
      # Far more than rounding: another function, such as a count of bits.
      allowed = min(0.5,
                    100.0 * directional_tests.relative(float64.eps(y.dtype)))
      if not numeric_comparison.is_within(one, other, allowed):
        self.why = "it has another value of '{}'".format(y.name)
        return False
    return True

  def _given(self, xs):
    return xs, self._values[len(self._held):]

  def values(self, xs):
    """The values of the ys at a list of arrays."""
    if self._double is not None:
      return self._double.values(*self._given(xs))
    return self._place.sample(
        self._ys, xs, list(zip(self._held, self._values)))

  def gradients(self, xs, weights=None):
    """The gradients in float64, as TensorFlow has them; None without.

    Args:
      xs: list of arrays.
      weights: list of arrays, one for each y; None for ones.
    """
    return self._derived("gradients", xs, weights)

  def seconds(self, xs, directions, weights=None):
    """Second derivatives times directions in float64; None without."""
    return self._derived("seconds", xs, weights, directions)

  def _derived(self, kind, xs, weights, *more):
    if self._double is None or not self._double.has_gradient:
      return None
    if weights is None:
      weights = [np.ones(shape) for shape in self._shapes]
    try:
      found = getattr(self._double, kind)(*self._given(xs), weights, *more)
    except (tf.errors.OpError, ValueError, TypeError):
      return None
    return found and directional_tests.broad(found)

  def rounds(self, arrays):
    """`arrays` as `values` can take them."""
    if self._double is not None:
      return arrays
    return [np.asarray(array, own.dtype) for array, own in zip(
        arrays, self._place.values)]

  def differences(self, gradients, weights=None):
    """The `directional_tests.Differences` of sum(weights * ys) around x_t."""
    return directional_tests.Differences(
        lambda xs: weighed(self._values_or_nan(xs), weights),
        self._place.values, gradients, self.eps, self.rounds)

  def _values_or_nan(self, xs):
    """The values, where the model does not refuse them (tf.check_numerics)."""
    try:
      return self.values(xs)
    except (tf.errors.OpError, errors.GradfeedError):
      return [np.full(shape, np.nan) for shape in self._shapes]

  def differences_of(self, gradients_at, directions, seconds):
    """The same for the inner product of gradients and directions.

    Args:
      gradients_at: function from a list of arrays to the gradients there, or
        to None.
      directions: list of arrays.
      seconds: list of arrays, what is said to be the gradient of that.
    """

    def products(xs):
      gradients = gradients_at(xs)
      if gradients is None:
        return [np.full(np.shape(v), np.nan) for v in directions]
      return [np.conj(g) * v for g, v in zip(gradients, directions)]

    return directional_tests.Differences(
        products, self._place.values, seconds, self.eps, self.rounds,
        self._whole)


def weighed(ys, weights):
  """weights * ys, in float64."""
  ys = directional_tests.broad(ys)
  return ys if weights is None else [w * y for w, y in zip(weights, ys)]
