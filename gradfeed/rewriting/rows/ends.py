"""Where the axis of one row begins in a graph, and where it ends.

A value of one row may get its axis in the graph (`tf.expand_dims`), and a
result may have lost it (the mean of the losses of a batch of one). What lies
between has it; the rest is built again here, for many rows.
"""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import symbolic_shapes
from gradfeed.graph import traversal

_REDUCTIONS = {
    "Max": tf.reduce_max, "Mean": tf.reduce_mean, "Min": tf.reduce_min,
    "Prod": tf.reduce_prod, "Sum": tf.reduce_sum}

_ARITHMETIC = {"Add": tf.add, "AddV2": tf.add, "Mul": tf.multiply,
               "RealDiv": tf.divide, "Sub": tf.subtract}

_SQUEEZING = ("Reshape", "Squeeze")


def is_one_row(tensor):
  """Whether the static length of the first axis of a tensor is 1."""
  return bool(tensor.shape.ndims) and tensor.shape.as_list()[0] == 1


def beginnings(tensor, wanted):
  """The tensors of one row that a tensor without an axis for rows becomes.

  Args:
    tensor: `tf.Tensor` that is fed.
    wanted: list of `tf.Tensor`.

  Returns:
    list of `tf.Tensor` with the elements of `tensor`, and its axis before; None
    where an op reads it in another way.
  """
  ops = traversal.ancestors(wanted, {tensor.name})
  readers = [op for op in traversal.consumers(tensor) if op.name in ops]
  if not all(op.type in ("ExpandDims", "Reshape") and op.inputs[0] is tensor and
             is_one_row(op.outputs[0]) and
             op.outputs[0].shape.is_fully_defined() for op in readers):
    return None
  return [op.outputs[0] for op in readers]


def end_of(tensor):
  """What a tensor without an axis for rows is computed from, and how.

  Args:
    tensor: `tf.Tensor` of the original graph.

  Returns:
    (`tf.Tensor` of one row, function from the tensor with all rows in its place
    to that in the place of `tensor`); None where no rule tells.
  """
  op = tensor.op
  if op.type == "Identity":
    return end_of(op.inputs[0])
  if op.type in _ARITHMETIC and tensor.shape.ndims == 0:
    for i, given in enumerate(op.inputs):
      if _tf.static_value(op.inputs[1 - i]) is not None:
        end = end_of(given)
        return end and (end[0], _arithmetic(op, i, end[1]))
    return None
  base = op.inputs[0] if op.inputs else None
  if base is None or not is_one_row(base):
    return None
  rule = _RULES.get(op.type)
  try:
    build = rule and rule(op)
  except symbolic_shapes.UnknownStatically:
    return None
  return build and (base, build)


def _arithmetic(op, index, build):
  """The function of `end_of` for an op with a constant."""
  def rebuilt(rows):
    operands = list(op.inputs)
    operands[index] = build(rows)
    return _ARITHMETIC[op.type](*operands)

  return rebuilt


def _reduced(op):
  axes = symbolic_shapes.axes_of(op.inputs[1], op.inputs[0].shape.ndims)
  if 0 not in axes or op.get_attr("keep_dims"):
    return None
  return lambda rows: _REDUCTIONS[op.type](rows, sorted(axes - {0}))


def _squeezed(op):
  shape = op.outputs[0].shape
  return (lambda rows: tf.reshape(rows, [-1] + shape.as_list())) if (
      shape.is_fully_defined()) else None


def _picked(op):
  """That of y[0, ...]."""
  masks = {name: op.get_attr(name + "_mask") for name in (
      "begin", "end", "ellipsis", "new_axis", "shrink_axis")}
  begin, end, strides = map(symbolic_shapes.constant, op.inputs[1:])
  if not masks["shrink_axis"] & 1 or begin[0] not in (0, -1) or (
      masks["ellipsis"] | masks["new_axis"]) & 1:
    return None
  return lambda rows: tf.strided_slice(
      rows, begin, end, [1] + list(strides[1:]), masks["begin"] | 1,
      masks["end"] | 1, masks["ellipsis"], masks["new_axis"],
      masks["shrink_axis"] & ~1)


_RULES = dict({name: _reduced for name in _REDUCTIONS},
              StridedSlice=_picked, **{name: _squeezed for name in _SQUEEZING})
