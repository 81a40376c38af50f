"""Rows that TensorFlow's kernels parse at once, and those that they refuse."""

import contextlib
import unittest.mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.streaming import point_sources
from gradfeed.streaming.formats import batch_parsing
from gradfeed.streaming.formats import csv_files
from gradfeed.streaming.formats import example_bytes
from gradfeed.streaming.formats import record_writing
from gradfeed.streaming.formats import row_layout
from gradfeed.streaming.formats import tfrecords
from tests.streaming import damaged_points_test
from tests.streaming import formats_test
from tests.streaming import strings_test
from tests.testing import folders
from tests.testing import graphs


class _ByKernels:
  """Builds a graph for the first row already."""

  def setUp(self):
    super().setUp()
    for module, name in ((csv_files, "_FEW_NUMBERS"),
                         (tfrecords, "_FEW_RECORDS")):
      self.enter_context(unittest.mock.patch.object(module, name, 0))


class PointsByKernelsTest(_ByKernels, formats_test.PointsTest):
  pass


class BadRowsByKernelsTest(_ByKernels, formats_test.BadRowsTest):
  pass


class BytesByKernelsTest(_ByKernels, strings_test.BytesTest):
  pass


class DamagedPointsByKernelsTest(
    _ByKernels, damaged_points_test.DamagedPointsTest):
  pass


def _features(**values):
  return tf.train.Example(features=tf.train.Features(feature=values))


def _floats(*values):
  return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _bytes(*values):
  return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def _refuse(*unused):
  raise row_layout.Unreadable("is not read")


def _in_example(*features):
  """An Example whose feature is written as several, one after the other."""
  content = b"".join(each.SerializeToString() for each in features)
  field = record_writing._field  # pylint: disable=protected-access
  return field(1, field(1, field(1, b"input_0") + field(2, content)))


class _ReaderTest(folders.FolderTest, graphs.GraphTest):
  """Reads points with the kernels and without them."""

  def blocks(self, path, shapes=((None, 3),), dtypes=(tf.float32,), keys=None):
    """The `Block` of all rows at once, by the kernels alone, and of each row.

    Also counts in `self.by_rows` the rows that were not read at once, or by
    the kernels.
    """
    self.by_rows = 0
    inputs = [tf.placeholder(dtype, shape, name="input_{}".format(i))
              for i, (shape, dtype) in enumerate(zip(shapes, dtypes))]
    f = gf.function(inputs, [tf.identity(x) for x in inputs],
                    session=self.session)
    blocks = []
    for few, parse in (
        (0, example_bytes.parsed), (0, _refuse), (10 ** 9, _refuse)):
      with unittest.mock.patch.object(csv_files, "_FEW_NUMBERS", few), (
          unittest.mock.patch.object(tfrecords, "_FEW_RECORDS", few)), (
              unittest.mock.patch.object(example_bytes, "parsed", parse)):
        points = point_sources.Points(path, f, keys)
        reader, = points._readers  # pylint: disable=protected-access
        values_of = reader._values_of  # pylint: disable=protected-access
        with contextlib.closing(points), unittest.mock.patch.object(
            reader, "_values_of", side_effect=values_of) as by_rows:
          blocks.append(points.read(0, 10 ** 6))
      if not few:
        self.by_rows += by_rows.call_count
    return blocks

  def assert_same(self, *args, **options):
    """Checks that all ways give the same; returns the block."""
    one, *others = self.blocks(*args, **options)
    for other in others:
      self.assertEqual(one.bad, other.bad)
      self.assertEqual(one.digest, other.digest)
    return one


  def assert_as_before(self, *args, **options):
    """Checks that NumPy gives what the kernels give; both are not by rows."""
    one, other, _ = self.blocks(*args, **options)
    self.assertEqual(one.bad, other.bad)
    self.assertEqual(one.digest, other.digest)


