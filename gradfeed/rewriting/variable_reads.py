"""Turns reads of a resource variable into reads of a value in its place.

TensorFlow ignores a value that is fed to a resource variable, and feeding its
reads misses those inside loops, branches and functions. Here the copied nodes
are rewritten instead: where the handle went, the value goes, through Enter,
Switch and Merge and into the functions of While, If and calls; `ReadVariableOp`
becomes `Identity`, `ResourceGather` a gather. Nothing is stored, so the
variable keeps its value and many threads can evaluate at once.
"""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import op_types
from gradfeed.rewriting import function_calls

#: Ops that hand their input on, a handle or a value, to the names of their
#: outputs.
_PASSING = {
    "Identity": ("output",), "Enter": ("output",), "Exit": ("output",),
    "NextIteration": ("output",), "Merge": ("output",),
    "Switch": ("output_false", "output_true"), "Snapshot": ("output",)}

#: Type of an op that reads a variable to (type of the op that does the same
#: with a value, name of the output of the first).
_READING = {
    "ReadVariableOp": ("Identity", "value"),
    "ResourceGather": ("Gather", "output"),
    "ResourceGatherNd": ("GatherNd", "output"),
    "VariableShape": ("Shape", "output"),
    "VarIsInitializedOp": ("Const", "is_initialized"),
}


class VariableReads:
  """Rewrites nodes that read handles of variables so that they read values.

  Here a *value* is (`tf.DType`, shape as a TensorShapeProto) of what is read in
  the place of a handle.

  Attributes:
    functions: list of FunctionDef that the rewritten nodes call.
    graph: `tf.Graph` whose library holds the functions there are.
  """

  def __init__(self, graph, handles):
    self.functions = []
    self.graph = graph
    self._special = {}
    self._values = {}
    for name in handles:
      op = graph.get_tensor_by_name(name).op
      if op.type != "VarHandleOp":
        raise errors.UnsupportedGraphError(
            "'{}' cannot take a value.".format(name),
            "It is a {} that stands for a resource, not a variable.".format(
                op.type),
            "Pass the variable itself.")
      self._values[name] = (op.get_attr("dtype"), op.get_attr("shape"))

  def lift(self, order, defs):
    """Rewrites the nodes in place.

    Args:
      order: list of `tf.Operation`, inputs before users (loops apart).
      defs: dict from op name to its NodeDef, inputs named "op:index".
    """
    if self._values:
      _Body(self, [defs[op.name] for op in order], self._values).rewrite()

  def specialize(self, name, lifted):
    """Copies a function so that it takes values where it took handles.

    Args:
      name: str, the name of the function.
      lifted: dict from the index of an argument to the value that it becomes.

    Returns:
      (name of the new function, dict from the index of each result that was a
      handle to the value that it becomes).

    Raises:
      UnsupportedGraphError: the function needs a variable itself.
    """
    key = (name, tuple(sorted(
        (i, dtype.as_datatype_enum) for i, (dtype, _) in lifted.items())))
    if key in self._special:
      return self._special[key]
    function = function_calls.copied_definition(self.graph, name)
    if function is None:
      raise _cannot("the function '{}'".format(name), "its body is not known")
    new_name = "{}_gradfeed_values_{}".format(
        name, "_".join(str(i) for i in sorted(lifted)))
    function.signature.name = new_name
    values = {}
    for index, value in lifted.items():
      argument = function.signature.input_arg[index]
      _retype(argument, value)
      values[argument.name] = value
      for about in ("arg_attr", "resource_arg_unique_id"):
        by_index = getattr(function, about, {})
        if index in by_index:
          del by_index[index]
    if "_input_shapes" in function.attr:
      del function.attr["_input_shapes"]
    body = _Body(self, function.node_def, values, in_function=True)
    body.rewrite()
    results = {}
    for index, result in enumerate(function.signature.output_arg):
      source_name = body.renamed(function.ret[result.name])
      function.ret[result.name] = source_name
      if source_name in values:
        _retype(result, values[source_name])
        results[index] = values[source_name]
    if _tf.function_definition(self.graph, new_name) is None:
      self.functions.append(function)
    self._special[key] = (new_name, results)
    return self._special[key]


def _retype(argument, value):
  """Makes an OpDef.ArgDef that stood for a handle stand for a value."""
  argument.type = value[0].as_datatype_enum
  if _tf.HAS_HANDLE_DATA:
    argument.ClearField("handle_data")


