"""What lies between x and y: reached by gradients, cut off, needed, changed."""

import collections
import re

from gradfeed import _tf
from gradfeed import inlining
from gradfeed import memos
from gradfeed._tf import tf

#: Ops that call functions; `tf.gradients` changes them when it differentiates.
FUNCTIONAL = frozenset([
    "While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase",
    "PartitionedCall", "StatefulPartitionedCall"])

#: Ops that wait for something that happens outside of the run.
WAITING = re.compile(r"(Queue|Reader|Barrier|Stage|Iterator).*"
                     r"(Dequeue|Read|Take|Unstage|GetNext)|IteratorGetNext|"
                     r"OneShotIterator|FIFOQueue")

#: Ops that give another value at each run.
RANDOM = re.compile(r"^(Random|Truncated|ParameterizedTruncated|Multinomial|"
                    r"StatefulRandom|StatefulStandard|StatefulTruncated|"
                    r"StatefulUniform)")

_ASSIGNING = re.compile(
    r"Assign|^Resource(Sparse)?Apply|^ResourceScatter|^ResourceCountUpTo|"
    r"^(Sparse)?Apply|^Scatter(?!NdNonAliasing|Nd$)|^CountUpTo$|"
    r"^ResourceStridedSliceAssign|^DestroyResource|^DestroyTemporary|"
    r"^ResourceAccumulator|^Accumulator")

_LOOPS = frozenset(["Enter", "RefEnter", "While", "StatelessWhile", "For",
                    "MapDefun", "StackPushV2", "StackPopV2"])

_PUSHES = ("StackPush", "StackPushV2")
_POPS = ("StackPop", "StackPopV2")
_HANDING_ON = ("Enter", "RefEnter", "Identity", "RefIdentity", "Switch",
               "RefSwitch")

#: Ops that may keep, or hand to Python, the buffer of a value that is fed.
_KEEPING = re.compile(r"Enqueue|^PyFunc|^EagerPyFunc|^Stage|^MapStage|"
                      r"^OrderedMapStage|Insert|^Barrier|^PutSession|"
                      r"^GetSession|"
                      r"^TensorList|^EmptyTensorList|Import|Iterator|Dataset")


#: Ops that look at the shape of what they read and not at its value.
MEASURING = frozenset(["Rank", "Shape", "ShapeN", "Size"])

#: Ops whose result is the same whatever the value of what they read.
_NOT_CARRYING = MEASURING | frozenset([
    "OnesLike", "TensorArraySizeV3", "TensorListElementShape",
    "TensorListLength", "ZerosLike"])

#: Ops whose registered gradient is None for some inputs, though others of
#: their kind have one: the inputs it is None for (math_grad.py, array_grad.py).
DEAD_INPUTS = {
    "Floor": (0,), "Ceil": (0,), "Round": (0,), "Rint": (0,),
    "FloorDiv": (0, 1), "Betainc": (0, 1), "Zeta": (0,), "Polygamma": (0,),
    "LinSpace": (0, 1, 2), "Range": (0, 1, 2), "Sign": (),
    "QuantizeAndDequantizeV2": (1, 2), "QuantizeAndDequantizeV3": (1, 2, 3)}


def ancestors(targets, cut=frozenset()):
  """Every op that has to run before `targets` have their values.

  Args:
    targets: list of `tf.Tensor` and `tf.Operation`.
    cut: container of tensor names whose values come from elsewhere, so that
      what makes them does not run.

  Returns:
    dict from name to `tf.Operation`, inputs before the ops that use them
    (loops apart).
  """
  found = collections.OrderedDict()
  visited = set()
  stack = []
  for target in targets:
    if isinstance(target, tf.Operation):
      stack.append((target, None))
    elif target.name not in cut:
      stack.append((target.op, None))
  stack.reverse()
  while stack:
    op, pending = stack.pop()
    if pending is None:
      if op.name in visited:
        continue
      visited.add(op.name)
      pending = [t.op for t in op.inputs if t.name not in cut]
      pending.extend(op.control_inputs)
      pending.reverse()
    while pending:
      child = pending.pop()
      if child.name not in visited:
        stack.append((op, pending))
        stack.append((child, None))
        break
    else:
      found[op.name] = op
  return found


