"""One product of a cotangent with a Jacobian, checked and built once.

Everything that is differentiated goes through `Product.build`, the only place
that calls `tf.gradients`.
"""

import hashlib

import numpy as np

from gradfeed import _tf
from gradfeed import copies
from gradfeed import errors
from gradfeed import memos
from gradfeed import paths
from gradfeed import reasons
from gradfeed import tensors
from gradfeed._tf import tf


class Cotangent:
  """One checked value of `grad_ys`, with a key that names its content."""

  def __init__(self, value, y, graph):
    self.given = value
    if isinstance(value, (tf.Tensor, str)) or _tf.is_variable(value):
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
          "grad_ys ({}, {}) does not fit y = {}.".format(
              dtype.name, tensors.format_shape(self.shape),
              tensors.describe(y)),
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


class Built:
  """What one product added to the graph.

  Attributes:
    ys: list of `tf.Tensor`, the ys or the copies that were differentiated.
    gradients: list with a `tf.Tensor`, `tf.IndexedSlices` or None for each x.
  """

  def __init__(self, ys, gradients_by_x):
    self.ys = ys
    self.gradients = gradients_by_x


class Product:
  """d sum(ys) / d xs with cotangents and stops: checked, then built once."""

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
    """The `Built` of this product; `strict` refuses an unconnected x."""
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
      reason, advice = reasons.why_disconnected(self.ys, x, trace)
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
    return Built(ys, results)

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
    names = tuple(name_of(result) for result in results)
    derivative = memos.Derivative(
        tuple(y.name for y in self.ys), tuple(x.name for x in self.xs),
        tuple(stop.name for stop in self.stops),
        tuple(y.name for y in built), names)
    memos.memo_of(self.graph).derivatives.update(
        (name, derivative) for name in names if name is not None)


def name_of(part):
  if isinstance(part, tf.IndexedSlices):
    return part.values.name
  return None if part is None else part.name
