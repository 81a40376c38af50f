"""Why no gradient arrives at x, and what to differentiate by instead."""

import collections
import re

from gradfeed import _tf
from gradfeed import paths
from gradfeed import tensors
from gradfeed.tensors import describe


def why_disconnected(ys, x, trace):
  """Why no gradient of `ys` arrives at `x`, and what to do instead.

  Args:
    ys: list of `tensors.Point`.
    x: `tensors.Point`.
    trace: `Trace` of `ys`.

  Returns:
    (why, fix), two sentences.
  """
  found = paths.ancestors([y.tensor for y in ys])
  users = paths.descendants(found, {x.name}, control=False)
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
              _tf.is_number(op.outputs[0].dtype)]
  if not floating:
    return "Pass a floating point y."
  return "Differentiate {}, the last floating tensor before it.".format(
      describe(floating[-1]))


def _advise_below(x, users, found, trace):
  """Advises the first floating tensor after `x` that a gradient reaches."""
  for name, op in found.items():
    if name in users:
      for tensor in op.outputs:
        if tensor.name in trace.tensors and _tf.is_number(tensor.dtype):
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
  return [t for t in read if _tf.is_number(t.dtype) or
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
