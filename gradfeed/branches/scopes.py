"""The nodes of a graph or of a function, and which of them run.

A value that is held for every call, or a constant, may decide the predicate of
a conditional. What lies in the branch that is not taken does not run. It is
found here for both control flows: for `Switch` and `Merge`, whose outputs that
have no value are called dead, and for `If`, `Case` and calls of functions with
their bodies. No op is added or evaluated; values come from `constant_values`.
"""

import collections

from gradfeed import _tf
from gradfeed.branches import constant_values
from gradfeed.graph import op_types
from gradfeed.graph import traversal

#: How deep calls of functions in functions are followed.
_DEEPEST = 16

_NEXT = ("NextIteration", "RefNextIteration")


class Scope:
  """The nodes of a graph or of a function, with values at some tensors.

  Subclasses say what a node and a tensor is: `key` and `name` identify them,
  `maker` is the node of a tensor, `inputs` and `controls` what a node reads and
  waits for, `node_def` its NodeDef. `may_be_scalar` says whether a tensor may
  have no axis.

  Attributes:
    dead: set of the names of the nodes that do not run, and of the keys of the
      outputs of a `Switch` that have no value.
  """

  def __init__(self, library, values, depth):
    """Knows the values of some tensors.

    Args:
      library: `bodies.Library`.
      values: dict from the key of a tensor to its array; None where it is not
        known, whatever makes it.
      depth: int, how many calls of functions this is in.
    """
    self._library = library
    self._given = dict(values)
    self._values = dict(self._given)
    self._called = {}
    self._depth = depth
    self.dead = set()

  def value(self, tensor):
    """The array that a tensor has at each run; None if it is not certain."""
    key = self.key(tensor)
    if key not in self._values:
      self._find_value(tensor)
    return self._values[key]

  def _find_value(self, tensor):
    """Finds the value of a tensor, after the values that it is made from."""
    pending = [(tensor, False)]
    while pending:  # No recursion: a chain may be long.
      tensor, is_ready = pending.pop()
      key = self.key(tensor)
      if is_ready:
        self._values[key] = self._computed(tensor)
      elif key not in self._values:
        self._values[key] = None  # For what a loop reads of itself.
        pending.append((tensor, True))
        pending.extend((source, False) for source in self._sources(tensor))

  def _sources(self, tensor):
    """The tensors whose values may make that of `tensor`, as a list."""
    node = self.maker(tensor)
    if node is None:
      return []
    kind = self.kind(node)
    if kind in op_types.MERGES:
      return self._joined(node) if self.is_first(tensor) else []
    is_known = kind in constant_values.TYPES or kind in op_types.FUNCTIONAL
    return self.inputs(node) if is_known else []

  def _computed(self, tensor):
    """The value of a tensor whose sources have theirs, or None."""
    node = self.maker(tensor)
    if node is None:
      return None
    kind = self.kind(node)
    if kind in op_types.MERGES:
      values = [self.value(t) for t in self._sources(tensor)]
      return values[0] if len(values) == 1 else None
    if kind in op_types.FUNCTIONAL:
      bodies = self.bodies(node)
      return (bodies[0].result(self.index(tensor)) if len(bodies) == 1 and
              kind not in op_types.FUNCTIONAL_LOOPS else None)
    if kind not in constant_values.TYPES or (
        kind == "PlaceholderWithDefault" and not self._library.has_defaults):
      return None
    return constant_values.evaluate(
        kind, [self.value(t) for t in self.inputs(node)],
        lambda name: self.node_def(node).attr[name])

  def _joined(self, merge):
    """Those inputs of what joins branches, or begins turns, that may count."""
    inputs = self.inputs(merge)
    if self._begins_turn(merge):
      return inputs[:1] if self._is_invariant(merge) else []
    return [t for t in inputs if not self.is_dead(t)]

  def _begins_turn(self, node):
    """Whether a Merge is that of a variable of a loop."""
    makers = [self.maker(t) for t in self.inputs(node)]
    return any(maker is not None and self.kind(maker) in _NEXT
               for maker in makers)

  def _is_invariant(self, merge):
    """Whether each turn of a loop hands the variable of `merge` on as it is."""
    node = self.maker(self.inputs(merge)[-1])
    for _ in range(8):
      if node is None or self.kind(node) not in _NEXT + (
          "Identity", "Switch", "Merge"):
        return False
      if self.kind(node) == "Merge":
        return self.name(node) == self.name(merge)
      node = self.maker(self.inputs(node)[0])
    return False

  def is_dead(self, tensor):
    """Whether a tensor has no value in any run."""
    node = self.maker(tensor)
    return self.key(tensor) in self.dead or (
        node is not None and self.name(node) in self.dead)

  def find_dead(self, nodes):
    """Finds what does not run.

    Args:
      nodes: list of nodes.

    Returns:
      bool, whether a predicate of these nodes, or in what they call, is known.
    """
    switches, calls = [], []
    for kind, group in self._by_kind(nodes).items():
      if kind in op_types.SWITCHES:
        switches += group
      elif self._library.calls(kind):
        calls += group
    decided, users = set(), None
    while True:
      fresh = [node for node in switches
               if self.name(node) not in decided and self._switch(node)]
      if not fresh:
        break
      decided.update(map(self.name, fresh))
      users = users or self._users(nodes)
      self._spread(fresh, users)
      # Values that come through a Merge may be known now.
      self._values, self._called = dict(self._given), {}
    return any([self.decides(node) for node in calls]) or bool(decided)

  def _by_kind(self, nodes):
    """dict from each kind of node to the list of those that have it."""
    groups = collections.OrderedDict()
    for node in nodes:
      groups.setdefault(self.kind(node), []).append(node)
    return groups

  def _switch(self, node):
    """Marks the dead output of a Switch; whether its predicate is known."""
    predicate = self.inputs(node)[1]
    maker = self.maker(predicate)
    if maker is not None and self.kind(maker) == "LoopCond":
      return False
    value = self.value(predicate)
    if value is None or value.ndim:
      return False
    outputs = self.outputs_of_switch(node)
    self.dead.add(outputs[0 if constant_values.truth(value) else 1])
    return True

  def _users(self, nodes):
    """dict from the name of each node to those that read it or wait for it."""
    users = collections.defaultdict(list)
    for node in nodes:
      for before in [self.maker(t) for t in self.inputs(node)] + list(
          self.controls(node)):
        if before is not None:
          users[self.name(before)].append(node)
    return users

  def _spread(self, switches, users):
    """Marks what does not run because an output of `switches` is dead."""
    queue = [user for node in switches for user in users[self.name(node)]
             if self._lacks_value(user)]
    while queue:
      name = self.name(queue.pop())
      if name not in self.dead:
        self.dead.add(name)
        queue.extend(user for user in users[name] if self.kind(
            user) not in op_types.MERGES or self._lacks_value(user))

  def _lacks_value(self, node):
    """Whether a node does not run as what it reads or waits for is dead."""
    inputs = self.inputs(node)
    if self.kind(node) in op_types.MERGES:
      return all(map(self.is_dead,
                     inputs[:1] if self._begins_turn(node) else inputs))
    return any(map(self.is_dead, inputs)) or any(
        self.name(before) in self.dead for before in self.controls(node))

  def may_ignore_inputs(self, node):
    """Whether there can be nodes like this one that do not use all inputs."""
    kind = self.kind(node)
    return kind in op_types.MERGES or self._library.calls(kind)

  def reads(self, node):
    """Those inputs of a node whose values can change what it computes."""
    kind, inputs = self.kind(node), self.inputs(node)
    if kind in op_types.MERGES:
      return [t for t in inputs if not self.is_dead(t)] or inputs
    if not self._library.calls(kind) or not self.decides(node):
      return inputs
    bodies, call = self.bodies(node), op_types.FUNCTION_CALLS.get(kind)
    if call is None or kind in op_types.FUNCTIONAL_LOOPS:
      return inputs
    results = self.results_read(node)
    used = set().union(*[body.used(results) for body in bodies])
    first = call.first_argument
    return inputs[:first] + [
        t for i, t in enumerate(inputs[first:]) if i in used]

  def results_read(self, unused_node):
    """The indices of the outputs of a node that are read; None for all."""
    return None

  def decides(self, node):
    """Whether a predicate is known in a node that calls functions."""
    if not self._library.calls(self.kind(node)):
      return False
    return (self._chosen(node) is not None or
            any(body.decides_any for body in self.bodies(node)))

  def _chosen(self, node):
    """The index of the branch that an If or a Case takes, or None."""
    kind = self.kind(node)
    if kind not in op_types.FUNCTIONAL_BRANCHES:
      return None
    predicate = self.inputs(node)[0]
    value = self.value(predicate)
    if value is None or not (value.ndim or self.may_be_scalar(predicate)):
      return None  # A part of what makes it decides its elements alone.
    if kind.endswith("If"):
      return 0 if constant_values.truth(value) else 1
    return int(value) if not value.ndim and value >= 0 else -1

  def bodies(self, node):
    """The list of the `bodies.Body` of each function that a node may call."""
    name = self.name(node)
    if name not in self._called:
      self._called[name] = self._find_bodies(node)
    return self._called[name]

  def _find_bodies(self, node):
    """Does what `bodies` says."""
    kind = self.kind(node)
    if not self._library.calls(kind) or self._depth > _DEEPEST:
      return []
    call = op_types.FUNCTION_CALLS.get(kind)
    node_def = self.node_def(node)
    if call is None:
      names = [kind] + [callee.name for callee in _tf.callees(node_def)]
      return self._library.bodies(names, None, self._depth)
    names = [callee.name for callee in _tf.callees(
        node_def, list(call.functions))]
    chosen = self._chosen(node)
    if chosen is not None:
      names = [names[chosen if chosen < len(names) else -1]]
    values = [self.value(t) for t in self.inputs(node)[call.first_argument:]]
    if kind in op_types.FUNCTIONAL_LOOPS:
      kept = self._library.invariants(names[-1])
      values = [value if i in kept else None for i, value in enumerate(values)]
    return self._library.bodies(names, values, self._depth)

  def functions_called(self, node):
    """The set of the names of the functions that `node` itself may call."""
    return {body.function for body in self.bodies(node)}

  def nodes_called(self, node):
    """Yields the NodeDefs in functions that run when `node` does."""
    queue, seen = [(self, node)], set()
    while queue:
      scope, node = queue.pop()
      bodies = scope.bodies(node)
      if not bodies:  # What is called by other ops, or too deep to be followed.
        yield from self._library.all_nodes_called(scope.node_def(node))
      for body in bodies:
        if id(body) not in seen:
          seen.add(id(body))
          for inner in body.running():
            yield inner
            queue.append((body, inner))


