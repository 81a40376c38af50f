"""Finds constructions whose derivative is right but often not what is meant."""

from gradfeed.analysis import gradient_flow
from gradfeed.analysis import row_dependence
from gradfeed import errors
from gradfeed.explaining import reductions
from gradfeed import findings
from gradfeed.graph import effects
from gradfeed.graph import lookup
from gradfeed.graph import provenance
from gradfeed.graph import tensors
from gradfeed.graph import traversal

#: Ops between a softmax and its logarithm that hardly change the values.
_PASSED_TO_LOG = frozenset([
    "Add", "AddV2", "ClipByValue", "GatherNd", "GatherV2", "Identity",
    "Maximum", "Minimum", "Reshape", "StridedSlice", "Sub"])

_SATURATING = {"Sigmoid": "tf.nn.sigmoid_cross_entropy_with_logits or "
                          "tf.log_sigmoid",
               "Softmax": "tf.nn.log_softmax or "
                          "tf.nn.softmax_cross_entropy_with_logits"}
_DIFFERENCES = frozenset(["Sub", "SquaredDifference"])


def find_pitfalls(flow, ys, xs):
  """Finds them between `xs` and `ys`.

  Args:
    flow: `gradient_flow.GradientFlow`.
    ys: list of `tensors.Dense`.
    xs: list of `tensors.Dense`.

  Yields:
    `findings.Finding`.
  """
  for outer, trace in flow.traces:
    for op in trace.path.values():
      for find in (_find_saturated_log, _find_broadcast):
        finding = find(op, trace, outer)
        if finding is not None:
          yield finding
  ops = traversal.ancestors([y.tensor for y in ys])
  for component in ys + xs:
    yield from _find_copies(component, ops)
  for y in ys:
    for x in xs:
      yield from _find_coupled_rows(y, x, flow.trace)


def _find_saturated_log(op, trace, outer):
  """A finding if `op` is the logarithm of a softmax or a sigmoid, else None."""
  if op.type not in ("Log", "Log1p"):
    return None
  before = op
  while True:
    inputs = [t for t in before.inputs if trace.is_on_path(t)]
    if not inputs:
      return None
    before = inputs[0].op
    if before.type in _SATURATING:
      break
    if before.type not in _PASSED_TO_LOG:
      return None
  return _finding(
      "saturation", op, outer,
      "{} '{}'{} takes the logarithm of {} '{}'.".format(
          op.type, op.name, _where(op, outer), before.type, before.name),
      "Far from the decision the one is 0 to the last bit, and the gradient is "
      "0 or NaN instead of what it should be.",
      "Use {} on {}.".format(_SATURATING[before.type],
                             tensors.describe(before.inputs[0])),
      [op.name, before.name])


def _find_broadcast(op, trace, outer):
  """A finding if `op` subtracts a row and a column, else None."""
  if op.type not in _DIFFERENCES:
    return None
  shapes = [t.shape.as_list() if t.shape.ndims else [] for t in op.inputs]
  if sorted(map(len, shapes)) != [1, 2]:
    return None
  first, second = op.inputs
  if trace.depends(first) == trace.depends(second):
    return None
  column, row = sorted(shapes, key=len, reverse=True)
  if column[1] != 1 or row[0] == 1 or column[0] != row[0]:
    return None
  return _finding(
      "broadcast", op, outer,
      "{} '{}'{} makes {} of {} and {}.".format(
          op.type, op.name, _where(op, outer),
          tensors.describe(op.outputs[0]), tensors.describe(first),
          tensors.describe(second)),
      "Every element of the one meets every element of the other, and not its "
      "own: another loss, with another gradient.",
      "Give both one shape (tf.squeeze(..., 1), or tf.expand_dims(..., 1)).",
      [op.name, first.name, second.name])


def _finding(kind, op, outer, what, why, fix, names):
  """A warning about `op`, in the body of `outer` if that is not None."""
  return findings.Finding(
      kind, findings.WARNING, what, why, fix, names, op=op.name, type=op.type,
      line=provenance.made_at(op),
      inside="" if outer is None else outer.name)


def _where(op, outer):
  """Where `op` was made, in words: the line, and the op whose body it is in."""
  line = provenance.in_line(op)
  return line if outer is None else "{} in {} '{}'".format(
      line, outer.type, outer.name)


def _find_copies(component, ops):
  """Yields a finding if code that ran again made a second `component`."""
  copies = [
      other for other in lookup.younger_copies(component.tensor)
      if _is_copy(component.tensor, other, ops)
  ]
  if copies:
    yield findings.Finding(
        "copied", findings.WARNING,
        "{} is the oldest of several: there is {} too.".format(
            tensors.describe(component), tensors.describe_all(copies)),
        "It is made in the same way of other placeholders, as by a notebook "
        "cell that was run twice.",
        "Start with a new graph, or pass the one that is meant as a tensor.",
        [component.name] + [other.name for other in copies])


def _is_copy(tensor, other, ops):
  """Whether `other` is computed as `tensor` is, but from other placeholders.

  Args:
    tensor: `tf.Tensor`.
    other: `tf.Tensor`.
    ops: dict from name to op, of all that y depends on.

  Returns:
    bool.
  """
  if (tensor.dtype, tensors.format_shape(tensor.shape)) != (
      other.dtype, tensors.format_shape(other.shape)) or (
          tensor.op.name in ops and other.op.name in ops and
          tensor.op.type.startswith("Placeholder")):
    return False
  above, above_other = [traversal.ancestors([t.op]) for t in (tensor, other)]
  fed, fed_to_other = [{t.name for t in effects.placeholders(ops_above)}
                       for ops_above in (above, above_other)]
  return bool(fed) and not fed & fed_to_other and (
      _types(above) == _types(above_other))


def _types(operations):
  """The sorted types of a dict of ops."""
  return sorted(op.type for op in operations.values())


def _find_coupled_rows(y, x, trace):
  """Yields a finding for each batch between x and y with coupled rows."""
  batch_axes = reductions.BatchAxes()
  batches = [y.tensor] if y.shape.ndims else [
      reduction.tensor for reduction in reductions.find_reductions(y, trace)]
  for batch in batches:
    if not batch_axes.is_batch(batch, x, trace):
      continue
    path_ops = gradient_flow.GradientTrace(
        [batch], [x.tensor], folded=trace.folded).path
    verdict, op = row_dependence.coupling(
        [batch], x.tensor, path_ops, trace.folded)
    if verdict == "coupled":
      error = errors.coupled_rows(*map(tensors.describe, (batch, x, op)))
      yield findings.Finding(
          "coupled", findings.WARNING, error.what, error.why, error.fix,
          [op.name, batch.name], op=op.name, type=op.type,
          line=provenance.made_at(op))
