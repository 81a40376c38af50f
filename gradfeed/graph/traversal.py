"""Walks along the edges of a graph: ancestors, dependents, functions called."""

import collections

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import cache
from gradfeed.graph import op_types


class Ancestors(collections.OrderedDict):
  """dict from name to `tf.Operation`, inputs before the ops that use them.

  Attributes:
    before: dict from the name of each op to the names of the ops that it reads
      or waits for, as they count here.
    cut: container of the names of tensors above which nothing is looked at.
  """

  def __init__(self, items=(), before=None, cut=frozenset(), types=None):
    super().__init__(items)
    self.before = {} if before is None else before
    self.cut = cut
    self._types = types  # From name to type: TensorFlow is slow to tell it.
    self._by_type = None

  def by_type(self):
    """dict from each type of op to the list of those that have it."""
    if self._by_type is None:
      self._by_type = collections.OrderedDict()
      types = self._all_types()
      for name, op in self.items():
        self._by_type.setdefault(types[name], []).append(op)
    return self._by_type

  def _all_types(self):
    if self._types is None:
      self._types = {name: op.type for name, op in self.items()}
    return self._types

  def among(self, names, before=None):
    """Those of these ops whose names are in a container.

    Args:
      names: container of names.
      before: as the attribute, where it is another one for them.

    Returns:
      `Ancestors`, in the same order.
    """
    return Ancestors(
        ((name, op) for name, op in self.items() if name in names),
        self.before if before is None else before, self.cut, self._all_types())


def by_type(ops):
  """The ops of a dict from name to op by their types, each in their order.

  Returns:
    dict from each type of op to the list of those that have it.
  """
  return (ops if isinstance(ops, Ancestors) else Ancestors(ops)).by_type()


def ancestors(targets, cut=frozenset()):
  """Every op that has to run before `targets` have their values.

  Args:
    targets: list of `tf.Tensor` and `tf.Operation`.
    cut: container of tensor names whose values come from elsewhere, so that
      what makes them does not run.

  Returns:
    `Ancestors` (loops apart, where what goes around may come after its use).
  """
  ops = Ancestors(cut=cut)
  before = ops.before
  visited = set()
  stack = []
  for target in targets:
    if isinstance(target, tf.Operation):
      stack.append((target, target.name, None))
    elif target.name not in cut:
      stack.append((target.op, target.op.name, None))
  stack.reverse()
  while stack:
    op, name, pending = stack.pop()
    if pending is None:
      if name in visited:
        continue
      visited.add(name)
      pending = [t.op for t in op.inputs if not cut or t.name not in cut]
      pending.extend(op.control_inputs)
      pending = [(child, child.name) for child in pending]
      before[name] = [child_name for _, child_name in pending]
      pending.reverse()
    while pending:
      child, child_name = pending.pop()
      if child_name not in visited:
        stack.append((op, name, pending))
        stack.append((child, child_name, None))
        break
    else:
      ops[name] = op
  return ops


def still_ancestors(ops, targets, reads):
  """Those of `ops` that have to run where some ops use a part of their inputs.

  Args:
    ops: `Ancestors` of `targets` where all inputs count.
    targets: list of `tf.Tensor` and `tf.Operation`.
    reads: dict from the names of these ops to those of their inputs that count.

  Returns:
    `Ancestors`, in the order of `ops`.
  """
  before = dict(ops.before)
  for name, inputs in reads.items():
    before[name] = [t.op.name for t in inputs if t.name not in ops.cut] + [
        op.name for op in ops[name].control_inputs]
  return ops.among(above(ops, [
      t.name if isinstance(t, tf.Operation) else t.op.name for t in targets],
                         before), before)


def descendants(ops, sources, control=True, start=()):
  """The ops of `ops` whose values depend on `sources`.

  Args:
    ops: dict from name to op, as `ancestors` gives it.
    sources: container of tensor names.
    control: whether an op that waits for a dependent op is dependent.
    start: names of ops that count as dependent from the beginning.

  Returns:
    set of op names.
  """
  users = collections.defaultdict(list)
  dependent = list(start)
  for name, op in ops.items():
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


