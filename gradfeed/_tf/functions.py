"""Functions in the library of a graph, and the graphs of their bodies."""

from tensorflow.python.framework import func_graph
from tensorflow.python.framework import function_def_to_graph

from gradfeed._tf import api
from gradfeed._tf.api import tf

# pylint: disable=protected-access


def function_definition(graph, name):
  """The FunctionDef called `name` in the library of `graph`, or None."""
  function = graph._get_function(name)
  if function is None:
    return None
  for attribute in ("cached_definition", "definition", "function_def"):
    definition = getattr(function, attribute, None)
    if definition is not None:
      return definition
  return None


def flat_nodes(graph, definition):
  """The nodes of a FunctionDef with inputs named as in a graph.

  Args:
    graph: `tf.Graph` whose library holds what the function calls.
    definition: FunctionDef.

  Returns:
    (list of NodeDef, first a placeholder for each argument; dict from the
    names of tensors in the function to their names in the nodes).
  """
  with graph.as_default():
    graph_def, names = function_def_to_graph.function_def_to_graph_def(
        definition)
  return list(graph_def.node), names


def scratch_graph():
  """A graph to build in that no session ever runs.

  It is a FuncGraph, so that loops and branches made in it are functional, in
  either mode of TensorFlow.
  """
  return func_graph.FuncGraph("gradfeed")


def is_function(graph):
  """Whether `graph` is the body of a function."""
  return isinstance(graph, func_graph.FuncGraph)


def captures(graph):
  """[(tensor outside, tensor inside)] of what a function reads from outside."""
  return list(zip(graph.external_captures, graph.internal_captures))


def function_graph(graph, definition):
  """A FunctionDef of the library of `graph` as a graph of its own."""
  with graph.as_default():
    return function_def_to_graph.function_def_to_graph(definition)


def traced_graph(graph, name, definition):
  """The graph that a function was traced from, or None: one read from a file.

  Its ops know the lines of code that made them.
  """
  traced = getattr(graph._get_function(name), "graph", None)
  signature = definition.signature
  if is_function(traced) and (
      len(traced.inputs) == len(signature.input_arg) and
      len(traced.outputs) == len(signature.output_arg)):
    return traced
  return None


def set_handle_data(argument, dtype, shape):
  """Writes into an argument of a FunctionDef which variable it stands for.

  Args:
    argument: OpDef.ArgDef of type DT_RESOURCE; changed.
    dtype: `tf.DType` of the variable.
    shape: TensorShapeProto of the variable.
  """
  if api.HAS_HANDLE_DATA:
    del argument.handle_data[:]
    argument.handle_data.add(
        dtype=dtype.as_datatype_enum).shape.CopyFrom(shape)


def op_definition(graph, op_type):
  """The OpDef of an op or, by its name, of a function; None if unknown."""
  look_up = getattr(graph, "op_def_for_type", None) or graph._get_op_def
  try:
    return look_up(op_type)
  except (KeyError, ValueError, RuntimeError, tf.errors.OpError):
    return None


def captured(tensor):
  """`tensor` as the function that is being built reads it from outside.

  TF 1 adds up the gradients by the arguments of a branch, even those of truth
  values, which cannot be added: there, a truth value goes in as a number.
  """
  graph = tf.get_default_graph()
  if tensor.graph is graph:
    return tensor
  if api.IS_TF2 or tensor.dtype.base_dtype != tf.bool:
    return graph.capture(tensor)
  with tensor.graph.as_default():
    number = tf.cast(tensor, tf.int32)
  return tf.cast(graph.capture(number), tf.bool)
