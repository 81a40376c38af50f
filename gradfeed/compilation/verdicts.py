"""Whether TensorFlow takes the values of a program, told by its functions.

A program of XLA looks at no value. Where a value that TensorFlow checks is in a
function (a branch, the body or the condition of a loop), this gets one more
result: whether TensorFlow would have taken all such values so far. A loop hands
that from turn to turn, and ends where it is False. A branch that is not taken
does not count. What tells of a list that nothing is written to is outside of
the loop that would.
"""

import collections

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.compilation.loops import nodes as nodes_lib
from gradfeed.compilation.loops import unwritten
from gradfeed.compilation import ranges
from gradfeed.compilation import slices
from gradfeed.graph import op_types

_BOOL = tf.bool.as_datatype_enum

#: The name of what is added to functions.
_NAME = "taken_by_tensorflow"


def add(static):
  """Has the functions of a graph tell whether TensorFlow takes their values.

  Args:
    static: `static_graphs.StaticGraph`; its `graph_def` is changed.

  Returns:
    list of the names of bool tensors in it that are True where it does.
  """
  starting = unwritten.loops_that_have_to_turn(static)
  if not static.checks.looked_at and not starting:
    return []
  nodes = nodes_lib.Nodes(static.graph_def.node, False)
  return [name if ":" in name else name + ":0"
          for name in _Verdicts(static, starting).of(static.graph, nodes)]


