"""Gradients and vector-Jacobian products: tensors in, tensors out, built once.

Each is one product of a cotangent with a Jacobian (`vjps`); the functions here
say what goes in and in which form it comes out.
"""

import re

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import arguments
from gradfeed.derivatives import preconditions
from gradfeed.derivatives import result_forms
from gradfeed.derivatives.vectors import flat_forms
from gradfeed import errors
from gradfeed.graph import lookup
from gradfeed.graph import nest
from gradfeed.graph import tensors

#: What `tf.AggregationMethod` has constants for.
_AGGREGATION_METHODS = (
    tf.AggregationMethod.ADD_N, tf.AggregationMethod.EXPERIMENTAL_TREE,
    tf.AggregationMethod.EXPERIMENTAL_ACCUMULATE_N)


@_tf.unconverted
def gradient(y, x, grad_ys=None, stop_gradients=None, unconnected="error",
             sparse=False, flat=False):
  """Builds d sum(y) / dx; the same op on every later call.

  Adds ops to the graph under `gradfeed/` on the first call and none
  afterwards, so it is safe in a loop, also where the same y is built anew. No
  op that is there is changed: with a `While`, `If`, `Case` or call of a
  function between x and y, that part is copied first, so that a session that
  has run goes on working.

  All elements of y are summed: with a mean over a batch in y, the gradient by
  one row is divided by the number of rows. The gradient of a gradient is that
  of its sum, which is the row sums of the Hessian, not the Hessian.

  Args:
    y: floating or complex `tf.Tensor` of any shape, variable, name such as
      "loss:0", or nested lists, tuples and dicts of them, which are summed.
    x: what to differentiate by: `tf.Tensor`, ref, resource or partitioned
      variable, `tf.SparseTensor` (its values), name, or nested structure.
    grad_ys: None for ones, or the cotangents: tensors or arrays in the
      structure of `y`, each of exactly its y's shape and dtype.
    stop_gradients: tensors to hold constant, or None.
    unconnected: "error", "zero" (zeros of x's shape) or "none" (None) for an
      x that y does not depend on.
    sparse: bool; leave the gradient of a gather as a `tf.IndexedSlices`, with
      the rows of equal indices summed, instead of a dense tensor.
    flat: bool; give one vector for all of `x`, in the order of `flatten`. All
      have to have one dtype.

  Returns:
    The structure of `x`, with a `tf.Tensor` of the shape and dtype of each x,
    or, with `flat`, one of shape [n]; in units of `y` per unit of `x`. A
    `tf.SparseTensor` gives one with the same indices. Complex derivatives are
    conjugated as in `tf.gradients`: 2 conj(z) for z^2.

  Raises:
    DisconnectedError: no differentiable path leads from an x to y; says what
      cuts it and what to differentiate by instead. A refused call adds no op.
    MissingGradientError: an op between them has no registered gradient.
    IncompleteGradientError: an op between them is a smooth function of an input
      that its gradient passes nothing to; says which, and how to state that
      this part is meant to be constant.
    CotangentError: a value of `grad_ys` does not fit its y.
    FinalizedGraphError: the gradient is not built yet and the graph closed.
    GraphMismatchError, EagerModeError, TensorNotFoundError, ArgumentError:
      what was passed is not a tensor of one graph.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [])
    ...   dx = gf.gradient(x ** 3, x)
    ...   print(session.run(dx, {x: 2.0}))
    12.0
  """
  return value_and_gradient(
      y, x, grad_ys, stop_gradients, unconnected, sparse, flat)[1]


@_tf.unconverted
def value_and_gradient(y, x, grad_ys=None, stop_gradients=None,
                       unconnected="error", sparse=False, flat=False):
  """Builds (y, d sum(y) / dx) that one forward pass computes together.

  Where a part of the graph had to be copied for the gradient (`While`, `If`,
  calls of functions), the returned y is the copy's: the gradient and the
  value come from the same pass, and from the same dropout mask.

  Args:
    y: as in `gradient`.
    x: as in `gradient`.
    grad_ys: as in `gradient`.
    stop_gradients: as in `gradient`.
    unconnected: as in `gradient`.
    sparse: as in `gradient`.
    flat: as in `gradient`; it does not concern y.

  Returns:
    (y, dy/dx): tensors in the structures of `y` and of `x`.

  Raises:
    The same errors as `gradient`.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [])
    ...   f = gf.function(x, gf.value_and_gradient(x ** 3, x))
    ...   y, dx = f(2.0)
    ...   print(y, dx)
    8.0 12.0
  """
  arguments.check_unconnected(unconnected)
  arguments.check_flag("sparse", sparse)
  request = arguments.Request(
      y, x, stop_gradients, nested=True, weights=grad_ys)
  flat_forms.check(flat, request, unconnected, sparse)
  built = request.product(
      arguments.cotangents(grad_ys, y, request.ys,
                           request.graph)).build(strict=unconnected == "error")
  return nest.pack(y, built.ys), flat_forms.packed(
      request, request.shaped(built.gradients, unconnected, sparse), flat)


