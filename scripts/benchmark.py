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

import contextlib
import importlib.util
import json
import os
import sys
import time

from absl import app
from absl import flags

from benchmarks import first_calls
from benchmarks import libraries
from benchmarks import models
from benchmarks import networks
from benchmarks import workers
from benchmarks.derivatives import tasks
from benchmarks.derivatives import worker
from benchmarks.libraries import BenchmarkError

_ROUNDS = flags.DEFINE_integer(
    "rounds", 12, "Visits to each library, in random order.", lower_bound=1)
_POINTS = flags.DEFINE_integer(
    "points", 100000, "Rows of the file in `streaming` and `cluster`.",
    lower_bound=1000)
_SECONDS = flags.DEFINE_float(
    "seconds", 1.2, "Time for each library and each thing that is timed, all "
    "rounds together.", lower_bound=0.0)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of weights, points and order.")
_ONLY = flags.DEFINE_list(
    "only", [], "Libraries and networks ({}), or for `derivatives` libraries "
    "and tasks ({}), to keep; gradfeed and session_run always run.".format(
        ", ".join(list(workers.LIBRARIES) + list(workers.NETWORKS)),
        ", ".join(list(worker.LIBRARIES) + list(tasks.tasks(1, True)))))
_BATCHES = flags.DEFINE_list(
    "batches", ["1", "32", "256"], "Rows of x in `calls`, `models` and "
    "`modules`.")
_MODE = flags.DEFINE_enum(
    "mode", "v1", list(workers.MODES), "TF 2: tf.disable_v2_behavior(), or "
    "tf.disable_eager_execution() alone, or neither.")
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
    "scripts/benchmarks/networks.py.")
_JSON = flags.DEFINE_string("json", None, "File for all numbers.")

#: What the user may have set to make a library faster or slower.
_SWITCHES = ("TF_ENABLE_ONEDNN_OPTS", "TF_CPU_ALLOCATOR_USE_BFC",
             "TF_XLA_FLAGS", "TF_NUM_INTRAOP_THREADS",
             "TF_NUM_INTEROP_THREADS", "XLA_FLAGS", "OMP_NUM_THREADS",
             "OPENBLAS_NUM_THREADS")


def _calls():
  """Time per call and memory of each library; yields (title, rows)."""
  names, cells = _chosen(list(workers.LIBRARIES), list(workers.NETWORKS))
  batches = _batches()
  with contextlib.ExitStack() as stack:
    running = _start(workers, names, stack)
    yield "Time per call, NumPy in, NumPy out", [
        {"network": network, "batch": batch, "library": timing.name,
         "median us": timing.median * 1e6, "p10 us": timing.p10 * 1e6,
         "x gradfeed": timing.ratio, "max difference": timing.difference,
         "agrees": timing.agrees}
        for network in cells for batch in batches
        for timing in _measure(running, (network, batch, _SEED.value))]
    yield "Memory", [libraries.memory_row(library) for library in running]


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


def _derivatives():
  """Time per call, and to build, of each derivative; yields (title, rows)."""
  known = tasks.tasks(_SHRINK.value, _WHOLE.value)
  names, cells = _chosen(list(worker.LIBRARIES), list(known))
  with contextlib.ExitStack() as stack:
    running = _start(worker, names, stack)
    for name in cells:
      cell = name, _SHRINK.value, _WHOLE.value, _SEED.value
      built = libraries.build(running, cell, _ROUNDS.value, _SEED.value)
      able = [library for library in running if library.name in built]
      yield known[name].title(), [
          row for timing in _measure(able, cell, known[name].step)
          for row in known[name].rows(timing, built[timing.name])]


def _chosen(names, cells):
  """(libraries, networks or tasks) that --only leaves of those that are."""
  unknown = set(_ONLY.value) - set(names) - set(cells)
  if unknown:
    raise BenchmarkError("--only does not know {}; it takes {}.".format(
        ", ".join(sorted(unknown)), ", ".join(names + cells)))
  kept = [name for name in names if name in _ONLY.value]
  if kept:
    names = [name for name in names if name in kept or name in names[:2]]
  return names, [name for name in cells if name in _ONLY.value] or cells


def _start(module, names, stack, told=print):
  """The libraries of `names` that run here, as `module` makes them."""
  pythons = {"jax": _JAX_PYTHON.value, "torch": _TORCH_PYTHON.value}
  return libraries.start(
      module.__name__, names, pythons, _MODE.value, stack, told)


