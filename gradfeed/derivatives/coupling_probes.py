"""A probe that tells at run time whether rows depend on each other."""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import pullbacks
from gradfeed.graph import assertions
from gradfeed.graph import cache
from gradfeed.graph import tensors


def check(pullback, x, op):
  """An op that fails if rows of y depend on other rows of x.

  A product with some cotangent is compared to products with the same cotangent,
  each of its rows multiplied by a weight. If rows are independent, the rows of
  the result are multiplied by the same weights: to the last bit, since the
  weights are powers of two, so that the comparison needs little tolerance.

  Args:
    pullback: `pullbacks.Pullback` of one y.
    x: `tensors.Dense`, one of its xs.
    op: the `tf.Operation` that may couple rows; None where none may.

  Returns:
    list with the `tf.Operation` that fails; empty if `op` is None.
  """
  if op is None:
    return []
  y, = pullback.ys
  index = [component.name for component in pullback.xs].index(x.name)
  stack = pullback.stacked(
      ("probe",), lambda: 1 + _digits(y), lambda scratch: _probes(scratch, y))[
          index]
  message = assertions.COUPLED_ROWS.format(y.name, x.name, op.name)

  def build():
    with _tf.building(y.graph):
      same = tf.assert_equal(tf.shape(stack)[1:2],
                             tf.shape(tensors.read_of(y))[:1],
                             message=message)
      with tf.control_dependencies([same]):
        expected = stack[:1] * _weights(
            tf.range(tf.shape(stack)[0] - 1), tf.shape(stack)[1:], stack.dtype)
      apart, size = tf.abs(stack[1:] - expected), tf.abs(expected)
      limits = np.finfo(apart.dtype.as_numpy_dtype)
      allowed = 64.0 * limits.eps * (size + limits.tiny)
      # What is not a number is no proof of anything.
      return [
          tf.Assert(tf.logical_not(tf.reduce_any(apart > allowed)), [message])
      ]

  return cache.cached(y.graph, ("check", pullback.key, x.name), build)


def _probes(scratch, y):
  """The cotangents: for index 0 one without weights, then the weighted ones.

  Returns:
    function from an index to a list with the cotangent.
  """
  _, _, shape = pullbacks.held_numbers(scratch, y)
  shape = tf.convert_to_tensor(shape, tf.int32)  # Of no axes: of no dtype.

  def cotangent(i):
    plain = tf.cast(tf.reshape(tf.cos(tf.range(
        tf.cast(tf.reduce_prod(shape), tf.float32))), shape), y.dtype)
    weighted = plain * _weights(
        tf.maximum(i - 1, 0)[tf.newaxis], shape, y.dtype)
    return [tf.where_v2(tf.equal(i, 0), plain, weighted[0])]

  return cotangent


def _base(dtype):
  """The number of weights, which fewer bits of exponent make smaller."""
  return 4 if dtype.size == 2 else 32


def _powers(base):
  """The powers of `base` that fit into int32, from 1 on."""
  return [base ** k for k in range(31) if base ** k < 2 ** 31]


def _digits(y):
  """The number of digits of the index of the last row, to base `_base`.

  Returns:
    int, or int32 scalar tensor.
  """
  rows, powers = pullbacks.numbers(y)[0], _powers(_base(y.dtype))[1:]
  if isinstance(rows, int):
    return 1 + sum(power < rows for power in powers)
  with _tf.building(y.graph):
    return 1 + tf.reduce_sum(tf.cast(tf.constant(powers) < rows, tf.int32))


def _weights(digits, shape, dtype):
  """A power of two for each digit and row, of shape [digits, B, 1, ...].

  The weight of a row is given by one digit of its index, so that no two rows
  have the same weights for all digits.

  Args:
    digits: int32 tensor of shape [digits], which digit to take.
    shape: int32 tensor [B, ...], the shape of what is multiplied.
    dtype: `tf.DType` of the weights.
  """
  base = _base(dtype)
  weights = tf.constant(
      2.0 ** (np.arange(base) - base // 2), dtype.real_dtype)
  powers = tf.constant(_powers(base))
  places = tf.range(shape[0]) // tf.gather(powers, digits)[:, tf.newaxis] % base
  full = tf.concat(
      [tf.shape(digits), shape[:1], tf.ones_like(shape[1:])], 0)
  return tf.cast(tf.reshape(tf.gather(weights, places), full), dtype)
