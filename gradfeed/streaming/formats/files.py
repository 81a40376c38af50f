"""Files that rows are read from, and files that rows are appended to."""

import os
import stat
import time

from gradfeed import errors

#: A file is recognised by its times where they are older than this: a later
#: change then has another time, on every file system.
_SECONDS_OF_CLOCK = 3.0


class MissingFileError(errors.ModelFileError, FileNotFoundError):
  """There is no file of points at a path."""


class SourceFile:
  """A file that rows are read from, and what shows that it was changed.

  Attributes:
    size: int, the number of its bytes.
  """

  def __init__(self, path):
    """Looks at the file, which is opened after that.

    Args:
      path: str.

    Raises:
      ModelFileError: there is no such file, or it is a folder.
    """
    self._path = path
    try:
      self._stat = os.stat(path)
    except (OSError, ValueError) as error:
      raise unopened(path, error) from None
    if stat.S_ISDIR(self._stat.st_mode):
      raise not_rows(path, "a file of points", "It is a folder.",
                     "Name a file in it, or a pattern such as '*.npy'.")
    self.size = self._stat.st_size
    self._seen = time.time()

  def check(self, row):
    """Refuses a file that was changed in its place since it was looked at.

    Args:
      row: int, the number of the first row that was not read before.

    Raises:
      StreamError: it was cut short, appended to, or written to.
    """
    try:
      now = os.stat(self._path)
    except OSError:
      return  # It was deleted; what is open stays as it was.
    if not stat.S_ISREG(now.st_mode) or not os.path.samestat(now, self._stat):
      return  # Or it was replaced by another.
    if (now.st_size, now.st_mtime_ns) != (
        self._stat.st_size, self._stat.st_mtime_ns):
      raise changed(self._path, row, "It had {} bytes, and has {}.".format(
          self._stat.st_size, now.st_size) if (
              now.st_size != self._stat.st_size) else
                    "It was written to at another time than before.")

  def identity(self):
    """What tells that the file is the same as before, without reading it.

    Returns:
      list of int; or None where a change might not show in it.
    """
    times = self._stat.st_mtime, self._stat.st_ctime
    if not stat.S_ISREG(self._stat.st_mode) or not self._stat.st_ino or (
        self._seen - max(times) < _SECONDS_OF_CLOCK):
      return None
    return [self._stat.st_dev, self._stat.st_ino, self._stat.st_size,
            self._stat.st_mtime_ns, self._stat.st_ctime_ns]


def unopened(path, error):
  """Makes the error for a file of points that cannot be opened.

  Args:
    path: str.
    error: `OSError`, or the ValueError of a path that no file can have.

  Returns:
    `errors.ModelFileError`, which the caller raises.
  """
  if isinstance(error, FileNotFoundError):
    return MissingFileError(
        "There is no file of points '{}'.".format(path),
        "Nothing is at that path.",
        "Look at the path; a relative one begins at '{}'.".format(os.getcwd()))
  return errors.ModelFileError(
      "'{}' cannot be opened.".format(path), "{}.".format(
          getattr(error, "strerror", None) or errors.first_line(error)),
      "Name a file of points that can be read.")


def changed(path, row, why):
  """Makes the error for a file that was changed while it is read.

  Args:
    path: str.
    row: int, the number of the first row that cannot be relied on.
    why: str, a sentence.

  Returns:
    `errors.StreamError`, which the caller raises.
  """
  return errors.StreamError(
      "'{}' was changed while it is read, at row {}.".format(path, row), why,
      "Call this again when the file is as it is meant to be: it goes on if "
      "the rows that are done are the same.")


def damaged(path, what, row, error):
  """Makes the error for a file that cannot be read further.

  Args:
    path: str.
    what: str, the kind, such as "a whole .npz file".
    row: int, the number of the row.
    error: exception, or str.

  Returns:
    `errors.ModelFileError`, which the caller raises.
  """
  text = getattr(error, "strerror", None) or errors.first_line(error)
  return not_rows(
      path, what, "Row {} cannot be read: {}.".format(
          row, text or type(error).__name__),
      "Write it again; rows before it that are done are kept.")


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
    if size is not None and (not os.path.exists(self.path) or
                             os.path.getsize(self.path) < size):
      raise errors.StreamError(
          "'{}' is not as it was left.".format(self.path),
          "It has not the {} bytes that are done.".format(size),
          "Put it back, or delete the file that ends in .state to begin anew.")
    self._file = open(self.path, "wb" if size is None else "r+b", buffering=0)
    if size is not None:
      self._file.truncate(size)
      self._file.seek(size)

  def write(self, content):
    """Appends bytes, which are kept even if the process is killed next."""
    content = memoryview(content).cast("B")
    while content:  # A disk that gets full takes a part of it.
      content = content[self._file.write(content):]

  def sync(self):
    """Waits until all that was written is on the disk."""
    if self._file is not None:
      os.fsync(self._file.fileno())

  def tell(self):
    """The size of the file, as an int."""
    return self._file.tell()

  def overwrite(self, content):
    """Replaces the first bytes of the file by those of `content`."""
    self._file.seek(0)
    self.write(content)

  def close(self):
    if self._file is not None:
      self._file.close()
      self._file = None

  def discard(self):
    """Deletes the file, if there is one."""
    self.close()
    if os.path.exists(self.path):
      os.remove(self.path)


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

  def sync(self):
    self._file.sync()

  def finish(self, unused_count):
    self.close()
    return [[self._file.path, self._path]]

  def close(self):
    self._file.close()

  def discard(self):
    self._file.discard()

  def _header(self, unused_results):
    """The bytes that stand before the first row."""
    return b""

  def _encoded(self, results):
    """The bytes of some rows.

    Args:
      results: list of the array of each output.
    """
    raise NotImplementedError
