"""Derivatives of each row of a batch: by its own row of x, of its own class."""

import numpy as np

from gradfeed import _tf
from gradfeed import arguments
from gradfeed import errors
from gradfeed import jacobians
from gradfeed import memos
from gradfeed import products
from gradfeed import stacks
from gradfeed import tensors
from gradfeed._tf import tf


def batch_jacobian(y, x, coupled=False, stop_gradients=None,
                   unconnected="error", chunk=None):
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

  Returns:
    The structure of `y`, with the structure of `x` in the place of each y: a
    `tf.Tensor` of shape [B] + y.shape[1:] + x.shape[1:] and the dtype of x, in
    units of `y` per unit of `x`.

  Raises:
    The same errors as `jacobian`.
    CoupledRowsError: a row of y depends on other rows of x; names the op. Where
      only the probe can tell, it is raised when the result is evaluated.
    ArgumentError: a y or x without rows, or with different numbers of them.

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
  stacks.check_chunk(chunk)
  ask = arguments.Request(y, x, stop_gradients)
  jacobians.refuse_real_parts(ask)
  for leaf in ask.ys:
    for other in ask.xs:
      _check_rows(leaf, other)
  return tensors.pack(y, [tensors.pack(x, _blocks(
      ask, leaf, unconnected, coupled, chunk)) for leaf in ask.ys])


def check_rows(role, leaf):
  if leaf.shape.ndims == 0 or not isinstance(leaf, tensors.Point):
    raise errors.ArgumentError(
        "{} = {} has no rows.".format(role, tensors.describe(leaf)),
        "The first axis of a batch counts its examples.",
        "Pass a tensor of shape [B, ...], such as the losses before their "
        "mean is taken; or use `jacobian` or `gradient`.")


def _check_rows(y, x):
  check_rows("y", y)
  check_rows("x", x)
  if y.shape.ndims and x.shape.ndims and not (
      y.shape[:1].is_compatible_with(x.shape[:1])):
    raise errors.ArgumentError(
        "y = {} and x = {} have different numbers of rows.".format(
            tensors.describe(y), tensors.describe(x)),
        "Row b of y is differentiated by row b of x.",
        "Pass a y and an x of the same batch, or use `jacobian`.")


def _blocks(ask, y, unconnected, coupled, chunk):
  """[d y[b] / d x[b] for each leaf of x] for one leaf of y."""
  linear = stacks.Transposed(
      ask.graph, [y], ask.xs, ask.stops, unconnected == "error")
  probed = {} if coupled else _doubts(linear)
  if coupled:
    label, ways = "coupled_blocks", (_number, _single_units, _own_row)
  else:
    label, ways = "blocks", (_width, _row_units, None)
  count, cotangents, take = ways
  stacked = linear.stacked(
      (label,), lambda: count(y), lambda scratch: cotangents(scratch, y),
      chunk, take and (lambda scratch: take(scratch, y)))
  results = [None if part is None else _as_blocks(
      y, x, part, coupled, _check(linear, x, probed.get(x.name)))
             for x, part in zip(linear.xs, stacked)]
  linear.remember(results)
  if unconnected == "zero":
    results = [_zero_blocks(y, x) if result is None else result
               for x, result in zip(linear.xs, results)]
  return results


def _doubts(linear):
  """Refuses coupled rows; returns {name of x: op that may couple its rows}."""
  doubts = {}
  y, = linear.ys
  for x, result in zip(linear.xs, linear.results):
    if result is None:
      continue
    verdict, op = linear.coupling(x)
    if verdict == "coupled":
      raise errors.coupled_rows(*map(tensors.describe, (y, x, op)))
    if verdict == "unknown":
      doubts[x.name] = op
  return doubts


def numbers(y):
  """(rows, elements of a row, shape) of y, as ints where they are known."""
  def build():
    if y.shape.is_fully_defined():
      shape = y.shape.as_list()
      return shape[0], int(np.prod(shape[1:], dtype=np.int64)), shape
    with _tf.building(y.graph):
      shape = tf.shape(tensors.read_of(y))
      known = y.shape[1:].num_elements() if y.shape.ndims else None
      width = tf.reduce_prod(shape[1:]) if known is None else known
      return shape[0], width, shape

  return memos.once(y.graph, ("numbers", y.name), build)


