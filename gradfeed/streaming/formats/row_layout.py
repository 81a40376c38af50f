"""How a row of a file becomes a value of an input."""

import collections
import hashlib

import numpy as np

from gradfeed import _tf
from gradfeed import errors
from gradfeed.graph import tensors
from gradfeed.streaming.formats import files

#: Rows that were read. `arrays` is a list with an array for each input; `bad`
#: is a dict from the index of each bad row in them, whose values are zeros, to
#: what is wrong with it; `digest` is that of `digest_of`, or None.
Block = collections.namedtuple("Block", ["arrays", "bad", "digest"])
Block.__new__.__defaults__ = (None,)


class Unreadable(Exception):
  """A row cannot be read as a point.

  `str` of it is the reason, a sentence without its subject: "is not finite".
  """


#: Hexadecimal digits of a digest, and of those of earlier journals.
DIGITS, EARLIER_DIGITS = 40, 32


def digest_of(arrays, bad, digits=DIGITS):
  """A digest of rows: other rows have another.

  It is to find changes, not forgeries: SHA-1 is twice as fast as BLAKE2, and
  for a small network the digest takes longer than TensorFlow.

  Args:
    arrays, bad: as in `Block`.
    digits: int, `DIGITS`; or `EARLIER_DIGITS` to compare with an earlier one.

  Returns:
    str of so many hexadecimal digits.
  """
  digest = hashlib.blake2b(
      digest_size=16) if digits == EARLIER_DIGITS else hashlib.sha1()
  for array in arrays:
    digest.update("{} {};".format(array.dtype.str, array.shape).encode())
    if array.dtype.kind == "O":
      for text in array.ravel().tolist():
        text = text if isinstance(text, bytes) else str(text).encode()
        digest.update(b"%d:" % len(text))
        digest.update(text)
    elif array.size:
      digest.update(
          np.ascontiguousarray(array).reshape(-1).view(np.uint8))
  for i in sorted(bad):
    digest.update("{} {};".format(i, bad[i]).encode("utf-8", "replace"))
  return digest.hexdigest()


