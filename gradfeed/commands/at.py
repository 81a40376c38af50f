"""Evaluates a gradient of a model at every point of a file.

Reads a model (a frozen graph, a checkpoint with its graph, or a SavedModel) and
a NumPy file (.npy) of points, one in each row, and writes a .npy file of the
shape of the points with dy/dx at each.

A row is a value of x as it stands: points of shape [N] + x.shape. Where x has
a leading batch dimension of 1, or of unknown size, a row may also be a value
without it: points of shape [N] + x.shape[1:].

  gradfeed at --graph=model.pb --y=logits:0 --x=input:0 --points=points.npy \\
    --output=gradients.npy
"""

import ast
import os
import sys
import time

from absl import flags

from gradfeed import errors
from gradfeed import tensors
from gradfeed._tf import tf
from gradfeed.commands import sources
from gradfeed.derivatives import gradient
from gradfeed.functions import function
from gradfeed.points import load_points
from gradfeed.streaming import stream

#: The flags that have to be given.
REQUIRED = ("graph", "y", "x", "points", "output")

FLAGS = flags.FlagValues()
_load = sources.define(FLAGS)
_Y = flags.DEFINE_string(
    "y", None, "The tensor that is differentiated, such as logits:0. All its "
    "elements are summed, unless --y_index chooses one.",
    flag_values=FLAGS)
_Y_INDEX = flags.DEFINE_integer(
    "y_index", None, "Take this element of the last axis of y (the class).",
    flag_values=FLAGS)
_X = flags.DEFINE_string(
    "x", None, "The tensor that y is differentiated by: an input or any layer.",
    flag_values=FLAGS)
_POINTS = flags.DEFINE_string(
    "points", None, "The .npy file with the values of x.",
    flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The .npy file to write. It is there when it is complete "
    "(OUTPUT.partial until then), and replaces one that is there. Interrupted, "
    "the same command goes on where it was.",
    flag_values=FLAGS)
_FEED = flags.DEFINE_multi_string(
    "feed", None, "NAME=VALUE: the value of another tensor, for every point, "
    "such as keep_prob:0=1.0 or labels:0=[0,1] or mask:0=mask.npy",
    flag_values=FLAGS)
_CHUNK = flags.DEFINE_integer(
    "chunk", 256, "How many points are evaluated at a time, where x is a batch "
    "of any size.", lower_bound=1, flag_values=FLAGS)
_ON_ERROR = flags.DEFINE_enum(
    "on_error", "stop", ["stop", "skip"], "What to do at a point that is not "
    "finite or does not fit: stop with its number, or leave its row NaN.",
    flag_values=FLAGS)
_COUPLED = flags.DEFINE_bool(
    "coupled", False, "Points depend on each other in the model (batch "
    "normalization in training), and a chunk is the batch that is meant.",
    flag_values=FLAGS)

_SECONDS_BETWEEN = 30.0
_WROTE = "wrote {} ({}, {}): d '{}'{} / d '{}' at {} point{} in {:.2f} s."


def main():
  """Writes the gradients; says on stderr what they are."""
  points = load_points(_POINTS.value)
  _check_output(_OUTPUT.value, _POINTS.value)
  with _load() as model:
    _write_gradients(model, points)


def _write_gradients(model, points):
  graph = model.graph
  x = tensors.resolve(_X.value, graph, "--x").tensor
  y = tensors.resolve(_Y.value, graph, "--y").tensor
  dx = gradient(element(y, _Y_INDEX.value), x)
  f = function(x, dx, model.session,
               feed_dict=parse_feeds(_FEED.value or [], graph))
  require_all_fed(f)
  start = time.perf_counter()
  report = stream(f, points, _OUTPUT.value, _CHUNK.value, _ON_ERROR.value,
                  _COUPLED.value, _Progress())
  seconds = time.perf_counter() - start
  _report(y, x, points, seconds, report)


def _check_output(output, points):
  if os.path.exists(output) and os.path.samefile(output, points):
    raise errors.ArgumentError(
        "--output and --points are the same file, '{}'.".format(output),
        "The points would be lost.", "Give another name to the output.")


