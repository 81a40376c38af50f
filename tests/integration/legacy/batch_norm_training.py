"""Batch norm with in-place updates, trained in a monitored session."""

import os
import shutil
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf

from tests.integration.legacy import input_data

BATCH_SIZE = 32
STEPS = 40


def batch_norm(x, is_training, name, decay=0.9, epsilon=1e-3):
  """As contrib.layers.batch_norm(updates_collections=None) does it."""
  size = x.shape.as_list()[-1]
  with tf.variable_scope(name):
    beta = tf.get_variable(
        "beta", [size], initializer=tf.zeros_initializer())
    gamma = tf.get_variable(
        "gamma", [size], initializer=tf.ones_initializer())
    moving_mean = tf.get_variable(
        "moving_mean", [size], initializer=tf.zeros_initializer(),
        trainable=False)
    moving_variance = tf.get_variable(
        "moving_variance", [size], initializer=tf.ones_initializer(),
        trainable=False)
    batch_mean, batch_variance = tf.nn.moments(
        x, list(range(len(x.shape) - 1)), name="moments")

    def force_updates():
      update_mean = tf.assign_sub(
          moving_mean, (1 - decay) * (moving_mean - batch_mean))
      update_variance = tf.assign_sub(
          moving_variance,
          (1 - decay) * (moving_variance - batch_variance))
      with tf.control_dependencies([update_mean, update_variance]):
        return tf.identity(batch_mean), tf.identity(batch_variance)

    mean, variance = tf.cond(
        is_training, force_updates,
        lambda: (tf.identity(moving_mean), tf.identity(moving_variance)))
    return tf.nn.batch_normalization(
        x, mean, variance, beta, gamma, epsilon)


def conv(x, size, filters, name, rng):
  n_in = x.shape.as_list()[-1]
  w = tf.get_variable(name, initializer=(rng.randn(
      size, size, n_in, filters) / (size * np.sqrt(n_in))).astype(np.float32))
  return tf.nn.conv2d(x, w, [1, 2, 2, 1], "SAME")


def network(images, is_training, rng):
  h = tf.nn.relu(batch_norm(
      conv(images, 3, 8, "conv1", rng), is_training, "bn1"))
  h = tf.nn.relu(batch_norm(
      conv(h, 3, 16, "conv2", rng), is_training, "bn2"))
  pooled = tf.reduce_mean(h, [1, 2])
  w = tf.get_variable("logits/w", initializer=(
      rng.randn(16, 10) * 0.3).astype(np.float32))
  b = tf.get_variable("logits/b", [10], initializer=tf.zeros_initializer())
  return tf.nn.xw_plus_b(pooled, w, b)


class LossHook(tf.train.SessionRunHook):
  """Asks for the loss with each run, and counts the runs."""

  def __init__(self, loss, global_step):
    self._loss = loss
    self._global_step = global_step
    self.losses = []
    self.counts = {"before": 0, "after": 0, "end": 0}

  def before_run(self, run_context):
    self.counts["before"] += 1
    return tf.train.SessionRunArgs([self._loss])

  def after_run(self, run_context, run_values):
    self.counts["after"] += 1
    self.losses.append(run_values.results[0])

  def end(self, session):
    self.counts["end"] += 1
    self.last_step = session.run(self._global_step)


def run(report):
  data = input_data.DataSet(*input_data.digits(300, seed=16))
  test_images, test_labels = input_data.digits(6, seed=17)
  folder = tempfile.mkdtemp()
  with tf.Graph().as_default() as graph:
    images = tf.placeholder(tf.float32, [None, 12, 12, 1], name="images")
    labels = tf.placeholder(tf.int32, [None], name="labels")
    is_training = tf.placeholder(tf.bool, [], name="is_training")
    logits = network(images, is_training, np.random.RandomState(18))
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    global_step = tf.train.get_or_create_global_step()
    train_op = tf.train.MomentumOptimizer(0.05, 0.9).minimize(
        loss, global_step=global_step)
    saliency = tf.gradients(
        tf.reduce_max(logits, 1), images, name="saliency")[0]
    moving = [v for v in tf.global_variables() if "moving_" in v.name]

    hook = LossHook(loss, global_step)
    hooks = [hook, tf.train.StopAtStepHook(last_step=STEPS),
             tf.train.NanTensorHook(loss),
             tf.train.CheckpointSaverHook(folder, save_steps=15)]
    losses, accuracies = [], []
    with tf.train.MonitoredTrainingSession(
        checkpoint_dir=None, hooks=hooks,
        log_step_count_steps=None) as session:
      while not session.should_stop():
        x, y = data.next_batch(BATCH_SIZE)
        batch_loss, _ = session.run(
            [loss, train_op], {images: x, labels: y, is_training: True})
        losses.append(batch_loss)
        report(len(losses), graph)
    with tf.Session() as session:
      saver = tf.train.Saver()
      saver.restore(session, tf.train.latest_checkpoint(folder))
      maps = [
          session.run(saliency, feed_dict={
              images: test_images[i:i + 1], labels: test_labels[i:i + 1],
              is_training: False}) for i in range(len(test_images))]
      in_training = session.run(
          saliency,
          {images: test_images, is_training: True, labels: test_labels})
      averages = session.run(moving)
      accuracies.append(np.mean(np.argmax(session.run(
          logits, {images: data.images, is_training: False}), 1) ==
                                data.labels))
    checkpoints = sorted(
        name for name in os.listdir(folder) if name.endswith(".index"))
  shutil.rmtree(folder)
  return {"losses": np.array(losses), "hook_losses": np.array(hook.losses),
          "hook_counts": np.array(sorted(hook.counts.items())),
          "last_step": hook.last_step, "checkpoints": np.array(checkpoints),
          "maps": np.concatenate(maps), "in_training": in_training,
          "averages": np.concatenate(averages),
          "accuracy": np.array(accuracies)}


def main(_):
  results = run(lambda step, graph: None)
  print("loss", results["losses"][0], "to", results["losses"][-1])
  print("accuracy", results["accuracy"], "checkpoints", results["checkpoints"])


if __name__ == "__main__":
  tf.app.run()
