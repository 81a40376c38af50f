"""Functions that nodes call: inlined into the caller, or copied and renamed.

A call that TensorFlow cannot differentiate is replaced by the nodes of the
function. What else will be differentiated calls copies of its functions, as
TensorFlow keeps what it derives from a function for the whole process.
"""

import collections
import copy
import uuid

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import op_types
from gradfeed.graph import python_functions
from gradfeed.rewriting import custom_gradient_ops


def copied_definition(graph, name):
  """A copy of a FunctionDef, in which gradients that are not known are marked.

  Args:
    graph: `tf.Graph` whose library holds the function.
    name: str.

  Returns:
    FunctionDef that may be changed; None if the library has none of that name.
  """
  source = _tf.function_definition(graph, name)
  if source is None:
    return None
  function = copy.deepcopy(source)
  custom_gradient_ops.mark_nodes(graph, function)
  return function


def callee_of(graph, node):
  """A copy of the FunctionDef that a call runs, its own calls inlined.

  Args:
    graph: `tf.Graph` whose library holds the function.
    node: NodeDef of a type in `op_types.CALLS`.

  Returns:
    FunctionDef that may be changed; None if it is not known.
  """
  function = copied_definition(graph, node.attr["f"].func.name)
  if function is not None:
    inline_calls(graph, function)
  return function


def inline_calls(graph, function):
  """Inlines every call in a FunctionDef, in place."""
  nodes, renamed = [], {}
  for node in function.node_def:
    callee = callee_of(graph, node) if node.op in op_types.CALLS else None
    if callee is None:
      nodes.append(copy.deepcopy(node))
      continue
    inlined, results, _ = _in_place_of(
        node, callee, callee.node_def, {}, "{}:output:0")
    nodes.extend(inlined)
    for i, result in enumerate(results):
      renamed["{}:output:{}".format(node.name, i)] = result
  if renamed:
    del function.node_def[:]
    function.node_def.extend(nodes)
    rename_inputs(function.node_def, renamed)
    for name in list(function.ret):
      function.ret[name] = last_name(function.ret[name], renamed)


def inline_in_graph(graph, node):
  """The nodes that do in a graph what the call `node` does.

  Args:
    graph: `tf.Graph` whose library holds the function.
    node: NodeDef of a call, its inputs named "op:index".

  Returns:
    (list of NodeDef, dict from the names of the call's outputs to the names
    that take their places, names of the nodes that have to wait for what the
    call waits for), or None if the function is not known. One of the nodes
    has the name of the call, for what waits for it.
  """
  callee = callee_of(graph, node)
  if callee is None:
    return None
  flat, names = _tf.flat_nodes(graph, callee)
  nodes, results, first = _in_place_of(
      node, callee, flat[len(callee.signature.input_arg):], names, "{}:0")
  return nodes, {"{}:{}".format(node.name, i): result
                 for i, result in enumerate(results)}, first


def _in_place_of(call, callee, body, names, output):
  """What a call becomes.

  Args:
    call: NodeDef of the call.
    callee: FunctionDef that it runs.
    body: list of NodeDef, those of `callee`.
    names: dict from the name of a tensor in `callee` to its name in `body`,
      where that is another one.
    output: str, a format of the name of a node's output.

  Returns:
    (list of NodeDef, the last of which has the name of the call; list of the
    names that take the places of the outputs of the call; list of the names of
    the nodes that have to wait for what the call waits for).
  """
  arguments, again = _arguments(call, callee, names, output)
  nodes, first = _inlined(body, call, arguments)
  nodes = again + nodes
  returned = [callee.ret[result.name] for result in callee.signature.output_arg]
  results = [_name_outside(names.get(name, name), call.name, arguments)
             for name in returned]
  nodes.append(_joint(call, callee, results))
  return nodes, results, first