class ColumnsTest(_ReaderTest):

  def write(self, lines, name="p.csv"):
    with open(self.path(name), "wb") as output:
      output.write(b"".join(line.encode() + b"\n" for line in lines))
    return self.path(name)

  @parameterized.named_parameters(
      ("float16", tf.float16, 9, 1), ("float32", tf.float32, 9, 30),
      ("float64", tf.float64, 18, 300), ("bfloat16", tf.bfloat16, 9, 30),
      ("int8", tf.int8, 0, 0), ("int64", tf.int64, 0, 0),
      ("uint16", tf.uint16, 0, 0))
  def test_numbers_are_those_of_python_to_the_bit(self, dtype, digits, power):
    random = np.random.RandomState(0)
    if digits:
      numbers = random.normal(size=[300, 3]) * 10.0 ** random.randint(
          -power, power, [300, 3])
      lines = [",".join("%.*g" % (random.randint(1, digits + 1), number)
                        for number in row) for row in numbers]
    else:
      lines = [",".join(map(str, row))
               for row in random.randint(0, 128, [300, 3])]
    block = self.assert_same(self.write(lines), dtypes=[dtype])
    self.assertEqual(self.by_rows, 0)
    self.assertEmpty(block.bad)

  @parameterized.parameters(
      "1", " 1.5", "1.5 ", "\t2", "  ", "", "-", "+", "+.5", "5.", ".", "1e5",
      "1E5", "1e", "1e400", "nan", "-nan", "Inf", "infinity", "nan(1)", "0x10",
      "0X1p3", "1_0", "1d5", "1 2", "\uff11", "\xa01", "1j", "true", "0b1",
      "+ 5", "00012", "\x0b1", "1\x0c", "1\x85", "'1'", "\u2028", "--1")
  def test_what_may_be_a_number(self, text):
    for dtype in (tf.float32, tf.int32):
      self.assert_same(self.write(["1,2,3", "4,{},6".format(text), "7,8,9"]),
                       dtypes=[dtype])

  @parameterized.parameters(
      "3.0", "3.5", "1e3", "300", "-1", "9007199254740993", "1e19",
      "4503599627370497", "18446744073709551615")
  def test_whole_numbers(self, text):
    for dtype in (tf.int64, tf.uint8, tf.uint64):
      self.assert_same(self.write(["1,2,3", "4,{},6".format(text)]),
                       dtypes=[dtype])

  @parameterized.parameters(
      "1,2", "1,2,3,4", "1,2,3,", '"1",2,3', '1,"2\n",3', '1,"2,3"', "1,2,3\r",
      "1,2\r3,4,5", "", "\r", " ")
  def test_lines(self, line):
    self.assert_same(self.write(["1,2,3", line, "7,8,9"]))

  def test_fields_in_quotes(self):
    block = self.assert_same(self.write(["1,2,3", '"4",5,"6"', "7,8,9"]))
    np.testing.assert_array_equal(
        block.arrays[0], np.arange(1, 10).reshape(3, 3))

  def test_a_line_that_python_before_3_11_does_not_read(self):
    with contextlib.suppress(gf.ModelFileError):
      self.assert_same(self.write(["1,2,3", "1,2,\0", "7,8,9"]))

  def test_long_lines_of_many_blocks(self):
    points = np.random.RandomState(0).normal(size=[50, 9000]).astype("f")
    lines = [",".join(map(str, row)) for row in points]
    block = self.assert_same(self.write(lines), shapes=[(None, 9000)])
    np.testing.assert_array_equal(block.arrays[0], points)
    self.assertEqual(self.by_rows, 0)

  def test_columns_of_several_inputs_and_texts(self):
    lines = ["a0,name,a1,id"] + [
        "{0}.5,x {0},-{0}e1,{0}".format(i) for i in range(40)]
    block = self.assert_same(
        self.write(lines), shapes=[(None, 2), (None,), (None,)],
        dtypes=[tf.float32, tf.string, tf.int32], keys=["a*", "name", "id"])
    self.assertEqual(self.by_rows, 0)
    np.testing.assert_array_equal(
        block.arrays[0], [[i + 0.5, -10.0 * i] for i in range(40)])
    self.assertEqual(block.arrays[1][7], b"x 7")
    np.testing.assert_array_equal(block.arrays[2], np.arange(40))

  def test_x14_bytes_that_are_no_text_in_a_column_that_is_not_read(self):
    path = self.path("p.csv")
    with open(path, "wb") as output:
      output.write(b"n,a\n1,2\n\xff,3\n")
    with self.assertRaisesRegex(gf.ModelFileError, "Line 3 .*utf-8"):
      self.blocks(path, shapes=[(None,)], keys="a")


