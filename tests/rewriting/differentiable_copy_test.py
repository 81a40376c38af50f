"""Copies of a path that have derivatives of any order."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.analysis import blockers
from gradfeed.analysis import gradient_flow
from gradfeed.graph import control_flow
from gradfeed.graph import traversal
from gradfeed.rewriting import differentiable_copy
from tests.testing import flows
from tests.testing import graphs
from tests.testing import numeric


class FunctionalTest(graphs.GraphTest):

  def _twins(self, y, x, **settings):
    return differentiable_copy.differentiable_copy(
        self.graph, [y], gradient_flow.GradientTrace([y], [x]), **settings)

  def test_has_no_control_flow_of_v1_and_the_same_value(self):
    x = tf.placeholder(tf.float64, [2])
    with flows.control_flow(1):
      h = tf.while_loop(lambda i, a: i < 3,
                        lambda i, a: (i + 1, tf.sin(a) * x), [0, x])[1]
      y = tf.cond(x[0] > 0.0, lambda: h * h, lambda: h)
    copied = self._twins(y, x)
    found = traversal.ancestors([copied[y.name]])
    self.assertEmpty([op.name for op in found.values()
                      if control_flow.is_control_flow_v1(op)])
    for at in ([1.0, 2.0], [-1.0, 2.0]):
      one, other = self.session.run([y, copied[y.name]], {x: at})
      np.testing.assert_array_equal(one, other)

  def test_is_made_once(self):
    x = tf.placeholder(tf.float64, [2])
    with flows.control_flow(1):
      y = tf.cond(x[0] > 0.0, lambda: x * x, lambda: x)
    first = self._twins(y, x)
    before = self.count()
    self.assertIs(self._twins(y, x), first)
    self.assertEqual(self.count(), before)

  def test_nothing_is_copied_where_there_is_nothing_to_replace(self):
    x = tf.placeholder(tf.float64, [2])
    y = tf.sin(x)
    before = self.count()
    self.assertEqual(self._twins(y, x, free_means=True), {})
    self.assertEqual(self.count(), before)

  def test_a_branch_that_does_not_run_has_no_part_in_it(self):
    x = tf.placeholder(tf.float64, [2])
    takes = tf.placeholder_with_default(False, [])
    with flows.control_flow(1):
      y = tf.cond(takes, lambda: tf.log(x) + tf.zeros([2], tf.float64),
                  lambda: x * x)
    j = gf.jacobian(y, x)
    np.testing.assert_array_equal(
        self.session.run(j, {x: [-1.0, 0.0]}), np.diag([-2.0, 0.0]))
    np.testing.assert_array_equal(
        self.session.run(j, {x: [1.0, 2.0], takes: True}),
        np.diag([1.0, 0.5]))

  def test_a_y_inside_of_a_branch_is_refused(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    inside = []

    def branch():
      inside.append(tf.multiply(x, x, name="inside"))
      return inside[0]

    with flows.control_flow(1):
      tf.cond(x[0] > 0.0, branch, lambda: x)
    with self.assertRaisesRegex(gf.UnsupportedGraphError, "inside:0"):
      gf.hessian(inside[0], x)


class RowsOfATableTest(graphs.GraphTest):
  """Second derivatives where a first one has rows, in an order of its own."""

  def _assert_is_right(self, h, x):
    gradient = gf.gradient(h, x)
    penalty = tf.reduce_sum(np.arange(1., 7.).reshape([3, 2]) * gradient ** 2)
    value = np.linspace(0.1, 1.1, 6).reshape([3, 2])
    f = gf.function(x, penalty)
    np.testing.assert_allclose(
        gf.function(x, gf.gradient(penalty, x))(value),
        numeric.central_differences(f, value), rtol=1e-6, atol=1e-8)

  def test_rows_that_a_loop_of_v1_reads(self):
    x = tf.placeholder(tf.float64, [3, 2])
    with flows.control_flow(1):
      h = tf.while_loop(
          lambda i, h: i < 2, lambda i, h: (
              i + 1, h + tf.reduce_sum(tf.gather(x, i + 1)) ** 3),
          [0, tf.zeros([], x.dtype)])[1]
    self._assert_is_right(h, x)

  def test_rows_that_go_into_a_loop_of_v1(self):
    x = tf.placeholder(tf.float64, [3, 2])
    rows = tf.gather(x, [1, 2, 1])
    with flows.control_flow(1):
      h = tf.while_loop(lambda i, h: i < 2,
                        lambda i, h: (i + 1, tf.sin(h * rows)), [0, rows])[1]
    self._assert_is_right(tf.reduce_sum(h ** 2), x)


class HeldMeansTest(graphs.GraphTest):

  def _held(self, y, x):
    return blockers.held_means(gradient_flow.GradientTrace([y], [x]))

  def test_of_moments(self):
    x = tf.placeholder(tf.float64, [None, 3])
    y = tf.nn.moments(x, [0])[1]
    self.assertLen(self._held(y, x), 1)
    gf.gradient(y, x)  # Its ops read the mean as well.
    self.assertLen(self._held(y, x), 1)

  def test_of_what_the_model_holds_constant(self):
    x = tf.placeholder(tf.float64, [None, 3])
    mean = tf.stop_gradient(tf.reduce_mean(x, 0, keepdims=True))
    for y in (tf.squared_difference(x, mean),  # Not averaged.
              tf.reduce_mean(tf.squared_difference(x, mean), 1),  # Otherwise.
              tf.reduce_mean(tf.squared_difference(x * x, mean), 0),
              tf.reduce_mean(x * mean, 0)):
      self.assertEmpty(self._held(y, x))

  def test_second_order_of_a_loop_that_reads_a_variable(self):
    x = tf.placeholder(tf.float64, [3])
    v = graphs.variable("v", [2.0, 1.0, 0.5], True)
    with flows.control_flow(1):
      y = tf.reduce_sum(tf.while_loop(
          lambda i, a: i < 2, lambda i, a: (i + 1, tf.sin(a) * v), (0, x))[1])
    self.initialize()
    at, d = np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 3.0])
    g = gf.function(x, gf.gradient(y, x))
    wanted = (g(at + 1e-6 * d) - g(at - 1e-6 * d)) / 2e-6
    np.testing.assert_allclose(
        gf.function(x, gf.hvp(y, x, d))(at), wanted, rtol=1e-6)
    # The variable can be given a value there as well.
    f = gf.function([x, v], gf.hvp(y, x, d))
    np.testing.assert_allclose(f(at, [2.0, 1.0, 0.5]), wanted, rtol=1e-6)
    np.testing.assert_allclose(f(at, np.zeros(3)), np.zeros(3))

  @parameterized.named_parameters(
      ("a_loop_of_v1", lambda h: tf.while_loop(
          lambda i, a: i < 2, lambda i, a: (i + 1, tf.sin(a)), (0, h))[1]),
      ("moments", lambda h: h - tf.nn.moments(h, [0])[1]))
  def test_behind_branches_of_v2_that_read_a_variable(self, function):
    x = tf.placeholder(tf.float64, [3])
    v = graphs.variable("v", [2.0, 1.0, 0.5], True)
    with flows.control_flow(1):
      h = function(x)
    with flows.control_flow(2):
      y = tf.cond(h[0] < 5.0, lambda: tf.cond(
          h[0] < 4.0, lambda: tf.tanh(h) * v, lambda: h + v), lambda: h)
    self.initialize()
    jacobian, at = gf.jacobian(y, x), np.array([0.1, 0.2, 0.3])
    for row in range(3):
      np.testing.assert_allclose(
          gf.function(x, jacobian)(at)[row], numeric.central_differences(
              gf.function(x, y[row]), at), rtol=1e-6, atol=1e-8)

  def test_hessian_of_an_array_with_an_unknown_batch(self):
    x = tf.placeholder(tf.float64, [None, 3])
    array = tf.TensorArray(tf.float64, 3)
    for i in range(3):
      array = array.write(i, tf.sin(x) * (i + 1.0))
    y = tf.reduce_sum(array.stack() ** 3)
    at = np.arange(6.0).reshape(2, 3)
    wanted = 36 * (6 * np.sin(at) * np.cos(at) ** 2 - 3 * np.sin(at) ** 3)
    for chunk in (None, 4):
      second = gf.function(x, gf.hessian(y, x, chunk=chunk))(at)
      np.testing.assert_allclose(second.reshape(6, 6), np.diag(wanted.ravel()),
                                 atol=1e-9)
