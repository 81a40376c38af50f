"""Derivatives of each row of a batch by its own row of x."""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import arguments
from gradfeed.derivatives import forward_jacobians
from gradfeed.derivatives import jacobians
from gradfeed.derivatives import pullbacks
from gradfeed import errors
from gradfeed.graph import assertions
from gradfeed.graph import cache
from gradfeed.graph import nest
from gradfeed.graph import tensors


@_tf.unconverted
def batch_jacobian(y, x, coupled=False, stop_gradients=None,
                   unconnected="error", chunk=None, mode="auto"):
  """Builds d y[b] / d x[b] for each row b of a batch; once.

  The diagonal blocks of the Jacobian, at the price of one row of y: where the
  rows do not depend on each other, one product gives a row of every block. So
  the ops between x and y are looked at first. Where one of them mixes rows
  (batch normalization in training, a mean or a softmax over the batch) the
  call is refused; where one is not known, a probe runs with the result and
  compares products with rows weighed before and after.

  Args:
    y: floating or complex `tf.Tensor` of shape `[B, ...]`, variable, name, or
      nested lists, tuples and dicts of them.
    x: `tf.Tensor` of shape `[B, ...]`, variable, name, or nested structure.
    coupled: bool; True states that rows depend on each other. Each block is
      then computed by itself, which takes B times as many products.
    stop_gradients: tensors to hold constant, or None.
    unconnected: "error", "zero" or "none", as in `gradient`.
    chunk: int, how many products are computed at a time, or None for all.
    mode: "reverse", "forward" or "auto", as in `jacobian`: a product for each
      element of a row of y, or for each of a row of x. Coupled rows have
      "reverse" alone.

  Returns:
    The structure of `y`, with the structure of `x` in the place of each y: a
    `tf.Tensor` of shape [B] + y.shape[1:] + x.shape[1:] and the dtype of x, in
    units of `y` per unit of `x`.

  Raises:
    The same errors as `jacobian`.
    CoupledRowsError: a row of y depends on other rows of x; names the op. Where
      only the probe can tell, it is raised when the result is evaluated.
    ArgumentError: a y or x without rows, or with different numbers of them; or
      another `mode`, or "forward" for complex tensors or coupled rows.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [None, 2])
    ...   y = tf.stack([x[:, 0] * x[:, 1], x[:, 1]], axis=1)
    ...   f = gf.function(x, gf.batch_jacobian(y, x))
    ...   print(f([[3.0, 5.0]]))
    [[[5. 3.]
      [0. 1.]]]
  """
  arguments.check_unconnected(unconnected)
  arguments.check_chunk(chunk)
  arguments.check_flag("coupled", coupled)
  forward_jacobians.check_mode(mode)
  if coupled and mode == "forward":
    raise errors.ArgumentError(
        "mode is 'forward', and coupled is True.",
        "The blocks of coupled rows are computed one by one, by rows.",
        "Leave one of them out.")
  request = arguments.Request(y, x, stop_gradients)
  jacobians.refuse_real_parts(request)
  for y_leaf in request.ys:
    for x_leaf in request.xs:
      _check_same_rows(y_leaf, x_leaf)
  return nest.pack(y, [nest.pack(x, _blocks(
      request, leaf, unconnected, coupled, chunk, mode))
                     for leaf in request.ys])


def check_rows(role, leaf):
  """Refuses a leaf that has no first axis.

  Args:
    role: "y" or "x", for the error.
    leaf: `tensors.Dense` or the like.
  """
  if leaf.shape.ndims == 0 or not isinstance(leaf, tensors.Dense):
    raise errors.ArgumentError(
        "{} = {} has no rows.".format(role, tensors.describe(leaf)),
        "The first axis of a batch counts its examples.",
        "Pass a tensor of shape [B, ...], such as the losses before their "
        "mean is taken; or use `jacobian` or `gradient`.")


def _check_same_rows(y, x):
  """Refuses leaves without rows, or with different numbers of them."""
  check_rows("y", y)
  check_rows("x", x)
  if y.shape.ndims and x.shape.ndims and not (
      y.shape[:1].is_compatible_with(x.shape[:1])):
    raise errors.ArgumentError(
        "y = {} and x = {} have different numbers of rows.".format(
            tensors.describe(y), tensors.describe(x)),
        "Row b of y is differentiated by row b of x.",
        "Pass a y and an x of the same batch, or use `jacobian`.")


