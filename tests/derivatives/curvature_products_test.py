"""Gauss-Newton and Fisher products: dense J^T H J, and closed forms."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import graphs


def _numbers(*shape):
  return np.random.RandomState(sum(shape) + 1).normal(size=shape)


class CurvatureTest(graphs.GraphTest):

  def network(self, use_resource=True, width=3):
    """Logits of a network of one hidden layer, [4, width], by 2 x 5 weights."""
    self.x = tf.placeholder_with_default(_numbers(4, 2), [None, 2])
    self.w = graphs.variable("w", _numbers(2, 5), use_resource)
    self.u = graphs.variable("u", _numbers(5, width), use_resource)
    self.ws = [self.w, self.u]
    self.initialize()
    return tf.matmul(tf.tanh(tf.matmul(self.x, self.w)), self.u)

  def jacobian(self, outputs):
    """d outputs / d weights, dense, from gradients one after the other."""
    rows = [tf.gradients(output, self.ws) for output in tf.unstack(
        tf.reshape(outputs, [12]))]
    return np.array([np.concatenate([part.ravel() for part in row])
                     for row in self.session.run(rows)])

  @parameterized.named_parameters(*graphs.KINDS)
  def test_softmax_cross_entropy(self, use_resource):
    logits = self.network(use_resource)
    labels = np.eye(3)[[0, 2, 1, 1]]
    loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=labels, logits=logits))
    log_p = tf.nn.log_softmax(logits)
    held = tf.stop_gradient(log_p)
    kl = tf.reduce_mean(tf.reduce_sum(tf.exp(held) * (held - log_p), 1))
    v = tf.placeholder(tf.float64, [None])
    v_t = _numbers(25)
    parts = gf.unflatten(v_t, self.ws)

    def build():
      return [
          gf.gauss_newton_vector_product(loss, logits, self.ws, v, flat=True),
          gf.fisher_vector_product(kl, logits, self.ws, v, flat=True),
          gf.fisher_vector_product(kl, [logits], self.ws, v_t, flat=True),
          gf.flatten(gf.gauss_newton_vector_product(
              loss, logits, self.ws, parts)),
          gf.flatten(gf.fisher_vector_product(
              kl, logits, {"w": self.w, "u": self.u},
              {"w": parts[0], "u": parts[1]})["w"])]

    built = build()
    count = self.count()
    for tensor, again in zip(built, build()):
      self.assertIs(tensor, again)
    self.assertEqual(self.count(), count)
    p = self.session.run(tf.nn.softmax(logits))
    jacobian = self.jacobian(logits).reshape(4, 3, 25)
    # The Fisher matrix of a categorical distribution is diag(p) - p p^T.
    expected = sum(
        j.T.dot((np.diag(row) - np.outer(row, row)).dot(j.dot(v_t)))
        for j, row in zip(jacobian, p)) / 4.0
    for result, right in zip(
        self.session.run(built, {v: v_t}), [expected] * 4 + [expected[:10]]):
      np.testing.assert_allclose(result, right, rtol=1e-9, atol=1e-12)
    # TRPO's own form, at the point where both are equal.
    np.testing.assert_allclose(
        self.session.run(gf.hvp(kl, self.ws, v_t, flat=True)), expected,
        rtol=1e-9, atol=1e-12)

  def test_least_squares(self):
    outputs = self.network()
    loss = tf.reduce_sum((outputs - _numbers(4, 3)) ** 2.0) / 2.0
    v_t = _numbers(25)
    jacobian = self.jacobian(outputs)
    np.testing.assert_allclose(
        self.session.run(gf.gauss_newton_vector_product(
            loss, outputs, self.ws, v_t, flat=True)),
        jacobian.T.dot(jacobian.dot(v_t)), rtol=1e-9)

  def test_against_dense_matrices(self):
    outputs = self.network()
    loss = tf.reduce_sum(tf.exp(outputs) * tf.cumsum(outputs, 1))
    z = tf.placeholder(tf.float64, [12])
    again = tf.reshape(z, [4, 3])
    hessian = self.session.run(
        tf.hessians(tf.reduce_sum(tf.exp(again) * tf.cumsum(again, 1)), z)[0],
        {z: self.session.run(outputs).ravel()})
    jacobian, v_t = self.jacobian(outputs), _numbers(25)
    expected = jacobian.T.dot(hessian.dot(jacobian.dot(v_t)))
    f = gf.function(self.ws, gf.gauss_newton_vector_product(
        loss, outputs, self.ws, v_t, flat=True), self.session)
    np.testing.assert_allclose(
        f(_numbers(2, 5), _numbers(5, 3)), expected, rtol=1e-9)
    self.assertGreater(np.abs(f(_numbers(2, 5), _numbers(5, 3) + 1.0) -
                              expected).max(), 1e-3)

  def test_mean_and_log_variance(self):
    """F of a normal distribution: 1 / var for its mean, 1/2 for the other."""
    mean = self.network()
    # The second is computed from the first: each is held where H is taken.
    log_var = tf.sin(mean) * 0.5
    held_mean, held_log_var = tf.stop_gradient(mean), tf.stop_gradient(log_var)
    kl = 0.5 * tf.reduce_sum(
        log_var - held_log_var - 1.0 + tf.exp(held_log_var - log_var) +
        (held_mean - mean) ** 2.0 / tf.exp(log_var))
    v_t = _numbers(25)
    product = gf.fisher_vector_product(
        kl, [mean, log_var], self.ws, v_t, flat=True)
    by_mean, by_log_var = self.jacobian(mean), self.jacobian(log_var)
    precision = np.exp(-self.session.run(log_var)).ravel()
    np.testing.assert_allclose(
        self.session.run(product),
        by_mean.T.dot(precision * by_mean.dot(v_t)) +
        by_log_var.T.dot(0.5 * by_log_var.dot(v_t)), rtol=1e-9)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_names_a_way_around_the_outputs(self, use_resource):
    logits = self.network(use_resource)
    decay = tf.square(self.w, name="decay")
    loss = tf.reduce_mean(tf.square(logits)) + tf.reduce_sum(decay)
    v_t = _numbers(25)
    count = self.count()
    with self.assertRaisesRegex(
        gf.ArgumentError, "(?s)'w:0'.*begins with 'decay'.*decay:0"):
      gf.gauss_newton_vector_product(loss, logits, self.ws, v_t, flat=True)
    self.assertEqual(self.count(), count)
    # Both ways out that the message has.
    expected, got = self.session.run([
        gf.gauss_newton_vector_product(
            tf.reduce_mean(tf.square(logits)), logits, self.ws, v_t, flat=True),
        gf.gauss_newton_vector_product(
            loss, logits, self.ws, v_t, stop_gradients=["decay:0"], flat=True)])
    np.testing.assert_allclose(got, expected, rtol=1e-12)

  def test_a_way_around_that_no_gradient_takes_is_none(self):
    logits = self.network()
    scale = tf.stop_gradient(tf.reduce_sum(tf.square(self.w)))
    loss = tf.reduce_sum(tf.square(logits)) * scale / 2.0
    v_t = _numbers(25)
    jacobian = self.jacobian(logits)
    np.testing.assert_allclose(
        self.session.run(gf.gauss_newton_vector_product(
            loss, logits, self.ws, v_t, flat=True)),
        np.sum(_numbers(2, 5) ** 2.0) * jacobian.T.dot(jacobian.dot(v_t)),
        rtol=1e-9)

  def test_refuses_a_kl_without_a_held_distribution(self):
    logits = self.network()
    p, log_p = tf.nn.softmax(logits), tf.nn.log_softmax(logits)
    kl = tf.reduce_sum(p * (tf.log(p) - log_p))
    old = tf.placeholder(tf.float64, [4, 3])
    count = self.count()
    with self.assertRaisesRegex(gf.ArgumentError, "held constant"):
      gf.fisher_vector_product(kl, logits, self.ws, _numbers(25), flat=True)
    self.assertEqual(self.count(), count)
    by_old = gf.fisher_vector_product(
        tf.reduce_sum(old * (tf.log(old) - log_p)), logits, self.ws,
        _numbers(25), flat=True)
    held = tf.stop_gradient(p)
    by_held = gf.fisher_vector_product(
        tf.reduce_sum(held * (tf.log(held) - log_p)), logits, self.ws,
        _numbers(25), flat=True)
    p_t = self.session.run(p)
    np.testing.assert_allclose(*self.session.run([by_old, by_held], {old: p_t}),
                               rtol=1e-9)

  def test_refuses_before_an_op_is_built(self):
    logits = self.network()
    loss = tf.reduce_sum(logits ** 2.0)
    count = self.count()
    for v, flat in [(np.ones(24), True), ([np.ones([2, 5])], False),
                    ([np.ones([2, 5]), np.ones([5, 2])], False)]:
      with self.assertRaises(gf.TangentError):
        gf.gauss_newton_vector_product(loss, logits, self.ws, v, flat=flat)
    self.assertEqual(self.count(), count)

  def test_through_a_loop(self):
    w = tf.placeholder(tf.float64, [2])
    _, outputs = tf.while_loop(
        lambda i, z: i < 3, lambda i, z: (i + 1, z * w), [0, w])
    loss = tf.reduce_sum(outputs ** 2.0) / 2.0
    w_t = np.array([1.5, -0.5])
    np.testing.assert_allclose(
        self.session.run(gf.gauss_newton_vector_product(
            loss, outputs, w, [1.0, 2.0]), {w: w_t}),
        (4.0 * w_t ** 3.0) ** 2.0 * [1.0, 2.0])
