"""Walks along the edges of a graph."""

from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from gradfeed.graph import effects
from gradfeed.graph import traversal
from tests.testing import flows
from tests.testing import graphs

_FLOWS = (("control_flow_v1", 1), ("control_flow_v2", 2))


class AncestorsTest(graphs.GraphTest):

  def test_inputs_come_before_their_users(self):
    x = tf.placeholder(tf.float64, [], name="x")
    with tf.control_dependencies([tf.no_op(name="first")]):
      h = tf.square(x, name="h")
    tf.square(x, name="aside")
    y = tf.add(h, x, name="y")
    ops = list(traversal.ancestors([y]))
    self.assertCountEqual(ops, ["x", "first", "h", "y"])
    self.assertLess(ops.index("x"), ops.index("h"))
    self.assertLess(ops.index("first"), ops.index("h"))
    self.assertEqual(ops[-1], "y")

  def test_stops_at_what_is_cut(self):
    x = tf.placeholder(tf.float64, [], name="x")
    h = tf.square(x, name="h")
    y = tf.exp(h, name="y")
    self.assertCountEqual(traversal.ancestors([y], {"h:0"}), ["y"])
    self.assertEmpty(traversal.ancestors([h], {"h:0"}))

  def test_one_output_that_is_cut_leaves_the_other(self):
    x = tf.placeholder(tf.float64, [4], name="x")
    a, b = tf.split(x, 2, name="s")
    y = tf.add(a, b, name="y")
    self.assertIn("s", traversal.ancestors([y], {"s:0"}))
    self.assertNotIn("s", traversal.ancestors([y], {"s:0", "s:1"}))

  def test_long_chains(self):
    y = tf.placeholder(tf.float64, [])
    for _ in range(3000):  # More than Python would recurse.
      y = tf.identity(y)
    self.assertLen(traversal.ancestors([y]), 3001)

  @parameterized.named_parameters(*_FLOWS)
  def test_loops(self, flow):
    x = tf.placeholder(tf.float64, [], name="x")
    with flows.control_flow(flow):
      y = tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a * x),
                        [0, x])[1]
    ops = traversal.ancestors([y])
    self.assertIn("x", ops)
    self.assertIn(y.op.name, traversal.descendants(ops, {"x:0"}))
    self.assertTrue(effects.has_loop(ops))


class DescendantsTest(graphs.GraphTest):

  def test_data_and_control(self):
    x = tf.placeholder(tf.float64, [], name="x")
    h = tf.square(x, name="h")
    with tf.control_dependencies([h]):
      waits = tf.constant(1., tf.float64, name="waits")
    y = tf.multiply(waits, 2., name="y")
    z = tf.add(h, y, name="z")
    ops = traversal.ancestors([z])
    self.assertEqual(traversal.descendants(ops, {"x:0"}),
                     {"h", "waits", "y", "z"})
    self.assertEqual(traversal.descendants(ops, {"x:0"}, control=False),
                     {"h", "z"})
    self.assertEmpty(traversal.descendants(ops, {"nothing:0"}))
