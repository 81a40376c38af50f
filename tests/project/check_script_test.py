"""scripts/check.py on planted tests: what it prints, when, and its status."""

import os
import re
import signal
import subprocess
import sys

from absl.testing import parameterized

from tests.testing import folders

_CHECK = os.path.join(folders.ROOT, "scripts", "check.py")

#: It ends when this test has seen how far it is.
_GOOD = """
import os, time

def test_good():
  for _ in range(1200):
    if os.path.exists({seen!r}):
      return
    time.sleep(0.05)
  raise AssertionError("nothing was told meanwhile")
"""

#: The second test ends when this test has seen the failure of the first.
_BAD = """
import os, time

def test_bad():
  print("said before")
  assert 1 == 2

def test_waits():
  for _ in range(1200):
    if os.path.exists({seen!r}):
      return
    time.sleep(0.05)
  raise AssertionError("the failure was not reported at once")
"""

_ENDLESS = """
import os, time

def test_endless():
  with open({pid!r} + ".new", "w") as file:
    file.write(str(os.getpid()))
  os.rename({pid!r} + ".new", {pid!r})
  time.sleep(600)
"""


class CheckScriptTest(folders.FolderTest):

  def start(self, test, *arguments):
    """Starts the script with `test` as the text of the one test file."""
    with open(self.path("planted_test.py"), "w") as file:
      file.write(test)
    return self._started(
        "--select=" + self.path("planted_test.py"), "--seconds=0.2", *arguments)

  def _started(self, *arguments):
    process = subprocess.Popen(
        [sys.executable, _CHECK] + list(arguments), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, universal_newlines=True)
    self.addCleanup(process.stdout.close)
    self.addCleanup(process.kill)
    return process

  def until(self, process, pattern):
    """What the script prints up to the line that fits."""
    lines = []
    for line in process.stdout:
      lines.append(line)
      if re.search(pattern, line):
        return "".join(lines)
    raise AssertionError("no {}: {}".format(pattern, "".join(lines)))

  def test_a_failure_is_reported_at_once_and_is_status_1(self):
    seen = self.path("seen")
    process = self.start(_BAD.format(seen=seen), "--modes=v1")
    self.until(process, r"v1: FAILED .*::test_bad")
    self.until(process, "said before")
    open(seen, "w").close()
    rest = process.stdout.read()
    self.assertEqual(process.wait(), 1)
    self.assertRegex(rest, r"\nv1: FAILED .*::test_bad\n")
    self.assertRegex(rest, r"\n==== v1: 1 failed, 1 passed in [0-9.]+s")
    self.assertTrue(rest.endswith("==== failed in mode v1\n"), rest)

  def test_progress_and_a_summary_of_each_mode(self):
    seen = self.path("seen")
    process = self.start(
        _GOOD.format(seen=seen), "--modes=v1,v2,eager", "--durations=1")
    printed = self.until(process, "v[12]: (collecting|0 of 1 tests, 0 failed)")
    open(seen, "w").close()
    printed += process.stdout.read()
    self.assertEqual(process.wait(), 0, printed)
    for mode in ("v1", "v2", "eager"):
      self.assertRegex(printed, r"\n==== {}: 1 passed in ".format(mode))
    self.assertIn("slowest 1 durations", printed)
    self.assertTrue(printed.endswith(
        "==== passed in every mode: {}\n".format(", ".join(re.findall(
            r"==== (\w+): 1 passed", printed)[3:]))), printed)

  def test_a_file_that_cannot_be_imported(self):
    process = self.start("import there_is_no_such_module", "--modes=v1")
    printed = process.stdout.read()
    self.assertEqual(process.wait(), 1, printed)
    self.assertRegex(printed, r"\n==== v1: FAILED .*\n.*planted_test.py")
    self.assertIn("there_is_no_such_module", printed)

  @parameterized.parameters(signal.SIGINT, signal.SIGTERM)
  def test_interrupted_it_ends_what_it_started(self, number):
    process = self.start(_ENDLESS.format(pid=self.path("pid")), "--modes=v1")
    self.until(process, "0 of 1 tests")
    while not os.path.exists(self.path("pid")):
      self.until(process, "0 of 1 tests")
    process.send_signal(number)
    printed = process.stdout.read()
    self.assertEqual(process.wait(), 130, printed)
    self.assertIn("==== interrupted", printed)
    with open(self.path("pid")) as file, self.assertRaises(ProcessLookupError):
      os.kill(int(file.read()), 0)

  @parameterized.parameters("--modes=v3", "--nonsense", "v1")
  def test_what_is_no_flag(self, argument):
    process = self._started(argument)
    printed = process.stdout.read()
    self.assertEqual(process.wait(), 1, printed)
    self.assertIn(argument.split("=")[-1].strip("-"), printed)
    self.assertNotIn("Traceback", printed)
