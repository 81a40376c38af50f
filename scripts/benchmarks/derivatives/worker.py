"""One way to Jacobians, Hessians and the rest, in a process of its own.

Run through `python scripts/benchmark.py derivatives`, which starts it once for
each library, as it does `benchmarks.workers` for `calls`.
"""

import collections
import time

import numpy as np

from benchmarks import workers
from benchmarks.derivatives import graphs
from benchmarks.derivatives import tasks
from benchmarks.derivatives import transformations

#: The libraries by name; the first is what the others are held against.
LIBRARIES = collections.OrderedDict([
    ("gradfeed", graphs.Gradfeed),
    ("session_run", graphs.SessionRun),
    ("parallel_for", graphs.ParallelFor),
    ("jax", transformations.Jax),
    ("torch", transformations.Torch),
])


class Worker(workers.Worker):
  """Answers what the parent asks about derivatives."""

  def build(self, name, shrink, whole, seed):
    """Builds a task in a new graph, and calls it once.

    Returns:
      dict with what that took; no number of ops where there is no graph.

    Raises:
      Unavailable: the library has no such way here.
    """
    task, library = tasks.tasks(
        shrink, whole)[name], self._library
    derive = getattr(library, task.verb, None)
    if derive is None:
      raise workers.Unavailable("it has no way of its own")
    model, points = library.model(task, seed), task.points(seed)
    ops, clocks = library.ops(model), [time.perf_counter()]
    if ops is None:
      call = derive(model)
    else:
      with model.session.graph.as_default():
        call = derive(model)
    clocks.append(time.perf_counter())
    workers.arrays_of(call(*points[0]))
    clocks.append(time.perf_counter())
    self._built[name, shrink, whole, seed] = call, points
    build, first = np.diff(clocks).tolist()
    return {"build s": build, "first call s": first,
            "ops added": None if ops is None else library.ops(model) - ops}


def main():
  workers.serve(LIBRARIES, Worker)
