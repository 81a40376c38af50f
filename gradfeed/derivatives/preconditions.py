"""Refuses what cannot be differentiated, before an op is built.

Problems of a `vjps.VJP` are found as `findings.Finding`s, which `explain`
shows; the functions that differentiate raise the first as the error of its
kind.
"""

import itertools
import warnings

from gradfeed import _tf
from gradfeed.analysis import blockers
from gradfeed.analysis import disconnection
from gradfeed.analysis import gradient_defects
from gradfeed.analysis import gradient_flow
from gradfeed.analysis import python_functions
from gradfeed import errors
from gradfeed import findings
from gradfeed.graph import cache
from gradfeed.graph import lookup
from gradfeed.graph import provenance
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.rewriting import custom_gradient_ops

#: What is done about a derivative that would leave out a part: see
#: `check_complete`.
REFUSED, WARNED_OF, ALLOWED = "refused", "warned of", "allowed"

#: The error for each kind of finding.
_ERRORS = {
    "disconnected": errors.DisconnectedError,
    "held_in_gradient": errors.UnsupportedGraphError,
    "incomplete_gradient": errors.IncompleteGradientError,
    "missing_gradient": errors.MissingGradientError,
    "no_second_derivative": errors.MissingGradientError,
    "second_order_loop": errors.UnsupportedGraphError,
    "unknown_gradient": errors.UnsupportedGraphError,
    "wrong_gradient": errors.UnsupportedGraphError,
}


def check(vjp, trace, strict):
  """Refuses what has no gradient, or one that would be wrong or incomplete.

  Args:
    vjp: `vjps.VJP`.
    trace: its `gradient_flow.GradientTrace`.
    strict: bool; whether an x that no y depends on is refused.

  Raises:
    DisconnectedError, MissingGradientError, UnsupportedGraphError,
    IncompleteGradientError.
  """
  flow = flow_of(vjp, trace)
  _raise(list(find_problems(vjp, flow, strict)))
  check_complete(vjp, flow)


def check_built_again(vjp):
  """Refuses an x, or a stop, that a derivative above the ys ignores.

  A y that is equal to an earlier one has the derivative of that one, which is
  computed from the tensors of the earlier one.
  """
  ignored = [(component, result, earlier) for component in vjp.xs + vjp.stops
             for result, earlier in cache.ignored_by(vjp.graph, component.name)]
  above = traversal.ancestors([y.tensor for y in vjp.ys]) if ignored else {}
  for component, result, earlier in ignored:
    if result.split(":")[0] not in above:
      continue
    read, result = map(vjp.graph.get_tensor_by_name, (earlier, result))
    trace = gradient_flow.GradientTrace([result], [
        read] if component in vjp.xs else [x.tensor for x in vjp.xs])
    if earlier in trace.tensors and trace.depends(read):
      raise errors.UnsupportedGraphError(
          vjp.purpose("No gradient") + ".",
          "The derivative '{}' above y was built for a y that was computed in "
          "the same way from '{}', and does not read {}.".format(
              result.name, earlier, tensors.describe(component)),
          "Build the y of the first derivative once, outside of the loop; or "
          "make {!r} a tf.placeholder_with_default, which is another one each "
          "time.".format(component.name))


def flow_of(vjp, trace):
  """The `GradientFlow` of a product whose `GradientTrace` is `trace`."""
  return gradient_flow.GradientFlow(trace, [y.tensor for y in vjp.ys])


def find_problems(vjp, flow, strict=True):
  """Finds what is wrong with a derivative, most fundamental problem first.

  Args:
    product: `vjps.VJP`.
    flow: its `gradient_flow.GradientFlow`.
    strict: as in `check`.

  Yields:
    `findings.Finding`, all of them bad.
  """
  trace = flow.trace
  no_numbers = [y for y in vjp.ys if not _tf.is_number(y.dtype)]
  lost = [x for x in vjp.xs if x.name not in flow.tensors]
  no_ys = no_numbers and (strict or len(no_numbers) < len(vjp.ys))
  if trace.second_order and not no_ys:
    yield _bad(
        "second_order_loop", trace.second_order[0],
        vjp.purpose("No second-order gradient") + ".",
        "TensorFlow has none for a while loop of control flow v1: the loop of "
        "its gradient ('{}') passes no gradient on, and a part of the result "
        "would be lost without a word.".format(trace.second_order[0].name),
        "Build the loop with control flow v2 (tf.enable_control_flow_v2() "
        "before it is built), or unroll it.")
  yield from _left_out(vjp)
  for x in vjp.xs if no_ys else lost if strict else ():
    yield disconnection.disconnected_error(vjp.ys, x, flow)
  yield from _held_in_gradients(vjp, trace)
  for op, error in custom_gradient_ops.refusals(trace.path.values()):
    yield _bad("unknown_gradient", op, error.what, error.why, error.fix)
  yield from _missing_gradients(vjp, flow)
  yield from _python_functions(vjp, flow)
  yield from _wrong_gradients(vjp, flow)


