"""scipy_objective: values and derivatives at any x, in float64."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import graphs


def _numbers(*shape):
  return np.random.RandomState(sum(shape) + 1).normal(size=shape)


def _halves(**unused_kwargs):
  return [1, 2]


class ObjectiveTest(graphs.GraphTest):
  """A cubic form of all weights, sum((A x)^3) / 6, whose derivatives are known.
  """

  def objective(self, use_resource, **kwargs):
    w = graphs.variable("w", _numbers(2, 3), use_resource)
    p = graphs.variable("p", _numbers(2, 4), use_resource, _halves)
    self.variables = {"w": w, "p": [p]}
    self.x_t = np.concatenate(
        [_numbers(2, 4).ravel(), _numbers(2, 3).ravel()])  # By sorted key.
    x = tf.concat([tf.reshape(tf.convert_to_tensor(p), [-1]),
                   tf.reshape(w, [-1])], 0)
    self.matrix = _numbers(5, 14)
    self.scale = tf.placeholder(tf.float64, [])
    loss = self.scale * tf.reduce_sum(
        tf.linalg.matvec(self.matrix, x) ** 3.0) / 6.0
    self.initialize()
    return gf.scipy_objective(
        loss, self.variables, self.session, {self.scale: 2.0}, **kwargs)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_value_and_derivatives(self, use_resource):
    objective = self.objective(use_resource)
    np.testing.assert_array_equal(objective.x0, self.x_t)
    self.assertEqual(objective.x0.dtype, np.float64)
    self.assertEqual(objective.shapes, {"w": (2, 3), "p": [(2, 4)]})
    v_t = _numbers(14)
    for x_t in (self.x_t, _numbers(14)):
      s_t = self.matrix.dot(x_t)
      hessian = 2.0 * self.matrix.T.dot(s_t[:, None] * self.matrix)
      gradient = self.matrix.T.dot(s_t ** 2.0)
      value, by_x = objective.fun(x_t)
      self.assertIs(type(value), float)
      self.assertEqual(by_x.dtype, np.float64)
      np.testing.assert_allclose(value, np.sum(s_t ** 3.0) / 3.0)
      np.testing.assert_allclose(objective.value(x_t), value)
      np.testing.assert_allclose(by_x, gradient)
      np.testing.assert_allclose(objective.jac(x_t), gradient)
      np.testing.assert_allclose(objective.hessp(x_t, v_t), hessian.dot(v_t))
      np.testing.assert_allclose(objective.hess(x_t), hessian, atol=1e-12)
    np.testing.assert_array_equal(
        self.session.run(self.variables["w"]), _numbers(2, 3))

  def test_one_pass_gives_value_and_gradient(self):
    calls = []
    x = tf.placeholder(tf.float64, [2])
    seen = tf.py_func(lambda x: (calls.append(1), x)[1], [x], tf.float64)
    seen.set_shape([2])
    y = tf.stop_gradient(seen) * x
    objective = gf.scipy_objective(
        tf.reduce_sum(y), x, self.session, x0=[1.0, 2.0])
    del calls[:]
    objective.fun(np.array([3.0, 4.0]))
    self.assertLen(calls, 1)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_assign_writes_when_it_is_called(self, use_resource):
    objective = self.objective(use_resource)
    x_t = _numbers(14)
    objective.fun(x_t)
    count = self.count()
    objective.assign(x_t)
    self.assertEqual(self.count(), count)
    w, p = self.session.run([self.variables["w"],
                             tf.convert_to_tensor(self.variables["p"][0])])
    np.testing.assert_array_equal(w, x_t[8:].reshape(2, 3))
    np.testing.assert_array_equal(p, x_t[:8].reshape(2, 4))
    parts = objective.unflatten(x_t)
    np.testing.assert_array_equal(parts["w"], w)
    np.testing.assert_array_equal(parts["p"][0], p)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_variables_that_share_their_initial_value(self, use_resource):
    start = tf.zeros([2], tf.float64)
    a, b = [tf.get_variable(name, initializer=start, use_resource=use_resource)
            for name in "ab"]
    self.initialize()
    gf.scipy_objective(tf.reduce_sum(a * b), [a, b], self.session).assign(
        [1.0, 2.0, 3.0, 4.0])
    for variable, right in zip(self.session.run([a, b]), ([1, 2], [3, 4])):
      np.testing.assert_array_equal(variable, right)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_variables_by_name_of_an_imported_graph(self, use_resource):
    w = tf.get_variable("w", initializer=[1.0, 2.0], use_resource=use_resource)
    tf.reduce_sum(w * w, name="loss")
    definition = self.graph.as_graph_def()
    for node in list(definition.node):
      if node.op.startswith("Assign"):  # Nothing in the graph assigns.
        definition.node.remove(node)
      elif any(i.startswith("^") for i in node.input):
        definition.node.remove(node)
    definition = tf.graph_util.extract_sub_graph(definition, ["loss"])
    with tf.Graph().as_default() as graph, tf.Session() as session:
      tf.import_graph_def(definition, name="")
      handle = graph.get_tensor_by_name("w:0")
      objective = gf.scipy_objective("loss:0", "w:0", session, x0=[3.0, 4.0])
      self.assertEqual(objective.fun(objective.x0)[0], 25.0)
      objective.assign(objective.x0)
      self.assertEqual(session.run("loss:0"), 25.0)
      self.assertIs(handle, graph.get_tensor_by_name("w:0"))

  def test_dtypes_may_differ(self):
    a = tf.get_variable("a", initializer=np.float32([1.0, 2.0]))
    b = tf.get_variable("b", initializer=np.float64(3.0))
    loss = tf.reduce_sum(tf.cast(a, tf.float64) ** 2.0) * b
    self.initialize()
    objective = gf.scipy_objective(loss, [a, b], self.session)
    value, gradient = objective.fun(objective.x0)
    self.assertEqual(value, 15.0)
    np.testing.assert_allclose(gradient, [6.0, 12.0, 5.0])
    np.testing.assert_allclose(
        objective.hessp(objective.x0, [1.0, 0.0, 1.0]), [8.0, 4.0, 2.0])
    np.testing.assert_allclose(objective.hess(objective.x0), [
        [6.0, 0.0, 2.0], [0.0, 6.0, 4.0], [2.0, 4.0, 0.0]])

  @parameterized.named_parameters(("linear", 1.0), ("quadratic", 2.0))
  def test_second_derivatives_that_do_not_depend_on_x(self, power):
    x = tf.placeholder(tf.float64, [2])
    objective = gf.scipy_objective(
        tf.reduce_sum(x ** power), x, self.session, x0=np.ones(2))
    right = [0.0, 0.0] if power == 1.0 else [2.0, 6.0]
    np.testing.assert_allclose(objective.hessp(np.ones(2), [1.0, 3.0]), right)
    np.testing.assert_allclose(
        objective.hess(np.ones(2)), np.diag([right[0], right[0]]))

  def test_shapes_that_x0_gives(self):
    x = tf.placeholder(tf.float32, [None, 2])
    z = tf.placeholder(tf.float32)
    loss = tf.reduce_sum(x ** 2.0) + tf.reduce_sum(z)
    objective = gf.scipy_objective(
        loss, [x, z], self.session, x0=[np.ones([3, 2]), [1.0, 2.0]])
    value, gradient = objective.fun(np.arange(8.0))
    self.assertEqual(value, 55.0 + 13.0)
    np.testing.assert_allclose(gradient, [0, 2, 4, 6, 8, 10, 1, 1])
    np.testing.assert_allclose(
        objective.hessp(np.arange(8.0), np.ones(8)), [2] * 6 + [0] * 2)

  def test_unconnected(self):
    a = tf.get_variable("a", initializer=np.float64([1.0, 2.0]))
    other = tf.get_variable("other", initializer=np.float64(3.0))
    self.initialize()
    loss = tf.reduce_sum(a * a)
    with self.assertRaisesRegex(gf.DisconnectedError, "other:0"):
      gf.scipy_objective(loss, [other, a], self.session)
    objective = gf.scipy_objective(
        loss, [other, a], self.session, unconnected="zero")
    np.testing.assert_allclose(objective.fun([7.0, 1.0, 2.0])[1], [0, 2, 4])
    np.testing.assert_allclose(
        objective.hessp([7.0, 1.0, 2.0], np.ones(3)), [0, 2, 2])

  def test_nan_goes_to_scipy(self):
    x = tf.placeholder(tf.float64, [1])
    objective = gf.scipy_objective(
        tf.reduce_sum(tf.log(x)), x, self.session, x0=[1.0])
    self.assertTrue(np.isnan(objective.fun([-1.0])[0]))
    self.assertEqual(objective.fun([0.0])[0], -np.inf)

  def test_refuses_before_an_op_is_built(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    complex_x = tf.placeholder(tf.complex64, [2])
    w = tf.get_variable("w", initializer=np.float64([1.0]))
    loss = tf.reduce_sum(x) * w[0]
    count = self.count()
    for error, text, call in [
        (gf.ArgumentError, "more than one element",
         lambda: gf.scipy_objective(x, x, self.session, x0=[1.0, 2.0])),
        (gf.ArgumentError, "There is no x0 for 'x:0'",
         lambda: gf.scipy_objective(loss, [w, x], self.session)),
        (gf.ArgumentError, r"x0 \(float64, \[3\]\) does not fit 'x:0'",
         lambda: gf.scipy_objective(loss, x, self.session, x0=np.ones(3))),
        (gf.ArgumentError, "not dense and real",
         lambda: gf.scipy_objective(loss, complex_x, self.session, x0=[1, 2])),
        (gf.ArgumentError, "twice",
         lambda: gf.scipy_objective(loss, [w, w], self.session)),
        (gf.ArgumentError, "empty",
         lambda: gf.scipy_objective(loss, [], self.session)),
        (gf.ArgumentError, "unconnected=",
         lambda: gf.scipy_objective(loss, w, self.session,
                                    unconnected="none"))]:
      with self.subTest(text), self.assertRaisesRegex(error, text):
        call()
    self.assertEqual(self.count(), count)
    with self.assertRaisesRegex(gf.UninitializedError, "w"):
      gf.scipy_objective(loss, w, self.session)
    objective = gf.scipy_objective(
        tf.reduce_sum(x ** 2.0), x, self.session, x0=np.ones(2))
    with self.assertRaisesRegex(gf.ArgumentError, r"x has shape \[3\]"):
      objective.fun(np.ones(3))
    with self.assertRaisesRegex(gf.ArgumentError, "no variable to assign"):
      objective.assign(np.ones(2))
