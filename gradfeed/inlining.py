"""Puts the nodes of a function in the place of the op that calls it.

TensorFlow knows the gradient of a call only in the Python object that made
it. A call that was read from a file, or that stands inside another function,
falls back on gradients of the C++ library, which lack many ops and pass over
custom gradients. With the nodes in its place there is no call.
"""

from gradfeed import _tf
from gradfeed import unknown_gradients

CALLS = frozenset(["PartitionedCall", "StatefulPartitionedCall"])


def callee_of(graph, node):
  """The FunctionDef that a node calls, its own calls inlined; None if unknown.
  """
  source = _tf.function_definition(graph, node.attr["f"].func.name)
  if source is None:
    return None
  function = type(source)()
  function.CopyFrom(source)
  unknown_gradients.mark_nodes(graph, function)
  inline_calls(graph, function)
  return function


def inline_calls(graph, function):
  """Inlines every call in a FunctionDef, in place."""
  nodes, renamed = [], {}
  for node in function.node_def:
    callee = callee_of(graph, node) if node.op in CALLS else None
    if callee is None:
      nodes.append(_copy(node))
      continue
    data = [name for name in node.input if not name.startswith("^")]
    arguments = {argument.name: name for argument, name in zip(
        callee.signature.input_arg, data)}
    nodes.extend(_inlined(callee.node_def, node, arguments)[0])
    results = [_inside(callee.ret[result.name], node.name, arguments)
               for result in callee.signature.output_arg]
    for i, result in enumerate(results):
      renamed["{}:output:{}".format(node.name, i)] = result
    nodes.append(_joint(node, callee, results))
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
    bears the name of the call, for what waits for it.
  """
  callee = callee_of(graph, node)
  if callee is None:
    return None
  flat, names = _tf.flat_nodes(graph, callee)
  count = len(callee.signature.input_arg)
  data = [name for name in node.input if not name.startswith("^")]
  arguments = {argument.name + ":0": name for argument, name in zip(
      callee.signature.input_arg, data)}
  nodes, first = _inlined(flat[count:], node, arguments)
  results = [_inside(names[callee.ret[result.name]], node.name, arguments)
             for result in callee.signature.output_arg]
  nodes.append(_joint(node, callee, results))
  return nodes, {"{}:{}".format(node.name, i): result
                 for i, result in enumerate(results)}, first


def rename_inputs(nodes, renamed):
  for node in nodes:
    for i, name in enumerate(node.input):
      if name in renamed:
        node.input[i] = last_name(name, renamed)


def last_name(name, renamed):
  """Where a chain of renamings ends."""
  while name in renamed:
    name = renamed[name]
  return name


def _copy(node):
  copy = type(node)()
  copy.CopyFrom(node)
  return copy


def _inside(name, prefix, arguments):
  """The name that an input inside of the function has outside."""
  if name in arguments:
    return arguments[name]
  if name.startswith("^"):
    return "^{}/{}".format(prefix, name[1:])
  return "{}/{}".format(prefix, name)


def _inlined(body, call, arguments):
  """(the nodes of `body` under the name of `call`, names of the first ones)."""
  waits = [name for name in call.input if name.startswith("^")]
  bare = {"^" + name.split(":")[0]: arguments[name] for name in arguments}
  nodes, first = [], []
  for node in body:
    node = _copy(node)
    inputs = [name for name in node.input if name not in bare]
    waited = ["^" + bare[name].split(":")[0] for name in node.input
              if name in bare and ":" in bare[name]]
    node.name = "{}/{}".format(call.name, node.name)
    del node.input[:]
    node.input.extend(_inside(name, call.name, arguments) for name in inputs)
    node.input.extend(waited)
    if all(name in arguments for name in inputs):
      node.input.extend(waits)  # What comes first waits as the call would.
      first.append(node.name)
    # Places are named within the function.
    if "_class" in node.attr:
      del node.attr["_class"]
    nodes.append(node)
  return nodes, first


def _joint(call, callee, results):
  """A NoOp in the name of the call: runs when all of its function has."""
  joint = type(call)(name=call.name, op="NoOp")
  before = {result.split(":")[0] for result in results if ":" in result}
  before.update("{}/{}".format(call.name, name)
                for name in callee.control_ret.values())
  joint.input.extend("^" + name for name in sorted(before))
  joint.input.extend(name for name in call.input
                     if name.startswith("^") and name[1:] not in before)
  return joint
