"""Gradients of TensorFlow that are known to be wrong, and their healthy twins.
"""

import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests import flows
from tests import graphs
from tests import numbers

_AT = np.array([[0.5, 1.5], [0.7, 0.2]])


class KnownWrongTest(graphs.GraphTest):

  def _assert_right(self, dx, y, x):
    np.testing.assert_allclose(
        self.session.run(dx, {x: _AT}), numbers.central_differences(
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
    y = tf.dynamic_stitch([[0, 2], [1, 2]], [x * x, x], name="stitched")
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
            tf.dynamic_stitch(indices, [x * x, x], name="stitched")),
                    lambda: tf.reduce_sum(x))
      if indices[1][0] == 1:
        with self.assertRaisesRegex(
            gf.UnsupportedGraphError, "(?s)stitched.*in .*If.*index 1"):
          gf.gradient(y, x)
      else:
        self._assert_right(gf.gradient(y, x), y, x)
