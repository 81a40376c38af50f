"""`jit_compile`: programs of XLA in the place of calls."""

import itertools
import threading
import time
import unittest
from unittest import mock
import warnings

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed import _tf
from gradfeed.evaluation.calls import callables
from gradfeed.evaluation.calls import jit
from gradfeed.evaluation.calls import substitutes
from gradfeed.graph import op_types
import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs
from tests.testing import numeric
from tests.testing import programs


def _step(h, x):
  return tf.tanh(1.1 * h + x)


def _loop(x):
  return tf.while_loop(lambda i, h: i < 5, lambda i, h: (i + 1, _step(h, x)),
                       [0, x])[1]


def _loop_after_loop(x):
  return _loop(_loop(x))


def _loop_with_branch(x):
  return tf.while_loop(
      lambda i, h: i < 4, lambda i, h: (i + 1, tf.cond(
          tf.equal(i % 2, 0), lambda: tf.sin(h), lambda: h * x)), [0, x])[1]


def _loop_with_branch_that_keeps_something(x):
  return tf.while_loop(
      lambda i, h: i < 3, lambda i, h: (i + 1, tf.cond(
          tf.reduce_sum(h) > 0, lambda: tf.tanh(tf.exp(h) * x),
          lambda: tf.sin(h * h) * x)), [0, x])[1]


def _nested_loops(x):
  def turn(i, h):
    _, inner = tf.while_loop(
        lambda j, h: j < 3, lambda j, h: (j + 1, 1.5 * tf.sin(h)), [0, h])
    return i + 1, inner + x
  return tf.while_loop(lambda i, h: i < 4, turn, [0, x])[1]


def _as_long_as_the_batch(x):
  return tf.while_loop(
      lambda i, h: i < tf.shape(x)[0],
      lambda i, h: (i + 1, _step(h, x)), [0, x])[1]


def _at_most(x):
  """A loop of which values decide how often it turns, up to a limit."""
  return tf.while_loop(
      lambda i, h: tf.logical_and(i < 6, tf.reduce_sum(h) < 50.),
      lambda i, h: (i + 1, h + tf.square(x)), [0, x])[1]


def _scan(x):
  return tf.scan(lambda h, row: _step(h, row), x, initializer=x[0])[-1]


def _map(x):
  return tf.map_fn(lambda row: tf.exp(row) * tf.reduce_sum(row), x)


def _branch(x):
  return tf.cond(tf.reduce_sum(x) > 0, lambda: x ** 3, lambda: tf.exp(x))


def _branch_that_is_fed(x):
  is_training = tf.placeholder_with_default(True, [])
  for _ in range(2):
    x = tf.cond(is_training, lambda: tf.sin(x) * x,  # pylint: disable=cell-var-from-loop
                lambda: tf.exp(-tf.square(x)))  # pylint: disable=cell-var-from-loop
  return x


_NETWORKS = [
    ("branch_that_is_fed", _branch_that_is_fed),
    ("loop", _loop), ("loop_with_branch", _loop_with_branch),
    ("loop_with_branch_that_keeps_something",
     _loop_with_branch_that_keeps_something),
    ("nested_loops", _nested_loops), ("scan", _scan), ("map", _map),
    ("branch", _branch), ("as_long_as_the_batch", _as_long_as_the_batch),
    ("at_most", _at_most)]


