"""Jacobians, and the products of a Jacobian with directions of x."""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import arguments
from gradfeed.derivatives import pullbacks
from gradfeed.derivatives import result_forms
from gradfeed.derivatives import vjps
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import nest
from gradfeed.graph import tensors


def jacobian(y, x, stop_gradients=None, unconnected="error", chunk=None):
  """Builds dy/dx, all elements of y by all elements of x; once.

  Row i is the product of the i-th unit cotangent with the Jacobian: what
  `gradient(y_i, x)` gives for that element of y. The number of ops does not
  grow with the number of elements: all rows are computed together, by ops on
  whole stacks where TensorFlow has them and by a loop where it has not.

  Args:
    y: floating or complex `tf.Tensor` of any shape, known or not, variable,
      name, or nested lists, tuples and dicts of them.
    x: what to differentiate by, as in `gradient`.
    stop_gradients: tensors to hold constant, or None.
    unconnected: "error", "zero" or "none", as in `gradient`.
    chunk: int, how many rows are computed at a time, or None for all. Memory
      grows with it: each row takes what one gradient takes.

  Returns:
    The structure of `y`, with the structure of `x` in the place of each y: a
    `tf.Tensor` of shape y.shape + x.shape and the dtype of x, in units of `y`
    per unit of `x`. By a `tf.SparseTensor`: y.shape + [number of values]. Rows
    of a complex Jacobian are conjugated as in `tf.gradients`.

  Raises:
    The same errors as `gradient`.
    ArgumentError: `chunk` is no positive int; or y is complex and x real, where
      a row of `tf.gradients` is only the real part.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [2])
    ...   f = gf.function(x, gf.jacobian(tf.stack([x[0] * x[1], x[1]]), x))
    ...   print(f([3.0, 5.0]))
    [[5. 3.]
     [0. 1.]]
  """
  arguments.check_unconnected(unconnected)
  arguments.check_chunk(chunk)
  ask = arguments.Request(y, x, stop_gradients)
  refuse_real_parts(ask)
  linears = [pullbacks.Pullback(
      ask.graph, [leaf], ask.xs, ask.stops, unconnected == "error")
             for leaf in ask.ys]
  return nest.pack(y, [nest.pack(x, rows(
      ask, linear, unconnected, chunk, linear.remember))
                          for linear in linears])


def refuse_real_parts(ask):
  for y in ask.ys:
    for x in ask.xs:
      if y.dtype.is_complex and not x.dtype.is_complex:
        raise errors.ArgumentError(
            "No Jacobian of {} by {}.".format(
                tensors.describe(y), tensors.describe(x)),
            "y is complex and x is real: the rows of tf.gradients are the "
            "real part of the derivative alone.",
            "Take tf.math.real(y) and tf.math.imag(y), and the Jacobian of "
            "each.")


def rows(ask, linear, unconnected, chunk, remember):
  """dy/dx for one leaf of y.

  Args:
    ask: `arguments.Request` with the leaves of x.
    linear: `pullbacks.Pullback` of that y.
    unconnected: as in `gradient`.
    chunk: as in `jacobian`.
    remember: function that takes the list of results, one for each part of x.

  Returns:
    list with a `tf.Tensor` or None for each leaf of x.
  """
  y, = linear.ys
  stacked = linear.stacked(
      ("jacobian",), lambda: size_of(y), lambda scratch: _units(scratch, y),
      chunk)
  shaped = [None if part is None else _reshaped(y, x, part)
            for x, part in zip(linear.xs, stacked)]
  remember(shaped)
  return [_in_form(y, leaf, parts, unconnected)
          for leaf, parts in ask.by_leaf(shaped)]


def jvp(y, x, v, stop_gradients=None, unconnected="error"):
  """Builds J v: how y changes when x moves along v.

  The derivative of a product of cotangents with the Jacobian by those
  cotangents, in which it is linear: the cost of two or three gradients, however
  large y is. Where TensorFlow cannot differentiate that product (an op without
  a second derivative), the Jacobian is built and multiplied with v.

  Args:
    y: as in `jacobian`.
    x: as in `jacobian`.
    v: the structure of `x` with a tensor, placeholder, variable, name or array
      of exactly the shape and dtype of each x. An array is part of the graph:
      for many directions pass a placeholder and feed it.
    stop_gradients: tensors to hold constant, or None.
    unconnected: "error", "zero" or "none": what stands for a y that depends on
      no x, and whether an x is refused that no y depends on.

  Returns:
    The structure of `y`, with a `tf.Tensor` of the shape and dtype of each y,
    in units of `y` per unit of `x`, times `v`. Not conjugated, also where y is
    complex: the limit of (y(x + h v) - y(x)) / h.

  Raises:
    The same errors as `gradient`.
    TangentError: a v that does not have the shape or dtype of its x.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [2])
    ...   v = tf.placeholder(tf.float64, [2])
    ...   f = gf.function([x, v], gf.jvp(x * x, x, v))
    ...   print(f([3.0, 5.0], [1.0, 10.0]))
    [  6. 100.]
  """
  arguments.check_unconnected(unconnected)
  ask = arguments.Request(y, x, stop_gradients)
  tangents = arguments.tangents(v, x, ask.xs, ask.graph)
  linear = pullbacks.Pullback(
      ask.graph, ask.ys, ask.xs, ask.stops, unconnected == "error")
  pushed = _pushed(linear, tangents)
  if pushed is None:
    pushed = [_contracted(ask, leaf, tangents) for leaf in ask.ys]
  pushed = [_moved(ask.graph, component, result, unconnected)
            for component, result in zip(linear.ys, pushed)]
  linear.remember_moved(pushed)
  return nest.pack(y, pushed)


