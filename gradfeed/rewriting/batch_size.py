"""A part of a graph whose batch is fixed to one row, for any number of rows.

Two ways. `enlarge` copies the part with larger batches in the places of those
of one; the numbers of rows that are written into the graph as constants are
made to follow, and the ops are asked whether one of them mixes rows. `repeat`
leaves every row the only one of its batch, and has TensorFlow compute the
copies for all rows at once: it knows no coupling, and takes ten times as long
to build.
"""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import row_dependence
from gradfeed.analysis import symbolic_shapes
from gradfeed.graph import control_flow
from gradfeed.graph import traversal
from gradfeed.rewriting import cloning
from gradfeed.rewriting import subgraphs
from gradfeed.rewriting import vectorization

#: The input that is the shape of the result, or of another tensor with rows.
_SHAPES = {
    "AvgPool3DGrad": 0, "AvgPoolGrad": 0, "BroadcastTo": 1,
    "Conv2DBackpropInput": 0, "Conv3DBackpropInputV2": 0,
    "DepthwiseConv2dNativeBackpropInput": 0, "Fill": 0, "Reshape": 1,
    "Slice": 2, "StridedSliceGrad": 0}

#: The inputs that have to have a row for each row of the others: such ops do
#: not broadcast. None: all of them that have an axis for it.
_ALIGNED = {
    "AddN": None, "AvgPool3DGrad": (1,), "AvgPoolGrad": (1,),
    "BatchMatMul": None, "BiasAdd": (0,), "ConcatV2": None, "Conv2D": (0,),
    "Conv2DBackpropInput": (2,), "Conv3DBackpropInputV2": (2,),
    "DepthwiseConv2dNativeBackpropInput": (2,), "EluGrad": None,
    "FusedBatchNormGrad": (0, 1), "FusedBatchNormGradV2": (0, 1),
    "FusedBatchNormGradV3": (0, 1), "InvGrad": None, "LRNGrad": None,
    "LeakyReluGrad": None, "MaxPoolGrad": None, "MaxPoolGradGrad": None,
    "Pack": None, "ReciprocalGrad": None, "Relu6Grad": None, "ReluGrad": None,
    "RsqrtGrad": None, "Select": None, "SeluGrad": None, "SigmoidGrad": None,
    "SoftmaxCrossEntropyWithLogits": None, "SoftplusGrad": None,
    "SoftsignGrad": None, "SparseSoftmaxCrossEntropyWithLogits": None,
    "SqrtGrad": None, "TanhGrad": None}

#: Those that find out a size of -1 themselves.
_INFERRING = frozenset(["Reshape", "Slice"])

_REDUCTIONS = frozenset(["All", "Any", "Max", "Mean", "Min", "Prod", "Sum"])


class Source:
  """The rows that take the place of a tensor that is fed.

  Attributes:
    tensor: `tf.Tensor` that was fed, for one row at a time.
    rows: placeholder, shape [None, ...], for all rows.
    has_axis: bool; whether the tensor has an axis for rows, of length 1, which
      is that of the placeholder. Else the placeholder has one more.
  """

  def __init__(self, tensor, has_axis):
    self.tensor = tensor
    self.has_axis = has_axis
    shape = tensor.shape[1:] if has_axis else tensor.shape
    self.rows = tf.placeholder(
        tensor.dtype, tf.TensorShape([None]).concatenate(shape), name="rows")


def is_one_row(tensor):
  """Whether the first axis of a tensor, statically, is 1."""
  return bool(tensor.shape.ndims) and tensor.shape.as_list()[0] == 1


