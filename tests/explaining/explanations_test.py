"""What `explain` finds: faults by name, and nothing in their healthy twins."""

import json
import os
import re

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows
from tests.testing import folders
from tests.testing import graphs

_FOLDER = os.path.dirname(os.path.abspath(__file__))

_MODELS = folders.MODELS


def _rows():
  return tf.placeholder(tf.float64, [None, 2], name="x")


def _number():
  return tf.placeholder(tf.float64, [], name="x")


def _copy(value):
  return value


def _python(x, name="python"):
  return tf.reshape(tf.py_func(_copy, [x], tf.float64, name=name), x.shape)


# Each is (y, x) of a graph with the fault.


def _s3():
  x = _rows()
  return tf.reduce_mean(tf.reduce_sum(x * x, 1), name="culprit"), x


def _s3_divided():
  x = _rows()
  count = tf.cast(tf.shape(x)[0], tf.float64)
  return tf.reduce_sum(x * x, name="culprit") / count, x


def _s3_lost():
  x = _rows()
  more = tf.concat([x * x, tf.placeholder(tf.float64, [None, 2])], 0)
  return tf.reduce_mean(more, name="culprit"), x


def _s3_of_labels():
  x = _rows()
  labels = tf.placeholder(tf.int64, [None], name="labels")
  logits = tf.placeholder_with_default(x, [None, None])
  return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=labels, logits=logits), name="culprit"), x


def _s3_healthy():
  x = _rows()
  return tf.reduce_sum(x * x), x


def _s3_known():
  x = tf.placeholder(tf.float64, [4, 2])
  return tf.reduce_mean(x * x), x


def _s3_features():
  x = _rows()
  return tf.reduce_sum(tf.reduce_mean(x * x, axis=1)), x


def _s3_time():
  x = tf.placeholder(tf.float64, [None, None, 2], name="x")
  return tf.reduce_mean(tf.transpose(x * x, [1, 0, 2])[:, 0]), x


def _s3_divided_by_time():
  x = tf.placeholder(tf.float64, [None, None, 2], name="x")
  steps = tf.cast(tf.shape(x)[1], tf.float64)
  return tf.reduce_sum(x * x) / steps, x


def _s3_divided_by_all():
  x = tf.placeholder(tf.float64, [None, None, 2], name="x")
  count = tf.cast(tf.shape(x)[0] * tf.shape(x)[1], tf.float64)
  return tf.reduce_sum(x * x, name="culprit") / count, x


def _s3_weights():
  w = tf.get_variable("w", [2], tf.float64)
  return tf.reduce_mean(_rows() * w), w


def _s4():
  x = _rows()
  return x - tf.reduce_mean(x, axis=0, name="culprit"), x


def _s4_loss():
  x = _rows()
  with tf.name_scope("culprit"):
    y = tf.nn.softmax(x, axis=0)
  return tf.reduce_sum(tf.reduce_sum(y * y, axis=1)), x


def _s4_normalized():
  x = tf.placeholder(tf.float32, [None, 4, 4, 2], name="x")
  y = tf.nn.fused_batch_norm(
      x, tf.ones([2]), tf.zeros([2]), is_training=True, name="culprit")[0]
  return tf.reduce_sum(tf.reduce_sum(y ** 3, [1, 2, 3])), x


def _s4_outside_of_training():
  x = tf.placeholder(tf.float32, [None, 4, 4, 2], name="x")
  y = tf.nn.fused_batch_norm(
      x, tf.ones([2]), tf.zeros([2]), mean=tf.zeros([2]),
      variance=tf.ones([2]), is_training=False)[0]
  return tf.reduce_sum(tf.reduce_sum(y ** 3, [1, 2, 3])), x


def _s4_healthy():
  x = _rows()
  return x - tf.reduce_mean(x, axis=1, keepdims=True), x


def _s4_apart():
  x = _rows()
  return tf.reduce_sum(tf.reduce_sum(x - tf.reduce_mean(
      x, axis=1, keepdims=True), axis=1)), x


def _s5_python():
  x = _number()
  return _python(x * x, "culprit") + x, x


def _s5_stop():
  x = _number()
  return tf.stop_gradient(x * x, name="culprit") + x, x


def _s5_integer():
  x = _number()
  return tf.cast(tf.cast(x, tf.int32, name="culprit"), tf.float64) + x, x


def _s5_round():
  x = _number()
  return tf.round(x, name="culprit") + x, x


def _s5_floor():
  x = _number()
  return tf.floor(x * x, name="culprit") * x, x


def _s5_sign():
  x = _number()
  return tf.sign(x, name="culprit") * x, x