def _blocks(request, y, unconnected, coupled, chunk, mode):
  """[d y[b] / d x[b] for each leaf of x] for one leaf of y."""
  pullback = pullbacks.Pullback(
      request.graph, [y], request.xs, request.stops, unconnected == "error")
  if coupled:
    suspects, columns = {}, None
    stacked = pullback.stacked(
        ("coupled_blocks",), lambda: pullbacks.size_of(y),
        lambda scratch: pullbacks.units(scratch, y), chunk,
        lambda scratch: _own_row(scratch, y))
  else:
    suspects = _suspects(pullback)
    columns = forward_jacobians.columns(pullback, chunk, mode, is_by_row=True)
    stacked = columns if columns is not None else pullback.stacked(
        ("blocks",), lambda: pullbacks.numbers(y)[1],
        lambda scratch: pullbacks.row_units(scratch, y), chunk)
  results = [None if stack is None else _as_blocks(
      y, x, stack, coupled or columns is not None,
      _check_independent(pullback, x, suspects.get(x.name)))
             for x, stack in zip(pullback.xs, stacked)]
  results = pullback.remember(results)
  if unconnected == "zero":
    results = [_zero_blocks(y, x) if result is None else result
               for x, result in zip(pullback.xs, results)]
  return results


def _suspects(pullback):
  """Refuses rows that are known to be coupled.

  Returns:
    dict from the name of each x whose rows may be coupled to the op that may
    couple them.
  """
  suspects = {}
  y, = pullback.ys
  for x, result in zip(pullback.xs, pullback.results):
    if result is None:
      continue
    verdict, op = pullback.coupling(x)
    if verdict == "coupled":
      raise errors.coupled_rows(*map(tensors.describe, (y, x, op)))
    if verdict == "unknown":
      suspects[x.name] = op
  return suspects


def _own_row(scratch, y):
  """What to keep of the gradient of element i of y: the row that i is in.

  Returns:
    function from i and the gradient to that row of the gradient.
  """
  rows, width, _ = pullbacks.held_numbers(scratch, y)

  def take(i, product):
    # No gather: there may be no rows, and a row of NaN is not for the others.
    own = tf.reshape(tf.equal(tf.range(rows), i // width), tf.concat(
        [[rows], tf.ones_like(tf.shape(product)[1:])], 0))
    return tf.reduce_sum(
        tf.where_v2(own, product, tf.zeros_like(product)), axis=0)

  return take


def _as_blocks(y, x, stacked, is_in_order, check):
  """The stack of products as [B] + y.shape[1:] + x.shape[1:].

  Args:
    y: `tensors.Dense`.
    x: `tensors.Dense`.
    stacked: `tf.Tensor` from `pullbacks.Pullback.stacked`.
    is_in_order: bool; whether the axes of y come first, as there is a product
      for each element of y, or as these are columns.
    check: list of ops that have to run before.
  """
  def build():
    with _tf.building(y.graph), tf.control_dependencies(check):
      blocks = stacked
      if not is_in_order:  # [y.shape[1:]] + x.shape to [B, y.shape[1:], ...].
        sizes = tf.shape(stacked)
        flat = tf.reshape(stacked, [
            sizes[0], sizes[1], tf.reduce_prod(sizes[2:])])
        blocks = tf.transpose(flat, [1, 0, 2])
      shape = y.shape.concatenate(x.shape[1:])
      blocks = tf.reshape(
          blocks, shape.as_list() if shape.is_fully_defined() else
          tf.concat([tf.shape(tensors.read_of(y)),
                     tf.shape(tensors.read_of(x))[1:]], 0))
      blocks.set_shape(shape)
      return blocks

  return cache.cached(
      y.graph, ("blocks", y.name, x.name, stacked.name, bool(check)), build)


def _zero_blocks(y, x):
  """Zeros of shape [B] + y.shape[1:] + x.shape[1:]; built once."""
  def build():
    with _tf.building(y.graph):
      return tf.zeros(tf.concat([
          tf.shape(tensors.read_of(y)),
          tf.shape(tensors.read_of(x))[1:]], 0), x.dtype)

  return cache.cached(y.graph, ("zero blocks", y.name, x.name), build)


def _check_independent(pullback, x, op):
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
