"""What XLA computes as TensorFlow does, and where TensorFlow looks at values.

TensorFlow refuses an index that is out of range and the division of an integer
by zero; a program of XLA takes the nearest index, or any number. NaN has
another place among numbers there, and what is too large for an integer becomes
another one. Such a value cannot be wrong where it depends on shapes alone and a
run at these shapes has computed it. Elsewhere it has to be looked at.
"""

import collections

from gradfeed.compilation.loops import growing_lists
from gradfeed.compilation.loops import turns
from gradfeed.compilation import pools
from gradfeed.compilation import ranges
from gradfeed.compilation import slices
from gradfeed.graph import op_types

#: Ops that have the same results, but for rounding, and check no value.
_SAME = frozenset("""
Abs Acos Acosh Add AddN AddV2 All Angle Any Asin Asinh Atan Atan2 Atanh AvgPool
AvgPool3D AvgPool3DGrad AvgPoolGrad BatchMatMul BatchMatMulV2 BatchMatMulV3
BatchToSpace BatchToSpaceND BiasAdd BiasAddGrad BitwiseAnd BitwiseOr BitwiseXor
BroadcastGradientArgs BroadcastTo Ceil ClipByValue Complex ComplexAbs Concat
ConcatOffset ConcatV2 Conj Const Conv2D Conv2DBackpropFilter Conv2DBackpropInput
Conv3D Conv3DBackpropFilterV2 Conv3DBackpropInputV2 Cos Cosh Cross Cumprod
Cumsum DepthToSpace DepthwiseConv2dNative DepthwiseConv2dNativeBackpropFilter
DepthwiseConv2dNativeBackpropInput Diag DiagPart Digamma DivNoNan Einsum Elu
EluGrad EmptyTensorList EnsureShape Equal Erf Erfc Exp ExpandDims Expm1 Fill
Floor FusedBatchNorm FusedBatchNormGrad FusedBatchNormGradV2
FusedBatchNormGradV3 FusedBatchNormV2 FusedBatchNormV3 Greater GreaterEqual
Identity IdentityN Imag Inv Invert IsFinite IsInf IsNan L2Loss LeakyRelu
LeakyReluGrad Less LessEqual Lgamma LinSpace Log Log1p LogicalAnd LogicalNot
LogicalOr LogSoftmax LRN LRNGrad MatMul MatrixBandPart MatrixDiag MatrixDiagPart
MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixSetDiag
MatrixSetDiagV2 MatrixSetDiagV3 Max Maximum MaxPool MaxPoolV2 Mean Min Minimum
MirrorPad MirrorPadGrad Mul MulNoNan Ndtri Neg NoOp NotEqual OneHot OnesLike
Pack Pad PadV2 Placeholder PlaceholderWithDefault PreventGradient Prod Range
Rank Real Reciprocal ReciprocalGrad Relu Relu6 Relu6Grad ReluGrad Reshape
ResizeBilinear ResizeNearestNeighbor ReverseV2 Rint Roll Round Rsqrt RsqrtGrad
Select SelectV2 Selu Shape ShapeN Sigmoid SigmoidGrad Sign Sin Sinh
Size Snapshot Softmax SoftmaxCrossEntropyWithLogits Softplus SoftplusGrad
Softsign SoftsignGrad SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV Sqrt
SqrtGrad Square SquaredDifference Squeeze StopGradient Sub Sum Tan Tanh TanhGrad
TensorListElementShape TensorListFromTensor TensorListLength TensorListPopBack
TensorListPushBack TensorListReserve TensorListStack Tile Transpose Unpack Xdivy
Xlog1py Xlogy ZerosLike
""".split()).union(op_types.FUNCTION_CALLS, pools.TYPES)

