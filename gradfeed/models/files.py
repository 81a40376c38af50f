"""What is on disk: which kind of model, and the messages in its files."""

import os

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.models import keras_files

#: The kinds of model.
CHECKPOINT = "checkpoint"
FROZEN = "frozen graph"

KERAS = "Keras model"
SAVED_MODEL = "SavedModel"

_SAVED_MODELS = ("saved_model.pb", "saved_model.pbtxt")
_TEXT_BEGINS = (b"node {", b"node{", b"versions {", b"library {")


def kind_of(path):
  """What is at a path.

  Returns:
    (kind, where to read it), both str.

  Raises:
    ModelFileError: there is no model.
  """
  if os.path.isdir(path):
    if any(os.path.exists(os.path.join(path, name)) for name in _SAVED_MODELS):
      return SAVED_MODEL, path
    latest = tf.train.latest_checkpoint(path)
    if latest is not None:
      return CHECKPOINT, latest
    raise errors.ModelFileError(
        "There is no model in '{}'.".format(path),
        "A directory of a model has a saved_model.pb, or a file named "
        "'checkpoint' that names the latest one; it has {}.".format(
            _listed(sorted(os.listdir(path)))),
        "Name the model itself, such as '{}'.".format(
            os.path.join(path, _likely(path) or "model.pb")))
  if os.path.basename(path) in _SAVED_MODELS and os.path.exists(path):
    return SAVED_MODEL, os.path.dirname(path) or "."
  if os.path.basename(path) == "checkpoint" and os.path.exists(path):
    return kind_of(os.path.dirname(path) or ".")
  for end in (".meta", ".index"):
    if path.endswith(end) and os.path.exists(path):
      return CHECKPOINT, path[:-len(end)]
  if os.path.exists(path + ".meta") or os.path.exists(path + ".index"):
    return CHECKPOINT, path
  if not os.path.exists(path):
    raise errors.ModelFileError(
        "There is no '{}'.".format(path),
        "It is neither a file, nor a directory, nor the name of a checkpoint.",
        "Look at the path; a relative one begins at '{}'.".format(os.getcwd()))
  with open(path, "rb") as source:
    is_hdf5 = source.read(len(keras_files.BEGINS)) == keras_files.BEGINS
  return KERAS if is_hdf5 else FROZEN, path


def _listed(names, most=5):
  if not names:
    return "nothing"
  return ", ".join(map(repr, names[:most])) + (
      " and {} more".format(len(names) - most) if len(names) > most else "")


def _likely(path):
  """A file in a directory that looks like a model, or None."""
  for end in (".pb", ".pbtxt", ".meta"):
    for name in sorted(os.listdir(path)):
      if name.endswith(end):
        return name
  return None


def read_graph_def(path):
  """The GraphDef in a file, binary or in text.

  Raises:
    ModelFileError: it is none; says what it looks like.
    OSError: the file cannot be read.
  """
  with open(path, "rb") as source:
    content = source.read()
  if content.lstrip().startswith(_TEXT_BEGINS):
    graph_def = _parsed_text(path, content, tf.GraphDef)
  else:
    graph_def = _parsed(tf.GraphDef, content)
  if graph_def is None or not graph_def.node or not all(
      node.name and node.op for node in graph_def.node):
    raise errors.ModelFileError(
        "'{}' is not a frozen graph.".format(path), _looks_like(content),
        "Pass the .meta of a checkpoint, the directory of a SavedModel, or a "
        "GraphDef (.pb or .pbtxt) as tf.train.write_graph writes it.")
  return graph_def


def _parsed(message_class, content):
  message = message_class()
  try:
    message.ParseFromString(content)
  except Exception:  # Which class it is depends on the version of protobuf.
    return None
  return message


def _parsed_text(path, content, message_class):
  from google.protobuf import text_format  # pylint: disable=g-import-not-at-top
  try:
    return text_format.Parse(content.decode("utf-8"), message_class())
  except (text_format.ParseError, UnicodeDecodeError) as error:
    raise errors.ModelFileError(
        "'{}' cannot be read.".format(path),
        "It is a text that is no {}: {}.".format(
            message_class.__name__, str(error).split("\n")[0].rstrip(".")),
        "Write it again.") from None


def _looks_like(content):
  if not content:
    return "It is empty."
  if content.startswith(b"PK"):
    return "It is a zip archive, as a '.keras' file of Keras is."
  if content.startswith(b"\x93NUMPY"):
    return "It is a NumPy array."
  meta_graph = _parsed(tf.MetaGraphDef, content)
  if meta_graph is not None and meta_graph.graph_def.node:
    return "It is a MetaGraphDef, whose variables are in other files."
  return "It is not a binary GraphDef."


def graphs_of(directory):
  """The tags of each graph in a SavedModel, as sorted lists of str."""
  path = next(path for path in (
      os.path.join(directory, name) for name in _SAVED_MODELS)
              if os.path.exists(path))
  with open(path, "rb") as source:
    content = source.read()
  saved = (_parsed_text(path, content, _tf.SavedModel)
           if path.endswith(".pbtxt") else _parsed(_tf.SavedModel, content))
  if saved is None or not any(
      meta_graph.graph_def.node for meta_graph in saved.meta_graphs):
    raise errors.ModelFileError(
        "'{}' is not a SavedModel.".format(path),
        _looks_like(content) if not content else
        "There is no graph in it, or it is damaged.",
        "Save the model again.")
  return [sorted(graph.meta_info_def.tags) for graph in saved.meta_graphs]
