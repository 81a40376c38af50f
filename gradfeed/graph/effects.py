"""What running some ops of a graph needs, changes, waits for and keeps.

`ops` is a dict from name to op in all functions, as `traversal.ancestors`
gives it.
"""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import op_types
from gradfeed.graph import traversal


def _calls_functions(op):
  return op.type in op_types.FUNCTIONAL or _tf.function_definition(
      op.graph, op.type) is not None


def op_types_of_run(ops, folded=None):
  """Yields (op, type) for each op in `ops`, and each inside its functions.

  Ops of one type come after each other.

  Args:
    ops: dict from name to op.
    folded: `branches.folding.Folding`, so that what is in a branch of a
      function that is not taken does not count; or None.
  """
  for op_type, group in traversal.by_type(ops).items():
    is_calling = _calls_functions(group[0])
    for op in group:
      yield op, op_type
      if is_calling:
        for node in _nodes_called(op, folded):
          yield op, node.op


def _nodes_called(op, folded):
  """The NodeDefs inside the functions of `op`: as in `op_types_of_run`."""
  return (traversal.function_nodes(op.graph, op) if folded is None
          else folded.nodes_called(op))


def placeholders(ops):
  """The tensors of the placeholders in `ops`, in order of their names."""
  return sorted(
      (op.outputs[0] for op in _of_types(ops, op_types.PLACEHOLDERS)
       if op.outputs), key=lambda tensor: tensor.name)


def _of_types(ops, types):
  """Those of `ops` that have one of `types`."""
  return [op for op_type, group in traversal.by_type(ops).items()
          if op_type in types for op in group]


def user_of(tensor, ops):
  """Names an op of `ops` that reads `tensor`, for a message.

  Returns:
    str: the type and the name, of an op that reads more than the shape if there
    is one; "the outputs" if no op reads it.
  """
  readers = [op for op in traversal.consumers(tensor) if op.name in ops]
  for op in sorted(readers, key=lambda op: op.type in op_types.SHAPE_READING):
    return "{} '{}'".format(op.type, op.name)
  return "the outputs"


def assigning_ops(ops, folded=None):
  """The list of the ops of `ops` that change a variable.

  Args:
    ops, folded: as in `op_types_of_run`.
  """
  assigning = set()
  for op_type, group in traversal.by_type(ops).items():
    if op_types.ASSIGNING.search(op_type):
      assigning.update(op.name for op in group)
    elif _calls_functions(group[0]):
      assigning.update(op.name for op in group if any(
          op_types.ASSIGNING.search(node.op)
          for node in _nodes_called(op, folded)))
  return [op for name, op in ops.items() if name in assigning]


def types_of_run(ops):
  """The set of the types of `ops`, and of those inside their functions."""
  types = set(traversal.by_type(ops))
  for group in traversal.by_type(ops).values():
    if _calls_functions(group[0]):
      types.update(node.op for op in group for node in _nodes_called(op, None))
  return types


def has_loop(ops):
  """Whether an op of `ops` is, calls or belongs to a loop."""
  return not op_types.LOOPS.isdisjoint(types_of_run(ops))


def keeps_feeds(ops):
  """Whether an op of `ops` may hold on to a fed value after the run."""
  return any(
      op_types.ASSIGNING.search(op_type) or
      op_types.FEED_KEEPING.search(op_type)
      for op_type in types_of_run(ops))


def is_repeatable(ops):
  """Whether a run of `ops` changes nothing that a later run would notice.

  No state, no queue, no generator of random numbers, and nothing in Python.
  """
  types = types_of_run(ops)
  return not types & op_types.PYTHON_CALLS and not any(
      pattern.search(op_type) for op_type in types for pattern in (
          op_types.ASSIGNING, op_types.RANDOM, op_types.WAITING,
          op_types.FEED_KEEPING))


def waiting_ops(ops):
  """The ops of `ops` that wait for something outside of the run: a queue."""
  return [op for op_type, group in traversal.by_type(ops).items()
          if op_types.WAITING.search(op_type) for op in group]


def variables(operations):
  """Those of the iterable `operations` that are variables."""
  return [op for op in operations if op.type in op_types.VARIABLES]


def variables_read(ops, targets, folded=None):
  """The variables that need a value before `ops` can run.

  Not among them are those that the run itself assigns, or asks whether they
  have a value.

  Args:
    ops: dict from name to op.
    targets: list of the `tf.Tensor` and `tf.Operation` that are fetched.
    folded: `folding.Folding` or None, as in `op_types_of_run`.

  Returns:
    list of `tf.Operation`.
  """
  fetched = {t.op.name for t in targets if isinstance(t, tf.Tensor)}
  found = []
  for variable in _of_types(ops, op_types.VARIABLES):
    reader_types = {
        op.type for tensor in variable.outputs
        for op in traversal.consumers(tensor) if op.name in ops and (
            folded is None or any(t is tensor for t in folded.reads(op)))}
    if (reader_types or variable.name in fetched) and not (
        reader_types & op_types.VALUE_IGNORING):
      found.append(variable)
  return found


def variables_assigned(ops):
  """The names of the variables that have a value once all of `ops` have run.

  Args:
    ops: `traversal.Ancestors`, all that runs.

  Returns:
    set of the names of ops; empty where what a branch assigns may not run.
  """
  if not set(op_types.SWITCHES).isdisjoint(traversal.by_type(ops)):
    return set()
  return {op.inputs[0].op.name
          for op in _of_types(ops, ("Assign", "AssignVariableOp"))
          if op.inputs[0].op.type in op_types.VARIABLES}


def reads_input(op, index):
  """Whether an op does more with one of its inputs than to assign to it.

  Args:
    op: `tf.Operation`.
    index: int, of an input that is a variable.
  """
  if op.type not in op_types.FUNCTION_CALLS:
    return not op_types.ASSIGNING.search(op.type)
  return _reads_input(op.graph, op.node_def, index, set())


def _reads_input(graph, node, index, seen):
  """As `reads_input`, for a NodeDef; `seen` are calls that were looked at."""
  call = op_types.FUNCTION_CALLS.get(node.op)
  if call is None:
    return not op_types.ASSIGNING.search(node.op)
  definitions = [_tf.function_definition(graph, callee.name)
                 for callee in _tf.callees(node, call.functions)]
  position = index - call.first_argument
  if position < 0 or None in definitions:
    return True
  for definition in definitions:
    argument = definition.signature.input_arg[position].name
    if (definition.signature.name, argument) in seen:
      continue
    seen.add((definition.signature.name, argument))
    if any(_reads_input(graph, inner, i, seen)
           for inner in definition.node_def
           for i, name in enumerate(inner.input) if name == argument):
      return True
  return False


def read_by(ops, tensors):
  """The names of those of `tensors` that `ops` read.

  Args:
    ops: dict from name to op.
    tensors: iterable of `tf.Tensor`.

  Returns:
    set of str; a placeholder that is one of `ops` counts as read.
  """
  return {t.name for t in tensors if any(
      op.name in ops for op in traversal.consumers(t)) or (
          t.op.type in op_types.PLACEHOLDERS and t.op.name in ops)}


def names_read(ops):
  """The names of the tensors that `ops` read, and of all placeholders there."""
  names = {t.name for op in ops.values() for t in op.inputs}
  names.update(t.name for t in placeholders(ops))
  return names
