"""Recurrent networks with lengths, compiled by XLA, beside NumPy."""

import unittest

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed import _tf
import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs
from tests.testing import numeric
from tests.testing import programs

_ROWS, _STEPS, _COLUMNS, _UNITS = 3, 3, 2, 2

_KERNEL = 0.7 * np.cos(np.arange(32.)).reshape([4, 8])
_START = np.zeros([_ROWS, _UNITS])

#: Lengths of the three sequences.
_LENGTHS = {"none": [0, 0, 0], "one": [1, 1, 1], "full": [3, 3, 3],
            "mixed": [2, 0, 3], "short": [1, 3, 2]}


def _sigmoid(x):
  return 1. / (1. + np.exp(-x))


def _lstm(engine, sigmoid, x, state):
  """One step of an LSTM: the next state, of which the last is the output."""
  c, h = state
  i, j, f, o = engine.split(engine.matmul(
      engine.concatenate([x, h], 1), engine.kernel(8)), 4, 1)
  c = c * sigmoid(f + 1.) + sigmoid(i) * engine.tanh(j)
  return c, engine.tanh(c) * sigmoid(o)


def _gru(engine, sigmoid, x, state):
  h, = state
  given = engine.concatenate([x, h], 1)
  r, u = engine.split(sigmoid(engine.matmul(given, engine.kernel(4))), 2, 1)
  new = engine.tanh(engine.matmul(
      engine.concatenate([x, r * h], 1), engine.kernel(2)))
  return (u * h + (1. - u) * new,)


_CELLS = {"lstm": (_lstm, 2), "gru": (_gru, 1)}


class _NumPy:
  """What cells are written with, as NumPy has it."""
  matmul, tanh = staticmethod(np.matmul), staticmethod(np.tanh)
  concatenate, split = staticmethod(np.concatenate), staticmethod(np.split)

  @staticmethod
  def kernel(columns):
    return _KERNEL[:, :columns]


class _TensorFlow:
  """The same in TensorFlow."""
  concatenate, split = staticmethod(tf.concat), staticmethod(tf.split)
  matmul, tanh = staticmethod(tf.matmul), staticmethod(tf.tanh)

  @staticmethod
  def kernel(columns):
    return tf.constant(_KERNEL[:, :columns])


class _Cell:
  """A cell for dynamic_rnn; TensorFlow's own is gone where Keras 3 is."""

  output_size = _UNITS

  def __init__(self, kind):
    self._step, count = _CELLS[kind]
    self.state_size = (_UNITS,) * count

  def zero_state(self, batch_size, dtype):
    zero = tf.zeros(tf.stack([batch_size, _UNITS]), dtype)
    zero.set_shape([None, _UNITS])
    return (zero,) * len(self.state_size)

  def get_initial_state(self, inputs=None, batch_size=None, dtype=None):
    return self.zero_state(batch_size, dtype)

  def __call__(self, inputs, state, scope=None):
    state = self._step(_TensorFlow, tf.sigmoid, inputs, state)
    return state[-1], state


def _in_numpy(kind, x, lengths):
  """(outputs, last state) of a recurrent network over `x`."""
  step, count = _CELLS[kind]
  state, outputs = (_START,) * count, []
  for t in range(_STEPS):
    is_on = (t < np.array(lengths))[:, None]
    new = step(_NumPy, _sigmoid, x[:, t], state)
    outputs.append(np.where(is_on, new[-1], 0.))
    state = tuple(np.where(is_on, b, a) for a, b in zip(state, new))
  return np.stack(outputs, 1), state


def _reversed(x, lengths):
  x = np.array(x)
  for row, length in enumerate(lengths):
    x[row, :length] = x[row, :length][::-1]
  return x


def _loss_in_numpy(kind, x, lengths):
  if kind == "bidirectional":
    forward, _ = _in_numpy("gru", x, lengths)
    backward, _ = _in_numpy("gru", _reversed(x, lengths), lengths)
    return np.sum(forward ** 2) + np.sum(_reversed(backward, lengths) ** 3)
  outputs, state = _in_numpy(kind, x, lengths)
  return np.sum(outputs ** 2) + np.sum(np.sin(state[0]))


