"""Runs what the README shows, and holds it against what the README says."""

import json
import os
import re
import shlex
import tempfile

from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from gradfeed import errors
from tests import conftest
from tests.testing import folders
from tests.testing import processes

_ROOT = folders.ROOT

#: Runs each block of the list in argv[1] in one namespace; the last line it
#: prints is a list of what each block printed.
_RUNNER = """
import contextlib, io, json, sys
from tests.testing import processes
names, printed = {"__name__": "readme"}, []
for language, text in json.loads(sys.argv[1]):
  if language == "console":
    done = processes.run(json.loads(text), stderr=processes.STDOUT)
    printed.append([done.returncode, done.stdout])
  else:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
      exec(compile(text, "README.md", "exec"), names)
    printed.append([0, output.getvalue()])
sys.stdout.write("\\n" + json.dumps(printed))
"""


def _read(*path):
  with open(os.path.join(_ROOT, *path), encoding="utf-8") as source:
    return source.read()


def _blocks():
  """(language, text) of each block of code, in order."""
  return re.findall(r"^```(\w+)\n(.*?)^```$", _read("README.md"),
                    re.MULTILINE | re.DOTALL)


def _shown():
  """(language, what to run, what it has to print) of what can be run."""
  blocks, shown = _blocks(), []
  for i, (language, text) in enumerate(blocks):
    if language == "python":
      follows = blocks[i + 1] if i + 1 < len(blocks) else ("", "")
      shown.append((language, text,
                    follows[1] if follows[0] == "text" else ""))
    elif language == "console" and text.startswith("$ gradfeed "):
      command, output = text[2:].split("\n", 1)
      shown.append((language, command, output))
  return shown


def _in_mode(text):
  """The code in the mode of this run."""
  if conftest.MODE == "v1":
    return text
  return text.replace("tf.disable_v2_behavior()",
                      "tf.disable_eager_execution()")


def _command(text):
  words = shlex.split(text)
  assert words[0] == "gradfeed"
  return json.dumps([processes.GRADFEED] + words[1:])


def _comparable(text):
  """Without times, and on TF 1 without the column that is right there."""
  text = re.sub(r" +[0-9]+ us", " ? us", text)
  text = re.sub(r"in [0-9.]+ s\.", "in ? s.", text)
  if tf.__version__.startswith("1."):
    text = text.replace("[[-0.0001 -0.0001]]", "[[-1. -1.]]")
    text = re.sub(r"3\. By a layer.*", "", text, flags=re.DOTALL)
  return text.rstrip()


class ReadmeTest(parameterized.TestCase):

  def test_blocks_print_what_is_shown(self):
    shown = _shown()
    self.assertGreaterEqual(len(shown), 9)
    programs = [[language, _in_mode(text) if language == "python"
                 else _command(text)] for language, text, _ in shown]
    environment = dict(os.environ, PYTHONPATH=_ROOT, PYTHONWARNINGS="ignore")
    with tempfile.TemporaryDirectory() as folder:
      done = processes.run(["-c", _RUNNER, json.dumps(programs)], cwd=folder,
                           env=environment)
    self.assertEqual(done.returncode, 0, done.stderr)
    printed = json.loads(done.stdout.split("\n")[-1])
    for (_, text, expected), (status, output) in zip(shown, printed):
      self.assertEqual(status, 0, output)
      self.assertEqual(_comparable(output), _comparable(expected), text)

  def test_every_error_is_in_the_table(self):
    rows = dict(re.findall(r"^\| `(\w+Error)` \| ([`\w, ]+) \|",
                           _read("README.md"), re.MULTILINE))
    kinds = {name: kind for name, kind in vars(errors).items()
             if isinstance(kind, type) and name.endswith("Error") and
             kind is not errors.GradfeedError}
    self.assertEqual(sorted(rows), sorted(kinds))
    for name, kind in kinds.items():
      builtins = [base.__name__ for base in kind.__bases__[1:]]
      self.assertEqual(re.findall(r"\w+", rows[name]), builtins, name)

  def test_ci_runs_the_command_for_the_tests(self):
    commands = [text.strip() for language, text in _blocks()
                if language == "console" and text.startswith("python3 -m venv")]
    self.assertLen(commands, 2)
    demo, tests = commands
    self.assertEndsWith(demo, ".venv/bin/gradfeed demo")
    self.assertEndsWith(tests, ".venv/bin/python scripts/check.py")
    script = _read(".ci", "run")
    self.assertIn("set -euo pipefail", script)
    pattern = re.search(r"grep -m 1 '(.*)' README\.md", script).group(1)
    found = [line for line in _read("README.md").split("\n")
             if re.search(pattern, line)]
    self.assertEqual(found, [tests])

  def assertEndsWith(self, text, end):
    self.assertTrue(text.endswith(end), text)
