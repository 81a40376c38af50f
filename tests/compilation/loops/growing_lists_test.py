"""Programs of XLA for arrays that a loop makes longer."""

import unittest

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed import _tf
import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs
from tests.testing import numeric
from tests.testing import programs


def _array(x, size=0):
  return tf.TensorArray(x.dtype, size, dynamic_size=True)


def _written_in_turn(x, size=0):
  def turn(i, h, made):
    h = tf.tanh(1.1 * h + x)
    return i + 1, h, made.write(i, h)

  return tf.while_loop(lambda i, h, made: i < 4, turn,
                       (0, x, _array(x, size)))[2].stack()


def _as_long_as_the_batch(x):
  given = _array(x).unstack(x)
  return tf.while_loop(
      lambda i, made: i < tf.shape(x)[0],
      lambda i, made: (i + 1, made.write(i, tf.exp(given.read(i)))),
      (0, _array(x)))[1].stack()


def _decoded(x, w):
  """Steps until all rows have come to an end, 4 at most."""
  def turn(i, h, is_over, made):
    h = tf.tanh(tf.matmul(h, w) + x)
    is_over = tf.logical_or(is_over, tf.reduce_sum(h, 1) > 0.8)
    return i + 1, h, is_over, made.write(i, h)

  return tf.while_loop(
      lambda i, h, is_over, made: tf.logical_not(tf.reduce_all(is_over)), turn,
      (0, x, tf.zeros([tf.shape(x)[0]], tf.bool), _array(x)),
      maximum_iterations=4)[3].stack()


@unittest.skipIf(not _tf.IS_TF2, "TensorFlow 1.15 compiles nothing.")
class GrowingListsTest(graphs.GraphTest):

  @parameterized.named_parameters(
      ("from_nothing", _written_in_turn),
      ("from_two", lambda x: _written_in_turn(x, 2)),
      ("as_long_as_the_batch", _as_long_as_the_batch))
  def test_an_array_that_grows(self, network):
    x = tf.placeholder(tf.float64, [None, 2])
    with flows.control_flow(None):
      y = tf.reduce_sum(network(x) ** 2)
    f = gf.function(x, gf.gradient(y, x), jit_compile=True)
    for rows in (3, 2):
      f(np.zeros([rows, 2]))
      value = np.linspace(-0.4, 0.5, 2 * rows).reshape([rows, 2])
      self.assertTrue(programs.takes(f, self.session, value))
      np.testing.assert_allclose(f(value), numeric.central_differences(
          gf.function(x, y), value), rtol=1e-6, atol=1e-8)

  def test_a_decoder_that_values_end(self):
    x = tf.placeholder(tf.float64, [None, 2])
    w = graphs.variable("w", [[0.4, -0.2], [0.1, 0.5]], True)
    self.initialize()
    with flows.control_flow(None):
      steps = _decoded(x, w)
    y = tf.reduce_sum(steps ** 2)
    f = gf.function(x, [gf.gradient(y, x), tf.shape(steps)[0]],
                    jit_compile=True)
    plain = gf.function(x, y)
    at_once, in_two, never = [np.full([2, 2], v) for v in (0.8, 0.3, 0.1)]
    f(in_two - 0.005)
    for value, expected in [(in_two, 2), (at_once, 1), (never, 4), (in_two, 2)]:
      gradient, count = f(value)
      self.assertEqual(count, expected)
      self.assertEqual(programs.takes(f, self.session, value), count == 2)
      np.testing.assert_allclose(
          gradient, numeric.central_differences(plain, value),
          rtol=1e-6, atol=1e-8)
    self.assertLen(f.compiled, 1)

  def test_a_length_that_is_read_meanwhile_is_refused(self):
    x = tf.placeholder(tf.float64, [2])
    with flows.control_flow(None):
      y = tf.while_loop(
          lambda i, h, made: i < 3, lambda i, h, made: (
              i + 1, h + tf.cast(made.size(), x.dtype) * x, made.write(i, h)),
          (0, x, _array(x)))[1]
    with self.assertRaisesRegex(gf.UnsupportedGraphError, "array that grows"):
      gf.function(x, y, jit_compile=True)([1., 2.])

  def test_places_that_values_decide_are_refused(self):
    x = tf.placeholder(tf.float64, [2])
    i = tf.cast(x[0], tf.int32)
    y = _array(x).write(0, x).write(i, 2. * x).stack()
    with self.assertRaisesRegex(gf.UnsupportedGraphError,
                                "TensorListSetItem|TensorListResize"):
      gf.function(x, y, jit_compile=True)([1., 2.])
