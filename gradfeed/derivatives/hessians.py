"""Second derivatives: the Hessian, and its products with directions of x."""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import arguments
from gradfeed.derivatives import jacobians
from gradfeed.derivatives import preconditions
from gradfeed.derivatives import pullbacks
from gradfeed.derivatives import result_forms
from gradfeed.derivatives.sparsity import patterns
from gradfeed.derivatives.vectors import flat_forms
from gradfeed.derivatives import vjps
from gradfeed import errors
from gradfeed.graph import nest
from gradfeed.graph import tensors


@_tf.unconverted
def hessian(y, x, stop_gradients=None, chunk=None, flat=False, sparsity=None,
            sparse=False):
  """Builds the second derivative of sum(y) by x, with all cross blocks; once.

  The Jacobian of the gradient: `gradient(gradient(y, x), x)` is only its row
  sums. The number of ops does not grow with the number of elements of x.

  There is no `mode`: columns of a Hessian are its rows, and as many.

  Args:
    y: floating `tf.Tensor` of any shape, variable, name, or nested lists,
      tuples and dicts of them, which are summed.
    x: floating: what to differentiate by, as in `gradient`.
    stop_gradients: tensors to hold constant, or None.
    chunk: int, how many rows are computed at a time, or None for all. Memory
      grows with it.
    flat: bool; give one matrix for all of `x`, whose rows and columns are in
      the order of `flatten`. All have to have one dtype.
    sparsity: which elements may differ from zero, for one dense x, as in
      `jacobian`: of shape [elements of x, elements of x]. One triangle of it
      will do.
    sparse: as in `jacobian`.

  Returns:
    The structure of `x` (for the rows) of structures of `x` (for the columns),
    with a `tf.Tensor` of shape a.shape + b.shape and the dtype of b for each
    pair a, b, in units of `y` per unit of a and of b. Zero where the gradient
    by a does not depend on b. With `flat`, one of shape [n, n].

  Raises:
    The same errors as `gradient`.
    MissingGradientError: an op between them has no second derivative; says
      which, before an op is built.
    ArgumentError: `chunk` is no positive int, or an x is complex, whose second
      derivative is no complex matrix; or `sparsity` is no pattern of x by x.
    SparsityError: as in `jacobian`.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [2])
    ...   f = gf.function(x, gf.hessian(x[0] ** 2 * x[1], x))
    ...   print(f([3.0, 5.0]))
    [[10.  6.]
     [ 6.  0.]]
  """
  arguments.check_chunk(chunk)
  request = arguments.Request(y, x, stop_gradients)
  for leaf in request.xs:
    if leaf.dtype.is_complex:
      raise errors.ArgumentError(
          "No Hessian by {}.".format(tensors.describe(leaf)),
          "The second derivative by a complex tensor is linear in its real "
          "and imaginary part, not in itself: no complex matrix holds it.",
          "Use `hvp`, or make x from two real tensors with tf.complex and "
          "differentiate by these.")
  flat_forms.check(flat, request, sparse=sparse)
  pattern = None
  if sparsity is not None or sparse is not False:
    pattern = jacobians.stated_pattern(
        arguments.Request(x, x, stop_gradients), sparsity, sparse)
    if isinstance(pattern, patterns.Pattern):
      pattern = pattern.with_transpose()
  first = request.product([None] * len(request.ys))
  built = first.on_functional_copy(strict=True, order=2).build(strict=False)
  gradients = _gradients(request, built)
  blocks = [_row(request, first, built, gradient, chunk, pattern, sparse)
            for gradient in gradients]
  return (flat_forms.matrix(request, blocks, gradients) if flat else
          nest.pack(x, [nest.pack(x, row) for row in blocks]))


def _row(request, first, built, gradient, chunk, pattern, sparse):
  """The second derivatives of one gradient by each leaf of x.

  Args:
    request: `arguments.Request`.
    first: `vjps.VJP` of the gradients.
    built: `result_forms.BuiltVJP` of it.
    gradient: `tf.Tensor`, the dense gradient by one leaf of x.
    chunk, sparse: as in `hessian`.
    pattern: as `jacobians.stated_pattern` gives it.

  Returns:
    list of `tf.Tensor` or `tf.SparseTensor`.
  """
  pullback = pullbacks.Pullback(request.graph, [tensors.Dense(gradient)],
                                request.xs, request.stops, False)
  pullback.refuse_hidden()
  passes = pullback.passes_of(built)

  def remember(results):
    results = pullback.after_originals(results)
    first.remember(passes, results)
    return results

  return jacobians.rows(request, pullback, "zero", chunk, remember,
                        pattern=pattern, sparse=sparse)


