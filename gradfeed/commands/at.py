"""Evaluates a derivative of a model at every point of a file.

Reads a model (a frozen graph, a checkpoint with its graph, or a SavedModel) and
points, one in each row of a .npy, .npz, .csv or TFRecord file, and writes dy/dx
at each to a .npy, .npz, .csv or TFRecord file.

A row is a value of x as it stands: points of shape [N] + x.shape. Where x has
a leading batch dimension of 1, or of unknown size, a row may also be a value
without it: points of shape [N] + x.shape[1:].

  gradfeed at --graph=model.pb --y=logits:0 --x=input:0 --points=points.npy \\
    --output=gradients.npy
"""

import json
import os
import sys
import time

from absl import flags
import numpy as np

from gradfeed.commands.clusters import shard_flags
from gradfeed.commands.clusters import sharded
from gradfeed.commands.flags import model_flags
from gradfeed.commands.flags import value_flags
from gradfeed import errors
from gradfeed.evaluation.making import function
from gradfeed.graph import tensors
from gradfeed.models import derivative_choices
from gradfeed.models import loading
from gradfeed.shards.tasks import StreamShard
from gradfeed.streaming.streams import stream

#: The flags that have to be given.
REQUIRED = ("graph", "y", "x", "points", "output")

FLAGS = flags.FlagValues()
_load = model_flags.define(FLAGS)
_Y, _X = model_flags.define_y_and_x(FLAGS)
_CLASS_INDEX = flags.DEFINE_string(
    "class_index", None, "Take this element of the last axis of y (the class): "
    "a number; or 'top' for the one with the greatest score at each point; or "
    "where each point has its own: a name in the file of points, or a .npy "
    "file.", flag_values=FLAGS)
_OF = flags.DEFINE_enum(
    "of",
    "gradient",
    derivative_choices.DERIVATIVES, "What to evaluate. The Jacobian and "
    "the Hessian of a batch are those of each row by itself.",
    flag_values=FLAGS)
_POINTS = flags.DEFINE_string(
    "points", None, "The file with the values of x: .npy, .npz, .csv, .csv.gz, "
    ".tfrecord, .tfrecord.gz, or a pattern such as 'train-*.tfrecord'.",
    flag_values=FLAGS)
_KEY = flags.DEFINE_string(
    "key", None, "What x is called in the file: an array of a .npz, a feature "
    "of an Example, a column, a pattern of columns ('pixel*') or their places "
    "('1:785'). Not needed where there is one, or it has the name of x.",
    flag_values=FLAGS)
_ROW = flags.DEFINE_multi_string(
    "row", None, "NAME=KEY: another tensor that has its own value at each "
    "point, such as labels:0=label: a name in the file of points (see --key), "
    "or a file.", flag_values=FLAGS)
_OUTPUT = flags.DEFINE_list(
    "output", None, "The file to write: .npy, .npz, .csv or .tfrecord. It is "
    "there when it is complete (OUTPUT.partial until then), and replaces one "
    "that is there. Interrupted, the same command goes on where it was. Two "
    "with a comma between them for --of=value_and_gradient, if .npy.",
    flag_values=FLAGS)
_FEED = flags.DEFINE_multi_string(
    "feed", None, "NAME=VALUE: the value of another tensor, for every point, "
    "such as keep_prob:0=1.0 or labels:0=[0,1] or mask:0=mask.npy",
    flag_values=FLAGS)
_CHUNK = flags.DEFINE_integer(
    "chunk", 256, "How many points are evaluated at a time, where x is a "
    "batch.", lower_bound=1, flag_values=FLAGS)
_ON_ERROR = flags.DEFINE_enum(
    "on_error", "stop", ["stop", "skip"], "What to do at a point that is not "
    "finite, cannot be read or does not fit: stop with its number, or leave "
    "its row NaN.", flag_values=FLAGS)
_MAX_SKIPPED = flags.DEFINE_float(
    "max_skipped", None, "The share of the points, 0 to 1, that "
    "--on_error=skip may skip: the command fails, with status 1, where more "
    "are, and always where none can be evaluated.", lower_bound=0.0,
    upper_bound=1.0, flag_values=FLAGS)
_COUPLED = flags.DEFINE_bool(
    "coupled", False, "Points depend on each other in the model (batch "
    "normalization in training), and a chunk is the batch that is meant.",
    flag_values=FLAGS)
