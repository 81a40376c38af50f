"""The paths from x to y: their ops, and whether gradients pass each of them."""

import collections
import heapq

from gradfeed.analysis import blockers
from gradfeed.graph import op_types
from gradfeed.graph import tensors
from gradfeed.graph import traversal

#: The state of an op on a path: it is an end; gradients pass it; a part of
#: them, or all of them, end there; none arrives.
X, Y, PASSES, PARTLY, BLOCKS, LOST = (
    "x", "y", "passes", "partly", "blocks", "lost")

#: A longer path is described with its middle left out.
_MOST_STEPS = 7


class Node:
  """One op on a path, as strings: it does not keep the graph alive.

  Attributes:
    name, type: str, of the op.
    state: one of those above.
    label: str, its first output in words.
  """

  def __init__(self, op, state):
    """Takes names and shapes from a `tf.Operation`; `state` is a str."""
    self.name, self.type, self.state = op.name, op.type, state
    self.label = tensors.describe(op.outputs[0]) if op.outputs else op.name


class GradientPaths:
  """All paths from the xs to the ys.

  Attributes:
    nodes: dict from name to `Node`, those nearest to x first.
    edges: list of (name, name), from x to y.
  """

  def __init__(self, flow, ys, xs):
    """Finds the ops of the paths, and their states.

    Args:
      flow: `gradient_flow.GradientFlow`.
      ys: list of `tensors.Dense`.
      xs: list of `tensors.Dense`.
    """
    trace = flow.trace
    ops = traversal.ancestors([y.tensor for y in ys])
    states = _states(flow, ys, xs)
    names = [name for name, op in ops.items()
             if name in states or any(trace.carries(t) for t in op.outputs)]
    names += [x.op.name for x in xs if x.op.name not in ops]
    begins = _where_states_begin(ops, set(names))
    names += [source for source, _ in begins]
    ops = dict(ops, **{x.op.name: x.op for x in xs})
    self.nodes = collections.OrderedDict(
        (name, Node(ops[name], states.get(name) or _state(ops[name], flow)))
        for name in names)
    self.edges = list(collections.OrderedDict.fromkeys(begins + [
        (tensor.op.name, name) for name in names
        for tensor in ops[name].inputs
        if tensor.op.name in self.nodes and trace.carries(tensor)]))
    self.nodes = collections.OrderedDict(
        (name, self.nodes[name]) for name in _in_order(self.nodes, self.edges))
    self._xs = [x.op.name for x in xs]
    self._ys = [y.op.name for y in ys]

  def passed(self):
    """The `Node`s between the ends that gradients pass."""
    return [node for node in self.nodes.values()
            if node.state in (PASSES, PARTLY)]

  def shortest(self):
    """The `Node`s of the shortest path of a gradient, x first; or []."""
    after = collections.defaultdict(list)
    for source, target in self.edges:
      after[source].append(target)
    before = {name: None for name in self._xs}
    queue = collections.deque(self._xs)
    while queue:
      name = queue.popleft()
      if name in self._ys and before[name] is not None:
        path = []
        while name is not None:
          path.append(self.nodes[name])
          name = before[name]
        return path[::-1]
      for target in after[name]:
        if target not in before and self.nodes[target].state in (
            Y, PASSES, PARTLY):
          before[target] = name
          queue.append(target)
    return []

  def describe_shortest(self):
    """str: the shortest path in a line, or "" if there is none."""
    path = self.shortest()
    steps = [_step(node) for node in path]
    if len(steps) > _MOST_STEPS:
      half = _MOST_STEPS // 2
      steps[half:-half] = ["... {} more ...".format(len(steps) - 2 * half)]
    return " > ".join(steps)

  def to_dict(self):
    """dict of what JSON can hold: "nodes" and "edges"."""
    return {"nodes": [{"name": node.name, "type": node.type,
                       "state": node.state} for node in self.nodes.values()],
            "edges": [list(edge) for edge in self.edges]}


def _where_states_begin(ops, names):
  """Where states of loops begin whose first value does not depend on an x.

  Args:
    ops: dict from name to op.
    names: set of the names of ops on a path.

  Returns:
    list of (name of the op that brings the first value into the loop, name of
    the Merge of the state).
  """
  return [(tensor.op.name, name) for name, op in ops.items()
          if name in names and op.type in op_types.MERGES
          for tensor in op.inputs
          if tensor.op.type in op_types.ENTERS and tensor.op.name not in names]


def _in_order(nodes, edges):
  """The names of `nodes`, each after those that it reads.

  What a turn of a loop hands to the next one is left out, so that the state of
  a loop comes after where it begins and before what is made of it.

  Args:
    nodes: dict from name to `Node`.
    edges: list of (name, name).
  """
  turns = ("NextIteration", "RefNextIteration")
  forward = [edge for edge in edges if nodes[edge[0]].type not in turns]
  waits = collections.Counter(target for _, target in forward)
  after = collections.defaultdict(list)
  for source, target in forward:
    after[source].append(target)
  position = {name: i for i, name in enumerate(nodes)}
  ready = [position[name] for name in nodes if not waits[name]]
  names, order = list(nodes), []
  heapq.heapify(ready)
  while ready:
    name = names[heapq.heappop(ready)]
    order.append(name)
    for target in after[name]:
      waits[target] -= 1
      if not waits[target]:
        heapq.heappush(ready, position[target])
  done = set(order)
  return order + [name for name in names if name not in done]


def _step(node):
  """One op of a path in words."""
  last = node.name.split("/")[-1]
  return "'{}'".format(node.name) if last.startswith(node.type) or (
      node.state == X) else "{} '{}'".format(node.type, node.name)


def _states(flow, ys, xs):
  """dict from name to state, of the ends and of ops that stop gradients."""
  states = {}
  for outer, trace in flow.traces:
    for op in trace.missing:
      states[(outer or op).name] = BLOCKS
    for blocker in blockers.find_blockers(trace, outer):
      if outer is not None:
        passes = any(t.name in flow.tensors for t in outer.inputs)
        states[outer.name] = PARTLY if passes else BLOCKS
        continue
      states[blocker.op.name] = BLOCKS
      states[blocker.culprit.name] = BLOCKS
  for state, points in ((Y, ys), (X, xs)):
    for component in points:
      if states.get(component.op.name) is None:
        states[component.op.name] = state
  return states


def _state(op, flow):
  """PASSES or LOST, for an op between the ends that stops no gradient."""
  reached = any(t.name in flow.tensors and flow.trace.is_on_path(t)
                for t in op.outputs)
  return PASSES if reached and op.name in flow.trace.path else LOST
