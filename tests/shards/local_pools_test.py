"""Tests of shards in processes of this machine, and of what is estimated."""

import os
import signal

import numpy as np

import gradfeed as gf
from gradfeed.shards import estimates
from gradfeed.shards import local_pools
from gradfeed.shards import tasks
from tests.shards import networks


class EvaluateTest(networks.ShardTest):

  def test_a_killed_worker_is_replaced_and_an_error_told_once(self):
    points = self.points(400)
    points[399] = np.nan  # In the last shard.
    task = tasks.StreamShard(
        self.model, "y:0", "x:0", self.save("p.npy", points),
        self.path("g.npy"), 4).check()
    start, killed = local_pools._Worker.begin, []  # pylint: disable=protected-access

    def begin(worker, index):
      start(worker, index)
      if not killed:
        killed.append(index)
        os.kill(worker.process.pid, signal.SIGKILL)

    self.addCleanup(setattr, local_pools._Worker, "begin", start)  # pylint: disable=protected-access
    local_pools._Worker.begin = begin  # pylint: disable=protected-access
    with self.assertRaisesRegex(gf.FeedError, "Shard 3 of 4: Point 99 is not"):
      local_pools.evaluate(task, 1)
    self.assertEqual(killed, [0])
    there = [task.finished(i) for i in range(4)]
    self.assertEqual([report and report.rows for report in there],
                     [100, 100, 100, None])
    points[399] = 1.0
    self.save("p.npy", points)
    task(3)
    done = local_pools.evaluate(task, 2)
    self.assertEqual([report.was_there for report in done], [True] * 4)
    np.testing.assert_allclose(self.results(task), networks.gradient(points),
                               rtol=1e-14)

  def test_a_worker_that_is_always_killed_is_given_up(self):
    task = tasks.StreamShard(
        self.model, "y:0", "x:0", self.save("p.npy", self.points()),
        self.path("g.npy"), 2)

    class Killed:
      """Stands for a worker whose process is gone."""
      exitcode = -signal.SIGKILL
      index = None

      def __init__(self, unused_task):
        self.process, self.pipe = self, os.pipe()
        self.connection = os.fdopen(self.pipe[0], "rb")
        os.close(self.pipe[1])

      def begin(self, index):
        self.index = index

      def finish(self):
        self.index = None
        self.connection.close()

      def close(self):
        self.connection.close()

    self.addCleanup(setattr, local_pools, "_Worker", local_pools._Worker)  # pylint: disable=protected-access
    local_pools._Worker = Killed  # pylint: disable=protected-access
    with self.assertRaisesRegex(
        gf.StreamError, "Shard 0 of 2: its worker was ended 3 times.*\n.*-9"):
      local_pools.evaluate(task, 1)

  def test_refuses_workers(self):
    task = tasks.StreamShard(
        self.model, "y:0", "x:0", self.save("p.npy", self.points()),
        self.path("g.npy"))
    for workers in (0, True, 1.5, None):
      with self.assertRaisesRegex(gf.ArgumentError, "workers="):
        local_pools.evaluate(task, workers)


class EstimateTest(networks.ShardTest):

  def setUp(self):
    super().setUp()
    self.enter_context(_seconds(0.01))

  def estimate(self, points, **settings):
    return estimates.estimate(tasks.StreamShard(
        self.model, "y:0", "x:0", points, self.path("g.npy"), **settings), 4)

  def test_counts_points_and_bytes(self):
    found = self.estimate(self.save_parts("p", self.points(), [20, 30]))
    self.assertEqual((found.rows, found.is_exact, found.chunk), (50, True, 20))
    self.assertEqual((found.bytes_in, found.bytes_out), (16.0, 16.0))
    self.assertGreater(found.compute_seconds, 0.0)
    self.assertEqual(sorted(os.listdir(self.folder)),
                     ["m.pb", "p-0.npy", "p-1.npy"])

  def test_estimates_the_number_of_records(self):
    for i in range(3):
      self.write_records("p-{}.tfrecord".format(i), self.points(40))
    found = self.estimate(self.path("p-*.tfrecord"))
    self.assertEqual((found.rows, found.is_exact), (120, False))

  def test_says_what_holds(self):
    found = self.estimate(self.save("p.npy", self.points()))
    slow = found._replace(rows=1000, workers=4, compute_seconds=1.0,
                          read_seconds=0.05, write_seconds=0.05)
    self.assertEqual((slow.computing, slow.storage), (250.0, 100.0))
    self.assertEqual((slow.holds, slow.workers_for_storage), ("computing", 10))
    self.assertEqual(slow.bytes_per_second, 32.0)
    self.assertEqual(slow._replace(workers=40).holds, "storage")


class _seconds:  # pylint: disable=invalid-name
  """A context in which a chunk is measured for so many seconds."""

  def __init__(self, seconds):
    self._seconds = seconds

  def __enter__(self):
    self._before = estimates._SECONDS  # pylint: disable=protected-access
    estimates._SECONDS = self._seconds  # pylint: disable=protected-access

  def __exit__(self, *unused):
    estimates._SECONDS = self._before  # pylint: disable=protected-access