@unittest.skipIf(not _tf.IS_TF2, "TensorFlow 1.15 compiles nothing.")
class ProgramsTest(graphs.GraphTest):
  """What a program gives is what TensorFlow gives, and what is true."""

  def _compiled(self, inputs, outputs, *values, **kwargs):
    """A function that has a program for the shapes of `values`."""
    f = gf.function(inputs, outputs, jit_compile=True, **kwargs)
    f(*values)
    self.assertLen(f.compiled, 1)
    return f

  @parameterized.named_parameters(*_NETWORKS)
  def test_gradients_are_central_differences(self, network):
    with flows.control_flow(None):
      x = tf.placeholder(tf.float64, [None, 2])
      y = tf.reduce_sum(network(x) ** 2)
    f = self._compiled(x, [y, gf.gradient(y, x)], np.full([3, 2], 0.2))
    plain = gf.function(x, y)
    for seed in range(2):
      value = np.random.RandomState(seed).uniform(-0.6, 0.8, [3, 2])
      got, gradient = f(value)
      np.testing.assert_allclose(got, plain(value), rtol=1e-12)
      np.testing.assert_allclose(gradient, numeric.central_differences(plain, value),
                                 rtol=1e-6, atol=1e-8)
    self.assertIn("compiled (asked for", f.jit)

  @parameterized.named_parameters(
      ("loop_after_loop", _loop_after_loop), ("scan", _scan),
      ("loop_with_branch", _loop_with_branch))
  def test_second_derivatives(self, network):
    x = tf.placeholder(tf.float64, [None, 2])
    gradient = gf.gradient(tf.reduce_sum(network(x) ** 2), x)
    squares = tf.reduce_sum(gradient ** 2)
    f = self._compiled(x, gf.gradient(squares, x), np.full([3, 2], 0.2))
    value = np.random.RandomState(0).uniform(-0.6, 0.8, [3, 2])
    np.testing.assert_allclose(
        f(value), numeric.central_differences(gf.function(x, squares), value),
        rtol=1e-5, atol=1e-8)

  def test_variables_are_read_at_each_call(self):
    for use_resource in (False, True):
      w = graphs.variable("w{}".format(use_resource), [2., 3.], use_resource)
      self.session.run(w.initializer)
      x = tf.placeholder(tf.float64, [2])
      f = self._compiled(x, gf.gradient(tf.reduce_sum(w * x ** 2), x), [1., 1.])
      w.load([5., 7.], self.session)
      np.testing.assert_array_equal(f([1., 2.]), [10., 28.])

  def test_a_layer_in_the_middle_and_held_values(self):
    x = tf.placeholder(tf.float64, [2])
    scale = tf.placeholder(tf.float64, [])
    h = tf.exp(x)
    y = tf.reduce_sum(scale * h ** 2)
    f = self._compiled(h, gf.gradient(y, h), [1., 1.], feed_dict={scale: 3.})
    np.testing.assert_array_equal(f([5., 2.]), [30., 12.])

  def test_results_belong_to_the_caller(self):
    x = tf.placeholder(tf.float64, [2])
    w = graphs.variable("w", [2., 3.], True)
    self.session.run(w.initializer)
    f = self._compiled(x, [gf.gradient(tf.reduce_sum(w * x), x), x + 0.],
                       [1., 1.])
    for _ in range(4):
      value = np.array([1., 2.])
      for result in f(value):
        result[...] = -1.
      np.testing.assert_array_equal(value, [1., 2.])
    np.testing.assert_array_equal(self.session.run(w), [2., 3.])

  def test_one_program_for_each_set_of_shapes_up_to_a_limit(self):
    x = tf.placeholder(tf.float64, [None])
    f = gf.function(x, gf.gradient(tf.reduce_sum(x ** 3), x), jit_compile=True)
    with mock.patch.object(jit, "MOST_PROGRAMS", 2):
      for size in (1, 2, 2, 3, 1):
        np.testing.assert_array_equal(
            f(np.full([size], 2.)), np.full([size], 12.))
      self.assertEqual(f.compiled, [((1,),), ((2,),)])
      for size in range(3, 300):
        f(np.full([size], 2.))
    self.assertLen([op for op in self.graph.get_operations()
                    if op.type in op_types.CALLS], 2)
    self.assertIn("(3,): op by op (2 sets of shapes have programs)", f.jit)
    self.assertLessEqual(len(f.jit.split("\n")), 256)

  def test_gradient_of_loops_in_loops_in_loops(self):
    def repeated(turns, compute):
      return lambda h: tf.while_loop(
          lambda i, h: i < turns, lambda i, h: (i + 1, compute(h)), [0, h])[1]

    x = tf.placeholder(tf.float64, [None, 2])
    with flows.control_flow(None):
      y = tf.reduce_sum(repeated(2, repeated(2, repeated(
          2, lambda h: tf.sin(1.5 * h * x))))(x) ** 2)
    f = self._compiled(x, gf.gradient(y, x), np.full([1, 2], 0.2))
    value = np.array([[0.7, -0.4]])
    self.assertTrue(programs.takes(f, self.session, value))
    np.testing.assert_allclose(f(value), numeric.central_differences(
        gf.function(x, y), value), rtol=1e-6, atol=1e-8)

  @parameterized.named_parameters(*_NETWORKS)
  def test_programs_of_several_shapes_are_apart(self, network):
    with flows.control_flow(None):
      x = tf.placeholder(tf.float64, [None, 2])
      y = tf.reduce_sum(
          network(x * tf.cast(tf.shape(x)[0], tf.float64)) ** 2)
    outputs = [y, gf.gradient(y, x)]
    f = gf.function(x, outputs, jit_compile=True)
    plain = gf.function(x, outputs)
    for size in (3, 1, 4, 3, 1):
      f(np.full([size, 2], 0.1))
    self.assertLen(f.compiled, 3)
    for size in (1, 4, 3):
      value = np.linspace(-0.2, 0.3, 2 * size).reshape([size, 2])
      for got, expected in zip(f(value), plain(value)):
        np.testing.assert_allclose(got, expected, rtol=1e-10)

  @parameterized.parameters(np.nan, np.inf, 1e20)
  def test_a_first_call_at_special_values(self, special):
    x = tf.placeholder(tf.float64, [2])
    y = [tf.cast(x, tf.int32), tf.math.erf(x)]
    f = gf.function(x, y, jit_compile=True)
    for value in ([1., special], [1., special], [1., 2.], [1., special]):
      for got, expected in zip(f(value), gf.function(x, y)(value)):
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    self.assertIn("compiled (asked for", f.jit)
    self.assertLen([op for op in self.graph.get_operations()
                    if op.type in op_types.CALLS], 1)

  def test_a_call_of_known_shapes_goes_the_short_way(self):
    x = tf.placeholder(tf.float64, [None])
    f = gf.function(x, gf.gradient(tf.reduce_sum(x ** 3), x), jit_compile=True)
    for size in (1, 2, 1, 1, 1, 1):
      f(np.full([size], 2.))
    with mock.patch.object(substitutes.Substitutes, "call") as long_way:
      np.testing.assert_array_equal(f(np.array([3.])), [27.])
      long_way.assert_not_called()
    self.assertTrue(np.isnan(f(np.array([np.nan]))[0]))
    np.testing.assert_array_equal(f(np.array([1., 3.])), [3., 27.])

  def test_a_function_between_others_compiles_too(self):
    x = tf.placeholder(tf.float64, [None, 2])
    f = gf.function(x, gf.gradient(tf.reduce_sum(x ** 3), x), jit_compile=True)
    other = f.between([x], f.outputs)
    other(np.ones([1, 2]))
    self.assertLen(other.compiled, 1)

  @parameterized.named_parameters(
      ("tile", lambda x, n: tf.tile(x, [n, 1])),
      ("fill", lambda x, n: tf.fill([n, 2], 2.) * tf.reduce_sum(x)),
      ("axis", lambda x, n: tf.cumsum(x, n - 1)),
      ("reshape", lambda x, n: tf.reshape(x, [n, -1]) ** 2),
      ("in_a_branch", lambda x, n: tf.cond(
          tf.reduce_sum(x) > 0, lambda: tf.tile(x, [n, 1]),
          lambda: -tf.tile(x, [n, 1]))))
  def test_a_size_that_is_fed_is_a_part_of_the_program(self, network):
    x = tf.placeholder(tf.float32, [None, 2])
    n = tf.placeholder(tf.int32, [])
    h = network(x, n)
    outputs = [tf.reduce_sum(h * h), gf.gradient(tf.reduce_sum(h * h), x)]
    f = gf.function([x, n], outputs, jit_compile=True)
    plain = gf.function([x, n], outputs)
    value = np.array([[1., 2.], [3., 4.]], np.float32)
    for size in (2, 1, 2, 1):
      for result, own in zip(f(value, size), plain(value, size)):
        np.testing.assert_allclose(result, own, rtol=1e-6)
    program = substitutes.Substitutes._compiled
    runs = []

    def counted(*arguments):
      call = program(*arguments)
      return lambda arrays: runs.append(call(arrays)[-1]) or call(arrays)

    with mock.patch.object(substitutes.Substitutes, "_compiled", counted):
      f._fast_path = lambda: None, lambda: None
      f(value, 1)
    self.assertEqual(runs, [False])

  def test_a_function_made_anew_has_the_program_of_the_first(self):
    x = tf.placeholder(tf.float64, [None])
    gradient = gf.gradient(tf.reduce_sum(x ** 3), x)
    for _ in range(3):
      f = gf.function(x, gradient, jit_compile=True)
      np.testing.assert_array_equal(f([1., 2.]), [3., 12.])
      self.assertLen(f.compiled, 1)
    self.assertLen([op for op in self.graph.get_operations()
                    if op.type in op_types.CALLS], 1)
    with tf.train.MonitoredSession() as session:
      f = gf.function(x, gradient, session, jit_compile=True)
      for _ in range(3):
        np.testing.assert_array_equal(f([1., 3.]), [3., 27.])
      self.assertLen(f.compiled, 1)
      with self.assertRaisesRegex(gf.UnsupportedGraphError, "MonitoredSession"):
        f([1., 2., 3.])

  @parameterized.named_parameters(
      ("jacobian", lambda y, x: gf.jacobian(y, x)),
      ("forward", lambda y, x: gf.jacobian(y, x, mode="forward")),
      ("batch_jacobian", gf.batch_jacobian),
      ("hessian", lambda y, x: gf.hessian(tf.reduce_sum(y ** 2), x)))
  def test_many_products_with_a_loop(self, derivative):
    x = tf.placeholder(tf.float64, [2, 3])
    with flows.control_flow(None):
      y = tf.while_loop(lambda i, h: i < 2, lambda i, h: (i + 1, _step(h, x)),
                        [0, x])[1]
    wanted = derivative(y, x)
    f = self._compiled(x, wanted, np.full([2, 3], 0.2))
    value = np.random.RandomState(0).uniform(-0.6, 0.8, [2, 3])
    np.testing.assert_allclose(f(value), gf.function(x, wanted)(value),
                               rtol=1e-10, atol=1e-12)
    self.assertTrue(programs.takes(f, self.session, value))

  def test_a_jacobian_of_a_stated_pattern(self):
    x = tf.placeholder(tf.float64, [6])
    y = x[1:] * x[:-1]
    pattern = np.eye(5, 6) + np.eye(5, 6, 1)
    f = self._compiled(x, gf.jacobian(y, x, sparsity=pattern), np.ones(6))
    value = np.arange(1., 7.)
    self.assertTrue(programs.takes(f, self.session, value))
    np.testing.assert_array_equal(
        f(value), np.eye(5, 6) * value[1:, None] +
        np.eye(5, 6, 1) * value[:-1, None])

  def test_gradient_by_elements_that_are_picked(self):
    x = tf.placeholder(tf.float64, [3, 2])
    i = tf.placeholder(tf.int32, [2, 2])
    y = tf.reduce_sum(tf.gather_nd(x, i) ** 2)
    f = self._compiled([x, i], gf.gradient(y, x), np.ones([3, 2]),
                       [[0, 0], [2, 1]])
    value = np.arange(6.).reshape([3, 2])
    np.testing.assert_array_equal(f(value, [[1, 0], [1, 0]]),
                                  [[0., 0.], [8., 0.], [0., 0.]])
    self.assertTrue(programs.takes(f, self.session, value, [[1, 0], [1, 0]]))
    self.assertFalse(programs.takes(f, self.session, value, [[1, 0], [3, 0]]))

  def test_without_it_there_is_no_program(self):
    x = tf.placeholder(tf.float64, [])
    f = gf.function(x, gf.gradient(x ** 3, x))
    f(2.)
    self.assertEqual(f.compiled, [])
    self.assertIn("not asked for", f.jit)


