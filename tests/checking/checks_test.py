"""`check`: each fault is found with its op, and its healthy twin is clean."""

import glob
import json
import os
import re

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from tests.testing import flows
from tests.testing import folders
from tests.testing import graphs

_ROWS = np.random.RandomState(0).normal(size=[4, 3])

_MODELS = folders.MODELS


def _planted(error):
  """The name of a gradient of tanh that is off by a share of `error`."""
  name = "TanhOffBy{}".format(error)
  if _tf.registered_gradient(name) is None:
    tf.RegisterGradient(name)(
        lambda op, g: g * (1.0 - op.outputs[0] ** 2) * (1.0 + error))
  return name


def _network(x, error=0.0):
  w = tf.constant(np.random.RandomState(1).normal(size=[3, 5]), x.dtype)
  with x.graph.gradient_override_map({"Tanh": _planted(error)}):
    h = tf.tanh(tf.matmul(x, w), name="squash")
  return tf.reduce_sum(h * h, name="y")


def _kinds(report):
  return [(finding.kind, finding.severity) for finding in report.findings]


class CheckTest(graphs.GraphTest):

  def placeholder(self, dtype=tf.float32, shape=(None, 3)):
    return tf.placeholder(dtype, shape, name="x")

  def assertClean(self, report):
    self.assertEqual(report.verdict, "right", report)
    self.assertEqual([kind for kind in _kinds(report) if kind[1] != "note"],
                     [], report)

  def assertFound(self, report, kind, severity, *names):
    matching = [finding for finding in report.findings if finding.kind == kind]
    self.assertLen(matching, 1, report)
    self.assertEqual(matching[0].severity, severity)
    for name in names:
      self.assertTrue(any(re.search(name, n) for n in matching[0].names),
                      report)
      self.assertRegex(" ".join([matching[0].what, matching[0].why]), name)
    return matching[0]


