"""Jacobians, and the products of a Jacobian with directions of x."""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import arguments
from gradfeed.derivatives import forward_jacobians
from gradfeed.derivatives import preconditions
from gradfeed.derivatives import pullbacks
from gradfeed.derivatives import result_forms
from gradfeed.derivatives.sparsity import coloured_products
from gradfeed.derivatives.sparsity import patterns
from gradfeed.derivatives.vectors import flat_forms
from gradfeed.derivatives import vjps
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import nest
from gradfeed.graph import tensors


@_tf.unconverted
def jacobian(y, x, stop_gradients=None, unconnected="error", chunk=None,
             flat=False, mode="auto", sparsity=None, sparse=False):
  """Builds dy/dx, all elements of y by all elements of x; once.

  Row i is the product of the i-th unit cotangent with the Jacobian: what
  `gradient(y_i, x)` gives for that element of y. Column j is the product of the
  Jacobian with the j-th unit direction of x: what `jvp` gives. The number of
  ops does not grow with the number of elements: all rows, or all columns, are
  computed together, by ops on whole stacks where TensorFlow has them and by a
  loop where it has not.

  Where most elements are known to be zero, `sparsity` says which: one product
  gives all columns that have no row in common, or all rows that have no column
  in common. A banded Jacobian of three diagonals takes three of them, whatever
  its size, and two by which each evaluation checks what was stated.

  Args:
    y: floating or complex `tf.Tensor` of any shape, known or not, variable,
      name, or nested lists, tuples and dicts of them.
    x: what to differentiate by, as in `gradient`.
    stop_gradients: tensors to hold constant, or None.
    unconnected: "error", "zero" or "none", as in `gradient`.
    chunk: int, how many rows or columns are computed at a time, or None for
      all. Memory grows with it: each takes what one gradient takes.
    flat: bool; give one tensor for all of `x`, whose last axis is that of
      `flatten(x)`. All have to have one dtype.
    mode: "reverse" for rows, as `jax.jacrev`; "forward" for columns, as
      `jax.jacfwd`; "auto" for columns where `x` has less than half as many
      elements as a y (unknown axes being as long in both), everything is real,
      and no op between them has a gradient of its own (`tf.custom_gradient`),
      which need not be linear. With `sparsity`, for the fewer products.
    sparsity: which elements may differ from zero, for one y and one x, real and
      dense: an array or a matrix of scipy.sparse of shape [elements of y,
      elements of x] that is zero where the Jacobian is, an array of shape
      y.shape + x.shape, or a tuple of two arrays of ints: rows and columns.
      Too many do no harm. None for all. "auto" for those that the ops between
      x and y prove (slices, shifts, what works by element or by row), where
      shapes are known, and for all where these prove nothing.
    sparse: bool; with `sparsity`, give a `tf.SparseTensor` of shape [elements
      of y, elements of x], with a value for each place of the pattern, row by
      row.

  Returns:
    The structure of `y`, with the structure of `x` in the place of each y: a
    `tf.Tensor` of shape y.shape + x.shape and the dtype of x, in units of `y`
    per unit of `x`. With `flat`, one of shape y.shape + [n] for each y. By a
    `tf.SparseTensor`: y.shape + [number of values]. Rows of a complex Jacobian
    are conjugated as in `tf.gradients`.

  Raises:
    The same errors as `gradient`.
    ArgumentError: `chunk` is no positive int; or y is complex and x real, where
      a row of `tf.gradients` is only the real part; or `mode` is another one,
      or "forward" for complex tensors; or `sparsity` is no pattern of y by x.
    SparsityError: when the result is evaluated, there are elements where
      `sparsity` has none. Such as are less than 64 roundings of the largest
      row of the Jacobian (1e-5 of it in float32) may not be noticed.

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
  forward_jacobians.check_mode(mode)
  request = arguments.Request(y, x, stop_gradients)
  refuse_real_parts(request)
  flat_forms.check(flat, request, unconnected, sparse)
  pattern = stated_pattern(request, sparsity, sparse)
  if len(request.ys) > 1:  # All of them, before an op is built.
    strict = unconnected == "error"
    for leaf in request.ys:
      vjp = vjps.VJP(request.graph, [leaf], request.xs, [None], request.stops,
                     {})
      cache.cached(
          request.graph, ("checked", strict) + vjp.key(),
          lambda vjp=vjp: preconditions.check(vjp, vjp.trace(), strict))
  by_y = [pullbacks.Pullback(
      request.graph, [leaf], request.xs, request.stops, unconnected == "error")
          for leaf in request.ys]
  by_x = [rows(request, pullback, unconnected, chunk, pullback.remember, mode,
               pattern, sparse) for pullback in by_y]
  return nest.pack(y, [
      flat_forms.rows(request, pullback.ys[0], own) if flat else
      nest.pack(x, own) for pullback, own in zip(by_y, by_x)])


def refuse_real_parts(request):
  """Refuses a complex y with a real x, of which there is no Jacobian.

  Args:
    request: `arguments.Request`.
  """
  for y in request.ys:
    for x in request.xs:
      if y.dtype.is_complex and not x.dtype.is_complex:
        raise errors.ArgumentError(
            "No Jacobian of {} by {}.".format(
                tensors.describe(y), tensors.describe(x)),
            "y is complex and x is real: the rows of tf.gradients are the "
            "real part of the derivative alone.",
            "Take tf.math.real(y) and tf.math.imag(y), and the Jacobian of "
            "each.")


def stated_pattern(request, sparsity, sparse):
  """The pattern that a caller stated, or None; checks both arguments.

  Args:
    request: `arguments.Request`.
    sparsity, sparse: as in `jacobian`.

  Returns:
    `patterns.Pattern`, `patterns.AUTO` or None.
  """
  arguments.check_flag("sparse", sparse)
  if isinstance(sparsity, str) and sparsity == patterns.AUTO:
    if sparse:
      coloured_products.check_real(request)
    return patterns.AUTO
  if sparsity is not None:
    coloured_products.check_real(request)
    return patterns.stated(sparsity, request.ys[0], request.xs[0])
  if sparse:
    raise errors.ArgumentError(
        "sparse is True, and sparsity is None.",
        "Which elements are not zero has to be known when ops are built.",
        "Pass sparsity, or leave sparse out.")
  return None


def rows(request, pullback, unconnected, chunk, remember, mode="reverse",
         pattern=None, sparse=False):
  """dy/dx for one leaf of y.

  Args:
    request: `arguments.Request` with the leaves of x.
    pullback: `pullbacks.Pullback` of that y.
    unconnected, mode: as in `jacobian`.
    chunk: as in `jacobian`.
    remember: function that takes the list of results, one for each component
      of x, records them and returns those to give to the caller.
    pattern: as `stated_pattern` gives it.
    sparse: as in `jacobian`.

  Returns:
    list with a `tf.Tensor`, `tf.SparseTensor` or None for each leaf of x.
  """
  y, = pullback.ys
  if isinstance(pattern, str):
    pattern = coloured_products.found_pattern(request, pullback, sparse)
  if pattern is not None:
    x, found = pullback.xs[0], coloured_products.values(
        pullback, pattern, chunk, mode)
    if sparse:
      return [None if found is None and unconnected == "none" else
              coloured_products.as_sparse(remember([found])[0], pattern, y, x)]
    stacked = [None if found is None else
               coloured_products.scattered(found, pattern, y, x)]
  else:
    stacked = forward_jacobians.columns(pullback, chunk, mode)
  if stacked is None:
    stacked = pullback.stacked(
        ("jacobian",), lambda: pullbacks.size_of(y),
        lambda scratch: pullbacks.units(scratch, y), chunk)
  jacobians = [None if stack is None else _reshaped(y, x, stack)
               for x, stack in zip(pullback.xs, stacked)]
  return [_in_form(y, leaf, own, unconnected)
          for leaf, own in request.by_leaf(remember(jacobians))]


@_tf.unconverted
def jvp(y, x, v, stop_gradients=None, unconnected="error", flat=False):
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
    flat: bool; `v` is one vector of shape [n] for all of `x`, in the order of
      `flatten`. All have to have one dtype. The result has the form of `y`.

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
  request = arguments.Request(y, x, stop_gradients)
  flat_forms.check(flat, request)
  tangents = flat_forms.tangents(v, request, flat)
  pullback = pullbacks.Pullback(request.graph, request.ys, request.xs,
                                request.stops, unconnected == "error",
                                is_stacked=False)
  products = _by_pullback(pullback, tangents)
  if products is None:
    products = [_by_jacobian(request, leaf, tangents) for leaf in request.ys]
  products = [_jvp_in_form(request.graph, component, product, unconnected)
              for component, product in zip(pullback.ys, products)]
  return nest.pack(y, pullback.remember_jvp(products))


def _by_pullback(pullback, tangents):
  """J v as the derivative of a product of seeds with J by the seeds.

  Args:
    pullback: `pullbacks.Pullback` of all ys.
    tangents: list with a `cotangent_types.Cotangent` for each x.

  Returns:
    list with a `tf.Tensor` for each y, or None where it is zero; None if
    TensorFlow cannot differentiate the product.
  """
  connected = [(tensors.Dense(result), tangent)
               for result, tangent in zip(pullback.results, tangents)
               if result is not None]
  if not connected:
    return [None] * len(pullback.ys)
  transposed = vjps.VJP(
      pullback.graph, [component for component, _ in connected],
      [tensors.Dense(seed) for seed in pullback.seeds],
      [tangent for _, tangent in connected], [], {})
  if transposed.hides_something():
    return None
  try:
    products = transposed.build(strict=False).gradients
  except (errors.MissingGradientError, errors.UnsupportedGraphError):
    return None
  return [result_forms.dense_or_none(pullback.graph, *pair)
          for pair in zip(products, pullback.ys)]


def _by_jacobian(request, y, tangents):
  """J v for one leaf of y, from a Jacobian that is built; None for zero."""
  pullback = pullbacks.Pullback(
      request.graph, [y], request.xs, request.stops, False)
  y, = pullback.ys
  jacobians = [pullback.stacked(
      ("jacobian",), lambda: pullbacks.size_of(y),
      lambda scratch: pullbacks.units(scratch, y))]
  if y.dtype.is_complex:  # The rows for i may be no multiple of those for 1.
    jacobians.append(pullback.stacked(
        ("imaginary",), lambda: pullbacks.size_of(y),
        lambda scratch: pullbacks.units(scratch, y, 1j)))
  if all(stack is None for stack in jacobians[0]):
    return None

  def multiplied(stacked):
    by_x = [tf.reduce_sum(tf.reshape(
        tf.math.conj(stack) * tangent.tensor(), [pullbacks.size_of(y), -1]), 1)
            for stack, tangent in zip(stacked, tangents) if stack is not None]
    return tf.add_n([tf.math.real(product) for product in by_x])

  def build():
    with _tf.building(request.graph):
      products = [multiplied(stacked) for stacked in jacobians]
      return tf.reshape(tf.complex(*products) if y.dtype.is_complex else
                        products[0], tf.shape(tensors.read_of(y)))

  return cache.cached(request.graph, ("contracted", pullback.key, tuple(
      tangent.key for tangent in tangents)), build)


def _jvp_in_form(graph, y, result, unconnected):
  """One result of `jvp`, in the shape of its y."""
  if result is None:
    return None if unconnected == "none" else result_forms.zeros(graph, y)
  result.set_shape(y.shape)
  return result


def _reshaped(y, x, stacked):
  """`stacked`, of the rows or of the columns, as y.shape + x.shape."""
  def build():
    with _tf.building(y.graph):
      result = tf.reshape(stacked, _joint_shape(y, x))
      result.set_shape(y.shape.concatenate(x.shape))
      return result

  return cache.cached(y.graph, ("rows", y.name, x.name, stacked.name), build)


def _joint_shape(y, x):
  """y.shape + x.shape: a list of ints, or an int32 tensor."""
  joint = y.shape.concatenate(x.shape)
  if joint.is_fully_defined():
    return joint.as_list()
  return tf.concat(
      [tf.shape(tensors.read_of(component)) for component in (y, x)], 0)


def _in_form(y, leaf, derivatives, unconnected):
  """The Jacobians by the components of one x, in the form of that x."""
  def fill_zeros():
    return [tf.zeros(_joint_shape(y, component), component.dtype)
            if derivative is None else derivative
            for derivative, component in zip(
                derivatives, leaf.differentiable())]

  return result_forms.stacked(
      y, leaf, derivatives, unconnected,
      ("rows", y.name, leaf.name, type(leaf).__name__), fill_zeros)
