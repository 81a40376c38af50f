"""The programs for Beam that docs/cluster.md shows."""

import glob
import os

import numpy as np

from tests import conftest
from tests.beam import local_runs
from tests.shards import networks
from tests.testing import folders
from tests.testing import pages
from tests.testing import processes

_PROGRAMS = [text for language, text in pages.blocks("docs/cluster.md")
             if language == "py" and local_runs.beam.__name__ in text]


class RecipesTest(folders.FolderTest):

  def run_program(self, program):
    """Runs it where the page has written what it reads; what it prints."""
    if conftest.MODE != "v1":
      self.skipTest("a program of its own has no mode, and has run in v1")
    self.wanted = networks.write_inputs_of_page(self.folder)
    with open(self.path("recipe.py"), "w") as output:
      output.write(program)
    done = processes.run([self.path("recipe.py")], fresh=True, timeout=200,
                         cwd=self.folder, env=dict(
                             os.environ, PYTHONPATH=folders.ROOT))
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertNotIn("TF_SessionReleaseCallable", done.stderr)
    return done.stdout.strip()

  def test_shards(self):
    self.assertEqual(self.run_program(_PROGRAMS[0]), "1000 rows")
    found = np.concatenate([np.load(self.path(
        "gradients-{:05d}-of-00008.npy".format(i))) for i in range(8)])
    np.testing.assert_allclose(found, self.wanted, rtol=1e-5, atol=1e-6)

  def test_records(self):
    self.assertEqual(self.run_program(_PROGRAMS[1]), "3 is not finite")
    lines = []
    for path in glob.glob(self.path("gradients*.txt")):
      with open(path) as source:
        lines += [line.split() for line in source]
    self.assertCountEqual([int(line[0]) for line in lines],
                          [i for i in range(1000) if i != 3])
    for key, *row in lines:
      np.testing.assert_allclose(
          np.array(row, float), self.wanted[int(key)], rtol=1e-5, atol=1e-6)
