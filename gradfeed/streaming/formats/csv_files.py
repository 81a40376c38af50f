"""Files of comma-separated values (.csv, .csv.gz)."""

import csv
import fnmatch
import gzip
import re

import numpy as np

from gradfeed import errors
from gradfeed.streaming.formats import files
from gradfeed.streaming.formats import row_layout

_TRUE, _FALSE = ["true", "1", "1.0"], ["false", "0", "0.0"]
_SLICE = re.compile(r"^(-?\d*)(:)?(-?\d*)$")


class ColumnReader(row_layout.RowReader):
  """Rows of numbers, with or without a line of names above them.

  A key is the name of a column, or a pattern of names ("pixel*"), or the place
  of a column, or of several as in a slice of Python ("1:785").
  """

  def __init__(self, path, inputs, keys):
    super().__init__(path, inputs)
    self._keys = keys
    self._file = _opened(path)
    self._lines = csv.reader(self._counted())
    try:
      self._begin()
    except Exception:
      self.close()
      raise

  def _begin(self):
    """Reads the first line, which may be one of names."""
    keys = self._keys
    names, self._first = None, self._line()
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

  def fingerprint(self):
    return files.fingerprint(self._path) + [
        repr(columns).encode() for columns in self._columns]

  def _line(self):
    """The next line that is not blank, as a list; None at the end."""
    try:
      return next((line for line in self._lines if line), None)
    except (csv.Error, UnicodeDecodeError, EOFError, OSError) as error:
      if isinstance(error, OSError) and error.errno:
        raise
      raise files.not_rows(
          self._path, "a .csv file of points", "Line {} cannot be read: "
          "{}.".format(self._lines.line_num + 1, str(error).rstrip(".")),
          "Write it as UTF-8 text, with a line for each point.") from None

  def _counted(self):
    """The lines of the file; counts their bytes."""
    for line in self._file:
      begins = not self._bytes
      self._bytes += len(line)
      yield line.lstrip("\ufeff") if begins else line

  def _taken(self):
    line, self._first = self._first, None
    return self._line() if line is None else line

  def _block(self, taken):
    if taken and all(len(line) == self._width for line in taken):
      try:  # All at once is faster by far.
        arrays = [_parsed([[line[i] for i in columns] for line in taken], leaf)
                  for columns, leaf in zip(self._columns, self.inputs)]
        self._checked([array[0] for array in arrays])
        return self._gathered(list(zip(*arrays)), {})
      except (ValueError, OverflowError, row_layout.Unreadable):
        pass  # One of them it is.
    return super()._block(taken)

  def _values(self, line):
    if len(line) != self._width:
      raise row_layout.Unreadable(
          "has {} column{} where the first line has {}".format(
              len(line), "" if len(line) == 1 else "s", self._width))
    values = []
    for columns, leaf in zip(self._columns, self.inputs):
      texts = [line[i] for i in columns]
      try:
        values.append(_parsed(texts, leaf))
      except (ValueError, OverflowError):
        odd = next((text for text in texts if not _is_number(text)), texts[0])
        raise row_layout.Unreadable("has {!r} for '{}', which is {}".format(
            odd, leaf.name, leaf.dtype.name)) from None
    return values

  def close(self):
    self._file.close()


def _opened(path):
  if path.endswith(".gz"):
    return gzip.open(path, "rt", encoding="utf-8", newline="")
  return open(path, encoding="utf-8", newline="")


def _is_number(text):
  try:
    complex(text.replace(" ", ""))
    return True
  except ValueError:
    return False


def _parsed(texts, leaf):
  """The array of the texts, in the dtype of `leaf`."""
  dtype = row_layout.dtype_of(leaf)
  if dtype == object:
    return np.array(np.char.encode(texts, "utf-8"), object)
  if dtype.kind == "b":
    texts = np.char.lower(np.char.strip(texts))
    true = np.isin(texts, _TRUE)
    if not (true | np.isin(texts, _FALSE)).all():
      raise ValueError
    return true
  if dtype.kind in "iu":
    try:
      return np.array(texts).astype(dtype)
    except (ValueError, OverflowError):
      values = np.array(texts).astype(np.float64)
      if (values != np.floor(values)).any():
        raise ValueError
      return values.astype(dtype)
  if dtype.kind == "V":  # bfloat16
    return np.array(texts).astype(np.float32).astype(dtype)
  return np.array(texts).astype(dtype)


def _columns_of(path, names, width, leaf, key, inputs):
  """The places of the columns of `leaf`."""
  if key is None and inputs == 1:
    return list(range(width))
  wanted = [key] if key is not None else row_layout.names_of(leaf)
  for one in wanted:
    found = [i for i, name in enumerate(names or ())
             if name == one or re.match(re.escape(one) + r"\[", name)] or [
                 i for i, name in enumerate(names or ())
                 if fnmatch.fnmatchcase(name, one)]
    place = _SLICE.match(one)
    if not found and place and one not in ("", "-"):
      begin, colon, end = place.groups()
      begin = int(begin) if begin else None
      end = int(end) if end else None
      found = list(range(width))[begin:end] if colon else (
          list(range(width))[begin:][:1])
    if found:
      return found
  raise errors.FeedError(
      "There is no column '{}' in '{}'.".format(wanted[0], path),
      "It has {}.".format(
          "{} columns without names".format(width) if names is None else
          ", ".join(map(repr, names[:6])) + (
              " and {} more".format(width - 6) if width > 6 else "")),
      "Say which are meant, as in keys=['{}'].".format(
          "0:{}".format(width) if names is None else names[0]))


class ColumnWriter:
  """A line for each row, below one of names; numbers as they are to the bit."""

  def __init__(self, path, names):
    self._path = path
    self._names = names
    self._file = files.Growing(path + ".partial")

  def begin(self, results):
    self._file.open()
    self._file.write(_text([[
        name for output, result in zip(self._names, results)
        for name in _named(output, result.shape[1:])]]))

  def resume(self, state):
    self._file.open(state["size"])

  def write(self, results):
    texts = [_texts(result.reshape(len(result), -1)) for result in results]
    self._file.write(_text(sum(parts, []) for parts in zip(*texts)))
    return {"size": self._file.tell()}

  def finish(self, unused_count):
    self.close()
    return [[self._file.path, self._path]]

  def close(self):
    self._file.close()


def _named(output, shape):
  """A name for each column of an output."""
  if not shape:
    return [output]
  return ["{}[{}]".format(output, ",".join(map(str, index)))
          for index in np.ndindex(*shape)]


def _texts(result):
  """Lists of the shortest texts that are read as the same numbers."""
  if result.dtype.kind == "V":  # bfloat16
    result = result.astype(np.float32)
  if result.dtype.kind in "OS":
    return [[one.decode("utf-8", "backslashreplace")
             if isinstance(one, bytes) else str(one) for one in row]
            for row in result.tolist()]
  if result.dtype == np.float64 or result.dtype.kind in "iub":
    return [list(map(repr, row)) for row in result.tolist()]
  return [list(map(str, row)) for row in result]


def _text(rows):
  lines = _Joined()
  csv.writer(lines, lineterminator="\n").writerows(rows)
  return "".join(lines.parts).encode()


class _Joined:
  """A file of text as `csv.writer` needs one."""

  def __init__(self):
    self.parts = []
    self.write = self.parts.append
