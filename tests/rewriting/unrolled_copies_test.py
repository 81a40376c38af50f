"""Loops turn by turn: what TensorFlow's loops give, and their derivatives."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from gradfeed.graph import effects
from gradfeed.graph import traversal
from gradfeed.rewriting import vectorization
from gradfeed.rewriting.unrolling import emission
from gradfeed.rewriting.unrolling import unrolled_copies
from gradfeed.rewriting.unrolling import values
from tests.testing import flows
from tests.testing import graphs
from tests.testing import numeric

_MOST_OPS = 3000


def _weights(*shape):
  return tf.constant(np.cos(np.arange(np.prod(shape))).reshape(shape))


class _Cell:
  """A small LSTM; TensorFlow's own is gone where Keras 3 is."""

  output_size = 2
  state_size = (2, 2)

  def zero_state(self, batch_size, dtype):
    zero = tf.zeros(tf.stack([batch_size, 2]), dtype)
    zero.set_shape([tf.get_static_value(batch_size), 2])
    return zero, zero

  def get_initial_state(self, inputs=None, batch_size=None, dtype=None):
    return self.zero_state(batch_size, dtype)

  def __call__(self, inputs, state, scope=None):
    c, h = state
    i, j, f, o = tf.split(tf.matmul(
        tf.concat([inputs, h], 1), _weights(5, 8)), 4, 1)
    c = c * tf.sigmoid(f + 1.) + tf.sigmoid(i) * tf.tanh(j)
    h = tf.tanh(c) * tf.sigmoid(o)
    return h, (c, h)


def _dynamic_rnn(lengths):
  def y(x):
    outputs, (_, h) = tf.nn.dynamic_rnn(
        _Cell(), x, None if lengths is None else tf.constant(lengths),
        dtype=x.dtype)
    return tf.reduce_sum(outputs ** 2, 1) * h
  return y


def _bidirectional(x):
  with tf.variable_scope("both"):
    outputs, _ = tf.nn.dynamic_rnn(_Cell(), x, dtype=x.dtype)
  back, _ = tf.nn.dynamic_rnn(_Cell(), tf.reverse(x, [1]), dtype=x.dtype)
  return tf.concat([outputs, tf.reverse(back, [1])], 2)[:, 1]


def _counted(x):
  """Without a tensor array."""
  return tf.while_loop(lambda i, h: i < 4, lambda i, h: (
      i + 1, tf.tanh(tf.matmul(h, _weights(3, 3)) + tf.cast(i, h.dtype))),
                       [0, x[:, 0]])[1]


def _by_twos(x):
  return tf.while_loop(
      lambda i, h: tf.logical_and(i > 0, i <= 7),
      lambda i, h: (i - 2, tf.sin(h) * x[:, i % 2]), [7, x[:, 0]])[1]


def _until_the_shape(x):
  """The number of turns is an axis of x."""
  return tf.while_loop(
      lambda i, h: i < tf.raw_ops.Shape(input=x)[1],
      lambda i, h: (i + 1, tf.sin(h + x[:, i])), [0, x[:, 0] * 0.5])[1]


def _arrays(x):
  """Elements that are read twice, in another order, and one not at all."""
  given = tf.TensorArray(x.dtype, 4, clear_after_read=False).unstack(
      tf.transpose(x, [1, 0, 2]))

  def turn(i, h, made):
    h = tf.tanh(h * given.read(3 - i) + given.read(tf.minimum(i + 1, 2)))
    return i + 1, h, made.write(i, h * x[:, 1])

  made = tf.while_loop(lambda i, *_: i < 3, turn, [
      0, x[:, 0], tf.TensorArray(x.dtype, 3, clear_after_read=False)])[2]
  return tf.reduce_sum(made.stack() ** 2, 0) + made.gather([2, 0])[1]


def _nested(x):
  def inner(h, i):
    return tf.while_loop(
        lambda j, a: j < 3,
        lambda j, a: (j + 1, tf.sin(a) * h + tf.cast(i + j, a.dtype)),
        [0, h * 0.3])[1]

  return tf.while_loop(
      lambda i, h: i < 2, lambda i, h: (i + 1, tf.tanh(inner(h, i))),
      [0, x[:, 1]])[1]


def _two_after_each_other(x):
  return _counted(tf.stack([_by_twos(x), x[:, 2]], 1))


def _no_turn(x):
  return tf.while_loop(lambda i, h: i < 0, lambda i, h: (i + 1, h ** 2),
                       [0, x[:, 0] ** 3])[1]


