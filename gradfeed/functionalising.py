"""Turns loops and branches of control flow v1 into functional ops.

Control flow v1 has no gradient of its gradient and cannot be vectorised. Its
functional form (`While`, `If`, lists for tensor arrays) has both. Nodes are
all that is read, as a frozen graph has no more:

* A loop is a frame: its variables are the `Merge` ops that `NextIteration`
  leads back to, its condition is `LoopCond`.
* A branch is what lies between the `Switch` ops on one predicate and the
  `Merge` that joins both sides. Which side an op is on is its *guards*: a dict
  from predicate to side, one for each branch around it.
* A tensor array becomes a list that is handed from op to op where its flow
  was; its handle is gone.

`Enter` of a constant, `Switch` and `LoopCond` hand a value on: they are other
names for it. Functions capture what they read from outside.
"""

import collections
import re

from gradfeed import _tf
from gradfeed import errors
from gradfeed._tf import tf

_CONTROL = re.compile(
    r"(Ref)?(Enter|Exit|Merge|Switch|NextIteration)$|LoopCond$")
_ARRAY = re.compile(r"TensorArray")
_STACK = re.compile(r"Stack(Push|Pop|Close)?(V2)?$")

#: Ops that hand on what goes in, a list or a handle too.
_PASSING = frozenset([
    "Enter", "Exit", "Identity", "Merge", "NextIteration", "Switch"])

_SHAPE, _LEADING = "element_shape", "leading_dims"  # Inputs that lists add.

#: Op of a tensor array to the op of a list, and its inputs: indices of inputs
#: of the tensor array's op, or one that is added. Elements are never gathered
#: from a list or scattered into one: the one is the gradient of the other, and
#: where TensorFlow vectorises a gather, it mixes up the axes.
_LISTS = {
    "TensorArrayV3": ("TensorListReserve", (_SHAPE, 0)),
    "TensorArrayReadV3": ("TensorListGetItem", (2, 1, _SHAPE)),
    "TensorArrayWriteV3": ("TensorListSetItem", (3, 1, 2)),
    "TensorArrayScatterV3": ("TensorListFromTensor", (2, _SHAPE)),
    "TensorArrayGatherV3": ("TensorListStack", (2, _SHAPE)),
    "TensorArraySizeV3": ("TensorListLength", (1,)),
    "TensorArrayConcatV3": ("TensorListConcatV2", (1, _SHAPE, _LEADING)),
    "TensorArraySplitV3": ("TensorListSplit", (1, _SHAPE, 2)),
}
_OF_ALL = ("TensorArrayGatherV3", "TensorArrayScatterV3")
_SHAPE_TYPED = ("TensorListReserve", "TensorListConcatV2", "TensorListSplit",
                "TensorListFromTensor")

#: Ops that write: which input is written, how many axes are not elements'.
_WRITES = {"TensorArrayWriteV3": (2, 0), "TensorArrayScatterV3": (2, 1)}
_FLOWS = frozenset(_WRITES) | {"TensorArrayV3", "TensorArraySplitV3"}

_BOTH = 2  # The side of what needs both branches of one predicate: it is dead.

_Loop = collections.namedtuple(
    "_Loop", ["enters", "variables", "predicates", "exits"])
_Unit = collections.namedtuple(
    "_Unit", ["items", "predicate", "reads", "inside"])


def is_needed(nodes):
  """Whether a node of `nodes` is control flow v1 or a tensor array.

  Args:
    nodes: list of NodeDef.
  """
  return any(_CONTROL.match(node.op) or _ARRAY.match(node.op)
             for node in nodes)


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
  part = _Part(nodes, values, shape_of, library)
  scope = _Scope(part, values, frozenset())
  scope.emit(part.outside())
  return {name: tensor for name, tensor in scope.env.items()
          if name not in values and not name.startswith("^")
          and _op(name) not in part.lists}