class NumbersTest(CheckTest):

  @parameterized.parameters(tf.float32, tf.float64)
  def test_gradient_and_differences_are_the_closed_form(self, dtype):
    x = self.placeholder(dtype)
    report = gf.check(tf.exp(x), x, _ROWS)
    self.assertClean(report)
    self.assertEqual(report.precision, "float64")
    np.testing.assert_allclose(report.gradients[0], np.exp(_ROWS), 1e-5)
    elements = [row for row in report.rows if row["direction"][0] == "'"]
    self.assertLen(elements, 3)
    given = _ROWS.astype(dtype.as_numpy_dtype).astype(np.float64)
    for row in elements:
      i, j = map(int, re.findall(r"\d+", row["direction"].split("[")[1]))
      self.assertAlmostEqual(row["difference"], np.exp(given[i, j]), delta=1e-8)
    self.assertLess(report.error, 1e-6)
    self.assertLess(report.tolerance, 1e-5)

  @parameterized.parameters(
      (tf.float32, 0.01), (tf.float32, 1e-4), (tf.float64, 0.01),
      (tf.float64, 1e-4))
  def test_finds_a_planted_error_and_the_op(self, dtype, error):
    x = self.placeholder(dtype)
    report = gf.check(_network(x, error), x, _ROWS)
    self.assertEqual(report.verdict, "wrong")
    self.assertTrue(report.is_bad)
    self.assertFound(report, "wrong", "bad", "squash")
    self.assertAlmostEqual(report.error, error, delta=0.05 * error)

  @parameterized.parameters(tf.float32, tf.float64)
  def test_the_twin_without_the_error_is_right(self, dtype):
    x = self.placeholder(dtype)
    self.assertClean(gf.check(_network(x), x, _ROWS))

  @parameterized.parameters((0.0, "right"), (0.01, "wrong"))
  def test_finds_it_in_float32_where_there_is_no_float64(self, error, verdict):
    x = self.placeholder()

    @tf.function
    def normalized(a):  # No form in float64, and inside of a function.
      return tf.nn.lrn(tf.reshape(a, [-1, 1, 1, 3]), bias=2.0)

    y = _network(x, error) + tf.reduce_sum(normalized(x)) * 0.01
    report = gf.check(y, x, _ROWS)
    self.assertEqual(report.precision, "session")
    self.assertEqual(report.verdict, verdict, report)

  def test_finds_a_custom_gradient_that_is_off(self):

    @tf.custom_gradient
    def square(a):
      return a * a, lambda g: g * 2.02 * a

    x = self.placeholder()
    report = gf.check(square(x) + x, x, _ROWS)
    self.assertFound(report, "wrong", "bad", "IdentityN")

  def test_finds_an_element_in_a_gradient_of_the_users(self):
    x = self.placeholder()
    y = tf.exp(x)
    dx, = tf.gradients(y, x)
    wrong = dx * tf.constant(
        1.0 + 0.005 * (np.arange(12) == 7).reshape(4, 3), tf.float32)
    self.assertClean(gf.check(y, x, _ROWS, gradient=dx))
    report = gf.check(y, x, _ROWS, gradient=wrong)
    self.assertEqual(report.verdict, "wrong")
    self.assertIn("'x:0'[2, 1]", str(report))

  def test_refuses_gradients_that_do_not_fit(self):
    x = self.placeholder()
    with self.assertRaisesRegex(gf.ArgumentError, "2 gradients for 1 x"):
      gf.check(x, x, _ROWS, gradient=[x, x])
    with self.assertRaisesRegex(gf.ArgumentError, r"has the shape \[\?\]"):
      gf.check(x * x, x, _ROWS, gradient=x[:, 0])
    for order in (0, 3):
      with self.assertRaisesRegex(gf.ArgumentError, "order={}".format(order)):
        gf.check(x * x, x, _ROWS, order=order)
    with self.assertRaisesRegex(gf.ArgumentError, "of your own"):
      gf.check(x * x, x, _ROWS, order=2, gradient=x)

  @parameterized.parameters(1, 2)
  def test_loops_and_branches(self, flow):
    with flows.control_flow(flow):
      x = self.placeholder()
      h = tf.while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, tf.sin(h) * x),
                        [0, x])[1]
      y = tf.cond(tf.reduce_sum(x) > -1e3, lambda: h * h, lambda: h)
    self.assertClean(gf.check(y, x, _ROWS))

  @parameterized.named_parameters(*graphs.KINDS)
  def test_by_variables_layers_and_structures(self, use_resource):
    x = self.placeholder(tf.float64)
    w = graphs.variable("w", _ROWS[:3], use_resource)
    h = tf.tanh(tf.matmul(x, w))
    y = tf.reduce_sum(h * h, 1)
    self.initialize()
    feeds = {x: _ROWS}
    self.assertClean(gf.check(y, w, _ROWS[1:], feed_dict=feeds))
    self.assertClean(gf.check(y, h, 2.0 * _ROWS))
    both = gf.check(y, {"w": w, "x": [x]}, {"w": _ROWS[1:], "x": [_ROWS]})
    self.assertClean(both)
    self.assertLen(both.gradients, 2)
    np.testing.assert_array_equal(self.session.run(w), _ROWS[:3])

  def test_complex_sparse_and_half(self):
    z = tf.placeholder(tf.complex64, [None], name="z")
    self.assertClean(gf.check(z ** 3, z, [1 + 2j, 0.5 - 1j]))
    self.assertClean(gf.check(tf.abs(z) ** 2, z, [1 + 2j, 0.5 - 1j]))
    s = tf.sparse_placeholder(tf.float32, [4, 3], name="s")
    y = tf.sparse_tensor_dense_matmul(s, tf.ones([3, 2])) ** 2
    self.assertClean(gf.check(y, s, tf.SparseTensorValue(
        [[0, 1], [2, 0]], [1.0, 3.0], [4, 3])))
    half = tf.placeholder(tf.float16, [None], name="half")
    self.assertClean(gf.check(tf.tanh(half) * half, half, [0.5, 2.0]))

  def test_y_may_be_sparse_or_several(self):
    x = self.placeholder(tf.float64)
    sparse = tf.SparseTensor([[0], [2]], tf.exp(x[0, :2]), [4])
    report = gf.check([sparse, {"y": tf.sin(x)}], x, _ROWS)
    self.assertClean(report)
    expected = np.cos(_ROWS)
    expected[0, :2] += np.exp(_ROWS[0, :2])
    np.testing.assert_allclose(report.gradients[0], expected)

  @parameterized.parameters(1, 2)
  def test_steps_that_the_model_refuses_are_left_out(self, order):
    x = self.placeholder(tf.float64)
    y = tf.check_numerics(tf.log(x), "below zero")
    self.assertClean(gf.check(y, x, [[1e-3, 1.0, 2.0]], order=order))

  def test_second_derivatives(self):
    x = self.placeholder(tf.float64)
    report = gf.check(tf.reduce_sum(tf.sin(x) * x), x, _ROWS, order=2)
    self.assertClean(report)
    self.assertTrue(any(row["direction"].startswith("second 2")
                        for row in report.rows))