def value_and_gradient_as_built(ys, xs, grad_ys=None, unconnected="error"):
  """`value_and_gradient` of lists, also where a part would be left out.

  Args:
    ys: list of `tf.Tensor`.
    xs: list of `tf.Tensor`.
    grad_ys: as in `gradient`.
    unconnected: as in `gradient`.

  Returns:
    (list with a `tf.Tensor` for each of ys, list with the gradient by each x).
  """
  request = arguments.Request(ys, xs)
  built = request.product(
      arguments.cotangents(grad_ys, ys, request.ys, request.graph), None,
      preconditions.ALLOWED).build(strict=unconnected == "error")
  return list(built.ys), request.shaped(built.gradients, unconnected)


@_tf.unconverted
def vjp(y, x, v, stop_gradients=None, unconnected="error", sparse=False,
        flat=False):
  """Builds v^T J, the product of a cotangent with the Jacobian of y by x.

  `gradient` with weights: sum(v * y) is differentiated, v held constant.

  Args:
    y: as in `gradient`.
    x: as in `gradient`.
    v: the structure of `y` with a tensor, placeholder, variable, name or array
      of exactly the shape and dtype of each y. An array is part of the graph:
      for many cotangents pass a placeholder and feed it.
    stop_gradients: as in `gradient`.
    unconnected: as in `gradient`.
    sparse: as in `gradient`.
    flat: bool; give one vector for all of `x`, as in `gradient`. `v` belongs to
      `y`, and stays as it is.

  Returns:
    The structure of `x`, with a `tf.Tensor` of the shape and dtype of each x,
    or, with `flat`, one of shape [n]; in units of `v` times `y` per unit of
    `x`.

  Raises:
    The same errors as `gradient`.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [2])
    ...   v = tf.placeholder(tf.float64, [2])
    ...   f = gf.function([x, v], gf.vjp(x * x, x, v))
    ...   print(f([3.0, 5.0], [1.0, 10.0]))
    [  6. 100.]
  """
  arguments.check_unconnected(unconnected)
  arguments.check_flag("sparse", sparse)
  request = arguments.Request(y, x, stop_gradients, nested=True, weights=v)
  flat_forms.check(flat, request, unconnected, sparse)
  cotangents = arguments.cotangents(v, y, request.ys, request.graph,
                                    "cotangent v")
  if None in cotangents:
    raise errors.CotangentError(
        "There is no v for y = {}.".format(tensors.describe(
            request.ys[cotangents.index(None)])),
        "It is what the rows of the Jacobian are weighed with.",
        "Pass a tensor or an array of the shape of y; or use `gradient`, which "
        "takes ones.")
  built = request.product(cotangents).build(strict=unconnected == "error")
  return flat_forms.packed(
      request, request.shaped(built.gradients, unconnected, sparse), flat)


