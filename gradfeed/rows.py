"""Which rows of what a batch is computed from one row of the batch reads.

The question is answered from the types of the ops alone, walking back from y
with demands. An op that reads row b of its operand for row b of its result
hands the demand for rows on, along the axis that they have there; an op that
mixes rows turns it into a demand for everything. Where an op, or what is
known of its shapes, leaves a doubt, the walk stops there and says so.
"""

import collections

import numpy as np

from gradfeed import paths
from gradfeed._tf import tf

#: Demands other than `_Along`. All of a tensor is read for one row; any of
#: its rows may be read, because they are picked by index; its value settles
#: shapes, axes or positions alone.
_WHOLE, _PICKED, _SHAPE = "whole", "picked", "shape"

#: The demand for rows. Row b are the places (i * B + b) * size + j on `axis`,
#: for i below `outer` and j below `size`: mostly place b, and both are 1.
_Along = collections.namedtuple("_Along", ["axis", "outer", "size"])

#: A size: a number times sizes that differ from run to run, each named by a
#: tensor and one of its axes, in order.
_Size = collections.namedtuple("_Size", ["number", "symbols"])
_ONE, _REST = _Size(1, ()), _Size(-1, ())


class _Unclear(Exception):
  """A rule cannot tell where the rows lie from what the graph says."""


class Rows:
  """Where the rows of `ys` lie in what they are computed from.

  A dimension that is not known statically is taken for the number of rows
  where it meets rows: it is not 1 and broadcast when the graph runs.

  Attributes:
    axes: dict from the name of each tensor that is read row by row to the axis
      of its rows.
    blocks: dict from the name of each tensor in which a row is more than one
      place of an axis to (axis, m): places b * m to b * m + m - 1, or, if m is
      None, rows interleaved or of a length that differs from run to run.
    whole: dict from the name of each tensor that is read as a whole for one
      row to the op that does. A size of the batch that is used as a number
      shows here as the output of a Shape or a Size.
    picked: set of the names in `whole` of which this is not certain: rows are
      picked from them by index.
    shapes: dict from the name of each tensor whose value settles a shape, an
      axis or a position to the op that reads it. Data that is found here does
      change the result, if not along the rows.
    readers: dict from each name in `axes` or `blocks` to the op that reads
      its rows; None for `ys`.
    unknown: list of ops of `part`, those nearest to y first, that no rule is
      sure about. Their inputs are in none of these for their sake.
  """

  def __init__(self, ys, part, axis=0):
    """Walks back from `ys`.

    Args:
      ys: list of `tf.Tensor` with rows along `axis`.
      part: dict from name to `tf.Operation`, the ops to pass through. A demand
        for what another op makes is noted and goes no further.
      axis: int, not negative.
    """
    self.axes, self.blocks, self.whole, self.shapes = {}, {}, {}, {}
    self.readers, self.picked, self.unknown = {}, set(), []
    self._rows = {}
    self._seen = set()
    self._sizes = _Sizes()
    self._queue = collections.deque()
    for y in ys:
      self._ask(y, _Along(axis, _ONE, _ONE), None)
    while self._queue:
      tensor, demand = self._queue.popleft()
      op = tensor.op
      if op.name not in part:
        continue
      demands = _demands(op, tensor.value_index, demand, self._sizes)
      if demands is None:
        if op not in self.unknown:
          self.unknown.append(op)
        continue
      for source, wanted in zip(op.inputs, demands):
        self._ask(source, wanted, op)

  def _ask(self, tensor, demand, reader):
    """Notes what `reader` wants of `tensor`; queued unless it was before."""
    name = tensor.name
    if isinstance(demand, _Along):
      if self._rows.setdefault(name, demand) != demand:
        demand = _WHOLE  # Rows in two directions: no row is apart from all.
    covered = demand == _PICKED and (name, _WHOLE) in self._seen
    if demand is None or covered or (name, demand) in self._seen:
      return
    self._seen.add((name, demand))
    self._queue.append((tensor, demand))
    if demand == _SHAPE:
      self.shapes[name] = reader
    elif demand == _PICKED:
      self.whole[name] = reader
      self.picked.add(name)
    elif demand == _WHOLE:
      self.whole[name] = reader
      self.picked.discard(name)
    else:
      self.readers[name] = reader
      axis, outer, size = demand
      if outer == size == _ONE:
        self.axes[name] = axis
      else:
        simple = outer == _ONE and not size.symbols
        self.blocks[name] = axis, size.number if simple else None


