"""Products of vectors with Gauss-Newton and Fisher matrices."""

from gradfeed.analysis import gradient_flow
from gradfeed.derivatives import arguments
from gradfeed.derivatives import gradients
from gradfeed.derivatives import hessians
from gradfeed.derivatives import jacobians
from gradfeed.derivatives.vectors import flat_forms
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import nest
from gradfeed.graph import tensors
from gradfeed.graph import traversal


def gauss_newton_vector_product(loss, outputs, variables, v,
                                stop_gradients=None, flat=False):
  """Builds G v = J^T H J v, J being d outputs / d variables, H by outputs.

  H is the second derivative of sum(loss) by the outputs. Where the loss is
  convex in them, G is positive semidefinite, which the Hessian by the variables
  is not. It costs a jvp, an hvp and a vjp; no matrix is built. For a cross
  entropy of logits, and for other losses that are the negative logarithm of a
  probability with natural parameters, G is the Fisher matrix; for half a sum of
  squares it is J^T J.

  Args:
    loss: floating `tf.Tensor`, as y in `hessian`. A mean over a batch gives
      the mean of the G of its rows.
    outputs: tensors between `variables` and `loss`, such as logits, or a list
      of a mean and a log-variance: tensor, name or nested structure.
    variables: what to differentiate by, as x in `gradient`.
    v: as in `hvp`.
    stop_gradients: tensors to hold constant, or None.
    flat: as in `hvp`.

  Returns:
    As `hvp`.

  Raises:
    The same errors as `hvp`.
    ArgumentError: `loss` depends on a variable by a way around the outputs,
      such as weight decay; names the first tensor of that way.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   w = tf.placeholder(tf.float64, [2])
    ...   outputs = w * w
    ...   loss = tf.reduce_sum(outputs ** 2) / 2.0
    ...   gv = gf.gauss_newton_vector_product(loss, outputs, w, [1.0, 1.0])
    ...   print(session.run(gv, {w: [1.0, 3.0]}))
    [ 4. 36.]
  """
  request = arguments.Request(
      outputs, variables, stop_gradients, ("outputs", "variables"))
  flat_forms.check(flat, request)
  if not flat:  # Refuses before anything is built.
    arguments.tangents(v, variables, request.xs, request.graph)
  _check_ways(arguments.Request(loss, variables, None, ("loss", "variables")),
              request)
  stops = nest.flatten(stop_gradients) if stop_gradients is not None else []
  # One output may be computed from another: each is held where H is taken.
  held = stops + nest.flatten(outputs)
  moved = jacobians.jvp(outputs, variables, v, stop_gradients, flat=flat)
  curved = hessians.hvp(loss, outputs, moved, held)
  return gradients.vjp(outputs, variables, curved, stop_gradients, flat=flat)


def fisher_vector_product(kl, outputs, variables, v, stop_gradients=None,
                          flat=False):
  """Builds F v: the Fisher matrix of a model's distribution times v.

  As in TRPO: the second derivative of a KL divergence from a distribution that
  is held constant to the same distribution, at the point where they are equal.
  There it is J^T H J with H the Fisher matrix by the parameters of the
  distribution (`outputs`), which is what is computed; so it is positive
  semidefinite also where the two are not equal.

  It is the expectation over the distribution of the model. The "empirical
  Fisher" is another matrix, the sum of the squared gradients at the labels of a
  data set: take `per_example_gradient` for that.

  Args:
    kl: floating `tf.Tensor`: KL(p_held || p), with p_held made of
      `tf.stop_gradient(outputs)`, or fed with the parameters of the old
      distribution. Its mean over the batch gives the mean Fisher matrix.
    outputs: the parameters of the distribution, which `kl` is computed from:
      logits, or a list of mean and log-variance: tensor, name or structure.
    variables: as in `gauss_newton_vector_product`.
    v: as in `hvp`.
    stop_gradients: tensors to hold constant, or None.
    flat: as in `hvp`.

  Returns:
    As `hvp`.

  Raises:
    The same errors as `gauss_newton_vector_product`.
    ArgumentError: `kl` has no distribution that is held constant: of p from
      itself it is zero everywhere, and so are its derivatives.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   mean = tf.placeholder(tf.float64, [2])
    ...   kl = tf.reduce_sum((tf.stop_gradient(mean) - mean) ** 2) / 2.0
    ...   fv = gf.fisher_vector_product(kl, mean, mean, [1.0, 2.0])
    ...   print(session.run(fv, {mean: [5.0, 5.0]}))
    [1. 2.]
  """
  request = arguments.Request(kl, outputs, stop_gradients, ("kl", "outputs"))
  if not request.stops:
    cache.cached(request.graph, ("held",) + _names(request),
                 lambda: _check_held(request))
  return gauss_newton_vector_product(
      kl, outputs, variables, v, stop_gradients, flat)


