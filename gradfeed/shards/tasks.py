"""`StreamShard`: one shard of a data set, for a worker of any engine."""

import os
import time

import numpy as np

from gradfeed import errors
from gradfeed.shards import divisions
from gradfeed.shards import file_systems
from gradfeed.shards import manifests
from gradfeed.shards import placement
from gradfeed.shards import reports
from gradfeed.shards import shard_points
from gradfeed.shards import task_arguments
from gradfeed.shards import worker_models
from gradfeed.streaming import arguments
from gradfeed.streaming import point_sources
from gradfeed.streaming import row_evaluation
from gradfeed.streaming import streams

#: Points that `check` evaluates.
_FEW = 16

_UNCOUPLED = (
    "Evaluate the model as it runs outside of training (is_training=False); or "
    "pass coupled=True to gradfeed.stream, in one process: shards would be "
    "other batches than those that are meant.")


class StreamShard:
  """A task for the workers of a cluster: a derivative at one shard of points.

  `task(i)` evaluates shard i of `len(task)` by `gradfeed.stream`, in the
  process where it is called, and writes it to `task.paths(i)`. The task is
  pickled in a few hundred bytes: paths and names, and no weights. The model is
  loaded once in a process, and shared by its threads.

  - It goes on: a shard that was interrupted, also by `kill -9`, goes on where
    it was when a worker that sees the same files is given it again.
  - It is done once: beside the results of a finished shard is a manifest, with
    the fingerprints of the model and of the points. A finished shard is not
    evaluated again, and one of another model, another derivative or other
    points is refused.
  - One worker writes a shard at a time. Another one that is given the same
    shard waits for it, and returns what it did.

  Points and results may be on file systems of TensorFlow's gfile (gs://,
  hdfs://, s3://, ...). Points are copied to the worker then, of `.npy` files
  only the rows of the shard; results are written there, copied, and renamed.

  Files of points are divided by whole files where there are as many files as
  shards, and else by rows of all the files one after the other. TFRecord and
  `.csv` files (and `.npz` files of gfile) are divided by whole files alone:
  there cannot be more shards than files.

  Attributes:
    derivative: `ModelDerivative`, what is evaluated.
    division: which files of points, or rows of them, are a shard.
    output: str, the file of results without the number of a shard, or a list.
    chunk, on_error, max_skipped: as they were given.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> import numpy as np
    >>> import gradfeed.shards
    >>> with tf.Graph().as_default() as graph:
    ...   x = tf.placeholder(tf.float64, [None, 2], name="x")
    ...   y = tf.reduce_sum(x ** 3, axis=1, name="y")
    >>> path = tf.train.write_graph(graph, ".", "cube.pb", as_text=False)
    >>> np.save("points.npy", np.ones([1000, 2]))
    >>> task = gf.shards.StreamShard(
    ...     "cube.pb", "y:0", "x:0", "points.npy", "gradients.npy", shards=4)
    >>> for report in map(task.check(), range(len(task))):
    ...   print(report.path[-28:], report.start, report.rows)
    gradients-00000-of-00004.npy 0 250
    gradients-00001-of-00004.npy 250 250
    gradients-00002-of-00004.npy 500 250
    gradients-00003-of-00004.npy 750 250
    >>> print(np.load("gradients-00003-of-00004.npy")[-1])
    [3. 3.]
  """

  def __init__(self, model, y, x, points, output, shards=None, *, rows=(),
               keys=None, feed_dict=None, of="gradient", class_index=None,
               tags=None, chunk=256, on_error="stop", max_skipped=None,
               threads=1, fingerprint=None, jit_compile=False):
    """Makes the task, and looks which files of points there are.

    Args:
      model: str or os.PathLike, the model, as for `gradfeed.load`.
      y, x: str, the names of tensors in it, or "signature/key".
      points: str or os.PathLike, the file of points or a pattern of names, as
        for `gradfeed.stream`; or a list of them, for x and each of `rows`, or a
        dict from their names.
      output: str or os.PathLike, the file of results: shard 3 of 100 of
        "gradients.npy" is "gradients-00003-of-00100.npy". A list of two `.npy`
        files for of="value_and_gradient".
      shards: int, how many; None for as many as there are files.
      rows: list of str, tensors that have a value at each point too.
      keys: list of str or None, or dict from the names of x and `rows`: what
        they are called in the points.
      feed_dict: dict from names of tensors to their values at every point.
      of: str, what is evaluated: "gradient", "value", "value_and_gradient",
        "jacobian" or "hessian".
      class_index: int, the element of the last axis of y; "top" for the
        greatest; the name of the class of each point in the points; or None.
      tags: the tags of a graph in a SavedModel, as for `gradfeed.load`.
      chunk: int, how many points are evaluated at a time.
      on_error: "stop" or "skip", as for `gradfeed.stream`.
      max_skipped: float, the share of the points of a shard that may be
        skipped, or None.
      threads: int, how many threads of TensorFlow a worker has; None for as
        many as TensorFlow takes.
      fingerprint: str, that the model has to have; None for any.
      jit_compile: as for `gradfeed.function`.

    Raises:
      ArgumentError: an argument is not one of these.
      ModelFileError: no file of points matches.
    """
    self.derivative = worker_models.ModelDerivative(
        model, y, x, rows, keys, feed_dict, of, class_index, tags, threads,
        fingerprint, jit_compile)
    task_arguments.check_counts(shards, threads)
    self.division = divisions.Division(
        task_arguments.patterns_of(points, self.derivative), shards)
    outputs = output if isinstance(output, (list, tuple)) else [output]
    arguments.check_settings(list(outputs), chunk, on_error, max_skipped)
    self.output = [file_systems.absolute(path) for path in outputs]
    if len(self.output) == 1:
      self.output = self.output[0]
    self.chunk, self.on_error = chunk, on_error
    self.max_skipped = max_skipped

  @property
  def shards(self):
    """int, how many shards there are; also `len(task)`."""
    return self.division.shards

  @property
  def fingerprint(self):
    """str, that the model has to have; None before `check`, unless given."""
    return self.derivative.fingerprint

  def __len__(self):
    return self.division.shards

  def paths(self, index):
    """The files of results of a shard.

    Args:
      index: int, from 0.

    Returns:
      list of str.
    """
    outputs = self.output if isinstance(self.output, list) else [self.output]
    return ["{0}-{2:05d}-of-{3:05d}{1}".format(
        *os.path.splitext(path) + (index, self.shards)) for path in outputs]

  def check(self):
    """Tries all of it on this machine, before workers start.

    Loads the model, finds y, x and the others in it, reads the first points,
    and evaluates them. From then on the task has the fingerprint of the model,
    and a worker that finds another one refuses.

    Returns:
      the task.

    Raises:
      CoupledRowsError: rows depend on each other: what a shard gives would
        depend on its chunks.
      GradfeedError: whatever a worker would raise: the model or the points
        cannot be read, a name is not there, a value is missing.
    """
    loaded = self.derivative.check()
    task_arguments.check_outputs(self.paths(0), loaded)
    points = self._points(0, loaded)
    with points.local(_FEW) as parts:
      source = point_sources.Points(parts, loaded.f, self.derivative.keys)
      try:
        block = source.read(0, _FEW)
        if len(block.arrays[0]) > len(block.bad):
          row_evaluation.RowEvaluator(
              loaded.f, source, True, False).evaluate(block, 0)
      except errors.CoupledRowsError as error:
        error.fix = _UNCOUPLED
        raise
      finally:
        source.close()
    return self

  def __call__(self, index):
    """Evaluates one shard, or finds that it is there.

    Args:
      index: int, from 0 to `len(task)` - 1.

    Returns:
      `ShardReport`.

    Raises:
      ArgumentError: there is no such shard.
      StreamError: the shard was finished or begun with another model, another
        derivative or other points; or another model is here than where the task
        was checked; or the results cannot be written.
      GradfeedError: whatever else `gradfeed.load` and `gradfeed.stream` raise,
        with the number of the shard.
    """
    self._check_index(index)
    start = time.perf_counter()
    try:
      loaded = self.derivative.acquire()
      report = self._finish(int(index), loaded, self._points(index, loaded))
    except errors.GradfeedError as error:
      if isinstance(error, errors.CoupledRowsError):
        error.fix = _UNCOUPLED
      error.what = "Shard {} of {}: {}".format(index, self.shards, error.what)
      raise
    return report._replace(seconds=time.perf_counter() - start)

  def finished(self, index):
    """Looks whether a shard is finished, and evaluates nothing.

    Args:
      index: int, from 0 to `len(task)` - 1.

    Returns:
      `ShardReport`; None where the shard is not finished.

    Raises:
      ArgumentError, StreamError, GradfeedError: as a call of the task.
    """
    self._check_index(index)
    path = self.paths(index)[0]
    if manifests.read(path) is None:
      return None
    loaded = self.derivative.acquire()
    return self._report_of(
        path, index, self._wanted(loaded), self._points(index, loaded))

  def _check_index(self, index):
    """Refuses what is no number of a shard."""
    if isinstance(index, bool) or not isinstance(index, (int, np.integer)) or (
        not 0 <= index < self.shards):
      raise errors.ArgumentError(
          "There is no shard {!r}.".format(index),
          "There are {} of them, from 0.".format(self.shards),
          "Map the task over range(len(task)).")

  def __repr__(self):
    return "<gradfeed.StreamShard {} of d '{}' / d '{}': {} shards>".format(
        self.derivative.names["of"], self.derivative.names["y"],
        self.derivative.names["x"], self.shards)

  def _points(self, index, loaded):
    return shard_points.ShardPoints(
        self.division, index, loaded, self.derivative.keys)

  def _finish(self, index, loaded, points):
    """Sees to it that a shard is finished: evaluates it where it is not.

    Args:
      index: int.
      loaded: `worker_models.LoadedDerivative`.
      points: `shard_points.ShardPoints`.

    Returns:
      `ShardReport`.
    """
    outputs, wanted = self.paths(index), self._wanted(loaded)
    report = self._report_of(outputs[0], index, wanted, points)
    if report is not None:
      return report
    with placement.place_of(outputs) as place:
      report = self._report_of(outputs[0], index, wanted, points)
      if report is not None:  # Another worker has finished it meanwhile.
        return report
      evaluated = None
      if not place.is_staged or self._report_of(
          place.paths[0], index, wanted, points) is None:
        evaluated = self._evaluate(place, loaded, points, wanted)
      place.publish()
      return reports.of_manifest(
          index, outputs[0], manifests.read(outputs[0]), points.start,
          evaluated is None, evaluated.resumed if evaluated else 0)

  def _wanted(self, loaded):
    """What the manifest of a shard says of the model, as a dict."""
    return {"model": loaded.fingerprint, "asked": dict(
        self.derivative.names, keys=self.derivative.keys)}

  def _report_of(self, output, index, wanted, points):
    """The `ShardReport` of what is finished in a file of results, or None."""
    manifest = manifests.read(output)
    if manifest is None:
      return None
    manifests.check(output, manifest, wanted, points, self)
    return reports.of_manifest(index, output, manifest, points.start, True)

  def _evaluate(self, place, loaded, points, wanted):
    """Evaluates a shard, and writes its manifest once the results are there.

    Args:
      place: `placement.Place`.
      loaded, points: as in `_finish`.
      wanted: dict of what the manifest says of the model.

    Returns:
      `gradfeed.Report`.
    """
    before = points.identity()

    def commit(report, digests):
      sizes, digest = shard_points.digest_of(digests)
      after = points.identity()
      manifests.write(place.paths[0], dict(
          wanted, rows=report.rows, reasons=report.reasons,
          not_finite=report.not_finite,
          first_not_finite=report.first_not_finite,
          points={"sizes": sizes, "digest": digest, "identity":
                  after if before in (None, after) else None},
          results=[[os.path.basename(path), os.path.getsize(path)]
                   for path in report.files]))

    with points.local() as parts:
      return streams.run(
          loaded.f, parts, place.paths, self.chunk, self.on_error, False, None,
          self.derivative.keys, self.max_skipped, commit)
