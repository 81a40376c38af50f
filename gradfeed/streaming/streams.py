"""Streams points in chunks through a function into files, and resumes."""

import concurrent.futures
import contextlib
import hashlib

import numpy as np

from gradfeed import _tf
from gradfeed import errors
from gradfeed.graph import traversal
from gradfeed.streaming import point_sources
from gradfeed.streaming import progress_bars
from gradfeed.streaming import row_evaluation
from gradfeed.streaming import sinks

#: Chunks that are read ahead of the one that is evaluated.
_AHEAD = 2


def stream(f, points, out, chunk=256, on_error="stop", coupled=False,
           progress=None, keys=None):
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
      elsewhere, on stderr; or None.
    keys: list, or dict from the input or its name, of what each is called in
      the file: the name of an array, of a feature, or of a column (or a pattern
      of columns as "pixel*", or their places as "1:785"). None for the name of
      the input, or whatever is there if there is one alone.

  Returns:
    `Report`.

  Raises:
    StreamError: the files of an earlier call belong to something else, or to
      another process; or the results cannot be written (the disk is full): what
      is done is kept.
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
  if on_error not in ("stop", "skip"):
    raise errors.ArgumentError(
        "on_error={!r} is not known.".format(on_error),
        "It says what happens at a point that cannot be evaluated.",
        "Use 'stop' or 'skip'.")
  errors.check_chunk(
      chunk, "rows", "It is how many points are evaluated at a time.",
      "Pass a positive int.")
  sink = sinks.Sink(out, f)
  source = point_sources.Points(points, f, keys)
  rows = row_evaluation.RowEvaluator(f, source, on_error == "skip", coupled)
  report, show_progress = Report(), progress_bars.reporter(progress)
  try:
    report.resumed = report.rows = sink.resume(
        _fingerprint(f, source, coupled and chunk),
        lambda steps: _first_change(source, steps))
    report.note(sink.steps)
    show_progress(report.rows, source.estimate_count())
    if not sink.is_complete:
      _evaluate_rest(rows, source, sink, chunk, report, show_progress)
    with _translated_write_errors(sink):
      report.files = sink.finish()
  finally:
    sink.close()
    source.close()
    show_progress.close()
  return report


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


def _evaluate_rest(rows, source, sink, chunk, report, show_progress):
  """Evaluates the rows that are not done, and writes their results.

  The next chunks are read, and the results of the last one are written, while a
  chunk is evaluated.

  Args:
    rows: `row_evaluation.RowEvaluator`.
    source: `point_sources.Points`.
    sink: `sinks.Sink`.
    chunk: int, the number of rows of a chunk.
    report: `Report`, which is kept up to date.
    show_progress: as `progress_bars.reporter` returns it.
  """
  with concurrent.futures.ThreadPoolExecutor(1) as reader, (
      concurrent.futures.ThreadPoolExecutor(1)) as writer:
    start = following = report.resumed
    ahead, writing = [], None
    try:
      while True:
        while len(ahead) <= _AHEAD:
          ahead.append(reader.submit(
              source.read, following, following + chunk))
          following += chunk
        block = ahead.pop(0).result()
        count = len(block.arrays[0])
        if count or not start:
          results, skipped = rows.evaluate(block, start)
          _wait_for(writing, sink)
          writing = writer.submit(
              _write, sink, results, skipped, start, report, {
                  "points": [[start + count, block.digest]],
                  "identity": source.identity()})
          start += count
        show_progress(start, source.estimate_count())
        if count < chunk:
          break
      _wait_for(writing, sink)
    finally:
      for future in ahead:
        future.cancel()


def _write(sink, results, skipped, start, report, points):
  """Writes the results of a chunk, and counts them in the report.

  Args:
    sink, report: as in `_evaluate_rest`.
    results: list of the array of each output.
    skipped: dict from the index in them of each row that was skipped.
    start: int, the number of the first row.
    points: dict of what identifies the points, for the journal.
  """
  report.look_at(results, start)
  skipped = {start + i: why for i, why in skipped.items()}
  report.reasons.update(skipped)
  report.rows = start + len(results[0])
  sink.write(results, report.rows, dict(points, **{
      "reasons": skipped, "not_finite": report.not_finite,
      "first_not_finite": report.first_not_finite}))


def _wait_for(writing, sink):
  """Waits until a chunk is written.

  Args:
    writing: future of the chunk, or None.
    sink: `sinks.Sink`.

  Raises:
    StreamError: it cannot be written.
  """
  if writing is not None:
    with _translated_write_errors(sink):
      writing.result()


@contextlib.contextmanager
def _translated_write_errors(sink):
  """Raises an `OSError` of the block, such as a full disk, as `StreamError`."""
  try:
    yield
  except errors.GradfeedError:
    raise
  except OSError as error:
    raise errors.StreamError(
        "The results cannot be written to '{}'.".format(sink.path),
        "{}.".format(error.strerror or error),
        "What is done is kept beside it, in files that end in .partial and "
        ".state: make room, and call this again to go on.") from error


def _fingerprint(f, source, chunk):
  """What the results depend on, beside the points.

  Args:
    f: `functions.Function`.
    source: `point_sources.Points`.
    chunk: int, the size of the chunks where rows depend on each other; or
      False.

  Returns:
    dict of what JSON can hold. An error names the keys whose values differ.
  """
  return {"model": _hash_of_model(f),
          "tensors": _sha256(
              [t.name.encode() for t in source.inputs + f.outputs]),
          "chunks": chunk}


def _first_change(source, steps):
  """The first rows of an earlier call that are not the same now.

  Files that were not changed since then are not read again.

  Args:
    source: `point_sources.Points`.
    steps: list of dict, one for each entry of the journal.

  Returns:
    str, such as "rows 0 to 255"; or None where all are the same.
  """
  identity = source.identity()
  if not steps or identity is not None and identity == steps[-1]["identity"]:
    return None
  change = source.first_change(
      [pair for step in steps for pair in step["points"]])
  return change and "rows {} to {}".format(change[0], change[1] - 1)


def _sha256(contents):
  """The digest of a list of bytes, in hexadecimal."""
  digest = hashlib.sha256()
  for content in contents:
    digest.update(str(len(content)).encode() + b":")
    digest.update(content)
  return digest.hexdigest()


def _hash_of_model(f):
  """The digest of the ops that run, and of what all calls of `f` share.

  Ops that gradfeed added are left out. What the calls share are the values of
  variables, and those that are fed at every call.
  """
  ops = [op for name, op in sorted(traversal.ancestors(f.outputs).items())
         if not name.startswith(_tf.SCOPE)]
  contents = [
      " ".join([op.name, op.type] + [t.name for t in op.inputs]).encode()
      for op in ops]
  contents.extend(op.get_attr("value").SerializeToString()
                  for op in ops if op.type == "Const")
  contents.extend(np.ascontiguousarray(value).tobytes()
                  for value in f.constants())
  return _sha256(contents)
