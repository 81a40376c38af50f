"""Evaluates a batch in chunks of rows: the same numbers, in bounded memory.

That is right only where no row of an output depends on other rows. To verify
it, two rows are evaluated together and apart before the first batch is divided.
"""

import numpy as np

from gradfeed import errors
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed import numeric_comparison


def check(chunk, slots, outputs):
  """Refuses what cannot be evaluated in chunks.

  Args:
    chunk: what the caller gave for the number of rows.
    slots: list of `feeds.Slot` of the inputs.
    outputs: list of `fetchables.Fetchable`.
  """
  errors.check_chunk(
      chunk, "rows", "It is how many rows of a batch are evaluated at a time.",
      "Pass a positive int, or None for all at once.")
  if not _batches(slots):
    raise errors.ArgumentError(
        "There is no batch to divide among the inputs {}.".format(
            tensors.describe_all(slot.component for slot in slots)),
        "The first axis of each is fixed.",
        "Leave out chunk=, or make a placeholder of shape [None, ...].")
  for output in outputs:
    tensor = output.tensors()[0]
    if not output.is_plain or tensor.shape.ndims == 0:
      raise errors.ArgumentError(
          "{} cannot be put together from chunks.".format(
              tensors.describe(tensor)),
          "It has no rows.",
          "Take an output of shape [B, ...] (losses before their mean), or "
          "leave out chunk=.")


def check_rows(outputs, results, count, why, fix):
  """Refuses results that do not have `count` rows.

  Args:
    outputs: list of `tf.Tensor`.
    results: list of the array of each.
    count: int, how many rows were fed.
    why: str, of the error.
    fix: str, of the error.
  """
  for tensor, result in zip(outputs, results):
    if np.shape(result)[:1] != (count,):
      raise errors.ArgumentError(
          "{} is {} for {} rows.".format(
              tensors.describe(tensor), np.shape(result), count), why, fix)


def _batches(slots):
  """The indices of the inputs that are batches of any number of rows."""
  return [i for i, slot in enumerate(slots)
          if slot.component.shape.ndims is None or
          slot.component.shape.as_list()[:1] == [None]]


class Chunks:
  """Evaluates a batch a few rows at a time."""

  def __init__(self, size, slots, outputs):
    """Prepares.

    Args:
      size: int, the number of rows to evaluate at a time.
      slots: list of `feeds.Slot` of the inputs.
      outputs: list of `fetchables.Fetchable`.
    """
    self._size = size
    self._components = [slot.component for slot in slots]
    self._outputs = [output.tensors()[0] for output in outputs]
    self._batches = _batches(slots)
    self._is_verified = False

  def __call__(self, values, evaluate):
    """The results for all rows.

    Args:
      values: list of arrays, those of the inputs first.
      evaluate: function from such a list to the list of the outputs' arrays.

    Returns:
      list of arrays.

    Raises:
      FeedError: inputs of different numbers of rows.
      CoupledRowsError: two rows together are not what they are apart.
      ArgumentError: a result does not have a row for each row.
    """
    count = self._count(values)
    if count <= self._size:
      return evaluate(values)
    if not self._is_verified:
      self._verify(values, evaluate)
      self._is_verified = True
    results = None
    for start in range(0, count, self._size):
      chunk = self._rows(
          values, start, min(start + self._size, count), evaluate)
      if results is None:
        results = [np.empty((count,) + rows.shape[1:], rows.dtype)
                   for rows in chunk]
      for result, rows in zip(results, chunk):
        result[start:start + len(rows)] = rows
    return results

  def _count(self, values):
    """The number of rows of the inputs; refuses different ones."""
    counts = {len(values[i]) if np.ndim(values[i]) else None
              for i in self._batches}
    if len(counts) > 1 or None in counts:
      raise errors.FeedError(
          "The inputs have different numbers of rows: {}.".format(", ".join(
              "'{}' {}".format(self._components[i].name, np.shape(values[i]))
              for i in self._batches)),
          "They are divided together, row by row.",
          "Pass as many rows for each, or leave out chunk=.")
    return counts.pop()

  def _rows(self, values, start, end, evaluate):
    """The results for the rows from `start` to `end`, a list of arrays."""
    values = list(values)
    for i in self._batches:
      values[i] = values[i][start:end]
    results = evaluate(values)
    check_rows(
        self._outputs, results, end - start,
        "Only what has a row for each row can be put together from chunks.",
        "Take an output with rows (losses before their mean), or leave out "
        "chunk=.")
    return results

  def _verify(self, values, evaluate):
    """Refuses outputs whose rows differ if two are evaluated together."""
    together = self._rows(values, 0, 2, evaluate)
    apart = [self._rows(values, i, i + 1, evaluate) for i in range(2)]
    for tensor, both, *rows in zip(self._outputs, together, *apart):
      if not numeric_comparison.is_close(both, np.concatenate(rows)):
        raise errors.coupled_rows(
            tensors.describe(tensor),
            tensors.describe(self._components[self._batches[0]]),
            self._suspect(tensor),
            "Two rows together are not what they are apart; look at")

  def _suspect(self, tensor):
    """The first op above `tensor` that may mix rows, in words."""
    # pylint: disable-next=import-outside-toplevel
    from gradfeed.analysis import row_dependence  # For this error alone.
    ops = traversal.ancestors([tensor])
    for i in self._batches:
      _, op = row_dependence.coupling([tensor], self._components[i].tensor, ops)
      if op is not None:
        return tensors.describe(op)
    return "what is random on the way"
