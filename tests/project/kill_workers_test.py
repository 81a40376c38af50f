"""Killed workers: a part of what scripts/kill_workers.py does."""

import os

from absl.testing import absltest

from tests.testing import folders
from tests.testing import processes

_SCRIPT = os.path.join(folders.ROOT, "scripts", "kill_workers.py")

#: Runs what compares results, with a row that is NaN.
_WRONG = """
import importlib.util, json, os, sys, tempfile
import numpy as np
from absl import flags
spec = importlib.util.spec_from_file_location("kill_workers", {script!r})
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
flags.FLAGS(["kill_workers", "--shards=2", "--rows=10"])
with tempfile.TemporaryDirectory() as folder:
  expected = script.write_inputs(folder)
  os.mkdir(os.path.join(folder, "out"))
  script.do_job.__globals__["_ENGINES"]["processes"] = (
      lambda task: list(map(task, range(2))))
  script.do_job(folder)
  print(script.faults_of(folder, expected))
  path = script.make_task(folder).paths(1)[0]
  rows = np.load(path)
  rows[3] = np.nan
  np.save(path, rows)
  print(script.faults_of(folder, expected))
  os.remove(path)
  print(script.faults_of(folder, expected))
"""


class KillWorkersTest(absltest.TestCase):

  def test_shards_are_whole_after_kills(self):
    done = processes.run(
        [_SCRIPT, "--moments=2", "--shards=3", "--rows=1500", "--seed=3",
         "--longest=0.3"])
    self.assertEqual(done.returncode, 0, done.stdout + done.stderr[-500:])
    self.assertIn("nothing lost, nothing twice", done.stdout)

  def test_wrong_rows_are_found(self):
    done = processes.run(["-c", _WRONG.format(script=_SCRIPT)])
    self.assertEqual(done.returncode, 0, done.stderr[-500:])
    lines = done.stdout.strip().split("\n")
    self.assertEqual(lines[0], "[]")
    self.assertIn("1 rows are NaN", lines[1])
    self.assertIn("results are missing", lines[2])


if __name__ == "__main__":
  absltest.main()
