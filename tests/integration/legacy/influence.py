"""Influence functions: which training points a test point's loss hangs on."""

import numpy as np
from scipy import optimize
import tensorflow.compat.v1 as tf

DAMPING = 1e-2
BATCH_SIZE = 40


def hessian_vector_product(ys, xs, v):
  """Multiplies the Hessian of ys w.r.t. xs by v."""
  length = len(xs)
  if len(v) != length:
    raise ValueError("xs and v must have the same length.")
  # First backprop
  grads = tf.gradients(ys, xs)
  assert len(grads) == length
  elemwise_products = [
      tf.multiply(grad_elem, tf.stop_gradient(v_elem))
      for grad_elem, v_elem in zip(grads, v) if grad_elem is not None]
  # Second backprop
  grads_with_none = tf.gradients(elemwise_products, xs)
  return [grad_elem if grad_elem is not None else tf.zeros_like(x)
          for x, grad_elem in zip(xs, grads_with_none)]


class GenericNeuralNet(object):

  def __init__(self, train_x, train_y, test_x, test_y):
    self.train_x, self.train_y = train_x, train_y
    self.test_x, self.test_y = test_x, test_y
    self.sess = tf.Session(config=tf.ConfigProto())

    self.input_placeholder = tf.placeholder(
        tf.float32, shape=(None, train_x.shape[1]), name="input_placeholder")
    self.labels_placeholder = tf.placeholder(
        tf.int32, shape=(None,), name="labels_placeholder")
    self.keep_prob = tf.placeholder(tf.float32, name="keep_prob")
    self.logits = self.inference(self.input_placeholder)
    labels = tf.one_hot(self.labels_placeholder, depth=3)
    self.indiv_loss = -tf.reduce_sum(
        tf.multiply(labels, tf.nn.log_softmax(self.logits)), axis=1)
    self.loss_no_reg = tf.reduce_mean(self.indiv_loss, name="xentropy")
    tf.add_to_collection("losses", self.loss_no_reg)
    self.total_loss = tf.add_n(tf.get_collection("losses"), name="total_loss")

    self.learning_rate = tf.Variable(0.5, name="learning_rate",
                                     trainable=False)
    self.train_op = tf.train.GradientDescentOptimizer(
        self.learning_rate).minimize(self.total_loss)

    # Setup gradients and Hessians
    self.params = tf.trainable_variables()
    self.grad_total_loss_op = tf.gradients(self.total_loss, self.params)
    self.grad_loss_no_reg_op = tf.gradients(self.loss_no_reg, self.params)
    self.v_placeholder = [
        tf.placeholder(tf.float32, shape=a.get_shape()) for a in self.params]
    self.hessian_vector = hessian_vector_product(
        self.total_loss, self.params, self.v_placeholder)
    self.influence_op = tf.add_n([
        tf.reduce_sum(tf.multiply(a, tf.stop_gradient(b)))
        for a, b in zip(self.grad_total_loss_op, self.v_placeholder)])
    self.grad_influence_wrt_input_op = tf.gradients(
        self.influence_op, self.input_placeholder)
    self.sess.run(tf.global_variables_initializer())

  def inference(self, x):
    rng = np.random.RandomState(8)
    for i, (rows, columns) in enumerate([(self.train_x.shape[1], 8), (8, 3)]):
      with tf.variable_scope("h%d" % i):
        weights = tf.get_variable("weights", initializer=(
            rng.randn(rows, columns) * 0.4).astype(np.float32))
        biases = tf.get_variable(
            "biases", [columns], initializer=tf.constant_initializer(0.0))
        tf.add_to_collection(
            "losses", tf.multiply(tf.nn.l2_loss(weights), 0.01))
        x = tf.matmul(x, weights) + biases
        if i == 0:
          x = tf.nn.dropout(tf.tanh(x), keep_prob=self.keep_prob)
    return x

  def fill_feed_dict(self, x, y):
    return {self.input_placeholder: x, self.labels_placeholder: y,
            self.keep_prob: 1.0}

  def train(self, num_steps):
    for _ in range(num_steps):
      self.sess.run(self.train_op, feed_dict=self.fill_feed_dict(
          self.train_x, self.train_y))

  def vec_to_list(self, v):
    return_list, position = [], 0
    for shape in [p.get_shape().as_list() for p in self.params]:
      size = int(np.prod(shape))
      return_list.append(v[position:position + size].reshape(shape))
      position += size
    return return_list

  def minibatch_hessian_vector_val(self, v):
    num_iter = len(self.train_x) // BATCH_SIZE
    hessian_vector_val = None
    for i in range(num_iter):
      rows = slice(i * BATCH_SIZE, (i + 1) * BATCH_SIZE)
      feed_dict = self.fill_feed_dict(self.train_x[rows], self.train_y[rows])
      for pl_block, vec_block in zip(self.v_placeholder, v):
        feed_dict[pl_block] = vec_block
      temp = self.sess.run(self.hessian_vector, feed_dict=feed_dict)
      if hessian_vector_val is None:
        hessian_vector_val = [b / float(num_iter) for b in temp]
      else:
        hessian_vector_val = [
            a + (b / float(num_iter))
            for a, b in zip(hessian_vector_val, temp)]
    return [a + DAMPING * b for a, b in zip(hessian_vector_val, v)]

  def get_inverse_hvp_cg(self, v):
    flat_v = np.concatenate([a.ravel() for a in v]).astype(np.float64)

    def hvp(x):
      return np.concatenate([a.ravel() for a in
                             self.minibatch_hessian_vector_val(
                                 self.vec_to_list(x.astype(np.float32)))])

    def fmin_loss(x):
      return 0.5 * np.dot(hvp(x), x) - np.dot(flat_v, x)

    return self.vec_to_list(optimize.fmin_ncg(
        f=fmin_loss, x0=flat_v, fprime=lambda x: hvp(x) - flat_v,
        fhess_p=lambda x, p: hvp(p), avextol=1e-6, maxiter=4, disp=False))

  def get_inverse_hvp_lissa(self, v, scale=10.0, recursion_depth=60):
    rng = np.random.RandomState(9)
    cur_estimate = v
    for _ in range(recursion_depth):
      rows = rng.choice(len(self.train_x), 10, replace=False)
      feed_dict = self.fill_feed_dict(self.train_x[rows], self.train_y[rows])
      feed_dict.update(zip(self.v_placeholder, cur_estimate))
      hessian_vector_val = self.sess.run(
          self.hessian_vector, feed_dict=feed_dict)
      cur_estimate = [a + (1 - DAMPING) * b - c / scale for a, b, c in
                      zip(v, cur_estimate, hessian_vector_val)]
    return [a / scale for a in cur_estimate]

  def get_influence(self, test_index, inverse_hvp):
    test_grad = self.sess.run(self.grad_loss_no_reg_op, self.fill_feed_dict(
        self.test_x[test_index:test_index + 1],
        self.test_y[test_index:test_index + 1]))
    ihvp = inverse_hvp(test_grad)
    predicted = np.zeros(len(self.train_x))
    for i in range(len(self.train_x)):
      train_grad = self.sess.run(self.grad_total_loss_op, self.fill_feed_dict(
          self.train_x[i:i + 1], self.train_y[i:i + 1]))
      predicted[i] = sum(
          np.sum(a * b) for a, b in zip(ihvp, train_grad)) / len(self.train_x)
    return ihvp, predicted

  def get_grad_of_influence_wrt_input(self, rows, ihvp):
    grads = []
    for row in rows:
      feed_dict = self.fill_feed_dict(
          self.train_x[row:row + 1], self.train_y[row:row + 1])
      for pl_block, vec_block in zip(self.v_placeholder, ihvp):
        feed_dict[pl_block] = vec_block
      grads.append(self.sess.run(
          self.grad_influence_wrt_input_op, feed_dict=feed_dict)[0][0, :])
    return np.array(grads)


