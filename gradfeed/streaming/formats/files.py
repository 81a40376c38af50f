"""What the formats have in common: files that are told apart, and that grow."""

import os

from gradfeed import errors

_PLACES = 64
_BYTES = 4096


def fingerprint(path):
  """list of bytes that tell a file from others, most probably."""
  size = os.path.getsize(path)
  parts = [str(size).encode()]
  with open(path, "rb") as source:
    for place in range(_PLACES):
      source.seek(max(size - _BYTES, 0) * place // (_PLACES - 1))
      parts.append(source.read(_BYTES))
  return parts


def not_rows(path, what, why, fix):
  """The error for a file that is not `what` it was said to be."""
  return errors.ModelFileError(
      "'{}' is not {}.".format(path, what), why, fix)


class Growing:
  """A file that rows are appended to, and that can go back to a size."""

  def __init__(self, path):
    self.path = path
    self._file = None

  def open(self, size=None):
    """Begins it anew, or goes on at `size`: what follows is cut off."""
    self._file = open(self.path, "wb" if size is None else "r+b")
    if size is not None:
      self._file.truncate(size)
      self._file.seek(size)

  def write(self, content):
    """Appends; what is written is there when the process is killed."""
    self._file.write(content)
    self._file.flush()

  def tell(self):
    return self._file.tell()

  def overwrite(self, content):
    """Takes the place of the first bytes."""
    self._file.seek(0)
    self._file.write(content)
    self._file.flush()

  def close(self):
    if self._file is not None:
      self._file.close()
      self._file = None
