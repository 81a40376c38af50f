"""Strings keep the zeros at their end; bytes are numbers or tensors."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import folders
from tests.testing import graphs

_TEXTS = [b"ab\0\0", b"c\0", b"\0", b"", b"whole", b"\xff\0\xfe\0"]


class _RecordsTest(folders.FolderTest, graphs.GraphTest):

  def write(self, *values, name="p.tfrecord", key="x"):
    with tf.io.TFRecordWriter(self.path(name)) as writer:
      for value in values:
        feature = value if isinstance(value, tf.train.Feature) else (
            tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])))
        writer.write(tf.train.Example(features=tf.train.Features(feature={
            key: feature})).SerializeToString())
    return self.path(name)

  def read(self, name="out.tfrecord"):
    """The bytes of each row of results."""
    return [list(tf.train.Example.FromString(record).features.feature[
        "result"].bytes_list.value) for record in tf.io.tf_record_iterator(
            self.path(name))]


class StringsTest(_RecordsTest):

  @parameterized.product(
      shape=[[None], [1], []],
      given=["list", "array", "iterator", "file"], chunk=[1, 4, 100])
  def test_s25_in_and_out(self, shape, given, chunk):
    x = tf.placeholder(tf.string, shape)
    f = gf.function(x, tf.strings.join([x, b"\0"]), session=self.session)
    points = {"list": lambda: [_TEXTS], "iterator": lambda: iter(_TEXTS),
              "array": lambda: np.array(_TEXTS, object),
              "file": lambda: self.write(*_TEXTS)}[given]()
    gf.stream(f, points, self.path("out.tfrecord"), chunk=chunk,
              keys="x" if given == "file" else None)
    self.assertEqual(self.read(), [[text + b"\0"] for text in _TEXTS])

  def test_s25_texts_in_csv(self):
    x = tf.placeholder(tf.string, [None])
    f = gf.function(x, tf.strings.length(x), session=self.session)
    with open(self.path("p.csv"), "w") as output:
      output.write("x\nab  \n\u00e4\ncde\n")
    gf.stream(f, self.path("p.csv"), self.path("out.npy"))
    np.testing.assert_array_equal(np.load(self.path("out.npy")), [4, 2, 3])

  @parameterized.parameters("out.npy", "out.npz")
  def test_s25_files_that_cannot_hold_strings(self, name):
    x = tf.placeholder(tf.string, [None])
    f = gf.function(x, tf.identity(x), session=self.session)
    with self.assertRaisesRegex(gf.ArgumentError, "cannot hold.*\n.*zeros"):
      gf.stream(f, [_TEXTS], self.path(name))


class BytesTest(_RecordsTest):
  """Bytes are the numbers themselves, or a TensorProto, and not the other."""

  def stream(self, shape, path, dtype=tf.float32, **options):
    x = tf.placeholder(dtype, shape)
    f = gf.function(x, tf.identity(x), session=self.session)
    gf.stream(f, path, self.path("out.npy"), **options)
    return np.load(self.path("out.npy"))

  @parameterized.parameters(
      ([None], bytes([8, 1, 0x18, 0x3f])),  # dtype and version_number.
      ([None, 2], bytes([8, 1, 0x18, 0x3f] * 2)),
      ([None, 2], bytes([8, 1, 0x12, 0, 0x2d, 0, 0, 0])))
  def test_s27_numbers_that_can_be_parsed(self, shape, raw):
    np.testing.assert_array_equal(
        self.stream(shape, self.write(raw)),
        np.frombuffer(raw, np.float32).reshape([1] + shape[1:]))

  @parameterized.parameters(np.float64, np.float32, np.float16, np.int32)
  def test_tensors(self, dtype):
    rows = np.arange(6).reshape([2, 3]).astype(dtype)
    for make in (lambda row: tf.make_tensor_proto(row),
                 lambda row: tf.make_tensor_proto(row.tolist(), dtype)):
      path = self.write(*[make(row).SerializeToString() for row in rows])
      for shape in ([None, 3], [None, None], None):
        np.testing.assert_array_equal(self.stream(shape, path), rows)

  def test_s27_what_may_be_both_is_refused_unless_it_is_said(self):
    row = np.arange(5).astype(np.float16)
    proto = tf.make_tensor_proto(row)
    proto.ClearField("half_val")
    proto.tensor_content = row.tobytes()
    content = proto.SerializeToString()
    self.assertLen(content, 20)
    path = self.write(content)
    with self.assertRaisesRegex(gf.FeedError, "may be.*name:raw"):
      self.stream([None, 5], path)
    np.testing.assert_array_equal(
        self.stream([None, 5], path, keys="x:tensor"), [row])
    np.testing.assert_array_equal(
        self.stream([None, 5], path, keys="x:raw"),
        [np.frombuffer(content, np.float32)])

  def test_s27_the_exact_length_of_a_row_decides(self):
    proto = tf.make_tensor_proto(np.arange(10, dtype=np.int8))
    proto.ClearField("int_val")
    proto.tensor_content = bytes(range(10))
    content = proto.SerializeToString()
    self.assertLen(content, 20)
    np.testing.assert_array_equal(
        self.stream([None, 5], self.write(content)),
        [np.frombuffer(content, np.float32)])

  def test_s27_a_tensor_that_is_written_otherwise(self):
    content = tf.make_tensor_proto(
        np.arange(3, dtype=np.float32)).SerializeToString()
    path = self.write(content[2:] + content[:2])  # Its dtype comes last.
    with self.assertRaisesRegex(gf.FeedError, "neither a TensorProto"):
      self.stream([None, 3], path)
    np.testing.assert_array_equal(
        self.stream([None, 3], path, keys="x:tensor"), [[0, 1, 2]])

  def test_s12_numbers_that_do_not_fit(self):
    for value, dtype in ((300, tf.uint8), (-1, tf.uint8), (2, tf.bool)):
      path = self.write(tf.train.Feature(
          int64_list=tf.train.Int64List(value=[value])))
      with self.assertRaisesRegex(gf.FeedError, "has {} for".format(value)):
        self.stream([None], path, dtype)
    with open(self.path("p.csv"), "w") as output:
      output.write("300.0\n")
    with self.assertRaisesRegex(gf.FeedError, "'300.0'"):
      self.stream([None], self.path("p.csv"), tf.uint8)
