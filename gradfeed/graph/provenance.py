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


def in_line(op):
  """` (model.py:12)`, or nothing where the line is not known."""
  line = made_at(op)
  return " ({})".format(line) if line else ""


def original_name(op):
  """The name of `op`, or of what it is a copy of."""
  current = op.name
  clones = cache.cache_of(op.graph).clones
  while True:
    sources = [source for source, copies in list(clones.items())
               if any(copy.split(":")[0] == current for copy in copies)]
    if not sources:
      return current
    current = sources[0].split(":")[0]


def original_names(operations):
  return [original_name(op) for op in operations]


def describe_op(op):
  """The type and the name: `Log 'model/Log'`."""
  return "{} '{}'".format(op.type, original_name(op))


def describe_ops(operations, one="", many=""):
  """The first of some ops in words, with a verb."""
  words = ", ".join(map(describe_op, operations[:3]))
  if len(operations) > 3:
    words += " and {} more".format(len(operations) - 3)
  return "{} {}".format(words, one if len(operations) == 1 else many).strip()


def passed_back(name):
  """What OP may be in the name "SCOPE/OP_grad/..."; both may have slashes."""
  parts = name[:name.index("_grad/")].split("/")
  return ["/".join(parts[i:]) for i in range(1, len(parts))]
