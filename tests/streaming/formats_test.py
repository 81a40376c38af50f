"""Points from every format, results to every format, and rows that are bad."""

import contextlib
import gzip
import os
import unittest.mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.streaming.formats import npz
from gradfeed.streaming import point_sources
from gradfeed.streaming import row_evaluation
from tests.testing import folders
from tests.testing import graphs


def _example(**features):
  def feature(value):
    if isinstance(value, bytes):
      return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if np.asarray(value).dtype.kind in "iu":
      return tf.train.Feature(int64_list=tf.train.Int64List(
          value=np.ravel(value).tolist()))
    return tf.train.Feature(float_list=tf.train.FloatList(
        value=np.ravel(value).tolist()))

  return tf.train.Example(features=tf.train.Features(feature={
      name: feature(value)
      for name, value in features.items()})).SerializeToString()


class _StreamTest(folders.FolderTest, graphs.GraphTest):

  def setUp(self):
    super().setUp()
    random = np.random.RandomState(0)
    self.points = random.normal(size=[23, 3]).astype(np.float32)
    self.classes = random.randint(3, size=23)

  def cubes(self, shape=(None, 3), dtype=tf.float32):
    """The gradient of sum(x^3)."""
    x = tf.placeholder(dtype, shape, name="x")
    return gf.function(x, gf.gradient(x ** 3, x), session=self.session)

  def of_class(self):
    """Value and gradient of the cube of the component that is the class."""
    x = tf.placeholder(tf.float32, [None, 3], name="in/x")
    label = tf.placeholder(tf.int64, [None], name="label")
    y = tf.reduce_sum(x ** 3 * tf.one_hot(label, 3), 1)
    return gf.function([x, label], {"value": y, "slope": gf.gradient(y, x)},
                       session=self.session)

  def assert_are_cubes(self, name="out.npy", rtol=1e-6):
    np.testing.assert_allclose(
        np.load(self.path(name)), 3.0 * self.points ** 2, rtol=rtol)

  def expected(self):
    value = self.points[np.arange(23), self.classes] ** 3
    slope = np.zeros([23, 3])
    slope[np.arange(23), self.classes] = 3.0 * self.points[
        np.arange(23), self.classes] ** 2
    return value, slope

  def write_records(self, records, name="p.tfrecord"):
    with tf.io.TFRecordWriter(self.path(name)) as writer:
      for record in records:
        writer.write(record)
    return self.path(name)

  def write_text(self, text, name="p.csv"):
    with open(self.path(name), "w") as output:
      output.write(text)
    return self.path(name)

  def files_of_results(self):
    """The names of the files in the folder, without those of points."""
    return sorted(name for name in os.listdir(self.folder)
                  if not name.startswith("p"))

  @contextlib.contextmanager
  def interrupted_at(self, start):
    """Expects Ctrl-C, which comes when row `start`, or a later one, is next."""
    evaluate = row_evaluation.RowEvaluator.evaluate

    def interrupted(rows, block, first):
      if first >= start:
        raise KeyboardInterrupt
      return evaluate(rows, block, first)

    with unittest.mock.patch.object(
        row_evaluation.RowEvaluator, "evaluate", interrupted):
      with self.assertRaises(KeyboardInterrupt):
        yield


