"""The libraries of the benchmark, as the process that asks them sees them."""

import pickle
import subprocess
import tempfile

import numpy as np

import benchmark_workers

#: Differences from Session.run, as a part of the gradient's largest element.
TOLERANCE = 1e-4


class BenchmarkError(Exception):
  """What ends the benchmark; `str` of it is one line for the user."""


class Library:
  """One worker process, seen from here.

  Attributes:
    name: str, a key of the `LIBRARIES` of its script.
    grown: int, bytes by which its memory grew while calls were timed.
  """

  def __init__(self, name, script, python, mode):
    self.name = name
    self.grown = 0
    self._log = tempfile.TemporaryFile()
    self._process = subprocess.Popen(
        [python, script, name, "--mode=" + mode],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)

  def ask(self, question, *values):
    self._send(question, values)
    return self.answer()

  def _send(self, question, values):
    pickle.dump((question, values), self._process.stdin, protocol=2)
    self._process.stdin.flush()

  def answer(self):
    try:
      kind, value = pickle.load(self._process.stdout)
    except EOFError:
      kind, value = "error", "the process ended with status {}".format(
          self._process.wait())
    if kind == "unavailable":
      raise benchmark_workers.Unavailable(value)
    if kind == "error":
      self._log.seek(0)
      last = self._log.read().decode(errors="replace").strip().splitlines()
      raise BenchmarkError("{}: {} {}".format(
          self.name, value, last[-1] if last else ""))
    return value

  def close(self):
    self._process.stdin.close()
    self._process.stdout.close()
    try:
      self._process.wait(timeout=20)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    self._log.close()


def arrays_of(results):
  """The arrays of an answer, as the workers send them."""
  return [np.frombuffer(data, np.dtype(dtype)).reshape(shape)
          for dtype, shape, data in results]


def difference_of(arrays, reference):
  """(largest difference, the same as a part of the largest element)."""
  if [a.shape for a in arrays] != [r.shape for r in reference]:
    return np.inf, np.inf
  absolute = max(np.abs(a - r).max() for a, r in zip(arrays, reference))
  return absolute, absolute / max(np.abs(r).max() for r in reference)
