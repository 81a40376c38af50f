"""TensorFlow's functions replaced by others than `install`: no recursion."""

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.client import session as session_lib

import gradfeed as gf
from tests.testing import folders
from tests.testing import graphs


def _forbidden(*unused_arguments, **unused_options):
  raise AssertionError("gradfeed called what was replaced")



class ReplacedByHandTest(graphs.GraphTest, folders.FolderTest):

  def setUp(self):
    super().setUp()
    self.x = tf.placeholder(tf.float64, [None, 2], name="x")
    self.w = graphs.variable("w", [[1.0, -1.0], [0.0, 2.0]], False)
    self.u = graphs.variable("u", [1.0, 2.0], True)
    self.h = tf.matmul(self.x, self.w, name="h")
    self.y = tf.reduce_sum(self.h ** 2 * self.u, 1, name="y")
    self.initialize()
    self.at = np.array([[1.0, 2.0], [3.0, -1.0]])
    w, u = np.array([[1.0, -1.0], [0.0, 2.0]]), np.array([1.0, 2.0])
    self.by_h = 2 * self.at.dot(w) * u
    self.by_x = self.by_h.dot(w.T)

  def replace(self, holder, name, value):
    had_own = name in vars(holder)
    original = getattr(holder, name)
    setattr(holder, name, value)
    self.addCleanup(
        (lambda: setattr(holder, name, original)) if had_own else
        (lambda: delattr(holder, name)))

  def forbid_all(self):
    for holder, names in (
        (tf, ["gradients", "hessians", "Session", "InteractiveSession"]),
        (session_lib.BaseSession, ["run", "make_callable", "partial_run"]),
        (tf.Tensor, ["eval"]), (tf.Operation, ["run"])):
      for name in names:
        self.replace(holder, name, _forbidden)

  def check_derivatives(self):
    x, y, h, session = self.x, self.y, self.h, self.session
    for tensor in (gf.gradient(y, x), gf.gradients(y, x)[0],
                   gf.value_and_gradient(y, x)[1],
                   gf.vjp(y, x, tf.ones_like(y)),
                   gf.function(x, gf.gradient(y, x), session)):
      got = (tensor(self.at) if isinstance(tensor, gf.Function) else
             gf.run(session, tensor, {x: self.at}))
      np.testing.assert_allclose(got, self.by_x)
    hessian = np.einsum("ij,kj,j->ik", [[1.0, -1.0], [0.0, 2.0]],
                        [[1.0, -1.0], [0.0, 2.0]], [2.0, 4.0])
    v = np.ones_like(self.at)
    np.testing.assert_allclose(
        gf.run(session, gf.hvp(y, x, v), {x: self.at}), v.dot(hessian))
    np.testing.assert_allclose(
        gf.run(session, gf.jvp(y, x, v), {x: self.at}), self.by_x.sum(1))
    by_rows = gf.run(session, gf.batch_jacobian(y, x), {x: self.at})
    np.testing.assert_allclose(by_rows, self.by_x)
    block = gf.run(session, gf.hessians(y, x)[0], {x: self.at})
    np.testing.assert_allclose(block[0, :, 0, :], hessian)
    np.testing.assert_allclose(
        gf.run(session, gf.jacobian(y, x), {x: self.at})[1, 1], self.by_x[1])
    each = gf.run(session, gf.per_example_gradient(y, self.u), {x: self.at})
    np.testing.assert_allclose(each, self.at.dot(
        [[1.0, -1.0], [0.0, 2.0]]) ** 2)
    got = gf.run(session, gf.gradient(y, h), {h: self.at})
    np.testing.assert_allclose(got, 2 * self.at * [1.0, 2.0])

  def check_uses(self):
    x, y, session = self.x, self.y, self.session
    self.assertEqual(gf.check(y, x, self.at, session=session).verdict, "right")
    self.assertIn("x:0", str(gf.explain(y, x)))
    with gf.snapshot(session) as clone:
      dx = gf.gradient(clone.tensor(y), clone.tensor(x))
      f = gf.function(clone.tensor(x), dx, clone.session)
      np.testing.assert_allclose(f(self.at), self.by_x)
    f = gf.function(x, gf.gradient(y, x), session)
    np.save(self.path("points.npy"), self.at)
    gf.stream(f, self.path("points.npy"), self.path("out.npy"))
    np.testing.assert_allclose(np.load(self.path("out.npy")), self.by_x)

  def test_nothing_that_may_be_replaced_is_called(self):
    self.forbid_all()
    self.check_derivatives()
    self.check_uses()

  def test_gradients_and_run_by_hand(self):
    self.replace(tf, "gradients", gf.gradients)
    self.replace(
        tf.Session, "run",
        lambda self, fetches, feed_dict=None, options=None, run_metadata=None:
        gf.run(self, fetches, feed_dict))
    self.check_derivatives()
    self.check_uses()
    dx, = tf.gradients(self.y, self.x)
    np.testing.assert_allclose(
        self.session.run(dx, {self.x: self.at}), self.by_x)
    np.testing.assert_allclose(dx.eval({self.x: self.at}), self.by_x)

  def test_sessions_by_hand(self):
    self.replace(tf, "Session", gf.Session)
    self.replace(tf, "hessians", gf.hessians)
    self.check_uses()
    with tf.Session() as session:
      session.run(tf.global_variables_initializer())
      np.testing.assert_allclose(
          session.run(gf.gradient(self.y, self.x), {self.x: self.at}),
          self.by_x)

  def test_installed_over_what_was_replaced_by_hand(self):
    calls = []
    original = session_lib.BaseSession.run

    def counting(self, *arguments, **options):
      calls.append(arguments)
      return original(self, *arguments, **options)

    self.replace(session_lib.BaseSession, "run", counting)
    with gf.patched():
      self.session.run(gf.gradient(self.y, self.x), {self.x: self.at})
      self.assertEmpty(calls)
      with self.assertRaisesRegex((KeyError, ValueError), "none:0"):
        self.session.run("none:0")  # What gradfeed does not know.
      self.assertLen(calls, 1)
    self.assertIs(session_lib.BaseSession.run, counting)
