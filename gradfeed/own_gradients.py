"""Gradients that ops have of their own (`tf.custom_gradient`), in copies.

Such a gradient is a Python function. What it reads beside the cotangents are
tensors of the graph that it was written in, and where that is the body of a
loop or of a branch, a copy of the body has tensors of its own in their places.
"""

from gradfeed import _tf
from gradfeed import errors
from gradfeed import unknown_gradients
from gradfeed._tf import tf

_ATTRIBUTE = "_gradient_op_type"
_PREFIX = "gradfeed/"


def keep(node):
  """Makes the gradient of `node` read what is in the graph that `node` is in.

  Args:
    node: NodeDef in a copy of a function; changed.
  """
  if not _tf.has_own_gradient(node):
    return
  name = node.attr[_ATTRIBUTE].s.decode()
  if name.startswith(_PREFIX):
    return
  node.attr[_ATTRIBUTE].s = (_PREFIX + name).encode()
  if _tf.registered_gradient(_PREFIX + name) is None:

    def gradient(op, *cotangents):
      return _rebound(name, op, cotangents)

    tf.RegisterGradient(_PREFIX + name)(gradient)


def keep_all(graph, graph_def):
  """Does so for all ops of a graph whose gradients a counting name tells.

  Args:
    graph: `tf.Graph`.
    graph_def: GraphDef of it, changed.
  """
  nodes = list(graph_def.node)
  for node in nodes:
    unknown_gradients.mark(graph.get_operation_by_name(node.name), node)
  for function in graph_def.library.function:
    unknown_gradients.mark_nodes(graph, function)
    nodes.extend(function.node_def)
  for node in nodes:
    if node.op == "IdentityN":
      keep(node)


def _rebound(name, op, cotangents):
  """The gradients that the function registered as `name` gives for `op`."""
  apart = _tf.scratch_graph()
  with apart.as_default():
    held = [None if cotangent is None else tf.placeholder(
        cotangent.dtype, cotangent.shape) for cotangent in cotangents]
    # Ops that wait for a cotangent would wait for the placeholder.
    results = _tf.registered_gradient(name)(op, *[
        None if cotangent is None else tf.identity(cotangent)
        for cotangent in held])
    if not isinstance(results, (list, tuple)):
      results = [results]
    results = [None if result is None else tf.identity(result)
               for result in results]
  values = {placeholder.name: tf.convert_to_tensor(cotangent)
            for placeholder, cotangent in zip(held, cotangents)
            if cotangent is not None}
  for outer, inner in _tf.captures(apart):
    values[inner.name] = _tf.captured(_counterpart(name, op, outer))
  wanted = [result.name for result in results if result is not None]
  made = iter(tf.import_graph_def(
      apart.as_graph_def(), input_map=values, return_elements=wanted,
      name="own_gradient"))
  return [None if result is None else next(made) for result in results]


def _counterpart(name, op, tensor):
  """What `op` has in its graph where the gradient `name` reads `tensor`."""
  written_in = tensor.graph
  if written_in is op.graph or _tf.is_function(op.graph) and not (
      _tf.is_function(written_in) or _tf.is_inside(tensor.op)):
    return tensor
  original = _original(name, op, written_in)
  if original is not None:
    prefix = op.name[:len(op.name) - len(original.name)]
    inputs = [t.name for t in getattr(written_in, "inputs", [])]
    if not prefix and tensor.name in inputs:
      return op.graph.inputs[inputs.index(tensor.name)]
    try:
      return op.graph.get_tensor_by_name(prefix + tensor.name)
    except (KeyError, ValueError):
      pass
  raise errors.UnsupportedGraphError(
      "The gradient of '{}' by tf.custom_gradient cannot be taken along with "
      "a copy of the function that it is in.".format(op.name),
      "It reads '{}', which is made outside of that function.".format(
          tensor.name),
      "Make what it reads in the same loop or branch (tf.identity does), and "
      "let no tf.function or inner branch stand around it.")


def _original(name, op, graph):
  """The op of `graph` that `op` is a copy of, or None."""
  for other in graph.get_operations():
    if op.name.endswith(other.name) and _tf.has_own_gradient(other.node_def):
      own = other.get_attr(_ATTRIBUTE).decode()
      if own in (name, _PREFIX + name):
        return other
  return None