def element(y, index):
  """`y[..., index]`; `y` itself without an index.

  Raises:
    ArgumentError: there is no such element.
  """
  if index is None:
    return y
  rank, size = y.shape.ndims, None
  if rank:
    size = tf.TensorShape(y.shape).as_list()[-1]
  if rank == 0 or (size is not None and not -size <= index < size):
    raise errors.ArgumentError(
        "--y_index={} is not an element of {}.".format(
            index, tensors.describe(y)),
        "It has no axis." if rank == 0 else
        "Its last axis has {}, counted from 0.".format(size),
        "Leave --y_index out." if rank == 0 else
        "Use --y_index=0 to --y_index={}.".format(size - 1))
  with y.graph.as_default():
    return y[..., index]


def parse_feeds(texts, graph):
  """The dict from names to values that `--feed` means.

  Raises:
    ArgumentError: one of them is not NAME=VALUE.
    TensorNotFoundError: one names no tensor.
  """
  feeds = {}
  for text in texts:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
      raise errors.ArgumentError(
          "--feed={} is not NAME=VALUE.".format(text),
          "A feed is the name of a tensor and its value.",
          "Write it as in --feed=keep_prob:0=1.0.")
    if name in feeds:
      raise errors.ArgumentError(
          "--feed={} is given twice.".format(name),
          "A tensor has one value.", "Leave one of them out.")
    dtype = tensors.resolve(name, graph, "--feed").dtype
    feeds[name] = value if dtype == tf.string else _value(name, value)
  return feeds


def _value(name, text):
  if text.endswith(".npy"):
    return load_points(text)
  try:
    return ast.literal_eval({"true": "True", "false": "False"}.get(
        text.lower(), text))
  except (ValueError, SyntaxError):
    raise errors.ArgumentError(
        "--feed={}={} is not a value.".format(name, text),
        "It is neither a number, nor True or False, nor a list of them, nor a "
        ".npy file.", "Write it as in --feed={}=1.0.".format(name)) from None


def require_all_fed(f):
  """Refuses a function with placeholders that have no value.

  Raises:
    MissingFeedError: with the flags to add.
  """
  if f.needs:
    raise errors.MissingFeedError(
        "No value for {}.".format(tensors.describe_all(f.needs)),
        "The gradient depends on it.",
        "Add {}.".format(" ".join(
            "--feed={}=VALUE".format(tensor.name) for tensor in f.needs)))


class _Progress:
  """Says on stderr how far it is, now and then."""

  def __init__(self):
    self._start = self._last = time.perf_counter()
    self._first = None

  def __call__(self, done, count):
    now = time.perf_counter()
    if self._first is None:
      self._first = done
      if done:
        print("gradfeed at: going on after {} of {} points.".format(
            done, count), file=sys.stderr)
    if now - self._last > _SECONDS_BETWEEN and done < count:
      self._last = now
      rate = (done - self._first) / (now - self._start)
      print("gradfeed at: {} of {} points, {:.0f} in a second, {:.0f} s "
            "left.".format(done, count, rate, (count - done) / rate),
            file=sys.stderr, flush=True)


def _report(y, x, points, seconds, report):
  index = "" if _Y_INDEX.value is None else "[..., {}]".format(_Y_INDEX.value)
  lines = [_WROTE.format(
      _OUTPUT.value, x.dtype.base_dtype.name,
      tensors.format_shape(points.shape), y.name, index, x.name, len(points),
      "" if len(points) == 1 else "s", seconds)]
  if report.skipped:
    lines.append(
        "warning: {} point{} skipped, the first is row {}.".format(
            len(report.skipped), " was" if len(report.skipped) == 1 else
            "s were", report.skipped[0]))
  if report.not_finite > len(report.skipped):
    lines.append(
        "warning: {} of {} gradients have a NaN or an infinity, the first in "
        "row {}.".format(report.not_finite, len(points),
                         report.first_not_finite))
  if y.op.type == "Softmax" and not index:
    lines.append(
        "warning: '{}' is a softmax, whose elements sum to 1: the gradient of "
        "the sum is 0 but for rounding. Choose a class with --y_index=N."
        .format(y.name))
  for line in lines:
    print("gradfeed at: " + line, file=sys.stderr)
