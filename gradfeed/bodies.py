"""Where gradients flow inside the functions that are called between x and y.

`paths.Trace` takes a loop, a branch or a call of control flow v2 for one op
that gradients pass. Here they are followed through it.
"""

from gradfeed import _tf
from gradfeed import paths

#: The attributes that name the functions of an op, and how many of its inputs
#: come before the arguments.
_FUNCTIONS = {
    "Case": ("branches", 1), "StatelessCase": ("branches", 1),
    "If": ("then_branch else_branch", 1),
    "StatelessIf": ("then_branch else_branch", 1),
    "PartitionedCall": ("f", 0), "StatefulPartitionedCall": ("f", 0),
    "StatelessWhile": ("body", 0), "While": ("body", 0)}

_LOOPS = ("StatelessWhile", "While")


class Flow:
  """Where the gradient of `ys` flows, functions included.

  Attributes:
    trace: the `paths.Trace` that it follows.
    traces: list of (op of the graph or None, `paths.Trace`): the trace of the
      graph itself first; then those of what its ops call, and what these call.
    tensors: set of the names of the tensors of the graph that a gradient
      arrives at.
  """

  def __init__(self, trace, ys, root=None, outer=None):
    """Follows the gradient.

    Args:
      trace: `paths.Trace` of `ys`.
      ys: list of `tf.Tensor`.
      root: `tf.Graph` whose library holds the functions; None for that of ys.
      outer: the op of the root that this is inside of, or None.
    """
    self.traces = [(outer, trace)]
    self.tensors = set()
    self.trace, self._outer = trace, outer
    self._root = root or ys[0].graph
    self._inputs = {}
    queue = list(ys)
    while queue:
      tensor = queue.pop()
      if tensor.name not in self.tensors:
        self.tensors.add(tensor.name)
        if tensor.op.name in trace.path:
          queue.extend(self._before(tensor.op))

  def _before(self, op):
    """The inputs of `op` that a gradient reaches from its outputs."""
    attributes, skipped = _FUNCTIONS.get(op.type, ("", 0))
    names = [op.type] if not attributes else [
        name for attribute in attributes.split()
        for name in _names(op.node_def.attr[attribute])]
    bodies = [_body(self._root, name) for name in names]
    if any(body is None for body in bodies):
      return paths.passed_to(op)
    if op.name not in self._inputs:
      self._inputs[op.name] = self._through(op, bodies, skipped)
    return self._inputs[op.name]

  def _through(self, op, bodies, skipped):
    wanted = {i for i, t in enumerate(op.outputs)
              if t.name in self.trace.tensors}
    given = {i - skipped for i, t in enumerate(op.inputs)
             if i >= skipped and self.trace.depends(t)}
    reached = set()
    for body in bodies:
      flow, found = self._inside(
          op, body, given, wanted, op.type in _LOOPS)
      if flow is not None:
        self.traces.extend(flow.traces)
        reached |= found
    return [t for t in paths.passed_to(op)
            if any(t is op.inputs[i + skipped] for i in reached)]

  def _inside(self, op, body, given, wanted, is_loop):
    """The flow in one body, and the indices of arguments that it reaches."""
    flow, found = None, set()
    while True:
      ys = [body.outputs[i] for i in sorted(wanted)
            if _tf.is_trainable_dtype(body.outputs[i].dtype)]
      if not ys or not given:
        return flow, found
      trace = paths.Trace(ys, [body.inputs[i] for i in sorted(given)])
      flow = Flow(trace, ys, self._root, self._outer or op)
      found = {i for i in given if body.inputs[i].name in flow.tensors}
      # What comes out of one turn of a loop goes into the next.
      after = {i for i, t in enumerate(body.outputs) if trace.depends(t)}
      if not is_loop or (after <= given and found <= wanted):
        return flow, found
      given, wanted = given | after, wanted | found


def _names(attribute):
  return [function.name for function in (
      attribute.list.func or [attribute.func])]


def _body(graph, name):
  """The body of a function as a graph; None if `name` is no function."""
  definition = _tf.function_definition(graph, name)
  if definition is None:
    return None
  return _tf.traced_graph(graph, name, definition) or _tf.function_graph(
      graph, definition)
