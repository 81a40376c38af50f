"""Shards of a data set as elements of a pipeline."""

import os
import re
import time

import apache_beam as beam
from apache_beam.metrics import metric
from apache_beam.options import pipeline_options

from gradfeed import errors
from gradfeed.beam import handlers
from gradfeed.shards import manifests
from gradfeed.shards import reports
from gradfeed.shards import tasks

#: An error of gradfeed in what a runner says of a worker.
_ERROR = re.compile(
    r"\b(\w+Error): (.+?)\n\s*Why: (.+?)\n\s*Fix: (.+?)(?:\n|$)", re.DOTALL)

#: What Beam adds to the text of an error.
_STEP = re.compile(r" \[while running '[^\n]*'\]")


class StreamShards(beam.PTransform):
  """Evaluates the shards of a task, whose numbers are the elements.

  It takes a PCollection of numbers, and returns one of `ShardReport`. The
  results are files, which `gradfeed.shards.StreamShard` tells of. They are
  there whichever worker ends: a runner that gives a shard to another worker, or
  the same pipeline once more, goes on where the shard was, and does not
  evaluate a finished one again.

  Metrics in the namespace "gradfeed" are the counters `rows`, `refused_rows`
  and `shards`, and the distributions `shard_milli_secs` and
  `model_load_milli_secs`.
  """

  def __init__(self, task, env_vars=None):
    """Checks the task on this machine, unless it was: see `StreamShard.check`.

    Args:
      task: `gradfeed.shards.StreamShard`.
      env_vars: dict of variables of the environment that a worker sets before
        it loads the model.

    Raises:
      ArgumentError: it is no task; and what `StreamShard.check` raises.
    """
    super().__init__()
    if not isinstance(task, tasks.StreamShard):
      raise errors.ArgumentError(
          "task={!r} is no task.".format(task),
          "It says what is evaluated, at which points.",
          "Pass a gradfeed.shards.StreamShard.")
    self._task = task if task.fingerprint else task.check()
    self._env_vars = dict(env_vars or {})

  def expand(self, numbers):
    """Builds the steps.

    Args:
      numbers: PCollection of int, each the number of a shard.

    Returns:
      PCollection of `ShardReport`.
    """
    return (numbers | "Spread" >> beam.Reshuffle()
            | "Evaluate" >> beam.ParDo(_Evaluate(self._task, self._env_vars)))


class _Evaluate(beam.DoFn):
  """Evaluates one shard after the other."""

  def __init__(self, task, env_vars):
    self._task, self._env_vars = task, env_vars

  def setup(self):
    os.environ.update(self._env_vars)

  def process(self, number):
    start = time.perf_counter()
    try:
      self._task.derivative.acquire()
      load_milliseconds = int(1e3 * (time.perf_counter() - start))
      report = self._task(number)
    except errors.GradfeedError as error:
      # Beam makes the error anew of what it was made from.
      raise type(error)(error.what, error.why, error.fix) from error
    for name, count in (("rows", report.rows), ("shards", 1),
                        ("refused_rows", len(report.reasons))):
      metric.Metrics.counter(handlers.NAMESPACE, name).inc(count)
    metric.Metrics.distribution(
        handlers.NAMESPACE, "shard_milli_secs").update(
            int(1e3 * report.seconds))
    if load_milliseconds:  # It is there already, most times.
      metric.Metrics.distribution(
          handlers.NAMESPACE, "model_load_milli_secs").update(load_milliseconds)
    yield report


def run_shards(task, runner=None, options=()):
  """Evaluates all shards of a task by a pipeline, and waits for its end.

  Args:
    task: `gradfeed.shards.StreamShard`. Its points and results have to be where
      all workers, and this machine, can read and write them.
    runner: str, the name of a runner of Beam, such as "FlinkRunner"; None for
      the one that `options` say.
    options: list of str, options of Beam: ["--direct_num_workers=2"].

  Returns:
    list of `ShardReport`, one for each shard in their order. `was_there` is
    True for those that were finished before.

  Raises:
    ArgumentError: there is no such runner.
    StreamError, or what a worker has raised: the pipeline has failed. What is
      finished is kept, and the same call goes on.

  Example:
    >>> import tensorflow.compat.v1 as tf
    >>> import gradfeed.beam, gradfeed.shards, numpy as np
    >>> with tf.Graph().as_default() as graph:
    ...   x = tf.placeholder(tf.float64, [None, 2], name="x")
    ...   y = tf.reduce_sum(x ** 3, axis=1, name="y")
    >>> path = tf.train.write_graph(graph, ".", "cube.pb", as_text=False)
    >>> np.save("x.npy", np.ones([9, 2]))
    >>> task = gradfeed.shards.StreamShard(
    ...     "cube.pb", "y:0", "x:0", "x.npy", "g.npy", shards=2)
    >>> reports = gradfeed.beam.run_shards(task, "DirectRunner")
    >>> print([report.rows for report in reports])
    [4, 5]
  """
  were_there = [manifests.read(task.paths(i)[0]) is not None
                for i in range(len(task))]
  shards = StreamShards(task)
  try:
    pipeline = beam.Pipeline(
        runner, pipeline_options.PipelineOptions(list(options)))
  except (ImportError, ValueError, AttributeError) as error:
    raise errors.ArgumentError(
        "There is no runner {!r}.".format(runner),
        "Beam: {}.".format(errors.first_line(error)),
        "Name one that this Beam has, such as 'DirectRunner'.") from error
  try:
    _ = pipeline | beam.Create(range(len(task))) | "Shards" >> shards
    pipeline.run().wait_until_finish()
  except Exception as error:
    raise _translated(error) from error
  return _reports_of(task, were_there)


def _translated(error):
  """What a worker has raised, found in the text of what the runner raises."""
  if isinstance(error, errors.GradfeedError):
    return type(error)(
        _STEP.sub("", error.what), error.why, _STEP.sub("", error.fix))
  found = _ERROR.search(str(error))
  if found and isinstance(getattr(errors, found.group(1), None), type):
    return getattr(errors, found.group(1))(
        *[_STEP.sub("", part) for part in found.groups()[1:]])
  lines = str(error).strip().split("\n")
  return errors.StreamError(
      "The pipeline has failed.", "Beam: {}.".format(lines[-1].rstrip(".")),
      "Look at what the workers say. What is finished is kept, and the same "
      "call goes on.")


def _reports_of(task, were_there):
  """The `ShardReport` of each shard, from what is beside the results.

  Args:
    task: `StreamShard` that was evaluated.
    were_there: list of bool, which shards were finished before.

  Raises:
    StreamError: the results of a shard are not to be seen here.
  """
  found, start = [], 0
  for i, was_there in enumerate(were_there):
    path = task.paths(i)[0]
    manifest = manifests.read(path)
    if manifest is None:
      raise errors.StreamError(
          "'{}' is not there, though the pipeline has ended.".format(path),
          "The workers have written it where this machine does not see it.",
          "Name an output on a file system that all of them share.")
    found.append(reports.of_manifest(i, path, manifest, start, was_there))
    start += manifest["rows"]
  return found
