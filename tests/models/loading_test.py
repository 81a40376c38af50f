"""Tests of `load`, with models of every kind that are written here."""

import os

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import folders
from tests.testing import graphs
from tests.testing import numeric
from tests.testing import saved_models

_AT = np.array([[0.5, 1.5, 0.3], [0.7, 0.2, -0.4]])

_MODELS = folders.MODELS


def _network(use_resource, partitioner=None):
  """Builds a network under the names that the tests use; returns (x, y)."""
  x = tf.placeholder(tf.float64, [None, 3], name="x")
  w = graphs.variable("w", np.cos(np.arange(6.0)).reshape(3, 2), use_resource,
                      partitioner=partitioner)
  y = tf.nn.softmax(tf.matmul(tf.sin(x), tf.convert_to_tensor(w)), name="y")
  loss = tf.reduce_sum(y[:, 0], name="loss")
  return x, y, loss


class _ModelTest(folders.FolderTest, graphs.GraphTest):

  def check(self, path, **settings):
    """Loads a model of `_network` with w halved, and checks its gradient."""
    with gf.load(path, **settings) as model:
      x, y = model.tensor("x:0"), model.tensor("y:0")
      self.assertIs(x.graph, model.graph)
      f = gf.function(x, [y, gf.gradient(y[:, 0], x)])
      expected = _values(_AT)
      np.testing.assert_allclose(f(_AT)[0], expected, rtol=1e-12)
      np.testing.assert_allclose(
          f(_AT)[1], numeric.central_differences(
              lambda p: np.sum(_values(p)[:, 0]), _AT), atol=1e-8)
      self.assertIn("x:0", model.inputs)
      return model

  def halve(self):
    self.initialize()
    self.session.run([tf.assign(v, v / 2.0) for v in tf.global_variables()])


def _values(x):
  logits = np.sin(x).dot(np.cos(np.arange(6.0)).reshape(3, 2) / 2.0)
  return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


