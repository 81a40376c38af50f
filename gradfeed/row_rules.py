"""What each type of op reads of its inputs for one row of its output.

Each rule is a function of an op, the index of one of its outputs and the rows
wanted there, `known.Along`; it returns the list of what the op wants of its
inputs for that. What it says of inputs in `_SETTLING` does not count.
"""

import numpy as np

from gradfeed import known
from gradfeed import paths


def demands(op, index, demand, sizes):
  """What `op` wants of its inputs for a demand on one of its outputs.

  Args:
    op: `tf.Operation`.
    index: int, which output.
    demand: what is wanted of that output.
    sizes: `known.Sizes`.

  Returns:
    List of demands, one for each input (none for those left over, or where it
    says None); None if no rule is sure.
  """
  if op.type in paths.MEASURING or not op.inputs:
    return []
  if op.type == "IdentityN":
    return [demand if i == index else None for i in range(len(op.inputs))]
  if demand == known.SHAPE:
    return [known.SHAPE] * len(op.inputs)
  if isinstance(demand, known.Along):
    try:
      if op.type in _SIZED_RULES:
        demands = _SIZED_RULES[op.type](op, demand, sizes)
      else:
        demands = _RULES.get(op.type, _undecided)(op, index, demand)
    except known.Unclear:
      return None
  elif op.type not in _READING and (
      op.op_def is None or op.op_def.is_stateful):
    return None  # Its value may come from elsewhere than its inputs.
  else:
    demands = [demand] * len(op.inputs)
  for position in _SETTLING.get(op.type, ()):
    demands[position] = known.SHAPE
  return demands


def _undecided(unused_op, unused_index, unused_rows):
  raise known.Unclear


def _same(op, unused_index, rows):
  return [rows] * len(op.inputs)


def _all(op, unused_index, unused_rows):
  return [known.WHOLE] * len(op.inputs)


def _aligned(tensor, rows, dims):
  """The demand for an operand that is broadcast to a result of size `dims`."""
  own = known.dims_of(tensor)
  axis = rows.axis - len(dims) + len(own)
  if axis < 0 or own[axis] == 1 != dims[rows.axis]:
    return known.WHOLE
  return rows._replace(axis=axis)


def _broadcast(op, index, rows):
  dims = known.dims_of(op.outputs[index])
  return [_aligned(tensor, rows, dims) for tensor in op.inputs]


def _select(op, unused_index, rows):
  # A condition that is a vector goes along the first axis, not the last.
  chosen = rows if rows.axis < known.rank_of(op.inputs[0]) else known.WHOLE
  return [chosen, rows, rows]


def _leading(*whole):
  """The rule of an op on images: rows on axis 0, but for the inputs `whole`."""
  def rule(op, unused_index, rows):
    if rows.axis:
      raise known.Unclear
    return [known.WHOLE if i in whole else rows for i in range(len(op.inputs))]
  return rule


def _batch_norm(op, index, rows):
  if index or rows.axis:
    raise known.Unclear
  if op.get_attr("is_training"):
    return _all(op, index, rows)
  images = 2 if "Grad" in op.type else 1
  # The last, of version 3, only matters in training, and then on a GPU.
  return [rows] * images + [known.WHOLE] * (5 - images) + [None] * (
      len(op.inputs) - 5)


def _bias(op, unused_index, rows):
  channels = _channels(op, op.inputs[0])
  return [rows, rows._replace(axis=0) if rows.axis == channels else known.WHOLE]


def _bias_gradient(op, unused_index, rows):
  return [rows._replace(axis=_channels(op, op.inputs[0]))]


def _channels(op, tensor):
  is_first = op.get_attr("data_format") == b"NCHW"
  return 1 if is_first else known.rank_of(tensor) - 1


def _matmul(op, index, rows):
  inner = rows.axis - known.rank_of(op.outputs[0]) + 2
  if inner < 0:  # Matrices are stacked along this axis.
    return _broadcast(op, index, rows)
  names = _FLIPS.get(op.type, ("adj_x", "adj_y"))
  flipped = bool(op.get_attr(names[inner]))
  axis = known.rank_of(op.inputs[inner]) - 2 + (inner != flipped)
  demands = [known.WHOLE, known.WHOLE]
  demands[inner] = rows._replace(axis=axis)
  return demands


def _stacked(op, index, rows):
  """The rule of an op on several stacks of matrices, which broadcasts."""
  if rows.axis >= known.rank_of(op.outputs[index]) - 2:
    raise known.Unclear
  return _broadcast(op, index, rows)


