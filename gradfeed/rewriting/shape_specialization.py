"""A small graph for the shapes of its first call, without shape arithmetic.

Gradients are full of it: a gradient of a softmax on three numbers runs twelve
ops on shapes for four on numbers, and TensorFlow takes no shape of a feed for
granted. Where the part is small enough for that to count, a copy is made for
the shapes that the first call has: what depends on shapes alone is computed
once, here, and what changes nothing at these shapes is left out. Calls with
other shapes go the general way.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import effects
from gradfeed.graph import op_types

_LARGEST_PART = 300

_LARGEST_CONSTANT = 4096

#: Ops that may be computed here when their inputs depend on shapes alone.
_FOLDED = frozenset([
    "Add", "AddV2", "BroadcastGradientArgs", "BroadcastTo", "Cast", "Concat",
    "ConcatOffset", "ConcatV2", "DynamicStitch", "Equal", "ExpandDims", "Fill",
    "FloorDiv", "FloorMod", "GatherV2", "Identity", "InvertPermutation",
    "Maximum", "Minimum", "Mul", "Neg", "OnesLike", "Pack", "Prod", "Range",
    "RealDiv", "Reshape", "Select", "SelectV2", "Slice", "Squeeze",
    "StridedSlice", "Sub", "Tile", "Transpose", "Unpack", "ZerosLike"])

#: Ops that hand their first input on where it has the shape of the output.
_IDLE = frozenset(["BroadcastTo", "Mean", "Reshape", "Sum", "Tile"])

#: Ops whose results have no denormals: a product of one of them with ones is
#: the same without the product. A feed's denormals the product would flush.
_ARITHMETIC = frozenset([
    "Add", "AddN", "AddV2", "BiasAdd", "Conv2D", "Exp", "Log", "LogSoftmax",
    "MatMul", "RealDiv", "Sigmoid", "SigmoidGrad", "Softmax",
    "SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits",
    "Square", "Sub", "Tanh", "TanhGrad"])

#: Ops that do more than compute, though TensorFlow calls them stateless.
_IMPURE = op_types.PYTHON_CALLS | frozenset(["Assert", "Merge", "Switch"])

_READS = frozenset(["ReadVariableOp"])

_SOURCES = frozenset(op_types.VARIABLES + ("Placeholder",))


def is_suitable(found):
  """Whether the ops of `found` may have a copy for one set of shapes.

  Only where an op has no state but a variable that is read, and is no control
  flow, so that running it twice, or in another order, changes nothing.
  """
  return len(found) <= _LARGEST_PART and not effects.has_loop(found) and all(
      op.type in _SOURCES or op.type in _READS or _is_pure(op)
      for op in found.values())


def _is_pure(op):
  if op.control_inputs or op.type in op_types.FUNCTIONAL or op.op_def is None:
    return False
  if op.op_def.is_stateful or op.type in _IMPURE or (
      _tf.function_definition(op.graph, op.type) is not None):
    return False
  return not any(argument.is_ref for arguments in (
      op.op_def.input_arg, op.op_def.output_arg) for argument in arguments)


def specialize(graph, found, wanted, shapes):
  """Copies what `wanted` needs, for feeds of exactly these shapes.

  Args:
    graph: `tf.Graph`, not finalized.
    found: dict from name to op, for which `is_suitable` holds.
    wanted: list of `tf.Tensor` to compute.
    shapes: dict from the name of each tensor that is fed to its shape.

  Returns:
    (dict from the names of `shapes` to placeholders, list of `tf.Tensor` in
    the place of `wanted`), or None where it cannot be done or gains nothing.
  """
  shaped = _shaped(graph, found, shapes)
  if shaped is None:
    return None
  constants = _folded(found, wanted, shaped)
  aliases = _idle(found, shaped, constants)
  if not constants and not aliases:
    return None
  return _rebuild(graph, found, wanted, shapes, constants, aliases)


class _Shaped:
  """The ops in a graph of their own, where every shape is known."""

  def __init__(self, graph, clones, feeds):
    self.graph = graph
    self.clones = clones
    self.feeds = feeds

  def shape(self, name):
    return self.clones[name].shape


def _is_number(tensor):
  return _tf.numpy_dtype(tensor.dtype) is not None and (
      tensor.dtype.base_dtype != tf.string)


def _is_given(op):
  """Whether the value of `op` comes from outside: a feed or a variable."""
  return op.type in _SOURCES or op.type in _READS


def _shaped(graph, found, shapes):
  graph_def = tf.GraphDef()
  graph_def.versions.CopyFrom(graph.graph_def_versions)
  given, computed = [], []
  for op in found.values():
    if _is_given(op):
      given.extend(t for t in op.outputs if t.dtype != tf.resource)
    else:
      computed.append(op)
      graph_def.node.extend([_plain(op.node_def)])
  scratch = tf.Graph()
  with scratch.as_default():
    clones = {t.name: tf.placeholder(
        t.dtype.base_dtype, shapes.get(t.name, t.shape)) for t in given}
    names = [op.name for op in computed]
    read = {t.name for op in computed for t in op.inputs}
    imported = tf.import_graph_def(
        graph_def, return_elements=names, name="",
        input_map={name: clone for name, clone in clones.items()
                   if name in read})
  feeds = dict(clones)
  for op, clone in zip(computed, imported):
    clones.update((a.name, b) for a, b in zip(op.outputs, clone.outputs))
  known = all(clone.shape.is_fully_defined() for clone in feeds.values())
  return _Shaped(scratch, clones, feeds) if known else None


def _plain(node, inputs=None):
  if "_class" in node.attr:
    del node.attr["_class"]
  if inputs is not None:
    del node.input[:]
    node.input.extend(inputs)
  return node


def _folded(found, wanted, shaped):
  """The values of the tensors that depend on shapes alone, where read."""
  folded = set()
  for op in found.values():
    inputs = [t.name for t in op.inputs]
    if op.type == "Const" or (op.type in op_types.SHAPE_READING and all(
        shaped.shape(name).is_fully_defined() for name in inputs)) or (
            op.type in _FOLDED and inputs and all(
                name in folded for name in inputs)):
      folded.update(t.name for t in op.outputs)
  read = {t.name for op in found.values() for t in op.inputs
          if not all(out.name in folded for out in op.outputs)}
  read.update(t.name for t in wanted)
  fetched = {
      name: shaped.clones[name] for name in read & folded
      if shaped.shape(name).is_fully_defined() and
      shaped.shape(name).num_elements() <= _LARGEST_CONSTANT}
  with tf.Session(graph=shaped.graph, config=tf.ConfigProto(
      device_count={"GPU": 0})) as session:
    given = {
        clone: np.zeros(clone.shape.as_list(), _tf.numpy_dtype(clone.dtype))
        for clone in shaped.feeds.values() if _is_number(clone)}
    # What the shapes are of is not computed: it may not bear zeros.
    given.update((shaped.clones[t.name], _shape_of(op, t, shaped))
                 for op in found.values() if op.type in op_types.SHAPE_READING
                 for t in op.outputs if t.name in folded)
    return session.run(fetched, given)


def _shape_of(op, tensor, shaped):
  """The value of an output of an op on shapes."""
  shape = shaped.shape(op.inputs[tensor.value_index].name).as_list()
  value = {"Size": np.prod(shape, dtype=np.int64),
           "Rank": len(shape)}.get(op.type, shape)
  return np.asarray(value, _tf.numpy_dtype(tensor.dtype))


def _idle(found, shaped, constants):
  """Which tensor each one that changes nothing at these shapes stands for."""
  aliases = {}
  for op in found.values():
    if not op.outputs:
      continue
    out = op.outputs[0].name
    if op.type in _IDLE and out not in constants and _same_shape(
        shaped, out, op.inputs[0].name):
      aliases[out] = op.inputs[0].name
    elif op.type == "Mul":
      for one, other in ((0, 1), (1, 0)):
        value = constants.get(op.inputs[one].name)
        kept = op.inputs[other]
        if value is not None and np.all(value == 1) and (
            kept.op.type in _ARITHMETIC and
            _same_shape(shaped, out, kept.name)):
          aliases[out] = kept.name
          break
  return aliases


def _same_shape(shaped, *names):
  shapes = [shaped.shape(name) for name in names]
  return all(shape.is_fully_defined() for shape in shapes) and (
      shapes[0].as_list() == shapes[1].as_list())


def _rebuild(graph, found, wanted, shapes, constants, aliases):
  def source(name):
    while name in aliases:
      name = aliases[name]
    return name

  keep, queue = set(), [source(t.name) for t in wanted]
  while queue:
    name = queue.pop()
    op = found[name.split(":")[0]]
    if name not in constants and op.name not in keep and not _is_given(op):
      keep.add(op.name)
      queue.extend(source(t.name) for t in op.inputs)
  order = [op for name, op in found.items() if name in keep]
  with _tf.building(graph), tf.name_scope("fixed"):
    stand_ins = {}

    def outside(name):
      if name not in stand_ins:
        tensor = graph.get_tensor_by_name(name)
        if name in constants:
          stand_ins[name] = tf.constant(constants[name], tensor.dtype)
        elif name in shapes:
          stand_ins[name] = tf.placeholder(tensor.dtype, shapes[name])
        else:
          stand_ins[name] = tensor
      return stand_ins[name]

    graph_def = tf.GraphDef()
    graph_def.versions.CopyFrom(graph.graph_def_versions)
    mapped = {}
    for op in order:
      inputs = [source(t.name) for t in op.inputs]
      graph_def.node.extend([_plain(op.node_def, inputs)])
      mapped.update((name, outside(name)) for name in inputs
                    if name in constants or name.split(":")[0] not in keep)
    clones = dict(zip([op.name for op in order], tf.import_graph_def(
        graph_def, input_map=mapped, name="part",
        return_elements=[op.name for op in order])))
    results = []
    for tensor in wanted:
      name = source(tensor.name)
      node, index = name.split(":")
      results.append(clones[node].outputs[int(index)] if node in clones and
                     name not in constants else outside(name))
    feeds = {name: outside(name) for name in shapes}
  # A feed that is a result as well cannot be fetched.
  return None if any(r is feed for r in results
                     for feed in feeds.values()) else (feeds, results)
