"""Calls of loops: when these are unrolled, and that the numbers stay."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.evaluation.calls import copied_calls
from gradfeed.evaluation.calls import unrolled_loops
from tests import conftest
from tests.testing import copies
from tests.testing import flows
from tests.testing import graphs
from tests.testing import numeric

_AT_ONCE = ((0.0, 2000),)


class UnrolledLoopsTest(copies.CopiesTest):

  told = "unrolled"

  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(
        unrolled_loops, "STAGES", _AT_ONCE))
    self.x = tf.placeholder(tf.float64, [None, 3, 2])
    self.at = np.random.RandomState(0).normal(size=[2, 3, 2])
    self.w = graphs.variable("w", np.cos(np.arange(8.)).reshape([4, 2]),
                             conftest.MODE == "v2")

  def network(self):
    return self.recurrent()

  def recurrent(self, turn=lambda h: h):
    """A recurrent layer, for batches of any size."""
    given = tf.TensorArray(self.x.dtype, 3).unstack(
        tf.transpose(self.x, [1, 0, 2]))
    y = tf.while_loop(
        lambda i, h: i < 3,
        lambda i, h: (i + 1, turn(tf.tanh(tf.matmul(
            tf.concat([given.read(i), h], 1), self.w)))),
        [0, tf.zeros_like(self.x[:, 0])],
        shape_invariants=[tf.TensorShape([]), tf.TensorShape([None, 2])])[1]
    return y

  @parameterized.named_parameters(
      ("v{}".format(version), version)
      for version in flows.versions_of_this_mode())
  def test_numbers_stay(self, version):
    with flows.control_flow(version):
      y = self.recurrent()
      f = self.function(y)
    for results in self.settled(f, self.at):
      self.assert_is_right(f, y, results, self.at)
    self.assertIn("(2, 3, 2): loops are unrolled", f.jit)
    self.assert_is_right(f, y, f(self.at), self.at)
    # Weights are those of the moment, other shapes run as they are.
    self.session.run(tf.assign(self.w, 2 * self.w))
    self.assert_is_right(f, y, f(self.at), self.at)
    other = np.concatenate([self.at, self.at + 1])
    self.assert_is_right(f, y, f(other), other)
    self.assert_is_right(f, y, f(2 * self.at), 2 * self.at)

  def test_the_graph_of_the_user_does_not_change(self):
    f = self.function(self.recurrent())
    before = [op.node_def for op in self.graph.get_operations()]
    self.settled(f, self.at)
    after = self.graph.get_operations()
    self.assertEqual(before, [op.node_def for op in after[:len(before)]])
    self.assertGreater(len(after), len(before))
    for op in after[len(before):]:
      self.assertTrue(op.name.startswith("gradfeed/"), op.name)
    count = len(after)
    for _ in range(20):
      f(self.at)
    self.assertEqual(self.count(), count)

  @parameterized.named_parameters(
      ("random", lambda h: h * tf.random_uniform([], 0.9, dtype=h.dtype)),
      ("python", lambda h: tf.reshape(
          tf.py_func(lambda a: a, [h], h.dtype), [-1, 2])),
      ("checked", lambda h: tf.check_numerics(h, "no number")))
  def test_refuses_what_does_more_than_to_compute(self, turn):
    y = self.recurrent(turn)
    self.initialize()
    f = gf.function(self.x, y, session=self.session)
    f(self.at)
    before = self.count()
    self.settled(f, self.at)
    self.assertEqual(self.count(), before)
    self.assertNotIn("unrolled", f.jit)

  def test_an_assertion_goes_on_to_be_checked(self):
    def turn(h):
      with tf.control_dependencies([tf.Assert(
          tf.reduce_all(h > -2.), ["too small"])]):
        return tf.identity(h)

    f = self.function(self.recurrent(turn))
    self.settled(f, self.at)
    self.assertNotIn("unrolled", f.jit)

  def test_an_assertion_outside_goes_on_to_be_checked(self):
    limit = tf.placeholder(tf.float64, [])
    with tf.control_dependencies([tf.Assert(limit > 0., [limit])]):
      y = tf.identity(self.recurrent())
    f = self.function(y, self.x, limit)
    self.settled(f, self.at, 1.0)
    with self.assertRaises(tf.errors.InvalidArgumentError):
      f(self.at, -1.0)

  def test_an_assertion_about_a_variable_goes_on_to_be_checked(self):
    is_good = tf.reduce_all(self.w < 9.)
    with tf.control_dependencies([tf.Assert(is_good, ["too large"])]):
      y = tf.identity(self.recurrent())
    f = self.function(y)
    self.settled(f, self.at)
    self.session.run(tf.assign(self.w, 100 * self.w))
    with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "too large"):
      f(self.at)

  def test_an_assertion_about_shapes_is_no_hindrance(self):
    rows = tf.raw_ops.Shape(input=self.x)[0]
    with tf.control_dependencies([tf.Assert(rows < 9, ["too many"])]):
      y = tf.identity(self.recurrent())
    f = self.function(y)
    self.settled(f, self.at)
    self.assertIn("unrolled", f.jit)
    with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "too many"):
      f(np.resize(self.at, [10, 3, 2]))

  def test_as_long_as_a_value_says(self):
    y = tf.while_loop(lambda h: tf.reduce_sum(h) < 5.,
                      lambda h: [tf.abs(h) + 1.], [self.x[:, 0]])
    y = y[0] if isinstance(y, (list, tuple)) else y
    self.initialize()
    f = gf.function(self.x, y, session=self.session)
    for _ in range(3):
      self.settled(f, self.at)
    for at in (self.at, self.at - 3., self.at + 9.):
      np.testing.assert_allclose(
          f(at), self.session.run(y, {self.x: at}), 1e-12)
    self.assertNotIn("unrolled", f.jit)

  def test_a_number_of_turns_that_is_fed(self):
    """It is a value, and not a shape."""
    turns = tf.placeholder(tf.int32, [])
    y = tf.while_loop(lambda i, h: i < turns, lambda i, h: (i + 1, tf.sin(h)),
                      [0, self.x])[1]
    self.initialize()
    f = gf.function([self.x, turns], y, session=self.session)
    self.settled(f, self.at, 2)
    self.assertNotIn("unrolled", f.jit)
    np.testing.assert_allclose(f(self.at, 1), np.sin(self.at), 1e-12)

  def test_few_sets_of_shapes_have_copies(self):
    f = self.function(self.recurrent())
    with mock.patch.object(copied_calls, "MOST_COPIES", 2):
      for rows in range(1, 6):
        self.settled(f, np.resize(self.at, [rows, 3, 2]))
    self.assertEqual(f.jit.count("unrolled"), 2)

  def test_more_ops_are_tried_once_that_pays(self):
    stages = ((0.0, 5), (0.0, 2000))
    with mock.patch.object(unrolled_loops, "STAGES", stages):
      f = self.function(self.recurrent())
      self.settled(f, self.at)
    self.assertIn("unrolled", f.jit)
    with mock.patch.object(unrolled_loops, "STAGES", stages[:1]):
      f = self.function(self.recurrent())
      self.settled(f, self.at)
    self.assertNotIn("unrolled", f.jit)

  def test_few_calls_unroll_nothing(self):
    with mock.patch.object(unrolled_loops, "STAGES", ((1e6, 2000),)):
      f = self.function(self.recurrent())
      f(self.at)
      before = self.count()
      for _ in range(150):
        f(self.at)
    self.assertEqual(self.count(), before)

  def test_e9_a_graph_that_is_closed(self):
    y = self.recurrent()
    f = self.function(y)
    f(self.at)
    self.graph.finalize()
    for _ in range(5):
      self.assert_is_right(f, y, f(self.at), self.at)

  def test_a_layer_in_the_middle(self):
    """What is fed in the place of a tensor that is computed."""
    h = tf.sin(self.x)
    self.x = h
    y = self.recurrent()
    self.initialize()
    f = gf.function(h, gf.gradient(y, h), session=self.session)
    self.settled(f, self.at)
    self.assertIn("unrolled", f.jit)
    expected = numeric.central_differences(
        lambda at: np.sum(gf.function(h, y, session=self.session)(at)),
        self.at)
    np.testing.assert_allclose(f(self.at), expected, 1e-6, 1e-8)

  def test_second_derivatives(self):
    y = self.recurrent()
    slope = gf.gradient(y, self.x)
    second = gf.gradient(tf.reduce_sum(slope ** 2), self.x)
    self.initialize()
    f = gf.function(self.x, second, session=self.session)
    self.settled(f, self.at)
    self.assertIn("unrolled", f.jit)
    np.testing.assert_allclose(f(self.at), numeric.central_differences(
        lambda at: np.sum(self.session.run(slope, {self.x: at}) ** 2),
        self.at), 1e-5, 1e-7)


if __name__ == "__main__":
  absltest.main()
