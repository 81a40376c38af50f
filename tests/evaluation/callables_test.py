"""Tests of the hazards of calls that are faster than `Session.run`."""

import importlib
import json
import os
import sys
import tempfile
import unittest
from unittest import mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from gradfeed.evaluation.calls import callables
from gradfeed.evaluation.calls import thread_choice
from gradfeed.evaluation.calls import trials
from tests import conftest
from tests.testing import flows
from tests.testing import processes

_SMALL, _MIDDLE, _LARGE = 4, 8192, 300000  # 32 bytes, 64 kB, 2.4 MB.


class _CallsTest(parameterized.TestCase):
  """Copies for fixed shapes, and other threads, are tried at once."""

  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(trials.Trial, "CALLS", 1))
    self.enter_context(mock.patch.object(callables, "_WORTH", 0.0))


def _aligned(size):
  """A float64 array at an address that TensorFlow takes without a copy."""
  raw = np.empty(8 * size + 64, np.uint8)
  start = -raw.ctypes.data % 64
  array = raw[start:start + 8 * size].view(np.float64)
  assert array.ctypes.data % 64 == 0
  array[...] = np.arange(1., size + 1.)
  return array


def _copied(array):
  """A copy at an address that TensorFlow takes without a copy of its own."""
  copy = _aligned(array.size)
  copy[...] = array
  return copy


def _fetched(kind, x, v, c):
  """Something to fetch whose buffer TensorFlow might hand out itself."""
  if kind == "constant":
    return c
  if kind == "variable":
    return v
  if kind == "variable_read":
    return tf.identity(v)
  if kind == "identity_of_feed":
    return tf.identity(x)
  if kind == "reshaped_feed":
    return tf.reshape(tf.identity(x), [-1, 2])
  if kind == "feed":
    return x
  if kind == "gradient_is_constant":
    return gf.gradient(tf.reduce_sum(x * c), x)
  if kind == "gradient_is_ones":
    return gf.gradient(tf.reduce_sum(x), x)
  if kind == "gradient_is_variable":
    return gf.gradient(tf.reduce_sum(x * v), x)
  if kind == "branch":
    return tf.cond(x[0] > 0., lambda: tf.identity(v), lambda: tf.identity(c))
  if kind == "computed":
    return x * v
  raise ValueError(kind)


_KINDS = ("constant", "variable", "variable_read", "identity_of_feed",
          "reshaped_feed", "feed", "gradient_is_constant",
          "gradient_is_ones", "gradient_is_variable", "branch", "computed")


