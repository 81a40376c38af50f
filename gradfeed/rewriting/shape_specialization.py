"""Copies of small graphs for fixed shapes, without arithmetic on shapes.

Gradients are full of such arithmetic: that of a softmax of three numbers runs
twelve ops on shapes and four on numbers, since TensorFlow takes no shape of a
feed for granted. Where so few ops run that this counts, a copy is made for the
shapes of the first call: what depends on shapes alone is computed once and
becomes a constant, and ops that change nothing at these shapes are left out.
Calls with other shapes run the ops as they are.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.rewriting import function_calls

#: How many ops a graph may have that is copied.
_MOST_OPS = 300

#: How many elements a tensor may have that becomes a constant.
_LARGEST_CONSTANT = 4096

#: Ops that are computed beforehand where their inputs depend on shapes alone.
_FOLDED = frozenset([
    "Add", "AddV2", "BroadcastGradientArgs", "BroadcastTo", "Cast", "Concat",
    "ConcatOffset", "ConcatV2", "DynamicStitch", "Equal", "ExpandDims", "Fill",
    "FloorDiv", "FloorMod", "GatherV2", "Identity", "InvertPermutation",
    "Maximum", "Minimum", "Mul", "Neg", "OnesLike", "Pack", "Prod", "Range",
    "RealDiv", "Reshape", "Select", "SelectV2", "Slice", "Squeeze",
    "StridedSlice", "Sub", "Tile", "Transpose", "Unpack", "ZerosLike"])

#: Ops that hand their first input on where it has the shape of the output.
_IDLE = frozenset(["BroadcastTo", "Mean", "Reshape", "Sum", "Tile"])

#: Ops whose results have no denormals, so that multiplying them by ones changes
#: nothing; the denormals of a feed would become zeros.
_ARITHMETIC = frozenset([
    "Add", "AddN", "AddV2", "BiasAdd", "Conv2D", "Exp", "Log", "LogSoftmax",
    "MatMul", "RealDiv", "Sigmoid", "SigmoidGrad", "Softmax",
    "SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits",
    "Square", "Sub", "Tanh", "TanhGrad"])

#: Ops that do more than compute, though TensorFlow calls them stateless.
_IMPURE = op_types.PYTHON_CALLS | frozenset(["Assert", "Merge", "Switch"])

_READS = frozenset(["ReadVariableOp"])

_SOURCES = frozenset(op_types.VARIABLES + ("Placeholder",))


def is_suitable(ops):
  """Whether ops may have a copy for one set of shapes.

  They have no state but variables that are read, and no control flow, so that
  running them twice or in another order changes nothing.

  Args:
    ops: dict from name to `tf.Operation`.
  """
  return len(ops) <= _MOST_OPS and not effects.has_loop(ops) and all(
      op.type in _SOURCES or op.type in _READS or _is_pure(op)
      for op in ops.values())


def _is_pure(op):
  """Whether all that `op` does is compute its outputs from its inputs."""
  if op.control_inputs or op.type in op_types.FUNCTIONAL or op.op_def is None:
    return False
  if op.op_def.is_stateful or op.type in _IMPURE or (
      _tf.function_definition(op.graph, op.type) is not None):
    return False
  return not any(argument.is_ref for arguments in (
      op.op_def.input_arg, op.op_def.output_arg) for argument in arguments)


def specialize(graph, ops, wanted, shapes):
  """Copies what `wanted` needs, for feeds of exactly these shapes.

  Args:
    graph: `tf.Graph`, not finalized.
    ops: dict from name to op, for which `is_suitable` holds.
    wanted: list of `tf.Tensor` to compute.
    shapes: dict from the name of each tensor that is fed to its shape.

  Returns:
    (dict from the names of `shapes` to placeholders, list of `tf.Tensor` in
    the place of `wanted`), or None where it cannot be done or gains nothing.
  """
  shaped = _shaped(graph, ops, shapes)
  if shaped is None:
    return None
  constants = _folded(ops, wanted, shaped)
  aliases = _idle(ops, shaped, constants)
  if not constants and not aliases:
    return None
  return _SpecializedCopy(graph, ops, shapes, constants, aliases).build(wanted)


class _Shaped:
  """The ops in a graph of their own, where the shape of every feed is known.

  Attributes:
    graph: `tf.Graph`.
    clones: dict from the name of each tensor to its copy in that graph.
    feeds: dict from the names of those that come from outside to placeholders.
  """

  def __init__(self, graph, clones, feeds):
    self.graph = graph
    self.clones = clones
    self.feeds = feeds

  def shape(self, name):
    """The `tf.TensorShape` of the tensor called `name`."""
    return self.clones[name].shape


def _has_zeros(tensor):
  """Whether an array of zeros can be fed to a tensor."""
  return _tf.numpy_dtype(tensor.dtype) is not None and (
      tensor.dtype.base_dtype != tf.string)


def _is_given(op, shapes):
  """Whether the value of `op` comes from outside: a feed or a variable.

  Args:
    op: `tf.Operation`.
    shapes: dict with the names of the tensors that are fed; a placeholder with
      a default may be among them.
  """
  return op.type in _SOURCES or op.type in _READS or any(
      t.name in shapes for t in op.outputs)


def _shaped(graph, ops, shapes):
  """Copies ops into a graph of their own, with feeds of certain shapes.

  Args:
    graph: `tf.Graph` that they are of.
    ops: dict from name to op.
    shapes: dict from the name of each tensor that is fed to its shape.

  Returns:
    `_Shaped`, or None if the shape of something else that is read is unknown.
  """
  given, computed = [], []
  for op in ops.values():
    if _is_given(op, shapes):
      given.extend(t for t in op.outputs if t.dtype != tf.resource)
    else:
      computed.append(op)
  scratch = tf.Graph()
  with scratch.as_default():
    clones = {t.name: tf.placeholder(
        t.dtype.base_dtype, shapes.get(t.name, t.shape)) for t in given}
    imported = _tf.import_nodes(
        graph, [_plain(op.node_def) for op in computed], clones, "")
  feeds = dict(clones)
  for op in computed:
    clones.update((tensor.name, clone) for tensor, clone in zip(
        op.outputs, imported[op.name].outputs))
  if not all(clone.shape.is_fully_defined() for clone in feeds.values()):
    return None
  return _Shaped(scratch, clones, feeds)


def _plain(node, inputs=None):
  """A NodeDef without its colocation, and with `inputs` if these are given."""
  if "_class" in node.attr:
    del node.attr["_class"]
  if inputs is not None:
    del node.input[:]
    node.input.extend(inputs)
  return node


def _folded(ops, wanted, shaped):
  """Computes the tensors that depend on shapes alone and that are read.

  Args:
    ops: dict from name to op, inputs before users.
    wanted: list of `tf.Tensor`, which are read as well.
    shaped: `_Shaped`.

  Returns:
    dict from tensor name to array.
  """
  folded = set()
  for op in ops.values():
    inputs = [t.name for t in op.inputs]
    if op.type == "Const" or (op.type in op_types.SHAPE_READING and all(
        shaped.shape(name).is_fully_defined() for name in inputs)) or (
            op.type in _FOLDED and inputs and all(
                name in folded for name in inputs)):
      folded.update(t.name for t in op.outputs)
  read = {t.name for op in ops.values() for t in op.inputs
          if not all(out.name in folded for out in op.outputs)}
  read.update(t.name for t in wanted)
  fetched = {
      name: shaped.clones[name] for name in read & folded
      if shaped.shape(name).is_fully_defined() and
      shaped.shape(name).num_elements() <= _LARGEST_CONSTANT}
  with _tf.Session(graph=shaped.graph, config=tf.ConfigProto(
      device_count={"GPU": 0})) as session:
    given = {
        clone: np.zeros(clone.shape.as_list(), _tf.numpy_dtype(clone.dtype))
        for clone in shaped.feeds.values() if _has_zeros(clone)}
    # The shapes are fed too, as the ops on numbers may fail for zeros.
    given.update((shaped.clones[t.name], _shape_of(op, t, shaped))
                 for op in ops.values() if op.type in op_types.SHAPE_READING
                 for t in op.outputs if t.name in folded)
    return _tf.session_run(session, fetched, given)


def _shape_of(op, tensor, shaped):
  """The value, an array, of an output of an op of a type in `_SHAPE_OPS`."""
  shape = shaped.shape(op.inputs[tensor.value_index].name).as_list()
  value = {"Size": np.prod(shape, dtype=np.int64),
           "Rank": len(shape)}.get(op.type, shape)
  return np.asarray(value, _tf.numpy_dtype(tensor.dtype))


def _idle(ops, shaped, constants):
  """Finds the ops that change nothing at these shapes.

  Args:
    ops: dict from name to op.
    shaped: `_Shaped`.
    constants: dict from tensor name to array, what is known beforehand.

  Returns:
    dict from the name of the output of each to that of the equal input.
  """
  aliases = {}
  for op in ops.values():
    if not op.outputs:
      continue
    out = op.outputs[0].name
    if op.type in _IDLE and out not in constants and _same_shape(
        shaped, out, op.inputs[0].name):
      aliases[out] = op.inputs[0].name
    elif op.type == "Mul":
      for factor, kept in (op.inputs, reversed(op.inputs)):
        value = constants.get(factor.name)
        if value is not None and np.all(value == 1) and (
            kept.op.type in _ARITHMETIC and
            _same_shape(shaped, out, kept.name)):
          aliases[out] = kept.name
          break
  return aliases


def _same_shape(shaped, *names):
  """Whether tensors have the same known shape, by their names."""
  shapes = [shaped.shape(name) for name in names]
  return all(shape.is_fully_defined() for shape in shapes) and (
      shapes[0].as_list() == shapes[1].as_list())


class _SpecializedCopy:
  """A copy of ops with constants and without what changes nothing."""

  def __init__(self, graph, ops, shapes, constants, aliases):
    """Takes what the copy is made of.

    Args:
      graph: `tf.Graph`, not finalized.
      ops: dict from name to op.
      shapes: dict from the name of each tensor that is fed to its shape.
      constants: dict from the name of each tensor with a known value to it.
      aliases: dict from the name of a tensor to one that has its value.
    """
    self._graph = graph
    self._ops = ops
    self._shapes = shapes
    self._constants = constants
    self._aliases = aliases
    self._outside = {}

  def build(self, wanted):
    """Makes the copy.

    Args:
      wanted: list of `tf.Tensor`.

    Returns:
      What `specialize` returns.
    """
    sources = [self._source(tensor) for tensor in wanted]
    copied = self._copied_ops(sources)
    with _tf.building(self._graph), tf.name_scope("fixed"):
      new = self._import([op for name, op in self._ops.items()
                          if name in copied])
      results = []
      for name in sources:
        node, index = name.split(":")
        results.append(
            new[node].outputs[int(index)] if node in new and
            name not in self._constants else self._from_outside(name))
      feeds = {name: self._from_outside(name) for name in self._shapes}
    # A feed that is a result as well cannot be fetched.
    if any(result is feed for result in results for feed in feeds.values()):
      return None
    return feeds, results

  def _source(self, tensor):
    """The name of the tensor whose copy has the value of `tensor`."""
    return function_calls.last_name(tensor.name, self._aliases)

  def _copied_ops(self, sources):
    """The names of the ops that have to be copied for the tensors `sources`."""
    copied, queue = set(), list(sources)
    while queue:
      name = queue.pop()
      op = self._ops[name.split(":")[0]]
      if name not in self._constants and op.name not in copied and (
          not _is_given(op, self._shapes)):
        copied.add(op.name)
        queue.extend(map(self._source, op.inputs))
    return copied

  def _import(self, order):
    """Copies the ops `order`; returns a dict from name to copy."""
    copied = {op.name for op in order}
    nodes, external = [], {}
    for op in order:
      inputs = list(map(self._source, op.inputs))
      nodes.append(_plain(op.node_def, inputs))
      external.update(
          (name, self._from_outside(name)) for name in inputs
          if name in self._constants or name.split(":")[0] not in copied)
    return _tf.import_nodes(self._graph, nodes, external, "part")

  def _from_outside(self, name):
    """What the copy reads for a tensor that no copied op makes.

    A constant, a placeholder for a feed, or the tensor itself.
    """
    if name not in self._outside:
      tensor = self._graph.get_tensor_by_name(name)
      if name in self._constants:
        tensor = tf.constant(self._constants[name], tensor.dtype)
      elif name in self._shapes:
        tensor = tf.placeholder(tensor.dtype, self._shapes[name])
      self._outside[name] = tensor
    return self._outside[name]
