"""Which values that are fed decide a shape or an axis.

XLA compiles anew for each value that decides a shape, an axis or the number of
elements of a list. So such a value becomes a part of the program.
"""

from gradfeed.compilation import slices
from gradfeed.graph import op_types

#: From the type of an op to the indices of the inputs that decide what shape it
#: gives, or along which axis it works; None for all.
_SIZES = dict({
    "ArgMax": (1,), "ArgMin": (1,), "AvgPool3DGrad": (0,), "AvgPoolGrad": (0,),
    "BatchToSpace": (1,), "BatchToSpaceND": (1, 2), "BroadcastTo": (1,),
    "Concat": (0,), "ConcatV2": (-1,), "Conv2DBackpropFilter": (1,),
    "Conv2DBackpropInput": (0,), "Conv3DBackpropFilterV2": (1,),
    "Conv3DBackpropInputV2": (0,), "Cumprod": (1,), "Cumsum": (1,),
    "DepthwiseConv2dNativeBackpropFilter": (1,),
    "DepthwiseConv2dNativeBackpropInput": (0,), "ExpandDims": (1,),
    "Fill": (0,), "GatherV2": (2,), "LinSpace": (2,), "MirrorPad": (1,),
    "MirrorPadGrad": (1,), "OneHot": (1,), "Pad": (1,), "PadV2": (1,),
    "Range": None, "Reshape": (1,), "ResizeBilinear": (1,),
    "ResizeNearestNeighbor": (1,), "ReverseV2": (1,), "Roll": (2,),
    "ScatterNd": (2,), "SpaceToBatch": (1,), "SpaceToBatchND": (1, 2),
    "Split": (0,), "SplitV": (1, 2), "TensorListReserve": (0, 1), "Tile": (1,),
    "TopKV2": (1,), "Transpose": (1,), "UnsortedSegmentSum": (2,),
}, **dict.fromkeys(("All", "Any", "Max", "Mean", "Min", "Prod", "Sum"), (1,)))


def deciding(graph, arguments, body_of):
  """The arguments of a graph that decide a shape, an axis or a size.

  Args:
    graph: `tf.Graph` with functional control flow.
    arguments: list of the names of its placeholders.
    body_of: as in `value_checks.FixedValues`.

  Returns:
    list of the indices of those of `arguments` that are whole numbers.
  """
  reached = _sources(_operands(graph, body_of))
  return [i for i, name in enumerate(arguments) if name + ":0" in reached and
          graph.get_tensor_by_name(name + ":0").dtype.is_integer]


def _operands(graph, body_of):
  """The tensors of a graph that decide sizes, in it or in what it calls."""
  operands = []
  for op in graph.get_operations():
    if op.type in _SIZES:
      indices = _SIZES[op.type]
      operands += (op.inputs if indices is None else
                   [op.inputs[i] for i in indices])
    elif op.type in slices.BOUNDS and not slices.can_be_moved(op):
      operands += [op.inputs[i] for i in slices.BOUNDS[op.type]]
    call = op_types.FUNCTION_CALLS.get(op.type)
    for attribute in call.functions if call else ():
      for body in body_of(op, attribute):
        reached = _sources(_operands(body, body_of))
        operands += [
            given for given, argument in zip(
                list(op.inputs)[call.first_argument:], body.inputs)
            if argument.name in reached]
  return operands


def _sources(tensors):
  """The names of the tensors from whose values `tensors` are computed."""
  reached, queue = set(), list(tensors)
  while queue:
    tensor = queue.pop()
    if tensor.name in reached:
      continue
    reached.add(tensor.name)
    op = tensor.op
    if op.type in op_types.FUNCTIONAL_LOOPS:
      queue.append(op.inputs[tensor.value_index])
    elif op.type not in op_types.SHAPE_READING and (
        op.type not in op_types.FUNCTIONAL):
      queue.extend(op.inputs)
  return reached
