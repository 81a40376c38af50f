"""Second derivatives of max-pools that are as large as what is pooled."""

import threading

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import graphs


def _pools():
  """(name, shape of the images, window, stride, padding) of each case."""
  for size in ((1, 1), (1, 4), (5, 4)):
    for window in (1, 2, 3):
      for stride in (1, 2):
        for padding in ("SAME", "VALID"):
          if padding == "SAME" or window <= min(size):
            yield ("{}x{}_window_{}_stride_{}_{}".format(
                size[0], size[1], window, stride, padding.lower()),
                   size, window, stride, padding)


class MaxPoolTest(graphs.GraphTest):

  def _assert_tangent(self, pool, value, tangent, known):
    """Compares jvp and hvp with differences of pool(x ** 2)."""
    shape = value.shape if known else [None] * value.ndim
    x = tf.placeholder(tf.float64, shape)
    v = tf.placeholder(tf.float64, shape)
    y = pool(x ** 2)
    weights = tf.constant(np.random.RandomState(3).normal(
        size=self.session.run(y, {x: value}).shape))
    along = self.session.run(gf.jvp(y, x, v), {x: value, v: tangent})
    second = self.session.run(
        gf.hvp(tf.reduce_sum(weights * y ** 2), x, v), {x: value, v: tangent})
    dx = gf.gradient(tf.reduce_sum(weights * y ** 2), x)
    step = 1e-6
    ends = [{x: value + sign * step * tangent} for sign in (1, -1)]
    for result, f in ((along, y), (second, dx)):
      above, below = [self.session.run(f, feed) for feed in ends]
      np.testing.assert_allclose(
          result, (above - below) / (2 * step), atol=1e-6)

  @parameterized.named_parameters(_pools())
  def test_s22_tangent_and_second_derivative(
      self, size, window, stride, padding):
    value, tangent = np.random.RandomState(0).normal(size=(2, 2) + size + (3,))
    for known in (True, False):
      self._assert_tangent(
          lambda x: tf.nn.max_pool(
              x, [1, window, window, 1], [1, stride, stride, 1], padding),
          value, tangent, known)

  @parameterized.parameters(("SAME", 2), ("VALID", 1))
  def test_s22_in_three_dimensions(self, padding, window):
    value, tangent = np.random.RandomState(0).normal(
        size=(2, 1, 3, 3, 3, 2)).astype(np.float32)
    x = tf.placeholder(tf.float32, value.shape)
    v = tf.placeholder(tf.float32, value.shape)
    y = tf.nn.max_pool3d(x, [1, window, window, window, 1], [1] * 5, padding)
    expected = np.zeros_like(value)
    for i, j, k, channel in np.ndindex(value.shape[1:]):
      place = (slice(i, i + window), slice(j, j + window),
               slice(k, k + window), channel)
      expected[0, i, j, k, channel] = tangent[0][place].ravel()[
          value[0][place].argmax()]
    np.testing.assert_array_equal(self.session.run(
        gf.jvp(y, x, v * 1.0), {x: value, v: tangent}), expected)

  def test_s22_of_a_window_that_is_a_tensor(self):
    value, tangent = np.random.RandomState(0).normal(size=(2, 1, 4, 4, 2))
    self._assert_tangent(
        lambda x: tf.raw_ops.MaxPoolV2(
            input=x, ksize=[1, 3, 3, 1], strides=[1, 1, 1, 1], padding="SAME"),
        value, tangent, True)

  def test_s22_where_the_tangent_is_fetched_as_well(self):
    value, tangent = np.random.RandomState(0).normal(size=(2, 1, 4, 4, 1))
    x = tf.placeholder(tf.float64, value.shape)
    v = tf.placeholder(tf.float64, value.shape)
    moved = v * 2.0
    result = gf.jvp(tf.nn.max_pool(
        x, [1, 3, 3, 1], [1, 1, 1, 1], "SAME"), x, moved)
    feed = {x: value, v: tangent}
    alone = self.session.run(result, feed)
    together, fetched = self.session.run([result, moved], feed)
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(fetched, 2.0 * tangent)

  def test_a_pool_that_shrinks_is_as_tensorflow_builds_it(self):
    x = tf.placeholder(tf.float64, [1, 4, 4, 1])
    y = tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    result = gf.jvp(y, x, tf.ones_like(x))
    self.assertNotIn("Pad", {
        op.type for op in self.graph.get_operations()
        if op.name.startswith("gradfeed")})
    self.assertEqual(result.shape, y.shape)

  def test_the_registry_is_as_it_was(self):
    def built():
      with tf.Graph().as_default():
        x = tf.placeholder(tf.float64, [1, 3, 3, 1])
        y = tf.nn.max_pool(x, [1, 3, 3, 1], [1, 1, 1, 1], "SAME")
        gf.hvp(tf.reduce_sum(y ** 2), x, tf.ones_like(x))

    threads = [threading.Thread(target=built) for _ in range(4)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    x = tf.placeholder(tf.float64, [1, 3, 3, 1])
    y = tf.nn.max_pool(x, [1, 3, 3, 1], [1, 1, 1, 1], "SAME")
    dx = tf.gradients(y ** 2, x)
    tf.gradients(dx, x)
    self.assertTrue([op for op in self.graph.get_operations()
                     if op.type == "MaxPoolGradGrad" and
                     op.get_attr("padding") == b"SAME"])
