"""What each type of op reads of its inputs for one row of its output.

Each rule is a function of an op, the index of one of its outputs and the rows
wanted there, a `row_demands.RowDemand`; it returns the list of the demands on
the inputs of the op, or raises `symbolic_shapes.UnknownStatically`. Its demands
on inputs in `_SETTLING` are replaced by `row_demands.SHAPE`.
"""

from gradfeed.analysis import indexing_rules
from gradfeed.analysis import row_demands
from gradfeed.analysis import symbolic_shapes
from gradfeed.graph import op_types


def demands(op, index, demand, sizes):
  """The demands on the inputs of `op` for a demand on one of its outputs.

  Args:
    op: `tf.Operation`.
    index: int, which output.
    demand: `row_demands.RowDemand`, WHOLE, PICKED or SHAPE.
    sizes: `symbolic_shapes.Sizes`.

  Returns:
    list of demands, one for each input; None, or the end of the list, where
    nothing is wanted. None in the place of the list if no rule decides.
  """
  if op.type in op_types.SHAPE_READING or not op.inputs:
    return []
  if op.type == "IdentityN":
    return [demand if i == index else None for i in range(len(op.inputs))]
  if demand == row_demands.SHAPE:
    return [row_demands.SHAPE] * len(op.inputs)
  if isinstance(demand, row_demands.RowDemand):
    try:
      if op.type in _SIZED_RULES:
        demands = _SIZED_RULES[op.type](op, demand, sizes)
      else:
        demands = _RULES.get(op.type, _undecided)(op, index, demand)
    except symbolic_shapes.UnknownStatically:
      return None
  elif op.type not in _READING and (
      op.op_def is None or op.op_def.is_stateful):
    return None  # Its value may come from elsewhere than its inputs.
  else:
    demands = [demand] * len(op.inputs)
  for position in _SETTLING.get(op.type, ()):
    demands[position] = row_demands.SHAPE
  return demands


def _undecided(unused_op, unused_index, unused_rows):
  """The rule of an op of which nothing is known."""
  raise symbolic_shapes.UnknownStatically


def _same(op, unused_index, rows):
  """The rule of an op whose inputs all have the shape of its output."""
  return [rows] * len(op.inputs)


def _all(op, unused_index, unused_rows):
  """The rule of an op that reads all of its inputs for each row."""
  return [row_demands.WHOLE] * len(op.inputs)


def _aligned(tensor, rows, dims):
  """The demand for an operand that is broadcast to a result of size `dims`."""
  own = symbolic_shapes.dims_of(tensor)
  axis = rows.axis - len(dims) + len(own)
  if axis < 0 or own[axis] == 1 != dims[rows.axis]:
    return row_demands.WHOLE
  return rows._replace(axis=axis)


def _broadcast(op, index, rows):
  """The rule of an op that works by element and broadcasts its inputs."""
  dims = symbolic_shapes.dims_of(op.outputs[index])
  return [_aligned(tensor, rows, dims) for tensor in op.inputs]


def _select(op, unused_index, rows):
  # A condition that is a vector goes along the first axis, not the last.
  chosen = rows if rows.axis < symbolic_shapes.rank_of(
      op.inputs[0]) else row_demands.WHOLE
  return [chosen, rows, rows]


def _leading(*whole):
  """The rule of an op on images: rows are on axis 0 and nowhere else.

  Args:
    *whole: the indices of the inputs that are read as a whole, as filters are.
  """
  def rule(op, unused_index, rows):
    if rows.axis:
      raise symbolic_shapes.UnknownStatically
    return [
        row_demands.WHOLE if i in whole else rows
        for i in range(len(op.inputs))
    ]
  return rule


def _batch_norm(op, index, rows):
  if index or rows.axis:
    raise symbolic_shapes.UnknownStatically
  if op.get_attr("is_training"):
    return _all(op, index, rows)
  images = 2 if "Grad" in op.type else 1
  # The last, of version 3, only matters in training, and then on a GPU.
  return [rows] * images + [row_demands.WHOLE] * (5 - images) + [None] * (
      len(op.inputs) - 5)


def _bias(op, unused_index, rows):
  channels = _channels(op, op.inputs[0])
  return [
      rows,
      rows._replace(axis=0) if rows.axis == channels else row_demands.WHOLE
  ]


