"""Random networks: a graph, a point, no two alike."""

import numpy as np
import tensorflow.compat.v1 as tf

_IMAGES = ("average", "convolution", "elu", "normalization", "pool", "relu")

_ROWS = ("branch", "dense", "gather", "leaky", "loop", "maximum", "moments",
         "norm", "relu", "sigmoid", "softmax", "softplus", "tanh")
_ENDS = (lambda h: h, tf.reduce_mean, lambda h: tf.reduce_sum(h * h),
         lambda h: tf.log(tf.reduce_sum(h * h) + 1e-3))


def network(seed, dtype):
  """Builds one in the default graph.

  Args:
    seed: int.
    dtype: `tf.float32` or `tf.float64`.

  Returns:
    (x, y, x_t): placeholder, tensor, array of values for x.
  """
  rng = np.random.RandomState(seed)
  is_image = rng.randint(3) == 0
  shape = [rng.randint(1, 4)] + (
      [rng.randint(4, 7), rng.randint(4, 7), rng.randint(1, 4)] if is_image
      else [rng.randint(1, 10)])
  x = tf.placeholder(dtype, [None] + shape[1:], name="x")
  scale = 10.0 ** rng.uniform(-3, 3)
  h = x / scale
  if is_image:
    for _ in range(rng.randint(1, 3)):
      h = _image_layer(h, _IMAGES[rng.randint(len(_IMAGES))], rng)
    h = tf.reshape(h, [-1, int(np.prod(h.shape.as_list()[1:]))])
  for _ in range(rng.randint(1, 4)):
    h = _row_layer(h, _ROWS[rng.randint(len(_ROWS))], rng)
  x_t = rng.normal(size=shape) * scale * 10.0 ** rng.uniform(-1, 1)
  return x, _ENDS[rng.randint(len(_ENDS))](h), x_t.astype(
      dtype.as_numpy_dtype)


def _weights(rng, dtype, *shape):
  fan = shape[-2] if len(shape) > 1 else 1
  return tf.constant(rng.normal(size=shape) / np.sqrt(fan), dtype)


def _image_layer(h, kind, rng):
  channels = h.shape.as_list()[-1]
  if kind == "convolution":
    return tf.nn.conv2d(h, _weights(
        rng, h.dtype, 3, 3, channels, rng.randint(1, 5)), [1, 1, 1, 1], "SAME")
  if kind == "normalization" and h.dtype == tf.float32:
    return tf.nn.fused_batch_norm(h, tf.ones([channels]),
                                  tf.zeros([channels]))[0]
  if kind == "pool":
    return tf.nn.max_pool(h, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
  if kind == "average":
    return tf.nn.avg_pool(h, [1, 2, 2, 1], [1, 1, 1, 1], "SAME")
  return tf.nn.elu(h) if kind == "elu" else tf.nn.relu(h)


def _row_layer(h, kind, rng):
  width, out = h.shape.as_list()[-1], rng.randint(1, 10)
  square = _weights(rng, h.dtype, width, width)
  dense = tf.matmul(h, _weights(rng, h.dtype, width, out)) + _weights(
      rng, h.dtype, out)
  if kind == "loop":
    return tf.while_loop(lambda i, a: i < 3, lambda i, a: (
        i + 1, tf.tanh(tf.matmul(a, square))), [0, h])[1]
  if kind == "branch":
    return tf.cond(tf.reduce_sum(h) > 0, lambda: tf.matmul(h, square),
                   lambda: h * 0.5)
  if kind == "moments":
    mean, variance = tf.nn.moments(h, [0])
    return (h - mean) * tf.rsqrt(variance + 1e-3)
  if kind == "norm":
    return h / tf.sqrt(tf.reduce_sum(h * h, 1, keepdims=True) + 1e-6)
  return {
      "dense": lambda: dense,
      "gather": lambda: tf.gather(h, rng.randint(width, size=5), axis=1),
      "leaky": lambda: tf.nn.leaky_relu(h),
      "maximum": lambda: tf.maximum(h, 0.3 * tf.reverse(h, [1])),
      "relu": lambda: tf.nn.relu(dense),
      "sigmoid": lambda: tf.sigmoid(h),
      "softmax": lambda: tf.nn.softmax(h),
      "softplus": lambda: tf.nn.softplus(h),
      "tanh": lambda: tf.tanh(2.0 * h)}[kind]()
