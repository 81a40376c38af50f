"""Tests of evaluations: what they need, refuse, and wait for."""

import threading
from unittest import mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from gradfeed.evaluation.calls import callables
from gradfeed.evaluation.calls import thread_choice
from gradfeed.evaluation.calls import trials
from tests.testing import graphs


class E3Test(parameterized.TestCase):
  """Placeholders without a value are named all at once, before the run."""

  def test_e3_all_at_once(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [None, 3], name="x")
      keep = tf.placeholder(tf.float32, [], name="keep_prob")
      training = tf.placeholder(tf.bool, [], name="is_training")
      tf.placeholder(tf.float32, [], name="unrelated")
      y = tf.cond(training, lambda: x * keep, lambda: x * 2.)
      dx = gf.gradient(y, x)
      f = gf.function(x, dx, session=session)
      self.assertCountEqual([t.name for t in f.needs],
                            ["keep_prob:0", "is_training:0"])
      pattern = (r"(?s)'is_training:0' \(bool, \[\]\), used by \w+.*"
                 r"'keep_prob:0' \(float32, \[\]\), used by \w+.*"
                 r"Fix: Feed them: feed_dict=.*is_training.*keep_prob")
      value = np.ones((1, 3), np.float32)
      for call in (lambda: f(value), lambda: gf.run(session, dx, {x: value})):
        with self.assertRaisesRegex(gf.MissingFeedError, pattern) as caught:
          call()
        self.assertNotIn("unrelated", str(caught.exception))
      with self.assertRaisesRegex(gf.MissingFeedError, "is_training"):
        f(value, feed_dict={keep: .5})
      result = f(value, feed_dict={keep: .5, "is_training:0": True})
      np.testing.assert_array_equal(result, np.full((1, 3), .5, np.float32))

  def test_e3_held_values_are_not_needed(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      k = tf.placeholder(tf.float64, [], name="k")
      f = gf.function(x, x * k, session=session, feed_dict={k: 3.})
      self.assertEmpty(f.needs)
      self.assertEqual(f(2.), 6.)
      self.assertEqual(f(2., feed_dict={k: 5.}), 10.)
      self.assertEqual(f(2.), 6.)

  def test_e3_above_what_is_cut_nothing_is_needed(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      h = x * 2.
      f = gf.function(h, h * h, session=session)
      self.assertEmpty(f.needs)
      self.assertEqual(f(3.), 9.)


class E10Test(parameterized.TestCase):
  """What cannot be run is refused before the run, or ended in time."""

  def test_e10_unstarted_queue(self):
    with tf.Graph().as_default(), tf.Session() as session:
      queue = tf.FIFOQueue(4, [tf.float64], [[]], name="labels")
      x = tf.placeholder(tf.float64, [])
      label = queue.dequeue(name="take")
      dx = gf.gradient(x * x * label, x)
      f = gf.function(x, dx, session=session, timeout=.2)
      # Where the limit is not kept, this ends the run.
      end = threading.Timer(60., session.close)
      end.start()
      self.addCleanup(end.cancel)
      with self.assertRaisesRegex(
          gf.TimeLimitError, r"(?s)0\.2 s.*QueueDequeue\w* 'take'.*Fix: .*"
          r"start_queue_runners"):
        f(3.)
      with self.assertRaisesRegex(gf.TimeLimitError, "'take'"):
        gf.run(session, dx, {x: 3.}, timeout=.2)
      # The session is as usable as before.
      session.run(queue.enqueue(np.float64(5.)))
      self.assertEqual(f(3.), 30.)
      self.assertEqual(gf.run(session, dx, {x: 3., label: 2.}), 12.)
      self.assertEqual(gf.function([x, label], dx, session=session)(3., 7.),
                       42.)

  def test_e10_queue_that_another_thread_fills(self):
    with tf.Graph().as_default(), tf.Session() as session:
      queue = tf.FIFOQueue(4, [tf.float64], [[]])
      x = tf.placeholder(tf.float64, [])
      y = x * queue.dequeue()
      put = queue.enqueue(np.float64(5.))
      f = gf.function(x, y, session=session)
      timer = threading.Timer(.1, lambda: session.run(put))
      timer.start()
      self.assertEqual(f(3.), 15.)
      timer.join()

  @parameterized.named_parameters(
      ("_tensor", lambda: tf.constant(1.)),
      ("_variable", lambda: tf.get_variable("v", initializer=1.)),
      ("_op", lambda: tf.no_op()))  # pylint: disable=unnecessary-lambda
  def test_e10_symbol_as_a_value(self, make):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [], name="x")
      with self.assertRaisesRegex(
          gf.FeedError, r"'x:0' \(float32, \[\]\).*is not a value"):
        gf.function(x, x * 2., session=session)(make())

  @parameterized.named_parameters(
      ("_rank", np.ones(3)), ("_columns", np.ones((2, 4))),
      ("_scalar", 1.), ("_deeper", np.ones((1, 2, 3))))
  def test_e10_wrong_shape(self, value):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [None, 3], name="x")
      f = gf.function(x, x * 2., session=session)
      for call in (f, lambda value: gf.run(session, x * 2., {x: value})):
        with self.assertRaisesRegex(
            gf.FeedError, r"'x:0' \(float64, \[\?, 3\]\).*shape \[.*\] does "
            r"not fit \[\?, 3\]"):
          call(value)
      np.testing.assert_array_equal(f(np.ones((0, 3))), np.ones((0, 3)))

  def test_e10_all_that_is_wrong_in_one_error(self):
    with tf.Graph().as_default() as graph, tf.Session() as session:
      a = tf.placeholder(tf.int32, [], name="a")
      b = tf.placeholder(tf.float32, [2], name="b")
      c = tf.placeholder(tf.float32, [], name="c")
      y = tf.cast(a, tf.float32) * b * c
      f = gf.function([a, b, c], y, session=session)
      ops = len(graph.get_operations())
      with self.assertRaisesRegex(
          gf.FeedError, r"(?s)3 values:.*'a:0'.*2\.5.*'b:0'.*shape.*'c:0'.*"
          r"overflows") as caught:
        f(2.5, [1., 2., 3.], 1e300)
      self.assertIsInstance(caught.exception, ValueError)
      self.assertIsInstance(caught.exception, TypeError)
      self.assertLen(graph.get_operations(), ops)

  def test_e10_feed_without_effect(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [], name="x")
      v = tf.get_variable("v", initializer=np.float64(1.))
      copy = tf.identity(x, name="copy")
      y = x * x
      for idle in (copy, v):
        with self.assertRaisesRegex(
            gf.FeedError, r"'(v|copy):0'.*depends on it"):
          gf.run(session, y, {x: 1., idle: 2.})
        with self.assertRaisesRegex(
            gf.FeedError, r"'(v|copy):0'.*depends on it"):
          gf.function([x, idle], y, on_unused_input="ignore")

  def test_e10_gradient_that_does_not_depend_on_x_takes_x(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [2])
      dx = gf.gradient(tf.reduce_sum(3. * x), x)
      np.testing.assert_array_equal(
          gf.run(session, dx, {x: [1., 2.]}), [3., 3.])
      np.testing.assert_array_equal(
          gf.function(x, dx, session=session)([1., 2.]), [3., 3.])