def batch_form_of(shape, leaf):
  """Finds out how a row of points becomes a value of an input.

  Args:
    shape: tuple, the shape of all the points.
    leaf: the input, with a name, dtype and shape.

  Returns:
    "bare" where a row is a value; "many" where it is a row of a batch of any
    size; "one" where it is the only row of a batch.

  Raises:
    FeedError: a row of this shape is none of these.
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
  """Finds the shape of a row that is stored as flat numbers.

  Args:
    count: int, how many numbers a row has.
    leaf: the input, with a name, dtype and shape.

  Returns:
    (how a row becomes a value, as in `batch_form_of`; tuple, the shape of a
    row).

  Raises:
    Unreadable: so many numbers are no value of `leaf`.
  """
  if leaf.shape.ndims is None:
    return "bare", (count,)
  dims = leaf.shape.as_list()
  candidates = [("bare", dims)]
  if dims and dims[0] in (None, 1):
    candidates.insert(0, ("many" if dims[0] is None else "one", dims[1:]))
  for form, row in candidates:
    unknown = row.count(None)
    size = int(np.prod([dim for dim in row if dim is not None]))
    if unknown < 2 and size and (
        count == size if not unknown else count % size == 0):
      return form, tuple(count // size if dim is None else dim for dim in row)
  raise Unreadable("has {} value{}, which is no row for {}".format(
      count, "" if count == 1 else "s", tensors.describe(leaf)))


def dtype_of(leaf):
  """The `np.dtype` that values of `leaf` are read in; object for strings."""
  dtype = _tf.numpy_dtype(leaf.dtype)
  return np.dtype(object) if dtype is None or dtype.kind in "OSU" else dtype


def as_array(value):
  """`np.asarray(value)`, but bytes and str keep the zeros at their end."""
  return np.array(value, object) if isinstance(value, (bytes, str)) else (
      np.asarray(value))


def names_of(leaf):
  """What `leaf` may be called in a file, as a list of str.

  It is the full name "scope/x:0", the name of the op "scope/x", and "x".
  """
  name = leaf.name
  op = name.split(":")[0]
  return list(dict.fromkeys([name, op, op.split("/")[-1]]))


def candidate_names(leaf, key, names, inputs):
  """The names under which the values of an input may stand in a file.

  Args:
    leaf: the input.
    key: str, what the caller says it is called; or None.
    names: the names that there are in the file.
    inputs: int, how many inputs the file has values of.

  Returns:
    list of str, at least one, the likeliest first: the key alone; or else,
    where the file has one name and is read for one input, that name; or else
    those of `names_of`.
  """
  if key is not None:
    return [key]
  return list(names) if inputs == len(names) == 1 else names_of(leaf)


def values_per_input(mapping, inputs, what):
  """The values of a dict in the order of the inputs.

  Args:
    mapping: dict from an input, or a name of it, to a value.
    inputs: list of the inputs.
    what: "points", of which there have to be some for each input; or "keys".

  Returns:
    list with a value, or None, for each input.

  Raises:
    FeedError: it names what is no input; or there are no points for one.
  """
  unused = {getattr(key, "name", key): value for key, value in mapping.items()}
  values = []
  for leaf in inputs:
    names = [name for name in names_of(leaf) if name in unused]
    values.append(unused.pop(names[0]) if names else None)
    if not names and what == "points":
      raise errors.FeedError(
          "There are no points for {}.".format(tensors.describe(leaf)),
          "It is an input.", "Add points={{'{}': ...}}.".format(leaf.name))
  if unused:
    raise errors.FeedError(
        "There is no input '{}'.".format(sorted(map(str, unused))[0]),
        "The inputs are {}.".format(tensors.describe_all(inputs)),
        "Name one of them in {}.".format(what))
  return values


class RowReader:
  """Reads rows of flat values, one after the other.

  A format says how to read the next row as it stands in the file (`_next_raw`,
  which adds its length to `_bytes`), what the values of many rows are
  (`_values_at_once`), and what those of one row are (`_values_of`), which is
  asked where one of many is bad.

  Attributes:
    inputs: list of the inputs that the rows have values of.
    count: None; how many rows there are is not known before the end.
    batch_forms: list of str, how a row of each input becomes a value
      (`batch_form_of_numbers`); None as long as no good row was read.
    position: int, the number of rows that were read or skipped so far.
    source_files: list of the `files.SourceFile`.
  """

  def __init__(self, path, inputs):
    self.inputs = inputs
    self.count = None
    self.batch_forms = None
    self.position = 0
    self.is_stopped = False
    self.source_files = [files.SourceFile(path)]
    self._path = path
    self._bytes = 0
    self._shapes = None
    self._few = 0  # Rows for which it does not pay to build a graph.

  def estimate_count(self):
    """The number of rows, estimated from the size of those before; or None."""
    if not self.position or self._path.endswith(".gz"):
      return None
    return int(round(self.source_files[0].size * self.position / self._bytes))

  def read(self, start, end):
    """A `Block` of these rows, or of fewer at the end."""
    while self.position < start and self._next() is not None:
      pass
    rows = self._next_rows(end - self.position)
    self.source_files[0].check(self.position - len(rows))
    return self._block_of(rows)

  def _next_rows(self, count):
    """A list of so many rows as `_next` gives them, or of fewer at the end."""
    rows = []
    while len(rows) < count and not self.is_stopped:
      row = self._next()
      if row is None:
        break
      rows.append(row)
    return rows

  def _next(self):
    """The next row as it stands in the file, which is counted; or None."""
    row = self._next_raw()
    if row is not None:
      self.position += 1
    return row

  def _block_of(self, raw_rows):
    """A `Block` of rows as they stand in the file."""
    if raw_rows:
      try:
        arrays = self._values_at_once(raw_rows, self.position > self._few)
        self._check_sizes([array[0] for array in arrays])
        return Block([
            array.reshape((len(raw_rows),) + tuple(shape))
            for array, shape in zip(arrays, self._shapes)], {})
      except Unreadable:
        pass  # Some row is bad: find out which, row by row.
    rows, bad = [], {}
    for raw_row in raw_rows:
      try:
        values = self._values_of(raw_row)
        self._check_sizes(values)
        rows.append(values)
      except Unreadable as error:
        bad[len(rows)] = str(error)
        rows.append(None)
    return self._as_block(rows, bad)

  def _next_raw(self):
    """The next row as it stands in the file; None at the end."""
    raise NotImplementedError

  def _values_at_once(self, rows, are_many):
    """The values of many rows.

    Args:
      rows: list of rows as they stand in the file, one at least.
      are_many: bool, whether it pays to build a graph.

    Returns:
      list with an array of shape [rows, values] for each input.

    Raises:
      Unreadable: they are not what `_values_of` gives for each of them.
    """
    raise NotImplementedError

  def _values_of(self, row):
    """The values of a row, a list with a flat array for each input.

    Raises:
      Unreadable: with the reason.
    """
    raise NotImplementedError

  def _check_sizes(self, values):
    """Refuses values that are not as many as those of the first row.

    Raises:
      Unreadable: with the reason.
    """
    if self.batch_forms is None:
      forms_and_shapes = [batch_form_of_numbers(len(value), leaf)
                          for value, leaf in zip(values, self.inputs)]
      self.batch_forms, self._shapes = map(list, zip(*forms_and_shapes))
    for value, shape, leaf in zip(values, self._shapes, self.inputs):
      size = int(np.prod(shape, dtype=np.int64))
      if len(value) != size:
        raise Unreadable("has {} value{} for '{}' where others have {}".format(
            len(value), "" if len(value) == 1 else "s", leaf.name, size))

  def _as_block(self, rows, bad):
    """Makes a `Block` of rows.

    Args:
      rows: list with the flat arrays of each row, None for a bad one.
      bad: dict from the index of each bad row to what is wrong with it.
    """
    arrays = []
    for input_index, leaf in enumerate(self.inputs):
      shape = self._shapes[input_index] if self._shapes else ()
      dtype = dtype_of(leaf)
      array = np.zeros((len(rows),) + shape, dtype)
      if dtype == object:
        array[...] = b""
      for i, row in enumerate(rows):
        if row is not None:
          array[i, ...] = np.reshape(row[input_index], shape)
      arrays.append(array)
    return Block(arrays, bad)
