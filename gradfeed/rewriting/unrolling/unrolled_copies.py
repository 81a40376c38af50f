"""A copy of what some tensors need, in which no loop is left."""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import traversal
from gradfeed.rewriting import subgraphs
from gradfeed.rewriting import vectorization
from gradfeed.rewriting.unrolling import copied_ops
from gradfeed.rewriting.unrolling import emission
from gradfeed.rewriting.unrolling import interpretation
from gradfeed.rewriting.unrolling import known_values
from gradfeed.rewriting.unrolling import values as kinds


def has_loops(ops):
  """Whether there is a loop to unroll.

  Args:
    ops: dict from name to `tf.Operation`.
  """
  types = set(traversal.by_type(ops))
  return bool(types & op_types.FUNCTIONAL_LOOPS or
              types & set(op_types.ENTERS))


def for_shapes(graph, targets, wanted, shapes, most_ops,
               most_bytes=emission.MOST_BYTES, in_one_op=False):
  """Copies what `wanted` needs for feeds of certain shapes, without loops.

  Args:
    graph: `tf.Graph`, not finalized.
    targets: list of `tf.Tensor` that are fed.
    wanted: list of `tf.Tensor`.
    shapes: list of tuples, the shape of each feed.
    most_ops, most_bytes: as in `emission.Emitter`.
    in_one_op: bool; whether they are in the function of one op, in which
      TensorFlow leaves them as they are.

  Returns:
    (list of placeholders in the places of `targets`, list of `tf.Tensor` in
    those of `wanted`, the precision of the least precise of their dtypes).

  Raises:
    NotUnrolled: as in `unroll`; also where something is waited for, drawn,
      changed or printed on the way, or where a loop has parallel_iterations=1.
      No op is added then.
  """
  names = [target.name for target in targets]
  ops = traversal.ancestors(wanted, set(names))
  for op, op_type in effects.op_types_of_run(ops):
    if op_type != "Assert" or op.type != "Assert":
      copied_ops.check_effects(op, op_type)
  for op in ops.values():
    if op.type in op_types.LOOPS and (
        op.node_def.attr["parallel_iterations"].i == 1):
      raise kinds.NotUnrolled("'{}' is to turn once at a time".format(op.name))
  with _tf.building(graph):
    scratch = vectorization.ScratchGraph(graph)
    with scratch.building():
      given = [tf.placeholder(target.dtype.base_dtype, shape)
               for target, shape in zip(targets, shapes)]
      copies = unroll(
          scratch, wanted, dict(zip(names, given)), emission.Emitter(
              most_ops, most_bytes,
              exchanges=in_one_op or not _tf.uses_onednn()))
    feeds = [tf.placeholder(target.dtype.base_dtype, shape)
             for target, shape in zip(targets, shapes)]
    for placeholder, feed in zip(given, feeds):
      scratch.put_in_place_of(placeholder, feed)
    made = (scratch.export_in_one_op(copies, "one_op") if in_one_op else
            scratch.export(copies, "unrolled"))
    return feeds, made, max(
        [_tf.PRECISIONS.get(t.dtype.base_dtype, 0.0)
         for op in ops.values() for t in op.outputs] +
        [_tf.PRECISIONS[tf.float64]])


def unroll(scratch, wanted, given, emitter):
  """Copies what `wanted` needs into a scratch graph, loops turn by turn.

  Args:
    scratch: `vectorization.ScratchGraph`, in whose `building` this is called.
    wanted: list of `tf.Tensor` of its `graph`.
    given: dict from the name of each tensor that is read from elsewhere to the
      `tf.Tensor` of the scratch graph that is read in its place, whose static
      shape is that of every run.
    emitter: `emission.Emitter`.

  Returns:
    list of `tf.Tensor` of the scratch graph.

  Raises:
    NotUnrolled: how often a loop turns is not known before the run; an op in it
      does more than to compute; or there would be too many ops.
  """
  ops = traversal.ancestors(wanted, given)
  outside = _Outside(scratch, given)
  inside = _with_lists(ops, subgraphs.dependent_ops(ops, set(given)), outside)
  for name, op in ops.items():
    if name in inside and op.type != "Assert":
      copied_ops.check_effects(op)
    elif name not in inside and op.type == "Assert" and not (
        known_values.is_true(outside(op.inputs[0]))):
      raise kinds.NotUnrolled("'{}' checks what is not known before the "
                              "run".format(name))
  results = interpretation.Interpreter(
      scratch.graph, ops, emitter, outside).run(wanted, inside)
  return [emitter.tensor(value, tensor.dtype)
          for value, tensor in zip(results, wanted)]


def _with_lists(ops, op_names, outside):
  """Adds to `op_names` what makes the lists, arrays and stacks that they read.
  """
  start = set(op_names)
  while True:
    before = {
        t.op.name for name in start for t in ops[name].inputs
        if t.dtype == tf.variant and t.op.name not in start and
        t.op.name in ops and t.name not in outside.given}
    if not before:
      return start
    start = subgraphs.with_shared_state(ops, start | before)


class _Outside:
  """Gives tensors that are not computed in the copy their values."""

  def __init__(self, scratch, given):
    self.given = given
    self._scratch = scratch
    self._known = {}

  def __call__(self, tensor):
    if tensor.name in self.given:
      return self.given[tensor.name]
    value = self._known_value(tensor)
    return self._scratch.placeholder_for(tensor) if value is None else value

  def _known_value(self, tensor, depth=0):
    """The value of a tensor that shapes and constants decide, or None."""
    if tensor.name in self.given or depth > _DEEPEST:
      return None
    if tensor.name not in self._known:
      outputs = self._computed(tensor.op, depth)
      for output, value in zip(tensor.op.outputs, outputs or
                               [None] * len(tensor.op.outputs)):
        self._known[output.name] = value
    return self._known[tensor.name]

  def _computed(self, op, depth):
    if op.type == "Const":
      return [known_values.constant(op)]
    if op.type in op_types.SHAPE_READING:
      return [known_values.of_shape(op, self.given.get(
          t.name, t).shape) for t in op.inputs]
    if not op.inputs or op.type in op_types.CONTROL_FLOW_V1:
      return None
    inputs = []
    for tensor in op.inputs:
      inputs.append(self._known_value(tensor, depth + 1))
      if inputs[-1] is None:
        return None
    if op.type == "Identity":
      return inputs
    return known_values.evaluate(op, inputs)


#: How many ops above each other may be computed beforehand.
_DEEPEST = 100
