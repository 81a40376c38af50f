"""`compare`: mistakes that are planted are named; right code is not."""

import json
import os
import tempfile

from absl.testing import parameterized
import gradfeed as gf
import numpy as np
import tensorflow as tf2
import tensorflow.compat.v1 as tf

from gradfeed import _tf
from tests.testing import graphs

_LAYERS = ["conv1", "norm", "act1", "pool", "conv2", "act2", "flat", "dense",
           "attention", "gated", "logits", "losses"]

#: Each mistake, and the layer at which it has to be named. A mistake in a
#: gradient alone is named at the tensor that it is lost by.
_MISTAKES = [
    ("epsilon", "norm"), ("swapped_mean", "norm"), ("missing_scale", "norm"),
    ("slope", "act1"), ("max_pool", "pool"), ("padding", "conv2"),
    ("flipped", "conv2"), ("off_by_one", "conv2"), ("tanh", "act2"),
    ("clipped", "act2"), ("channels_first", "flat"), ("no_bias", "dense"),
    ("dropped_residual", "dense"), ("transposed", "attention"),
    ("axis", "attention"), ("temperature", "attention"),
    ("swapped_factors", "gated"), ("gate_order", "gated"),
    ("smoothing", "losses"), ("label", "losses"), ("mean", "y"),
    ("no_stop", "attention"), ("more_stop", "dense")]


def _weights(dtype):
  """The weights of both networks, from one seed."""
  random = np.random.RandomState(0)
  shapes = {"k1": (3, 3, 2, 4), "scale": (4,), "offset": (4,), "m": (4,),
            "v": (4,), "k2": (3, 3, 4, 4), "w1": (64, 8), "b1": (8,),
            "w2": (8, 8), "w3": (8, 3), "r": (64, 8)}
  found = {name: (random.normal(size=shape) * 0.4).astype(dtype)
           for name, shape in sorted(shapes.items())}
  found["v"] = np.abs(found["v"]) * 0.1 + 0.01
  found["scale"] += 1.0
  return {name: value.astype(dtype) for name, value in found.items()}


def _network(x, w, bug=""):
  """(y, dict from name to layer) of 12 layers, with one mistake."""
  layers = {}
  layers["conv1"] = c = tf.nn.conv2d(x, w["k1"], 1, "SAME")
  eps = 1e-5 if bug == "epsilon" else 1e-3
  m = w["offset"] if bug == "swapped_mean" else w["m"]
  n = (c - m) * tf.rsqrt(w["v"] + eps)
  layers["norm"] = c = (
      n if bug == "missing_scale" else n * w["scale"]) + w["offset"]
  layers["act1"] = c = tf.nn.leaky_relu(c, 0.3 if bug == "slope" else 0.2)
  layers["pool"] = c = (tf.nn.max_pool2d if bug == "max_pool" else
                        tf.nn.avg_pool2d)(c, 2, 2, "SAME")
  k2 = w["k2"][::-1] if bug == "flipped" else w["k2"]
  if bug == "padding":
    c = tf.nn.conv2d(tf.pad(c, [[0, 0], [2, 0], [2, 0], [0, 0]]), k2, 1,
                     "VALID")
  elif bug == "off_by_one":
    c = tf.nn.conv2d(tf.concat([c[:, 1:], c[:, :1]], 1), k2, 1, "SAME")
  else:
    c = tf.nn.conv2d(c, k2, 1, "SAME")
  layers["conv2"] = c
  c = tf.tanh(c) if bug == "tanh" else tf.nn.relu(c)
  layers["act2"] = c = tf.minimum(c, 0.1) if bug == "clipped" else c
  if bug == "channels_first":
    c = tf.transpose(c, [0, 3, 1, 2])
  layers["flat"] = c = tf.reshape(c, [-1, 64])
  d = tf.matmul(c, w["w1"])
  d = d if bug == "no_bias" else d + w["b1"]
  d = tf.tanh(d)
  layers["dense"] = d = d if bug == "dropped_residual" else (
      d + 0.1 * tf.matmul(c, w["r"]))
  a = tf.matmul(d, w["w2"], transpose_b=bug == "transposed")
  a = a / 2.0 if bug == "temperature" else a
  layers["attention"] = a = tf.nn.softmax(a, 0 if bug == "axis" else -1)
  if bug != "no_stop":
    a = tf.stop_gradient(a)
  if bug == "more_stop":
    d = 0.5 * d + 0.5 * tf.stop_gradient(d)
  gate = tf.reverse(a, [1]) if bug == "gate_order" else a
  layers["gated"] = c = (
      tf.sigmoid(gate) * d if bug != "swapped_factors" else
      tf.sigmoid(d) * gate)
  layers["logits"] = c = tf.matmul(c, w["w3"])
  hot = np.eye(3, dtype=c.dtype.as_numpy_dtype)[1 if bug == "label" else 0]
  hot = hot * 0.9 + 0.1 / 3 if bug == "smoothing" else hot
  layers["losses"] = c = -tf.reduce_sum(hot * tf.nn.log_softmax(c), 1)
  return (tf.reduce_mean if bug == "mean" else tf.reduce_sum)(c), layers


