"""`gradfeed compare`: two models on disk, a verdict, an exit status."""

import json
import os

import numpy as np
import tensorflow.compat.v1 as tf

from tests.testing import folders
from tests.testing import processes


class CompareCommandTest(folders.FolderTest):

  def setUp(self):
    super().setUp()
    for name, factor in (("old", 2.0), ("new", 2.0), ("wrong", 2.02)):
      with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        hidden = tf.tanh(x, name="hidden")
        scaled = tf.multiply(hidden, factor, name="scaled")
        tf.reduce_sum(scaled ** 2, 1, name="y")
        with open(self.path(name + ".pb"), "wb") as output:
          output.write(graph.as_graph_def().SerializeToString())
    self.save("points.npy", np.random.RandomState(0).normal(size=(4, 3)))

  def _compare(self, new, *arguments):
    return processes.gradfeed(
        "compare", "--graph=" + self.path("old.pb"),
        "--new=" + self.path(new), "--y=y:0", "--x=x:0",
        "--points=" + self.path("points.npy"), *arguments)

  def test_agrees(self):
    done = self._compare("new.pb", "--order=2")
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    self.assertTrue(done.stdout.startswith("agrees: "), done.stdout)

  def test_differs_is_status_1_and_names_the_place(self):
    done = self._compare("wrong.pb", "--format=json",
                         "--html=" + self.path("report.html"))
    self.assertEqual((done.returncode, done.stderr), (1, ""))
    self.assertEqual(json.loads(done.stdout)["begins"], "scaled:0")
    self.assertTrue(os.path.exists(self.path("report.html")))
