"""Tests of values on their way in: every cast, shape and kind of array."""

import warnings

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import graphs


def _named(cases):
  for i, case in enumerate(cases):
    yield ("_{}_{}".format(i, case[0].name),) + tuple(case)


_LOSSY = (
    # dtype of the placeholder, value, what the message says of it.
    (tf.int32, 2.7, "2.7 .*would become 2 "),
    (tf.int32, np.float32(-.5), "would become 0"),
    (tf.int32, float("nan"), "nan"),
    (tf.int32, float("inf"), "inf"),
    (tf.int32, -float("inf"), "inf"),
    (tf.int32, 2 ** 40, str(2 ** 40)),
    (tf.int32, [1., 2.5, 3.], r"2.5 at \[1\]"),
    (tf.int32, np.array([[0., 1.], [1., .1]]), r"0.1 at \[1, 1\]"),
    (tf.int32, "1", "not int32"),
    (tf.int32, 1 + 2j, "int32"),
    (tf.int64, np.uint64(2 ** 63), str(2 ** 63)),
    (tf.int64, 2. ** 63, "int64"),
    (tf.int64, float("nan"), "nan"),
    (tf.uint8, 300, "300 .*would become 44 "),
    (tf.uint8, -1, "-1"),
    (tf.uint8, 2.5, "2.5"),
    (tf.int8, 128, "128"),
    (tf.uint16, -1, "-1"),
    (tf.uint64, -1, "-1"),
    (tf.uint64, -1., "-1"),
    (tf.uint64, np.int8(-3), "-3"),
    (tf.float32, 1e300, "1e[+]300 .*overflows"),
    (tf.float32, [0., -1e39], r"-1e[+]39 at \[1\] overflows"),
    (tf.float32, 2 ** 24 + 1, "16777217"),
    (tf.float32, np.int32(2 ** 24 + 1), "16777217"),
    (tf.float32, np.uint64(2 ** 64 - 1), "18446744073709551615"),
    (tf.float32, 1 + 2j, "1[+]2j"),
    (tf.float32, np.complex64(1j), "j"),
    (tf.float32, "0", "not float32"),
    (tf.float32, b"0", "not float32"),
    (tf.float32, np.array("1.5"), "not float32"),
    (tf.float32, None, "None"),
    (tf.float32, [None, 1.], "not an array of numbers"),
    (tf.float32, [[1.], [1., 2.]], "not an array"),
    (tf.float32, np.array([1., "2"], object), "object"),
    (tf.float32, np.array([1., None], object), "object"),
    (tf.float32, np.array([1., [2.]], object), "object"),
    (tf.int32, np.array([1, 2.5], object), "2.5"),
    (tf.float32, object(), "object"),
    (tf.float32, {"a": 1.}, "dict"),
    (tf.float32, iter([1.]), "not an array"),
    (tf.float32, 2 ** 70, "not an array"),
    (tf.float32, np.datetime64("2020-01-01"), "datetime64"),
    (tf.float32, np.timedelta64(1, "s"), "timedelta64"),
    (tf.float32, np.ma.masked_array([1., 2.], [False, True]), "mask"),
    (tf.float32, np.array([(1., 2.)], [("a", "f4"), ("b", "f4")]), "float32"),
    (tf.float64, np.int64(2 ** 53 + 1), "9007199254740993"),
    (tf.float64, np.int64(2 ** 63 - 1), "9223372036854775807"),
    (tf.float64, np.uint64(2 ** 64 - 1), "18446744073709551615"),
    (tf.float64, 1j, "1j"),
    (tf.float16, 70000., "70000.0 .*overflows"),
    (tf.float16, np.float32(1e6), "overflows"),
    (tf.float16, 2049, "2049"),
    (tf.bfloat16, 257, "257"),
    (tf.bfloat16, 1e300, "overflows"),
    (tf.complex64, 1e300, "overflows"),
    (tf.complex64, complex(1., 1e300), "overflows"),
    (tf.complex64, 2 ** 24 + 1, "16777217"),
    (tf.complex64, "1", "not complex64"),
    (tf.bool, "0", "not bool"),
    (tf.bool, 2, "2"),
    (tf.bool, .5, "0.5"),
    (tf.bool, float("nan"), "nan"),
    (tf.string, 1, "not string"),
    (tf.string, 1.5, "not string"),
    (tf.string, True, "not string"),
    (tf.string, np.array([1], object), "string|str|text"),
    (tf.string, np.array(["a", 1], object), "string|str|text"),
    (tf.string, None, "None"),
)

