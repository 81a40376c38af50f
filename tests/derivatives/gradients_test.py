"""gradient, gradients, value_and_gradient: what is built, and its numbers."""

import collections
import inspect
from unittest import mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.training import optimizer as optimizers

import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs
from tests.testing import numeric

_Pair = collections.namedtuple("_Pair", ["left", "right"])


def _times_one_or_ten(x):
  """`x` times 1 or 10, as is drawn: a mixture of two draws shows."""
  return x * (1.0 + 9.0 * tf.cast(
      tf.random.uniform([], 0, 2, tf.int32), tf.float64))


class GradientTest(graphs.GraphTest):

  def test_is_the_derivative_of_the_sum(self):
    x = tf.placeholder(tf.float64, [None, 2])
    dx = gf.gradient(tf.sin(x) * x, x)
    self.assertEqual(dx.dtype, tf.float64)
    self.assertEqual(dx.shape.as_list(), [None, 2])
    at = np.array([[1.0, -2.0], [0.5, 3.0], [0.0, 7.0]])
    np.testing.assert_allclose(
        self.session.run(dx, {x: at}), np.sin(at) + at * np.cos(at))

  def test_ops_stand_under_the_scope(self):
    x = tf.placeholder(tf.float64, [3])
    with tf.name_scope("model"):
      y = tf.exp(x)
    before = {op.name for op in self.graph.get_operations()}
    gf.gradient(y, x)
    added = {op.name for op in self.graph.get_operations()} - before
    self.assertNotEmpty(added)
    self.assertEmpty([n for n in added if not n.startswith("gradfeed/")])

  def test_of_x_by_itself_is_one_and_an_op_of_its_own(self):
    x = tf.placeholder(tf.float64, [2])
    dx = gf.gradient(x, x)
    self.assertStartsWith(dx.name, "gradfeed/")
    np.testing.assert_array_equal(
        self.session.run(dx, {x: [5.0, 6.0]}), [1.0, 1.0])

  def test_by_two_that_share_a_gradient(self):
    a = tf.placeholder(tf.float64, [])
    b = tf.placeholder(tf.float64, [])
    da, db = gf.gradient(a + b, [a, b])
    self.assertEqual(self.session.run([da, db], {a: 1.0, b: 2.0}), [1.0, 1.0])

  @parameterized.named_parameters(
      ("list", lambda a, b, c: [a, [b, c]]),
      ("tuple", lambda a, b, c: (a, (b,), c)),
      ("dict", lambda a, b, c: {"one": a, "more": {"z": b, "a": c}}),
      ("ordered", lambda a, b, c: collections.OrderedDict(
          [("z", a), ("a", b), ("m", [c])])),
      ("namedtuple", lambda a, b, c: _Pair(a, _Pair(b, c))),
      ("integer_keys", lambda a, b, c: {10: a, 9: b, 1: [c]}),
      ("mixed_keys", lambda a, b, c: {1: a, "b": b, None: c}))
  def test_result_has_the_structure_of_x(self, make):
    a, b, c = (tf.placeholder(tf.float64, [], name=n) for n in "abc")
    x = make(a, b, c)
    dx = gf.gradient(a * b * b * c * c * c, x)
    self.assertIs(type(dx), type(x))
    # 2 * 3^2 * 5^3 differentiated by each.
    expected = make(9 * 125.0, 2 * 6 * 125.0, 2 * 9 * 75.0)
    self.assertEqual(
        list(self.leaves(expected)), [
            self.session.run(leaf, {a: 2.0, b: 3.0, c: 5.0})
            for leaf in self.leaves(dx)])
    if isinstance(x, dict):
      self.assertEqual(list(dx), list(x))

  def test_of_a_structure_is_that_of_the_sum(self):
    x = tf.placeholder(tf.float64, [])
    dx = gf.gradient({"a": x * x, "b": [x ** 3, 5.0 * x]}, x)
    self.assertEqual(self.session.run(dx, {x: 2.0}), 4.0 + 12.0 + 5.0)

  def test_one_x_twice(self):
    x = tf.placeholder(tf.float64, [])
    one, two = gf.gradient(x * x, [x, x])
    self.assertEqual(self.session.run([one, two], {x: 3.0}), [6.0, 6.0])

  def test_by_names(self):
    x = tf.placeholder(tf.float64, [], name="x")
    tf.square(x, name="y")
    dx = gf.gradient("y:0", "x:0")
    self.assertIs(gf.gradient("y", "x"), dx)
    self.assertEqual(self.session.run(dx, {x: 3.0}), 6.0)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_by_a_variable_or_its_name(self, use_resource):
    v = graphs.variable("scope/v", [2.0, 3.0], use_resource)
    y = v * v + tf.gather(v, [0, 0])
    dv = gf.gradient(y, v)
    self.initialize()
    np.testing.assert_allclose(self.session.run(dv), [4.0 + 2.0, 6.0])
    for name in (v.name, v.op.name):
      np.testing.assert_allclose(
          self.session.run(gf.gradient(y, name)), [6.0, 6.0])

  @parameterized.named_parameters(*graphs.KINDS)
  def test_of_a_variable(self, use_resource):
    v = graphs.variable("v", 2.0, use_resource)
    dv = gf.gradient(v, v)
    self.initialize()
    self.assertEqual(self.session.run(dv), 1.0)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_by_a_partitioned_variable(self, use_resource):
    value = np.arange(10.0).reshape(5, 2)
    v = graphs.variable("v",
                        value,
                        use_resource,
                        partitioner=tf.fixed_size_partitioner(3))
    y = tf.square(tf.convert_to_tensor(v))
    dv, = gf.gradient(y, [v])
    self.assertEqual(dv.shape.as_list(), [5, 2])
    self.initialize()
    np.testing.assert_allclose(self.session.run(dv), 2.0 * value)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_by_a_partitioned_variable_through_a_lookup(self, use_resource):
    v = graphs.variable("v",
                        np.arange(10.0).reshape(5, 2),
                        use_resource,
                        partitioner=tf.fixed_size_partitioner(2))
    looked = tf.nn.embedding_lookup(v, [4, 0, 4], partition_strategy="div")
    dv = gf.gradient(looked, v)
    self.initialize()
    np.testing.assert_allclose(
        self.session.run(dv), [[1, 1], [0, 0], [0, 0], [0, 0], [2, 2]])

  @parameterized.named_parameters(*graphs.KINDS)
  def test_by_one_part_that_y_does_not_read(self, use_resource):
    v = graphs.variable("v", [1.0, 2.0, 3.0, 4.0],
                        use_resource,
                        partitioner=tf.fixed_size_partitioner(2))
    first = list(v)[0]
    dv = gf.gradient(tf.square(first), v, unconnected="zero")
    self.initialize()
    np.testing.assert_allclose(self.session.run(dv), [2.0, 4.0, 0.0, 0.0])

  def test_by_a_hidden_tensor(self):
    x = tf.placeholder(tf.float64, [])
    h = tf.exp(x)
    dh, dx = gf.gradient(h * h, [h, x])
    h_t, dh_t, dx_t = self.session.run([h, dh, dx], {x: 0.5})
    self.assertAlmostEqual(dh_t, 2.0 * h_t)
    self.assertAlmostEqual(dx_t, 2.0 * h_t * h_t)

  def test_complex_is_conjugated_as_in_tensorflow(self):
    z = tf.placeholder(tf.complex128, [])
    dz = gf.gradient(z * z, z)
    self.assertEqual(self.session.run(dz, {z: 1.0 + 2.0j}), 2.0 - 4.0j)
    self.assertIn("conj", gf.gradient.__doc__)

  def test_float16(self):
    x = tf.placeholder(tf.float16, [2])
    dx = gf.gradient(x * x, x)
    self.assertEqual(dx.dtype, tf.float16)
    np.testing.assert_array_equal(
        self.session.run(dx, {x: [1.0, 4.0]}), [2.0, 8.0])

  def test_stop_gradients_holds_constant(self):
    x = tf.placeholder(tf.float64, [], name="x")
    h = tf.square(x, name="h")
    y = x * h
    whole = gf.gradient(y, x)
    held = gf.gradient(y, x, stop_gradients=[h])
    by_name = gf.gradient(y, x, stop_gradients="h:0")
    self.assertIs(held, by_name)
    self.assertEqual(
        self.session.run([whole, held], {x: 3.0}), [27.0, 9.0])

  @parameterized.named_parameters(*graphs.KINDS)
  def test_stop_gradients_of_a_variable(self, use_resource):
    v = graphs.variable("v", 3.0, use_resource)
    w = v * v
    dv = gf.gradient(w * w, w, stop_gradients=v)
    self.initialize()
    self.assertEqual(self.session.run(dv), 18.0)

  def test_no_dependence_through_what_is_stopped(self):
    x = tf.placeholder(tf.float64, [], name="x")
    h = tf.square(x, name="h")
    before = self.count()
    with self.assertRaisesRegex(gf.DisconnectedError, "'x:0'.*\n.*\n.*'h:0'"):
      gf.gradient(2.0 * h, x, stop_gradients=[h])
    self.assertLessEqual(self.count() - before, 2)  # The user's own 2.0 * h.

  def test_e11_sparse_x(self):
    x = tf.sparse_placeholder(tf.float64, [2, 3])
    dense = tf.sparse_tensor_dense_matmul(x, tf.constant(
        [[1.0], [10.0], [100.0]], tf.float64))
    dx = gf.gradient(tf.square(dense), x)
    self.assertIsInstance(dx, tf.SparseTensor)
    at = tf.SparseTensorValue([[0, 0], [0, 2], [1, 1]], [1.0, 2.0, 3.0], [2, 3])
    got = gf.run(self.session, dx, {x: at})
    # Row 0: 2 (1 + 200) (1, 100); row 1: 2 (30) (10).
    np.testing.assert_allclose(got.values, [402.0, 40200.0, 600.0])
    np.testing.assert_array_equal(got.indices, at.indices)
    np.testing.assert_array_equal(got.dense_shape, at.dense_shape)

  def test_e11_sparse_x_among_others(self):
    x = tf.sparse_placeholder(tf.float64, [2, 2])
    w = tf.placeholder(tf.float64, [2, 1])
    y = tf.sparse_tensor_dense_matmul(x, w)
    d = gf.gradient(y, {"x": x, "w": w})
    got = gf.run(self.session, d, {
        x: tf.SparseTensorValue([[0, 1], [1, 0]], [5.0, 7.0], [2, 2]),
        w: [[2.0], [3.0]]})
    np.testing.assert_allclose(got["x"].values, [3.0, 2.0])
    np.testing.assert_allclose(got["w"], [[7.0], [5.0]])

  def test_e11_sparse_y(self):
    x = tf.placeholder(tf.float64, [2])
    y = tf.SparseTensor([[0], [3]], x * x, [4])
    dx = gf.gradient(y, x)
    np.testing.assert_allclose(
        self.session.run(dx, {x: [2.0, 5.0]}), [4.0, 10.0])

  def test_s16_gradient_of_gradient_is_the_row_sums_of_the_hessian(self):
    x = tf.placeholder(tf.float64, [2])
    y = x[0] ** 2 * x[1] ** 3
    twice = gf.gradient(gf.gradient(y, x), x)
    a, b = 3.0, 2.0
    hessian = np.array([[2 * b ** 3, 6 * a * b ** 2],
                        [6 * a * b ** 2, 6 * a ** 2 * b]])
    np.testing.assert_allclose(
        self.session.run(twice, {x: [a, b]}), hessian.sum(0))
    self.assertIn("row sums of the Hessian", " ".join(
        inspect.getdoc(gf.gradient).split()))

  def test_s17_disconnected_is_an_error_unless_asked_for(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    z = tf.placeholder(tf.float64, [None, 3], name="z")
    y = tf.square(x, name="y")
    before = self.count()
    with self.assertRaisesRegex(
        gf.DisconnectedError, r"'y:0' \(float64, \[2\]\) by 'z:0' \(float64, "
        r"\[\?, 3\]\)(.|\n)*Fix: .*'x:0'"):
      gf.gradient(y, [x, z])
    self.assertEqual(self.count(), before)
    dx, dz = gf.gradient(y, [x, z], unconnected="none")
    self.assertIsNone(dz)
    zero_x, zero_z = gf.gradient(y, [x, z], unconnected="zero")
    got = self.session.run(
        [dx, zero_x, zero_z], {x: [1.0, 2.0], z: np.ones([4, 3])})
    np.testing.assert_array_equal(got[0], [2.0, 4.0])
    np.testing.assert_array_equal(got[1], [2.0, 4.0])
    np.testing.assert_array_equal(got[2], np.zeros([4, 3]))
    with self.assertRaises(gf.DisconnectedError):  # Also now that it is built.
      gf.gradient(y, [x, z])

  @parameterized.named_parameters(
      ("tensor", lambda: tf.placeholder(tf.float64, [2])),
      ("ref", lambda: graphs.variable("v", [1.0, 2.0], False)),
      ("resource", lambda: graphs.variable("v", [1.0, 2.0], True)),
      ("partitioned", lambda: graphs.variable(
          "v", [1.0, 2.0], None, partitioner=tf.fixed_size_partitioner(2))),
      ("integers", lambda: tf.placeholder(tf.int32, [2])))
  def test_s17_zeros_of_the_shape_of_each_kind(self, make):
    z = make()
    x = tf.placeholder(tf.float64, [])
    dz = gf.gradient(x * x, z, unconnected="zero")
    self.initialize()
    np.testing.assert_array_equal(self.session.run(dz), [0.0, 0.0])
    self.assertIsNone(gf.gradient(x * x, z, unconnected="none"))

  def test_s17_sparse_zeros(self):
    z = tf.sparse_placeholder(tf.float64)
    x = tf.placeholder(tf.float64, [])
    dz = gf.gradient(x * x, z, unconnected="zero")
    got = self.session.run(dz, {z: ([[1], [2]], [5.0, 6.0], [4])})
    np.testing.assert_array_equal(got.values, [0.0, 0.0])

  def test_unknown_setting_of_unconnected_is_refused(self):
    x = tf.placeholder(tf.float64, [])
    with self.assertRaisesRegex(
        gf.ArgumentError, "'zeros'(.|\n)*'error', 'zero', 'none'"):
      gf.gradient(x, x, unconnected="zeros")

  @parameterized.named_parameters(*graphs.KINDS)
  def test_s19_rows_gathered_twice_are_summed(self, use_resource):
    v = graphs.variable("v", np.ones([4, 2]), use_resource)
    rows = tf.gather(v, [3, 1, 3, 3])
    dense = gf.gradient(rows, v)
    sparse = gf.gradient(rows, v, sparse=True)
    self.assertIsInstance(dense, tf.Tensor)
    self.assertEqual(dense.shape.as_list(), [4, 2])
    self.assertIsInstance(sparse, tf.IndexedSlices)
    self.initialize()
    np.testing.assert_array_equal(
        self.session.run(dense), [[0, 0], [1, 1], [0, 0], [3, 3]])
    got = self.session.run(sparse)
    by_row = dict(zip(got.indices.tolist(), got.values.tolist()))
    self.assertLen(got.indices, 2)
    self.assertEqual(by_row, {1: [1.0, 1.0], 3: [3.0, 3.0]})

  def test_s19_of_a_placeholder_of_unknown_length(self):
    x = tf.placeholder(tf.float64, [None, 2])
    dx = gf.gradient(tf.gather(x, [0, 2, 0]), x)
    np.testing.assert_array_equal(
        self.session.run(dx, {x: np.zeros([4, 2])}),
        [[2, 2], [0, 0], [1, 1], [0, 0]])

  def test_sparse_leaves_a_dense_gradient_dense(self):
    x = tf.placeholder(tf.float64, [2])
    y = x * x
    self.assertIs(gf.gradient(y, x, sparse=True), gf.gradient(y, x))

  @parameterized.named_parameters(
      ("scalar", 1.0), ("one", np.ones(1)), ("row", np.ones([1, 2])),
      ("column", np.ones([3, 1])), ("more", np.ones([1, 3, 2])))
  def test_s13_grad_ys_of_another_shape(self, value):
    x = tf.placeholder(tf.float64, [3, 2])
    y = tf.square(x, name="y")
    before = self.count()
    with self.assertRaisesRegex(
        gf.CotangentError, r"does not fit y = 'y:0' \(float64, \[3, 2\]\)"
        r"(.|\n)*Fix: .*weight \* tf.ones_like\(y\)"):
      gf.gradient(y, x, grad_ys=value)
    self.assertEqual(self.count(), before)

  def test_s13_grad_ys_of_another_shape_at_run_time(self):
    x = tf.placeholder(tf.float64, [None, 2])
    v = tf.placeholder(tf.float64, [None, 2], name="v")
    dx = gf.gradient(tf.square(x, name="y"), x, grad_ys=v)
    at = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(
        self.session.run(dx, {x: at, v: [[1.0, 1.0], [0.0, 10.0]]}),
        [[2.0, 4.0], [0.0, 80.0]])
    with self.assertRaisesRegex(
        tf.errors.InvalidArgumentError, "gradfeed: .*v:0.* shape of .*y:0"):
      self.session.run(dx, {x: at, v: [[1.0, 1.0]]})
    f = gf.function([x, v], dx, session=self.session)
    with self.assertRaisesRegex(gf.CotangentError, "(?s)v:0.*y:0.*Fix: "):
      f(at, [[1.0, 1.0]])
    np.testing.assert_allclose(f(at, at), 2.0 * at * at)

  @parameterized.named_parameters(
      ("scalar", np.ones([])), ("row", np.ones([2])), ("one", np.ones([1])),
      ("column", np.ones([2, 1])), ("rank_3", np.ones([2, 2, 2])))
  def test_s13_grad_ys_of_another_rank_at_run_time(self, value):
    x = tf.placeholder(tf.float64, None)
    v = tf.placeholder(tf.float64, None, name="v")
    dx = gf.gradient(tf.square(x, name="y"), x, grad_ys=v)
    with self.assertRaisesRegex(
        tf.errors.InvalidArgumentError, "gradfeed: .*v:0.* shape of .*y:0"):
      self.session.run(dx, {x: np.ones([2, 2]), v: value})
    with self.assertRaisesRegex(gf.CotangentError, "(?s)v:0.*y:0.*Fix: "):
      gf.run(self.session, dx, {x: np.ones([2, 2]), v: value})

  def test_s13_grad_ys_of_another_dtype(self):
    x = tf.placeholder(tf.float64, [2])
    y = tf.square(x, name="y")
    before = self.count()
    with self.assertRaisesRegex(gf.CotangentError, "complex128.*'y:0'"):
      gf.gradient(y, x, grad_ys=np.ones(2, np.complex128))
    self.assertEqual(self.count(), before)
    v = tf.placeholder(tf.float32, [2], name="v")
    with self.assertRaisesRegex(gf.CotangentError, "float32.*'y:0'"):
      gf.gradient(y, x, grad_ys=v)

  @parameterized.named_parameters(
      ("list", lambda: [3, 10]),
      ("float32", lambda: np.array([3.0, 10.0], np.float32)),
      ("in_a_list", lambda: [np.array([3.0, 10.0])]),
      ("tensor", lambda: tf.constant([3.0, 10.0], tf.float64)),
      ("name", lambda: tf.constant([3.0, 10.0], tf.float64).name))
  def test_grad_ys_weighs_y(self, make):
    x = tf.placeholder(tf.float64, [2])
    y = x * x
    dx = gf.gradient(y, x, grad_ys=make())
    np.testing.assert_allclose(
        self.session.run(dx, {x: [1.0, 2.0]}), [6.0, 40.0])

  @parameterized.named_parameters(
      ("tensors", lambda: [tf.constant(1.0, tf.float64)] * 2),
      ("ragged", lambda: [[1.0], [2.0, 3.0]]),
      ("object", object))
  def test_s13_grad_ys_that_is_no_array(self, make):
    x = tf.placeholder(tf.float64, [2])
    with self.assertRaises(gf.CotangentError):
      gf.gradient(x * x, x, grad_ys=make())

  def test_grad_ys_of_a_structure(self):
    x = tf.placeholder(tf.float64, [2])
    y = {"b": x * x, "a": tf.reduce_sum(x)}
    dx = gf.gradient(y, x, grad_ys={"a": 100.0, "b": None})
    np.testing.assert_allclose(
        self.session.run(dx, {x: [1.0, 2.0]}), [102.0, 104.0])

  def test_grad_ys_that_is_a_variable(self):
    x = tf.placeholder(tf.float64, [2])
    for use_resource in (False, True):
      v = graphs.variable(
          "v{:d}".format(use_resource), [3.0, 10.0], use_resource)
      dx = gf.gradient(x * x, x, grad_ys=v)
      self.initialize()
      np.testing.assert_allclose(
          self.session.run(dx, {x: [1.0, 2.0]}), [6.0, 40.0])

  def test_e5_missing_gradient_is_said_before_anything_is_built(self):
    x = tf.placeholder(tf.float64, [2, 2], name="x")
    h, _ = tf.linalg.lu(x, name="h")
    y = tf.multiply(h, x, name="y")
    before = self.count()
    for unconnected in ("error", "zero", "none"):
      with self.assertRaisesRegex(
          gf.MissingGradientError,
          r"'y:0' \(float64, \[2, 2\]\) by 'x:0'(.|\n)*Lu 'h'"
          r"(.|\n)*stop_gradients=\['h:0', 'h:1'\]"):
        gf.gradient(y, x, unconnected=unconnected)
    with self.assertRaises(LookupError):
      gf.gradients(y, x)
    self.assertEqual(self.count(), before)
    dx = gf.gradient(y, x, stop_gradients=["h:0"])
    np.testing.assert_allclose(
        self.session.run(dx, {x: np.diag([3.0, 4.0])}), np.diag([3.0, 4.0]))

  def test_second_derivatives(self):
    x = tf.placeholder(tf.float64, [])
    d = x ** 5
    for _ in range(3):
      d = gf.gradient(d, x)
    self.assertAlmostEqual(self.session.run(d, {x: 2.0}), 60.0 * 4.0)

  @parameterized.named_parameters(
      ("stacks", lambda a, x: tf.sin(a)),
      ("no_stacks", lambda a, x: a + tf.sin(x)))
  def test_e5_second_order_of_a_foreign_gradient_of_a_loop_is_refused(
      self, turn):
    # The loop of the gradient reads the values of the loop through stacks,
    # where TensorFlow drops the gradient: without a word, beside other paths.
    # Only what gradfeed has built itself can be built in another way.
    x = tf.placeholder(tf.float64, [], name="x")
    with flows.control_flow(1):
      y = tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, turn(a, x)),
                        [0, x])[1]
    dx, = tf.gradients(y, x)
    z = dx * x
    before = self.count()
    for first in (dx, z):
      for unconnected in ("error", "zero", "none"):
        with self.assertRaisesRegex(
            gf.UnsupportedGraphError, "(?s)while.*enable_control_flow_v2"):
          gf.gradient(first, x, unconnected=unconnected)
    self.assertEqual(self.count(), before)

  @parameterized.product(version=(1, 2), in_loop=(False, True), held=(
      tf.stop_gradient, tf.round, lambda h: tf.cast(h > 5.0, h.dtype) * 18 + 2,
      lambda h: tf.cast(tf.cast(h, tf.int32), h.dtype), "stops"))
  def test_what_is_held_is_of_the_numbers_that_a_branch_or_a_loop_draws(
      self, version, in_loop, held):
    x = tf.placeholder(tf.float64, [])
    h = flows.inside(lambda: _times_one_or_ten(x), x, version, in_loop)
    k = tf.identity(h) if held == "stops" else held(h)
    stops = k if held == "stops" else None
    y = h * k  # At 2 it is 2 times 2, or 20 times 20.
    for dx in (gf.gradient(y, x, stop_gradients=stops),
               gf.jacobian(y, x, stop_gradients=stops)):
      f = gf.function(x, [y, dx], self.session)
      found = {tuple(map(float, f(2.0))) for _ in range(12)}
      self.assertLessEqual(found, {(4.0, 2.0), (400.0, 200.0)})

  @parameterized.parameters(
      "gradient", "jacobian", "batch_jacobian", "per_example_gradient")
  def test_the_result_of_a_function_is_held(self, verb):
    x = tf.placeholder(tf.float64, [1, 1])
    h = tf.function(lambda a: 3.0 * a)(x)
    dx = getattr(gf, verb)(h * h * x, x, stop_gradients=h)
    self.assertEqual(
        float(np.ravel(gf.function(x, dx, self.session)([[2.0]]))[0]), 36.0)

  @parameterized.product(version=(1, 2), in_loop=(False, True))
  def test_a_gradient_function_reads_the_numbers_that_are_drawn(
      self, version, in_loop):
    x = tf.placeholder(tf.float64, [])

    @tf.custom_gradient
    def squared(h):
      return h * h, lambda dy: 2.0 * dy * h
    h = flows.inside(lambda: _times_one_or_ten(x), x, version, in_loop)
    y = squared(h)  # At 2 it is 4, or 400.
    outputs = [y, gf.gradient(y, x)]
    expected = {(4.0, 4.0), (400.0, 400.0)}
    if version == 2:
      outputs.append(gf.hvp(y, x, tf.constant(1.0, tf.float64)))
      expected = {values + (values[0] / 2.0,) for values in expected}
    f = gf.function(x, outputs, self.session)
    self.assertLessEqual({tuple(map(float, f(2.0))) for _ in range(12)},
                         expected)

  def test_of_arrays_of_v1_in_either_mode(self):
    x = tf.placeholder(tf.float64, [3])
    with flows.control_flow(1):
      y = tf.map_fn(lambda a: a ** 3, x)
      with flows.control_flow(2):
        dx = gf.gradient(y, x)
        self.assertTrue(tf.control_flow_v2_enabled())
    np.testing.assert_allclose(
        self.session.run(dx, {x: [1.0, 2.0, -3.0]}), [3.0, 12.0, 27.0])

  def test_second_order_of_a_cond_of_v1(self):
    x = tf.placeholder(tf.float64, [])
    with flows.control_flow(1):
      y = tf.cond(x > 0., lambda: x ** 3, lambda: x)
    twice = gf.gradient(gf.gradient(y, x) * x, x)
    self.assertEqual(self.session.run(twice, {x: 2.}), 36.)

  def test_gradient_in_a_loss(self):
    x = tf.placeholder(tf.float64, [3])
    w = graphs.variable("w", [1.0, 2.0, 3.0], True)
    penalty = tf.reduce_sum(tf.square(gf.gradient(tf.tanh(x * w), x)))
    dw = gf.gradient(penalty, w)
    self.initialize()
    at = np.array([0.1, -0.2, 0.3])

    def value(weights):
      return np.sum(np.square(weights / np.cosh(at * weights) ** 2))

    np.testing.assert_allclose(
        self.session.run(dw, {x: at}),
        numeric.central_differences(value, [1.0, 2.0, 3.0]), rtol=1e-7)

  def test_result_keeps_the_static_shape_of_x(self):
    x = tf.placeholder(tf.float64, [None, 3])
    y = tf.reshape(x, tf.placeholder(tf.int32, None))
    self.assertEqual(gf.gradient(y, x).shape.as_list(), [None, 3])