_JIT_COMPILE = flags.DEFINE_enum(
    "jit_compile", None, ["true", "auto"], "Have XLA compile the derivative "
    "(TF 2): 'auto' in the background, if that is faster. The last, shorter "
    "chunk has a program of its own.", flag_values=FLAGS)
_REPORT = flags.DEFINE_string(
    "report", None, "A JSON file to write, of what was done and which points "
    "were skipped, and why.", flag_values=FLAGS)

_SHARDS = shard_flags.ShardFlags(FLAGS)

#: How many of the skipped points are printed.
_MOST_PRINTED = 3


def take_options(options):
  """Takes the arguments that stand after "--"."""
  _SHARDS.options = options


def main():
  """Writes the derivatives; says on stderr what they are."""
  _check_output()
  _SHARDS.check()
  if _SHARDS.are_given:
    sharded.refuse(_COUPLED.value)
    _write_shards(_task())
    return
  with _load() as model:
    _write(model)


def _task():
  """Makes the task that `--shards`, `--workers` and `--runner` divide."""
  rows = value_flags.split_rows(_ROW.value or [])
  files = [_file_of(key) for _, key in rows]
  feeds = {}
  if _FEED.value:
    with loading.load_graph(
        FLAGS["graph"].value, FLAGS["tags"].value) as model:
      feeds = value_flags.parse_feeds(_FEED.value, model.graph)
  has_own_files = any(path != _POINTS.value for path in files)
  task = StreamShard(
      FLAGS["graph"].value, _Y.value, _X.value,
      [_file_of(_KEY.value)] + files if has_own_files else _POINTS.value,
      _OUTPUT.value, _number_of_shards(), rows=[name for name, _ in rows],
      keys=[None if _is_file(key) else key
            for key in [_KEY.value] + [key for _, key in rows]],
      feed_dict=feeds, of=_OF.value, class_index=_CLASS_INDEX.value,
      tags=FLAGS["tags"].value, chunk=_CHUNK.value, on_error=_ON_ERROR.value,
      max_skipped=_MAX_SKIPPED.value, threads=_SHARDS.threads,
      jit_compile={"true": True}.get(_JIT_COMPILE.value, _JIT_COMPILE.value))
  return task.check()


def _number_of_shards():
  """How many shards: of one file as many as workers, unless a flag says so."""
  if _SHARDS.shards is None and os.path.exists(_POINTS.value):
    return _SHARDS.workers
  return _SHARDS.shards


def _write_shards(task):
  """Evaluates the shards of a task, and prints a summary; or an estimate.

  Args:
    task: `StreamShard`.
  """
  if _SHARDS.estimate is not None:
    for line in sharded.estimate(task, _SHARDS.estimate):
      print("gradfeed at: " + line)
    return
  start = time.perf_counter()
  reports = sharded.evaluate(task, _SHARDS)
  seconds = time.perf_counter() - start
  report = sharded.merged(reports)
  if _REPORT.value:
    with open(_REPORT.value, "w") as output:
      json.dump(dict(report.to_dict(), shards=[
          each.to_dict() for each in reports]), output, indent=2)
  x = task.derivative.check().inputs[0]
  for line in (_lines_of_result(report, seconds,
                                sharded.describe_files(task, reports)) +
               _lines_of_skipped(report) + _lines_of_warnings(x, report)):
    print("gradfeed at: " + errors.printable(line), file=sys.stderr)


def _check_output():
  """Refuses output files that would overwrite points, or have no folder.

  Raises:
    ArgumentError: with the flag.
  """
  inputs = [_POINTS.value] + [row.partition("=")[2] for row in _ROW.value or []]
  for output in _OUTPUT.value:
    for path in inputs:
      if os.path.exists(output) and os.path.exists(path) and (
          os.path.samefile(output, path)):
        raise errors.ArgumentError(
            "--output and --points are the same file, '{}'.".format(output),
            "The points would be lost.", "Give another name to the output.")
    folder = os.path.dirname(os.path.abspath(output))
    if not os.path.isdir(folder):
      raise errors.ArgumentError(
          "There is no folder '{}' for --output.".format(folder),
          "Folders are not made.", "Make it, or name one that is there.")


