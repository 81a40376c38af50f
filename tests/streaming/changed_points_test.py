"""Points that change: between a stream and its continuation, or meanwhile."""

import gzip
import os
import unittest.mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.streaming.formats import files
from gradfeed.streaming.formats import npy
from gradfeed.streaming.formats import row_layout
from gradfeed.streaming import row_evaluation
from gradfeed.streaming import sinks
from tests.testing import folders
from tests.testing import graphs


class _ChangedTest(folders.FolderTest, graphs.GraphTest):

  def setUp(self):
    super().setUp()
    # Each chunk is noted, and told of, before those that follow it.
    self.enter_context(unittest.mock.patch.object(sinks, "_SHARE", 0.0))
    self.points = np.random.RandomState(0).normal(size=[4000, 3])
    x = tf.placeholder(tf.float64, [None, 3], name="x")
    self.f = gf.function(x, gf.gradient(x ** 3, x), session=self.session)

  def write(self, name, points, age=100):
    """Writes points; the file looks as if it had been written before."""
    path = self.path(name)
    if name.endswith(".npy"):
      np.save(path, points)
    elif name.endswith("by_column.npz"):
      np.savez(path, x=np.asfortranarray(points))
    elif name.endswith(".npz"):
      np.savez_compressed(path, x=points)
    elif ".csv" in name:
      np.savetxt(path, points, delimiter=",", fmt="%.17g")
    else:
      with tf.io.TFRecordWriter(path) as writer:
        for row in points:
          writer.write(tf.train.Example(features=tf.train.Features(feature={
              "x": tf.train.Feature(float_list=tf.train.FloatList(
                  value=row.tolist()))})).SerializeToString())
    os.utime(path, (os.path.getmtime(path) - age,) * 2)
    return path

  def stop_at(self, rows, points, change=None, chunk=50):
    """Streams until `rows` are done; calls `change` there, or stops."""
    def at(done, unused_count):
      if done >= rows:
        if change is None:
          raise KeyboardInterrupt
        change()

    try:
      return gf.stream(self.f, points, self.path("out.npy"), chunk=chunk,
                       progress=at)
    except KeyboardInterrupt:
      return None


class EarlierDigestsTest(_ChangedTest):
  """A journal of an earlier version has digests of another kind."""

  def begin(self):
    digest_of = row_layout.digest_of
    with unittest.mock.patch.object(
        row_layout, "digest_of", lambda arrays, bad, digits: digest_of(
            arrays, bad, row_layout.EARLIER_DIGITS)):
      self.stop_at(1000, self.points)

  def test_goes_on_with_the_same_points(self):
    self.begin()
    report = gf.stream(self.f, self.points, self.path("out.npy"), chunk=50)
    self.assertGreaterEqual(report.resumed, 1000)
    np.testing.assert_allclose(
        np.load(self.path("out.npy")), 3 * self.points ** 2, rtol=1e-12)

  def test_refuses_other_points(self):
    self.begin()
    self.points[3, 1] += 1e-12
    with self.assertRaisesRegex(gf.StreamError, "rows 0 to 49"):
      gf.stream(self.f, self.points, self.path("out.npy"), chunk=50)


class DigestsTest(_ChangedTest):

  def test_are_of_what_was_read_whatever_is_done_with_it(self):
    evaluate = row_evaluation.RowEvaluator.evaluate

    def overwriting(rows, block, start):
      results = evaluate(rows, block, start)
      for array in block.arrays:
        array[...] = 7.0
      return results

    with unittest.mock.patch.object(
        row_evaluation.RowEvaluator, "evaluate", overwriting):
      self.stop_at(1000, self.points)
    report = gf.stream(self.f, self.points, self.path("out.npy"), chunk=50)
    self.assertGreaterEqual(report.resumed, 1000)