def _loss(kind, x, lengths):
  if kind == "bidirectional":
    (forward, backward), _ = tf.nn.bidirectional_dynamic_rnn(
        _Cell("gru"), _Cell("gru"), x, lengths, dtype=x.dtype)
    return tf.reduce_sum(forward ** 2) + tf.reduce_sum(backward ** 3)
  outputs, state = tf.nn.dynamic_rnn(_Cell(kind), x, lengths, dtype=x.dtype)
  return tf.reduce_sum(outputs ** 2) + tf.reduce_sum(tf.sin(state[0]))


@unittest.skipIf(not _tf.IS_TF2, "TensorFlow 1.15 compiles nothing.")
class CompiledRecurrentTest(graphs.GraphTest):

  @parameterized.parameters("lstm", "gru", "bidirectional")
  def test_lengths_that_change_from_call_to_call(self, kind):
    with flows.control_flow(None):
      x = tf.placeholder(tf.float64, [None, _STEPS, _COLUMNS])
      lengths = tf.placeholder(tf.int32, [None])
      y = _loss(kind, x, lengths)
    f = gf.function([x, lengths], [y, gf.gradient(y, x)], jit_compile=True)
    plain = gf.function([x, lengths], [y, gf.gradient(y, x)])
    values = np.random.RandomState(0).normal(
        size=[2, _ROWS, _STEPS, _COLUMNS])
    f(values[0], [3, 1, 2])
    for value, numbers in zip([values[1], values[0]] * 3, _LENGTHS.values()):
      self.assertTrue(programs.takes(f, self.session, value, numbers))
      got, gradient = f(value, numbers)
      np.testing.assert_allclose(
          got, _loss_in_numpy(kind, value, numbers), rtol=1e-12)
      np.testing.assert_allclose(gradient, numeric.central_differences(
          lambda x, numbers=numbers: _loss_in_numpy(kind, x, numbers), value),
                                 rtol=1e-6, atol=1e-8)
      np.testing.assert_allclose(
          gradient, plain(value, numbers)[1], rtol=1e-12, atol=1e-15)
    self.assertLen(f.compiled, 1)

  @parameterized.parameters("gru", "bidirectional")
  def test_constant_lengths(self, kind):
    with flows.control_flow(None):
      x = tf.placeholder(tf.float64, [_ROWS, _STEPS, _COLUMNS])
      numbers = _LENGTHS["mixed"]
      y = _loss(kind, x, numbers)
    f = gf.function(x, gf.gradient(y, x), jit_compile=True)
    value = np.random.RandomState(1).normal(size=[_ROWS, _STEPS, _COLUMNS])
    f(value)
    self.assertTrue(programs.takes(f, self.session, -value))
    np.testing.assert_allclose(f(-value), numeric.central_differences(
        lambda x: _loss_in_numpy(kind, x, numbers), -value),
                               rtol=1e-6, atol=1e-8)

  def test_lengths_beyond_the_end_are_left_to_tensorflow(self):
    x = tf.placeholder(tf.float64, [_ROWS, _STEPS, _COLUMNS])
    lengths = tf.placeholder(tf.int32, [_ROWS])
    y = tf.reverse_sequence(x, lengths, 1) ** 2
    f = gf.function([x, lengths], y, jit_compile=True)
    f(np.ones([_ROWS, _STEPS, _COLUMNS]), [1, 3, 0])
    value = np.random.RandomState(1).normal(size=[_ROWS, _STEPS, _COLUMNS])
    self.assertTrue(programs.takes(f, self.session, value, [3, 2, 0]))
    np.testing.assert_allclose(
        f(value, [3, 2, 0]), _reversed(value, [3, 2, 0]) ** 2)
    for wrong in ([4, 1, 1], [1, 1, -1]):
      with self.assertRaises(tf.errors.InvalidArgumentError):
        f(value, wrong)
