"""Time from a network to its first numbers, gradfeed beside the old way.

Each measurement runs in a process of its own: a network is made (or a model
read), a derivative is built, and it is evaluated some times. The old way is
`tf.gradients` and `Session.run`. `benchmark.py first` starts these processes
and makes the tables.
"""

import argparse
import collections
import json
import random
import statistics
import subprocess
import sys
import time

import numpy as np

import benchmarks
from benchmarks import networks
from benchmarks import workers

#: How a derivative is built and evaluated.
WAYS = ("session_run", "function", "run")

#: Evaluations that count for the total.
CALLS = 20

#: What one process measures: seconds, and the norm of the last derivative.
Times = collections.namedtuple("Times", ["build", "first", "total", "norm"])

#: Differences of norms between ways that are rounding, as a part of them.
_TOLERANCE = 1e-3


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
  return networks.Network(
      tf.reduce_sum(h), x,
      {x: np.ones((4, 8), np.float32), is_training: False})


#: Made here or in networks; ds_cnn has a batch that is fixed to 1.
NETWORKS = {
    "classifier": lambda tf: networks.made(tf, "classifier", 1),
    "moving_averages": moving_averages,
    "mobilenet": lambda tf: networks.made(tf, "mobilenet", 1),
    "ds_cnn": lambda tf: networks.made(tf, "ds_cnn", 1, rows=1),
    "unrolled_lstm": lambda tf: networks.made(
        tf, "unrolled_lstm", 4),
    "loop_lstm": lambda tf: networks.made(tf, "loop_lstm", 4),
}


def conjugate_gradient(tf, gf, way, session):
  """Solves with the Hessian of a loss, by a dozen products: `Times`."""
  w = tf.Variable(networks.Weights()(400))
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
  network = NETWORKS["classifier"](tf)
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


def measure(name, way, mode, folder):
  """One measurement in this process: `Times`."""
  import tensorflow.compat.v1 as tf  # pylint: disable=g-import-not-at-top
  if tf.VERSION.startswith("2"):
    workers.set_mode(tf, mode)
  gf = workers.import_gradfeed()
  with tf.Graph().as_default(), tf.Session() as session:
    if name in LOOPS:
      return LOOPS[name](tf, gf, way, session)
    if name in NETWORKS:
      network = NETWORKS[name](tf)
      session.run(tf.global_variables_initializer())
    else:
      network = networks.read(
          tf, session, networks.models(folder)[name])
      session.run(tf.constant(0.0))
    return _derivative(tf, gf, way, session, network)


def _measured(name, way, mode, folder):
  """`measure` in a process of its own."""
  done = subprocess.run(
      benchmarks.command(sys.executable, __name__, name, way, "--mode=" + mode,
                         "--folder=" + (folder or "")),
      stdout=subprocess.PIPE, stderr=subprocess.PIPE)
  if done.returncode:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    raise OSError("{} by {}: {}".format(name, way, " ".join(lines[-3:])))
  return Times(*json.loads(done.stdout.decode().splitlines()[-1]))


def rows(names, rounds, mode, folder):
  """Measures in random order, round after round.

  Args:
    names: list of networks, loops and models; [] for all that there are.
    rounds: int.
    mode: str, of `workers.MODES`.
    folder: str, of `networks.models`, or None.

  Yields:
    A dict for each name and each of `WAYS`: medians in milliseconds, the median
    of the ratios of the totals within the rounds, and whether the last
    derivative is that of the old way.
  """
  known = list(NETWORKS) + list(LOOPS) + (
      list(networks.models(folder)) if folder else [])
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
  parser.add_argument("--mode", choices=workers.MODES, default="v1")
  parser.add_argument("--folder", default=None)
  values = parser.parse_args()
  print(json.dumps(measure(values.name, values.way, values.mode,
                           values.folder)))
