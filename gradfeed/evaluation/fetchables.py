"""What may be fetched, and how its value is put together."""

import collections

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import nest
from gradfeed.graph import tensors as tensors_lib


class Fetchable:
  """One output: the tensors to run for it, and how to assemble its value.

  Attributes:
    is_plain: whether the value is that of the only tensor, as it is.
  """

  def __init__(self, tensors, assemble=None):
    """Describes an output.

    Args:
      tensors: list of `tf.Tensor`, or of the one `tf.Operation`, to run.
      assemble: function from the list of their values to the value of the
        output; None for the value of the only tensor.
    """
    self._tensors = tensors
    self._assemble = assemble
    self.is_plain = assemble is None and len(tensors) == 1

  def tensors(self):
    """The tensors (or the op) that have to be run."""
    return self._tensors

  def assemble(self, values):
    """The value of the output from the list of the values of `tensors`."""
    return values[0] if self._assemble is None else self._assemble(values)


def resolve(output, graph, allow_operations=False):
  """Turns whatever can be fetched into a `Fetchable`.

  Args:
    output: tensor, variable, `SparseTensor`, `IndexedSlices`, name, or op.
    graph: `tf.Graph`.
    allow_operations: whether an op, which has no value, will do.

  Returns:
    `Fetchable`.
  """
  output = _tf.dereference(output)
  if isinstance(output, bytes):
    output = output.decode("utf-8", "replace")
  if output is None:
    raise errors.DisconnectedError(
        "None cannot be evaluated.",
        "tf.gradients returns None where y does not depend on x.",
        "Build it with gradfeed.gradient(y, x), which says what cuts the path "
        "and what to differentiate by instead.")
  if isinstance(output, str) and allow_operations and ":" not in output:
    output = _operation_named(output, graph)
  if isinstance(output, tf.Operation):
    _check_operation(output, graph, allow_operations)
    return Fetchable([output], lambda values: None)
  if isinstance(output, tf.IndexedSlices):
    components = [output.values, output.indices]
    if output.dense_shape is not None:
      components.append(output.dense_shape)
    return Fetchable(components, lambda values: _tf.IndexedSlicesValue(
        values[0], values[1], values[2] if len(values) > 2 else None))
  conversion = _tf.fetch_conversion(output)
  if conversion is not None:
    return _converted(conversion, output, graph, allow_operations)
  leaf = tensors_lib.resolve(output, graph, "output")
  if _tf.is_variable(output) and not _tf.is_partitioned(output):
    element = _tf.graph_element(output)
    if element is not None:
      leaf = tensors_lib.Dense(element)
  if isinstance(leaf, tensors_lib.Sparse):
    return Fetchable(
        leaf.parts(), lambda values: tf.SparseTensorValue(*values))
  if isinstance(leaf, tensors_lib.Partitioned):
    return Fetchable(list(map(tensors_lib.read_of, leaf.components())),
                     lambda values: np.concatenate(values, leaf.axis))
  return Fetchable([tensors_lib.read_of(leaf)])


def resolve_all(outputs, graph):
  """The `Fetchable` of each leaf of `outputs`, at least one."""
  leaves = nest.flatten(outputs)
  if not leaves:
    raise errors.ArgumentError(
        "There are no outputs.", "There is nothing to evaluate.",
        "Pass at least one tensor.")
  return [resolve(leaf, graph) for leaf in leaves]


def _converted(conversion, output, graph, allow_operations):
  """The `Fetchable` of an object of a type that was registered.

  Args:
    conversion: function that was registered for it, from the object to (list of
      tensors, function from the list of their values to that of the object).
    output, graph, allow_operations: as in `resolve`.
  """
  parts, contract = conversion(output)
  resolved = [resolve(part, graph, allow_operations) for part in parts]

  def assemble(values):
    values = iter(values)
    return contract([part.assemble([next(values) for _ in part.tensors()])
                     for part in resolved])

  return Fetchable(
      [tensor for part in resolved for tensor in part.tensors()], assemble)


def _operation_named(name, graph):
  """The op called `name`; the name itself where there is none."""
  try:
    return graph.get_operation_by_name(name)
  except (KeyError, ValueError):
    return name


def _check_operation(operation, graph, allow_operations):
  """Refuses an op where a value is wanted, and one of another graph."""
  if not allow_operations:
    raise errors.ArgumentError(
        "{} is an op, not a tensor.".format(tensors_lib.describe(operation)),
        "An op is run for its effect and has no value.",
        "Pass one of its outputs, or use gradfeed.run.")
  if operation.graph is not graph:
    raise errors.GraphMismatchError(
        "{} is in another graph.".format(tensors_lib.describe(operation)),
        "A session runs one graph.", "Pass an op of the session's graph.")


class Fetched(collections.namedtuple("Fetched", ["index", "is_repeated"])):
  """The source of a wanted tensor that TensorFlow computes.

  Attributes:
    index: int, the place of its value among those that are fetched.
    is_repeated: bool, whether a wanted tensor before it has the same value; it
      is copied then, so that no two outputs share memory.
  """

  __slots__ = ()

  def value(self, results, unused_arrays):
    """The value, given the fetched results and the arrays of all slots."""
    result = results[self.index]
    return _copied(result) if self.is_repeated else result

  def tensor(self, fetched, unused_slots):
    """The tensor with the value, given those that are fetched and the slots."""
    return fetched[self.index]


class Fed(collections.namedtuple("Fed", ["slot"])):
  """The source of a wanted tensor that is itself given a value.

  Attributes:
    slot: int, the index of the slot that takes the value.
  """

  __slots__ = ()

  def value(self, unused_results, arrays):
    """A copy of the array that is fed."""
    return _copied(arrays[self.slot])

  def tensor(self, unused_fetched, slots):
    """The tensor that TensorFlow is fed at."""
    return slots[self.slot].target


class NoValue(collections.namedtuple("NoValue", [])):
  """The source of a wanted op, which is run and has no value."""

  __slots__ = ()

  def value(self, unused_results, unused_arrays):
    """None, as in `Session.run`."""
    return None

  def tensor(self, unused_fetched, unused_slots):
    """None: an op has no tensor of its own."""
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
  if isinstance(value, (bytes, str)):
    return value  # As an array it would lose the zeros at its end.
  if _tf.is_session_handle(value):
    return value.eval()
  return np.array(value)[()]
