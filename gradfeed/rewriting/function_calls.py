"""Puts the bodies of called functions in the place of the calls."""

import collections
import uuid

from gradfeed import _tf
from gradfeed import errors
from gradfeed.graph import op_types
from gradfeed.rewriting import custom_gradient_ops


def callee_of(graph, node):
  """The FunctionDef that a node calls, its own calls inlined; None if unknown.
  """
  source = _tf.function_definition(graph, node.attr["f"].func.name)
  if source is None:
    return None
  function = type(source)()
  function.CopyFrom(source)
  custom_gradient_ops.mark_nodes(graph, function)
  inline_calls(graph, function)
  return function


def inline_calls(graph, function):
  """Inlines every call in a FunctionDef, in place."""
  nodes, renamed = [], {}
  for node in function.node_def:
    callee = callee_of(graph, node) if node.op in op_types.CALLS else None
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


def inline_in_copy(graph, order, nodes):
  """Inlines the calls of functions whose gradient TensorFlow cannot know.

  Returns:
    (list of NodeDef, dict from the names of tensors that are gone to the names
    of what took their places, dict from the name of each call to the names of
    the nodes that have to wait as it did).
  """
  calls = {op.name for op in order
           if op.type in op_types.CALLS and (
               not _tf.has_gradient(op) or custom_gradient_ops.is_foreign(op))}
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
  """(name, dtype, shape) of each variable that an op reads, by handle."""
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
    handles: dict from tensor name to what `_handles` tells of it.
    nodes: list of NodeDef, changed to call the copies.
    differentiated: names of the handles that will be differentiated by.

  Returns:
    list of FunctionDef.
  """
  suffix = "_gradfeed_" + uuid.uuid4().hex[:12]
  made = collections.OrderedDict()

  def renew(node, handles, nested=True):
    if node.op not in op_types.FUNCTIONAL:
      return
    if nested and not _tf.HAS_HANDLE_DATA:
      for name, _, _ in handles.values():
        if name in differentiated:
          raise errors.UnsupportedGraphError(
              "No gradient by '{}'.".format(name),
              "{} '{}' reads it in a function inside a function, where this "
              "version of TensorFlow ({}) may lose the gradient without a "
              "word.".format(node.op, node.name, _tf.VERSION),
              "Read the variable before the loop or the branch, or build it "
              "with control flow v1.")
    first = op_types.FUNCTION_CALLS[node.op].first_argument
    handles = {i - first: handle for i, handle in handles.items()}
    for value in node.attr.values():
      for callee in ([value.func] if value.HasField("func")
                     else value.list.func):
        source = _tf.function_definition(graph, callee.name)
        if source is not None:
          callee.name += suffix
          if callee.name not in made:
            made[callee.name] = type(source)()
            made[callee.name].CopyFrom(source)
            custom_gradient_ops.mark_nodes(graph, made[callee.name])
            renew_body(made[callee.name], callee.name, handles)

  def renew_body(function, name, handles):
    function.signature.name = name
    inline_calls(graph, function)
    named = {}
    for i, handle in handles.items():
      argument = function.signature.input_arg[i]
      named[argument.name] = handle
      _tf.set_handle_data(argument, *handle[1:])
    for node in function.node_def:
      custom_gradient_ops.keep(node)
      renew(node, {i: named[source] for i, source in enumerate(node.input)
                   if source in named})

  for node in nodes:
    renew(node, {i: handles[name] for i, name in enumerate(node.input)
                 if name in handles}, nested=False)
  return list(made.values())
