"""How much of the derivative goes through ops that no gradient passes."""

import numpy as np

from gradfeed.checking import reports
from gradfeed.findings import BAD
from gradfeed.findings import Finding
from gradfeed.findings import WARNING
from gradfeed.graph import provenance

#: A missing share of the derivative that is smaller is not reported.
_SMALL = 1e-4


def find_blocked_paths(constants, tests, released, gradients):
  """Compares slopes of y with and without the ops that no gradient passes.

  Args:
    constants: `held_constants.HeldConstants`.
    tests: list of `directional_tests.DirectionalTest` of y with all of these
      ops held.
    released: list of `forward_functions.ForwardFunction`: in the first, the
      unintended stops are not held; in the second, the intended stops. One is
      missing if there are no such ops.
    gradients: list of float64 arrays, one for each x.

  Returns:
    list of `Finding`.
  """
  groups = [group for group in (
      constants.unintended_stops, constants.intended_stops) if group]
  held = [test for test in tests if test.direction.length is None][:3]
  result = []
  for operations, function in zip(groups, released):
    source = function.differences(gradients)
    share = _missing_share([
        _slope(source, test) for test in held], held)
    if share:
      result.append(_finding(constants, operations, share))
  return result


def _slope(source, test):
  """The slope along the direction of `test`, as far as it matters."""
  size = abs(test.difference)
  return source.slope(
      test.direction, max(source.resolution, 0.01 * _SMALL * size),
      0.1 * _SMALL * size)


def _missing_share(full_slopes, held):
  """The share of `full_slopes` that others lack.

  Args:
    full_slopes: list of `finite_differences.Slope`.
    held: list of `directional_tests.DirectionalTest` in the same directions.

  Returns:
    float; 0 where the slopes are the same to within their errors.
  """
  missing = [(abs(a.value - b.difference), max(abs(a.value), abs(b.difference)))
             for a, b in zip(full_slopes, held)
             if abs(a.value - b.difference) > 10.0 * (a.error + b.error) +
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
