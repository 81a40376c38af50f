"""Graphs in files, for the tests of the commands."""

import tensorflow.compat.v1 as tf

from tests.testing import folders


class GraphFileTest(folders.FolderTest):
  """A folder for files, and graphs in them."""

  def write_graph(self, build):
    """Saves the graph that `build` makes, frozen, under its path."""
    with tf.Graph().as_default() as graph:
      build()
      path = self.path("model.pb")
      with open(path, "wb") as output:
        output.write(graph.as_graph_def().SerializeToString())
    return path


def cubes():
  """y = scale * x^3, with x of any batch and two columns."""
  x = tf.placeholder(tf.float32, [None, 2], name="x")
  scale = tf.placeholder_with_default(1.0, [], name="scale")
  tf.multiply(scale, x ** 3, name="y")
  tf.multiply(tf.placeholder(tf.float32, [], name="needed"), x, name="z")
  tf.nn.softmax(tf.log(x), name="chances")


def ways():
  """An x with a way to y, with one that is blocked, and with both."""
  x = tf.placeholder(tf.float32, [None, 2], name="x")
  tf.multiply(x, x, name="good")
  steps = tf.floor(x, name="floor")
  tf.multiply(steps, 2.0, name="bad")
  tf.multiply(steps, x, name="partly")
