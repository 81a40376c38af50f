"""Graphs in a process that leaves eager execution on, outside of their blocks.
"""

from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from tests.testing import modes
from tests.testing import processes

_SCRIPT = """
import tempfile
import numpy as np
import tensorflow as tf2
import tensorflow.compat.v1 as tf
import gradfeed as gf
assert tf.executing_eagerly()
graph = tf.Graph()
with graph.as_default():
  x = tf.placeholder(tf.float64, [3], name="x")
  function = tf2.function(lambda a: tf.cond(
      a[0] > 0.0, lambda: tf.sin(a), lambda: a))
  looped = tf.while_loop(
      lambda i, a: i < 3, lambda i, a: (i + 1, function(a)), (0, x))[1]
  v = tf.get_variable("v", initializer=tf.ones([3], tf.float64))
  y = tf.reduce_sum(function(looped) * v, name="y")
session = tf.Session(graph=graph)
with graph.as_default():
  session.run(v.initializer)
at = np.array([0.1, 0.2, 0.3])
wanted, h = np.ones(3), at
for _ in range(4):
  wanted, h = wanted * np.cos(h), np.sin(h)
with gf.snapshot(session) as copy:
  f = gf.function(copy.tensor(x), gf.gradient(copy.tensor(y), copy.tensor(x)),
                  copy.session)
  np.testing.assert_allclose(f(at), wanted)
with tempfile.TemporaryDirectory() as folder:
  with graph.as_default():
    tf.train.Saver().save(session, folder + "/model")
  model = gf.load(folder)
  f = gf.function(model.tensor("x:0"), gf.gradient(
      model.tensor("y:0"), model.tensor("x:0")), model.session)
  np.testing.assert_allclose(f(at), wanted)
print("fine")
"""


class EagerProcessTest(parameterized.TestCase):

  @modes.without_mode
  def test_e14_snapshot_and_load_with_functions(self):
    if tf.__version__.startswith("1."):
      return
    done = processes.run(["-c", _SCRIPT])
    self.assertIn("fine", done.stdout, done.stderr[-2000:])
