"""Files of results, that are there when they are complete."""

import json
import os

import numpy as np

from gradfeed import errors
from gradfeed import tensors


class Sink:
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
