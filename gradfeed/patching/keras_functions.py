"""Functions of Keras' backend, `K.function`, with checked inputs.

Keras feeds its inputs to TensorFlow as they are. TensorFlow 2 may ignore what
is fed to anything but a placeholder, such as a layer in the middle of a model;
and variables that hold resources are never fed. Here they are cut, as in
`gf.function`.
"""

import sys

from gradfeed._tf import tf
from gradfeed.evaluation import executables
from gradfeed.evaluation import fetchables
from gradfeed.graph import tensors
from gradfeed.patching import handover

# pylint: disable=protected-access


class CheckedFunction:
  """Stands for a `GraphExecutionFunction` of Keras, and has its attributes."""

  def __init__(self, original, inputs):
    """Takes what Keras made, and the inputs that the caller passed.

    In those of `original`, variables are replaced by reads of them.
    """
    self._original = original
    self._inputs = inputs
    self._executable = None

  def __getattr__(self, name):
    return getattr(self._original, name)

  def __call__(self, inputs):
    """Evaluates the outputs and runs the updates.

    Args:
      inputs: list with a value for each input, as Keras takes it.

    Returns:
      The structure of the outputs: a list for a list.
    """
    values = tf.nest.flatten(inputs, expand_composites=True)
    if not self._is_plain(values):
      return self._original(inputs)
    return handover.run_or_tensorflow(
        lambda: self._checked(inputs, values), lambda: self._original(inputs))

  def _is_plain(self, values):
    """Whether all values are numbers, and nothing else was asked for."""
    original = self._original
    return (len(values) == len(original.inputs) and
            not any(value is None or tf.is_tensor(value) for value in values)
            and not original.fetches and not original.feed_dict)

  def _checked(self, inputs, values):
    backend = sys.modules[type(self._original).__module__]
    session = backend.get_session(inputs)
    if self._executable is None:
      self._executable = self._made(session.graph)
    self._executable.require_all_fed()
    results = self._executable.evaluate(session, self._executable.fit(values))
    return tf.nest.pack_sequence_as(
        self._original._outputs_structure, results[:-1])

  def _made(self, graph):
    """The `executables.Executable` of the function."""
    outputs = self._original.outputs + [self._original.updates_op]
    inputs = tf.nest.flatten(self._inputs)
    if len(inputs) != len(self._original.inputs):
      inputs = self._original.inputs
    return executables.Executable(
        graph,
        [tensors.resolve(leaf, graph, "input") for leaf in inputs],
        [fetchables.resolve(output, graph, allow_operations=True)
         for output in outputs], may_assign=True)


def checked(original, inputs):
  """What stands for a function of Keras: itself, or a `CheckedFunction`.

  Args:
    original: what `K.function` returned. With eager execution it is a function
      that runs no graph; and one of sparse or ragged tensors is left to Keras.
    inputs: what was passed to `K.function`.
  """
  structure = getattr(original, "_outputs_structure", None)
  if not hasattr(original, "updates_op") or not all(
      isinstance(leaf, tf.Tensor) or tf.is_tensor(leaf) and len(
          tf.nest.flatten(leaf, expand_composites=True)) == 1
      for leaf in tf.nest.flatten(structure)):
    return original
  return CheckedFunction(original, inputs)
