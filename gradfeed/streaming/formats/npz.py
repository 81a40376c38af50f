"""NumPy archives (.npz): an array for each input, or for each output."""

import os
import zipfile

import numpy as np

from gradfeed import errors
from gradfeed.streaming.formats import files
from gradfeed.streaming.formats import npy
from gradfeed.streaming.formats import row_layout

#: A shard ends with the chunk that fills it to so many bytes.
SHARD_BYTES = 64 * 2 ** 20

_FIX = "Write it with numpy.savez('points.npz', x=points)."


class ArchiveReader:
  """Reads the rows of arrays in a .npz file, a few at a time.

  No array is held in memory, however large it is, and whether the archive is
  compressed or not.
  """

  def __init__(self, path, inputs, keys):
    self.inputs = inputs
    self._path = path
    self.source_files = [files.SourceFile(path)]
    try:
      with zipfile.ZipFile(path) as archive:
        names = [name[:-4] for name in archive.namelist()
                 if name.endswith(".npy")]
    except OSError as error:
      raise files.unopened(path, error) from None
    except Exception as error:  # pylint: disable=broad-except
      raise files.not_rows(path, "a .npz file", "{}.".format(
          errors.first_line(error)), _FIX) from None
    self._members = [
        _Member(path, _key_of(path, names, i, leaf, key, len(inputs)))
        for i, (leaf, key) in enumerate(zip(inputs, keys))]
    shapes = [member.shape for member in self._members]
    self.batch_forms = [
        row_layout.batch_form_of(shape, leaf)
        for shape, leaf in zip(shapes, inputs)
    ]
    self.count = shapes[0][0]
    if len({shape[0] for shape in shapes}) > 1:
      raise errors.FeedError(
          "The arrays in '{}' have different numbers of rows: {}.".format(
              path, ", ".join(str(shape[0]) for shape in shapes)),
          "Row i of each belongs to point i.", "Save arrays of one length.")

  def estimate_count(self):
    return self.count

  def read(self, start, end):
    start, end = min(start, self.count), min(end, self.count)
    arrays = [member.read(start, end) for member in self._members]
    self.source_files[0].check(start)
    return row_layout.Block(arrays, {})

  def close(self):
    for member in self._members:
      member.close()


def _key_of(path, names, i, leaf, key, inputs):
  """The name of the array with the values of `leaf`, which is input `i`.

  Args:
    path: str, for the error.
    names: list of the names of the arrays in the archive.
    i: int; arrays that were saved without names are called "arr_0", ...
    leaf: the input.
    key: str, or None.
    inputs: int, how many inputs the archive has values of.

  Raises:
    FeedError: there is no such array.
  """
  candidates = row_layout.candidate_names(leaf, key, names, inputs)
  if key is None:
    candidates = candidates + ["arr_{}".format(i)]
  for name in candidates:
    if name in names:
      return name
  raise errors.FeedError(
      "There is no array '{}' in '{}'.".format(candidates[0], path),
      "It has {}.".format(", ".join(map(repr, sorted(names))) or "none"),
      "Say which one is meant, as in keys=[{!r}].".format(
          sorted(names)[0] if names else "x"))


class _Member:
  """An array in an archive, unpacked a few rows at a time.

  Attributes:
    key: str, its name.
    shape: tuple of int.
    dtype: `np.dtype`.
  """

  def __init__(self, path, key):
    self.key = key
    self._path = path
    self._archive = self._stream = None
    self._open()

  def _open(self):
    """Opens the array at its first row; also once more, to go back to it."""
    self.close()
    try:
      self._archive = zipfile.ZipFile(self._path)
      self._stream = self._archive.open(self.key + ".npy")
      self._next = 0
      self.shape, is_by_column, self.dtype = npy.read_header(self._stream)
      self._row_bytes = npy.bytes_of(self.shape[1:], self.dtype)
      needed = self._stream.tell() + npy.bytes_of(self.shape, self.dtype)
      there = self._archive.getinfo(self.key + ".npy").file_size
      if needed != there:
        raise ValueError("it has {} bytes for {}".format(there, needed))
    except Exception as error:  # pylint: disable=broad-except
      self.close()
      raise self._damaged(error) from None
    if is_by_column and len(self.shape) > 1:
      raise files.not_rows(
          self._path, "an archive of rows",
          "'{}' is stored column by column.".format(self.key),
          "Save numpy.ascontiguousarray of it.")
    if self.dtype.kind not in "iufcbSU" or not self.shape:
      raise files.not_rows(
          self._path, "an archive of rows of numbers", "'{}' is {}.".format(
              self.key, self.dtype if self.shape else "one number"), _FIX)

  def read(self, start, end):
    """The rows from `start` to `end`, an array that may be written to."""
    if start < self._next:
      self._open()
    try:
      if start > self._next:
        self._stream.seek((start - self._next) * self._row_bytes, os.SEEK_CUR)
      content = self._stream.read((end - start) * self._row_bytes)
      if len(content) < (end - start) * self._row_bytes:
        raise EOFError("it ends early")
      if end == self.shape[0]:
        self._stream.read(1)  # Compares the checksum of all of it.
    except Exception as error:  # pylint: disable=broad-except
      raise self._damaged(error, start) from None
    self._next = end
    return np.frombuffer(bytearray(content), self.dtype).reshape(
        (end - start,) + self.shape[1:])

  def _damaged(self, error, row=0):
    """Makes the `ModelFileError` for an array that cannot be unpacked."""
    text = errors.first_line(error) or type(error).__name__
    return files.not_rows(
        self._path, "a whole .npz file", "'{}' cannot be read, from row {} "
        "on: {}.".format(self.key, row, text), "Write it again.")

  def close(self):
    for opened in (self._stream, self._archive):
      if opened is not None:
        opened.close()
    self._archive = self._stream = None


