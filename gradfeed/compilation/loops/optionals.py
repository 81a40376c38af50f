"""Values in the place of the optionals that branches hand to their gradients.

What a branch of a conditional computes, and its gradient needs, leaves it as an
optional value; the branch that is not taken leaves none. In a loop it goes onto
a list. XLA knows no optional values. At known shapes a branch can leave the
value itself, or zeros, which the gradient of that branch does not read.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.compilation.loops import nodes as nodes_lib
from gradfeed.compilation.loops import variants
from gradfeed.graph import op_types

#: Those that are told the shape of an element, to the index of that input.
_SHAPED = {"EmptyTensorList": 0, "TensorListReserve": 0,
           "TensorListPopBack": 1, "TensorListGetItem": 2}


def replace(graph_def, graph, bodies_of):
  """Replaces the optionals whose values have a known dtype and shape.

  Args:
    graph_def: GraphDef; changed.
    graph: `tf.Graph` that was made of it.
    bodies_of: as in `value_checks.FixedValues`.

  Returns:
    bool, whether there were any.
  """
  places = variants.places(graph_def, graph, bodies_of)
  kinds = variants.Kinds([place for place, _ in places], bodies_of)
  values = kinds.optionals()
  if values:
    for place, function in places:
      _Rewriting(place, function, graph_def, kinds, values).apply()
  return bool(values)


class _Rewriting:
  """Values in the place of optionals, in one graph."""

  def __init__(self, graph, function, graph_def, kinds, values):
    """Takes what is changed.

    Args:
      graph: `tf.Graph`, the outermost or that of a function.
      function: FunctionDef of it, or None for the outermost.
      graph_def: GraphDef.
      kinds: `variants.Kinds`.
      values: dict, as `variants.Kinds.optionals` gives it.
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
    nodes_lib.rename(self._function, self._renamed)

  def _value(self, tensor):
    """The (dtype, shape) of the value in the place of an optional, or None."""
    return self._values.get(self._kinds.of(tensor))

  def _dtype(self, tensor):
    return self._value(tensor)[0].as_datatype_enum

  def _change(self, op, node):
    """Changes the NodeDef of an op."""
    if op.type in op_types.FUNCTION_CALLS:
      self._change_call(op, node)
    elif op.type in _SHAPED or op.type in variants.LISTS:
      self._change_list(op, node)
    elif op.type == "Identity" and self._value(op.inputs[0]):
      node.attr["T"].type = self._dtype(op.inputs[0])
    elif op.type in variants.OPTIONALS:
      optional = op.inputs[0] if op.type == "OptionalGetValue" else (
          op.outputs[0])
      if self._value(optional):
        self._change_optional(op, node, *self._value(optional))

  def _change_optional(self, op, node, dtype, shape):
    """Makes an op that makes an optional, or takes its value, do neither."""
    old = self._nodes.result(op.name, variants.OPTIONALS[op.type])
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
          node.attr.pop("output_shapes", None)

  def _change_list(self, op, node):
    list_in, _, list_out, _ = variants.LISTS[op.type]
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


def write_shapes(graph_def, graph, bodies_of):
  """Writes the shapes of what loops put on lists to where it is taken.

  Args:
    graph_def, graph, bodies_of: as in `replace`.

  Returns:
    bool, whether any is new.
  """
  places = variants.places(graph_def, graph, bodies_of)
  pops = [op for place, _ in places[1:] for op in place.get_operations()
          if op.type == "TensorListPopBack" and op.outputs[1].consumers() and
          op.outputs[1].dtype != tf.variant and
          op.outputs[1].consumers()[0].type != "EnsureShape"]
  if not pops:
    return False
  kinds = variants.Kinds([place for place, _ in places], bodies_of)
  shapes = _shapes_put([place for place, _ in places], kinds)
  is_new = False
  for place, function in places[1:]:
    nodes, renamed, made = nodes_lib.Nodes(function.node_def, True), {}, []
    for op in pops:
      if op.graph is place and kinds.of(op.inputs[0]) in shapes:
        node = nodes.add(op.name + "/ensured", "EnsureShape", [])
        node.attr["T"].type = op.outputs[1].dtype.as_datatype_enum
        node.attr["shape"].shape.CopyFrom(tf.TensorShape(
            shapes[kinds.of(op.inputs[0])]).as_proto())
        taken = nodes.result(op.name, "tensor")
        renamed[taken] = nodes.result(node.name, "output")
        made.append((node, taken))
    nodes_lib.rename(function, renamed)
    for node, taken in made:
      node.input.append(taken)
    is_new = is_new or bool(made)
  return is_new


def _shapes_put(graphs, kinds):
  """The shapes of what is put onto lists, where all of one list is of one shape.

  Args:
    graphs: list of `tf.Graph`.
    kinds: `variants.Kinds` of them.

  Returns:
    dict from kind of list to list of int.
  """
  put = {}
  for graph in graphs:
    for op in graph.get_operations():
      if op.type == "TensorListPushBack":
        put.setdefault(kinds.of(op.inputs[0]), []).append(op.inputs[1])
  return {kind: tensors[0].shape.as_list() for kind, tensors in put.items()
          if all(t.dtype != tf.variant and t.shape.is_fully_defined() and
                 t.shape.as_list() == tensors[0].shape.as_list()
                 for t in tensors)}
