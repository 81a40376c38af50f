"""Tests of copied parts: loops, branches, per-run state, order, size."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows


def _loop(body, start, turns):
  """`body` applied `turns` times to `start`."""
  return tf.while_loop(lambda i, a: i < turns,
                       lambda i, a: (i + 1, body(a)), [0, start])[1]


class LoopTest(parameterized.TestCase):
  """Loops with their gradients, cut before, at the edge, and after."""

  @parameterized.named_parameters(("_flow1", 1), ("_flow2", 2))
  def test_cut_before_the_loop(self, flow):
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(flow)):
      x = tf.placeholder(tf.float64, [])
      h = tf.exp(x)
      y = _loop(lambda a: a * h, tf.constant(1., tf.float64), 3)
      dh = gf.gradient(y, h)
      f = gf.function(h, [y, dh], session=session)
      np.testing.assert_allclose(f(2.), [8., 12.])
      np.testing.assert_allclose(session.run([y, dh], {x: 0.}), [1., 3.])

  @parameterized.named_parameters(("_flow1", 1), ("_flow2", 2))
  def test_cut_at_the_start_of_the_loop(self, flow):
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(flow)):
      x = tf.placeholder(tf.float64, [])
      start = x * 2.
      y = _loop(tf.square, start, 3)
      ds = gf.gradient(y, start)
      f = gf.function(start, [y, ds], session=session)
      np.testing.assert_allclose(f(1.5), [1.5 ** 8, 8. * 1.5 ** 7])
      np.testing.assert_allclose(
          session.run([y, ds], {x: 1.}), [256., 1024.])

  @parameterized.named_parameters(("_flow1", 1), ("_flow2", 2))
  def test_cut_after_the_loop(self, flow):
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(flow)):
      x = tf.placeholder(tf.float64, [])
      end = _loop(tf.square, x, 2)
      y = tf.exp(-end) * x
      dend, dx = gf.gradient(y, [end, x])
      np.testing.assert_allclose(
          gf.run(session, [y, dend], {end: .5, x: 3.}),
          [3. * np.exp(-.5), -3. * np.exp(-.5)])
      # The chain rule through the given point: the loop's own part at x.
      f = gf.function([x, end], dx, points=[end], session=session)
      np.testing.assert_allclose(
          f(3., .5), np.exp(-.5) - 3. * np.exp(-.5) * 4. * 27.)

  @parameterized.named_parameters(("_flow1", 1), ("_flow2", 2))
  def test_loop_over_a_changing_shape(self, flow):
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(flow)):
      x = tf.placeholder(tf.float64, [None])
      h = x * 1.
      y = tf.while_loop(
          lambda i, a: i < 2, lambda i, a: (i + 1, tf.concat([a, a * h], 0)[
              :tf.size(h)] * a),
          [0, h], shape_invariants=[tf.TensorShape([]),
                                    tf.TensorShape([None])])[1]
      f = gf.function(h, [y, gf.gradient(y, h)], session=session)
      for value in ([2.], [1., 2., 3.]):
        y_t, dh_t = f(value)
        np.testing.assert_allclose(y_t, np.power(value, 4))
        np.testing.assert_allclose(dh_t, 4. * np.power(value, 3))

  @parameterized.named_parameters(("_flow1", 1), ("_flow2", 2))
  def test_nested_loops(self, flow):
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(flow)):
      x = tf.placeholder(tf.float64, [])
      h = x + 1.
      y = _loop(lambda a: _loop(lambda b: b * h, a, 2),
                tf.constant(1., tf.float64), 3)
      f = gf.function(h, [y, gf.gradient(y, h)], session=session)
      np.testing.assert_allclose(f(2.), [64., 192.])
      np.testing.assert_allclose(f(1.), [1., 6.])

  @parameterized.named_parameters(("_flow1", 1), ("_flow2", 2))
  def test_branch_in_a_loop_in_a_branch(self, flow):
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(flow)):
      x = tf.placeholder(tf.float64, [])
      p = tf.placeholder(tf.bool, [])
      h = x * 1.

      def turn(a):
        return tf.cond(a > 10., lambda: a + h, lambda: a * h)

      y = tf.cond(p, lambda: _loop(turn, h, 4), lambda: h * 5.)
      f = gf.function([h, p], [y, gf.gradient(y, h)], session=session)
      # 3, 9, 27, 30, 33: h^3 + 2 h.
      np.testing.assert_allclose(f(3., True), [33., 29.])
      np.testing.assert_allclose(f(3., False), [15., 5.])

  @parameterized.named_parameters(("_flow1", 1), ("_flow2", 2))
  def test_tensor_array(self, flow):
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(flow)):
      x = tf.placeholder(tf.float64, [3])
      h = x * 1.
      array = tf.TensorArray(tf.float64, 3).unstack(h)
      out = tf.TensorArray(tf.float64, 3)

      def body(i, a, out):
        a = a * array.read(i)
        return i + 1, a, out.write(i, a)

      out = tf.while_loop(
          lambda i, *_: i < 3, body,
          [0, tf.constant(1., tf.float64), out])[2]
      y = out.stack()
      f = gf.function(h, [y, gf.gradient(y, h)], session=session)
      y_t, dh_t = f([2., 3., 5.])
      np.testing.assert_allclose(y_t, [2., 6., 30.])
      np.testing.assert_allclose(dh_t, [1. + 3. + 15., 2. + 10., 6.])

  @parameterized.named_parameters(("_flow1", 1), ("_flow2", 2))
  def test_scan_and_its_original_in_one_run(self, flow):
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(flow)):
      x = tf.placeholder(tf.float64, [3])
      h = x * 2.
      y = tf.scan(lambda a, e: a * e, h)
      dh = gf.gradient(y, h)
      # x is needed for its own sake: y and its copy run side by side.
      f = gf.function([x, h], [tf.reduce_sum(x), y, dh], session=session)
      total, y_t, dh_t = f([1., 1., 1.], [2., 3., 5.])
      self.assertEqual(total, 3.)
      np.testing.assert_allclose(y_t, [2., 6., 30.])
      np.testing.assert_allclose(dh_t, [19., 12., 6.])
      cut = gf.function(h, dh, session=session)
      np.testing.assert_allclose(cut([1., 1., 1.]), [3., 2., 1.])
      np.testing.assert_allclose(
          session.run(dh, {x: [1., 1.5, 2.5]}), [19., 12., 6.])

  @parameterized.named_parameters(("_flow1", 1), ("_flow2", 2))
  def test_two_copies_of_a_loop_in_one_graph(self, flow):
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(flow)):
      x = tf.placeholder(tf.float64, [])
      left, right = x * 2., x * 3.
      y = _loop(lambda a: a * left + right, tf.constant(1., tf.float64), 2)
      by_left = gf.function(left, gf.gradient(y, left),
                            session=session, feed_dict={x: 1.})
      by_right = gf.function(right, gf.gradient(y, right),
                             session=session, feed_dict={x: 1.})
      both = gf.function([left, right], y, session=session)
      # y = (l + r) l + r: dy/dl = 2 l + r, dy/dr = l + 1.
      np.testing.assert_allclose(by_left(5.), 13.)
      np.testing.assert_allclose(by_right(7.), 3.)
      np.testing.assert_allclose(both(5., 7.), 67.)

  def test_second_loop_reads_the_first(self):
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(1)):
      x = tf.placeholder(tf.float64, [])
      first = _loop(tf.square, x, 1)
      middle = first + 1.
      y = _loop(lambda a: a * middle, first, 2)
      dm = gf.gradient(y, middle)
      f = gf.function([x, middle], [y, dm], session=session)
      np.testing.assert_allclose(f(2., 3.), [36., 24.])


class BranchTest(parameterized.TestCase):
  """`tf.cond` with its gradient at a value before and after it."""

  @parameterized.product(flow=(1, 2), taken=(True, False))
  def test_cut_before_a_branch(self, flow, taken):
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(flow)):
      x = tf.placeholder(tf.float64, [])
      p = tf.placeholder(tf.bool, [])
      h = tf.exp(x)
      y = tf.cond(p, lambda: h * h, lambda: h * h * h)
      f = gf.function([h, p], [y, gf.gradient(y, h)], session=session)
      np.testing.assert_allclose(
          f(2., taken), [4., 4.] if taken else [8., 12.])

  @parameterized.product(flow=(1, 2))
  def test_cut_of_the_condition(self, flow):
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(flow)):
      x = tf.placeholder(tf.float64, [])
      p = x > 0.
      y = tf.cond(p, lambda: x * x, lambda: 5. * x)
      f = gf.function([x, p], [y, gf.gradient(y, x)], points=[p],
                      session=session)
      np.testing.assert_allclose(f(3., True), [9., 6.])
      np.testing.assert_allclose(f(3., False), [15., 5.])
      np.testing.assert_allclose(
          gf.run(session, y, {x: -3., p: True}), 9.)

  @parameterized.product(flow=(1, 2))
  def test_cut_of_the_result(self, flow):
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(flow)):
      x = tf.placeholder(tf.float64, [])
      h = tf.cond(x > 0., lambda: x * x, lambda: 5. * x)
      y = tf.exp(-h)
      np.testing.assert_allclose(
          gf.run(session, [y, gf.gradient(y, h)], {h: .5}),
          [np.exp(-.5), -np.exp(-.5)])


class OrderTest(parameterized.TestCase):
  """Control dependencies of what is copied."""

  def test_assertions_hold_in_the_copy(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      h = x * 2.
      with tf.control_dependencies([
          tf.debugging.assert_positive(h, message="h is not positive")]):
        y = tf.square(h)
      f = gf.function(h, [y, gf.gradient(y, h)], session=session)
      np.testing.assert_allclose(f(3.), [9., 6.])
      with self.assertRaisesRegex(
          tf.errors.InvalidArgumentError, "h is not positive"):
        f(-3.)
      np.testing.assert_allclose(f(2.), [4., 4.])

  def test_what_is_beside_runs_before(self):
    with tf.Graph().as_default(), tf.Session() as session:
      calls = []
      x = tf.placeholder(tf.float64, [])
      h = x * 2.
      seen = tf.py_func(lambda: calls.append(1) or np.float64(0.), [],
                        tf.float64, stateful=True)
      with tf.control_dependencies([seen]):
        y = tf.square(h)
      f = gf.function(h, y, session=session)
      self.assertEqual(f(3.), 9.)
      self.assertLen(calls, 1)
      self.assertEqual(f(4.), 16.)
      self.assertLen(calls, 2)

  def test_what_is_above_does_not_run(self):
    with tf.Graph().as_default(), tf.Session() as session:
      calls = []
      seen = tf.py_func(lambda: calls.append(1) or np.float64(2.), [],
                        tf.float64, stateful=True)
      seen.set_shape([])
      h = seen * 2.
      with tf.control_dependencies([h]):
        y = h * h
      f = gf.function(h, [y, gf.gradient(y, h)], session=session)
      np.testing.assert_allclose(f(3.), [9., 6.])
      self.assertEmpty(calls)
      self.assertEqual(session.run(y), 16.)
      self.assertLen(calls, 1)

  def test_random_numbers_are_shared_with_the_original(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [64])
      h = x * 1.
      mask = tf.cast(tf.random.uniform([64]) > .5, tf.float64)
      y = h * mask
      f = gf.function(h, [y, gf.gradient(y, h), mask], session=session)
      y_t, dh_t, mask_t = f(np.full(64, 3.))
      np.testing.assert_array_equal(y_t, 3. * mask_t)
      np.testing.assert_array_equal(dh_t, mask_t)
      self.assertBetween(mask_t.sum(), 1., 63.)

  def test_colocated_ops(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      h = x * 2.
      inner = tf.identity(h)
      with tf.colocate_with(inner):
        y = tf.square(inner)
      with tf.colocate_with(x):
        y = y * 3.
      self.assertEqual(gf.function(h, y, session=session)(2.), 12.)


class SizeTest(parameterized.TestCase):
  """A copy is linear in what is copied, not in the graph."""

  def _added(self, before, after):
    with tf.Graph().as_default() as graph, tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      h = x
      for _ in range(before):
        h = tf.sin(h)
      y = h
      for _ in range(after):
        y = tf.sin(y)
      ops = len(graph.get_operations())
      value = gf.function(h, y, session=session)(.5)
      expected = .5
      for _ in range(after):
        expected = np.sin(expected)
      self.assertAlmostEqual(value, expected, places=12)
      return len(graph.get_operations()) - ops

  def test_ops_that_are_added(self):
    short, long_, late = (self._added(1, 50), self._added(1, 150),
                          self._added(400, 50))
    self.assertEqual(short, late)
    self.assertEqual(long_ - short, 100)

  def test_ops_beside_the_path_are_shared(self):
    with tf.Graph().as_default() as graph, tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      beside = x
      for _ in range(100):
        beside = tf.sin(beside)
      h = x * 2.
      y = h * beside
      ops = len(graph.get_operations())
      np.testing.assert_allclose(
          gf.function([x, h], y, session=session)(0., 5.), 0.)
      self.assertLess(len(graph.get_operations()) - ops, 6)
