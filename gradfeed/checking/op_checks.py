"""Which op it is whose gradient is wrong, and which has a kink.

Each op between x and y is taken for itself, in float64, at the values that it
reads: its own gradient is held against its own differences.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.checking import directional_tests
from gradfeed.checking import evaluation_points
from gradfeed.checking import finite_differences
from gradfeed.checking import forward_functions
from gradfeed import errors

_MOST_OPS = 300

#: Ops that only move numbers, or are parts of loops and branches.
_PLAIN = frozenset([
    "AddN", "BiasAdd", "Const", "Enter", "Exit", "ExpandDims", "Identity",
    "LoopCond", "Merge", "NextIteration", "Pack", "Placeholder",
    "PlaceholderWithDefault", "ReadVariableOp", "Reshape", "Squeeze", "Switch",
    "VarHandleOp", "Variable", "VariableV2"])

_AT_ZERO = frozenset(["Abs", "LeakyRelu", "Relu", "Relu6", "Selu"])
_AT_TIES = frozenset(["Maximum", "Minimum"])
_OF_WINDOWS = frozenset(["Max", "MaxPool", "MaxPoolV2", "Min", "TopKV2"])


def wrong_op(place, held, order, seed):
  """The op nearest to y whose own derivative is wrong, or None.

  Args:
    place: `evaluation_points.EvaluationPoint`.
    held: `held_constants.HeldConstants`.
    order: int, 1 or 2.
    seed: int.
  """
  candidates = [op for op in held.operations() if op.type not in _PLAIN]
  candidates = candidates[:_MOST_OPS]
  values = _values(place, candidates)
  for op in candidates:
    try:
      if values is not None and _is_wrong(place, op, values, order, seed):
        return op
    except (tf.errors.OpError, errors.GradfeedError, KeyError, TypeError,
            ValueError):
      continue  # It does not stand alone.
  own = [op for op in candidates if _tf.has_own_gradient(op.node_def)]
  return own[0] if own else None


def _values(place, operations):
  """dict from name to value, of all that the operations read and give."""
  wanted = {t.name: t for op in operations
            for t in list(op.inputs) + list(op.outputs)
            if _tf.numpy_dtype(t.dtype) is not None and
            t.dtype.base_dtype not in (tf.resource, tf.variant)}
  try:
    return dict(zip(wanted, place.sample(list(wanted.values()))))
  except (tf.errors.OpError, errors.GradfeedError):
    return None


def _is_wrong(place, op, values, order, seed):
  ys = [t for t in op.outputs if _tf.is_number(t.dtype)]
  moved = list({t.name: t for t in op.inputs if _tf.is_number(t.dtype)
                }.values())
  others = {t.name: t for t in op.inputs if not _tf.is_number(t.dtype)}
  if not ys or not moved:
    return False
  alone = evaluation_points.EvaluationPoint(
      place.graph, moved, [values[t.name] for t in moved], place.session,
      {t: values[name] for name, t in others.items()})
  forward = forward_functions.ForwardFunction(alone, ys, [], remember=False)
  given = [values[y.name] for y in ys]
  forward.bind([values[t.name] for t in forward.sources], given)
  generator = np.random.RandomState(seed)
  weights = [generator.uniform(0.5, 1.5, size=np.shape(y)) for y in given]
  first = forward.gradients(alone.values, weights)
  if first is None or not all(np.all(np.isfinite(g)) for g in first):
    return False
  base = directional_tests.broad(alone.values)
  names = [t.name for t in moved]
  ways = finite_differences.directions(base, first, names, seed)
  found = directional_tests.run(forward.differences(first, weights), first,
                                ways, forward.eps)
  if order > 1:
    u = ways[1].arrays
    second = forward.seconds(alone.values, u, weights)
    if second is not None:
      found = directional_tests.run(
          forward.differences_of(
              lambda xs: forward.gradients(xs, weights), u, second),
          second, finite_differences.directions(base, second, names, seed),
          forward.eps)
  return directional_tests.verdict_of(found) == directional_tests.WRONG


def kinks(place, held):
  """(op, in words where) of the ops between x and y that stand on a kink."""
  candidates = [op for op in held.operations()
                if op.type in _AT_ZERO | _AT_TIES | _OF_WINDOWS]
  values = _values(place, candidates)
  if values is None:
    return []
  found = []
  for op in candidates:
    read = [values[t.name] for t in op.inputs]
    if op.type in _AT_ZERO:
      count = int(np.sum(read[0] == 0))
      told = "reads exactly 0 at {} place{}".format(
          count, "" if count == 1 else "s")
    elif op.type in _AT_TIES:
      count = int(np.sum(read[0] == read[1]))
      told = "compares equal numbers at {} place{}".format(
          count, "" if count == 1 else "s")
    else:
      count = int(np.size(read[0]) - len(np.unique(read[0])))
      told = "chooses between equal numbers"
    if count:
      found.append((op, told))
  return found
