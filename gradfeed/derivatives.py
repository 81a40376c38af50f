"""The verbs: tensors in, tensors out, built once on the graph.

Everything is one product of a cotangent with a Jacobian (`products`); a verb
says what goes in and in which form it comes out.
"""

from gradfeed import _tf
from gradfeed import errors
from gradfeed import memos
from gradfeed import products
from gradfeed import tensors
from gradfeed._tf import tf

_UNCONNECTED = ("error", "zero", "none")


def gradient(y, x, grad_ys=None, stop_gradients=None, unconnected="error",
             sparse=False):
  """Builds d sum(y) / dx; the same op on every later call.

  Adds ops to the graph under `gradfeed/` on the first call and none
  afterwards, so it is safe in a loop. No op that is there is changed: with a
  `While`, `If`, `Case` or call of a function between x and y, that part is
  copied first, so that a session that has run goes on working.

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

  Returns:
    The structure of `x`, with a `tf.Tensor` of the shape and dtype of each x,
    in units of `y` per unit of `x`. A `tf.SparseTensor` gives one with the
    same indices. Complex derivatives are conjugated as in `tf.gradients`:
    2 conj(z) for z^2.

  Raises:
    DisconnectedError: no differentiable path leads from an x to y; says what
      cuts it and what to differentiate by instead. A refused call adds no op.
    MissingGradientError: an op between them has no registered gradient.
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
      y, x, grad_ys, stop_gradients, unconnected, sparse)[1]


def value_and_gradient(y, x, grad_ys=None, stop_gradients=None,
                       unconnected="error", sparse=False):
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
  if unconnected not in _UNCONNECTED:
    raise errors.ArgumentError(
        "unconnected={!r} is not known.".format(unconnected),
        "It says what stands for an x that y does not depend on.",
        "Use one of {}.".format(", ".join(map(repr, _UNCONNECTED))))
  graph = tensors.graph_of(y, x)
  ys, xs = _leaves(y, graph, "y"), _leaves(x, graph, "x")
  product = products.Product(
      graph, ys, xs, _cotangents(grad_ys, y, ys, graph),
      _stops(stop_gradients, graph), {})
  built = product.build(strict=unconnected == "error")
  parts = iter(built.gradients)
  shaped = [_shaped(graph, leaf, [next(parts) for _ in leaf.differentiable()],
                    unconnected, sparse) for leaf in xs]
  return tensors.pack(y, built.ys), tensors.pack(x, shaped)


def gradients(ys, xs, grad_ys=None, name="gradients",
              colocate_gradients_with_ops=False, gate_gradients=False,
              aggregation_method=None, stop_gradients=None,
              unconnected_gradients=tf.UnconnectedGradients.NONE):
  """Takes the place of `tf.gradients`: the same arguments and results.

  What differs: the second call with the same arguments returns the tensors of
  the first; a session that has run goes on working when `While`, `If` or
  calls of functions are differentiated; gradients of gathers are dense
  tensors, in which no row is counted twice.

  Args:
    ys: tensor, variable, name, or list of them.
    xs: tensor, variable, name, or list of them.
    grad_ys: list of tensors, arrays or None, one for each y; None for ones.
    name: str, the name scope, inside `gradfeed/`.
    colocate_gradients_with_ops: as in `tf.gradients`.
    gate_gradients: as in `tf.gradients`.
    aggregation_method: as in `tf.gradients`.
    stop_gradients: tensors to hold constant, or None.
    unconnected_gradients: `tf.UnconnectedGradients` or its value.

  Returns:
    A list with d sum(ys) / dx for each x: `tf.Tensor` of the shape and dtype
    of x, or None where `ys` does not depend on it.

  Raises:
    The same errors as `gradient`, save `DisconnectedError`.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x, z = tf.placeholder(tf.float64, []), tf.constant(1.0)
    ...   dx, dz = gf.gradients(x * x, [x, z])
    ...   print(session.run(dx, {x: 3.0}), dz)
    6.0 None
  """
  unconnected = _unconnected_gradients(unconnected_gradients)
  graph = tensors.graph_of(ys, xs)
  points_y = _leaves(ys, graph, "ys")
  points_x = _leaves(xs, graph, "xs")
  settings = dict(
      name=name, colocate_gradients_with_ops=colocate_gradients_with_ops,
      gate_gradients=gate_gradients, aggregation_method=aggregation_method)
  product = products.Product(
      graph, points_y, points_x, _cotangents(grad_ys, ys, points_y, graph),
      _stops(stop_gradients, graph), settings)
  parts = iter(product.build(strict=False).gradients)
  return [_shaped(graph, leaf, [next(parts) for _ in leaf.differentiable()],
                  unconnected, sparse=False) for leaf in points_x]


def _unconnected_gradients(value):
  try:
    return tf.UnconnectedGradients(value).value
  except ValueError:
    raise errors.ArgumentError(
        "unconnected_gradients={!r} is not known.".format(value),
        "It says what stands for an x that the ys do not depend on.",
        "Use tf.UnconnectedGradients.NONE or .ZERO.") from None


def _leaves(structure, graph, role):
  leaves = tensors.flatten(structure)
  if not leaves:
    raise errors.ArgumentError(
        "{} is empty.".format(role), "There is nothing to differentiate.",
        "Pass at least one tensor.")
  return [tensors.resolve(leaf, graph, role) for leaf in leaves]


def _stops(stop_gradients, graph):
  if stop_gradients is None:
    return []
  return [point for leaf in _leaves(stop_gradients, graph, "stop_gradients")
          for point in leaf.differentiable()]


def _cotangents(grad_ys, structure, ys, graph):
  if grad_ys is None:
    return [None] * len(ys)
  if not tensors.is_container(structure):
    values = (list(grad_ys) if isinstance(grad_ys, (list, tuple)) and
              len(grad_ys) == 1 else [grad_ys])
  else:
    try:
      values = tensors.flatten_as(structure, grad_ys, "grad_ys")
    except errors.FeedError as error:
      raise errors.CotangentError(
          "grad_ys does not have the structure of y.", error.why,
          "Pass the cotangents in the same lists, tuples and dicts as the "
          "ys.") from None
  return [None if value is None else products.Cotangent(
      _tf.dereference(value), y, graph) for value, y in zip(values, ys)]


def _shaped(graph, leaf, parts, unconnected, sparse):
  """The gradients of the parts of one x, in the form of that x."""
  key = ("shaped", leaf.name, type(leaf).__name__, unconnected, sparse,
         tuple(products.name_of(part) for part in parts))
  if all(part is None for part in parts) and unconnected != "zero":
    return None
  if isinstance(leaf, tensors.Point) and isinstance(parts[0], tf.Tensor):
    return parts[0]

  def build():
    memos.require_open(graph, "The gradient by {}".format(leaf))
    with _tf.building(graph):
      points = leaf.differentiable()
      if sparse and len(parts) == 1 and isinstance(
          parts[0], tf.IndexedSlices):
        return _summed(parts[0])
      dense = [_dense(part, point) for part, point in zip(parts, points)]
      if isinstance(leaf, tensors.Partitioned):
        return tf.concat(dense, leaf.axis)
      if isinstance(leaf, tensors.Sparse):
        return tf.SparseTensor(leaf.indices.tensor, dense[0],
                               leaf.dense_shape.tensor)
      return dense[0]

  return memos.once(graph, key, build)


def _dense(part, point):
  """A dense tensor of the value's shape; rows of equal indices are summed."""
  if part is None:
    if point.shape.is_fully_defined():
      return tf.zeros(point.shape, point.dtype)
    return tf.zeros_like(tensors.read_of(point))
  if isinstance(part, tf.IndexedSlices):
    rows = point.shape.as_list()[0] if point.shape.ndims else None
    if rows is None:
      rows = tf.shape(tensors.read_of(point), out_type=part.indices.dtype)[0]
    part = tf.math.unsorted_segment_sum(part.values, part.indices, rows)
    part.set_shape(point.shape)
  return part


def _summed(part):
  indices, positions = tf.unique(part.indices)
  values = tf.math.unsorted_segment_sum(
      part.values, positions, tf.size(indices))
  return tf.IndexedSlices(values, indices, part.dense_shape)