class ExamplesTest(_ReaderTest):

  def write(self, examples, name="p.tfrecord"):
    with tf.io.TFRecordWriter(self.path(name)) as writer:
      for example in examples:
        writer.write(example if isinstance(example, bytes) else
                     example.SerializeToString())
    return self.path(name)

  def rows(self, count=20):
    return np.random.RandomState(0).normal(size=[count, 3]).astype("f")

  def test_lists_of_numbers(self):
    rows = self.rows()
    block = self.assert_same(self.write(
        [_features(input_0=_floats(*row), z=_bytes(b"z")) for row in rows]))
    np.testing.assert_array_equal(block.arrays[0], rows)
    self.assertEqual(self.by_rows, 0)

  def test_whole_numbers_of_any_length(self):
    random = np.random.RandomState(0)
    labels = random.randint(-2 ** 63, 2 ** 63, [400, 2]) >> random.choice(
        [0, 7, 14, 30, 55, 63], [400, 2])
    block = self.assert_same(
        self.write([_features(x=_floats(1.0), label=tf.train.Feature(
            int64_list=tf.train.Int64List(value=row))) for row in labels]),
        shapes=[(None, 2), (None, 1)], dtypes=[tf.int64, tf.float32],
        keys=["label", "x"])
    np.testing.assert_array_equal(block.arrays[0], labels)
    self.assertEqual(self.by_rows, 0)

  def test_records_of_few_forms_need_no_graph(self):
    rows = self.rows(90)
    path = self.write([_features(
        input_0=_floats(*row), name=_bytes(b"n" * (i % 5)))
                       for i, row in enumerate(rows)])
    x = tf.placeholder(tf.float32, [None, 3], name="input_0")
    points = point_sources.Points(path, gf.function(
        x, tf.identity(x), session=self.session))
    with contextlib.closing(points), unittest.mock.patch.object(
        batch_parsing, "_Program") as built:
      np.testing.assert_array_equal(points.read(0, 70).arrays[0], rows[:70])
      np.testing.assert_array_equal(points.read(70, 99).arrays[0], rows[70:])
    self.assertEqual(built.call_count, 0)

  def test_a_record_with_two_features_of_one_name(self):
    rows = [_features(input_0=_floats(*row)) for row in self.rows()]
    entries = b"".join(row.SerializeToString()[2:] for row in rows[:2])
    field = record_writing._field  # pylint: disable=protected-access
    block = self.assert_same(self.write([field(1, entries)] + rows))
    np.testing.assert_array_equal(block.arrays[0][0], self.rows()[1])
    self.assert_same(self.write([field(1, entries)] * 9), keys=["input_0"])

  def test_records_with_other_counts_of_whole_numbers(self):
    rows = [_features(a=tf.train.Feature(int64_list=tf.train.Int64List(
        value=values))) for values in [(300, 1)] * 5 + [(1, 1, 1)] + [(1, 300)]]
    block = self.assert_same(self.write(rows), shapes=[(None, 2)],
                             dtypes=[tf.int64])
    self.assertEqual(list(block.bad), [5])
    np.testing.assert_array_equal(
        block.arrays[0][4:], [[300, 1], [0, 0], [1, 300]])

  def test_records_of_many_forms(self):
    rows = self.rows(40)
    for step in (1, 20):
      self.assert_same(self.write([_features(
          input_0=_floats(*row), name=_bytes(b"n" * (i // step)))
                                   for i, row in enumerate(rows)]),
                       keys=["input_0"])
      self.assertEqual(self.by_rows, 0)

  @parameterized.parameters(*range(20))
  def test_a_record_with_a_byte_changed(self, seed):
    random = np.random.RandomState(seed)
    rows = [_features(input_0=_floats(*row), b=_bytes(b"7"), c=tf.train.Feature(
        int64_list=tf.train.Int64List(value=[3]))).SerializeToString()
            for row in self.rows(12)]
    for i in (0, 5, 9):
      odd = bytearray(rows[i])
      odd[random.randint(len(odd))] ^= 1 << random.randint(8)
      rows[i] = bytes(odd)
    for key in ("input_0", "c"):
      self.assert_as_before(self.write(rows), shapes=[(None,)], keys=[key])

  def test_two_inputs_of_one_feature(self):
    rows = self.rows()
    block = self.assert_same(
        self.write([_features(x=_floats(*row)) for row in rows]),
        shapes=[(None, 3)] * 2, dtypes=[tf.float32, tf.float64],
        keys=["x", "x"])
    np.testing.assert_array_equal(block.arrays[1], rows)
    self.assertEqual(self.by_rows, 0)

  @parameterized.named_parameters(
      ("absent", _features(z=_floats(1.0), y=_floats(1.0))),
      ("long", _features(input_0=_floats(1.0, 2.0, 3.0, 4.0))),
      ("empty", _features(input_0=tf.train.Feature())),
      ("nothing", b""), ("no_example", b"\xff\xff\xff"),
      ("no_values", _features(input_0=_floats())),
      ("whole_numbers", _features(input_0=tf.train.Feature(
          int64_list=tf.train.Int64List(value=[1, 2, 3])))),
      ("bytes", _features(input_0=_bytes(np.arange(3).astype("f").tobytes()))),
      ("another_name", _features(**{"input_0:0": _floats(7, 8, 9),
                                    "input_0": _floats(1, 2, 3)})),
      ("of_two_kinds", _in_example(
          tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2, 3])),
          _floats(7, 8, 9))),
      ("of_two_kinds_reversed", _in_example(
          _floats(7, 8, 9),
          tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2, 3])))),
      ("in_two_parts", _features(input_0=_floats(1, 2, 3)).SerializeToString() +
       _features(input_0=_floats(7, 8, 9)).SerializeToString()),
      ("a_name_that_is_no_text", _features(
          input_0=_floats(1, 2, 3), zz=_floats(1.0)).SerializeToString().
       replace(b"zz", b"\xff\xff")))
  def test_an_odd_row(self, odd):
    rows = [_features(input_0=_floats(*row)) for row in self.rows()]
    for examples in (rows[:5] + [odd] + rows[5:], [odd] + rows):
      self.assert_same(self.write(examples))

  def test_the_only_feature_is_not_taken_where_there_are_two(self):
    rows = [_features(a=_floats(*row)) for row in self.rows()]
    rows[7] = _features(a=_floats(1, 2, 3), b=_floats(4, 5, 6))
    block = self.assert_same(self.write(rows))
    self.assertEqual(block.bad, {7: "has no feature 'input_0:0' but 'a', 'b'"})

  @parameterized.named_parameters(
      ("bare_numbers", lambda row: row.tobytes()),
      ("tensors", lambda row: tf.make_tensor_proto(row).SerializeToString()),
      ("tensors_of_float64", lambda row: tf.make_tensor_proto(
          row.astype(np.float64)).SerializeToString()))
  def test_bytes(self, make):
    rows = self.rows(200)
    rows.view(np.uint8)[::7, 0] = 8  # The first byte of a TensorProto.
    block = self.assert_same(self.write(
        [_features(input_0=_bytes(make(row))) for row in rows]))
    np.testing.assert_array_equal(block.arrays[0], rows)
    self.assertEqual(self.by_rows, 0)

  def test_tensors_of_several_shapes(self):
    rows = [tf.make_tensor_proto(np.arange(3.0).reshape(shape))
            for shape in ([3], [1, 3], [3], [3, 1])]
    self.assert_same(self.write([
        _features(input_0=_bytes(row.SerializeToString())) for row in rows]))

  def test_tensors_of_several_dtypes(self):
    rows = [tf.make_tensor_proto(np.arange(3).astype(dtype))
            for dtype in (np.float32, np.int32, np.float32)]
    block = self.assert_same(self.write([
        _features(input_0=_bytes(row.SerializeToString())) for row in rows]))
    np.testing.assert_array_equal(block.arrays[0], [[0, 1, 2]] * 3)

  def test_a_tensor_among_bare_numbers(self):
    proto = tf.make_tensor_proto(np.arange(5).astype(np.float16))
    proto.ClearField("half_val")
    proto.tensor_content = np.arange(5).astype(np.float16).tobytes()
    content = proto.SerializeToString()
    self.assertLen(content, 20)  # Five numbers of float32 as well.
    rows = np.ones([6, 5], np.float32)
    for size in (5, None):
      self.assert_same(self.write([
          _features(input_0=_bytes(row.tobytes() if i != 3 else content))
          for i, row in enumerate(rows)]), shapes=[(None, size)])

  def test_texts(self):
    block = self.assert_same(
        self.write([_features(a=_bytes(b"x\0", b"\xff"), b=_floats(i))
                    for i in range(20)]),
        shapes=[(None, 2), (None,)], dtypes=[tf.string, tf.int32],
        keys=["a", "b"])
    self.assertEqual(block.arrays[0][3].tolist(), [b"x\0", b"\xff"])
    self.assertEqual(self.by_rows, 0)

  def test_numbers_that_do_not_fit(self):
    rows = [_features(input_0=_floats(1, 2, i)) for i in range(250, 260)]
    block = self.assert_same(self.write(rows), dtypes=[tf.uint8])
    self.assertContainsSubset([6, 7, 8, 9], block.bad)


