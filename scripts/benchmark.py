"""Times gradfeed beside its alternatives, in one run.

  python scripts/benchmark.py                      # time per call and memory
  python scripts/benchmark.py growth building      # what many calls leave
  python scripts/benchmark.py calls --only=tiny,session_run --rounds=5
  python scripts/benchmark.py derivatives --only=hessian,parallel_for
  python scripts/benchmark.py streaming --points=1000000
  python scripts/benchmark.py cluster --only=tiny,dense
  python scripts/benchmark.py first --only=mobilenet,lbfgs --models=FOLDER
  python scripts/benchmark.py legacy audit --only=hmc,trpo --rounds=5
  python scripts/benchmark.py modules --batches=1,32
  python scripts/benchmark.py models --batches=1,32 --models=FOLDER

`calls` and `derivatives` run each library in a process of its own and visit
them in random order, round after round, so that a busy moment of the machine
meets all of them alike. A ratio is the median of the ratios within the rounds.
Nothing is tuned: threads and kernels are the defaults of each library.
"""

import collections
import contextlib
import importlib.util
import json
import os
import sys
import time

from absl import app
from absl import flags
import numpy as np

import benchmark_derivatives
import benchmark_first_calls
import benchmark_libraries
import benchmark_models
import benchmark_networks
import benchmark_tasks
import benchmark_workers
from benchmark_libraries import BenchmarkError
from benchmark_libraries import Library

_ROUNDS = flags.DEFINE_integer(
    "rounds", 12, "Visits to each library, in random order.", lower_bound=1)
_POINTS = flags.DEFINE_integer(
    "points", 100000, "Rows of the file in `streaming` and `cluster`.", lower_bound=1000)
_SECONDS = flags.DEFINE_float(
    "seconds", 1.2, "Time for each library and each thing that is timed, all "
    "rounds together.", lower_bound=0.0)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of weights, points and order.")
_ONLY = flags.DEFINE_list(
    "only", [], "Libraries and networks ({}), or for `derivatives` libraries "
    "and tasks ({}), to keep; gradfeed and session_run always run.".format(
        ", ".join(list(benchmark_workers.LIBRARIES) +
                  list(benchmark_workers.NETWORKS)),
        ", ".join(list(benchmark_derivatives.LIBRARIES) +
                  list(benchmark_tasks.tasks(1, True)))))
_BATCHES = flags.DEFINE_list(
    "batches", ["1", "32", "256"], "Rows of x in `calls`, `models` and "
    "`modules`.")
_MODE = flags.DEFINE_enum(
    "mode", "v1", list(benchmark_workers.MODES), "TF 2: "
    "tf.disable_v2_behavior(), or tf.disable_eager_execution() alone, or "
    "neither.")
_JAX_PYTHON = flags.DEFINE_string(
    "jax_python", None, "A Python with JAX, where this one has none.")
_TORCH_PYTHON = flags.DEFINE_string(
    "torch_python", None, "A Python with PyTorch, where this one has none.")
_CALLS = flags.DEFINE_integer(
    "calls", 100000, "Calls of a function in `growth`.", lower_bound=10)
_LAYERS = flags.DEFINE_integer(
    "layers", 1000, "Layers of the largest graph in `building`.",
    lower_bound=20)
_SHRINK = flags.DEFINE_integer(
    "shrink", 1, "What sizes are divided by in `derivatives`, to try it out.",
    lower_bound=1)
_WHOLE = flags.DEFINE_bool(
    "whole", False, "Build the loop over all classes in `derivatives`, which "
    "takes minutes, and not over a part of them.")
_MODELS = flags.DEFINE_string(
    "models", None, "Folder of models for `first` and `models`; see "
    "benchmark_networks.")
_JSON = flags.DEFINE_string("json", None, "File for all numbers.")

