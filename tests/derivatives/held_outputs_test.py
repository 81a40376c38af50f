"""One of the outputs of an op among `stop_gradients`, the others not.

TensorFlow holds all outputs of the op, or none of a call. The other engine is
the same model with `tf.stop_gradient` where it reads that output.
"""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from tensorflow.python.framework import function as function_lib

import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs

_AT = np.array([0.5, -1.5, 2.0, 0.25])


def _loop(version):

  def outputs(x):
    with flows.control_flow(version):
      return tf.while_loop(
          lambda i, a, b: i < 2,
          lambda i, a, b: (i + 1, tf.sin(a) * b, a * b * x + b),
          [0, x, x * x])[1:]

  return outputs


def _branch(version):

  def outputs(x):
    with flows.control_flow(version):
      return tf.cond(x[0] > 0.0, lambda: [x * x, tf.sin(x) * x],
                     lambda: [x, tf.exp(x)])

  return outputs


def _mapped(x):
  with flows.control_flow(2):
    return tf.map_fn(lambda e: (e * e, tf.sin(e)), x,
                     dtype=(tf.float64, tf.float64))


def _defun(x):

  @function_lib.Defun(tf.float64)
  def call(a):
    return a * a, tf.sin(a) * a

  return call(x)


def _square(x):
  m = tf.reshape(x, [2, 2])
  return tf.matmul(m, m, transpose_b=True) + tf.eye(2, dtype=tf.float64)


#: dict from a name to a function of x that gives outputs of one op.
_MODELS = {
    "split": lambda x: tf.split(x * x, 2),
    "split_v": lambda x: tf.split(x * x, [1, 3]),
    "unstack": lambda x: tf.unstack(tf.sin(x)),
    "slogdet": lambda x: tf.linalg.slogdet(_square(x)),
    "eigh": lambda x: tf.linalg.eigh(_square(x)),
    "svd": lambda x: tf.linalg.svd(_square(x)),
    "qr": lambda x: tf.linalg.qr(_square(x)),
    "loop_v1": _loop(1), "loop_v2": _loop(2),
    "branch_v1": _branch(1), "branch_v2": _branch(2),
    "mapped_v2": _mapped,
    "defun": _defun,
    "function": lambda x: tf.function(lambda a: (a * a, tf.sin(a) * a))(x),
}

_DERIVATIVES = {
    "gradient": gf.gradient,
    "forward": lambda y, x, **stops: gf.jacobian(
        y * x, x, mode="forward", **stops),
    "hessian": gf.hessian,
}

#: Without second derivatives: TensorFlow has none, or they read what is held.
_FIRST_ONLY = ("svd", "qr", "eigh", "slogdet", "defun")


def _y(outputs, x):
  total = tf.reduce_sum(x) + 1.0
  for i, output in enumerate(outputs):
    total *= tf.reduce_sum(tf.square(output) + (i + 1.0) * output) + 2.0
  return total


class HeldOutputsTest(graphs.GraphTest):

  @parameterized.named_parameters(*(
      ("{}_{}".format(derivative, model), model, derivative)
      for model in sorted(_MODELS) for derivative in sorted(_DERIVATIVES)
      if derivative == "gradient" or model not in _FIRST_ONLY))
  def test_is_held_alone(self, model, derivative):
    x = tf.placeholder(tf.float64, [4])
    outputs, largest = list(_MODELS[model](x)), 0.0
    for held, output in enumerate(outputs):
      with self.subTest(held):
        stopped = [tf.stop_gradient(t) if i == held else t
                   for i, t in enumerate(outputs)]
        differentiate = _DERIVATIVES[derivative]
        got, wanted = gf.function(x, [
            differentiate(_y(outputs, x), x, stop_gradients=output),
            differentiate(_y(stopped, x), x)])(_AT)
        np.testing.assert_allclose(got, wanted, 1e-9, 1e-9)
        largest = max(largest, np.abs(got).max())
    self.assertGreater(largest, 0.0)

  def test_not_where_the_gradient_of_its_op_reads_it(self):
    x = tf.placeholder(tf.float64, [4])
    outputs = _MODELS["eigh"](x)
    with self.assertRaisesRegex(
        gf.UnsupportedGraphError, "second derivative.*\n.*\n.*where the model"):
      gf.hessian(_y(outputs, x), x, stop_gradients=outputs[1])

  def test_is_the_x_as_well(self):
    x = tf.placeholder(tf.float64, [4])
    a, b = tf.split(tf.square(x), 2)
    dx, da = gf.gradient(a * b, [x, a], stop_gradients=a)
    np.testing.assert_allclose(
        gf.function(x, dx)(_AT),
        np.concatenate([np.zeros(2), 2.0 * _AT[2:] * _AT[:2] ** 2]))
    np.testing.assert_allclose(gf.function(x, da)(_AT), _AT[2:] ** 2)

  def test_a_gradient_function_of_the_user_holds_its_own(self):
    x = tf.placeholder(tf.float64, [4])
    parts = tf.split(tf.square(x), 2)

    @tf.custom_gradient
    def call(z):
      del z

      def gradient(dy):
        # By x, through the part that the call around it holds.
        return dy * tf.gradients(parts[0] ** 2, x)[0][:2]

      return tf.identity(parts[0]) ** 2, gradient

    y = call(tf.sin(x[:2])) * parts[1]
    dx = gf.gradient(y, x, stop_gradients=parts[0])
    wanted = np.zeros(4)
    wanted[:2] = 4.0 * _AT[:2] ** 3 * np.cos(_AT[:2]) * _AT[2:] ** 2
    wanted[2:] = _AT[:2] ** 4 * 2.0 * _AT[2:]
    np.testing.assert_allclose(gf.function(x, dx)(_AT), wanted)


if __name__ == "__main__":
  tf.test.main()
