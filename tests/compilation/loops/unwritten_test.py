"""Arrays that programs of XLA read, and that nothing was written to."""

import unittest

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed import _tf
import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs
from tests.testing import programs


def _until(x, size, **shape):
  return tf.while_loop(
      lambda i, h, array: tf.logical_and(
          i < size, tf.reduce_sum(tf.abs(h)) < 1.0),
      lambda i, h, array: (
          i + 1, 1.5 * h + 0.1 * tf.sin(x), array.write(i, tf.sin(h) * x)),
      [0, x, tf.TensorArray(x.dtype, size, **shape)])


def _all_of_a_loop(x):
  return tf.reduce_sum(_until(x, 4)[2].stack(), 0)


def _last_of_a_loop(x):
  count, h, array = _until(x, 4)
  return array.read(tf.maximum(count - 1, 0)) * h


def _of_a_branch_in_a_loop(x):
  _, h, array = tf.while_loop(
      lambda i, *_: i < 3, lambda i, h, array: (
          i + 1, 0.8 * h, tf.cond(tf.reduce_sum(tf.abs(h)) < 1.0, lambda: (
              array.write(i, h * x)), lambda: array)),
      [0, 1.5 * x, tf.TensorArray(x.dtype, 3)])
  return tf.reduce_sum(array.stack(), 0) * h


@unittest.skipIf(not _tf.IS_TF2, "TensorFlow 1.15 compiles nothing.")
class UnwrittenTest(graphs.GraphTest):

  @parameterized.product(
      network=(_all_of_a_loop, _last_of_a_loop, _of_a_branch_in_a_loop),
      order=(1, 2))
  def test_is_refused_where_tensorflow_refuses_it(self, network, order):
    with flows.control_flow(None):
      x = tf.placeholder(tf.float64, [None])
      y = tf.reduce_sum(tf.square(network(x)))
      dy = gf.gradient(y, x) if order == 1 else gf.hvp(y, x, tf.ones_like(x))
    f, plain = gf.function(x, dy, jit_compile=True), gf.function(x, dy)
    f([0.4, 0.2])
    for _ in range(2):
      for value in ([0.3, 0.2], [-0.3, 0.1], [0.5, 0.4]):
        self.assertTrue(programs.takes(f, self.session, np.array(value)))
        np.testing.assert_allclose(
            f(value), plain(value), rtol=1e-12, atol=1e-14)
      for g in (plain, f):
        with self.assertRaises(tf.errors.InvalidArgumentError):
          g([2.0, 1.0])

  @parameterized.parameters(1, 2)
  def test_is_zero_where_its_shape_is_stated(self, order):
    with flows.control_flow(None):
      x = tf.placeholder(tf.float64, [None])
      array = _until(x, 4, element_shape=[2])[2]
      y = tf.reduce_sum(tf.square(tf.reduce_sum(array.stack(), 0) + x))
      dy = gf.gradient(y, x) if order == 1 else gf.hvp(y, x, tf.ones_like(x))
    f, plain = gf.function(x, dy, jit_compile=True), gf.function(x, dy)
    f([0.4, 0.2])
    for value in ([0.3, 0.2], [2.0, 1.0]):
      self.assertTrue(programs.takes(f, self.session, np.array(value)))
      np.testing.assert_allclose(f(value), plain(value), rtol=1e-12)
