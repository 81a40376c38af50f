"""The commands: as processes where it is about processes, else in parts."""

import contextlib
import io
import json
import os
import re

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from gradfeed.commands import demo
from gradfeed.commands import demo_model
from gradfeed.commands import explain
from gradfeed.commands import inspect
from gradfeed.commands import migration_demo
from gradfeed.commands import runner
from gradfeed.commands.flags import value_flags
from gradfeed import errors
from gradfeed.models import derivative_choices
from gradfeed.models import files
from tests.testing import folders
from tests.testing import processes

_ROOT = folders.ROOT

_MODELS = folders.MODELS


class _FolderTest(folders.FolderTest):

  def write_graph(self, build):
    """Saves the graph that `build` makes, frozen, under its path."""
    with tf.Graph().as_default() as graph:
      build()
      path = self.path("model.pb")
      with open(path, "wb") as output:
        output.write(graph.as_graph_def().SerializeToString())
    return path


def _cubes():
  """y = scale * x^3, with x of any batch and two columns."""
  x = tf.placeholder(tf.float32, [None, 2], name="x")
  scale = tf.placeholder_with_default(1.0, [], name="scale")
  tf.multiply(scale, x ** 3, name="y")
  tf.multiply(tf.placeholder(tf.float32, [], name="needed"), x, name="z")
  tf.nn.softmax(tf.log(x), name="chances")


def _ways():
  """An x with a way to y, with one that is blocked, and with both."""
  x = tf.placeholder(tf.float32, [None, 2], name="x")
  tf.multiply(x, x, name="good")
  steps = tf.floor(x, name="floor")
  tf.multiply(steps, 2.0, name="bad")
  tf.multiply(steps, x, name="partly")


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


class DemoTest(_FolderTest):

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

  def test_value_of_the_model_in_closed_form(self):
    path = self.path("model.ckpt")
    demo_model.train(0, 20, path)
    with tf.Graph().as_default(), tf.Session() as session:
      model = demo_model.Classifier()
      model.saver.restore(session, path)
      weights, biases, width = session.run(
          [model.weights, model.biases, model.width])
      loss = session.run(model.loss, {model.x: [0.7], model.labels: [2]})
    logits = np.exp(-(0.7 / width) ** 2) * weights[0] + biases
    self.assertGreater(np.ptp(logits), 0.1)
    self.assertAlmostEqual(
        loss, np.log(np.sum(np.exp(logits))) - logits[2], places=12)

  def test_rows_are_the_derivatives_of_the_closed_form(self):
    path = self.path("model.ckpt")
    demo_model.train(0, 20, path)
    demo.FLAGS(["demo"])
    with tf.Graph().as_default(), tf.Session() as session:
      model = demo_model.Classifier()
      model.saver.restore(session, path)
      weights, biases = session.run([model.weights, model.biases])
      by_x, _ = demo.by_placeholder(model, session)
      by_width = demo.by_variable(model, session, path)
      by_h = demo.by_layer(model, session, path)
      width = session.run(model.width)

    def slope_by_h(h):
      bell = np.exp(-h)
      logits = bell * weights[0] + biases
      chances = np.exp(logits) / np.sum(np.exp(logits))
      return -bell * np.sum((chances - [0, 1, 0]) * weights[0])

    for row in by_h:
      self.assertAlmostEqual(row.slope, slope_by_h(row.at), places=10)
      self.assertAlmostEqual(row.difference, slope_by_h(row.at), places=7)
    for row in by_width:
      slope = slope_by_h(row.at ** -2) * -2 * row.at ** -3
      self.assertAlmostEqual(row.slope, slope, places=10)
      self.assertAlmostEqual(row.difference, slope, places=7)
    for row in by_x:
      slope = slope_by_h((row.at / width) ** 2) * 2 * row.at / width ** 2
      self.assertAlmostEqual(row.slope, slope, places=10)
      self.assertAlmostEqual(row.difference, slope, places=7)

  @parameterized.parameters((1.0, 1.0, True), (1.001, 1.0, False),
                            (0.0, 1e-9, True), (float("nan"), 1.0, False))
  def test_is_right(self, slope, truth, expected):
    self.assertEqual(demo.is_right(slope, truth), expected)


