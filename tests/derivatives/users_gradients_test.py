import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import graphs


class _Rule:
  """A setting of a program that its gradient function reads."""

  factor = 1.0


@tf.RegisterGradient("TimesTheFactor")
def _times_the_factor(unused_op, cotangent):
  return cotangent * _Rule.factor


class UsersGradientsTest(graphs.GraphTest):
  """Gradient functions that give another result once a setting changes."""

  def setUp(self):
    super().setUp()
    _Rule.factor = 1.0
    self.addCleanup(setattr, _Rule, "factor", 1.0)
    self.x = tf.placeholder(tf.float64, [2])
    with self.graph.gradient_override_map({"Relu": "TimesTheFactor"}):
      self.h = tf.nn.relu(2 * self.x)
    self.y = tf.reduce_sum(self.h)

  def _evaluate(self, result):
    return self.session.run(result, {self.x: [1.0, -1.0]})

  def _test_follows(self, differentiate, expected):
    """`differentiate` gives `expected` times the factor of the moment."""
    for factor in (1.0, 3.0, -0.5):
      _Rule.factor = factor
      np.testing.assert_allclose(
          self._evaluate(differentiate()), factor * np.asarray(expected))

  def test_gradient_is_that_of_the_moment(self):
    self._test_follows(lambda: gf.gradient(self.y, self.x), [2.0, 2.0])

  def test_tf_gradients_is_that_of_the_moment(self):
    with gf.patched():
      self._test_follows(lambda: tf.gradients(self.y, self.x)[0], [2.0, 2.0])

  def test_y_that_is_built_anew(self):
    self._test_follows(
        lambda: gf.gradient(tf.reduce_sum(self.h), self.x), [2.0, 2.0])

  def test_jacobian_is_that_of_the_moment(self):
    self._test_follows(
        lambda: gf.jacobian(self.h, self.x), [[2.0, 0.0], [0.0, 2.0]])

  def test_hessian_is_that_of_the_moment(self):
    square = tf.reduce_sum(self.h ** 2)  # Its gradient is 4 h times the factor.
    for factor in (1.0, 3.0, -0.5):
      _Rule.factor = factor
      np.testing.assert_allclose(
          self._evaluate(gf.hessian(square, self.x)),
          8 * factor ** 2 * np.eye(2))

  def test_custom_gradient_is_that_of_the_moment(self):

    @tf.custom_gradient
    def reversed_by_the_factor(x):
      return tf.identity(x), lambda cotangent: -_Rule.factor * cotangent

    y = reversed_by_the_factor(self.x)
    self._test_follows(lambda: gf.gradient(y, self.x), [-1.0, -1.0])

  def test_numbers_that_a_gradient_function_encloses(self):
    factor = 2.0

    @tf.custom_gradient
    def reversed_by_the_factor(x):
      return tf.identity(x), lambda cotangent: -factor * cotangent

    y = reversed_by_the_factor(self.x)
    first = gf.gradient(y, self.x)
    count = self.count()
    self.assertIs(gf.gradient(y, self.x), first)
    self.assertEqual(self.count(), count)
    factor = 3.0
    np.testing.assert_allclose(
        self._evaluate(gf.gradient(y, self.x)), [-3.0, -3.0])
    np.testing.assert_allclose(self._evaluate(first), [-2.0, -2.0])

  def test_function_keeps_what_it_was_made_of(self):
    f = gf.function(self.x, gf.gradient(self.y, self.x), self.session)
    _Rule.factor = 5.0
    gf.gradient(self.y, self.x)
    np.testing.assert_allclose(f([1.0, 1.0]), [2.0, 2.0])

  def test_own_gradients_of_tensorflow_are_built_once(self):
    y = tf.nn.swish(self.x)  # A tf.custom_gradient of TensorFlow.
    first = gf.gradient(y, self.x)
    count = self.count()
    self.assertIs(gf.gradient(y, self.x), first)
    self.assertEqual(self.count(), count)