class _Part:
  """What the nodes say: frames, guards, tensor arrays, other names.

  An *item* is what is made as one: an op, by name, or a loop, by the tuple of
  the names of the frames that it is in.

  Attributes:
    nodes: dict from name to NodeDef.
    places: dict from name to index in `nodes`.
    reads: dict from op name to the names of the tensors it reads.
    waits: dict from op name to the names of the ops it waits for.
    loops: dict from tuple of frame names to `_Loop`.
    guards: dict from item to its guards.
    joints: dict from the name of the `Merge` of a branch to (predicate, tensor
      if false, tensor if true).
    lists: set of the names of the ops whose output is a list.
    functions: dict from name to FunctionDef.
  """

  def __init__(self, nodes, values, shape_of, library):
    self._values = values
    self.functions = {function.signature.name: function
                      for function in library}
    self.nodes = collections.OrderedDict(
        (node.name, node) for node in map(_without_references, nodes))
    self.reads = {node.name: [self._read(name) for name in node.input
                              if not name.startswith("^")]
                  for node in self.nodes.values()}
    self.waits = {node.name: [name[1:] for name in node.input if
                              name.startswith("^") and name[1:] in self.nodes]
                  for node in self.nodes.values()}
    self.places = {name: i for i, name in enumerate(self.nodes)}
    self._shape_of = shape_of
    self._shapes_hold = all(
        _holds(shape_of(name), value.shape) for name, value in values.items())
    self._refuse()
    self._frames = self._find_frames()
    self._aliases, self.loops = {}, {}
    self._find_loops()
    self.guards, self.joints = {}, {}
    self._find_guards()
    self.lists = self._find_lists()
    self._element_shapes = self._find_element_shapes()

  def resolve(self, name):
    """The name under which the value of a tensor is known."""
    while name in self._aliases and name not in self._values:
      name = self._aliases[name]
    return name

  def handle(self, name):
    """The name of the tensor array that a tensor is the handle of, or None."""
    name = self._origin(name)
    if self._type(name) == "TensorArrayV3" and name.endswith(":1"):
      return _op(name)
    return None

  def _origin(self, name):
    name = self.resolve(name)
    while self._type(name) == "Identity":
      name = self.resolve(self.reads[_op(name)][0])
    return name

  def item(self, name):
    """The item that makes a tensor."""
    if _op(name) not in self.nodes:
      raise _refused("'{}'".format(name), "nothing here makes it")
    is_exit = self.nodes[_op(name)].op == "Exit"
    return self._frames[_op(name)] if is_exit else _op(name)

  def inputs(self, item):
    """The tensors that an item needs, each once known by another name."""
    if isinstance(item, tuple):
      names = [self.reads[enter][0] for enter in self.loops[item].enters]
    else:
      names = self.joints.get(item, self.reads[item])
    return [self.resolve(name) for name in names if not self.handle(name)]

  def outside(self):
    """The items that are in no loop and no branch."""
    items = [
        name for name, node in self.nodes.items()
        if name not in self._frames and not self.guards[name]
        and name + ":0" not in self._values
        and not self.handle(name + ":0")
        and (node.op == "Merge" or not _CONTROL.match(node.op))
        and node.op != "TensorArrayCloseV3"]
    return items + [frame for frame in self.loops
                    if len(frame) == 1 and not self.guards[frame]]

  def static_shape(self, name):
    """The shape that a tensor has whatever is read in the place of `values`."""
    return self._shape_of(name) if self._shapes_hold else tf.TensorShape(None)

  def ops(self, name):
    """The nodes that do what a node does, without control inputs."""
    node, reads = self.nodes[name], self.inputs(name)
    if _CONTROL.match(node.op):
      raise _refused("{} '{}'".format(node.op, name), "nothing tells which "
                     "loop or which branch it belongs to")
    if node.op == "TensorArrayScatterV3" and not (
        self._is_in_order(self.reads[name][1]) and
        self._type(self._origin(self.reads[name][3])) == "TensorArrayV3"):
      raise _refused("{} '{}'".format(node.op, name), "it does not fill an "
                     "empty array from its start")
    if node.op in _LISTS:
      array = name if node.op == "TensorArrayV3" else self.handle(
          self.reads[name][0])
      return _list_ops(
          node, list(map(self.resolve, self.reads[name])),
          node.op in _OF_ALL and self._is_whole(name),
          self._element_shapes[array],
          self.nodes[array].attr["dynamic_size"].b)
    plain = _node(name, node.op, reads)
    for key, value in node.attr.items():
      if key != "_class":  # The place of an op that may be somewhere else.
        plain.attr[key].CopyFrom(value)
    if name in self.lists:
      plain.attr["T"].type = tf.variant.as_datatype_enum
    plain.device = node.device
    return [plain]

  def _is_in_order(self, name):
    """Whether indices count from 0."""
    indices = self._origin(name)
    if self._type(indices) == "Range":
      start, _, step = self.reads[_op(indices)]
      return (self._constant(start), self._constant(step)) == (0, 1)
    constant = self._constant(indices)
    return constant is not None and list(constant) == list(
        range(len(constant)))

  def _is_whole(self, name):
    """Whether an op gathers or scatters a whole tensor array, in order."""
    reads = self.reads[name]
    if self.nodes[name].op == "TensorArrayScatterV3":
      rows = self.static_shape(reads[2])
      return self._users[self.handle(reads[0])] == [name] or (
          rows.rank is not None and self._constant(reads[4]) == _dims(rows)[0])
    indices = self._origin(reads[1])
    if self._type(indices) != "Range" or not self._is_in_order(indices):
      return False
    limit = self._origin(self.reads[_op(indices)][1])
    return self._type(limit) == "TensorArraySizeV3" and (
        list(map(self.resolve, self.reads[_op(limit)])) == [
            self.resolve(reads[0]), self.resolve(reads[2])])

  def _constant(self, name):
    """The value of a constant, or None."""
    name = self._origin(name)
    if self._type(name) != "Const":
      return None
    return tf.make_ndarray(self.nodes[_op(name)].attr["value"].tensor)

  def _read(self, name):
    """The full name of a tensor; the flow of a tensor array comes first.

    Its list will be its only output, and stands where the flow did.
    """
    name = name if ":" in name else name + ":0"
    if self._type(name) == "TensorArrayV3":
      return _op(name) + (":0" if name.endswith(":1") else ":1")
    return name

  def _type(self, tensor):
    node = self.nodes.get(_op(tensor))
    return None if node is None or tensor in self._values else node.op

  def _refuse(self):
    for name, node in self.nodes.items():
      if _STACK.match(node.op) or (_ARRAY.match(node.op) and (
          node.op not in _LISTS and node.op != "TensorArrayCloseV3")):
        raise _refused("{} '{}'".format(node.op, name), "it belongs to the "
                       "gradient of a loop, or keeps a state of an old kind")
      for read in self.reads[name]:
        if self._type(read) == "Merge" and read.endswith(":1"):
          raise _refused("Merge '{}'".format(_op(read)), "{} '{}' reads which "
                         "of its inputs came".format(node.op, name))

  def _find_frames(self):
    """The frames around each op, outermost first: see `copies.frames_of`."""
    frames, changed = {}, any(
        node.op == "Enter" for node in self.nodes.values())

    def after(name):
      is_exit = name in self.nodes and self.nodes[name].op == "Exit"
      return frames.get(name, ())[:-1] if is_exit else frames.get(name, ())

    while changed:
      changed = False
      for name, node in self.nodes.items():
        before = [_op(read) for read in self.reads[name]
                  if read not in self._values] + self.waits[name]
        frame = max(map(after, before), key=len, default=())
        if node.op == "Enter":
          frame += (node.attr["frame_name"].s.decode(),)
        if len(frame) > len(frames.get(name, ())):
          frames[name], changed = frame, True
    return frames

  def _find_loops(self):
    for name, frame in self._frames.items():
      loop = self.loops.setdefault(frame, _Loop([], {}, [], []))
      node, reads = self.nodes[name], self.reads[name]
      if node.op == "Enter":
        loop.enters.append(name)
        if node.attr["is_constant"].b:
          self._aliases[name + ":0"] = reads[0]
      elif node.op == "LoopCond":
        loop.predicates.append(reads[0])
        self._aliases[name + ":0"] = reads[0]
      elif node.op == "Exit":
        loop.exits.append(name)
      elif node.op == "Merge":
        makers = {self._type(read): _op(read) for read in reads}
        if "Enter" in makers and "NextIteration" in makers:
          loop.variables[name] = (self.reads[makers["Enter"]][0],
                                  self.reads[makers["NextIteration"]][0])
    for name, node in self.nodes.items():
      if node.op == "Switch":
        self._aliases[name + ":0"] = self.reads[name][0]
        self._aliases[name + ":1"] = self.reads[name][0]

  def _predicate(self, switch):
    """What all the `Switch` ops of a branch have in common; None in a loop."""
    name = self.reads[switch][1]
    while self._type(name) == "Identity":
      name = self.reads[_op(name)][0]
    return None if self._type(name) == "LoopCond" else name

  def _find_guards(self):
    before = None
    while before != self.guards:  # Until what came late has come to all.
      before = dict(self.guards)
      for frame, loop in self.loops.items():
        self.guards[frame] = _union([
            self._guards_at(self.reads[enter][0]) for enter in loop.enters])
      for name in self.nodes:
        self.guards[name] = self._guards_of(name)

  def _guards_of(self, name):
    frame = self._frames.get(name)
    around = self.guards[frame] if frame else {}
    if self.nodes[name].op == "Merge":
      is_loop = frame and name in self.loops[frame].variables
      return around if is_loop else self._join(name)
    return _union([around] + [self._guards_at(t) for t in self.reads[name]] +
                  [self.guards.get(before, {}) for before in self.waits[name]])

  def _guards_at(self, tensor):
    guards = {}
    if tensor not in self._values:
      guards = self.guards.get(_op(tensor), guards)
      if self._type(tensor) == "Switch":
        predicate = self._predicate(_op(tensor))
        if predicate is not None:
          return _union([guards, {predicate: int(tensor.split(":")[1])}])
    return guards

  def _join(self, name):
    """The guards of the `Merge` of a branch: no more those of its sides.

    A side that was replaced, or a constant, may have lost its guards: then the
    other side tells.
    """
    sides = list(self.reads[name])
    if len(sides) != 2:
      raise _refused("Merge '{}'".format(name), "it joins {} branches".format(
          len(sides)))
    first, second = map(self._guards_at, sides)
    apart = [key for key in list(first) + list(second)
             if first.get(key) != second.get(key)]
    apart.sort(key=lambda key: key in first and key in second)
    guards = _union([first, second])
    self.joints.pop(name, None)
    if apart:
      predicate = apart[-1]
      del guards[predicate]
      if first.get(predicate) == 1 or second.get(predicate) == 0:
        sides.reverse()
      self.joints[name] = (predicate,) + tuple(sides)
    return guards

  def _find_lists(self):
    lists, count = set(), -1
    while count != len(lists):
      count = len(lists)
      lists.update(name for name, node in self.nodes.items() if (
          node.op in _FLOWS or node.op in _PASSING and any(
              _op(read) in lists and not self.handle(read)
              for read in self.reads[name])))
    return lists

  def _find_element_shapes(self):
    """dict from the name of a tensor array to the shape of its elements."""
    written = collections.defaultdict(list)
    self._users = collections.defaultdict(list)
    for name, node in self.nodes.items():
      handles = [self.handle(read) for read in self.reads[name]]
      if _ARRAY.match(node.op):
        if node.op != "TensorArrayV3" and not handles[0]:
          raise _refused("{} '{}'".format(node.op, name),
                         "its tensor array comes from elsewhere")
      elif any(handles) and node.op not in _PASSING:
        raise _refused("{} '{}'".format(node.op, name),
                       "it takes the handle of a tensor array")
      if node.op in _FLOWS or node.op == "TensorArraySizeV3":
        self._users[handles[0]].append(name)
      if node.op == "TensorArrayScatterV3":
        self.reads[name].append(self.reads[handles[0]][0])  # How many.
      if node.op in _WRITES:
        index, skipped = _WRITES[node.op]
        shape = self.static_shape(self.reads[name][index])
        written[handles[0]].append(shape[skipped:])
    return {name: _element_shape(node, written[name])
            for name, node in self.nodes.items() if node.op == "TensorArrayV3"}


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
        raise _refused("'{}'".format(unit.items[0]),
                       "loops or branches wait for each other there")

  def _maker(self, makers, item):
    if item not in makers:
      raise _refused("'{}'".format(item), "it is read outside of its branch")
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
    if _BOTH in guards.values():
      raise _refused("'{}'".format(item), "it needs both sides of a branch")
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
    ops = tf.import_graph_def(
        graph_def, name="", return_elements=names,
        input_map={name: self._tensor(name) for node in graph_def.node
                   for name in node.input if _op(name) not in made})
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
      raise _refused("The loop '{}'".format(frame[-1]), "not all of it is here")
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
        if not _fits(result.shape, shape) and _fits(static(name), shape):
          result.set_shape(static(name))  # What only Python knew.
      wider = [_wider(shape, result.shape)
               for shape, result in zip(shapes, results)]
      if not all(map(_fits, wider, shapes)):
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
      self._finish(name, results[_op(variable)])

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


