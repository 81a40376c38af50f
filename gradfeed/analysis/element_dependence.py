"""Which elements of x each element of a result is computed from.

The answer is found from the types of the ops alone, walking from x to y. Each
tensor between them has a table with a row for each of its elements: the places
of the elements of x that it depends on, and -1 where there are fewer than the
row is long. An op that moves elements moves rows of the table; one that works
by element joins the rows of its inputs; a sum or a product of matrices joins
those along an axis. Where no rule for an op is known, or tables become large,
nothing is said.
"""

import numpy as np

from gradfeed.analysis import dependence_rules
from gradfeed.analysis import symbolic_shapes

#: The most entries of a table.
_LARGEST_TABLE = 10 ** 7


class Unfollowed(Exception):
  """An op for which it is not known.

  Attributes:
    op: `tf.Operation`.
  """

  def __init__(self, op):
    super().__init__(op)
    self.op = op


def places(y, x, shape, ops):
  """The places of the Jacobian of y by x that may differ from zero.

  Args:
    y: `tf.Tensor`.
    x: `tf.Tensor`; of a resource variable its handle.
    shape: `tf.TensorShape` of x, or of the variable.
    ops: dict from name to `tf.Operation`, the ops on a differentiable path from
      `x` to `y` and no others.

  Returns:
    (rows, columns): arrays of ints.

  Raises:
    Unfollowed: they are not known.
  """
  for op in ops.values():
    if op.type not in _RULES:
      raise Unfollowed(op)
  if not shape.is_fully_defined():
    raise Unfollowed(x.op)
  tables = {x.name: np.arange(shape.num_elements(), dtype=np.int32).reshape(
      shape.as_list() + [1])}
  stack = [y]
  while stack:  # No recursion: graphs are deep.
    tensor = stack[-1]
    sources = [source if source.name == x.name or source.op.name in ops else
               None for source in tensor.op.inputs]
    missing = [source for source in sources
               if source is not None and source.name not in tables]
    if tensor.name not in tables and missing:
      stack.extend(missing)
      continue
    stack.pop()
    if tensor.name not in tables:
      tables[tensor.name] = _table(tensor, [
          None if source is None else tables[source.name]
          for source in sources])
  table = tables[y.name].reshape(-1, tables[y.name].shape[-1])
  row, position = np.nonzero(table >= 0)
  return row, table[row, position]


def _table(tensor, sources):
  """The table of the output of an op.

  Args:
    tensor: `tf.Tensor`.
    sources: list with the table of each input, None where it does not depend
      on x.

  Returns:
    int32 array of the shape of the tensor and an axis for the places.
  """
  op = tensor.op
  if all(source is None for source in sources):
    raise Unfollowed(op)
  try:
    table = _RULES[op.type](op, tensor.value_index, sources)
  except (symbolic_shapes.UnknownStatically, ValueError, IndexError):
    raise Unfollowed(op) from None
  if not tensor.shape.is_compatible_with(table.shape[:-1]):
    raise Unfollowed(op)
  return _with_each_once(table)


def _with_each_once(table):
  """A table in which each row has each place once, as short as can be."""
  if table.shape[-1] > 1:
    table = np.sort(table, axis=-1)
    again = table[..., 1:] == table[..., :-1]
    if again.any():
      table[..., 1:][again] = -1
      table = np.sort(table, axis=-1)
  unused = np.all(table < 0, axis=tuple(range(table.ndim - 1)))
  return table[..., ~unused] if unused.any() else table


def _check_size(shape, width, op):
  if np.prod(list(shape), dtype=np.float64) * width > _LARGEST_TABLE:
    raise Unfollowed(op)


def _joined(op, unused_index, sources):
  """The rule of an op that works by element and broadcasts its inputs."""
  shapes = [_dims(tensor) if source is None else source.shape[:-1]
            for tensor, source in zip(op.inputs, sources)]
  return _union(op, list(np.broadcast(*[
      np.broadcast_to(0, shape) for shape in shapes]).shape), sources)


def _broadcast(op, index, sources):
  """The rule of BroadcastTo, whose output has a shape that is given."""
  return _union(op, _dims(op.outputs[index]), sources[:1])


def _dims(tensor):
  """The static shape; raises `UnknownStatically` where it has unknown axes."""
  dims = symbolic_shapes.dims_of(tensor)
  if None in dims:
    raise symbolic_shapes.UnknownStatically
  return dims


