"""What a data set will take: one chunk is measured here."""

import collections
import os
import tempfile
import time

from gradfeed import errors
from gradfeed.shards import file_systems
from gradfeed.shards import shard_points
from gradfeed.streaming import point_sources
from gradfeed.streaming import row_evaluation

#: Seconds for which a chunk is evaluated, and bytes that are written.
_SECONDS, _MOST_CALLS = 2.0, 1000
_BYTES_WRITTEN = 2 ** 24

_FIELDS = ["rows", "is_exact", "workers", "chunk", "bytes_in", "bytes_out",
           "compute_seconds", "read_seconds", "write_seconds", "load_seconds"]


class Estimate(collections.namedtuple("Estimate", _FIELDS)):
  """What one chunk took, and what all points would take.

  Attributes:
    rows: int, the number of points; None where it is not known.
    is_exact: bool, whether it is exact, or estimated from the size of files.
    workers: int, for how many workers the estimate is.
    chunk: int, how many points were measured.
    bytes_in, bytes_out: float, bytes of a point and of its results.
    compute_seconds: float, of one point in TensorFlow, with one thread.
    read_seconds, write_seconds: float, of one point, from and to storage.
    load_seconds: float, what a worker needs before its first point.
  """

  __slots__ = ()

  @property
  def computing(self):
    """float, the seconds that all points take in TensorFlow, by all workers."""
    return self.rows * self.compute_seconds / self.workers

  @property
  def storage(self):
    """float, the seconds that all points take to be read and written.

    All workers share one storage, which is as fast as it is here.
    """
    return self.rows * (self.read_seconds + self.write_seconds)

  @property
  def bytes_per_second(self):
    """float, what one worker reads and writes."""
    return (self.bytes_in + self.bytes_out) / max(
        self.compute_seconds, self.read_seconds + self.write_seconds)

  @property
  def workers_for_storage(self):
    """int, how many workers the storage that was measured can feed."""
    return max(int(self.compute_seconds / (
        self.read_seconds + self.write_seconds)), 1)

  @property
  def holds(self):
    """str, "computing" or "storage", whichever takes longer."""
    return "computing" if self.computing >= self.storage else "storage"


def estimate(task, workers):
  """Measures one chunk on this machine.

  Args:
    task: `StreamShard`.
    workers: int, for how many workers.

  Returns:
    `Estimate`.

  Raises:
    FeedError: there are no points in the first shard that can be evaluated.
    GradfeedError: as `task.check()`.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> import numpy as np
    >>> with tf.Graph().as_default() as graph:
    ...   x = tf.placeholder(tf.float64, [None, 2], name="x")
    ...   y = tf.reduce_sum(x ** 3, axis=1, name="y")
    >>> path = tf.train.write_graph(graph, ".", "cube.pb", as_text=False)
    >>> np.save("points.npy", np.ones([100, 2]))
    >>> task = gf.shards.StreamShard(
    ...     "cube.pb", "y:0", "x:0", "points.npy", "estimated.npy")
    >>> found = gf.shards.estimate(task, workers=8)
    >>> print(found.rows, found.bytes_in, found.bytes_out)
    100 16.0 16.0
  """
  start = time.perf_counter()
  loaded = task.derivative.acquire()
  points = shard_points.ShardPoints(
      task.division, 0, loaded, task.derivative.keys)
  with points.local(task.chunk) as parts:
    for part in parts:
      _forget(part.paths)
    source = point_sources.Points(parts, loaded.f, task.derivative.keys)
    try:
      block, count, read_seconds = _read(source, task.chunk)
      rows = row_evaluation.RowEvaluator(loaded.f, source, True, False)
      if count <= len(block.bad):
        raise errors.FeedError(
            "None of the first {} points can be evaluated.".format(count),
            "A chunk is measured.", "Look at the points.")
      results = rows.evaluate(block, 0)[0]
      load_seconds = time.perf_counter() - start
      compute_seconds = _seconds_of(lambda: rows.evaluate(block, 0))
      all_rows, is_exact = _count_rows(task, loaded, points, source)
    finally:
      source.close()
  out = sum(result.nbytes for result in results)
  return Estimate(
      rows=all_rows, is_exact=is_exact, workers=workers, chunk=count,
      bytes_in=sum(_bytes_of(array) for array in block.arrays) / count,
      bytes_out=out / count, compute_seconds=compute_seconds / count,
      read_seconds=read_seconds,
      write_seconds=_seconds_to_write(task.paths(0)[0], out) / count,
      load_seconds=load_seconds)