def coupling(ys, x, part):
  """Whether row b of each of `ys` depends on row b of `x` alone.

  Args:
    ys: list of `tf.Tensor`, shape `[B, ...]`.
    x: `tf.Tensor`, shape `[B, ...]`.
    part: dict from name to `tf.Operation`, the ops on a differentiable path
      from `x` to `ys` and no others.

  Returns:
    ("independent", None); ("coupled", the op that mixes the rows); or
    ("unknown", the first op that no rule is sure about).
  """
  rows = Rows(ys, part)
  on_path = {t.name for op in part.values() for t in op.outputs} | {x.name}
  whole = [(name, op) for name, op in rows.whole.items() if name in on_path]
  mixing = [read for read in whole if read[0] not in rows.picked]
  if mixing:
    return "coupled", min(mixing, key=lambda read: _innocence(x, *read))[1]
  if rows.axes.get(x.name):
    return "coupled", rows.readers[x.name]
  unsure = rows.unknown + [op for _, op in whole]
  if x.name in rows.blocks:
    unsure.append(rows.readers[x.name])
  return ("unknown", unsure[0]) if unsure else ("independent", None)


def _innocence(x, name, reader):
  """How little it looks as if `reader` mixed the rows; compares.

  Where all of a tensor is read for one row of y, an op between y and the one
  that mixes the rows may only prepare the result of that for every row, and
  behind it everything is read as a whole. So it is the first that reads what
  may have rows, and does more than to move them.
  """
  read = next(t for t in reader.inputs if t.name == name)
  if not x.shape.ndims or read.shape.ndims is None:  # Or a handle.
    has_rows = True
  else:
    count, dims = x.shape.as_list()[0], read.shape.as_list()
    has_rows = None in dims or any(
        count and dim >= count and not dim % count for dim in dims)
  return reader.type in _ELEMENTWISE or reader.type in _MOVING, not has_rows


def _demands(op, index, demand, sizes):
  """What `op` wants of its inputs for a demand on one of its outputs.

  Args:
    op: `tf.Operation`.
    index: int, which output.
    demand: what is wanted of that output.
    sizes: `_Sizes`.

  Returns:
    List of demands, one for each input (none for those left over, or where it
    says None); None if no rule is sure.
  """
  if op.type in _MEASURING or not op.inputs:
    return []
  if op.type == "IdentityN":
    return [demand if i == index else None for i in range(len(op.inputs))]
  if demand == _SHAPE:
    return [_SHAPE] * len(op.inputs)
  if isinstance(demand, _Along):
    try:
      if op.type in _SIZED_RULES:
        demands = _SIZED_RULES[op.type](op, demand, sizes)
      else:
        demands = _RULES.get(op.type, _undecided)(op, index, demand)
    except _Unclear:
      return None
  elif op.type not in _READING and (
      op.op_def is None or op.op_def.is_stateful):
    return None  # Its value may come from elsewhere than its inputs.
  else:
    demands = [demand] * len(op.inputs)
  for position in _SETTLING.get(op.type, ()):
    demands[position] = _SHAPE
  return demands


# What is known of a graph before it runs. All of these raise `_Unclear` where
# it is not enough.


def _constant(tensor):
  """The value of a tensor that has the same in every run, as an array."""
  op = tensor.op
  if op.type == "Const":
    return tf.make_ndarray(op.get_attr("value"))
  if op.type in _FOLDED and not _attribute(op, "axis", 0):
    return _FOLDED[op.type](*[_constant(source) for source in op.inputs])
  value = tf.get_static_value(tensor)
  if value is None:
    raise _Unclear
  return np.asarray(value)


def _entry(tensor, position):
  """One entry of a tensor, which may be constant where others are not."""
  if tensor.op.type == "ConcatOffset":
    if position == _constant(tensor.op.inputs[0]):
      raise _Unclear
    return 0
  if tensor.op.type == "Pack" and not tensor.op.get_attr("axis"):
    return _constant(tensor.op.inputs[position])
  return _constant(tensor)[position]


def _dims(tensor):
  """The list of sizes, None where they differ from run to run."""
  if _is_unbroadcast(tensor.op):
    # Its axes are computed when it runs, so TensorFlow knows no shape of it.
    dims = _dims(tensor.op.inputs[0])
    axes = _axes(tensor.op.inputs[1], len(dims))
    keep = tensor.op.get_attr("keep_dims")
    return [1 if i in axes else dim for i, dim in enumerate(dims)
            if keep or i not in axes]
  if tensor.shape.ndims is None:
    raise _Unclear
  return tensor.shape.as_list()


