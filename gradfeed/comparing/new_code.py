"""The new code: values and gradients of TF 2, NumPy or another function."""

import sys

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.comparing import legacy_side
from gradfeed import errors
from gradfeed.graph import nest

#: The most elements of an x whose derivatives are taken by differences.
_MOST_ELEMENTS = 64


class EagerSide:
  """TF 2 code, differentiated by a GradientTape.

  It returns y, a list of ys, or (y, dict from name to layer). Of a model of
  Keras the outputs of its layers are taken.
  """

  is_exact = True

  def __init__(self, g):
    self._layer_names = []
    self._g = g
    model = _keras_with_layers(g)
    if model is not None:
      self._g, self._layer_names = model

  def sample(self, point, numbers, named, weights, directions=None,
             record=False):
    """Evaluates all that is compared at a point.

    Args:
      point: list of arrays.
      numbers: list of the indices of those that are differentiated by.
      named: dict from the name of the old tensor to the key of a layer, or to a
        callable of the same arguments that computes it.
      weights: dict from name to variable of TF 2.
      directions: list of arrays, or None.
      record: bool, whether the results of all ops are layers as well.

    Returns:
      (`legacy_side.Sample`, dict from key to array: all layers there are).
    """
    with _tf.eagerly(), tf.GradientTape(persistent=True) as outer:
      inputs = [tf.constant(value) for value in point]
      xs = [inputs[i] for i in numbers]
      for x in xs:
        outer.watch(x)
      with tf.GradientTape(persistent=True) as tape:
        for x in xs + [_inner(w) for w in weights.values()]:
          tape.watch(x)
        recorded = {}
        if record:
          with _tf.recorded_ops(recorded):
            result = getattr(self._g, "python_function", self._g)(*inputs)
        else:
          result = self._g(*inputs)
        ys, layers = split_result(result, self._layer_names)
        for key, value in recorded.items():
          layers.setdefault(key, value)
        own = {name: key(*inputs) if callable(key) else pick(layers, key)
               for name, key in named.items()
               if not record or callable(key) or key in layers}
        floating = [y for y in ys if _tf.is_number(tf.as_dtype(y.dtype))]
      names, ws = list(weights), list(weights.values())
      ds = _gradients(tape, floating, xs + list(own.values()) + [
          _inner(w) for w in ws])
      second = []
      if directions:
        product = [tf.reduce_sum(d * tf.constant(v)) for d, v in zip(
            ds, directions) if d is not None]
    if directions:
      with _tf.eagerly():
        second = _gradients(outer, product, xs) if product else [None] * len(xs)
    dx, dl, dw = legacy_side._split(  # pylint: disable=protected-access
        [_array(d) for d in ds], [len(xs), len(own), len(ws)])
    return legacy_side.Sample(
        [_array(y) for y in ys], dx, {n: _array(t) for n, t in own.items()},
        dict(zip(own, dl)), {n: _array(w) for n, w in weights.items()},
        dict(zip(names, dw)), [_array(t) for t in second]), {
            key: _array(t) for key, t in layers.items()}


