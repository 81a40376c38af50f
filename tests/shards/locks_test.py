"""Tests of locks between workers."""

import errno
import os
import signal

import numpy as np

from gradfeed.shards import locks
from gradfeed.shards import tasks
from tests.shards import networks
from tests.testing import folders
from tests.testing import modes
from tests.testing import processes

_HOLD = """
import sys, time
from gradfeed.shards import locks
with locks.FileLock(sys.argv[1]):
  print("held", flush=True)
  time.sleep(60)
"""


class FileLockTest(folders.FolderTest):

  @modes.without_mode
  def test_is_free_after_its_holder_was_killed(self):
    path = self.path("a.lock")
    holder = processes.start(["-c", _HOLD, path], stdout=processes.PIPE)
    self.assertEqual(holder.stdout.readline().strip(), b"held")
    lock = locks.FileLock(path)
    self.assertFalse(lock._try())  # pylint: disable=protected-access
    os.kill(holder.pid, signal.SIGKILL)
    with lock:
      self.assertFalse(locks.FileLock(path)._try())  # pylint: disable=protected-access
    self.assertFalse(os.path.exists(path))
    holder.wait()
    holder.stdout.close()

  def test_says_so_where_there_are_no_locks(self):
    def fail(*unused):
      raise OSError(errno.ENOLCK, "No locks available")

    before = locks.fcntl.flock
    self.addCleanup(setattr, locks.fcntl, "flock", before)
    locks.fcntl.flock = fail
    with self.assertRaises(locks.UnlockableError):
      locks.FileLock(self.path("a.lock")).__enter__()
    self.assertEqual(os.listdir(self.folder), [])


class WithoutLocksTest(networks.ShardTest):

  def test_results_are_written_elsewhere_and_renamed(self):
    points = self.points()
    path = self.save("p.npy", points)
    task = tasks.StreamShard(self.model, "y:0", "x:0", path,
                             self.path("g.npy"))
    flock, folder = locks.fcntl.flock, os.stat(self.folder).st_ino

    def fail(opened, operation):
      if os.stat(os.path.dirname(os.path.abspath(
          opened.name))).st_ino == folder:
        raise OSError(errno.ENOTSUP, "Operation not supported")
      return flock(opened, operation)

    self.addCleanup(setattr, locks.fcntl, "flock", flock)
    locks.fcntl.flock = fail
    self.assertEqual(task(0).rows, 50)
    self.assertTrue(task(0).was_there)
    np.testing.assert_allclose(self.results(task), networks.gradient(points),
                               rtol=1e-14)
    self.assertEqual(sorted(os.listdir(self.folder)), [
        "g-00000-of-00001.npy", "g-00000-of-00001.npy.manifest", "m.pb",
        "p.npy"])