@_tf.unconverted
def gradients(ys, xs, grad_ys=None, name="gradients",
              colocate_gradients_with_ops=False, gate_gradients=False,
              aggregation_method=None, stop_gradients=None,
              unconnected_gradients=tf.UnconnectedGradients.NONE, dense=True):
  """Takes the place of `tf.gradients`: the same arguments and results.

  What differs: the second call with the same arguments returns the tensors of
  the first; a session that has run goes on working when `While`, `If` or
  calls of functions are differentiated; gradients of gathers are dense
  tensors, in which no row is counted twice. They are `tf.IndexedSlices` where
  one is among `grad_ys`, and where an optimizer of TensorFlow asks for them,
  which changes the rows of slices alone.

  Args:
    ys: tensor, variable, name, or list of them. Integers, booleans and numbers
      that are no tensors are constant.
    xs: tensor, variable, name, or list of them. In the body of a function, a
      loop or a branch also what it reads from the graphs around it.
    grad_ys: list of tensors, arrays, `tf.IndexedSlices` or None, one for each
      y; None for ones, which a complex y does not take.
    name: str, the name scope, inside `gradfeed/`.
    colocate_gradients_with_ops: as in `tf.gradients`.
    gate_gradients: as in `tf.gradients`.
    aggregation_method: as in `tf.gradients`.
    stop_gradients: tensors to hold constant, or None.
    unconnected_gradients: `tf.UnconnectedGradients` or its value.
    dense: bool; False leaves the gradient of a gather as `tf.gradients` gives
      it, a `tf.IndexedSlices` in which an index may be there twice.

  Returns:
    A list with d sum(ys) / dx for each x: `tf.Tensor` of the shape and dtype
    of x, or None where `ys` does not depend on it. A `tf.RaggedTensor` gives
    one with the same rows.

  Raises:
    The same errors as `gradient`, save `DisconnectedError`, and
    `IncompleteGradientError`, in whose place is a `GradfeedWarning`.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x, z = tf.placeholder(tf.float64, []), tf.constant(1.0)
    ...   dx, dz = gf.gradients(x * x, [x, z])
    ...   print(session.run(dx, {x: 3.0}), dz)
    6.0 None
  """
  unconnected = _unconnected_gradients(unconnected_gradients)
  _check_settings(name, aggregation_method, {
      "colocate_gradients_with_ops": colocate_gradients_with_ops,
      "gate_gradients": gate_gradients, "dense": dense})
  # Those of `tf.gradients` itself are left out: what `gradient` and the others
  # built without any serves here too.
  settings = {key: value for key, value in [
      ("name", name != "gradients" and name),
      ("colocate_gradients_with_ops", colocate_gradients_with_ops),
      ("gate_gradients", gate_gradients),
      ("aggregation_method", aggregation_method)] if value}
  sources = nest.flatten(xs)
  if not sources:
    return []
  targets, weights = _targets(ys, grad_ys)
  request = arguments.Request(
      targets or sources, list(map(result_forms.flat_values, sources)),
      stop_gradients, ("ys", "xs"), nested=True, weights=weights)
  every = list(zip(request.ys, weights))
  weights = request.without_constants(weights) if targets else []
  if weights:
    _check_weights(request.ys, weights)
    found = request.product(
        arguments.cotangents_of_leaves(weights, request.ys, request.graph),
        settings, preconditions.WARNED_OF).build(strict=False).gradients
  else:
    found = [None] * len(request.components())
  found = [arguments.of_itself(x, every) if gradient is None else gradient
           for x, gradient in zip(request.components(), found)]
  # TensorFlow's optimizers take slices apart.
  if not dense or lookup.is_called_by_tensorflow():
    sparse = result_forms.AS_BUILT
  else:
    sparse = any(isinstance(weight, tf.IndexedSlices) for weight in weights)
  return list(map(result_forms.ragged, sources,
                  request.shaped(found, unconnected, sparse)))


def _targets(ys, grad_ys):
  """What `gradients` differentiates, and its cotangents, as lists.

  Numbers that are no tensors are left out: they are constant.

  Args:
    ys: as in `gradients`.
    grad_ys: as in `gradients`.

  Returns:
    (list of tensors, variables and names; list with what was passed as the
    cotangent of each, or None).
  """
  leaves = nest.flatten(ys)
  pairs = [(result_forms.numbers(y), result_forms.flat_values(weight))
           for y, weight in zip(
               leaves, arguments.weights(grad_ys, ys, len(leaves)))
           if not isinstance(y, (np.ndarray, np.generic, int, float, complex))]
  return [y for y, _ in pairs], [weight for _, weight in pairs]


def _check_weights(ys, weights):
  """Refuses a complex y without a cotangent, as `tf.gradients` does."""
  for y, weight in zip(ys, weights):
    if weight is None and y.dtype.is_complex:
      raise errors.ArgumentError(
          "Gradients of complex tensors such as {} must set grad_ys (y.dtype = "
          "{}).".format(tensors.describe(y), y.dtype.name),
          "TensorFlow takes ones for real tensors alone.",
          "Pass grad_ys, such as [tf.ones_like(y)]; or use `gradient`, which "
          "takes ones.")


def _check_settings(name, aggregation_method, flags):
  """Refuses further arguments that `tf.gradients` cannot use.

  Args:
    name: as in `gradients`.
    aggregation_method: as in `gradients`.
    flags: dict from the name of each argument that is true or false to it.
  """
  if name is not None and not (
      isinstance(name, str) and re.match(r"[\w.\-/>]*$", name)):
    raise errors.ArgumentError(
        "name={!r} is no name of a scope.".format(name),
        "It stands before the names of the ops that are added.",
        "Pass a str of letters, digits and any of '_', '.', '-', '/'.")
  if aggregation_method is not None and not (
      isinstance(aggregation_method, int) and
      aggregation_method in _AGGREGATION_METHODS):
    raise errors.ArgumentError(
        "aggregation_method={!r} is not known.".format(aggregation_method),
        "It says how gradients are added up.",
        "Pass None, or a constant of tf.AggregationMethod.")
  for argument, value in flags.items():
    if value is not None:
      arguments.check_flag(argument, value)


def _unconnected_gradients(value):
  """What `unconnected` is for a `tf.UnconnectedGradients` or its value."""
  try:
    return tf.UnconnectedGradients(value).value
  except (TypeError, ValueError):
    raise errors.ArgumentError(
        "unconnected_gradients={!r} is not known.".format(value),
        "It says what stands for an x that the ys do not depend on.",
        "Use tf.UnconnectedGradients.NONE or .ZERO.") from None
