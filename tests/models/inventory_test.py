"""Tests of the inventory of a model."""

import json
import os

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.models import inventory
from gradfeed.models import loading
from gradfeed.models import outside_ops
from tests.testing import flows
from tests.testing import folders
from tests.testing import graphs
from tests.testing import processes


class InventoryTest(graphs.GraphTest):

  def _inventory(self, signatures=None):
    model = loading.Model(
        "model", "frozen graph", self.graph, self.session, signatures or {})
    return inventory.inventory(model)

  def _names(self, listed):
    """The names of tensors as an inventory lists them."""
    return [tensor["name"] for tensor in listed]

  def test_of_a_classifier(self):
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    w = tf.get_variable("w", [3, 2], use_resource=True)
    later = tf.get_variable("later", [], use_resource=False)
    logits = tf.matmul(x, w, name="logits")
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=tf.nn.dropout(logits, rate=0.5)), name="loss")
    tf.train.GradientDescentOptimizer(0.1).minimize(loss + 0.0 * later)
    tf.train.Saver()
    self.session.run(w.initializer)
    contents = self._inventory({"predict": loading.Signature(
        {"in": x}, {"scores": logits}, "predict")})
    self.assertEqual(contents["x"], [
        {"name": "x:0", "dtype": "float32", "shape": [None, 3]}])
    self.assertEqual(self._names(contents["y"])[0], "logits:0")
    self.assertEqual(self._names(contents["feeds"]), ["labels:0"])
    self.assertEqual(contents["signatures"]["predict"], {
        "method": "predict", "inputs": {"in": "x:0"},
        "outputs": {"scores": "logits:0"}})
    self.assertEqual(
        {v["name"]: (v["is_resource"], v["has_value"], v["shape"])
         for v in contents["variables"]},
        {"w:0": (True, True, [3, 2]), "later:0": (False, False, [])})
    self.assertLen(contents["random"], 1)  # Not those of the initializers.
    self.assertEqual(contents["assigning"], [])
    json.dumps(contents)

  def test_what_an_iterator_gives(self):
    dataset = tf.data.Dataset.from_tensors(
        (np.ones([2], "f"), np.ones([2], np.int64)))
    image, label = tf.data.make_one_shot_iterator(dataset).get_next()
    tf.reduce_sum(image * tf.cast(label, tf.float32), name="y")
    contents = self._inventory()
    self.assertEqual(self._names(contents["x"]), [image.name])
    self.assertEqual(self._names(contents["feeds"]), [label.name])

  def test_nothing_that_belongs_to_training_is_a_candidate(self):
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    w = tf.get_variable("w", [3, 2], use_resource=False)
    y = tf.reduce_sum(tf.matmul(x, w), name="y")
    with tf.name_scope("tower"):
      step = tf.train.AdamOptimizer(0.1).minimize(y)
      with tf.control_dependencies([step]):
        tf.square(w * tf.identity(x[0, 0]), name="after_a_step")
      tf.identity(w.initialized_value() * x[0, 0], name="start")
    tf.train.Saver(name="keeper")
    contents = self._inventory()
    self.assertEqual(self._names(contents["x"]), ["x:0"])
    self.assertEqual(self._names(contents["y"]), ["y:0"])
    with self.graph.as_default():
      tf.sigmoid(y, name="score")
    self.assertEqual(self._names(self._inventory()["y"]), ["score:0"])

  def test_logits_are_candidates(self):
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    tf.reduce_sum(tf.nn.softmax(tf.identity(x * x, name="l")), name="loss")
    self.assertEqual(
        self._names(self._inventory()["y"]), ["loss:0", "l:0"])

  def test_what_is_made_of_bytes(self):
    raw = tf.placeholder(tf.string, [], name="raw")
    pixels = tf.decode_raw(raw, tf.float32, name="pixels")
    tf.reduce_sum(pixels, name="y")
    contents = self._inventory()
    self.assertEqual(self._names(contents["x"]), ["pixels:0"])
    self.assertEqual(self._names(contents["feeds"]), ["raw:0"])

  def test_constants_named_as_inputs(self):
    x = tf.constant(np.ones(2), name="input_1")
    tf.multiply(x, tf.constant(2.0, tf.float64, name="two"), name="y")
    self.assertEqual(self._names(self._inventory()["x"]), ["input_1:0"])

  def test_loops_conditions_and_queues(self):
    for version in (1, 2):
      with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.placeholder(tf.float32, [2], name="x")
        queue = tf.FIFOQueue(1, [tf.float32], shapes=[[]], name="queue")
        counter = tf.get_variable("counter", [], use_resource=False)
        with flows.control_flow(version), tf.control_dependencies(
            [counter.assign_add(1.0)]):
          y = tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a * a),
                            [0, x * queue.dequeue(name="taken")])[1]
          y = tf.cond(y[0] > 0.0, lambda: y * y, lambda: y)
        tf.identity(y, name="y")
        contents = inventory.inventory(loading.Model(
            "model", "frozen graph", graph, session, {}))
        self.assertEqual(self._names(contents["y"]), ["y:0"])
        self.assertLen(contents["loops"], 1)
        self.assertLen(contents["branches"], 1)
        self.assertEqual(contents["waiting"], ["queue", "taken"])
        self.assertLen(contents["assigning"], 1)

  def test_ops_that_reach_outside_of_the_graph(self):
    x = tf.placeholder(tf.float32, [], name="x")
    read = tf.io.read_file("secret", name="read")
    z = tf.py_func(lambda a: a, [x], tf.float32, stateful=False, name="python")
    tf.add(tf.to_float(tf.strings.length(read)), z, name="y")
    with tf.control_dependencies([x]):
      tf.io.write_file("beside", "nothing of y runs it")
    self.assertEqual(self._inventory()["outside"], [
        {"name": "python", "type": "PyFuncStateless", "reach": "Python"},
        {"name": "read", "type": "ReadFile", "reach": "files"}])
    self.assertEqual(self._inventory()["outside_when_loaded"], [])

  def test_ops_in_functions_that_reach_outside_of_the_graph(self):
    data = tf.data.TextLineDataset(["secret"])
    tf.strings.length(
        tf.data.make_one_shot_iterator(data).get_next(), name="y")
    x = tf.placeholder(tf.float32, [], name="x")
    tf.multiply(x, tf.to_float(self.graph.get_tensor_by_name("y:0")), name="z")
    self.assertIn("TextLineDataset", [
        op["type"] for op in self._inventory()["outside"]])

  def test_types_that_reach_outside_of_the_graph(self):
    for op_type, reach in (
        ("WriteFile", "files"), ("SaveV2", "files"), ("SaveSlices", "files"),
        ("MergeV2Checkpoints", "files"), ("RestoreV2", "files"),
        ("WholeFileReaderV2", "files"), ("ReaderReadV2", "files"),
        ("TFRecordDataset", "files"), ("CacheDataset", "files"),
        ("InitializeTableFromTextFileV2", "files"), ("MatchingFiles", "files"),
        ("EagerPyFunc", "Python"), ("PyFunc", "Python"), ("Recv", "network"),
        ("RemoteCall", "network"), ("MatMul", None), ("ReadVariableOp", None),
        ("Save_of_mine", None), ("TensorDataset", None),
        ("LookupTableFindV2", None), ("ScalarSummary", None)):
      self.assertEqual(outside_ops.reach_of(op_type), reach, op_type)


