"""Functions in the library of a graph, and the graphs of their bodies."""

import contextlib
import importlib

import tensorflow
from tensorflow.python.eager import context
from tensorflow.python.framework import func_graph
from tensorflow.python.framework import function
from tensorflow.python.framework import function_def_to_graph
from tensorflow.python.framework import graph_to_function_def
from tensorflow.python.ops import resource_variable_ops

from gradfeed._tf import api
from gradfeed._tf.api import tf

# pylint: disable=protected-access


def function_definition(graph, name):
  """The FunctionDef called `name` in the library of `graph`, or None."""
  function = graph._get_function(name)
  if function is None:
    return None
  with _outside_of_eager(graph):
    for attribute in ("cached_definition", "definition", "function_def"):
      definition = getattr(function, attribute, None)
      if definition is not None:
        return definition
  return None


def _outside_of_eager(graph):
  """A context in which nothing runs eagerly.

  A function that is read in the eager context is added to that, which may have
  another one of its name.
  """
  return (graph.as_default() if tf.executing_eagerly()
          else contextlib.ExitStack())


def callees(node, attributes=None):
  """The attributes in which a NodeDef names the functions that it calls.

  A call by an op that has the name of the function (`tf.Defun` of TF 1) has
  no such attribute.

  Args:
    node: NodeDef.
    attributes: list of names of attributes, or None for all that there are.

  Returns:
    list of NameAttrList, parts of the node: to change the `name` of one is to
    make the node call another function.
  """
  functions = []
  for name in list(node.attr) if attributes is None else attributes:
    value = node.attr[name]
    functions.extend([value.func] if value.HasField("func")
                     else value.list.func)
  return functions


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


def is_around(outer, graph):
  """Whether `graph` is the body of a function that reads from `outer`."""
  while graph is not None and graph is not outer:
    graph = getattr(graph, "outer_graph", None)
  return graph is not None


def outer_graph(graph):
  """The graph that a function is built in; None for a graph of its own.

  Args:
    graph: `tf.Graph`; that of a `tf.function`, of the body of a loop or a
      branch, or of a Defun, is a function's.
  """
  if isinstance(graph, function._FuncGraph):
    return graph._outer_graph
  return graph.outer_graph if is_function(graph) else None


def captures(graph):
  """The tensors that a function reads from outside, and what they are inside.

  Args:
    graph: FuncGraph, or the graph of a Defun.

  Returns:
    list of (tensor outside, tensor inside).
  """
  if isinstance(graph, function._FuncGraph):
    if api.IS_TF2:
      return list(graph.captures)
    return list(graph._captured.items())
  return list(zip(graph.external_captures, graph.internal_captures))


def function_graph(graph, definition, shapes=None):
  """A FunctionDef of the library of `graph` as a FuncGraph of its own.

  Args:
    graph: `tf.Graph`.
    definition: FunctionDef.
    shapes: list of `tf.TensorShape`, those of the arguments, or None for those
      that it was made with.
  """
  with graph.as_default():
    return function_def_to_graph.function_def_to_graph(
        definition, input_shapes=shapes)


def definition_of(name, inputs, outputs, operations=None):
  """The FunctionDef of a graph that nothing has made a function of.

  Args:
    name: str, that it gets.
    inputs: list of `tf.Tensor`, its placeholders.
    outputs: list of `tf.Tensor`.
    operations: list of the `tf.Operation` that it has, or None for all.
  """
  graph = outputs[0].graph
  definition = graph_to_function_def.graph_to_function_def(
      graph, operations or graph.get_operations(), inputs, outputs)
  definition.signature.name = name
  return definition


def call_as_it_is(definition, inputs, like):
  """Calls a function in the default graph, in which TensorFlow rewrites nothing.

  It is one side of a branch that is always taken.

  Args:
    definition: FunctionDef.
    inputs: list of `tf.Tensor` to give it.
    like: list of `tf.Tensor` with the dtypes and the shapes of the results.

  Returns:
    list of `tf.Tensor`.
  """
  library, dtypes = tf.GraphDef(), [t.dtype.base_dtype for t in like]
  function = library.library.function.add()
  function.CopyFrom(definition)
  # Grappler leaves these alone. It would fuse ops to such as oneDNN alone has.
  function.attr["_tf_data_function"].b = True
  tf.import_graph_def(library, name="")
  side = tf.AttrValue(func=tf.NameAttrList(name=definition.signature.name))
  call = tf.get_default_graph().create_op(
      "If", [tf.placeholder_with_default(True, [])] + inputs, dtypes, attrs={
          "Tcond": tf.AttrValue(type=tf.bool.as_datatype_enum),
          "Tin": _list_of([t.dtype.base_dtype for t in inputs]),
          "Tout": _list_of(dtypes), "then_branch": side, "else_branch": side,
          "_lower_using_switch_merge": tf.AttrValue(b=False)})
  for output, original in zip(call.outputs, like):
    output.set_shape(original.shape)
  return list(call.outputs)


def _list_of(dtypes):
  return tf.AttrValue(list=tf.AttrValue.ListValue(
      type=[dtype.as_datatype_enum for dtype in dtypes]))