def _s5_argmax():
  x = _rows()
  chosen = tf.one_hot(tf.argmax(x, 1, name="culprit"), 2, dtype=tf.float64)
  return chosen + x, x


def _s5_bitcast():
  x = tf.placeholder(tf.float32, [], name="x")
  bits = tf.bitcast(x, tf.int32, name="culprit")
  return tf.cast(bits, tf.float32) + x, x


def _s5_betainc():
  x = _number()
  return tf.math.betainc(x, tf.constant(2.0, tf.float64), x / 9.0,
                         name="culprit"), x


def _s5_zeta():
  x = _number()
  return tf.math.zeta(x + 1.0, x, name="culprit"), x


def _s5_loop():
  x = _number()
  with flows.control_flow(1):
    y = tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a * x), [0, x],
                      back_prop=False)[1]
  return y + x, x


def _s5_in_branch(version):
  def build():
    x = _number()
    with flows.control_flow(version):
      return tf.cond(x > 0.0, lambda: _python(x, "culprit"), lambda: x * x), x
  return build


def _s5_in_loop(version):
  def build():
    x = _number()
    with flows.control_flow(version):
      return tf.while_loop(
          lambda i, a: i < 2,
          lambda i, a: (i + 1, a * x + tf.round(a, name="culprit")),
          [0, x])[1], x
  return build


def _turns(version, function):
  """A loop in which x gets from one value to the next with each turn."""
  def build():
    x = _number()
    zero = tf.constant(0.0, tf.float64)
    with flows.control_flow(version):
      return tf.while_loop(
          lambda i, a, b, c: i < 3,
          lambda i, a, b, c: (i + 1, a, function(a), c + b),
          [0, x, zero, zero])[3], x
  return build


def _s5_healthy():
  x = _number()
  y = tf.where(x > 0.0, x * x, tf.tanh(x))
  y += x * tf.cast(tf.abs(x) < 9.0, tf.float64)
  return tf.reduce_logsumexp(tf.stack([y, x])), x


def _s5_healthy_flow(version):
  def build():
    x = _number()
    with flows.control_flow(version):
      y = tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a * x),
                        [0, x])[1]
      return tf.cond(x > 0.0, lambda: y * x, lambda: tf.tanh(y)), x
  return build


def _s5_labels():
  x = _rows()
  labels = tf.nn.softmax(x)
  return tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits(
      labels=tf.stop_gradient(labels, name="labels_stop_gradient"),
      logits=x)), x


def _s5_moments():
  x = _rows()
  return tf.reduce_sum(tf.nn.moments(x * x, [1])[1]), x


def _s8_random():
  x = _number()
  return x * x * tf.random.uniform([], dtype=tf.float64, name="culprit"), x


def _s8_in_branch():
  x = _number()
  with flows.control_flow(2):
    return tf.cond(tf.constant(True), lambda: x * tf.random_normal(
        [], dtype=tf.float64), lambda: x, name="culprit"), x


def _s8_dropout():
  x = _rows()
  return tf.reduce_sum(tf.nn.dropout(x, rate=0.5, name="culprit"), 1), x


def _s8_queue():
  x = _number()
  queue = tf.FIFOQueue(2, [tf.float64], shapes=[[]])
  return (x - queue.dequeue(name="culprit")) ** 2, x


def _s8_iterator():
  x = _number()
  data = tf.data.Dataset.from_tensors(np.float64(1.0))
  label = tf.data.make_one_shot_iterator(data).get_next(name="culprit")
  return (x - label) ** 2, x


def _s8_assign():
  x = _number()
  counter = tf.get_variable("counter", [], tf.float64, use_resource=False)
  with tf.control_dependencies(
      [tf.assign_add(counter, 1.0, name="culprit")]):
    return x * x, x


def _s8_healthy():
  x = _rows()
  rate = tf.placeholder(tf.float64, [], name="dropout_rate")
  y = tf.nn.dropout(x, rate=rate)
  keep = tf.placeholder(tf.float64, [], name="keep_prob")
  y = tf.nn.dropout(y, rate=1.0 - keep)
  return tf.reduce_sum(y, 1), x


def _s8_healthy_branch(version):
  def build():
    x = _rows()
    training = tf.placeholder(tf.bool, [], name="is_training")
    with flows.control_flow(version):
      return tf.cond(training, lambda: tf.nn.dropout(x, rate=0.5),
                     lambda: x), x
  return build


def _s8_given():
  label = tf.data.make_one_shot_iterator(
      tf.data.Dataset.from_tensors(np.float64(1.0))).get_next()
  return label ** 2, label


