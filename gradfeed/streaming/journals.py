"""Journals: what is done of a stream, and which outputs are being written."""

import errno
import json
import os

from gradfeed import errors

try:
  import fcntl
except ImportError:  # Windows: two processes are not kept apart there.
  fcntl = None


class Journal:
  """A file with a line of JSON for each step, locked while it is open.

  Attributes:
    path: str.
  """

  def __init__(self, output):
    """Opens nothing yet.

    Args:
      output: str, the file of results.
    """
    self.path = output + ".state"
    self._output = output
    self._file = None

  def open(self):
    """Opens and locks the file, and cuts off a last line that is not whole.

    Returns:
      list of dict, the lines of the file.

    Raises:
      StreamError: another process has it open; or it cannot be made.
    """
    while True:
      try:
        self._file = open(self.path, "a+b", buffering=0)
      except OSError as error:
        raise _not_made(self._output, error) from error
      self._lock()
      try:
        if os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path)):
          break
      except OSError:
        pass
      self._file.close()  # Another process has finished, and removed it.
    self._file.seek(0)
    lines, size = [], 0
    for line in self._file.readall().splitlines(True):
      try:
        lines.append(json.loads(line.decode()))
      except ValueError:
        break  # The process was killed while it wrote this.
      if not line.endswith(b"\n") or not isinstance(lines[-1], dict):
        lines.pop()
        break
      size += len(line)
    self._file.truncate(size)
    return lines

  def _lock(self):
    """Locks the file for this process; does nothing on Windows."""
    if fcntl is None:
      return
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
      self._file.close()
      self._file = None
      raise errors.StreamError(
          "'{}' is being written by another process.".format(self._output),
          "It holds '{}'.".format(self.path),
          "Wait until it is done, or write to another file.") from None

  def add(self, step):
    """Appends a line.

    Args:
      step: dict that JSON can hold.

    Raises:
      OSError: it cannot be written; the disk is full.
    """
    size = self._file.seek(0, os.SEEK_END)
    content = json.dumps(step).encode() + b"\n"
    try:
      if self._file.write(content) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
      os.fsync(self._file.fileno())
    except BaseException:
      self._file.truncate(size)  # A half line would spoil the next one.
      raise

  def close(self):
    if self._file is not None:
      self._file.close()
      self._file = None

  def remove(self):
    """Deletes the file, if it is open here."""
    if self._file is not None:
      os.remove(self.path)
      self.close()


class Claim(Journal):
  """The lock of an output that is not the first, whose journal has the rows.

  It stays as long as that journal does: another stream that is to write the
  same file is refused, also after an interruption.
  """

  def __init__(self, output, first):
    """Opens nothing yet.

    Args:
      output: str, the file of results.
      first: str, the first file of the same stream.
    """
    super().__init__(output)
    self._first = os.path.relpath(
        os.path.realpath(first), os.path.dirname(os.path.realpath(output)))

  def open(self, fingerprint):  # pylint: disable=arguments-differ
    """Opens and locks the file, and notes to which stream it belongs.

    Args:
      fingerprint: dict, the first line of the journal.

    Raises:
      StreamError: another process has it open; or another stream was begun.
    """
    lines = super().open()
    owner = lines[0].get("belongs_to") if lines else None
    journal = (self.path if owner is None else os.path.join(
        os.path.dirname(os.path.realpath(self.path)), owner) + ".state")
    if lines and owner != self._first and os.path.exists(journal):
      self.close()
      raise errors.StreamError(
          "'{}' was begun with other outputs.".format(self._output),
          "Another stream writes it, and is not at its end.",
          "Go on with that; or delete '{}' to begin anew.".format(journal))
    self._file.truncate(0)
    self.add(dict(fingerprint, belongs_to=self._first))


def _not_made(output, error):
  """Makes the `StreamError` for a file that cannot be made.

  Args:
    output: str, the file of results.
    error: `OSError`.
  """
  folder = os.path.dirname(os.path.abspath(output))
  if isinstance(error, (FileNotFoundError, NotADirectoryError)):
    return errors.StreamError(
        "'{}' cannot be written.".format(output),
        "There is no folder '{}'.".format(folder),
        "Make it, or name one that is there.")
  return errors.StreamError(
      "'{}' cannot be written.".format(output),
      "{}: '{}'.".format(error.strerror or error, folder),
      "Name a folder in which files can be made.")


def sync_folder(folder):
  """Waits until the names of the files in a folder are on the disk."""
  try:
    descriptor = os.open(folder or ".", os.O_RDONLY)
  except OSError:
    return  # Windows opens no folders.
  try:
    os.fsync(descriptor)
  except OSError:
    pass  # Not every file system can.
  finally:
    os.close(descriptor)
