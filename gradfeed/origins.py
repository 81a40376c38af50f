"""Where the ops of a graph come from: the lines of code that made them."""

import os
import re

_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep
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
