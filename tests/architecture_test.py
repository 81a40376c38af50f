"""The house: which module may import which, and what each has to tell."""

import ast
import doctest
import importlib
import inspect
import os
import re
import tempfile

from absl.testing import parameterized

import gradfeed

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PACKAGE = os.path.join(_ROOT, "gradfeed")

#: From the ground up. A module imports only from floors below its own.
FLOORS = [
    ("ground: what, why, fix", [
        "checks.__init__", "checks.differences", "errors",
        "explanations.__init__", "findings", "streams.__init__"]),
    ("ground: TensorFlow, memory", ["_tf", "memos", "checks.trials"]),
    ("nodes: what no process but one knows", ["unknown_gradients"]),
    ("names and nodes", [
        "tensors", "lifting", "inlining", "lists", "own_gradients",
        "callables", "origins"]),
    ("nodes: loops and branches", ["primitives"]),
    ("nodes: loops and branches in another form", ["functionalising"]),
    ("graphs: what is there", [
        "feeds", "outputs", "paths", "sessions"]),
    ("graphs: what is found out", [
        "blockers", "bodies", "checks.widening", "explanations.requirements",
        "known", "parts", "wrongs"]),
    ("graphs: orders, rules for rows", [
        "orders", "row_rules", "explanations.ways"]),
    ("graphs: rows", ["explanations.reductions", "rows"]),
    ("graphs: what is suspicious, what it looks like", [
        "explanations.drawing", "explanations.suspicions"]),
    ("graphs: what is copied", [
        "copies", "reasons", "snapshots", "specialising"]),
    ("graphs: what is copied in another form", ["vectorising"]),
    ("graphs: without control flow of v1; what is refused", [
        "refusals", "twins"]),
    ("one product, one plan", [
        "streams.enlarging", "plans", "products", "seeds"]),
    ("symbols: what goes in and comes out", ["arguments", "stacks"]),
    ("symbols: of a whole", ["derivatives", "jacobians", "probes"]),
    ("symbols: of second order, of rows", ["batches", "classes", "curvatures"]),
    ("symbols: of examples", ["examples"]),
    ("values: once", ["evaluations"]),
    ("values, a few at a time", ["chunks"]),
    ("values", ["functions"]),
    ("values: in float64, and as they are", [
        "checks.culprits", "checks.doubling", "checks.sampling"]),
    ("values: y of x alone", ["checks.forwards", "checks.holding"]),
    ("values: what is found", [
        "checks.blame", "checks.couplings", "checks.nonfinite",
        "checks.verdicts"]),
    ("values: compared", ["checks.comparing", "checks.omissions"]),
    ("uses: formats", [
        "formats.__init__", "formats.files", "formats.fitting", "keras_models",
        "streams.progress", "streams.rebatching"]),
    ("uses: formats of arrays", ["formats.arrays", "model_files"]),
    ("uses: formats of rows", [
        "formats.archives", "formats.columns", "formats.records"]),
    ("uses: what is read and written", [
        "streams.blocks", "models", "streams.points", "streams.sinks"]),
    ("uses", ["checking", "diagnosis", "inventories", "streaming"]),
    ("the package", ["__init__"]),
    ("commands: their words", ["commands.completion"]),
    ("commands: their parts", [
        "commands.__init__", "commands.apps", "commands.classifier",
        "commands.choices", "commands.tables", "commands.values"]),
    ("commands: what they have in common", ["commands.sources"]),
    ("commands", ["commands.at", "commands.check", "commands.demo",
                  "commands.explain", "commands.inspect"]),
    ("processes", ["__main__"]),
]

#: The module that alone imports TensorFlow.
_DOOR = "_tf"

_LEVELS = {module: level for level, (_, modules) in enumerate(FLOORS)
           for module in modules}


def _modules():
  """dict from the name of each module of the package to its syntax tree."""
  found = {}
  for folder, _, files in os.walk(_PACKAGE):
    for name in files:
      if name.endswith(".py"):
        path = os.path.join(folder, name)
        with open(path, encoding="utf-8") as source:
          found[os.path.relpath(path, _PACKAGE)[:-3].replace(os.sep, ".")] = (
              ast.parse(source.read(), path))
  return found


def _imports(tree):
  """The full name of everything that is imported, at any depth."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, "relative import"
      for alias in node.names:
        yield "{}.{}".format(node.module, alias.name)


def _own(name, modules):
  """The module of the package that importing `name` needs, or None."""
  parts = name.split(".")
  if parts[0] != "gradfeed":
    return None
  for end in (len(parts), len(parts) - 1):
    module = ".".join(parts[1:end])
    for candidate in (module, module + ".__init__"):
      if candidate in modules:
        return candidate
  return "__init__"


class FloorsTest(parameterized.TestCase):

  def test_every_module_has_one_floor(self):
    listed = [module for _, modules in FLOORS for module in modules]
    self.assertCountEqual(listed, _modules())

  def test_imports_point_down(self):
    modules, wrong = _modules(), []
    for module, tree in modules.items():
      for name in _imports(tree):
        own = _own(name, modules)
        if own is not None and _LEVELS[own] >= _LEVELS[module]:
          wrong.append("{} imports {}".format(module, own))
    self.assertEqual(wrong, [])

  def test_one_module_imports_tensorflow(self):
    importing = {module for module, tree in _modules().items()
                 for name in _imports(tree)
                 if re.match(r"(tensorflow|tensorflow_core|keras|tf_keras)\b",
                             name)}
    self.assertEqual(importing, {_DOOR})

  def test_commands_alone_know_flags(self):
    importing = {module for module, tree in _modules().items()
                 for name in _imports(tree) if name.startswith("absl")}
    self.assertTrue(importing)
    for module in importing:
      self.assertStartsWith(module, "commands.")

  def test_third_parties_are_those_that_are_required(self):
    allowed = {"absl", "numpy", "tensorflow", "gradfeed",
               "h5py", "tabulate", "tf_keras", "tqdm"}
    required = {"absl", "numpy"}
    found = {name.split(".")[0] for tree in _modules().values()
             for name in _imports(tree)}
    foreign = {name for name in found - allowed
               if "site-packages" in (getattr(importlib.import_module(name),
                                              "__file__", None) or "")}
    self.assertEqual(foreign, set())
    self.assertTrue(required <= found)

  def assertStartsWith(self, text, start):
    self.assertTrue(text.startswith(start), text)


def _public():
  """(name, object) of everything public in the namespace of gradfeed."""
  return [(name, thing) for name, thing in sorted(vars(gradfeed).items())
          if not name.startswith("_") and not inspect.ismodule(thing)]


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
    with open(os.path.join(_ROOT, "README.md"), encoding="utf-8") as source:
      readme = source.read()
    for name, thing in _public():
      if inspect.isfunction(thing):
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
      if module == "__main__" or module.startswith("commands."):
        continue
      imported = importlib.import_module(
          "gradfeed" if module == "__init__" else "gradfeed." + module)
      for example in doctest.DocTestFinder().find(imported, globs={}):
        runner = doctest.DocTestRunner()
        report = []
        runner.run(example, out=report.append)
        self.assertEqual(runner.summarize(verbose=False)[0], 0,
                         "".join(report))
        attempted += len(example.examples)
    self.assertGreaterEqual(attempted, 10)