class KinksTest(CheckTest):

  @parameterized.named_parameters(
      ("relu", tf.nn.relu, "Relu"), ("abs", tf.abs, "Abs"),
      ("maximum", lambda x: tf.maximum(x, 0.0), "Maximum"))
  def test_exactly_on_a_kink(self, build, op_type):
    x = self.placeholder()
    y = build(x)
    x_t = np.array([[0.0, 1.0, -2.0]])
    report = gf.check(y, x, x_t)
    self.assertEqual(report.verdict, "undecidable")
    self.assertFalse(report.is_bad)
    self.assertFound(report, "kink", "warning", op_type)
    self.assertClean(gf.check(y, x, x_t + 1e-3))

  def test_a_tie_in_a_pool(self):
    x = self.placeholder(shape=[None, 2, 2, 1])
    y = tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    report = gf.check(y, x, np.ones([1, 2, 2, 1]))
    self.assertEqual(report.verdict, "undecidable")
    self.assertFound(report, "kink", "warning", "MaxPool")
    self.assertClean(gf.check(y, x, np.arange(4.0).reshape(1, 2, 2, 1)))

  def test_relu_of_opposite_sides_has_a_derivative_that_is_not_given(self):
    x = self.placeholder(shape=[])
    y = tf.nn.relu(x) - tf.nn.relu(-x)  # It is x, with the derivative 1.
    self.assertEqual(gf.check(y, x, 0.0).verdict, "wrong")
    self.assertClean(gf.check(y, x, 0.5))