def _pushed(linear, tangents):
  """J v for each y, None where it is zero; None where there is no such way."""
  kept = [(tensors.Dense(result), tangent)
          for result, tangent in zip(linear.results, tangents)
          if result is not None]
  if not kept:
    return [None] * len(linear.ys)
  backward = vjps.VJP(
      linear.graph, [component for component, _ in kept],
      [tensors.Dense(seed) for seed in linear.seeds],
      [tangent for _, tangent in kept], [], {})
  if backward.hides_something():
    return None
  try:
    pushed = backward.build(strict=False).gradients
  except (errors.MissingGradientError, errors.UnsupportedGraphError):
    return None
  return [pullbacks.dense(linear.graph, *pair) for pair in zip(
      pushed, linear.ys)]


def _contracted(ask, y, tangents):
  """J v from J, for one leaf of y."""
  linear = pullbacks.Pullback(ask.graph, [y], ask.xs, ask.stops, False)
  y, = linear.ys
  parts = [linear.stacked(
      ("jacobian",), lambda: size_of(y), lambda scratch: _units(scratch, y))]
  if y.dtype.is_complex:  # By their conjugates the rows may differ.
    parts.append(linear.stacked(
        ("imaginary",), lambda: size_of(y),
        lambda scratch: _units(scratch, y, 1j)))
  if all(rows is None for rows in parts[0]):
    return None

  def moved(stacked):
    summed = [tf.reduce_sum(tf.reshape(
        tf.math.conj(rows) * tangent.tensor(), [size_of(y), -1]), 1)
              for rows, tangent in zip(stacked, tangents) if rows is not None]
    return tf.add_n([tf.math.real(part) for part in summed])

  def build():
    with _tf.building(ask.graph):
      summed = [moved(stacked) for stacked in parts]
      return tf.reshape(tf.complex(*summed) if y.dtype.is_complex else
                        summed[0], tf.shape(tensors.read_of(y)))

  return cache.cached(ask.graph, ("contracted", linear.key, tuple(
      tangent.key for tangent in tangents)), build)


def _moved(graph, y, result, unconnected):
  """One result of `jvp`, in the shape of its y."""
  if result is None:
    return None if unconnected == "none" else result_forms.zeros(graph, y)
  result.set_shape(y.shape)
  return result


def size_of(y):
  """The number of elements of y: int, or an int32 scalar tensor."""
  size = y.shape.num_elements()
  return tf.size(tensors.read_of(y)) if size is None else size


def _units(scratch, y, unit=1):
  """The unit cotangents of y, by their index."""
  if y.shape.is_fully_defined():
    size, shape = y.shape.num_elements(), y.shape.as_list()
  else:
    read = tensors.read_of(y)
    with _tf.building(y.graph):
      size, shape = tf.size(read), tf.shape(read)
    size, shape = scratch.placeholder_for(size), scratch.placeholder_for(shape)
  return lambda i: [tf.reshape(
      tf.one_hot(i, size, on_value=tf.constant(unit, y.dtype), dtype=y.dtype),
      shape)]


def _reshaped(y, x, rows):
  """`rows`, [y.size] + x.shape, as y.shape + x.shape."""
  def build():
    with _tf.building(y.graph):
      result = tf.reshape(rows, _joint_shape(y, x))
      result.set_shape(y.shape.concatenate(x.shape))
      return result

  return cache.cached(y.graph, ("rows", y.name, x.name, rows.name), build)


def _joint_shape(y, x):
  joint = y.shape.concatenate(x.shape)
  if joint.is_fully_defined():
    return joint.as_list()
  return tf.concat(
      [tf.shape(tensors.read_of(component)) for component in (y, x)], 0)


def _in_form(y, leaf, parts, unconnected):
  """The rows by the parts of one x, in the form of that x."""
  if all(part is None for part in parts) and unconnected == "none":
    return None
  points = leaf.differentiable()
  if len(points) == 1 and parts[0] is not None:
    return parts[0]

  def build():
    with _tf.building(y.graph):
      dense = [tf.zeros(_joint_shape(y, component), component.dtype)
               if part is None else part
               for part, component in zip(parts, points)]
      if isinstance(leaf, tensors.Partitioned):
        return tf.concat(dense, leaf.axis - leaf.shape.ndims)
      return dense[0]

  key = ("rows", y.name, leaf.name, type(leaf).__name__, tuple(
      part if part is None else part.name for part in parts))
  return cache.cached(y.graph, key, build)
