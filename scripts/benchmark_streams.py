"""Points from a file through a small network to a file.

Run through `python scripts/benchmark.py streaming --points=1000000`.
"""

import os
import tempfile
import time

import numpy as np

import benchmark_graphs
import benchmark_workers
from benchmark_graphs import gf
from benchmark_graphs import tf

_WIDTH = 784
_AT_ONCE = 4096
#: By hand is so slow that a part of the points has to do.
_PART = 10


def streaming(mode, points, rounds):
  """Streams points, beside loops over `Session.run`.

  Args:
    mode: str, "v1" or "v2".
    points: int, how many; each is a row of 784 float32.
    rounds: int, how often each way is timed; the median counts.

  Returns:
    list of dict, a row for each way.
  """
  benchmark_graphs.set_mode(mode)
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "points.npy")
    _write(path, points)
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [None, _WIDTH])
      dx = gf.gradient(_network(x), x)
      ways = {
          "gradfeed.stream, chunk=256": lambda: _streamed(x, dx, folder, 256),
          "gradfeed.stream, chunk=1024": lambda: _streamed(x, dx, folder, 1024),
          "Session.run, 32 points": lambda: _looped(
              session, x, dx, folder, 32, points // _PART),
          "Session.run, 1 point": lambda: _looped(
              session, x, dx, folder, 1, points // _PART // 10),
      }
      for way in ways.values():  # What is done once is not counted.
        way()
      measured = {name: [] for name in ways}
      for _ in range(rounds):
        for name, way in ways.items():
          measured[name].append(way())
      inside = {chunk: np.median([_evaluated(x, dx, chunk, points)
                                  for _ in range(rounds)])
                for chunk in (256, 1024)}
  return [_row(name, runs, points, inside) for name, runs in measured.items()]


def _row(name, runs, points, inside):
  rates, growths = zip(*runs)
  rate = float(np.median(rates))
  chunk = int(name.rpartition("=")[2]) if "=" in name else None
  return {"way": name, "points/s": rate,
          "memory MB": float(np.median(growths)) / 2 ** 20,
          "outside of TensorFlow": None if chunk is None else
          "{:.0%}".format(1.0 - inside[chunk] * rate / points)}


def _write(path, points):
  """A file of random points, written a part at a time."""
  random = np.random.RandomState(0)
  with open(path, "wb") as output:
    np.lib.format.write_array_header_1_0(output, {
        "descr": "<f4", "fortran_order": False, "shape": (points, _WIDTH)})
    for start in range(0, points, _AT_ONCE):
      output.write(random.random_sample(
          [min(_AT_ONCE, points - start), _WIDTH]).astype("<f4").tobytes())


def _network(x):
  random = np.random.RandomState(1)
  layers = [tf.constant(random.normal(size=shape) / 28.0, tf.float32)
            for shape in ([_WIDTH, 128], [128, 128], [128, 10])]
  hidden = tf.tanh(tf.matmul(tf.tanh(tf.matmul(x, layers[0])), layers[1]))
  return tf.matmul(hidden, layers[2])[:, 3]


def _streamed(x, dx, folder, chunk):
  """(points in a second, bytes that the process grew by meanwhile)."""
  f = gf.function(x, dx)
  before, start = benchmark_workers.memory()[0], time.perf_counter()
  largest = [before or 0]
  report = gf.stream(
      f, os.path.join(folder, "points.npy"), os.path.join(folder, "out.npy"),
      chunk=chunk, progress=lambda *unused: largest.append(
          benchmark_workers.memory()[0] or 0))
  seconds = time.perf_counter() - start
  return report.rows / seconds, max(largest) - (before or 0)


def _looped(session, x, dx, folder, size, points):
  """The same for a loop over `Session.run`, into an array of the results."""
  mapped = np.load(os.path.join(folder, "points.npy"), mmap_mode="r")[:points]
  before, start = benchmark_workers.memory()[0], time.perf_counter()
  results = [session.run(dx, {x: mapped[i:i + size]})
             for i in range(0, points, size)]
  np.save(os.path.join(folder, "looped.npy"), np.concatenate(results))
  seconds = time.perf_counter() - start
  return points / seconds, (benchmark_workers.memory()[0] or 0) - (before or 0)


def _evaluated(x, dx, chunk, points):
  """Seconds for so many points that are in memory, by the callable alone."""
  f = gf.function(x, dx)
  part = np.random.RandomState(2).random_sample(
      [chunk, _WIDTH]).astype(np.float32)
  f(part)
  start = time.perf_counter()
  for _ in range(0, points, chunk):
    f(part)
  return time.perf_counter() - start
