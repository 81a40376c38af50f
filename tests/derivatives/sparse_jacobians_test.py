"""Jacobians and Hessians whose zeros are stated: numbers, counts, wrong ones.

What is right is known from closed forms in NumPy, or central differences.
"""

from absl.testing import parameterized
import numpy as np
import scipy.sparse
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.derivatives.sparsity import patterns
from tests.testing import flows
from tests.testing import graphs

_DTYPES = (("float32", tf.float32), ("float64", tf.float64))

_MODES = (("auto", "auto"), ("forward", "forward"), ("reverse", "reverse"))


def _burgers(u, spacing, viscosity=0.01):
  """u u_x - viscosity u_xx by central differences; zero at both ends."""
  around = tf.pad(u, [[1, 1]])
  left, right = around[:-2], around[2:]
  return u * (right - left) / (2 * spacing) - viscosity * (
      right - 2 * u + left) / spacing ** 2


def _burgers_jacobian(u, spacing, viscosity=0.01):
  """Its Jacobian, from the equation."""
  around = np.pad(u, 1, "constant")
  slope = (around[2:] - around[:-2]) / (2 * spacing)
  beside = viscosity / spacing ** 2
  return (np.diag(slope + 2 * beside) +
          np.diag(u[:-1] / (2 * spacing) - beside, 1) +
          np.diag(-u[1:] / (2 * spacing) - beside, -1))


def _band(size, width=1):
  """The places around the diagonal."""
  places = np.arange(size)
  return np.abs(places[:, np.newaxis] - places) <= width


def _dense(value):
  """A `SparseTensorValue` as an array."""
  result = np.zeros(value.dense_shape, value.values.dtype)
  rows, columns = value.indices.T
  result[rows, columns] = value.values
  return result


class ColoursTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ("diagonal", _band(9, 0), 1), ("three", _band(30), 3),
      ("five", _band(30, 2), 5), ("all", np.ones([4, 6]), 6),
      ("blocks", np.kron(np.eye(5), np.ones([2, 3])), 3),
      ("arrow", np.eye(7) + np.outer(np.eye(7)[0], np.ones(7)), 7),
      ("none", np.zeros([3, 4]), 0))
  def test_groups_are_apart_and_few(self, matrix, count):
    groups = patterns.colours(*np.nonzero(matrix))
    self.assertEqual(len(set(groups) - {-1}), count)
    for group in set(groups) - {-1}:
      own = matrix[:, np.flatnonzero(groups == group)]
      self.assertLessEqual(np.count_nonzero(own, axis=1).max(), 1)

  def test_any_pattern(self):
    random = np.random.RandomState(0)
    for _ in range(20):
      matrix = random.uniform(size=[13, 17]) < 0.15
      groups = patterns.colours(*np.nonzero(matrix))
      groups = np.pad(groups, [0, 17 - len(groups)], "constant",
                      constant_values=-1)
      np.testing.assert_array_equal(groups >= 0, matrix.any(axis=0))
      for group in range(groups.max() + 1):
        self.assertLessEqual(matrix[:, groups == group].sum(axis=1).max(), 1)


