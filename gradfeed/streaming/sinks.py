"""Files of results, that are there when they are complete."""

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

#: What the name of a file says it is to be, and what writes it.
_WRITERS = [
    (re.compile(r"\.npz$"), npz.ArchiveWriter),
    (re.compile(r"\.csv$"), csv_files.ColumnWriter),
    (re.compile(r"\.tf-?records?$"), tfrecords.RecordWriter),
]
_KNOWN = ".npy, .npz, .csv or .tfrecord"


class Sink:
  """The files of the results: partial ones, until all rows are there.

  Attributes:
    path: str, the first file.
    steps: list of dict, what was noted at each chunk of an earlier call.
  """

  def __init__(self, out, f):
    given = out if isinstance(out, (list, tuple)) else [out]
    self._out = [os.fspath(path) for path in given]
    self.path = self._out[0]
    _check(self._out, f)
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
    self._known = {"done": 0}

  def resume(self, fingerprint):
    """The number of rows that an earlier call has done.

    Raises:
      StreamError: they belong to something else; or another process is at it.
    """
    lines = self._journal.open()
    if not lines:
      self._journal.add(fingerprint)
      return 0
    other = sorted(key for key in fingerprint
                   if lines[0].get(key) != fingerprint[key])
    self.steps = lines[1:]
    if self.steps:
      self._known = self.steps[-1]
    if other:
      raise errors.StreamError(
          "'{}' was begun with {}.".format(
              self.path, " and ".join("other " + key for key in other)),
          "{} of its rows are done, and the rest would not belong to "
          "them.".format(self._known["done"]),
          "Go on with what it was begun with; or delete '{}' to begin "
          "anew.".format(self._journal.path))
    if "states" in self._known and "files" not in self._known:
      for writer, state in zip(self._writers, self._known["states"]):
        writer.resume(state)
      self._has_begun = True
    return self._known["done"]

  @property
  def is_complete(self):
    """Whether all rows are there, and files lack their names at the most."""
    return "files" in self._known

  def write(self, results, done, more):
    """Appends the rows up to `done`, and notes that they are there.

    Args:
      results: list of the array of each output.
      done: int, how many rows there are then.
      more: dict of what else to note, that JSON can hold.
    """
    groups = [[results[i] for i in group] for group in self._groups]
    if not self._has_begun:
      for writer, group in zip(self._writers, groups):
        writer.begin(group)
      self._has_begun = True
    states = [writer.write(group)
              for writer, group in zip(self._writers, groups)]
    self._known = dict(more, done=done, states=states)
    self._journal.add(self._known)

  def close(self):
    for writer in self._writers:
      writer.close()
    if "states" in self._known:
      self._journal.close()
    else:
      self._journal.remove()

  def finish(self):
    """Gives the files their names; the state is of no use any more."""
    if not self.is_complete:
      self._known["files"] = [
          pair for writer in self._writers
          for pair in writer.finish(self._known["done"])]
      self._journal.add(self._known)
    for path, final in self._known["files"]:
      if os.path.exists(path):  # Not where this was cut off before.
        if final is None:
          os.remove(path)
        else:
          os.replace(path, final)
    self._journal.remove()
    return [final for _, final in self._known["files"] if final is not None]


def _check(out, f):
  """Refuses files that cannot hold the outputs of `f`."""
  for path in out:
    if not any(ending.search(path) for ending, _ in _WRITERS) and (
        not path.endswith(".npy")):
      raise errors.ArgumentError(
          "'{}' is the name of no file of results.".format(path),
          "It is not known which format is meant.",
          "Use a name that ends in {}.".format(_KNOWN))
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
  for ending, writer in _WRITERS:
    if ending.search(path):
      return writer(path, names)
  return npy.ArrayWriter([path])


class Journal:
  """A file of a line of JSON for each step; the process that has it locks it.

  Attributes:
    path: str.
  """

  def __init__(self, path):
    self.path = path
    self._file = None

  def open(self):
    """The lines that are whole, as a list of dicts; locks the file.

    Raises:
      StreamError: another process has it.
    """
    while True:
      self._file = open(self.path, "a+b")
      self._lock()
      try:
        if os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path)):
          break
      except OSError:
        pass
      self._file.close()  # Another process was done with it, and removed it.
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
    """Appends a line."""
    self._file.write(json.dumps(step).encode() + b"\n")
    self._file.flush()

  def close(self):
    if self._file is not None:
      self._file.close()
      self._file = None

  def remove(self):
    """Removes it, if it is open here."""
    if self._file is not None:
      os.remove(self.path)
      self.close()
