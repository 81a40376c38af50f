"""Tests of shards as elements of a pipeline."""

import os

from absl.testing import parameterized
import numpy as np

import gradfeed as gf
from gradfeed.shards import tasks
from tests.beam import local_runs
from tests.shards import networks

run_shards = local_runs.gradfeed.beam.run_shards
StreamShards = local_runs.gradfeed.beam.StreamShards


class ShardsTest(networks.ShardTest):

  def setUp(self):
    super().setUp()
    self.x = self.points(50)
    self.save("p.npy", self.x)

  def task(self, **settings):
    return tasks.StreamShard(
        settings.pop("model", self.model), "y:0", "x:0", self.path("p.npy"),
        self.path("g.npy"), shards=4, **settings)

  def run_shards(self, task, runner="DirectRunner", options=()):
    with local_runs.quiet():
      return run_shards(task, runner, options)

  def test_each_row_once(self):
    reports = self.run_shards(self.task())
    self.assertEqual([(each.index, each.start, each.rows, each.was_there)
                      for each in reports],
                     [(0, 0, 12, False), (1, 12, 13, False),
                      (2, 25, 12, False), (3, 37, 13, False)])
    np.testing.assert_allclose(
        np.concatenate([np.load(each.path) for each in reports]),
        networks.gradient(self.x), rtol=1e-12)

  def test_finished_shards_are_left_alone(self):
    task = self.task()
    task(1)
    when = os.stat(task.paths(1)[0]).st_mtime_ns
    reports = self.run_shards(task)
    self.assertEqual([each.was_there for each in reports],
                     [False, True, False, False])
    self.assertEqual(os.stat(task.paths(1)[0]).st_mtime_ns, when)
    self.assertTrue(all(
        each.was_there for each in self.run_shards(task)))

  def test_metrics(self):
    self.x[20] = np.nan
    self.save("p.npy", self.x)
    (reports,), metrics = local_runs.run(
        [0, 1, 2, 3], StreamShards(self.task(on_error="skip")))
    self.assertEqual(sorted(each.index for each in reports), [0, 1, 2, 3])
    self.assertEqual((metrics["rows"], metrics["refused_rows"],
                      metrics["shards"]), (50, 1, 4))
    self.assertEqual(metrics["shard_milli_secs"].count, 4)

  def test_a_bad_point_is_told_with_its_shard(self):
    self.x[20] = np.nan
    self.save("p.npy", self.x)
    with self.assertRaisesRegex(
        gf.FeedError, "Shard 1 of 4: Point 8 is not finite") as raised:
      self.run_shards(self.task())
    self.assertNotRegex(str(raised.exception), "Traceback|while running")
    report, = [each for each in self.run_shards(self.task(on_error="skip"))
               if each.reasons]
    self.assertEqual(report.skipped, {20: "is not finite"})

  def test_another_model_is_refused_also_for_finished_shards(self):
    task = self.task().check()
    task(0)
    self.write_model("m.pb", 3.0)
    with self.assertRaisesRegex(gf.StreamError, "another model"):
      self.run_shards(task)
    with self.assertRaisesRegex(gf.StreamError, "another model"):
      self.run_shards(self.task())

  def test_coupled_rows_are_refused(self):
    model = self.write_model("coupled.pb", coupled=True)
    with self.assertRaises(gf.CoupledRowsError):
      self.run_shards(self.task(model=model))

  @parameterized.parameters(
      ("NoRunner", "There is no runner 'NoRunner'"),
      ("no.such.Runner", "There is no runner 'no.such.Runner'"))
  def test_a_runner_that_is_not_there(self, runner, text):
    with self.assertRaisesRegex(gf.ArgumentError, text):
      self.run_shards(self.task(), runner)

  def test_refuses_what_is_no_task(self):
    with self.assertRaisesRegex(gf.ArgumentError, "task="):
      StreamShards(lambda i: i)
