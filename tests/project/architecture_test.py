"""The house: which package may import which, and how large a room may be."""

import ast
import collections
import importlib
import os

from absl.testing import parameterized

from tests.testing import folders

_PACKAGE = os.path.join(folders.ROOT, "gradfeed")
_SCRIPTS = os.path.join(folders.ROOT, "scripts")

#: From the ground up. A package imports from lower floors and from itself.
FLOORS = [
    ("ground: messages, comparison", [
        "errors", "numeric_comparison", "progress_lines"]),
    ("ground: findings", ["findings"]),
    ("ground: TensorFlow", ["_tf"]),
    ("reads a graph, adds nothing", ["graph"]),
    ("finds which branches are taken, builds nothing", ["branches"]),
    ("finds out about a derivative, builds nothing", ["analysis"]),
    ("clones a part of a graph in another form", ["rewriting"]),
    ("compiles a part of a graph by XLA", ["compilation"]),
    ("tensors to tensors; tensors at values", ["derivatives", "evaluation"]),
    ("uses", ["models", "streaming", "explaining", "checking", "migration",
              "optimization", "patching"]),
    ("compares code, watches a program", ["comparing", "auditing"]),
    ("a data set in shards, for any engine", ["shards"]),
    ("steps of a pipeline of Apache Beam", ["beam"]),
    ("the face", ["__init__"]),
    ("programs", ["commands"]),
    ("the process", ["__main__"]),
]

#: The package that alone imports TensorFlow.
_DOOR = "_tf"
_TENSORFLOW = ("tensorflow", "tensorflow_core", "keras", "tf_keras")

_MOST_LINES = 400
_MOST_MODULES = 14

_LEVELS = {package: level for level, (_, packages) in enumerate(FLOORS)
           for package in packages}


def _sources(top=_PACKAGE):
  """dict from the name of each module below a folder to its text.

  The file of a package itself is called as the package is, "graph"; that of
  gradfeed is "__init__".
  """
  sources = {}
  for folder, _, files in os.walk(top):
    for name in files:
      if name.endswith(".py"):
        path = os.path.join(folder, name)
        module = os.path.relpath(path, top)[:-3].replace(os.sep, ".")
        if module.endswith(".__init__"):
          module = module[:-len(".__init__")]
        with open(path, encoding="utf-8") as source:
          sources[module] = source.read()
  return sources


