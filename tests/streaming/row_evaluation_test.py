"""Blocks of points through a function of one row, or of many."""

import unittest.mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.streaming import row_evaluation
from tests.testing import folders
from tests.testing import graphs


class BatchOfOneTest(folders.FolderTest, graphs.GraphTest):
  """Graphs whose batch is fixed to 1 are evaluated for many rows at once."""

  def setUp(self):
    super().setUp()
    self.points = np.random.RandomState(0).normal(
        size=[23, 3]).astype(np.float32)

  def layers(self, x):
    w = tf.constant(np.random.RandomState(1).normal(size=[3, 4]), tf.float32)
    return tf.tanh(tf.matmul(tf.reshape(x, [1, 3]), w))

  def calls(self, f, points, **options):
    """What `stream` writes, and how many calls of `f` it took."""
    calls, call = [], gf.Function.__call__

    def counted(function, *values, **feeds):
      calls.append(1)
      return call(function, *values, **feeds)

    with unittest.mock.patch.object(gf.Function, "__call__", counted):
      gf.stream(f, points, self.path("out.npy"), **options)
    return np.load(self.path("out.npy")), len(calls)

  @parameterized.parameters(
      ([1, 3], [23, 3], [23, 3]), ([1, 3], [23, 1, 3], [23, 1, 3]),
      ([3], [23, 3], [23, 3]))
  def test_many_rows_in_one_call(self, shape, given, expected):
    x = tf.placeholder(tf.float32, shape)
    y = tf.reduce_sum(self.layers(x) ** 2)
    f = gf.function(x, gf.gradient(y, x), session=self.session)
    points = self.points.reshape(given)
    rows = np.stack([f(row.reshape(shape)) for row in points])
    got, calls = self.calls(f, points)
    self.assertLess(calls, 15)
    self.assertEqual(got.shape, tuple(expected))
    np.testing.assert_allclose(got, rows.reshape(expected), rtol=1e-5,
                               atol=1e-6)

  def recurrent(self):
    """The derivative of a loop that begins with a state of one row."""
    x = tf.placeholder(tf.float32, [1, 3])
    y = tf.while_loop(
        lambda i, h: i < 3,
        lambda i, h: (i + 1, tf.tanh(h[:, :1] * self.layers(x))),
        [0, tf.ones([1, 4])])[1]
    return gf.function(x, gf.gradient(y, x), session=self.session)

  @parameterized.named_parameters(
      ("soon", ((0.0, 500),), 7, 30), ("not_enough_ops", ((0.0, 5),), 23, 40),
      ("second_try", ((0.0, 5), (0.0, 500)), 7, 30),
      ("never", ((np.inf, 500),), 23, 30),
      ("none", (), 23, 30))
  def test_loops_for_many_rows_once_that_pays(self, unrolling, least, most):
    f = self.recurrent()
    rows = np.concatenate([f(row[np.newaxis]) for row in self.points])
    with unittest.mock.patch.object(
        row_evaluation, "_UNROLLING", unrolling):
      got, calls = self.calls(f, self.points, chunk=5)
    np.testing.assert_allclose(got, rows, rtol=1e-5, atol=1e-6)
    self.assertBetween(calls, least, most)

  def test_a_large_chunk_is_not_one_by_one_to_its_end(self):
    f = self.recurrent()
    points = np.resize(self.points, [60, 3])
    rows = np.concatenate([f(row[np.newaxis]) for row in points])
    with unittest.mock.patch.object(
        row_evaluation, "_UNROLLING", ((1e-9, 500),)), (
            unittest.mock.patch.object(row_evaluation, "_ROWS", 10)):
      got, calls = self.calls(f, points, chunk=100)
    np.testing.assert_allclose(got, rows, rtol=1e-5, atol=1e-6)
    self.assertBetween(calls, 10, 30)

  def test_a_default_session_is_that_of_the_threads(self):
    x = tf.placeholder(tf.float32, [1, 3])
    y = tf.py_func(lambda value: value ** 3, [x], tf.float32)
    y.set_shape([1, 3])
    f = gf.function(x, y)
    with self.session.as_default():
      got, calls = self.calls(f, self.points)
    self.assertGreaterEqual(calls, 23)
    np.testing.assert_allclose(got, self.points ** 3, rtol=1e-6)

  def test_rows_that_cannot_be_evaluated(self):
    x = tf.placeholder(tf.float32, [1, 3])
    f = gf.function(x, gf.gradient(tf.reduce_sum(self.layers(x)), x),
                    session=self.session)
    points = self.points.astype(np.float64)
    points[4], points[20] = np.nan, 1e300
    got, calls = self.calls(f, points, on_error="skip", chunk=10)
    self.assertLess(calls, 40)
    self.assertTrue(np.isnan(got[[4, 20]]).all())
    good = np.delete(np.arange(23), [4, 20])
    np.testing.assert_allclose(
        got[good], np.concatenate([f(points[i:i + 1]) for i in good]),
        rtol=1e-5, atol=1e-6)
    points[4] = 0.0
    with self.assertRaisesRegex(gf.FeedError, "Point 20: "):
      gf.stream(f, points, self.path("other.npy"))

  def test_a_mean_over_the_batch_is_not_of_more_rows(self):
    x = tf.placeholder(tf.float32, [1, 3])
    loss = tf.reduce_mean(tf.reduce_sum(self.layers(x) ** 2, 1))
    f = gf.function(x, {"loss": loss, "dx": gf.gradient(loss, x)},
                    session=self.session)
    gf.stream(f, self.points, self.path("out.npz"))
    out = np.load(self.path("out.npz"))
    for i, point in enumerate(self.points):
      expected = f(point[np.newaxis])
      np.testing.assert_allclose(out["loss"][i], expected["loss"], rtol=1e-5)
      np.testing.assert_allclose(
          out["dx"][i], expected["dx"][0], rtol=1e-4, atol=1e-6)
