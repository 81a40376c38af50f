"""Nodes of a graph or of a function, and more of them."""

from gradfeed._tf import tf


class Nodes:
  """The nodes of a graph, or of a function, that are changed."""

  def __init__(self, nodes, is_function):
    """Takes them.

    Args:
      nodes: repeated field of NodeDef.
      is_function: bool; whether they are of a function, where inputs are named
        in another way.
    """
    self._nodes, self._is_function = nodes, is_function
    self._by_name = {node.name: node for node in nodes}

  def __getitem__(self, name):
    return self._by_name[name]

  def has(self, name):
    """Whether there is a node of a name; arguments of functions are none."""
    return name in self._by_name

  def result(self, name, output, index=0):
    """How a result is named where it is read.

    Args:
      name: str, that of the node.
      output: str, the output of the op, by its OpDef.
      index: int, of the tensor in this output.
    """
    if self._is_function:
      return "{}:{}:{}".format(name, output, index)
    return "{}:{}".format(name, index) if index else name

  def add(self, name, op, inputs):
    """Adds a NodeDef."""
    node = self._by_name[name] = self._nodes.add(
        name=name, op=op, input=inputs)
    return node

  def add_constant(self, name, value):
    """Adds a constant, an array; how it is named where it is read."""
    node = self.add(name, "Const", [])
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    return self.result(name, "output")

  def add_call(self, name, function, inputs):
    """Adds the call of a FunctionDef; how its first result is named."""
    self.become_call(self.add(name, "PartitionedCall", inputs), function)
    return self.result(name, "output")

  def become_call(self, node, function):
    """Makes a NodeDef call a FunctionDef with what it reads."""
    node.op = "PartitionedCall"
    node.attr.clear()
    node.attr["f"].func.name = function.signature.name
    node.attr["Tin"].list.type.extend(
        argument.type for argument in function.signature.input_arg)
    node.attr["Tout"].list.type.extend(
        result.type for result in function.signature.output_arg)


def rename(function, renamed):
  """Has a FunctionDef read and return tensors by other names.

  Args:
    function: FunctionDef; changed.
    renamed: dict from the old names to the new ones.
  """
  for node in function.node_def:
    for i, name in enumerate(node.input):
      node.input[i] = renamed.get(name, name)
  for output, name in list(function.ret.items()):
    function.ret[output] = renamed.get(name, name)