def _union(op, shape, sources):
  """The table of what depends on all of the tables, broadcast to a shape."""
  sources = [source for source in sources if source is not None]
  _check_size(shape, sum(source.shape[-1] for source in sources), op)
  return np.concatenate([
      np.broadcast_to(
          source.reshape((1,) * (len(shape) + 1 - source.ndim) + source.shape),
          shape + [source.shape[-1]]) for source in sources], -1)


def _along(table, axes, keep, op):
  """The table of what joins all elements along some axes."""
  rank = table.ndim - 1
  axes = sorted(axis % rank for axis in axes)
  _check_size(table.shape, 1, op)
  kept = [axis for axis in range(rank) if axis not in axes]
  shape = [1 if axis in axes else table.shape[axis] for axis in range(rank)
           if keep or axis not in axes]
  width = int(np.prod([table.shape[axis] for axis in axes + [rank]]))
  return np.transpose(table, kept + axes + [rank]).reshape(shape + [width])


def _reduced(op, unused_index, sources):
  axes = symbolic_shapes.axes_of(op.inputs[1], sources[0].ndim - 1)
  keep = symbolic_shapes.attribute(op, "keep_dims", False)
  return _along(sources[0], list(axes), keep, op)


def _matmul(op, index, sources):
  """The rule of products of matrices that are not stacked."""
  if op.outputs[index].shape.ndims != 2:
    raise Unfollowed(op)
  names = (("transpose_a", "transpose_b") if op.type == "MatMul" else
           ("adj_x", "adj_y"))
  results = []
  for i, table in enumerate(sources):
    if table is not None:
      is_turned = bool(op.get_attr(names[i]))
      joined = _along(table, [i if is_turned else 1 - i], True, op)
      results.append(np.swapaxes(joined, 0, 1) if is_turned else joined)
  return _union(op, _dims(op.outputs[index]), results)


def _moved(move, position=0):
  """The rule of an op that moves the elements of one input.

  Args:
    move: function from the op and an array of the shape of its input, with the
      numbers of its elements, to one of the shape of its output, -1 where there
      is no element.
    position: int, the index of the input.
  """
  def rule(op, unused_index, sources):
    table = sources[position]
    if sum(source is not None for source in sources) > 1 or table is None:
      raise Unfollowed(op)
    return _rows_of(table, move(op, np.arange(
        int(np.prod(table.shape[:-1]))).reshape(table.shape[:-1])), op)
  return rule


def _rows_of(table, numbers, op):
  """The rows of a table with the numbers of an array; empty ones for -1."""
  _check_size(numbers.shape, table.shape[-1], op)
  rows = table.reshape(-1, table.shape[-1])
  empty = np.full([1, rows.shape[1]], -1, np.int32)
  return np.concatenate([rows, empty])[np.where(
      numbers < 0, len(rows), numbers)]


def _reshaped(op, numbers):
  shape = op.outputs[0].shape
  return numbers.reshape(shape.as_list() if shape.is_fully_defined() else
                         _constant(op.inputs[1]))


def _strided_index(op, operands):
  """What a strided slice takes, as NumPy writes it.

  Args:
    op: `tf.Operation`, StridedSlice or its gradient.
    operands: list of its inputs begin, end and strides.
  """
  begin, end, strides = map(_constant, operands)
  has = {kind: op.get_attr(kind + "_mask") for kind in (
      "begin", "end", "ellipsis", "new_axis", "shrink_axis")}
  index = []
  for i, step in enumerate(strides.tolist()):
    if has["ellipsis"] >> i & 1:
      index.append(Ellipsis)
    elif has["new_axis"] >> i & 1:
      index.append(np.newaxis)
    elif has["shrink_axis"] >> i & 1:
      index.append(int(begin[i]))
    else:
      index.append(slice(None if has["begin"] >> i & 1 else int(begin[i]),
                         None if has["end"] >> i & 1 else int(end[i]), step))
  return tuple(index)


def _strided_slice(op, numbers):
  return numbers[_strided_index(op, op.inputs[1:4])]


def _strided_slice_gradient(op, numbers):
  result = np.full(op.outputs[0].shape.as_list(), -1)
  result[_strided_index(op, op.inputs[1:4])] = numbers
  return result


def _slice(op, numbers):
  return _part(numbers, *map(_constant, op.inputs[1:3]))


def _padded(op, numbers):
  padding = _constant(op.inputs[1])
  return np.pad(numbers, padding, "constant", constant_values=-1)


