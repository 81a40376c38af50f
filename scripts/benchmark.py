"""Times gradfeed beside its alternatives, in one run.

  python scripts/benchmark.py                      # time per call and memory
  python scripts/benchmark.py growth building      # what many calls leave
  python scripts/benchmark.py calls --only=tiny,session_run --rounds=5

`calls` runs each library in a process of its own and visits them in random
order, round after round, so that a busy moment of the machine meets all of
them alike. A ratio is the median of the ratios within the rounds. Nothing is
tuned: threads and kernels are the defaults of each library.
"""

import contextlib
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time

from absl import app
from absl import flags
import numpy as np

import benchmark_workers

_ROUNDS = flags.DEFINE_integer(
    "rounds", 12, "Visits to each library, in random order.", lower_bound=1)
_SECONDS = flags.DEFINE_float(
    "seconds", 1.2, "Time for each library, network and batch, all rounds "
    "together.", lower_bound=0.0)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of weights, points and order.")
_ONLY = flags.DEFINE_list(
    "only", [], "Libraries ({}) and networks ({}) to keep; gradfeed and "
    "session_run always run.".format(
        ", ".join(benchmark_workers.LIBRARIES),
        ", ".join(benchmark_workers.NETWORKS)))
_BATCHES = flags.DEFINE_list("batches", ["1", "32", "256"], "Rows of x.")
_MODE = flags.DEFINE_enum(
    "mode", "v1", ["v1", "v2"], "TF 2: tf.disable_v2_behavior(), or "
    "tf.disable_eager_execution() alone.")
_JAX_PYTHON = flags.DEFINE_string(
    "jax_python", None, "A Python with JAX, where this one has none.")
_CALLS = flags.DEFINE_integer(
    "calls", 100000, "Calls of a function in `growth`.", lower_bound=10)
_LAYERS = flags.DEFINE_integer(
    "layers", 1000, "Layers of the largest graph in `building`.",
    lower_bound=20)
_JSON = flags.DEFINE_string("json", None, "File for all numbers.")

#: Differences from Session.run, as a part of the gradient's largest element.
_TOLERANCE = 1e-4

#: What the user may have set to make a library faster or slower.
_SWITCHES = ("TF_ENABLE_ONEDNN_OPTS", "TF_CPU_ALLOCATOR_USE_BFC",
             "TF_XLA_FLAGS", "TF_NUM_INTRAOP_THREADS",
             "TF_NUM_INTEROP_THREADS", "XLA_FLAGS", "OMP_NUM_THREADS",
             "OPENBLAS_NUM_THREADS")


class BenchmarkError(Exception):
  """What ends the benchmark; `str` of it is one line for the user."""


