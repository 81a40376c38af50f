"""function(..., chunk=): a batch a few rows at a time."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import graphs


class ChunksTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.x = tf.placeholder(tf.float64, [None, 3], name="x")
    self.scale = tf.placeholder(tf.float64, [3], name="scale")
    self.y = tf.sin(self.x * self.scale, name="y")
    self.at = np.random.RandomState(0).normal(size=[10, 3])

  @parameterized.named_parameters(
      ("even", 5), ("rest", 4), ("one", 1), ("all", 10), ("more", 100))
  def test_gives_what_the_whole_batch_gives(self, chunk):
    outputs = {"y": self.y, "dx": [gf.gradient(self.y, self.x)]}
    fed = []

    def watch(values):
      fed.append(len(values))
      return values

    watched = tf.py_func(watch, [self.x], tf.float64)
    watched.set_shape([None, 3])
    outputs["watched"] = watched
    f = gf.function([self.x, self.scale], outputs, session=self.session,
                    chunk=chunk)
    for _ in range(2):
      del fed[:]
      got = f(self.at, [1.0, 2.0, 3.0])
      angle = self.at * [1.0, 2.0, 3.0]
      np.testing.assert_allclose(got["y"], np.sin(angle))
      np.testing.assert_allclose(
          got["dx"][0], np.cos(angle) * [1.0, 2.0, 3.0])
      np.testing.assert_array_equal(got["watched"], self.at)
      self.assertLessEqual(max(fed), max(chunk, 2))
    self.assertLen(fed, -(-10 // chunk))  # The proof is made once.
    self.assertEqual(f(self.at[:0], np.ones(3))["y"].shape, (0, 3))

  def test_of_a_class_for_each_example(self):
    index = tf.placeholder(tf.int32, [None])
    logits = tf.matmul(self.x, tf.constant(
        np.random.RandomState(1).normal(size=[3, 4])))
    of_class = gf.class_gradient(logits ** 2, self.x, index)
    whole = gf.function([self.x, index], of_class, session=self.session)
    parts = gf.function([self.x, index], of_class, session=self.session,
                        chunk=3)
    own = np.random.RandomState(2).randint(4, size=10)
    np.testing.assert_allclose(parts(self.at, own), whole(self.at, own))

  def test_held_values_are_not_divided(self):
    f = gf.function(self.x, self.y, session=self.session, chunk=3,
                    feed_dict={self.scale: [1.0, 2.0, 3.0]})
    np.testing.assert_allclose(f(self.at), np.sin(self.at * [1.0, 2.0, 3.0]))

  @parameterized.named_parameters(
      ("mean", lambda x: x - tf.reduce_mean(x, 0), "Mean"),
      ("number", lambda x: x / tf.cast(tf.shape(x)[0], tf.float64), "Slice"),
      ("random", lambda x: x + tf.random_uniform(
          tf.shape(x), dtype=tf.float64), "random"))
  def test_s4_rows_that_depend_on_each_other_are_refused(self, mix, blamed):
    y = tf.identity(mix(self.x), name="mixed")
    f = gf.function(self.x, y, session=self.session, chunk=4)
    with self.assertRaisesRegex(
        gf.CoupledRowsError, "(?s)'mixed:0'.*'x:0'.*together.*{}".format(
            blamed)):
      f(self.at)
    self.assertEqual(f(self.at[:4]).shape, (4, 3))  # Not divided.

  def test_s3_the_gradient_of_a_mean_is_refused(self):
    dx = gf.gradient(tf.reduce_mean(self.x ** 2), self.x)
    f = gf.function(self.x, dx, session=self.session, chunk=4)
    with self.assertRaises(gf.CoupledRowsError):
      f(self.at)

  def test_numbers_that_are_not_finite(self):
    f = gf.function(self.x, tf.log(self.x), session=self.session, chunk=4)
    self.at[0, :2] = 0.0, -1.0
    with np.errstate(all="ignore"):
      np.testing.assert_allclose(f(self.at), np.log(self.at))

  @parameterized.named_parameters(
      ("zero", 0), ("float", 2.0), ("bool", True))
  def test_no_number_of_rows(self, chunk):
    with self.assertRaisesRegex(gf.ArgumentError, "chunk="):
      gf.function(self.x, self.y, chunk=chunk, session=self.session)

  def test_what_cannot_be_divided(self):
    with self.assertRaisesRegex(gf.ArgumentError, "no batch.*'scale:0'"):
      gf.function(self.scale, tf.square(self.scale), session=self.session,
                  chunk=2)
    with self.assertRaisesRegex(gf.ArgumentError, "'s:0'.*put together"):
      gf.function(self.x, tf.reduce_sum(self.x, name="s"),
                  session=self.session, chunk=2)
    f = gf.function(self.x, tf.reduce_sum(self.x, 0), session=self.session,
                    chunk=2)
    with self.assertRaisesRegex(gf.ArgumentError, r"\(3,\) for 2 rows"):
      f(self.at)
    other = tf.placeholder(tf.float64, [None], name="other")
    f = gf.function([self.x, other], self.x * other[:, tf.newaxis],
                    session=self.session, chunk=2)
    with self.assertRaisesRegex(gf.FeedError, "different numbers of rows"):
      f(self.at, np.ones(9))
