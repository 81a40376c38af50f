"""`check`: compares the gradient at a value with finite differences of y."""

import numpy as np

from gradfeed.checking import budgets
from gradfeed.checking.causes import blocked_paths
from gradfeed.checking import comparisons
from gradfeed.checking import directional_tests
from gradfeed.checking import evaluation_points
from gradfeed.checking import forward_functions
from gradfeed.checking import held_constants
from gradfeed.checking.causes import nonfinite
from gradfeed.checking import reports
from gradfeed.checking.causes import row_coupling
from gradfeed.derivatives import gradients
from gradfeed import errors
from gradfeed.evaluation import sessions
from gradfeed.findings import Finding
from gradfeed.findings import NOTE
from gradfeed.findings import WARNING
from gradfeed.graph import nest
from gradfeed.graph import provenance
from gradfeed.graph import tensors
from gradfeed import numeric_comparison

_SATURATING = frozenset(["LogSoftmax", "Sigmoid", "Softmax", "Tanh"])

#: How far, of its size, a sum may be off that is added up in another order.
_LAST_DIGITS = 1e-4


def check(y, x, x_t, session=None, feed_dict=None, gradient=None, order=1,
          seed=0, seconds=None, progress=None):
  """Holds the gradient at x_t against finite differences, and looks around.

  The differences are those of a float64 copy of the graph where there is one,
  along the gradient, along random directions and along single elements of x,
  with steps that shrink until they settle. Dropout masks and what the model
  stops the gradient at are held as they are in the run of the gradient.

  The caller's session and feeds are used; no variable is changed, nothing is
  taken from a queue or an iterator, and a second check adds no op.

  Args:
    y: floating tensor, variable, name, or nested structure of them, summed.
    x: what it is differentiated by: whatever `function` takes as an input (a
      placeholder, a variable, a layer in the middle), or a structure of that.
    x_t: the value of x, or values in the structure of x.
    session: as in `function`; None for the default session.
    feed_dict: dict from other tensors to their values, or None.
    gradient: None for `gradient(y, x)`, or the tensor (a structure like x)
      that is to be checked in its place, however it was built.
    order: 1, or 2 to check second derivatives (`hvp`) as well.
    seed: int, of the random directions. The same seed gives the same report;
      no other random state is touched.
    seconds: float, how long the check may take, or None for no limit. The
      gradient itself is evaluated in any case, and then the directions that
      tell most come first. When the time is up nothing more is evaluated, and
      the verdict is "undecidable", with what was seen until then, unless that
      shows the gradient to be wrong. An evaluation that has begun is waited
      for, since TensorFlow cannot interrupt one.
    progress: None for a line on a terminal, where a check takes more than two
      seconds; True for that, or a line each half minute in a log; False for
      nothing; or a function of three ints, called before each evaluation: how
      many there are with it, along how many directions was compared, and along
      how many there is to be compared, as far as is known.

  Returns:
    `Check`.

  Raises:
    MissingFeedError: a placeholder, or what an iterator or a queue gives, has
      no value.
    ArgumentError: `order`, a `gradient` that does not fit, or another argument
      that is none.
    The errors of `gradient`, of `hvp` and of a call of a `Function`.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [None], name="x")
    ...   report = gf.check(x ** 3, x, [2.0, 5.0])
    ...   print(report.verdict, report.error < 1e-6)
    right True
  """
  if type(order) is not int or order not in (1, 2) or (
      order == 2 and gradient is not None):
    raise errors.ArgumentError(
        "order={!r}{} cannot be checked.".format(
            order, "" if gradient is None else " of a gradient of your own"),
        "There are first derivatives (1), and second derivatives that gradfeed "
        "builds (2).", "Pass order=1, or leave out gradient=.")
  if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2 ** 32:
    raise errors.ArgumentError(
        "seed={!r} is no seed.".format(seed),
        "It is that of the random directions.",
        "Pass an int of at least 0 and less than 2 ** 32.")
  budget = budgets.Budget(seconds, progress)
  session = session if session is not None else sessions.default_session()
  graph = sessions.graph_of(session)
  ys = _flat_tensors(y, graph, "y")
  point = evaluation_points.EvaluationPoint(
      graph, x, x_t, session, feed_dict, budget)
  point.require_steady(ys)
  return _Examination(point, ys, gradient, order, seed).report()


