"""Tests with every kind of session, and of the ends of sessions."""

import concurrent.futures
import copy
import gc
import importlib
import os
import pickle
import signal
import tempfile
import threading
import traceback
from unittest import mock
import weakref

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.graph import cache
from tests.testing import graphs


class _Model:
  """y = sum(v x^2) in the default graph, with x, v and a layer between."""

  def __init__(self, use_resource=False):
    self.x = tf.placeholder(tf.float64, [None], name="x")
    self.v = tf.get_variable("v", initializer=np.float64(2.),
                             use_resource=use_resource)
    self.h = self.x * self.x
    self.y = tf.reduce_sum(self.v * self.h)
    self.dx, self.dv = gf.gradient(self.y, [self.x, self.v])
    self.dh = gf.gradient(self.y, self.h)

  def functions(self, session=None):
    """(function of x, function of x and v, function of h)."""
    return (gf.function(self.x, [self.y, self.dx], session=session),
            gf.function([self.x, self.v], [self.y, self.dv],
                        session=session),
            gf.function(self.h, [self.y, self.dh], session=session))


def _check(test, functions, stored=2.):
  """Holds what `_Model.functions` return against the closed forms."""
  by_x, by_v, by_h = functions
  value = np.array([1., -3.])
  for _ in range(2):
    y, dx = by_x(value)
    test.assertAlmostEqual(y, stored * 10.)
    np.testing.assert_allclose(dx, 2. * stored * value)
    y, dv = by_v(value, 5.)
    test.assertAlmostEqual(y, 50.)
    test.assertAlmostEqual(dv, 10.)
    y, dh = by_h(value)
    test.assertAlmostEqual(y, -2. * stored)
    np.testing.assert_allclose(dh, [stored, stored])


class _Counter(tf.train.SessionRunHook):
  """A hook that counts what a monitored session runs."""

  def __init__(self):
    self.runs = 0

  def before_run(self, run_context):
    self.runs += 1


