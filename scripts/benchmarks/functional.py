"""Networks of `benchmarks.networks` in the words of JAX and PyTorch.

Each takes `ops`, what the two libraries name differently, x, and the weights in
the order of the network of the same name.
"""


class Jax:
  """The words of JAX."""

  def __init__(self, jax):
    self._jax = jax
    self._numpy = jax.numpy
    self.tanh = jax.numpy.tanh
    self.sigmoid = jax.nn.sigmoid
    self.softmax = jax.nn.softmax

  def joined(self, arrays):
    return self._numpy.concatenate(arrays, 1)

  def reversed(self, x):
    return x[:, ::-1]

  def loop(self, step, x, states):
    """The last states of `lax.scan` over the rows of each image."""
    start = (self._numpy.zeros((x.shape[0], 64), x.dtype),) * states
    return self._jax.lax.scan(
        lambda states, row: (step(row, *states), None), start,
        x.swapaxes(0, 1))[0]


class Torch:
  """The words of PyTorch."""

  def __init__(self, torch):
    self._torch = torch
    self.tanh = torch.tanh
    self.sigmoid = torch.sigmoid

  def softmax(self, x):
    return self._torch.softmax(x, -1)

  def joined(self, arrays):
    return self._torch.cat(arrays, 1)

  def reversed(self, x):
    return self._torch.flip(x, [1])

  def loop(self, step, x, states):
    """The last states of a loop of Python over the rows of each image."""
    states = (x.new_zeros((x.shape[0], 64)),) * states
    for row in x.unbind(1):
      states = step(row, *states)
    return states


def classifier(ops, x, weights):
  for before, after in ((784, 128), (128, 128), (128, 10)):
    x = ops.tanh(x @ weights(before, after))
  return ops.softmax(x)[:, 3]


def _lstm_states(ops, x, kernel):
  def step(row, h, c):
    gates = ops.joined([row, h]) @ kernel
    i, j, f, o = [gates[:, k:k + 64] for k in (0, 64, 128, 192)]
    c = c * ops.sigmoid(f) + ops.sigmoid(i) * ops.tanh(j)
    return ops.tanh(c) * ops.sigmoid(o), c

  return ops.loop(step, x, 2)


def loop_lstm(ops, x, weights):
  h, _ = _lstm_states(ops, x, weights(28 + 64, 256))
  return (h @ weights(64, 10))[:, 3]


def loop_gru(ops, x, weights):
  gates, candidate = weights(28 + 64, 128), weights(28 + 64, 64)

  def step(row, h):
    both = ops.sigmoid(ops.joined([row, h]) @ gates)
    reset, update = both[:, :64], both[:, 64:]
    proposed = ops.tanh(ops.joined([row, reset * h]) @ candidate)
    return (update * h + (1 - update) * proposed,)

  h, = ops.loop(step, x, 1)
  return (h @ weights(64, 10))[:, 3]


def bidirectional_lstm(ops, x, weights):
  states = [_lstm_states(ops, rows, weights(28 + 64, 256))[0]
            for rows in (x, ops.reversed(x))]
  return (ops.joined(states) @ weights(128, 10))[:, 3]


def _normalized(x):
  x = x - x.mean(-1)[..., None]
  return x * ((x ** 2).mean(-1)[..., None] + 1e-5) ** -0.5


def transformer(ops, x, weights):
  for _ in range(2):
    q, k, v = [(x @ weights(64, 64)).reshape(-1, 32, 4, 16).swapaxes(1, 2)
               for _ in range(3)]
    mixed = ops.softmax(q @ k.swapaxes(2, 3) / 4) @ v
    x = _normalized(
        x + mixed.swapaxes(1, 2).reshape(-1, 32, 64) @ weights(64, 64))
    h = x @ weights(64, 256)
    x = _normalized(x + (h * ops.sigmoid(1.702 * h)) @ weights(256, 64))
  return (x.mean(1) @ weights(64, 10))[:, 3]


NETWORKS = {network.__name__: network for network in (
    classifier, loop_lstm, loop_gru, bidirectional_lstm, transformer)}
