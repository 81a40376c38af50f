"""What programs of XLA tell of values that TensorFlow would refuse."""

import unittest

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed import _tf
import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs
from tests.testing import numeric
from tests.testing import programs


def _outside(x, number):
  del x
  return number()


def _branch(x, number):
  return tf.cond(tf.reduce_sum(x) > 0, number, lambda: tf.zeros([], x.dtype))


def _loop(x, number):
  return tf.while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, h + number()),
                       [0, tf.zeros([], x.dtype)])[1]


def _condition(x, number):
  return tf.while_loop(
      lambda i, h: tf.logical_and(i < 3, h < tf.abs(number()) + 9.),
      lambda i, h: (i + 1, h * tf.reduce_max(x)),
      [0, tf.ones([], x.dtype)])[1]


def _branch_in_a_loop(x, number):
  return tf.while_loop(
      lambda i, h: i < 3, lambda i, h: (i + 1, h + tf.cond(
          tf.logical_and(tf.equal(i, 2), tf.reduce_sum(x) > 0), number,
          lambda: tf.zeros([], x.dtype))), [0, tf.zeros([], x.dtype)])[1]


def _loop_in_a_branch(x, number):
  return tf.cond(tf.reduce_sum(x) > 0, lambda: _loop(x, number),
                 lambda: tf.zeros([], x.dtype))


_PLACES = [("outside", _outside), ("branch", _branch), ("loop", _loop),
           ("condition", _condition), ("branch_in_a_loop", _branch_in_a_loop),
           ("loop_in_a_branch", _loop_in_a_branch)]

