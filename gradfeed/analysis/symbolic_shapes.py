"""The sizes of tensors, as far as they are known before a graph runs."""

import collections

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import row_demands
from gradfeed.graph import traversal

#: The size of an axis or block: `number`, an int, times the sizes `symbols`,
#: which differ from run to run: a sorted tuple of (tensor name, axis).
Size = collections.namedtuple("Size", ["number", "symbols"])
#: The size 1, and what stands in a shape for the rest of the elements.
ONE, REST = Size(1, ()), Size(-1, ())


class UnknownStatically(Exception):
  """A size or value is not known before the graph runs."""


def constant(tensor):
  """The value of a tensor that is the same in every run, as an array.

  Raises:
    UnknownStatically: it may differ from run to run.
  """
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
  """The entry at an index of a vector, whose other entries may be unknown.

  Raises:
    UnknownStatically: the entry may differ from run to run.
  """
  if tensor.op.type == "ConcatOffset":
    if position == constant(tensor.op.inputs[0]):
      raise UnknownStatically
    return 0
  if tensor.op.type == "Pack" and not tensor.op.get_attr("axis"):
    return constant(tensor.op.inputs[position])
  return constant(tensor)[position]


def dims_of(tensor):
  """The shape of `tensor` as a list, with None where it differs between runs.

  Raises:
    UnknownStatically: not even the rank is known.
  """
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
  """The rank of `tensor`; raises `UnknownStatically` as `dims_of` does."""
  return len(dims_of(tensor))


def axes_of(tensor, rank):
  """The set of the axes, none negative, that the value of `tensor` lists.

  Args:
    tensor: `tf.Tensor`, integer, the axes of a reduction or the like.
    rank: int, of the tensor whose axes they are.
  """
  if tensor.op.type == "BroadcastGradientArgs":
    return _broadcast_axes(tensor, rank)
  return {int(axis) % rank for axis in np.ravel(constant(tensor))}


def _is_unbroadcast(op):
  """Whether `op` sums a cotangent over the axes that were broadcast."""
  return op.type == "Sum" and op.inputs[1].op.type == "BroadcastGradientArgs"


def _broadcast_axes(tensor, rank):
  """The axes that an output of BroadcastGradientArgs lists."""
  dims = []
  for shape in tensor.op.inputs:
    if shape.op.type in ("Shape", "ShapeN"):
      sizes = dims_of(shape.op.inputs[shape.value_index])
    else:
      sizes = constant(shape).tolist()
    dims.append([1] * (rank - len(sizes)) + sizes)
  own, other = dims[tensor.value_index], dims[1 - tensor.value_index]
  return {i for i in range(rank) if own[i] == 1 != other[i]}


def attribute(op, name, default):
  """The attribute of `op`, or `default` where it has none of that name."""
  try:
    return op.get_attr(name)
  except ValueError:
    return default


class Sizes:
  """Finds the sizes of tensors, equal where they are equal in every run.

  A size that is not known statically is followed back to the tensor that it
  comes from, so that the lengths of a sequence before and after a layer are
  found to be equal.
  """

  def __init__(self, demands):
    """Starts with no sizes known.

    Args:
      demands: the function `dependence_rules.demands`, which has to import
        this module.
    """
    self._sizes = {}
    self._demands = demands

  def of(self, tensor):
    """The list of the `Size`s of the axes of `tensor`.

    Raises:
      UnknownStatically: not even the rank is known.
    """
    if tensor.name not in self._sizes:
      # In order, so that a graph is never too deep for Python's stack. In a
      # loop there is no order, and some sizes are then not followed.
      above = [output for op in traversal.ancestors(
          [tensor], self._sizes).values() for output in op.outputs]
      for output in above:
        self._sizes[output.name] = self._named(output)
      for output in above:
        self._sizes[output.name] = [
            (size.symbols and self._source(output, axis)) or size
            for axis, size in enumerate(self._sizes[output.name])]
    if tensor.shape.ndims is None and not self._sizes[tensor.name]:
      raise UnknownStatically
    return self._sizes[tensor.name]

  def _named(self, tensor):
    """The sizes of `tensor` under its own name; none if its rank is unknown."""
    try:
      dims = dims_of(tensor)
    except UnknownStatically:
      return []
    return [Size(1, ((tensor.name, axis),)) if dim is None else Size(dim, ())
            for axis, dim in enumerate(dims)]

  def _source(self, tensor, axis):
    """The `Size` of the axis above `tensor` that `axis` comes from, or None."""
    op = tensor.op
    try:
      if op.type in _SHAPED:
        return self._asked(op, op.inputs[_SHAPED[op.type]])[axis]
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

  def _asked(self, op, shape):
    """The `Size`s of the result of `op`, whose input `shape` lists them."""
    asked = self.entries(shape)
    given = [size for size in asked if size != REST]
    if len(given) == len(asked):
      return asked
    left = over(product(self.of(op.inputs[0])), given)
    return [left if size == REST else size for size in asked]

  def entries(self, tensor, depth=0):
    """The `Size`s that the entries of an integer vector or scalar stand for.

    Args:
      tensor: `tf.Tensor`, a shape or a part of one.
      depth: int, how many ops this is below the first call.

    Returns:
      list with a `Size` for each entry, None where it is unknown.

    Raises:
      UnknownStatically: the number of entries is unknown.
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
  """The product of a list of `Size`s; None if one of them is None."""
  if None in sizes:
    return None
  return Size(int(np.prod([size.number for size in sizes], dtype=np.int64)),
              tuple(sorted(sum((size.symbols for size in sizes), ()))))


def over(size, others):
  """`size` divided by the product of `others`; None if it is not divisible."""
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


#: How many ops the computation of a shape is followed up: it is recursive.
_DEPTH = 100

#: dict from the types of ops that get the shape of their result as an input to
#: the index of that input.
_SHAPED = {"BroadcastTo": 1, "Fill": 0, "Reshape": 1}

#: Ops that are computed from constants here, as `tf.get_static_value` does not
#: know them in every version.
_FOLDED = {
    "Add": np.add, "AddV2": np.add, "Cast": np.asarray, "FloorMod": np.mod,
    "Identity": np.asarray,
    "InvertPermutation": np.argsort, "Mul": np.multiply, "Range": np.arange,
    "ConcatV2": lambda *parts: np.concatenate(parts[:-1], int(parts[-1])),
    "Pack": lambda *parts: np.stack(parts), "Sub": np.subtract}

#: Ops that pass entries of shapes on: the number of inputs with entries (as the
#: end of a slice), and a function of the op and of the entries of each.
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