def _of_a_variable(use_resource):
  def y(x):
    w = graphs.variable("w", np.cos(np.arange(9.)).reshape([3, 3]),
                        use_resource)
    return tf.while_loop(
        lambda i, h: i < 3, lambda i, h: (i + 1, tf.tanh(tf.matmul(h, w))),
        [0, x[:, 0]])[1]
  return y


def _with_a_branch(x):
  """Which side is taken is known at each turn."""
  return tf.while_loop(
      lambda i, h: i < 4, lambda i, h: (i + 1, tf.cond(
          tf.equal(i % 2, 0), lambda: tf.sin(h), lambda: h ** 2 + x[:, 1])),
      [0, x[:, 0]])[1]


def _mapped(x):
  return tf.reduce_sum(tf.map_fn(
      lambda row: tf.tanh(row) * row[0], tf.transpose(x, [1, 0, 2])), 0)


def _scanned(x):
  return tf.scan(lambda h, step: tf.tanh(h + step * h),
                 tf.transpose(x, [1, 0, 2]), x[:, 0])[-1]


_UNROLLED = [
    ("dynamic_rnn", _dynamic_rnn(None)),
    ("dynamic_rnn_with_lengths", _dynamic_rnn([3])),
    ("bidirectional", _bidirectional), ("counted", _counted),
    ("by_twos", _by_twos), ("until_the_shape", _until_the_shape),
    ("arrays", _arrays), ("nested", _nested),
    ("two_after_each_other", _two_after_each_other), ("no_turn", _no_turn),
    ("of_a_ref_variable", _of_a_variable(False)),
    ("of_a_resource_variable", _of_a_variable(True)),
    ("with_a_branch", _with_a_branch), ("mapped", _mapped),
    ("scanned", _scanned)]


def _as_long_as_a_value(x):
  return tf.while_loop(
      lambda h: tf.reduce_sum(h) < 5., lambda h: tf.abs(h) + 1., [x[:, 0]])


def _random(x):
  return tf.while_loop(lambda i, h: i < 3, lambda i, h: (
      i + 1, h * tf.random_uniform([1, 3], dtype=h.dtype)), [0, x[:, 0]])[1]


def _asserted(x):
  def turn(i, h):
    with tf.control_dependencies([tf.Assert(tf.reduce_all(h > -9.), [h])]):
      return i + 1, tf.sin(h)
  return tf.while_loop(lambda i, h: i < 3, turn, [0, x[:, 0]])[1]


def _printed(x):
  def turn(i, h):
    with tf.control_dependencies([tf.print(i)]):
      return i + 1, tf.sin(h)
  return tf.while_loop(lambda i, h: i < 3, turn, [0, x[:, 0]])[1]


def _python(x):
  return tf.while_loop(lambda i, h: i < 3, lambda i, h: (
      i + 1, tf.reshape(tf.py_func(lambda a: a, [h], h.dtype), [1, 3])),
                       [0, x[:, 0]])[1]


def _checked(x):
  return tf.while_loop(lambda i, h: i < 3, lambda i, h: (
      i + 1, tf.check_numerics(tf.sin(h), "no number")), [0, x[:, 0]])[1]


def _long(x):
  return tf.while_loop(lambda i, h: i < 3000, lambda i, h: (
      i + 1, tf.sin(h) + tf.cos(h)), [0, x[:, 0]])[1]


def _by_a_branch_of_values(x):
  return tf.while_loop(
      lambda i, h: i < 4, lambda i, h: (i + 1, tf.cond(
          h[0, 0] > 0., lambda: tf.sin(h), lambda: h ** 2)),
      [0, x[:, 0]])[1]


_REFUSED = [
    ("as_long_as_a_value", _as_long_as_a_value), ("random", _random),
    ("asserted", _asserted), ("printed", _printed), ("python", _python),
    ("checked", _checked), ("long", _long),
    ("by_a_branch_of_values", _by_a_branch_of_values)]


def _in_each(cases):
  """Named cases, in the control flows that this mode has."""
  return [("{}_v{}".format(name, version), version, y) for name, y in cases
          for version in flows.versions_of_this_mode()
          # TF 1 cannot differentiate this one, whatever reads it.
          if _tf.IS_TF2 or (name, version) != ("of_a_resource_variable", 2)]


class UnrolledCopiesTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.at = np.random.RandomState(0).normal(size=[1, 4, 3])
    self.x = tf.placeholder(tf.float64, [1, 4, 3])

  def unrolled(self, wanted, most_ops=_MOST_OPS):
    """Copies without loops of tensors, and the placeholder that they read."""
    with _tf.building(self.graph):
      scratch = vectorization.ScratchGraph(self.graph)
      rows = tf.placeholder(tf.float64, self.x.shape)
      with scratch.building():
        given = scratch.placeholder_for(rows)
        copies = unrolled_copies.unroll(
            scratch, wanted, {self.x.name: given},
            emission.Emitter(most_ops))
      return scratch.export(copies, "unrolled"), rows

  @parameterized.named_parameters(*_in_each(_UNROLLED))
  def test_value_and_gradient(self, version, y):
    with flows.control_flow(version):
      y = y(self.x)
      dx = gf.gradient(y, self.x)
    self.initialize()
    before = self.count()
    copies, rows = self.unrolled([y, dx])
    self.assertFalse(effects.has_loop(traversal.ancestors(copies)))
    for op in self.graph.get_operations()[before:]:
      self.assertTrue(op.name.startswith("gradfeed/"), op.name)
    of = lambda at: self.session.run(y, {self.x: at})
    value, slope = self.session.run(copies, {rows: self.at})
    np.testing.assert_allclose(value, of(self.at), 1e-12)
    np.testing.assert_allclose(slope, numeric.central_differences(
        lambda at: np.sum(of(at)), self.at), 1e-6, 1e-7)

  @parameterized.named_parameters(*_in_each([
      ("dynamic_rnn", lambda x: _dynamic_rnn(None)(x[:, :2])),
      ("arrays", _arrays), ("counted", _counted)]))
  def test_second_derivative(self, version, y):
    with flows.control_flow(version):
      slope = gf.gradient(y(self.x), self.x)
      second = gf.gradient(tf.reduce_sum(slope ** 2), self.x)
    copies, rows = self.unrolled([second])
    self.assertFalse(effects.has_loop(traversal.ancestors(copies)))
    np.testing.assert_allclose(
        self.session.run(copies[0], {rows: self.at}),
        numeric.central_differences(lambda at: np.sum(self.session.run(
            slope, {self.x: at}) ** 2), self.at), 1e-5, 1e-6)

  @parameterized.named_parameters(*_in_each(_REFUSED))
  def test_refuses(self, version, y):
    with flows.control_flow(version):
      y = y(self.x)
    before = self.count()
    with self.assertRaises(values.NotUnrolled):
      self.unrolled([y], most_ops=200)
    self.assertEqual(self.count(), before + 1)  # The placeholder.

  def test_refuses_a_loop_that_swaps_memory(self):
    with flows.control_flow(1):
      y = tf.while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, tf.sin(h)),
                        [0, self.x], swap_memory=True)[1]
      dx = tf.gradients(y, self.x)
    with self.assertRaisesRegex(values.NotUnrolled, "memory"):
      self.unrolled(dx)

  @parameterized.parameters(1, 2)
  def test_keeps_to_one_turn_at_a_time(self, count):
    y = tf.while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, tf.sin(h)),
                      [0, self.x], parallel_iterations=count)[1]
    copy = lambda: unrolled_copies.for_shapes(
        self.graph, [self.x], [y], [(1, 4, 3)], _MOST_OPS)
    if count > 1:
      (feed,), (result,), _ = copy()
      np.testing.assert_allclose(
          self.session.run(result, {feed: self.at}),
          np.sin(np.sin(np.sin(self.at))))
    else:
      with self.assertRaisesRegex(values.NotUnrolled, "once at a time"):
        copy()

  def test_refuses_large_tensors(self):
    y = tf.while_loop(
        lambda i, h: i < 3, lambda i, h: (i + 1, tf.sin(h)),
        [0, tf.tile(self.x, [1, 4096, 4096 // 12])])[1]
    with self.assertRaisesRegex(values.NotUnrolled, "memory"):
      self.unrolled([y])

  def test_what_does_not_change_from_turn_to_turn_is_there_once(self):
    with flows.control_flow(1):
      y = tf.while_loop(lambda i, h: i < 20, lambda i, h: (
          i + 1, tf.sin(h) + tf.exp(self.x[:, 0])), [0, self.x[:, 0]])[1]
    copies, _ = self.unrolled([y])
    types = [op.type for op in traversal.ancestors(copies).values()]
    self.assertEqual(types.count("Exp"), 1)
    self.assertEqual(types.count("Sin"), 20)


if __name__ == "__main__":
  absltest.main()
