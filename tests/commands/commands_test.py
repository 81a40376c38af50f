"""The commands as processes."""

import json
import os
import re

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed import _tf
from gradfeed.commands import demo
from gradfeed.commands import inspect
from gradfeed.commands import migration_demo
from gradfeed.commands import runner
from tests.commands import graph_files
from tests.testing import folders
from tests.testing import processes

_ROOT = folders.ROOT

_cubes, _ways = graph_files.cubes, graph_files.ways


class MainTest(parameterized.TestCase):

  @parameterized.parameters([], ["--help"], ["help"])
  def test_lists_the_commands(self, *arguments):
    done = processes.gradfeed(*arguments)
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    for name, tells in runner.COMMANDS.items():
      self.assertRegex(done.stdout, r"{} +{}".format(name, tells))

  @parameterized.parameters("nonsense", "--x_t=9", "x_t=9")
  def test_unknown_command(self, name):
    done = processes.gradfeed(name)
    self.assertEqual((done.returncode, done.stdout), (2, ""))
    self.assertIn("no command '{}'".format(name), done.stderr)
    self.assertIn("demo", done.stderr)

  def test_every_command_is_there(self):
    for name in runner.COMMANDS:
      self.assertTrue(os.path.exists(os.path.join(
          _ROOT, "gradfeed", "commands", name + ".py")))

  def test_version_by_python_m(self):
    done = processes.gradfeed("--version", program=["-m", "gradfeed"],
                              fresh=True)
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertRegex(done.stdout, r"^gradfeed [0-9.]+, TensorFlow {}".format(
        re.escape(tf.__version__)))

  def test_e12_refuses_what_is_no_flag(self):
    done = processes.gradfeed("demo", "x_t=9")
    self.assertEqual((done.returncode, done.stdout), (2, ""))
    self.assertIn("'x_t=9'", done.stderr)
    self.assertIn("--x_t=9", done.stderr)

  def test_help_lists_the_flags_of_the_command(self):
    done = processes.gradfeed("demo", "--points=2", "--help")
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    self.assertIn("--x_t:", done.stdout)
    self.assertNotIn("--graph:", done.stdout)
    self.assertNotIn("--verbosity:", done.stdout)


class DemoTest(graph_files.GraphFileTest):

  def test_prints_derivatives_that_differences_confirm(self):
    done = processes.gradfeed(
        "--x_t=-1.5,0.2,3", "--points=2", "--calls=2", "--seed=3", fresh=True,
        program=[os.path.join(_ROOT, "scripts", "demo.py")])
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    self.assertLessEqual(max(map(len, done.stdout.split("\n"))), 90)
    self.assertIn("agrees with the differences in 7 of 7", done.stdout)
    rows = re.findall(r"^ +(-1.5|0.2|3) +(\S+) +(\S+) +(\S+) +\S+ +\d+ us "
                      r"+\d+ us$", done.stdout, re.MULTILINE)
    self.assertLen(rows, 3)
    for _, _, slope, difference in rows:
      self.assertNotEqual(float(slope), 0.0)
      self.assertAlmostEqual(float(slope), float(difference), places=5)
    variable = done.stdout.split("\n2. ")[1].split("\n3. ")[0]
    self.assertEqual(variable.count("wrong"), 2)

  def test_migrate_shows_four_stages_that_agree(self):
    done = processes.gradfeed("demo", "--migrate", "--seed=3", fresh=True)
    if not _tf.IS_TF2:
      self.assertEqual((done.returncode, done.stdout), (1, ""))
      self.assertIn("This is TensorFlow 1.15", done.stderr)
      return
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    self.assertEqual(done.stdout.count("  agrees: "), 5)
    self.assertIn("differs, and it begins at h:0", done.stdout)
    self.assertLessEqual(max(map(len, done.stdout.split("\n"))), 80)

  def test_migrate_fails_where_a_stage_does_not_agree(self):
    self.assertEqual(migration_demo._verdict(True, "as before"), 0)
    self.assertEqual(migration_demo._verdict(False, "as before"), 1)

  def test_without_tabulate_says_what_to_type(self):
    os.mkdir(self.path("tabulate"))
    with open(self.path("tabulate/__init__.py"), "w") as module:
      module.write("raise ImportError('none')\n")
    done = processes.gradfeed("demo", environment={
        "PYTHONPATH": os.pathsep.join([self.folder, _ROOT])}, fresh=True)
    self.assertEqual((done.returncode, done.stdout), (1, ""))
    self.assertIn("pip install 'gradfeed[cli]'", done.stderr)
    self.assertNotIn("Traceback", done.stderr)

  @parameterized.parameters((1.0, 1.0, True), (1.001, 1.0, False),
                            (0.0, 1e-9, True), (float("nan"), 1.0, False))
  def test_is_right(self, slope, truth, expected):
    self.assertEqual(demo.is_right(slope, truth), expected)


