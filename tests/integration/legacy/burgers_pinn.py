"""Burgers' equation by a physics-informed network, trained with L-BFGS."""

import numpy as np
from scipy import optimize
import tensorflow.compat.v1 as tf

NU = 0.01 / np.pi


class PhysicsInformedNN(object):

  def __init__(self, x_u, u, x_f, layers, lb, ub):
    self.lb = lb
    self.ub = ub
    self.x_u, self.t_u, self.u = x_u[:, 0:1], x_u[:, 1:2], u
    self.x_f, self.t_f = x_f[:, 0:1], x_f[:, 1:2]

    # Initialize NNs
    self.weights, self.biases = self.initialize_nn(layers)

    # tf placeholders and graph
    self.sess = tf.Session(config=tf.ConfigProto(
        allow_soft_placement=True, log_device_placement=False))
    self.x_u_tf = tf.placeholder(tf.float32, shape=[None, 1])
    self.t_u_tf = tf.placeholder(tf.float32, shape=[None, 1])
    self.u_tf = tf.placeholder(tf.float32, shape=[None, 1])
    self.x_f_tf = tf.placeholder(tf.float32, shape=[None, 1])
    self.t_f_tf = tf.placeholder(tf.float32, shape=[None, 1])

    self.u_pred = self.net_u(self.x_u_tf, self.t_u_tf)
    self.f_pred = self.net_f(self.x_f_tf, self.t_f_tf)
    self.loss = tf.reduce_mean(tf.square(self.u_tf - self.u_pred)) + (
        tf.reduce_mean(tf.square(self.f_pred)))

    # what ScipyOptimizerInterface does
    self.variables = self.weights + self.biases
    self.gradient = tf.concat([
        tf.reshape(g, [-1])
        for g in tf.gradients(self.loss, self.variables)], 0)
    self.packed = tf.concat(
        [tf.reshape(v, [-1]) for v in self.variables], 0)
    self.values = [tf.placeholder(tf.float32, v.get_shape())
                   for v in self.variables]
    self.updates = tf.group(*[
        tf.assign(v, value) for v, value in zip(self.variables, self.values)])

    self.optimizer_adam = tf.train.AdamOptimizer(1e-2)
    self.train_op_adam = self.optimizer_adam.minimize(
        self.loss, gate_gradients=tf.train.Optimizer.GATE_GRAPH)
    self.sess.run(tf.global_variables_initializer())

  def initialize_nn(self, layers):
    rng = np.random.RandomState(1234)
    weights, biases = [], []
    for l in range(len(layers) - 1):
      stddev = np.sqrt(2 / float(layers[l] + layers[l + 1]))
      weights.append(tf.Variable(tf.constant(
          stddev * rng.randn(layers[l], layers[l + 1]), dtype=tf.float32)))
      biases.append(tf.Variable(
          tf.zeros([1, layers[l + 1]], dtype=tf.float32)))
    return weights, biases

  def neural_net(self, x):
    h = 2.0 * (x - self.lb) / (self.ub - self.lb) - 1.0
    for w, b in zip(self.weights[:-1], self.biases[:-1]):
      h = tf.tanh(tf.add(tf.matmul(h, w), b))
    return tf.add(tf.matmul(h, self.weights[-1]), self.biases[-1])

  def net_u(self, x, t):
    return self.neural_net(tf.concat([x, t], 1))

  def net_f(self, x, t):
    u = self.net_u(x, t)
    u_t = tf.gradients(u, t)[0]
    u_x = tf.gradients(u, x)[0]
    u_xx = tf.gradients(u_x, x)[0]
    return u_t + u * u_x - NU * u_xx

  def assign(self, theta):
    feed_dict, start = {}, 0
    for value in self.values:
      size = int(np.prod(value.get_shape().as_list()))
      feed_dict[value] = theta[start:start + size].reshape(
          value.get_shape().as_list())
      start += size
    self.sess.run(self.updates, feed_dict=feed_dict)

  def train(self, nadam, maxiter, report):
    tf_dict = {self.x_u_tf: self.x_u, self.t_u_tf: self.t_u,
               self.u_tf: self.u, self.x_f_tf: self.x_f,
               self.t_f_tf: self.t_f}
    losses = []
    for _ in range(nadam):
      self.sess.run(self.train_op_adam, tf_dict)
      losses.append(self.sess.run(self.loss, tf_dict))

    def loss_and_gradient(theta):
      self.assign(theta)
      loss, gradient = self.sess.run([self.loss, self.gradient], tf_dict)
      report(len(losses), self.sess.graph)
      losses.append(loss)
      return np.float64(loss), gradient.astype(np.float64)

    theta, _, info = optimize.fmin_l_bfgs_b(
        loss_and_gradient, self.sess.run(self.packed).astype(np.float64),
        m=50, maxfun=2 * maxiter, maxiter=maxiter,
        factr=10.0 * np.finfo(float).eps)
    self.assign(theta)
    return np.array(losses), info["nit"]

  def predict(self, x_star):
    u_star = self.sess.run(self.u_pred, {
        self.x_u_tf: x_star[:, 0:1], self.t_u_tf: x_star[:, 1:2]})
    f_star = self.sess.run(self.f_pred, {
        self.x_f_tf: x_star[:, 0:1], self.t_f_tf: x_star[:, 1:2]})
    return u_star, f_star


def run(report):
  rng = np.random.RandomState(10)
  lb, ub = np.array([-1.0, 0.0]), np.array([1.0, 1.0])
  x0 = np.stack([rng.uniform(-1, 1, 30), np.zeros(30)], 1)
  edges = np.stack([rng.choice([-1.0, 1.0], 20), rng.uniform(0, 1, 20)], 1)
  x_u = np.concatenate([x0, edges])
  u = np.where(x_u[:, 1:] == 0.0, -np.sin(np.pi * x_u[:, :1]), 0.0)
  x_f = np.concatenate([lb + (ub - lb) * rng.rand(300, 2), x_u])
  model = PhysicsInformedNN(x_u, u, x_f, [2, 16, 16, 16, 1], lb, ub)
  losses, iterations = model.train(20, 120, report)
  grid = np.stack(np.meshgrid(
      np.linspace(-1, 1, 11), np.linspace(0, 1, 5)), -1).reshape(-1, 2)
  u_star, f_star = model.predict(grid)
  model.sess.close()
  return {"losses": losses, "iterations": np.array(iterations),
          "u_star": u_star, "f_star": f_star}


def main(_):
  results = run(lambda step, graph: None)
  print("loss", results["losses"][0], "to", results["losses"][-1])


if __name__ == "__main__":
  tf.disable_v2_behavior()
  tf.app.run()
