"""Times a piece of a legacy graph as a function and as a TF 2 module.

Run through `python scripts/benchmark.py modules`.
"""

import functools
import os
import time

import numpy as np

from benchmarks import workers

# pylint: disable=g-import-not-at-top, wrong-import-position
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow.compat.v1 as tf

import gradfeed as gf

#: Differences from Session.run, as a part of the gradient's largest element.
_TOLERANCE = 1e-4


def modules(batches, networks, rounds, seconds, seed):
  """Times value and gradient of each network, in random order in each round.

  Args:
    batches: list of int, rows of x.
    networks: list of str, of `workers.NETWORKS`.
    rounds: int.
    seconds: float, for each way and batch, all rounds together.
    seed: int, of weights, points and order.

  Returns:
    list of dict, a row for each network, batch and way.
  """
  rows, order = [], np.random.RandomState(seed)
  for network in networks:
    sizes = workers.NETWORKS[network]
    ways = _ways(sizes, seed)
    for batch in batches:
      point = workers.points_of(sizes, batch, seed)[0]
      rows += _timed(network, batch, {
          name: functools.partial(call, *convert(*point))
          for name, (call, convert) in ways.items()}, rounds, seconds, order)
  return rows


def _ways(sizes, seed):
  """What computes the cross entropy of a network and its gradient by x.

  Returns:
    dict from a name to (function, function from the arrays to its arguments).
  """
  with tf.Graph().as_default() as graph:
    x = tf.placeholder(tf.float32, [None, sizes[0]], name="x")
    labels = tf.placeholder(tf.float32, [None, sizes[-1]], name="labels")
    h, layers = x, workers.weights_of(sizes, seed)
    for i, (matrix, bias) in enumerate(layers):
      h = tf.matmul(h, tf.Variable(matrix)) + tf.Variable(bias)
      h = tf.nn.relu(h) if i + 1 < len(layers) else h
    loss = tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=labels, logits=h))
    by_x = tf.gradients(loss, x)[0]
    session = tf.Session(graph=graph)
    session.run(tf.global_variables_initializer())
    f = gf.function([x, labels], gf.value_and_gradient(loss, x), session)
  module = gf.to_module(f)
  traced = tf.function(lambda x_t, y_t: module(x_t, y_t))

  def by_tape(x_t, y_t):
    with tf.GradientTape() as tape:
      tape.watch(x_t)
      y = module.value(x_t, y_t)
    return y, tape.gradient(y, x_t)

  arrays = lambda *values: values
  eager = lambda *values: [tf.constant(value) for value in values]
  return {
      "session_run": (lambda x_t, y_t: session.run(
          [loss, by_x], {x: x_t, labels: y_t}), arrays),
      "function": (f, arrays),
      "module": (module, eager),
      "module in tf.function": (traced, eager),
      "module under a tape": (by_tape, eager),
  }


def _timed(network, batch, calls, rounds, seconds, order):
  """The rows of one network and batch."""
  expected = calls["session_run"]()
  times = {name: [] for name in calls}
  agrees = {}
  for name, call in calls.items():
    call()
    value, by_x = [np.asarray(result) for result in call()]
    agrees[name] = np.abs(value - expected[0]) <= (
        _TOLERANCE * np.abs(expected[0])) and np.abs(
            by_x - expected[1]).max() <= _TOLERANCE * np.abs(expected[1]).max()
  names = list(calls)
  for _ in range(rounds):
    for i in order.permutation(len(names)):
      times[names[i]].append(_per_call(calls[names[i]], seconds / rounds))
  base = np.array(times["session_run"])
  return [{"network": network, "batch": batch, "way": name,
           "us per call": float(np.median(times[name]) * 1e6),
           "Session.run / it": float(np.median(base / np.array(times[name]))),
           "agrees": "yes" if agrees[name] else "NO"} for name in names]


def _per_call(call, seconds):
  """Mean seconds of a call, over about `seconds`."""
  count, start = 0, time.perf_counter()
  while True:
    call()
    count += 1
    spent = time.perf_counter() - start
    if spent >= seconds:
      return spent / count
