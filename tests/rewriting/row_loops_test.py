"""Loops of one row for many rows: what TensorFlow gives row by row."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from gradfeed.graph import effects
from gradfeed.graph import traversal
from gradfeed.rewriting import batch_size
from gradfeed.rewriting.rows import loops
from tests import conftest
from tests.testing import flows
from tests.testing import graphs

_ROWS = 5
_MOST_OPS = 2000


def _weights(*shape):
  return tf.constant(np.cos(np.arange(np.prod(shape))).reshape(shape))


def _recurrent(state):
  """A recurrent layer whose state of one row is made outside of the loop."""
  def y(x):
    given = tf.TensorArray(x.dtype, 3).unstack(tf.transpose(x, [1, 0, 2]))

    def turn(i, h, made):
      h = tf.tanh(tf.matmul(
          tf.concat([given.read(i), h], 1), _weights(7, 5)))
      return i + 1, h, made.write(i, h)

    _, h, made = tf.while_loop(
        lambda i, *_: i < 3, turn, [0, state(), tf.TensorArray(x.dtype, 3)])
    outputs = tf.transpose(made.stack(), [1, 0, 2])
    return h * tf.reduce_sum(outputs ** 2, 1)
  return y


def _gated(x):
  """A GRU, as TensorFlow has it: its first state is a Fill."""
  def turn(i, h):
    r, u = tf.split(tf.sigmoid(tf.nn.bias_add(tf.matmul(
        tf.concat([x[:, i], h], 1), _weights(7, 10)), _weights(10))), 2, 1)
    c = tf.tanh(tf.matmul(tf.concat([x[:, i], r * h], 1), _weights(7, 5)))
    return i + 1, u * h + (1 - u) * c

  return tf.while_loop(lambda i, h: i < 3, turn, [
      0, tf.fill([1, 5], tf.constant(0.1, tf.float64))])[1]


def _convolved(x):
  images = tf.nn.relu(tf.nn.conv2d(
      x[..., tf.newaxis], _weights(2, 2, 1, 1), [1, 1, 1, 1], "SAME"))
  return _gated(tf.reshape(images, [1, 3, 2]))


def _variable():
  return graphs.variable("h", np.cos(np.arange(5.)).reshape([1, 5]),
                         conftest.MODE == "v2")


_STATES = [
    ("zeros", _recurrent(lambda: tf.zeros([1, 5], tf.float64))),
    ("constant", _recurrent(lambda: _weights(1, 5))),
    ("variable", _recurrent(_variable)),
    ("computed", _recurrent(lambda: tf.sin(_weights(1, 5)) * 2)),
    ("gated", _gated),
    ("convolved", _convolved)]


def _mixed(x):
  """The state is carried from row to row."""
  return tf.while_loop(
      lambda i, h: i < 3,
      lambda i, h: (i + 1, tf.tanh(h + tf.reduce_mean(x[:, i], 0))),
      [0, tf.zeros([1, 2], tf.float64)])[1]


def _of_two_rows(x):
  return tf.while_loop(
      lambda i, h: i < 3,
      lambda i, h: (i + 1, tf.tanh(tf.concat([h[1:], x[:, i]], 0))),
      [0, tf.zeros([2, 2], tf.float64)])[1][1:]


def _normalized(x):
  return tf.while_loop(
      lambda i, h: i < 3, lambda i, h: (i + 1, tf.nn.softmax(h + x[:, i], 0)),
      [0, tf.zeros([1, 2], tf.float64)])[1]


def _without_batch(x):
  return tf.while_loop(lambda i, h: i < 3, lambda i, h: (
      i + 1, tf.tanh(h + x[0, i])), [0, tf.zeros([2], tf.float64)])[1]


_MIXING = [("mixed", _mixed), ("of_two_rows", _of_two_rows),
           ("normalized", _normalized), ("without_batch", _without_batch)]


def _in_each(cases):
  """Named cases, in the control flows that this mode has."""
  return [("{}_v{}".format(name, version), version, y) for name, y in cases
          for version in flows.versions_of_this_mode()]


class UnrolledBatchesTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.x = tf.placeholder(tf.float64, [1, 3, 2])
    self.at = np.random.RandomState(0).normal(size=[_ROWS, 3, 2])

  def enlarged(self, wanted, most_ops=_MOST_OPS):
    """Tensors for many rows, or None, and the placeholder of the rows."""
    with _tf.building(self.graph):
      source = batch_size.Source(self.x, True)
      return loops.enlarge_loops(
          self.graph, wanted, [source], most_ops), source.rows

  @parameterized.named_parameters(*_in_each(_STATES))
  def test_many_rows(self, version, y):
    with flows.control_flow(version):
      y = y(self.x)
      dx = gf.gradient(y, self.x)
    self.initialize()
    before = [op.node_def for op in self.graph.get_operations()]
    results, rows = self.enlarged([y, dx])
    self.assertFalse(effects.has_loop(traversal.ancestors(results)))
    after = self.graph.get_operations()
    self.assertEqual(before, [op.node_def for op in after[:len(before)]])
    expected = zip(*[self.session.run([y, dx], {self.x: row[np.newaxis]})
                     for row in self.at])
    for result, parts in zip(self.session.run(results, {rows: self.at}),
                             expected):
      np.testing.assert_allclose(result, np.concatenate(parts), 1e-9, 1e-12)

  def test_a_loss_of_one_row(self):
    y = tf.reduce_mean(_gated(self.x) ** 2)
    results, rows = self.enlarged([y, gf.gradient(y, self.x)])
    values, slopes = self.session.run(results, {rows: self.at})
    for value, slope, row in zip(values, slopes, self.at):
      expected = self.session.run(
          [y, gf.gradient(y, self.x)], {self.x: row[np.newaxis]})
      np.testing.assert_allclose(value, expected[0], 1e-9)
      np.testing.assert_allclose(slope, expected[1][0], 1e-9, 1e-12)

  @parameterized.named_parameters(*_in_each(_MIXING))
  def test_refuses_what_mixes_rows(self, version, y):
    with flows.control_flow(version):
      y = y(self.x)
      wanted = [y if y.shape.as_list()[0] == 1 else gf.gradient(y, self.x)]
    try:
      results, _ = self.enlarged(wanted)
      self.assertIsNone(results)
    except ValueError:
      pass  # It does not fit together.

  def test_too_many_ops_add_none(self):
    y = _gated(self.x)
    before = self.count()
    with self.assertRaisesRegex(Exception, "more than 5 ops"):
      self.enlarged([y], 5)
    self.assertEqual(self.count(), before + 1)  # The placeholder.

  def test_without_loops(self):
    self.assertIsNone(self.enlarged([tf.sin(self.x)])[0])


if __name__ == "__main__":
  absltest.main()
