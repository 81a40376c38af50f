"""Each page in docs as a program; its links, its tables, the names in it."""

import glob
import importlib
import importlib.util
import inspect
import os
import re

from absl.testing import parameterized

from gradfeed import _tf
from gradfeed.commands import runner
from gradfeed import errors
from tests.project import architecture_test
from tests.testing import folders
from tests.testing import pages

_DESIGN = "docs/design.md"
_ERRORS = "docs/errors.md"
_COMMANDS = "docs/command_line.md"
#: For TF 2, with eager execution left on.
_OF_TF2 = ("docs/migration.md", "docs/migration_stages.md",
           "docs/performance.md")

#: The pages that show code.
_PROGRAMS = [page for page in pages.docs() if pages.shown(page)]

_LINKING = pages.docs() + ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]


def _named(names):
  return [(re.sub(r"\W", "_", os.path.splitext(name)[0]), name)
          for name in names]


def _anchors(page):
  """The anchors that the headings of a page have, as GitHub makes them."""
  text = re.sub(r"^```.*?^```$", "", pages.read(page),
                flags=re.MULTILINE | re.DOTALL)
  return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
          for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def broken_links(page, text):
  """The targets of links in `text` that are not there, seen from `page`."""
  broken = []
  for target in re.findall(r"\]\(([^)\s]+)\)", text):
    if target.startswith("http"):
      continue
    path, _, anchor = target.partition("#")
    linked = os.path.normpath(
        os.path.join(os.path.dirname(page), path)) if path else page
    if not os.path.exists(os.path.join(folders.ROOT, linked)) or (
        anchor and anchor not in _anchors(linked)):
      broken.append(target)
  return broken


class PagesTest(parameterized.TestCase):

  def test_there_are_programs(self):
    self.assertGreaterEqual(len(_PROGRAMS), 7)

  @parameterized.named_parameters(_named(_PROGRAMS))
  def test_blocks_print_what_is_shown(self, page):
    if page in _OF_TF2 and not _tf.IS_TF2:
      self.skipTest("the page is for TensorFlow 2")
    shown = pages.shown(page)
    for (_, text, expected), (status, output) in zip(
        shown, pages.run(shown)):
      self.assertEqual(status, 0, output)
      self.assertEqual(
          pages.comparable(output), pages.comparable(expected), text)

  @parameterized.named_parameters(_named(_PROGRAMS))
  def test_the_first_block_imports_what_the_page_needs(self, page):
    language, text, _ = pages.shown(page)[0]
    self.assertEqual(language, "python")
    self.assertIn("import gradfeed as gf\n", text)
    if page not in _OF_TF2:
      self.assertIn("tf.disable_v2_behavior()", text)

  @parameterized.named_parameters(_named(_LINKING))
  def test_links_lead_somewhere(self, page):
    self.assertEqual(broken_links(page, pages.read(page)), [])

  @parameterized.named_parameters(
      ("page", "[a](nowhere.md)", "nowhere.md"),
      ("anchor", "[a](errors.md#nowhere)", "errors.md#nowhere"))
  def test_finds_a_broken_link(self, text, target):
    self.assertEqual(broken_links(_ERRORS, text), [target])

  def test_lines_are_not_long(self):
    for page in pages.docs() + ["CONTRIBUTING.md"]:
      text = re.sub(r"^```.*?^```$", "", pages.read(page),
                    flags=re.MULTILINE | re.DOTALL)
      for line in text.split("\n"):
        if not line.startswith("|"):
          self.assertLessEqual(len(line), 80, "{}: {}".format(page, line))


class ErrorsPageTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    spec = importlib.util.spec_from_file_location(
        "write_errors_page",
        os.path.join(folders.ROOT, "scripts", "write_errors_page.py"))
    self.script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(self.script)

  def test_is_what_the_script_writes(self):
    self.assertMultiLineEqual(
        pages.read(_ERRORS), self.script.page(),
        "docs/errors.md is out of date: python scripts/write_errors_page.py")

  def test_every_error_is_in_the_table(self):
    rows = dict(re.findall(r"^\| `(\w+Error)` \| ([`\w, ]+) \|",
                           pages.read(_ERRORS), re.MULTILINE))
    kinds = {name: kind for name, kind in vars(errors).items()
             if isinstance(kind, type) and name.endswith("Error") and
             kind is not errors.GradfeedError}
    self.assertEqual(sorted(rows), sorted(kinds))
    for name, kind in kinds.items():
      builtins = [base.__name__ for base in kind.__bases__[1:]]
      self.assertEqual(re.findall(r"\w+", rows[name]), builtins, name)

  def test_an_error_without_a_way_out_is_refused(self):
    class Terse(errors.GradfeedError, ValueError):
      """Something is wrong."""
    with self.assertRaisesRegex(ValueError, "Terse.*'Fix:'"):
      self.script.row(Terse)


class DesignPageTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.text = pages.read(_DESIGN)

  def test_floors_are_those_of_the_architecture(self):
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|$", self.text,
                      re.MULTILINE)
    shown = [(what.strip(), re.findall(r"`(\w+)`", packages))
             for _, what, packages in rows]
    self.assertEqual(shown[::-1], architecture_test.FLOORS)
    self.assertEqual([int(number) for number, _, _ in rows],
                     list(range(len(rows), 0, -1)))

  def test_every_module_has_its_line(self):
    modules = [  # Of files: a package that needs an extra is not imported.
        os.path.relpath(path, os.path.join(folders.ROOT, "gradfeed"))[:-3]
        for path in glob.glob(os.path.join(
            folders.ROOT, "gradfeed", "**", "*.py"), recursive=True)
        if os.path.basename(path) != "__init__.py"]
    listed = re.findall(r"^\| `([\w/]+)\.py` \|", self.text, re.MULTILINE)
    self.assertCountEqual(
        listed, [name.replace(os.sep, "/") for name in modules])

  def test_the_names_in_it_exist(self):
    packages = "|".join(package for _, packages in architecture_test.FLOORS
                        for package in packages if package != "__main__")
    names = re.findall(r"`((?:{})(?:\.\w+)+)`".format(packages), self.text)
    self.assertGreater(len(names), 30)
    for name in names:
      if not name.endswith(".py"):
        self.assertTrue(self.exists("gradfeed." + name), name)

  @parameterized.named_parameters(_named([_DESIGN, "CONTRIBUTING.md"]))
  def test_the_files_in_it_exist(self, page):
    paths = re.findall(r"`((?:\w+/)+\w+\.\w+)`", pages.read(page))
    self.assertNotEmpty(paths)
    for path in paths:
      self.assertTrue(any(
          os.path.exists(os.path.join(folders.ROOT, folder, path))
          for folder in ("", "gradfeed")), path)

  def test_finds_a_name_that_is_not_there(self):
    self.assertFalse(self.exists("gradfeed.graph.cache.nothing_like_it"))
    self.assertFalse(self.exists("gradfeed.nothing_like_it.cache"))

  def exists(self, name):
    """Whether a dotted name is a module, or what a module or a class has."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
      try:
        thing = importlib.import_module(".".join(parts[:end]))
      except ImportError:
        continue
      for part in parts[end:]:
        thing = inspect.getattr_static(thing, part, None)
      return thing is not None
    return False


class CommandsPageTest(parameterized.TestCase):

  def test_has_a_heading_for_each_command(self):
    text = pages.read(_COMMANDS)
    for command in runner.COMMANDS:
      self.assertRegex(text, r"(?m)^## `gradfeed {}`".format(command))
