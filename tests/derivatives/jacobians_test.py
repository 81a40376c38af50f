"""vjp, jvp and jacobian: closed forms, identities, every shape and kind."""

import collections
import unittest.mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.rewriting import vectorization
from tests.testing import flows
from tests.testing import graphs
from tests.testing import numeric as numeric_lib

_Pair = collections.namedtuple("_Pair", ["left", "right"])


def _network(x):
  """A smooth function from [?, 3] to [?, 4] of independent rows."""
  w = tf.constant(np.random.RandomState(0).normal(size=[3, 4]))
  return tf.tanh(tf.matmul(x, w)) * tf.reduce_sum(x * x, 1, keepdims=True)


class VjpTest(graphs.GraphTest):

  def test_weighs_the_rows_of_the_jacobian(self):
    x = tf.placeholder(tf.float64, [None, 3])
    v = tf.placeholder(tf.float64, [None, 4])
    y = _network(x)
    f = gf.function([x, v], [gf.vjp(y, x, v), gf.jacobian(y, x)],
                    session=self.session)
    random = np.random.RandomState(1)
    v_t = random.normal(size=[5, 4])
    product, jacobian = f(random.normal(size=[5, 3]), v_t)
    np.testing.assert_allclose(
        product, np.einsum("ij,ijkl->kl", v_t, jacobian), rtol=1e-9,
        atol=1e-12)

  @parameterized.named_parameters(
      ("array", lambda: np.array([3.0, 10.0])),
      ("list", lambda: [3, 10]),
      ("tensor", lambda: tf.constant([3.0, 10.0], tf.float64)),
      ("name", lambda: tf.constant([3.0, 10.0], tf.float64).name))
  def test_v_of_each_kind(self, make):
    x = tf.placeholder(tf.float64, [2])
    dx = gf.vjp(x * x, x, make())
    np.testing.assert_allclose(
        self.session.run(dx, {x: [1.0, 2.0]}), [6.0, 40.0])

  def test_of_structures(self):
    x = tf.placeholder(tf.float64, [2])
    dx = gf.vjp({"a": x * x, "b": [tf.reduce_sum(x)]}, [x],
                {"a": [1.0, 0.0], "b": [100.0]})
    np.testing.assert_allclose(
        self.session.run(dx, {x: [1.0, 2.0]}), [[102.0, 100.0]])

  def test_s13_v_has_the_shape_and_dtype_of_y(self):
    x = tf.placeholder(tf.float64, [3, 2])
    y = tf.square(x, name="y")
    before = self.count()
    for v in (1.0, np.ones([3, 1]), np.ones([3, 2], np.complex64),
              np.full([3, 2], "a")):
      with self.assertRaisesRegex(gf.CotangentError, "(?s)cotangent v.*'y:0'"):
        gf.vjp(y, x, v)
    with self.assertRaisesRegex(gf.CotangentError, "(?s)no v for.*'y:0'"):
      gf.vjp(y, x, None)
    with self.assertRaisesRegex(gf.CotangentError, "structure of y"):
      gf.vjp([y, y], x, [np.ones([3, 2])])
    self.assertEqual(self.count(), before)

  def test_s13_v_of_another_shape_at_run_time(self):
    x = tf.placeholder(tf.float64, [None])
    v = tf.placeholder(tf.float64, [None], name="v")
    f = gf.function([x, v], gf.vjp(tf.square(x, name="y"), x, v),
                    session=self.session)
    with self.assertRaisesRegex(
        gf.CotangentError, "(?s)cotangent v 'v:0'.*'y:0'"):
      f([1.0, 2.0], [1.0])

  def test_unconnected(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    z = tf.placeholder(tf.float64, [2], name="z")
    with self.assertRaisesRegex(gf.DisconnectedError, "'z:0'"):
      gf.vjp(x * x, [x, z], [1.0, 1.0])
    dz = gf.vjp(x * x, [x, z], [1.0, 1.0], unconnected="zero")[1]
    np.testing.assert_array_equal(self.session.run(dz), [0.0, 0.0])


class JacobianTest(graphs.GraphTest):

  @parameterized.named_parameters(
      ("scalar_by_scalar", [], []), ("vector_by_scalar", [3], []),
      ("scalar_by_matrix", [], [2, 3]), ("matrix_by_vector", [2, 3], [4]),
      ("by_rank_3", [2], [2, 1, 3]), ("one", [1], [1]),
      ("empty_y", [0], [3]), ("empty_x", [3], [0]), ("empty_rows", [0, 3], [0]))
  def test_of_any_rank_known_or_not(self, y_shape, x_shape):
    matrix = np.random.RandomState(0).normal(size=[
        int(np.prod(y_shape)), int(np.prod(x_shape))])
    at = np.random.RandomState(1).normal(size=x_shape)
    expected = (matrix * 2 * at.reshape([1, -1])).reshape(y_shape + x_shape)
    for static in (x_shape, [None] * len(x_shape), None):
      x = tf.placeholder(tf.float64, static)
      shape = (y_shape if static == x_shape else
               tf.placeholder_with_default(np.array(y_shape, np.int32), [None]))
      y = tf.reshape(
          tf.linalg.matvec(matrix, tf.reshape(x * x, [-1])), shape)
      for chunk in (None, 2):
        j = gf.jacobian(y, x, chunk=chunk)
        np.testing.assert_allclose(
            self.session.run(j, {x: at}), expected, rtol=1e-12)
      if static == x_shape:
        self.assertEqual(j.shape.as_list(), y_shape + x_shape)

  def test_equals_tensorflows_own_differences(self):
    x = tf.placeholder(tf.float64, [2, 3])
    y = _network(x)
    at = np.random.RandomState(1).normal(size=[2, 3])
    _, numeric = tf.test.compute_gradient(
        x, [2, 3], y, [2, 4], x_init_value=at, delta=1e-5)
    j = self.session.run(gf.jacobian(y, x), {x: at})
    np.testing.assert_allclose(
        j.reshape(8, 6), numeric.T, rtol=1e-7, atol=1e-9)

  def test_rows_are_the_gradients_of_the_elements(self):
    x = tf.placeholder(tf.float64, [None, 3])
    y = _network(x)
    j = gf.jacobian(y, x)
    loop = [[tf.gradients(y[b, i], x)[0] for i in range(4)] for b in range(2)]
    at = np.random.RandomState(1).normal(size=[2, 3])
    one, other = self.session.run([j, loop], {x: at})
    np.testing.assert_allclose(one, np.array(other), rtol=1e-9, atol=1e-12)

  def test_c3_ops_do_not_grow_with_the_outputs(self):
    counts = []
    for classes in (20, 1000):
      x = tf.placeholder(tf.float32, [None, 7])
      hidden = tf.nn.relu(tf.matmul(x, tf.ones([7, 5])))
      y = tf.matmul(hidden, tf.ones([5, classes])) + tf.ones([classes])
      before = self.count()
      gf.jacobian(y, x)
      counts.append(self.count() - before)
    self.assertEqual(*counts)
    self.assertLess(counts[0], 150)

  def test_c1_the_second_call_adds_no_op(self):
    x = tf.placeholder(tf.float64, [None, 3])
    y = _network(x)
    first = gf.jacobian(y, x), gf.jacobian(y, x, chunk=2), gf.jvp(
        y, x, tf.ones_like(x, name="v"))
    before = self.count()
    again = gf.jacobian(y, x), gf.jacobian(y, x, chunk=2), gf.jvp(y, x, "v:0")
    self.assertEqual(self.count(), before)
    self.assertEqual([id(t) for t in again], [id(t) for t in first])

  def test_ops_stand_under_the_scope_and_leave_others_alone(self):
    x = tf.placeholder(tf.float64, [None, 3])
    y = _network(x)
    before = {op.name: op.node_def for op in self.graph.get_operations()}
    with tf.name_scope("mine"), tf.control_dependencies([tf.no_op("never")]):
      gf.jacobian(y, x, chunk=3)
    after = {op.name: op.node_def for op in self.graph.get_operations()}
    added = set(after) - set(before) - {"mine/never"}
    self.assertNotEmpty(added)
    self.assertEmpty([n for n in added if not n.startswith("gradfeed/")])
    self.assertEqual({n: after[n] for n in before}, before)

  @parameterized.named_parameters(
      ("list", lambda a, b: [a, b]), ("tuple", lambda a, b: (a, b)),
      ("dict", lambda a, b: {"z": a, "a": b}), ("pair", _Pair))
  def test_structures_of_y_and_of_x(self, make):
    a = tf.placeholder(tf.float64, [2])
    b = tf.placeholder(tf.float64, [3])
    product = a[:, tf.newaxis] * b
    j = gf.jacobian({"p": product, "q": [tf.reduce_sum(product * product)]},
                    make(a, b))
    self.assertEqual(type(j["p"]), type(make(a, b)))
    at = {a: [1.0, 2.0], b: [3.0, 4.0, 5.0]}
    got = self.session.run(j, at)
    p_by_a, p_by_b = self.leaves(got["p"])
    self.assertEqual(p_by_a.shape, (2, 3, 2))
    np.testing.assert_array_equal(
        p_by_b, np.einsum("i,jk->ijk", at[a], np.eye(3)))
    q_by_a, q_by_b = self.leaves(got["q"][0])
    np.testing.assert_allclose(q_by_a, 2.0 * np.array([1.0, 2.0]) * 50.0)
    np.testing.assert_allclose(q_by_b, 2.0 * np.array([3.0, 4.0, 5.0]) * 5.0)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_by_variables(self, use_resource):
    v = graphs.variable("v", [2.0, 3.0, 5.0], use_resource)
    j = gf.jacobian(tf.gather(v, [2, 0, 2]) * v, v)
    self.initialize()
    np.testing.assert_allclose(
        self.session.run(j), [[5.0, 0.0, 2.0], [3.0, 2.0, 0.0],
                              [0.0, 0.0, 10.0]])
    f = gf.function(v, j, session=self.session)  # Cut: at another value.
    np.testing.assert_allclose(
        f([1.0, 10.0, 100.0]), [[100.0, 0.0, 1.0], [10.0, 1.0, 0.0],
                                [0.0, 0.0, 200.0]])

  @parameterized.named_parameters(*graphs.KINDS)
  def test_by_a_partitioned_variable(self, use_resource):
    value = np.arange(10.0).reshape(5, 2)
    v = graphs.variable("v", value, use_resource,
                        partitioner=tf.fixed_size_partitioner(3))
    whole = tf.convert_to_tensor(v)
    j = gf.jacobian(tf.reduce_sum(whole * whole, 0), v)
    self.assertEqual(j.shape.as_list(), [2, 5, 2])
    self.initialize()
    np.testing.assert_allclose(self.session.run(j), np.stack(
        [2 * value * [1, 0], 2 * value * [0, 1]]))

  def test_e11_by_a_sparse_tensor(self):
    x = tf.sparse_placeholder(tf.float64, [2, 3])
    y = tf.sparse_tensor_dense_matmul(x, tf.constant(
        [[1.0], [10.0], [100.0]], tf.float64))
    j = gf.jacobian(y, x)
    at = tf.SparseTensorValue([[0, 0], [0, 2], [1, 1]], [1.0, 2.0, 3.0], [2, 3])
    np.testing.assert_allclose(
        gf.run(self.session, j, {x: at}),
        [[[1.0, 100.0, 0.0]], [[0.0, 0.0, 10.0]]])

  def test_at_a_layer_in_the_middle(self):
    x = tf.placeholder(tf.float64, [2])
    h = x * x
    y = tf.sin(h) + h[::-1]
    f = gf.function(h, gf.jacobian(y, h), session=self.session)
    np.testing.assert_allclose(
        f([0.0, 7.0]), [[1.0, 1.0], [1.0, np.cos(7.0)]])

  def test_s7_a_feed_between_x_and_y_is_refused(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    h = tf.square(x, name="h")
    y = tf.sin(h)
    for d in (gf.jacobian(y, x), gf.jvp(y, x, [1.0, 1.0])):
      with self.assertRaisesRegex(gf.FeedError, "'h:0'.*between x"):
        gf.function([x, h], d, session=self.session)
    f = gf.function([x, h], gf.jacobian(y, x), session=self.session,
                    points=[h])
    np.testing.assert_allclose(
        f([1.0, 2.0], [0.5, 0.0]), np.diag([2.0 * np.cos(0.5), 4.0]))

  def test_nests(self):
    x = tf.placeholder(tf.float64, [3])
    y = tf.reduce_prod(x) * x
    second = gf.jacobian(gf.jacobian(y, x), x)
    hessians = [tf.hessians(y[i], x)[0] for i in range(3)]
    third = gf.jacobian(second, x)
    at = [2.0, 3.0, 5.0]
    got, want, more = self.session.run([second, hessians, third], {x: at})
    np.testing.assert_allclose(got, want, rtol=1e-9)
    step = 1e-5
    ahead, behind = [self.session.run(second, {x: [2.0 + h, 3.0, 5.0]})
                     for h in (step, -step)]
    np.testing.assert_allclose(
        more[..., 0], (ahead - behind) / (2 * step), atol=1e-6)

  @parameterized.named_parameters(
      ("forward", lambda y, x: gf.jacobian(y, x, mode="forward")),
      ("reverse", lambda y, x: gf.jacobian(y, x, mode="reverse")),
      ("jvp", lambda y, x: gf.jvp(y, x, tf.cumsum(tf.ones_like(x)))),
      ("batch_jacobian", lambda y, x: gf.batch_jacobian(
          y[:, None], x, coupled=True)),
      ("per_example", lambda y, x: gf.per_example_gradient(
          y, x, coupled=True)))
  def test_derivatives_of_what_goes_through_moments(self, derivative):
    """tf.nn.moments holds the mean within the variance."""
    x = tf.placeholder(tf.float64, [3])
    mean, variance = tf.nn.moments(x, [0])
    penalty = tf.reduce_sum(tf.square(derivative(x * variance + mean, x)))
    at = np.array([0.5, -1.2, 0.7])
    np.testing.assert_allclose(
        gf.function(x, gf.gradient(penalty, x), self.session)(at),
        numeric_lib.central_differences(
            gf.function(x, penalty, self.session), at), 1e-6)

  def test_in_a_loss(self):
    x = tf.placeholder(tf.float64, [2, 3])
    w = graphs.variable("w", np.ones([3, 4]), True)
    penalty = tf.reduce_sum(tf.square(gf.jacobian(
        tf.tanh(tf.matmul(x, w)), x)))
    dw = gf.gradient(penalty, w)
    self.initialize()
    at = np.random.RandomState(0).normal(size=[2, 3]) / 2

    def value(weights):
      slope = 1.0 / np.cosh(at.dot(weights)) ** 2
      return np.sum(np.einsum("bj,ij->bij", slope, weights) ** 2)

    np.testing.assert_allclose(
        self.session.run(dw, {x: at}),
        numeric_lib.central_differences(value, np.ones([3, 4])), rtol=1e-6,
        atol=1e-8)

  def test_value_and_jacobian_share_the_mask(self):
    x = tf.placeholder(tf.float64, [50])
    y = x * tf.floor(tf.random_uniform([50], dtype=tf.float64) + 0.5)
    f = gf.function(x, [y, gf.jacobian(y, x)], session=self.session)
    value, jacobian = f(np.full(50, 7.0))
    np.testing.assert_array_equal(np.diag(value), 7.0 * jacobian)

  @parameterized.named_parameters(
      ("float16", tf.float16, 1e-2), ("float32", tf.float32, 1e-5),
      ("float64", tf.float64, 1e-12))
  def test_dtypes(self, dtype, tolerance):
    x = tf.placeholder(dtype, [3])
    j = gf.jacobian(x * x[::-1], x)
    v = np.array([1.0, 2.0, 3.0])
    jv = gf.jvp(x * x[::-1], x, v)
    hv = gf.hvp(x * x * x, x, v)
    self.assertEqual([t.dtype for t in (j, jv, hv)], [dtype] * 3)
    at = np.array([1.0, 2.0, 3.0])
    got = self.session.run([j, jv, hv], {x: at})
    want = np.diag(at[::-1]) + np.diag(at)[:, ::-1]
    np.testing.assert_allclose(got[0], want, rtol=tolerance)
    np.testing.assert_allclose(got[1], want.dot(v), rtol=tolerance)
    np.testing.assert_allclose(got[2], 6.0 * at * v, rtol=tolerance)

  @parameterized.named_parameters(
      ("complex64", tf.complex64, 1e-5), ("complex128", tf.complex128, 1e-12))
  def test_s20_complex_rows_are_conjugated_as_in_tensorflow(
      self, dtype, tolerance):
    z = tf.placeholder(dtype, [2])
    w = tf.stack([z[0] * z[0], z[0] * z[1]])
    at = np.array([1.0 + 2.0j, 3.0 - 1.0j])
    j = self.session.run(gf.jacobian(w, z), {z: at})
    derivative = np.array([[2 * at[0], 0], [at[1], at[0]]])
    np.testing.assert_allclose(j, derivative.conj(), rtol=tolerance)
    v = np.array([1.0j, 2.0])
    np.testing.assert_allclose(
        self.session.run(gf.jvp(w, z, v), {z: at}), derivative.dot(v),
        rtol=tolerance)
    self.assertIn("conjugated", gf.jacobian.__doc__)

  def test_s20_real_y_of_complex_x(self):
    z = tf.placeholder(tf.complex128, [2])
    j = gf.jacobian(tf.square(tf.abs(z)), z)
    at = np.array([1.0 + 2.0j, 3.0 - 1.0j])
    np.testing.assert_allclose(
        self.session.run(j, {z: at}), np.diag(2.0 * at))

  def test_s20_complex_y_of_real_x_is_refused(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    y = tf.complex(x, x * x, name="y")
    before = self.count()
    for verb in (gf.jacobian, gf.batch_jacobian):
      with self.assertRaisesRegex(
          gf.ArgumentError, "(?s)'y:0' .complex128.*'x:0'.*tf.math.imag"):
        verb(y, x)
    self.assertEqual(self.count(), before)

  def test_unconnected(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    z = tf.placeholder(tf.float64, [None, 3], name="z")
    y = tf.square(x, name="y")
    before = self.count()
    with self.assertRaisesRegex(gf.DisconnectedError, "'y:0'.*by 'z:0'"):
      gf.jacobian(y, [x, z])
    self.assertEqual(self.count(), before)
    self.assertIsNone(gf.jacobian(y, [x, z], unconnected="none")[1])
    zeros = gf.jacobian(y, [x, z], unconnected="zero")[1]
    np.testing.assert_array_equal(
        self.session.run(zeros, {z: np.ones([4, 3])}), np.zeros([2, 4, 3]))

  def test_stop_gradients(self):
    x = tf.placeholder(tf.float64, [2])
    h = x * x
    y = x * h[::-1]
    held = gf.jacobian(y, x, stop_gradients=[h])
    at = np.array([2.0, 3.0])
    np.testing.assert_allclose(
        self.session.run(held, {x: at}), np.diag([9.0, 4.0]))
    np.testing.assert_allclose(self.session.run(gf.jvp(
        y, x, [1.0, 10.0], stop_gradients=[h]), {x: at}), [9.0, 40.0])

  @parameterized.named_parameters(
      ("zero", 0), ("negative", -1), ("float", 2.0), ("bool", True),
      ("text", "8"))
  def test_chunk_that_is_no_number(self, chunk):
    x = tf.placeholder(tf.float64, [2])
    before = self.count()
    for call in (lambda: gf.jacobian(x, x, chunk=chunk),
                 lambda: gf.hessian(x, x, chunk=chunk),
                 lambda: gf.batch_jacobian(x, x, chunk=chunk),
                 lambda: gf.per_example_gradient(x, x, chunk=chunk)):
      with self.assertRaisesRegex(gf.ArgumentError, "chunk="):
        call()
    self.assertEqual(self.count(), before)

  def test_refused_on_a_finalized_graph(self):
    x = tf.placeholder(tf.float64, [2])
    y = x * x
    known = gf.jacobian(y, x)
    self.graph.finalize()
    self.assertIs(gf.jacobian(y, x), known)
    for call in (lambda: gf.jacobian(y, x, chunk=2), lambda: gf.hessian(y, x),
                 lambda: gf.jvp(y, x, np.ones(2)),
                 lambda: gf.batch_jacobian(y, x)):
      with self.assertRaises(gf.FinalizedGraphError):
        call()

  def test_after_the_session_has_run(self):
    x = tf.placeholder(tf.float64, [2])
    y = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, tf.sin(a) * x),
                      [0, x])[1]
    at = np.array([0.5, 1.5])
    value = self.session.run(y, {x: at})
    j = self.session.run(gf.jacobian(y, x), {x: at})
    for i in range(2):
      np.testing.assert_allclose(j[i], numeric_lib.central_differences(
          lambda p, i=i: self.session.run(y, {x: p})[i], at), atol=1e-8)
    np.testing.assert_array_equal(self.session.run(y, {x: at}), value)


class FunctionsTest(graphs.GraphTest):
  """Calls of a `tf.function` between x and y."""

  def test_agrees_with_what_it_calls(self):

    def cube(a):
      return a ** 3 * tf.reduce_sum(a, 1, keepdims=True)

    x = tf.placeholder(tf.float64, [None, 3])
    outer = tf.function(
        lambda a: tf.sin(tf.function(cube, autograph=False)(a)),
        autograph=False)
    v = np.random.RandomState(1).normal(size=[2, 3])

    def all_of(y):
      return [gf.jacobian(y, x), gf.jacobian(y, x, chunk=2),
              gf.batch_jacobian(y, x, coupled=True), gf.jvp(y, x, v),
              gf.hessian(y, x)]

    at = {x: np.random.RandomState(0).normal(size=[2, 3])}
    self.session.run(outer(x), at)
    for got, want in zip(*self.session.run(
        [all_of(outer(x)), all_of(tf.sin(cube(x)))], at)):
      np.testing.assert_allclose(got, want, atol=1e-12)


class JvpTest(graphs.GraphTest):

  def test_is_adjoint_to_vjp(self):
    x = tf.placeholder(tf.float64, [None, 3])
    v = tf.placeholder(tf.float64, [None, 3])
    u = tf.placeholder(tf.float64, [None, 4])
    y = _network(x)
    f = gf.function([x, v, u], [gf.jvp(y, x, v), gf.vjp(y, x, u)],
                    session=self.session)
    random = np.random.RandomState(3)
    for _ in range(10):
      v_t, u_t = random.normal(size=[5, 3]), random.normal(size=[5, 4])
      pushed, pulled = f(random.normal(size=[5, 3]), v_t, u_t)
      self.assertAlmostEqual(
          np.sum(pushed * u_t), np.sum(pulled * v_t), places=9)

  def test_is_a_directional_derivative(self):
    x = tf.placeholder(tf.float64, [2, 3])
    y = _network(x)
    random = np.random.RandomState(4)
    at, v = random.normal(size=[2, 2, 3])
    step = 1e-6
    ahead, behind = [self.session.run(y, {x: at + h * v})
                     for h in (step, -step)]
    np.testing.assert_allclose(
        self.session.run(gf.jvp(y, x, v), {x: at}),
        (ahead - behind) / (2.0 * step), atol=1e-8)

  @parameterized.named_parameters(
      ("logarithm", lambda x: tf.math.cumulative_logsumexp(x, 1)),
      ("reciprocal", lambda x: tf.math.reduce_euclidean_norm(x, 1)))
  def test_where_a_gradient_is_divided_by(self, function):
    x = tf.placeholder(tf.float64, [2, 3])
    y = function(x)
    if y.op.type == "EuclideanNorm" and tf.__version__.startswith("1."):
      self.skipTest("TF 1 has no gradient of EuclideanNorm.")
    at, v = np.random.RandomState(4).normal(size=[2, 2, 3])
    moved, whole = self.session.run(
        [gf.jvp(y, x, v), gf.jacobian(y, x)], {x: at})
    np.testing.assert_allclose(moved, np.tensordot(whole, v, 2))

  def test_of_structures(self):
    a = tf.placeholder(tf.float64, [2])
    b = tf.placeholder(tf.float64, [])
    moved = gf.jvp({"p": a * b, "q": [a[0]]}, (a, b),
                   (np.array([1.0, 2.0]), np.array(10.0)))
    got = self.session.run(moved, {a: [3.0, 5.0], b: 7.0})
    np.testing.assert_allclose(got["p"], [7.0 + 30.0, 14.0 + 50.0])
    np.testing.assert_allclose(got["q"], [1.0])

  @parameterized.named_parameters(*graphs.KINDS)
  def test_by_a_partitioned_variable(self, use_resource):
    value = np.arange(10.0).reshape(5, 2)
    v = graphs.variable("v", value, use_resource,
                        partitioner=tf.fixed_size_partitioner(3))
    whole = tf.convert_to_tensor(v)
    y = tf.reduce_sum(whole * whole, 0)
    direction = np.random.RandomState(0).normal(size=[5, 2])
    fed = tf.placeholder(tf.float64, [5, 2])
    results = [gf.jvp(y, v, direction), gf.jvp(y, v, fed),
               gf.hvp(y, v, direction), gf.hvp(y, v, fed)]
    self.initialize()
    got = self.session.run(results, {fed: direction})
    for result in got[:2]:
      np.testing.assert_allclose(result, (2.0 * value * direction).sum(0))
    for result in got[2:]:
      np.testing.assert_allclose(result, 2.0 * direction)

  def test_e11_by_a_sparse_tensor(self):
    x = tf.sparse_placeholder(tf.float64, [2, 3])
    y = tf.sparse_tensor_dense_matmul(x, tf.constant(
        [[1.0], [10.0], [100.0]], tf.float64))
    v = tf.placeholder(tf.float64, [None])
    at = tf.SparseTensorValue([[0, 0], [0, 2]], [1.0, 2.0], [2, 3])
    np.testing.assert_allclose(gf.run(
        self.session, gf.jvp(y, x, v), {x: at, v: [2.0, 3.0]}),
                               [[302.0], [0.0]])

  def test_of_a_y_without_any_x(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    z = tf.placeholder(tf.float64, [3], name="z")
    v = np.ones(2)
    with self.assertRaisesRegex(gf.DisconnectedError, "'x:0'"):
      gf.jvp(z * z, x, v)
    moved = gf.jvp([x * x, z], x, v)  # By some y there is a path to x.
    np.testing.assert_array_equal(
        self.session.run(moved[1], {z: [1.0, 2.0, 3.0]}), np.zeros(3))
    self.assertIsNone(gf.jvp(z * z, x, v, unconnected="none"))
    np.testing.assert_array_equal(self.session.run(
        gf.jvp(z * z, x, v, unconnected="zero"), {z: np.ones(3)}), np.zeros(3))

  def test_v_has_the_shape_and_dtype_of_x(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    before = self.count()
    for verb in (gf.jvp, gf.hvp):
      for v in (1.0, np.ones(3), np.ones([1, 2]), np.ones(2, np.complex64)):
        with self.assertRaisesRegex(gf.TangentError, "tangent v.*'x:0'"):
          verb(x, x, v)
      with self.assertRaisesRegex(gf.TangentError, "no v for 'x:0'"):
        verb(x, x, None)
      with self.assertRaisesRegex(gf.TangentError, "structure of x"):
        verb(x, [x, x], [np.ones(2)])
    self.assertEqual(self.count(), before)

  def test_v_of_another_shape_at_run_time(self):
    x = tf.placeholder(tf.float64, [None], name="x")
    v = tf.placeholder(tf.float64, [None], name="v")
    y = x * x
    for d in (gf.jvp(y, x, v), gf.hvp(y, x, v)):
      f = gf.function([x, v], d, session=self.session)
      np.testing.assert_array_equal(f([1.0, 2.0], [0.0, 0.0]), [0.0, 0.0])
      with self.assertRaisesRegex(
          gf.TangentError, "(?s)tangent v 'v:0'.*'x:0'"):
        f([1.0, 2.0], [1.0])

  def test_where_there_is_no_second_derivative(self):
    x = tf.placeholder(tf.float64, [2, 4])
    y = tf.nn.softsign(x) * tf.reduce_sum(x, 1, keepdims=True)
    at = np.random.RandomState(0).normal(size=[2, 4])
    v = np.random.RandomState(1).normal(size=[2, 4])
    jv, jacobian = self.session.run(
        [gf.jvp(y, x, v), gf.jacobian(y, x)], {x: at})
    np.testing.assert_allclose(jv, np.tensordot(jacobian, v, 2), rtol=1e-12)
    step = 1e-6
    ahead, behind = [self.session.run(y, {x: at + h * v})
                     for h in (step, -step)]
    np.testing.assert_allclose(jv, (ahead - behind) / (2 * step), atol=1e-8)

  @parameterized.named_parameters(
      ("real_of_complex", tf.complex128, lambda x: tf.nn.softsign(
          tf.math.real(x)) * tf.math.imag(x)),
      ("complex_of_complex", tf.complex128, lambda x: tf.complex(
          tf.nn.softsign(tf.math.real(x)), tf.math.imag(x) ** 2)),
      ("complex_of_real", tf.float64, lambda x: tf.complex(
          tf.nn.softsign(x), x * x)))
  def test_s20_where_there_is_no_second_derivative(self, dtype, function):
    x = tf.placeholder(dtype, [2])
    y = function(x)
    at, v = np.array([1.0 + 2.0j, 3.0 - 1.0j]), np.array([1.0 + 2.0j, 0.5 - 1j])
    if dtype == tf.float64:
      at, v = at.real, v.real
    moved = gf.jvp(y, x, v)
    self.assertEqual(moved.dtype, y.dtype)
    step = 1e-6
    ahead, behind = [self.session.run(y, {x: at + h * v})
                     for h in (step, -step)]
    np.testing.assert_allclose(self.session.run(moved, {x: at}),
                               (ahead - behind) / (2 * step), atol=1e-8)

  def test_where_the_gradient_of_an_op_passes_nothing_on(self):
    # The gradient of this op is linear in the cotangent, and TensorFlow says
    # that it has no gradient.
    x = tf.placeholder(tf.float32, [1, 2, 2, 1])
    y = tf.image.resize_bilinear(x, [3, 3])
    at, v = np.random.RandomState(0).normal(size=[2, 1, 2, 2, 1])
    got, want = self.session.run(
        [gf.jvp(y, x, v), tf.image.resize_bilinear(
            tf.constant(v, tf.float32), [3, 3])], {x: at})
    np.testing.assert_allclose(got, want, rtol=1e-5)

  def test_of_a_backprop_output(self):
    # A seed that TensorFlow took for zero would lose this part.
    x = tf.placeholder(tf.float64, [2, 3])
    labels = np.eye(3)[[0, 2]]
    _, y = tf.raw_ops.SoftmaxCrossEntropyWithLogits(features=x, labels=labels)
    at, v = np.random.RandomState(0).normal(size=[2, 2, 3])
    p = np.exp(at) / np.exp(at).sum(1, keepdims=True)
    want = p * v - p * (p * v).sum(1, keepdims=True)
    np.testing.assert_allclose(
        self.session.run(gf.jvp(y, x, v), {x: at}), want, rtol=1e-9)


class TwoWaysTest(graphs.GraphTest):
  """By ops on whole stacks, or by a loop: the same numbers."""

  _CASES = (
      ("network", _network),
      ("convolution", lambda x: tf.nn.max_pool(tf.nn.relu(tf.nn.conv2d(
          tf.reshape(x, [-1, 3, 1, 1]), tf.ones([2, 1, 1, 2], x.dtype), 1,
          "SAME")), 2, 1, "SAME")),
      ("softmax", lambda x: tf.nn.softmax(x) * tf.nn.log_softmax(x)),
      ("gather", lambda x: tf.gather(x, [1, 1, 0]) ** 3),
      ("dynamic", lambda x: tf.dynamic_stitch(
          [[0], [1]], [x[:1] ** 2, x[1:] ** 3])),
      ("cumulative", lambda x: tf.cumprod(x, 1) + tf.cumsum(x, 0)),
      ("norm", lambda x: tf.nn.l2_normalize(x, 1)),
      ("inverse", lambda x: tf.linalg.inv(
          tf.matmul(x, x, transpose_b=True) + tf.eye(2, dtype=x.dtype))),
      ("einsum", lambda x: tf.einsum("ij,kj->ik", x, x * x)),
      ("top", lambda x: tf.nn.top_k(x, 2)[0] ** 2),
      ("segments", lambda x: tf.unsorted_segment_sum(x, [1, 0], 3) ** 2))

  def test_a_chunk_of_more_rows_than_there_are_computes_no_more(self):
    x = tf.placeholder(tf.float64, [3])
    for call in (gf.jacobian, gf.hessian):
      y = tf.reduce_sum(x ** 3) if call is gf.hessian else x ** 3
      before = len(self.graph.get_operations())
      call(y, x, chunk=1000)
      added = [op for op in self.graph.get_operations()[before:]
               if op.type in ("While", "StatelessWhile", "LoopCond")]
      self.assertEqual(added, [])

  @parameterized.named_parameters(*_CASES)
  def test_agree(self, function):
    x = tf.placeholder(tf.float64, [2, 3])
    y = function(x)
    with unittest.mock.patch.object(
        vectorization, "_vectorized", side_effect=ValueError("no converter")):
      looped = gf.jacobian(y, x)
    # Another request, since the first is remembered.
    whole = gf.jacobian(y, x, chunk=24)  # More than there are rows.
    parts = gf.jacobian(y, x, chunk=2)
    at = np.random.RandomState(2).normal(size=[2, 3])
    got = self.session.run([looped, whole, parts], {x: at})
    np.testing.assert_allclose(got[1], got[0], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(got[2], got[0], rtol=1e-10, atol=1e-14)
    flat = got[0].reshape(-1, 6)
    for i, row in enumerate(flat):
      np.testing.assert_allclose(
          row.reshape(2, 3),
          numeric_lib.central_differences(
              lambda p, i=i: self.session.run(y, {x: p}).ravel()[i], at),
          atol=1e-7)

  @parameterized.named_parameters(
      ("loop_v1", 1, lambda x: tf.while_loop(
          lambda i, a: i < 3, lambda i, a: (i + 1, tf.sin(a) * x), [0, x])[1]),
      ("loop_v2", 2, lambda x: tf.while_loop(
          lambda i, a: i < 3, lambda i, a: (i + 1, tf.sin(a) * x), [0, x])[1]),
      ("branch_v1", 1, lambda x: tf.cond(
          tf.reduce_sum(x) > 0, lambda: tf.exp(x) * x, lambda: x * x)),
      ("branch_v2", 2, lambda x: tf.cond(
          tf.reduce_sum(x) > 0, lambda: tf.exp(x) * x, lambda: x * x)),
      ("map", None, lambda x: tf.map_fn(
          lambda row: row * tf.reduce_sum(x), x * x)))
  def test_through_control_flow(self, version, function):
    x = tf.placeholder(tf.float64, [2, 3])
    with flows.control_flow(version):
      mapped = function(x)
    j = gf.jacobian(mapped, x)
    jv = gf.jvp(mapped, x, np.ones([2, 3]))
    for sign in (1.0, -1.0):
      at = sign * np.abs(np.random.RandomState(2).normal(size=[2, 3]))
      got, moved = self.session.run([j, jv], {x: at})
      for i in range(6):
        np.testing.assert_allclose(
            got.reshape(6, 2, 3)[i], numeric_lib.central_differences(
                lambda p, i=i: self.session.run(mapped, {x: p}).ravel()[i],
                at), atol=1e-7)
      np.testing.assert_allclose(moved, got.sum((2, 3)), rtol=1e-9)
