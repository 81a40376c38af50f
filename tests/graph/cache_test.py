"""What is built once, remembered on the graph, and dies with it."""

import concurrent.futures
import gc
import threading
from unittest import mock
import weakref

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.graph import cache
from gradfeed.rewriting import cloning
from tests.testing import flows


class OnceTest(parameterized.TestCase):

  def test_builds_once_for_each_key_and_graph(self):
    one, other = tf.Graph(), tf.Graph()
    built = []

    def build():
      built.append(None)
      return len(built)

    self.assertEqual(cache.cached(one, "a", build), 1)
    self.assertEqual(cache.cached(one, "a", build), 1)
    self.assertEqual(cache.cached(one, "b", build), 2)
    self.assertEqual(cache.cached(other, "a", build), 3)

  def test_what_failed_is_tried_again(self):
    graph = tf.Graph()
    with self.assertRaises(ZeroDivisionError):
      cache.cached(graph, "a", lambda: 1 / 0)
    self.assertEqual(cache.cached(graph, "a", lambda: 5), 5)

  def test_none_is_a_result(self):
    graph = tf.Graph()
    self.assertIsNone(cache.cached(graph, "a", lambda: None))
    self.assertIsNone(cache.cached(graph, "a", lambda: 5))

  def test_a_refusal_is_kept_without_its_traceback(self):
    error = gf.UnsupportedGraphError("what", "why", "fix")
    refusal = cache.Refusal.of(error)
    again = refusal.error()
    self.assertIsNot(again, error)
    self.assertIs(type(again), gf.UnsupportedGraphError)
    self.assertEqual(str(again), str(error))

  def test_building_may_ask_for_more(self):
    graph = tf.Graph()
    self.assertEqual(cache.cached(
        graph, "a", lambda: cache.cached(graph, "b", lambda: 2) + 1), 3)

  @parameterized.named_parameters(
      ("one_key", lambda i: "a", 1), ("a_key_each", lambda i: i, 4))
  def test_e8_one_thread_builds_at_a_time(self, key, times):
    graph = tf.Graph()
    start = threading.Barrier(4)
    inside, most, built = [], [], []

    def build():
      inside.append(None)
      most.append(len(inside))
      threading.Event().wait(0.05)  # Room for the others to come in.
      inside.pop()
      built.append(None)
      return "built"

    def work(i):
      start.wait()
      return cache.cached(graph, key(i), build)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
      self.assertEqual(list(pool.map(work, range(4))), ["built"] * 4)
    self.assertLen(built, times)
    self.assertEqual(max(most), 1)

  def test_many_threads_get_one_memo(self):
    for _ in range(20):
      graph = tf.Graph()
      start = threading.Barrier(4)

      def ask(graph=graph, start=start):
        start.wait()
        return cache.cache_of(graph)

      with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = [pool.submit(ask) for _ in range(4)]
        self.assertLen({id(f.result()) for f in found}, 1)


def _dense(x):
  return tf.tanh(x) * x


def _loop(x):
  return tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, tf.sin(a)),
                       [0, x])[1]


def _branch(x):
  return tf.cond(tf.reduce_sum(x) > 0, lambda: x * x, lambda: x)


def _gathered(x):
  return tf.gather(x, [0, 0])


def _variable(x):
  v = tf.get_variable("v", [2], tf.float64, use_resource=True)
  return x * v * tf.gather(v, [1, 1])


_MODELS = (("dense", _dense, None), ("loop_1", _loop, 1),
           ("loop_2", _loop, 2), ("branch_1", _branch, 1),
           ("branch_2", _branch, 2), ("gathered", _gathered, None),
           ("variable", _variable, None))


def _build(model, flow):
  with flows.control_flow(flow or 1):
    x = tf.placeholder(tf.float64, [2], name="x")
    return x, tf.identity(model(x), name="y")


