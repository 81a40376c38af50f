"""Tells whether two models agree, and at which tensor a difference begins.

Reads two models (a frozen graph, a checkpoint with its graph, or a SavedModel)
and a NumPy file (.npy) with values of x. Compares y and dy/dx at each of them;
where they differ, the tensors between x and y tell where it begins. The exit
status is 1 where they differ.

  gradfeed compare --graph=old.pb --new=new.pb --y=y:0 --x=x:0 --points=x_t.npy
"""

from absl import flags

from gradfeed.commands.flags import model_flags
from gradfeed.commands.flags import value_flags
from gradfeed.comparing.comparisons import compare
from gradfeed.evaluation.making import function
from gradfeed.graph import tensors
from gradfeed.models import loading
from gradfeed.streaming.formats import npy

#: The flags that have to be given.
REQUIRED = ("graph", "new", "y", "x", "points")

FLAGS = flags.FlagValues()
_load = model_flags.define(FLAGS)
_Y, _X = model_flags.define_y_and_x(FLAGS)
_NEW = flags.DEFINE_string(
    "new", None, "The other model, a file or directory as --graph takes it.",
    flag_values=FLAGS)
_NEW_Y = flags.DEFINE_string(
    "new_y", None, "The tensor y of the other model; that of --y if it has the "
    "same name.", flag_values=FLAGS)
_NEW_X = flags.DEFINE_string(
    "new_x", None, "The tensor x of the other model; that of --x if it has the "
    "same name.", flag_values=FLAGS)
_POINTS = flags.DEFINE_string(
    "points", None, "The .npy file with a value of x, or with several along "
    "its first axis.", flag_values=FLAGS)
_FEED = flags.DEFINE_multi_string(
    "feed", None, "NAME=VALUE: the value of another tensor of the first model, "
    "such as keep_prob:0=1.0", flag_values=FLAGS)
_NEW_FEED = flags.DEFINE_multi_string(
    "new_feed", None, "NAME=VALUE: the same for the other model.",
    flag_values=FLAGS)
_ORDER = flags.DEFINE_enum(
    "order", "1", ["1", "2"], "2 to compare second derivatives as well.",
    flag_values=FLAGS)
_HTML = flags.DEFINE_string(
    "html", None, "The file to write the report to as a page of HTML.",
    flag_values=FLAGS)
_FORMAT = flags.DEFINE_enum(
    "format", "text", ["text", "json"], "How to print it.", flag_values=FLAGS)


def main():
  """Prints the report; 1 where the models differ, else 0."""
  points = npy.load(_POINTS.value)
  with _load() as old, loading.load(_NEW.value) as new:
    f = _function(old, _Y.value, _X.value, _FEED.value)
    g = _function(new, _NEW_Y.value or _Y.value, _NEW_X.value or _X.value,
                  _NEW_FEED.value)
    report = compare(f, g, points, order=int(_ORDER.value))
  if _HTML.value:
    report.to_html(_HTML.value)
  print(report.to_json() if _FORMAT.value == "json" else report)
  return 1 if report.is_bad else 0


def _function(model, y, x, feeds):
  """The `functions.Function` of one of the models."""
  graph = model.graph
  f = function(
      tensors.resolve(x, graph, "--x").tensor,
      tensors.resolve(y, graph, "--y").tensor, model.session,
      value_flags.parse_feeds(feeds or [], graph))
  value_flags.require_all_fed(f)
  return f
