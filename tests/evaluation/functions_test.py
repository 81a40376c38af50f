"""Tests of `function` and `run` as a caller sees them."""

import collections
import gc
import threading
import weakref

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows


class FunctionTest(parameterized.TestCase):
  """`function`: inputs, held values, needs, errors."""

  def test_the_main_job(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [None, 2], name="x")
      labels = tf.placeholder(tf.float64, [None, 3], name="labels")
      w_t = np.array([[1., 0., -1.], [.5, 2., 0.]])
      w = tf.get_variable("w", initializer=w_t)
      cross_entropy = tf.reduce_sum(
          tf.nn.softmax_cross_entropy_with_logits_v2(
              logits=tf.matmul(x, w), labels=labels))
      session.run(w.initializer)
      f = gf.function([x, labels], gf.gradient(cross_entropy, x))
      for x_t in ([[1., 2.]], [[0., -1.], [3., .25]]):
        y_t = np.eye(3)[np.arange(len(x_t))]
        logits = np.dot(x_t, w_t)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(f(x_t, y_t), (p - y_t).dot(w_t.T))

  def test_forms_of_inputs(self):
    with tf.Graph().as_default(), tf.Session() as session:
      a = tf.placeholder(tf.float64, [], name="a")
      b = tf.placeholder(tf.float64, [], name="b")
      y = a - 2. * b
      for inputs, values in (
          ([a, b], (5., 1.)), ((a, b), (5., 1.)), (["a:0", "b"], (5., 1.)),
          ([[a, b]], ([5., 1.],)), ([{"p": a, "q": b}], ({"q": 1., "p": 5.},)),
          ({"p": a, "q": b}, ({"q": 1., "p": 5.},)),
          ([(a,), {"q": [b]}], ((5.,), {"q": [1.]}))):
        f = gf.function(inputs, y, session=session)
        self.assertEqual(f(*values), 3.)
        self.assertEqual(f(*values), 3.)

  def test_values_in_another_structure(self):
    with tf.Graph().as_default(), tf.Session() as session:
      a = tf.placeholder(tf.float64, [])
      b = tf.placeholder(tf.float64, [])
      f = gf.function([{"p": a, "q": b}], a + b, session=session)
      for value in ({"p": 1.}, {"p": 1., "q": 2., "r": 3.}, [1., 2.], 1.):
        with self.assertRaisesRegex(gf.FeedError, "structure"):
          f(value)

  @parameterized.parameters(0, 1, 3)
  def test_number_of_values(self, count):
    with tf.Graph().as_default(), tf.Session() as session:
      a = tf.placeholder(tf.float64, [], name="a")
      b = tf.placeholder(tf.float64, [], name="b")
      f = gf.function([a, b], a + b, session=session)
      with self.assertRaisesRegex(
          gf.FeedError, "(?s){} values for 2 inputs.*'a:0'.*'b:0'".format(
              count)):
        f(*[1.] * count)

  def test_no_inputs(self):
    with tf.Graph().as_default(), tf.Session() as session:
      f = gf.function([], tf.constant(3.), session=session)
      self.assertEqual(f(), 3.)

  def test_held_values_are_frozen(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [], name="x")
      k = tf.placeholder(tf.float64, [2], name="k")
      held = np.array([1., 2.])
      feed_dict = {k: held}
      f = gf.function(x, x * k, session=session, feed_dict=feed_dict)
      held[...] = 100.
      feed_dict[k] = [7., 7.]
      feed_dict["nope"] = 1.
      self.assertEqual(f(3.).tolist(), [3., 6.])
      other = {"k:0": [5., 5.]}
      self.assertEqual(f(3., feed_dict=other).tolist(), [15., 15.])
      self.assertEqual(f(3.).tolist(), [3., 6.])
      self.assertEqual(other, {"k:0": [5., 5.]})

  def test_held_result_is_not_the_held_array(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      k = tf.placeholder(tf.float64, [3])
      f = gf.function(x, [k, tf.identity(k), x * k], session=session,
                      feed_dict={k: [1., 2., 3.]})
      for _ in range(4):
        for result in f(1.):
          self.assertEqual(result.tolist(), [1., 2., 3.])
          result[...] = -1.

  @parameterized.parameters(dict, collections.OrderedDict)
  def test_feed_dict_is_never_written_to(self, kind):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [], name="x")
      k = tf.placeholder(tf.float64, [], name="k")
      value = [2.]
      feeds = kind([("k:0", 3)])
      f = gf.function(x, x * k, session=session, feed_dict=feeds)
      self.assertEqual(f(2.), 6.)
      self.assertEqual(f(2., feed_dict=feeds), 6.)
      self.assertEqual(gf.run(session, x * k, kind([("x", 2), ("k", 3)])), 6.)
      self.assertEqual(feeds, kind([("k:0", 3)]))
      self.assertIsInstance(feeds["k:0"], int)
      self.assertEqual(value, [2.])

  def test_held_variable_and_middle(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      v = tf.get_variable("v", initializer=np.float64(2.), use_resource=True)
      session.run(v.initializer)
      h = x * v
      y = h * h * v
      f = gf.function(x, gf.gradient(y, x), session=session,
                      feed_dict={v: 3.})
      self.assertEqual(f(5.), 2. * 5. * 27.)
      self.assertEqual(f(5., feed_dict={v: 1.}), 10.)
      self.assertEqual(f(5.), 270.)
      g = gf.function([], gf.gradient(y, h), session=session,
                      feed_dict={h: 7., v: 1.})
      self.assertEqual(g(), 14.)

  @parameterized.named_parameters(
      ("_bad_value", lambda x, k: {k: "text"}, "'k:0'"),
      ("_bad_shape", lambda x, k: {k: [1., 2.]}, r"'k:0'.*shape \[2\]"),
      ("_unknown", lambda x, k: {"nope:0": 1.}, "'nope:0'"),
      ("_no_effect", lambda x, k: {tf.constant(1.): 1.}, "depends on it"),
      ("_an_input", lambda x, k: {"x": 1.}, "'x:0'.*the same tensor"))
  def test_held_values_are_checked_at_once(self, make, message):
    with tf.Graph().as_default():
      x = tf.placeholder(tf.float64, [], name="x")
      k = tf.placeholder(tf.float64, [], name="k")
      y = x * k
      with self.assertRaisesRegex(gf.FeedError, "(?s)" + message):
        gf.function(x, y, feed_dict=_keyed(make(x, k)))

  @parameterized.parameters([[1]], "text", 3)
  def test_feed_dict_that_is_no_dict(self, feed_dict):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      with self.assertRaisesRegex(gf.ArgumentError, "feed_dict"):
        gf.run(session, x * 2., feed_dict)

  def test_input_of_another_graph(self):
    with tf.Graph().as_default():
      stranger = tf.placeholder(tf.float64, [])
    with tf.Graph().as_default():
      x = tf.placeholder(tf.float64, [])
      with self.assertRaises(gf.GraphMismatchError):
        gf.function([x, stranger], x * 2.)

  def test_names_in_the_default_graph(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [], name="x")
      tf.multiply(x, x, name="y")
      f = gf.function("x:0", "y:0", session=session)
      self.assertEqual(f(3.), 9.)

  def test_values_may_change_after_the_call(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [None])
      f = gf.function(x, tf.identity(x), session=session)
      value = np.arange(4.)
      result = f(value)
      value[...] = -1.
      self.assertEqual(result.tolist(), [0., 1., 2., 3.])

  def test_two_functions_of_one_gradient(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      v = tf.get_variable("v", initializer=np.float64(2.), use_resource=True)
      session.run(v.initializer)
      dx = gf.gradient(v * x * x, x)
      stored = gf.function(x, dx, session=session)
      given = gf.function([x, v], dx, session=session)
      for _ in range(3):
        self.assertEqual(stored(3.), 12.)
        self.assertEqual(given(3., 5.), 30.)
        self.assertEqual(gf.run(session, dx, {x: 3.}), 12.)
        self.assertEqual(gf.run(session, dx, {x: 3., v: 1.}), 6.)

  def test_function_dies_with_its_last_reference(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      f = gf.function(x, x * 2., session=session)
      f(1.)
      gone = weakref.ref(f)
      del f
      gc.collect()
      self.assertIsNone(gone())

  def test_timeout_of_a_long_computation(self):
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(1)):
      x = tf.placeholder(tf.float64, [])
      y = tf.while_loop(lambda a: a < 1., lambda a: a * 1., [x])
      f = gf.function(x, y, session=session, timeout=.3)
      # Where the limit is not kept, this ends the run.
      end = threading.Timer(60., session.close)
      end.start()
      self.addCleanup(end.cancel)
      with self.assertRaisesRegex(
          gf.TimeLimitError, r"(?s)0\.3 s.*Fix: Give a longer timeout"):
        f(.5)
      self.assertEqual(f(2.), 2.)


class ManyCallsTest(parameterized.TestCase):
  """The tenth call, and the call after another shape, are as the first."""

  def _softmax(self, value):
    e = np.exp(value - value.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)

  @parameterized.parameters(
      [[1, 3, 1, 1, 3, 7, 1]], [[4] * 12], [[1] * 12], [[2, 0, 2, 2, 0, 0]],
      [[5, 4, 3, 2, 1, 1, 2, 3, 4, 5]])
  def test_batches(self, sizes):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [None, 3])
      labels = tf.placeholder(tf.float32, [None, 3])
      each = tf.nn.softmax_cross_entropy_with_logits_v2(
          logits=x, labels=labels)
      total, mean = tf.reduce_sum(each), tf.reduce_mean(each)
      rows = tf.cast(tf.shape(x)[0], tf.float32)
      f = gf.function([x, labels], [total, gf.gradient(total, x),
                                    gf.gradient(mean, x), rows],
                      session=session)
      alone = gf.function([x, labels], gf.gradient(total, x), session=session)
      random = np.random.RandomState(0)
      for size in sizes * 2:
        value = random.randn(size, 3).astype(np.float32)
        label = np.eye(3, dtype=np.float32)[random.randint(0, 3, size)]
        p = self._softmax(value) if size else value
        for _ in range(3):
          loss, by_total, by_mean, count = f(value, label)
          np.testing.assert_allclose(
              loss, -np.log(p[label == 1.]).sum(), rtol=1e-5, atol=1e-6)
          np.testing.assert_allclose(by_total, p - label, atol=1e-6)
          np.testing.assert_allclose(
              by_mean, (p - label) / max(size, 1), atol=1e-6)
          self.assertEqual(count, size)
          np.testing.assert_allclose(alone(value, label), p - label, atol=1e-6)
          by_total[...] = -7.

  def test_shapes_that_are_computed_with(self):
    """What depends on a shape follows it, whatever was the first."""
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [None, None])
      shape = tf.shape(x)
      size = tf.cast(tf.size(x), tf.float64)
      y = tf.reduce_sum(
          tf.square(tf.reshape(x, [shape[1], shape[0]])) *
          tf.cast(tf.range(shape[0]), tf.float64)) / size
      y += tf.reduce_sum(
          tf.tile(x, [2, 1]) * tf.ones_like(tf.concat([x, x], 0)))
      y += tf.reduce_sum(x + tf.zeros([shape[1]], tf.float64))
      f = gf.function(x, [y, gf.gradient(y, x), shape], session=session)
      for rows, columns in [(2, 3), (2, 3), (3, 2), (1, 1), (2, 3), (4, 1),
                            (4, 1), (2, 3), (2, 2)] * 2:
        value = np.arange(1., rows * columns + 1.).reshape(rows, columns)
        weights = np.arange(rows)[None, :]
        turned = value.reshape(columns, rows)
        expected = (turned ** 2 * weights).sum() / value.size + 3 * value.sum()
        slope = (2. * turned * weights / value.size).reshape(
            rows, columns) + 3.
        y_t, dx_t, shape_t = f(value)
        np.testing.assert_allclose(y_t, expected)
        np.testing.assert_allclose(dx_t, slope)
        self.assertEqual(shape_t.tolist(), [rows, columns])

  def test_broadcasting_against_a_variable(self):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.array([1., 2., 4.]),
                          use_resource=True)
      session.run(v.initializer)
      x = tf.placeholder(tf.float64, None)
      y = tf.reduce_sum(x * v * tf.ones([3], tf.float64))
      f = gf.function(x, [y, gf.gradient(y, x), gf.gradient(y, v)],
                      session=session)
      for i in range(12):
        scale = 1. + i // 6
        session.run(tf.assign(v, scale * np.array([1., 2., 4.])))
        for value in (2., [3.], [1., 0., 1.], [[1.], [2.]]):
          value = np.array(value)
          y_t, dx_t, dv_t = f(value)
          stored = scale * np.array([1., 2., 4.])
          np.testing.assert_allclose(y_t, (value * stored).sum())
          np.testing.assert_allclose(
              dx_t, np.broadcast_to(
                  stored if value.shape[-1:] == (3,) else 7. * scale,
                  value.shape))
          np.testing.assert_allclose(
              dv_t, (value * np.ones(3)).reshape(-1, 3).sum(0))

  def test_not_a_number_and_infinity(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [None])
      y = x * tf.ones_like(x)
      f = gf.function(x, [y, gf.gradient(x * x, x)], session=session)
      for _ in range(6):
        y_t, dx_t = f([np.nan, np.inf, -np.inf, -0., 1.])
        np.testing.assert_array_equal(y_t, [np.nan, np.inf, -np.inf, 0., 1.])
        np.testing.assert_array_equal(
            dx_t, [np.nan, np.inf, -np.inf, 0., 2.])
        self.assertTrue(np.signbit(y_t[3]))
        self.assertTrue(np.signbit(dx_t[3]))

  def test_random_numbers_stay_random(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [None])
      noise = tf.random.uniform(tf.shape(x), dtype=tf.float64)
      y = x * noise
      f = gf.function(x, [y, gf.gradient(y, x), noise], session=session)
      seen = set()
      for _ in range(10):
        y_t, dx_t, noise_t = f(np.full(4, 3.))
        np.testing.assert_allclose(y_t, 3. * noise_t)
        np.testing.assert_allclose(dx_t, noise_t)
        seen.add(noise_t.tobytes())
      self.assertLen(seen, 10)

  def test_state_is_read_anew(self):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.float64(0.), use_resource=True)
      add = tf.assign_add(v, 1.)
      item = tf.data.make_one_shot_iterator(
          tf.data.Dataset.range(100)).get_next()
      x = tf.placeholder(tf.float64, [])
      y = x * v * tf.cast(item, tf.float64)
      session.run(v.initializer)
      f = gf.function(x, [y, gf.gradient(y, x)], session=session)
      for i in range(12):
        np.testing.assert_allclose(f(3.), [3. * i * i, i * i])
        session.run(add.op)

  def test_wrong_values_are_refused_at_any_call(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [None, 2])
      f = gf.function(x, gf.gradient(x * x, x), session=session)
      value = np.ones((1, 2), np.float32)
      for _ in range(6):
        for bad in (np.ones((1, 3), np.float32), np.ones(2, np.float32),
                    np.full((1, 2), 1e300), [["a", "b"]], None):
          with self.assertRaises(gf.FeedError):
            f(bad)
        with self.assertRaises(gf.FeedError):
          f()
        for good in (value, value.astype(np.float64), value.astype(int),
                     value.tolist(), np.asfortranarray(value),
                     value.astype(">f4"), np.ones((3, 2), np.float32),
                     np.ones((4, 4), np.float32)[::2, ::2]):
          result = f(good)
          self.assertEqual(result.dtype, np.float32)
          np.testing.assert_array_equal(result, 2. * np.array(good, float))

  def test_sessions_change_at_any_call(self):
    with tf.Graph().as_default():
      v = tf.get_variable("v", initializer=np.float64(1.), use_resource=True)
      x = tf.placeholder(tf.float64, [])
      f = gf.function(x, gf.gradient(v * x * x, x))
      sessions = [tf.Session() for _ in range(3)]
      for i, session in enumerate(sessions):
        session.run(tf.assign(v, i + 1.))
      for _ in range(4):
        for i, session in enumerate(sessions):
          for repeat in range(1 + 4 * i):
            with session.as_default():
              self.assertEqual(f(repeat), 2. * (i + 1.) * repeat)
      with self.assertRaises(gf.SessionError):
        f(1.)
      sessions[2].close()
      with sessions[2].as_default():
        with self.assertRaisesRegex(gf.SessionError, "closed"):
          f(1.)
      with sessions[0].as_default():
        self.assertEqual(f(1.), 2.)
      for session in sessions:
        session.close()


