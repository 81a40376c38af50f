"""Lists that TensorFlow reads only where something was written to them.

An element that was not written is zeros of the shape of the others. Where there
are no others, and neither the list nor who reads it tells a shape, TensorFlow
refuses; a program of XLA knows the shape, and gives zeros.
"""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.compilation.loops import variants
from gradfeed.graph import op_types

#: Ops that read elements that may not have been written, to the index of the
#: input that is their shape.
_READS = {"TensorListGetItem": 2, "TensorListStack": 1}


def loops_that_have_to_turn(static):
  """The loops that write to such lists, and that values may end at once.

  Args:
    static: `static_graphs.StaticGraph`.

  Returns:
    set of `tf.Operation`.
  """
  graphs = [graph for graph, _ in variants.places(
      static.graph_def, static.graph, static.bodies_of)]
  ops = [op for graph in graphs for op in graph.get_operations()]
  made = [op for op in ops if op.type == "TensorListReserve" and
          _may_lack_lengths(op.inputs[0])]
  if not made:
    return set()
  kinds = variants.Kinds(graphs, static.bodies_of)
  read = {kinds.of(op.inputs[0]) for op in ops if op.type in _READS and
          _may_lack_lengths(op.inputs[_READS[op.type]])}
  read &= {kinds.of(op.outputs[0]) for op in made}
  return {op for op in ops if op.type in op_types.FUNCTIONAL_LOOPS and any(
      kinds.of(t) in read for t in op.inputs if t.dtype == tf.variant) and
          not _turns_as_in_a_run(static, op)}


def _may_lack_lengths(shape):
  """Whether a shape of elements may lack the length of an axis."""
  value = _tf.static_value(shape)
  if value is None:
    return shape.op.type in ("Placeholder", "TensorListElementShape")
  return not value.ndim or bool((value < 0).any())


def _turns_as_in_a_run(static, loop):
  """Whether a loop turns as often as in a run that has succeeded."""
  return loop.graph is static.graph and (
      loop in static.counted or static.fixed.counts_turns(loop))
