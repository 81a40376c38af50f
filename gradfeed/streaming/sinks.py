"""Files of results, which get their names when they are complete."""

import os
import re
import time

from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import nest
from gradfeed.graph import tensors
from gradfeed.streaming import journals
from gradfeed.streaming.formats import csv_writing
from gradfeed.streaming.formats import npy
from gradfeed.streaming.formats import npz
from gradfeed.streaming.formats import record_writing

#: (pattern of the name of a file, the class that writes such files).
_WRITERS = [
    (re.compile(r"\.npz$"), npz.ArchiveWriter),
    (re.compile(r"\.csv$"), csv_writing.ColumnWriter),
    (re.compile(r"\.tf-?records?$"), record_writing.RecordWriter),
]
#: Time between two notes, in the time that one waits for the disk.
_SHARE = 10.0
_ENDINGS = ".npy, .npz, .csv or .tfrecord"


class Sink:
  """Writes results to files, and notes in a journal which rows are there.

  The files end in ".partial" until all rows are in them.

  Attributes:
    path: str, the first file.
    steps: list of dict, the entries of the journal of earlier calls.
    row_bytes: float, how many bytes the results at one point have.
    digests: list of [the number of the row after the last, the digest of the
      points], for all rows that were written, in this call and before.
  """

  def __init__(self, out, f):
    """Checks the names of the files, and creates none yet.

    Args:
      out: str or os.PathLike, or a list of them, as in `streams.stream`.
      f: `functions.Function`.

    Raises:
      ArgumentError: the files cannot hold the outputs of `f`.
    """
    paths = out if isinstance(out, (list, tuple)) else [out]
    self._out = [os.fspath(path) for path in paths]
    self.path = self._out[0]
    _check_paths(self._out, f)
    names = [name if not name[0].isdigit() else "result_" + name
             for name in nest.names_of(f.structure)]
    if len(self._out) == 1:
      self._groups = [list(range(len(f.outputs)))]
    else:
      self._groups = [[i] for i in range(len(f.outputs))]
    self._writers = [_writer(path, [names[i] for i in group])
                     for path, group in zip(self._out, self._groups)]
    self._journal = journals.Journal(self.path)
    self._claims = [journals.Claim(path, self.path) for path in self._out[1:]]
    self._has_begun = False
    self._is_ours = False  # Whether the journal is that of this stream.
    self.steps, self.digests = [], []
    self._last_step = {"done": 0}
    self._waiting = None  # The entry of what is written, and not yet noted.
    self._synced, self._cost = 0.0, 0.0
    self.row_bytes = 0.0

  def resume(self, fingerprint, first_change):
    """Opens the files of an earlier call, if there are any.

    Args:
      fingerprint: dict of what the results depend on, that JSON can hold.
      first_change: function from the entries of the journal to the first rows
        of the points that are not those that were evaluated, a str; or None.

    Returns:
      int, the number of rows that the earlier call has done.

    Raises:
      StreamError: they belong to another fingerprint; or another process is
        writing them.
    """
    fingerprint = dict(fingerprint, outputs=[
        os.path.relpath(path, os.path.dirname(self.path) or ".")
        for path in self._out[1:]])
    lines = self._journal.open()
    self.steps = lines[1:]
    if self.steps:
      self._last_step = self.steps[-1]
    for step in self.steps:
      if "files" not in step:  # Else it repeats the one before.
        self.digests.extend(step["points"])
    self._is_ours = not lines
    if not lines:
      self._claim(fingerprint)
      self._journal.add(fingerprint)
      return 0
    different = sorted(key for key in fingerprint
                       if lines[0].get(key) != fingerprint[key])
    changed = None
    if not different:
      changed = first_change(self.steps)
      different = ["points"] if changed else []
    if different:
      raise errors.StreamError(
          "'{}' was begun with {}.".format(
              self.path, " and ".join("other " + key for key in different)),
          "{} of its rows are done, and the rest would not belong to "
          "them{}.".format(self._last_step["done"], "" if not changed else
                           ": {} are not the same".format(changed)),
          "Go on with what it was begun with; or delete '{}' to begin "
          "anew.".format(self._journal.path))
    self._is_ours = True
    self._claim(fingerprint)
    if "states" in self._last_step and "files" not in self._last_step:
      for writer, state in zip(self._writers, self._last_step["states"]):
        writer.resume(state)
      self._has_begun = True
    return self._last_step["done"]

  def _claim(self, fingerprint):
    """Locks the outputs that are not the first."""
    for claim in self._claims:
      claim.open(fingerprint)

  @property
  def is_complete(self):
    """bool, whether all rows are there; files may still lack their names."""
    return "files" in self._last_step

  def write(self, results, done, notes):
    """Appends the rows up to `done`, and notes in the journal that they are.

    Only what is on the disk is noted, also after a power cut. As waiting for
    the disk takes longer than a chunk may take, several chunks are noted
    together, so that a tenth of the time is waited.

    Args:
      results: list of the array of each output.
      done: int, how many rows there are then.
      notes: dict of what else to write to the journal, that JSON can hold. Of
        the lists and dicts in those of several chunks all of it is written.
    """
    groups = [[results[i] for i in group] for group in self._groups]
    self.row_bytes = sum(result.nbytes for result in results) / max(
        len(results[0]), 1)
    if not self._has_begun:
      self._has_begun = True
      for writer, group in zip(self._writers, groups):
        writer.begin(group)
    states = [writer.write(group)
              for writer, group in zip(self._writers, groups)]
    self.digests.extend(notes["points"])
    step = dict(notes, done=done, states=states)
    if self._waiting is not None:
      _prepend(step, self._waiting)
    self._waiting = step
    if time.perf_counter() - self._synced > _SHARE * self._cost:
      self.note()

  def note(self):
    """Notes in the journal what is written, when it is on the disk."""
    if self._waiting is None:
      return
    start = time.perf_counter()
    for writer in self._writers:
      writer.sync()
    self._journal.add(self._waiting)
    self._last_step, self._waiting = self._waiting, None
    self._synced = time.perf_counter()
    self._cost = self._synced - start

  @property
  def done(self):
    """int, how many rows are on the disk."""
    return self._last_step["done"]

  def close(self):
    """Closes the files; they and the journal stay if there are rows in them."""
    try:
      self.note()
    except OSError:
      pass  # It is not noted, and evaluated once more.
    finally:
      for writer in self._writers:
        writer.close()
      if self._is_ours and "states" not in self._last_step:
        self.discard()
      for journal in self._claims + [self._journal]:
        journal.close()

  def discard(self):
    """Deletes the rows that are there, and the journal."""
    if self._has_begun:
      for writer in self._writers:
        writer.discard()
    for journal in self._claims + [self._journal]:
      journal.remove()
    self._last_step, self._waiting = {"done": 0}, None

  def finish(self, commit=None):
    """Completes the files, gives them their names and removes the journal.

    Args:
      commit: function of the list of the names of the files, called when they
        have them. A call that is killed before it returns calls it again when
        it is resumed. Or None.

    Returns:
      list of the names of the files.
    """
    self.note()
    if not self.is_complete:
      self._last_step["files"] = [
          pair for writer in self._writers
          for pair in writer.finish(self._last_step["done"])]
      self._journal.add(self._last_step)
    for path, final in self._last_step["files"]:
      if os.path.exists(path):  # Else a call that was killed here renamed it.
        if final is None:
          os.remove(path)
        else:
          os.replace(path, final)
    for folder in {os.path.dirname(path) for path in self._out}:
      journals.sync_folder(folder)
    names = [final for _, final in self._last_step["files"] if final is not None]
    if commit is not None:
      commit(names)
    for journal in self._claims + [self._journal]:
      journal.remove()
    return names


