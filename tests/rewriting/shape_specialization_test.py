"""Tests of the copy for the shapes of a first call."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed.graph import traversal
from gradfeed.rewriting import shape_specialization


def _specialized(wanted, shapes):
  """(found, placeholders by name, the copy of `wanted`)."""
  found = traversal.ancestors([wanted])
  assert shape_specialization.is_suitable(found)
  special = shape_specialization.specialize(wanted.graph, found, [wanted],
                                            shapes)
  return None if special is None else (special[0], special[1][0])


class SpecialiseTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ("_product_with_ones",
       lambda x: tf.exp(x) * tf.ones_like(x), np.exp),
      ("_product_with_ones_first",
       lambda x: tf.ones([1, 3], tf.float64) * tf.exp(x), np.exp),
      ("_product_with_twos",
       lambda x: tf.exp(x) * (2. * tf.ones_like(x)), lambda x: 2. * np.exp(x)),
      ("_sum_over_nothing_left",
       lambda x: tf.reduce_sum(tf.exp(x), 0, keepdims=True), np.exp),
      ("_sum_over_three",
       lambda x: tf.exp(x) * tf.reduce_sum(x, 1, keepdims=True),
       lambda x: np.exp(x) * x.sum()),
      ("_mean_by_the_number_of_rows",
       lambda x: tf.exp(x) / tf.cast(tf.size(x), tf.float64),
       lambda x: np.exp(x) / 3.),
      ("_reshape_to_the_same",
       lambda x: tf.reshape(tf.exp(x), tf.shape(x)), np.exp),
      ("_reshape_to_another",
       lambda x: tf.matmul(x, tf.reshape(x, [-1, 1])),
       lambda x: np.array([[(x * x).sum()]])),
      ("_tile", lambda x: tf.tile(tf.exp(x), [2, 1]),
       lambda x: np.exp([x[0], x[0]])),
      ("_only_shapes", lambda x: tf.shape(x), lambda x: [1, 3]))
  def test_is_the_same(self, build, expected):
    with tf.Graph().as_default() as graph, tf.Session() as session:
      x = tf.placeholder(tf.float64, [None, 3], name="x")
      result = build(x)
      value = np.array([[.1, -.2, .3]])
      special = _specialized(result, {"x:0": (1, 3)})
      if special is not None:
        feeds, copied = special
        # A division by a constant is a product with its inverse, to TensorFlow.
        np.testing.assert_allclose(
            session.run(copied, {feeds["x:0"]: value}),
            session.run(result, {x: value}), rtol=4e-16)
        self.assertLessEqual(len(traversal.ancestors([copied])),
                             len(traversal.ancestors([result])))
        self.assertTrue(all(op.name.startswith("gradfeed/")
                            for op in graph.get_operations()
                            if "fixed" in op.name))
      np.testing.assert_allclose(
          session.run(result, {x: value}), expected(value), rtol=1e-15)

  def test_leaves_out_what_depends_on_shapes_alone(self):
    with tf.Graph().as_default():
      x = tf.placeholder(tf.float64, [None, 3], name="x")
      result = tf.reshape(
          tf.exp(x) * tf.fill(tf.shape(x), tf.cast(1., tf.float64)),
          tf.stack([tf.shape(x)[0], 3]))
      _, copied = _specialized(result, {"x:0": (1, 3)})
      self.assertEqual(
          [op.type for op in traversal.ancestors([copied]).values()],
          ["Placeholder", "Exp"])

  def test_a_feed_times_ones_stays(self):
    """The product flushes denormals, the feed itself may have some."""
    with tf.Graph().as_default():
      x = tf.placeholder(tf.float64, [None, 3], name="x")
      result = tf.exp(x * tf.ones_like(x))
      _, copied = _specialized(result, {"x:0": (1, 3)})
      self.assertIn("Mul", [op.type for op in
                            traversal.ancestors([copied]).values()])

  def test_the_feed_itself_is_no_result(self):
    with tf.Graph().as_default():
      x = tf.placeholder(tf.float64, [None, 3], name="x")
      self.assertIsNone(_specialized(tf.reshape(x, tf.shape(x)),
                                     {"x:0": (1, 3)}))

  def test_shares_variables(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [None], name="x")
      v = tf.get_variable("v", initializer=np.array([2., 3.]),
                          use_resource=True)
      result = tf.reshape(x * v, tf.shape(x))
      feeds, copied = _specialized(result, {"x:0": (2,)})
      session.run(v.initializer)
      session.run(v.assign([5., 7.]))
      np.testing.assert_array_equal(
          session.run(copied, {feeds["x:0"]: [1., 1.]}), [5., 7.])


class IsSuitableTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ("_random", lambda x: x + tf.random_uniform([])),
      ("_py_func", lambda x: tf.py_func(lambda a: a, [x], tf.float32)),
      ("_stateless_py_func",
       lambda x: tf.py_func(
           lambda a: a, [x], tf.float32, stateful=False)),
      ("_assert", lambda x: tf.Print(x, [x])),
      ("_cond", lambda x: tf.cond(x > 0., lambda: x, lambda: -x)),
      ("_loop", lambda x: tf.while_loop(
          lambda a: a < 1., lambda a: a + 1., [x])),
      ("_control_input", lambda x: _after(tf.no_op(), x)),
      ("_large", lambda x: _chain(x, 400)))
  def test_refuses(self, build):
    with tf.Graph().as_default():
      result = build(tf.placeholder(tf.float32, []))
      self.assertFalse(
          shape_specialization.is_suitable(traversal.ancestors([result])))


def _after(op, x):
  with tf.control_dependencies([op]):
    return tf.identity(x)


def _chain(x, length):
  for _ in range(length):
    x = tf.exp(x)
  return x