class SparseJacobianTest(graphs.GraphTest):

  def groups(self):
    """The numbers of groups for which there are products in the graph."""
    return {int(tf.make_ndarray(op.inputs[1].op.get_attr("value")))
            for op in self.graph.get_operations() if op.type == "OneHot"}

  @parameterized.named_parameters(
      (name + mode, dtype, way) for name, dtype in _DTYPES
      for mode, way in _MODES)
  def test_burgers(self, dtype, mode):
    u = tf.placeholder(dtype, [40])
    residual = _burgers(u, 0.025)
    u_t = np.sin(np.arange(40.0))
    expected = _burgers_jacobian(u_t, 0.025)
    dense = gf.jacobian(residual, u, mode=mode, sparsity=_band(40))
    sparse = gf.jacobian(residual, u, mode=mode, sparsity=_band(40),
                         sparse=True)
    self.assertEqual(self.groups(), {3})
    dense_t, sparse_t = gf.function(u, [dense, sparse], self.session)(u_t)
    precision = 1e-5 if dtype == tf.float32 else 1e-12
    for found in (dense_t, _dense(sparse_t)):
      self.assertEqual(found.dtype, dtype.as_numpy_dtype)
      np.testing.assert_allclose(
          found, expected, rtol=0, atol=precision * np.abs(expected).max())
    self.assertLen(sparse_t.values, 3 * 40 - 2)
    np.testing.assert_array_equal(
        sparse_t.indices, np.argwhere(_band(40)))
    for fetched in (gf.run(self.session, sparse, {u: u_t}),
                    self.session.run(sparse, {u: u_t})):
      np.testing.assert_array_equal(_dense(fetched), dense_t)

  @parameterized.named_parameters(
      ("booleans", lambda band: band),
      ("numbers", lambda band: 3.0 * band),
      ("lists", lambda band: band.tolist()),
      ("four_axes", lambda band: band.reshape(2, 3, 2, 3)),
      ("indices", lambda band: np.nonzero(band)),
      ("indices_twice_in_any_order", lambda band: tuple(
          np.tile(part, 2)[::-1] for part in np.nonzero(band))),
      ("lists_of_indices", lambda band: tuple(
          part.tolist() for part in np.nonzero(band))),
      ("scipy", scipy.sparse.csr_matrix),
      ("scipy_with_zeros_stored", lambda band: scipy.sparse.coo_matrix(
          (np.zeros(16), np.nonzero(band)), [6, 6])),
      ("more_than_needed", lambda band: band | np.eye(6, k=3, dtype=bool)))
  def test_every_form(self, form):
    u = tf.placeholder(tf.float64, [2, 3])
    residual = tf.reshape(_burgers(tf.reshape(u, [6]), 0.5), [2, 3])
    j = gf.jacobian(residual, u, sparsity=form(_band(6)))
    self.assertEqual(j.shape.as_list(), [2, 3, 2, 3])
    u_t = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(
        self.session.run(j, {u: u_t}).reshape(6, 6),
        _burgers_jacobian(u_t.ravel(), 0.5), rtol=1e-12, atol=1e-12)

  @parameterized.named_parameters(*_MODES)
  def test_more_rows_or_more_columns(self, mode):
    random = np.random.RandomState(0)
    for shape in ([9, 5], [5, 9]):
      pattern = random.uniform(size=shape) < 0.3
      matrix = np.where(pattern, random.normal(size=shape), 0.0)
      x = tf.placeholder(tf.float64, shape[1:])
      y = tf.linalg.matvec(matrix, x ** 3)
      x_t = random.normal(size=shape[1])
      np.testing.assert_allclose(
          gf.function(x, gf.jacobian(y, x, sparsity=pattern, mode=mode),
                      self.session)(x_t),
          matrix * 3 * x_t ** 2, rtol=1e-10, atol=1e-12)

  def test_auto_takes_the_fewer_products(self):
    x = tf.placeholder(tf.float64, [8])
    wide, tall = tf.reduce_sum(x)[tf.newaxis] ** 2, x * x[0]
    column = np.zeros([8, 8], bool)
    column[:, 0] = True
    one = gf.jacobian(wide, x, sparsity=np.ones([1, 8]))
    self.assertEqual(self.groups(), {1})
    two = gf.jacobian(tall, x, sparsity=column | np.eye(8, dtype=bool))
    self.assertEqual(self.groups(), {1, 2})
    x_t = np.arange(1.0, 9.0)
    one_t, two_t = self.session.run([one, two], {x: x_t})
    np.testing.assert_allclose(one_t, np.full([1, 8], 72.0))
    expected = np.eye(8)
    expected[:, 0] += x_t
    np.testing.assert_allclose(two_t, expected)

  @parameterized.named_parameters(*_MODES)
  def test_shapes_that_are_known_in_a_run(self, mode):
    u = tf.placeholder(tf.float64, [None], name="u")
    places = np.nonzero(_band(7))
    f, g, h = [gf.function(u, gf.jacobian(
        _burgers(u, 0.5), u, sparsity=pattern, mode=mode, chunk=2),
                           self.session)
               for pattern in (places, _band(7), scipy.sparse.eye(7))]
    u_t = np.cos(np.arange(7.0))
    np.testing.assert_allclose(f(u_t), _burgers_jacobian(u_t, 0.5), rtol=1e-12)
    np.testing.assert_array_equal(g(u_t), f(u_t))
    with self.assertRaises(gf.SparsityError):
      h(u_t)
    with self.assertRaises(gf.SparsityError):
      f(np.ones(8))  # Its last row and column have no place.
    for function, size in ((f, 6), (g, 6), (g, 8)):
      with self.assertRaisesRegex(gf.ArgumentError,
                                  "(?s)sparsity.*{} elements".format(size)):
        function(np.ones(size))

  def test_ops_do_not_grow_with_the_size(self):
    counts = []
    for size in (30, 300):
      with tf.Graph().as_default() as graph:
        u = tf.placeholder(tf.float64, [size])
        gf.jacobian(_burgers(u, 0.1), u, sparsity=_band(size))
        counts.append(len(graph.get_operations()))
    self.assertEqual(counts[0], counts[1])

  def test_the_second_call_returns_the_tensors_of_the_first(self):
    u = tf.placeholder(tf.float64, [6])
    residual = _burgers(u, 0.1)
    one = gf.jacobian(residual, u, sparsity=_band(6), sparse=True)
    before = self.count()
    for pattern in (_band(6), np.nonzero(_band(6))):
      two = gf.jacobian(residual, u, sparsity=pattern, sparse=True)
      self.assertIs(one.values, two.values)
    self.assertEqual(self.count(), before)

  @parameterized.named_parameters(*_MODES)
  def test_second_derivatives(self, mode):
    x = tf.placeholder(tf.float64, [5])
    y = x[:-1] ** 3 * x[1:]
    pattern = (_band(5) & ~np.tri(5, k=-1, dtype=bool))[:4]
    x_t = np.arange(1.0, 6.0)
    for sparse in (False, True):
      j = gf.jacobian(y, x, sparsity=pattern, sparse=sparse, mode=mode)
      values = j.values if sparse else j
      total = gf.gradient(tf.reduce_sum(values ** 2), x)
      # J has 3 a^2 b and a^3 for each pair a, b.
      a, b = x_t[:-1], x_t[1:]
      expected = np.zeros(5)
      expected[:-1] += 36 * a ** 3 * b ** 2 + 6 * a ** 5
      expected[1:] += 18 * a ** 4 * b
      np.testing.assert_allclose(
          gf.function(x, total, self.session)(x_t), expected, rtol=1e-12)

  @parameterized.named_parameters(
      (name + str(version), version, mode) for name, mode in _MODES
      for version in flows.versions_of_this_mode())
  def test_through_a_loop(self, version, mode):
    u = tf.placeholder(tf.float64, [9])
    with flows.control_flow(version):
      _, after = tf.while_loop(
          lambda i, _: i < 2,
          lambda i, v: (i + 1, v - 0.01 * _burgers(v, 0.5)), [0, u])
    j = gf.function(u, gf.jacobian(after, u, sparsity=_band(9, 2), mode=mode),
                    self.session)
    u_t = np.sin(np.arange(9.0))
    step = 1e-6
    columns = [self.session.run(after, {u: u_t + step * unit}) -
               self.session.run(after, {u: u_t - step * unit})
               for unit in np.eye(9)]
    np.testing.assert_allclose(
        j(u_t), np.stack(columns, 1) / (2 * step), rtol=1e-6, atol=1e-8)

  def test_of_tensors_that_are_cut(self):
    u = tf.placeholder(tf.float64, [5])
    inner = tf.identity(u * 2, name="inner")
    f = gf.function(inner, gf.jacobian(
        _burgers(inner, 1.0), inner, sparsity=_band(5)), self.session)
    at = np.arange(5.0)
    np.testing.assert_allclose(f(at), _burgers_jacobian(at, 1.0), rtol=1e-12)

  def test_flat(self):
    x = tf.placeholder(tf.float64, [2, 2])
    j = gf.jacobian(x ** 2, x, flat=True, sparsity=np.eye(4))
    self.assertEqual(j.shape.as_list(), [2, 2, 4])

  def test_dtypes_of_y_and_x(self):
    x = tf.placeholder(tf.float64, [4])
    y = tf.cast(x, tf.float32) ** 2
    for mode in ("forward", "reverse"):
      j = gf.jacobian(y, x, sparsity=np.eye(4), mode=mode)
      self.assertEqual(j.dtype, tf.float64)
      np.testing.assert_allclose(
          self.session.run(j, {x: [1.0, 2.0, 3.0, 4.0]}),
          np.diag([2.0, 4.0, 6.0, 8.0]))

  def test_without_dependence(self):
    x = tf.placeholder(tf.float64, [3])
    z = tf.placeholder(tf.float64, [3])
    with self.assertRaises(gf.DisconnectedError):
      gf.jacobian(z * 2, x, sparsity=np.eye(3))
    for sparse in (False, True):
      self.assertIsNone(gf.jacobian(
          z * 2, x, sparsity=np.eye(3), sparse=sparse, unconnected="none"))
      zero = gf.jacobian(
          z * 2, x, sparsity=np.eye(3), sparse=sparse, unconnected="zero")
      zero_t = self.session.run(zero, {x: np.ones(3), z: np.ones(3)})
      np.testing.assert_array_equal(
          _dense(zero_t) if sparse else zero_t, np.zeros([3, 3]))

  def test_no_places(self):
    x = tf.placeholder(tf.float64, [3])
    j = gf.jacobian(tf.stop_gradient(x) + 0.0 * x, x, sparsity=np.zeros([3, 3]))
    np.testing.assert_array_equal(
        self.session.run(j, {x: np.ones(3)}), np.zeros([3, 3]))
    wrong = gf.function(
        x, gf.jacobian(x * 2, x, sparsity=np.zeros([3, 3])), self.session)
    with self.assertRaises(gf.SparsityError):
      wrong(np.ones(3))