def above(ops, names, before=None):
  """The names of those of `ops` that have to run before some of them.

  Args:
    ops: `Ancestors`.
    names: iterable of names of ops, those that are no part of `ops` left out.
    before: as the attribute of `ops`, where it is another one.

  Returns:
    set of names, those of `names` among them.
  """
  before = ops.before if before is None else before
  reached, queue = set(), list(names)
  while queue:
    name = queue.pop()
    if name not in reached and name in ops:
      reached.add(name)
      queue.extend(before[name])
  return reached


class Marks:
  """Which of some marked ops have to run before each op; see `marks_above`."""

  def __init__(self, bits, masks):
    self._bits = bits
    self._masks = masks

  def has(self, name, marked):
    """Whether the op called `marked` is `name` or runs before it."""
    return bool(self._masks[name] & self._bits[marked])


def marks_above(ops, marked):
  """Finds out which of the ops named `marked` run before each of `ops`.

  One pass over the graph (two, and a part more for each nested loop, with
  control flow v1) answers for all pairs: each op has a bit for each mark.

  Args:
    ops: `Ancestors`.
    marked: iterable of names of ops among them.

  Returns:
    `Marks`.
  """
  bits = {name: 1 << i for i, name in enumerate(marked)}
  masks = dict.fromkeys(ops, 0)
  before = {name: [other for other in ops.before[name] if other in ops]
            for name in ops}
  positions = {name: i for i, name in enumerate(ops)}
  # What goes around a loop is read before it is known.
  read_early = {other for name, names in before.items() for other in names
                if positions[other] >= positions[name]}
  is_changed = True
  while is_changed:
    is_changed = False
    for name, names in before.items():
      mask = masks[name] | bits.get(name, 0)
      for other in names:
        mask |= masks[other]
      has_grown, masks[name] = mask != masks[name], mask
      is_changed = is_changed or has_grown and name in read_early
  return Marks(bits, masks)


def function_nodes(graph, op):
  """Yields the NodeDefs of all functions that running `op` calls.

  Args:
    graph: `tf.Graph` whose library holds the functions.
    op: `tf.Operation`.
  """
  for definition in functions_called(graph, [op.node_def]):
    yield from definition.node_def


def functions_called(graph, nodes):
  """The functions that `nodes` call, and those that these call, once each.

  Args:
    graph: `tf.Graph` whose library holds the functions.
    nodes: iterable of NodeDef.

  Returns:
    list of FunctionDef.
  """
  seen, queue, called = set(), list(nodes), []
  while queue:
    node = queue.pop()
    for name in [node.op] + [callee.name for callee in _tf.callees(node)]:
      if name and name not in seen:
        seen.add(name)
        definition = _tf.function_definition(graph, name)
        if definition is not None:
          called.append(definition)
          queue.extend(definition.node_def)
  return called


def dependents(sources, skipped=frozenset(), stops=frozenset()):
  """The names of all ops whose values depend on the tensors `sources`.

  Args:
    sources: list of `tf.Tensor`.
    skipped: container of op types that make nothing dependent.
    stops: container of the names of tensors that make nothing dependent.

  Returns:
    set of op names; what is taken from a stack depends on what was put there.
  """
  reached, queue = set(), list(sources)
  while queue:
    for op in consumers(queue.pop()):
      for user in [op] + (_pops_of(op) if op.type in op_types.PUSHES else []):
        if user.name not in reached and user.type not in skipped:
          reached.add(user.name)
          queue.extend(t for t in user.outputs if t.name not in stops)
  return reached


def _pops_of(push):
  """The ops that may take from its stack what the op `push` puts there."""
  stack = push.inputs[0]
  while stack.op.type in op_types.HANDLE_PASSING:
    stack = stack.op.inputs[0]
  pops, queue = [], [stack]
  while queue:
    for op in consumers(queue.pop()):
      if op.type in op_types.POPS:
        pops.append(op)
      elif op.type in op_types.HANDLE_PASSING:
        queue.extend(op.outputs)
  return pops


def predecessors(op):
  """The ops that `op` reads or waits for, in order; one may be there twice."""
  return [tensor.op for tensor in op.inputs] + list(op.control_inputs)


def consumers(tensor):
  """The ops that read `tensor`.

  TensorFlow's list of them must not be read while another thread adds to it.
  """
  with cache.cache_of(tensor.graph).lock:
    return tensor.consumers()
