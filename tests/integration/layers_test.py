"""The derivative of small networks, one for each common layer.

By x, by the weights, and by the layer in the middle, each at another value
than the graph would use, against central differences in float64. The function
that is differenced is the same network built with placeholders alone.
"""

import collections

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows
from tests.testing import numeric

#: shape of x; shapes of the weights by name; the layers up to the one in the
#: middle, `below(x, w)`; those after it, `above(h, w)`, a scalar.
_Network = collections.namedtuple(
    "_Network", ["x", "weights", "below", "above"])


def _end(h, w=None):
  """A loss of curved, uneven dependence on every element."""
  del w
  h = tf.reshape(h, [-1])
  steps = tf.cast(tf.range(1, tf.size(h) + 1), h.dtype)
  return tf.reduce_sum(tf.sin(h + steps) * h / steps)


def _dense(x, w, name="a"):
  return tf.tanh(tf.matmul(x, w[name]) + w[name + "_bias"])


def _same(x, w):
  del w
  return tf.tanh(x)


# Convolutions.


def _conv2d(x, w):
  return tf.nn.softplus(tf.nn.conv2d(
      x, w["a"], strides=[1, 1, 1, 1], padding="SAME"))


def _conv2d_strided(x, w):
  return tf.nn.conv2d(x, w["a"], strides=[1, 2, 2, 1], padding="VALID")


def _depthwise(x, w):
  return tf.tanh(tf.nn.depthwise_conv2d(
      x, w["a"], strides=[1, 1, 1, 1], padding="SAME"))


def _separable(x, w):
  return tf.nn.separable_conv2d(
      x, w["a"], w["b"], strides=[1, 1, 1, 1], padding="VALID")


def _transposed(x, w):
  return tf.nn.conv2d_transpose(
      x, w["a"], output_shape=[1, 5, 5, 2], strides=[1, 2, 2, 1],
      padding="VALID")


def _max_pool(h, w):
  del w
  return _end(tf.nn.max_pool(
      h, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="VALID"))


def _avg_pool(h, w):
  del w
  return _end(tf.nn.avg_pool(
      h, ksize=[1, 3, 3, 1], strides=[1, 1, 1, 1], padding="SAME"))


def _global_pool(h, w):
  return _end(tf.matmul(tf.reduce_mean(h, [1, 2]), w["c"]))


# Normalisations.


def _batch_norm_training(h, w):
  mean, variance = tf.nn.moments(h, [0])
  return _end(tf.nn.batch_normalization(
      h, mean, variance, w["offset"], w["scale"], 1e-3))


def _batch_norm_inference(h, w):
  return _end(tf.nn.batch_normalization(
      h, w["mean"], tf.square(w["deviation"]), w["offset"], w["scale"], 1e-3))


def _batch_norm_of_images(h, w):
  mean, variance = tf.nn.moments(h, [0, 1, 2])
  return _end(tf.nn.batch_normalization(
      h, mean, variance, w["offset"], w["scale"], 1e-3))


def _layer_norm(h, w):
  centred = h - tf.reduce_mean(h, 1, keep_dims=True)
  variance = tf.reduce_mean(tf.square(centred), 1, keep_dims=True)
  return _end(w["offset"] + w["scale"] * (
      centred / tf.sqrt(variance + 1e-3)))


def _l2_normalize(h, w):
  del w
  return _end(tf.nn.l2_normalize(h, 1))


# Recurrent layers, over a sequence of shape [time, batch, width].


def _lstm_cell(x, c, h, w):
  gates = tf.matmul(tf.concat([x, h], 1), w["kernel"]) + w["bias"]
  i, j, f, o = tf.split(gates, 4, 1)
  c = c * tf.sigmoid(f + 1.) + tf.sigmoid(i) * tf.tanh(j)
  return c, tf.tanh(c) * tf.sigmoid(o)


def _lstm_start(x):
  start = tf.zeros([2, 2], x.dtype)
  return start, start


def _lstm_unrolled(x, w):
  c, h = _lstm_start(x)
  outputs = []
  for step in tf.unstack(x, 3):
    c, h = _lstm_cell(step, c, h, w)
    outputs.append(h)
  return tf.stack(outputs)


def _lstm_while(x, w):
  given = tf.TensorArray(x.dtype, 3).unstack(x)

  def step(t, c, h, made):
    c, h = _lstm_cell(given.read(t), c, h, w)
    return t + 1, c, h, made.write(t, h)

  outputs = tf.while_loop(
      lambda t, *_: t < 3, step,
      (0,) + _lstm_start(x) + (tf.TensorArray(x.dtype, 3),))[3].stack()
  outputs.set_shape([3, 2, 2])  # TF 1.15 does not know the first two.
  return outputs


