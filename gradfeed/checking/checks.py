"""`check`: the gradient at a value, held against what y does around it."""

import numpy as np

from gradfeed.checking import blocked_paths
from gradfeed.checking import comparisons
from gradfeed.checking import directional_tests
from gradfeed.checking import evaluation_points
from gradfeed.checking import forward_functions
from gradfeed.checking import held_constants
from gradfeed.checking import nonfinite
from gradfeed.checking import reports
from gradfeed.checking import row_coupling
from gradfeed.derivatives import gradients
from gradfeed import errors
from gradfeed.evaluation import numeric_comparison
from gradfeed.evaluation import sessions
from gradfeed.findings import Finding
from gradfeed.findings import NOTE
from gradfeed.findings import WARNING
from gradfeed.graph import nest
from gradfeed.graph import provenance
from gradfeed.graph import tensors

_SATURATING = frozenset(["LogSoftmax", "Sigmoid", "Softmax", "Tanh"])

#: How far, of its size, a sum may be off that is added up in another order.
_LAST_DIGITS = 1e-4


def check(y, x, x_t, session=None, feed_dict=None, gradient=None, order=1,
          seed=0):
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

  Returns:
    `Check`.

  Raises:
    MissingFeedError: a placeholder, or what an iterator or a queue gives, has
      no value.
    ArgumentError: `order`, or a `gradient` that does not fit.
    The errors of `gradient`, of `hvp` and of a call of a `Function`.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [None], name="x")
    ...   report = gf.check(x ** 3, x, [2.0, 5.0])
    ...   print(report.verdict, report.error < 1e-6)
    right True
  """
  if order not in (1, 2) or (order == 2 and gradient is not None):
    raise errors.ArgumentError(
        "order={!r}{} cannot be checked.".format(
            order, "" if gradient is None else " of a gradient of your own"),
        "There are first derivatives (1), and second derivatives that gradfeed "
        "builds (2).", "Pass order=1, or leave out gradient=.")
  session = session if session is not None else sessions.default_session()
  graph = sessions.graph_of(session)
  ys = _resolved(y, graph, "y")
  place = evaluation_points.EvaluationPoint(graph, x, x_t, session, feed_dict)
  place.require_steady(ys)
  return _Examination(place, ys, gradient, order, seed).report()


class _Examination:
  """One check, from what is built to what is found."""

  def __init__(self, place, ys, gradient, order, seed):
    self._place = place
    self._xs = [component.tensor for component in place.points]
    self._is_own = gradient is None
    built, dxs = (gradients.value_and_gradient(ys, self._xs)
                  if self._is_own else (ys, _gradients(gradient, place)))
    self._asked, self._ys, self._dxs = ys, built, dxs
    place.require_steady(dxs)
    self._order = order
    self._seed = seed
    self._held = held_constants.HeldConstants(place, built)
    self._found = []
    self._rows = []
    self._open = []

  def report(self):
    """The `reports.Check`."""
    self._sample()
    self._repeat()
    self._count()
    if self._is_finite:
      if not self._open:
        compared = comparisons.Comparison(
            self._place, self._ys, self._dxs, self._held, self._forward,
            self._gradients, self._is_own, self._seed)
        compared.first(self._values)
        if self._order > 1 and not compared.is_wrong:
          compared.second()
        self._rows, self._open = compared.rows, compared.reasons
        self._found += compared.found
      if not self._open:
        self._found += blocked_paths.find_blocked_paths(
            self._place, self._held, self._forward, self._freer,
            self._gradients, self._seed)
      self._found += row_coupling.find_coupling(
          self._place, self._ys, self._dxs, self._held, self._seed)
    return reports.Check(
        tensors.describe_all(self._asked), tensors.describe_all(
            self._place.points), self._rows, self._found, self._shares,
        self._open, self._forward, self._gradients, self._held.eps)

  def _sample(self):
    """One run for all that has to belong together."""
    held = self._held
    self._forward = self._held_forward(held.hidden + held.meant)
    self._freer = [self._held_forward(operations) for blocked, operations in (
        (held.hidden, held.meant), (held.meant, held.hidden)) if blocked]
    targets = self._dxs + self._ys
    for forward in [self._forward] + self._freer:
      targets = targets + forward.sources
    self._targets = targets
    results = self._place.sample(targets, strict=True)
    self._raw, results = _split(results, len(self._dxs))
    self._values, results = _split(results, len(self._ys))
    self._gradients = directional_tests.broad(self._raw)
    for component, value, g in zip(
        self._place.points, self._place.values, self._gradients):
      if np.shape(g) != np.shape(value):
        raise errors.ArgumentError(
            "The gradient by {} has the shape {}.".format(
                component, tensors.format_shape(np.shape(g))),
            "Its x_t has the shape {}.".format(
                tensors.format_shape(np.shape(value))),
            "Pass a gradient with the shape of x.")
    self._is_finite = all(map(
        nonfinite.is_finite, self._gradients + list(self._values)))
    for forward in [self._forward] + self._freer:
      own, results = _split(results, len(forward.sources))
      if self._is_finite:
        forward.bind(own, self._values)

  def _held_forward(self, operations):
    return forward_functions.ForwardFunction(
        self._place, self._ys,
        self._held.tensors(self._held.randoms + operations))

  def _repeat(self):
    """Twice the same?"""
    again = self._place.sample(self._targets, strict=True)
    pairs = list(zip(list(self._raw) + list(self._values), again))
    if all(numeric_comparison.has_same_bits(*pair) for pair in pairs):
      return
    drawing = self._held.randoms + self._held.loose
    if not drawing and all(numeric_comparison.is_within(
        *directional_tests.broad(pair), _LAST_DIGITS) for pair in pairs):
      self._found.append(Finding(
          "repeatability", NOTE, "The same run twice gives numbers that differ "
          "in the last digits.", "Sums are added up in another order.", ""))
      return
    self._found.append(Finding(
        "repeatability", WARNING, "The same run twice gives other numbers.",
        "{} new ones at each run.".format(
            provenance.describe_ops(drawing, "draws", "draw"))
        if drawing else "Something between x and y has a state.",
        "Feed the numbers, or switch that off (keep_prob: 1.0, "
        "is_training: False)." if drawing else "Look for functions in Python.",
        provenance.original_names(drawing)))
    if self._held.loose or not drawing:
      self._open.append("the same run twice gives other numbers")

  def _count(self):
    """Zeros, denormals, and what is not finite."""
    flat = np.concatenate([np.ravel(g) for g in self._gradients])
    tiny = max([float(np.finfo(np.asarray(g).dtype).tiny) for g in self._raw
                if np.asarray(g).dtype.kind in "fc"] or [0.0])
    with np.errstate(all="ignore"):
      self._shares = {
          "zero": _share(flat == 0), "nan": _share(np.isnan(flat)),
          "inf": _share(np.isinf(flat)), "denormal": _share(
              (flat != 0) & (np.abs(flat) < tiny))}
    if not self._is_finite:
      self._found.append(nonfinite.finding(
          self._place, self._ys, self._dxs, self._gradients))
    elif self._shares["zero"] == 1.0 and len(flat):
      op = nonfinite.vanished(self._place, self._ys, self._dxs)
      precise = self._forward.gradients(self._place.values)
      lost = max([float(np.max(np.abs(g), initial=0.0)) for g in precise or ()]
                 or [0.0])
      self._found.append(
          Finding(
              "zero", WARNING, "Every element of the gradient is exactly 0.",
              "{}{}".format(
                  "{} makes it so. ".format(provenance.describe_op(op))
                  if op else "",
                  "In float64 it is up to {:.1e}: too small for {}.".format(
                      lost, self._raw[0].dtype.name)
                  if lost else "y does not change there, or is saturated."),
              "Differentiate what it reads (logits in the place of "
              "probabilities)."
              if op is not None and op.type in _SATURATING else
              "Take another x_t, or look whether y depends on x as it should.",
              [provenance.original_name(op)] if op is not None else []))


def _resolved(structure, graph, role):
  """The tensors of what a caller passes, flat."""
  return [tensors.read_of(component) for leaf in nest.flatten(structure)
          for component in tensors.resolve(leaf, graph, role).differentiable()]


def _gradients(gradient, place):
  leaves = _resolved(gradient, place.graph, "gradient")
  if len(leaves) != len(place.points):
    raise errors.ArgumentError(
        "{} gradients for {} x.".format(len(leaves), len(place.points)),
        "There has to be one for each.",
        "Pass gradient= in the structure of x.")
  return leaves


def _split(items, count):
  return items[:count], items[count:]


def _share(flags):
  return float(np.mean(flags)) if np.size(flags) else 0.0