def _missing_gradients(vjp, flow):
  """The ops on the path that have no gradient, as `findings.Finding`s."""
  for outer, inner in flow.traces:
    for op in inner.missing:
      why, fix = gradient_defects.missing_gradient(op, (outer or op).outputs)
      yield _bad(
          "missing_gradient", op, vjp.purpose("No gradient") + ".",
          "TensorFlow has no gradient for {} '{}'{}, which lies between "
          "them{}.".format(op.type, op.name, _inside(outer), why), fix)


def _wrong_gradients(vjp, flow):
  """The ops on the path with a wrong gradient, as `findings.Finding`s."""
  for outer, inner in flow.traces:
    for op, why, fix in gradient_defects.wrong_gradients(inner):
      yield _bad(
          "wrong_gradient", op, vjp.purpose("No right gradient") + ".",
          "TensorFlow {} has a wrong one for {} '{}'{}: {}".format(
              _tf.VERSION, op.type, op.name, _inside(outer), why), fix)


def find_incomplete(vjp, flow):
  """What TensorFlow would leave out of a derivative without a word.

  Args:
    vjp: `vjps.VJP`.
    flow: its `gradient_flow.GradientFlow`.

  Yields:
    `findings.Finding`, all of them bad.
  """
  for outer, trace in flow.traces:
    for blocker in blockers.find_blockers(trace, outer):
      if blocker.reason == blockers.HIDDEN and blocker.left_out:
        ends = (outer or blocker.culprit).outputs if (
            blocker.culprit.name in trace.blocked) else blocker.left_out
        yield _bad(
            "incomplete_gradient", blocker.culprit,
            vjp.purpose("No complete gradient") + ".",
            "{} passes no gradient to its input {}, of which it is a smooth "
            "function: what x does through it would be left out.".format(
                blocker.describe(), tensors.describe_all(blocker.left_out)),
            "Write it with ops that have a gradient (tf.custom_gradient); or, "
            "if that part is meant to be constant, pass stop_gradients=[{}]"
            ".".format(", ".join(repr(t.name) for t in ends)))


def check_complete(vjp, flow=None):
  """Refuses a derivative that would leave out a part, or warns of it.

  Args:
    vjp: `vjps.VJP`; its `incomplete` says what to do.
    flow: its `gradient_flow.GradientFlow`, if that is known.

  Raises:
    IncompleteGradientError.
  """
  graph_cache = cache.cache_of(vjp.home)
  key = ("complete", vjp.incomplete) + vjp.key()
  if vjp.incomplete == ALLOWED or key in graph_cache.built:
    return
  flow = flow or flow_of(vjp, vjp.trace())
  # A result of None, or of zeros that were asked for, leaves out no part.
  problems = list(find_incomplete(vjp, flow)) if any(
      x.name in flow.tensors for x in vjp.xs) else []
  if problems and vjp.incomplete == REFUSED:
    _raise(problems)
  graph_cache.built[key] = True
  if problems:
    warnings.warn(errors.GradfeedWarning("{} {} {}".format(
        problems[0].what, problems[0].why, problems[0].fix)),
                  stacklevel=lookup.stacklevel_of_caller())


def _python_functions(vjp, flow):
  """The calls of `tf.py_function` that TensorFlow differentiates wrongly.

  Yields:
    `findings.Finding`.
  """
  for op, outer, why, fix in python_functions.without_gradient(flow):
    yield _bad(
        "missing_gradient", op, vjp.purpose("No right gradient") + ".",
        "{} lies between them. {}".format(
            python_functions.describe(op, outer), why), fix)


def _left_out(vjp):
  """The calls of `tf.py_function` that a second derivative would leave out.

  Yields:
    `findings.Finding`.
  """
  for op in python_functions.left_out(
      *[[component.tensor for component in components]
        for components in (vjp.ys, vjp.xs, vjp.stops)]):
    yield _bad(
        "missing_gradient", op, vjp.purpose("No second derivative") + ".",
        "The gradient of {} lies between them. {}".format(
            python_functions.describe(op), python_functions.NO_SECOND[0]),
        python_functions.NO_SECOND[1])