class GraphAloneTest(folders.FolderTest, graphs.GraphTest):
  """`load_graph` and `gradfeed inspect` run nothing of a model."""

  def save(self, legacy=False):
    """A SavedModel that writes a file when it is loaded."""
    w = graphs.variable("w", [2.0], True)
    x = tf.placeholder(tf.float64, [1], name="x")
    y = tf.multiply(x, w, name="y")
    self.initialize()
    planted = tf.io.write_file(self.path("planted"), "x", name="planted")
    builder = tf.saved_model.Builder(self.path("saved"))
    builder.add_meta_graph_and_variables(
        self.session, ["serve"],
        {"f": tf.saved_model.predict_signature_def({"in": x}, {"out": y})},
        **{"legacy_init_op" if legacy else "main_op": planted})
    builder.save()
    return self.path("saved")

  @parameterized.parameters(False, True)
  def test_the_main_op_is_not_run(self, legacy):
    path = self.save(legacy)
    with loading.load_graph(path) as model:
      contents = inventory.inventory(model)
      self.assertEqual([v["has_value"] for v in contents["variables"]], [None])
      self.assertEqual(contents["outside_when_loaded"], [
          {"name": "planted", "type": "WriteFile", "reach": "files"}])
      with self.assertRaises(gf.UninitializedError):
        gf.run(model.session, "y:0", {"x:0": [1.0]})
    self.assertFalse(os.path.exists(self.path("planted")))
    gf.load(path).close()
    self.assertTrue(os.path.exists(self.path("planted")))

  def test_by_the_command(self):
    done = processes.gradfeed(
        "inspect", "--graph=" + self.save(), program=["-m", "gradfeed"])
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn("when the model is loaded (1): WriteFile 'planted' (files)",
                  done.stdout)
    self.assertFalse(os.path.exists(self.path("planted")))

  def test_of_a_checkpoint_without_values(self):
    graphs.variable("w", [2.0], True)
    tf.train.Saver().export_meta_graph(self.path("m.meta"))
    with loading.load_graph(self.path("m.meta")) as model:
      self.assertFalse(model.has_values)
    with self.assertRaisesRegex(gf.ModelFileError, "no values"):
      gf.load(self.path("m.meta"))
