"""Programs without loops and branches, where XLA does not take them."""

import unittest
from unittest import mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed import _tf
from gradfeed.compilation.loops import straight_lines
from gradfeed.rewriting.unrolling import known_values
import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs
from tests.testing import numeric
from tests.testing import programs


def _repeated(turns, compute):
  return lambda h: tf.while_loop(
      lambda i, h: i < turns, lambda i, h: (i + 1, compute(h)), [0, h])[1]


def _nested(x):
  return _repeated(2, lambda h: _repeated(2, tf.sin)(h) + x)(x)


def _longer_each_turn(x):
  return tf.while_loop(
      lambda i, h: i < 2, lambda i, h: (i + 1, tf.while_loop(
          lambda j, t: j <= i, lambda j, t: (j + 1, tf.sin(t) * x),
          [0, h])[1]), [0, x])[1]


def _branch(x):
  return tf.cond(tf.reduce_sum(x) > 0.1, lambda: x ** 3, lambda: tf.exp(x))


def _sides_of_other_shapes(x):
  return tf.cond(
      tf.reduce_sum(x) > 0.1,
      lambda: tf.tanh(tf.exp(tf.reduce_sum(x)) * x), lambda: tf.sin(
          tf.matmul(tf.tanh(x), tf.ones([2, 3], x.dtype)))[:, :2] * x)


def _branch_in_branch(x):
  return tf.cond(
      tf.reduce_sum(x) > 0.1, lambda: tf.cond(
          tf.reduce_max(x) > 0.5, lambda: tf.sin(x) * x, lambda: tf.exp(x)),
      lambda: tf.exp(-tf.square(x)))


def _loop_in_branch(x):
  return tf.cond(tf.reduce_sum(x) > 0.1,
                 lambda: _repeated(2, lambda h: tf.sin(h) * x)(x),
                 lambda: tf.square(x))


def _branch_in_loop(x):
  return _repeated(2, lambda h: tf.cond(
      tf.reduce_sum(h) > 0.1, lambda: tf.sin(h) * x, lambda: tf.exp(h)))(x)


def _up_to_a_limit(x, turn=lambda h, x: 1.3 * h + 0.1 * tf.sin(x)):
  return tf.while_loop(
      lambda i, h: tf.logical_and(i < 3, tf.reduce_sum(tf.abs(h)) < 1.0),
      lambda i, h: (i + 1, turn(h, x)), [0, x])[1]


def _up_to_a_limit_in_loop(x):
  return _repeated(2, lambda h: _up_to_a_limit(tf.sin(h), tf.add))(x)


def _branch_up_to_a_limit(x):
  return _up_to_a_limit(x, lambda h, x: tf.cond(
      tf.reduce_sum(h) > 0.1, lambda: tf.sin(h) * (1.0 + x), lambda: 1.5 * h))


def _times_its_turns(x):
  turns, h = tf.while_loop(
      lambda i, h: tf.logical_and(tf.reduce_sum(tf.abs(h)) < 1.0, i < 3),
      lambda i, h: (i + 1, 1.3 * tf.tanh(h)), [0, x])
  return tf.pow(h, tf.cast(1 + turns, x.dtype)) + h


def _up_to_a_limit_in_branch(x):
  return tf.cond(tf.reduce_sum(x) > 0.1, lambda: _up_to_a_limit(x) * x,
                 lambda: tf.sin(x))


def _up_to_two_limits(x):
  return _up_to_a_limit(x, lambda h, x: 0.3 * h + tf.while_loop(
      lambda j, t: tf.logical_and(tf.reduce_max(t) < 0.6, j < 2),
      lambda j, t: (j + 1, 1.3 * t + 0.1 * x), [0, tf.sin(h)])[1])


_NETWORKS = [(compute.__name__[1:], compute) for compute in (
    _nested, _longer_each_turn, _branch, _sides_of_other_shapes,
    _branch_in_branch, _loop_in_branch, _branch_in_loop, _up_to_a_limit,
    _up_to_a_limit_in_loop, _up_to_a_limit_in_branch, _up_to_two_limits,
    _branch_up_to_a_limit, _times_its_turns)]

