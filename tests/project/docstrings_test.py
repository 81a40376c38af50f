"""What each public name has to tell, and examples that run."""

import doctest
import importlib
import inspect
import os
import pkgutil
import re
import tempfile

from absl.testing import parameterized

import gradfeed
import gradfeed.shards
from tests.testing import folders

#: Packages with public names of their own, beside those of gradfeed.
_PACKAGES = [gradfeed.shards]
try:
  import gradfeed.beam  # pylint: disable=g-import-not-at-top
  _PACKAGES.append(gradfeed.beam)
except gradfeed.DependencyError:
  pass  # It needs an extra.


def _modules():
  """The names of all modules that can be imported, gradfeed among them."""
  found = ["gradfeed"] + [
      module.name for module in pkgutil.walk_packages(
          gradfeed.__path__, "gradfeed.",
          onerror=lambda name: None)]  # gradfeed.beam without Beam.
  return [name for name in found
          if name.split(".")[1:2] != ["beam"] or len(_PACKAGES) > 1]


def _public():
  """(name, object) of everything public in gradfeed and its packages."""
  return [(name, getattr(package, name)) for package in [gradfeed] + _PACKAGES
          for name in sorted(package.__all__)]


def _callables():
  """Public functions, and the public methods of public classes."""
  for name, thing in _public():
    if inspect.isfunction(thing):
      yield name, thing
    elif not issubclass(thing, Exception):
      for method, function in vars(thing).items():
        if inspect.isfunction(function) and (
            method == "__call__" or not method.startswith("_")):
          yield "{}.{}".format(name, method), function


class DocstringTest(parameterized.TestCase):

  def test_the_names_are_those_of_the_readme(self):
    path = os.path.join(folders.ROOT, "README.md")
    with open(path, encoding="utf-8") as source:
      readme = source.read()
    for name in gradfeed.__all__:
      if inspect.isfunction(getattr(gradfeed, name)):
        self.assertIn("gf.{}(".format(name), readme)

  def test_every_public_name_has_a_docstring(self):
    self.assertGreater(len(_public()), 20)
    for name, thing in _public():
      self.assertTrue(vars(thing)["__doc__"] if inspect.isclass(thing)
                      else thing.__doc__, name)

  @parameterized.named_parameters(_callables())
  def test_tells_arguments_and_results(self, function):
    doc = inspect.getdoc(function)
    self.assertTrue(doc, "no docstring")
    first = doc.split("\n")[0]
    self.assertTrue(first.endswith("."), first)
    arguments = [name for name in inspect.signature(function).parameters
                 if name != "self"]
    if arguments:
      described = doc.split("Args:", 1)[-1].split("\n\n", 1)[0]
      for name in arguments:
        self.assertRegex(described, r"(?m)^ +\*{{0,2}}{}:".format(name))
    if re.search(r"(?m)^\s+return \S", inspect.getsource(function)):
      self.assertIn("Returns:", doc)

  @parameterized.named_parameters(
      (name, thing) for name, thing in _public() if inspect.isfunction(thing))
  def test_tells_errors_and_an_example(self, function):
    doc = inspect.getdoc(function)
    self.assertIn("Raises:", doc)
    self.assertIn("Example:", doc)
    self.assertIn(">>> ", doc.split("Example:")[1])

  def test_examples_run(self):
    attempted = 0
    folder = self.enter_context(tempfile.TemporaryDirectory())
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(folder)  # Some write files.
    for module in sorted(_modules()):
      if module.split(".")[1:2] in (["__main__"], ["commands"]):
        continue
      imported = importlib.import_module(module)
      for example in doctest.DocTestFinder().find(imported, globs={}):
        runner = doctest.DocTestRunner()
        report = []
        runner.run(example, out=report.append)
        self.assertEqual(runner.summarize(verbose=False)[0], 0,
                         "".join(report))
        attempted += len(example.examples)
    self.assertGreaterEqual(attempted, 10)
