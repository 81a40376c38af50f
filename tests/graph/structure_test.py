"""Derivatives of tensors that are built anew for each call."""

from unittest import mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from gradfeed.graph import structure
from tests.testing import flows
from tests.testing import graphs

_POINT = np.array([[0.3, 0.8, 1.4], [0.5, 1.1, 0.2]])


@tf.RegisterGradient("TwiceForStructureTest")
def _twice(op, dy):
  return 2.0 * dy * op.outputs[0]


def _with(context, build):
  """`build` in a context manager that `context` makes."""
  def built(h):
    with context(h):
      return build(h)
  return built


def _overridden(unused_h):
  return tf.get_default_graph().gradient_override_map(
      {"Exp": "TwiceForStructureTest"})


def _shaped(h):
  y = tf.exp(h)
  y.set_shape([2, 3])
  return y


#: How y may be built anew from a layer h so that it is the same y.
_EQUAL = (
    ("channel", lambda h: tf.reduce_mean(h[..., 1])),
    ("arithmetic", lambda h: tf.reduce_sum((h * 3.0 - 1.0) ** 2 / 7.0)),
    ("deep", lambda h: tf.reduce_sum(tf.matmul(
        tf.tanh(h), tf.tanh(h * h), transpose_b=True), 1)),
    ("large_constant", lambda h: h[0] * np.arange(300.0).reshape(100, 3)),
    ("outputs", lambda h: tf.unstack(h, axis=1)[2] * tf.split(h, 3, 1)[0]),
    ("device", _with(lambda h: tf.device("/cpu:0"), tf.exp)),
    ("overridden", _with(_overridden, tf.exp)),
    ("static_shape", _shaped),
    ("name", lambda h: tf.exp(h, name="another_name")),
    ("the_layer", lambda h: h),
)

#: Pairs of ways to build y that are not the same y, though they are alike.
_UNEQUAL = (
    ("constant", lambda h: h[..., 1], lambda h: h[..., 2]),
    ("large_constant", lambda h: h[0] * np.arange(300.0).reshape(100, 3),
     lambda h: h[0] * np.arange(1.0, 301.0).reshape(100, 3)),
    ("attribute", lambda h: tf.matmul(h, h, transpose_a=True),
     lambda h: tf.matmul(h, h, transpose_b=True)),
    ("keep_dims", lambda h: tf.reduce_sum(h ** 2, 1, keepdims=True),
     lambda h: tf.reduce_sum(h ** 2, 1)),
    ("op", tf.sin, tf.cos),
    ("order_of_inputs", lambda h: tf.exp(h) / (h + 2.0),
     lambda h: (h + 2.0) / tf.exp(h)),
    ("other_input", lambda h: h * tf.exp(h), lambda h: h * h),
    ("output", lambda h: tf.unstack(h, axis=1)[0],
     lambda h: tf.unstack(h, axis=1)[1]),
    ("inner_output", lambda h: tf.exp(tf.split(h, 3, 1)[0]),
     lambda h: tf.exp(tf.split(h, 3, 1)[1])),
    ("dtype", lambda h: tf.cast(h, tf.float32) * 3.0,
     lambda h: tf.cast(h, tf.float64) * 3.0),
    ("device", _with(lambda h: tf.device("/cpu:0"), tf.exp), tf.exp),
    ("colocation", _with(
        lambda h: tf.get_default_graph().colocate_with(h.op), tf.exp), tf.exp),
    ("gradient", _with(_overridden, tf.exp), tf.exp),
    ("static_shape", _shaped, tf.exp),
    ("sharing", lambda h: _shared(h, True), lambda h: _shared(h, False)),
    ("axis", lambda h: tf.reduce_mean(h ** 2, 0),
     lambda h: tf.reduce_mean(h ** 2, 1)),
)


def _shared(h, is_shared):
  """exp(h) - 2 exp(h) of one exp, or of exp and of sin."""
  first = tf.exp(h)
  return first - 2.0 * (first if is_shared else tf.sin(h))


