"""Walks along the edges of a graph."""

from unittest import mock

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


class ByTypeTest(graphs.GraphTest):

  def test_groups_ops_in_their_order(self):
    x = tf.placeholder(tf.float64, [], name="x")
    y = tf.negative(tf.square(tf.square(x, name="a"), name="b"), name="y")
    ops = traversal.ancestors([y])
    for grouped in (traversal.by_type(ops), traversal.by_type(dict(ops))):
      self.assertEqual(
          {kind: [op.name for op in group] for kind, group in grouped.items()},
          {"Placeholder": ["x"], "Square": ["a", "b"], "Neg": ["y"]})


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


class StillAncestorsTest(graphs.GraphTest):
  """What has to run where some ops use a part of their inputs."""

  def test_what_is_read_by_other_ways_stays(self):
    x = tf.placeholder(tf.float64, [], name="x")
    shared = tf.square(x, name="shared")
    left = tf.exp(shared, name="left")
    right = tf.sin(shared, name="right")
    with tf.control_dependencies([tf.constant(1., name="waited")]):
      both = tf.add(left, right, name="both")
    ops = traversal.ancestors([both])
    part = traversal.still_ancestors(ops, [both], {"both": [both.op.inputs[1]]})
    self.assertEqual(list(part), [name for name in ops if name != "left"])
    self.assertCountEqual(part.before["both"], ["right", "waited"])
    self.assertCountEqual(ops.before["both"], ["left", "right", "waited"])
    self.assertEqual({kind: [op.name for op in group] for kind, group in
                      part.by_type().items()},
                     {"Placeholder": ["x"], "Square": ["shared"],
                      "Sin": ["right"], "Const": ["waited"], both.op.type:
                      ["both"]})

  def test_what_is_above_a_cut_is_not_there(self):
    x = tf.placeholder(tf.float64, [], name="x")
    h = tf.square(x, name="h")
    y = tf.add(h, x, name="y")
    ops = traversal.ancestors([y], {"h:0"})
    self.assertCountEqual(ops, ["x", "y"])
    self.assertCountEqual(traversal.still_ancestors(
        ops, [y], {"y": [h]}), ["y"])


class MarksAboveTest(graphs.GraphTest):
  """Which of some ops run before each op, for all pairs at once."""

  def _assert_as_ancestors(self, ops):
    marked = list(ops)[::3]
    marks = traversal.marks_above(ops, marked)
    for name, op in ops.items():
      before = traversal.ancestors([op])
      self.assertEqual([mark for mark in marked if marks.has(name, mark)],
                       [mark for mark in marked if mark in before])
      self.assertCountEqual(traversal.above(ops, [name]), before)

  @parameterized.named_parameters(*_FLOWS)
  def test_all_pairs(self, flow):
    with flows.control_flow(flow):
      x = tf.placeholder(tf.float64, [], name="x")
      _, h = tf.while_loop(
          lambda i, h: i < 3,
          lambda i, h: (i + 1, tf.cond(h > 1., lambda: h * x, lambda: h + 1.)),
          [0, x])
      with tf.control_dependencies([tf.square(x)]):
        y = tf.while_loop(
            lambda h: h < 9.,
            lambda h: tf.while_loop(lambda k: k < 2., lambda k: k * h, [h]),
            [h])
    self._assert_as_ancestors(traversal.ancestors([y]))

  def test_one_pass_over_each_edge(self):
    calls = []
    for layers in (10, 40):
      graph = tf.Graph()
      with graph.as_default():
        h = tf.placeholder(tf.float64, [])
        for _ in range(layers):
          h = tf.square(h) + h
      ops = traversal.ancestors([h])
      ops.before, before = mock.MagicMock(), ops.before
      ops.before.__getitem__.side_effect = before.__getitem__
      traversal.marks_above(ops, list(ops))
      calls.append(ops.before.__getitem__.call_count / len(ops))
    self.assertEqual(calls, [1.0, 1.0])