def enlarge(graph, wanted, sources):
  """Copies what `wanted` needs, with all rows of `sources` in one batch.

  Args:
    graph: `tf.Graph`, not finalized.
    wanted: list of `tf.Tensor`.
    sources: list of `Source`.

  Returns:
    list of `tf.Tensor` in the places of `wanted`, whose first axis is that of
    the rows; None where one of them or of the sources has no such axis, or
    where an op may mix the rows.

  Raises:
    Whatever TensorFlow raises for a graph that does not fit together.
  """
  if not all(map(is_one_row, wanted)):
    return None
  fed = {}
  for source in sources:
    if source.has_axis:
      fed[source.tensor.name] = source.rows
    elif is_one_row(source.tensor):
      fed[source.tensor.name] = tf.squeeze(source.rows, 1)
    else:
      return None
  found = traversal.ancestors(wanted, fed)
  part = subgraphs.dependent_ops(found, set(fed))
  growing = _Growing(found, part, fed)
  copied = cloning.clone_subgraph(graph,
                                  part,
                                  found,
                                  fed,
                                  "rows",
                                  rewrite=growing.rewrite)
  copied.update(fed)
  results = [copied[t.name] if t.name in copied else growing.repeated(t)
             for t in wanted]
  for result, tensor in zip(results, wanted):
    result.set_shape(tf.TensorShape([None]).concatenate(tensor.shape[1:]))
  return results if _are_apart(
      results, [source.rows.name for source in sources]) else None


def _are_apart(results, names):
  """Whether each row of `results` reads the same row of some tensors alone.

  Args:
    results: list of `tf.Tensor`.
    names: list of the names of the tensors.
  """
  found = traversal.ancestors(results, names)
  within = subgraphs.dependent_ops(found, set(names))
  part = {name: op for name, op in found.items() if name in within}
  seen = row_dependence.RowDependence(results, part)
  computed = {t.name for op in part.values() if op.inputs for t in op.outputs}
  return not seen.unknown and computed.isdisjoint(seen.whole) and all(
      name not in seen.whole and name not in seen.shapes and
      name not in seen.blocks and not seen.axes.get(name) for name in names)


class _Growing:
  """Gives the copy of a part the number of rows that its inputs have."""

  def __init__(self, found, part, fed):
    self._found = found
    self._part = part
    self._fed = fed
    self._count = tf.shape(next(iter(fed.values())))[0]
    self._made = {}

  def rewrite(self, made):
    """`rewrite` for `cloning.clone_subgraph`: adapts the reads with rows."""
    external = dict(made.external)
    for node in made.nodes:
      op = self._found[node.name]
      for place, tensor in self._changes(op):
        node.input[place] = "grown_{}:0".format(tensor.op.name)
        external[node.input[place]] = tensor
    read = {name for node in made.nodes for name in node.input}
    return made._replace(external={
        name: tensor for name, tensor in external.items() if name in read})

  def repeated(self, tensor):
    """A tensor with one row, as often as there are rows."""
    return self._once(tensor.name, lambda: tf.tile(tensor, self._with_count(
        [1] * tensor.shape.ndims)))

  def _once(self, key, build):
    if key not in self._made:
      self._made[key] = build()
    return self._made[key]

  def _with_count(self, shape, dtype=tf.int32):
    """`shape`, its first number replaced by that of the rows."""
    return tf.concat([tf.cast(self._count, dtype)[tf.newaxis],
                      tf.constant(shape[1:], dtype, [len(shape) - 1])], 0)

  def _changes(self, op):
    """(place, tensor to read there) of each input that has to follow."""
    for place, tensor in enumerate(op.inputs):
      if tensor.op.name in self._part or tensor.name in self._fed:
        continue
      if _SHAPES.get(op.type) == place:
        shape = self._shape(op, tensor)
        if shape is not None:
          yield place, shape
      elif _is_aligned(op, place) and is_one_row(tensor):
        yield place, self.repeated(tensor)
      elif op.type in _REDUCTIONS and place == 1 and self._is_idle_at_0(op):
        axes = _other_axes(op)
        if axes is not None:
          yield place, tf.constant(axes, tensor.dtype, [len(axes)])

  def _shape(self, op, tensor):
    """What tells the shape that `tensor` tells, for so many rows; or None."""
    own = op.outputs[0]
    if op.type == "Slice" and not is_one_row(op.inputs[0]):
      return None  # It takes one of the rows that there are.
    if op.type in _INFERRING and own.shape.is_fully_defined():
      # A size that is left open is one that can be reasoned about.
      shape = [-1] + own.shape.as_list()[1:]
      return self._once((tensor.dtype, tuple(shape)), lambda: tf.constant(
          shape, tensor.dtype)) if is_one_row(own) else None
    shape = _shape_of_one(tensor)
    return None if shape is None else self._once(
        (tensor.name, "shape"), lambda: self._with_count(shape, tensor.dtype))

  def _is_idle_at_0(self, op):
    """Whether reducing along the first axis does nothing that stays.

    That axis is 1, and the result has it again: at once, or when it is given
    the shape that it had, as the gradient of an op that broadcasts is.
    """
    return is_one_row(op.inputs[0]) and (op.get_attr("keep_dims") or all(
        user.type == "Reshape" and is_one_row(user.outputs[0])
        for user in traversal.consumers(op.outputs[0])
        if user.name in self._part))