class IsolationTest(graphs.GraphTest):
  """Nothing of the caller's reaches gradfeed's ops, nor the other way."""

  def _added(self, build):
    before = {op.name for op in self.graph.get_operations()}
    build()
    return [op for op in self.graph.get_operations() if op.name not in before]

  def _model(self):
    x = tf.placeholder(tf.float64, [4, 2], name="x")
    rows = tf.gather(x, [0, 0, 1])
    return x, tf.while_loop(lambda i, a: i < 2,
                            lambda i, a: (i + 1, tf.sin(a) * rows),
                            [0, rows])[1]

  def _requests(self, x, y):
    gf.gradient(y, x)
    gf.gradient(y, x, grad_ys=tf.placeholder_with_default(
        np.ones([3, 2]), [None, 2]))
    gf.gradients(y, [x], name="named")
    gf.gradient(y, [x, tf.placeholder(tf.float64, [None])],
                unconnected="zero")
    gf.value_and_gradient(y, x, stop_gradients=[x[0]])

  def test_name_scopes_do_not_reach_in(self):
    x, y = self._model()
    with tf.name_scope("outer"), tf.variable_scope("variables"):
      added = self._added(lambda: self._requests(x, y))
    mine = [op.name for op in added if not op.name.startswith("outer/")]
    self.assertNotEmpty(mine)
    self.assertEmpty([n for n in mine if not n.startswith("gradfeed/")])
    self.assertEmpty([op.name for op in added if "outer" in op.name and
                      op.name.startswith("gradfeed/")])

  def test_device_does_not_reach_in(self):
    x, y = self._model()
    with tf.device("/job:elsewhere/device:GPU:7"):
      added = self._added(lambda: gf.gradient(y, x))
    self.assertEmpty([op.name for op in added if "GPU:7" in op.device])

  def test_control_dependencies_do_not_reach_in(self):
    x, y = self._model()
    fails = tf.Assert(tf.constant(False), ["not to be run"])
    with tf.control_dependencies([fails]):
      dx = gf.gradient(y, x)
      held = gf.gradient(y, x, grad_ys=np.ones([3, 2]))
    at = np.ones([4, 2])
    self.assertEqual(self.session.run(dx, {x: at}).shape, (4, 2))
    self.assertEqual(self.session.run(held, {x: at}).shape, (4, 2))

  def test_colocation_does_not_reach_in(self):
    x, y = self._model()
    other = tf.constant(1.0, name="other")
    with tf.colocate_with(other):
      added = self._added(lambda: gf.gradient(y, x))
    self.assertEmpty([op.name for op in added
                      if b"loc:@other" in op.colocation_groups()])

  def test_attributes_do_not_reach_in(self):
    x = tf.placeholder(tf.float64, [])
    y = tf.multiply(tf.sin(x), x)
    with self.graph.gradient_override_map({"Mul": "Nothing", "Cos": "Nothing"}):
      dx = gf.gradient(y, x)
      tf.multiply(x, 2., name="mine")
    got = self.session.run(gf.gradient(dx, x), {x: 0.5})
    self.assertAlmostEqual(got, 2. * np.cos(0.5) - 0.5 * np.sin(0.5))
    mine = self.graph.get_operation_by_name("mine")  # It is still in force.
    self.assertEqual(mine.get_attr("_gradient_op_type"), b"Nothing")

  def test_another_default_graph_does_not_matter(self):
    x, y = self._model()
    with tf.Graph().as_default() as other:
      dx = gf.gradient(y, x)
      self.assertIs(tf.get_default_graph(), other)
      self.assertEmpty(other.get_operations())
    self.assertIs(dx.graph, self.graph)
    self.assertIs(tf.get_default_graph(), self.graph)

  def test_branch_of_a_cond_does_not_hold_the_ops(self):
    x, y = self._model()
    kept = []

    def branch():
      kept.append(gf.gradient(y, x))
      return tf.constant(1.0)

    tf.cond(tf.placeholder(tf.bool, []), branch, lambda: tf.constant(2.0))
    at = np.ones([4, 2])
    self.assertEqual(self.session.run(kept[0], {x: at}).shape, (4, 2))

  def test_leaves_scope_names_and_graph_state_alone(self):
    x, y = self._model()
    tf.set_random_seed(7)
    seed = self.graph.seed
    before = self._collections()
    with tf.name_scope("outer"):
      self._requests(x, y)
      self.assertEqual(tf.constant(1.0, name="after").name, "outer/after:0")
    self.assertEqual(tf.constant(1.0, name="after").name, "after:0")
    self.assertEqual(self.graph.seed, seed)
    self.assertEqual(self._collections(), before)

  def _collections(self):
    found = {key: list(self.graph.get_collection(key))
             for key in self.graph.get_all_collection_keys()}
    return {key: values for key, values in found.items() if values}

  def test_random_ops_that_are_there_draw_the_same_numbers(self):
    draws = []
    for ask in (False, True):
      with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(7)
        x = tf.placeholder(tf.float64, [3])
        noise = tf.random_normal([3], dtype=tf.float64)
        y = x * noise
        if ask:
          dx = gf.gradient(y, x)
          draws.append(session.run(dx, {x: np.zeros(3)}))
        else:
          draws.append(session.run(noise))
    np.testing.assert_array_equal(draws[0], draws[1])


