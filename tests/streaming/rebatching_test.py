"""Tests of functions of one row made functions of many."""

import os
import threading

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.streaming import rebatching
from tests import conftest
from tests.testing import folders
from tests.testing import graphs

_MODELS = folders.MODELS

_ROWS = 6


class RebatchingTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.random = np.random.RandomState(0)
    self.at = self.random.normal(size=[_ROWS, 4])
    self.x = tf.placeholder(tf.float64, [1, 4], name="x")
    self.w = graphs.variable("w", self.random.normal(size=[4, 3]),
                             conftest.MODE == "v2")
    self.initialize()

  def function(self, inputs, outputs, **options):
    return gf.function(inputs, outputs, session=self.session, **options)

  def slope(self, at=None, w=None):
    """d sum(tanh(x w)) / dx in closed form."""
    w = self.session.run(self.w) if w is None else w
    return (1 - np.tanh((self.at if at is None else at) @ w) ** 2) @ w.T

  def of_tanh(self, **options):
    return self.function(self.x, gf.gradient(
        tf.tanh(tf.matmul(self.x, self.w)), self.x), **options)


class RebatchedTest(RebatchingTest):

  @parameterized.named_parameters(
      *[("of_{}".format(rows), rows) for rows in (0, 1, 2, 5, 300)])
  def test_any_number_of_rows(self, rows):
    batched = rebatching.rebatched(self.of_tanh(), [self.at])
    at = self.random.normal(size=[rows, 4])
    got = batched(at)
    self.assertEqual(got.shape, (rows, 4))
    np.testing.assert_allclose(got, self.slope(at))

  def test_reads_the_weights_of_the_moment(self):
    batched = rebatching.rebatched(self.of_tanh(), [self.at])
    self.session.run(tf.assign(self.w, 2 * self.w))
    np.testing.assert_allclose(batched(self.at), self.slope())

  def test_the_second_time_no_op_is_added(self):
    f = self.of_tanh()
    rebatching.rebatched(f, [self.at])
    before = self.count()
    for again in f, self.function(self.x, f.outputs[0]):
      batched = rebatching.rebatched(again, [self.at])
      np.testing.assert_allclose(batched(self.at), self.slope())
    self.assertEqual(self.count(), before)

  def test_what_leads_nowhere_is_tried_once(self):
    f = self.function(self.x, gf.gradient(_loop(self.x), self.x))
    self.assertIsNone(rebatching.rebatched(f, [self.at]))
    before = self.count()
    self.assertIsNone(rebatching.rebatched(f, [self.at]))
    self.assertEqual(self.count(), before)

  def test_has_the_structure_of_the_function(self):
    scale = tf.placeholder(tf.float64, [], name="scale")
    y = tf.tanh(tf.matmul(self.x, self.w)) * scale
    f = self.function([{"x": self.x}, scale], {
        "value": y, "slopes": (gf.gradient(y, self.x), tf.reduce_sum(y))})
    batched = rebatching.rebatched(f, [self.at, 3.0])
    got = batched({"x": self.at}, 3.0)
    expected = 3 * np.tanh(self.at @ self.session.run(self.w))
    np.testing.assert_allclose(got["value"], expected)
    np.testing.assert_allclose(got["slopes"][0], 3 * self.slope())
    np.testing.assert_allclose(got["slopes"][1], expected.sum(1))

  @parameterized.named_parameters(
      ("constant", lambda: tf.constant([2]), False),
      ("placeholder", lambda: tf.placeholder(tf.int32, [1]), True))
  def test_held_labels_are_those_of_every_row(self, label, held):
    label = label()
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=label, logits=tf.matmul(self.x, self.w))
    f = self.function(self.x, [losses, gf.gradient(losses, self.x)],
                      feed_dict={label: [2]} if held else None)
    got = rebatching.rebatched(f, [self.at])(self.at)
    w = self.session.run(self.w)
    parts = np.exp(self.at @ w)
    parts /= parts.sum(1, keepdims=True)
    np.testing.assert_allclose(got[0], -np.log(parts[:, 2]))
    np.testing.assert_allclose(got[1], (parts - np.eye(3)[2]) @ w.T)

  def test_a_layer_in_the_middle(self):
    h = tf.matmul(self.x, self.w)
    f = self.function(h, gf.gradient(h ** 3, h))
    at = self.at[:, :3]
    np.testing.assert_allclose(
        rebatching.rebatched(f, [at])(at), 3 * at ** 2)

  def test_a_derivative_through_a_point(self):
    h = tf.tanh(self.x)
    f = self.function(h, gf.gradient(h ** 3, self.x), points=[h])
    np.testing.assert_allclose(
        rebatching.rebatched(f, [self.at])(self.at),
        3 * self.at ** 2 * (1 - self.at ** 2))

  def test_two_layers_and_a_gradient_of_tensorflow(self):
    h = tf.tanh(self.x)
    f = self.function([h, self.x], tf.gradients(h ** 3 * self.x, h)[0])
    batched = rebatching.rebatched(f, [self.at, 2 * self.at])
    np.testing.assert_allclose(
        batched(self.at, 2 * self.at), 6 * self.at ** 3)

  def test_a_variable_that_is_shared(self):
    f = self.function([self.w, self.x], gf.gradient(
        tf.tanh(tf.matmul(self.x, self.w)), self.x))
    other = self.random.normal(size=[4, 3])
    got = rebatching.rebatched(f, [other, self.at])(other, self.at)
    np.testing.assert_allclose(got, self.slope(w=other))

  @parameterized.named_parameters(
      ("no_batch", [4], [_ROWS, 4]), ("with_axis", [1, 4], [_ROWS, 1, 4]),
      ("scalar", [], [_ROWS]))
  def test_rows_that_are_values(self, shape, shape_of_all):
    x = tf.placeholder(tf.float64, shape)
    y = tf.reduce_sum(x ** 3)
    at = self.random.normal(size=shape_of_all)
    batched = rebatching.rebatched(
        self.function(x, gf.value_and_gradient(y, x)), [at], ["bare"])
    value, slope = batched(at)
    np.testing.assert_allclose(value, (at ** 3).reshape(_ROWS, -1).sum(1))
    np.testing.assert_allclose(slope.reshape(at.shape), 3 * at ** 2)

  def test_a_constant_derivative(self):
    f = self.function(self.x, gf.gradient(
        tf.matmul(self.x, self.w)[:, 1], self.x))
    np.testing.assert_allclose(
        rebatching.rebatched(f, [self.at])(self.at[:3]),
        np.tile(self.session.run(self.w)[:, 1], [3, 1]))

  def test_the_output_is_the_input(self):
    f = self.function(self.x, [self.x, gf.gradient(self.x ** 2, self.x)])
    same, slope = rebatching.rebatched(f, [self.at])(self.at)
    np.testing.assert_array_equal(same, self.at)
    np.testing.assert_allclose(slope, 2 * self.at)

  @parameterized.named_parameters(
      ("dropout", lambda x: tf.nn.dropout(x, rate=0.5) ** 2),
      ("noise", lambda x: x * tf.random_normal([1, 4], dtype=tf.float64)),
      ("python", lambda x: x * tf.py_func(
          lambda: np.ones([1, 4]), [], tf.float64)),
      ("queue", lambda x: x * _dequeued()))
  def test_s8_what_differs_from_run_to_run(self, y):
    f = self.function(self.x, tf.identity(y(self.x)))
    self.assertIsNone(rebatching.rebatched(f, [self.at]))

  def test_s4_a_branch_that_all_rows_choose_together(self):
    y = tf.cond(tf.reduce_sum(self.x) > 0, lambda: self.x ** 2,
                lambda: self.x ** 3)
    f = self.function(self.x, gf.gradient(y, self.x))
    positive = np.abs(self.at)  # Of these none tells.
    batched = rebatching.rebatched(f, [positive])
    if batched is not None:
      up = (self.at.sum(1) > 0)[:, np.newaxis]
      np.testing.assert_allclose(
          batched(self.at), np.where(up, 2 * self.at, 3 * self.at ** 2))

  def test_what_is_fed_at_each_call(self):
    scale = tf.placeholder(tf.float64, [])
    f = self.function(self.x, gf.gradient(self.x ** 2 * scale, self.x))
    before = self.count()
    self.assertIsNone(rebatching.rebatched(f, [self.at]))
    self.assertEqual(self.count(), before)

  def test_what_is_put_together_of_several_tensors(self):
    f = self.function(self.x, [tf.SparseTensor(
        [[0]], self.x[0, :1], [1]), self.x ** 2])
    self.assertIsNone(rebatching.rebatched(f, [self.at]))

  def test_e9_a_finalized_graph(self):
    f, g = self.of_tanh(), self.function(self.x, tf.tanh(self.x))
    rebatching.rebatched(f, [self.at])
    self.graph.finalize()
    np.testing.assert_allclose(
        rebatching.rebatched(f, [self.at])(self.at), self.slope())
    self.assertIsNone(rebatching.rebatched(g, [self.at]))

  def test_s6_a_variable_without_a_value(self):
    v = graphs.variable("v", np.ones([1, 4]), conftest.MODE == "v2")
    f = self.function(self.x, gf.gradient(self.x * v, self.x))
    self.assertIsNone(rebatching.rebatched(f, [self.at]))