class SessionTest(parameterized.TestCase):
  """Whatever stands for a session runs the function."""

  @parameterized.parameters(False, True)
  def test_session(self, use_resource):
    with tf.Graph().as_default():
      model = _Model(use_resource)
      session = tf.Session()
      session.run(model.v.initializer)
      _check(self, model.functions(session))
      self.assertEqual(gf.run(session, model.y, {model.x: [1.]}), 2.)
      session.close()

  @parameterized.parameters(False, True)
  def test_interactive_session(self, use_resource):
    with tf.Graph().as_default():
      session = tf.InteractiveSession()
      self.addCleanup(session.close)
      model = _Model(use_resource)
      session.run(model.v.initializer)
      _check(self, model.functions())
      _check(self, model.functions(session))
      self.assertEqual(gf.run(None, model.y, {model.x: [1.]}), 2.)

  def test_default_session_at_the_call(self):
    with tf.Graph().as_default():
      model = _Model()
      functions = model.functions()
      sessions = [tf.Session(), tf.Session()]
      for i, session in enumerate(sessions):
        session.run(tf.assign(model.v, 2. + i))
      for _ in range(3):
        for i, session in enumerate(sessions):
          with session.as_default():
            _check(self, functions, 2. + i)
      for session in sessions:
        session.close()

  @parameterized.parameters(False, True)
  def test_remote_session(self, use_resource):
    server = tf.train.Server.create_local_server()
    with tf.Graph().as_default(), tf.Session(server.target) as session:
      model = _Model(use_resource)
      session.run(model.v.initializer)
      _check(self, model.functions(session))
      self.assertEqual(gf.run(session, model.y, {model.x: [1.]}), 2.)
      big = gf.function(model.x, model.dx, session=session)
      value = np.arange(5000.)
      for _ in range(3):
        result = big(value)
        np.testing.assert_allclose(result, 4. * value)
        result[...] = -1.
      np.testing.assert_array_equal(value, np.arange(5000.))

  @parameterized.product(use_resource=(False, True),
                         kind=("training", "monitored", "singular"))
  def test_e9_monitored_session_fires_no_hook(self, use_resource, kind):
    with tf.Graph().as_default():
      model = _Model(use_resource)
      tf.train.create_global_step()
      model.functions()  # What they need is built before it is too late.
      counter = _Counter()
      if kind == "training":
        session = tf.train.MonitoredTrainingSession(
            hooks=[counter], save_summaries_steps=None,
            save_summaries_secs=None)
      elif kind == "monitored":
        session = tf.train.MonitoredSession(hooks=[counter])
      else:
        session = tf.train.SingularMonitoredSession(hooks=[counter])
      with session:
        self.assertTrue(model.y.graph.finalized)
        runs = counter.runs
        _check(self, model.functions(session))
        given = gf.function(model.x, [model.y, model.dx], session=session)
        self.assertAlmostEqual(given([3.])[0], 18.)
        self.assertEqual(gf.run(session, model.y, {model.x: [1.]}), 2.)
        self.assertEqual(counter.runs, runs)
        session.run(model.y, {model.x: [1.]})
        self.assertEqual(counter.runs, runs + 1)

  def test_e9_cut_in_a_finalized_graph(self):
    with tf.Graph().as_default() as graph:
      model = _Model()
      later = model.h * 2.
      with tf.train.MonitoredSession() as session:
        ops = len(graph.get_operations())
        with self.assertRaisesRegex(
            gf.FinalizedGraphError, r"(?s)finalized.*before the session.*"
            r"snapshot"):
          gf.function(model.h, later, session=session)
        with self.assertRaises(gf.FinalizedGraphError):
          gf.run(session, later, {model.h: [1.]})
        self.assertLen(graph.get_operations(), ops)
        # What needs no new op works.
        self.assertEqual(
            gf.run(session, later, {model.x: [3.]}).tolist(), [18.])

  def test_e9_large_result_in_a_finalized_graph(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, [None])
      c = tf.constant(np.arange(5000.))
      y = tf.reduce_sum(x * c)
      dx = gf.gradient(y, x)
      graph.finalize()
      with tf.Session() as session:
        f = gf.function(x, [dx, c], session=session)
        for _ in range(3):
          for result in f(np.ones(5000)):
            np.testing.assert_array_equal(result, np.arange(5000.))
            result[...] = -1.

  @parameterized.parameters(False, True)
  def test_e9_uninitialised_in_a_finalized_graph(self, use_resource):
    with tf.Graph().as_default() as graph:
      model = _Model(use_resource)
      graph.finalize()
      with tf.Session() as session:
        with self.assertRaisesRegex(gf.UninitializedError, "'v:0'"):
          gf.run(session, model.y, {model.x: [1.]})
        session.run(model.v.initializer)
        self.assertEqual(gf.run(session, model.y, {model.x: [1.]}), 2.)

  def test_debug_wrapped_session(self):
    wrappers = importlib.import_module(
        "tensorflow.python.debug.wrappers.dumping_wrapper")
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default():
      model = _Model()
      with tf.Session() as raw:
        raw.run(model.v.initializer)
        session = wrappers.DumpingDebugWrapperSession(raw, folder)
        _check(self, model.functions(session))
        self.assertEqual(gf.run(session, model.y, {model.x: [1.]}), 2.)
        # It was run by its wrapper, which is what it was wrapped for.
        self.assertNotEmpty(os.listdir(folder))

  def test_debug_wrapped_session_names_the_uninitialised(self):
    wrappers = importlib.import_module(
        "tensorflow.python.debug.wrappers.dumping_wrapper")
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default():
      model = _Model()
      with tf.Session() as raw:
        session = wrappers.DumpingDebugWrapperSession(raw, folder)
        with self.assertRaisesRegex(gf.UninitializedError, "'v:0'"):
          gf.run(session, model.y, {model.x: [1.]})

  def test_no_session(self):
    with tf.Graph().as_default():
      model = _Model()
      f = gf.function(model.x, model.y)
      for call in (lambda: f([1.]),
                   lambda: gf.run(None, model.y, {model.x: [1.]})):
        with self.assertRaisesRegex(
            gf.SessionError, r"(?s)no session.*Fix: .*as session"):
          call()

  def test_closed_session(self):
    with tf.Graph().as_default():
      model = _Model()
      session = tf.Session()
      session.run(model.v.initializer)
      f = gf.function(model.x, model.y, session=session)
      never = gf.function(model.x, model.dx, session=session)
      self.assertEqual(f([1.]), 2.)
      session.close()
      for call in (lambda: f([1.]), lambda: never([1.]),
                   lambda: gf.run(session, model.y, {model.x: [1.]})):
        with self.assertRaisesRegex(
            gf.SessionError, r"(?s)closed.*Fix: .*open session"):
          call()

  def test_closed_monitored_session(self):
    with tf.Graph().as_default():
      model = _Model()
      with tf.train.MonitoredSession() as session:
        f = gf.function(model.x, model.y, session=session)
        self.assertEqual(f([1.]), 2.)
      with self.assertRaisesRegex(gf.SessionError, "closed"):
        f([1.])

  def test_session_of_another_graph(self):
    with tf.Graph().as_default():
      model = _Model()
      f = gf.function(model.x, model.y)
    with tf.Graph().as_default():
      tf.placeholder(tf.float64, [None], name="x")
      with tf.Session() as session:
        with self.assertRaisesRegex(
            gf.SessionError, r"(?s)another graph.*Fix: .*graph="):
          f([1.])
        with self.assertRaises(gf.GraphMismatchError):
          gf.function(model.x, model.y, session=session)
        with self.assertRaises(gf.GraphMismatchError):
          gf.run(session, model.y)
        with self.assertRaisesRegex(gf.FeedError, "'x:0'.*same graph"):
          gf.run(session, model.y, {model.x: [1.]})

  @parameterized.parameters("text", 3, object())
  def test_something_else_for_a_session(self, thing):
    with tf.Graph().as_default():
      model = _Model()
      for call in (
          lambda: gf.run(thing, model.y, {model.x: [1.]}),
          lambda: gf.function(model.x, model.y, session=thing)([1.])):
        with self.assertRaises(gf.GradfeedError):
          call()

  def test_config_is_untouched(self):
    with tf.Graph().as_default():
      config = tf.ConfigProto(inter_op_parallelism_threads=2,
                              log_device_placement=False)
      before = config.SerializeToString()
      model = _Model()
      with tf.Session(config=config) as session:
        session.run(model.v.initializer)
        _check(self, model.functions(session))
      self.assertEqual(config.SerializeToString(), before)

  def test_graph_that_grows(self):
    with tf.Graph().as_default(), tf.Session() as session:
      model = _Model()
      session.run(model.v.initializer)
      functions = model.functions(session)
      _check(self, functions)
      z = tf.exp(-model.y)
      g = gf.function(model.x, gf.gradient(z, model.x), session=session)
      _check(self, functions)
      np.testing.assert_allclose(g([1.]), [-4. * np.exp(-2.)])
      w = tf.get_variable("w", initializer=np.float64(3.))
      session.run(w.initializer)
      self.assertEqual(
          gf.run(session, model.y * w, {model.x: [1.]}), 6.)
      _check(self, functions)

  def test_variables_are_the_sessions_own(self):
    with tf.Graph().as_default(), tf.Session() as session:
      model = _Model()
      session.run(model.v.initializer)
      functions = model.functions(session)
      _check(self, functions)
      session.run(tf.assign(model.v, 7.))
      _check(self, functions, 7.)


