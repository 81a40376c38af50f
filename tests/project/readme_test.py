"""The README as a program, and what its commands and its size have to be."""

import re
import unittest

from absl.testing import parameterized

from tests import conftest
from tests.testing import pages

_README = "README.md"


class ReadmeTest(parameterized.TestCase):

  @unittest.skipIf(conftest.MODE == "eager", "the program is that of v1")
  def test_blocks_print_what_is_shown(self):
    shown = pages.shown(_README)
    self.assertGreaterEqual(len(shown), 4)
    for (_, text, expected), (status, output) in zip(
        shown, pages.run(shown)):
      self.assertEqual(status, 0, output)
      self.assertEqual(
          pages.comparable(output), pages.comparable(expected), text)

  def test_is_a_first_page(self):
    self.assertLessEqual(len(pages.read(_README).split("\n")), 200)

  def test_links_to_every_page(self):
    readme = pages.read(_README)
    for page in pages.docs() + ["CONTRIBUTING.md", "CHANGELOG.md"]:
      self.assertIn("]({})".format(page), readme)

  def test_ci_runs_the_command_for_the_tests(self):
    commands = [text.strip() for language, text in pages.blocks(_README)
                if language == "console" and text.startswith("python3 -m venv")]
    self.assertLen(commands, 2)
    demo, tests = commands
    self.assertEndsWith(demo, ".venv/bin/gradfeed demo")
    self.assertEndsWith(tests, ".venv/bin/python scripts/check.py")
    script = pages.read(".ci/run")
    self.assertIn("set -euo pipefail", script)
    pattern = re.search(r"grep -m 1 '(.*)' README\.md", script).group(1)
    found = [line for line in pages.read(_README).split("\n")
             if re.search(pattern, line)]
    self.assertEqual(found, [tests])

  def assertEndsWith(self, text, end):
    self.assertTrue(text.endswith(end), text)
