"""batch_jacobian and class_gradient: rows that are, or are not, independent."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs


def _network(x):
  w = tf.constant(np.random.RandomState(0).normal(size=[3, 4]))
  return tf.tanh(tf.matmul(x, w)) * tf.reduce_sum(x * x, 1, keepdims=True)


def _blocks(jacobian):
  """The diagonal blocks of a Jacobian [B, i, B, j]."""
  return np.einsum("bibj->bij", jacobian)


class BatchJacobianTest(graphs.GraphTest):

  @parameterized.named_parameters(
      ("all", None), ("three", 3), ("one", 1), ("many", 100))
  def test_is_the_diagonal_of_the_jacobian(self, chunk):
    x = tf.placeholder(tf.float64, [None, 3])
    y = _network(x)
    results = [gf.batch_jacobian(y, x, chunk=chunk), gf.batch_jacobian(
        y, x, coupled=True, chunk=chunk), gf.jacobian(y, x)]
    self.assertEqual(results[0].shape.as_list(), [None, 4, 3])
    for rows in (5, 1, 0):
      at = np.random.RandomState(rows).normal(size=[rows, 3])
      blocks, apart, whole = self.session.run(results, {x: at})
      self.assertEqual(blocks.shape, (rows, 4, 3))
      np.testing.assert_allclose(blocks, _blocks(whole), rtol=1e-9)
      np.testing.assert_allclose(apart, _blocks(whole), rtol=1e-9)

  @parameterized.named_parameters(
      ("known", [4, 3]), ("rows", [None, 3]), ("nothing", None),
      ("rank", [None, None]))
  def test_of_any_static_shape(self, shape):
    x = tf.placeholder(tf.float64, shape)
    y = tf.sin(x) * x
    at = np.random.RandomState(0).normal(size=[4, 3])
    slope = np.cos(at) * at + np.sin(at)
    expected = np.stack([np.diag(row) for row in slope])
    for coupled in (False, True):
      np.testing.assert_allclose(self.session.run(
          gf.batch_jacobian(y, x, coupled=coupled), {x: at}), expected)

  def test_of_other_ranks(self):
    x = tf.placeholder(tf.float64, [None, 2, 3])
    y = tf.reduce_sum(x * x, [1, 2])
    at = np.random.RandomState(0).normal(size=[4, 2, 3])
    one = gf.batch_jacobian(y, x)
    self.assertEqual(one.shape.as_list(), [None, 2, 3])
    np.testing.assert_allclose(self.session.run(one, {x: at}), 2.0 * at)
    line = tf.placeholder(tf.float64, [None])
    np.testing.assert_allclose(self.session.run(gf.batch_jacobian(
        line ** 3, line), {line: [1.0, 2.0]}), [3.0, 12.0])

  def test_structures(self):
    a = tf.placeholder(tf.float64, [None, 2])
    b = tf.placeholder(tf.float64, [None, 3])
    y = tf.einsum("bi,bj->bij", a, b)
    got = self.session.run(gf.batch_jacobian(
        {"y": y}, (a, b), coupled=True), {a: np.ones([2, 2]), b: [
            [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]})
    self.assertEqual([part.shape for part in got["y"]],
                     [(2, 2, 3, 2), (2, 2, 3, 3)])
    np.testing.assert_allclose(got["y"][0][1, 0, :, 0], [4.0, 5.0, 6.0])

  def test_at_a_cut_and_by_a_layer(self):
    x = tf.placeholder(tf.float64, [None, 3])
    h = tf.sin(x)
    y = h * h
    f = gf.function(h, gf.batch_jacobian(y, h), session=self.session)
    np.testing.assert_allclose(
        f([[1.0, 2.0, 3.0]]), [np.diag([2.0, 4.0, 6.0])])

  def test_c3_ops_do_not_grow(self):
    counts = []
    for classes in (5, 500):
      x = tf.placeholder(tf.float64, [None, 2])
      y = tf.tanh(tf.matmul(x, tf.ones([2, classes], tf.float64)))
      before = self.count()
      gf.batch_jacobian(y, x)
      counts.append(self.count() - before)
    self.assertEqual(*counts)

  def test_unconnected(self):
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    z = tf.placeholder(tf.float64, [None, 3], name="z")
    y = x * x
    with self.assertRaisesRegex(gf.DisconnectedError, "'z:0'"):
      gf.batch_jacobian(y, [x, z])
    self.assertIsNone(gf.batch_jacobian(y, [x, z], unconnected="none")[1])
    zeros = gf.batch_jacobian(y, [x, z], unconnected="zero")[1]
    np.testing.assert_array_equal(self.session.run(
        zeros, {x: np.ones([4, 2]), z: np.ones([4, 3])}), np.zeros([4, 2, 3]))

  def test_what_has_no_rows(self):
    x = tf.placeholder(tf.float64, [4, 3], name="x")
    y = tf.identity(x * x, name="y")
    before = self.count()
    for y_t, x_t, message in (
        (tf.constant(1.0, tf.float64, name="s"), x, "y = 's:0'.*no rows"),
        (y, y[:2], "different numbers of rows")):
      with self.assertRaisesRegex(gf.ArgumentError, message):
        gf.batch_jacobian(y_t, x_t)
    self.assertEmpty([op.name for op in self.graph.get_operations()[before:]
                      if op.name.startswith("gradfeed/")])


class CoupledRowsTest(graphs.GraphTest):
  """Rows that depend on each other are refused, with the op to blame."""

  @parameterized.named_parameters(
      ("mean", "Mean", lambda x: x - tf.reduce_mean(x, 0)),
      ("softmax", "Softmax", lambda x: tf.transpose(
          tf.nn.softmax(tf.transpose(x)))),
      ("norm", "FusedBatchNorm", lambda x: tf.cast(tf.reshape(
          tf.nn.fused_batch_norm(
              tf.cast(tf.reshape(x, [-1, 1, 1, 3]), tf.float32),
              tf.ones([3]), tf.zeros([3]))[0], [-1, 3]), tf.float64)),
      ("sum", "Sum", lambda x: x * tf.reduce_sum(x)),
      ("gram", "MatMul", lambda x: tf.matmul(
          tf.matmul(x, x, transpose_b=True), x)),
      ("cumulative", "Cumsum", lambda x: tf.cumsum(x, 0)))
  def test_s4_is_refused_and_right_when_stated(self, blamed, function):
    x = tf.placeholder(tf.float64, [None, 3], name="x")
    y = tf.identity(function(x), name="y")
    self.session.run(tf.constant(0))
    before = self.count()
    with self.assertRaisesRegex(
        gf.CoupledRowsError,
        "(?s)'y:0'.*'x:0'.*Why: .*{}.*Fix: .*coupled=True".format(blamed)):
      gf.batch_jacobian(y, x)
    blocks, whole = gf.batch_jacobian(y, x, coupled=True), gf.jacobian(y, x)
    at = np.random.RandomState(0).normal(size=[4, 3])
    got, want = self.session.run([blocks, whole], {x: at})
    np.testing.assert_allclose(got, _blocks(want), rtol=1e-5, atol=1e-6)
    self.assertGreater(np.abs(want).sum(), np.abs(_blocks(want)).sum())
    self.assertGreater(self.count(), before)

  @parameterized.named_parameters(
      ("in_a_large_batch", tf.float32, 2000, lambda x, other: x * other),
      ("in_half_precision", tf.float16, 60, lambda x, other: x * other),
      ("beside_large_numbers", tf.float32, 60, lambda x, other: tf.concat(
          [1e5 * x[:, :1], x[:, 1:] * other[:, 1:]], 1)))
  def test_s4_the_probe_finds_any_two_rows(self, dtype, count, mix):
    x = tf.placeholder(dtype, [None, 2])
    order = tf.placeholder(tf.int32, [None])
    y = mix(x, tf.gather(x, order))
    f = gf.function([x, order], gf.batch_jacobian(y, x), session=self.session)
    random = np.random.RandomState(0)
    at = random.normal(size=[count, 2])
    rows = np.arange(count)
    f(at, rows)  # Each row its own: independent after all.
    for _ in range(20):
      a, b = random.choice(count, 2, replace=False)
      swapped = rows.copy()
      swapped[[a, b]] = b, a
      with self.assertRaisesRegex(gf.CoupledRowsError, "Gather"):
        f(at, swapped)
    for a, b in ((0, 1), (0, count - 1), (count - 2, count - 1)):
      swapped = rows.copy()
      swapped[[a, b]] = b, a
      with self.assertRaisesRegex(gf.CoupledRowsError, "Gather"):
        f(at, swapped)

  def test_s4_the_probe_of_one_number_for_each_row(self):
    x = tf.placeholder(tf.float64, [3, 2])
    y = tf.foldl(lambda a, b: a * b + 1.0, tf.transpose(x))
    got, whole = self.session.run(
        [gf.batch_jacobian(y, x), gf.jacobian(y, x)],
        {x: np.arange(6.0).reshape(3, 2)})
    np.testing.assert_allclose(got, np.einsum("bbj->bj", whole))

  @parameterized.named_parameters(("v1", 1), ("v2", 2))
  def test_s4_a_probe_tells_where_no_rule_does(self, version):
    x = tf.placeholder(tf.float64, [None, 3], name="x")
    mixes = tf.placeholder_with_default(False, [])
    with flows.control_flow(version):
      y = tf.cond(mixes, lambda: x * x - tf.reduce_mean(x, 0), lambda: x * x)
    blocks = gf.batch_jacobian(y, x)
    f = gf.function([x, mixes], blocks, session=self.session)
    at = np.random.RandomState(0).normal(size=[4, 3])
    expected = np.stack([np.diag(2.0 * row) for row in at])
    np.testing.assert_allclose(f(at, False), expected)
    with self.assertRaisesRegex(
        gf.CoupledRowsError, "(?s)'x:0'.*probe.*'cond.*coupled=True"):
      f(at, True)
    with self.assertRaisesRegex(
        tf.errors.InvalidArgumentError, "gradfeed: rows of"):
      self.session.run(blocks, {x: at, mixes: True})
    # One row cannot depend on others; none of them is refused.
    self.assertEqual(f(at[:1], True).shape, (1, 3, 3))
    self.assertEqual(f(at[:0], False).shape, (0, 3, 3))
    apart = gf.batch_jacobian(y, x, coupled=True)
    np.testing.assert_allclose(self.session.run(
        apart, {x: at, mixes: True}), np.stack(
            [np.diag(2.0 * row - 0.25) for row in at]))

  @parameterized.named_parameters(
      ("float16", tf.float16), ("float32", tf.float32),
      ("complex", tf.complex128))
  def test_s4_the_probe_bears_other_dtypes_and_not_a_number(self, dtype):
    x = tf.placeholder(dtype, [None, 2])
    with flows.control_flow(2):
      y = tf.cond(tf.constant(True), lambda: x * x, lambda: x)
    blocks = gf.batch_jacobian(y, x)
    at = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(
        self.session.run(blocks, {x: at})[:, [0, 1], [0, 1]], 2.0 * at)
    at[0, 0] = np.nan
    self.assertTrue(np.isnan(self.session.run(blocks, {x: at})[0, 0, 0]))

  def test_s4_a_row_that_is_not_a_number_stays_its_own(self):
    x = tf.placeholder(tf.float64, [None, 2])
    blocks = gf.batch_jacobian(x * x, x, coupled=True)
    got = self.session.run(blocks, {x: [[np.nan, 1.0], [3.0, 4.0]]})
    np.testing.assert_allclose(got[1], np.diag([6.0, 8.0]))


class ClassGradientTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.x = tf.placeholder(tf.float64, [None, 3], name="x")
    self.y = tf.identity(_network(self.x), name="y")
    self.at = np.random.RandomState(0).normal(size=[5, 3])

  def test_of_one_class_or_of_one_for_each_example(self):
    one = tf.placeholder(tf.int32, [])
    each = tf.placeholder(tf.int64, [None])
    f = gf.function([self.x, one, each], [
        gf.class_gradient(self.y, self.x, one),
        gf.class_gradient(self.y, self.x, each),
        gf.batch_jacobian(self.y, self.x)], session=self.session)
    own = [3, 0, 1, 1, 2]
    before = None
    for k in range(4):
      of_k, of_own, blocks = f(self.at, k, own)
      np.testing.assert_allclose(of_k, blocks[:, k], rtol=1e-9)
      np.testing.assert_allclose(of_own, blocks[range(5), own], rtol=1e-9)
      before = before or self.count()
    self.assertEqual(self.count(), before)  # One gradient for all classes.

  @parameterized.named_parameters(
      ("int", 2), ("list", [0, 3, 1, 1, 2]),
      ("array", np.array([0, 3, 1, 1, 2], np.int32)))
  def test_of_a_constant_index(self, index):
    got, blocks = self.session.run([
        gf.class_gradient(self.y, self.x, index),
        gf.batch_jacobian(self.y, self.x)], {self.x: self.at})
    np.testing.assert_allclose(
        got, blocks[range(5), np.broadcast_to(index, 5)], rtol=1e-9)

  def test_of_another_axis(self):
    y = tf.transpose(self.y)
    got, blocks = self.session.run([
        gf.class_gradient(y, self.x, [0, 3, 1, 1, 2], axis=0),
        gf.batch_jacobian(self.y, self.x)], {self.x: self.at})
    np.testing.assert_allclose(got, blocks[range(5), [0, 3, 1, 1, 2]])

  def test_by_weights_is_the_sum_over_examples(self):
    w = graphs.variable("w", np.ones([3, 2]), True)
    got = gf.class_gradient(tf.matmul(self.x, w), w, [1, 0, 1, 1, 0])
    self.initialize()
    expected = np.stack([self.at[[1, 4]].sum(0), self.at[[0, 2, 3]].sum(0)], 1)
    np.testing.assert_allclose(
        self.session.run(got, {self.x: self.at}), expected)

  @parameterized.named_parameters(
      ("beyond", [0, 4, 1, 1, 2]), ("negative", [0, -1, 1, 1, 2]),
      ("too_few", [0, 1]), ("one_beyond", [0, 0, 0, 0, 99]))
  def test_an_index_that_is_no_class(self, index):
    fed = tf.placeholder(tf.int32, [None], name="fed")
    f = gf.function([self.x, fed], gf.class_gradient(self.y, self.x, fed),
                    session=self.session)
    with self.assertRaisesRegex(gf.ArgumentError, "'fed:0'.*no class of 'y:0'"):
      f(self.at, index)

  @parameterized.named_parameters(
      ("float", 1.0), ("matrix", np.zeros([5, 1], np.int32)), ("bool", True))
  def test_an_index_of_another_kind(self, index):
    before = self.count()
    with self.assertRaisesRegex(gf.ArgumentError, "no class of 'y:0'"):
      gf.class_gradient(self.y, self.x, index)
    self.assertEqual(self.count(), before)

  def test_an_index_or_an_axis_that_is_no_number(self):
    y = tf.placeholder(tf.float64, [None, 3])
    for index, axis in (([tf.constant(1)], -1), ([[1], [1, 2]], -1), (1, "a")):
      with self.assertRaises(gf.ArgumentError):
        gf.class_gradient(y, y, index, axis=axis)

  def test_an_axis_that_is_not_there(self):
    for axis in (2, -3):
      with self.assertRaisesRegex(gf.ArgumentError, "'y:0'.*no axis"):
        gf.class_gradient(self.y, self.x, 0, axis=axis)
    with self.assertRaisesRegex(gf.ArgumentError, "list of tensors"):
      gf.class_gradient([self.y], self.x, 0)
