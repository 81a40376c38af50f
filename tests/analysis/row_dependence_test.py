"""Which rows are read for one row, held against the Jacobian in numbers."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed.analysis import gradient_flow
from gradfeed.analysis import row_dependence
from gradfeed.graph import traversal
from tests.testing import flows

_BATCH = 3


def _c(*shape):
  """A constant without symmetry, the same in every call."""
  values = np.random.RandomState(sum(shape) + 7).uniform(0.2, 1.2, shape)
  return tf.constant(values)


def _float32(function, x):
  """For ops that have no kernel in float64."""
  return tf.cast(function(tf.cast(x, tf.float32)), tf.float64)


def _ids(x, count):
  """Integers that depend on the values of each row, shape `[B]`."""
  return tf.cast(tf.floor(x[:, 0] * 1000.), tf.int32) % count


def _mlp(x):
  return tf.matmul(tf.tanh(tf.nn.bias_add(tf.matmul(x, _c(4, 5)), _c(5))),
                   _c(5, 2))


def _standardised(x):
  mean, variance = tf.nn.moments(x, [0])
  return tf.nn.batch_normalization(x, mean, variance, _c(4), _c(4), 1e-3)


def _batch_norm(is_training):
  def build(x):
    scale = tf.constant([1., 2.])
    stats = {} if is_training else {
        "mean": tf.constant([.1, .2]), "variance": tf.constant([1., 2.])}
    return _float32(lambda images: tf.nn.fused_batch_norm(
        images, scale, scale, is_training=is_training, **stats)[0], x)
  return build


def _conv(x):
  return tf.nn.relu(tf.nn.conv2d(x, _c(2, 2, 2, 3), 1, "SAME"))


def _deconv(x):
  return tf.nn.conv2d_transpose(
      x, _c(2, 2, 3, 2), tf.stack([tf.shape(x)[0], 8, 8, 3]), 2)


def _attention(x, axis=-1):
  queries, keys, values = (
      tf.tensordot(x, w, 1) for w in (_c(4, 5), _c(4, 5) + 1., _c(4, 6)))
  scores = tf.matmul(queries, keys, transpose_b=True) / 5. ** 0.5
  return tf.matmul(tf.nn.softmax(scores, axis=axis), values)


def _heads(x):
  def split(w):
    h = tf.reshape(tf.tensordot(x, w, 1), [-1, 2, 2, 3])
    return tf.reshape(tf.transpose(h, [0, 2, 1, 3]), [-1, 2, 3])

  mixed = tf.matmul(tf.matmul(split(_c(4, 6)), split(_c(4, 6) + 1.),
                              transpose_b=True), split(_c(4, 6)))
  joined = tf.transpose(tf.reshape(mixed, [-1, 2, 2, 3]), [0, 2, 1, 3])
  return tf.reshape(joined, [-1, 2, 6])


def _input_gradient(x):
  return tf.gradients(tf.reduce_sum(tf.square(_mlp(x))), x)[0]


def _penalty(x):
  h = tf.tanh(x * _c(4) + x[:, 1:2]) * _c(1, 4)
  return tf.gradients(tf.reduce_sum(tf.square(h)), x)[0]


def _q_of_action(x, batch=None):
  q = _mlp(x)
  numbers = tf.range(tf.shape(x)[0] if batch is None else batch)
  return tf.gather_nd(q, tf.stack([numbers, _ids(x, 2)], 1))


@tf.custom_gradient
def _twice(a, b):
  def gradient(da, db):
    return 2. * da, 2. * db
  return (2. * a, 2. * b), gradient


def _custom(x):
  return tuple(_twice(x, tf.reduce_sum(x, 0)))


def _looped(x):
  return tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a * x),
                       [0, x])[1]


def _chosen(x):
  return tf.cond(tf.placeholder_with_default(True, []), lambda: x * 2.,
                 lambda: x)


def _mapped(x):
  return tf.map_fn(tf.square, x)


def _pool(name):
  def build(x):
    return getattr(tf.nn, name)(x, 2, 2, "SAME")
  return build


def _image_gradient(build):
  """Puts the op's gradient op, by what it was computed from, on the path."""
  def wrapped(x):
    images = _c(1, 4, 4, 2) + tf.zeros_like(x)
    return tf.gradients(build(images), images, grad_ys=build(x))[0]
  return wrapped


def _activation_gradient(function):
  def build(x):
    return tf.gradients(function(x - .7), x, grad_ys=tf.square(x))[0]
  return build


def _unary(x):
  h = tf.exp(-tf.square(x)) + tf.log(x + 1.) - tf.sqrt(x) * tf.rsqrt(x + 2.)
  h = tf.sigmoid(h) + tf.erf(x) + tf.abs(x) + tf.reciprocal(x + 1.)
  h += tf.nn.elu(x) + tf.nn.selu(x) + tf.nn.softplus(x) + tf.nn.relu6(x)
  h += tf.nn.softsign(x) + tf.nn.leaky_relu(x) + tf.lgamma(x + 1.)
  h += tf.cast(tf.cast(x, tf.float32), tf.float64) + tf.log1p(x) + tf.sin(x)
  return tf.check_numerics(tf.identity(h), "h")