class PointsTest(_StreamTest):
  """A stream from each format gives what the array gives."""

  def _write_csv(self, header, columns, name="p.csv", opened=open):
    with opened(self.path(name), "wt") as output:
      output.write(header)
      for row in zip(*columns):
        output.write(",".join(repr(float(n)) for part in row
                              for n in np.ravel(part)) + "\n")
    return self.path(name)

  @parameterized.named_parameters(
      ("stored", np.savez), ("compressed", np.savez_compressed))
  def test_npz(self, save):
    save(self.path("p.npz"), x=self.points, label=self.classes)
    gf.stream(self.of_class(), self.path("p.npz"), self.path("out.npz"),
              chunk=5)
    with np.load(self.path("out.npz")) as out:
      value, slope = self.expected()
      self.assertEqual(sorted(out.files), ["slope", "value"])
      np.testing.assert_allclose(out["value"], value, rtol=1e-5)
      np.testing.assert_allclose(out["slope"], slope, rtol=1e-5)
    self.assertEqual(self.files_of_results(), ["out.npz"])

  @parameterized.named_parameters(
      ("alone", {"anything": 0}, None), ("by_place", {"": 0}, None),
      ("by_key", {"a": 0, "b": 1}, "a"), ("by_name", {"x": 0, "b": 1}, None))
  def test_npz_key(self, given, key):
    by_name = {name: [self.points, -self.points][i]
               for name, i in given.items() if name}
    np.savez(self.path("p.npz"), *([self.points] if "" in given else []),
             **by_name)
    gf.stream(self.cubes(), self.path("p.npz"), self.path("out.npy"), chunk=10,
              keys=key)
    self.assert_are_cubes()

  @parameterized.named_parameters(
      ("batch", (None, 3)), ("batch_of_one", (1, 3)), ("bare", (3,)))
  def test_tfrecord(self, shape):
    path = self.write_records([_example(x=row) for row in self.points])
    gf.stream(self.cubes(shape), path, self.path("out.npy"), chunk=5)
    self.assert_are_cubes()

  def test_tfrecord_with_several_features(self):
    path = self.write_records([
        _example(image=row, label=label, other=b"z")
        for row, label in zip(self.points, self.classes)])
    gf.stream(self.of_class(), path, self.path("out.npz"), chunk=5,
              keys=["image", None])
    np.testing.assert_allclose(
        np.load(self.path("out.npz"))["slope"], self.expected()[1], rtol=1e-5)

  def test_tfrecord_of_tensors_in_bytes(self):
    as_protos = [_example(x=tf.make_tensor_proto(
        row.astype(np.float64)).SerializeToString()) for row in self.points]
    as_bytes = [_example(x=row.tobytes()) for row in self.points]
    for records in (as_protos, as_bytes):
      path = self.write_records(records)
      gf.stream(self.cubes(), path, self.path("out.npy"))
      self.assert_are_cubes()

  def test_tfrecord_whose_records_the_model_reads_itself(self):
    serialized = tf.placeholder(tf.string, [None])
    x = tf.io.parse_example(
        serialized, {"x": tf.io.FixedLenFeature([3], tf.float32)})["x"]
    f = gf.function(serialized, gf.gradient(x ** 3, x), session=self.session)
    path = self.write_records([_example(x=row) for row in self.points])
    gf.stream(f, path, self.path("out.npy"), chunk=5)
    self.assert_are_cubes()

  def test_shards_and_compressed_files(self):
    for i, part in enumerate((self.points[:7], self.points[7:])):
      with tf.io.TFRecordWriter(
          self.path("p.tfrecord-0000{}.gz".format(i)),
          tf.io.TFRecordOptions(tf.io.TFRecordCompressionType.GZIP)) as writer:
        for row in part:
          writer.write(_example(x=row))
      np.savez(self.path("p{}.npz".format(i)), x=part)
      self._write_csv("", [part], "p{}.csv.gz".format(i), gzip.open)
    f = self.cubes()
    for pattern in ("p.tfrecord-*.gz", "p*.npz", "p*.csv.gz"):
      for chunk in (3, 7, 8, 100):
        gf.stream(f, self.path(pattern), self.path("out.npy"), chunk=chunk)
        self.assert_are_cubes()

  @parameterized.named_parameters(
      ("bare", "", None), ("named", "a,b,c\n", None),
      ("blank_lines", "a,b,c\n\n", None), ("all", "x[0],x[1],x[2]\n", "x"),
      ("pattern", "px0,px1,px2\n", "px*"), ("slice", "", "0:3"))
  def test_csv(self, header, key):
    path = self._write_csv(header, [self.points])
    gf.stream(self.cubes(), path, self.path("out.npy"), chunk=5, keys=key)
    self.assert_are_cubes()

  @parameterized.named_parameters(
      ("named", "label,x[0],x[1],x[2]\n", None),
      ("pattern", "y,a0,a1,a2\n", ["a*", "y"]),
      ("places", "", ["1:4", "0"]), ("from_the_end", "", ["1:", "-4"]))
  def test_csv_with_several_inputs(self, header, keys):
    path = self._write_csv(header, [self.classes, self.points])
    gf.stream(self.of_class(), path, self.path("out.npz"), chunk=5, keys=keys)
    np.testing.assert_allclose(
        np.load(self.path("out.npz"))["slope"], self.expected()[1], rtol=1e-5)

  def test_iterators(self):
    f = self.cubes()
    report = gf.stream(f, iter(self.points), self.path("out.npy"), chunk=5)
    self.assert_are_cubes()
    self.assertEqual(report.rows, 23)
    f = self.of_class()
    for rows in (zip(self.points, self.classes),
                 ({"label": label, "in/x:0": x}
                  for x, label in zip(self.points, self.classes))):
      gf.stream(f, rows, self.path("out.npz"), chunk=5)
      np.testing.assert_allclose(
          np.load(self.path("out.npz"))["slope"], self.expected()[1],
          rtol=1e-5)

  def test_an_iterator_that_yields_one_array_again_and_again(self):
    def rows():
      row = np.empty_like(self.points[0])
      for point in self.points:
        row[...] = point
        yield row

    gf.stream(self.cubes(), rows(), self.path("out.npy"), chunk=5)
    self.assert_are_cubes()

  def test_dicts_and_mixed_sources(self):
    path = self.write_records([_example(x=row) for row in self.points])
    gf.stream(self.of_class(), {"label:0": self.classes, "x": path},
              self.path("out.npz"), chunk=5)
    np.testing.assert_allclose(
        np.load(self.path("out.npz"))["slope"], self.expected()[1], rtol=1e-5)
    with self.assertRaisesRegex(gf.FeedError, "different numbers of rows"):
      gf.stream(self.of_class(), [path, self.classes[:20]],
                self.path("out.npz"), chunk=5)

  def test_goes_on_where_it_was(self):
    np.savez(self.path("p.npz"), x=self.points)
    self._write_csv("", [self.points])
    self.write_records([_example(x=row) for row in self.points])
    f = self.cubes()
    for i, part in enumerate((self.points[:7], self.points[7:8],
                              self.points[8:])):
      np.savez(self.path("p_{}.npz".format(i)), x=part)
      self._write_csv("", [part], "p_{}.csv".format(i))
      self.write_records([_example(x=row) for row in part],
                         "p_{}.tfrecord".format(i))
    for make in (lambda: self.path("p.npz"), lambda: self.path("p.csv"),
                 lambda: self.path("p.tfrecord"), lambda: iter(self.points),
                 lambda: self.path("p_*.npz"), lambda: self.path("p_*.csv"),
                 lambda: self.path("p_*.tfrecord")):
      with self.interrupted_at(10):
        gf.stream(f, make(), self.path("out.npy"), chunk=5)
      report = gf.stream(f, make(), self.path("out.npy"), chunk=4)
      self.assertIn(report.resumed, (5, 10))
      self.assert_are_cubes()

  def test_refuses_to_go_on_with_other_points(self):
    other = self.points + 1.0
    f, read = self.cubes(), point_sources.Points.read_unchecked

    def interrupted(source, start, end):
      if start >= 10:
        raise KeyboardInterrupt
      return read(source, start, end)

    self._write_csv("", [self.points])
    self._write_csv("", [other], "p_other.csv")
    for one, another in ((iter(self.points), iter(other)),
                         (self.path("p.csv"), self.path("p_other.csv"))):
      with unittest.mock.patch.object(point_sources.Points, "read_unchecked",
                                      interrupted):
        with self.assertRaises(KeyboardInterrupt):
          gf.stream(f, one, self.path("out.npy"), chunk=5)
      with self.assertRaisesRegex(gf.StreamError, "other points"):
        gf.stream(f, another, self.path("out.npy"), chunk=5)
      os.remove(self.path("out.npy.state"))


