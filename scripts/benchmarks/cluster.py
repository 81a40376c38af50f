"""Shards by workers of one machine, beside one stream with one thread.

Run through `python scripts/benchmark.py cluster --points=100000`. Each worker
is a process with one thread of TensorFlow. What is timed is the steady state: a
shard that finds the model loaded.
"""

import os
import tempfile
import time

import numpy as np

from benchmarks import graphs
from benchmarks import workers
from benchmarks.graphs import gf
from benchmarks.graphs import tf

_SHARDS = 12
_CHUNK = 256
#: Two rectifiers near their kinks in a thousand rows may fall otherwise.
_MOST_OTHER = 2e-3
_TOLERANCE = 1e-4


def cluster(mode, points, rounds, networks):
  """Evaluates shards by one worker and by two.

  Args:
    mode: str, of `workers.MODES`.
    points: int, how many; each is a row of float32.
    rounds: int, how often each way is timed; the median counts.
    networks: list of str, of `workers.NETWORKS`.

  Returns:
    list of dict, a row for each network and way.
  """
  graphs.set_mode(mode)
  rows = []
  for network in networks:
    with tempfile.TemporaryDirectory() as folder:
      _write(folder, network, points)
      ways = {"gf.stream, 1 thread": lambda f=folder: _streamed(f),
              "1 worker": lambda f=folder: _sharded(f, 1),
              "2 workers": lambda f=folder: _sharded(f, 2)}
      rates = {way: [] for way in ways}
      for _ in range(rounds):
        for way, run in ways.items():
          rates[way].append(run())
      one = np.median(rates["1 worker"])
      agrees = _agrees(folder)
      rows.extend({
          "network": network, "way": way, "points a second": float(
              np.median(rates[way])),
          "x 1 worker": float(np.median(rates[way]) / one), "agrees": agrees}
                  for way in ways)
  return rows


def _write(folder, network, points):
  """Writes a network as a frozen graph, and points."""
  sizes = workers.NETWORKS[network]
  draw = np.random.RandomState(0)
  with tf.Graph().as_default() as graph:
    x = y = tf.placeholder(tf.float32, [None, sizes[0]], name="x")
    for i, (rows, columns) in enumerate(zip(sizes, sizes[1:])):
      y = tf.matmul(y if not i else tf.nn.relu(y), tf.constant(draw.normal(
          size=[rows, columns]).astype(np.float32) / rows ** 0.5))
    tf.nn.log_softmax(y, name="y")
    tf.train.write_graph(graph, folder, "model.pb", as_text=False)
  del x
  np.save(os.path.join(folder, "points.npy"), draw.normal(
      size=[points, sizes[0]]).astype(np.float32))


def _streamed(folder):
  """The points that one stream evaluates in a second."""
  config = tf.ConfigProto(
      intra_op_parallelism_threads=1, inter_op_parallelism_threads=1,
      use_per_session_threads=True)
  with gf.load(os.path.join(folder, "model.pb"), config=config) as model:
    y = model.tensor("y:0")[..., 0]
    f = gf.function("x:0", gf.gradient(y, "x:0"))
    source = os.path.join(folder, "points.npy")
    gf.stream(f, np.load(source, mmap_mode="r")[:_CHUNK],
              os.path.join(folder, "warm.npy"), _CHUNK)
    start = time.perf_counter()
    report = gf.stream(f, source, os.path.join(folder, "one.npy"), _CHUNK)
    return report.rows / (time.perf_counter() - start)


def _sharded(folder, count):
  """The points that so many workers evaluate in a second, together."""
  task = gf.shards.StreamShard(
      os.path.join(folder, "model.pb"), "y:0", "x:0",
      os.path.join(folder, "points.npy"), os.path.join(folder, "g.npy"),
      shards=_SHARDS, class_index=0, chunk=_CHUNK)
  for i in range(len(task)):
    for path in task.paths(i):
      for name in (path, path + ".manifest"):
        if os.path.exists(name):
          os.remove(name)
  reports = gf.shards.evaluate(task, count)
  # The first of each worker loads the model, and the last runs alone.
  steady = reports[count:-1]
  return count * float(np.median([
      report.rows / report.seconds for report in steady]))


def _agrees(folder):
  """"yes" where the shards have the rows of the stream."""
  expected = np.load(os.path.join(folder, "one.npy"))
  found = np.concatenate([np.load(os.path.join(
      folder, "g-{:05d}-of-{:05d}.npy".format(i, _SHARDS)))
                          for i in range(_SHARDS)])
  other = abs(found - expected).max(axis=1) > _TOLERANCE
  return "yes" if other.mean() < _MOST_OTHER else "NO"
