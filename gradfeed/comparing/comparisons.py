"""`compare`: whether rewritten code agrees with the old, and where not."""

from collections import abc

import numpy as np

from gradfeed.comparing import differences
from gradfeed.comparing import legacy_side
from gradfeed.comparing import new_code
from gradfeed.comparing import reports
from gradfeed import _tf
from gradfeed import errors
from gradfeed.evaluation import functions
from gradfeed.findings import BAD
from gradfeed.findings import Finding
from gradfeed.findings import NOTE
from gradfeed.graph import tensors

#: The rounding of central differences in float64, as an eps of a float.
_EPS_OF_DIFFERENCES = 1e-8


def compare(f, g, points, layers=None, weights=None, g_gradient=None, order=1,
            seed=0):
  """Holds rewritten code against the old: values, gradients, where it begins.

  At each point both sides are called. Where something differs by more than the
  rounding of the less precise side explains, the layers tell where it begins:
  the first whose value differs; where all values agree, the last layer, from x
  to y, whose gradient dy/dlayer differs.

  Args:
    f: `Function`, the old code. Outputs that are derivatives are left out; the
      gradient is that of the sum of the others by each floating input.
    g: the new code, called with one array for each input of `f`; returns y (or
      a list of ys), or the pair (y, dict from name to layer). TF 2 code (a
      `tf.function`, a Keras model, a `LegacyModule`), differentiated by a
      `GradientTape`; a `Function`; or a callable on arrays, such as one of JAX
      or PyTorch.
    points: list of values of x; of tuples where `f` has several inputs. An
      array that is itself a value of x is one point.
    layers: dict from old tensor (or its name) to the new one: a name in the
      dict that `g` returns, a layer of the Keras model, a tensor of a
      `Function` `g`, or a callable of the inputs. None to match tensors by
      their values.
    weights: dict from the name of an old variable to a variable of TF 2, or to
      (variable, transform); the transform takes an array in the layout of the
      new variable to that of the old one (`np.transpose`). Values and gradients
      are compared.
    g_gradient: callable on arrays that gives dy/dx of `g`, one for each
      floating input. Without it a `g` on arrays is differentiated by central
      differences in float64, by at most 64 elements of each x.
    order: 1, or 2 to compare second derivatives along a direction as well.
    seed: int, of that direction.

  Returns:
    `Comparison`.

  Raises:
    ArgumentError: an argument that does not fit; says which.
    MissingFeedError: `f` has a placeholder without a value.
    The errors of `gradients` and of a call of a `Function`.

  Example:
    >>> import gradfeed as gf, numpy as np, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [None], name="x")
    ...   f = gf.function(x, tf.sin(x), session)
    ...   right = gf.compare(f, np.sin, [[1.0, 2.0], [3.0]], g_gradient=np.cos)
    ...   wrong = gf.compare(f, np.tanh, [[1.0, 2.0]])
    ...   print(right.verdict, wrong.verdict)
    agrees differs
  """
  if type(order) is not int or order not in (1, 2):
    raise errors.ArgumentError(
        "order={!r} cannot be compared.".format(order),
        "There are first (1) and second derivatives (2).", "Pass 1 or 2.")
  if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2 ** 32:
    raise errors.ArgumentError(
        "seed={!r} is no seed.".format(seed),
        "It is that of the direction of second derivatives.",
        "Pass an int of at least 0 and less than 2 ** 32.")
  if g_gradient is not None and not callable(g_gradient):
    raise errors.ArgumentError(
        "g_gradient is a {}, which cannot be called.".format(
            type(g_gradient).__name__), "It gives dy/dx of g at arrays.",
        "Pass a function of the arguments of g.")
  if not callable(g):
    raise errors.ArgumentError(
        "g is a {}, which cannot be called.".format(type(g).__name__),
        "It is the new code.", "Pass a function of arrays, or a gf.Function.")
  old = legacy_side.LegacySide(f)
  points = _points(f, points)
  new = _side(g, g_gradient, points[0])
  return _Work(old, new, points, layers, weights, order, seed).report()


