"""Points to evaluate a function at: rows of files, arrays and iterators."""

from collections import abc
import glob
import itertools
import os
import re

import numpy as np

from gradfeed import errors
from gradfeed.graph import tensors
from gradfeed.streaming.formats import csv_files
from gradfeed.streaming.formats import npy
from gradfeed.streaming.formats import npz
from gradfeed.streaming.formats import row_layout
from gradfeed.streaming.formats import tfrecords

_PEEKED_ROWS = 64

#: What the name of a file says it is, and its reader.
_READERS = [
    (re.compile(r"\.npz$"), npz.ArchiveReader),
    (re.compile(r"\.csv(\.gz)?$"), csv_files.ColumnReader),
    (re.compile(r"\.tf-?records?\b|\.tfrecords?-\d"), tfrecords.RecordReader),
]


class Points:
  """Rows of values, one for each input of a function.

  Attributes:
    inputs: list of the inputs.
    count: int, how many rows there are; None where the end has to be seen.
  """

  def __init__(self, points, f, keys=None):
    """Opens what is named.

    Args:
      points, keys: as in `streams.stream`.
      f: `functions.Function`.
    """
    self.inputs = f.inputs
    self._readers = []
    self._places = []
    keys = _per_input(keys, self.inputs, "keys") if isinstance(
        keys, abc.Mapping) else _listed(keys, self.inputs)
    try:
      for source, places in _sources(points, self.inputs):
        self._places.append(places)
        self._readers.append(_reader(
            source, [self.inputs[i] for i in places],
            [keys[i] for i in places]))
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
    """List of str, how a row of each input becomes a value.

    None where no row was read that tells it.
    """
    found = [reader.batch_forms for reader in self._readers]
    return None if None in found else self._in_order(found)

  def about(self):
    """The number of rows, or an estimate of it, or None."""
    return self.count if self.count is not None else self._readers[0].about()

  def fingerprint(self):
    """list of bytes that tell these points from others, most probably."""
    return sum([reader.fingerprint() for reader in self._readers], [])

  def read(self, start, end):
    """A `row_layout.Block` of these rows, or of fewer at the end.

    Raises:
      FeedError: one file has more rows than another.
    """
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
    values = self._in_order([block.arrays for block in blocks])
    for array in values:
      for i in np.flatnonzero(~finite(array)):
        bad.setdefault(int(i), "is not finite")
    return row_layout.Block(values, bad)

  def _in_order(self, found):
    """Flat, in the order of the inputs."""
    both = sorted(zip(itertools.chain(*self._places), itertools.chain(*found)),
                  key=lambda pair: pair[0])
    return [one for _, one in both]

  def close(self):
    for reader in self._readers:
      reader.close()


def finite(array):
  """Which rows of an array are finite, an array of bool."""
  with np.errstate(all="ignore"):  # A sum is sooner there than all tests.
    if array.dtype.kind not in "fc" or np.isfinite(array.sum()):
      return np.ones(len(array), bool)
  return np.isfinite(array.reshape(len(array), -1)).all(axis=1)


def _sources(points, inputs):
  """(what, places of the inputs that it has values of) of each source."""
  if isinstance(points, abc.Mapping):
    given = _per_input(points, inputs, "points")
  elif _is_path(points) and not _is_array_file(points):
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
  places = {}
  for i, one in enumerate(given):
    key = os.fspath(one) if _is_path(one) else i
    places.setdefault(key, (one, []))[1].append(i)
  return list(places.values())


def _is_path(points):
  return isinstance(points, (str, os.PathLike))


def _is_array_file(path):
  return not any(ending.search(os.path.basename(os.fspath(path)))
                 for ending, _ in _READERS)


def _per_input(mapping, inputs, what):
  """The values of a dict in the order of the inputs."""
  left = {getattr(key, "name", key): value for key, value in mapping.items()}
  found = []
  for leaf in inputs:
    names = [name for name in row_layout.names_of(leaf) if name in left]
    found.append(left.pop(names[0]) if names else None)
    if not names and what == "points":
      raise errors.FeedError(
          "There are no points for {}.".format(tensors.describe(leaf)),
          "It is an input.", "Add points={{'{}': ...}}.".format(leaf.name))
  if left:
    raise errors.FeedError(
        "There is no input '{}'.".format(sorted(map(str, left))[0]),
        "The inputs are {}.".format(tensors.describe_all(inputs)),
        "Name one of them in {}.".format(what))
  return found


def _listed(keys, inputs):
  if keys is None:
    return [None] * len(inputs)
  keys = [keys] if isinstance(keys, str) else list(keys)
  if len(keys) != len(inputs):
    raise errors.ArgumentError(
        "{} key{} for {} inputs.".format(
            len(keys), "" if len(keys) == 1 else "s", len(inputs)),
        "The inputs are {}.".format(tensors.describe_all(inputs)),
        "Pass a key or None for each, in this order.")
  return keys


def _reader(source, inputs, keys):
  if isinstance(source, abc.Iterator):
    return _IteratorReader(source, inputs)
  if not _is_path(source):
    return npy.ArrayReader(np.asarray(source), inputs[0])
  path = os.fspath(source)
  if not os.path.exists(path) and glob.has_magic(path):
    found = sorted(glob.glob(path))
    if not found:
      raise errors.ModelFileError(
          "No file is called '{}'.".format(path), "It is a pattern of names.",
          "Look at the path; a relative one begins at '{}'.".format(
              os.getcwd()))
    return _SeveralReader([_file_reader(one, inputs, keys) for one in found])
  return _file_reader(path, inputs, keys)