def _bias_gradient(op, unused_index, rows):
  return [rows._replace(axis=_channels(op, op.inputs[0]))]


def _channels(op, tensor):
  """The axis of the channels of `tensor`."""
  is_first = op.get_attr("data_format") == b"NCHW"
  return 1 if is_first else symbolic_shapes.rank_of(tensor) - 1


def _matmul(op, index, rows):
  inner = rows.axis - symbolic_shapes.rank_of(op.outputs[0]) + 2
  if inner < 0:  # Matrices are stacked along this axis.
    return _broadcast(op, index, rows)
  names = _FLIPS.get(op.type, ("adj_x", "adj_y"))
  flipped = bool(op.get_attr(names[inner]))
  axis = symbolic_shapes.rank_of(op.inputs[inner]) - 2 + (inner != flipped)
  demands = [row_demands.WHOLE, row_demands.WHOLE]
  demands[inner] = rows._replace(axis=axis)
  return demands


def _stacked(op, index, rows):
  """The rule of an op on several stacks of matrices, which broadcasts."""
  if rows.axis >= symbolic_shapes.rank_of(op.outputs[index]) - 2:
    raise symbolic_shapes.UnknownStatically
  return _broadcast(op, index, rows)


def _einsum(op, unused_index, rows):
  equation = op.get_attr("equation").decode().replace(" ", "")
  terms, result = equation.split("->")
  dims = symbolic_shapes.dims_of(op.outputs[0])
  label = _labels(result, len(dims))[rows.axis]
  demands = []
  for term, tensor in zip(terms.split(","), op.inputs):
    labels = _labels(term, symbolic_shapes.rank_of(tensor))
    if labels.count(label) > 1:
      raise symbolic_shapes.UnknownStatically
    if label not in labels:
      demands.append(row_demands.WHOLE)
      continue
    axis = labels.index(label)
    broadcast = symbolic_shapes.dims_of(tensor)[axis] == 1 != dims[rows.axis]
    demands.append(row_demands.WHOLE if broadcast else rows._replace(
        axis=axis))
  return demands


def _labels(term, rank):
  """One label for each axis of an operand of einsum.

  Args:
    term: str, the labels of the operand; it may hold an ellipsis.
    rank: int, of the operand.

  Returns:
    list of str; the axes of the ellipsis have int, -1 for the last of them.
  """
  before, ellipsis, after = term.partition("...")
  hidden = rank - len(before) - len(after) if ellipsis else 0
  return list(before) + list(range(-hidden, 0)) + list(after)


def _inner(count, within=None):
  """The rule of an op on the last `count` axes, which repeats over the others.

  Args:
    count: int.
    within: the demand on all inputs if the rows are along one of these axes;
      None if that is not known.
  """
  def rule(op, index, rows):
    rank = max(symbolic_shapes.rank_of(op.inputs[0]),
               symbolic_shapes.rank_of(op.outputs[index]))
    if rows.axis < rank - count:
      return [
          rows
          if rows.axis < symbolic_shapes.rank_of(t) else row_demands.WHOLE
          for t in op.inputs
      ]
    if within is None:
      raise symbolic_shapes.UnknownStatically
    return [within] * len(op.inputs)
  return rule


def _beside(position, within=None):
  """The rule of an op along the axes that one of its inputs lists.

  Args:
    position: int, the index of that input.
    within: the demand on all inputs if the rows are along one of these axes;
      None if that is not known.
  """
  def rule(op, index, rows):
    if rows.axis not in symbolic_shapes.axes_of(
        op.inputs[position], symbolic_shapes.rank_of(op.outputs[index])):
      return [rows] * len(op.inputs)
    if within is None:
      raise symbolic_shapes.UnknownStatically
    return [within] * len(op.inputs)
  return rule


def _reduced(op, unused_index, rows):
  rank = symbolic_shapes.rank_of(op.inputs[0])
  axes = symbolic_shapes.axes_of(op.inputs[1], rank)
  keep = symbolic_shapes.attribute(op, "keep_dims", False)
  axis = [i for i in range(rank) if keep or i not in axes][rows.axis]
  return [row_demands.WHOLE if axis in axes else rows._replace(axis=axis),
          row_demands.SHAPE]