class P1Test(_CallsTest):
  """Whoever calls may write into the results."""

  @parameterized.named_parameters(
      ("_{}_{}_{}".format(kind, size, "resource" if resource else "ref"),
       kind, size, resource)
      for kind in _KINDS for size in (_SMALL, _MIDDLE, _LARGE)
      for resource in (False, True))
  def test_p1_results_belong_to_the_caller(self, kind, size, use_resource):
    with tf.Graph().as_default(), tf.Session() as session:
      stored = np.arange(2., size + 2.)
      v = tf.get_variable("v", initializer=stored, use_resource=use_resource)
      c = tf.constant(np.arange(3., size + 3.))
      x = tf.placeholder(tf.float64, [None])
      fetch = _fetched(kind, x, v, c)
      both = [fetch, tf.identity(fetch)]
      session.run(v.initializer)
      value = _aligned(size)
      kept = value.copy()
      expected = np.array(session.run(fetch, {x: value}))
      f = gf.function([], both, session=session,
                      feed_dict=_needed(kind, x, value))
      slow = gf.function([], fetch, session=session, timeout=60.,
                         feed_dict=_needed(kind, x, value))
      ways = [f, lambda: gf.run(session, both, _needed(kind, x, value)),
              lambda: [slow()]]
      if _needed(kind, x, value):
        direct = gf.function(x, both, session=session)
        ways.append(lambda: direct(value))
      for way in ways:
        seen = []
        for _ in range(4):
          for result in way():
            np.testing.assert_array_equal(result, expected)
            for other in seen:
              self.assertFalse(np.shares_memory(result, other))
            self.assertFalse(np.shares_memory(result, value))
            result[...] = -1.
            seen.append(result)
      np.testing.assert_array_equal(value, kept)
      np.testing.assert_array_equal(session.run(v), stored)
      np.testing.assert_array_equal(session.run(c), np.arange(3., size + 3.))
      session.run(v.initializer)
      np.testing.assert_array_equal(session.run(v), stored)

  @parameterized.product(
      kind=("identity_of_feed", "reshaped_feed", "feed", "branch", "computed"),
      size=(_SMALL, _MIDDLE, _LARGE))
  def test_p1_another_array_at_each_call(self, kind, size):
    """Addresses that differ do not prove that a buffer is nobody's."""
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.ones(size), use_resource=True)
      c = tf.constant(np.arange(1., size + 1.))
      x = tf.placeholder(tf.float64, [None])
      fetch = _fetched(kind, x, v, c)
      session.run(v.initializer)
      f = gf.function(x, fetch, session=session)
      for way in (f, lambda value: gf.run(session, fetch, {x: value})):
        values = [_copied(np.arange(1. + i, size + 1. + i))
                  for i in range(8)]
        kept = [value.copy() for value in values]
        results = [way(value) for value in values]
        expected = [np.array(session.run(fetch, {x: value}))
                    for value in values]
        for result in results:
          result[...] = -1.
        for value, original in zip(values, kept):
          np.testing.assert_array_equal(value, original)
        for value, wanted in zip(values, expected):
          np.testing.assert_array_equal(way(value), wanted)
      np.testing.assert_array_equal(session.run(v), np.ones(size))
      np.testing.assert_array_equal(session.run(c), np.arange(1., size + 1.))

  @parameterized.product(use_resource=(False, True),
                         size=(_SMALL, _MIDDLE, _LARGE),
                         derivative=(False, True))
  def test_p1_variable_that_moves_between_calls(
      self, use_resource, size, derivative):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.zeros(size),
                          use_resource=use_resource)
      x = tf.placeholder(tf.float64, [size])
      fetch = gf.gradient(tf.reduce_sum(x * v), x) if derivative else v
      f = gf.function([], fetch, session=session,
                      feed_dict={x: np.ones(size)} if derivative else None)
      given = tf.placeholder(tf.float64, [size])
      assign = tf.assign(v, given)
      for i in range(6):
        if use_resource and i % 2:  # A new buffer, where that can be had.
          session.run(assign, {given: np.full(size, float(i))})
        else:
          session.run(assign.op, {given: np.full(size, float(i))})
        result = f()
        np.testing.assert_array_equal(result, np.full(size, float(i)))
        result[...] = -1.
        np.testing.assert_array_equal(session.run(v), np.full(size, float(i)))
        np.testing.assert_array_equal(f(), np.full(size, float(i)))

  @parameterized.parameters(_SMALL, _MIDDLE)
  def test_p1_cut_constant_and_variable(self, size):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.ones(size), use_resource=True)
      c = tf.constant(np.arange(3., size + 3.))
      session.run(v.initializer)
      y = tf.reduce_sum(v * c)
      f = gf.function(v, [v, gf.gradient(y, v), c], session=session)
      value = _aligned(size)
      for _ in range(4):
        for result, expected in zip(
            f(value), [np.arange(1., size + 1.), np.arange(3., size + 3.),
                       np.arange(3., size + 3.)]):
          np.testing.assert_array_equal(result, expected)
          result[...] = -1.
      np.testing.assert_array_equal(value, np.arange(1., size + 1.))
      np.testing.assert_array_equal(session.run(v), np.ones(size))

  def test_p1_other_dtypes(self):
    with tf.Graph().as_default(), tf.Session() as session:
      for dtype in (np.bool_, np.int8, np.int32, np.uint8, np.float16,
                    np.float32, np.complex64, np.complex128):
        for size in (5, 100000):
          value = np.ones(size, dtype)
          c = tf.constant(value)
          f = gf.function([], c, session=session)
          for _ in range(3):
            result = f()
            np.testing.assert_array_equal(result, value)
            result[...] = 0
          x = tf.placeholder(dtype, [None])
          f = gf.function(x, tf.identity(x), session=session)
          for _ in range(3):
            f(value)[...] = 0
          np.testing.assert_array_equal(value, np.ones(size, dtype))

  def test_p1_strings(self):
    with tf.Graph().as_default(), tf.Session() as session:
      c = tf.constant(["a", "b"])
      f = gf.function([], c, session=session)
      for _ in range(3):
        result = f()
        self.assertEqual(result.tolist(), [b"a", b"b"])
        result[...] = b"?"

  def test_p1_sparse_parts(self):
    with tf.Graph().as_default(), tf.Session() as session:
      sparse = tf.SparseTensor([[0, 0], [1, 1]], [1., 2.], [2, 2])
      f = gf.function([], sparse, session=session)
      for _ in range(3):
        result = f()
        np.testing.assert_array_equal(result.indices, [[0, 0], [1, 1]])
        np.testing.assert_array_equal(result.values, [1., 2.])
        np.testing.assert_array_equal(result.dense_shape, [2, 2])
        for part in result:
          part[...] = 0