def descendants(found, sources, control=True, start=()):
  """The ops of `found` whose values depend on `sources`.

  Args:
    found: dict from name to op, as `ancestors` gives it.
    sources: container of tensor names.
    control: whether waiting for a dependent op makes dependent.
    start: names of ops that are dependent as well.

  Returns:
    set of op names.
  """
  users = collections.defaultdict(list)
  dependent = list(start)
  for name, op in found.items():
    for tensor in op.inputs:
      users[tensor.op.name].append(name)
      if tensor.name in sources:
        dependent.append(name)
    if control:
      for before in op.control_inputs:
        users[before.name].append(name)
  reached = set()
  while dependent:
    name = dependent.pop()
    if name not in reached:
      reached.add(name)
      dependent.extend(users[name])
  return reached


def function_nodes(graph, op):
  """The nodes inside the functions that `op` calls, and inside theirs."""
  for definition in functions_called(graph, [op.node_def]):
    yield from definition.node_def


def functions_called(graph, nodes):
  """The FunctionDefs that `nodes` call, and those that these call, once each.
  """
  seen, queue, called = set(), list(nodes), []
  while queue:
    node = queue.pop()
    names = [node.op]
    for value in node.attr.values():
      names.append(value.func.name)
      names.extend(function.name for function in value.list.func)
    for name in names:
      if name and name not in seen:
        seen.add(name)
        definition = _tf.function_definition(graph, name)
        if definition is not None:
          called.append(definition)
          queue.extend(definition.node_def)
  return called


def _calls_functions(op):
  return op.type in FUNCTIONAL or _tf.function_definition(
      op.graph, op.type) is not None


def types_run(found):
  """(op, type) of each op in `found`, and of each inside its functions."""
  for op in found.values():
    yield op, op.type
    if _calls_functions(op):
      for node in function_nodes(op.graph, op):
        yield op, node.op


def placeholders(found):
  """The placeholders in `found`, in order of their names."""
  return sorted(
      (op.outputs[0] for op in found.values()
       if op.type in ("Placeholder", "PlaceholderV2") and op.outputs),
      key=lambda tensor: tensor.name)


def user_of(tensor, found):
  """str: an op of `found` that reads `tensor`."""
  readers = [op for op in memos.consumers(tensor) if op.name in found]
  for op in sorted(readers, key=lambda op: op.type in MEASURING):
    return "{} '{}'".format(op.type, op.name)
  return "the outputs"


def assigning(found):
  """The ops of `found` that change a variable."""
  changing = collections.OrderedDict()
  for op, op_type in types_run(found):
    if _ASSIGNING.search(op_type):
      changing[op.name] = op
  return list(changing.values())


def has_loop(found):
  return any(op_type in _LOOPS for _, op_type in types_run(found))


def keeps_feeds(found):
  """Whether an op of `found` may hold on to a fed value after the run."""
  return any(_ASSIGNING.search(op_type) or _KEEPING.search(op_type)
             for _, op_type in types_run(found))


def waiting(found):
  return [op for op in found.values() if WAITING.search(op.type)]


#: Ops that take a variable and do not mind that it has no value.
_NOT_READING = frozenset([
    "Assign", "AssignVariableOp", "IsVariableInitialized",
    "VarIsInitializedOp", "DestroyResourceOp"])


def variables(operations):
  """Those of `operations` that are variables."""
  return [op for op in operations
          if op.type in ("VarHandleOp", "VariableV2", "Variable")]


def variables_read(found, targets):
  """The variables that need a value before `found` can run.

  Not those that the run itself assigns, or asks whether they have one.
  """
  users = collections.defaultdict(set)
  for op in found.values():
    for tensor in op.inputs:
      users[tensor.op.name].add(op.type)
  fetched = {t.op.name for t in targets if isinstance(t, tf.Tensor)}
  return [op for op in variables(found.values())
          if (users[op.name] or op.name in fetched) and
          not users[op.name] & _NOT_READING]


def users(sources, skipped=frozenset()):
  """The names of all ops whose values depend on the tensors `sources`.

  Args:
    sources: list of `tf.Tensor`.
    skipped: container of op types that make nothing dependent.
  """
  found, queue = set(), list(sources)
  while queue:
    for op in memos.consumers(queue.pop()):
      for user in [op] + (_pops_of(op) if op.type in _PUSHES else []):
        if user.name not in found and user.type not in skipped:
          found.add(user.name)
          queue.extend(user.outputs)
  return found


def _pops_of(push):
  """The ops that take from the stack what `push` puts there."""
  stack = push.inputs[0]
  while stack.op.type in _HANDING_ON:
    stack = stack.op.inputs[0]
  pops, queue = [], [stack]
  while queue:
    for op in memos.consumers(queue.pop()):
      if op.type in _POPS:
        pops.append(op)
      elif op.type in _HANDING_ON:
        queue.extend(op.outputs)
  return pops


