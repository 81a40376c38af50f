import importlib

import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests import conftest
from tests.testing import graphs


def _row(*numbers):
  return np.array([numbers])


class KerasFunctionTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    if conftest.MODE == "eager":
      self.skipTest("there Keras evaluates models, not graphs")
    self.backend = (
        tf.keras.backend if tf.__version__.startswith("1.") else
        importlib.import_module("tf_keras.api._v1.keras.backend"))
    self.backend.set_session(self.session)
    self.addCleanup(self.backend.set_session, None)
    self.x = self.backend.placeholder((None, 2))
    self.w = self.backend.variable([[1.0], [2.0]])
    self.h = tf.tanh(self.x) * 1.0
    self.y = self.backend.dot(self.h, self.w)

  def test_lists_in_and_lists_out(self):
    with gf.patched():
      dx = self.backend.gradients(tf.reduce_sum(self.y ** 2), [self.x])
      self.assertStartsWith(dx[0].name, "gradfeed/")
      f = self.backend.function([self.x], [self.y] + dx)
      single = self.backend.function([self.x], self.y)
    self.assertLen(f.inputs, 1)
    y, by_x = f([np.zeros((3, 2))])
    np.testing.assert_array_equal(y, np.zeros((3, 1)))
    np.testing.assert_array_equal(by_x, np.zeros((3, 2)))
    np.testing.assert_allclose(single([_row(0.0, 0.0)]), [[0.0]])
    _, by_x = f([_row(1.0, 0.0)])
    slope = 1 - np.tanh(1.0) ** 2
    np.testing.assert_allclose(
        by_x, [[2 * np.tanh(1.0) * slope, 4 * np.tanh(1.0)]], rtol=1e-5)

  def test_a_layer_as_input_takes_effect(self):
    with gf.patched():
      f = self.backend.function([self.h], [self.y])
    np.testing.assert_allclose(f([_row(3.0, 4.0)])[0], [[11.0]])

  def test_a_variable_as_input_takes_effect_and_keeps_its_value(self):
    with gf.patched():
      f = self.backend.function([self.h, self.w], [self.y])
    y, = f([_row(3.0, 4.0), _row(0.0, 1.0).T])
    np.testing.assert_allclose(y, [[4.0]])
    np.testing.assert_allclose(self.backend.get_value(self.w), [[1.0], [2.0]])

  def test_updates_run_once_in_each_call(self):
    with gf.patched():
      f = self.backend.function(
          [self.h], [self.y], updates=[(self.w, self.w * 2.0)])
    self.assertEqual([f([_row(1.0, 0.0)])[0][0, 0] for _ in range(3)],
                     [1.0, 2.0, 4.0])

  def test_the_learning_phase(self):
    phase = tf.placeholder_with_default(False, [])
    y = tf.cond(phase, lambda: self.y * 2.0, lambda: self.y * 1.0)
    with gf.patched():
      f = self.backend.function([self.h, phase], [y])
    for value, expected in ((0, 11.0), (1, 22.0), (False, 11.0)):
      np.testing.assert_allclose(f([_row(3.0, 4.0), value])[0], [[expected]])

  def test_tensors_and_further_feeds_are_left_to_keras(self):
    with gf.patched():
      f = self.backend.function([self.x], [self.y])
      fed = self.backend.function([], [self.y], feed_dict={
          self.x: np.zeros((1, 2))})
    np.testing.assert_allclose(f([tf.zeros([1, 2])])[0], [[0.0]])
    np.testing.assert_allclose(fed([])[0], [[0.0]])

  def test_a_value_that_a_cast_would_change_is_refused(self):
    n = tf.placeholder(tf.int32, [])
    with gf.patched():
      f = self.backend.function([n], [n + 1])
    with self.assertRaises(gf.FeedError):
      f([2.7])
