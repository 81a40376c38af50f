"""Models from disk: a graph and a session with the values of its variables."""

import collections
import contextlib
import os
import re

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import effects
from gradfeed.graph import lookup
from gradfeed.models import files
from gradfeed.models import keras_files
from gradfeed.rewriting import custom_gradient_ops

#: A signature of a SavedModel, or of a model of Keras: dicts from the key of
#: each input and output to its `tf.Tensor`, and the name of its method, such as
#: "tensorflow/serving/predict".
Signature = collections.namedtuple(
    "Signature", ["inputs", "outputs", "method"])

#: The names of ops that are in a graph for its training, to save it, and of
#: derivatives that were built in it: they are not part of the model.
BESIDE = re.compile(
    r"(^|/)(gradients|save|report_uninitialized\w*)(_\d+)?/|^saver_filename:"
    r"|^gradfeed/")

_SERVING = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY


def load(path, tags=None, custom_gradients=None):
  """Reads a model from disk into a graph and a session of its own.

  What it is is found from the path:

  - a frozen graph: a GraphDef, binary or in text (`.pb`, `.pbtxt`);
  - a checkpoint with its graph: `model.ckpt-100.meta`, or the name without
    `.meta`, or a directory, whose latest checkpoint is taken;
  - a SavedModel: its directory, or the `saved_model.pb` in it;
  - a whole model of Keras 2 in HDF5 (`model.save("model.h5")`), as it is in
    inference; its inputs and outputs are the signature "serving_default". With
    TensorFlow 2.16 or later this needs the package tf_keras.

  Variables have the values of the file, and are never initialised otherwise:
  one that the file does not hold has none. Devices are forgotten: the model
  runs here. Loops of a frozen graph can be differentiated.

  An op with a gradient of its own (`tf.custom_gradient`) is loaded without: a
  file has its name alone, "CustomGradient-7", which in another process may be
  that of another function. A derivative through it is refused, unless
  `custom_gradients` says what it is.

  Args:
    path: str or os.PathLike.
    tags: the tags of a graph in a SavedModel, str or list of str; None for the
      only graph, or the one for "serve".
    custom_gradients: dict from the name of an op, or of its gradient, or a
      pattern of either ("*/swish_*"), to a function `(op, *grads)`, as for
      `tf.RegisterGradient`; or to None, where what the op computes is to be
      differentiated (what a gradient of its own says otherwise is ignored).

  Returns:
    `Model`; in a `with` block as a `tf.Session` is.

  Raises:
    ModelFileError: there is no model, or it is damaged or incomplete; says what
      was expected and what was found.
    ArgumentError: no graph of the SavedModel has these tags, or several could
      be meant; lists them. Or `custom_gradients` names what is not there.
    UnsupportedGraphError: an op in it is not known to this TensorFlow.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default() as graph:
    ...   x = tf.placeholder(tf.float64, [], name="x")
    ...   y = tf.multiply(x, x, name="y")
    >>> path = tf.train.write_graph(graph, ".", "square.pb", as_text=False)
    >>> with gf.load(path) as model:
    ...   f = gf.function("x:0", gf.gradient("y:0", "x:0"))
    ...   print(f(3.0))
    6.0
  """
  path = os.fspath(path)
  if isinstance(tags, str):
    tags = [tags]
  kind, location = files.kind_of(path)
  graph = tf.Graph()
  session = tf.Session(graph=graph)
  try:
    with graph.as_default():
      signatures = _READERS[kind](location, session, tags, custom_gradients)
  except Exception:
    session.close()
    raise
  return Model(path, kind, graph, session, signatures)


