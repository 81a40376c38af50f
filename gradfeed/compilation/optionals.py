"""Values in the place of the optionals that branches hand to their gradients.

What a branch of a conditional computes, and its gradient needs, leaves it as an
optional value; the branch that is not taken leaves none. In a loop it goes onto
a list. XLA knows no optional values. At known shapes a branch can leave the
value itself, or zeros, which the gradient of that branch does not read.
"""

import collections

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.compilation import nodes as nodes_lib
from gradfeed.graph import op_types

#: Ops of lists to the indices of the list and of the element among the inputs,
#: and of both among the outputs; None where there is none.
_LISTS = {
    "EmptyTensorList": (None, None, 0, None),
    "TensorListReserve": (None, None, 0, None),
    "TensorListPushBack": (0, 1, 0, None),
    "TensorListPopBack": (0, None, 0, 1),
    "TensorListGetItem": (0, None, None, 0),
    "TensorListSetItem": (0, 2, 0, None),
    "TensorListLength": (0, None, None, None),
    "TensorListElementShape": (0, None, None, None),
}

#: Those that are told the shape of an element, to the index of that input.
_SHAPED = {"EmptyTensorList": 0, "TensorListReserve": 0,
           "TensorListPopBack": 1, "TensorListGetItem": 2}

#: Ops that make an optional or take its value, to how that is named.
_NAMED = {"OptionalFromValue": "optional", "OptionalNone": "optional",
          "OptionalGetValue": "components"}


def replace(graph_def, graph, bodies_of):
  """Replaces the optionals whose values have a known dtype and shape.

  Args:
    graph_def: GraphDef; changed.
    graph: `tf.Graph` that was made of it.
    bodies_of: as in `value_checks.FixedValues`.

  Returns:
    bool, whether there were any.
  """
  library = {f.signature.name: f for f in graph_def.library.function}
  places = [(graph, None)]
  calls = {}
  for place, _ in places:  # Which grows meanwhile.
    nodes = {node.name: node for node in (
        graph_def.node if place is graph else calls[place].node_def)}
    for op in place.get_operations():
      if op.type in op_types.FUNCTION_CALLS:
        for attribute in op_types.FUNCTION_CALLS[op.type].functions:
          for body, callee in zip(bodies_of(op, attribute), _tf.callees(
              nodes[op.name], [attribute])):
            calls[body] = library[callee.name]
            places.append((body, calls[body]))
  kinds = _Kinds(bodies_of)
  for place, _ in places:
    kinds.read(place)
  values = kinds.values()
  if values:
    for place, function in places:
      _Rewriting(place, function, graph_def, kinds, values).apply()
  return bool(values)


class _Kinds:
  """Which variant tensors are the same optional, or the same kind of list."""

  def __init__(self, bodies_of):
    self._bodies_of = bodies_of
    self._parents, self._elements = {}, {}
    self._makers = []
    self._others = set()  # What is read or made in a way that is not known.

  def of(self, tensor):
    """What stands for all tensors that are the same as one; or None."""
    return self._find(_key(tensor)) if tensor.dtype == tf.variant else None

  def element(self, kind):
    """The kind of the elements of a kind of list."""
    return self._find(self._elements.setdefault(kind, ("element", kind)))

  def read(self, graph):
    """Takes the ops of a graph into account."""
    for op in graph.get_operations():
      if not any(t.dtype == tf.variant
                 for t in list(op.inputs) + list(op.outputs)):
        continue
      if op.type == "Identity":
        self._unite(op.inputs[0], op.outputs[0])
      elif op.type in op_types.FUNCTION_CALLS:
        self._read_call(op)
      elif op.type in _LISTS:
        self._read_list(op)
      elif op.type in _NAMED:
        self._makers += [op] if op.type != "OptionalGetValue" else []
      elif op.type != "Placeholder":
        self._others.update(_key(t) for t in list(op.inputs) + list(op.outputs)
                            if t.dtype == tf.variant)

  def values(self):
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
    list_in, element_in, list_out, element_out = _LISTS[op.type]
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