class Graph(Scope):
  """The ops of a graph.

  Attributes:
    asked: dict from the name of each of the tensors with a given value that was
      looked at to the value, or to None.
  """

  kind = staticmethod(lambda op: op.type)
  name = staticmethod(lambda op: op.name)
  key = staticmethod(lambda tensor: tensor.name)
  maker = staticmethod(lambda tensor: tensor.op)
  index = staticmethod(lambda tensor: tensor.value_index)
  inputs = staticmethod(lambda op: list(op.inputs))
  controls = staticmethod(lambda op: op.control_inputs)
  node_def = staticmethod(lambda op: op.node_def)
  is_first = staticmethod(lambda tensor: tensor.value_index == 0)
  may_be_scalar = staticmethod(lambda tensor: tensor.shape.ndims in (None, 0))
  outputs_of_switch = staticmethod(lambda op: [t.name for t in op.outputs])

  def __init__(self, library, values, ops, find_read):
    """Knows the values of some tensors.

    Args:
      library: `bodies.Library`.
      values: as in `Scope`.
      ops: `traversal.Ancestors`, the ops that are looked at.
      find_read: function without arguments that gives the set of the names of
        all tensors that are read or asked for.
    """
    super().__init__(library, values, 0)
    self.asked = {}
    self._ops = ops
    self._find_read = find_read
    self._read = None  # Found when a call of a function asks for it.

  def _by_kind(self, unused_nodes):
    """As in `Scope`, from what is known of them."""
    return traversal.by_type(self._ops)

  def _users(self, unused_nodes):
    """As in `Scope`, from what is known of them."""
    users = collections.defaultdict(list)
    for name, before in self._ops.before.items():
      for other in before:
        users[other].append(self._ops[name])
    return users

  def results_read(self, node):
    """As in `Scope`."""
    if self._read is None:
      self._read = self._find_read()
    return tuple(i for i, tensor in enumerate(node.outputs)
                 if tensor.name in self._read)

  def value(self, tensor):
    """As in `Scope`; notes in `asked` which of the values were needed."""
    if tensor.name in self._given:
      self.asked[tensor.name] = self._given[tensor.name]
    return super().value(tensor)
