"""Interrupts streams at random moments, and counts how they end.

  python scripts/interrupt_streams.py --runs=200

A run streams a function at every row of a file into a file. It is cut off
again and again, by a kill or by files that may not grow any more (what a full
disk does), at a moment or a size that is drawn; the call after the last
interruption is left alone. The same seed draws the same interruptions.

Every stream should end with each row once, at its place, and nothing beside its
result; a full disk should be a StreamError. The status is 1 if not.
"""

import collections
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time

from absl import app
from absl import flags
import numpy as np
from tensorflow.core.framework import tensor_pb2

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# pylint: disable=wrong-import-position
import gradfeed as gf
from gradfeed._tf import tf

_RUNS = flags.DEFINE_integer("runs", 200, "How many streams.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "What interruptions are drawn from.")
_ROWS = flags.DEFINE_integer("rows", 4000, "Rows of points.", lower_bound=100)
_MOST = flags.DEFINE_integer(
    "most", 4, "Interruptions of one stream, at most.", lower_bound=1)
_SECONDS = flags.DEFINE_integer(
    "seconds", 60, "How long a call may take.", lower_bound=1)

RESULTS = (".npy", ".npz", ".csv", ".tfrecord")
POINTS = (".npy", ".npz", ".csv", ".tfrecord")
KINDS = ("kill", "full disk")

#: How a call in a process of its own ends, by the status of the process.
ENDS = ("done", "StreamError", "another error of gradfeed", "another error")


def write_points(folder, points):
  """Writes `points`, a float64 array [rows, 2], in each format; their paths."""
  paths = [os.path.join(folder, "points" + suffix) for suffix in POINTS]
  np.save(paths[0], points)
  np.savez(paths[1], x=points)
  np.savetxt(paths[2], points, delimiter=",", header="x[0],x[1]", comments="")
  with tf.io.TFRecordWriter(paths[3]) as writer:
    for row in points.astype(np.float32):
      feature = tf.train.Feature(float_list=tf.train.FloatList(value=row))
      writer.write(tf.train.Example(features=tf.train.Features(
          feature={"x": feature})).SerializeToString())
  return dict(zip(POINTS, paths))


def read_results(path):
  """The float64 array [rows, 2] in a file of results of any format."""
  if path.endswith(".npy"):
    return np.load(path)
  if path.endswith(".npz"):
    with np.load(path) as archive:
      return archive[archive.files[0]]
  if path.endswith(".csv"):
    with open(path) as lines:
      skipped = int(not lines.readline()[:1].isdigit())
    return np.loadtxt(path, delimiter=",", skiprows=skipped)
  rows = []
  for record in _records(path):
    feature, = tf.train.Example.FromString(record).features.feature.values()
    rows.append(tf.make_ndarray(
        tensor_pb2.TensorProto.FromString(feature.bytes_list.value[0])))
  return np.array(rows)


def _records(path):
  """Yields the bytes of each record of a TFRecord file."""
  with open(path, "rb") as file:
    while True:
      head = file.read(12)
      if not head:
        return
      yield file.read(int.from_bytes(head[:8], "little"))
      file.read(4)


def call(points, out, most_bytes):
  """Streams in a process of its own, which is a fork of this one.

  Args:
    points, out: str, paths.
    most_bytes: int, how large a file may become; None for any size.

  Returns:
    int, the process.
  """
  process = os.fork()
  if process:
    return process
  status = 3
  try:
    if most_bytes is not None:
      signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
      resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, -1))
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [None, 2], name="x")
      f = gf.function(x, gf.gradient(x ** 3, x), session)
      gf.stream(f, points, out, chunk=50)
    status = 0
  except gf.StreamError:
    status = 1
  except gf.GradfeedError as error:
    status = 2
    print(error, flush=True)
  except BaseException as error:  # pylint: disable=broad-except
    print("{}: {}".format(type(error).__name__, error), flush=True)
  finally:
    os._exit(status)  # pylint: disable=protected-access