class _Cell:
  """What dynamic_rnn asks of a cell."""
  state_size = (2, 2)
  output_size = 2

  def __init__(self, w):
    self._w = w

  def __call__(self, x, state, scope=None):
    c, h = _lstm_cell(x, state[0], state[1], self._w)
    return h, (c, h)

  def zero_state(self, batch_size, dtype):
    return (tf.zeros([batch_size, 2], dtype),) * 2

  def get_initial_state(self, inputs=None, batch_size=None, dtype=None):
    return self.zero_state(batch_size, dtype)


def _lstm_dynamic(x, w):
  outputs, _ = tf.nn.dynamic_rnn(
      _Cell(w), x, sequence_length=[3, 2], time_major=True,
      initial_state=_lstm_start(x))
  return outputs


def _lstm_scan(x, w):
  return tf.scan(lambda state, step: _lstm_cell(step, *state, w=w), x,
                 _lstm_start(x))[1]


def _mapped(x, w):
  return tf.map_fn(lambda row: tf.tanh(tf.matmul(row, w["a"])) * row[0], x)


_LSTM = {"kernel": [4, 8], "bias": [8]}


# Lookups.


def _embedding(x, w):
  return tf.nn.embedding_lookup(w["table"], [3, 0, 3]) * x


def _gather(x, w):
  del w
  return tf.gather(tf.sin(x), [2, 0, 2]) * tf.gather(x, [1, 0], axis=1)[:1, :1]


def _gather_nd(x, w):
  del w
  return tf.gather_nd(tf.sin(x), [[0, 1], [2, 0], [0, 1]])


# Losses.

_LABELS = np.array([[1., 0., 0.], [0., 0., 1.], [.2, .3, .5]])

_CLASSES = np.array([0, 2, 1])


def _logits(h, w):
  return tf.matmul(h, w["b"])


def _weighed(losses):
  return tf.reduce_sum(losses * tf.constant([1., 2., 3.], losses.dtype))


def _softmax_v1(h, w):
  return _weighed(tf.nn.softmax_cross_entropy_with_logits(
      labels=_LABELS, logits=_logits(h, w)))


def _softmax_v2(h, w):
  return _weighed(tf.nn.softmax_cross_entropy_with_logits_v2(
      labels=tf.nn.softmax(h), logits=_logits(h, w)))


def _softmax_sparse(h, w):
  return _weighed(tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=_CLASSES, logits=_logits(h, w)))


def _softmax_by_hand(h, w):
  return -_weighed(tf.reduce_sum(
      _LABELS * tf.log(tf.nn.softmax(_logits(h, w))), 1))


def _log_softmax(h, w):
  return -_weighed(tf.reduce_sum(
      _LABELS * tf.nn.log_softmax(_logits(h, w)), 1))


def _sigmoid(h, w):
  return _end(tf.nn.sigmoid_cross_entropy_with_logits(
      labels=_LABELS, logits=_logits(h, w)))


def _sigmoid_weighted(h, w):
  return _end(tf.nn.weighted_cross_entropy_with_logits(
      labels=_LABELS, logits=_logits(h, w), pos_weight=3.))


def _loss_softmax(h, w):
  return tf.losses.softmax_cross_entropy(
      _LABELS, _logits(h, w), weights=[1., 0., 2.], label_smoothing=0.1)


def _loss_sparse(h, w):
  return tf.losses.sparse_softmax_cross_entropy(
      _CLASSES, _logits(h, w), weights=[1., 0., 2.])


def _loss_sigmoid(h, w):
  return tf.losses.sigmoid_cross_entropy(
      _LABELS, _logits(h, w), weights=[[1.], [0.5], [2.]])


# Control flow and shapes.


def _cond(h, w):
  return _end(tf.cond(
      tf.reduce_sum(h) > -100., lambda: tf.matmul(tf.exp(h), w["b"]),
      lambda: tf.matmul(h, w["b"])))


def _cond_other(h, w):
  return _end(tf.cond(
      tf.reduce_sum(h) > 100., lambda: tf.matmul(tf.exp(h), w["b"]),
      lambda: tf.matmul(tf.sin(h), w["b"])))


