"""`gradfeed export`: a model on disk, a SavedModel of it, an exit status."""

import os

import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import folders
from tests.testing import processes


class ExportCommandTest(folders.FolderTest):

  def setUp(self):
    super().setUp()
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, [None, 3], name="x")
      keep = tf.placeholder(tf.float64, [], name="keep")
      tf.multiply(x ** 2, keep, name="y")
      with open(self.path("model.pb"), "wb") as output:
        output.write(graph.as_graph_def().SerializeToString())
    self.save("x_t.npy", np.arange(6.0).reshape(2, 3))

  def _export(self, *arguments):
    return processes.gradfeed(
        "export", "--graph=" + self.path("model.pb"), "--y=y:0", "--x=x:0",
        "--output=" + self.path("served", "1"), *arguments)

  def _read(self, signature, **given):
    with gf.load(self.path("served", "1")) as model:
      inputs, outputs, _ = model.signatures[signature]
      return model.session.run(
          outputs, {inputs[name]: value for name, value in given.items()})

  def test_writes_what_is_read_again(self):
    done = self._export("--feed=keep:0=0.5", "--points=" + self.path("x_t.npy"))
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    self.assertIn("  value_and_gradient(x) -> value, gradient", done.stdout)
    self.assertIn("at 1 point:", done.stdout)
    x = np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(self._read("gradient", x=x)["gradient"], x)
    np.testing.assert_allclose(self._read("value", x=x)["value"], x * x / 2)

  def test_other_inputs_one_class_and_a_choice_of_signatures(self):
    done = self._export("--input=keep:0", "--class_index=2",
                        "--signatures=gradient")
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    found = self._read("gradient", x=[[1.0, 2.0, 3.0]], keep=2.0)
    np.testing.assert_allclose(found["gradient_x"], [[0.0, 0.0, 12.0]])
    np.testing.assert_allclose(found["gradient_keep"], 9.0)

  def test_what_is_missing_and_what_is_there_are_one_message_each(self):
    done = self._export()
    self.assertEqual((done.returncode, done.stdout), (1, ""))
    self.assertIn("--feed=keep:0=VALUE", done.stderr)
    self.assertEqual(self._export("--feed=keep:0=2.0").returncode, 0)
    done = self._export("--feed=keep:0=3.0")
    self.assertEqual(done.returncode, 1)
    self.assertIn("--overwrite", done.stderr)
    done = self._export("--feed=keep:0=3.0", "--overwrite")
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    found = self._read("value", x=[[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(found["value"], [[3.0, 12.0, 27.0]])
    self.assertEqual(os.listdir(self.path("served")), ["1"])
