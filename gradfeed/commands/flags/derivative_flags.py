"""Builds the derivative that `--of` says, of the class of `--class_index`."""

import collections

from gradfeed._tf import tf
from gradfeed.derivatives.rows.batch_jacobians import batch_jacobian
from gradfeed.derivatives.gradients import gradient
from gradfeed.derivatives.gradients import value_and_gradient
from gradfeed.derivatives.hessians import hessian
from gradfeed.derivatives.jacobians import jacobian
from gradfeed import errors
from gradfeed.graph import tensors

Both = collections.namedtuple("Both", ["value", "gradient"])

#: What `--of` takes.
DERIVATIVES = ["gradient", "value", "value_and_gradient", "jacobian", "hessian"]


def derivative(of, y, x, coupled=False):
  """Builds the tensors that are evaluated.

  Args:
    of: str, one of `DERIVATIVES`. Of a y and an x with rows, the Jacobian and
      the Hessian are those of each row by itself.
    y: `tf.Tensor`.
    x: `tf.Tensor`.
    coupled: bool, as in `batch_jacobian`.

  Returns:
    `tf.Tensor`, or `Both`.
  """
  if of == "value":
    return y
  if of == "gradient":
    return gradient(y, x)
  if of == "value_and_gradient":
    return Both(*value_and_gradient(y, x))
  if has_rows(x):
    if of == "jacobian":
      return batch_jacobian(y, x, coupled=coupled)
    return batch_jacobian(gradient(y, x), x, coupled=coupled)
  return jacobian(y, x) if of == "jacobian" else hessian(y, x)


def has_rows(tensor):
  """Whether the first axis of a tensor is that of a batch."""
  return bool(tensor.shape.ndims) and (
      tf.TensorShape(tensor.shape).as_list()[0] in (None, 1))


def element(y, index):
  """Builds `y[..., index]`, the score of one class.

  Args:
    y: `tf.Tensor`, `[..., C]`.
    index: int, from -C to C - 1; None for `y` itself.

  Returns:
    `tf.Tensor`, `[...]`.

  Raises:
    ArgumentError: there is no such element.
  """
  if index is None:
    return y
  rank, size = y.shape.ndims, None
  if rank:
    size = tf.TensorShape(y.shape).as_list()[-1]
  if rank == 0 or (size is not None and not -size <= index < size):
    raise errors.ArgumentError(
        "--class_index={} is not an element of {}.".format(
            index, tensors.describe(y)),
        "It has no axis." if rank == 0 else
        "Its last axis has {}, counted from 0.".format(size),
        "Leave --class_index out." if rank == 0 else
        "Use --class_index=0 to --class_index={}.".format(size - 1))
  with y.graph.as_default():
    return tf.identity(
        y[..., index], name="{}_class_{}".format(y.op.name, index))


def pick_class(y, index=None):
  """Builds the score of the class of each row of `y`.

  Args:
    y: `tf.Tensor`, `[B, C]` or `[C]`.
    index: int64 `tf.Tensor`, `[B]` or `[]`; None for the class with the
      greatest score in each row, held constant.

  Returns:
    `tf.Tensor`, `[B]` or `[]`.

  Raises:
    ArgumentError: `y` has no classes in rows.
  """
  if y.shape.ndims not in (1, 2):
    raise errors.ArgumentError(
        "--class_index cannot be chosen for each point in {}.".format(
            tensors.describe(y)),
        "That is for scores of shape [B, C] or [C].",
        "Give a number, which is an element of the last axis.")
  with y.graph.as_default():
    if index is None:
      index = tf.argmax(y, axis=-1)
    if y.shape.ndims == 1:
      return tf.gather(y, index)
    numbers = tf.range(tf.shape(y, out_type=tf.int64)[0])
    return tf.gather_nd(y, tf.stack([numbers, index], axis=1))
