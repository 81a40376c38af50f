"""Tests of feeds of placeholders: with a default, and those nothing reads."""

import tempfile
import warnings

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs

_DEFAULT, _FED = 3.0, 4.0

#: What d, a placeholder with a default, is read by, and the same in NumPy. The
#: first ones are those that Grappler rewrites as if nothing were fed.
_READERS = {
    "exp_of_minus": (lambda d: tf.exp(-d), lambda d: np.exp(-d)),
    "sum_with_itself": (lambda d: d + d, lambda d: d + d),
    "minus_into_sub": (lambda d: 1. - (-d), lambda d: 1. + d),
    "multiplied_twice": (lambda d: (d * 2.) * 3., lambda d: 6. * d),
    "identity": (tf.identity, lambda d: d),
    "times_one": (lambda d: d * 1., lambda d: d),
    "reshaped_twice": (lambda d: tf.reshape(tf.reshape(d, [1]), []) * 2.,
                       lambda d: 2. * d),
    "cast": (lambda d: tf.cast(tf.cast(d, tf.float32), tf.float64),
             lambda d: d),
    "loop": (lambda d: tf.while_loop(
        lambda i, h: i < 3, lambda i, h: (i + 1, h * d),
        [0, tf.constant(1., tf.float64)])[1], lambda d: d ** 3),
    "count_of_a_loop": (lambda d: tf.while_loop(
        lambda i, h: i < d, lambda i, h: (i + 1., h * 2.),
        [tf.constant(0., tf.float64), tf.constant(1., tf.float64)])[1],
                        lambda d: 2. ** d),
    "branch": (lambda d: tf.cond(d > 3.5, lambda: d * 10., lambda: d),
               lambda d: 10. * d if d > 3.5 else d),
    "both_sides": (lambda d: tf.cond(d > 3.5, lambda: tf.exp(-d),
                                     lambda: tf.exp(d)),
                   lambda d: np.exp(-d) if d > 3.5 else np.exp(d)),
}


def _defaults(value):
  """Tensors that a placeholder with a default may have for it."""
  return {
      "constant": value,
      "computed": tf.constant(value - 1., tf.float64) + 1.,
      "shape": tf.cast(tf.shape(tf.zeros([int(value), 2]))[0], tf.float64),
      "placeholder": tf.placeholder(tf.float64, [], name="above"),
      "variable": tf.get_variable("above_v", initializer=np.float64(value)),
      "of_another": tf.placeholder_with_default(np.float64(value), []),
  }


