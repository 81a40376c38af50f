"""Tests of export: what other programs read is what the graph gives."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import parameterized
import numpy as np
import tensorflow as tf2
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from gradfeed.migration.exports import exporting
from gradfeed.migration.exports import graphs as exported_graphs
from gradfeed.migration.exports import older_versions
from gradfeed.migration.exports import programs
from gradfeed.migration.exports import proofs
from tests.testing import folders
from tests.testing import graphs
from tests.testing import modes
from tests.testing import processes

_X = np.random.RandomState(3).normal(size=(2, 3))
_LARGER = np.random.RandomState(4).normal(size=(5, 3))

#: The interpreter of another version of TensorFlow, which reads exports too.
_OTHER_PYTHON = "GRADFEED_OTHER_PYTHON"


def _weights(name, *shape, **options):
  seed = sum(map(ord, name))
  return tf.get_variable(
      name, initializer=np.random.RandomState(seed).normal(size=shape) * 0.7,
      **options)


def _dense(x, **options):
  return tf.tanh(tf.matmul(x, _weights("layer/w", 3, 4, **options)))


def _partitioned(x):
  w = tf.get_variable(
      "w", shape=[3, 4], dtype=tf.float64, partitioner=(
          tf.fixed_size_partitioner(2)),
      initializer=tf.random_normal_initializer(seed=1))
  return tf.matmul(x, tf.convert_to_tensor(w))


def _loop(x):
  w = _weights("w", 3, 4)
  return tf.while_loop(
      lambda i, a: i < 3,
      lambda i, a: (i + 1, tf.sin(a) + tf.cast(i, tf.float64) * 0.1 * a),
      (tf.constant(0), tf.matmul(x, w)))[1]


def _loop_of_arrays(x):
  array = tf.TensorArray(tf.float64, 3)
  _, last, array = tf.while_loop(
      lambda i, a, t: i < 3,
      lambda i, a, t: (i + 1, tf.sin(a) * 1.1, t.write(i, a * a)),
      (tf.constant(0), _dense(x), array))
  return tf.reduce_sum(array.stack(), 0) + last


def _branch(x):
  h = tf.matmul(x, _weights("w", 3, 4))
  return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.exp(h * 0.3), lambda: h * h)


def _case(x):
  h, total = _dense(x), tf.reduce_sum(x)
  return tf.case(
      [(total > 1.0, lambda: h * 2.0), (total > 0.0, lambda: h ** 2)],
      default=lambda: tf.exp(h))


def _table(x):
  table = tf.lookup.StaticHashTable(
      tf.lookup.KeyValueTensorInitializer(
          tf.constant(["a", "b"]), tf.constant([1.5, 2.5], tf.float64)), 0.5)
  return _dense(x) * table.lookup(tf.constant("b"))


def _function_calls(x):
  @tf2.function
  def double(a):
    return tf.sin(a) * 2.0

  return double(_dense(x)) + double(_dense_again(x))


def _dense_again(x):
  return tf.matmul(x, _weights("other", 3, 4))


def _custom_gradient(x):
  @tf.custom_gradient
  def reversed_sign(a):
    return a * 1.0, lambda g: -g

  # Twice: what is differentiated is the function itself again.
  return reversed_sign(reversed_sign(_dense(x)))


def _embedding(x):
  table = _weights("e", 7, 3)
  return tf.gather(table, tf.cast(tf.abs(x[:, 0]), tf.int32)) * x


def _convolution(x):
  h = tf.reshape(tf.matmul(x, _weights("w", 3, 16)), [-1, 4, 4, 1])
  h = tf.nn.conv2d(h, _weights("k", 3, 3, 1, 2), 1, "SAME")
  return tf.reshape(tf.nn.max_pool2d(h ** 2, 2, 2, "SAME"), [-1, 8])


def _gradient(x):
  h = tf.reduce_sum(_dense(x) ** 2, 1, keepdims=True)
  return h + gf.gradient(h, x) ** 2


_KINDS = [
    ("ref", lambda x: _dense(x, use_resource=False)),
    ("resource", lambda x: _dense(x, use_resource=True)),
    ("partitioned", _partitioned), ("loop", _loop), ("branch", _branch),
    ("loop_of_arrays", _loop_of_arrays), ("case", _case), ("table", _table),
    ("function_calls", _function_calls), ("embedding", _embedding),
    ("custom_gradient", _custom_gradient), ("convolution", _convolution),
    ("gradient", _gradient),
]


def _relative(value, expected):
  value, expected = np.asarray(value), np.asarray(expected)
  return np.abs(value - expected).max() / max(np.abs(expected).max(), 1e-300)


class _ExportTest(graphs.GraphTest, folders.FolderTest):

  def setUp(self):
    super().setUp()
    self.x = tf.placeholder(tf.float64, [None, 3], name="inputs/x")

  def start(self):
    self.initialize()
    self.session.run(tf.tables_initializer())

  def assert_close(self, value, expected, tolerance=1e-12):
    self.assertLess(_relative(value, expected), tolerance)

  def left(self):
    return sorted(os.listdir(self.folder))


def _slope(session, x, y, at):
  """d sum(y) / dx by central differences."""
  slope, step = np.zeros(at.shape), 1e-5
  for index in np.ndindex(at.shape):
    moved = np.zeros(at.shape)
    moved[index] = step
    slope[index] = (session.run(y, {x: at + moved}).sum() -
                    session.run(y, {x: at - moved}).sum()) / (2 * step)
  return slope


def _read(how, folder, points, names, python):
  """What a process without gradfeed reads of the exports in a folder."""
  with open(os.path.join(folder, "points.json"), "w") as output:
    json.dump({name: points for name in names}, output)
  environment = {key: value for key, value in os.environ.items()
                 if key != "PYTHONPATH"}
  done = subprocess.run(
      [python, os.path.join(folders.ROOT, "tests", "testing",
                            "saved_model_reader.py"),
       how, os.path.join(folder, "points.json")] + [
           os.path.join(folder, name) for name in names],
      env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
      universal_newlines=True, check=False, cwd=folder)
  if done.returncode:
    raise AssertionError(done.stderr[-3000:])
  return {os.path.basename(directory): found for directory, found in
          json.loads(done.stdout).items()}


_SOURCES = ["model.ckpt.meta", "saved", "frozen.pb"]


class ReadersTest(parameterized.TestCase):
  """Each reader is one process for all exports: it takes seconds to start."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls._temporary = tempfile.TemporaryDirectory()
    cls._folder, cls._expected = cls._temporary.name, {}
    for name, kind in _KINDS:
      cls._export_kind(name, kind)
    cls._export_files()
    readers = [("v1", "v1", sys.executable)]
    if _tf.IS_TF2:
      readers.append(("v2", "v2", sys.executable))
    if _OTHER_PYTHON in os.environ:
      readers.append(("other", "v1", os.environ[_OTHER_PYTHON]))
    points = [{"x": at.tolist()} for at in (_X, _LARGER)]
    cls._found = {
        reader: _read(how, cls._folder, points, list(cls._expected), python)
        for reader, how, python in readers}

  @classmethod
  def tearDownClass(cls):
    cls._temporary.cleanup()
    super().tearDownClass()

  @classmethod
  def _path(cls, name):
    return os.path.join(cls._folder, name)

  @classmethod
  def _export_kind(cls, name, kind):
    with tf.Graph().as_default(), tf.Session() as session:
      x = tf.placeholder(tf.float64, [None, 3], name="inputs/x")
      y = tf.reduce_sum(kind(x) ** 3, 1, name="y")
      session.run([tf.global_variables_initializer(),
                   tf.tables_initializer()])
      gf.export(gf.function(x, y, session), cls._path(name))
      cls._expected[name] = [
          (session.run(y, {x: at}), _slope(session, x, y, at))
          for at in (_X, _LARGER)]

  @classmethod
  def _export_files(cls):
    """Writes a model in each way that TF 1 has, and exports of each."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
      x = tf.placeholder(tf.float64, [None, 3], name="inputs/x")
      w = graphs.variable("w", [2.0, 3.0, 5.0], False)
      tf.multiply(x ** 2, w, name="y")
      session.run(w.initializer)
      tf.train.Saver().save(session, cls._path("model.ckpt"))
      builder = tf.saved_model.Builder(cls._path("saved"))
      builder.add_meta_graph_and_variables(session, ["serve"])
      builder.save()
      tf.train.write_graph(tf.graph_util.convert_variables_to_constants(
          session, graph.as_graph_def(), ["y"]), cls._folder, "frozen.pb",
                           as_text=False)
    for source in _SOURCES:
      with gf.load(cls._path(source)) as model:
        gf.export(gf.function("inputs/x:0", "y:0", model.session),
                  cls._path("of_" + source))
      cls._expected["of_" + source] = [
          (at ** 2 * [2.0, 3.0, 5.0], at * [4.0, 6.0, 10.0])
          for at in (_X, _LARGER)]

  @parameterized.parameters(*[
      name for name, _ in _KINDS], *["of_" + source for source in _SOURCES])
  def test_read_the_numbers_of_the_graph(self, name):
    for reader, models in self._found.items():
      found = models[name]
      self.assertCountEqual(found, [
          "serving_default", "value", "gradient", "value_and_gradient"])
      for i, (y, slope) in enumerate(self._expected[name]):
        both = found["value_and_gradient"][i]
        for value in (found["value"][i], found["serving_default"][i], both):
          self.assertLess(_relative(value["value"], y), 1e-12, reader)
        for value in (found["gradient"][i], both):
          self.assertLess(_relative(value["gradient"], slope), 1e-6, reader)


class SignaturesTest(_ExportTest):

  def signatures(self, f, **options):
    return gf.export(f, self.path("model"), overwrite=True,
                     **options).signatures

  def values(self, signature, **given):
    """What gf.load reads of a signature, at values."""
    with gf.load(self.path("model")) as model:
      inputs, outputs, _ = model.signatures[signature]
      return model.session.run(
          outputs, {inputs[name]: value for name, value in given.items()})

  def test_of_each_kind_of_outputs(self):
    y = tf.reduce_sum(self.x ** 3, 1)
    dx = gf.gradient(y, self.x)
    both = {"x"}, {"value", "gradient"}
    for outputs, served in (
        (y, (["x"], ["value"])), (dx, (["x"], ["gradient"])),
        ([y, dx], (["x"], ["value", "gradient"]))):
      signatures = self.signatures(gf.function(self.x, outputs, self.session))
      self.assertEqual(signatures["serving_default"], served)
      self.assertEqual(tuple(map(set, signatures["value_and_gradient"])), both)
      found = self.values("value_and_gradient", x=_X)
      self.assert_close(found["value"], (_X ** 3).sum(1))
      self.assert_close(found["gradient"], 3 * _X ** 2)

  def test_names_are_keys_or_ends_of_names(self):
    z = tf.placeholder(tf.float64, [None, 3], name="other/x")
    scores = tf.multiply(self.x, z, name="head/scores")
    classes = tf.argmax(scores, 1, name="head/classes")
    f = gf.function({"left": self.x, "right": z},
                    {"s": scores, "c": classes}, self.session)
    signatures = self.signatures(f)
    self.assertEqual(signatures["serving_default"],
                     (["left", "right"], ["c", "s"]))
    self.assertEqual(signatures["gradient"][1],
                     ["gradient_left", "gradient_right"])
    found = self.values("value_and_gradient", left=_X, right=_X * 2)
    self.assert_close(found["gradient_left"], 2 * _X)
    self.assert_close(found["gradient_right"], _X)
    np.testing.assert_array_equal(found["c"], np.argmax(2 * _X * _X, 1))
    f = gf.function([self.x, z], [scores, classes], self.session)
    self.assertEqual(self.signatures(f)["value"],
                     (["inputs_x", "other_x"], ["scores", "classes"]))

  def test_held_values_and_cuts_are_those_of_the_function(self):
    scale = tf.placeholder(tf.float64, [], name="scale")
    w = graphs.variable("w", [[2.0, 1.0, 3.0]], True)
    h = tf.multiply(self.x, w, name="h")
    y = tf.reduce_sum(w * tf.exp(h * scale))
    self.start()
    f = gf.function([h, w], y, self.session, feed_dict={scale: 0.5})
    self.assertEqual(self.signatures(f)["gradient"],
                     (["h", "w"], ["gradient_h", "gradient_w"]))
    found = self.values("gradient", h=_X, w=np.full((1, 3), 3.0))
    self.assert_close(found["gradient_h"], 1.5 * np.exp(0.5 * _X))
    self.assert_close(found["gradient_w"], np.exp(0.5 * _X).sum(
        0, keepdims=True))

  def test_outside_of_graph_blocks_too(self):
    scale = tf.placeholder(tf.float64, [], name="scale")
    y = tf.exp(_dense(self.x) * scale)
    slope = gf.gradient(y, self.x)
    self.start()
    for outputs in (y, slope):
      f = gf.function(self.x, outputs, self.session, feed_dict={scale: 0.5})
      with _tf.eagerly():
        self.signatures(f)
      self.assert_close(
          self.values("gradient", x=_X)["gradient"],
          self.session.run(slope, {self.x: _X, scale: 0.5}))

  def test_an_input_that_does_not_count_has_no_gradient(self):
    labels = tf.placeholder(tf.float64, [None], name="labels")
    f = gf.function([self.x, labels], self.x ** 2, self.session,
                    on_unused_input="ignore")
    self.assertEqual(self.signatures(f)["gradient"],
                     (["x", "labels"], ["gradient"]))
    self.assert_close(
        self.values("gradient", x=_X, labels=[0.0])["gradient"], 2 * _X)

  def test_without_a_floating_output_there_is_the_value_alone(self):
    f = gf.function(self.x, tf.argmax(self.x, 1), self.session)
    self.assertCountEqual(self.signatures(f), ["serving_default", "value"])
    with self.assertRaisesRegex(gf.DisconnectedError, "signatures="):
      self.signatures(f, signatures=["gradient"])

  def test_a_wrong_gradient_is_refused_and_the_value_is_not(self):
    y = self.x + tf.digamma(self.x + 0.0 * tf.zeta(self.x + 2.0, self.x + 1.0))
    f = gf.function(self.x, y, self.session)
    with self.assertRaisesRegex(gf.IncompleteGradientError, "signatures="):
      self.signatures(f)
    self.assertEqual(self.left(), [])
    signatures = self.signatures(f, signatures=["value"], points=[_X ** 2 + 1])
    self.assertCountEqual(signatures, ["serving_default", "value"])

  def test_sparse_tensors_are_three_inputs(self):
    sparse = tf.sparse_placeholder(tf.float64, [None, 3], name="ids")
    y = tf.sparse.reduce_sum(sparse, 1) ** 2
    f = gf.function(sparse, y, self.session)
    value = tf.SparseTensorValue([[0, 1], [1, 2]], [3.0, 4.0], [2, 3])
    self.assertEqual(self.signatures(f, points=[(value,)])["gradient"], (
        ["ids_indices", "ids_values", "ids_shape"], ["gradient"]))
    found = self.values("gradient", ids_indices=value.indices,
                        ids_values=value.values, ids_shape=value.dense_shape)
    self.assert_close(found["gradient"], [6.0, 8.0])

  def test_what_is_loaded_has_variables_that_are_trained(self):
    frozen = tf.get_variable("mean", initializer=np.ones(4), trainable=False)
    y = _dense(self.x) - frozen
    self.start()
    self.signatures(gf.function(self.x, y, self.session))
    with gf.load(self.path("model")):
      self.assertEqual([v.op.name for v in tf.trainable_variables()],
                       ["layer/w"])
      self.assertCountEqual([v.op.name for v in tf.global_variables()],
                            ["layer/w", "mean"])
    values = dict(tf.train.list_variables(
        self.path("model", "variables", "variables")))
    self.assertEqual(values, {"layer/w": [3, 4], "mean": [4]})

  def test_a_gradient_of_ones_own_is_written_and_not_given_again(self):
    @tf.custom_gradient
    def hundredfold(a):
      return tf.sin(a), lambda g: 100.0 * g

    self.signatures(gf.function(self.x, hundredfold(self.x), self.session))
    self.assert_close(self.values("gradient", x=_X)["gradient"],
                      np.full(_X.shape, 100.0))
    with gf.load(self.path("model")) as model:
      with self.assertRaisesRegex(gf.UnsupportedGraphError, "custom_gradient"):
        gf.gradient(model.tensor("value/value"), model.tensor("value/x"))
    # TensorFlow's own, in a process in which the name means something else.
    with tf.Graph().as_default() as graph, tf.Session() as session:
      signature = tf.saved_model.loader.load(
          session, ["serve"], self.path("model")).signature_def["value"]
      y, x = [graph.get_tensor_by_name(name) for name in (
          signature.outputs["value"].name, signature.inputs["x"].name)]
      with self.assertRaises((LookupError, gf.UnsupportedGraphError)):
        tf.gradients(y, x)

  def test_the_graph_gets_no_op_where_the_gradient_is_there(self):
    f = gf.function(self.x, gf.value_and_gradient(
        tf.reduce_sum(self.x ** 3), self.x), self.session)
    count = self.count()
    f(_X)
    snapshots = self.count() - count
    self.signatures(f)
    self.signatures(f)
    self.assertEqual(self.count(), count + snapshots)


class ProofTest(_ExportTest):

  def function(self):
    w = graphs.variable("w", [2.0, 3.0, 5.0], True)
    y = tf.multiply(self.x ** 2, w)
    self.start()
    return gf.function(self.x, y, self.session)

  def test_other_numbers_are_refused_and_nothing_is_left(self):
    f = self.function()
    write = exporting._write  # pylint: disable=protected-access

    def write_other_weights(exported, *arguments):
      with exported.graph.as_default():
        tf.global_variables()[0].load([2.0, 3.0, 5.001], exported.session)
      write(exported, *arguments)

    with mock.patch.object(exporting, "_write", write_other_weights):
      for options in ({}, {"points": [_X, _LARGER]}):
        with self.assertRaisesRegex(gf.ModelFileError, "'value'"):
          gf.export(f, self.path("model"), **options)
    self.assertEqual(self.left(), [])

  def test_what_is_there_stays_where_an_export_fails(self):
    f = self.function()
    gf.export(f, self.path("model"))
    with open(self.path("model", "saved_model.pb"), "rb") as source:
      before = source.read()
    with mock.patch.object(proofs, "check", side_effect=KeyboardInterrupt):
      with self.assertRaises(KeyboardInterrupt):
        gf.export(f, self.path("model"), overwrite=True)
    with mock.patch.object(os, "rename", self.failing_rename):
      with self.assertRaisesRegex(gf.ModelFileError, "No space"):
        gf.export(f, self.path("model"), overwrite=True)
    self.assertEqual(self.left(), ["model"])
    with open(self.path("model", "saved_model.pb"), "rb") as source:
      self.assertEqual(source.read(), before)

  _rename = staticmethod(os.rename)

  def failing_rename(self, source, target):
    if source.endswith("new"):
      raise OSError(28, "No space left on device")
    self._rename(source, target)

  @modes.without_mode
  def test_a_process_that_is_killed_leaves_no_half_directory(self):
    program = self.path("program.py")
    with open(program, "w") as output:
      output.write(_KILLED)
    process = processes.start([program, self.path("model")],
                              stdout=processes.PIPE)
    try:
      self.assertEqual(process.stdout.readline().strip(), b"written")
      self.assertNotIn("model", self.left())
    finally:
      process.send_signal(signal.SIGKILL)
      process.wait()
      process.stdout.close()
    self.assertEqual([name for name in self.left() if "partial" not in name],
                     ["program.py"])

  def test_random_numbers_are_not_compared(self):
    rate = tf.placeholder_with_default(tf.constant(0.5, tf.float64), [])
    y = tf.nn.dropout(self.x, rate=rate)
    gf.export(gf.function(self.x, y, self.session), self.path("random"))
    # Held so that nothing is drawn, it is compared.
    f = gf.function(self.x, y, self.session, feed_dict={rate: 0.0})
    with mock.patch.object(proofs, "_is_same", return_value=False):
      gf.export(gf.function(self.x, y, self.session), self.path("again"))
      with self.assertRaises(gf.ModelFileError):
        gf.export(f, self.path("held"))

  def test_random_numbers_that_happen_to_be_the_same(self):
    y = tf.nn.dropout(self.x, rate=0.5)
    program = programs.Program(gf.function(self.x, y, self.session), None)
    draws = iter([[np.zeros(2)]] * 3 + [[np.array([0., 1.])]])
    with mock.patch.object(
        program, "results_at", side_effect=lambda arrays: next(draws)):
      point = proofs.Point(program, [np.ones([2, 3])], True)
    self.assertEqual(point.is_drawn, [True])

  def test_single_precision_on_the_way_is_allowed_for(self):
    y = tf.cast(tf.tanh(tf.cast(self.x, tf.float32)), tf.float64)
    f = gf.function(self.x, y, self.session, feed_dict=None)
    same, tolerances = proofs._is_same, []  # pylint: disable=protected-access

    def is_same(expected, found, tolerance):
      tolerances.append(tolerance)
      return same(expected, found, tolerance)

    with mock.patch.object(proofs, "_is_same", is_same):
      gf.export(f, self.path("model"))
    self.assertGreater(min(tolerances), 1e-4)

  def test_points_that_cannot_be_drawn_are_asked_for(self):
    y = tf.reshape(self.x, [7, 3]) * 2.0
    f = gf.function(self.x, y, self.session)
    with self.assertRaisesRegex(gf.ArgumentError, r"points=\[x_t\]"):
      gf.export(f, self.path("model"))
    result = gf.export(f, self.path("model"), points=[np.ones((7, 3))])
    self.assertEqual(result.points, 1)
    with self.assertRaises(gf.FeedError):
      gf.export(f, self.path("other"), points=[np.ones((7, 4))])
    for points in (np.ones((7, 3)), []):
      with self.assertRaisesRegex(gf.ArgumentError, "points is a"):
        gf.export(f, self.path("other"), points=points)
    self.assertEqual(self.left(), ["model"])


_KILLED = """
import sys, time
import tensorflow.compat.v1 as tf
import gradfeed as gf
from gradfeed.migration.exports import proofs

