"""Copies ops built for a batch of one row, for any number of rows.

There are two ways. `enlarge` copies the ops with larger batches in the place of
a batch of one; constants that hold the number of rows are replaced by that of
the larger batch, and it is checked that no op mixes rows. `repeat` leaves every
row the only one of its batch and has TensorFlow's parallel_for compute them all
at once: there rows cannot mix, but it takes ten times as long to build.
"""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import row_dependence
from gradfeed.analysis import symbolic_shapes
from gradfeed.graph import control_flow
from gradfeed.graph import traversal
from gradfeed.rewriting import cloning
from gradfeed.rewriting.rows import ends
from gradfeed.rewriting.rows.ends import is_one_row
from gradfeed.rewriting import subgraphs
from gradfeed.rewriting import vectorization

#: Type of an op to the index of the input that is the shape of its result, or
#: of another tensor with rows.
_SHAPES = {
    "AvgPool3DGrad": 0, "AvgPoolGrad": 0, "BroadcastTo": 1,
    "Conv2DBackpropInput": 0, "Conv3DBackpropInputV2": 0,
    "DepthwiseConv2dNativeBackpropInput": 0, "Fill": 0, "Reshape": 1,
    "Slice": 2, "StridedSliceGrad": 0}

#: Type of an op that does not broadcast to the indices of the inputs that have
#: to have as many rows as the others. None: all inputs whose first axis is 1.
_ALIGNED = {
    "AddN": None, "AvgPool3DGrad": (1,), "AvgPoolGrad": (1,),
    "BatchMatMul": None, "BiasAdd": (0,), "ConcatV2": None, "Conv2D": (0,),
    "Conv2DBackpropInput": (2,), "Conv3DBackpropInputV2": (2,),
    "DepthwiseConv2dNativeBackpropInput": (2,), "EluGrad": None,
    "FusedBatchNormGrad": (0, 1), "FusedBatchNormGradV2": (0, 1),
    "FusedBatchNormGradV3": (0, 1), "InvGrad": None, "LRNGrad": None,
    "LeakyReluGrad": None, "MaxPoolGrad": None, "MaxPoolGradGrad": None,
    "Pack": None, "ReciprocalGrad": None, "Relu6Grad": None, "ReluGrad": None,
    "ResizeBicubicGrad": (0,), "ResizeBilinearGrad": (0,), "RsqrtGrad": None,
    "Select": None, "SeluGrad": None, "SigmoidGrad": None,
    "SoftmaxCrossEntropyWithLogits": None, "SoftplusGrad": None,
    "SoftsignGrad": None, "SparseSoftmaxCrossEntropyWithLogits": None,
    "SqrtGrad": None, "TanhGrad": None}

#: Types of ops that find out the size of an axis given as -1.
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

  def __init__(self, tensor, has_axis, rows=None):
    self.tensor = tensor
    self.has_axis = has_axis
    shape = tensor.shape[1:] if has_axis else tensor.shape
    self.rows = rows if rows is not None else tf.placeholder(
        tensor.dtype, tf.TensorShape([None]).concatenate(shape), name="rows")

  def in_graph(self, rows):
    """The same in the default graph: `rows` is the placeholder for all rows."""
    return Source(tf.placeholder(self.tensor.dtype, self.tensor.shape),
                  self.has_axis, rows)


def enlarge(graph, wanted, sources):
  """Copies what `wanted` needs, with all rows of `sources` in one batch.

  Args:
    graph: `tf.Graph`, not finalized.
    wanted: list of `tf.Tensor`.
    sources: list of `Source`.

  Returns:
    list of `tf.Tensor` in the places of `wanted`, whose first axis is that of
    the rows; None where one of them or of the sources has no such axis, and
    does not lose or get it by a plain op, or where an op may mix the rows.

  Raises:
    Exception: what TensorFlow raises for a graph that does not fit together.
  """
  found = [(t, None) if is_one_row(t) else ends.end_of(t) for t in wanted]
  if None in found:
    return None
  fed = {}
  for source in sources:
    if source.has_axis:
      fed[source.tensor.name] = source.rows
    elif is_one_row(source.tensor):
      fed[source.tensor.name] = tf.squeeze(source.rows, 1)
    else:
      for beginning in ends.beginnings(source.tensor, wanted) or ():
        fed[beginning.name] = tf.reshape(
            source.rows, [-1] + beginning.shape.as_list()[1:])
  ops = traversal.ancestors([base for base, _ in found], fed)
  if not fed or any(source.tensor.op.name in ops and (
      source.tensor.name not in fed) for source in sources):
    return None  # Something reads a row that has no axis.
  op_names = subgraphs.dependent_ops(ops, set(fed))
  growing = _Growing(ops, op_names, fed)
  copied = cloning.clone_subgraph(graph,
                                  op_names,
                                  ops,
                                  fed,
                                  "rows",
                                  rewrite=growing.rewrite)
  copied.update(fed)
  results = []
  for base, rebuilt in found:
    rows = (copied[base.name] if base.name in copied else
            growing.repeated(base))
    results.append(rows if rebuilt is None else rebuilt(rows))
  for result, tensor in zip(results, wanted):
    result.set_shape(tf.TensorShape([None]).concatenate(
        tensor.shape[1:] if is_one_row(tensor) else tensor.shape))
  return results if _are_apart(
      results, [source.rows.name for source in sources]) else None


def _are_apart(results, names):
  """Whether each row of `results` depends on the same row of inputs alone.

  Args:
    results: list of `tf.Tensor`.
    names: list of the names of the tensors that are the inputs.
  """
  ops = traversal.ancestors(results, names)
  op_names = subgraphs.dependent_ops(ops, set(names))
  dependent = {name: op for name, op in ops.items() if name in op_names}
  seen = row_dependence.RowDependence(results, dependent)
  computed = {t.name for op in dependent.values() if op.inputs
              for t in op.outputs}
  return not seen.unknown and computed.isdisjoint(seen.whole) and all(
      name not in seen.whole and name not in seen.shapes and
      name not in seen.blocks and not seen.axes.get(name) for name in names)


