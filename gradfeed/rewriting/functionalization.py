"""Turns loops and branches of control flow v1 into functional ops.

Control flow v1 has no gradient of its gradient and cannot be vectorized; its
functional form (`While`, `If`, lists for tensor arrays) has one and can be.
`control_flow_v1` finds the loops and branches in the nodes; here they are
built, as functions that capture what they read from outside.
"""

import collections

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import op_types
from gradfeed.rewriting import control_flow_v1
from gradfeed.rewriting import tensor_lists

#: What is made in one step: `items`, an op, a loop, or the `Merge` ops of one
#: branch; `predicate`, the name of the tensor that chooses the branch, or None;
#: `reads`, the items that are needed before; `inside`, the set of the items
#: that lie in the branch, or None.
_Unit = collections.namedtuple(
    "_Unit", ["items", "predicate", "reads", "inside"])


def is_needed(nodes):
  """Whether some nodes have another form: control flow v1 and tensor arrays.

  Args:
    nodes: list of NodeDef.
  """
  return any(node.op in op_types.CONTROL_FLOW_V1 or
             node.op.startswith(op_types.TENSOR_ARRAY) for node in nodes)


def emit(nodes, values, shape_of, library=()):
  """Builds the ops of `nodes` with loops and branches in functional form.

  Inside loops and branches only what their results are computed from is made;
  an assertion in a branch, which nothing reads, is left out.

  Args:
    nodes: list of NodeDef, inputs before users (loops' back edges apart).
      Inputs are named "op:index" or "^op"; what they read is in `nodes` or in
      `values`, and control inputs that are in neither are left out. The ops go
      to the default graph, which has to be one that becomes a function.
    values: dict from tensor name to the `tf.Tensor` that is read in its place,
      of the default graph or one that it can capture from.
    shape_of: function from the name of a tensor to the static
      `tf.TensorShape` that it has in the original graph.
    library: sequence of FunctionDef, the functions that the nodes call.

  Returns:
    dict from tensor name to the new `tf.Tensor`, for all tensors outside of
    loops and branches.

  Raises:
    UnsupportedGraphError: an op has no functional form.
  """
  parsed = control_flow_v1.ParsedControlFlow(nodes, values, shape_of, library)
  scope = _Scope(parsed, values, frozenset())
  scope.emit(parsed.outside())
  return {name: tensor for name, tensor in scope.env.items()
          if name not in values and not name.startswith("^")
          and control_flow_v1.op_of(name) not in parsed.lists}