#: How a number that is fed is used: what is computed, values that TensorFlow
#: takes and values that it refuses, of x of shape [3, 2].
_USES = {
    "gather": (lambda x, i: tf.reduce_sum(tf.gather(x, i)), (0, 2), (3, -1)),
    "gather_along_the_last_axis": (
        lambda x, i: tf.reduce_sum(tf.gather(x, i, axis=-1)), (0, 1), (2, -1)),
    "row": (lambda x, i: tf.reduce_sum(x[i]), (0, 2, -1, -3), (3, -4)),
    "column": (lambda x, i: tf.reduce_sum(x[..., i]), (0, 1, -2), (2, -3)),
    "row_of_new_axes": (lambda x, i: tf.reduce_sum(x[tf.newaxis, :2, i]),
                        (0, 1, -2), (2, -3)),
    "slice": (lambda x, i: tf.reduce_sum(tf.slice(x, [i, 0], [2, 2])),
              (0, 1), (2, -1)),
    "division": (lambda x, i: tf.reduce_sum(x) * tf.cast(7 // i, x.dtype),
                 (1, 2, -1), (0,)),
    "assertion": (lambda x, i: _at_least_one(tf.reduce_sum(x), i), (1, 2),
                  (0, -1)),
}

_VALUES_ALONE = ("row_of_new_axes", "slice")


def _at_least_one(y, i):
  with tf.control_dependencies([tf.debugging.Assert(i >= 1, [i])]):
    return tf.identity(y)


@unittest.skipIf(not _tf.IS_TF2, "TensorFlow 1.15 compiles nothing.")
class VerdictsTest(graphs.GraphTest):

  def _compiled(self, place, use, with_gradient=True):
    """A function from x and i to the use of i at a place, and its gradient."""
    x = tf.placeholder(tf.float64, [3, 2])
    i = tf.placeholder(tf.int32, [])
    with flows.control_flow(None):
      y = place(x, lambda: use(x, i) ** 2)
    self.plain = gf.function([x, i], y)
    return gf.function([x, i], [y, gf.gradient(y, x) if with_gradient else x],
                       jit_compile=True)

  def _assert_tells(self, f, good, bad, with_gradient=True):
    value = np.linspace(0.5, 1.5, 6).reshape([3, 2])
    f(value, good[0])
    for number in good:
      self.assertTrue(programs.takes(f, self.session, 2. * value, number))
      y, gradient = f(2. * value, number)
      np.testing.assert_allclose(y, self.plain(2. * value, number), rtol=1e-12)
      if with_gradient:
        np.testing.assert_allclose(gradient, numeric.central_differences(
            lambda x, number=number: self.plain(x, number), 2. * value),
                                   rtol=1e-6, atol=1e-8)
    for number in bad:
      self.assertFalse(programs.takes(f, self.session, value, number))
      with self.assertRaises((gf.GradfeedError, tf.errors.OpError)):
        f(value, number)
    return value

  @parameterized.named_parameters(*_PLACES)
  def test_an_index_wherever_it_is(self, place):
    use, good, bad = _USES["row"]
    is_whole = place is not _loop_in_a_branch
    f = self._compiled(place, use, is_whole)
    value = self._assert_tells(f, good, bad, is_whole)
    if place in (_branch, _branch_in_a_loop, _loop_in_a_branch):
      # It is not read.
      self.assertTrue(programs.takes(f, self.session, -value, bad[0]))
      self.assertEqual(f(-value, bad[0])[0], 0.)

  @parameterized.parameters(*sorted(_USES))
  def test_each_use(self, name):
    use, good, bad = _USES[name]
    for place in (_outside, _loop):
      # What decides where a gradient is put is a part of a program.
      is_whole = name not in _VALUES_ALONE
      if name == "assertion" and place is _loop and (
          not tf.control_flow_v2_enabled()):
        with self.assertRaisesRegex(gf.UnsupportedGraphError, "Assert"):
          self._compiled(place, use)(np.ones([3, 2]), 1)
        continue
      self._assert_tells(
          self._compiled(place, use, is_whole), good, bad, is_whole)

  def test_a_loop_that_reads_past_the_end_ends(self):
    numbers = tf.placeholder(tf.int32, [4])
    with flows.control_flow(None):
      count = tf.while_loop(lambda i: tf.gather(numbers, i) > 0,
                            lambda i: i + 1, [0])
    f = gf.function(numbers, count, jit_compile=True)
    for value, expected in [([1, 1, 0, 1], 2), ([1, 0, 0, 0], 1),
                            ([0, 1, 1, 1], 0)]:
      self.assertEqual(f(value), expected)
      self.assertTrue(programs.takes(f, self.session, value))
    with self.assertRaises(tf.errors.InvalidArgumentError):
      f([1, 1, 1, 1])

  def test_an_index_that_is_counted_from_another(self):
    rows = tf.constant(np.arange(6.).reshape(3, 2))
    first = tf.placeholder(tf.int32, [])
    with flows.control_flow(None):
      h = tf.while_loop(
          lambda i, h: i < 2,
          lambda i, h: (i + 1, h + tf.gather(rows, first + i)),
          [0, tf.zeros([2], tf.float64)])[1]
    f = gf.function(first, h, jit_compile=True)
    for number, expected in [(1, [6., 8.]), (0, [2., 4.]), (1, [6., 8.])]:
      np.testing.assert_array_equal(f(number), expected)
      self.assertTrue(programs.takes(f, self.session, number))
    for number in (2, -1):
      with self.assertRaises(tf.errors.InvalidArgumentError):
        f(number)

  def test_turns_that_a_run_did_not_have(self):
    rows = tf.constant(np.arange(6.).reshape(3, 2))
    x = tf.placeholder(tf.float64, [2])
    with flows.control_flow(None):
      h = tf.while_loop(
          lambda i, h: tf.logical_and(i < 9, tf.reduce_sum(h) < 3.),
          lambda i, h: (i + 1, h + x + 0. * tf.gather(rows, i)), [0, x])[1]
    f = gf.function(x, h, jit_compile=True)
    np.testing.assert_array_equal(f([1., 1.]), [2., 2.])
    np.testing.assert_array_equal(f([0.5, 0.5]), [1.5, 1.5])
    self.assertTrue(programs.takes(f, self.session, [0.5, 0.5]))
    with self.assertRaises(tf.errors.InvalidArgumentError):
      f([0.1, 0.1])

  def test_a_wrong_index_in_a_branch_that_was_not_taken(self):
    x = tf.placeholder(tf.float64, [3])
    with flows.control_flow(None):
      i = tf.placeholder_with_default(np.int32(3), [])
      y = tf.cond(x[0] > 0, lambda: x * x[i], lambda: x * 2.)
    f = gf.function(x, y, jit_compile=True)
    np.testing.assert_array_equal(f([-1., 1., 1.]), [-2., 2., 2.])
    with self.assertRaises((gf.GradfeedError, tf.errors.OpError)):
      f([1., 1., 1.])
