"""Time from a network to its first numbers, gradfeed beside the old way.

Each measurement runs in a process of its own: a network is made (or a model
read), a derivative is built, and it is evaluated some times. The old way is
`tf.gradients` and `Session.run`. `benchmark.py first` runs this file and makes
the tables.
"""

import argparse
import collections
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time

import numpy as np

import benchmark_workers

#: How a derivative is built and evaluated.
WAYS = ("session_run", "function", "run")

#: Evaluations that count for the total.
CALLS = 20

#: What one process measures: seconds, and the norm of the last derivative.
Times = collections.namedtuple("Times", ["build", "first", "total", "norm"])

#: Differences of norms between ways that are rounding, as a part of them.
_TOLERANCE = 1e-3

#: A network that is ready to be differentiated: tensors, and values to feed.
Network = collections.namedtuple("Network", ["y", "x", "feed_dict"])


def _weights(tf, *shape):
  """A variable with random values."""
  values = np.random.RandomState(len(shape)).normal(
      0, 1 / np.sqrt(np.prod(shape[:-1])), shape)
  return tf.Variable(values.astype(np.float32))


def moving_averages(tf, layers=40):
  """Layers that update moving averages in one side of a `tf.cond`."""
  from tensorflow.python.training import moving_averages as averages  # pylint: disable=g-import-not-at-top
  x = h = tf.placeholder(tf.float32, [None, 8])
  is_training = tf.placeholder(tf.bool, [])
  for _ in range(layers):
    mean, batch_mean = tf.Variable(tf.zeros([8])), tf.reduce_mean(h, 0)

    def update(mean=mean, batch_mean=batch_mean):
      with tf.control_dependencies([
          averages.assign_moving_average(mean, batch_mean, 0.9)]):
        return tf.identity(batch_mean)

    h = tf.tanh(h - tf.cond(is_training, update,
                            lambda mean=mean: tf.identity(mean)))
  return Network(tf.reduce_sum(h), x,
                 {x: np.ones((4, 8), np.float32), is_training: False})


def _batch_norm(tf, h, fused=True):
  channels = int(h.shape[-1])
  scale, offset, mean, variance = [
      _weights(tf, channels) for _ in range(3)] + [tf.ones([channels])]
  if fused:
    return tf.nn.fused_batch_norm(h, scale, offset, mean, variance,
                                  is_training=False)[0]
  return tf.nn.batch_normalization(h, mean, variance, offset, scale, 1e-3)


def _image(shape):
  return np.random.RandomState(0).uniform(size=shape).astype(np.float32)


def mobilenet(tf):
  """A network in the manner of MobileNet: 13 depthwise-separable blocks."""
  x = tf.placeholder(tf.float32, [None, 96, 96, 3])
  h = tf.nn.conv2d(x, _weights(tf, 3, 3, 3, 16), [1, 2, 2, 1], "SAME")
  channels = 16
  for step, after in zip((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1),
                         (32, 64, 64, 96, 96, 128) + (128,) * 7):
    h = tf.nn.depthwise_conv2d(
        h, _weights(tf, 3, 3, channels, 1), [1, step, step, 1], "SAME")
    h = tf.nn.relu6(_batch_norm(tf, h))
    h = tf.nn.conv2d(h, _weights(tf, 1, 1, channels, after), [1] * 4, "SAME")
    h = tf.nn.relu6(_batch_norm(tf, h))
    channels = after
  logits = tf.matmul(tf.reduce_mean(h, [1, 2]), _weights(tf, channels, 100))
  return Network(tf.nn.softmax(logits)[:, 3], x, {x: _image((1, 96, 96, 3))})


