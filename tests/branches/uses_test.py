"""Streams and commands with a flag that is held: rows of the branch alone."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows
from tests.testing import folders
from tests.testing import graphs
from tests.testing import modes
from tests.testing import processes

_FLOWS = (("v1", 1), ("v2", 2))


def _centered(flag):
  """x and y of a network that mixes rows and draws numbers to train."""
  x = tf.placeholder(tf.float32, [None, 3], name="x")
  h = tf.cond(flag, lambda: x - tf.reduce_mean(x, 0) + tf.random_uniform([3]),
              lambda: x - 0.5)
  return x, tf.reduce_sum(h ** 3, 1, name="y")


class UsesTest(folders.FolderTest, graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.points = np.random.RandomState(0).normal(size=[12, 3]).astype(
        np.float32)
    self.expected = 3 * (self.points - np.float32(0.5)) ** 2

  @parameterized.named_parameters(*_FLOWS)
  def test_stream(self, version):
    flag = tf.placeholder(tf.bool, [], name="flag")
    with flows.control_flow(version):
      x, y = _centered(flag)
    dx = gf.gradient(y, x)
    f = gf.function(x, dx, self.session, feed_dict={flag: False})
    gf.stream(f, self.points, self.path("out.npy"), chunk=5)
    np.testing.assert_allclose(
        np.load(self.path("out.npy")), self.expected, 1e-5)
    f = gf.function(x, dx, self.session, feed_dict={flag: True})
    with self.assertRaises(gf.CoupledRowsError):
      gf.stream(f, self.points, self.path("other.npy"), chunk=5)

  @parameterized.named_parameters(*_FLOWS)
  @modes.without_mode
  def test_commands(self, version):
    with tf.Graph().as_default() as graph, flows.control_flow(version):
      _centered(tf.placeholder(tf.bool, [], name="flag"))
      with open(self.path("model.pb"), "wb") as output:
        output.write(graph.as_graph_def().SerializeToString())
    points = self.save("points.npy", self.points)
    model = ["--graph=" + self.path("model.pb"), "--y=y:0", "--x=x:0"]
    done = processes.gradfeed(
        "at", *model, "--points=" + points, "--feed=flag:0=false",
        "--output=" + self.path("out.npy"))
    self.assertEqual(done.returncode, 0, done.stderr)
    np.testing.assert_allclose(
        np.load(self.path("out.npy")), self.expected, 1e-5)
    for command, more in (("check", ["--points=" + points]), ("explain", [])):
      done = processes.gradfeed(
          command, *(model + more + ["--feed=flag:0=false"]))
      self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
      self.assertNotIn("draws numbers", done.stdout)
    done = processes.gradfeed("explain", *(model + ["--feed=flag:0=true"]))
    self.assertIn("draws numbers", done.stdout)