def _cond_in_while(h, w):
  return _end(tf.while_loop(
      lambda i, a: i < 3,
      lambda i, a: (i + 1, tf.cond(
          i < 1, lambda: tf.sin(a) * w["c"], lambda: tf.cos(a) + h)),
      [0, h])[1])


def _while_in_while(h, w):
  def inner(a):
    return tf.while_loop(
        lambda j, b: j < 2, lambda j, b: (j + 1, tf.sin(b) * w["c"]),
        [0, a])[1]

  return _end(tf.while_loop(
      lambda i, a: i < 2, lambda i, a: (i + 1, inner(a) + h), [0, h])[1])


def _case(h, w):
  total = tf.reduce_sum(h)
  return tf.case([(total > 100., lambda: _end(h)),
                  (total > -100., lambda: _end(tf.matmul(tf.exp(h), w["b"])))],
                 default=lambda: total)


def _switch_case(h, w):
  return tf.switch_case(tf.constant(1), [
      lambda: _end(h), lambda: _end(tf.matmul(tf.exp(h), w["b"]))])


def _shapes(h, w):
  del w
  left, right = tf.split(h, 2, 1)
  joined = tf.concat([right, left, right * left], 1)
  padded = tf.pad(joined[::-1, 1:], [[1, 0], [0, 2]])
  return _end(tf.tile(tf.transpose(padded), [1, 2]))


_SEQUENCE, _IMAGE, _ROWS = [3, 2, 2], [1, 5, 5, 2], [3, 4]

_A = {"a": [4, 4], "a_bias": [4]}


def _joined(*shapes):
  joined = {}
  for part in shapes:
    joined.update(part)
  return joined


_NORM = _joined(_A, {"scale": [4], "offset": [4]})
_B = _joined(_A, {"b": [4, 3]})

_WIDE = _joined(_A, {"b": [4, 4]})

_FEEDFORWARD = {
    "dense": _Network(_ROWS, _joined(_A, {"b": [4, 2], "b_bias": [2]}), _dense,
                      lambda h, w: _end(_dense(h, w, "b"))),
    "conv2d": _Network(_IMAGE, {"a": [3, 3, 2, 2]}, _conv2d, _max_pool),
    "conv2d_strided": _Network(
        _IMAGE, {"a": [3, 3, 2, 2]}, _conv2d_strided, _end),
    "conv2d_after": _Network(
        _IMAGE, {"a": [2, 2, 2, 1]}, _same,
        lambda h, w: _end(_conv2d(h, w))),
    "depthwise": _Network(_IMAGE, {"a": [3, 3, 2, 2]}, _depthwise, _avg_pool),
    "separable": _Network(
        _IMAGE, {"a": [2, 2, 2, 1], "b": [1, 1, 2, 3], "c": [3, 2]},
        _separable, _global_pool),
    "transposed": _Network(
        [1, 2, 2, 2], {"a": [3, 3, 2, 2]}, _transposed, _end),
    "batch_norm_training": _Network(
        _ROWS, _NORM, _dense, _batch_norm_training),
    "batch_norm_inference": _Network(
        _ROWS, _joined(_NORM, {"mean": [4], "deviation": [4]}), _dense,
        _batch_norm_inference),
    "batch_norm_of_images": _Network(
        [2, 3, 3, 2], {"a": [2, 2, 2, 2], "scale": [2], "offset": [2]},
        _conv2d, _batch_norm_of_images),
    "layer_norm": _Network(_ROWS, _NORM, _dense, _layer_norm),
    "l2_normalize": _Network(_ROWS, _A, _dense, _l2_normalize),
    "lstm_unrolled": _Network(_SEQUENCE, _LSTM, _lstm_unrolled, _end),
    "embedding": _Network([3, 2], {"table": [4, 2]}, _embedding, _end),
    "gather": _Network(_ROWS, {}, _gather, _end),
    "gather_after": _Network(
        _ROWS, _A, _dense, lambda h, w: _end(_gather(h, w))),
    "gather_nd": _Network(_ROWS, {}, _gather_nd, _end),
    "gather_nd_after": _Network(
        _ROWS, _A, _dense, lambda h, w: _end(_gather_nd(h, w))),
    "softmax_v1": _Network(_ROWS, _B, _dense, _softmax_v1),
    "softmax_v2": _Network(
        [3, 3], {"a": [3, 3], "a_bias": [3], "b": [3, 3]}, _dense,
        _softmax_v2),
    "softmax_sparse": _Network(_ROWS, _B, _dense, _softmax_sparse),
    "softmax_by_hand": _Network(_ROWS, _B, _dense, _softmax_by_hand),
    "log_softmax": _Network(_ROWS, _B, _dense, _log_softmax),
    "sigmoid": _Network(_ROWS, _B, _dense, _sigmoid),
    "sigmoid_weighted": _Network(_ROWS, _B, _dense, _sigmoid_weighted),
    "shapes": _Network(_ROWS, _A, _dense, _shapes)}