def _arguments(call, callee, names, output):
  """What a call reads for each argument of its function.

  Each argument has a tensor of its own: TensorFlow takes two inputs of a branch
  or a loop that are the same tensor for one.

  Args:
    call, callee, names, output: as in `_in_place_of`.

  Returns:
    (dict from the name of an argument to that of what is read for it, list of
    NodeDef that have to be there for it).
  """
  arguments, again = {}, []
  data = [name for name in call.input if not name.startswith("^")]
  for argument, name in zip(callee.signature.input_arg, data):
    if name in arguments.values() and argument.type not in (
        0, tf.resource.as_datatype_enum) and not argument.is_ref:
      node = type(call)(name="{}/{}_argument".format(call.name, argument.name),
                        op="Identity", input=[name])
      node.attr["T"].type = argument.type
      again.append(node)
      name = output.format(node.name)
    arguments[names.get(argument.name, argument.name)] = name
  return arguments, again


def rename_inputs(nodes, renamed):
  """Makes nodes read other tensors.

  Args:
    nodes: iterable of NodeDef; changed.
    renamed: dict from the name of a tensor to the name to read, which may
      itself be renamed.
  """
  for node in nodes:
    for i, name in enumerate(node.input):
      if name in renamed:
        node.input[i] = last_name(name, renamed)


def drop_outside_waits(nodes):
  """Takes from nodes what they wait for that is not among them."""
  names = {"^" + node.name for node in nodes}
  for node in nodes:
    gone = [name for name in node.input
            if name.startswith("^") and name not in names]
    for name in gone:
      node.input.remove(name)


def last_name(name, renamed):
  """Where a chain of renamings ends."""
  while name in renamed:
    name = renamed[name]
  return name


def _name_outside(name, prefix, arguments):
  """The name that an input of a node in a function has once it is inlined.

  Args:
    name: str, as the node in the function has it.
    prefix: str, the name of the call.
    arguments: dict from the name of an argument to what the call reads for it.
  """
  if name in arguments:
    return arguments[name]
  if name.startswith("^"):
    return "^{}/{}".format(prefix, name[1:])
  return "{}/{}".format(prefix, name)


def _inlined(body, call, arguments):
  """Copies of nodes of a function as they stand in the place of its call.

  Args:
    body: list of NodeDef.
    call: NodeDef.
    arguments: dict from the name of an argument to what the call reads for it.

  Returns:
    (list of NodeDef, list of the names of those that read nothing but
    arguments: they wait for what the call waits for).
  """
  waits = [name for name in call.input if name.startswith("^")]
  bare = {"^" + name.split(":")[0]: arguments[name] for name in arguments}
  nodes, first = [], []
  for node in map(copy.deepcopy, body):
    inputs = [name for name in node.input if name not in bare]
    waited = ["^" + bare[name].split(":")[0] for name in node.input
              if name in bare and ":" in bare[name]]
    node.name = "{}/{}".format(call.name, node.name)
    del node.input[:]
    node.input.extend(
        _name_outside(name, call.name, arguments) for name in inputs)
    node.input.extend(waited)
    if all(name in arguments for name in inputs):
      node.input.extend(waits)
      first.append(node.name)
    # Places are named within the function.
    if "_class" in node.attr:
      del node.attr["_class"]
    nodes.append(node)
  return nodes, first


def _joint(call, callee, results):
  """A NoOp with the name of the call, which runs when its function has run.

  Args:
    call: NodeDef.
    callee: FunctionDef.
    results: list of the names that take the places of the call's outputs.

  Returns:
    NodeDef.
  """
  joint = type(call)(name=call.name, op="NoOp")
  before = {result.split(":")[0] for result in results if ":" in result}
  before.update("{}/{}".format(call.name, name)
                for name in callee.control_ret.values())
  joint.input.extend("^" + name for name in sorted(before))
  joint.input.extend(name for name in call.input
                     if name.startswith("^") and name[1:] not in before)
  return joint


def inline_in_copy(graph, order, nodes):
  """Inlines the calls of functions whose gradient TensorFlow cannot know.

  Args:
    graph: `tf.Graph` whose library holds the functions.
    order: list of `tf.Operation`, those that are copied.
    nodes: list of NodeDef, their copies.

  Returns:
    (list of NodeDef, dict from the names of tensors that are gone to the names
    of what took their places, dict from the name of each call to the names of
    the nodes that have to wait as it did).
  """
  calls = {op.name for op in order
           if op.type in op_types.CALLS and (
               not _tf.has_gradient(op) or custom_gradient_ops.is_foreign(op) or
               python_functions.are_called(op))}
  result, renamed, first = [], {}, {}
  for node in nodes:
    inlined = (inline_in_graph(graph, node)
               if node.name in calls else None)
    if inlined is None:
      result.append(node)
    else:
      result.extend(inlined[0])
      renamed.update(inlined[1])
      first[node.name] = inlined[2]
  rename_inputs(result, renamed)
  return result, renamed, first


