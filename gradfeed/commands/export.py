"""Writes the value and the gradient of a model as one SavedModel.

Reads a model (a frozen graph, a checkpoint with its graph, or a SavedModel) and
writes what lies between x and y as a SavedModel that TensorFlow 2, TensorFlow
Serving and TensorFlow 1.15 read, without gradfeed. Its signatures are
serving_default and value (y), gradient (dy/dx) and value_and_gradient. It is
read back and compared before it is there.

  gradfeed export --graph=model.pb --y=logits:0 --x=input:0 \\
    --output=models/classifier/1
"""

from absl import flags

from gradfeed.commands import check
from gradfeed.commands.flags import model_flags
from gradfeed.commands.flags import value_flags
from gradfeed import errors
from gradfeed.evaluation.making import function
from gradfeed.graph import tensors
from gradfeed.migration.exports import programs
from gradfeed.migration.exports.exporting import export
from gradfeed.streaming.formats import npy

#: The flags that have to be given.
REQUIRED = ("graph", "y", "x", "output")

FLAGS = flags.FlagValues()
_load = model_flags.define(FLAGS)
_Y, _X = model_flags.define_y_and_x(FLAGS)
_element = model_flags.define_class(FLAGS)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The directory to write, which is there when it is "
    "complete; for TensorFlow Serving its last part is a number.",
    flag_values=FLAGS)
_INPUT = flags.DEFINE_multi_string(
    "input", None, "Another tensor that is an input of the SavedModel, such as "
    "labels:0; it has a gradient of its own.", flag_values=FLAGS)
_FEED = flags.DEFINE_multi_string(
    "feed", None, "NAME=VALUE: the value that another tensor has in the "
    "SavedModel, such as keep_prob:0=1.0 or mask:0=mask.npy",
    flag_values=FLAGS)
_POINTS = flags.DEFINE_string(
    "points", None, "The .npy file with a value of x to compare at; without, "
    "values are drawn.", flag_values=FLAGS)
_SIGNATURES = flags.DEFINE_list(
    "signatures", None, "Those to write beside serving_default, with commas "
    "between them: {}.".format(", ".join(programs.KINDS)), flag_values=FLAGS)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace a SavedModel that is there.",
    flag_values=FLAGS)
_FOR_TF1 = flags.DEFINE_bool(
    "for_tf1", True, "Whether TensorFlow 1.15 has to be able to read it.",
    flag_values=FLAGS)


def main():
  """Writes the SavedModel, and prints its signatures."""
  others = _INPUT.value or []
  if others and _POINTS.value:
    raise errors.ArgumentError(
        "--points has no values of {}.".format(", ".join(others)),
        "It is a value of x alone.", "Leave --points out, or --input.")
  with _load() as model:
    graph = model.graph
    x = tensors.resolve(_X.value, graph, "--x")
    y = _element(tensors.resolve(_Y.value, graph, "--y").tensor)
    inputs = [x.tensor] + [tensors.resolve(name, graph, "--input").tensor
                           for name in others]
    f = function(inputs if others else x.tensor, y, model.session,
                 value_flags.parse_feeds(_FEED.value or [], graph))
    value_flags.require_all_fed(f)
    points = None
    if _POINTS.value:
      points = [check.value_at(x, npy.load(_POINTS.value))]
    print(export(f, _OUTPUT.value, points, _SIGNATURES.value, _OVERWRITE.value,
                 _FOR_TF1.value))
