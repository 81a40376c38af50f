"""Files of this machine, and those that TensorFlow's gfile reads (gs://...)."""

import glob
import os
import re
import time

import numpy as np

from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.streaming.formats import files
from gradfeed.streaming.formats import npy

_BLOCK = 2 ** 22  # Bytes that are copied at a time.
#: A remote file is recognised by its time where it is older than this: a later
#: change then has another time, where times are whole seconds too.
_SECONDS_OF_CLOCK = 10.0
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


def is_remote(path):
  """Whether a path is one of gfile, such as "gs://bucket/points.npy"."""
  return bool(_SCHEME.match(path))


def absolute(path):
  """The path as str, from the root: workers may have another directory.

  Args:
    path: str or os.PathLike.
  """
  path = os.fspath(path)
  return path if is_remote(path) else os.path.abspath(path)


def matching(pattern):
  """The files that a path or a pattern of names says, sorted by name.

  Args:
    pattern: str.

  Returns:
    list of str, one at least.

  Raises:
    ModelFileError: there is none.
  """
  if not is_remote(pattern):
    found = [pattern] if os.path.exists(pattern) else sorted(
        glob.glob(pattern))
  else:
    with translated(pattern):
      found = [pattern] if tf.io.gfile.exists(pattern) else _glob(pattern)
  if not found:
    raise errors.ModelFileError(
        "No file is called '{}'.".format(pattern),
        "It is the path of a file of points, or a pattern of names.",
        "Look at the path, on this machine: every worker has to see it.")
  return found


def _glob(pattern):
  try:
    return sorted(tf.io.gfile.glob(pattern))
  except tf.errors.NotFoundError:
    return []


class translated:  # pylint: disable=invalid-name
  """A context in which an error of gfile is raised as a `StreamError`."""

  def __init__(self, path):
    self._path = path

  def __enter__(self):
    return self

  def __exit__(self, kind, error, unused_trace):
    if isinstance(error, tf.errors.OpError):
      raise errors.StreamError(
          "'{}' cannot be reached.".format(self._path),
          "TensorFlow's file systems: {}.".format(
              error.message.split("\n")[0].rstrip(".")),
          "Look at the path, at the rights of this worker, and whether this "
          "TensorFlow has such a file system (tensorflow-io).") from error


def exists(path):
  """Whether there is a file."""
  if not is_remote(path):
    return os.path.exists(path)
  with translated(path):
    return tf.io.gfile.exists(path)


def size(path):
  """How many bytes a file has; None where there is none."""
  if not is_remote(path):
    return os.path.getsize(path) if os.path.exists(path) else None
  with translated(path):
    return tf.io.gfile.stat(path).length if tf.io.gfile.exists(path) else None


def identity(path):
  """What tells that a file is the same as before, without reading it.

  Args:
    path: str.

  Returns:
    list of int; or None where a change might not show in it.

  Raises:
    ModelFileError, StreamError: it is not there.
  """
  if not is_remote(path):
    found = files.SourceFile(path).identity()
    return found and found[1:]  # The number of a device is that of a machine.
  with translated(path):
    status = tf.io.gfile.stat(path)
  if time.time() - status.mtime_nsec / 1e9 < _SECONDS_OF_CLOCK:
    return None
  return [status.length, status.mtime_nsec]


def read(path):
  """The bytes of a file; None where there is none."""
  if not exists(path):
    return None
  if not is_remote(path):
    with open(path, "rb") as source:
      return source.read()
  with translated(path), tf.io.gfile.GFile(path, "rb") as source:
    return source.read()


def array_header(path):
  """What a remote .npy file says that it holds.

  Returns:
    (tuple of int, the shape; bool, whether it is stored column by column;
    `np.dtype`; int, the place of the first number).

  Raises:
    ModelFileError: it is no .npy file.
  """
  with translated(path), tf.io.gfile.GFile(path, "rb") as source:
    try:
      return tuple(npy.read_header(source)) + (source.tell(),)
    except tf.errors.OpError:
      raise
    except Exception as error:  # pylint: disable=broad-except
      raise files.not_rows(path, "a .npy file", "{}.".format(
          errors.first_line(error)), "Write it with numpy.save.") from None


def copy_rows(source, target, start, stop):
  """Copies some rows of a remote .npy file into one of this machine.

  Args:
    source, target: str, the paths.
    start, stop: int, the numbers of the first row and of that after the last.

  Returns:
    bool; False where the file is stored column by column, and nothing is done.
  """
  shape, is_by_column, dtype, offset = array_header(source)
  if is_by_column and len(shape) > 1:
    return False
  row_bytes = npy.bytes_of(shape[1:], dtype)
  with translated(source), tf.io.gfile.GFile(source, "rb") as opened:
    with open(target, "wb") as output:
      np.lib.format.write_array_header_1_0(output, {
          "descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False,
          "shape": (stop - start,) + tuple(shape[1:])})
      opened.seek(offset + start * row_bytes)
      left = (stop - start) * row_bytes
      while left:
        content = opened.read(min(left, _BLOCK))
        if not content:
          raise files.changed(source, start, "It ends early.")
        output.write(content)
        left -= len(content)
  return True


def copy(source, target):
  """Copies a file, between any two file systems."""
  with translated(source if is_remote(source) else target):
    tf.io.gfile.copy(source, target, overwrite=True)


def rename(source, target):
  """Gives a file another name; one that has it is replaced."""
  if not is_remote(target):
    os.replace(source, target)
    return
  with translated(target):
    tf.io.gfile.rename(source, target, overwrite=True)


def remove(path):
  """Deletes a file, if it is there."""
  if is_remote(path):
    with translated(path):
      if tf.io.gfile.exists(path):
        tf.io.gfile.remove(path)
  elif os.path.exists(path):
    os.remove(path)


def model_identity(path):
  """What tells that the files of a model are the same as before.

  Args:
    path: str, as for `gradfeed.load`.

  Returns:
    tuple of (name, bytes, time of the last change) of each file.
  """
  found = []
  for name in model_files(path):
    if is_remote(name):
      with translated(name):
        status = tf.io.gfile.stat(name)
      found.append((name, status.length, status.mtime_nsec))
    else:
      status = os.stat(name)
      found.append((name, status.st_size, status.st_mtime_ns))
  return tuple(found)


def model_files(path):
  """The files of a model: of a directory all, of a checkpoint those beside.

  Args:
    path: str, as for `gradfeed.load`.

  Returns:
    list of str, sorted; empty where there is none.
  """
  with translated(path):
    if tf.io.gfile.isdir(path):
      return sorted(
          os.path.join(folder, name)
          for folder, _, names in tf.io.gfile.walk(path) for name in names)
    if tf.io.gfile.exists(path) and not path.endswith((".meta", ".index")):
      return [path]
    prefix = path[:path.rindex(".")] if path.endswith(
        (".meta", ".index")) else path
    return _glob(glob.escape(prefix) + ".*") if not is_remote(path) else (
        _glob(prefix + ".*"))