class S6Test(parameterized.TestCase):
  """Nothing is ever initialised; what has no value is named before the run."""

  @parameterized.parameters(False, True)
  def test_s6_uninitialised_variables_are_named_at_once(self, use_resource):
    with tf.Graph().as_default(), tf.Session() as session:
      a = tf.get_variable("a", initializer=np.float64(2.),
                          use_resource=use_resource)
      b = tf.get_variable("b", initializer=np.float64(3.),
                          use_resource=use_resource)
      tf.get_variable("c", initializer=np.float64(4.),
                      use_resource=use_resource)
      x = tf.placeholder(tf.float64, [])
      y = a * b * x
      dx = gf.gradient(y, x)
      f = gf.function(x, dx, session=session)
      for call in (lambda: f(1.), lambda: gf.run(session, y, {x: 1.})):
        with self.assertRaisesRegex(
            gf.UninitializedError, r"(?s)'a:0'.*'b:0'.*Fix: Restore") as caught:
          call()
        self.assertNotIn("'c:0'", str(caught.exception))
      initialised = session.run(
          [tf.is_variable_initialized(v) for v in (a, b)])
      self.assertEqual(list(initialised), [False, False])
      session.run(a.initializer)
      with self.assertRaisesRegex(gf.UninitializedError, "'b:0'") as caught:
        f(1.)
      self.assertNotIn("'a:0'", str(caught.exception))
      session.run(b.initializer)
      self.assertEqual(f(1.), 6.)
      self.assertEqual(gf.run(session, y, {x: 2.}), 12.)

  @parameterized.parameters(False, True)
  def test_s6_another_session_has_no_values(self, use_resource):
    with tf.Graph().as_default():
      v = tf.get_variable("v", initializer=np.float64(2.),
                          use_resource=use_resource)
      x = tf.placeholder(tf.float64, [])
      f = gf.function(x, gf.gradient(v * x * x, x))
      with tf.Session() as session:
        session.run(v.initializer)
        self.assertEqual(f(3.), 12.)
      with tf.Session():
        with self.assertRaisesRegex(gf.UninitializedError, "'v:0'"):
          f(3.)

  @parameterized.parameters(False, True)
  def test_s6_initialisers_run_when_they_are_fetched(self, use_resource):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.float64(2.),
                          use_resource=use_resource)
      self.assertFalse(gf.run(session, tf.is_variable_initialized(v)))
      self.assertIsNone(gf.run(session, tf.global_variables_initializer()))
      self.assertEqual(gf.run(session, v), 2.)
      self.assertEqual(gf.run(session, tf.assign(v, 5.)), 5.)
      self.assertEqual(session.run(v), 5.)


