"""Runs one of the projects, as it is or with gradfeed installed.

  python -m tests.integration.legacy.launcher hmc v1 installed /tmp/hmc.pickle

The arguments are the project, the mode of TensorFlow, "plain", "installed" or
"audited", and the file for the `Outcome`.
"""

import collections
import importlib
import os
import pickle
import sys
import time
import warnings

#: The projects, and the modes of TensorFlow 2 in which each of them can run: a
#: project that builds in the default graph does not run with eager execution.
_ANYWHERE = ("v1", "v2", "eager")
_DEFAULT_GRAPH = ("v1", "v2")
PROJECTS = collections.OrderedDict([
    ("batch_norm_training", _ANYWHERE),
    ("burgers_pinn", _DEFAULT_GRAPH),
    ("carlini_attack", _ANYWHERE),
    ("deepdream", _ANYWHERE),
    ("hmc", _ANYWHERE),
    ("influence", _DEFAULT_GRAPH),
    ("language_model", _ANYWHERE),
    ("molecules", _ANYWHERE),
    ("pgd_attack", _DEFAULT_GRAPH),
    ("saliency", _ANYWHERE),
    ("trpo", _DEFAULT_GRAPH),
    ("wgan_gp", _ANYWHERE),
])

#: The results that may differ in the last digits. What has a functional branch
#: or loop in it (control flow v2) is differentiated on a copy, which TensorFlow
#: may optimize in another way; a Hessian is built in another way.
ROUNDED = {
    "batch_norm_training": ["in_training"],
    "hmc": ["hessian"],
}

#: "plain" is the project as it is.
WAYS = ("plain", "installed")

#: What a run of a project left.
#:   results: dict from str to NumPy array, what the project returns.
#:   ops: list of (graph, ops), the number of its graph and how many ops that
#:     had, at each step.
#:   replaced: bool, whether gradfeed stood in the place of tf.gradients and
#:     Session.run while it ran.
#:   seconds: float, from the first line of the project to its last.
#:   cpu_seconds: float, of all threads in that time.
Outcome = collections.namedtuple(
    "Outcome", ["results", "ops", "replaced", "seconds", "cpu_seconds"])


def set_mode(tf, mode):
  """Sets the mode of TensorFlow, as tests/conftest.py does."""
  {"v1": tf.disable_v2_behavior, "v2": tf.disable_eager_execution,
   "eager": tf.enable_eager_execution}[mode]()
  tf.logging.set_verbosity(tf.logging.ERROR)


def install():
  """The line that a project adds."""
  import gradfeed as gf  # pylint: disable=g-import-not-at-top
  gf.install()


def run(project, mode, way):
  """Runs a project; its `Outcome`.

  Args:
    project: str, a key of `PROJECTS`.
    mode: str, one of its modes.
    way: str, one of `WAYS`.
  """
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow.compat.v1 as tf  # pylint: disable=g-import-not-at-top
  set_mode(tf, mode)
  originals = tf.gradients, tf.Session.run
  ops, graphs = [], []
  start, cpu_start = time.perf_counter(), time.process_time()
  if way == "installed":
    install()
  replaced = tf.gradients is not originals[0] and (
      tf.Session.run is not originals[1])

  def report(step, graph):
    del step  # They are told in their order.
    if graph not in graphs:
      graphs.append(graph)
    ops.append((graphs.index(graph), len(graph.get_operations())))

  module = importlib.import_module("tests.integration.legacy." + project)
  results = module.run(report)
  return Outcome(results, ops, replaced, time.perf_counter() - start,
                 time.process_time() - cpu_start)


def audited(project, mode, path):
  """Runs a project as it is in `gf.audit()`; its `Outcome`.

  The report is in the file `path`, as JSON. The times are those of the whole
  block.
  """
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow  # pylint: disable=g-import-not-at-top,unused-import
  start, cpu_start = time.perf_counter(), time.process_time()
  import gradfeed as gf  # pylint: disable=g-import-not-at-top
  with gf.audit() as report:
    outcome = run(project, mode, "plain")
  outcome = outcome._replace(seconds=time.perf_counter() - start,
                             cpu_seconds=time.process_time() - cpu_start)
  with open(path, "w") as file:
    file.write(report.to_json())
  return outcome


def main(project, mode, way, path):
  outcome = (audited(project, mode, path + ".json") if way == "audited" else
             run(project, mode, way))
  with open(path + ".partial", "wb") as file:
    pickle.dump(tuple(outcome), file, protocol=2)
  os.rename(path + ".partial", path)


def read(path):
  """The `Outcome` in a file of `main`."""
  with open(path, "rb") as file:
    return Outcome(*pickle.load(file))


if __name__ == "__main__":
  main(*sys.argv[1:])