class ValueAndGradientTest(graphs.GraphTest):

  def test_gives_both_in_their_structures(self):
    a = tf.placeholder(tf.float64, [])
    b = tf.placeholder(tf.float64, [])
    pair = gf.value_and_gradient([a * b, a + b], {"a": a, "b": b})
    values, d = self.session.run(pair, {a: 2.0, b: 5.0})
    self.assertEqual(values, [10.0, 7.0])
    self.assertEqual(d, {"a": 6.0, "b": 3.0})

  def test_gradient_is_the_one_of_gradient(self):
    x = tf.placeholder(tf.float64, [])
    y = x ** 3
    value, dx = gf.value_and_gradient(y, x)
    self.assertIs(value, y)
    before = self.count()
    self.assertIs(gf.gradient(y, x), dx)
    self.assertEqual(self.count(), before)

  def test_s8_value_and_gradient_share_the_mask(self):
    x = tf.placeholder(tf.float64, [50])
    y = x * tf.floor(tf.random_uniform([50], dtype=tf.float64) + 0.5)
    value, dx = self.session.run(
        gf.value_and_gradient(y, x), {x: np.full(50, 7.0)})
    np.testing.assert_array_equal(value, 7.0 * dx)
    self.assertBetween(dx.sum(), 1, 49)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_value_of_a_variable(self, use_resource):
    v = graphs.variable("v", [2.0], use_resource)
    value, dv = gf.value_and_gradient(v, v)
    self.initialize()
    self.assertEqual(self.session.run([value, dv]), [[2.0], [1.0]])


