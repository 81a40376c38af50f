"""The networks of `benchmark.py first` and `models`: made here, or from files.

Nothing is imported but NumPy, so that JAX and PyTorch in other Pythons can ask
for the same weights.
"""

import collections
import json
import os
import re

import numpy as np

#: A network that is ready to be differentiated: tensors, and values to feed.
Network = collections.namedtuple("Network", ["y", "x", "feed_dict"])


class Weights:
  """Random weights, the same for each library and in every process."""

  def __init__(self, held=lambda array: array, made=()):
    """Nothing is made before it is asked for.

    Args:
      held: what makes, of an array, what the library computes with.
      made: weights that another one made, in order, to be taken first.
    """
    self._held = held
    self._next = 0
    self.made = list(made)

  def __call__(self, *shape):
    """The next weights: of this shape, as large as keeps a layer's scale."""
    if self._next == len(self.made):
      random = np.random.RandomState(self._next)
      values = random.normal(0, 1 / np.sqrt(np.prod(shape[:-1])), shape)
      self.made.append(self._held(values.astype(np.float32)))
    self._next += 1
    return self.made[self._next - 1]


def classifier(tf, x, weights):
  """Three dense layers."""
  for before, after in ((784, 128), (128, 128), (128, 10)):
    x = tf.tanh(tf.matmul(x, weights(before, after)))
  return tf.nn.softmax(x)[:, 3]


def _batch_norm(tf, h, weights, fused=True):
  channels = int(h.shape[-1])
  scale, offset, mean = [weights(channels) for _ in range(3)]
  variance = tf.ones([channels])
  if fused:
    return tf.nn.fused_batch_norm(
        h, 1 + scale / 9, offset / 9, mean / 9, variance,
        is_training=False)[0]
  return tf.nn.batch_normalization(
      h, mean / 9, variance, offset / 9, 1 + scale / 9, 1e-3)


def _convolved(tf, h, weights, size, after, step=1):
  return tf.nn.conv2d(h, weights(size, size, int(h.shape[-1]), after),
                      [1, step, step, 1], "SAME")


def _depthwise(tf, h, weights, step=1):
  return tf.nn.depthwise_conv2d(
      h, weights(3, 3, int(h.shape[-1]), 1), [1, step, step, 1], "SAME")


def mobilenet(tf, x, weights):
  """Finds poses in the manner of MobileNet: 13 depthwise-separable blocks."""
  h = _convolved(tf, x, weights, 3, 16, 2)
  for step, after in zip((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1),
                         (32, 64, 64, 96, 96, 128) + (128,) * 7):
    h = tf.nn.relu6(_batch_norm(tf, _depthwise(tf, h, weights, step), weights))
    h = tf.nn.relu6(
        _batch_norm(tf, _convolved(tf, h, weights, 1, after), weights))
  logits = tf.matmul(tf.reduce_mean(h, [1, 2]), weights(128, 100))
  return tf.nn.softmax(logits)[:, 3]


def ds_cnn(tf, x, weights):
  """A network in the manner of DS-CNN, which spots keywords in speech."""
  h = tf.reshape(x, [-1, 49, 10, 1])
  h = tf.nn.conv2d(h, weights(10, 4, 1, 64), [1, 2, 2, 1], "SAME")
  for _ in range(4):
    h = tf.nn.relu(_batch_norm(tf, h, weights, fused=False))
    h = tf.nn.relu(
        _batch_norm(tf, _depthwise(tf, h, weights), weights, fused=False))
    h = _convolved(tf, h, weights, 1, 64)
  logits = tf.matmul(tf.reduce_mean(h, [1, 2]), weights(64, 12))
  return tf.nn.softmax(logits)[:, 3]


def _bottleneck(tf, h, weights, width, step):
  """A block of a ResNet, with its shortcut."""
  if step > 1 or int(h.shape[-1]) != 4 * width:
    shortcut = _batch_norm(
        tf, _convolved(tf, h, weights, 1, 4 * width, step), weights)
  else:
    shortcut = h
  for size, after, stride in ((1, width, 1), (3, width, step)):
    h = tf.nn.relu(_batch_norm(
        tf, _convolved(tf, h, weights, size, after, stride), weights))
  h = _batch_norm(tf, _convolved(tf, h, weights, 1, 4 * width), weights)
  return tf.nn.relu(h / 4 + shortcut)


def _resnet(tf, x, weights, width, blocks, classes):
  h = _convolved(tf, x, weights, 7, width, 2)
  h = tf.nn.max_pool(tf.nn.relu(_batch_norm(tf, h, weights)), [1, 3, 3, 1],
                     [1, 2, 2, 1], "SAME")
  for stage, count in enumerate(blocks):
    for block in range(count):
      step = 2 if stage and not block else 1
      h = _bottleneck(tf, h, weights, width << stage, step)
  last = width << (len(blocks) + 1)
  logits = tf.matmul(tf.reduce_mean(h, [1, 2]), weights(last, classes))
  return tf.nn.softmax(logits)[:, 3]


