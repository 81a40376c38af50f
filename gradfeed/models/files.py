"""Finds out which kind of model is at a path, and reads messages of it."""

import os
import re

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.models import failures
from gradfeed.models import keras_files

#: The kinds of model.
CHECKPOINT = "checkpoint"
FROZEN = "frozen graph"
KERAS = "Keras model"
SAVED_MODEL = "SavedModel"

_SAVED_MODELS = ("saved_model.pb", "saved_model.pbtxt")
#: The file that names the latest checkpoint of a directory.
_STATE = "checkpoint"
_TEXT_BEGINS = (b"node {", b"node{", b"versions {", b"library {")


def kind_of(path):
  """Finds out which kind of model is at a path.

  Args:
    path: str, a file, a directory, or the name of a checkpoint.

  Returns:
    (kind, one of those above; path to read the model from), both str. For a
    checkpoint the path is what the names of its files begin with, for a
    SavedModel its directory.

  Raises:
    ModelFileError: there is no model.
  """
  if os.path.isdir(path):
    if any(os.path.exists(os.path.join(path, name)) for name in _SAVED_MODELS):
      return SAVED_MODEL, path
    if os.path.isfile(os.path.join(path, _STATE)):
      return CHECKPOINT, _latest_checkpoint(path)
    raise errors.ModelFileError(
        "There is no model in '{}'.".format(path),
        "A directory of a model has a saved_model.pb, or a file named "
        "'checkpoint' that names the latest one; it has {}.".format(
            _listed(sorted(os.listdir(path)))),
        "Name the model itself, such as '{}'.".format(
            os.path.join(path, _likely_model(path) or "model.pb")))
  if os.path.basename(path) in _SAVED_MODELS and os.path.exists(path):
    return SAVED_MODEL, os.path.dirname(path) or "."
  if os.path.basename(path) == _STATE and os.path.exists(path):
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
    is_hdf5 = source.read(len(keras_files.MAGIC)) == keras_files.MAGIC
  return KERAS if is_hdf5 else FROZEN, path


def _latest_checkpoint(directory):
  """Finds the latest checkpoint that the state file of a directory names.

  The file may have an absolute path in it, of before the directory was moved:
  then the checkpoint of that name beside it is taken.

  Args:
    directory: str.

  Returns:
    str, what the names of the files of the checkpoint begin with.

  Raises:
    ModelFileError: the state file is damaged, or the checkpoint is not there.
  """
  path = os.path.join(directory, _STATE)
  with failures.translated(path):
    with open(path, "rb") as source:
      state = parse_text(path, source.read(), _tf.CheckpointState)
    named = state.model_checkpoint_path
    beside = os.path.join(directory, re.split(r"[\\/]", named)[-1])
    choices = [os.path.join(directory, named), beside] if named else []
    for prefix in choices:
      if has_values(prefix) or os.path.exists(prefix + ".meta"):
        return prefix
    there = sorted({name[:-len(end)] for name in os.listdir(directory)
                    for end in (".meta", ".index") if name.endswith(end)})
  raise errors.ModelFileError(
      "The latest checkpoint of '{}' is not there.".format(directory),
      "Its file '{}' names {}; the directory has {}.".format(
          _STATE, "'{}'".format(named) if named else "none",
          "the checkpoints " + _listed(there) if there else
          "no other checkpoint"),
      "Name a checkpoint itself, such as '{}'.".format(
          os.path.join(directory, there[-1] if there else "model.ckpt")))


def has_values(prefix):
  """Whether there is a checkpoint, the names of whose files begin so."""
  try:
    return tf.train.checkpoint_exists(prefix)
  except tf.errors.OpError:  # TF 1 raises where there is no such directory.
    return False


def _listed(names, most=5):
  """The first names as text: "'a', 'b' and 7 more"."""
  if not names:
    return "nothing"
  return ", ".join(map(repr, names[:most])) + (
      " and {} more".format(len(names) - most) if len(names) > most else "")


def _likely_model(path):
  """The name of a file in a directory that may be a model, or None."""
  for end in (".pb", ".pbtxt", ".meta"):
    for name in sorted(os.listdir(path)):
      if name.endswith(end):
        return name
  return None


