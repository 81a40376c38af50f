"""hessian and hvp: closed forms, all blocks, and what has no second order."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from tests.testing import flows
from tests.testing import graphs
from tests.testing import numeric


def _rosenbrock(x):
  return tf.reduce_sum(
      100.0 * (x[1:] - x[:-1] ** 2.0) ** 2.0 + (1.0 - x[:-1]) ** 2.0)


class RosenbrockTest(graphs.GraphTest):
  """The derivatives that SciPy gives in closed form."""

  @parameterized.named_parameters(("2", 2), ("3", 3), ("10", 10), ("100", 100))
  def test_agrees_with_scipy(self, size):
    from scipy import optimize  # pylint: disable=g-import-not-at-top
    x = tf.placeholder(tf.float64, [size])
    v = tf.placeholder(tf.float64, [size])
    y = _rosenbrock(x)
    f = gf.function([x, v], [
        gf.gradient(y, x), gf.hessian(y, x), gf.hvp(y, x, v),
        gf.jvp(gf.gradient(y, x), x, v), gf.hessian(y, x, chunk=7)],
                    session=self.session)
    random = np.random.RandomState(size)
    for _ in range(3):
      at, v_t = random.normal(size=[2, size])
      first, second, product, moved, chunked = f(at, v_t)
      np.testing.assert_allclose(
          first, optimize.rosen_der(at), rtol=1e-9, atol=1e-9)
      np.testing.assert_allclose(
          second, optimize.rosen_hess(at), rtol=1e-9, atol=1e-9)
      np.testing.assert_array_equal(chunked, second)
      expected = optimize.rosen_hess_prod(at, v_t)
      np.testing.assert_allclose(product, expected, rtol=1e-9, atol=1e-9)
      np.testing.assert_allclose(moved, expected, rtol=1e-9, atol=1e-9)


class HessiansTest(graphs.GraphTest):

  def test_is_what_tensorflow_gives(self):
    matrix = np.random.RandomState(0).normal(size=[3, 3])
    a, b = tf.placeholder(tf.float64, [3]), tf.placeholder(tf.float64, [2, 2])
    ys = [tf.reduce_sum(a * tf.linalg.matvec(matrix, a)) * tf.reduce_sum(b),
          tf.reduce_sum(b ** 3)]
    at = {a: [1.0, 2.0, 3.0], b: [[1.0, 2.0], [3.0, 4.0]]}
    got = gf.hessians(ys, [a, b])
    self.assertIsInstance(got, list)
    got = self.session.run(got, at)
    np.testing.assert_allclose(got[0], (matrix + matrix.T) * 10, rtol=1e-9)
    np.testing.assert_allclose(got[1].reshape(4, 4),
                               np.diag([6.0, 12.0, 18.0, 24.0]))
    for mine, original in zip(got, self.session.run(
        tf.hessians(ys, [a, b]), at)):
      np.testing.assert_allclose(mine, original, rtol=1e-9)

  def test_takes_one_x_and_all_arguments_and_builds_once(self):
    x = tf.placeholder(tf.float32, [2])
    h, = gf.hessians(x ** 3, x, "name", True, True,
                     tf.AggregationMethod.ADD_N)
    np.testing.assert_allclose(self.session.run(h, {x: [1.0, 2.0]}),
                               [[6.0, 0.0], [0.0, 12.0]])
    y = x ** 4
    gf.hessians(y, x)
    count = self.count()
    gf.hessians(y, [x])
    self.assertEqual(self.count(), count)


class HessianTest(graphs.GraphTest):

  def test_of_a_quadratic_form(self):
    matrix = np.random.RandomState(0).normal(size=[5, 5])
    x = tf.placeholder(tf.float64, [5])
    y = tf.reduce_sum(x * tf.linalg.matvec(matrix, x))
    v = np.random.RandomState(1).normal(size=5)
    second, product = self.session.run(
        [gf.hessian(y, x), gf.hvp(y, x, v)], {x: np.ones(5)})
    np.testing.assert_allclose(second, matrix + matrix.T, rtol=1e-9)
    np.testing.assert_allclose(product, (matrix + matrix.T).dot(v), rtol=1e-9)

  def test_s16_is_not_the_gradient_of_the_gradient(self):
    x = tf.placeholder(tf.float64, [2])
    y = x[0] ** 2 * x[1] ** 3
    second, twice = self.session.run(
        [gf.hessian(y, x), gf.gradient(gf.gradient(y, x), x)], {x: [3.0, 2.0]})
    np.testing.assert_allclose(second, [[16.0, 72.0], [72.0, 108.0]])
    np.testing.assert_allclose(twice, second.sum(0))

  def test_all_blocks_of_several_x(self):
    a = tf.placeholder(tf.float64, [2, 3])
    b = tf.placeholder(tf.float64, [3])
    y = tf.reduce_sum(tf.sin(tf.linalg.matvec(a, b))) + tf.reduce_sum(b)
    v = {"a": np.random.RandomState(0).normal(size=[2, 3]),
         "b": np.random.RandomState(1).normal(size=3)}
    second = gf.hessian(y, {"a": a, "b": b})
    product = gf.hvp(y, {"a": a, "b": b}, v)
    at = {a: np.random.RandomState(2).normal(size=[2, 3]), b: [1.0, 2.0, 3.0]}
    blocks, moved = self.session.run([second, product], at)
    flat = [[blocks[i][j].reshape(v[i].size, v[j].size) for j in "ab"]
            for i in "ab"]
    whole = np.block(flat)
    np.testing.assert_allclose(whole, whole.T, atol=1e-12)
    np.testing.assert_allclose(
        np.concatenate([moved["a"].ravel(), moved["b"]]),
        whole.dot(np.concatenate([v["a"].ravel(), v["b"]])), rtol=1e-9)
    # TensorFlow's own has the blocks on the diagonal.
    np.testing.assert_allclose(
        blocks["b"]["b"], self.session.run(tf.hessians(y, b)[0], at),
        rtol=1e-9)

  def test_of_a_network_by_its_weights(self):
    x = tf.placeholder(tf.float64, [None, 3])
    v = graphs.variable("v", np.random.RandomState(0).normal(size=[3, 2]),
                        False)
    w = graphs.variable("w", np.random.RandomState(1).normal(size=[2, 2]),
                        True)
    logits = tf.matmul(tf.tanh(tf.matmul(x, v)), w)
    loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=np.eye(2)[[0, 1, 1]], logits=logits))
    gradient = gf.gradient(loss, [v, w])
    f = gf.function([x, v, w], [gf.hessian(loss, [v, w]), gradient],
                    session=self.session)
    self.initialize()
    random = np.random.RandomState(2)
    at, v_t, w_t = (random.normal(size=[3, 3]), random.normal(size=[3, 2]),
                    random.normal(size=[2, 2]))
    blocks, _ = f(at, v_t, w_t)
    for i in np.ndindex(2, 2):
      steps = []
      for step in (1e-6, -1e-6):
        moved = w_t.copy()
        moved[i] += step
        steps.append(f(at, v_t, moved)[1])
      for row, above, below in zip(blocks, *steps):
        np.testing.assert_allclose(
            row[1][(Ellipsis,) + i], (above - below) / 2e-6, atol=1e-8)

  def test_where_the_gradient_does_not_depend_on_x(self):
    x = tf.placeholder(tf.float64, [2])
    z = tf.placeholder(tf.float64, [3])
    blocks = gf.hessian(tf.reduce_sum(3.0 * x) + tf.reduce_sum(z * z), [x, z])
    got = self.session.run(blocks, {x: [1.0, 2.0], z: np.ones(3)})
    np.testing.assert_array_equal(got[0][0], np.zeros([2, 2]))
    np.testing.assert_array_equal(got[0][1], np.zeros([2, 3]))
    np.testing.assert_array_equal(got[1][0], np.zeros([3, 2]))
    np.testing.assert_array_equal(got[1][1], 2.0 * np.eye(3))
    np.testing.assert_array_equal(self.session.run(gf.hvp(
        tf.reduce_sum(3.0 * x), x, [1.0, 2.0])), [0.0, 0.0])

  def test_an_unconnected_x_is_refused(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    z = tf.placeholder(tf.float64, [2], name="z")
    before = self.count()
    for call in (lambda: gf.hessian(x * x, [x, z]),
                 lambda: gf.hvp(x * x, [x, z], [np.ones(2)] * 2)):
      with self.assertRaisesRegex(gf.DisconnectedError, "'z:0'"):
        call()
    self.assertLessEqual(self.count() - before, 2)  # The two products.

  @parameterized.named_parameters(
      ("scalar", []), ("rank_3", [2, 1, 2]), ("empty", [0]))
  def test_of_any_rank(self, shape):
    for static in (shape, [None] * len(shape), None):
      x = tf.placeholder(tf.float64, static)
      second = gf.hessian(x ** 3, x)
      at = np.random.RandomState(0).normal(size=shape)
      expected = np.diag(6.0 * at.ravel()).reshape(shape + shape)
      np.testing.assert_allclose(self.session.run(second, {x: at}), expected)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_by_a_partitioned_variable(self, use_resource):
    value = np.arange(6.0).reshape(3, 2)
    v = graphs.variable("v", value, use_resource,
                        partitioner=tf.fixed_size_partitioner(2))
    whole = tf.convert_to_tensor(v)
    second = gf.hessian(tf.reduce_sum(whole) ** 2 + tf.reduce_sum(
        whole ** 3), v)
    self.assertEqual(second.shape.as_list(), [3, 2, 3, 2])
    self.initialize()
    np.testing.assert_allclose(
        self.session.run(second).reshape(6, 6),
        2.0 + np.diag(6.0 * value.ravel()))

  def test_s20_complex(self):
    z = tf.placeholder(tf.complex128, [2], name="z")
    y = tf.reduce_sum(tf.math.real(z ** 3))
    with self.assertRaisesRegex(gf.ArgumentError, "'z:0'(.|\n)*hvp"):
      gf.hessian(y, z)
    # The gradient is conj(3 z^2): along v it changes by conj(6 z v).
    at, v = np.array([1.0 + 2.0j, 3.0]), np.array([1.0, 1.0j])
    np.testing.assert_allclose(
        self.session.run(gf.hvp(y, z, v), {z: at}), np.conj(6.0 * at * v))

  def test_c3_ops_do_not_grow_with_x(self):
    counts = []
    for size in (3, 300):
      x = tf.placeholder(tf.float64, [size])
      y = _rosenbrock(x)
      before = self.count()
      gf.hessian(y, x)
      counts.append(self.count() - before)
    self.assertEqual(*counts)

  def test_reads_the_gradient_that_gradients_built(self):
    x = tf.placeholder(tf.float64, [2])
    y = tf.reduce_sum(x ** 3)
    first, = gf.gradients(y, x)
    self.assertIs(gf.gradient(y, x), first)
    before = len([op for op in self.graph.get_operations()
                  if op.type == "Pow"])
    hessian = gf.hessian(y, x)
    # 3 x ^ 2 is there; its derivative, 6 x ^ 1, is once in a row.
    self.assertEqual(len([op for op in self.graph.get_operations()
                          if op.type == "Pow"]), before + 1)
    np.testing.assert_allclose(
        gf.function(x, hessian, session=self.session)([1.0, 2.0]),
        [[6.0, 0.0], [0.0, 12.0]])

  @parameterized.parameters(([4], [4]), ([4], [4, 2]), ([], [4]), ([], []))
  def test_through_a_choice_of_elements_rows_or_all(self, condition, shape):
    x = tf.placeholder(tf.float64, shape)
    chosen = np.arange(np.prod(condition, dtype=int)).reshape(condition) % 2
    y = tf.reduce_sum(
        tf.where(tf.constant(chosen == 0), x ** 3, x ** 2) ** 2)
    value = np.random.RandomState(0).normal(size=shape)
    mask = (chosen == 0).reshape(
        condition + [1] * (len(shape) - len(condition)))
    expected = np.where(
        np.broadcast_to(mask, shape), 30 * value ** 4, 12 * value ** 2)
    before = self.count()
    hessian = gf.hessian(y, x)
    if _tf.IS_TF2 and condition in ([], shape):
      # TensorFlow's form of a Select has two conditionals.
      self.assertLess(self.count() - before, 280)
    size = value.size
    np.testing.assert_allclose(
        gf.function(x, hessian, session=self.session)(value),
        np.diag(expected.ravel()).reshape(shape * 2)
        if size > 1 else expected.reshape(shape * 2))

  def test_s8_value_and_second_derivative_share_the_mask(self):
    x = tf.placeholder(tf.float64, [50])
    mask = tf.floor(tf.random_uniform([50], dtype=tf.float64) + 0.5)
    y = tf.reduce_sum(mask * x ** 3)
    f = gf.function(x, [mask, gf.hessian(y, x), gf.hvp(y, x, np.ones(50))],
                    session=self.session)
    drawn, second, product = f(np.full(50, 7.0))
    np.testing.assert_array_equal(np.diag(second), 42.0 * drawn)
    np.testing.assert_array_equal(product, 42.0 * drawn)

  def test_s7_a_feed_between_is_refused(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    h = tf.square(x, name="h")
    y = tf.sin(h, name="y")
    for d in (gf.hessian(y, x), gf.hvp(y, x, [1.0, 1.0])):
      with self.assertRaisesRegex(
          gf.FeedError, "'h:0'.*between x = 'x:0' and y = 'y:0'"):
        gf.function([x, h], d, session=self.session)


class SecondOrderTest(graphs.GraphTest):
  """Where there is a second derivative, and where there is none."""

  def _check(self, y, x, at):
    """Holds the Hessian and a product against differences of the gradient."""
    first = gf.gradient(y, x)
    second = gf.hessian(y, x)
    v = np.random.RandomState(5).normal(size=at.shape)
    got, product = self.session.run([second, gf.hvp(y, x, v)], {x: at})
    weights = np.random.RandomState(6).normal(size=at.shape)
    expected = numeric.central_differences(
        lambda p: np.sum(weights * self.session.run(first, {x: p})), at)
    np.testing.assert_allclose(
        np.tensordot(weights, got, at.ndim), expected, atol=1e-6)
    np.testing.assert_allclose(
        product, np.tensordot(got, v, at.ndim), rtol=1e-8, atol=1e-10)

  @parameterized.named_parameters(
      ("loop", lambda x: tf.while_loop(
          lambda i, a: i < 3, lambda i, a: (i + 1, tf.sin(a) * x), [0, x])[1]),
      ("branch", lambda x: tf.cond(
          tf.reduce_sum(x) > 0, lambda: tf.exp(x) * x, lambda: x ** 3)),
      ("both", lambda x: tf.while_loop(
          lambda i, a: i < 3, lambda i, a: (i + 1, tf.cond(
              tf.equal(i, 1), lambda: a * x, lambda: tf.sin(a))), [0, x])[1]))
  def test_through_control_flow(self, function):
    for version in (1, 2):
      x = tf.placeholder(tf.float64, [2, 2])
      with flows.control_flow(version):
        y = function(x)
      for sign in (1.0, -1.0):
        self._check(y, x, sign * np.array([[0.5, 1.5], [0.7, 0.2]]))

  @parameterized.named_parameters(
      ("map", lambda x: tf.map_fn(lambda row: row ** 3, x)),
      ("scan", lambda x: tf.scan(lambda a, row: a * tf.sin(row), x)),
      ("fold", lambda x: tf.foldl(lambda a, row: a * tf.sin(row), x)))
  def test_through_tensor_arrays(self, function):
    x = tf.placeholder(tf.float64, [2, 2])
    self._check(function(x), x, np.array([[0.5, 1.5], [0.7, 0.2]]))

  def test_through_a_custom_gradient(self):

    @tf.custom_gradient
    def cube(x):
      return x ** 3, lambda dy: dy * 3.0 * x * x

    x = tf.placeholder(tf.float64, [2, 2])
    self._check(cube(x) * tf.sin(x), x, np.array([[0.5, 1.5], [0.7, 0.2]]))
    # What the gradient reads beside its argument is of each turn.
    for version in flows.versions_of_this_mode():
      with flows.control_flow(version):
        y = tf.while_loop(lambda i, a: i < 2, lambda i, a: (
            i + 1, cube(tf.sin(a)) * x + tf.nn.swish(a)), [0, x])[1]
        z = tf.cond(x[0, 0] > 0.0, lambda: cube(tf.sin(x)), lambda: x)
        rows = tf.map_fn(lambda row: cube(row) * row, x)
      self._check(y + 2.0 * z + 3.0 * rows, x,
                  np.array([[0.5, 1.5], [0.7, 0.2]]))

  @parameterized.named_parameters(
      ("convolution", lambda x: tf.nn.conv2d(
          tf.reshape(x, [1, 2, 2, 1]), tf.ones([2, 2, 1, 2], x.dtype), 1,
          "SAME") ** 3),
      ("pool", lambda x: tf.nn.avg_pool(
          tf.reshape(x ** 3, [1, 2, 2, 1]), 2, 1, "SAME")),
      ("entropy", lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
          labels=np.eye(2), logits=x * x)),
      ("division", lambda x: x / (x * x + 2.0)),
      ("power", lambda x: (x * x + 1.0) ** x),
      ("norm", lambda x: tf.nn.l2_normalize(x, 1)),
      ("inverse", lambda x: tf.linalg.inv(x + 3.0 * tf.eye(
          2, dtype=x.dtype))),
      ("quotient_of_numbers", lambda x: tf.reduce_sum(x) / tf.reduce_sum(
          x * x)),
      ("diagonal", lambda x: tf.linalg.diag_part(x) ** 3),
      ("on_a_diagonal", lambda x: tf.linalg.set_diag(x ** 3, x[:, 0] ** 2)),
      ("cholesky", lambda x: tf.linalg.cholesky(
          tf.matmul(x, x, transpose_b=True))),
      ("lookup", lambda x: tf.gather(x, [1, 1, 0]) ** 3))
  def test_of_ops(self, function):
    for shape in ([2, 2], [None, 2]):
      x = tf.placeholder(tf.float64, shape)
      self._check(function(x), x, np.array([[0.5, 1.5], [0.7, 0.2]]))

  @parameterized.named_parameters(
      ("softsign", "Softsign 'op'", "x / .1 . tf.abs.x..",
       lambda x: tf.nn.softsign(x, name="op")),
      ("resize", "ResizeBilinear", "interpolation", lambda x:
       tf.image.resize_bilinear(tf.reshape(x, [1, 2, 2, 1]), [3, 3]) ** 2),
      ("dilation", "Dilation2D", "tf.custom_gradient", lambda x:
       tf.nn.dilation2d(
           tf.reshape(x, [1, 2, 2, 1]), tf.zeros([1, 1, 1], x.dtype),
           [1, 1, 1, 1], [1, 1, 1, 1], "SAME") ** 2))
  def test_e5_without_is_named_before_an_op_is_built(
      self, op, replacement, function):
    if "Dilation" in op and not hasattr(tf.nn, "dilation2d"):
      self.skipTest("no such op")
    x = tf.placeholder(tf.float64, [2, 2], name="x")
    y = tf.identity(function(x), name="y")
    before = self.count()
    for call in (lambda: gf.hessian(y, x), lambda: gf.hvp(y, x, np.eye(2))):
      with self.assertRaisesRegex(
          gf.MissingGradientError,
          "(?s)No second derivative of 'y:0'.*'x:0'.*{}.*Fix: .*{}".format(
              op, replacement)):
        call()
      self.assertEqual(self.count(), before)
    gf.gradient(y, x)  # There is a first one; and the answer stays.
    before = self.count()
    with self.assertRaises(LookupError):
      gf.hessian(y, x)
    self.assertEqual(self.count(), before)

  def test_e5_in_the_body_of_a_function(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    with flows.control_flow(2):
      y = tf.while_loop(
          lambda i, a: i < 3, lambda i, a: (i + 1, tf.nn.softsign(a)),
          [0, x])[1]
    before = self.count()
    with self.assertRaisesRegex(
        gf.MissingGradientError, "While.*SoftsignGrad"):
      gf.hessian(y, x)
    self.assertEqual(self.count(), before)

  def test_e5_sparse_cross_entropy(self):
    x = tf.placeholder(tf.float64, [2, 2], name="x")
    y = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=[0, 1], logits=x)
    if tf.__version__.startswith("1."):
      with self.assertRaisesRegex(
          gf.MissingGradientError,
          "(?s)SparseSoftmaxCrossEntropyWithLogits.*tf.one_hot"):
        gf.hessian(y, x)
    else:
      self._check(y, x, np.array([[0.5, 1.5], [0.7, 0.2]]))

  def test_an_op_that_hides_the_dependence_is_refused(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    hidden = tf.py_func(lambda a: a * a, [x], tf.float64, name="hidden")
    hidden.set_shape([2])
    y = x * hidden
    v = np.ones(2)
    for call in (lambda: gf.hessian(y, x), lambda: gf.hvp(y, x, v)):
      with self.assertRaisesRegex(
          gf.IncompleteGradientError, "PyFunc.*'hidden'"):
        call()

  def test_steps_and_held_tensors_have_no_second_derivative(self):
    x = tf.placeholder(tf.float64, [2])
    y = x * (tf.floor(x) + tf.stop_gradient(x * x))
    np.testing.assert_array_equal(
        self.session.run(gf.hessian(y, x), {x: [1.5, 2.5]}), np.zeros([2, 2]))

  @parameterized.named_parameters(
      ("moments", lambda x: tf.stack(tf.nn.moments(x ** 2, [0]))),
      ("normalized", lambda x: tf.nn.batch_normalization(
          x, *tf.nn.moments(x, [1], keep_dims=True), None, None, 1e-3) ** 3))
  def test_s9_through_moments(self, function):
    # There the mean is held constant within the variance.
    x = tf.placeholder(tf.float64, [2, 2])
    y = function(x)
    at = np.array([[0.5, 1.5], [0.7, 0.2]])
    self._check(y, x, at)
    weights = np.random.RandomState(0).normal(size=[2, 2])
    z = tf.reduce_sum(weights * gf.gradient(y, x))
    np.testing.assert_allclose(
        self.session.run(gf.gradient(z, x), {x: at}),
        numeric.central_differences(
            lambda p: self.session.run(z, {x: p}), at), atol=1e-7)

  def test_a_mean_that_the_model_holds_constant_stays_so(self):
    x = tf.placeholder(tf.float64, [3])
    held = tf.stop_gradient(tf.reduce_mean(x))
    y = tf.reduce_sum(tf.squared_difference(x, held) * x)
    at = np.array([1.0, 2.0, 6.0])
    np.testing.assert_allclose(  # (x - 3)^2 x: 6 x - 12.
        self.session.run(gf.hessian(y, x), {x: at}),
        np.diag(6.0 * at - 12.0))

  def test_a_mean_that_is_held_as_in_moments_but_by_the_model_stays_so(self):
    x = tf.placeholder(tf.float64, [3, 3])
    for axes, keeps in (([0], False), ([1], False), ([1], True)):
      held = tf.stop_gradient(tf.reduce_mean(x, axes, keepdims=keeps))
      y = tf.reduce_sum(tf.reduce_mean(
          tf.squared_difference(x, held), axes, keepdims=keeps))
      np.testing.assert_allclose(
          self.session.run(gf.hessian(y, x), {x: np.ones([3, 3])}).reshape(
              9, 9), 2.0 / 3.0 * np.eye(9))

  @parameterized.product(version=(1, 2), turn=(
      lambda a, x: tf.sin(a) * x, lambda a, x: 1.2 * a + tf.sin(x),
      lambda a, x: a + x ** 3))
  def test_gradient_of_a_gradient_through_a_loop(self, version, turn):
    x = tf.placeholder(tf.float64, [2])
    with flows.control_flow(version):
      y = tf.while_loop(lambda i, a: i < 3,
                        lambda i, a: (i + 1, turn(a, x)), [0, x])[1]
    z = gf.gradient(y, x) * x + y
    twice = gf.gradient(z, x)
    at = np.array([0.5, 1.2])
    np.testing.assert_allclose(
        self.session.run(twice, {x: at}), numeric.central_differences(
            lambda p: np.sum(self.session.run(z, {x: p})), at), atol=1e-7)

  @parameterized.product(version=(1, 2), kind=("hvp", "hessian", "twice"))
  def test_a_value_and_its_second_derivative_are_of_the_same_draw(
      self, version, kind):
    x = tf.placeholder(tf.float64, [])
    with flows.control_flow(version):
      h = tf.cond(x > 0.0, lambda: x ** 2 * tf.random.uniform(
          [], dtype=tf.float64), lambda: x)
    y = h * 3.0
    second = {"hvp": lambda: gf.hvp(y, x, tf.constant(1.0, tf.float64)),
              "hessian": lambda: gf.hessian(y, x),
              "twice": lambda: gf.gradient(gf.gradient(y, x), x)}[kind]()
    f = gf.function(x, [h, second], self.session)
    for _ in range(3):
      h_t, second_t = f(1.0)
      np.testing.assert_allclose(second_t, 6.0 * h_t, rtol=1e-12)
      y_t, second_t = gf.run(self.session, [y, second], {x: 1.0})
      np.testing.assert_allclose(second_t, 2.0 * y_t, rtol=1e-12)

  @parameterized.product(version=(1, 2), in_loop=(False, True),
                         kind=("hvp", "hessian", "twice"))
  def test_derivatives_of_all_orders_are_of_the_same_draw(
      self, version, in_loop, kind):
    x = tf.placeholder(tf.float64, [])
    h = flows.inside(
        lambda: x ** 3 * tf.random.uniform([], 1.0, 2.0, tf.float64), x,
        version, in_loop)
    y = h * 3.0
    first = gf.gradient(y, x)
    second = {"hvp": lambda: gf.hvp(y, x, tf.constant(1.0, tf.float64)),
              "hessian": lambda: gf.hessian(y, x),
              "twice": lambda: gf.gradient(first, x)}[kind]()
    third = gf.gradient(second, x)
    outputs = {h: 8.0, y: 24.0, first: 36.0, second: 36.0, third: 18.0}
    for group in ([first, second], [second, y, first], [h, first, second],
                  [first, third], [y, second, third], list(outputs)):
      f = gf.function(x, group, self.session)
      for results in (f(2.0), gf.run(self.session, group, {x: 2.0})):
        draws = [np.asarray(result).item() / outputs[tensor]
                 for tensor, result in zip(group, results)]
        np.testing.assert_allclose(draws, draws[0], rtol=1e-12)

  @parameterized.product(version=(1, 2), in_loop=(False, True), kind=(
      "hvp", "hessian", "twice", "jacobian_of_gradient",
      "gradient_of_jacobian"))
  def test_what_is_stopped_behind_a_branch_or_a_loop_stays_so(
      self, version, in_loop, kind):
    x = tf.placeholder(tf.float64, [])
    h = flows.inside(lambda: 3.0 * x, x, version, in_loop)
    k = tf.identity(h)
    y, stops = h * h * k * k, {"stop_gradients": k}
    second = {
        "hvp": lambda: gf.hvp(y, x, tf.constant(1.0, tf.float64), **stops),
        "hessian": lambda: gf.hessian(y, x, **stops),
        "twice": lambda: gf.gradient(gf.gradient(y, x, **stops), x, **stops),
        "jacobian_of_gradient": lambda: gf.jacobian(
            gf.gradient(y, x, **stops), x, **stops),
        "gradient_of_jacobian": lambda: gf.gradient(
            gf.jacobian(y, x, **stops), x, **stops)}[kind]()
    # (3 x)^2 k^2 with a constant k, which is 6 at x = 2.
    self.assertAlmostEqual(
        float(gf.function(x, second, self.session)(2.0)), 18.0 * 36.0)

  @parameterized.product(version=(1, 2), in_loop=(False, True), kind=(
      "hessian", "of_both", "hvp", "gradient", "jacobian", "jvp", "mixed"))
  def test_by_what_is_behind_a_branch_or_a_loop(self, version, in_loop, kind):
    x = tf.placeholder(tf.float64, [])

    def times(a, b):
      return tf.while_loop(lambda i, a: i < 1, lambda i, a: (i + 1, a * b),
                           [0, a])[1] if in_loop else (
                               tf.cond(x > 0.0, lambda: a * b, lambda: a))

    with flows.control_flow(version):
      h = times(x, 3.0)
      y = times(h, h)
    one = tf.constant(1.0, tf.float64)
    first = gf.gradient(y, x)  # 6 h
    results, expected = {
        "hessian": lambda: (gf.hessian(y, h), 2.0),
        "of_both": lambda: (gf.hessian(y, [x, h]), [[18.0, 6.0], [6.0, 2.0]]),
        "hvp": lambda: (gf.hvp(y, [x, h], [one, one]), [24.0, 8.0]),
        "gradient": lambda: (gf.gradient(first, h), 6.0),
        "jacobian": lambda: (gf.jacobian(first * h, h), 72.0),
        "jvp": lambda: (gf.jvp(first * h, h, one), 72.0),
        "mixed": lambda: (gf.hessian(first * h, h), 12.0)}[kind]()
    np.testing.assert_allclose(
        np.array(gf.function(x, results, self.session)(2.0), np.float64),
        expected, rtol=1e-12)

  @parameterized.parameters(1, 2)
  def test_by_copies_of_which_a_derivative_was_built_again(self, version):
    x, one = tf.placeholder(tf.float64, []), tf.constant(1.0, tf.float64)
    with flows.control_flow(version):
      u = tf.while_loop(
          lambda i, a: i < 1, lambda i, a: (i + 1, a * x), [0, x])[1]
    h = tf.function(lambda a: a ** 3)(x)
    y = u * h
    first = gf.gradient(y, x)  # 2 x h + 3 x^2 u
    second = gf.hvp(first * y, [u, h], [one, one])
    np.testing.assert_allclose(
        gf.function(x, second, self.session)(2.0), [352.0, 192.0], rtol=1e-12)