class AtTest(_FolderTest):

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


class InspectTest(_FolderTest):

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


class ExplainTest(_FolderTest):

  def run_main(self, *arguments):
    """(what the command prints, its status), without a process of its own."""
    explain.FLAGS.unparse_flags()
    for flag in explain.FLAGS:
      explain.FLAGS[flag].unparse()
    explain.FLAGS(["explain", "--graph=" + self.write_graph(_ways)] +
                  list(arguments))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
      status = explain.main()
    return printed.getvalue(), status

  def test_a_page_and_status_0(self):
    text, status = self.run_main("--y=good:0", "--x=x:0")
    self.assertEqual(status, 0)
    self.assertTrue(text.startswith(
        "differentiable: 'good:0' (float32, [?, 2]) by 'x:0' "), text)
    text, status = self.run_main("--y=partly,good", "--x=x")
    self.assertEqual(status, 0)
    self.assertTrue(text.startswith("partly differentiable: "), text)

  def test_what_is_bad_is_status_1(self):
    done = processes.gradfeed(
        "explain", "--graph=" + self.write_graph(_ways), "--y=bad:0",
        "--x=x:0", fresh=True)
    self.assertEqual((done.returncode, done.stderr), (1, ""))
    self.assertIn("Floor 'floor'", done.stdout)

  def test_json_without_x(self):
    text, status = self.run_main("--y=good:0", "--format=json")
    page = json.loads(text)
    self.assertEqual(
        (status, page["verdict"], page["x"], page["y"]),
        (0, "differentiable", ["x:0"], ["good:0"]))

  def test_files(self):
    self.run_main("--y=partly:0", "--x=x:0", "--dot=" + self.path("way.dot"),
                  "--html=" + self.path("way.html"))
    with open(self.path("way.dot")) as dot:
      self.assertIn("Floor", dot.read())
    with open(self.path("way.html")) as html:
      self.assertIn("<svg", html.read())
    self.assertCountEqual(
        os.listdir(self.folder), ["model.pb", "way.dot", "way.html"])

  def test_png(self):
    # A program of that name that gives back what it is given.
    program, before = self.path("dot"), os.environ["PATH"]
    self.addCleanup(os.environ.__setitem__, "PATH", before)
    with open(program, "w") as script:
      script.write("#!/bin/sh\necho $1; exec cat\n")
    os.chmod(program, 0o755)
    os.environ["PATH"] = self.folder + os.pathsep + before
    asked = ["--y=good:0", "--x=x:0", "--png=" + self.path("way.png")]
    self.run_main(*asked)
    with open(self.path("way.png")) as png:
      self.assertTrue(png.read().startswith("-Tpng\ndigraph gradfeed {"))
    os.remove(program)
    os.environ["PATH"] = self.folder
    with self.assertRaisesRegex(
        errors.DependencyError, "(?s)needs the program dot.*--html"):
      self.run_main(*asked)

  def test_mistakes(self):
    done = processes.gradfeed(
        "explain", "--graph=" + self.write_graph(_ways), "--y=good:0",
        "--html=" + self.path("none", "there.html"))
    self.assertEqual(done.returncode, 1)
    self.assertIn("No such file", done.stderr)
    self.assertNotIn("Traceback", done.stderr)
    with self.assertRaises(errors.TensorNotFoundError):
      self.run_main("--y=nothing:0")


