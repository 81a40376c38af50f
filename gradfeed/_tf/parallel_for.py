"""TensorFlow's parallel_for, which maps a function over a range of int32."""

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
  """Stacks `body(i)` for all i below `count`, by ops that compute all at once.

  Args:
    body: function from an int32 scalar tensor to a list of tensors.
    count: int or int32 scalar tensor.

  Returns:
    list of tensors, each with `count` as its first axis.

  Raises:
    ValueError, NotImplementedError, TypeError and others, where TensorFlow has
    no vectorized form of an op.
  """
  graph = tf.get_default_graph()
  before = len(graph.get_operations())
  with _quiet():
    results = parallel_for.pfor(_unconverted(body), count)
  _write_out_lengths(graph.get_operations()[before:])
  return results


def _write_out_lengths(ops_made):
  """Writes out the lengths of -1 in shapes that parallel_for makes.

  The product of a stack of matrices with a matrix is reshaped to
  [count, rows, -1], or to [-1, count, columns]. If count, rows or columns are
  0, TensorFlow infers a wrong length there.

  Args:
    ops_made: list of `tf.Operation`; changed.
  """
  for op in ops_made:
    if op.type == "Reshape" and op.inputs[0].op.type == "MatMul" and (
        op.inputs[1].op.type == "Pack"):
      product, lengths = op.inputs[0], list(op.inputs[1].op.inputs)
      for place, axis in ((0, 0), (-1, 1)):
        if tf.get_static_value(lengths[place]) == -1:
          lengths[place] = tf.shape(product)[axis]
          op._update_input(1, tf.stack(lengths))


class _ConversionMessages(logging.Filter):
  """Leaves out the log messages of parallel_for on ops it cannot convert."""

  def filter(self, record):
    return "parallel_for" not in record.pathname


@contextlib.contextmanager
def _quiet():
  """A context in which a conversion that fails logs no error.

  It is none: callers fall back to a loop.
  """
  leave_out = _ConversionMessages()
  logger = logging.getLogger("tensorflow")
  logger.addFilter(leave_out)
  try:
    yield
  finally:
    logger.removeFilter(leave_out)


def show_bodies(graph):
  """Gives imported functions the graphs that parallel_for reads of them.

  It reads the graph that a function was traced from, which one that was read
  from a GraphDef lacks.

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
  """Stacks `body(i)` for all i below `count`, by a loop.

  Args:
    body: function from an int32 scalar tensor to a list of tensors.
    dtypes: list of `tf.DType`, those of the results of `body`.
    count: int or int32 scalar tensor.

  Returns:
    list of tensors, each with `count` as its first axis.
  """
  return parallel_for.for_loop(
      _unconverted(body), dtypes, count, parallel_iterations=1)


def _unconverted(body):
  """`body`, which AutoGraph does not convert."""
  return tf.autograph.experimental.do_not_convert(body)
