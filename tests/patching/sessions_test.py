import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import folders
from tests.testing import graphs


class SessionTest(graphs.GraphTest, folders.FolderTest):

  def setUp(self):
    super().setUp()
    self.h = tf.constant(3.0) * 3.0
    self.y = tf.exp(-self.h)
    self.n = tf.placeholder(tf.int32, [])

  def test_it_is_a_session(self):
    with gf.Session(config=tf.ConfigProto()) as session:
      self.assertIsInstance(session, tf.Session)
      self.assertIs(tf.get_default_session(), session)
      self.assertIs(session.graph, self.graph)

  def test_evaluation_goes_through_run(self):
    with gf.Session() as session:
      self.assertEqual(session.run(self.y, {self.h: 0.0}), 1.0)
      self.assertEqual(self.y.eval({self.h: 0.0}), 1.0)
      with session.as_default():
        self.assertEqual(self.y.eval(feed_dict={self.h: 0.0}), 1.0)
      for evaluate in (
          lambda: session.run(self.n, {self.n: 2.7}),
          lambda: (self.n + 1).eval({self.n: 2.7}),
          lambda: tf.group(self.n + 1).run({self.n: 2.7}),
          lambda: session.make_callable(self.n, [self.n])(2.7)):
        with self.assertRaises(gf.FeedError):
          evaluate()

  def test_callables_have_the_signature_of_tensorflow(self):
    metadata = tf.RunMetadata()
    traced = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    with gf.Session() as session:
      self.assertEqual(session.make_callable(self.n + 1, [self.n])(2), 3)
      self.assertEqual(session.make_callable([self.n + 1], [self.n])(2), [3])
      constant = session.make_callable(tf.constant([1.0]))
      constant()[...] = 5.0  # It belongs to the caller.
      np.testing.assert_array_equal(constant(), [1.0])
      self.assertIsNone(session.make_callable(tf.no_op())())
      traceable = session.make_callable(self.y, accept_options=True)
      traceable(options=traced, run_metadata=metadata)
      self.assertNotEmpty(metadata.step_stats.dev_stats)
      with self.assertRaises(TypeError):
        session.make_callable(self.y, {self.n: 1})

  def test_partial_runs_are_passed_through(self):
    a, b = tf.placeholder(tf.float32, []), tf.placeholder(tf.float32, [])
    with gf.Session() as session:
      first, second = 2 * a, a * b
      handle = session.partial_run_setup([first, second], [a, b])
      self.assertEqual(session.partial_run(handle, first, {a: 3.0}), 6.0)
      self.assertEqual(session.partial_run(handle, second, {b: 4.0}), 12.0)

  def test_a_traced_run_has_its_metadata(self):
    metadata = tf.RunMetadata()
    with gf.Session() as session:
      session.run(self.y, options=tf.RunOptions(
          trace_level=tf.RunOptions.FULL_TRACE), run_metadata=metadata)
    self.assertNotEmpty(metadata.step_stats.dev_stats)

  def test_an_interactive_session_is_the_default_one(self):
    session = gf.InteractiveSession()
    self.addCleanup(session.close)
    self.assertIsInstance(session, tf.InteractiveSession)
    self.assertEqual(self.y.eval({self.h: 0.0}), 1.0)

  def test_savers_and_variables_work_in_a_finalized_graph(self):
    w = tf.get_variable("w", initializer=2.0)
    saver = tf.train.Saver()
    path = self.path("model")
    with gf.Session() as session:
      session.run(w.initializer)
      value = session.run(w)
      self.graph.finalize()
      saver.save(session, path)
      w.load(5.0, session)
      self.assertEqual(session.run(w), 5.0)
      saver.restore(session, path)
      self.assertEqual(session.run(w), value)
