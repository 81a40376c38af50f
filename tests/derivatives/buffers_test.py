"""Second derivatives do not depend on what is fetched with them.

A kernel that writes over an input that another op still reads gives one number
alone and another one where the input is fetched as well.
"""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import graphs

_SHAPE = [2, 4, 4, 2]


def _rows(x):
  return tf.reshape(x, [8, 8])


def _square(x):
  matrix = tf.reshape(x, [4, 4, 4])
  return tf.matmul(matrix, matrix, adjoint_b=True) + 3.0 * tf.eye(
      4, dtype=x.dtype)


_ELEMENTWISE = [
    "tanh", "sigmoid", "exp", "sin", "cos", "tan", "square", "abs", "negative",
    "sinh", "cosh", "asinh", "atan", "erf", "expm1", "reciprocal"]
_OF_POSITIVE = ["log", "log1p", "sqrt", "rsqrt", "lgamma", "digamma", "acosh"]
_ACTIVATIONS = [
    "relu", "relu6", "elu", "selu", "softplus", "leaky_relu", "softmax",
    "log_softmax", "l2_loss"]
_REDUCTIONS = ["sum", "mean", "max", "min", "prod", "logsumexp"]

_FUNCTIONS = [
    (name, lambda x, f=getattr(tf.math, name): f(x)) for name in _ELEMENTWISE
] + [
    (name, lambda x, f=getattr(tf.math, name): f(x * x + 1.5))
    for name in _OF_POSITIVE
] + [
    (name, lambda x, f=getattr(tf.nn, name): f(x)) for name in _ACTIVATIONS
] + [
    ("reduce_" + name, lambda x, f=getattr(tf, "reduce_" + name): f(x, [1, 3]))
    for name in _REDUCTIONS
] + [
    ("max_pool_of_2", lambda x: tf.nn.max_pool(x, 2, 2, "VALID")),
    ("avg_pool_of_1", lambda x: tf.nn.avg_pool(x, 1, 1, "SAME")),
    ("avg_pool_of_3", lambda x: tf.nn.avg_pool(x, 3, 1, "SAME")),
    ("conv2d", lambda x: tf.nn.conv2d(
        x, tf.ones([3, 3, 2, 2], x.dtype), 1, "SAME")),
    ("conv2d_by_1", lambda x: tf.nn.conv2d(
        x, tf.ones([1, 1, 2, 2], x.dtype), 1, "SAME")),
    ("conv2d_by_itself", lambda x: tf.nn.conv2d(
        x, tf.reshape(x[0, :2, :2], [2, 2, 2, 1]), 1, "SAME")),
    ("depthwise", lambda x: tf.nn.depthwise_conv2d(
        x, tf.ones([3, 3, 2, 1], x.dtype), [1, 1, 1, 1], "SAME")),
    ("bias_add", lambda x: tf.nn.bias_add(x, x[0, 0, 0])),
    ("cumsum", lambda x: tf.cumsum(x, 1)),
    ("cumprod", lambda x: tf.cumprod(x, 1)),
    ("maximum", lambda x: tf.maximum(x, x[::-1])),
    ("minimum", lambda x: tf.minimum(x, x[::-1])),
    ("divide", lambda x: x / (x[::-1] ** 2 + 1.0)),
    ("power", lambda x: (x * x + 0.5) ** x[::-1]),
    ("squared_difference", lambda x: tf.math.squared_difference(x, x[::-1])),
    ("matmul", lambda x: tf.matmul(_rows(x), _rows(x))),
    ("batch_matmul", lambda x: tf.matmul(x, x, transpose_b=True)),
    ("einsum", lambda x: tf.einsum("bijc,bjkc->bik", x, x)),
    ("inverse", lambda x: tf.linalg.inv(_square(x))),
    ("cholesky", lambda x: tf.linalg.cholesky(_square(x))),
    ("solve", lambda x: tf.linalg.solve(_square(x), _square(x)[:, :, :1])),
    ("top_k", lambda x: tf.nn.top_k(x, 2)[0]),
    ("sort", lambda x: tf.sort(x, 1)),
    ("gather", lambda x: tf.gather(x, [1, 1, 0], axis=1)),
    ("segments", lambda x: tf.math.unsorted_segment_max(
        x, tf.constant([0, 0]), 1)),
    ("update", lambda x: tf.tensor_scatter_nd_update(
        x, [[0]], x[1:] ** 2)),
    ("where", lambda x: tf.where(x > 0.0, x, x[::-1])),
    ("clip", lambda x: tf.clip_by_value(x, -0.5, 0.5)),
    ("clip_by_norm", lambda x: tf.clip_by_norm(x, 1.0)),
    ("pad", lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT")),
    ("space_to_depth", lambda x: tf.space_to_depth(x, 2)),
    ("cross_entropy", lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.one_hot([[[0] * 4] * 4] * 2, 2, dtype=x.dtype), logits=x)),
    ("sigmoid_entropy", lambda x: tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.ones_like(x), logits=x)),
    ("batch_norm", lambda x: tf.nn.batch_normalization(
        x, *tf.nn.moments(x, [0, 1, 2]), offset=None, scale=None,
        variance_epsilon=0.1)),
    ("fused_batch_norm", lambda x: tf.cast(tf.nn.fused_batch_norm(
        tf.cast(x, tf.float32), [1.0, 1.0], [0.0, 0.0])[0], x.dtype)),
    ("extract_patches", lambda x: tf.image.extract_patches(
        x, [1, 2, 2, 1], [1, 1, 1, 1], [1, 1, 1, 1], "SAME")),
    ("fft", lambda x: tf.math.real(tf.signal.fft(tf.complex(x, x * x)))),
    ("dynamic_stitch", lambda x: tf.dynamic_stitch([[0], [0]], [x[:1], x[1:]])),
]


class BuffersTest(graphs.GraphTest):

  @parameterized.named_parameters(*_FUNCTIONS)
  def test_s22_alone_and_with_what_it_reads(self, function):
    random = np.random.RandomState(1)
    at, d, w = random.normal(size=[3] + _SHAPE)
    x = tf.placeholder(tf.float64, _SHAPE)
    v = tf.placeholder(tf.float64, _SHAPE)
    # What is forwarded has to be a result of an op, which nothing else reads.
    y = function(tf.identity(x) * 1.0)
    tangent = v * 1.0
    loss = tf.reduce_sum(y ** 2)
    by = {x: at, v: d}
    for name, result, first in (
        ("jvp", gf.jvp(y, x, tangent), y),
        ("hvp", gf.hvp(loss, x, tangent), gf.gradient(loss, x))):
      alone = self.session.run(result, by)
      reads = [t for op in self.graph.get_operations()
               if op.name.startswith("gradfeed/") for t in op.inputs
               if t.dtype.base_dtype == tf.float64 and "cond" not in t.name]
      reads = list({t.name: t for t in reads + [tangent]}.values())
      together = self.session.run([result] + [
          t for t in reads if self.graph.is_fetchable(t)], by)[0]
      np.testing.assert_allclose(alone, together, rtol=1e-9, atol=1e-12,
                                 err_msg=name)
      ahead, behind = [self.session.run(first, {x: at + h * d})
                       for h in (1e-6, -1e-6)]
      if "fused" not in self.id():  # That one computes in float32.
        np.testing.assert_allclose(
            alone, (ahead - behind) / 2e-6, rtol=1e-4,
            atol=1e-5 * max(1.0, np.abs(alone).max()), err_msg=name)
