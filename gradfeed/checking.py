"""`check`: the gradient at a value, held against what y does around it."""

import numpy as np

from gradfeed import blame
from gradfeed import couplings
from gradfeed import curvatures
from gradfeed import derivatives
from gradfeed import differences
from gradfeed import errors
from gradfeed import forwards
from gradfeed import holding
from gradfeed import memos
from gradfeed import nonfinite
from gradfeed import sampling
from gradfeed import sessions
from gradfeed import tensors
from gradfeed import trials
from gradfeed import verdicts
from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.findings import BAD, NOTE, WARNING, Finding

#: A part of the derivative that is smaller than this is not told of.
_SMALL = 1e-4

#: How many roundings of y a gradient may be off, as it adds them up.
_ROUNDINGS = 32.0

_SATURATING = frozenset(["LogSoftmax", "Sigmoid", "Softmax", "Tanh"])

#: Not many second derivatives: each is a sweep of gradients.
_SECONDS = 2


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
  ys = [tensors.read_of(tensors.resolve(leaf, graph, "y"))
        for leaf in tensors.flatten(y)]
  place = sampling.Place(graph, x, x_t, session, feed_dict)
  place.require_steady(ys)
  return _Examination(place, ys, gradient, order, seed).report()


class _Examination:
  """One check, from what is built to what is found."""

  def __init__(self, place, ys, gradient, order, seed):
    self._place = place
    self._xs = [point.tensor for point in place.points]
    self._is_own = gradient is None
    built, dxs = (derivatives.value_and_gradient(ys, self._xs)
                  if self._is_own else (ys, _resolved(gradient, place)))
    self._ys, self._dxs = built, dxs
    place.require_steady(dxs)
    self._order = order
    self._seed = seed
    self._held = holding.Held(place, built)
    self._found = []
    self._rows = []
    self._open = []

  def report(self):
    """The `verdicts.Check`."""
    self._sample()
    self._repeat()
    self._count()
    if self._is_finite:
      self._first()
      if self._order > 1 and not any(f.severity == BAD for f in self._found):
        self._second()
      self._blocked()
      self._found += couplings.found(
          self._place, self._ys, self._dxs, self._held, self._seed)
    return verdicts.Check(
        self._names(), self._rows, self._found, self._shares, self._open,
        self._forward, self._gradients, self._held.eps)

  def _names(self):
    return (tensors.describe_all(self._ys),
            tensors.describe_all(self._place.points))

  def _sample(self):
    """One run for all that has to belong together."""
    held = self._held
    self._forward = self._held_forward(held.hidden + held.meant)
    self._freer = [self._held_forward(operations) for blocked, operations in (
        (held.hidden, held.meant), (held.meant, held.hidden)) if blocked]
    targets = self._dxs + self._ys
    for forward in [self._forward] + self._freer:
      targets = targets + forward.sources
    results = self._place.sample(targets, strict=True)
    self._raw, results = _split(results, len(self._dxs))
    self._values, results = _split(results, len(self._ys))
    self._gradients = trials.broad(self._raw)
    for point, value, g in zip(
        self._place.points, self._place.values, self._gradients):
      if np.shape(g) != np.shape(value):
        raise errors.ArgumentError(
            "The gradient by {} has the shape {}.".format(
                point, tensors.format_shape(np.shape(g))),
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
    return forwards.Forward(self._place, self._ys, self._held.tensors(
        self._held.randoms + operations))

  def _repeat(self):
    """Twice the same?"""
    again = self._place.sample(self._dxs + self._ys)
    pairs = list(zip(list(self._raw) + list(self._values), again))
    if all(_same_bits(*pair) for pair in pairs):
      return
    drawing = self._held.randoms + self._held.loose
    if not drawing and all(_is_near(*pair) for pair in pairs):
      self._found.append(Finding(
          "repeatability", NOTE, "The same run twice gives numbers that differ "
          "in the last digits.", "Sums are added up in another order.", ""))
      return
    self._found.append(Finding(
        "repeatability", WARNING, "The same run twice gives other numbers.",
        "{} new ones at each run.".format(_listed(drawing, "draws", "draw"))
        if drawing else "Something between x and y has a state.",
        "Feed the numbers, or switch that off (keep_prob: 1.0, "
        "is_training: False)." if drawing else "Look for functions in Python.",
        [op.name for op in drawing]))
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
      self._found.append(Finding(
          "zero", WARNING, "Every element of the gradient is exactly 0.",
          "{}{}".format(
              "{} '{}' makes it so. ".format(op.type, op.name) if op else "",
              "In float64 it is up to {:.1e}: too small for {}.".format(
                  lost, self._raw[0].dtype.name) if lost else
              "y does not change there, or is saturated."),
          "Differentiate what it reads (logits in the place of "
          "probabilities)." if op is not None and op.type in _SATURATING else
          "Take another x_t, or look whether y depends on x as it should.",
          [op.name] if op is not None else []))

  def _first(self):
    """The gradient against differences, and against itself in float64."""
    if self._open:
      return
    place, forward = self._place, self._forward
    precise = forward.gradients(place.values)
    if precise is not None and not all(map(nonfinite.is_finite, precise)):
      precise = None
    own = precise if self._is_own and precise is not None else self._gradients
    ways = differences.directions(
        trials.broad(place.values), own,
        [point.name for point in place.points], self._seed)
    eps = self._held.eps if own is self._gradients else forward.eps
    found = trials.run(forward.differences(own), own, ways, eps)
    if own is self._gradients and self._held.eps > 1e-12:
      found = self._eased(found, own, self._dxs)
    self._judge([trial._replace(gradient=differences.inner(
        self._gradients, trial.direction.arrays)) for trial in found], "", 1)
    verdict = trials.verdict_of(found)
    if precise is not None and verdict != trials.WRONG:
      self._compare(precise, verdict)

  def _eased(self, found, own, targets, held=()):
    """Where rounding x explains it, a trial is not wrong."""
    if trials.verdict_of(found) != trials.WRONG:
      return found
    others = [trials.broad(self._place.sample(
        targets, self._rounded(xs), held)) for xs in trials.nearby(
            self._place.values, self._held.eps, self._seed)]
    return trials.eased(found, own, others)

  def _rounded(self, xs):
    return [np.asarray(x, own.dtype)
            for x, own in zip(xs, self._place.values)]

  def _judge(self, found, label, order):
    """Takes the trials into the report."""
    self._rows += [verdicts.row(trial, label) for trial in found]
    verdict = trials.verdict_of(found)
    if verdict == trials.WRONG:
      self._found.append(self._wrong(found, label, order))
    elif verdict == trials.UNDECIDABLE:
      self._undecidable([trial for trial in found if trials.matters(trial) and
                         trial.verdict == trials.UNDECIDABLE][0], label)

  def _wrong(self, found, label, order):
    worst = max((trial for trial in found if trial.verdict == trials.WRONG),
                key=verdicts.off)
    inside = self._held.loose_stops
    if inside and order == 1:
      self._open.append("a tf.stop_gradient inside of a loop or a function")
      return Finding(
          "blocked", WARNING, "The gradient and the differences are apart by "
          "{}.".format(verdicts.percent(verdicts.off(worst))),
          "{} in a loop or a function, where it cannot be told what is "
          "meant.".format(_listed(inside, "stops it", "stop it")),
          "", [op.name for op in inside])
    op = None
    if self._is_own:
      op = blame.wrong_op(self._place, self._held, order, self._seed)
    return Finding(
        "wrong", BAD, "The {} is off by {} along {}.".format(
            "second derivative" if order > 1 else "gradient",
            verdicts.percent(verdicts.off(worst)),
            worst.direction.label),
        "The gradient of {} '{}' is wrong.".format(op.type, op.name)
        if op is not None else "It says {:.6g}, the differences {:.6g}.".format(
            *verdicts.scaled(worst)),
        "Write this op from others, or correct the gradient that is registered "
        "for it." if op is not None else "",
        [op.name] if op is not None else [])

  def _undecidable(self, trial, label):
    if trial.kink is None:
      self._open.append("the differences do not settle")
      self._found.append(Finding(
          "unsettled", WARNING, "The {}differences along {} do not settle.".format(
              label, trial.direction.label),
          "y is too rough, or rounded too much, for a derivative to be seen "
          "there.", "Build the model in float64, or take another x_t."))
      return
    self._open.append("y has a kink there")
    culprits = blame.kinks(self._place, self._held)[:2]
    length = trial.direction.length or 1.0
    self._found.append(Finding(
        "kink", WARNING, "y has a kink at x_t: along {} its {}slope is {:.6g} "
        "to one side and {:.6g} to the other.".format(
            trial.direction.label, label, trial.kink.left / length,
            trial.kink.right / length),
        " ".join("{} '{}' {}.".format(op.type, op.name, told)
                 for op, told in culprits),
        "There is no derivative; TensorFlow gives {:.6g}. Take another x_t, "
        "or be content with that.".format(trial.gradient / length),
        [op.name for op, _ in culprits]))

  def _compare(self, precise, verdict):
    """The gradient as it is, element by element, against float64.

    What gradfeed built is the same in float64, so that all there is between
    them is rounding. A gradient of the caller's may be anything.
    """
    eps = max(self._held.eps, self._forward.eps)
    apart, worst = _apart(self._gradients, precise, eps, self._floors(eps))
    if apart is None:
      return
    point, index = self._place.points[worst[0]], worst[1]
    element = "'{}'[{}]".format(point.name, ", ".join(map(str, index)))
    told = "At {} it is {:.6g}, and {:.6g} in float64.".format(
        element, self._gradients[worst[0]][index], precise[worst[0]][index])
    if self._is_own or not self._is_systematic(precise, worst):
      self._found.append(Finding(
          "rounding", WARNING, "Rounding errors are {} of the gradient. ".format(
              verdicts.percent(apart)) + told, "The same ops in float64 have "
          "the derivative.", "Build the model in float64, or take another "
          "x_t."))
      self._open.append("it is lost in rounding errors")
    elif verdict == trials.RIGHT:
      self._found.append(Finding(
          "wrong", BAD, "The gradient is off by {}. ".format(
              verdicts.percent(apart)) + told,
          "The gradient that gradfeed builds is right.",
          "Use gradfeed.gradient(y, x)."))

  def _is_systematic(self, precise, worst):
    """Whether an element is off in the same way near x_t, or by chance."""
    i, index = worst
    off = self._gradients[i][index] - precise[i][index]
    for xs in trials.nearby(self._place.values, self._held.eps, self._seed):
      xs = self._rounded(xs)
      one = trials.broad(self._place.sample(self._dxs, xs))[i][index]
      other = self._forward.gradients(xs)[i][index]
      if not abs(one - other - off) < 0.5 * abs(off):
        return False
    return True

  def _floors(self, eps):
    """For each x, what the rounding of y is as a part of a gradient."""
    whole = sum(float(np.sum(np.abs(y))) for y in trials.broad(self._values))
    return [_ROUNDINGS * eps * whole / differences.scale(value)
            for value in trials.broad(self._place.values)]

  def _second(self):
    """Second derivatives times directions against differences of gradients."""
    place, forward = self._place, self._forward
    with memos.memo_of(place.graph).lock:
      vs = [memos.once(place.graph, ("direction", point.name),
                       lambda point=point: _direction(point))
            for point in place.points]
    hv = curvatures.hvp(self._ys, self._xs, vs)
    base = trials.broad(place.values)
    names = [point.name for point in place.points]
    for k in range(_SECONDS):
      along = differences.directions(
          base, self._gradients, names, self._seed + k)[k].arrays
      held = list(zip(vs, self._rounded(along)))
      along = trials.broad([v for _, v in held])
      raw = trials.broad(place.sample(hv, held=held))
      precise = forward.seconds(place.values, along)
      if precise is not None and not all(map(nonfinite.is_finite, precise)):
        precise = None
      own, eps = (raw, self._held.eps) if precise is None else (
          precise, forward.eps)
      if not all(map(nonfinite.is_finite, raw)):
        self._found.append(nonfinite.finding(
            place, self._ys, hv, raw, held))
        return
      gradients_at = (
          forward.gradients if forward.gradients(place.values) is not None else
          lambda xs: trials.broad(place.sample(self._dxs, xs)))
      ways = differences.directions(
          base, own, names, self._seed, randoms=2, largest=2, zeros=2)
      found = trials.run(forward.differences_of(gradients_at, along, own), own,
                         ways, eps)
      if precise is None and eps > 1e-12:
        found = self._eased(found, own, hv, held)
      self._judge(found, "second {}: ".format(k + 1), 2)
      if trials.verdict_of(found) != trials.RIGHT:
        return

  def _blocked(self):
    """What the gradient leaves out, seen in the differences."""
    held = self._held
    groups = [group for group in (held.hidden, held.meant) if group]
    if self._open:
      return
    own = self._gradients
    ways = differences.directions(
        trials.broad(self._place.values), own,
        [point.name for point in self._place.points], self._seed)[:3]
    for group, freer in zip(groups, self._freer):
      with_it, without = [
          [source.slope(way, source.unseen) for way in ways] for source in (
              freer.differences(own), self._forward.differences(own))]
      left_out = [(abs(a.value - b.value), abs(a.value)) for a, b in zip(
          with_it, without) if abs(a.value - b.value) > 10.0 * (
              a.error + b.error) + _SMALL * abs(a.value)]
      if not left_out:
        continue
      share = sum(part for part, _ in left_out) / max(
          sum(whole for _, whole in left_out), np.finfo(float).tiny)
      ops = list(dict.fromkeys(held.told_by(op) for op in group))
      is_meant = group is held.meant
      self._found.append(Finding(
          "blocked", WARNING if is_meant else BAD,
          "The gradient leaves out what goes through {}: {} of how y "
          "changes.".format(_listed(ops, "", ""), verdicts.percent(share)),
          "The model says so." if is_meant else
          "No gradient passes {}.".format(
              "it" if len(ops) == 1 else "them"),
          "" if is_meant else "Write it from ops of TensorFlow, or give it a "
          "gradient (tf.custom_gradient).",
          [op.name for op in ops], share=share))


def _resolved(gradient, place):
  leaves = [tensors.read_of(tensors.resolve(leaf, place.graph, "gradient"))
            for leaf in tensors.flatten(gradient)]
  if len(leaves) != len(place.points):
    raise errors.ArgumentError(
        "{} gradients for {} x.".format(len(leaves), len(place.points)),
        "There has to be one for each.",
        "Pass gradient= in the structure of x.")
  return leaves


def _direction(point):
  with _tf.building(point.graph):
    return tf.placeholder(point.dtype, point.shape, name="direction")


def _split(items, count):
  return items[:count], items[count:]


def _same_bits(one, other):
  return np.asarray(one).tobytes() == np.asarray(other).tobytes()


def _is_near(one, other):
  one, other = trials.broad([one, other])
  return np.allclose(one, other, 1e-4, 1e-4 * np.max(np.abs(one), initial=0.0),
                     equal_nan=True)


def _share(flags):
  return float(np.mean(flags)) if np.size(flags) else 0.0


def _listed(operations, one, many):
  """The first of some ops in words, with a verb."""
  told = ", ".join("{} '{}'".format(op.type, op.name) for op in operations[:3])
  if len(operations) > 3:
    told += " and {} more".format(len(operations) - 3)
  return "{} {}".format(told, one if len(operations) == 1 else many).strip()


def _apart(gradients, precise, eps, floors):
  """(how far apart, where) the element is that is too far, or (None, None)."""
  allowed = trials.relative(eps)
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
