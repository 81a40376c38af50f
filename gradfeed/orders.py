"""Which ops have a first derivative in TensorFlow and no second one.

TensorFlow says so when a second gradient is built, and sometimes not at all:
the gradient of an op may be made of ops that pass no gradient on. Here one op
is differentiated in a graph of its own, and what comes out is looked at.
"""

from gradfeed import _tf
from gradfeed import paths
from gradfeed import wrongs
from gradfeed._tf import tf

#: Ops of loops, arrays and variables: what they do is seen in other ops.
_APART = frozenset([
    "Const", "Enter", "Exit", "Merge", "NextIteration", "Placeholder",
    "ReadVariableOp", "Switch", "LoopCond"]) | paths.FUNCTIONAL

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

_MOST_KNOWN = 4096
_known = {}


def without_second(flow):
  """The ops between x and y that have no second derivative.

  Args:
    flow: `bodies.Flow` of the first derivative.

  Yields:
    (op, str why, str fix); for an op inside a function the op that calls it.
  """
  for outer, trace in flow.traces:
    for op in trace.path.values():
      found = _gap(op, [i for i, tensor in enumerate(op.inputs)
                        if trace.is_on_path(tensor)])
      if found is not None:
        yield (outer or op,) + found


def _gap(op, indices):
  """(why, fix) if `op` has no second derivative by its inputs `indices`."""
  indices = [i for i in indices if _tf.is_trainable_dtype(op.inputs[i].dtype)]
  if op.type in _APART or not indices or any(
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
  if key not in _known:
    if len(_known) >= _MOST_KNOWN:
      _known.clear()
    _known[key] = _tried(node, inputs, indices)
  return _known[key]


def _tried(node, inputs, indices):
  with tf.Graph().as_default():
    given = [tf.placeholder(dtype, shape) if value is None
             else tf.constant(value, dtype) for dtype, shape, value in inputs]
    graph_def = tf.GraphDef()
    node.input.extend("given_{}:0".format(i) for i in range(len(given)))
    graph_def.node.extend([node])
    try:
      op, = tf.import_graph_def(
          graph_def, return_elements=["op"], name="", input_map={
              "given_{}:0".format(i): t for i, t in enumerate(given)})
      ys = [t for t in op.outputs if _tf.is_trainable_dtype(t.dtype)]
      seeds = [tf.placeholder(y.dtype, y.shape) for y in ys]
      first = [g for g in tf.gradients(
          ys, [given[i] for i in indices], grad_ys=seeds) if g is not None]
    except Exception:  # pylint: disable=broad-except
      return None  # Alone it cannot be judged; what is wrong will be said.
    first = [g.values if isinstance(g, tf.IndexedSlices) else g for g in first]
    trace = paths.Trace(first, [given[i] for i in indices] + seeds)
    gaps = trace.missing + [
        blocked for blocked in trace.blocked.values() if paths.hides(blocked)]
    if gaps:
      return _told(node.op, gaps[0])
    wrong = next(wrongs.wrong_gradients(trace), None)
    if wrong is None:
      return None
    within, why, fix = wrong
    return ("its gradient is made of {}, and the one of that is wrong in "
            "TensorFlow {}: {}".format(within.type, _tf.VERSION, why),
            fix if within.type == node.op else _fix(node.op))


def _told(op_type, gap):
  why = "its gradient is made of {}, which passes no gradient on.".format(
      gap.type)
  if gap.type == "PreventGradient":
    why = "TensorFlow says: {}".format(
        gap.get_attr("message").decode().strip())
  return why, _fix(op_type)


def _fix(op_type):
  replacement = _REPLACEMENTS.get(op_type)
  return ("Use {} in its place.".format(replacement) if replacement else
          "Write it from ops that have a second derivative, or give it a "
          "gradient of your own (tf.custom_gradient).")
