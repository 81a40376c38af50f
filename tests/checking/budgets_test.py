"""`seconds=` and `progress=` of `check`: with a clock that evaluations move."""

import io
import unittest.mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from gradfeed.checking import budgets
from gradfeed import progress_lines
from tests.testing import graphs

_X = np.random.RandomState(0).normal(size=[2, 3])


def _half():
  """The name of a gradient of tanh that is half of the right one."""
  if _tf.registered_gradient("HalfOfTanh") is None:
    tf.RegisterGradient("HalfOfTanh")(
        lambda op, g: g * (1.0 - op.outputs[0] ** 2) * 0.5)
  return "HalfOfTanh"


class BudgetTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.now = 0.0
    self.told = []
    self.enter_context(unittest.mock.patch.object(
        budgets, "_clock", lambda: self.now))
    self.x = tf.placeholder(tf.float64, [None, 3], name="x")

  def check(self, y, x_t=_X, seconds=None, x=None, **options):
    """Checks with a clock on which each evaluation takes a second."""
    self.now, self.told = 0.0, []

    def progress(*state):
      self.now += 1.0
      self.told.append(state)

    return gf.check(y, self.x if x is None else x, x_t, self.session,
                    seconds=seconds, progress=progress, **options)

  def finding(self, report):
    found, = [f for f in report.findings if f.kind == "time"]
    return found

  @parameterized.parameters(1, 2)
  def test_is_never_right_before_all_is_seen(self, order):
    y = tf.tanh(self.x) * tf.stop_gradient(self.x)
    whole = self.check(y, order=order)
    self.assertEqual(whole.verdict, "right")
    count = len(self.told)
    rows = {row["direction"]: row for row in whole.rows}
    compared = -1
    for seconds in list(range(1, count, 7)) + [count - 1]:
      report = self.check(y, seconds=seconds, order=order)
      self.assertEqual(report.verdict, "undecidable", report)
      self.assertFalse(report.is_bad)
      self.assertLen(self.told, seconds)
      self.assertStartsWith(
          str(report), "undecidable: out of time after {} s, ".format(seconds))
      details = self.finding(report).details
      self.assertGreaterEqual(details["compared"], compared)
      compared = details["compared"]
      self.assertEqual(compared, len(report.rows))
      self.assertEqual(details["agreeing"], compared)
      self.assertNotEmpty(details["missing"])
      for row in report.rows:
        self.assertEqual(row, rows[row["direction"]])
      for row, expected in zip(report.gradients, whole.gradients):
        np.testing.assert_array_equal(row, expected)
    self.assertEqual(details["missing"], ["rows that depend on each other"])
    in_time = self.check(y, seconds=count, order=order)
    self.assertEqual(str(in_time), str(whole))

  def test_says_what_was_seen_and_what_was_not(self):
    y = tf.reduce_sum(tf.tanh(self.x), 1, name="y")
    self.check(y)
    first = [state[1] for state in self.told].index(2)
    report = self.check(y, seconds=first)
    self.assertRegex(" ".join(report.summary.split()), (
        r"out of time after {} s, with the gradient of 'y:0' .* by 'x:0' .* "
        r"compared along 2 of 7 directions: 2 agree with finite differences, "
        r"and the largest difference is \de-1\d of the gradient\.").format(
            first).replace(r"\de", r"\d\.\de"))
    self.assertEqual(self.finding(report).what, (
        "There was no time left for 5 of 7 directions; rows that depend on "
        "each other."))
    self.assertLen(report.rows, 2)
    self.assertEqual(report.rows[0]["direction"], "the gradient")

  def test_nothing_compared_is_said(self):
    report = self.check(tf.tanh(self.x), seconds=1)
    self.assertIn("was compared with finite differences.", report.summary)
    self.assertEqual(report.rows, [])
    np.testing.assert_allclose(report.gradients[0], 1.0 - np.tanh(_X) ** 2)

  def test_what_was_seen_to_be_wrong_is_wrong(self):
    with self.graph.gradient_override_map({"Tanh": _half()}):
      y = tf.tanh(self.x)
    self.assertEqual(self.check(y).findings[0].names, ["Tanh"])
    first = [state[1] for state in self.told].index(1)
    report = self.check(y, seconds=first)
    self.assertEqual(report.verdict, "wrong")
    self.assertEqual(report.findings[0].names, [])
    self.assertIn("the op that is to blame",
                  self.finding(report).details["missing"])

  def test_is_never_wrong_for_lack_of_time(self):
    x = tf.placeholder(tf.float32, [], name="number")
    y = tf.sin(1e5 * x)
    dx, = tf.gradients(y, x)
    dx = dx * 1.02  # Less than what rounding x changes.
    options = dict(x=x, x_t=3.0, gradient=dx)
    whole = self.check(y, **options)
    self.assertEqual(whole.verdict, "undecidable", whole)
    for seconds in range(1, len(self.told)):
      report = self.check(y, seconds=seconds, **options)
      self.assertEqual(report.verdict, "undecidable", report)

  def test_not_finite_is_bad_without_the_op(self):
    report = self.check(tf.log(self.x), np.zeros([1, 3]), seconds=1)
    self.assertTrue(report.is_bad)
    self.assertIn("no time left to look", report.findings[0].why)

  def test_refuses_what_is_no_time(self):
    for seconds in (0, -1.0, True, "1", float("nan"), float("inf")):
      with self.assertRaisesRegex(gf.ArgumentError, "seconds="):
        gf.check(self.x, self.x, _X, self.session, seconds=seconds)
    with self.assertRaisesRegex(gf.ArgumentError, "progress='yes'"):
      gf.check(self.x, self.x, _X, self.session, progress="yes")


