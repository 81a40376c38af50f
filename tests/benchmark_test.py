"""scripts/benchmark.py as a process: its rows and its exit status, no time."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile

from absl.testing import absltest
from absl.testing import parameterized

_SCRIPTS = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "scripts")
_MODE = "--mode=" + os.environ.get("GRADFEED_MODE", "v1")
_QUICK = ["--seconds=0.01", "--rounds=2", "--batches=1", _MODE]

#: Runs the benchmark after `{}` has changed a part of it.
_CHANGED = """
import sys
sys.path.insert(0, {scripts!r})
from absl import flags
import benchmark
{change}
flags.FLAGS(["benchmark"] + {flags!r})
sys.exit(benchmark.main(["benchmark"] + {names!r}))
"""

_A_THOUSANDTH_OFF = """
import numpy as np
ask = benchmark.Library.ask
def off(library, question, *values):
  answer = ask(library, question, *values)
  if question == "prepare" and library.name == "make_callable":
    answer = [(dtype, shape, (
        np.frombuffer(data, dtype) * np.float32(1.001)).tobytes())
              for dtype, shape, data in answer]
  return answer
benchmark.Library.ask = off
"""

_NOTHING_REMEMBERED = """
import benchmark_graphs
benchmark_graphs.gf.gradient = (
    lambda y, x: benchmark_graphs.tf.gradients(y, x)[0])
"""


def _run(*arguments):
  return subprocess.run(
      [sys.executable] + list(arguments), stdout=subprocess.PIPE,
      stderr=subprocess.PIPE, universal_newlines=True, check=False)


def _benchmark(*arguments):
  return _run(os.path.join(_SCRIPTS, "benchmark.py"), *arguments)


def _changed(change, names, *arguments):
  return _run("-c", _CHANGED.format(
      scripts=_SCRIPTS, change=change, names=names, flags=list(arguments)))


class CallsTest(parameterized.TestCase):

  def test_a_row_for_each_library_all_in_agreement(self):
    with tempfile.TemporaryDirectory() as folder:
      path = os.path.join(folder, "report.json")
      run = _benchmark("--only=tiny", "--json=" + path, *_QUICK)
      self.assertEqual(run.returncode, 0, run.stderr)
      self.assertEqual(os.listdir(folder), ["report.json"])
      with open(path) as file:
        report = json.load(file)
    libraries = ["gradfeed", "session_run", "make_callable"]
    left_out = [line.split()[0] for line in run.stdout.splitlines()
                if " is left out: " in line]
    libraries += [name for name in ("tf_function", "eager", "jax")
                  if name not in left_out]
    self.assertEqual("jax" in left_out,
                     importlib.util.find_spec("jax") is None)
    rows = report["Time per call, NumPy in, NumPy out"]
    self.assertEqual([row["library"] for row in rows], libraries)
    for row in rows:
      self.assertEqual((row["network"], row["batch"]), ("tiny", 1))
      self.assertEqual(row["agrees"], "yes")
      self.assertLess(row["max difference"], 1e-6)
      self.assertGreater(row["median us"], 0)
      self.assertGreaterEqual(row["median us"] * 1.000001, row["p10 us"])
    self.assertEqual(rows[0]["x gradfeed"], 1.0)
    self.assertEqual([row["library"] for row in report["Memory"]], libraries)
    for name in libraries:
      self.assertRegex(run.stdout, "{}: .* Python".format(name))
      self.assertRegex(run.stdout, r"tiny +1 +{} ".format(name))

  def test_a_thousandth_off_is_a_failure(self):
    run = _changed(_A_THOUSANDTH_OFF, ["calls"],
                   "--only=tiny,make_callable", *_QUICK)
    self.assertEqual(run.returncode, 1, run.stderr)
    self.assertRegex(run.stdout, r"make_callable .*NO\b")
    self.assertRegex(run.stdout, r"gradfeed .*yes\b")
    self.assertRegex(run.stderr, "FAILED: .*make_callable")


class GrowthTest(parameterized.TestCase):

  def test_nothing_grows_and_the_copy_is_as_large_as_what_is_copied(self):
    run = _benchmark("growth", "building", "--calls=200", "--layers=40",
                     "--rounds=1", _MODE)
    self.assertEqual(run.returncode, 0, run.stderr)
    self.assertRegex(run.stdout, r"function +200 .*yes")
    for kind in ("run", "gradient", "function, at a variable",
                 "function made anew"):
      self.assertRegex(run.stdout, r"{} +\d+ .*yes".format(kind))
    added = [int(line.split("top" if " top " in line else "bottom")[1]
                 .split()[1]) for line in run.stdout.splitlines()
             if "from the top" in line or "at the bottom" in line]
    self.assertLen(added, 8)
    self.assertLess(max(added[1:4]), added[0] * 1.2)
    self.assertGreater(added[7], added[4] * 2)

  def test_ops_at_every_call_are_a_failure(self):
    run = _changed(_NOTHING_REMEMBERED, ["growth"], "--calls=20", _MODE)
    self.assertEqual(run.returncode, 1, run.stderr)
    self.assertRegex(run.stdout, r"gradient .*NO\b")
    self.assertRegex(run.stdout, r"function +20 .*yes\b")
    self.assertIn("FAILED", run.stderr)


class RefusalTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ("unknown_benchmark", ["callz"], "callz.*calls, growth, building"),
      ("unknown_library", ["--only=numpy"], "numpy; it takes gradfeed,"),
      ("no_number", ["--batches=many"], "numbers of rows, not many"),
  )
  def test_one_line_and_status_one(self, arguments, message):
    run = _benchmark(*arguments)
    self.assertEqual(run.returncode, 1)
    self.assertRegex(run.stderr, message)
    self.assertLen(run.stderr.strip().splitlines(), 1)


if __name__ == "__main__":
  absltest.main()
