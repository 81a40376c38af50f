"""Files of comma-separated values (.csv, .csv.gz)."""

import codecs
import csv
import fnmatch
import gzip
import re
import zlib

import numpy as np

from gradfeed import errors
from gradfeed.streaming.formats import batch_parsing
from gradfeed.streaming.formats import files
from gradfeed.streaming.formats import row_layout

_TRUE, _FALSE = ["true", "1", "1.0"], ["false", "0", "0.0"]

#: The number of a column, or a slice of their numbers.
_SLICE = re.compile(r"^(-?\d*)(:)?(-?\d*)$")

#: What TensorFlow may take for a number, and Python does not: a hexadecimal
#: one, and a blank for 0.
_HEXADECIMAL = re.compile(b"0[xX]")
_BLANK = re.compile(rb"(?:^|,)[ \t\v\f]+(?:,|$)", re.MULTILINE)

_BLOCK = 2 ** 16

#: Numbers for which it does not pay to build a graph.
_FEW_NUMBERS = 2 ** 14


class ColumnReader(row_layout.RowReader):
  """Reads rows of numbers, with or without a line of names above them.

  A key is the name of a column, or a pattern of names ("pixel*"), or the number
  of a column, or of several as in a slice of Python ("1:785").
  """

  def __init__(self, path, inputs, keys):
    super().__init__(path, inputs)
    self._keys = keys
    try:
      self._file = (gzip.open if path.endswith(".gz") else open)(path, "rb")
    except OSError as error:
      raise files.unopened(path, error) from None
    self._pushed_back, self._line_number = None, 0
    self._lines = self._counted_lines()
    self._rows = csv.reader(line.decode() for line in self._lines)
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
    names, self._first = None, self._next_row()
    if self._first is None:
      raise files.not_rows(self._path, "a .csv file of points", "It is empty.",
                           "Write a line for each point.")
    fields = _fields(self._first)
    if not all(map(_is_number, fields)) and (
        not any(map(_is_number, fields)) or keys != [None] * len(keys)):
      names, self._first = fields, None
    self._width = len(fields)
    self._few = _FEW_NUMBERS // self._width
    self._columns = [
        _columns_of(self._path, names, self._width, leaf, key, len(keys))
        for leaf, key in zip(self.inputs, keys)]
    self._parse = None

  def _next_row(self):
    """The next line that is not blank; None at the end.

    It is bytes without its end; or a list of its fields, each a str, where
    there is more to them than the commas between.
    """
    try:
      for line in self._lines:
        text = line.rstrip(b"\r\n")
        if text and _is_plain(text):
          return text
        if text:
          self._pushed_back = line
          return next(self._rows)
      return None
    except (csv.Error, ValueError, EOFError, OSError, zlib.error) as error:
      raise files.not_rows(
          self._path, "a .csv file of points", "Line {} cannot be read: "
          "{}.".format(self._line_number + 1, errors.first_line(error)),
          "Write it as UTF-8 text, with a line for each point.") from None

  def _counted_lines(self):
    """Yields the lines of the file, and counts them and their length."""
    for line in _lines_of(self._file):
      is_first = not self._bytes
      self._bytes += len(line)
      while is_first and line.startswith(codecs.BOM_UTF8):
        line = line[len(codecs.BOM_UTF8):]
      if not line.isascii():
        line.decode()  # Raises where it is not UTF-8.
      self._line_number += 1
      yield line
      while self._pushed_back is not None:
        line, self._pushed_back = self._pushed_back, None
        yield line

  def _next_raw(self):
    row, self._first = self._first, None
    return self._next_row() if row is None else row

  def _values_at_once(self, rows, are_many):
    dtypes = [row_layout.dtype_of(leaf) for leaf in self.inputs]
    if are_many and all(isinstance(row, bytes) for row in rows) and all(
        dtype.kind in "fViuO" for dtype in dtypes):
      return self._values_by_kernels(rows, dtypes)
    lines = list(map(_fields, rows))
    if any(len(line) != self._width for line in lines):
      raise row_layout.Unreadable("has another width")
    try:
      return [_parse([[line[i] for i in columns] for line in lines], leaf)
              for columns, leaf in zip(self._columns, self.inputs)]
    except (ValueError, OverflowError):
      raise row_layout.Unreadable("has what is no number") from None

  def _values_by_kernels(self, rows, dtypes):
    """As `_values_at_once`, for lines without quotes and these dtypes."""
    text = b"\n".join(rows)
    if any(each in text for each in (b"x", b"X")) and (
        _HEXADECIMAL.search(text)) or (
            any(each in text for each in (b" ", b"\t", b"\v", b"\f")) and (
                _BLANK.search(text))):
      raise row_layout.Unreadable("has what may be no number")
    if self._parse is None:
      self._parse = batch_parsing.columns_program(self._width, tuple(
          (tuple(columns), dtype == object)
          for columns, dtype in zip(self._columns, dtypes)))
    return [_as_dtype(values, dtype) for values, dtype in zip(
        self._parse(rows), dtypes)]

  def _values_of(self, row):
    line = _fields(row)
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
    self._parse = None


def _lines_of(source):
  """Yields the lines of a binary file with their ends: LF, CR, or both."""
  rest = b""
  for block in iter(lambda: source.read1(_BLOCK), b""):
    block = rest + block
    if b"\r" in block:
      lines = block.splitlines(True)
      rest = lines.pop()  # Its end may be in the next block.
      yield from lines
    else:  # Twice as fast.
      *lines, rest = block.split(b"\n")
      for line in lines:
        yield line + b"\n"
  if rest:
    yield rest


def _is_plain(text):
  """Whether the fields of a line are what stands between its commas."""
  if b'"' in text or b"\0" in text:
    return False
  limit = csv.field_size_limit()
  return len(text) <= limit or max(map(len, text.split(b","))) <= limit


def _fields(row):
  """The fields of a row as `ColumnReader` has read it, a list of str."""
  return row.decode().split(",") if isinstance(row, bytes) else row


def _as_dtype(values, dtype):
  """Casts what was parsed at once, as `_parse` would have parsed it.

  Args:
    values: array of float64, or of bytes.
    dtype: `np.dtype`, not bool and not complex.

  Raises:
    Unreadable: Python may read one of the texts in another way.
  """
  if dtype == object:
    return values
  if not np.isfinite(values).all():  # "nan(1)" is none for Python.
    raise row_layout.Unreadable("is not finite")
  if dtype.kind in "iu":
    with np.errstate(all="ignore"):
      cast = values.astype(dtype)
    if (cast != values).any() or (abs(values) >= 2.0 ** 53).any():
      raise row_layout.Unreadable("has no whole number")
    return cast
  with np.errstate(all="ignore"):
    return values.astype(np.float32).astype(dtype) if dtype.kind == "V" else (
        values.astype(dtype))


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
