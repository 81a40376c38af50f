"""Directories that are there as a whole, or not at all."""

import contextlib
import os
import shutil
import tempfile

from gradfeed import errors

_MODEL = "saved_model.pb"


def check(path, overwrite):
  """The path of a new SavedModel, as str without a slash at its end.

  Args:
    path: str or os.PathLike.
    overwrite: bool; whether a SavedModel that is there is to be replaced.

  Raises:
    ArgumentError: `path` is no path; or something is there that is not to be
      replaced.
  """
  try:
    text = os.fspath(path)
  except TypeError:
    text = None
  if not isinstance(text, str) or not text or "\0" in text:
    raise errors.ArgumentError(
        "path={!r} is no path of a directory.".format(path),
        "It is a str or an os.PathLike.",
        "Pass the path, as in gradfeed.export(f, 'models/classifier/1').")
  if "://" in text:
    raise errors.ArgumentError(
        "'{}' is no directory of this machine.".format(text),
        "It is written and read back here, and then renamed.",
        "Export to a directory here, and copy that (tf.io.gfile.copy, gsutil).")
  text = os.path.abspath(text)
  if not os.path.lexists(text):
    return text
  is_model = os.path.isdir(text) and not os.path.islink(text) and (
      os.path.exists(os.path.join(text, _MODEL)) or not os.listdir(text))
  if not is_model:
    raise errors.ArgumentError(
        "'{}' is there, and is no SavedModel.".format(text),
        "A SavedModel is a directory of its own, and what is there would be "
        "lost.", "Name a path that is not there yet.")
  if not overwrite:
    raise errors.ArgumentError(
        "'{}' is there already.".format(text),
        "What is there is not replaced unless you say so.",
        "Name another path, or pass overwrite=True (--overwrite).")
  return text


@contextlib.contextmanager
def replacing(path):
  """A context in which a directory is written that is then at `path`.

  Where the block fails there is what was there before. A process that is killed
  in it leaves a directory beside `path`, called as it is and ".partial".

  Args:
    path: str, as `check` gives it.

  Yields:
    str, a directory that is not there yet.
  """
  parent, name = os.path.split(path)
  os.makedirs(parent, exist_ok=True)
  folder = tempfile.mkdtemp(prefix=name + ".partial-", dir=parent)
  try:
    new = os.path.join(folder, "new")
    yield new
    _sync(new)
    _move(new, path, os.path.join(folder, "old"))
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def _move(new, path, old):
  """Renames `new` to `path`, after what is there to `old`."""
  try:
    if os.path.lexists(path):
      os.rename(path, old)
    os.rename(new, path)
  except OSError as error:
    if os.path.exists(old) and not os.path.lexists(path):
      os.rename(old, path)
    raise errors.ModelFileError(
        "'{}' cannot be written.".format(path),
        "The system says: {}.".format(error.strerror),
        "Look at what is there, and export again.") from error


def _sync(directory):
  """Waits until the files of a directory are on the disk."""
  for folder, _, names in os.walk(directory):
    for name in names:
      with open(os.path.join(folder, name), "rb") as file:
        os.fsync(file.fileno())