class FeedTest(_FolderTest):

  def graph(self):
    graph = tf.Graph()
    with graph.as_default():
      tf.placeholder(tf.float32, [], name="keep_prob")
      tf.placeholder(tf.bool, [], name="training")
      tf.placeholder(tf.int64, [None], name="labels")
      tf.placeholder(tf.string, [], name="text")
    return graph

  def test_values(self):
    mask = self.save("mask.npy", np.arange(3))
    feeds = value_flags.parse_feeds(
        ["keep_prob:0=0.5", "training:0=false", "text:0=a=[b]",
         "labels=" + mask], self.graph())
    self.assertEqual(feeds["keep_prob:0"], 0.5)
    self.assertIs(feeds["training:0"], False)
    self.assertEqual(feeds["text:0"], "a=[b]")
    np.testing.assert_array_equal(feeds["labels"], [0, 1, 2])

  @parameterized.parameters("keep_prob:0", "keep_prob:0=", "=1",
                            "keep_prob:0=high", "keep_prob:0=__import__('os')")
  def test_what_is_no_feed(self, text):
    with self.assertRaisesRegex(errors.ArgumentError, "--feed=") as caught:
      value_flags.parse_feeds([text], self.graph())
    self.assertIn(text, caught.exception.what)
    self.assertIn("=1.0", caught.exception.fix)

  def test_one_value_for_each(self):
    with self.assertRaisesRegex(errors.ArgumentError, "keep_prob:0.*twice"):
      value_flags.parse_feeds(["keep_prob:0=1", "keep_prob:0=2"], self.graph())

  def test_needs_become_flags(self):
    with tf.Graph().as_default(), tf.Session() as session:
      _cubes()
      f = gf.function("x:0", gf.gradient("z:0", "x:0"), session)
      with self.assertRaisesRegex(errors.MissingFeedError,
                                  "--feed=needed:0=VALUE"):
        value_flags.require_all_fed(f)

  def test_needs_with_a_row_for_each_row_of_x_become_rows(self):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float32, [None, 2], name="x")
      labels = tf.placeholder(tf.float32, [None], name="labels")
      keep = tf.placeholder(tf.float32, [], name="keep")
      scale = tf.placeholder(tf.float32, [2], name="scale")
      f = gf.function(x, tf.reduce_sum(x * keep * scale, 1) * labels, session)
      with self.assertRaises(errors.MissingFeedError) as caught:
        value_flags.require_all_fed(f, x)
      self.assertIn("--row=labels:0=KEY", caught.exception.fix)
      self.assertIn("--feed=keep:0=VALUE", caught.exception.fix)
      self.assertIn("--feed=scale:0=VALUE", caught.exception.fix)
      self.assertIn("'labels:0'", caught.exception.why)
      with self.assertRaises(errors.MissingFeedError) as caught:
        value_flags.require_all_fed(f)
      self.assertIn("--feed=labels:0=VALUE", caught.exception.fix)


class DerivativeTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ("batch", [None, 2]), ("batch_of_one", [1, 2]), ("bare", [2]))
  def test_of_each_kind(self, shape):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, shape)
      y = x * tf.reduce_sum(x ** 2, -1, keepdims=True)
      x_t = np.array([1.0, 3.0])
      fed = x_t if shape == [2] else x_t[np.newaxis]
      # y_i = x_i |x|^2
      expected = {
          "value": 10.0 * x_t, "gradient": 10.0 + 2.0 * x_t * x_t.sum(),
          "jacobian": 10.0 * np.eye(2) + 2.0 * np.outer(x_t, x_t),
          "hessian": 2.0 * (x_t.sum() * np.eye(2) + x_t + x_t[:, np.newaxis])}
      for of, value in expected.items():
        found = gf.function(x, derivative_choices.derivative(of, y, x),
                            session)(fed)
        np.testing.assert_allclose(
            found if shape == [2] else found[0], value, err_msg=of)
      both = gf.function(
          x, derivative_choices.derivative("value_and_gradient", y, x),
          session)(fed)
      np.testing.assert_allclose(np.ravel(both.value), expected["value"])
      np.testing.assert_allclose(np.ravel(both.gradient), expected["gradient"])

  def test_pick_class(self):
    with tf.Graph().as_default(), tf.Session() as session:
      y = tf.constant([[1.0, 5.0], [4.0, 3.0]])
      self.assertEqual(
          session.run(derivative_choices.pick_class(y)).tolist(), [5.0, 4.0])
      self.assertEqual(session.run(derivative_choices.pick_class(
          y, tf.constant([0, 1], tf.int64))).tolist(), [1.0, 3.0])
      self.assertEqual(session.run(derivative_choices.pick_class(y[1])), 4.0)
      with self.assertRaisesRegex(errors.ArgumentError, "for each point"):
        derivative_choices.pick_class(y[tf.newaxis])


