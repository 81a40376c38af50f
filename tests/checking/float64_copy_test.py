"""Copies in float64: the same function, and nothing of the caller's touched."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed.checking import evaluation_points
from gradfeed.checking import float64_copy
from gradfeed import errors
from gradfeed.graph import tensors
from tests.testing import flows
from tests.testing import graphs

_ROWS = np.random.RandomState(0).normal(size=[3, 4])

_IMAGES = np.random.RandomState(1).normal(size=[2, 5, 6, 3])


def _normal(*shape):
  return np.random.RandomState(2).normal(size=shape)


def _convolution(x):
  h = tf.nn.conv2d(x, tf.constant(_normal(3, 3, 3, 4), x.dtype),
                   [1, 1, 1, 1], "SAME")
  return tf.nn.max_pool(tf.nn.relu(h), [1, 2, 2, 1], [1, 2, 2, 1], "SAME")


def _normalization(training, layout="NHWC"):
  def build(x):
    scale, offset, mean, variance = [
        tf.constant(np.abs(_normal(3)) + 0.1 * i, tf.float32)
        for i in range(4)]
    h = tf.transpose(x, [0, 3, 1, 2]) if layout == "NCHW" else x
    if x.dtype == tf.float64:  # It has no such kernel: the closed form.
      if training:
        mean, variance = tf.nn.moments(x, [0, 1, 2])
      else:
        mean, variance = tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)
      return tf.nn.batch_normalization(
          x, mean, variance, tf.cast(offset, x.dtype),
          tf.cast(scale, x.dtype), 1e-3)
    given = {} if training else dict(mean=mean, variance=variance)
    h = tf.nn.fused_batch_norm(
        h, scale, offset, is_training=training, data_format=layout, **given)[0]
    return tf.transpose(h, [0, 2, 3, 1]) if layout == "NCHW" else h
  return build


def _loop(x):
  w = tf.constant(_normal(4, 4), x.dtype)
  return tf.while_loop(lambda i, h: i < 4, lambda i, h: (
      i + 1, tf.tanh(tf.matmul(h, w))), [0, x])[1]


def _branch(x):
  w = tf.constant(_normal(4, 4), x.dtype)
  return tf.cond(tf.reduce_sum(x) > -100.0, lambda: tf.matmul(x, w) * 2.5,
                 lambda: tf.matmul(x, 3.0 * w) - 1.0)


def _arrays(x):
  array = tf.TensorArray(x.dtype, 3)
  array = tf.while_loop(
      lambda i, a: i < 3, lambda i, a: (i + 1, a.write(
          i, tf.sin(x) * tf.cast(i, x.dtype))), [0, array])[1]
  return array.stack()


class Float64CopyTest(graphs.GraphTest):

  def _copy_and_sources(self, y, x, x_t, feeds=None):
    before = self.count()
    copy = float64_copy.Float64Copy(self.graph, [y], [tensors.Dense(x)],
                                      set())
    self.assertEqual(self.count(), before)
    feeds = dict(feeds or {})
    feeds[x] = x_t
    return copy, self.session.run(copy.sources, feeds)

  @parameterized.named_parameters(
      ("convolution", _convolution, _IMAGES),
      ("inference", _normalization(False), _IMAGES),
      ("training", _normalization(True), _IMAGES),
      ("loop_of_v1", _loop, _ROWS, 1), ("loop_of_v2", _loop, _ROWS, 2),
      ("branch_of_v1", _branch, _ROWS, 1),
      ("branch_of_v2", _branch, _ROWS, 2),
      ("arrays_of_v1", _arrays, _ROWS, 1), ("arrays_of_v2", _arrays, _ROWS, 2),
      ("casts", lambda x: tf.cast(tf.cast(x, tf.float16), x.dtype) ** 2
       if x.dtype == tf.float32 else x ** 2, _ROWS))
  def test_has_the_values_and_gradients_of_a_graph_in_float64(
      self, build, x_t, flow=None):
    with flows.control_flow(flow):
      x = tf.placeholder(tf.float32, [None] + list(x_t.shape[1:]))
      y = build(x)
      wide = tf.placeholder(tf.float64, x_t.shape)
      expected = build(wide)
      slopes, = tf.gradients(expected, wide)
    copy, sources = self._copy_and_sources(y, x, x_t)
    value, = copy.values([x_t], sources)
    wanted = self.session.run([expected, slopes], {wide: x_t})
    self.assertEqual(value.dtype, np.float64)
    # Constants were rounded to float32 before: numbers differ by that.
    np.testing.assert_allclose(value, wanted[0], 1e-5, 1e-5)
    gradient, = copy.gradients([x_t], sources, [np.ones_like(value)])
    np.testing.assert_allclose(gradient, wanted[1], 1e-5, 1e-5)
    self.assertEqual(copy.eps, np.finfo(np.float64).eps)
    # The gradient is that of the values to many more digits than float32 has.
    v = np.random.RandomState(3).normal(size=x_t.shape)
    above, below = [np.sum(copy.values([x_t + step * v], sources)[0])
                    for step in (1e-5, -1e-5)]
    slope = np.sum(gradient * v)
    self.assertLess(abs((above - below) / 2e-5 - slope),
                    1e-7 * max(1.0, np.sum(np.abs(gradient * v))))

  @parameterized.parameters(1, 2)
  def test_a_branch_without_x_has_a_value_only_where_it_is_taken(self, flow):
    x = tf.placeholder(tf.float32, [None, 4])
    w = tf.placeholder(tf.float32, [None, 4])
    is_first = tf.placeholder(tf.bool, [])
    with flows.control_flow(flow):
      y = tf.cond(is_first, lambda: 3.0 * x, lambda: tf.exp(w))
    for taken, expected in ((True, 3.0 * _ROWS), (False, np.exp(_ROWS))):
      copy = float64_copy.Float64Copy(
          self.graph, [y], [tensors.Dense(x)], set())
      point = evaluation_points.EvaluationPoint(
          self.graph, x, _ROWS, self.session, {is_first: taken, w: _ROWS})
      sources = point.sample(copy.sources)
      for _ in range(5):
        np.testing.assert_allclose(
            copy.values([_ROWS], sources)[0], expected, 1e-5)

  def test_an_op_without_a_float64_form_stays_between_casts(self):
    x = tf.placeholder(tf.float32, [None, 5, 6, 3])
    y = tf.nn.lrn(tf.exp(x)) * 2.0
    copy, sources = self._copy_and_sources(y, x, _IMAGES)
    value, = copy.values([_IMAGES], sources)
    self.assertEqual(value.dtype, np.float64)
    np.testing.assert_allclose(
        value, self.session.run(y, {x: _IMAGES}), 1e-6)
    self.assertEqual(copy.eps, np.finfo(np.float32).eps)

  def test_a_function_in_python_gets_the_dtype_that_it_wants(self):
    seen = []
    x = tf.placeholder(tf.float32, [None])
    y = tf.py_func(lambda a: seen.append(a.dtype) or 2 * a, [x], tf.float32) + x
    copy, sources = self._copy_and_sources(y, x, [1.0])
    np.testing.assert_allclose(copy.values([[1.0, 2.0]], sources)[0], [3, 6])
    self.assertEqual(set(seen), {np.dtype(np.float32)})

  @parameterized.named_parameters(*graphs.KINDS)
  def test_variables_keep_their_values_and_are_read_once(self, use_resource):
    w = graphs.variable("w", _normal(4, 2), use_resource)
    x = tf.placeholder(tf.float64, [None, 4])
    y = tf.tanh(tf.matmul(x, w))
    self.initialize()
    copy, sources = self._copy_and_sources(y, x, _ROWS)
    for k in (1.0, 2.0):
      np.testing.assert_allclose(
          copy.values([k * _ROWS], sources)[0],
          np.tanh(k * _ROWS.dot(_normal(4, 2))))
    np.testing.assert_array_equal(self.session.run(w), _normal(4, 2))

  @parameterized.named_parameters(*graphs.KINDS)
  def test_by_a_variable(self, use_resource):
    w = graphs.variable("w", _normal(4, 2), use_resource)
    x = tf.placeholder(tf.float64, [None, 4])
    y = tf.matmul(x, w) ** 2
    self.initialize()
    point = tensors.dense_of_variable(w)
    copy = float64_copy.Float64Copy(self.graph, [y], [point], set())
    new_value = _normal(4, 2) + 1.0
    sources = self.session.run(copy.sources, {x: _ROWS})
    np.testing.assert_allclose(
        copy.values([new_value], sources)[0], _ROWS.dot(new_value) ** 2)

  def test_does_not_print(self):
    x = tf.placeholder(tf.float32, [None])
    y = tf.Print(x * 2.0, [x], "never twice") + 1.0
    copy, sources = self._copy_and_sources(y, x, [1.0])
    self.assertNotIn("Print", [
        op.type for op in copy.values.__self__._graph_of_copy.get_operations()])
    np.testing.assert_allclose(copy.values([[3.0]], sources)[0], [7.0])

  def test_what_looks_at_bits_is_refused(self):
    x = tf.placeholder(tf.float32, [None])
    y = tf.cast(tf.bitcast(x, tf.int32), tf.float32)
    with self.assertRaisesRegex(
        errors.UnsupportedGraphError, "no copy of this graph in float64"):
      float64_copy.Float64Copy(self.graph, [y], [tensors.Dense(x)], set())

  def test_second_derivatives(self):
    x = tf.placeholder(tf.float32, [3])
    copy, sources = self._copy_and_sources(tf.exp(2.0 * x), x, np.zeros(3))
    x_t, v = np.array([0.1, 0.2, 0.3]), np.array([1.0, -1.0, 2.0])
    second, = copy.seconds([x_t], sources, [np.ones(3)], [v])
    np.testing.assert_allclose(second, 4.0 * np.exp(2.0 * x_t) * v, 1e-12)


class AlignedTest(parameterized.TestCase):

  @parameterized.parameters(
      ((), np.float64), ((3,), np.float64), ((5, 7), np.complex128),
      ((0, 2), np.float64), ((9,), np.int32), ((2, 2), np.bool_))
  def test_has_the_values_at_an_address_that_is_not_copied(self, shape, dtype):
    value = np.random.RandomState(0).normal(size=shape).astype(np.float32)
    result = float64_copy._aligned(value, np.dtype(dtype))
    self.assertEqual(result.dtype, dtype)
    np.testing.assert_array_equal(result, value.astype(dtype))
    if result.size:
      self.assertEqual(result.ctypes.data % 64, 0)