def _s9_stitch():
  x = _rows()
  rows = tf.placeholder(tf.float64, [2, 2])
  return tf.raw_ops.ParallelDynamicStitch(
      indices=[[0, 1], [1, 2]], data=[x[:2], rows], name="culprit"), x


def _s9_healthy():
  x = _rows()
  rows = tf.placeholder(tf.float64, [2, 2])
  return tf.dynamic_stitch([[0, 1], [2, 3]], [x[:2], rows]), x


def _s13():
  x = _rows()
  labels = tf.placeholder(tf.float64, [None], name="labels")
  predicted = tf.reduce_sum(x * x, 1, keepdims=True)
  return tf.subtract(predicted, labels, name="culprit"), x


def _s13_known():
  x = tf.placeholder(tf.float64, [3, 2], name="x")
  labels = tf.placeholder(tf.float64, [3], name="labels")
  return tf.squared_difference(labels, x[:, :1], name="culprit"), x


def _s13_healthy():
  x = _rows()
  labels = tf.placeholder(tf.float64, [None], name="labels")
  return tf.reduce_sum(x * x, 1) - labels, x


def _s13_pairs():
  x = tf.placeholder(tf.float64, [3])
  return tf.reduce_sum((x[:, tf.newaxis] - x) ** 2), x


def _s13_features():
  x = tf.placeholder(tf.float64, [None, 1])
  return tf.reduce_sum(x - np.arange(3.0)), x


def _s14():
  for _ in range(2):
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    tf.multiply(x, x, name="culprit")
  graph = tf.get_default_graph()
  return (graph.get_tensor_by_name("culprit:0"),
          graph.get_tensor_by_name("x:0"))


def _s14_last():
  _s14()
  graph = tf.get_default_graph()
  return (graph.get_tensor_by_name("culprit_1:0"),
          graph.get_tensor_by_name("x_1:0"))


def _s14_layers():
  x, other = (tf.placeholder(tf.float64, [None, 2]) for _ in range(2))
  y = tf.tanh(x * other)
  tf.tanh(y)
  return y, x


def _s14_towers():
  x = tf.placeholder(tf.float64, [None, 2])
  first, second = (tf.tanh(x) for _ in range(2))
  tf.add(first, second)
  return first, x


def _s14_heads():
  x, other = (tf.placeholder(tf.float64, [None, 2], name) for name in "xz")
  y = tf.tanh(x)
  tf.tanh(other * 2.0)
  return y, x


def _s18_softmax():
  x = _rows()
  chances = tf.nn.softmax(x)
  return tf.reduce_sum(tf.log(chances + 1e-9, name="culprit"), 1), x


def _s18_sigmoid():
  x = _rows()
  return tf.log(1.0 - tf.sigmoid(x), name="culprit"), x


def _s18_in_branch():
  x = _rows()
  with flows.control_flow(2):
    return tf.cond(x[0, 0] > 0.0, lambda: tf.log(
        tf.nn.softmax(x), name="culprit"), lambda: x), x


def _s18_healthy():
  x = _rows()
  return tf.nn.log_softmax(x) + tf.log_sigmoid(x) + tf.log(x * x + 1.0), x


def _constant_sum():
  x = _rows()
  return tf.nn.softmax(x * x, name="culprit"), x


def _one_class():
  x = _rows()
  return tf.nn.softmax(x * x)[:, 0], x


def _e2_copy():
  x = _rows()
  return tf.reduce_sum(x * x), tf.identity(x, name="culprit")


def _e2_integer():
  x = tf.placeholder(tf.int32, [], name="culprit")
  return tf.cast(x, tf.float64) ** 2, x


def _e2_blocked():
  x = _number()
  return tf.square(_python(x, "culprit")), x


def _e2_decided():
  x = _number()
  return tf.where(tf.greater(x, 0.0, name="culprit"), 1.0, 2.0), x


def _e2_blocked_in_branch():
  x = _number()
  with flows.control_flow(2):
    return tf.cond(x > 0.0, lambda: _python(x, "culprit"),
                   lambda: tf.stop_gradient(x)), x


def _e2_shape():
  x = tf.placeholder(tf.float64, [None], name="culprit")
  return tf.cast(tf.size(x), tf.float64), x


def _e5_first():
  x = tf.placeholder(tf.float64, [2, 2])
  return tf.linalg.lu(x, name="culprit")[0] + x, x


def _e5_first_in_branch():
  x = tf.placeholder(tf.float64, [2, 2])
  with flows.control_flow(2):
    return tf.cond(x[0, 0] > 0.0, lambda: tf.linalg.lu(
        x, name="culprit")[0], lambda: x), x


