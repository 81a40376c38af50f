"""Tests of what may be fetched, and of the form that it comes back in."""

import collections

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.evaluation import fetchables

_Pair = collections.namedtuple("_Pair", ["left", "right"])


class SourcesTest(parameterized.TestCase):
  """Each wanted tensor or op has its value from one of three sources."""

  def test_the_three_sources(self):
    with tf.Graph().as_default():
      x = tf.placeholder(tf.float64, [2])
      y = x * x
      sources, fetched = fetchables.find_sources(
          [y, x, y.op, y], {x.name: 0})
    self.assertEqual(fetched, [y])
    self.assertEqual(sources, [
        fetchables.Fetched(0, False), fetchables.Fed(0), fetchables.NoValue(),
        fetchables.Fetched(0, True)])
    results, arrays = [np.ones(2)], [np.zeros(2)]
    values = [source.value(results, arrays) for source in sources]
    self.assertIs(values[0], results[0])
    np.testing.assert_array_equal(values[1], arrays[0])
    self.assertIsNone(values[2])
    np.testing.assert_array_equal(values[3], results[0])
    self.assertFalse(np.shares_memory(values[1], arrays[0]))
    self.assertFalse(np.shares_memory(values[3], results[0]))


class StructureTest(parameterized.TestCase):
  """Results have the structure of the outputs."""

  def _both(self, session, x, outputs, value):
    """The results through `function` and through `run`, which are alike."""
    results = (gf.function(x, outputs, session=session)(value),
               gf.run(session, outputs, {x: value}),
               gf.run(session, outputs, {x: value}))
    self.assertEqual(repr(results[0]), repr(results[1]))
    self.assertEqual(repr(results[1]), repr(results[2]))
    return results[0]

  def test_nested(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      outputs = {"b": [x * 2., (x * 3.,)], "a": x + 1.,
                 "c": _Pair(x, {"d": x * x})}
      result = self._both(session, x, outputs, 5.)
      self.assertEqual(list(result), ["b", "a", "c"])
      self.assertEqual(result["b"], [10., (15.,)])
      self.assertEqual(result["a"], 6.)
      self.assertIsInstance(result["c"], _Pair)
      self.assertEqual(result["c"].right["d"], 25.)

  def test_ordered_mapping(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      outputs = collections.OrderedDict([("z", x * 2.), ("a", x * 3.)])
      result = self._both(session, x, outputs, 5.)
      self.assertIsInstance(result, collections.OrderedDict)
      self.assertEqual(list(result.items()), [("z", 10.), ("a", 15.)])

  def test_one_tensor_and_one_in_a_list(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [None])
      np.testing.assert_array_equal(
          self._both(session, x, x * 2., [1., 2.]), [2., 4.])
      result = self._both(session, x, [x * 2.], [1., 2.])
      self.assertIsInstance(result, list)
      np.testing.assert_array_equal(result[0], [2., 4.])

  def test_names(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [], name="x")
      tf.multiply(x, 2., name="twice")
      self.assertEqual(gf.run(session, "twice:0", {"x:0": 3.}), 6.)
      f = gf.function("x", ["twice:0", "twice"], session=session)
      self.assertEqual(f(3.), [6., 6.])
      # As in `Session.run`, a name without an index is that of the op.
      self.assertIsNone(gf.run(session, "twice", {"x:0": 3.}))

  def test_one_tensor_twice(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [None])
      y = x * 2.
      for _ in range(3):
        first, second = self._both(session, x, [y, y], [1., 2.])
        np.testing.assert_array_equal(first, second)
      f = gf.function(x, [y, y], session=session)
      for _ in range(3):
        first, second = f([1., 2.])
        first[...] = -1.
        np.testing.assert_array_equal(second, [2., 4.])

  @parameterized.parameters([[]], [{}], [()])
  def test_nothing(self, outputs):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      with self.assertRaisesRegex(gf.ArgumentError, "no outputs"):
        gf.function(x, outputs)
      self.assertEqual(gf.run(session, outputs), outputs)


class KindTest(parameterized.TestCase):
  """Each kind of thing that can be fetched."""

  @parameterized.parameters(False, True)
  def test_variables(self, use_resource):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.array([1., 2.]),
                          use_resource=use_resource)
      session.run(v.initializer)
      self.assertEqual(gf.run(session, v).tolist(), [1., 2.])
      self.assertEqual(gf.run(session, {"v": v})["v"].tolist(), [1., 2.])
      f = gf.function([], v, session=session)
      self.assertEqual(f().tolist(), [1., 2.])
      session.run(tf.assign(v, [3., 4.]))
      self.assertEqual(f().tolist(), [3., 4.])

  @parameterized.parameters(False, True)
  def test_partitioned_variable(self, use_resource):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable(
          "v", [5, 2], tf.float64, tf.ones_initializer(),
          partitioner=tf.fixed_size_partitioner(2),
          use_resource=use_resource)
      session.run(tf.global_variables_initializer())
      np.testing.assert_array_equal(gf.run(session, v), np.ones((5, 2)))

  @parameterized.parameters(False, True)
  def test_assignments_run_once(self, use_resource):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.float64(1.),
                          use_resource=use_resource)
      session.run(v.initializer)
      add = tf.assign_add(v, 1.)
      self.assertEqual(gf.run(session, add), 2.)
      self.assertEqual(gf.run(session, [add, tf.constant(0.)])[0], 3.)
      self.assertIsNone(gf.run(session, add.op))
      self.assertEqual(session.run(v), 4.)

  def test_operations(self):
    with tf.Graph().as_default(), tf.Session() as session:
      calls = []
      x = tf.placeholder(tf.float64, [])
      seen = tf.py_func(lambda v: calls.append(v) or v, [x], tf.float64)
      result = gf.run(session, {"op": seen.op, "y": x * 2.}, {x: 3.})
      self.assertEqual(result, {"op": None, "y": 6.})
      self.assertLen(calls, 1)
      with self.assertRaisesRegex(
          gf.ArgumentError, r"(?s)is an op, not a tensor.*gradfeed\.run"):
        gf.function(x, seen.op)

  def test_sparse_tensors_that_share_their_values(self):
    with tf.Graph().as_default(), tf.Session() as session:
      values = tf.constant([1., 2.])
      left = tf.SparseTensor([[0], [1]], values, [3])
      right = tf.SparseTensor([[1], [2]], values, [3])
      for _ in range(2):
        for sparse, indices in ((left, [[0], [1]]), (right, [[1], [2]])):
          result = gf.run(session, sparse)
          self.assertIsInstance(result, tf.SparseTensorValue)
          self.assertEqual(result.indices.tolist(), indices)
          self.assertEqual(result.values.tolist(), [1., 2.])
          self.assertEqual(result.dense_shape.tolist(), [3])

  def test_indexed_slices_that_share_their_values(self):
    with tf.Graph().as_default(), tf.Session() as session:
      values = tf.constant([[1.], [2.]])
      for _ in range(2):
        for indices in ([0, 1], [4, 2]):
          slices = tf.IndexedSlices(values, tf.constant(indices))
          result = gf.run(session, slices)
          self.assertEqual(result.indices.tolist(), indices)
          self.assertEqual(result.values.tolist(), [[1.], [2.]])
          self.assertIsNone(result.dense_shape)

  def test_strings_and_booleans(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.string, [None])
      outputs = [tf.strings.join([x, x]), tf.equal(x, "a"),
                 tf.strings.length(x), tf.reduce_join(x)]
      joined, equal, lengths, all_ = gf.run(
          session, outputs, {x: ["a", "bc"]})
      self.assertEqual(joined.tolist(), [b"aa", b"bcbc"])
      self.assertEqual(equal.tolist(), [True, False])
      self.assertEqual(lengths.tolist(), [1, 2])
      self.assertEqual(all_, b"abc")

  @parameterized.parameters(
      tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.int8, tf.int16,
      tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64,
      tf.complex64, tf.complex128, tf.bool)
  def test_dtype_and_shape_as_in_session_run(self, dtype):
    with tf.Graph().as_default(), tf.Session() as session:
      for value in (1, [0, 1], [[1], [0]], np.ones((50, 100))):
        value = np.array(value).astype(dtype.as_numpy_dtype)
        x = tf.placeholder(dtype, None)
        y = tf.identity(x)
        expected = session.run(y, {x: value})
        f = gf.function(x, y, session=session)
        for _ in range(3):
          result = f(value)
          self.assertEqual(np.asarray(result).dtype, expected.dtype)
          self.assertEqual(np.shape(result), np.shape(expected))
          np.testing.assert_array_equal(result, expected)

  def test_scalars_are_numbers(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [])
      result = gf.function(x, x * 2., session=session)(3.)
      self.assertEqual("{:.2f}".format(result), "6.00")
      self.assertEqual(float(result), 6.)
      self.assertEqual(result.dtype, np.float32)

  def test_e2_none_is_explained(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      other = tf.placeholder(tf.float64, [])
      nothing = tf.gradients(x * x, other)[0]
      for call in (lambda: gf.run(session, [x, nothing], {x: 1.}),
                   lambda: gf.function(x, [x, nothing])):
        with self.assertRaisesRegex(
            gf.DisconnectedError, r"(?s)None.*Fix: .*gradfeed\.gradient"):
          call()

  def test_tensor_of_another_graph(self):
    with tf.Graph().as_default():
      stranger = tf.constant(1.)
      op = tf.no_op()
    with tf.Graph().as_default(), tf.Session() as session:
      for thing in (stranger, op):
        with self.assertRaises(gf.GraphMismatchError):
          gf.run(session, thing)

  @parameterized.parameters("nope:0", "nope", "x:3")
  def test_unknown_name(self, name):
    with tf.Graph().as_default(), tf.Session() as session:
      tf.placeholder(tf.float64, [], name="x")
      with self.assertRaisesRegex(gf.TensorNotFoundError, name):
        gf.run(session, name)

  @parameterized.parameters(3, 1.5, (np.ones(3),))
  def test_not_a_tensor(self, thing):
    with tf.Graph().as_default(), tf.Session() as session:
      with self.assertRaisesRegex(gf.ArgumentError, "not a tensor"):
        gf.run(session, thing)
