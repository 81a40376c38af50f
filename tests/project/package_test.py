"""What is installed, and what importing it does."""

import ast
import json
import os
import subprocess
import sys
import types

from absl.testing import parameterized

import gradfeed
from tests.testing import folders

_ROOT = folders.ROOT

_PROGRAM = os.path.join(_ROOT, "scripts", "gradfeed")

_IMPORT = """
import json, sys
import absl.flags, absl.app, numpy
import tensorflow.compat.v1
before, flags = set(sys.modules), set(absl.flags.FLAGS)
from gradfeed import *
print(json.dumps([
    sorted((name, getattr(sys.modules[name], "__file__", None) or "")
           for name in set(sys.modules) - before),
    sorted(set(absl.flags.FLAGS) - flags), "tabulate" in sys.modules]))
"""

_IMPORT_ALONE = """
import sys
import gradfeed
print(sorted({name.split(".")[1] for name in sys.modules
              if name.startswith("gradfeed.")}))
gradfeed.stream
print("gradfeed.streaming.streams" in sys.modules, "stream" in dir(gradfeed))
"""

_BLOCKED = """
import sys
sys.modules["tensorflow"] = None
try:
  import gradfeed
except ImportError as error:
  print(type(error).__name__)
  print(error)
"""

_BLOCKED_COMMAND = """
import sys
sys.modules["tensorflow"] = None
import runpy
sys.argv = ["gradfeed", "demo"]
runpy.run_path(PROGRAM, run_name="__main__")
"""


def _python(program):
  """Runs `program` in a process of its own, without this one's imports."""
  return subprocess.run(
      [sys.executable, "-c", program], stdout=subprocess.PIPE,
      stderr=subprocess.PIPE, universal_newlines=True,
      env=dict(os.environ, PYTHONPATH=_ROOT))


def _setup_arguments():
  """What setup.py passes to setuptools."""
  passed = {}
  stand_in = types.ModuleType("setuptools")
  stand_in.setup = lambda **arguments: passed.update(arguments)
  real = sys.modules.get("setuptools")
  sys.modules["setuptools"] = stand_in
  path = os.path.join(_ROOT, "setup.py")
  try:
    with open(path, encoding="utf-8") as source:
      exec(compile(source.read(), path, "exec"),  # pylint: disable=exec-used
           {"__file__": path, "__name__": "__main__"})
  finally:
    if real is None:
      del sys.modules["setuptools"]
    else:
      sys.modules["setuptools"] = real
  return passed


class ImportTest(parameterized.TestCase):

  def test_e12_imports_tensorflow_numpy_and_absl_alone_and_no_flag(self):
    done = _python(_IMPORT)
    self.assertEqual(done.returncode, 0, done.stderr)
    modules, flags, has_tabulate = json.loads(done.stdout.split("\n")[-2])
    self.assertEqual(flags, [])
    self.assertFalse(has_tabulate)
    self.assertIn("gradfeed.evaluation.functions",
                  [name for name, _ in modules])
    foreign = [
        name for name, path in modules
        if "site-packages" in path and name.split(".")[0] not in (
            "gradfeed", "absl", "numpy", "tensorflow", "tensorflow_core")]
    self.assertEqual(foreign, [])

  def test_imports_what_is_not_needed_to_call_when_it_is_used(self):
    done = _python(_IMPORT_ALONE)
    self.assertEqual(done.returncode, 0, done.stderr)
    at_first, then = done.stdout.split("\n")[-3:-1]
    self.assertEqual(ast.literal_eval(at_first), sorted([
        "_tf", "analysis", "branches", "derivatives", "errors", "evaluation",
        "findings", "graph", "numeric_comparison", "patching", "rewriting"]))
    self.assertEqual(then, "True True")

  def test_every_public_name_is_there(self):
    self.assertContainsSubset(gradfeed.__all__, dir(gradfeed))
    for name in gradfeed.__all__:
      self.assertEqual(getattr(gradfeed, name).__name__, name)
    with self.assertRaisesRegex(AttributeError, "'gradfeed'.*'gradiant'"):
      gradfeed.gradiant  # pylint: disable=pointless-statement

  def test_without_tensorflow_says_what_to_type(self):
    done = _python(_BLOCKED)
    self.assertEqual(done.returncode, 0, done.stderr)
    kind, message = done.stdout.split("\n", 1)
    self.assertEqual(kind, "DependencyError")
    self.assertIn("pip install 'gradfeed[tf]'", message)

  def test_command_without_tensorflow_says_what_to_type(self):
    done = _python(_BLOCKED_COMMAND.replace("PROGRAM", repr(_PROGRAM)))
    self.assertEqual(done.returncode, 1)
    self.assertIn("pip install 'gradfeed[tf]'", done.stderr)
    self.assertNotIn("Traceback", done.stderr)
    self.assertEqual(done.stdout, "")


class SetupTest(parameterized.TestCase):

  def test_requires_no_tensorflow(self):
    arguments = _setup_arguments()
    self.assertEqual(arguments["name"], "gradfeed")
    self.assertEqual(arguments["python_requires"], ">=3.7")
    self.assertEqual(
        [requirement.split(">")[0]
         for requirement in arguments["install_requires"]],
        ["absl-py", "numpy"])
    self.assertEqual(arguments["extras_require"]["tf"],
                     ["tensorflow>=1.15,<3"])
    self.assertEqual(arguments["extras_require"]["cli"],
                     ["tabulate", "tqdm"])

  def test_version_is_that_of_the_package(self):
    self.assertEqual(_setup_arguments()["version"], gradfeed.__version__)

  def test_lists_every_package(self):
    found = [
        os.path.relpath(folder, _ROOT).replace(os.sep, ".")
        for folder, _, files in os.walk(os.path.join(_ROOT, "gradfeed"))
        if "__init__.py" in files]
    self.assertCountEqual(_setup_arguments()["packages"], found)

  def test_the_command_is_installed(self):
    script, = _setup_arguments()["scripts"]
    self.assertEqual(os.path.basename(script), "gradfeed")
    self.assertTrue(os.access(os.path.join(_ROOT, script), os.X_OK))

  def test_license_is_in_full(self):
    with open(os.path.join(_ROOT, "LICENSE"), encoding="utf-8") as source:
      text = source.read()
    self.assertIn("Apache License", text)
    self.assertIn("END OF TERMS AND CONDITIONS", text)
    self.assertEqual(_setup_arguments()["license"], "Apache-2.0")

  def test_changelog_begins_with_this_version(self):
    with open(os.path.join(_ROOT, "CHANGELOG.md"), encoding="utf-8") as source:
      headings = [line for line in source if line.startswith("## ")]
    self.assertIn(gradfeed.__version__, headings[0])