class GalleryTest(CheckTest):

  def test_s3_mean_over_the_batch(self):
    x = self.placeholder()
    losses = tf.reduce_sum(tf.tanh(x) ** 2, 1)
    report = gf.check(tf.reduce_mean(losses), x, _ROWS)
    self.assertClean(report)
    finding = self.assertFound(report, "mean", "note")
    self.assertEqual(finding.details["rows"], 4)
    self.assertEqual(gf.check(tf.reduce_sum(losses), x, _ROWS).findings, [])

  def test_s3_any_other_dependence_on_the_number_of_rows(self):
    x = self.placeholder()
    y = tf.reduce_sum(x * x) * tf.cast(tf.shape(x)[0], tf.float32) ** 2
    self.assertFound(gf.check(y, x, _ROWS), "number of rows", "warning")

  @parameterized.parameters(False, True)
  def test_s4_coupled_rows(self, is_summed):
    x = self.placeholder()

    def centred(axis, name):
      y = tf.tanh(x - tf.reduce_mean(x, axis, keepdims=True, name=name))
      return tf.reduce_sum(y * y) if is_summed else y * y

    report = gf.check(centred(0, "over_rows"), x, _ROWS)
    self.assertEqual(report.verdict, "right")
    self.assertFound(report, "coupled", "warning", "over_rows")
    self.assertClean(gf.check(centred(1, "over_columns"), x, _ROWS))

  def test_s5_a_function_in_python(self):
    x = self.placeholder(tf.float64, [])
    y = tf.py_func(lambda a: a * a, [x], tf.float64, name="hidden") + x
    report = gf.check(y, x, 3.0)
    self.assertEqual(report.verdict, "wrong")
    finding = self.assertFound(report, "blocked", "bad", "hidden")
    self.assertAlmostEqual(finding.details["share"], 6.0 / 7.0, places=6)
    self.assertClean(gf.check(x * x + x, x, 3.0))

  def test_s5_a_stopped_gradient_is_meant(self):
    x = self.placeholder(tf.float64, [])
    report = gf.check(tf.stop_gradient(x, name="held") * x * x, x, 3.0)
    self.assertEqual(report.verdict, "right")
    finding = self.assertFound(report, "blocked", "warning", "held")
    self.assertAlmostEqual(finding.details["share"], 1.0 / 3.0, places=6)

  @parameterized.named_parameters(
      ("round", tf.round), ("floor", tf.floor), ("sign", tf.sign),
      ("cast", lambda x: tf.cast(tf.cast(x, tf.int32), x.dtype)),
      ("argmax", lambda x: tf.one_hot(tf.argmax(x, 1), 3)))
  def test_s5_what_is_flat_hides_nothing(self, build):
    x = self.placeholder()
    self.assertClean(gf.check(build(x) * x * x, x, _ROWS))

  def test_s5_a_gradient_stopped_in_a_loop_leaves_it_open(self):
    x = self.placeholder()
    y = tf.while_loop(lambda i, h: i < 3, lambda i, h: (
        i + 1, tf.tanh(h) * tf.stop_gradient(h)), [0, x])[1]
    report = gf.check(y, x, _ROWS)
    self.assertEqual(report.verdict, "undecidable")
    self.assertFound(report, "blocked", "warning", "while")

  @parameterized.parameters(1, 2)
  def test_s5_a_loop_without_back_prop_is_wrong(self, flow):
    x = self.placeholder(tf.float64, [3])
    with flows.control_flow(flow):
      h = tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a * a),
                        [0, x], back_prop=False)[1]
    if tf.gradients(h, x) != [None]:
      self.skipTest("TF 1.15 takes no notice of it in control flow v2.")
    report = gf.check(h + x, x, [1.5, 2.0, 0.5])
    self.assertEqual(report.verdict, "wrong")
    finding, = [f for f in report.findings if f.kind == "blocked"]
    # d(x^4 + x) / dx is 4x^3 + 1, of which the gradient has the 1 alone.
    self.assertGreater(finding.details["share"], 0.5)

  def test_s8_dropout_is_not_repeatable_and_right_for_its_mask(self):
    tf.set_random_seed(1)
    x = self.placeholder()
    keep = tf.placeholder(tf.float32, [], name="keep")
    y = tf.nn.dropout(tf.tanh(x), rate=1.0 - keep)
    report = gf.check(y, x, _ROWS, feed_dict={keep: 0.5})
    self.assertEqual(report.verdict, "right")
    self.assertFound(report, "repeatability", "warning", "[Rr]andom")
    self.assertClean(gf.check(y, x, _ROWS, feed_dict={keep: 1.0}))

  def test_s8_sampled_losses_are_right_for_the_classes_drawn(self):
    x = self.placeholder()
    labels = tf.placeholder(tf.int64, [None, 1], name="labels")
    random = np.random.RandomState(0)
    weights = tf.constant(random.normal(size=[50, 3]), tf.float32)
    for loss in (tf.nn.nce_loss, tf.nn.sampled_softmax_loss):
      y = loss(weights, tf.zeros([50]), labels, x, 5, 50)
      report = gf.check(y, x, _ROWS, feed_dict={labels: [[1], [2], [3], [4]]})
      self.assertEqual(report.verdict, "right")
      self.assertFound(report, "repeatability", "warning", "CandidateSampler")

  @parameterized.parameters(1, 2)
  def test_s8_random_numbers_in_a_loop_leave_it_open(self, flow):
    with flows.control_flow(flow):
      x = self.placeholder()
      y = tf.while_loop(lambda i, h: i < 3, lambda i, h: (
          i + 1, tf.tanh(h) * tf.random_uniform([3])), [0, x])[1]
    report = gf.check(y, x, _ROWS)
    self.assertEqual(report.verdict, "undecidable")
    self.assertFound(report, "repeatability", "warning", "while")
    self.assertEqual(report.rows, [])

  def test_s8_does_not_use_up_an_iterator(self):
    x = self.placeholder()
    data = tf.data.Dataset.range(100).map(lambda i: tf.cast(i, tf.float32))
    label = tf.data.make_one_shot_iterator(data).get_next()
    y = x * label
    with self.assertRaisesRegex(gf.MissingFeedError, "IteratorGetNext:0"):
      gf.check(y, x, _ROWS)
    self.assertClean(gf.check(y, x, _ROWS, feed_dict={label: 5.0}))
    self.assertEqual(self.session.run(label), 0.0)

  def test_s8_does_not_use_up_a_queue(self):
    x = self.placeholder()
    queue = tf.FIFOQueue(1000, [tf.float32], [[3]])
    self.session.run(queue.enqueue_many(np.ones([500, 3])))
    label = queue.dequeue()
    with self.assertRaisesRegex(gf.MissingFeedError, label.name):
      gf.check(x * label, x, _ROWS)
    self.assertClean(gf.check(
        x * label, x, _ROWS, feed_dict={label: [1, 2, 3]}))
    self.assertEqual(self.session.run(queue.size()), 500)

  def test_s9_a_second_derivative_that_is_wrong_at_zero(self):
    x = self.placeholder(tf.float64)
    y = tf.reduce_prod(x, axis=1, name="product")
    report = gf.check(y, x, [[0.0, 1.0, 2.0], [1.0, 1.5, 1.0]], order=2)
    self.assertEqual(report.verdict, "wrong")
    # TensorFlow 2 gives another number, TensorFlow 1 none.
    self.assertFound(report, "wrong" if _tf.IS_TF2 else "nonfinite", "bad",
                     "product")
    self.assertClean(gf.check(y, x, [[0.5, 1.0, 2.0], [1.0, 1.5, 1.0]],
                              order=2))

  def test_s18_saturation(self):
    x = self.placeholder()
    y = tf.nn.softmax(x, name="chances")[:, 0]
    report = gf.check(y, x, [[200.0, 0.0, 0.0]])
    finding = self.assertFound(report, "zero", "warning", "chances")
    self.assertIn("1.4e-87", finding.why)
    self.assertEqual(report.shares["zero"], 1.0)
    self.assertClean(gf.check(y, x, [[2.0, 0.0, 0.0]]))

  def test_s18_a_dead_layer(self):
    x = self.placeholder()
    y = tf.nn.relu(x - 100.0, name="dead")
    self.assertFound(gf.check(y, x, _ROWS), "zero", "warning", "dead")
    self.assertClean(gf.check(y, x, _ROWS + 200.0))

  @parameterized.named_parameters(
      ("sqrt", lambda x: tf.sqrt(x, name="op"), "op", "1e-12"),
      ("rsqrt", lambda x: x * tf.rsqrt(x, name="op"), "op", "1e-12"),
      ("log", lambda x: tf.log(x, name="op"), "op", "log_softmax"),
      ("power", lambda x: tf.pow(x, 0.5, name="op"), "op", "base"),
      ("quotient", lambda x: tf.divide(1.0, x, name="op"), "op", "divisor"),
      ("norm", lambda x: tf.norm(x[:, :1], axis=1, name="op"), "op/Sqrt",
       "1e-12"),
      ("where", lambda x: tf.where(
          x > 0, tf.log(x, name="op"), x), "op", "harmless"))
  def test_e6_at_zero(self, build, name, cure):
    x = self.placeholder()
    y = build(x)
    report = gf.check(y, x, [[1.0, 2.0, 1.0], [0.0, 1.0, 2.0]])
    self.assertEqual(report.verdict, "wrong")
    finding = self.assertFound(report, "nonfinite", "bad", name)
    self.assertEqual(finding.details["rows"], [1])
    self.assertIn("row 1", finding.what)
    self.assertIn(" 0 at [1", finding.why)
    self.assertIn(cure, finding.fix)
    self.assertClean(gf.check(y, x, [[1.0, 2.0, 1.0], [0.5, 1.0, 2.0]]))

  @parameterized.parameters(np.nan, np.inf, -np.inf)
  def test_e6_a_point_that_is_not_finite(self, value):
    x = self.placeholder()
    y = tf.reduce_sum(tf.tanh(x))
    report = gf.check(y, x, [[1.0, 2.0, 3.0], [1.0, value, 2.0]])
    self.assertEqual(report.verdict, "undecidable")
    self.assertIn("x_t is not finite", report.summary)
    finding = report.findings[0]
    self.assertEqual(finding.kind, "nonfinite_point")
    self.assertIn("1 of 6 elements of the value of 'x:0'", finding.what)
    self.assertIn("the first at [1, 1]", finding.what)
    self.assertEqual(finding.details["rows"], [1])
    self.assertNotIn("loop", str(report))
    self.assertClean(gf.check(y, x, [[1.0, 2.0, 3.0]]))

  def test_e6_a_number_that_is_not_finite(self):
    x = self.placeholder(tf.float64, [])
    report = gf.check(tf.sin(x), x, np.nan)
    self.assertIn("1 of 1 elements of the value of 'x:0' (float64, []) is NaN "
                  "or infinite. There is", str(report).replace("\n   ", " "))

  def test_e6_a_feed_that_is_not_finite(self):
    x = self.placeholder(tf.float64)
    other = tf.placeholder(tf.float64, [3], name="other")
    report = gf.check(x * other, x, _ROWS,
                      feed_dict={other: [1.0, np.nan, 2.0]})
    finding, = [f for f in report.findings if f.kind == "nonfinite"]
    self.assertIn("fed for 'other:0'", finding.why)
    self.assertNotIn("loop", str(report))

  def test_e6_overflow(self):
    x = self.placeholder()
    y = tf.exp(x, name="large")
    report = gf.check(y, x, [[1.0, 100.0, 2.0]])
    finding = self.assertFound(report, "nonfinite", "bad", "large")
    self.assertIn("100 at [0, 1]", finding.why)
    self.assertClean(gf.check(y, x, [[1.0, 2.0, 3.0]]))

  def test_e6_a_weight_that_is_not_a_number(self):
    x = self.placeholder(tf.float64)
    w = graphs.variable("w", [1.0, np.nan, 2.0], False)
    self.initialize()
    report = gf.check(x * w, x, _ROWS)
    self.assertFound(report, "nonfinite", "bad", "w")


