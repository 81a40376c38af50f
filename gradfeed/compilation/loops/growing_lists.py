"""Lists that a loop makes longer: arrays with `dynamic_size=True`.

XLA knows lists of one length. Where the places that are written depend on
shapes alone, a run at these shapes tells how long a list becomes. It has this
length from the beginning, and is not made longer. Where values end a loop that
writes at the number of its turn, as in a decoder, how often it turned in a
first run is a part of the program, which tells where that is another.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.compilation.loops import nodes as nodes_lib
from gradfeed.compilation.loops import turns
from gradfeed.compilation.loops import variants
from gradfeed import errors
from gradfeed.graph import op_types

#: The attribute of a TensorListSetItem that makes a list longer.
_RESIZES = "resize_if_index_out_of_bounds"

_READING = ("TensorListGetItem", "TensorListLength", "TensorListStack")


def grows(op):
  """Whether an op may make a list longer, or shorter."""
  return is_growing(op.node_def)


def is_growing(node):
  """The same of a NodeDef."""
  return node.op == "TensorListResize" or (
      node.op == "TensorListSetItem" and node.attr[_RESIZES].b)


def loops_to_count(graph, bodies_of, fixed):
  """The loops that values end, and that make lists longer.

  Args:
    graph, bodies_of: as in `value_checks.FixedValues`.
    fixed: `value_checks.FixedValues` of them.

  Returns:
    list of `tf.Operation`; those that count their turns.
  """
  return [op for op in graph.get_operations()
          if op.type in op_types.FUNCTIONAL_LOOPS and any(
              map(grows, bodies_of(op, "body")[0].get_operations())) and
          not fixed.counts_turns(op) and turns.is_counter(
              bodies_of(op, "body")[0], op)]


def count_turns(static, run):
  """Has the loops of `static.counted` turn as often as in a run.

  Args:
    static: `static_graphs.StaticGraph`; its `graph_def` and its `conditions`
      are changed.
    run: as in `fix`.
  """
  if not static.counted:
    return
  counts = run([loop.outputs[0] for loop in static.counted])
  library = {f.signature.name: f for f in static.graph_def.library.function}
  nodes = nodes_lib.Nodes(static.graph_def.node, False)
  for loop, count in zip(static.counted, counts):
    node = nodes[loop.name]
    condition = library[_tf.callees(node, ["cond"])[0].name]
    inside = nodes_lib.Nodes(condition.node_def, True)
    name, = condition.ret
    # One turn more tells that there are too many.
    before = inside.add("is_counted", "LessEqual", [
        condition.signature.input_arg[0].name,
        inside.add_constant("count", np.asarray(count))])
    both = inside.add("goes_on_and_is_counted", "LogicalAnd", [
        condition.ret[name], inside.result(before.name, "z")])
    condition.ret[name] = inside.result(both.name, "z")
    equal = nodes.add(loop.name + "/is_counted", "Equal", [
        nodes.result(loop.name, "output"),
        nodes.add_constant(loop.name + "/count", np.asarray(count))])
    for compared in (before, equal):
      compared.attr["T"].type = tf.as_dtype(count.dtype).as_datatype_enum
    static.conditions.append(equal.name + ":0")


def fix(static, run):
  """Gives growing lists their last length; changes `static.graph_def`.

  Args:
    static: `static_graphs.StaticGraph` in which what lengths depend on depends
      on shapes alone.
    run: function from a list of tensors of its graph to their values.

  Raises:
    UnsupportedGraphError: a length cannot be told, or elements are there before
      the list grows.
  """
  places = variants.places(static.graph_def, static.graph, static.bodies_of)
  growing = [op for graph, _ in places for op in graph.get_operations()
             if grows(op)]
  if not growing:
    return
  kinds = variants.Kinds([graph for graph, _ in places], static.bodies_of)
  wanted = {kinds.of(op.inputs[0]) for op in growing}
  lengths, early = _lengths(static.graph, kinds, wanted, run)
  for graph, function in places:
    for op in graph.get_operations():
      if op.type in _READING and kinds.of(op.inputs[0]) in wanted and (
          function is not None or (op.inputs[0].name in early)) and not (
              _is_same_at_the_end(op, static.checks)):
        raise _refused(op.name, "it is read before it has its last length")
    _fix(graph, function, static.graph_def, kinds, lengths)


def _is_same_at_the_end(op, checks):
  """Whether an op reads the same of a list that has its last length already."""
  if op.type == "TensorListGetItem":
    return not any(op is one for one in checks.looked_at)
  return op.type != "TensorListStack" and all(
      user.type in ("TensorListResize", "TensorListPushBack") or
      user.type in ("Identity", "Maximum") and _is_same_at_the_end(user, checks)
      for user in op.outputs[0].consumers())


def _lengths(graph, kinds, wanted, run):
  """The last lengths of lists.

  Returns:
    (dict from each kind of list in `wanted` to the last length of such a list,
    set of the names of such lists in `graph` that are shorter).
  """
  found = {kind: [] for kind in wanted}
  for op in graph.get_operations():
    for tensor in op.outputs:
      if kinds.of(tensor) in wanted:
        found[kinds.of(tensor)].append(tensor)
  with graph.as_default():
    asked = {kind: [tf.raw_ops.TensorListLength(input_handle=tensor)
                    for tensor in tensors] for kind, tensors in found.items()}
  lengths, early = {}, set()
  for kind, tensors in asked.items():
    if not tensors:
      raise _refused(kind[1], "it is inside of a loop or a branch")
    told = list(map(int, run(tensors)))
    lengths[kind] = max(told)
    for tensor, length in zip(found[kind], told):
      if length < lengths[kind]:
        early.add(tensor.name)
      if tensor.op.type == "TensorListFromTensor" and length < lengths[kind]:
        raise _refused(tensor.op.name, "it has elements before it grows")
  return lengths, early


def _fix(graph, function, graph_def, kinds, lengths):
  """Writes lengths into one graph.

  Args:
    graph, function: one of `variants.places`.
    graph_def: GraphDef.
    kinds: `variants.Kinds`.
    lengths: dict, as `_lengths` gives it.
  """
  nodes = nodes_lib.Nodes(
      graph_def.node if function is None else function.node_def,
      function is not None)
  renamed = {}
  for op in graph.get_operations():
    if op.type not in variants.LISTS or not op.outputs or (
        kinds.of(op.outputs[0]) not in lengths):
      continue
    node, length = nodes[op.name], lengths[kinds.of(op.outputs[0])]
    if op.type == "TensorListReserve":
      node.input[1] = nodes.add_constant(
          op.name + "/length", np.int32(length))
    elif op.type == "TensorListResize":
      node.op = "Identity"
      del node.input[1]
      node.attr.clear()
      node.attr["T"].type = tf.variant.as_datatype_enum
      renamed[nodes.result(op.name, "output_handle")] = nodes.result(
          op.name, "output")
    elif op.type == "TensorListSetItem":
      node.attr[_RESIZES].b = False
    elif op.type != "TensorListFromTensor" or function is not None:
      raise _refused(op.name, "{} makes it there".format(op.type))
  if function is not None:
    nodes_lib.rename(function, renamed)


def _refused(name, why):
  return errors.UnsupportedGraphError(
      "XLA cannot compile an array that grows ('{}').".format(name),
      "XLA has to know its length, and {}.".format(why),
      "Leave jit_compile out, or make the array with its size.")
