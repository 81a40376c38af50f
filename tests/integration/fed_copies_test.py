"""Values for tensors in the model, where derivatives are built on copies of it.

Derivatives of loops, branches and functions are built on copies of their ops. A
tensor that gets a value has it there too, and what is not copied is read. The
other engine is the same model with a constant in the place of that tensor.
"""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs

_X = np.array([1.1, -0.6, 0.4])
_V = [0.7, -1.3, 0.2]


def _loop(version):

  def stage(h, factor):
    with flows.control_flow(version):
      return tf.while_loop(
          lambda i, a: i < 2,
          lambda i, a: (i + 1, tf.sin(a) * factor + a * h * 0.5), [0, h])[1]

  return stage


def _branch(version):

  def stage(h, factor):
    with flows.control_flow(version):
      return tf.cond(tf.reduce_sum(h) > -9.0,
                     lambda: tf.sin(h) * factor + h * h * 0.3, lambda: h)

  return stage


#: dict from a name to a function of h and a factor.
_STAGES = {
    "plain": lambda h, factor: tf.sin(h) * factor + h * h * 0.3,
    "loop_v1": _loop(1), "loop_v2": _loop(2),
    "branch_v1": _branch(1), "branch_v2": _branch(2),
    "function": lambda h, factor: tf.function(
        lambda a, b: tf.sin(a) * b + a * a * 0.3)(
            h, tf.convert_to_tensor(factor, tf.float64)),
}

#: dict from a name to (function of h that gives what gets a value, function of
#: it that gives the factor, the value).
_MIDDLES = {
    "integer": (lambda h: tf.cast(h * 10.0, tf.int32),
                lambda k: tf.cast(k, tf.float64) / 10.0,
                np.array([3, -4, 7], np.int32)),
    "choice": (lambda h: h > 0.0,
               lambda k: tf.where(k, tf.fill([3], tf.constant(2.0, tf.float64)),
                                  tf.fill([3], tf.constant(-3.0, tf.float64))),
               np.array([False, True, True])),
    "constant": (lambda h: tf.stop_gradient(h * 3.0), tf.cos,
                 np.array([0.3, -0.4, 0.7])),
    "held": (lambda h: h * 3.0, tf.cos, np.array([0.3, -0.4, 0.7])),
}

_DERIVATIVES = {
    "gradient": gf.gradient,
    "jacobian": gf.jacobian,
    "hvp": lambda y, x, **held: gf.hvp(y, x, tf.constant(_V, tf.float64),
                                       **held),
    "rows": lambda y, x, **held: gf.per_example_gradient(
        y, x, coupled=True, **held),
    "gradient_of_jacobian": lambda y, x, **held: gf.gradient(
        tf.square(gf.jacobian(y, x, **held)), x, **held),
}


class FedCopiesTest(graphs.GraphTest):

  @parameterized.named_parameters(*(
      ("_".join(names), *names) for names in (
          (derivative, first, second, middle)
          for i, first in enumerate(sorted(_STAGES))
          for j, second in enumerate(sorted(_STAGES))
          for k, derivative in enumerate(sorted(_DERIVATIVES))
          for l, middle in enumerate(sorted(_MIDDLES))
          if (i + 2 * j + 3 * k + 5 * l) % 11 == 0)))
  def test_between_x_and_y(self, derivative, first, second, middle):
    x = tf.placeholder(tf.float64, [3])
    h = _STAGES[first](x, 1.3)
    make, factor, value = _MIDDLES[middle]
    fed = make(h)
    held = {"stop_gradients": fed} if middle == "held" else {}
    y = _STAGES[second](h, factor(fed))
    other = _STAGES[second](h, factor(tf.constant(value)))
    result = _DERIVATIVES[derivative](y, x, **held)
    wanted = gf.function(x, [other, _DERIVATIVES[derivative](other, x)])(_X)
    for got in (gf.function([x, fed], [y, result])(_X, value),
                gf.function(x, [y, result], feed_dict={fed: value})(_X),
                gf.run(self.session, [y, result], {x: _X, fed: value})):
      for one, another in zip(got, wanted):
        np.testing.assert_allclose(one, another, 1e-9, 1e-9)

  @parameterized.named_parameters(*(
      ("{}_then_{}_{}".format(before, after, derivative),
       before, after, derivative)
      for before in ("loop", "branch") for after in ("loop", "branch")
      for derivative in ("jacobian", "hessian")))
  def test_before_x(self, before, after, derivative):
    x = tf.placeholder(tf.float64, [3])
    decides = tf.identity(tf.reduce_sum(x) > -9.0)
    value = np.array([0.3, 1.7, -0.2])

    def stage(kind, h):
      return tf.cond(decides, lambda: h * x * 0.5 + tf.sin(h), lambda: h) if (
          kind == "branch") else _loop(1)(h, x)

    with flows.control_flow(1):
      fed = stage(before, x * x)
      ends = []
      for given in (fed, tf.constant(value)):
        h = stage(before, given)
        at = stage(before, h * given)
        y = stage(after, at * h + given * x)
        ends.append((y, getattr(gf, derivative)(y, at)))
    wanted = gf.function(x, ends[1])(_X)
    for got in (gf.function([x, fed], ends[0])(_X, value),
                gf.function(x, ends[0], feed_dict={fed: value})(_X),
                gf.run(self.session, list(ends[0]), {x: _X, fed: value})):
      for one, another in zip(got, wanted):
        np.testing.assert_allclose(one, another, 1e-9, 1e-9)

  @parameterized.named_parameters(
      ("a_loop", lambda x: _loop(1)(x, 1.3)),
      ("moments", lambda x: x * tf.nn.moments(x, [0])[1]))
  def test_computed_from_a_gradient_that_is_built_again(self, function):
    x = tf.placeholder(tf.float64, [3])
    dx = gf.gradient(function(x), x)
    fed = tf.cast(dx * 10.0, tf.int32)
    value = np.array([3, -4, 7], np.int32)
    z = dx * dx * tf.cast(fed, tf.float64)
    other = dx * dx * tf.constant(value.astype(np.float64))
    wanted = gf.function(x, [other, gf.gradient(other, x)])(_X)
    for one, another in zip(
        gf.function([x, fed], [z, gf.gradient(z, x)])(_X, value), wanted):
      np.testing.assert_allclose(one, another, 1e-9, 1e-9)

  def test_out_of_an_array_that_a_loop_reads(self):
    x = tf.placeholder(tf.float64, [])
    w = tf.placeholder(tf.float64, [])

    def build(given):
      array = tf.TensorArray(tf.float64, 3, element_shape=[],
                             clear_after_read=False)
      array = array.write(0, x)
      fed = tf.cast(10.0 * array.read(0), tf.int32)
      factor = tf.cast(fed if given is None else given, tf.float64) / 10.0
      array = array.write(1, w * w * factor).write(2, w)
      return fed, tf.while_loop(
          lambda i, a: i < 3,
          lambda i, a: (i + 1, a * factor + array.read(i) * a), [0, w])[1]

    with flows.control_flow(1):
      fed, y = build(None)
      _, other = build(tf.constant(3))
    np.testing.assert_allclose(
        gf.function([x, w, fed], [y, gf.hessian(y, w)])(1.1, 0.7, 3),
        gf.function([x, w], [other, gf.hessian(other, w)])(1.1, 0.7))


if __name__ == "__main__":
  tf.test.main()
