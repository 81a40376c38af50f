"""Attempts to have the wrong branch folded away: numbers in closed form."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from gradfeed.branches import folding
from gradfeed.graph import traversal
from tests.testing import flows
from tests.testing import graphs

_X = np.array([1.0, 2.0])
_FLOWS = (("v1", 1), ("v2", 2))


class FlowsTest(graphs.GraphTest):
  """A graph with an x, a flag, and a variable whose update is a branch."""

  def setUp(self):
    super().setUp()
    self.x = tf.placeholder(tf.float64, [2], name="x")
    self.flag = tf.placeholder(tf.bool, [], name="flag")
    self.v = graphs.variable("v", 3.0, True)
    self.initialize()

  def update(self):
    with tf.control_dependencies([tf.assign_add(self.v, 1.0)]):
      return self.x * self.v

  def square(self):
    return self.x ** 2

  def cube(self):
    return self.x ** 3

  def at(self, result, feeds=None, inputs=(), values=(), **named):
    f = gf.function([self.x] + list(inputs), result, self.session,
                    feed_dict=feeds)
    return f(_X, *values, **named)


class FlagsTest(FlowsTest):

  @parameterized.named_parameters(*_FLOWS)
  def test_a_flag_and_its_identity(self, version):
    identity = tf.identity(self.flag)
    with flows.control_flow(version):
      y = tf.cond(identity, self.update, self.square)
    dx = gf.gradient(y, self.x)
    f = gf.function(self.x, dx, self.session, feed_dict={self.flag: False})
    for _ in range(2):
      np.testing.assert_allclose(f(_X), 2 * _X)
      np.testing.assert_allclose(f(_X, feed_dict={identity: False}), 2 * _X)
      with self.assertRaises(gf.AssignmentError):
        f(_X, feed_dict={identity: True})
      with self.assertRaises(gf.AssignmentError):
        f(_X, feed_dict={self.flag: True})
    np.testing.assert_allclose(self.at(dx, {identity: False}), 2 * _X)
    with self.assertRaises(gf.AssignmentError):
      self.at(dx, None, [identity], [False])
    self.assertEqual(self.session.run(self.v), 3.0)

  @parameterized.named_parameters(*_FLOWS)
  def test_a_flag_that_is_an_input_decides_nothing(self, version):
    with flows.control_flow(version):
      y = tf.cond(self.flag, self.cube, self.square)
      z = tf.cond(self.flag, self.update, self.square)
    f = gf.function([self.x, self.flag], gf.gradient(y, self.x), self.session)
    for _ in range(2):
      np.testing.assert_allclose(f(_X, False), 2 * _X)
      np.testing.assert_allclose(f(_X, True), 3 * _X ** 2)
    with self.assertRaises(gf.AssignmentError):
      gf.function([self.x, self.flag], gf.gradient(z, self.x), self.session)

  @parameterized.named_parameters(*_FLOWS)
  def test_a_constant_that_is_cut_decides_nothing(self, version):
    constant = tf.constant(False)
    with flows.control_flow(version):
      y = tf.cond(constant, self.update, self.square)
      z = tf.cond(constant, self.cube, self.square)
    dx, dz = gf.gradient(y, self.x), gf.gradient(z, self.x)
    np.testing.assert_allclose(self.at(dx), 2 * _X)
    np.testing.assert_allclose(self.at(dx, {constant: False}), 2 * _X)
    np.testing.assert_allclose(self.at(dz, {constant: True}), 3 * _X ** 2)
    f = gf.function([self.x, constant], dz, self.session)
    np.testing.assert_allclose(f(_X, True), 3 * _X ** 2)
    np.testing.assert_allclose(f(_X, False), 2 * _X)
    for feeds, inputs, values in (
        (None, [constant], [False]), ({constant: True}, [], [])):
      with self.assertRaises(gf.AssignmentError):
        self.at(dx, feeds, inputs, values)

  @parameterized.named_parameters(*_FLOWS)
  def test_a_default_that_is_fed_at_a_call(self, version):
    flag = tf.placeholder_with_default(False, [])
    with flows.control_flow(version):
      y = tf.cond(flag, self.cube, self.square)
    f = gf.function(self.x, gf.gradient(y, self.x), self.session)
    for _ in range(2):
      np.testing.assert_allclose(f(_X), 2 * _X)
      np.testing.assert_allclose(f(_X, feed_dict={flag: True}), 3 * _X ** 2)

  @parameterized.product(version=[1, 2], use_resource=[False, True])
  def test_a_variable_decides_nothing(self, version, use_resource):
    if version == 2 and not (use_resource and _tf.IS_TF2):
      self.skipTest("Functions capture no references.")
    flag = tf.get_variable(
        "switch", initializer=False, use_resource=use_resource)
    with flows.control_flow(version):
      y = tf.cond(tf.identity(flag), self.cube, self.square)
      z = tf.cond(flag, self.update, self.square)
    dy, dz = gf.gradient(y, self.x), gf.gradient(z, self.x)
    self.initialize()
    f = gf.function(self.x, dy, self.session)
    np.testing.assert_allclose(f(_X), 2 * _X)
    self.session.run(tf.assign(flag, True))
    np.testing.assert_allclose(f(_X), 3 * _X ** 2)
    with self.assertRaises(gf.AssignmentError):
      self.at(dz)
    np.testing.assert_allclose(self.at(dy, {flag: False}), 2 * _X)

  @parameterized.named_parameters(*_FLOWS)
  def test_one_side_of_an_or(self, version):
    other = tf.placeholder(tf.bool, [])
    with flows.control_flow(version):
      y = tf.cond(tf.logical_or(self.flag, other), self.square, self.update)
    dx = gf.gradient(y, self.x)
    np.testing.assert_allclose(
        self.at(dx, {self.flag: True}, [other], [False]), 2 * _X)
    with self.assertRaises(gf.AssignmentError):
      self.at(dx, {self.flag: False}, [other], [True])

  @parameterized.named_parameters(*_FLOWS)
  def test_chance_and_shapes_count(self, version):
    x = tf.placeholder(tf.float64, [None])
    with flows.control_flow(version):
      y = tf.cond(tf.logical_and(self.flag, tf.shape(x)[0] > 1),
                  lambda: x ** 3, lambda: x ** 2)
      z = tf.cond(tf.logical_and(self.flag, tf.random_uniform([]) > 0.5),
                  self.update, self.square)
    f = gf.function(x, gf.gradient(y, x), self.session,
                    feed_dict={self.flag: True})
    np.testing.assert_allclose(f(_X), 3 * _X ** 2)
    np.testing.assert_allclose(f(_X[1:]), 2 * _X[1:])
    with self.assertRaises(gf.AssignmentError):
      self.at(gf.gradient(z, self.x), {self.flag: True})
    np.testing.assert_allclose(
        self.at(gf.gradient(z, self.x), {self.flag: False}), 2 * _X)

  @parameterized.named_parameters(*_FLOWS)
  def test_a_long_chain_deep_in_calls(self, version):
    flag = self.flag
    for _ in range(300):
      flag = tf.identity(flag)
    with flows.control_flow(version):
      y = tf.cond(flag, self.update, self.square)
    dx = gf.gradient(y, self.x)

    def called(depth):
      return called(depth - 1) if depth else self.at(dx, {self.flag: False})

    np.testing.assert_allclose(called(400), 2 * _X)


class GraphsTest(FlowsTest):

  @parameterized.named_parameters(*_FLOWS)
  def test_second_order_and_gradients_of_tensorflow(self, version):
    with flows.control_flow(version):
      y = tf.cond(self.flag, self.update, self.cube)
      first = tf.gradients(y, self.x)[0]
      second = tf.gradients(first, self.x)[0]
      own = gf.gradient(gf.gradient(y, self.x), self.x)
    for tensor, expected in (
        (first, 3 * _X ** 2), (second, 6 * _X), (own, 6 * _X)):
      np.testing.assert_allclose(
          self.at(tensor, {self.flag: False}), expected)
    with self.assertRaises(gf.AssignmentError):
      self.at([y, own], {self.flag: True})
    self.assertEqual(self.session.run(self.v), 3.0)

  @parameterized.named_parameters(*_FLOWS)
  def test_hessian_and_its_products(self, version):
    with flows.control_flow(version):
      y = tf.cond(self.flag, self.update, self.cube)
      if version == 1 and not _tf.IS_TF2:
        # Functions of TF 1 have no copy of a branch of v1 with an update.
        for build in (gf.hessian, lambda y, x: gf.hvp(y, x, x)):
          with self.assertRaises(gf.UnsupportedGraphError):
            build(y, self.x)
        return
      hessian, product = gf.hessian(y, self.x), gf.hvp(y, self.x, self.x)
    np.testing.assert_allclose(
        self.at(hessian, {self.flag: False}), np.diag(6 * _X))
    np.testing.assert_allclose(
        self.at(product, {self.flag: False}), 6 * _X ** 2)

  @parameterized.named_parameters(*_FLOWS)
  def test_predicates_in_loops(self, version):
    x = self.x
    ones = tf.ones([2], tf.float64)
    either = lambda predicate, a: tf.cond(
        predicate, lambda: a * x, lambda: a + x)
    with flows.control_flow(version):
      counter = tf.while_loop(  # 1, 1 + x, 1 + 2x, x + 2x^2, 2x + 2x^2
          lambda i, a: i < 4,
          lambda i, a: (i + 1, either(tf.equal(i, 2), a)), (0, ones))[1]
      first_turn = tf.while_loop(  # 1, x, 2x, 3x
          lambda i, a: i < 3,
          lambda i, a: (i + 1, either(tf.equal(i, 0), a)), (0, ones))[1]
      toggled = tf.while_loop(  # 1, x, 2x, 2x^2
          lambda i, p, a: i < 3,
          lambda i, p, a: (i + 1, tf.logical_not(p), either(p, a)),
          (0, self.flag, ones))[2]
      swapped = tf.while_loop(  # 1, x, 2x
          lambda i, p, q, a: i < 2, lambda i, p, q, a: (i + 1, q, p, either(
              p, a)), (0, self.flag, tf.constant(False), ones))[3]
    for y, expected in ((counter, 2 + 4 * _X), (first_turn, [3.0, 3.0]),
                        (toggled, 4 * _X), (swapped, [2.0, 2.0])):
      feeds = {} if y in (counter, first_turn) else {self.flag: True}
      np.testing.assert_allclose(
          self.at(gf.gradient(y, x), feeds), expected)

  def test_an_update_in_a_later_turn(self):
    with flows.control_flow(1):
      y = tf.while_loop(lambda i, a: i < 4, lambda i, a: (i + 1, tf.cond(
          tf.equal(i, 2), lambda: a * tf.assign_add(self.v, 1.0),
          lambda: a + self.x)), (0, self.x))[1]
    with self.assertRaises(gf.AssignmentError):
      self.at(y)

  @parameterized.named_parameters(*_FLOWS)
  def test_a_loop_in_a_branch(self, version):
    def loop():
      return tf.while_loop(lambda i, a: i < 3, lambda i, a: (
          i + 1, a * self.x + 0.0 * tf.assign_add(self.v, 1.0)), (0, self.x))[1]

    if version == 2 and not _tf.IS_TF2:
      self.skipTest("TF 1 cannot differentiate an update in a loop.")
    with flows.control_flow(version):
      y = tf.cond(self.flag, loop, self.square)
      dx = gf.gradient(y, self.x)
    np.testing.assert_allclose(self.at(dx, {self.flag: False}), 2 * _X)
    with self.assertRaises(gf.AssignmentError):
      self.at(y, {self.flag: True})

  @parameterized.named_parameters(*_FLOWS)
  def test_shared_predicates(self, version):
    with flows.control_flow(version):
      a = tf.cond(self.flag, self.update, self.square)
      y = tf.cond(tf.logical_not(self.flag), lambda: a * self.x, lambda: a)
    np.testing.assert_allclose(
        self.at(gf.gradient(y, self.x), {self.flag: False}), 3 * _X ** 2)
    with self.assertRaises(gf.AssignmentError):
      self.at(y, {self.flag: True})

  @parameterized.named_parameters(*_FLOWS)
  def test_what_waits_for_a_branch(self, version):
    with flows.control_flow(version):
      a = tf.cond(self.flag, self.update, self.square)
    with tf.control_dependencies([a]):
      y = self.cube()
    value, dx = self.at([y, gf.gradient(y, self.x)], {self.flag: False})
    np.testing.assert_allclose(value, _X ** 3)
    np.testing.assert_allclose(dx, 3 * _X ** 2)
    with self.assertRaises(gf.AssignmentError):
      self.at(y, {self.flag: True})
    self.assertEqual(self.session.run(self.v), 3.0)

  @parameterized.named_parameters(*_FLOWS)
  def test_a_branch_that_waits_for_an_update_outside(self, version):
    update = tf.assign_add(self.v, 1.0).op

    def waiting():
      with tf.control_dependencies([update]):
        return self.square() * 1.0

    with flows.control_flow(version):
      y = tf.cond(self.flag, self.cube, waiting)
    with self.assertRaises(gf.AssignmentError):
      self.at(y, {self.flag: False})

  @parameterized.named_parameters(*_FLOWS)
  def test_an_assertion_in_the_branch(self, version):
    def asserting():
      with tf.control_dependencies([tf.Assert(
          tf.reduce_all(self.x > 100.0), [self.x])]):
        return self.cube()

    with flows.control_flow(version):
      y = tf.cond(self.flag, asserting, self.square)
    f = gf.function(self.x, [y, gf.gradient(y, self.x)], self.session,
                    feed_dict={self.flag: False})
    np.testing.assert_allclose(f(_X), [_X ** 2, 2 * _X])
    with self.assertRaises((gf.FeedError, tf.errors.InvalidArgumentError)):
      f(_X, feed_dict={self.flag: True})

  @parameterized.named_parameters(*_FLOWS)
  def test_a_variable_without_a_value_in_the_other_branch(self, version):
    w = graphs.variable("w", 3.0, True)
    with flows.control_flow(version):
      y = tf.cond(self.flag, lambda: self.x * w, self.square)
    # Random numbers: variables are looked at before the run.
    y += tf.random_uniform([2], dtype=tf.float64)
    f = gf.function(self.x, y, self.session, feed_dict={self.flag: False})
    self.assertTrue(np.all(f(_X) >= _X ** 2))
    with self.assertRaises(gf.UninitializedError):
      f(_X, feed_dict={self.flag: True})

  @parameterized.named_parameters(("random", True), ("repeatable", False))
  def test_a_variable_is_read_outside_for_the_other_branch(self, is_random):
    w = graphs.variable("w", 3.0, False)
    with flows.control_flow(1):
      y = tf.cond(self.flag, lambda: self.x * w, self.square)
    dx = gf.gradient(y, self.x)
    if is_random:  # Variables are looked at before the run.
      y += 0.0 * tf.random_uniform([2], dtype=tf.float64)
    for held in (False, np.array(False)):
      f = gf.function(
          self.x, [y, dx], self.session, feed_dict={self.flag: held})
      for _ in range(2):
        np.testing.assert_allclose(f(_X), [_X ** 2, 2 * _X])
      with self.assertRaises(gf.UninitializedError):
        f(_X, feed_dict={self.flag: True})
    self.session.run(w.initializer)
    np.testing.assert_allclose(
        f(_X, feed_dict={self.flag: True}), [3 * _X, [3, 3]])

  def test_nothing_is_copied_where_such_a_variable_has_a_value(self):
    w = graphs.variable("w", 3.0, False)
    with flows.control_flow(1):
      y = tf.cond(self.flag, lambda: self.x * w, self.square)
    self.session.run(w.initializer)
    dx = gf.gradient(y, self.x)
    before = self.count()
    f = gf.function(self.x, dx, self.session, feed_dict={self.flag: False})
    np.testing.assert_allclose(f(_X), 2 * _X)
    self.assertLessEqual(self.count() - before, 1)  # What protects the result.
    # What is made into a module or exported needs no such variable.
    read = traversal.ancestors(f.ends()[1])
    self.assertNotIn(w.op.name, read)
    np.testing.assert_allclose(f(_X), 2 * _X)

  @parameterized.named_parameters(*_FLOWS)
  def test_points_and_cuts(self, version):
    h = tf.sin(self.x)
    with flows.control_flow(version):
      y = tf.cond(self.flag, lambda: tf.identity(self.update()) + h,
                  lambda: h ** 2)
    dx = gf.gradient(y, self.x)
    point = np.array([3.0, 4.0])
    f = gf.function([self.x, h], dx, self.session, points=[h],
                    feed_dict={self.flag: False})
    np.testing.assert_allclose(f(_X, point), 2 * point * np.cos(_X))
    with self.assertRaises(gf.FeedError):
      self.at(dx, {self.flag: False}, [h], [point])
    dh = gf.gradient(y, h)
    f = gf.function(h, dh, self.session, feed_dict={self.flag: False})
    np.testing.assert_allclose(f(point), 2 * point)

  def test_a_cut_inside_of_the_branch_that_is_taken(self):
    inside = []

    def taken():
      inside.append(tf.sin(self.x))
      return inside[0] ** 2

    with flows.control_flow(1):
      y = tf.cond(self.flag, self.update, taken)
    h, = inside
    f = gf.function(h, [y, gf.gradient(y, h)], self.session,
                    feed_dict={self.flag: False, self.x: [7.0, 7.0]})
    np.testing.assert_allclose(f(_X), [_X ** 2, 2 * _X])

  @parameterized.named_parameters(*_FLOWS)
  def test_each_value_has_its_branch(self, version):
    step = tf.placeholder(tf.int32, [])
    with flows.control_flow(version):
      y = tf.case([(tf.equal(step, i), lambda i=i: self.x ** (i + 1))
                   for i in range(4)], default=lambda: self.x * 100.0)
    f = gf.function(self.x, gf.gradient(y, self.x), self.session,
                    feed_dict={step: 1})
    for _ in range(2):
      for i in (3, 0, 2, 1):
        np.testing.assert_allclose(
            f(_X, feed_dict={step: i}), (i + 1) * _X ** i)
      np.testing.assert_allclose(f(_X, feed_dict={step: 9}), [100.0, 100.0])
      np.testing.assert_allclose(f(_X), 2 * _X)

  def test_calls_deeper_than_they_are_followed(self):
    if not _tf.IS_TF2:
      self.skipTest("tf.function with variables of a graph.")
    call = tf.function(lambda a: a * self.v.assign_add(1.0), autograph=False)
    for _ in range(25):
      call = tf.function(lambda a, inner=call: inner(a), autograph=False)
    with flows.control_flow(2):
      y = call(self.x) + tf.cond(self.flag, self.cube, self.square)
    with self.assertRaises(gf.AssignmentError):
      self.at(y, {self.flag: False})
    ops = traversal.ancestors([y])
    self.assertIsNotNone(
        folding.fold([y], ops, {self.flag.name: np.array(False)})[0])
