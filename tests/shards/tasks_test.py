"""Tests of `StreamShard`."""

import concurrent.futures
import os
import pickle
from unittest import mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.shards import tasks
from gradfeed.shards import worker_models
from gradfeed.streaming import streams
from tests.shards import networks


class _TaskTest(networks.ShardTest):

  def task(self, points, output="g.npy", shards=None, **settings):
    settings.setdefault("y", "y:0")
    return tasks.StreamShard(
        settings.pop("model", self.model), settings.pop("y"), "x:0", points,
        self.path(output), shards, **settings)

  def refused(self, error, text, call, *arguments):
    with self.assertRaisesRegex(error, text):
      call(*arguments)

  def count_evaluations(self):
    """Returns a list that gets an entry for each stream that is run."""
    calls, run = [], streams.run

    def counted(*arguments):
      calls.append(arguments)
      return run(*arguments)

    self.enter_context(mock.patch.object(streams, "run", counted))
    return calls


class StreamShardTest(_TaskTest):

  @parameterized.parameters(1, 3, 7, 50)
  def test_shards_of_one_file_are_ranges_of_its_rows(self, shards):
    points = self.points()
    task = self.task(self.save("p.npy", points), shards=shards)
    reports = [task(i) for i in range(len(task))]
    np.testing.assert_allclose(self.results(task), networks.gradient(points),
                               rtol=1e-14)
    self.assertEqual(sum(report.rows for report in reports), 50)
    self.assertEqual([report.start for report in reports],
                     [i * 50 // shards for i in range(shards)])

  def test_files_are_shards_where_they_are_as_many(self):
    points = self.points()
    task = self.task(self.save_parts("p", points, [20, 5, 25]))
    self.assertLen(task, 3)
    reports = [task(i) for i in range(3)]
    self.assertEqual([(report.start, report.rows) for report in reports],
                     [(0, 20), (20, 5), (25, 25)])
    np.testing.assert_allclose(self.results(task), networks.gradient(points),
                               rtol=1e-14)

  def test_a_range_goes_over_the_end_of_a_file(self):
    points = self.points()
    task = self.task(self.save_parts("p", points, [20, 0, 5, 25]), shards=6)
    for i in range(6):
      task(i)
    np.testing.assert_allclose(self.results(task), networks.gradient(points),
                               rtol=1e-14)

  def test_name_of_a_shard(self):
    task = self.task(self.save("p.npy", self.points(200)), "out.v1.npy", 100)
    self.assertEqual(task.paths(3), [self.path("out.v1-00003-of-00100.npy")])

  def test_is_pickled_in_few_bytes_and_without_weights(self):
    task = self.task(self.save("p.npy", self.points()), shards=2).check()
    content = pickle.dumps(task)
    self.assertLess(len(content), 800)
    copy = pickle.loads(content)
    self.assertEqual(copy.fingerprint, task.fingerprint)
    self.assertEqual([copy(i).rows for i in range(2)], [25, 25])

  def test_report_is_pickled(self):
    task = self.task(self.save("p.npy", self.points()), shards=2)
    report = pickle.loads(pickle.dumps(task(1)))
    self.assertEqual((report.index, report.start, report.rows), (1, 25, 25))
    self.assertEqual(report.files, task.paths(1))
    self.assertEqual(report.to_dict()["rows"], 25)
    self.assertIn("ShardReport 1: 25 rows", repr(report))

  def test_a_finished_shard_is_not_evaluated_again(self):
    task = self.task(self.save("p.npy", self.points()), shards=2)
    calls = self.count_evaluations()
    self.assertFalse(task(1).was_there)
    before = os.stat(task.paths(1)[0])
    report = task(1)
    self.assertTrue(report.was_there)
    self.assertEqual((report.rows, report.start), (25, 25))
    self.assertLen(calls, 1)
    self.assertEqual(os.stat(task.paths(1)[0]).st_mtime_ns, before.st_mtime_ns)

  def test_deleted_results_are_evaluated_again(self):
    task = self.task(self.save("p.npy", self.points()), shards=2)
    task(0)
    os.remove(task.paths(0)[0])
    self.assertFalse(task(0).was_there)
    self.assertTrue(os.path.exists(task.paths(0)[0]))

  def test_damaged_results_are_refused(self):
    task = self.task(self.save("p.npy", self.points()), shards=2)
    task(0)
    with open(task.paths(0)[0], "ab") as output:
      output.write(b"more")
    self.refused(gf.StreamError, "Shard 0 of 2.*not as it was left", task, 0)

  def test_finished_with_another_model_is_refused(self):
    points = self.save("p.npy", self.points())
    self.task(points)(0)
    other = self.write_model("other.pb", 3.0)
    self.refused(gf.StreamError, "finished with another model",
                 self.task(points, model=other), 0)

  def test_a_model_that_was_replaced_is_refused(self):
    task = self.task(self.save("p.npy", self.points()), shards=2).check()
    task(0)
    self.write_model("m.pb", 2.5)
    for i in range(2):  # The finished one too.
      self.refused(gf.StreamError, "Shard {} .*another model".format(i), task,
                   i)

  def test_finished_with_other_points_is_refused(self):
    points = self.points()
    task = self.task(self.save("p.npy", points), shards=2)
    task(0)
    task(1)
    points[40, 1] += 1e-12
    self.save("p.npy", points)
    self.assertTrue(task(0).was_there)  # These rows are the same.
    self.refused(gf.StreamError, "finished with other points", task, 1)

  def test_points_that_were_saved_again_are_the_same(self):
    points = self.points()
    task = self.task(self.save("p.npy", points), shards=2, chunk=7)
    task(1)
    self.save("p.npy", points)
    self.assertTrue(task(1).was_there)

  def test_finished_with_another_derivative_is_refused(self):
    points = self.save("p.npy", self.points())
    self.task(points)(0)
    self.refused(gf.StreamError, "another of .'gradient', now 'value'",
                 self.task(points, of="value"), 0)

  def test_other_files_than_were_divided_are_refused(self):
    pattern = self.save_parts("p", self.points(), [25, 25])
    task = self.task(pattern)
    self.save("p-2.npy", self.points())
    self.refused(gf.StreamError, "not those that were divided", task, 0)

  def test_bad_rows_are_told_by_number_and_the_others_are_right(self):
    points = self.points(600)
    bad = [3, 299, 300, 599]
    points[bad, 0] = np.nan, np.inf, -np.inf, np.nan
    task = self.task(self.save("p.npy", points), shards=2, on_error="skip")
    skipped = {}
    for i in range(2):
      skipped.update(task(i).skipped)
      self.assertEqual(task(i).not_finite, 2)
    self.assertEqual(skipped, dict.fromkeys(bad, "is not finite"))
    good = np.setdiff1d(np.arange(600), bad)
    results = self.results(task)
    np.testing.assert_allclose(
        results[good], networks.gradient(points[good]), rtol=1e-14)
    self.assertTrue(np.isnan(results[bad]).all())

  def test_a_bad_row_stops_the_shard(self):
    points = self.points()
    points[30] = np.nan
    task = self.task(self.save("p.npy", points), shards=2)
    self.assertEqual(task(0).rows, 25)
    self.refused(gf.FeedError, "Shard 1 of 2: Point 5 is not finite", task, 1)

  def test_finished_by_skipping_is_refused_where_nothing_may_be_skipped(self):
    points = self.points()
    points[30] = np.nan
    path = self.save("p.npy", points)
    self.task(path, shards=2, on_error="skip")(1)
    self.refused(gf.StreamError, "without 1 of its points",
                 self.task(path, shards=2), 1)
    self.refused(gf.StreamError, "1 of 25 points were skipped", self.task(
        path, shards=2, on_error="skip", max_skipped=0.01), 1)

  def test_where_no_row_can_be_evaluated_it_fails(self):
    task = self.task(self.save("p.npy", np.full([10, 2], np.nan)),
                     on_error="skip")
    self.refused(gf.StreamError, "None of the 10 points", task, 0)
    self.assertFalse(os.path.exists(task.paths(0)[0]))

  def test_goes_on_where_it_was_stopped(self):
    points = self.points(100)
    path = self.save("p.npy", points)
    points[70] = np.nan
    self.save("q.npy", points)
    task = self.task(path, chunk=10)
    os.replace(self.path("q.npy"), path)
    self.refused(gf.FeedError, "Point 70", task, 0)
    points[70] = 1.0
    self.save("p.npy", points)
    report = task(0)
    self.assertEqual((report.resumed, report.rows), (70, 100))
    np.testing.assert_allclose(self.results(task), networks.gradient(points),
                               rtol=1e-14)

  def test_killed_between_the_name_of_the_results_and_the_manifest(self):
    task = self.task(self.save("p.npy", self.points()))
    with mock.patch.object(tasks.manifests, "write", _kill):
      with self.assertRaises(KeyboardInterrupt):
        task(0)
    self.assertTrue(os.path.exists(task.paths(0)[0]))
    report = task(0)
    self.assertEqual((report.resumed, report.was_there), (50, False))
    self.assertTrue(task(0).was_there)

  def test_two_threads_on_one_shard_evaluate_it_once(self):
    points = self.points(2000)
    task = self.task(self.save("p.npy", points), chunk=20)
    calls = self.count_evaluations()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
      reports = list(pool.map(task, [0] * 4))
    self.assertLen(calls, 1)
    self.assertEqual([report.was_there for report in reports].count(False), 1)
    np.testing.assert_allclose(self.results(task), networks.gradient(points),
                               rtol=1e-14)
    self.assertNotIn("lock", " ".join(os.listdir(self.folder)))

  def test_threads_share_a_model_whose_graph_does_not_grow(self):
    points = self.points(100)
    task = self.task(self.save("p.npy", points), shards=8)
    task(0)
    loaded = task.derivative.acquire()
    count = len(loaded.model.graph.get_operations())
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
      list(pool.map(task, range(8)))
    self.assertIs(task.derivative.acquire(), loaded)
    self.assertLen(loaded.model.graph.get_operations(), count)
    np.testing.assert_allclose(self.results(task), networks.gradient(points),
                               rtol=1e-14)


def _kill(*unused):
  raise KeyboardInterrupt


class InputsTest(_TaskTest):

  def test_rows_from_files_of_their_own(self):
    points, weights = self.points(), np.arange(1.0, 51.0)
    task = self.task(
        [self.save_parts("p", points, [20, 30]), self.save("w.npy", weights)],
        y="weighted:0", rows=["weight:0"])
    for i in range(len(task)):
      task(i)
    np.testing.assert_allclose(
        self.results(task), networks.gradient(points) * weights[:, np.newaxis],
        rtol=1e-14)

  def test_rows_in_an_archive_by_their_keys(self):
    points, weights = self.points(), np.arange(1.0, 51.0)
    np.savez(self.path("p.npz"), image=points, w=weights, other=np.ones(3))
    task = self.task(self.path("p.npz"), shards=3, y="weighted:0",
                     rows=["weight:0"], keys=["image", "w"])
    for i in range(3):
      task(i)
    np.testing.assert_allclose(
        self.results(task), networks.gradient(points) * weights[:, np.newaxis],
        rtol=1e-14)

  def test_feeds_and_classes(self):
    points = self.points()
    path = self.save("p.npy", points)
    task = self.task(path, y="scaled:0", feed_dict={"scale:0": 5.0})
    task(0)
    np.testing.assert_allclose(
        self.results(task), 5 * networks.gradient(points), rtol=1e-14)
    task = self.task(path, "c.npy", y="scores:0", class_index=1)
    task(0)
    np.testing.assert_allclose(
        self.results(task), 2 * networks.gradient(points), rtol=1e-14)

  def test_class_of_each_point(self):
    points = self.points()
    classes = np.arange(50) % 3
    np.savez(self.path("p.npz"), x=points, label=classes)
    task = self.task(self.path("p.npz"), shards=2, y="scores:0",
                     class_index="label")
    for i in range(2):
      task(i)
    np.testing.assert_allclose(
        self.results(task), networks.gradient(points) * (
            classes + 1)[:, np.newaxis], rtol=1e-14)

  def test_values_and_gradients_in_two_files(self):
    points = self.points()
    task = tasks.StreamShard(
        self.model, "y:0", "x:0", self.save("p.npy", points),
        [self.path("v.npy"), self.path("g.npy")], 2, of="value_and_gradient")
    self.assertEqual([task(i).files for i in range(2)],
                     [task.paths(0), task.paths(1)])
    np.testing.assert_allclose(np.load(task.paths(1)[1]),
                               networks.gradient(points[25:]), rtol=1e-14)
    np.testing.assert_allclose(
        np.load(task.paths(1)[0]), 2.0 * (points[25:] ** 3).sum(1), rtol=1e-14)

  def test_records(self):
    points = self.points(30).astype(np.float32).astype(np.float64)
    for i in range(3):
      self.write_records("p-{}.tfrecord".format(i), points[10 * i:10 * i + 10])
    for shards in (3, 2):
      task = self.task(self.path("p-*.tfrecord"), "g{}.npy".format(shards),
                       shards)
      reports = [task(i) for i in range(shards)]
      self.assertEqual([report.start for report in reports],
                       [0] + [None] * (shards - 1))
      np.testing.assert_allclose(
          self.results(task), networks.gradient(points), rtol=1e-14)
      self.assertTrue(task(1).was_there)
    self.refused(gf.ArgumentError, "4 shards of 3 files.*\n.*TFRecord",
                 self.task(self.path("p-*.tfrecord"), "h.npy", 4), 0)

  def test_results_in_records(self):
    points = self.points()
    task = self.task(self.save("p.npy", points), "g.tfrecord", 2)
    self.assertEqual(task(1).files, [self.path("g-00001-of-00002.tfrecord")])


class CheckTest(_TaskTest):

  def test_returns_the_task_and_pins_the_model(self):
    task = self.task(self.save("p.npy", self.points()))
    self.assertIsNone(task.fingerprint)
    self.assertIs(task.check(), task)
    with gf.load(self.model) as model:
      self.assertEqual(task.fingerprint, model.fingerprint("y:0")[:16])

  def test_writes_nothing(self):
    task = self.task(self.save("p.npy", self.points()))
    before = sorted(os.listdir(self.folder))
    task.check()
    self.assertEqual(sorted(os.listdir(self.folder)), before)

  def test_refuses_coupled_rows(self):
    task = self.task(self.save("p.npy", self.points()),
                     model=self.write_model("c.pb", coupled=True))
    self.refused(gf.CoupledRowsError, r"'Mean'[\s\S]*other batches",
                 task.check)
    self.refused(gf.CoupledRowsError,
                 r"Shard 0 of 1[\s\S]*'Mean'[\s\S]*other batches", task, 0)
    self.assertFalse(os.path.exists(task.paths(0)[0]))

  def test_refuses_coupled_rows_one_by_one(self):
    task = self.task(self.save("p.npy", self.points()), chunk=1,
                     model=self.write_model("c.pb", coupled=True))
    self.refused(gf.CoupledRowsError, "Mean", task, 0)

  @parameterized.named_parameters(
      ("y", dict(y="nothing:0"), gf.TensorNotFoundError, "nothing:0"),
      ("value", dict(y="scaled:0"), gf.MissingFeedError, "scale:0.*\n.*\n.*"
       "feed_dict={'scale:0'"),
      ("feed", dict(feed_dict={"nothing:0": 1}), gf.GradfeedError, "nothing"),
      ("class", dict(y="scores:0", class_index=3), gf.ArgumentError,
       "class_index=3 is not an element"),
      ("model", dict(model="nothing.pb"), gf.ModelFileError, "nothing.pb"),
      ("shards", dict(shards=51), gf.ArgumentError, "51 shards of 50 points"))
  def test_refuses(self, settings, error, text):
    task = self.task(self.save("p.npy", self.points()), **settings)
    self.refused(error, text, task.check)

  def test_refuses_points_and_output(self):
    task = self.task(self.save("p.npy", np.ones([5, 3])))
    self.refused(gf.FeedError, r"\[5, 3\]", task.check)
    task = self.task(self.save("p.npy", self.points()), "no/folder/g.npy")
    self.refused(gf.StreamError, "There is no folder", task.check)
    task = self.task(self.save("p.npy", self.points()), "g.jpg")
    self.refused(gf.ArgumentError, "no file of results", task.check)

  def test_files_of_other_lengths(self):
    task = self.task([self.save("p.npy", self.points()),
                      self.save("w.npy", np.ones(49))], shards=2,
                     y="weighted:0", rows=["weight:0"])
    self.refused(gf.FeedError, "different numbers of rows", task.check)


class ArgumentsTest(_TaskTest):

  @parameterized.named_parameters(
      ("model", dict(model=1), "model=1"),
      ("y", dict(y=tf.float32), "y=.*name"),
      ("x", dict(rows=[3]), "rows=3"),
      ("of", dict(of="slope"), "of='slope'"),
      ("shards", dict(shards=0), "shards=0"),
      ("threads", dict(threads=True), "threads=True"),
      ("chunk", dict(chunk=0), "chunk=0"),
      ("on_error", dict(on_error="go"), "on_error='go'"),
      ("max_skipped", dict(max_skipped=2), "max_skipped=2"),
      ("keys", dict(keys=["a", "b"]), "keys=.*x:0"),
      ("class_index", dict(class_index=1.5), "class_index=1.5"),
      ("one_array_for_two", dict(rows=["weight:0"]), "named for 2"))
  def test_refused(self, settings, text):
    self.refused(gf.ArgumentError, text, lambda: self.task(
        self.save("p.npy", self.points()), **settings))

  def test_points_refused(self):
    self.refused(gf.ArgumentError, "points=", self.task, self.points())
    self.refused(gf.ArgumentError, "points=", self.task, ["a.npy", "b.npy"])
    self.refused(gf.ArgumentError, "no input 'z'", self.task, {"z": "a.npy"})
    self.refused(gf.ModelFileError, "No file", self.task,
                 self.path("none-*.npy"))

  @parameterized.parameters(-1, 2, 1.0, "0", True)
  def test_index_refused(self, index):
    task = self.task(self.save("p.npy", self.points()), shards=2)
    self.refused(gf.ArgumentError, "no shard.*\n.*2 of them", task, index)


class ProcessTest(_TaskTest):

  def test_a_fork_of_a_process_that_has_run_a_model_is_refused(self):
    task = self.task(self.save("p.npy", self.points())).check()
    self.addCleanup(worker_models._owner.__setitem__, 0, os.getpid())  # pylint: disable=protected-access
    worker_models._owner[0] = os.getpid() + 1  # pylint: disable=protected-access
    self.refused(gf.SessionError, "forked.*\n.*spawn", task, 0)
