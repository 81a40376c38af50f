"""What running some ops needs, changes and waits for."""

from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from gradfeed.graph import effects
from gradfeed.graph import traversal
from tests.testing import flows
from tests.testing import graphs

_KINDS = (("ref", False), ("resource", True))


class NeedsTest(graphs.GraphTest):

  def test_placeholders_and_variables(self):
    x = tf.placeholder(tf.float64, [], name="x")
    z = tf.placeholder_with_default(tf.constant(1., tf.float64), [], name="z")
    a = tf.get_variable("a", [], tf.float64, use_resource=False)
    b = tf.get_variable("b", [], tf.float64, use_resource=True)
    tf.placeholder(tf.float64, [], name="unused")
    y = x * z + a * b
    ops = traversal.ancestors([y])
    self.assertEqual([t.name for t in effects.placeholders(ops)], ["x:0"])
    self.assertCountEqual(
        [op.name for op in effects.variables_read(ops, [y])], ["a", "b"])
    self.assertFalse(effects.has_loop(ops))
    self.assertEmpty(effects.assigning_ops(ops))

  @parameterized.named_parameters(*_KINDS)
  def test_assigning(self, use_resource):
    v = tf.get_variable("v", [], tf.float64, use_resource=use_resource)
    with tf.control_dependencies([tf.assign_add(v, 1.)]):
      y = tf.constant(1.)
    self.assertLen(effects.assigning_ops(traversal.ancestors([y])), 1)

  def test_assigning_inside_of_a_function(self):
    v = tf.get_variable("v", [], tf.float64, use_resource=True)

    def update():
      with tf.control_dependencies([v.assign_add(1.)]):
        return tf.constant(2.)

    with flows.control_flow(2):
      y = tf.cond(tf.placeholder(tf.bool, []), update, lambda: 1.)
    self.assertNotEmpty(effects.assigning_ops(traversal.ancestors([y])))

  def test_waiting(self):
    queue = tf.FIFOQueue(3, tf.float64, [[]])
    y = queue.dequeue(name="take") * 2.
    self.assertEqual([
        op.name
        for op in effects.waiting_ops(traversal.ancestors([y]))
        if "Dequeue" in op.type
    ], ["take"])
