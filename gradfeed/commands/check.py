"""Holds the gradient of a model at a value against finite differences.

Reads a model (a frozen graph, a checkpoint with its graph, or a SavedModel) and
a NumPy file (.npy) with a value of x, and tells whether dy/dx there is right:
the verdict, the numbers beside each other, and what else was found: NaN and the
op that it comes from, rows that depend on each other, parts that no gradient
passes. The exit status is 1 where the gradient is wrong.

A large model takes minutes, and --seconds=60 a minute at most but for the run
that is under way then: what was seen until then is printed, and the verdict is
"undecidable" unless it is "wrong".

A file of points as `gradfeed at` takes it will do: where it does not have the
shape of x, its first row is the value.

  gradfeed check --graph=model.pb --y=logits:0 --x=input:0 --points=x_t.npy
"""

from absl import flags
import numpy as np

from gradfeed.checking.checks import check
from gradfeed.commands.flags import model_flags
from gradfeed.commands.flags import value_flags
from gradfeed import errors
from gradfeed.evaluation.making import function
from gradfeed.graph import tensors
from gradfeed.streaming.formats import npy

#: The flags that have to be given.
REQUIRED = ("graph", "y", "x", "points")

FLAGS = flags.FlagValues()
_load = model_flags.define(FLAGS)
_Y, _X = model_flags.define_y_and_x(FLAGS)
_element = model_flags.define_class(FLAGS)
_POINTS = flags.DEFINE_string(
    "points", None, "The .npy file with the value of x.", flag_values=FLAGS)
_FEED = flags.DEFINE_multi_string(
    "feed", None, "NAME=VALUE: the value of another tensor, such as "
    "keep_prob:0=1.0 or labels:0=[0,1] or mask:0=mask.npy", flag_values=FLAGS)
_ORDER = flags.DEFINE_enum(
    "order", "1", ["1", "2"], "2 to check second derivatives as well.",
    flag_values=FLAGS)
_SEED = flags.DEFINE_integer(
    "seed", 0, "The seed of the random directions.", lower_bound=0,
    flag_values=FLAGS)
_SECONDS = flags.DEFINE_float(
    "seconds", None, "How long it may take: when the time is up, what was seen "
    "until then is printed. A run of the model that has begun is waited for.",
    flag_values=FLAGS)
_FORMAT = flags.DEFINE_enum(
    "format", "text", ["text", "json"], "How to print it.", flag_values=FLAGS)


def main():
  """Prints the report; 1 where the gradient is wrong, else 0."""
  points = npy.load(_POINTS.value)
  with _load() as model:
    graph = model.graph
    x = tensors.resolve(_X.value, graph, "--x")
    y = _element(tensors.resolve(_Y.value, graph, "--y").tensor)
    feeds = value_flags.parse_feeds(_FEED.value or [], graph)
    value_flags.require_all_fed(function(x.tensor, y, model.session, feeds))
    report = check(y, x.tensor, value_at(x, points), model.session, feeds,
                   order=int(_ORDER.value), seed=_SEED.value,
                   seconds=_SECONDS.value)
  print(report.to_json() if _FORMAT.value == "json" else report)
  return 1 if report.is_bad else 0


def value_at(x, points):
  """Takes the value of `x` from a file: all of it, or its first row.

  Args:
    x: `tensors.Dense`.
    points: array, the content of the file.

  Returns:
    array of a shape that `x` can have.

  Raises:
    ArgumentError: neither has a shape that `x` can have.
  """
  candidates = [points]
  if np.ndim(points) and len(points):
    candidates += [points[0], points[:1]]
  for value in candidates:
    if x.shape.is_compatible_with(np.shape(value)):
      return np.array(value)
  raise errors.ArgumentError(
      "--points has the shape {}, which is no value of {}.".format(
          tensors.format_shape(np.shape(points)), tensors.describe(x)),
      "Neither the whole of it nor its first row fits.",
      "Save a value of the shape of x (np.save).")
