"""The ways from x to y: which ops lie on them, and what becomes of gradients.
"""

import collections

from gradfeed.analysis import blockers
from gradfeed.graph import tensors
from gradfeed.graph import traversal

#: What an op is on the way: an end, one that gradients pass, one where some or
#: all of them end, one that they do not arrive at.
X, Y, PASSES, PARTLY, BLOCKS, LOST = (
    "x", "y", "passes", "partly", "blocks", "lost")

_MOST_STEPS = 7


class Node:
  """One op on the way, by what can be kept when the graph is gone.

  Attributes:
    name, type: str, of the op.
    state: one of those above.
    label: str, its first output in words.
  """

  def __init__(self, op, state):
    self.name, self.type, self.state = op.name, op.type, state
    self.label = tensors.describe(op.outputs[0]) if op.outputs else op.name


class GradientPaths:
  """All ways from the xs to the ys.

  Attributes:
    nodes: dict from name to `Node`, those nearest to x first.
    edges: list of (name, name), from x to y.
  """

  def __init__(self, flow, ys, xs):
    """Finds the ways.

    Args:
      flow: `gradient_flow.GradientFlow`.
      ys: list of `tensors.Dense`.
      xs: list of `tensors.Dense`.
    """
    trace = flow.trace
    found = traversal.ancestors([y.tensor for y in ys])
    states = _states(flow, ys, xs)
    names = [name for name, op in found.items()
             if name in states or any(trace.carries(t) for t in op.outputs)]
    names += [x.op.name for x in xs if x.op.name not in found]
    operations = dict(found, **{x.op.name: x.op for x in xs})
    self.nodes = collections.OrderedDict(
        (name, Node(operations[name], states.get(name) or _state(
            operations[name], flow))) for name in names)
    self.edges = list(collections.OrderedDict.fromkeys(
        (tensor.op.name, name) for name in names
        for tensor in operations[name].inputs
        if tensor.op.name in self.nodes and trace.carries(tensor)))
    self._xs = [x.op.name for x in xs]
    self._ys = [y.op.name for y in ys]

  def passed(self):
    """The `Node`s between the ends that gradients pass."""
    return [node for node in self.nodes.values()
            if node.state in (PASSES, PARTLY)]

  def shortest(self):
    """The `Node`s of the shortest way that a gradient passes; may be empty."""
    after = collections.defaultdict(list)
    for one, other in self.edges:
      after[one].append(other)
    before = {name: None for name in self._xs}
    queue = collections.deque(self._xs)
    while queue:
      name = queue.popleft()
      if name in self._ys and before[name] is not None:
        way = []
        while name is not None:
          way.append(self.nodes[name])
          name = before[name]
        return way[::-1]
      for other in after[name]:
        if other not in before and self.nodes[other].state in (
            Y, PASSES, PARTLY):
          before[other] = name
          queue.append(other)
    return []

  def describe_shortest(self):
    """str: the shortest way in a line, or "" if there is none."""
    way = self.shortest()
    steps = [_step(node) for node in way]
    if len(steps) > _MOST_STEPS:
      half = _MOST_STEPS // 2
      steps[half:-half] = ["... {} more ...".format(len(steps) - 2 * half)]
    return " > ".join(steps)

  def to_dict(self):
    """dict of what JSON can hold."""
    return {"nodes": [{"name": node.name, "type": node.type,
                       "state": node.state} for node in self.nodes.values()],
            "edges": [list(edge) for edge in self.edges]}


def _step(node):
  last = node.name.split("/")[-1]
  return "'{}'".format(node.name) if last.startswith(node.type) or (
      node.state == X) else "{} '{}'".format(node.type, node.name)


def _states(flow, ys, xs):
  """{name of op: state} of the ends and of what stops gradients."""
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
  reached = any(t.name in flow.tensors and flow.trace.is_on_path(t)
                for t in op.outputs)
  return PASSES if reached and op.name in flow.trace.path else LOST
