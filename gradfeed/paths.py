"""What lies between x and y: reached by gradients, cut off, needed, changed."""

import collections
import re

from gradfeed import _tf
from gradfeed import inlining
from gradfeed import memos
from gradfeed import tensors
from gradfeed._tf import tf

describe = tensors.describe

#: Ops that call functions; `tf.gradients` changes them when it differentiates.
FUNCTIONAL = frozenset([
    "While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase",
    "PartitionedCall", "StatefulPartitionedCall"])

#: Ops that wait for something that happens outside of the run.
WAITING = re.compile(r"(Queue|Reader|Barrier|Stage|Iterator).*"
                     r"(Dequeue|Read|Take|Unstage|GetNext)|IteratorGetNext|"
                     r"OneShotIterator|FIFOQueue")

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


#: Ops whose registered gradient is None for some inputs, though others of
#: their kind have one: the inputs it is None for (math_grad.py, array_grad.py).
_DEAD_INPUTS = {
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
  yield from _nodes_called(graph, [op.node_def], set())


def _nodes_called(graph, nodes, seen):
  for node in nodes:
    names = [node.op]
    for value in node.attr.values():
      names.append(value.func.name)
      names.extend(function.name for function in value.list.func)
    for name in names:
      if name and name not in seen:
        seen.add(name)
        definition = _tf.function_definition(graph, name)
        if definition is not None:
          for inner in definition.node_def:
            yield inner
          yield from _nodes_called(graph, definition.node_def, seen)


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


def _users(sources):
  """The names of all ops whose values depend on the tensors `sources`."""
  found, queue = set(), list(sources)
  while queue:
    for op in memos.consumers(queue.pop()):
      for user in [op] + (_pops_of(op) if op.type in _PUSHES else []):
        if user.name not in found:
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
    # From x on, as TensorFlow does: what lies above x does not matter.
    self._dependent = _users(xs)
    self.missing = self._walk(ys)
    self.path = collections.OrderedDict(
        (name, op) for name, op in self.reached.items()
        if name not in self.blocked and name not in self._stops)

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
      for tensor in _passed_to(op):
        self.tensors.add(tensor.name)
        queue.append(tensor.op)
    return missing


def _passed_to(op):
  """The inputs of `op` that its gradient goes to."""
  dead = _DEAD_INPUTS.get(op.type, ())
  return [tensor for index, tensor in enumerate(op.inputs)
          if index not in dead and _tf.is_trainable_dtype(tensor.dtype)]


def _passes_gradient(op):
  """True, False where it is declared to be zero, None where undefined."""
  if not op.inputs:
    return True
  if not _passed_to(op):
    return False
  if op.type == "Exit":
    context = _tf.control_flow_context(op.inputs[0].op)
    if context is not None and not getattr(context, "back_prop", True):
      return False
  if op.type in inlining.CALLS or (
      _tf.function_definition(op.graph, op.type) is not None):
    return True
  try:
    return _tf.gradient_function(op) is not None
  except LookupError:
    return None


def why_disconnected(ys, x, trace):
  """Why no gradient of `ys` arrives at `x`, and what to do instead.

  Args:
    ys: list of `tensors.Point`.
    x: `tensors.Point`.
    trace: `Trace` of `ys`.

  Returns:
    (why, fix), two sentences.
  """
  found = ancestors([y.tensor for y in ys])
  users = descendants(found, {x.name}, control=False)
  for y in ys:
    if not _tf.is_trainable_dtype(y.dtype):
      return ("{} is {}, and only floating and complex tensors have "
              "gradients.".format(describe(y), y.dtype.name),
              _advise_above(y, found))
  if not users:
    return _why_no_path(ys, x, found)
  blockers = list(collections.OrderedDict.fromkeys(
      _culprit(op, users, found) for name, op in trace.blocked.items()
      if name in users))
  if not _tf.is_trainable_dtype(x.dtype):
    why = "{} is {}, not floating point.".format(describe(x), x.dtype.name)
  elif blockers:
    why = "No gradient passes {}, which {} between them.".format(
        ", ".join(_told(op) for op in blockers[:4]),
        "lie" if len(blockers) > 1 else "lies")
  else:
    why = "Every path between them goes through a tensor held constant."
  return why, _advise_below(x, users, found, trace)


def _culprit(op, users, found):
  """The op that cut the path, where `op` only reads what is left of it."""
  seen = set()
  while op.name not in seen:
    seen.add(op.name)
    if any(_tf.is_trainable_dtype(t.dtype) for t in op.inputs):
      return op
    before = [t.op for t in op.inputs
              if t.op.name in users and t.op.name in found]
    if not before:
      return op
    op = before[0]
  return op


def _told(op):
  dtypes = ["/".join(sorted({t.dtype.base_dtype.name for t in ends}))
            for ends in (op.inputs, op.outputs)]
  changed = " ({} to {})".format(*dtypes) if op.type == "Cast" else ""
  return "{} '{}'{}{}".format(op.type, op.name, changed, _made_at(op))


def _advise_above(y, found):
  floating = [op.outputs[0] for op in found.values() if op.outputs and
              _is_number(op.outputs[0])]
  if not floating:
    return "Pass a floating point y."
  return "Differentiate {}, the last floating tensor before it.".format(
      describe(floating[-1]))


def _is_number(tensor):
  return tensor.dtype.is_floating or tensor.dtype.is_complex


def _advise_below(x, users, found, trace):
  """Advises the first floating tensor after `x` that a gradient reaches."""
  for name, op in found.items():
    if name in users:
      for tensor in op.outputs:
        if tensor.name in trace.tensors and _is_number(tensor):
          return ("Differentiate by {}, the first floating tensor after it "
                  "that a gradient reaches.".format(describe(tensor)))
  return ("No tensor after {} has a gradient; for a number all the same, take "
          "differences of y itself.".format(describe(x)))


def _why_no_path(ys, x, found):
  """`x` is not read by `ys`: finds what is read in its place."""
  sources = _upstream_read(x, found)
  named = tensors.describe_all(ys)
  if sources:
    return ("{} does not depend on {}, which is a copy or a part made of {} "
            "and is not what the model reads.".format(
                named, describe(x), tensors.describe_all(sources[:2])),
            "Differentiate by {}, which the model reads.".format(
                describe(sources[0])))
  read = [op.outputs[0] for op in found.values()
          if op.outputs and not op.inputs and
          (op.type.startswith("Placeholder") or
           op.type in ("VarHandleOp", "VariableV2", "Variable"))]
  if read:
    return ("{} does not depend on {}.".format(named, describe(x)),
            "It depends on {}{}: pass one of these as x.".format(
                tensors.describe_all(read[:6]),
                " and more" if len(read) > 6 else ""))
  return ("{} does not depend on {}, nor on any placeholder or "
          "variable.".format(named, describe(x)),
          "Pass a y that is computed from x.")


def _upstream_read(x, found):
  """The tensors above `x` that the graph of y reads, the nearest first."""
  seen, queue, read = set(), collections.deque([x.op]), []
  while queue:
    op = queue.popleft()
    for tensor in op.inputs:
      if tensor.op.name in seen:
        continue
      seen.add(tensor.op.name)
      if tensor.op.name in found:
        read.append(tensor)
      else:
        queue.append(tensor.op)
  return [t for t in read if t.dtype.is_floating or t.dtype.is_complex or
          tensors.Point(t).is_variable]


def _made_at(op):
  """` (model.py:12)`: the innermost line outside TensorFlow that made `op`."""
  for frame in reversed(list(op.traceback or ())):
    filename = getattr(frame, "filename", None) or frame[0]
    line = getattr(frame, "lineno", None) or frame[1]
    if not re.search(r"[/\\](tensorflow|tensorflow_core|gradfeed)[/\\]",
                     filename):
      return " ({}:{})".format(filename.replace("\\", "/").split("/")[-1],
                               line)
  return ""