_LOSSLESS = (
    (tf.int32, 2., 2),
    (tf.int32, True, 1),
    (tf.int32, np.int64(-7), -7),
    (tf.int32, np.uint8(7), 7),
    (tf.int32, [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
    (tf.int32, 3 + 0j, 3),
    (tf.int64, 1e18, 10 ** 18),
    (tf.int64, np.uint64(5), 5),
    (tf.uint64, 2 ** 64 - 1, 2 ** 64 - 1),
    (tf.uint8, 255., 255),
    (tf.int8, -128, -128),
    (tf.float32, 1, 1.),
    (tf.float32, True, 1.),
    (tf.float32, np.int64(2 ** 24), 2. ** 24),
    (tf.float32, .1, np.float32(.1)),
    (tf.float32, 1e-300, 0.),
    (tf.float32, float("nan"), float("nan")),
    (tf.float32, float("-inf"), float("-inf")),
    (tf.float32, [1., float("inf")], [1., float("inf")]),
    (tf.float32, 2. + 0j, 2.),
    (tf.float32, np.float16(1.5), 1.5),
    (tf.float32, [], []),
    (tf.float32, (1., 2.), [1., 2.]),
    (tf.float32, range(3), [0., 1., 2.]),
    (tf.float32, [np.float64(1.), 2, np.float32(3.)], [1., 2., 3.]),
    (tf.float32, np.array([1., 2], object), [1., 2.]),
    (tf.float32, np.array([[5, "a"], [.5, "b"]], object)[:, 0], [5., .5]),
    (tf.int32, np.array([np.int64(3), True], object), [3, 1]),
    (tf.float32, np.ma.masked_array([1., 2.], [False, False]), [1., 2.]),
    (tf.float64, np.float32(.1), np.float64(np.float32(.1))),
    (tf.float64, np.longdouble(.25), .25),
    (tf.float64, np.int64(2 ** 53), 2. ** 53),
    (tf.float16, 1.5, 1.5),
    (tf.float16, 2048, 2048.),
    (tf.bfloat16, 1.5, 1.5),
    (tf.bfloat16, 256, 256.),
    (tf.complex64, 1, 1.),
    (tf.complex64, 1.5, 1.5),
    (tf.complex64, 1 + 2j, 1 + 2j),
    (tf.complex128, np.complex64(1j), 1j),
    (tf.bool, 1, True),
    (tf.bool, 0., False),
    (tf.bool, np.bool_(True), True),
    (tf.string, "text", b"text"),
    (tf.string, b"bytes", b"bytes"),
    (tf.string, u"\xe9", b"\xc3\xa9"),
    (tf.string, ["a", "bc"], [b"a", b"bc"]),
    (tf.string, [], []),
    (tf.string, np.array([b"x", "y"], object), [b"x", b"y"]),
)


class S12Test(parameterized.TestCase):
  """A cast that loses something is an error; one that does not is made."""

  @parameterized.named_parameters(*_named(_LOSSY))
  def test_s12_lossy(self, dtype, value, message):
    with tf.Graph().as_default(), tf.Session() as session, (
        warnings.catch_warnings()):
      x = tf.placeholder(dtype, None, name="x")
      y = tf.identity(x)
      f = gf.function(x, y, session=session)
      warnings.simplefilter("error")
      pattern = r"(?s)'x:0' \({}, <unknown>\).*{}".format(dtype.name, message)
      with self.assertRaisesRegex(gf.FeedError, pattern):
        f(value)
      with self.assertRaisesRegex(gf.FeedError, pattern):
        gf.run(session, y, {x: value})
      with self.assertRaisesRegex(gf.FeedError, pattern):
        gf.function([], y, session=session, feed_dict={x: value})()

  @parameterized.named_parameters(*_named(_LOSSLESS))
  def test_s12_lossless(self, dtype, value, expected):
    with tf.Graph().as_default(), tf.Session() as session, (
        warnings.catch_warnings()):
      x = tf.placeholder(dtype, None, name="x")
      y = tf.identity(x)
      f = gf.function(x, y, session=session)
      warnings.simplefilter("error")
      for result in (f(value), f(value), gf.run(session, y, {x: value}),
                     gf.function([], y, session=session,
                                 feed_dict={x: value})()):
        if dtype == tf.string:
          self.assertEqual(np.asarray(result).tolist(), expected)
        else:
          self.assertEqual(np.asarray(result).dtype, dtype.as_numpy_dtype)
          np.testing.assert_array_equal(
              np.asarray(result), np.array(expected, dtype.as_numpy_dtype))

  def test_s12_one_tensor_by_two_keys(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [], name="x")
      y = x * 2.
      for feeds in ({x: 1., "x:0": 5.}, {x: 1., "x": 1.},
                    {"x": 1., "x:0": 1.}):
        with self.assertRaisesRegex(gf.FeedError, "'x:0'.*the same tensor"):
          gf.run(session, y, feeds)
      f = gf.function(x, y, session=session)
      with self.assertRaisesRegex(gf.FeedError, "'x:0'.*the same tensor"):
        f(1., feed_dict={"x:0": 5.})
      with self.assertRaisesRegex(gf.FeedError, "twice"):
        gf.function([x, "x:0"], y)

  @parameterized.parameters(False, True)
  def test_s12_a_variable_and_its_handle_are_one_tensor(self, use_resource):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=1., use_resource=use_resource)
      with self.assertRaisesRegex(gf.FeedError, "the same tensor"):
        gf.run(session, v * 2., {v: 1., "v:0": 5.})

  def test_s12_unknown_keys(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [], name="x")
      with tf.Graph().as_default():
        other = tf.placeholder(tf.float32, [], name="other")
      with self.assertRaisesRegex(
          gf.FeedError, r"(?s)3 values.*'y:0'.*nearest|'y:0'.*other:0.*3"):
        gf.run(session, x * 2., {"y:0": 1., other: 2., 3: 4., x: 1.})


def _strange_arrays():
  base = np.arange(24, dtype=np.float32).reshape(4, 6)
  aligned = np.empty(4 * 24 + 65, np.uint8)
  offset = -aligned.ctypes.data % 64 + 1
  unaligned = aligned[offset:offset + 96].view(np.float32).reshape(4, 6)
  unaligned[...] = base
  read_only = base.copy()
  read_only.setflags(write=False)
  return {
      "fortran": np.asfortranarray(base),
      "transposed": np.ascontiguousarray(base.T).T,
      "strided": np.repeat(np.repeat(base, 2, 0), 3, 1)[::2, ::3],
      "reversed": np.ascontiguousarray(base[::-1, ::-1])[::-1, ::-1],
      "big_endian": base.astype(">f4"),
      "little_endian": base.astype("<f4"),
      "big_endian_integers": base.astype(">i2"),
      "unaligned": unaligned,
      "read_only": read_only,
      "broadcast": np.broadcast_to(base[:1, :1] + 7., (4, 6)),
      "half": base.astype(np.float16),
      "double": base.astype(np.float64),
      "lists": base.tolist(),
      "rows": list(base),
      "nested_tuples": tuple(map(tuple, base)),
      "record_field": np.array(
          [[(v, 0) for v in row] for row in base],
          [("v", "f4"), ("pad", "i1")])["v"],
  }


class ArrayTest(parameterized.TestCase):
  """Whatever way an array lies in memory, its values arrive."""

  @parameterized.named_parameters(
      ("_" + name, name) for name in sorted(_strange_arrays()))
  def test_layout(self, name):
    value = _strange_arrays()[name]
    expected = np.array(value, np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [None, 6])
      h = x * 1.
      y = tf.square(h)
      placeholder = gf.function(x, y, session=session)
      cut = gf.function(h, [y, gf.gradient(y, h)], session=session)
      for _ in range(2):
        np.testing.assert_array_equal(placeholder(value), expected ** 2)
        y_t, dh_t = cut(value)
        np.testing.assert_array_equal(y_t, expected ** 2)
        np.testing.assert_array_equal(dh_t, expected * 2.)
        np.testing.assert_array_equal(
            gf.run(session, y, {x: value}), expected ** 2)
      np.testing.assert_array_equal(np.array(value, np.float32), expected)

  def test_zero_dimensional(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [])
      f = gf.function(x, x * 2., session=session)
      for value in (3, 3., np.float64(3.), np.array(3), np.array(3., "f2"),
                    np.array([3.])[0]):
        self.assertEqual(f(value), 6.)
      with self.assertRaisesRegex(gf.FeedError, r"shape \[1\]"):
        f([3.])

  def test_empty(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [None, 2])
      f = gf.function(x, [x * 2., tf.reduce_sum(x)], session=session)
      rows, total = f(np.zeros((0, 2)))
      self.assertEqual(rows.shape, (0, 2))
      self.assertEqual(total, 0.)

  def test_bfloat16_array(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.bfloat16, [2])
      wide = tf.placeholder(tf.float32, [2])
      half = np.array([1.5, -2.]).astype(tf.bfloat16.as_numpy_dtype)
      f = gf.function(x, tf.cast(x, tf.float32), session=session)
      np.testing.assert_array_equal(f(half), [1.5, -2.])
      g = gf.function(wide, wide * 2., session=session)
      np.testing.assert_array_equal(g(half), [3., -4.])


class S15Test(parameterized.TestCase):
  """The shape that the graph was built for is the shape that it takes."""

  def test_s15_static_batch(self):
    with tf.Graph().as_default(), tf.Session() as session:
      source = tf.constant(np.ones((4, 3)))
      h = source * 2.
      loss = tf.reduce_mean(h * h)  # Divides by 12, from the static shape.
      dh = gf.gradient(loss, h)
      value = np.full((4, 3), 6.)
      np.testing.assert_allclose(gf.run(session, dh, {h: value}), value / 6.)
      for wrong in (np.ones((2, 3)), np.ones((4, 1)), np.ones(3)):
        with self.assertRaisesRegex(gf.FeedError, r"does not fit \[4, 3\]"):
          gf.run(session, dh, {h: wrong})
        with self.assertRaisesRegex(gf.FeedError, r"does not fit \[4, 3\]"):
          gf.function(h, dh, session=session)(wrong)

  def test_s15_unknown_shape(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, None)
      loss = tf.reduce_mean(x * x)
      f = gf.function(x, gf.gradient(loss, x), session=session)
      np.testing.assert_allclose(f(np.ones((2, 3))), np.full((2, 3), 1. / 3.))
      np.testing.assert_allclose(f(5.), 10.)

  @parameterized.parameters(False, True)
  def test_s15_variable(self, use_resource):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.ones((2, 2)),
                          use_resource=use_resource)
      f = gf.function(v, tf.reduce_mean(v), session=session)
      self.assertEqual(f(np.full((2, 2), 3.)), 3.)
      with self.assertRaisesRegex(gf.FeedError, r"does not fit \[2, 2\]"):
        f(np.ones((3, 2)))