def _write(model):
  """Evaluates the derivative at all points, and prints a summary.

  Args:
    model: `loading.Model`.
  """
  graph = model.graph
  x = tensors.resolve(_X.value, graph, "--x").tensor
  rows = [(x, _KEY.value)] + value_flags.parse_rows(_ROW.value or [], graph)
  y, class_of_point = derivative_choices.select_class(
      tensors.resolve(_Y.value, graph, "--y").tensor, _CLASS_INDEX.value)
  if class_of_point is not None:
    rows.append((class_of_point, _CLASS_INDEX.value))
  f = function([tensor for tensor, _ in rows],
               derivative_choices.derivative(_OF.value, y, x, _COUPLED.value),
               model.session,
               feed_dict=value_flags.parse_feeds(_FEED.value or [], graph),
               jit_compile={"true": True}.get(
                   _JIT_COMPILE.value, _JIT_COMPILE.value))
  value_flags.require_all_fed(f, x)
  start = time.perf_counter()
  report = stream(
      f, [_file_of(key) for _, key in rows], _OUTPUT.value, _CHUNK.value,
      _ON_ERROR.value, _COUPLED.value, progress=True,
      keys=[None if _is_file(key) else key for _, key in rows],
      max_skipped=_MAX_SKIPPED.value)
  seconds = time.perf_counter() - start
  if _REPORT.value:
    with open(_REPORT.value, "w") as output:
      json.dump(report.to_dict(), output, indent=2)
  for line in _summary(x, report, seconds):
    print("gradfeed at: " + errors.printable(line), file=sys.stderr)


def _is_file(key):
  """Whether a key is a file of its own, not a name in the file of points."""
  return key is not None and os.path.exists(key)


def _file_of(key):
  """The file that has the values of a key."""
  return key if _is_file(key) else _POINTS.value


def _summary(x, report, seconds):
  """The lines that are printed at the end.

  Args:
    x: `tf.Tensor`.
    report: `streams.Report`.
    seconds: float, the time that `stream` took.

  Returns:
    list of str.
  """
  return (_lines_of_result(report, seconds) + _lines_of_skipped(report) +
          _lines_of_warnings(x, report))


def _lines_of_result(report, seconds, files=None):
  """What was written, and how long it took.

  Args:
    report: `streams.Report`.
    seconds: float.
    files: str, what the files are called; None to name them.

  Returns:
    list of str.
  """
  index = ("" if _CLASS_INDEX.value is None else
           "[..., {}]".format(_CLASS_INDEX.value))
  what = {"value": "'{y}'{i}", "jacobian": "Jacobian of '{y}'{i} by '{x}'",
          "hessian": "Hessian of '{y}'{i} by '{x}'",
          "value_and_gradient": "'{y}'{i} and d '{y}'{i} / d '{x}'"}.get(
              _OF.value, "d '{y}'{i} / d '{x}'").format(
                  y=_Y.value, i=index, x=_X.value)
  return ["wrote {}: {} at {} point{} in {:.2f} s.".format(
      files or ", ".join(map(_describe_file, report.files[:2])) + (
          "" if len(report.files) <= 2 else " and {} more".format(
              len(report.files) - 2)),
      what, report.rows, "" if report.rows == 1 else "s", seconds)]


def _lines_of_skipped(report):
  """Which points were skipped, if there are any, and why."""
  skipped = report.skipped
  if not skipped:
    return []
  lines = ["warning: {} point{} skipped:".format(
      len(skipped), " was" if len(skipped) == 1 else "s were")]
  lines += ["  point {} {}".format(i, report.reasons[i])
            for i in skipped[:_MOST_PRINTED]]
  if len(skipped) > _MOST_PRINTED:
    lines.append("  and {} more (--report=FILE has all).".format(
        len(skipped) - _MOST_PRINTED))
  return lines


def _lines_of_warnings(x, report):
  """Warnings of results that are not finite, and of the sum of a softmax."""
  lines = []
  if report.not_finite > len(report.skipped):
    lines.append(
        "warning: {} of {} results have a NaN or an infinity, the first in "
        "row {}.".format(report.not_finite, report.rows,
                         report.first_not_finite))
  y = tensors.resolve(_Y.value, x.graph, "--y").tensor
  if y.op.type == "Softmax" and _CLASS_INDEX.value is None and (
      _OF.value != "jacobian"):
    lines.append(
        "warning: '{}' is a softmax, whose elements sum to 1: the gradient of "
        "the sum is 0 but for rounding. Choose a class with --class_index=N."
        .format(y.name))
  return lines


def _describe_file(path):
  """The path of a file, and the dtype and shape of the array in a .npy file."""
  if not path.endswith(".npy"):
    return path
  array = np.load(path, mmap_mode="r")
  return "{} ({}, {})".format(
      path, array.dtype, tensors.format_shape(array.shape))
