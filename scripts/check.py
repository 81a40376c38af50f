"""Runs every test in both modes of TensorFlow, side by side.

  python scripts/check.py
  python scripts/check.py --select=tests/evaluation/functions_test.py

A process can have one mode only, so each has its own; GRADFEED_MODE tells it
which. The status is 0 if all tests pass in both.
"""

import os
import subprocess
import sys
import tempfile

from absl import app
from absl import flags

_SELECT = flags.DEFINE_list(
    "select", ["tests"], "Which tests to run, as pytest takes them.")

MODES = ("v1", "v2")
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def start(mode, select, output):
  """Starts pytest in `mode`.

  Args:
    mode: str, of `MODES`.
    select: list of str.
    output: file that takes what it prints.

  Returns:
    `subprocess.Popen`.
  """
  environment = dict(os.environ, GRADFEED_MODE=mode)
  environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  return subprocess.Popen(
      [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"] + select,
      cwd=_ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError("not a flag: {}".format(" ".join(argv[1:])))
  running = []
  for mode in MODES:
    output = tempfile.TemporaryFile()
    running.append((mode, output, start(mode, _SELECT.value, output)))
  failed = []
  for mode, output, process in running:
    print("==== mode {}: running".format(mode), flush=True)
    if process.wait():
      failed.append(mode)
    output.seek(0)
    print(output.read().decode("utf-8", "replace"), flush=True)
    output.close()
  print("==== failed in mode {}".format(" and ".join(failed)) if failed
        else "==== passed in both modes")
  return 1 if failed else 0


if __name__ == "__main__":
  app.run(main)