def _binary(x):
  h = tf.maximum(x, _c(4)) + tf.minimum(x, .7) + tf.pow(x, 2.) / _c(1, 4)
  h += tf.squared_difference(x, _c(4)) + tf.atan2(x, x + 2.)
  h -= x * tf.ones_like(x)
  return tf.add_n([h, x, tf.clip_by_value(x, .4, .9)])


_SURE, _COUPLED = "independent", "coupled "

#: A batch of vectors, of sequences or of images.
_V, _M, _I = [4], [2, 4], [4, 4, 2]

#: The test's name, the shape of x after its batch, y of x, and the start of
#: the verdict, which has {} where it is the better for a batch of known size.
_CASES = [
    # Op by op.
    ("unary", _V, _unary, _SURE),
    ("binary", _V, _binary, _SURE),
    ("activations", _V, lambda x: [
        _activation_gradient(f)(x) for f in (
            tf.nn.relu, tf.nn.relu6, tf.nn.elu, tf.nn.selu, tf.nn.leaky_relu,
            tf.nn.softplus, tf.tanh, tf.sigmoid, tf.reciprocal,
            lambda a: tf.sqrt(a + 1.), lambda a: tf.rsqrt(a + 1.))], _SURE),
    ("stopped_mean", _V, lambda x: x - tf.stop_gradient(
        tf.reduce_mean(x, 0)), _SURE),
    ("mean", _V, lambda x: x - tf.reduce_mean(x, 0), _COUPLED + "Mean"),
    ("mean_keepdims", _V, lambda x: x - tf.reduce_mean(
        x, -2, keepdims=True), _COUPLED + "Mean"),
    ("mean_of_features", _V, lambda x: x - tf.reduce_mean(
        x, 1, keepdims=True), _SURE),
    ("late_mean", _V, lambda x: tf.exp(_mlp(x)) / tf.sqrt(
        tf.reduce_sum(tf.exp(_mlp(x)), 0)), _COUPLED + "Sum"),
    ("projected_mean", _V, lambda x: x + tf.matmul(
        tf.reduce_max(x, 0, keepdims=True), _c(4, 4)), _COUPLED + "Max"),
    ("reductions", _M, lambda x: [
        tf.reduce_prod(x, [1, 2]), tf.reduce_min(x, -1), tf.norm(x, axis=1),
        tf.reduce_logsumexp(x, [-2], keepdims=True)], _SURE),
    ("reduced_axes_computed", _M, lambda x: tf.reduce_sum(
        x, tf.range(1, tf.rank(x))), _SURE),
    ("reduced_axes_unknown", _M, lambda x: x * tf.reduce_sum(
        x, tf.placeholder_with_default([0, 2], [2]), keepdims=True),
     "unknown Sum"),
    ("select", _V, lambda x: tf.where(x > .7, x, tf.square(x)), _SURE),
    ("select_by_vector", _V, lambda x: tf.where(
        x[:, 0] > .7, x, tf.square(x)), _SURE),
    ("select_v2", _V, lambda x: tf.where_v2(
        x[:, :1] > .7, x, tf.constant(1., tf.float64)), _SURE),
    ("select_v2_broadcast", _V, lambda x: tf.where_v2(
        x > .7, x, tf.reduce_mean(x, 0)), _COUPLED + "Mean"),
    ("matmul", _V, _mlp, _SURE),
    ("matmul_flipped", _V, lambda x: tf.transpose(tf.matmul(
        _c(5, 4), x, transpose_b=True)), _SURE),
    ("matmul_transposed", _V, lambda x: tf.matmul(
        tf.transpose(x), _c(4, 5), transpose_a=True), _SURE),
    ("gram", _V, lambda x: tf.matmul(x, x, transpose_b=True),
     _COUPLED + "MatMul"),
    ("gram_of_each", _M, lambda x: tf.matmul(x, x, transpose_b=True), _SURE),
    ("gram_of_features", _V, lambda x: tf.matmul(x, tf.matmul(
        x, x, transpose_a=True)), _COUPLED + "MatMul"),
    ("batch_matmul_broadcast", _M, lambda x: tf.matmul(
        tf.expand_dims(x, 1), _c(1, 3, 4, 2)), _SURE),
    ("batch_matmul_shared", _M, lambda x: tf.matmul(
        x, tf.reduce_sum(x, 0, keepdims=True), adjoint_b=True),
     _COUPLED + "Sum"),
    ("batch_matmul_rows_inside", _M, lambda x: tf.transpose(tf.matmul(
        tf.transpose(x, [1, 0, 2]), _c(2, 4, 5)), [1, 2, 0]), _SURE),
    ("einsum", _M, lambda x: tf.einsum("bij,jk->bki", x, _c(4, 5)), _SURE),
    ("einsum_of_rows", _V, lambda x: tf.einsum("bi,ci->bc", x, x), _COUPLED),
    ("conv", _I, _conv, _SURE),
    ("conv_gradient", _I, _image_gradient(_conv), _SURE),
    ("deconv", _I, _deconv, _SURE),
    ("depthwise", _I, lambda x: tf.nn.depthwise_conv2d(
        x, _c(2, 2, 2, 2), [1, 1, 1, 1], "VALID"), _SURE),
    ("conv3d", [2, 2, 2, 1], lambda x: tf.nn.conv3d(
        x, _c(2, 2, 2, 1, 2), [1] * 5, "SAME"), _SURE),
    ("max_pool", _I, _pool("max_pool2d"), _SURE),
    ("max_pool_gradient", _I, _image_gradient(_pool("max_pool2d")), _SURE),
    ("avg_pool", _I, _pool("avg_pool2d"), _SURE),
    ("avg_pool_gradient", _I, _image_gradient(_pool("avg_pool2d")), _SURE),
    ("lrn", _I, lambda x: _float32(tf.nn.lrn, x), _SURE),
    ("resize", _I, lambda x: _float32(
        lambda images: tf.image.resize_bilinear(images, [3, 5]), x), _SURE),
    ("depth_to_space", [2, 2, 4], lambda x: tf.space_to_depth(
        tf.depth_to_space(x, 2) ** 2., 2), _SURE),
    ("batch_norm_by_statistics", _I, _batch_norm(False), _SURE),
    ("batch_norm", _I, _batch_norm(True), _COUPLED + "FusedBatchNorm"),
    ("moments", _V, _standardised, _COUPLED + "Mean"),
    ("softmax", _V, lambda x: [tf.nn.softmax(x), tf.nn.log_softmax(x)], _SURE),
    ("softmax_over_rows", _V, lambda x: tf.nn.softmax(x, axis=0),
     _COUPLED + "Softmax"),
    ("cross_entropy", _V, lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.nn.softmax(2. * x), logits=x), _SURE),
    ("cross_entropy_sparse", _V,
     lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits(
         labels=_ids(x, 4), logits=x), _SURE),
    ("cross_entropy_sigmoid", _V,
     lambda x: tf.nn.sigmoid_cross_entropy_with_logits(
         labels=tf.square(x), logits=x), _SURE),
    ("l2_loss", _V, lambda x: x * tf.nn.l2_loss(x), _COUPLED + "L2Loss"),
    ("l2_normalize", _V, lambda x: tf.nn.l2_normalize(x, 1), _SURE),
    ("l2_normalize_over_rows", _V, lambda x: tf.nn.l2_normalize(x, 0),
     _COUPLED + "Sum"),
    # Shapes.
    ("flatten", _I, lambda x: tf.matmul(
        tf.reshape(x, [-1, 32]), _c(32, 2)), _SURE),
    ("flatten_by_shape", _I, lambda x: tf.reshape(
        x, tf.stack([tf.shape(x)[0], 32])), _SURE),
    ("flatten_as_layers_do", _I, lambda x: tf.reshape(
        x, tf.stack([tf.shape(x)[0], -1])), _SURE),
    ("unflatten", _V, lambda x: tf.reshape(x, [-1, 2, 1, 2]), _SURE),
    ("time_as_rows", _M, lambda x: tf.reshape(
        _mlp(tf.reshape(x, [-1, 4])), [-1, 2, 2]), _SURE),
    ("time_as_rows_mixed", _M, lambda x: tf.reshape(
        tf.matmul(tf.reshape(x, [-1, 4]), tf.reshape(x, [-1, 4]),
                  transpose_b=True)[:, :4], [-1, 2, 4]), None),
    ("time_as_rows_mean", _M, lambda x: tf.reshape(
        tf.reshape(x, [-1, 4]) - tf.reduce_mean(tf.reshape(x, [-1, 4]), 0),
        [-1, 2, 4]), _COUPLED + "Mean"),
    ("time_first", _M, lambda x: tf.transpose(tf.reshape(
        _mlp(tf.reshape(tf.transpose(x, [1, 0, 2]), [-1, 4])),
        [2, -1, 2]), [1, 0, 2]), _SURE),
    ("rows_straddled", [3, 4], lambda x: tf.transpose(
        tf.reshape(x, [4, -1, 3]), [1, 0, 2]), "unknown Reshape"),
    ("rows_straddling", _V, lambda x: tf.reshape(
        tf.square(tf.reshape(x, [-1, 6])), [-1, 4]), "unknown Reshape"),
    ("transposed", [3], tf.transpose, _COUPLED + "Transpose"),
    ("plus_transposed", [3], lambda x: x + tf.transpose(x),
     _COUPLED + "Transpose"),
    ("there_and_back", _M, lambda x: tf.transpose(
        tf.transpose(x, [2, 0, 1]) * _c(4, 1, 2), [1, 2, 0]), _SURE),
    ("expand_and_squeeze", _V, lambda x: tf.squeeze(
        tf.expand_dims(tf.expand_dims(x, 0), -1) ** 2., [0, -1]), _SURE),
    ("concat", _V, lambda x: tf.concat([x, x * x], -1), _SURE),
    ("concat_of_rows", _V, lambda x: tf.concat([x, x * x], 0)[:3],
     "unknown StridedSlice"),
    ("stack", _V, lambda x: tf.stack(tf.unstack(x * x, axis=1), -1), _SURE),
    ("split", _V, lambda x: tf.multiply(*tf.split(x, 2, -1)), _SURE),
    ("split_unevenly", _V, lambda x: tf.split(x, [1, 3], 1)[1], _SURE),
    ("slice", _V, lambda x: tf.slice(x, [0, 1], [-1, 2]), _SURE),
    ("slice_masks", _I, lambda x: (
        x[..., 1] + x[:, 2, tf.newaxis, :, 0] +
        x[:, 1:, tf.newaxis, ..., ::2][:, :, 0, :, 0][:, :1]), _SURE),
    ("slice_reversed_features", _V, lambda x: x[0:, ::-1], _SURE),
    ("slice_end_computed", _V, lambda x: x[:, :tf.size(x[0]) - 1], _SURE),
    ("one_row", _V, lambda x: x + x[0], _COUPLED + "StridedSlice"),
    ("one_row_kept", _V, lambda x: x + x[:1], "{} StridedSlice"),
    ("one_row_computed", _V, lambda x: x * x[:tf.placeholder_with_default(
        1, [])], "unknown StridedSlice"),
    ("rows_reversed", _V, lambda x: x[::-1], "unknown StridedSlice"),
    ("reverse_rows", _V, lambda x: tf.reverse(x, [-2]),
     _COUPLED + "ReverseV2"),
    ("reverse_features", _V, lambda x: tf.reverse(x, [1]), _SURE),
    ("reverse_sequence", _M, lambda x: tf.reverse_sequence(
        x, 1 + _ids(x[:, 0], 2), seq_axis=1, batch_axis=0), _SURE),
    ("cumsum_of_rows", _V, lambda x: tf.cumsum(x, 0), _COUPLED + "Cumsum"),
    ("cumsum", _V, lambda x: [tf.cumsum(x, -1), tf.cumprod(x, 1)], _SURE),
    ("gather_features", _V, lambda x: tf.gather(x, [2, 0], axis=1), _SURE),
    ("gather_rows", _V, lambda x: tf.gather(x, [2, 1, 0]), "unknown GatherV2"),
    ("gather_one_row", _V, lambda x: x * tf.gather(x, 1),
     _COUPLED + "GatherV2"),
    ("gather_numbered_rows", _V, lambda x: tf.gather(
        x, tf.range(tf.shape(x)[0])), "unknown GatherV2"),
    ("batch_gather", _V, lambda x: tf.squeeze(tf.gather(
        x, tf.expand_dims(_ids(x, 4), 1), axis=1, batch_dims=1), 1), None),
    ("embedding", _V, lambda x: x * tf.gather(_c(5, 4), _ids(x, 5)), _SURE),
    ("gather_nd", _V, _q_of_action, _SURE),
    ("gather_nd_one", _V, lambda x: x[:, 0] * _q_of_action(
        x[:1], 1), _COUPLED),
    ("gather_nd_other", _V, lambda x: tf.gather_nd(
        x, tf.stack([_ids(x, 3), _ids(x, 4)], 1)), "unknown GatherNd"),
    ("one_hot", _V, lambda x: x * tf.one_hot(
        _ids(x, 4), 4, dtype=tf.float64), _SURE),
    ("one_hot_values", _V, lambda x: tf.one_hot(
        _ids(x, 4), 4, on_value=tf.constant(2., tf.float64)) * x, _SURE),
    ("tile", _V, lambda x: tf.tile(x, [1, 2]), _SURE),
    ("tile_rows", _V, lambda x: x * tf.tile(tf.reduce_sum(
        x, 0, keepdims=True), [tf.shape(x)[0], 1]), _COUPLED + "Sum"),
    ("tile_each", _V, lambda x: tf.tile(
        tf.expand_dims(x, 1), [1, tf.shape(x)[1], 1]), _SURE),
    ("tile_batch", _V, lambda x: tf.tile(x, [2, 1])[:3],
     "unknown StridedSlice"),
    ("broadcast", _V, lambda x: x + tf.broadcast_to(
        tf.reduce_sum(x, 0), tf.shape(x)), _COUPLED + "Sum"),
    ("fill", _V, lambda x: x * tf.fill(
        tf.shape(x), tf.reduce_sum(x)), _COUPLED + "Sum"),
    ("pad", _V, lambda x: tf.concat([
        tf.pad(x, [[0, 0], [1, 0]]), tf.pad(x, [[0, 0], [2, 1]], "REFLECT"),
        tf.pad(x, [[0, 0], [0, 1]], constant_values=2.)], 1), _SURE),
    ("pad_rows", _V, lambda x: tf.pad(x, [[1, 0], [0, 0]])[:-1],
     "unknown StridedSlice"),
    ("top_k", _V, lambda x: tf.nn.top_k(x, 2)[0], _SURE),
    ("matrices", [2, 2], lambda x: [
        tf.matrix_inverse(x + 2. * tf.eye(2, dtype=tf.float64)),
        tf.cholesky(tf.matmul(x, x, transpose_b=True) +
                    tf.eye(2, dtype=tf.float64)),
        tf.matrix_band_part(x, 0, -1), tf.matrix_diag(x),
        tf.matrix_solve(x + 2. * tf.eye(2, dtype=tf.float64), x)], _SURE),
    ("matrix_parts", [2, 2], lambda x: [
        tf.matrix_determinant(x), tf.matrix_diag_part(x), tf.trace(x),
        tf.matrix_set_diag(x, x[:, 0])], _SURE),
    ("fourier", _V, lambda x: tf.abs(tf.fft(tf.cast(x, tf.complex128))),
     _SURE),
    ("segments", _V, lambda x: tf.gather(tf.segment_sum(
        x, [0, 0, 1]), [0, 0, 1]), "unknown GatherV2"),
    # Parts of models.
    ("dense_on_time", _M, lambda x: tf.tensordot(x, _c(4, 5), 1), _SURE),
    ("attention", _M, _attention, _SURE),
    ("attention_heads", _M, _heads, _SURE),
    ("attention_to_others", _V, lambda x: tf.matmul(tf.nn.softmax(tf.matmul(
        x, x, transpose_b=True)), x), _COUPLED + "MatMul"),
    ("input_gradient", _V, _input_gradient, _SURE),
    ("gradient_of_broadcast", _V, _penalty, _SURE),
    ("gradient_of_concat", _V, lambda x: tf.gradients(_mlp(tf.concat(
        [tf.square(x[:, :2]), x[:, :2]], 1)), x)[0], _SURE),
    ("custom_gradient", _V, lambda x: _custom(x)[0], _SURE),
    ("custom_gradient_mixing", _V, lambda x: x + _custom(x)[1],
     _COUPLED + "Sum"),
    ("two_results", _V, lambda x: [_mlp(x), x - tf.reduce_mean(x, 0)],
     _COUPLED + "Mean"),
    ("no_path", _V, lambda x: tf.stop_gradient(x), _SURE),
    ("default", _V, lambda x: tf.placeholder_with_default(
        x, x.shape) ** 2., _SURE)]