class Model:
  """What `load` returns; a context manager as a `tf.Session` is.

  Inside of a `with` block its graph and session are the default ones; at the
  end the session is closed.

  Attributes:
    path: str, as it was given.
    kind: "frozen graph", "checkpoint", "SavedModel" or "Keras model".
    graph: `tf.Graph`, not finalized.
    session: `tf.Session` on it, with the values of the variables.
    inputs: dict from name to `tf.Tensor`, the placeholders of the model.
    outputs: dict from name to `tf.Tensor`: floating tensors that nothing
      reads, apart from what training and saving left in the graph.
    signatures: dict from name to `Signature`; empty where there are none.
  """

  def __init__(self, path, kind, graph, session, signatures):
    self.path = path
    self.kind = kind
    self.graph = graph
    self.session = session
    self.signatures = signatures
    self._defaults = contextlib.ExitStack()
    if kind == files.KERAS:
      # Its layers leave other placeholders, and tensors that nothing reads.
      self.inputs, self.outputs = [
          {t.name: t for t in by_key.values()}
          for by_key in signatures[_SERVING][:2]]
      return
    ops = {op.name: op for op in graph.get_operations()}
    assigning = {op.name for op in effects.assigning_ops(ops)}
    self.inputs = {t.name: t for t in effects.placeholders(ops)
                   if not BESIDE.search(t.name)}
    self.outputs = {
        t.name: t for name, op in ops.items()
        if name not in assigning and _is_output(op)
        for t in op.outputs if _tf.is_number(t.dtype)}

  def tensor(self, name):
    """The tensor, or variable, called `name`.

    Args:
      name: str, such as "logits:0"; or "signature/key" of a signature's input
        or output.

    Returns:
      `tf.Tensor` of `graph`; for a variable what stands for it in a call of
      gradfeed.

    Raises:
      TensorNotFoundError: there is none; names what is like it.
    """
    signature, _, key = name.rpartition("/")
    if signature in self.signatures:
      for by_key in self.signatures[signature][:2]:
        if key in by_key:
          return by_key[key]
    return lookup.lookup(name, self.graph)

  def close(self):
    """Closes the session."""
    self.session.close()

  def __enter__(self):
    self._defaults.enter_context(self.graph.as_default())
    self._defaults.enter_context(self.session.as_default())
    return self

  def __exit__(self, *unused):
    self._defaults.close()
    self.close()

  def __repr__(self):
    return "<gradfeed.Model {!r}: {}, {} ops>".format(
        self.path, self.kind, len(self.graph.get_operations()))


def _is_output(op):
  """Whether `op` computes something that nothing in the model reads."""
  is_computed = any(
      source.op.inputs or source.op.type.startswith("Placeholder")
      for source in op.inputs)
  return is_computed and not _tf.is_inside(op) and not (
      BESIDE.search(op.name)) and all(
          BESIDE.search(user.name) for t in op.outputs
          for user in t.consumers())


def _read_frozen(path, unused_session, unused_tags, custom_gradients):
  """Imports a frozen graph into the default graph.

  Args:
    path: str, as `files.kind_of` returns it.
    unused_session, unused_tags: what readers of other kinds need.
    custom_gradients: as in `load`.

  Returns:
    dict from name to `Signature`, as every reader does; it has none.

  Raises:
    ModelFileError, UnsupportedGraphError, ArgumentError: as in `load`.
  """
  graph_def = files.read_graph_def(path)
  custom_gradient_ops.settle(graph_def, custom_gradients)
  with _translated_errors(path), _tf.arrays_of_v1():
    tf.import_graph_def(graph_def, name="")
  return {}