def _file_reader(path, inputs, keys):
  for ending, reader in _READERS:
    if ending.search(os.path.basename(path)):
      return reader(path, inputs, keys)
  if keys[0] is not None:
    raise errors.ArgumentError(
        "'{}' has no '{}'.".format(path, keys[0]),
        "Neither a .npy file nor an array has names in it.",
        "Leave out the key.")
  return npy.ArrayReader(npy.load(path), inputs[0])


class _SeveralReader:
  """The rows of several files, one after the other."""

  def __init__(self, readers):
    self._readers = readers
    self.inputs = readers[0].inputs
    counts = [reader.count for reader in readers]
    self.count = None if None in counts else sum(counts)
    self._current, self._begin = 0, 0

  @property
  def batch_forms(self):
    return self._readers[0].batch_forms

  def about(self):
    found = [reader.about() for reader in self._readers]
    known = [one for one in found if one is not None]
    return sum(known) * len(found) // len(known) if known else None

  def fingerprint(self):
    return sum([reader.fingerprint() for reader in self._readers], [])

  def read(self, start, end):
    if self.count is not None and start < self._begin:
      self._current, self._begin = 0, 0
    parts = []
    while True:
      reader = self._readers[self._current]
      part = reader.read(start - self._begin, end - self._begin)
      parts.append((start, part))
      start += len(part.arrays[0])
      if start == end or self._current + 1 == len(self._readers):
        return _joined(parts)
      self._begin += (
          reader.position if reader.count is None else reader.count)
      self._current += 1

  def close(self):
    for reader in self._readers:
      reader.close()


def _joined(parts):
  """One `Block` of (number of the first row, `Block`)s."""
  first = parts[0][0]
  filled = [part for _, part in parts if len(part.arrays[0])] or [parts[0][1]]
  bad = {start - first + i: why for start, part in parts
         for i, why in part.bad.items()}
  return row_layout.Block([
      np.concatenate(group) if len(group) > 1 else group[0]
      for group in zip(*[part.arrays for part in filled])
  ], bad)


class _IteratorReader:
  """What an iterator yields: a value, or a list or dict of values, a row."""

  def __init__(self, iterator, inputs):
    self.inputs = inputs
    self.count = None
    self._iterator = iterator
    self._next = 0
    self._peeked = list(itertools.islice(iterator, _PEEKED_ROWS))
    self._rows = itertools.chain(self._peeked, iterator)
    self.batch_forms, self._shapes = None, None

  def about(self):
    return None

  def fingerprint(self):
    parts = []
    for row in self._peeked:
      try:
        parts.extend(part for value in self._parts(row)
                     for part in (repr(value.shape).encode(), value.tobytes()))
      except row_layout.Unreadable as error:
        parts.append(str(error).encode())
    return parts

  def read(self, start, end):
    for _ in itertools.islice(self._rows, max(start - self._next, 0)):
      pass
    self._next = max(self._next, start)
    rows, bad = [], {}
    for row in itertools.islice(self._rows, end - self._next):
      try:
        rows.append(self._checked(self._parts(row)))
      except row_layout.Unreadable as error:
        bad[len(rows)] = str(error)
        rows.append(None)
    self._next += len(rows)
    return row_layout.Block([
        _stacked([row and row[place] for row in rows], shape)
        for place, shape in enumerate(self._shapes or [()] * len(self.inputs))],
                      bad)

  def _parts(self, row):
    """The array of each input."""
    if isinstance(row, abc.Mapping):
      row = _per_input(row, self.inputs, "points")
    elif len(self.inputs) == 1 and not (
        isinstance(row, tuple) and len(row) == 1):
      row = [row]
    if not isinstance(row, (list, tuple)) or len(row) != len(self.inputs):
      raise row_layout.Unreadable("is not a tuple of {} values".format(
          len(self.inputs)))
    try:
      found = [np.asarray(value) for value in row]
    except ValueError as error:
      raise row_layout.Unreadable("is no array: {}".format(error)) from None
    if any(value.dtype.kind == "O" for value in found):
      raise row_layout.Unreadable("is not an array of numbers")
    return found

  def _checked(self, row):
    shapes = [value.shape for value in row]
    if self._shapes is None:
      try:
        self.batch_forms = [
            row_layout.batch_form_of((1,) + shape, leaf)
            for shape, leaf in zip(shapes, self.inputs)
        ]
      except errors.FeedError as error:
        raise row_layout.Unreadable(
            "does not fit: {}".format(error.what)) from None
      self._shapes = shapes
    if shapes != self._shapes:
      raise row_layout.Unreadable(
          "has the shape {} where others have {}".format(*[
              ", ".join(map(tensors.format_shape, some))
              for some in (shapes, self._shapes)
          ]))
    return row

  def close(self):
    pass


def _stacked(values, shape):
  """One array of the values, zeros where there is None."""
  known = [value for value in values if value is not None]
  zeros = np.zeros(shape, known[0].dtype if known else np.float32)
  return np.stack([zeros if value is None else value for value in values]) if (
      values) else np.zeros((0,) + tuple(shape), np.float32)
