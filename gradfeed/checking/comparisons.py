"""First and second derivatives against differences, and against float64."""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.checking import directional_tests
from gradfeed.checking import finite_differences
from gradfeed.checking import nonfinite
from gradfeed.checking import op_checks
from gradfeed.checking import reports
from gradfeed.derivatives import hessians
from gradfeed.findings import BAD
from gradfeed.findings import Finding
from gradfeed.findings import WARNING
from gradfeed.graph import cache
from gradfeed.graph import provenance

#: How many roundings of y a gradient may be off, as it adds them up.
_ROUNDINGS = 32.0

#: Not many second derivatives: each is a sweep of gradients.
_SECONDS = 2


class Comparison:
  """The gradients of one run, compared.

  Attributes:
    rows: list of dicts, as in `reports.Check`.
    found: list of `Finding`.
    reasons: list of str, why the verdict is open, if it is.
  """

  def __init__(self, place, ys, dxs, held, forward, gradients, is_own, seed):
    """Compares nothing yet.

    Args:
      place: `evaluation_points.EvaluationPoint`.
      ys: list of `tf.Tensor`.
      dxs: list of `tf.Tensor`, the gradients.
      held: `held_constants.HeldConstants`.
      forward: `forward_functions.ForwardFunction`, bound to the run of the
        gradients.
      gradients: list of float64 arrays, all finite.
      is_own: bool, whether gradfeed built them.
      seed: int.
    """
    self.rows, self.found, self.reasons = [], [], []
    self._place, self._ys, self._dxs = place, ys, dxs
    self._held, self._forward = held, forward
    self._gradients = gradients
    self._is_own = is_own
    self._seed = seed
    self._base = directional_tests.broad(place.values)
    self._names = [component.name for component in place.points]

  @property
  def is_wrong(self):
    return any(finding.severity == BAD for finding in self.found)

  def first(self, values):
    """The gradient against differences, and against itself in float64.

    Args:
      values: list of arrays, the ys of the same run.
    """
    place, forward = self._place, self._forward
    precise = forward.gradients(place.values)
    if precise is not None and not all(map(nonfinite.is_finite, precise)):
      precise = None
    own = precise if self._is_own and precise is not None else self._gradients
    ways = finite_differences.directions(self._base, own, self._names,
                                         self._seed)
    eps = self._held.eps if own is self._gradients else forward.eps
    found = directional_tests.run(forward.differences(own), own, ways, eps)
    if own is self._gradients and self._held.eps > 1e-12:
      found = self._eased(found, own, self._dxs)
    self._judge([trial._replace(gradient=finite_differences.inner(
        self._gradients, trial.direction.arrays)) for trial in found], "", 1)
    verdict = directional_tests.verdict_of(found)
    if precise is not None and verdict != directional_tests.WRONG:
      self._compare(precise, verdict, values)

  def _eased(self, found, own, targets, held=()):
    """Where rounding x explains it, a trial is not wrong."""
    if directional_tests.verdict_of(found) != directional_tests.WRONG:
      return found
    others = [directional_tests.broad(self._place.sample(
        targets, self._rounded(xs), held)) for xs in directional_tests.nearby(
            self._place.values, self._held.eps, self._seed)]
    return directional_tests.eased(found, own, others)

  def _rounded(self, xs):
    return [np.asarray(x, own.dtype)
            for x, own in zip(xs, self._place.values)]

  def _judge(self, found, label, order):
    """Takes the trials into the report."""
    self.rows += [reports.row(trial, label) for trial in found]
    verdict = directional_tests.verdict_of(found)
    if verdict == directional_tests.WRONG:
      self.found.append(self._wrong(found, label, order))
    elif verdict == directional_tests.UNDECIDABLE:
      self._undecidable([
          trial for trial in found if directional_tests.matters(trial) and
          trial.verdict == directional_tests.UNDECIDABLE
      ][0], label)

  def _wrong(self, found, label, order):
    worst = max(
        (trial for trial in found if trial.verdict == directional_tests.WRONG),
        key=lambda trial: round(reports.off(trial), 3))
    inside = self._held.loose_stops
    if inside and order == 1:
      self.reasons.append("a tf.stop_gradient inside of a loop or a function")
      return Finding(
          "blocked", WARNING, "The gradient and the differences are apart by "
          "{}.".format(reports.percent(reports.off(worst))),
          "{} in a loop or a function, where it cannot be told what is "
          "meant.".format(provenance.describe_ops(inside, "stops it",
                                                  "stop it")), "",
          provenance.original_names(inside))
    op = None
    if self._is_own:
      op = op_checks.wrong_op(self._place, self._held, order, self._seed)
    return Finding(
        "wrong", BAD, "The {} is off by {} along {}.".format(
            "second derivative" if order > 1 else "gradient",
            reports.percent(reports.off(worst)),
            worst.direction.label),
        "The gradient of {} is wrong.".format(provenance.describe_op(op))
        if op is not None else "It says {:.6g}, the differences {:.6g}.".format(
            *reports.scaled(worst)),
        "Write this op from others, or correct the gradient that is registered "
        "for it." if op is not None else "",
        [provenance.original_name(op)] if op is not None else [])

  def _undecidable(self, trial, label):
    if trial.kink is None:
      self.reasons.append("the differences do not settle")
      self.found.append(Finding(
          "unsettled", WARNING,
          "The {}differences along {} do not settle.".format(
              label, trial.direction.label),
          "y is too rough, or rounded too much, for a derivative to be seen "
          "there.", "Build the model in float64, or take another x_t."))
      return
    self.reasons.append("y has a kink there")
    kinks = op_checks.kinks(self._place, self._held)[:2]
    length = finite_differences.norm(trial.direction)
    self.found.append(Finding(
        "kink", WARNING, "y has a kink at x_t: along {} its {}slope is {:.6g} "
        "to one side and {:.6g} to the other.".format(
            trial.direction.label, label, trial.kink.left / length,
            trial.kink.right / length),
        " ".join("{} {}.".format(provenance.describe_op(op), told)
                 for op, told in kinks),
        "There is no derivative; TensorFlow gives {:.6g}. Take another x_t, "
        "or be content with that.".format(trial.gradient / length),
        provenance.original_names(op for op, _ in kinks)))

  def _compare(self, precise, verdict, values):
    """The gradient as it is, element by element, against float64.

    What gradfeed built is the same in float64, so that all there is between
    them is rounding. A gradient of the caller's may be anything.
    """
    eps = max(self._held.eps, self._forward.eps)
    floors = self._floors(eps, values)
    apart, worst = _apart(self._gradients, precise, eps, floors)
    if apart is None:
      return
    component, index = self._place.points[worst[0]], worst[1]
    element = "'{}'[{}]".format(component.name, ", ".join(map(str, index)))
    told = "At {} it is {:.6g}, and {:.6g} in float64.".format(
        element, self._gradients[worst[0]][index], precise[worst[0]][index])
    if self._is_own or not self._is_systematic(precise, worst):
      self.found.append(Finding(
          "rounding", WARNING,
          "Rounding errors are {} of the gradient. ".format(
              reports.percent(apart)) + told,
          "The same ops in float64 have the derivative.",
          "Build the model in float64, or take another x_t."))
      self.reasons.append("it is lost in rounding errors")
    elif verdict == directional_tests.RIGHT:
      self.found.append(Finding(
          "wrong", BAD, "The gradient is off by {}. ".format(
              reports.percent(apart)) + told,
          "The gradient that gradfeed builds is right.",
          "Use gradfeed.gradient(y, x)."))

  def _is_systematic(self, precise, worst):
    """Whether an element is off in the same way near x_t, or by chance."""
    i, index = worst
    off = self._gradients[i][index] - precise[i][index]
    for xs in directional_tests.nearby(self._place.values, self._held.eps,
                                       self._seed):
      xs = self._rounded(xs)
      one = directional_tests.broad(self._place.sample(self._dxs, xs))[i][index]
      other = self._forward.gradients(xs)[i][index]
      if not abs(one - other - off) < 0.5 * abs(off):
        return False
    return True

  def _floors(self, eps, values):
    """For each x, what the rounding of y is as a part of a gradient."""
    whole = sum(
        float(np.sum(np.abs(y))) for y in directional_tests.broad(values))
    return [_ROUNDINGS * eps * whole / finite_differences.scale(value)
            for value in self._base]

  def second(self):
    """Second derivatives times directions against differences of gradients."""
    place, forward = self._place, self._forward
    with cache.cache_of(place.graph).lock:
      vs = [
          cache.cached(place.graph, ("direction", component.name),
                       lambda component=component: _direction(component))
          for component in place.points
      ]
    hv = hessians.hvp(
        self._ys, [component.tensor for component in place.points], vs)
    for k in range(_SECONDS):
      along = finite_differences.directions(
          self._base, self._gradients, self._names, self._seed + k)[k].arrays
      held = list(zip(vs, self._rounded(along)))
      along = directional_tests.broad([v for _, v in held])
      raw = directional_tests.broad(place.sample(hv, held=held))
      precise = forward.seconds(place.values, along)
      if precise is not None and not all(map(nonfinite.is_finite, precise)):
        precise = None
      own, eps = (raw, self._held.eps) if precise is None else (
          precise, forward.eps)
      if not all(map(nonfinite.is_finite, raw)):
        self.found.append(nonfinite.finding(
            place, self._ys, hv, raw, held))
        return
      gradients_at = (
          forward.gradients if forward.gradients(place.values) is not None else
          lambda xs: directional_tests.broad(place.sample(self._dxs, xs)))
      ways = finite_differences.directions(
          self._base, own, self._names, self._seed, randoms=2, largest=2,
          zeros=2)
      found = directional_tests.run(
          forward.differences_of(gradients_at, along, own), own, ways, eps)
      if precise is None and eps > 1e-12:
        found = self._eased(found, own, hv, held)
      self._judge(found, "second {}: ".format(k + 1), 2)
      if directional_tests.verdict_of(found) != directional_tests.RIGHT:
        return


def _direction(component):
  with _tf.building(component.graph):
    return tf.placeholder(component.dtype, component.shape, name="direction")


def _apart(gradients, precise, eps, floors):
  """(how far apart, where) the element is that is too far, or (None, None)."""
  allowed = directional_tests.relative(eps)
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