@unittest.skipIf(not _tf.IS_TF2, "TensorFlow 1.15 compiles nothing.")
class CheckedValuesTest(graphs.GraphTest):
  """XLA takes values that TensorFlow refuses; gradfeed does not."""

  def _assert_refuses(self, f, good, bad):
    for _ in range(3):
      f(*good)
    self.assertLen(f.compiled, 1)
    with self.assertRaises((gf.GradfeedError, tf.errors.OpError)):
      f(*bad)
    f(*good)

  def test_index_that_is_out_of_range(self):
    rows = tf.constant(np.arange(6.).reshape(3, 2))
    i = tf.placeholder(tf.int32, [2])
    h = tf.gather(rows, i)
    f = gf.function(i, [h * 2., gf.gradient(tf.reduce_sum(h ** 2), h)],
                    jit_compile=True)
    self._assert_refuses(f, [np.array([0, 2], np.int32)],
                         [np.array([0, 3], np.int32)])

  def test_label_that_is_out_of_range(self):
    x = tf.placeholder(tf.float64, [None, 4])
    labels = tf.placeholder(tf.int32, [None])
    y = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=x))
    f = gf.function([x, labels], gf.gradient(y, x), jit_compile=True)
    self._assert_refuses(f, [np.ones([1, 4]), np.array([3], np.int32)],
                         [np.ones([1, 4]), np.array([4], np.int32)])

  def test_division_of_an_integer_by_zero(self):
    n = tf.placeholder(tf.int32, [])
    f = gf.function(n, 7 // n, jit_compile=True)
    self._assert_refuses(f, [np.int32(2)], [np.int32(0)])
    self.assertEqual(f(np.int32(3)), 2)

  @parameterized.parameters(np.uint8, np.int8, np.int32, np.int64)
  def test_number_that_no_integer_is_near(self, dtype):
    x = tf.placeholder(tf.float32, [2])
    h = x * tf.cast(tf.cast(x, dtype), tf.float32)
    f = gf.function(x, h, jit_compile=True)
    f([1., 2.])
    self.assertLen(f.compiled, 1)
    for special in (-1., 127.5, 300., 3e9, -3e9, 1e20, np.nan, np.inf):
      np.testing.assert_array_equal(
          f([2.5, special]), gf.function(x, h)([2.5, special]))
    # What fits needs no second run.
    with mock.patch.object(callables.Compiled, "__call__") as again:
      np.testing.assert_array_equal(f([2.5, 3.]), [5., 9.])
      again.assert_not_called()

  def test_gradient_of_a_pool_that_passes_nan_over(self):
    x = tf.placeholder(tf.float32, [1, 4, 1, 1])
    size = [1, 2, 1, 1]
    y = tf.nn.max_pool(x, size, size, "VALID")
    gradient = gf.gradient(
        tf.reduce_sum(tf.where(tf.equal(y, y), 2. * y, 0. * y)), x)
    f = gf.function(x, gradient, jit_compile=True)
    f(np.ones([1, 4, 1, 1]))
    self.assertLen(f.compiled, 1)
    for place in range(2):
      value = np.arange(4.).reshape([1, 4, 1, 1])
      value[0, place] = np.nan
      np.testing.assert_array_equal(
          f(value), gf.function(x, gradient)(value))

  def test_indices_of_several_numbers(self):
    rows = tf.constant(np.arange(6.).reshape(3, 2))
    i = tf.placeholder(tf.int32, [1, 2])
    f = gf.function(i, tf.gather_nd(rows, i), jit_compile=True)
    self._assert_refuses(f, [np.array([[2, 1]], np.int32)],
                         [np.array([[2, 2]], np.int32)])
    self.assertEqual(f(np.array([[1, 0]], np.int32)), 2.)

  def test_integer_power_that_is_negative(self):
    n = tf.placeholder(tf.int32, [])
    f = gf.function(n, tf.pow(3, n), jit_compile=True)
    self._assert_refuses(f, [np.int32(2)], [np.int32(-1)])
    self.assertEqual(f(np.int32(3)), 27)

  @parameterized.parameters(*itertools.product(
      ("gather", "divide", "label"), (False, True), (False, True)))
  def test_a_branch_that_was_not_taken(self, what, is_outside, is_wrong):
    x = tf.placeholder(tf.float64, [3])
    number = {"gather": 2, "divide": 1, "label": 2}[what]
    number = {"gather": 7, "divide": 0, "label": 9}[what] if is_wrong else number

    def constant():
      return tf.placeholder_with_default(np.int32(number), [])

    outer = constant()

    def chosen():
      n = outer if is_outside else constant()
      return {
          "gather": lambda: x * tf.gather(tf.constant([1., 2., 3.], x.dtype), n),
          "divide": lambda: x * tf.cast(4 // n, x.dtype),
          "label": lambda: x * tf.nn.sparse_softmax_cross_entropy_with_logits(
              labels=n, logits=x)}[what]()

    with flows.control_flow(None):
      y = tf.cond(x[0] > 0, chosen, lambda: x * 2.)
    f = gf.function(x, y, jit_compile=True)
    if is_wrong:
      with self.assertRaises(gf.GradfeedError):
        f(-np.ones(3))
        f(np.ones(3))
      return
    f(-np.ones(3))
    self.assertLen(f.compiled, 1)
    np.testing.assert_allclose(
        f(np.ones(3)), gf.function(x, y)(np.ones(3)), rtol=1e-12)

  @parameterized.named_parameters(
      ("is_nan", lambda x: tf.where(tf.math.is_nan(x), 3. * x / x, 2. * x)),
      ("no_nan", lambda x: tf.where(tf.math.is_nan(x), tf.zeros_like(x), x)),
      ("is_inf", lambda x: tf.where(tf.math.is_inf(x), tf.ones_like(x), x)),
      ("is_finite", lambda x: tf.where(
          tf.math.is_finite(x), x, tf.zeros_like(x))),
      ("ensure_shape", lambda x: 2. * tf.ensure_shape(x, [3])),
      ("roll", lambda x: x * tf.roll(x, 1, 0)), ("lgamma", tf.math.lgamma),
      ("product", lambda x: tf.reduce_prod(x) * x))
  def test_ops_of_legacy_networks(self, compute):
    x = tf.placeholder(tf.float64, [3])
    y = compute(x)
    outputs = [y, gf.gradient(tf.reduce_sum(y), x)]
    f = gf.function(x, outputs, jit_compile=True)
    f([1., 2., 3.])
    self.assertLen(f.compiled, 1)
    for value in ([0.5, 2.5, 4.], [1., np.nan, 3.], [np.inf, 1., 2.]):
      for got, expected in zip(f(value), gf.function(x, outputs)(value)):
        np.testing.assert_allclose(got, expected, rtol=1e-12)

  def test_assertion_and_check_numerics(self):
    x = tf.placeholder(tf.float64, [])
    with tf.control_dependencies([tf.debugging.assert_greater(x, x * 0.)]):
      y = tf.identity(x) ** 2
    self._assert_refuses(gf.function(x, y, jit_compile=True), [1.], [-1.])
    z = tf.check_numerics(tf.log(x), "log")
    self._assert_refuses(gf.function(x, z * 2., jit_compile=True), [1.], [0.])

  @parameterized.parameters(np.nan, np.inf, -np.inf)
  def test_what_is_not_finite_is_as_tensorflow_has_it(self, special):
    x = tf.placeholder(tf.float64, [3])
    limit = tf.constant(0.1, tf.float64)
    _, h = tf.while_loop(
        lambda i, h: i < 2, lambda i, h: (i + 1, tf.minimum(
            tf.maximum(h, limit) * 2., x + 9.)), [0, x])
    outputs = [h, tf.reduce_max(x), tf.argmax(x), tf.reduce_min(h),
               tf.raw_ops.ClipByValue(t=x, clip_value_min=limit,
                                      clip_value_max=limit + 1.)]
    for output in outputs:
      f = gf.function(x, output, jit_compile=True)
      f([1., 2., 3.])
      self.assertLen(f.compiled, 1)
      for place in range(3):
        value = np.array([0.5, -1., 2.])
        value[place] = special
        np.testing.assert_array_equal(f(value), gf.function(x, output)(value))

  def test_gradient_of_selu_at_its_kink_is_as_tensorflow_has_it(self):
    x = tf.placeholder(tf.float64, [2])
    gradient = gf.gradient(tf.reduce_sum(tf.nn.selu(x)), x)
    f = gf.function(x, gradient, jit_compile=True)
    f([1., 2.])
    self.assertLen(f.compiled, 1)
    for value in ([0., 1.], [-1., 2.]):
      np.testing.assert_allclose(
          f(value), gf.function(x, gradient)(value), rtol=1e-14)


@unittest.skipIf(not _tf.IS_TF2, "TensorFlow 1.15 compiles nothing.")
class RefusalsTest(graphs.GraphTest):

  def _assert_refused(self, f, message, *values):
    before = len(self.graph.get_operations())
    with self.assertRaisesRegex(gf.UnsupportedGraphError, message):
      f(*values)
    self.assertLen(self.graph.get_operations(), before)
    self.assertEqual(f.compiled, [])

  def _function(self, inputs, outputs):
    f = gf.function(inputs, outputs, jit_compile=True)
    return f

  def test_random_numbers(self):
    x = tf.placeholder(tf.float64, [])
    self._assert_refused(
        self._function(x, x * tf.random.uniform([], dtype=tf.float64)),
        "(?s)RandomUniform.*other random numbers", 1.)

  def test_python(self):
    x = tf.placeholder(tf.float64, [])
    self._assert_refused(self._function(
        x, tf.py_func(lambda value: value, [x], tf.float64)), "PyFunc", 1.)

  def test_unknown_number_of_turns(self):
    x = tf.placeholder(tf.float64, [])
    h = tf.while_loop(lambda h: h < 9., lambda h: (h * 2.,), (x,))
    h = h[0] if isinstance(h, (tuple, list)) else h
    gradient = gf.gradient(h, x)
    f = self._function(x, gradient)
    with self.assertRaisesRegex(gf.UnsupportedGraphError,
                                "maximum_iterations"):
      f(1.)

  def test_a_fork_of_a_process_in_which_xla_has_compiled(self):
    x = tf.placeholder(tf.float64, [])
    f = self._function(x, x * 2.)
    f(1.)
    with mock.patch.object(jit.os, "getpid", return_value=-1):
      self._assert_refused(self._function(x, x * 3.), "forked.*threads", 1.)
      with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with mock.patch.object(substitutes, "WORTH", 0.):
          other = gf.function(x, x * 3., jit_compile="auto")
          for _ in range(3):
            self.assertEqual(other(1.), 3.)
      self.assertLen(caught, 1)
      self.assertIn("forked", other.jit)

  def test_closed_graph(self):
    x = tf.placeholder(tf.float64, [])
    f = self._function(x, x * 2.)
    self.graph.finalize()
    self._assert_refused(f, "closed", 1.)

  def test_what_xla_does_not_compile(self):
    x = tf.placeholder(tf.float64, [None])
    f = self._function(x, tf.reduce_sum(x) * 2.)
    with mock.patch.object(
        substitutes.Substitutes, "_compiled",
        side_effect=tf.errors.InvalidArgumentError(
            None, None, "unsupported operations: Where")):
      with self.assertRaisesRegex(gf.UnsupportedGraphError, "Where"):
        f([1.])

  def test_another_result(self):
    x = tf.placeholder(tf.float64, [2])
    f = self._function(x, x * 2.)
    with mock.patch.object(substitutes.Substitutes, "_compiled",
                           return_value=lambda arrays: [
                               np.array([2., 5.]), np.True_]):
      with self.assertRaisesRegex(gf.UnsupportedGraphError,
                                  "differs by 1.*largest element being 4"):
        f([1., 2.])
    np.testing.assert_array_equal(f([1., 2.]), [2., 4.])

  def test_rounding_of_what_cancels_is_no_other_result(self):
    x = tf.placeholder(tf.float64, [2])
    f = self._function(x, x * 2.)
    with mock.patch.object(
        substitutes.Substitutes, "_compiled",
        return_value=lambda arrays: [np.array([0., 2. + 1e-12]), np.True_]):
      f([0., 1.])
    self.assertLen(f.compiled, 1)

  def test_tells_that_it_was_given_up(self):
    x = tf.placeholder(tf.float64, [2])
    f = self._function(x, x * 2.)
    with mock.patch.object(substitutes.Substitutes, "_compiled",
                           return_value=lambda arrays: [
                               np.array([2., 5.]), np.True_]):
      with self.assertRaises(gf.UnsupportedGraphError):
        f([1., 2.])
    self.assertIn("op by op (XLA computes something else", f.jit)


@unittest.skipIf(not _tf.IS_TF2, "TensorFlow 1.15 compiles nothing.")
class AutoTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(substitutes, "WORTH", 0.))

  def _settled(self, f, *values):
    """Calls until it is decided how; what was returned."""
    results = []
    deadline = time.monotonic() + 60
    while not f.jit or any(
        state in f.jit for state in ("counting", "compiling", "timing")):
      results.append(f(*values))
      self.assertLess(time.monotonic(), deadline, f.jit)
    return results

  @parameterized.parameters((1., 2., "compiled"), (2., 1., "op by op"))
  def test_keeps_what_is_faster(self, compiled, plain, expected):
    x = tf.placeholder(tf.float64, [2])
    f = gf.function(x, gf.gradient(tf.reduce_sum(x ** 3), x),
                    jit_compile="auto")
    choose = substitutes.Choice.settle

    def settle(choice, state, why):
      if "op by op" in why and "ms" in why:
        choice.seconds = [plain] * 9, [compiled] * 9
        state = "compiled" if compiled < plain else "op by op"
      choose(choice, state, why)

    with mock.patch.object(substitutes.Choice, "settle", settle):
      for result in self._settled(f, [1., 2.]):
        np.testing.assert_array_equal(result, [3., 12.])
    self.assertIn("(2,): {} (op by op".format(expected), f.jit)
    for _ in range(5):
      np.testing.assert_array_equal(f([1., 2.]), [3., 12.])

  def test_falls_back_with_one_warning(self):
    x = tf.placeholder(tf.float64, [None])
    f = gf.function(x, x * tf.random.uniform([], dtype=tf.float64),
                    jit_compile="auto")
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always")
      for size in (1, 2, 1):
        f(np.ones([size]))
    self.assertLen(caught, 1)
    self.assertIsInstance(caught[0].message, gf.GradfeedWarning)
    self.assertIn("RandomUniform", str(caught[0].message))
    self.assertIn("op by op", f.jit)

  def test_shapes_of_few_calls_are_forgotten_for_others(self):
    x = tf.placeholder(tf.float64, [None])
    f = gf.function(x, gf.gradient(tf.reduce_sum(x ** 3), x),
                    jit_compile="auto")
    with mock.patch.object(substitutes, "WORTH", 1e9):
      for size in range(1, 300):
        f(np.full([size], 2.))
    self.assertLen(f.jit.split("\n"), 256)
    self.assertNotIn("(3,): ", f.jit)
    f([1., 2., 3.])
    self.assertIn("(3,): compiling", f.jit)
    self.assertLen(f.jit.split("\n"), 256)

  def test_a_session_that_is_closed_while_xla_compiles(self):
    x = tf.placeholder(tf.float64, [2])
    f = gf.function(x, gf.gradient(tf.reduce_sum(x ** 3), x),
                    jit_compile="auto")
    waits, ends = threading.Event(), threading.Event()
    meanwhile = substitutes.Substitutes._compile_meanwhile

    def late(*arguments):
      waits.wait(60)
      meanwhile(*arguments)
      ends.set()

    with warnings.catch_warnings():
      warnings.simplefilter("error")
      with mock.patch.object(
          substitutes.Substitutes, "_compile_meanwhile", late):
        with tf.Session():
          f([1., 2.])
        waits.set()
        self.assertTrue(ends.wait(60))
      self.assertIn("counting", f.jit)
      with tf.Session():
        np.testing.assert_array_equal(self._settled(f, [1., 2.])[-1], [3., 12.])
      self.assertIn("ms", f.jit)

  def test_calls_go_on_while_xla_compiles_and_own_their_values(self):
    x = tf.placeholder(tf.float64, [2])
    f = gf.function(x, gf.gradient(tf.reduce_sum(x ** 3), x),
                    jit_compile="auto")
    waits = threading.Event()
    try_ = substitutes.Substitutes._try

    def slow_try(*arguments):
      waits.wait(60)
      return try_(*arguments)

    with mock.patch.object(substitutes.Substitutes, "_try", slow_try):
      value = np.array([1., 2.])
      f(value)[...] = -1.  # Neither is what the program is held against.
      value[...] = 7.
      self.assertIn("compiling", f.jit)
      np.testing.assert_array_equal(f([2., 2.]), [12., 12.])
      waits.set()
      self._settled(f, [1., 2.])
    self.assertNotIn("differs", f.jit)


class ModesTest(graphs.GraphTest):

  @parameterized.parameters("yes", 1.5, "True")
  def test_refuses_other_values(self, mode):
    x = tf.placeholder(tf.float64, [])
    with self.assertRaisesRegex(gf.ArgumentError, "jit_compile="):
      gf.function(x, x * 2., jit_compile=mode)

  def test_false_is_none(self):
    x = tf.placeholder(tf.float64, [])
    self.assertEqual(gf.function(x, x * 2., jit_compile=False)(2.), 4.)

  def test_needs_tensorflow_2(self):
    x = tf.placeholder(tf.float64, [])
    with mock.patch.object(_tf, "IS_TF2", False):
      for mode in (True, "auto"):
        with self.assertRaisesRegex(gf.UnsupportedGraphError, "TensorFlow 2"):
          gf.function(x, x * 2., jit_compile=mode)