class _Work:
  """One comparison."""

  def __init__(self, old, new, points, layers, weights, order, seed):
    self._old, self._new, self._points = old, new, points
    self._order, self._random = order, np.random.RandomState(seed)
    self._rows = {}
    self._unmatched, self._is_matched = None, layers is None
    _check_mapping(layers, "layers")
    _check_mapping(weights, "weights")
    self._weights, self._new_weights, self._transforms = {}, {}, {}
    for name, given in (weights or {}).items():
      variable, transform = given if isinstance(given, tuple) else (given, None)
      leaf = tensors.resolve(name, old.graph, "weights")
      parts = leaf.differentiable()
      if len(parts) > 1:
        raise errors.ArgumentError(
            "{} has {} parts.".format(tensors.describe(leaf), len(parts)),
            "A weight is compared with one variable of the new code.",
            "Name each part: {}.".format(", ".join(
                repr(part.name) for part in parts)))
      self._weights[str(name)] = tensors.read_of(parts[0])
      self._new_weights[str(name)] = (
          tensors.read_of(tensors.resolve(variable, None, "weights"))
          if isinstance(new, new_code.FunctionSide) else variable)
      self._transforms[str(name)] = transform
    if layers is None:
      self._layers, self._named = self._match()
    else:
      given = [(tensors.resolve(
          _tf.dereference(key), old.graph, "layers").tensor, value)
               for key, value in layers.items()]
      self._layers = old.sort([tensor for tensor, _ in given])
      self._named = {tensor.name: value for tensor, value in given}

  def report(self):
    """Evaluates both sides at all points and sums up."""
    for i, point in enumerate(self._points):
      self._compare_at(i, point)
    bad = [row for row in self._rows.values() if not row["agrees"]]
    wrong = [row for row in bad if not row["kind"].startswith("layer")]
    if not self._is_matched:  # Pairs that the caller gave count themselves.
      wrong = wrong or bad
    findings, begins = [], None
    if wrong:
      worst = max((r for r in wrong), key=lambda row: row["excess"])
      begins, finding = self._begin()
      findings = [finding] if finding else []
      findings.append(Finding(
          "worst", BAD, "The {} of {!r} differs at point {}{}.".format(
              worst["kind"], worst["name"], worst["point"],
              ", element {}".format(worst["index"]) if worst["index"] else ""),
          "The shapes are {} and {}.".format(*worst["shapes"])
          if worst["shapes"] else
          "Old {:.6g}, new {:.6g}: {:.2g} apart, where rounding explains "
          "{:.2g}.".format(worst["old"], worst["new"], worst["error"],
                           worst["allowed"]), "", [worst["name"]]))
      summary = "the new code is not the old: {}.".format(", ".join(
          sorted({row["kind"] + "s" for row in wrong})))
    else:
      summary = "values and gradients are the same at {} point{}.".format(
          len(self._points), "s" * (len(self._points) > 1))
    if not self._new.is_exact:
      findings.append(Finding(
          "differences", NOTE, "The gradient of g is one by differences.",
          "Errors of less than about 1e-6 of it are not seen.",
          "Pass g_gradient= where there is one."))
    return reports.Comparison(
        "differs" if wrong else "agrees", summary, findings,
        list(self._rows.values()), begins, [t.name for t in self._layers])

  def _compare_at(self, i, point):
    directions = None
    if self._order == 2:
      directions = [self._random.normal(size=np.shape(point[n])).astype(
          point[n].dtype) for n in self._old.numbers]
    a = self._old.sample(point, self._layers, self._weights, directions)
    spread = self._old.sample(
        self._rounded(point), self._layers, self._weights, directions)
    b, _ = self._new.sample(
        point, self._old.numbers, self._named, self._new_weights, directions,
        self._unmatched is not None)
    eps = differences.precision(a.y + b.y + [
        point[n] for n in self._old.numbers])
    rough = eps if self._new.is_exact else max(eps, _EPS_OF_DIFFERENCES)
    if len(a.y) != len(b.y):
      raise errors.ArgumentError(
          "g gives {} ys, f gives {}.".format(len(b.y), len(a.y)),
          "They are compared in their order.", "Return as many from g.")
    names = [t.name for t in self._old.ys], [t.name for t in self._old.xs]
    for kind, keys, field, bound in (
        ("value", names[0], "y", eps), ("gradient", names[1], "dx", rough),
        ("second", names[1], "second", max(16.0 * eps, 1e-8))):
      for key, p, q, s in zip(keys, getattr(a, field), getattr(b, field),
                              getattr(spread, field)):
        if q is not None and np.asarray(q).dtype.kind == "f" and (
            kind == "gradient" and not self._new.is_exact and
            np.shape(p) == np.shape(q)):
          q = np.where(np.isnan(q), p, q)
        self._add(kind, key, i, p, q, bound, s)
    for kind, field in (("layer", "layers"), ("layer gradient", "dlayers"),
                        ("weight", "weights"), ("weight gradient", "dweights")):
      for key, q in getattr(b, field).items():
        transform = self._transforms.get(key)
        q = transform(q) if transform and q is not None else q
        self._add(kind, key, i, getattr(a, field)[key], q, eps,
                  getattr(spread, field)[key])

  def _rounded(self, point):
    """The point, each number moved by about its rounding."""
    moved = list(point)
    for n in self._old.numbers:
      v = np.asarray(point[n])
      if v.dtype.kind in "fc":
        signs = self._random.choice([-1.0, 1.0], v.shape)
        moved[n] = (v * (1.0 + 2.0 * np.finfo(v.dtype).eps * signs)).astype(
            v.dtype)
    return moved

  def _add(self, kind, name, point, old, new, eps, spread):
    """Keeps the worst point of a thing."""
    if self._unmatched is not None and kind.startswith("layer") and (
        old is not None and new is not None):
      if np.size(old) == np.size(new):
        old, new = _aligned(old, new)
        spread = None if spread is None else np.ravel(spread)
    moved = None
    if spread is not None and old is not None and (
        np.shape(spread) == np.shape(old)):
      with np.errstate(all="ignore"):
        moved = np.subtract(spread, old, dtype=np.result_type(
            np.asarray(old).dtype, np.float64))
    row = differences.difference(old, new, eps, moved)
    row.update(kind=kind, name=name, point=point,
               agrees=differences.agrees(row))
    known = self._rows.get((kind, name))
    if known is None or row["excess"] > known["excess"]:
      self._rows[kind, name] = row

  def _match(self):
    """Pairs old tensors with results of the new code that hold the same."""
    old = self._old.between()
    point = self._points[0]
    values = self._old.values(old, point) if old else []
    _, found = self._new.sample(point, self._old.numbers, {}, {}, None, True)
    eps = differences.precision(point + values)
    chosen, named, unmatched, taken = [], {}, [], set()
    present = set()
    ys = {y.name for y in self._old.ys}
    for t, v in zip(old, values):
      if t.name in ys or np.size(v) < 2 or np.ptp(v) == 0.0 or not (
          np.isfinite(v).all()):
        continue
      # Pairs of the same shape first: a reshape holds the same numbers.
      keys = [k for k, w in found.items() if np.shape(w) == np.shape(v)] + [
          k for k, w in found.items() if np.shape(w) != np.shape(v)]
      key = next((k for k in keys if differences.is_same_set(
          v, found[k], eps)), None)
      if key is None:
        unmatched.append(t)
        continue
      present.add(t.op.name)
      # Of several that hold the same, the first: what comes after passes on.
      if not any(differences.is_same_set(found[key], found[k], eps)
                 for k in taken):
        chosen.append(t)
        named[t.name] = key
        taken.add(key)
    self._unmatched, self._present = unmatched if found else None, present
    return chosen, named

  def _begin(self):
    """(name of the tensor at which the difference begins, `Finding`)."""
    values = [t for t in self._layers
              if not self._rows["layer", t.name]["agrees"]]
    y_agrees = all(row["agrees"] for (kind, _), row in self._rows.items()
                   if kind == "value")
    if values:
      return self._found(values[0], "value", "All before it agree.")
    if not y_agrees:
      lost = self._first_unmatched() if self._unmatched else None
      first = lost if lost is not None else self._old.ys[0]
      return self._found(first, "value", (
          "Nothing that the new code computes has its values, while all "
          "before it is there." if lost is not None else
          "All layers that were compared agree."))
    for t in reversed(self._layers):
      row = self._rows.get(("layer gradient", t.name))
      if row is not None and not row["agrees"]:
        return self._found(t, "gradient", "All values agree, and the gradients "
                           "by all that comes after it.")
    if any(kind == "gradient" and not row["agrees"]
           for (kind, _), row in self._rows.items()):
      first = self._layers[0] if self._layers and any(
          kind == "layer gradient" for kind, _ in self._rows) else (
              self._old.xs[0])
      return self._found(first, "gradient", "All values agree.")
    return None, None

  def _first_unmatched(self):
    """The first old tensor that neither it nor what follows is found new."""
    alive = set(self._present)
    for t in reversed(self._old.between()):
      if any(c.name in alive for c in t.consumers()):
        alive.add(t.op.name)
    return next((t for t in self._unmatched if t.op.name not in alive), None)

  def _found(self, tensor, kind, why):
    name = tensor.name
    return name, Finding(
        "begins", BAD, "It begins at {}: the {} differs there.".format(
            tensors.describe(tensor), kind), why,
        "Look at what the new code does {} {}.".format(
            "to compute" if kind == "value" else "with", repr(tensor.op.name)),
        [name], of=kind)


