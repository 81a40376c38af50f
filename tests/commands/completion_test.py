"""Completion of the command line, by the shells themselves."""

import os
import subprocess
import sys

from absl import flags
from absl.testing import parameterized

from gradfeed.commands import completion
from gradfeed.commands import inspect
from gradfeed.commands import runner
from tests.testing import folders

_ROOT = folders.ROOT

#: What bash does with the words of a line before it asks for completions.
_ASK = """
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_gradfeed
printf '%s\\n' "${COMPREPLY[@]}"
"""


def _flags():
  found = flags.FlagValues()
  flags.DEFINE_string("model", None, "The file of it. It's 'there'.",
                      flag_values=found)
  flags.DEFINE_list("results", None, "A directory to write [to]: now.",
                    flag_values=found)
  flags.DEFINE_string("tensor", None, "What to take.", flag_values=found)
  flags.DEFINE_multi_string("feed", None, "NAME=VALUE, or a file.",
                            flag_values=found)
  flags.DEFINE_enum("kind", "fast", ["fast", "far", "slow"], "How.",
                    flag_values=found)
  flags.DEFINE_bool("each", False, "One by one.", flag_values=found)
  flags.DEFINE_integer("seed", 0, "Of a file.", flag_values=found)
  return found


class BashTest(folders.FolderTest):

  def setUp(self):
    super().setUp()
    self.script = completion.script("bash", {
        "take": ("takes", _flags()), "inspect": ("shows", inspect.FLAGS)})

  def ask(self, *words):
    """What completes the last of `words`, in a folder with files."""
    for name in ("a model.h5", "amount.npy", "other.pb"):
      open(self.path(name), "w").close()
    done = subprocess.run(
        ["bash", "--norc", "-c", self.script + _ASK, "bash", "gradfeed"]
        + list(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        universal_newlines=True, cwd=self.folder)
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    return done.stdout.split("\n")[:-1]

  @parameterized.parameters(
      (("",), ["inspect", "take", "--completion=", "--help", "--version"]),
      (("t",), ["take"]), (("--v",), ["--version"]),
      (("--completion", "=", "z"), ["zsh"]), (("--completion=b",),
                                              ["--completion=bash"]),
      (("take", "--"), ["--help", "--each", "--noeach", "--feed=", "--kind=",
                        "--model=", "--results=", "--seed=", "--tensor="]),
      (("take", "--ki"), ["--kind="]), (("take", "--no"), ["--noeach"]),
      (("take", "--each", "--se"), ["--seed="]),
      (("take", "--seed", "3", "--se"), ["--seed="]),
      (("inspect", "--fo"), ["--format="]), (("nothing", "--"), [""]))
  def test_commands_and_flags(self, words, expected):
    self.assertEqual(self.ask(*words), expected)

  @parameterized.parameters(
      (("--kind", "="), ["fast", "far", "slow"]),
      (("--kind", "=", "fa"), ["fast", "far"]),
      (("--kind=fa",), ["--kind=fast", "--kind=far"]),
      (("--kind", "s"), ["slow"]),
      (("--seed", "=", ""), [""]), (("--tensor", "=", "a"), [""]),
      (("--tensor=a",), [""]))
  def test_values_of_an_enum(self, words, expected):
    self.assertEqual(self.ask("take", *words), expected)

  @parameterized.parameters(
      (("--model", "=", "a"), ["a model.h5", "amount.npy"]),
      (("--model=am",), ["--model=amount.npy"]),
      (("--results", "=", "oth"), ["other.pb"]),
      (("--model", "=", "nothing"), [""]), (("--feed", "=", "a"), [""]))
  def test_files_where_a_flag_takes_one(self, words, expected):
    self.assertCountEqual(self.ask("take", *words), expected)

  def test_every_command_as_a_process(self):
    """Starts gradfeed once, and then no more."""
    done = subprocess.run(
        ["bash", "--norc", "-c", 'eval "$("$PYTHON" scripts/gradfeed '
         '--completion=bash)"\nPATH=\n' + _ASK, "bash", "gradfeed", ""],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=_ROOT,
        universal_newlines=True, env=dict(os.environ, PYTHON=sys.executable))
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    self.assertContainsSubset(runner.COMMANDS, done.stdout.split("\n"))


class ZshTest(parameterized.TestCase):

  def test_tells_each_flag(self):
    script = completion.script("zsh", {"take": ("it's all", _flags())})
    for line in (
        "'take:it'\\''s all'", "'--help[tells the flags]'",
        "'--model=[The file of it]:model:_files'",
        "'--results=[A directory to write \\[to\\]\\: now]:results:_files'",
        "'*--feed=[NAME=VALUE, or a file]:feed:'", "'--each[One by one]'",
        "'--noeach'", "'--kind=[How]:kind:(fast far slow)'",
        "'--seed=[Of a file]:seed:'"):
      self.assertIn(line, script)


class RefusalTest(parameterized.TestCase):

  @parameterized.parameters("--completion", "--completion=fish")
  def test_another_shell(self, argument):
    with self.assertRaises(SystemExit) as caught:
      runner.main(["gradfeed", argument])
    self.assertEqual(caught.exception.code, 2)
