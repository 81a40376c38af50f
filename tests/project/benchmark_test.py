"""scripts/benchmark.py as a process: its rows and its exit status, no time."""

import importlib.util
import json
import os
import tempfile
import unittest

from absl.testing import absltest
from absl.testing import parameterized

from gradfeed import _tf
from tests.testing import folders
from tests.testing import processes

_SCRIPTS = os.path.join(folders.ROOT, "scripts")

_MODE = "--mode=" + os.environ.get("GRADFEED_MODE", "v1")
_QUICK = ["--seconds=0.01", "--rounds=2", "--batches=1", _MODE]

_SMALL = ["--seconds=0.01", "--rounds=1", "--shrink=16", _MODE]

#: Runs the benchmark after `{}` has changed a part of it.
_CHANGED = """
import sys
sys.path.insert(0, {scripts!r})
from absl import flags
import benchmark
from tests.testing import processes
processes.fork_python()
{change}
flags.FLAGS(["benchmark"] + {flags!r})
sys.exit(benchmark.main(["benchmark"] + {names!r}))
"""

_A_THOUSANDTH_OFF = """
import numpy as np
from benchmarks import libraries
ask = libraries.Library.ask
def off(library, question, *values):
  answer = ask(library, question, *values)
  if question == "prepare" and library.name == "make_callable":
    answer = [(dtype, shape, (
        np.frombuffer(data, dtype) * np.float32(1.001)).tobytes())
              for dtype, shape, data in answer]
  return answer
libraries.Library.ask = off
"""

_A_THOUSANDTH_OFF_IN_A_CLASS = """
import numpy as np
from benchmarks import libraries
ask = libraries.Library.ask
def off(library, question, *values):
  answer = ask(library, question, *values)
  if question == "prepare" and library.name == "gradfeed":
    dtype, shape, data = answer[-1]
    array = np.frombuffer(data, dtype).reshape(shape).copy()
    array[:, 61] *= 1.001  # Each second one is in the loop.
    answer[-1] = dtype, shape, array.tobytes()
  return answer
libraries.Library.ask = off
"""

_A_THOUSANDTH_OFF_IN_A_MODEL = """
import numpy as np
from benchmarks import libraries
ask = libraries.Library.ask
def off(library, question, *values):
  answer = ask(library, question, *values)
  if question == "prepare" and library.name == "make_callable":
    dtype, shape, data = answer["arrays"][-1]
    array = np.frombuffer(data, dtype) * np.float32(1.001)
    answer["arrays"][-1] = dtype, shape, array.tobytes()
  return answer
libraries.Library.ask = off
"""

#: What a model's folder says of it; x has three rows, and no other number.
_META = """# cubes

## cubes
loader: pb cubes.pb  tags=None
x: x:0 float32[3, 2]
y: y:0 [..., 1]
extra feeds: {"scale:0": 2.0}
needs while-context repair: False
"""

_NOTHING_REMEMBERED = """
from benchmarks import graphs
graphs.gf.gradient = lambda y, x: graphs.tf.gradients(y, x)[0]
"""

_A_THOUSANDTH_OFF_AND_MORE_OPS = """
from benchmarks import legacy
read = legacy.launcher.read
def off(path):
  outcome = read(path)
  if not outcome.replaced:
    return outcome
  results = dict(outcome.results, chain=outcome.results["chain"] * 1.001)
  return outcome._replace(
      results=results, ops=[
          (graph, n + i) for i, (graph, n) in enumerate(outcome.ops)])
legacy.launcher.read = off
"""


def _benchmark(*arguments):
  """Runs the script with workers of its own, as a user does."""
  return processes.run(
      [os.path.join(_SCRIPTS, "benchmark.py")] + list(arguments), fresh=True)


def _changed(change, names, *arguments):
  """Runs it after `change`, with workers that are forked."""
  return processes.run(["-c", _CHANGED.format(
      scripts=_SCRIPTS, change=change, names=names, flags=list(arguments))],
                       env=dict(os.environ, PYTHONPATH=folders.ROOT))


def _forked(*arguments):
  """Runs it as it is, with workers that are forked."""
  names = [word for word in arguments if not word.startswith("--")]
  return _changed("", names, *[word for word in arguments
                               if word.startswith("--")])


