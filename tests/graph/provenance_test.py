"""Which line of code made an op: the user's, never that of a library."""

import contextlib
import os
import sysconfig

from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from gradfeed.graph import provenance
from tests.testing import graphs


def _call_from(path, function):
  """Calls `function` from a line of code that is said to be in `path`."""
  code = compile("result = function()", path, "exec")
  namespace = {"function": function}
  exec(code, namespace)  # pylint: disable=exec-used
  return namespace["result"]


class MadeAtTest(graphs.GraphTest):

  def test_is_the_innermost_line_of_the_users(self):
    op = _call_from(os.path.join("home", "model.py"),
                    lambda: tf.constant(1.0).op)
    # The lambda above stands in this file.
    self.assertRegex(provenance.made_at(op), r"^provenance_test\.py:\d+$")
    op = _call_from(os.path.join("home", "model.py"), tf.no_op)
    self.assertEqual(provenance.made_at(op), "model.py:1")

  @parameterized.parameters(
      "/venv/lib/python3.11/site-packages/absl/app.py",
      "/usr/lib/python3/dist-packages/tf_slim/layers.py",
      "/src/absl/app.py", "/src/keras/layers.py", "/src/tf_keras/layers.py",
      "C:\\venv\\Lib\\site-packages\\sonnet\\linear.py",
      "/tmp/__autograph_generated_filez3a.py", "<frozen runpy>",
      os.path.join(sysconfig.get_paths()["stdlib"], "runpy.py"))
  def test_is_never_that_of_a_library(self, path):
    op = _call_from(path, tf.no_op)
    self.assertRegex(provenance.made_at(op), r"^provenance_test\.py:\d+$")

  def test_libraries_that_call_each_other(self):
    with contextlib.ExitStack() as stack:
      stack.callback(tf.no_op, name="late")
    made = provenance.made_at(self.graph.get_operation_by_name("late"))
    self.assertRegex(made, r"^provenance_test\.py:\d+$")