def wait(*unused):
  print("written", flush=True)
  time.sleep(60)

proofs.check = wait
with tf.Graph().as_default(), tf.Session() as session:
  x = tf.placeholder(tf.float64, [None, 3])
  gf.export(gf.function(x, x * 2.0, session), sys.argv[1])
"""


class RefusalsTest(_ExportTest):

  def refused(self, error, text, outputs, inputs=None, **options):
    with self.assertRaisesRegex(error, text):
      gf.export(gf.function(self.x if inputs is None else inputs, outputs,
                            self.session), self.path("model"), **options)
    self.assertEqual(self.left(), [])

  def test_python_is_named(self):
    y = self.x * tf.py_func(lambda: np.float64(2.0), [], tf.float64, name="two")
    self.refused(gf.UnsupportedGraphError, "PyFunc 'two'", y,
                 signatures=["value"])

  def test_a_queue_is_named(self):
    queue = tf.FIFOQueue(3, tf.float64, [[]], name="queue")
    y = self.x * queue.dequeue(name="taken")
    self.refused(gf.UnsupportedGraphError, "'taken'", y)
    taken = self.graph.get_tensor_by_name("taken:0")
    gf.export(gf.function([self.x, taken], y, self.session), self.path("cut"))

  def test_an_iterator_is_named(self):
    element = tf.data.make_one_shot_iterator(
        tf.data.Dataset.from_tensors(np.float64(2.0))).get_next()
    self.refused(gf.UnsupportedGraphError, "IteratorGetNext",
                 self.x * element)

  def test_a_value_that_is_missing_is_named(self):
    scale = tf.placeholder(tf.float64, [], name="scale")
    self.refused(gf.MissingFeedError, "'scale:0'", self.x * scale)

  def test_a_variable_without_a_value_is_named(self):
    self.refused(gf.UninitializedError, "layer/w", _dense(self.x))

  def test_a_graph_over_two_gigabytes(self):
    with mock.patch.object(exported_graphs, "_LARGEST_BYTES", 100):
      self.refused(gf.GraphTooLargeError, "over 2 GB", self.x * 2.0)

  def test_arguments(self):
    f = gf.function(self.x, self.x * 2.0, self.session)
    with self.assertRaisesRegex(gf.ArgumentError, "not a gradfeed.Function"):
      gf.export(lambda x: x, self.path("model"))
    for path in (3, "", "gs://bucket/model"):
      with self.assertRaisesRegex(gf.ArgumentError, "path|directory"):
        gf.export(f, path)
    with self.assertRaisesRegex(gf.ArgumentError, "'value_and_gradient'"):
      gf.export(f, self.path("model"), signatures=["hessian"])
    self.assertEqual(self.left(), [])

  def test_what_is_there_is_replaced_only_on_request(self):
    f = gf.function(self.x, self.x * 2.0, self.session)
    gf.export(f, self.path("new", "folder", "1"))
    gf.export(f, self.path("model"))
    with self.assertRaisesRegex(gf.ArgumentError, "overwrite=True"):
      gf.export(f, self.path("model"))
    gf.export(f, self.path("model") + "/", overwrite=True)
    self.assertEqual(self.left(), ["model", "new"])
    os.mkdir(self.path("other"))
    self.save("other/data.npy", _X)
    for path in ("other", "other/data.npy"):
      with self.assertRaisesRegex(gf.ArgumentError, "no SavedModel"):
        gf.export(f, self.path(path), overwrite=True)


class OlderVersionsTest(parameterized.TestCase):

  def graph_def(self, op, inside=False, **attributes):
    node = tf.NodeDef(name="node", op=op)
    for name, value in attributes.items():
      node.attr[name].CopyFrom(value)
    graph_def = tf.GraphDef()
    if inside:
      function = graph_def.library.function.add()
      function.signature.name = "f"
      function.node_def.add().CopyFrom(node)
      graph_def.node.add(name="call", op="f")
      return graph_def, function.node_def[0]
    graph_def.node.add().CopyFrom(node)
    return graph_def, graph_def.node[0]

  @parameterized.parameters(False, True)
  def test_defaults_and_what_is_inferred_are_left_out(self, inside):
    graph_def, node = self.graph_def(
        "MatMul", inside, transpose_a=tf.AttrValue(b=False),
        transpose_b=tf.AttrValue(b=True), T=tf.AttrValue(type=1),
        _output_shapes=tf.AttrValue(), _own=tf.AttrValue(b=False))
    with tf.Graph().as_default():
      older_versions.leave_out_defaults(graph_def)
    self.assertCountEqual(node.attr, ["transpose_b", "T", "_own"])

  @parameterized.parameters(False, True)
  def test_attributes_that_change_nothing_are_left_out(self, inside):
    graph_def, node = self.graph_def(
        "MatMul", inside, grad_a=tf.AttrValue(b=True),
        transpose_b=tf.AttrValue(b=True))
    older_versions.fit(graph_def, "1.15")
    self.assertCountEqual(node.attr, ["transpose_b"])

  @parameterized.parameters(False, True)
  def test_attributes_that_change_numbers_are_refused(self, inside):
    graph_def, _ = self.graph_def(
        "MaxPool", inside, explicit_paddings=tf.AttrValue())
    with self.assertRaisesRegex(
        gf.UnsupportedGraphError, "MaxPool 'node'.*'explicit_paddings'"):
      older_versions.fit(graph_def, "1.15")

  @parameterized.parameters(False, True)
  def test_ops_that_are_not_known_are_refused(self, inside):
    graph_def, _ = self.graph_def("Xlog1py", inside)
    with self.assertRaisesRegex(
        gf.UnsupportedGraphError, "Xlog1py 'node'.*no such op"):
      older_versions.fit(graph_def, "1.15")

  def test_the_table_has_the_ops_of_tensorflow_1_15(self):
    if _tf.IS_TF2:
      self.skipTest("It is held against TensorFlow 1.15.")
    version = older_versions.VERSIONS["1.15"]
    for op in version.ops:
      self.assertIsNotNone(_tf.op_definition(tf.get_default_graph(), op), op)
    for name, ops in version.added_attributes.items():
      for op in ops.split():
        definition = _tf.op_definition(tf.get_default_graph(), op)
        self.assertNotIn(name, [a.name for a in definition.attr])


class NewerOpsTest(_ExportTest):

  def test_are_written_on_request(self):
    if not _tf.IS_TF2:
      self.skipTest("TensorFlow 1.15 has no newer ops.")
    xlog1py = getattr(tf2.math, "xlog1py")
    f = gf.function(self.x, xlog1py(self.x, self.x ** 2), self.session)
    with self.assertRaisesRegex(gf.UnsupportedGraphError,
                                "(?s)Xlog1py.*for_tf1=False"):
      gf.export(f, self.path("model"))
    self.assertEqual(self.left(), [])
    gf.export(f, self.path("model"), for_tf1=False)

  def test_nothing_that_is_written_is_new_to_1_15(self):
    y = _loop(self.x)
    self.start()
    gf.export(gf.function(self.x, y, self.session), self.path("model"))
    saved_model = _tf.SavedModel()
    with open(self.path("model", "saved_model.pb"), "rb") as source:
      saved_model.ParseFromString(source.read())
    added = older_versions.VERSIONS["1.15"].added_attributes
    for function in [saved_model.meta_graphs[0].graph_def] + list(
        saved_model.meta_graphs[0].graph_def.library.function):
      for node in getattr(function, "node", None) or function.node_def:
        for name in node.attr:
          self.assertNotIn(node.op, added.get(name, "").split())