def _fixed(graph):
  """The ops of `graph` that are copies for fixed shapes."""
  return [op for op in graph.get_operations()
          if op.name.startswith("gradfeed/fixed")]


class FirstCallsTest(graphs.GraphTest):
  """What is made at the first calls, and what only where many follow."""

  def setUp(self):
    super().setUp()
    self.x = tf.placeholder(tf.float32, [None, 3], name="x")
    self.w = tf.get_variable("w", initializer=np.ones([3, 2], np.float32))
    self.session.run(self.w.initializer)
    y = tf.reduce_mean(tf.matmul(self.x, self.w), 1)
    self.f = gf.function(self.x, gf.gradient(y, self.x), self.session)
    self.compiled = 0

  def _count_compilations(self):
    make_callable = _tf.make_callable

    def counted(*arguments):
      self.compiled += 1
      return make_callable(*arguments)

    self.enter_context(mock.patch.object(_tf, "make_callable", counted))

  def test_forty_calls_compile_once_and_add_no_op_after_the_first(self):
    self._count_compilations()
    with mock.patch.object(thread_choice, "SLOW", 0.0), mock.patch.object(
        self.session, "run", None):
      self.f(np.ones([1, 3]))
      ops = self.count()
      for _ in range(40):
        np.testing.assert_array_equal(self.f(np.ones([1, 3])), [[1.0] * 3])
    self.assertEqual(self.compiled, 1)
    self.assertEqual(self.count(), ops)

  def test_many_calls_try_fixed_shapes_once(self):
    self._count_compilations()
    for rows in [1] * 150 + [2] * 150:
      np.testing.assert_array_equal(self.f(np.ones([rows, 3])),
                                    np.ones([rows, 3]))
    self.assertNotEmpty(_fixed(self.graph))
    self.assertLen({op.name.split("/")[1] for op in _fixed(self.graph)}, 1)
    self.assertEqual(self.compiled, 2)

  def test_seconds_in_calls_try_fixed_shapes(self):
    with mock.patch.object(trials.Trial, "SECONDS", 0.0):
      for _ in range(3):
        self.f(np.ones([1, 3]))
      self.assertEmpty(_fixed(self.graph))  # They were less than it costs.
      # pylint: disable-next=protected-access
      self.f._executable._last.compiled().trial.count(1e3)
      self.f(np.ones([1, 3]))
    self.assertNotEmpty(_fixed(self.graph))

  def test_two_sessions_in_turn(self):
    f = gf.function(self.x, self.f.outputs)
    with mock.patch.object(trials.Trial, "CALLS", 5), (
        tf.Session(graph=self.graph)) as other:
      other.run(self.w.assign(np.full([3, 2], 2.0)))
      for _ in range(10):
        with self.session.as_default():
          np.testing.assert_array_equal(f(np.ones([1, 3])), [[[1.0] * 3]])
        with other.as_default():
          np.testing.assert_array_equal(f(np.ones([1, 3])), [[[2.0] * 3]])

  @parameterized.parameters(False, True)
  def test_threads_are_compared_once_it_is_worth_it(self, is_worth_it):
    self._count_compilations()
    with mock.patch.object(thread_choice, "SLOW", 0.0), mock.patch.object(
        callables, "_WORTH", 0.0 if is_worth_it else 1e6):
      for _ in range(40):
        self.f(np.ones([1, 3]))
    self.assertEqual(self.compiled, 2 if is_worth_it else 1)

  def test_what_changes_a_generator_is_checked_before_it_runs(self):
    v = tf.get_variable("v", initializer=np.float32(2.0))
    draw = tf.random.uniform([], seed=3)
    y = draw * tf.reduce_sum(self.x)
    expected = [self.session.run(draw) for _ in range(2)]
    with tf.Session(graph=self.graph) as session:
      with self.assertRaisesRegex(gf.UninitializedError, "'v:0'"):
        gf.run(session, gf.gradient(y * v * v, v), {self.x: np.ones([1, 3])})
      self.assertEqual([session.run(draw) for _ in range(2)], expected)