class LoadTest(_ModelTest):

  @parameterized.named_parameters(("binary", "m.pb", False),
                                  ("text", "m.pbtxt", True))
  def test_frozen(self, name, as_text):
    _network(True)
    self.halve()
    frozen = tf.graph_util.convert_variables_to_constants(
        self.session, self.graph.as_graph_def(), ["y"])
    tf.train.write_graph(frozen, self.folder, name, as_text=as_text)
    model = self.check(self.path(name))
    self.assertEqual(model.kind, "frozen graph")
    self.assertEqual(list(model.inputs), ["x:0"])
    self.assertEqual(list(model.outputs), ["y:0"])

  @parameterized.named_parameters(*graphs.KINDS)
  def test_checkpoint(self, use_resource):
    x, _, loss = _network(use_resource)
    saver = self.save_checkpoint()
    with tf.device("/job:worker/task:7"):
      tf.gradients(loss, x)
    saver.export_meta_graph(self.path("model-7.meta"))
    for path in (self.path("model-7"), self.path("model-7.meta"),
                 self.path("model-7.index"), self.path("checkpoint"),
                 self.folder):
      model = self.check(path)
    self.assertEqual(model.kind, "checkpoint")
    self.assertEqual(sorted(model.outputs), ["loss:0"])

  def test_a_loss_that_a_summary_reads_is_an_output(self):
    _, _, loss = _network(True)
    tf.summary.scalar("training", loss)
    tf.summary.histogram("spread", loss)
    self.save_checkpoint()
    self.assertEqual(
        sorted(self.check(self.path("model-7")).outputs), ["loss:0"])

  def save_checkpoint(self):
    self.halve()
    saver = tf.train.Saver()
    saver.save(self.session, self.path("model"), 7)
    return saver

  @parameterized.named_parameters(*graphs.KINDS)
  def test_checkpoint_of_a_partitioned_variable(self, use_resource):
    _network(use_resource, tf.fixed_size_partitioner(2))
    self.save_checkpoint()
    self.check(self.path("model-7"))

  @parameterized.named_parameters(
      ("serve", ["serve"], None), ("by_name", ["train", "gpu"], "both"),
      ("none", [], None))
  def test_saved_model(self, tags, chosen):
    x, y, _ = _network(True)
    self.halve()
    signature = tf.saved_model.predict_signature_def({"in": x}, {"out": y})
    builder = tf.saved_model.Builder(self.path("saved"))
    builder.add_meta_graph_and_variables(
        self.session, tags, {"classify": signature}, clear_devices=True)
    if chosen:
      builder.add_meta_graph(["serve"], {"classify": signature})
    builder.save()
    settings = dict(tags=["gpu", "train"]) if chosen else {}
    for path in (self.path("saved"), self.path("saved", "saved_model.pb")):
      model = self.check(path, **settings)
    self.assertEqual(model.kind, "SavedModel")
    self.assertEqual(list(model.signatures), ["classify"])
    self.assertEqual(model.signatures["classify"].inputs["in"].name, "x:0")
    self.assertEqual(model.tensor("classify/out").name, "y:0")
    self.assertEqual(model.tensor("classify/in").name, "x:0")

  def test_saved_model_of_tf2(self):
    saved_models.save(self.path("tf2"))
    with gf.load(self.path("tf2")) as model:
      x, y = (model.tensor("serving_default/" + key) for key in ("x", "y"))
      self.assertEqual(list(model.inputs), [x.name])
      f = gf.function(x, [y, gf.gradient(y, x)])
      np.testing.assert_allclose(
          f(_AT)[1], numeric.central_differences(
              lambda p: np.sum(f(p)[0]), _AT), atol=1e-8)

  def test_variables_without_a_value_have_none(self):
    _network(True)
    self.initialize()
    saver = tf.train.Saver()
    graphs.variable("later", [1.0], False)
    saver.save(self.session, self.path("model"))
    with gf.load(self.path("model")) as model:
      y = model.tensor("x:0") * model.tensor("later:0")
      with self.assertRaisesRegex(gf.UninitializedError, "later"):
        gf.function("x:0", y)(_AT)

  def test_closes_and_leaves_the_defaults(self):
    _network(True)
    self.save_checkpoint()
    with gf.load(self.path("model-7")) as model:
      self.assertIs(tf.get_default_graph(), model.graph)
      self.assertIs(tf.get_default_session(), model.session)
    self.assertIs(tf.get_default_graph(), self.graph)
    with self.assertRaises(RuntimeError):
      model.session.run(tf.no_op())
    model = gf.load(self.path("model-7"))
    self.assertIs(tf.get_default_graph(), self.graph)
    self.assertIn("checkpoint", repr(model))
    model.close()


