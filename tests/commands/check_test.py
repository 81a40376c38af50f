"""`gradfeed check`: a model on disk, a value, a verdict, an exit status."""

import json

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed.commands import check
from gradfeed import errors
from gradfeed.graph import tensors
from tests.testing import folders
from tests.testing import processes


class CheckCommandTest(folders.FolderTest):

  def setUp(self):
    super().setUp()
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [None, 3], name="x")
      keep = tf.placeholder(tf.float32, [], name="keep")
      tf.multiply(tf.tanh(x), keep, name="y")
      tf.sqrt(x, name="root")
      tf.nn.softmax(x, name="chances")
      with open(self.path("model.pb"), "wb") as output:
        output.write(graph.as_graph_def().SerializeToString())
    np.save(self.path("x_t.npy"), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])

  def _check(self, y, *arguments, **options):
    return processes.gradfeed(
        "check", "--graph=" + self.path("model.pb"), "--y=" + y, "--x=x:0",
        "--points=" + self.path("x_t.npy"), *arguments, **options)

  def test_right(self):
    done = self._check("y:0", "--feed=keep:0=0.5", "--order=2")
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    self.assertTrue(done.stdout.startswith("right: the gradient of 'y:0'"))
    self.assertIn("second 1: the gradient", done.stdout)

  def test_wrong_is_status_1_in_json_too(self):
    done = self._check("root:0", "--format=json", fresh=True)
    self.assertEqual((done.returncode, done.stderr), (1, ""))
    data = json.loads(done.stdout)
    self.assertEqual(data["verdict"], "wrong")
    self.assertEqual(data["findings"][0]["names"], ["root"])

  def test_out_of_time_is_said(self):
    done = self._check("y:0", "--feed=keep:0=0.5", "--seconds=1e-9")
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    self.assertTrue(done.stdout.startswith(
        "undecidable: out of time after 1e-09 s, "), done.stdout)
    done = self._check("y:0", "--feed=keep:0=0.5", "--seconds=0")
    self.assertEqual(done.returncode, 1)
    self.assertIn("seconds=0.0 is no time", done.stderr)

  def test_what_is_missing_is_one_message(self):
    done = self._check("y:0")
    self.assertEqual((done.returncode, done.stdout), (1, ""))
    self.assertIn("--feed=keep:0=VALUE", done.stderr)
    self.assertNotIn("Traceback", done.stderr)

  def test_one_class(self):
    done = self._check("chances:0", "--class_index=1")
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn("right: the gradient of 'chances_class_1:0'", done.stdout)
    done = self._check("chances:0", "--class_index=3")
    self.assertEqual(done.returncode, 1)
    self.assertIn("--class_index=3 is not an element", done.stderr)


class ValueTest(parameterized.TestCase):

  @parameterized.parameters(
      ([None, 3], [2, 3], [2, 3]), ([3], [2, 3], [3]), ([1, 3], [2, 3], [1, 3]),
      ([1, 3], [2, 1, 3], [1, 3]), ([], [4], []), (None, [2, 3], [2, 3]))
  def test_is_the_whole_file_or_its_first_row(self, shape, points, expected):
    with tf.Graph().as_default():
      x = tensors.Dense(tf.placeholder(tf.float32, shape))
    given = np.arange(np.prod(points, dtype=int)).reshape(points)
    value = check.value_at(x, given)
    self.assertEqual(list(value.shape), expected)
    np.testing.assert_array_equal(
        value.ravel(), given.ravel()[:value.size])

  def test_of_another_shape_is_refused(self):
    with tf.Graph().as_default():
      x = tensors.Dense(tf.placeholder(tf.float32, [None, 3], name="x"))
    with self.assertRaisesRegex(errors.ArgumentError, r"\[2, 4\]"):
      check.value_at(x, np.zeros([2, 4]))
