"""The verbs: tensors in, tensors out, built once on the graph.

Everything is one product around `tf.gradients`, `_cotangents_back`; a verb
says what goes in and in which form it comes out.
"""

import hashlib

import numpy as np

from gradfeed import _tf
from gradfeed import copies
from gradfeed import errors
from gradfeed import memos
from gradfeed import paths
from gradfeed import tensors
from gradfeed._tf import tf

_UNCONNECTED = ("error", "zero", "none")


def gradient(y, x, grad_ys=None, stop_gradients=None, unconnected="error",
             sparse=False):
  """Builds d sum(y) / dx; the same op on every later call.

  Adds ops to the graph under `gradfeed/` on the first call and none
  afterwards, so it is safe in a loop. No op that is there is changed: with a
  `While`, `If`, `Case` or call of a function between x and y, that part is
  copied first, so that a session that has run goes on working.

  All elements of y are summed: with a mean over a batch in y, the gradient by
  one row is divided by the number of rows. The gradient of a gradient is that
  of its sum, which is the row sums of the Hessian, not the Hessian.

  Args:
    y: floating or complex `tf.Tensor` of any shape, variable, name such as
      "loss:0", or nested lists, tuples and dicts of them, which are summed.
    x: what to differentiate by: `tf.Tensor`, ref, resource or partitioned
      variable, `tf.SparseTensor` (its values), name, or nested structure.
    grad_ys: None for ones, or the cotangents: tensors or arrays in the
      structure of `y`, each of exactly its y's shape and dtype.
    stop_gradients: tensors to hold constant, or None.
    unconnected: "error", "zero" (zeros of x's shape) or "none" (None) for an
      x that y does not depend on.
    sparse: bool; leave the gradient of a gather as a `tf.IndexedSlices`, with
      the rows of equal indices summed, instead of a dense tensor.

  Returns:
    The structure of `x`, with a `tf.Tensor` of the shape and dtype of each x,
    in units of `y` per unit of `x`. A `tf.SparseTensor` gives one with the
    same indices. Complex derivatives are conjugated as in `tf.gradients`:
    2 conj(z) for z^2.

  Raises:
    DisconnectedError: no differentiable path leads from an x to y; says what
      cuts it and what to differentiate by instead. A refused call adds no op.
    MissingGradientError: an op between them has no registered gradient.
    CotangentError: a value of `grad_ys` does not fit its y.
    FinalizedGraphError: the gradient is not built yet and the graph closed.
    GraphMismatchError, EagerModeError, TensorNotFoundError, ArgumentError:
      what was passed is not a tensor of one graph.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [])
    ...   dx = gf.gradient(x ** 3, x)
    ...   print(session.run(dx, {x: 2.0}))
    12.0
  """
  return value_and_gradient(
      y, x, grad_ys, stop_gradients, unconnected, sparse)[1]


def value_and_gradient(y, x, grad_ys=None, stop_gradients=None,
                       unconnected="error", sparse=False):
  """Builds (y, d sum(y) / dx) that one forward pass computes together.

  Where a part of the graph had to be copied for the gradient (`While`, `If`,
  calls of functions), the returned y is the copy's: the gradient and the
  value come from the same pass, and from the same dropout mask.

  Args:
    y: as in `gradient`.
    x: as in `gradient`.
    grad_ys: as in `gradient`.
    stop_gradients: as in `gradient`.
    unconnected: as in `gradient`.
    sparse: as in `gradient`.

  Returns:
    (y, dy/dx): tensors in the structures of `y` and of `x`.

  Raises:
    The same errors as `gradient`.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [])
    ...   f = gf.function(x, gf.value_and_gradient(x ** 3, x))
    ...   y, dx = f(2.0)
    ...   print(y, dx)
    8.0 12.0
  """
  if unconnected not in _UNCONNECTED:
    raise errors.ArgumentError(
        "unconnected={!r} is not known.".format(unconnected),
        "It says what stands for an x that y does not depend on.",
        "Use one of {}.".format(", ".join(map(repr, _UNCONNECTED))))
  graph = tensors.graph_of(y, x)
  ys, xs = _leaves(y, graph, "y"), _leaves(x, graph, "x")
  request = _Request(graph, ys, xs, _cotangents(grad_ys, y, ys, graph),
                     _stops(stop_gradients, graph), {})
  built = request.build(strict=unconnected == "error")
  parts = iter(built.gradients)
  shaped = [_shaped(graph, leaf, [next(parts) for _ in leaf.differentiable()],
                    unconnected, sparse) for leaf in xs]
  return tensors.pack(y, built.ys), tensors.pack(x, shaped)


