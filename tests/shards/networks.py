"""A model on disk and points in files, whose gradients are closed forms."""

import os

import numpy as np
import tensorflow.compat.v1 as tf

from tests.testing import folders
from tests.testing import graphs

#: dy/dx of the model is 3 * FACTOR * x ** 2.
FACTOR = 2.0


def gradient(x, factor=FACTOR):
  return 3.0 * factor * np.asarray(x) ** 2


class ShardTest(folders.FolderTest, graphs.GraphTest):
  """A folder with a model "m.pb", y = FACTOR * sum(x ** 3) for each row."""

  def setUp(self):
    super().setUp()
    self.model = self.write_model("m.pb")

  def write_model(self, name, factor=FACTOR, coupled=False):
    """Writes a frozen graph with x, y, a weight for each row, and a check."""
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, [None, 2], name="x")
      rows = x - tf.reduce_mean(x, 0) if coupled else x
      y = tf.multiply(tf.reduce_sum(rows ** 3, 1), factor, name="y")
      weight = tf.placeholder(tf.float64, [None], name="weight")
      tf.multiply(y, weight, name="weighted")
      tf.multiply(y, tf.placeholder(tf.float64, [], name="scale"),
                  name="scaled")
      tf.stack([y, 2 * y, 3 * y], axis=1, name="scores")
      tf.train.write_graph(graph, self.folder, name, as_text=False)
    return self.path(name)

  def points(self, count=50, seed=0):
    return np.random.RandomState(seed).uniform(0.5, 1.5, [count, 2])

  def save_parts(self, name, points, sizes):
    """Saves rows in files NAME-0.npy, ...; returns the pattern of them."""
    start = 0
    for i, size in enumerate(sizes):
      self.save("{}-{}.npy".format(name, i), points[start:start + size])
      start += size
    return self.path(name + "-*.npy")

  def write_records(self, name, points):
    with tf.io.TFRecordWriter(self.path(name)) as writer:
      for point in points:
        writer.write(tf.train.Example(features=tf.train.Features(feature={
            "x": tf.train.Feature(float_list=tf.train.FloatList(
                value=point))})).SerializeToString())
    return self.path(name)

  def results(self, task):
    """The rows of all shards, one after the other."""
    return np.concatenate([np.load(task.paths(i)[0])
                           for i in range(len(task))])


def write_inputs_of_page(folder):
  """Writes what docs/cluster.md writes before the programs for engines.

  Args:
    folder: str.

  Returns:
    array with the gradients, float64.
  """
  with tf.Graph().as_default() as graph:
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    tf.matmul(tf.tanh(x), tf.ones([3, 2]), name="logits")
    tf.io.write_graph(graph, folder, "model.pb", as_text=False)
  rows = np.random.RandomState(0).normal(size=[1000, 3]).astype(np.float32)
  for i in range(4):
    np.save(os.path.join(folder, "x-{}.npy".format(i)),
            rows[250 * i:250 * i + 250])
  return 1.0 - np.tanh(rows.astype(np.float64)) ** 2
