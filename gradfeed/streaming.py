"""Points in chunks through a function into files: bounded memory, resumed."""

import concurrent.futures
import hashlib
import json
import os

import numpy as np

from gradfeed import errors
from gradfeed import paths
from gradfeed import tensors

_SAMPLED_ROWS = 64
_AHEAD = 2


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
    ...   report = gf.stream(f, np.ones([1000, 2]), "/tmp/gradients.npy")
    >>> print(report.rows, np.load("/tmp/gradients.npy")[-1])
    1000 [3. 3.]
  """
  if on_error not in ("stop", "skip"):
    raise errors.ArgumentError(
        "on_error={!r} is not known.".format(on_error),
        "It says what happens at a point that cannot be evaluated.",
        "Use 'stop' or 'skip'.")
  if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
    raise errors.ArgumentError(
        "chunk={!r} is no number of rows.".format(chunk),
        "It is how many points are evaluated at a time.",
        "Pass a positive int.")
  source = _Points(points, f)
  rows = _Rows(f, source, chunk, on_error)
  if not coupled:
    rows.prove()
  sink = _Sink(out, f, len(source))
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
    skipped: list of the numbers of the rows that this call left NaN.
  """

  def __init__(self, rows, resumed):
    self.rows = rows
    self.resumed = resumed
    self.skipped = []

  def __repr__(self):
    return "<gradfeed.Report: {} rows, {} from before, {} skipped>".format(
        self.rows, self.resumed, len(self.skipped))


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
        if writing is not None:
          writing.result()
        end = min(start + chunk, len(source))
        writing = writer.submit(sink.write, results, end)
        if progress is not None:
          progress(end, len(source))
      if writing is not None:
        writing.result()
    except OSError as error:
      raise errors.StreamError(
          "The results cannot be written to '{}'.".format(sink.paths[0]),
          "{}.".format(error.strerror or error),
          "What is done is kept beside it, in files that end in .partial and "
          ".state: make room, and call this again to go on.") from error
    finally:
      for future in ahead:
        future.cancel()


class _Points:
  """The arrays of points, one for each input."""

  def __init__(self, points, f):
    given = points if isinstance(points, (list, tuple)) else [points]
    self.inputs = f.inputs
    if len(given) != len(self.inputs):
      raise errors.FeedError(
          "{} arrays of points for {} inputs.".format(
              len(given), len(self.inputs)),
          "The inputs are {}.".format(tensors.describe_all(self.inputs)),
          "Pass one array or file for each, in this order.")
    self.arrays = [_opened(one) for one in given]
    if len({len(array) for array in self.arrays}) > 1:
      raise errors.FeedError(
          "The points have different numbers of rows: {}.".format(
              ", ".join(str(len(array)) for array in self.arrays)),
          "Row i of each belongs to point i.", "Pass arrays of one length.")
    self.is_batch = self._is_batch()

  def __len__(self):
    return len(self.arrays[0])

  def _is_batch(self):
    """Whether rows are fed many at a time; else each with the axis that is."""
    ways = []
    for leaf, array in zip(self.inputs, self.arrays):
      row = array.shape[1:]
      if leaf.shape.is_compatible_with((None,) + row) and (
          leaf.shape.ndims is None or leaf.shape.as_list()[0] is None):
        ways.append("many")
      elif leaf.shape.is_compatible_with((1,) + row):
        ways.append("one")
      elif leaf.shape.is_compatible_with(row):
        ways.append("bare")
      else:
        raise errors.FeedError(
            "The points have the shape {}, of which no row is a value of "
            "{}.".format(tensors.format_shape(array.shape),
                         tensors.describe(leaf)),
            "A row is a value, or one row of a value.",
            "Pass points of shape [N] + {}.".format(
                tensors.format_shape(leaf.shape[1:])))
    self.ways = ways
    return all(way == "many" for way in ways)

  def read(self, start, end):
    return [_copied(array, start, end) for array in self.arrays]


