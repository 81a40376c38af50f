"""Tests of the nodes of a function in the place of its call."""

import functools

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows


def _again(build):
  """The graph that `build` makes, read back from its GraphDef."""
  with tf.Graph().as_default() as source:
    build()
  graph = tf.Graph()
  with graph.as_default():
    tf.import_graph_def(source.as_graph_def(), name="")
  return graph


class InliningTest(parameterized.TestCase):

  def test_a_call_that_was_read_back(self):
    def build():
      x = tf.placeholder(tf.float64, [], name="x")
      inner = tf.function(lambda a: a * a, autograph=False)
      outer = tf.function(lambda a: inner(a) + tf.nn.elu(-a), autograph=False)
      tf.identity(outer(x), name="y")
    graph = _again(build)
    with tf.Session(graph=graph):
      f = gf.function("x:0", gf.value_and_gradient("y:0", "x:0"))
      np.testing.assert_allclose(f(2.), [4. + np.expm1(-2.), 4. - np.exp(-2.)])

  def test_what_a_call_waits_for_its_nodes_wait_for(self):
    """A read in the function has to come after the assignment before it."""
    def build():
      v = tf.get_variable("v", initializer=np.float64(2.), use_resource=True)
      call = tf.function(lambda a: a * v, autograph=False)
      x = tf.placeholder(tf.float64, [], name="x")
      with tf.control_dependencies([v.assign(x, read_value=False)]):
        tf.identity(call(x), name="y")
    graph = _again(build)
    with graph.as_default(), tf.Session() as session:
      session.run("v/Assign")
      y, dy = gf.value_and_gradient("y:0", "x:0")
      with self.assertRaisesRegex(gf.AssignmentError, "Assign"):
        gf.function("x:0", [y, dy])
      self.assertEqual(gf.run(session, y, {"x:0": 5.}), 25.)

  @parameterized.named_parameters(("_once", False), ("_twice", True))
  def test_s2_a_variable_that_a_function_reads(self, nested):
    with tf.Graph().as_default(), tf.Session() as session:
      v = tf.get_variable("v", initializer=np.float64(2.), use_resource=True)
      call = tf.function(lambda a: a * v * v, autograph=False)
      if nested:
        inner = call
        call = tf.function(lambda a: inner(a) * v, autograph=False)
      x = tf.placeholder(tf.float64, [])
      y = call(x)
      session.run(v.initializer)
      f = gf.function([x, v], [y, gf.gradient(y, x)])
      power = 3 if nested else 2
      np.testing.assert_allclose(
          f(5., 3.), [5. * 3. ** power, 3. ** power], rtol=1e-15)
      self.assertEqual(session.run(v), 2.)


  @parameterized.named_parameters(("_once", False), ("_twice", True))
  def test_a_branch_in_a_function_of_one_tensor_as_two_arguments(self, nested):
    """TensorFlow takes inputs of a branch that are one tensor for one input."""
    if not hasattr(tf, "function"):
      return
    with tf.Graph().as_default(), tf.Session():
      x = tf.placeholder(tf.float64, [])
      with flows.control_flow(2):
        inner = call = tf.function(lambda a, b: tf.cond(
            a > 0.0, lambda: a * a * b, lambda: a * b), autograph=False)
        if nested:

          @functools.partial(tf.function, autograph=False)
          def call(a, b):
            squared = a * b
            return inner(squared, squared)

      h = flows.inside(lambda: tf.sin(x), x, 1, False)
      with flows.control_flow(2):
        y = call(h, h)
      power = 6 if nested else 3
      at = 0.7
      wanted = power * (power - 1) * np.sin(at) ** (power - 2) * np.cos(
          at) ** 2 - power * np.sin(at) ** power
      np.testing.assert_allclose(gf.function(x, gf.hessian(y, x))(at), wanted)


class OnePassTest(parameterized.TestCase):

  def test_s8_value_and_gradient_have_one_mask(self):
    """Asked for one by one, they still come from one forward pass."""
    with tf.Graph().as_default(), flows.control_flow(2), (
        tf.Session()) as session:
      x = tf.placeholder(tf.float64, [])
      y = tf.cond(
          x > 0., lambda: x * tf.random_uniform([], dtype=tf.float64),
          lambda: x)
      f = gf.function(x, [y, gf.gradient(y, x)], session)
      for _ in range(5):
        value, slope = f(1.)
        self.assertEqual(value, slope)


class ConstantsTest(parameterized.TestCase):

  def test_a_constant_that_waits_for_an_argument_outside_of_the_copy(self):
    """Read back, a constant in a function waits for an argument."""
    if not hasattr(tf, "function"):
      return

    def build():
      x = tf.placeholder(tf.float64, [2], name="x")
      first = tf.function(lambda a: (a, a * tf.constant([1., 2.], tf.float64)),
                          autograph=False)
      same, scaled = first(x * 2.)
      tf.identity(same * scaled, name="y")

    graph = _again(build)
    with tf.Session(graph=graph) as session:
      f = gf.function("x:0", gf.gradient("y:0", "x:0"))
      np.testing.assert_allclose(f([1., 3.]), [8., 48.])
      self.assertEqual(gf.check("y:0", "x:0", [1., 3.],
                                session=session).verdict, "right")
    if not tf.__version__.startswith("1."):
      with tf.Graph().as_default(), tf.Session() as session:
        build()
        self.assertEqual(gf.check("y:0", "x:0", [1., 3.],
                                  session=session).verdict, "right")