def gradients(ys, xs, grad_ys=None, name="gradients",
              colocate_gradients_with_ops=False, gate_gradients=False,
              aggregation_method=None, stop_gradients=None,
              unconnected_gradients=tf.UnconnectedGradients.NONE):
  """Takes the place of `tf.gradients`: the same arguments and results.

  What differs: the second call with the same arguments returns the tensors of
  the first; a session that has run goes on working when `While`, `If` or
  calls of functions are differentiated; gradients of gathers are dense
  tensors, in which no row is counted twice.

  Args:
    ys: tensor, variable, name, or list of them.
    xs: tensor, variable, name, or list of them.
    grad_ys: list of tensors, arrays or None, one for each y; None for ones.
    name: str, the name scope, inside `gradfeed/`.
    colocate_gradients_with_ops: as in `tf.gradients`.
    gate_gradients: as in `tf.gradients`.
    aggregation_method: as in `tf.gradients`.
    stop_gradients: tensors to hold constant, or None.
    unconnected_gradients: `tf.UnconnectedGradients` or its value.

  Returns:
    A list with d sum(ys) / dx for each x: `tf.Tensor` of the shape and dtype
    of x, or None where `ys` does not depend on it.

  Raises:
    The same errors as `gradient`, save `DisconnectedError`.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x, z = tf.placeholder(tf.float64, []), tf.constant(1.0)
    ...   dx, dz = gf.gradients(x * x, [x, z])
    ...   print(session.run(dx, {x: 3.0}), dz)
    6.0 None
  """
  unconnected = _unconnected_gradients(unconnected_gradients)
  graph = tensors.graph_of(ys, xs)
  points_y = _leaves(ys, graph, "ys")
  points_x = _leaves(xs, graph, "xs")
  settings = dict(
      name=name, colocate_gradients_with_ops=colocate_gradients_with_ops,
      gate_gradients=gate_gradients, aggregation_method=aggregation_method)
  request = _Request(
      graph, points_y, points_x, _cotangents(grad_ys, ys, points_y, graph),
      _stops(stop_gradients, graph), settings)
  parts = iter(request.build(strict=False).gradients)
  return [_shaped(graph, leaf, [next(parts) for _ in leaf.differentiable()],
                  unconnected, sparse=False) for leaf in points_x]


def _unconnected_gradients(value):
  try:
    return tf.UnconnectedGradients(value).value
  except ValueError:
    raise errors.ArgumentError(
        "unconnected_gradients={!r} is not known.".format(value),
        "It says what stands for an x that the ys do not depend on.",
        "Use tf.UnconnectedGradients.NONE or .ZERO.") from None


def _leaves(structure, graph, role):
  leaves = tensors.flatten(structure)
  if not leaves:
    raise errors.ArgumentError(
        "{} is empty.".format(role), "There is nothing to differentiate.",
        "Pass at least one tensor.")
  return [tensors.resolve(leaf, graph, role) for leaf in leaves]


def _stops(stop_gradients, graph):
  if stop_gradients is None:
    return []
  return [point for leaf in _leaves(stop_gradients, graph, "stop_gradients")
          for point in leaf.differentiable()]