class ArraySide:
  """Code on arrays: with a gradient of its own, or one by differences."""

  def __init__(self, g, g_gradient):
    self._g = g
    self._gradient = g_gradient
    self.is_exact = g_gradient is not None

  def sample(self, point, numbers, named, weights, directions=None,
             record=False):
    """As that of `EagerSide`; dx has NaN where no difference was taken."""
    if weights:
      raise errors.ArgumentError(
          "weights= needs new code of TF 2.",
          "The gradients by its variables come from a GradientTape.",
          "Leave weights out, or make each weight an input of both sides.")
    ys, layers = split_result(self._g(*point), [])
    own = {name: np.asarray(key(*point) if callable(key) else pick(layers, key))
           for name, key in named.items()}
    second = []
    if directions:
      if self._gradient is None:
        raise errors.ArgumentError(
            "order=2 needs the gradient of g.",
            "Differences of differences are too rough to compare with.",
            "Pass g_gradient=.")
      second = self._second(point, numbers, directions)
    dx = (self._dx(point, numbers) if self._gradient is not None else
          [self._differences(point, i) for i in numbers])
    return legacy_side.Sample(
        [np.asarray(y) for y in ys], dx, own, {}, {}, {}, second), {
            key: np.asarray(t) for key, t in layers.items()}

  def _dx(self, point, numbers):
    found = self._gradient(*point)
    found = list(found) if isinstance(found, (list, tuple)) else [found]
    if len(found) != len(numbers):
      raise errors.ArgumentError(
          "g_gradient gives {} arrays for {} inputs.".format(
              len(found), len(numbers)),
          "There is one for each floating input.", "Return a list of them.")
    return [np.asarray(d) for d in found]

  def _second(self, point, numbers, directions):
    step = 1e-4
    ends = []
    for sign in (1.0, -1.0):
      moved = [np.array(v) for v in point]
      for i, v in zip(numbers, directions):
        moved[i] = (moved[i] + sign * step * v).astype(moved[i].dtype)
      ends.append(self._dx(moved, numbers))
    return [(a - b) / (2.0 * step) for a, b in zip(*ends)]

  def _differences(self, point, i):
    """Central differences in float64, of some elements of input `i`."""
    point = [np.asarray(v, np.float64) if np.asarray(v).dtype.kind == "f" else v
             for v in point]
    result = np.full(point[i].size, np.nan)
    elements = range(result.size)
    if result.size > _MOST_ELEMENTS:
      elements = np.random.RandomState(0).choice(
          result.size, _MOST_ELEMENTS, False)
    for j in elements:
      ends = []
      step = 1e-5 * max(1.0, abs(point[i].flat[j]))
      for sign in (1.0, -1.0):
        moved = list(point)
        moved[i] = point[i].copy()
        moved[i].flat[j] += sign * step
        ys, _ = split_result(self._g(*moved), [])
        ends.append([np.sum(np.asarray(y, np.float64)) for y in ys])
      result[j] = np.sum(np.subtract(*ends)) / (2.0 * step)
    return result.reshape(point[i].shape)


class FunctionSide:
  """Another `Function`, of this graph or another one."""

  is_exact = True

  def __init__(self, g):
    self._side = legacy_side.LegacySide(g, "g")

  def sample(self, point, numbers, named, weights, directions=None,
             record=False):
    """As that of `EagerSide`."""
    graph = self._side.graph
    own = {name: graph.get_tensor_by_name(
        key if ":" in key else key + ":0") if isinstance(key, str) else key
           for name, key in named.items()}
    extra = self._side.between() if record else []
    found = self._side.sample(
        point, list(own.values()), weights, directions)
    values = self._side.values(extra, point) if extra else []
    return found._replace(
        layers={n: found.layers[t.name] for n, t in own.items()},
        dlayers={n: found.dlayers[t.name] for n, t in own.items()}), {
            t.name: v for t, v in zip(extra, values)}


def split_result(result, layer_names):
  """(list of ys, dict of layers) of what new code returns."""
  layers = {}
  if layer_names:
    layers = dict(zip(layer_names, result[1:]))
    result = result[0]
  elif isinstance(result, tuple) and len(result) == 2 and isinstance(
      result[1], dict):
    result, layers = result[0], dict(result[1])
  return nest.flatten(result), layers


def pick(layers, key):
  """The layer with a key; names those that there are."""
  if key not in layers:
    raise errors.ArgumentError(
        "The new code has no layer {!r}.".format(key),
        "It has {}.".format(", ".join(
            repr(k) for k in list(layers)[:8]) or "none"),
        "Return (y, {name: tensor}) from it, or pass a callable in layers=.")
  return layers[key]


def _keras_with_layers(g):
  """(function of [y] + outputs of all layers, their names), or None."""
  package = sys.modules.get(type(g).__module__.split(".")[0])
  if not (hasattr(g, "layers") and getattr(g, "inputs", None) and hasattr(
      package, "Model")):
    return None
  names, outputs = [], []
  for layer in g.layers:
    output = getattr(layer, "output", None)
    if output is not None and not isinstance(output, (list, tuple, dict)):
      names.append(layer.name)
      outputs.append(output)
  model = package.Model(g.inputs, list(g.outputs)[:1] + outputs)
  single = len(g.inputs) == 1
  return lambda *inputs: model(inputs[0] if single else list(inputs)), names


def _inner(variable):
  """The variable of TF 2 in one of Keras 3."""
  inner = getattr(variable, "value", None)
  return variable if inner is None or callable(inner) else inner


def _gradients(tape, ys, xs):
  return [tf.convert_to_tensor(d) if d is not None else None
          for d in tape.gradient(ys, xs)]


def _array(value):
  if value is None:
    return None
  with _tf.eagerly():
    value = _inner(value)
    return np.array(value.numpy() if hasattr(value, "numpy") else value)
