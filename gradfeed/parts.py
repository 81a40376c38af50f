"""What has to be copied together when some tensors get other values.

What depends on them, the whole of each while loop that it is in, and all users
of a stack or tensor array that one of them uses.
"""

import collections

from gradfeed import _tf
from gradfeed import paths
from gradfeed._tf import tf

ENTERS = ("Enter", "RefEnter")
EXITS = ("Exit", "RefExit")

#: State that lives for one run: a copy that shared it with the original would
#: push and pop each other's values when both run.
_PER_RUN_STATE = frozenset([
    "Stack", "StackV2", "TensorArray", "TensorArrayV2", "TensorArrayV3",
    "TensorArrayGrad", "TensorArrayGradV2", "TensorArrayGradV3",
    "TensorArrayGradWithShape"])


def frames_of(found):
  """The names of the while loops around each op of `found`, outermost first.

  Control flow v1 writes a loop as `Enter` ... `Exit` with a frame name; an op
  is in the frame of its inputs.

  Args:
    found: dict from name to op, as `paths.ancestors` gives it.

  Returns:
    dict from op name to tuple of frame names; ops outside any loop are absent.
  """
  frames = {}
  if not any(op.type in ENTERS for op in found.values()):
    return frames
  users = collections.defaultdict(list)
  for op in found.values():
    for tensor in op.inputs:
      users[tensor.op.name].append(op)
    for before in op.control_inputs:
      users[before.name].append(op)
  queue = collections.deque(
      op for op in found.values() if op.type in ENTERS)
  while queue:
    op = queue.popleft()
    outer = max((_frame_after(before, frames) for before in
                 [t.op for t in op.inputs] + list(op.control_inputs)),
                key=len, default=())
    frame = outer
    if op.type in ENTERS:
      frame = outer + (op.get_attr("frame_name").decode(),)
    if len(frame) > len(frames.get(op.name, ())):
      frames[op.name] = frame
      queue.extend(users[op.name])
  return frames


def _frame_after(op, frames):
  frame = frames.get(op.name, ())
  return frame[:-1] if op.type in EXITS else frame


def apart(found):
  """The ops of `found` whose results a run cannot be asked for.

  In a branch of control flow v1 that is not taken nothing has a value, and
  inside of a while loop there is one at each turn.

  Args:
    found: dict from name to op, as `paths.ancestors` gives it.

  Returns:
    set of op names.
  """
  frames, inside = frames_of(found), set()
  for name, op in found.items():
    if name in frames:
      if op.type not in EXITS:
        inside.add(name)
    elif op.type in ("Switch", "RefSwitch") or (
        op.type not in EXITS + ("Merge", "RefMerge") and any(
            before.name in inside for before in
            [t.op for t in op.inputs] + list(op.control_inputs))):
      inside.add(name)
  return inside


def part_to_copy(found, sources):
  """The ops of `found` that need a copy when `sources` are replaced.

  These are the ops that depend on `sources`; with one op of a while loop the
  whole loop; with one user of a stack or tensor array all its users.

  Args:
    found: dict from name to op, as `paths.ancestors` gives it.
    sources: set of tensor names.

  Returns:
    set of op names.
  """
  return together(found, paths.descendants(found, sources))


def together(found, part):
  """`part` with what has to be copied with it, and all that depends on that.

  Args:
    found: dict from name to op, as `paths.ancestors` gives it.
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
    part = paths.descendants(found, (), start=part.union(*touched))


def _frame_groups(found):
  groups = collections.defaultdict(set)
  for name, frame in frames_of(found).items():
    groups[frame[0]].add(name)
  return list(groups.values())


def _state_groups(found):
  groups = []
  users = None
  for name, op in found.items():
    if op.type not in _PER_RUN_STATE:
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
