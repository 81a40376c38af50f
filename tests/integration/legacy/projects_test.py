"""Each project as it is, and with `gf.install()` as its only added line.

The numbers are the same, bit for bit but for those of `launcher.ROUNDED`. No
step adds more ops to the graph than before.
"""

import json
import os

from absl.testing import parameterized
import numpy as np

from tests import conftest
from tests.integration.legacy import comparison
from tests.integration.legacy import launcher
from tests.testing import folders
from tests.testing import processes


def _outcome(project, way, folder):
  """Runs a project in a process of its own; its `launcher.Outcome`."""
  path = os.path.join(folder, way)
  done = processes.run(
      ["-m", "tests.integration.legacy.launcher", project, conftest.MODE, way,
       path], cwd=folders.ROOT, timeout=300)
  if done.returncode:
    raise AssertionError(done.stderr[-4000:])
  return launcher.read(path)


class ProjectsTest(folders.FolderTest):

  @parameterized.named_parameters(
      (project, project) for project, modes in launcher.PROJECTS.items()
      if conftest.MODE in modes)
  def test_as_before(self, project):
    plain, installed = [
        _outcome(project, way, self.folder) for way in launcher.WAYS]
    self.assertEqual((plain.replaced, installed.replaced), (False, True))
    self.assertNotEmpty(plain.results)
    self.assertGreater(len(plain.ops), 2)
    self.assertEqual(
        comparison.differences(plain.results, installed.results,
                               launcher.ROUNDED.get(project, ())), [])
    self.assertLen(installed.ops, len(plain.ops))
    self.assertEqual(comparison.growth(plain.ops, installed.ops), [])
    if conftest.MODE == "v1":  # The audit itself is tested in every mode.
      self._check_audit(project, plain)

  def _check_audit(self, project, plain):
    """The audit of a project finds something, and changes nothing."""
    audited = _outcome(project, "audited", self.folder)
    self.assertEqual(
        comparison.differences(plain.results, audited.results, ()), [])
    self.assertEqual(audited.ops, plain.ops)
    with open(self.path("audited.json")) as file:
      report = json.load(file)
    self.assertGreater(report["run_seconds"], 0)
    self.assertGreater(report["gradient_seconds"], 0)
    found = {(finding["kind"], os.path.basename(finding["file"]))
             for finding in report["findings"]}
    self.assertIn(("gone_names", project + ".py"), found)

  def test_each_file_is_in_the_table(self):
    others = {"__init__", "comparison", "input_data", "launcher",
              "projects_test"}
    found = {name[:-3] for name in os.listdir(os.path.dirname(__file__))
             if name.endswith(".py")}
    self.assertEqual(found - others, set(launcher.PROJECTS))

  def test_none_knows_of_gradfeed(self):
    for project in launcher.PROJECTS:
      with open(os.path.join(
          os.path.dirname(__file__), project + ".py")) as source:
        self.assertNotIn("gradfeed", source.read(), project)

  def test_one_runs_alone(self):
    done = processes.run(["-m", "tests.integration.legacy.hmc"],
                         cwd=folders.ROOT, timeout=300)
    self.assertEqual(done.returncode, 0, done.stderr[-2000:])
    self.assertRegex(done.stdout, r"accepted \d+ of 60\nweights \[")


class ComparisonTest(parameterized.TestCase):

  def test_the_last_bit_of_one_element(self):
    a = np.arange(5, dtype=np.float32)
    b = a.copy()
    b[3] = np.nextafter(b[3], np.float32(9))
    self.assertEqual(comparison.differences({"a": a}, {"a": a.copy()}), [])
    line, = comparison.differences({"a": a, "b": a}, {"a": a, "b": b})
    self.assertRegex(line, "b: 2.38e-07 apart, of 4 at most")

  def test_rounding_where_it_may_be(self):
    a = np.array([4.0, 0.0])
    for far, lines in ((1e-6, 0), (1e-5, 1), (np.nan, 1)):
      self.assertLen(comparison.differences(
          {"a": a}, {"a": a + far}, ["a"]), lines)

  def test_another_shape_dtype_or_name(self):
    a = np.zeros([2, 1])
    for other in (np.zeros(2), np.zeros([2, 1], np.float32)):
      self.assertLen(comparison.differences({"a": a}, {"a": other}), 1)
    self.assertLen(comparison.differences({"a": a}, {"b": a}), 1)

  def test_nan_is_the_same_as_nan(self):
    nan = {"a": np.array([np.nan])}
    self.assertEqual(comparison.differences(nan, {"a": nan["a"].copy()}), [])

  def test_growth(self):
    def growth(plain, installed, graphs=(0, 0, 0)):
      return comparison.growth(list(zip(graphs, plain)),
                               list(zip(graphs, installed)))

    self.assertEqual(growth([5, 5, 5], [9, 9, 9]), [])
    self.assertEqual(growth([5, 7, 9], [9, 9, 10]), [])
    self.assertEqual(growth([5, 5, 5], [9, 9, 10]), [(2, 0, 1)])
    self.assertEqual(growth([5, 6, 6], [9, 12, 12], (0, 1, 1)), [])
    self.assertEqual(growth([5, 6, 6], [9, 12, 13], (0, 1, 1)), [(2, 0, 1)])
