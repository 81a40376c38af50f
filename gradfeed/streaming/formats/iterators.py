"""Iterators over points, in Python."""

from collections import abc
import itertools

import numpy as np

from gradfeed import errors
from gradfeed.graph import tensors
from gradfeed.streaming.formats import row_layout


class IteratorReader:
  """Reads rows from an iterator.

  It yields for each row the value of the only input, or a list, tuple or dict
  with the value of each input.
  """

  def __init__(self, iterator, inputs):
    self.inputs = inputs
    self.count = None
    self._iterator = iterator
    self._next = 0
    self.source_files = None
    self._are_texts = are_texts(inputs)
    self.is_stopped = False
    self.batch_forms, self._shapes = None, None

  def estimate_count(self):
    return None

  def read(self, start, end):
    for _ in itertools.islice(self._iterator, max(start - self._next, 0)):
      pass
    self._next = max(self._next, start)
    rows, bad = [], {}
    if self.is_stopped:
      end = self._next
    for row in itertools.islice(self._iterator, end - self._next):
      try:
        arrays = arrays_of(row, self.inputs, self._are_texts)
        self._check_shapes(arrays)
        rows.append(arrays)
      except row_layout.Unreadable as error:
        bad[len(rows)] = str(error)
        rows.append(None)
      if self.is_stopped:
        break
    self._next += len(rows)
    return row_layout.Block([
        _stacked([row and row[i] for row in rows], shape)
        for i, shape in enumerate(self._shapes or [()] * len(self.inputs))],
                      bad)

  def _check_shapes(self, arrays):
    """Refuses values that do not have the shapes of those of the first row.

    Raises:
      Unreadable: with the reason.
    """
    shapes = [array.shape for array in arrays]
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
              ", ".join(map(tensors.format_shape, shapes_of_row))
              for shapes_of_row in (shapes, self._shapes)
          ]))

  def close(self):
    pass


def are_texts(inputs):
  """Whether the values of each input are strings, as a list of bool."""
  return [row_layout.dtype_of(leaf) == object for leaf in inputs]


def arrays_of(row, inputs, texts):
  """The values of a row, a list with an array for each input.

  Args:
    row: the value of the only input; or a list, tuple or dict with the value of
      each input.
    inputs: list of the inputs.
    texts: as `are_texts` returns it.

  Raises:
    Unreadable: with the reason.
    FeedError: a dict names what is no input, or has no value for one.
  """
  if isinstance(row, abc.Mapping):
    row = row_layout.values_per_input(row, inputs, "points")
  elif len(inputs) == 1 and not (isinstance(row, tuple) and len(row) == 1):
    row = [row]
  if not isinstance(row, (list, tuple)) or len(row) != len(inputs):
    raise row_layout.Unreadable(
        "is not a tuple of {} values".format(len(inputs)))
  try:
    # Copies: an iterator may write the next row into the same array.
    arrays = [
        np.array(value, object if is_text and not isinstance(
            value, np.ndarray) else None) for value, is_text in zip(row, texts)]
  except ValueError as error:
    raise row_layout.Unreadable("is no array: {}".format(error)) from None
  for array, is_text in zip(arrays, texts):
    if is_text:
      if not all(isinstance(text, (bytes, str)) for text in array.flat):
        raise row_layout.Unreadable("is not an array of strings")
    elif array.dtype.kind == "O":
      raise row_layout.Unreadable("is not an array of numbers")
  return arrays


def _stacked(values, shape):
  """One array of values of `shape`, with zeros in the place of None."""
  arrays = [value for value in values if value is not None]
  zeros = np.zeros(shape, arrays[0].dtype if arrays else np.float32)
  if zeros.dtype.kind == "O":
    zeros[...] = b""
  return np.stack([zeros if value is None else value for value in values]) if (
      values) else np.zeros((0,) + tuple(shape), np.float32)
