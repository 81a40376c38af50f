"""Compares what a project gives as it is with what it gives installed."""

import numpy as np

#: What rounding may change, as a part of the largest element.
_ROUNDING = 1e-6


def differences(plain, installed, rounded=()):
  """What is not the same, bit for bit.

  Args:
    plain: dict from str to array, of the project as it is.
    installed: dict from str to array, of the same with gradfeed.
    rounded: names of results that rounding may change.

  Returns:
    list of str, a line for each result that differs; [] for none.
  """
  if sorted(plain) != sorted(installed):
    return ["results {} and {}".format(sorted(plain), sorted(installed))]
  lines = []
  for name in sorted(plain):
    a, b = np.asarray(plain[name]), np.asarray(installed[name])
    if (a.dtype, a.shape) != (b.dtype, b.shape):
      lines.append("{}: {} {} is now {} {}".format(
          name, a.dtype, a.shape, b.dtype, b.shape))
    elif a.tobytes() != b.tobytes() and not (
        name in rounded and
        np.max(np.abs(a - b)) <= _ROUNDING * np.max(np.abs(a))):
      lines.append("{}: {}".format(name, _how_far(a, b)))
  return lines


def _how_far(a, b):
  if a.dtype.kind not in "fiu":
    return "{} is now {}".format(a, b)
  a, b = a.astype(np.float64), b.astype(np.float64)
  return "{:.3g} apart, of {:.3g} at most".format(
      np.max(np.abs(a - b)), np.max(np.abs(a)))


def growth(plain, installed):
  """Steps at which more ops were added than the project itself adds.

  Args:
    plain: list of (graph, its ops) after each step.
    installed: the same with gradfeed.

  Returns:
    list of (step, ops added since the first step of that graph, the same with
    gradfeed).
  """
  rows = [(step, a, b) for step, (a, b) in enumerate(
      zip(_added(plain), _added(installed)))]
  return [row for row in rows if row[2] > row[1]]


def _added(steps):
  """What was added to the graph of each step since the first step with it."""
  first = {}
  return [count - first.setdefault(graph, count) for graph, count in steps]
