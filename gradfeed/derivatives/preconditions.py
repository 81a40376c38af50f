"""What is refused before an op is built: checks of one `vjps.VJP`.

What is wrong is found as `findings.Finding`s, which `explain` shows; a verb
raises the first as the error of its kind.
"""

import itertools

from gradfeed import _tf
from gradfeed.analysis import disconnection
from gradfeed.analysis import gradient_defects
from gradfeed.analysis import gradient_flow
from gradfeed import errors
from gradfeed import findings
from gradfeed.graph import tensors
from gradfeed.rewriting import custom_gradient_ops

#: The error for each kind of finding.
_ERRORS = {
    "disconnected": errors.DisconnectedError,
    "missing_gradient": errors.MissingGradientError,
    "no_second_derivative": errors.MissingGradientError,
    "second_order_loop": errors.UnsupportedGraphError,
    "stops_too_much": errors.UnsupportedGraphError,
    "unknown_gradient": errors.UnsupportedGraphError,
    "wrong_gradient": errors.UnsupportedGraphError,
}


def check(product, trace, strict):
  """Refuses what has no gradient, or one that would be wrong.

  Args:
    product: `vjps.VJP`.
    trace: its `gradient_flow.GradientTrace`.
    strict: bool; whether an x that no y depends on is refused.

  Raises:
    DisconnectedError, MissingGradientError, UnsupportedGraphError.
  """
  _raise(list(find_problems(product, flow_of(product, trace), strict)))


def flow_of(product, trace):
  """The `GradientFlow` of a product whose `GradientTrace` is `trace`."""
  return gradient_flow.GradientFlow(trace, [y.tensor for y in product.ys])


def find_problems(product, flow, strict=True):
  """What is wrong with a derivative, the reason not to build it first.

  Args:
    product: `vjps.VJP`.
    flow: its `gradient_flow.GradientFlow`.
    strict: as in `check`.

  Yields:
    `findings.Finding`, all of them bad.
  """
  trace = flow.trace
  numbers = [y for y in product.ys if not _tf.is_number(y.dtype)]
  lost = [x for x in product.xs if x.name not in flow.tensors]
  no_ys = numbers and (strict or len(numbers) < len(product.ys))
  if trace.second_order and not no_ys:
    yield _bad(
        "second_order_loop", trace.second_order[0],
        product.purpose("No second-order gradient") + ".",
        "TensorFlow has none for a while loop of control flow v1: what its "
        "gradient remembers of each turn ('{}') passes no gradient on, and a "
        "part of the result would be lost without a word.".format(
            trace.second_order[0].name),
        "Build the loop with control flow v2 (tf.enable_control_flow_v2() "
        "before it is built), or unroll it.")
  for x in product.xs if no_ys else lost if strict else ():
    yield disconnection.disconnected_error(product.ys, x, flow)
  yield from _stops(product, trace)
  for op, error in custom_gradient_ops.refusals(trace.path.values()):
    yield _bad("unknown_gradient", op, error.what, error.why, error.fix)
  for outer, inner in flow.traces:
    for op in inner.missing:
      yield _bad(
          "missing_gradient", op, product.purpose("No gradient") + ".",
          "TensorFlow has no gradient for {} '{}'{}, which lies between "
          "them.".format(op.type, op.name, _inside(outer)),
          "Hold its output constant (stop_gradients=[{}]) or register a "
          "gradient with tf.RegisterGradient.".format(", ".join(
              repr(t.name) for t in (outer or op).outputs)))
  for outer, inner in flow.traces:
    for op, why, fix in gradient_defects.wrong_gradients(inner):
      yield _bad(
          "wrong_gradient", op, product.purpose("No right gradient") + ".",
          "TensorFlow {} has a wrong one for {} '{}'{}: {}".format(
              _tf.VERSION, op.type, op.name, _inside(outer), why), fix)


def _bad(kind, op, what, why, fix):
  return findings.Finding(kind, findings.BAD, what, why, fix, [op.name],
                          op=op.name, type=op.type)


def _inside(outer):
  return "" if outer is None else " in {} '{}'".format(outer.type, outer.name)


def _stops(product, trace):
  """TensorFlow stops at whole ops; another output must not be lost."""
  stops = {stop.name for stop in product.stops}
  for stop in product.stops:
    for other in stop.op.outputs:
      if other.name in trace.tensors and other.name not in stops:
        yield _bad(
            "stops_too_much", stop.op,
            "{} cannot be held constant alone.".format(
                tensors.describe(stop)),
            "tf.gradients stops at the whole op {}, and {} would be held "
            "constant as well.".format(
                tensors.describe(stop.op), tensors.describe(other)),
            "Use tf.stop_gradient({}) where the model reads it.".format(
                stop.name))


def check_second(product, trace):
  """Refuses what has a first derivative and no second one."""
  _raise(list(itertools.islice(
      second_derivative_problems(product, flow_of(product, trace)), 1)))
  return True


def second_derivative_problems(product, flow):
  """What has a first derivative between the xs and the ys and no second one.

  Yields:
    `findings.Finding`; a note, for who wants the first derivative alone.
  """
  for op, why, fix in gradient_defects.ops_without_second_derivative(flow):
    yield findings.Finding(
        "no_second_derivative", findings.NOTE,
        product.purpose("No second derivative") + ".",
        "TensorFlow has a first but no second derivative for {} '{}': "
        "{}".format(op.type, op.name, why), fix, [op.name],
        op=op.name, type=op.type)


def wrong_at_values(flow):
  """What is differentiated wrongly at some values of x.

  Yields:
    `findings.Finding`; a note where the first derivative is right.
  """
  for outer, trace in flow.traces:
    for op, order, why, fix in gradient_defects.wrong_at_values(trace):
      yield findings.Finding(
          "wrong_at_values",
          findings.WARNING if order == 1 else findings.NOTE,
          "{} '{}'{} has a {} derivative that is wrong at some values.".format(
              op.type, op.name, _inside(outer),
              "first" if order == 1 else "second"),
          "In TensorFlow {} {}".format(_tf.VERSION, why), fix, [op.name],
          op=op.name, type=op.type, order=order)


def refuse(product, lost, trace):
  """Raises the error for the xs in `lost`, of which no y has a gradient."""
  flow = flow_of(product, trace)
  _raise([disconnection.disconnected_error(product.ys, x, flow) for x in lost])


def _raise(problems):
  """Raises the error that the first of `problems` is, if there is one."""
  if problems:
    kind = problems[0].kind
    alike = [problem for problem in problems if problem.kind == kind] if (
        kind == "disconnected") else problems[:1]
    raise _ERRORS[kind](*[" ".join(dict.fromkeys(
        getattr(problem, part) for problem in alike))
                          for part in ("what", "why", "fix")])
