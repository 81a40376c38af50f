"""How a row of a file becomes a value of an input."""

import collections
import os

import numpy as np

from gradfeed import _tf
from gradfeed import errors
from gradfeed.graph import tensors

#: Rows that were read: an array for each input; and a dict from the place of
#: each row that is none (its values are zeros) to what is wrong with it.
Block = collections.namedtuple("Block", ["arrays", "bad"])


class Unreadable(Exception):
  """A row that is no point; `str` of it is the reason, half a sentence."""


def batch_form_of(shape, leaf):
  """How a row of points becomes a value of an input.

  Args:
    shape: tuple, of all the points.
    leaf: the input, with a name, dtype and shape.

  Returns:
    "bare" where a row is a value; "many" where it is a row of a batch of any
    size; "one" where it is the only row of a batch.

  Raises:
    FeedError: it is neither.
  """
  row = tuple(shape[1:])
  if shape:
    if leaf.shape.is_compatible_with(row):
      return "bare"
    if leaf.shape.ndims and leaf.shape.is_compatible_with((1,) + row):
      return "one" if leaf.shape.as_list()[0] == 1 else "many"
  allowed = ["[N] + {}".format(tensors.format_shape(leaf.shape))]
  if leaf.shape.ndims and leaf.shape[:1].is_compatible_with([1]):
    allowed.append("[N] + {}".format(tensors.format_shape(leaf.shape[1:])))
  raise errors.FeedError(
      "The points have the shape {}, of which no row is a value of {}.".format(
          tensors.format_shape(shape), tensors.describe(leaf)),
      "Each row is one value, with or without the axis of the batch.",
      "Pass points of shape {}.".format(" or ".join(allowed)))


def batch_form_of_numbers(count, leaf):
  """(way, shape of a row), where a row is `count` numbers in one line.

  Raises:
    Unreadable: so many are no value of `leaf`.
  """
  if leaf.shape.ndims is None:
    return "bare", (count,)
  dims = leaf.shape.as_list()
  candidates = [("bare", dims)]
  if dims and dims[0] in (None, 1):
    candidates.insert(0, ("many" if dims[0] is None else "one", dims[1:]))
  for way, row in candidates:
    unknown = row.count(None)
    known = int(np.prod([dim for dim in row if dim is not None]))
    if unknown < 2 and known and (
        count == known if not unknown else count % known == 0):
      return way, tuple(count // known if dim is None else dim for dim in row)
  raise Unreadable("has {} value{}, which is no row for {}".format(
      count, "" if count == 1 else "s", tensors.describe(leaf)))


def dtype_of(leaf):
  """The `np.dtype` that values of `leaf` are read in."""
  dtype = _tf.numpy_dtype(leaf.dtype)
  return np.dtype(object) if dtype is None or dtype.kind in "OSU" else dtype


def names_of(leaf):
  """What `leaf` may be called in a file, the full name first."""
  name = leaf.name
  op = name.split(":")[0]
  return list(dict.fromkeys([name, op, op.split("/")[-1]]))


class RowReader:
  """Rows of flat values that are read one after the other.

  A format says how to take the next row as it stands in the file (`_taken`,
  which counts `_bytes`), and what its values are (`_values`).

  Attributes:
    inputs: list of what the rows have values of.
    count: None; how many rows there are is not known before the end.
    ways: how rows become values, as the first rows tell; None before.
    position: int, the number of rows that were passed.
  """

  def __init__(self, path, inputs):
    self.inputs = inputs
    self.count = None
    self.batch_forms = None
    self.position = 0
    self._path = path
    self._bytes = 0
    self._shapes = None

  def about(self):
    """An estimate of the number of rows, or None."""
    if not self.position or self._path.endswith(".gz"):
      return None
    return int(round(
        os.path.getsize(self._path) * self.position / self._bytes))

  def read(self, start, end):
    """A `Block` of these rows, or of fewer at the end."""
    while self.position < start and self._next() is not None:
      pass
    taken = []
    while self.position < end:
      row = self._next()
      if row is None:
        break
      taken.append(row)
    return self._block(taken)

  def _next(self):
    row = self._taken()
    if row is not None:
      self.position += 1
    return row

  def _block(self, taken):
    rows, bad = [], {}
    for row in taken:
      try:
        rows.append(self._checked(self._values(row)))
      except Unreadable as error:
        bad[len(rows)] = str(error)
        rows.append(None)
    return self._gathered(rows, bad)

  def _taken(self):
    """The next row as it stands in the file; None at the end."""
    raise NotImplementedError

  def _values(self, row):
    """A flat array for each input.

    Raises:
      Unreadable: with the reason.
    """
    raise NotImplementedError

  def _checked(self, values):
    """`values`, if they have the shape of those of the first row.

    Raises:
      Unreadable: with the reason.
    """
    if self.batch_forms is None:
      found = [batch_form_of_numbers(len(value), leaf)
               for value, leaf in zip(values, self.inputs)]
      self.batch_forms, self._shapes = map(list, zip(*found))
    for value, shape, leaf in zip(values, self._shapes, self.inputs):
      size = int(np.prod(shape, dtype=np.int64))
      if len(value) != size:
        raise Unreadable("has {} value{} for '{}' where others have {}".format(
            len(value), "" if len(value) == 1 else "s", leaf.name, size))
    return values

  def _gathered(self, rows, bad):
    """A `Block` of `rows`: a list of flat arrays for each, None for bad ones.
    """
    arrays = []
    for place, leaf in enumerate(self.inputs):
      shape = self._shapes[place] if self._shapes else ()
      dtype = dtype_of(leaf)
      array = np.zeros((len(rows),) + shape, dtype)
      if dtype == object:
        array[...] = b""
      for i, row in enumerate(rows):
        if row is not None:
          array[i, ...] = np.reshape(row[place], shape)
      arrays.append(array)
    return Block(arrays, bad)