def _assert_make_callable_is_off(test, run):
  """Asserts that a run told of `make_callable`, and of nothing else."""
  test.assertEqual(run.returncode, 1, run.stderr)
  test.assertRegex(run.stdout, r"make_callable .*NO\b")
  test.assertRegex(run.stdout, r"gradfeed .*yes\b")
  test.assertRegex(run.stderr, "FAILED: .*make_callable")


class CallsTest(parameterized.TestCase):

  def test_a_row_for_each_library_all_in_agreement(self):
    with tempfile.TemporaryDirectory() as folder:
      path = os.path.join(folder, "report.json")
      run = _benchmark("--only=tiny", "--json=" + path, *_QUICK)
      self.assertEqual(run.returncode, 0, run.stderr)
      self.assertEqual(os.listdir(folder), ["report.json"])
      with open(path) as file:
        report = json.load(file)
    left_out = [line.split()[0] for line in run.stdout.splitlines()
                if " is left out: " in line]
    self.assertEqual("gradfeed_jit" in left_out, not _tf.IS_TF2)
    libraries = [name for name in (
        "gradfeed", "session_run", "gradfeed_jit", "make_callable")
                 if name not in left_out]
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
    _assert_make_callable_is_off(self, run)


class DerivativesTest(parameterized.TestCase):

  def test_a_row_for_each_way_all_in_agreement(self):
    with tempfile.TemporaryDirectory() as folder:
      path = os.path.join(folder, "report.json")
      run = _benchmark("derivatives", "--json=" + path, *_SMALL)
      self.assertEqual(run.returncode, 0, run.stderr)
      with open(path) as file:
        report = json.load(file)
    del report["environment"]
    self.assertEqual([title.split(":")[0] for title in report], [
        "jacobian_1000", "wide_jacobian", "sparse_jacobian", "dense_jacobian",
        "jacobian_10", "batch_jacobian", "jvp", "hessian", "hvp", "per_example_gradient"])
    for title, rows in report.items():
      by_name = {row["library"]: row for row in rows}
      expected = {"gradfeed", "session_run", "parallel_for", "jax", "torch"}
      for line in run.stdout.splitlines():
        name, separator, rest = line.partition(" is left out")
        if separator and (rest.startswith(":") or rest.startswith(
            " of {}:".format(title.split(":")[0]))):
          expected.remove(name)
      if title.startswith("jacobian_1000"):
        expected.remove("session_run")
        expected |= {"session_run, 31 of 62 classes",
                     "session_run, all 62, in proportion or more"}
      self.assertEqual(set(by_name), expected)
      self.assertEqual(by_name["gradfeed"]["x gradfeed"], 1.0)
      for name, row in by_name.items():
        self.assertGreater(row["build s"], 0)
        self.assertGreater(row["median ms"], 0)
        if name in ("gradfeed", "session_run", "parallel_for"):
          self.assertGreater(row["ops added"], 10)
        if "proportion" not in name:
          self.assertEqual(row["agrees"], "yes")
          self.assertLess(row["max difference"], 1e-5)

  def test_what_a_part_of_the_classes_takes_is_scaled_in_a_row_of_its_own(self):
    run = _forked(
        "derivatives", "--only=jacobian_1000,session_run", *_SMALL)
    self.assertEqual(run.returncode, 0, run.stderr)
    lines = run.stdout.splitlines()
    part, = [line.split("classes")[1].split() for line in lines
             if "31 of 62 classes" in line]
    whole, = [line.split("or more")[1].split() for line in lines
              if "all 62, in proportion" in line]
    self.assertEqual(part[-1], "yes")
    self.assertEqual(whole[-1], "-")  # Nothing that was compared.
    self.assertEqual(int(whole[2]), 2 * int(part[2]))
    self.assertEqual(part[5], "-")  # No ratio of a part to the whole.
    self.assertGreater(float(whole[5]), 0)

  def test_the_whole_loop_on_demand(self):
    run = _forked(
        "derivatives", "--only=jacobian_1000,session_run", "--whole", *_SMALL)
    self.assertEqual(run.returncode, 0, run.stderr)
    self.assertRegex(run.stdout, r"\n *session_run .*yes")
    self.assertNotIn("proportion", run.stdout)

  def test_a_thousandth_off_in_a_class_that_the_loop_leaves_out(self):
    run = _changed(
        _A_THOUSANDTH_OFF_IN_A_CLASS, ["derivatives"],
        "--only=jacobian_1000,parallel_for", *_SMALL)
    self.assertEqual(run.returncode, 1, run.stderr)
    self.assertRegex(run.stdout, r"gradfeed .*NO\b")
    self.assertRegex(run.stdout, r"parallel_for .*yes\b")

  def test_a_thousandth_off_is_a_failure(self):
    run = _changed(
        _A_THOUSANDTH_OFF.replace("make_callable", "parallel_for"),
        ["derivatives"], "--only=per_example_gradient,parallel_for", *_SMALL)
    self.assertEqual(run.returncode, 1, run.stderr)
    self.assertRegex(run.stdout, r"parallel_for .*NO\b")
    self.assertRegex(run.stdout, r"gradfeed .*yes\b")
    self.assertRegex(run.stderr, "FAILED: .*parallel_for")