class AtTest(graph_files.GraphFileTest):

  def run_at(self, graph, points, *more, **options):
    return processes.gradfeed(
        "at", "--graph=" + graph, "--y=y:0", "--x=x:0", "--points=" + points,
        "--output=" + self.path("out.npy"), *more, **options)

  def test_writes_the_gradient_at_every_row(self):
    points = np.random.RandomState(0).normal(size=[40, 2])
    done = self.run_at(self.write_graph(_cubes), self.save("p.npy", points),
                       "--feed=scale:0=2", "--class_index=1", fresh=True)
    self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
    self.assertRegex(
        done.stderr, r"^gradfeed at: wrote \S+out.npy \(float32, \[40, 2\]\): "
        r"d 'y:0'\[..., 1\] / d 'x:0' at 40 points in [0-9.]+ s\.\n$")
    gradients = np.load(self.path("out.npy"))
    self.assertEqual(gradients.dtype, np.float32)
    expected = 6 * points ** 2 * [0, 1]
    np.testing.assert_allclose(gradients, expected, rtol=1e-5)
    self.assertFalse(os.path.exists(self.path("out.npy.partial")))

  def test_warns_of_what_is_probably_not_meant(self):
    points = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]])
    done = self.run_at(self.write_graph(_cubes), self.save("p.npy", points),
                       "--y=chances:0")
    self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
    wrote, not_finite, softmax = done.stderr.rstrip("\n").split("\n")
    self.assertIn("wrote", wrote)
    self.assertIn("warning: 2 of 3 results", not_finite)
    self.assertIn("row 1.", not_finite)
    self.assertRegex(
        softmax, "warning: 'chances:0' is a softmax.*--class_index")
    self.assertFalse(np.isfinite(np.load(self.path("out.npy"))[1]).all())

  def test_refuses_with_one_message_and_writes_nothing(self):
    bad = np.ones([3, 2])
    bad[1, 0] = 1e300
    self.save("out.npy", np.zeros(1))
    done = self.run_at(self.write_graph(_cubes), self.save("p.npy", bad))
    self.assertEqual((done.returncode, done.stdout), (1, ""))
    self.assertRegex(done.stderr,
                     r"^gradfeed at: Point 1: .*'x:0'(.|\n)*Why: (.|\n)*Fix: ")
    self.assertNotIn("Traceback", done.stderr)
    self.assertCountEqual(os.listdir(self.folder),
                          ["model.pb", "p.npy", "out.npy"])
    self.assertEqual(np.load(self.path("out.npy")).shape, (1,))

  def test_fails_where_too_many_points_are_skipped(self):
    points = np.ones([10, 2])
    points[:3] = np.nan
    graph, path = self.write_graph(_cubes), self.save("p.npy", points)
    flags = ("--feed=scale:0=2", "--on_error=skip")
    done = self.run_at(graph, path, *flags, "--max_skipped=0.2")
    self.assertEqual(done.returncode, 1)
    self.assertIn("3 of 10 points were skipped", done.stderr)
    self.assertFalse(os.path.exists(self.path("out.npy")))
    done = self.run_at(graph, path, *flags, "--max_skipped=0.3")
    self.assertEqual(done.returncode, 0, done.stderr)
    done = self.run_at(graph, self.save("q.npy", points * np.nan), *flags)
    self.assertEqual(done.returncode, 1)
    self.assertIn("None of the 10 points", done.stderr)

  def test_goes_on_and_skips(self):
    points = np.random.RandomState(0).normal(size=[40, 2])
    points[7] = np.nan
    graph, points_path = self.write_graph(_cubes), self.save("p.npy", points)
    done = self.run_at(graph, points_path, "--chunk=5")
    self.assertEqual(done.returncode, 1)
    self.assertIn("Point 7 is not finite", done.stderr)
    self.assertFalse(os.path.exists(self.path("out.npy")))
    done = self.run_at(graph, points_path, "--chunk=5", "--on_error=skip")
    self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
    going_on, wrote, skipped, row = done.stderr.rstrip("\n").split("\n")
    self.assertIn("going on after 5 of 40 points", going_on)
    self.assertIn("wrote", wrote)
    self.assertIn("1 point was skipped", skipped)
    self.assertIn("point 7 is not finite", row)
    got = np.load(self.path("out.npy"))
    np.testing.assert_allclose(np.delete(got, 7, 0), np.delete(
        3.0 * points ** 2, 7, 0), rtol=1e-5)

  def test_another_class_at_each_point_from_a_csv_to_a_csv(self):
    graph = self.write_graph(_cubes)
    points = np.random.RandomState(0).normal(size=[6, 2])
    labels = np.arange(6) % 2
    with open(self.path("p.csv"), "w") as output:
      output.write("label,a0,a1\n")
      for label, row in zip(labels, points):
        output.write("{},{},{}\n".format(label, *map(repr, row.tolist())))
      output.write("5,1.0,1.0\n0,what,1.0\n")
    done = processes.gradfeed(
        "at", "--graph=" + graph, "--y=y:0", "--x=x:0",
        "--of=value_and_gradient", "--points=" + self.path("p.csv"),
        "--key=a*", "--class_index=label", "--output=" + self.path("out.csv"),
        "--on_error=skip", "--chunk=3",
        "--report=" + self.path("report.json"))
    self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
    self.assertIn("2 points were skipped", done.stderr)
    out = np.loadtxt(self.path("out.csv"), delimiter=",", skiprows=1)
    picked = points[np.arange(6), labels]
    np.testing.assert_allclose(out[:6, 0], picked ** 3, rtol=1e-5)
    np.testing.assert_allclose(
        out[:6, 1:], 3.0 * points ** 2 * np.eye(2)[labels], rtol=1e-5)
    self.assertTrue(np.isnan(out[6:]).all())
    with open(self.path("report.json")) as source:
      report = json.load(source)
    self.assertEqual(report["rows"], 8)
    self.assertIn("'what'", report["reasons"]["7"])
    self.assertIn("5", report["reasons"]["6"])

  def test_jacobian_and_two_files(self):
    graph = self.write_graph(_cubes)
    points = np.random.RandomState(0).normal(size=[6, 2])
    path = self.save("p.npy", points)
    done = self.run_at(graph, path, "--of=jacobian")
    self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
    np.testing.assert_allclose(
        np.load(self.path("out.npy")),
        3.0 * points[:, :, np.newaxis] ** 2 * np.eye(2), rtol=1e-5)
    done = self.run_at(
        graph, path, "--of=value_and_gradient", "--class_index=top",
        "--output={},{}".format(self.path("y.npy"), self.path("dy.npy")))
    self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
    np.testing.assert_allclose(
        np.load(self.path("y.npy")), (points ** 3).max(1), rtol=1e-5)
    np.testing.assert_allclose(
        np.load(self.path("dy.npy")),
        3.0 * points ** 2 * np.eye(2)[points.argmax(1)], rtol=1e-5)

  def test_missing_flags_are_named(self):
    done = processes.gradfeed("at", "--graph=model.pb", "--y=y:0")
    self.assertEqual((done.returncode, done.stdout), (2, ""))
    self.assertIn("--x, --points, --output", done.stderr)

  def test_missing_file_is_named(self):
    done = self.run_at(self.path("none.pb"), self.save("p.npy", np.ones(2)))
    self.assertEqual((done.returncode, done.stdout), (1, ""))
    self.assertTrue(done.stderr.startswith(
        "gradfeed at: There is no '{}'.\n".format(self.path("none.pb"))))


