"""What stops a gradient between x and y, and what is lost with it."""

from gradfeed import _tf
from gradfeed.analysis import gradient_flow
from gradfeed import findings
from gradfeed.graph import op_types
from gradfeed.graph import provenance
from gradfeed.graph import traversal

#: Why a gradient ends at an op: the model stops it there; a function of
#: TensorFlow stops it there, and nothing is lost; the derivative is zero almost
#: everywhere; or it is not zero, and has no gradient.
STOP, RIGHT, FLAT, HIDDEN = "stop", "right", "flat", "hidden"

#: Ops whose result decides between values.
_CHOICES = frozenset([
    "Equal", "Greater", "GreaterEqual", "IsFinite", "IsInf", "IsNan", "Less",
    "LessEqual", "LogicalAnd", "LogicalNot", "LogicalOr", "NotEqual", "Where"])

#: How the name of an op begins that holds the labels of a loss constant.
_LABELS = "labels_stop_gradient"


class Blocker:
  """An op that a gradient arrives at and does not pass.

  Attributes:
    op: `tf.Operation` where the gradient ends.
    culprit: `tf.Operation` that is to blame: `op`, or, where that reads whole
      numbers, the one that made these of floating ones.
    reason: STOP, RIGHT, FLAT or HIDDEN.
    outer: the op of the graph whose function they are in, or None.
    dead: list of the inputs of `op` where the gradient ends, if others of its
      inputs have gradients.
    left_out: list of the inputs of `culprit` that depend on x, and of which it
      is a smooth function: what x does through them is missing in a gradient.
  """

  def __init__(self, op, culprit, reason, outer=None, dead=(), left_out=()):
    self.op = op
    self.culprit = culprit
    self.reason = reason
    self.outer = outer
    self.dead = list(dead)
    self.left_out = list(left_out)

  def describe(self):
    """str: type, name and line of the culprit, and the op it is inside of."""
    return describe_op(self.culprit) + (
        " in {} '{}'".format(self.outer.type, self.outer.name)
        if self.outer is not None else "")

  @property
  def is_choice(self):
    """Whether x only decides between values there."""
    return self.reason == FLAT and self.culprit.type in _CHOICES

  @property
  def is_loop(self):
    """Whether a loop was built to pass no gradient there."""
    return ends_loop(self.culprit)

  def finding(self):
    """The `Finding` for a gradient that goes on elsewhere."""
    what, why, fix = _SENTENCES[
        "choice" if self.is_choice else
        "loop" if self.is_loop else self.reason]
    if self.dead and self.culprit is self.op:
      what = "{{}} passes no gradient to {}.".format(
          ", ".join("'{}'".format(t.name) for t in self.dead))
    after = self.op.outputs[0].name if self.op.outputs else ""
    light = self.is_choice or self.reason == RIGHT
    return findings.Finding(
        "choice" if self.is_choice else "blocked",
        findings.NOTE if light else findings.WARNING,
        what.format(self.describe()), why, fix.format(after),
        list(dict.fromkeys([self.culprit.name, self.op.name])),
        op=self.culprit.name, type=self.culprit.type, reason=self.reason,
        reads=_dtypes(self.culprit.inputs), gives=_dtypes(self.culprit.outputs),
        line=provenance.made_at(self.culprit) or (
            "" if self.outer is None else provenance.made_at(self.outer)),
        nearest=after,
        inside=self.outer.name if self.outer is not None else "")


#: dict from a reason, or "choice", to (what, why, fix) of the finding.
_SENTENCES = {
    STOP: (
        "{} holds constant a part of y that depends on x.",
        "The gradient leaves that part out, as it was told to.",
        "If that part is meant, take out the tf.stop_gradient."),
    RIGHT: (
        "{} is TensorFlow's own: nothing is lost by it.", "", ""),
    FLAT: (
        "{} has a derivative of zero almost everywhere.",
        "What x does through it is no part of the gradient.",
        "Differentiate by '{}' after it; or let gradients pass with a "
        "tf.custom_gradient."),
    HIDDEN: (
        "{} lets no gradient pass.",
        "What x does through it is left out: the rest looks like a gradient "
        "and is none.",
        "Give it one (tf.custom_gradient), or differentiate by '{}' after it."),
    "choice": (
        "{} only decides between values, and the gradient is that of the value "
        "it decides for.", "", ""),
    "loop": (
        "{} lets no gradient pass.",
        "What x does through the loop is left out: the rest looks like a "
        "gradient and is none.",
        "Build the loop without back_prop=False, or differentiate by '{}' "
        "after it."),
}


def describe_op(op):
  """str: the type, name and line of `op`, and the dtypes of a cast."""
  changed = " ({} to {})".format(
      "/".join(_dtypes(op.inputs)),
      "/".join(_dtypes(op.outputs))) if op.type == "Cast" else ""
  if ends_loop(op):
    changed = " of a loop with back_prop=False"
  return "{} '{}'{}{}".format(
      op.type, op.name, changed, provenance.in_line(op))


def ends_loop(op):
  """Whether `op`, which passes no gradient, ends a loop with back_prop=False.

  Control flow v1 keeps that with the loop, and a gradient passes every other
  Exit; control flow v2 stops the gradient at the results of the loop.
  """
  if op.type in op_types.EXITS:
    return True
  source = op
  while source.type in ("StopGradient", "Identity"):
    source = source.inputs[0].op
  return op.type == "StopGradient" and (
      source.type in op_types.FUNCTIONAL_LOOPS and
      provenance.is_made_by(op, "while_v2.py"))


def _dtypes(values):
  return sorted({t.dtype.base_dtype.name for t in values})


