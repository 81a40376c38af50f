"""Proof that rows do not depend on each other, before they are divided."""

import numpy as np

from gradfeed._tf import tf
from gradfeed.analysis import row_dependence
from gradfeed import errors
from gradfeed.evaluation.inputs import feed_dicts
from gradfeed.graph import nest
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed import numeric_comparison


class RowProof:
  """Holds two rows together against the two apart, once.

  Where there is one row alone, or where all rows are the same, the graph is
  asked whether rows can depend on each other; and where that is not certain,
  the row is held against one that is made of it, until there is another row.
  """

  def __init__(self, f, is_stated):
    """Evaluates nothing yet.

    Args:
      f: `functions.Function`.
      is_stated: bool; whether the caller states that rows depend on each other.
    """
    self._f = f
    self._is_proven = is_stated
    self._has_differing_rows = False
    self._first = None  # The first row, as a batch of one for each input.

  def check(self, values):
    """Refuses rows that depend on each other.

    Args:
      values: list with an array for each input, of one row or more, which are
        a batch.

    Raises:
      CoupledRowsError: they do.
      The errors of a call of the function.
    """
    if self._is_proven:
      return
    rows = values
    if self._first is not None:
      rows = [np.concatenate([first, array])
              for first, array in zip(self._first, values)]
    if len(rows[0]) > 1:
      pair = farthest_pair(rows)
      if any(not _is_same(array[:1], array[1:]) for array in pair):
        self._f.require_rows(*pair)
        self._has_differing_rows = True
        if len(values[0]) < 3:
          self._check_with_varied(pair)
          self._is_proven = True
        return
    if self._first is None:
      self._first = [array[:1] for array in values]
      self._check_one_row()

  def check_results(self, values, results):
    """Refuses results of many rows that are not those of a row by itself.

    Two rows may hide what three show: their distances to a mean are equal.

    Args:
      values: as in `check`, which is called before.
      results: list with the array of each output.

    Raises:
      CoupledRowsError: they are not.
      The errors of a call of the function.
    """
    if self._is_proven or len(values[0]) < 3:
      return
    self._compare(values, results, farthest(values))
    self._is_proven = self._has_differing_rows

  def _compare(self, values, results, i):
    """Refuses results of which row `i` is another where it is by itself."""
    alone = nest.flatten(self._f(*self._f.arguments(
        [array[i:i + 1] for array in values])))
    for output, one, result in zip(self._f.outputs, alone, results):
      if not numeric_comparison.is_close(np.asarray(one), result[i:i + 1]):
        op = self._mixing_op()
        raise errors.coupled_rows(
            tensors.describe(output), tensors.describe_all(self._f.inputs),
            "what is random on the way" if op is None else tensors.describe(op),
            "A row by itself is not what it is among others; look at")

  def _check_one_row(self):
    """Refuses rows that depend on each other, as far as one row shows it."""
    op = self._mixing_op()
    if op is None:
      self._is_proven = True
      return
    self._check_with_varied(self._first)

  def _check_with_varied(self, values):
    """Refuses rows that are not what they are among rows made of them."""
    rows = values
    for factor in (1.25, 0.5):
      rows = [np.concatenate([array, _varied(row[-1:], factor)])
              for array, row in zip(rows, values)]
    try:
      if len(values[0]) < 2:
        self._f.require_rows(*[array[:2] for array in rows])
      self._compare(rows, nest.flatten(self._f(*self._f.arguments(rows))), 0)
    except (errors.FeedError, tf.errors.InvalidArgumentError):
      pass  # A row that was made is no point; another one will be there.

  def _mixing_op(self):
    """An op that may mix rows, as a `tf.Operation`; None if there is none."""
    ops = traversal.ancestors(
        self._f.outputs, {leaf.name for leaf in self._f.inputs})
    folded = feed_dicts.folded(
        self._f.outputs, ops, self._f.inputs, self._f.held)
    for leaf in self._f.inputs:
      if not isinstance(leaf, tensors.Dense):
        return next(iter(ops.values()))
      verdict, op = row_dependence.coupling(
          self._f.outputs, leaf.tensor, ops, folded)
      if verdict != "independent":
        return op
    return None


def _is_same(one, other):
  """Whether two rows have the same values."""
  if one.dtype.kind == "O":
    return one.tolist() == other.tolist()
  return one.tobytes() == other.tobytes()


def _varied(row, factor):
  """A batch of one row like `row`: of the same values or near them.

  Numbers that are whole are in another order, once; others are multiplied.
  """
  order = -1 if factor > 1 else 1
  varied = row.reshape(-1)[::order].reshape(row.shape)
  if row.dtype.kind in "fc":
    varied = np.where(varied == 0, factor / 4, varied * factor).astype(
        row.dtype)
  return varied


def farthest_pair(values):
  """The first row and the one that differs most from it, as a batch of two.

  Args:
    values: list of arrays with the same number of rows, at least two.

  Returns:
    list of arrays of two rows.
  """
  return [array[[0, farthest(values)]] for array in values]


def farthest(values):
  """The index of the row that differs most from the first one."""
  distances = np.zeros(len(values[0]))
  for array in values:
    if array.dtype.kind in "biuf" and array.size:
      differences = np.abs(np.subtract(array, array[:1], dtype=np.float64))
      distances += differences.reshape(len(array), -1).max(axis=1)
  return int(np.argmax(distances)) or 1