#: What the user may have set to make a library faster or slower.
_SWITCHES = ("TF_ENABLE_ONEDNN_OPTS", "TF_CPU_ALLOCATOR_USE_BFC",
             "TF_XLA_FLAGS", "TF_NUM_INTRAOP_THREADS",
             "TF_NUM_INTEROP_THREADS", "XLA_FLAGS", "OMP_NUM_THREADS",
             "OPENBLAS_NUM_THREADS")

#: Times that a derivative is built; the median counts.
_BUILDS = 3


def calls():
  """Time per call and memory of each library; yields (title, rows)."""
  libraries, networks = _chosen(
      list(benchmark_workers.LIBRARIES), list(benchmark_workers.NETWORKS))
  batches = _batches()
  with contextlib.ExitStack() as stack:
    running = _start(benchmark_workers, libraries, stack)
    yield "Time per call, NumPy in, NumPy out", [
        {"network": network, "batch": batch, "library": timing.name,
         "median us": timing.median * 1e6, "p10 us": timing.p10 * 1e6,
         "x gradfeed": timing.ratio, "max difference": timing.difference,
         "agrees": timing.agrees}
        for network in networks for batch in batches
        for timing in _timed(running, (network, batch, _SEED.value))]
    yield "Memory", [_memory_row(library) for library in running]


def _batches():
  """The rows of x: list of int."""
  if not all(batch.isdigit() and int(batch) for batch in _BATCHES.value):
    raise BenchmarkError("--batches takes numbers of rows, not {}.".format(
        ",".join(_BATCHES.value)))
  return [int(batch) for batch in _BATCHES.value]


def _only(names):
  """Those of `names` that --only keeps; all without it."""
  unknown = [name for name in _ONLY.value if name not in names]
  if unknown:
    raise BenchmarkError("--only does not know {}; here it takes {}.".format(
        ", ".join(unknown), ", ".join(names)))
  return _ONLY.value or names


def derivatives():
  """Time per call, and to build, of each derivative; yields (title, rows)."""
  tasks = benchmark_tasks.tasks(_SHRINK.value, _WHOLE.value)
  libraries, names = _chosen(
      list(benchmark_derivatives.LIBRARIES), list(tasks))
  with contextlib.ExitStack() as stack:
    running = _start(benchmark_derivatives, libraries, stack)
    for name in names:
      cell = name, _SHRINK.value, _WHOLE.value, _SEED.value
      built = _built(running, cell)
      able = [library for library in running if library.name in built]
      yield tasks[name].title(), [
          row for timing in _timed(able, cell, tasks[name].step)
          for row in tasks[name].rows(timing, built[timing.name])]


def _chosen(libraries, cells):
  """(libraries, networks or tasks) that --only leaves of those that are."""
  unknown = set(_ONLY.value) - set(libraries) - set(cells)
  if unknown:
    raise BenchmarkError("--only does not know {}; it takes {}.".format(
        ", ".join(sorted(unknown)), ", ".join(libraries + cells)))
  kept = [name for name in libraries if name in _ONLY.value]
  if kept:
    libraries = [name for name in libraries
                 if name in kept or name in libraries[:2]]
  return libraries, [name for name in cells if name in _ONLY.value] or cells


def _start(workers, names, stack, told=print):
  """The libraries that run here; says what each is, and what is left out.

  Args:
    workers: module that is the script of the workers.
    names: list of str.
    stack: `contextlib.ExitStack` that closes them.
    told: what takes a line on each.

  Returns:
    list of `Library`.
  """
  pythons = {"jax": _JAX_PYTHON.value, "torch": _TORCH_PYTHON.value}
  started, running = [], []
  for name in names:
    python = pythons.get(name) or sys.executable
    if name in pythons and not pythons[name] and (
        importlib.util.find_spec(name) is None):
      told("{0} is left out: this Python has none. `pip install {0}`, or "
           "pass --{0}_python=/path/to/python.".format(name))
      continue
    library = Library(name, workers.__file__, python, _MODE.value)
    stack.callback(library.close)
    started.append((library, python))
  for library, python in started:
    try:
      told("{}: {} ({})".format(library.name, library.answer(), python))
    except benchmark_workers.Unavailable as error:
      told("{} is left out: {}.".format(library.name, error))
    else:
      running.append(library)
  return running


