"""Raises what reading a model raises as an error of gradfeed."""

import contextlib
import re

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors

#: Lines of a message of TensorFlow that say nothing of the cause.
_NO_CAUSE = re.compile(
    r"^\s*$|^Graph execution error|^Original error|^Detected at node|"
    r"^Node: |^\s*\[\[|^\s*File \"|^Errors may have originated|^Input Source|"
    r"^Original stack|^\(most recent|^Traceback|^Function call stack|"
    r"^\d+ (root error|successful op|derived error)|^\s{4,}\S|"
    r"^Restoring from checkpoint failed|^Operation defined at|"
    r"^Stack trace for op|^During handling|^The above exception")
_MOST_CHARACTERS = 500


def cause(error):
  """What an exception says of its cause, as one line without a full stop.

  The messages of TensorFlow begin with where an op was made, and have the cause
  further down.

  Args:
    error: Exception.

  Returns:
    str.
  """
  text = getattr(error, "message", None) or (
      error.args[0] if isinstance(error, KeyError) and error.args else error)
  lines = str(text).split("\n")
  for i, line in enumerate(lines):
    if line.startswith("Node: "):  # The cause comes after the last one.
      following = [after for after in lines[i + 1:]
                   if not _NO_CAUSE.search(after)]
      if following:
        lines = following
        break
  wanted = [line for line in lines if not _NO_CAUSE.search(line)]
  line = re.sub(r"^\(\d+\)\s*", "", (wanted or [lines[0]])[0].strip())
  if len(line) > _MOST_CHARACTERS:
    line = line[:_MOST_CHARACTERS] + "..."
  return line.rstrip(".:") or type(error).__name__


@contextlib.contextmanager
def translated(path, fix="See whether all of its files are there and whole."):
  """Raises what is raised in the block as an error of gradfeed.

  Args:
    path: str, the file that is read.
    fix: str, the next step where the file is damaged.

  Raises:
    UnsupportedGraphError: this version of TensorFlow does not know an op.
    ModelFileError: anything else that reading the file raises.
  """
  try:
    yield
  except errors.GradfeedError:
    raise
  except Exception as error:  # pylint: disable=broad-except
    # What a damaged file makes a parser, TensorFlow or h5py raise.
    message = cause(error)
    if isinstance(error, (ValueError, KeyError, tf.errors.OpError)) and (
        "Op type not registered" in message or "NodeDef" in message or
        "No op named" in message):
      raise errors.UnsupportedGraphError(
          "TensorFlow {} cannot import '{}'.".format(_tf.VERSION, path),
          message + ".",
          "Use a version of TensorFlow that knows every op in it; ops of "
          "tf.contrib are in 1.15 alone.") from error
    raise errors.ModelFileError(
        "'{}' cannot be read.".format(path),
        "{}: {}.".format(type(error).__name__, message), fix) from error
