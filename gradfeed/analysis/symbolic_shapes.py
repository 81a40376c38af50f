"""What is known of the sizes of tensors before a graph runs."""

import collections

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import row_demands
from gradfeed.graph import traversal

#: A size: a number times sizes that differ from run to run, each named by a
#: tensor and one of its axes, in order.
Size = collections.namedtuple("Size", ["number", "symbols"])
ONE, REST = Size(1, ()), Size(-1, ())


class UnknownStatically(Exception):
  """What the graph says before it runs is not enough to tell."""


def constant(tensor):
  """The value of a tensor that has the same in every run, as an array."""
  op = tensor.op
  if op.type == "Const":
    return _tf.constant_value(tensor)
  if op.type in _FOLDED and not attribute(op, "axis", 0):
    return _FOLDED[op.type](*[constant(source) for source in op.inputs])
  value = _tf.static_value(tensor)
  if value is None:
    raise UnknownStatically
  return np.asarray(value)


def entry(tensor, position):
  """One entry of a tensor, which may be constant where others are not."""
  if tensor.op.type == "ConcatOffset":
    if position == constant(tensor.op.inputs[0]):
      raise UnknownStatically
    return 0
  if tensor.op.type == "Pack" and not tensor.op.get_attr("axis"):
    return constant(tensor.op.inputs[position])
  return constant(tensor)[position]


def dims_of(tensor):
  """The list of sizes, None where they differ from run to run."""
  if _is_unbroadcast(tensor.op):
    # Its axes are computed when it runs, so TensorFlow knows no shape of it.
    dims = dims_of(tensor.op.inputs[0])
    axes = axes_of(tensor.op.inputs[1], len(dims))
    keep = tensor.op.get_attr("keep_dims")
    return [1 if i in axes else dim for i, dim in enumerate(dims)
            if keep or i not in axes]
  if tensor.shape.ndims is None:
    raise UnknownStatically
  return tensor.shape.as_list()


def rank_of(tensor):
  return len(dims_of(tensor))


def axes_of(tensor, rank):
  """The set of axes, none negative, that `tensor` has the numbers of."""
  if tensor.op.type == "BroadcastGradientArgs":
    return _broadcast_axes(tensor, rank)
  return {int(axis) % rank for axis in np.ravel(constant(tensor))}


def _is_unbroadcast(op):
  """Whether `op` is part of the gradient of an op that broadcasts."""
  return op.type == "Sum" and op.inputs[1].op.type == "BroadcastGradientArgs"


def _broadcast_axes(tensor, rank):
  """The axes that one of two operands was broadcast along."""
  dims = []
  for shape in tensor.op.inputs:
    if shape.op.type in ("Shape", "ShapeN"):
      known = dims_of(shape.op.inputs[shape.value_index])
    else:
      known = constant(shape).tolist()
    dims.append([1] * (rank - len(known)) + known)
  own, other = dims[tensor.value_index], dims[1 - tensor.value_index]
  return {i for i in range(rank) if own[i] == 1 != other[i]}


def attribute(op, name, default):
  try:
    return op.get_attr(name)
  except ValueError:
    return default