def _built(running, cell):
  """What each library that has a way takes to build it.

  Args:
    running: list of `Library`.
    cell: tuple, what `build` of the workers takes.

  Returns:
    dict from the library's name to a dict of medians.
  """
  order = np.random.RandomState(_SEED.value)
  built = {library: [] for library in running}
  for _ in range(min(_ROUNDS.value, _BUILDS)):
    for i in order.permutation(len(running)):
      if running[i] in built:
        try:
          built[running[i]].append(running[i].ask("build", *cell))
        except benchmark_workers.Unavailable as error:
          del built[running[i]]
          print("{} is left out of {}: {}.".format(
              running[i].name, cell[0], error))
  return {library.name: {key: None if facts[0][key] is None else
                         float(np.median([fact[key] for fact in facts]))
                         for key in facts[0]}
          for library, facts in built.items()}


#: What a library showed in one cell: seconds per call, and how far it is from
#: the results of session_run.
Timing = collections.namedtuple("Timing", [
    "name", "median", "p10", "ratio", "difference", "agrees"])


def _timed(running, cell, step=1):
  """Compares the results of the libraries, and times them.

  Args:
    running: list of `Library`; the first is the unit of the ratios.
    cell: tuple, what `prepare` of the workers takes.
    step: int; session_run gives each `step`-th class alone, along axis 1.

  Returns:
    list of `Timing`, one for each library.
  """
  differences = _differences(running, cell, step)
  before = [library.ask("warm", _SECONDS.value)[0] for library in running]
  order = np.random.RandomState(_SEED.value)
  chunks = [[] for _ in running]
  for _ in range(_ROUNDS.value):
    for i in order.permutation(len(running)):
      chunks[i].append(running[i].ask(
          "measure", _SECONDS.value / _ROUNDS.value))
  for library, memory in zip(running, before):
    library.grown += (library.ask("memory")[0] or 0) - (memory or 0)
  medians = [np.array([np.median(visit) for visit in visits])
             for visits in chunks]
  return [Timing(
      library.name, np.median(own), np.percentile(np.concatenate(visits), 10),
      np.median(own / medians[0]), float(difference[0]),
      "yes" if difference[1] < benchmark_libraries.TOLERANCE else "NO")
          for library, own, visits, difference in zip(
              running, medians, chunks, differences)]


def _differences(running, cell, step):
  """[(largest difference, the same as a part of the largest element)]."""
  results = [benchmark_libraries.arrays_of(library.ask("prepare", *cell))
             for library in running]
  by_hand = [library.name for library in running].index("session_run")
  reference = results[by_hand]
  if step > 1:  # Classes that it leaves out: held against another library.
    others = [result for i, result in enumerate(results) if i != by_hand]
    whole = [array.copy() for array in others[-1]]
    for array, part in zip(whole, reference):
      array[:, ::step] = part
    reference = results[by_hand] = whole
  return [benchmark_libraries.difference_of(result, reference)
          for result in results]


def _memory_row(library):
  _, peak, threads = library.ask("memory")
  return {"library": library.name, "threads": threads,
          "peak MB": None if peak is None else peak / 2 ** 20,
          "growth MB": None if peak is None else library.grown / 2 ** 20}


def models():
  """Time per call of networks as people have them; yields (title, rows)."""
  names = benchmark_models.names(_MODELS.value)
  known = names + [name for name in benchmark_networks.NETWORKS
                   if name not in names]
  libraries, chosen = _chosen(list(benchmark_models.LIBRARIES), known)
  told = print
  for name in names if chosen == known else chosen:
    with contextlib.ExitStack() as stack:
      running = _start(benchmark_models, libraries, stack, told)
      yield name, list(benchmark_models.rows(
          running, name, _batches(), _MODELS.value, _ROUNDS.value,
          _SECONDS.value, _SEED.value))
    told = lambda line: None  # Once is enough.


