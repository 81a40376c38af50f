"""Tests of models in the processes of workers."""

import concurrent.futures
import os

import numpy as np

import gradfeed as gf
from gradfeed.models import loading
from gradfeed.shards import worker_models
from tests.shards import networks
from tests.testing import modes
from tests.testing import processes

_WORKER = """
import sys
import numpy as np
import gradfeed as gf
task = gf.shards.StreamShard(sys.argv[1], "y:0", "x:0", sys.argv[2],
                             sys.argv[3], 2)
print([task(i).rows for i in range(2)])
print(task.derivative.acquire().f(np.ones([1, 2])).tolist())
"""


class ModelDerivativeTest(networks.ShardTest):

  def derivative(self, **settings):
    return worker_models.ModelDerivative(
        settings.pop("model", self.model), "y:0", "x:0", **settings)

  def count_loads(self):
    """Returns a list that gets an entry for each model that is loaded."""
    calls, load = [], loading.load

    def counted(*arguments, **options):
      calls.append((arguments, options))
      return load(*arguments, **options)

    self.addCleanup(setattr, loading, "load", load)
    loading.load = counted
    return calls

  def test_is_loaded_once_in_a_process_by_many_threads(self):
    calls = self.count_loads()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
      found = list(pool.map(
          lambda _: self.derivative().acquire(), range(8)))
    self.assertLen(calls, 1)
    self.assertLen(set(map(id, found)), 1)
    np.testing.assert_allclose(found[0].f([[1.0, 2.0]]), [[6.0, 24.0]])

  def test_is_loaded_anew_where_the_file_was_replaced(self):
    first = self.derivative().acquire()
    self.write_model("m.pb", 5.0)
    second = self.derivative().acquire()
    self.assertNotEqual(first.fingerprint, second.fingerprint)
    np.testing.assert_allclose(second.f([[1.0, 2.0]]), [[15.0, 60.0]])

  def test_other_feeds_are_another_derivative(self):
    found = [worker_models.ModelDerivative(
        self.model, "scaled:0", "x:0", feed_dict={"scale:0": value}).acquire()
             for value in (1.0, 2.0)]
    self.assertNotEqual(found[0].fingerprint, found[1].fingerprint)
    np.testing.assert_allclose(found[1].f([[1.0, 2.0]]), [[12.0, 48.0]])

  def test_few_models_are_kept(self):
    for i in range(8):
      self.derivative(model=self.write_model("m{}.pb".format(i))).acquire()
    self.assertLen(worker_models._entries, 4)  # pylint: disable=protected-access

  def test_threads_are_those_of_the_session(self):
    calls = self.count_loads()
    self.derivative(threads=3).acquire()
    self.derivative(threads=None).acquire()
    self.derivative(threads=3).check()
    configs = [options["config"] for _, options in calls]
    self.assertEqual([config and (
        config.intra_op_parallelism_threads,
        config.inter_op_parallelism_threads, config.use_per_session_threads)
                      for config in configs], [(3, 3, True), None])

  def test_another_model_than_was_checked_is_refused(self):
    derivative = self.derivative()
    derivative.check()
    self.write_model("m.pb", 5.0)
    with self.assertRaisesRegex(gf.StreamError, "another model here"):
      derivative.acquire()

  def test_a_model_that_cannot_be_loaded_is_tried_again(self):
    derivative = self.derivative(model=self.path("later.pb"))
    with self.assertRaises(gf.ModelFileError):
      derivative.acquire()
    self.write_model("later.pb")
    np.testing.assert_allclose(
        derivative.acquire().f([[1.0, 2.0]]), [[6.0, 24.0]])

  @modes.without_mode
  def test_a_worker_prints_nothing_when_it_ends(self):
    points = self.save("p.npy", self.points())
    done = processes.run(
        ["-W", "ignore", "-c", _WORKER, self.model, points,
         self.path("g.npy")], fresh=True,
        env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3"))
    self.assertEqual(done.stdout.split("\n")[:2], [
        "[25, 25]", "[[6.0, 6.0]]"])
    self.assertNotIn("Exception", done.stderr)
    self.assertNotIn("Error", done.stderr)