class P1WithoutCopiesTest(P1Test):
  """The same of slow calls, whose large results TensorFlow does not copy."""

  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(callables, "_LARGE", 0))
    self.enter_context(mock.patch.object(thread_choice, "SLOW", -1.0))
    self.enter_context(mock.patch.object(thread_choice, "_SLOW_STREAK", 1))
    self.made = []
    make = _tf.make_run

    def counted(session, feeds, fetches, targets, *arguments):
      self.made.append((tuple(feeds), tuple(fetches)) + arguments)
      return make(session, feeds, fetches, targets, *arguments)

    self.enter_context(mock.patch.object(_tf, "make_run", counted))

  @parameterized.parameters(None, 60.0)
  def test_results_are_buffers_of_tensorflow(self, timeout):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [None])
      turns = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * x),
                            [0, x])[1]
      f = gf.function(x, [x * 3.0, gf.gradient(x ** 3, x)], session,
                      timeout=timeout)
      loop = gf.function(x, gf.gradient(turns, x), session)
      for size in (40, 500) * 8:
        value = np.arange(1.0, size + 1.0)
        results = f(value) + [loop(value)]
        for result, expected in zip(
            results, [value * 3, 3 * value ** 2, 4 * value ** 3]):
          np.testing.assert_allclose(result, expected)
      for result in results:
        self.assertIsNotNone(result.base)
      # As in TensorFlow 2 the callables do not copy, they are kept there.
      self.assertEqual(bool(self.made), not _tf.IS_TF2)
      self.assertEqual(len(self.made), len(set(self.made)))
      if timeout and self.made:
        self.assertIn((False, timeout), [made[2:] for made in self.made])

  def test_errors(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [None])
      f = gf.function(x, tf.debugging.check_numerics(x, "not finite") * 2.0,
                      session)
      for _ in range(8):
        np.testing.assert_array_equal(f([1.0, 2.0]), [2.0, 4.0])
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError,
                                    "not finite"):
          f([1.0, np.nan])
      session.close()
      with self.assertRaises(gf.SessionError):
        f([1.0, 2.0])

  def test_small_results_are_copied(self):
    with tf.Graph().as_default(), tf.Session() as session, (
        mock.patch.object(callables, "_LARGE", 64)):
      x = tf.placeholder(tf.float64, [None])
      f = gf.function(x, x * 2.0, session)
      for _ in range(12):
        f(np.ones(8))
      self.assertEqual(self.made, [])


def _needed(kind, x, value):
  if kind in ("constant", "variable", "variable_read"):
    return None
  return {x: value}


_LOOPS = """
import json, os, threading
import numpy as np
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior() if os.environ["GRADFEED_MODE"] == "v1" else (
    tf.disable_eager_execution())
import gradfeed as gf
from tensorflow.python.framework import function
TURNS = 20000

def loop(m):
  return tf.while_loop(
      lambda i, a: i < TURNS,
      lambda i, a: (i + 1, tf.matmul(a, m)),
      [0, tf.eye(2, dtype=tf.float32)])[1]

def report(name, f, *values):
  # At the identity d sum(m^n) / dm is n in each element.
  result = f(*values)
  print(json.dumps([name, np.asarray(result).tolist()]), flush=True)

eye = np.eye(2, dtype=np.float32)
for flow in (1, 2):
  (tf.enable_control_flow_v2 if flow == 2 else tf.disable_control_flow_v2)()
  with tf.Graph().as_default(), tf.Session() as session:
    x = tf.placeholder(tf.float32, [2, 2])
    v = tf.get_variable("v", initializer=2. * eye, use_resource=True)
    h = x * 3.
    dx = gf.gradient(loop(x), x)
    dv = gf.gradient(loop(v), v)
    dh = gf.gradient(loop(h), h)
    name = "flow%d" % flow
    report(name + "_placeholder", gf.function(x, dx, session=session), eye)
    report(name + "_variable", gf.function(v, dv, session=session), eye)
    report(name + "_middle", gf.function(h, dh, session=session), eye)
    report(name + "_run", lambda: gf.run(session, dx, {x: eye}))
    if flow == 1:
      f = gf.function(x, dx, session=session)
      threading.stack_size(256 * 1024)
      thread = threading.Thread(target=report, args=(name + "_thread", f, eye))
      thread.start()
      thread.join()
      threading.stack_size(0)
with tf.Graph().as_default(), tf.Session() as session:
  tf.disable_control_flow_v2()
  x = tf.placeholder(tf.float32, [2, 2])
  @function.Defun(tf.float32)
  def call(m):
    m.set_shape([2, 2])
    return tf.gradients(loop(m), m)[0]
  report("function", gf.function(x, call(x), session=session), eye)
with tf.Graph().as_default(), tf.Session() as session:
  # A long chain without a loop, and a wide one, in the caller's thread.
  x = tf.placeholder(tf.float32, [2, 2])
  y = x
  for _ in range(4000):
    y = tf.matmul(y, x)
  report("chain", gf.function(x, y, session=session), eye)
print("end", flush=True)
"""


