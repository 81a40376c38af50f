"""E4: loops of graphs that were read from a GraphDef, without their contexts.

There tf.gradients raises. The gradient is held against the one of the graph
that the loop was built in, the second derivative against differences.
"""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows
from tests.testing import numeric

_AT = np.array([[0.5, 1.5, 0.3], [0.7, 0.2, -0.4]])


def _turns(body, start, turns=3):
  return tf.while_loop(lambda i, a: i < turns,
                       lambda i, a: (i + 1, body(a)), [0, start])[1]


def _unused(x):
  """A loop with variables whose results nobody reads: freezing drops them."""
  return tf.while_loop(
      lambda i, a, b, c: i < 3, lambda i, a, b, c: (
          i + 1, tf.sin(a) * b, b * tf.cos(x) + a, c + 1.0),
      [0, x, x * x, tf.reduce_sum(x)])[1]


def _until(x):
  """As many turns as the values say."""
  return tf.while_loop(lambda a: tf.reduce_sum(a) < 50.0,
                       lambda a: a * a + 1.0 + x, [x])


def _written(x):
  """Writes and reads a tensor array at each turn."""
  rows = tf.TensorArray(tf.float64, 3, clear_after_read=False).unstack(
      tf.transpose(x))
  array = tf.TensorArray(tf.float64, 3)
  _, _, array = tf.while_loop(
      lambda i, h, array: i < 3,
      lambda i, h, array: (i + 1, tf.tanh(h + rows.read(i)),
                           array.write(i, h * rows.read(i))),
      [0, x[:, 0], array])
  return array.stack()


def _recurrent(x, reverse=False):
  """A simple recurrent network over the columns of x."""
  kernel = tf.constant(np.cos(np.arange(4.0)).reshape(2, 2))
  columns = tf.transpose(x)[:, tf.newaxis]
  if reverse:
    columns = tf.reverse(columns, [0])
  return tf.scan(lambda h, c: tf.tanh(tf.matmul(h + c, kernel)), columns,
                 tf.zeros([1, 2], tf.float64))


class FrozenLoopsTest(parameterized.TestCase):

  def _frozen(self, build, shape):
    """(graph with the native gradient, frozen graph) of a loop in x."""
    native = tf.Graph()
    with native.as_default(), flows.control_flow(1):
      x = tf.placeholder(tf.float64, shape, name="x")
      y = tf.identity(build(x), name="y")
      graph_def = tf.graph_util.extract_sub_graph(
          native.as_graph_def(), ["y"])
      tf.identity(tf.gradients(y, x)[0], name="dx")
    frozen = tf.Graph()
    with frozen.as_default():
      tf.import_graph_def(graph_def, name="")
    return native, frozen

  @parameterized.named_parameters(
      ("while", lambda x: _turns(lambda a: tf.sin(a) * x, x)),
      ("nested", lambda x: _turns(lambda a: _turns(
          lambda b: tf.sin(b) * a, a, 2) + x, x)),
      ("cond_in_loop", lambda x: _turns(lambda a: tf.cond(
          tf.reduce_sum(a) > 1.0, lambda: a * a * 0.3, lambda: a * 2.0), x)),
      ("loop_in_cond", lambda x: tf.cond(
          tf.reduce_sum(x) > 0.0, lambda: _turns(lambda a: a * x, x),
          lambda: x)),
      ("map", lambda x: tf.map_fn(lambda row: row ** 3 * x[0], x)),
      ("scan", lambda x: tf.scan(lambda a, row: a * tf.sin(row), x)),
      ("fold", lambda x: tf.foldl(lambda a, row: a * tf.sin(row), x)),
      ("unused_variables", _unused),
      ("number_of_turns", _until),
      ("tensor_arrays", _written),
      ("recurrent", _recurrent),
      ("both_ways", lambda x: tf.concat(
          [_recurrent(x), _recurrent(x, True)], -1)),
      ("one_after_the_other", lambda x: _turns(
          tf.tanh, _turns(lambda a: a * x, x))))
  def test_e4_gradient_is_the_native_one(self, build):
    for shape in ([2, 3], [None, 3]):
      native, frozen = self._frozen(build, shape)
      with tf.Session(graph=native) as session:
        expected = session.run("dx:0", {"x:0": _AT})
      with tf.Session(graph=frozen) as session:
        before = len(frozen.get_operations())
        dx = gf.gradient("y:0", frozen.get_tensor_by_name("x:0"))
        self.assertEmpty([
            op.name for op in frozen.get_operations()[before:]
            if not op.name.startswith("gradfeed/")])
        np.testing.assert_allclose(
            session.run(dx, {"x:0": _AT}), expected, rtol=1e-13, atol=1e-15)
        count = len(frozen.get_operations())
        self.assertIs(gf.gradient("y:0", "x:0"), dx)
        self.assertLen(frozen.get_operations(), count)

  @parameterized.named_parameters(
      ("while", lambda x: _turns(lambda a: tf.sin(a) * x, x)),
      ("recurrent", _recurrent))
  def test_e4_second_order(self, build):
    _, frozen = self._frozen(build, [2, 3])
    with tf.Session(graph=frozen) as session, frozen.as_default():
      x = frozen.get_tensor_by_name("x:0")
      dx = gf.gradient("y:0", x)
      z = tf.reduce_sum(dx * dx)
      np.testing.assert_allclose(
          session.run(gf.gradient(z, x), {x: _AT}),
          numeric.central_differences(
              lambda p: session.run(z, {x: p}), _AT), atol=1e-7)

  def test_e4_value_and_gradient_at_a_cut(self):
    _, frozen = self._frozen(
        lambda x: _turns(lambda a: tf.sin(a) * x, tf.exp(x, name="e")), [2, 3])
    with tf.Session(graph=frozen) as session:
      f = gf.function("e:0", gf.value_and_gradient("y:0", "e:0"), session,
                      feed_dict={"x:0": _AT})
      at = np.exp(_AT) + 0.1
      value, slope = f(at)
      np.testing.assert_allclose(slope, numeric.central_differences(
          lambda p: np.sum(f(p)[0]), at), atol=1e-7)
      self.assertEqual(value.shape, (2, 3))