def handles(order):
  """The variables that ops read.

  Args:
    order: list of `tf.Operation`.

  Returns:
    dict from the name of a handle to (the same name, `tf.DType` of the
    variable, its shape, a TensorShapeProto).
  """
  return {t.name: (t.name, t.op.get_attr("dtype"), t.op.get_attr("shape"))
          for op in order for t in op.inputs if t.op.type == "VarHandleOp"}


def renew_functions(graph, handles, nodes, differentiated):
  """Copies of the functions that ops call, under names not used before.

  TensorFlow differentiates a loop by making functions whose names it derives
  from the old ones, and keeps them for the whole process: a second gradient of
  the same function would collide with the first. What it has to know of the
  variables that a function takes is written into the copy: without, gradients
  inside nested functions come out as zeros.

  Args:
    graph: `tf.Graph` whose library holds the functions.
    handles: dict from tensor name to a variable, as `handles` gives it.
    nodes: list of NodeDef, changed to call the copies.
    differentiated: names of the handles that will be differentiated by.

  Returns:
    list of FunctionDef.

  Raises:
    UnsupportedGraphError: this TensorFlow cannot be relied on for the gradient
      by a variable that is read in a function inside a function.
  """
  renewal = _Renewal(graph, differentiated)
  for node in nodes:
    renewal.renew(node, _taken(node, handles))
  return list(renewal.copies.values())


def _taken(node, handles):
  """dict from the index of each input that is a handle to its variable."""
  return {i: handles[name] for i, name in enumerate(node.input)
          if name in handles}


class _Renewal:
  """Copies of functions with a suffix of their own at the end of their names.

  Attributes:
    copies: dict from the new name of each function to its FunctionDef.
  """

  def __init__(self, graph, differentiated):
    self.copies = collections.OrderedDict()
    self._graph = graph
    self._differentiated = differentiated
    self._suffix = "_gradfeed_" + uuid.uuid4().hex[:12]

  def renew(self, node, taken):
    """Makes a node call copies of its functions.

    Args:
      node: NodeDef; changed.
      taken: dict from the index of an input to the variable whose handle it is.
    """
    if node.op not in op_types.FUNCTIONAL:
      return
    first = op_types.FUNCTION_CALLS[node.op].first_argument
    arguments = {i - first: variable for i, variable in taken.items()}
    for callee in _tf.callees(node):
      name = callee.name + self._suffix
      if name not in self.copies:
        function = copied_definition(self._graph, callee.name)
        if function is None:
          continue
        function.signature.name = name
        self.copies[name] = function
        self._renew_body(function, arguments)
      callee.name = name

  def _renew_body(self, function, arguments):
    """Makes the nodes of a copied function call copies in turn.

    Args:
      function: FunctionDef; changed.
      arguments: dict from the index of an argument to its variable.
    """
    inline_calls(self._graph, function)
    handles_inside = {}
    for i, variable in arguments.items():
      argument = function.signature.input_arg[i]
      handles_inside[argument.name] = variable
      _tf.set_handle_data(argument, *variable[1:])
    for node in function.node_def:
      custom_gradient_ops.keep(node)
      taken = _taken(node, handles_inside)
      self._check_nested(node, taken)
      self.renew(node, taken)

  def _check_nested(self, node, taken):
    """Refuses a gradient that TF 1 gives as zeros: see `renew_functions`."""
    if node.op not in op_types.FUNCTIONAL or _tf.HAS_HANDLE_DATA:
      return
    for name, _, _ in taken.values():
      if name in self._differentiated:
        raise errors.UnsupportedGraphError(
            "No gradient by '{}'.".format(name),
            "{} '{}' reads it in a function inside a function, where this "
            "version of TensorFlow ({}) may lose the gradient without a "
            "word.".format(node.op, node.name, _tf.VERSION),
            "Read the variable before the loop or the branch, or build it "
            "with control flow v1.")