class BadRowsTest(_StreamTest):
  """Bad rows: an error with the number of the row, or a row that is skipped."""

  def assert_is_reported(self, make, why, bad=7):
    """Checks that row `bad` of `make()` stops a stream, or is skipped by it."""
    f = self.cubes()
    with self.assertRaisesRegex(
        gf.FeedError, "(?s)Point {}.*{}.*on_error='skip'".format(bad, why)):
      gf.stream(f, make(), self.path("out.npy"), chunk=5)
    self.assertFalse(os.path.exists(self.path("out.npy")))
    report = gf.stream(f, make(), self.path("out.npy"), chunk=4,
                       on_error="skip")
    self.assertEqual(report.skipped, [bad])
    self.assertRegex(report.reasons[bad], why)
    out = np.load(self.path("out.npy"))
    self.assertTrue(np.isnan(out[bad]).all())
    np.testing.assert_allclose(
        np.delete(out, bad, 0), np.delete(3.0 * self.points ** 2, bad, 0),
        rtol=1e-5)

  @parameterized.named_parameters(
      ("text", "1,abc,3", "'abc'"), ("short", "1,2", "has 2 columns"),
      ("nan", "1,nan,3", "not finite"), ("empty", "1,,3", "''"))
  def test_csv(self, line, why):
    lines = [",".join(map(repr, row.tolist())) for row in self.points]
    lines[7] = line
    self.write_text("\n".join(lines))
    self.assert_is_reported(lambda: self.path("p.csv"), why)

  @parameterized.named_parameters(
      ("no_example", b"\xff\xff\xff", "not a tf.train.Example"),
      ("other_feature", _example(z=1.0, y=2.0), "no feature 'x:0' but 'y'"),
      ("short", _example(x=[1.0, 2.0]), "has 2 values"),
      ("text", _example(x=b"ab"), "neither a TensorProto"),
      ("infinite", _example(x=[1.0, 2.0, np.inf]), "not finite"))
  def test_tfrecord(self, record, why):
    records = [_example(x=row) for row in self.points]
    records[7] = record
    self.write_records(records)
    self.assert_is_reported(lambda: self.path("p.tfrecord"), why)

  @parameterized.named_parameters(
      ("shape", [1.0, 2.0], "shape"), ("none", None, "not an array of numbers"),
      ("nan", [1.0, 2.0, np.nan], "not finite"))
  def test_iterator(self, row, why):
    rows = list(self.points)
    rows[7] = row
    self.assert_is_reported(lambda: iter(rows), why)

  def test_the_first_row(self):
    self.write_text("1,abc,3\n" + "\n".join(
        ",".join(map(repr, row.tolist())) for row in self.points[1:]))
    self.assert_is_reported(lambda: self.path("p.csv"), "abc", 0)

  def test_no_row_at_all(self):
    self.write_text("1,abc,3\n" * 5)
    with self.assertRaisesRegex(gf.StreamError, "None of the 5 points"):
      gf.stream(self.cubes([None, 3]), self.path("p.csv"),
                self.path("out.npy"), on_error="skip")
    self.assertEqual(self.files_of_results(), [])

  def test_what_is_skipped_before_an_interruption_is_told_after_it(self):
    self.points[[2, 12]] = np.nan
    f = self.cubes()
    with self.interrupted_at(15):
      gf.stream(f, self.points, self.path("out.npy"), 5, "skip")
    report = gf.stream(f, self.points, self.path("out.npy"), 5, "skip")
    self.assertGreaterEqual(report.resumed, 10)
    self.assertEqual(report.skipped, [2, 12])
    self.assertEqual((report.not_finite, report.first_not_finite), (2, 2))

  def test_whole_numbers_that_are_skipped_are_zeros(self):
    x = tf.placeholder(tf.float32, [None, 3])
    f = gf.function(x, tf.argmax(x, 1), session=self.session)
    self.points[3] = np.nan
    gf.stream(f, self.points, self.path("out.npy"), on_error="skip")
    expected = np.argmax(self.points, 1)
    expected[3] = 0
    np.testing.assert_array_equal(np.load(self.path("out.npy")), expected)

  def test_what_tensorflow_cannot_evaluate(self):
    ids = tf.placeholder(tf.int32, [None])
    table = tf.constant(np.arange(12.0).reshape(4, 3))
    f = gf.function(ids, tf.gather(table, ids), session=self.session)
    points = np.array([0, 3, 17, 2], np.int32)
    with self.assertRaisesRegex(gf.FeedError, "Point 2: .*17 is not in"):
      gf.stream(f, points, self.path("out.npy"))
    report = gf.stream(f, points, self.path("out.npy"), on_error="skip")
    self.assertEqual(report.skipped, [2])
    np.testing.assert_array_equal(np.load(self.path("out.npy"))[3], [6, 7, 8])

  def test_damaged_files(self):
    path = self.write_records([_example(x=row) for row in self.points])
    with open(path, "r+b") as damaged:
      damaged.seek(os.path.getsize(path) // 2)
      damaged.write(b"\xff" * 40)
    np.savez(self.path("p.npz"), x=self.points)
    with open(self.path("p.npz"), "r+b") as damaged:
      damaged.seek(200)
      damaged.write(b"\xff" * 40)
    with open(self.path("p_zip.npz"), "wb") as other:
      other.write(b"PK\x03\x04")
    self.write_text("", "p_empty.csv")
    with open(self.path("p_bytes.csv"), "wb") as other:
      other.write(b"1,2,3\n\xff\xfe\n")
    with open(self.path("p_text.tfrecord"), "wb") as other:
      other.write(b"this is a text that is no record")
    f = self.cubes()
    for name, why in (
        ("p.tfrecord", r"Record 1\d cannot be read"), ("p.npz", "Bad CRC"),
        ("p_zip.npz", "not a zip"), ("p_empty.csv", "empty"),
        ("p_bytes.csv", "UTF-8|utf-8"), ("p_text.tfrecord", "Record 0")):
      with self.assertRaisesRegex(
          gf.ModelFileError, "(?s){}' is not .*{}".format(name, why)):
        gf.stream(f, self.path(name), self.path("out.npy"), on_error="skip",
                  chunk=5)
      self.assertFalse(os.path.exists(self.path("out.npy")))
      if os.path.exists(self.path("out.npy.state")):
        os.remove(self.path("out.npy.state"))
    for name in ("none.npz", "none.csv", "none.tfrecord"):
      with self.assertRaises(FileNotFoundError) as caught:
        gf.stream(f, self.path(name), self.path("out.npy"))
      self.assertIsInstance(caught.exception, gf.ModelFileError)

  @parameterized.named_parameters(
      ("npz", "p.npz", "no array 'z'.*\n.*'x'"),
      ("csv", "p.csv", "no column 'z'.*\n.*'a', 'b', 'c'"))
  def test_a_key_that_is_not_there(self, name, message):
    np.savez(self.path("p.npz"), x=self.points)
    self.write_text("a,b,c\n1,2,3\n")
    with self.assertRaisesRegex(gf.FeedError, message):
      gf.stream(self.cubes(), self.path(name), self.path("out.npy"), keys="z")


class ResultsTest(_StreamTest):
  """What is written is what the function gives, to the bit."""

  def test_csv(self):
    gf.stream(self.of_class(), [self.points, self.classes],
              self.path("out.csv"), chunk=5)
    with open(self.path("out.csv")) as source:
      self.assertEqual(source.readline(),
                       "slope[0],slope[1],slope[2],value\n")
      written = np.loadtxt(source, np.float32, delimiter=",")
    value, slope = self.expected()
    np.testing.assert_allclose(written[:, 3], value, rtol=1e-5)
    np.testing.assert_allclose(written[:, :3], slope, rtol=1e-5)

  def test_csv_keeps_every_bit_and_is_read_again(self):
    points = np.random.RandomState(3).normal(size=[23, 3]) / 3.0
    for dtype in (tf.float32, tf.float64):
      x = tf.placeholder(dtype, [None, 3])
      f = gf.function(x, tf.identity(x), session=self.session)
      given = points.astype(dtype.as_numpy_dtype)
      gf.stream(f, given, self.path("out.csv"), chunk=5)
      gf.stream(f, self.path("out.csv"), self.path("again.npy"), chunk=5)
      np.testing.assert_array_equal(np.load(self.path("again.npy")), given)

  def test_tfrecord(self):
    gf.stream(self.of_class(), [self.points, self.classes],
              self.path("out.tfrecord"), chunk=5)
    value, slope = self.expected()
    for i, record in enumerate(tf.io.tf_record_iterator(
        self.path("out.tfrecord"))):
      feature = tf.train.Example.FromString(record).features.feature
      np.testing.assert_allclose(feature["slope"].float_list.value, slope[i],
                                 rtol=1e-5)
      np.testing.assert_allclose(feature["value"].float_list.value, [value[i]],
                                 rtol=1e-5)
    self.assertEqual(i, 22)

  @parameterized.parameters(tf.float64, tf.int64, tf.complex128, tf.float32)
  def test_tfrecord_keeps_every_bit_and_is_read_again(self, dtype):
    points = (np.random.RandomState(3).normal(size=[23, 3]) * 9.0).astype(
        dtype.as_numpy_dtype)
    x = tf.placeholder(dtype, [None, 3])
    f = gf.function(x, tf.identity(x), session=self.session)
    gf.stream(f, points, self.path("out.tfrecord"), chunk=5)
    gf.stream(f, self.path("out.tfrecord"), self.path("again.npy"), chunk=5)
    np.testing.assert_array_equal(np.load(self.path("again.npy")), points)

  def test_npz_in_shards(self):
    f = self.cubes()
    with unittest.mock.patch.object(npz, "SHARD_BYTES", 4 * 3 * 6):
      for stop in (4, 6, 8, 12, 14):  # Where shards end, and between.
        with self.interrupted_at(stop):
          gf.stream(f, self.points, self.path("out.npz"), chunk=2)
        self.assertFalse([name for name in self.files_of_results()
                          if name.endswith(".npz")])
        report = gf.stream(f, self.points, self.path("out.npz"), chunk=2)
        self.assertGreater(report.resumed, 0)
        self.assertEqual(self.files_of_results(), [
            "out-0000{}-of-00004.npz".format(i) for i in range(4)])
        self.assertEqual(
            report.files, [self.path(n) for n in self.files_of_results()])
        np.testing.assert_allclose(
            np.concatenate([np.load(path)["result"] for path in report.files]),
            3.0 * self.points ** 2, rtol=1e-6)
        for path in report.files:
          os.remove(path)

  def test_finishing_that_was_cut_off_is_taken_up_again(self):
    replace, moved = os.replace, []

    def killed(path, final):
      if final.endswith("y.npy"):
        raise KeyboardInterrupt
      moved.append(final)
      replace(path, final)

    x = tf.placeholder(tf.float32, [None, 3])
    f = gf.function(x, [gf.gradient(x ** 3, x), x ** 3], session=self.session)
    out = [self.path("out.npy"), self.path("y.npy")]
    with unittest.mock.patch.object(os, "replace", killed):
      with self.assertRaises(KeyboardInterrupt):
        gf.stream(f, self.points, out)
    self.assertEqual(moved, [self.path("out.npy")])
    report = gf.stream(f, self.points, out)
    self.assertEqual((report.resumed, report.rows), (23, 23))
    self.assert_are_cubes()
    np.testing.assert_allclose(np.load(out[1]), self.points ** 3, rtol=1e-6)
    self.assertEqual(self.files_of_results(), ["out.npy", "y.npy"])

  @parameterized.parameters("out.npy", "out.npz", "out.csv", "out.tfrecord")
  def test_what_a_killed_chunk_left_is_cut_off(self, name):
    f = self.cubes()
    undisturbed = self.path("p_" + name)
    gf.stream(f, self.points, undisturbed, chunk=5)
    with self.interrupted_at(15):
      gf.stream(f, self.points, self.path(name), chunk=5)
    for partial in self.files_of_results():
      with open(self.path(partial), "ab") as output:
        output.write(b'{"half": ')
    gf.stream(f, self.points, self.path(name), chunk=5)
    self.assertEqual(self.files_of_results(), [name])
    if name == "out.npz":
      np.testing.assert_array_equal(np.load(self.path(name))["result"],
                                    np.load(undisturbed)["result"])
    else:
      with open(undisturbed, "rb") as one, open(self.path(name), "rb") as two:
        self.assertEqual(one.read(), two.read())

  def test_two_processes_do_not_write_one_file(self):
    f, refused_at = self.cubes(), []

    def again(done, unused_count):
      if done == 10:
        with self.assertRaisesRegex(gf.StreamError, "another process"):
          gf.stream(f, self.points, self.path("out.npy"), chunk=5)
        refused_at.append(done)

    gf.stream(f, self.points, self.path("out.npy"), chunk=5, progress=again)
    self.assertEqual(refused_at, [10])
    self.assert_are_cubes()


class ProgressTest(_StreamTest):

  def test_counts_or_an_estimate(self):
    path = self.write_records([_example(x=row) for row in self.points])
    for points, counts in ((self.points, {23}), (path, {23, None}),
                           (iter(self.points), {None})):
      calls = []
      gf.stream(self.cubes(), points, self.path("out.npy"), chunk=5,
                progress=lambda *call: calls.append(call))
      self.assertEqual([call[0] for call in calls], [0, 5, 10, 15, 20, 23])
      self.assertContainsSubset({call[1] for call in calls}, counts)