class _Verdicts:
  """What functions tell of their values."""

  def __init__(self, static, starting):
    self._starting = starting  # The loops that have to turn once.
    self._bodies_of = static.bodies_of
    self._definitions = static.graph_def.library.function
    self._library = {function.signature.name: function
                     for function in self._definitions}
    self._looked_at = collections.defaultdict(list)
    for op in static.checks.looked_at:
      self._looked_at[op.graph].append(op)

  def of(self, graph, nodes):
    """Adds what looks at the values of one graph, and of what it calls.

    Args:
      graph: `tf.Graph`, the outermost or that of a function.
      nodes: `nodes.Nodes` of it.

    Returns:
      list of the names of bool tensors, as they are named in the nodes.
    """
    found = []
    for op in self._looked_at[graph]:
      wanted = ranges.checked_inputs(op)
      node = nodes[op.name]
      found.append(nodes.add_call(
          "{}/{}".format(op.name, _NAME),
          self._function(op, wanted, ranges.is_in_range),
          node.input[:len(wanted)]))
      if op.type in slices.BOUNDS and slices.can_be_moved(op):
        nodes.become_call(node, self._function(
            op, op.inputs, slices.taken))
    for op in graph.get_operations():
      if op.type in op_types.FUNCTIONAL_LOOPS:
        found += self._of_start(op, nodes) + self._of_loop(op, nodes)
      elif op.type in op_types.FUNCTION_CALLS:
        found += self._of_call(op, nodes)
    return found

  def _of_call(self, op, nodes):
    """The same for an op that calls a function, or one of several."""
    call, node = op_types.FUNCTION_CALLS[op.type], nodes[op.name]
    functions, found = [], []
    for attribute in call.functions:
      for body, callee in zip(self._bodies_of(op, attribute),
                              _tf.callees(node, [attribute])):
        functions.append(self._library[callee.name])
        found.append(self.of(body, _nodes_of(functions[-1])))
    if not any(found):
      return []
    for function, names in zip(functions, found):
      _return(function, _all(_nodes_of(function), names))
    node.attr[call.result_dtypes].list.type.append(_BOOL)
    if "output_shapes" in node.attr and node.attr["output_shapes"].list.shape:
      node.attr["output_shapes"].list.shape.add()
    return [nodes.result(op.name, "output", len(op.outputs))]

  def _of_start(self, op, nodes):
    """Whether a loop that has to turn once does: names as `of` gives them."""
    if op not in self._starting:
      return []
    node = nodes[op.name]
    callee, = _tf.callees(node, ["cond"])
    goes_on = self._definitions.add()
    goes_on.CopyFrom(self._library[callee.name])
    goes_on.signature.name += "_{}_of_start".format(_NAME)
    return [nodes.add_call("{}/{}_of_start".format(op.name, _NAME), goes_on,
                           node.input[:len(op.inputs)])]

  def _of_loop(self, op, nodes):
    """The same for a loop."""
    node = nodes[op.name]
    (body, turn), (condition, goes_on) = [
        (self._bodies_of(op, attribute)[0], self._library[
            _tf.callees(node, [attribute])[0].name])
        for attribute in ("body", "cond")]
    of_condition = self._of_condition(condition, goes_on)
    found = self.of(body, _nodes_of(turn))
    if not found and of_condition is None:
      return []
    before = [argument.name for argument in turn.signature.input_arg]
    inside = _nodes_of(turn)
    if of_condition is not None:
      found.append(inside.add_call(_NAME + "_of_condition", of_condition,
                                   before))
    _return(turn, _all(inside, [_take(turn)] + found))
    name, = goes_on.ret
    goes_on.ret[name] = _all(_nodes_of(goes_on), [
        _take(goes_on), goes_on.ret[name]])
    node.attr["T"].list.type.append(_BOOL)
    node.input.insert(len(op.inputs), nodes.add_constant(
        "{}/{}".format(op.name, _NAME), np.array(True)))
    results = [nodes.result(op.name, "output", i)
               for i in range(len(op.outputs) + 1)]
    if of_condition is None:
      return results[-1:]
    return results[-1:] + [nodes.add_call(
        "{}/{}_of_condition".format(op.name, _NAME), of_condition,
        results[:-1])]

  def _of_condition(self, condition, goes_on):
    """A function of the variables of a loop that tells of its condition.

    Args:
      condition: the graph of the condition.
      goes_on: FunctionDef of it.

    Returns:
      FunctionDef in the library, or None where there is nothing to tell.
    """
    telling = self._definitions.add()
    telling.CopyFrom(goes_on)
    telling.signature.name += "_" + _NAME
    found = self.of(condition, _nodes_of(telling))
    if not found:
      self._definitions.remove(telling)
      return None
    name, = telling.ret
    telling.ret[name] = _all(_nodes_of(telling), found)
    return telling

  def _function(self, op, wanted, compute):
    """A FunctionDef in the library.

    Args:
      op: `tf.Operation`, as in `value_checks.Checks`.
      wanted: sequence of its inputs, of which the function takes the values.
      compute: function from `op` and such values to a `tf.Tensor`.
    """
    with tf.Graph().as_default():
      inputs = [tf.placeholder(t.dtype.base_dtype, t.shape) for t in wanted]
      definition = _tf.definition_of("{}_{}_{}".format(
          _NAME, op.type, len(self._definitions)), inputs, [
              compute(op, inputs)])
    self._definitions.add().CopyFrom(definition)
    return definition


def _nodes_of(function):
  """The `nodes.Nodes` of a FunctionDef."""
  return nodes_lib.Nodes(function.node_def, True)


def _all(nodes, names):
  """Whether all of some bools are True: how this is named in the nodes."""
  if not names:
    return nodes.add_constant(_NAME, np.array(True))
  result = names[0]
  for i, name in enumerate(names[1:]):
    both = "{}_{}".format(_NAME, i)
    nodes.add(both, "LogicalAnd", [result, name])
    result = nodes.result(both, "z")
  return result


def _take(function):
  """Adds an argument to a FunctionDef, a bool; its name."""
  function.signature.input_arg.add(name=_NAME + "_so_far", type=_BOOL)
  return _NAME + "_so_far"


def _return(function, name):
  """Adds a result to a FunctionDef, the bool that is called `name`."""
  function.signature.output_arg.add(name=_NAME, type=_BOOL)
  function.ret[_NAME] = name
