"""Refuses runs whose feeds would give the derivative of something else.

A feed must have an effect, and must not lie between the x and the y of a
derivative that is run. The dtype and shape of a fed value are checked in
`feeds`.

The `computation` that the functions take is a `computations.Computation`: what
a run computes, found out before anything is built.
"""

import collections

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import gradient_flow
from gradfeed import errors
from gradfeed.evaluation import computations
from gradfeed.evaluation.inputs import feeds
from gradfeed.graph import cache
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import provenance
from gradfeed.graph import python_functions
from gradfeed.graph import tensors
from gradfeed.graph import traversal


#: An op that changes variables while another reads them for a derivative.
#:   changing, reading: str, the names of the ops.
#:   variables: set of the names of the variables' tensors that `changing`
#:     changes.
Race = collections.namedtuple("Race", ["changing", "reading", "variables"])


def check(computation, points, may_assign, race=None):
  """Checks the feeds and the side effects of a run.

  Args:
    computation: `computations.Computation`.
    points: names of tensors at which derivatives are taken though they lie
      between x and y.
    may_assign: bool, whether the run may change variables.
    race: `Race` of the run, as `find_race` gives it, or None.

  Returns:
    list of the leaves, placeholders all, that have no effect.

  Raises:
    FeedError: a feed lies between the x and the y of a derivative, or one of
      something else than a placeholder has no effect; lists all of the first
      kind, else all of the second.
    AssignmentError: the run changes a variable and may not, or reads it for a
      derivative meanwhile.
  """
  derivatives = _derivatives_run(computation)
  _check_built_again(computation)
  _check_recomputed(computation, derivatives)
  _check_between(computation, derivatives, points)
  unused = _check_effect(computation, derivatives)
  if race is not None:
    _refuse_race(computation, race)
  if not may_assign:
    _check_assignments(
        computation.ops, computation.wanted, computation.folded)
  _check_tapes(computation.ops)
  return unused


def _check_tapes(ops):
  """Refuses two gradients, or two calls, of one function of tf.py_function.

  There is one tape for each function: see `graph.python_functions`.

  Args:
    ops: dict from name to op, of all that runs.

  Raises:
    UnsupportedGraphError.
  """
  tapes = python_functions.Tapes(ops)
  for token, gradients in tapes.taken.items():
    for what, users in (("gradients", gradients), ("calls", tapes.left[token])):
      if len(users) > 1:
        raise errors.UnsupportedGraphError(
            "One run cannot compute two {} of a function of "
            "tf.py_function.".format(what),
            "They are {}{}. TensorFlow keeps one tape for the function, that "
            "of its last call, and its gradient takes it once.".format(
                tensors.describe_all(users), "".join(dict.fromkeys(
                    provenance.in_line(op) for op in tapes.left[token]))),
            "Evaluate them in calls of their own; or ask for all gradients at "
            "once (`gradient(y, [x1, x2])`).")


def _check_built_again(computation):
  """Refuses a cut that a derivative would ignore, which was built for another.

  A y that is equal to an earlier one has the derivative of that one, which is
  computed from the tensors of the earlier one.
  """
  for name in sorted(computation.cut):
    for result, earlier in cache.ignored_by(computation.graph, name):
      if earlier in computation.fed or not _is_run(computation, result):
        continue
      error = feeds.feed_error([feeds.Problem(
          _leaf_of(computation, name) or name,
          "the derivative '{}' was built for a y that was computed in the same "
          "way from '{}', and does not read it".format(result, earlier))])
      error.fix = ("Build y once; or feed '{}' too, from which the derivative "
                   "is computed; or make it a tf.placeholder_with_default, "
                   "which is another one each time.".format(earlier))
      raise error


def _derivatives_run(computation):
  """The derivatives that gradfeed built and that are run.

  Returns:
    list of `cache.Derivative`.
  """
  recorded = cache.cache_of(computation.graph).derivatives
  return list({id(derivative): derivative
               for name, derivative in list(recorded.items())
               if _is_run(computation, name)}.values())


def _is_run(computation, name):
  """Whether the tensor called `name` is computed or wanted."""
  return name.split(":")[0] in computation.ops or any(
      item.name == name for item in computation.wanted)


def _check_recomputed(computation, derivatives):
  """Refuses a cut at what a derivative computes anew for each example."""
  problems = [
      feeds.Problem(_leaf_of(computation, name), "it lies between x and y = "
                    "{}, and is computed anew for each example".format(
                        ", ".join(map(repr, derivative.ys))))
      for derivative in derivatives
      for name in sorted(computation.given - set(derivative.xs))
      if name.split(":")[0] in derivative.recomputed]
  if problems:
    error = feeds.feed_error(problems)
    error.fix = ("Differentiate by this tensor itself, or build the "
                 "derivative with coupled=True, within the batch.")
    raise error


