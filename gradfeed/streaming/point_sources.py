"""Points to evaluate a function at: rows of files, arrays and iterators."""

from collections import abc
import glob
import itertools
import os
import re

import numpy as np

from gradfeed import errors
from gradfeed.graph import tensors
from gradfeed.streaming import row_ranges
from gradfeed.streaming.formats import csv_files
from gradfeed.streaming.formats import iterators
from gradfeed.streaming.formats import npy
from gradfeed.streaming.formats import npz
from gradfeed.streaming.formats import row_layout
from gradfeed.streaming.formats import tfrecords

#: (pattern of the name of a file, the class that reads such files).
_READERS = [
    (re.compile(r"\.npz$"), npz.ArchiveReader),
    (re.compile(r"\.csv(\.gz)?$"), csv_files.ColumnReader),
    (re.compile(r"\.tf-?records?\b|\.tfrecords?-\d"), tfrecords.RecordReader),
]


class Points:
  """Rows of points: each has a value for every input of a function.

  Attributes:
    inputs: list of the inputs.
    count: int, how many rows there are; None where it is not known before the
      end.
  """

  def __init__(self, points, f, keys=None):
    """Opens files, arrays and iterators of points.

    Args:
      points, keys: as in `streams.stream`.
      f: `functions.Function`.

    Raises:
      FeedError: they do not fit the inputs, or differ in their number of rows.
      ArgumentError: there are not as many keys as inputs.
      ModelFileError: a file of points is not one, or is damaged.
    """
    self.inputs = f.inputs
    self._readers = []
    self._input_indices = []  # Of the inputs that each reader has values of.
    self._keys = keys = _keys_per_input(keys, self.inputs)
    try:
      for source, indices in _sources(points, self.inputs):
        self._input_indices.append(indices)
        self._readers.append(_reader_of(
            source, [self.inputs[i] for i in indices],
            [keys[i] for i in indices]))
    except Exception:
      self.close()
      raise
    counts = {reader.count for reader in self._readers}
    self.count = None if None in counts else max(counts)
    if len(counts - {None}) > 1:
      raise errors.FeedError(
          "The points have different numbers of rows: {}.".format(", ".join(
              str(reader.count) for reader in self._readers
              if reader.count is not None)),
          "Row i of each belongs to point i.", "Pass points of one length.")

  @property
  def batch_forms(self):
    """list of str, how a row becomes a value of each input.

    They are those of `row_layout.batch_form_of`. None as long as no row was
    read that shows it.
    """
    forms = [reader.batch_forms for reader in self._readers]
    return None if None in forms else self._in_input_order(forms)

  def estimate_count(self):
    """The number of rows, or an estimate of it, or None."""
    if self.count is not None:
      return self.count
    return self._readers[0].estimate_count()

  def identity(self):
    """What tells that the rows are the same as before, without reading them.

    Returns:
      list of what JSON can hold; or None where a change might not show in it.
    """
    identities = []
    for reader, indices in zip(self._readers, self._input_indices):
      parts = [source.identity() for source in reader.source_files] if (
          reader.source_files) else [None]
      if None in parts:
        return None
      identities.append([indices, [self._keys[i] for i in indices], parts])
    return identities

  def first_change(self, steps):
    """Reads the rows of an earlier call, and compares them with what it read.

    Args:
      steps: list of [the number of the row after the last, the digest of the
        rows], for all rows of the earlier call in their order.

    Returns:
      (int, int), the numbers of the first row, and of that after the last, of
      the first rows that are not the same; or None.
    """
    start = 0
    for end, digest in steps:
      if end > start and self.read(start, end, len(digest)).digest != digest:
        return start, end
      start = end
    return None

  def read(self, start, end, digits=row_layout.DIGITS):
    """Reads rows, and finds those that are not finite.

    Args:
      start, end: int, the numbers of the first row and of that after the last.
      digits: int, as in `row_layout.digest_of`.

    Returns:
      `row_layout.Block`, of fewer rows at the end of the points.

    Raises:
      FeedError: one file has more rows than another.
    """
    return self.checked(self.read_unchecked(start, end), digits)

  def read_unchecked(self, start, end):
    """The first part of `read`; a block without a digest."""
    blocks = [reader.read(start, end) for reader in self._readers]
    lengths = {len(block.arrays[0]) for block in blocks}
    if len(lengths) > 1:
      raise errors.FeedError(
          "The points have different numbers of rows.",
          "There are points with values of some inputs alone, from point {} "
          "on.".format(start + min(lengths)),
          "Pass points of one length.")
    bad = {}
    for block in reversed(blocks):
      bad.update(block.bad)
    return row_layout.Block(
        self._in_input_order([block.arrays for block in blocks]), bad)

  def checked(self, block, digits=row_layout.DIGITS):
    """The second part of `read`, which may run in another thread."""
    values, bad = block.arrays, dict(block.bad)
    digest = row_layout.digest_of(values, bad, digits)
    for array in values:
      for i in np.flatnonzero(~finite_rows(array)):
        bad.setdefault(int(i), "is not finite")
    return row_layout.Block(values, bad, digest)

  def _in_input_order(self, per_reader):
    """A list in the order of the inputs, from a list for each reader."""
    pairs = zip(itertools.chain(*self._input_indices),
                itertools.chain(*per_reader))
    return [value for _, value in sorted(pairs, key=lambda pair: pair[0])]

  def stop(self):
    """Lets a `read` in another thread end at the next row."""
    for reader in self._readers:
      reader.is_stopped = True

  def close(self):
    for reader in self._readers:
      reader.close()


