"""Bounds by variable and constraints by tensor, as SciPy takes them."""

from collections import abc

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import tensors


def bounds_of(bounds, layout):
  """Bounds as pairs for each element of x.

  Args:
    bounds: as in `minimizing.minimize`.
    layout: `layouts.Layout`.

  Returns:
    list of n pairs of floats; None for None; another class, such as
    `scipy.optimize.Bounds`, as it is.
  """
  if bounds is None:
    return None
  if isinstance(bounds, abc.Mapping):
    by_leaf = [None] * len(layout.leaves)
    for key, pair in bounds.items():
      index = layout.index_of(key)
      if index is None:
        raise errors.ArgumentError(
            "bounds has a key that is none of variables_or_x: {}.".format(
                tensors.describe(tensors.resolve(
                    key, layout.graph, "bounds"))),
            "It would bound nothing.",
            "Use one of {}.".format(tensors.describe_all(layout.leaves[:8])))
      by_leaf[index] = pair
  elif isinstance(bounds, (list, tuple, np.ndarray)):
    if len(bounds) == layout.x0.size and len(bounds) != len(layout.leaves):
      return [tuple(map(float, _pair(pair, "bounds[{}]".format(i), ())))
              for i, pair in enumerate(bounds)]
    if len(bounds) != len(layout.leaves):
      raise errors.ArgumentError(
          "bounds has {} elements.".format(len(bounds)),
          "There are {} variables or tensors with {} elements in all.".format(
              len(layout.leaves), layout.x0.size),
          "Pass a pair (low, high) for each of either; or a dict by variable.")
    by_leaf = list(bounds)
  elif hasattr(bounds, "lb") and hasattr(bounds, "ub"):
    return bounds
  else:
    raise errors.ArgumentError(
        "bounds is a {}.".format(type(bounds).__name__),
        "It says between what each element of x may move.",
        "Pass a dict from variables to (low, high), or a list of pairs.")
  pairs = []
  for pair, leaf, shape in zip(by_leaf, layout.leaves, layout.shapes):
    low, high = _pair(pair, tensors.describe(leaf), shape)
    pairs += zip(low.ravel().tolist(), high.ravel().tolist())
  return pairs


def _pair(pair, name, shape):
  """(low, high) as float64 arrays of `shape`, with infinities for None."""
  if pair is None:
    pair = (None, None)
  try:
    low, high = pair
    made = [np.broadcast_to(np.asarray(
        none if side is None else side, np.float64), shape)
            for side, none in ((low, -np.inf), (high, np.inf))]
  except (TypeError, ValueError):
    raise errors.ArgumentError(
        "{!r} is no pair of bounds for {}.".format(pair, name),
        "A bound is a number, None for no bound, or an array that broadcasts "
        "to {}.".format(tensors.format_shape(shape)),
        "Pass (low, high).") from None
  if not np.all(made[0] <= made[1]):
    raise errors.ArgumentError(
        "The bounds for {} are the wrong way round.".format(name),
        "A lower one is above the upper one, or is no number.",
        "Pass (low, high).")
  return made


def constraints_of(constraints, objective):
  """Constraints with functions in the place of tensors.

  Args:
    constraints: as in `minimizing.minimize`.
    objective: `objectives.ScipyObjective`.

  Returns:
    list of what SciPy takes.
  """
  if constraints is None:
    return []
  if not isinstance(constraints, (list, tuple)):
    constraints = [constraints]
  return [_constraint(item, objective) for item in constraints]


def _constraint(item, objective):
  """One constraint as SciPy takes it."""
  if not isinstance(item, abc.Mapping):
    if hasattr(item, "lb") and hasattr(item, "ub"):
      return item
    raise errors.ArgumentError(
        "constraints has a {}.".format(type(item).__name__),
        "A constraint says what is zero, or not negative.",
        "Pass {'type': 'eq' or 'ineq', 'fun': tensor or function of x}, or a "
        "constraint of scipy.optimize.")
  item, fun = dict(item), _tf.dereference(item.get("fun"))
  if item.get("type") not in ("eq", "ineq"):
    raise errors.ArgumentError(
        "A constraint has type {!r}.".format(item.get("type")),
        "It says whether 'fun' is zero, or not negative.",
        "Use 'eq' or 'ineq'.")
  if isinstance(fun, (tf.Tensor, str)) or _tf.is_variable(fun):
    item["fun"], item["jac"] = objective.constraint(fun)
  elif not callable(fun):
    raise errors.ArgumentError(
        "A constraint has no 'fun', or one that is no function.",
        "It is what has to be zero, or not negative.",
        "Pass a tensor of the graph, or a function of x.")
  return item