class PageTest(CheckTest):

  def test_text_of_what_is_right(self):
    x = self.placeholder(tf.float64, [3])
    self.assertEqual(str(gf.check(x ** 2, x, [1.0, 2.0, 0.0])), """\
right: the gradient of 'pow:0' (float64, [3]) by 'x:0' (float64, [3]) agrees
  with finite differences in float64 to within 1e-06.

along             gradient   differences
the gradient        3.4641        3.4641
direction 1         -1.658        -1.658
direction 2         1.9065        1.9065
direction 3         -3.367        -3.367
'x:0'[1]                 4             4
'x:0'[0]                 2             2
'x:0'[2]                 0             0

exact zeros 33%, NaN 0%, infinite 0%, denormal 0% of the gradient.""")

  def test_text_of_what_is_wrong(self):
    x = self.placeholder(tf.float64, [2])
    with self.graph.gradient_override_map({"Tanh": _planted(0.5)}):
      y = tf.tanh(x, name="squash")
    self.assertEqual(str(gf.check(y, x, [0.0, 1.0])), """\
wrong: the gradient of 'squash:0' (float64, [2]) by 'x:0' (float64, [2]) is not
  the derivative.

!! The gradient is off by 50% along the gradient. The gradient of Tanh 'squash'
   is wrong. Write this op from others, or correct the gradient that is
   registered for it.

along             gradient   differences
the gradient        1.5061        1.0041  wrong
direction 1         1.4318       0.95454  wrong
direction 2       -0.95867      -0.63912  wrong
direction 3         1.4035        0.9357  wrong
'x:0'[0]               1.5             1  wrong
'x:0'[1]           0.62996       0.41997  wrong

exact zeros 0%, NaN 0%, infinite 0%, denormal 0% of the gradient.""")

  def test_json_holds_the_same(self):
    x = self.placeholder()
    report = gf.check(tf.sqrt(x), x, [[0.0, 1.0, 2.0]])
    data = json.loads(report.to_json())
    self.assertEqual(data["verdict"], "wrong")
    self.assertEqual(data["findings"][0]["kind"], "nonfinite")
    self.assertEqual(data["findings"][0]["rows"], [0])
    self.assertAlmostEqual(data["shares"]["inf"], 1.0 / 3.0)
    self.assertIsNone(data["error"])

  def test_the_same_seed_gives_the_same_page(self):
    x = self.placeholder()
    y = _network(x)
    pages = [str(gf.check(y, x, _ROWS, seed=seed)) for seed in (3, 3, 4)]
    self.assertEqual(pages[0], pages[1])
    self.assertNotEqual(pages[0], pages[2])