def _check_held(request):
  """Refuses a kl that depends on nothing but the outputs, all differentiable.

  Args:
    request: `arguments.Request` of kl by the outputs.
  """
  cut = {x.name for leaf in request.xs for x in leaf.components()}
  ops = traversal.ancestors(
      [y.tensor for leaf in request.ys for y in leaf.components()], cut)
  if not any(_holds(op) for op in ops.values()):
    raise errors.ArgumentError(
        "{} is no KL divergence from a distribution that is held "
        "constant.".format(tensors.describe_all(request.ys)),
        "It is computed from {} and constants alone, and every part of it is "
        "differentiated: for the KL divergence of a distribution from itself "
        "that gives zero.".format(tensors.describe_all(request.xs)),
        "Make the first distribution of tf.stop_gradient of the outputs.")


def _holds(op):
  """Whether an op may hold the parameters of another distribution."""
  return op.type.startswith(("StopGradient", "Placeholder")) or (
      op.type != "Const" and not op.inputs) or bool(
          traversal.functions_called(op.graph, [op.node_def]))


def _check_ways(request, by_outputs):
  """Refuses a loss that depends on variables by a way around the outputs.

  Args:
    request: `arguments.Request` of the loss by the variables.
    by_outputs: `arguments.Request` of the outputs by the variables.
  """
  stops = [output for leaf in by_outputs.ys
           for output in leaf.differentiable()] + by_outputs.stops
  way = cache.cached(
      request.graph,
      ("ways",) + _names(request) + tuple(stop.name for stop in stops),
      lambda: _way(request, stops))
  if way is not None:
    x, first = way
    raise errors.ArgumentError(
        "{} depends on {} by a way around the outputs {}.".format(
            tensors.describe_all(request.ys), tensors.describe(x),
            tensors.describe_all(by_outputs.ys)),
        "The way begins with {}; its curvature is no part of J^T H J.".format(
            tensors.describe(first)),
        "Pass the part of the loss that is computed from the outputs alone, "
        "without weight decay and the like; or hold that way constant, "
        "stop_gradients=['{}'].".format(first.outputs[0].name))


def _way(request, stops):
  """The first op of a way from a variable to the loss that no stop cuts.

  Args:
    request: `arguments.Request` of the loss by the variables.
    stops: list of `tensors.Dense` to hold constant.

  Returns:
    (`tensors.Dense`, `tf.Operation`), or None.
  """
  held = {stop.name for stop in stops}
  xs = [x for x in request.components() if x.name not in held]
  if not xs:
    return None
  ys = [tensors.read_of(y) for leaf in request.ys
        for y in leaf.differentiable()]
  trace = gradient_flow.GradientTrace(
      ys, [x.tensor for x in xs], [stop.tensor for stop in stops])
  arrived = gradient_flow.GradientFlow(trace, ys).tensors
  for x in xs:
    if x.name in arrived:
      return x, _reader(x, trace)
  return None


def _reader(x, trace):
  """The first op on a path that computes with `x`, behind reads of it."""
  queue, seen = [x.tensor], set()
  while queue:
    tensor = queue.pop(0)
    for op in traversal.consumers(tensor):
      if op.name in trace.path and op.name not in seen:
        seen.add(op.name)
        if op.type not in _READS:
          return op
        queue.extend(op.outputs)
  return x.op


#: Ops that pass the value of a variable on as it is.
_READS = ("Identity", "ReadVariableOp", "Enter")


def _names(request):
  """The names of the ys and xs of a request, for keys of the cache."""
  return (tuple(y.name for y in request.ys), tuple(
      x.name for x in request.components()))
