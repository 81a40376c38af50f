"""The points of one shard: where they are, and whether they are the same."""

import contextlib
import hashlib
import itertools
import os
import shutil
import tempfile

from gradfeed.shards import file_systems
from gradfeed.streaming import point_sources
from gradfeed.streaming import row_ranges


class ShardPoints:
  """The points of one shard.

  Attributes:
    parts: list with the `row_ranges.Part` of each input.
    start: int, the number of the first row in all the points, or None.
  """

  def __init__(self, division, index, loaded, keys):
    """Finds the files.

    Args:
      division: `divisions.Division`.
      index: int, the number of the shard.
      loaded: `worker_models.LoadedDerivative`.
      keys: list of str or None, one for each input.
    """
    self._f, self._keys = loaded.f, keys
    self.parts, self.start = division.parts(index, loaded.f.inputs, keys)

  def identity(self):
    """What tells that the points are the same as before, without reading them.

    Returns:
      list of what JSON can hold; or None where a change might not show in it.
    """
    found = [[part.start, part.stop] for part in self.parts]
    for part in self.parts:
      for path in part.paths:
        each = file_systems.identity(path)
        if each is None:
          return None
        found.append(each)
    return found + [self._keys]

  @contextlib.contextmanager
  def local(self, most=None):
    """The points on this machine, copied if they are elsewhere.

    Args:
      most: int, how many rows of a remote .npy file are enough; None for all.

    Returns:
      context of a list of `row_ranges.Part`.
    """
    if not any(map(file_systems.is_remote, itertools.chain(
        *[part.paths for part in self.parts]))):
      yield self.parts
      return
    folder = tempfile.mkdtemp(prefix="gradfeed-points-")
    try:
      staged = {}
      for i, part in enumerate(self.parts):
        if id(part) not in staged:
          staged[id(part)] = _staged(part, folder, i, most)
      yield [staged[id(part)] for part in self.parts]
    finally:
      shutil.rmtree(folder, ignore_errors=True)

  def digest(self, sizes):
    """Reads all points, and makes the digest that `digest_of` makes.

    Args:
      sizes: list of [rows, times], of the blocks that are read.

    Returns:
      str.
    """
    with self.local() as parts:
      source = point_sources.Points(parts, self._f, self._keys)
      try:
        start, digests = 0, []
        for rows, times in sizes:
          for _ in range(times):
            digests.append([start + rows, source.read(
                start, start + rows).digest])
            start += rows
        is_longer = len(source.read(start, start + 1).arrays[0])
        return None if is_longer else digest_of(digests)[1]
      finally:
        source.close()


def digest_of(digests):
  """One digest of all the points of a stream.

  Args:
    digests: list of [the number of the row after the last, the digest of a
      block], as in `sinks.Sink`.

  Returns:
    (list of [rows, times], the sizes of the blocks; str).
  """
  digest = hashlib.blake2b(digest_size=16)
  sizes, start = [], 0
  for end, each in digests:
    sizes.append(end - start)
    start = end
    digest.update("{} {};".format(end, each).encode())
  return [[size, len(list(group))] for size, group in itertools.groupby(
      sizes)], digest.hexdigest()


def _staged(part, folder, number, most):
  """Copies the files of a part that are not on this machine.

  Args:
    part: `row_ranges.Part`.
    folder: str, where they are copied to.
    number: int, of the part.
    most: as in `ShardPoints.local`.

  Returns:
    `row_ranges.Part`.
  """
  if part.start is None and most is None or not all(map(
      point_sources.is_array_file, part.paths)):
    return row_ranges.Part(
        [_copied(path, folder, "{}-{}".format(number, i))
         for i, path in enumerate(part.paths)], part.start, part.stop)
  names, begin = [], 0
  stop = part.stop if most is None else (part.start or 0) + most
  for i, path in enumerate(part.paths):
    if not file_systems.is_remote(path):
      return part
    shape = file_systems.array_header(path)[0]
    first = max((part.start or 0) - begin, 0)
    last = min(shape[0], (shape[0] if stop is None else stop - begin))
    begin += shape[0]
    if last > first or not names:
      name = os.path.join(folder, "{}-{}.npy".format(number, i))
      if not file_systems.copy_rows(path, name, first, max(first, last)):
        return row_ranges.Part(
            [_copied(path, folder, "{}-{}".format(number, i))
             for i, path in enumerate(part.paths)], part.start, part.stop)
      names.append(name)
  return row_ranges.Part(names)


def _copied(path, folder, name):
  """The path of a file on this machine, where it is copied to if need be."""
  if not file_systems.is_remote(path):
    return path
  local = os.path.join(folder, name + "-" + os.path.basename(path))
  file_systems.copy(path, local)
  return local
