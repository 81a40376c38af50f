"""Reads whole models of Keras 2 in HDF5 (`model.save("model.h5")`).

Such a file has no graph. Keras builds one from the configuration of the layers,
and here it does so in the graph and the session of the model that is loaded:
the default graph and session that Keras has in the process stay as they are.
The learning phase of the graph is the number 0, inference, so that no
placeholder of it has to be fed.
"""

import json

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.models import failures
from gradfeed.models import keras_configs

#: The first bytes of an HDF5 file.
MAGIC = b"\x89HDF\r\n\x1a\n"


def read(path, session):
  """Builds the model in a file, with its weights, in the default graph.

  Args:
    path: str.
    session: `tf.Session` on the graph, or None to read no values. Weights get
      the values of the file; a variable that the file does not hold (the state
      of a stateful RNN) gets none.

  Returns:
    (dict from the name of each input to its `tf.Tensor`, the same of outputs).

  Raises:
    DependencyError: Keras 2, or h5py, is not installed.
    ModelFileError: the file is damaged, or has no whole model in it.
    UnsupportedGraphError: Keras cannot build it; or it names Python code, or
      classes and functions that are not on the list of `keras_configs`.
  """
  with _open_hdf5(path) as file:
    config = _config_of(path, file)
    keras_configs.check(path, config)
    _refuse_other_files(path, file["model_weights"])
    keras = _tf.keras()
    _tf.set_inference(keras)
    model = _build(path, keras, config, file.attrs.get("keras_version"))
    if session is not None:
      _load_weights(path, keras, model, file, session)
  return (_by_name(path, model.input_names, model.inputs),
          _by_name(path, model.output_names, model.outputs))


def _open_hdf5(path):
  """Opens an HDF5 file.

  Raises:
    DependencyError: h5py is not installed.
    ModelFileError: the file is damaged.
  """
  try:
    import h5py  # pylint: disable=g-import-not-at-top
  except ImportError:
    raise errors.DependencyError(
        "'{}' cannot be read without h5py.".format(path),
        "It is an HDF5 file.", "pip install 'gradfeed[keras]'") from None
  try:
    return h5py.File(path, "r")
  except OSError as error:
    raise errors.ModelFileError(
        "'{}' cannot be read.".format(path),
        "It begins as an HDF5 file and is damaged: {}.".format(
            errors.first_line(error)),
        "Save the model again.") from error


def _config_of(path, file):
  """Reads the configuration of the model in an HDF5 file.

  Args:
    path: str, for errors.
    file: `h5py.File`.

  Returns:
    dict.

  Raises:
    ModelFileError: there is none, or it is none of a model.
  """
  content = file.attrs.get("model_config")
  if content is None or "model_weights" not in file:
    raise errors.ModelFileError(
        "'{}' is not a whole model of Keras.".format(path),
        "It has the weights of layers, and not how these are connected."
        if "layer_names" in file.attrs or "model_weights" in file else
        "It is an HDF5 file with {}.".format(
            ", ".join(map(repr, sorted(file)[:5])) or "nothing in it"),
        "Save all of it, model.save('model.h5'), and not its weights; or build "
        "the model in Python and load them there.")
  try:
    config = json.loads(_text(content))
    for key in ("class_name", "config"):
      config[key]  # pylint: disable=pointless-statement
  except (KeyError, TypeError, ValueError, RecursionError) as error:
    raise errors.ModelFileError(
        "'{}' cannot be read.".format(path),
        "Its model_config is no configuration of Keras ({}).".format(
            failures.cause(error)),
        "Save the model again.") from error
  return config


def _text(attribute):
  """An attribute of an HDF5 file as str; h5py 2 gives it as bytes."""
  return (attribute.decode("utf-8") if isinstance(attribute, bytes)
          else str(attribute))