class GradientsTest(graphs.GraphTest):
  """The same arguments to tf.gradients and gradfeed.gradients."""

  def _same(self, ys, xs, feeds, **settings):
    theirs = tf.gradients(ys, xs, **settings)
    mine = gf.gradients(ys, xs, **settings)
    self.assertIsInstance(mine, list)
    self.assertLen(mine, len(theirs))
    self.assertEqual([g is None for g in mine], [g is None for g in theirs])
    for one, other in zip(mine, theirs):
      if other is not None:
        one, other = self.session.run(
            [one, tf.convert_to_tensor(other)], feeds)
        self.assertEqual(one.dtype, other.dtype)
        np.testing.assert_allclose(one, other, rtol=1e-12)
    return mine

  @parameterized.named_parameters(
      ("alone", lambda x, y, z: (z, x), {}),
      ("lists", lambda x, y, z: ([z, y], [x, y]), {}),
      ("none", lambda x, y, z: ([y], [z, x]), {}),
      ("tuple", lambda x, y, z: ((z, z), (x,)), {}),
      ("name", lambda x, y, z: (z, [x]), {"name": "mine"}),
      ("no_name", lambda x, y, z: (z, [x]), {"name": None}),
      ("colocated", lambda x, y, z: (z, [x, y]),
       {"colocate_gradients_with_ops": True}),
      ("gated", lambda x, y, z: (z, [x, y]), {"gate_gradients": True}),
      ("add_n", lambda x, y, z: (z, [x]),
       {"aggregation_method": tf.AggregationMethod.ADD_N}),
      ("tree", lambda x, y, z: (z, [x]), {
          "aggregation_method": tf.AggregationMethod.EXPERIMENTAL_TREE}),
      ("zero", lambda x, y, z: ([y], [z, x]), {
          "unconnected_gradients": tf.UnconnectedGradients.ZERO}),
      ("zero_by_value", lambda x, y, z: ([y], [z, x]),
       {"unconnected_gradients": "zero"}))
  def test_is_what_tensorflow_gives(self, pick, settings):
    x = tf.placeholder(tf.float64, [2], name="x")
    y = tf.exp(x) * x + x
    z = tf.reduce_sum(y * tf.sin(y) + x)
    ys, xs = pick(x, y, z)
    self._same(ys, xs, {x: [0.3, 0.7]}, **settings)

  @parameterized.named_parameters(
      ("array", lambda y: [np.array([3.0, 4.0])]),
      ("bare_array", lambda y: np.array([3.0, 4.0])),
      ("tensor", lambda y: [tf.constant([3.0, 4.0], tf.float64)]),
      ("bare_tensor", lambda y: tf.constant([3.0, 4.0], tf.float64)),
      ("none", lambda y: [None]))
  def test_grad_ys(self, make):
    x = tf.placeholder(tf.float64, [2])
    y = x * x
    self._same(y, x, {x: [1.0, 2.0]}, grad_ys=make(y))

  def test_grad_ys_of_several(self):
    x = tf.placeholder(tf.float64, [2])
    self._same([x * x, tf.reduce_sum(x)], [x], {x: [1.0, 2.0]},
               grad_ys=[None, tf.constant(5.0, tf.float64)])

  def test_stop_gradients(self):
    x = tf.placeholder(tf.float64, [2])
    h = tf.exp(x)
    self._same(h * x, [x, h], {x: [1.0, 2.0]}, stop_gradients=[h])
    self._same(h * x, [x, h], {x: [1.0, 2.0]}, stop_gradients=[x, h])

  @parameterized.named_parameters(*graphs.KINDS)
  def test_variables(self, use_resource):
    v = graphs.variable("v", [[1.0, 2.0], [3.0, 4.0]], use_resource)
    self.initialize()
    self._same(tf.gather(v, [1, 1, 0]) * 2.0 + v[0], [v], {})

  def test_integer_y_gives_none(self):
    x = tf.placeholder(tf.float64, [2])
    y = tf.cast(x, tf.int32)
    self.assertEqual(gf.gradients(y, [x]), [None])
    self.assertEqual(tf.gradients(y, [x]), [None])

  def test_nothing_to_differentiate_by_or_of(self):
    x = tf.placeholder(tf.float64, [2])
    self.assertEqual(gf.gradients(x, []), [])
    self.assertEqual(gf.gradients(x, ()), [])
    self._same([], [x], {})
    self._same([], [x], {x: [1.0, 2.0]}, unconnected_gradients="none")

  @parameterized.parameters(1, 2)
  def test_integers_and_numbers_among_the_ys(self, version):
    x = tf.placeholder(tf.float64, [])
    with flows.control_flow(version):
      i, out = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * x),
                             [0, x])
    self._same([i, out], [x], {x: 2.0})
    self._same([tf.cast(x, tf.int32), x * x], x, {x: 2.0},
               grad_ys=[None, tf.constant(3.0, tf.float64)])
    self._same([3.0, x * x], x, {x: 2.0})

  def test_an_integer_by_itself(self):
    i = tf.constant([3, 4])
    self._same([i, i], [i], {})
    self._same(tf.cast(i, tf.float64), [i], {})

  def test_slices_as_grad_ys_give_slices(self):
    x = tf.placeholder(tf.float64, [3])
    slices = tf.IndexedSlices(
        tf.constant([2.0, 5.0, 1.0], tf.float64), tf.constant([1, 2, 1]),
        tf.constant([3]))
    dx, = gf.gradients(tf.identity(x), x, grad_ys=slices)
    self.assertIsInstance(dx, tf.IndexedSlices)
    got = self.session.run(dx, {x: np.zeros(3)})
    self.assertEqual(dict(zip(got.indices, got.values)), {1: 3.0, 2: 5.0})
    dx, = gf.gradients([x * x], [x], grad_ys=[slices])
    got = self.session.run(dx, {x: [1.0, 2.0, 3.0]})
    np.testing.assert_allclose(got, [0.0, 12.0, 30.0])

  def test_slices_that_do_not_fit_are_refused(self):
    x = tf.placeholder(tf.float64, [3, 2])
    slices = tf.IndexedSlices(
        tf.constant([[2.0]], tf.float64), tf.constant([1]))
    with self.assertRaisesRegex(gf.CotangentError, r"\[3, 1\]"):
      gf.gradients(x, x, grad_ys=slices)

  def test_complex_ys_need_grad_ys(self):
    x = tf.placeholder(tf.complex128, [])
    with self.assertRaisesRegex(
        TypeError, r"Gradients of complex tensors .* must set grad_ys \(y.dtype"
        " = complex128"):
      gf.gradients(x * x, x)
    with self.assertRaisesRegex(TypeError, "must set grad_ys"):
      tf.gradients(x * x, x)
    self._same(x * x, x, {x: 1 + 2j},
               grad_ys=tf.constant(1.0 + 1j, tf.complex128))

  def test_empty_stop_gradients(self):
    x = tf.placeholder(tf.float64, [2])
    self._same(x * x, x, {x: [1.0, 2.0]}, stop_gradients=[])

  def test_ragged_tensors(self):
    values = tf.placeholder(tf.float64, [3])
    x = tf.RaggedTensor.from_row_splits(values, [0, 2, 3])
    y = tf.ragged.map_flat_values(lambda v: v ** 3, x)
    dx, = gf.gradients(y, [x])
    self.assertIsInstance(dx, tf.RaggedTensor)
    flat, splits = self.session.run(
        [dx.flat_values, dx.row_splits], {values: [1.0, 2.0, 3.0]})
    np.testing.assert_allclose(flat, [3.0, 12.0, 27.0])
    np.testing.assert_array_equal(splits, [0, 2, 3])

  @parameterized.parameters(1, 2)
  def test_what_is_stopped_inside_a_loop(self, version):
    x = tf.placeholder(tf.float64, [])
    for body in (lambda a: tf.stop_gradient(a) * x,
                 lambda a: tf.stop_gradient(a * x),
                 lambda a: tf.stop_gradient(a * x) + x):
      with flows.control_flow(version):
        out = tf.while_loop(
            lambda i, a: i < 3, lambda i, a, body=body: (i + 1, body(a)),
            [0, x])[1]
      self._same(out, [x], {x: 2.0})
      self._same(out * x, [x, out], {x: 2.0}, stop_gradients=[out])

  @parameterized.named_parameters(
      ("function", lambda x: tf.function(lambda a: tf.sin(a) * a)(x)),
      ("loop", lambda x: flows.inside(lambda: tf.sin(x) * x, x, 2, True)),
      ("branch", lambda x: flows.inside(lambda: tf.sin(x) * x, x, 2, False)))
  def test_a_loop_of_v1_behind_a_call(self, call):
    x = tf.placeholder(tf.float64, [])
    h = call(x)
    with flows.control_flow(1):
      y = tf.while_loop(lambda i, a: i < 3,
                        lambda i, a: (i + 1, tf.cos(a) * h), [0, x])[1]
    f = gf.function(x, gf.value_and_gradient(y, x))
    np.testing.assert_allclose(f(0.7)[1], numeric.central_differences(
        lambda at: f(at)[0], 0.7), 1e-7)

  def test_a_loop_of_v2_behind_one_of_v1_that_both_read_a_variable(self):
    v = graphs.variable("v", 0.7, True)

    def loop(version, h):
      with flows.control_flow(version):
        return tf.while_loop(lambda i, a: i < 2,
                             lambda i, a: (i + 1, tf.sin(a) * h + v), [0, h])[1]

    h = loop(1, v + 0.0)
    y = loop(2, h)
    self.initialize()
    f = gf.function(h, gf.value_and_gradient(y, h))
    np.testing.assert_allclose(f(0.4)[1], numeric.central_differences(
        lambda at: f(at)[0], 0.4), 1e-7)

  def test_a_replaced_tf_gradients_does_not_call_itself(self):
    x = tf.placeholder(tf.float64, [])
    original = tf.gradients
    self.addCleanup(setattr, tf, "gradients", original)
    tf.gradients = gf.gradients
    dx, = tf.gradients(x ** 3, x)
    self.assertEqual(self.session.run(dx, {x: 2.0}), 12.0)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_optimizers_that_call_it_change_the_same_rows(self, use_resource):
    # Momentum changes the rows of slices alone.
    results = []
    for replacement in (optimizers.gradients.gradients, gf.gradients):
      with self.subTest(replacement.__module__):
        with tf.Graph().as_default(), tf.Session() as session:
          table = graphs.variable(
              "table", np.arange(8.0).reshape(4, 2), use_resource)
          other = graphs.variable("other", [1.0], use_resource)
          rows = tf.placeholder(tf.int32, [None])
          y = tf.reduce_sum(tf.gather(table, rows) ** 2)
          optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
          with mock.patch.object(
              optimizers.gradients, "gradients", replacement):
            pairs = optimizer.compute_gradients(y, [table, other])
          self.assertIsInstance(pairs[0][0], tf.IndexedSlices)
          self.assertIsNone(pairs[1][0])
          step = optimizer.apply_gradients(pairs)
          session.run(tf.global_variables_initializer())
          for fed in ([0, 2, 2], [1], [2, 3]):
            session.run(step, {rows: fed})
          results.append(session.run(table))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12)

  def test_ops_of_a_named_call_stand_under_the_scope(self):
    x = tf.placeholder(tf.float64, [])
    dx, = gf.gradients(x * x, x, name="mine")
    self.assertStartsWith(dx.name, "gradfeed/mine")

  def test_optimizer_takes_the_result(self):
    v = graphs.variable("v", 3.0, True)
    optimizer = tf.train.GradientDescentOptimizer(0.5)
    step = optimizer.apply_gradients(
        zip(gf.gradients(v * v, [v]), [v]))
    self.initialize()
    self.session.run(step)
    self.assertEqual(self.session.run(v), 0.0)
