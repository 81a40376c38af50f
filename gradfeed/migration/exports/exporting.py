"""`export`: a function of a legacy graph as a SavedModel."""

import os

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation import functions
from gradfeed.migration import refusals
from gradfeed.migration.exports import directories
from gradfeed.migration.exports import graphs
from gradfeed.migration.exports import older_versions
from gradfeed.migration.exports import programs
from gradfeed.migration.exports import proofs

#: The version that `for_tf1` writes for.
_TF1 = "1.15"


def export(f, path, points=None, signatures=None, overwrite=False,
           for_tf1=True):
  """Writes a function, its value and its gradient, as a SavedModel.

  What is written is the part of the graph between the inputs and the outputs
  of `f`, with the weights that its session has now, with the same cuts and held
  values. TensorFlow 2, TensorFlow Serving and TensorFlow 1.15 read it, none of
  them needs gradfeed; `load` reads it too. It has these signatures:

  - "serving_default": the outputs of `f`;
  - "value", "gradient", "value_and_gradient": y, dy/dx and both, whichever of
    them are the outputs of `f`. Where no output is a derivative that gradfeed
    built, the gradient is d sum(value) / d input, one for each floating input
    that the value depends on; it is left out where there is none.

  An input is called as its tensor is, without scopes, or as its key in a dict
  of inputs; outputs are called "value" and "gradient", or as their keys in a
  dict, or, where there are several, as their tensors, and "gradient_x" by the
  input x. Axes of unknown length stay so.

  Weights are resource variables with the names that they have, those that were
  trained in TRAINABLE_VARIABLES: they can be read, and trained further. Held
  values become constants. Lookup tables keep the content they have now.

  The files are written beside `path`, read back in a session of their own and
  compared with `f`, and renamed to `path` when both agree: it is there as a
  whole or not at all. Of results that are drawn at random (dropout) the dtype
  and the shape are compared.

  Args:
    f: `Function`.
    path: str or os.PathLike, the directory to write; for TensorFlow Serving its
      last part is a number, "models/classifier/1".
    points: list of the points to compare at: for each the value of the input,
      or a tuple with one for each of several inputs. None to draw some, of two
      sizes where an axis of an input may have any.
    signatures: list of those to write beside "serving_default": "value",
      "gradient", "value_and_gradient"; None for all that there are.
    overwrite: bool; whether a SavedModel at `path` is replaced.
    for_tf1: bool; whether TensorFlow 1.15 has to be able to read it. What has
      ops that only newer versions have is refused then.

  Returns:
    `Export`.

  Raises:
    UnsupportedGraphError: an op cannot be exported (`tf.py_func`, a queue, an
      iterator), or TensorFlow 1.15 does not have it; names it.
    MissingFeedError: `f` needs a value that is neither an input nor held.
    UninitializedError: a variable or a table has no value in the session.
    IncompleteGradientError, MissingGradientError, DisconnectedError: the value
      has no gradient that is right; export `signatures=["value"]`.
    ModelFileError: what was read back is not what `f` gives; or the system
      cannot write the files.
    ArgumentError: `f` is no `Function`; or something is at `path`; or `f`
      cannot be evaluated at points that are drawn.
    FeedError: a point does not fit the inputs.
    GraphTooLargeError: constants and held values are over two gigabytes.
    FinalizedGraphError: the graph is closed, and ops are needed.
    SessionError: there is no session, or it is closed.

  Example:
    >>> import gradfeed as gf, numpy as np, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [None, 2], name="x")
    ...   f = gf.function(x, tf.reduce_sum(x ** 3, 1))
    ...   gf.export(f, "cubes").signatures["gradient"]
    (['x'], ['gradient'])
    >>> with gf.load("cubes") as model:
    ...   dx = gf.function(model.tensor("gradient/x"),
    ...                    model.tensor("gradient/gradient"))
    ...   print(dx(np.array([[1.0, 2.0]])))
    [[ 3. 12.]]
  """
  if not isinstance(f, functions.Function):
    raise errors.ArgumentError(
        "f is a {}, not a gradfeed.Function.".format(type(f).__name__),
        "A SavedModel is made of inputs, outputs, held values and the weights "
        "of a session.",
        "Pass what gradfeed.function(inputs, outputs) returns.")
  _check_signatures(signatures)
  absolute = directories.check(path, overwrite)
  refusals.check_needs(f.needs, "A SavedModel")
  program = programs.Program(f, signatures)
  exported = graphs.build(program)
  try:
    compared = (
        proofs.drawn_points(program, exported.draws) if points is None else
        proofs.given_points(program, points, exported.draws))
    with directories.replacing(absolute) as directory:
      _write(exported, directory, _TF1 if for_tf1 and _tf.IS_TF2 else None)
      proofs.check(directory, program, compared, exported.tolerances)
      directories.check(path, overwrite)  # It takes a while.
  finally:
    exported.session.close()
  return Export(os.fspath(path), program, compared)


