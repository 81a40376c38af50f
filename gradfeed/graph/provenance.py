"""Where the ops of a graph come from: the lines of code that made them."""

import os
import re

from gradfeed.graph import cache

#: The folder of the package, whose own lines are never the user's.
_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

_LIBRARIES = re.compile(
    r"[/\\](tensorflow|tensorflow_core|tf_keras|keras)[/\\]")

#: Functions that make ops which some other program wrote.
_READING = ("function_def_to_graph", "import_graph_def",
            "import_scoped_meta_graph",
            "import_scoped_meta_graph_with_return_elements")


def made_at(op):
  """`model.py:12`: the innermost line outside of libraries that made `op`.

  Returns:
    str; "" for an op that was read from a file.
  """
  line = ""
  for frame in list(op.traceback or ()):
    filename, number, name = [
        getattr(frame, attribute, None) or frame[i] for i, attribute in
        enumerate(("filename", "lineno", "name"))]
    if name in _READING:
      return ""
    if not (filename.startswith(_OWN) or _LIBRARIES.search(filename)):
      line = "{}:{}".format(filename.replace("\\", "/").split("/")[-1], number)
  return line


def told_with_line(op):
  """` (model.py:12)`, or nothing where the line is not known."""
  line = made_at(op)
  return " ({})".format(line) if line else ""


def name(op):
  """The name of `op`, or of what it is a copy of."""
  current = op.name
  twins = cache.memo_of(op.graph).twins
  while True:
    sources = [source for source, copies in list(twins.items())
               if any(copy.split(":")[0] == current for copy in copies)]
    if not sources:
      return current
    current = sources[0].split(":")[0]


def names(operations):
  return [name(op) for op in operations]


def told(op):
  """The type and the name: `Log 'model/Log'`."""
  return "{} '{}'".format(op.type, name(op))


def listed(operations, one="", many=""):
  """The first of some ops in words, with a verb."""
  words = ", ".join(map(told, operations[:3]))
  if len(operations) > 3:
    words += " and {} more".format(len(operations) - 3)
  return "{} {}".format(words, one if len(operations) == 1 else many).strip()


def passed_back(name):
  """What OP may be in the name "SCOPE/OP_grad/..."; both may have slashes."""
  parts = name[:name.index("_grad/")].split("/")
  return ["/".join(parts[i:]) for i in range(1, len(parts))]
