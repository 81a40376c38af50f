"""Jacobians by columns: the tests of rows again, and which way is chosen."""

import unittest.mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.derivatives import forward_jacobians
from tests.derivatives import batch_jacobians_test
from tests.derivatives import jacobians_test
from tests.testing import flows
from tests.testing import graphs
from tests.testing import numeric as numeric_lib


def _image(x):
  return tf.reshape(tf.cast(x, tf.float32), [1, 4, 4, 1])


def _square(x):
  return tf.reshape(x, [4, 4])


#: Functions of 16 elements, most of them with a choice where some are equal.
_OPS = (
    ("abs", tf.abs),
    ("avg_pool", lambda x: tf.nn.avg_pool(
        _image(x), [1, 3, 3, 1], [1] * 4, "SAME")),
    ("batch_norm", lambda x: tf.nn.fused_batch_norm(
        tf.reshape(_image(x), [4, 2, 2, 1]), [1.0], [0.0])[0]),
    ("cholesky", lambda x: tf.linalg.cholesky(
        tf.matmul(_square(x), _square(x), transpose_b=True) +
        tf.eye(4, dtype=x.dtype))),
    ("clip_by_norm", lambda x: tf.clip_by_norm(x, 1.0)),
    ("clip_by_value", lambda x: tf.clip_by_value(x, -1.0, 1.0)),
    ("crop_and_resize", lambda x: tf.image.crop_and_resize(
        _image(x), [[0.1, 0.1, 0.8, 0.8]], [0], [3, 3])),
    ("gather", lambda x: tf.gather(x, [0, 0, 3])),
    ("lrn", lambda x: tf.nn.local_response_normalization(
        tf.reshape(_image(x), [1, 1, 1, 16]))),
    ("max_pool", lambda x: tf.nn.max_pool(
        _image(x), [1, 3, 3, 1], [1] * 4, "SAME")),
    ("max_pool_3d", lambda x: tf.nn.max_pool3d(
        tf.reshape(_image(x), [1, 2, 2, 4, 1]), [1, 2, 2, 2, 1], [1] * 5,
        "SAME")),
    ("maximum", lambda x: tf.maximum(x[:8], x[8:])),
    ("mirror_pad", lambda x: tf.pad(_square(x), [[1, 1]] * 2, "REFLECT")),
    ("reduce_max", lambda x: tf.reduce_max(_square(x), 1)),
    ("reduce_prod", lambda x: tf.reduce_prod(_square(x), 1)),
    ("relu6", tf.nn.relu6),
    ("resize", lambda x: tf.image.resize_nearest_neighbor(_image(x), [7, 7])),
    ("segment_max", lambda x: tf.math.segment_max(x, [0] * 8 + [1] * 8)),
    ("sort", tf.sort),
    ("top_k", lambda x: tf.nn.top_k(x, 5)[0]),
    ("xent", lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=[1, 2, 0, 3], logits=_square(x))),
)


class _AsColumns(parameterized.TestCase):
  """Tests of Jacobians, by columns wherever everything is real."""

  def setUp(self):
    super().setUp()
    self.enter_context(unittest.mock.patch.object(
        forward_jacobians, "_MOST_COLUMNS", 1e9))


class JacobianTest(_AsColumns, jacobians_test.JacobianTest):
  pass


class BatchJacobianTest(_AsColumns, batch_jacobians_test.BatchJacobianTest):
  pass


class CoupledRowsTest(_AsColumns, batch_jacobians_test.CoupledRowsTest):
  pass


