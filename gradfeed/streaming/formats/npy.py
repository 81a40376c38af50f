"""NumPy files (.npy), and arrays in memory."""

import mmap
import os

import numpy as np

from gradfeed import errors
from gradfeed.graph import tensors
from gradfeed.streaming.formats import files
from gradfeed.streaming.formats import row_layout

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
  source = files.SourceFile(path)
  with _opened(path) as opened:
    shape, is_by_column, dtype = _checked_header(path, opened, source.size)
    offset = opened.tell()
  order = "F" if is_by_column else "C"
  if not bytes_of(shape, dtype):  # There is nothing to map.
    return np.empty(shape, dtype, order)
  return np.memmap(path, dtype, "r", offset, shape, order)


def _opened(path):
  """Opens a file without a buffer."""
  try:
    return open(path, "rb", buffering=0)
  except OSError as error:
    raise files.unopened(path, error) from None


def _checked_header(path, source, size):
  """Reads what a file says that it holds, and compares it with its size.

  Args:
    path: str, for the error.
    source: the file, which is read up to the first number.
    size: int, the number of its bytes.

  Returns:
    (shape, whether it is stored column by column, dtype).

  Raises:
    ModelFileError: it is not a .npy file of numbers, or not a whole one.
  """
  if source.read(len(np.lib.format.MAGIC_PREFIX)) != (
      np.lib.format.MAGIC_PREFIX):
    raise _not_numbers(path, "It does not begin as a .npy file does.")
  source.seek(0)
  try:
    shape, is_by_column, dtype = read_header(source)
  except Exception as error:  # pylint: disable=broad-except
    raise _not_numbers(path, "{}.".format(
        errors.first_line(error) or type(error).__name__)) from None
  if dtype.kind not in "iufcbSU":
    raise _not_numbers(path, "It holds {}.".format(
        "Python objects" if dtype.hasobject else dtype))
  expected = source.tell() + bytes_of(shape, dtype)
  if size != expected:
    raise _not_numbers(path, "It has {} bytes, where an array {} of {} has {}: "
                       "it was {}.".format(
                           size, tensors.format_shape(shape), dtype, expected,
                           "cut short" if size < expected else "added to"))
  return shape, is_by_column, dtype


def read_header(source):
  """Reads the beginning of a .npy file, up to its first number.

  Args:
    source: binary file.

  Returns:
    (tuple of int, the shape; bool, whether it is stored column by column;
    `np.dtype`).

  Raises:
    Exception: of any class, where it is damaged.
  """
  version = np.lib.format.read_magic(source)
  if version == (1, 0):
    header = np.lib.format.read_array_header_1_0(source)
  elif version in ((2, 0), (3, 0)):
    header = np.lib.format.read_array_header_2_0(source)
  else:
    raise ValueError("it is of version {}.{}".format(*version))
  if any(isinstance(dim, bool) or dim < 0 for dim in header[0]):
    raise ValueError("it has the shape {}".format(header[0]))
  return header


def bytes_of(shape, dtype):
  """How many bytes an array of a shape and a dtype has, as an int."""
  count = dtype.itemsize
  for dim in shape:
    count *= dim
  return count


def _not_numbers(path, why):
  """Makes the `ModelFileError` for a file that is not one of numbers."""
  return files.not_rows(path, "a NumPy file of numbers", why,
                        "Write it with numpy.save('points.npy', points).")


class ArrayReader:
  """Reads the rows of an array in memory, which are values of one input."""

  def __init__(self, array, leaf):
    self.inputs = [leaf]
    self.batch_forms = [row_layout.batch_form_of(array.shape, leaf)]
    self.count = len(array)
    self.source_files = None
    self._array = array
    self._mapping = _Mapping.of(array)

  def estimate_count(self):
    return self.count

  def read(self, start, end):
    rows = self._array[start:end]
    if self._mapping is not None:
      copy = self._mapping.read(rows, start)
      if copy is not None:
        return row_layout.Block([copy], {})
    if rows.dtype.kind not in "iufcb":
      return row_layout.Block([np.array(rows)], {})
    copy = empty_aligned(rows.shape, rows.dtype)
    copy[...] = rows
    return row_layout.Block([copy], {})

  def close(self):
    if self._mapping is not None:
      self._mapping.close()