class ElementTest(parameterized.TestCase):

  def test_takes_one_element_of_the_last_axis(self):
    with tf.Graph().as_default(), tf.Session() as session:
      y = tf.constant([[1.0, 2.0], [3.0, 4.0]])
      self.assertIs(derivative_choices.element(y, None), y)
      self.assertEqual(list(session.run(derivative_choices.element(y, 1))),
                       [2.0, 4.0])
      self.assertEqual(list(session.run(derivative_choices.element(y, -2))),
                       [1.0, 3.0])

  @parameterized.parameters(([3, 2], 2, "--class_index=1"),
                            ([3, 2], -3, "--class_index=1"),
                            ([], 0, "Leave --class_index out"))
  def test_refuses_what_is_not_there(self, shape, index, fix):
    with tf.Graph().as_default():
      y = tf.placeholder(tf.float32, shape, name="y")
      before = len(y.graph.get_operations())
      with self.assertRaisesRegex(errors.ArgumentError, "'y:0'") as caught:
        derivative_choices.element(y, index)
      self.assertIn(fix, caught.exception.fix)
      self.assertLen(y.graph.get_operations(), before)


def _models_that_are_there():
  """Cases of real frozen graphs, with reference norms of the gradients.

  Each is (name, file, y, y_index, x, shape, low, feeds, norm): x is uniform
  from `low` to 1, of RandomState(0).
  """
  cases = [
      ("kws_dnn", "kws_dnn_s/DNN_S.pb", "labels_softmax:0", 3, "Mfcc:0",
       [1, 25, 10], -1, [], 0.12486690282821655),
      ("kws_ds_cnn", "kws_ds_cnn_s/DS_CNN_S.pb", "labels_softmax:0", 3,
       "Mfcc:0", [1, 49, 10], -1, [], 0.09015809744596481),
      ("lstm", "t2o_lstm/frozen.pb", "output:0", 3, "X:0", [4, 784], 0,
       ["keep_prob:0=1.0"], 18.270214080810547),
      ("cifar", "mlnet_cifar_model/frozen_model.pb", "Output:0", 3, "Input:0",
       [4, 32, 32, 3], 0, [], 0.10459457337856293),
      ("gru", "kws_gru_s/GRU_S.pb", "labels_softmax:0", 3, "Mfcc:0",
       [1, 25, 10], -1, [], 0.047132495790719986),
      ("both_ways", "dl4j_bidir64/frozen_model.pb", "concat:0", 0, "in_0:0",
       [1, 4, 5], -1, [], 1.4521462408239485),
  ]
  return [case for case in cases
          if os.path.exists(os.path.join(_MODELS, case[1]))]


class RealModelsTest(parameterized.TestCase):
  """The parts of `at` in its order, on frozen graphs that others made."""

  def test_norms_of_gradients(self):
    for (name, path, y, index, x, shape, low, feeds,
         norm) in _models_that_are_there():
      graph = tf.Graph()
      with graph.as_default():
        tf.import_graph_def(files.read_graph_def(
            os.path.join(_MODELS, path)), name="")
      value = np.random.RandomState(0).uniform(low, 1, shape).astype(
          graph.get_tensor_by_name(x).dtype.as_numpy_dtype)
      with tf.Session(graph=graph) as session:
        element = derivative_choices.element(graph.get_tensor_by_name(y), index)
        tensor = graph.get_tensor_by_name(x)
        f = gf.function(tensor, gf.gradient(element, tensor), session,
                        feed_dict=value_flags.parse_feeds(feeds, graph))
        gradient = f(value)
      self.assertAlmostEqual(
          np.linalg.norm(gradient) / norm, 1.0, places=5, msg=name)
