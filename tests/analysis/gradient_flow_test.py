"""Which ops and tensors a gradient passes."""

import tensorflow.compat.v1 as tf

from gradfeed.analysis import gradient_flow
from tests.testing import graphs


class TraceTest(graphs.GraphTest):

  def test_path_blocked_and_tensors(self):
    x = tf.placeholder(tf.float64, [], name="x")
    h = tf.square(x, name="h")
    y = tf.add(h, tf.round(x, name="r"), name="y")
    tf.exp(x, name="aside")
    trace = gradient_flow.GradientTrace([y], [x])
    self.assertCountEqual(trace.path, ["h", "y"])
    self.assertCountEqual(trace.blocked, ["r"])
    self.assertEqual(trace.tensors, {"x:0", "h:0", "r:0", "y:0"})
    self.assertEmpty(trace.missing)

  def test_missing_only_between(self):
    x = tf.placeholder(tf.float64, [2, 2], name="x")
    z = tf.placeholder(tf.float64, [2, 2], name="z")
    y = tf.add(x, tf.linalg.lu(z, name="lu")[0], name="y")
    self.assertEmpty(gradient_flow.GradientTrace([y], [x]).missing)
    self.assertEqual(
        [op.name for op in gradient_flow.GradientTrace([y], [z]).missing],
        ["lu"])

  def test_stops(self):
    x = tf.placeholder(tf.float64, [], name="x")
    h = tf.square(x, name="h")
    y = tf.multiply(h, x, name="y")
    trace = gradient_flow.GradientTrace([y], [x], [h])
    self.assertIn("y", trace.path)
    self.assertEqual(trace.tensors, {"x:0", "h:0", "y:0"})
    only = gradient_flow.GradientTrace([tf.multiply(h, 2., name="z")], [x], [h])
    self.assertNotIn("x:0", only.tensors)
