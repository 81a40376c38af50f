"""Whether the gradient of a row depends on other rows, or on how many."""

import numpy as np

from gradfeed._tf import tf
from gradfeed.analysis import row_dependence
from gradfeed.checking import directional_tests
from gradfeed import errors
from gradfeed.evaluation import numeric_comparison
from gradfeed import findings
from gradfeed.graph import provenance
from gradfeed.graph import tensors


def find_coupling(place, ys, dxs, held, seed):
  """What is found of the rows of a batch.

  The first row is evaluated alone, twice over, and beside another row.

  Args:
    place: `evaluation_points.EvaluationPoint`.
    ys: list of `tf.Tensor`.
    dxs: list of `tf.Tensor`, the gradients.
    held: `held_constants.HeldConstants`.
    seed: int, for the other row.

  Returns:
    list of `findings.Finding`.
  """
  count = _count(place)
  if not count or held.randoms or held.loose:
    return []
  try:
    alone, same, beside = [
        _row(place, dxs, count, rows, seed) for rows in (
            [None], [None, None], [None, seed])]
  except (tf.errors.OpError, errors.GradfeedError):
    return []  # Made for one number of rows: nothing to compare.
  allowed = 10.0 * directional_tests.relative(held.eps)
  if not _are_within(same, beside, allowed):
    return [_coupled(place, ys, held)]
  if _are_within(alone, same, allowed):
    return []
  if _are_within(alone, [2.0 * g for g in same], allowed):
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
  """Whether the first axis is one of any length, over what may be examples."""
  return component.shape.ndims and component.shape.as_list()[0] is None and (
      np.ndim(value) > 0)


def _count(place):
  """How many rows x_t has; 0 where it is no batch."""
  counts = {len(value) for component, value in zip(place.points, place.values)
            if _is_batch(component, value)}
  if place.has_sparse:
    return 0
  return counts.pop() if len(counts) == 1 else 0


def _row(place, dxs, count, rows, seed):
  """The gradient of the first of `rows`, each the first of x_t or a number."""

  def batch(component, value, may_move):
    if not isinstance(component, tensors.Dense) or not _is_batch(
        component, value) or (len(value) != count):
      return value
    made = []
    for row in rows:
      made.append(np.array(value[0]))
      if row is not None and may_move:
        generator = np.random.RandomState(seed)
        moved = 0.5 * made[-1] + 0.3 * generator.normal(
            size=np.shape(made[-1])) * np.max(np.abs(made[-1]), initial=1e-3)
        made[-1] = moved.astype(made[-1].dtype)
    return np.stack(made)

  values = [batch(component, value, True)
            for component, value in zip(place.points, place.values)]
  fed = [batch(leaf, value if not isinstance(value, list) else
               np.asarray(value), False) for leaf, value in place.fed]
  results = place.sample(dxs, values, fed=fed)
  return [g[0] for component, value, g in zip(
      place.points, place.values, directional_tests.broad(results))
          if _is_batch(component, value)]


def _are_within(one, other, tolerance):
  """Whether two lists of arrays are the same, by the largest of all of them."""
  size = numeric_comparison.largest(one + other)
  return all(numeric_comparison.is_within(a, b, tolerance, size)
             for a, b in zip(one, other))


def _coupled(place, ys, held):
  op = None
  for y in _with_rows(ys, held):
    for component, value in zip(place.points, place.values):
      if _is_batch(component, value) and op is None:
        try:
          how, suspect = row_dependence.coupling(
              [y], component.tensor, held.dependent())
        except (ValueError, IndexError, KeyError):
          continue
        op = suspect if how == "coupled" else None
  return findings.Finding(
      "coupled", findings.WARNING, "The gradient of a row depends on other "
      "rows of x_t.", "" if op is None else "{} reads all rows for one.".format(
          provenance.describe_op(op)),
      "Evaluate the model as it runs outside of training "
      "(is_training=False), or one row at a time.",
      [provenance.original_name(op)] if op is not None else [])


def _with_rows(ys, held):
  """The tensors nearest to y, in front of sums, that have rows."""
  result, queue, seen = [], [y.op for y in ys], set()
  result += [y for y in ys if _has_rows(y)]
  while queue and not result:
    op = queue.pop(0)
    for tensor in op.inputs:
      if tensor.op.name in held.trace.path and tensor.name not in seen:
        seen.add(tensor.name)
        if _has_rows(tensor):
          result.append(tensor)
        else:
          queue.append(tensor.op)
  return result


def _has_rows(tensor):
  return bool(tensor.shape.ndims) and tensor.shape.as_list()[0] is None