class _Examination:
  """One check: builds what it evaluates, evaluates, collects the findings."""

  def __init__(self, point, ys, gradient, order, seed):
    """Builds the gradients.

    Args:
      point: `evaluation_points.EvaluationPoint`.
      ys: list of `tf.Tensor`.
      gradient: None, or what the caller passed.
      order: int, 1 or 2.
      seed: int, of the directions.
    """
    self._point = point
    self._is_own = gradient is None
    self._requested_ys = ys
    self._ys, self._dxs = (
        gradients.value_and_gradient_as_built(
            ys, [component.tensor for component in point.xs])
        if self._is_own else (ys, _tensors_of_gradient(gradient, point)))
    point.require_steady(self._dxs)
    self._order = order
    self._seed = seed
    self._constants = held_constants.HeldConstants(point, self._ys)
    self._point_findings = nonfinite.find_in_point(point)
    self._findings = list(self._point_findings)
    self._rows = []
    self._open_reasons = []
    self._comparison = None

  def report(self):
    """Runs the check and returns its `reports.Check`."""
    if self._point_findings:
      self._open_reasons.append("x_t is not finite")
    budget = self._point.budget
    try:
      self._evaluate()
      for what, look in self._stages():
        look()
        budget.finish(what)
    except budgets.OutOfTime:
      pass
    finally:
      budget.close()
    return reports.Check(
        tensors.describe_all(self._requested_ys),
        tensors.describe_all(self._point.xs), self._rows, self._findings,
        self._shares, self._open_reasons, self._forward, self._gradients,
        self._constants.eps, budget)

  def _stages(self):
    """Yields (what is looked at, function that does it), until nothing is due.

    What was found before decides what is worth while.
    """
    stages = [("special values", self._find_special_values),
              ("whether two runs give the same", self._check_repeatability)]
    if self._is_finite and not self._point_findings:
      stages += self._comparing_stages()
    self._point.budget.missing += [what for what, _ in stages]
    return stages

  def _comparing_stages(self):
    """Those that compare numbers, as `_stages`."""
    stages = [(reports.DIRECTIONS, self._compare_first)]
    if self._order > 1:
      stages.append(("second derivatives", self._compare_second))
    if self._released:
      stages.append(("what no gradient passes", self._find_blocked_paths))
    if row_coupling.is_due(self._point, self._constants):
      stages.append(("rows that depend on each other", self._find_coupling))
    return stages

  def _compare_first(self):
    """Compares the gradient with finite differences."""
    if not self._open_reasons:
      self._comparison = comparisons.Comparison(
          self._point, self._ys, self._dxs, self._constants, self._forward,
          self._gradients, self._is_own, self._seed)
      self._collect(lambda: self._comparison.first(self._values))

  def _compare_second(self):
    """Compares second derivatives, unless the first are wrong."""
    if self._comparison is not None and not self._comparison.is_wrong:
      self._collect(self._comparison.second)

  def _collect(self, compare):
    """Takes what a comparison finds, also where there is no time for all."""
    comparison, count = self._comparison, len(self._comparison.findings)
    try:
      compare()
    finally:
      self._rows, self._open_reasons = comparison.rows, comparison.reasons
      self._findings += comparison.findings[count:]

  def _find_blocked_paths(self):
    """Looks for what the gradient leaves out."""
    if not self._open_reasons:
      self._findings += blocked_paths.find_blocked_paths(
          self._constants, self._comparison.tests, self._released,
          self._gradients)

  def _find_coupling(self):
    """Looks for rows that depend on each other."""
    self._findings += row_coupling.find_coupling(
        self._point, self._ys, self._dxs, self._constants, self._seed)

  def _evaluate(self):
    """Evaluates the gradients, the ys and all sources, in one run."""
    constants = self._constants
    intended, unintended = constants.intended_stops, constants.unintended_stops
    self._forward = self._forward_with_held(unintended + intended)
    self._released = [
        self._forward_with_held(held)
        for released, held in ((unintended, intended), (intended, unintended))
        if released]
    self._targets = self._dxs + self._ys
    for forward in [self._forward] + self._released:
      self._targets = self._targets + forward.sources
    results = self._point.sample(self._targets, strict=True, is_needed=True)
    self._raw_gradients, results = _split(results, len(self._dxs))
    self._values, results = _split(results, len(self._ys))
    self._gradients = directional_tests.to_float64(self._raw_gradients)
    self._require_shapes_of_x()
    self._is_finite = all(map(
        nonfinite.is_finite, self._gradients + list(self._values)))
    self._count_special_values()
    for forward in [self._forward] + self._released:
      sources, results = _split(results, len(forward.sources))
      if self._is_finite:
        forward.bind(sources, self._values)

  def _forward_with_held(self, operations):
    """y as a function of x, random numbers and `operations` held."""
    return forward_functions.ForwardFunction(
        self._point, self._ys,
        self._constants.tensors(self._constants.randoms + operations))

  def _require_shapes_of_x(self):
    for component, value, g in zip(
        self._point.xs, self._point.values, self._gradients):
      if np.shape(g) != np.shape(value):
        raise _unlike_x(component, np.shape(g), value)

  def _check_repeatability(self):
    """Evaluates once more, and reports results that are not the same."""
    again = self._point.sample(self._targets, strict=True)
    pairs = list(zip(list(self._raw_gradients) + list(self._values), again))
    if all(numeric_comparison.has_same_bits(*pair) for pair in pairs):
      return
    drawing_ops = self._constants.randoms + self._constants.unheld_randoms
    if not drawing_ops and all(numeric_comparison.is_within(
        *directional_tests.to_float64(pair), _LAST_DIGITS) for pair in pairs):
      self._findings.append(Finding(
          "repeatability", NOTE, "The same run twice gives numbers that differ "
          "in the last digits.", "Sums are added up in another order.", ""))
      return
    self._findings.append(Finding(
        "repeatability", WARNING, "The same run twice gives other numbers.",
        "{} new ones at each run.".format(
            provenance.describe_ops(drawing_ops, "draws", "draw"))
        if drawing_ops else "Something between x and y has a state.",
        "Feed the numbers, or switch that off (keep_prob: 1.0, "
        "is_training: False)." if drawing_ops else
        "Look for functions in Python.",
        provenance.original_names(drawing_ops)))
    if self._constants.unheld_randoms or not drawing_ops:
      self._open_reasons.append("the same run twice gives other numbers")

  def _count_special_values(self):
    """Counts zeros, denormals, NaN and infinities among the gradients."""
    flat = np.concatenate([np.ravel(g) for g in self._gradients])
    tiny = max([float(np.finfo(np.asarray(g).dtype).tiny)
                for g in self._raw_gradients
                if np.asarray(g).dtype.kind in "fc"] or [0.0])
    with np.errstate(all="ignore"):
      self._shares = {
          "zero": _share(flat == 0), "nan": _share(np.isnan(flat)),
          "inf": _share(np.isinf(flat)), "denormal": _share(
              (flat != 0) & (np.abs(flat) < tiny))}

  def _find_special_values(self):
    """Looks for where NaN, infinities and zeros come from."""
    if self._point_findings:
      return
    if not self._is_finite:
      self._findings.append(nonfinite.finding(
          self._point, self._ys, self._dxs, self._gradients))
    elif self._shares["zero"] == 1.0 and any(map(np.size, self._gradients)):
      self._findings.append(self._zero_finding())

  def _zero_finding(self):
    """The `Finding` for a gradient whose elements are all 0."""
    op = nonfinite.vanishing_op(self._point, self._ys, self._dxs)
    precise = self._forward.gradients(self._point.values)
    largest = max([float(np.max(np.abs(g), initial=0.0))
                   for g in precise or ()] or [0.0])
    return Finding(
        "zero", WARNING, "Every element of the gradient is exactly 0.",
        "{}{}".format(
            "{} makes it so. ".format(provenance.describe_op(op)) if op else "",
            "In float64 it is up to {:.1e}: too small for {}.".format(
                largest, self._raw_gradients[0].dtype.name)
            if largest else "y does not change there, or is saturated."),
        "Differentiate what it reads (logits in the place of probabilities)."
        if op is not None and op.type in _SATURATING else
        "Take another x_t, or look whether y depends on x as it should.",
        [provenance.original_name(op)] if op is not None else [])