def _loop(x):
  """A state of one row, built into the loop."""
  return tf.while_loop(
      lambda i, h: i < 3,
      lambda i, h: (i + 1, tf.tanh(tf.concat([h[:, 1:], h[:, :1] * x[:, :1]],
                                             1))),
      [0, tf.zeros([1, 3], tf.float64)])[1]


def _dequeued():
  queue = tf.FIFOQueue(100, [tf.float64], [[1, 4]])
  tf.get_default_session().run(queue.enqueue_many(np.ones([100, 1, 4])))
  return queue.dequeue()


class RebatchedLoopsTest(RebatchingTest):

  def of_loop(self):
    y = tf.while_loop(
        lambda i, h: i < 3, lambda i, h: (i + 1, tf.tanh(tf.concat([
            h[:, 1:], h[:, :1] * self.x[:, :1] + self.x[:, 1:2]], 1))),
        [0, tf.zeros([1, 3], tf.float64)])[1]
    return self.function(self.x, gf.gradient(y ** 2, self.x))

  def expected(self, f):
    """What TensorFlow gives row by row."""
    return np.concatenate([self.session.run(
        f.outputs[0], {self.x: row[np.newaxis]}) for row in self.at])

  def test_any_number_of_rows(self):
    f = self.of_loop()
    batched = rebatching.rebatched_loops(f, [self.at])
    np.testing.assert_allclose(batched(self.at), self.expected(f))
    self.assertEqual(batched(self.at[:0]).shape, (0, 4))

  def test_the_second_time_no_op_is_added(self):
    f = self.of_loop()
    rebatching.rebatched_loops(f, [self.at])
    before = self.count()
    rebatching.rebatched_loops(f, [self.at])
    self.assertEqual(self.count(), before)

  def test_reads_the_weights_of_the_moment(self):
    y = tf.while_loop(
        lambda i, h: i < 2,
        lambda i, h: (i + 1, tf.tanh(tf.matmul(h + self.x, self.w[:, :1]))),
        [0, tf.zeros([1, 1], tf.float64)])[1]
    f = self.function(self.x, gf.gradient(y, self.x))
    batched = rebatching.rebatched_loops(f, [self.at])
    self.session.run(tf.assign(self.w, 2 * self.w))
    np.testing.assert_allclose(batched(self.at), self.expected(f))

  @parameterized.named_parameters(
      ("random", lambda x, h: h * tf.random_uniform([1, 4], dtype=h.dtype) + x),
      ("mixed", lambda x, h: tf.tanh(h + tf.reduce_sum(x))),
      ("over_rows", lambda x, h: h + tf.nn.softmax(x + h, 0)))
  def test_s4_what_is_not_proven_is_not_done(self, turn):
    y = tf.while_loop(
        lambda i, h: i < 2, lambda i, h: (i + 1, turn(self.x, h)),
        [0, tf.zeros([1, 4], tf.float64)])[1]
    f = self.function(self.x, tf.identity(y))
    self.assertIsNone(rebatching.rebatched_loops(f, [self.at]))

  def test_more_turns_than_are_unrolled(self):
    f = self.of_loop()
    self.assertIsNone(rebatching.rebatched_loops(f, [self.at], most_ops=10))
    self.assertIsNotNone(rebatching.rebatched_loops(f, [self.at]))

  def test_without_a_loop(self):
    self.assertIsNone(rebatching.rebatched_loops(self.of_tanh(), [self.at]))


