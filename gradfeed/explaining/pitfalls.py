"""Constructions that give a right derivative of what was not meant."""

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

#: What a value passes without being changed much on the way to a logarithm.
_NEARLY = frozenset(["Add", "AddV2", "ClipByValue", "GatherNd", "GatherV2",
                     "Identity", "Maximum", "Minimum", "Reshape",
                     "StridedSlice", "Sub"])

_SATURATING = {"Sigmoid": "tf.nn.sigmoid_cross_entropy_with_logits or "
                          "tf.log_sigmoid",
               "Softmax": "tf.nn.log_softmax or "
                          "tf.nn.softmax_cross_entropy_with_logits"}
_PAIRING = frozenset(["Sub", "SquaredDifference"])


def find_pitfalls(flow, ys, xs):
  """What looks as if something else was meant.

  Args:
    flow: `gradient_flow.GradientFlow`.
    ys: list of `tensors.Dense`.
    xs: list of `tensors.Dense`.

  Yields:
    `findings.Finding`.
  """
  for outer, trace in flow.traces:
    for op in trace.path.values():
      for judge in (_saturated, _paired):
        finding = judge(op, trace, outer)
        if finding is not None:
          yield finding
  above = traversal.ancestors([y.tensor for y in ys])
  for component in ys + xs:
    yield from _copied(component, above)
  for y in ys:
    for x in xs:
      yield from _coupled(y, x, flow.trace)


def _saturated(op, trace, outer):
  """The logarithm of a softmax or a sigmoid."""
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
    if before.type not in _NEARLY:
      return None
  return _finding(
      "saturation", op, outer,
      "{} '{}'{} takes the logarithm of {} '{}'.".format(
          op.type, op.name, _place(op, outer), before.type, before.name),
      "Far from the decision the one is 0 to the last bit, and the gradient is "
      "0 or NaN instead of what it should be.",
      "Use {} on {}.".format(_SATURATING[before.type],
                             tensors.describe(before.inputs[0])),
      [op.name, before.name])


def _paired(op, trace, outer):
  """A column and a row that make a matrix of differences."""
  if op.type not in _PAIRING:
    return None
  shapes = [t.shape.as_list() if t.shape.ndims else [] for t in op.inputs]
  if sorted(map(len, shapes)) != [1, 2]:
    return None
  one, other = [t for t in op.inputs]
  if trace.depends(one) == trace.depends(other):
    return None
  column, row = sorted(shapes, key=len, reverse=True)
  if column[1] != 1 or row[0] == 1 or column[0] != row[0]:
    return None
  return _finding(
      "broadcast", op, outer,
      "{} '{}'{} makes {} of {} and {}.".format(
          op.type, op.name, _place(op, outer),
          tensors.describe(op.outputs[0]), tensors.describe(one),
          tensors.describe(other)),
      "Every element of the one meets every element of the other, and not its "
      "own: another loss, with another gradient.",
      "Give both one shape (tf.squeeze(..., 1), or tf.expand_dims(..., 1)).",
      [op.name, one.name, other.name])


def _finding(kind, op, outer, what, why, fix, names):
  return findings.Finding(
      kind, findings.WARNING, what, why, fix, names, op=op.name, type=op.type,
      line=provenance.made_at(op),
      inside="" if outer is None else outer.name)


def _place(op, outer):
  line = provenance.in_line(op)
  return line if outer is None else "{} in {} '{}'".format(
      line, outer.type, outer.name)


def _copied(component, found_ops):
  """A tensor of which code that ran again made a second one."""
  copies = [
      other for other in lookup.younger_copies(component.tensor)
      if _is_copy(component.tensor, other, found_ops)
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


def _is_copy(tensor, other, found_ops):
  """Whether `other` is made as `tensor` is, and of other placeholders."""
  if (tensor.dtype, tensors.format_shape(tensor.shape)) != (
      other.dtype, tensors.format_shape(other.shape)) or (
          tensor.op.name in found_ops and other.op.name in found_ops and
          tensor.op.type.startswith("Placeholder")):
    return False
  one, other = traversal.ancestors([tensor.op]), traversal.ancestors([other.op])
  fed, others = [{t.name for t in effects.placeholders(above)}
                 for above in (one, other)]
  return bool(fed) and not fed & others and _types(one) == _types(other)


def _types(operations):
  return sorted(op.type for op in operations.values())


def _coupled(y, x, trace):
  """Rows of a batch that depend on each other."""
  sized = reductions.Sized()
  batches = [y.tensor] if y.shape.ndims else [
      reduction.tensor for reduction in reductions.find_reductions(y, trace)]
  for batch in batches:
    if not sized.is_batch(batch, x, trace):
      continue
    part = gradient_flow.GradientTrace([batch], [x.tensor]).path
    verdict, op = row_dependence.coupling([batch], x.tensor, part)
    if verdict == "coupled":
      error = errors.coupled_rows(*map(tensors.describe, (batch, x, op)))
      yield findings.Finding(
          "coupled", findings.WARNING, error.what, error.why, error.fix,
          [op.name, batch.name], op=op.name, type=op.type,
          line=provenance.made_at(op))