def _keyed(feeds):
  """`feeds` with keys that hash in both modes."""
  return {key if isinstance(key, str) else key.name: value
          for key, value in feeds.items()}


class TimeoutTest(parameterized.TestCase):

  @parameterized.parameters(("a",), (-1,), (0,), ([1.],))
  def test_is_a_positive_number(self, timeout):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      with self.assertRaisesRegex(gf.ArgumentError, "(?s)timeout=.*positive"):
        gf.function(x, x * x, session, timeout=timeout)
      with self.assertRaisesRegex(gf.ArgumentError, "(?s)timeout=.*positive"):
        gf.run(session, x * x, {x: 1.}, timeout=timeout)


class RunTest(parameterized.TestCase):
  """`run`: what `Session.run` does, and what it should."""

  def test_as_in_session_run(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [None, 2])
      v = tf.get_variable("v", initializer=np.float32([1., 2.]))
      session.run(v.initializer)
      y = tf.reduce_sum(tf.tanh(x * v), 1)
      fetches = {"y": y, "more": (gf.gradient(y, x), [v, x])}
      value = np.float32([[.5, -1.], [2., 0.]])
      expected = session.run(fetches, {x: value})
      for _ in range(2):
        result = gf.run(session, fetches, {x: value})
        np.testing.assert_array_equal(result["y"], expected["y"])
        np.testing.assert_array_equal(
            result["more"][0], expected["more"][0])
        np.testing.assert_array_equal(
            result["more"][1][0], expected["more"][1][0])
        np.testing.assert_array_equal(result["more"][1][1], value)

  def test_feeds_in_another_order(self):
    with tf.Graph().as_default(), tf.Session() as session:
      a = tf.placeholder(tf.float64, [], name="a")
      b = tf.placeholder(tf.float64, [], name="b")
      y = a - 2. * b
      for _ in range(2):
        self.assertEqual(gf.run(session, y, {a: 5., b: 1.}), 3.)
        self.assertEqual(gf.run(session, y, {b: 1., a: 5.}), 3.)
        self.assertEqual(gf.run(session, y, {"b": 1., a: 5.}), 3.)

  def test_other_feeds_are_another_question(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder_with_default(np.float64(3.), [])
      h = x * x
      y = tf.exp(-h)
      for _ in range(2):
        self.assertAlmostEqual(gf.run(session, y), np.exp(-9.))
        self.assertAlmostEqual(gf.run(session, y, {h: 4.}), np.exp(-4.))
        self.assertAlmostEqual(gf.run(session, y, {x: 1.}), np.exp(-1.))
        self.assertAlmostEqual(gf.run(session, y, {}), np.exp(-9.))

  def test_state_goes_on(self):
    with tf.Graph().as_default(), tf.Session() as session:
      dataset = tf.data.Dataset.range(3)
      item = tf.data.make_one_shot_iterator(dataset).get_next()
      self.assertEqual([gf.run(session, item) for _ in range(3)], [0, 1, 2])
      with self.assertRaises(tf.errors.OutOfRangeError):
        gf.run(session, item)

  def test_queue(self):
    with tf.Graph().as_default(), tf.Session() as session:
      queue = tf.FIFOQueue(4, [tf.float64], [[]])
      x = tf.placeholder(tf.float64, [])
      put, get = queue.enqueue(x), queue.dequeue()
      for value in (1., 2., 3.):
        self.assertIsNone(gf.run(session, put, {x: value}))
      self.assertEqual([gf.run(session, get) for _ in range(3)], [1., 2., 3.])

  def test_saver(self):
    folder = self._folder()
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.float64(2.))
      saver = tf.train.Saver()
      session.run(v.initializer)
      path = saver.save(session, folder + "/model")
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", shape=[], dtype=tf.float64)
      definition = tf.train.Saver().saver_def
      # What a Saver runs, run here.
      gf.run(session, definition.restore_op_name,
             {definition.filename_tensor_name: path})
      self.assertEqual(gf.run(session, v), 2.)

  def _folder(self):
    import tempfile  # pylint: disable=g-import-not-at-top
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    return folder.name

  def test_errors_of_the_graph_pass_through(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [None, None])
      with self.assertRaisesRegex(
          tf.errors.InvalidArgumentError, "(?i)invertible"):
        gf.run(session, tf.linalg.inv(x), {x: np.zeros((2, 2))})
      np.testing.assert_array_equal(
          gf.run(session, tf.linalg.inv(x), {x: np.eye(2)}), np.eye(2))

  def test_s13_cotangent_of_another_shape(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [None])
      weights = tf.placeholder(tf.float64, [None], name="weights")
      dx = gf.gradient(x * x, x, grad_ys=weights)
      np.testing.assert_array_equal(
          gf.run(session, dx, {x: [1., 2.], weights: [1., 10.]}), [2., 40.])
      with self.assertRaisesRegex(gf.CotangentError, "weights"):
        gf.run(session, dx, {x: [1., 2.], weights: [1.]})

  def test_no_feed_dict(self):
    with tf.Graph().as_default(), tf.Session() as session:
      self.assertEqual(gf.run(session, tf.constant(3.)), 3.)
      self.assertEqual(gf.run(session, tf.constant(3.), None), 3.)
      self.assertEqual(gf.run(session, tf.constant(3.), {}), 3.)