class DefaultTest(graphs.GraphTest):
  """A placeholder with a default: fed as a placeholder is, everywhere."""

  def _with_default(self, kind):
    default = _defaults(_DEFAULT)[kind]
    return tf.placeholder_with_default(
        tf.convert_to_tensor(default, tf.float64), [], name="d")

  @parameterized.product(
      reader=sorted(_READERS), kind=["constant", "computed", "placeholder"],
      flow=[1, 2])
  def test_s1_the_value_counts(self, reader, kind, flow):
    build, expected = _READERS[reader]
    with flows.control_flow(flow):
      d = self._with_default(kind)
      y = build(d)
    count = self.count()
    for value in (_FED, 5., 4.):
      for got in (gf.run(self.session, [y, d], {d: value}),
                  gf.run(self.session, (y, d), {"d:0": value})):
        np.testing.assert_allclose(got, [expected(value), value])
    if kind != "placeholder":
      self.assertEqual(self.count(), count)
      self.assertEqual(gf.run(self.session, y), expected(_DEFAULT))
    f = gf.function(d, y, self.session)
    for value in (_FED, 5., 4., _FED):
      np.testing.assert_allclose(f(value), expected(value))

  @parameterized.product(
      kind=["constant", "computed", "shape", "placeholder", "variable",
            "of_another"], flow=[1, 2], own=[False, True])
  def test_s1_gradients_by_another_and_by_itself(self, kind, flow, own):
    x = tf.placeholder(tf.float64, [], name="x")
    d = self._with_default(kind)
    with flows.control_flow(flow):
      y = tf.while_loop(lambda i, h: i < 2, lambda i, h: (i + 1, h * h * d),
                        [0, x])[1] + tf.exp(-d * x)
    dx, dd = gf.gradient(y, [x, d]) if own else tf.gradients(y, [x, d])
    f = gf.function([x, d], [y, dx, dd], self.session)
    for x_t, d_t in ((.5, _FED), (.7, 5.), (.7, 2.)):
      e = np.exp(-d_t * x_t)
      expected = [d_t ** 3 * x_t ** 4 + e, 4 * d_t ** 3 * x_t ** 3 - d_t * e,
                  3 * d_t ** 2 * x_t ** 4 - x_t * e]
      np.testing.assert_allclose(
          gf.run(self.session, [y, dx, dd], {x: x_t, d: d_t}), expected)
      np.testing.assert_allclose(f(x_t, d_t), expected)

  def test_s1_inside_a_branch(self):
    x = tf.placeholder(tf.float64, [], name="x")
    held = []

    def side():
      held.append(tf.placeholder_with_default(x * 2., []))
      return held[0] * 3.

    with flows.control_flow(1):
      y = tf.cond(x > 0., side, lambda: x)
    for x_t, expected in ((1., 21.), (-1., -1.)):
      self.assertEqual(
          gf.run(self.session, y, {x: x_t, held[0]: 7.}), expected)

  def test_s1_a_copy_has_the_value_too(self):
    x = tf.placeholder(tf.float64, [], name="x")
    h = tf.while_loop(lambda i, h: i < 2, lambda i, h: (i + 1, h * h),
                      [0, x])[1]
    d = tf.placeholder_with_default(h, [], name="d")
    y = d * d
    dx = gf.gradient(y, x, stop_gradients=[d], unconnected="zero")
    dd = gf.gradient(y, d)
    second = gf.gradient(y * h, h)  # d y/d h through d, at what d is fed.
    self.assertEqual(gf.run(self.session, [y, dx, dd], {x: 2., d: 5.}),
                     [25., 0., 10.])
    with self.assertRaisesRegex(gf.FeedError, "'d:0'.*between"):
      gf.run(self.session, second, {x: 2., d: 5.})
    np.testing.assert_allclose(
        gf.run(self.session, second, {x: 2.}), 3. * 16. ** 2)

  @parameterized.product(own=[True, False], fed_as_it_is=[True, False])
  def test_s7_between_x_and_y_is_refused(self, own, fed_as_it_is):
    x = tf.placeholder(tf.float64, [], name="x")
    d = tf.placeholder_with_default(tf.tanh(x), [], name="d")
    y = d * d
    dx = gf.gradient(y, x) if own else tf.gradients(y, x)[0]
    if fed_as_it_is:
      self.graph.finalize()
    with self.assertRaisesRegex(gf.FeedError, "(?s)'d:0'.*points="):
      gf.run(self.session, dx, {x: .3, d: .5})
    with self.assertRaisesRegex(gf.FeedError, "(?s)'d:0'.*points="):
      gf.function([x, d], dx)
    np.testing.assert_allclose(
        gf.run(self.session, dx, {x: .3, d: .5}, points=[d]),
        2. * .5 * (1. - np.tanh(.3) ** 2))

  @parameterized.parameters(True, False)
  def test_not_between_though_in_the_path_of_another(self, own):
    x = tf.placeholder(tf.float64, [], name="x")
    keep = tf.placeholder_with_default(np.float64(1.), [], name="keep")
    y = tf.exp(x * keep) * keep
    dx = gf.gradient(y, x) if own else tf.gradients(y, x)[0]
    self.graph.finalize()
    np.testing.assert_allclose(
        gf.run(self.session, dx, {x: .3, keep: .5}), .25 * np.exp(.15))
    np.testing.assert_allclose(
        gf.function([x, keep], dx, self.session)(.3, .5), .25 * np.exp(.15))

  @parameterized.named_parameters(("fed_first", True), ("fed_last", False))
  def test_beside_what_its_default_is_computed_from(self, fed_first):
    h = tf.sin(tf.constant(0.5, tf.float64))
    d = tf.placeholder_with_default(h * 2., [])
    y = h * d
    calls = [
        lambda: self.assertEqual(
            gf.function([h, d], y, self.session)(3., 5.), 15.),
        lambda: self.assertEqual(gf.function(h, y, self.session)(3.), 18.)]
    for call in calls if fed_first else calls[::-1]:
      call()

  @parameterized.parameters(True, False)
  def test_a_default_that_is_fed_over_takes_no_element(self, finalized):
    queue = tf.FIFOQueue(9, tf.float64, [[]])
    fill = queue.enqueue_many([np.arange(9.)])
    d = tf.placeholder_with_default(queue.dequeue(), [], name="d")
    y, size = tf.exp(-d), queue.size()
    self.session.run(fill)
    if finalized:
      self.graph.finalize()
    for value in (2., 3.):
      self.assertAlmostEqual(gf.run(self.session, y, {d: value}),
                             np.exp(-value))
      self.assertAlmostEqual(gf.function(d, y, self.session)(value),
                             np.exp(-value))
    self.assertEqual(self.session.run(size), 9)
    self.assertEqual(gf.run(self.session, y), 1.)

  def test_what_the_default_needs_is_not_needed(self):
    above = tf.placeholder(tf.float64, [], name="above")
    v = tf.get_variable("v", initializer=np.float64(2.))  # Not initialised.
    step = tf.assign_add(v, 1.)
    with tf.control_dependencies([step.op]):
      d = tf.placeholder_with_default(above * step, [], name="d")
    x = tf.placeholder(tf.float64, [], name="x")
    self.assertEqual(gf.run(self.session, x * d, {x: 2., d: 3.}), 6.)
    f = gf.function([x, d], x * d, self.session)
    self.assertEqual(f.needs, [])
    self.assertEqual(f(2., 3.), 6.)
    with self.assertRaisesRegex(gf.MissingFeedError, "'above:0'"):
      gf.run(self.session, x * d, {x: 2.})

  def test_a_default_of_the_size_of_what_is_fed(self):
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    state = tf.placeholder_with_default(
        tf.zeros(tf.shape(x), tf.float64), [None, 2], name="state")
    y = x * state
    count = self.count()
    feed = {x: [[1., 2.]], state: [[3., 5.]]}
    np.testing.assert_array_equal(gf.run(self.session, y, feed), [[3., 10.]])
    self.assertEqual(self.count(), count)
    np.testing.assert_array_equal(
        gf.run(self.session, state * 2., {state: [[3., 5.]]}), [[6., 10.]])
    np.testing.assert_array_equal(
        gf.run(self.session, y, {x: [[1., 2.]]}), [[0., 0.]])

  def test_shapes_and_dtypes_are_checked(self):
    d = tf.placeholder_with_default(np.ones([2, 2]), [None, 2], name="d")
    y = tf.reduce_sum(d * 2., 1)
    np.testing.assert_array_equal(
        gf.run(self.session, y, {d: np.ones([3, 2])}), [4.] * 3)
    for bad in (np.ones([2, 3]), "text"):
      with self.assertRaisesRegex(gf.FeedError, "'d:0'"):
        gf.run(self.session, y, {d: bad})

  def test_a_saver_restores_in_a_finalized_graph(self):
    folder = self.enter_context(tempfile.TemporaryDirectory())
    v = tf.get_variable("v", initializer=np.float64(2.))
    saver = tf.train.Saver()
    self.initialize()
    path = saver.save(self.session, folder + "/model")
    self.session.run(v.initializer)
    gf.run(self.session, tf.assign(v, 7.).op)
    self.assertEqual(self.session.run(v), 7.)
    self.graph.finalize()
    gf.run(self.session, "save/restore_all", {"save/Const:0": path})
    self.assertEqual(self.session.run(v), 2.)
    other = gf.run(self.session, "save/control_dependency:0",
                   {"save/Const:0": folder + "/other"})
    self.assertEqual(tf.train.load_checkpoint(
        folder + "/other").get_tensor("v"), 2.)
    self.assertIn(b"other", np.asarray(other).item())


