"""Compares first and second derivatives with differences, and with float64."""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.checking import budgets
from gradfeed.checking import directional_tests
from gradfeed.checking import finite_differences
from gradfeed.checking.causes import nonfinite
from gradfeed.checking.causes import op_checks
from gradfeed.checking import reports
from gradfeed.derivatives import hessians
from gradfeed.findings import BAD
from gradfeed.findings import Finding
from gradfeed.findings import WARNING
from gradfeed.graph import cache
from gradfeed.graph import provenance

#: What is left to do where the time ended while it was done.
_WRONG_OP = "the op that is to blame"
_ROUNDING_OF_X = "whether the rounding of x explains the difference"

#: How many roundings of y a gradient may be off, as it adds them up.
_ROUNDINGS = 32.0

#: Along how many directions v the products of second derivatives and v are
#: checked: each takes as many differences as the gradient.
_MOST_SECONDS = 2


class Comparison:
  """Compares the gradients of one run, and collects rows and findings.

  Attributes:
    rows: list of dicts, as in `reports.Check`.
    findings: list of `Finding`.
    reasons: list of str, why the verdict is open, if it is.
    tests: list of `directional_tests.DirectionalTest`, of first derivatives.
  """

  def __init__(self, point, ys, dxs, constants, forward, gradients, is_own,
               seed):
    """Compares nothing yet.

    Args:
      point: `evaluation_points.EvaluationPoint`.
      ys: list of `tf.Tensor`.
      dxs: list of `tf.Tensor`, the gradients.
      constants: `held_constants.HeldConstants`.
      forward: `forward_functions.ForwardFunction`, bound to the run of the
        gradients.
      gradients: list of float64 arrays, all finite, the values of `dxs`.
      is_own: bool, whether gradfeed built the gradients.
      seed: int, of the directions.
    """
    self.rows, self.findings, self.reasons = [], [], []
    self.tests = []
    self._point, self._ys, self._dxs = point, ys, dxs
    self._constants, self._forward = constants, forward
    self._gradients = gradients
    self._is_own = is_own
    self._seed = seed
    self._budget = point.budget
    self._x_t = directional_tests.to_float64(point.values)
    self._names = [component.name for component in point.xs]

  @property
  def is_wrong(self):
    """Whether a finding says that a derivative is wrong."""
    return any(finding.severity == BAD for finding in self.findings)

  def first(self, values):
    """Compares the gradient with differences, and with that in float64.

    Args:
      values: list of arrays, the ys of the same run.

    Raises:
      budgets.OutOfTime: something was left out; the rest is in `rows` and
        `findings`.
    """
    forward = self._forward
    precise = _finite_or_none(forward.gradients(self._point.values))
    tested = precise if self._is_own and precise is not None else (
        self._gradients)
    directions = finite_differences.directions(
        self._x_t, tested, self._names, self._seed)
    eps = self._constants.eps if tested is self._gradients else forward.eps
    self._budget.directions += len(directions)
    tests = directional_tests.run(
        forward.differences(tested), tested, directions, eps, self._budget)
    if tested is self._gradients and self._constants.eps > 1e-12:
      tests = self._excuse_rounding_of_x(tests, "", tested, self._dxs)
    self.tests = tests
    self._report([test._replace(gradient=finite_differences.inner(
        self._gradients, test.direction.arrays)) for test in tests], "", 1)
    verdict = directional_tests.verdict_of(tests)
    if precise is not None and tests and verdict != directional_tests.WRONG:
      self._compare_elements(precise, verdict, values)
    _require_all(tests, directions)

  def _excuse_rounding_of_x(self, tests, label, gradients, targets,
                            extra_feeds=()):
    """Makes wrong tests undecidable where the rounding of x explains them."""
    if directional_tests.verdict_of(tests) != directional_tests.WRONG:
      return tests
    try:
      gradients_nearby = [self._sample(targets, xs, extra_feeds)
                          for xs in self._points_nearby()]
    except budgets.OutOfTime:  # So that none is known to be wrong.
      self.rows += [reports.row(test._replace(
          verdict=directional_tests.UNDECIDABLE if
          test.verdict == directional_tests.WRONG else test.verdict), label)
                    for test in tests]
      self._budget.missing.append(_ROUNDING_OF_X)
      raise
    return directional_tests.excuse_rounding_of_x(
        tests, gradients, gradients_nearby)

  def _points_nearby(self):
    """Lists of values of x that differ from x_t by a few roundings."""
    return [self._rounded(xs) for xs in directional_tests.points_nearby(
        self._point.values, self._constants.eps, self._seed)]

  def _sample(self, targets, xs=None, extra_feeds=()):
    """The values of tensors in the session, as float64."""
    return directional_tests.to_float64(
        self._point.sample(targets, xs, extra_feeds))

  def _rounded(self, xs):
    """A value of each x, in the dtypes of x."""
    return [np.asarray(x, value.dtype)
            for x, value in zip(xs, self._point.values)]

  def _report(self, tests, label, order):
    """Adds the rows and the findings of a list of `DirectionalTest`."""
    self.rows += [reports.row(test, label) for test in tests]
    verdict = directional_tests.verdict_of(tests)
    if verdict == directional_tests.WRONG:
      self.findings.append(self._wrong_finding(tests, order))
    elif verdict == directional_tests.UNDECIDABLE:
      self._report_undecidable([
          test for test in tests
          if test.verdict == directional_tests.UNDECIDABLE and
          directional_tests.leaves_verdict_open(test)][0], label)

  def _wrong_finding(self, tests, order):
    """The `Finding` for tests of which at least one is wrong."""
    worst = max(
        (test for test in tests if test.verdict == directional_tests.WRONG),
        key=lambda test: round(reports.relative_error(test), 3))
    error = reports.percent(reports.relative_error(worst))
    stops = self._constants.unheld_stops
    if stops and order == 1:
      self.reasons.append("a tf.stop_gradient inside of a loop or a function")
      return Finding(
          "blocked", WARNING, "The gradient and the differences are apart by "
          "{}.".format(error),
          "{} in a loop or a function, where it cannot be told what is "
          "meant.".format(
              provenance.describe_ops(stops, "stops it", "stop it")), "",
          provenance.original_names(stops))
    op = None
    if self._is_own:
      op = self._in_time(op_checks.find_wrong_op, order, self._seed)
    return Finding(
        "wrong", BAD, "The {} is off by {} along {}.".format(
            "second derivative" if order > 1 else "gradient", error,
            worst.direction.label),
        "The gradient of {} is wrong.".format(provenance.describe_op(op))
        if op is not None else "It says {:.6g}, the differences {:.6g}.".format(
            *reports.per_unit_length(worst)),
        "Write this op from others, or correct the gradient that is registered "
        "for it." if op is not None else "",
        [provenance.original_name(op)] if op is not None else [])

  def _in_time(self, find, *arguments):
    """What `find` finds of the ops; None where there is no time for it."""
    try:
      return find(self._point, self._constants, *arguments)
    except budgets.OutOfTime:
      self._budget.missing.append(_WRONG_OP)
      return None

  def _report_undecidable(self, test, label):
    """Adds why one `DirectionalTest` is undecidable."""
    if test.kink is None:
      self.reasons.append("the differences do not settle")
      self.findings.append(Finding(
          "unsettled", WARNING,
          "The {}differences along {} do not settle.".format(
              label, test.direction.label),
          "y is too rough, or rounded too much, for a derivative to be seen "
          "there.", "Build the model in float64, or take another x_t."))
      return
    self.reasons.append("y has a kink there")
    kinks = (self._in_time(op_checks.find_kinks) or [])[:2]
    length = finite_differences.norm(test.direction)
    self.findings.append(Finding(
        "kink", WARNING, "y has a kink at x_t: along {} its {}slope is {:.6g} "
        "to one side and {:.6g} to the other.".format(
            test.direction.label, label, test.kink.left / length,
            test.kink.right / length),
        " ".join("{} {}.".format(provenance.describe_op(op), description)
                 for op, description in kinks),
        "There is no derivative; TensorFlow gives {:.6g}. Take another x_t, "
        "or be content with that.".format(test.gradient / length),
        provenance.original_names(op for op, _ in kinks)))

  def _compare_elements(self, precise, verdict, values):
    """Compares the elements of the gradient with those in float64.

    A gradient that gradfeed built is the same in float64 but for rounding. One
    that a caller passed may be any other.

    Args:
      precise: list of arrays, the gradient in float64.
      verdict: str, of the comparison with differences.
      values: list of arrays, the ys of the same run.
    """
    eps = max(self._constants.eps, self._forward.eps)
    error, worst = _farthest_apart(
        self._gradients, precise, eps, self._rounding_of_y(eps, values))
    if error is None:
      return
    component, index = self._point.xs[worst[0]], worst[1]
    element = "'{}'[{}]".format(component.name, ", ".join(map(str, index)))
    text = "At {} it is {:.6g}, and {:.6g} in float64.".format(
        element, self._gradients[worst[0]][index], precise[worst[0]][index])
    if self._is_own or not self._is_systematic(precise, worst):
      self.findings.append(Finding(
          "rounding", WARNING,
          "Rounding errors are {} of the gradient. ".format(
              reports.percent(error)) + text,
          "The same ops in float64 have the derivative.",
          "Build the model in float64, or take another x_t."))
      self.reasons.append("it is lost in rounding errors")
    elif verdict == directional_tests.RIGHT:
      self.findings.append(Finding(
          "wrong", BAD, "The gradient is off by {}. ".format(
              reports.percent(error)) + text,
          "The gradient that gradfeed builds is right.",
          "Use gradfeed.gradient(y, x)."))

  def _is_systematic(self, precise, worst):
    """Whether an element has about the same error at points near x_t.

    Args:
      precise: list of arrays, the gradient in float64.
      worst: (index of the x, index of the element).
    """
    i, index = worst
    error = self._gradients[i][index] - precise[i][index]
    for xs in self._points_nearby():
      gradient = self._sample(self._dxs, xs)[i][index]
      precise_there = self._forward.gradients(xs)[i][index]
      if not abs(gradient - precise_there - error) < 0.5 * abs(error):
        return False
    return True

  def _rounding_of_y(self, eps, values):
    """For each x, the error of an element of the gradient by rounding of y."""
    total = sum(
        float(np.sum(np.abs(y))) for y in directional_tests.to_float64(values))
    return [_ROUNDINGS * eps * total / finite_differences.scale(value)
            for value in self._x_t]

  def second(self):
    """Compares second derivatives times v with differences of gradients."""
    point = self._point
    with cache.cache_of(point.graph).lock:
      vs = [
          cache.cached(point.graph, ("direction", component.name),
                       lambda component=component: _placeholder_like(component))
          for component in point.xs
      ]
    hv = hessians.hvp(
        self._ys, [component.tensor for component in point.xs], vs)
    for k in range(_MOST_SECONDS):
      v = self._rounded(finite_differences.directions(
          self._x_t, self._gradients, self._names, self._seed + k)[k].arrays)
      verdict = self._second_along(
          v, hv, list(zip(vs, v)), "second {}: ".format(k + 1))
      if verdict != directional_tests.RIGHT:
        return

  def _second_along(self, v, hv, extra_feeds, label):
    """Compares second derivatives times one `v`.

    Args:
      v: list of arrays, one for each x, in the dtypes of x.
      hv: list of `tf.Tensor`, the products.
      extra_feeds: list of (tensor, array), what `hv` needs for `v`.
      label: str, in front of the labels of the rows.

    Returns:
      The verdict, str; None if the products are not finite.
    """
    point, forward = self._point, self._forward
    v = directional_tests.to_float64(v)
    products = self._sample(hv, extra_feeds=extra_feeds)
    precise = _finite_or_none(forward.seconds(point.values, v))
    if not all(map(nonfinite.is_finite, products)):
      self.findings.append(nonfinite.finding(
          point, self._ys, hv, products, extra_feeds))
      return None
    tested, eps = (products, self._constants.eps) if precise is None else (
        precise, forward.eps)
    gradients_at = (
        forward.gradients if forward.gradients(point.values) is not None else
        lambda xs: self._sample(self._dxs, xs))
    directions = finite_differences.directions(
        self._x_t, tested, self._names, self._seed, randoms=2, largest=2,
        zeros=2)
    self._budget.directions += len(directions)
    tests = directional_tests.run(
        forward.differences_of(gradients_at, v, tested), tested, directions,
        eps, self._budget)
    if precise is None and eps > 1e-12:
      tests = self._excuse_rounding_of_x(
          tests, label, tested, hv, extra_feeds)
    self._report(tests, label, 2)
    _require_all(tests, directions)
    return directional_tests.verdict_of(tests)


