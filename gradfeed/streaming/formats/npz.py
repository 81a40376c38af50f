"""NumPy archives (.npz): an array for each input; outputs in shards."""

import os
import zipfile
import zlib

import numpy as np

from gradfeed import errors
from gradfeed.streaming.formats import files
from gradfeed.streaming.formats import npy
from gradfeed.streaming.formats import row_layout

#: A shard is complete when it has so many bytes, and a chunk ends.
SHARD_BYTES = 64 * 2 ** 20

_FIX = "Write it with numpy.savez('points.npz', x=points)."


class ArchiveReader:
  """The rows of arrays in a .npz file, read one after the other.

  Nothing is held, however large they are; also of a compressed archive.
  """

  def __init__(self, path, inputs, keys):
    self.inputs = inputs
    self._path = path
    try:
      with zipfile.ZipFile(path) as archive:
        names = [name[:-4] for name in archive.namelist()
                 if name.endswith(".npy")]
    except (zipfile.BadZipFile, EOFError) as error:
      raise files.not_rows(path, "a .npz file", "{}.".format(error),
                           _FIX) from None
    self._members = [
        _Member(path, _key_of(path, names, place, leaf, key, len(inputs)))
        for place, (leaf, key) in enumerate(zip(inputs, keys))]
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

  def about(self):
    return self.count

  def fingerprint(self):
    return files.fingerprint(self._path) + [
        member.key.encode() for member in self._members]

  def read(self, start, end):
    start, end = min(start, self.count), min(end, self.count)
    return row_layout.Block(
        [member.read(start, end) for member in self._members], {})

  def close(self):
    for member in self._members:
      member.close()


def _key_of(path, names, place, leaf, key, inputs):
  """The name of the array of `leaf` in the archive."""
  wanted = [key] if key is not None else row_layout.names_of(leaf)
  if key is None:
    if inputs == len(names) == 1:
      wanted = names
    wanted = wanted + ["arr_{}".format(place)]
  for name in wanted:
    if name in names:
      return name
  raise errors.FeedError(
      "There is no array '{}' in '{}'.".format(wanted[0], path),
      "It has {}.".format(", ".join(map(repr, sorted(names))) or "none"),
      "Say which one is meant, as in keys=[{!r}].".format(
          sorted(names)[0] if names else "x"))


class _Member:
  """An array in an archive, unpacked a few rows at a time."""

  def __init__(self, path, key):
    self.key = key
    self._path = path
    self._stream = None
    self._open()

  def _open(self):
    self.close()
    self._archive = zipfile.ZipFile(self._path)
    self._stream = self._archive.open(self.key + ".npy")
    self._next = 0
    try:
      version = np.lib.format.read_magic(self._stream)
      read = (np.lib.format.read_array_header_1_0 if version == (1, 0)
              else np.lib.format.read_array_header_2_0)
      self.shape, columns, self.dtype = read(self._stream)
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
      self.close()
      raise self._damaged(error) from None
    if columns and len(self.shape) > 1:
      raise files.not_rows(
          self._path, "an archive of rows",
          "'{}' is stored column by column.".format(self.key),
          "Save numpy.ascontiguousarray of it.")
    if self.dtype.kind not in "iufcbSU" or not self.shape:
      raise files.not_rows(
          self._path, "an archive of rows of numbers", "'{}' is {}.".format(
              self.key, self.dtype if self.shape else "one number"), _FIX)
    self._row = self.dtype.itemsize * int(
        np.prod(self.shape[1:], dtype=np.int64))

  def read(self, start, end):
    if start < self._next:
      self._open()
    try:
      if start > self._next:
        self._stream.seek((start - self._next) * self._row, os.SEEK_CUR)
      content = self._stream.read((end - start) * self._row)
    except (EOFError, zipfile.BadZipFile, zlib.error) as error:
      raise self._damaged(error) from None
    if len(content) < (end - start) * self._row:
      raise self._damaged("it ends early")
    self._next = end
    return np.frombuffer(bytearray(content), self.dtype).reshape(
        (end - start,) + self.shape[1:])

  def _damaged(self, error):
    return files.not_rows(
        self._path, "a whole .npz file",
        "'{}' cannot be read: {}.".format(self.key, str(error).rstrip(".")),
        "Write it again.")

  def close(self):
    if self._stream is not None:
      self._stream.close()
      self._archive.close()
      self._stream = None


class ArchiveWriter:
  """Shards: gradients-00000-of-00003.npz, ...; one alone has the bare name.

  The rows of the shard in work are in .npy files, that nothing is lost of.
  """

  def __init__(self, path, names):
    self._base = path[:-4] if path.endswith(".npz") else path
    self._names = names
    self._shard, self._rows, self._bytes = 0, 0, 0
    self._arrays = None

  def _paths(self, shard):
    return ["{}.{}.{}".format(self._base, shard, i)
            for i in range(len(self._names))]

  def begin(self, results):
    self._arrays = npy.ArrayWriter(self._paths(self._shard))
    self._arrays.begin(results)

  def resume(self, state):
    self._shard, self._rows, self._bytes = state["shard"]
    self._arrays = npy.ArrayWriter(self._paths(self._shard))
    self._arrays.resume(state["arrays"])

  def write(self, results):
    if self._rows:  # The shard before is not wanted back any more.
      for path, _ in self._leftovers(self._shard - 1):
        os.remove(path)
    if self._bytes >= SHARD_BYTES:
      self._complete()
      self._shard, self._rows, self._bytes = self._shard + 1, 0, 0
      self.begin(results)
    state = self._arrays.write(results)
    self._rows += len(results[0])
    self._bytes += sum(result.nbytes for result in results)
    return {"shard": [self._shard, self._rows, self._bytes], "arrays": state}

  def _complete(self):
    """The rows of the shard in work become an archive."""
    parts = [partial for partial, _ in self._arrays.finish(self._rows)]
    with open(self._partial(self._shard) + ".new", "wb") as output:
      np.savez(output, **{name: np.load(part, mmap_mode="r")
                          for name, part in zip(self._names, parts)})
    os.replace(self._partial(self._shard) + ".new", self._partial(self._shard))

  def _partial(self, shard):
    return "{}.{}.npz.partial".format(self._base, shard)

  def _leftovers(self, shard):
    """The rows of a shard as they were before it was complete."""
    return [[path + ".partial", None] for path in self._paths(shard)
            if os.path.exists(path + ".partial")]

  def finish(self, unused_count):
    self._complete()
    shards = self._shard + 1
    return [[self._partial(i), self._base + (
        "" if shards == 1 else "-{:05d}-of-{:05d}".format(i, shards)) + ".npz"]
            for i in range(shards)] + self._leftovers(
                self._shard - 1) + self._leftovers(self._shard)

  def close(self):
    if self._arrays is not None:
      self._arrays.close()