def _refused(what, why):
  return errors.UnsupportedGraphError(
      "{} has no functional form.".format(what),
      "A second gradient of control flow v1, and many at once, need loops and "
      "branches as functions, and {}.".format(why),
      "Leave it out of what is between y and x, or build it with "
      "tf.enable_control_flow_v2().")


def _without_references(node):
  copy = type(node)()
  copy.CopyFrom(node)
  if _CONTROL.match(copy.op) and copy.op.startswith("Ref"):
    copy.op = copy.op[len("Ref"):]
  return copy


def _op(name):
  """The name of the op of a tensor."""
  return name.split(":")[0]


def _union(all_guards):
  """Guards that are the union; `_BOTH` where they contradict each other."""
  union = collections.OrderedDict()
  for guards in all_guards:
    for key, side in guards.items():
      union[key] = side if union.get(key, side) == side else _BOTH
  return union


def _calls(node, functions):
  return node.op in functions or any(
      value.HasField("func") or value.list.func
      for value in node.attr.values())


def _node(name, op, inputs, **types):
  node = tf.NodeDef(name=name, op=op, input=inputs)
  for key, dtype in types.items():
    node.attr[key].type = dtype
  return node


def _constant_node(name, value, dtype):
  node = _node(name, "Const", [], dtype=dtype.as_datatype_enum)
  node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype))
  return node


