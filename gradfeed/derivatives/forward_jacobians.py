"""Jacobians by columns: for a y of many more elements than x.

A product of a cotangent with the Jacobian is linear in the cotangent; its
derivative by the cotangent is the product of the Jacobian with a direction of
x. A stack of these, one for each element of x, is the Jacobian, turned.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import pullbacks
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import tensors

#: How a Jacobian is computed.
MODES = ("auto", "forward", "reverse")

#: The columns for each row up to which they are cheaper. One takes what a row
#: takes, but to build them takes longer.
_MOST_COLUMNS = 0.5

#: What to do where there are no columns.
_BY_ROWS = "Leave mode out, or pass mode='reverse'."


def check_mode(mode):
  """Refuses what is none of `MODES`."""
  if not isinstance(mode, str) or mode not in MODES:
    raise errors.ArgumentError(
        "mode is {!r}.".format(mode),
        "A Jacobian is computed by columns (forward) or by rows (reverse).",
        "Pass one of {}.".format(", ".join(map(repr, MODES))))


def columns(pullback, chunk, mode, is_by_row=False):
  """dy/dx by columns, where `mode` asks for it or it is cheaper.

  Args:
    pullback: `pullbacks.Pullback` of one y.
    chunk: int, how many columns are computed at a time, or None for all.
    mode: str, of `MODES`.
    is_by_row: bool; whether each row of y is differentiated by its own row of
      x, those of one element of all rows together.

  Returns:
    list with a `tf.Tensor` of shape y.shape + [number of elements of x], or of
    a row of x, or None, for each x; or None where rows are to be computed.

  Raises:
    ArgumentError: "forward" for complex tensors.
    MissingGradientError, UnsupportedGraphError: "forward" where an op between
      has no second derivative.
  """
  if mode == "forward":
    linear = transposed(pullback)
  elif mode == "reverse" or not _is_cheaper(pullback, is_by_row):
    return None
  else:
    linear = transposed_or_none(pullback)
    if linear is None:
      return None
  return [None if one is None else _columns(one, chunk, is_by_row)
          for one in linear]


def _refuse_complex(components):
  """Refuses "forward" where a derivative is not one number for each pair."""
  for component in components:
    if component.dtype.is_complex:
      raise errors.ArgumentError(
          "mode is 'forward', and {} is complex.".format(
              tensors.describe(component)),
          "Rows follow the conjugation of tf.gradients; columns do not.",
          "Leave mode out.")


def _is_cheaper(pullback, is_by_row):
  """Whether columns cost less than rows, and are certain to be the same."""
  components = pullback.ys + pullback.xs
  shapes = [component.shape[1:] if is_by_row else component.shape
            for component in components]
  if None in [shape.ndims for shape in shapes]:
    return False
  # An unknown axis of each is a batch, and as long for all of them.
  axes = [[size for size in shape.as_list() if size is not None]
          for shape in shapes]
  unknown = {shape.ndims - len(known) for shape, known in zip(shapes, axes)}
  sizes = [np.prod(known, dtype=np.float64) for known in axes]
  return (len(unknown) == 1 and
          sum(sizes[1:]) < _MOST_COLUMNS * sizes[0] and
          not any(component.dtype.is_complex for component in components))


def transposed(pullback):
  """The maps from directions of each x to changes of y.

  Args:
    pullback: `pullbacks.Pullback` of one y.

  Returns:
    list with a `pullbacks.Pullback`, or None where y does not depend on it, for
    each x.

  Raises:
    ArgumentError: y or an x is complex.
    MissingGradientError, UnsupportedGraphError: an op between has no second
      derivative.
  """
  _refuse_complex(pullback.ys + pullback.xs)
  try:
    return _transposed(pullback)
  except (errors.MissingGradientError, errors.UnsupportedGraphError) as error:
    error.fix = _BY_ROWS
    raise


def transposed_or_none(pullback):
  """As `transposed`, or None where columns may fail or differ from rows."""
  if pullback.has_doubtful_columns():
    return None
  try:
    return _transposed(pullback)
  except (errors.MissingGradientError, errors.UnsupportedGraphError):
    return None


def _transposed(pullback):
  return [None if result is None else _transposed_of(pullback, result)
          for result in pullback.results]


def _transposed_of(pullback, result):
  """The map from directions of one x to changes of y, as a `Pullback`.

  Args:
    pullback: `pullbacks.Pullback` of one y.
    result: `tf.Tensor`, that of its results which belongs to the x.
  """
  linear = pullbacks.Pullback(
      pullback.graph, [tensors.Dense(result)],
      [tensors.Dense(seed) for seed in pullback.seeds], [], False)
  if linear.hides_something():
    raise errors.MissingGradientError(
        "No Jacobian of {} by columns.".format(
            tensors.describe(pullback.ys[0])),
        "An op between has a gradient that cannot be differentiated again.",
        _BY_ROWS)
  return linear


def _columns(linear, chunk, is_by_row):
  """The columns that a map of `_transposed` gives, side by side; or None."""
  direction, = linear.ys
  if is_by_row:
    stacked, = linear.stacked(
        ("column_blocks",), lambda: pullbacks.numbers(direction)[1],
        lambda scratch: pullbacks.row_units(scratch, direction), chunk)
  else:
    stacked, = linear.stacked(
        ("columns",), lambda: pullbacks.size_of(direction),
        lambda scratch: pullbacks.units(scratch, direction), chunk)
  if stacked is None:
    return None

  def build():
    with _tf.building(linear.graph):
      turned = tf.transpose(stacked, tf.concat(
          [tf.range(1, tf.rank(stacked)), [0]], 0))
      return tf.cast(turned, direction.dtype)  # That of x, as of rows.

  return cache.cached(linear.graph, ("columns", stacked.name), build)
