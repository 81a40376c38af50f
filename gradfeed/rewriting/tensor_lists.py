"""Ops of lists that do what ops of tensor arrays of control flow v1 do."""

from gradfeed import _tf
from gradfeed._tf import tf

_SHAPE, _LEADING = "element_shape", "leading_dims"  # Inputs that lists add.

#: Type of an op of a tensor array to that of the op of a list, and its inputs:
#: indices of inputs of the former, or an input that is added. TensorListGather
#: and TensorListScatter do not occur: each is the gradient of the other, and
#: where TensorFlow vectorizes a TensorListGather, it mixes up the axes.
LISTS = {
    "TensorArrayV3": ("TensorListReserve", (_SHAPE, 0)),
    "TensorArrayReadV3": ("TensorListGetItem", (2, 1, _SHAPE)),
    "TensorArrayWriteV3": ("TensorListSetItem", (3, 1, 2)),
    "TensorArrayScatterV3": ("TensorListFromTensor", (2, _SHAPE)),
    "TensorArrayGatherV3": ("TensorListStack", (2, _SHAPE)),
    "TensorArraySizeV3": ("TensorListLength", (1,)),
    "TensorArrayConcatV3": ("TensorListConcatV2", (1, _SHAPE, _LEADING)),
    "TensorArraySplitV3": ("TensorListSplit", (1, _SHAPE, 2)),
}

#: Types of ops that may read or write all elements at once.
OF_ALL = ("TensorArrayGatherV3", "TensorArrayScatterV3")

#: Types of ops that make a list to the index of the input that is the shape of
#: its elements.
_SHAPE_GIVEN = {"TensorListReserve": 0, "TensorListFromTensor": 1}

_SHAPE_TYPED = ("TensorListReserve", "TensorListConcatV2", "TensorListSplit",
                "TensorListFromTensor")

#: Type of an op that writes to (index of the input that is written, how many of
#: its first axes are not those of an element).
WRITES = {"TensorArrayWriteV3": (2, 0), "TensorArrayScatterV3": (2, 1)}

#: Types of ops of which an output is a flow.
FLOWS = frozenset(WRITES) | {"TensorArrayV3", "TensorArraySplitV3"}


def new_node(name, op, inputs, **types):
  """A NodeDef; `types` are attributes with dtypes, as numbers."""
  node = tf.NodeDef(name=name, op=op, input=inputs)
  for key, dtype in types.items():
    node.attr[key].type = dtype
  return node


def _constant_node(name, value, dtype):
  """The NodeDef of a constant."""
  node = new_node(name, "Const", [], dtype=dtype.as_datatype_enum)
  node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype))
  return node