def _list_ops(node, reads, is_whole, element_shape, is_growing):
  """The nodes that do to a list what `node` does to a tensor array.

  Args:
    node: NodeDef of a type in `_LISTS`.
    reads: list of the names of the tensors that it reads.
    is_whole: bool; it gathers or scatters all elements in order.
    element_shape: `tf.TensorShape`, as far as it is known.
    is_growing: bool; a write may be beyond the end.
  """
  op, inputs = _LISTS[node.op]
  if op in ("TensorListConcatV2", "TensorListSplit"):
    element_shape = tf.TensorShape([None]).concatenate(element_shape[1:])
  dims = _dims(element_shape)
  if dims is not None:
    dims = [-1 if size is None else size for size in dims]
  name = node.name + "/"
  added = {
      _SHAPE: _constant_node(
          name + _SHAPE, -1 if dims is None else dims, tf.int32),
      _LEADING: _constant_node(name + _LEADING, [], tf.int64)}
  nodes = [added[key] for key in inputs if key in added]
  listed = _node(node.name, op, [
      added[key].name + ":0" if key in added else reads[key]
      for key in inputs])
  if op != "TensorListLength":
    key = "dtype" if "dtype" in node.attr else "T"
    listed.attr["element_dtype"].type = node.attr[key].type
  if op in _SHAPE_TYPED:
    listed.attr["shape_type"].type = tf.int32.as_datatype_enum
  nodes.append(listed)
  if op == "TensorListSetItem" and is_growing:
    nodes += _grown(listed)
  elif op == "TensorListStack" and not is_whole:
    nodes += _picked(listed, reads[1])
  elif op == "TensorListFromTensor" and not is_whole:
    nodes += _lengthened(listed, reads[4])
  return nodes