class ModelsTest(folders.FolderTest, RebatchingTest):

  def test_a_saved_model(self):
    y = tf.tanh(tf.matmul(self.x, self.w))
    tf.saved_model.simple_save(
        self.session, self.path("saved"), {"x": self.x}, {"y": y})
    with gf.load(self.path("saved")) as model:
      f = gf.function(model.tensor("x:0"), gf.gradient(
          model.tensor(y.name), model.tensor("x:0")))
      got = rebatching.rebatched(f, [self.at])(self.at)
    np.testing.assert_allclose(got, self.slope())

  def test_a_frozen_graph(self):
    tf.tanh(tf.matmul(self.x, self.w), name="y")
    frozen = tf.graph_util.convert_variables_to_constants(
        self.session, self.graph.as_graph_def(), ["y"])
    with open(self.path("frozen.pb"), "wb") as output:
      output.write(frozen.SerializeToString())
    with gf.load(self.path("frozen.pb")) as model:
      x = model.tensor("x:0")
      f = gf.function(x, gf.gradient(model.tensor("y:0"), x))
      got = rebatching.rebatched(f, [self.at])(self.at)
    np.testing.assert_allclose(got, self.slope())

  @parameterized.parameters(
      ("kws_dnn_s/DNN_S.pb", "Mfcc:0", "labels_softmax:0", False),
      ("kws_ds_cnn_s/DS_CNN_S.pb", "Mfcc:0", "labels_softmax:0", False),
      ("kws_gru_s/GRU_S.pb", "Mfcc:0", "labels_softmax:0", True),
      ("dl4j_bidir64/frozen_model.pb", "in_0:0", "concat:0", True))
  def test_models_that_are_there(self, path, x, y, has_loops):
    path = os.path.join(_MODELS, path)
    if not os.path.exists(path):
      return
    with gf.load(path) as model:
      x = model.tensor(x)
      f = gf.function(x, gf.gradient(
          model.graph.get_tensor_by_name(y)[..., 1], x))
      at = self.random.uniform(-1, 1, [4] + x.shape.as_list()[1:]).astype(
          x.dtype.as_numpy_dtype)
      batched = rebatching.rebatched(f, [at])
      self.assertEqual(batched is None, has_loops)
      if has_loops:
        batched = rebatching.rebatched_loops(f, [at])
      np.testing.assert_allclose(batched(at), np.concatenate([
          model.session.run(f.outputs[0], {x: row[np.newaxis]})
          for row in at]), 1e-4, 1e-6)


