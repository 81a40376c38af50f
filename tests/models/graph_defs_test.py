"""Tests of graphs that are prepared for their import, by way of `load`."""

import os
import shutil
import warnings

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function as defun

from gradfeed import _tf
import gradfeed as gf
from gradfeed.models import graph_defs
from tests.testing import folders
from tests.testing import graphs
from tests.testing import saved_models


class _FrozenTest(folders.FolderTest, graphs.GraphTest):

  def write(self, graph_def=None):
    tf.io.write_graph(graph_def or self.graph.as_graph_def(), self.folder,
                      "m.pb", as_text=False)
    return self.path("m.pb")

  def check(self, path, scale=1.0):
    """Checks the derivative of y, scale x ** 2, in a model."""
    with gf.load(path) as model:
      f = gf.function("x:0", gf.gradient("y:0", "x:0"))
      np.testing.assert_allclose(f([1.0, 2.0]), [2.0 * scale, 4.0 * scale])
      return model

  def square(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    return tf.multiply(x, x, name="y")


class DevicesTest(_FrozenTest):

  def test_of_a_frozen_graph(self):
    with tf.device("/job:worker/task:3/gpu:1"):
      self.square()
    self.check(self.write())

  def test_inside_of_a_function(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    with tf.device("/job:worker/task:3/gpu:1"):
      y = _call(lambda a: a * a)(x)
    tf.identity(y, name="y")
    self.check(self.write())

  def test_of_a_saved_model(self):
    with tf.device("/job:worker/task:3/gpu:1"):
      y = self.square()
    builder = tf.saved_model.Builder(self.path("saved"))
    builder.add_meta_graph_and_variables(self.session, ["serve"], {
        "f": tf.saved_model.predict_signature_def(
            {"in": y.op.inputs[0]}, {"out": y})})
    builder.save()
    self.check(self.path("saved"))


def _call(function, name="square"):
  """A function of the library of the graph, as `Defun` makes it."""
  return defun.Defun(tf.float64, shape_func=lambda op: [[2]],
                     func_name=name)(function)


class AttributesTest(_FrozenTest):

  @parameterized.parameters(
      ("debug_name", tf.AttrValue(s=b"w")), ("grad_x", tf.AttrValue(b=True)),
      ("metadata", tf.AttrValue(s=b"x")),
      ("exponential_avg_factor", tf.AttrValue(f=1.0)),
      ("explicit_paddings", tf.AttrValue(list=tf.AttrValue.ListValue())))
  def test_that_change_nothing_are_taken_away(self, name, value):
    self.square()
    graph_def = self.graph.as_graph_def()
    graph_def.node[-1].attr[name].CopyFrom(value)
    self.check(self.write(graph_def))

  @parameterized.parameters(
      ("of_tomorrow", tf.AttrValue(b=False)),
      ("exponential_avg_factor", tf.AttrValue(f=0.5)))
  def test_that_may_change_something_are_left_to_tensorflow(self, name, value):
    self.square()
    graph_def = self.graph.as_graph_def()
    graph_def.node[-1].attr[name].CopyFrom(value)
    if _tf.IS_TF2:  # TensorFlow itself takes no heed of them.
      gf.load(self.write(graph_def)).close()
      return
    with self.assertRaisesRegex(gf.UnsupportedGraphError, name):
      gf.load(self.write(graph_def))

  def test_with_the_default_of_what_wrote_them_are_taken_away(self):
    self.square()
    graph_def = self.graph.as_graph_def()
    node = graph_def.node[-1]
    written_ops = type(tf.MetaGraphDef().meta_info_def.stripped_op_list)()
    written = written_ops.op.add(name=node.op)
    written.attr.add(name="of_tomorrow").default_value.i = 3
    for value, is_left in ((3, False), (4, True)):
      node.attr["of_tomorrow"].i = value
      graph_defs.prepare("m.pb", graph_def, written_ops)
      self.assertEqual("of_tomorrow" in node.attr, is_left)

  def test_shapes_of_a_newer_version_are_not_held_against_its_own(self):
    self.square()
    graph_def = self.graph.as_graph_def()
    shapes = graph_def.node[-1].attr["_output_shapes"].list
    shapes.shape.add().dim.add(size=7)
    graph_def.versions.producer = tf.GRAPH_DEF_VERSION + 1
    self.check(self.write(graph_def))

  def test_ops_without_anything_to_do(self):
    node = tf.NodeDef(name="a", op="DisableCopyOnRead", input=["x"])
    graph_def = tf.GraphDef(node=[node])
    graph_defs.prepare("m.pb", graph_def)
    self.assertEqual(graph_def.node[0].op,
                     "DisableCopyOnRead" if _tf.IS_TF2 and (
                         _tf.op_definition(self.graph, node.op)) else "NoOp")


class RecursionTest(_FrozenTest):

  def recursive(self, *names):
    """A graph of functions that call each other, the last one the first."""
    x = tf.placeholder(tf.float64, [2], name="x")
    tf.identity(_call(lambda a: a * a)(x), name="y")
    graph_def = self.graph.as_graph_def()
    function, = graph_def.library.function
    call, = [node for node in graph_def.node
             if node.op == function.signature.name]
    for name, called in zip(names, names[1:] + names[:1]):
      copy = graph_def.library.function.add()
      copy.CopyFrom(function)
      copy.signature.name = name
      copy.node_def[0].op = called
    call.op = names[0]
    return graph_def

  @parameterized.parameters((("f",),), (("f", "g", "h"),))
  def test_is_refused(self, names):
    with self.assertRaisesRegex(gf.ModelFileError, "'f' calls itself"):
      gf.load(self.write(self.recursive(*names)))

  def test_in_an_attribute_is_refused(self):
    graph_def = self.recursive("f")
    node = graph_def.library.function[-1].node_def[0]
    node.op = "StatefulPartitionedCall"
    node.attr["f"].func.name = "f"
    with self.assertRaisesRegex(gf.ModelFileError, "'f' calls itself"):
      gf.load(self.write(graph_def))

  def test_a_function_that_is_called_twice_is_none(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    inner = _call(lambda a: a * a)
    outer = _call(lambda a: inner(a) + inner(a), "twice")
    tf.identity(outer(x), name="y")
    self.check(self.write(), 2.0)


class ConstantsTest(_FrozenTest):

  def test_of_negative_shapes(self):
    tf.constant([1.0, 2.0], name="c")
    graph_def = self.graph.as_graph_def()
    graph_def.node[0].attr["value"].tensor.tensor_shape.dim[0].size = -2
    with self.assertRaisesRegex(gf.ModelFileError, r"'c'.*\[-2\]"):
      gf.load(self.write(graph_def))


class NamesTest(folders.FolderTest, graphs.GraphTest):

  def test_outputs_of_a_saved_model_of_tf2(self):
    """The call for its checkpoint has a similar name, and one output."""
    saved_models.save(self.path("tf2"), "two_outputs")
    with gf.load(self.path("tf2")) as model, warnings.catch_warnings():
      warnings.simplefilter("error", gf.GradfeedWarning)
      x = model.tensor("serving_default_x:0")
      for key, expected in (("a", [2.0, 2.0]), ("b", [6.0, 8.0])):
        name = model.tensor("serving_default/" + key).name
        self.assertStartsWith(name, "StatefulPartitionedCall:")
        f = gf.function(x, gf.gradient(model.tensor(name), x))
        np.testing.assert_allclose(f([[3.0, 4.0]]), [expected])

  def test_calls_of_several_functions_are_no_copies(self):
    saved_models.save(self.path("tf2"), "two_signatures")
    with gf.load(self.path("tf2")) as model, warnings.catch_warnings():
      warnings.simplefilter("error", gf.GradfeedWarning)
      names = sorted(model.tensor(key + "/y").name for key in ("a", "b"))
      self.assertEqual(names, ["StatefulPartitionedCall:0",
                               "StatefulPartitionedCall_1:0"])
      self.assertEqual(model.tensor(names[0]).name, names[0])

  def test_younger_ops_with_fewer_outputs_are_no_copies(self):
    tf.split(tf.zeros([4]), 4, name="y")
    tf.split(tf.zeros([4]), 2, name="y")
    with warnings.catch_warnings():
      warnings.simplefilter("error", gf.GradfeedWarning)
      gf.run(self.session, "y:3")
    with self.assertWarnsRegex(gf.GradfeedWarning, "'z_1:0'"):
      tf.zeros([2], name="z")
      tf.zeros([2], name="z")
      gf.run(self.session, "z:0")


class CheckpointsTest(folders.FolderTest, graphs.GraphTest):

  def save(self):
    w = graphs.variable("w", [1.0, 2.0], True)
    x = tf.placeholder(tf.float64, [2], name="x")
    tf.multiply(x, w, name="y")
    self.initialize()
    os.mkdir(self.path("old"))
    tf.train.Saver(save_relative_paths=False).save(
        self.session, self.path("old", "model"), 7)
    shutil.move(self.path("old"), self.path("new"))

  def write_state(self, content):
    with open(self.path("new", "checkpoint"), "wb") as output:
      output.write(content)

  def test_that_were_moved(self):
    self.save()
    with open(self.path("new", "checkpoint")) as source:
      self.assertIn(self.path("old"), source.read())
    with gf.load(self.path("new")):
      np.testing.assert_allclose(
          gf.function("x:0", "y:0")([3.0, 4.0]), [3.0, 8.0])
    self.write_state(b'model_checkpoint_path: "C:\\\\models\\\\model-7"\n')
    gf.load(self.path("new", "checkpoint")).close()

  @parameterized.parameters(
      (b'model_checkpoint_path: "other-3"', "names '.*other-3'.*'model-7'"),
      (b"", "names none"), (b"\xff\xfe\x00model", "cannot be read"),
      (b'model_checkpoint_path "', "cannot be read"))
  def test_whose_state_file_is_wrong(self, content, message):
    self.save()
    self.write_state(content)
    with self.assertRaisesRegex(gf.ModelFileError, "(?s)" + message):
      gf.load(self.path("new"))

  def test_whose_values_are_damaged_say_what_tensorflow_said(self):
    self.save()
    data, = [name for name in os.listdir(self.path("new")) if ".data" in name]
    with open(self.path("new", data), "wb") as output:
      output.write(b"\0" * 16)
    with self.assertRaises(gf.ModelFileError) as caught:
      gf.load(self.path("new"))
    self.assertIn(self.path("new", "model-7"), caught.exception.what)
    self.assertRegex(caught.exception.why, "Checksum|checksum")

  def test_that_lack_a_variable_say_which(self):
    self.save()
    with tf.Graph().as_default():
      graphs.variable("other", [1.0], True)
      tf.train.Saver().export_meta_graph(self.path("new", "model-7.meta"))
    with self.assertRaisesRegex(gf.ModelFileError, "(?s)model-7.*other"):
      gf.load(self.path("new"))


class ArgumentsTest(folders.FolderTest):

  @parameterized.parameters(
      (None,), (3,), (b"",), ([],), ("",), ("a\0b",), (b"model.pb",),
      ({"a": 1},), (1.5,), (np.zeros(2),))
  def test_that_are_no_path(self, path):
    with self.assertRaisesRegex(gf.ArgumentError, "path="):
      gf.load(path)

  @parameterized.parameters((3,), ([3],), ({"a": 1},), (b"serve",))
  def test_that_are_no_tags(self, tags):
    with self.assertRaisesRegex(gf.ArgumentError, "tags="):
      gf.load(self.folder, tags)

  @parameterized.parameters("nothing", "nothing/at/all.pb", ".", "x" * 5000)
  def test_where_there_is_nothing(self, name):
    with self.assertRaises(gf.ModelFileError):
      gf.load(self.path(name))