class _Body:
  """The nodes of a graph or of one function, and which names are values.

  Nodes are rewritten again as long as more of what they read turns out to be a
  value.
  """

  def __init__(self, variable_reads, nodes, values, in_function=False):
    """Takes the nodes.

    Args:
      variable_reads: `VariableReads`, which rewrites the functions.
      nodes: sequence of NodeDef; changed.
      values: dict from the name of each tensor that was a handle to its value;
        what is found is added.
      in_function: bool; whether they are the nodes of a FunctionDef, whose
        inputs are named in another form.
    """
    self._variable_reads = variable_reads
    self._nodes = nodes
    self._values = values
    self._roots = frozenset(values)
    self._in_function = in_function
    self._renames = {}
    self._taken = {}
    self._callees = {}

  def _output(self, node, argument, position=0, flat=0):
    """The name of an output: "op:argument:position", or "op:flat" in a graph.
    """
    if self._in_function:
      return "{}:{}:{}".format(node.name, argument, position)
    return "{}:{}".format(node.name, flat)

  def renamed(self, name):
    """The name under which the tensor that was called `name` is read now."""
    return self._renames.get(name, name)

  def rewrite(self):
    """Rewrites all nodes, in place."""
    count = -1
    while count != len(self._values):  # A loop hands values back to its start.
      count = len(self._values)
      for node in self._nodes:
        self._rewrite_node(node)
    for node in self._nodes:
      for i, name in enumerate(node.input):
        node.input[i] = self.renamed(name)

  def _rewrite_node(self, node):
    """Rewrites a node in place if more of its inputs than before are values."""
    taken = {i: self._values[name] for i, name in enumerate(node.input)
             if name in self._values}
    if not taken or self._taken.get(node.name) == set(taken):
      return
    self._taken[node.name] = set(taken)
    if node.op in _PASSING:
      self._pass_on(node, next(iter(taken.values())))
    elif node.op in op_types.FUNCTION_CALLS:
      self._call(node, taken)
    elif _tf.function_definition(
        self._variable_reads.graph, node.op) is not None:
      self._call_by_name(node, taken)
    elif node.op == "SymbolicGradient":
      self._retype(node, "Tin", taken)
      self._retype(node, "Tout", taken)
      self._specialize(node, "f", 0, node.attr["f"].func, taken)
    elif node.op in _READING and list(taken) == [0]:
      self._read(node, taken[0])
    else:
      raise _cannot("{} '{}'".format(node.op, node.name),
                    "it needs the variable itself, not its value")

  def _pass_on(self, node, value):
    """Makes the outputs of a node that hands a handle on values."""
    node.attr["T"].type = value[0].as_datatype_enum
    for flat, argument in enumerate(_PASSING[node.op]):
      self._values[self._output(node, argument, flat=flat)] = value

  def _read(self, node, value):
    """Turns an op that reads a variable into one that takes a value."""
    new_op, old_output = _READING[node.op]
    if (node.attr["batch_dims"].i if "batch_dims" in node.attr else 0) or (
        new_op == "Const" and not self._in_function and
        node.input[0] not in self._roots):
      raise _cannot("{} '{}'".format(node.op, node.name),
                    "this read has no counterpart on a value")
    attributes = {key: node.attr[key] for key in node.attr}
    kept = {"Tindices", "out_type"} & set(attributes)
    for key in attributes:
      if not key.startswith("_") and key not in kept:
        del node.attr[key]
    dtype = value[0].as_datatype_enum
    if new_op == "Const":
      node.attr["dtype"].type = tf.bool.as_datatype_enum
      node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(True))
      del node.input[0]
    else:
      node.attr["Tparams" if "Gather" in new_op else "T"].type = dtype
    node.op = new_op
    self._renames[self._output(node, old_output)] = self._output(
        node, "output")

  def _call(self, node, taken):
    """Makes a node call functions that take values.

    Args:
      node: NodeDef of a type in `op_types.FUNCTION_CALLS`; changed.
      taken: dict from the index of each input that was a handle to its value.
    """
    first, tin, tout, attributes = op_types.FUNCTION_CALLS[node.op]
    lifted = {i - first: value for i, value in taken.items()}
    all_results = []
    for attribute in attributes:
      for i, function in enumerate(_tf.callees(node, [attribute])):
        results = self._specialize(node, attribute, i, function, lifted)
        if attribute != "cond":
          all_results.append(results)
    results = all_results[0]
    if any(set(others) != set(results) for others in all_results) or (
        tin == tout and set(results) != set(lifted)):
      raise _cannot("{} '{}'".format(node.op, node.name),
                    "it chooses between variables")
    self._retype(node, tin, lifted)
    self._retype(node, tout, results)
    for index, value in results.items():
      self._values[self._output(node, "output", index, index)] = value
    shapes = (node.attr["output_shapes"].list.shape
              if "output_shapes" in node.attr else ())
    for index, (_, shape) in results.items():
      if index < len(shapes):
        shapes[index].CopyFrom(tf.TensorShape(shape).as_proto())

  def _call_by_name(self, node, taken):
    """Makes an op whose type is the name of a `tf.Defun` take values.
    """
    name, results = self._variable_reads.specialize(
        self._callees.setdefault((node.name, "", 0), node.op), taken)
    if results:
      raise _cannot("{} '{}'".format(node.op, node.name),
                    "it returns the variable")
    node.op = name

  def _specialize(self, node, attribute, position, function, lifted):
    """Makes a node call the copy of a function that takes values.

    Args:
      node: NodeDef.
      attribute: str, the name of its attribute that holds the function.
      position: int, the index of the function within the attribute.
      function: NameAttrList, a part of the node; changed.
      lifted: dict from the index of an argument to its value.

    Returns:
      dict from the index of each result that was a handle to its value.
    """
    name = self._callees.setdefault(
        (node.name, attribute, position), function.name)
    function.name, results = self._variable_reads.specialize(name, lifted)
    return results

  def _retype(self, node, attribute, values):
    """Writes the dtypes of `values` into a list of dtypes of a node."""
    for index, (dtype, _) in values.items():
      node.attr[attribute].list.type[index] = dtype.as_datatype_enum


def _cannot(what, why):
  """The `UnsupportedGraphError` for an op or a function, `what`."""
  return errors.UnsupportedGraphError(
      "A variable cannot take another value in {}.".format(what),
      "Only reads and gathers of it can be replaced, and {}.".format(why),
      "Leave that op out of what is evaluated, or assign the variable.")