class ArchiveWriter:
  """Writes shards: gradients-00000-of-00003.npz, ...; one alone is `path`.

  The rows of the shard that is not full yet are in .npy files, to which rows
  can be appended.
  """

  def __init__(self, path, names):
    self._base = path[:-4] if path.endswith(".npz") else path
    self._names = names
    self._shard, self._rows, self._bytes = 0, 0, 0
    self._noted_shard = 0  # At the last call of `sync`, or in the journal.
    self._arrays = None

  def _array_paths(self, shard):
    """The .npy file of each output, for the rows of one shard."""
    return ["{}.{}.{}".format(self._base, shard, i)
            for i in range(len(self._names))]

  def begin(self, results):
    self._arrays = npy.ArrayWriter(self._array_paths(self._shard))
    self._arrays.begin(results)

  def resume(self, state):
    self._shard, self._rows, self._bytes = state["shard"]
    self._noted_shard = self._shard
    self._arrays = npy.ArrayWriter(self._array_paths(self._shard))
    self._arrays.resume(state["arrays"])

  def write(self, results):
    if self._bytes >= SHARD_BYTES:
      self._complete_shard()
      self._shard, self._rows, self._bytes = self._shard + 1, 0, 0
      self.begin(results)
    state = self._arrays.write(results)
    self._rows += len(results[0])
    self._bytes += sum(result.nbytes for result in results)
    return {"shard": [self._shard, self._rows, self._bytes], "arrays": state}

  def _complete_shard(self):
    """Writes an archive of the rows in the .npy files."""
    arrays = [partial for partial, _ in self._arrays.finish(self._rows)]
    archive = self._archive_path(self._shard)
    try:
      with open(archive + ".new", "wb") as output:
        np.savez(output, **{name: np.load(array, mmap_mode="r")
                            for name, array in zip(self._names, arrays)})
        output.flush()
        os.fsync(output.fileno())
    except BaseException:
      os.remove(archive + ".new")
      raise
    os.replace(archive + ".new", archive)

  def _archive_path(self, shard):
    """The archive of a shard, until it gets its final name."""
    return "{}.{}.npz.partial".format(self._base, shard)

  def _leftovers(self, end):
    """[path, None] of each .npy file that is still there for shards < `end`."""
    return [[path + ".partial", None] for shard in range(end)
            for path in self._array_paths(shard)
            if os.path.exists(path + ".partial")]

  def finish(self, unused_count):
    self._complete_shard()
    shards = self._shard + 1
    return [[self._archive_path(i), self._base + (
        "" if shards == 1 else "-{:05d}-of-{:05d}".format(i, shards)) + ".npz"]
            for i in range(shards)] + self._leftovers(shards)

  def sync(self):
    for path, _ in self._leftovers(self._noted_shard):
      os.remove(path)  # No stream is resumed before the shard that is noted.
    self._noted_shard = self._shard
    if self._arrays is not None:
      self._arrays.sync()

  def close(self):
    if self._arrays is not None:
      self._arrays.close()

  def discard(self):
    if self._arrays is not None:
      self._arrays.discard()
    for path, _ in self._leftovers(self._shard + 1):
      os.remove(path)
    for i in range(self._shard + 1):
      if os.path.exists(self._archive_path(i)):
        os.remove(self._archive_path(i))
