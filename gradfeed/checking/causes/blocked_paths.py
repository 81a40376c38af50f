"""How much of the derivative goes through ops that no gradient passes."""

import numpy as np

from gradfeed.checking import directional_tests
from gradfeed.checking import finite_differences
from gradfeed.checking import reports
from gradfeed.findings import BAD
from gradfeed.findings import Finding
from gradfeed.findings import WARNING
from gradfeed.graph import provenance

#: A missing share of the derivative that is smaller is not reported.
_SMALL = 1e-4


def find_blocked_paths(point, constants, forward, released, gradients, seed):
  """Compares slopes of y with and without the ops that no gradient passes.

  Args:
    point: `evaluation_points.EvaluationPoint`.
    constants: `held_constants.HeldConstants`.
    forward: `forward_functions.ForwardFunction` with all of these ops held.
    released: list of `forward_functions.ForwardFunction`: in the first, the
      unintended stops are not held; in the second, the intended stops. One is
      missing if there are no such ops.
    gradients: list of float64 arrays, one for each x.
    seed: int, of the directions.

  Returns:
    list of `Finding`.
  """
  groups = [group for group in (
      constants.unintended_stops, constants.intended_stops) if group]
  if not groups:
    return []
  directions = finite_differences.directions(
      directional_tests.to_float64(point.values), gradients,
      [component.name for component in point.xs], seed)[:3]
  held_slopes = _slopes(forward.differences(gradients), directions)
  result = []
  for operations, function in zip(groups, released):
    share = _missing_share(
        _slopes(function.differences(gradients), directions), held_slopes)
    if share:
      result.append(_finding(constants, operations, share))
  return result


def _slopes(source, directions):
  return [source.slope(direction, source.resolution)
          for direction in directions]


def _missing_share(full_slopes, held_slopes):
  """The share of `full_slopes` that `held_slopes` lack.

  Args:
    full_slopes: list of `finite_differences.Slope`.
    held_slopes: list of `finite_differences.Slope` in the same directions.

  Returns:
    float; 0 where the slopes are the same to within their errors.
  """
  missing = [(abs(a.value - b.value), max(abs(a.value), abs(b.value)))
              for a, b in zip(full_slopes, held_slopes)
              if abs(a.value - b.value) > 10.0 * (a.error + b.error) +
              _SMALL * abs(a.value)]
  return sum(part for part, _ in missing) / max(
      sum(whole for _, whole in missing), np.finfo(float).tiny)


def _finding(constants, operations, share):
  ops = list(dict.fromkeys(
      constants.blocking_op(op) for op in operations))
  is_intended = operations is constants.intended_stops
  return Finding(
      "blocked",
      WARNING if is_intended else BAD,
      "The gradient leaves out what goes through {}: {} of how y "
      "changes.".format(provenance.describe_ops(ops), reports.percent(share)),
      "The model says so." if is_intended else
      "No gradient passes {}.".format("it" if len(ops) == 1 else "them"),
      "" if is_intended else "Write it from ops of TensorFlow, or give it a "
      "gradient (tf.custom_gradient).",
      provenance.original_names(ops),
      share=share)