def _check_between(computation, derivatives, points):
  """Refuses a cut between the x and the y of a derivative that is run."""
  problems = [problem for derivative in derivatives
              for problem in _between(computation, derivative, points)]
  problems += _between_unknown(computation, points)
  if problems:
    error = feeds.feed_error(problems)
    error.fix = (
        "Say which derivative is meant: by this tensor itself "
        "(gradient(y, {0!r})), with it held constant (gradient(..., "
        "stop_gradients=[{0!r}])), or at this point of it, with the chain "
        "rule through it (points=[{0!r}]).".format(
            getattr(problems[0].leaf, "name", problems[0].leaf)))
    raise error


def _between(computation, derivative, points):
  """The cuts between x and y of one derivative, which make it meaningless.

  Yields:
    `feeds.Problem`.
  """
  graph = computation.graph
  held = cache.with_copies(graph, derivative.stops)
  ys, stops = [[graph.get_tensor_by_name(name) for name in names]
               for names in (derivative.ys, held)]
  allowed = {*held, *cache.with_copies(graph, points)}
  for x, result in zip(derivative.xs, derivative.results):
    suspects = sorted(computation.given - allowed - {x})
    if not suspects or result is None or not _is_run(computation, result):
      continue
    trace = gradient_flow.GradientTrace(ys, [graph.get_tensor_by_name(x)],
                                        stops)
    for name in suspects:
      if name in trace.tensors and name.split(":")[0] in trace.path:
        yield feeds.Problem(
            _leaf_of(computation, name),
            "it lies between x = '{}' and y = {}, so the gradient would mix "
            "this value with what x makes of it".format(
                x, ", ".join(map(repr, derivative.ys))))


def _between_unknown(computation, points):
  """The cuts between x and y of gradients that were built without gradfeed.

  `tf.gradients` names the ops through which it passes back OP "OP_grad/...":
  a cut of what OP computes is then between the x and the y.

  Yields:
    `feeds.Problem`.
  """
  passed = {name: provenance.passed_back(name) for name in computation.ops
            if "_grad/" in name and not name.startswith(_tf.SCOPE)}
  for name in sorted(computation.given.difference(cache.with_copies(
      computation.graph, points))) if passed else ():
    above = traversal.ancestors([computation.graph.get_tensor_by_name(name)])
    for user, origins in passed.items():
      # What is above the cut, such as the lists that the gradient of a While
      # has added to its inputs, does not pass back what comes from the cut.
      if user not in above and any(origin in above for origin in origins):
        yield feeds.Problem(
            _leaf_of(computation, name) or name,
            "a gradient that is run ('{}') passes through it, and would mix "
            "this value with what is computed for it".format(user))
        break


def _check_effect(computation, derivatives):
  """Refuses a feed that reaches no output and no x or y of a derivative.

  A placeholder has no other value than the one that is fed: that nothing reads
  it makes no difference. A layer or a variable has, and the caller would take
  what is evaluated for its value at the one that was fed.

  Returns:
    list of the leaves, placeholders all, that reach nothing.
  """
  reached = set(computation.read)
  reached.update(item.name for item in computation.wanted)
  for derivative in derivatives:
    reached.update(derivative.xs)
  if not _without_effect(computation, reached):
    return []
  ys = [computation.graph.get_tensor_by_name(y)
        for derivative in derivatives for y in derivative.ys]
  reached |= effects.names_read(traversal.ancestors(ys, computation.given))
  reached.update(y.name for y in ys)
  idle = _without_effect(computation, reached)
  problems = [
      feeds.Problem(leaf, "nothing that is evaluated depends on it")
      for leaf in idle if any(component.name in computation.cut
                              for component in leaf.components())]
  if problems:
    raise feeds.feed_error(problems)
  return idle


def _without_effect(computation, reached):
  """The leaves none of whose tensors, nor a copy of one, is in `reached`.

  Args:
    computation: `computations.Computation`.
    reached: set of names of tensors.
  """
  reached = reached | {computation.slots[i].component.name
                       for name, i in computation.fed.items()
                       if name in reached}
  return [leaf for leaf in computation.leaves if not any(
      component.name in reached for component in leaf.components())]


def _leaf_of(computation, name):
  """The leaf that a tensor, or what it is a copy of, belongs to; or None."""
  if name in computation.fed:
    name = computation.slots[computation.fed[name]].component.name
  return next((leaf for leaf in computation.leaves if any(
      component.name == name for component in leaf.components())), None)