#: What is another y each time, even if it is written in the same way.
_UNIQUE = (
    ("random", lambda h: h * tf.random.uniform([2, 3], dtype=h.dtype)),
    ("random_with_seed", lambda h: h * tf.random.uniform(
        [2, 3], dtype=h.dtype, seed=3)),
    ("placeholder", lambda h: h * tf.placeholder(h.dtype, [])),
    ("default", lambda h: h * tf.placeholder_with_default(
        tf.constant(2.0, h.dtype), [])),
    ("waits", _with(lambda h: tf.control_dependencies([tf.no_op()]), tf.exp)),
    ("state", lambda h: h * tf.Variable(
        np.float64(2.0), trainable=False, use_resource=True)),
    ("reference", lambda h: h * tf.Variable(
        np.float64(2.0), use_resource=False)),
    ("python", lambda h: h * tf.numpy_function(
        lambda a: a, [tf.constant(2.0, h.dtype)], h.dtype)),
)


class StructureTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.x = tf.placeholder(tf.float64, [None, 3], name="x")
    self.h = tf.multiply(self.x, self.x, name="h")

  def _built(self, y):
    """(the gradient of y, the number of ops that it added)."""
    ops = self.count()
    return gf.gradient(y, self.x), self.count() - ops

  def _assert_right(self, y, dx):
    expected = tf.gradients(y, self.x)[0]
    for way in (self.session.run, lambda *a: gf.run(self.session, *a)):
      value, actual = way([y, dx], {self.x: _POINT})
      wanted, number = self.session.run([y, expected], {self.x: _POINT})
      np.testing.assert_allclose(actual, number, rtol=1e-12)
      np.testing.assert_array_equal(value, wanted)

  @parameterized.named_parameters(*_EQUAL)
  def test_equal_ones_have_one_derivative(self, build):
    first, _ = self._built(build(self.h))
    for _ in range(3):
      y = build(self.h)
      dx, added = self._built(y)
      self.assertIs(dx, first)
      self.assertEqual(added, 0)
    self._assert_right(y, dx)

  @parameterized.named_parameters(*_UNEQUAL)
  def test_unequal_ones_have_two(self, one, other):
    first, _ = self._built(one(self.h))
    self._built(one(self.h))
    y = other(self.h)
    dx, _ = self._built(y)
    self.assertIsNot(dx, first)
    self._assert_right(y, dx)
    again = one(self.h)
    self.assertIs(self._built(again)[0], first)
    self._assert_right(again, first)

  @parameterized.named_parameters(*_UNIQUE)
  def test_what_may_have_another_value_has_its_own(self, build):
    derivatives = [self._built(build(self.h))[0] for _ in range(3)]
    self.assertLen({dx.name for dx in derivatives}, 3)

  @parameterized.named_parameters(("v1", 1), ("v2", 2))
  def test_branches_have_their_own(self, flow):
    with flows.control_flow(flow):
      ys = [tf.cond(self.h[0, 0] > 0.0, lambda: self.h, lambda: 2.0 * self.h)
            for _ in range(3)]
    derivatives = [self._built(y)[0] for y in ys]
    self.assertLen({dx.name for dx in derivatives}, 3)
    self._assert_right(ys[2], derivatives[2])

  def test_a_variable_that_changes_in_between(self):
    v = tf.get_variable("v", initializer=np.float64(2.0), use_resource=True)
    self.session.run(v.initializer)
    ys, reads = [], []
    for value in (3.0, 5.0):
      with tf.control_dependencies(reads):
        assigned = v.assign(value, read_value=False)
      with tf.control_dependencies([assigned]):
        reads = [v.read_value()]
      ys.append(reads[0] * self.h)
    derivatives = [gf.gradient(y, self.x) for y in ys]
    self.assertIsNot(*derivatives)
    for dx, value in zip(derivatives, (3.0, 5.0)):
      np.testing.assert_array_equal(
          self.session.run(dx, {self.x: _POINT}), 2.0 * value * _POINT)

  def test_a_network_that_is_built_anew(self):
    def network():
      h = tf.tanh(tf.matmul(self.x, np.arange(6.0).reshape(3, 2) / 7.0))
      return tf.reduce_sum(tf.nn.softmax(h)[:, 1])

    first, _ = self._built(network())
    self.assertIs(self._built(network())[0], first)
    y = network()
    self._assert_right(y, self._built(y)[0])

  def test_x_among_what_is_built_anew(self):
    derivatives = []
    for _ in range(3):
      layer = tf.exp(self.h)
      y = tf.reduce_sum(layer ** 2)
      derivatives.append((y, layer, gf.gradient(y, layer)))
    self.assertLen({dx.name for _, _, dx in derivatives}, 3)
    with self.assertRaises(gf.DisconnectedError):
      gf.gradient(derivatives[0][0], derivatives[1][1])
    f = gf.function(derivatives[2][1], derivatives[2][2], self.session)
    np.testing.assert_array_equal(f(_POINT), 2.0 * _POINT)

  def test_constant_among_what_is_built_anew(self):
    for _ in range(3):
      layer = tf.exp(self.h)
      y = tf.reduce_sum(layer * self.h)
      dx = gf.gradient(y, self.x, stop_gradients=[layer])
      np.testing.assert_allclose(
          self.session.run(dx, {self.x: _POINT}),
          2.0 * _POINT * np.exp(_POINT ** 2), rtol=1e-12)

  def test_other_arguments_make_others(self):
    def y():
      return tf.exp(self.h)

    first, other = tf.placeholder(tf.float64, []), self.h
    derivatives = [gf.gradient(*arguments) for arguments in (
        (y(), self.x), (y(), other), (y(), self.x, np.ones([2, 3])),
        (y(), self.x, 2.0 * np.ones([2, 3])), ([y(), first], self.x),
        (y(), self.x, None, [self.h[0]]))]
    self.assertLen({dx.name for dx in derivatives}, len(derivatives))
    for arguments, expected in (((y(), other), 1), ((
        y(), self.x, 2.0 * np.ones([2, 3])), 3)):
      self.assertIs(gf.gradient(*arguments), derivatives[expected])

  def test_an_op_that_changed(self):
    first = tf.reduce_sum(self.h ** 2, 1)
    derivatives = [gf.gradient(first, self.x),
                   gf.gradient(tf.reduce_sum(self.h ** 2, 1), self.x)]
    self.assertIs(*derivatives)
    # pylint: disable=protected-access
    changed = tf.exp(self.h)
    before = gf.gradient(changed, self.x)
    self.assertIs(gf.gradient(tf.exp(self.h), self.x), before)
    changed.op._set_device("/cpu:0")
    self.assertIsNot(gf.gradient(tf.exp(self.h), self.x), before)

  def test_second_derivatives_and_values(self):
    vectors = []
    for _ in range(3):
      y = tf.reduce_sum(self.h[:, 1] ** 2)
      value, dx = gf.value_and_gradient(y, self.x)
      self.assertIs(value, y)
      vectors.append((dx, gf.hvp(y, self.x, np.ones([2, 3]))))
    self.assertEqual({pair[0].name for pair in vectors}, {vectors[0][0].name})
    self.assertEqual({pair[1].name for pair in vectors}, {vectors[0][1].name})
    expected = np.zeros([2, 3])
    expected[:, 1] = 12.0 * _POINT[:, 1] ** 2
    np.testing.assert_allclose(
        self.session.run(vectors[2][1], {self.x: _POINT}), expected,
        rtol=1e-12)

  def _with_anew(self):
    """(a constant, a layer and a gradient, built anew): 4 c^2 x^3."""
    c = tf.constant([2.0, 3.0, 4.0], tf.float64)
    layer = c * self.h
    return c, layer, gf.gradients(tf.reduce_sum(layer * layer), self.x)[0]

  def test_derivative_by_what_is_built_anew_is_not_lost(self):
    c, layer, dx = self._with_anew()
    found = self.session.run(
        gf.gradients(dx * c, c) + gf.gradients(
            dx, self.x, stop_gradients=[layer]) + gf.gradients(dx, layer),
        {self.x: _POINT})
    value = np.array([2.0, 3.0, 4.0])
    for got, right in zip(found, [
        12.0 * (value ** 2 * _POINT ** 3).sum(0),
        4.0 * value ** 2 * _POINT ** 2, 4.0 * value * _POINT]):
      np.testing.assert_allclose(got, right, rtol=1e-12)
    c, layer, same = self._with_anew()
    self.assertIs(same, dx)
    ops = self.count()
    for ignored, y, x, stops in [
        (c, dx * c, c, ()), (c, dx, c, ()), (layer, dx, layer, ()),
        (c, dx, [self.x, c], ()), (layer, dx, self.x, [layer])]:
      with self.assertRaisesRegex(
          gf.UnsupportedGraphError, "does not read '{}'".format(ignored.name)):
        gf.gradient(y, x, stop_gradients=stops)
    self.assertEqual(self.count(), ops + 1)  # dx * c.
    # What makes no difference is no reason.
    gf.gradient(dx, self.x, stop_gradients=[c])
    self.assertIsNotNone(gf.gradients(c * self.x, c)[0])

  def test_value_of_what_is_built_anew_is_not_ignored(self):
    derivatives = []
    for _ in range(2):
      factor = tf.constant(3.0, tf.float64)
      y = tf.reduce_sum(self.h * factor)
      derivatives.append((factor, y, gf.gradient(y, self.x)))
    factor, y, dx = derivatives[0]
    feed_dict = {self.x: _POINT, factor: 5.0}
    np.testing.assert_allclose(
        gf.run(self.session, [y, dx], feed_dict)[1], 10.0 * _POINT)
    factor, y, dx = derivatives[1]
    feed_dict = {self.x: _POINT, factor: 5.0}
    with self.assertRaisesRegex(
        gf.FeedError, "(?s)Const_.*the same way.*'Const:0'.*default"):
      gf.run(self.session, [y, dx], feed_dict)
    with self.assertRaisesRegex(gf.FeedError, "the same way"):
      gf.function([self.x, factor], [y, tf.norm(dx)], self.session)
    self.assertAlmostEqual(gf.run(self.session, y, feed_dict),
                           5.0 * np.sum(_POINT ** 2))

  def test_nothing_is_compiled_for_the_second_image(self):
    make_callable, compiled, functions = _tf.make_callable, [], []

    def counted(*arguments):
      compiled.append(arguments)
      return make_callable(*arguments)

    with mock.patch.object(_tf, "make_callable", counted):
      for image in range(4):
        y = tf.reduce_sum(self.h[:, image % 2])
        dx = gf.gradient(y, self.x)
        ops = self.count()
        value, slope = gf.run(self.session, [y, dx], {self.x: _POINT})
        f = gf.function(self.x, [y, dx], self.session)
        functions.append(f)  # What is compiled for it lives as long.
        if image > 1:
          self.assertEqual(self.count(), ops)
        expected = np.zeros([2, 3])
        expected[:, image % 2] = 2.0 * _POINT[:, image % 2]
        for pair in ((value, slope), f(_POINT)):
          np.testing.assert_allclose(
              pair[0], np.sum(_POINT[:, image % 2] ** 2))
          np.testing.assert_array_equal(pair[1], expected)
    # For each of the two images once; in TF 2 once more for the function, in
    # which an op stands behind each result.
    self.assertLen(compiled, 4 if _tf.IS_TF2 else 2)

  def test_ops_are_looked_at_once(self):
    looked_at = []
    own_key = structure._own_key  # pylint: disable=protected-access

    def counted(op):
      looked_at.append(op.name)
      return own_key(op)

    h = self.h
    for _ in range(200):
      h = tf.tanh(h)
    with mock.patch.object(structure, "_own_key", counted):
      for image in range(30):
        self._built(tf.reduce_mean(h[..., image % 3]))
    self.assertLess(len(looked_at), 30 * 6 * 3 + 1)