class GrowthTest(parameterized.TestCase):

  def test_nothing_grows_and_the_copy_is_as_large_as_what_is_copied(self):
    run = _forked("growth", "building", "--calls=200", "--layers=40",
                     "--rounds=1", _MODE)
    self.assertEqual(run.returncode, 0, run.stderr)
    self.assertRegex(run.stdout, r"function +200 .*yes")
    compiled = ["function, compiled, of many shapes"] if _tf.IS_TF2 else []
    for kind in ["run", "gradient", "function, at a variable",
                 "function made anew"] + compiled:
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


class FirstTest(parameterized.TestCase):

  def test_a_row_for_each_way_all_in_agreement(self):
    run = _benchmark("first", "--only=classifier", "--rounds=1", _MODE)
    self.assertEqual(run.returncode, 0, run.stderr)
    for way in ("session_run", "function", "run"):
      self.assertRegex(run.stdout, r"classifier +%s .*yes\b" % way)


class StreamingTest(parameterized.TestCase):

  def test_each_way_has_a_rate(self):
    run = _forked("streaming", "--points=2000", "--rounds=1", _MODE)
    self.assertEqual(run.returncode, 0, run.stderr)
    for way in ("gradfeed.stream, chunk=1024", "from .csv", "to .tfrecord",
                "Session.run, 32 points"):
      self.assertRegex(run.stdout, way + r" +\d+ ")
    for network in ("softmax regression", "MLP 512, 512", "CNN"):
      self.assertRegex(run.stdout, network + r"( +\d+){4}\n")


class LegacyTest(parameterized.TestCase):

  def test_both_ways_agree(self):
    run = _forked("legacy", "--only=hmc", "--rounds=1", _MODE)
    self.assertEqual(run.returncode, 0, run.stderr)
    self.assertRegex(run.stdout, r"\n *hmc +60 .* yes +yes")

  def test_a_thousandth_off_and_ops_at_each_step_are_failures(self):
    run = _changed(_A_THOUSANDTH_OFF_AND_MORE_OPS, ["legacy"], "--only=hmc",
                   "--rounds=1", _MODE)
    self.assertEqual(run.returncode, 1, run.stderr)
    self.assertRegex(run.stdout, r"\n *hmc +60 .* NO +NO")
    self.assertIn("FAILED", run.stderr)


@unittest.skipUnless(_tf.IS_TF2, "A module is code of TF 2.")
class ModulesTest(parameterized.TestCase):

  def test_a_row_for_each_way_all_in_agreement(self):
    run = _forked("modules", "--only=softmax", *_QUICK)
    self.assertEqual(run.returncode, 0, run.stderr)
    for way in ("session_run", "function", "module", "module in tf.function",
                "module under a tape"):
      self.assertRegex(
          run.stdout, r"\n *softmax +1 +{} +[0-9. ]+yes".format(way))


