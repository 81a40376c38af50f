"""Healthy programs under `patched`, and the errors that they catch."""

import collections
import warnings

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.client import session as session_lib

import gradfeed as gf
from tests.testing import graphs


class HealthyProgramsTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.enter_context(gf.patched())

  def test_variables_from_values_of_others(self):
    w = graphs.variable("w", 2.0, False)
    v = tf.Variable(w.initialized_value() * 2.0)
    self.initialize()
    self.assertEqual(self.session.run([w, v]), [2.0, 4.0])

  def test_a_variable_that_only_the_other_branch_reads(self):
    w = graphs.variable("w", 2.0, True)
    p = tf.placeholder(tf.bool, [])
    y = tf.cond(p, lambda: w * 1.0, lambda: tf.constant(5.0, tf.float64))
    self.assertEqual(self.session.run(y, {p: False}), 5.0)
    with self.assertRaises(tf.errors.FailedPreconditionError) as caught:
      self.session.run(y, {p: True})
    self.assertIsInstance(caught.exception, gf.UninitializedError)

  def test_types_that_were_registered(self):
    class Pair:

      def __init__(self, a, b):
        self.a, self.b = a, b

    session_lib.register_session_run_conversion_functions(
        Pair, lambda pair: ([pair.a, pair.b], lambda values: Pair(*values)),
        lambda pair, value: [(pair.a, value.a), (pair.b, value.b)],
        lambda pair: [pair.a, pair.b])
    a, b = tf.placeholder(tf.float32, []), tf.placeholder(tf.float32, [])
    got = self.session.run(Pair(a * 2, b * 3), {a: 1.0, b: 2.0})
    self.assertEqual((got.a, got.b), (2.0, 6.0))

  def test_structures(self):
    pair = collections.namedtuple("pair", ["a", "b"])
    c = tf.constant(1.0)
    got = self.session.run(collections.OrderedDict(
        [("q", pair(c, [c + 1.0])), ("e", []), ("n", tf.no_op())]))
    self.assertIsInstance(got, collections.OrderedDict)
    self.assertEqual(got, {"q": pair(1.0, [2.0]), "e": [], "n": None})

  def test_a_step_of_training_with_its_gradient_is_run_with_a_warning(self):
    x = tf.placeholder(tf.float64, [2, 3])
    w1 = graphs.variable("w1", np.ones((3, 4)), False)
    w2 = graphs.variable("w2", np.ones((4, 1)), False)
    y = tf.reduce_sum(tf.matmul(tf.tanh(tf.matmul(x, w1)), w2))
    grads = tf.gradients(y, [w1, w2])
    train = tf.train.GradientDescentOptimizer(0.1).apply_gradients(
        zip(grads, [w1, w2]))
    self.initialize()
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always")
      self.session.run([train, grads], {x: np.ones((2, 3))})
    self.assertLen([w for w in caught if w.category is gf.GradfeedWarning], 1)
    self.assertTrue((self.session.run(w2) < 1.0).all())
    with self.assertRaises(gf.AssignmentError):
      gf.run(self.session, [train, grads], {x: np.ones((2, 3))})

  def test_hooks_of_a_monitored_session_fire_once(self):
    w = tf.get_variable("w", initializer=2.0)
    step = tf.train.get_or_create_global_step()
    train = tf.train.GradientDescentOptimizer(0.1).minimize(w * w, step)
    steps = []

    class Counting(tf.train.SessionRunHook):

      def before_run(self, run_context):
        return tf.train.SessionRunArgs({"step": step})

      def after_run(self, run_context, run_values):
        steps.append(run_values.results["step"])

    with tf.train.MonitoredSession(
        hooks=[tf.train.StopAtStepHook(num_steps=3), Counting()]) as session:
      while not session.should_stop():
        session.run(train)
    self.assertLen(steps, 3)

  def test_a_queue_runner_fills_and_stops(self):
    queue = tf.FIFOQueue(2, [tf.float32], [()])
    runner = tf.train.QueueRunner(queue, [queue.enqueue(tf.constant(2.0))])
    tf.train.add_queue_runner(runner)
    coordinator = tf.train.Coordinator()
    threads = tf.train.start_queue_runners(self.session, coordinator)
    taken = queue.dequeue()
    self.assertEqual([self.session.run(taken) for _ in range(4)], [2.0] * 4)
    coordinator.request_stop()
    self.session.run(queue.close(cancel_pending_enqueues=True))
    coordinator.join(threads, stop_grace_period_secs=10)

  def test_the_end_of_a_dataset_ends_a_loop(self):
    following = tf.data.make_one_shot_iterator(
        tf.data.Dataset.range(3)).get_next()
    seen = []
    with self.assertRaises(tf.errors.OutOfRangeError):
      while True:
        seen.append(self.session.run(following))
    self.assertEqual(seen, [0, 1, 2])

  def test_gradients_by_nothing_and_of_integers(self):
    x = tf.constant(2.0)
    self.assertEqual(tf.gradients(x, []), [])
    self.assertEqual(tf.gradients(x, tf.constant(1)), [None])


