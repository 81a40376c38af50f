"""NumPy files (.npy), and arrays."""

import numpy as np

from gradfeed.streaming.formats import files
from gradfeed.streaming.formats import row_layout

_SAMPLED_ROWS = 64
_ALIGNMENT = 64
_MOST_ROWS = 10 ** 19


def load(path):
  """The array in a .npy file, mapped and not read.

  Raises:
    ModelFileError: the file is not a .npy file of numbers.
  """
  with open(path, "rb") as source:
    begin = source.read(len(np.lib.format.MAGIC_PREFIX))
  if begin != np.lib.format.MAGIC_PREFIX:
    raise _not_numbers(path, "It does not begin as a .npy file does.")
  try:
    points = np.load(path, mmap_mode="r", allow_pickle=False)
  except (ValueError, EOFError) as error:
    raise _not_numbers(path, "{}.".format(
        str(error).split("\n")[0].rstrip("."))) from None
  if points.dtype.kind not in "iufcbSU":
    raise _not_numbers(path, "It holds {}.".format(points.dtype))
  return points


def _not_numbers(path, why):
  return files.not_rows(path, "a NumPy file of numbers", why,
                        "Write it with numpy.save('points.npy', points).")


class ArrayReader:
  """The rows of an array: those of one input."""

  def __init__(self, array, leaf):
    self.inputs = [leaf]
    self.batch_forms = [row_layout.batch_form_of(array.shape, leaf)]
    self.count = len(array)
    self._array = array

  def about(self):
    return self.count

  def fingerprint(self):
    array = self._array
    places = np.unique(np.linspace(
        0, max(len(array) - 1, 0), _SAMPLED_ROWS).astype(np.int64))
    return [repr((array.shape, array.dtype.str)).encode()] + [
        np.ascontiguousarray(array[i]).tobytes() for i in places if len(array)]

  def read(self, start, end):
    return row_layout.Block([_copied(self._array, start, end)], {})

  def close(self):
    pass


def _copied(array, start, end):
  """Some rows, at an address that TensorFlow reads them from as they are."""
  part = array[start:end]
  if part.dtype.kind not in "iufcb":
    return np.array(part)
  copy = _aligned(part.shape, part.dtype)
  if isinstance(array, np.memmap) and array.flags.c_contiguous:
    # Mapped pages would stay in memory when they are read.
    with open(array.filename, "rb") as source:
      source.seek(array.offset + start * (part.nbytes // max(len(part), 1)))
      source.readinto(copy.reshape(-1).view(np.uint8))
  else:
    copy[...] = part
  return copy


def _aligned(shape, dtype):
  size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
  whole = np.empty(size + _ALIGNMENT, np.uint8)
  begin = -whole.ctypes.data % _ALIGNMENT
  return whole[begin:begin + size].view(dtype).reshape(shape)


class ArrayWriter:
  """A .npy file for each output."""

  def __init__(self, paths):
    self._paths = paths
    self._files = [files.Growing(path + ".partial") for path in paths]
    self._rows = None

  def begin(self, results):
    self._rows = [[np.lib.format.dtype_to_descr(result.dtype),
                   list(result.shape[1:])] for result in results]
    for growing, row in zip(self._files, self._rows):
      growing.open()
      growing.write(_header(0, *row))

  def resume(self, state):
    self._rows = state["rows"]
    for growing, size in zip(self._files, state["sizes"]):
      growing.open(size)

  def write(self, results):
    for growing, result in zip(self._files, results):
      growing.write(np.ascontiguousarray(result).reshape(-1).view(np.uint8))
    return {"rows": self._rows,
            "sizes": [growing.tell() for growing in self._files]}

  def finish(self, count):
    for growing, row in zip(self._files, self._rows):
      growing.overwrite(_header(count, *row))
    self.close()
    return [[path + ".partial", path] for path in self._paths]

  def close(self):
    for growing in self._files:
      growing.close()


def _header(count, descr, row):
  """The first bytes of a file, of one length for any number of rows."""
  if isinstance(descr, list):
    descr = [tuple(field) for field in descr]

  def text(rows):
    return repr({"descr": descr, "fortran_order": False,
                 "shape": (rows,) + tuple(row)}).encode("latin1")

  begin = np.lib.format.magic(1, 0)
  size = -(-(len(begin) + 3 + len(text(_MOST_ROWS))) // 64) * 64
  length = size - len(begin) - 2
  return begin + length.to_bytes(2, "little") + text(count).ljust(
      length - 1) + b"\n"
