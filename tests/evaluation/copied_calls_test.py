"""Slow calls by a copy: when they are, and that the numbers stay."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed import _tf
import gradfeed as gf
from gradfeed.evaluation.calls import copied_calls
from gradfeed.evaluation.calls import thread_choice
from gradfeed.evaluation.calls import trials
from tests import conftest
from tests.testing import copies
from tests.testing import graphs


class CopiedCallsTest(copies.CopiesTest):

  told = "copy"
  calls = 12

  def setUp(self):
    super().setUp()
    for where, name, value in (
        (_tf, "uses_onednn", lambda: True),
        (copied_calls, "STAGES", ((0.0, 8000),)),
        (thread_choice, "SLOW", 0.0), (trials.Trial, "CALLS", 6)):
      self.enter_context(mock.patch.object(where, name, value))
    self.x = tf.placeholder(tf.float64, [None, 3], name="x")
    self.at = np.random.RandomState(0).normal(size=[2, 3])
    self.w = graphs.variable("w", np.cos(np.arange(6.)).reshape([3, 2]),
                             conftest.MODE == "v2")

  def network(self):
    return tf.tanh(tf.matmul(self.x, self.w)) * tf.cast(
        tf.shape(self.x)[0], self.x.dtype)

  def test_numbers_stay(self):
    y = self.network()
    f = self.function(y)
    for results in self.settled(f, self.at):
      self.assert_is_right(f, y, results, self.at)
    self.assertIn("(2, 3): run by a copy", f.jit)
    self.assert_is_right(f, y, f(self.at + 1), self.at + 1)
    # Weights are those of the moment, other shapes have a copy of their own.
    self.session.run(tf.assign(self.w, 2 * self.w))
    self.assert_is_right(f, y, f(self.at), self.at)
    other = np.concatenate([self.at, self.at + 1])
    for results in self.settled(f, other):
      self.assert_is_right(f, y, results, other)
    self.assertIn("(4, 3): run by a copy", f.jit)
    self.assert_is_right(f, y, f(2 * self.at), 2 * self.at)

  def test_second_derivatives_and_several_results(self):
    y = tf.reduce_sum(self.network() ** 3)
    hessian = gf.hessian(y, self.x)
    self.initialize()
    f = gf.function(self.x, {"h": hessian, "x": self.x, "y": y},
                    session=self.session)
    expected = self.session.run(hessian, {self.x: self.at})
    for results in self.settled(f, self.at):
      np.testing.assert_allclose(results["h"], expected, 1e-10, 1e-12)
      np.testing.assert_array_equal(results["x"], self.at)
    self.assertIn("run by a copy", f.jit)

  def test_the_graph_of_the_user_does_not_change(self):
    f = self.function(self.network())
    before = [op.node_def for op in self.graph.get_operations()]
    self.settled(f, self.at)
    after = self.graph.get_operations()
    self.assertEqual(before, [op.node_def for op in after[:len(before)]])
    self.assertGreater(len(after), len(before))
    for op in after[len(before):]:
      self.assertTrue(op.name.startswith("gradfeed/"), op.name)
    for _ in range(20):
      f(self.at)
    self.assertEqual(self.count(), len(after))

  def test_few_sets_of_shapes_have_one(self):
    y = self.network()
    f = self.function(y)
    for rows in range(1, 8):
      for results in self.settled(f, np.ones([rows, 3])):
        self.assert_is_right(f, y, results, np.ones([rows, 3]))
    self.assertEqual(f.jit.count("run by a copy"), copied_calls.MOST_COPIES)

  def test_ops_that_tensorflow_would_fuse(self):
    """It fuses these in graphs that oneDNN is to have."""
    x = tf.placeholder(tf.float32, [1, 8, 8, 4])
    ones = np.ones([4], np.float32)
    kernel = np.random.RandomState(1).normal(size=[3, 3, 4, 4])
    h = tf.nn.conv2d(x, tf.constant(kernel, tf.float32), [1, 1, 1, 1], "SAME")
    h = tf.nn.relu(tf.nn.fused_batch_norm(
        h, ones, ones, 0 * ones, ones, is_training=False)[0])
    dx = gf.gradient(tf.reduce_sum(tf.transpose(h, [0, 3, 1, 2]) ** 2), x)
    f = gf.function(x, dx, session=self.session)
    at = np.random.RandomState(0).normal(size=[1, 8, 8, 4]).astype(np.float32)
    self.settled(f, at)
    self.assertIn("run by a copy", f.jit)
    expected = self.session.run(dx, {x: at + 1})
    np.testing.assert_allclose(
        f(at + 1), expected, atol=1e-5 * np.max(np.abs(expected)))

  @parameterized.named_parameters(
      ("draws", lambda x: x * tf.random_uniform([], dtype=x.dtype)),
      ("calls_python", lambda x: x * tf.stop_gradient(
          tf.py_func(lambda v: v, [x], x.dtype))),
      ("checks", lambda x: tf.check_numerics(x, "x")))
  def test_what_has_to_stay_as_it_is(self, change):
    f = self.function(tf.tanh(change(self.x)))
    self.settled(f, self.at)
    self.assertNotIn("copy", f.jit)

  def test_quick_calls_stay_as_they_are(self):
    f = self.function(self.network())
    with mock.patch.object(thread_choice, "SLOW", 10.0):
      self.settled(f, self.at)
    self.assertIsNone(f._executable.jit)
    self.assertNotIn("copy", f.jit)

  def test_calls_that_become_quick_go_the_short_way(self):
    f = self.function(self.network())
    for _ in range(8):
      f(self.at)
    self.assertIsNotNone(f._executable.jit)
    with mock.patch.object(thread_choice, "SLOW", 10.0), mock.patch.object(
        copied_calls.CopiedCalls, "call", side_effect=AssertionError):
      compiled = f._executable._last.compiled()
      for one in filter(None, (compiled, compiled.specialized)):
        one._slowness.is_slow = False
      f(self.at)
      self.assertIsNotNone(f._executable.fast_path(self.session)())

  @parameterized.product(uses_onednn=(True, False), rows=(1, 2, 40, 200))
  def test_a_dense_layer(self, uses_onednn, rows):
    """Its gradient multiplies with weights that are transposed."""
    weights = np.cos(np.arange(128. * 160.)).reshape([160, 128])
    x = tf.placeholder(tf.float64, [None, 160])
    y = tf.matmul(tf.tanh(x), tf.constant(weights)) ** 2
    f = gf.function(x, gf.gradient(y, x), session=self.session)
    at = np.random.RandomState(0).normal(size=[rows, 160])
    with mock.patch.object(_tf, "uses_onednn", lambda: uses_onednn):
      for result in self.settled(f, at):
        np.testing.assert_allclose(
            result, 2 * (np.tanh(at) @ weights @ weights.T) / np.cosh(at) ** 2,
            1e-9, 1e-11)
    self.assertIn("({}, 160): run by a copy".format(rows), f.jit)
    kinds = {op.type for op in self.graph.get_operations()
             if op.name.startswith("gradfeed/unrolled")}
    if not uses_onednn:
      self.assertEqual("Transpose" in kinds, rows in (2, 40))

  def test_neither_onednn_nor_a_large_product(self):
    f = self.function(tf.tanh(self.x) * 2.0)
    with mock.patch.object(_tf, "uses_onednn", lambda: False):
      self.settled(f, self.at)
    self.assertIsNone(f._executable.jit)

  def test_an_error_names_the_op_of_the_user(self):
    table = tf.constant([1.0, 2.0, 3.0], tf.float64)
    y = tf.gather(table, tf.cast(self.x, tf.int32), name="looked_up") * self.x
    f = self.function(y)
    self.settled(f, np.ones([2, 3]))
    self.assertIn("run by a copy", f.jit)
    for _ in range(2):
      with self.assertRaisesRegex(
          tf.errors.InvalidArgumentError, "looked_up"):
        f(np.full([2, 3], 7.0))
    np.testing.assert_allclose(f(np.ones([2, 3]))[1], np.full([2, 3], 2.0))


if __name__ == "__main__":
  absltest.main()