class NothingTouchedTest(CheckTest):

  def test_a_second_check_adds_no_op_whatever_the_batch(self):
    x = self.placeholder()
    h = tf.tanh(x)
    y = tf.stop_gradient(h) * h
    z = y * tf.random_uniform([3], 1.0, 2.0)
    before = {op.name for op in self.graph.get_operations()}
    gf.check(y, x, _ROWS)
    gf.check(y, h, _ROWS)
    gf.check(z, x, _ROWS)
    added = {op.name for op in self.graph.get_operations()} - before
    for name in added:
      self.assertTrue(name.startswith("gradfeed/"), name)
    count = self.count()
    gf.check(y, x, _ROWS[:2])
    gf.check(y, h, _ROWS[:1])
    gf.check(z, x, _ROWS[:1])
    self.assertEqual(self.count(), count)

  def test_a_finalized_graph_will_do_the_second_time(self):
    x = self.placeholder()
    y = _network(x)
    gf.check(y, x, _ROWS, order=2)
    self.graph.finalize()
    self.assertClean(gf.check(y, x, _ROWS[:2], order=2))

  def test_a_finalized_graph_is_refused_the_first_time(self):
    x = self.placeholder()
    y = _network(x)
    self.graph.finalize()
    with self.assertRaises(gf.FinalizedGraphError):
      gf.check(y, x, _ROWS)

  def test_states_stay(self):
    tf.set_random_seed(1)
    x = self.placeholder()
    v = tf.get_variable("v", initializer=tf.ones([3]))
    y = tf.reduce_sum(tf.tanh(x * v))
    numbers = tf.random_uniform([], seed=5)
    self.initialize()
    feeds = {v: np.zeros(3, np.float32)}
    kept = dict(feeds)
    before = np.random.get_state()[1].copy()
    gf.check(y, x, _ROWS, feed_dict=feeds)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    self.assertEqual(list(feeds), list(kept))
    self.assertIs(tf.get_default_graph(), self.graph)
    np.testing.assert_array_equal(self.session.run(v), np.ones(3))
    with tf.Session() as other:
      expected = other.run(numbers)
    self.assertEqual(self.session.run(numbers), expected)

  @parameterized.parameters(1, 2)
  def test_the_session_goes_on_working(self, flow):
    with flows.control_flow(flow):
      x = self.placeholder()
      y = tf.while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, tf.tanh(h)),
                        [0, x])[1]
    before = self.session.run(y, {x: _ROWS})
    gf.check(y, x, _ROWS, order=2)
    np.testing.assert_array_equal(self.session.run(y, {x: _ROWS}), before)

  def test_what_is_missing_is_told_as_in_a_function(self):
    x = self.placeholder()
    k = tf.placeholder(tf.float32, [], name="k")
    with self.assertRaisesRegex(gf.MissingFeedError, "'k:0'"):
      gf.check(x * k, x, _ROWS)
    with self.assertRaisesRegex(gf.FeedError, "nothing that is evaluated"):
      gf.check(x * x, x, _ROWS, feed_dict={x * k: 1.0})
    with self.assertRaisesRegex(gf.FeedError, r"shape \[3, 4\]"):
      gf.check(x * x, x, _ROWS.T)
    with self.assertRaises(gf.DisconnectedError):
      gf.check(k * 2.0, x, _ROWS)
    v = tf.get_variable("v", [])
    with self.assertRaisesRegex(gf.UninitializedError, "v"):
      gf.check(x * v, x, _ROWS)
    with self.assertRaises(gf.AssignmentError):
      gf.check(x * tf.assign_add(v, 1.0), x, _ROWS)


