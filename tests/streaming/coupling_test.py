"""Rows that depend on each other, where few of them are seen at a time."""

import os

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.streaming import coupling
from tests.testing import folders
from tests.testing import graphs


def _centered(x):
  return tf.reduce_sum((x - tf.reduce_mean(x, 0)) ** 3, 1)


def _normalized(x):
  mean, variance = tf.nn.moments(x, [0])
  return tf.reduce_sum(((x - mean) * tf.rsqrt(variance + 0.1)) ** 3, 1)


def _softmax_of_rows(x):
  return tf.reduce_sum(tf.nn.softmax(x, 0) ** 2, 1)


def _numpy_mean(x):
  y = tf.py_func(lambda a: a - a.mean(0), [x], tf.float64)
  y.set_shape(x.shape)
  return tf.reduce_sum(x * y, 1)


class _CouplingTest(folders.FolderTest, graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.points = np.random.RandomState(0).normal(size=[40, 3])

  def gradient(self, model):
    x = tf.placeholder(tf.float64, [None, 3], name="x")
    y = model(x)  # A py_func has no gradient, which gradfeed refuses.
    dx = tf.gradients(y, x)[0] if model is _numpy_mean else gf.gradient(y, x)
    return gf.function(x, dx, session=self.session)


class CoupledTest(_CouplingTest):

  @parameterized.product(
      model=[_centered, _normalized, _softmax_of_rows, _numpy_mean,
             lambda x: tf.reduce_mean(x ** 3)],
      points=["all", "one", "same", "same_first"], chunk=[1, 7, 39])
  def test_s4_is_refused(self, model, points, chunk):
    rows = {"all": self.points, "one": self.points[:1],
            "same": np.repeat(self.points[:1], 40, 0),
            "same_first": np.repeat(self.points, [39] + [1] * 39, 0)}[points]
    f = self.gradient(model)
    with self.assertRaisesRegex(gf.CoupledRowsError, "other rows"):
      gf.stream(f, rows, self.path("out.npy"), chunk=chunk)
    if points != "same_first" or chunk < 39:
      self.assertEqual(os.listdir(self.folder), [])
    gf.stream(f, rows, self.path("out.npy"), chunk=chunk, coupled=True)

  def test_s4_in_the_last_chunk_alone(self):
    f = self.gradient(_centered)
    self.points[:39] = np.nan
    with self.assertRaises(gf.CoupledRowsError):
      gf.stream(f, self.points, self.path("out.npy"), 10, "skip")

  def test_s4_what_one_row_does_not_show_two_do(self):
    x = tf.placeholder(tf.float64, [None, 3], name="x")
    y = x * tf.cast(tf.py_func(
        lambda a: np.float64((np.abs(a[-1]) > 10).any()), [x], tf.float64),
                    tf.float64)
    f = gf.function(x, y, session=self.session)
    self.points[1] *= 1000
    with self.assertRaises(gf.CoupledRowsError):
      gf.stream(f, self.points, self.path("out.npy"), chunk=1)


class IndependentTest(_CouplingTest):
  """Rows that do not depend on each other are not refused."""

  @parameterized.product(
      model=[
          lambda x: tf.reduce_sum(x ** 3),
          lambda x: tf.reduce_sum(tf.nn.softmax(x), 1),
          lambda x: tf.log(tf.abs(x)),
          lambda x: tf.map_fn(tf.reduce_prod, x),
          lambda x: tf.nn.batch_normalization(
              x, *map(np.float64, (0.5, 2.0, 0.1, 3.0, 1e-3))),
          lambda x: tf.reduce_sum(tf.gather(x, [2, 0], axis=1), 1)],
      count=[1, 3], chunk=[1, 10])
  def test_is_evaluated(self, model, count, chunk):
    f = self.gradient(model)
    self.initialize()
    gf.stream(f, self.points[:count], self.path("out.npy"), chunk=chunk)
    np.testing.assert_allclose(
        np.load(self.path("out.npy")), f(self.points[:count]), rtol=1e-9)

  @parameterized.parameters(1, 2, 10)
  def test_rows_that_cannot_be_varied(self, chunk):
    ids = tf.placeholder(tf.int64, [None, 2])
    scale = tf.placeholder(tf.float64, [None])
    with tf.control_dependencies([tf.assert_less(scale, np.float64(4.0))]):
      y = tf.gather(tf.constant(np.arange(5.0)), ids) * scale[:, None]
    y = tf.py_func(lambda a: a, [y], tf.float64)
    y.set_shape([None, 2])
    f = gf.function([ids, scale], y, session=self.session)
    gf.stream(f, [np.array([[4, 0], [3, 2], [0, 1]]), np.full(3, 3.9)],
              self.path("out.npy"), chunk=chunk)
    np.testing.assert_allclose(
        np.load(self.path("out.npy")),
        3.9 * np.array([[4, 0], [3, 2], [0, 1]]))

  def test_it_is_looked_for_once(self):
    x = tf.placeholder(tf.float64, [None, 3])
    f = gf.function(x, tf.tanh(x), session=self.session)
    proof = coupling.RowProof(f, False)
    proof.check([self.points[:1]])
    self.assertTrue(proof._is_proven)  # pylint: disable=protected-access


class SkippedTest(_CouplingTest):

  def test_nothing_that_can_be_evaluated(self):
    f = self.gradient(lambda x: x ** 3)
    for chunk in (10, 40, 100):
      with self.assertRaisesRegex(
          gf.StreamError, "None of the 40 points.*\n.*point 0 is not finite; "
          ".*and 37 more"):
        gf.stream(f, self.points * np.nan, self.path("out.npy"), chunk, "skip",
                  max_skipped=1.0)
      self.assertEqual(os.listdir(self.folder), [])

  def test_a_share(self):
    f = self.gradient(lambda x: x ** 3)
    self.points[10:20] = np.nan
    for rows in (lambda: self.points, lambda: iter(self.points)):
      with self.assertRaisesRegex(gf.StreamError, "points were skipped, more"):
        gf.stream(f, rows(), self.path("out.npy"), 4, "skip", max_skipped=0.2)
      self.assertFalse(os.path.exists(self.path("out.npy")))
      report = gf.stream(f, rows(), self.path("out.npy"), 4, "skip",
                         max_skipped=0.25)
      self.assertGreater(report.resumed, 0)
      self.assertEqual(report.skipped, list(range(10, 20)))
      os.remove(self.path("out.npy"))


class ArgumentsTest(_CouplingTest):

  def test_s18_what_is_of_no_use(self):
    f, p, out = self.gradient(lambda x: x ** 3), self.points, self.path("o.npy")
    wrong = [
        (None, p, out), (f.outputs[0], p, out), (len, p, out), (f, None, out),
        (f, f.outputs[0], out), (f, [None], out), (f, {"x": None}, out),
        (f, b"p.npy", out), (f, "", out), (f, "a\0", out), (f, len, out),
        (f, {1, 2}, out), (f, p, None), (f, p, []), (f, p, [None]), (f, p, ""),
        (f, p, b"o.npy"), (f, p, "a\0.npy"), (f, p, 3), (f, p, p)]
    calls = [lambda a=a: gf.stream(*a) for a in wrong]
    calls += [lambda o=o: gf.stream(f, p, out, **o) for o in (
        {"chunk": "a"}, {"chunk": None}, {"chunk": 2.0}, {"chunk": -1},
        {"chunk": p}, {"on_error": None}, {"on_error": p}, {"on_error": ["x"]},
        {"coupled": "yes"}, {"coupled": None}, {"progress": 3},
        {"progress": "a"}, {"progress": p}, {"keys": 3}, {"keys": [3]},
        {"keys": {"x": 3}}, {"keys": p}, {"max_skipped": 2},
        {"max_skipped": "a"}, {"max_skipped": -0.1}, {"max_skipped": True},
        {"max_skipped": np.nan}, {"max_skipped": p})]
    ops = self.count()
    for call in calls:
      with self.assertRaises(gf.ArgumentError):
        call()
    self.assertEqual(self.count(), ops)
    self.assertEqual(os.listdir(self.folder), [])

  def test_a_folder_in_the_place_of_the_output(self):
    os.mkdir(self.path("o.npy"))
    with self.assertRaisesRegex(gf.ArgumentError, "is a folder"):
      gf.stream(self.gradient(lambda x: x ** 3), self.points,
                self.path("o.npy"))