# tf.losses computes in float32, whatever it is given.
_SINGLE = {
    "loss_softmax": _Network(_ROWS, _B, _dense, _loss_softmax),
    "loss_sparse": _Network(_ROWS, _B, _dense, _loss_sparse),
    "loss_sigmoid": _Network(_ROWS, _B, _dense, _loss_sigmoid)}

_LOOPING = {
    "lstm_while": _Network(_SEQUENCE, _LSTM, _lstm_while, _end),
    "lstm_while_after": _Network(
        _SEQUENCE, _LSTM, _same, lambda h, w: _end(_lstm_while(h, w))),
    "lstm_dynamic": _Network(_SEQUENCE, _LSTM, _lstm_dynamic, _end),
    "lstm_dynamic_after": _Network(
        _SEQUENCE, _LSTM, _same, lambda h, w: _end(_lstm_dynamic(h, w))),
    "lstm_scan": _Network(
        _SEQUENCE, _LSTM, _same, lambda h, w: _end(_lstm_scan(h, w))),
    "lstm_between": _Network(
        _SEQUENCE, _LSTM, _lstm_while,
        lambda h, w: _end(_lstm_while(h, w))),
    "map": _Network(_SEQUENCE, {"a": [2, 2]}, _mapped,
                    lambda h, w: _end(_mapped(h, w))),
    "cond": _Network(_ROWS, _B, _dense, _cond),
    "cond_other": _Network(_ROWS, _B, _dense, _cond_other),
    "cond_in_while": _Network(_ROWS, {"c": [4]}, _same, _cond_in_while),
    "while_in_while": _Network(_ROWS, {"c": [4]}, _same, _while_in_while),
    "case": _Network(_ROWS, _WIDE, _dense, _case),
    "switch_case": _Network(_ROWS, _WIDE, _dense, _switch_case)}

#: step of the differences, tolerances.
_DOUBLE_PRECISION = dict(step=1e-6, rtol=2e-6, atol=2e-8)
_SINGLE_PRECISION = dict(step=1e-2, rtol=1e-4, atol=1e-4)

_CASES = [(name, net, None) for name, net in _FEEDFORWARD.items()]
_CASES += [("{}_in_control_flow_v{}".format(name, flow), net, flow)
           for name, net in _LOOPING.items() for flow in (1, 2)]


def _values(shapes, seed):
  random = np.random.RandomState(seed)
  return {name: random.uniform(-0.9, 0.9, shape)
          for name, shape in sorted(shapes.items())}


class _Reference:
  """The network as functions of NumPy values, built with placeholders."""

  def __init__(self, network, flow, step):
    self._step = step
    graph = tf.Graph()
    with graph.as_default(), flows.control_flow(flow):
      self._x = tf.placeholder(tf.float64, network.x)
      self._w = {name: tf.placeholder(tf.float64, shape)
                 for name, shape in network.weights.items()}
      middle = network.below(self._x, self._w)
      self._loss = network.above(middle, self._w)
      self._h = tf.placeholder(tf.float64, middle.shape)
      self._loss_of_h = network.above(self._h, self._w)
      self.shape_of_h = middle.shape.as_list()
    self._session = tf.Session(graph=graph)

  def _feeds(self, weights):
    return {self._w[name]: value for name, value in weights.items()}

  def by_x(self, x, weights):
    feeds = self._feeds(weights)

    def value(v):
      feeds[self._x] = v
      return self._session.run(self._loss, feeds)

    return numeric.central_differences(value, x, self._step)

  def by_weight(self, name, x, weights):
    feeds = self._feeds(weights)
    feeds[self._x] = x

    def value(v):
      feeds[self._w[name]] = v
      return self._session.run(self._loss, feeds)

    return numeric.central_differences(value, weights[name], self._step)

  def by_h(self, h, weights):
    feeds = self._feeds(weights)

    def value(v):
      feeds[self._h] = v
      return self._session.run(self._loss_of_h, feeds)

    return numeric.central_differences(value, h, self._step)

  def close(self):
    self._session.close()


