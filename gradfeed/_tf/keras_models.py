"""Keras 2: `tf.keras`, or the package tf_keras where that is Keras 3."""

import importlib
import inspect
import sys

from gradfeed import errors
from gradfeed._tf import api
from gradfeed._tf.api import tf

# pylint: disable=protected-access


def keras():
  """The module of Keras 2, which can build in a `tf.Graph`; Keras 3 cannot.

  Raises:
    DependencyError: this TensorFlow comes with Keras 3, and nothing else is
      installed.
  """
  if not api.IS_TF2:
    return tf.keras
  try:
    import tf_keras  # pylint: disable=g-import-not-at-top
    return tf_keras
  except ImportError:
    number = tuple(map(int, api.VERSION.split(".")[:2]))
    if number < (2, 16):
      return tf.keras
  raise errors.DependencyError(
      "A model of Keras 2 needs tf_keras with TensorFlow {}.".format(
          api.VERSION),
      "It comes with Keras 3, which cannot build in a graph of TensorFlow 1.",
      "pip install 'tf_keras=={}.{}.*'".format(*number))


def _keras_module(keras_package, *names):
  """The first module of Keras among those called `names` that exists."""
  root = keras_package.backend.learning_phase.__module__.rpartition(".")[0]
  for name in names:
    try:
      return importlib.import_module("{}.{}".format(root, name))
    except ImportError:
      continue
  raise errors.UnsupportedGraphError(
      "Keras {} is not known.".format(keras_package.__version__),
      "It has none of {}.".format(", ".join(names)),
      "Use the one that fits TensorFlow {}.".format(api.VERSION))


def set_inference(keras_package):
  """Sets the learning phase of the default graph to 0, for inference.

  Args:
    keras_package: module that `keras` returned.
  """
  backend = _keras_module(keras_package, "backend")
  getattr(backend, "deprecated_internal_set_learning_phase",
          backend.set_learning_phase)(0)


def leave_uninitialized(variable):
  """Keeps Keras from running the initializer of a variable in its session."""
  variable._keras_initialized = True


def load_weights(keras_package, model, group):
  """Assigns the weights in an HDF5 group to those of a model of Keras.

  Args:
    keras_package: module that `keras` returned.
    model: model of Keras, built.
    group: `h5py.Group`.
  """
  load = _keras_module(keras_package, "saving.legacy.hdf5_format",
                       "saving.hdf5_format").load_weights_from_hdf5_group
  takes_layers = "layers" in inspect.signature(load).parameters
  load(group, model.layers if takes_layers else model)


def weights_in_training():
  """The weights that Keras 3 trains in the layer that it is just calling.

  Returns:
    list of variables; None where no layer of Keras 3 is called in training, or
    one that is not trained.
  """
  keras_3 = sys.modules.get("keras.src.backend.common.global_state")
  context = keras_3 and keras_3.get_global_attribute("current_call_ctx")
  layer = getattr(context, "entry_layer", None)
  if layer is None or not layer.trainable or not getattr(
      context, "training", False):
    return None
  return list(layer.trainable_variables)
