"""Tells whether y is differentiable by x in a model, and what to mind.

Reads a frozen graph (.pb, .pbtxt), a checkpoint with its graph (.meta, or its
directory) or the directory of a SavedModel, and prints a page: ops that let no
gradient pass, what y sums or averages over, what has to be fed, and what makes
two runs differ. Nothing is run. The exit status is 1 where there is no right
gradient.

  gradfeed explain --graph=model.pb --y=logits:0 --x=input:0
"""

import os
import shutil
import subprocess

from absl import flags

from gradfeed.commands.flags import model_flags
from gradfeed.commands.flags import value_flags
from gradfeed import errors
from gradfeed.explaining.explanations import explain
from gradfeed.graph import tensors

#: The flags that have to be given.
REQUIRED = ("graph", "y")

FLAGS = flags.FlagValues()
_load = model_flags.define(FLAGS, values=False)
_Y = flags.DEFINE_list(
    "y", None, "The tensor that is differentiated, such as logits:0; or "
    "several, which are summed.", flag_values=FLAGS)
_element = model_flags.define_class(FLAGS)
_FEED = flags.DEFINE_multi_string(
    "feed", [], "NAME=VALUE: a tensor and its value in the run, such as "
    "is_training:0=False; what lies in a branch that is not taken then is left "
    "out. May be repeated.", flag_values=FLAGS)
_X = flags.DEFINE_list(
    "x", None, "The tensor that y is differentiated by, or several. Without, "
    "the floating placeholders that y depends on, or else the variables.",
    flag_values=FLAGS)
_FORMAT = flags.DEFINE_enum(
    "format", "text", ["text", "json"], "How to print it.", flag_values=FLAGS)
_DOT = flags.DEFINE_string(
    "dot", None, "Write a picture of the ways from x to y to this file, in the "
    "language of Graphviz.", flag_values=FLAGS)
_PNG = flags.DEFINE_string(
    "png", None, "Write the picture to this file; needs the program dot of "
    "Graphviz.", flag_values=FLAGS)
_HTML = flags.DEFINE_string(
    "html", None, "Write the page with the picture to this file, which needs "
    "no other.", flag_values=FLAGS)


def main():
  """Prints the page; 1 if there is no right gradient."""
  program = _dot_program() if _PNG.value else None
  with _load() as model, model.graph.as_default():
    page = explain([_element(tensors.resolve(
        name, model.graph, "--y").tensor) for name in _Y.value],
                   _X.value or None,
                   feed_dict=value_flags.parse_feeds(
                       _FEED.value, model.graph) or None)
  print(page if _FORMAT.value == "text" else page.to_json())
  if _DOT.value:
    _write(_DOT.value, page.to_dot().encode())
  if _HTML.value:
    _write(_HTML.value, page.to_html().encode())
  if program:
    _write(_PNG.value, subprocess.run(
        [program, "-Tpng"], input=page.to_dot().encode(), check=True,
        stdout=subprocess.PIPE).stdout)
  return 1 if page.is_bad else 0


def _dot_program():
  """Finds the program `dot`.

  Returns:
    str, its path.

  Raises:
    DependencyError: it is not installed.
  """
  program = shutil.which("dot")
  if program is None:
    raise errors.DependencyError(
        "--png needs the program dot, which is not installed.",
        "It is part of Graphviz, and lays out the picture.",
        "Install it (apt install graphviz; brew install graphviz), or use "
        "--html, which needs nothing.")
  return program


def _write(path, data):
  """Writes bytes to a file, which gets its name when it is complete."""
  partial = path + ".partial"
  with open(partial, "wb") as output:
    output.write(data)
  os.replace(partial, path)
