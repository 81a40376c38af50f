"""The programs for engines that docs/cluster.md shows, where these are there."""

import importlib.util
import os
import re
import shutil
import sys

from absl.testing import parameterized
import numpy as np

from tests import conftest
from tests.shards import networks
from tests.testing import folders
from tests.testing import pages
from tests.testing import processes


def _recipe(module):
  """The program of docs/cluster.md that imports `module`."""
  return next(text for language, text in pages.blocks("docs/cluster.md")
              if language == "py" and re.search(
                  "^(from|import) " + module, text, re.MULTILINE))


class RecipesTest(folders.FolderTest):

  @parameterized.parameters("dask", "pyspark")
  def test_gives_what_one_process_gives(self, module):
    if importlib.util.find_spec(module) is None:
      self.skipTest(module + " is not installed")
    if module == "pyspark" and shutil.which("java") is None:
      self.skipTest("there is no java")
    if conftest.MODE != "v1":
      self.skipTest("a program of its own has no mode, and has run in v1")
    expected = networks.write_inputs_of_page(self.folder)
    with open(self.path("recipe.py"), "w") as output:
      output.write(_recipe(module))
    done = processes.run([self.path("recipe.py")], fresh=True, timeout=300,
                         cwd=self.folder, env=dict(
                             os.environ, PYTHONPATH=folders.ROOT,
                             PYSPARK_PYTHON=sys.executable,
                             SPARK_LOCAL_IP="127.0.0.1"))
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(done.stdout.strip(), "1000 rows", done.stderr)
    found = np.concatenate([np.load(self.path(
        "gradients-{:05d}-of-00008.npy".format(i))) for i in range(8)])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    self.assertNotIn("TF_SessionReleaseCallable", done.stderr)
    self.assertNotIn("Traceback", done.stderr)
