"""Tests of `stream`: each row once, also after an interruption."""

import json
import os
import signal
import time
import unittest.mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.streaming import point_sources
from gradfeed.streaming import row_evaluation
from gradfeed.streaming import sinks
from tests.testing import folders
from tests.testing import graphs
from tests.testing import modes
from tests.testing import processes


class StreamTest(folders.FolderTest, graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.points = np.random.RandomState(0).normal(size=[103, 3])

  def path(self, name="out.npy"):
    return super().path(name)

  def cube(self, shape=(None, 3), scale=1.0):
    """The gradient of scale * sum(x^3)."""
    x = tf.placeholder(tf.float64, shape, name="x")
    return gf.function(x, gf.gradient(scale * x ** 3, x),
                       session=self.session)

  def assert_is_all_there(self, path=None, factor=3.0):
    np.testing.assert_allclose(
        np.load(path or self.path()), factor * self.points ** 2)
    self.assertEqual([name for name in os.listdir(self.folder)
                      if name.endswith((".partial", ".state", ".new"))], [])

  @parameterized.named_parameters(
      ("many", (None, 3), 10), ("all", (None, 3), 1000), ("one", (None, 3), 1),
      ("exact", (None, 3), 103), ("batch_of_one", (1, 3), 10),
      ("no_batch", (3,), 10))
  def test_every_row(self, shape, chunk):
    calls = []
    report = gf.stream(self.cube(shape), self.points, self.path(), chunk=chunk,
                       progress=lambda *counts: calls.append(counts))
    self.assert_is_all_there()
    self.assertEqual((report.rows, report.resumed, report.skipped),
                     (103, 0, []))
    self.assertEqual((calls[0], calls[-1]), ((0, 103), (103, 103)))

  def test_from_a_file_with_several_inputs_and_outputs(self):
    x = tf.placeholder(tf.float64, [None, 3])
    scale = tf.placeholder(tf.float64, [None])
    y = tf.reduce_sum(x ** 3, 1) * scale
    f = gf.function([x, scale], [y, gf.gradient(y, x)], session=self.session)
    np.save(self.path("x.npy"), self.points)
    scales = np.arange(103.0)
    gf.stream(f, [self.path("x.npy"), scales],
              [self.path("y.npy"), self.path("dx.npy")], chunk=10)
    np.testing.assert_allclose(
        np.load(self.path("y.npy")), (self.points ** 3).sum(1) * scales)
    np.testing.assert_allclose(
        np.load(self.path("dx.npy")),
        3.0 * self.points ** 2 * scales[:, np.newaxis])

  @parameterized.parameters(None, False)
  def test_without_progress(self, progress):
    gf.stream(self.cube(), self.points, self.path(), progress=progress)
    self.assert_is_all_there()

  def test_no_rows(self):
    gf.stream(self.cube(), np.zeros([0, 3]), self.path())
    self.assertLen(np.load(self.path()), 0)

  @parameterized.named_parameters(
      *[("at_{}".format(i), i) for i in range(0, 11, 3)])
  def test_goes_on_after_an_interruption(self, chunks):
    f, seen = self.cube(), []
    evaluate = row_evaluation.RowEvaluator.evaluate

    def interrupted(rows, block, start):
      if len(seen) == chunks:
        raise KeyboardInterrupt
      seen.append(start)
      return evaluate(rows, block, start)

    with unittest.mock.patch.object(row_evaluation.RowEvaluator, "evaluate",
                                    interrupted):
      with self.assertRaises(KeyboardInterrupt):
        gf.stream(f, self.points, self.path(), chunk=10)
    self.assertFalse(os.path.exists(self.path()))
    report = gf.stream(f, self.points, self.path(), chunk=7)
    self.assert_is_all_there()
    self.assertGreaterEqual(report.resumed, 10 * (chunks - 1))
    self.assertLessEqual(report.resumed, 10 * chunks)

  def _interrupt(self, f, points=None):
    """Leaves a stream of which 50 rows are done."""
    read = point_sources.Points.read_unchecked

    def interrupted(source, start, end):
      if start == 50:
        raise KeyboardInterrupt
      return read(source, start, end)

    with unittest.mock.patch.object(
        point_sources.Points, "read_unchecked", interrupted):
      with self.assertRaises(KeyboardInterrupt):
        gf.stream(f, self.points if points is None else points, self.path(),
                  chunk=10)

  @parameterized.named_parameters(
      ("points", "points"), ("model", "model"), ("weights", "model"))
  def test_refuses_to_go_on_with_something_else(self, other):
    v = graphs.variable("v", [1.0], True)
    self.initialize()
    f = self.cube(scale=v)
    self._interrupt(f)
    with open(self.path("out.npy.partial"), "rb") as source:
      before = source.read()
    points = self.points
    if other == "points":
      points = self.points + 1.0
    elif "weights" in self._testMethodName:
      self.session.run(v.assign([2.0]))
    else:
      f = self.cube(scale=2.0)
    with self.assertRaisesRegex(
        gf.StreamError, "(?s)out.npy.*other.*{}.*delete".format(other)):
      gf.stream(f, points, self.path(), chunk=10)
    with open(self.path("out.npy.partial"), "rb") as source:
      self.assertEqual(source.read(), before)

  def test_what_an_unfinished_chunk_left_is_overwritten(self):
    f = self.cube()
    self._interrupt(f)
    with open(self.path("out.npy.partial"), "ab") as output:
      output.write(b"half a row")
    gf.stream(f, self.points, self.path(), chunk=10)
    self.assert_is_all_there()

  def test_a_point_that_is_not_finite(self):
    self.points[17], self.points[40, 1] = np.nan, np.inf
    with self.assertRaisesRegex(gf.FeedError, "Point 17 is not finite"):
      gf.stream(self.cube(), self.points, self.path(), chunk=10)
    self.assertFalse(os.path.exists(self.path()))
    report = gf.stream(self.cube(), self.points, self.path("other.npy"),
                       chunk=10, on_error="skip")
    self.assertEqual(report.skipped, [17, 40])
    got = np.load(self.path("other.npy"))
    self.assertTrue(np.isnan(got[[17, 40]]).all())
    np.testing.assert_allclose(
        np.delete(got, [17, 40], 0),
        3.0 * np.delete(self.points, [17, 40], 0) ** 2)

  def test_a_point_that_does_not_fit(self):
    x = tf.placeholder(tf.float32, [None, 3])
    f = gf.function(x, gf.gradient(x ** 3, x), session=self.session)
    for number in (0, 50):
      points = self.points.copy()
      points[number, 1] = 1e300
      with self.assertRaisesRegex(
          gf.FeedError, "Point {}: (.|\n)*overflows".format(number)):
        gf.stream(f, points, self.path("stopped.npy"), chunk=10)
      report = gf.stream(f, points, self.path(), chunk=20, on_error="skip")
      self.assertEqual(report.skipped, [number])
      self.assertEqual((report.not_finite, report.first_not_finite),
                       (1, number))
      got = np.load(self.path())
      np.testing.assert_allclose(
          np.delete(got, number, 0),
          3.0 * np.delete(self.points, number, 0) ** 2, rtol=1e-5)

  def test_s4_coupled_rows_are_refused_unless_it_is_stated(self):
    x = tf.placeholder(tf.float64, [None, 3])
    y = tf.reduce_sum((x - tf.reduce_mean(x, 0)) ** 3, 1)
    f = gf.function(x, gf.gradient(y, x), session=self.session)
    with self.assertRaisesRegex(gf.CoupledRowsError, "Mean"):
      gf.stream(f, self.points, self.path(), chunk=10)
    self.assertEmpty(os.listdir(self.folder))
    gf.stream(f, self.points, self.path(), chunk=10, coupled=True)
    np.testing.assert_allclose(np.load(self.path())[10:20],
                               f(self.points[10:20]))

  def test_a_full_disk(self):
    f = self.cube()
    write = sinks.Sink.write

    def full(sink, results, done, notes):
      if done > 50:
        raise OSError(28, "No space left on device")
      write(sink, results, done, notes)

    with unittest.mock.patch.object(sinks.Sink, "write", full):
      with self.assertRaisesRegex(gf.StreamError, "No space left.*\n.*go on"):
        gf.stream(f, self.points, self.path(), chunk=10)
    self.assertFalse(os.path.exists(self.path()))
    self.assertEqual(
        gf.stream(f, self.points, self.path(), chunk=10).resumed, 50)
    self.assert_is_all_there()

  def test_an_error_of_reading_or_evaluating_is_no_stream_error(self):
    f, read = self.cube(), point_sources.Points.read_unchecked

    def late(*unused):
      raise gf.TimeLimitError("No result.", "It took too long.", "Wait.")

    with unittest.mock.patch.object(row_evaluation.RowEvaluator, "evaluate",
                                    late):
      with self.assertRaises(gf.TimeLimitError):
        gf.stream(f, self.points, self.path(), chunk=10)

    def unplugged(source, start, end):
      if start == 50:
        raise OSError(5, "Input/output error")
      return read(source, start, end)

    with unittest.mock.patch.object(
        point_sources.Points, "read_unchecked", unplugged):
      with self.assertRaises(OSError) as caught:
        gf.stream(f, self.points, self.path(), chunk=10)
    self.assertNotIsInstance(caught.exception, gf.StreamError)
    self.assertEqual(
        gf.stream(f, self.points, self.path(), chunk=10).resumed, 50)
    self.assert_is_all_there()

  def test_a_variable_without_a_value(self):
    f = self.cube(scale=graphs.variable("v", [1.0], True))
    with self.assertRaisesRegex(gf.UninitializedError, "'v'|v:0"):
      gf.stream(f, self.points, self.path())
    self.assertEmpty(os.listdir(self.folder))

  def test_mistakes(self):
    f = self.cube()
    np.savez(self.path("p.npz"), self.points)
    for call, error, message in (
        (lambda: gf.stream(f, self.points[:, :2], self.path()),
         gf.FeedError, "no row is a value"),
        (lambda: gf.stream(f, [self.points] * 2, self.path()),
         gf.FeedError, "2 arrays of points for 1 inputs"),
        (lambda: gf.stream(f, self.points, [self.path()] * 2),
         gf.ArgumentError, "2 files for 1 outputs"),
        (lambda: gf.stream(f, np.float64(1.0), self.path()),
         gf.FeedError, "no row is a value"),
        (lambda: gf.stream(f, self.points, self.path("out.txt")),
         gf.ArgumentError, "out.txt.*no file of results"),
        (lambda: gf.stream(f, {"z": self.points}, self.path()),
         gf.FeedError, "no points for 'x:0'"),
        (lambda: gf.stream(f, {"x": self.points, "z": 1}, self.path()),
         gf.FeedError, "no input 'z'"),
        (lambda: gf.stream(f, self.points, self.path(), keys=["a", "b"]),
         gf.ArgumentError, "2 keys for 1 inputs"),
        (lambda: gf.stream(f, self.path("p.npz"), self.path(), keys="z"),
         gf.FeedError, "no array 'z'.*\n.*'arr_0'"),
        (lambda: gf.stream(f, self.path("*.tfrecord"), self.path()),
         gf.ModelFileError, "No file is called"),
        (lambda: gf.stream(f, self.points, self.path(), chunk=0),
         gf.ArgumentError, "chunk=0"),
        (lambda: gf.stream(f, self.points, self.path(), on_error="go on"),
         gf.ArgumentError, "go on"),
        (lambda: gf.stream(f, self.path("none.npy"), self.path()),
         FileNotFoundError, "none.npy")):
      with self.assertRaisesRegex(error, message):
        call()
    self.assertFalse(os.path.exists(self.path()))


_SLOW = """
import sys, time
import numpy as np
import tensorflow.compat.v1 as tf
import gradfeed as gf
tf.disable_eager_execution()
x = tf.placeholder(tf.float64, [None, 3], name="x")
slow = tf.py_func(lambda a: time.sleep(0.02) or a, [gf.gradient(x ** 3, x)],
                  tf.float64)
slow.set_shape([None, 3])
f = gf.function(x, slow, session=tf.Session())
report = gf.stream(f, sys.argv[1], sys.argv[2], chunk=10,
                   progress=lambda done, count: print(done, flush=True))
print("resumed", report.resumed)
"""


class KilledTest(folders.FolderTest):
  """A process that is killed at any moment."""

  @modes.without_mode
  def test_each_row_is_there_exactly_once(self):
    points = np.random.RandomState(1).normal(size=[600, 3])
    out = self.path("out.npy")
    command = ["-c", _SLOW, self.save("p.npy", points), out]
    done = []
    for delay in (0.05, 0.2, 0.31):
      process = processes.start(
          command, stdout=processes.PIPE, stderr=processes.DEVNULL)
      process.stdout.readline()  # It has begun.
      time.sleep(delay)
      process.kill()
      self.assertEqual(process.wait(), -signal.SIGKILL)
      process.stdout.close()
      self.assertFalse(os.path.exists(out))
      if os.path.exists(out + ".state"):
        with open(out + ".state") as source:
          done.append(json.loads(
              source.read().split("\n")[-2]).get("done", 0))
    self.assertNotEmpty(done)
    self.assertEqual(done, sorted(done))
    finished = processes.run(command)
    self.assertEqual(finished.returncode, 0, finished.stderr[-500:])
    self.assertIn("resumed {}".format(done[-1]), finished.stdout)
    np.testing.assert_allclose(np.load(out), 3.0 * points ** 2)
