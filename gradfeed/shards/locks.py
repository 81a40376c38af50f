"""Locks that keep two workers from writing one shard at the same time."""

import errno
import os
import time

try:
  import fcntl
except ImportError:  # Windows: two processes are not kept apart there.
  fcntl = None

_FIRST_WAIT, _LONGEST_WAIT = 0.02, 1.0
_IS_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class UnlockableError(Exception):
  """The file system has no locks."""


class FileLock:
  """A lock on a file, which the system releases when its process is killed.

  As a context it waits until it has the lock. Locks are those of the file
  system (flock), so that workers on several machines see each other's on NFS,
  CephFS, GPFS and the like where these have locks.
  """

  def __init__(self, path):
    """Opens nothing yet.

    Args:
      path: str, of a file that is there only while it is locked, or after its
        process was killed.
    """
    self._path = path
    self._file = None

  def __enter__(self):
    wait = _FIRST_WAIT
    while not self._try():
      time.sleep(wait)
      wait = min(2 * wait, _LONGEST_WAIT)
    return self

  def _try(self):
    """Takes the lock if nobody has it; whether it is taken."""
    opened = open(self._path, "ab")
    try:
      if fcntl is not None:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if os.path.samestat(os.fstat(opened.fileno()), os.stat(self._path)):
        self._file = opened
        return True
    except FileNotFoundError:
      pass  # The one that had it has removed it.
    except OSError as error:
      if error.errno not in _IS_HELD:
        opened.close()
        os.remove(self._path)
        raise UnlockableError(os.strerror(error.errno or 0)) from error
    opened.close()
    return False

  def __exit__(self, *unused):
    try:
      os.remove(self._path)
    except OSError:
      pass  # Somebody has tidied up; or Windows, where it is open.
    self._file.close()
    self._file = None
