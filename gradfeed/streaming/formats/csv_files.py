"""Files of comma-separated values (.csv, .csv.gz)."""

import csv
import fnmatch
import gzip
import io
import re
import zlib

import numpy as np

from gradfeed import errors
from gradfeed.streaming.formats import files
from gradfeed.streaming.formats import row_layout

_TRUE, _FALSE = ["true", "1", "1.0"], ["false", "0", "0.0"]

#: The number of a column, or a slice of their numbers.
_SLICE = re.compile(r"^(-?\d*)(:)?(-?\d*)$")


class ColumnReader(row_layout.RowReader):
  """Reads rows of numbers, with or without a line of names above them.

  A key is the name of a column, or a pattern of names ("pixel*"), or the number
  of a column, or of several as in a slice of Python ("1:785").
  """

  def __init__(self, path, inputs, keys):
    super().__init__(path, inputs)
    self._keys = keys
    try:
      self._file = _open_text(path)
    except OSError as error:
      raise files.unopened(path, error) from None
    self._lines = csv.reader(self._counted_lines())
    try:
      self._read_header()
    except Exception:
      self.close()
      raise

  def _read_header(self):
    """Reads the first line, and finds the columns of each input.

    It is a line of names where no field of it is a number, or where not all are
    and keys are given.
    """
    keys = self._keys
    names, self._first = None, self._next_line()
    if self._first is None:
      raise files.not_rows(self._path, "a .csv file of points", "It is empty.",
                           "Write a line for each point.")
    if not all(map(_is_number, self._first)) and (
        not any(map(_is_number, self._first)) or keys != [None] * len(keys)):
      names, self._first = self._first, None
    self._width = len(names or self._first)
    self._columns = [
        _columns_of(self._path, names, self._width, leaf, key, len(keys))
        for leaf, key in zip(self.inputs, keys)]

  def _next_line(self):
    """The next line that is not blank, as a list of str; None at the end."""
    try:
      return next((line for line in self._lines if line), None)
    except (csv.Error, ValueError, EOFError, OSError, zlib.error) as error:
      raise files.not_rows(
          self._path, "a .csv file of points", "Line {} cannot be read: "
          "{}.".format(self._lines.line_num + 1, errors.first_line(error)),
          "Write it as UTF-8 text, with a line for each point.") from None

  def _counted_lines(self):
    """Yields the lines of the file, and adds their length to `_bytes`."""
    for line in self._file:
      is_first = not self._bytes
      self._bytes += len(line)
      yield line.lstrip("\ufeff") if is_first else line

  def _next_raw(self):
    line, self._first = self._first, None
    return self._next_line() if line is None else line

  def _block_of(self, lines):
    if lines and all(len(line) == self._width for line in lines):
      try:  # All at once is faster by far.
        arrays = [_parse([[line[i] for i in columns] for line in lines], leaf)
                  for columns, leaf in zip(self._columns, self.inputs)]
        self._check_sizes([array[0] for array in arrays])
        return self._as_block(list(zip(*arrays)), {})
      except (ValueError, OverflowError, row_layout.Unreadable):
        pass  # Some line is bad: find out which, line by line.
    return super()._block_of(lines)

  def _values_of(self, line):
    if len(line) != self._width:
      raise row_layout.Unreadable(
          "has {} column{} where the first line has {}".format(
              len(line), "" if len(line) == 1 else "s", self._width))
    values = []
    for columns, leaf in zip(self._columns, self.inputs):
      texts = [line[i] for i in columns]
      try:
        values.append(_parse(texts, leaf))
      except (ValueError, OverflowError):
        odd = next((text for text in texts if not _is_number(text)), texts[0])
        raise row_layout.Unreadable("has {!r} for '{}', which is {}".format(
            odd, leaf.name, leaf.dtype.name)) from None
    return values

  def close(self):
    self._file.close()


def _open_text(path):
  if path.endswith(".gz"):
    return gzip.open(path, "rt", encoding="utf-8", newline="")
  return open(path, encoding="utf-8", newline="")


def _is_number(text):
  try:
    complex(text.replace(" ", ""))
    return True
  except ValueError:
    return False


