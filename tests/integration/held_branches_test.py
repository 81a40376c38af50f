"""A held value decides a branch: the other branch does not count.

Each network is built with a flag that is fed and, beside it, with the flag as a
Python bool, with the same weights; its derivatives are the expected numbers.
"""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from gradfeed.analysis import row_dependence
from gradfeed.evaluation.inputs import feed_dicts
from gradfeed.graph import traversal
from tests.testing import flows
from tests.testing import graphs

_X = np.array([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]])


def _either(flag, true, false):
  """`tf.cond`, or one of both for a Python bool."""
  if isinstance(flag, bool):
    return true() if flag else false()
  return tf.cond(flag, true, false)


def _updated_in_place(x, flag, reuse):
  """Batch normalisation as contrib.layers has it, with in-place updates."""
  with tf.variable_scope("bn", reuse=reuse):
    mean = graphs.variable("mean", [0.5, -0.25], True)
    variance = graphs.variable("variance", [1.5, 0.75], True)

  def training():
    m, v = tf.nn.moments(x, [0])
    updates = [tf.assign(mean, 0.9 * mean + 0.1 * m),
               tf.assign(variance, 0.9 * variance + 0.1 * v)]
    with tf.control_dependencies(updates):
      return tf.identity(m), tf.identity(v)

  m, v = _either(flag, training,
                 lambda: (tf.identity(mean), tf.identity(variance)))
  h = tf.nn.batch_normalization(x, m, v, None, None, 1e-3)
  return tf.reduce_sum(tf.tanh(h) ** 2, 1)


def _updated_references(x, flag, reuse):
  """The same with a reference variable and a nested branch."""
  with tf.variable_scope("ref", reuse=reuse):
    mean = graphs.variable("mean", [0.5, -0.25], False)

  def training():
    m = tf.reduce_mean(x, 0)
    with tf.control_dependencies([tf.assign(mean, m)]):
      return tf.cond(tf.reduce_sum(m) > 0., lambda: m * 2., lambda: m)

  h = x - _either(flag, training, lambda: _either(
      flag, training, lambda: tf.identity(mean)))
  return tf.reduce_sum(h ** 3, 1)


def _layers(x, flag, reuse):
  """tf.layers.batch_normalization, as far as this TensorFlow has it."""
  with tf.variable_scope("layer", reuse=reuse):
    gamma = graphs.variable("gamma", [1.5, -0.5], True)
    mean = graphs.variable("mean", [0.1, 0.2], True)
  batch = lambda: tf.nn.moments(x, [0])[0]
  h = (x - _either(flag, batch, lambda: tf.identity(mean))) * gamma
  return tf.reduce_sum(tf.sin(h), 1)


def _dropout(x, flag, reuse):
  del reuse
  h = _either(flag, lambda: x * tf.floor(tf.random_uniform(
      tf.shape(x), dtype=tf.float64) + 0.5), lambda: x * 1.0)
  return tf.reduce_sum(tf.exp(h), 1)


def _in_a_loop(x, flag, reuse):
  """A branch in a loop, whose predicate is the same at each turn."""
  with tf.variable_scope("loop", reuse=reuse):
    count = graphs.variable("count", 1.0, True)

  def counted(v):
    with tf.control_dependencies([tf.assign_add(count, 1.0)]):
      return v * count

  turn = lambda i, v: (i + 1, tf.sin(v) + _either(
      flag, lambda: counted(v), lambda: 0.5 * v))
  return tf.reduce_sum(tf.while_loop(lambda i, v: i < 3, turn, (0, x))[1], 1)


_NETWORKS = {"updated_in_place": _updated_in_place, "layers": _layers,
             "updated_references": _updated_references, "dropout": _dropout,
             "in_a_loop": _in_a_loop}

#: Flags: function from nothing to (flag, feeds that make it False).
_FLAGS = {
    "placeholder": lambda: _fed(tf.placeholder(tf.bool, []), False),
    "not": lambda: _of(tf.placeholder(tf.bool, []), True, tf.logical_not),
    "default": lambda: (tf.placeholder_with_default(False, []), {}),
    "constant": lambda: (tf.constant(False), {}),
    "and_unknown": lambda: _of(
        tf.placeholder(tf.bool, []), False, lambda t: tf.logical_and(
            tf.reduce_sum(tf.random_uniform([3])) > 1.0, t)),
    "integer": lambda: _of(tf.placeholder(tf.int32, []), 0,
                           lambda t: tf.equal(t, 1)),
    "phase": lambda: _of(tf.placeholder(tf.int32, []), 0,
                         lambda t: tf.cast(t, tf.bool)),
    "string": lambda: _of(tf.placeholder(tf.string, []), b"eval",
                          lambda t: tf.equal(t, b"train")),
    "within": lambda: _of(tf.placeholder(tf.bool, []), False,
                          lambda t: tf.cond(t, lambda: t, lambda: False)),
}