def _require_all(tests, directions):
  """Raises OutOfTime if some of the directions were left out."""
  if len(tests) < len(directions):
    raise budgets.OutOfTime


def _finite_or_none(arrays):
  """`arrays` if there are any and all their elements are finite, else None."""
  if arrays is None or not all(map(nonfinite.is_finite, arrays)):
    return None
  return arrays


def _placeholder_like(component):
  with _tf.building(component.graph):
    return tf.placeholder(component.dtype, component.shape, name="direction")


def _farthest_apart(gradients, precise, eps, floors):
  """The element of the gradient that is farthest beyond what it may be off.

  Every element has a bound of its own, and one is enough: that is why it is not
  `numeric_comparison.is_within`.

  Args:
    gradients: list of arrays.
    precise: list of arrays, the gradients in float64.
    eps: float, the rounding of `gradients`.
    floors: list of floats, one for each x, added to what is allowed.

  Returns:
    (its relative error, (index of the x, index of the element)), or
    (None, None) if all elements are near enough.
  """
  allowed = directional_tests.relative_tolerance(eps)
  worst, where = 0.0, None
  for i, (g, p) in enumerate(zip(gradients, precise)):
    if not np.size(g):
      continue
    least = 0.1 * float(np.sqrt(np.mean(np.abs(p) ** 2)))
    limit = allowed * (np.abs(p) + least) + floors[i]
    excess = np.abs(g - p) - limit
    index = np.unravel_index(int(np.argmax(excess)), np.shape(g))
    if excess[index] > max(worst, 0.0) and excess[index] > np.finfo(
        np.float32).tiny:
      worst, where = float(excess[index]), (i, tuple(map(int, index)))
  if where is None:
    return None, None
  i, index = where
  size = max(np.abs(precise[i][index]), np.sqrt(np.mean(
      np.abs(precise[i]) ** 2)), np.finfo(np.float32).tiny)
  return float(np.abs(gradients[i][index] - precise[i][index]) / size), where