def resnet(tf, x, weights):
  """A ResNet of eight blocks, a quarter of ResNet-50's width, at 64 x 64."""
  return _resnet(tf, x, weights, 16, (2, 2, 2, 2), 100)


def resnet_50(tf, x, weights):
  """ResNet-50 at 224 x 224."""
  return _resnet(tf, x, weights, 64, (3, 4, 6, 3), 1000)


def _lstm_step(tf, h, c, row, kernel):
  i, j, f, o = tf.split(tf.matmul(tf.concat([row, h], 1), kernel), 4, 1)
  c = c * tf.sigmoid(f) + tf.sigmoid(i) * tf.tanh(j)
  return tf.tanh(c) * tf.sigmoid(o), c


def _unrolled(tf, rows, kernel):
  """An LSTM layer over a list of rows: the list of its states."""
  h = c = tf.zeros([tf.shape(rows[0])[0], int(kernel.shape[1]) // 4])
  states = []
  for row in rows:
    h, c = _lstm_step(tf, h, c, row, kernel)
    states.append(h)
  return states


def unrolled_lstm(tf, x, weights):
  """Two LSTM layers, unrolled over 28 rows."""
  rows = tf.unstack(x, axis=1)
  for before in (28, 64):
    rows = _unrolled(tf, rows, weights(before + 64, 256))
  return tf.matmul(rows[-1], weights(64, 10))[:, 3]


def _loop(tf, x, step, states):
  """The last states of a `tf.while_loop` over the 28 rows of each image."""
  rows = tf.TensorArray(tf.float32, 28).unstack(tf.transpose(x, [1, 0, 2]))
  start = tf.zeros([tf.shape(x)[0], 64])
  if hasattr(start, "graph"):
    start.set_shape([None, 64])
  return tf.while_loop(
      lambda i, *states: i < 28,
      lambda i, *states: (i + 1,) + step(rows.read(i), *states),
      [tf.constant(0)] + [start] * states)[1:]


def _loop_lstm_states(tf, x, kernel):
  return _loop(tf, x, lambda row, h, c: _lstm_step(tf, h, c, row, kernel), 2)


def loop_lstm(tf, x, weights):
  """An LSTM layer in a `tf.while_loop`."""
  h, _ = _loop_lstm_states(tf, x, weights(28 + 64, 256))
  return tf.matmul(h, weights(64, 10))[:, 3]


def loop_gru(tf, x, weights):
  """A GRU layer in a `tf.while_loop`."""
  gates, candidate = weights(28 + 64, 128), weights(28 + 64, 64)

  def step(row, h):
    reset, update = tf.split(
        tf.sigmoid(tf.matmul(tf.concat([row, h], 1), gates)), 2, 1)
    proposed = tf.tanh(
        tf.matmul(tf.concat([row, reset * h], 1), candidate))
    return (update * h + (1 - update) * proposed,)

  h, = _loop(tf, x, step, 1)
  return tf.matmul(h, weights(64, 10))[:, 3]


def bidirectional_lstm(tf, x, weights):
  """Two LSTM layers in loops, one over the rows from the last to the first."""
  states = [_loop_lstm_states(tf, rows, weights(28 + 64, 256))[0]
            for rows in (x, tf.reverse(x, [1]))]
  return tf.matmul(tf.concat(states, 1), weights(128, 10))[:, 3]


def block_lstm(tf, x, weights):
  """An LSTM layer by the op BlockLSTM."""
  start, peephole = tf.zeros([tf.shape(x)[0], 64]), tf.zeros([64])
  h = tf.raw_ops.BlockLSTM(
      seq_len_max=tf.constant(28, tf.int64), x=tf.transpose(x, [1, 0, 2]),
      cs_prev=start, h_prev=start, w=weights(28 + 64, 256), wci=peephole,
      wcf=peephole, wco=peephole, b=tf.zeros([256])).h
  return tf.matmul(h[-1], weights(64, 10))[:, 3]


def _dense(tf, x, weights, after):
  return tf.tensordot(x, weights(int(x.shape[-1]), after), [[2], [0]])


def _normalized(tf, x):
  mean, variance = tf.nn.moments(x, [-1], keep_dims=True)
  return (x - mean) * tf.rsqrt(variance + 1e-5)


def _heads(tf, x):
  return tf.transpose(tf.reshape(x, [-1, 32, 4, 16]), [0, 2, 1, 3])


def transformer(tf, x, weights):
  """An encoder of two layers, four heads, over 32 tokens of 64."""
  for _ in range(2):
    q, k, v = [_heads(tf, _dense(tf, x, weights, 64)) for _ in range(3)]
    attention = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / 4)
    mixed = tf.transpose(tf.matmul(attention, v), [0, 2, 1, 3])
    x = _normalized(tf, x + _dense(
        tf, tf.reshape(mixed, [-1, 32, 64]), weights, 64))
    h = _dense(tf, x, weights, 256)
    x = _normalized(tf, x + _dense(
        tf, h * tf.sigmoid(1.702 * h), weights, 64))
  return tf.matmul(tf.reduce_mean(x, 1), weights(64, 10))[:, 3]


def attention(tf, x, weights):
  """Sequence to sequence: an encoder in a loop, eight decoded words."""
  encoder, decoder = weights(28 + 64, 256), weights(128 + 64, 256)
  rows = tf.TensorArray(tf.float32, 28).unstack(tf.transpose(x, [1, 0, 2]))
  h = tf.zeros([tf.shape(x)[0], 64])
  if hasattr(h, "graph"):
    h.set_shape([None, 64])

  def step(i, h, c, written):
    h, c = _lstm_step(tf, h, c, rows.read(i), encoder)
    return i + 1, h, c, written.write(i, h)

  _, h, c, written = tf.while_loop(
      lambda i, *states: i < 28, step,
      [tf.constant(0), h, h, tf.TensorArray(tf.float32, 28)])
  memory = tf.transpose(written.stack(), [1, 0, 2])
  memory = tf.reshape(memory, [-1, 28, 64])
  word = tf.zeros_like(h)
  for _ in range(8):
    scores = tf.nn.softmax(tf.reduce_sum(memory * h[:, None], 2))
    context = tf.reduce_sum(memory * scores[..., None], 1)
    h, c = _lstm_step(tf, h, c, tf.concat([word, context], 1), decoder)
    word = h
  return tf.matmul(h, weights(64, 10))[:, 3]


#: Networks that are made here, and the shape of one row of their x.
NETWORKS = collections.OrderedDict([
    (network.__name__, (network, shape)) for network, shape in (
        (classifier, (784,)), (ds_cnn, (490,)), (mobilenet, (96, 96, 3)),
        (resnet, (64, 64, 3)), (loop_lstm, (28, 28)), (loop_gru, (28, 28)),
        (unrolled_lstm, (28, 28)), (bidirectional_lstm, (28, 28)),
        (block_lstm, (28, 28)), (transformer, (32, 64)),
        (attention, (28, 28)), (resnet_50, (224, 224, 3)))])


def image(shape, seed=0):
  return np.random.RandomState(seed).uniform(size=shape).astype(np.float32)


def made(tf, name, batch, rows=None):
  """A network of `NETWORKS` in the default graph: `Network`.

  Args:
    tf: the module tensorflow.compat.v1.
    name: str.
    batch: int, rows of the value to feed.
    rows: int, what the placeholder says of the rows, or None.
  """
  network, shape = NETWORKS[name]
  x = tf.placeholder(tf.float32, (rows,) + shape)
  y = network(tf, x, Weights(tf.Variable))
  return Network(y, x, {x: image((batch,) + shape)})


def models(folder, loops=False):
  """The models in the folders of `folder` that have a META.md.

  It says, after a line `## name`: `loader: pb FILE`, `meta PREFIX` or
  `sm FOLDER` with `tags=`, `x: NAME dtype[shape]`, `y: NAME`, and
  `extra feeds:` as JSON.

  Args:
    folder: str.
    loops: bool, also those with loops that TensorFlow cannot differentiate as
      they are read.

  Returns:
    dict from the name of each to a dict of these.
  """
  found = collections.OrderedDict()
  for name in sorted(os.listdir(folder)):
    try:
      with open(os.path.join(folder, name, "META.md")) as file:
        sections = re.split(r"(?m)^## ", file.read())[1:]
    except OSError:
      continue
    for section in sections:
      title, _, text = section.partition("\n")
      lines = dict(re.findall(r"(?m)^([a-z\- ]+): (.*)$", text))
      if loops or not needs_repair(lines):
        found[title] = dict(lines, folder=os.path.join(folder, name))
  return found


def needs_repair(model):
  """Whether it has loops that TensorFlow cannot differentiate as read."""
  return model["needs while-context repair"] != "False"


def read(tf, session, model):
  """Reads a model of `models` into the default graph: `Network`."""
  kind, *path = model["loader"].split(" tags=")[0].split()
  path = os.path.join(model["folder"], *path)
  if kind == "pb":
    graph_def = tf.GraphDef()
    with open(path, "rb") as file:
      graph_def.ParseFromString(file.read())
    tf.import_graph_def(graph_def, name="")
  elif kind == "meta":
    tf.train.import_meta_graph(path + ".meta", clear_devices=True).restore(
        session, path)
  else:
    tags = re.findall(r"'(\w+)'", model["loader"])
    tf.saved_model.load(session, tags or ["serve"], path)
  graph = tf.get_default_graph()
  x, y = [graph.get_tensor_by_name(model[key].split()[0]) for key in "xy"]
  shape = [int(size) for size in re.findall(
      r"\d+", model["x"].split("[")[1].split("]")[0])]
  column = re.search(r"\[\.\.\., (\d+)\]", model["y"])
  extra = model["extra feeds"]
  feed_dict = {graph.get_tensor_by_name(name): value for name, value in (
      {} if extra == "none" else json.loads(extra)).items()}
  feed_dict[x] = np.random.RandomState(0).uniform(size=shape).astype(
      x.dtype.as_numpy_dtype)
  return Network(y[..., int(column.group(1))] if column else y, x, feed_dict)