def _fed(flag, value):
  return flag, {flag: value}


def _of(source, value, compute):
  return compute(source), {source: value}


def _cases():
  for version in (1, 2):
    for name in sorted(_NETWORKS):
      if name == "updated_references" and version == 2:
        continue  # Functions capture no references.
      if name == "in_a_loop" and version == 2 and not _tf.IS_TF2:
        continue  # TF 1 cannot differentiate an update in a loop.
      yield "{}_v{}".format(name, version), name, "placeholder", version
    for flag in sorted(_FLAGS):
      yield ("{}_v{}".format(flag, version), "updated_in_place", flag, version)


class HeldBranchesTest(graphs.GraphTest):

  def _build(self, network, flag, version):
    """x, y with a flag that is fed, y with False, and the feeds."""
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    with flows.control_flow(version):
      fed, feeds = _FLAGS[flag]()
      y = _NETWORKS[network](x, fed, False)
      expected = _NETWORKS[network](x, False, True)
      self._dx = tf.gradients(expected, x)[0]
    self.initialize()
    return x, y, expected, feeds

  def _expected(self, x):
    return self.session.run(self._dx, {x: _X})

  @parameterized.named_parameters(*_cases())
  def test_gradient(self, network, flag, version):
    x, y, expected, feeds = self._build(network, flag, version)
    before = self.session.run(tf.global_variables())
    f = gf.function(x, gf.value_and_gradient(y, x), feed_dict=feeds)
    self.assertEmpty(f.needs)
    value, dx = f(_X)
    np.testing.assert_allclose(
        value, self.session.run(expected, {x: _X}), 1e-12)
    np.testing.assert_allclose(dx, self._expected(x), 1e-12)
    self.assertEqual(
        list(map(np.ndarray.tolist, map(np.asarray, before))),
        list(map(np.ndarray.tolist, map(np.asarray, self.session.run(
            tf.global_variables())))))

  @parameterized.named_parameters(*_cases())
  def test_check(self, network, flag, version):
    x, y, _, feeds = self._build(network, flag, version)
    report = gf.check(y, x, _X, feed_dict=feeds)
    self.assertEqual(report.verdict, "right", str(report))
    self.assertNotIn("random", [finding.kind for finding in report.findings])

  @parameterized.named_parameters(("v1", 1), ("v2", 2))
  def test_other_value_in_a_call(self, version):
    x, y, expected, feeds = self._build(
        "updated_in_place", "placeholder", version)
    flag, = feeds
    f = gf.function(x, gf.gradient(y, x), feed_dict=feeds)
    for _ in range(2):
      with self.assertRaises(gf.AssignmentError):
        f(_X, feed_dict={flag: True})
      np.testing.assert_allclose(
          f(_X, feed_dict={flag: np.array(False)}),
          self._expected(x), 1e-12)
    with self.assertRaises(gf.AssignmentError):
      gf.function(x, gf.gradient(y, x), feed_dict={flag: True})
    with self.assertRaises(gf.AssignmentError):
      gf.function([x, flag], gf.gradient(y, x))
    with self.assertRaises(gf.FeedError):
      f(_X, feed_dict={flag: "no bool"})
    with self.assertRaises(gf.AssignmentError):
      gf.check(y, x, _X, feed_dict={flag: True})

  @parameterized.named_parameters(("v1", 1), ("v2", 2))
  def test_default_counts_unless_it_is_fed(self, version):
    x = tf.placeholder(tf.float64, [None, 2])
    flag = tf.placeholder_with_default(False, [])
    with flows.control_flow(version):
      y = _updated_in_place(x, flag, False)
    self.initialize()
    dx = gf.gradient(y, x)
    f = gf.function(x, dx)
    f(_X)
    with self.assertRaises(gf.AssignmentError):
      f(_X, feed_dict={flag: True})
    with self.assertRaises(gf.AssignmentError):
      gf.function([x, flag], dx)

  @parameterized.named_parameters(("v1", 1), ("v2", 2))
  def test_placeholder_of_the_other_branch_alone(self, version):
    x = tf.placeholder(tf.float64, [None, 2])
    labels = tf.placeholder(tf.int32, [None])
    flag = tf.placeholder(tf.bool, [])
    with flows.control_flow(version):
      one_hot = tf.one_hot(labels, 2, dtype=tf.float64)
      y = tf.cond(flag, lambda: tf.reduce_sum(one_hot * x, 1),
                  lambda: tf.reduce_sum(x ** 2, 1))
    f = gf.function(x, gf.gradient(y, x), feed_dict={flag: False})
    self.assertEmpty(f.needs)
    np.testing.assert_allclose(f(_X), 2 * _X)
    np.testing.assert_allclose(f(_X, feed_dict={labels: [1, 0, 1]}), 2 * _X)
    np.testing.assert_allclose(
        f(_X, feed_dict={flag: True, labels: [1, 0, 1]}),
        [[0, 1], [1, 0], [0, 1]])
    with self.assertRaises(gf.MissingFeedError):
      f(_X, feed_dict={flag: True})
    report = gf.check(y, x, _X, feed_dict={flag: False})
    self.assertEqual(report.verdict, "right", str(report))

  @parameterized.named_parameters(("v1", 1), ("v2", 2))
  def test_assignment_outside_for_the_other_branch_alone(self, version):
    x = tf.placeholder(tf.float64, [2])
    flag = tf.placeholder(tf.bool, [])
    v = graphs.variable("v", 3.0, True)
    with flows.control_flow(version):
      changed = tf.identity(tf.assign_add(v, 1.0))
      y = x ** 2 * tf.cond(flag, lambda: changed * 2.0,
                           lambda: tf.constant(5.0, tf.float64))
    self.initialize()
    f = gf.function(x, gf.gradient(y, x), feed_dict={flag: False})
    np.testing.assert_allclose(f([1.0, 2.0]), [10.0, 20.0])
    self.assertEqual(self.session.run(v), 3.0)
    with self.assertRaises(gf.AssignmentError):
      f([1.0, 2.0], feed_dict={flag: True})

  @parameterized.named_parameters(
      ("ref_v1", 1, False), ("resource_v1", 1, True), ("resource_v2", 2, True))
  def test_variable_of_the_other_branch_alone(self, version, use_resource):
    if version == 2 and not _tf.IS_TF2:
      self.skipTest("The gradient of TF 1 reads the shape of the variable.")
    x = tf.placeholder(tf.float64, [2])
    flag = tf.placeholder(tf.bool, [])
    v = graphs.variable("v", 3.0, use_resource)
    with flows.control_flow(version):
      y = tf.cond(flag, lambda: x * v, lambda: x ** 2)
    f = gf.function(x, gf.gradient(y, x), feed_dict={flag: False})
    np.testing.assert_allclose(f([1.0, 2.0]), [2.0, 4.0])
    with self.assertRaises(gf.UninitializedError):
      f([1.0, 2.0], feed_dict={flag: True})

  def test_reference_that_the_other_branch_assigns(self):
    x = tf.placeholder(tf.float64, [2])
    flag = tf.placeholder(tf.bool, [])
    v = graphs.variable("v", 3.0, False)
    w = graphs.variable("w", 4.0, False)
    with flows.control_flow(1):
      y = tf.cond(flag, lambda: x * tf.assign_add(v, w), lambda: x ** 2)
    f = gf.function(x, gf.gradient(y, x), feed_dict={flag: False})
    np.testing.assert_allclose(f([1.0, 2.0]), [2.0, 4.0])
    self.initialize()
    with self.assertRaises(gf.AssignmentError):
      f([1.0, 2.0], feed_dict={flag: True})

  @parameterized.named_parameters(("v1", 1), ("v2", 2))
  def test_a_layer_in_the_middle(self, version):
    x = tf.placeholder(tf.float64, [None, 2])
    flag = tf.placeholder(tf.bool, [])
    h = tf.sin(x)
    with flows.control_flow(version):
      y = _updated_in_place(h, flag, False)
      expected = _updated_in_place(h, False, True)
    self.initialize()
    f = gf.function(h, gf.gradient(y, h), feed_dict={flag: False})
    np.testing.assert_allclose(f(_X), self.session.run(
        tf.gradients(expected, h)[0], {h: _X}), 1e-12)

  @parameterized.named_parameters(("v1", 1), ("v2", 2))
  def test_case_and_switch_case(self, version):
    x = tf.placeholder(tf.float64, [2])
    mode = tf.placeholder(tf.int32, [])
    v = graphs.variable("v", 3.0, True)

    def update():
      with tf.control_dependencies([tf.assign_add(v, 1.0)]):
        return x * v

    with flows.control_flow(version):
      y = tf.case([(tf.equal(mode, 0), update), (mode > 4, lambda: x ** 3)],
                  default=lambda: x ** 2)
      z = tf.switch_case(mode, [update, lambda: x ** 2, update],
                         default=lambda: x ** 3)
    self.initialize()
    for value, power in ((2, 2), (7, 3)):
      f = gf.function(x, gf.gradient(y, x), feed_dict={mode: value})
      np.testing.assert_allclose(
          f([1.0, 2.0]), power * np.array([1.0, 2.0]) ** (power - 1))
    for value, power in ((1, 2), (9, 3), (-4, 3)):
      f = gf.function(x, gf.gradient(z, x), feed_dict={mode: value})
      np.testing.assert_allclose(
          f([1.0, 2.0]), power * np.array([1.0, 2.0]) ** (power - 1))
    for tensor in (y, z):
      with self.assertRaises(gf.AssignmentError):
        gf.function(x, gf.gradient(tensor, x), feed_dict={mode: 0})

  def test_function_that_takes_the_flag(self):
    if not _tf.IS_TF2:
      self.skipTest("tf.function with variables of a graph.")
    x = tf.placeholder(tf.float64, [2])
    flag = tf.placeholder(tf.bool, [])
    v = graphs.variable("v", 3.0, True)

    @tf.function(autograph=False)
    def inner(a, train):
      def update():
        v.assign_add(1.0)
        return a * v
      return tf.cond(train, update, lambda: a ** 2)

    outer = tf.function(lambda a, train: inner(a, tf.logical_not(train)),
                        autograph=False)
    with flows.control_flow(2):
      y = outer(x, flag)
    self.initialize()
    f = gf.function(x, gf.gradient(y, x), feed_dict={flag: True})
    np.testing.assert_allclose(f([1.0, 2.0]), [2.0, 4.0])
    self.assertEqual(self.session.run(v), 3.0)
    with self.assertRaises(gf.AssignmentError):
      f([1.0, 2.0], feed_dict={flag: False})

  def test_calls_stay_fast_and_few_values_are_kept(self):
    x = tf.placeholder(tf.float64, [2])
    step = tf.placeholder(tf.int32, [])
    y = tf.cond(step > 100, lambda: x ** 3, lambda: x ** 2)
    f = gf.function(x, gf.gradient(y, x), feed_dict={step: 0})
    f([1.0, 2.0])
    count = self.count()
    for i in range(80):
      f([1.0, 2.0], feed_dict={step: i})
    self.assertEqual(self.count(), count)
    np.testing.assert_allclose(f([1.0, 2.0], feed_dict={step: 101}),
                               [3.0, 12.0])