def _listed_models():
  """(name, path, x, shape, bounds, y, index, feeds), of models that are there.
  """
  for meta in sorted(glob.glob(os.path.join(_MODELS, "*", "META.md"))):
    with open(meta) as source:
      blocks = re.split(r"(?m)^## ", source.read())[1:]
    for block in blocks:
      loader = re.search(r"loader: (\S+)(?: (.*?))?  tags=", block)
      xs = re.findall(
          r"(?m)^x: (\S+) (\w+)\[(.*?)\] fed uniform\((.*?)\)", block)
      y = re.search(r"(?m)^y: (\S+)(?: \[\.\.\., (\d+)\])?", block)
      path = os.path.join(os.path.dirname(meta), loader.group(2) or "")
      feeds = re.search(r"extra feeds: (.*)", block).group(1)
      yield (block.split()[0],
             path + (".meta" if loader.group(1) == "meta" else ""), xs,
             y.groups(), {} if feeds == "none" else json.loads(feeds))


class ModelsTest(CheckTest):

  def test_no_false_alarm_on_models_of_others(self):
    for name, path, xs, (y, index), feeds in _listed_models():
      if feeds:
        continue  # The largest: thousands of ops.
      rng = np.random.RandomState(0)
      with gf.load(path) as model:
        output = model.graph.get_tensor_by_name(y)
        if index is not None:
          output = output[..., int(index)]
        values = [rng.uniform(*map(float, bounds.split(",")), size=[
            int(size) for size in shape.split(",") if size.strip()]).astype(
                dtype) for _, dtype, shape, bounds in xs]
        report = gf.check(output, [x[0] for x in xs], values)
      self.assertClean(report)
      self.assertEqual(report.precision, "float64", name)
