"""Which ops have to be copied together when some tensors get other values.

Those that depend on the tensors, the whole of each while loop that one of these
is in, and all users of a stack or tensor array that one of them uses.
"""

import collections

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import cache
from gradfeed.graph import control_flow
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import traversal


def dependent_ops(ops, sources):
  """The ops that need a copy when some tensors are replaced.

  These are the ops that depend on the tensors; with one op of a while loop the
  whole loop; with one user of a stack or tensor array all its users.

  Args:
    ops: dict from name to op, as `traversal.ancestors` gives it.
    sources: set of tensor names.

  Returns:
    set of op names.
  """
  return with_shared_state(ops, traversal.descendants(ops, sources))


def with_shared_state(ops, op_names):
  """Adds to some ops those that have to be copied with them.

  With an op of a while loop comes the whole loop, with a user of a stack or
  tensor array all its users, and with each of these all that depends on it.

  Args:
    ops: dict from name to op, as `traversal.ancestors` gives it.
    op_names: set of names of some of them.

  Returns:
    set of op names.
  """
  groups = _frame_groups(ops) + _state_groups(ops)
  while True:
    touched = [group for group in groups if group & op_names]
    if not touched:
      return op_names
    groups = [group for group in groups if not group & op_names]
    op_names = traversal.descendants(ops, (), start=op_names.union(*touched))


def _frame_groups(ops):
  """The sets of the names of the ops that are in one outermost while loop."""
  groups = collections.defaultdict(set)
  for name, frame in control_flow.frames_of(ops).items():
    groups[frame[0]].add(name)
  return list(groups.values())


def _state_groups(ops):
  """The sets of the names of the ops that use one stack or tensor array."""
  groups = []
  users = None
  for name, op in ops.items():
    if op.type not in op_types.PER_RUN_STATE:
      continue
    if users is None:
      users = collections.defaultdict(set)
      for user in ops.values():
        for tensor in user.inputs:
          users[tensor.name].add(user.name)
    groups.append(_users_of_handle(op, ops, users) | {name})
  return groups


def _users_of_handle(op, ops, users):
  """The names of the ops that read a handle, also through other ops.

  Args:
    op: `tf.Operation` that makes the handle.
    ops: dict from name to op.
    users: dict from tensor name to the names of the ops that read it.

  Returns:
    set of op names.
  """
  group, queue = set(), [op]
  while queue:
    for tensor in queue.pop().outputs:
      if tensor.dtype == tf.resource or _tf.is_reference(tensor):
        for name in users[tensor.name] - group:
          group.add(name)
          queue.append(ops[name])
  return group


def closed(ops, start):
  """Adds to some ops all that is in the same branches and loops.

  What is before these is left out, as it may be fed: a copy of it would not be.

  Args:
    ops: dict from name to op, as `traversal.ancestors` gives it.
    start: set of names of some of them.

  Returns:
    set of op names, which can be copied in functional form.
  """
  depths = control_flow.depths(ops)
  alone = set()
  while True:
    sources = {t.name for name in start for t in ops[name].outputs}
    op_names = with_shared_state(ops, start | traversal.descendants(
        ops, sources, control=False))
    beside, known = set(), len(alone)
    for name in op_names | alone:
      op = ops[name]
      for before in [t.op for t in op.inputs] + list(op.control_inputs):
        if before.name in op_names or before.name in alone:
          continue
        if _is_part(before, depths):
          beside.add(before.name)
        elif names_a_predicate(before, op) or counts(before, op):
          alone.add(before.name)
    if not beside and len(alone) == known:
      return op_names | alone
    start = op_names | beside


def _is_part(op, depths):
  """Whether `op` is in a branch or a loop, or works on a tensor array.

  The results of a branch and of a loop are outside of it.

  Args:
    op: `tf.Operation`.
    depths: as `control_flow.depths` gives them for the ops.
  """
  return bool(depths.get(op.name)) or (
      control_flow.is_control_flow_v1(op) and op.type not in op_types.JOINS)


def names_a_predicate(op, reader):
  """Whether `op` is an Identity of what may be the predicate of a branch.

  Copied along, it lets the switches of one branch be recognized by the
  predicate that they have in common.
  """
  return (op.type == "Identity" and
          op.outputs[0].dtype.base_dtype == tf.bool and
          reader.type in op_types.SWITCHES + ("Identity",))


def counts(op, reader):
  """Whether `op` may make the indices by which `reader` takes elements.

  That `reader` is an op of a tensor array, or a Range with such a reader.
  """
  return op.type in ("Const", "Range") and (
      reader.type == "Range" or reader.type.startswith(op_types.TENSOR_ARRAY))


def from_functional_ops(graph, ys, functional):
  """The ops that are copied with functional ops that are differentiated.

  All that is computed from these, also what no gradient passes: it is to be of
  the same random numbers, and of the same run of a loop. Where such an op draws
  numbers, they include the copies that earlier derivatives were built on: a
  tensor that is fetched together with a derivative is computed from these.

  Args:
    graph: `tf.Graph`.
    ys: list of `tf.Tensor`, what is differentiated.
    functional: list of `tf.Operation` on the way to `ys`.

  Returns:
    (dict from name to op of all that is looked at, set of the names to copy).
  """
  drawn = traversal.dependents(
      [t for op in functional if not effects.is_repeatable({op.name: op})
       for t in op.outputs])
  ops = traversal.ancestors(ys + [
      graph.get_tensor_by_name(name)
      for names in list(cache.cache_of(graph).clones.values())
      for name in names if name.split(":")[0] in drawn])
  return ops, with_shared_state(ops, {
      op.name for op in functional} | traversal.descendants(
          ops, {t.name for op in functional for t in op.outputs},
          control=False))