def find_blockers(trace, outer=None):
  """Finds the `Blocker`s between the xs and the ys of a `GradientTrace`.

  Args:
    trace: `gradient_flow.GradientTrace`.
    outer: the op of the graph whose function was traced, or None.

  Returns:
    list, those nearest to y first, one for each culprit.
  """
  blocking, means = {}, held_means(trace)
  for op, inputs in _ends(trace):
    culprit = _culprit(op, inputs, trace)
    blocking.setdefault(culprit.name, Blocker(
        op, culprit,
        _reason(culprit, inputs if culprit is op else None, means), outer,
        inputs if op.name in trace.path and (
            op.type not in gradient_flow.ZERO) else (),
        [t for t in gradient_flow.smooth_inputs(culprit) if trace.carries(t)]))
  return list(blocking.values())


def find_choices(trace, outer=None):
  """Finds the ops on the path of a gradient that also read a choice by x.

  The condition of a tf.where, the indices of a tf.gather, the predicate of a
  branch: integers and booleans that are computed from x.

  Args:
    trace: `gradient_flow.GradientTrace`.
    outer: the op of the graph whose function was traced, or None.

  Returns:
    list of `Blocker` with the reason FLAT, one for each culprit.
  """
  deciding = {}
  for op in trace.path.values():
    inputs = [t for t in op.inputs if not _tf.is_trainable_dtype(t.dtype)
              and trace.carries(t)]
    if inputs:
      culprit = _culprit(inputs[0].op, inputs[0].op.inputs, trace)
      deciding.setdefault(culprit.name, Blocker(op, culprit, FLAT, outer))
  return list(deciding.values())


def _ends(trace):
  """Yields (op, list of its inputs that depend on x and get no gradient)."""
  for op in trace.reached.values():
    if op.type in op_types.VALUE_INDEPENDENT:
      continue  # Nothing is lost: the value of x does not matter there.
    if op.name in trace.blocked or op.type in gradient_flow.ZERO:
      inputs = list(op.inputs)
    else:
      inputs = gradient_flow.unpassed(op)
    inputs = [t for t in inputs if trace.carries(t)]
    if inputs:
      yield op, inputs


def _culprit(op, inputs, trace):
  """The last op above `op` that reads floating values which depend on x.

  Args:
    op: `tf.Operation` where a gradient ends.
    inputs: list of its inputs that get no gradient.
    trace: `gradient_flow.GradientTrace`.

  Returns:
    `tf.Operation`: `op` itself if one of `inputs` is floating.
  """
  seen = set()
  while op.name not in seen:
    seen.add(op.name)
    if any(_tf.is_trainable_dtype(t.dtype) for t in inputs):
      return op
    before = [t.op for t in inputs if trace.carries(t)]
    if not before or before[0].type == "Placeholder":
      return op
    op, inputs = before[0], list(before[0].inputs)
  return op


def _reason(op, inputs, means):
  """STOP, RIGHT, FLAT or HIDDEN for the op that is to blame.

  Args:
    op: `tf.Operation`.
    inputs: list of those of its inputs that get no gradient; None for all.
    means: set of op names, as `held_means` gives it.
  """
  if ends_loop(op):
    return HIDDEN
  if op.type == "StopGradient":
    return RIGHT if _is_right(op, means) else STOP
  is_flat = op.type in _CHOICES | _STEPS or gradient_flow.is_flat(op, inputs)
  return FLAT if is_flat or not any(
      _tf.is_trainable_dtype(t.dtype) for t in op.inputs) else HIDDEN


#: Ops whose result is constant but for jumps, that of numbers too.
_STEPS = frozenset(["Cast", "InTopK", "InTopKV2", "TopKV2"])


def _is_right(op, means):
  """Whether nothing is lost by `op`, a StopGradient of TensorFlow's own."""
  source = op.inputs[0].op
  if op.name in means or op.name.split("/")[-1].startswith(_LABELS):
    return True
  # The maximum that tf.reduce_logsumexp takes out, and adds again.
  if source.type in ("Select", "SelectV2") and (
      source.inputs[0].op.type == "IsFinite"):
    return source.inputs[1].op.type == "Max"
  return False


def held_means(trace):
  """The ops that stop the gradient by the mean in `tf.nn.moments`.

  Args:
    trace: `gradient_flow.GradientTrace`.

  Returns:
    set of names.
  """
  return {name for name, op in trace.blocked.items()
          if op.type == "StopGradient" and _is_held_mean(op, trace)}


def _is_held_mean(op, trace):
  """Whether `op` is `m` in mean((a - m) ** 2) with m = stop_gradient(mean(a)).

  The derivative by it is the mean of a - m, which is zero.
  """
  mean, readers = op.inputs[0].op, _readers(op, trace)
  if mean.type != "Mean" or [reader.type for reader in readers] != [
      "SquaredDifference"]:
    return False
  variances = _readers(readers[0], trace)
  # The names tell it from a mean that the model itself holds constant.
  scope = op.name.rpartition("/")[0]
  return (mean.inputs[0].name in [t.name for t in readers[0].inputs] and
          mean.name == scope + "/mean" and mean.get_attr("keep_dims") and
          [variance.name for variance in variances] == [scope + "/variance"]
          and variances[0].type == "Mean" and _same_axes(mean, variances[0]))


def _readers(op, trace):
  """The ops of the model that read `op`, without those of its gradients."""
  return [reader for reader in traversal.consumers(op.outputs[0])
          if reader.name in trace.reached]


def _same_axes(*means):
  axes = [_tf.constant_value(mean.inputs[1]) for mean in means]
  if any(value is None for value in axes):
    return False
  first, second = [sorted(value.ravel().tolist()) for value in axes]
  return first == second
