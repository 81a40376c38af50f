"""Models from disk: a graph and a session with the values of its variables."""

import collections
import contextlib
import os
import re

from gradfeed import _tf
from gradfeed import errors
from gradfeed import keras_models
from gradfeed import paths
from gradfeed import tensors
from gradfeed import unknown_gradients
from gradfeed._tf import tf

#: A signature of a SavedModel: dicts from the key of each input and output to
#: its `tf.Tensor`, and the name of its method, such as
#: "tensorflow/serving/predict".
Signature = collections.namedtuple(
    "Signature", ["inputs", "outputs", "method"])

#: Scopes of ops that are in a graph for its training, to save it, and of
#: derivatives that were built in it.
BESIDE = re.compile(
    r"(^|/)(gradients|save|report_uninitialized\w*)(_\d+)?/|^saver_filename:"
    r"|^gradfeed/")

_KERAS = "Keras model"
_SERVING = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")
_TEXT_BEGINS = (b"node {", b"node{", b"versions {", b"library {")


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
  kind, place = _kind(path)
  graph = tf.Graph()
  session = tf.Session(graph=graph)
  try:
    with graph.as_default():
      signatures = _READERS[kind](place, session, tags, custom_gradients)
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
    if kind == _KERAS:  # It knows: layers leave more behind.
      self.inputs, self.outputs = [
          {t.name: t for t in named.values()}
          for named in signatures[_SERVING][:2]]
      return
    found = {op.name: op for op in graph.get_operations()}
    assigning = {op.name for op in paths.assigning(found)}
    self.inputs = {t.name: t for t in paths.placeholders(found)
                   if not BESIDE.search(t.name)}
    self.outputs = {
        t.name: t for name, op in found.items()
        if name not in assigning and _is_end(op)
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
      for found in self.signatures[signature][:2]:
        if key in found:
          return found[key]
    return tensors.lookup(name, self.graph)

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


def _is_end(op):
  """Whether nothing that belongs to the model reads `op`."""
  is_computed = any(
      source.op.inputs or source.op.type.startswith("Placeholder")
      for source in op.inputs)
  return is_computed and not _tf.is_inside(op) and not (
      BESIDE.search(op.name)) and all(
          BESIDE.search(user.name) for t in op.outputs
          for user in t.consumers())


def _kind(path):
  """(kind, where to read it) of what `path` stands for."""
  if os.path.isdir(path):
    if any(os.path.exists(os.path.join(path, name)) for name in _SAVED_MODEL):
      return "SavedModel", path
    latest = tf.train.latest_checkpoint(path)
    if latest is not None:
      return "checkpoint", latest
    raise errors.ModelFileError(
        "There is no model in '{}'.".format(path),
        "A directory of a model has a saved_model.pb, or a file named "
        "'checkpoint' that names the latest one; it has {}.".format(
            _listed(sorted(os.listdir(path)))),
        "Name the model itself, such as '{}'.".format(
            os.path.join(path, _likely(path) or "model.pb")))
  if os.path.basename(path) in _SAVED_MODEL and os.path.exists(path):
    return "SavedModel", os.path.dirname(path) or "."
  if os.path.basename(path) == "checkpoint" and os.path.exists(path):
    return _kind(os.path.dirname(path) or ".")
  for end in (".meta", ".index"):
    if path.endswith(end) and os.path.exists(path):
      return "checkpoint", path[:-len(end)]
  if os.path.exists(path + ".meta") or os.path.exists(path + ".index"):
    return "checkpoint", path
  if not os.path.exists(path):
    raise errors.ModelFileError(
        "There is no '{}'.".format(path),
        "It is neither a file, nor a directory, nor the name of a checkpoint.",
        "Look at the path; a relative one begins at '{}'.".format(os.getcwd()))
  with open(path, "rb") as source:
    is_hdf5 = source.read(len(keras_models.BEGINS)) == keras_models.BEGINS
  return _KERAS if is_hdf5 else "frozen graph", path


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


def _read_frozen(path, unused_session, unused_tags, custom_gradients):
  graph_def = read_graph_def(path)
  unknown_gradients.settle(graph_def, custom_gradients)
  with _told(path), _tf.arrays_of_v1():
    tf.import_graph_def(graph_def, name="")
  return {}


def _read_checkpoint(prefix, session, unused_tags, custom_gradients):
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
  with _told(meta), _tf.arrays_of_v1():
    meta_graph = _tf.read_meta_graph(meta)
    unknown_gradients.settle(meta_graph.graph_def, custom_gradients)
    saver = tf.train.import_meta_graph(meta_graph, clear_devices=True)
  if saver is None and tf.global_variables():
    saver = tf.train.Saver()
  if saver is not None:
    with _told(prefix):
      saver.restore(session, prefix)
  return {}


def _read_saved_model(directory, session, tags, custom_gradients):
  chosen = _chosen(directory, _graphs_of(directory), tags)
  with _told(directory), _tf.arrays_of_v1():
    loader = _tf.SavedModelLoader(directory)
    meta_graph = loader.get_meta_graph_def_from_tags(chosen)
    unknown_gradients.settle(meta_graph.graph_def, custom_gradients)
    loader.load(session, chosen)  # The meta graph that it holds.

  def tensors_of(infos):
    return {key: tf.saved_model.get_tensor_from_tensor_info(
        info, session.graph) for key, info in sorted(infos.items())}

  return {
      name: Signature(tensors_of(signature.inputs),
                      tensors_of(signature.outputs), signature.method_name)
      for name, signature in sorted(meta_graph.signature_def.items())
      if not name.startswith("__saved_model_")}


def _read_keras(path, session, unused_tags, custom_gradients):
  unknown_gradients.settle(tf.GraphDef(), custom_gradients)
  inputs, outputs = keras_models.read(path, session)
  return {_SERVING: Signature(
      inputs, outputs, tf.saved_model.PREDICT_METHOD_NAME)}


def _graphs_of(directory):
  """The tags of each graph in a SavedModel, as sorted lists of str."""
  path = next(path for path in (
      os.path.join(directory, name) for name in _SAVED_MODEL)
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


def _chosen(directory, found, tags):
  """The tags of the graph to load: those of one in `found`."""
  if tags is not None:
    if sorted(tags) in found:
      return tags
    what = "No graph in '{}' has the tags {}.".format(directory, tags)
  elif len(found) == 1:
    return found[0]
  elif ["serve"] in found:
    return ["serve"]
  else:
    what = "Several graphs in '{}' could be meant.".format(directory)
  raise errors.ArgumentError(
      what, "It has graphs with the tags {}.".format(
          ", ".join(map(repr, found))),
      "Pass the tags of one of them, as in tags={!r}.".format(found[0]))


@contextlib.contextmanager
def _told(path):
  """What TensorFlow raises while it reads `path` is told as gradfeed does."""
  try:
    yield
  except errors.GradfeedError:
    raise
  except (ValueError, KeyError, OSError, RuntimeError,
          tf.errors.OpError) as error:
    first = str(error).split("\n")[0].rstrip(".")
    if "Op type not registered" in first or "NodeDef" in first or (
        "No op named" in first):
      raise errors.UnsupportedGraphError(
          "TensorFlow {} cannot import '{}'.".format(_tf.VERSION, path),
          first + ".",
          "Use a version of TensorFlow that knows every op in it; ops of "
          "tf.contrib are in 1.15 alone.") from error
    raise errors.ModelFileError(
        "'{}' cannot be read.".format(path),
        "{}: {}.".format(type(error).__name__, first),
        "See whether all of its files are there and whole.") from error


_READERS = {"frozen graph": _read_frozen, "checkpoint": _read_checkpoint,
            "SavedModel": _read_saved_model, _KERAS: _read_keras}
