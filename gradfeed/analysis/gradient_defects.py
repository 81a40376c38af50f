"""Which ops have a gradient that is wrong, or one that has no gradient.

TensorFlow says so when a second gradient is built, and sometimes not at all:
the gradient of an op may be made of ops that pass no gradient on. Here one op
is differentiated in a graph of its own, and what comes out is looked at.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import gradient_flow
from gradfeed.analysis import python_functions
from gradfeed.graph import op_types

#: Ops that are not tried alone: their gradients are made of other ops.
_NOT_TRIED = frozenset([
    "Const", "Enter", "Exit", "Merge", "NextIteration", "Placeholder",
    "ReadVariableOp", "Switch", "LoopCond"]) | op_types.FUNCTIONAL

#: Ops whose gradients are made of ops that have gradients, whatever their
#: attributes, dtypes and shapes are: they need not be tried.
TWICE_DIFFERENTIABLE = frozenset([
    "Add", "AddN", "AddV2", "BatchMatMul", "BatchMatMulV2", "BiasAdd",
    "ConcatV2", "Cos", "Exp", "ExpandDims", "Identity", "Log", "Log1p",
    "MatMul", "Mean", "Mul", "Neg", "Pack", "Pow", "RealDiv", "Reciprocal",
    "Relu", "Reshape", "Sigmoid", "Sin", "Slice", "Softmax", "Softplus",
    "Split", "Sqrt", "Square", "SquaredDifference", "Squeeze", "StridedSlice",
    "Sub", "Sum", "Tanh", "Transpose", "Unpack"])

#: What to use in the place of an op without a second derivative.
_REPLACEMENTS = {
    "CTCLoss": "tf.nn.ctc_loss_v2 with dense labels",
    "LRN": "x / (bias + alpha * squares) ** beta, with the sums of squares "
           "from tf.nn.avg_pool",
    "LogMatrixDeterminant":
        "2 * tf.reduce_sum(tf.log(tf.linalg.diag_part(tf.linalg.cholesky(a)))) "
        "(of a positive definite matrix)",
    "MatrixDeterminant":
        "tf.reduce_prod(tf.linalg.diag_part(tf.linalg.cholesky(a))) ** 2 (of a "
        "positive definite matrix)",
    "ResizeBicubic": "products with the interpolation matrices (tf.einsum)",
    "ResizeBilinear": "products with the interpolation matrices (tf.einsum)",
    "ResizeNearestNeighbor": "tf.repeat or tf.gather along the axes",
    "Softsign": "x / (1 + tf.abs(x))",
    "SparseSoftmaxCrossEntropyWithLogits":
        "tf.nn.softmax_cross_entropy_with_logits_v2 with "
        "tf.one_hot(labels, depth)",
}

_LARGEST_CACHE = 4096

#: dict from a node, the dtypes, shapes and constants that it reads and the
#: indices of the inputs that it is differentiated by to the result of `_try`.
_tried = {}

#: dict from op type to (order of the first derivative that is wrong, why, fix),
#: as measured on 0 * 2 * 3.
_AT_VALUES = {
    "Cumprod": (
        1, "where a factor is 0 the derivative by it comes out as 0 or NaN.",
        "Multiply the factors one by one if one of them may be 0."),
    "Prod": (
        2, "where a factor is 0 the second derivative by the others and it "
        "comes out as 0 or NaN.",
        "Multiply the factors one by one if one of them may be 0."),
}


def ops_without_second_derivative(flow):
  """The ops between x and y that have no second derivative.

  Args:
    flow: `gradient_flow.GradientFlow` of the first derivative.

  Yields:
    (op, str why, str fix); for an op inside a function the op that calls it.
  """
  for outer, trace in flow.traces:
    for op in trace.path.values():
      if op.type == "EagerPyFunc":
        yield (outer or op,) + python_functions.NO_SECOND
        continue
      gap = _gap(op, [i for i, tensor in enumerate(op.inputs)
                      if trace.is_on_path(tensor)])
      if gap is not None:
        yield (outer or op,) + gap


def _gap(op, indices):
  """(why, fix) if `op` has no second derivative by its inputs `indices`."""
  indices = [i for i in indices if _tf.is_trainable_dtype(op.inputs[i].dtype)]
  if op.type in TWICE_DIFFERENTIABLE and not _tf.has_attribute(
      op, "_gradient_op_type"):
    return None
  if op.type in _NOT_TRIED or not indices or any(
      t.dtype in (tf.resource, tf.variant) for t in op.inputs) or (
          _tf.function_definition(op.graph, op.type) is not None):
    return None
  node = op.node_def
  node.name = "op"
  del node.input[:]
  for hidden in ("_class", "_output_shapes"):
    if hidden in node.attr:
      del node.attr[hidden]
  inputs = [(t.dtype.base_dtype, t.shape, _tf.constant_value(t))
            for t in op.inputs]
  key = (node.SerializeToString(deterministic=True), tuple(indices), tuple(
      (dtype, str(shape), None if value is None else value.tobytes())
      for dtype, shape, value in inputs))
  if key not in _tried:
    if len(_tried) >= _LARGEST_CACHE:
      _tried.clear()
    _tried[key] = _try(node, inputs, indices)
  return _tried[key]


def _try(node, inputs, indices):
  """Differentiates a node twice in a graph of its own.

  Args:
    node: NodeDef without inputs, named "op".
    inputs: list of (dtype, shape, value or None), one for each input.
    indices: list of int, the inputs to differentiate by.

  Returns:
    (why, fix) if it has no second derivative or a wrong one; else None.
  """
  with tf.Graph().as_default():
    given = [tf.placeholder(dtype, shape) if value is None
             else tf.constant(value, dtype) for dtype, shape, value in inputs]
    try:
      op = _import_node(node, given)
      ys = [t for t in op.outputs if _tf.is_trainable_dtype(t.dtype)]
      seeds = [tf.placeholder(y.dtype, y.shape) for y in ys]
      first = [g for g in _tf.gradients(
          ys, [given[i] for i in indices], grad_ys=seeds) if g is not None]
    except Exception:  # pylint: disable=broad-except
      return None  # Alone it cannot be judged; what is wrong will be said.
    first = [g.values if isinstance(g, tf.IndexedSlices) else g for g in first]
    trace = gradient_flow.GradientTrace(first,
                                        [given[i] for i in indices] + seeds)
    gaps = trace.missing + [
        blocked for blocked in trace.blocked.values()
        if gradient_flow.hides_dependence(blocked)
    ]
    if gaps:
      return _explain(node.op, gaps[0])
    wrong = next(wrong_gradients(trace), None)
    if wrong is None:
      return None
    within, why, fix = wrong
    return ("its gradient is made of {}, and the one of that is wrong in "
            "TensorFlow {}: {}".format(within.type, _tf.VERSION, why),
            fix if within.type == node.op else _fix(node.op))


def _import_node(node, inputs):
  """Adds the op of a node called "op" to the default graph, on `inputs`."""
  graph_def = tf.GraphDef()
  node.input.extend("given_{}:0".format(i) for i in range(len(inputs)))
  graph_def.node.extend([node])
  op, = tf.import_graph_def(
      graph_def, return_elements=["op"], name="", input_map={
          "given_{}:0".format(i): t for i, t in enumerate(inputs)})
  return op


def _explain(op_type, gap):
  """(why, fix) for an op whose gradient has the op `gap` without a gradient."""
  why = "its gradient is made of {}, which passes no gradient on.".format(
      gap.type)
  if gap.type == "PreventGradient":
    why = "TensorFlow says: {}".format(_reason(gap))
  return why, _fix(op_type)


def _reason(prevention):
  """Why a PreventGradient stops the gradient, in TensorFlow's words, or ""."""
  return prevention.get_attr("message").decode("utf-8", "replace").strip()


