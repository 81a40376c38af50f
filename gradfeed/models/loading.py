"""Models from disk: a graph and a session with the values of its variables."""

import contextlib
import os
import re

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation import model_digests
from gradfeed.evaluation import sessions
from gradfeed.graph import effects
from gradfeed.graph import lookup
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.models import failures
from gradfeed.models import files
from gradfeed.models import readers

#: What is in `Model.signatures`.
Signature = readers.Signature

#: The names of ops that are in a graph for its training, to save it, and of
#: derivatives that were built in it: they are not part of the model.
BESIDE = re.compile(
    r"(^|/)(gradients|save|report_uninitialized\w*)(_\d+)?/|^saver_filename:"
    r"|^gradfeed/")


def load(path, tags=None, custom_gradients=None, config=None):
  """Reads a model from disk into a graph and a session of its own.

  What it is is found from the path:

  - a frozen graph: a GraphDef, binary or in text (`.pb`, `.pbtxt`);
  - a checkpoint with its graph: `model.ckpt-100.meta`, or the name without
    `.meta`, or a directory, whose latest checkpoint is taken;
  - a SavedModel: its directory, or the `saved_model.pb` in it;
  - a whole model of Keras 2 in HDF5 (`model.save("model.h5")`), as it is in
    inference; its inputs and outputs are the signature "serving_default". With
    TensorFlow 2.16 or later this needs the package tf_keras. Layers, functions
    and code of your own are refused, and never run.

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
    config: `tf.ConfigProto` of the session, such as its numbers of threads; or
      None. The first session of a process decides how many threads there are
      within ops; those between ops are the session's own where it has
      `use_per_session_threads=True`.

  Returns:
    `Model`; in a `with` block as a `tf.Session` is.

  Raises:
    ModelFileError: there is no model, or it is damaged or incomplete; says what
      was expected and what was found.
    ArgumentError: `path` is no path, `tags` are no tags, or `config` is none.
      Or no graph of the SavedModel has these tags, or several could be meant;
      lists them. Or `custom_gradients` names what is not there.
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
  return _load(path, tags, custom_gradients, True, config)


def load_graph(path, tags=None):
  """Reads the graph of a model alone, and runs nothing of it.

  Variables have no value and tables are empty: what a SavedModel runs when it
  is loaded is not run, and no checkpoint is read.

  Args:
    path, tags: as in `load`.

  Returns:
    `Model` with `has_values` False.

  Raises:
    ModelFileError, ArgumentError, UnsupportedGraphError: as in `load`.
  """
  return _load(path, tags, None, False)


def _load(path, tags, custom_gradients, values, config=None):
  """Does what `load` and, where not `values`, `load_graph` say."""
  path = _checked_path(path)
  if isinstance(tags, str):
    tags = [tags]
  if tags is not None and not (isinstance(tags, (list, tuple)) and all(
      isinstance(tag, str) for tag in tags)):
    raise errors.ArgumentError(
        "tags={!r} are no tags.".format(tags),
        "They are those of a graph in a SavedModel, str or a list of str.",
        "Pass tags='serve', or leave them out.")
  if config is not None and not isinstance(config, tf.ConfigProto):
    raise errors.ArgumentError(
        "config={!r} is no tf.ConfigProto.".format(config),
        "It is what the session of the model is made with.",
        "Pass tf.ConfigProto(intra_op_parallelism_threads=1), or leave it out.")
  with failures.translated(path):
    kind, location = files.kind_of(path)
    graph = tf.Graph()
    session = _tf.Session(graph=graph, config=config)
    try:
      with graph.as_default():
        contents = readers.READERS[kind](
            location, session if values else None, tags, custom_gradients)
      return Model(path, kind, graph, session, contents.signatures, values,
                   contents.run)
    except Exception:
      session.close()
      raise


def _checked_path(path):
  """The path that the caller gave, as str.

  Raises:
    ArgumentError: it is none.
  """
  try:
    text = os.fspath(path)
  except TypeError:
    text = None
  if not isinstance(text, str) or not text or "\0" in text:
    raise errors.ArgumentError(
        "path={!r} is no path of a model.".format(path),
        "It is a str or an os.PathLike; this is {}.".format(
            type(path).__name__ if not isinstance(text, str) else
            "one that no file has"),
        "Pass the path, as in gradfeed.load('model.pb').")
  return text


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
    has_values: bool; False where the graph alone was read, and variables have
      no values.
    run_when_loaded: list of str, the names of the ops that `load` runs: what
      reads values, fills tables and the like.
  """

  def __init__(self, path, kind, graph, session, signatures, has_values=True,
               run_when_loaded=()):
    self.path = path
    self.kind = kind
    self.graph = graph
    self.session = session
    self.signatures = signatures
    self.has_values = has_values
    self.run_when_loaded = list(run_when_loaded)
    self._defaults = contextlib.ExitStack()
    if kind == files.KERAS:
      # Its layers leave other placeholders, and tensors that nothing reads.
      self.inputs, self.outputs = [
          {t.name: t for t in by_key.values()}
          for by_key in signatures[readers.SERVING][:2]]
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

  def fingerprint(self, tensors_or_names):
    """A digest of all that tensors are computed from, beside what is fed.

    It is of the ops before them, as they are in the graph, with their
    constants, and of the values that the variables have in the session now.
    Another process that loads the same model gets the same one; a model that
    was trained on, or was built with another constant, has another.

    Args:
      tensors_or_names: a `tf.Tensor` of `graph`, a name as for `tensor`, or a
        list of them. The gradient of a tensor has the fingerprint of what it is
        computed from.

    Returns:
      str of 64 hexadecimal digits.

    Raises:
      TensorNotFoundError: there is no such tensor.
      UninitializedError, SessionError: the variables have no values.

    Example:
      >>> import gradfeed as gf, tensorflow.compat.v1 as tf
      >>> with tf.Graph().as_default() as graph:
      ...   x = tf.placeholder(tf.float64, [], name="x")
      ...   y = tf.multiply(x, 3.0, name="y")
      >>> path = tf.train.write_graph(graph, ".", "triple.pb", as_text=False)
      >>> with gf.load(path) as model, gf.load(path) as other:
      ...   print(model.fingerprint("y:0") == other.fingerprint("y:0"))
      True
    """
    if not isinstance(tensors_or_names, (list, tuple)):
      tensors_or_names = [tensors_or_names]
    chosen = [
        tensors.resolve(self.tensor(each) if isinstance(each, str) else each,
                        self.graph, "the fingerprint").tensor
        for each in tensors_or_names]
    read = effects.variables_read(traversal.ancestors(chosen), chosen)
    return model_digests.digest_of(
        chosen, sessions.values_of(self.session, read))

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
  """Whether `op` computes something that nothing in the model reads.

  Summaries, gradients, optimizers and the ops of a saver are beside the model.
  """
  is_computed = any(
      source.op.inputs or source.op.type.startswith("Placeholder")
      for source in op.inputs)
  return is_computed and not _tf.is_inside(op) and not (
      BESIDE.search(op.name)) and all(
          BESIDE.search(user.name) or "Summary" in user.type
          for t in op.outputs for user in t.consumers())