def _picked(stack, indices):
  """Nodes that pick elements of `stack`, whose name they take.

  They are picked along the second axis: the gradient of a pick along the first
  is sparse, which the gradient of a stack cannot take on TF 1.
  """
  integer = tf.int32.as_datatype_enum
  dtype, name = stack.attr["element_dtype"].type, stack.name
  stack.name += "/stack"
  first = _constant_node(name + "/first", 0, tf.int32)
  axis = _constant_node(name + "/axis", 1, tf.int32)
  row = _node(name + "/row", "ExpandDims", [
      stack.name + ":0", first.name + ":0"], T=dtype, Tdim=integer)
  picked = _node(name + "/picked", "GatherV2", [
      row.name + ":0", indices, axis.name + ":0"],
                 Tparams=dtype, Tindices=integer, Taxis=integer)
  result = _node(name, "Squeeze", [picked.name + ":0"], T=dtype)
  result.attr["squeeze_dims"].list.i.append(0)
  return [first, axis, row, picked, result]


def _lengthened(unstack, size):
  """Nodes that make a list of at least `size`, and take its name."""
  name = unstack.name
  unstack.name += "/list"
  length = _node(name + "/length", "TensorListLength", [unstack.name + ":0"])
  most = _node(name + "/size", "Maximum", [length.name + ":0", size],
               T=tf.int32.as_datatype_enum)
  return [length, most, _node(name, "TensorListResize", [
      unstack.name + ":0", most.name + ":0"])]