def missing_gradient(op, outputs):
  """What to say of an op that a gradient would pass, and that has none.

  Args:
    op: `tf.Operation`.
    outputs: list of `tf.Tensor`, what to hold constant in its place.

  Returns:
    (what to say further of it, "" or from a ":" on; str fix).
  """
  hold = "old its output constant (stop_gradients=[{}])".format(
      ", ".join(repr(t.name) for t in outputs))
  if op.type != "PreventGradient":
    return "", "H{} or register a gradient with tf.RegisterGradient.".format(
        hold)
  reason, source = _reason(op), op.inputs[0].op
  why = ": it is explicitly disabled there"
  if reason:
    why += ". TensorFlow says: {}".format(reason.rstrip("."))
  if source.type in _REPLACEMENTS:
    return why, "Use {} in the place of {} '{}'. Or h{}.".format(
        _REPLACEMENTS[source.type], source.type, source.name, hold)
  return why, "H{}, or leave the tf.raw_ops.PreventGradient out.".format(hold)


def _fix(op_type):
  """A sentence that says what to use in the place of an op."""
  replacement = _REPLACEMENTS.get(op_type)
  return ("Use {} in its place.".format(replacement) if replacement else
          "Write it from ops that have a second derivative, or give it a "
          "gradient of your own (tf.custom_gradient).")