def _cross_entropy(op, unused_index, rows):
  if rows.axis:
    return _all(op, unused_index, rows)
  dims = symbolic_shapes.dims_of(op.outputs[1])
  return [
      row_demands.WHOLE
      if symbolic_shapes.dims_of(t)[0] == 1 != dims[0] else rows
      for t in op.inputs
  ]


def _tile(op, unused_index, rows):
  demand = _aligned(op.inputs[0], rows, symbolic_shapes.dims_of(op.outputs[0]))
  if demand != row_demands.WHOLE and symbolic_shapes.entry(
      op.inputs[1], rows.axis) != 1:
    raise symbolic_shapes.UnknownStatically
  return [demand, row_demands.SHAPE]


def _fill(unused_op, unused_index, unused_rows):
  return [row_demands.SHAPE, row_demands.WHOLE]


def _by_type(*groups):
  """dict from op type to value, of pairs (op types with spaces, value)."""
  return {name: value for names, value in groups for name in names.split()}


#: Stateful ops whose result is computed from the values of their inputs.
_READING = frozenset(["ReadVariableOp", "ResourceGather"])

#: Ops that move or repeat rows: they are named as the op that mixes rows only
#: if there is no other.
MOVING = frozenset([
    "ConcatV2", "ExpandDims", "Fill", "Pack", "Reshape", "Squeeze", "Tile",
    "Transpose"
])

#: dict from the type of a product of matrices to the attributes that transpose
#: its operands, where these are not adj_x and adj_y.
_FLIPS = {"MatMul": ("transpose_a", "transpose_b")}

#: dict from op type to the indices of the inputs whose values settle shapes,
#: axes or positions alone.
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

#: dict from the types of ops that work element by element to their rules.
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

#: dict from op type to rule, for all ops that have one but `_SIZED_RULES`.
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
    ("FFT IFFT IRFFT LogSoftmax RFFT Softmax TopKV2",
     _inner(1, row_demands.WHOLE)),
    ("""Cholesky CholeskyGrad FFT2D IFFT2D IRFFT2D LogMatrixDeterminant
     MatrixDeterminant MatrixExponential MatrixInverse MatrixLogarithm
     MatrixSquareRoot Qr RFFT2D SelfAdjointEigV2 Svd""",
     _inner(2, row_demands.WHOLE)),
    ("""MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagPartV2
     MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixSetDiag MatrixSetDiagV2
     MatrixSetDiagV3""", _inner(2)),
    ("FFT3D IFFT3D IRFFT3D RFFT3D", _inner(3, row_demands.WHOLE)),
    ("Cumprod Cumsum CumulativeLogsumexp ReverseV2",
     _beside(1, row_demands.WHOLE)),
    ("Concat Split", _beside(0)),
    ("ConcatV2", _beside(-1)),
    ("SplitV", _beside(2)),
    ("""All Any ArgMax ArgMin EuclideanNorm Max Mean Min Prod Sum""",
     _reduced),
    ("""SoftmaxCrossEntropyWithLogits SparseSoftmaxCrossEntropyWithLogits""",
     _cross_entropy),
    ("ConjugateTranspose Transpose", indexing_rules.transpose),
    ("ExpandDims", indexing_rules.expand),
    ("Squeeze", indexing_rules.squeeze),
    ("Pack", indexing_rules.pack),
    ("Unpack", indexing_rules.unpack),
    ("OneHot", indexing_rules.one_hot),
    ("Tile", _tile),
    ("Fill", _fill),
    ("MirrorPad MirrorPadGrad Pad PadV2", indexing_rules.pad),
    ("StridedSlice StridedSliceGrad", indexing_rules.strided_slice),
    ("Gather GatherV2 ResourceGather", indexing_rules.gather),
    ("GatherNd", indexing_rules.gather_nd),
    ("LinSpace Range", _all),
    ("ReverseSequence", indexing_rules.reverse_sequence)))

#: Rules that compare sizes: functions of the op, the rows and the `Sizes`.
_SIZED_RULES = {
    "Reshape": indexing_rules.reshaped,
    "Slice": indexing_rules.slice,
}
