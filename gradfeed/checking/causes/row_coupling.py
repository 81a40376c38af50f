"""Whether the gradient of a row depends on other rows, or on their number."""

import numpy as np

from gradfeed._tf import tf
from gradfeed.analysis import row_dependence
from gradfeed.checking import directional_tests
from gradfeed import errors
from gradfeed import findings
from gradfeed.graph import provenance
from gradfeed.graph import tensors
from gradfeed import numeric_comparison


def is_due(point, constants):
  """Whether rows can be compared: x_t is a batch, and nothing is drawn.

  Args:
    point: `evaluation_points.EvaluationPoint`.
    constants: `held_constants.HeldConstants`.
  """
  return bool(_row_count(point)) and not (
      constants.randoms or constants.unheld_randoms)


def find_coupling(point, ys, dxs, constants, seed):
  """Compares the gradient of a row alone, beside itself, beside another row.

  Args:
    point: `evaluation_points.EvaluationPoint`.
    ys: list of `tf.Tensor`.
    dxs: list of `tf.Tensor`, the gradients.
    constants: `held_constants.HeldConstants`.
    seed: int, of the other row.

  Returns:
    list of `findings.Finding`, one at most.
  """
  if not is_due(point, constants):
    return []
  count = _row_count(point)
  try:
    single, twice, beside = [
        _first_row_gradients(point, dxs, count, is_other, seed)
        for is_other in ([False], [False, False], [False, True])]
  except (tf.errors.OpError, errors.GradfeedError):
    return []  # The graph takes one number of rows only: nothing to compare.
  allowed = 10.0 * directional_tests.relative_tolerance(constants.eps)
  if not _are_within(twice, beside, allowed):
    return [_coupled_finding(point, ys, constants)]
  if _are_within(single, twice, allowed):
    return []
  if _are_within(single, [2.0 * g for g in twice], allowed):
    return [findings.Finding(
        "mean", findings.NOTE, "y is a mean over the batch: the gradient of a "
        "row is divided by the number of rows, which is {} here.".format(count),
        "", "For rows as they are alone, differentiate the sum, or what the "
        "mean is taken of.", [y.name for y in ys], rows=count)]
  return [findings.Finding(
      "number of rows", findings.WARNING,
      "The gradient of a row depends on the number of rows.",
      "", "Differentiate what has a row for each row.",
      [y.name for y in ys], rows=count)]


def _is_batch(component, value):
  """Whether the graph leaves open the length of the first axis of `value`."""
  return component.shape.ndims and component.shape.as_list()[0] is None and (
      np.ndim(value) > 0)


def _row_count(point):
  """How many rows x_t has; 0 if it is not a batch."""
  counts = {len(value) for component, value in zip(point.xs, point.values)
            if _is_batch(component, value)}
  if point.has_sparse:
    return 0
  return counts.pop() if len(counts) == 1 else 0


def _row_near(row, seed):
  """A random row of the dtype of `row`, of about its size."""
  generator = np.random.RandomState(seed)
  near = 0.5 * row + 0.3 * generator.normal(
      size=np.shape(row)) * np.max(np.abs(row), initial=1e-3)
  return near.astype(row.dtype)


def _first_row_gradients(point, dxs, count, is_other, seed):
  """The gradient of the first row in a batch that is made of it.

  Args:
    point: `evaluation_points.EvaluationPoint`.
    dxs: list of `tf.Tensor`.
    count: int, how many rows x_t has; arrays of other lengths stay as they are.
    is_other: list of bool, one for each row of the batch: whether it is another
      row near the first one of x_t, or that row itself.
    seed: int, of the other row.

  Returns:
    list of float64 arrays, the first row of the gradient by each batch.
  """

  def batch(component, value, may_differ):
    if not isinstance(component, tensors.Dense) or not _is_batch(
        component, value) or (len(value) != count):
      return value
    first = np.array(value[0])
    return np.stack([_row_near(first, seed) if other and may_differ else first
                     for other in is_other])

  values = [batch(component, value, True)
            for component, value in zip(point.xs, point.values)]
  fed = [batch(leaf, value if not isinstance(value, list) else
               np.asarray(value), False) for leaf, value in point.fed]
  results = point.sample(dxs, values, fed=fed)
  return [g[0] for component, value, g in zip(
      point.xs, point.values, directional_tests.to_float64(results))
          if _is_batch(component, value)]


def _are_within(first, second, tolerance):
  """Whether two lists of arrays are equal to within a tolerance.

  It is relative to the elements and to the largest one of all arrays.
  """
  size = numeric_comparison.largest(first + second)
  return all(numeric_comparison.is_within(a, b, tolerance, size)
             for a, b in zip(first, second))


def _coupled_finding(point, ys, constants):
  """The finding for rows that depend on others, with the op if it is found."""
  op = None
  for y in _nearest_with_rows(ys, constants):
    for component, value in zip(point.xs, point.values):
      if _is_batch(component, value) and op is None:
        try:
          verdict, suspect = row_dependence.coupling(
              [y], component.tensor, constants.dependent())
        except (ValueError, IndexError, KeyError):
          continue
        op = suspect if verdict == "coupled" else None
  return findings.Finding(
      "coupled", findings.WARNING, "The gradient of a row depends on other "
      "rows of x_t.", "" if op is None else "{} reads all rows for one.".format(
          provenance.describe_op(op)),
      "Evaluate the model as it runs outside of training "
      "(is_training=False), or one row at a time.",
      [provenance.original_name(op)] if op is not None else [])


def _nearest_with_rows(ys, constants):
  """The tensors nearest to `ys` whose first axis has any length.

  They are `ys` themselves, or what is summed up to make them.
  """
  result, queue, seen = [], [y.op for y in ys], set()
  result += [y for y in ys if _has_rows(y)]
  while queue and not result:
    op = queue.pop(0)
    for tensor in op.inputs:
      if tensor.op.name in constants.trace.path and tensor.name not in seen:
        seen.add(tensor.name)
        if _has_rows(tensor):
          result.append(tensor)
        else:
          queue.append(tensor.op)
  return result


def _has_rows(tensor):
  return bool(tensor.shape.ndims) and tensor.shape.as_list()[0] is None
