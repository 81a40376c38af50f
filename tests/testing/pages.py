"""Pages of documentation as programs: what they show is run, and compared.

A page is a file of Markdown. Its blocks of Python are one program, in order;
a block of text after one is what it has to print. A block of the console that
begins with `$ gradfeed` is run as well, in the same folder, at its place.
"""

import json
import os
import re
import shlex
import tempfile

import tensorflow.compat.v1 as tf

from tests import conftest
from tests.testing import folders
from tests.testing import processes

_DOCS = os.path.join(folders.ROOT, "docs")

#: Runs each block of the list in argv[1] in one namespace; the last line it
#: prints is a list of what each block printed.
_RUNNER = """
import contextlib, io, json, sys
from tests.testing import processes
names, printed = {"__name__": "example"}, []
for language, text in json.loads(sys.argv[1]):
  if language == "console":
    done = processes.run(json.loads(text), stderr=processes.STDOUT)
    printed.append([done.returncode, done.stdout])
  else:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
      exec(compile(text, "example.py", "exec"), names)
    printed.append([0, output.getvalue()])
sys.stdout.write("\\n" + json.dumps(printed))
"""


def docs():
  """The names of all pages in the folder docs, such as "docs/errors.md"."""
  return sorted("docs/" + name for name in os.listdir(_DOCS)
                if name.endswith(".md"))


def read(page):
  """The text of a file, which is named from the folder of the checkout."""
  with open(os.path.join(folders.ROOT, page), encoding="utf-8") as source:
    return source.read()


def blocks(page):
  """(language, text) of each block of code of a page, in order."""
  return re.findall(r"^```(\w+)\n(.*?)^```$", read(page),
                    re.MULTILINE | re.DOTALL)


def shown(page):
  """(language, what to run, what it has to print) of what can be run."""
  found, examples = blocks(page), []
  for i, (language, text) in enumerate(found):
    if language == "python":
      follows = found[i + 1] if i + 1 < len(found) else ("", "")
      examples.append((language, text,
                       follows[1] if follows[0] == "text" else ""))
    elif language == "console" and text.startswith("$ gradfeed "):
      command, output = text[2:].split("\n", 1)
      examples.append((language, command, output))
  return examples


def run(examples):
  """Runs what `shown` found, in a process and a folder of its own.

  Args:
    examples: list of (language, what to run, what it has to print).

  Returns:
    list with [exit status, printed text] for each of them.

  Raises:
    AssertionError: a block of Python raises; with its traceback.
  """
  programs = [[language, _in_mode(text) if language == "python"
               else _command(text)] for language, text, _ in examples]
  environment = dict(os.environ, PYTHONPATH=folders.ROOT,
                     PYTHONWARNINGS="ignore")
  with tempfile.TemporaryDirectory() as folder:
    done = processes.run(["-c", _RUNNER, json.dumps(programs)], cwd=folder,
                         env=environment)
  if done.returncode:
    raise AssertionError(done.stderr)
  return json.loads(done.stdout.split("\n")[-1])


def _in_mode(text):
  """The code in the mode of this run; with eager mode left on, in v1."""
  if conftest.MODE != "v2":
    return text
  return text.replace("tf.disable_v2_behavior()",
                      "tf.disable_eager_execution()")


def _command(text):
  words = shlex.split(text)
  assert words[0] == "gradfeed"
  return json.dumps([processes.GRADFEED] + words[1:])


def comparable(text):
  """Text without times, and on TF 1 without the feeds that are right there."""
  text = re.sub(r" +[0-9]+ us", " ? us", text)
  text = re.sub(r"in [0-9.]+ s\.", "in ? s.", text)
  if tf.__version__.startswith("1."):
    text = text.replace("[[-0.0001 -0.0001]]", "[[-1. -1.]]")
    text = re.sub(r"3\. By a layer.*", "", text, flags=re.DOTALL)
  return text.rstrip()
