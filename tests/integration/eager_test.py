"""Calls outside of any graph block: in mode "eager", eager mode is on there."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows
from tests.testing import folders


class OutsideTest(folders.FolderTest):
  """A graph that was built before, with functions in it, and a session."""

  @parameterized.parameters(1, 2)
  def test_e14_every_call(self, version):
    with tf.Graph().as_default() as graph, flows.control_flow(version):
      x = tf.placeholder(tf.float64, [None, 2], name="x")
      h = tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a * x),
                        [0, x])[1]
      y = tf.cond(tf.reduce_sum(x) > 0.0, lambda: h, lambda: -h, name="y")
      y = tf.identity(y, name="cubes")
    session = tf.Session(graph=graph)
    self.addCleanup(session.close)
    x_t = np.array([[1.0, 2.0], [-0.5, 3.0]])
    for _ in range(2):
      dx = gf.gradient(y, x)
      np.testing.assert_allclose(
          gf.function(x, dx, session=session)(x_t), 3.0 * x_t ** 2)
      np.testing.assert_allclose(
          gf.function(h, gf.gradient(y, h), session=session,
                      feed_dict={x: x_t})(x_t), np.ones([2, 2]))
      np.testing.assert_allclose(
          gf.run(session, dx, {x: x_t}), 3.0 * x_t ** 2)
      blocks = gf.function(x, gf.batch_jacobian(y, x), session=session)(x_t)
      np.testing.assert_allclose(
          blocks, 3.0 * x_t[:, :, np.newaxis] ** 2 * np.eye(2))
      self.assertEqual(gf.check(y, x, x_t, session).verdict, "right")
      self.assertEqual(gf.explain(y, x).verdict, "differentiable")

  def test_e14_a_frozen_graph(self):
    with tf.Graph().as_default() as graph, flows.control_flow(2):
      x = tf.placeholder(tf.float64, [None, 2], name="x")
      tf.identity(tf.while_loop(lambda i, a: i < 2, lambda i, a: (
          i + 1, a * x), [0, x])[1], name="y")
      with open(self.path("model.pb"), "wb") as file:
        file.write(graph.as_graph_def().SerializeToString())
    self.save("x_t.npy", np.array([[1.0, 2.0], [-0.5, 3.0], [4.0, 5.0]]))
    for name in ("first.npy", "second.npy"):
      model = gf.load(self.path("model.pb"))
      self.addCleanup(model.close)
      x = model.tensor("x:0")
      f = gf.function(x, gf.gradient(model.tensor("y:0"), x),
                      session=model.session)
      gf.stream(f, self.path("x_t.npy"), self.path(name))
      np.testing.assert_allclose(
          np.load(self.path(name)), 3.0 * np.load(self.path("x_t.npy")) ** 2)