def _read_checkpoint(prefix, session, unused_tags, custom_gradients):
  """Imports the graph of a checkpoint, and restores its variables.

  Args:
    prefix: str, what the names of its files begin with.
    session: `tf.Session` on the default graph.
    unused_tags: what a SavedModel needs.
    custom_gradients: as in `load`.

  Returns:
    dict from name to `Signature`; a checkpoint has none.

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
  if not tf.train.checkpoint_exists(prefix):
    raise errors.ModelFileError(
        "There are no values beside the graph '{}'.".format(meta),
        "There is no checkpoint '{}' (.index and .data files).".format(prefix),
        "Put the files of the checkpoint in the same directory.")
  with _translated_errors(meta), _tf.arrays_of_v1():
    meta_graph = _tf.read_meta_graph(meta)
    custom_gradient_ops.settle(meta_graph.graph_def, custom_gradients)
    saver = tf.train.import_meta_graph(meta_graph, clear_devices=True)
  if saver is None and tf.global_variables():
    saver = tf.train.Saver()
  if saver is not None:
    with _translated_errors(prefix):
      saver.restore(session, prefix)
  return {}


def _read_saved_model(directory, session, tags, custom_gradients):
  """Loads a graph of a SavedModel, and restores its variables.

  Args:
    directory: str.
    session: `tf.Session` on the default graph.
    tags: list of str, or None.
    custom_gradients: as in `load`.

  Returns:
    dict from name to `Signature`.

  Raises:
    ArgumentError: no graph has these tags, or several could be meant.
    ModelFileError, UnsupportedGraphError: as in `load`.
  """
  chosen = _choose_tags(directory, files.tags_of_graphs(directory), tags)
  with _translated_errors(directory), _tf.arrays_of_v1():
    loader = _tf.SavedModelLoader(directory)
    meta_graph = loader.get_meta_graph_def_from_tags(chosen)
    custom_gradient_ops.settle(meta_graph.graph_def, custom_gradients)
    loader.load(session, chosen)  # Imports `meta_graph`, as it was changed.

  def tensors_of(infos):
    return {key: tf.saved_model.get_tensor_from_tensor_info(
        info, session.graph) for key, info in sorted(infos.items())}

  return {
      name: Signature(tensors_of(signature.inputs),
                      tensors_of(signature.outputs), signature.method_name)
      for name, signature in sorted(meta_graph.signature_def.items())
      if not name.startswith("__saved_model_")}


def _read_keras(path, session, unused_tags, custom_gradients):
  """Builds a model of Keras in the default graph, with its weights.

  Args:
    path: str.
    session: `tf.Session` on the default graph.
    unused_tags: what a SavedModel needs.
    custom_gradients: as in `load`; there are no ops in the file to name.

  Returns:
    dict from name to `Signature`, of one.

  Raises:
    What `keras_files.read` raises; and ArgumentError, as in `load`.
  """
  custom_gradient_ops.settle(tf.GraphDef(), custom_gradients)
  inputs, outputs = keras_files.read(path, session)
  return {_SERVING: Signature(
      inputs, outputs, tf.saved_model.PREDICT_METHOD_NAME)}


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


@contextlib.contextmanager
def _translated_errors(path):
  """Raises what TensorFlow raises in the block as an error of gradfeed.

  Args:
    path: str, the file that TensorFlow reads.

  Raises:
    UnsupportedGraphError: this version of TensorFlow does not know an op.
    ModelFileError: anything else that reading the file raises.
  """
  try:
    yield
  except errors.GradfeedError:
    raise
  except (ValueError, KeyError, OSError, RuntimeError,
          tf.errors.OpError) as error:
    message = errors.first_line(error)
    if "Op type not registered" in message or "NodeDef" in message or (
        "No op named" in message):
      raise errors.UnsupportedGraphError(
          "TensorFlow {} cannot import '{}'.".format(_tf.VERSION, path),
          message + ".",
          "Use a version of TensorFlow that knows every op in it; ops of "
          "tf.contrib are in 1.15 alone.") from error
    raise errors.ModelFileError(
        "'{}' cannot be read.".format(path),
        "{}: {}.".format(type(error).__name__, message),
        "See whether all of its files are there and whole.") from error


#: What reads a model of each kind into the default graph.
_READERS = {
    files.CHECKPOINT: _read_checkpoint,
    files.FROZEN: _read_frozen,
    files.KERAS: _read_keras,
    files.SAVED_MODEL: _read_saved_model}
