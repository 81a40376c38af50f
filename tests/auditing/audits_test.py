"""Programs with one fault each, which is found by its line; and healthy ones.
"""

import json
import linecache
import sys

import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from tests.testing import graphs


def _network():
  x = tf.placeholder(tf.float32, [None, 3], name="x")
  y = tf.matmul(x, tf.constant(np.eye(3, 4), tf.float32), name="logits")
  return x, y * y


_ROWS = np.ones([2, 3], np.float32)


class AuditTest(graphs.GraphTest):

  def assert_found(self, report, kind, marker):
    """Asserts that one finding is of `kind`, at the line with `# marker`."""
    found = [f for f in report.findings if f.kind == kind]
    self.assertLen(found, 1, str(report))
    self.assertIn("# " + marker, linecache.getline(
        found[0].details["file"], found[0].details["line"]))
    self.assertIn("audits_test.py:", str(report))
    return found[0]

  def assert_silent(self, report):
    self.assertEqual(
        [f for f in report.findings if f.severity != "note"], [])
    self.assertEqual(report.verdict, "nothing to mend")

  def test_built_in_a_loop(self):
    x, y = _network()
    with gf.audit() as report:
      for _ in range(4):
        dx, = tf.gradients(y, x)  # build
        got = self.session.run(dx, {x: _ROWS})  # run
    np.testing.assert_array_equal(got, 2 * _ROWS)
    built = self.assert_found(report, "built_in_loop", "build")
    self.assertEqual(built.details["count"], 4)
    grown = self.assert_found(report, "graph_grows", "run")
    self.assertEqual(grown.details["steps"], 3)
    self.assertEqual(grown.details["ops"] * 4, built.details["ops"] * 3)
    self.assertRegex(grown.details["made_at"], r"audits_test.py:\d+")

  def test_one_op_for_each_class(self):
    x, y = _network()
    with gf.audit() as report:
      rows = [tf.gradients(y[:, k], x)[0] for k in range(4)]  # build
      self.session.run(rows, {x: _ROWS})
    found = self.assert_found(report, "one_op_per_class", "build")
    self.assertEqual(found.details["count"], 4)

  def test_one_run_for_each_example(self):
    x, y = _network()
    dx, = tf.gradients(y, x)
    with gf.audit() as report:
      for row in np.ones([9, 3]):
        self.session.run(dx, {x: row[None]})  # run
    found = self.assert_found(report, "one_run_per_example", "run")
    self.assertEqual(found.details["count"], 9)

  def test_feed_that_nothing_depends_on(self):
    x, y = _network()
    other = tf.exp(x)
    with gf.audit() as report:
      self.session.run(y, {x: _ROWS, other: _ROWS})  # run
    self.assert_found(report, "ignored_feed", "run")

  def test_feed_that_is_folded(self):
    h = tf.constant(3.0) * 3.0
    y = tf.exp(-h)
    with gf.audit() as report:
      self.session.run(y, {h: 0.0})  # run
    if _tf.IS_TF2:
      self.assert_found(report, "ignored_feed", "run")

  def test_none(self):
    x, y = _network()
    with gf.audit() as report:
      none, = tf.gradients(tf.floor(y), x)  # build
    found = self.assert_found(report, "none", "build")
    self.assertEqual((found.severity, found.details["xs"]), ("note", ["x:0"]))
    with self.assertRaises(TypeError), gf.audit() as report:
      none, = tf.gradients(tf.floor(y), x)  # build
      self.session.run([y, none], {x: _ROWS})
    self.assertEqual(
        self.assert_found(report, "none", "build").severity, "bad")

  def test_healthy_training(self):
    x, y = _network()
    w = graphs.variable("w", np.ones(3), True)
    loss = tf.reduce_sum(tf.cast(x, tf.float64) * w)
    dx, = tf.gradients(y, x)
    step = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    with gf.audit() as report:
      self.initialize()
      for _ in range(12):
        self.session.run(dx, {x: _ROWS})
        self.session.run(step, {x: _ROWS[:1]})  # SGD with batches of one.
    self.assert_silent(report)
    np.testing.assert_allclose(self.session.run(w), 1 - 12 * 0.1)

  def test_gone_names(self):
    with gf.audit([__file__]) as report:
      pass
    found, = report.findings
    self.assertEqual(found.kind, "gone_names")
    self.assertIn("tf.placeholder", found.details["names_by_line"])
    self.assertNotIn("tf.exp", found.details["names_by_line"])

  def test_share_and_saving(self):
    x, y = _network()
    with gf.audit() as report:
      with tf.Session() as session:
        dx, = tf.gradients(y, x)
        for _ in range(3):
          session.run(dx, {x: _ROWS})  # run
          session.run(y, {x: _ROWS})
        ops = self.count()
    self.assertEqual(self.count(), ops)
    self.assert_found(report, "saving", "run")
    self.assertBetween(report.gradient_seconds, 1e-9, report.run_seconds)
    self.assertLess(report.run_seconds, report.seconds)

  def test_what_draws_or_assigns_is_not_run_again(self):
    x, y = _network()
    v = tf.Variable(0.0, use_resource=True)
    dx, = tf.gradients(y * tf.random_uniform([]), x)
    with tf.control_dependencies([v.assign_add(1.0)]):
      counted = tf.identity(tf.gradients(y, x)[0])
    self.initialize()
    with gf.audit() as report:
      self.session.run(dx, {x: _ROWS})
      self.session.run(counted, {x: _ROWS})
    self.assertNotIn("saving", [f.kind for f in report.findings])
    self.assertEqual(self.session.run(v), 1.0)

  def test_nothing_is_left(self):
    before = (tf.gradients, tf.hessians, _tf.BaseSession.run,
              _tf.BaseSession.close, list(sys.meta_path))
    with self.assertRaises(KeyError), gf.audit() as report:
      self.assertEqual(report.verdict, "watching")
      self.assertIsNot(tf.gradients, before[0])
      raise KeyError
    self.assertEqual(
        (tf.gradients, tf.hessians, _tf.BaseSession.run,
         _tf.BaseSession.close, list(sys.meta_path)), before)
    self.assertEqual(report.verdict, "nothing to mend")

  def test_not_with_install(self):
    with gf.audit():
      for refused in (gf.install, gf.patched().__enter__, gf.audit().__enter__):
        with self.assertRaisesRegex(gf.ArgumentError, "audit"):
          refused()
    with gf.patched(), self.assertRaisesRegex(gf.ArgumentError, "uninstall"):
      with gf.audit():
        pass
    with self.assertRaisesRegex(gf.ArgumentError, "list of paths"):
      with gf.audit("train.py"):
        pass

  def test_forms(self):
    x, y = _network()
    with gf.audit() as report:
      self.session.run(y, {x: _ROWS, y[0]: _ROWS[0, :1].repeat(4)})
    data = json.loads(report.to_json())
    self.assertEqual(data["verdict"], "to mend")
    self.assertEqual(data["findings"][0]["kind"], "ignored_feed")
    self.assertIn("ignored", report.to_html())
    self.assertNotIn("From x to y", report.to_html())
