"""Tests of legacy graphs beside eager code: values, verbs, tapes, Keras."""

import contextlib
import os
import tempfile
import unittest
import warnings

import numpy as np
import tensorflow as tf2
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from gradfeed.evaluation.inputs import feeds
from gradfeed.graph import tensors
from tests import conftest
from tests.testing import graphs

_X = np.array([[1.0, 2.0], [3.0, 4.0]])


@unittest.skipUnless(_tf.IS_TF2, "There are no eager values.")
class EagerValuesTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.x = tf.placeholder(tf.float64, [None, 2], name="x")
    self.w = graphs.variable("w", [2.0, 1.0], True)
    self.y = tf.reduce_sum(self.w * self.x ** 3, 1)
    self.dx = gf.gradient(self.y, self.x)
    self.initialize()
    self.f = gf.function(self.x, self.dx, self.session)
    self.expected = 3 * np.array([2.0, 1.0]) * _X ** 2
    with _tf.eagerly():
      self.tensor, self.variable = tf2.constant(_X), tf2.Variable(_X)

  def test_eager_tensors_and_variables_are_values(self):
    for value in (self.tensor, self.variable):
      np.testing.assert_allclose(self.f(value), self.expected)
      np.testing.assert_allclose(
          gf.run(self.session, self.dx, {self.x: value}), self.expected)
    g = gf.function([self.x, self.w], self.y, self.session)
    with _tf.eagerly():
      weights = tf2.Variable([1.0, 0.0], dtype=tf.float64)
    np.testing.assert_allclose(g(self.tensor, weights), _X[:, 0] ** 3)

  def test_an_eager_tensor_is_not_copied(self):
    slot = feeds.Slot(tensors.Dense(self.x))
    array = slot.fit(self.tensor)
    with _tf.eagerly():
      self.assertTrue(np.shares_memory(array, np.asarray(self.tensor)))

  def test_an_eager_string_keeps_its_zeros(self):
    name = tf.placeholder(tf.string, [])
    with _tf.eagerly():
      value = tf2.constant(b"a\0")
    self.assertEqual(
        gf.function(name, tf.strings.join([name]), self.session)(value), b"a\0")

  def test_a_symbolic_tensor_points_to_the_module(self):
    def call(value):
      return self.f(value)

    with _tf.eagerly(), self.assertRaisesRegex(Exception, "to_module"):
      tf2.function(call, autograph=False)(self.tensor)
    with self.assertRaisesRegex(gf.FeedError, "evaluate it first"):
      self.f(tf.constant(_X))

  def test_a_tape_that_watches_a_value_is_told(self):
    with _tf.eagerly(), tf.GradientTape() as tape:
      tape.watch(self.tensor)
      with self.assertWarnsRegex(gf.GradfeedWarning, "to_module") as caught:
        self.f(self.tensor)
      self.assertEqual(caught.filename, __file__)
      with self.assertWarns(gf.GradfeedWarning):
        self.f(self.variable)
      with warnings.catch_warnings():
        warnings.simplefilter("error")
        self.f(_X)
        self.f(tf2.constant(_X))
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      self.f(self.tensor)


class OutsideOfGraphBlocksTest(graphs.GraphTest):

  def test_everything_works_there(self):
    graph = tf.Graph()
    with graph.as_default():
      x = tf.placeholder(tf.float64, [None, 2], name="x")
      y = tf.reduce_sum(x ** 3, 1, name="y")
    session = tf.Session(graph=graph)
    self.addCleanup(session.close)
    folder = self.enter_context(tempfile.TemporaryDirectory())
    path = tf.train.write_graph(graph, folder, "graph.pb", as_text=False)
    with contextlib.ExitStack() as stack:
      if _tf.IS_TF2:
        stack.enter_context(_tf.eagerly())
      dx = gf.gradient(y, x)
      f = gf.function("x:0", dx, session)
      np.testing.assert_allclose(f(_X), 3 * _X ** 2)
      np.testing.assert_allclose(
          gf.run(session, "y:0", {"x:0": _X}), (_X ** 3).sum(1))
      for verb in (gf.value_and_gradient, gf.jacobian, gf.hessian):
        verb(y, x)
      gf.jvp(y, x, _X)
      gf.hvp(y, x, _X)
      gf.batch_jacobian(dx, x)
      self.assertEqual(gf.check(y, x, _X, session=session).verdict, "right")
      self.assertEqual(gf.explain(y, x).verdict, "differentiable")
      out = os.path.join(folder, "out.npy")
      gf.stream(f, _X, out)
      np.testing.assert_allclose(np.load(out), 3 * _X ** 2)
      with gf.snapshot(session) as clone:
        slope = gf.gradient(clone.tensor("y:0"), clone.tensor("x:0"))
        np.testing.assert_allclose(
            gf.function("x:0", slope, clone.session)(_X), 3 * _X ** 2)
      with gf.load(path) as model:
        self.assertIn("x:0", model.inputs)


@unittest.skipUnless(_tf.IS_TF2, "A module is code of TF 2.")
class KerasTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    if conftest.MODE != "eager":
      self.skipTest("Keras trains eagerly.")
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    self.w = tf.get_variable(
        "a/w", initializer=np.ones((2, 1), np.float32), use_resource=True)
    self.initialize()
    self.f = gf.function(x, tf.tanh(tf.matmul(x, self.w)), self.session)
    self.points = np.random.RandomState(0).normal(size=(32, 2)).astype("f")
    self.labels = np.full((32, 1), 0.1, np.float32)

  def _fit(self, package, module_of):
    """Fits a model with the module, and returns how far its weight moved."""
    with _tf.eagerly():

      class Layer(package.layers.Layer):

        def __init__(self):
          super().__init__()
          self.module = module_of(self)

        def call(self, x):
          return self.module(x)

        def compute_output_shape(self, shape):
          return shape[0], 1

      layer = Layer()
      model = package.Sequential([package.layers.Input((2,)), layer])
      model.compile("sgd", "mse")
      np.testing.assert_allclose(
          model.predict(self.points, verbose=0), self.f(self.points), 1e-5)
      before = np.array(layer.module.variables_by_name["a/w"].numpy())
      model.fit(self.points, self.labels, verbose=0)
      return np.abs(
          layer.module.variables_by_name["a/w"].numpy() - before).max()

  def _with_own_weights(self, layer):
    own = {name: layer.add_weight(
        shape=v.shape, dtype=v.dtype, initializer="zeros", name="w")
           for name, v in gf.to_module(self.f).variables_by_name.items()}
    module = gf.to_module(self.f, own)
    module.update_from(self.session)
    return module

  def test_keras_2_trains_the_weights(self):
    import tf_keras  # pylint: disable=g-import-not-at-top
    self.assertGreater(
        self._fit(tf_keras, lambda unused: gf.to_module(self.f)), 1e-4)

  def test_keras_3_trains_weights_of_its_own(self):
    import keras  # pylint: disable=g-import-not-at-top
    self.assertGreater(self._fit(keras, self._with_own_weights), 1e-4)

  def test_keras_3_refuses_to_train_others(self):
    import keras  # pylint: disable=g-import-not-at-top
    with self.assertRaisesRegex(gf.ArgumentError, "not train 'a/w'"):
      self._fit(keras, lambda unused: gf.to_module(self.f))
