"""Sizes for the lists that grow in loops.

The gradient of a loop puts what it needs of each turn on a list, shapes among
it. XLA needs to know how many elements a list has at most, and each shape. A
list gets the number of turns of the loop as its size, and what is the same at
each turn, whatever the values are, becomes a constant where it is taken from
the list.
"""

import collections

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.compilation.loops import nodes as nodes_lib
from gradfeed.compilation.loops import turns as turns_lib
from gradfeed.compilation.loops import variants
from gradfeed import errors
from gradfeed.graph import op_types

#: A list that begins empty and that a loop fills.
#:   made: `tf.Operation` that makes it.
#:   loop: `tf.Operation`.
#:   index: int, of the input and output of the loop that it is.
_FilledList = collections.namedtuple("_FilledList", ["made", "loop", "index"])


class ListSizes:
  """Gives sizes to the lists of a `static_graphs.StaticGraph`."""

  def __init__(self, static, run):
    """Takes a graph.

    Args:
      static: `static_graphs.StaticGraph`; its `graph_def` is changed.
      run: function from a list of tensors of its graph to their values.
    """
    self._static, self._run = static, run
    self._library = {function.signature.name: function
                     for function in static.graph_def.library.function}

  def apply(self):
    """Changes its `graph_def`.

    Raises:
      UnsupportedGraphError: it cannot be told how often a loop turns.
    """
    graph, nodes = self._static.graph, nodes_lib.Nodes(
        self._static.graph_def.node, False)
    outermost = turns_lib.Place(
        graph, self._static.fixed.fixed, self._static.bodies_of)
    filled = _filled_lists(graph)
    if filled:
      exact = self._turns(filled)
      turns = self._or_bounds(outermost, filled, exact)
      known = self._equal_elements([
          one for one in filled if turns[one.loop.name]], exact)
      self._write(nodes, filled, turns, known)
    self._read_past_loops(graph, nodes)
    self._apply_inside(outermost, nodes)
    self._change_wherever_they_are()

  def _change_wherever_they_are(self):
    """Does what goes for lists that pass through several functions."""
    static = self._static
    places = variants.places(static.graph_def, static.graph, static.bodies_of)
    ops = [op for place, _ in places for op in place.get_operations()
           if op.type in variants.LISTS]
    if not ops:
      return
    kinds = variants.Kinds([place for place, _ in places], static.bodies_of)
    constants = _constant_elements(ops, kinds)
    read = {kinds.of(t) for op in ops for t in op.inputs
            if t.dtype == tf.variant}
    for place, function in places:
      nodes = nodes_lib.Nodes(static.graph_def.node if function is None else
                              function.node_def, function is not None)
      for op in ops:
        if op.graph is not place:
          continue
        if op.type == "TensorListPopBack":
          value = constants.get(kinds.of(op.inputs[0]))
          if value is not None:
            _read_constant(op, nodes, value)
        elif op.type == "TensorListReserve" and (
            op.get_attr("element_dtype") == tf.variant and
            kinds.of(op.outputs[0]) not in read):
          # Vectorized loops have such lists of lists; XLA does not.
          node = nodes[op.name]
          node.attr["element_dtype"].type = tf.int32.as_datatype_enum
          node.attr["shape_type"].type = tf.int32.as_datatype_enum
          node.input[0] = nodes.add_constant(
              op.name + "/no_shape", np.zeros([0], np.int32))
          node.input[1] = nodes.add_constant(op.name + "/one", np.int32(1))

  def _read_past_loops(self, graph, nodes):
    """Reads what loops hand on unchanged from where they have it.

    XLA does that for constants, and fails at a loop that comes after such a
    loop and has constants of its own.
    """
    for loop in graph.get_operations():
      if loop.type in op_types.FUNCTIONAL_LOOPS:
        body, = self._static.bodies_of(loop, "body")
        for i, output in enumerate(loop.outputs):
          if turns_lib.is_kept(body, i):
            for user in output.consumers():
              for j, given in enumerate(user.inputs):
                if given is output:
                  nodes[user.name].input[j] = nodes[loop.name].input[i]

  def _apply_inside(self, place, nodes):
    """Does the same in the bodies of the loops of a place."""
    for loop in place.graph.get_operations():
      if loop.type not in op_types.FUNCTIONAL_LOOPS:
        continue
      function = self._function(nodes[loop.name])
      inside = place.inside(loop)
      filled = _filled_lists(inside.graph)
      own = nodes_lib.Nodes(function.node_def, True)
      if filled:
        turns = self._or_bounds(inside, filled, {})
        known = []
        for one in filled:
          inner = inside.inside(one.loop)
          value = _pushed(inner.graph, one.index)
          value = None if value is None else inner.value(value)
          if value is not None:
            known.append((one, value))
        self._write(own, filled, turns, known)
      self._read_past_loops(inside.graph, own)
      self._apply_inside(inside, own)

  def _function(self, node):
    """The FunctionDef of the body of the loop that is `node`."""
    return self._library[_tf.callees(node, ["body"])[0].name]

  def _write(self, nodes, filled, turns, known):
    """Writes sizes, and constants in the place of elements.

    Args:
      nodes: `nodes.Nodes` that the loops are in.
      filled: list of `_FilledList`.
      turns: dict from the name of each loop to how often it turns at most.
      known: list of (`_FilledList`, array that is each of its elements).
    """
    sizes = collections.defaultdict(lambda: 1)  # XLA wants room for one.
    for one in filled:
      sizes[one.made.name] = max(sizes[one.made.name], turns[one.loop.name])
    for name, size in sizes.items():
      nodes[name].input[1] = nodes.add_constant(name + "/size", np.int32(size))
    for one, value in known:
      for user, index in _users(one.loop.outputs[one.index]):
        if user.type in op_types.FUNCTIONAL_LOOPS:
          reader, = self._static.bodies_of(user, "body")
          _replace_popped(
              reader, index, self._function(nodes[user.name]), value)

  def _turns(self, filled):
    """How often loops turn at these shapes: dict from the name to int.

    Those that count their turns, and turn as often whatever the values are.
    """
    loops = {one.loop.name: one.loop for one in filled}
    counting = [
        loop for loop in loops.values()
        if self._static.fixed.counts_turns(loop) and turns_lib.is_counter(
            self._static.bodies_of(loop, "body")[0], loop)]
    return dict(zip([loop.name for loop in counting], map(
        int, self._run([loop.outputs[0] for loop in counting]))))

  def _or_bounds(self, place, filled, exact):
    """`exact`, and for other loops how often they turn at most."""
    turns = dict(exact)
    for one in filled:
      if one.loop.name not in turns:
        most = turns_lib.most_turns(place, one.loop)
        if most is None:
          raise errors.UnsupportedGraphError(
              "XLA cannot compile the loop '{}'.".format(one.loop.name),
              "What it keeps for its gradient needs room for each turn, and "
              "nothing tells how often it turns at most.",
              "Leave jit_compile out, or pass maximum_iterations to "
              "tf.while_loop.")
        turns[one.loop.name] = most
    return turns

  def _equal_elements(self, filled, exact):
    """The lists all of whose elements are one value that shapes decide.

    Args:
      filled: list of `_FilledList`, of loops that may turn.
      exact: dict, as `_turns` gives it; other loops may turn less often at the
        values of the run than at others.

    Returns:
      list of (`_FilledList`, array).
    """
    fixed = [one for one in filled if self._is_pushed_fixed(
        one, one.loop.name not in exact)]
    with self._static.graph.as_default():
      stacks = [tf.raw_ops.TensorListStack(
          input_handle=one.loop.outputs[one.index], element_shape=-1,
          element_dtype=one.made.get_attr("element_dtype")) for one in fixed]
    return [(one, stack[0]) for one, stack in zip(fixed, self._run(stacks))
            if len(stack) and (stack == stack[0]).all()]

  def _is_pushed_fixed(self, one, is_kept):
    """Whether shapes decide what a loop puts on a list, at each turn alike.

    Args:
      one: `_FilledList`.
      is_kept: bool; whether what differs from turn to turn does not count.
    """
    body, = self._static.bodies_of(one.loop, "body")
    value = _pushed(body, one.index)
    return value is not None and value.dtype != tf.variant and value.name in (
        self._static.fixed.fixed_in_turns(one.loop, [
            not is_kept or turns_lib.is_kept(body, i)
            for i in range(len(body.inputs))]))