def _imports(source):
  """The full name of everything that a text imports, at any depth."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, "relative import"
      for alias in node.names:
        yield "{}.{}".format(node.module, alias.name)


def _own(name, sources):
  """The module of gradfeed that importing `name` needs, or None."""
  parts = name.split(".")
  if parts[0] != "gradfeed":
    return None
  for end in (len(parts), len(parts) - 1):
    module = ".".join(parts[1:end])
    if module in sources:
      return module
  return "__init__"


def _package_of(module):
  return module.split(".")[0]


def _edges(sources):
  """(module, module of gradfeed that it imports), for all of `sources`."""
  for module, source in sources.items():
    for name in _imports(source):
      imported = _own(name, sources)
      if imported is not None:
        yield module, imported


def upward_imports(sources):
  """The imports that do not point down, nor into the package itself."""
  return sorted({
      "{} imports {}".format(module, imported)
      for module, imported in _edges(sources)
      if _package_of(module) != _package_of(imported) and
      _LEVELS[_package_of(imported)] >= _LEVELS[_package_of(module)]})


def cycles(sources):
  """The modules that import themselves by way of others."""
  imported_by = collections.defaultdict(set)
  for module, imported in _edges(sources):
    imported_by[module].add(imported)
  in_a_cycle = []
  for module in sources:
    reached, queue = set(), list(imported_by[module])
    while queue:
      other = queue.pop()
      if other not in reached:
        reached.add(other)
        queue.extend(imported_by[other])
    if module in reached:
      in_a_cycle.append(module)
  return sorted(in_a_cycle)


def importers_of_tensorflow(sources):
  """The packages that import TensorFlow or Keras."""
  return sorted({
      _package_of(module) for module, source in sources.items()
      for name in _imports(source) if name.split(".")[0] in _TENSORFLOW})


def long_files(sources):
  return sorted(module for module, source in sources.items()
                if source.count("\n") > _MOST_LINES)


def large_packages(sources):
  counts = collections.Counter(
      module.rpartition(".")[0] for module in sources)
  for module in sources:  # The file of a package is one of its files.
    if any(other.startswith(module + ".") for other in sources):
      counts[module] += 1
      counts[module.rpartition(".")[0]] -= 1
  return sorted(package for package, count in counts.items()
                if count > _MOST_MODULES)


class FloorsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.sources = _sources()

  def plant(self, module, source):
    self.sources[module] = source

  def test_every_package_has_one_floor(self):
    listed = [package for _, packages in FLOORS for package in packages]
    self.assertCountEqual(listed, {_package_of(name) for name in self.sources})

  def test_imports_point_down(self):
    self.assertEqual(upward_imports(self.sources), [])

  @parameterized.named_parameters(
      ("up", "graph", "from gradfeed.rewriting import cloning",
       "rewriting.cloning"),
      ("to_the_side", "derivatives", "from gradfeed.evaluation import plans",
       "evaluation.plans"),
      ("to_the_face", "checking", "import gradfeed", "__init__"),
      ("inside_of_a_function", "_tf", "def f():\n  from gradfeed.graph import "
       "tensors", "graph.tensors"))
  def test_finds_an_import_that_does_not_point_down(
      self, package, source, imported):
    self.plant(package + ".planted", source)
    self.assertEqual(upward_imports(self.sources),
                     ["{}.planted imports {}".format(package, imported)])

  def test_no_cycles(self):
    self.assertEqual(cycles(self.sources), [])

  def test_finds_a_cycle(self):
    self.plant("graph.one", "from gradfeed.graph import other")
    self.plant("graph.other", "from gradfeed.graph import one")
    self.assertEqual(cycles(self.sources), ["graph.one", "graph.other"])

  def test_one_package_imports_tensorflow(self):
    self.assertEqual(importers_of_tensorflow(self.sources), [_DOOR])

  @parameterized.parameters(
      "import tensorflow.compat.v1 as tf", "from tensorflow import Graph",
      "def f():\n  import tf_keras")
  def test_finds_an_import_of_tensorflow(self, source):
    self.plant("graph.planted", source)
    self.assertEqual(importers_of_tensorflow(self.sources), [_DOOR, "graph"])

  def test_no_file_is_long(self):
    self.assertEqual(long_files(self.sources), [])

  def test_finds_a_long_file(self):
    self.plant("graph.planted", "pass\n" * (_MOST_LINES + 1))
    self.assertEqual(long_files(self.sources), ["graph.planted"])

  def test_no_package_is_large(self):
    self.assertEqual(large_packages(self.sources), [])

  def test_finds_a_large_package(self):
    for i in range(_MOST_MODULES + 1):
      self.plant("planted.module_{}".format(i), "")
    self.assertEqual(large_packages(self.sources), ["planted"])

  def test_no_script_is_long_and_no_folder_of_scripts_large(self):
    scripts = _sources(_SCRIPTS)
    self.assertIn("benchmarks.derivatives.tasks", scripts)
    self.assertEqual(long_files(scripts), [])
    self.assertEqual(large_packages(scripts), [])

  def test_commands_alone_know_flags(self):
    importing = {_package_of(module) for module, source in self.sources.items()
                 for name in _imports(source) if name.startswith("absl")}
    self.assertEqual(importing, {"commands"})

  def test_third_parties_are_those_that_are_required(self):
    allowed = {"absl", "numpy", "tensorflow", "gradfeed",
               "apache_beam", "h5py", "scipy", "tabulate", "tf_keras", "tqdm"}
    required = {"absl", "numpy"}
    imported = {name.split(".")[0] for source in self.sources.values()
                for name in _imports(source)}
    foreign = {name for name in imported - allowed
               if "site-packages" in (getattr(importlib.import_module(name),
                                              "__file__", None) or "")}
    self.assertEqual(foreign, set())
    self.assertTrue(required <= imported)
