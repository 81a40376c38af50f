"""What may be fetched, and how its value is put together."""

import collections

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


class Fetched(collections.namedtuple("Fetched", ["index", "is_repeated"])):
  """The source of a wanted tensor that TensorFlow computes.

  Attributes:
    index: int, the place of its value among those that are fetched.
    is_repeated: bool, whether a wanted tensor before it has the same value; it
      is copied then, so that no two outputs share memory.
  """

  __slots__ = ()

  def value(self, results, unused_arrays):
    result = results[self.index]
    return _copied(result) if self.is_repeated else result

  def tensor(self, fetched, unused_slots):
    return fetched[self.index]


class Fed(collections.namedtuple("Fed", ["slot"])):
  """The source of a wanted tensor that is itself given a value.

  Attributes:
    slot: int, the index of the slot that takes the value.
  """

  __slots__ = ()

  def value(self, unused_results, arrays):
    return _copied(arrays[self.slot])

  def tensor(self, unused_fetched, slots):
    return slots[self.slot].target


class NoValue(collections.namedtuple("NoValue", [])):
  """The source of a wanted op, which is run and has no value."""

  __slots__ = ()

  def value(self, unused_results, unused_arrays):
    return None

  def tensor(self, unused_fetched, unused_slots):
    return None


def find_sources(wanted, fed):
  """Where the value of each wanted tensor or op comes from.

  Args:
    wanted: list of `tf.Tensor` and `tf.Operation`.
    fed: as in `plans.Computation`.

  Returns:
    (list with a `Fetched`, `Fed` or `NoValue` for each of `wanted`, list of the
    `tf.Tensor` to fetch).
  """
  sources, fetched, indices = [], [], {}
  for item in wanted:
    if isinstance(item, tf.Operation):
      sources.append(NoValue())
    elif item.name in fed:
      sources.append(Fed(fed[item.name]))
    elif item.name in indices:
      sources.append(Fetched(indices[item.name], True))
    else:
      indices[item.name] = len(fetched)
      sources.append(Fetched(len(fetched), False))
      fetched.append(item)
  return sources, fetched


def _copied(value):
  """A copy; a scalar becomes a NumPy scalar, as it is in any result."""
  return np.array(value)[()]