class UnusedTest(graphs.GraphTest):
  """A placeholder that nothing reads makes no difference, and no error."""

  def setUp(self):
    super().setUp()
    self.x = tf.placeholder(tf.float64, [None], name="x")
    self.other = tf.placeholder(tf.float32, [None, 2], name="other")
    self.dx = gf.gradient(tf.reduce_sum(self.x ** 3), self.x)

  def test_silent_in_feeds(self):
    held = gf.function(self.x, self.dx, self.session,
                       feed_dict={self.other: [[1, 2]]})
    plain = gf.function(self.x, self.dx, self.session)
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      for _ in range(3):
        for got in (
            gf.run(self.session, self.dx,
                   {self.x: [2.], self.other: [[0., 0.]]}),
            held([2.]), held([2.], feed_dict={self.other: [[3., 4.]]}),
            plain([2.], feed_dict={"other:0": [[3., 4.]]})):
          np.testing.assert_array_equal(got, [12.])

  def test_sparse_placeholders(self):
    for shape in (None, [3, 3], [None, 3]):
      sparse = tf.sparse_placeholder(tf.float32, shape)
      value = ([[0, 1]], [1.], [3, 3])
      np.testing.assert_array_equal(gf.run(
          self.session, self.dx, {self.x: [2.], sparse: value}), [12.])

  def test_values_are_checked_all_the_same(self):
    for bad in ([1.], [["a", "b"]], [[1e300, 1.]]):
      feeds = {self.x: [2.], self.other: bad}
      with self.assertRaisesRegex(gf.FeedError, "'other:0'"):
        gf.run(self.session, self.dx, feeds)
      with self.assertRaisesRegex(gf.FeedError, "'other:0'"):
        gf.function(self.x, self.dx, self.session, {self.other: bad})
      with self.assertRaisesRegex(gf.FeedError, "'other:0'"):
        gf.function(self.x, self.dx, self.session)(
            [2.], feed_dict={self.other: bad})
      with self.assertRaisesRegex(gf.FeedError, "'other:0'"):
        gf.function([self.x, self.other], self.dx, self.session,
                    on_unused_input="ignore")([2.], bad)

  def test_one_warning_for_inputs(self):
    late = tf.placeholder(tf.float32, [], name="late")
    with self.assertWarnsRegex(
        gf.GradfeedWarning, "'other:0'.*'late:0'") as caught:
      f = gf.function([self.x, self.other, late], self.dx, self.session)
    self.assertLen(caught.warnings, 1)
    self.assertEqual(caught.filename, __file__)
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      for _ in range(3):
        np.testing.assert_array_equal(f([2.], [[0., 0.]], 1.), [12.])

  def test_what_theano_says(self):
    inputs = [self.x, self.other]
    count = self.count()
    with self.assertRaisesRegex(gf.FeedError, "'other:0'"):
      gf.function(inputs, self.dx, self.session, on_unused_input="raise")
    with self.assertRaisesRegex(gf.ArgumentError, "'warn', 'raise', 'ignore'"):
      gf.function(inputs, self.dx, self.session, on_unused_input="no")
    self.assertEqual(self.count(), count)
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      f = gf.function(inputs, self.dx, self.session, on_unused_input="ignore")
      np.testing.assert_array_equal(f([2.], [[0., 0.]]), [12.])
      gf.function(self.x, self.dx, self.session, on_unused_input="raise")

  def test_what_the_y_reads_is_used(self):
    shift = tf.placeholder(tf.float64, [])
    dx = gf.gradient(self.x * 2. + shift, self.x)
    f = gf.function([self.x, shift], dx, self.session, on_unused_input="raise")
    np.testing.assert_array_equal(f([1.], 5.), [2.])

  def test_layers_and_variables_are_refused_still(self):
    v = tf.get_variable("v", initializer=np.float64(1.))
    for idle in (v, self.x * 2., tf.constant(1.)):
      with self.assertRaisesRegex(gf.FeedError, "depends on it"):
        gf.run(self.session, self.dx, {self.x: [1.], idle: [1.]})
      with self.assertRaisesRegex(gf.FeedError, "depends on it"):
        gf.function([self.x, idle], self.dx, on_unused_input="ignore")
