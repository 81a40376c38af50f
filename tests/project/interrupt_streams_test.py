"""Interrupted streams: a part of what scripts/interrupt_streams.py does."""

import os

from absl.testing import absltest

from tests.testing import folders
from tests.testing import processes

_SCRIPT = os.path.join(folders.ROOT, "scripts", "interrupt_streams.py")

#: Runs the script with streams that write each row with 1 added.
_WRONG = """
import runpy, sys
sys.path.insert(0, {root!r})
import gradfeed as gf
stream, function = gf.stream, gf.function
gf.function = lambda x, y, session: function(x, y + 1.0, session)
sys.argv = ["interrupt_streams", "--runs=2", "--rows=300"]
runpy.run_path({script!r}, run_name="__main__")
"""


class InterruptStreamsTest(absltest.TestCase):

  def test_streams_are_whole_after_interruptions(self):
    done = processes.run([_SCRIPT, "--runs=3", "--rows=600", "--seed=2"])
    self.assertEqual(done.returncode, 0, done.stdout + done.stderr[-500:])
    self.assertIn("3 streams, whole", done.stdout)
    self.assertIn("full disk: StreamError", done.stdout)

  def test_wrong_rows_are_counted(self):
    done = processes.run(
        ["-c", _WRONG.format(root=folders.ROOT, script=_SCRIPT)])
    self.assertEqual(done.returncode, 1, done.stderr[-500:])
    self.assertIn("wrong rows", done.stdout)


if __name__ == "__main__":
  absltest.main()
