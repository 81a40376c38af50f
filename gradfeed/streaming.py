"""Points in chunks through a function into files: bounded memory, resumed."""

import concurrent.futures
import hashlib

import numpy as np

from gradfeed import _tf
from gradfeed import chunks
from gradfeed import errors
from gradfeed import paths
from gradfeed import points as points_lib
from gradfeed import sinks
from gradfeed import tensors

_AHEAD = 2
_MOST_TRIED = 1000


def stream(f, points, out, chunk=256, on_error="stop", coupled=False,
           progress=None):
  """Evaluates a function at every row of an array on disk, into a file.

  Memory does not grow with the number of points. Reading, evaluating and
  writing overlap. Interrupted at any moment, it goes on where it was when it is
  called again, and refuses to with another model, other tensors or other
  points: until the last row is written the results are in `out` + ".partial",
  and what they belong to in `out` + ".state".

  Args:
    f: `Function` of one or several inputs. Each is a batch (shape [None, ...]),
      of which `chunk` rows are fed at a time; or a batch of one (shape
      [1, ...]) or no batch, of which rows are fed one by one.
    points: a `.npy` file, mapped and not read; an array; or a list of them, one
      for each input, with a row for each point.
    out: str, the `.npy` file to write; or a list of them, one for each output
      in the order of `f`. Row i belongs to point i.
    chunk: int, how many rows are evaluated at a time.
    on_error: "stop" at a point that is not finite, or that cannot be evaluated,
      with its number; or "skip" it: its results are NaN.
    coupled: bool; True states that rows depend on each other, and that a chunk
      is the batch that is meant.
    progress: function that is called with the number of rows that are done and
      the number of all, after each chunk; or None.

  Returns:
    `Report`.

  Raises:
    StreamError: the files of an earlier call belong to something else; or the
      results cannot be written (the disk is full): what is done is kept.
    ModelFileError: a file of points is not one.
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
  source = points_lib.Points(points, f)
  rows = _Rows(f, source, chunk, on_error)
  if not coupled:
    rows.prove()
  sink = sinks.Sink(out, f, len(source))
  try:
    done = sink.resume(_fingerprint(f, source, coupled and chunk))
    report = Report(len(source), done)
    if progress is not None:
      progress(done, len(source))
    _run(rows, source, sink, chunk, report, progress)
  finally:
    sink.close()
  sink.finish()
  return report


class Report:
  """What `stream` did.

  Attributes:
    rows: int, how many rows there are in the file.
    resumed: int, how many of them an earlier call had done.
    skipped: list of the numbers of the points that this call did not evaluate.
    not_finite: int, how many rows that this call wrote have a NaN or infinity.
    first_not_finite: int, the number of the first of them, or None.
  """

  def __init__(self, rows, resumed):
    self.rows = rows
    self.resumed = resumed
    self.skipped = []
    self.not_finite = 0
    self.first_not_finite = None

  def __repr__(self):
    return "<gradfeed.Report: {} rows, {} from before, {} skipped>".format(
        self.rows, self.resumed, len(self.skipped))


def _look_at(report, results, start):
  """Counts the rows of results that are not finite, the first of `start`."""
  bad = np.zeros(len(results[0]), bool)
  for result in results:
    bad |= ~_finite(result)
  if bad.any():
    report.not_finite += int(bad.sum())
    if report.first_not_finite is None:
      report.first_not_finite = start + int(np.argmax(bad))


def _finite(array):
  """Which rows are finite."""
  with np.errstate(all="ignore"):  # A sum is sooner there than all tests.
    if array.dtype.kind not in "fc" or np.isfinite(array.sum()):
      return np.ones(len(array), bool)
  return np.isfinite(array.reshape(len(array), -1)).all(axis=1)


def _run(rows, source, sink, chunk, report, progress):
  starts = range(report.resumed, len(source), chunk)
  with concurrent.futures.ThreadPoolExecutor(1) as reader, (
      concurrent.futures.ThreadPoolExecutor(1)) as writer:
    ahead = [reader.submit(source.read, start, start + chunk)
             for start in starts[:_AHEAD]]
    writing = None
    try:
      for place, start in enumerate(starts):
        values = ahead.pop(0).result()
        if place + _AHEAD < len(starts):
          following = starts[place + _AHEAD]
          ahead.append(reader.submit(
              source.read, following, following + chunk))
        results = rows.evaluate(values, start, report.skipped)
        _look_at(report, results, start)
        _finish(writing, sink)
        end = min(start + chunk, len(source))
        writing = writer.submit(sink.write, results, end)
        if progress is not None:
          progress(end, len(source))
      _finish(writing, sink)
    finally:
      for future in ahead:
        future.cancel()


def _finish(writing, sink):
  """Waits for the chunk that is being written, if there is one."""
  try:
    if writing is not None:
      writing.result()
  except OSError as error:
    raise errors.StreamError(
        "The results cannot be written to '{}'.".format(sink.paths[0]),
        "{}.".format(error.strerror or error),
        "What is done is kept beside it, in files that end in .partial and "
        ".state: make room, and call this again to go on.") from error


class _Rows:
  """Evaluates a chunk of points."""

  def __init__(self, f, source, chunk, on_error):
    self._f = f
    self._source = source
    self._chunk = chunk
    self._skips = on_error == "skip"

  def prove(self):
    """Refuses rows that depend on each other, as two that are finite tell."""
    if not self._source.is_batch or self._chunk == 1:
      return
    found = []
    for i in range(min(len(self._source), _MOST_TRIED)):
      fed = self._source.read(i, i + 1)
      if all(_finite(array).all() for array in fed) and (
          self._tried(fed, i) is not None):
        found.append(fed)
      if len(found) == 2:
        self._f.require_rows(*map(np.concatenate, zip(*found)))
        return

  def evaluate(self, values, start, skipped):
    """The results of each output for the rows of `values`."""
    count = len(values[0])
    bad = sorted({int(i) for array in values
                  for i in np.flatnonzero(~_finite(array))})
    if bad and not self._skips:
      raise errors.FeedError(
          "Point {} is not finite.".format(start + bad[0]),
          "It has a NaN or an infinity, and so would have what is computed.",
          "Mend it, or pass on_error='skip' to leave such rows NaN.")
    for array in values:
      array[bad] = 0  # Evaluated all the same, and then not taken.
    if self._source.is_batch:
      results = self._many(values, start, bad)
      chunks.check_rows(
          self._f.outputs, results, count,
          "A result has to have a row for each point.",
          "Take an output with rows (losses before their mean).")
    else:
      results = self._one_by_one(values, start, bad)
    skipped.extend(start + i for i in bad)
    for result in results:
      if bad:
        result[bad] = np.nan
    return results

  def _many(self, values, start, bad):
    try:
      return self._results(values)
    except errors.FeedError:
      for i in range(len(values[0])):  # One of them it is.
        if self._tried([array[i:i + 1] for array in values], start + i) is None:
          bad.append(i)
          for array in values:
            array[i] = 0
      return self._results(values)

  def _results(self, fed):
    """The array of each output."""
    return [np.asarray(part) for part in tensors.flatten(self._f(*fed))]

  def _tried(self, fed, number):
    """The results at one point; None if it cannot be fed and may be skipped."""
    try:
      return self._results(fed)
    except errors.FeedError as error:
      if self._skips:
        return None
      error.what = "Point {}: {}".format(number, error.what)
      raise

  def _one_by_one(self, values, start, bad):
    rows = []
    for i in range(len(values[0])):
      fed = [array[i:i + 1] if way == "one" else array[i]
             for array, way in zip(values, self._source.ways)]
      row = self._tried(fed, start + i)
      if row is None:
        bad.append(i)
        row = self._results([np.zeros_like(array) for array in fed])
      rows.append([part[0] if output.shape.ndims and (
          output.shape.as_list()[0] == 1) else part
                   for output, part in zip(self._f.outputs, row)])
    return [np.stack(parts) for parts in zip(*rows)]


def _fingerprint(f, source, chunk):
  """What the results depend on, in a form that JSON can hold."""
  return {"points": _hashed(source.samples()), "model": _of_model(f),
          "tensors": _hashed(
              [t.name.encode() for t in source.inputs + f.outputs]),
          "chunks": chunk}


def _hashed(parts):
  digest = hashlib.sha256()
  for part in parts:
    digest.update(str(len(part)).encode() + b":")
    digest.update(part)
  return digest.hexdigest()


def _of_model(f):
  """The ops of the model that run, the values of variables and held feeds."""
  own = [op for name, op in sorted(paths.ancestors(f.outputs).items())
         if not name.startswith(_tf.SCOPE)]
  parts = [" ".join([op.name, op.type] + [t.name for t in op.inputs]).encode()
           for op in own]
  parts.extend(op.get_attr("value").SerializeToString()
               for op in own if op.type == "Const")
  parts.extend(np.ascontiguousarray(value).tobytes()
               for value in f.constants())
  return _hashed(parts)
