"""Files of results, which get their names when they are complete."""

import json
import os
import re

from gradfeed import errors
from gradfeed.graph import nest
from gradfeed.graph import tensors
from gradfeed.streaming.formats import csv_files
from gradfeed.streaming.formats import npy
from gradfeed.streaming.formats import npz
from gradfeed.streaming.formats import tfrecords

try:
  import fcntl
except ImportError:  # Windows: two processes are not kept apart there.
  fcntl = None

#: (pattern of the name of a file, the class that writes such files).
_WRITERS = [
    (re.compile(r"\.npz$"), npz.ArchiveWriter),
    (re.compile(r"\.csv$"), csv_files.ColumnWriter),
    (re.compile(r"\.tf-?records?$"), tfrecords.RecordWriter),
]
_ENDINGS = ".npy, .npz, .csv or .tfrecord"


class Sink:
  """Writes results to files, and notes in a journal which rows are there.

  The files end in ".partial" until all rows are in them.

  Attributes:
    path: str, the first file.
    steps: list of dict, what the journal has of each chunk of earlier calls.
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
    self._journal = Journal(self.path + ".state")
    self._has_begun = False
    self.steps = []
    self._last_step = {"done": 0}

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
    lines = self._journal.open()
    if not lines:
      self._journal.add(fingerprint)
      return 0
    different = sorted(key for key in fingerprint
                       if lines[0].get(key) != fingerprint[key])
    self.steps = lines[1:]
    if self.steps:
      self._last_step = self.steps[-1]
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
    if "states" in self._last_step and "files" not in self._last_step:
      for writer, state in zip(self._writers, self._last_step["states"]):
        writer.resume(state)
      self._has_begun = True
    return self._last_step["done"]

  @property
  def is_complete(self):
    """bool, whether all rows are there; files may still lack their names."""
    return "files" in self._last_step

  def write(self, results, done, notes):
    """Appends the rows up to `done`, and notes in the journal that they are.

    Args:
      results: list of the array of each output.
      done: int, how many rows there are then.
      notes: dict of what else to write to the journal, that JSON can hold.
    """
    groups = [[results[i] for i in group] for group in self._groups]
    if not self._has_begun:
      for writer, group in zip(self._writers, groups):
        writer.begin(group)
      self._has_begun = True
    states = [writer.write(group)
              for writer, group in zip(self._writers, groups)]
    self._last_step = dict(notes, done=done, states=states)
    self._journal.add(self._last_step)

  def close(self):
    """Closes the files; they and the journal stay if there are rows in them."""
    for writer in self._writers:
      writer.close()
    if "states" in self._last_step:
      self._journal.close()
    else:
      self._journal.remove()

  def finish(self):
    """Completes the files, gives them their names and removes the journal.

    Returns:
      list of the names of the files.
    """
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
    self._journal.remove()
    return [final for _, final in self._last_step["files"] if final is not None]


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
  holds_all = len(out) == 1 and not out[0].endswith(".npy")
  if len(out) != len(f.outputs) and not holds_all:
    raise errors.ArgumentError(
        "{} file{} for {} outputs.".format(
            len(out), "" if len(out) == 1 else "s", len(f.outputs)),
        "The outputs are {}.".format(tensors.describe_all(f.outputs)),
        "Pass a path for each, in this order; or one .npz, .csv or .tfrecord "
        "for all.")
  if len(set(out)) < len(out):
    raise errors.ArgumentError(
        "Two outputs have the file '{}'.".format(
            next(path for path in out if out.count(path) > 1)),
        "One would overwrite the other.", "Give each a file of its own.")


def _writer(path, names):
  """The writer of the format that the name of a file says."""
  for ending, writer in _WRITERS:
    if ending.search(path):
      return writer(path, names)
  return npy.ArrayWriter([path])


class Journal:
  """A file with a line of JSON for each step, locked while it is open.

  Attributes:
    path: str.
  """

  def __init__(self, path):
    self.path = path
    self._file = None

  def open(self):
    """Opens and locks the file, and cuts off a last line that is not whole.

    Returns:
      list of dict, the lines of the file.

    Raises:
      StreamError: another process has it open.
    """
    while True:
      self._file = open(self.path, "a+b")
      self._lock()
      try:
        if os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path)):
          break
      except OSError:
        pass
      self._file.close()  # Another process has finished, and removed it.
    self._file.seek(0)
    lines, size = [], 0
    for line in self._file:
      try:
        lines.append(json.loads(line.decode()))
      except ValueError:
        break  # The process was killed while it wrote this.
      size += len(line)
    self._file.truncate(size)
    return lines

  def _lock(self):
    """Locks the file for this process; does nothing on Windows."""
    if fcntl is None:
      return
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
      self._file.close()
      self._file = None
      raise errors.StreamError(
          "'{}' is being written by another process.".format(
              os.path.splitext(self.path)[0]),
          "It holds '{}'.".format(self.path),
          "Wait until it is done, or write to another file.") from None

  def add(self, step):
    """Appends a line.

    Args:
      step: dict that JSON can hold.
    """
    self._file.write(json.dumps(step).encode() + b"\n")
    self._file.flush()

  def close(self):
    if self._file is not None:
      self._file.close()
      self._file = None

  def remove(self):
    """Deletes the file, if it is open here."""
    if self._file is not None:
      os.remove(self.path)
      self.close()
