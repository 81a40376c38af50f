"""Derivatives through `tf.py_function`: right, or refused by name."""

import threading

from absl.testing import parameterized
import numpy as np
import tensorflow as tf2
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs

_AT = np.array([1.0, 2.0, 3.0])


def _cubed(x, name="cubed"):
  z = tf.py_function(lambda t: t ** 3, [x], tf.float64, name=name)
  z.set_shape(x.shape)
  return z


class PythonFunctionsTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.x = tf.placeholder(tf.float64, [3], name="x")

  def _assert_refused(self, error, words, *calls):
    before = self.count()
    for call in calls:
      with self.assertRaisesRegex(error, "(?s)" + words):
        call()
    self.assertEqual(self.count(), before)

  def test_s23_first_order_is_right(self):
    x, v = self.x, tf.placeholder(tf.float64, [3])
    y = _cubed(tf.sin(x)) ** 2 + x
    d = np.array([1.0, 10.0, 100.0])
    slope = 6 * np.sin(_AT) ** 5 * np.cos(_AT) + 1
    with self.assertRaisesRegex(
        gf.UnsupportedGraphError, "(?s)two gradients.*EagerPyFunc.*py:"):
      gf.function([x, v], [y, gf.gradient(y, x), gf.jvp(y, x, v)])
    f = gf.function(x, [y, gf.gradient(y, x)])
    g = gf.function([x, v], gf.jvp(y, x, v))
    for _ in range(3):
      value, dx = f(_AT)
      np.testing.assert_allclose(value, np.sin(_AT) ** 6 + _AT)
      np.testing.assert_allclose(dx, slope)
      np.testing.assert_allclose(g(_AT, d), slope * d)

  def test_s23_second_order_is_refused(self):
    x = self.x
    y = tf.reduce_sum(_cubed(x)) + tf.reduce_sum(x ** 2)
    dx = gf.gradient(y, x)
    self._assert_refused(
        gf.MissingGradientError, "cubed.*python_functions_test.py:.*tape",
        lambda: gf.hessian(y, x), lambda: gf.hvp(y, x, _AT),
        lambda: gf.gradient(dx, x), lambda: gf.jvp(dx, x, _AT),
        lambda: gf.gradients([dx], [x]),
        lambda: gf.jacobian(dx, x), lambda: gf.hessian(dx, x))

  def test_second_order_by_what_the_function_does_not_read(self):
    x, a = self.x, tf.placeholder(tf.float64, [3])
    y = _cubed(x) * a ** 2
    mixed = gf.gradient(gf.gradient(y, x), a)
    np.testing.assert_allclose(
        gf.function([x, a], mixed)(_AT, [1.0, 1.0, 2.0]),
        3 * _AT ** 2 * 2 * np.array([1.0, 1.0, 2.0]))
    np.testing.assert_allclose(
        np.diag(gf.function([x, a], gf.hessian(y, a))(_AT, _AT)),
        2 * _AT ** 3)

  def test_s23_many_cotangents_in_one_run_are_refused(self):
    x = tf.placeholder(tf.float64, [None, 3])
    z = _cubed(x)
    self._assert_refused(
        gf.MissingGradientError, "cubed.*python_functions_test.py:.*once",
        lambda: gf.jacobian(z, x), lambda: gf.batch_jacobian(z, x),
        lambda: gf.per_example_gradient(z, x),
        lambda: gf.per_example_gradient(z, x, coupled=True))

  @parameterized.parameters(1, 2)
  def test_s23_in_a_loop_is_refused(self, version):
    x = self.x
    with flows.control_flow(version):
      y = tf.while_loop(lambda i, a: i < 2,
                        lambda i, a: (i + 1, _cubed(a)), (0, x))[1]
    self._assert_refused(
        gf.MissingGradientError, "EagerPyFunc.*last call",
        lambda: gf.gradient(y, x), lambda: gf.jvp(y, x, _AT))

  def test_s23_in_a_loop_beside_the_path(self):
    x = self.x
    with flows.control_flow(2):
      y = tf.while_loop(
          lambda i, a: i < 2, lambda i, a: (
              i + tf.cast(tf.py_function(lambda t: 1, [i], tf.int32), tf.int32),
              tf.sin(a)), (0, x), shape_invariants=(
                  tf.TensorShape(None), x.shape))[1]
    np.testing.assert_allclose(
        gf.function(x, gf.gradient(y, x))(_AT),
        np.cos(np.sin(_AT)) * np.cos(_AT))

  def test_s23_in_a_branch(self):
    x = self.x
    with flows.control_flow(2):
      y = tf.cond(x[0] > 0.0, lambda: _cubed(x), lambda: x)
    self._assert_refused(
        gf.MissingGradientError, "(cubed|EagerPyFunc).*branch",
        lambda: gf.gradient(y, x), lambda: gf.value_and_gradient(y, x))
    with flows.control_flow(1):
      y = tf.cond(x[0] > 0.0, lambda: _cubed(x), lambda: x)
    dx = gf.gradient(y, x)
    f = gf.function(x, [y, dx])
    for at in (_AT, -_AT, _AT):
      np.testing.assert_allclose(
          f(at)[1], 3 * at ** 2 if at[0] > 0 else np.ones(3))
    self._assert_refused(
        gf.MissingGradientError, "(cubed|tf.py_function).*tape",
        lambda: gf.hessian(y, x), lambda: gf.gradient(dx, x))

  def test_s23_in_a_function(self):
    if tf.__version__.startswith("1."):
      return
    x = self.x
    function = tf2.function(lambda x: _cubed(x) * x)
    y = function(tf.sin(x))
    f = gf.function(x, gf.gradient(y, x))
    np.testing.assert_allclose(f(_AT), 4 * np.sin(_AT) ** 3 * np.cos(_AT))
    with self.assertRaisesRegex(gf.UnsupportedGraphError, "(?s)two gradients"):
      twice = function(function(x))
      gf.function(x, gf.gradient(twice, x))(_AT)

  def test_s23_gradients_that_tensorflow_built(self):
    x = self.x
    y = tf.while_loop(lambda i, a: i < 2,
                      lambda i, a: (i + 1, _cubed(a)), (0, x))[1]
    dx, = tf.gradients(y, x)
    with self.assertRaisesRegex(
        gf.UnsupportedGraphError, "(?s)py_function.*one tape"):
      gf.function(x, dx)(_AT)

  def test_s23_two_calls_of_one_function(self):
    x, h = self.x, tf.sin(self.x)
    z = _cubed(h)
    dx = gf.gradient(z, h)
    f = gf.function(x, [z, dx])
    np.testing.assert_allclose(f(_AT)[1], 3 * np.sin(_AT) ** 2)
    np.testing.assert_allclose(gf.function(h, [z, dx])(_AT)[1], 3 * _AT ** 2)
    with flows.control_flow(2):
      h = tf.cond(x[0] > 0.0, lambda: tf.sin(x), lambda: x)
    z = _cubed(h)
    y = tf.reduce_sum(z)
    dx = gf.gradient(y, x)  # Built on a copy.
    with self.assertRaisesRegex(
        gf.UnsupportedGraphError, "(?s)two calls of.*'cubed.*py:"):
      gf.function(x, [z, dx])
    np.testing.assert_allclose(gf.function(x, [y, dx])(_AT)[1],
                               3 * np.sin(_AT) ** 2 * np.cos(_AT))

  def test_s23_from_several_threads(self):
    x = self.x
    z = _cubed(x)
    f = gf.function(x, gf.gradient(z, x), self.session)
    value = gf.function(x, z, self.session)
    f(_AT), value(_AT)  # pylint: disable=expression-not-assigned
    wrong = []

    def work(k):
      for i in range(100):
        at = np.array([k + 1.0, i / 10.0, 2.0])
        try:
          if k == 3:
            value(at)
          elif not np.allclose(f(at), 3 * at ** 2):
            wrong.append("number")
        except Exception as error:  # pylint: disable=broad-except
          wrong.append(repr(error)[:100])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    self.assertEqual(wrong, [])