def ds_cnn(tf):
  """A network in the manner of DS-CNN, which spots keywords in speech."""
  x = tf.placeholder(tf.float32, [1, 490])
  h = tf.reshape(x, [-1, 49, 10, 1])
  h = tf.nn.conv2d(h, _weights(tf, 10, 4, 1, 64), [1, 2, 2, 1], "SAME")
  for _ in range(4):
    h = tf.nn.relu(_batch_norm(tf, h, fused=False))
    h = tf.nn.depthwise_conv2d(
        h, _weights(tf, 3, 3, 64, 1), [1, 1, 1, 1], "SAME")
    h = tf.nn.relu(_batch_norm(tf, h, fused=False))
    h = tf.nn.conv2d(h, _weights(tf, 1, 1, 64, 64), [1] * 4, "SAME")
  logits = tf.matmul(tf.reduce_mean(h, [1, 2]), _weights(tf, 64, 12))
  return Network(tf.nn.softmax(logits)[:, 3], x, {x: _image((1, 490))})


def _lstm_step(tf, h, c, row, kernel):
  i, j, f, o = tf.split(tf.matmul(tf.concat([row, h], 1), kernel), 4, 1)
  c = c * tf.sigmoid(f) + tf.sigmoid(i) * tf.tanh(j)
  return tf.tanh(c) * tf.sigmoid(o), c


def unrolled_lstm(tf):
  """Two LSTM layers, unrolled over 28 rows."""
  x = tf.placeholder(tf.float32, [None, 28, 28])
  rows = tf.unstack(x, axis=1)
  for kernel in (_weights(tf, 28 + 64, 256), _weights(tf, 64 + 64, 256)):
    h = c = tf.zeros([tf.shape(x)[0], 64])
    outputs = []
    for row in rows:
      h, c = _lstm_step(tf, h, c, row, kernel)
      outputs.append(h)
    rows = outputs
  return Network(tf.matmul(h, _weights(tf, 64, 10))[:, 3], x,
                 {x: _image((4, 28, 28))})


def loop_lstm(tf):
  """An LSTM layer in a `tf.while_loop`."""
  x = tf.placeholder(tf.float32, [None, 28, 28])
  rows = tf.TensorArray(tf.float32, 28).unstack(tf.transpose(x, [1, 0, 2]))
  kernel = _weights(tf, 28 + 64, 256)
  start = tf.zeros([tf.shape(x)[0], 64])
  start.set_shape([None, 64])
  _, h, _ = tf.while_loop(
      lambda i, h, c: i < 28,
      lambda i, h, c: (i + 1,) + _lstm_step(tf, h, c, rows.read(i), kernel),
      [tf.constant(0), start, start])
  return Network(tf.matmul(h, _weights(tf, 64, 10))[:, 3], x,
                 {x: _image((4, 28, 28))})


def classifier(tf):
  """Three dense layers."""
  x = h = tf.placeholder(tf.float32, [None, 784])
  for before, after in ((784, 128), (128, 128), (128, 10)):
    h = tf.tanh(tf.matmul(h, _weights(tf, before, after)))
  return Network(tf.nn.softmax(h)[:, 3], x, {x: _image((1, 784))})


NETWORKS = {network.__name__: network for network in (
    classifier, moving_averages, mobilenet, ds_cnn, unrolled_lstm, loop_lstm)}


def conjugate_gradient(tf, gf, way, session):
  """Solves with the Hessian of a loss, by a dozen products: `Times`."""
  w = _weights(tf, 400)
  data = tf.constant(np.random.RandomState(1).normal(
      size=(200, 400)).astype(np.float32))
  loss = tf.reduce_mean(tf.nn.softplus(tf.linalg.matvec(data, w))) + (
      tf.reduce_sum(w ** 2) / 20)
  v = tf.placeholder(tf.float32, [400])
  session.run(tf.global_variables_initializer())
  start = time.perf_counter()
  if way == "session_run":
    g = tf.gradients(loss, w)[0]
    product = tf.gradients(tf.reduce_sum(g * v), w)[0]
  else:
    g, product = gf.gradient(loss, w), gf.hvp(loss, w, v)
  gradient = _evaluator(gf, way, session, [g], [])
  times = _evaluator(gf, way, session, [product], [v])
  build = time.perf_counter() - start
  residual = direction = -gradient()[0]
  solution, first = 0, None
  for _ in range(12):
    curved = times(direction)[0]
    first = first or time.perf_counter() - start
    step = residual.dot(residual) / direction.dot(curved)
    solution = solution + step * direction
    after = residual - step * curved
    direction = after + direction * after.dot(after) / residual.dot(residual)
    residual = after
  return Times(build, first, time.perf_counter() - start, _norm(curved))


