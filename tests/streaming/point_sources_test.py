"""Tests of points in files, and of how a row becomes a value of an input."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed import errors
from gradfeed.streaming.formats import npy
from gradfeed.streaming.formats import row_layout
from tests.testing import folders


class PointsTest(folders.FolderTest):

  @parameterized.parameters(
      ([7, 2], [None, 2], "many"), ([7, 3, 2], [None, 2], "bare"),
      ([7, 2], [1, 2], "one"), ([7, 1, 2], [1, 2], "bare"),
      ([7, 4, 2], [4, 2], "bare"), ([7], [], "bare"), ([7], [None], "many"),
      ([7, 3], [None], "bare"), ([7, 3], None, "bare"), ([0, 2], [2], "bare"),
      ([7], [1], "one"), ([7, 5, 6], [None, None, None], "many"))
  def test_rows_that_are_values(self, shape, x_shape, form):
    with tf.Graph().as_default():
      x = tf.placeholder(tf.float32, x_shape)
      self.assertEqual(row_layout.batch_form_of(tuple(shape), x), form)

  @parameterized.parameters(
      ([], [None, 2], r"\[N\] \+ \[\?, 2\] or \[N\] \+ \[2\]"),
      ([7], [None, 2], r"\[N\] \+ \[\?, 2\] or \[N\] \+ \[2\]"),
      ([7, 3], [1, 2], r"\[N\] \+ \[1, 2\] or \[N\] \+ \[2\]"),
      ([7, 2], [4, 2], r"\[N\] \+ \[4, 2\]\.$"),
      ([7, 1, 2], [2], r"\[N\] \+ \[2\]\.$"))
  def test_rows_that_are_not(self, shape, x_shape, fix):
    with tf.Graph().as_default():
      x = tf.placeholder(tf.float32, x_shape, name="x")
      with self.assertRaisesRegex(errors.FeedError, "'x:0' ") as caught:
        row_layout.batch_form_of(tuple(shape), x)
    self.assertRegex(str(caught.exception), fix)

  def test_points_are_mapped_and_not_read(self):
    points = npy.load(self.save("p.npy", np.ones([3, 2])))
    self.assertIsInstance(points, np.memmap)
    self.assertFalse(points.flags.writeable)

  @parameterized.named_parameters(
      ("other", b"node { name: 'x' }", "does not begin as"),
      ("empty", b"", "does not begin as"),
      ("cut_off", b"\x93NUMPY\x01\x00v", "."))
  def test_files_that_are_no_points(self, content, why):
    with open(self.path("p.npy"), "wb") as output:
      output.write(content)
    with self.assertRaisesRegex(errors.ModelFileError, "p.npy'") as caught:
      npy.load(self.path("p.npy"))
    self.assertRegex(caught.exception.why, why)
    self.assertIn("numpy.save", caught.exception.fix)

  @parameterized.parameters((np.array([np.datetime64("2000")]), "M8|datetime"),
                            (np.array([None]), "Python objects"))
  def test_points_that_are_no_numbers(self, array, why):
    path = self.save("p.npy", array)
    with self.assertRaisesRegex(errors.ModelFileError, why):
      npy.load(path)
