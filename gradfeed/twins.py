"""A copy of what lies between x and y that has derivatives of any order.

Loops and branches of control flow v1 become `While` and `If`, which have a
second derivative and which TensorFlow can vectorise. `tf.nn.moments` holds the
mean constant within the variance, which the first derivative does not feel and
the second does: there the mean is let go. The value of the copy is that of the
original; random ops in it draw numbers of their own.
"""

from gradfeed import _tf
from gradfeed import blockers
from gradfeed import errors
from gradfeed import memos
from gradfeed import parts
from gradfeed import paths
from gradfeed import tensors
from gradfeed import vectorising

_PRIMITIVES = frozenset([
    "Enter", "Exit", "LoopCond", "Merge", "NextIteration", "RefEnter",
    "RefExit", "RefMerge", "RefNextIteration", "RefSwitch", "Switch"])
_ARRAYS = "TensorArray"


def is_primitive(op):
  """Whether `op` is control flow of v1, or works on one of its arrays."""
  return op.type in _PRIMITIVES or op.type.startswith(_ARRAYS)


def has_bare_loops(trace):
  """Whether a while loop of v1 is on the path of which only ops are left.

  A graph that was read from a GraphDef, such as a frozen one, has the ops of
  its loops and not what TensorFlow has to know about them in Python.
  """
  return any(op.type in parts.ENTERS and
             _tf.control_flow_context(op) is None
             for op in trace.path.values())


def functional(graph, ys, trace, free_means=False):
  """Copies a path without control flow of v1, once.

  Args:
    graph: `tf.Graph`, not finalized.
    ys: list of `tf.Tensor`.
    trace: `paths.Trace` of them.
    free_means: bool; whether `blockers.held_means` are let go.

  Returns:
    dict from the names of the tensors that were copied to their copies; empty
    if there is nothing to copy.

  Raises:
    UnsupportedGraphError: an op has no functional form.
  """
  freed = blockers.held_means(trace) if free_means else set()
  start = freed | {
      name for name, op in trace.path.items() if is_primitive(op)}
  if not start:
    return {}
  found = paths.ancestors(ys)
  part = _closed(found, start & set(found))

  def build():
    with _tf.without_runs(graph), _tf.building(graph):
      return _build(graph, {y.name for y in ys}, found, part, trace, freed)

  key = ("functional", tuple(y.name for y in ys), tuple(sorted(start)))
  return memos.once(graph, key, build)


def _build(graph, ys, found, part, trace, freed):
  scratch = vectorising.Scratch(graph)
  with scratch.building():
    new = scratch.functional(part, found, freed)
  names = sorted(set(new) & trace.tensors)
  for name in sorted(trace.tensors):
    if name in ys and name.split(":")[0] in part and name not in new:
      raise errors.UnsupportedGraphError(
          "{} cannot be differentiated any further.".format(
              tensors.describe(graph.get_tensor_by_name(name))),
          "It is inside a loop or a branch of control flow v1.",
          "Take the output of the tf.while_loop or the tf.cond.")
  twins = dict(zip(names, scratch.export(
      [new[name] for name in names], "functional")))
  known = memos.memo_of(graph).twins
  for name, twin in twins.items():
    twin.set_shape(graph.get_tensor_by_name(name).shape)
    known[name].append(twin.name)
  return twins


def _closed(found, start):
  """What has to be copied with `start`: all that is in the same branches."""
  depths = _depths(found)
  while True:
    sources = {t.name for name in start for t in found[name].outputs}
    part = parts.together(found, start | paths.descendants(
        found, sources, control=False))
    beside = set()
    for name in part:
      for before in [t.op for t in found[name].inputs] + list(
          found[name].control_inputs):
        if before.name not in part and (
            depths.get(before.name) or is_primitive(before) or
            _names_a_predicate(before, found[name]) or
            _counts(before, found[name])):
          beside.add(before.name)
    if not beside:
      return part
    start = part | beside


def _names_a_predicate(op, reader):
  """Whether `op` only gives the predicate of a branch another name.

  The switches of one branch are told by what they have in common.
  """
  return op.type == "Identity" and (
      reader.type in ("Switch", "RefSwitch", "Identity"))


def _counts(op, reader):
  """Whether `op` may say which elements of a tensor array `reader` takes."""
  return op.type in ("Const", "Range") and (
      reader.type == "Range" or reader.type.startswith(_ARRAYS))


def _depths(found):
  """How many branches each op of `found` is in."""
  frames = parts.frames_of(found)
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
  if op.type in ("Switch", "RefSwitch"):
    return 1
  return -1 if op.type in ("Merge", "RefMerge") else 0