def _filled_lists(graph):
  """The lists of `graph` that begin empty and go into a loop: a list."""
  return [_FilledList(op, user, index) for op in graph.get_operations()
          if op.type == "EmptyTensorList"
          for user, index in _users(op.outputs[0])
          if user.type in op_types.FUNCTIONAL_LOOPS]


def _users(tensor):
  """Yields (op, index of its input) of what reads `tensor`, or its Identity."""
  for op in tensor.consumers():
    for i, given in enumerate(op.inputs):
      if given is tensor:
        if op.type == "Identity":
          yield from _users(op.outputs[0])
        else:
          yield op, i


def _pushed(body, index):
  """What a body puts on the list that is its argument `index`, or None."""
  push = turns_lib.source(body.outputs[index]).op
  if push.type == "TensorListPushBack" and (
      push.inputs[0] is body.inputs[index]):
    return push.inputs[1]
  return None


def _replace_popped(body, index, function, value):
  """Reads a constant in the place of what a body takes from a list.

  Args:
    body: the graph of the function.
    index: int, of the argument that is the list.
    function: FunctionDef; changed.
    value: array, each element of the list.
  """
  nodes = nodes_lib.Nodes(function.node_def, True)
  for op, i in _users(body.inputs[index]):
    if op.type == "TensorListPopBack" and i == 0:
      _read_constant(op, nodes, value)


def _read_constant(pop, nodes, value):
  """Reads a constant in the place of what an op takes from a list."""
  name = pop.name + "/fixed"
  if nodes.has(name):
    return
  constant = nodes.add_constant(name, np.asarray(value))
  for user in pop.outputs[1].consumers():
    for j, given in enumerate(user.inputs):
      if given is pop.outputs[1]:
        nodes[user.name].input[j] = constant


def _constant_elements(ops, kinds):
  """The lists onto which one constant alone is put, by a loop in any function.

  Args:
    ops: list of `tf.Operation`, all that have to do with lists.
    kinds: `variants.Kinds`.

  Returns:
    dict from the kind of list to the array.
  """
  put, others = {}, set()
  for op in ops:
    if op.type == "TensorListPushBack":
      put.setdefault(kinds.of(op.inputs[0]), []).append(
          None if op.inputs[1].dtype == tf.variant else
          _tf.static_value(op.inputs[1]))
    elif op.type not in ("EmptyTensorList", "TensorListPopBack"):
      others.update(kinds.of(t) for t in list(op.inputs) + list(op.outputs))
  return {kind: values[0] for kind, values in put.items()
          if kind not in others and all(
              value is not None and np.array_equal(value, values[0])
              for value in values)}