def lbfgs(tf, gf, way, session):
  """Evaluates a loss and its gradient at 37 points: `Times`."""
  network = classifier(tf)
  labels = tf.one_hot([3], 10)
  loss = tf.reduce_sum((network.y[:, None] - labels) ** 2)
  session.run(tf.global_variables_initializer())
  start = time.perf_counter()
  g = (tf.gradients(loss, network.x)[0] if way == "session_run" else
       gf.gradient(loss, network.x))
  evaluate = _evaluator(gf, way, session, [loss, g], [network.x])
  build = time.perf_counter() - start
  point, first = network.feed_dict[network.x], None
  for _ in range(37):
    _, slope = evaluate(point)
    first = first or time.perf_counter() - start
    point = point - 0.1 * slope
  return Times(build, first, time.perf_counter() - start, _norm(slope))


LOOPS = {loop.__name__: loop for loop in (conjugate_gradient, lbfgs)}


def _norm(array):
  return float(np.linalg.norm(np.asarray(array, np.float64)))


def _evaluator(gf, way, session, fetches, inputs, held=None):
  """A function from the values of `inputs` to those of `fetches`."""
  if way == "function":
    return gf.function(list(inputs), fetches, session, feed_dict=held)
  run = session.run if way == "session_run" else (
      lambda *arguments: gf.run(session, *arguments))
  held = list((held or {}).items())
  return lambda *values: run(fetches, dict(list(zip(inputs, values)) + held))


def _derivative(tf, gf, way, session, network):
  """Builds and evaluates the gradient of a network: `Times`."""
  start = time.perf_counter()
  dx = (tf.gradients(network.y, network.x)[0] if way == "session_run" else
        gf.gradient(network.y, network.x))
  held = dict(network.feed_dict)
  value = held.pop(network.x)
  evaluate = _evaluator(
      gf, way, session, [network.y, dx], [network.x], held)
  build = time.perf_counter() - start
  first = None
  for _ in range(CALLS):
    _, result = evaluate(value)
    first = first or time.perf_counter() - start
  return Times(build, first, time.perf_counter() - start, _norm(result))


def models(folder):
  """The models in the folders of `folder` that have a META.md.

  It says, after a line `## name`: `loader: pb FILE`, `meta PREFIX` or
  `sm FOLDER` with `tags=`, `x: NAME dtype[shape]`, `y: NAME`, and
  `extra feeds:` as JSON. Loops that TensorFlow cannot differentiate as they
  are read are left out.

  Returns:
    dict from the name of each to a dict of these.
  """
  found = {}
  for name in sorted(os.listdir(folder)):
    try:
      with open(os.path.join(folder, name, "META.md")) as file:
        sections = re.split(r"(?m)^## ", file.read())[1:]
    except OSError:
      continue
    for section in sections:
      title, _, text = section.partition("\n")
      lines = dict(re.findall(r"(?m)^([a-z\- ]+): (.*)$", text))
      if lines["needs while-context repair"] == "False":
        found[title] = dict(lines, folder=os.path.join(folder, name))
  return found


