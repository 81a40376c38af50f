"""Reads a frozen graph from a file."""

import os

from gradfeed import errors
from gradfeed._tf import tf


def load_frozen(path):
  """The graph in a binary GraphDef, frozen or without variables.

  Args:
    path: str.

  Returns:
    `tf.Graph`.

  Raises:
    ModelFileError: the file is not one; says what it looks like.
    UnsupportedGraphError: an op in it is not known to this TensorFlow.
    OSError: the file cannot be read.
  """
  with open(path, "rb") as source:
    content = source.read()
  graph_def = tf.GraphDef()
  try:
    graph_def.ParseFromString(content)
  except Exception:  # Which class it is depends on the version of protobuf.
    raise _not_a_graph(path, content) from None
  if not graph_def.node or not all(
      node.name and node.op for node in graph_def.node):
    raise _not_a_graph(path, content)
  graph = tf.Graph()
  try:
    with graph.as_default():
      tf.import_graph_def(graph_def, name="")
  except (ValueError, KeyError, tf.errors.OpError) as error:
    raise errors.UnsupportedGraphError(
        "TensorFlow {} cannot import '{}'.".format(tf.__version__, path),
        str(error).split("\n")[0].rstrip(".") + ".",
        "Use a version of TensorFlow that knows every op in it; ops of "
        "tf.contrib are in 1.15 alone.") from error
  return graph


def _not_a_graph(path, content):
  return errors.ModelFileError(
      "'{}' is not a frozen graph.".format(path), _looks_like(path, content),
      "Freeze the model, binary: python -m tensorflow.python.tools."
      "freeze_graph --input_checkpoint=... --output_node_names=... "
      "--output_graph=...")


def _looks_like(path, content):
  if not content:
    return "It is empty."
  if os.path.basename(path) == "saved_model.pb":
    return "It is a SavedModel, whose variables are in other files."
  if content.lstrip().startswith((b"node {", b"versions {", b"library {")):
    return "It is a GraphDef in text (.pbtxt), not binary."
  meta_graph = tf.MetaGraphDef()
  try:
    meta_graph.ParseFromString(content)
  except Exception:  # pylint: disable=broad-except
    return "It is not a binary GraphDef."
  if meta_graph.graph_def.node:
    return "It is a MetaGraphDef (.meta), whose variables are in other files."
  return "It has no nodes."