def wrong_gradients(trace):
  """The ops between xs and ys whose gradient is wrong at every value.

  Args:
    trace: `gradient_flow.GradientTrace` of the derivative.

  Yields:
    (op, str why, str fix).
  """
  for op in trace.path.values():
    rule = _WRONG_GRADIENTS.get(op.type)
    defect = rule and rule(op, trace)
    if defect:
      yield (op,) + defect


def wrong_at_values(trace):
  """The ops whose gradient is right at most values and wrong at some.

  Args:
    trace: `gradient_flow.GradientTrace` of the derivative.

  Yields:
    (op, int order of the first derivative that is wrong, str why, str fix).
  """
  for op in trace.path.values():
    if op.type in _AT_VALUES:
      yield (op,) + _AT_VALUES[op.type]


def _inverse(op, unused_trace):
  """TF 1's gradient of an inverse, -A^-1 dA A^-1, ignores adjoint=True."""
  if _tf.IS_TF2 or not op.get_attr("adjoint"):
    return None
  return ("it does not mind adjoint=True.",
          "Use tf.linalg.adjoint(tf.linalg.inv(a)), without adjoint=True.")


def _cross_entropy(op, trace):
  """The second derivative leaves out how the first depends on the labels."""
  if op.outputs[1].name not in trace.tensors or not trace.is_on_path(
      op.inputs[1]):
    return None
  return ("in the second derivative it leaves out that the gradient by the "
          "logits depends on the labels.",
          "Use -tf.reduce_sum(labels * tf.nn.log_softmax(logits), axis=-1) "
          "in its place; or hold the labels constant, if they are meant to be "
          "(tf.stop_gradient).")


def _stitch(op, unused_trace):
  """The gradient goes to values too that are overwritten, so that y does not
  depend on them. Of DynamicStitch gradfeed has a right one; here, which value
  is the last is not defined."""
  half = len(op.inputs) // 2
  indices = [_tf.static_value(t) for t in op.inputs[:half]]
  if any(index is None for index in indices):
    return None
  places, counts = np.unique(np.concatenate(
      [np.ravel(index) for index in indices]), return_counts=True)
  repeated = places[counts > 1]
  if not repeated.size:
    return None
  return ("index {} is there more than once: the last value takes the place, "
          "and the gradient goes to all of them.".format(repeated[0]),
          "Leave out the values that are overwritten.")


#: dict from op type to a function of the op and the trace of a derivative: it
#: returns (why, fix) if that is wrong there, else None.
_WRONG_GRADIENTS = {
    "MatrixInverse": _inverse,
    "ParallelDynamicStitch": _stitch,
    "SoftmaxCrossEntropyWithLogits": _cross_entropy,
}
