"""per_example_gradient: each example alone, or within the batch."""

import unittest.mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.derivatives.rows import per_example_gradients
from gradfeed.rewriting import vectorization
from tests.testing import flows
from tests.testing import graphs


def _weights(*shapes):
  random = np.random.RandomState(0)
  return [graphs.variable("w{}".format(i), random.normal(size=shape), i % 2)
          for i, shape in enumerate(shapes)]


def _dense(x, labels):
  """(losses of a network with two layers, its weights)."""
  weights = _weights([3, 5], [5], [5, 4], [4])
  hidden = tf.tanh(tf.matmul(x, weights[0]) + weights[1])
  logits = tf.nn.bias_add(tf.matmul(hidden, weights[2]), weights[3])
  return tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=labels, logits=logits), weights


def _convolutional(x, labels):
  weights = _weights([2, 1, 1, 2], [2], [6, 4])
  image = tf.reshape(x, [-1, 3, 1, 1])
  hidden = tf.nn.relu(tf.nn.conv2d(image, weights[0], 1, "SAME") + weights[1])
  return tf.nn.softmax_cross_entropy_with_logits_v2(
      labels=tf.one_hot(labels, 4, dtype=tf.float64),
      logits=tf.matmul(tf.reshape(hidden, [-1, 6]), weights[2])), weights


def _lookup(x, labels):
  table, w = _weights([4, 3], [3, 3])
  rows = tf.nn.embedding_lookup(table, labels)
  return tf.reduce_sum(tf.matmul(rows * x, w) ** 2, 1), [table, w]


def _resized(x, labels):
  """Reads its number of rows, as much old code does."""
  w, = _weights([3, 8])
  rows = tf.shape(x)[0]
  hidden = tf.reshape(tf.matmul(x, w), tf.stack([rows, 2, 4]))
  ones = tf.fill(tf.stack([rows, 2, 4]), tf.constant(2.0, tf.float64))
  return tf.reduce_sum(tf.sin(hidden) * ones, [1, 2]) * tf.cast(
      labels, tf.float64), [w]


def _picked(x, labels):
  """Picks the entry of each label by the number of its row."""
  w, = _weights([3, 4])
  numbers = tf.stack([tf.range(tf.shape(x)[0]), labels], 1)
  return -tf.gather_nd(tf.nn.log_softmax(tf.matmul(x, w)), numbers), [w]


def _picked_and_weighed(x, labels):
  """The same, where the numbers of the rows are used as data as well."""
  w, = _weights([8, 4])
  numbers = tf.stack([tf.range(tf.shape(x)[0]), labels], 1)
  return tf.gather_nd(tf.tanh(tf.matmul(x, w[:3])), numbers) * tf.reduce_sum(
      tf.gather(w, numbers), [1, 2]), [w]


