"""Inputs that TensorFlow's gradient passes nothing to: found, and refused."""

import os
import sys
import warnings

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.analysis import unpassed_inputs
from tests.testing import folders
from tests.testing import graphs

sys.path.append(os.path.join(folders.ROOT, "scripts"))
# pylint: disable=g-import-not-at-top, wrong-import-position
import op_inputs
import sweep_op_gradients
# pylint: enable=g-import-not-at-top, wrong-import-position

_IS_TF2 = not tf.__version__.startswith("1.")

#: What other versions than those of the table may have mended.
_OF_TABLE = ("1.15.5", "2.21.0")


class TableTest(parameterized.TestCase):

  @parameterized.parameters(sorted(
      op_type for op_type in set(unpassed_inputs.SMOOTH) |
      set(unpassed_inputs.FLAT) if op_type in op_inputs.CASES))
  def test_is_what_the_sweep_finds(self, op_type):
    if tf.__version__ not in _OF_TABLE:
      self.skipTest("The table is not of this version.")
    listed = {
        index: state for state, table in (
            (sweep_op_gradients.SMOOTH, unpassed_inputs.SMOOTH),
            (sweep_op_gradients.FLAT, unpassed_inputs.FLAT))
        for index in table.get(op_type, ((), ()))[_IS_TF2]}
    found, _ = sweep_op_gradients.try_cases(op_type)
    self.assertEqual(found or {}, listed)


def _batch_norm(x):
  mean, variance = tf.nn.moments(x, [0, 1, 2])
  return tf.nn.fused_batch_norm(
      x, tf.ones([2]), tf.zeros([2]), mean, variance, is_training=False)[0]


def _image():
  return tf.placeholder(tf.float32, [2, 3, 3, 2], name="x")


def _square(array):
  return array * array


def _numbers():
  return tf.placeholder(tf.float64, [3], name="x")


#: (name, what makes x, y of x with a part that has no gradient besides one
#: that has, the type of the op).
_INCOMPLETE = (
    ("batch_norm", _image, _batch_norm, "FusedBatchNorm"),
    ("padding", _numbers, lambda x: x + tf.reduce_sum(tf.pad(
        x, [[1, 1]], constant_values=x[0] ** 2)), "PadV2"),
    ("values_of_one_hot", _numbers, lambda x: x + tf.one_hot(
        1, 3, x[0] ** 2, x[1], dtype=tf.float64), "OneHot"),
    ("range", _numbers, lambda x: x + tf.range(x[0], x[0] + 2.5, 1.0),
     "Range"),
    ("linspace", _numbers, lambda x: x + tf.raw_ops.LinSpace(
        start=x[0], stop=x[1] ** 2, num=3),
     "LinSpace"),
    ("betainc", _numbers, lambda x: tf.math.betainc(x, x + 1.0, x / 2.0),
     "Betainc"),
    ("zeta", _numbers, lambda x: tf.math.zeta(x + 2.0, x), "Zeta"),
    ("py_func", _numbers, lambda x: x + tf.py_func(
        _square, [x], tf.float64), "PyFunc"),
    ("bits", _numbers, lambda x: x + tf.bitcast(
        tf.bitcast(x, tf.int64), tf.float64), "Bitcast"),
    ("text", _numbers, lambda x: x + tf.strings.to_number(
        tf.as_string(x, precision=12), tf.float64), "AsString"),
    ("colors", _numbers, lambda x: x + tf.cast(tf.image.hsv_to_rgb(
        tf.cast(x, tf.float32)[None, None])[0, 0], tf.float64), "HSVToRGB"),
)

#: The same, with parts whose derivative is zero, or that the model stops.
_COMPLETE = (
    ("round", _numbers, lambda x: x * tf.round(x)),
    ("sign", _numbers, lambda x: x * tf.sign(x)),
    ("cast", _numbers, lambda x: x * tf.cast(
        tf.cast(x, tf.int32), tf.float64)),
    ("largest", _numbers, lambda x: x * tf.cast(tf.argmax(x), tf.float64)),
    ("compared", _numbers, lambda x: x * tf.cast(x > 1.0, tf.float64)),
    ("chosen", _numbers, lambda x: tf.where(x > 1.0, x ** 2, x)),
    ("stopped", _numbers, lambda x: x * tf.stop_gradient(tf.bitcast(
        tf.bitcast(x, tf.int64), tf.float64)) ** 2),
    ("constant_padding", _numbers, lambda x: tf.pad(
        x, [[1, 1]], constant_values=3.0)),
    ("size", _numbers, lambda x: x * tf.cast(tf.size(x), tf.float64)),
    ("batch_norm_in_training", _image, lambda x: tf.nn.fused_batch_norm(
        x, tf.ones([2]), tf.zeros([2]), is_training=True)[0]),
    ("batch_norm_of_variables", _image, lambda x: tf.nn.fused_batch_norm(
        x, tf.ones([2]), tf.zeros([2]), tf.zeros([2]), tf.ones([2]),
        is_training=False)[0]),
)


