"""Proof that rows do not depend on each other, before they are divided."""

import numpy as np

from gradfeed._tf import tf
from gradfeed.analysis import row_dependence
from gradfeed import errors
from gradfeed.evaluation import chunks
from gradfeed.evaluation.inputs import feed_dicts
from gradfeed.graph import nest
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed import numeric_comparison
from gradfeed.streaming.formats import row_layout


#: Rows of the batches that are tried before there are points, and the sizes
#: that dimensions are given which the graph does not know.
_TRIED_ROWS, _TRIED_SIZES = (2, 3, 8), (4, 64)


def check_before_use(f):
  """Refuses a function whose rows depend on each other, before there are points.

  Where the ops do not show that they are independent, the function is evaluated
  at rows that are made up, if it can be: batches of several sizes.

  Args:
    f: `functions.Function`; the first axis of each input is of any size.

  Returns:
    bool, whether the ops show that no row depends on another. Otherwise it is
    to be tried again at the points (`RowProof`).

  Raises:
    CoupledRowsError: they do.
    ArgumentError: an output has no rows.
  """
  for output in f.outputs:
    if output.shape.ndims == 0:
      raise errors.ArgumentError(
          "{} has no rows.".format(tensors.describe(output)),
          "A result has to have a row for each point.",
          "Take an output with rows (losses before their mean).")
  verdict, _ = _worst(_verdicts(f))
  if verdict == "independent":
    return True
  for size in _TRIED_SIZES:
    try:
      for count in _TRIED_ROWS:
        values = [_made_rows(leaf, count, size) for leaf in f.inputs]
        proof = RowProof(f, False)
        proof.check(values)
        results = nest.flatten(f(*f.arguments(values)))
        chunks.check_rows(
            f.outputs, results, count,
            "A result has to have a row for each point.",
            "Take an output with rows (losses before their mean).")
        proof.check_results(values, results)
      return False
    except (errors.FeedError, tf.errors.InvalidArgumentError, _NotMade):
      pass  # Rows that were made are no points, or no trial.
  verdict, op = _worst(_verdicts(f, only_certain=True))
  if verdict == "coupled":
    raise errors.coupled_rows(
        tensors.describe(f.outputs[0]), tensors.describe_all(f.inputs),
        tensors.describe(op))
  return False


class _NotMade(Exception):
  """No rows can be made up for an input."""


def _made_rows(leaf, count, size):
  """Rows for an input, from a fixed seed: numbers from 0.25 to 1, or 0 and 1.

  Args:
    leaf: the input.
    count: int, the number of rows.
    size: int, for dimensions that are not known.

  Raises:
    _NotMade: its values are strings, or it is no batch.
  """
  dtype = row_layout.dtype_of(leaf)
  if dtype == object or not leaf.shape.ndims:
    raise _NotMade()
  shape = [count] + [
      size if dim is None else dim for dim in leaf.shape.as_list()[1:]]
  random = np.random.RandomState(count)
  values = random.uniform(0.25, 1.0, shape) if dtype.kind in "fcV" else (
      random.randint(0, 2, shape))
  return values.astype(dtype)


def _worst(verdicts):
  """The verdict on the input that is the likeliest to be mixed."""
  return min(verdicts, key=lambda verdict: (
      "coupled", "unknown", "independent").index(verdict[0]))


def _verdicts(f, only_certain=False):
  """Whether the ops mix the rows of each input, and which op does.

  Args:
    f: `functions.Function`.
    only_certain: as in `row_dependence.coupling`.

  Yields:
    for each input what `row_dependence.coupling` returns.
  """
  ops = traversal.ancestors(f.outputs, {leaf.name for leaf in f.inputs})
  folded = feed_dicts.folded(f.outputs, ops, f.inputs, f.held)
  for leaf in f.inputs:
    if not isinstance(leaf, tensors.Dense):
      yield "unknown", next(iter(ops.values()))
    else:
      names = traversal.descendants(ops, {leaf.name}, control=False)
      yield row_dependence.coupling(
          f.outputs, leaf.tensor, {name: ops[name] for name in names}, folded,
          only_certain)


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
    for verdict, op in _verdicts(self._f):
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