class Trace:
  """Where the gradient of `ys` flows, before anything is built.

  Attributes:
    reached: dict from name to op that depends on x and that a gradient
      arrives at.
    tensors: set of the names of the tensors that a gradient arrives at.
    blocked: dict from name to op that a gradient arrives at and does not pass.
    missing: list of ops between x and y that have no registered gradient.
    second_order: list of ops that take from a stack what depends on x: the
      gradient of a loop of control flow v1, which has no gradient itself.
    path: dict from name to op between x and y that a gradient passes.
  """

  def __init__(self, ys, xs, stops=()):
    self.reached = collections.OrderedDict()
    self.blocked = collections.OrderedDict()
    self.tensors = set()
    self.second_order = []
    self._stops = {stop.op.name for stop in stops}
    self._xs = {x.name for x in xs}
    self._sources = list(xs)
    self._on_path = self._carrying = None
    # From x on, as TensorFlow does: what lies above x does not matter.
    self._dependent = users(xs)
    self.missing = self._walk(ys)
    self.path = collections.OrderedDict(
        (name, op) for name, op in self.reached.items()
        if name not in self.blocked and name not in self._stops)

  def is_on_path(self, tensor):
    """Whether a gradient arrives at `tensor` and goes on to an x."""
    if self._on_path is None:
      self._on_path = self._forward()
    return tensor.name in self._on_path

  def depends(self, tensor):
    """Whether `tensor` is an x, or is computed from one in some way."""
    return tensor.name in self._xs or tensor.op.name in self._dependent

  def carries(self, tensor):
    """Whether the value of `tensor` depends on that of an x.

    What depends on the shape of an x alone does not.
    """
    if self._carrying is None:
      self._carrying = users(self._sources, _NOT_CARRYING)
    return tensor.name in self._xs or tensor.op.name in self._carrying

  def _forward(self):
    """The names of the tensors that lead from an x along the path."""
    readers = collections.defaultdict(list)
    for op in self.path.values():
      for tensor in passed_to(op):
        readers[tensor.name].append(op)
    found, queue = set(), [name for name in self._xs if name in self.tensors]
    while queue:
      name = queue.pop()
      if name not in found:
        found.add(name)
        queue.extend(t.name for op in readers[name] for t in op.outputs
                     if t.name in self.tensors)
    return found

  def _walk(self, ys):
    missing = []
    queue = collections.deque()
    for y in ys:
      self.tensors.add(y.name)
      queue.append(y.op)
    while queue:
      op = queue.popleft()
      if op.name in self.reached or op.name not in self._dependent:
        continue
      if op.type in _POPS:
        self.second_order.append(op)
      self.reached[op.name] = op
      if op.name in self._stops:
        continue
      passes = _passes_gradient(op)
      if passes is None:
        missing.append(op)
      elif not passes:
        self.blocked[op.name] = op
        continue
      for tensor in passed_to(op):
        self.tensors.add(tensor.name)
        queue.append(tensor.op)
    return missing


#: Ops that no gradient passes because their derivative is zero, almost
#: everywhere or because the model says so.
FLAT = frozenset([
    "Ceil", "Floor", "OnesLike", "Rint", "Round", "Sign", "StopGradient",
    "ZerosLike"])


def hides(op):
  """Whether `op`, which no gradient passes, may depend on its inputs."""
  return op.type not in FLAT and any(
      _tf.is_trainable_dtype(tensor.dtype) for tensor in op.inputs)


def passed_to(op):
  """The inputs of `op` that its gradient goes to."""
  dead = DEAD_INPUTS.get(op.type, ())
  return [tensor for index, tensor in enumerate(op.inputs)
          if index not in dead and _tf.is_trainable_dtype(tensor.dtype)]


def _passes_gradient(op):
  """True, False where it is declared to be zero, None where undefined."""
  if not op.inputs:
    return True
  if not passed_to(op):
    return False
  if op.type == "Exit":
    context = _tf.control_flow_context(op.inputs[0].op)
    if context is not None and not getattr(context, "back_prop", True):
      return False
  if op.type in inlining.CALLS or (
      _tf.function_definition(op.graph, op.type) is not None):
    return True
  if op.type == "PreventGradient":
    return None  # Its gradient function is there to raise an error.
  try:
    return _tf.gradient_function(op) is not None
  except LookupError:
    return None