class NoModelTest(_ModelTest):
  """What is no model is refused with one error, which says what is there."""

  def _refused(self, path, message, error=gf.ModelFileError, **settings):
    """Checks that loading raises an error with this message, and the path."""
    with self.assertRaises(error) as caught:
      gf.load(path, **settings)
    self.assertRegex(str(caught.exception), "(?s)" + message)
    self.assertIn(os.path.basename(path), caught.exception.what)

  def test_nothing_there(self):
    self._refused(self.path("nothing.pb"), "neither a file")
    self._refused(self.folder, "it has nothing")
    with open(self.path("notes.txt"), "w") as output:
      output.write("x")
    self._refused(self.folder, "'notes.txt'")

  @parameterized.named_parameters(
      ("empty", b"", "empty"), ("noise", b"\x00\x01\x02" * 50, "not a binary"),
      ("keras", b"\x89HDF\r\n\x1a\n", "HDF5"), ("text", b"node {", "text"))
  def test_files_of_another_kind(self, content, message):
    with open(self.path("m.pb"), "wb") as output:
      output.write(content)
    self._refused(self.path("m.pb"), message)

  def test_truncated_frozen_graph(self):
    _network(False)
    content = self.graph.as_graph_def().SerializeToString()
    for size in range(1, len(content), len(content) // 7):
      with open(self.path("m.pb"), "wb") as output:
        output.write(content[:size])
      try:
        with gf.load(self.path("m.pb")) as model:  # Cut between two nodes.
          self.assertNotEmpty(model.graph.get_operations())
      except gf.ModelFileError as error:
        self.assertIn("m.pb", error.what)

  def test_incomplete_checkpoint(self):
    _network(False)
    self.initialize()
    tf.train.Saver().save(self.session, self.path("model"))
    data, = [name for name in os.listdir(self.folder) if ".data" in name]
    with open(self.path(data), "wb") as output:
      output.write(b"damaged")
    self._refused(self.path("model"), "whole")
    os.remove(self.path("model.index"))
    self._refused(self.path("model.meta"), "no values")

  def test_checkpoint_without_a_graph(self):
    _network(False)
    self.initialize()
    tf.train.Saver().save(
        self.session, self.path("model"), write_meta_graph=False)
    self._refused(self.path("model"), "no '.*model.meta'")

  def test_damaged_saved_model(self):
    os.mkdir(self.path("saved"))
    with open(self.path("saved", "saved_model.pb"), "wb") as output:
      output.write(b"\x08\x01\x12\x00")
    self._refused(self.path("saved"), "not a SavedModel|cannot be read")

  def test_tags_that_are_not_there(self):
    x, y, _ = _network(False)
    self.initialize()
    builder = tf.saved_model.Builder(self.path("saved"))
    signature = tf.saved_model.predict_signature_def({"in": x}, {"out": y})
    builder.add_meta_graph_and_variables(
        self.session, ["a"], {"f": signature})
    builder.add_meta_graph(["b", "c"])
    builder.save()
    self._refused(self.path("saved"), "Several.*'a'.*'b', 'c'",
                  gf.ArgumentError)
    self._refused(self.path("saved"), "tags .'d'.*'a'", gf.ArgumentError,
                  tags="d")

  def test_unknown_op(self):
    graph_def = tf.GraphDef()
    node = graph_def.node.add()
    node.name, node.op = "a", "NoSuchOpAnywhere"
    tf.train.write_graph(graph_def, self.folder, "m.pb", as_text=False)
    self._refused(self.path("m.pb"), "NoSuchOpAnywhere",
                  gf.UnsupportedGraphError)


class RealModelsTest(parameterized.TestCase):
  """Models that others made, with the norms of their gradients.

  x is uniform from `low` to 1, of RandomState(0).
  """

  def test_norms_of_gradients(self):
    for path, x, shape, low, y, index, feeds, norm in (
        ("darkon/model-0", "x_placeholder:0", [5, 5], 0, "fc1/Add:0", 1, {},
         0.3734647333621979),
        ("dl4j_bidir64/frozen_model.pb", "in_0:0", [1, 4, 5], -1, "concat:0",
         0, {}, 1.4521462408239485),
        ("dl4j_case/frozen_model.pb", "in_0:0", [], -1, "case/cond/Merge:0",
         None, {}, 1.0),
        ("kws_gru_s/GRU_S.pb", "Mfcc:0", [1, 25, 10], -1, "labels_softmax:0",
         3, {}, 0.047132495790719986),
        ("mlnet_cifar_model", "Input:0", [4, 32, 32, 3], 0, "add_1:0", 3, {},
         0.10459457337856293),
        ("mlnet_cifar_saved_model", "Input:0", [4, 32, 32, 3], 0, "add_1:0",
         3, {}, 0.09948185831308365),
        ("rust_regression", "x:0", [5], 0, "y_hat:0", None, {},
         1.9182382822036743),
        ("serving_half_plus_three/00000123", "x:0", [5, 1], 0, "y:0", 0, {},
         1.1180340051651),
        ("t2o_lstm/frozen.pb", "X:0", [4, 784], 0, "output:0", 3,
         {"keep_prob:0": 1.0}, 18.270214080810547),
        ("t2o_regression/checkpoint/model", "X:0", [5], 0, "pred:0", None, {},
         0.4784330725669861)):
      if os.path.exists(os.path.join(_MODELS, path.split("/")[0])):
        with gf.load(os.path.join(_MODELS, path)) as model:
          point, value = map(model.graph.get_tensor_by_name, (x, y))
          if index is not None:
            value = value[..., index]
          f = gf.function(point, gf.gradient(value, point), feed_dict=feeds)
          at = np.random.RandomState(0).uniform(low, 1, shape)
          self.assertAlmostEqual(
              np.linalg.norm(f(at.astype(point.dtype.as_numpy_dtype))) / norm,
              1.0, places=5, msg=path)