class ProveTest(RebatchingTest):

  def setUp(self):
    super().setUp()
    self.f = self.function(self.x, gf.gradient(self.x ** 3, self.x))
    self.many = tf.placeholder(tf.float64, [None, 4])

  def proves(self, result, values=None, f=None, depends=True):
    """Whether `prove` accepts `result`, a function of the batch, for `f`."""
    f = f or self.f
    batched = rebatching.Rebatched(
        f, self.function(self.many, result(self.many)), ["one"], [depends])
    return rebatching.prove(
        batched, f, [self.at if values is None else values])

  def test_what_is_right(self):
    self.assertTrue(self.proves(lambda x: 3 * x ** 2))

  @parameterized.named_parameters(
      ("a_little_off", lambda x: 3.001 * x ** 2),
      ("mean_of_the_batch", lambda x: 3 * x ** 2 / tf.cast(
          tf.shape(x)[0], tf.float64)),
      ("right_for_two", lambda x: 6 * x ** 2 / tf.cast(
          tf.shape(x)[0], tf.float64)),
      ("right_for_six", lambda x: 18 * x ** 2 / tf.cast(
          tf.shape(x)[0], tf.float64)),
      ("the_first_for_all", lambda x: tf.zeros_like(x) + 3 * x[:1] ** 2),
      ("other_order", lambda x: 3 * tf.reverse(x, [0]) ** 2),
      ("mixed", lambda x: 3 * (x - tf.reduce_mean(x, 0)) ** 2),
      ("a_row_too_few", lambda x: 3 * x[:-1] ** 2),
      ("no_rows", lambda x: 3 * tf.reduce_sum(x ** 2, 0)),
      ("other_dtype", lambda x: tf.cast(3 * x ** 2, tf.float32)),
      ("not_a_number", lambda x: x / 0.0),
      ("fails", lambda x: tf.reshape(3 * x ** 2, [1, 4])),
      ("constant", lambda x: tf.constant(np.ones([2, 4])) * x[:2]))
  def test_what_is_wrong(self, result):
    self.assertFalse(self.proves(result))

  def test_numbers_that_are_not_finite(self):
    f = self.function(self.x, tf.log(self.x))
    self.at[0] = 0.0, -1.0, np.inf, np.nan
    self.assertTrue(self.proves(tf.log, self.at, f))
    self.assertFalse(self.proves(tf.log, -np.abs(self.at), f))

  def test_rows_that_prove_nothing(self):
    right = lambda x: 3 * x ** 2
    self.assertFalse(self.proves(right, self.at[:1]))
    self.assertFalse(self.proves(right, np.ones([6, 4])))
    # Where the results are the same, that they agree does not count.
    flat = self.function(self.x, gf.gradient(tf.nn.relu(self.x), self.x))
    self.assertFalse(self.proves(
        lambda x: tf.zeros_like(x) * tf.reduce_sum(x), -np.abs(self.at), flat))

  def test_two_rows_are_enough(self):
    self.assertTrue(self.proves(lambda x: 3 * x ** 2, self.at[:2]))
    self.assertFalse(self.proves(lambda x: 6 * x ** 2 / tf.cast(
        tf.shape(x)[0], tf.float64), self.at[:2]))

  def test_one_result_for_all_rows(self):
    f = self.function(self.x, gf.gradient(self.x, self.x))
    self.assertTrue(self.proves(
        lambda x: tf.ones_like(x), f=f, depends=False))
    self.assertFalse(self.proves(
        lambda x: tf.ones_like(x[:1]), f=f, depends=False))

  def test_rows_that_the_function_refuses(self):
    self.assertFalse(self.proves(lambda x: 3 * x ** 2, np.ones([6, 5])))