class ChangedBetweenTest(_ChangedTest):
  """A stream goes on with the points that it was begun with, and no others."""

  @parameterized.product(
      name=["p.npy", "p.npz", "p.csv", "p.csv.gz", "p.tfrecord"],
      row=[0, 777, 1999])
  def test_s26_one_number_that_changed(self, name, row):
    self.stop_at(2000, self.write(name, self.points))
    size = os.path.getsize(self.path(name))
    self.points[row, 1] += 0.5
    self.write(name, self.points)
    with self.assertRaisesRegex(
        gf.StreamError, "(?s)other points.*rows {} to {}".format(
            row // 50 * 50, row // 50 * 50 + 49)):
      gf.stream(self.f, self.path(name), self.path("out.npy"), chunk=50)
    if name.endswith("npy"):
      self.assertEqual(os.path.getsize(self.path(name)), size)

  def test_s26_arrays_and_iterators(self):
    for make in (np.array, iter, lambda points: {"x": points},
                 lambda points: [points]):
      points = self.points.copy()
      self.stop_at(2000, make(points))
      points[1234] *= 1.001
      with self.assertRaisesRegex(gf.StreamError, "rows 1200 to 1249"):
        gf.stream(self.f, make(points), self.path("out.npy"), chunk=50)
      points[:1234] = self.points[:1234]
      points[1234] = self.points[1234]
      points[3000] += 1.0  # It is not done: what it is now is meant.
      report = gf.stream(self.f, make(points), self.path("out.npy"), chunk=70)
      self.assertGreaterEqual(report.resumed, 2000)
      np.testing.assert_allclose(
          np.load(self.path("out.npy")), 3.0 * points ** 2)

  def test_fewer_points_than_are_done(self):
    path = self.write("p.npy", self.points)
    self.stop_at(2000, path)
    self.write("p.npy", self.points[:1500])
    with self.assertRaisesRegex(gf.StreamError, "other points"):
      gf.stream(self.f, path, self.path("out.npy"))

  def test_a_row_that_could_not_be_read_and_was_mended(self):
    path = self.write("p.csv", self.points)
    with open(path) as source:
      lines = source.read().split("\n")
    good, lines[100] = lines[100], "1,abc,3"

    def write():
      with open(path, "w") as output:
        output.write("\n".join(lines))

    write()
    for mode in ("skip", "stop"):
      def stop(done, unused_count):
        if done >= 2000:
          raise KeyboardInterrupt
      if mode == "skip":
        with self.assertRaises(KeyboardInterrupt):
          gf.stream(self.f, path, self.path("out.npy"), 50, "skip",
                    progress=stop)
        lines[100] = good
        write()
        with self.assertRaisesRegex(gf.StreamError, "rows 100 to 149"):
          gf.stream(self.f, path, self.path("out.npy"), 50, "skip")
        os.remove(self.path("out.npy.state"))
      else:
        lines[2100] = "1,abc,3"
        write()
        with self.assertRaisesRegex(gf.FeedError, "Point 2100"):
          gf.stream(self.f, path, self.path("out.npy"), 50)
        lines[2100] = "1,2,3"
        write()
        report = gf.stream(self.f, path, self.path("out.npy"), 50)
        self.assertEqual(report.resumed, 2100)

  def test_a_file_that_did_not_change_is_not_read_again(self):
    path, reads = self.write("p.npy", self.points), []
    with unittest.mock.patch.object(files, "_SECONDS_OF_CLOCK", -1.0):
      self.stop_at(2000, path)
      read = npy.FileReader.read

      def counted(reader, start, end):
        reads.append(start)
        return read(reader, start, end)

      with unittest.mock.patch.object(npy.FileReader, "read", counted):
        gf.stream(self.f, path, self.path("out.npy"), chunk=50)
    self.assertGreaterEqual(min(reads), 2000)

  def test_a_file_that_was_written_just_now_is_read_again(self):
    path = self.write("p.npy", self.points, age=0)
    self.assertIsNone(files.SourceFile(path).identity())
    self.stop_at(2000, path)
    times = os.stat(path)
    with open(path, "r+b") as output:  # In the same tick of the clock.
      output.seek(1000)
      output.write(b"\0" * 8)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with self.assertRaisesRegex(gf.StreamError, "other points"):
      gf.stream(self.f, path, self.path("out.npy"))


class ChangedMeanwhileTest(_ChangedTest):
  """A file that changes while it is read is an error with the row."""

  @parameterized.product(
      name=["p.npy", "p.npz", "p.csv", "p.csv.gz", "p.tfrecord"],
      change=["cut", "longer", "other"])
  def test_s27_files(self, name, change):
    path = self.write(name, self.points)
    size = os.path.getsize(path)

    def now():
      if change == "cut":
        os.truncate(path, size // 2)
      else:
        with open(path, "ab" if change == "longer" else "r+b") as output:
          output.write(b"1,2,3\n" * 10)

    with self.assertRaisesRegex(
        gf.GradfeedError, r"(?s){}'.*(row|Row|Line|Record) \d+".format(name)):
      self.stop_at(500, path, now)
    self.assertFalse(os.path.exists(self.path("out.npy")))

  def test_s27_a_mapped_array(self):
    path = self.write("p.npy", self.points)
    points = np.load(path, mmap_mode="r")
    with self.assertRaisesRegex(gf.StreamError, r"p.npy.*at row \d+"):
      self.stop_at(500, points, lambda: os.truncate(path, 4096))

  def test_s27_another_file_of_the_same_name_is_not_what_is_read(self):
    path = self.write("p.npy", self.points)

    def now():
      if not os.path.exists(self.path("old.npy")):
        os.rename(path, self.path("old.npy"))
        self.write("p.npy", np.zeros([4000, 3]))

    self.stop_at(500, path, now)
    np.testing.assert_allclose(
        np.load(self.path("out.npy")), 3.0 * self.points ** 2)

  @parameterized.parameters("p.npy", "p.npz")
  def test_s27_a_size_that_is_not_that_of_the_header(self, name):
    path = self.write("p.npy", self.points)
    with open(path, "rb") as source:
      content = source.read()
    for wrong in (content[:-5], content[:50000], content + b"\0" * 24):
      if name == "p.npy":
        with open(path, "wb") as output:
          output.write(wrong)
      else:
        import zipfile  # pylint: disable=g-import-not-at-top
        with zipfile.ZipFile(self.path(name), "w") as archive:
          archive.writestr("x.npy", wrong)
      with self.assertRaisesRegex(gf.ModelFileError, name + ".*\n.*bytes"):
        gf.stream(self.f, self.path(name), self.path("out.npy"))
      self.assertEqual(
          [n for n in os.listdir(self.folder) if n.startswith("out")], [])

  def test_parts_and_orders_of_mapped_arrays(self):
    path = self.write("p.npy", self.points)
    by_column = self.path("q.npy")
    np.save(by_column, np.asfortranarray(self.points))
    private = np.load(path, mmap_mode="c")
    private[5] = 7.0
    expected = self.points.copy()
    expected[5] = 7.0
    mapped = np.load(path, mmap_mode="r")
    for points, want in (
        (mapped[100:], self.points[100:]), (private, expected),
        (mapped[::-2], self.points[::-2]), (by_column, self.points),
        (np.load(by_column, mmap_mode="r"), self.points)):
      gf.stream(self.f, points, self.path("out.npy"), chunk=300)
      np.testing.assert_allclose(np.load(self.path("out.npy")), 3.0 * want ** 2)

  def test_columns_of_many_axes(self):
    x = tf.placeholder(tf.float64, [None, 3, 2])
    f = gf.function(x, 2.0 * x, session=self.session)
    points = np.random.RandomState(0).normal(size=[20, 3, 2])
    np.save(self.path("p.npy"), np.asfortranarray(points))
    gf.stream(f, self.path("p.npy"), self.path("out.npy"), chunk=7)
    np.testing.assert_array_equal(np.load(self.path("out.npy")), 2.0 * points)

  def test_a_compressed_file_that_was_cut_short(self):
    self.write("p.tfrecord", self.points)
    with open(self.path("p.tfrecord"), "rb") as source:
      content = gzip.compress(source.read())
    for size in (len(content) // 2, len(content) - 4):
      with open(self.path("q.tfrecord.gz"), "wb") as output:
        output.write(content[:size])
      with self.assertRaises(gf.ModelFileError):
        gf.stream(self.f, self.path("q.tfrecord.gz"), self.path("out.npy"))
      if os.path.exists(self.path("out.npy.state")):
        os.remove(self.path("out.npy.state"))
