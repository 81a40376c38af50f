import copy
import pickle

import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows
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


class _OddError(KeyError):
  """An error of a program, which is a builtin one too."""

  def __init__(self, first, second):
    super().__init__(first, second)


class ErrorsOfGradientFunctionsTest(graphs.GraphTest):
  """What `tf.gradients` raises is caught as such, and as gradfeed's."""

  def _refused(self, error):
    """The error of a derivative whose gradient function raises `error`."""

    @tf.custom_gradient
    def failing(x):

      def gradient(unused_cotangent):
        raise error

      return tf.identity(x), gradient

    x = tf.placeholder(tf.float64, [2], name="x")
    y = failing(x)
    raised = []
    for differentiate in (gf.gradient, gf.gradients, gf.gradient):
      with self.assertRaises(gf.UnsupportedGraphError) as caught:
        differentiate(y, x)
      raised.append(caught.exception)
    with gf.patched():
      with self.assertRaises(gf.UnsupportedGraphError) as caught:
        tf.gradients(y, x)
    return raised + [caught.exception]

  def test_of_the_type_that_was_raised(self):
    for error, builtin in (
        (ValueError("odd"), ValueError), (TypeError("odd"), TypeError),
        (ZeroDivisionError("odd"), ZeroDivisionError),
        (AttributeError("odd"), AttributeError), (KeyError("odd"), KeyError),
        (_OddError("odd", 1), KeyError),
        (NotImplementedError("odd"), NotImplementedError)):
      for raised in self._refused(error):
        self.assertIsInstance(raised, builtin)
        self.assertEqual(type(raised).__name__, "UnsupportedGraphError")
        self.assertRegex(
            str(raised), r"(?s)by 'x.*{}.*odd".format(type(error).__name__))

  def test_it_can_be_copied_and_pickled(self):
    raised, _, _, _ = self._refused(ValueError("odd"))
    for again in (copy.copy(raised), pickle.loads(pickle.dumps(raised))):
      self.assertIsInstance(again, ValueError)
      self.assertIsInstance(again, gf.UnsupportedGraphError)
      self.assertEqual(str(again), str(raised))

  def test_inside_a_loop_by_what_its_variables_begin_with(self):
    x = tf.placeholder(tf.float64, [], name="x")

    def body(v):
      return gf.gradients(v * v, x)

    with flows.control_flow(1):
      with self.assertRaisesRegex(ValueError, "(?s)by 'x:0'.*loop invariants"):
        tf.while_loop(lambda v: v < 9.0, body, [x + 1.0])