class _Rewriting:
  """Values in the place of optionals, in one graph."""

  def __init__(self, graph, function, graph_def, kinds, values):
    """Takes what is changed.

    Args:
      graph: `tf.Graph`, the outermost or that of a function.
      function: FunctionDef of it, or None for the outermost.
      graph_def: GraphDef.
      kinds: `_Kinds`.
      values: dict, as `_Kinds.values` gives it.
    """
    self._graph, self._function = graph, function
    self._nodes = nodes_lib.Nodes(
        graph_def.node if function is None else function.node_def,
        function is not None)
    self._kinds, self._values = kinds, values
    self._renamed = {}

  def apply(self):
    for op in self._graph.get_operations():
      self._change(op, self._nodes[op.name] if self._nodes.has(
          op.name) else None)
    if self._function is None:
      return
    signature = self._function.signature
    for i, tensor in enumerate(self._graph.inputs):
      if self._value(tensor):
        signature.input_arg[i].type = self._dtype(tensor)
        self._function.arg_attr.pop(i, None)
    for i, tensor in enumerate(self._graph.outputs):
      if self._value(tensor):
        signature.output_arg[i].type = self._dtype(tensor)
    for node in self._function.node_def:
      for i, name in enumerate(node.input):
        node.input[i] = self._renamed.get(name, name)
    for output, name in list(self._function.ret.items()):
      self._function.ret[output] = self._renamed.get(name, name)

  def _value(self, tensor):
    """The (dtype, shape) of the value in the place of an optional, or None."""
    return self._values.get(self._kinds.of(tensor))

  def _dtype(self, tensor):
    return self._value(tensor)[0].as_datatype_enum

  def _change(self, op, node):
    """Changes the NodeDef of an op."""
    if op.type in op_types.FUNCTION_CALLS:
      self._change_call(op, node)
    elif op.type in _SHAPED or op.type in _LISTS:
      self._change_list(op, node)
    elif op.type == "Identity" and self._value(op.inputs[0]):
      node.attr["T"].type = self._dtype(op.inputs[0])
    elif op.type in _NAMED:
      optional = op.inputs[0] if op.type == "OptionalGetValue" else (
          op.outputs[0])
      if self._value(optional):
        self._change_optional(op, node, *self._value(optional))

  def _change_optional(self, op, node, dtype, shape):
    """Makes an op that makes an optional, or takes its value, do neither."""
    old = self._nodes.result(op.name, _NAMED[op.type])
    node.attr.clear()
    if op.type == "OptionalNone":
      node.op = "Const"
      node.attr["dtype"].type = dtype.as_datatype_enum
      node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(
          np.zeros(shape, _tf.numpy_dtype(dtype)), dtype))
    else:
      node.op = "Identity"
      node.attr["T"].type = dtype.as_datatype_enum
    self._renamed[old] = self._nodes.result(op.name, "output")

  def _change_call(self, op, node):
    call = op_types.FUNCTION_CALLS[op.type]
    given = list(op.inputs)[call.first_argument:]
    for attribute, given_or_made in [(call.argument_dtypes, given),
                                     (call.result_dtypes, op.outputs)]:
      for i, tensor in enumerate(given_or_made):
        if self._value(tensor):
          node.attr[attribute].list.type[i] = self._dtype(tensor)
          del node.attr["output_shapes"].list.shape[:]

  def _change_list(self, op, node):
    list_in, _, list_out, _ = _LISTS[op.type]
    made = op.inputs[list_in] if list_out is None else op.outputs[list_out]
    value = self._values.get(self._kinds.element(self._kinds.of(made)))
    if value is None or "element_dtype" not in node.attr:
      return
    node.attr["element_dtype"].type = value[0].as_datatype_enum
    if op.type in _SHAPED:
      node.input[_SHAPED[op.type]] = self._nodes.add_constant(
          op.name + "/shape_of_value", np.array(
              -1 if value[1] is None else value[1], np.int32))
      node.attr["shape_type"].type = tf.int32.as_datatype_enum


def _key(tensor):
  return tensor.graph, tensor.name
