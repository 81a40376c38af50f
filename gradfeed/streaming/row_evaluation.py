"""Evaluates a function at blocks of points, with a result for each row."""

import functools
import threading
import time

import numpy as np

from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation import chunks
from gradfeed.graph import nest
from gradfeed.graph import tensors
from gradfeed.streaming import coupling
from gradfeed.streaming import rebatching
from gradfeed.streaming.formats import row_layout

_MEND = "Mend it, or pass on_error='skip' to leave such rows NaN."

#: Seconds that rows have taken one by one, to how many ops loops may be
#: unrolled for many rows from then on: what costs more has to save more.
_UNROLLING = (
    (0.3, 600), (1.0, 3000), (10.0, rebatching.MOST_OPS))

#: Rows that are evaluated one by one before it is seen what they have taken.
_ROWS = 256


class RowEvaluator:
  """Evaluates a function at blocks of points, one block after the other.

  `evaluate_rows` may be called from several threads.
  """

  def __init__(self, f, source, skips, coupled):
    """Prepares to evaluate, and runs nothing yet.

    Args:
      f: `functions.Function`.
      source: `point_sources.Points` that the blocks are read from, or what has
        its `inputs` and `batch_forms`. The latter are used after the first
        block is read.
      skips: bool; whether a point that cannot be evaluated is skipped.
      coupled: bool; whether rows may depend on each other.
    """
    self._f = f
    self._source = source
    self._skips = skips
    self._coupling = coupling.RowProof(f, coupled)
    self._batched = None  # `Rebatched`; False where there is none.
    self._lock = threading.Lock()  # While `_batched` is made.
    self._seconds = 0.0  # That rows have taken one by one.
    self._unrolling = list(_UNROLLING)  # What was not tried yet.
    self._row_types = None  # (shape, dtype) of a row of each output.

  def evaluate(self, block, start):
    """Evaluates the function at the points of a block.

    Args:
      block: `row_layout.Block`.
      start: int, the number of its first row.

    Returns:
      (list of the array of each output; dict from the index in the block of
      each row that was skipped to the reason).

    Raises:
      FeedError: with the number of the point, where none is skipped.
      CoupledRowsError, ArgumentError, and what a call of the function raises.
    """
    bad = dict(block.bad)
    if bad and not self._skips:
      raise errors.FeedError(
          "Point {} {}.".format(start + min(bad), bad[min(bad)]),
          "So is what would be computed from it." if
          bad[min(bad)] == "is not finite" else
          "It is no value of {}.".format(
              tensors.describe_all(self._source.inputs)), _MEND)
    count = len(block.arrays[0])
    good = [i for i in range(count) if i not in bad] if bad else range(count)
    results = None
    if good:
      values = [array[good] for array in block.arrays] if bad else block.arrays
      results, failed = self.evaluate_rows(
          values, [start + i for i in good] if bad else
          range(start, start + count))
      bad.update((good[i], why) for i, why in failed.items())
    if results is not None:
      self._row_types = [
          (result.shape[1:], result.dtype) for result in results]
    return self._with_bad_rows(results, bad, count), bad

  def _with_bad_rows(self, results, bad, count):
    """Inserts rows of NaN, or 0, for those that were skipped.

    Args:
      results: list of the array of each output, for the good rows; None where
        there is none.
      bad: dict with the indices of the rows that were skipped.
      count: int, the number of all rows.

    Returns:
      list of the array of each output, for all rows.
    """
    if results is not None and not bad:
      return results
    good = [i for i in range(count) if i not in bad]
    filled = []
    for i, (shape, dtype) in enumerate(
        self._row_types or self._static_row_types(count)):
      rows = np.full((count,) + tuple(shape), {
          "f": np.nan, "c": np.nan, "V": np.nan, "O": b""}.get(dtype.kind, 0),
                     dtype)
      if good:
        rows[good] = results[i]
      filled.append(rows)
    return filled

  def _static_row_types(self, count):
    """(shape, dtype) of a row of each output, from the graph alone.

    Args:
      count: int, how many points could not be evaluated.

    Raises:
      FeedError: the shape of an output is not known, and there are points.
    """
    row_types = []
    for output in self._f.outputs:
      shape = output.shape
      if self._is_batch or self._has_axis and shape.ndims and (
          shape.as_list()[0] == 1):
        shape = shape[1:]
      if not shape.is_fully_defined():
        if count:
          raise errors.FeedError(
              "None of the first {} points can be evaluated.".format(count),
              "The shape of a result is not known before one is.",
              "Look at the points; a larger chunk has more of them.")
        shape = tf.TensorShape([])
      row_types.append((shape.as_list(), np.dtype(
          output.dtype.base_dtype.as_numpy_dtype)))
    return row_types

  @property
  def _batch_forms(self):
    return self._source.batch_forms or ["many"]

  @property
  def _is_batch(self):
    """Whether rows are fed as batches of any size."""
    return all(form == "many" for form in self._batch_forms)

  @property
  def _has_axis(self):
    """Whether rows are fed as batches of one."""
    return any(form != "bare" for form in self._batch_forms)

  def evaluate_rows(self, values, numbers):
    """Evaluates rows, together where the inputs are batches of any size.

    Args:
      values: list with an array for each input, of some rows.
      numbers: sequence of the number of each row.

    Returns:
      (list of the array of each output, for the rows that can be evaluated;
      None where there is none), (dict from the index in `values` of each other
      row to the reason).
    """
    if not self._is_batch:
      return self._evaluate_one_by_one(values, numbers)
    try:
      return self._evaluate_batch(values), {}
    except (errors.FeedError, tf.errors.InvalidArgumentError):
      failed = {}
      for i, number in enumerate(numbers):
        _, why = self._try_row([array[i:i + 1] for array in values], number)
        if why is not None:
          failed[i] = why
      if not failed:  # None of them alone is the reason.
        raise
      good = [i for i in range(len(numbers)) if i not in failed]
      return (self._evaluate_batch([array[good] for array in values])
              if good else None), failed

  def _evaluate_batch(self, values):
    """The array of each output for rows in one batch.

    Raises:
      CoupledRowsError: a row depends on the others.
      ArgumentError: an output does not have a row for each point.
    """
    self._coupling.check(values)
    results = self._call(values)
    chunks.check_rows(
        self._f.outputs, results, len(values[0]),
        "A result has to have a row for each point.",
        "Take an output with rows (losses before their mean).")
    self._coupling.check_results(values, results)
    return results

  def _call(self, values):
    """Calls the function with a value for each input.

    Returns:
      list of the array of each output.
    """
    return [row_layout.as_array(result)
            for result in nest.flatten(self._f(*values))]

  def _try_row(self, values, number):
    """Evaluates the function at one point.

    Args:
      values: list with a value for each input.
      number: int, the number of the point.

    Returns:
      (list of the array of each output, None); or (None, why there are none).

    Raises:
      FeedError: why, with the number of the point, where none is skipped.
    """
    try:
      return self._call(values), None
    except errors.MissingFeedError:
      raise  # Whatever the row is.
    except errors.FeedError as error:
      if not self._skips:
        error.what = "Point {}: {}".format(number, error.what)
        raise
      return None, "cannot be fed: " + " ".join(error.what.split())
    except tf.errors.InvalidArgumentError as error:
      why = error.message.split("\n")[0]
      if not self._skips:
        raise errors.FeedError(
            "Point {} cannot be evaluated.".format(number),
            "TensorFlow: {}.".format(why.rstrip(".")), _MEND) from error
      return None, "cannot be evaluated: " + why

  def _evaluate_one_by_one(self, values, numbers):
    """Evaluates rows of inputs that are batches of one, or no batches.

    They are evaluated together by the function for many rows, if there is one;
    or else one by one, in several threads. Takes and returns what
    `evaluate_rows` does.
    """
    with self._lock:
      if self._batched is None and len(numbers) > 1:
        self._batched = self._rebatched(
            values, numbers, rebatching.rebatched) or False
    parts, failed, start = [], {}, 0
    while start < len(numbers):
      with self._lock:
        self._try_unrolling(values, numbers)
      end = len(numbers) if self._batched else min(
          start + _ROWS, len(numbers))
      results, why = self._evaluate_part(
          [array[start:end] for array in values], numbers[start:end])
      if results is not None:
        parts.append(results)
      failed.update((start + i, reason) for i, reason in why.items())
      start = end
    return [_joined(arrays) for arrays in zip(*parts)] or None, failed

  def _evaluate_part(self, values, numbers):
    """As `_evaluate_one_by_one`, with the function for many rows, if any."""
    if self._batched:
      try:
        return self._evaluate_rebatched(values), {}
      except (errors.FeedError, tf.errors.InvalidArgumentError):
        pass  # Some row is bad: find out which, one by one.
    begun = time.perf_counter()
    outcomes = rebatching.one_by_one(
        self._try_row, self._row_arguments(values, numbers))
    self._seconds += time.perf_counter() - begun
    rows = [self._row_of(results) for results, why in outcomes if why is None]
    failed = {i: why for i, (_, why) in enumerate(outcomes) if why is not None}
    return [_stacked(values) for values in zip(*rows)] or None, failed

  def _try_unrolling(self, values, numbers):
    """Makes a function for many rows of one with loops, once that pays."""
    while not self._batched and len(numbers) > 1 and self._unrolling and (
        self._seconds >= self._unrolling[0][0]):
      _, most_ops = self._unrolling.pop(0)
      self._batched = self._rebatched(values, numbers, functools.partial(
          rebatching.rebatched_loops, most_ops=most_ops)) or False

  def _row_arguments(self, values, numbers):
    """The arguments of `_try_row` for each row."""
    return [([array[i] if form == "bare" else array[i:i + 1]
              for array, form in zip(values, self._batch_forms)], number)
            for i, number in enumerate(numbers)]

  def _rebatched(self, values, numbers, rebatch):
    """Makes the function for many rows, proven at some of `values`; or None.

    Args:
      values, numbers: as in `_evaluate_rows`.
      rebatch: `rebatching.rebatched`, or a function like it.
    """
    arguments = self._row_arguments(values, numbers)
    good = [i for i in _sample_rows(values)
            if self._try_row(*arguments[i])[1] is None]
    if len(good) < 2:
      return None
    return rebatch(
        self._f, [array[good] for array in values], self._batch_forms)

  def _evaluate_rebatched(self, values):
    """The array of each output, from the function for many rows."""
    if self._row_types is None:
      row = self._row_of(self._call(self._row_arguments(values, [0])[0][0]))
      self._row_types = [(value.shape, value.dtype) for value in row]
    results = nest.flatten(self._batched(*self._f.arguments(values)))
    return [np.reshape(result, (len(values[0]),) + tuple(shape))
            for result, (shape, _) in zip(results, self._row_types)]

  def _row_of(self, results):
    """The row of each output, from the results at one point."""
    return [row_layout.as_array(self._without_batch_axis(output, result))
            for output, result in zip(self._f.outputs, results)]

  def _without_batch_axis(self, output, result):
    """A result without its first axis, if that is of the batch of one."""
    if not self._has_axis or np.shape(result)[:1] != (1,):
      return result
    return result[0] if output.shape.ndims and (
        output.shape.as_list()[0] in (None, 1)) else result


def _joined(arrays):
  """One array of the rows of some; see `_stacked`."""
  if len(arrays) == 1:
    return arrays[0]
  _check_shapes({array.shape[1:] for array in arrays})
  return np.concatenate(arrays)


def _stacked(rows):
  """One array of rows.

  Raises:
    ArgumentError: they differ in their shapes.
  """
  rows = [row_layout.as_array(row) for row in rows]
  _check_shapes({row.shape for row in rows})
  return np.stack(rows)


def _check_shapes(shapes):
  """Raises an `ArgumentError` for a set of more than one shape."""
  if len(shapes) > 1:
    raise errors.ArgumentError(
        "The results of some points have the shape {}, those of others "
        "{}.".format(*map(tensors.format_shape, sorted(shapes)[:2])),
        "They are rows of one array.", "Take an output of one shape.")


def _sample_rows(values):
  """The indices of two rows or more, from all over, with the farthest one."""
  count = len(values[0])
  return sorted({0, coupling.farthest(values), count // 2, count - 1})