_FAULTS = [
    ("s3", _s3, "mean_over_batch"),
    ("s3_divided", _s3_divided, "mean_over_batch"),
    ("s3_divided_by_all", _s3_divided_by_all, "mean_over_batch"),
    ("s3_lost", _s3_lost, "mean_over_batch"),
    ("s3_of_labels", _s3_of_labels, "mean_over_batch"),
    ("s4", _s4, "coupled"),
    ("s4_loss", _s4_loss, "coupled"),
    ("s4_normalized", _s4_normalized, "coupled"),
    ("s5_python", _s5_python, "blocked"),
    ("s5_stop", _s5_stop, "blocked"),
    ("s5_integer", _s5_integer, "blocked"),
    ("s5_round", _s5_round, "blocked"),
    ("s5_floor", _s5_floor, "blocked"),
    ("s5_sign", _s5_sign, "blocked"),
    ("s5_argmax", _s5_argmax, "blocked"),
    ("s5_bitcast", _s5_bitcast, "blocked"),
    ("s5_betainc", _s5_betainc, "blocked"),
    ("s5_zeta", _s5_zeta, "blocked"),
    ("s5_in_branch_v1", _s5_in_branch(1), "blocked"),
    ("s5_in_branch_v2", _s5_in_branch(2), "blocked"),
    ("s5_in_loop_v1", _s5_in_loop(1), "blocked"),
    ("s5_in_loop_v2", _s5_in_loop(2), "blocked"),
    ("s8_random", _s8_random, "random"),
    ("s8_in_branch", _s8_in_branch, "random"),
    ("s8_dropout", _s8_dropout, "random"),
    ("s8_queue", _s8_queue, "waiting"),
    ("s8_iterator", _s8_iterator, "waiting"),
    ("s8_assign", _s8_assign, "assigning"),
    ("s9_stitch", _s9_stitch, "wrong_gradient"),
    ("s13", _s13, "broadcast"),
    ("s13_known", _s13_known, "broadcast"),
    ("s14", _s14, "copied"),
    ("s18_softmax", _s18_softmax, "saturation"),
    ("s18_sigmoid", _s18_sigmoid, "saturation"),
    ("s18_in_branch", _s18_in_branch, "saturation"),
    ("sum_of_a_softmax", _constant_sum, "constant_sum"),
    ("e2_copy", _e2_copy, "disconnected"),
    ("e2_integer", _e2_integer, "disconnected"),
    ("e2_blocked", _e2_blocked, "disconnected"),
    ("e2_decided", _e2_decided, "disconnected"),
    ("e2_blocked_in_branch", _e2_blocked_in_branch, "disconnected"),
    ("e2_shape", _e2_shape, "disconnected"),
    ("e2_in_loop_v1", _turns(1, lambda a: tf.round(a, name="culprit")),
     "disconnected"),
    ("e2_in_loop_v2", _turns(2, lambda a: tf.round(a, name="culprit")),
     "disconnected"),
    ("e5_first", _e5_first, "missing_gradient"),
    ("e5_first_in_branch", _e5_first_in_branch, "missing_gradient"),
]

_BAD = ("disconnected", "missing_gradient", "wrong_gradient")

_HEALTHY = [
    ("s3_sum", _s3_healthy), ("s3_known", _s3_known),
    ("s3_features", _s3_features), ("s3_time", _s3_time),
    ("s3_divided_by_time", _s3_divided_by_time),
    ("s3_weights", _s3_weights),
    ("s4_outside_of_training", _s4_outside_of_training),
    ("s4_by_row", _s4_healthy), ("s4_loss", _s4_apart),
    ("s5_choices", _s5_healthy), ("s5_flow_v1", _s5_healthy_flow(1)),
    ("s5_flow_v2", _s5_healthy_flow(2)), ("s5_turns_v1", _turns(1, tf.tanh)),
    ("s5_turns_v2", _turns(2, tf.tanh)), ("s5_labels", _s5_labels),
    ("s5_moments", _s5_moments), ("s8_switched_off", _s8_healthy),
    ("s8_branch_v1", _s8_healthy_branch(1)),
    ("s8_branch_v2", _s8_healthy_branch(2)), ("s8_given", _s8_given),
    ("s9_stitch", _s9_healthy), ("s13_same_shape", _s13_healthy),
    ("s13_pairs", _s13_pairs), ("s13_features", _s13_features),
    ("s14_last", _s14_last), ("s14_layers", _s14_layers),
    ("s14_towers", _s14_towers), ("s14_heads", _s14_heads),
    ("s18_stable", _s18_healthy), ("one_class", _one_class),
]


