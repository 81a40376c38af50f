"""Which elements of a Jacobian may differ from zero, and groups of its columns.

Two columns that have no row in common can be computed by one product: in each
row of the product stands the element of one of them. Columns are put into
groups ("colours") in which no two have a row in common, as in Curtis, Powell
and Reid, "On the estimation of sparse Jacobian matrices", 1974.
"""

import hashlib

import numpy as np

from gradfeed._tf import tf
from gradfeed.analysis import element_dependence
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import tensors

#: What may be passed.
_FORMS = (
    "Pass an array of shape [elements of y, elements of x] that is zero where "
    "the Jacobian is, a matrix of scipy.sparse, or a tuple of two arrays of "
    "ints: rows and columns; or 'auto', to have it found from the ops.")

#: Has the pattern found from the ops between x and y.
AUTO = "auto"


class Pattern:
  """The places of a matrix that may differ from zero.

  Attributes:
    rows: int64 array, the row of each place; row by row, each place once.
    columns: int64 array, the column of each place.
    shape: (number of rows, number of columns), or None if not known.
    key: str that names the content.
  """

  def __init__(self, rows, columns, shape=None):
    """Sorts the places.

    Args:
      rows: array of ints, not negative, in any order.
      columns: array of ints of the same length.
      shape: as in the class.
    """
    places = np.stack([np.asarray(rows, np.int64),
                       np.asarray(columns, np.int64)], -1).reshape(-1, 2)
    order = np.lexsort((places[:, 1], places[:, 0]))
    places = places[order]
    is_new = np.ones(len(places), bool)
    is_new[1:] = np.any(places[1:] != places[:-1], axis=1)
    self.rows, self.columns = np.ascontiguousarray(places[is_new].T)
    self.shape = shape
    self.key = hashlib.sha256(
        self.rows.tobytes() + self.columns.tobytes()).hexdigest()

  def with_transpose(self):
    """The pattern of a symmetric matrix that has these places."""
    return Pattern(np.concatenate([self.rows, self.columns]),
                   np.concatenate([self.columns, self.rows]), self.shape)


def colours(rows, columns):
  """Puts columns into groups, one after the other into the first that is free.

  Args:
    rows: int array, the row of each place that may differ from zero.
    columns: int array, the column of each place.

  Returns:
    int32 array with the group of each column up to the last that has a place;
    -1 for a column without one.
  """
  order = np.argsort(columns, kind="stable")
  own, starts = np.unique(columns[order], return_index=True)
  groups = np.full(own[-1] + 1 if len(own) else 0, -1, np.int32)
  taken = {}  # The groups that have a place in a row, as the bits of an int.
  for column, in_rows in zip(own.tolist(),
                             np.split(rows[order], starts[1:])):
    in_rows = in_rows.tolist()
    bits = 0
    for row in in_rows:
      bits |= taken.get(row, 0)
    free = ~bits & (bits + 1)  # The lowest bit that is not set.
    for row in in_rows:
      taken[row] = taken.get(row, 0) | free
    groups[column] = free.bit_length() - 1
  return groups


def found(pullback):
  """The pattern that the ops between x and y prove.

  Args:
    pullback: `pullbacks.Pullback` of one y by one x, dense and real.

  Returns:
    `Pattern`; or, where the ops prove none, the `tf.Operation` for which it is
    not known.
  """
  y, x = pullback.ys[0], pullback.xs[0]
  sizes = y.shape.num_elements(), x.shape.num_elements()

  def find():
    try:
      return Pattern(*pullback.places(), shape=sizes)
    except element_dependence.Unfollowed as error:
      if None in sizes or not y.shape.ndims or not x.shape.ndims or (
          y.shape[:1].as_list() != x.shape[:1].as_list()) or (
              pullback.coupling(x)[0] != "independent"):
        return error.op.name
    return _of_blocks(y.shape.as_list()[0], *sizes)

  result = cache.cached(pullback.graph, ("found places", pullback.key), find)
  return (pullback.graph.get_operation_by_name(result)
          if isinstance(result, str) else result)