def _rank(tensor):
  return len(_dims(tensor))


def _axes(tensor, rank):
  """The set of axes, none negative, that `tensor` has the numbers of."""
  if tensor.op.type == "BroadcastGradientArgs":
    return _broadcast_axes(tensor, rank)
  return {int(axis) % rank for axis in np.ravel(_constant(tensor))}


def _is_unbroadcast(op):
  """Whether `op` is part of the gradient of an op that broadcasts."""
  return op.type == "Sum" and op.inputs[1].op.type == "BroadcastGradientArgs"


def _broadcast_axes(tensor, rank):
  """The axes that one of two operands was broadcast along."""
  dims = []
  for shape in tensor.op.inputs:
    if shape.op.type in ("Shape", "ShapeN"):
      known = _dims(shape.op.inputs[shape.value_index])
    else:
      known = _constant(shape).tolist()
    dims.append([1] * (rank - len(known)) + known)
  own, other = dims[tensor.value_index], dims[1 - tensor.value_index]
  return {i for i in range(rank) if own[i] == 1 != other[i]}


def _attribute(op, name, default):
  try:
    return op.get_attr(name)
  except ValueError:
    return default


class _Sizes:
  """The sizes of tensors, as far as they can be told apart before a run.

  A size that is not known statically is followed back to where it comes from,
  so that those of a sequence before and after a layer are found to be equal.
  """

  def __init__(self):
    self._known = {}

  def of(self, tensor):
    """The list of a `_Size` for each axis of `tensor`."""
    if tensor.name not in self._known:
      # In order, so that a graph is never too deep for Python's stack. In a
      # loop there is no order, and some sizes are then not followed.
      above = [output for op in paths.ancestors(
          [tensor], self._known).values() for output in op.outputs]
      for output in above:
        self._known[output.name] = self._named(output)
      for output in above:
        self._known[output.name] = [
            (size.symbols and self._source(output, axis)) or size
            for axis, size in enumerate(self._known[output.name])]
    if tensor.shape.ndims is None and not self._known[tensor.name]:
      raise _Unclear
    return self._known[tensor.name]

  def _named(self, tensor):
    """The sizes of `tensor` under its own name; none if its rank is unknown."""
    try:
      dims = _dims(tensor)
    except _Unclear:
      return []
    return [_Size(1, ((tensor.name, axis),)) if dim is None else _Size(dim, ())
            for axis, dim in enumerate(dims)]

  def _source(self, tensor, axis):
    """The size of what `tensor` has this axis from; None if it has its own."""
    op = tensor.op
    try:
      if op.type in _SHAPED:
        return self._wanted(op, op.inputs[_SHAPED[op.type]])[axis]
      demands = _demands(
          op, tensor.value_index, _Along(axis, _ONE, _ONE), self) or []
      sizes = {self.of(source)[rows.axis]
               for source, rows in zip(op.inputs, demands)
               if isinstance(rows, _Along) and source.dtype != tf.resource}
    except _Unclear:
      return None
    return sizes.pop() if len(sizes) == 1 else None

  def _wanted(self, op, shape):
    """The sizes that `shape`, an input of `op`, gives its result."""
    wanted = self.entries(shape)
    rest = [size for size in wanted if size != _REST]
    if len(rest) == len(wanted):
      return wanted
    left = _over(_product(self.of(op.inputs[0])), rest)
    return [left if size == _REST else size for size in wanted]

  def entries(self, tensor, depth=0):
    """A `_Size` for each entry of a vector, or for a number; None if unclear.
    """
    op = tensor.op
    if op.type in ("Shape", "ShapeN"):
      return self.of(op.inputs[tensor.value_index])
    count = tensor.shape.num_elements()
    if count is None or _rank(tensor) > 1:
      raise _Unclear
    try:
      return [_Size(int(n), ()) for n in np.ravel(_constant(tensor))]
    except _Unclear:
      pass
    entries = []
    if op.type in _PICKING and depth < _DEPTH:
      sources, pick = _PICKING[op.type]
      try:
        entries = pick(op, *[self.entries(source, depth + 1)
                             for source in op.inputs[:sources]])
      except _Unclear:
        pass
    return entries if len(entries) == count else [None] * count


def _product(sizes):
  """The `_Size` of a block with sides `sizes`; None if one of them is."""
  if None in sizes:
    return None
  return _Size(int(np.prod([size.number for size in sizes], dtype=np.int64)),
               tuple(sorted(sum((size.symbols for size in sizes), ()))))


