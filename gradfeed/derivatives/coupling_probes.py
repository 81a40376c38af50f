"""A probe that tells at run time whether rows depend on each other."""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import pullbacks
from gradfeed.graph import assertions
from gradfeed.graph import cache
from gradfeed.graph import tensors


def check(linear, x, op):
  """[an op that fails if rows are coupled], [] where there is no doubt.

  Products with some cotangents are compared, and with the same whose rows are
  weighed. Independent rows hand the weights on to the rows of x, and to the
  last bit where these are powers of two: so little is taken for rounding.
  """
  if op is None:
    return []
  y, = linear.ys
  place = [component.name for component in linear.xs].index(x.name)
  stack = linear.stacked(
      ("probe",), lambda: 1 + _digits(y), lambda scratch: _probes(scratch, y))[
          place]
  told = assertions.COUPLED_ROWS.format(y.name, x.name, op.name)

  def build():
    with _tf.building(y.graph):
      same = tf.assert_equal(
          tf.shape(stack)[1:2], tf.shape(tensors.read_of(y))[:1], message=told)
      with tf.control_dependencies([same]):
        expected = stack[:1] * _weights(
            tf.range(tf.shape(stack)[0] - 1), tf.shape(stack)[1:], stack.dtype)
      apart, size = tf.abs(stack[1:] - expected), tf.abs(expected)
      limits = np.finfo(apart.dtype.as_numpy_dtype)
      allowed = 64.0 * limits.eps * (size + limits.tiny)
      # What is not a number is no proof of anything.
      return [tf.Assert(tf.logical_not(tf.reduce_any(apart > allowed)), [told])]

  return cache.cached(y.graph, ("check", linear.key, x.name), build)


def _probes(scratch, y):
  _, _, shape = pullbacks.held_numbers(scratch, y)
  shape = tf.convert_to_tensor(shape, tf.int32)  # Of no axes: of no dtype.

  def cotangent(i):
    plain = tf.cast(tf.reshape(tf.cos(tf.range(
        tf.cast(tf.reduce_prod(shape), tf.float32))), shape), y.dtype)
    weighed = plain * _weights(tf.maximum(i - 1, 0)[tf.newaxis], shape, y.dtype)
    return [tf.where_v2(tf.equal(i, 0), plain, weighed[0])]

  return cotangent


def _base(dtype):
  """How many weights there are: what half precision bears is less."""
  return 4 if dtype.size == 2 else 32


def _powers(base):
  return [base ** k for k in range(31) if base ** k < 2 ** 31]


def _digits(y):
  """How many digits the numbers of the rows have, as `_weights` counts."""
  rows, powers = pullbacks.numbers(y)[0], _powers(_base(y.dtype))[1:]
  if isinstance(rows, int):
    return 1 + sum(power < rows for power in powers)
  with _tf.building(y.graph):
    return 1 + tf.reduce_sum(tf.cast(tf.constant(powers) < rows, tf.int32))


def _weights(digits, shape, dtype):
  """A power of two for each digit and row, [digits, B, 1, ...].

  No two rows have the same weights for all digits of their numbers.
  """
  base = _base(dtype)
  weights = tf.constant(
      2.0 ** (np.arange(base) - base // 2), dtype.real_dtype)
  powers = tf.constant(_powers(base))
  places = tf.range(shape[0]) // tf.gather(powers, digits)[:, tf.newaxis] % base
  full = tf.concat(
      [tf.shape(digits), shape[:1], tf.ones_like(shape[1:])], 0)
  return tf.cast(tf.reshape(tf.gather(weights, places), full), dtype)