class CompareTest(graphs.GraphTest):

  def _old(self, dtype=np.float64):
    x = tf.placeholder(dtype, [None, 8, 8, 2], name="x")
    y, layers = _network(x, {name: tf.constant(value) for name, value in
                             _weights(dtype).items()})
    y = tf.identity(y, name="y")
    return gf.function(x, y, self.session), layers, y

  def _function(self, bug, dtype=np.float64):
    """The new code as a function of a graph of its own, and its layers."""
    graph = tf.Graph()
    with graph.as_default():
      x = tf.placeholder(dtype, [None, 8, 8, 2], name="x")
      y, layers = _network(x, {name: tf.constant(value) for name, value in
                               _weights(dtype).items()}, bug)
      session = self.enter_context(tf.Session(graph=graph))
      return gf.function(x, y, session), layers

  def _expect(self, report, layers, y, place):
    self.assertEqual(report.verdict, "differs")
    self.assertTrue(report.is_bad)
    expected = y if place == "y" else layers[place]
    self.assertEqual(report.begins, expected.name, str(report))
    self.assertIn(expected.op.name, str(report))

  _POINT = np.random.RandomState(5).normal(size=(3, 8, 8, 2))

  @parameterized.parameters(*_MISTAKES)
  def test_names_a_mistake_in_a_function(self, bug, place):
    f, old, y = self._old()
    g, new = self._function(bug)
    report = gf.compare(
        f, g, [self._POINT], {old[n]: new[n].name for n in _LAYERS})
    self._expect(report, old, y, place)

  @parameterized.parameters(*_MISTAKES)
  def test_names_a_mistake_in_eager_code(self, bug, place):
    if not _tf.IS_TF2:
      self.skipTest("needs eager TF 2")
    f, old, y = self._old()
    report = gf.compare(f, lambda x: _network(x, _weights(np.float64), bug),
                        [self._POINT], {old[n]: n for n in _LAYERS})
    self._expect(report, old, y, place)

  @parameterized.parameters(np.float32, np.float64)
  def test_is_silent_on_the_right_rewrite(self, dtype):
    f, old, _ = self._old(dtype)
    g, new = self._function("", dtype)
    points = [self._POINT, self._POINT[:1] * 3.0]
    pairs = {old[n]: new[n].name for n in _LAYERS}
    for layers in (None, pairs):
      report = gf.compare(f, g, points, layers, order=2)
      self.assertEqual(report.verdict, "agrees", str(report))
      self.assertIsNone(report.begins)
    if _tf.IS_TF2:
      for layers in (None, {old[n]: n for n in _LAYERS}):
        report = gf.compare(
            f, lambda x: _network(x, _weights(dtype)), points, layers, order=2)
        self.assertEqual(report.verdict, "agrees", str(report))

  def test_matches_tensors_by_their_values(self):
    f, old, _ = self._old()
    for bug, place in (("slope", "act1"), ("max_pool", "pool"),
                       ("flipped", "conv2"), ("label", "losses")):
      g, _ = self._function(bug)
      report = gf.compare(f, g, [self._POINT])
      self.assertEqual(report.verdict, "differs")
      if place != "losses":
        self.assertEqual(report.begins, old[place].name, str(report))

  @parameterized.parameters(np.float32, np.float64)
  def test_is_silent_on_random_networks(self, dtype):
    random = np.random.RandomState(3)
    for _ in range(25):
      width, depth = random.randint(2, 9), random.randint(1, 6)
      ws = [random.normal(size=(width, width)).astype(dtype)
            for _ in range(depth)]
      kinds = random.randint(0, 3, size=depth)
      x = tf.placeholder(dtype, [None, width])
      h = x
      for w, kind in zip(ws, kinds):
        h = [tf.tanh, tf.nn.softplus, tf.nn.relu][kind](tf.matmul(h, w))
      g = self._numpy_network(ws, kinds)
      f = gf.function(x, tf.reduce_sum(h, 1), self.session)
      report = gf.compare(f, g[0], [random.normal(size=(3, width))],
                          layers={}, g_gradient=g[1])
      self.assertEqual(report.verdict, "agrees", str(report))

  def _numpy_network(self, ws, kinds):
    """(value, gradient) of a network, by hand."""

    def run(x):
      slopes, h = [], x
      for w, kind in zip(ws, kinds):
        z = h.dot(w)
        h = [np.tanh(z), np.logaddexp(z, 0), np.maximum(z, 0)][kind]
        slopes.append([1 - h * h, 1 / (1 + np.exp(-z)), z > 0][kind])
      return h, slopes

    def gradient(x):
      h, slopes = run(x)
      d = np.ones_like(h)
      for w, slope in zip(ws[::-1], slopes[::-1]):
        d = (d * slope).dot(w.T)
      return d

    return lambda x: run(x)[0].sum(1), gradient

  def test_a_partitioned_weight_is_named_by_its_parts(self):
    x = tf.placeholder(tf.float64, [None, 4], name="x")
    w = tf.get_variable("split", [4, 2], tf.float64,
                        partitioner=tf.fixed_size_partitioner(2))
    self.session.run(tf.global_variables_initializer())
    f = gf.function(x, tf.matmul(x, tf.convert_to_tensor(w)), self.session)
    with self.assertRaisesRegex(
        gf.ArgumentError, "has 2 parts(.|\n)*split/part_0.*split/part_1"):
      gf.compare(f, f, [np.ones([1, 4])], weights={w: w})

  def test_weights(self):
    if not _tf.IS_TF2:
      self.skipTest("needs eager TF 2")
    x = tf.placeholder(tf.float64, [None, 3])
    w = graphs.variable("w", np.arange(6.0).reshape(3, 2), False)
    self.initialize()
    f = gf.function(x, tf.reduce_sum(tf.tanh(tf.matmul(x, w)), 1), self.session)
    new = _tf.new_variable(np.arange(6.0).reshape(3, 2).T, True, "new")
    right = lambda x: tf.reduce_sum(tf.tanh(
        tf.matmul(x, new, transpose_b=True)), 1)
    held = lambda x: tf.reduce_sum(tf.tanh(tf.matmul(
        x, tf.stop_gradient(new), transpose_b=True)), 1)
    points = [np.full((2, 3), 0.1)]
    weights = {"w": (new, np.transpose)}
    self.assertEqual(
        gf.compare(f, right, points, weights=weights).verdict, "agrees")
    report = gf.compare(f, held, points, weights=weights)
    self.assertIn("weight gradients", report.summary)

  def test_layers_of_keras(self):
    if os.environ.get("GRADFEED_MODE") != "eager":
      self.skipTest("a model of Keras is built eagerly")
    with _tf.eagerly():
      keras = tf2.keras
      inputs = keras.Input([3])
      hidden = keras.layers.Dense(4, activation="tanh", name="first")(inputs)
      model = keras.Model(inputs, keras.layers.Dense(1, name="last")(hidden))
      ws = model.get_weights()
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    points = [np.random.RandomState(0).normal(size=(5, 3))]
    for slip, verdict, place in ((0.0, "agrees", None),
                                 (0.1, "differs", "hidden")):
      hidden = tf.add(
          tf.tanh(tf.matmul(x, ws[0]) + ws[1]), slip, name="hidden")
      y = tf.matmul(hidden, ws[2]) + ws[3]
      report = gf.compare(gf.function(x, y, self.session), model, points,
                          {hidden: "first"})
      self.assertEqual(report.verdict, verdict, str(report))
      self.assertEqual(report.begins, place and hidden.name)

  def test_differences_of_arrays(self):
    x = tf.placeholder(tf.float64, [None])
    f = gf.function(x, x ** 3, self.session)
    right = gf.compare(f, lambda x: np.power(x, 3), [[1.0, 2.0]])
    self.assertEqual(right.verdict, "agrees", str(right))
    self.assertIn("differences", [f.kind for f in right.findings])
    wrong = gf.compare(f, np.sin, [[1.0, 2.0]])
    self.assertEqual(wrong.verdict, "differs")

  def test_a_gradient_that_is_wrong_alone(self):
    x = tf.placeholder(tf.float64, [None], name="x")
    f = gf.function(x, tf.sin(x), self.session)
    report = gf.compare(
        f, np.sin, [[1.0, 2.0]], g_gradient=lambda x: 1.001 * np.cos(x))
    self.assertEqual(report.verdict, "differs")
    self.assertEqual(report.begins, "x:0")

  def test_rounding_that_a_function_enlarges_is_allowed(self):
    x = tf.placeholder(tf.float32, [None], name="x")
    f = gf.function(x, tf.sin(tf.multiply(x, 13000.0)), self.session)
    once, twice = np.float32(130.0), np.float32(100.0)
    report = gf.compare(
        f, lambda x: np.sin(x * once * twice),
        [np.linspace(1.1, 2.3, 20)], layers={},
        g_gradient=lambda x: np.float32(13000.0) * np.cos(x * once * twice))
    self.assertEqual(report.verdict, "agrees", str(report))

  def test_pages(self):
    x = tf.placeholder(tf.float64, [None], name="x")
    report = gf.compare(gf.function(x, tf.sin(x), self.session), np.tanh,
                        [[1.0, 2.0]])
    path = os.path.join(
        self.enter_context(tempfile.TemporaryDirectory()), "report.html")
    report.to_html(path)
    with open(path, encoding="utf-8") as page:
      text = page.read()
    self.assertIn("<svg", text)
    self.assertIn("differs", text)
    self.assertEqual(json.loads(report.to_json())["verdict"], "differs")

  def test_refuses(self):
    x = tf.placeholder(tf.float64, [None], name="x")
    f = gf.function(x, tf.sin(x), self.session)
    for arguments, what in (
        ((np.sin, np.sin, [[1.0]]), "not a gradfeed.Function"),
        ((f, 1.0, [[1.0]]), "cannot be called"),
        ((f, np.sin, []), "no points")):
      with self.assertRaisesRegex(gf.ArgumentError, what):
        gf.compare(*arguments)
    before = self.count()
    for arguments, options, what in (
        (3.0, {}, "no points"), (["a"], {}, "no value of 'x:0'"),
        ([[1.0]], {"seed": "a"}, "no seed"),
        ([[1.0]], {"layers": [x]}, "layers is a list"),
        ([[1.0]], {"g_gradient": 1.0}, "g_gradient is a float"),
        ([[1.0]], {"weights": {"nope": 1}}, "no tensor 'nope'")):
      with self.assertRaisesRegex(gf.GradfeedError, what):
        gf.compare(f, np.sin, arguments, **options)
    self.assertEqual(self.count(), before)
    with self.assertRaisesRegex(gf.ArgumentError, "no layer 'a'"):
      gf.compare(f, np.sin, [[1.0]], {x: "a"})
    with self.assertRaisesRegex(gf.ArgumentError, "order=3"):
      gf.compare(f, np.sin, [[1.0]], order=3)