def _other_graph():
  with tf.Graph().as_default():
    return tf.placeholder(tf.float32, [])


def _closed():
  session = tf.Session()
  tf.constant(1.0)
  session.close()
  return session


#: From what goes wrong to a function of a session that does it.
_FAULTS = {
    "none": lambda s: s.run([tf.constant(1.0), None]),
    "no_graph": lambda s: s.run([]),
    "unfed": lambda s: s.run(tf.placeholder(tf.float32, []) * 2.0),
    "unknown_tensor": lambda s: (tf.constant(1.0), s.run("nope:0")),
    "unknown_op": lambda s: (tf.constant(1.0), s.run("nope")),
    "unknown_key": lambda s: s.run(tf.constant(1.0), {"nope:0": 1.0}),
    "number_as_key": lambda s: s.run(tf.constant(1.0), {3: 1.0}),
    "number": lambda s: (tf.constant(1.0), s.run(1.5)),
    "other_graph": lambda s: (tf.constant(1.0), s.run(_other_graph())),
    "key_of_other_graph": lambda s: s.run(
        tf.constant(1.0), {_other_graph(): 1.0}),
    "closed": lambda s: _closed().run(tf.constant(1.0)),
    "shape": lambda s: s.run(*_fed([2], [1.0])),
    "tensor_as_value": lambda s: s.run(*_fed([], tf.constant(1.0))),
    "text_as_value": lambda s: s.run(*_fed([], "a")),
    "ragged": lambda s: s.run(*_fed([None], [[1], [1, 2]])),
    "uninitialized": lambda s: s.run(graphs.variable("w", 1.0, False) * 2.0),
    "uninitialized_resource": lambda s: s.run(
        graphs.variable("w", 1.0, True) * 2.0),
    "feed_dict": lambda s: s.run(tf.constant(1.0), [1]),
    "not_feedable": lambda s: _not_feedable(s),
    "values": lambda s: s.run(*_fed([None], [np.nan], lambda x: (
        tf.debugging.check_numerics(x, "it is")))),
    "gradients_of_none": lambda s: tf.gradients(None, tf.constant(1.0)),
    "gradients_of_other_graph": lambda s: tf.gradients(
        tf.constant(1.0), _other_graph()),
    "dtype_of_grad_ys": lambda s: tf.gradients(
        tf.constant([1.0]) * 2.0, _other_graph(), [tf.constant([1])]),
    "no_gradient_registered": lambda s: tf.gradients(*_without_gradient()),
}


def _fed(shape, value, of=lambda x: x * 2.0):
  x = tf.placeholder(tf.float32, shape)
  return of(x), {x: value}


def _not_feedable(session):
  x = tf.constant([1, 2])
  session.graph.prevent_feeding(x)
  return session.run(x * 2, {x: [2, 3]})


def _without_gradient():
  x = tf.constant([[[[1.0]]]])
  return tf.raw_ops.Dilation2DBackpropInput(
      input=x, filter=tf.constant([[[1.0]]]), out_backprop=x,
      strides=[1, 1, 1, 1], rates=[1, 1, 1, 1], padding="SAME"), x


class ErrorsTest(parameterized.TestCase):

  def error_of(self, fault):
    with tf.Graph().as_default(), tf.Session() as session:
      try:
        result = fault(session)
      except Exception as error:  # pylint: disable=broad-except
        return error
    raise AssertionError("nothing was raised; it gave {!r}".format(result))

  @parameterized.named_parameters(sorted(_FAULTS.items()))
  def test_what_catches_that_of_tensorflow_catches_it(self, fault):
    original = self.error_of(fault)
    with gf.patched():
      error = self.error_of(fault)
    with gf.patched():
      again = self.error_of(fault)
    self.assertIsInstance(error, type(original))
    self.assertIsInstance(again, type(original))
    if isinstance(original, tf.errors.OpError) and original.op is not None:
      self.assertEqual(error.op.name, original.op.name)
      self.assertEqual(error.error_code, original.error_code)
