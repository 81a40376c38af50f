"""What a run computes from values of some tensors: found out, nothing built."""

import collections

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.branches import folding
from gradfeed.graph import cache
from gradfeed.graph import control_flow
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import traversal

#: What a run computes, before anything is built for it.
#:   graph: `tf.Graph`.
#:   leaves: list of `tensors.Dense` and the like that get values.
#:   slots: list of `feeds.Slot`, one for each dense tensor of the leaves.
#:   fed: dict from the name of each tensor that gets a value, and of each of
#:     its copies, to the index of its slot.
#:   given: set of those names in `fed` that are no placeholders: without the
#:     feed they have a value of their own.
#:   cut: set of those names in `given` that TensorFlow may not be fed at.
#:   wanted: list of `tf.Tensor` and `tf.Operation` to run.
#:   targets: list of those of `wanted` that are not fed, and of the pivots.
#:   ops: dict from name to op, of all that runs.
#:   all_ops: dict from name to op: `ops`, and what is in branches that are not
#:     taken.
#:   folded: `branches.folding.Folding`, or None where no branch is decided.
#:   asked: dict from the name of each tensor in `fed` that may decide to the
#:     value that it has in every run, or to None.
#:   idle: dict from the name of each tensor that only such branches read, and
#:     that cannot be computed, to the `tf.Tensor`.
#:   pivots: dict from the name of a cut tensor that is in a branch of a
#:     conditional to an op that runs only when that branch does.
#:   read: set of those names in `fed` that `all_ops` read.
Computation = collections.namedtuple("Computation", [
    "graph", "leaves", "slots", "fed", "given", "cut", "wanted", "targets",
    "ops", "all_ops", "folded", "asked", "idle", "pivots", "read"
])


def from_one_forward_pass(graph, wanted):
  """The wanted tensors, a y being taken from where its derivative has it.

  A derivative may have been built on a copy of its y. The value and the
  derivative are then read from the same copy: they come from one forward pass,
  and from the same random numbers. So are tensors on the way to y, and those of
  a run of what reads the derivative, such as a train op. A derivative that is
  fetched does not wait for other ops, as it does for a train op.

  Args:
    graph: `tf.Graph`.
    wanted: list of `tf.Tensor` and `tf.Operation`.
  """
  wanted, staying = _where_the_last_has_them(graph, wanted)
  recorded = cache.cache_of(graph).derivatives
  copies = dict(cache.cache_of(graph).waiting)
  for item in staying:
    copies.update(zip(recorded[item.name].ys, recorded[item.name].built))
  copied = {item.name: item for item in wanted if not (
      item.name in copies or item.name in recorded) and
            cache.copies_of(graph, item.name)}
  if copied:
    ops = traversal.ancestors(
        [item for item in wanted if item.name not in copied])
    copies.update((name, _one_that_runs(
        tensor, _copies_of(graph, tensor, traversal.ancestors([tensor])), ops))
                  for name, tensor in copied.items())
  return [graph.get_tensor_by_name(copies[item.name])
          if item.name in copies else item for item in wanted]


def _where_the_last_has_them(graph, wanted):
  """The wanted tensors, a derivative being taken from within a higher one.

  A second derivative has a first one within it, of numbers of its own.

  Args:
    graph, wanted: as in `from_one_forward_pass`.

  Returns:
    (list of `tf.Tensor` and `tf.Operation`, list of those derivatives among
    them that stay, the largest last).
  """
  derivatives = list({
      item.name: item for item in derivatives_of(graph, wanted)}.values())
  if len(derivatives) < 2 or not any(
      cache.copies_of(graph, item.name) for item in derivatives):
    return wanted, derivatives
  above = {item.name: traversal.ancestors([item]) for item in derivatives}
  copies = {item.name: list(_copies_of(graph, item, above[item.name]))
            for item in derivatives}

  def copy_among(item, others):
    ops = collections.ChainMap(*[above[other.name] for other in others])
    return _one_that_runs(item, copies[item.name], ops)

  # Those that no other has within it, and then the larger ones.
  order = sorted(derivatives, key=lambda item: (
      copy_among(item, [other for other in derivatives if other is not item]
                ) != item.name, -len(above[item.name])))
  recorded = cache.cache_of(graph).derivatives
  staying, taken = [], {}
  for item in order:
    name = copy_among(item, staying)
    if name == item.name:
      staying.insert(0, item)
    else:
      taken[item.name] = graph.get_tensor_by_name(name)
      recorded.setdefault(name, recorded[item.name]._replace(
          results=[name if result == item.name else result
                   for result in recorded[item.name].results]))
  return [taken.get(item.name, item) for item in wanted], staying


def _one_that_runs(tensor, copies, ops):
  """The name of the copy of `tensor` that draws, or assigns, in a run.

  It is the name of `tensor` itself where its copies do neither, or are not run.

  Args:
    tensor: `tf.Tensor`.
    copies: iterable, as `_copies_of` gives it.
    ops: dict from name to op, of all that runs apart from it.
  """
  for name, calls in copies:
    if calls and all(op_name in ops for op_name in calls) and (
        not effects.is_repeatable(calls)):
      return name
  return tensor.name


