"""y as a function of x alone, with everything else held at its value."""

import numpy as np

from gradfeed._tf import tf
from gradfeed.checking import directional_tests
from gradfeed.checking import float64_copy
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed import numeric_comparison
from gradfeed.rewriting import float64


class ForwardFunction:
  """Evaluates y at any x: by a float64 copy, or else in the session.

  Attributes:
    sources: list of `tf.Tensor` whose values `bind` takes; they have to come
      from the same run as the derivative.
    eps: float, the relative rounding error of the values.
    why: str, why there is no float64 copy; or None.
  """

  def __init__(self, point, ys, held_tensors, remember=True):
    """Makes the float64 copy, if there can be one.

    Args:
      point: `evaluation_points.EvaluationPoint`.
      ys: list of `tf.Tensor`.
      held_tensors: list of `tf.Tensor` that keep their values.
      remember: bool, whether the copy is kept with the graph, for another
        check.
    """
    self._point = point
    self._ys = ys
    self._held_tensors = held_tensors
    self._float64_copy, self.why = self._made_copy(remember)
    self.sources = list(held_tensors) + (
        self._float64_copy.sources if self._float64_copy is not None else [])
    self._set_eps()

  def _made_copy(self, remember):
    """(`float64_copy.Float64Copy` or None, str why there is none or None)."""
    held_names = {t.name for t in self._held_tensors} | (
        self._point.cut - {component.name for component in self._point.xs})
    ops, folded = self._point.ops_run(self._ys)
    live_names = None if folded is None else frozenset(ops)
    key = ("double", tuple(y.name for y in self._ys),
           tuple(component.name for component in self._point.xs),
           tuple(sorted(held_names)), live_names)

    def build():
      try:
        return float64_copy.Float64Copy(
            self._point.graph, self._ys, self._point.xs, held_names,
            live_names), None
      except errors.GradfeedError as error:
        return None, error.why

    return cache.cached(self._point.graph, key, build) if remember else build()

  def _set_eps(self):
    if self._float64_copy is not None:
      self.eps = self._float64_copy.eps
    else:
      self.eps = max(float64.eps(t.dtype) for t in list(self._ys) + list(
          self._point.xs))

  @property
  def is_float64(self):
    """Whether a float64 copy evaluates, rather than the session."""
    return self._float64_copy is not None

  def bind(self, values, expected):
    """Sets the values of the sources, and drops a copy with other values.

    Args:
      values: list of arrays, those of `sources`.
      expected: list of arrays, the ys as the session evaluates them.
    """
    self._values = list(values)
    if self._float64_copy is not None:
      count = len(self._held_tensors)
      self._values[count:] = self._float64_copy.widened(values[count:])
    self._shapes = [np.shape(y) for y in expected]
    ys = directional_tests.to_float64(expected)
    self._sum_of_sizes = sum(float(np.sum(np.abs(y))) for y in ys)
    if self._float64_copy is not None and not self._has_values(expected):
      self._float64_copy = None
      self._set_eps()

  def _has_values(self, expected):
    """Whether the copy evaluates ys to `expected`, but for rounding."""
    try:
      results = self._copied("values", self._point.values)
    except (tf.errors.OpError, ValueError, TypeError) as error:
      self.why = str(error).split("\n")[0]
      return False
    for y, result, value in zip(self._ys, results, expected):
      # Far more than rounding: another function, such as a count of bits.
      allowed = min(0.5, 100.0 * directional_tests.relative_tolerance(
          float64.eps(y.dtype)))
      if not numeric_comparison.is_within(result, value, allowed):
        self.why = "it has another value of '{}'".format(y.name)
        return False
    return True

  def _copied(self, method, xs, *more):
    """What `method` of the copy returns at `xs`."""
    self._point.budget.begin_evaluation()
    return getattr(self._float64_copy, method)(
        xs, self._values[len(self._held_tensors):], *more)

  def values(self, xs):
    """Evaluates the ys.

    Args:
      xs: list of arrays, one for each x.

    Returns:
      list of arrays.
    """
    if self._float64_copy is not None:
      return self._copied("values", xs)
    return self._point.sample(
        self._ys, xs, list(zip(self._held_tensors, self._values)))

  def gradients(self, xs, weights=None):
    """Evaluates TensorFlow's gradients of sum(weights * ys) in float64.

    Args:
      xs: list of arrays.
      weights: list of arrays, one for each y; None for ones.

    Returns:
      list with an array for each x; None without a float64 copy.
    """
    return self._derivatives("gradients", xs, weights)

  def seconds(self, xs, directions, weights=None):
    """Evaluates second derivatives of sum(weights * ys) times directions.

    Args:
      xs: list of arrays.
      directions: list of arrays, one for each x.
      weights: list of arrays, one for each y; None for ones.

    Returns:
      list with an array for each x; None without a float64 copy, and where it
      has no second derivative.
    """
    return self._derivatives("seconds", xs, weights, directions)

  def _derivatives(self, method, xs, weights, *more):
    """What `method` of the copy returns; None where there is no result."""
    if self._float64_copy is None or not self._float64_copy.has_gradient:
      return None
    if weights is None:
      weights = [np.ones(shape) for shape in self._shapes]
    try:
      results = self._copied(method, xs, weights, *more)
    except (tf.errors.OpError, ValueError, TypeError):
      return None
    return results and directional_tests.to_float64(results)

  def rounded(self, arrays):
    """`arrays` in the dtypes that `values` takes: rounded, without a copy."""
    if self._float64_copy is not None:
      return arrays
    return [np.asarray(array, own.dtype) for array, own in zip(
        arrays, self._point.values)]

  def differences(self, gradients, weights=None):
    """Finite differences of sum(weights * ys) at x_t.

    Args:
      gradients: list of arrays, as in `directional_tests.Differences`.
      weights: list of arrays, one for each y; None for ones.

    Returns:
      `directional_tests.Differences`.
    """
    return directional_tests.Differences(
        lambda xs: weighted(self._values_or_nan(xs), weights),
        self._point.values, gradients, self.eps, self.rounded)

  def _values_or_nan(self, xs):
    """The values; NaN where the model raises (tf.check_numerics)."""
    try:
      return self.values(xs)
    except (tf.errors.OpError, errors.GradfeedError):
      return [np.full(shape, np.nan) for shape in self._shapes]

  def differences_of(self, gradients_at, directions, seconds):
    """Finite differences at x_t of the inner product gradients * directions.

    Args:
      gradients_at: function from a list of arrays to the list of the gradients
        there, or to None.
      directions: list of arrays, one for each x.
      seconds: list of arrays, the gradient of that product.

    Returns:
      `directional_tests.Differences`.
    """

    def products(xs):
      gradients = gradients_at(xs)
      if gradients is None:
        return [np.full(np.shape(v), np.nan) for v in directions]
      return [np.conj(g) * v for g, v in zip(gradients, directions)]

    return directional_tests.Differences(
        products, self._point.values, seconds, self.eps, self.rounded,
        self._sum_of_sizes)


def weighted(ys, weights):
  """The list of weights * ys, in float64; ys for weights None."""
  ys = directional_tests.to_float64(ys)
  return ys if weights is None else [w * y for w, y in zip(weights, ys)]
