"""Branches of which both sides are evaluated, and the values between them.

What a side of a branch keeps for its gradient is an optional value, and that of
the other side may have another shape. The gradient reads it on the same side of
a branch on the same predicate.
"""

import numpy as np

from gradfeed._tf import tf
from gradfeed.rewriting.unrolling import known_values
from gradfeed.rewriting.unrolling import lists
from gradfeed.rewriting.unrolling import values as kinds

#: How many whole numbers a value may be one of and stay known: sums of several
#: such values may be as many as the product of their numbers.
_MOST_NUMBERS = 64


def chosen(predicate, one, other, dtype, emitter, keeps_numbers=True):
  """The value that is one or the other.

  Args:
    predicate: bool scalar `tf.Tensor`: whether it is `one`.
    one, other: values.
    dtype: `tf.DType` of both; not needed where one is a `tf.Tensor`.
    emitter: `emission.Emitter`.
    keeps_numbers: bool; whether whole numbers that are known stay so, unless
      they are too many.

  Returns:
    value; an `Either` where they are not alike, and which only what is on one
    side of a branch can read.
  """
  def choose(one, other, dtype):
    return chosen(predicate, one, other, dtype, emitter, keeps_numbers)

  if one is other:
    return one
  if isinstance(one, kinds.Optional) and isinstance(
      other, kinds.Optional):
    return kinds.Optional(kinds.Either(predicate, one.value, other.value))
  if isinstance(one, kinds.TensorList) and isinstance(
      other, kinds.TensorList) and len(one.elements) == len(
          other.elements) and lists.has_shape(one) == lists.has_shape(other):
    return one._replace(elements=tuple(
        _written(choose, *pair, one.dtype, emitter)
        for pair in zip(one.elements, other.elements)))
  if isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and (
      one.dtype == other.dtype and one.tobytes() == other.tobytes() and
      one.shape == other.shape):
    return one
  either = kinds.Either(predicate, one, other)
  if is_counted(either):
    if keeps_numbers and _number_count(either) <= _MOST_NUMBERS:
      return either
    one, other = [settled(value, {}, emitter) for value in (one, other)]
  if not all(isinstance(value, (np.ndarray, tf.Tensor))
             for value in (one, other)):
    return either
  shapes = [tf.TensorShape(value.shape) for value in (one, other)]
  if not shapes[0].is_fully_defined() or shapes[0] != shapes[1]:
    return either
  for value in (one, other):
    if isinstance(value, tf.Tensor) or dtype is None:
      dtype = tf.as_dtype(value.dtype)
  return emitter.select(predicate, one, other, dtype)


def on_this_side(value, taken):
  """The value that an `Either` is on the side of a branch where it is read.

  Args:
    value: value.
    taken: as in `settled`.
  """
  while isinstance(value, kinds.Either) and value.predicate.name in taken:
    value = value.one if taken[value.predicate.name] else value.other
  return value


def settled(value, taken, emitter, keeps_numbers=False):
  """The value that an `Either` is where it is read; any other as it is.

  Args:
    value: value.
    taken: dict from the name of a predicate to which side of its branch this is
      in, a bool.
    emitter: `emission.Emitter`.
    keeps_numbers: as in `chosen`.
  """
  value = on_this_side(value, taken)
  if value is None:
    raise kinds.NotUnrolled("it is not known what an optional holds")
  if not isinstance(value, kinds.Either):
    return value
  if value.one is None or value.other is None:
    return settled(value.other if value.one is None else value.one, taken,
                   emitter, keeps_numbers)
  one, other = [settled(side, taken, emitter, keeps_numbers)
                for side in (value.one, value.other)]
  return chosen(value.predicate, one, other, None, emitter, keeps_numbers)


def for_tensors(op, values, taken, emitter):
  """What an op reads: whole numbers beside tensors are tensors.

  Args:
    op: `tf.Operation`.
    values: list of the values of its inputs; of whole numbers it may be known
      which they may be, as of a number of turns.
    taken, emitter: as in `settled`.
  """
  if lists.is_of_lists(op, values) or not any(
      isinstance(value, tf.Tensor) for value in values):
    return values
  return [settled(value, taken, emitter) if is_counted(value) else value
          for value in values]


def is_counted(value):
  """Whether a value is one of several arrays of whole numbers or bools."""
  if isinstance(value, kinds.Either):
    return is_counted(value.one) and is_counted(value.other)
  return isinstance(value, np.ndarray) and value.dtype.kind in "biu"


def _number_count(value):
  """How many arrays there are in a value that `is_counted`."""
  if isinstance(value, kinds.Either):
    return _number_count(value.one) + _number_count(value.other)
  return 1


class Turns:
  """The turns of a loop, of which values decide whether they are made.

  Attributes:
    taken: as in `settled`, for the turn that is next.
  """

  def __init__(self, taken, emitter):
    """Begins before the first turn; the arguments are those of `settled`."""
    self.taken = taken
    self._emitter = emitter
    self._ends = []  # Predicates, on which side it goes on, values before.

  def fork(self, condition, values):
    """The predicate on both sides of which there may be another turn, or None.

    Args:
      condition: value.
      values: list of values of the variables of the loop.
    """
    while True:
      condition = on_this_side(condition, self.taken)
      if not isinstance(condition, kinds.Either):
        return None
      ends = [side for side, value in (
          (True, condition.one), (False, condition.other))
              if isinstance(value, np.ndarray) and not value]
      if len(ends) != 1:
        return condition.predicate if is_counted(condition) else None
      self._decide(condition.predicate, not ends[0], values)

  def goes_on(self, condition, values):
    """Whether there may be another turn, where there is no `fork`: a bool.

    Args:
      condition, values: as for `fork`.
    """
    condition = settled(condition, self.taken, self._emitter)
    if not isinstance(condition, tf.Tensor) or condition.shape.rank != 0:
      return known_values.truth(condition)
    self._decide(condition, True, values)
    return True

  def _decide(self, predicate, side, values):
    self._ends.append((predicate, side, values))
    self.taken = dict(self.taken, **{predicate.name: side})

  def results(self, values, dtypes):
    """What the loop gives, which has gone on for as long as it may.

    Args:
      values: list of values after the last turn.
      dtypes: list of `tf.DType` of them.
    """
    for predicate, side, before in reversed(self._ends):
      pairs = zip(values, before) if side else zip(before, values)
      values = [chosen(predicate, one, other, dtype, self._emitter)
                for (one, other), dtype in zip(pairs, dtypes)]
    return values


def _written(choose, one, other, dtype, emitter):
  """The same for elements of lists, that may not have been written."""
  there = other if one is None else one
  if there is not None and not _is_list(there):
    number = there
    while is_counted(there) and isinstance(number, kinds.Either):
      number = number.one
    zeros = emitter.zeros_like(number, dtype)
    one, other = [zeros if value is None else value for value in (one, other)]
  return choose(one, other, dtype)


def _is_list(value):
  """Whether a value is a list, whichever it is."""
  if isinstance(value, kinds.Either):
    return _is_list(value.one) and _is_list(value.other)
  return isinstance(value, kinds.TensorList)