def check_stacked(vjp):
  """Refuses what cannot be differentiated with many cotangents in one run.

  Args:
    vjp: `vjps.VJP`.

  Raises:
    MissingGradientError: a call of `tf.py_function` lies between xs and ys.
  """
  for op, outer in python_functions.calls(flow_of(vjp, vjp.trace())):
    raise errors.MissingGradientError(
        vjp.purpose("No rows of the Jacobian") + ".",
        "{} lies between them. TensorFlow's gradient of tf.py_function runs "
        "once for each run of the function, and each row needs one.".format(
            python_functions.describe(op, outer)),
        "Use `vjp` or `gradient` with one cotangent after the other, or `jvp`; "
        "or write the function from TensorFlow's ops.")


def _bad(kind, op, what, why, fix):
  """The `findings.Finding` of a problem with one op."""
  return findings.Finding(kind, findings.BAD, what, why, fix, [op.name],
                          op=op.name, type=op.type)


def _inside(outer):
  """The words that name the op in whose function another is; "" for none."""
  return "" if outer is None else " in {} '{}'".format(outer.type, outer.name)


def _held_in_gradients(vjp, trace):
  """The stops that the gradient of their own op reads, by its other outputs.

  The model takes such a tensor for a constant, but the gradient does not. Both
  read the same one.

  Yields:
    `findings.Finding`.
  """
  for name in sorted(trace.stopped):
    held = vjp.graph.get_tensor_by_name(name)
    if held.op.name in trace.path and any(
        reader.name in trace.path and _tf.is_gradient_of(reader, held.op)
        for reader in traversal.consumers(held)):
      yield _bad(
          "held_in_gradient", held.op,
          "{} cannot be held constant in a second derivative.".format(
              tensors.describe(held)),
          "The gradient of the other outputs of {} reads it as well, where it "
          "is not constant.".format(tensors.describe(held.op)),
          "Use tf.stop_gradient({}) where the model reads it.".format(name))


def check_second(vjp, trace):
  """Refuses what has a first derivative and no second one.

  Returns:
    True, a result for the cache.
  """
  _raise(list(itertools.islice(
      second_derivative_problems(vjp, flow_of(vjp, trace)), 1)))
  return True


def second_derivative_problems(vjp, flow):
  """Finds the ops between xs and ys that have a first derivative and no second.

  Yields:
    `findings.Finding`; a note, for who wants the first derivative alone.
  """
  for op, why, fix in gradient_defects.ops_without_second_derivative(flow):
    yield findings.Finding(
        "no_second_derivative", findings.NOTE,
        vjp.purpose("No second derivative") + ".",
        "TensorFlow has a first but no second derivative for {} '{}'{}: "
        "{}".format(op.type, op.name, provenance.in_line(op), why), fix,
        [op.name],
        op=op.name, type=op.type)


def wrong_at_values(flow):
  """Finds the ops that are differentiated wrongly at some values of x.

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


def check_hidden(vjp, built):
  """Refuses a product that is zero only because an op hides the dependence.

  A gradient that does not depend on x at all has a derivative, zero; one that
  depends on it through an op such as PyFunc has another one.

  Args:
    vjp: `vjps.VJP`.
    built: its `result_forms.BuiltVJP`.

  Raises:
    The errors of `check`.
  """
  lost = [x for x, g in zip(vjp.xs, built.gradients) if g is None]
  if not lost:
    return
  trace = vjp.trace()
  hiding = {name for name, op in trace.blocked.items()
            if gradient_flow.hides_dependence(op)}
  ops = traversal.ancestors([y.tensor for y in vjp.ys])
  hidden = [x for x in lost if hiding & traversal.descendants(
      ops, {x.name}, control=False)]
  if hidden:
    refuse(vjp, hidden, trace)


def refuse(vjp, lost, trace):
  """Raises the error for the xs in `lost`, of which no y has a gradient."""
  flow = flow_of(vjp, trace)
  _raise([disconnection.disconnected_error(vjp.ys, x, flow) for x in lost])


def _raise(problems):
  """Raises the error for the first of `problems`, if there is one.

  Several disconnected xs are named in one error.

  Args:
    problems: list of `findings.Finding`.
  """
  if problems:
    kind = problems[0].kind
    joined = [problem for problem in problems if problem.kind == kind] if (
        kind == "disconnected") else problems[:1]
    raise _ERRORS[kind](*[" ".join(dict.fromkeys(
        getattr(problem, text) for problem in joined))
                          for text in ("what", "why", "fix")])