def _aligned(old, new):
  """Two arrays of one size, flat, both in the order of their values."""
  if np.shape(old) == np.shape(new):
    return np.ravel(old), np.ravel(new)
  return np.sort(np.ravel(old)), np.sort(np.ravel(new))


def _check_mapping(given, role):
  if not isinstance(given, (abc.Mapping, type(None))):
    raise errors.ArgumentError(
        "{} is a {}.".format(role, type(given).__name__),
        "It maps what is old to what is new.", "Pass a dict.")


def _points(f, points):
  """list of points, each a list with the value of each input."""
  count, leaves = len(f.inputs), f.inputs
  if count == 1 and hasattr(points, "shape"):
    fits = leaves[0].shape.is_compatible_with
    if fits(points.shape):
      points = [points]
  try:
    points = list(points)
  except TypeError:
    points = []
  if not points:
    raise errors.ArgumentError(
        "There are no points.", "Both sides are compared at values of x.",
        "Pass a list of values.")
  found = []
  for i, point in enumerate(points):
    values = [point] if count == 1 else (
        list(point) if isinstance(point, (list, tuple)) else [])
    if len(values) != count:
      raise errors.ArgumentError(
          "Point {} has {} values for {} inputs.".format(
              i, len(values), count),
          "f has {}.".format(tensors.describe_all(f.inputs)),
          "Pass a tuple with one value for each.")
    try:
      found.append([np.asarray(v, _tf.numpy_dtype(leaf.dtype))
                    for v, leaf in zip(values, leaves)])
    except (TypeError, ValueError) as error:
      raise errors.FeedError(
          "Point {} is no value of {}.".format(
              i, tensors.describe_all(f.inputs)), str(error),
          "Pass numbers in the shape of each input.") from None
  return found


def _side(g, g_gradient, point):
  """The side of the new code that `g` is."""
  if isinstance(g, functions.Function):
    return new_code.FunctionSide(g)
  if g_gradient is not None:
    return new_code.ArraySide(g, g_gradient)
  with _tf.eagerly():
    ys, _ = new_code.split_result(g(*point), [])
  if any(map(_tf.is_eager, ys)) or hasattr(g, "python_function"):
    return new_code.EagerSide(g)
  return new_code.ArraySide(g, None)