def _gradients(request, built):
  """d sum(y) / dx as one dense tensor for each leaf of x."""
  return [result.values if isinstance(result, tf.SparseTensor) else result
          for result in request.shaped(built.gradients)]


@_tf.unconverted
def hessians(ys, xs, name="hessians", colocate_gradients_with_ops=False,
             gate_gradients=False, aggregation_method=None):
  """Takes the place of `tf.hessians`: the same arguments and results.

  What differs: the second call with the same arguments returns the tensors of
  the first; the number of ops does not grow with the number of elements of x,
  and no loop is built. For the blocks between two xs use `hessian`.

  Args:
    ys: floating tensor, variable, name, or list of them, which are summed.
    xs: floating tensor, variable, name, or list of them.
    name: accepted as in `tf.hessians`; the ops are named by `hessian`.
    colocate_gradients_with_ops: accepted, as `name` is.
    gate_gradients: accepted, as `name` is.
    aggregation_method: accepted, as `name` is.

  Returns:
    A list with the Hessian of sum(ys) by each x: `tf.Tensor` of shape
    x.shape + x.shape and the dtype of x.

  Raises:
    The same errors as `hessian`.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [2])
    ...   h, = gf.hessians(x[0] ** 2 * x[1], x)
    ...   print(session.run(h, {x: [3.0, 5.0]}))
    [[10.  6.]
     [ 6.  0.]]
  """
  del name, colocate_gradients_with_ops, gate_gradients, aggregation_method
  xs = list(xs) if isinstance(xs, (list, tuple)) else [xs]
  arguments.Request(ys, xs, None, ("ys", "xs"))  # All, before an op is built.
  return [hessian(ys, x) for x in xs]


@_tf.unconverted
def hvp(y, x, v, stop_gradients=None, flat=False):
  """Builds H v: the second derivative of sum(y) by x, times v; H is not built.

  The gradient of the product of v with the gradient, which costs two to three
  gradients. It is how fast the gradient changes when x moves along v.

  Args:
    y: as in `hessian`; complex will do.
    x: what to differentiate by, as in `gradient`; complex will do.
    v: the structure of `x` with a tensor, placeholder, variable, name or array
      of exactly the shape and dtype of each x. An array is part of the graph:
      for many directions pass a placeholder and feed it.
    stop_gradients: tensors to hold constant, or None.
    flat: bool; `v` and the result are one vector of shape [n] for all of `x`,
      in the order of `flatten`. All have to have one dtype.

  Returns:
    The structure of `x`, with a `tf.Tensor` of the shape and dtype of each x,
    or, with `flat`, one of shape [n]; in units of `y` times `v` per squared
    unit of `x`.

  Raises:
    The same errors as `hessian`.
    TangentError: a v that does not have the shape or dtype of its x.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [2])
    ...   v = tf.placeholder(tf.float64, [2])
    ...   f = gf.function([x, v], gf.hvp(x[0] ** 2 * x[1], x, v))
    ...   print(f([3.0, 5.0], [1.0, 0.0]))
    [10.  6.]
  """
  request = arguments.Request(y, x, stop_gradients)
  flat_forms.check(flat, request)
  tangents = flat_forms.tangents(v, request, flat)
  first = request.product([None] * len(request.ys))
  built = first.on_functional_copy(strict=True, order=2).build(strict=False)
  gradients = [result_forms.dense_or_none(request.graph, *pair)
               for pair in zip(built.gradients, request.components())]
  second = vjps.VJP(request.graph,
                    [tensors.Dense(gradient) for gradient in gradients],
                    request.xs, tangents, request.stops, {})
  second_built = second.build(strict=False)
  preconditions.check_hidden(second, second_built)
  first.remember(second_built.passes_of(built), second_built.gradients)
  return flat_forms.packed(
      request, request.shaped(second_built.gradients), flat)
