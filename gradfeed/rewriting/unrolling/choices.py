"""Branches of which both sides are evaluated, and the values between them.

What a side of a branch keeps for its gradient is an optional value, and that of
the other side may have another shape. The gradient reads it on the same side of
a branch on the same predicate.
"""

import numpy as np

from gradfeed._tf import tf
from gradfeed.rewriting.unrolling import values as kinds


def chosen(predicate, one, other, dtype, emitter):
  """The value that is one or the other.

  Args:
    predicate: bool scalar `tf.Tensor`: whether it is `one`.
    one, other: values.
    dtype: `tf.DType` of both; not needed where one is a `tf.Tensor`.
    emitter: `emission.Emitter`.

  Returns:
    value; an `Either` where they are not alike, and which only what is on one
    side of a branch can read.
  """
  def choose(one, other, dtype):
    return chosen(predicate, one, other, dtype, emitter)

  if one is other:
    return one
  if isinstance(one, kinds.Optional) and isinstance(
      other, kinds.Optional):
    return kinds.Optional(kinds.Either(predicate, one.value, other.value))
  if isinstance(one, kinds.TensorList) and isinstance(
      other, kinds.TensorList) and len(one.elements) == len(other.elements):
    return one._replace(elements=tuple(
        _written(choose, *pair, one.dtype, emitter)
        for pair in zip(one.elements, other.elements)))
  if not all(isinstance(value, (np.ndarray, tf.Tensor))
             for value in (one, other)):
    return kinds.Either(predicate, one, other)
  if isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and (
      one.dtype == other.dtype and one.tobytes() == other.tobytes() and
      one.shape == other.shape):
    return one
  shapes = [tf.TensorShape(value.shape) for value in (one, other)]
  if not shapes[0].is_fully_defined() or shapes[0] != shapes[1]:
    return kinds.Either(predicate, one, other)
  for value in (one, other):
    if isinstance(value, tf.Tensor):
      dtype = value.dtype
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


def settled(value, taken, emitter):
  """The value that an `Either` is where it is read; any other as it is.

  Args:
    value: value.
    taken: dict from the name of a predicate to which side of its branch this is
      in, a bool.
    emitter: `emission.Emitter`.
  """
  value = on_this_side(value, taken)
  if value is None:
    raise kinds.NotUnrolled("it is not known what an optional holds")
  if not isinstance(value, kinds.Either):
    return value
  if value.one is None or value.other is None:
    return settled(value.other if value.one is None else value.one, taken,
                   emitter)
  return chosen(value.predicate, settled(value.one, taken, emitter),
                settled(value.other, taken, emitter), None, emitter)


def _written(choose, one, other, dtype, emitter):
  """The same for elements of lists, that may not have been written."""
  there = other if one is None else one
  if there is not None and not isinstance(there, kinds.TensorList):
    zeros = emitter.zeros_like(there, dtype)
    one, other = [zeros if value is None else value for value in (one, other)]
  return choose(one, other, dtype)
