"""minimize: closed forms, and what happens to the variables."""

import builtins
import io
import re
import sys

from absl.testing import parameterized
import numpy as np
from scipy import optimize
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import graphs

#: Of every kind: with the gradient, Hessian products, Hessians, or none.
_METHODS = ("L-BFGS-B", "CG", "BFGS", "TNC", "SLSQP", "Newton-CG", "trust-ncg",
            "trust-exact", "Nelder-Mead")


class Terminal(io.StringIO):

  def isatty(self):
    return True


class MinimizeTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    random = np.random.RandomState(0)
    self.a, self.b = random.normal(size=[6, 3]), random.normal(size=6)

  def problem(self, use_resource, dtype=tf.float64):
    """Least squares in a matrix of [2, 1] and a scalar, and the solution."""
    self.w = tf.get_variable("w", [2, 1], dtype, tf.zeros_initializer(),
                             use_resource=use_resource)
    self.c = tf.get_variable("c", [], dtype, tf.ones_initializer(),
                             use_resource=use_resource)
    a = tf.placeholder(dtype, [None, 3], name="a")
    y = tf.matmul(a[:, :2], self.w)[:, 0] + a[:, 2] * self.c
    self.loss = tf.reduce_sum((y - self.b.astype(dtype.as_numpy_dtype)) ** 2)
    self.feeds = {a: self.a}
    self.initialize()
    return np.linalg.lstsq(self.a, self.b, rcond=None)[0]

  def values(self):
    return np.concatenate(
        [value.ravel() for value in self.session.run([self.w, self.c])])

  def test_a_tolerance_of_numpy(self):
    solution = self.problem(True)
    result = gf.minimize(self.loss, [self.w, self.c], self.session, self.feeds,
                         tol=np.float32(1e-7))
    np.testing.assert_allclose(result.x, solution, atol=1e-4)

  @parameterized.product(use_resource=(False, True), method=_METHODS)
  def test_least_squares(self, use_resource, method):
    solution = self.problem(use_resource)
    result = gf.minimize(
        self.loss, [self.w, self.c], self.session, self.feeds, method=method,
        tol=1e-7)
    np.testing.assert_allclose(result.x, solution, atol=1e-4)
    np.testing.assert_array_equal(self.values(), result.x)
    np.testing.assert_array_equal(result.variables[0], result.x[:2, None])
    self.assertAlmostEqual(
        result.fun, self.session.run(self.loss, self.feeds), places=9)
    self.assertTrue(result.success)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_logistic_regression_gets_where_scipy_gets(self, use_resource):
    """Where the old interface stayed at the beginning, without a word."""
    w = tf.get_variable("w", initializer=np.zeros(3), use_resource=use_resource)
    signs = np.sign(self.a.dot([1.0, -2.0, 0.5]))
    loss = tf.reduce_mean(tf.nn.softplus(
        -signs * tf.linalg.matvec(self.a, w))) + 0.01 * tf.reduce_sum(w * w)
    self.initialize()

    def fun(x):
      return np.mean(np.logaddexp(0.0, -signs * self.a.dot(x))) + (
          0.01 * x.dot(x))

    right = optimize.minimize(fun, np.zeros(3), method="BFGS")
    before = self.session.run(loss)
    result = gf.minimize(loss, [w], self.session)
    after = self.session.run(loss)
    self.assertAlmostEqual(before, np.log(2.0))
    self.assertLess(after, 0.5 * before)
    self.assertAlmostEqual(after, right.fun, places=6)
    self.assertAlmostEqual(result.fun, after, places=12)

  def test_float32(self):
    solution = self.problem(True, tf.float32)
    result = gf.minimize(
        self.loss, [self.w, self.c], self.session, self.feeds)
    np.testing.assert_allclose(self.values(), solution, rtol=1e-3)
    self.assertEqual(result.x.dtype, np.float64)
    self.assertEqual(result.variables[0].dtype, np.float32)

  def test_adds_nothing_the_second_time(self):
    self.problem(True)
    for method in ("L-BFGS-B", "Newton-CG"):
      gf.minimize(self.loss, [self.w, self.c], self.session, self.feeds,
                  method=method)
    count = self.count()
    self.graph.finalize()
    gf.minimize(self.loss, [self.w, self.c], self.session, self.feeds,
                method="Newton-CG")
    self.assertEqual(self.count(), count)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_variables_are_assigned_at_the_end_alone(self, use_resource):
    self.problem(use_resource)
    seen = []
    result = gf.minimize(
        self.loss, [self.w, self.c], self.session, self.feeds,
        callback=lambda x: seen.append(self.values()),
        options={"maxiter": 2})
    self.assertNotEmpty(seen)
    for values in seen:
      np.testing.assert_array_equal(values, [0.0, 0.0, 1.0])
    self.assertFalse(result.success)  # It went as far as it might.
    np.testing.assert_array_equal(self.values(), result.x)

  @parameterized.parameters(KeyboardInterrupt, ZeroDivisionError, ValueError)
  def test_variables_stay_where_an_error_is_raised(self, error):
    self.problem(True)
    steps = []

    def stop(unused_x):
      steps.append(1)
      raise error("here")

    with self.assertRaisesRegex(error, "^here$"):
      gf.minimize(self.loss, [self.w, self.c], self.session, self.feeds,
                  callback=stop)
    self.assertLen(steps, 1)
    np.testing.assert_array_equal(self.values(), [0.0, 0.0, 1.0])

  def test_bounds_by_variable(self):
    self.problem(True)
    c = self.c.ref() if hasattr(self.c, "ref") else self.c
    box = [(None, None), (-np.inf, np.inf), (0.5, 0.75)]
    right = optimize.minimize(
        lambda x: np.sum((self.a.dot(x) - self.b) ** 2), [0.0, 0.0, 0.6],
        bounds=box)
    for bounds in ({c: (0.5, 0.75)}, {"c:0": (0.5, 0.75)},
                   [None, (0.5, 0.75)], box, optimize.Bounds(
                       [-np.inf, -np.inf, 0.5], [np.inf, np.inf, 0.75])):
      self.initialize()
      result = gf.minimize(
          self.loss, [self.w, self.c], self.session, self.feeds, bounds=bounds)
      np.testing.assert_allclose(result.x, right.x, atol=1e-4)

  def test_bounds_broadcast(self):
    self.problem(True)
    result = gf.minimize(
        self.loss, [self.w, self.c], self.session, self.feeds,
        bounds={self.w.name: (0.25, [[0.5], [0.25]])})
    self.assertEqual(result.x[1], 0.25)
    self.assertBetween(result.x[0], 0.25, 0.5)

  def test_constraints_by_tensor(self):
    self.problem(True)
    total = tf.reduce_sum(self.w) + self.c
    result = gf.minimize(
        self.loss, [self.w, self.c], self.session, self.feeds, method="SLSQP",
        constraints=[{"type": "eq", "fun": total - 3.0},
                     {"type": "ineq", "fun": self.w[:, 0]}])
    # By the conditions of Kuhn and Tucker, as SciPy finds with its own numbers.
    right = optimize.minimize(
        lambda x: np.sum((self.a.dot(x) - self.b) ** 2), [1.0, 1.0, 1.0],
        method="SLSQP", constraints=[
            {"type": "eq", "fun": lambda x: np.sum(x) - 3.0},
            {"type": "ineq", "fun": lambda x: x[:2]}])
    np.testing.assert_allclose(result.x, right.x, atol=1e-3)
    self.assertAlmostEqual(self.values().sum(), 3.0, places=5)

  def test_a_placeholder_between_bounds(self):
    """An attack: the nearest image with a high score."""
    x = tf.placeholder(tf.float64, [4])
    direction = np.array([1.0, 2.0, 0.0, -1.0])
    loss = tf.reduce_sum((x - 0.5) ** 2) + 10.0 * tf.nn.relu(
        1.0 - tf.reduce_sum((x - 0.5) * direction)) ** 2
    result = gf.minimize(loss, x, self.session, x0=np.full(4, 0.5),
                         bounds=[(0.0, 1.0)])
    np.testing.assert_allclose(
        result.variables - 0.5, direction * 10.0 / 61.0, atol=1e-5)

  def test_a_layer_as_x(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    h = tf.tanh(x)
    result = gf.minimize(tf.reduce_sum((h - 3.0) ** 2), h, self.session,
                         x0=np.zeros(2))
    np.testing.assert_allclose(result.variables, [3.0, 3.0], atol=1e-5)

  def test_unconnected_variables_stay(self):
    self.problem(True)
    other = tf.get_variable("other", initializer=np.float64(3.5))
    self.session.run(other.initializer)
    gf.minimize(self.loss, [other, self.w, self.c], self.session, self.feeds,
                unconnected="zero")
    self.assertEqual(self.session.run(other), 3.5)

  def test_progress(self):
    self.problem(True)
    arguments = (self.loss, [self.w, self.c], self.session, self.feeds)
    told = []
    result = gf.minimize(*arguments, progress=lambda *state: told.append(state))
    self.assertEqual([count for count, _ in told],
                     list(range(1, result.nfev + 1)))
    self.assertIn(result.fun, [value for _, value in told])
    for stream, progress, shown in [
        (Terminal(), None, True), (Terminal(), False, False),
        (io.StringIO(), None, False)]:
      stderr, sys.stderr = sys.stderr, stream
      try:
        self.initialize()
        result = gf.minimize(*arguments, progress=progress)
      finally:
        sys.stderr = stderr
      self.assertEqual(bool(re.search(
          r"gradfeed: {} evaluations, loss {}".format(
              result.nfev, r"\d"), stream.getvalue())), shown)

  def test_a_method_of_the_users(self):
    self.problem(True)
    seen = {}

    def method(fun, x0, jac=None, **kwargs):
      seen.update(kwargs, fun=fun(x0), jac=jac(x0))
      return optimize.OptimizeResult(x=np.ones(3), fun=0.0, success=True)

    gf.minimize(self.loss, [self.w, self.c], self.session, self.feeds,
                method=method)
    np.testing.assert_array_equal(self.values(), np.ones(3))
    self.assertTrue(callable(seen["hessp"]))
    self.assertEqual(seen["jac"].shape, (3,))

  def test_needs_scipy(self):
    x = tf.placeholder(tf.float64, [1])
    imported, count = builtins.__import__, self.count()

    def without(name, *args, **kwargs):
      if name.split(".")[0] == "scipy":
        raise ImportError(name)
      return imported(name, *args, **kwargs)

    builtins.__import__ = without
    try:
      with self.assertRaisesRegex(gf.DependencyError, r"gradfeed\[scipy\]"):
        gf.minimize(x[0] ** 2, x, self.session, x0=[1.0])
    finally:
      builtins.__import__ = imported
    self.assertEqual(self.count(), count + 6)  # x[0] ** 2, of this test.

  def test_refuses(self):
    self.problem(True)
    for text, arguments in [
        ("method='lbfgs' is not known", {"method": "lbfgs"}),
        ("method=None is not known", {"method": None}),
        ("tol='small'", {"tol": "small"}), ("callback=3", {"callback": 3}),
        ("options=5", {"options": 5}), ("progress='yes'", {"progress": "yes"}),
        ("bounds has 4 elements", {"bounds": [(0, 1)] * 4}),
        ("wrong way round", {"bounds": {self.c.name: (1.0, 0.0)}}),
        ("no pair of bounds for 'c:0'", {"bounds": {self.c.name: 1.0}}),
        ("no pair of bounds for 'w:0'", {
            "bounds": {self.w.name: (0.0, np.ones(3))}}),
        ("none of variables_or_x: 'a:0'", {"bounds": {"a:0": (0, 1)}}),
        ("bounds is a set", {"bounds": {1}}),
        ("type 'less'", {"constraints": {"type": "less", "fun": self.c.name}}),
        ("no 'fun'", {"constraints": {"type": "eq"}}),
        ("constraints has a int", {"constraints": [3]}),
        ("SciPy refuses its arguments", {"options": {"maxiter": "many"}})]:
      with self.subTest(text), self.assertRaisesRegex(gf.ArgumentError, text):
        gf.minimize(self.loss, [self.w, self.c], self.session, self.feeds,
                    **arguments)
    np.testing.assert_array_equal(self.values(), [0.0, 0.0, 1.0])
    with self.assertRaisesRegex(gf.MissingFeedError, "a:0"):
      gf.minimize(self.loss, [self.w, self.c], self.session)