class P2Test(_CallsTest):
  """A loop of many turns does not overflow the stack of the thread."""

  @unittest.skipIf(conftest.MODE == "eager", "the program is that of v2")
  def test_p2_gradients_of_20000_turns(self):
    environment = dict(os.environ)
    environment.setdefault("GRADFEED_MODE", "v1")
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = processes.run(["-c", _LOOPS], env=environment, timeout=300)
    said = done.stdout.splitlines()
    self.assertEqual(done.returncode, 0, (said, done.stderr[-3000:]))
    self.assertEqual(said[-1], "end")
    results = dict(json.loads(line) for line in said[:-1])
    self.assertCountEqual(results, [
        "flow1_placeholder", "flow1_variable", "flow1_middle", "flow1_run",
        "flow1_thread", "flow2_placeholder", "flow2_variable", "flow2_middle",
        "flow2_run", "function", "chain"])
    self.assertEqual(results.pop("chain"), [[1., 0.], [0., 1.]])
    for name, result in results.items():
      self.assertEqual(result, [[20000.] * 2] * 2, name)


def _denormals_work():
  """Whether NumPy computes with denormals in this thread."""
  tiny = np.array([1e-38, 3e-38], np.float32)
  return bool(np.all(tiny * np.float32(.01) > 0.))


class P3Test(_CallsTest):
  """Denormals are what `Session.run` makes of them, whichever way is taken."""

  @parameterized.parameters("function", "run", "pool", "loop", "large",
                            "wrapped")
  def test_p3_as_in_session_run(self, way):
    with tf.Graph().as_default(), tf.Session() as session:
      size = 5000 if way == "large" else 3
      x = tf.placeholder(tf.float32, [None])
      h = x * .01
      y = h * 1e30
      if way == "loop":
        y = tf.while_loop(lambda i, a: i < 1,
                          lambda i, a: (i + 1, a * 1e30), [0, h])[1]
      dx = gf.gradient(y, x)
      value = np.full(size, 3e-38, np.float32)
      value[-1] = 1.
      expected = session.run([h, y, dx], {x: value})
      self.assertTrue(_denormals_work())
      if way == "wrapped":
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        wrappers = importlib.import_module(
            "tensorflow.python.debug.wrappers.dumping_wrapper")
        session = wrappers.DumpingDebugWrapperSession(session, folder.name)
        f = gf.function(x, [h, y, dx], session=session)
      elif way == "run":
        f = lambda value: gf.run(session, [h, y, dx], {x: value})
      else:
        f = gf.function(x, [h, y, dx], session=session,
                        timeout=60. if way == "pool" else None)
      for _ in range(8):
        for result, wanted in zip(f(value), expected):
          np.testing.assert_array_equal(result, wanted)
        self.assertTrue(_denormals_work())

  def test_p3_session_run_flushes(self):
    """The number itself, so that the tests above cannot pass by accident."""
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [])
      f = gf.function(x, x * .01, session=session)
      for _ in range(8):
        self.assertEqual(f(np.float32(3e-38)), 0.)

  def test_p3_denormal_that_is_fed(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [None])
      k = tf.placeholder(tf.float32, [])
      dx = gf.gradient(tf.reduce_sum(x) * k, x)
      f = gf.function([x, k], dx, session=session)
      for size in (1, 1, 1, 2, 1, 3):
        np.testing.assert_array_equal(
            f(np.ones(size), 2.), np.full(size, 2.))
        value, tiny = np.ones(size), np.float32(3e-39)
        np.testing.assert_array_equal(
            f(value, tiny), session.run(dx, {x: value, k: tiny}))

  def test_p3_after_an_error(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [])
      f = gf.function(x, tf.debugging.check_numerics(x, "not finite"),
                      session=session)
      for _ in range(6):
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError,
                                    "not finite"):
          f(float("nan"))
        self.assertTrue(_denormals_work())
        self.assertEqual(f(1.), 1.)
        self.assertTrue(_denormals_work())

  def test_p3_call_within_a_call(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [])
      inner = gf.function(x, x * .01, session=session)

      def nested(value):
        return inner(value) + inner(np.float32(100.))

      z = tf.py_func(nested, [x], tf.float32)
      z.set_shape([])
      outer = gf.function(x, [z, x * .01], session=session)
      for _ in range(8):
        np.testing.assert_array_equal(outer(np.float32(3e-38)), [1., 0.])
        self.assertTrue(_denormals_work())


