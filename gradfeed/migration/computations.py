"""A part of a legacy graph, built again in a function of TF 2.

The ops are copied as nodes. Variables are those of TF 2: of a resource variable
the handle is replaced, so that gathers have sparse gradients; of a ref
variable, or one that a loop or a branch reads, its value. Calls of functions
are inlined, loops and branches of control flow v1 become functional, tensor
arrays lists: all that is there can be differentiated to any order.
"""

import copy

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import blockers
from gradfeed.analysis import gradient_flow
from gradfeed.derivatives import preconditions
from gradfeed.derivatives import vjps
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.migration import custom_gradients
from gradfeed.migration import refusals
from gradfeed.rewriting import cloning
from gradfeed.rewriting import custom_gradient_ops
from gradfeed.rewriting import function_calls
from gradfeed.rewriting import functionalization
from gradfeed.rewriting import variable_reads

#: Types of ops that read a variable by its handle.
_DIRECT_READS = frozenset([
    "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape"])


class Computation:
  """Tensors of a legacy graph as a function of values of others.

  Attributes:
    graph: `tf.Graph`.
    variables: list of `tensors.Dense`, the variables that are read.
    tables: list of the `tf.Operation` of lookup tables.
  """

  def __init__(self, graph, targets, results):
    """Finds what is computed, and refuses what TF 2 code cannot do.

    Args:
      graph: `tf.Graph`.
      targets: list of the placeholders (`tf.Tensor`) that take values, or None
        where nothing reads a value.
      results: list of `tf.Tensor`.

    Raises:
      UnsupportedGraphError: names the ops.
    """
    self.graph = graph
    self._results = results
    self._places = {target.name: i for i, target in enumerate(targets)
                    if target is not None}
    self._ops = traversal.ancestors(
        results + custom_gradients.tensors_read(results, self._places),
        self._places)
    self.variables = [
        tensors.Dense(op.outputs[0])
        for op in effects.variables(self._ops.values())]
    self.tables = [op for op in self._ops.values()
                   if refusals.TABLES.search(op.type)]
    refusals.check(graph, self._ops)
    self._freed = self._held_means()

  def _differentiable(self):
    """(results, what they may be differentiated by), lists of `tf.Tensor`."""
    read = {t.name: t for op in self._ops.values() for t in op.inputs}
    xs = [read[name] for name in self._places if name in read]
    return ([t for t in self._results if _tf.is_number(t.dtype)],
            [x for x in xs if _tf.is_number(x.dtype)] +
            [v.tensor for v in self.variables if _tf.is_number(v.dtype)])

  def _held_means(self):
    """The names of the StopGradient ops in `tf.nn.moments`.

    The first derivative is the same without them, the second is not.
    """
    ys, xs = self._differentiable()
    return blockers.held_means(
        gradient_flow.GradientTrace(ys, xs)) if ys and xs else set()

  def check_complete(self):
    """Warns of what a tape would leave out without a word, once a graph."""
    ys, xs = self._differentiable()
    if ys and xs:
      preconditions.check_complete(vjps.VJP(
          self.graph, list(map(tensors.Dense, ys)),
          list(map(tensors.Dense, xs)), [None] * len(ys), [], {},
          preconditions.WARNED_OF))

  def build(self, values, variables, handles):
    """Builds the ops in the function of TF 2 that is the default graph.

    Args:
      values: list of `tf.Tensor`, one for each target.
      variables: dict from the name of the op of each variable to the variable
        of TF 2.
      handles: dict from the name of the op of each table to the handle, a
        `tf.Tensor`, of the table in its place.

    Returns:
      list of `tf.Tensor`, one for each result.
    """
    here = tf.get_default_graph()
    with tf.name_scope("gradfeed_inputs"):
      replaced = {name: here.capture(values[i])
                  for name, i in self._places.items()}
      replaced.update((variable.name, variables[variable.op.name].read_value())
                      for variable in self.variables if not variable.is_handle)
      subgraph, lifted = self._nodes(replaced)
      inputs = dict(replaced)
      for variable in self.variables:
        own = variables[variable.op.name]
        if variable.is_handle:
          inputs[variable.name] = (
              own.read_value() if variable.name in lifted
              else _tf.captured_handle(own))
      for op in self.tables:
        inputs[op.outputs[0].name] = here.capture(handles[op.name])
    look_up = self._place(subgraph, inputs)
    results = []
    for result in self._results:
      built = tf.identity(look_up(result.name))
      if built.shape.rank is None or not built.shape.is_fully_defined():
        built = _with_shape(built, result.shape)
      results.append(built)
    return results

  def _nodes(self, replaced):
    """The ops as nodes, with calls inlined.

    Args:
      replaced: dict from tensor name to what is read in its place.

    Returns:
      (`cloning.Subgraph`, set of the names of the handles that became values).
    """
    outside = {variable.op.name for variable in self.variables}
    outside.update(op.name for op in self.tables)
    op_names = set(self._ops) - outside
    subgraph = cloning.subgraph_of(self.graph, op_names, self._ops, replaced)
    nodes, renamed = [], {}
    for node in subgraph.nodes:
      if node.name in self._freed:
        node.op = "Identity"
      inlined = self._inlined(node)
      if inlined is None:
        nodes.append(node)
      else:
        nodes.extend(inlined[0])
        renamed.update(inlined[1])
    function_calls.rename_inputs(nodes, renamed)
    function_calls.drop_outside_waits(nodes)
    functions = function_calls.renew_functions(self.graph, {}, nodes, ())
    known = {function.signature.name for function in functions}
    functions += [function for function in traversal.functions_called(
        self.graph, nodes) if function.signature.name not in known]
    lifted, functions = self._lift(nodes, functions)
    functions = _separated(nodes, functions)
    for holder in [nodes] + [function.node_def for function in functions]:
      for node in holder:
        _name_gradient(node)
    _tf.register_functions(functions)
    return subgraph._replace(
        nodes=nodes, functions=functions, renamed=renamed), lifted

  def _lift(self, nodes, functions):
    """Makes loops and branches read values of variables, not handles.

    TensorFlow takes no gradient by a handle in a function in a function.

    Args:
      nodes: list of NodeDef; changed.
      functions: list of FunctionDef that they call.

    Returns:
      (set of the names of the handles that became values, list of FunctionDef).
    """
    handles = {v.name: v for v in self.variables if v.is_handle}
    lifted = {name for node in nodes for name in node.input
              if name in handles and node.op not in _DIRECT_READS}
    if not lifted:
      return lifted, functions
    library = _tf.library_graph(
        [handles[name].op.node_def for name in sorted(lifted)], functions)
    reads = variable_reads.VariableReads(library, sorted(lifted))
    reads.lift(nodes, {node.name: node for node in nodes})
    return lifted, functions + reads.functions

  def _inlined(self, node):
    """What `function_calls.inline_in_graph` gives for a call; else None."""
    if node.op in op_types.CALLS:
      return function_calls.inline_in_graph(self.graph, node)
    if _tf.function_definition(self.graph, node.op) is None:
      return None
    call = tf.NodeDef(name=node.name, op="PartitionedCall", input=node.input)
    call.attr["f"].func.name = node.op
    return function_calls.inline_in_graph(self.graph, call)

  def _place(self, subgraph, inputs):
    """Imports the nodes; a function from the name of a tensor to the new one.

    Args:
      subgraph: `cloning.Subgraph`.
      inputs: dict from tensor name to what is read in its place.
    """
    if functionalization.is_needed(subgraph.nodes):
      with tf.name_scope("gradfeed_functional"):
        made = functionalization.emit(
            subgraph.nodes, inputs, self._static_shape, subgraph.functions)
    else:
      new = cloning.import_subgraph(self.graph, subgraph, inputs, "legacy")
      _tf.show_bodies(tf.get_default_graph())
      made = {"{}:{}".format(name, i): tensor for name, op in new.items()
              for i, tensor in enumerate(op.outputs)}

    def look_up(name):
      name = function_calls.last_name(name, subgraph.renamed)
      return inputs[name] if name in inputs else made[name]

    return look_up

  def _static_shape(self, name):
    """The static shape of a tensor of the graph; unknown for an inlined one."""
    try:
      return self.graph.get_tensor_by_name(name).shape
    except (KeyError, ValueError):
      return tf.TensorShape(None)


def _separated(nodes, functions):
  """Makes each node call functions that no other node calls.

  TensorFlow changes the functions of a loop that it differentiates.

  Args:
    nodes: list of NodeDef; changed.
    functions: list of FunctionDef that they call.

  Returns:
    list of FunctionDef, those that are called now.
  """
  by_name = {function.signature.name: function for function in functions}
  separate = []

  def visit(node):
    for callee in _tf.callees(node):
      if callee.name in by_name:
        function = copy.deepcopy(by_name[callee.name])
        function.signature.name = "{}_{}".format(callee.name, len(separate))
        callee.name = function.signature.name
        separate.append(function)
        for inner in function.node_def:
          visit(inner)

  for node in nodes:
    visit(node)
  return separate


def _name_gradient(node):
  """Makes a node name its own gradient where TensorFlow's is another one."""
  custom_gradient_ops.keep(node)
  name = _tf.corrected_name(node.op)
  if name is not None and not _tf.has_own_gradient(node):
    node.attr["_gradient_op_type"].s = name.encode()


def _with_shape(tensor, shape):
  """A tensor with what a legacy graph knew of its shape, if that holds."""
  if tensor.shape.is_compatible_with(shape):
    tensor.set_shape(shape)
  return tensor