class _Cotangent:
  """One checked value of `grad_ys`, with a key that names its content."""

  def __init__(self, value, y, graph):
    self.given = value
    if isinstance(value, (tf.Tensor, str)) or (
        _tf.is_variable(value)):
      self.given = tensors.read_of(tensors.resolve(value, graph, "grad_ys"))
      self.key = self.given.name
      dtype, self.shape = self.given.dtype.base_dtype, self.given.shape
    else:
      self.given = np.asarray(value)
      if self.given.dtype.kind in "iufb" and y.dtype.is_floating:
        self.given = self.given.astype(y.dtype.as_numpy_dtype)
      self.key = (self.given.dtype.str, self.given.shape, hashlib.sha256(
          np.ascontiguousarray(self.given).tobytes()).hexdigest())
      dtype = tf.as_dtype(self.given.dtype)
      self.shape = tf.TensorShape(self.given.shape)
    self.is_sure = self.shape.is_fully_defined() and y.shape.is_fully_defined()
    fits = self.shape.is_compatible_with(y.shape)
    if dtype != y.dtype or not fits:
      raise errors.CotangentError(
          "grad_ys of {} ({}, {}) does not fit y = {}.".format(
              "shape", dtype.name, tensors.format_shape(self.shape),
              tensors.describe(y)).replace("of shape ", ""),
          "TensorFlow broadcasts a cotangent of another shape without a word, "
          "and the result is the gradient of something else.",
          "Pass a value with the shape and dtype of y; a single weight is "
          "`weight * tf.ones_like(y)`.")

  def tensor(self, y):
    """The cotangent as a tensor, held against the shape of y at run time."""
    given = tf.convert_to_tensor(self.given, dtype=y.dtype)
    if self.is_sure:
      return given
    y = tensors.read_of(y)
    told = errors.SHAPE_OF_COTANGENT.format(given.name, y.name)
    rank = tf.assert_equal(tf.rank(given), tf.rank(y), message=told)
    with tf.control_dependencies([rank]):
      shape = tf.assert_equal(tf.shape(given), tf.shape(y), message=told)
    with tf.control_dependencies([shape]):
      return tf.identity(given)


def _cotangents(grad_ys, structure, ys, graph):
  if grad_ys is None:
    return [None] * len(ys)
  if not tensors.is_container(structure):
    values = (list(grad_ys) if isinstance(grad_ys, (list, tuple)) and
              len(grad_ys) == 1 else [grad_ys])
  else:
    try:
      values = tensors.flatten_as(structure, grad_ys, "grad_ys")
    except errors.FeedError as error:
      raise errors.CotangentError(
          "grad_ys does not have the structure of y.", error.why,
          "Pass the cotangents in the same lists, tuples and dicts as the "
          "ys.") from None
  return [None if value is None else _Cotangent(
      _tf.dereference(value), y, graph) for value, y in zip(values, ys)]


class _Built:
  """What one request added to the graph."""

  def __init__(self, ys, gradients_by_x):
    self.ys = ys
    self.gradients = gradients_by_x