def _mirrored(op, numbers):
  mode = op.get_attr("mode").decode().lower()
  return np.pad(numbers, _constant(op.inputs[1]), mode)


def _transposed(op, numbers):
  return np.transpose(numbers, _constant(op.inputs[1]))


def _reversed(op, numbers):
  axes = symbolic_shapes.axes_of(op.inputs[1], numbers.ndim)
  return np.flip(numbers, tuple(axes))


def _rolled(op, numbers):
  shift, axis = [np.ravel(_constant(tensor)).tolist()
                 for tensor in op.inputs[1:3]]
  return np.roll(numbers, tuple(shift), tuple(axis))


def _tiled(op, numbers):
  return np.tile(numbers, _constant(op.inputs[1]))


def _gathered(op, numbers):
  if symbolic_shapes.attribute(op, "batch_dims", 0):
    raise symbolic_shapes.UnknownStatically
  axis = (int(_constant(op.inputs[2]))
          if len(op.inputs) > 2 else 0)
  return np.take(numbers, _constant(op.inputs[1]), axis)


def _beside(op, unused_index, sources):
  """The rule of ConcatV2 and Pack."""
  if op.type == "Pack":
    axis, tensors = op.get_attr("axis"), list(op.inputs)
  else:
    axis = int(_constant(op.inputs[-1]))
    tensors, sources = list(op.inputs)[:-1], sources[:-1]
  axis %= op.outputs[0].shape.ndims
  width = max(source.shape[-1] for source in sources if source is not None)
  _check_size(op.outputs[0].shape.as_list(), width, op)
  parts = []
  for tensor, source in zip(tensors, sources):
    table = np.full(_dims(tensor) + [width], -1, np.int32)
    if source is not None:
      table[..., :source.shape[-1]] = source
    parts.append(np.expand_dims(table, axis) if op.type == "Pack" else table)
  return np.concatenate(parts, axis)


def _unpacked(op, index, sources):
  return np.take(sources[0], index, op.get_attr("axis") % (
      sources[0].ndim - 1))


def _constant(tensor):
  """The value of a tensor that is the same in every run, as an array.

  Knows more than `symbolic_shapes.constant`: what gradients compute of shapes.
  """
  op = tensor.op
  if op.type == "ShapeN":
    return np.array(_dims(op.inputs[tensor.value_index]))
  if op.type == "ConcatOffset":
    axis, shapes = int(_constant(op.inputs[0])), list(map(
        _constant, op.inputs[1:]))
    offset = np.zeros_like(shapes[0])
    offset[axis] = sum(shape[axis] for shape in shapes[:tensor.value_index])
    return offset
  if op.type in _FOLDED:
    return _FOLDED[op.type](*map(_constant, op.inputs))
  return symbolic_shapes.constant(tensor)


def _part(values, begin, size):
  """What Slice takes of an array."""
  return values[tuple(
      slice(int(start), None if count < 0 else int(start + count))
      for start, count in zip(begin, size))]


#: dict from op type to what it computes of arrays.
_FOLDED = {"Neg": np.negative, "Reshape": np.reshape, "Slice": _part}


def _by_type(*groups):
  """dict from op type to rule, of pairs (op types with spaces, rule)."""
  return {name: rule for names, rule in groups for name in names.split()}


#: dict from op type to rule: a function of the op, the index of the output and
#: the tables of the inputs.
_RULES = dict({name: _joined for name in dependence_rules.ELEMENTWISE
               if name != "BroadcastTo"}, **_by_type(
    ("BroadcastTo", _broadcast),
    ("Max Mean Min Prod Sum", _reduced),
    ("BatchMatMul BatchMatMulV2 MatMul", _matmul),
    ("ExpandDims Reshape Squeeze", _moved(_reshaped)),
    ("StridedSlice", _moved(_strided_slice)),
    ("StridedSliceGrad", _moved(_strided_slice_gradient, 4)),
    ("Slice", _moved(_slice)),
    ("Pad PadV2", _moved(_padded)),
    ("MirrorPad", _moved(_mirrored)),
    ("Transpose", _moved(_transposed)),
    ("ReverseV2", _moved(_reversed)),
    ("Roll", _moved(_rolled)),
    ("Tile", _moved(_tiled)),
    ("Gather GatherV2", _moved(_gathered)),
    ("ConcatV2 Pack", _beside),
    ("Unpack", _unpacked)))