#: By which sides of branches are taken, and where values end loops.
_POINTS = np.array([[[0.4, 0.2]], [[0.7, 0.2]], [[-0.3, 0.1]], [[0.7, 0.5]]])


@unittest.skipIf(not _tf.IS_TF2, "TensorFlow 1.15 compiles nothing.")
class StraightLinesTest(graphs.GraphTest):

  @parameterized.named_parameters(*_NETWORKS)
  def test_second_derivatives(self, network):
    with flows.control_flow(None):
      x = tf.placeholder(tf.float64, [None, 2])
      gradient = gf.gradient(tf.reduce_sum(tf.square(network(x))), x)
      squares = tf.reduce_sum(tf.square(gradient))
    f = gf.function(x, gf.gradient(squares, x), jit_compile=True)
    f(_POINTS[0])
    for value in _POINTS:
      self.assertTrue(programs.takes(f, self.session, value))
      np.testing.assert_allclose(
          f(value), numeric.central_differences(
              gf.function(x, squares), value), rtol=1e-5, atol=1e-7)

  @parameterized.named_parameters(
      ("by_count", _repeated(2, lambda h: tf.sin(h) * h)),
      ("by_value", _up_to_a_limit), ("by_both", _times_its_turns))
  def test_hessian_of_a_loop_that_xla_refuses(self, loop):
    with flows.control_flow(None):
      x = tf.placeholder(tf.float64, [None])
      y = tf.reduce_sum(tf.sin(loop(x)))
      hessian = gf.hessian(y, x)
    f, gradient = gf.function(x, hessian, jit_compile=True), gf.gradient(y, x)
    value = np.array([0.3, 0.2])
    f(value + 0.1)
    for factor in (0.5, 1.0, 1.7, 3.0):
      self.assertTrue(programs.takes(f, self.session, factor * value))
      np.testing.assert_allclose(f(factor * value), [
          numeric.central_differences(
              gf.function(x, gradient[i]), factor * value)
          for i in range(2)], rtol=1e-5, atol=1e-7)

  @parameterized.parameters(0.0, 0.4)
  def test_what_a_turn_would_do_that_is_not_made(self, start):
    table = tf.constant([1.5, 2.0, 3.0], tf.float64)
    with flows.control_flow(None):
      x = tf.placeholder(tf.float64, [None])
      h = tf.while_loop(
          lambda i, h: tf.logical_and(i < 5, tf.reduce_sum(h) < 3.0),
          lambda i, h: (i + 1, tf.square(tf.sin(x)) + h * tf.gather(
              table, i * tf.size(x))), [0, x])[1]
      product = gf.hvp(tf.reduce_sum(tf.tanh(h)), x, tf.ones_like(x))
    f = gf.function(x, product, jit_compile=True)
    plain = gf.function(x, product)
    f([1.1 + start])
    for _ in range(2):
      for value in (1.2, 2.0, 3.5):  # After three, two and no turns.
        np.testing.assert_allclose(
            f([value]), plain([value]), rtol=1e-12, atol=1e-13)
      with self.assertRaises(tf.errors.InvalidArgumentError):
        f([0.02])

  @parameterized.parameters(True, False)
  def test_a_number_that_only_a_condition_looks_up(self, is_last):
    table = tf.constant([1.5, 2.0, 3.0], tf.float64)

    def goes_on(i, h):
      parts = [i < 3, tf.reduce_sum(h) < tf.gather(table, i * tf.size(x))]
      return tf.logical_and(*parts if is_last else parts[::-1])

    with flows.control_flow(None):
      x = tf.placeholder(tf.float64, [None])
      h = tf.while_loop(
          goes_on, lambda i, h: (i + 1, 1.5 * h + tf.sin(x)), [0, x])[1]
      product = gf.hvp(tf.reduce_sum(tf.tanh(h)), x, tf.ones_like(x))
    f = gf.function(x, product, jit_compile=True)
    plain = gf.function(x, product)
    f([1.6])
    for _ in range(2):
      for value in (1.6, 0.9):
        np.testing.assert_allclose(f([value]), plain([value]), rtol=1e-12)
      with self.assertRaises(tf.errors.InvalidArgumentError):
        f([0.1])  # After three turns.

  def test_sums_of_whole_numbers_that_values_decide(self):
    with flows.control_flow(None):
      x = tf.placeholder(tf.float64, [None])

      def turn(i, h, count):
        more = tf.cond(tf.reduce_sum(h) > 0.5, lambda: 1, lambda: 0)
        return i + 1, 1.1 * tf.sin(h) + 0.1 * x, 2 * count + more

      _, h, count = tf.while_loop(lambda i, *_: i < 12, turn, [0, x, 0])
      product = gf.hvp(tf.reduce_sum(
          h * tf.cast(count, x.dtype)), x, tf.ones_like(x))
    f = gf.function(x, product, jit_compile=True)
    plain = gf.function(x, product)
    with mock.patch.object(known_values, "evaluate",
                           wraps=known_values.evaluate) as evaluate:
      f([0.3, 0.4])
    self.assertLess(evaluate.call_count, 10000)
    for value in ([0.3, 0.4], [0.7, 0.2], [-0.2, 0.1]):
      self.assertTrue(programs.takes(f, self.session, np.array(value)))
      np.testing.assert_allclose(f(value), plain(value), rtol=1e-12)

  @parameterized.parameters(True, False)
  def test_what_is_wrong_on_one_side_is_wrong_where_it_is_taken(self, is_first):
    def side(indices):
      table = tf.constant([1., 2., 3.], tf.float64)
      return lambda: tf.square(x) * tf.reduce_sum(tf.gather(
          table, tf.constant(indices) * tf.size(x)))

    with flows.control_flow(None):
      x = tf.placeholder(tf.float64, [None])
      sides = [side([1, 5]), side([0, 1])]
      y = tf.cond(tf.reduce_sum(x) > 0., *sides if is_first else sides[::-1])
      product = gf.hvp(tf.reduce_sum(tf.tanh(y)), x, tf.ones_like(x))
    f = gf.function(x, product, jit_compile=True)
    right, wrong = [-0.3], [0.3]
    if not is_first:
      right, wrong = wrong, right
    plain = gf.function(x, product)
    for _ in range(2):
      np.testing.assert_allclose(f(right), plain(right), rtol=1e-12)
      with self.assertRaises((tf.errors.InvalidArgumentError)):
        f(wrong)

  def test_a_loop_up_to_the_number_of_turns_of_another(self):
    with flows.control_flow(None):
      x = tf.placeholder(tf.float64, [None])
      count, h = tf.while_loop(
          lambda i, h: tf.logical_and(i < 3, tf.reduce_sum(tf.abs(h)) < 1.0),
          lambda i, h: (i + 1, 1.3 * h + 0.1 * tf.sin(x)), [0, x])
      y = tf.while_loop(lambda j, t: j < count, lambda j, t: (
          j + 1, tf.sin(t) * x), [0, h])[1]
    dx = gf.gradient(y, x)
    f, plain = gf.function(x, dx, jit_compile=True), gf.function(x, dx)
    with mock.patch.object(straight_lines, "MOST_OPS", 0):
      f([0.4, 0.2])
    for value in ([0.4, 0.2], [0.7, 0.2], [0.1, 0.1], [0.9, 0.4]):
      self.assertTrue(programs.takes(f, self.session, np.array(value)))
      np.testing.assert_allclose(f(value), plain(value), rtol=1e-12)

  def test_too_many_ops(self):
    with flows.control_flow(None):
      x = tf.placeholder(tf.float64, [None, 2])
      product = gf.hvp(tf.reduce_sum(_nested(x)), x, tf.ones_like(x))
    f = gf.function(x, product, jit_compile=True)
    with mock.patch.object(straight_lines, "MOST_OPS", 20):
      with self.assertRaisesRegex(gf.UnsupportedGraphError, "the loop '"):
        f(_POINTS[0])
