"""Which variant tensors of a graph and of its functions are the same.

A list goes through the variables of loops, the arguments of functions and the
ops that write to it, and stays one list; so does an optional value.
"""

import collections

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import op_types

#: Ops of lists to the indices of the list and of the element among the inputs,
#: and of both among the outputs; None where there is none.
LISTS = {
    "EmptyTensorList": (None, None, 0, None),
    "TensorListElementShape": (0, None, None, None),
    "TensorListFromTensor": (None, None, 0, None),
    "TensorListGetItem": (0, None, None, 0),
    "TensorListLength": (0, None, None, None),
    "TensorListPopBack": (0, None, 0, 1),
    "TensorListPushBack": (0, 1, 0, None),
    "TensorListReserve": (None, None, 0, None),
    "TensorListResize": (0, None, 0, None),
    "TensorListSetItem": (0, 2, 0, None),
    "TensorListStack": (0, None, None, None),
}

#: Ops that make an optional or take its value, to how that is named.
OPTIONALS = {"OptionalFromValue": "optional", "OptionalNone": "optional",
             "OptionalGetValue": "components"}


def places(graph_def, graph, bodies_of):
  """Where ops are: in the graph, and in each function that is called.

  Args:
    graph_def: GraphDef in which each op calls functions of its own.
    graph: `tf.Graph` that was made of it.
    bodies_of: as in `value_checks.FixedValues`.

  Returns:
    list of (`tf.Graph`, FunctionDef, or None for the outermost).
  """
  library = {f.signature.name: f for f in graph_def.library.function}
  found = [(graph, None)]
  for place, function in found:  # Which grows meanwhile.
    nodes = {node.name: node for node in (
        graph_def.node if function is None else function.node_def)}
    for op in place.get_operations():
      if op.type in op_types.FUNCTION_CALLS:
        for attribute in op_types.FUNCTION_CALLS[op.type].functions:
          found += zip(bodies_of(op, attribute), [
              library[callee.name] for callee in _tf.callees(
                  nodes[op.name], [attribute])])
  return found


class Kinds:
  """Which variant tensors are the same optional, or the same kind of list."""

  def __init__(self, graphs, bodies_of):
    """Reads graphs.

    Args:
      graphs: iterable of `tf.Graph`, the outermost and those of functions.
      bodies_of: as in `value_checks.FixedValues`.
    """
    self._bodies_of = bodies_of
    self._parents, self._elements = {}, {}
    self._makers = []
    self._others = set()  # What is read or made in a way that is not known.
    for graph in graphs:
      self._read(graph)

  def of(self, tensor):
    """What stands for all tensors that are the same as one; or None."""
    return self._find(_key(tensor)) if tensor.dtype == tf.variant else None

  def element(self, kind):
    """The kind of the elements of a kind of list."""
    return self._find(self._elements.setdefault(kind, ("element", kind)))

  def optionals(self):
    """dict from each kind of optional to its (dtype, shape or None).

    Those that nothing else reads, and of which what is needed is known.
    """
    makers = collections.defaultdict(list)
    for maker in self._makers:
      makers[self.of(maker.outputs[0])].append(maker)
    others = {self._find(key) for key in self._others}
    known = {}
    for kind, ops in makers.items():
      values = [op.inputs[0] for op in ops if len(op.inputs) == 1]
      shapes = {tuple(value.shape.as_list()) for value in values
                if value.shape.is_fully_defined()}
      has_none = any(op.type == "OptionalNone" for op in ops)
      if kind not in others and len({v.dtype for v in values}) == 1 and (
          len(shapes) <= 1 and (shapes or not has_none)) and all(
              len(op.inputs) == 1 or op.type == "OptionalNone" for op in ops):
        known[kind] = values[0].dtype, shapes.pop() if shapes else None
    return {kind: value for kind, value in known.items()
            if value[0] not in (tf.variant, tf.resource, tf.string)}

  def _read(self, graph):
    """Takes the ops of a graph into account."""
    for op in graph.get_operations():
      if not any(t.dtype == tf.variant
                 for t in list(op.inputs) + list(op.outputs)):
        continue
      if op.type == "Identity":
        self._unite(op.inputs[0], op.outputs[0])
      elif op.type in op_types.FUNCTION_CALLS:
        self._read_call(op)
      elif op.type in LISTS:
        self._read_list(op)
      elif op.type in OPTIONALS:
        self._makers += [op] if op.type != "OptionalGetValue" else []
      elif op.type != "Placeholder":
        self._others.update(_key(t) for t in list(op.inputs) + list(op.outputs)
                            if t.dtype == tf.variant)

  def _read_call(self, op):
    call = op_types.FUNCTION_CALLS[op.type]
    given = list(op.inputs)[call.first_argument:]
    for attribute in call.functions:
      for body in self._bodies_of(op, attribute):
        pairs = list(zip(given, body.inputs))
        if attribute != "cond":
          pairs += zip(op.outputs, body.outputs)
        if op.type in op_types.FUNCTIONAL_LOOPS:
          pairs += zip(given, op.outputs)
        for one, other in pairs:
          self._unite(one, other)

  def _read_list(self, op):
    list_in, element_in, list_out, element_out = LISTS[op.type]
    made = op.inputs[list_in] if list_out is None else op.outputs[list_out]
    if list_in is not None:
      self._unite(op.inputs[list_in], made)
    element = (op.inputs[element_in] if element_in is not None else
               op.outputs[element_out] if element_out is not None else None)
    if element is not None and element.dtype == tf.variant:
      self._join(self.element(self.of(made)), self.of(element))

  def _unite(self, one, other):
    if one.dtype == tf.variant and other.dtype == tf.variant:
      self._join(self.of(one), self.of(other))

  def _join(self, one, other):
    """Makes two kinds one, and their elements too."""
    if one == other:
      return
    self._parents[one] = other
    element = self._elements.pop(one, None)
    if element is not None:
      self._join(self._find(element), self.element(other))

  def _find(self, key):
    while key in self._parents:
      key = self._parents[key]
    return key


def _key(tensor):
  return tensor.graph, tensor.name