class OneByOneTest(RebatchingTest):

  @parameterized.parameters(None, 1, 2, 5)
  def test_results_are_in_order(self, threads):
    at = self.random.normal(size=[101, 4])
    f = gf.function(self.x, gf.gradient(
        tf.tanh(tf.matmul(self.x, self.w)), self.x))  # The default session.
    got = rebatching.one_by_one(f, [(row[np.newaxis],) for row in at], threads)
    np.testing.assert_allclose(np.concatenate(got), self.slope(at))

  def test_without_rows(self):
    self.assertEqual(rebatching.one_by_one(self.of_tanh(), [], 3), [])

  def test_works_in_several_threads_at_once(self):
    both = threading.Barrier(2, timeout=60)
    rebatching.one_by_one(lambda row: both.wait(), [(0,)] * 2, 2)

  @parameterized.parameters(1, 4)
  def test_the_first_error_is_raised(self, threads):
    rows = [(row[np.newaxis],) for row in self.random.normal(size=[50, 4])]
    rows[37], rows[20] = (np.ones([1, 5]),), (np.ones([1, 7]),)
    with self.assertRaisesRegex(gf.FeedError, r"\[1, 7\]"):
      rebatching.one_by_one(self.of_tanh(), rows, threads)


if __name__ == "__main__":
  absltest.main()
