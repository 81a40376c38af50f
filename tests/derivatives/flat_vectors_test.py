"""flatten, unflatten, and derivatives as one vector (`flat=True`)."""

import collections

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import graphs


def _numbers(*shape):
  return np.random.RandomState(sum(shape) + 1).normal(size=shape)


def _halves(**unused_kwargs):
  """A partitioner that cuts the last axis of a matrix into two."""
  return [1, 2]


class FlattenTest(graphs.GraphTest):

  def test_has_the_order_of_tf_nest(self):
    pair = collections.namedtuple("Pair", ["second", "first"])
    structure = {"z": [tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant(5.0)],
                 "a": pair(tf.constant([6.0]), (tf.constant([[7.0]]),))}
    expected = np.concatenate([
        leaf.ravel() for leaf in self.session.run(tf.nest.flatten(structure))])
    vector = gf.flatten(structure)
    self.assertEqual(vector.shape.as_list(), [7])
    np.testing.assert_array_equal(self.session.run(vector), expected)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_of_variables_back_and_forth(self, use_resource):
    w = graphs.variable("w", _numbers(2, 3), use_resource)
    p = graphs.variable("p", _numbers(2, 4), use_resource, _halves)
    vector = gf.flatten([w, p])
    w_again, p_again = gf.unflatten(vector, [w, p])
    self.initialize()
    np.testing.assert_array_equal(
        self.session.run(vector),
        np.concatenate([_numbers(2, 3).ravel(), _numbers(2, 4).ravel()]))
    np.testing.assert_array_equal(self.session.run(w_again), _numbers(2, 3))
    np.testing.assert_array_equal(self.session.run(p_again), _numbers(2, 4))

  def test_adds_ops_once(self):
    x = tf.placeholder(tf.float32, [None, 2])
    y = tf.placeholder(tf.float32, [3])
    vector = gf.flatten([x, y])
    again = gf.unflatten(vector, {"x": x, "y": y})
    count = self.count()
    self.assertIs(gf.flatten([x, y]), vector)
    self.assertIs(gf.unflatten(vector, {"x": x, "y": y})["x"], again["x"])
    self.assertEqual(self.count(), count)

  def test_unknown_shapes_are_those_of_the_run(self):
    x = tf.placeholder(tf.float32, [None, 2])
    z = tf.placeholder(tf.float32)
    v = tf.placeholder(tf.float32, [None])
    parts = gf.function([v, x, z], gf.unflatten(v, [x, z]), self.session)
    first, second = parts(np.arange(7.0), np.zeros([2, 2]), np.zeros([1, 3]))
    np.testing.assert_array_equal(first, [[0.0, 1.0], [2.0, 3.0]])
    np.testing.assert_array_equal(second, [[4.0, 5.0, 6.0]])
    with self.assertRaisesRegex(gf.FeedError, "another length than the 2"):
      parts(np.arange(8.0), np.zeros([2, 2]), np.zeros([1, 3]))

  def test_one_tensor_of_unknown_shape_takes_all(self):
    x, v = tf.placeholder(tf.float32), tf.placeholder(tf.float32)
    part = gf.function([v, x], gf.unflatten(v, x), self.session)
    np.testing.assert_array_equal(part([1.0, 2.0], [[0.0], [0.0]]), [[1], [2]])
    with self.assertRaisesRegex(gf.FeedError, "another length"):
      part([1.0, 2.0, 3.0], [[0.0], [0.0]])

  def test_of_indexed_slices_sums_equal_rows(self):
    slices = tf.IndexedSlices(
        tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        tf.constant([2, 0, 2]), tf.constant([3, 2]))
    np.testing.assert_array_equal(
        self.session.run(gf.flatten(slices)), [3, 4, 0, 0, 6, 8])
    bare = tf.IndexedSlices(tf.constant([[1.0]]), tf.constant([0]))
    with self.assertRaisesRegex(gf.ArgumentError, "do not tell their shape"):
      gf.flatten(bare)

  def test_of_arrays_is_an_array(self):
    arrays = {"w": np.ones([2, 2], np.float32), "b": np.zeros(1, np.float32)}
    count = self.count()
    vector = gf.flatten(arrays)
    self.assertIsInstance(vector, np.ndarray)
    self.assertEqual(vector.dtype, np.float32)
    np.testing.assert_array_equal(vector, [0, 1, 1, 1, 1])
    back = gf.unflatten(vector, arrays)
    np.testing.assert_array_equal(back["w"], arrays["w"])
    w = tf.placeholder(tf.float32, [2, 2])
    count += 1
    self.assertIsInstance(gf.unflatten(np.arange(4.0), w), np.ndarray)
    self.assertEqual(self.count(), count)

  def test_arrays_among_tensors_are_constants(self):
    x = tf.placeholder(tf.float64, [1])
    vector = gf.flatten([x, np.array([2.0])])
    self.assertIs(gf.flatten([x, np.array([2.0])]), vector)
    self.assertIsNot(gf.flatten([x, np.array([3.0])]), vector)
    np.testing.assert_array_equal(self.session.run(vector, {x: [1.0]}), [1, 2])

  def test_names_what_does_not_fit(self):
    x = tf.placeholder(tf.float32, [2], name="x")
    odd = tf.placeholder(tf.float64, [2], name="odd")
    any_rows = tf.placeholder(tf.float32, [None, 2], name="any_rows")
    count = self.count()
    for error, text, call in [
        (gf.ArgumentError, "'odd:0' .* another dtype than 'x:0'",
         lambda: gf.flatten([x, odd])),
        (gf.ArgumentError, r"array \(int64.* another dtype than an array",
         lambda: gf.flatten([np.ones(1), np.ones(1, np.int64)])),
        (gf.ArgumentError, "empty", lambda: gf.flatten([])),
        (gf.ArgumentError, "empty", lambda: gf.unflatten(x, {})),
        (gf.ArgumentError, "None is a NoneType", lambda: gf.flatten([x, None])),
        (gf.ArgumentError, r"vector has shape \[2\], not \[4\]",
         lambda: gf.unflatten(x, [x, x])),
        (gf.ArgumentError, r"vector has shape \[3\], not \[2\]",
         lambda: gf.unflatten(np.ones(3), x)),
        (gf.ArgumentError, "'any_rows:0' .* not known before",
         lambda: gf.unflatten(np.ones(4), any_rows)),
        (gf.ArgumentError, r"vector has shape \[\?, 2\]",
         lambda: gf.unflatten(any_rows, any_rows))]:
      with self.subTest(text), self.assertRaisesRegex(error, text):
        call()
    self.assertEqual(self.count(), count)