class WrongSparsityTest(graphs.GraphTest):

  @parameterized.named_parameters(
      (name + mode, dtype, way) for name, dtype in _DTYPES
      for mode, way in _MODES)
  def test_each_place_that_is_missing(self, dtype, mode):
    rows, columns = np.nonzero(_band(6))
    u = tf.placeholder(dtype, [6], name="u")
    residual = tf.identity(_burgers(u, 0.1), name="residual")
    for place in range(0, len(rows), 3 if dtype == tf.float32 else 5):
      j = gf.jacobian(residual, u, mode=mode, sparse=True, sparsity=(
          np.delete(rows, place), np.delete(columns, place)))
      f = gf.function(u, j, self.session)
      with self.assertRaisesRegex(
          gf.SparsityError, r"(?s)'residual:0'.*'u:0'.*by \d+\.\d+.*missing"):
        f(np.sin(np.arange(6.0)))
    with self.assertRaises(gf.SparsityError):
      gf.run(self.session, j, {u: np.ones(6)})
    with self.assertRaises(tf.errors.InvalidArgumentError):
      self.session.run(j, {u: np.ones(6)})

  def test_the_message_has_the_difference_and_the_place(self):
    x = tf.placeholder(tf.float64, [4])
    matrix = np.eye(4)
    matrix[2, 0] = 0.5
    f = gf.function(x, gf.jacobian(tf.linalg.matvec(matrix, x), x,
                                   sparsity=np.eye(4), mode="forward"),
                    self.session)
    with self.assertRaises(gf.SparsityError) as raised:
      f(np.ones(4))
    self.assertRegex(str(raised.exception), r"element 2 of .*by 0\.\d+")

  def test_a_small_row_beside_large_ones(self):
    # Rounding in the large rows is a thousand times the small row.
    matrix = np.diag(np.full(20, 1e10)) + np.eye(20, k=1) * 1e10
    matrix[19] = np.eye(20)[19]
    pattern = matrix > 0
    matrix[19, 18] = 0.5
    x = tf.placeholder(tf.float32, [20])
    y = tf.linalg.matvec(matrix.astype("f"), x)
    f = gf.function(x, gf.jacobian(y, x, sparsity=pattern, mode="forward"),
                    self.session)
    with self.assertRaises(gf.SparsityError):
      f(np.ones(20))

  def test_what_is_not_linear(self):
    @tf.custom_gradient
    def clipped(x):
      return tf.identity(x), lambda dy: tf.clip_by_norm(dy, 1.0)

    x = tf.placeholder(tf.float64, [6])
    f = gf.function(x, gf.jacobian(clipped(x), x, sparsity=np.eye(6)),
                    self.session)
    with self.assertRaisesRegex(gf.SparsityError, "not linear"):
      f(np.ones(6))

  def test_a_gradient_of_its_own_that_is_linear(self):
    @tf.custom_gradient
    def tripled(x):
      return tf.identity(x), lambda dy: 3 * dy

    x = tf.placeholder(tf.float32, [6])
    j = gf.jacobian(tripled(x) ** 2, x, sparsity=np.eye(6))
    np.testing.assert_allclose(
        self.session.run(j, {x: np.arange(6.0)}), np.diag(6 * np.arange(6.0)))


