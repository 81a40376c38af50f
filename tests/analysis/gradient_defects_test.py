"""Ops without a second derivative, and derivatives that are known wrong."""

from unittest import mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.analysis import gradient_defects
from gradfeed.analysis import gradient_flow
from tests.testing import flows
from tests.testing import graphs
from tests.testing import numeric

_AT = np.array([[0.5, 1.5], [0.7, 0.2]])


#: Calls of ops that are not tried one by one: each has some of these types.
_TWICE = (
    lambda x, z: x + z - x * z / (z + 3.0), lambda x, z: -tf.matmul(x, z),
    lambda x, z: tf.matmul(x, z, transpose_a=True),
    lambda x, z: tf.matmul(x, z, transpose_a=True, transpose_b=True),
    lambda x, z: tf.add_n([x, z, x]), lambda x, z: tf.nn.bias_add(x, z[0]),
    lambda x, z: tf.nn.bias_add(
        tf.reshape(x, [1, 2, 1, 2]), z[0][:2], data_format="NHWC"),
    lambda x, z: tf.concat([x, z], 1), lambda x, z: tf.stack([x, z], 1),
    lambda x, z: tf.unstack(x * z, axis=1)[0],
    lambda x, z: tf.split(x * z, 2, 1)[1],
    lambda x, z: tf.cos(x) * tf.sin(z), lambda x, z: tf.exp(x) * tf.log(z),
    lambda x, z: tf.log1p(x) * tf.sqrt(z), lambda x, z: tf.expand_dims(x, 1),
    lambda x, z: tf.squeeze(tf.reshape(tf.identity(x), [1, 2, 2, 1])),
    lambda x, z: tf.reciprocal(x), lambda x, z: tf.nn.relu(x) * z,
    lambda x, z: tf.reduce_sum(x * z, 1), lambda x, z: tf.sigmoid(x * z),
    lambda x, z: tf.nn.softplus(x), lambda x, z: tf.square(x) * tf.tanh(z),
    lambda x, z: tf.math.squared_difference(x, z),
    lambda x, z: tf.raw_ops.BatchMatMul(x=x, y=z, adj_x=True),
    lambda x, z: tf.raw_ops.BatchMatMulV2(
        x=tf.reshape(x, [2, 1, 2]), y=z, adj_y=True),
    lambda x, z: tf.reduce_mean(x * z, 0), lambda x, z: x ** z,
    lambda x, z: tf.slice(x, [0, 1], [2, 1]) * z[::-1, 1:],
    lambda x, z: tf.nn.softmax(x * z),
    lambda x, z: tf.transpose(x), lambda x, z: tf.raw_ops.Add(x=x, y=z))


class WithoutSecondTest(graphs.GraphTest):

  def _without(self, y, x):
    return next(
        gradient_defects.ops_without_second_derivative(
            gradient_flow.GradientFlow(gradient_flow.GradientTrace([y], [x]),
                                       [y])), None)

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

  def test_what_is_not_tried_has_one(self):
    """Each of these types is tried here, and their numbers are right."""
    listed = gradient_defects.TWICE_DIFFERENTIABLE
    seen = set()
    for call in _TWICE:
      x = tf.placeholder(tf.float64, [2, 2])
      z = tf.constant([[0.4, 1.1], [0.9, 0.3]], tf.float64) + 0.0 * x
      y = call(x, z)
      trace = gradient_flow.GradientTrace([y], [x])
      types = {op.type for op in trace.path.values()}
      seen |= types & listed
      with mock.patch.object(
          gradient_defects, "TWICE_DIFFERENTIABLE", frozenset()):
        self.assertIsNone(self._without(y, x), types)
      y = tf.reduce_sum(y ** 2 + y)
      v = np.array([[0.3, -0.7], [0.2, 0.9]])
      dx, along = gf.gradient(y, x), gf.hvp(y, x, v)
      above, below = [self.session.run(dx, {x: _AT + step * v})
                      for step in (1e-6, -1e-6)]
      np.testing.assert_allclose(self.session.run(along, {x: _AT}),
                                 (above - below) / 2e-6, rtol=1e-6, atol=1e-7)
    self.assertEqual(seen, listed)

  def test_own_gradient_is_tried(self):
    x = tf.placeholder(tf.float64, [])

    @tf.RegisterGradient("OfNoSecond" + type(self).__name__)
    def _gradient(op, dy):
      return dy * tf.raw_ops.SoftsignGrad(gradients=dy, features=op.inputs[0])

    with self.graph.gradient_override_map(
        {"Tanh": "OfNoSecond" + type(self).__name__}):
      y = tf.tanh(x)
    self.assertIn("SoftsignGrad", self._without(y, x)[1])

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


