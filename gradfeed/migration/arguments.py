"""What a module is called with, as tensors of the right dtype and shape."""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation.inputs import feeds
from gradfeed.graph import nest
from gradfeed.graph import tensors


class Arguments:
  """The inputs of a module.

  Attributes:
    signature: list of `tf.TensorSpec`, one for each dense tensor.
  """

  def __init__(self, program):
    """Takes the `differentiable_functions.Program`."""
    self._structures = program.structures
    self._leaves = program.leaves
    count = sum(len(leaf.components()) for leaf in self._leaves)
    self._slots = program.slots[:count]
    self.signature = [
        tf.TensorSpec(slot.component.shape, slot.component.dtype)
        for slot in self._slots]

  def tensors(self, values):
    """The values of a call as a list of `tf.Tensor`, one for each dense tensor.

    Raises:
      FeedError: lists all values that do not fit.
    """
    if len(values) != len(self._structures):
      raise errors.FeedError(
          "The module got {} values.".format(len(values)),
          "It takes {}: {}.".format(
              len(self._structures), tensors.describe_all(self._leaves)),
          "Pass one for each.")
    flat = [leaf for structure, value in zip(self._structures, values)
            for leaf in nest.flatten_as(structure, value)]
    return feeds.fit_all(self._leaves, self._slots, flat, _tensor, _split)


def _split(leaf, value):
  """The parts of the value of a leaf, one for each dense tensor."""
  if isinstance(leaf, tensors.Sparse) and isinstance(value, tf.SparseTensor):
    return [value.indices, value.values, value.dense_shape]
  if isinstance(leaf, tensors.Partitioned) and isinstance(value, tf.Tensor):
    return tf.split(value, leaf.sizes, leaf.axis)
  return feeds.split(leaf, value)


def _tensor(slot, value):
  """A value as a `tf.Tensor` that fits a `feeds.Slot`."""
  if isinstance(value, tf.Tensor) or _tf.is_variable(value) or (
      _tf.is_keras_tensor(value)):
    return _checked(slot, value)
  with _tf.eagerly():
    return tf.constant(slot.fit(value), slot.component.dtype)


def _checked(slot, value):
  if _tf.is_keras_tensor(value):
    raise errors.ArgumentError(
        "{} is a symbolic tensor of Keras.".format(value),
        "A module is code of TF 2, and no layer.",
        "Call it in the call(self, x) of a layer of your own.")
  if not isinstance(value, tf.Tensor):
    value = tf.convert_to_tensor(value)
  if not _tf.is_eager(value) and not _tf.is_function(value.graph):
    raise errors.GraphMismatchError(
        "{} is a tensor of a legacy graph.".format(tensors.describe(value)),
        "A module is called with values, in a tf.function or a Keras layer.",
        "Call it outside of the graph, or use the legacy tensors themselves.")
  if value.dtype != slot.component.dtype:
    raise feeds.Unfit("{} is not {}; tf.cast it".format(
        value.dtype.name, slot.component.dtype.name))
  if not slot.component.shape.is_compatible_with(value.shape):
    raise feeds.Unfit("shape {} does not fit {}".format(
        tensors.format_shape(value.shape),
        tensors.format_shape(slot.component.shape)))
  return value


def are_eager(values):
  """Whether a call with these tensors runs at once."""
  return all(map(_tf.is_eager, values)) and not (
      _tf.is_function(tf.get_default_graph()))