class _Growing:
  """Gives copied ops the number of rows that their inputs have."""

  def __init__(self, ops, op_names, fed):
    """Takes what is copied.

    Args:
      ops: dict from name to `tf.Operation`.
      op_names: set of names of those that are copied.
      fed: dict from tensor name to the `tf.Tensor`, of many rows, that is read
        in its place.
    """
    self._ops = ops
    self._op_names = op_names
    self._fed = fed
    self._count = tf.shape(next(iter(fed.values())))[0]
    self._made = {}

  def rewrite(self, subgraph):
    """Makes the copy read what has as many rows as the inputs.

    Args:
      subgraph: `cloning.Subgraph`; its nodes are changed.

    Returns:
      `cloning.Subgraph`, as `rewrite` of `cloning.clone_subgraph`.
    """
    external = dict(subgraph.external)
    for node in subgraph.nodes:
      op = self._ops[node.name]
      for place, tensor in self._changes(op):
        node.input[place] = "grown_{}:0".format(tensor.op.name)
        external[node.input[place]] = tensor
    return subgraph._replace(external=external)

  def repeated(self, tensor):
    """A tensor with one row, repeated for each row there is."""
    return self._once(tensor.name, lambda: tf.tile(tensor, self._with_count(
        [1] * tensor.shape.ndims)))

  def _once(self, key, build):
    """What `build` returned the first time that it was called for `key`."""
    if key not in self._made:
      self._made[key] = build()
    return self._made[key]

  def _with_count(self, shape, dtype=tf.int32):
    """A tensor of the list `shape` with the number of rows in the first place.
    """
    return tf.concat([tf.cast(self._count, dtype)[tf.newaxis],
                      tf.constant(shape[1:], dtype, [len(shape) - 1])], 0)

  def _changes(self, op):
    """The inputs of an op that depend on the number of rows.

    Args:
      op: `tf.Operation` of the original.

    Yields:
      (index of the input, `tf.Tensor` that the copy reads there).
    """
    for place, tensor in enumerate(op.inputs):
      if tensor.op.name in self._op_names or tensor.name in self._fed:
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
    """The shape that an op is given, for as many rows as there are.

    Args:
      op: `tf.Operation` with a type in `_SHAPES`.
      tensor: `tf.Tensor`, its input that is a shape.

    Returns:
      `tf.Tensor`; None where the op may go on reading `tensor`.
    """
    output = op.outputs[0]
    if op.type == "Slice" and not is_one_row(op.inputs[0]):
      return None  # It takes one of the rows that there are.
    if op.type in _INFERRING and output.shape.is_fully_defined():
      # A size that is left open is one that can be reasoned about.
      shape = [-1] + output.shape.as_list()[1:]
      return self._once((tensor.dtype, tuple(shape)), lambda: tf.constant(
          shape, tensor.dtype)) if is_one_row(output) else None
    shape = _shape_of_one(tensor)
    return None if shape is None else self._once(
        (tensor.name, "shape"), lambda: self._with_count(shape, tensor.dtype))

  def _is_idle_at_0(self, op):
    """Whether reducing along the first axis changes nothing in the end.

    The length of that axis is 1, and the result has it again: at once, or after
    a Reshape, as in the gradient of an op that broadcasts.
    """
    return is_one_row(op.inputs[0]) and (op.get_attr("keep_dims") or all(
        user.type == "Reshape" and is_one_row(user.outputs[0])
        for user in traversal.consumers(op.outputs[0])
        if user.name in self._op_names))


def _shape_of_one(tensor):
  """The value of a tensor that is a known shape of one row.

  Returns:
    list of int that begins with 1; None if it is no such shape.
  """
  if tensor.dtype not in (tf.int32, tf.int64) or tensor.shape.ndims != 1:
    return None
  value = _tf.static_value(tensor)
  return value.tolist() if value is not None and value[:1] == [1] else None


def _other_axes(op):
  """The axes that a reduction is along, without the first.

  Returns:
    list of int; None if they are not known statically.
  """
  try:
    return sorted(
        symbolic_shapes.axes_of(op.inputs[1], op.inputs[0].shape.ndims) - {0})
  except symbolic_shapes.UnknownStatically:
    return None


def _is_aligned(op, place):
  """Whether an op needs as many rows in its input `place` as in the others."""
  if op.type == "ConcatV2" and not _tf.static_value(op.inputs[-1]):
    return False  # Along the first axis, as shapes are put together.
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
  ops = traversal.ancestors(wanted, fed)
  op_names = subgraphs.dependent_ops(ops, fed)
  if any(control_flow.is_control_flow_v1(ops[name]) for name in op_names):
    return None
  scratch = vectorization.ScratchGraph(graph)
  with scratch.building():
    pickers = {source.tensor.name: _picker(scratch, source)
               for source in sources}
    count = tf.shape(scratch.placeholder_for(sources[0].rows))[0]

    def body(i):
      at = scratch.copy(op_names, ops, {
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
  """A reader of rows, each in the form of the tensor that was fed.

  Args:
    scratch: `vectorization.ScratchGraph`.
    source: `Source`.

  Returns:
    function from an index to a tensor of the shape of `source.tensor`.
  """
  pick = scratch.row_reader(source.rows, 0)

  def pick_in_form(i):
    row = pick(i)
    if not source.has_axis:
      row = tf.squeeze(row, 0)
    row.set_shape(source.tensor.shape)
    return row

  return pick_in_form
