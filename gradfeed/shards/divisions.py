"""How the files of a data set are divided into shards."""

from gradfeed import errors
from gradfeed.evaluation import model_digests
from gradfeed.shards import file_systems
from gradfeed.streaming import point_sources
from gradfeed.streaming import row_ranges

_counts = {}  # From (path, its identity, keys) to the number of its rows.


class Division:
  """The shards of files of points: whole files, or ranges of their rows.

  Attributes:
    patterns: list of str, a path or a pattern of names for each input.
    shards: int, how many there are.
    digest: str, of the names of the files: workers have to find the same.
  """

  def __init__(self, patterns, shards=None):
    """Finds the files on this machine.

    Args:
      patterns: list of str.
      shards: int; None for as many as there are files.

    Raises:
      ModelFileError: there is no file.
    """
    self.patterns = patterns
    lists = self._files()
    self.shards = max(map(len, lists.values())) if shards is None else shards
    self.digest = _digest(lists)

  def _files(self):
    """dict from each pattern to its files."""
    return {pattern: file_systems.matching(pattern)
            for pattern in self.patterns}

  def found(self):
    """The files as they are here, which have to be those that were divided.

    Returns:
      dict from each pattern to its files.

    Raises:
      StreamError: there are others.
    """
    lists = self._files()
    if _digest(lists) != self.digest:
      raise errors.StreamError(
          "The files of {} are not those that were divided into shards.".format(
              ", ".join(map(repr, lists))),
          "Here are {}; with others, another shard would have other "
          "points.".format(", ".join(
              "{} of '{}'".format(len(paths), pattern)
              for pattern, paths in lists.items())),
          "Give all workers the same files; or make the task anew.")
    return lists

  def paths(self, index):
    """The files of one input, as list of str."""
    return self._files()[self.patterns[index]]

  def count(self, inputs, keys):
    """The number of all points; None where the files do not tell it.

    Args:
      inputs, keys: as in `parts`.
    """
    counts = self._counts(self.found(), inputs, keys)
    return counts and sum(list(counts.values())[0])

  def parts(self, index, inputs, keys):
    """The points of one shard.

    Args:
      index: int.
      inputs: list of what stands for the inputs, with a name, dtype and shape.
      keys: list of str or None.

    Returns:
      (list with the `row_ranges.Part` of each input; int, the number of the
      first row in all the points, or None).

    Raises:
      ArgumentError: the files cannot be divided into so many shards.
      FeedError: the files of two inputs do not have the same number of rows.
    """
    lists = self.found()
    if all(len(paths) == self.shards for paths in lists.values()):
      chosen = {pattern: row_ranges.Part([paths[index]])
                for pattern, paths in lists.items()}
      start = self._rows_before(lists, index, inputs, keys)
    else:
      counts = self._counts(lists, inputs, keys)
      if counts is not None:
        start, stop = self._range(lists, counts, index)
        chosen = {pattern: _part(paths, counts[pattern], start, stop)
                  for pattern, paths in lists.items()}
      else:
        self._check_groups(lists)
        chosen = {pattern: row_ranges.Part(_group(paths, index, self.shards))
                  for pattern, paths in lists.items()}
        start = None if index else 0
    return [chosen[pattern] for pattern in self.patterns], start

  def _rows_before(self, lists, index, inputs, keys):
    """How many rows the files before those of a shard have, if they tell it."""
    if index and any(map(file_systems.is_remote, lists)):
      return None  # To look at each of them would take a while.
    counts = self._counts(
        {pattern: paths[:index] for pattern, paths in lists.items()}, inputs,
        keys)
    return counts and sum(list(counts.values())[0])

  def _counts(self, lists, inputs, keys):
    """The number of rows in each file, or None where a file does not tell it.

    Returns:
      dict from each pattern to a list of int.
    """
    counts = {}
    for pattern, paths in lists.items():
      indices = [i for i, other in enumerate(self.patterns)
                 if other == pattern]
      counts[pattern] = []
      for path in paths:
        count = _count(path, [inputs[i] for i in indices],
                       [keys[i] for i in indices])
        if count is None:
          return None
        counts[pattern].append(count)
    return counts

  def _range(self, lists, counts, index):
    """(the first row of a shard, the row after its last)."""
    totals = {pattern: sum(each) for pattern, each in counts.items()}
    total = max(totals.values())
    if len(set(totals.values())) > 1:
      raise errors.FeedError(
          "The points have different numbers of rows: {}.".format(", ".join(
              "{} in '{}'".format(*reversed(item)) for item in totals.items())),
          "Row i of each belongs to point i.", "Pass points of one length.")
    for pattern, paths in lists.items():
      if len(paths) == self.shards:  # Its files are the shards.
        return (sum(counts[pattern][:index]), sum(counts[pattern][:index + 1]))
    if self.shards > total:
      raise errors.ArgumentError(
          "{} shards of {} points.".format(self.shards, total),
          "A shard has one point at least.",
          "Take {} shards at most.".format(total))
    return index * total // self.shards, (index + 1) * total // self.shards

  def _check_groups(self, lists):
    """Refuses to divide files whose rows are not numbered.

    Raises:
      ArgumentError: there are fewer files than shards, or not as many of one
        input as of another.
    """
    numbers = {len(paths) for paths in lists.values()}
    if len(numbers) == 1 and self.shards <= min(numbers):
      return
    raise errors.ArgumentError(
        "{} shards of {} files.".format(
            self.shards, " and ".join(map(str, sorted(numbers)))),
        "A TFRecord or .csv file, and a remote .npz file, is read from its "
        "beginning: such files are divided by whole files, as many for each "
        "input.",
        "Take {} shards at most; or write more files; or .npy files, which are "
        "divided by rows.".format(min(numbers)))


def _digest(lists):
  return model_digests.sha256([
      path.encode() for pattern in sorted(lists)
      for path in [pattern] + lists[pattern]])[:16]


def _group(paths, index, shards):
  """The files of one shard, where there are more files than shards."""
  count = len(paths)
  return paths[index * count // shards:(index + 1) * count // shards]


def _part(paths, counts, start, stop):
  """The `row_ranges.Part` of a range of the rows of several files.

  Args:
    paths: list of str.
    counts: list of int, the number of rows of each.
    start, stop: int, of the range.
  """
  chosen, first, begin = [], None, 0
  for path, count in zip(paths, counts):
    if begin < stop and begin + count > start:
      if first is None:
        first = begin
      chosen.append((path, count))
    begin += count
  if not chosen:  # A file without rows, which is a shard.
    return row_ranges.Part(paths[:1], 0, 0)
  names = [path for path, _ in chosen]
  if first == start and first + sum(count for _, count in chosen) == stop:
    return row_ranges.Part(names)
  return row_ranges.Part(names, start - first, stop - first)


def _count(path, inputs, keys):
  """The number of rows of a file; None where it does not tell it."""
  identity = file_systems.identity(path)
  key = (path, tuple(identity or ()), tuple(keys))
  if identity is None or key not in _counts:
    if not file_systems.is_remote(path):
      reader = point_sources.file_reader(path, inputs, keys)
      count = reader.count
      reader.close()
    elif point_sources.is_array_file(path):
      count = file_systems.array_header(path)[0][0]
    else:
      count = None
    _counts[key] = count
  return _counts[key]
