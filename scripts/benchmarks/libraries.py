"""The libraries of the benchmark, as the process that asks them sees them."""

import collections
import importlib.util
import pickle
import subprocess
import sys
import tempfile

import numpy as np

import benchmarks
from benchmarks import workers

#: Differences from Session.run, as a part of the gradient's largest element.
TOLERANCE = 1e-4

#: Times that a derivative is built; the median counts.
_BUILDS = 3


class BenchmarkError(Exception):
  """What ends the benchmark; `str` of it is one line for the user."""


class Library:
  """One worker process, seen from here.

  Attributes:
    name: str, a key of the `LIBRARIES` of its module.
    grown: int, bytes by which its memory grew while calls were timed.
  """

  def __init__(self, name, module, python, mode):
    self.name = name
    self.grown = 0
    self._log = tempfile.TemporaryFile()
    self._process = subprocess.Popen(
        benchmarks.command(python, module, name, "--mode=" + mode),
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
      raise workers.Unavailable(value)
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


def start(module, names, pythons, mode, stack, told=print):
  """The libraries that run here; says what each is, and what is left out.

  Args:
    module: str, full name of the module of the workers.
    names: list of str.
    pythons: dict from the name of a library that this Python may lack to the
      path of one that has it, or None.
    mode: str, of `workers.MODES`.
    stack: `contextlib.ExitStack` that closes them.
    told: what takes a line on each.

  Returns:
    list of `Library`.
  """
  started, running = [], []
  for name in names:
    python = pythons.get(name) or sys.executable
    if name in pythons and not pythons[name] and (
        importlib.util.find_spec(name) is None):
      told("{0} is left out: this Python has none. `pip install {0}`, or "
           "pass --{0}_python=/path/to/python.".format(name))
      continue
    library = Library(name, module, python, mode)
    stack.callback(library.close)
    started.append((library, python))
  for library, python in started:
    try:
      told("{}: {} ({})".format(library.name, library.answer(), python))
    except workers.Unavailable as error:
      told("{} is left out: {}.".format(library.name, error))
    else:
      running.append(library)
  return running


def build(running, cell, rounds, seed):
  """What each library that has a way takes to build it.

  Args:
    running: list of `Library`.
    cell: tuple, what `build` of the workers takes.
    rounds: int, at most so many times.
    seed: int, of the order.

  Returns:
    dict from the library's name to a dict of medians.
  """
  order = np.random.RandomState(seed)
  found = {library: [] for library in running}
  for _ in range(min(rounds, _BUILDS)):
    for i in order.permutation(len(running)):
      if running[i] in found:
        try:
          found[running[i]].append(running[i].ask("build", *cell))
        except workers.Unavailable as error:
          del found[running[i]]
          print("{} is left out of {}: {}.".format(
              running[i].name, cell[0], error))
  return {library.name: {key: None if facts[0][key] is None else
                         float(np.median([fact[key] for fact in facts]))
                         for key in facts[0]}
          for library, facts in found.items()}


#: What a library showed in one cell: seconds per call, and how far it is from
#: the results of session_run.
Timing = collections.namedtuple("Timing", [
    "name", "median", "p10", "ratio", "difference", "agrees"])


def measure(running, cell, rounds, seconds, seed, step=1):
  """Compares the results of the libraries, and times them.

  Args:
    running: list of `Library`; the first is the unit of the ratios.
    cell: tuple, what `prepare` of the workers takes.
    rounds: int, visits to each library, in random order.
    seconds: float, for each library, all rounds together.
    seed: int, of the order.
    step: int; session_run gives each `step`-th class alone, along axis 1.

  Returns:
    list of `Timing`, one for each library.
  """
  differences = _differences(running, cell, step)
  before = [library.ask("warm", seconds)[0] for library in running]
  order = np.random.RandomState(seed)
  chunks = [[] for _ in running]
  for _ in range(rounds):
    for i in order.permutation(len(running)):
      chunks[i].append(running[i].ask("measure", seconds / rounds))
  for library, memory in zip(running, before):
    library.grown += (library.ask("memory")[0] or 0) - (memory or 0)
  medians = [np.array([np.median(visit) for visit in visits])
             for visits in chunks]
  return [Timing(
      library.name, np.median(own), np.percentile(np.concatenate(visits), 10),
      np.median(own / medians[0]), float(difference[0]),
      "yes" if difference[1] < TOLERANCE else "NO")
          for library, own, visits, difference in zip(
              running, medians, chunks, differences)]


def _differences(running, cell, step):
  """[(largest difference, the same as a part of the largest element)]."""
  results = [arrays_of(library.ask("prepare", *cell)) for library in running]
  by_hand = [library.name for library in running].index("session_run")
  reference = results[by_hand]
  if step > 1:  # Classes that it leaves out: held against another library.
    others = [result for i, result in enumerate(results) if i != by_hand]
    whole = [array.copy() for array in others[-1]]
    for array, part in zip(whole, reference):
      array[:, ::step] = part
    reference = results[by_hand] = whole
  return [difference_of(result, reference) for result in results]


def memory_row(library):
  """What a library took of memory: dict, a row of a table."""
  _, peak, threads = library.ask("memory")
  return {"library": library.name, "threads": threads,
          "peak MB": None if peak is None else peak / 2 ** 20,
          "growth MB": None if peak is None else library.grown / 2 ** 20}


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