def held_numbers(scratch, y):
  """What `numbers` gives, as it can be read in a scratch graph."""
  return [scratch.holder(value) if isinstance(value, tf.Tensor) else value
          for value in numbers(y)]


def _width(y):
  return numbers(y)[1]


def _number(y):
  rows, width, _ = numbers(y)
  if isinstance(rows, int):
    return rows * width
  with _tf.building(y.graph):
    return rows * width


def _row_units(scratch, y):
  """One element of each row at once: the cotangents for independent rows."""
  rows, width, shape = held_numbers(scratch, y)

  def unit(i):
    row = tf.one_hot(i, width, dtype=y.dtype)
    return [tf.reshape(tf.tile(row[tf.newaxis], [rows, 1]), shape)]

  return unit


def _single_units(scratch, y):
  """One element of one row: the cotangents for rows that are coupled."""
  rows, width, shape = held_numbers(scratch, y)
  return lambda i: [tf.reshape(
      tf.one_hot(i, rows * width, dtype=y.dtype), shape)]


def _own_row(scratch, y):
  """What to keep of the gradient of element i: the row that it is in."""
  rows, width, _ = held_numbers(scratch, y)

  def take(i, product):
    # No gather: there may be no rows, and a row of NaN is not for the others.
    own = tf.reshape(tf.equal(tf.range(rows), i // width), tf.concat(
        [[rows], tf.ones_like(tf.shape(product)[1:])], 0))
    return tf.reduce_sum(
        tf.where_v2(own, product, tf.zeros_like(product)), axis=0)

  return take


def _as_blocks(y, x, stacked, coupled, check):
  """The stack of products as [B] + y.shape[1:] + x.shape[1:]."""
  def build():
    with _tf.building(y.graph), tf.control_dependencies(check):
      blocks = stacked
      if not coupled:  # [y.shape[1:]] + x.shape to [B, y.shape[1:], ...].
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

  return memos.once(
      y.graph, ("blocks", y.name, x.name, stacked.name, bool(check)), build)


def _zero_blocks(y, x):
  def build():
    with _tf.building(y.graph):
      return tf.zeros(tf.concat([
          tf.shape(tensors.read_of(y)),
          tf.shape(tensors.read_of(x))[1:]], 0), x.dtype)

  return memos.once(y.graph, ("zero blocks", y.name, x.name), build)


def _check(linear, x, op):
  """[an op that fails if rows are coupled], [] where there is no doubt.

  Products with some cotangents are compared, and with the same whose rows are
  weighed. Independent rows hand the weights on to the rows of x, and to the
  last bit where these are powers of two: so little is taken for rounding.
  """
  if op is None:
    return []
  y, = linear.ys
  place = [point.name for point in linear.xs].index(x.name)
  stack = linear.stacked(
      ("probe",), lambda: 1 + _digits(y), lambda scratch: _probes(scratch, y))[
          place]
  told = errors.COUPLED_ROWS.format(y.name, x.name, op.name)

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

  return memos.once(y.graph, ("check", linear.key, x.name), build)


def _probes(scratch, y):
  _, _, shape = held_numbers(scratch, y)
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
  rows, powers = numbers(y)[0], _powers(_base(y.dtype))[1:]
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


