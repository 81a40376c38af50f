"""Frames of loops and branches of control flow v1, read from their ops."""

import collections

from gradfeed import _tf
from gradfeed import errors
from gradfeed.graph import op_types
from gradfeed.graph import tensors


def has_joins(found):
  """Whether an op of `found` ends a branch or a loop of control flow v1."""
  return any(op.type in op_types.JOINS for op in found.values())


def pivot_of(tensor, look_above):
  """The op that runs only when the branch of `tensor` does; None outside.

  In a branch of control flow v1 that is not taken nothing runs, and the
  `Merge` at its end takes the other branch's value. A placeholder always has a
  value, so what reads it in the place of `tensor` has to wait for the branch.

  Args:
    tensor: `tf.Tensor`.
    look_above: whether to look for bare ops of control flow above it, as a
      frozen graph has them.

  Raises:
    UnsupportedGraphError: the tensor has a value at each turn of a while loop,
      or lies in a branch of which only the bare ops are left.
  """
  op = tensor.op
  context = _tf.control_flow_context(op)
  if _tf.is_inside_while(op):
    raise inside("a while loop", tensor, "it has a value at each turn")
  if context is not None and getattr(context, "pivot", None) is not None:
    return context.pivot.op
  seen, queue = {op.name}, [op] if look_above else []
  while queue:
    current = queue.pop()
    if current.type in op_types.ENTERS:
      raise inside("a while loop", tensor, "it has a value at each turn")
    if current.type in op_types.SWITCHES and (
        _tf.control_flow_context(current) is None):
      raise inside("a branch", tensor,
                   "the graph does not say which, as it was frozen")
    if current.type not in op_types.JOINS:
      for before in [t.op for t in current.inputs] + list(
          current.control_inputs):
        if before.name not in seen:
          seen.add(before.name)
          queue.append(before)
  return None


def inside(what, tensor, why):
  return errors.UnsupportedGraphError(
      "{} cannot take another value: it is inside {}.".format(
          tensors.describe(tensor), what),
      "One value cannot stand for it: {}.".format(why),
      "Take a tensor before or after it (the output of tf.while_loop or "
      "tf.cond), or what enters it.")


def frames_of(found):
  """The names of the while loops around each op of `found`, outermost first.

  Control flow v1 writes a loop as `Enter` ... `Exit` with a frame name; an op
  is in the frame of its inputs.

  Args:
    found: dict from name to op, as `traversal.ancestors` gives it.

  Returns:
    dict from op name to tuple of frame names; ops outside any loop are absent.
  """
  frames = {}
  if not any(op.type in op_types.ENTERS for op in found.values()):
    return frames
  users = collections.defaultdict(list)
  for op in found.values():
    for tensor in op.inputs:
      users[tensor.op.name].append(op)
    for before in op.control_inputs:
      users[before.name].append(op)
  queue = collections.deque(
      op for op in found.values() if op.type in op_types.ENTERS)
  while queue:
    op = queue.popleft()
    outer = max((_frame_after(before, frames) for before in
                 [t.op for t in op.inputs] + list(op.control_inputs)),
                key=len, default=())
    frame = outer
    if op.type in op_types.ENTERS:
      frame = outer + (op.get_attr("frame_name").decode(),)
    if len(frame) > len(frames.get(op.name, ())):
      frames[op.name] = frame
      queue.extend(users[op.name])
  return frames


def _frame_after(op, frames):
  frame = frames.get(op.name, ())
  return frame[:-1] if op.type in op_types.EXITS else frame


def ops_without_a_value(found):
  """The ops of `found` whose results a run cannot be asked for.

  In a branch of control flow v1 that is not taken nothing has a value, and
  inside of a while loop there is one at each turn.

  Args:
    found: dict from name to op, as `traversal.ancestors` gives it.

  Returns:
    set of op names.
  """
  frames, inside = frames_of(found), set()
  for name, op in found.items():
    if name in frames:
      if op.type not in op_types.EXITS:
        inside.add(name)
    elif op.type in op_types.SWITCHES or (
        op.type not in op_types.JOINS and any(
            before.name in inside for before in
            [t.op for t in op.inputs] + list(op.control_inputs))):
      inside.add(name)
  return inside


def is_control_flow_v1(op):
  """Whether `op` is control flow of v1, or works on one of its arrays."""
  return op.type in op_types.CONTROL_FLOW_V1 or op.type.startswith(
      op_types.TENSOR_ARRAY)


def has_loops_without_context(trace):
  """Whether a while loop of v1 is on the path of which only ops are left.

  A graph that was read from a GraphDef, such as a frozen one, has the ops of
  its loops and not what TensorFlow has to know about them in Python.
  """
  return any(op.type in op_types.ENTERS and
             _tf.control_flow_context(op) is None
             for op in trace.path.values())


def depths(found):
  """How many branches each op of `found` is in."""
  frames = frames_of(found)
  depths = {}
  for name, op in found.items():
    depth = max([depths.get(before.name, 0) + _step(before, frames)
                 for before in [t.op for t in op.inputs] +
                 list(op.control_inputs)] or [0])
    depths[name] = max(depth, 0)
  return depths


def _step(op, frames):
  if op.name in frames:  # The switches of loops are no branches.
    return 0
  if op.type in op_types.SWITCHES:
    return 1
  return -1 if op.type in op_types.MERGES else 0