def growth():
  """What many calls leave behind; [(title, rows)]."""
  import benchmark_graphs  # pylint: disable=g-import-not-at-top
  return [("Growth", benchmark_graphs.growth(_MODE.value, _CALLS.value))]


def building():
  """Seconds to build, by the size of the graph; [(title, rows)]."""
  import benchmark_graphs  # pylint: disable=g-import-not-at-top
  return [("Building", benchmark_graphs.building(
      _MODE.value, _LAYERS.value, min(_ROUNDS.value, 5)))]


def first():
  """Time from a network to its first numbers; [(title, rows)]."""
  return [("First calls, each in a process of its own",
           list(benchmark_first_calls.rows(
               _ONLY.value, min(_ROUNDS.value, 5), _MODE.value,
               _MODELS.value)))]


def streaming():
  """Points from a file to a file; [(title, rows)]."""
  import benchmark_streams  # pylint: disable=g-import-not-at-top
  return [("Streaming {} x 784 float32".format(_POINTS.value),
           benchmark_streams.streaming(
               _MODE.value, _POINTS.value, min(_ROUNDS.value, 3))),
          ("Streaming from and to other formats",
           benchmark_streams.formats(
               _MODE.value, _POINTS.value, min(_ROUNDS.value, 3))),
          ("A batch that is fixed to 1, float32",
           benchmark_streams.batches_of_one(
               _MODE.value, _POINTS.value, min(_ROUNDS.value, 3)))]


def cluster():
  """Shards by one worker and by two; [(title, rows)]."""
  names = _only(list(benchmark_workers.NETWORKS))
  import benchmark_cluster  # pylint: disable=g-import-not-at-top
  return [("Shards of {} points, one thread for each worker".format(
      _POINTS.value), benchmark_cluster.cluster(
          _MODE.value, _POINTS.value, min(_ROUNDS.value, 3), names))]


def legacy():
  """Old projects as they are and with gradfeed installed; [(title, rows)]."""
  return _projects("Projects with gf.install() as their only added line",
                   "installed")


def audit():
  """Old projects as they are and under gf.audit(); [(title, rows)]."""
  return _projects("Projects under gf.audit()", "audited")


def _projects(title, way):
  """Times old projects in two ways; [(title, rows)]."""
  import benchmark_legacy  # pylint: disable=g-import-not-at-top
  names = _only(benchmark_legacy.projects(_MODE.value))
  try:
    return [(title, benchmark_legacy.legacy(
        _MODE.value, names, _ROUNDS.value, _SEED.value, way))]
  except benchmark_legacy.LegacyError as error:
    raise BenchmarkError(str(error))


def modules():
  """A function, and the module of TF 2 made of it; [(title, rows)]."""
  names = _only(list(benchmark_workers.NETWORKS))
  import benchmark_modules  # pylint: disable=g-import-not-at-top
  if benchmark_modules.tf.__version__.startswith("1."):
    raise BenchmarkError("A module is code of TensorFlow 2; this is {}.".format(
        benchmark_modules.tf.__version__))
  return [("Value and gradient of a piece of a legacy graph",
           benchmark_modules.modules(
               _batches(), names, _ROUNDS.value, _SECONDS.value,
               _SEED.value))]


#: The benchmarks by name. Each gives titles with rows; a row whose "agrees" or
#: "constant" says NO is a failure.
BENCHMARKS = {"calls": calls, "growth": growth, "building": building,
              "derivatives": derivatives, "streaming": streaming,
              "first": first, "legacy": legacy, "audit": audit,
              "modules": modules, "models": models,
              "cluster": cluster}


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
  sys.stdout.flush()


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
