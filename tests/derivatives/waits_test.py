"""A train op does not assign while what the user fetches still reads."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.evaluation import computations
from gradfeed.graph import traversal
from tests.testing import flows

_SIZE, _TURNS, _RATE = 48, 30, 0.4

# TensorFlow 1 cannot differentiate loops that read float64 variables.
_DTYPE = np.float32 if tf.__version__.startswith("1.") else np.float64
_ROUNDING = 1e-3 if _DTYPE is np.float32 else 1e-9


def _loop(w, x):
  def body(i, h):
    return i + 1, tf.tanh(tf.matmul(h, w))

  return tf.while_loop(lambda i, _: i < _TURNS, body, (0, x))[1]


def _branch(w, x):
  def chain():
    h = x
    for _ in range(_TURNS):
      h = tf.tanh(tf.matmul(h, w + 0.0))
    return h

  return tf.cond(tf.reduce_sum(x) > -1e9, chain, lambda: x)


def _call(w, x):
  @tf.function
  def chain(x):
    h = x
    for _ in range(_TURNS):
      h = tf.tanh(tf.matmul(h, w + 0.0))
    return h

  return chain(x)


def _expected(w, x):
  h = [x]
  for _ in range(_TURNS):
    h.append(np.tanh(h[-1].dot(w)))
  return h


def _gradient(w, hs):
  """The derivative of the sum of the squares of the last of `hs` by w."""
  back, by_w = 2.0 * hs[-1], 0.0
  for before, after in zip(hs[-2::-1], hs[:0:-1]):
    back = back * (1.0 - after ** 2)
    by_w = by_w + before.T.dot(back)
    back = back.dot(w.T)
  return by_w


class WaitsTest(parameterized.TestCase):

  @parameterized.product(
      build=[_loop, _branch, _call], verb=["gradients", "gradient", "vjp"],
      is_in_branch=[False, True])
  def test_the_state_is_that_before_the_step(self, build, verb, is_in_branch):
    rng = np.random.RandomState(3)
    start = (rng.randn(_SIZE, _SIZE) / 6.0).astype(_DTYPE)
    point = rng.randn(4, _SIZE)
    with tf.Graph().as_default(), tf.Session() as session:
      with flows.control_flow(2):
        x = tf.placeholder(_DTYPE, [4, _SIZE])
        w = tf.get_variable("w", initializer=start, use_resource=True)
        is_built = tf.placeholder_with_default(True, [])
        if is_in_branch:
          with flows.control_flow(1):
            state = tf.cond(is_built, lambda: self._in_v2(build, w, x),
                            lambda: x)
        else:
          state = build(w, x)
        also = state + 0.0
        loss = tf.reduce_sum(tf.square(state))
        by_w = self._derivative(verb, loss, w)
      train = w.assign_sub(_RATE * by_w / tf.norm(by_w))
      session.run(tf.global_variables_initializer())
      for _ in range(12):
        before = session.run(w)
        hs = _expected(before, point)
        values = session.run([also, loss, train.op], {x: point})
        np.testing.assert_allclose(
            values[0], hs[-1], rtol=_ROUNDING, atol=_ROUNDING)
        np.testing.assert_allclose(
            values[1], np.sum(hs[-1] ** 2), rtol=_ROUNDING)
        step = _gradient(before, hs)
        np.testing.assert_allclose(
            session.run(w), before - _RATE * step / np.linalg.norm(step),
            rtol=_ROUNDING, atol=_ROUNDING)
      if is_in_branch:  # What waits is not itself in a branch.
        before = session.run(w)
        by_w = session.run(by_w, {x: point, is_built: False})
        np.testing.assert_array_equal(by_w, np.zeros_like(before))

  def _in_v2(self, build, w, x):
    with flows.control_flow(2):
      return build(w, x)

  def _derivative(self, verb, loss, w):
    if verb == "gradients":
      return gf.gradients(loss, w)[0]
    if verb == "gradient":
      return gf.gradient(loss, w)
    return gf.vjp(loss, w, np.array(1.0, _DTYPE))

  def test_a_derivative_alone_waits_for_nothing(self):
    turns = []

    def count(h):
      turns.append(1)
      return h

    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(2)):
      x = tf.placeholder(_DTYPE, [2, 3])
      w = tf.get_variable(
          "w", initializer=np.eye(3, dtype=_DTYPE), use_resource=True)

      def body(i, h):
        with tf.control_dependencies([tf.py_func(count, [h], _DTYPE)]):
          return i + 1, tf.tanh(tf.matmul(h, w))

      state = tf.while_loop(lambda i, _: i < 3, body, (0, x))[1]
      loss = tf.reduce_sum(state)
      by_w = gf.gradients(loss, w)[0]
      session.run(w.initializer)
      f = gf.function(x, [loss, by_w], session=session)
      f(np.ones([2, 3]))
      self.assertLen(turns, 3)
      value = gf.run(session, by_w, {x: np.ones([2, 3])})
      self.assertLen(turns, 6)
      # Fed, it has that value wherever it is read.
      np.testing.assert_array_equal(
          gf.run(session, [by_w, by_w * 2.0], {by_w: value + 1.0}),
          [value + 1.0, 2.0 * value + 2.0])
      self.assertLen(turns, 6)
      np.testing.assert_array_equal(
          session.run(by_w, {x: np.ones([2, 3])}), value)
      self.assertLen(turns, 12)

  @parameterized.parameters(
      "gradient", "flat", "rows", "sparse", "jvp", "hvp", "hessian", "jacobian",
      "batch_jacobian", "per_example_gradient")
  def test_each_verb_waits_for_the_original(self, verb):
    with tf.Graph().as_default() as graph, flows.control_flow(2):
      x = tf.placeholder(_DTYPE, [2, 3])
      table = tf.get_variable(
          "table", initializer=np.ones([5, 3], _DTYPE), use_resource=True)
      w = tf.get_variable(
          "w", initializer=np.eye(3, dtype=_DTYPE), use_resource=True)
      start = x * tf.gather(table, [1, 4])
      state = tf.while_loop(
          lambda i, _: i < 3,
          lambda i, h: (i + 1, tf.tanh(tf.matmul(h, w))), (0, start))[1]
      losses = tf.reduce_sum(tf.square(state), 1)
      loss = tf.reduce_sum(losses)
      build = {
          "gradient": lambda: gf.gradient(loss, w),
          "flat": lambda: gf.gradient(loss, [x, w], flat=True),
          "rows": lambda: gf.gradient(loss, table),
          "sparse": lambda: gf.gradient(loss, table, sparse=True).values,
          "jvp": lambda: gf.jvp(loss, x, np.ones([2, 3], _DTYPE)),
          "hvp": lambda: gf.hvp(loss, x, np.ones([2, 3], _DTYPE)),
          "hessian": lambda: gf.hessian(loss, x),
          "jacobian": lambda: gf.jacobian(losses, x),
          "batch_jacobian": lambda: gf.batch_jacobian(state, x),
          "per_example_gradient": lambda: gf.per_example_gradient(losses, x),
      }[verb]
      result = build()
      count = len(graph.get_operations())
      self.assertIs(build() if verb != "sparse" else result, result)
      self.assertLen(graph.get_operations(), count)
      originals = {name for name, op in traversal.ancestors([loss]).items()
                   if op.type in ("While", "StatelessWhile")}
      self.assertLen(originals, 1)
      self.assertContainsSubset(originals, traversal.ancestors([result]))
      alone, = computations.from_one_forward_pass(graph, [result])
      self.assertEmpty(originals & set(traversal.ancestors([alone])))