#: From the type of an op to the indices of those inputs that TensorFlow checks.
_CHECKED = dict({
    "ArgMax": (0,),
    "ArgMin": (0,),
    "Assert": (0,),
    "Cast": (0,),
    "CheckNumerics": (0,),
    "CheckNumericsV2": (0,),
    "DynamicStitch": (0,),
    "Gather": (1,),
    "GatherNd": (1,),
    "GatherV2": (1,),
    "InvertPermutation": (0,),
    "ListDiff": (0, 1),
    "MaxPoolGrad": (0,),
    "MaxPoolGradV2": (0,),
    "Pow": (1,),
    "ReverseSequence": (1,),
    "ScatterNd": (0,),
    "SeluGrad": (1,),
    "Slice": (1, 2),
    "SparseSoftmaxCrossEntropyWithLogits": (1,),
    "StridedSlice": (1, 2, 3),
    "StridedSliceGrad": (1, 2, 3),
    "TensorListGetItem": (1,),
    "TensorListResize": (1,),
    "TensorListSetItem": (1,),
    "TopKV2": (0,),
    "UnsortedSegmentSum": (1,),
}, **dict.fromkeys(ranges.DIVISIONS, (1,)))

#: Ops of which the values do not count: what they give depends on shapes alone.
_OF_SHAPES = op_types.SHAPE_READING | frozenset([
    "OnesLike", "TensorListElementShape", "TensorListLength", "ZerosLike"])

#: Which checked values cannot be told from shapes.
#:   looked_at: list of the `tf.Operation`, in the graph and in the functions
#:     that it calls, whose values a program has to look at.
#:   refused: list of (name of the op, why it cannot be compiled).
Checks = collections.namedtuple("Checks", ["looked_at", "refused"])

#: Ops of which TensorFlow checks integers alone.
_INTEGRAL = frozenset(ranges.DIVISIONS + ("Pow",))


def compiled_types():
  """The types of ops that are compiled, those that call functions apart."""
  return sorted(_SAME.union(_CHECKED).difference(op_types.FUNCTION_CALLS))