class GalleryTest(graphs.GraphTest):

  @parameterized.named_parameters(_FAULTS)
  def test_names_the_fault(self, build, kind):
    y, x = build()
    before = self.count(), self.graph.version
    page = gf.explain(y, x)
    self.assertEqual((self.count(), self.graph.version), before)
    matching = [finding for finding in page.findings if finding.kind == kind]
    self.assertNotEmpty(matching, page)
    self.assertTrue(any("culprit" in name for finding in matching
                        for name in finding.names), page)
    self.assertIn("culprit", str(page))
    self.assertEqual(
        page.is_bad, kind in _BAD, "{}\n{}".format(kind, page))
    severity = "bad" if kind in _BAD else "warning"
    self.assertEqual(matching[0].severity, severity)
    if kind in _BAD:
      with self.assertRaises(gf.GradfeedError) as raised:
        gf.gradient(y, x)
      self.assertEqual(raised.exception.why, matching[0].why)
      self.assertEqual(page.verdict, "not differentiable")
    elif kind == "blocked":
      self.assertEqual(page.verdict, "partly differentiable")
    else:
      self.assertEqual(page.verdict, "differentiable")

  @parameterized.named_parameters(_HEALTHY)
  def test_leaves_the_healthy_alone(self, build):
    y, x = build()
    page = gf.explain(y, x)
    self.assertEqual(page.verdict, "differentiable", page)
    self.assertEqual([finding for finding in page.findings
                      if finding.severity != "note"], [], page)
    self.assertFalse(page.is_bad)