def _read_model(tf, session, model):
  """Reads a model of `models` into the default graph: `Network`."""
  kind, *path = model["loader"].split(" tags=")[0].split()
  path = os.path.join(model["folder"], *path)
  if kind == "pb":
    graph_def = tf.GraphDef()
    with open(path, "rb") as file:
      graph_def.ParseFromString(file.read())
    tf.import_graph_def(graph_def, name="")
  elif kind == "meta":
    tf.train.import_meta_graph(path + ".meta", clear_devices=True).restore(
        session, path)
  else:
    tags = re.findall(r"'(\w+)'", model["loader"])
    tf.saved_model.load(session, tags or ["serve"], path)
  graph = tf.get_default_graph()
  x, y = [graph.get_tensor_by_name(model[key].split()[0]) for key in "xy"]
  shape = [int(size) for size in re.findall(
      r"\d+", model["x"].split("[")[1].split("]")[0])]
  column = re.search(r"\[\.\.\., (\d+)\]", model["y"])
  extra = model["extra feeds"]
  feed_dict = {graph.get_tensor_by_name(name): value for name, value in (
      {} if extra == "none" else json.loads(extra)).items()}
  feed_dict[x] = np.random.RandomState(0).uniform(size=shape).astype(
      x.dtype.as_numpy_dtype)
  return Network(y[..., int(column.group(1))] if column else y, x, feed_dict)


def measure(name, way, mode, folder):
  """One measurement in this process: `Times`."""
  import tensorflow.compat.v1 as tf  # pylint: disable=g-import-not-at-top
  if tf.VERSION.startswith("2"):
    benchmark_workers.set_mode(tf, mode)
  gf = benchmark_workers.import_gradfeed()
  with tf.Graph().as_default(), tf.Session() as session:
    if name in LOOPS:
      return LOOPS[name](tf, gf, way, session)
    if name in NETWORKS:
      network = NETWORKS[name](tf)
      session.run(tf.global_variables_initializer())
    else:
      network = _read_model(tf, session, models(folder)[name])
      session.run(tf.constant(0.0))
    return _derivative(tf, gf, way, session, network)


def _measured(name, way, mode, folder):
  """`measure` in a process of its own."""
  done = subprocess.run(
      [sys.executable, os.path.abspath(__file__), name, way, "--mode=" + mode,
       "--folder=" + (folder or "")], stdout=subprocess.PIPE,
      stderr=subprocess.PIPE)
  if done.returncode:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    raise OSError("{} by {}: {}".format(name, way, " ".join(lines[-3:])))
  return Times(*json.loads(done.stdout.decode().splitlines()[-1]))


def rows(names, rounds, mode, folder):
  """Measures in random order, round after round.

  Args:
    names: list of networks, loops and models; [] for all that there are.
    rounds: int.
    mode: str, of `benchmark_workers.MODES`.
    folder: str, of `models`, or None.

  Yields:
    A dict for each name and each of `WAYS`: medians in milliseconds, the median
    of the ratios of the totals within the rounds, and whether the last
    derivative is that of the old way.
  """
  known = list(NETWORKS) + list(LOOPS) + (
      list(models(folder)) if folder else [])
  for name in [name for name in known if not names or name in names]:
    measured = {way: [] for way in WAYS}
    for _ in range(rounds):
      for way in random.sample(WAYS, len(WAYS)):
        measured[way].append(_measured(name, way, mode, folder))
    for way in WAYS:
      build, first, total, norm = map(statistics.median, zip(*measured[way]))
      expected = measured["session_run"][0].norm
      yield {"network": name, "way": way, "build ms": 1e3 * build,
             "first number ms": 1e3 * first, "total ms": 1e3 * total,
             "total x session_run": statistics.median(
                 own.total / old.total for own, old in zip(
                     measured[way], measured["session_run"])),
             "agrees": "yes" if abs(norm - expected) <= (
                 _TOLERANCE * expected) else "NO"}


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("name")
  parser.add_argument("way", choices=WAYS)
  parser.add_argument("--mode", choices=benchmark_workers.MODES, default="v1")
  parser.add_argument("--folder", default=None)
  values = parser.parse_args()
  print(json.dumps(measure(values.name, values.way, values.mode,
                           values.folder)))


if __name__ == "__main__":
  main()