class SparseTest(parameterized.TestCase):
  """The three parts of a sparse value have to belong to each other."""

  @parameterized.named_parameters(
      ("_more_values", [[0, 0]], [1., 3.], [2, 2], "do not belong"),
      ("_index_of_another_rank", [[0]], [1.], [2, 2], "do not belong"),
      ("_other_shape", [[0, 0]], [1.], [3, 3], r"\[3, 3\] does not fit"),
      ("_outside", [[0, 2]], [1.], [2, 2], r"index \[0, 2\] lies outside"),
      ("_below_zero", [[0, -1]], [1.], [2, 2], r"index \[0, -1\] lies"))
  def test_e11_refuses(self, indices, values, dense_shape, reason):
    with tf.Graph().as_default(), tf.Session() as session:
      sparse = tf.sparse_placeholder(tf.float64, [2, 2])
      f = gf.function(sparse, tf.sparse_reduce_sum(sparse), session)
      with self.assertRaisesRegex(gf.FeedError, reason):
        f((indices, values, dense_shape))
      self.assertEqual(f(([[0, 1]], [5.], [2, 2])), 5.)

  def test_s12_part_of_what_is_held(self):
    with tf.Graph().as_default(), tf.Session() as session:
      sparse = tf.sparse_placeholder(tf.float64, [2, 2])
      x = tf.placeholder(tf.float64, [])
      f = gf.function(x, x * tf.sparse_reduce_sum(sparse), session,
                      feed_dict={sparse: ([[0, 1]], [5.], [2, 2])})
      self.assertEqual(f(2.), 10.)
      with self.assertRaisesRegex(gf.FeedError, "has a value already"):
        f(2., feed_dict={sparse.values: [7.]})


