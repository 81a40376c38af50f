"""Why no gradient arrives at x, and what to differentiate by instead."""

import collections
import re

from gradfeed import _tf
from gradfeed.analysis import blockers
from gradfeed.analysis import repeated_calls
from gradfeed import findings
from gradfeed.graph import op_types
from gradfeed.graph import provenance
from gradfeed.graph import tensors
from gradfeed.graph.tensors import describe
from gradfeed.graph import traversal


def disconnected_error(ys, x, flow):
  """Why no gradient of `ys` arrives at `x`, and what to do instead.

  Args:
    ys: list of `tensors.Dense`.
    x: `tensors.Dense`.
    flow: `gradient_flow.GradientFlow` of `ys`.

  Returns:
    `findings.Finding` of kind "disconnected".
  """
  ops = traversal.ancestors([y.tensor for y in ys])
  dependent = traversal.descendants(ops, {x.name}, control=False)
  blocking = [] if not dependent else _blockers_among(flow, dependent)
  why, fix, nearest = _why(ys, x, flow, ops, dependent, blocking)
  return findings.Finding(
      "disconnected", findings.BAD, "No gradient of {} by {}.".format(
          tensors.describe_all(ys), describe(x)), why, fix,
      [x.name] + [blocker.culprit.name for blocker in blocking],
      x=x.name, y=[y.name for y in ys],
      nearest=None if nearest is None else nearest.name,
      blockers=[blocker.finding().to_dict() for blocker in blocking])


def _why(ys, x, flow, ops, dependent, blocking):
  """The parts of the message, and what to differentiate by or of instead.

  Args:
    ys: list of `tensors.Dense`.
    x: `tensors.Dense`.
    flow: `gradient_flow.GradientFlow` of `ys`.
    ops: dict from name to op, the ancestors of `ys`.
    dependent: set of the names of those that depend on `x`.
    blocking: list of `blockers.Blocker` between them.

  Returns:
    (str why, str fix, `tf.Tensor` or None).
  """
  for y in ys:
    if not _tf.is_trainable_dtype(y.dtype):
      return ("{} is {}, and only floating and complex tensors have "
              "gradients.".format(describe(y), y.dtype.name),
              ) + _advise_above(ops)
  if not dependent:
    return _why_no_path(ys, x, ops)
  assigning = [op for op in assignments(x, ops) if op.name in dependent]
  if not _tf.is_trainable_dtype(x.dtype):
    why = "{} is {}, not floating point.".format(describe(x), x.dtype.name)
  elif assigning and all(blocker.culprit in assigning for blocker in blocking):
    return _why_assigned(x, assigning[0])
  elif blocking:
    why = "No gradient passes {}, which {} between them.".format(
        ", ".join(blocker.describe() for blocker in blocking[:4]),
        "lie" if len(blocking) > 1 else "lies")
  elif not any(flow.trace.carries(y.tensor) for y in ys):
    why = "It depends on the shape of {} alone.".format(describe(x))
  else:
    why = "Every path between them goes through a tensor held constant."
  return (why,) + _advise_below(ys, x, dependent, ops, flow)


#: Ops that write a value to a variable, or to a part of it.
_WRITING = re.compile("Assign|^(Resource)?Scatter(?!NdNonAliasing|Nd$)")


def assignments(x, ops):
  """The ops that write what depends on `x` to a variable that a model reads.

  Args:
    x: `tensors.Dense`.
    ops: dict from name to op, the model.

  Returns:
    list of `tf.Operation`, some of which may not be in the model.
  """
  names = traversal.dependents([x.tensor], op_types.VALUE_INDEPENDENT)
  writing = [x.tensor.graph.get_operation_by_name(name)
             for name in sorted(names)]
  return [op for op in writing if _WRITING.search(op.type) and op.inputs and
          op.inputs[0].op.name in ops and op.inputs[0].op.name not in names]


def _why_assigned(x, op):
  """As `_why`, where x reaches y through a variable that `op` writes to."""
  value = op.inputs[-1]
  return ("The path between them leads through an assignment: {} '{}'{} writes "
          "to the variable '{}' what is computed from {}, and no gradient "
          "passes from what is written to what is read.".format(
              op.type, op.name, provenance.in_line(op), op.inputs[0].op.name,
              describe(x)),
          "Compute y from the value that is written itself, {}.".format(
              describe(value)), None)