class ProgramsTest(_ByKernels, _ReaderTest):

  def test_nothing_of_the_user_changes(self):
    path = self.path("p.csv")
    np.savetxt(path, np.ones([40, 3]), delimiter=",")
    x = tf.placeholder(tf.float32, [None, 3])
    f = gf.function(x, 2.0 * x, session=self.session)
    f(np.ones([1, 3]))
    before = len(self.graph.get_operations()), tf.get_default_graph()
    points = point_sources.Points(path, f)
    points.read(0, 20)
    self.assertEqual(
        (len(self.graph.get_operations()), tf.get_default_graph()), before)
    points.close()

  def test_shards_share_a_program(self):
    for i in range(3):
      np.savetxt(self.path("p{}.csv".format(i)), np.ones([4, 3]),
                 delimiter=",")
    x = tf.placeholder(tf.float32, [None, 3])
    f = gf.function(x, 2.0 * x, session=self.session)
    with unittest.mock.patch.object(
        batch_parsing, "_Program", wraps=batch_parsing._Program) as built:
      gf.stream(f, self.path("p*.csv"), self.path("out.npy"), chunk=2)
    self.assertEqual(built.call_count, 1)

  def test_few_rows_build_no_graph(self):
    np.savetxt(self.path("p.csv"), np.ones([40, 3]), delimiter=",")
    x = tf.placeholder(tf.float32, [None, 3])
    f = gf.function(x, 2.0 * x, session=self.session)
    with unittest.mock.patch.object(csv_files, "_FEW_NUMBERS", 2 ** 14), (
        unittest.mock.patch.object(batch_parsing, "_Program")) as built:
      gf.stream(f, self.path("p.csv"), self.path("out.npy"), chunk=10)
    self.assertEqual(built.call_count, 0)

  def test_an_error_of_tensorflow_is_a_row_that_is_refused(self):
    parse = batch_parsing.columns_program(2, (((0, 1), False),))
    np.testing.assert_array_equal(parse([b"1,2", b"3,4"])[0], [[1, 2], [3, 4]])
    for rows in ([b"1,2,3", b"4"] * 8, [b"1,2", b"3"], [b"1,2,3", b"4"],
                 [b"1,b"]):
      with self.assertRaises(row_layout.Unreadable):
        parse(rows)
