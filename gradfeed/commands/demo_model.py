"""The model of the demonstration: a small TF1 classifier, and its training."""

import numpy as np

from gradfeed._tf import tf

#: Class 0 lies around 0, class 1 around it on both sides, class 2 farther out.
CLASSES = 3
_DISTANCES = (0.0, 1.3, 2.4)


class Classifier:
  """A softmax classifier of points on a line, in the default graph.

  Attributes:
    x: float64 placeholder, `[?]`, the points.
    labels: int64 placeholder, `[?]`.
    width: float64 resource variable, `[]`: how fast the bell falls off.
    h: float64 tensor, `[?]`: the square of x / width, a layer in the middle;
      or the one that was given.
    weights, biases: float64 variables, `[1, 3]` and `[3]`.
    loss: float64 tensor, `[]`: the mean cross entropy.
    accuracy: float64 tensor, `[]`: the share of points that are right.
    train_op: one step of gradient descent.
    saver: `tf.train.Saver`.
  """

  def __init__(self, h=None):
    """Builds it.

    Args:
      h: tensor to take in the place of the layer in the middle, or None.
    """
    self.x = tf.placeholder(tf.float64, [None], name="x")
    self.labels = tf.placeholder(tf.int64, [None], name="labels")
    self.width = tf.get_variable(
        "width", [], tf.float64, tf.ones_initializer(), use_resource=True)
    scaled = self.x / self.width
    self.h = tf.multiply(scaled, scaled, name="h") if h is None else h
    bell = tf.exp(-self.h)
    self.weights = tf.get_variable(
        "weights", [1, CLASSES], tf.float64, tf.zeros_initializer())
    self.biases = tf.get_variable(
        "biases", [CLASSES], tf.float64, tf.zeros_initializer())
    logits = tf.matmul(tf.expand_dims(bell, 1), self.weights) + self.biases
    self.loss = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=self.labels, logits=logits), name="loss")
    self.accuracy = tf.reduce_mean(tf.cast(
        tf.equal(tf.argmax(logits, 1), self.labels), tf.float64))
    self.train_op = tf.train.GradientDescentOptimizer(0.5).minimize(self.loss)
    self.saver = tf.train.Saver()


def make_points(seed, count=600):
  """Draws points on a line, and their classes.

  Args:
    seed: int.
    count: int, how many.

  Returns:
    (float64 `[count]`, int64 `[count]`).
  """
  random = np.random.RandomState(seed)
  labels = random.randint(CLASSES, size=count).astype(np.int64)
  sides = random.choice([-1.0, 1.0], size=count)
  noise = 0.35 * random.standard_normal(count)
  return sides * np.array(_DISTANCES)[labels] + noise, labels


def train(seed, steps, path):
  """Trains a classifier in a graph of its own and saves a checkpoint.

  Args:
    seed: int, of the points.
    steps: int, steps of gradient descent.
    path: str, what the checkpoint's files begin with.

  Returns:
    (loss, accuracy) on the points, after the last step.
  """
  points, labels = make_points(seed)
  with tf.Graph().as_default(), tf.Session() as session:
    model = Classifier()
    session.run(tf.global_variables_initializer())
    feed = {model.x: points, model.labels: labels}
    for _ in range(steps):
      session.run(model.train_op, feed)
    model.saver.save(session, path, write_meta_graph=False)
    return session.run((model.loss, model.accuracy), feed)
