"""Loops built for a batch of one row, for any number of rows.

The loops are unrolled first. Then the state that they begin with, and whatever
else has one row, is repeated for each row, as `batch_size.enlarge` does it in a
graph without loops, with the same proof that rows do not mix.
"""

from gradfeed.graph import traversal
from gradfeed.rewriting import batch_size
from gradfeed.rewriting import vectorization
from gradfeed.rewriting.unrolling import emission
from gradfeed.rewriting.unrolling import unrolled_copies


def enlarge_loops(graph, wanted, sources, most_ops):
  """As `batch_size.enlarge`, for what needs loops; None where there is none.

  Args:
    graph: `tf.Graph`, not finalized.
    wanted: list of `tf.Tensor`.
    sources: list of `batch_size.Source`.
    most_ops: int, how many ops there may be once the loops are unrolled.

  Returns:
    list of `tf.Tensor` in the places of `wanted`, whose first axis is that of
    the rows; or None.

  Raises:
    NotUnrolled: a loop cannot be unrolled.
    Exception: what TensorFlow raises for a graph that does not fit together.
  """
  if not unrolled_copies.has_loops(traversal.ancestors(
      wanted, {source.tensor.name for source in sources})):
    return None
  scratch = vectorization.ScratchGraph(graph)
  with scratch.building():
    inner = [source.in_graph(scratch.placeholder_for(source.rows))
             for source in sources]
    flat = unrolled_copies.unroll(scratch, wanted, {
        source.tensor.name: one.tensor
        for source, one in zip(sources, inner)}, emission.Emitter(most_ops))
    results = batch_size.enlarge(inner[0].tensor.graph, flat, inner)
  return results if results is None else scratch.export(results, "rows")
