"""Which ops have a first derivative and no second one."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed import bodies
from gradfeed import orders
from gradfeed import paths
from tests import flows
from tests import graphs


class WithoutSecondTest(graphs.GraphTest):

  def _without(self, y, x):
    return next(orders.without_second(
        bodies.Flow(paths.Trace([y], [x]), [y])), None)

  @parameterized.named_parameters(
      ("elementwise", lambda x: tf.tanh(x) * tf.exp(x) / (x * x + 1.0)),
      ("product", lambda x: tf.matmul(x, x)),
      ("convolution", lambda x: tf.nn.conv2d(
          tf.reshape(x, [1, 2, 2, 1]), tf.ones([1, 1, 1, 1], x.dtype), 1,
          "SAME")),
      ("rectifier", lambda x: tf.nn.relu(x) + tf.nn.elu(x)),
      ("lookup", lambda x: tf.gather(x, [1, 0])),
      ("step", lambda x: tf.floor(x) * x),
      ("mean", lambda x: tf.reduce_mean(tf.reduce_max(x, 1))),
      ("held", lambda x: tf.stop_gradient(x) * x))
  def test_has_one(self, function):
    x = tf.placeholder(tf.float64, [2, 2])
    self.assertIsNone(self._without(function(x), x))

  def test_by_the_input_that_counts(self):
    a = tf.placeholder(tf.float64, [])
    x = tf.placeholder(tf.float64, [])
    y = tf.igamma(a, x)
    self.assertIsNone(self._without(y, x))
    op, why, fix = self._without(y, a)
    self.assertIs(op, y.op)
    self.assertIn("IgammaGradA", why)
    self.assertIn("tf.custom_gradient", fix)

  def test_inside_a_function(self):
    x = tf.placeholder(tf.float64, [2])
    with flows.control_flow(2):
      y = tf.cond(x[0] > 0.0, lambda: tf.nn.softsign(x), lambda: x)
    op, why, fix = self._without(y, x)
    self.assertIn("If", op.type)
    self.assertIn("SoftsignGrad", why)
    self.assertIn("tf.abs", fix)

  def test_leaves_the_graph_and_its_tensors_alone(self):
    x = tf.placeholder(tf.float64, [2, 2])
    axis = tf.constant(1)
    y = tf.nn.softsign(tf.reduce_sum(x, axis))
    before = self.count()
    self.assertIsNotNone(self._without(y, x))
    self.assertEqual(self.count(), before)
    # It was read, and can be fed all the same.
    self.session.run(y, {x: np.ones([2, 2]), axis: 0})