class FlatDerivativesTest(graphs.GraphTest):
  """Against dense matrices in closed form, in float64."""

  def network(self, use_resource):
    """A loss by w, p (partitioned) and b, with every derivative by hand.

    The loss is a cubic form of all weights z: s = A z, sum(s^3) / 6, with
    gradient A^T s^2 / 2 and Hessian A^T diag(s) A.
    """
    self.w = graphs.variable("w", _numbers(2, 3), use_resource)
    self.p = graphs.variable("p", _numbers(2, 4), use_resource, _halves)
    self.b = graphs.variable("b", _numbers(2), use_resource)
    self.xs = {"w": self.w, "p": self.p, "b": [self.b]}
    self.matrix = _numbers(5, 16)
    p = tf.convert_to_tensor(self.p)
    z = tf.concat([tf.reshape(part, [-1]) for part in (
        self.b, p, self.w)], 0)  # The order of sorted keys.
    self.z_t = np.concatenate([
        _numbers(2), _numbers(2, 4).ravel(), _numbers(2, 3).ravel()])
    self.s = tf.linalg.matvec(self.matrix, z)
    self.s_t = self.matrix.dot(self.z_t)
    self.loss = tf.reduce_sum(self.s ** 3.0) / 6.0
    self.initialize()

  @parameterized.named_parameters(*graphs.KINDS)
  def test_agree_with_closed_forms(self, use_resource):
    self.network(use_resource)
    v = tf.placeholder(tf.float64, [16])
    free = tf.placeholder(tf.float64, [None])
    u = tf.placeholder(tf.float64, [5])
    loss, s, xs = self.loss, self.s, self.xs

    def build():
      return [gf.gradient(loss, xs, flat=True),
              gf.value_and_gradient(loss, xs, flat=True)[1],
              gf.vjp(s, xs, u, flat=True),
              gf.jvp(s, xs, v, flat=True), gf.jvp(s, xs, free, flat=True),
              gf.jvp(s, xs, _numbers(16), flat=True),
              gf.hvp(loss, xs, v, flat=True), gf.hvp(loss, xs, free, flat=True),
              gf.hvp(loss, xs, _numbers(16), flat=True),
              gf.hessian(loss, xs, flat=True), gf.jacobian(s, xs, flat=True),
              gf.jacobian({"loss": [loss]}, xs, flat=True)["loss"][0]]

    built = build()
    count = self.count()
    for tensor, again in zip(built, build()):
      self.assertIs(tensor, again)
    self.assertEqual(self.count(), count)
    v_t, u_t = _numbers(16), _numbers(5)
    hessian = self.matrix.T.dot(self.s_t[:, None] * self.matrix)
    gradient = self.matrix.T.dot(self.s_t ** 2.0) / 2.0
    forward = self.matrix.dot(v_t)
    expected = [gradient, gradient, self.matrix.T.dot(u_t), forward, forward,
                forward, hessian.dot(v_t), hessian.dot(v_t), hessian.dot(v_t),
                hessian, self.matrix, gradient]
    results = self.session.run(built, {v: v_t, free: v_t, u: u_t})
    for tensor, result, right in zip(built, results, expected):
      self.assertEqual(tensor.shape.as_list(), list(right.shape))
      np.testing.assert_allclose(result, right, rtol=1e-10, atol=1e-10)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_at_other_weights(self, use_resource):
    self.network(use_resource)
    v = tf.placeholder(tf.float64, [None])
    f = gf.function([self.w, self.b, v], [
        gf.gradient(self.loss, [self.w, self.b], flat=True),
        gf.hvp(self.loss, [self.w, self.b], v, flat=True)], self.session)
    w_t, b_t, v_t = _numbers(2, 3) + 1.0, _numbers(2) - 1.0, _numbers(8)
    z_t = np.concatenate([b_t, _numbers(2, 4).ravel(), w_t.ravel()])
    s_t, order = self.matrix.dot(z_t), list(range(10, 16)) + [0, 1]
    part = self.matrix[:, order]
    gradient, product = f(w_t, b_t, v_t)
    np.testing.assert_allclose(gradient, part.T.dot(s_t ** 2.0) / 2.0)
    np.testing.assert_allclose(product, part.T.dot(s_t * part.dot(v_t)))
    with self.assertRaisesRegex(gf.GradfeedError, "shape|length"):
      f(w_t, b_t, np.ones(9))

  def test_unknown_shapes(self):
    x = tf.placeholder(tf.float32, [None, 2])
    z = tf.placeholder(tf.float32)
    v = tf.placeholder(tf.float32, [None])
    loss = tf.reduce_sum(x ** 3.0) + tf.reduce_sum(x) * tf.reduce_sum(z ** 2.0)
    f = gf.function([x, z, v], [
        gf.gradient(loss, [x, z], flat=True),
        gf.hvp(loss, [x, z], v, flat=True),
        gf.hessian(loss, [x, z], flat=True),
        gf.jacobian(x * 2.0, [x], flat=True)], self.session)
    x_t, z_t = np.array([[1.0, 2.0]]), np.array([3.0, -1.0, 2.0])
    hessian = np.diag([6.0, 12.0, 6.0, 6.0, 6.0])
    hessian[:2, 2:] = 2.0 * z_t
    hessian[2:, :2] = 2.0 * z_t[:, None]
    v_t = np.arange(5.0)
    gradient, product, dense, jacobian = f(x_t, z_t, v_t)
    np.testing.assert_allclose(
        gradient, np.concatenate([[17.0, 26.0], 6.0 * z_t]))
    np.testing.assert_allclose(product, hessian.dot(v_t))
    np.testing.assert_allclose(dense, hessian)
    np.testing.assert_allclose(jacobian, 2.0 * np.eye(2).reshape(1, 2, 2))

  @parameterized.named_parameters(*graphs.KINDS)
  def test_embeddings_are_dense(self, use_resource):
    table = graphs.variable("table", _numbers(4, 2), use_resource)
    b = graphs.variable("b", _numbers(2), use_resource)
    rows = tf.gather(table, [3, 1, 3])
    loss = tf.reduce_sum(rows ** 2.0) / 2.0 + tf.reduce_sum(b)
    self.initialize()
    counts = np.array([0.0, 1.0, 0.0, 2.0])[:, None]
    v_t = _numbers(10)
    gradient, product = self.session.run([
        gf.gradient(loss, [table, b], flat=True),
        gf.hvp(loss, [table, b], v_t, flat=True)])
    np.testing.assert_allclose(gradient, np.concatenate([
        (counts * _numbers(4, 2)).ravel(), np.ones(2)]))
    np.testing.assert_allclose(product, np.concatenate([
        (counts * v_t[:8].reshape(4, 2)).ravel(), np.zeros(2)]))

  def test_unconnected(self):
    x, z = tf.placeholder(tf.float64, [2]), tf.placeholder(tf.float64, [3])
    y = tf.reduce_sum(x * x)
    count = self.count()
    with self.assertRaises(gf.DisconnectedError):
      gf.gradient(y, [x, z], flat=True)
    with self.assertRaisesRegex(gf.ArgumentError, "unconnected='none'"):
      gf.gradient(y, [x, z], unconnected="none", flat=True)
    self.assertEqual(self.count(), count)
    for call, expected in [
        (lambda: gf.gradient(y, [x, z], unconnected="zero", flat=True),
         [2, 4, 0, 0, 0]),
        (lambda: gf.vjp(y, [z, x], 1.0, unconnected="zero", flat=True),
         [0, 0, 0, 2, 4]),
        (lambda: gf.jacobian([y], [x, z], unconnected="zero", flat=True)[0],
         [2, 4, 0, 0, 0]),
        (lambda: gf.jvp(y, [x, z], np.ones(5), unconnected="zero", flat=True),
         6)]:
      np.testing.assert_allclose(
          self.session.run(call(), {x: [1.0, 2.0]}), expected)

  def test_refuses_before_an_op_is_built(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    half = tf.placeholder(tf.float32, [2], name="half")
    v = tf.placeholder(tf.float64, [5], name="v")
    y = tf.reduce_sum(x * tf.cast(half, tf.float64))
    rounded = tf.reduce_sum(tf.round(x))
    count = self.count()
    for error, text, call in [
        (gf.ArgumentError, "'half:0' .* another dtype than 'x:0'",
         lambda: gf.gradient(y, [x, half], flat=True)),
        (gf.ArgumentError, "another dtype",
         lambda: gf.hessian(y, [x, half], flat=True)),
        (gf.ArgumentError, "sparse=True",
         lambda: gf.vjp(y, x, 1.0, sparse=True, flat=True)),
        (gf.ArgumentError, "flat='yes' is neither",
         lambda: gf.gradient(y, x, flat="yes")),
        (gf.TangentError, r"v has shape \[5\], not \[2\]",
         lambda: gf.hvp(y, x, v, flat=True)),
        (gf.TangentError, r"v has shape \[3\], not \[2\]",
         lambda: gf.jvp(y, x, np.ones(3), flat=True)),
        (gf.TangentError, "dtype",
         lambda: gf.jvp(y, x, half, flat=True)),
        (gf.DisconnectedError, "Round",
         lambda: gf.hvp(rounded, x, v[:2], flat=True))]:
      with self.subTest(text), self.assertRaisesRegex(error, text):
        call()
        self.fail()
    self.assertEqual(self.count(), count + 4)  # The slice of v is the test's.
