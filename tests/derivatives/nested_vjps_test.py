"""Gradients in functions, loops and branches, by what these capture."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function

import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs

_W, _X = np.array([2.0, 3.0]), np.array([1.0, 0.5])


class CapturesTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.x = tf.constant(_X)

  def variable(self, use_resource=True):
    return graphs.variable("w", _W, use_resource)

  def value(self, make):
    """The values of what `make` returns as the body of a tf.function."""
    made = tf.function(make)()
    self.initialize()
    return self.session.run(made)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_by_variables_and_tensors(self, use_resource):
    w = self.variable(use_resource)
    dw, dx = self.value(lambda: gf.gradients(w ** 3 * self.x, [w, self.x]))
    np.testing.assert_allclose(dw, 3 * _W ** 2 * _X)
    np.testing.assert_allclose(dx, _W ** 3)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_through_ops_of_the_graph_around(self, use_resource):
    w = self.variable(use_resource)
    h = tf.sin(w) * self.x
    dw, dh = self.value(lambda: gf.gradients(h * h * w, [w, h]))
    sine = np.sin(_W) * _X
    np.testing.assert_allclose(dh, 2 * sine * _W)
    np.testing.assert_allclose(
        dw, sine ** 2 + 2 * sine * _W * np.cos(_W) * _X)

  def test_adds_no_op_to_the_graph_around(self):
    w = self.variable()
    h, added = w * w, []

    def body():
      before = self.count()
      dw = gf.gradient(h * w * self.x, w)
      added.append(self.count() - before)
      return dw

    np.testing.assert_allclose(self.value(body), 3 * _W ** 2 * _X)
    self.assertEqual(set(added), {0})

  def test_of_a_tensor_of_the_graph_around(self):
    y = self.x ** 3

    @function.Defun()
    def body():
      return gf.gradients(y, self.x)[0]

    np.testing.assert_allclose(self.session.run(body()), 3 * _X ** 2)

  def test_in_a_defun(self):
    w = self.variable()
    h = w * self.x

    @function.Defun(tf.float64)
    def body(a):
      return gf.gradients(h * w * a, [w, a])

    dw, da = body(tf.constant(5.0, tf.float64))
    self.initialize()
    dw, da = self.session.run([dw, da])
    np.testing.assert_allclose(dw, 2 * _W * _X * 5.0)
    np.testing.assert_allclose(da, (_W ** 2 * _X).sum())

  def test_in_functions_in_functions(self):
    w = self.variable()

    def outer():
      h = w * w

      @tf.function
      def inner():
        return gf.gradients(tf.reduce_sum(h * w * self.x), [w, h, self.x])
      return inner()

    dw, dh, dx = self.value(outer)
    np.testing.assert_allclose(dw, 3 * _W ** 2 * _X)
    np.testing.assert_allclose(dh, _W * _X)
    np.testing.assert_allclose(dx, _W ** 3)

  def test_a_sum_of_several_ways_and_of_an_outer_y(self):
    one = tf.constant(1.5, tf.float64)
    two = one * one

    def outer():
      copy = tf.identity(one)

      @tf.function
      def inner():
        return gf.gradients([copy + 0.0, two * 1.0, one], [one])[0]
      return inner()

    self.assertAlmostEqual(self.value(outer), 1.0 + 3.0 + 1.0)

  @parameterized.parameters(1, 2)
  def test_in_the_body_of_a_loop(self, version):
    w = self.variable()
    h = w * self.x
    with flows.control_flow(version):
      out = tf.while_loop(
          lambda i, v: i < 2, lambda i, v: (
              i + 1, v + gf.gradients(h * h * w, w)[0]),
          [0, tf.zeros_like(self.x)])[1]
    self.initialize()
    np.testing.assert_allclose(
        self.session.run(out), 2 * 3 * _W ** 2 * _X ** 2)

  @parameterized.parameters(1, 2)
  def test_in_map_fn_scan_and_branches(self, version):
    w = self.variable()
    rows = tf.constant([[1.0, 2.0], [3.0, 4.0]], tf.float64)
    true = tf.placeholder_with_default(True, [])
    with flows.control_flow(version):
      mapped = tf.map_fn(
          lambda row: gf.gradient(tf.reduce_sum(row * w ** 2), w), rows)
      scanned = tf.scan(
          lambda a, row: a + gf.gradient(tf.reduce_sum(row * w ** 2), row),
          rows, tf.zeros_like(w))
      chosen = tf.cond(true, lambda: gf.gradient(w ** 2, w),
                       lambda: gf.gradient(w ** 3, w))
    self.initialize()
    mapped, scanned, chosen = self.session.run([mapped, scanned, chosen])
    np.testing.assert_allclose(mapped, [[4.0, 12.0], [12.0, 24.0]])
    np.testing.assert_allclose(scanned, [_W ** 2, 2 * _W ** 2])
    np.testing.assert_allclose(chosen, 2 * _W)

  def test_e1_through_a_loop_around_that_has_run(self):
    with flows.control_flow(2):
      h = tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * self.x),
                        [0, tf.identity(self.x)])[1]
    self.session.run(h)
    dx = tf.function(lambda: gf.gradients(h * self.x, self.x)[0])()
    np.testing.assert_allclose(self.session.run(dx), 5 * _X ** 4)
    np.testing.assert_allclose(self.session.run(h), _X ** 4)

  def test_through_a_loop_in_the_function(self):
    w = self.variable()

    def body():
      h = tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * w),
                        [0, tf.identity(self.x)])[1]
      return gf.gradients(h, [w, self.x])

    dw, dx = self.value(body)
    np.testing.assert_allclose(dw, 3 * _W ** 2 * _X)
    np.testing.assert_allclose(dx, _W ** 3)

  def test_stops_in_the_graph_around(self):
    h = tf.exp(self.x)
    dx, dh = self.value(lambda: gf.gradients(
        h * self.x, [self.x, h], stop_gradients=[h]))
    np.testing.assert_allclose(dx, np.exp(_X))
    np.testing.assert_allclose(dh, _X)

  def test_a_mask_that_is_drawn_around_is_drawn_once(self):
    h = self.x[:1] * tf.floor(
        tf.random_uniform([200], dtype=tf.float64) + 0.5)
    slope, value = self.value(
        lambda: (gf.gradient(h * 3.0, h) * h, tf.identity(h)))
    np.testing.assert_allclose(slope, 3.0 * value)

  def test_weights_of_the_function_for_tensors_around(self):
    y = self.x ** 2
    np.testing.assert_allclose(
        self.value(lambda: gf.vjp(y, self.x, tf.constant([3.0, 4.0],
                                                         tf.float64))),
        2 * _X * [3.0, 4.0])

  def test_each_trace_has_its_own(self):
    w = self.variable()
    traced = tf.function(
        lambda a: gf.gradient(tf.reduce_sum(a * w[0] ** 2), w)[0])
    out = [traced(tf.constant(value, tf.float64))
           for value in (5.0, [1.0, 2.0], 7.0)]
    self.initialize()
    np.testing.assert_allclose(self.session.run(out), [20.0, 12.0, 28.0])

  def test_the_same_op_on_the_second_call(self):
    w = self.variable()
    h = w * w

    def body():
      first, second = gf.gradients(h * w, w)[0], gf.gradients(h * w, w)[0]
      y = h * w
      before = len(tf.get_default_graph().get_operations())
      third = gf.gradients(y, w)[0]
      middle = len(tf.get_default_graph().get_operations())
      self.assertIs(gf.gradients(y, w)[0], third)
      self.assertGreater(middle, before)
      self.assertLen(tf.get_default_graph().get_operations(), middle)
      return first, second, third

    for dw in self.value(body):
      np.testing.assert_allclose(dw, 3 * _W ** 2)

  def test_second_order(self):
    w = self.variable()

    def body():
      dx = gf.gradient(w ** 3 * self.x, self.x)
      return gf.gradient(tf.reduce_sum(dx ** 2), w)

    np.testing.assert_allclose(self.value(body), 6 * _W ** 5)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_other_derivatives_by_what_has_one_placeholder(self, use_resource):
    w = self.variable(use_resource)
    v = np.array([3.0, 5.0])
    cube = 6 * _W * _X
    jacobian, jvp, hessian, hvp = self.value(lambda: (
        gf.jacobian(w ** 3 * self.x, w), gf.jvp(w ** 3 * self.x, w, v),
        gf.hessian(tf.reduce_sum(w ** 3 * self.x), w),
        gf.hvp(tf.reduce_sum(w ** 3 * self.x), w, v)))
    np.testing.assert_allclose(jacobian, np.diag(3 * _W ** 2 * _X))
    np.testing.assert_allclose(jvp, 3 * _W ** 2 * _X * v)
    np.testing.assert_allclose(hessian, np.diag(cube))
    np.testing.assert_allclose(hvp, cube * v)

  def test_other_derivatives_by_what_is_read_in_two_ways(self):
    h = self.x * 2.0
    with self.assertRaisesRegex(
        gf.GraphMismatchError, "(?s)x 'Const:0'.*`gradient`.*tf.identity"):
      tf.function(lambda: gf.jacobian(h * self.x, self.x))()

  def test_names(self):
    x = tf.constant(_X, name="outer")

    def body():
      tf.reduce_sum(x ** 2, name="inner")
      return gf.gradients("inner", ["outer"])[0]

    np.testing.assert_allclose(self.value(body), 2 * _X)

  def test_what_is_not_connected(self):
    other = graphs.variable("other", [1.0, 2.0, 3.0], True)

    def body():
      y = self.x ** 2
      self.assertEqual(gf.gradients(y, other), [None])
      return gf.gradients(y, [self.x, other], unconnected_gradients="zero")

    dx, zeros = self.value(body)
    np.testing.assert_allclose(dx, 2 * _X)
    np.testing.assert_array_equal(zeros, np.zeros(3))

  def test_zeros_for_tensors_of_one_name(self):
    def body():
      inner = tf.zeros([3], tf.float64, name="Const")
      self.assertEqual(inner.name, self.x.name)
      y = tf.constant(1.0, tf.float64, name="y")
      return [gf.gradients(y, x, unconnected_gradients="zero")[0]
              for x in (inner, self.x)]

    inner, outer = self.value(body)
    self.assertEqual([inner.shape, outer.shape], [(3,), (2,)])

  def test_a_refusal_is_an_error_of_gradfeed(self):
    other = self.variable()

    def body():
      return gf.gradient(self.x ** 2, other)

    with self.assertRaisesRegex(gf.DisconnectedError, "by 'w:0'"):
      tf.function(body)()
    with self.assertRaisesRegex(gf.DisconnectedError, "(?s)Floor"):
      tf.function(lambda: gf.gradient(tf.floor(self.x), self.x))()
    with self.assertRaisesRegex(gf.ArgumentError, "aggregation_method"):
      tf.function(lambda: gf.gradients(
          self.x ** 2, self.x, aggregation_method=77))()

  def test_of_a_graph_that_is_not_around(self):
    with tf.Graph().as_default():
      foreign = tf.constant(1.0)
    with self.assertRaises(gf.GraphMismatchError):
      tf.function(lambda: gf.gradients(self.x * 2.0, foreign))()

  def test_inside_of_a_custom_gradient(self):
    w = self.variable()

    @tf.custom_gradient
    def cube(a):
      y = a ** 3
      return y, lambda dy: gf.gradients(y, a, grad_ys=dy)[0]

    def body():
      return gf.gradients(cube(w * self.x), w)[0]

    expected = 3 * (_W * _X) ** 2 * _X
    np.testing.assert_allclose(self.value(body), expected)
    outside = gf.gradients(cube(w * self.x), w)[0]
    np.testing.assert_allclose(self.session.run(outside), expected)


class EagerCapturesTest(parameterized.TestCase):

  def test_by_eager_variables(self):
    if not tf.executing_eagerly():
      self.skipTest("There are no eager variables in this mode.")
    w = tf.Variable(_W)

    @tf.function
    def body(a):
      y = w ** 3 * a
      return gf.gradients(y, [w, a]) + [gf.hessian(tf.reduce_sum(y), w)]

    dw, da, hessian = body(tf.constant(_X))
    np.testing.assert_allclose(dw, 3 * _W ** 2 * _X)
    np.testing.assert_allclose(da, _W ** 3)
    np.testing.assert_allclose(hessian, np.diag(6 * _W * _X))