class ModesTest(graphs.GraphTest):

  def wide(self, x):
    """A y of 60 elements."""
    w = tf.constant(np.random.RandomState(0).normal(size=[3, 60]))
    return tf.tanh(tf.reshape(tf.matmul(tf.reshape(x, [1, 3]), w), [12, 5]))

  def is_by_columns(self):
    return any("columns" in op.name.split("/")
               for op in self.graph.get_operations())

  @parameterized.named_parameters(
      ("forward", "forward"), ("reverse", "reverse"), ("auto", "auto"))
  def test_equals_central_differences(self, mode):
    x = tf.placeholder(tf.float64, [3])
    y = self.wide(x)
    f = gf.function(x, [y, gf.jacobian(y, x, mode=mode)], self.session)
    x_t = np.array([0.3, -0.2, 0.5])
    jacobian = f(x_t)[1]
    self.assertEqual(jacobian.shape, (12, 5, 3))
    for j, e in enumerate(np.eye(3) * 1e-6):
      np.testing.assert_allclose(
          jacobian[..., j], (f(x_t + e)[0] - f(x_t - e)[0]) / 2e-6, atol=1e-8)
    self.assertEqual(self.is_by_columns(), mode != "reverse")

  @parameterized.product(version=(1, 2), mode=("forward", "reverse"))
  def test_through_loops(self, version, mode):
    x = tf.placeholder(tf.float64, [2])
    with flows.control_flow(version):
      _, y = tf.while_loop(
          lambda i, h: i < 4, lambda i, h: (i + 1, tf.sin(h) * x[0] + x[1]),
          [tf.constant(0), tf.ones([7], tf.float64) * x[1]])
    f = gf.function(x, [y, gf.jacobian(y, x, mode=mode)], self.session)
    x_t = np.array([0.7, 0.4])
    for row, own in enumerate(f(x_t)[1]):
      np.testing.assert_allclose(own, numeric_lib.central_differences(
          lambda x_t, row=row: f(x_t)[0][row], x_t), atol=1e-7)

  @parameterized.product(
      mode=("forward", "reverse", "auto"), rows=(5, None), chunk=(None, 1))
  def test_of_each_row(self, mode, rows, chunk):
    x = tf.placeholder(tf.float64, [rows, 2])
    w = tf.constant(np.random.RandomState(0).normal(size=[2, 12]))
    y = tf.reshape(tf.tanh(tf.matmul(x, w)), [-1, 4, 3])
    y.set_shape([rows, 4, 3])
    f = gf.function(x, [gf.batch_jacobian(y, x, mode=mode, chunk=chunk), y],
                    self.session)
    x_t = np.random.RandomState(1).normal(size=[5, 2])
    blocks, y_t = f(x_t)
    self.assertEqual(
        any("column_blocks" in op.name.split("/")
            for op in self.graph.get_operations()), mode != "reverse")
    expected = (1 - y_t ** 2)[..., None] * np.transpose(
        self.session.run(w).reshape(2, 4, 3), [1, 2, 0])
    np.testing.assert_allclose(blocks, expected, atol=1e-12)

  def test_coupled_rows_have_no_columns(self):
    x = tf.placeholder(tf.float64, [3, 2])
    with self.assertRaisesRegex(gf.ArgumentError, "coupled"):
      gf.batch_jacobian(x * 2.0, x, coupled=True, mode="forward")

  @parameterized.named_parameters(("square", [4]), ("unknown", [None]))
  def test_rows_where_x_is_not_smaller(self, shape):
    x = tf.placeholder(tf.float64, shape)
    f = gf.function(x, gf.jacobian(tf.sin(x), x), self.session)
    np.testing.assert_allclose(
        f(np.arange(4.0)), np.diag(np.cos(np.arange(4.0))))
    self.assertFalse(self.is_by_columns())

  def test_an_unknown_axis_of_both_is_a_batch(self):
    x = tf.placeholder(tf.float64, [None, 2])
    y = tf.tanh(tf.matmul(x, tf.ones([2, 9], tf.float64)))
    f = gf.function(x, gf.jacobian(y, x), self.session)
    x_t = np.array([[0.1, 0.2], [0.3, -0.4]])
    own = (1 - np.tanh(x_t.sum(1)) ** 2)[:, None, None] * np.ones((2, 9, 2))
    np.testing.assert_allclose(
        f(x_t), own[:, :, None] * np.eye(2)[:, None, :, None])
    self.assertTrue(self.is_by_columns())

  def test_unknown_shapes_by_columns(self):
    x, z = [tf.placeholder(tf.float64, shape) for shape in (None, [None, 2])]
    y = tf.concat([tf.reshape(z, [-1]) ** 2, tf.reduce_sum(x)[None]], 0)
    dx, dz = gf.jacobian(y, [x, z], mode="forward", chunk=2)
    x_t, z_t = np.arange(6.0).reshape(1, 3, 2), np.array([[2.0, 3.0]] * 3)
    f = gf.function([x, z], [dx, dz], self.session)
    dx_t, dz_t = f(x_t, z_t)
    np.testing.assert_allclose(
        dx_t, np.concatenate([np.zeros((6, 1, 3, 2)), np.ones((1, 1, 3, 2))]))
    np.testing.assert_allclose(dz_t.reshape(7, 6), np.concatenate(
        [np.diag(2 * z_t.ravel()), np.zeros((1, 6))]))

  def test_ops_do_not_grow_with_the_inputs(self):
    counts = []
    for size in (4, 40):
      with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float64, [size])
        gf.jacobian(tf.tanh(tf.ones([300, size], tf.float64) * x), x)
        self.assertIn("columns", " ".join(
            op.name for op in graph.get_operations()))
        counts.append(len(graph.get_operations()))
    self.assertEqual(counts[0], counts[1])

  @parameterized.named_parameters(*_OPS)
  def test_columns_are_rows_where_elements_are_equal(self, function):
    x = tf.placeholder(tf.float64, [16])
    y = tf.concat([tf.reshape(function(x), [-1])] * 40, 0)
    f = gf.function(x, [gf.jacobian(y, x), gf.jacobian(y, x, mode="reverse")],
                    self.session)
    for x_t in (np.random.RandomState(0).normal(size=16),
                np.array([0.0, 0.0, 1.0, 1.0] * 4)):
      np.testing.assert_allclose(*f(x_t), rtol=1e-5, atol=1e-6)

  def test_a_gradient_of_its_own_that_is_not_linear(self):
    @tf.custom_gradient
    def clipped(x):
      return tf.identity(x), lambda dy: tf.clip_by_value(3 * dy, -0.5, 0.5)

    x = tf.placeholder(tf.float64, [2])
    y = self.wide(tf.concat([clipped(x), [1.0]], 0))
    f = gf.function(x, [gf.jacobian(y, x), gf.gradient(y[0, 0], x)],
                    self.session)
    jacobian, row = f([0.3, 0.4])
    np.testing.assert_allclose(jacobian[0, 0], row)
    self.assertFalse(self.is_by_columns())

  def test_without_second_derivatives(self):
    x = tf.placeholder(tf.float64, [3])
    y = self.wide(tf.nn.softsign(x))
    f = gf.function(x, [gf.jacobian(y, x), gf.gradient(y[0, 0], x)],
                    self.session)
    jacobian, row = f([0.3, 0.4, 0.5])
    np.testing.assert_allclose(jacobian[0, 0], row)
    self.assertFalse(self.is_by_columns())
    with self.assertRaisesRegex(gf.MissingGradientError, "Softsign"):
      gf.jacobian(y, x, mode="forward")

  def test_where_the_gradient_of_an_op_passes_nothing_on(self):
    x = tf.placeholder(tf.float32, [1, 2, 2, 1])
    y = tf.image.resize_bilinear(x, [5, 5])
    f = gf.function(x, [y, gf.jacobian(y, x)], self.session)
    x_t = np.random.RandomState(0).normal(size=[1, 2, 2, 1])
    y_t, jacobian = f(x_t)
    np.testing.assert_allclose(np.tensordot(jacobian, x_t, 4), y_t, rtol=1e-5)
    self.assertFalse(self.is_by_columns())
    with self.assertRaisesRegex(gf.MissingGradientError, "reverse"):
      gf.jacobian(y, x, mode="forward")

  def test_the_dtype_is_that_of_x(self):
    x = tf.placeholder(tf.float64, [None, 2])
    y = tf.tile(tf.cast(x, tf.float32) ** 2, [1, 5])
    for j in (gf.jacobian(y, x), gf.batch_jacobian(y, x)):
      self.assertEqual(j.dtype, tf.float64)
      np.testing.assert_allclose(
          np.reshape(self.session.run(j, {x: [[1.5, 2.5]]}), [5, 2, 2]),
          [np.diag([3.0, 5.0])] * 5)
    self.assertTrue(self.is_by_columns())

  def test_the_second_derivative_of_columns(self):
    x = tf.placeholder(tf.float64, [2])
    y = tf.stack([x[0] ** 3 * x[1], x[1] ** 2, x[0], x[0] * x[1], x[1] * 1.0])
    jacobian = gf.jacobian(y, x, mode="forward")
    second = gf.gradient(tf.reduce_sum(jacobian ** 2), x)
    a, b = 1.5, 0.5
    np.testing.assert_allclose(
        gf.function(x, second, self.session)([a, b]),
        [36 * a ** 3 * b ** 2 + 6 * a ** 5 + 2 * a,
         18 * a ** 4 * b + 8 * b + 2 * b])

  def test_one_forward_pass_with_random_numbers(self):
    x = tf.placeholder(tf.float64, [2])
    y = tf.reshape(tf.random_uniform([9, 1], dtype=tf.float64) * x, [18]) ** 2
    f = gf.function(x, [y, gf.jacobian(y, x)], self.session)
    x_t = np.array([2.0, 3.0])
    y_t, jacobian = f(x_t)
    np.testing.assert_allclose(np.sum(jacobian * x_t, 1), 2 * y_t)
    self.assertTrue(self.is_by_columns())

  @parameterized.named_parameters(
      ("name", "rows"), ("number", 1), ("none", None), ("list", ["auto"]))
  def test_a_mode_that_there_is_not(self, mode):
    x = tf.placeholder(tf.float64, [2])
    y, before = x * x, self.count()
    with self.assertRaisesRegex(gf.ArgumentError, "(?s)mode is .*'forward'"):
      gf.jacobian(y, x, mode=mode)
    self.assertEqual(self.count(), before)

  def test_complex_tensors_have_no_columns(self):
    x = tf.placeholder(tf.complex128, [2])
    y = tf.concat([x * x] * 4, 0)
    with self.assertRaisesRegex(gf.ArgumentError, "complex"):
      gf.jacobian(y, x, mode="forward")
    gf.jacobian(y, x)
    self.assertFalse(self.is_by_columns())