def _parse(texts, leaf):
  """Parses numbers, in the dtype of `leaf`.

  Args:
    texts: list of str, or list of such lists.
    leaf: the input.

  Returns:
    array of the shape of `texts`.

  Raises:
    ValueError, OverflowError: one of them is no number of this dtype.
  """
  dtype = row_layout.dtype_of(leaf)
  if dtype == object:
    return np.array(_encoded(texts), object)
  if dtype.kind == "b":
    texts = np.char.lower(np.char.strip(texts))
    is_true = np.isin(texts, _TRUE)
    if not (is_true | np.isin(texts, _FALSE)).all():
      raise ValueError
    return is_true
  if dtype.kind in "iu":
    try:
      return np.array(texts).astype(dtype)
    except (ValueError, OverflowError):
      values = np.array(texts).astype(np.float64)
      with np.errstate(all="ignore"):
        cast = values.astype(dtype)
      if (cast.astype(np.float64) != values).any():
        raise ValueError
      return cast
  if dtype.kind == "V":  # bfloat16
    return np.array(texts).astype(np.float32).astype(dtype)
  return np.array(texts).astype(dtype)


def _encoded(texts):
  """The bytes of each text of a list of them, or of lists of them."""
  return texts.encode() if isinstance(texts, str) else [
      _encoded(text) for text in texts]


def _columns_of(path, names, width, leaf, key, inputs):
  """The numbers of the columns that have the values of `leaf`.

  Args:
    path: str, for the error.
    names: list of the names of all columns; None where they have none.
    width: int, how many columns there are.
    leaf: the input.
    key: str, or None.
    inputs: int, how many inputs the file has values of.

  Returns:
    list of int, at least one.

  Raises:
    FeedError: there is no such column.
  """
  if key is None and inputs == 1:
    return list(range(width))
  keys = [key] if key is not None else row_layout.names_of(leaf)
  for candidate in keys:
    columns = _columns_by_name(names or (), candidate) or (
        _columns_by_number(width, candidate))
    if columns:
      return columns
  raise errors.FeedError(
      "There is no column '{}' in '{}'.".format(keys[0], path),
      "It has {}.".format(
          "{} columns without names".format(width) if names is None else
          ", ".join(map(repr, names[:6])) + (
              " and {} more".format(width - 6) if width > 6 else "")),
      "Say which are meant, as in keys=['{}'].".format(
          "0:{}".format(width) if names is None else names[0]))


def _columns_by_name(names, key):
  """The numbers of the columns "key", "key[0]", ..., or that match `key`."""
  return [i for i, name in enumerate(names)
          if name == key or re.match(re.escape(key) + r"\[", name)] or [
              i for i, name in enumerate(names)
              if fnmatch.fnmatchcase(name, key)]


def _columns_by_number(width, key):
  """The numbers of the columns that `key` counts; [] where it is no number."""
  match = _SLICE.match(key)
  if not match or key in ("", "-"):
    return []
  begin, colon, end = match.groups()
  begin = int(begin) if begin else None
  end = int(end) if end else None
  columns = list(range(width))
  return columns[begin:end] if colon else columns[begin:][:1]


class ColumnWriter(files.RowWriter):
  """Writes a line for each row, below a line of names.

  A number that is read again from its text is the same to the bit.
  """

  def _header(self, results):
    return _csv([[
        name for output, result in zip(self._names, results)
        for name in _column_names(output, result.shape[1:])]])

  def _encoded(self, results):
    texts = [
        _texts(result.reshape(len(result), int(np.prod(result.shape[1:]))))
        for result in results]
    return _csv(sum(row, []) for row in zip(*texts))


def _column_names(output, shape):
  """A name for each column of an output, such as "y" or "y[0,1]"."""
  if not shape:
    return [output]
  return ["{}[{}]".format(output, ",".join(map(str, index)))
          for index in np.ndindex(*shape)]


def _texts(result):
  """The shortest texts that are read as the same numbers.

  Args:
    result: array of shape [rows, columns].

  Returns:
    list with a list of str for each row.
  """
  if result.dtype.kind == "V":  # bfloat16
    result = result.astype(np.float32)
  if result.dtype.kind in "OS":
    return [[value.decode("utf-8", "backslashreplace")
             if isinstance(value, bytes) else str(value) for value in row]
            for row in result.tolist()]
  if result.dtype == np.float64 or result.dtype.kind in "iub":
    return [list(map(repr, row)) for row in result.tolist()]
  return [list(map(str, row)) for row in result]


def _csv(rows):
  """The bytes of a line for each of `rows`, which are lists of str."""
  text = io.StringIO(newline="")
  csv.writer(text, lineterminator="\n").writerows(rows)
  return text.getvalue().encode()