def _shape_of_one(tensor):
  """The shape, a list that begins with 1, that a constant tells; or None."""
  if tensor.dtype not in (tf.int32, tf.int64) or tensor.shape.ndims != 1:
    return None
  value = _tf.static_value(tensor)
  return value.tolist() if value is not None and value[:1] == [1] else None


def _other_axes(op):
  """The axes but for the first that a reduction is along; None if unclear."""
  try:
    return sorted(
        symbolic_shapes.axes_of(op.inputs[1], op.inputs[0].shape.ndims) - {0})
  except symbolic_shapes.UnknownStatically:
    return None


def _is_aligned(op, place):
  if op.type == "ConcatV2" and not _tf.static_value(op.inputs[-1]):
    return False  # Along the first axis: shapes are put together so.
  places = _ALIGNED.get(op.type, ())
  return places is None or place in places


def repeat(graph, wanted, sources):
  """Computes `wanted` for each row of `sources` by itself, all at once.

  Args:
    graph: `tf.Graph`, not finalized.
    wanted: list of `tf.Tensor`.
    sources: list of `Source`.

  Returns:
    list of `tf.Tensor`, of shape [rows] + the shape of each of `wanted` without
    the first axis, if that is 1; None where there is control flow of v1.

  Raises:
    UnsupportedGraphError: TensorFlow cannot compute an op for many rows.
  """
  fed = {source.tensor.name for source in sources}
  found = traversal.ancestors(wanted, fed)
  part = subgraphs.dependent_ops(found, fed)
  if any(control_flow.is_control_flow_v1(found[name]) for name in part):
    return None
  scratch = vectorization.ScratchGraph(graph)
  with scratch.building():
    pickers = {source.tensor.name: _picker(scratch, source)
               for source in sources}
    count = tf.shape(scratch.placeholder_for(sources[0].rows))[0]

    def body(i):
      at = scratch.copy(part, found, {
          name: pick(i) for name, pick in pickers.items()}, "row",
                        same_shapes=True)
      return [at(tensor.name) for tensor in wanted]

    stacked = scratch.map_rows(body, count, one_by_one=False)
    stacked = [tf.squeeze(result, 1) if is_one_row(tensor) else result
               for result, tensor in zip(stacked, wanted)]
  results = scratch.export(stacked, "rows")
  for result, tensor in zip(results, wanted):
    result.set_shape(tf.TensorShape([None]).concatenate(
        tensor.shape[1:] if is_one_row(tensor) else tensor.shape))
  return results


def _picker(scratch, source):
  """function from an index to that row, in the form of what was fed."""
  pick = scratch.row_reader(source.rows, 0)

  def own(i):
    row = pick(i)
    if not source.has_axis:
      row = tf.squeeze(row, 0)
    row.set_shape(source.tensor.shape)
    return row

  return own
