"""Derivatives of each row of a batch by its own row of x."""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import arguments
from gradfeed.derivatives import coupling_probes
from gradfeed.derivatives import jacobians
from gradfeed.derivatives import pullbacks
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import nest
from gradfeed.graph import tensors


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
  arguments.check_chunk(chunk)
  ask = arguments.Request(y, x, stop_gradients)
  jacobians.refuse_real_parts(ask)
  for leaf in ask.ys:
    for other in ask.xs:
      _check_rows(leaf, other)
  return nest.pack(y, [nest.pack(x, _blocks(
      ask, leaf, unconnected, coupled, chunk)) for leaf in ask.ys])


def check_rows(role, leaf):
  if leaf.shape.ndims == 0 or not isinstance(leaf, tensors.Dense):
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
  linear = pullbacks.Pullback(
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
      y, x, part, coupled, coupling_probes.check(linear, x, probed.get(x.name)))
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


def _width(y):
  return pullbacks.numbers(y)[1]


def _number(y):
  rows, width, _ = pullbacks.numbers(y)
  if isinstance(rows, int):
    return rows * width
  with _tf.building(y.graph):
    return rows * width


def _row_units(scratch, y):
  """One element of each row at once: the cotangents for independent rows."""
  rows, width, shape = pullbacks.held_numbers(scratch, y)

  def unit(i):
    row = tf.one_hot(i, width, dtype=y.dtype)
    return [tf.reshape(tf.tile(row[tf.newaxis], [rows, 1]), shape)]

  return unit


def _single_units(scratch, y):
  """One element of one row: the cotangents for rows that are coupled."""
  rows, width, shape = pullbacks.held_numbers(scratch, y)
  return lambda i: [tf.reshape(
      tf.one_hot(i, rows * width, dtype=y.dtype), shape)]


def _own_row(scratch, y):
  """What to keep of the gradient of element i: the row that it is in."""
  rows, width, _ = pullbacks.held_numbers(scratch, y)

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

  return cache.cached(
      y.graph, ("blocks", y.name, x.name, stacked.name, bool(check)), build)


def _zero_blocks(y, x):
  def build():
    with _tf.building(y.graph):
      return tf.zeros(tf.concat([
          tf.shape(tensors.read_of(y)),
          tf.shape(tensors.read_of(x))[1:]], 0), x.dtype)

  return cache.cached(y.graph, ("zero blocks", y.name, x.name), build)