def make_data(count, rng):
  labels = rng.randint(3, size=count)
  centers = np.array([[2, 0, 0, 1, 0], [0, 2, 0, 0, 1], [0, 0, 2, 1, 1]])
  return (centers[labels] + rng.randn(count, 5)).astype(np.float32), labels


def run(report):
  rng = np.random.RandomState(7)
  train_x, train_y = make_data(120, rng)
  test_x, test_y = make_data(3, rng)
  model = GenericNeuralNet(train_x, train_y, test_x, test_y)
  model.train(150)
  results = {}
  for i in range(3):
    solve = model.get_inverse_hvp_lissa if i else model.get_inverse_hvp_cg
    ihvp, predicted = model.get_influence(i, solve)
    helpful = np.argsort(predicted)[-3:]
    results["influence_%d" % i] = predicted
    results["ihvp_%d" % i] = np.concatenate([a.ravel() for a in ihvp])
    results["by_input_%d" % i] = model.get_grad_of_influence_wrt_input(
        helpful, ihvp)
    report(i, model.sess.graph)
  results["loss"] = model.sess.run(
      model.total_loss, model.fill_feed_dict(train_x, train_y))
  model.sess.close()
  return results


def main(_):
  results = run(lambda step, graph: None)
  print("loss", results["loss"])
  print("most helpful", np.argsort(results["influence_0"])[-3:])


if __name__ == "__main__":
  tf.disable_v2_behavior()
  tf.app.run()
