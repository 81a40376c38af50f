"""Builds the derivative of a model that a word says, of the class meant."""

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


def element(y, index, name="--class_index"):
  """Builds `y[..., index]`, the score of one class.

  Args:
    y: `tf.Tensor`, `[..., C]`.
    index: int, from -C to C - 1; None for `y` itself.
    name: str, what `index` is called in an error.

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
        "{}={} is not an element of {}.".format(
            name, index, tensors.describe(y)),
        "It has no axis." if rank == 0 else
        "Its last axis has {}, counted from 0.".format(size),
        "Leave {} out.".format(name) if rank == 0 else
        "Use {0}=0 to {0}={1}.".format(name, size - 1))
  with y.graph.as_default():
    return tf.identity(
        y[..., index], name="{}_class_{}".format(y.op.name, index))


def select_class(y, index, name="--class_index"):
  """Selects the elements of `y` that a choice of a class says.

  Args:
    y: `tf.Tensor`, scores with the classes on the last axis.
    index: None for `y` itself; int, or a str of one, as in `element`; "top"
      for the greatest score in each row; or another str, the name of the class
      of each point where the points are.
    name: str, what `index` is called in an error.

  Returns:
    (`tf.Tensor`; the placeholder that the class of each point is fed to, or
    None).

  Raises:
    ArgumentError: `y` has no such class.
  """
  if index is None:
    return y, None
  if index == "top":
    return pick_class(y, name=name), None
  try:
    return element(y, int(index), name), None
  except ValueError as error:
    if isinstance(error, errors.GradfeedError):
      raise
  with y.graph.as_default():
    class_of_point = tf.placeholder(
        tf.int64, [None] if y.shape.ndims == 2 else [], name="class_index")
  return pick_class(y, class_of_point, name), class_of_point


def pick_class(y, index=None, name="--class_index"):
  """Builds the score of the class of each row of `y`.

  Args:
    y: `tf.Tensor`, `[B, C]` or `[C]`.
    index: int64 `tf.Tensor`, `[B]` or `[]`; None for the class with the
      greatest score in each row, held constant.
    name: str, what the class is called in an error.

  Returns:
    `tf.Tensor`, `[B]` or `[]`.

  Raises:
    ArgumentError: `y` has no classes in rows.
  """
  if y.shape.ndims not in (1, 2):
    raise errors.ArgumentError(
        "{} cannot be chosen for each point in {}.".format(
            name, tensors.describe(y)),
        "That is for scores of shape [B, C] or [C].",
        "Give a number, which is an element of the last axis.")
  with y.graph.as_default():
    if index is None:
      index = tf.argmax(y, axis=-1)
    if y.shape.ndims == 1:
      return tf.gather(y, index)
    numbers = tf.range(tf.shape(y, out_type=tf.int64)[0])
    return tf.gather_nd(y, tf.stack([numbers, index], axis=1))