class FactsTest(graphs.GraphTest):
  """What is told of a derivative that is as it should be."""

  def _details(self, page, kind):
    return [finding for finding in page.findings if finding.kind == kind]

  def test_e5_second_order_is_a_note(self):
    x = _rows()
    y = tf.nn.softsign(tf.nn.softsign(x, name="culprit"), name="other")
    note, = self._details(gf.explain(y, x), "no_second_derivative")
    self.assertEqual(note.names, ["other", "culprit"])
    self.assertEqual(note.severity, "note")
    with self.assertRaises(gf.MissingGradientError) as raised:
      gf.hvp(y, x, np.ones([2, 2]))
    self.assertEqual(raised.exception.why, note.why)
    self.assertEmpty(self._details(
        gf.explain(tf.tanh(x), x), "no_second_derivative"))

  @parameterized.parameters(
      ("is_training", tf.bool, [], False), ("phase", tf.bool, None, False),
      ("keras_learning_phase", tf.bool, [], False),
      ("keep_prob", tf.float32, [], 1.0), ("dropout_rate", tf.float64, [], 0.0),
      ("labels", tf.int64, [None], None), ("keep", tf.float32, [3], None))
  def test_e3_likely_values(self, name, dtype, shape, value):
    x = _rows()
    asked = tf.placeholder(dtype, shape, name=name)
    other = tf.placeholder(tf.float64, [], name="unused")
    y = x * tf.cast(tf.reduce_any(tf.cast(asked, tf.bool), name="reader"),
                    tf.float64)
    tf.identity(other)
    feed, = self._details(gf.explain(y, x), "feed")
    self.assertEqual(feed.names, [name + ":0"])
    self.assertEqual(feed.details["likely"], value)
    self.assertEqual(feed.details["dtype"], dtype.name)
    self.assertIn(name, feed.what)
    self.assertEqual(
        [t.name for t in gf.function(x, gf.gradient(y, x), tf.Session()).needs],
        feed.names)

  def test_what_is_above_x_is_not_needed(self):
    fed = tf.placeholder(tf.float64, [], name="fed")
    x = tf.tanh(fed * tf.random.uniform([], dtype=tf.float64))
    page = gf.explain(x * x, x)
    self.assertEqual({f.kind for f in page.findings}, {"way"})

  def test_variables_by_kind(self):
    x = _rows()
    for name, kind, use_resource in (("a", "resource", True),
                                     ("b", "ref", False)):
      w = tf.get_variable(name, [2], tf.float64, use_resource=use_resource)
      finding, = self._details(gf.explain(x * w, x), "variables")
      self.assertEqual(finding.details["kinds"], {name: kind})
      page = gf.explain(tf.reduce_mean(x * w), w)
      self.assertEqual(page.verdict, "differentiable")
      self.assertFalse(any(f.severity != "note" for f in page.findings))

  def test_defaults(self):
    x = _number()
    scale = tf.placeholder_with_default(
        tf.constant(2.0, tf.float64), [], name="scale")
    finding, = self._details(gf.explain(x * scale, x), "default")
    self.assertIn("2.0", finding.what)

  def test_blocker_is_told_in_full(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    whole = tf.cast(x, tf.int32, name="whole")
    y = tf.add(tf.cast(whole * 2, tf.float64, name="back"), x)
    finding, = self._details(gf.explain(y, x), "blocked")
    self.assertEqual(finding.names, ["whole", "back"])
    self.assertEqual(
        {key: finding.details[key] for key in (
            "op", "type", "reads", "gives", "nearest", "reason")},
        {"op": "whole", "type": "Cast", "reads": ["float64"],
         "gives": ["int32"], "nearest": "back:0", "reason": "flat"})
    self.assertRegex(finding.details["line"], r"^explanations_test\.py:\d+$")

  def test_lines_of_ops_in_functions_and_none_of_ops_from_files(self):
    x = _number()
    with flows.control_flow(2):
      y = tf.cond(x > 0.0, lambda: tf.round(x), lambda: x, name="y")
    y = tf.identity(y, name="end")
    here, = self._details(gf.explain(y, x), "blocked")
    self.assertRegex(here.details["line"], r"^explanations_test\.py:\d+$")
    self.assertIn("Round", here.what)
    definition = self.graph.as_graph_def()
    with tf.Graph().as_default():
      tf.import_graph_def(definition, name="")
      read, = self._details(gf.explain("end:0", "x:0"), "blocked")
    self.assertEqual(read.details["line"], "")
    self.assertIn("Round", read.what)
    self.assertNotIn(".py", read.what)

  @parameterized.named_parameters(
      ("zeros_like", tf.zeros_like), ("ones_like", tf.ones_like),
      ("shape", lambda h: tf.cast(tf.shape(h)[0], tf.float64)),
      ("size", lambda h: tf.cast(tf.size(h), tf.float64)))
  def test_what_reads_the_shape_alone_blocks_nothing(self, read):
    x = _rows()
    h = tf.tanh(x)
    page = gf.explain(read(h) + h, x)
    self.assertEqual(page.verdict, "differentiable", page)
    self.assertEmpty(self._details(page, "blocked"))

  @parameterized.parameters(1, 2)
  def test_a_loop_without_back_prop(self, flow):
    x = tf.placeholder(tf.float64, [3], name="x")
    with flows.control_flow(flow):
      h = tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a * a),
                        [0, x], back_prop=False)[1]
    if tf.gradients(h, x) != [None]:
      self.skipTest("TF 1.15 takes no notice of it in control flow v2.")
    page = gf.explain(h + x, x)
    finding, = self._details(page, "blocked")
    self.assertIn("back_prop=False", finding.what)
    self.assertIn("back_prop=False", finding.fix)
    self.assertEqual(finding.details["reason"], "hidden")
    self.assertEqual(page.verdict, "partly differentiable")
    stopped = gf.explain(tf.stop_gradient(tf.sin(x)) + x, x)
    self.assertNotIn("back_prop", str(stopped))

  @parameterized.parameters(1, 2)
  def test_a_stop_of_the_users_own_after_a_loop(self, flow):
    x = tf.placeholder(tf.float64, [3], name="x")
    with flows.control_flow(flow):
      h = tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a * a),
                        [0, x])[1]
    finding, = self._details(
        gf.explain(tf.stop_gradient(h) + x, x), "blocked")
    self.assertEqual(finding.details["reason"], "stop")
    self.assertNotIn("back_prop", finding.what + finding.fix)

  def test_stops_are_honoured(self):
    x = _number()
    h = _python(x * x)
    self.assertEqual(gf.explain(h + x, x).verdict, "partly differentiable")
    self.assertEqual(
        gf.explain(h + x, x, stop_gradients=[h]).verdict, "differentiable")

  def test_without_x_takes_the_placeholders_that_reach_y(self):
    x = _rows()
    keep = tf.placeholder(tf.float64, [], name="keep_prob")
    held = tf.placeholder(tf.float64, [], name="held")
    w = tf.get_variable("w", [2], tf.float64)
    y = tf.reduce_sum(x * w * keep + tf.stop_gradient(held))
    self.assertEqual(gf.explain(y).x, ["x:0"])
    self.assertLen(gf.explain(tf.reduce_sum(w * w)).x, 1)
    with self.assertRaisesRegex(gf.ArgumentError, "nothing to differentiate"):
      gf.explain(tf.constant(1.0))

  def test_what_an_iterator_gives_is_a_candidate_and_a_feed(self):
    dataset = tf.data.Dataset.from_tensors(
        (np.ones([2]), np.ones([2]), np.ones([2], np.int64), np.ones([2]), 3))
    image, weights, label, target, _ = tf.data.make_one_shot_iterator(
        dataset).get_next()
    w = tf.get_variable("w", [2], tf.float64)
    y = tf.reduce_sum((image * w - target) * tf.cast(label, tf.float64) +
                      tf.stop_gradient(weights), name="y")
    self.assertEqual(gf.explain(y).x, [image.name, target.name])
    page = gf.explain(y, image)
    waiting, = self._details(page, "waiting")
    read = [t.name for t in (weights, label, target)]
    self.assertEqual(waiting.details["feeds"], read)
    for name in read:
      self.assertIn(name, waiting.fix)
    self.assertNotIn(image.name, waiting.fix)

  @parameterized.parameters(True, False)
  def test_an_assignment_by_which_x_reaches_y(self, use_resource):
    x = _number()
    v = tf.get_variable("v", [], tf.float64, use_resource=use_resource)
    y = tf.assign(v, x * x, name="culprit") * 3.0 + x
    page = gf.explain(y, x)
    self.assertEqual(page.verdict, "partly differentiable")
    finding, = self._details(page, "assigning")
    self.assertIn("no gradient passes from there", finding.why)

  @parameterized.parameters(True, False)
  def test_an_assignment_that_y_only_waits_for(self, use_resource):
    x = _number()
    v = tf.get_variable("v", [], tf.float64, use_resource=use_resource)
    update = tf.assign(v, x * x)
    with tf.control_dependencies([update]):
      y = x * x
    page = gf.explain(y, x)
    self.assertEqual(page.verdict, "differentiable", page)
    finding, = self._details(page, "assigning")
    self.assertNotIn("no gradient passes from there", finding.why)

  @parameterized.parameters(True, False)
  def test_x_and_y_may_be_anything(self, use_resource):
    x = _rows()
    w = tf.get_variable("w", [2], tf.float64, use_resource=use_resource)
    parts = tf.get_variable(
        "parts", [4], tf.float64, use_resource=use_resource,
        partitioner=tf.fixed_size_partitioner(2))
    sparse = tf.sparse_placeholder(tf.float64, [2, 2])
    y = tf.reduce_sum(x * w, name="y") + tf.reduce_sum(
        tf.concat(list(parts), 0)) + tf.reduce_sum(sparse.values)
    y = tf.identity(y, name="end")
    page = gf.explain(["end:0", {"a": y}], {"x": [x, "w"], "b": (
        parts, sparse, w)} if not use_resource else {"x": [x], "b": (
            parts, sparse, w)})
    self.assertEqual(page.verdict, "differentiable", page)
    for other in (w, parts, sparse):
      self.assertEqual(gf.explain(y, other).verdict, "differentiable")

  def test_the_input_that_has_no_gradient(self):
    y, x = _s5_betainc()
    finding, = self._details(gf.explain(y, x), "blocked")
    self.assertIn("passes no gradient to 'x:0'", finding.what)

  def test_the_way_that_is_shown_has_a_gradient(self):
    x = _number()
    y = tf.add(tf.round(x, name="short"), tf.tanh(tf.sin(x)), name="y")
    way, = self._details(gf.explain(y, x), "way")
    self.assertEqual(way.names, ["x", "Sin", "Tanh", "y"])
    self.assertEqual(way.details["ops"], 2)

  def test_y_is_not_advised_for_x(self):
    x = _rows()
    y = tf.cast(tf.argmax(x, 1), tf.float64, name="y")
    page = gf.explain(y, x)
    self.assertIsNone(page.findings[0].details["nearest"])
    self.assertNotIn("Differentiate by", str(page))

  def test_other_graphs_are_refused(self):
    x = _number()
    with tf.Graph().as_default():
      y = tf.placeholder(tf.float64, [])
    with self.assertRaises(gf.GraphMismatchError):
      gf.explain(y, x)

  def test_both_are_made_of_what_is_no_number(self):
    image = tf.placeholder(tf.uint8, [2], name="image")
    model = tf.cast(image, tf.float32, name="model")
    x = tf.cast(image, tf.float32, name="other")
    page = gf.explain(tf.reduce_sum(model * model), x)
    self.assertEqual(page.findings[0].details["nearest"], "model:0")
    self.assertIn("'image:0'", page.findings[0].why)

  def test_finalized_graphs_and_repeated_calls(self):
    x = _rows()
    y = tf.reduce_sum(tf.nn.softsign(x))
    self.graph.finalize()
    self.assertEqual(str(gf.explain(y, x)), str(gf.explain(y, x)))


