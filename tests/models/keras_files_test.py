"""Tests of `load` with whole models of Keras, in HDF5 files.

The files are written here. With a TensorFlow that comes with Keras 3, and
without tf_keras, the error that names the package is tested instead.
"""

from concurrent import futures
import importlib.util
import json
import sys
from unittest import mock
import warnings

from absl.testing import parameterized
import h5py
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.models import inventory
from tests.testing import folders
from tests.testing import graphs
from tests.testing import numeric

_VERSION = tuple(map(int, tf.__version__.split(".")[:2]))
_HAS_KERAS = (importlib.util.find_spec("tf_keras") is not None or
              _VERSION < (2, 16))

_AT = np.array([[0.5, 1.5, 0.3], [0.7, 0.2, -0.4]])


def _values(shape, start=0.0):
  return np.cos(start + np.arange(float(np.prod(shape)))).reshape(shape)


def _layer(name, of, inputs=None, **config):
  layer = {"class_name": of, "config": dict(config, name=name)}
  if inputs is not None:
    layer["name"] = name
    layer["inbound_nodes"] = [
        [[source, 0, 0, {}] for source in inputs]] if inputs else []
  return layer


def _dense(name, units, activation="linear", **config):
  return _layer(name, "Dense", units=units, activation=activation,
                dtype="float64", **config)


#: The layers of a network in training as in inference only if its dropout and
#: its batch normalization are those of inference.
_LAYERS = [
    _dense("hidden", 4, "tanh", batch_input_shape=[None, 3]),
    _layer("norm", "BatchNormalization", dtype="float64", epsilon=0.001),
    _layer("drop", "Dropout", dtype="float64", rate=0.5),
    _dense("top", 2, "softmax")]
_WEIGHTS = [
    ("hidden", [("kernel", _values([3, 4])), ("bias", _values([4], 1.0))]),
    ("norm", [("gamma", _values([4], 2.0)), ("beta", _values([4], 3.0)),
              ("moving_mean", _values([4], 4.0)),
              ("moving_variance", _values([4], 5.0) ** 2 + 1.0)]),
    ("drop", []),
    ("top", [("kernel", _values([4, 2])), ("bias", _values([2], 6.0))])]


def _expected(x):
  weights = {layer: dict(arrays) for layer, arrays in _WEIGHTS}
  hidden, norm, top = (weights[name] for name in ("hidden", "norm", "top"))
  h = np.tanh(x.dot(hidden["kernel"]) + hidden["bias"])
  h = (h - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 0.001)
  logits = (h * norm["gamma"] + norm["beta"]).dot(top["kernel"]) + top["bias"]
  return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


class _KerasTest(folders.FolderTest, graphs.GraphTest):

  def write(self, config, weights, name="model.h5", version="2.2.4-tf"):
    """Writes what `model.save` does; returns the path."""
    with h5py.File(self.path(name), "w") as file:
      file.attrs["keras_version"] = version.encode()
      file.attrs["backend"] = b"tensorflow"
      if config is not None:
        file.attrs["model_config"] = json.dumps(config).encode()
      whole = file.create_group("model_weights") if config else file
      whole.attrs["keras_version"] = version.encode()
      whole.attrs["backend"] = b"tensorflow"
      whole.attrs["layer_names"] = [layer.encode() for layer, _ in weights]
      for layer, arrays in weights:
        group = whole.create_group(layer)
        keys = ["{}/{}:0".format(layer, key) for key, _ in arrays]
        group.attrs["weight_names"] = [key.encode() for key in keys]
        for key, (_, array) in zip(keys, arrays):
          group[key] = array
    return self.path(name)

  def network(self, **settings):
    return self.write({"class_name": "Sequential", "config": {
        "name": "network", "layers": _LAYERS}}, _WEIGHTS, **settings)

  def loaded(self, path):
    """The model, or None where Keras 2 is not there and the error says so."""
    if _HAS_KERAS:
      return self.enter_context(gf.load(path))
    with self.assertRaisesRegex(
        gf.DependencyError, "pip install 'tf_keras=={}.{}".format(*_VERSION)):
      gf.load(path)
    return None

  def refused(self, path, message, error=gf.ModelFileError):
    """Checks that loading raises an error with this message, and the path."""
    with self.assertRaises(error) as caught:
      gf.load(path)
    self.assertRegex(str(caught.exception), "(?s)" + message)
    self.assertIn(path, caught.exception.what)