class KnownWrongTest(graphs.GraphTest):

  def _assert_right(self, dx, y, x):
    np.testing.assert_allclose(
        self.session.run(dx, {x: _AT}), numeric.central_differences(
            lambda p: np.sum(self.session.run(y, {x: p})), _AT), atol=1e-7)

  def _entropy(self, labels, logits):
    return tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=labels, logits=logits, name="entropy")

  def test_s9_labels_that_depend_on_x_have_no_second_derivative(self):
    x = tf.placeholder(tf.float64, [2, 2], name="x")
    labels = tf.nn.softmax(x * x, name="labels")
    y = self._entropy(labels, x)
    dx = gf.gradient(y, x)
    self._assert_right(dx, y, x)
    before = self.count()
    for call in (lambda: gf.hessian(y, x), lambda: gf.hvp(y, x, _AT)):
      with self.assertRaisesRegex(
          gf.MissingGradientError,
          "(?s)SoftmaxCrossEntropyWithLogits 'entropy'.*depends on the labels"
          ".*Fix: .*log_softmax"):
        call()
    with self.assertRaisesRegex(
        gf.UnsupportedGraphError, "(?s)No right gradient.*'entropy'"):
      gf.gradient(dx, x)
    self.assertEqual(self.count(), before)

  def test_labels_that_are_held_or_data_have_one(self):
    x = tf.placeholder(tf.float64, [2, 2])
    for labels in (tf.stop_gradient(tf.nn.softmax(x * x)), np.eye(2)):
      y = tf.reduce_sum(self._entropy(labels, x))
      second = self.session.run(gf.hessian(y, x), {x: _AT})
      p = self.session.run(tf.nn.softmax(x), {x: _AT})
      for row in range(2):
        np.testing.assert_allclose(
            second[row, :, row], np.diag(p[row]) - np.outer(p[row], p[row]))

  def test_s9_stitched_to_one_place(self):
    x = tf.placeholder(tf.float64, [2, 2], name="x")
    y = tf.dynamic_stitch([[0, 2], [1, 2]], [x * x, x])
    self._assert_right(gf.gradient(y, x), y, x)
    y = tf.raw_ops.ParallelDynamicStitch(
        indices=[[0, 2], [1, 2]], data=[x * x, x], name="stitched")
    before = self.count()
    with self.assertRaisesRegex(
        gf.UnsupportedGraphError,
        "(?s)No right gradient.*DynamicStitch 'stitched': index 2"):
      gf.gradient(y, x)
    self.assertEqual(self.count(), before)
    healthy = tf.dynamic_stitch([[0, 2], [1, 3]], [x * x, x])
    self._assert_right(gf.gradient(healthy, x), healthy, x)

  def test_s9_inverse_that_is_transposed(self):
    x = tf.placeholder(tf.float64, [2, 2])
    weights = np.array([[1.0, 2.0], [3.0, 4.0]])
    y = tf.linalg.inv(x, adjoint=True) * weights
    healthy = tf.linalg.adjoint(tf.linalg.inv(x)) * weights
    self._assert_right(gf.gradient(healthy, x), healthy, x)
    if tf.__version__.startswith("1."):
      with self.assertRaisesRegex(
          gf.UnsupportedGraphError, "(?s)MatrixInverse.*Fix: .*adjoint"):
        gf.gradient(y, x)
      with self.assertRaisesRegex(
          gf.MissingGradientError, "MatrixDeterminant.*MatrixInverse"):
        gf.hessian(tf.linalg.det(x), x)
    else:
      self._assert_right(gf.gradient(y, x), y, x)
      np.testing.assert_allclose(
          self.session.run(gf.hessian(tf.linalg.det(x), x), {x: _AT}),
          np.array([[[[0, 0], [0, 1]], [[0, 0], [-1, 0]]],
                    [[[0, -1], [0, 0]], [[1, 0], [0, 0]]]]), atol=1e-12)

  def test_s9_products_with_a_zero(self):
    x = tf.placeholder(tf.float64, [3], name="x")
    at = {x: [0.0, 2.0, 3.0]}
    cumulated = tf.cumprod(x, name="cumulated")[-1]
    found, = [f for f in gf.explain(cumulated, x).findings
              if f.kind == "wrong_at_values"]
    self.assertEqual((found.severity, found.names), ("warning", ["cumulated"]))
    self.assertFalse(np.allclose(
        self.session.run(gf.gradient(cumulated, x), at), [6.0, 0.0, 0.0]))
    product = tf.reduce_prod(x, name="product")
    found, = [f for f in gf.explain(product, x).findings
              if f.kind == "wrong_at_values"]
    self.assertEqual((found.severity, found.names), ("note", ["product"]))
    np.testing.assert_allclose(
        self.session.run(gf.gradient(product, x), at), [6.0, 0.0, 0.0])
    self.assertFalse(np.allclose(
        self.session.run(gf.hessian(product, x), at),
        [[0.0, 3.0, 2.0], [3.0, 0.0, 0.0], [2.0, 0.0, 0.0]]))

  def test_s9_wrong_inside_of_a_branch(self):
    x = tf.placeholder(tf.float64, [2, 2], name="x")
    for indices in ([[0, 1], [1, 2]], [[0, 1], [2, 3]]):
      with flows.control_flow(2):
        y = tf.cond(x[0, 0] > 0.0, lambda indices=indices: tf.reduce_sum(
            tf.raw_ops.ParallelDynamicStitch(
                indices=indices, data=[x * x, x], name="stitched")),
                    lambda: tf.reduce_sum(x))
      if indices[1][0] == 1:
        with self.assertRaisesRegex(
            gf.UnsupportedGraphError, "(?s)stitched.*in .*If.*index 1"):
          gf.gradient(y, x)
      else:
        self._assert_right(gf.gradient(y, x), y, x)