class PerExampleGradientTest(graphs.GraphTest):

  def _feeds(self, rows):
    random = np.random.RandomState(rows)
    return random.normal(size=[rows, 3]), random.randint(4, size=rows)

  def _check(self, function, rows=6, static=None, alone=True, **settings):
    """Holds the gradients against one `tf.gradients` for each example."""
    x = tf.placeholder(tf.float64, [static, 3], name="x")
    labels = tf.placeholder(tf.int32, [static], name="labels")
    losses, weights = function(x, labels)
    are_apart = []
    # pylint: disable-next=protected-access
    examples_class = per_example_gradients._SeparateExamples
    stacked = examples_class.stacked

    def watched(examples, chunk):
      result = stacked(examples, chunk)
      are_apart.append(result is not None)
      return result

    with unittest.mock.patch.object(examples_class, "stacked", watched):
      own = gf.per_example_gradient(losses, weights, **settings)
    self.assertEqual(are_apart, [alone] if not settings.get("coupled") else [])
    # Before a session has run: afterwards TensorFlow would break it.
    each = [[tf.convert_to_tensor(g) for g in tf.gradients(
        losses[i], weights)] for i in range(rows)]
    self.initialize()
    f = gf.function([x, labels], [own, gf.gradient(losses, weights)],
                    session=self.session)
    for count in [rows] if static else (rows, 1, 0):
      fed = self._feeds(count)
      got, summed = f(*fed)
      for i in range(count):
        expected = self.session.run(each[i], {x: fed[0], labels: fed[1]})
        for one, other in zip(got, expected):
          np.testing.assert_allclose(one[i], other, rtol=1e-9, atol=1e-12)
      for one, other in zip(got, summed):
        self.assertEqual(one.shape, (count,) + other.shape)
        np.testing.assert_allclose(one.sum(0), other, rtol=1e-9, atol=1e-12)

  @parameterized.named_parameters(
      ("dense", _dense), ("convolutional", _convolutional),
      ("lookup", _lookup), ("resized", _resized), ("picked", _picked))
  def test_is_the_gradient_of_each(self, function):
    self._check(function)

  @parameterized.named_parameters(
      ("chunk", dict(chunk=4)), ("one_at_a_time", dict(chunk=1)),
      ("within", dict(coupled=True)),
      ("within_chunk", dict(coupled=True, chunk=4)))
  def test_in_other_ways(self, settings):
    self._check(_dense, **settings)

  def test_with_a_gradient_of_its_own(self):

    @tf.custom_gradient
    def doubled(a):  # Its gradient reads a tensor beside it.
      return a * a, lambda dy: 4.0 * dy * a

    x = tf.placeholder(tf.float64, [None, 3])
    w = tf.constant([1.0, 2.0, 3.0], tf.float64)
    losses = tf.reduce_sum(doubled(x * w), 1)
    at = np.random.RandomState(0).normal(size=[4, 3])
    np.testing.assert_allclose(
        self.session.run(gf.per_example_gradient(losses, w), {x: at}),
        4.0 * at * at * [1.0, 2.0, 3.0])

  def test_of_a_batch_of_known_size(self):
    self._check(_dense, static=6)

  def test_where_the_numbers_of_the_rows_are_data_as_well(self):
    self._check(_picked_and_weighed, alone=False)

  def test_of_picked_entries_of_a_batch_of_known_size(self):
    self._check(lambda x, labels: _picked(tf.identity(x), labels), static=6)

  def test_where_the_number_of_rows_is_part_of_the_graph(self):

    def built(x, labels):
      w, = _weights([3, 2])
      return tf.reshape(tf.matmul(x, w) ** 2, [12])[::2] * tf.cast(
          labels, tf.float64), [w]

    self._check(built, static=6, alone=False)

  def test_where_weights_are_filled_up_to_the_number_of_rows(self):
    # Computed for one example, all six would be summed.

    def filled(x, labels):
      w, = _weights([])
      return tf.fill([6], w * w) * tf.reduce_sum(x, 1) * tf.cast(
          labels, tf.float64), [w]

    def tiled(x, labels):
      w, = _weights([1, 3])
      return tf.reduce_sum(tf.tile(w, [6, 1]) * x, 1) * tf.cast(
          labels, tf.float64), [w]

    for function in (filled, tiled):
      with tf.Graph().as_default(), tf.Session() as self.session:
        self._check(function, static=6, alone=False)

  def test_a_row_that_all_examples_share(self):
    x = tf.placeholder(tf.float64, [None, 3])
    shared = tf.placeholder(tf.float64, [None, 3])
    w, = _weights([3])
    losses = tf.reduce_sum((x + shared) * w * w, 1)
    own = gf.per_example_gradient(losses, w)
    self.initialize()
    at, one = np.arange(6.0).reshape(2, 3), np.array([[5.0, 6.0, 7.0]])
    np.testing.assert_allclose(
        self.session.run(own, {x: at, shared: one}),
        2.0 * (at + one) * self.session.run(w))

  def test_one_after_the_other(self):
    with unittest.mock.patch.object(
        vectorization, "_vectorized", side_effect=ValueError("no converter")):
      self._check(_dense)

  @parameterized.named_parameters(("v1", 1), ("v2", 2))
  def test_through_a_loop(self, version):

    def looped(x, labels):
      w, = _weights([3, 3])
      with flows.control_flow(version):
        last = tf.while_loop(lambda i, a: i < 3, lambda i, a: (
            i + 1, tf.tanh(tf.matmul(a, w))), [0, x])[1]
      return tf.reduce_sum(last, 1) * tf.cast(labels, tf.float64), [w]

    self._check(looped, alone=False)

  @parameterized.named_parameters(
      ("whole", lambda h, p: (h - tf.reduce_mean(h, 0)) * p, "Mean"),
      ("moments", lambda h, p: tf.nn.batch_normalization(
          h, *tf.nn.moments(h, [0]), None, None, 1e-3) * p, "Mean"))
  def test_s4_coupled_examples_are_refused_with_the_op(self, mix, blamed):

    def mixed(x, labels):
      w, = _weights([3, 4])
      hidden = mix(tf.matmul(x, w), tf.cast(labels, tf.float64)[:, tf.newaxis])
      return tf.reduce_sum(hidden ** 3, 1), [w]

    x = tf.placeholder(tf.float64, [None, 3])
    labels = tf.placeholder(tf.int32, [None])
    losses, weights = mixed(x, labels)
    with self.assertRaisesRegex(
        gf.CoupledRowsError, "(?s){}.*coupled=True".format(blamed)):
      gf.per_example_gradient(losses, weights)
    with tf.Graph().as_default(), tf.Session() as self.session:
      self._check(mixed, coupled=True)

  def test_data_that_all_examples_read(self):
    # It does not depend on the weights: no example has it to itself.
    bank = tf.placeholder_with_default(
        np.random.RandomState(1).normal(size=[7, 3]), [None, 3])

    def attends(x, labels):
      w, = _weights([3, 3])
      scores = tf.nn.softmax(tf.matmul(tf.matmul(x, w), bank, transpose_b=True))
      return tf.reduce_sum(tf.matmul(scores, bank), 1) * tf.cast(
          labels, tf.float64), [w]

    self._check(attends)

  def test_s8_the_mask_is_that_of_the_batch(self):
    x = tf.placeholder(tf.float64, [None, 3])
    w, = _weights([3, 4])
    hidden = tf.nn.dropout(tf.matmul(x, w), rate=0.5)
    losses = tf.reduce_sum(hidden, 1)
    f = gf.function(x, [gf.per_example_gradient(losses, w), losses],
                    session=self.session)
    self.initialize()
    own, values = f(np.random.RandomState(0).normal(size=[50, 3]))
    weights = self.session.run(w)
    np.testing.assert_allclose(np.einsum("bij,ij->b", own, weights), values)
    self.assertBetween(np.mean(own == 0.0), 0.2, 0.8)

  def test_by_the_batch_itself(self):
    x = tf.placeholder(tf.float64, [None, 3])
    own = gf.per_example_gradient(tf.reduce_sum(x ** 3, 1), x)
    at = np.arange(6.0).reshape(2, 3)
    expected = np.zeros([2, 2, 3])
    expected[[0, 1], [0, 1]] = 3.0 * at ** 2
    np.testing.assert_allclose(self.session.run(own, {x: at}), expected)

  def test_of_more_than_one_number_for_each_example(self):
    x = tf.placeholder(tf.float64, [None, 3])
    w, = _weights([3, 4])
    y = tf.matmul(x, w)
    own = gf.per_example_gradient(y, w)
    self.initialize()
    at = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(
        self.session.run(own, {x: at}), np.tile(at[:, :, np.newaxis], 4))

  def test_structures_and_partitioned_weights(self):
    x = tf.placeholder(tf.float64, [None, 3])
    v = graphs.variable("v", np.ones([3, 2]), True,
                        partitioner=tf.fixed_size_partitioner(2))
    w = graphs.variable("w", np.ones([2]), False)
    losses = tf.reduce_sum(tf.matmul(x, tf.convert_to_tensor(v)) * w, 1)
    own = gf.per_example_gradient(losses, {"v": v, "more": (w,)})
    self.initialize()
    at = np.arange(6.0).reshape(2, 3)
    got = self.session.run(own, {x: at})
    np.testing.assert_allclose(
        got["v"], np.tile(at[:, :, np.newaxis], 2))
    np.testing.assert_allclose(
        got["more"][0], np.tile(at.sum(1)[:, np.newaxis], 2))

  def test_unconnected(self):
    x = tf.placeholder(tf.float64, [None, 3])
    w, other = _weights([3], [2])
    losses = tf.reduce_sum(x * w, 1)
    with self.assertRaisesRegex(gf.DisconnectedError, "'w1"):
      gf.per_example_gradient(losses, [w, other])
    self.assertIsNone(gf.per_example_gradient(
        losses, [w, other], unconnected="none")[1])
    zeros = gf.per_example_gradient(losses, [w, other], unconnected="zero")[1]
    self.initialize()
    np.testing.assert_array_equal(
        self.session.run(zeros, {x: np.ones([4, 3])}), np.zeros([4, 2]))

  def test_at_other_weights_and_at_a_layer(self):
    x = tf.placeholder(tf.float64, [None, 3])
    w, = _weights([3, 2])
    h = tf.sin(x)
    losses = tf.reduce_sum(tf.matmul(h, w) ** 2, 1)
    f = gf.function([h, w], gf.per_example_gradient(losses, w),
                    session=self.session)
    h_t = np.arange(6.0).reshape(2, 3)
    w_t = np.arange(6.0).reshape(3, 2)
    np.testing.assert_allclose(f(h_t, w_t), np.einsum(
        "bi,bj->bij", h_t, 2.0 * h_t.dot(w_t)))

  def test_s7_a_feed_between_is_refused(self):
    x = tf.placeholder(tf.float64, [None, 3], name="x")
    w, = _weights([3, 2])
    h = tf.matmul(x, w, name="h")
    losses = tf.reduce_sum(h ** 2, 1)
    own = gf.per_example_gradient(losses, w)
    with self.assertRaisesRegex(gf.FeedError, "'h:0'.*between x"):
      gf.function([x, h], own, session=self.session)
    for points in ([h], []):
      with self.assertRaisesRegex(gf.FeedError, "'h:0'"):
        gf.function([x, h], own, session=self.session, points=points)

  def test_ops_do_not_grow_with_the_batch(self):
    counts = []
    for rows in (2, 200):
      x = tf.placeholder(tf.float64, [rows, 3])
      w = tf.ones([3, 2], tf.float64)
      losses = tf.reduce_sum(tf.tanh(tf.matmul(x, w)), 1)
      before = self.count()
      gf.per_example_gradient(losses, w)
      counts.append(self.count() - before)
    self.assertEqual(*counts)

  def test_the_second_call_adds_no_op(self):
    x = tf.placeholder(tf.float64, [None, 3])
    w, = _weights([3, 2])
    losses = tf.reduce_sum(tf.matmul(x, w), 1)
    first = gf.per_example_gradient(losses, w)
    before = self.count()
    self.assertIs(gf.per_example_gradient(losses, w), first)
    self.assertEqual(self.count(), before)

  def test_a_y_without_rows(self):
    w, = _weights([3])
    before = self.count()
    with self.assertRaisesRegex(
        gf.ArgumentError, "no rows(.|\n)*before their mean"):
      gf.per_example_gradient(tf.reduce_mean(w, name="loss"), w)
    with self.assertRaisesRegex(gf.ArgumentError, "list of tensors"):
      gf.per_example_gradient([w], w)
    self.assertEmpty([op.name for op in self.graph.get_operations()[before:]
                      if op.name.startswith("gradfeed/")])

  def test_stop_gradients(self):
    x = tf.placeholder(tf.float64, [None, 3])
    w, = _weights([3])
    h = x * w
    losses = tf.reduce_sum(h * w, 1)
    own = gf.per_example_gradient(losses, w, stop_gradients=[h])
    self.initialize()
    at = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(self.session.run(own, {x: at}),
                               at * self.session.run(w))
