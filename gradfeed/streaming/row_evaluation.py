"""Blocks of points through a function, a result for each row."""

import numpy as np

from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation import chunks
from gradfeed.graph import nest
from gradfeed.graph import tensors
from gradfeed.streaming import rebatching

_MEND = "Mend it, or pass on_error='skip' to leave such rows NaN."


class RowEvaluator:
  """Evaluates blocks of points."""

  def __init__(self, f, source, skips, coupled):
    """Prepares.

    Args:
      f: `functions.Function`.
      source: `point_sources.Points`; after the first block it knows its
        `batch_forms`.
      skips: bool; whether a point that cannot be evaluated is skipped.
      coupled: bool; whether rows may depend on each other.
    """
    self._f = f
    self._source = source
    self._skips = skips
    self._is_proven = coupled
    self._batched = None
    self._rows = None

  def evaluate(self, block, start):
    """The results of a block.

    Args:
      block: `formats.fitting.Block`.
      start: int, the number of its first row.

    Returns:
      (list of the array of each output; dict from the place of each row that
      was skipped to the reason).

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
    good = [i for i in range(count) if i not in bad]
    results = None
    if good:
      values = [array[good] for array in block.arrays] if bad else block.arrays
      results, unfit = self._evaluated(values, [start + i for i in good])
      bad.update((good[i], why) for i, why in unfit.items())
    if results is not None:
      self._rows = [(result.shape[1:], result.dtype) for result in results]
    return self._filled(results, bad, count), bad

  def _filled(self, results, bad, count):
    """The results with rows where there are none."""
    if results is not None and not bad:
      return results
    good = [i for i in range(count) if i not in bad]
    filled = []
    for i, (shape, dtype) in enumerate(self._rows or self._static_rows(count)):
      whole = np.full((count,) + tuple(shape), {
          "f": np.nan, "c": np.nan, "V": np.nan, "O": b""}.get(dtype.kind, 0),
                      dtype)
      if good:
        whole[good] = results[i]
      filled.append(whole)
    return filled

  def _static_rows(self, count):
    """(shape, dtype) of a row of each output, from the graph alone."""
    found = []
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
      found.append((shape.as_list(), np.dtype(
          output.dtype.base_dtype.as_numpy_dtype)))
    return found

  @property
  def _batch_forms(self):
    return self._source.batch_forms or ["many"]

  @property
  def _is_batch(self):
    return all(way == "many" for way in self._batch_forms)

  @property
  def _has_axis(self):
    """Whether rows are fed as batches of one."""
    return any(way != "bare" for way in self._batch_forms)

  def _evaluated(self, values, numbers):
    """(results of the rows that fit, {place: why} of those that do not)."""
    if not self._is_batch:
      return self._one_by_one(values, numbers)
    try:
      return self._together(values), {}
    except (errors.FeedError, tf.errors.InvalidArgumentError):
      unfit = {}
      for i, number in enumerate(numbers):
        _, why = self._tried([array[i:i + 1] for array in values], number)
        if why is not None:
          unfit[i] = why
      if not unfit:  # None of them alone is the reason.
        raise
      fit = [i for i in range(len(numbers)) if i not in unfit]
      return (self._together([array[fit] for array in values])
              if fit else None), unfit

  def _together(self, values):
    if not self._is_proven and len(values[0]) > 1:
      self._f.require_rows(*different(values))
      self._is_proven = True
    results = self._results(values)
    chunks.check_rows(
        self._f.outputs, results, len(values[0]),
        "A result has to have a row for each point.",
        "Take an output with rows (losses before their mean).")
    return results

  def _results(self, fed):
    """The array of each output."""
    return [np.asarray(part) for part in nest.flatten(self._f(*fed))]

  def _tried(self, fed, number):
    """(the results at one point, None), or (None, why it has none).

    Raises:
      FeedError: why, with the number of the point, where none is skipped.
    """
    try:
      return self._results(fed), None
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

  def _one_by_one(self, values, numbers):
    """As `_evaluated`, for values that are no rows of a batch of any size."""
    if self._batched is None and len(numbers) > 1:
      self._batched = self._rebatched(values, numbers) or False
    if self._batched:
      try:
        return self._in_one_batch(values), {}
      except (errors.FeedError, tf.errors.InvalidArgumentError):
        pass  # One of the rows it is.
    found = rebatching.one_by_one(self._tried, self._calls(values, numbers))
    rows = [self._row(row) for row, why in found if why is None]
    unfit = {i: why for i, (_, why) in enumerate(found) if why is not None}
    return [_stacked(parts) for parts in zip(*rows)] or None, unfit

  def _calls(self, values, numbers):
    """The arguments of `_tried` for each row."""
    return [([array[i] if way == "bare" else array[i:i + 1]
              for array, way in zip(values, self._batch_forms)], number)
            for i, number in enumerate(numbers)]

  def _rebatched(self, values, numbers):
    """The function for many rows, proven at some of them; or None."""
    calls = self._calls(values, numbers)
    tried = [i for i in _spread(values) if self._tried(*calls[i])[1] is None]
    if len(tried) < 2:
      return None
    return rebatching.rebatched(
        self._f, [array[tried] for array in values], self._batch_forms)

  def _in_one_batch(self, values):
    if self._rows is None:
      row = self._row(self._results(self._calls(values, [0])[0][0]))
      self._rows = [(part.shape, part.dtype) for part in row]
    results = nest.flatten(self._batched(*self._f.arguments(values)))
    return [np.reshape(result, (len(values[0]),) + tuple(shape))
            for result, (shape, _) in zip(results, self._rows)]

  def _row(self, results):
    return [self._without_axis(output, part)
            for output, part in zip(self._f.outputs, results)]

  def _without_axis(self, output, part):
    if not self._has_axis or np.shape(part)[:1] != (1,):
      return part
    return part[0] if output.shape.ndims and (
        output.shape.as_list()[0] in (None, 1)) else part


def _stacked(parts):
  shapes = sorted({part.shape for part in map(np.asarray, parts)})
  if len(shapes) > 1:
    raise errors.ArgumentError(
        "The results of some points have the shape {}, those of others "
        "{}.".format(*map(tensors.format_shape, shapes[:2])),
        "They are rows of one array.", "Take an output of one shape.")
  return np.stack(parts)


def different(values):
  """The first row and the one that is farthest from it, as a batch of two.

  Args:
    values: list of arrays with the same number of rows, at least two.

  Returns:
    list of arrays of two rows.
  """
  return [array[[0, _farthest(values)]] for array in values]


def _farthest(values):
  """The number of the row that differs most from the first one."""
  far = np.zeros(len(values[0]))
  for array in values:
    if array.dtype.kind in "biuf" and array.size:
      apart = np.abs(np.subtract(array, array[:1], dtype=np.float64))
      far += apart.reshape(len(array), -1).max(axis=1)
  return int(np.argmax(far)) or 1


def _spread(values):
  """The numbers of some rows that differ: two at least, from all over."""
  count = len(values[0])
  return sorted({0, _farthest(values), count // 2, count - 1})
