"""What ops that reshape, slice or gather read of their inputs for one row.

Each rule is a function of an op, the index of one of its outputs and the rows
wanted there, a `row_demands.RowDemand`; it returns the list of the demands on
the inputs of the op, or raises `symbolic_shapes.UnknownStatically`.
`reshaped` and `slice` take no index, and `symbolic_shapes.Sizes` at the end.
"""

import numpy as np

from gradfeed.analysis import row_demands
from gradfeed.analysis import symbolic_shapes


def reshaped(op, rows, sizes):
  # Row b are all places (i * B + b) * width + j in memory, in either shape,
  # for i below `outer` and j below `width`.
  after, before = sizes.of(op.outputs[0]), sizes.of(op.inputs[0])
  outer = symbolic_shapes.product(after[:rows.axis] + [rows.outer])
  width = symbolic_shapes.product(after[rows.axis + 1:] + [rows.size])
  fits = [
      rows._replace(axis=axis,
                    outer=symbolic_shapes.over(outer, before[:axis]),
                    size=symbolic_shapes.over(width, before[axis + 1:]))
      for axis in range(len(before))
  ]
  fits = [fit for fit in fits if fit.outer and fit.size]
  if not fits:
    raise symbolic_shapes.UnknownStatically
  return [min(fits, key=lambda fit: (
      fit.outer != symbolic_shapes.ONE, fit.size != symbolic_shapes.ONE,
      abs(fit.axis - rows.axis))), row_demands.SHAPE]


def transpose(op, unused_index, rows):
  source = int(symbolic_shapes.constant(op.inputs[1])[rows.axis])
  return [rows._replace(axis=source), row_demands.SHAPE]


def expand(op, unused_index, rows):
  new, = symbolic_shapes.axes_of(op.inputs[1],
                                 symbolic_shapes.rank_of(op.outputs[0]))
  return [without(new, rows), row_demands.SHAPE]


def without(new, rows):
  """The demand `rows` on a tensor before the axis `new` was put into it."""
  if rows.axis == new:
    raise symbolic_shapes.UnknownStatically
  return rows._replace(axis=rows.axis - (new < rows.axis))


def squeeze(op, unused_index, rows):
  dims = symbolic_shapes.dims_of(op.inputs[0])
  gone = [axis % len(dims) for axis in op.get_attr("squeeze_dims")]
  if not gone:
    if None in dims:
      raise symbolic_shapes.UnknownStatically
    gone = [i for i, dim in enumerate(dims) if dim == 1]
  kept = [i for i in range(len(dims)) if i not in gone]
  return [rows._replace(axis=kept[rows.axis])]


def pack(op, unused_index, rows):
  axis = op.get_attr("axis") % symbolic_shapes.rank_of(op.outputs[0])
  return [without(axis, rows)] * len(op.inputs)


def unpack(op, unused_index, rows):
  axis = op.get_attr("axis") % symbolic_shapes.rank_of(op.inputs[0])
  return [rows._replace(axis=rows.axis + (axis <= rows.axis))]


def one_hot(op, unused_index, rows):
  axis = op.get_attr("axis") % symbolic_shapes.rank_of(op.outputs[0])
  return [
      without(axis, rows), row_demands.SHAPE, row_demands.WHOLE,
      row_demands.WHOLE
  ]


def pad(op, unused_index, rows):
  if np.any(symbolic_shapes.entry(op.inputs[1], rows.axis)):
    raise symbolic_shapes.UnknownStatically
  return [rows, row_demands.SHAPE, row_demands.WHOLE][:len(op.inputs)]


def slice(op, rows, sizes):
  # A slice that leaves rows out may be one row, broadcast afterwards.
  source, begin, size = op.inputs
  taken = sizes.entries(size)[rows.axis]
  if symbolic_shapes.entry(begin, rows.axis) or (
      taken != symbolic_shapes.REST and taken != sizes.of(source)[rows.axis]):
    raise symbolic_shapes.UnknownStatically
  return [rows, row_demands.SHAPE, row_demands.SHAPE]


def strided_slice(op, unused_index, rows):
  backward = op.type == "StridedSliceGrad"
  dims = symbolic_shapes.dims_of(op.outputs[0] if backward else op.inputs[0])
  for inside, (axis, position) in enumerate(_sliced_axes(op, len(dims))):
    if axis is not None and rows.axis == (axis if backward else inside):
      if position is None or _is_full(op, position, dims[axis]):
        return [rows._replace(axis=inside if backward else axis)] * len(
            op.inputs)
  raise symbolic_shapes.UnknownStatically