def _einsum(op, unused_index, rows):
  equation = op.get_attr("equation").decode().replace(" ", "")
  terms, result = equation.split("->")
  dims = known.dims_of(op.outputs[0])
  label = _labels(result, len(dims))[rows.axis]
  demands = []
  for term, tensor in zip(terms.split(","), op.inputs):
    labels = _labels(term, known.rank_of(tensor))
    if labels.count(label) > 1:
      raise known.Unclear
    if label not in labels:
      demands.append(known.WHOLE)
      continue
    axis = labels.index(label)
    broadcast = known.dims_of(tensor)[axis] == 1 != dims[rows.axis]
    demands.append(known.WHOLE if broadcast else rows._replace(axis=axis))
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
    rank = max(known.rank_of(op.inputs[0]), known.rank_of(op.outputs[index]))
    if rows.axis < rank - count:
      return [rows if rows.axis < known.rank_of(t) else known.WHOLE
              for t in op.inputs]
    if within is None:
      raise known.Unclear
    return [within] * len(op.inputs)
  return rule


def _beside(position, within=None):
  """The rule of an op along the axes that the input at `position` names."""
  def rule(op, index, rows):
    if rows.axis not in known.axes_of(
        op.inputs[position], known.rank_of(op.outputs[index])):
      return [rows] * len(op.inputs)
    if within is None:
      raise known.Unclear
    return [within] * len(op.inputs)
  return rule


def _reduced(op, unused_index, rows):
  rank = known.rank_of(op.inputs[0])
  axes = known.axes_of(op.inputs[1], rank)
  keep = known.attribute(op, "keep_dims", False)
  axis = [i for i in range(rank) if keep or i not in axes][rows.axis]
  return [known.WHOLE if axis in axes else rows._replace(axis=axis),
          known.SHAPE]


def _cross_entropy(op, unused_index, rows):
  if rows.axis:
    return _all(op, unused_index, rows)
  dims = known.dims_of(op.outputs[1])
  return [known.WHOLE if known.dims_of(t)[0] == 1 != dims[0] else rows
          for t in op.inputs]


def _reshaped(op, rows, sizes):
  # Row b are all places (i * B + b) * width + j in memory, in either shape,
  # for i below `outer` and j below `width`.
  after, before = sizes.of(op.outputs[0]), sizes.of(op.inputs[0])
  outer = known.product(after[:rows.axis] + [rows.outer])
  width = known.product(after[rows.axis + 1:] + [rows.size])
  fits = [rows._replace(axis=axis, outer=known.over(outer, before[:axis]),
                        size=known.over(width, before[axis + 1:]))
          for axis in range(len(before))]
  fits = [fit for fit in fits if fit.outer and fit.size]
  if not fits:
    raise known.Unclear
  return [min(fits, key=lambda fit: (
      fit.outer != known.ONE, fit.size != known.ONE,
      abs(fit.axis - rows.axis))), known.SHAPE]


def _transpose(op, unused_index, rows):
  source = int(known.constant(op.inputs[1])[rows.axis])
  return [rows._replace(axis=source), known.SHAPE]


def _expand(op, unused_index, rows):
  new, = known.axes_of(op.inputs[1], known.rank_of(op.outputs[0]))
  return [_without(new, rows), known.SHAPE]


def _without(new, rows):
  """The rows before the axis `new` was put in."""
  if rows.axis == new:
    raise known.Unclear
  return rows._replace(axis=rows.axis - (new < rows.axis))


def _squeeze(op, unused_index, rows):
  dims = known.dims_of(op.inputs[0])
  gone = [axis % len(dims) for axis in op.get_attr("squeeze_dims")]
  if not gone:
    if None in dims:
      raise known.Unclear
    gone = [i for i, dim in enumerate(dims) if dim == 1]
  kept = [i for i in range(len(dims)) if i not in gone]
  return [rows._replace(axis=kept[rows.axis])]


def _pack(op, unused_index, rows):
  axis = op.get_attr("axis") % known.rank_of(op.outputs[0])
  return [_without(axis, rows)] * len(op.inputs)


def _unpack(op, unused_index, rows):
  axis = op.get_attr("axis") % known.rank_of(op.inputs[0])
  return [rows._replace(axis=rows.axis + (axis <= rows.axis))]


def _one_hot(op, unused_index, rows):
  axis = op.get_attr("axis") % known.rank_of(op.outputs[0])
  return [_without(axis, rows), known.SHAPE, known.WHOLE, known.WHOLE]


def _tile(op, unused_index, rows):
  demand = _aligned(op.inputs[0], rows, known.dims_of(op.outputs[0]))
  if demand != known.WHOLE and known.entry(op.inputs[1], rows.axis) != 1:
    raise known.Unclear
  return [demand, known.SHAPE]


def _fill(unused_op, unused_index, unused_rows):
  return [known.SHAPE, known.WHOLE]


def _pad(op, unused_index, rows):
  if np.any(known.entry(op.inputs[1], rows.axis)):
    raise known.Unclear
  return [rows, known.SHAPE, known.WHOLE][:len(op.inputs)]


def _slice(op, rows, sizes):
  # A slice that leaves rows out may be one row, broadcast afterwards.
  source, begin, size = op.inputs
  taken = sizes.entries(size)[rows.axis]
  if known.entry(begin, rows.axis) or (
      taken != known.REST and taken != sizes.of(source)[rows.axis]):
    raise known.Unclear
  return [rows, known.SHAPE, known.SHAPE]