class _Mapping:
  """The file of a mapped array.

  Where it is cut short, reading the array kills the process, so that rows are
  read from the file where that is the same.
  """

  def __init__(self, mapped):
    """Opens the file of a `np.memmap`, if that is what is mapped."""
    self._path = os.fspath(mapped.filename)
    begin = mapped.offset - mapped.offset % mmap.ALLOCATIONGRANULARITY
    # pylint: disable-next=protected-access
    address = np.frombuffer(mapped._mmap, np.uint8).ctypes.data
    self._address_of_file = address - begin
    self._size = begin + len(mapped._mmap)  # pylint: disable=protected-access
    self._file = _opened(self._path)
    self._is_of_file = mapped.mode in ("r", "r+") and (
        os.fstat(self._file.fileno()).st_ino == _inode_at(address))

  @classmethod
  def of(cls, array):
    """The `_Mapping` of an array, or None."""
    while array is not None and not isinstance(array, np.memmap):
      array = getattr(array, "base", None)
    if array is None or getattr(array, "filename", None) is None or (
        not os.path.exists(array.filename)):
      return None
    return cls(array)

  def read(self, rows, row):
    """Reads rows from the file; None where they have to be copied.

    Args:
      rows: array, a part of what is mapped.
      row: int, the number of the first of them.

    Raises:
      StreamError: the file is shorter than it was.
    """
    if not rows.size:
      return None
    if self._is_of_file and rows.flags.c_contiguous:
      copy = empty_aligned(rows.shape, rows.dtype)
      _fill(self._file, self._path, copy,
            rows.ctypes.data - self._address_of_file, row)
      return copy
    size = os.path.getsize(self._path) if os.path.exists(self._path) else None
    if size is not None and size < self._size:
      raise files.changed(
          self._path, row, "It has {} bytes, and {} are mapped.".format(
              size, self._size))
    return None

  def close(self):
    self._file.close()


def _inode_at(address):
  """The inode of the file that is mapped at an address; None if not known."""
  try:
    with open("/proc/self/maps") as maps:
      for line in maps:
        fields = line.split()
        begin, end = [int(text, 16) for text in fields[0].split("-")]
        if begin <= address < end:
          return int(fields[4])
  except (OSError, ValueError, IndexError):
    pass
  return None


class FileReader:
  """Reads the rows of a .npy file, which are values of one input."""

  def __init__(self, path, leaf):
    self.inputs = [leaf]
    self.source_files = [files.SourceFile(path)]
    self._path = path
    self._file = _opened(path)
    try:
      self._shape, self._is_by_column, self._dtype = _checked_header(
          path, self._file, self.source_files[0].size)
      self.batch_forms = [row_layout.batch_form_of(self._shape, leaf)]
    except Exception:
      self.close()
      raise
    self.count = self._shape[0]
    self._offset = self._file.tell()

  def estimate_count(self):
    return self.count

  def read(self, start, end):
    start, end = min(start, self.count), min(end, self.count)
    row = self._shape[1:]
    rows = empty_aligned((end - start,) + row, self._dtype)
    if not self._is_by_column or len(self._shape) < 2:
      _fill(self._file, self._path, rows,
            self._offset + start * bytes_of(row, self._dtype), start)
    else:  # A row has a number in each column.
      columns = empty_aligned((bytes_of(row, np.dtype("u1")), end - start),
                              self._dtype)
      for i, column in enumerate(columns):
        _fill(self._file, self._path, column, self._offset + (
            i * self.count + start) * self._dtype.itemsize, start)
      rows[...] = columns.T.reshape(rows.shape, order="F")
    self.source_files[0].check(start)
    return row_layout.Block([rows], {})

  def close(self):
    self._file.close()


def _fill(source, path, array, begin, row):
  """Reads the numbers of an array from a file.

  Args:
    source: the file, without a buffer.
    path: str, its path.
    array: contiguous array.
    begin: int, the place of the first number in the file.
    row: int, the number of the first row, for the error.

  Raises:
    StreamError: the file ends before them.
    ModelFileError: it cannot be read.
  """
  if not array.size:
    return
  content = memoryview(array.reshape(-1).view(np.uint8))
  try:
    source.seek(begin)
    while content:
      count = source.readinto(content)
      if not count:
        raise files.changed(path, row, "It ends early.")
      content = content[count:]
  except errors.GradfeedError:
    raise
  except OSError as error:
    raise files.damaged(path, "a whole .npy file", row, error) from None


def empty_aligned(shape, dtype):
  """An array without values, whose address is a multiple of `_ALIGNMENT`."""
  if dtype.hasobject:
    return np.empty(shape, dtype)
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
      if result.size:
        file.write(np.ascontiguousarray(result).reshape(-1).view(np.uint8))
    return {"rows": self._row_types,
            "sizes": [file.tell() for file in self._files]}

  def sync(self):
    for file in self._files:
      file.sync()

  def finish(self, count):
    for file, row_type in zip(self._files, self._row_types):
      file.overwrite(_header(count, *row_type))
    self.sync()
    self.close()
    return [[path + ".partial", path] for path in self._paths]

  def close(self):
    for file in self._files:
      file.close()

  def discard(self):
    for file in self._files:
      file.discard()


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