def _sliced_axes(op, rank):
  """Where each axis of the result of a strided slice comes from.

  Args:
    op: `tf.Operation`, StridedSlice or its gradient.
    rank: int, of the tensor that is sliced.

  Returns:
    list of (axis of that tensor, position in `begin`), one for each axis of the
    slice. The axis is None where it is new, and the position where all of the
    axis is taken.
  """
  count, = symbolic_shapes.dims_of(op.inputs[1])
  if count is None:
    raise symbolic_shapes.UnknownStatically
  masks = {kind: [i for i in range(count)
                  if op.get_attr(kind + "_mask") >> i & 1]
           for kind in ("ellipsis", "new_axis", "shrink_axis")}
  axes, axis = [], 0
  for i in range(count):
    if i in masks["ellipsis"]:
      left = sum(j not in masks["new_axis"] for j in range(i + 1, count))
      axes.extend((j, None) for j in range(axis, rank - left))
      axis = rank - left
    elif i in masks["new_axis"]:
      axes.append((None, None))
    else:
      if i not in masks["shrink_axis"]:
        axes.append((axis, i))
      axis += 1
  return axes + [(j, None) for j in range(axis, rank)]


def _is_full(op, position, size):
  """Whether a strided slice takes all of an axis, in order.

  Args:
    op: `tf.Operation`, StridedSlice or its gradient.
    position: int, the position of the axis in `begin`.
    size: int or None, the size of the axis.
  """
  def is_open(kind):
    return op.get_attr(kind + "_mask") >> position & 1
  _, begin, end, strides = op.inputs[:4]
  if symbolic_shapes.entry(strides, position) != 1:
    return False
  if not is_open("begin") and symbolic_shapes.entry(begin, position) != 0:
    return False
  return bool(is_open("end")) or (
      size is not None and symbolic_shapes.entry(end, position) >= size)


def gather(op, unused_index, rows):
  indices = op.inputs[1]
  batch = symbolic_shapes.attribute(op, "batch_dims", 0) % max(
      symbolic_shapes.rank_of(indices), 1)
  axis = batch
  if op.type == "GatherV2":
    axis, = symbolic_shapes.axes_of(op.inputs[2],
                                    symbolic_shapes.rank_of(op.inputs[0]))
  shared = symbolic_shapes.rank_of(indices) - batch
  if rows.axis < batch:
    demands = [rows, rows]
  elif rows.axis < axis:
    demands = [rows, row_demands.WHOLE]
  elif rows.axis < axis + shared:
    demands = [
        row_demands.PICKED,
        rows._replace(axis=rows.axis - axis + batch)
    ]
  else:
    demands = [
        rows._replace(axis=rows.axis - shared + 1), row_demands.WHOLE
    ]
  return (demands + [row_demands.SHAPE])[:len(op.inputs)]


def gather_nd(op, unused_index, rows):
  params, indices = op.inputs
  outer, depth = symbolic_shapes.rank_of(indices) - 1, symbolic_shapes.dims_of(
      indices)[-1]
  if rows.axis < outer:
    own = rows.outer == symbolic_shapes.ONE and _has_row_numbers(
        indices, symbolic_shapes.dims_of(params)[0])
    return [rows if own else row_demands.PICKED, rows]
  if depth is None:
    raise symbolic_shapes.UnknownStatically
  return [rows._replace(axis=rows.axis - outer + depth), row_demands.WHOLE]


def _has_row_numbers(indices, size):
  """Whether `indices` are `tf.stack([tf.range(B), ...], 1)`.

  Args:
    indices: `tf.Tensor`, shape `[B, depth]`.
    size: int or None, the number of rows B.
  """
  if (indices.op.type != "Pack" or symbolic_shapes.rank_of(indices) != 2 or
      indices.op.get_attr("axis") not in (1, -1)):
    return False
  number = indices.op.inputs[0].op
  while number.type in ("Cast", "Identity"):
    number = number.inputs[0].op
  if number.type != "Range":
    return False
  start, limit, delta = number.inputs
  if symbolic_shapes.constant(start) != 0 or symbolic_shapes.constant(
      delta) != 1:
    return False
  count, = symbolic_shapes.dims_of(number.outputs[0])
  if count is not None:
    return count == size
  while limit.op.type in ("Cast", "Identity"):
    limit = limit.op.inputs[0]
  return (limit.op.type == "StridedSlice" and
          limit.op.inputs[0].op.type == "Shape" and
          not np.any(symbolic_shapes.constant(limit.op.inputs[1])))


def reverse_sequence(op, unused_index, rows):
  if rows.axis != op.get_attr("batch_dim"):
    raise symbolic_shapes.UnknownStatically
  return [rows, rows._replace(axis=0)]
