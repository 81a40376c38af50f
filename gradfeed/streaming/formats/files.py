"""Fingerprints of files, and files that rows are appended to."""

import os

from gradfeed import errors

#: A fingerprint has so many samples of a file, of so many bytes each.
_SAMPLES = 64
_BYTES_OF_SAMPLE = 4096


def fingerprint(path):
  """The size of a file and samples of its content, from all over it.

  Args:
    path: str.

  Returns:
    list of bytes; two files with the same list are most probably the same.
  """
  size = os.path.getsize(path)
  last = max(size - _BYTES_OF_SAMPLE, 0)
  samples = [str(size).encode()]
  with open(path, "rb") as source:
    for i in range(_SAMPLES):
      source.seek(last * i // (_SAMPLES - 1))
      samples.append(source.read(_BYTES_OF_SAMPLE))
  return samples


def not_rows(path, what, why, fix):
  """Makes the error for a file that is not of the kind that is expected.

  Args:
    path: str.
    what: str, the kind, such as "a .npz file".
    why, fix: str, as in `errors.GradfeedError`.

  Returns:
    `errors.ModelFileError`, which the caller raises.
  """
  return errors.ModelFileError(
      "'{}' is not {}.".format(path, what), why, fix)


class GrowingFile:
  """A file that is appended to, and can be cut back to an earlier size.

  Attributes:
    path: str.
  """

  def __init__(self, path):
    self.path = path
    self._file = None

  def open(self, size=None):
    """Opens the file, empty or with its first `size` bytes.

    Args:
      size: int, at which the file goes on; what follows is cut off. None for a
        file that begins anew.
    """
    self._file = open(self.path, "wb" if size is None else "r+b")
    if size is not None:
      self._file.truncate(size)
      self._file.seek(size)

  def write(self, content):
    """Appends bytes, which are kept even if the process is killed next."""
    self._file.write(content)
    self._file.flush()

  def tell(self):
    """The size of the file, as an int."""
    return self._file.tell()

  def overwrite(self, content):
    """Replaces the first bytes of the file by those of `content`."""
    self._file.seek(0)
    self._file.write(content)
    self._file.flush()

  def close(self):
    if self._file is not None:
      self._file.close()
      self._file = None


class RowWriter:
  """Writes rows of results to one file, appending them.

  A format says what stands before the first row (`_header`), and how rows are
  written (`_encoded`). The rows are in `path` + ".partial" until all of them
  are there. It is a writer as the package describes it.
  """

  def __init__(self, path, names):
    """Prepares to write, and creates no file yet.

    Args:
      path: str, the file to write.
      names: list of str, one for each output.
    """
    self._path = path
    self._names = names
    self._file = GrowingFile(path + ".partial")

  def begin(self, results):
    self._file.open()
    self._file.write(self._header(results))

  def resume(self, state):
    self._file.open(state["size"])

  def write(self, results):
    self._file.write(self._encoded(results))
    return {"size": self._file.tell()}

  def finish(self, unused_count):
    self.close()
    return [[self._file.path, self._path]]

  def close(self):
    self._file.close()

  def _header(self, unused_results):
    """The bytes that stand before the first row."""
    return b""

  def _encoded(self, results):
    """The bytes of some rows.

    Args:
      results: list of the array of each output.
    """
    raise NotImplementedError
