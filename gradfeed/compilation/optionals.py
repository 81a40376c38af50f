"""Values in the place of the optionals that branches hand to their gradients.

What a branch of a conditional computes, and its gradient needs, leaves it as an
optional value; the branch that is not taken leaves none. XLA knows no optional
values. At known shapes a branch can leave the value itself, or zeros, which the
gradient of that branch does not read.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.compilation import turns
from gradfeed.graph import op_types


def replace(graph_def, graph, bodies_of):
  """Replaces the optionals of the branches that are outside of loops.

  Args:
    graph_def: GraphDef; changed.
    graph: `tf.Graph` that was made of it.
    bodies_of: as in `value_checks.FixedValues`.

  Returns:
    bool, whether there were any.
  """
  nodes = {node.name: node for node in graph_def.node}
  library = {f.signature.name: f for f in graph_def.library.function}
  has_changed = False
  for op in graph.get_operations():
    if op.type not in op_types.FUNCTIONAL_BRANCHES:
      continue
    branches = [(body, library[callee.name])
                for attribute in op_types.FUNCTION_CALLS[op.type].functions
                for body, callee in zip(
                    bodies_of(op, attribute),
                    _tf.callees(nodes[op.name], [attribute]))]
    for j, output in enumerate(op.outputs):
      value = _value(branches, j)
      if value is None or not _is_read_by_branches(
          output, bodies_of):
        continue
      for body, function in branches:
        _leave_value(body, function, j, value)
      nodes[op.name].attr["Tout"].list.type[j] = value.dtype.as_datatype_enum
      del nodes[op.name].attr["output_shapes"].list.shape[:]
      _read_value(output, value.dtype, nodes, library)
      has_changed = True
  return has_changed


def _value(branches, index):
  """The value that a result of branches is where there is one, or None.

  Args:
    branches: list of (graph of a branch, its FunctionDef).
    index: int, of the result.

  Returns:
    `tf.Tensor` in the graph of a branch.
  """
  makers = [turns.source(body.outputs[index]).op for body, _ in branches]
  values = [maker for maker in makers if maker.type == "OptionalFromValue" and
            len(maker.inputs) == 1]
  others = [maker for maker in makers if maker.type == "OptionalNone"]
  if not values or len(values) + len(others) < len(makers):
    return None
  value = values[0].inputs[0]
  if not all(maker.inputs[0].shape.is_fully_defined() for maker in values):
    return None
  kinds = {(maker.inputs[0].dtype, tuple(maker.inputs[0].shape.as_list()))
           for maker in values}
  return value if len(kinds) == 1 and (
      _tf.is_number(value.dtype) or value.dtype in (
          tf.int32, tf.int64, tf.bool)) else None


def _is_read_by_branches(tensor, bodies_of):
  """Whether only branches read an optional, and only take its value."""
  for user in tensor.consumers():
    if user.type == "Identity":
      if not _is_read_by_branches(user.outputs[0], bodies_of):
        return False
    elif user.type not in op_types.FUNCTIONAL_BRANCHES or not all(
        reader.type == "OptionalGetValue"
        for i, given in enumerate(user.inputs) if given is tensor
        for attribute in op_types.FUNCTION_CALLS[user.type].functions
        for body in bodies_of(user, attribute)
        for reader in body.inputs[i - 1].consumers()):
      return False
  return True


def _leave_value(body, function, index, value):
  """Makes a result of a FunctionDef the value of an optional, or zeros."""
  maker = turns.source(body.outputs[index]).op
  output = function.signature.output_arg[index]
  output.type = value.dtype.as_datatype_enum
  made = next(node for node in function.node_def if node.name == maker.name)
  if maker.type == "OptionalFromValue":
    function.ret[output.name] = made.input[0]
  else:
    zeros = function.node_def.add(
        name="{}/zeros_{}".format(maker.name, index), op="Const")
    zeros.attr["dtype"].type = value.dtype.as_datatype_enum
    zeros.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.zeros(
        value.shape.as_list(), _tf.numpy_dtype(value.dtype)), value.dtype))
    function.ret[output.name] = zeros.name + ":output:0"
  _drop_unread(function)


def _drop_unread(function):
  """Takes the optionals from a FunctionDef that nothing in it reads."""
  makers = ("OptionalFromValue", "OptionalNone", "Identity")
  while True:
    read = {name.lstrip("^").split(":")[0] for node in function.node_def
            for name in node.input}
    read.update(name.split(":")[0] for name in function.ret.values())
    unread = [node for node in function.node_def if node.op in makers and
              node.name not in read]
    if not unread:
      return
    for node in unread:
      function.node_def.remove(node)


def _read_value(tensor, dtype, nodes, library):
  """Makes what reads an optional read its value.

  Args:
    tensor: `tf.Tensor`, the optional.
    dtype: `tf.DType` of the value.
    nodes: dict from name to NodeDef.
    library: dict from name to FunctionDef.
  """
  for user in tensor.consumers():
    node = nodes[user.name]
    if user.type == "Identity":
      node.attr["T"].type = dtype.as_datatype_enum
      _read_value(user.outputs[0], dtype, nodes, library)
      continue
    for i, given in enumerate(user.inputs):
      if given is tensor:
        node.attr["Tin"].list.type[i - 1] = dtype.as_datatype_enum
        for callee in _tf.callees(node):
          _take_value(library[callee.name], i - 1, dtype)


def _take_value(function, index, dtype):
  """Makes an argument of a FunctionDef the value of an optional."""
  argument = function.signature.input_arg[index]
  argument.type = dtype.as_datatype_enum
  function.arg_attr.pop(index, None)
  renamed = {}
  for node in function.node_def:
    if node.op == "OptionalGetValue" and node.input[0] == argument.name:
      node.op = "Identity"
      node.attr.clear()
      node.attr["T"].type = dtype.as_datatype_enum
      renamed[node.name + ":components:0"] = node.name + ":output:0"
  for node in function.node_def:
    for i, name in enumerate(node.input):
      node.input[i] = renamed.get(name, name)
  for output, name in list(function.ret.items()):
    function.ret[output] = renamed.get(name, name)