class PageTest(graphs.GraphTest):
  """The page is short whatever there is; the data has everything."""

  def _crowd(self, count):
    x = _number()
    y = tf.add_n([_python(x * i, "python") for i in range(count)] + [x] + [
        tf.placeholder(tf.float64, [], name="given") for _ in range(count)])
    return gf.explain(y, x)

  def test_one_screen(self):
    page = self._crowd(50)
    lines = str(page).split("\n")
    self.assertLessEqual(len(lines), 40)
    self.assertLessEqual(max(map(len, lines)), 79)
    self.assertTrue(lines[0].startswith("partly differentiable: "))
    self.assertIn("And 47 more of this kind", str(page).replace("\n   ", " "))
    data = json.loads(page.to_json())
    self.assertLen([f for f in data["findings"] if f["kind"] == "blocked"], 50)
    self.assertLen([f for f in data["findings"] if f["kind"] == "feed"], 50)
    self.assertEqual(data["verdict"], "partly differentiable")
    self.assertEqual((data["x"], data["findings"][0]["severity"]),
                     (["x:0"], "warning"))
    self.assertLen([n for n in data["way"]["nodes"]
                    if n["state"] == "blocks"], 50)

  def test_pictures_stay_small(self):
    page = self._crowd(50)
    self.assertLess(page.to_dot().count("[label="), 40)
    self.assertLess(page.to_html().count("<rect"), 40)

  def test_the_graph_can_be_forgotten(self):
    import gc  # pylint: disable=g-import-not-at-top
    import weakref  # pylint: disable=g-import-not-at-top
    with tf.Graph().as_default() as graph:
      x = _number()
      page = gf.explain(x * x, x)
    graph_reference = weakref.ref(graph)
    del graph, x
    gc.collect()
    self.assertIsNone(graph_reference())
    self.assertIn("Mul", page.to_dot())

  @parameterized.parameters(("partly",), ("good",), ("none",))
  def test_golden(self, name):
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    labels = tf.placeholder(tf.float64, [None], name="labels")
    w = tf.get_variable("w", [2, 1], tf.float64, use_resource=False)
    h = tf.matmul(x, w, name="h")
    if name == "partly":
      h = tf.multiply(h, tf.round(h, name="rounded"), name="product")
      y = tf.reduce_mean(tf.square(tf.subtract(h, labels, name="error")),
                         name="loss")
    elif name == "good":
      keep = tf.placeholder(tf.float64, [], name="keep_prob")
      y = tf.reduce_sum(tf.nn.relu(h * keep, name="out"), name="y")
    else:
      y = tf.reduce_sum(tf.square(h), name="y")
      x = tf.identity(x, name="copy")
    text = str(gf.explain(y, x)) + "\n"
    text = re.sub(r"explanations_test\.py:\d+", "explanations_test.py:N", text)
    with open(os.path.join(_FOLDER, "golden", name + ".txt"),
              encoding="utf-8") as golden:
      self.assertEqual(text, golden.read())


