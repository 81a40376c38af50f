"""Runs every test in each mode of TensorFlow, two modes at a time.

  python scripts/check.py
  python scripts/check.py --modes=v1 --select=tests/evaluation/functions_test.py

A process can have one mode only, so each has its own; GRADFEED_MODE tells it
which. How far each is, and each failure, is printed as it happens. TensorFlow
1.15 has one mode, "v1". The status is 0 if all tests pass in all modes.
"""

import importlib.util
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time

from absl import app
from absl import flags

#: Each as tests/conftest.py sets it.
MODES = ("v1", "v2", "eager")

_SELECT = flags.DEFINE_list(
    "select", ["tests"], "Which tests to run, as pytest takes them.")
_MODES = flags.DEFINE_list(
    "modes", None, "Of {}; the default is all that this TensorFlow has.".format(
        ", ".join(MODES)))
_SECONDS = flags.DEFINE_float(
    "seconds", 15.0, "How often to print how far each mode is.",
    lower_bound=0.1)
_DURATIONS = flags.DEFINE_integer(
    "durations", 0, "How many of the slowest tests to list for each mode.",
    lower_bound=0)

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

#: Processes that run tests at a time.
_PROCESSES = 2

#: Lines of pytest's output to show where it ends without a summary.
_TAIL = 40


class Run:
  """pytest in one mode.

  Args:
    mode: str, of `MODES`.
    select: list of str, as pytest takes them.
    workers: int, processes that run its tests.

  Attributes:
    mode: str, of `MODES`.
    events: int, descriptor from which to read what happens.
    failed: list of str, the tests that failed so far.
    summary: str, pytest's last line, once it has ended.
  """

  def __init__(self, mode, select, workers):
    self.mode = mode
    self.failed = []
    self.summary = None
    self._start = time.time()
    self._total, self._done, self._unread = None, 0, b""
    self._output = tempfile.TemporaryFile()
    self.events, end = os.pipe()
    environment = dict(
        os.environ, GRADFEED_MODE=mode, GRADFEED_REPORTS=str(end))
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    command = [
        sys.executable, "-m", "pytest", "-p", "tests.testing.live_reports",
        "-p", "no:cacheprovider", "-c", os.path.join(_ROOT, "pyproject.toml"),
        "--rootdir", _ROOT, "--tb=short"]
    if _DURATIONS.value:
      command.append("--durations={}".format(_DURATIONS.value))
    if workers > 1:
      command += ["-n", str(workers)]
    # A session of its own: one signal ends it and what its tests started.
    self._process = subprocess.Popen(
        command + select, cwd=_ROOT, env=environment, pass_fds=[end],
        stdin=subprocess.DEVNULL, stdout=self._output,
        stderr=subprocess.STDOUT, start_new_session=True)
    os.close(end)

  def read(self):
    """Takes in what happened, prints failures; False at the end."""
    data = os.read(self.events, 1 << 16)
    lines = (self._unread + data).split(b"\n")
    self._unread = lines.pop()
    for line in lines:
      event = json.loads(line.decode("utf-8"))
      self._total = event.get("total", self._total)
      self._done = event.get("done", self._done)
      if "failed" in event:
        self.failed.append(event["failed"])
        _print("==== {}: FAILED {}\n{}\n".format(
            self.mode, event["failed"], event["report"]))
    return bool(data)

  def progress(self):
    """One line: how far it is."""
    seconds = time.time() - self._start
    if self._total is None:
      return "{}: collecting tests, {:.0f} s".format(self.mode, seconds)
    return "{}: {} of {} tests, {} failed, {:.0f} s".format(
        self.mode, self._done, self._total, len(self.failed), seconds)

  def finish(self):
    """Waits for the end, prints the summary; whether all tests passed."""
    status = self._process.wait()
    os.close(self.events)
    self._output.seek(0)
    lines = self._output.read().decode("utf-8", "replace").strip().split("\n")
    self._output.close()
    starts = [i for i, line in enumerate(lines) if re.match("=+ slowest", line)]
    if starts:
      _print("\n".join("{}: {}".format(self.mode, line) for line in lines[
          starts[0]:starts[0] + 1 + _DURATIONS.value]))
    if status not in (0, 1):
      _print("==== {}: pytest ended with status {}\n{}".format(
          self.mode, status, "\n".join(lines[-_TAIL:])))
    # TensorFlow 1.15 may print more after it.
    last = [line for line in lines if re.search(r" in [\d.]+s", line)]
    self.summary = "==== {}: {}".format(
        self.mode, (last or lines)[-1].strip("= "))
    _print(self.summary)
    return status == 0

  def end(self):
    """Ends pytest and what its tests started."""
    for number in (signal.SIGINT, signal.SIGKILL):
      try:
        os.killpg(self._process.pid, number)
        self._process.wait(timeout=5)
      except (ProcessLookupError, subprocess.TimeoutExpired):
        pass


