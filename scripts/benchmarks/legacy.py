"""Times TensorFlow 1 projects as they are, with gradfeed and under its audit.

`benchmark.py legacy audit` runs it. Each run of a project is a process of its
own; rounds have both ways in random order, so that a busy moment of the machine
meets both alike.
"""

import compileall
import os
import subprocess
import sys
import tempfile

import numpy as np

import benchmarks
from tests.integration.legacy import comparison
from tests.integration.legacy import launcher


class LegacyError(Exception):
  """A project that did not run; `str` of it is one line for the user."""


def projects(mode):
  """The projects that run in a mode: list of str."""
  return [name for name, modes in launcher.PROJECTS.items() if mode in modes]


def legacy(mode, names, rounds, seed, way="installed"):
  """Runs projects as they are, and in another way.

  Args:
    mode: str, a mode of TensorFlow 2.
    names: list of str, of `projects(mode)`.
    rounds: int, runs of each project in each way.
    seed: int, of the order.
    way: str, "installed" or "audited", as `launcher` takes it.

  Returns:
    list of dict, a row for each project.
  """
  # As pip leaves an installed package, whatever the environment says.
  compileall.compile_dir(os.path.join(benchmarks.ROOT, "gradfeed"), quiet=1)
  order = np.random.RandomState(seed)
  ways = ("plain", way)
  outcomes = {name: {one: [] for one in ways} for name in names}
  for _ in range(rounds):
    for i in order.permutation(len(names)):
      for j in order.permutation(len(ways)):
        outcomes[names[i]][ways[j]].append(_run(names[i], mode, ways[j]))
  return [_row(name, way, *[outcomes[name][one] for one in ways])
          for name in names]


def _run(name, mode, way):
  """Runs a project in a fresh process; its `launcher.Outcome`."""
  with tempfile.TemporaryDirectory() as folder, (
      tempfile.TemporaryFile()) as log:
    path = os.path.join(folder, "outcome")
    status = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.legacy.launcher", name, mode,
         way, path], cwd=benchmarks.ROOT, stdout=subprocess.DEVNULL, stderr=log,
        env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3")).wait()
    if status:
      log.seek(0)
      last = log.read().decode("utf-8", "replace").strip().splitlines()
      raise LegacyError("{}, {}: {}".format(
          name, way, last[-1] if last else "status {}".format(status)))
    return launcher.read(path)


def _row(name, way, plain, other):
  """A row of the table; ratios are medians of the ratios of the rounds."""
  seconds, cpu = [
      [np.array([getattr(run, field) for run in runs])
       for runs in (plain, other)]
      for field in ("seconds", "cpu_seconds")]
  same = all(
      not comparison.differences(plain[0].results, run.results,
                                 launcher.ROUNDED.get(name, ()))
      for run in plain + other)
  steady = all(not comparison.growth(plain[0].ops, run.ops)
               for run in other)
  return {"project": name, "steps": len(plain[0].ops),
          "plain s": float(np.median(seconds[0])),
          way + " s": float(np.median(seconds[1])),
          "ratio": float(np.median(seconds[1] / seconds[0])),
          "best ratio": float(seconds[1].min() / seconds[0].min()),
          "cpu ratio": float(np.median(cpu[1] / cpu[0])),
          "ops plain": plain[0].ops[-1][1],
          "ops " + way: other[0].ops[-1][1],
          "constant": "yes" if steady else "NO",
          "agrees": "yes" if same else "NO"}
