"""The parts of the commands, without a process of their own."""

import contextlib
import io
import json
import os

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.commands import demo
from gradfeed.commands import demo_model
from gradfeed.commands import explain
from gradfeed.commands.flags import value_flags
from gradfeed import errors
from gradfeed.models import derivative_choices
from gradfeed.models import files
from tests.commands import graph_files
from tests.testing import folders

_MODELS = folders.MODELS


class DemoTest(graph_files.GraphFileTest):

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


class ExplainTest(graph_files.GraphFileTest):

  def run_main(self, *arguments):
    """(what the command prints, its status), without a process of its own."""
    explain.FLAGS.unparse_flags()
    for flag in explain.FLAGS:
      explain.FLAGS[flag].unparse()
    explain.FLAGS(["explain", "--graph=" + self.write_graph(graph_files.ways)] +
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

  def test_a_tensor_that_is_not_there(self):
    with self.assertRaises(errors.TensorNotFoundError):
      self.run_main("--y=nothing:0")


class FeedTest(graph_files.GraphFileTest):

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
      graph_files.cubes()
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
