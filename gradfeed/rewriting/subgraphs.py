"""What has to be copied together when some tensors get other values.

What depends on them, the whole of each while loop that it is in, and all users
of a stack or tensor array that one of them uses.
"""

import collections

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import control_flow
from gradfeed.graph import op_types
from gradfeed.graph import traversal


def dependent_ops(found, sources):
  """The ops of `found` that need a copy when `sources` are replaced.

  These are the ops that depend on `sources`; with one op of a while loop the
  whole loop; with one user of a stack or tensor array all its users.

  Args:
    found: dict from name to op, as `traversal.ancestors` gives it.
    sources: set of tensor names.

  Returns:
    set of op names.
  """
  return with_shared_state(found, traversal.descendants(found, sources))


def with_shared_state(found, part):
  """`part` with what has to be copied with it, and all that depends on that.

  Args:
    found: dict from name to op, as `traversal.ancestors` gives it.
    part: set of op names.

  Returns:
    set of op names.
  """
  groups = _frame_groups(found) + _state_groups(found)
  while True:
    touched = [group for group in groups if group & part]
    if not touched:
      return part
    groups = [group for group in groups if not group & part]
    part = traversal.descendants(found, (), start=part.union(*touched))


def _frame_groups(found):
  groups = collections.defaultdict(set)
  for name, frame in control_flow.frames_of(found).items():
    groups[frame[0]].add(name)
  return list(groups.values())


def _state_groups(found):
  groups = []
  users = None
  for name, op in found.items():
    if op.type not in op_types.PER_RUN_STATE:
      continue
    if users is None:
      users = collections.defaultdict(set)
      for user in found.values():
        for tensor in user.inputs:
          users[tensor.name].add(user.name)
    groups.append(_users_of_handle(op, found, users) | {name})
  return groups


def _users_of_handle(op, found, users):
  group, queue = set(), [op]
  while queue:
    for tensor in queue.pop().outputs:
      if tensor.dtype == tf.resource or _tf.is_reference(tensor):
        for name in users[tensor.name] - group:
          group.add(name)
          queue.append(found[name])
  return group


def closed(found, start):
  """What has to be copied with `start`: all that is in the same branches."""
  depths = control_flow.depths(found)
  while True:
    sources = {t.name for name in start for t in found[name].outputs}
    part = with_shared_state(found, start | traversal.descendants(
        found, sources, control=False))
    beside = set()
    for name in part:
      for before in [t.op for t in found[name].inputs] + list(
          found[name].control_inputs):
        if before.name not in part and (depths.get(
            before.name) or control_flow.is_control_flow_v1(before) or
                                        names_a_predicate(before, found[name])
                                        or counts(before, found[name])):
          beside.add(before.name)
    if not beside:
      return part
    start = part | beside


def names_a_predicate(op, reader):
  """Whether `op` only gives the predicate of a branch another name.

  The switches of one branch are told by what they have in common.
  """
  return op.type == "Identity" and (
      reader.type in op_types.SWITCHES + ("Identity",))


def counts(op, reader):
  """Whether `op` may say which elements of a tensor array `reader` takes."""
  return op.type in ("Const", "Range") and (
      reader.type == "Range" or reader.type.startswith(op_types.TENSOR_ARRAY))