class _Request:
  """One checked call: what by what, with what held constant."""

  def __init__(self, graph, ys, xs, cotangents, stops, settings):
    self.graph = graph
    self.ys = [point for leaf in ys for point in leaf.differentiable()]
    self.xs = [point for leaf in xs for point in leaf.differentiable()]
    self.leaves = xs
    if any(len(leaf.differentiable()) != 1 for leaf in ys):
      raise errors.ArgumentError(
          "y {} is a partitioned variable.".format(
              tensors.describe_all(ys)),
          "It is several tensors.", "Pass `variable.as_tensor()`.")
    self.cotangents = cotangents
    self.stops = stops
    self.settings = settings

  def key(self):
    return ("gradients", tuple(y.name for y in self.ys),
            tuple(x.name for x in self.xs),
            tuple(c and c.key for c in self.cotangents),
            tuple(sorted(stop.name for stop in self.stops)),
            tuple(sorted(self.settings.items())))

  def build(self, strict):
    """The `_Built` of this request; `strict` refuses an unconnected x."""
    built = memos.memo_of(self.graph).built.get(self.key())
    if isinstance(built, errors.GradfeedError):
      raise type(built)(built.what, built.why, built.fix)
    if built is None:
      with memos.memo_of(self.graph).lock:
        built = self._build_once(strict)
    if strict and any(g is None for g in built.gradients):
      self._refuse([x for x, g in zip(self.xs, built.gradients) if g is None],
                   self._trace())
    return built

  def _build_once(self, strict):
    known = memos.memo_of(self.graph).built
    if self.key() not in known:
      trace = self._checked_trace(strict)
      try:
        known[self.key()] = self._build(trace)
      except errors.UnsupportedGraphError as error:  # Found while building.
        known[self.key()] = error
        raise
    return known[self.key()]

  def _trace(self):
    return paths.Trace([y.tensor for y in self.ys],
                       [x.tensor for x in self.xs],
                       [stop.tensor for stop in self.stops])

  def _checked_trace(self, strict):
    memos.require_open(self.graph, "The gradient of {} by {}".format(
        tensors.describe_all(self.ys), tensors.describe_all(self.leaves)))
    trace = self._trace()
    lost = [x for x in self.xs if x.name not in trace.tensors]
    numbers = [y for y in self.ys if not (
        y.dtype.is_floating or y.dtype.is_complex)]
    if numbers and (strict or len(numbers) < len(self.ys)):
      self._refuse(self.xs, trace)
    if trace.second_order:
      raise errors.UnsupportedGraphError(
          "No second-order gradient of {} by {}.".format(
              tensors.describe_all(self.ys),
              tensors.describe_all(self.leaves)),
          "TensorFlow has none for a while loop of control flow v1: what its "
          "gradient remembers of each turn ('{}') passes no gradient on, and "
          "a part of the result would be lost without a word.".format(
              trace.second_order[0].name),
          "Build the loop with control flow v2 "
          "(tf.enable_control_flow_v2() before it is built), or unroll it.")
    if strict and lost:
      self._refuse(lost, trace)
    self._check_stops(trace)
    if trace.missing:
      op = trace.missing[0]
      raise errors.MissingGradientError(
          "No gradient of {} by {}.".format(
              tensors.describe_all(self.ys),
              tensors.describe_all(self.leaves)),
          "TensorFlow has no gradient for {} '{}', which lies between "
          "them.".format(op.type, op.name),
          "Hold its output constant (stop_gradients=[{}]) or register a "
          "gradient with tf.RegisterGradient.".format(
              ", ".join(repr(t.name) for t in op.outputs)))
    return trace

  def _check_stops(self, trace):
    """TensorFlow stops at whole ops; another output must not be lost."""
    stops = {stop.name for stop in self.stops}
    for stop in self.stops:
      for other in stop.op.outputs:
        if other.name in trace.tensors and other.name not in stops:
          raise errors.UnsupportedGraphError(
              "{} cannot be held constant alone.".format(
                  tensors.describe(stop)),
              "tf.gradients stops at the whole op {}, and {} would be held "
              "constant as well.".format(
                  tensors.describe(stop.op), tensors.describe(other)),
              "Use tf.stop_gradient({}) where the model reads it.".format(
                  stop.name))

  def _refuse(self, lost, trace):
    what, why, fix = [], [], []
    for x in lost:
      reason, advice = paths.why_disconnected(self.ys, x, trace)
      what.append("No gradient of {} by {}.".format(
          tensors.describe_all(self.ys), tensors.describe(x)))
      why.append(reason)
      fix.append(advice)
    raise errors.DisconnectedError(
        " ".join(what), " ".join(dict.fromkeys(why)),
        " ".join(dict.fromkeys(fix)))

  def _build(self, trace):
    with _tf.without_runs(self.graph):
      return self._build_alone(trace)

  def _build_alone(self, trace):
    twins = self._copied_path(trace)
    ys = [twins.get(tensors.read_of(y).name, tensors.read_of(y))
          for y in self.ys]
    xs = [twins.get(x.name, x.tensor) for x in self.xs]
    stops = [twins.get(stop.name, stop.tensor) for stop in self.stops]
    connected = [i for i, x in enumerate(self.xs) if x.name in trace.tensors]
    results = [None] * len(xs)
    with _tf.building(self.graph, self.ys[0].op):
      if connected:
        built = self._differentiate(ys, [xs[i] for i in connected], stops)
        for i, result in zip(connected, built):
          results[i] = self._owned(result, self.xs[i])
    self._remember(ys, results)
    return _Built(ys, results)

  def _differentiate(self, ys, xs, stops):
    cotangents = []
    for given, point, y in zip(self.cotangents, self.ys, ys):
      if given is not None:
        cotangents.append(given.tensor(point))
      else:  # TensorFlow asks for the ones of a complex y.
        cotangents.append(tf.ones_like(y) if y.dtype.is_complex else None)
    try:
      return tf.gradients(ys, xs, grad_ys=cotangents,
                          stop_gradients=stops or None, **self.settings)
    except (ArithmeticError, AttributeError, LookupError, NotImplementedError,
            TypeError, ValueError, tf.errors.OpError) as error:
      raise errors.UnsupportedGraphError(
          "TensorFlow cannot differentiate {} by {}.".format(
              tensors.describe_all(self.ys),
              tensors.describe_all(self.leaves)),
          "tf.gradients raises {}: {}".format(
              type(error).__name__, str(error).split("\n")[0]),
          "Differentiate by a tensor further on the way, or hold the part in "
          "question constant (stop_gradients).") from error

  def _copied_path(self, trace):
    """Copies of what lies after the first functional op on the path."""
    functional = [op for op in trace.path.values()
                  if op.type in paths.FUNCTIONAL]
    if not functional:
      return {}
    found = paths.ancestors([y.tensor for y in self.ys])
    carrying = {name: op for name, op in found.items() if name in trace.path}
    part = {op.name for op in functional} | paths.descendants(
        carrying, {t.name for op in functional for t in op.outputs},
        control=False)
    for name in part:
      if _tf.is_inside_while(found[name]):
        raise errors.UnsupportedGraphError(
            "{} by {} cannot be differentiated safely.".format(
                tensors.describe_all(self.ys),
                tensors.describe_all(self.leaves)),
            "{} is inside a while loop of control flow v1, and the call of a "
            "function before it ({}) has to be copied together with "
            "it.".format(tensors.describe(found[name]),
                         tensors.describe(functional[0])),
            "Build the loop with control flow v2 as well "
            "(tf.enable_control_flow_v2()), or differentiate by the function's "
            "output, {}.".format(tensors.describe(functional[0].outputs[0])))
    copied = copies.copy(self.graph, part, found, {}, "path",
                         renew={x.name for x in self.xs})
    twins = memos.memo_of(self.graph).twins
    for name, twin in copied.items():
      if isinstance(twin, tf.Tensor):
        twins[name].append(twin.name)
    return copied

  def _owned(self, result, x):
    """`result` as an op of gradfeed's own, with the static shape of `x`."""
    if result is None or isinstance(result, tf.IndexedSlices):
      return result
    if not result.name.startswith(_tf.SCOPE) or (
        result.name in memos.memo_of(self.graph).derivatives):
      result = tf.identity(result)
    result.set_shape(x.shape)
    return result

  def _remember(self, built, results):
    names = tuple(_name(result) for result in results)
    derivative = memos.Derivative(
        tuple(y.name for y in self.ys), tuple(x.name for x in self.xs),
        tuple(stop.name for stop in self.stops),
        tuple(y.name for y in built), names)
    memos.memo_of(self.graph).derivatives.update(
        (name, derivative) for name in names if name is not None)


