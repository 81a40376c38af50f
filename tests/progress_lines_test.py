"""The line on a terminal: when it is written, and that it ends."""

import io
import unittest.mock

from absl.testing import absltest

from gradfeed import progress_lines


class Terminal(io.StringIO):

  def isatty(self):
    return True


class ReporterTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.now = 100.0
    self.enter_context(unittest.mock.patch.object(
        progress_lines.time, "perf_counter", lambda: self.now))

  def _reporter(self, stream, progress=None, after=0.0):
    self.enter_context(unittest.mock.patch.object(
        progress_lines.sys, "stderr", stream))
    return progress_lines.reporter(progress, "{} of {}".format, after)

  def test_waits_before_the_first_line_and_between_lines(self):
    terminal = Terminal()
    report = self._reporter(terminal, after=2.0)
    for self.now in (100.0, 101.9, 102.0, 102.1, 102.3):
      report(self.now, "many")
    report.close()
    self.assertEqual(terminal.getvalue(), "".join(
        "\rgradfeed: {} of many\x1b[K".format(now)
        for now in (102.0, 102.3, 102.3)) + "\n")

  def test_leaves_a_terminal_alone_that_had_no_line(self):
    terminal = Terminal()
    report = self._reporter(terminal, after=2.0)
    report(1, 2)
    report.close()
    self.assertEqual(terminal.getvalue(), "")

  def test_in_a_log_only_where_it_is_asked_for(self):
    self.assertIsNone(self._reporter(io.StringIO()))
    log = io.StringIO()
    report = self._reporter(log, True)
    for self.now in (100.0, 129.0, 131.0, 140.0):
      report(self.now, 200)
    report.close()
    self.assertEqual(log.getvalue(), "gradfeed: 131.0 of 200\n")

  def test_tells_a_function(self):
    seen = []
    report = self._reporter(Terminal(), lambda *state: seen.append(state))
    report(1, 2)
    report.close()
    self.assertEqual(seen, [(1, 2)])