class ValueThatNoOpTakesTest(graphs.GraphTest):
  """A value of the right dtype that an op refuses when it runs."""

  def setUp(self):
    super().setUp()
    self.x = tf.placeholder(tf.float32, name="x")
    self.y = tf.matmul(self.x, tf.ones([5, 2]), name="product")
    self.f = gf.function(self.x, gf.gradient(self.y, self.x), self.session)

  def assert_refused(self, call, pattern="product.*x:0.* shape .3, 2."):
    ops = self.count()
    with self.assertRaisesRegex(gf.FeedError, "(?s)" + pattern) as caught:
      call()
    self.assertEqual(self.count(), ops)
    error = caught.exception
    self.assertIsInstance(error, tf.errors.InvalidArgumentError)
    self.assertIs(error.op.graph, self.graph)
    self.assertEqual(error.node_def.name, error.op.name)

  def test_first_call_names_the_op_and_the_value(self):
    self.assert_refused(lambda: self.f(np.ones([3, 2])))

  def test_later_calls_do_too(self):
    bad, good = np.ones([3, 2], np.float32), np.ones([3, 5], np.float32)
    for value in (bad, good, bad, good, bad, good, bad):
      if value is bad:
        self.assert_refused(lambda: self.f(bad))
      else:
        np.testing.assert_array_equal(self.f(good), np.full([3, 5], 2.0))

  def test_call_after_a_refused_one_is_specialized(self):
    with mock.patch.object(trials.Trial, "CALLS", 1):
      self.assert_refused(lambda: self.f(np.ones([3, 2])))
      self.f(np.ones([3, 5]))
      self.f(np.ones([3, 5]))
    self.assertNotEmpty(_fixed(self.graph))

  def test_index_out_of_range(self):
    rows = tf.placeholder(tf.float64, [4], name="rows")
    index = tf.placeholder(tf.int32, [None], name="index")
    f = gf.function([rows, index], gf.gradient(
        tf.gather(rows, index, name="rows_of"), rows), self.session)
    refused = lambda: f(np.ones(4), [1, 7])
    self.assert_refused(refused, pattern="index:0.* shape .2.")
    np.testing.assert_array_equal(f(np.ones(4), [1, 1]), [0., 2., 0., 0.])
    self.assert_refused(refused, pattern="index:0.* shape .2.")

  def test_in_run(self):
    gf.run(self.session, self.y, {self.x: np.ones([3, 5])})
    self.assert_refused(
        lambda: gf.run(self.session, self.y, {self.x: np.ones([3, 2])}))

  def test_error_that_no_feed_is_the_reason_for_is_that_of_tensorflow(self):
    index = tf.Variable(7)
    y = tf.gather(tf.ones([4]), index) * self.x
    self.session.run(index.initializer)
    with self.assertRaises(tf.errors.InvalidArgumentError) as caught:
      gf.run(self.session, y, {self.x: 1.0})
    self.assertNotIsInstance(caught.exception, gf.GradfeedError)