def _refuse_other_files(path, group):
  """Refuses weights that HDF5 would read out of other files.

  Args:
    path: str, for the error.
    group: `h5py.Group` of the weights.

  Raises:
    ModelFileError: there are such weights.
  """
  import h5py  # pylint: disable=g-import-not-at-top
  try:
    for name in group:
      link = group.get(name, getlink=True)
      item = None if isinstance(link, h5py.ExternalLink) else group[name]
      if isinstance(item, h5py.Group):
        if isinstance(link, h5py.HardLink):  # A soft link leads elsewhere here.
          _refuse_other_files(path, item)
      elif item is None or item.external or getattr(item, "is_virtual", False):
        raise errors.ModelFileError(
            "The weights '{}' of '{}' are not in the file.".format(name, path),
            "HDF5 would read them out of another file, which is not done.",
            "Save the model again, with its weights in it.")
  except errors.GradfeedError:
    raise
  except Exception as error:  # Whatever h5py raises.
    raise errors.ModelFileError(
        "'{}' cannot be read.".format(path),
        "Its weights are damaged: {}.".format(failures.cause(error)),
        "Save the model again.") from error


def _build(path, keras, config, written_by):
  """Builds the model of a configuration, in the default graph.

  Args:
    path: str, for errors.
    keras: the module, Keras 2.
    config: dict.
    written_by: the version of Keras that wrote the file, str or bytes.

  Returns:
    `keras.Model` with inputs and outputs.

  Raises:
    UnsupportedGraphError: this Keras cannot build it.
    ModelFileError: the shape of the inputs is not in the file.
  """
  try:
    model = keras.models.model_from_config(config)
    if not getattr(model, "inputs", None) and isinstance(
        config["config"], dict):
      shape = config["config"].get("build_input_shape")
      if shape is not None:
        model(keras.Input(batch_shape=shape, dtype=model.layers[0].dtype))
  except Exception as error:  # Whatever a layer raises.
    raise errors.UnsupportedGraphError(
        "Keras {} cannot build the model in '{}'.".format(
            keras.__version__, path),
        "It was written by Keras {}; this one raises {}: {}.".format(
            _text(written_by), type(error).__name__,
            failures.cause(error)),
        "Layers of your own are not in the file: save the model as a "
        "SavedModel where it was built.") from error
  if not getattr(model, "inputs", None):
    raise errors.ModelFileError(
        "The model in '{}' has no inputs.".format(path),
        "It was saved without the shape of what it takes.",
        "Give its first layer an input_shape and save it again.")
  return model


def _load_weights(path, keras, model, file, session):
  """Gives the weights of a model the values in the file.

  No initializer is run: a variable that the file does not hold has no value.

  Raises:
    ModelFileError: the weights in the file are not those of the model.
  """
  for variable in tf.global_variables():
    _tf.leave_uninitialized(variable)
  try:
    # Ops under "save/" that assign them do not count as part of the model.
    with session.as_default(), tf.name_scope("save/"):
      _tf.load_weights(keras, model, file["model_weights"])
      _check_shapes(model.weights, session)
  except Exception as error:  # Whatever h5py and Keras raise.
    raise errors.ModelFileError(
        "The weights in '{}' are not those of its model.".format(path),
        "{}: {}.".format(type(error).__name__,
                         failures.cause(error)),
        "Save the model again.") from error


def _check_shapes(weights, session):
  """Checks that weights have the shapes that the model gives them.

  Keras assigns what the file has, even if it is of another shape.

  Raises:
    ValueError: a weight has another shape.
  """
  shapes = _tf.session_run(session, [
      tf.raw_ops.VariableShape(input=weight.handle) for weight in weights])
  for weight, shape in zip(weights, shapes):
    if weight.shape.as_list() != shape.tolist():
      raise ValueError("'{}' has the shape {} in the file and {} in the "
                       "model".format(weight.name, shape.tolist(),
                                      weight.shape.as_list()))


def _by_name(path, names, tensors):
  """dict from name to `tf.Tensor`, of the inputs or outputs of a model.

  Raises:
    UnsupportedGraphError: some are not tensors, or two have one name.
  """
  if len(set(names)) != len(tensors) or not all(
      isinstance(tensor, tf.Tensor) for tensor in tensors):
    raise errors.UnsupportedGraphError(
        "The inputs and outputs of '{}' are not tensors with names of their "
        "own.".format(path), "They are {}.".format(tensors),
        "Save the model as a SavedModel where it was built.")
  return dict(zip(names, tensors))