class GrowthTest(parameterized.TestCase):

  @parameterized.named_parameters(*_MODELS)
  def test_c1_second_request_adds_no_op(self, model, flow):
    with tf.Graph().as_default() as graph:
      x, y = _build(model, flow)

      def requests():
        half = np.full(y.shape.as_list(), 0.5)
        return [
            gf.gradient(y, x), gf.gradient("y:0", "x:0"),
            gf.gradient([y], [x])[0], gf.gradient(y, x, unconnected="zero"),
            gf.gradient(y, x, grad_ys=half), gf.gradient(y, x, sparse=True),
            gf.gradient(y, {"x": x}, stop_gradients=["x:0"])["x"],
            gf.value_and_gradient(y, x), gf.gradients(y, x)[0],
            gf.gradients(y, x, name="mine")[0]] + [
                gf.gradient(gf.gradient(y, x), [x], unconnected="zero")[0]
                for _ in range(flow != 1)]

      first = requests()
      count = len(graph.get_operations())
      version = graph.version
      for _ in range(3):
        for one, other in zip(requests(), first):
          if isinstance(one, tuple):
            self.assertIs(one[0], other[0])
            self.assertIs(one[1], other[1])
          elif isinstance(one, tf.IndexedSlices):
            self.assertIs(one.values, other.values)
          else:
            self.assertIs(one, other)
      self.assertEqual(len(graph.get_operations()), count)
      self.assertEqual(graph.version, version)

  @parameterized.named_parameters(
      ("dense", lambda: tf.placeholder(tf.float64, [None, 2])),
      ("sparse", lambda: tf.sparse_placeholder(tf.float64)),
      ("partitioned", lambda: tf.get_variable(
          "v", [4, 2], tf.float64, partitioner=tf.fixed_size_partitioner(2))))
  def test_c1_zeros_are_built_once(self, make):
    with tf.Graph().as_default() as graph:
      x = make()
      y = tf.constant(1., tf.float64)
      gf.gradient(y, x, unconnected="zero")
      count = len(graph.get_operations())
      gf.gradient(y, x, unconnected="zero")
      self.assertEqual(len(graph.get_operations()), count)

  def test_c1_another_request_is_another_tensor(self):
    with tf.Graph().as_default():
      x = tf.placeholder(tf.float64, [2])
      h = tf.exp(x)
      y = h * x
      found = [gf.gradient(y, x), gf.gradient(y, h), gf.gradient(h, x),
               gf.gradient(y, x, stop_gradients=[h]),
               gf.gradient(y, x, grad_ys=np.array([1., 2.])),
               gf.gradient(y, x, grad_ys=np.array([1., 3.])),
               gf.gradient(y, x, grad_ys=tf.constant([1., 2.], tf.float64)),
               gf.gradient([y, y], x), gf.gradient([y, h], x)]
      self.assertLen({g.name for g in found}, len(found))

  def test_c1_the_sum_of_one_y_twice_counts_it_twice(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      y = x * x
      self.assertEqual(session.run(
          [gf.gradient([y, y], x), gf.gradient(y, x)], {x: 3.}), [12., 6.])

  def test_c1_cotangent_that_is_changed_later(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [2])
      y = x * x
      weights = np.array([1., 2.])
      one = gf.gradient(y, x, grad_ys=weights)
      weights[:] = 5.
      other = gf.gradient(y, x, grad_ys=weights)
      got = session.run([one, other], {x: [1., 1.]})
      np.testing.assert_array_equal(got, [[2., 4.], [10., 10.]])

  @parameterized.named_parameters(*_MODELS)
  def test_c1_graph_is_collected(self, model, flow):
    gone = []
    with tf.Graph().as_default() as graph:
      x, y = _build(model, flow)
      dx = gf.gradient(y, x)
      with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        f = gf.function(x, gf.value_and_gradient(y, x), session=session)
        f(np.ones(2))
        gf.run(session, dx, {x: np.ones(2)})
      gone.append(weakref.ref(graph))
    del graph, x, y, dx, session, f
    gc.collect()
    self.assertIsNone(gone[0]())

  def test_c1_graph_is_collected_after_a_refusal(self):
    graph = tf.Graph()
    with graph.as_default():
      x = tf.placeholder(tf.float64, [])
      with self.assertRaises(gf.DisconnectedError):
        gf.gradient(tf.constant(1.), x)
    gone = weakref.ref(graph)
    del graph, x
    gc.collect()
    self.assertIsNone(gone())


class ThreadsTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ("dense", _dense, None), ("loop_1", _loop, 1), ("loop_2", _loop, 2),
      ("branch_2", _branch, 2))
  def test_e8_many_threads_build_on_one_graph(self, model, flow):
    graph = tf.Graph()
    with graph.as_default():
      x, y = _build(model, flow)
      layers = [x]
      for i in range(6):
        layers.append(tf.sin(layers[-1] + y, name="layer{}".format(i)))
    start = threading.Barrier(8)

    def work(i):
      start.wait()
      # Half of the threads ask for the same gradient, the others each for
      # another, and of a gradient.
      mine = gf.gradient(layers[-1], layers[0] if i % 2 else layers[1 + i // 2])
      again = mine if flow == 1 else gf.gradient(mine, x)
      with tf.Session(graph=graph) as session:
        return mine, session.run([mine, again], {x: [0.3, 0.7]})

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      done = [pool.submit(work, i) for i in range(8)]
      results = [future.result() for future in done]
    self.assertLen({results[i][0].name for i in (1, 3, 5, 7)}, 1)
    with tf.Graph().as_default(), tf.Session() as session:
      x, y = _build(model, flow)
      layers = [x]
      for _ in range(6):
        layers.append(tf.sin(layers[-1] + y))
      for i, (_, got) in enumerate(results):
        mine, = tf.gradients(
            layers[-1], layers[0] if i % 2 else layers[1 + i // 2])
        again, = tf.gradients(mine, x) if flow != 1 else (mine,)
        expected = session.run([mine, again], {x: [0.3, 0.7]})
        np.testing.assert_allclose(got[0], expected[0], rtol=1e-12)
        np.testing.assert_allclose(got[1], expected[1], rtol=1e-12)

  def test_e8_building_while_others_run(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x, y = _build(_loop, 2)
      expected = session.run(y, {x: [0.3, 0.7]})
      stop = threading.Event()

      def run():
        count = 0
        while not stop.is_set() or not count:
          np.testing.assert_array_equal(
              session.run(y, {x: [0.3, 0.7]}), expected)
          count += 1
        return count

      with concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = [pool.submit(run) for _ in range(2)]
        try:
          for i in range(10):
            gf.gradient(y * float(i), x)
        finally:
          stop.set()
        for future in running:
          self.assertGreater(future.result(), 0)


  def test_e8_no_run_between_the_copy_and_its_gradient(self):
    # A session that saw the copy before its gradient would be broken by it.
    with tf.Graph().as_default(), tf.Session() as session:
      x, y = _build(_loop, 2)
      runs = []
      copy = cloning.clone_subgraph

      def copy_and_run(*arguments, **settings):
        twins = copy(*arguments, **settings)
        runs.append(threading.Thread(
            target=session.run, args=(y, {x: [0.3, 0.7]})))
        runs[-1].start()
        runs[-1].join(0.5)  # It has to wait, or it is done by now.
        return twins

      with mock.patch.object(cloning, "clone_subgraph", copy_and_run):
        dx = gf.gradient(y, x)
      runs[0].join()
      self.assertEqual(session.run(dx, {x: [0.3, 0.7]}).shape, (2,))
      session.run(y, {x: [0.3, 0.7]})


class FinalizedTest(parameterized.TestCase):

  def _refused(self):
    return self.assertRaisesRegex(
        gf.FinalizedGraphError,
        "(?s)finalized.*before the session.*gradfeed.snapshot")

  def test_e9_finalized_graph(self):
    with tf.Graph().as_default() as graph, tf.Session() as session:
      x = tf.placeholder(tf.float64, [2], name="x")
      y = tf.square(x, name="y")
      dx = gf.gradient(y, x)
      graph.finalize()
      before = len(graph.get_operations())
      self.assertIs(gf.gradient(y, x), dx)  # Built before: found again.
      for call in (lambda: gf.gradient(dx, x),
                   lambda: gf.gradients(y, [x], name="other"),
                   lambda: gf.gradient(y, x, grad_ys=np.ones(2)),
                   lambda: gf.gradient(y, [x, x], unconnected="zero"),
                   lambda: gf.value_and_gradient(y, [x, y])):
        with self._refused():
          call()
      self.assertEqual(len(graph.get_operations()), before)
      with gf.snapshot(session) as clone:  # The other way out.
        twice = gf.gradient(gf.gradient(clone.tensor(y), clone.tensor(x)),
                            clone.tensor("x:0"))
        np.testing.assert_array_equal(
            clone.session.run(twice, {"x:0": [3., 4.]}), [2., 2.])

  @parameterized.named_parameters(("ref", False), ("resource", True))
  def test_e9_monitored_session(self, use_resource):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, [], name="x")
      v = tf.get_variable("v", dtype=tf.float64, use_resource=use_resource,
                          initializer=np.array(5.))
      y = v * x * x
      built = gf.gradient(y, x)
      with tf.train.MonitoredSession() as session:
        before = len(graph.get_operations())
        self.assertIs(gf.gradient(y, x), built)
        f = gf.function(x, gf.gradient(y, x), session=session)
        self.assertEqual(f(3.), 30.)
        with self._refused():
          gf.gradient(y, v)
        self.assertEqual(len(graph.get_operations()), before)
        with gf.snapshot(session) as clone:
          dv = gf.gradient(clone.tensor(y), clone.tensor(v))
          self.assertEqual(clone.session.run(dv, {"x:0": 3.}), 9.)
