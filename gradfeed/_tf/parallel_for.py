"""TensorFlow's vectorizing map, parallel_for, and its loop."""

import contextlib
import logging
import types

from tensorflow.python.framework import func_graph
from tensorflow.python.ops.parallel_for import control_flow_ops as parallel_for

from gradfeed._tf import api
from gradfeed._tf import functions
from gradfeed._tf.api import tf

# pylint: disable=protected-access


def vectorized(body, count):
  """`body(i)` for all i below `count`, stacked, by ops on whole stacks.

  Args:
    body: function from an int32 scalar tensor to a list of tensors.
    count: int or int32 scalar tensor.

  Raises:
    ValueError, NotImplementedError, TypeError and others, where TensorFlow has
    no vectorized form of an op.
  """
  graph = tf.get_default_graph()
  before = len(graph.get_operations())
  with _quiet():
    results = parallel_for.pfor(_as_it_stands(body), count)
  _allow_no_rows(graph.get_operations()[before:])
  return results


def _allow_no_rows(ops_made):
  """Mends the shapes that parallel_for leaves to be found out.

  The product of a stack of matrices with a matrix is reshaped to
  [count, rows, -1], or to [-1, count, columns]. Where there are no rows, or
  nothing to count, TensorFlow finds out something else.
  """
  for op in ops_made:
    if op.type == "Reshape" and op.inputs[0].op.type == "MatMul" and (
        op.inputs[1].op.type == "Pack"):
      product, lengths = op.inputs[0], list(op.inputs[1].op.inputs)
      for place, axis in ((0, 0), (-1, 1)):
        if tf.get_static_value(lengths[place]) == -1:
          lengths[place] = tf.shape(product)[axis]
          op._update_input(1, tf.stack(lengths))


class _NotOfConversions(logging.Filter):
  """Leaves out what parallel_for says of ops that it cannot convert."""

  def filter(self, record):
    return "parallel_for" not in record.pathname


@contextlib.contextmanager
def _quiet():
  """A conversion that fails is no error: another way is taken then."""
  leave_out = _NotOfConversions()
  logger = logging.getLogger("tensorflow")
  logger.addFilter(leave_out)
  try:
    yield
  finally:
    logger.removeFilter(leave_out)


def show_bodies(graph):
  """Makes the bodies of imported functions known to parallel_for.

  It looks for the graph that a function was traced from, which one that was
  read from a GraphDef lacks.

  Args:
    graph: FuncGraph that no session runs; its record of functions is changed.
  """
  if not api.IS_TF2:
    return  # There it converts no calls of functions.
  for name, function in list(graph._functions.items()):
    if isinstance(getattr(function, "graph", None), func_graph.FuncGraph):
      continue
    function.graph = body = functions.function_graph(
        graph, functions.function_definition(graph, name))
    function.function_type = types.SimpleNamespace(flat_outputs=body.outputs)
    function._func_graph_outputs = body.outputs  # What older TF reads.
    show_bodies(body)


def map_rows_in_loop(body, dtypes, count):
  """What `vectorized` gives, one i after the other; `dtypes` of the results."""
  return parallel_for.for_loop(
      _as_it_stands(body), dtypes, count, parallel_iterations=1)


def _as_it_stands(body):
  """`body` without what AutoGraph would make of it."""
  return tf.autograph.experimental.do_not_convert(body)
