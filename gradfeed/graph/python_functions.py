"""The calls of `tf.py_function` in a graph, and the gradients of such calls.

See `_tf.python_functions`: what a gradient reads of its call is no edge.
"""

import collections

from gradfeed import _tf
from gradfeed.graph import op_types
from gradfeed.graph import traversal

#: The type of the ops of `tf.py_function`.
OP_TYPE = "EagerPyFunc"


class Tapes:
  """Who leaves and who takes the tapes of `tf.py_function` among some ops.

  Attributes:
    left: dict from the token of a function to the list of the ops that run it,
      or that call a function of the graph in which it is run.
    taken: dict from the token of a function to the list of the ops, of the same
      kind, that run its gradient.
  """

  def __init__(self, ops):
    """Finds them.

    Args:
      ops: dict from name to op, as `traversal.ancestors` gives it.
    """
    self.left = collections.defaultdict(list)
    self.taken = collections.defaultdict(list)
    if not _tf.has_python_functions():
      return
    for op in ops.values():
      for token in _tokens(op):
        self.left[token].append(op)
        taken = _tf.taken_tape(token)
        if taken is not None:
          self.taken[taken].append(op)


def _tokens(op):
  """The tokens of the functions that running `op` runs, once for each node."""
  if op.type == OP_TYPE:
    yield _tf.token_of(op.node_def)
  elif op.type in op_types.FUNCTIONAL or _tf.function_definition(
      op.graph, op.type) is not None:
    for node in traversal.function_nodes(op.graph, op):
      if node.op == OP_TYPE:
        yield _tf.token_of(node)


def are_called(op):
  """Whether a call of functions of the graph runs one of `tf.py_function`."""
  return any(node.op == OP_TYPE
             for node in traversal.function_nodes(op.graph, op))


def is_within(op, outer, op_types_around):
  """Whether an op of `tf.py_function` is in a function of a certain op.

  Args:
    op: `tf.Operation`, in a function.
    outer: `tf.Operation` of the graph that calls that function, also through
      others.
    op_types_around: set of the types of ops that call functions.
  """
  token = _tf.token_of(op.node_def)
  nodes = [outer.node_def] + list(traversal.function_nodes(outer.graph, outer))
  return any(
      inner.op == OP_TYPE and _tf.token_of(inner) == token
      for call in nodes if call.op in op_types_around
      for definition in traversal.functions_called(outer.graph, [call])
      for inner in definition.node_def)