class FixedValues:
  """Which tensors depend on shapes alone, in a graph and all that it calls.

  Attributes:
    fixed: set of the names of those of the graph itself.
  """

  def __init__(self, graph, body_of, counted=(), in_doubt=()):
    """Looks at all ops.

    Args:
      graph: `tf.Graph` with functional control flow; its placeholders get
        values.
      body_of: function from an op that calls functions, and one of its
        attributes that names them, to the list of their graphs.
      counted: collection of `tf.Operation`, the loops that turn as often as at
        the values of a first run, because a program refuses others.
      in_doubt: set of the names of ops of the graph itself that a run at these
        shapes may not have computed.
    """
    self._in_doubt = in_doubt
    self._body_of = body_of
    self._counted = list(counted)
    self._looked_at = collections.OrderedDict()
    self._refused = collections.OrderedDict()
    self.fixed = self._look(graph, ())

  def checks(self):
    """The `Checks`."""
    return Checks(list(self._looked_at.values()), list(self._refused.items()))

  def counts_turns(self, loop):
    """Whether the number of turns of a loop depends on shapes alone."""
    return self._knows_turns(loop, self._statuses(loop))

  def fixed_in_turns(self, loop, counts):
    """The names of the tensors in the body of a loop that are fixed.

    Args:
      loop: `tf.Operation`.
      counts: list of bool, which of its variables may make a tensor fixed.
    """
    body, = self._body_of(loop, "body")
    return self._look(body, {t.name for t, status, does_count in zip(
        body.inputs, self._statuses(loop), counts)
                             if status and does_count})

  def _statuses(self, loop):
    return self._loop_statuses(loop, [
        t.name in self.fixed for t in loop.inputs])

  def _look(self, graph, fixed_inputs, is_run=True):
    """The set of the names of the tensors of one graph that are fixed.

    Args:
      graph: `tf.Graph`, the outermost or that of a function.
      fixed_inputs: iterable of the names of the arguments that are.
      is_run: bool; whether a run at these shapes has computed it for certain.
    """
    fixed = set(fixed_inputs)
    for op in graph.get_operations():
      if op.type in op_types.FUNCTION_CALLS:
        statuses = self._of_call(
            op, [t.name in fixed for t in op.inputs], is_run)
        fixed.update(t.name for t, is_fixed in zip(op.outputs, statuses)
                     if is_fixed)
        continue
      if op.type in _OF_SHAPES or op.type == "Const" or (
          op.type != "Placeholder" and
          all(t.name in fixed for t in op.inputs)):
        fixed.update(t.name for t in op.outputs)
      self._check(op, fixed, is_run and op.name not in self._in_doubt)
    return fixed

  def _refuse(self, op, why):
    self._refused["{} '{}'".format(op.type, op.name)] = why

  def _check(self, op, fixed, is_run):
    """Notes what is to be said about one op."""
    if op.type not in _SAME and op.type not in _CHECKED:
      self._refuse(op, "it draws other random numbers" if (
          op_types.RANDOM.search(op.type)) else
                   "it is not known to give the same there")
      return
    if op.type in pools.TYPES and not pools.can_be_replaced(op):
      self._refuse(op, "its window is large, not known, or of another format")
      return
    checked = _CHECKED.get(op.type, ())
    if (op.type in _INTEGRAL and not op.inputs[1].dtype.is_integer or
        op.type in ranges.PLACES and not op.inputs[0].dtype.is_floating or
        op.type == "Cast" and not _may_not_fit(op)):
      return
    is_fixed = all(op.inputs[i].name in fixed for i in checked)
    if is_fixed and (is_run or op.type not in ranges.TYPES):
      return  # XLA looks at the constants of other ops.
    if op.type not in ranges.TYPES or growing_lists.grows(op):
      self._refuse(op, "TensorFlow checks a value there that differs from call "
                   "to call, and XLA does not")
    elif not is_fixed and op.type in slices.BOUNDS and (
        not slices.can_be_moved(op)):
      self._refuse(op, "values decide how much it takes")
    else:
      self._looked_at[op.graph, op.name] = op

  def _of_call(self, op, statuses, is_run):
    """list of bool, for each output of a call of functions."""
    call = op_types.FUNCTION_CALLS[op.type]
    if op.type in op_types.FUNCTIONAL_LOOPS:
      statuses = self._loop_statuses(op, statuses, is_run)
      is_known = self._knows_turns(op, statuses, is_run)
      return [is_known and one for one in statuses]
    is_chosen = all(statuses[:call.first_argument])
    results = [self._results(
        body, statuses[call.first_argument:], is_run=is_run and is_chosen)
               for attribute in call.functions
               for body in self._body_of(op, attribute)]
    return [is_chosen and all(ones) for ones in zip(*results)]

  def _loop_statuses(self, op, statuses, is_run=True):
    """Which variables of a loop are fixed at every turn: list of bool.

    Where values decide how often it turns, a run tells nothing about turns that
    it does not have: then only what the body hands on unchanged is fixed.
    """
    body, = self._body_of(op, "body")
    while True:
      after = [before and result for before, result in zip(
          statuses, self._results(body, statuses, is_run=is_run))]
      if after == statuses:
        break
      statuses = after
    if not self._knows_turns(op, statuses, is_run):
      statuses = [one and turns.is_kept(body, i)
                  for i, one in enumerate(statuses)]
      # It may have had no turn. What is checked in it is looked at.
      self._results(body, statuses, is_run=False)
    return statuses

  def _knows_turns(self, loop, statuses, is_run=True):
    """Whether the number of turns of a loop is that of a run."""
    condition, = self._body_of(loop, "cond")
    does_know, = self._results(condition, statuses, is_run=is_run)
    return does_know or any(loop is one for one in self._counted)

  def _results(self, body, statuses, is_run=True):
    """Which results of a function are fixed: list of bool."""
    fixed = self._look(body, {
        t.name for t, status in zip(body.inputs, statuses) if status}, is_run)
    return [t.name in fixed for t in body.outputs]


def _may_not_fit(cast):
  """Whether a Cast makes integers of what may be too large for them.

  A processor has the least integer for such a number, XLA the nearest.
  """
  given = cast.inputs[0].dtype
  return cast.outputs[0].dtype.is_integer and (
      given.is_floating or given.is_complex)