class OneBranchAtATimeTest(graphs.GraphTest):

  def test_loops_are_not_decided(self):
    x = tf.placeholder(tf.float64, [])
    turns = tf.placeholder(tf.int32, [])
    with flows.control_flow(1):
      y = tf.while_loop(lambda i, v: i < turns, lambda i, v: (i + 1, v * x),
                        (0, tf.constant(1.0, tf.float64)))[1]
    f = gf.function(x, gf.gradient(y, x), feed_dict={turns: 3})
    self.assertAlmostEqual(float(f(2.0)), 12.0)
    self.assertAlmostEqual(float(f(2.0, feed_dict={turns: 0})), 0.0)


class ExplainTest(graphs.GraphTest):

  def _report(self, version, feeds):
    x = tf.placeholder(tf.float64, [None, 2], name="x")
    train = tf.placeholder(tf.bool, [], name="is_training")
    noise = tf.placeholder(tf.float64, [2], name="noise")
    mean = graphs.variable("mean", [0.5, -0.25], True)

    def training():
      m = tf.reduce_mean(tf.floor(x) + x, 0) + noise + tf.random_uniform(
          [2], dtype=tf.float64)
      with tf.control_dependencies([tf.assign(mean, m)]):
        return tf.identity(m)

    with flows.control_flow(version):
      h = x - tf.cond(train, training, lambda: tf.identity(mean))
    y = tf.reduce_sum(h ** 2, 1)
    count = self.count()
    report = gf.explain(y, x, feed_dict=None if feeds is None else {
        train: feeds})
    self.assertEqual(self.count(), count)
    return report

  def _kinds(self, report):
    return {finding.kind for finding in report.findings}

  @parameterized.named_parameters(("v1", 1), ("v2", 2))
  def test_only_the_branch_that_is_taken(self, version):
    report = self._report(version, False)
    self.assertEqual(report.verdict, "differentiable", str(report))
    self.assertNoCommonElements(
        self._kinds(report), ["random", "assigning", "coupled", "feed"])
    self.assertIn("way", self._kinds(report))

  @parameterized.named_parameters(
      ("v1_unknown", 1, None), ("v2_unknown", 2, None),
      ("v1_true", 1, True), ("v2_true", 2, True))
  def test_the_branch_counts(self, version, value):
    report = self._report(version, value)
    self.assertEqual(report.verdict, "partly differentiable", str(report))
    self.assertContainsSubset(
        ["random", "assigning", "coupled", "feed", "way"], self._kinds(report))

  def test_refuses_what_is_no_value(self):
    with self.assertRaises(gf.FeedError):
      self._report(1, "no bool")

  @parameterized.named_parameters(("v1", 1), ("v2", 2))
  def test_default_is_known_only_where_feeds_are(self, version):
    x = tf.placeholder(tf.float64, [None, 2])
    flag = tf.placeholder_with_default(False, [])
    with flows.control_flow(version):
      y = _updated_in_place(x, flag, False)
    self.assertIn("assigning", self._kinds(gf.explain(y, x)))
    self.assertNotIn("assigning", self._kinds(gf.explain(y, x, feed_dict={})))


