"""Tests of `gradfeed at` in shards."""

import json
import os

import numpy as np

from tests.shards import networks
from tests.testing import processes


class ClustersTest(networks.ShardTest):

  def run_at(self, points, *more, **options):
    return processes.gradfeed(
        "at", "--graph=" + self.model, "--y=y:0", "--x=x:0",
        "--points=" + points, "--output=" + self.path("g.npy"), *more,
        **options)

  def gradients(self, shards):
    return np.concatenate([np.load(self.path(
        "g-{:05d}-of-{:05d}.npy".format(i, shards))) for i in range(shards)])

  def test_several_files_in_several_processes(self):
    points = self.points()
    pattern = self.save_parts("p", points, [20, 30])
    done = self.run_at(pattern, "--workers=2", fresh=True)
    self.assertEqual((done.returncode, done.stdout), (0, ""))
    self.assertRegex(done.stderr, r"\Agradfeed at: wrote .*g-\*-of-00002.npy "
                     r"\(2 shards\): d 'y:0' / d 'x:0' at 50 points in .*\n\Z")
    np.testing.assert_allclose(self.gradients(2), networks.gradient(points),
                               rtol=1e-14)
    done = self.run_at(pattern, "--workers=2")
    self.assertIn("(2 shards, 2 of them from before)", done.stderr)

  def test_shards_of_one_file_and_what_was_skipped(self):
    points = self.points()
    points[[7, 45]] = np.nan
    done = self.run_at(self.save("p.npy", points), "--shards=5",
                       "--on_error=skip", "--report=" + self.path("r.json"))
    self.assertEqual(done.returncode, 0)
    self.assertIn("2 points were skipped:\ngradfeed at:   point 7 is not finite"
                  "\ngradfeed at:   point 45 is not finite", done.stderr)
    with open(self.path("r.json")) as source:
      report = json.load(source)
    self.assertEqual((report["rows"], sorted(report["reasons"])),
                     (50, ["45", "7"]))
    self.assertEqual([each["start"] for each in report["shards"]],
                     [0, 10, 20, 30, 40])
    good = np.isfinite(points).all(1)
    np.testing.assert_allclose(
        self.gradients(5)[good], networks.gradient(points[good]), rtol=1e-14)

  def test_a_value_for_each_point_and_one_for_all(self):
    points, weights = self.points(), np.arange(50.0)
    done = processes.gradfeed(
        "at", "--graph=" + self.model, "--y=weighted:0", "--x=x:0",
        "--points=" + self.save("p.npy", points), "--shards=2",
        "--row=weight:0=" + self.save("w.npy", weights),
        "--output=" + self.path("g.npy"))
    self.assertEqual(done.returncode, 0, done.stderr)
    np.testing.assert_allclose(
        self.gradients(2), networks.gradient(points) * weights[:, np.newaxis],
        rtol=1e-14)

  def test_estimates_and_writes_nothing(self):
    done = self.run_at(self.save("p.npy", self.points()), "--estimate=8")
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    self.assertRegex(
        done.stdout, "one chunk of 50 points, with 1 thread here: .*\n.*50 "
        "points: 800 bytes in, 800 bytes out.\n.*8 workers: .*\n.*holds it")
    self.assertEqual(sorted(os.listdir(self.folder)), ["m.pb", "p.npy"])

  def test_refuses(self):
    path = self.save("p.npy", self.points())
    for flags, text in (
        (["--shards=2", "--coupled"], "--coupled does not go with shards"),
        (["--shards=51"], "51 shards of 50 points"),
        (["--shards=2", "--", "--region=x"], "--region=x after '--'"),
        (["--runner=DirectRunner", "--workers=2"], "do not go together")):
      done = self.run_at(path, *flags)
      self.assertEqual(done.returncode, 1)
      self.assertIn(text, done.stderr)
      self.assertNotIn("Traceback", done.stderr)
    done = self.run_at(path, "--shards=0")
    self.assertEqual(done.returncode, 2)
    self.assertEqual(sorted(os.listdir(self.folder)), ["m.pb", "p.npy"])

  def test_an_error_is_told_once_with_its_shard(self):
    points = self.points()
    points[30] = np.nan
    done = self.run_at(self.save("p.npy", points), "--shards=5")
    self.assertEqual(done.returncode, 1)
    self.assertEqual(done.stderr.count("Shard 3 of 5: Point 0 is not"), 1)
    self.assertTrue(os.path.exists(self.path("g-00002-of-00005.npy")))