#: Path, y, x of the models that are there.
_REAL = [
    ("darkon/model-0.meta", "fc1/Add:0", "x_placeholder:0"),
    ("dl4j_bidir64/frozen_model.pb", "concat:0", "in_0:0"),
    ("dl4j_case/frozen_model.pb", "case/cond/Merge:0", "in_0:0"),
    ("kws_dnn_s/DNN_S.pb", "add:0", "Mfcc:0"),
    ("kws_ds_cnn_s/DS_CNN_S.pb", "MobileNet/fc1/BiasAdd:0", "Mfcc:0"),
    ("kws_gru_s/GRU_S.pb", "Output-Layer/add:0", "Mfcc:0"),
    ("mlnet_cifar_model/model.ckpt.meta", "add_1:0", "Input:0"),
    ("mlnet_cifar_saved_model", "add_1:0", "Input:0"),
    ("serving_half_plus_three/00000123", "y:0", "x:0"),
    ("t2o_lstm/frozen.pb", "output:0", "X:0"),
    ("t2o_regression/checkpoint/model.meta", "pred:0", "X:0")]


class RealModelsTest(parameterized.TestCase):

  def test_no_false_alarm(self):
    there = [real for real in _REAL
             if os.path.exists(os.path.join(_MODELS, real[0]))]
    for path, y, x in there:
      with gf.load(os.path.join(_MODELS, path)) as model:
        before = model.graph.version
        page = gf.explain(*map(model.graph.get_tensor_by_name, (y, x)))
        self.assertEqual(model.graph.version, before)
      self.assertEqual(page.verdict, "differentiable", page)
      self.assertEqual(
          [f for f in page.findings if f.severity != "note"], [], page)
      self.assertIn("<svg", page.to_html())