def traced_graph(graph, name, definition):
  """The graph that a function was traced from, whose ops have tracebacks.

  Args:
    graph: `tf.Graph` whose library holds the function.
    name: str, its name.
    definition: FunctionDef of it.

  Returns:
    FuncGraph; None for a function that was read from a file.
  """
  traced = getattr(graph._get_function(name), "graph", None)
  signature = definition.signature
  if is_function(traced) and (
      len(traced.inputs) == len(signature.input_arg) and
      len(traced.outputs) == len(signature.output_arg)):
    return traced
  return None


def unconverted(function_of_ours):
  """Decorates a function that AutoGraph calls as it is.

  AutoGraph rewrites what a `tf.function` calls, save what it has rewritten
  itself, which is marked in this way.
  """
  function_of_ours.autograph_info__ = {}
  return function_of_ours


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
  """The OpDef of a type of ops, also of a function by its name; or None."""
  look_up = getattr(graph, "op_def_for_type", None) or graph._get_op_def
  try:
    return look_up(op_type)
  except (KeyError, ValueError, RuntimeError, tf.errors.OpError):
    return None


def captured(tensor):
  """Captures a tensor for the function that is the default graph.

  TF 1 adds up the gradients by the arguments of a branch, even those by bools,
  which it cannot add: there, a bool is captured as an int32.

  Args:
    tensor: `tf.Tensor` of that graph or of one around it.

  Returns:
    `tf.Tensor` of the default graph.
  """
  graph = tf.get_default_graph()
  if tensor.graph is graph:
    return tensor
  if api.IS_TF2 or tensor.dtype.base_dtype != tf.bool:
    return graph.capture(tensor)
  with tensor.graph.as_default():
    number = tf.cast(tensor, tf.int32)
  return tf.cast(graph.capture(number), tf.bool)


def eagerly():
  """A context in which ops run at once, whatever the process is set to."""
  return context.eager_mode()


def traced(function, signature, **options):
  """A concrete function of TF 2.

  Args:
    function: Python function of tensors, which builds ops.
    signature: list of `tf.TensorSpec`, one for each argument.
    **options: what `tf.function` takes beside.

  Returns:
    What may be called with tensors, eagerly and in other functions.
  """
  # Not in tf.init_scope: no tape would record there.
  with tf.Graph().as_default(), eagerly():
    return tensorflow.function(
        function, input_signature=signature, autograph=False,
        **options).get_concrete_function()


def uses_onednn():
  """Whether TensorFlow puts kernels of oneDNN into graphs, in this process."""
  try:
    return importlib.import_module(
        "tensorflow.python.util._pywrap_util_port").IsMklEnabled()
  except (ImportError, AttributeError):
    return False


def register_functions(definitions):
  """Makes functions known to all that TF 2 runs in this process.

  Args:
    definitions: iterable of FunctionDef, whose names nothing else has.
  """
  with tf.init_scope(), eagerly():
    for definition in definitions:
      context.context().add_function_def(definition)


def new_variable(value, trainable, name):
  """A variable of TF 2, outside of all graphs."""
  with tf.init_scope(), eagerly():
    return tensorflow.Variable(value, trainable=trainable, name=name)


def library_graph(nodes, definitions):
  """A new graph with some nodes and functions, which nothing runs.

  Args:
    nodes: list of NodeDef without inputs.
    definitions: iterable of FunctionDef.
  """
  graph_def = tf.GraphDef(node=nodes)
  graph_def.library.function.extend(definitions)
  graph = tf.Graph()
  with graph.as_default():
    tf.import_graph_def(graph_def, name="")
  return graph


def new_table(keys, values):
  """A lookup table of TF 2 with a content that does not change.

  Args:
    keys: eager `tf.Tensor`, a vector.
    values: eager `tf.Tensor`, one row for each key.
  """
  default = tf.zeros(values.shape[1:], values.dtype)
  if values.shape.rank > 1:
    table = tensorflow.lookup.experimental.MutableHashTable(
        keys.dtype, values.dtype, default)
    table.insert(keys, values)
    return table
  return tensorflow.lookup.StaticHashTable(
      tensorflow.lookup.KeyValueTensorInitializer(keys, values), default)


def captured_handle(variable):
  """The handle of a variable of TF 2 in the function that is being traced.

  Its gradient by the variable is recorded.
  """
  resource_variable_ops.variable_accessed(variable)
  return tf.get_default_graph().capture(variable.handle)


@contextlib.contextmanager
def recorded_ops(results):
  """Notes the floating results of all ops that run eagerly in this block.

  Args:
    results: dict that is filled, from "number:type of op" to tensor. It stays
      empty where TensorFlow offers no way to look on.
  """
  try:
    # pylint: disable=import-outside-toplevel
    from tensorflow.python.framework import op_callbacks
  except ImportError:
    yield
    return

  def note(op_type, inputs, attributes, outputs, op_name=None, graph=None):
    del inputs, attributes, op_name
    if graph is None:
      for output in outputs:
        if output.dtype.is_floating:
          results["{}:{}".format(len(results), op_type.decode() if isinstance(
              op_type, bytes) else op_type)] = output

  op_callbacks.add_op_callback(note)
  try:
    yield
  finally:
    op_callbacks.remove_op_callback(note)
