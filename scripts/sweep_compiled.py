"""Holds programs of XLA against TensorFlow op by op (TF 2).

  python scripts/sweep_compiled.py ops
  python scripts/sweep_compiled.py networks --networks=200
  python scripts/sweep_compiled.py ops --types=MaxPool,Cumsum

`ops`: each type of op that `gradfeed.compilation.value_checks` lists is run by
itself at random points, and at points with equal elements, zeros, negative
numbers, infinities and NaN. `networks`: random networks of layers, pools, loops
and branches, also within each other, in float32 and float64, their gradients,
and second derivatives, at points that they were not compiled at.

A difference is told as a part of the largest element. The status is 1 if one is
over the limit: 1e-5 in float32, 1e-12 in float64. Where a network in float32 is
over it, the program is held against the network in float64 instead.
"""

import itertools
import os
import sys

from absl import app
from absl import flags
import numpy as np
import tensorflow.compat.v1 as tf

import op_guesses
import op_inputs

sys.path.insert(0, os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
# pylint: disable=g-import-not-at-top, wrong-import-position
from gradfeed import _tf
from gradfeed.compilation import value_checks
import gradfeed as gf

_COUNT = flags.DEFINE_integer(
    "networks", 200, "Networks to try.", lower_bound=1)
_SEED = flags.DEFINE_integer("first_seed", 0, "That of the first network.")
_ONLY = flags.DEFINE_list("types", [], "Types of ops to try.")

#: By how much of the largest element results may differ.
LIMITS = {np.float32: 1e-5, np.float64: 1e-12}

#: What a point is made of, beside random numbers.
_SPECIAL = (0.0, -0.5, 1.0, np.inf, -np.inf, np.nan)


#: Where XLA is right: TensorFlow's error function of infinity is NaN.
_RIGHT = {"Erf": (np.inf, -np.inf)}


def difference(own, result):
  """By how much of the largest element two lists of arrays differ.

  Returns:
    float; infinity where NaN, infinities or integers are not the same.
  """
  worst = 0.0
  own = [np.asarray(a) for a in own]
  # What cancels is as small as the rounding of what it was computed from.
  least = 0.1 * max([np.max(np.abs(a[np.isfinite(a)]), initial=0.0)
                     for a in own if a.dtype.kind in "fc"] or [0.0])
  for a, b in zip(own, map(np.asarray, result)):
    if a.dtype.kind not in "fc":
      worst = max(worst, 0.0 if np.array_equal(a, b) else np.inf)
      continue
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(
        a[~finite], b[~finite], equal_nan=True):
      return np.inf
    if finite.any():
      size = max(np.max(np.abs(a[finite])), least, 1e-3)
      worst = max(worst, float(np.max(np.abs(a[finite] - b[finite])) / size))
  return worst


def sweep_ops(op_types):
  """Yields (type of an op, difference or None, what is to be said)."""
  for op_type in op_types:
    op_def = _tf.op_definition(tf.Graph(), op_type)
    if op_def is None or not hasattr(tf.raw_ops, op_type):
      yield op_type, None, "not in this TensorFlow"
      continue
    cases = op_inputs.CASES.get(op_type) or itertools.islice(op_guesses.guesses(
        op_def, lambda argument, op_def=op_def: op_guesses.is_real(
            op_def, argument)), 300)
    worst, said = None, "no arguments were found"
    for case in cases:
      for dtype in (np.float64, np.float32):
        found, reason = _try_op(op_type, op_def, case, dtype)
        if found is None:
          said = reason if worst is None else said
          continue
        if worst is None or found > worst:
          worst, said = found, reason
        if op_type not in op_inputs.CASES and found is not None:
          break
      if worst is not None and op_type not in op_inputs.CASES:
        break
    yield op_type, worst, said


def _try_op(op_type, op_def, case, dtype):
  """(worst difference, at which point), or (None, why it was not tried)."""
  fed = []

  def tensor_of(value):
    if isinstance(value, op_inputs.Real):
      array = op_inputs.draw(value, np.random.RandomState(1), dtype)
      fed.append((tf.placeholder(dtype, array.shape), array))
      return fed[-1][0]
    if isinstance(value, list) and any(
        isinstance(item, (op_inputs.Real, np.ndarray)) for item in value):
      return [tensor_of(item) for item in value]
    return tf.constant(value) if isinstance(value, np.ndarray) else value

  with tf.Graph().as_default() as graph, tf.Session() as session:
    names = [argument.name for argument in op_def.input_arg]
    try:
      getattr(tf.raw_ops, op_type)(
          **{name: tensor_of(case[name]) for name in sorted(
              case, key=lambda n: names.index(n) if n in names else -1)})
      op = next(op for op in reversed(graph.get_operations())
                if op.type == op_type)
      ys = [y for y in op.outputs if y.dtype.base_dtype in (
          tf.float32, tf.float64, tf.int32, tf.int64, tf.bool)]
      ys = ys[:op_inputs.OUTPUTS.get(op_type)]
      if not fed or not ys:
        return None, "no numbers go in or out"
      session.run(ys, dict(fed))
    except Exception as error:  # pylint: disable=broad-except
      # Whatever TensorFlow says of arguments that are tried.
      return None, str(error).split("\n")[0][:80]
    plain = gf.function([x for x, _ in fed], ys, session)
    compiled = gf.function([x for x, _ in fed], ys, session, jit_compile=True)
    try:
      compiled(*[array for _, array in fed])
    except gf.UnsupportedGraphError as error:
      return (None, str(error).replace("\n", " ")[:150]) if (
          "something else" not in str(error)) else (np.inf, "a random point")
    worst, where = 0.0, "a random point"
    if all(y.dtype == tf.float32 for y in ys):
      dtype = np.float32  # Whatever goes in.
    for name, point in _points([array for _, array in fed],
                               _RIGHT.get(op_type, ())):
      try:
        own = plain(*point)
      except (gf.GradfeedError, tf.errors.OpError):
        continue  # That the program refuses them too is tested elsewhere.
      found = difference(own, compiled(*point))
      if found > worst:
        worst, where = found, name
    # The limits of both dtypes as one.
    return worst * LIMITS[np.float32] / LIMITS[dtype], "{} of {}".format(
        where, np.dtype(dtype).name)


def _points(arrays, left_out):
  """Yields (what it is, list of arrays) to evaluate an op at.

  Args:
    arrays: list of arrays.
    left_out: tuple of special numbers that are not tried.
  """
  random = np.random.RandomState(2)
  yield "another point", [np.asarray(random.uniform(0.1, 0.9, a.shape),
                                     a.dtype) for a in arrays]
  yield "negative numbers", [np.asarray(random.uniform(-2.0, 2.0, a.shape),
                                        a.dtype) for a in arrays]
  yield "equal elements", [np.asarray(random.randint(0, 2, a.shape), a.dtype)
                           for a in arrays]
  for special in [one for one in _SPECIAL if one not in left_out]:
    for i in range(len(arrays)):
      point = [array.copy() for array in arrays]
      if point[i].size:
        point[i].reshape(-1)[random.randint(point[i].size)] = special
        yield "{} in input {}".format(special, i), point


def network(random, dtype):
  """A random network.

  Args:
    random: `np.random.RandomState`.
    dtype: NumPy dtype.

  Returns:
    (x, list of what to evaluate, shape of x).
  """
  rows, columns = random.randint(1, 5), random.randint(2, 5)
  x = tf.placeholder(dtype, [None, columns])
  # What is slow to compile is there once at most.
  layers = [_LAYERS[random.randint(len(_LAYERS))]
            for _ in range(random.randint(1, 4))]
  layers.insert(random.randint(len(layers) + 1),
                _FLOWS[random.randint(len(_FLOWS))])
  h = x
  for layer in layers:
    h = layer(h, random)
  y = tf.reduce_sum(tf.square(h))
  gradient = gf.gradient(y, x)
  seconds = [lambda: gf.hvp(y, x, tf.ones_like(x)),
             lambda: gf.gradient(tf.reduce_sum(tf.square(gradient)), x),
             lambda: gf.hessian(tf.reduce_sum(h), x)]
  outputs = [y, gradient, seconds[random.choice(3, p=[0.6, 0.3, 0.1])]()]
  return x, outputs, (rows, columns)


def _weights(h, random):
  columns = int(h.shape[1])
  return tf.constant(random.normal(size=[columns, columns]) / columns, h.dtype)


def _loop(h, random):
  w, turns = _weights(h, random), random.randint(1, 6)
  return tf.while_loop(
      lambda i, s: i < turns,
      lambda i, s: (i + 1, tf.tanh(tf.matmul(s, w) + h)), [0, h])[1]


def _nested(h, random):
  w = _weights(h, random)

  def turn(i, s):
    inner = tf.while_loop(lambda j, t: j < 2,
                          lambda j, t: (j + 1, tf.sin(tf.matmul(t, w))),
                          [0, s])[1]
    return i + 1, inner + h

  return tf.while_loop(lambda i, s: i < 3, turn, [0, h])[1]


def _rows_in_turn(h, random):
  w = _weights(h, random)
  return tf.scan(lambda s, row: tf.tanh(tf.matmul(s[None], w)[0] + row), h)


def _branch(h, random):
  limit = random.uniform(-1, 1)
  return tf.cond(tf.reduce_sum(h) > limit, lambda: tf.sin(h) * 2.0,
                 lambda: tf.exp(-tf.square(h)))


def _three_deep(h, random):
  w = _weights(h, random)

  def repeated(compute):
    return lambda s: tf.while_loop(
        lambda i, s: i < 2, lambda i, s: (i + 1, compute(s)), [0, s])[1]

  return repeated(repeated(repeated(
      lambda s: tf.sin(tf.matmul(s, w)) + 0.1 * h)))(h)


def _longer_each_turn(h, random):
  w = _weights(h, random)
  return tf.while_loop(lambda i, s: i < 3, lambda i, s: (i + 1, tf.while_loop(
      lambda j, t: j <= i, lambda j, t: (j + 1, tf.tanh(tf.matmul(t, w))),
      [0, s])[1] + h), [0, h])[1]


def _branch_in_loop(h, random):
  w, limit = _weights(h, random), random.uniform(-1, 1)
  return tf.while_loop(lambda i, s: i < 3, lambda i, s: (i + 1, tf.cond(
      tf.reduce_sum(s) > limit, lambda: tf.sin(tf.matmul(s, w)),
      lambda: tf.exp(-tf.square(s)) * h)), [0, h])[1]


def _branch_in_branch(h, random):
  limits = random.uniform(-1, 1, size=2)
  return tf.cond(
      tf.reduce_sum(h) > limits[0],
      lambda: tf.cond(tf.reduce_max(h) > limits[1], lambda: tf.sin(h) * h,
                      lambda: tf.tanh(h)), lambda: tf.exp(-tf.square(h)))


def _in_branch(compute):
  def flow(h, random):
    limit = random.uniform(-1, 1)
    return tf.cond(tf.reduce_sum(h) > limit, lambda: compute(h, random),
                   lambda: tf.cos(h))
  return flow


def _up_to_a_limit(h, random):
  limit = random.uniform(1, 3)
  return tf.while_loop(
      lambda i, s: tf.logical_and(i < 4, tf.reduce_sum(tf.abs(s)) < limit),
      lambda i, s: (i + 1, 1.2 * s + 0.1 * tf.sin(h)), [0, h])[1]


def _up_to_two_limits(h, random):
  limits = random.uniform(0.3, 3, size=2)
  return tf.while_loop(
      lambda i, s: tf.logical_and(tf.reduce_sum(tf.abs(s)) < limits[0], i < 3),
      lambda i, s: (i + 1, 0.4 * s + tf.while_loop(
          lambda t: tf.reduce_max(t) < limits[1],
          lambda t: 1.3 * tf.sin(t) + 0.1 * h, [s], maximum_iterations=2)),
      [0, h])[1]


def _pool(size, stride, padding):
  """A layer that pools columns; numbers below zero are equal before it."""
  def layer(h, unused_random):
    image = tf.reshape(tf.nn.relu(h), [-1, h.shape[1], 1, 1])
    pooled = tf.nn.max_pool(image, [1, size, 1, 1], [1, stride, 1, 1], padding)
    return tf.concat([
        h[:, 1:], tf.reduce_sum(tf.square(pooled), [1, 2])], 1)
  return layer


_LAYERS = [
    lambda h, random: tf.tanh(tf.matmul(h, _weights(h, random))),
    lambda h, random: tf.nn.softmax(h),
    lambda h, random: tf.nn.relu(tf.matmul(h, _weights(h, random))),
    lambda h, random: h - tf.reduce_mean(h, 0, keepdims=True),
    lambda h, random: tf.concat([h[:, 1:], h[:, :1] * 0.5], 1),
    lambda h, random: tf.cumsum(h, 1) * tf.sigmoid(h),
    lambda h, random: tf.nn.softplus(h) / (1.0 + tf.square(h)),
    lambda h, random: tf.transpose(tf.gather(tf.transpose(h), random.randint(
        int(h.shape[1]), size=int(h.shape[1])))),
    lambda h, random: tf.map_fn(lambda r: r * tf.reduce_sum(r), h),
    lambda h, random: tf.reshape(tf.nn.max_pool(
        tf.reshape(h, [-1, 1, h.shape[1], 1]), [1, 1, 2, 1], [1, 1, 1, 1],
        "SAME"), [-1, h.shape[1]]),
    _pool(2, 2, "SAME"), _pool(2, 1, "VALID"), _pool(3, 2, "SAME")]

_FLOWS = [_loop, _nested, _rows_in_turn, _branch, _three_deep, _branch_in_loop,
          _branch_in_branch, _in_branch(_loop), _longer_each_turn,
          _up_to_a_limit, _up_to_two_limits, _in_branch(_up_to_a_limit)]


def sweep_networks(count, seed):
  """Yields (seed of a network, difference or None, what is to be said)."""
  for i in range(seed, seed + count):
    random = np.random.RandomState(i)
    dtype = (np.float64, np.float32)[i % 2]
    with tf.Graph().as_default(), tf.Session() as session:
      try:
        x, outputs, shape = network(random, dtype)
      except gf.GradfeedError as error:
        yield i, None, "no graph: " + str(error).replace("\n", " ")
        continue
      plain = gf.function(x, outputs, session)
      compiled = gf.function(x, outputs, session, jit_compile=True)
      try:
        compiled(random.uniform(-1, 1, shape).astype(dtype))
      except gf.UnsupportedGraphError as error:
        yield i, (np.inf if "something else" in str(error) else None), str(
            error).replace("\n", " ")
        continue
      # The last two: with elements of equal size, and other branches.
      points = [random.uniform(-1, 1, shape).astype(dtype) for _ in range(3)]
      points += [np.round(2. * points[0]) / 2., 1. + points[1]]
      found = max(difference(plain(point), compiled(point)) for point in points)
      if dtype == np.float32 and LIMITS[dtype] < found < np.inf:
        # Where TensorFlow rounds as much, the program may be the nearer one.
        near = max(difference(own, compiled(point)) for own, point in zip(
            _in_float64(i, points), points))
        print("{}: {:.2g} of the limit, but {:.2g} of float64".format(
            i, found / LIMITS[dtype], near / LIMITS[dtype]), flush=True)
        found = near
      yield i, found * LIMITS[np.float32] / LIMITS[dtype], np.dtype(dtype).name


def _in_float64(seed, points):
  """What the network of a seed gives at some points, in float64: a list."""
  with tf.Graph().as_default(), tf.Session() as session:
    x, outputs, _ = network(np.random.RandomState(seed), np.float64)
    f = gf.function(x, outputs, session)
    return [f(point.astype(np.float64)) for point in points]


def main(argv):
  what = argv[1] if len(argv) > 1 else "networks"
  if what not in ("ops", "networks"):
    raise app.UsageError("ops or networks, not {!r}.".format(what))
  found = (sweep_networks(_COUNT.value, _SEED.value) if what == "networks" else
           sweep_ops(_ONLY.value or value_checks.compiled_types()))
  tried, untried, wrong = 0, 0, 0
  for name, worst, said in found:
    if worst is None:
      untried += 1
      print("{}: not tried: {}".format(name, said), flush=True)
      continue
    tried += 1
    if not worst <= LIMITS[np.float32]:
      wrong += 1
      print("{}: {:.2g} of the limit, {}".format(
          name, worst / LIMITS[np.float32], said), flush=True)
  print("{} agree, {} differ, {} were not tried.".format(
      tried - wrong, wrong, untried))
  sys.exit(bool(wrong))


if __name__ == "__main__":
  tf.disable_v2_behavior()
  app.run(main)
