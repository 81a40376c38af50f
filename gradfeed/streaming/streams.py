"""Streams points in chunks through a function into files, and resumes."""

import collections
import concurrent.futures
import contextlib
import errno
import itertools
import os
import shutil

import numpy as np

from gradfeed import errors
from gradfeed.streaming import arguments
from gradfeed.streaming import fingerprints
from gradfeed.streaming import point_sources
from gradfeed.streaming import progress_bars
from gradfeed.streaming import row_evaluation
from gradfeed.streaming import sinks
from gradfeed.streaming import skips

#: Chunks that are read ahead of the one that is evaluated.
_AHEAD = 2
#: Chunks of results, and bytes of them, that wait to be written: the writer
#: waits for the disk now and then.
_BEHIND, _BYTES_BEHIND = 8, 32 * 2 ** 20


def stream(f, points, out, chunk=256, on_error="stop", coupled=False,
           progress=None, keys=None, max_skipped=None):
  """Evaluates a function at every row of a file, into a file.

  Memory does not grow with the number of points. Reading, evaluating and
  writing overlap. Interrupted at any moment, it goes on where it was when it is
  called again, and refuses to with another model, other tensors or other
  points: until the last row is written the results are in files beside `out`
  that end in ".partial", and what they belong to in `out` + ".state".

  Points come from

  - an array or a `.npy` file, with the values of one input;
  - a `.npz` file with an array for each input;
  - a TFRecord file (`.tfrecord`, `.tfrecord.gz`) of `tf.train.Example`, with a
    feature for each input; for an input of dtype string, alone and without a
    key, the records themselves;
  - a `.csv` or `.csv.gz` file, with columns for each input;
  - a pattern of names of such files ("train-*.tfrecord"), read one after the
    other, by name;
  - a list of these, or a dict from the input or its name, one for each input;
  - an iterator that yields a value for each row; with several inputs a tuple
    of values, or a dict. To go on, pass one that yields the same once more.

  Results go to `.npy`; to `.npz` (in shards, gradients-00000-of-00003.npz,
  where there are over 64 MB); to `.csv`; or to `.tfrecord`, an Example for each
  row.

  Args:
    f: `Function` of one or several inputs. Each is a batch (shape [None, ...]),
      of which `chunk` rows are fed at a time; or a batch of one (shape
      [1, ...]), of which as many are where two rows together turn out to be
      what they are apart; or no batch: then rows are fed one by one, from
      several threads.
    points: what has the values of the inputs, a row for each point.
    out: str, the file to write. Row i belongs to point i. With several outputs
      a list of files, one for each in the order of `f`; or one file for all,
      but `.npy`: an output is there under its key in the outputs of `f`
      ("result" for one alone).
    chunk: int, how many rows are evaluated at a time.
    on_error: "stop" at a point that is not finite, cannot be read or cannot be
      evaluated, with its number; or "skip" it: its results are NaN, or 0 where
      they are whole numbers.
    coupled: bool; True states that rows depend on each other, and that a chunk
      is the batch that is meant.
    progress: function that is called with the number of rows that are done and
      the number of all (an estimate, or None, where the file does not tell it),
      after each chunk; True for a bar on a terminal and a line now and then
      elsewhere, on stderr; None or False for nothing.
    keys: list, or dict from the input or its name, of what each is called in
      the file: the name of an array, of a feature, or of a column (or a pattern
      of columns as "pixel*", or their places as "1:785"). None for the name of
      the input, or whatever is there if there is one alone. For bytes in an
      Example, "image:raw" or "image:tensor" says which they are where they can
      be read as the numbers themselves and as a `TensorProto`.
    max_skipped: float, the share of the points, 0 to 1, that may be skipped. If
      more are, the call fails, and what is done is kept. None for any share
      below 1: that no point at all can be evaluated is always an error.

  Returns:
    `Report`.

  Raises:
    StreamError: the files of an earlier call belong to something else, or to
      another process; or the results cannot be written (the disk is full), or a
      file of points was changed while it is read: what is done is kept. Or
      every point was skipped, or more than `max_skipped`.
    ArgumentError: an argument is not one of these; nothing is written.
    ModelFileError: a file of points is not one, or is damaged.
    FeedError: points that do not fit the inputs, or one that is not finite.
    CoupledRowsError: a row depends on other rows.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> import numpy as np
    >>> with tf.Graph().as_default(), tf.Session():
    ...   x = tf.placeholder(tf.float64, [None, 2])
    ...   f = gf.function(x, gf.gradient(x ** 3, x))
    ...   report = gf.stream(f, np.ones([1000, 2]), "gradients.npy")
    >>> print(report.rows, np.load("gradients.npy")[-1])
    1000 [3. 3.]
  """
  arguments.check(
      f, points, out, chunk, on_error, coupled, progress, keys, max_skipped)
  return run(f, points, out, chunk, on_error, coupled, progress, keys,
             max_skipped)


