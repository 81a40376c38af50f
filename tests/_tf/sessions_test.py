"""Tests of what is compiled in a session at the end of a process."""

from absl.testing import absltest

from tests.testing import modes
from tests.testing import processes

#: What happens where a function outlives the modules of TensorFlow.
_PROGRAM = """
import atexit
from tensorflow.python.client import session as session_lib
kept = []
def end():  # Registered first, it runs last.
  session_lib.tf_session = None
  kept.clear()
atexit.register(end)
import gradfeed as gf
import tensorflow.compat.v1 as tf
from gradfeed._tf import sessions
atexit.register(lambda: print(kept[0](3.0)))
with tf.Graph().as_default():
  x = tf.placeholder(tf.float64, [])
  kept.append(gf.function(x, gf.gradient(x ** 3, x), tf.Session()))
print(kept[0](2.0))
"""


class EndOfProcessTest(absltest.TestCase):

  @modes.without_mode
  def test_nothing_is_printed(self):
    done = processes.run(["-W", "ignore", "-c", _PROGRAM], fresh=True)
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(done.stdout.split(), ["12.0", "27.0"])
    self.assertNotIn("Exception ignored", done.stderr)
    self.assertNotIn("TF_SessionReleaseCallable", done.stderr)
