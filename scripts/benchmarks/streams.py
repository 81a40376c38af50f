"""Points from a file through a small network to a file.

Run through `python scripts/benchmark.py streaming --points=1000000`.
"""

import functools
import glob
import os
import tempfile
import time

import numpy as np

from benchmarks import graphs
from benchmarks import workers
from benchmarks.graphs import gf
from benchmarks.graphs import tf
from gradfeed.streaming import rebatching

_WIDTH = 784
_AT_ONCE = 4096
#: By hand is so slow that a part of the points has to do.
_PART = 10
#: Row by row a hundredth of the points has to do.
_FEW = 100
_CHUNK = 256


def streaming(mode, points, rounds):
  """Streams points, beside loops over `Session.run`.

  Args:
    mode: str, of `workers.MODES`.
    points: int, how many; each is a row of 784 float32.
    rounds: int, how often each way is timed; the median counts.

  Returns:
    list of dict, a row for each way.
  """
  graphs.set_mode(mode)
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
  return [_row(name, runs) for name, runs in measured.items()]


def _row(name, runs):
  rates, growths, outside = zip(*runs)
  return {"way": name, "points/s": float(np.median(rates)),
          "memory MB": float(np.median(growths)) / 2 ** 20,
          "outside of TensorFlow": "{:.0%}".format(np.median(outside))}


class _Timed(gf.Function):
  """Counts the seconds in which it is evaluated."""

  def __init__(self, x, dx):
    super().__init__(x, dx, None, None, (), None, None)
    self.seconds = 0.0

  def __call__(self, *values, feed_dict=None):
    start = time.perf_counter()
    try:
      return super().__call__(*values, feed_dict=feed_dict)
    finally:
      self.seconds += time.perf_counter() - start


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


def _streamed(x, dx, folder, chunk, points="points.npy", out="out.npy"):
  """(points in a second, bytes that the process grew by, share of the time in
  which nothing was evaluated). Memory is looked at in a run of its own.
  """
  f = _Timed(x, dx)
  points, out = os.path.join(folder, points), os.path.join(folder, out)
  before = workers.memory()[0] or 0
  largest = [before]
  gf.stream(f, points, out, chunk=chunk, progress=lambda *unused: (
      largest.append(workers.memory()[0] or 0)))
  for path in glob.glob(os.path.splitext(out)[0] + "*"):
    os.remove(path)  # To delete gigabytes takes its time as well.
  f.seconds, start = 0.0, time.perf_counter()
  report = gf.stream(f, points, out, chunk=chunk)
  seconds = time.perf_counter() - start
  return (report.rows / seconds, max(largest) - before,
          1.0 - f.seconds / seconds)


