"""Where ops come from: the line of code that made them, the original of a copy.
"""

import os
import re
import sysconfig

from gradfeed.graph import cache

#: The folders of gradfeed and of Python, whose lines are skipped.
_SKIPPED = tuple({
    os.path.join(folder, "") for folder in (
        os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        sysconfig.get_paths()["stdlib"], os.path.dirname(os.__file__))})

#: What the paths of files have in them that no user wrote: installed packages,
#: TensorFlow where it is built from source, what autograph makes of a function,
#: what Python itself runs.
_LIBRARIES = re.compile(
    r"[/\\](site-packages|dist-packages|tensorflow|tensorflow_core|tf_keras|"
    r"keras|absl)[/\\]|__autograph_generated_file|^<frozen ")

#: Functions that read ops from a GraphDef: no line of code stands for them.
_READING = ("function_def_to_graph", "import_graph_def",
            "import_scoped_meta_graph",
            "import_scoped_meta_graph_with_return_elements")


def made_at(op):
  """`model.py:12`: the innermost line outside of libraries that made `op`.

  Returns:
    str; "" for an op that was read from a file, or that no line of the user's
    made.
  """
  line = ""
  for filename, number, name in _frames(op):
    if name in _READING:
      return ""
    if not is_library(filename):
      line = "{}:{}".format(filename.replace("\\", "/").split("/")[-1], number)
  return line


def is_made_by(op, module):
  """Whether a library made `op` by itself, and no code that it called.

  Args:
    op: `tf.Operation`.
    module: str, the name of a file of the library, such as "while_v2.py".
  """
  is_made = False
  for filename, _, _ in _frames(op):
    if re.split(r"[/\\]", filename)[-1] == module:
      is_made = True
    elif not is_library(filename):
      is_made = False
  return is_made


def _frames(op):
  """Yields (filename, line, function) of the calls that made `op`.

  The outermost is the first; there are none for an op without a traceback.
  """
  for frame in list(op.traceback or ()):
    yield [getattr(frame, attribute, None) or frame[i] for i, attribute in
           enumerate(("filename", "lineno", "name"))]


def is_library(filename):
  """Whether a file is a part of gradfeed, of Python or of a package."""
  return filename.startswith(_SKIPPED) or bool(_LIBRARIES.search(filename))


def in_line(op):
  """The line that made `op` as in ` (model.py:12)`; "" if it is not known."""
  line = made_at(op)
  return " ({})".format(line) if line else ""


def original_name(op):
  """The name of the op that `op` is a copy of; its own if it is no copy."""
  current = op.name
  clones = cache.cache_of(op.graph).clones
  while True:
    sources = [source for source, copies in list(clones.items())
               if any(copy.split(":")[0] == current for copy in copies)]
    if not sources:
      return current
    current = sources[0].split(":")[0]


def original_names(operations):
  """List of `original_name` of each of `operations`."""
  return [original_name(op) for op in operations]


def describe_op(op):
  """The type and the original name of `op`: `Log 'model/Log'`."""
  return "{} '{}'".format(op.type, original_name(op))


def describe_ops(operations, singular="", plural=""):
  """Names the first three of `operations` and counts the others.

  Args:
    operations: list of `tf.Operation`.
    singular: str, the verb that follows the name of a single op.
    plural: str, the verb that follows several names.
  """
  words = ", ".join(map(describe_op, operations[:3]))
  if len(operations) > 3:
    words += " and {} more".format(len(operations) - 3)
  verb = singular if len(operations) == 1 else plural
  return "{} {}".format(words, verb).strip()


def passed_back(name):
  """The names of forward ops that may have "SCOPE/OP_grad/..." as a gradient.

  Args:
    name: str, the name of an op with "_grad/" in it, as `tf.gradients` makes
      it. SCOPE and OP may both hold slashes, so that there are several.
  """
  parts = name[:name.index("_grad/")].split("/")
  return ["/".join(parts[i:]) for i in range(1, len(parts))]