def _prepend(step, earlier):
  """Puts the lists and dicts of an earlier entry before those of `step`."""
  for name in ("points", "reasons"):
    if name in earlier:
      whole = earlier[name].copy()
      (whole.extend if isinstance(whole, list) else whole.update)(step[name])
      step[name] = whole


def _check_paths(out, f):
  """Refuses files that cannot hold the outputs of `f`.

  Args:
    out: list of str.
    f: `functions.Function`.

  Raises:
    ArgumentError: a name says no format; there are too few or too many files;
      or one is named twice.
  """
  for path in out:
    if not any(ending.search(path) for ending, _ in _WRITERS) and (
        not path.endswith(".npy")):
      raise errors.ArgumentError(
          "'{}' is the name of no file of results.".format(path),
          "It is not known which format is meant.",
          "Use a name that ends in {}.".format(_ENDINGS))
    if os.path.isdir(path):
      raise errors.ArgumentError(
          "'{}' is a folder.".format(path), "Results are written to a file.",
          "Name a file in it.")
  for i, output in enumerate(f.outputs):
    path = out[min(i, len(out) - 1)]
    if path.endswith((".npy", ".npz")) and output.dtype == tf.string:
      raise errors.ArgumentError(
          "'{}' cannot hold {}.".format(path, tensors.describe(output)),
          "NumPy's files hold strings of one length, without zeros at the end.",
          "Use a name that ends in .tfrecord or .csv.")
  holds_all = len(out) == 1 and not out[0].endswith(".npy")
  if len(out) != len(f.outputs) and not holds_all:
    raise errors.ArgumentError(
        "{} file{} for {} outputs.".format(
            len(out), "" if len(out) == 1 else "s", len(f.outputs)),
        "The outputs are {}.".format(tensors.describe_all(f.outputs)),
        "Pass a path for each, in this order; or one .npz, .csv or .tfrecord "
        "for all.")
  real = [os.path.realpath(path) for path in out]
  if len(set(real)) < len(out):
    raise errors.ArgumentError(
        "Two outputs have the file '{}'.".format(
            next(path for path, name in zip(out, real)
                 if real.count(name) > 1)),
        "One would overwrite the other.", "Give each a file of its own.")


def _writer(path, names):
  """The writer of the format that the name of a file says."""
  for ending, writer in _WRITERS:
    if ending.search(path):
      return writer(path, names)
  return npy.ArrayWriter([path])
