"""Functions that are called with some arguments known."""

import re

from gradfeed import _tf
from gradfeed.branches import constant_values
from gradfeed.branches import scopes
from gradfeed.graph import op_types
from gradfeed.graph import traversal


#: Ops that count as stateful and have no effect: they read a variable.
_READING = re.compile(r"^(ReadVariableOp|ResourceGather(Nd)?|VariableShape)$")


class Body(scopes.Scope):
  """The nodes of a function that is called with some arguments known.

  Attributes:
    function: str, the name of the function.
    decides_any: bool, whether a predicate in it is known.
  """

  kind = staticmethod(lambda node: node.op)
  name = staticmethod(lambda node: node.name)
  key = staticmethod(lambda tensor: tensor)
  index = staticmethod(lambda tensor: int(tensor.split(":")[2]))
  node_def = staticmethod(lambda node: node)
  inputs = staticmethod(lambda node: [t for t in node.input if t[0] != "^"])
  is_first = staticmethod(lambda tensor: tensor.split(":")[1] == "output")
  may_be_scalar = staticmethod(lambda unused_tensor: True)
  outputs_of_switch = staticmethod(lambda node: [
      node.name + ":output_false:0", node.name + ":output_true:0"])

  def __init__(self, library, definition, values, depth):
    """Finds what does not run.

    Args:
      library: `Library`.
      definition: FunctionDef.
      values: list with the array of each argument, None where it is not known.
      depth: int.
    """
    self._arguments = [argument.name
                       for argument in definition.signature.input_arg]
    super().__init__(library, zip(self._arguments, values), depth)
    self._definition = definition
    self.function = definition.signature.name
    self._nodes = {node.name: node for node in definition.node_def}
    self.decides_any = False  # For a function that calls itself.
    self.decides_any = self.find_dead(list(definition.node_def))
    self._used = {}

  def maker(self, tensor):
    """The node of a tensor; None for an argument."""
    return self._nodes.get(tensor.split(":")[0])

  def controls(self, node):
    """The nodes that a node waits for."""
    names = [t[1:] for t in node.input if t[0] == "^"]
    return [self._nodes[name] for name in names if name in self._nodes]

  def running(self):
    """The list of the nodes that run."""
    return [node for node in self._definition.node_def
            if node.name not in self.dead]

  def result(self, i):
    """The value of result `i`, or None."""
    results = [argument.name
               for argument in self._definition.signature.output_arg]
    return (self.value(self._definition.ret[results[i]])
            if i < len(results) else None)

  def used(self, results=None):
    """The indices of the arguments that change a result or have an effect.

    Args:
      results: tuple of the indices of the results that are of interest, or None
        for all.
    """
    if results not in self._used:
      # If it calls itself.
      self._used[results] = set(range(len(self._arguments)))
      names = [argument.name
               for argument in self._definition.signature.output_arg]
      tensors = [self._definition.ret[name] for i, name in enumerate(names)
                 if results is None or i in results]
      nodes = [node for node in self.running()
               if self._library.is_stateful(node.op)]
      nodes += [self._nodes[name]
                for name in self._definition.control_ret.values()]
      names = self._reached(tensors, nodes)
      self._used[results] = {i for i, name in enumerate(self._arguments)
                             if name in names}
    return self._used[results]

  def _reached(self, tensors, nodes):
    """The names of the nodes and arguments that some are computed from."""
    names = {node.name for node in nodes}
    while nodes or tensors:
      if nodes:
        node = nodes.pop()
        tensors.extend(self.reads(node))
        before = self.controls(node)
      else:
        tensor = tensors.pop()
        maker = self.maker(tensor)
        if maker is None:
          names.add(tensor)
        before = [maker] if maker is not None else []
      for node in before:
        if node.name not in names:
          names.add(node.name)
          nodes.append(node)
    return names


class Library:
  """The functions of a graph; each with certain arguments is looked at once.

  Attributes:
    has_defaults: bool, whether a placeholder with a default has that value.
  """

  def __init__(self, graph, has_defaults):
    self._graph = graph
    self.has_defaults = has_defaults
    self._bodies, self._calls = {}, {}

  def calls(self, kind):
    """Whether an op of type `kind` calls functions that are known here."""
    if kind not in self._calls:
      self._calls[kind] = kind in op_types.FUNCTIONAL or (
          kind == "SymbolicGradient" or
          _tf.function_definition(self._graph, kind) is not None)
    return self._calls[kind]

  def bodies(self, names, values, depth):
    """The `Body` of each of some functions with the same arguments.

    Args:
      names: list of str; those that are no functions are left out.
      values: list of arrays and None, or None where nothing is known.
      depth: int, how deep the call is.
    """
    found = []
    for name in names:
      key = name, tuple(map(constant_values.token, values or ()))
      if key not in self._bodies:
        definition = _tf.function_definition(self._graph, name)
        if definition is None:
          continue
        count = len(definition.signature.input_arg)
        self._bodies[key] = Body(
            self, definition, values or [None] * count, depth + 1)
      found.append(self._bodies[key])
    return found

  def all_nodes_called(self, node_def):
    """Yields the NodeDefs of all functions that a node may call."""
    for definition in traversal.functions_called(self._graph, [node_def]):
      yield from definition.node_def

  def invariants(self, name):
    """The indices of what the body of a loop hands on as it is."""
    definition = _tf.function_definition(self._graph, name)
    nodes = {node.name: node for node in definition.node_def}
    kept = set()
    pairs = zip(definition.signature.input_arg,
                definition.signature.output_arg)
    for i, (argument, result) in enumerate(pairs):
      tensor = definition.ret[result.name]
      while ":" in tensor and nodes[tensor.split(":")[0]].op == "Identity":
        tensor = nodes[tensor.split(":")[0]].input[0]
      if tensor == argument.name:
        kept.add(i)
    return kept

  def is_stateful(self, kind):
    """Whether an op of type `kind` may have an effect."""
    if _READING.search(kind) or op_types.RANDOM.search(kind):
      return False
    definition = _tf.op_definition(self._graph, kind)
    return definition is None or definition.is_stateful
