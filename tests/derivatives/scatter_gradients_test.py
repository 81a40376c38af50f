"""Scatters to one place twice, against differences in float64."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs
from tests.testing import numeric

_SAME = [[1], [1], [0]]


def _sparse(values):
  return tf.SparseTensor(np.array([[1, 0], [1, 0], [2, 1]], np.int64), values,
                         [3, 2])


def _list_stack(handle):
  return tf.raw_ops.TensorListStack(
      input_handle=handle, element_shape=np.array([], np.int32),
      element_dtype=tf.float64)


def _list_scatter(indices, values):
  return tf.raw_ops.TensorListScatterV2(
      tensor=values, indices=tf.reshape(indices, [-1]),
      element_shape=np.array([], np.int32), num_elements=2)


def _list_scatter_into(indices, values):
  handle = tf.raw_ops.TensorListFromTensor(
      tensor=tf.stack([values[0] * 2.0, values[1]]),
      element_shape=np.array([], np.int32))
  return _list_stack(tf.raw_ops.TensorListScatterIntoExistingList(
      input_handle=handle, tensor=values, indices=tf.reshape(indices, [-1])))


def _in_a_branch(indices, values):
  with flows.control_flow(2):
    return tf.cond(
        values[0] > -9.0, lambda: tf.tensor_scatter_nd_update(
            tf.ones([4], tf.float64), indices, values ** 2),
        lambda: tf.zeros([4], tf.float64))


def _in_a_loop(indices, values):
  with flows.control_flow(2):
    return tf.while_loop(
        lambda i, a: i < 2, lambda i, a: (i + 1, tf.tensor_scatter_nd_update(
            tf.sin(a), indices, a)), (0, values))[1]


#: (name, function of the indices, [3, 1], and of the values, [3]).
_SCATTERS = [
    ("update", lambda i, u: tf.tensor_scatter_nd_update(
        tf.concat([u, u[:1]], 0) ** 2, i, u)),
    ("update_of_rows", lambda i, u: tf.tensor_scatter_nd_update(
        tf.ones([3, 3], tf.float64), i, tf.tensordot(u, u, 0))),
    ("update_by_a_matrix", lambda i, u: tf.tensor_scatter_nd_update(
        tf.ones([4], tf.float64), tf.stack([i, i + 1]), tf.stack([u, 2 * u]))),
    ("add", lambda i, u: tf.tensor_scatter_nd_add(
        tf.concat([u, u], 0), i, u ** 2)),
    ("subtract", lambda i, u: tf.tensor_scatter_nd_sub(
        tf.concat([u, u], 0), i, u ** 2)),
    ("scatter", lambda i, u: tf.scatter_nd(i, u ** 2, [4])),
    ("stitch", lambda i, u: tf.dynamic_stitch(
        [i[:2, 0], i[1:, 0]], [u[:2], u[1:] ** 2])),
    ("to_dense", lambda i, u: tf.sparse_to_dense(
        i, [4], u, u[2] * 3, validate_indices=False)),
    ("to_dense_by_a_vector", lambda i, u: tf.sparse_to_dense(
        i[:, 0], [4], u, u[2] * 3, validate_indices=False)),
    ("sparse_to_dense", lambda i, u: tf.sparse_tensor_to_dense(
        _sparse(u), validate_indices=False)),
    ("sparse_product", lambda i, u: tf.sparse_tensor_dense_matmul(
        _sparse(u), tf.reshape(tf.concat([u, u[:1]], 0), [2, 2]))),
    ("sparse_sum", lambda i, u: tf.sparse_reduce_sum(_sparse(u), 1)),
    ("list", lambda i, u: _list_stack(_list_scatter(i, u))),
    ("list_into", _list_scatter_into),
    ("segment_sum", lambda i, u: tf.math.unsorted_segment_sum(
        u ** 2, i[:, 0], 3)),
    ("segment_mean", lambda i, u: tf.math.unsorted_segment_mean(
        u ** 2, i[:, 0], 3)),
    ("segment_product", lambda i, u: tf.math.unsorted_segment_prod(
        u ** 2, i[:, 0], 3)),
    ("segment_max", lambda i, u: tf.math.unsorted_segment_max(
        u ** 2, i[:, 0], 2)),
    ("gather", lambda i, u: tf.gather_nd(u ** 2, i)),
    ("in_a_branch", _in_a_branch),
    ("in_a_loop", _in_a_loop),
]


class ScatterTest(graphs.GraphTest):

  @parameterized.named_parameters(*_SCATTERS)
  def test_s24_an_index_twice(self, scatter):
    at, d = np.array([0.5, 1.2, -0.3]), np.array([1.0, -2.0, 0.7])
    x = tf.placeholder(tf.float64, [3], name="x")
    fed = tf.placeholder(tf.int32, [3, 1])
    for indices in (tf.constant(_SAME), fed):
      y = scatter(indices, x)
      fixed = {fed: _SAME} if indices is fed else {}

      def value(p, y=y, fixed=fixed):
        return self.session.run(y, {**fixed, x: p})

      w = np.random.RandomState(0).normal(size=value(at).shape)
      wanted = numeric.central_differences(
          lambda p, value=value, w=w: np.sum(w * value(p)), at)
      feed = {**fixed, x: at}
      np.testing.assert_allclose(
          self.session.run(gf.vjp(y, x, w), feed), wanted, atol=1e-7)
      jacobian = self.session.run(gf.jacobian(y, x), feed)
      np.testing.assert_allclose(
          np.tensordot(w, jacobian, w.ndim), wanted, atol=1e-7)
      np.testing.assert_allclose(
          self.session.run(gf.jvp(y, x, d), feed),
          np.tensordot(jacobian, d, 1), atol=1e-7)

  def test_s24_parts_that_are_apart_cost_nothing(self):
    x = tf.placeholder(tf.float64, [5])
    kind = tf.placeholder(tf.int32, [5])
    y = tf.dynamic_stitch(
        tf.dynamic_partition(tf.range(5), kind, 2),
        [part * part for part in tf.dynamic_partition(x, kind, 2)])
    dx = gf.gradient(y, x)
    self.assertFalse([op for op in self.graph.get_operations()
                      if op.type.startswith("Select")])
    np.testing.assert_allclose(self.session.run(dx, {
        x: np.arange(5.0), kind: [0, 1, 1, 0, 1]}), 2 * np.arange(5.0))

  def test_s24_tensorflow_keeps_its_gradients(self):
    u = tf.placeholder(tf.float64, [3])
    y = tf.tensor_scatter_nd_update(tf.ones([4], tf.float64), _SAME, u)
    gf.gradient(y, u)
    before = self.count()
    tf.gradients(y, u)
    self.assertLess(self.count() - before, 15)
    self.assertNotIn("SelectV2", {
        op.type for op in self.graph.get_operations()[before:]})
