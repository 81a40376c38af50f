"""Texts and records of results, held against Python's and TensorFlow's."""

import unittest.mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.streaming.formats import csv_writing
from gradfeed.streaming.formats import number_texts
from gradfeed.streaming.formats import record_writing
from tests.testing import folders
from tests.testing import graphs


def _bits(numbers):
  """The bits of numbers of float32, all NaN alike."""
  bits = np.array(numbers, np.float32).view(np.uint32)
  return np.where(np.isnan(numbers), 0, bits)


class NumberTextsTest(parameterized.TestCase):

  def assert_read_back(self, numbers):
    numbers = np.asarray(numbers, np.float32)
    texts = number_texts.rows_of_texts(numbers[:, None])
    with np.errstate(over="ignore"):
      read = np.array(list(map(float, texts))).astype(np.float32)
    np.testing.assert_array_equal(_bits(read), _bits(numbers))
    return texts

  def test_every_kind_of_float32_is_read_back_to_the_bit(self):
    random = np.random.RandomState(0)
    self.assert_read_back(random.randint(
        0, 2 ** 32, 40000, np.uint32).view(np.float32))
    self.assert_read_back(random.normal(size=20000))
    self.assert_read_back(2.0 ** np.arange(-149, 128))
    for number in (1.0, 1e-4, 1e16, 10.0, 0.1, 1e-37, 9.999999, 123456.7):
      near = np.float32(number).view(np.uint32) + np.arange(-50, 50)
      self.assert_read_back(near.astype(np.uint32).view(np.float32))
    self.assert_read_back(np.arange(1, 20000, 7, np.uint32).view(np.float32))

  def test_no_text_is_longer_than_that_of_the_shortest_decimal(self):
    random = np.random.RandomState(1)
    for numbers in (random.normal(size=3000),
                    random.normal(size=3000) * 10.0 ** random.randint(
                        -36, 7, 3000),
                    np.round(random.normal(size=3000), 3), np.arange(1000)):
      numbers = numbers.astype(np.float32)
      self.assertEqual(
          [text.decode() for text in self.assert_read_back(numbers)],
          [repr(float(np.format_float_scientific(number)))
           for number in numbers])

  def test_form(self):
    self.assertEqual(
        number_texts.rows_of_texts(np.array(
            [[0.0, -0.0, 1.0], [-1.5, 1e-4, -1e-5], [1e15, 1e16, 1.5e-20],
             [np.nan, np.inf, -np.inf], [123456.0, 0.001, 1e38]], np.float32)),
        [b"0.0,-0.0,1.0", b"-1.5,0.0001,-1e-05",
         b"1000000000000000.0,1e+16,1.5e-20", b"nan,inf,-inf",
         b"123456.0,0.001,1e+38"])

  def test_long_rows(self):
    values = np.random.RandomState(0).normal(size=[5, 9000]).astype("f")
    with unittest.mock.patch.object(number_texts, "_AT_ONCE", 20000):
      texts = number_texts.rows_of_texts(values)
    np.testing.assert_array_equal(
        [np.array(row.split(b",")).astype(np.float64).astype(np.float32)
         for row in texts], values)

  def test_other_dtypes(self):
    for values in (np.array([[1, -2], [3, 4]], np.int16),
                   np.array([[True, False]]),
                   np.random.RandomState(0).normal(size=[9, 5])):
      self.assertEqual(
          number_texts.rows_of_texts(values),
          [",".join(map(repr, row)).encode() for row in values.tolist()])


class ColumnsTest(parameterized.TestCase):

  def encoded(self, *results):
    writer = csv_writing.ColumnWriter("never.csv", list("abc"[:len(results)]))
    return writer._encoded(list(results))  # pylint: disable=protected-access

  def test_outputs_of_several_dtypes(self):
    self.assertEqual(
        self.encoded(np.array([[[0.5], [2.0]]] * 2, np.float32),
                     np.array([7, 8]), np.array([0.1, 0.2])),
        b"0.5,2.0,7,0.1\n0.5,2.0,8,0.2\n")

  def test_texts_and_complex_numbers(self):
    self.assertEqual(
        self.encoded(np.array([b"a,b", b'"'], object),
                     np.array([0.1, 2.0], np.float32)),
        b'"a,b",0.1\n"""",2.0\n')
    self.assertEqual(self.encoded(np.array([1 + 2j], np.complex64)),
                     b"(1+2j)\n")
    self.assertEqual(self.encoded(np.array([0.1], np.float16)), b"0.1\n")

  def test_outputs_without_numbers(self):
    self.assertEqual(self.encoded(np.zeros([2, 0], np.float32)), b"\n\n")
    self.assertEqual(
        self.encoded(np.zeros([1, 0], np.float32), np.array([3])), b"3\n")


class RecordsTest(folders.FolderTest, graphs.GraphTest):

  @parameterized.parameters(
      np.float16, np.float32, np.float64, np.complex64, np.complex128, np.int8,
      np.int64, np.uint64, np.bool_, tf.bfloat16.as_numpy_dtype)
  def test_features_are_those_that_tensorflow_writes(self, dtype):
    for shape in ((3,), (3, 1), (3, 0), (3, 2), (2, 5, 500), (1, 5000)):
      values = (np.random.RandomState(0).normal(size=shape) * 9.0).astype(dtype)
      for row, feature in zip(values, record_writing._features(values)):
        flat = np.ravel(row)
        if flat.dtype.kind in "ib":
          expected = tf.train.Feature(int64_list=tf.train.Int64List(
              value=flat.astype(np.int64).tolist()))
        elif flat.dtype.itemsize <= 4 and flat.dtype.kind != "c":
          expected = tf.train.Feature(float_list=tf.train.FloatList(
              value=flat.astype(np.float32).tolist()))
        else:
          expected = tf.train.Feature(bytes_list=tf.train.BytesList(value=[
              tf.make_tensor_proto(np.asarray(row)).SerializeToString()]))
        self.assertEqual(feature, expected.SerializeToString())

  def test_bools_to_records(self):
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    f = gf.function(x, {"long_name": x, "is_large": x > 1.0},
                    session=self.session)
    points = np.random.RandomState(0).normal(size=[9, 3])
    gf.stream(f, points, self.path("out.tfrecord"), chunk=4)
    records = list(tf.io.tf_record_iterator(self.path("out.tfrecord")))
    self.assertLen(records, 9)
    for record, row in zip(records, points.astype(np.float32)):
      feature = tf.train.Example.FromString(record).features.feature
      self.assertEqual(sorted(feature), ["is_large", "long_name"])
      np.testing.assert_array_equal(feature["long_name"].float_list.value, row)
      np.testing.assert_array_equal(
          feature["is_large"].int64_list.value, row > 1.0)