class ModelsTest(parameterized.TestCase):

  def _rows(self, *arguments):
    """(the run, its rows by library) of a network or model."""
    with tempfile.TemporaryDirectory() as folder:
      path = os.path.join(folder, "report.json")
      run = _forked("models", "--json=" + path, *(_QUICK + list(arguments)))
      self.assertEqual(run.returncode, 0, run.stderr)
      with open(path) as file:
        report = json.load(file)
    del report["environment"]
    (network, rows), = report.items()
    self.assertEqual({row["network"] for row in rows}, {network})
    return run, {row["library"]: row for row in rows}

  def test_a_row_for_each_library_all_in_agreement(self):
    run, rows = self._rows("--only=classifier")
    expected = ["session_run", "gradfeed", "gradfeed_jit", "make_callable",
                "tf_function", "jax", "torch"]
    self.assertEqual(list(rows), [
        name for name in expected if name + " is left out" not in run.stdout])
    self.assertEqual("gradfeed_jit" in rows, _tf.IS_TF2)
    self.assertEqual(rows["session_run"]["x session_run"], 1.0)
    for row in rows.values():
      self.assertEqual((row["batch"], row["agrees"], row["note"]),
                       (1, "yes", None))
      self.assertLess(row["largest difference"], 1e-5)
      self.assertGreater(row["median ms"], 0)
      self.assertGreater(row["first call s"], 0)

  def test_a_model_of_a_folder_with_a_batch_of_its_own(self):
    with tempfile.TemporaryDirectory() as folder:
      self._write(folder)
      run, rows = self._rows(
          "--only=make_callable", "--models=" + folder)
    self.assertEqual(list(rows), ["session_run", "gradfeed", "make_callable"])
    for row in rows.values():
      self.assertEqual((row["network"], row["batch"], row["agrees"]),
                       ("cubes", 3, "yes"))
    self.assertRegex(run.stdout, r"cubes +3 +gradfeed ")

  def _write(self, folder):
    """A model of y = scale x^3, and one that is no model."""
    tf = _tf.tf
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float32, [3, 2], name="x")
      scale = tf.placeholder(tf.float32, [], name="scale")
      tf.multiply(scale, x ** 3, name="y")
    for name in ("cubes", "none"):
      os.mkdir(os.path.join(folder, name))
    with open(os.path.join(folder, "cubes", "cubes.pb"), "wb") as file:
      file.write(graph.as_graph_def().SerializeToString())
    with open(os.path.join(folder, "cubes", "META.md"), "w") as file:
      file.write(_META)

  def test_a_thousandth_off_at_one_point_is_a_failure(self):
    run = _changed(_A_THOUSANDTH_OFF_IN_A_MODEL, ["models"],
                   "--only=classifier,make_callable", *_QUICK)
    _assert_make_callable_is_off(self, run)

  @unittest.skipUnless(_tf.IS_TF2, "XLA compiles in TF 2.")
  def test_what_xla_refuses_has_the_reason_in_its_row(self):
    run, rows = self._rows("--only=block_lstm,gradfeed_jit")
    self.assertEqual(rows["gradfeed"]["agrees"], "yes")
    refused = rows["gradfeed_jit"]
    self.assertIsNone(refused["median ms"])
    self.assertIsNone(refused["agrees"])
    self.assertRegex(refused["note"], "UnsupportedGraphError: .*BlockLSTM")
    self.assertRegex(run.stdout, "gradfeed_jit .*UnsupportedGraphError")


class RefusalTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ("unknown_benchmark", ["callz"], "callz.*calls, growth, building"),
      ("unknown_library", ["--only=numpy"], "numpy; it takes gradfeed,"),
      ("unknown_project", ["legacy", "--only=tiny"], "tiny; .*hmc, influence"),
      ("unknown_network", ["modules", "--only=hmc"], "hmc; .*tiny, softmax"),
      ("unknown_model", ["models", "--only=hmc"], "hmc; .*gradfeed_jit, .*gru"),
      ("no_folder", ["models", "--models=/nowhere"], "/nowhere"),
      ("unknown_task", ["derivatives", "--only=tiny"], "tiny; .*hessian, hvp"),
      ("no_number", ["--batches=many"], "numbers of rows, not many"),
  )
  def test_one_line_and_status_one(self, arguments, message):
    run = _benchmark(*arguments)
    self.assertEqual(run.returncode, 1)
    self.assertRegex(run.stderr, message)
    self.assertLen(run.stderr.strip().splitlines(), 1)


if __name__ == "__main__":
  absltest.main()