class _GraphTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.graph = tf.Graph()
    self.enter_context(self.graph.as_default())


def _is_coupled(ys, x, value):
  """Whether an entry of the Jacobian off the blocks of one row is not zero."""
  with tf.Session() as session:
    for y in ys:
      picked = tf.placeholder(tf.float64, None)
      dx, = tf.gradients(y, x, grad_ys=tf.reshape(picked, tf.shape(y)))
      if dx is None:
        continue
      size = session.run(tf.size(y), {x: value})
      for i, one in enumerate(np.eye(size)):
        blocks = np.abs(session.run(dx, {x: value, picked: one})).reshape(
            [_BATCH, -1]).sum(1)
        blocks[i // (size // _BATCH)] = 0.
        if (blocks > 1e-9).any():
          return True
  return False


class CouplingTest(_GraphTest):

  def _verdict(self, x, ys):
    verdict, op = row_dependence.coupling(
        ys, x,
        gradient_flow.GradientTrace(ys, [x]).path)
    return verdict if op is None else "{} {}".format(verdict, op.type)

  def _check(self, x, ys, tail):
    """The verdict, after it was held against the Jacobian in numbers."""
    verdict = self._verdict(x, ys)
    value = np.random.RandomState(3).uniform(.3, 1.1, [_BATCH] + tail)
    if not verdict.startswith("unknown"):
      self.assertEqual(verdict.startswith("coupled"), _is_coupled(ys, x, value),
                       verdict)
    return verdict

  @parameterized.named_parameters(
      *[(name + suffix, [batch] + tail, build, expected)
        for name, tail, build, expected in _CASES
        for suffix, batch in (("", None), ("_static", _BATCH))])
  def test_verdict(self, shape, build, expected):
    x = tf.placeholder(tf.float64, shape, name="x")
    built = build(x)
    verdict = self._check(
        x, built if isinstance(built, list) else [built], shape[1:])
    if expected is not None:
      start = "coupled" if shape[0] else "unknown"  # What TensorFlow knows.
      self.assertStartsWith(verdict, expected.format(start))

  @parameterized.named_parameters(
      ("dense", lambda x: tf.tensordot(x, _c(4, 5), 1), _SURE),
      ("dense_dense", lambda x: tf.tensordot(tf.tanh(
          tf.tensordot(x, _c(4, 5), 1) + _c(5)), _c(5, 2), 1), _SURE),
      ("attention", _attention, _SURE),
      ("attention_and_on", lambda x: tf.tensordot(
          x + _attention(x)[..., :4], _c(4, 2), 1), _SURE),
      ("flatten", lambda x: tf.reshape(x, [tf.shape(x)[0], -1]), _SURE),
      ("softmax", lambda x: tf.nn.log_softmax(tf.nn.softmax(x, 1)), _SURE),
      ("cross_entropy", lambda x: tf.reduce_sum(
          tf.nn.softmax_cross_entropy_with_logits_v2(
              labels=x, logits=tf.tensordot(x, _c(4, 4), 1)), 1), _SURE),
      ("by_hand", lambda x: tf.reshape(
          _mlp(tf.reshape(x, [-1, 4])),
          [tf.shape(x)[0], tf.shape(x)[1], 2]), _SURE),
      ("by_hand_of_another", lambda x: tf.reshape(
          _mlp(tf.reshape(x, [tf.shape(x)[0] * tf.shape(x)[1], 4])),
          tf.concat([tf.shape(tf.tanh(x))[:-1], [2]], 0)), _SURE),
      ("time_first", lambda x: tf.transpose(tf.reshape(
          _mlp(tf.reshape(tf.transpose(x, [1, 0, 2]), [-1, 4])),
          [tf.shape(x)[1], tf.shape(x)[0], 2]), [1, 0, 2]), _SURE),
      ("time_and_rows_confused", lambda x: tf.reshape(
          _mlp(tf.reshape(tf.transpose(x, [1, 0, 2]), [-1, 4])),
          [tf.shape(x)[0], tf.shape(x)[1], 2]), "unknown Reshape"),
      ("sizes_confused", lambda x: tf.transpose(tf.reshape(
          x, [tf.shape(x)[1], tf.shape(x)[0], 4]), [1, 0, 2]),
       "unknown Reshape"),
      ("size_doubled", lambda x: tf.reshape(
          x, [tf.shape(x)[0], tf.shape(x)[1] * 2, -1]), _SURE),
      ("size_computed", lambda x: tf.reshape(
          x, [tf.shape(x)[0], tf.maximum(tf.shape(x)[1], 1), -1]),
       "unknown Reshape"),
      ("mean", lambda x: tf.tensordot(
          x - tf.reduce_mean(x, [0, 1]), _c(4, 5), 1), "coupled Mean"),
      ("product", lambda x: x * tf.reduce_sum(tf.reshape(
          tf.reshape(x, [-1, 4]), tf.shape(x)), 0), "coupled Sum"))
  def test_sequences_of_any_length(self, build, expected):
    x = tf.placeholder(tf.float64, [None, None, 4], name="x")
    self.assertStartsWith(self._check(x, [build(x)], [2, 4]), expected)

  @parameterized.named_parameters(
      ("while_v1", 1, _looped, "Exit"), ("while_v2", 2, _looped, "While"),
      ("cond_v1", 1, _chosen, "Merge"), ("cond_v2", 2, _chosen, "If"),
      ("map_v1", 1, _mapped, "TensorArrayGather"),
      ("map_v2", 2, _mapped, "TensorArrayGather|TensorListStack"))
  def test_control_flow_is_unknown(self, flow, build, op_type):
    x = tf.placeholder(tf.float64, [None, 4], name="x")
    with flows.control_flow(flow):
      y = build(x)
    self.assertRegex(self._verdict(x, [y]),
                     "unknown (Identity)?(Stateless)?({})".format(op_type))

  @parameterized.named_parameters(
      ("tile", lambda x: tf.tile(x, [2, 1]), "Tile"),
      ("pad", lambda x: tf.pad(x, [[0, 1], [0, 0]]), "Pad"),
      ("pad_by_columns", lambda x: tf.pad(
          x, tf.stack([[0, 0], [1, 0]], axis=1)), "Pad"),
      ("slice", lambda x: tf.slice(x, [0, 0], [2, -1]), "Slice"),
      ("slice_from", lambda x: tf.slice(x, [1, 0], [-1, -1]), "Slice"),
      ("strided_slice", lambda x: x[:2], "StridedSlice"),
      ("concat", lambda x: tf.concat([x, x], 0), "ConcatV2"),
      ("stack", lambda x: tf.stack([x, x]), "Pack"),
      ("split", lambda x: tf.split(x, [1, -1], 0)[1], "SplitV"),
      ("gather_nd", lambda x: tf.gather_nd(
          x, tf.stack([tf.range(2), [1, 0]], 1)), "GatherNd"),
      ("gather_nd_from", lambda x: tf.gather_nd(x, tf.stack(
          [tf.range(1, tf.shape(x)[0]), [1, 0]], 1)), "GatherNd"))
  def test_rows_that_move_are_unknown(self, build, op_type):
    x = tf.placeholder(tf.float64, [None, 4], name="x")
    self.assertEqual(self._verdict(x, [build(x)]), "unknown " + op_type)

  def test_function_is_unknown(self):
    x = tf.placeholder(tf.float64, [None, 4], name="x")
    y = tf.py_func(lambda a: a - a.mean(0), [x], tf.float64, name="f")
    y.set_shape([None, 4])
    ops = {op.name: op for op in self.graph.get_operations()}
    verdict, op = row_dependence.coupling([tf.identity(y)], x, ops)
    self.assertEqual((verdict, op), ("independent", None))  # Not among them.
    verdict, op = row_dependence.coupling([y], x, ops)
    self.assertEqual((verdict, op.name), ("unknown", "f"))

  def test_without_a_known_rank(self):
    x = tf.placeholder(tf.float64, name="x")
    self.assertEqual(self._verdict(x, [tf.tanh(x)]), "independent")
    self.assertEqual(self._verdict(x, [tf.tanh(x) + 1.]), "unknown AddV2")

  def test_rows_in_blocks_of_x_are_unknown(self):
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    self.assertEqual(self._verdict(x, [tf.reshape(x, [-1, 4])]),
                     "unknown Reshape")

  def test_long_chains(self):
    x = y = tf.placeholder(tf.float64, [None, None, 4])
    for _ in range(3000):  # More than Python would recurse.
      y = tf.identity(y)
    self.assertEqual(self._verdict(x, [y]), "independent")
    y = tf.reshape(tf.reshape(y, [-1, 4]), tf.shape(y))
    self.assertEqual(self._verdict(x, [y]), "independent")

  def test_many_ways(self):
    x = y = tf.placeholder(tf.float64, [None, None, 4])
    for _ in range(40):
      y = tf.tensordot(y + tf.tanh(y) * y, _c(4, 4), 1)
    self.assertEqual(self._verdict(x, [y]), "independent")

  @parameterized.named_parameters(("ref", False), ("resource", True))
  def test_variable(self, use_resource):
    x = tf.get_variable("v", [_BATCH, 2], tf.float64, use_resource=use_resource)
    point = x.handle if use_resource else x.op.outputs[0]
    self.assertEqual(self._verdict(point, [tf.tanh(x)]), "independent")
    self.assertEqual(self._verdict(point, [x - tf.reduce_sum(x, 0)]),
                     "coupled Sum")


class RowsTest(_GraphTest):

  def _rows(self, *ys, **options):
    """The `RowDependence` of `ys` in all that they are computed from."""
    rows = row_dependence.RowDependence(list(ys), traversal.ancestors(ys),
                                        **options)
    self.assertEmpty(rows.unknown)
    return rows

  def _kinds(self, rows, *tensors):
    """For each tensor the axis of its rows, "whole", or None."""
    return [rows.axes.get(t.name, "whole" if t.name in rows.whole else None)
            for t in tensors]

  def test_mlp(self):
    x = tf.placeholder(tf.float64, [None, 4], name="x")
    labels = tf.placeholder(tf.float64, [None, 2], name="labels")
    rate = tf.placeholder(tf.float64, [], name="rate")
    w = tf.get_variable("w", [4, 2], tf.float64, use_resource=True)
    b = tf.get_variable("b", [2], tf.float64, use_resource=True)
    h = tf.nn.bias_add(tf.matmul(x, w, name="product"), b, name="h")
    y = tf.reduce_sum(tf.square(h * rate - labels), 1)
    rows = self._rows(y)
    self.assertEqual(
        self._kinds(rows, x, labels, rate, w.handle, b.handle, h),
        [0, 0, "whole", "whole", "whole", 0])
    self.assertEqual(rows.readers[x.name].name, "product")
    self.assertEqual(rows.whole[rate.name].type, "Mul")
    self.assertEqual(rows.readers[h.name].type, "Mul")
    self.assertIsNone(rows.readers[y.name])
    self.assertEmpty(rows.blocks)
    self.assertEmpty(rows.picked)

  def test_cnn(self):
    x = tf.placeholder(tf.float64, [None, 4, 4, 2], name="x")
    labels = tf.placeholder(tf.int32, [None], name="labels")
    kernel = tf.get_variable("kernel", [2, 2, 2, 3], tf.float64,
                             use_resource=False)
    h = tf.nn.max_pool2d(tf.nn.relu(
        tf.nn.conv2d(x, kernel, 1, "SAME")), 2, 2, "SAME")
    h = tf.reshape(h, tf.stack([tf.shape(x)[0], 12]), name="flat")
    y = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=tf.matmul(h, _c(12, 2)))
    rows = self._rows(y)
    self.assertEqual(
        self._kinds(rows, x, labels, kernel.op.outputs[0], h),
        [0, 0, "whole", 0])
    shape = self.graph.get_operation_by_name("flat").inputs[1]
    self.assertEqual(rows.shapes[shape.name].name, "flat")
    self.assertNotIn(shape.name, rows.whole)
    self.assertNotIn(x.name, rows.shapes)
    self.assertContainsSubset(
        ["Shape"], [self.graph.get_tensor_by_name(name).op.type
                    for name in rows.shapes])

  @parameterized.named_parameters(("training", True), ("trained", False))
  def test_batch_norm(self, is_training):
    x = tf.placeholder(tf.float32, [None, 4, 4, 2], name="x")
    h = tf.tanh(x)
    ones = tf.ones([2], name="ones")
    stats = {} if is_training else {"mean": ones, "variance": ones}
    y = tf.nn.fused_batch_norm(h, ones, ones, is_training=is_training,
                               **stats)[0]
    rows = self._rows(y)
    self.assertEqual(self._kinds(rows, h, x, ones),
                     ["whole"] * 3 if is_training else [0, 0, "whole"])
    if is_training:
      self.assertStartsWith(rows.whole[h.name].type, "FusedBatchNorm")
      self.assertEqual(rows.whole[x.name].type, "Tanh")

  def test_batch_norm_by_hand(self):
    x = tf.placeholder(tf.float64, [None, 4], name="x")
    rows = self._rows(_standardised(x))
    self.assertEqual(rows.axes[x.name], 0)  # In both.
    self.assertIn(x.name, rows.whole)

  def test_attention(self):
    x = tf.placeholder(tf.float64, [None, 2, 4], name="x")
    mask = tf.placeholder(tf.float64, [None, 2], name="mask")
    w = tf.placeholder(tf.float64, [4, 5], name="w")
    h = tf.tensordot(x, w, 1)
    scores = tf.matmul(h, h, transpose_b=True)
    y = tf.matmul(tf.nn.softmax(scores + mask[:, tf.newaxis]), h)
    rows = self._rows(y)
    self.assertEqual(self._kinds(rows, x, mask, w, scores, h),
                     [0, 0, "whole", 0, 0])
    product, = [op.outputs[0] for op in self.graph.get_operations()
                if op.type == "MatMul"]
    self.assertEqual(rows.blocks[product.name], (0, 2))
    self.assertNotIn(product.name, rows.axes)
    self.assertNotIn(x.name, rows.whole)

  def test_blocks_that_are_not_simple(self):
    x = tf.placeholder(tf.float64, [None, None, 4], name="x")
    product = tf.matmul(tf.reshape(x, [-1, 4]), _c(4, 2))
    rows = self._rows(tf.reshape(
        product, [tf.shape(x)[0], tf.shape(x)[1], 2]))
    self.assertEqual(rows.blocks[product.name], (0, None))
    self.assertEqual(rows.axes[x.name], 0)

  def test_embedding(self):
    ids = tf.placeholder(tf.int32, [None, 3], name="ids")
    lengths = tf.placeholder(tf.int32, [None], name="lengths")
    table = tf.get_variable("table", [7, 4], tf.float64, use_resource=True)
    mask = tf.sequence_mask(lengths, 3, tf.float64)
    y = tf.reduce_mean(tf.nn.embedding_lookup(table, ids) *
                       mask[..., tf.newaxis], 1)
    rows = self._rows(y)
    self.assertEqual(self._kinds(rows, ids, lengths, table.handle),
                     [0, 0, "whole"])
    self.assertIn(table.handle.name, rows.picked)
    self.assertEqual(rows.whole[table.handle.name].type, "ResourceGather")

  def test_time_first(self):
    x = tf.placeholder(tf.float64, [5, None, 4], name="x")
    y = tf.reduce_sum(tf.tanh(x), [0, 2])
    self.assertEqual(self._rows(y).axes[x.name], 1)
    self.assertEqual(self._rows(tf.tanh(x), axis=1).axes[x.name], 1)

  def test_select_by_a_vector(self):
    x = tf.placeholder(tf.float64, [None, 4], name="x")
    chosen = tf.placeholder(tf.bool, [None], name="chosen")
    y = tf.where(chosen, x, tf.square(x))
    self.assertEqual(self._kinds(self._rows(y), x, chosen), [0, 0])
    self.assertEqual(self._kinds(self._rows(y, axis=1), x, chosen),
                     [1, "whole"])

  def test_rows_that_are_reduced(self):
    x = tf.placeholder(tf.float64, [None, 4], name="x")
    rows = self._rows(tf.reduce_sum(x, 0, keepdims=True))
    self.assertEqual(self._kinds(rows, x), ["whole"])

  def test_what_is_not_among_the_ops(self):
    x = tf.placeholder(tf.float64, [None, 4], name="x")
    h = tf.tanh(x)
    mean = tf.reduce_mean(h, 0)
    y = h - mean
    rows = row_dependence.RowDependence([y], {y.op.name: y.op})
    self.assertEqual(rows.axes, {y.name: 0, h.name: 0})
    self.assertEqual(rows.whole, {mean.name: y.op})

  def test_two_directions_make_whole(self):
    x = tf.placeholder(tf.float64, [None, None], name="x")
    rows = self._rows(x + tf.transpose(x))
    self.assertEqual(rows.axes[x.name], 0)
    self.assertEqual(rows.whole[x.name].type, "Transpose")

  def test_unknown_stops(self):
    x = tf.placeholder(tf.float64, [None, 4], name="x")
    h = tf.tanh(x)
    noise = tf.random_uniform([4], dtype=tf.float64)
    y = tf.py_func(lambda a: a, [h], tf.float64, name="f") * x * noise
    rows = row_dependence.RowDependence([y], traversal.ancestors([y]))
    self.assertEqual(rows.unknown[0].type, "Mul")  # Its rank is not known.
    product = tf.multiply(x, noise)
    rows = row_dependence.RowDependence([product],
                                        traversal.ancestors([product]))
    self.assertEqual([op.type for op in rows.unknown], ["RandomUniform"])
    self.assertEqual(rows.axes[x.name], 0)

  def test_a_size_as_a_number(self):
    x = tf.placeholder(tf.float64, [None, 4], name="x")
    y = x / tf.cast(tf.shape(x, name="sizes")[0], tf.float64)
    rows = self._rows(y)
    self.assertIn("sizes:0", rows.whole)
    self.assertEqual(self._kinds(rows, x), [0])
    numbers = self._rows(x[:, 0] * tf.cast(
        tf.range(tf.shape(x, name="more")[0]), tf.float64))
    self.assertIn("more:0", numbers.whole)

  def test_data_that_settle_shapes(self):
    lengths = tf.placeholder(tf.int32, [None], name="lengths")
    y = tf.tile(tf.cast(lengths, tf.float64)[:, tf.newaxis],
                [1, tf.reduce_max(lengths)])
    rows = self._rows(y)
    self.assertEqual(rows.axes[lengths.name], 0)
    self.assertIn(lengths.name, rows.shapes)
    self.assertNotIn(lengths.name, rows.whole)


if __name__ == "__main__":
  absltest.main()