def ops(node, reads, is_whole, element_shape, is_growing):
  """The nodes that do to a list what `node` does to a tensor array.

  Args:
    node: NodeDef of a type in `LISTS`.
    reads: list of the names of the tensors that it reads.
    is_whole: bool; it gathers or scatters all elements in order.
    element_shape: `tf.TensorShape`, as far as it is known.
    is_growing: bool; a write may be beyond the end.

  Returns:
    list of NodeDef, one of which has the name of `node`.
  """
  op, inputs = LISTS[node.op]
  if op in ("TensorListConcatV2", "TensorListSplit"):
    element_shape = tf.TensorShape([None]).concatenate(element_shape[1:])
  dims = dims_of(element_shape)
  if dims is not None:
    dims = [-1 if size is None else size for size in dims]
  name = node.name + "/"
  added = {
      _SHAPE: _constant_node(
          name + _SHAPE, -1 if dims is None else dims, tf.int32),
      _LEADING: _constant_node(name + _LEADING, [], tf.int64)}
  nodes = [added[key] for key in inputs if key in added]
  listed = new_node(node.name, op, [
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
  """Nodes that pick elements of a stacked list.

  They are picked along the second axis: the gradient of a pick along the first
  is sparse, which the gradient of a stack cannot take on TF 1.

  Args:
    stack: NodeDef; its name is changed and goes to the last of the new nodes.
    indices: str, the name of the tensor of the indices.

  Returns:
    list of NodeDef.
  """
  integer = tf.int32.as_datatype_enum
  dtype, name = stack.attr["element_dtype"].type, stack.name
  stack.name += "/stack"
  first = _constant_node(name + "/first", 0, tf.int32)
  axis = _constant_node(name + "/axis", 1, tf.int32)
  row = new_node(name + "/row", "ExpandDims", [
      stack.name + ":0", first.name + ":0"], T=dtype, Tdim=integer)
  picked = new_node(name + "/picked", "GatherV2", [
      row.name + ":0", indices, axis.name + ":0"],
                 Tparams=dtype, Tindices=integer, Taxis=integer)
  result = new_node(name, "Squeeze", [picked.name + ":0"], T=dtype)
  result.attr["squeeze_dims"].list.i.append(0)
  return [first, axis, row, picked, result]


def _lengthened(unstack, size):
  """Nodes that make a list at least as long as a tensor array was.

  Args:
    unstack: NodeDef; its name is changed and goes to the last of the new nodes.
    size: str, the name of the tensor that is the length.

  Returns:
    list of NodeDef.
  """
  name = unstack.name
  unstack.name += "/list"
  length = new_node(name + "/length", "TensorListLength", [unstack.name + ":0"])
  most = new_node(name + "/size",
                  "Maximum", [length.name + ":0", size],
                  T=tf.int32.as_datatype_enum)
  return [length, most, new_node(name, "TensorListResize", [
      unstack.name + ":0", most.name + ":0"])]


def _grown(write):
  """Nodes that make a list long enough for a write.

  Args:
    write: NodeDef; changed to write to the longer list.

  Returns:
    list of NodeDef.
  """
  integer = tf.int32.as_datatype_enum
  name = write.name + "/{}"
  nodes = [
      new_node(name.format("length"), "TensorListLength", write.input[:1]),
      _constant_node(name.format("one"), 1, tf.int32),
      new_node(name.format("end"), "AddV2", [
          write.input[1], name.format("one:0")], T=integer),
      new_node(name.format("size"), "Maximum", [
          name.format("length:0"), name.format("end:0")], T=integer),
      new_node(name.format("grown"), "TensorListResize", [
          write.input[0], name.format("size:0")])]
  write.input[0] = name.format("grown:0")
  return nodes


def is_of_unknown_zeros(handle):
  """Whether a list has no elements yet, and no static shape for them either.

  TensorFlow reads them where it vectorizes a write to such a list, and cannot.

  Args:
    handle: `tf.Tensor`.
  """
  op = handle.op
  if op.type != "TensorListReserve":
    return False
  while op.type in _SHAPE_GIVEN:
    shape = op.inputs[_SHAPE_GIVEN[op.type]]
    if shape.op.type == "TensorListElementShape":
      op = shape.op.inputs[0].op
      while op.type in ("TensorListSetItem", "TensorListResize"):
        op = op.inputs[0].op
    else:
      dims = _tf.static_value(shape)
      return dims is None or bool((dims < 0).any())
  return False


def element_shape(node, written):
  """The static shape of the elements of a tensor array.

  Args:
    node: NodeDef of the tensor array.
    written: list of `tf.TensorShape`, of all that is written to it.

  Returns:
    `tf.TensorShape`.
  """
  shape = tf.TensorShape(node.attr["element_shape"].shape)
  for shape_written in written:
    if not node.attr["identical_element_shapes"].b or (
        not shape.is_compatible_with(shape_written)):
      return tf.TensorShape(None)
    shape = shape.merge_with(shape_written)
  return shape


def dims_of(shape):
  """The tuple of the lengths of the axes; None if the rank is unknown."""
  return None if shape.rank is None else tuple(shape.as_list())


def wider(shape, second):
  """The most specific shape that both shapes fit: see `fits`."""
  if shape.rank is None or shape.rank != second.rank:
    return tf.TensorShape(None)
  return tf.TensorShape([
      a if a == b else None for a, b in zip(dims_of(shape), dims_of(second))])


def fits(shape, wide):
  """Whether every tensor of the static shape `shape` has the shape `wide`."""
  return dims_of(wider(shape, wide)) == dims_of(wide)


def holds(original, shape):
  """Whether the static shape of a tensor holds for what is read in its place.

  It does not count where the ranks differ, as those of a handle and of the
  value of the variable do.

  Args:
    original: `tf.TensorShape` of the tensor.
    shape: `tf.TensorShape` of what is read.
  """
  if None not in (original.rank, shape.rank) and original.rank != shape.rank:
    return True
  return fits(shape, original)