def finite_rows(array):
  """Finds the rows without a NaN or an infinity.

  Args:
    array: array of any dtype and at least one axis.

  Returns:
    array of bool, one for each row.
  """
  with np.errstate(all="ignore"):  # A sum is faster than a test of each value.
    if array.dtype.kind not in "fc" or np.isfinite(array.sum()):
      return np.ones(len(array), bool)
  return np.isfinite(array.reshape(len(array), -1)).all(axis=1)


def _sources(points, inputs):
  """Finds out which file, array or iterator has the values of which inputs.

  Args:
    points: as in `streams.stream`.
    inputs: list of the inputs.

  Returns:
    list of (source, list of the indices of the inputs that it has values of).

  Raises:
    FeedError: there are not as many sources as inputs.
  """
  if isinstance(points, abc.Mapping):
    given = row_layout.values_per_input(points, inputs, "points")
  elif _is_path(points) and not is_array_file(points):
    given = [points] * len(inputs)
  elif isinstance(points, (list, tuple)):
    given = points
  elif isinstance(points, abc.Iterator):
    return [(points, list(range(len(inputs))))]
  else:
    given = [points]
  if len(given) != len(inputs):
    raise errors.FeedError(
        "{} array{} of points for {} inputs.".format(
            len(given), "" if len(given) == 1 else "s", len(inputs)),
        "The inputs are {}.".format(tensors.describe_all(inputs)),
        "Pass one array or file for each, in this order; or one .npz, .csv or "
        "TFRecord file that has all of them.")
  sources = {}  # A file that is named for two inputs is one source.
  for i, source in enumerate(given):
    key = (os.fspath(source) if _is_path(source) else
           source if isinstance(source, row_ranges.Part) else i)
    sources.setdefault(key, (source, []))[1].append(i)
  return list(sources.values())


def _is_path(points):
  return isinstance(points, (str, os.PathLike))


def is_array_file(path):
  """Whether a file is a .npy file by its name, and not of another format."""
  return not any(ending.search(os.path.basename(os.fspath(path)))
                 for ending, _ in _READERS)


def _keys_per_input(keys, inputs):
  """The key of each input in its file, or None.

  Args:
    keys: as in `streams.stream`.
    inputs: list of the inputs.

  Returns:
    list of str or None.

  Raises:
    ArgumentError: there are not as many keys as inputs.
    FeedError: there is a key for what is no input.
  """
  if keys is None:
    return [None] * len(inputs)
  if isinstance(keys, abc.Mapping):
    return row_layout.values_per_input(keys, inputs, "keys")
  keys = [keys] if isinstance(keys, str) else list(keys)
  if len(keys) != len(inputs):
    raise errors.ArgumentError(
        "{} key{} for {} inputs.".format(
            len(keys), "" if len(keys) == 1 else "s", len(inputs)),
        "The inputs are {}.".format(tensors.describe_all(inputs)),
        "Pass a key or None for each, in this order.")
  return keys


def _reader_of(source, inputs, keys):
  """Opens a file, a pattern of names of files, an array or an iterator.

  Args:
    source: str, os.PathLike, array, or iterator.
    inputs: list of the inputs that it has values of.
    keys: list with a key, or None, for each of them.

  Returns:
    a reader as `gradfeed.streaming.formats` describes it.

  Raises:
    ModelFileError: no file matches the pattern; or a file is damaged.
  """
  if isinstance(source, abc.Iterator):
    return iterators.IteratorReader(source, inputs)
  if isinstance(source, row_ranges.Part):
    return _part_reader(source, inputs, keys)
  if not _is_path(source):
    return npy.ArrayReader(_as_array(source, inputs[0]), inputs[0])
  path = os.fspath(source)
  if not os.path.exists(path) and glob.has_magic(path):
    paths = sorted(glob.glob(path))
    if not paths:
      raise errors.ModelFileError(
          "No file is called '{}'.".format(path), "It is a pattern of names.",
          "Look at the path; a relative one begins at '{}'.".format(
              os.getcwd()))
    return _part_reader(row_ranges.Part(paths), inputs, keys)
  return file_reader(path, inputs, keys)


def _part_reader(part, inputs, keys):
  """Opens the files of a `row_ranges.Part`."""
  readers = [file_reader(path, inputs, keys) for path in part.paths]
  reader = readers[0] if len(readers) == 1 else row_ranges.ConcatenatedReader(
      readers)
  return reader if part.start is None else row_ranges.RangeReader(
      reader, part.start, part.stop)


def _as_array(points, leaf):
  """Points in memory as an array; of objects where they are strings.

  Raises:
    FeedError: they are not one array.
  """
  is_text = row_layout.dtype_of(leaf) == object
  try:
    array = np.array(points, object) if is_text and not isinstance(
        points, np.ndarray) else np.asarray(points)
  except Exception as error:  # pylint: disable=broad-except
    raise errors.FeedError(
        "The points for '{}' are not an array.".format(leaf.name),
        "{}.".format(errors.first_line(error)),
        "Pass rows of one shape.") from None
  if array.dtype.kind == "O" and not is_text:
    raise errors.FeedError(
        "The points for '{}' are not an array of numbers.".format(leaf.name),
        "There are objects in it, or rows of different lengths.",
        "Pass rows of one shape.")
  return array


def file_reader(path, inputs, keys):
  """Opens one file, in the format that its name says.

  Args:
    path: str.
    inputs: list of the inputs that it has values of.
    keys: list with a key, or None, for each of them.

  Returns:
    a reader as `gradfeed.streaming.formats` describes it.
  """
  for ending, reader in _READERS:
    if ending.search(os.path.basename(path)):
      return reader(path, inputs, keys)
  if keys[0] is not None:
    raise errors.ArgumentError(
        "'{}' has no '{}'.".format(path, keys[0]),
        "Neither a .npy file nor an array has names in it.",
        "Leave out the key.")
  return npy.FileReader(path, inputs[0])