def _copies_of(graph, tensor, own):
  """The copies of `tensor`, the last one first, and what they call.

  Args:
    graph: `tf.Graph`.
    tensor: `tf.Tensor`.
    own: dict from name to op, of all that `tensor` needs.

  Yields:
    (name of a copy, dict from name to the functional ops that it needs and
    `tensor` does not).
  """
  for name in reversed(cache.copies_of(graph, tensor.name)):
    yield name, {
        op.name: op for op in traversal.ancestors(
            [graph.get_tensor_by_name(name)]).values()
        if op.name not in own and op.type in op_types.FUNCTIONAL}


def find_computation(graph, leaves, slots, wanted):
  """What is run to compute `wanted` from values at `leaves`, whatever they are.

  Args:
    graph, leaves, wanted: as in `plans.Plan`.
    slots: list of `feeds.Slot`, one for each dense tensor of the leaves.

  Returns:
    `Computation`.
  """
  # A copy that was made to differentiate has the value of its original.
  fed = {name: i for i, slot in enumerate(slots)
         for name in [slot.component.name] + cache.clones_of(
             graph, slot.component.name)}
  given = {name for name, i in fed.items()
           if not slots[i].component.is_placeholder}
  cut = {name for name in given
         if not _is_fed_as_it_is(slots[fed[name]].component, fed)}
  computed = [item for item in wanted if isinstance(item, tf.Operation) or
              item.name not in fed]
  ops = traversal.ancestors(computed, given)
  pivots = _pivots_of(graph, cut, ops)
  targets = computed + list(pivots.values())
  if pivots:
    ops = traversal.ancestors(targets, given)
  return Computation(graph, leaves, slots, fed, given, cut, wanted, targets,
                     ops, ops, None, {}, {}, pivots, _read(graph, fed, ops))


def _read(graph, fed, ops):
  """The set of those names in `fed` that `ops` read."""
  return effects.read_by(ops, map(graph.get_tensor_by_name, fed))


def derivatives_of(graph, wanted):
  """Those of the list `wanted` that are derivatives built by gradfeed."""
  recorded = cache.cache_of(graph).derivatives
  return [item for item in wanted if item.name in recorded]


def decide(computation, held, may_assign, spares_variables=False):
  """What is run where some of the values are the same in every run.

  Args:
    computation: `Computation`, as `find_computation` gives it.
    held: dict from the name of a dense tensor of the leaves to its value.
    may_assign, spares_variables: as in `plans.Plan`.

  Returns:
    `Computation`.
  """
  folded, asked = folding.fold(
      computation.targets, computation.ops,
      {name: held.get(computation.slots[i].component.name)
       for name, i in computation.fed.items()}, computation.given)
  computation = computation._replace(asked=asked)
  if folded is None:
    return computation
  idle, all_ops = {}, computation.ops
  # A run that may assign does all that one of TensorFlow does.
  if not computation.graph.finalized and not may_assign:
    idle = {t.name: t for t in folded.idle_tensors(
        all_ops, computation.fed, spares_variables)}
  if idle:
    all_ops = traversal.ancestors(
        computation.targets, computation.given.union(idle))
  return computation._replace(
      folded=folded, idle=idle, all_ops=all_ops,
      ops=folded.without_dead(all_ops), read=(
          _read(computation.graph, computation.fed, all_ops) if idle else
          computation.read))


def _is_fed_as_it_is(component, fed):
  """Whether this is a placeholder with a default that needs no cut.

  One in a branch runs, fed or not, only where the branch is taken; one that was
  copied has to have its value in all places. TensorFlow computes the default of
  one that is fed if an optimizer lets another op wait for it: where a default
  takes from a queue, or needs a value that no one gives, that must not be.

  Args:
    component: `tensors.Dense` that gets a value.
    fed: collection of the names of all tensors that get one.
  """
  if (component.op.type != op_types.PLACEHOLDER_WITH_DEFAULT or
      _tf.is_inside(component.op) or
      cache.clones_of(component.graph, component.name)):
    return False
  return component.graph.finalized or all(
      op.op_def is not None and not op.op_def.is_stateful and
      (op.type not in op_types.PLACEHOLDERS or op.outputs[0].name in fed)
      for op in traversal.ancestors([component.op]).values())


def _pivots_of(graph, cut, ops):
  """For each cut tensor in a branch the op that runs only when the branch does.

  Returns:
    dict from the name of the tensor to the op.
  """
  # Every path from inside of a branch or a loop to its outside has a join.
  has_joins = control_flow.has_joins(ops)
  pivots = {name: control_flow.pivot_of(
      graph.get_tensor_by_name(name), has_joins) for name in cut}
  return {name: op for name, op in pivots.items() if op is not None}


def variables_read(computation):
  """The list of the ops of the variables that need a value before a run."""
  folded = computation.folded
  return (effects.variables_read if folded is None else
          folded.variables_read)(computation.ops, computation.wanted)


def hands_on_variables(computation):
  """Whether variables are read for branches alone that are not taken."""
  return computation.folded is not None and (
      computation.folded.hands_on_variables(computation.ops))


def placeholders_without_value(ops, slots):
  """The placeholders among `ops` that none of `slots` feeds.

  Returns:
    dict from `tf.Tensor` to a str, what uses it.
  """
  fed = {slot.component.name for slot in slots}
  return {t: effects.user_of(t, ops) for t in effects.placeholders(ops)
          if t.name not in fed}
