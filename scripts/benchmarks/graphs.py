"""What gradfeed adds to a graph and to a process: growth and building.

Run through `python scripts/benchmark.py growth building`.
"""

import gc
import itertools
import os
import time

import numpy as np

from benchmarks import workers

# pylint: disable=g-import-not-at-top, wrong-import-position
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from gradfeed.evaluation.calls import trials
from gradfeed.graph import cache

#: What may be left after many calls: allocators never give back everything.
_BYTES_LEFT = 4 << 20

_WIDTH = 8
_TOP = 10  # Layers above the cut, whatever the size of the graph.


def set_mode(mode):
  workers.set_mode(tf, mode)


def growth(mode, calls):
  """Repeats each kind of call on one tiny graph.

  Args:
    mode: str, of `workers.MODES`.
    calls: int, calls of a function; the slower kinds are called less often.

  Returns:
    list of dict, a row for each kind; "constant" is "NO" where ops, memos or
    memory grew.
  """
  set_mode(mode)
  with tf.Graph().as_default() as graph, tf.Session() as session:
    x = tf.placeholder(tf.float32, [None, 3])
    labels = tf.placeholder(tf.float32, [None, 3])
    w = tf.Variable(np.eye(3, dtype=np.float32))
    loss = tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=labels, logits=tf.matmul(x, w)))
    session.run(tf.global_variables_initializer())
    points = [(np.random.RandomState(i).normal(size=(1, 3)).astype("f"),
               np.eye(3, dtype="f")[:1]) for i in range(16)]
    f = gf.function([x, labels], gf.gradient(loss, x))
    at_weights = gf.function([w, x, labels], gf.gradient(loss, w))
    kinds = [
        ("function", calls, lambda x_t, y_t: f(x_t, y_t)),
        ("function, at a variable", calls // 10,
         lambda x_t, y_t: at_weights(np.eye(3), x_t, y_t)),
        ("run", calls // 10, lambda x_t, y_t: gf.run(
            session, gf.gradient(loss, x), {x: x_t, labels: y_t})),
        ("gradient", calls // 10, lambda x_t, y_t: gf.gradient(loss, x)),
        ("function made anew", max(1, calls // 1000),
         lambda x_t, y_t: gf.function([w, x, labels], gf.gradient(loss, w))(
             np.eye(3), x_t, y_t)),
    ]
    if _tf.IS_TF2:
      kinds.append(("function, compiled, of many shapes", calls // 10,
                    _of_many_shapes(gf.function([x, labels], gf.gradient(
                        loss, x), jit_compile=True))))
    return [_grown(graph, *kind, points=points) for kind in kinds]


def _of_many_shapes(f):
  """`f` of one row more at each call, from 1 to 1,000 and again."""
  rows = itertools.cycle(range(1, 1001))

  def call(x_t, y_t):
    count = next(rows)
    return f(np.repeat(x_t, count, 0), np.repeat(y_t, count, 0))

  return call


def _grown(graph, name, calls, call, points):
  """One row: what `calls` calls left, after others before.

  Those are a tenth as many, and as many as it takes until a call for the shapes
  of the points alone is tried.
  """
  for i in range(max(len(points), calls // 10,
                     min(calls, trials.Trial.CALLS + 1))):
    call(*points[i % len(points)])
  ops, kept, memory = _state(graph)
  start = time.perf_counter()
  for i in range(calls):
    call(*points[i % len(points)])
  seconds = time.perf_counter() - start
  new_ops, new_kept, new_memory = _state(graph)
  grown = None if memory is None else new_memory - memory
  constant = (ops == new_ops and kept == new_kept and
              (grown is None or grown < _BYTES_LEFT))
  return {"what": name, "calls": calls, "us per call": seconds / calls * 1e6,
          "ops before": ops, "ops after": new_ops, "memo before": kept,
          "memo after": new_kept,
          "MB before": memory and memory / 2 ** 20,
          "MB after": new_memory and new_memory / 2 ** 20,
          "constant": "yes" if constant else "NO"}


def _state(graph):
  gc.collect()
  memo = cache.cache_of(graph)
  return (len(graph.get_operations()),
          len(memo.built) + len(memo.derivatives),
          workers.memory()[0])


def building(mode, layers, rounds):
  """Builds a gradient at a cut, in graphs of growing size.

  Args:
    mode: str, of `workers.MODES`.
    layers: int, layers of the largest graph; the others are parts of it.
    rounds: int, graphs of each kind; the median counts.

  Returns:
    list of dict, a row for each size and place of the cut.
  """
  set_mode(mode)
  sizes = [max(_TOP, layers * i // 10) for i in (1, 2, 5, 10)]
  _built(_TOP, _TOP)  # What TensorFlow does once in a process is not counted.
  return [_row("{} layers from the top".format(_TOP), size, _TOP, rounds)
          for size in sizes] + [
              _row("at the bottom", size, size, rounds) for size in sizes]


def _row(place, size, above, rounds):
  measured = [_built(size, above) for _ in range(rounds)]
  times = np.median([m[2:] for m in measured], axis=0).tolist()
  ops, copied = measured[0][:2]
  return {"cut": place, "graph ops": ops, "ops added": copied,
          "gradient s": times[0], "function s": times[1],
          "first call s": times[2],
          "ms per op added": sum(times[:2]) / copied * 1e3}


def _built(size, above):
  """(ops, ops added, seconds of gradient, function, first call)."""
  with tf.Graph().as_default() as graph, tf.Session() as session:
    hidden = tf.placeholder(tf.float32, [None, _WIDTH])
    places = [hidden]
    for _ in range(size):
      w = tf.Variable(np.eye(_WIDTH, dtype=np.float32))
      places.append(tf.tanh(tf.matmul(places[-1], w)))
    # At the bottom: the first layer, since a placeholder is never cut.
    y, x = tf.reduce_sum(places[-1]), places[max(1, size - above)]
    session.run(tf.global_variables_initializer())
    ops = len(graph.get_operations())
    clocks = [time.perf_counter()]
    gradient = gf.gradient(y, x)
    clocks.append(time.perf_counter())
    f = gf.function(x, gradient, session=session)
    clocks.append(time.perf_counter())
    f(np.ones([1, _WIDTH]))
    clocks.append(time.perf_counter())
    return (ops, len(graph.get_operations()) - ops) + tuple(np.diff(clocks))
