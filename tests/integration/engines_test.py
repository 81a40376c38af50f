"""The same functions in TensorFlow and in HIPS autograd: the same derivatives.
"""

from absl.testing import parameterized
import autograd
import autograd.numpy as anp
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs

_W = np.random.RandomState(0).normal(size=[4, 3]) / 2.0

_LABELS = np.eye(3)[[0, 2, 1]]


def _looped(x):
  with flows.control_flow(1):
    return tf.while_loop(lambda i, a: i < 3, lambda i, a: (
        i + 1, tf.sin(a) * x), [0, x])[1]


def _looped_again(x):
  a = x
  for _ in range(3):
    a = anp.sin(a) * x
  return a


def _log_softmax(x):
  return x - anp.log(anp.sum(anp.exp(x), axis=1, keepdims=True))


#: Name, function of a [3, 4] tensor, the same of an array.
_FUNCTIONS = (
    ("polynomial", lambda x: x ** 3 - 2.0 * x * x,
     lambda x: x ** 3 - 2.0 * x * x),
    ("dense", lambda x: tf.tanh(tf.matmul(x, _W)),
     lambda x: anp.tanh(anp.dot(x, _W))),
    ("entropy", lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=_LABELS, logits=tf.matmul(x, _W)),
     lambda x: -anp.sum(_LABELS * _log_softmax(anp.dot(x, _W)), axis=1)),
    ("softplus", lambda x: tf.nn.softplus(x) * tf.sigmoid(x),
     lambda x: anp.log1p(anp.exp(x)) / (1.0 + anp.exp(-x))),
    ("gram", lambda x: tf.matmul(x, x, transpose_b=True),
     lambda x: anp.dot(x, x.T)),
    ("inverse", lambda x: tf.linalg.inv(
        tf.matmul(x, x, transpose_a=True) + 3.0 * tf.eye(4, dtype=x.dtype)),
     lambda x: anp.linalg.inv(anp.dot(x.T, x) + 3.0 * anp.eye(4))),
    ("determinant", lambda x: tf.reduce_prod(tf.linalg.diag_part(
        tf.linalg.cholesky(tf.matmul(x, x, transpose_b=True) + tf.eye(
            3, dtype=x.dtype)))) ** 2,
     lambda x: anp.linalg.det(anp.dot(x, x.T) + anp.eye(3))),
    ("norms", lambda x: tf.norm(x, axis=1), lambda x: anp.sqrt(
        anp.sum(x * x, axis=1))),
    ("lookup", lambda x: tf.gather(x, [2, 0, 2]) ** 2,
     lambda x: x[np.array([2, 0, 2])] ** 2),
    ("slices", lambda x: x[:, 1:] * x[:, :-1] / (2.0 + x[:, :1] ** 2),
     lambda x: x[:, 1:] * x[:, :-1] / (2.0 + x[:, :1] ** 2)),
    ("contraction", lambda x: tf.einsum("ij,ik->jk", x, tf.sin(x)),
     lambda x: anp.einsum("ij,ik->jk", x, anp.sin(x))),
    ("normalized", lambda x: tf.nn.batch_normalization(
        x, *tf.nn.moments(x, [0]), None, None, 1e-3),
     lambda x: (x - anp.mean(x, axis=0)) / anp.sqrt(
         anp.var(x, axis=0) + 1e-3)),
    ("loop", _looped, _looped_again),
)


class EnginesTest(graphs.GraphTest):

  @parameterized.named_parameters(*_FUNCTIONS)
  def test_agree(self, function, other):
    x = tf.placeholder(tf.float64, [3, 4])
    v = tf.placeholder(tf.float64, [3, 4])
    y = function(x)
    u = tf.placeholder(tf.float64, y.shape)

    def total(at):
      return anp.sum(other(at))

    f = gf.function([x, v, u], [
        y, gf.gradient(y, x), gf.vjp(y, x, u), gf.jvp(y, x, v),
        gf.jacobian(y, x), gf.hessian(y, x), gf.hvp(y, x, v)],
                    session=self.session)
    random = np.random.RandomState(1)
    for _ in range(2):
      at, v_t = random.normal(size=[2, 3, 4])
      u_t = random.normal(size=y.shape.as_list())
      hessian = autograd.hessian(total)(at)
      jacobian = autograd.jacobian(other)(at)
      expected = [
          other(at), autograd.grad(total)(at),
          autograd.make_vjp(other)(at)[0](u_t),
          np.tensordot(jacobian, v_t, 2), jacobian, hessian,
          np.tensordot(hessian, v_t, 2)]
      for got, want in zip(f(at, v_t, u_t), expected):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)