class NoFalseAlarmTest(graphs.GraphTest):
  """Right patterns where rounding is large beside what it is part of."""

  def check(self, y, x, pattern, points, expected=None, precision=1e-4):
    for mode in ("reverse", "forward"):
      f = gf.function(x, gf.jacobian(y, x, sparsity=pattern, mode=mode,
                                     sparse=True), self.session)
      for point in points:
        found = _dense(f(point))
        if expected is not None:
          right = expected(np.asarray(point, np.float64))
          np.testing.assert_allclose(
              found, right, rtol=0, atol=precision * np.abs(right).max())

  def test_elements_that_cancel(self):
    # 3 x^2 - 3 is nearly zero in some rows.
    x = tf.placeholder(tf.float32, [2000])
    points = [np.random.RandomState(seed).uniform(-1.1, 1.1, 2000)
              for seed in range(20)]
    points.append(1 + 1e-6 * np.arange(2000))
    self.check(x ** 3 - 3 * x, x, np.nonzero(np.eye(2000)), points)

  @parameterized.named_parameters(
      (name + str(size), dtype, size) for name, dtype in _DTYPES
      for size in (1, 2, 5))
  def test_few_elements_that_all_cancel(self, dtype, size):
    x = tf.placeholder(dtype, [size])
    random = np.random.RandomState(0)
    points = [1 + random.normal(size=size) * 10.0 ** random.uniform(-9, -1)
              for _ in range(200)]
    self.check(x ** 3 - 3 * x, x, np.eye(size), points)

  def test_rows_of_every_size(self):
    size = 10.0 ** np.linspace(-18, 18, 200)
    x = tf.placeholder(tf.float32, [200])
    around = tf.pad(x, [[1, 1]])
    y = size.astype("f") * tf.tanh(around[2:] * around[:-2] - x)
    self.check(y, x, _band(200), [np.sin(np.arange(200.0))])

  def test_networks_of_single_rows(self):
    random = np.random.RandomState(0)
    x = tf.placeholder(tf.float32, [6, 5])
    hidden = x
    for width in (5, 300), (300, 300), (300, 4):
      hidden = tf.nn.relu(tf.matmul(
          hidden, random.normal(size=width).astype("f")) - 3.0)
    self.check(hidden, x, np.kron(np.eye(6), np.ones([4, 5])),
               random.normal(size=[5, 6, 5]))

  @parameterized.named_parameters(("float16", tf.float16),
                                  ("cast", tf.float32))
  def test_half_precision(self, dtype):
    x = tf.placeholder(dtype, [50])
    y = tf.cast(_burgers(tf.cast(x, tf.float16), 1.0, 0.5), dtype)
    self.check(y, x, _band(50), [np.sin(np.arange(50.0))],
               lambda u: _burgers_jacobian(u, 1.0, 0.5), 1e-2)

  def test_what_is_not_a_number_is_returned(self):
    x = tf.placeholder(tf.float64, [3])
    for mode in ("reverse", "forward"):
      j = gf.jacobian(tf.sqrt(x), x, sparsity=np.eye(3), mode=mode)
      found = self.session.run(j, {x: [-1.0, 0.0, 4.0]})
      self.assertTrue(np.isnan(found[0, 0]))
      self.assertEqual(found[2, 2], 0.25)

  def test_nothing_but_zeros(self):
    x = tf.placeholder(tf.float32, [4])
    self.check(tf.nn.relu(x), x, np.eye(4), [-np.ones(4)],
               lambda u: np.zeros([4, 4]))