def _grown(write):
  """Nodes that make a list long enough for `write`, which is changed."""
  integer = tf.int32.as_datatype_enum
  name = write.name + "/{}"
  nodes = [
      _node(name.format("length"), "TensorListLength", write.input[:1]),
      _constant_node(name.format("one"), 1, tf.int32),
      _node(name.format("end"), "AddV2", [
          write.input[1], name.format("one:0")], T=integer),
      _node(name.format("size"), "Maximum", [
          name.format("length:0"), name.format("end:0")], T=integer),
      _node(name.format("grown"), "TensorListResize", [
          write.input[0], name.format("size:0")])]
  write.input[0] = name.format("grown:0")
  return nodes


def _element_shape(node, written):
  """The static shape of the elements of a tensor array.

  Args:
    node: NodeDef of the tensor array.
    written: list of `tf.TensorShape`, of all that is written to it.
  """
  shape = tf.TensorShape(node.attr["element_shape"].shape)
  for other in written:
    if not node.attr["identical_element_shapes"].b or (
        not shape.is_compatible_with(other)):
      return tf.TensorShape(None)
    shape = shape.merge_with(other)
  return shape


def _dims(shape):
  return None if shape.rank is None else tuple(shape.as_list())


def _wider(shape, other):
  """The narrowest shape that both fit."""
  if shape.rank is None or shape.rank != other.rank:
    return tf.TensorShape(None)
  return tf.TensorShape([
      a if a == b else None for a, b in zip(_dims(shape), _dims(other))])


def _fits(shape, wide):
  return _dims(_wider(shape, wide)) == _dims(wide)


def _holds(original, shape):
  """Whether what is known of a tensor is true of what is read in its place.

  The value of a variable in the place of its handle has another rank.
  """
  if None not in (original.rank, shape.rank) and original.rank != shape.rank:
    return True
  return _fits(shape, original)


def _start(tensor, shape):
  """The start of a loop's variable of which only `shape` holds at each turn.

  Where TensorFlow knows more of the start it takes that to hold for the turns
  too, when it simplifies a loop: so it must not know.
  """
  if _dims(tensor.shape) == _dims(shape):
    return tensor
  tensor = tf.reshape(tensor, tf.placeholder_with_default(
      tf.shape(tensor), [shape.rank]))
  tensor.set_shape(shape)
  return tensor


def _start_shape(known, start):
  return start if known.rank is None else _wider(known, start)