def wait(process, seconds):
  """How a process ends; it is killed after `seconds`.

  Returns:
    str, of `ENDS`, "killed" or "crash".
  """
  end = time.time() + seconds
  while time.time() < end:
    done, status = os.waitpid(process, os.WNOHANG)
    if done:
      return ENDS[os.WEXITSTATUS(status)] if os.WIFEXITED(status) else "crash"
    time.sleep(0.002)
  os.kill(process, signal.SIGKILL)
  os.waitpid(process, 0)
  return "killed"


def run(draw, points, expected, folder, full_time):
  """One stream with its interruptions.

  Args:
    draw: `random.Random`.
    points: dict from format to path.
    expected: float64 array, the rows of the result.
    folder: str, an empty folder for the result.
    full_time: float, the seconds that a stream takes.

  Returns:
    (str, how it ended, "whole" if all is right; Counter of the ends of the
    calls that were interrupted).
  """
  source, suffix = draw.choice(POINTS), draw.choice(RESULTS)
  kind, counts = draw.choice(KINDS), collections.Counter()
  out = os.path.join(folder, "out" + suffix)
  about = "{} -> {}, {}".format(source, suffix, kind)
  for _ in range(draw.randrange(1, _MOST.value + 1)):
    if kind == "kill":
      process = call(points[source], out, None)
      end = wait(process, draw.uniform(0.0, full_time))
    else:
      size = draw.randrange(1, expected.nbytes * 2)
      end = wait(call(points[source], out, size), _SECONDS.value)
    counts["{}: {}".format(kind, end)] += 1
    if end not in ("done", "killed", "StreamError") or (
        kind == "full disk" and end == "killed"):
      return "{}: {}".format(about, end), counts
    if os.path.exists(out):  # Killed after the last row: it has to be whole.
      break
  if os.path.exists(out) and not _is_right(out, expected):
    return about + ": wrong rows", counts
  end = wait(call(points[source], out, None), _SECONDS.value)
  if end != "done":
    return "{}: {} at last".format(about, end), counts
  if not _is_right(out, expected):
    return about + ": wrong rows", counts
  left = sorted(set(os.listdir(folder)) - {os.path.basename(out)})
  return about + ": left " + ", ".join(left) if left else "whole", counts


def _is_right(path, expected):
  """Whether a file of results has the rows `expected`, in this order."""
  rows = read_results(path)
  return rows.shape == expected.shape and np.allclose(
      rows, expected, 1e-5, 1e-6)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError("not a flag: {}".format(" ".join(argv[1:])))
  draw = random.Random(_SEED.value)
  values = np.random.RandomState(_SEED.value).normal(size=[_ROWS.value, 2])
  values = values.astype(np.float32).astype(np.float64)
  folder = tempfile.mkdtemp()
  try:
    points = write_points(folder, values)
    started = time.time()
    wait(call(points[".csv"], os.path.join(folder, "timed.npy"), None), 600)
    full_time = time.time() - started
    results, ends = collections.Counter(), collections.Counter()
    for i in range(_RUNS.value):
      place = os.path.join(folder, str(i))
      os.mkdir(place)
      result, counts = run(draw, points, 3.0 * values ** 2, place, full_time)
      results[result] += 1
      ends.update(counts)
      if result != "whole":
        print("run {}: {}".format(i, result), flush=True)
      shutil.rmtree(place)
  finally:
    shutil.rmtree(folder)
  for name, count in sorted(ends.items()):
    print("{:>6} interrupted calls, {}".format(count, name))
  for name, count in sorted(results.items()):
    print("{:>6} streams, {}".format(count, name))
  return 1 if set(results) - {"whole"} else 0


if __name__ == "__main__":
  if hasattr(tf, "disable_eager_execution"):
    tf.disable_eager_execution()
  app.run(main)