class LayersTest(parameterized.TestCase):

  def _model(self, network, flow):
    x = tf.placeholder(tf.float64, network.x, name="x")
    stored = _values(network.weights, seed=1)
    weights = {name: tf.get_variable(name, initializer=value)
               for name, value in stored.items()}
    h = network.below(x, weights)
    return x, stored, weights, h, network.above(h, weights)

  @parameterized.named_parameters(*_CASES)
  def test_by_x_weights_and_hidden_layer(self, network, flow):
    flow = flow or (2 if tf.control_flow_v2_enabled() else 1)
    self._check(network, flow, **_DOUBLE_PRECISION)

  @parameterized.named_parameters(*_SINGLE.items())
  def test_in_single_precision(self, network):
    flow = 2 if tf.control_flow_v2_enabled() else 1
    self._check(network, flow, **_SINGLE_PRECISION)

  def _check(self, network, flow, step, **tolerance):
    """Holds every derivative against differences, at two sets of weights."""
    self._tolerance = tolerance
    reference = _Reference(network, flow, step)
    self.addCleanup(reference.close)
    x_t = _values({"x": network.x}, seed=2)["x"]
    h_t = _values({"h": reference.shape_of_h}, seed=3)["h"]
    others = _values(network.weights, seed=4)
    with tf.Graph().as_default(), tf.Session() as session:
      with flows.control_flow(flow):
        x, stored, weights, h, loss = self._model(network, flow)
        names = list(weights)
        variables = [weights[name] for name in names]
        session.run(tf.global_variables_initializer())
        before = session.run(loss, {x: x_t})
        d = gf.gradient(loss, [x] + variables)
        f = gf.function([x] + variables, d, session=session)
        f_h = gf.function(h, gf.gradient(loss, h), session=session)
        for at in (stored, others):
          got = f(x_t, *[at[name] for name in names])
          self._close(got[0], reference.by_x(x_t, at))
          for name, value in zip(names, got[1:]):
            self._close(value, reference.by_weight(name, x_t, at))
        self._close(f_h(h_t), reference.by_h(h_t, stored))
        # In the model's own session: nothing was assigned or broken.
        plain = session.run(d, {x: x_t})
        self._close(plain[0], reference.by_x(x_t, stored))
        for name, value in zip(names, plain[1:]):
          self._close(value, reference.by_weight(name, x_t, stored))
        self.assertEqual(session.run(loss, {x: x_t}), before)

  def _close(self, got, expected):
    self.assertEqual(got.shape, expected.shape)
    self.assertEqual(got.dtype, np.float64)
    np.testing.assert_allclose(got, expected, **self._tolerance)


class FusedBatchNormTest(parameterized.TestCase):
  """Only for float32; held against the differences of the unfused float64."""

  @parameterized.named_parameters(("training", True), ("inference", False))
  def test_against_float64(self, is_training):
    shapes = {"x": [3, 2, 2, 2], "scale": [2], "offset": [2]}
    at = _values(shapes, seed=5)
    mean, variance = np.array([0.1, -0.2]), np.array([0.5, 2.])
    with tf.Graph().as_default(), tf.Session() as session:
      x, scale, offset = (tf.placeholder(tf.float64, shapes[name])
                          for name in ("x", "scale", "offset"))
      moments = tf.nn.moments(x, [0, 1, 2]) if is_training else (
          mean, variance)
      loss = _end(tf.nn.batch_normalization(
          x, moments[0], moments[1], offset, scale, 1e-3))
      feeds = {x: at["x"], scale: at["scale"], offset: at["offset"]}
      expected = []
      for key, name in ((x, "x"), (scale, "scale"), (offset, "offset")):
        expected.append(numeric.central_differences(
            lambda v, key=key: session.run(
                loss, dict(list(feeds.items()) + [(key, v)])), at[name]))
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, shapes["x"])
      scale, offset = (tf.get_variable(
          name, initializer=at[name].astype(np.float32))
                       for name in ("scale", "offset"))
      settings = {} if is_training else {
          "mean": mean.astype(np.float32),
          "variance": variance.astype(np.float32)}
      h, _, _ = tf.nn.fused_batch_norm(
          x, scale, offset, epsilon=1e-3, is_training=is_training, **settings)
      session.run(tf.global_variables_initializer())
      d = gf.gradient(_end(h), [x, scale, offset])
      got = session.run(d, {x: at["x"].astype(np.float32)})
    for one, other in zip(got, expected):
      np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4)
