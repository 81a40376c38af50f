"""Rows of several files, one after the other, and a range of such rows."""

import numpy as np

from gradfeed.streaming.formats import row_layout


class Part:
  """Rows of files that belong together: points for `streams.run`.

  Attributes:
    paths: list of str, the files, of which the rows are taken in this order.
    start, stop: int, the numbers of the first row and of that after the last,
      in all of these files; None for all rows.
  """

  def __init__(self, paths, start=None, stop=None):
    self.paths = list(paths)
    self.start, self.stop = start, stop


class ConcatenatedReader:
  """Reads the rows of several files, one after the other."""

  def __init__(self, readers):
    self._readers = readers
    self.inputs = readers[0].inputs
    counts = [reader.count for reader in readers]
    self.count = None if None in counts else sum(counts)
    self.is_stopped = False
    # The index of the file that is read, and the number of its first row.
    self._current, self._begin = 0, 0

  @property
  def batch_forms(self):
    return self._readers[0].batch_forms

  def estimate_count(self):
    estimates = [reader.estimate_count() for reader in self._readers]
    known = [estimate for estimate in estimates if estimate is not None]
    return sum(known) * len(estimates) // len(known) if known else None

  @property
  def source_files(self):
    return sum([reader.source_files for reader in self._readers], [])

  def read(self, start, end):
    if self.count is not None and start < self._begin:
      self._current, self._begin = 0, 0
    blocks = []
    while True:
      reader = self._readers[self._current]
      reader.is_stopped = self.is_stopped
      block = reader.read(start - self._begin, end - self._begin)
      blocks.append((start, block))
      start += len(block.arrays[0])
      if start == end or self._current + 1 == len(self._readers):
        return _concatenated(blocks)
      self._begin += (
          reader.position if reader.count is None else reader.count)
      self._current += 1

  def close(self):
    for reader in self._readers:
      reader.close()


class RangeReader:
  """Reads some of the rows of a reader that tells how many it has."""

  def __init__(self, reader, start, stop):
    self._reader = reader
    self._start, self._stop = start, min(stop, reader.count)
    self.inputs = reader.inputs
    self.count = max(self._stop - start, 0)
    self.is_stopped = False

  @property
  def batch_forms(self):
    return self._reader.batch_forms

  def estimate_count(self):
    return self.count

  @property
  def source_files(self):
    return self._reader.source_files + [_Bounds(self._start, self._stop)]

  def read(self, start, end):
    return self._reader.read(
        self._start + min(start, self.count), self._start + min(end, self.count))

  def close(self):
    self._reader.close()


class _Bounds:
  """Stands among the files of a range: other rows of them are other points."""

  def __init__(self, start, stop):
    self._bounds = [start, stop]

  def identity(self):
    return self._bounds


def _concatenated(blocks):
  """Makes one `Block` of several.

  Args:
    blocks: list of (int, the number of its first row; `Block`), one at least.
  """
  first = blocks[0][0]
  filled = [block for _, block in blocks if len(block.arrays[0])] or [
      blocks[0][1]]
  bad = {start - first + i: why for start, block in blocks
         for i, why in block.bad.items()}
  return row_layout.Block([
      np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
      for arrays in zip(*[block.arrays for block in filled])
  ], bad)
