"""Goes through the ops of a graph with loops as a run would, turn by turn."""

import collections
import functools

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import control_flow
from gradfeed.graph import op_types
from gradfeed.graph import traversal
from gradfeed.rewriting.unrolling import arrays
from gradfeed.rewriting.unrolling import choices
from gradfeed.rewriting.unrolling import copied_ops
from gradfeed.rewriting.unrolling import known_values
from gradfeed.rewriting.unrolling import lists
from gradfeed.rewriting.unrolling import values as kinds

#: Ops that hand their inputs on, whatever these stand for.
_PASSING = frozenset([
    "Identity", "IdentityN", "LoopCond", "NextIteration",
    "PlaceholderWithDefault", "RefIdentity", "RefNextIteration"])

#: How often a loop may turn.
_MOST_TURNS = 10000


class Interpreter:
  """Evaluates ops: what is known at once, the rest by ops of a copy.

  Attributes:
    optional: set of the names of ops of the copy that a run of the original
      may not have: those of both sides of functional branches.
  """

  def __init__(self, graph, ops, emitter, outside, takes_both_sides=False):
    """Evaluates nothing yet.

    Args:
      graph: `tf.Graph` of the ops.
      ops: dict from name to `tf.Operation`, as `traversal.ancestors` gives it.
      emitter: `emission.Emitter`.
      outside: function from a tensor that none of `inside` makes to its value.
      takes_both_sides: bool; whether both sides of a functional branch are
        evaluated where it is not known which is taken.
    """
    self.optional = set()
    self._refused = []  # As `_taken`, where TensorFlow refuses what it reads.
    self._takes_both_sides = takes_both_sides
    self._taken = {}  # Predicates to which side of a branch this is in.
    self._graph = graph
    self._ops = ops
    self._emitter = emitter
    self._outside = outside
    self._state_ops = arrays.StateOps(emitter)
    self._frames = control_flow.frames_of(ops)
    self._members = collections.defaultdict(list)
    for name in ops:
      self._members[self._frames.get(name, ())].append(name)
    self._loops, self._bodies = {}, {}

  def run(self, wanted, inside):
    """The values of some tensors that are in no loop.

    Args:
      wanted: list of `tf.Tensor`.
      inside: set of the names of the ops to evaluate; others are outside.

    Returns:
      list of values, as in the module `values`.
    """
    env = {}
    order = self._order((), [t.op.name for t in wanted], inside)
    for item in order:
      self._evaluate(item, env, None)
    return [choices.settled(self._value(tensor, env), {}, self._emitter)
            for tensor in wanted]

  def conditions(self):
    """bool scalar `tf.Tensor` that are True where TensorFlow takes the values.
    """
    graph = tf.get_default_graph()
    return [tf.reduce_any([
        tf.not_equal(graph.get_tensor_by_name(name), side)
        for name, side in sorted(taken.items())]) for taken in self._refused]

  # What comes before what.

  def _item(self, name, frame):
    """What makes the op called `name` in a frame: itself, or a loop; or None.
    """
    own = self._frames.get(name, ())
    if own == frame:
      return name
    return own[:len(frame) + 1] if own[:len(frame)] == frame else None

  def _before(self, item, frame, inside):
    """The items that have to be evaluated before `item`, in its frame."""
    if isinstance(item, tuple):
      names = [name for own, members in self._members.items()
               if own[:len(item)] == item for name in members]
    else:
      names = [item]
      if self._is_variable(item, frame) or (
          self._ops[item].type in op_types.ENTERS):
        return []  # Its value is that of the turn.
    found = []
    for name in names:
      op = self._ops[name]
      for before in [t.op for t in op.inputs] + list(op.control_inputs):
        if before.name in inside:
          other = self._item(before.name, frame)
          if other is not None and other != item:
            found.append(other)
    return found

  def _is_variable(self, name, frame):
    """Whether an op is the variable of the loop of a frame."""
    return bool(frame) and self._ops[name].type in op_types.MERGES and any(
        t.op.type in ("NextIteration", "RefNextIteration")
        for t in self._ops[name].inputs)

  def _order(self, frame, names, inside):
    """The items that some ops need, those before others first: a list."""
    order, state = [], {}
    stack = [item for item in (self._item(name, frame) for name in names
                               if name in inside) if item is not None]
    while stack:
      item = stack[-1]
      if item not in state:
        state[item] = "begun"
        stack.extend(other for other in self._before(item, frame, inside)
                     if state.get(other) != "done")
      else:
        stack.pop()
        if state[item] == "begun":
          state[item] = "done"
          order.append(item)
    return order

  # Loops of control flow v1.

  def _loop(self, frame):
    """The loop of a frame, read once: `_Loop`."""
    if frame not in self._loops:
      members = [self._ops[name] for name in self._members[frame]]
      of = lambda *types: [op for op in members if op.type in types]
      conditions, exits = of("LoopCond"), of(*op_types.EXITS)
      variables = {op.name: _ends(op) for op in of(*op_types.MERGES)
                   if self._is_variable(op.name, frame)}
      if len(conditions) != 1 or not variables:
        raise kinds.NotUnrolled("not all of loop '{}' is here".format(
            frame[-1]))
      turned = [end.op.name for _, end in variables.values()] + [
          op.name for op in of(*op_types.PUSHES)]
      inside = set(self._ops)
      self._loops[frame] = _Loop(
          of(*op_types.ENTERS), variables, conditions[0], exits,
          self._order(frame, [conditions[0].name], inside),
          self._order(frame, turned, inside),
          self._order(frame, [op.inputs[0].op.name for op in exits], inside))
    return self._loops[frame]

  def _run_loop(self, frame, around):
    """Evaluates the loop of a frame, in the values `around` it."""
    loop = self._loop(frame)
    base = {}
    for op in loop.enters:
      base[op.outputs[0].name] = self._value(op.inputs[0], around)
    if any(value is kinds.DEAD for value in base.values()):
      for op in loop.exits:
        around[op.outputs[0].name] = kinds.DEAD
      return
    state = {name: base[start.name]
             for name, (start, _) in loop.variables.items()}
    for _ in range(_MOST_TURNS):
      env = dict(base)
      for name, value in state.items():
        env[name + ":0"] = value
        env[name + ":1"] = np.array(0, np.int32)
      done = set(loop.variables)
      self._evaluate_all(loop.before_condition, env, base, done)
      if not known_values.truth(env[loop.condition.outputs[0].name]):
        break
      self._evaluate_all(loop.turn, env, base, done)
      state = {name: env[end.name]
               for name, (_, end) in loop.variables.items()}
    else:
      raise kinds.NotUnrolled("a loop turns too often")
    self._evaluate_all(loop.after, env, base, done)
    for op in loop.exits:
      around[op.outputs[0].name] = self._value(op.inputs[0], env)

  def _evaluate_all(self, items, env, base, done):
    for item in items:
      if item not in done:
        done.add(item)
        self._evaluate(item, env, base)

  # Ops.

  def _evaluate(self, item, env, base):
    """Evaluates an op or a loop, and writes its outputs into `env`."""
    if isinstance(item, tuple):
      self._run_loop(item, env)
      return
    op = self._ops[item]
    if op.type in op_types.ENTERS and base is not None:
      return
    inputs = [self._value(tensor, env) for tensor in op.inputs]
    dead = any(env.get("^" + before.name) is kinds.DEAD
               for before in op.control_inputs)
    outputs = self._outputs(op, inputs, dead)
    for tensor, value in zip(op.outputs, outputs):
      env[tensor.name] = value
    if outputs and all(value is kinds.DEAD for value in outputs):
      env["^" + op.name] = kinds.DEAD

  def _value(self, tensor, env):
    value = env.get(tensor.name)
    return self._outside(tensor) if value is None else value

  def _outputs(self, op, inputs, dead=False):
    """The list of the values of the outputs of an op."""
    inputs = [choices.on_this_side(value, self._taken) for value in inputs]
    if op.type in op_types.MERGES and not dead:
      alive = [(i, value) for i, value in enumerate(inputs)
               if value is not kinds.DEAD]
      if len(alive) > 1:
        raise kinds.NotUnrolled("both sides of a branch are there")
      if alive:
        return [alive[0][1], np.array(alive[0][0], np.int32)]
    if dead or any(value is kinds.DEAD for value in inputs):
      return [kinds.DEAD] * len(op.outputs)
    if op.type in _PASSING:
      return inputs
    if op.type in op_types.FUNCTION_CALLS:  # What it reads is decided inside.
      deciding = inputs[:op_types.FUNCTION_CALLS[op.type].first_argument]
    else:
      deciding = inputs = choices.for_tensors(
          op, inputs, self._taken, self._emitter)
    for value in deciding:
      if isinstance(value, kinds.Either):
        return self._on_both(
            value.predicate, op, lambda: self._outputs(op, inputs))
    if op.type in op_types.SWITCHES:
      taken = known_values.truth(inputs[1])
      return [kinds.DEAD, inputs[0]] if taken else [inputs[0], kinds.DEAD]
    if op.type in op_types.FUNCTION_CALLS:
      return self._called(op, inputs)
    outputs = self._state_ops.evaluate(op, inputs)
    if outputs is None and lists.is_of_lists(op, inputs):
      outputs = [
          choices.settled(value, self._taken, self._emitter, keeps_numbers=True)
          for value in lists.evaluate(op, inputs, self._emitter)]
    return self._computed(op, inputs) if outputs is None else outputs

  def _computed(self, op, inputs):
    """The outputs of an op that computes tensors from tensors."""
    if op.type in op_types.SHAPE_READING:
      shapes = [known_values.of_shape(op, tf.TensorShape(value.shape))
                for value in inputs]
      if None not in [shape if shape is None else 0 for shape in shapes]:
        return shapes
    if op.type == "Const":
      value = known_values.constant(op)
      if value is not None:
        return [value]
    elif inputs and all(isinstance(value, np.ndarray) for value in inputs):
      outputs = known_values.evaluate(op, inputs)
      if outputs is not None:
        return outputs
    decided = known_values.decided(op, inputs)
    if decided is not None:
      return [decided]
    if op.type in ("NoOp", "ControlTrigger") or (
        op.type == "Assert" and known_values.is_true(inputs[0])):
      return []
    copied_ops.check_pure(op)
    made = self._emitter.count
    outputs = self._emitter.copy(op, inputs)
    names = {t.op.name for t in outputs}
    if not self._taken:
      self.optional -= names  # Whatever else reads it.
    elif self._emitter.count > made:
      self.optional |= names
    return outputs

  # Functions.

  def _called(self, op, inputs):
    """The outputs of an op that calls functions."""
    callees = {name: op.node_def.attr[name].func.name
               for name in op_types.FUNCTION_CALLS[op.type].functions}
    if op.type in op_types.CALLS:
      return self._body(callees["f"], inputs)
    if op.type in op_types.FUNCTIONAL_LOOPS:
      return self._turned(op, callees, inputs)
    if set(callees) == {"then_branch", "else_branch"}:
      if self._takes_both_sides and isinstance(inputs[0], tf.Tensor) and (
          inputs[0].dtype == tf.bool and inputs[0].shape.rank == 0):
        predicate = inputs[0]
        return self._on_both(predicate, op, lambda: self._body(callees[
            "then_branch" if self._taken[predicate.name] else "else_branch"],
                                                               inputs[1:]))
      side = "then_branch" if known_values.truth(inputs[0]) else "else_branch"
      return self._body(callees[side], inputs[1:])
    raise kinds.NotUnrolled("{} '{}' has no rule".format(op.type, op.name))

  def _turned(self, op, callees, values):
    """The values of the variables of a loop after its last turn."""
    before, turns = self._taken, choices.Turns(self._taken, self._emitter)
    for _ in range(_MOST_TURNS):
      condition, = self._body(callees["cond"], values)
      if self._takes_both_sides:
        fork = turns.fork(condition, values)
        self._taken = turns.taken
        if fork is not None:  # Each side turns on by itself.
          values = self._on_both(
              fork, op, functools.partial(self._turned, op, callees, values))
        is_last = fork is not None or not turns.goes_on(condition, values)
      else:
        is_last = not known_values.truth(condition)
      if is_last:
        self._taken = before
        return turns.results(values, [t.dtype for t in op.outputs])
      self._taken = turns.taken
      values = self._body(callees["body"], values)
    raise kinds.NotUnrolled("a loop turns too often")

  def _on_both(self, predicate, op, compute):
    """The outputs of an op that differ by the side of a branch.

    Args:
      predicate: `tf.Tensor` that decides the side.
      op: `tf.Operation`.
      compute: function that gives them on the side that `_taken` tells.
    """
    before, results, refused = self._taken, [], []
    for side in (True, False):
      if before.get(predicate.name, side) == side:
        self._taken = dict(before, **{predicate.name: side})
        try:
          results.append(compute())
        except kinds.Unwritten:
          refused.append(self._taken)
        self._taken = before
    if refused and not results:
      raise kinds.Unwritten("nothing was written to a list")
    self._refused += refused
    if len(results) == 1:
      return results[0]
    return [choices.chosen(predicate, one, other, t.dtype, self._emitter)
            for one, other, t in zip(*results, op.outputs)]

  def _body(self, name, arguments):
    """The outputs of the function called `name`."""
    if name not in self._bodies:
      definition = _tf.function_definition(self._graph, name)
      if definition is None:
        raise kinds.NotUnrolled("function '{}' is not here".format(name))
      body = _tf.function_graph(self._graph, definition)
      ops = traversal.ancestors(list(body.outputs))
      for op in body.get_operations():
        copied_ops.check_effects(op)
      if control_flow.has_joins(ops):
        raise kinds.NotUnrolled("a function has loops of control flow v1")
      self._bodies[name] = body, list(ops.values())
    body, order = self._bodies[name]
    env = {argument.name: value
           for argument, value in zip(body.inputs, arguments)}
    for op in order:
      if op.outputs and op.outputs[0].name in env:
        continue
      outputs = self._outputs(op, [env[t.name] for t in op.inputs])
      env.update(zip((t.name for t in op.outputs), outputs))
    return [env[tensor.name] for tensor in body.outputs]


#: A loop of control flow v1: ops `enters`, `condition` and `exits`;
#: `variables`, dict from the name of each `Merge` to the tensors that are its
#: first and its next value; the items to evaluate for the condition, for the
#: next turn and after the last, in their order.
_Loop = collections.namedtuple("_Loop", [
    "enters", "variables", "condition", "exits", "before_condition", "turn",
    "after"])


def _ends(merge):
  """The tensors that are the first and the next value of a variable."""
  next_ones = [t for t in merge.inputs
               if t.op.type in ("NextIteration", "RefNextIteration")]
  first_ones = [t for t in merge.inputs if t.op.type in op_types.ENTERS]
  if len(next_ones) != 1 or len(first_ones) != 1:
    raise kinds.NotUnrolled("'{}' is no variable of a loop".format(merge.name))
  return first_ones[0], next_ones[0]