def _flat_tensors(structure, graph, role):
  """The list of the floating tensors in what a caller passes for `role`."""
  return [tensors.read_of(component) for leaf in nest.flatten(structure)
          for component in tensors.resolve(leaf, graph, role).differentiable()]


def _tensors_of_gradient(gradient, point):
  """The list of tensors of a caller's `gradient`, one for each x."""
  leaves = _flat_tensors(gradient, point.graph, "gradient")
  if len(leaves) != len(point.xs):
    raise errors.ArgumentError(
        "{} gradients for {} x.".format(len(leaves), len(point.xs)),
        "There has to be one for each.",
        "Pass gradient= in the structure of x.")
  for leaf, x, value in zip(leaves, point.xs, point.values):
    if not leaf.shape.is_compatible_with(np.shape(value)):
      raise _unlike_x(x, leaf.shape, value)
  return leaves


def _unlike_x(x, shape, value):
  """The error for a gradient that has another shape than the value of x."""
  return errors.ArgumentError(
      "The gradient by {} has the shape {}.".format(
          x, tensors.format_shape(shape)),
      "Its x_t has the shape {}.".format(
          tensors.format_shape(np.shape(value))),
      "Pass a gradient with the shape of x.")


def _split(items, count):
  return items[:count], items[count:]


def _share(flags):
  """The share of true elements in an array of bool; 0 if it is empty."""
  return float(np.mean(flags)) if np.size(flags) else 0.0
