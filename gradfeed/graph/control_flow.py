"""Frames of loops and branches of control flow v1, read from their ops."""

import collections

from gradfeed import _tf
from gradfeed import errors
from gradfeed.graph import op_types
from gradfeed.graph import tensors
from gradfeed.graph import traversal


def has_joins(ops):
  """Whether an op of `ops` ends a branch or a loop of control flow v1.

  Args:
    ops: dict from name to op, as `traversal.ancestors` gives it.
  """
  return any(kind in op_types.JOINS for kind in traversal.by_type(ops))


def pivot_of(tensor, look_above):
  """The op that runs only when the branch of `tensor` does; None outside.

  In a branch of control flow v1 that is not taken nothing runs, and the
  `Merge` at its end takes the other branch's value. A placeholder always has a
  value, so what reads it in the place of `tensor` has to wait for the branch.

  Args:
    tensor: `tf.Tensor`.
    look_above: whether to look for ops of control flow without a context above
      it, as a frozen graph has them.

  Raises:
    UnsupportedGraphError: the tensor has a value at each turn of a while loop,
      or lies in a branch whose ops have no context.
  """
  op = tensor.op
  context = _tf.control_flow_context(op)
  if _tf.is_inside_while(op):
    raise _inside_error("a while loop", tensor, "it has a value at each turn")
  if context is not None and getattr(context, "pivot", None) is not None:
    return context.pivot.op
  if look_above:
    _check_outside(tensor)
  return None


def _check_outside(tensor):
  """Refuses a tensor below the beginning of a loop or branch and not its end.

  Only branches without a context are found: `pivot_of` knows the others.
  """
  seen, queue = {tensor.op.name}, [tensor.op]
  while queue:
    op = queue.pop()
    if op.type in op_types.ENTERS:
      raise _inside_error("a while loop", tensor, "it has a value at each turn")
    if op.type in op_types.SWITCHES and _tf.control_flow_context(op) is None:
      raise _inside_error("a branch", tensor,
                          "the graph does not say which, as it was frozen")
    if op.type not in op_types.JOINS:
      for before in traversal.predecessors(op):
        if before.name not in seen:
          seen.add(before.name)
          queue.append(before)


def _inside_error(what, tensor, why):
  return errors.UnsupportedGraphError(
      "{} cannot take another value: it is inside {}.".format(
          tensors.describe(tensor), what),
      "One value cannot stand for it: {}.".format(why),
      "Take a tensor before or after it (the output of tf.while_loop or "
      "tf.cond), or what enters it.")


def frames_of(ops):
  """The names of the while loops around each op of `ops`, outermost first.

  Control flow v1 writes a loop as `Enter` ... `Exit` with a frame name; an op
  is in the innermost frame of the ops that it reads or waits for.

  Args:
    ops: dict from name to op, as `traversal.ancestors` gives it.

  Returns:
    dict from op name to tuple of frame names; ops outside any loop are absent.
  """
  frames = {}
  queue = collections.deque(
      op for op in ops.values() if op.type in op_types.ENTERS)
  if not queue:
    return frames
  successors = collections.defaultdict(list)
  for op in ops.values():
    for before in traversal.predecessors(op):
      successors[before.name].append(op)
  while queue:
    op = queue.popleft()
    frame = max((_frame_after(before, frames)
                 for before in traversal.predecessors(op)),
                key=len, default=())
    if op.type in op_types.ENTERS:
      frame += (op.get_attr("frame_name").decode(),)
    if len(frame) > len(frames.get(op.name, ())):
      frames[op.name] = frame
      queue.extend(successors[op.name])
  return frames


def _frame_after(op, frames):
  """The frame that the outputs of `op` are in: an `Exit` leaves its own."""
  frame = frames.get(op.name, ())
  return frame[:-1] if op.type in op_types.EXITS else frame


def ops_without_a_value(ops):
  """The ops of `ops` whose results a run cannot be asked for.

  In a branch of control flow v1 that is not taken nothing has a value, and
  inside of a while loop there is one at each turn.

  Args:
    ops: dict from name to op, as `traversal.ancestors` gives it.

  Returns:
    set of op names.
  """
  frames, inside = frames_of(ops), set()
  for name, op in ops.items():
    if name in frames:
      if op.type not in op_types.EXITS:
        inside.add(name)
    elif op.type in op_types.SWITCHES or (
        op.type not in op_types.JOINS and any(
            before.name in inside for before in traversal.predecessors(op))):
      inside.add(name)
  return inside


def is_control_flow_v1(op):
  """Whether `op` is control flow of v1, or works on one of its arrays."""
  return op.type in op_types.CONTROL_FLOW_V1 or op.type.startswith(
      op_types.TENSOR_ARRAY)


def has_loops_without_context(trace):
  """Whether a while loop without a context is on the path of a gradient.

  A graph that was read from a GraphDef, such as a frozen one, has the ops of
  its loops and not the contexts that TensorFlow differentiates them by.

  Args:
    trace: `gradient_flow.GradientTrace`.
  """
  return any(op.type in op_types.ENTERS and
             _tf.control_flow_context(op) is None
             for op in trace.path.values())


def depths(ops):
  """How many branches of control flow v1 the outputs of each op are in.

  Args:
    ops: dict from name to op, as `traversal.ancestors` gives it.

  Returns:
    dict from op name to int.
  """
  frames = frames_of(ops)
  depth_of = {}
  for name, op in ops.items():
    before = max([depth_of.get(before.name, 0)
                  for before in traversal.predecessors(op)] or [0])
    depth_of[name] = max(before + _depth_change(op, frames), 0)
  return depth_of


def _depth_change(op, frames):
  """How many branches an op begins (1) or ends (-1); 0 for most ops."""
  if op.name in frames:  # The switches of loops are no branches.
    return 0
  if op.type in op_types.SWITCHES:
    return 1
  return -1 if op.type in op_types.MERGES else 0