def _measure(running, cell, step=1):
  """What each library shows in a cell: list of `libraries.Timing`."""
  return libraries.measure(
      running, cell, _ROUNDS.value, _SECONDS.value, _SEED.value, step)


def _models():
  """Time per call of networks as people have them; yields (title, rows)."""
  names = models.names(_MODELS.value)
  known = names + [name for name in networks.NETWORKS if name not in names]
  kept, chosen = _chosen(list(models.LIBRARIES), known)
  told = print
  for name in names if chosen == known else chosen:
    with contextlib.ExitStack() as stack:
      running = _start(models, kept, stack, told)
      yield name, list(models.rows(
          running, name, _batches(), _MODELS.value, _ROUNDS.value,
          _SECONDS.value, _SEED.value))
    told = lambda line: None  # Once is enough.


def _growth():
  """What many calls leave behind; [(title, rows)]."""
  from benchmarks import graphs  # pylint: disable=g-import-not-at-top
  return [("Growth", graphs.growth(_MODE.value, _CALLS.value))]


def _building():
  """Seconds to build, by the size of the graph; [(title, rows)]."""
  from benchmarks import graphs  # pylint: disable=g-import-not-at-top
  return [("Building", graphs.building(
      _MODE.value, _LAYERS.value, min(_ROUNDS.value, 5)))]


def _first():
  """Time from a network to its first numbers; [(title, rows)]."""
  return [("First calls, each in a process of its own",
           list(first_calls.rows(
               _ONLY.value, min(_ROUNDS.value, 5), _MODE.value,
               _MODELS.value)))]


def _streaming():
  """Points from a file to a file; [(title, rows)]."""
  from benchmarks import streams  # pylint: disable=g-import-not-at-top
  return [("Streaming {} x 784 float32".format(_POINTS.value),
           streams.streaming(
               _MODE.value, _POINTS.value, min(_ROUNDS.value, 3))),
          ("Streaming from and to other formats",
           streams.formats(
               _MODE.value, _POINTS.value, min(_ROUNDS.value, 3))),
          ("A batch that is fixed to 1, float32",
           streams.batches_of_one(
               _MODE.value, _POINTS.value, min(_ROUNDS.value, 3)))]


def _cluster():
  """Shards by one worker and by two; [(title, rows)]."""
  names = _only(list(workers.NETWORKS))
  from benchmarks import cluster  # pylint: disable=g-import-not-at-top
  return [("Shards of {} points, one thread for each worker".format(
      _POINTS.value), cluster.cluster(
          _MODE.value, _POINTS.value, min(_ROUNDS.value, 3), names))]


def _legacy():
  """Old projects as they are and with gradfeed installed; [(title, rows)]."""
  return _projects("Projects with gf.install() as their only added line",
                   "installed")


def _audit():
  """Old projects as they are and under gf.audit(); [(title, rows)]."""
  return _projects("Projects under gf.audit()", "audited")


def _projects(title, way):
  """Times old projects in two ways; [(title, rows)]."""
  from benchmarks import legacy  # pylint: disable=g-import-not-at-top
  names = _only(legacy.projects(_MODE.value))
  try:
    return [(title, legacy.legacy(
        _MODE.value, names, _ROUNDS.value, _SEED.value, way))]
  except legacy.LegacyError as error:
    raise BenchmarkError(str(error))


def _modules():
  """A function, and the module of TF 2 made of it; [(title, rows)]."""
  names = _only(list(workers.NETWORKS))
  from benchmarks import modules  # pylint: disable=g-import-not-at-top
  if modules.tf.__version__.startswith("1."):
    raise BenchmarkError("A module is code of TensorFlow 2; this is {}.".format(
        modules.tf.__version__))
  return [("Value and gradient of a piece of a legacy graph",
           modules.modules(
               _batches(), names, _ROUNDS.value, _SECONDS.value,
               _SEED.value))]


#: The benchmarks by name. Each gives titles with rows; a row whose "agrees" or
#: "constant" says NO is a failure.
BENCHMARKS = {
    "calls": _calls, "growth": _growth, "building": _building,
    "derivatives": _derivatives, "streaming": _streaming, "first": _first,
    "legacy": _legacy, "audit": _audit, "modules": _modules,
    "models": _models, "cluster": _cluster,
}


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
