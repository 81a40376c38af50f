"""Finds the loops and branches of control flow v1 in the nodes of a graph.

Nothing but the nodes is read, as a frozen graph has nothing else:

* A loop is a frame: its variables are the `Merge` ops that `NextIteration`
  leads back to, its condition is `LoopCond`.
* A branch is what lies between the `Switch` ops on one predicate and the
  `Merge` that joins both sides. Which side an op is on is its *guards*: a dict
  from predicate to side, one for each branch around it.
* A tensor array becomes a list that is passed from op to op where its flow
  was; its handle is gone.

The outputs of `Enter` of a constant, `Switch` and `LoopCond` are aliases: other
names for the value that these ops read.
"""

import collections
import copy

from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import op_types
from gradfeed.rewriting import tensor_lists

BOTH = 2  # The side of what needs both sides of one branch, and so never runs.

#: The names of the ops of a loop: `enters`, list; `variables`, dict from each
#: `Merge` to the tensors that are its first and its next value; `predicates`,
#: list with the tensor that `LoopCond` reads; `exits`, list.
_Loop = collections.namedtuple(
    "_Loop", ["enters", "variables", "predicates", "exits"])


class ParsedControlFlow:
  """The frames, guards, tensor arrays and aliases that nodes have.

  An *item* is what is built in one step: an op, given by its name, or a loop,
  given by the tuple of the names of the frames around its ops.

  Attributes:
    nodes: dict from name to NodeDef.
    positions: dict from name to index in `nodes`.
    reads: dict from op name to the names of the tensors it reads.
    waits: dict from op name to the names of its control inputs.
    loops: dict from tuple of frame names to `_Loop`.
    guards: dict from item to its guards.
    joints: dict from the name of the `Merge` of a branch to (predicate, tensor
      if false, tensor if true).
    lists: set of the names of the ops whose output is a list.
    functions: dict from name to FunctionDef.
  """

  def __init__(self, nodes, values, shape_of, library):
    """Parses nodes; the arguments are those of `functionalization.emit`."""
    self._values = values
    self.functions = {f.signature.name: f for f in library}
    self.nodes = collections.OrderedDict(
        (node.name, node) for node in map(_without_references, nodes))
    self.reads = {node.name: [self._read(name) for name in node.input
                              if not name.startswith("^")]
                  for node in self.nodes.values()}
    self.waits = {node.name: [name[1:] for name in node.input if
                              name.startswith("^") and name[1:] in self.nodes]
                  for node in self.nodes.values()}
    self.positions = {name: i for i, name in enumerate(self.nodes)}
    self._shape_of = shape_of
    self._shapes_hold = all(
        tensor_lists.holds(shape_of(name), value.shape)
        for name, value in values.items())
    self._refuse()
    self._frames = self._find_frames()
    self._aliases, self.loops = {}, {}
    self._find_loops()
    self.guards, self.joints = {}, {}
    self._find_guards()
    self.lists = self._find_lists()
    self._element_shapes = self._find_element_shapes()

  def resolve(self, name):
    """The name, no alias, of the tensor that has the value of one."""
    while name in self._aliases and name not in self._values:
      name = self._aliases[name]
    return name

  def handle(self, name):
    """The name of the TensorArrayV3 that makes a handle, or None."""
    name = self._origin(name)
    if self._type(name) == "TensorArrayV3" and name.endswith(":1"):
      return op_of(name)
    return None

  def _origin(self, name):
    """`resolve`, and also through `Identity`."""
    name = self.resolve(name)
    while self._type(name) == "Identity":
      name = self.resolve(self.reads[op_of(name)][0])
    return name

  def item(self, name):
    """The item that makes the tensor called `name`."""
    if op_of(name) not in self.nodes:
      raise refused("'{}'".format(name), "nothing here makes it")
    is_exit = self.nodes[op_of(name)].op == "Exit"
    return self._frames[op_of(name)] if is_exit else op_of(name)

  def inputs(self, item):
    """The names of the tensors that an item reads, without aliases."""
    if isinstance(item, tuple):
      names = [self.reads[enter][0] for enter in self.loops[item].enters]
    else:
      names = self.joints.get(item, self.reads[item])
    return [self.resolve(name) for name in names if not self.handle(name)]

  def outside(self):
    """The list of the items that are in no loop and no branch."""
    items = [
        name for name, node in self.nodes.items()
        if name not in self._frames and not self.guards[name]
        and name + ":0" not in self._values
        and not self.handle(name + ":0")
        and (node.op == "Merge" or node.op not in op_types.CONTROL_FLOW_V1)
        and node.op != "TensorArrayCloseV3"]
    return items + [frame for frame in self.loops
                    if len(frame) == 1 and not self.guards[frame]]

  def static_shape(self, name):
    """The static shape of a tensor; unknown where `values` may change it."""
    return self._shape_of(name) if self._shapes_hold else tf.TensorShape(None)

  def ops(self, name):
    """The list of NodeDef that do what a node does, without control inputs."""
    node, reads = self.nodes[name], self.inputs(name)
    if node.op in op_types.CONTROL_FLOW_V1:
      raise refused("{} '{}'".format(node.op, name), "nothing tells which "
                    "loop or which branch it belongs to")
    if node.op == "TensorArrayScatterV3" and not (
        self._is_in_order(self.reads[name][1]) and
        self._type(self._origin(self.reads[name][3])) == "TensorArrayV3"):
      raise refused("{} '{}'".format(node.op, name), "it does not fill an "
                    "empty array from its start")
    if node.op in tensor_lists.LISTS:
      array = name if node.op == "TensorArrayV3" else self.handle(
          self.reads[name][0])
      return tensor_lists.ops(
          node, list(map(self.resolve, self.reads[name])),
          node.op in tensor_lists.OF_ALL and self._is_whole(name),
          self._element_shapes[array],
          self.nodes[array].attr["dynamic_size"].b)
    plain = tensor_lists.new_node(name, node.op, reads)
    for key, value in node.attr.items():
      if key != "_class":  # The place of an op that may be somewhere else.
        plain.attr[key].CopyFrom(value)
    if name in self.lists:
      plain.attr["T"].type = tf.variant.as_datatype_enum
    plain.device = node.device
    return [plain]

  def _is_in_order(self, name):
    """Whether a tensor is 0, 1, 2, ... by a Range or a constant."""
    indices = self._origin(name)
    if self._type(indices) == "Range":
      start, _, step = self.reads[op_of(indices)]
      return (self._constant(start), self._constant(step)) == (0, 1)
    constant = self._constant(indices)
    return constant is not None and list(constant) == list(
        range(len(constant)))

  def _is_whole(self, name):
    """Whether an op gathers or scatters all of a tensor array, in order."""
    reads = self.reads[name]
    if self.nodes[name].op == "TensorArrayScatterV3":
      rows = self.static_shape(reads[2])
      return self._users[self.handle(reads[0])] == [name] or (
          rows.rank is not None and
          self._constant(reads[4]) == tensor_lists.dims_of(rows)[0])
    indices = self._origin(reads[1])
    if self._type(indices) != "Range" or not self._is_in_order(indices):
      return False
    limit = self._origin(self.reads[op_of(indices)][1])
    return self._type(limit) == "TensorArraySizeV3" and (
        list(map(self.resolve, self.reads[op_of(limit)])) == [
            self.resolve(reads[0]), self.resolve(reads[2])])

  def _constant(self, name):
    """The value, an array, of a tensor that is a constant, or None."""
    name = self._origin(name)
    if self._type(name) != "Const":
      return None
    return tf.make_ndarray(self.nodes[op_of(name)].attr["value"].tensor)

  def _read(self, name):
    """The name "op:index" of an input; the list of an array is its output 0."""
    name = name if ":" in name else name + ":0"
    if self._type(name) == "TensorArrayV3":
      return op_of(name) + (":0" if name.endswith(":1") else ":1")
    return name

  def _type(self, tensor):
    """The type of the op that makes a tensor; None if it is not built here."""
    node = self.nodes.get(op_of(tensor))
    return None if node is None or tensor in self._values else node.op

  def _refuse(self):
    """Raises `UnsupportedGraphError` for nodes without a functional form."""
    for name, node in self.nodes.items():
      if node.op in op_types.STACK_OPS or (
          node.op.startswith(op_types.TENSOR_ARRAY) and
          node.op not in tensor_lists.LISTS and
          node.op != "TensorArrayCloseV3"):
        raise refused(
            "{} '{}'".format(node.op, name), "it belongs to the "
            "gradient of a loop, or keeps a state of an old kind")
      for read in self.reads[name]:
        if self._type(read) == "Merge" and read.endswith(":1"):
          raise refused(
              "Merge '{}'".format(op_of(read)), "{} '{}' reads which "
              "of its inputs came".format(node.op, name))

  def _find_frames(self):
    """dict from op name to the names of the frames around, outermost first."""
    frames, changed = {}, any(
        node.op == "Enter" for node in self.nodes.values())

    def after(name):
      is_exit = name in self.nodes and self.nodes[name].op == "Exit"
      return frames.get(name, ())[:-1] if is_exit else frames.get(name, ())

    while changed:
      changed = False
      for name, node in self.nodes.items():
        before = [op_of(read) for read in self.reads[name]
                  if read not in self._values] + self.waits[name]
        frame = max(map(after, before), key=len, default=())
        if node.op == "Enter":
          frame += (node.attr["frame_name"].s.decode(),)
        if len(frame) > len(frames.get(name, ())):
          frames[name], changed = frame, True
    return frames

  def _find_loops(self):
    """Fills `loops` and the aliases."""
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
        makers = {self._type(read): op_of(read) for read in reads}
        if "Enter" in makers and "NextIteration" in makers:
          loop.variables[name] = (self.reads[makers["Enter"]][0],
                                  self.reads[makers["NextIteration"]][0])
    for name, node in self.nodes.items():
      if node.op == "Switch":
        self._aliases[name + ":0"] = self.reads[name][0]
        self._aliases[name + ":1"] = self.reads[name][0]

  def _predicate(self, switch):
    """The predicate of the branch that a `Switch` begins; None in a loop."""
    name = self.reads[switch][1]
    while self._type(name) == "Identity":
      name = self.reads[op_of(name)][0]
    return None if self._type(name) == "LoopCond" else name

  def _find_guards(self):
    """Fills `guards` and `joints`."""
    before = None
    while before != self.guards:  # Guards pass on from item to item.
      before = dict(self.guards)
      for frame, loop in self.loops.items():
        self.guards[frame] = _union([
            self._guards_at(self.reads[enter][0]) for enter in loop.enters])
      for name in self.nodes:
        self.guards[name] = self._guards_of(name)

  def _guards_of(self, name):
    """The guards of an op, given those that are known of what it reads."""
    frame = self._frames.get(name)
    around = self.guards[frame] if frame else {}
    if self.nodes[name].op == "Merge":
      is_loop = frame and name in self.loops[frame].variables
      return around if is_loop else self._join(name)
    return _union([around] + [self._guards_at(t) for t in self.reads[name]] +
                  [self.guards.get(before, {}) for before in self.waits[name]])

  def _guards_at(self, tensor):
    """The guards of what reads a tensor and nothing else."""
    guards = {}
    if tensor not in self._values:
      guards = self.guards.get(op_of(tensor), guards)
      if self._type(tensor) == "Switch":
        predicate = self._predicate(op_of(tensor))
        if predicate is not None:
          return _union([guards, {predicate: int(tensor.split(":")[1])}])
    return guards

  def _join(self, name):
    """The guards of the `Merge` of a branch: those of the whole branch.

    A side that is a constant or was replaced has none; the other side has.
    """
    sides = list(self.reads[name])
    if len(sides) != 2:
      raise refused("Merge '{}'".format(name), "it joins {} branches".format(
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
    """The set of the names of the ops whose output is a list."""
    lists, count = set(), -1
    while count != len(lists):
      count = len(lists)
      lists.update(name for name, node in self.nodes.items() if (
          node.op in tensor_lists.FLOWS or
          node.op in op_types.FORWARDING and any(
              op_of(read) in lists and not self.handle(read)
              for read in self.reads[name])))
    return lists

  def _find_element_shapes(self):
    """dict from the name of a tensor array to the shape of its elements."""
    written = collections.defaultdict(list)
    self._users = collections.defaultdict(list)
    for name, node in self.nodes.items():
      handles = [self.handle(read) for read in self.reads[name]]
      if node.op.startswith(op_types.TENSOR_ARRAY):
        if node.op != "TensorArrayV3" and not handles[0]:
          raise refused("{} '{}'".format(node.op, name),
                        "its tensor array comes from elsewhere")
      elif any(handles) and node.op not in op_types.FORWARDING:
        raise refused("{} '{}'".format(node.op, name),
                      "it takes the handle of a tensor array")
      if node.op in tensor_lists.FLOWS or node.op == "TensorArraySizeV3":
        self._users[handles[0]].append(name)
      if node.op == "TensorArrayScatterV3":
        self.reads[name].append(self.reads[handles[0]][0])  # How many.
      if node.op in tensor_lists.WRITES:
        index, skipped = tensor_lists.WRITES[node.op]
        shape = self.static_shape(self.reads[name][index])
        written[handles[0]].append(shape[skipped:])
    return {name: tensor_lists.element_shape(node, written[name])
            for name, node in self.nodes.items() if node.op == "TensorArrayV3"}


def refused(what, why):
  """The `UnsupportedGraphError` for what has no functional form."""
  return errors.UnsupportedGraphError(
      "{} has no functional form.".format(what),
      "A second gradient of control flow v1, and many at once, need loops and "
      "branches as functions, and {}.".format(why),
      "Leave it out of what is between y and x, or build it with "
      "tf.enable_control_flow_v2().")


def _without_references(node):
  """A copy of a NodeDef on values where it was control flow on references."""
  node = copy.deepcopy(node)
  if node.op in op_types.CONTROL_FLOW_V1 and node.op.startswith("Ref"):
    node.op = node.op[len("Ref"):]
  return node


def op_of(name):
  """The name of the op of a tensor."""
  return name.split(":")[0]


def _union(all_guards):
  """The union of several guards; `BOTH` where they contradict each other."""
  union = collections.OrderedDict()
  for guards in all_guards:
    for key, side in guards.items():
      union[key] = side if union.get(key, side) == side else BOTH
  return union