def _read(source, chunk):
  """Reads a chunk, and another one, which is as all others after it.

  Args:
    source: `point_sources.Points`.
    chunk: int.

  Returns:
    (`row_layout.Block`, the first; int, its rows; float, seconds for a row).
  """
  start, end, block, seconds = 0, chunk, None, 0.0
  for _ in range(2):
    begin = time.perf_counter()
    following = source.read(start, end)
    count = len(following.arrays[0])
    if block is not None and count < chunk:
      break
    seconds = (time.perf_counter() - begin) / max(count, 1)
    block = block or following
    start, end = end, end + chunk
  return block, len(block.arrays[0]), seconds


def _seconds_of(call):
  """The least time that one of many calls takes."""
  least, begin = float("inf"), time.perf_counter()
  for _ in range(_MOST_CALLS):
    start = time.perf_counter()
    call()
    now = time.perf_counter()
    least = min(least, now - start)
    if now - begin > _SECONDS:
      break
  return least


def _bytes_of(array):
  """How many bytes the values of an array have, those of strings too."""
  return array.nbytes if array.dtype.kind != "O" else sum(
      len(text) for text in array.ravel().tolist())


def _forget(paths):
  """Has the system read files from the disk, and not from its memory."""
  for path in paths:
    try:
      descriptor = os.open(path, os.O_RDONLY)
    except OSError:
      continue
    try:
      os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    except (AttributeError, OSError):
      pass  # Not every system can.
    finally:
      os.close(descriptor)


def _seconds_to_write(path, size):
  """How long it takes to write so many bytes where results are written.

  Args:
    path: str, of a file of results.
    size: int, the bytes of a chunk of results.
  """
  content = os.urandom(min(max(size, 1), _BYTES_WRITTEN))
  times = max(_BYTES_WRITTEN // len(content), 1)
  if file_systems.is_remote(path):
    local, target = tempfile.mkstemp(prefix="gradfeed-")[1], path + ".measured"
  else:
    descriptor, local = tempfile.mkstemp(
        prefix="gradfeed-", dir=os.path.dirname(path))
    os.close(descriptor)
    target = None
  try:
    start = time.perf_counter()
    with open(local, "wb", buffering=0) as output:
      for _ in range(times):
        output.write(content)
      os.fsync(output.fileno())
    if target is not None:
      file_systems.copy(local, target)
    return (time.perf_counter() - start) * size / (times * len(content))
  finally:
    os.remove(local)
    if target is not None:
      file_systems.remove(target)


def _count_rows(task, loaded, points, source):
  """The number of all points, and whether it is exact.

  Args:
    task: `StreamShard`.
    loaded: `worker_models.LoadedDerivative`.
    points: `shard_points.ShardPoints`, of the first shard.
    source: `point_sources.Points` of it, of which some rows were read.

  Returns:
    (int, or None where nothing tells it; bool).
  """
  count = task.division.count(loaded.f.inputs, task.derivative.keys)
  if count is not None:
    return count, True
  rows = source.estimate_count()
  of_shard = sum(map(file_systems.size, points.parts[0].paths))
  of_all = sum(map(file_systems.size, task.division.paths(0)))
  return rows and int(rows * of_all / max(of_shard, 1)), False