class E11Test(parameterized.TestCase):
  """Sparse tensors as inputs and outputs."""

  def _value(self, scale=1.):
    return tf.SparseTensorValue(
        np.array([[0, 1], [2, 0]]), np.array([3., 5.]) * scale, [3, 2])

  def test_e11_sparse_placeholder(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.sparse_placeholder(tf.float64)
      w = tf.placeholder(tf.float64, [2, 1])
      y = tf.reduce_sum(tf.square(tf.sparse.sparse_dense_matmul(x, w)))
      dx = gf.gradient(y, x)
      f = gf.function([x, w], [y, dx], session=session)
      w_t = [[10.], [2.]]
      for result in (f(self._value(), w_t), f(tuple(self._value()), w_t),
                     gf.run(session, [y, dx], {x: self._value(), w: w_t})):
        y_t, dx_t = result
        np.testing.assert_allclose(y_t, 36. + 2500.)
        self.assertIsInstance(dx_t, tf.SparseTensorValue)
        np.testing.assert_array_equal(dx_t.indices, [[0, 1], [2, 0]])
        np.testing.assert_allclose(dx_t.values, [24., 1000.])
        np.testing.assert_array_equal(dx_t.dense_shape, [3, 2])

  def test_e11_sparse_tensor_in_the_middle(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.SparseTensor(tf.constant([[0, 0]], tf.int64),
                          tf.constant([1.], tf.float64),
                          tf.constant([3, 2], tf.int64))
      y = tf.reduce_sum(tf.square(tf.sparse.to_dense(x)))
      dx = gf.gradient(y, x)
      f = gf.function(x, [y, dx.values], session=session)
      # Other indices, and another number of them, than in the graph would be
      # another static shape.
      value = tf.SparseTensorValue([[2, 1]], [7.], [3, 2])
      y_t, dx_t = f(value)
      np.testing.assert_allclose(y_t, 49.)
      np.testing.assert_allclose(dx_t, [14.])
      with self.assertRaisesRegex(gf.FeedError, "shape"):
        f(self._value())

  @parameterized.parameters(1., [[1.]], ((1., 2.),))
  def test_e11_dense_value_for_a_sparse_tensor(self, value):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.sparse_placeholder(tf.float64, name="x")
      y = tf.sparse.reduce_sum(x)
      with self.assertRaisesRegex(gf.FeedError, "SparseTensorValue"):
        gf.run(session, y, {x: value})

  def test_e11_symbolic_sparse_tensor_as_a_value(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.sparse_placeholder(tf.float64, name="x")
      y = tf.sparse.reduce_sum(x)
      with self.assertRaisesRegex(gf.FeedError, "SparseTensorValue"):
        gf.run(session, y, {x: tf.SparseTensor([[0]], [1.], [1])})

  def test_e11_indexed_slices(self):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.placeholder_with_default(np.ones((3, 2)), [3, 2])
      y = tf.reduce_sum(tf.square(tf.gather(v, [2, 0, 2])))
      dv = gf.gradient(y, v, sparse=True)
      value = np.arange(6.).reshape(3, 2)
      for result in (gf.run(session, dv, {v: value}),
                     gf.function(v, dv, session=session)(value)):
        self.assertEqual(type(result).__name__, "IndexedSlicesValue")
        dense = np.zeros((3, 2))
        np.add.at(dense, result.indices, result.values)
        np.testing.assert_allclose(dense, [[0., 2.], [0., 0.], [16., 20.]])
        self.assertLen(set(result.indices), len(result.indices))


class CastsOfManyCallsTest(graphs.GraphTest):

  def test_quiet_and_as_strict_as_the_first(self):
    x = tf.placeholder(tf.float32, [2], name="x")
    f = gf.function(x, 2. * x, self.session)
    f(np.ones(2))
    with np.errstate(all="raise"), warnings.catch_warnings():
      warnings.simplefilter("error")
      np.testing.assert_array_equal(f(np.array([1e-300, 3.])), [0., 6.])
      np.testing.assert_array_equal(f(np.array([np.inf, 3.])), [np.inf, 6.])
      with self.assertRaisesRegex(gf.FeedError, "1e[+]300 .*overflows"):
        f(np.array([1., 1e300]))
      np.testing.assert_array_equal(f(np.array([2., 3.])), [4., 6.])
      self.assertEqual(np.geterr()["over"], "raise")
