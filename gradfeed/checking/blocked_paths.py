"""What a gradient leaves out, seen in the differences."""

import numpy as np

from gradfeed.checking import directional_tests
from gradfeed.checking import finite_differences
from gradfeed.checking import reports
from gradfeed.findings import BAD
from gradfeed.findings import Finding
from gradfeed.findings import WARNING
from gradfeed.graph import provenance

#: A part of the derivative that is smaller than this is not told of.
_SMALL = 1e-4


def find_blocked_paths(place, held, forward, freer, gradients, seed):
  """What goes through ops that no gradient passes.

  Args:
    place: `evaluation_points.EvaluationPoint`.
    held: `held_constants.HeldConstants`.
    forward: `forward_functions.ForwardFunction` with all of these ops held.
    freer: list of `forward_functions.ForwardFunction`, in which those are let
      go that are hidden, if there are any, and those that are meant, if there
      are any.
    gradients: list of arrays.
    seed: int.

  Returns:
    list of `Finding`.
  """
  groups = [group for group in (held.hidden, held.meant) if group]
  if not groups:
    return []
  ways = finite_differences.directions(
      directional_tests.broad(place.values), gradients,
      [component.name for component in place.points], seed)[:3]
  source = forward.differences(gradients)
  without = [source.slope(way, source.unseen) for way in ways]
  result = []
  for operations, free in zip(groups, freer):
    source = free.differences(gradients)
    share = _share([source.slope(way, source.unseen) for way in ways], without)
    if share:
      result.append(_finding(held, operations, share))
  return result


def _share(all_of_it, without):
  """The share of the slopes that is missing; 0 where nothing is sure to be."""
  left_out = [(abs(a.value - b.value), max(abs(a.value), abs(b.value)))
              for a, b in zip(all_of_it, without)
              if abs(a.value - b.value) > 10.0 * (a.error + b.error) +
              _SMALL * abs(a.value)]
  return sum(part for part, _ in left_out) / max(
      sum(whole for _, whole in left_out), np.finfo(float).tiny)


def _finding(held, operations, share):
  ops = list(dict.fromkeys(held.blocking_op(op) for op in operations))
  is_meant = operations is held.meant
  return Finding(
      "blocked",
      WARNING if is_meant else BAD,
      "The gradient leaves out what goes through {}: {} of how y "
      "changes.".format(provenance.describe_ops(ops), reports.percent(share)),
      "The model says so." if is_meant else
      "No gradient passes {}.".format("it" if len(ops) == 1 else "them"),
      "" if is_meant else "Write it from ops of TensorFlow, or give it a "
      "gradient (tf.custom_gradient).",
      provenance.original_names(ops),
      share=share)