def _print(text):
  print(text, flush=True)


def _modes_here():
  """The modes of the TensorFlow that is installed."""
  code = "import tensorflow; print(tensorflow.__version__)"
  done = subprocess.run([sys.executable, "-W", "ignore", "-c", code],
                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                        universal_newlines=True, check=False)
  version = done.stdout.strip().split("\n")[-1]
  if not version:
    raise app.UsageError("TensorFlow cannot be imported")
  return MODES[:1] if version.startswith("1.") else MODES


def _workers(modes, running):
  """How many processes the next of `modes` gets, where more are idle."""
  idle = _PROCESSES - running - len(modes) + 1
  has_xdist = importlib.util.find_spec("xdist") is not None
  return max(1, idle) if has_xdist else 1


def check(modes, select):
  """Runs the tests.

  Args:
    modes: list of str, of `MODES`.
    select: list of str, as pytest takes them.

  Returns:
    list of (`Run`, whether all of its tests passed), in order of their ends.
  """
  waiting, running, finished = list(modes), [], []
  selector, shown = selectors.DefaultSelector(), time.time()
  try:
    while waiting or running:
      while waiting and len(running) < _PROCESSES:
        run = Run(waiting[0], select, _workers(waiting, len(running)))
        _print("==== {}: running".format(waiting.pop(0)))
        running.append(run)
        selector.register(run.events, selectors.EVENT_READ, run)
      for key, _ in selector.select(timeout=_SECONDS.value):
        run = key.data
        if not run.read():
          selector.unregister(run.events)
          running.remove(run)
          finished.append((run, run.finish()))
      if time.time() - shown >= _SECONDS.value and running:
        shown = time.time()
        _print("\n".join(run.progress() for run in running))
  finally:
    for run in running:
      run.end()
  return finished


def main(argv):
  if len(argv) > 1:
    raise app.UsageError("not a flag: {}".format(" ".join(argv[1:])))
  unknown = set(_MODES.value or ()) - set(MODES)
  if unknown:
    raise app.UsageError("--modes does not know {}; it takes {}".format(
        ", ".join(sorted(unknown)), ", ".join(MODES)))
  # Also where a shell has started it in the background, deaf to SIGINT.
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.default_int_handler)
  try:
    finished = check(_MODES.value or _modes_here(), _SELECT.value)
  except KeyboardInterrupt:
    _print("==== interrupted")
    return 130
  _print("")
  for run, _ in finished:
    for name in run.failed:
      _print("{}: FAILED {}".format(run.mode, name))
    _print(run.summary)
  bad = [run.mode for run, passed in finished if not passed]
  _print("==== failed in mode {}".format(" and ".join(bad)) if bad
         else "==== passed in every mode: {}".format(
             ", ".join(run.mode for run, _ in finished)))
  return 1 if bad else 0


if __name__ == "__main__":
  app.run(main)