class Export:
  """What `export` returns, and prints as a text.

  Attributes:
    path: str, the directory, as it was given.
    signatures: dict from the name of each signature to (list of the names of
      its inputs, list of the names of its outputs).
    points: int, the number of points at which it was compared with the function
      after it was written.
  """

  def __init__(self, path, program, points):
    self.path = path
    self.points = len(points)
    names = [given.name for given in program.inputs]
    self.signatures = {
        kind: (list(names), [output.name for output in outputs])
        for kind, outputs in program.signatures.items()}

  def __repr__(self):
    lines = ["'{}', read back and the same at {} point{}:".format(
        self.path, self.points, "" if self.points == 1 else "s")]
    lines += ["  {}({}) -> {}".format(kind, ", ".join(inputs),
                                      ", ".join(outputs))
              for kind, (inputs, outputs) in self.signatures.items()]
    return "\n".join(lines)


def _check_signatures(signatures):
  """Refuses names of signatures that there are not."""
  if signatures is None:
    return
  if not isinstance(signatures, (list, tuple)) or any(
      name not in programs.KINDS for name in signatures):
    raise errors.ArgumentError(
        "signatures={!r} cannot be written.".format(signatures),
        "It is a list of some of {}; '{}' is always there.".format(
            ", ".join(map(repr, programs.KINDS)), programs.SERVING),
        "Pass signatures=['value'], or leave it out for all.")


def _write(exported, directory, version):
  """Writes a SavedModel.

  Args:
    exported: `graphs.Exported`.
    directory: str, which is not there yet.
    version: str, the oldest version that has to read it, one of
      `older_versions.VERSIONS`; or None.
  """
  with exported.graph.as_default():
    builder = tf.saved_model.Builder(directory)
    builder.add_meta_graph_and_variables(
        exported.session, [tf.saved_model.SERVING], {
            kind: _signature(exported.inputs, outputs)
            for kind, outputs in exported.outputs.items()},
        main_op=exported.main_op)
    builder.save()
    _rewrite(os.path.join(directory, "saved_model.pb"), version)


def _rewrite(path, version):
  """Leaves out of a SavedModel what its readers may not know."""
  saved_model = _tf.SavedModel()
  with open(path, "rb") as source:
    saved_model.ParseFromString(source.read())
  for meta_graph in saved_model.meta_graphs:
    older_versions.leave_out_defaults(meta_graph.graph_def)
    if version is not None:
      older_versions.fit(meta_graph.graph_def, version)
  with open(path, "wb") as output:
    output.write(saved_model.SerializeToString())


def _signature(inputs, outputs):
  """The SignatureDef from one dict of tensors to another."""
  signature = _tf.SignatureDef(
      method_name=tf.saved_model.PREDICT_METHOD_NAME)
  for infos, tensors in ((signature.inputs, inputs),
                         (signature.outputs, outputs)):
    for name, tensor in tensors.items():
      infos[name].name = tensor.name
      infos[name].dtype = tensor.dtype.as_datatype_enum
      infos[name].tensor_shape.CopyFrom(tensor.shape.as_proto())
  return signature