def _blockers_among(flow, dependent):
  """The `Blocker`s among the ops `dependent`; else what x decides there."""
  for find in (blockers.find_blockers, blockers.find_choices):
    blocking = [blocker for op, trace in flow.traces
                for blocker in find(trace, op)
                if (op or blocker.op).name in dependent]
    if blocking:
      return blocking
  return []


def _advise_above(ops):
  """(str fix, the last floating tensor of `ops` or None), for an integer y."""
  floating = [op.outputs[0] for op in ops.values() if op.outputs and
              _tf.is_number(op.outputs[0].dtype)]
  if not floating:
    return "Pass a floating point y.", None
  return "Differentiate {}, the last floating tensor before it.".format(
      describe(floating[-1])), floating[-1]


def _advise_below(ys, x, dependent, ops, flow):
  """(str fix, the first floating tensor after `x` that a gradient reaches)."""
  ends = {y.op.name for y in ys}
  for name, op in ops.items():
    if name in dependent - ends:
      for tensor in op.outputs:
        if tensor.name in flow.tensors and _tf.is_number(tensor.dtype):
          return ("Differentiate by {}, the first floating tensor after it "
                  "that a gradient reaches.".format(describe(tensor)), tensor)
  return ("No tensor after {} has a gradient; for a number all the same, take "
          "differences of y itself.".format(describe(x)), None)


def _why_no_path(ys, x, ops):
  """As `_why`, where `ys` do not depend on `x`: finds what they read instead.
  """
  named = tensors.describe_all(ys)
  assigning = assignments(x, ops)
  if assigning:
    return _why_assigned(x, assigning[0])
  twin = repeated_calls.find_twin(x.tensor, ops)
  if twin is not None:
    return ("{} does not depend on {}, which is made of {} and computes once "
            "more what {} computes, as a second call of a layer does: the "
            "model reads that of its own call.".format(
                named, describe(x),
                tensors.describe_all(_upstream_read(x, ops)[:1]),
                describe(twin)),
            "Differentiate by {}, which the model reads.".format(
                describe(twin)), twin)
  above = _upstream_read(x, ops)
  sources = [t for t in above if _tf.is_number(t.dtype) or
             tensors.Dense(t).is_variable]
  if sources:
    return ("{} does not depend on {}, which is a copy or a part made of {} "
            "and is not what the model reads.".format(
                named, describe(x), tensors.describe_all(sources[:2])),
            "Differentiate by {}, which the model reads.".format(
                describe(sources[0])), sources[0])
  beside = _floating_after(above, ops)
  if beside is not None:
    return ("{} does not depend on {}; both are made of {}, and the model goes "
            "another way from there.".format(
                named, describe(x), describe(above[0])),
            "Differentiate by {}, which the model reads.".format(
                describe(beside)), beside)
  read = [t for op in ops.values() for t in _given_by(op)]
  if read:
    return ("{} does not depend on {}.".format(named, describe(x)),
            "It depends on {}{}: pass one of these as x.".format(
                tensors.describe_all(read[:6]),
                " and more" if len(read) > 6 else ""), None)
  return ("{} does not depend on {}, nor on any placeholder or "
          "variable.".format(named, describe(x)),
          "Pass a y that is computed from x.", None)


def _given_by(op):
  """The tensors of a placeholder, a variable, an iterator or a queue."""
  if op_types.WAITING.search(op.type):
    return [t for t in op.outputs if _tf.is_number(t.dtype)]
  is_source = not op.inputs and (op.type.startswith("Placeholder") or
                                 op.type in op_types.VARIABLES)
  return list(op.outputs[:1]) if is_source else []


def _floating_after(above, ops):
  """The first floating tensor of `ops` that is computed from `above[0]`."""
  if not above:
    return None
  after = traversal.descendants(ops, {above[0].name}, control=False)
  return next((tensor for name, op in ops.items() if name in after
               for tensor in op.outputs if _tf.is_number(tensor.dtype)), None)


def _upstream_read(x, ops):
  """The tensors above `x` that the graph of y reads, the nearest first."""
  seen, queue, read = set(), collections.deque([x.op]), []
  while queue:
    op = queue.popleft()
    for tensor in op.inputs:
      if tensor.op.name in seen:
        continue
      seen.add(tensor.op.name)
      if tensor.op.name in ops:
        read.append(tensor)
      else:
        queue.append(tensor.op)
  return read
