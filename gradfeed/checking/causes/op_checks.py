"""Finds the op whose gradient is wrong, and the ops that are at a kink.

Each op between x and y is checked by itself, in float64, at the values of its
inputs: its own gradient is compared with finite differences of its outputs.
"""

import collections

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.checking import directional_tests
from gradfeed.checking import evaluation_points
from gradfeed.checking import finite_differences
from gradfeed.checking import forward_functions
from gradfeed.checking.causes import nonfinite
from gradfeed import errors

_MOST_OPS = 300

#: Ops that only move or add numbers, or are parts of loops and branches.
_NOT_CHECKED = frozenset([
    "AddN", "BiasAdd", "Const", "Enter", "Exit", "ExpandDims", "Identity",
    "LoopCond", "Merge", "NextIteration", "Pack", "Placeholder",
    "PlaceholderWithDefault", "ReadVariableOp", "Reshape", "Squeeze", "Switch",
    "VarHandleOp", "Variable", "VariableV2"])

#: Ops with a kink: where an input is 0, where two inputs are equal, where two
#: elements of an input are equal.
_AT_ZERO = frozenset(["Abs", "LeakyRelu", "Relu", "Relu6", "Selu"])
_AT_TIES = frozenset(["Maximum", "Minimum"])
_OF_WINDOWS = frozenset(["Max", "MaxPool", "MaxPoolV2", "Min", "TopKV2"])


#: How many random directions, elements with the largest gradients and elements
#: with none are tried: for all ops at first, and then for all once more.
_FEW = dict(randoms=1, largest=1, zeros=0)
_MANY = dict(randoms=3, largest=3, zeros=3)


def find_wrong_op(point, constants, order, seed):
  """An op whose own derivative is wrong, the nearest to y of its kind.

  One op of each kind comes before a second of any, and a few directions in each
  before many in any: mostly all ops of a kind are wrong, and in any direction.

  Args:
    point: `evaluation_points.EvaluationPoint`.
    constants: `held_constants.HeldConstants`.
    order: int, 1 or 2: which derivatives.
    seed: int, of the directions.

  Returns:
    `tf.Operation`; where no op is found wrong, one with a gradient function of
    its own (`tf.custom_gradient`), or None.
  """
  candidates = [op for op in constants.operations()
                if op.type not in _NOT_CHECKED][:_MOST_OPS]
  values = _values(point, candidates)
  for counts in (_FEW, _MANY) if values is not None else ():
    for op in _one_of_each_kind_first(candidates):
      try:
        if _is_wrong(point, op, values, order, seed, counts):
          return op
      except (tf.errors.OpError, errors.GradfeedError, KeyError, TypeError,
              ValueError):
        continue  # It cannot be evaluated by itself.
  own = [op for op in candidates if _tf.has_own_gradient(op.node_def)]
  return own[0] if own else None


def _one_of_each_kind_first(operations):
  """Ops in another order: a kind has one type and one gradient function."""
  kinds = collections.Counter()
  places = []
  for op in operations:
    kind = (op.type, _tf.gradient_function_name(op.node_def))
    places.append((kinds[kind] > 0, len(places)))
    kinds[kind] += 1
  return [operations[i] for _, i in sorted(places)]


def _values(point, operations):
  """dict from name to value, of all inputs and outputs of the operations."""
  fetched = {t.name: t for op in operations
             for t in list(op.inputs) + list(op.outputs)
             if _tf.numpy_dtype(t.dtype) is not None and
             t.dtype.base_dtype not in (tf.resource, tf.variant)}
  try:
    return dict(zip(fetched, point.sample(list(fetched.values()))))
  except (tf.errors.OpError, errors.GradfeedError):
    return None


def _is_wrong(point, op, values, order, seed, counts):
  """Whether the derivatives of `op` itself differ from its differences."""
  ys = [t for t in op.outputs if _tf.is_number(t.dtype)]
  inputs = list(
      {t.name: t for t in op.inputs if _tf.is_number(t.dtype)}.values())
  others = {t.name: t for t in op.inputs if not _tf.is_number(t.dtype)}
  if not ys or not inputs:
    return False
  op_point = evaluation_points.EvaluationPoint(
      point.graph, inputs, [values[t.name] for t in inputs], point.session,
      {t: values[name] for name, t in others.items()}, point.budget)
  forward = forward_functions.ForwardFunction(op_point, ys, [], remember=False)
  outputs = [values[y.name] for y in ys]
  forward.bind([values[t.name] for t in forward.sources], outputs)
  generator = np.random.RandomState(seed)
  weights = [generator.uniform(0.5, 1.5, size=np.shape(y)) for y in outputs]
  gradients = forward.gradients(op_point.values, weights)
  if gradients is None or not all(map(nonfinite.is_finite, gradients)):
    return False
  x_t = directional_tests.to_float64(op_point.values)
  names = [t.name for t in inputs]
  directions = finite_differences.directions(
      x_t, gradients, names, seed, **counts)
  tests = directional_tests.run(
      forward.differences(gradients, weights), gradients, directions,
      forward.eps)
  if order > 1:
    v = directions[1].arrays
    seconds = forward.seconds(op_point.values, v, weights)
    if seconds is not None:
      tests = directional_tests.run(
          forward.differences_of(
              lambda xs: forward.gradients(xs, weights), v, seconds),
          seconds, finite_differences.directions(
              x_t, seconds, names, seed, **counts), forward.eps)
  return directional_tests.verdict_of(tests) == directional_tests.WRONG


def find_kinks(point, constants):
  """The ops between x and y whose inputs at x_t are at a kink.

  Args:
    point: `evaluation_points.EvaluationPoint`.
    constants: `held_constants.HeldConstants`.

  Returns:
    list of (op, str with the end of a sentence about it).
  """
  candidates = [op for op in constants.operations()
                if op.type in _AT_ZERO | _AT_TIES | _OF_WINDOWS]
  values = _values(point, candidates)
  if values is None:
    return []
  kinks = []
  for op in candidates:
    inputs = [values[t.name] for t in op.inputs]
    if op.type in _AT_ZERO:
      count = int(np.sum(inputs[0] == 0))
      description = "reads exactly 0 at {} place{}".format(
          count, "" if count == 1 else "s")
    elif op.type in _AT_TIES:
      count = int(np.sum(inputs[0] == inputs[1]))
      description = "compares equal numbers at {} place{}".format(
          count, "" if count == 1 else "s")
    else:
      count = int(np.size(inputs[0]) - len(np.unique(inputs[0])))
      description = "chooses between equal numbers"
    if count:
      kinks.append((op, description))
  return kinks