class Sizes:
  """The sizes of tensors, as far as they can be told apart before a run.

  A size that is not known statically is followed back to where it comes from,
  so that those of a sequence before and after a layer are found to be equal.
  """

  def __init__(self, demands):
    """Args: demands: function that is `dependence_rules.demands`."""
    self._known = {}
    self._demands = demands

  def of(self, tensor):
    """The list of a `Size` for each axis of `tensor`."""
    if tensor.name not in self._known:
      # In order, so that a graph is never too deep for Python's stack. In a
      # loop there is no order, and some sizes are then not followed.
      above = [output for op in traversal.ancestors(
          [tensor], self._known).values() for output in op.outputs]
      for output in above:
        self._known[output.name] = self._named(output)
      for output in above:
        self._known[output.name] = [
            (size.symbols and self._source(output, axis)) or size
            for axis, size in enumerate(self._known[output.name])]
    if tensor.shape.ndims is None and not self._known[tensor.name]:
      raise UnknownStatically
    return self._known[tensor.name]

  def _named(self, tensor):
    """The sizes of `tensor` under its own name; none if its rank is unknown."""
    try:
      dims = dims_of(tensor)
    except UnknownStatically:
      return []
    return [Size(1, ((tensor.name, axis),)) if dim is None else Size(dim, ())
            for axis, dim in enumerate(dims)]

  def _source(self, tensor, axis):
    """The size of what `tensor` has this axis from; None if it has its own."""
    op = tensor.op
    try:
      if op.type in _SHAPED:
        return self._wanted(op, op.inputs[_SHAPED[op.type]])[axis]
      demands = self._demands(
          op, tensor.value_index, row_demands.RowDemand(axis, ONE, ONE),
          self) or []
      sizes = {self.of(source)[rows.axis]
               for source, rows in zip(op.inputs, demands)
               if isinstance(rows, row_demands.RowDemand) and
               source.dtype != tf.resource}
    except UnknownStatically:
      return None
    return sizes.pop() if len(sizes) == 1 else None

  def _wanted(self, op, shape):
    """The sizes that `shape`, an input of `op`, gives its result."""
    wanted = self.entries(shape)
    rest = [size for size in wanted if size != REST]
    if len(rest) == len(wanted):
      return wanted
    left = over(product(self.of(op.inputs[0])), rest)
    return [left if size == REST else size for size in wanted]

  def entries(self, tensor, depth=0):
    """A `Size` for each entry of a vector, or for a number; None if unclear.
    """
    op = tensor.op
    if op.type in ("Shape", "ShapeN"):
      return self.of(op.inputs[tensor.value_index])
    count = tensor.shape.num_elements()
    if count is None or rank_of(tensor) > 1:
      raise UnknownStatically
    try:
      return [Size(int(n), ()) for n in np.ravel(constant(tensor))]
    except UnknownStatically:
      pass
    entries = []
    if op.type in _PICKING and depth < _DEPTH:
      sources, pick = _PICKING[op.type]
      try:
        entries = pick(op, *[self.entries(source, depth + 1)
                             for source in op.inputs[:sources]])
      except UnknownStatically:
        pass
    return entries if len(entries) == count else [None] * count


def product(sizes):
  """The `Size` of a block with sides `sizes`; None if one of them is."""
  if None in sizes:
    return None
  return Size(int(np.prod([size.number for size in sizes], dtype=np.int64)),
              tuple(sorted(sum((size.symbols for size in sizes), ()))))


def over(size, others):
  """`size` without the factors `others`; None if they are not all in it."""
  divisor = product(others)
  if size is None or divisor is None or not divisor.number:
    return None
  left = collections.Counter(size.symbols)
  left.subtract(divisor.symbols)
  if size.number % divisor.number or min(left.values(), default=0) < 0:
    return None
  return Size(size.number // divisor.number, tuple(sorted(left.elements())))


def _sliced(op, entries):
  """The entries that a strided slice of a vector takes."""
  if op.get_attr("ellipsis_mask") or op.get_attr("new_axis_mask"):
    raise UnknownStatically
  begin, end, stride = (int(constant(t)[0]) for t in op.inputs[1:])
  if op.get_attr("shrink_axis_mask"):
    return [entries[begin]]
  return entries[None if op.get_attr("begin_mask") else begin:
                 None if op.get_attr("end_mask") else end:stride]


def _taken(op, entries):
  """The entries that `tf.slice` of a vector takes."""
  begin, size = (int(constant(t)[0]) for t in op.inputs[1:])
  return entries[begin:][:None if size < 0 else size]


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
        entries[i] for i in np.ravel(constant(op.inputs[1]))]),
    "Identity": (1, lambda op, entries: entries),
    "Mul": (2, lambda op, *parts: [product(both) for both in zip(*parts)]),
    "Pack": (None, lambda op, *parts: sum(parts, [])),
    "Prod": (1, lambda op, entries: [product(entries)]),
    "Reshape": (1, lambda op, entries: entries),
    "Slice": (1, _taken),
    "StridedSlice": (1, _sliced)}
