"""Tests of what is cut, what is refused, and what it adds to the graph."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows

_A = np.array([[3., 1.], [2., 5.]])
_B = np.array([[1., 2.], [3., 1.]])
_H = np.array([[.5, 4.], [-1., 2.]])

#: name: (h of a, z of h and a, b, value at h, gradient by h). TensorFlow's
#: arithmetic optimizer rewrites z in terms of a, as if h were not fed.
REWRITES = {
    "square_into_exp": (
        lambda a: a * a, lambda h, a, b: tf.exp(-h),
        lambda h: np.exp(-h), lambda h: -np.exp(-h)),
    "square_op_into_exp": (
        tf.square, lambda h, a, b: tf.exp(-h),
        lambda h: np.exp(-h), lambda h: -np.exp(-h)),
    "sum_with_itself": (
        lambda a: a + a, lambda h, a, b: h * h,
        lambda h: h * h, lambda h: 2. * h),
    "negative_into_add": (
        lambda a: -a, lambda h, a, b: tf.square(b + h),
        lambda h: (_B + h) ** 2, lambda h: 2. * (_B + h)),
    "negative_into_sub": (
        lambda a: -a, lambda h, a, b: tf.square(b - h),
        lambda h: (_B - h) ** 2, lambda h: -2. * (_B - h)),
    "negative_of_negative": (
        lambda a: -a, lambda h, a, b: tf.exp(-h),
        lambda h: np.exp(-h), lambda h: -np.exp(-h)),
    "transpose_into_transpose": (
        tf.transpose, lambda h, a, b: tf.square(tf.transpose(h)) * b,
        lambda h: h.T ** 2 * _B, lambda h: 2. * h * _B.T),
    "transpose_into_matmul": (
        tf.transpose, lambda h, a, b: tf.square(tf.matmul(h, b)),
        lambda h: h.dot(_B) ** 2, lambda h: 2. * h.dot(_B).dot(_B.T)),
    "multiplied_by_constants": (
        lambda a: a * 2., lambda h, a, b: tf.square(h * 3.),
        lambda h: 9. * h ** 2, lambda h: 18. * h),
    "constants_far_apart": (
        lambda a: 2. * (a * 4.), lambda h, a, b: tf.square((h * 3.) * .5),
        lambda h: 2.25 * h ** 2, lambda h: 4.5 * h),
    "added_constants": (
        lambda a: a + 2., lambda h, a, b: tf.square(h + 3.),
        lambda h: (h + 3.) ** 2, lambda h: 2. * (h + 3.)),
    "reshape_of_reshape": (
        lambda a: tf.reshape(a, [4]),
        lambda h, a, b: tf.square(tf.reshape(h, [2, 2])) * b,
        lambda h: h.reshape(2, 2) ** 2 * _B,
        lambda h: 2. * h * _B.reshape(-1)),
    "cast_of_cast": (
        lambda a: tf.cast(a, tf.float32),
        lambda h, a, b: tf.square(tf.cast(h, tf.float64)),
        lambda h: h ** 2, lambda h: 2. * h),
    "conjugate_of_identity": (
        tf.identity, lambda h, a, b: tf.exp(h),
        np.exp, np.exp),
    "common_factor": (
        lambda a: a * tf.constant(_B), lambda h, a, b: h + a * b * b,
        lambda h: h + _A * _B * _B, np.ones_like),
    "sqrt_into_division": (
        tf.sqrt, lambda h, a, b: b / h,
        lambda h: _B / h, lambda h: -_B / h ** 2),
    "pow_two": (
        lambda a: tf.pow(a, tf.constant(2., tf.float64)),
        lambda h, a, b: tf.sqrt(h * h + 1.),
        lambda h: np.sqrt(h * h + 1.), lambda h: h / np.sqrt(h * h + 1.)),
}


def _source(kind, session):
  """The tensor a: upstream of h, and what TensorFlow wrongly goes back to."""
  if kind == "constant":
    return tf.constant(_A)
  if kind == "default":
    return tf.placeholder_with_default(_A, [2, 2])
  v = tf.get_variable("a", initializer=_A, use_resource=kind == "resource")
  session.run(v.initializer)
  return tf.convert_to_tensor(v)


class S1Test(parameterized.TestCase):
  """A value given to a tensor in the middle takes effect."""

  @parameterized.named_parameters(
      ("_{}_of_{}".format(name, kind), name, kind)
      for name in sorted(REWRITES)
      for kind in ("constant", "default", "ref", "resource"))
  def test_s1_given_in_the_middle(self, name, kind):
    make_h, make_z, value, derivative = REWRITES[name]
    with tf.Graph().as_default(), tf.Session() as session:
      a = _source(kind, session)
      h = make_h(a)
      z = make_z(h, a, tf.constant(_B))
      dh = gf.gradient(z, h)
      h_t = _H if name not in (
          "reshape_of_reshape",) else _H.reshape(-1)
      if name == "cast_of_cast":
        h_t = h_t.astype(np.float32)
      # The graph, as the session sees it without the feed, is run first.
      z_a, dh_a = session.run([z, dh])
      f = gf.function(h, [z, dh], session=session)
      for z_t, dh_t in (gf.run(session, [z, dh], {h: h_t}), f(h_t)):
        np.testing.assert_allclose(z_t, value(h_t))
        np.testing.assert_allclose(dh_t, derivative(h_t))
      # What an ignored feed would give differs.
      self.assertFalse(np.allclose(z_a, value(h_t)))
      np.testing.assert_array_equal(session.run(dh), dh_a)

  def test_s1_session_with_the_default_config(self):
    with tf.Graph().as_default():
      x = tf.constant(3., tf.float64)
      h = x * x
      z = tf.exp(-h)
      dh = gf.gradient(z, h)
      with tf.Session(config=tf.ConfigProto()) as session:
        for _ in range(3):
          np.testing.assert_allclose(
              gf.run(session, [z, dh], {h: 4.}),
              [np.exp(-4.), -np.exp(-4.)])

  def test_s1_given_below_and_above(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder_with_default(np.float64(3.), [])
      h = x * x
      z = tf.exp(-h) + x
      dx, dh = gf.gradient(z, x), gf.gradient(z, h)
      f = gf.function([x, h], [z, dh], session=session)
      np.testing.assert_allclose(
          f(2., 4.5), [np.exp(-4.5) + 2., -np.exp(-4.5)])
      np.testing.assert_allclose(
          gf.run(session, [z, dx], {x: 2.}),
          [np.exp(-4.) + 2., 1. - 4. * np.exp(-4.)])

  def test_s1_batch_of_an_iterator(self):
    with tf.Graph().as_default(), tf.Session() as session:
      dataset = tf.data.Dataset.from_tensor_slices(
          np.arange(12.).reshape(6, 2))
      batch = tf.data.make_one_shot_iterator(dataset).get_next()
      y = tf.reduce_sum(batch * batch)
      dx = gf.gradient(y, batch)
      f = gf.function(batch, [y, dx], session=session)
      for value in ([5., 6.], [1., 0.]):
        y_t, dx_t = f(value)
        np.testing.assert_allclose(y_t, np.sum(np.square(value)))
        np.testing.assert_allclose(dx_t, 2. * np.array(value))
        np.testing.assert_allclose(
            gf.run(session, dx, {batch: value}), 2. * np.array(value))
      # Nothing was taken from the iterator meanwhile.
      np.testing.assert_array_equal(session.run(batch), [0., 1.])

  def test_s1_one_part_of_a_batch(self):
    with tf.Graph().as_default(), tf.Session() as session:
      dataset = tf.data.Dataset.from_tensor_slices(
          (np.arange(4.), 10. * np.arange(4.)))
      x, label = tf.data.make_one_shot_iterator(dataset).get_next()
      y = x * x * label
      both = gf.function([x, label], [y, gf.gradient(y, x)], session=session)
      np.testing.assert_allclose(both(3., 2.), [18., 12.])
      # The label comes from the iterator, once for each call.
      one = gf.function(x, [y, gf.gradient(y, x)], session=session)
      np.testing.assert_allclose(one(3.), [0., 0.])
      np.testing.assert_allclose(one(3.), [90., 60.])

  def test_s1_waiting_for_what_is_given(self):
    with tf.Graph().as_default(), tf.Session() as session:
      dataset = tf.data.Dataset.from_tensor_slices(np.arange(4.))
      x = tf.data.make_one_shot_iterator(dataset).get_next()
      with tf.control_dependencies([x]):
        y = tf.square(x)
      f = gf.function(x, y, session=session)
      self.assertEqual(f(7.), 49.)
      self.assertEqual(f(8.), 64.)
      self.assertEqual(session.run(x), 0.)

  def test_s1_constant(self):
    with tf.Graph().as_default(), tf.Session() as session:
      c = tf.constant([1., 2.], tf.float64)
      x = tf.placeholder(tf.float64, [2])
      y = tf.reduce_sum(c * c * x)
      f = gf.function([c, x], [y, gf.gradient(y, c)], session=session)
      y_t, dc_t = f([3., 4.], [1., 10.])
      np.testing.assert_allclose(y_t, 169.)
      np.testing.assert_allclose(dc_t, [6., 80.])
      np.testing.assert_allclose(gf.run(session, y, {c: [1., 1.],
                                                     x: [1., 2.]}), 3.)
      np.testing.assert_allclose(session.run(y, {x: [1., 1.]}), 5.)

  def test_s1_placeholder_with_default(self):
    with tf.Graph().as_default(), tf.Session() as session:
      d = tf.placeholder_with_default(np.float64(3.), [])
      y = tf.exp(-d * d)
      f = gf.function(d, [y, gf.gradient(y, d)], session=session)
      np.testing.assert_allclose(f(2.), [np.exp(-4.), -4. * np.exp(-4.)])
      np.testing.assert_allclose(gf.run(session, y), np.exp(-9.))
      np.testing.assert_allclose(gf.run(session, y, {d: 1.}), np.exp(-1.))

  def test_s1_second_order(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.constant(3., tf.float64)
      h = x * x
      z = tf.exp(-h)
      second = gf.gradient(gf.gradient(z, h), h)
      self.assertAlmostEqual(
          gf.run(session, second, {h: 4.}), np.exp(-4.), places=14)

  def test_s1_one_of_several_outputs(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.constant([[1., 2., 3., 4.]], tf.float64)
      left, right = tf.split(x, 2, axis=1)
      y = tf.reduce_sum(left * left * right)
      f = gf.function(left, [y, gf.gradient(y, left)], session=session)
      y_t, dl_t = f([[10., 1.]])
      np.testing.assert_allclose(y_t, 304.)
      np.testing.assert_allclose(dl_t, [[60., 8.]])

  def test_s1_branch_that_is_not_taken(self):
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(1)):
      x = tf.placeholder(tf.float64, [])
      p = tf.placeholder(tf.bool, [])
      inside = []

      def square():
        inside.append(x * 2.)
        return inside[0] * inside[0]

      y = tf.cond(p, square, lambda: x + 4.)
      try:
        f = gf.function([inside[0], x, p], y, session=session)
      except gf.UnsupportedGraphError as error:
        self.assertIn(inside[0].name, error.what)
      else:
        self.assertEqual(f(5., 3., False), 7.)
        self.assertEqual(f(5., 3., True), 25.)

  @parameterized.parameters("run", "function")
  def test_s1_inside_a_loop_is_refused(self, way):
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(1)):
      inside = []

      def body(i, a):
        inside.append(a * 2.)
        return i + 1, inside[0]

      y = tf.while_loop(lambda i, a: i < 2, body,
                        [0, tf.constant(1., tf.float64)])[1]
      with self.assertRaisesRegex(
          gf.GradfeedError,
          r"(?s){}.*(loop|while).*Fix: ".format(inside[0].op.name)):
        if way == "run":
          gf.run(session, y, {inside[0]: 5.})
        else:
          gf.function(inside[0], y, session=session)

  @parameterized.parameters(1, 2)
  def test_s1_gradient_through_control_flow(self, flow):
    """The derivative may stand on a copy of what is given."""
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(flow)):
      x = tf.placeholder(tf.float64, [])
      cubed = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * x),
                            [0, tf.constant(1., tf.float64)])[1]
      h = tf.identity(cubed)
      y = h * h * h + h
      dx, dh = gf.gradient(y, [x, h])
      value, alone = gf.value_and_gradient(y, h)
      f = gf.function([x, h], [y, dx, dh], points=[h], session=session)
      # h is given as 5 though x makes it 8: dy/dh = 76, dh/dx = 12.
      np.testing.assert_allclose(f(2., 5.), [130., 912., 76.])
      self.assertEqual(gf.function(h, alone, session=session)(5.), 76.)
      self.assertEqual(gf.run(session, value, {h: 5.}), 130.)
      np.testing.assert_allclose(
          gf.run(session, [y, dx, dh], {x: 2.}), [520., 2316., 193.])


class S7Test(parameterized.TestCase):
  """A tensor between x and y is given only where it is said what is meant."""

  def _graph(self):
    x = tf.placeholder(tf.float64, [], name="x")
    h = tf.tanh(x, name="h")
    return x, h, tf.square(h, name="y")

  @parameterized.named_parameters(("_x_too", True), ("_h_alone", False))
  def test_s7_between_x_and_y(self, feed_x):
    with tf.Graph().as_default() as graph, tf.Session() as session:
      x, h, y = self._graph()
      dx = gf.gradient(y, x)
      ops = len(graph.get_operations())
      feeds = {h: .3}
      if feed_x:
        feeds[x] = .5
      pattern = (r"(?s)'h:0' \(float64, \[\]\).*between x = 'x:0' and "
                 r"y = 'y:0'.*Fix: .*stop_gradients=\['h:0'\].*"
                 r"points=\['h:0'\]")
      with self.assertRaisesRegex(gf.FeedError, pattern):
        gf.run(session, dx, feeds)
      with self.assertRaisesRegex(gf.FeedError, pattern):
        gf.function(list(feeds), dx)
      with self.assertRaisesRegex(gf.FeedError, pattern):
        gf.function(x, dx, feed_dict={h: .3})
      self.assertLen(graph.get_operations(), ops)

  def test_s7_one_x_between_another_and_y(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x, h, y = self._graph()
      both = gf.gradient(y, [x, h])
      with self.assertRaisesRegex(gf.FeedError, "'h:0'.*between x = 'x:0'"):
        gf.function([x, h], both)
      with self.assertRaisesRegex(gf.FeedError, "'h:0'.*between x = 'x:0'"):
        gf.run(session, gf.gradients(y, [x, h]), {x: .5, h: .3})
      # The gradient by h alone passes nothing on.
      self.assertAlmostEqual(gf.function(h, both[1])(.3), .6)
      dx, dh = gf.function([x, h], both, points=[h])(.5, .3)
      self.assertAlmostEqual(dh, .6)
      self.assertAlmostEqual(dx, .6 * (1. - .3 ** 2))

  @parameterized.named_parameters(
      ("_identity", lambda x: tf.identity(x * x)),
      ("_sum", lambda x: x + x * x))
  def test_s7_passed_by_an_op_without_a_gradient_op(self, build):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [], name="x")
      h = build(x)
      dx, = tf.gradients(tf.exp(h), x)
      with self.assertRaisesRegex(gf.FeedError, "passes through it"):
        gf.run(session, dx, {x: 1., h: 0.})

  def test_s7_in_a_gradient_of_tensorflow(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x, h, y = self._graph()
      dx, = tf.gradients(y, x)
      dh, = tf.gradients(y, h)
      with self.assertRaisesRegex(gf.FeedError, "'h:0'.*passes through it"):
        gf.run(session, dx, {x: .5, h: .3})
      with self.assertRaisesRegex(gf.FeedError, "'h:0'.*passes through it"):
        gf.function(h, dx)
      # h is the x of the other gradient; or a point, where that is said.
      self.assertAlmostEqual(gf.run(session, dh, {h: .3}), .6)
      self.assertAlmostEqual(
          gf.run(session, dx, {h: .3}, points=[h]), .6 * (1. - .3 ** 2))

  @parameterized.parameters(1, 2)
  def test_feed_after_a_loop_that_an_optimizer_differentiated(self, version):
    """The gradient of a While adds lists to its inputs, named after it."""
    with tf.Graph().as_default(), tf.Session() as session, (
        flows.control_flow(version)):
      x = tf.placeholder(tf.float64, [], name="x")
      v = tf.get_variable("v", initializer=np.float64(2.), use_resource=True)
      _, state, total = tf.while_loop(
          lambda i, state, total: i < 3,
          lambda i, state, total: (i + 1, state * v, total + state * state),
          [0, x, np.float64(0.)])
      h = tf.identity(state, name="h")
      y = h * h * total
      step = tf.train.GradientDescentOptimizer(0.).minimize(y)
      session.run(v.initializer)
      session.run(step, {x: 1.})
      # The states are 1, 2 and 4, then 8.
      self.assertAlmostEqual(gf.run(session, y, {x: 1.}), 64. * 21.)
      self.assertAlmostEqual(gf.run(session, y, {x: 1., h: 3.}), 9. * 21.)
      self.assertAlmostEqual(
          float(gf.function(h, y, session, {x: 1.})(3.)), 9. * 21.)
      dx, = tf.gradients(y, x)
      with self.assertRaisesRegex(gf.FeedError, "'h:0'.*passes through it"):
        gf.run(session, dx, {x: 1., h: 3.})

  def test_s7_read_between_x_and_y(self):
    """The gradient reads x, h and y: fed and stale values would mix."""
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [], name="x")
      h = tf.multiply(x, x, name="h")
      y = tf.exp(h)
      dx = 2. * gf.gradient(y, x)
      with self.assertRaisesRegex(gf.FeedError, "'h:0'.*between"):
        gf.run(session, dx, {x: .5, h: .3})
      with self.assertRaisesRegex(gf.FeedError, "'h:0'.*between"):
        gf.run(session, [y, dx], {x: .5, h: .3})
      # By itself the value is no derivative, and h may be given.
      self.assertAlmostEqual(gf.run(session, y, {h: .3}), np.exp(.3))

  def test_s7_placeholder_with_default_between(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [], name="x")
      h = tf.placeholder_with_default(tf.tanh(x), [], name="h")
      dx = gf.gradient(h * h, x)
      with self.assertRaisesRegex(gf.FeedError, "'h:0'.*between"):
        gf.run(session, dx, {x: .5, h: .3})

  @parameterized.parameters(False, True)
  def test_s7_by_a_variable(self, use_resource):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.float64(.5),
                          use_resource=use_resource)
      h = tf.tanh(v, name="h")
      dv = gf.gradient(h * h, v)
      session.run(v.initializer)
      with self.assertRaisesRegex(gf.FeedError, "'h:0'.*between"):
        gf.run(session, dv, {h: .3})

  def test_s7_held_constant(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x, h, _ = self._graph()
      y = x * x * h
      dx = gf.gradient(y, x, stop_gradients=[h])
      f = gf.function([x, h], [y, dx], session=session)
      np.testing.assert_allclose(f(3., .25), [2.25, 1.5])
      np.testing.assert_allclose(
          gf.run(session, dx, {x: 3., h: .25}), 1.5)

  def test_s7_as_a_point(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x, h, y = self._graph()
      dx = gf.gradient(y, x)
      f = gf.function([x, h], [y, dx], points=[h], session=session)
      # dy/dh is taken at .3, dh/dx at x. Where dh/dx is made from the value
      # of h (1 - tanh^2), it is the one that is given.
      expected = {"given": .6 * (1. - .09)}
      y_t, dx_t = f(.5, .3)
      np.testing.assert_allclose(y_t, .09)
      np.testing.assert_allclose(dx_t, expected["given"])

  def test_s7_as_a_point_where_the_parts_are_apart(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [], name="x")
      h = x * x
      y = tf.exp(h)
      f = gf.function([x, h], [y, gf.gradient(y, x)], points=[h],
                      session=session)
      np.testing.assert_allclose(
          f(.5, .3), [np.exp(.3), np.exp(.3) * 2. * .5])

  def test_s7_by_the_tensor_itself(self):
    with tf.Graph().as_default(), tf.Session() as session:
      _, h, y = self._graph()
      f = gf.function(h, [y, gf.gradient(y, h)], session=session)
      np.testing.assert_allclose(f(.3), [.09, .6])

  def test_s7_beside_the_path(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [], name="x")
      w = tf.constant(2., tf.float64) * 3.
      y = x * x * w
      np.testing.assert_allclose(
          gf.run(session, gf.gradient(y, x), {x: 5., w: 7.}), 70.)


class S11Test(parameterized.TestCase):
  """A derivative is never taken while its variables change."""

  @parameterized.parameters(False, True)
  def test_s11_assignment_on_the_way(self, use_resource):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.float64(2.),
                          use_resource=use_resource)
      session.run(v.initializer)
      x = tf.placeholder(tf.float64, [])
      with tf.control_dependencies([tf.assign_add(v, 1.)]):
        y = x * x * 2.
      for outputs in (y, gf.gradient(y * v, v), [x * v, y]):
        with self.assertRaisesRegex(
            gf.AssignmentError, r"(?s)Assign.*Fix: .*gradfeed\.run"):
          gf.function(x, outputs, session=session)
      self.assertEqual(session.run(v), 2.)

  @parameterized.parameters(False, True)
  def test_s11_assignment_as_an_output(self, use_resource):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.float64(2.),
                          use_resource=use_resource)
      session.run(v.initializer)
      x = tf.placeholder(tf.float64, [])
      with self.assertRaises(gf.AssignmentError):
        gf.function(x, [x * 1., tf.assign(v, x)], session=session)
      self.assertEqual(session.run(v), 2.)

  @parameterized.parameters(False, True)
  def test_s11_moving_averages_on_the_way(self, use_resource):
    with tf.Graph().as_default(), tf.Session(), (
        tf.variable_scope("", use_resource=use_resource)):
      x = tf.placeholder(tf.float64, [])
      average = tf.get_variable("average", initializer=np.float64(0.))
      with tf.control_dependencies([
          tf.assign_sub(average, .1 * (average - x))]):
        y = tf.identity(x) ** 2
      with self.assertRaisesRegex(gf.AssignmentError, "is_training=False"):
        gf.function(x, gf.gradient(y, x))

  def test_s11_assignment_inside_a_branch(self):
    with tf.Graph().as_default():
      v = tf.get_variable("v", initializer=np.float64(2.), use_resource=True)
      x = tf.placeholder(tf.float64, [])
      with flows.control_flow(2):
        y = tf.cond(x > 0., lambda: tf.identity(v.assign_add(x)), lambda: x)
      with self.assertRaisesRegex(gf.AssignmentError, "Assign|If"):
        gf.function(x, y)

  @parameterized.parameters(False, True)
  def test_s11_training_beside_a_derivative(self, use_resource):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.float64(2.),
                          use_resource=use_resource)
      x = tf.placeholder(tf.float64, [])
      train = tf.train.GradientDescentOptimizer(.5).minimize(v * v)
      dx = gf.gradient(v * v * v * v * x, x)
      session.run(tf.global_variables_initializer())
      with self.assertRaisesRegex(
          gf.AssignmentError, r"(?s){}.*Fix: .*run of its own".format(
              dx.op.name)):
        gf.run(session, [dx, train], {x: 1.})
      self.assertEqual(session.run(v), 2.)
      self.assertEqual(gf.run(session, dx, {x: 1.}), 16.)

  @parameterized.product(use_resource=(False, True),
                         optimizer=("GradientDescentOptimizer",
                                    "AdamOptimizer", "MomentumOptimizer"))
  def test_s11_training_as_in_session_run(self, use_resource, optimizer):
    settings = {"momentum": .9} if optimizer == "MomentumOptimizer" else {}
    results = []
    for way in ("run", "session"):
      with tf.Graph().as_default(), tf.Session() as session:
        v = tf.get_variable("v", initializer=np.float64(2.),
                            use_resource=use_resource)
        x = tf.placeholder(tf.float64, [])
        loss = v * v * x
        train = getattr(tf.train, optimizer)(.125, **settings).minimize(loss)
        session.run(tf.global_variables_initializer())
        steps = []
        for _ in range(3):
          if way == "run":
            nothing = gf.run(session, [loss, train], {x: 1.})[1]
          else:
            nothing = session.run([loss, train], {x: 1.})[1]
          self.assertIsNone(nothing)
          steps.append(session.run(v))
        results.append(steps)
    np.testing.assert_array_equal(results[0], results[1])
    if optimizer == "GradientDescentOptimizer":
      # v - .125 * 2 v: once for each run.
      np.testing.assert_allclose(results[0], [1.5, 1.125, .84375])

  @parameterized.parameters(False, True)
  def test_s11_training_at_another_value_in_the_middle(self, use_resource):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.float64(2.),
                          use_resource=use_resource)
      w = tf.constant(1., tf.float64) * 3.
      loss = v * v * w
      train = tf.train.GradientDescentOptimizer(.125).minimize(loss)
      session.run(tf.global_variables_initializer())
      gf.run(session, [loss, train], {w: 2.})
      self.assertEqual(session.run(v), 2. - .125 * 2. * 2. * 2.)


class C1Test(parameterized.TestCase):
  """The graph does not grow, and a request is compiled once."""

  @parameterized.parameters(False, True)
  def test_c1_no_op_after_the_first_call(self, use_resource):
    with tf.Graph().as_default() as graph, tf.Session() as session:
      v = tf.get_variable("v", initializer=np.ones(5000),
                          use_resource=use_resource)
      session.run(v.initializer)
      x = tf.placeholder(tf.float64, [None])
      h = x * v
      y = tf.reduce_sum(tf.exp(h))
      f = gf.function([x, v], [y, gf.gradient(y, [x, v])], session=session)
      f(np.ones(5000), np.ones(5000))
      gf.run(session, gf.gradient(y, h), {h: np.ones(5000)})
      ops = len(graph.get_operations())
      for i in range(3):
        f(np.full(5000, i), np.ones(5000))
        gf.run(session, gf.gradient(y, h), {h: np.full(5000, i)})
        gf.function([x, v], [y, gf.gradient(y, [x, v])], session=session)(
            np.full(5000, i), np.ones(5000))
      self.assertLen(graph.get_operations(), ops)

  def test_c1_refused_call_adds_no_op(self):
    with tf.Graph().as_default() as graph, tf.Session() as session:
      x = tf.placeholder(tf.float64, [], name="x")
      h = x * x
      y = h * h
      ops = len(graph.get_operations())
      with self.assertRaises(gf.FeedError):
        gf.function([x, h], y, on_unused_input="raise")
      with self.assertRaises(gf.FeedError):
        gf.function(h, y, feed_dict={"nope:0": 1.})
      with self.assertRaises(gf.FeedError):
        gf.run(session, y, {h: "text"})
      self.assertLen(graph.get_operations(), ops)

  def test_c1_user_ops_stay_as_they_were(self):
    with tf.Graph().as_default() as graph, tf.Session() as session:
      x = tf.placeholder(tf.float64, [])
      v = tf.get_variable("v", initializer=np.float64(2.))
      h = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * x * v),
                        [0, tf.constant(1., tf.float64)])[1]
      y = tf.exp(h * v)
      dx = gf.gradient(y, x)
      session.run(v.initializer)
      session.run(dx, {x: .5})
      before = {op.name: op.node_def.SerializeToString()
                for op in graph.get_operations()}
      with tf.name_scope("mine"), tf.device("/cpu:0"):
        gf.function([x, v], [y, dx], session=session)(.5, 1.)
        gf.run(session, y, {h: 2.})
      for name, node in before.items():
        self.assertEqual(
            graph.get_operation_by_name(name).node_def.SerializeToString(),
            node)
      for op in graph.get_operations():
        if op.name not in before:
          self.assertStartsWith(op.name, "gradfeed/")
      self.assertIs(tf.get_default_graph(), graph)
      session.run(dx, {x: .5})

  def test_c1_default_graph_is_left_alone(self):
    graph, other = tf.Graph(), tf.Graph()
    with graph.as_default():
      x = tf.placeholder(tf.float64, [])
      h = x * x
      y = h * h
      dh = gf.gradient(y, h)
    with other.as_default(), tf.Session(graph=graph) as session:
      with other.as_default():
        f = gf.function(h, [y, dh], session=session)
        np.testing.assert_allclose(f(3.), [9., 6.])
        self.assertIs(tf.get_default_graph(), other)
        self.assertEmpty(other.get_operations())