def read_graph_def(path):
  """Reads the GraphDef in a file, binary or in text.

  Args:
    path: str.

  Returns:
    `tf.GraphDef` with one node at least.

  Raises:
    ModelFileError: the file has no GraphDef; says what it looks like.
    OSError: the file cannot be read.
  """
  with open(path, "rb") as source:
    content = source.read()
  if content.lstrip().startswith(_TEXT_BEGINS):
    graph_def = parse_text(path, content, tf.GraphDef)
  else:
    graph_def = _parse(tf.GraphDef, content)
  if graph_def is None or not graph_def.node or not all(
      node.name and node.op for node in graph_def.node):
    raise errors.ModelFileError(
        "'{}' is not a frozen graph.".format(path), _looks_like(content),
        "Pass the .meta of a checkpoint, the directory of a SavedModel, or a "
        "GraphDef (.pb or .pbtxt) as tf.train.write_graph writes it.")
  return graph_def


def read_meta_graph(path):
  """Reads the MetaGraphDef of a checkpoint, binary or in text.

  Args:
    path: str, its ".meta".

  Returns:
    `tf.MetaGraphDef` with one node at least.

  Raises:
    ModelFileError: the file has none.
    OSError: the file cannot be read.
  """
  with open(path, "rb") as source:
    content = source.read()
  meta_graph = (parse_text(path, content, tf.MetaGraphDef)
                if _is_text(content) else _parse(tf.MetaGraphDef, content))
  if meta_graph is None or not meta_graph.graph_def.node:
    raise errors.ModelFileError(
        "'{}' is not the graph of a checkpoint.".format(path),
        "It is empty." if not content else
        "It is not a MetaGraphDef, or it is damaged.",
        "Save the checkpoint again, or copy its .meta again.")
  return meta_graph


def _is_text(content):
  """Whether bytes can only be the text of a message."""
  try:
    content.decode("ascii")
  except UnicodeDecodeError:
    return False
  return content[:1].isalpha() and min(content) >= ord("\t")


def _parse(message_class, content):
  """The message of a class in binary content; None where it is none."""
  message = message_class()
  try:
    message.ParseFromString(content)
  except Exception:  # Which class it is depends on the version of protobuf.
    return None
  return message


def parse_text(path, content, message_class):
  """The message of a class in text.

  Raises:
    ModelFileError: it is none, in the file at `path`.
  """
  from google.protobuf import text_format  # pylint: disable=g-import-not-at-top
  try:
    return text_format.Parse(content.decode("utf-8"), message_class())
  except Exception as error:  # Parsers raise more than a ParseError.
    raise errors.ModelFileError(
        "'{}' cannot be read.".format(path),
        "It is a text that is no {}: {}.".format(
            message_class.__name__, failures.cause(error)),
        "Write it again.") from None


def _looks_like(content):
  """A sentence that says what kind of file has this content, as bytes."""
  if not content:
    return "It is empty."
  if content.startswith(b"PK"):
    return "It is a zip archive, as a '.keras' file of Keras is."
  if content.startswith(b"\x93NUMPY"):
    return "It is a NumPy array."
  meta_graph = _parse(tf.MetaGraphDef, content)
  if meta_graph is not None and meta_graph.graph_def.node:
    return "It is a MetaGraphDef, whose variables are in other files."
  return "It is not a binary GraphDef."


def tags_of_graphs(directory):
  """Reads which graphs are in a SavedModel.

  Args:
    directory: str.

  Returns:
    list with the tags of each graph, which are a sorted list of str.

  Raises:
    ModelFileError: there is no graph in it, or it is damaged.
  """
  path = next(path for path in (
      os.path.join(directory, name) for name in _SAVED_MODELS)
              if os.path.exists(path))
  with open(path, "rb") as source:
    content = source.read()
  saved_model = (
      parse_text(path, content, _tf.SavedModel)
      if path.endswith(".pbtxt") else _parse(_tf.SavedModel, content))
  if saved_model is None or not any(
      meta_graph.graph_def.node for meta_graph in saved_model.meta_graphs):
    raise errors.ModelFileError(
        "'{}' is not a SavedModel.".format(path),
        _looks_like(content) if not content else
        "There is no graph in it, or it is damaged.",
        "Save the model again.")
  return [sorted(meta_graph.meta_info_def.tags)
          for meta_graph in saved_model.meta_graphs]
