"""Hamiltonian Monte Carlo on the posterior of a logistic regression."""

import numpy as np
import tensorflow.compat.v1 as tf

SAMPLES = 60
LEAPFROG_STEPS = 12
STEP_SIZE = 0.06


class Posterior(object):
  """Energy and gradient by a feed; the scale has a Gamma prior."""

  def __init__(self, features, labels, sess):
    self.sess = sess
    self.x = tf.constant(features, tf.float64)
    self.y = tf.constant(labels, tf.float64)
    self.position = tf.placeholder(tf.float64, [features.shape[1] + 1])
    weights, log_alpha = self.position[:-1], self.position[-1]
    logits = tf.reshape(
        tf.matmul(self.x, tf.reshape(weights, [-1, 1])), [-1])
    log_likelihood = -tf.reduce_sum(
        tf.nn.sigmoid_cross_entropy_with_logits(labels=self.y, logits=logits))
    alpha = tf.exp(log_alpha)
    log_prior = (0.5 * features.shape[1] * log_alpha -
                 0.5 * alpha * tf.reduce_sum(weights ** 2) +
                 1.0 * log_alpha - 0.5 * alpha - tf.lgamma(
                     tf.constant(2.0, tf.float64)))
    self.energy = -log_likelihood - log_prior
    self.gradient = tf.gradients(self.energy, self.position)[0]

  def U(self, q):
    return self.sess.run(self.energy, {self.position: q})

  def dU(self, q):
    return self.sess.run(self.gradient, {self.position: q})


def leapfrog(posterior, q, p, epsilon, steps):
  q, p = q.copy(), p.copy()
  p -= 0.5 * epsilon * posterior.dU(q)
  for i in range(steps):
    q += epsilon * p
    if i < steps - 1:
      p -= epsilon * posterior.dU(q)
  p -= 0.5 * epsilon * posterior.dU(q)
  return q, -p


def sample(posterior, q, rng, report):
  chain, energies, accepted = [], [], 0
  for i in range(SAMPLES):
    p = rng.randn(len(q))
    current = posterior.U(q) + 0.5 * p.dot(p)
    new_q, new_p = leapfrog(posterior, q, p, STEP_SIZE, LEAPFROG_STEPS)
    proposed = posterior.U(new_q) + 0.5 * new_p.dot(new_p)
    if np.log(rng.rand()) < current - proposed:
      q, accepted = new_q, accepted + 1
    chain.append(q)
    energies.append(posterior.U(q))
    report(i, posterior.sess.graph)
  return np.array(chain), np.array(energies), accepted


def run(report):
  rng = np.random.RandomState(12)
  features = rng.randn(200, 4)
  logits = features.dot([1.0, -2.0, 0.5, 0.0])
  labels = (rng.rand(200) < 1 / (1 + np.exp(-logits))).astype(float)
  with tf.Graph().as_default() as graph:
    sess = tf.Session(graph=graph)
    posterior = Posterior(features, labels, sess)
    chain, energies, accepted = sample(posterior, np.zeros(5), rng, report)
    hessian = sess.run(
        tf.hessians(posterior.energy, posterior.position)[0],
        {posterior.position: chain[-20:].mean(0)})
  sess.close()
  return {"chain": chain, "energies": energies, "hessian": hessian,
          "accepted": np.array(accepted)}


def main(_):
  results = run(lambda step, graph: None)
  print("accepted", results["accepted"], "of", SAMPLES)
  print("weights", results["chain"][SAMPLES // 3:].mean(0))


if __name__ == "__main__":
  tf.app.run()