class InspectTest(graph_files.GraphFileTest):

  def test_text(self):
    done = processes.gradfeed(
        "inspect", "--graph=" + self.write_graph(_cubes), fresh=True)
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    self.assertRegex(done.stdout, r"model.pb: frozen graph, \d+ ops")
    self.assertRegex(done.stdout, r"x:0 +float32 +\[\?, 2\]")
    self.assertRegex(done.stdout, r"chances:0 +float32 +\[\?, 2\]")

  def test_json(self):
    done = processes.gradfeed("inspect", "--format=json",
                              "--graph=" + self.write_graph(_cubes))
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    found = json.loads(done.stdout)
    self.assertEqual(found["kind"], "frozen graph")
    self.assertIn("y:0", [y["name"] for y in found["y"]])

  @parameterized.named_parameters(
      ("no_file", ["--graph=none.pb"], 1, "There is no 'none.pb'"),
      ("no_graph", [], 2, "--graph"),
      ("format", ["--graph=none.pb", "--format=xml"], 2, "xml"))
  def test_mistakes(self, arguments, status, told):
    done = processes.gradfeed("inspect", *arguments)
    self.assertEqual((done.returncode, done.stdout), (status, ""))
    self.assertIn(told, done.stderr)
    self.assertNotIn("Traceback", done.stderr)

  def test_names_and_conditions_that_are_many(self):
    lines = inspect.as_lines(dict(
        path="p", kind="k", ops=3, variables=[
            dict(name="v:0", has_value=False)], x=[], y=[], feeds=[],
        signatures={"s": dict(inputs={"a": "x:0"}, outputs={"b": "y:0"})},
        loops=list("abcdefg"), branches=[], random=[], waiting=[],
        assigning=[], outside=[dict(name="r", type="ReadFile", reach="files")],
        outside_when_loaded=[]), None)
    self.assertIn("outside of the graph (1): ReadFile 'r' (files)", lines)
    self.assertNotIn("when the model is loaded", lines)
    self.assertIn("While loops (7): a, b, c, d, e, ...", lines)
    self.assertIn("s: a = x:0 -> b = y:0", lines)
    self.assertIn("Variables without a value (1): v:0", lines)
    self.assertIn("none", lines)


class ExplainTest(graph_files.GraphFileTest):

  def test_what_is_bad_is_status_1(self):
    done = processes.gradfeed(
        "explain", "--graph=" + self.write_graph(_ways), "--y=bad:0",
        "--x=x:0", fresh=True)
    self.assertEqual((done.returncode, done.stderr), (1, ""))
    self.assertIn("Floor 'floor'", done.stdout)

  def test_mistakes(self):
    done = processes.gradfeed(
        "explain", "--graph=" + self.write_graph(_ways), "--y=good:0",
        "--html=" + self.path("none", "there.html"))
    self.assertEqual(done.returncode, 1)
    self.assertIn("No such file", done.stderr)
    self.assertNotIn("Traceback", done.stderr)