class PreventedGradientsTest(graphs.GraphTest):
  """Ops that are in a graph to stop whoever would differentiate them."""

  def test_says_so_in_the_words_of_who_put_it_there(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    y = tf.raw_ops.PreventGradient(
        input=x * x, message="Ask the owner first.", name="stop")
    before = self.count()
    for differentiate in (gf.gradient, gf.gradients, gf.jacobian):
      with self.assertRaisesRegex(
          gf.MissingGradientError,
          r"PreventGradient 'stop'(.|\n)*explicitly disabled(.|\n)*"
          r"Ask the owner first\.\n(.|\n)*stop_gradients=\['stop:0'\]"):
        differentiate(y, x)
    self.assertEqual(self.count(), before)
    with self.assertRaisesRegex(LookupError, "explicitly disabled"):
      with gf.patched():
        tf.gradients(y, x)

  def test_of_a_loss_names_what_to_use_in_its_place(self):
    x = tf.placeholder(tf.float64, [1, 3])
    loss = tf.reduce_sum(tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
        features=x, labels=[1], name="loss")[0])
    # That of a loss of TensorFlow 1 is the same, with the op between.
    stopped = tf.raw_ops.PreventGradient(
        input=tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
            features=x, labels=[1], name="fused")[1], message="")
    with self.assertRaisesRegex(
        gf.MissingGradientError,
        "disabled there.\n.*one_hot.*in the place of "
        "SparseSoftmaxCrossEntropyWithLogits 'fused'"):
      gf.gradient(loss + tf.reduce_sum(stopped), x)