def formats(mode, points, rounds):
  """Streams points from each format to .npy, and from .npy to each format.

  Args:
    mode, rounds: as for `streaming`.
    points: int, as for `streaming`; a part of them has to do.

  Returns:
    list of dict, a row for each format; and for pandas and pyarrow, where they
    are installed, one with the points in a second that they read of the CSV
    file without doing anything with them.
  """
  graphs.set_mode(mode)
  points = max(1000, points // _PART)
  with tempfile.TemporaryDirectory() as folder:
    _write(os.path.join(folder, "points.npy"), points)
    _write_other_formats(folder)
    with tf.Graph().as_default(), tf.Session():
      x = tf.placeholder(tf.float32, [None, _WIDTH])
      dx = gf.gradient(_network(x), x)
      ways = {}
      for ending in (".npy", ".npz", ".tfrecord", ".csv"):
        ways["from " + ending] = functools.partial(
            _streamed, x, dx, folder, 1024, points="points" + ending)
      for ending in (".npz", ".tfrecord", ".csv"):
        ways["to " + ending] = functools.partial(
            _streamed, x, dx, folder, 1024, out="out" + ending)
      measured = {name: [] for name in ways}
      for _ in range(rounds):
        for name, way in ways.items():
          measured[name].append(way())
    rows = [_row(name, runs) for name, runs in measured.items()]
    return rows + _others_alone(os.path.join(folder, "points.csv"), rounds)


def _write_other_formats(folder):
  """Writes the rows of points.npy in the other formats."""
  path = os.path.join(folder, "points")
  points = np.load(path + ".npy")
  np.savez(path + ".npz", x=points)
  with tf.io.TFRecordWriter(path + ".tfrecord") as writer:
    for row in points:
      writer.write(tf.train.Example(features=tf.train.Features(feature={
          "x": tf.train.Feature(float_list=tf.train.FloatList(
              value=row.tolist()))})).SerializeToString())
  with open(path + ".csv", "w") as output:
    for row in points:
      output.write(",".join(map("{:.9g}".format, row)) + "\n")


def _others_alone(path, rounds):
  """Rows for the libraries that read a CSV file, where they are installed."""
  def with_pandas():
    import pandas  # pylint: disable=g-import-not-at-top
    return len(pandas.read_csv(path, header=None, dtype=np.float32))

  def with_pyarrow():
    from pyarrow import csv  # pylint: disable=g-import-not-at-top
    table = csv.read_csv(path, read_options=csv.ReadOptions(
        autogenerate_column_names=True))
    return len(np.stack([column.to_numpy().astype(np.float32)
                         for column in table.columns], 1))

  rows = []
  for name, read in (("pandas.read_csv alone", with_pandas),
                     ("pyarrow.csv.read_csv alone", with_pyarrow)):
    try:
      read()
    except ImportError:
      continue
    rates = []
    for _ in range(rounds):
      start = time.perf_counter()
      rates.append(read() / (time.perf_counter() - start))
    rows.append({"way": name, "points/s": float(np.median(rates)),
                 "memory MB": "", "outside of TensorFlow": ""})
  return rows


def _looped(session, x, dx, folder, size, points):
  """The same for a loop over `Session.run`, into an array of the results."""
  mapped = np.load(os.path.join(folder, "points.npy"), mmap_mode="r")[:points]
  before, start = workers.memory()[0], time.perf_counter()
  results = [session.run(dx, {x: mapped[i:i + size]})
             for i in range(0, points, size)]
  evaluated = time.perf_counter() - start
  np.save(os.path.join(folder, "looped.npy"), np.concatenate(results))
  seconds = time.perf_counter() - start
  return (points / seconds,
          (workers.memory()[0] or 0) - (before or 0),
          1.0 - evaluated / seconds)


def batches_of_one(mode, points, rounds):
  """Points through networks whose batch is fixed to 1, in four ways.

  Args:
    mode: str, of `workers.MODES`.
    points: int, as for `streaming`.
    rounds: int, how often each way is timed; the median counts.

  Returns:
    list of dict, a row for each network: points in a second by a loop over
    `Session.run`, by a loop over the function, by the function from several
    threads, and by a function of many rows that is made of it.
  """
  graphs.set_mode(mode)
  points = max(_CHUNK, points // _FEW // _CHUNK * _CHUNK)
  rows = np.random.RandomState(3).random_sample(
      [points, _WIDTH]).astype(np.float32)
  return [_of_one(name, network, rows, rounds) for name, network in (
      ("softmax regression", _regression), ("MLP 512, 512", _perceptron),
      ("CNN", _convolutions))]


def _of_one(name, network, rows, rounds):
  with tf.Graph().as_default(), tf.Session() as session:
    x = tf.placeholder(tf.float32, [1, _WIDTH])
    dx = gf.gradient(network(x), x)
    session.run(tf.global_variables_initializer())
    f = gf.function(x, dx)
    many = rebatching.rebatched(f, [rows[:8]])
    alone = [rows[i:i + 1] for i in range(len(rows))]
    chunks = [rows[i:i + _CHUNK] for i in range(0, len(rows), _CHUNK)]
    ways = {
        "Session.run": lambda: [session.run(dx, {x: row}) for row in alone],
        "function": lambda: [f(row) for row in alone],
        "threads": lambda: rebatching.one_by_one(
            f, [(row,) for row in alone]),
        "rows at once": lambda: [many(chunk) for chunk in chunks],
    }
    results = {way: np.concatenate(run()) for way, run in ways.items()}
    for way, result in results.items():
      # Rounding may tip the scales of a relu or of a maximum, once in a while.
      close = np.isclose(result, results["Session.run"], 1e-3, 1e-5)
      assert close.mean() > 0.99, way
    rates = {way: [] for way in ways}
    for _ in range(rounds):
      for way, run in ways.items():
        start = time.perf_counter()
        run()
        rates[way].append(len(rows) / (time.perf_counter() - start))
  row = {"network": name}
  row.update((way + ", points/s", float(np.median(measured)))
             for way, measured in rates.items())
  return row


def _weights(*shape):
  scale = np.prod(shape[:-1]) ** -0.5
  return tf.Variable(np.random.RandomState(4).normal(
      scale=scale, size=shape).astype(np.float32))


def _regression(x):
  return tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=[3], logits=tf.matmul(x, _weights(_WIDTH, 10)))


def _perceptron(x):
  hidden = tf.nn.relu(tf.matmul(x, _weights(_WIDTH, 512)))
  hidden = tf.nn.relu(tf.matmul(hidden, _weights(512, 512)))
  return tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=[3], logits=tf.matmul(hidden, _weights(512, 10)))


def _convolutions(x):
  image = tf.reshape(x, [1, 28, 28, 1])
  for filters in (_weights(5, 5, 1, 16), _weights(5, 5, 16, 32)):
    image = tf.nn.relu(tf.nn.conv2d(image, filters, [1, 1, 1, 1], "SAME"))
    image = tf.nn.max_pool(image, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
  logits = tf.matmul(tf.reshape(image, [1, -1]), _weights(7 * 7 * 32, 10))
  return tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=[3], logits=logits)