class ThreadTest(parameterized.TestCase):
  """One function in many threads."""

  @parameterized.parameters(5, 3000)
  def test_many_threads(self, size):
    with tf.Graph().as_default(), tf.Session() as session:
      model = _Model()
      session.run(model.v.initializer)
      f = gf.function([model.x, model.v], [model.y, model.dx],
                      session=session)
      barrier = threading.Barrier(8)

      def work(worker):
        barrier.wait()
        for i in range(50):
          value = np.full(size, worker + i / 64.)
          y, dx = f(value, float(worker))
          np.testing.assert_allclose(y, worker * np.sum(value ** 2))
          np.testing.assert_allclose(dx, 2. * worker * value)
          dx[...] = -1.
          np.testing.assert_allclose(
              gf.run(session, model.dh, {model.h: value}), np.full(size, 2.))
        return True

      with concurrent.futures.ThreadPoolExecutor(8) as pool:
        self.assertEqual(list(pool.map(work, range(8))), [True] * 8)

  @parameterized.parameters(False, True)
  def test_e8_functions_made_in_many_threads(self, use_resource):
    with tf.Graph().as_default() as graph, tf.Session() as session:
      model = _Model(use_resource)
      session.run(model.v.initializer)
      copies = [[model.y * model.v for _ in range(2)] for _ in range(8)]
      barrier = threading.Barrier(8)

      def work(worker):
        barrier.wait()
        with graph.as_default():
          for y in copies[worker]:
            dh, dv = gf.gradient(y, [model.h, model.v])
            f = gf.function([model.h, model.v], [y, dv], session=session)
            # y = v^2 sum(h)
            y_t, dv_t = f([worker, 1.], 3.)
            self.assertEqual(y_t, 9. * (worker + 1.))
            self.assertEqual(dv_t, 6. * (worker + 1.))
            self.assertEqual(
                gf.run(session, dh, {model.h: [worker, 2.]}).tolist(),
                [4., 4.])
        return True

      with concurrent.futures.ThreadPoolExecutor(8) as pool:
        self.assertEqual(list(pool.map(work, range(8))), [True] * 8)


  @parameterized.parameters(False, True)
  def test_e8_nobody_builds_while_the_graph_is_walked(self, use_resource):
    """TensorFlow's list of consumers breaks where another thread adds one."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
      x = tf.placeholder(tf.float64, [None])
      v = tf.get_variable("v", initializer=np.float64(2.),
                          use_resource=use_resource)
      h = x * v
      y = tf.reduce_sum(tf.cond(v > 0., lambda: h * h, lambda: h))
      session.run(v.initializer)
      lock = cache.cache_of(graph).lock
      kind = type(y)
      consumers = kind.consumers
      walked, alone = [], []

      def watched(tensor):
        walked.append(tensor.name)
        if not lock._is_owned():  # pylint: disable=protected-access
          alone.append((tensor.name, traceback.format_stack()[-3]))
        return consumers(tensor)

      with mock.patch.object(kind, "consumers", watched):
        dx, dv = gf.gradient(y, [x, v])
        gf.function([x, v], [y, dv], session=session)([1.], 3.)
        gf.function(x, dx, session=session)([1.])
        gf.run(session, [v, dx], {x: [1.]})
        gf.run(session, gf.gradient(y, h), {h: [1.]})
        with self.assertRaises(gf.DisconnectedError):
          gf.gradient(y, tf.identity(x))
        with self.assertRaises(gf.MissingFeedError):
          gf.run(session, y)
      self.assertNotEmpty(walked)
      self.assertEmpty(alone)


class ReleaseTest(parameterized.TestCase):
  """Callables go with their session, and with their function."""

  def _callables(self):
    gc.collect()
    return [thing for thing in gc.get_objects()
            if type(thing).__name__ == "_Callable" and
            type(thing).__module__.endswith("client.session")]

  def test_with_the_function(self):
    with tf.Graph().as_default(), tf.Session() as session:
      model = _Model()
      session.run(model.v.initializer)
      before = len(self._callables())
      functions = model.functions(session)
      _check(self, functions)
      self.assertGreater(len(self._callables()), before)
      gone = [weakref.ref(f) for f in functions]
      del functions
      self.assertLen(self._callables(), before)
      self.assertEqual([ref() for ref in gone], [None] * 3)

  def test_with_the_session(self):
    with tf.Graph().as_default():
      model = _Model()
      before = len(self._callables())
      functions = model.functions()
      session = tf.Session()
      session.run(model.v.initializer)
      with session.as_default():
        _check(self, functions)
        gf.run(session, model.y, {model.x: [1.]})
      self.assertGreater(len(self._callables()), before)
      session.close()
      gone = weakref.ref(session)
      del session
      self.assertLen(self._callables(), before)
      self.assertIsNone(gone())
      # The function lives on, with another session.
      with tf.Session() as session:
        session.run(model.v.initializer)
        _check(self, functions)

  def test_c1_with_the_graph(self):
    with tf.Graph().as_default() as graph, tf.Session() as session:
      model = _Model()
      session.run(model.v.initializer)
      _check(self, model.functions(session))
      gone = weakref.ref(graph)
    del graph, session, model
    gc.collect()
    self.assertIsNone(gone())

  def test_c2_many_calls_make_no_more_callables(self):
    with tf.Graph().as_default(), tf.Session() as session:
      model = _Model()
      session.run(model.v.initializer)
      f = gf.function(model.x, model.dx, session=session)
      f([1.])
      gf.run(session, [model.y, model.dx], {model.x: [1.]})
      before = len(self._callables())
      for i in range(20):
        f([float(i)])
        gf.run(session, [model.y, model.dx], {model.x: [float(i)]})
      self.assertLen(self._callables(), before)


def _in_a_fork(calls):
  """What calls give in a child of this process.

  Args:
    calls: list of functions without arguments.

  Returns:
    list with the repr of each result, or the name of the exception and the
    first line of its text; shorter where the child waits for 20 seconds.
  """
  reading, writing = os.pipe()
  child = os.fork()
  if not child:
    try:
      os.close(reading)
      signal.alarm(20)
      for call in calls:
        try:
          line = repr(call())
        except Exception as error:  # pylint: disable=broad-except
          line = "{} {}".format(type(error).__name__, error)
        os.write(writing, (line.split("\n")[0] + "\n").encode())
    finally:
      os._exit(0)  # pylint: disable=protected-access
  os.close(writing)
  with os.fdopen(reading) as lines:
    results = lines.read().splitlines()
  os.waitpid(child, 0)
  return results


class ForkTest(graphs.GraphTest):
  """TensorFlow's threads are not there in a process that was forked."""

  def setUp(self):
    super().setUp()
    self.x = tf.placeholder(tf.float64, [None])
    self.y = self.x ** 3
    self.dx = gf.gradient(self.y, self.x)
    self.f = gf.function(self.x, self.dx, self.session)
    for _ in range(4):  # Until it takes the fast path.
      self.f(np.ones(2))
    gf.run(self.session, self.y, {self.x: np.ones(2)})

  def test_functions_from_before_are_refused(self):
    at_default = gf.function(self.x, self.y)
    results = _in_a_fork([
        lambda: self.f(np.ones(2)), lambda: self.f([1.0]),
        lambda: at_default(np.ones(2)), self.f.constants,
        lambda: self.f.require_rows(np.ones(2))])
    self.assertEqual(results, [
        "SessionError The function was made before this process was "
        "forked."] * 5)
    np.testing.assert_array_equal(self.f(np.ones(2)), [3.0, 3.0])

  def test_sessions_from_before_are_refused(self):
    results = _in_a_fork([
        lambda: gf.run(self.session, self.y, {self.x: np.ones(2)}),
        lambda: gf.run(None, self.dx, {self.x: np.ones(2)}),
        lambda: gf.function(self.x, self.y, self.session),
        lambda: gf.function(self.x, self.y)(np.ones(2)),
        lambda: gf.snapshot(self.session)])
    self.assertEqual(results, [
        "SessionError The session was made before this process was "
        "forked."] * 5)

  def test_what_is_made_in_the_child_works(self):
    def evaluate():
      with tf.Session() as session:
        f = gf.function(self.x, self.dx, session)
        return [f(np.full(2, 2.0)).tolist() for _ in range(4)] + [
            gf.run(session, self.y, {self.x: [1.0]}).tolist()]
    self.assertEqual(_in_a_fork([evaluate]),
                     [repr([[12.0, 12.0]] * 4 + [[1.0]])])

  def test_other_copies(self):
    for copied in (pickle.dumps, copy.deepcopy):
      with self.assertRaisesRegex(gf.ArgumentError, "(?s)pickled.*gf.load"):
        copied(self.f)
    self.assertIs(copy.copy(self.f), self.f)