def _strided_slice(op, unused_index, rows):
  backward = op.type == "StridedSliceGrad"
  dims = known.dims_of(op.outputs[0] if backward else op.inputs[0])
  for inside, (axis, position) in enumerate(_sliced_axes(op, len(dims))):
    if axis is not None and rows.axis == (axis if backward else inside):
      if position is None or _is_full(op, position, dims[axis]):
        return [rows._replace(axis=inside if backward else axis)] * len(
            op.inputs)
  raise known.Unclear


def _sliced_axes(op, rank):
  """(axis of the input, position in `begin`) for each axis of a slice.

  The axis is None where it is new, and the position where all is taken.
  """
  count, = known.dims_of(op.inputs[1])
  if count is None:
    raise known.Unclear
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
  if known.entry(strides, position) != 1:
    return False
  if not is_open("begin") and known.entry(begin, position) != 0:
    return False
  return bool(is_open("end")) or (
      size is not None and known.entry(end, position) >= size)


def _gather(op, unused_index, rows):
  indices = op.inputs[1]
  batch = known.attribute(op, "batch_dims", 0) % max(known.rank_of(indices), 1)
  axis = batch
  if op.type == "GatherV2":
    axis, = known.axes_of(op.inputs[2], known.rank_of(op.inputs[0]))
  shared = known.rank_of(indices) - batch
  if rows.axis < batch:
    demands = [rows, rows]
  elif rows.axis < axis:
    demands = [rows, known.WHOLE]
  elif rows.axis < axis + shared:
    demands = [known.PICKED, rows._replace(axis=rows.axis - axis + batch)]
  else:
    demands = [rows._replace(axis=rows.axis - shared + 1), known.WHOLE]
  return (demands + [known.SHAPE])[:len(op.inputs)]


def _gather_nd(op, unused_index, rows):
  params, indices = op.inputs
  outer, depth = known.rank_of(indices) - 1, known.dims_of(indices)[-1]
  if rows.axis < outer:
    own = rows.outer == known.ONE and _has_row_numbers(
        indices, known.dims_of(params)[0])
    return [rows if own else known.PICKED, rows]
  if depth is None:
    raise known.Unclear
  return [rows._replace(axis=rows.axis - outer + depth), known.WHOLE]


def _has_row_numbers(indices, size):
  """Whether `indices` are `tf.stack([tf.range(B), ...], 1)`."""
  if (indices.op.type != "Pack" or known.rank_of(indices) != 2 or
      indices.op.get_attr("axis") not in (1, -1)):
    return False
  number = indices.op.inputs[0].op
  while number.type in ("Cast", "Identity"):
    number = number.inputs[0].op
  if number.type != "Range":
    return False
  start, limit, delta = number.inputs
  if known.constant(start) != 0 or known.constant(delta) != 1:
    return False
  count, = known.dims_of(number.outputs[0])
  if count is not None:
    return count == size
  while limit.op.type in ("Cast", "Identity"):
    limit = limit.op.inputs[0]
  return (limit.op.type == "StridedSlice" and
          limit.op.inputs[0].op.type == "Shape" and
          not np.any(known.constant(limit.op.inputs[1])))


def _reverse_sequence(op, unused_index, rows):
  if rows.axis != op.get_attr("batch_dim"):
    raise known.Unclear
  return [rows, rows._replace(axis=0)]


def _by_type(*groups):
  """dict from each op type in a group's text to what the group says of it."""
  return {name: value for names, value in groups for name in names.split()}


#: Ops with state that have what they return from what they take.
_READING = frozenset(["ReadVariableOp", "ResourceGather"])

#: Ops that are not to blame for mixing rows if there is another.
MOVING = frozenset(["ConcatV2", "ExpandDims", "Fill", "Pack", "Reshape",
                     "Squeeze", "Tile", "Transpose"])

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

ELEMENTWISE = _by_type(
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

_RULES = dict(ELEMENTWISE, **_by_type(
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
    ("FFT IFFT IRFFT LogSoftmax RFFT Softmax TopKV2", _inner(1, known.WHOLE)),
    ("""Cholesky CholeskyGrad FFT2D IFFT2D IRFFT2D LogMatrixDeterminant
     MatrixDeterminant MatrixExponential MatrixInverse MatrixLogarithm
     MatrixSquareRoot Qr RFFT2D SelfAdjointEigV2 Svd""",
     _inner(2, known.WHOLE)),
    ("""MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagPartV2
     MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixSetDiag MatrixSetDiagV2
     MatrixSetDiagV3""", _inner(2)),
    ("FFT3D IFFT3D IRFFT3D RFFT3D", _inner(3, known.WHOLE)),
    ("Cumprod Cumsum CumulativeLogsumexp ReverseV2", _beside(1, known.WHOLE)),
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

#: Rules that compare sizes: functions of the op, the rows and `known.Sizes`.
_SIZED_RULES = {"Reshape": _reshaped, "Slice": _slice}