class VerbsTest(graphs.GraphTest):

  @parameterized.named_parameters(*_INCOMPLETE)
  def test_s21_is_refused_by_op_input_and_line(self, make_x, build, op_type):
    x = make_x()
    y = build(x)
    before = self.count()
    for verb in (gf.gradient, gf.value_and_gradient, gf.jacobian, gf.hessian):
      with self.assertRaisesRegex(
          gf.IncompleteGradientError, op_type + r".* '.*' \(unpassed_inputs_"
          r"test\.py:\d+\) passes no gradient(.|\n)*stop_gradients=\["):
        verb(y, x)
    self.assertEqual(self.count(), before)
    self.assertEqual(gf.explain(y, x).verdict, "partly differentiable")

  @parameterized.named_parameters(*_INCOMPLETE)
  def test_s21_stated_as_meant_is_what_tensorflow_gives(
      self, make_x, build, op_type):
    x = make_x()
    y = build(x)
    wanted = tf.gradients(y, x)[0]
    op = next(op for op in self.graph.get_operations()
              if op.type.startswith(op_type))
    inputs = {t.name for t in op.inputs if t.op.type != "Placeholder"}
    stops = [op.outputs[0]] if op_type != "FusedBatchNorm" else [
        self.graph.get_tensor_by_name(name) for name in sorted(inputs)]
    if op_type in ("Betainc", "Zeta", "PadV2"):
      stops = [op.inputs[i] for i in unpassed_inputs.SMOOTH[op_type][_IS_TF2]
               if op.inputs[i].op.type != "Placeholder"]
      if len(stops) < len(unpassed_inputs.SMOOTH[op_type][_IS_TF2]):
        return  # x itself is read: it cannot be held constant.
    at = {x: np.random.RandomState(0).uniform(0.5, 0.9, x.shape.as_list())}
    wanted, given = self.session.run(
        [wanted, gf.gradient(y, x, stop_gradients=stops)], at)
    np.testing.assert_allclose(given, wanted)

  @parameterized.named_parameters(*_INCOMPLETE)
  def test_s21_the_drop_in_warns_once_and_gives_what_tensorflow_gives(
      self, make_x, build, op_type):
    x = make_x()
    y = build(x)
    wanted = tf.gradients(y, x)[0]
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always")
      given = gf.gradients(y, x)[0]
      gf.gradients(y, x)
    caught = [each for each in caught
              if issubclass(each.category, gf.GradfeedWarning)]
    self.assertLen(caught, 1)
    self.assertIn(op_type, str(caught[0].message))
    self.assertEqual(os.path.basename(caught[0].filename),
                     "unpassed_inputs_test.py")
    at = {x: np.random.RandomState(0).uniform(0.5, 0.9, x.shape.as_list())}
    np.testing.assert_allclose(*self.session.run([given, wanted], at))
    with self.assertRaises(gf.IncompleteGradientError):
      gf.gradient(y, x)  # Though it is built.

  @parameterized.named_parameters(*_COMPLETE)
  def test_s5_what_is_flat_or_stopped_is_not_refused(self, make_x, build):
    x = make_x()
    y = build(x)
    at = {x: np.random.RandomState(0).uniform(0.5, 0.9, x.shape.as_list())}
    np.testing.assert_allclose(*self.session.run(
        [gf.gradient(y, x), tf.gradients(y, x)[0]], at), rtol=1e-6)

  def test_s21_a_loop_without_back_prop(self):
    x = _numbers()
    _, looped = tf.while_loop(
        lambda i, _: i < 2, lambda i, a: (i + 1, a * a), (0, x),
        back_prop=False)
    y = x + looped
    if "Exit" not in {op.type for op in self.graph.get_operations()}:
      self.assertEqual(gf.explain(y, x).verdict, "partly differentiable")
      return  # Control flow v2 stops the gradient: the model says so.
    with self.assertRaisesRegex(gf.IncompleteGradientError, "Exit"):
      gf.gradient(y, x)
    dx = gf.gradient(y, x, stop_gradients=[looped])
    self.assertEqual(self.session.run(dx, {x: [1.0, 2.0, 3.0]}).tolist(),
                     [1.0, 1.0, 1.0])

  def test_check_finds_what_is_left_out(self):
    x = _numbers()
    y = tf.reduce_sum(x + tf.py_func(_square, [x], tf.float64))
    report = gf.check(y, x, [1.0, 2.0, 3.0], session=self.session)
    self.assertEqual(report.verdict, "wrong")