def _of_blocks(count, rows, columns):
  """The `Pattern` of so many blocks along the diagonal, none for count 0."""
  height, width = rows // max(count, 1), columns // max(count, 1)
  row, column = np.indices([height * count, width])
  return Pattern(row.ravel(), (column + row // max(height, 1) * width).ravel(),
                 (rows, columns))


def stated(sparsity, y, x):
  """The `Pattern` that a caller stated.

  Args:
    sparsity: as in `jacobian`, no str.
    y: `tensors.Dense`.
    x: `tensors.Dense`.

  Raises:
    ArgumentError: it is no pattern, or not one of y by x.
  """
  sizes = y.shape.num_elements(), x.shape.num_elements()
  if isinstance(sparsity, tuple):
    pattern = Pattern(*_index_arrays(sparsity))
  else:
    pattern = _of_matrix(sparsity, y, x)
  _check_fits(pattern, sizes, y, x)
  if None not in sizes:
    pattern.shape = sizes  # That of the same places in any form.
  return pattern


def _index_arrays(pair):
  """The arrays of a tuple (rows, columns), checked."""
  if len(pair) != 2:
    raise _unfit("sparsity is a tuple of {}.".format(len(pair)))
  if any(isinstance(part, tf.Tensor) for part in pair):
    raise _unfit("sparsity is a tuple of tensors.")
  arrays = [np.asarray(part) for part in pair]
  arrays = [part.astype(np.int64) if not part.size else part
            for part in arrays]
  for array in arrays:
    if array.dtype.kind not in "iu" or array.ndim != 1:
      raise _unfit("sparsity is a tuple that has an array ({}, {}).".format(
          array.dtype.name, tensors.format_shape(array.shape)))
    if array.size and array.min() < 0:
      raise _unfit("sparsity has the index {}.".format(array.min()))
  if arrays[0].shape != arrays[1].shape:
    raise _unfit("sparsity has {} rows and {} columns.".format(
        *map(len, arrays)))
  return arrays


def _of_matrix(matrix, y, x):
  """The `Pattern` of an array or of a matrix of scipy.sparse."""
  if hasattr(matrix, "tocoo"):  # A zero that is stored is a place too.
    matrix = matrix.tocoo()
    return Pattern(matrix.row, matrix.col, tuple(matrix.shape))
  if isinstance(matrix, tf.Tensor):
    raise _unfit("sparsity is {}.".format(tensors.describe(matrix)))
  try:
    array = np.asarray(matrix)
  except Exception:  # pylint: disable=broad-except
    raise _unfit("sparsity is a {} that is no array.".format(
        type(matrix).__name__)) from None
  if array.dtype.kind not in "biufc":
    raise _unfit("sparsity is {!r:.80}.".format(matrix))
  if array.ndim != 2:
    joint = y.shape.concatenate(x.shape)
    if not joint.is_fully_defined() or joint.as_list() != list(array.shape):
      raise _unfit("sparsity has the shape {}.".format(
          tensors.format_shape(array.shape)))
    array = array.reshape(y.shape.num_elements(), x.shape.num_elements())
  return Pattern(*array.nonzero(), shape=array.shape)


def _check_fits(pattern, sizes, y, x):
  """Refuses a pattern that is not one of y by x, as far as that is known."""
  for role, component, size, axis in (
      ("rows", y, sizes[0], 0), ("columns", x, sizes[1], 1)):
    places = (pattern.rows, pattern.columns)[axis]
    needed = int(places.max()) + 1 if len(places) else 0
    if pattern.shape is not None and size not in (
        None, pattern.shape[axis]) or size is not None and needed > size:
      raise _unfit("sparsity has {} {}, and {} has {} elements.".format(
          needed if pattern.shape is None else pattern.shape[axis], role,
          tensors.describe(component), size))


def _unfit(what):
  return errors.ArgumentError(
      what, "It states which elements of the Jacobian may differ from zero, "
      "and is needed when the ops are built.", _FORMS)
