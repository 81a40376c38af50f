"""Where the results of a shard are written, by one worker at a time."""

import contextlib
import hashlib
import os
import socket
import tempfile

from gradfeed import errors
from gradfeed.shards import file_systems
from gradfeed.shards import locks
from gradfeed.shards import manifests


class Place:
  """Files of results that one worker alone writes.

  They are written where they belong, or, where that is another file system or
  one without locks, on this machine, and copied from there.

  Attributes:
    paths: list of str, the files to write.
    is_staged: bool, whether they have to be copied after that.
  """

  def __init__(self, outputs, folder=None):
    """Prepares nothing.

    Args:
      outputs: list of str, the files where they belong.
      folder: str, where they are written before; None for no other place.
    """
    self._outputs = outputs
    self.is_staged = folder is not None
    self.paths = outputs if folder is None else [
        os.path.join(folder, os.path.basename(path)) for path in outputs]

  def publish(self):
    """Copies what is finished to where it belongs, the manifest last.

    Returns:
      whether there was something.
    """
    manifest = self.is_staged and manifests.read(self.paths[0])
    if not manifest:
      return False
    local, remote = map(os.path.dirname, (self.paths[0], self._outputs[0]))
    names = [name for name, _ in manifest["results"]] + [
        os.path.basename(self.paths[0]) + manifests.ENDING]
    mark = ".{}.partial".format(socket.gethostname())
    for name in names:
      target = os.path.join(remote, name)
      file_systems.copy(os.path.join(local, name), target + mark)
      file_systems.rename(target + mark, target)
    for name in reversed(names):  # Without a manifest it is not finished.
      os.remove(os.path.join(local, name))
    return True


@contextlib.contextmanager
def place_of(outputs):
  """Waits until no other worker writes a shard, and keeps others from it.

  Args:
    outputs: list of str, the files of results where they belong.

  Returns:
    context of a `Place`.

  Raises:
    StreamError: there is no such folder.
  """
  if not file_systems.is_remote(outputs[0]):
    lock = locks.FileLock(outputs[0] + ".lock")
    try:
      lock.__enter__()
    except locks.UnlockableError:
      pass
    except OSError as error:
      raise errors.StreamError(
          "'{}' cannot be written.".format(outputs[0]),
          "{}: '{}'.".format(error.strerror or error,
                             os.path.dirname(outputs[0])),
          "Name a folder that every worker sees, and can make files "
          "in.") from error
    else:
      try:
        yield Place(outputs)
      finally:
        lock.__exit__()
      return
  folder = _staging_folder(outputs[0])
  with locks.FileLock(os.path.join(folder, "lock")):
    yield Place(outputs, folder)


def _staging_folder(output):
  """A folder of this user and machine for the files of one shard.

  An attempt that was killed left there what it had done.
  """
  user = getattr(os, "getuid", int)()
  base = os.path.join(tempfile.gettempdir(), "gradfeed-{}".format(user))
  try:
    os.makedirs(base, 0o700, exist_ok=True)
    if hasattr(os, "getuid") and os.stat(base).st_uid != user:
      raise OSError("it belongs to another user")
  except OSError:
    base = tempfile.mkdtemp(prefix="gradfeed-")
  folder = os.path.join(base, hashlib.blake2b(
      output.encode(), digest_size=12).hexdigest())
  os.makedirs(folder, exist_ok=True)
  return folder
