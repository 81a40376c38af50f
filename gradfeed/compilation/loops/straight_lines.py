"""A program without loops and branches, where XLA does not take them.

At known shapes most loops turn as often whatever the values are. Turn by turn
they need none of the lists that gradients of gradients fill, in loops in loops
above all. Of a branch both sides are computed, and one is chosen, so that
nothing has to be handed to its gradients but values.
"""

from gradfeed._tf import tf
from gradfeed.compilation.loops import growing_lists
from gradfeed.compilation import ranges
from gradfeed.graph import op_types
from gradfeed.graph import traversal
from gradfeed.rewriting.unrolling import emission
from gradfeed.rewriting.unrolling import interpretation
from gradfeed.rewriting.unrolling import values as values_lib

#: How many ops a program may have: XLA takes half a minute for a thousand on a
#: busy processor.
MOST_OPS = 2000

#: How much memory their results may take: XLA uses it again and again.
_MOST_BYTES = 2 ** 32


def is_needed(graph):
  """Whether there is a loop or a branch in a graph with functional ones."""
  return any(op.type in op_types.FUNCTION_CALLS
             for op in graph.get_operations())


def of(graph, arguments, results):
  """The same computation without loops and branches.

  Args:
    graph: `tf.Graph` with functional control flow.
    arguments: list of the names of its placeholders.
    results: list of the names of tensors of it.

  Returns:
    (GraphDef with the same placeholders, list of the names in it of the results
    and then of bools that are True where TensorFlow takes the values, set of
    the names of those ops that a run of `graph` may not have).

  Raises:
    values.NotUnrolled: there is neither; an array grows; values decide how
      often a loop turns; or there would be more than `MOST_OPS`.
  """
  if not is_needed(graph):
    raise values_lib.NotUnrolled("there are no loops and no branches")
  for function in graph.as_graph_def().library.function:
    # When the length of such an array is read, it may have grown.
    if any(map(growing_lists.is_growing, function.node_def)):
      raise values_lib.NotUnrolled("an array grows")
  wanted = [graph.get_tensor_by_name(name) for name in results]
  ops = traversal.ancestors(wanted)
  given = {}
  with tf.Graph().as_default() as straight:
    for name in arguments:
      argument = graph.get_tensor_by_name(name + ":0")
      given[argument.name] = tf.placeholder(
          argument.dtype, argument.shape, name=name)
    emitter = emission.Emitter(MOST_OPS, _MOST_BYTES)
    interpreter = interpretation.Interpreter(
        graph, ops, emitter, lambda tensor: given[tensor.name],
        takes_both_sides=True)
    values = interpreter.run(wanted, set(ops).difference(arguments))
    made = [tf.identity(emitter.tensor(value, t.dtype))
            for value, t in zip(values, wanted)]
    made += [tf.identity(condition) for condition in interpreter.conditions()]
  # TensorFlow may refuse a value where none of the results comes from it: in an
  # `and` of which one input is known to be False.
  checked = [t for op in straight.get_operations() if op.type in ranges.TYPES
             for t in op.outputs]
  needed = set(traversal.ancestors(made + checked)).union(arguments)
  graph_def = straight.as_graph_def()
  nodes = [node for node in graph_def.node if node.name in needed]
  del graph_def.node[:]
  graph_def.node.extend(nodes)
  return graph_def, [t.name for t in made], interpreter.optional