class RowsTest(graphs.GraphTest):

  def _network(self, version, flag):
    x = tf.placeholder(tf.float64, [None, 2])
    gamma = graphs.variable("gamma", [1.5, -0.5], True)
    with flows.control_flow(version):
      m = tf.cond(flag, lambda: tf.nn.moments(x, [0])[0],
                  lambda: tf.constant([0.1, 0.2], tf.float64))
    y = tf.sin((x - m) * gamma)
    self.initialize()
    m = np.array([0.1, 0.2])
    slopes = np.cos((_X - m) * [1.5, -0.5]) * [1.5, -0.5]
    return x, y, slopes

  @parameterized.named_parameters(("v1", 1), ("v2", 2))
  def test_batch_jacobian(self, version):
    flag = tf.placeholder(tf.bool, [])
    x, y, slopes = self._network(version, flag)
    f = gf.function(x, gf.batch_jacobian(y, x), feed_dict={flag: False})
    np.testing.assert_allclose(
        f(_X), [np.diag(row) for row in slopes], 1e-12)
    with self.assertRaises(gf.CoupledRowsError):
      f(_X, feed_dict={flag: True})

  @parameterized.named_parameters(("v1", 1), ("v2", 2))
  def test_second_derivatives(self, version):
    flag = tf.placeholder(tf.bool, [])
    x, y, _ = self._network(version, flag)
    factors = np.array([1.5, -0.5])
    second = -np.sin((_X - [0.1, 0.2]) * factors) * factors ** 2
    f = gf.function(x, [gf.hessian(y, x), gf.hvp(y, x, tf.ones_like(x))],
                    feed_dict={flag: False})
    hessian, product = f(_X)
    np.testing.assert_allclose(
        hessian.reshape(6, 6), np.diag(second.ravel()), 1e-12)
    np.testing.assert_allclose(product, second, 1e-12)

  @parameterized.named_parameters(("v1", 1), ("v2", 2))
  def test_in_chunks(self, version):
    flag = tf.placeholder(tf.bool, [])
    x, y, _ = self._network(version, flag)
    f = gf.function(x, y, chunk=1, feed_dict={flag: False})
    np.testing.assert_allclose(
        f(_X), np.sin((_X - [0.1, 0.2]) * [1.5, -0.5]), 1e-12)
    with self.assertRaises(gf.CoupledRowsError):
      f(_X, feed_dict={flag: True})

  def test_rows_are_proven_by_the_branch_that_is_taken(self):
    flag = tf.placeholder(tf.bool, [])
    x, y, _ = self._network(1, flag)
    verdicts = []
    for value in (False, True):
      f = gf.function(x, y, feed_dict={flag: value})
      ops = traversal.ancestors([y], {x.name})
      verdicts.append(row_dependence.coupling(
          [y], x, ops, feed_dicts.folded([y], ops, f.inputs, f.held))[0])
    self.assertEqual(verdicts, ["independent", "coupled"])
