"""Tests of the progress of a stream: on a terminal, and in a log."""

import os
import pty
import unittest.mock

from absl.testing import parameterized

from gradfeed.streaming import progress_bars
from tests.testing import folders
from tests.testing import processes

_STEPS = """
from gradfeed.streaming import progress_bars
show = progress_bars.reporter(True)
for done in (20, 40, 70, 100):
  show(done, 100)
show.close()
"""


def _run(stderr):
  done = processes.run(
      ["-c", _STEPS], stderr=stderr,
      env=dict(os.environ, PYTHONPATH=folders.ROOT, PYTHONWARNINGS="ignore"))
  done.check_returncode()
  return done


class ReporterTest(parameterized.TestCase):

  def test_a_bar_on_a_terminal(self):
    terminal, end = pty.openpty()
    try:
      done = _run(end)
      os.close(end)
      text = os.read(terminal, 100000).decode()
    finally:
      os.close(terminal)
    self.assertEqual(done.stdout, "")
    self.assertIn("100/100", text)
    self.assertIn("points/s", text)

  def test_lines_in_a_log(self):
    done = _run(processes.PIPE)
    self.assertEqual(done.stdout, "")
    self.assertIn("gradfeed: going on after 20 of 100 points.\n", done.stderr)
    self.assertNotIn("\r", done.stderr)

  @parameterized.named_parameters(
      ("of_all", 100, "gradfeed: 40 of 100 points, 1 in a second, 60 s left."),
      ("of_many", None, "gradfeed: 40 points, 1 in a second."))
  def test_a_line_each_half_minute(self, count, expected):
    now, lines = [0.0], []
    with unittest.mock.patch.object(
        progress_bars.time, "perf_counter", lambda: now[0]), (
            unittest.mock.patch.object(progress_bars, "_print", lines.append)):
      show = progress_bars.Lines()
      for done in range(0, 41, 10):
        now[0] = float(done)
        show(done, count)
      show.close()
    self.assertEqual(["gradfeed: " + line for line in lines], [expected])

  def test_a_function_of_the_callers(self):
    calls = []
    show = progress_bars.reporter(lambda *call: calls.append(call))
    show(1, 2)
    show.close()
    progress_bars.reporter(None)(1, 2)
    self.assertEqual(calls, [(1, 2)])