def check_fetches(wanted):
  """Refuses what is inside a while loop: it has a value at each turn.

  Args:
    wanted: list of `tf.Tensor` and `tf.Operation` to run.
  """
  for item in wanted:
    op = item if isinstance(item, tf.Operation) else item.op
    if _tf.is_inside_while(op):
      raise errors.ArgumentError(
          "{} cannot be evaluated.".format(tensors.describe(item)),
          "It is inside a while loop, where it has a value at each turn.",
          "Take the output of the loop, or collect the values in a "
          "TensorArray.")


def _check_assignments(ops, wanted, folded):
  """Refuses a run that changes a variable."""
  changing = effects.assigning_ops(ops, folded)
  if changing:
    raise errors.AssignmentError(
        "Evaluating {} would run {}.".format(
            ", ".join("'{}'".format(t.name) for t in wanted[:3]),
            tensors.describe_all(changing[:4])),
        "That changes a variable at each call, and whether the value before or "
        "after is read is left to chance.",
        "Take outputs that do not depend on it (moving averages: build the "
        "network with is_training=False, or with updates in "
        "tf.GraphKeys.UPDATE_OPS), hold the value that decides whether it runs "
        "(feed_dict={is_training: False}), or run it with gradfeed.run.")


def find_race(computation):
  """A race of a run: a variable is changed while a derivative reads it.

  Args:
    computation: `computations.Computation`.

  Returns:
    `Race`, or None.
  """
  ops = computation.ops
  derivatives = computations.derivatives_of(
      computation.graph, computation.wanted)
  changed = collections.OrderedDict(
      (op.name, {t.name for t in map(_passed, op.inputs)
                 if t.op.type in op_types.VARIABLES})
      for op in effects.assigning_ops(
          ops, computation.folded)) if derivatives else {}
  readers = _readers(ops, computation.graph, set().union(*changed.values()))
  if readers:
    names = traversal.above(ops, [t.op.name for t in derivatives])
    readers = {name: read for name, read in readers.items() if name in names}
  if not readers:
    return None
  # One op is looked at alone: where there are races it mostly has one.
  first = next(iter(changed))
  before = traversal.above(ops, [first])
  race = _race_of(first, changed[first], readers, before.__contains__)
  if race is None and len(changed) > 1:
    marks = traversal.marks_above(ops, readers)
    races = (_race_of(name, own, readers, lambda reader, name=name: marks.has(
        name, reader)) for name, own in changed.items())
    race = next(filter(None, races), None)
  return race


def _race_of(name, own, readers, is_before):
  """The `Race` of the op `name`, which changes the variables `own`, or None."""
  for reader, read in readers.items():
    if read & own and not is_before(reader):
      return Race(name, reader, own)
  return None


def _readers(ops, graph, variables):
  """Those of `ops` that read some variables, or an Identity of one.

  Returns:
    dict from the name of each to the set of the names of those of `variables`,
    names of tensors, that it reads; in the order of `ops`.
  """
  readers = collections.defaultdict(set)
  for variable in variables:
    handles = [graph.get_tensor_by_name(variable)]
    while handles:
      handle = handles.pop()
      for op in traversal.consumers(handle):
        if op.name not in ops:
          continue
        if any(t is handle and effects.reads_input(op, i)
               for i, t in enumerate(op.inputs)):
          readers[op.name].add(variable)
        if op.type in op_types.HANDLE_PASSING:
          handles.extend(filter(_is_handle, op.outputs))
        if op.type == "Identity" and not _is_handle(op.outputs[0]):
          for user in traversal.consumers(op.outputs[0]):
            readers[user.name].add(variable)
  return collections.OrderedDict(
      (name, readers[name]) for name in ops if name in readers)


def _is_handle(tensor):
  """Whether `tensor` stands for a variable, and is not its value."""
  return tensor.dtype == tf.resource or _tf.is_reference(tensor)


def _passed(tensor):
  """The handle or reference that `tensor` is, as it was before any branch."""
  while tensor.op.type in op_types.HANDLE_PASSING and _is_handle(tensor):
    tensor = tensor.op.inputs[0]
  return tensor


def _refuse_race(computation, race):
  """Refuses a derivative that reads a variable while the run changes it."""
  ops = computation.ops
  derivative = next(t for t in computations.derivatives_of(
      computation.graph, computation.wanted)
                    if race.reading in traversal.above(ops, [t.op.name]))
  raise errors.AssignmentError(
      "{} is fetched together with {}.".format(
          tensors.describe(derivative), tensors.describe(ops[race.changing])),
      "'{}' reads {} while the same run changes it: the derivative would be at "
      "the old weights, the new ones, or some of each.".format(
          race.reading, ", ".join(sorted(race.variables))),
      "Evaluate the derivative in a run of its own.")