class P4Test(_CallsTest):
  """Of the two ways to run, the one that proves faster is kept."""

  @parameterized.named_parameters(
      ("_the_pool_is_faster", 3e-3, 1e-3, False),
      ("_the_own_thread_is_faster", 1e-3, 3e-3, True))
  def test_p4_both_ways_are_tried(self, here, there, prefers_here):
    now = [0.]
    taken = []
    make = _tf.make_callable

    def timed(session, feeds, fetches, targets, on_caller_thread,
              timeout=None):
      way = make(session, feeds, fetches, targets, on_caller_thread, timeout)
      run, pointer, handle = way.parts

      def timed_run(*arguments):
        taken.append(on_caller_thread)
        now[0] += here if on_caller_thread else there
        return run(*arguments)

      def call(arrays, _keep=way):
        return timed_run(pointer, handle, tuple(arrays), None)

      call.parts = timed_run, pointer, handle
      return call

    with tf.Graph().as_default(), tf.Session() as session, (
        mock.patch.object(_tf, "make_callable", timed)), (
            mock.patch.object(callables, "_clock", lambda: now[0])):
      x = tf.placeholder(tf.float64, [None])
      y = tf.exp(-x) * x
      f = gf.function(x, [y, gf.gradient(y, x)], session=session)
      value = np.linspace(0., 2., 7)
      for _ in range(30):
        y_t, dx_t = f(value)
        np.testing.assert_allclose(y_t, np.exp(-value) * value)
        np.testing.assert_allclose(dx_t, np.exp(-value) * (1. - value))
      self.assertIn(True, taken)
      self.assertIn(False, taken)
      self.assertEqual(set(taken[-10:]), {prefers_here})
      # Values of another shape are another question.
      del taken[:]
      for _ in range(30):
        np.testing.assert_allclose(
            f(value[:2])[0], np.exp(-value[:2]) * value[:2])
      self.assertEqual(set(taken), {True, False})
      self.assertEqual(set(taken[-10:]), {prefers_here})

  def test_p4_small_calls_stay_in_the_thread(self):
    taken = []
    make = _tf.make_callable

    def counted(session, feeds, fetches, targets, on_caller_thread,
                timeout=None):
      taken.append(on_caller_thread)
      return make(session, feeds, fetches, targets, on_caller_thread, timeout)

    with tf.Graph().as_default(), tf.Session() as session, (
        mock.patch.object(_tf, "make_callable", counted)), (
            mock.patch.object(callables, "_clock", lambda: 0.)):
      x = tf.placeholder(tf.float64, [])
      f = gf.function(x, x * x, session=session)
      for _ in range(50):
        self.assertEqual(f(3.), 9.)
      self.assertEqual(set(taken), {True})