class _Scope:
  """The body of one function, in which each op is built after what it reads.

  Attributes:
    env: dict from the name of a tensor to the `tf.Tensor` that it is here, and
      from "^" with the name of an op to the `tf.Operation`.
  """

  def __init__(self, parsed, env, opened):
    """Starts a body.

    Args:
      parsed: `control_flow_v1.ParsedControlFlow`.
      env: dict as the attribute, what is there or can be captured; copied.
      opened: frozenset of the predicates whose branch is entered.
    """
    self.env = dict(env)
    self._opened = opened
    self._parsed = parsed

  def tensors(self, names):
    """The tensors called `names`, built if they are not there yet: a list."""
    names = [self._parsed.resolve(name) for name in names]
    self.emit([self._parsed.item(name) for name in names
               if name not in self.env])
    return [self.env[name] for name in names]

  def emit(self, items):
    """Builds items, with all that they need and that is not there yet.

    All ops that are possible are imported at once; then the loops and branches
    that have become possible are built.

    Args:
      items: list of items, as `ParsedControlFlow` has them.
    """
    units = self._units(items)
    makers = {item: i for i, unit in enumerate(units) for item in unit.items}
    missing, users = [], collections.defaultdict(list)
    for i, unit in enumerate(units):
      before = {self._maker(makers, item) for item in unit.reads}
      missing.append(len(before))
      for maker in before:
        users[maker].append(i)
    ops, blocks = [], []

    def release(index):
      unit = units[index]
      is_op = unit.predicate is None and not isinstance(unit.items[0], tuple)
      (ops if is_op else blocks).append(index)

    def finish(index):
      for user in users[index]:
        missing[user] -= 1
        if not missing[user]:
          release(user)

    for i in [i for i, count in enumerate(missing) if not count]:
      release(i)
    while ops or blocks:
      for i in ops:  # Which grows meanwhile.
        finish(i)
      self._import([units[i].items[0] for i in ops])
      done = list(blocks)
      del ops[:], blocks[:]
      self._make([units[i] for i in done])
      for i in done:
        finish(i)
    for unit, count in zip(units, missing):
      if count:
        raise control_flow_v1.refused(
            "'{}'".format(unit.items[0]),
            "loops or branches wait for each other there")

  def _maker(self, makers, item):
    """The index of the unit that makes `item`, by the dict `makers`."""
    if item not in makers:
      raise control_flow_v1.refused(
          "'{}'".format(item), "it is read outside of its branch")
    return makers[item]

  def _make(self, units):
    """Builds loops and branches, with one `If` for those on one predicate."""
    branches = collections.OrderedDict()
    for unit in units:
      if unit.predicate is None:
        self._loop(unit.items[0])
      else:
        branches.setdefault(unit.predicate, []).extend(unit.items)
    for predicate, merges in branches.items():
      self._branch(predicate, merges)

  def _cone(self, items, goes_on):
    """The items that some items need, up to those that `goes_on` is false for.

    Args:
      items: list of items.
      goes_on: function from an item to bool.

    Returns:
      (dict from item to the items that it reads and that are not there yet,
      list of the items that are read beyond).
    """
    reads, beyond, stack = collections.OrderedDict(), [], list(items)
    while stack:
      item = stack.pop()
      if item in reads:
        continue
      reads[item] = [
          self._parsed.item(name) for name in self._parsed.inputs(item)
          if name not in self.env]
      for before in reads[item]:
        (stack if goes_on(before) else beyond).append(before)
    return reads, beyond

  def _is_inner(self, item):
    """Whether an item lies in a branch that is not open here."""
    guards = self._parsed.guards[item]
    if control_flow_v1.BOTH in guards.values():
      raise control_flow_v1.refused(
          "'{}'".format(item), "it needs both sides of a branch")
    return any(key not in self._opened for key in guards)

  def _units(self, items):
    """The list of `_Unit` to be made in this body for `items`."""
    parsed = self._parsed
    needed, _ = self._cone(items, lambda item: True)
    own = sorted((item for item in needed if not self._is_inner(item)),
                 key=lambda item: parsed.positions.get(item, -1))
    made_here, units = frozenset(own), []
    for item in own:
      if item not in parsed.joints:
        waits = [before for before in map(
            parsed.item, parsed.waits.get(item, ())) if before in made_here]
        units.append(_Unit([item], None, needed[item] + waits, None))
    return units + self._joined([item for item in own if item in parsed.joints])

  def _joined(self, merges):
    """Groups the `Merge` ops whose branches share ops into units.

    Two branches on one predicate may need each other's results, so that they
    cannot become one op; two results of one branch may come from one random
    number, so that they have to. What the gradient of a branch reads of the
    branch itself is computed once more.

    Args:
      merges: list of the names of the `Merge` ops.

    Returns:
      list of `_Unit`.
    """
    units = []
    for merge in merges:
      predicate = self._parsed.joints[merge][0]
      inside, beyond = self._cone([merge], lambda item, key=predicate: (
          key in self._parsed.guards[item]))
      unit = _Unit([merge], predicate, beyond, frozenset(inside))
      for earlier in list(units):
        shared = earlier.inside & unit.inside
        if earlier.predicate == predicate and shared and not (
            all(map(self._may_be_twice, shared)) and (
                self._is_after(earlier, unit) or self._is_after(unit, earlier))
        ):
          units.remove(earlier)
          unit = _Unit(earlier.items + unit.items, predicate,
                       earlier.reads + unit.reads,
                       earlier.inside | unit.inside)
      units.append(unit)
    return units

  def _is_after(self, unit, other):
    """Whether a `_Unit` needs what another one makes."""
    needed, _ = self._cone(unit.reads, lambda item: True)
    return any(item in needed for item in other.items)

  def _may_be_twice(self, item):
    """Whether an item gives the same if it is computed once more."""
    if isinstance(item, tuple):
      return False
    node = self._parsed.nodes[item]
    return not (op_types.RANDOM.search(node.op) or _calls(
        node, self._parsed.functions) or op_types.ASSIGNING.search(node.op) or
                op_types.WAITING.search(node.op))

  def _import(self, names):
    """Builds the ops called `names`, which are no loops and no branches."""
    if not names:
      return
    nodes = [node for name in names for node in self._parsed.ops(name)]
    library = self._parsed.functions
    functions = (library.values() if any(_calls(node, library)
                                         for node in nodes) else ())
    made = {node.name for node in nodes}
    read = {name for node in nodes for name in node.input
            if control_flow_v1.op_of(name) not in made}
    graph = tf.get_default_graph()
    new = _tf.import_nodes(
        graph, nodes, {name: self._tensor(name) for name in sorted(read)}, "",
        functions)
    ops = [new[name] for name in names]
    for name, op in zip(names, ops):
      self.env["^" + name] = op
      for i, tensor in enumerate(op.outputs):
        self.env.setdefault("{}:{}".format(name, i), tensor)
    for name, op in zip(names, ops):
      before = [self.env["^" + waited] for waited in self._parsed.waits[name]
                if "^" + waited in self.env]
      before = [waited for waited in before if waited.graph is graph]
      if before:
        _tf.add_control_inputs(op, before)

  def _branch(self, predicate, merges):
    """Builds the `If` that the `Merge` ops on one predicate become.

    Args:
      predicate: str, the name of a tensor.
      merges: list of the names of the `Merge` ops.
    """
    def side(index):
      scope = _Scope(self._parsed, self.env, self._opened | {predicate})
      return scope.tensors(
          [self._parsed.joints[name][index] for name in merges])

    results = tf.cond(self._tensor(predicate), lambda: side(2),
                      lambda: side(1), strict=True)
    for name, result in zip(merges, results):
      self._finish(name, result)

  def _loop(self, frame):
    """Builds the `While` that a frame becomes, a tuple of names of frames."""
    loop = self._parsed.loops[frame]
    if len(loop.predicates) != 1 or not loop.variables:
      raise control_flow_v1.refused(
          "The loop '{}'".format(frame[-1]), "not all of it is here")
    starts = [self._tensor(name) for name, _ in loop.variables.values()]
    static = self._parsed.static_shape
    shapes = [_start_shape(static(name + ":0"), start.shape)
              for name, start in zip(loop.variables, starts)]
    results = None
    while results is None:
      try:
        results = self._while(loop, starts, shapes)
      except _WiderShapes as error:
        shapes = error.args[0]
    results = dict(zip(loop.variables, results))
    for name in loop.exits:
      variable = self._parsed.resolve(self._parsed.reads[name][0])
      self._finish(name, results[control_flow_v1.op_of(variable)])

  def _while(self, loop, starts, shapes):
    """Builds a `While` whose variables have certain static shapes.

    Args:
      loop: one of the values of `ParsedControlFlow.loops`.
      starts: list of `tf.Tensor`, the first values of its variables.
      shapes: list of `tf.TensorShape`, those of the variables at each turn.

    Returns:
      list of `tf.Tensor`, the last values.

    Raises:
      _WiderShapes: a turn changes the shape of a variable.
    """
    static = self._parsed.static_shape
    ends = [end for _, end in loop.variables.values()]
    turns = self._parsed.nodes[loop.enters[0]].attr["parallel_iterations"].i

    def within(arguments, names):
      scope = _Scope(self._parsed, self.env, self._opened)
      for name, argument in zip(loop.variables, arguments):
        scope.env[name + ":0"] = argument
      return scope.tensors(names)

    def turn(*arguments):
      results = within(arguments, ends)
      for name, shape, result in zip(ends, shapes, results):
        if not tensor_lists.fits(result.shape, shape) and tensor_lists.fits(
            static(name), shape):
          result.set_shape(static(name))  # What only Python knew.
      wider = [tensor_lists.wider(shape, result.shape)
               for shape, result in zip(shapes, results)]
      if not all(map(tensor_lists.fits, wider, shapes)):
        raise _WiderShapes(wider)
      return results

    return tf.while_loop(
        lambda *arguments: within(arguments, loop.predicates)[0], turn,
        list(map(_start, starts, shapes)), shapes,
        parallel_iterations=turns or 10, return_same_structure=True)

  def _tensor(self, name):
    """The tensor called `name`, which is there, captured if it is outside."""
    name = self._parsed.resolve(name)
    self.env[name] = _tf.captured(self.env[name])
    return self.env[name]

  def _finish(self, name, tensor):
    """Records the tensor that the op called `name` became."""
    self.env.setdefault(name + ":0", tensor)
    self.env["^" + name] = tensor.op


class _WiderShapes(Exception):
  """Raised with the list of the shapes that the variables of a loop need."""


def _calls(node, functions):
  """Whether a NodeDef calls a function; `functions` holds names of some."""
  return node.op in functions or bool(_tf.callees(node))


def _start(tensor, shape):
  """The first value of a loop's variable, with the static shape `shape`.

  If TensorFlow knew more of the shape of the first value, it would rely on that
  at each turn when it simplifies the loop. So this is hidden from it.
  """
  if tensor_lists.dims_of(tensor.shape) == tensor_lists.dims_of(shape):
    return tensor
  tensor = tf.reshape(tensor, tf.placeholder_with_default(
      tf.shape(tensor), [shape.rank]))
  tensor.set_shape(shape)
  return tensor


def _start_shape(static, start):
  """The static shape to try for a loop's variable.

  Args:
    static: `tf.TensorShape` that it has in the original graph.
    start: `tf.TensorShape` of its first value.
  """
  return start if static.rank is None else tensor_lists.wider(static, start)
