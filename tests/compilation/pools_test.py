"""Second derivatives of max-pools, compiled by XLA."""

import unittest

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed import _tf
import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs
from tests.testing import programs


def _first_maxima(x, cotangent, size, stride, before, lengths):
  """What is picked of a cotangent, window by window: in NumPy."""
  picked = np.zeros(lengths)
  for i in range(lengths[0]):
    for j in range(lengths[1]):
      window = [(x[a, b], cotangent[a, b])
                for a in range(i * stride - before, i * stride - before + size)
                for b in range(j * stride - before, j * stride - before + size)
                if 0 <= a < len(x) and 0 <= b < len(x)]
      largest = max(number for number, _ in window)
      picked[i, j] = next(one for number, one in window if number == largest)
  return picked


@unittest.skipIf(not _tf.IS_TF2, "TensorFlow 1.15 compiles nothing.")
class PoolsTest(graphs.GraphTest):

  @parameterized.parameters(
      (2, 2, "VALID", 0, 2), (3, 1, "SAME", 1, 5), (3, 2, "SAME", 1, 3),
      (2, 3, "SAME", 0, 2), (3, 2, "VALID", 0, 2))
  def test_picks_the_first_maximum(self, size, stride, padding, before, length):
    x, y, tangent = [tf.placeholder(tf.float32, [1, n, n, 1])
                     for n in (5, length, 5)]
    picked = tf.raw_ops.MaxPoolGradGrad(
        orig_input=x, orig_output=y, grad=tangent, ksize=[1, size, size, 1],
        strides=[1, stride, stride, 1], padding=padding)
    f = gf.function([x, y, tangent], picked, jit_compile=True)
    pool = gf.function(x, tf.nn.max_pool(
        x, [1, size, size, 1], [1, stride, stride, 1], padding))
    random = np.random.RandomState(0)
    points = [random.normal(size=[5, 5]), random.randint(-2, 1, [5, 5]),
              np.full([5, 5], -1.)]
    for point in points:
      given = random.normal(size=[5, 5]).astype(np.float32)
      image = point.reshape([1, 5, 5, 1]).astype(np.float32)
      values = image, pool(image), given.reshape([1, 5, 5, 1])
      f(*values)
      self.assertTrue(programs.takes(f, self.session, *values))
      np.testing.assert_array_equal(
          f(*values)[0, :, :, 0], _first_maxima(
              point, given, size, stride, before, [length, length]))

  @parameterized.parameters(tf.float32, tf.float64)
  def test_second_derivatives_at_ties_and_nan(self, dtype):
    x = tf.placeholder(dtype, [1, 4, 4, 1])
    y = tf.nn.max_pool(tf.nn.relu(x), [1, 2, 2, 1], [1, 1, 1, 1], "SAME")
    product = gf.hvp(tf.reduce_sum(y ** 3), x, tf.ones_like(x) + x)
    f = gf.function(x, product, jit_compile=True)
    plain = gf.function(x, product)
    f(np.ones([1, 4, 4, 1]))
    self.assertLen(f.compiled, 1)
    for special in (0., 1., -1., np.nan):
      value = np.linspace(-1., 1., 16).reshape([1, 4, 4, 1])
      value[0, 1:3] = special
      np.testing.assert_allclose(f(value), plain(value), rtol=1e-5)

  @parameterized.parameters(
      ([2, 2], [2, 2], 5), ([3, 2], [1, 1], 5), ([3, 3], [2, 2], 6))
  def test_first_derivatives_at_ties(self, window, strides, length):
    x = tf.placeholder(tf.float64, [None, length, length, 2])
    y = tf.nn.max_pool(x, [1] + window + [1], [1] + strides + [1], "SAME")
    gradient = gf.gradient(y, x, tf.cast(tf.reshape(tf.range(
        tf.size(y)), tf.shape(y)), tf.float64))
    f = gf.function(x, gradient, jit_compile=True)
    plain = gf.function(x, gradient)
    random = np.random.RandomState(0)
    f(random.normal(size=[2, length, length, 2]))
    for _ in range(3):
      value = random.randint(-2, 1, size=[2, length, length, 2])
      self.assertTrue(programs.takes(f, self.session, value))
      np.testing.assert_array_equal(f(value), plain(value))

  def test_first_derivatives_at_ties_in_a_branch_in_a_loop(self):
    def pool(h):
      return tf.nn.max_pool(h, [1, 2, 2, 1], [1, 1, 1, 1], "SAME")

    with flows.control_flow(None):
      x = tf.placeholder(tf.float64, [None, 5, 5, 1])
      y = tf.while_loop(
          lambda i, h: i < 2, lambda i, h: (i + 1, tf.cond(
              tf.reduce_sum(h) > 0., lambda: pool(h) * x,
              lambda: pool(tf.square(h)) - x)), [0, x])[1]
      gradient = gf.gradient(tf.reduce_sum(y ** 2), x)
    f = gf.function(x, gradient, jit_compile=True)
    plain = gf.function(x, gradient)
    random = np.random.RandomState(0)
    f(random.normal(size=[2, 5, 5, 1]))
    for _ in range(3):
      value = random.randint(-2, 3, size=[2, 5, 5, 1])
      self.assertTrue(programs.takes(f, self.session, value))
      np.testing.assert_allclose(f(value), plain(value), rtol=1e-12)

  def test_a_window_that_is_too_large_is_named(self):
    x = tf.placeholder(tf.float32, [1, 20, 20, 1])
    y = tf.nn.max_pool(x, [1, 20, 20, 1], [1, 20, 20, 1], "VALID")
    f = gf.function(x, gf.hvp(tf.reduce_sum(y ** 2), x, tf.ones_like(x)),
                    jit_compile=True)
    with self.assertRaisesRegex(gf.UnsupportedGraphError, "MaxPoolGradGrad.*"
                                "\n.*window is large"):
      f(np.zeros([1, 20, 20, 1]))
