"""What may be fetched, and how its value is put together."""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import tensors as tensors_lib


class Fetchable:
  """One thing to fetch.

  Attributes:
    is_plain: whether the value is that of the only tensor, as it is.
  """

  def __init__(self, parts, assemble=None):
    self._parts = parts
    self._assemble = assemble
    self.is_plain = assemble is None and len(parts) == 1

  def tensors(self):
    """The tensors (or the op) that have to be run."""
    return self._parts

  def assemble(self, values):
    return values[0] if self._assemble is None else self._assemble(values)


def resolve(thing, graph, allow_operations=False):
  """Turns whatever can be fetched into an `Fetchable`.

  Args:
    thing: tensor, variable, `SparseTensor`, `IndexedSlices`, name, or op.
    graph: `tf.Graph`.
    allow_operations: whether an op, which has no value, will do.

  Returns:
    `Fetchable`.
  """
  thing = _tf.dereference(thing)
  if thing is None:
    raise errors.DisconnectedError(
        "None cannot be evaluated.",
        "tf.gradients returns None where y does not depend on x.",
        "Build it with gradfeed.gradient(y, x), which says what cuts the path "
        "and what to differentiate by instead.")
  if isinstance(thing, str) and allow_operations and ":" not in thing:
    try:
      operation = graph.get_operation_by_name(thing)
    except (KeyError, ValueError):
      operation = None
    if operation is not None:
      thing = operation
  if isinstance(thing, tf.Operation):
    if not allow_operations:
      raise errors.ArgumentError(
          "{} is an op, not a tensor.".format(tensors_lib.describe(thing)),
          "An op is run for its effect and has no value.",
          "Pass one of its outputs, or use gradfeed.run.")
    if thing.graph is not graph:
      raise errors.GraphMismatchError(
          "{} is in another graph.".format(tensors_lib.describe(thing)),
          "A session runs one graph.", "Pass an op of the session's graph.")
    return Fetchable([thing], lambda values: None)
  if isinstance(thing, tf.IndexedSlices):
    parts = [thing.values, thing.indices]
    if thing.dense_shape is not None:
      parts.append(thing.dense_shape)
    return Fetchable(parts, lambda values: _tf.IndexedSlicesValue(
        values[0], values[1], values[2] if len(values) > 2 else None))
  leaf = tensors_lib.resolve(thing, graph, "output")
  if _tf.is_variable(thing) and not _tf.is_partitioned(thing):
    element = _tf.graph_element(thing)
    if element is not None:
      leaf = tensors_lib.Dense(element)
  if isinstance(leaf, tensors_lib.Sparse):
    return Fetchable([p.tensor for p in leaf.components()],
                     lambda values: tf.SparseTensorValue(*values))
  if isinstance(leaf, tensors_lib.Partitioned):
    return Fetchable([tensors_lib.read_of(p) for p in leaf.components()],
                     lambda values: np.concatenate(values, leaf.axis))
  return Fetchable([tensors_lib.read_of(leaf)])
