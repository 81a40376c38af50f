"""Outputs: locked, on the disk when they are said to be, and full disks."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import unittest.mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.streaming import row_evaluation
from gradfeed.streaming import sinks
from gradfeed.streaming import streams
from gradfeed.streaming.formats import files
from tests.testing import folders
from tests.testing import graphs
from tests.testing import modes
from tests.testing import processes


class _OutputsTest(folders.FolderTest, graphs.GraphTest):

  def setUp(self):
    super().setUp()
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    self.points = np.random.RandomState(0).normal(size=[400, 2])
    self.f = gf.function(x, gf.gradient(x ** 3, x), session=self.session)
    self.two = gf.function(x, [x * 1.0, x * 2.0], session=self.session)

  def stopped(self, f, out, rows=200):
    def stop(done, unused_count):
      if done >= rows:
        raise KeyboardInterrupt

    with self.assertRaises(KeyboardInterrupt):
      gf.stream(f, self.points, out, chunk=10, progress=stop)

  def names(self):
    return sorted(os.listdir(self.folder))


class SharedOutputsTest(_OutputsTest):
  """A file is written by one stream."""

  def out(self, *names):
    return [self.path(name) for name in names]

  @parameterized.named_parameters(
      ("later", ["c.npy", "b.npy"]), ("first", ["b.npy", "c.npy"]),
      ("alone", ["b.npy"]))
  def test_s27_while_it_is_written(self, other):
    refused = []
    f = self.two if len(other) > 1 else self.f

    def again(done, unused_count):
      if done == 100:
        with self.assertRaisesRegex(gf.StreamError, "b.npy.*another process"):
          gf.stream(f, -self.points, self.out(*other))
        refused.append(self.names())

    gf.stream(self.two, self.points, self.out("a.npy", "b.npy"), chunk=10,
              progress=again)
    self.assertLen(refused, 1)
    self.assertNotIn("c.npy.state", refused[0])
    np.testing.assert_array_equal(np.load(self.path("b.npy")), 2 * self.points)
    self.assertEqual(self.names(), ["a.npy", "b.npy"])

  @parameterized.named_parameters(
      ("later", ["c.npy", "b.npy"]), ("first", ["b.npy", "c.npy"]),
      ("fewer", ["b.npy"]))
  def test_s27_after_an_interruption(self, other):
    f = self.two if len(other) > 1 else self.f
    self.stopped(self.two, self.out("a.npy", "b.npy"))
    before = self.names()
    with self.assertRaisesRegex(gf.StreamError, "b.npy.*other outputs"):
      gf.stream(f, self.points, self.out(*other))
    self.assertEqual(self.names(), before)
    report = gf.stream(self.two, self.points, self.out("a.npy", "b.npy"))
    self.assertGreaterEqual(report.resumed, 200)
    np.testing.assert_array_equal(np.load(self.path("b.npy")), 2 * self.points)
    self.assertEqual(self.names(), ["a.npy", "b.npy"])

  def test_what_was_begun_anew_is_free(self):
    self.stopped(self.two, self.out("a.npy", "b.npy"))
    os.remove(self.path("a.npy.state"))
    gf.stream(self.two, -self.points, self.out("c.npy", "b.npy"))
    np.testing.assert_array_equal(np.load(self.path("b.npy")), -2 * self.points)

  def test_other_outputs_than_those_it_was_begun_with(self):
    self.stopped(self.two, self.out("a.npy", "b.npy"))
    with self.assertRaisesRegex(gf.StreamError, "a.npy.*other outputs"):
      gf.stream(self.two, self.points, self.out("a.npy", "c.npy"))

  def test_one_file_by_two_names(self):
    with self.assertRaisesRegex(gf.ArgumentError, "Two outputs have the file"):
      gf.stream(self.two, self.points, [
          self.path("a.npy"), os.path.join(self.folder, ".", "a.npy")])


class FullDiskTest(_OutputsTest):

  def full(self, path, most):
    """A disk on which the file `path` can have `most` bytes."""
    write = files.GrowingFile.write

    def limited(file, content):
      room = most - file.tell()
      if file.path.startswith(path) and memoryview(content).nbytes > room:
        write(file, memoryview(content).cast("B")[:max(room, 0)])
        raise OSError(errno.ENOSPC, "No space left on device")
      write(file, content)

    return unittest.mock.patch.object(files.GrowingFile, "write", limited)

  @parameterized.parameters("out.npy", "out.csv", "out.tfrecord", "out.npz")
  def test_the_next_call_goes_on(self, name):
    gf.stream(self.f, self.points, self.path("whole_" + name), chunk=10)
    out = self.path(name)
    with self.full(out[:-4], 3000):
      with self.assertRaisesRegex(
          gf.StreamError, r"(?s)No space left.*\d+ rows are done.*bytes are "
          "free.*are needed"):
        gf.stream(self.f, self.points, out, chunk=10)
    self.assertFalse(os.path.exists(out))
    report = gf.stream(self.f, self.points, out, chunk=10)
    self.assertGreater(report.resumed, 0)
    self.assertEqual(self.names(), [name, "whole_" + name])
    if name != "out.npz":  # Which has the time in it.
      with open(out, "rb") as one, open(
          self.path("whole_" + name), "rb") as two:
        self.assertEqual(one.read(), two.read())

  def test_what_waits_behind_a_chunk_that_fails_is_not_written(self):
    write, written = sinks.Sink.write, []

    def fails_once(sink, results, done, notes):
      if done == 30:
        time.sleep(0.3)  # So that more chunks wait.
        raise OSError(errno.ENOSPC, "No space left on device")
      written.append(done)
      write(sink, results, done, notes)

    with unittest.mock.patch.object(sinks.Sink, "write", fails_once):
      with self.assertRaisesRegex(gf.StreamError, "No space left"):
        gf.stream(self.f, self.points, self.path("out.npy"), chunk=10)
    self.assertEqual(written, [10, 20])
    report = gf.stream(self.f, self.points, self.path("out.npy"), chunk=10)
    self.assertEqual(report.resumed, 20)
    np.testing.assert_allclose(np.load(self.path("out.npy")),
                               3.0 * self.points ** 2)

  @parameterized.named_parameters(
      ("chunks", 3, 2 ** 20, 3), ("bytes", 100, 500, 3), ("one", 9, 1, 1))
  def test_few_results_wait_to_be_written(self, chunks, size, most):
    evaluate, write = row_evaluation.RowEvaluator.evaluate, sinks.Sink.write
    begun, waiting = [], []

    def counted(rows, block, start):
      begun.append(start)
      return evaluate(rows, block, start)

    def slow(sink, results, done, notes):
      time.sleep(0.02)
      waiting.append(len(begun) - done // 10)
      write(sink, results, done, notes)

    with unittest.mock.patch.object(streams, "_BEHIND", chunks), (
        unittest.mock.patch.object(streams, "_BYTES_BEHIND", size)), (
            unittest.mock.patch.object(sinks.Sink, "write", slow)), (
                unittest.mock.patch.object(
                    row_evaluation.RowEvaluator, "evaluate", counted)):
      gf.stream(self.f, self.points[:200], self.path("out.npy"), chunk=10)
    self.assertLessEqual(max(waiting), most)
    self.assertGreater(max(waiting), most - 2)

  @parameterized.parameters("out.npy", "out.csv", "out.tfrecord", "out.npz")
  def test_nothing_is_left_where_nothing_fits(self, name):
    with self.full(self.path("out"), 10):
      with self.assertRaisesRegex(gf.StreamError, "No space left"):
        gf.stream(self.f, self.points, self.path(name), chunk=10)
    self.assertEqual(self.names(), [])

  @modes.without_mode
  def test_a_real_full_disk(self):
    code = (
        "import resource, signal, sys; sys.argv.pop(0)\n"
        "import numpy as np, tensorflow.compat.v1 as tf, gradfeed as gf\n"
        "tf.disable_eager_execution()\n"
        "x = tf.placeholder(tf.float64, [None, 2])\n"
        "f = gf.function(x, x * 2., tf.Session())\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "points = np.ones([4000, 2])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, -1))\n"
        "try: gf.stream(f, points, 'out.npy', chunk=10)\n"
        "except gf.StreamError as error: print(error)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
        "print(gf.stream(f, points, 'out.npy', chunk=10).resumed)\n")
    done = processes.run(["-c", code], cwd=self.folder)
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn("File too large", done.stdout)
    self.assertGreater(int(done.stdout.split()[-1]), 100)
    np.testing.assert_array_equal(
        np.load(self.path("out.npy")), np.full([4000, 2], 2.0))

  @parameterized.parameters("none/out.npy", "file/out.npy", "/proc/out.npy")
  def test_folders_that_cannot_be_written_to(self, name):
    with open(self.path("file"), "w"):
      pass
    for out in ([self.path(name)], [self.path("a.npy"), self.path(name)]):
      with self.assertRaisesRegex(gf.StreamError, "out.npy' cannot be written"):
        gf.stream(self.two if len(out) > 1 else self.f, self.points, out)
      self.assertEqual(self.names(), ["file"])

  def test_a_partial_file_that_is_cut_short(self):
    self.stopped(self.f, self.path("out.npy"))
    os.truncate(self.path("out.npy.partial"), 1000)
    with self.assertRaisesRegex(gf.StreamError, "not as it was left"):
      gf.stream(self.f, self.points, self.path("out.npy"))


class DurableTest(_OutputsTest):
  """What is reported is on the disk."""

  @parameterized.parameters("out.npy", "out.csv", "out.tfrecord", "out.npz")
  def test_s26_rows_are_on_the_disk_before_they_are_reported(self, name):
    events, fsync = [], os.fsync
    with unittest.mock.patch.object(
        os, "fsync", lambda file: (events.append("sync"), fsync(file))):
      gf.stream(
          self.f, self.points, self.path(name), chunk=10, progress=lambda *_:
          events.append(self.noted(self.path(name)) - _[0]))
    self.assertIn("sync", events)
    self.assertGreaterEqual(min(e for e in events if e != "sync"), 0)
    # The rows are synced, then the line that says so.
    self.assertEqual(events[:4], ["sync", 0, "sync", "sync"])

  def noted(self, path):
    with open(path + ".state") as journal:
      return json.loads(journal.read().strip().split("\n")[-1]).get("done", 0)

  @parameterized.parameters("out.npy", "out.csv", "out.tfrecord", "out.npz")
  def test_no_rows(self, name):
    for points in (self.points[:0], iter([])):
      report = gf.stream(self.f, points, self.path(name))
      self.assertEqual((report.rows, report.files), (0, [self.path(name)]))
      self.assertEqual(self.names(), [name])
      if name == "out.npy":
        self.assertEqual(np.load(self.path(name)).shape, (0, 2))

  @modes.without_mode
  def test_ctrl_c_while_an_iterator_is_slow(self):
    code = (
        "import signal, time\n"  # A background job is deaf to SIGINT.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import numpy as np, tensorflow.compat.v1 as tf, gradfeed as gf\n"
        "tf.disable_eager_execution()\n"
        "x = tf.placeholder(tf.float64, [None, 2])\n"
        "f = gf.function(x, x * 2., tf.Session())\n"
        "def points():\n"
        "  print('begun', flush=True)\n"
        "  for i in range(10000):\n"
        "    time.sleep(0.05)\n"
        "    yield np.ones(2)\n"
        "gf.stream(f, points(), 'out.npy', chunk=1000)\n")
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=self.folder,
        env=dict(os.environ, PYTHONPATH=folders.ROOT), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, universal_newlines=True)
    process.stdout.readline()
    time.sleep(0.3)
    start = time.perf_counter()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    self.assertLess(time.perf_counter() - start, 10.0)
    self.assertIn("KeyboardInterrupt", told)
    self.assertEqual(self.names(), [])