class LoadTest(_KerasTest):

  def check(self, path, shapeless=False):
    model = self.loaded(path)
    if model is not None:
      self.assertEqual(model.kind, "Keras model")
      signature = model.signatures["serving_default"]
      (_, x), = signature.inputs.items()
      (key, y), = signature.outputs.items()
      self.assertIs(model.tensor("serving_default/" + key), y)
      self.assertEqual(model.inputs, {x.name: x})
      self.assertEqual(model.outputs, {y.name: y})
      beside = [op.name for op in model.graph.get_operations()
                if op.type.startswith("Placeholder") and op.name != x.op.name]
      f = gf.function(x, [y, gf.gradient(y[:, 0], x)])
      self.assertEmpty(f.needs)
      self.assertEmpty([name for name in beside if not (
          name.startswith("save/") or shapeless)])
      np.testing.assert_allclose(f(_AT)[0], _expected(_AT), rtol=1e-12)
      np.testing.assert_allclose(f(_AT)[1], numeric.central_differences(
          lambda p: np.sum(_expected(p)[:, 0]), _AT), atol=1e-8)
    return model

  @parameterized.parameters(
      "model.h5", "model.hdf5", "model.keras", "no_ending", "m.weights.h5")
  def test_as_it_is_in_inference(self, name):
    self.check(self.network(name=name))

  def test_of_keras_2_apart_from_tensorflow(self):
    """It wrote the layers of a Sequential as a list."""
    self.check(self.write({"class_name": "Sequential", "config": _LAYERS},
                          _WEIGHTS, version="2.1.6"))

  def test_without_an_input_shape_in_a_layer(self):
    layers = [_dense("hidden", 4, "tanh")] + _LAYERS[1:]
    config = {"name": "network", "layers": layers}
    self.check(self.write({"class_name": "Sequential", "config": dict(
        config, build_input_shape=[None, 3])}, _WEIGHTS), shapeless=True)
    if _HAS_KERAS:
      self.refused(self.write({"class_name": "Sequential", "config": config},
                              _WEIGHTS), "shape of what it takes")

  def functional(self):
    """A network of two inputs, two outputs, a loop, and a network inside."""
    inner = {"class_name": "Sequential", "name": "inner", "config": {
        "name": "inner", "layers": [
            _dense("deep", 3, "tanh", batch_input_shape=[None, 6])]},
             "inbound_nodes": [[["joint", 0, 0, {}]]]}
    config = {"name": "network", "layers": [
        _layer("steps", "InputLayer", [], batch_input_shape=[None, 4, 3],
               dtype="float64", sparse=False),
        _layer("side", "InputLayer", [], batch_input_shape=[None, 1],
               dtype="float64", sparse=False),
        _layer("rnn", "LSTM", ["steps"], units=5, dtype="float64",
               recurrent_activation="sigmoid"),
        _layer("joint", "Concatenate", ["rnn", "side"], axis=-1,
               dtype="float64"), inner,
        dict(_dense("a", 2), name="a", inbound_nodes=[[["inner", 1, 0, {}]]]),
        dict(_dense("b", 1), name="b", inbound_nodes=[[["inner", 1, 0, {}]]])],
              "input_layers": [["steps", 0, 0], ["side", 0, 0]],
              "output_layers": [["a", 0, 0], ["b", 0, 0]]}
    return self.write({"class_name": "Model", "config": config}, [
        ("steps", []), ("side", []),
        ("rnn", [("kernel", _values([3, 20])),
                 ("recurrent_kernel", _values([5, 20], 0.5)),
                 ("bias", _values([20], 0.7))]),
        ("joint", []),
        ("inner", [("kernel", _values([6, 3])), ("bias", _values([3]))]),
        ("a", [("kernel", _values([3, 2])), ("bias", _values([2]))]),
        ("b", [("kernel", _values([3, 1])), ("bias", _values([1]))])])

  def test_several_inputs_and_outputs_and_a_loop(self):
    model = self.loaded(self.functional())
    if model is None:
      return
    signature = model.signatures["serving_default"]
    self.assertEqual(sorted(signature.inputs), ["side", "steps"])
    self.assertEqual(sorted(signature.outputs), ["a", "b"])
    steps, side = signature.inputs["steps"], signature.inputs["side"]
    a, b = signature.outputs["a"], signature.outputs["b"]
    f = gf.function([steps, side], [
        a, b, gf.gradient(tf.reduce_sum(a) * tf.reduce_sum(b), steps)])
    at, beside = _values([1, 4, 3]), np.array([[0.3]])
    expected = _lstm(at, beside)
    for result, value in zip(f(at, beside), expected):
      np.testing.assert_allclose(result, value, rtol=1e-10)
    np.testing.assert_allclose(f(at, beside)[2], numeric.central_differences(
        lambda p: np.prod([v.sum() for v in _lstm(p, beside)]), at), atol=1e-8)

  def test_shown_by_inspect(self):
    model = self.loaded(self.functional())
    if model is not None:
      contents = inventory.inventory(model)
      self.assertEqual(contents["kind"], "Keras model")
      self.assertCountEqual([t["name"] for t in contents["x"]],
                            ["side:0", "steps:0"])
      self.assertEmpty(contents["feeds"])
      self.assertEmpty(contents["assigning"])
      self.assertTrue(all(v["has_value"] for v in contents["variables"]))

  def test_what_the_file_does_not_hold_has_no_value(self):
    """The state of a stateful RNN: Keras would run its initializer."""
    path = self.write({"class_name": "Sequential", "config": {
        "name": "network", "layers": [
            _layer("rnn", "SimpleRNN", units=2, stateful=True,
                   batch_input_shape=[1, 4, 3])]}},
                      [("rnn", [("kernel", _values([3, 2])),
                                ("recurrent_kernel", _values([2, 2])),
                                ("bias", _values([2]))])])
    model = self.loaded(path)
    if model is not None:
      (x,), (y,) = model.inputs.values(), model.outputs.values()
      with self.assertRaisesRegex(gf.UninitializedError, "rnn"):
        gf.function(x, y)(_values([1, 4, 3]))

  def test_leaves_what_is_of_the_process(self):
    path = self.network()
    if not _HAS_KERAS:
      self.loaded(path)
      return
    backend = importlib.import_module(
        "tf_keras.src.backend") if _VERSION >= (2, 16) else tf.keras.backend
    mine, before = tf.Session(), self.count()
    state = np.random.get_state()[1].tolist()

    def work():
      with self.graph.as_default():
        backend.set_session(mine)
        gf.load(path).close()
        self.assertIs(tf.get_default_graph(), self.graph)
        self.assertEqual(self.count(), before)
        self.assertIsNone(tf.get_default_session())
        self.assertIs(backend.get_session(), mine)
        self.assertIsInstance(backend.learning_phase(), tf.Tensor)

    with futures.ThreadPoolExecutor(1) as without_a_default_session:
      without_a_default_session.submit(work).result()
    self.assertEqual(np.random.get_state()[1].tolist(), state)

  def test_saved_by_keras(self):
    if not _HAS_KERAS:
      self.loaded(self.network())
      return
    keras, path = _keras(), self.path("saved.h5")
    with tf.Graph().as_default(), tf.Session().as_default(), (
        warnings.catch_warnings()):
      warnings.simplefilter("ignore")  # Of what newer versions have besides.
      model = keras.Sequential([
          keras.layers.Dense(4, "tanh", input_shape=[3]),
          keras.layers.Dropout(0.5), keras.layers.Dense(2)])
      model.compile("adam", "mse")
      model.fit(_AT, _AT[:, :2], verbose=0)
      model.save(path)
      expected = model.predict(_AT)
    with gf.load(path) as model:
      (x,), (y,) = model.inputs.values(), model.outputs.values()
      np.testing.assert_allclose(
          gf.function(x, y)(_AT), expected, rtol=1e-5, atol=1e-6)