def _shaped(graph, leaf, parts, unconnected, sparse):
  """The gradients of the parts of one x, in the form of that x."""
  key = ("shaped", leaf.name, type(leaf).__name__, unconnected, sparse,
         tuple(_name(part) for part in parts))
  if all(part is None for part in parts) and unconnected != "zero":
    return None
  if isinstance(leaf, tensors.Point) and isinstance(parts[0], tf.Tensor):
    return parts[0]

  def build():
    memos.require_open(graph, "The gradient by {}".format(leaf))
    with _tf.building(graph):
      points = leaf.differentiable()
      if sparse and len(parts) == 1 and isinstance(
          parts[0], tf.IndexedSlices):
        return _summed(parts[0])
      dense = [_dense(part, point) for part, point in zip(parts, points)]
      if isinstance(leaf, tensors.Partitioned):
        return tf.concat(dense, leaf.axis)
      if isinstance(leaf, tensors.Sparse):
        return tf.SparseTensor(leaf.indices.tensor, dense[0],
                               leaf.dense_shape.tensor)
      return dense[0]

  return memos.once(graph, key, build)


def _name(part):
  if isinstance(part, tf.IndexedSlices):
    return part.values.name
  return None if part is None else part.name


def _dense(part, point):
  """A dense tensor of the value's shape; rows of equal indices are summed."""
  if part is None:
    if point.shape.is_fully_defined():
      return tf.zeros(point.shape, point.dtype)
    return tf.zeros_like(tensors.read_of(point))
  if isinstance(part, tf.IndexedSlices):
    rows = point.shape.as_list()[0] if point.shape.ndims else None
    if rows is None:
      rows = tf.shape(tensors.read_of(point), out_type=part.indices.dtype)[0]
    part = tf.math.unsorted_segment_sum(part.values, part.indices, rows)
    part.set_shape(point.shape)
  return part


def _summed(part):
  indices, positions = tf.unique(part.indices)
  values = tf.math.unsorted_segment_sum(
      part.values, positions, tf.size(indices))
  return tf.IndexedSlices(values, indices, part.dense_shape)
