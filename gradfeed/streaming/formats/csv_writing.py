"""Results as comma-separated values (.csv)."""

import csv
import io

import numpy as np

from gradfeed.streaming.formats import files
from gradfeed.streaming.formats import number_texts

#: The dtypes whose texts are made for many numbers at once.
_NUMBERS = [np.dtype(name) for name in (
    "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
    "uint32", "uint64", "bool")]


class ColumnWriter(files.RowWriter):
  """Writes a line for each row, below a line of names.

  A number that is read again from its text is the same to the bit.
  """

  def _header(self, results):
    return _csv([[
        name for output, result in zip(self._names, results)
        for name in _column_names(output, result.shape[1:])]])

  def _encoded(self, results):
    tables = [result.reshape(len(result), int(np.prod(result.shape[1:])))
              for result in results]
    filled = [table for table in tables if table.shape[1]]
    if filled and all(table.dtype in _NUMBERS for table in filled):
      texts = list(map(number_texts.rows_of_texts, filled))
      return b"".join(b",".join(row) + b"\n" for row in zip(*texts))
    return _csv(sum(row, []) for row in zip(*map(_texts, tables)))


def _column_names(output, shape):
  """A name for each column of an output, such as "y" or "y[0,1]"."""
  if not shape:
    return [output]
  return ["{}[{}]".format(output, ",".join(map(str, index)))
          for index in np.ndindex(*shape)]


def _texts(result):
  """Texts that are read as the same numbers, one number after the other.

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
