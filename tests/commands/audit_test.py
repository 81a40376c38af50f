"""`gradfeed audit`: a script runs as Python runs it, and is reported on."""

import json
import os
import textwrap

from gradfeed.commands import audit
from tests.testing import folders
from tests.testing import processes

_SCRIPT = """\
import pickle, sys
import tensorflow.compat.v1 as tf
from absl import app, flags
import beside
flags.DEFINE_integer("steps", 3, "Steps.")
flags.DEFINE_string("format", "", "The command has one too.")
class Kept(object):
  pass
def main(argv):
  pickle.dumps(Kept())
  print(argv, flags.FLAGS.format, __name__, __file__, sys.argv, beside.NAME)
  with tf.Graph().as_default(), tf.Session() as session:
    x = tf.placeholder(tf.float32, [])
    for _ in range(flags.FLAGS.steps):
      dx, = tf.gradients(tf.exp(x), x)
      print(session.run(dx, {x: 0.0}))
  if flags.FLAGS.format == "fail":
    raise KeyError("of the script")
  sys.exit(7)
if __name__ == "__main__":
  app.run(main)
"""


class AuditCommandTest(folders.FolderTest):

  def setUp(self):
    super().setUp()
    for name, text in (("s.py", _SCRIPT), ("beside.py", "NAME = 'beside'")):
      with open(self.path(name), "w") as script:
        script.write(textwrap.dedent(text))

  def run_audit(self, *arguments):
    return processes.gradfeed("audit", *arguments, cwd=self.folder)

  def test_as_python_runs_it(self):
    done = self.run_audit("--json=report.json", "--html=report.html", "s.py",
                          "--steps=4", "--format=own", "rest")
    self.assertEqual(done.returncode, 7, done.stderr[-2000:])
    self.assertEqual(done.stdout.splitlines(), [
        "['s.py', 'rest'] own __main__ s.py "
        "['s.py', '--steps=4', '--format=own', 'rest'] beside"] + 4 * ["1.0"])
    self.assertIn("s.py:15: tf.gradients built 4 times", done.stderr)
    with open(self.path("report.json")) as file:
      report = json.load(file)
    self.assertEqual(
        {f["kind"]: f["line"] for f in report["findings"]
         if f["severity"] == "warning"},
        {"built_in_loop": 15, "graph_grows": 16})
    self.assertTrue(os.path.exists(self.path("report.html")))

  def test_report_after_an_exception(self):
    done = self.run_audit("s.py", "--format=fail")
    self.assertEqual(done.returncode, 1)
    self.assertIn("KeyError: 'of the script'", done.stderr)
    self.assertNotIn("commands/audit.py", done.stderr)
    self.assertIn("to mend: 1 place in", done.stderr)

  def test_refusals(self):
    for arguments, message in (([], "missing: the script"),
                               (["none.py"], "none.py: No such file"),
                               (["--format=x", "s.py"], "format")):
      done = self.run_audit(*arguments)
      self.assertEqual(done.returncode, 2)
      self.assertIn(message, done.stderr)

  def test_split(self):
    for arguments, own in ((["s.py", "--json=a"], 0), (["--json", "a", "s.py"],
                                                       2), (["--json=a"], 1)):
      self.assertEqual(
          audit.split(arguments), (arguments[:own], arguments[own:]))