def _keras():
  return __import__("tf_keras") if _VERSION >= (2, 16) else tf.keras


def _lstm(steps, side):
  """The values of `LoadTest.functional`."""
  sigmoid = lambda a: 1.0 / (1.0 + np.exp(-a))
  h = c = np.zeros([len(steps), 5])
  for step in steps.transpose(1, 0, 2):
    i, f, g, o = np.split(step.dot(_values([3, 20])) + h.dot(
        _values([5, 20], 0.5)) + _values([20], 0.7), 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
  deep = np.tanh(np.concatenate([h, side], 1).dot(_values([6, 3])) +
                 _values([3]))
  return [deep.dot(_values([3, n])) + _values([n]) for n in (2, 1)]


class NoModelTest(_KerasTest):
  """Files that hold no model are refused before Keras is looked for."""

  def test_weights_alone(self):
    self.refused(self.write(None, _WEIGHTS), "weights of layers.*Save all")

  def test_another_hdf5_file(self):
    with h5py.File(self.path("m.h5"), "w") as file:
      self.assertEmpty(list(file))
    self.refused(self.path("m.h5"), "nothing in it")
    with h5py.File(self.path("m.h5"), "w") as file:
      file["points"] = [1.0]
    self.refused(self.path("m.h5"), "with 'points'")

  def test_damaged(self):
    with open(self.network(), "rb") as source:
      content = source.read()
    with open(self.path("m.h5"), "wb") as output:
      output.write(content[:len(content) // 2])
    self.refused(self.path("m.h5"), "begins as an HDF5 file and is damaged")

  @parameterized.parameters("[]", "{", '"text"', '{"class_name": "Model"}')
  def test_configuration_of_nothing(self, content):
    path = self.network()
    with h5py.File(path, "a") as file:
      file.attrs["model_config"] = content
    self.refused(path, "no configuration of Keras")

  def test_zip_of_keras_3(self):
    with open(self.path("m.keras"), "wb") as output:
      output.write(b"PK\x03\x04" + b"\x00" * 50)
    self.refused(self.path("m.keras"), "zip archive.*Keras")

  def test_no_custom_gradients_to_give(self):
    with self.assertRaisesRegex(gf.ArgumentError, "'IdentityN'"):
      gf.load(self.network(), custom_gradients={"IdentityN": None})

  def test_layer_that_keras_does_not_have(self):
    path = self.write({"class_name": "Sequential", "config": {
        "name": "network", "layers": [_layer("mine", "OfMyOwn")]}}, [])
    self.refused(path, "'mine'.*'OfMyOwn'.*SavedModel",
                 gf.UnsupportedGraphError)

  @parameterized.named_parameters(
      ("shape", [("hidden", [("kernel", _values([3, 5])),
                             ("bias", _values([4]))])] + _WEIGHTS[1:]),
      ("number", _WEIGHTS[1:]),
      ("one_less", [("hidden", [("kernel", _values([3, 4]))])] + _WEIGHTS[1:]))
  def test_weights_of_another_model(self, weights):
    path = self.write({"class_name": "Sequential", "config": {
        "name": "network", "layers": _LAYERS}}, weights)
    if _HAS_KERAS:
      self.refused(path, "not those of its model")
    else:
      self.loaded(path)

  def test_packages_that_are_missing(self):
    path = self.network()
    self.enter_context(mock.patch.dict(sys.modules, {"tf_keras": None}))
    if _VERSION >= (2, 16):
      with self.assertRaisesRegex(
          gf.DependencyError,
          "(?s)Keras 3.*pip install 'tf_keras=={}.{}".format(*_VERSION)):
        gf.load(path)
    else:
      gf.load(path).close()
    self.enter_context(mock.patch.dict(sys.modules, {"h5py": None}))
    with self.assertRaisesRegex(gf.DependencyError, "h5py"):
      gf.load(path)