class Library:
  """One worker process, seen from here.

  Attributes:
    name: str, a key of `benchmark_workers.LIBRARIES`.
    grown: int, bytes by which its memory grew while calls were timed.
  """

  def __init__(self, name, python, mode):
    self.name = name
    self.grown = 0
    self._log = tempfile.TemporaryFile()
    self._process = subprocess.Popen(
        [python, benchmark_workers.__file__, name, "--mode=" + mode],
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


def calls():
  """Time per call and memory of each library; [(title, rows)]."""
  libraries, networks, batches = _chosen()
  rows = []
  with contextlib.ExitStack() as stack:
    running = _start(libraries, stack)
    for network in networks:
      for batch in batches:
        rows.extend(_cell(running, network, batch))
    return [("Time per call, NumPy in, NumPy out", rows),
            ("Memory", [_memory_row(library) for library in running])]


def _chosen():
  """(libraries, networks, batches) that the flags leave."""
  libraries = list(benchmark_workers.LIBRARIES)
  networks = list(benchmark_workers.NETWORKS)
  unknown = set(_ONLY.value) - set(libraries) - set(networks)
  if unknown:
    raise BenchmarkError("--only does not know {}; it takes {}.".format(
        ", ".join(sorted(unknown)), ", ".join(libraries + networks)))
  kept = [name for name in libraries if name in _ONLY.value]
  if kept:
    libraries = [name for name in libraries
                 if name in kept or name in libraries[:2]]
  if not all(batch.isdigit() and int(batch) for batch in _BATCHES.value):
    raise BenchmarkError("--batches takes numbers of rows, not {}.".format(
        ",".join(_BATCHES.value)))
  return (libraries,
          [name for name in networks if name in _ONLY.value] or networks,
          [int(batch) for batch in _BATCHES.value])


def _start(names, stack):
  """The libraries that run here; says what each is, and what is left out.

  Args:
    names: list of str.
    stack: `contextlib.ExitStack` that closes them.

  Returns:
    list of `Library`.
  """
  started, running = [], []
  for name in names:
    python = sys.executable
    if name == "jax":
      python = _JAX_PYTHON.value or sys.executable
      if not _JAX_PYTHON.value and importlib.util.find_spec("jax") is None:
        print("jax is left out: this Python has none. `pip install jax`, or "
              "pass --jax_python=/path/to/python.")
        continue
    library = Library(name, python, _MODE.value)
    stack.callback(library.close)
    started.append((library, python))
  for library, python in started:
    try:
      print("{}: {} ({})".format(library.name, library.answer(), python))
    except benchmark_workers.Unavailable as error:
      print("{} is left out: {}.".format(library.name, error))
    else:
      running.append(library)
  return running


def _cell(running, network, batch):
  """The rows of one network and one batch, a row for each library."""
  seed = _SEED.value
  results = [library.ask("prepare", network, batch, seed)
             for library in running]
  reference = _arrays(results[[l.name for l in running].index("session_run")])
  differences = [_difference(_arrays(result), reference)
                 for result in results]
  before = [library.ask("warm", _SECONDS.value)[0] for library in running]
  order = np.random.RandomState(seed)
  chunks = [[] for _ in running]
  for _ in range(_ROUNDS.value):
    for i in order.permutation(len(running)):
      chunks[i].append(running[i].ask(
          "measure", _SECONDS.value / _ROUNDS.value))
  for library, memory in zip(running, before):
    library.grown += (library.ask("memory")[0] or 0) - (memory or 0)
  medians = [np.array([np.median(visit) for visit in visits])
             for visits in chunks]
  return [{
      "network": network, "batch": batch, "library": library.name,
      "median us": np.median(own) * 1e6,
      "p10 us": np.percentile(np.concatenate(visits), 10) * 1e6,
      "x gradfeed": np.median(own / medians[0]),
      "max difference": float(difference[0]),
      "agrees": "yes" if difference[1] < _TOLERANCE else "NO",
  } for library, own, visits, difference in zip(
      running, medians, chunks, differences)]


def _arrays(results):
  return [np.frombuffer(data, np.dtype(dtype)).reshape(shape)
          for dtype, shape, data in results]


def _difference(arrays, reference):
  """(largest difference, the same as a part of the largest element)."""
  if [a.shape for a in arrays] != [r.shape for r in reference]:
    return np.inf, np.inf
  absolute = max(np.abs(a - r).max() for a, r in zip(arrays, reference))
  return absolute, absolute / max(np.abs(r).max() for r in reference)


def _memory_row(library):
  _, peak, threads = library.ask("memory")
  return {"library": library.name, "threads": threads,
          "peak MB": None if peak is None else peak / 2 ** 20,
          "growth MB": None if peak is None else library.grown / 2 ** 20}


def growth():
  """What many calls leave behind; [(title, rows)]."""
  import benchmark_graphs  # pylint: disable=g-import-not-at-top
  return [("Growth", benchmark_graphs.growth(_MODE.value, _CALLS.value))]


def building():
  """Seconds to build, by the size of the graph; [(title, rows)]."""
  import benchmark_graphs  # pylint: disable=g-import-not-at-top
  return [("Building", benchmark_graphs.building(
      _MODE.value, _LAYERS.value, min(_ROUNDS.value, 5)))]


#: The benchmarks by name. Each returns titles with rows; a row whose "agrees"
#: or "constant" says NO is a failure.
BENCHMARKS = {"calls": calls, "growth": growth, "building": building}


def _print(title, rows):
  print("\n{}".format(title))
  headers = list(rows[0])
  cells = [[_format(row[header]) for header in headers] for row in rows]
  try:
    import tabulate  # pylint: disable=g-import-not-at-top
  except ImportError:
    widths = [max(map(len, column)) for column in zip(headers, *cells)]
    for line in [headers] + cells:
      print("  ".join(cell.rjust(width)
                      for cell, width in zip(line, widths)))
  else:
    print(tabulate.tabulate(cells, headers, disable_numparse=True,
                            stralign="right"))


def _format(value):
  if value is None:
    return "-"
  if isinstance(value, float):
    return "{:.4g}".format(value) if value < 100 else "{:.0f}".format(value)
  return str(value)


def _environment():
  """Lines that say what the numbers were measured on."""
  cores = (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
           else os.cpu_count())
  load = "{:.1f}".format(os.getloadavg()[0]) if hasattr(
      os, "getloadavg") else "unknown"
  switches = ["{}={}".format(name, os.environ[name])
              for name in _SWITCHES if name in os.environ]
  lines = ["{} cores, load {}; threads of each library: its default; set by "
           "you: {}".format(cores, load, ", ".join(switches) or "nothing")]
  if importlib.util.find_spec("tabulate") is None:
    lines.append("For ruled tables: pip install 'gradfeed[cli]'")
  return lines


def _save(path, report):
  partial = path + ".partial"
  with open(partial, "w") as file:
    json.dump(report, file, indent=1)
    file.write("\n")
  os.replace(partial, path)


def main(arguments):
  names = arguments[1:] or ["calls"]
  unknown = [name for name in names if name not in BENCHMARKS]
  try:
    if unknown:
      raise BenchmarkError("There is no benchmark {}; there are {}.".format(
          ", ".join(map(repr, unknown)), ", ".join(BENCHMARKS)))
    start = time.perf_counter()
    report = {"environment": _environment()}
    print("\n".join(report["environment"]))
    failed = []
    for name in names:
      for title, rows in BENCHMARKS[name]():
        _print(title, rows)
        report[title] = rows
        failed += [row for row in rows
                   if "NO" in (row.get("agrees"), row.get("constant"))]
    print("\n{:.0f} seconds".format(time.perf_counter() - start))
    if _JSON.value:
      _save(_JSON.value, report)
    for row in failed:
      print("FAILED: {}".format(row), file=sys.stderr)
    return 1 if failed else 0
  except (BenchmarkError, OSError) as error:
    print("benchmark: {}".format(error), file=sys.stderr)
    return 1


if __name__ == "__main__":
  app.run(main)
