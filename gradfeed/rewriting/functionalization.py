"""Turns loops and branches of control flow v1 into functional ops.

Control flow v1 has no gradient of its gradient and cannot be vectorized. Its
functional form (`While`, `If`, lists for tensor arrays) has both. What the
loops and branches are is read from the nodes (`control_flow_v1`); here they are
made, as functions that capture what they read from outside.
"""

import collections

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import op_types
from gradfeed.rewriting import control_flow_v1
from gradfeed.rewriting import tensor_lists

_Unit = collections.namedtuple(
    "_Unit", ["items", "predicate", "reads", "inside"])


def is_needed(nodes):
  """Whether a node of `nodes` is control flow v1 or a tensor array.

  Args:
    nodes: list of NodeDef.
  """
  return any(node.op in op_types.CONTROL_FLOW_V1 or
             node.op.startswith(op_types.TENSOR_ARRAY) for node in nodes)


def emit(nodes, values, shape_of, library=()):
  """Makes the ops of `nodes` with loops and branches in functional form.

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
  part = control_flow_v1.ParsedControlFlow(nodes, values, shape_of, library)
  scope = _Scope(part, values, frozenset())
  scope.emit(part.outside())
  return {name: tensor for name, tensor in scope.env.items()
          if name not in values and not name.startswith("^")
          and control_flow_v1.op_of(name) not in part.lists}


class _Scope:
  """The body of one function: each op is made as soon as what it reads is.

  Attributes:
    env: dict from the name of a tensor to the `tf.Tensor` that it is here, and
      from "^" with the name of an op to the `tf.Operation`.
  """

  def __init__(self, part, env, opened):
    self.env = dict(env)
    self._opened = opened
    self._part = part

  def tensors(self, names):
    """Makes the tensors called `names`."""
    names = [self._part.resolve(name) for name in names]
    self.emit([self._part.item(name) for name in names
               if name not in self.env])
    return [self.env[name] for name in names]

  def emit(self, items):
    """Makes items, with all that they need and that is not there yet."""
    units = self._units(items)
    makers = {item: i for i, unit in enumerate(units) for item in unit.items}
    missing, users = [], collections.defaultdict(list)
    for i, unit in enumerate(units):
      before = {self._maker(makers, item) for item in unit.reads}
      missing.append(len(before))
      for other in before:
        users[other].append(i)
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
    if item not in makers:
      raise control_flow_v1.refused(
          "'{}'".format(item), "it is read outside of its branch")
    return makers[item]

  def _make(self, units):
    """Makes loops and branches; one `If` of those on one predicate."""
    branches = collections.OrderedDict()
    for unit in units:
      if unit.predicate is None:
        self._loop(unit.items[0])
      else:
        branches.setdefault(unit.predicate, []).extend(unit.items)
    for predicate, merges in branches.items():
      self._branch(predicate, merges)

  def _cone(self, items, goes_on):
    """What lies above items, up to the items that `goes_on` is false for.

    Returns:
      (dict from item to the items that it reads and that are not there yet,
      list of the items that are read beyond).
    """
    found, beyond, stack = collections.OrderedDict(), [], list(items)
    while stack:
      item = stack.pop()
      if item in found:
        continue
      found[item] = [self._part.item(name) for name in self._part.inputs(item)
                     if name not in self.env]
      for before in found[item]:
        (stack if goes_on(before) else beyond).append(before)
    return found, beyond

  def _is_inner(self, item):
    """Whether an item lies in a branch that is not open here."""
    guards = self._part.guards[item]
    if control_flow_v1.BOTH in guards.values():
      raise control_flow_v1.refused(
          "'{}'".format(item), "it needs both sides of a branch")
    return any(key not in self._opened for key in guards)

  def _units(self, items):
    """What has to be made here for `items`: ops, loops, joints of branches."""
    part = self._part
    needed, _ = self._cone(items, lambda item: True)
    own = sorted((item for item in needed if not self._is_inner(item)),
                 key=lambda item: part.places.get(item, -1))
    known, units = frozenset(own), []
    for item in own:
      if item not in part.joints:
        waits = [before for before in map(
            part.item, part.waits.get(item, ())) if before in known]
        units.append(_Unit([item], None, needed[item] + waits, None))
    return units + self._joined([item for item in own if item in part.joints])

  def _joined(self, merges):
    """Units of the joints that share ops of their branches.

    Two branches on one predicate may need each other's results, so that they
    cannot become one op; two results of one branch may come from one random
    number, so that they have to.
    """
    units = []
    for merge in merges:
      predicate = self._part.joints[merge][0]
      inside, beyond = self._cone([merge], lambda item, key=predicate: (
          key in self._part.guards[item]))
      unit = _Unit([merge], predicate, beyond, frozenset(inside))
      for other in list(units):
        if other.predicate == predicate and other.inside & unit.inside:
          units.remove(other)
          unit = _Unit(other.items + unit.items, predicate,
                       other.reads + unit.reads, other.inside | unit.inside)
      units.append(unit)
    return units

  def _import(self, names):
    """Makes ops that need no other form than their own."""
    if not names:
      return
    graph, graph_def = tf.get_default_graph(), tf.GraphDef()
    graph_def.versions.CopyFrom(graph.graph_def_versions)
    for name in names:
      graph_def.node.extend(self._part.ops(name))
    if any(_calls(node, self._part.functions) for node in graph_def.node):
      graph_def.library.function.extend(self._part.functions.values())
    made = {node.name for node in graph_def.node}
    read = {name for node in graph_def.node for name in node.input
            if control_flow_v1.op_of(name) not in made}
    ops = tf.import_graph_def(
        graph_def, name="", return_elements=names,
        input_map={name: self._tensor(name) for name in sorted(read)})
    for name, op in zip(names, ops):
      self.env["^" + name] = op
      for i, tensor in enumerate(op.outputs):
        self.env.setdefault("{}:{}".format(name, i), tensor)
    for name, op in zip(names, ops):
      before = [self.env["^" + other] for other in self._part.waits[name]
                if "^" + other in self.env]
      before = [other for other in before if other.graph is graph]
      if before:
        _tf.add_control_inputs(op, before)

  def _branch(self, predicate, merges):
    """Makes the `If` that the joints `merges` on one predicate become."""
    def side(index):
      scope = _Scope(self._part, self.env, self._opened | {predicate})
      return scope.tensors([self._part.joints[name][index] for name in merges])

    results = tf.cond(self._tensor(predicate), lambda: side(2),
                      lambda: side(1), strict=True)
    for name, result in zip(merges, results):
      self._finish(name, result)

  def _loop(self, frame):
    """Makes the `While` that a frame becomes."""
    loop = self._part.loops[frame]
    if len(loop.predicates) != 1 or not loop.variables:
      raise control_flow_v1.refused(
          "The loop '{}'".format(frame[-1]), "not all of it is here")
    starts, ends = zip(*loop.variables.values())
    starts = [self._tensor(name) for name in starts]
    static = self._part.static_shape
    shapes = [_start_shape(static(name + ":0"), start.shape)
              for name, start in zip(loop.variables, starts)]
    turns = self._part.nodes[loop.enters[0]].attr["parallel_iterations"].i

    def within(arguments, names):
      scope = _Scope(self._part, self.env, self._opened)
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

    results = None
    while results is None:
      try:
        results = tf.while_loop(
            lambda *arguments: within(arguments, loop.predicates)[0], turn,
            list(map(_start, starts, shapes)), shapes,
            parallel_iterations=turns or 10,
            return_same_structure=True)
      except _WiderShapes as found:
        shapes = found.args[0]
    results = dict(zip(loop.variables, results))
    for name in loop.exits:
      variable = self._part.resolve(self._part.reads[name][0])
      self._finish(name, results[control_flow_v1.op_of(variable)])

  def _tensor(self, name):
    """A tensor that is there, as one of the function that is built."""
    name = self._part.resolve(name)
    self.env[name] = _tf.captured(self.env[name])
    return self.env[name]

  def _finish(self, name, tensor):
    self.env.setdefault(name + ":0", tensor)
    self.env["^" + name] = tensor.op


class _WiderShapes(Exception):
  """The shapes that the variables of a loop turn out to have."""


def _calls(node, functions):
  return node.op in functions or any(
      value.HasField("func") or value.list.func
      for value in node.attr.values())


def _start(tensor, shape):
  """The start of a loop's variable of which only `shape` holds at each turn.

  Where TensorFlow knows more of the start it takes that to hold for the turns
  too, when it simplifies a loop: so it must not know.
  """
  if tensor_lists.dims_of(tensor.shape) == tensor_lists.dims_of(shape):
    return tensor
  tensor = tf.reshape(tensor, tf.placeholder_with_default(
      tf.shape(tensor), [shape.rank]))
  tensor.set_shape(shape)
  return tensor


def _start_shape(known, start):
  return start if known.rank is None else tensor_lists.wider(known, start)