def run(f, points, out, chunk, on_error, coupled, progress, keys, max_skipped,
        commit=None):
  """Does what `stream` does, with arguments that are checked.

  Args:
    f, points, out, chunk, on_error, coupled, progress, keys, max_skipped: as in
      `stream`. Points may also be a `row_ranges.Part`, or a list of them.
    commit: function of (`Report`, `sinks.Sink.digests`), called when the files
      have their names and before the journal is removed; or None.

  Returns:
    `Report`.
  """
  sink = sinks.Sink(out, f)
  source = point_sources.Points(points, f, keys)
  rows = row_evaluation.RowEvaluator(f, source, on_error == "skip", coupled)
  report, show_progress = Report(), progress_bars.reporter(progress)

  def note(names):
    report.files = names
    if commit is not None:
      commit(report, sink.digests)

  try:
    fingerprint = fingerprints.of_stream(f, source, coupled and chunk)
    with _translated_write_errors(sink, source):
      report.resumed = report.rows = sink.resume(
          fingerprint, lambda steps: fingerprints.first_change(source, steps))
    report.note(sink.steps)
    show_progress(report.rows, source.estimate_count())
    if not sink.is_complete:
      _evaluate_rest(rows, source, sink, chunk, report, show_progress,
                     max_skipped)
    skips.check_end(report, sink, max_skipped)
    with _translated_write_errors(sink, source):
      sink.finish(note)
    return report
  finally:
    sink.close()
    source.close()
    show_progress.close()


class Report:
  """What `stream` did.

  Attributes:
    rows: int, how many rows there are in the file.
    resumed: int, how many of them an earlier call had done.
    files: list of the names of the files.
    skipped: list of the numbers of the points that were not evaluated, in this
      call and in those before that it went on after.
    reasons: dict from each of them to what is wrong with it.
    not_finite: int, how many rows have a NaN or infinity.
    first_not_finite: int, the number of the first of them, or None.
  """

  def __init__(self):
    self.rows = 0
    self.resumed = 0
    self.files = []
    self.reasons = {}
    self.not_finite = 0
    self.first_not_finite = None

  @property
  def skipped(self):
    return sorted(self.reasons)

  def note(self, steps):
    """Takes over what an earlier call noted.

    Args:
      steps: list of dict, one for each chunk.
    """
    for step in steps:
      self.reasons.update((int(i), why) for i, why in step["reasons"].items())
      self.not_finite = step["not_finite"]
      self.first_not_finite = step["first_not_finite"]

  def to_dict(self):
    """All of it but `skipped`, which are the keys of `reasons`.

    Returns:
      dict of what JSON can hold.
    """
    return dict(vars(self))

  def look_at(self, results, start):
    """Counts the rows that are not finite, of which the first is `start`.

    Args:
      results: list of arrays with a row for each point.
      start: int.
    """
    bad = np.zeros(len(results[0]), bool)
    for result in results:
      bad |= ~point_sources.finite_rows(result)
    if bad.any():
      self.not_finite += int(bad.sum())
      if self.first_not_finite is None:
        self.first_not_finite = start + int(np.argmax(bad))

  def __repr__(self):
    return "<gradfeed.Report: {} rows, {} from before, {} skipped>".format(
        self.rows, self.resumed, len(self.reasons))