def class_gradient(y, x, index, axis=-1, stop_gradients=None,
                   unconnected="error"):
  """Builds the gradient of one class of each example, the index being fed.

  One gradient for all classes: the index is a value, for all examples or for
  each its own, where `gradient(y[:, 3], x)` adds ops for class 3 alone. For
  weighed classes feed the cotangent itself: `vjp(y, x, v)`.

  Args:
    y: floating `tf.Tensor` such as logits of shape `[B, classes]`, or name.
    x: what to differentiate by, as in `gradient`.
    index: integer tensor, placeholder, name or array: one class, shape `[]`;
      or a class for each example, y.shape without `axis`.
    axis: int, the axis of y that counts classes.
    stop_gradients: tensors to hold constant, or None.
    unconnected: "error", "zero" or "none", as in `gradient`.

  Returns:
    The structure of `x`, with a `tf.Tensor` of the shape and dtype of each x:
    the sum over the examples of d y[b, index[b]] / dx. By an x with examples
    of its own that is, where rows are independent, the gradient of each.

  Raises:
    The same errors as `gradient`.
    ArgumentError: an index that is no integer, or of another shape, or, when
      the result is evaluated, no class of y.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [None, 1])
    ...   index = tf.placeholder(tf.int32, [None])
    ...   logits = tf.concat([x, x ** 2, x ** 3], axis=1)
    ...   f = gf.function([x, index], gf.class_gradient(logits, x, index))
    ...   print(f([[2.0], [2.0]], [1, 2]))
    [[ 4.]
     [12.]]
  """
  arguments.check_unconnected(unconnected)
  ask = arguments.Request(y, x, stop_gradients)
  if tensors.is_container(y):
    raise errors.ArgumentError(
        "y is a {} of tensors.".format(type(y).__name__),
        "The index chooses among the classes of one.",
        "Pass one tensor, or call this for each.")
  one_hot = _OneHot(ask.ys[0], index, axis)
  built = ask.product([one_hot]).build(strict=unconnected == "error")
  return tensors.pack(x, [
      arguments.shaped(ask.graph, leaf, parts, unconnected)
      for leaf, parts in ask.by_leaf(built.gradients)])


class _OneHot:
  """The cotangent that is one at the class of each example."""

  def __init__(self, y, index, axis):
    self._y = y
    rank = y.shape.ndims
    if rank is None or not isinstance(axis, (int, np.integer)) or not (
        -rank <= axis < rank):
      raise errors.ArgumentError(
          "y = {} has no axis {!r}.".format(tensors.describe(y), axis),
          "It is the axis that counts classes, and the rank has to be known.",
          "Pass logits of shape [B, classes] and axis=-1.")
    self._axis = axis % rank
    examples = y.shape[:self._axis].concatenate(y.shape[self._axis + 1:])
    if isinstance(index, (tf.Tensor, str)) or _tf.is_variable(index):
      self._index = tensors.read_of(tensors.resolve(index, y.graph, "index"))
      key, dtype = self._index.name, self._index.dtype.base_dtype
    else:
      self._index = products.array_of(index, errors.ArgumentError, "index")
      key = self._index.dtype.str, self._index.shape, self._index.tobytes()
      dtype = tf.as_dtype(self._index.dtype)
    shape = tf.TensorShape(self._index.shape)
    self.key = ("class", key, self._axis)
    if dtype not in (tf.int32, tf.int64) or not (
        shape.ndims == 0 or shape.is_compatible_with(examples)):
      raise errors.ArgumentError(
          "index ({}, {}) chooses no class of {}.".format(
              dtype.name, tensors.format_shape(shape), tensors.describe(y)),
          "It is one int32 or int64 number for all examples, or one for each.",
          "Pass an index of shape [] or {}.".format(
              tensors.format_shape(examples)))

  def tensor(self):
    y = tensors.read_of(self._y)
    index = tf.convert_to_tensor(self._index)
    shape = tf.shape(y, out_type=index.dtype)
    examples = tf.concat([shape[:self._axis], shape[self._axis + 1:]], 0)
    told = errors.INDEX_OF_CLASS.format(index.name, y.name)
    inside = tf.reduce_all((index >= 0) & (index < shape[self._axis]))
    fits = tf.logical_or(
        tf.equal(tf.rank(index), 0), tf.reduce_all(tf.equal(
            tf.size(index), tf.cast(tf.reduce_prod(examples), tf.int32))))
    with tf.control_dependencies([tf.Assert(inside & fits, [told, index])]):
      index = tf.broadcast_to(index, examples)
    return tf.one_hot(index, tf.shape(y)[self._axis], axis=self._axis,
                      dtype=y.dtype)
