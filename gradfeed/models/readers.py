"""Readers of each kind of model, into the default graph and a session."""

import collections
import os

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import lookup
from gradfeed.models import failures
from gradfeed.models import files
from gradfeed.models import graph_defs
from gradfeed.models import keras_files
from gradfeed.rewriting import custom_gradient_ops

#: A signature of a SavedModel, or of a model of Keras: dicts from the key of
#: each input and output to its `tf.Tensor`, and the name of its method, such as
#: "tensorflow/serving/predict".
Signature = collections.namedtuple(
    "Signature", ["inputs", "outputs", "method"])

#: What is read: dict from name to `Signature`; and the names of the ops that
#: loading runs.
Contents = collections.namedtuple("Contents", ["signatures", "run"])

#: The name of the signature of a model that has one alone.
SERVING = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY


def _read_frozen(path, unused_session, unused_tags, custom_gradients):
  """Imports a frozen graph into the default graph.

  Args:
    path: str, as `files.kind_of` returns it.
    unused_session: what readers of other kinds need, or None.
    unused_tags: what a SavedModel needs.
    custom_gradients: as in `load`.

  Returns:
    `Contents`, as every reader does; it has no signatures.

  Raises:
    ModelFileError, UnsupportedGraphError, ArgumentError: as in `load`.
  """
  graph_def = files.read_graph_def(path)
  graph_defs.prepare(path, graph_def)
  custom_gradient_ops.settle(graph_def, custom_gradients)
  with failures.translated(path), _tf.arrays_of_v1():
    tf.import_graph_def(graph_def, name="")
  return Contents({}, [])


def _read_checkpoint(prefix, session, unused_tags, custom_gradients):
  """Imports the graph of a checkpoint, and restores its variables.

  Args:
    prefix: str, what the names of its files begin with.
    session: `tf.Session` on the default graph, or None to read no values.
    unused_tags: what a SavedModel needs.
    custom_gradients: as in `load`.

  Returns:
    `Contents`; a checkpoint has no signatures.

  Raises:
    ModelFileError: the graph or the values are not there, or damaged.
  """
  meta = prefix + ".meta"
  if not os.path.exists(meta):
    raise errors.ModelFileError(
        "There is no graph beside the checkpoint '{}'.".format(prefix),
        "A checkpoint holds values alone, and there is no '{}'.".format(meta),
        "Build the graph in Python and restore it with tf.train.Saver; or save "
        "again with write_meta_graph=True.")
  if session is not None and not files.has_values(prefix):
    raise errors.ModelFileError(
        "There are no values beside the graph '{}'.".format(meta),
        "There is no checkpoint '{}' (.index and .data files).".format(prefix),
        "Put the files of the checkpoint in the same directory.")
  with failures.translated(meta), _tf.arrays_of_v1():
    meta_graph = files.read_meta_graph(meta)
    _prepare(meta, meta_graph)
    custom_gradient_ops.settle(meta_graph.graph_def, custom_gradients)
    saver = tf.train.import_meta_graph(meta_graph, clear_devices=True)
  runs = _names_of_ops([saver.saver_def.restore_op_name] if saver else [])
  if session is None:
    return Contents({}, runs)
  if saver is None and tf.global_variables():
    saver = tf.train.Saver()
  if saver is not None:
    with failures.translated(prefix, "See whether its .index and .data files "
                             "are whole, and of the same save as its .meta."):
      saver.restore(session, prefix)
  return Contents({}, runs)


def _read_saved_model(directory, session, tags, custom_gradients):
  """Loads a graph of a SavedModel, and restores its variables.

  Args:
    directory: str.
    session: `tf.Session` on the default graph, or None to read no values.
    tags: list of str, or None.
    custom_gradients: as in `load`.

  Returns:
    `Contents`.

  Raises:
    ArgumentError: no graph has these tags, or several could be meant.
    ModelFileError, UnsupportedGraphError: as in `load`.
  """
  chosen = _choose_tags(directory, files.tags_of_graphs(directory), tags)
  with failures.translated(directory), _tf.arrays_of_v1():
    loader = _tf.SavedModelLoader(directory)
    meta_graph = loader.get_meta_graph_def_from_tags(chosen)
    _prepare(directory, meta_graph)
    custom_gradient_ops.settle(meta_graph.graph_def, custom_gradients)
    # Either imports `meta_graph`, as it was changed.
    if session is None:
      loader.load_graph(tf.get_default_graph(), chosen)
    else:
      loader.load(session, chosen)

  if meta_graph.object_graph_def.nodes:  # As TF2 writes it.
    lookup.keep_names(tf.get_default_graph())

  def tensors_of(infos):
    return {key: tf.saved_model.get_tensor_from_tensor_info(
        info, tf.get_default_graph()) for key, info in sorted(infos.items())}

  signatures = {
      name: Signature(tensors_of(signature.inputs),
                      tensors_of(signature.outputs), signature.method_name)
      for name, signature in sorted(meta_graph.signature_def.items())
      if not name.startswith("__saved_model_")}
  with failures.translated(directory):
    main_op = _tf.main_op(meta_graph)
  return Contents(signatures, _names_of_ops([
      meta_graph.saver_def.restore_op_name, main_op]))


def _names_of_ops(names):
  """Those of some names, str or op or None, that ops of the graph have."""
  graph, found = tf.get_default_graph(), []
  for name in names:
    element = graph.as_graph_element(name) if name else None
    if element is not None:
      found.append(getattr(element, "op", element).name)
  return found


def _prepare(path, meta_graph):
  """Makes the graph of a MetaGraphDef one that can be imported here."""
  graph_defs.prepare(path, meta_graph.graph_def,
                     meta_graph.meta_info_def.stripped_op_list)


def _read_keras(path, session, unused_tags, custom_gradients):
  """Builds a model of Keras in the default graph, with its weights.

  Args:
    path: str.
    session: `tf.Session` on the default graph, or None to read no values.
    unused_tags: what a SavedModel needs.
    custom_gradients: as in `load`; there are no ops in the file to name.

  Returns:
    `Contents` with one signature.

  Raises:
    What `keras_files.read` raises; and ArgumentError, as in `load`.
  """
  custom_gradient_ops.settle(tf.GraphDef(), custom_gradients)
  inputs, outputs = keras_files.read(path, session)
  return Contents({SERVING: Signature(
      inputs, outputs, tf.saved_model.PREDICT_METHOD_NAME)}, [])


def _choose_tags(directory, available, tags):
  """Chooses the graph of a SavedModel to load.

  Args:
    directory: str, for the error.
    available: list with the tags of each graph.
    tags: list of str, the tags that the caller asks for; or None.

  Returns:
    list of str, the tags of one graph.

  Raises:
    ArgumentError: no graph has these tags, or several could be meant.
  """
  if tags is not None:
    if sorted(tags) in available:
      return tags
    what = "No graph in '{}' has the tags {}.".format(directory, tags)
  elif len(available) == 1:
    return available[0]
  elif ["serve"] in available:
    return ["serve"]
  else:
    what = "Several graphs in '{}' could be meant.".format(directory)
  raise errors.ArgumentError(
      what, "It has graphs with the tags {}.".format(
          ", ".join(map(repr, available))),
      "Pass the tags of one of them, as in tags={!r}.".format(available[0]))


#: What reads a model of each kind into the default graph.
READERS = {
    files.CHECKPOINT: _read_checkpoint,
    files.FROZEN: _read_frozen,
    files.KERAS: _read_keras,
    files.SAVED_MODEL: _read_saved_model}