def _evaluate_rest(rows, source, sink, chunk, report, show_progress,
                   max_skipped):
  """Evaluates the rows that are not done, and writes their results.

  The next chunks are read, and the results of the last one are written, while a
  chunk is evaluated. Hashing a chunk may take longer than reading it, and has a
  thread of its own. It is done before the chunk is evaluated.

  Args:
    rows: `row_evaluation.RowEvaluator`.
    source: `point_sources.Points`.
    sink: `sinks.Sink`.
    chunk: int, the number of rows of a chunk.
    report: `Report`, which is kept up to date.
    show_progress: as `progress_bars.reporter` returns it.
    max_skipped: as in `stream`.
  """
  with concurrent.futures.ThreadPoolExecutor(1) as reader, (
      concurrent.futures.ThreadPoolExecutor(1)) as checker, (
          concurrent.futures.ThreadPoolExecutor(1)) as writer:
    start = following = report.resumed
    ahead, unreported = [], collections.deque()
    writes = _Writes(writer, sink, source, report)
    try:
      while True:
        while len(ahead) <= _AHEAD:
          read = reader.submit(
              source.read_unchecked, following, following + chunk)
          ahead.append((read, checker.submit(
              lambda read=read: source.checked(read.result()))))
          following += chunk
        block = ahead.pop(0)[1].result()
        count = len(block.arrays[0])
        if count or not start:
          results, skipped = rows.evaluate(block, start)
          if max_skipped is not None:
            writes.wait()
            skips.check(report, source.count, max_skipped)
          writes.add(results, skipped, start, {
              "points": [[start + count, block.digest]],
              "identity": source.identity()})
          start += count
        unreported.append((start, source.estimate_count()))
        if count < chunk:
          break
        _show_done(sink, unreported, show_progress)
      writes.wait()
      with _translated_write_errors(sink, source):
        sink.note()
      _show_done(sink, unreported, show_progress)
    finally:
      source.stop()
      for future in itertools.chain(*ahead):
        future.cancel()


class _Writes:
  """Chunks of results that are written in another thread, in their order."""

  def __init__(self, writer, sink, source, report):
    """Writes nothing yet.

    Args:
      writer: executor of one thread.
      sink, source, report: as in `_evaluate_rest`.
    """
    self._writer, self._sink, self._source = writer, sink, source
    self._report = report
    self._pending = collections.deque()  # (future, bytes) of each chunk.
    self._has_failed = False

  def add(self, results, skipped, start, points):
    """Lets a chunk be written after those before it.

    Args:
      results: list of the array of each output.
      skipped: dict from the index in them of each row that was skipped.
      start: int, the number of the first row.
      points: dict of what identifies the points, for the journal.

    Raises:
      StreamError: one of those before it cannot be written.
    """
    size = sum(result.nbytes for result in results)
    while self._pending and (
        self._pending[0][0].done() or len(self._pending) >= _BEHIND or
        sum(each for _, each in self._pending) + size > _BYTES_BEHIND):
      self._wait_for_first()
    self._pending.append((self._writer.submit(
        self._write, results, skipped, start, points), size))

  def wait(self):
    """Waits until all chunks are written.

    Raises:
      StreamError: one cannot be written.
    """
    while self._pending:
      self._wait_for_first()

  def _wait_for_first(self):
    with _translated_write_errors(self._sink, self._source):
      self._pending.popleft()[0].result()

  def _write(self, results, skipped, start, points):
    """Writes a chunk, and counts it in the report: see `add`."""
    if self._has_failed:
      return  # Rows of the chunk before it would be missing.
    self._has_failed = True
    report = self._report
    report.look_at(results, start)
    skipped = {start + i: why for i, why in skipped.items()}
    report.reasons.update(skipped)
    report.rows = start + len(results[0])
    self._sink.write(results, report.rows, dict(points, **{
        "reasons": skipped, "not_finite": report.not_finite,
        "first_not_finite": report.first_not_finite}))
    self._has_failed = False


def _show_done(sink, unreported, show_progress):
  """Shows the progress of the chunks that are on the disk.

  Args:
    sink: `sinks.Sink`.
    unreported: deque of (int, the number of rows at the end of a chunk; the
      number of all), from which these are taken.
    show_progress: as in `_evaluate_rest`.
  """
  while unreported and unreported[0][0] <= sink.done:
    show_progress(*unreported.popleft())


@contextlib.contextmanager
def _translated_write_errors(sink, source):
  """Raises an `OSError` of the block, such as a full disk, as `StreamError`."""
  try:
    yield
  except errors.GradfeedError:
    raise
  except OSError as error:
    raise errors.StreamError(
        "The results cannot be written to '{}'.".format(sink.path),
        "{}{}.".format(error.strerror or error, "" if (
            error.errno != errno.ENOSPC) else _missing_space(sink, source)),
        "What is done is kept beside it, in files that end in .partial and "
        ".state: make room, and call this again to go on.") from error


def _missing_space(sink, source):
  """How much space the results need that are not written, and how much is free.

  Args:
    sink: `sinks.Sink`.
    source: `point_sources.Points`.

  Returns:
    str, the rest of a sentence.
  """
  folder = os.path.dirname(os.path.abspath(sink.path))
  text = "; {} rows are done, {:,} bytes are free".format(
      sink.done, shutil.disk_usage(folder).free)
  if source.count is not None and sink.row_bytes:
    text += ", about {:,.0f} are needed".format(
        sink.row_bytes * (source.count - sink.done))
  return text
