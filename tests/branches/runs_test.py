"""Runs in which a value that is fed decides what counts."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs

_FLOWS = (("v1", 1), ("v2", 2))


class RacesTest(graphs.GraphTest):

  def _network(self, version):
    """x, flag, loss and its derivative; a flag that counts the calls."""
    x = tf.placeholder(tf.float64, [2])
    flag = tf.placeholder(tf.bool, [])
    v = graphs.variable("v", 3.0, True)

    def update():
      with tf.control_dependencies([tf.assign_add(v, 1.0)]):
        return tf.identity(x) * 7.0

    with flows.control_flow(version):
      other = tf.cond(flag, update, lambda: x * 1.0)
      y = x ** 2 * v
      dx = gf.gradient(y, x)
    self.initialize()
    return x, flag, v, other, dx

  @parameterized.named_parameters(*_FLOWS)
  def test_the_branch_that_is_not_taken_does_not_race(self, version):
    x, flag, v, other, dx = self._network(version)
    count = self.count()
    for _ in range(2):
      values = gf.run(self.session, [dx, other], {x: [1., 2.], flag: False})
      np.testing.assert_allclose(values, [[6.0, 12.0], [1.0, 2.0]])
      with self.assertRaises(gf.AssignmentError):
        gf.run(self.session, [dx, other], {x: [1.0, 2.0], flag: True})
      with self.assertRaises(gf.GradfeedError):
        gf.run(self.session, [dx, other], {x: [1.0, 2.0], flag: "no bool"})
    self.assertEqual(self.session.run(v), 3.0)
    self.assertLessEqual(self.count(), count + 2)  # A copy of a result each.

  @parameterized.named_parameters(*_FLOWS)
  def test_without_a_race_the_values_are_not_looked_at(self, version):
    x, flag, v, other, _ = self._network(version)
    feeds = {x: [1.0, 2.0], flag: False}
    np.testing.assert_allclose(gf.run(self.session, other, feeds), [1.0, 2.0])
    feeds[flag] = True
    np.testing.assert_allclose(gf.run(self.session, other, feeds), [7.0, 14.0])
    self.assertEqual(self.session.run(v), 4.0)

  @parameterized.named_parameters(*_FLOWS)
  def test_all_that_tensorflow_runs_is_run(self, version):
    # An assignment that only a branch reads that is not taken.
    x = tf.placeholder(tf.float64, [])
    w = tf.placeholder(tf.float64, [])
    flag = tf.placeholder(tf.bool, [])
    v = graphs.variable("v", 3.0, True)
    with flows.control_flow(version):
      changed = tf.identity(tf.assign_add(v, 1.0))
      y = x ** 2 * tf.cond(flag, lambda: changed * w,
                           lambda: tf.constant(5.0, tf.float64))
    self.initialize()
    self.assertEqual(gf.run(
        self.session, y, {x: 2.0, flag: False, w: 1.0}), 20.0)
    self.assertEqual(self.session.run(v), 4.0)
    # TensorFlow needs a value for what such a branch captures.
    with self.assertRaises(gf.MissingFeedError):
      gf.run(self.session, y, {x: 2.0, flag: False})

  def test_a_placeholder_in_the_branch_is_not_needed(self):
    flag = tf.placeholder(tf.bool, [])
    with flows.control_flow(1):
      y = tf.cond(flag, lambda: tf.placeholder(tf.float64, [], name="inner"),
                  lambda: tf.constant(5.0, tf.float64))
    for _ in range(2):
      self.assertEqual(gf.run(self.session, y, {flag: False}), 5.0)
      with self.assertRaisesRegex(gf.MissingFeedError, "inner"):
        gf.run(self.session, y, {flag: True})
      with self.assertRaises(gf.MissingFeedError):
        gf.run(self.session, y)

  @parameterized.named_parameters(*_FLOWS)
  def test_sessions_of_a_process(self, version):
    x, flag, v, other, dx = self._network(version)
    with gf.patched():
      values = self.session.run([dx, other], {x: [1.0, 2.0], flag: False})
    np.testing.assert_allclose(values, [[6.0, 12.0], [1.0, 2.0]])
    with gf.Session(graph=self.graph) as session:
      session.run(tf.global_variables_initializer())
      values = session.run([dx, other], {x: [1.0, 2.0], flag: False})
      np.testing.assert_allclose(values, [[6.0, 12.0], [1.0, 2.0]])
      self.assertEqual(session.run(v), 3.0)
