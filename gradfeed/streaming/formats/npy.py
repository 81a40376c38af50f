"""NumPy files (.npy), and arrays in memory."""

import numpy as np

from gradfeed import errors
from gradfeed.streaming.formats import files
from gradfeed.streaming.formats import row_layout

_SAMPLED_ROWS = 64

#: TensorFlow feeds an array without a copy where its address is a multiple.
_ALIGNMENT = 64

#: The header of a file has room for the digits of this number of rows.
_MOST_ROWS = 10 ** 19


def load(path):
  """Maps the array in a .npy file into memory, without reading it.

  Args:
    path: str.

  Returns:
    `np.memmap` that cannot be written to.

  Raises:
    ModelFileError: the file is not a .npy file of numbers.
  """
  with open(path, "rb") as source:
    magic = source.read(len(np.lib.format.MAGIC_PREFIX))
  if magic != np.lib.format.MAGIC_PREFIX:
    raise _not_numbers(path, "It does not begin as a .npy file does.")
  try:
    points = np.load(path, mmap_mode="r", allow_pickle=False)
  except (ValueError, EOFError) as error:
    raise _not_numbers(path, "{}.".format(
        errors.first_line(error))) from None
  if points.dtype.kind not in "iufcbSU":
    raise _not_numbers(path, "It holds {}.".format(points.dtype))
  return points


def _not_numbers(path, why):
  """Makes the `ModelFileError` for a file that is not one of numbers."""
  return files.not_rows(path, "a NumPy file of numbers", why,
                        "Write it with numpy.save('points.npy', points).")


class ArrayReader:
  """Reads the rows of an array, which are values of one input."""

  def __init__(self, array, leaf):
    self.inputs = [leaf]
    self.batch_forms = [row_layout.batch_form_of(array.shape, leaf)]
    self.count = len(array)
    self._array = array

  def estimate_count(self):
    return self.count

  def fingerprint(self):
    array = self._array
    samples = np.unique(np.linspace(
        0, max(len(array) - 1, 0), _SAMPLED_ROWS).astype(np.int64))
    return [repr((array.shape, array.dtype.str)).encode()] + [
        np.ascontiguousarray(array[i]).tobytes() for i in samples if len(array)]

  def read(self, start, end):
    return row_layout.Block([_copy_rows(self._array, start, end)], {})

  def close(self):
    pass


def _copy_rows(array, start, end):
  """Copies rows to an address from which TensorFlow feeds without a copy."""
  rows = array[start:end]
  if rows.dtype.kind not in "iufcb":
    return np.array(rows)
  copy = _empty_aligned(rows.shape, rows.dtype)
  if isinstance(array, np.memmap) and array.flags.c_contiguous:
    # Mapped pages would stay in memory when they are read.
    with open(array.filename, "rb") as source:
      source.seek(array.offset + start * (rows.nbytes // max(len(rows), 1)))
      source.readinto(copy.reshape(-1).view(np.uint8))
  else:
    copy[...] = rows
  return copy


def _empty_aligned(shape, dtype):
  """An array without values, whose address is a multiple of `_ALIGNMENT`."""
  size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
  buffer = np.empty(size + _ALIGNMENT, np.uint8)
  begin = -buffer.ctypes.data % _ALIGNMENT
  return buffer[begin:begin + size].view(dtype).reshape(shape)


class ArrayWriter:
  """Writes a .npy file for each output.

  The number of rows in a header is 0 until the file is complete.
  """

  def __init__(self, paths):
    self._paths = paths
    self._files = [files.GrowingFile(path + ".partial") for path in paths]
    self._row_types = None  # [dtype, shape of a row] of each file.

  def begin(self, results):
    self._row_types = [[np.lib.format.dtype_to_descr(result.dtype),
                        list(result.shape[1:])] for result in results]
    for file, row_type in zip(self._files, self._row_types):
      file.open()
      file.write(_header(0, *row_type))

  def resume(self, state):
    self._row_types = state["rows"]
    for file, size in zip(self._files, state["sizes"]):
      file.open(size)

  def write(self, results):
    for file, result in zip(self._files, results):
      file.write(np.ascontiguousarray(result).reshape(-1).view(np.uint8))
    return {"rows": self._row_types,
            "sizes": [file.tell() for file in self._files]}

  def finish(self, count):
    for file, row_type in zip(self._files, self._row_types):
      file.overwrite(_header(count, *row_type))
    self.close()
    return [[path + ".partial", path] for path in self._paths]

  def close(self):
    for file in self._files:
      file.close()


def _header(count, descr, shape):
  """The header of a .npy file, of one length for any number of rows.

  Args:
    count: int, the number of rows.
    descr: what `np.lib.format.dtype_to_descr` gives; also as JSON returns it.
    shape: list of int, the shape of a row.

  Returns:
    bytes.
  """
  if isinstance(descr, list):
    descr = [tuple(field) for field in descr]

  def text(rows):
    return repr({"descr": descr, "fortran_order": False,
                 "shape": (rows,) + tuple(shape)}).encode("latin1")

  magic = np.lib.format.magic(1, 0)
  size = -(-(len(magic) + 3 + len(text(_MOST_ROWS))) // 64) * 64
  length = size - len(magic) - 2
  return magic + length.to_bytes(2, "little") + text(count).ljust(
      length - 1) + b"\n"