class ProgressTest(graphs.GraphTest):

  def test_counts_evaluations_and_directions(self):
    x = tf.placeholder(tf.float64, [3])
    told = []
    gf.check(tf.sin(x), x, _X[0], self.session,
             progress=lambda *state: told.append(state))
    self.assertEqual([state[0] for state in told],
                     list(range(1, len(told) + 1)))
    self.assertEqual(told[-1][1:], (6, 7))
    self.assertEqual(sorted(told), told)

  def test_a_line_on_a_terminal_where_it_takes_long(self):
    x = tf.placeholder(tf.float64, [3])
    for seconds, is_shown in ((0.0, False), (1.0, True)):
      terminal, now = io.StringIO(), [0.0]

      def perf_counter(now=now, seconds=seconds):
        now[0] += seconds
        return now[0]

      terminal.isatty = lambda: True
      with unittest.mock.patch.object(
          progress_lines.sys, "stderr", terminal), unittest.mock.patch.object(
              progress_lines.time, "perf_counter", perf_counter):
        gf.check(tf.sin(x), x, _X[0], self.session, seconds=1e6)
      text = terminal.getvalue()
      self.assertEqual("gradfeed: check: 2 of 7 directions, " in text, is_shown)
      self.assertEqual(text[-1:], "\n" if is_shown else "")


class EvaluationsTest(graphs.GraphTest):

  def _count(self, y, x, x_t):
    told = []
    report = gf.check(y, x, x_t, self.session,
                      progress=lambda *state: told.append(state))
    return report, len(told)

  def test_of_a_network_with_many_kinks_are_few(self):
    rng = np.random.RandomState(0)
    x = h = tf.placeholder(tf.float32, [20])
    for width in (400, 400, 400):
      size = int(h.shape[0])
      h = tf.nn.relu(tf.linalg.matvec(tf.constant(rng.normal(
          size=[width, size]) * np.sqrt(2.0 / size), tf.float32), h))
    report, count = self._count(tf.reduce_mean(h), x, rng.normal(size=[20]))
    self.assertEqual(report.verdict, "right")
    self.assertLess(count, 5 + 7 * 8)  # Each direction takes at least 6.

  def test_to_find_a_wrong_op_are_few(self):
    x = tf.placeholder(tf.float64, [5])
    with self.graph.gradient_override_map({"Tanh": _half()}):
      h = tf.tanh(x, name="planted")
    for _ in range(12):
      h = tf.sin(h) * 1.5
    report, count = self._count(h, x, np.linspace(0.2, 1.0, 5))
    self.assertEqual(report.findings[0].names, ["planted"])
    self.assertLess(count, 60 + 3 * 30)  # One op of each of three types.

  def test_of_a_stopped_gradient_are_no_second_comparison(self):
    x = tf.placeholder(tf.float64, [20])
    w = tf.constant(np.random.RandomState(0).normal(size=[30, 20]))
    h = tf.tanh(tf.linalg.matvec(w, x))
    _, count = self._count(h * h, x, np.linspace(-1.0, 1.0, 20))
    report, stopped = self._count(
        h * tf.stop_gradient(h), x, np.linspace(-1.0, 1.0, 20))
    self.assertEqual(report.verdict, "right")
    self.assertLess(stopped, count + 3 * 10)  # Along three directions.
