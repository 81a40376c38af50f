"""What running a part of a graph needs, changes, waits for and keeps."""

import collections

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import op_types
from gradfeed.graph import traversal


def _calls_functions(op):
  return op.type in op_types.FUNCTIONAL or _tf.function_definition(
      op.graph, op.type) is not None


def op_types_of_run(found):
  """(op, type) of each op in `found`, and of each inside its functions."""
  for op in found.values():
    yield op, op.type
    if _calls_functions(op):
      for node in traversal.function_nodes(op.graph, op):
        yield op, node.op


def placeholders(found):
  """The placeholders in `found`, in order of their names."""
  return sorted(
      (op.outputs[0] for op in found.values()
       if op.type in op_types.PLACEHOLDERS and op.outputs),
      key=lambda tensor: tensor.name)


def user_of(tensor, found):
  """str: an op of `found` that reads `tensor`."""
  readers = [op for op in traversal.consumers(tensor) if op.name in found]
  for op in sorted(readers, key=lambda op: op.type in op_types.SHAPE_READING):
    return "{} '{}'".format(op.type, op.name)
  return "the outputs"


def assigning_ops(found):
  """The ops of `found` that change a variable."""
  changing = collections.OrderedDict()
  for op, op_type in op_types_of_run(found):
    if op_types.ASSIGNING.search(op_type):
      changing[op.name] = op
  return list(changing.values())


def has_loop(found):
  return any(op_type in op_types.LOOPS for _, op_type in op_types_of_run(found))


def keeps_feeds(found):
  """Whether an op of `found` may hold on to a fed value after the run."""
  return any(
      op_types.ASSIGNING.search(op_type) or
      op_types.FEED_KEEPING.search(op_type)
      for _, op_type in op_types_of_run(found))


def waiting_ops(found):
  return [op for op in found.values() if op_types.WAITING.search(op.type)]


def variables(operations):
  """Those of `operations` that are variables."""
  return [op for op in operations if op.type in op_types.VARIABLES]


def variables_read(found, targets):
  """The variables that need a value before `found` can run.

  Not those that the run itself assigns, or asks whether they have one.
  """
  users = collections.defaultdict(set)
  for op in found.values():
    for tensor in op.inputs:
      users[tensor.op.name].add(op.type)
  fetched = {t.op.name for t in targets if isinstance(t, tf.Tensor)}
  return [op for op in variables(found.values())
          if (users[op.name] or op.name in fetched) and
          not users[op.name] & op_types.VALUE_IGNORING]


def names_read(found):
  """The tensors that ops of `found` read; and the placeholders among them."""
  names = {t.name for op in found.values() for t in op.inputs}
  names.update(t.name for t in placeholders(found))
  return names