def _over(size, others):
  """`size` without the factors `others`; None if they are not all in it."""
  divisor = _product(others)
  if size is None or divisor is None or not divisor.number:
    return None
  left = collections.Counter(size.symbols)
  left.subtract(divisor.symbols)
  if size.number % divisor.number or min(left.values(), default=0) < 0:
    return None
  return _Size(size.number // divisor.number, tuple(sorted(left.elements())))


def _sliced(op, entries):
  """The entries that a strided slice of a vector takes."""
  if op.get_attr("ellipsis_mask") or op.get_attr("new_axis_mask"):
    raise _Unclear
  begin, end, stride = (int(_constant(t)[0]) for t in op.inputs[1:])
  if op.get_attr("shrink_axis_mask"):
    return [entries[begin]]
  return entries[None if op.get_attr("begin_mask") else begin:
                 None if op.get_attr("end_mask") else end:stride]


def _taken(op, entries):
  """The entries that `tf.slice` of a vector takes."""
  begin, size = (int(_constant(t)[0]) for t in op.inputs[1:])
  return entries[begin:][:None if size < 0 else size]


# The rules. Each is a function of an op, the index of one of its outputs and
# the rows wanted there, `_Along`; it returns the list of what the op wants of
# its inputs for that. What it says of inputs in `_SETTLING` does not count.


def _undecided(unused_op, unused_index, unused_rows):
  raise _Unclear


def _same(op, unused_index, rows):
  return [rows] * len(op.inputs)


def _all(op, unused_index, unused_rows):
  return [_WHOLE] * len(op.inputs)


def _aligned(tensor, rows, dims):
  """The demand for an operand that is broadcast to a result of size `dims`."""
  own = _dims(tensor)
  axis = rows.axis - len(dims) + len(own)
  if axis < 0 or own[axis] == 1 != dims[rows.axis]:
    return _WHOLE
  return rows._replace(axis=axis)


def _broadcast(op, index, rows):
  dims = _dims(op.outputs[index])
  return [_aligned(tensor, rows, dims) for tensor in op.inputs]


def _select(op, unused_index, rows):
  # A condition that is a vector goes along the first axis, not the last.
  chosen = rows if rows.axis < _rank(op.inputs[0]) else _WHOLE
  return [chosen, rows, rows]


def _leading(*whole):
  """The rule of an op on images: rows on axis 0, but for the inputs `whole`."""
  def rule(op, unused_index, rows):
    if rows.axis:
      raise _Unclear
    return [_WHOLE if i in whole else rows for i in range(len(op.inputs))]
  return rule


def _batch_norm(op, index, rows):
  if index or rows.axis:
    raise _Unclear
  if op.get_attr("is_training"):
    return _all(op, index, rows)
  images = 2 if "Grad" in op.type else 1
  return [rows] * images + [_WHOLE] * (len(op.inputs) - images)


def _bias(op, unused_index, rows):
  channels = _channels(op, op.inputs[0])
  return [rows, rows._replace(axis=0) if rows.axis == channels else _WHOLE]


def _bias_gradient(op, unused_index, rows):
  return [rows._replace(axis=_channels(op, op.inputs[0]))]


def _channels(op, tensor):
  return 1 if op.get_attr("data_format") == b"NCHW" else _rank(tensor) - 1


def _matmul(op, index, rows):
  inner = rows.axis - _rank(op.outputs[0]) + 2
  if inner < 0:  # Matrices are stacked along this axis.
    return _broadcast(op, index, rows)
  names = _FLIPS.get(op.type, ("adj_x", "adj_y"))
  flipped = bool(op.get_attr(names[inner]))
  axis = _rank(op.inputs[inner]) - 2 + (inner != flipped)
  demands = [_WHOLE, _WHOLE]
  demands[inner] = rows._replace(axis=axis)
  return demands


def _stacked(op, index, rows):
  """The rule of an op on several stacks of matrices, which broadcasts."""
  if rows.axis >= _rank(op.outputs[index]) - 2:
    raise _Unclear
  return _broadcast(op, index, rows)


def _einsum(op, unused_index, rows):
  equation = op.get_attr("equation").decode().replace(" ", "")
  terms, result = equation.split("->")
  dims = _dims(op.outputs[0])
  label = _labels(result, len(dims))[rows.axis]
  demands = []
  for term, tensor in zip(terms.split(","), op.inputs):
    labels = _labels(term, _rank(tensor))
    if labels.count(label) > 1:
      raise _Unclear
    if label not in labels:
      demands.append(_WHOLE)
      continue
    axis = labels.index(label)
    broadcast = _dims(tensor)[axis] == 1 != dims[rows.axis]
    demands.append(_WHOLE if broadcast else rows._replace(axis=axis))
  return demands


def _labels(term, rank):
  """One label for each axis; those of an ellipsis are counted from its end."""
  before, ellipsis, after = term.partition("...")
  hidden = rank - len(before) - len(after) if ellipsis else 0
  return list(before) + list(range(-hidden, 0)) + list(after)


def _inner(count, within=None):
  """The rule of an op on the last `count` axes of a stack.

  Args:
    count: int.
    within: the demand for all inputs if the rows lie along one of these axes;
      None if that is unclear.
  """
  def rule(op, index, rows):
    rank = max(_rank(op.inputs[0]), _rank(op.outputs[index]))
    if rows.axis < rank - count:
      return [rows if rows.axis < _rank(t) else _WHOLE for t in op.inputs]
    if within is None:
      raise _Unclear
    return [within] * len(op.inputs)
  return rule


def _beside(position, within=None):
  """The rule of an op along the axes that the input at `position` names."""
  def rule(op, index, rows):
    if rows.axis not in _axes(op.inputs[position], _rank(op.outputs[index])):
      return [rows] * len(op.inputs)
    if within is None:
      raise _Unclear
    return [within] * len(op.inputs)
  return rule


def _reduced(op, unused_index, rows):
  rank = _rank(op.inputs[0])
  axes = _axes(op.inputs[1], rank)
  keep = _attribute(op, "keep_dims", False)
  axis = [i for i in range(rank) if keep or i not in axes][rows.axis]
  return [_WHOLE if axis in axes else rows._replace(axis=axis), _SHAPE]


def _cross_entropy(op, unused_index, rows):
  if rows.axis:
    return _all(op, unused_index, rows)
  dims = _dims(op.outputs[1])
  return [_WHOLE if _dims(t)[0] == 1 != dims[0] else rows for t in op.inputs]


def _reshaped(op, rows, sizes):
  # Row b are all places (i * B + b) * width + j in memory, in either shape,
  # for i below `outer` and j below `width`.
  after, before = sizes.of(op.outputs[0]), sizes.of(op.inputs[0])
  outer = _product(after[:rows.axis] + [rows.outer])
  width = _product(after[rows.axis + 1:] + [rows.size])
  fits = [rows._replace(axis=axis, outer=_over(outer, before[:axis]),
                        size=_over(width, before[axis + 1:]))
          for axis in range(len(before))]
  fits = [fit for fit in fits if fit.outer and fit.size]
  if not fits:
    raise _Unclear
  return [min(fits, key=lambda fit: (
      fit.outer != _ONE, fit.size != _ONE, abs(fit.axis - rows.axis))), _SHAPE]


def _transpose(op, unused_index, rows):
  return [rows._replace(axis=int(_constant(op.inputs[1])[rows.axis])), _SHAPE]


def _expand(op, unused_index, rows):
  new, = _axes(op.inputs[1], _rank(op.outputs[0]))
  return [_without(new, rows), _SHAPE]


def _without(new, rows):
  """The rows before the axis `new` was put in."""
  if rows.axis == new:
    raise _Unclear
  return rows._replace(axis=rows.axis - (new < rows.axis))


def _squeeze(op, unused_index, rows):
  dims = _dims(op.inputs[0])
  gone = [axis % len(dims) for axis in op.get_attr("squeeze_dims")]
  if not gone:
    if None in dims:
      raise _Unclear
    gone = [i for i, dim in enumerate(dims) if dim == 1]
  kept = [i for i in range(len(dims)) if i not in gone]
  return [rows._replace(axis=kept[rows.axis])]


def _pack(op, unused_index, rows):
  axis = op.get_attr("axis") % _rank(op.outputs[0])
  return [_without(axis, rows)] * len(op.inputs)


def _unpack(op, unused_index, rows):
  axis = op.get_attr("axis") % _rank(op.inputs[0])
  return [rows._replace(axis=rows.axis + (axis <= rows.axis))]


def _one_hot(op, unused_index, rows):
  axis = op.get_attr("axis") % _rank(op.outputs[0])
  return [_without(axis, rows), _SHAPE, _WHOLE, _WHOLE]


def _tile(op, unused_index, rows):
  demand = _aligned(op.inputs[0], rows, _dims(op.outputs[0]))
  if demand != _WHOLE and _entry(op.inputs[1], rows.axis) != 1:
    raise _Unclear
  return [demand, _SHAPE]


def _fill(unused_op, unused_index, unused_rows):
  return [_SHAPE, _WHOLE]


def _pad(op, unused_index, rows):
  if np.any(_entry(op.inputs[1], rows.axis)):
    raise _Unclear
  return [rows, _SHAPE, _WHOLE][:len(op.inputs)]


def _slice(op, rows, sizes):
  # A slice that leaves rows out may be one row, broadcast afterwards.
  source, begin, size = op.inputs
  taken = sizes.entries(size)[rows.axis]
  if _entry(begin, rows.axis) or (
      taken != _REST and taken != sizes.of(source)[rows.axis]):
    raise _Unclear
  return [rows, _SHAPE, _SHAPE]


def _strided_slice(op, unused_index, rows):
  backward = op.type == "StridedSliceGrad"
  dims = _dims(op.outputs[0] if backward else op.inputs[0])
  for inside, (axis, position) in enumerate(_sliced_axes(op, len(dims))):
    if axis is not None and rows.axis == (axis if backward else inside):
      if position is None or _is_full(op, position, dims[axis]):
        return [rows._replace(axis=inside if backward else axis)] * len(
            op.inputs)
  raise _Unclear


def _sliced_axes(op, rank):
  """(axis of the input, position in `begin`) for each axis of a slice.

  The axis is None where it is new, and the position where all is taken.
  """
  count, = _dims(op.inputs[1])
  if count is None:
    raise _Unclear
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
  """Whether a strided slice takes all of an axis, in order."""
  def is_open(kind):
    return op.get_attr(kind + "_mask") >> position & 1
  _, begin, end, strides = op.inputs[:4]
  if _entry(strides, position) != 1:
    return False
  if not is_open("begin") and _entry(begin, position) != 0:
    return False
  return bool(is_open("end")) or (
      size is not None and _entry(end, position) >= size)


def _gather(op, unused_index, rows):
  indices = op.inputs[1]
  batch = _attribute(op, "batch_dims", 0) % max(_rank(indices), 1)
  axis = batch
  if op.type == "GatherV2":
    axis, = _axes(op.inputs[2], _rank(op.inputs[0]))
  shared = _rank(indices) - batch
  if rows.axis < batch:
    demands = [rows, rows]
  elif rows.axis < axis:
    demands = [rows, _WHOLE]
  elif rows.axis < axis + shared:
    demands = [_PICKED, rows._replace(axis=rows.axis - axis + batch)]
  else:
    demands = [rows._replace(axis=rows.axis - shared + 1), _WHOLE]
  return (demands + [_SHAPE])[:len(op.inputs)]


def _gather_nd(op, unused_index, rows):
  params, indices = op.inputs
  outer, depth = _rank(indices) - 1, _dims(indices)[-1]
  if rows.axis < outer:
    own = rows.outer == _ONE and _has_row_numbers(indices, _dims(params)[0])
    return [rows if own else _PICKED, rows]
  if depth is None:
    raise _Unclear
  return [rows._replace(axis=rows.axis - outer + depth), _WHOLE]


def _has_row_numbers(indices, size):
  """Whether `indices` are `tf.stack([tf.range(B), ...], 1)`."""
  if (indices.op.type != "Pack" or _rank(indices) != 2 or
      indices.op.get_attr("axis") not in (1, -1)):
    return False
  number = indices.op.inputs[0].op
  while number.type in ("Cast", "Identity"):
    number = number.inputs[0].op
  if number.type != "Range":
    return False
  start, limit, delta = number.inputs
  if _constant(start) != 0 or _constant(delta) != 1:
    return False
  count, = _dims(number.outputs[0])
  if count is not None:
    return count == size
  while limit.op.type in ("Cast", "Identity"):
    limit = limit.op.inputs[0]
  return (limit.op.type == "StridedSlice" and
          limit.op.inputs[0].op.type == "Shape" and
          not np.any(_constant(limit.op.inputs[1])))


def _reverse_sequence(op, unused_index, rows):
  if rows.axis != op.get_attr("batch_dim"):
    raise _Unclear
  return [rows, rows._replace(axis=0)]


def _by_type(*groups):
  """dict from each op type in a group's text to what the group says of it."""
  return {name: value for names, value in groups for name in names.split()}


#: Ops that look at the shape of what they read and not at its value.
_MEASURING = frozenset(["Rank", "Shape", "ShapeN", "Size"])

#: Ops with state that have what they return from what they take.
_READING = frozenset(["ReadVariableOp", "ResourceGather"])

#: Ops that are not to blame for mixing rows if there is another.
_MOVING = frozenset(["ConcatV2", "ExpandDims", "Fill", "Pack", "Reshape",
                     "Squeeze", "Tile", "Transpose"])

#: How far the computation of a shape is followed: it is recursive.
_DEPTH = 100

#: Ops whose result has the shape that one of their inputs says; which one.
_SHAPED = {"BroadcastTo": 1, "Fill": 0, "Reshape": 1}

#: What is computed from constants, where `tf.get_static_value` does not.
_FOLDED = {
    "Add": np.add, "AddV2": np.add, "Cast": np.asarray, "FloorMod": np.mod,
    "Identity": np.asarray,
    "InvertPermutation": np.argsort, "Mul": np.multiply, "Range": np.arange,
    "ConcatV2": lambda *parts: np.concatenate(parts[:-1], int(parts[-1])),
    "Pack": lambda *parts: np.stack(parts), "Sub": np.subtract}

#: What the entries of shapes pass through: the number of inputs with entries
#: (None for all), and a function of the op and of the entries of each.
_PICKING = {
    "Cast": (1, lambda op, entries: entries),
    "ConcatV2": (-1, lambda op, *parts: sum(parts, [])),
    "ExpandDims": (1, lambda op, entries: entries),
    "GatherV2": (1, lambda op, entries: [
        entries[i] for i in np.ravel(_constant(op.inputs[1]))]),
    "Identity": (1, lambda op, entries: entries),
    "Mul": (2, lambda op, *parts: [_product(both) for both in zip(*parts)]),
    "Pack": (None, lambda op, *parts: sum(parts, [])),
    "Prod": (1, lambda op, entries: [_product(entries)]),
    "Reshape": (1, lambda op, entries: entries),
    "Slice": (1, _taken),
    "StridedSlice": (1, _sliced)}

_FLIPS = {"MatMul": ("transpose_a", "transpose_b")}

#: The inputs that settle shapes, axes or positions alone.
_SETTLING = _by_type(
    ("""AvgPool3DGrad AvgPoolGrad Concat Conv2DBackpropInput
     Conv3DBackpropInputV2 DepthwiseConv2dNativeBackpropInput Fill
     Split""", (0,)),
    ("""All Any ArgMax ArgMin BroadcastTo ConjugateTranspose
     Conv2DBackpropFilter Conv3DBackpropFilterV2 Cumprod Cumsum
     CumulativeLogsumexp DepthwiseConv2dNativeBackpropFilter EuclideanNorm
     ExpandDims IRFFT IRFFT2D IRFFT3D MatrixDiagPartV2 MatrixDiagPartV3 Max
     Mean Min MirrorPad MirrorPadGrad OneHot Pad PadV2 Prod RFFT RFFT2D RFFT3D
     Reshape ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor
     ResizeNearestNeighborGrad ReverseV2 Sum Tile TopKV2 Transpose""", (1,)),
    ("MaxPoolV2 Slice SplitV", (1, 2)),
    ("MatrixDiagV2 MatrixDiagV3 StridedSlice", (1, 2, 3)),
    ("BroadcastGradientArgs", (0, 1)),
    ("GatherV2 MatrixSetDiagV2 MatrixSetDiagV3", (2,)),
    ("MaxPoolGradV2 MaxPoolGradGradV2", (3, 4)),
    ("StridedSliceGrad", (0, 1, 2, 3)),
    ("ConcatV2", (-1,)))

_ELEMENTWISE = _by_type(
    ("""Abs AccumulateNV2 Acos Acosh AddN Angle AsString Asin Asinh Atan Atanh
     BesselI0 BesselI0e BesselI1 BesselI1e BesselJ0 BesselJ1 BesselK0 BesselK0e
     BesselK1 BesselK1e BesselY0 BesselY1 Cast Ceil CheckNumerics ComplexAbs
     Conj Cos Cosh Dawsn Digamma Elu EluGrad EnsureShape Erf Erfc Erfinv Exp
     Expint Expm1 FakeQuantWithMinMaxArgs FakeQuantWithMinMaxArgsGradient Floor
     FresnelCos FresnelSin Identity Imag Inv InvGrad Invert IsFinite IsInf
     IsNan LeakyRelu LeakyReluGrad Lgamma Log Log1p LogicalNot Ndtri Neg
     OnesLike PlaceholderWithDefault PreventGradient ReadVariableOp Real
     Reciprocal ReciprocalGrad RefIdentity Relu Relu6 Relu6Grad ReluGrad Rint
     Round Rsqrt RsqrtGrad Selu SeluGrad Sigmoid SigmoidGrad Sign Sin Sinh
     Snapshot Softplus SoftplusGrad Softsign SoftsignGrad Spence Sqrt SqrtGrad
     Square StopGradient StringToNumber Tan Tanh TanhGrad ZerosLike""", _same),
    ("""Add AddV2 ApproximateEqual Atan2 Betainc BitwiseAnd BitwiseOr
     BitwiseXor BroadcastTo ClipByValue Complex Div DivNoNan Equal FloorDiv
     FloorMod Greater GreaterEqual Igamma IgammaGradA Igammac Less LessEqual
     LogicalAnd LogicalOr Maximum Minimum Mod Mul MulNoNan NextAfter NotEqual
     Polygamma Pow RealDiv SelectV2 SquaredDifference Sub TruncateDiv
     TruncateMod Xdivy Xlog1py Xlogy Zeta""", _broadcast),
    ("Select", _select))

_RULES = dict(_ELEMENTWISE, **_by_type(
    ("""AvgPool AvgPool3D AvgPool3DGrad AvgPoolGrad DepthToSpace
     ExtractImagePatches LRN LRNGrad MaxPool MaxPool3D MaxPool3DGrad
     MaxPool3DGradGrad MaxPoolGrad MaxPoolGradGrad MaxPoolGradGradV2
     MaxPoolGradV2 MaxPoolV2 MaxPoolWithArgmax ResizeArea ResizeBicubic
     ResizeBicubicGrad ResizeBilinear ResizeBilinearGrad ResizeNearestNeighbor
     ResizeNearestNeighborGrad SpaceToDepth""", _leading()),
    ("""Conv2D Conv2DBackpropInput Conv3D Conv3DBackpropInputV2
     DepthwiseConv2dNative DepthwiseConv2dNativeBackpropInput Dilation2D
     Dilation2DBackpropInput""", _leading(1)),
    ("""FusedBatchNorm FusedBatchNormGrad FusedBatchNormGradV2
     FusedBatchNormGradV3 FusedBatchNormV2 FusedBatchNormV3""", _batch_norm),
    ("BiasAdd", _bias),
    ("BiasAddGrad", _bias_gradient),
    ("BatchMatMul BatchMatMulV2 BatchMatMulV3 MatMul", _matmul),
    ("MatrixSolve MatrixTriangularSolve", _stacked),
    ("Einsum", _einsum),
    ("FFT IFFT IRFFT LogSoftmax RFFT Softmax TopKV2", _inner(1, _WHOLE)),
    ("""Cholesky CholeskyGrad FFT2D IFFT2D IRFFT2D LogMatrixDeterminant
     MatrixDeterminant MatrixExponential MatrixInverse MatrixLogarithm
     MatrixSquareRoot Qr RFFT2D SelfAdjointEigV2 Svd""", _inner(2, _WHOLE)),
    ("""MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagPartV2
     MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixSetDiag MatrixSetDiagV2
     MatrixSetDiagV3""", _inner(2)),
    ("FFT3D IFFT3D IRFFT3D RFFT3D", _inner(3, _WHOLE)),
    ("Cumprod Cumsum CumulativeLogsumexp ReverseV2", _beside(1, _WHOLE)),
    ("Concat Split", _beside(0)),
    ("ConcatV2", _beside(-1)),
    ("SplitV", _beside(2)),
    ("""All Any ArgMax ArgMin EuclideanNorm Max Mean Min Prod Sum""",
     _reduced),
    ("""SoftmaxCrossEntropyWithLogits SparseSoftmaxCrossEntropyWithLogits""",
     _cross_entropy),
    ("ConjugateTranspose Transpose", _transpose),
    ("ExpandDims", _expand),
    ("Squeeze", _squeeze),
    ("Pack", _pack),
    ("Unpack", _unpack),
    ("OneHot", _one_hot),
    ("Tile", _tile),
    ("Fill", _fill),
    ("MirrorPad MirrorPadGrad Pad PadV2", _pad),
    ("StridedSlice StridedSliceGrad", _strided_slice),
    ("Gather GatherV2 ResourceGather", _gather),
    ("GatherNd", _gather_nd),
    ("LinSpace Range", _all),
    ("ReverseSequence", _reverse_sequence)))

#: Rules that compare sizes: functions of the op, the rows and `_Sizes`.
_SIZED_RULES = {"Reshape": _reshaped, "Slice": _slice}
