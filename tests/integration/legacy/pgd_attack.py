"""Adversarial training: projected gradient descent on an image classifier."""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.integration.legacy import input_data

EPSILON = 0.3
STEP_SIZE = 0.05
ATTACK_STEPS = 10
TRAINING_STEPS = 25
BATCH_SIZE = 32


def _weight_variable(shape, rng):
  initial = rng.randn(*shape) * 0.1
  return tf.Variable(initial.astype(np.float32))


def _bias_variable(shape):
  return tf.Variable(tf.constant(0.1, shape=shape))


def _max_pool_2x2(x):
  return tf.nn.max_pool(
      x, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")


class Model(object):

  def __init__(self, rng):
    self.x_input = tf.placeholder(tf.float32, shape=[None, 12, 12, 1])
    self.y_input = tf.placeholder(tf.int64, shape=[None])

    w_conv1 = _weight_variable([5, 5, 1, 8], rng)
    h_conv1 = tf.nn.relu(tf.nn.conv2d(
        self.x_input, w_conv1, strides=[1, 1, 1, 1], padding="SAME"
    ) + _bias_variable([8]))
    h_pool1 = _max_pool_2x2(h_conv1)

    w_conv2 = _weight_variable([5, 5, 8, 16], rng)
    h_conv2 = tf.nn.relu(tf.nn.conv2d(
        h_pool1, w_conv2, strides=[1, 1, 1, 1], padding="SAME"
    ) + _bias_variable([16]))
    h_pool2 = _max_pool_2x2(h_conv2)

    w_fc1 = _weight_variable([3 * 3 * 16, 32], rng)
    h_flat = tf.reshape(h_pool2, [-1, 3 * 3 * 16])
    h_fc1 = tf.nn.relu(tf.matmul(h_flat, w_fc1) + _bias_variable([32]))
    w_fc2 = _weight_variable([32, 10], rng)
    self.pre_softmax = tf.matmul(h_fc1, w_fc2) + _bias_variable([10])

    y_xent = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=self.y_input, logits=self.pre_softmax)
    self.xent = tf.reduce_sum(y_xent)
    self.y_pred = tf.argmax(self.pre_softmax, 1)
    correct_prediction = tf.equal(self.y_pred, self.y_input)
    self.num_correct = tf.reduce_sum(tf.cast(correct_prediction, tf.int64))
    self.accuracy = tf.reduce_mean(tf.cast(correct_prediction, tf.float32))


class LinfPGDAttack(object):

  def __init__(self, model, epsilon, k, a, random_start, loss_func):
    self.model = model
    self.epsilon = epsilon
    self.k = k
    self.a = a
    self.rand = random_start
    if loss_func == "xent":
      loss = model.xent
    elif loss_func == "cw":
      label_mask = tf.one_hot(
          model.y_input, 10, on_value=1.0, off_value=0.0, dtype=tf.float32)
      correct_logit = tf.reduce_sum(label_mask * model.pre_softmax, axis=1)
      wrong_logit = tf.reduce_max(
          (1 - label_mask) * model.pre_softmax - 1e4 * label_mask, axis=1)
      loss = -tf.nn.relu(correct_logit - wrong_logit + 50)
    else:
      raise ValueError("Unknown loss function " + loss_func)
    self.grad = tf.gradients(loss, model.x_input)[0]

  def perturb(self, x_nat, y, sess):
    if self.rand:
      x = x_nat + np.random.uniform(-self.epsilon, self.epsilon, x_nat.shape)
    else:
      x = np.copy(x_nat)
    for _ in range(self.k):
      grad = sess.run(self.grad, feed_dict={self.model.x_input: x,
                                            self.model.y_input: y})
      x += self.a * np.sign(grad)
      x = np.clip(x, x_nat - self.epsilon, x_nat + self.epsilon)
      x = np.clip(x, 0, 1)
    return x


def run(report):
  np.random.seed(451760341)
  tf.set_random_seed(451760341)
  train = input_data.DataSet(*input_data.digits(400, seed=1))
  test_x, test_y = input_data.digits(64, seed=2)

  global_step = tf.train.get_or_create_global_step()
  model = Model(np.random.RandomState(3))
  train_step = tf.train.AdamOptimizer(1e-3).minimize(
      model.xent, global_step=global_step)
  attack = LinfPGDAttack(
      model, EPSILON, ATTACK_STEPS, STEP_SIZE, True, "xent")
  evaluation_attack = LinfPGDAttack(
      model, EPSILON, 2 * ATTACK_STEPS, STEP_SIZE, False, "cw")

  losses, accuracies = [], []
  with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    for step in range(TRAINING_STEPS):
      x_batch, y_batch = train.next_batch(BATCH_SIZE)
      x_batch_adv = attack.perturb(x_batch, y_batch, sess)
      nat_dict = {model.x_input: x_batch, model.y_input: y_batch}
      adv_dict = {model.x_input: x_batch_adv, model.y_input: y_batch}
      if step % 5 == 0:
        accuracies.append([sess.run(model.accuracy, feed_dict=nat_dict),
                           sess.run(model.accuracy, feed_dict=adv_dict)])
      losses.append(sess.run(model.xent, feed_dict=adv_dict))
      sess.run(train_step, feed_dict=adv_dict)
      report(step, sess.graph)

    x_adv = evaluation_attack.perturb(test_x, test_y, sess)
    num_correct, y_pred = sess.run(
        [model.num_correct, model.y_pred],
        feed_dict={model.x_input: x_adv, model.y_input: test_y})
    steps = sess.run(global_step)
  return {"losses": np.array(losses), "accuracies": np.array(accuracies),
          "x_adv": x_adv, "num_correct": num_correct, "y_pred": y_pred,
          "steps": steps}


def main(_):
  results = run(lambda step, graph: None)
  print("loss", results["losses"][0], "to", results["losses"][-1])
  print("robust accuracy", results["num_correct"] / 64.0)


if __name__ == "__main__":
  tf.disable_v2_behavior()
  tf.app.run()
