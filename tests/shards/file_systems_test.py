"""Tests of points, models and results on file systems of gfile."""

import os
from unittest import mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.shards import file_systems
from gradfeed.shards import tasks
from tests.shards import networks

#: gfile knows this scheme everywhere; gradfeed takes it for a remote one.
_REMOTE = "file://"


class RemoteTest(networks.ShardTest):

  def remote(self, name):
    return _REMOTE + self.path(name)

  def task(self, points, output="g.npy", shards=None, **settings):
    return tasks.StreamShard(
        settings.pop("model", self.model), "y:0", "x:0", self.remote(points),
        self.remote(output), shards, **settings)

  def evaluate(self, task):
    """The results of all shards, and the reports."""
    reports = [task(i) for i in range(len(task))]
    return np.concatenate([
        np.load(task.paths(i)[0][len(_REMOTE):])
        for i in range(len(task))]), reports

  @parameterized.parameters(1, 4, 7)
  def test_rows_of_arrays(self, shards):
    points = self.points()
    self.save_parts("p", points, [20, 0, 5, 25])
    task = self.task("p-*.npy", shards=shards).check()
    results, _ = self.evaluate(task)
    np.testing.assert_allclose(results, networks.gradient(points), rtol=1e-14)

  def test_copies_the_rows_of_the_shard_alone(self):
    points = self.points(10000)
    self.save("p.npy", points)
    task = self.task("p.npy", shards=100)
    copied, copy_rows = [], file_systems.copy_rows

    def counted(source, target, start, stop):
      copied.append((start, stop))
      return copy_rows(source, target, start, stop)

    self.enter_context(mock.patch.object(file_systems, "copy_rows", counted))
    self.enter_context(mock.patch.object(file_systems, "copy", _copy_of_results))
    task(37)
    self.assertEqual(copied, [(3700, 3800)])

  def test_an_array_that_is_stored_by_column(self):
    points = self.points()
    self.save("p.npy", np.asfortranarray(points))
    results, _ = self.evaluate(self.task("p.npy", shards=3).check())
    np.testing.assert_allclose(results, networks.gradient(points), rtol=1e-14)

  def test_records_and_archives(self):
    points = self.points(20).astype(np.float32).astype(np.float64)
    for i in range(2):
      self.write_records("p-{}.tfrecord".format(i), points[10 * i:10 * i + 10])
      np.savez(self.path("q-{}.npz".format(i)), x=points[10 * i:10 * i + 10])
    for name in ("p-*.tfrecord", "q-*.npz"):
      results, _ = self.evaluate(self.task(name, name[0] + "g.npy").check())
      np.testing.assert_allclose(results, networks.gradient(points),
                                 rtol=1e-14)

  def test_is_done_once_and_leaves_nothing_behind(self):
    self.save("p.npy", self.points())
    task = self.task("p.npy", shards=2)
    self.assertFalse(task(1).was_there)
    report = task(1)
    self.assertTrue(report.was_there)
    self.assertEqual(report.files, [self.remote("g-00001-of-00002.npy")])
    self.assertEqual(
        sorted(os.listdir(self.folder)),
        ["g-00001-of-00002.npy", "g-00001-of-00002.npy.manifest", "m.pb",
         "p.npy"])

  def test_killed_before_it_is_copied_it_is_copied_by_the_next(self):
    points = self.points()
    self.save("p.npy", points)
    task = self.task("p.npy")

    copy = file_systems.copy

    def kill(source, target):
      if file_systems.is_remote(target):
        raise KeyboardInterrupt
      copy(source, target)

    with mock.patch.object(file_systems, "copy", kill):
      with self.assertRaises(KeyboardInterrupt):
        task(0)
    self.assertFalse(os.path.exists(self.path("g-00000-of-00001.npy")))
    results, reports = self.evaluate(task)
    self.assertTrue(reports[0].was_there)
    np.testing.assert_allclose(results, networks.gradient(points), rtol=1e-14)

  def test_other_points_and_models_are_refused(self):
    points = self.points()
    self.save("p.npy", points)
    task = self.task("p.npy")
    task(0)
    with self.assertRaisesRegex(gf.StreamError, "another model"):
      self.task("p.npy", model=self.write_model("other.pb", 3.0))(0)
    self.save("p.npy", 2 * points)
    with self.assertRaisesRegex(gf.StreamError, "other points"):
      task(0)

  def test_models(self):
    points = self.points()
    self.save("p.npy", points)
    with gf.load(self.model) as model:
      builder = tf.saved_model.Builder(self.path("saved"))
      builder.add_meta_graph_and_variables(model.session, ["serve"])
      builder.save()
    for name in ("m.pb", "saved"):
      task = self.task("p.npy", name + ".npy", model=self.remote(name))
      results, _ = self.evaluate(task.check())
      np.testing.assert_allclose(results, networks.gradient(points),
                                 rtol=1e-14)

  def test_a_checkpoint(self):
    points = self.points()
    self.save("p.npy", points)
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [None, 2], name="x")
      w = tf.get_variable("w", initializer=np.float64(2.0))
      tf.multiply(w, tf.reduce_sum(x ** 3, 1), name="y")
      session.run(w.initializer)
      tf.train.Saver().save(session, self.path("c", "model.ckpt"))
    for i, name in enumerate(["c", "c/model.ckpt", "c/model.ckpt.meta"]):
      task = self.task("p.npy", "{}.npy".format(i), model=self.remote(name))
      results, _ = self.evaluate(task)
      np.testing.assert_allclose(results, networks.gradient(points),
                                 rtol=1e-14)

  def test_what_is_not_there(self):
    with self.assertRaisesRegex(gf.ModelFileError, "No file is called"):
      self.task("p-*.npy")
    self.save("p.npy", self.points())
    task = self.task("p.npy", model=self.remote("none.pb"))
    with self.assertRaisesRegex(gf.ModelFileError, "no model"):
      task.check()

  def test_a_file_system_that_tensorflow_does_not_know(self):
    with self.assertRaisesRegex(gf.StreamError, "nofs://a.*\n.*nofs"):
      tasks.StreamShard(self.model, "y:0", "x:0", "nofs://a/p.npy",
                        self.path("g.npy"))


def _copy_of_results(source, target):
  assert not source.endswith("p.npy"), "all of the points are copied"
  tf.io.gfile.copy(source, target, overwrite=True)