class P5Test(_CallsTest):
  """Nothing of the caller's is kept after a call."""

  @parameterized.product(use_resource=(False, True),
                         way=("assign", "assign_middle", "train", "branch"))
  def test_p5_assignment_of_a_fed_array(self, use_resource, way):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.zeros(5000),
                          use_resource=use_resource)
      session.run(v.initializer)
      x = tf.placeholder(tf.float64, [5000])
      given = tf.identity(x)
      if way == "branch":
        with flows.control_flow(2 if use_resource else 1):
          op = tf.cond(x[0] > 0., lambda: tf.assign(v, x) * 1.,
                       lambda: x).op
      elif way == "train":
        op = tf.group(tf.assign(v, given))
      else:
        op = tf.assign(v, given if way == "assign_middle" else x).op
      value = _aligned(5000)
      gf.run(session, op, {given if way == "assign_middle" else x: value})
      value[...] = -1.
      np.testing.assert_array_equal(session.run(v), np.arange(1., 5001.))

  def test_p5_queue(self):
    with tf.Graph().as_default(), tf.Session() as session:
      queue = tf.FIFOQueue(4, [tf.float64], [[5000]])
      x = tf.placeholder(tf.float64, [5000])
      put = queue.enqueue(x)
      value = _aligned(5000)
      gf.run(session, put, {x: value})
      value[...] = -1.
      np.testing.assert_array_equal(
          session.run(queue.dequeue()), np.arange(1., 5001.))

  def test_p5_python_function_that_keeps_its_argument(self):
    with tf.Graph().as_default(), tf.Session() as session:
      kept = []

      def keep(value):
        kept.append(value)
        return value

      x = tf.placeholder(tf.float64, [5000])
      y = tf.py_func(keep, [x], tf.float64)
      value = _aligned(5000)
      result = gf.function(x, y, session=session)(value)
      value[...] = -1.
      np.testing.assert_array_equal(kept[0], np.arange(1., 5001.))
      np.testing.assert_array_equal(result, np.arange(1., 5001.))

  def test_p5_python_function_that_writes_into_its_argument(self):
    with tf.Graph().as_default(), tf.Session() as session:

      def scribble(value):
        if value.flags.writeable:
          value[...] = -1.
        return np.float64(0.)

      x = tf.placeholder(tf.float64, [5000])
      y = tf.py_func(scribble, [x], tf.float64)
      value = _aligned(5000)
      gf.function(x, y, session=session)(value)
      np.testing.assert_array_equal(value, np.arange(1., 5001.))

  def test_p5_held_values(self):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.zeros(5000), use_resource=True)
      session.run(v.initializer)
      x = tf.placeholder(tf.float64, [5000])
      y = tf.placeholder(tf.float64, [])
      value = _aligned(5000)
      f = gf.function(y, y * tf.reduce_sum(x), session=session,
                      feed_dict={x: value})
      total = value.sum()
      value[...] = 0.
      self.assertEqual(f(2.), 2. * total)


class P6Test(_CallsTest):
  """A compiled call checks and casts as `Session.run` does, or better."""

  def test_p6_casts_and_shapes(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [None, 2])
      f = gf.function(x, x * 2., session=session)
      good = np.ones((1, 2), np.float32)
      np.testing.assert_array_equal(f(good), 2. * good)
      np.testing.assert_array_equal(f(good.astype(np.float64)), 2. * good)
      np.testing.assert_array_equal(f([[1, 1]]), 2. * good)
      for bad in (np.ones((1, 3), np.float32), np.ones(2, np.float32)):
        with self.assertRaisesRegex(gf.FeedError, r"\[\?, 2\]"):
          f(bad)
      np.testing.assert_array_equal(f(good), 2. * good)

  @parameterized.parameters("placeholder", "middle", "constant")
  def test_p6_fetching_what_is_fed(self, kind):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder_with_default(np.float32([1., 2.]), [2])
      if kind == "placeholder":
        x = tf.placeholder(tf.float32, [2])
      elif kind == "middle":
        x = x * 3.
      y = x * 2.
      value = np.array([5., 7.], np.float32)
      f = gf.function(x, {"x": x, "y": y, "again": [x]}, session=session)
      alone = gf.function(x, x, session=session)
      for _ in range(2):
        result = f(value)
        np.testing.assert_array_equal(result["x"], [5., 7.])
        np.testing.assert_array_equal(result["again"][0], [5., 7.])
        np.testing.assert_array_equal(result["y"], [10., 14.])
        result["x"][...] = -1.
        np.testing.assert_array_equal(alone(value), [5., 7.])
        np.testing.assert_array_equal(
            gf.run(session, [x, y], {x: value}), [[5., 7.], [10., 14.]])
        alone(value)[...] = -1.
      np.testing.assert_array_equal(value, [5., 7.])
      self.assertEqual(alone([1, 2]).dtype, np.float32)