def _copied(array, start, end):
  """The rows of an array. Mapped pages would stay in memory when read."""
  if not isinstance(array, np.memmap) or not array.flags.c_contiguous:
    return np.array(array[start:end])
  shape = (max(0, min(end, len(array)) - start),) + array.shape[1:]
  row = array.dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
  with open(array.filename, "rb") as source:
    source.seek(array.offset + start * row)
    return np.fromfile(source, array.dtype, int(np.prod(
        shape, dtype=np.int64))).reshape(shape)


def _opened(points):
  if not isinstance(points, (str, os.PathLike)):
    array = np.asarray(points)
  else:
    try:
      array = np.load(os.fspath(points), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
      if isinstance(error, FileNotFoundError):
        raise
      raise errors.ModelFileError(
          "'{}' is not a NumPy file of numbers.".format(points),
          "{}.".format(str(error).split("\n")[0].rstrip(".")),
          "Write it with numpy.save('points.npy', points).") from None
    if not isinstance(array, np.ndarray):
      raise errors.ModelFileError(
          "'{}' holds several arrays.".format(points),
          "It is an .npz file.", "Save one array in each .npy file.")
  if array.ndim == 0:
    raise errors.FeedError(
        "The points are one number.", "There are no rows in it.",
        "Pass an array of shape [N, ...].")
  return array


class _Rows:
  """Evaluates a chunk of points."""

  def __init__(self, f, source, chunk, on_error):
    self._f = f
    self._source = source
    self._chunk = chunk
    self._skips = on_error == "skip"

  def prove(self):
    """Refuses rows that depend on each other."""
    if self._source.is_batch and len(self._source) > 1 and self._chunk > 1:
      self._f.require_rows(*self._source.read(0, 2))

  def evaluate(self, values, start, skipped):
    """The results of each output for the rows of `values`."""
    count = len(values[0])
    bad = sorted({int(i) for array in values if array.dtype.kind in "fc"
                  for i in np.flatnonzero(~np.isfinite(
                      array.reshape(count, -1)).all(axis=1))})
    if bad and not self._skips:
      raise errors.FeedError(
          "Point {} is not finite.".format(start + bad[0]),
          "It has a NaN or an infinity, and so would have what is computed.",
          "Mend it, or pass on_error='skip' to leave such rows NaN.")
    for array in values:
      array[bad] = 0  # Evaluated all the same, and then not taken.
    if self._source.is_batch:
      results = self._checked(self._many(values, start), count)
    else:
      results = self._one_by_one(values, start, bad)
    skipped.extend(start + i for i in bad)
    for result in results:
      if bad:
        result[bad] = np.nan
    return results

  def _many(self, values, start):
    try:
      return _flat(self._f(*values))
    except errors.FeedError as error:
      error.what = "Rows from {}: {}".format(start, error.what)
      raise

  def _checked(self, results, count):
    for output, result in zip(self._f.outputs, results):
      if np.shape(result)[:1] != (count,):
        raise errors.ArgumentError(
            "{} is {} for {} rows.".format(
                tensors.describe(output), np.shape(result), count),
            "A result has to have a row for each point.",
            "Take an output with rows (losses before their mean).")
    return results

  def _one_by_one(self, values, start, bad):
    rows = []
    for i in range(len(values[0])):
      fed = [array[i:i + 1] if way == "one" else array[i]
             for array, way in zip(values, self._source.ways)]
      try:
        row = _flat(self._f(*fed))
      except errors.FeedError as error:
        error.what = "Point {}: {}".format(start + i, error.what)
        raise
      rows.append([np.asarray(part)[0] if output.shape.ndims and (
          output.shape.as_list()[0] == 1) else np.asarray(part)
                   for output, part in zip(self._f.outputs, row)])
    return [np.stack(parts) for parts in zip(*rows)]


def _flat(results):
  return [np.asarray(part) for part in tensors.flatten(results)]


class _Sink:
  """The files of the results: partial ones, until all rows are there."""

  def __init__(self, out, f, count):
    given = out if isinstance(out, (list, tuple)) else [out]
    self.paths = [os.fspath(path) for path in given]
    if len(self.paths) != len(f.outputs):
      raise errors.ArgumentError(
          "{} files for {} outputs.".format(
              len(self.paths), len(f.outputs)),
          "The outputs are {}.".format(tensors.describe_all(f.outputs)),
          "Pass a path for each, in this order.")
    self._count = count
    self._state = self.paths[0] + ".state"
    self._files = []
    self._known = None

  def resume(self, fingerprint):
    """The number of rows that an earlier call has done."""
    self._known = {"fingerprint": fingerprint, "done": 0, "headers": None}
    if not os.path.exists(self._state):
      return 0
    with open(self._state) as source:
      known = json.load(source)
    other = sorted(key for key in fingerprint
                   if known["fingerprint"].get(key) != fingerprint[key])
    if other:
      raise errors.StreamError(
          "'{}' was begun with {}.".format(
              self.paths[0], " and ".join("other " + key for key in other)),
          "{} of its rows are done, and the rest would not belong to "
          "them.".format(known["done"]),
          "Go on with what it was begun with; or delete '{}' to begin "
          "anew.".format(self._state))
    self._known = known
    if known["headers"] is not None:
      for path, header in zip(self.paths, known["headers"]):
        partial = open(path + ".partial", "r+b")
        self._files.append(partial)
        # What a chunk left that was not finished is overwritten.
        partial.truncate(header["begin"] + known["done"] * header["row"])
        partial.seek(0, os.SEEK_END)
    return known["done"]

  def write(self, results, done):
    """Appends the rows up to `done`, and notes that they are there."""
    if not self._files:
      self._begin(results)
    for partial, result in zip(self._files, results):
      partial.write(np.ascontiguousarray(result).tobytes())
      partial.flush()
    self._note(done)

  def _begin(self, results):
    headers = []
    for path, result in zip(self.paths, results):
      partial = open(path + ".partial", "wb")
      self._files.append(partial)
      np.lib.format.write_array_header_1_0(partial, {
          "descr": np.lib.format.dtype_to_descr(result.dtype),
          "fortran_order": False,
          "shape": (self._count,) + result.shape[1:]})
      headers.append({"begin": partial.tell(), "row": int(
          result.dtype.itemsize * np.prod(result.shape[1:], dtype=np.int64))})
    self._known["headers"] = headers

  def _note(self, done):
    self._known["done"] = done
    with open(self._state + ".new", "w") as output:
      json.dump(self._known, output)
    os.replace(self._state + ".new", self._state)

  def close(self):
    for partial in self._files:
      partial.close()

  def finish(self):
    """Gives the files their names; the state is of no use any more."""
    if not self._files:  # No rows at all.
      for path in self.paths:
        with open(path + ".partial", "wb") as output:
          np.save(output, np.zeros([0]))
    for path in self.paths:
      os.replace(path + ".partial", path)
    if os.path.exists(self._state):
      os.remove(self._state)


def _fingerprint(f, source, chunk):
  """What the results depend on, in a form that JSON can hold."""
  return {"points": _of_points(source), "model": _of_model(f),
          "tensors": _hashed(
              [t.name.encode() for t in list(source.inputs) + f.outputs]),
          "chunks": chunk}


def _hashed(parts):
  digest = hashlib.sha256()
  for part in parts:
    digest.update(str(len(part)).encode() + b":")
    digest.update(part)
  return digest.hexdigest()


def _of_points(source):
  parts = []
  for array in source.arrays:
    parts.append(repr((array.shape, array.dtype.str)).encode())
    places = np.unique(np.linspace(
        0, max(len(array) - 1, 0), _SAMPLED_ROWS).astype(np.int64))
    parts.extend(np.ascontiguousarray(array[i]).tobytes() for i in places
                 if len(array))
  return _hashed(parts)


def _of_model(f):
  """The ops of the model that run, the values of variables and held feeds."""
  found = paths.ancestors([t for t in f.outputs])
  parts = [name.encode() + b" " + op.type.encode() + b" " + " ".join(
      t.name for t in op.inputs).encode()
           for name, op in sorted(found.items())
           if not name.startswith("gradfeed/")]
  parts.extend(op.get_attr("value").SerializeToString()
               for name, op in sorted(found.items())
               if op.type == "Const" and not name.startswith("gradfeed/"))
  parts.extend(np.ascontiguousarray(value).tobytes()
               for value in f.constants())
  return _hashed(parts)
