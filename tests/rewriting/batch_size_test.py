"""Graphs of one row for many rows: what TensorFlow gives row by row."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from gradfeed import errors
from gradfeed.graph import effects
from gradfeed.rewriting import batch_size
from tests import conftest
from tests.testing import graphs

_ROWS = 5


def _input(*shape):
  return tf.placeholder(tf.float64, (1,) + shape)


def _constant(*shape):
  return tf.constant(np.random.RandomState(sum(shape)).normal(size=shape))


def _variable(*shape):
  value = np.random.RandomState(sum(shape)).normal(size=shape)
  return graphs.variable("v_{}".format("_".join(map(str, shape))), value,
                         conftest.MODE == "v2")


def _of(shape, y):
  """A graph whose result is d sum(y(x)) / dx."""
  def build():
    x = _input(*shape)
    return [x], [gf.gradient(y(x), x)]
  return build


def _value(shape, y):
  """A graph whose result is y(x)."""
  x = _input(*shape)
  return [x], [y(x)]


def _network(reshaped):
  """Two convolutions, reshaped so in between, from a flat image."""
  def y(x):
    image = tf.reshape(x, [1, 6, 6, 1])
    image = tf.nn.relu(tf.nn.conv2d(
        image, _constant(3, 3, 1, 2), [1, 1, 1, 1], "SAME"))
    image = tf.nn.max_pool(image, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    image = tf.nn.depthwise_conv2d(
        image, _constant(2, 2, 2, 2), [1, 1, 1, 1], "SAME")
    image = tf.nn.avg_pool(tf.tanh(image), [1, 2, 2, 1], [1, 1, 1, 1], "SAME")
    flat = tf.reshape(image, reshaped)
    return tf.nn.log_softmax(tf.matmul(flat, _constant(36, 3)))[:, 1]
  return y


def _cross_entropy(labels):
  """The mean over the batch of one, with labels that are an input or held."""
  def build():
    x = _input(4)
    own = labels()
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=own, logits=tf.matmul(x, _variable(4, 3)) + _variable(3)))
    return [x] + ([own] if own.op.type == "Placeholder" else []), [
        gf.gradient(loss, x)]
  return build


def _soft_labels():
  x, labels = _input(4), _input(3)
  losses = tf.nn.softmax_cross_entropy_with_logits_v2(
      labels=tf.nn.softmax(labels), logits=tf.matmul(x, _variable(4, 3)))
  return [x, labels], [losses, gf.gradient(losses, x)]


def _embedded():
  ids = tf.placeholder(tf.int32, [1, 6])
  words = tf.gather(_variable(20, 4), ids)
  y = tf.reduce_sum(tf.tanh(tf.reduce_mean(words, 1)), 1)
  return [ids], [y, gf.gradient(y, words)]


def _flattened(x):
  if hasattr(tf.layers, "flatten") and not _tf.IS_TF2:
    return tf.reduce_sum(tf.layers.flatten(tf.tanh(x)) ** 2, 1)
  return tf.reduce_sum(tf.reshape(tf.tanh(x), [tf.shape(x)[0], -1]) ** 2, 1)


def _unrolled(x):
  state = tf.zeros([1, 5], tf.float64)
  for i in range(3):
    state = tf.tanh(tf.matmul(
        tf.concat([x[:, i], state], 1), _constant(7, 5)))
  return tf.reduce_sum(state, 1)


def _normalized(x):
  mean, variance = tf.nn.moments(x, [1], keepdims=True)
  return tf.nn.batch_normalization(
      x, mean, variance, _constant(4), _constant(4), 1e-3) ** 2


def _batch_norm(is_training):
  def build():
    x = tf.placeholder(tf.float32, [1, 4, 4, 2])
    ones = tf.constant([1.0, 2.0])
    statistics = {} if is_training else {"mean": ones, "variance": ones}
    y, _, _ = tf.nn.fused_batch_norm(
        x, ones, ones, is_training=is_training, **statistics)
    return [x], [gf.gradient(tf.tanh(y), x)]
  return build


def _resized():
  """Linear from there on, so that the cotangent has one row."""
  x = tf.placeholder(tf.float32, [1, 4, 4, 2])
  y = tf.image.resize_bilinear(tf.tanh(x), [3, 5])
  return [x], [gf.gradient(y[..., 0], x)]


def _by_hand(x):
  """Normalized over the batch, which is one row: all of it vanishes."""
  return tf.tanh(x - tf.reduce_mean(x, 0, keepdims=True) + x[:, :1]) * x


def _second(x):
  y = tf.reduce_sum(tf.tanh(tf.matmul(x, _constant(4, 3))))
  return tf.reduce_sum(gf.gradient(y, x) ** 2)


def _with_value():
  x = _input(4)
  y = tf.reduce_sum(tf.tanh(tf.matmul(x, _variable(4, 3))))
  return [x], list(gf.value_and_gradient(y, x))


def _reduced(y):
  """A graph whose results are y(x), without an axis for rows, and dy/dx."""
  def build():
    x = _input(4)
    value = y(x)
    return [x], [value, gf.gradient(value, x)]
  return build


def _mean_loss():
  x = _input(4)
  loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=[1], logits=tf.matmul(x, _variable(4, 3))))
  return [x], [loss, gf.gradient(loss, x)]


def _value_of_a_mean():
  """The mean of more than the one row that there is."""
  x = _input(4)
  return [x], [tf.reduce_mean(tf.concat([x, _constant(2, 4)], 0) ** 2)]


def _convolved_loss():
  x = _input(36)
  loss = tf.reduce_sum(_network([1, 36])(x))
  return [x], [loss, gf.gradient(loss, x)]


def _expanded():
  """A value without a batch, which gets one in the graph."""
  x = tf.placeholder(tf.float64, [6, 6])
  loss = tf.reduce_mean(_network([1, 36])(tf.reshape(
      tf.expand_dims(x, 0), [1, 36])))
  return [x], [loss, gf.gradient(loss, x)]


def _verb(verb):
  def build():
    x = _input(4)
    y = tf.tanh(tf.matmul(x, _variable(4, 3)))
    return [x], [verb(y, x)]
  return build


def _by_weights():
  x, w = _input(4), _variable(4, 3)
  return [x], [gf.gradient(tf.tanh(tf.matmul(x, w)), w)]


def _by_tf_gradients():
  x = _input(4)
  y = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(
      labels=tf.one_hot([2], 3, dtype=tf.float64),
      logits=tf.nn.relu(tf.matmul(x, _variable(4, 3)))))
  return [x], tf.gradients(y, x)


def _of_two_inputs():
  """Attention of one sequence to another, and a mask that is shared."""
  x, other = _input(3, 4), _input(5, 4)
  weights = tf.nn.softmax(tf.matmul(x, other, transpose_b=True))
  y = tf.matmul(weights, other) * _constant(1, 3, 1)
  return [x, other], [gf.gradient(y ** 2, other), gf.gradient(y ** 2, x)]


def _without_batch():
  x = tf.placeholder(tf.float64, [4])
  y = tf.reduce_sum(tf.tanh(x) * _variable(4))
  return [x], list(gf.value_and_gradient(y, x))


def _as_long_as_the_first(x):
  """The value of one row settles a shape."""
  length = 1 + tf.cast(x[0, 0] > 0, tf.int32)
  return tf.reduce_sum(tf.tile(x, tf.stack([1, length])), 1)


def _above_zero(x):
  """All rows of a batch together decide for each."""
  return x ** 2 * tf.cast(tf.reduce_sum(x) > 0, tf.float64)


def _branch(x):
  return tf.cond(tf.reduce_sum(x) > 0, lambda: x ** 2, lambda: x ** 3)


def _loop(x):
  return tf.while_loop(
      lambda i, h: i < 3,
      lambda i, h: (i + 1, tf.tanh(tf.matmul(
          tf.concat([x[:, i], h], 1), _constant(7, 5)))),
      [0, tf.zeros([1, 5], tf.float64)])[1]


def _centres(count):
  return lambda x: tf.exp(-tf.reduce_sum((x - _constant(count, 4)) ** 2, 1))


#: Those that are enlarged, and what for rows mix or have no axis cannot be.
_ENLARGED = [
    ("dense", _of([4], lambda x: tf.tanh(tf.matmul(x, _variable(4, 3))))),
    ("linear", _of([4], lambda x: tf.matmul(x, _variable(4, 3))[:, 1])),
    ("relu", _of([4], lambda x: tf.nn.relu(tf.matmul(x, _constant(4, 3))))),
    ("reduced", _of([4, 3], lambda x: tf.reduce_mean(x ** 3, 1))),
    ("scaled", _of([4], lambda x: tf.nn.l2_normalize(x, 1) * tf.reduce_sum(
        x, 1, keepdims=True))),
    ("biased", _of([4], lambda x: tf.tanh(x + _constant(1, 4)))),
    ("transposed", _of([4], lambda x: tf.matmul(
        _constant(3, 4), tf.transpose(x)) ** 3)),
    ("network", _of([36], _network([1, 36]))),
    ("network_with_rest", _of([36], _network([1, -1]))),
    ("network_of_any_batch", _of([36], _network([-1, 36]))),
    ("flattened", _of([3, 2], _flattened)),
    ("unrolled", _of([3, 2], _unrolled)),
    ("layer_norm", _of([4], _normalized)),
    ("batch_norm", _batch_norm(False)),
    ("batch_norm_by_hand", _of([4], _by_hand)),
    ("labels", _cross_entropy(lambda: tf.placeholder(tf.int32, [1]))),
    ("labels_held", _cross_entropy(lambda: tf.constant([2]))),
    ("soft_labels", _soft_labels), ("embedded", _embedded),
    ("with_value", _with_value), ("mean_loss", _mean_loss),
    ("halved", _reduced(lambda x: 0.5 * tf.reduce_sum(tf.tanh(x) ** 2) - 1.)),
    ("largest", _reduced(lambda x: tf.reduce_max(x ** 3))),
    ("first", _reduced(lambda x: tf.tanh(x)[0, 1])),
    ("last_of_one", _reduced(lambda x: tf.tanh(x)[-1])),
    ("squeezed_in_the_end", _reduced(lambda x: tf.squeeze(tf.tanh(x)))),
    ("resized", _resized), ("convolved_loss", _convolved_loss), ("expanded", _expanded),
    ("second", _of([4], _second)), ("by_tf_gradients", _by_tf_gradients),
    ("picked", _of([4], lambda x: (x ** 3)[:, 1:3])),
    ("reshaped_as_it_is", _of([2, 2], lambda x: tf.matmul(tf.reshape(
        x, tf.concat([tf.raw_ops.Shape(input=x)[:1], [4]], 0)),
                                                    _constant(4, 3)) ** 2)),
    ("time_step", lambda: _value([3, 4], lambda x: tf.squeeze(tf.slice(
        tf.transpose(x, [1, 0, 2]), [1, 0, 0], [1, -1, 4]), 0) ** 2))]
_NOT_ENLARGED = [
    ("by_weights", _by_weights), ("value_of_a_mean", _value_of_a_mean),
    ("jacobian", _verb(gf.jacobian)),
    ("batch_jacobian", _verb(gf.batch_jacobian)),
    ("hessian", _verb(gf.hessian)),
    ("batch_norm_in_training", _batch_norm(True)),
    ("squeezed", _of([4], lambda x: tf.reduce_sum(tf.tanh(tf.squeeze(x, 0))))),
    ("softmax_over_rows", _of([4], lambda x: tf.nn.softmax(x, 0) * x ** 2)),
    ("mean_over_rows", _of([4], lambda x: tf.reduce_mean(x, 0) ** 2)),
    ("one_for_all", _of([4], _above_zero)),
    ("first_row", _of([4], lambda x: x[0] * x)),
    ("two_centres", _of([4], _centres(2))),
    ("five_centres", _of([4], _centres(_ROWS))),
    ("time_major", _of([4, 3], lambda x: tf.reduce_sum(tf.tanh(tf.reshape(
        tf.transpose(x, [1, 0, 2]), [4, 3])), 1) ** 2)),
    ("divided_by_the_number", _of([4], lambda x: x ** 2 / tf.cast(
        tf.raw_ops.Shape(input=x)[0], tf.float64))),
    ("rows_on_another_axis", lambda: _value([1, 4], lambda x: (
        tf.transpose(x, [1, 0, 2]) ** 3))),
    ("without_batch", _without_batch)]

#: It depends on TensorFlow's version.
_EITHER = [
    ("of_two_inputs", _of_two_inputs),
    ("spread", _of([4], lambda x: tf.tile(x, [1, 3]) ** 3)),
    ("padded", _of([4], lambda x: tf.pad(x, [[0, 0], [1, 1]]) ** 3))]

#: And these cannot be repeated by all versions either.
_NEITHER = [
    ("branch", _of([4], _branch)), ("loop", _of([3, 2], _loop)),
    ("as_long_as_the_first", lambda: _value([4], _as_long_as_the_first))]


class EnlargingTest(graphs.GraphTest):

  def build(self, build):
    self.inputs, self.outputs = build()
    self.initialize()
    random = np.random.RandomState(0)
    self.values = [
        random.randint(0, 3, [_ROWS] + self.shape(x)) if x.dtype.is_integer
        else random.normal(size=[_ROWS] + self.shape(x)) for x in self.inputs]

  def shape(self, x):
    return x.shape.as_list()[int(batch_size.is_one_row(x)):]

  def made(self, way):
    """What one way makes of the graph, evaluated for all rows; or None."""
    with _tf.building(self.graph):
      sources = [batch_size.Source(x, batch_size.is_one_row(x))
                 for x in self.inputs]
      results = way(self.graph, self.outputs, sources)
    return results if results is None else self.session.run(results, {
        source.rows: value for source, value in zip(sources, self.values)})

  def assert_is_right(self, results):
    rows = [self.session.run(self.outputs, {
        x: value[i:i + 1] if batch_size.is_one_row(x) else value[i]
        for x, value in zip(self.inputs, self.values)}) for i in range(_ROWS)]
    for output, result, parts in zip(self.outputs, results, zip(*rows)):
      expected = (np.concatenate(parts) if batch_size.is_one_row(output)
                  else np.stack(parts))
      precision = 1e-4 if output.dtype == tf.float32 else 1e-9
      np.testing.assert_allclose(result, expected, precision, precision)

  @parameterized.named_parameters(*_ENLARGED)
  def test_enlarge(self, build):
    self.build(build)
    self.assert_is_right(self.made(batch_size.enlarge))

  @parameterized.named_parameters(*_NOT_ENLARGED + _NEITHER)
  def test_enlarge_refuses(self, build):
    self.build(build)
    try:
      self.assertIsNone(self.made(batch_size.enlarge))
    except (ValueError, TypeError):
      pass  # It does not fit together.

  @parameterized.named_parameters(*_EITHER)
  def test_enlarge_is_right_or_refuses(self, build):
    self.build(build)
    try:
      results = self.made(batch_size.enlarge)
    except ValueError:
      results = None  # It does not fit together.
    if results is not None:
      self.assert_is_right(results)

  @parameterized.named_parameters(
      *_ENLARGED + _NOT_ENLARGED + _EITHER + _NEITHER)
  def test_repeat(self, build):
    self.build(build)
    try:
      results = self.made(batch_size.repeat)
    except (errors.UnsupportedGraphError, tf.errors.InvalidArgumentError):
      results = None
    if results is None:
      self.assertTrue(build in dict(_NEITHER).values() or not _tf.IS_TF2)
    else:
      self.assert_is_right(results)
      if build in dict(_ENLARGED).values() and not _tf.IS_TF2:
        # In a loop nothing would be gained. TF 2 has one for single ops.
        self.assertFalse(effects.has_loop({
            op.name: op for op in self.graph.get_operations()}))

  def test_the_graph_of_the_user_does_not_change(self):
    self.build(_of([4], _normalized))
    before = [op.node_def for op in self.graph.get_operations()]
    self.made(batch_size.enlarge)
    self.made(batch_size.repeat)
    after = self.graph.get_operations()
    self.assertEqual(before, [op.node_def for op in after[:len(before)]])
    for op in after[len(before):]:
      self.assertStartsWith(op.name, "gradfeed/")

  def assertStartsWith(self, text, start):
    self.assertTrue(text.startswith(start), text)


if __name__ == "__main__":
  absltest.main()