class SparseHessianTest(graphs.GraphTest):

  @parameterized.named_parameters(
      ("both", _band(8)), ("upper", np.triu(_band(8))),
      ("lower", np.tril(_band(8))),
      ("indices", np.nonzero(np.triu(_band(8)))))
  def test_a_chain(self, pattern):
    x = tf.placeholder(tf.float64, [8])
    y = tf.reduce_sum((x[1:] - x[:-1]) ** 4)
    x_t = np.sin(np.arange(8.0))
    beside = 12 * (x_t[1:] - x_t[:-1]) ** 2
    expected = (np.diag(np.pad(beside, [0, 1], "constant") +
                        np.pad(beside, [1, 0], "constant")) -
                np.diag(beside, 1) - np.diag(beside, -1))
    h, sparse, flat = gf.function(x, [
        gf.hessian(y, x, sparsity=pattern),
        gf.hessian(y, x, sparsity=pattern, sparse=True),
        gf.hessian(y, x, sparsity=pattern, flat=True)], self.session)(x_t)
    for found in (h, _dense(sparse), flat):
      np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    third = gf.gradient(tf.reduce_sum(
        gf.hessian(y, x, sparsity=pattern, sparse=True).values[:1]), x)
    np.testing.assert_allclose(
        self.session.run(third, {x: x_t})[:2],
        24 * (x_t[1] - x_t[0]) * np.array([-1.0, 1.0]))

  def test_of_no_curvature(self):
    x = tf.placeholder(tf.float64, [3])
    for y in (tf.reduce_sum(x), tf.reduce_sum(x * 2)):
      h = gf.hessian(y, x, sparsity=np.eye(3))
      sparse = gf.hessian(y, x, sparsity=np.eye(3), sparse=True)
      h_t, sparse_t = self.session.run([h, sparse], {x: np.ones(3)})
      np.testing.assert_array_equal(h_t, np.zeros([3, 3]))
      np.testing.assert_array_equal(sparse_t.values, np.zeros(3))

  def test_a_pattern_that_is_wrong(self):
    x = tf.placeholder(tf.float64, [5])
    f = gf.function(x, gf.hessian(
        tf.reduce_sum(x[1:] ** 2 * x[:-1]), x, sparsity=np.eye(5)),
                    self.session)
    with self.assertRaises(gf.SparsityError):
      f(np.arange(1.0, 6.0))


class AutoSparsityTest(graphs.GraphTest):
  """Patterns that the ops prove."""

  def groups(self):
    return SparseJacobianTest.groups(self)

  @parameterized.named_parameters(*_MODES)
  def test_burgers(self, mode):
    u = tf.placeholder(tf.float64, [40])
    residual = _burgers(u, 0.025)
    dense = gf.jacobian(residual, u, sparsity="auto", mode=mode)
    sparse = gf.jacobian(residual, u, sparsity="auto", sparse=True, mode=mode)
    u_t = np.sin(np.arange(40.0))
    dense_t, sparse_t = gf.function(u, [dense, sparse], self.session)(u_t)
    for found in (dense_t, _dense(sparse_t)):
      np.testing.assert_allclose(
          found, _burgers_jacobian(u_t, 0.025), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(sparse_t.indices, np.argwhere(_band(40)))
    self.assertEqual(self.groups(), {3})

  def test_rows_of_a_batch(self):
    random = np.random.RandomState(0)
    first, second = random.normal(size=[5, 8]), random.normal(size=[8, 4])
    x = tf.placeholder(tf.float64, [6, 5])
    y = tf.matmul(tf.nn.softmax(tf.matmul(x, first)), second)
    x_t = random.normal(size=[6, 5])
    j = self.session.run(gf.jacobian(y, x, sparsity="auto"), {x: x_t})
    expected = np.zeros([6, 4, 6, 5])
    for b in range(6):
      p = np.exp(x_t[b].dot(first))
      p /= p.sum()
      expected[b, :, b] = (first * p).dot(second).T - np.outer(
          p.dot(second), first.dot(p))
    np.testing.assert_allclose(j, expected, rtol=1e-9, atol=1e-12)
    self.assertEqual(self.groups(), {4})  # Elements of a row of y.

  @parameterized.named_parameters(
      ("nothing_proven", lambda u: tf.cumsum(u)),
      ("nothing_saved", lambda u: u * tf.reduce_sum(u)),
      ("a_scalar", lambda u: tf.reduce_sum(u ** 2)))
  def test_all_where_nothing_is_gained(self, function):
    u = tf.placeholder(tf.float64, [6])
    y = function(u)
    j = gf.jacobian(y, u, sparsity="auto")
    self.assertIs(j, gf.jacobian(y, u))

  def test_what_is_not_proven_cannot_be_sparse(self):
    u = tf.placeholder(tf.float64, [6])
    v = tf.placeholder(tf.float64, [None], name="v")
    with self.assertRaisesRegex(gf.ArgumentError, "(?s)prove no.*Cumsum"):
      gf.jacobian(tf.cumsum(u), u, sparsity="auto", sparse=True)
    with self.assertRaisesRegex(gf.ArgumentError, "(?s)prove no.*'v'"):
      gf.jacobian(v ** 2, v, sparsity="auto", sparse=True)
    with self.assertRaisesRegex(gf.ArgumentError, "sparsity is for"):
      gf.jacobian([u * u, u], u, sparsity="auto", sparse=True)

  def test_structures_and_complex_tensors(self):
    u = tf.placeholder(tf.complex128, [8])
    v = tf.placeholder(tf.float64, [8])
    j = gf.jacobian(u * u, u, sparsity="auto")
    np.testing.assert_allclose(
        self.session.run(j, {u: np.arange(8.0)}), np.diag(2 * np.arange(8.0)))
    a, b = gf.jacobian([v * v, v ** 3], [v], sparsity="auto")
    for found, expected in ((a[0], 4.0), (b[0], 12.0)):
      np.testing.assert_allclose(
          self.session.run(found, {v: np.full(8, 2.0)}),
          np.diag(np.full(8, expected)))
    self.assertIn(1, self.groups())

  @parameterized.named_parameters(*graphs.KINDS)
  def test_variables(self, use_resource):
    v = graphs.variable("v", np.arange(7.0), use_resource)
    self.initialize()
    j = gf.jacobian(_burgers(v * 1.0, 0.5), v, sparsity="auto")
    np.testing.assert_allclose(
        self.session.run(j), _burgers_jacobian(np.arange(7.0), 0.5),
        rtol=1e-12, atol=1e-12)
    self.assertEqual(self.groups(), {3})

  def test_a_hessian(self):
    x = tf.placeholder(tf.float64, [9])
    y = tf.reduce_sum((x[1:] - x[:-1]) ** 4)
    x_t = np.sin(np.arange(9.0))
    beside = 12 * (x_t[1:] - x_t[:-1]) ** 2
    h = gf.hessian(y, x, sparsity="auto", sparse=True)
    self.assertLen(self.session.run(h, {x: x_t}).values, 25)
    np.testing.assert_allclose(
        self.session.run(gf.hessian(y, x, sparsity="auto"), {x: x_t}),
        np.diag(np.pad(beside, [0, 1], "constant") +
                np.pad(beside, [1, 0], "constant")) -
        np.diag(beside, 1) - np.diag(beside, -1), rtol=1e-12, atol=1e-12)


class ArgumentsTest(graphs.GraphTest):

  @parameterized.named_parameters(
      ("shape", np.ones([3, 3]), "shape|rows"),
      ("turned", np.ones([4, 2]), "4 rows.*2 elements"),
      ("three_axes", np.ones([2, 2, 2]), "shape"),
      ("one_index", (np.array([0]),), "tuple of 1"),
      ("floats", (np.array([0.5]), np.array([1])), "float64"),
      ("booleans", (np.array([True]), np.array([True])), "bool"),
      ("lengths", ([0, 1], [0]), "2 rows and 1 columns"),
      ("negative", ([0], [-1]), "-1"),
      ("outside", ([2], [0]), "3 rows.*2 elements"),
      ("outside_columns", ([0], [4]), "5 columns.*4 elements"),
      ("text", "banded", "banded"), ("number", 3, "shape"),
      ("objects", np.array([[None] * 4] * 2), "object"),
      ("scipy", scipy.sparse.eye(7), "7 rows"))
  def test_no_pattern(self, sparsity, words):
    x = tf.placeholder(tf.float64, [4])
    y, before = x[:2] * 2, self.count()
    with self.assertRaisesRegex(
        gf.ArgumentError, "(?s)sparsity.*({}).*rows and columns".format(words)):
      gf.jacobian(y, x, sparsity=sparsity)
    self.assertEqual(self.count(), before)

  def test_tensors_are_no_pattern(self):
    x = tf.placeholder(tf.float64, [4])
    y, pattern = x * 2, tf.eye(4)
    for sparsity in (pattern, (pattern, pattern)):
      with self.assertRaisesRegex(gf.ArgumentError, "when the ops are built"):
        gf.jacobian(y, x, sparsity=sparsity)

  def test_what_it_is_not_for(self):
    x = tf.placeholder(tf.float64, [2])
    z = tf.placeholder(tf.complex128, [2])
    for y, by in (([x, x * 2], x), (x * 2, [x, x]), (z * z, z)):
      with self.assertRaisesRegex(gf.ArgumentError, "sparsity is for"):
        gf.jacobian(y, by, sparsity=np.eye(2))
    with self.assertRaisesRegex(gf.ArgumentError, "sparsity is for"):
      gf.hessian(tf.reduce_sum(x), [x, x], sparsity=np.eye(2))
    with self.assertRaisesRegex(gf.ArgumentError, "sparsity is None"):
      gf.jacobian(x * 2, x, sparse=True)
    with self.assertRaisesRegex(gf.ArgumentError, "sparse='yes'"):
      gf.jacobian(x * 2, x, sparse="yes", sparsity=np.eye(2))
    with self.assertRaisesRegex(gf.ArgumentError, "flat=True and sparse=True"):
      gf.jacobian(x * 2, x, sparse=True, flat=True, sparsity=np.eye(2))

  def test_columns_without_second_derivatives(self):
    x = tf.placeholder(tf.float64, [3])
    y = tf.nn.softsign(x)
    with self.assertRaisesRegex(gf.MissingGradientError, "Softsign"):
      gf.jacobian(y, x, mode="forward", sparsity=np.eye(3))
    np.testing.assert_allclose(
        self.session.run(gf.jacobian(y, x, sparsity=np.eye(3)),
                         {x: [0.0, 1.0, -1.0]}), np.diag([1.0, 0.25, 0.25]))
