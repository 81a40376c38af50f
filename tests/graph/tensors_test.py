"""Names, structures, and what may stand for a tensor."""

import collections
import os
import warnings

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.graph import lookup
from gradfeed.graph import nest
from gradfeed.graph import tensors
from tests.testing import folders
from tests.testing import modes
from tests.testing import processes

_Pair = collections.namedtuple("_Pair", ["left", "right"])


class LookupTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.graph = tf.Graph()
    self.enter_context(self.graph.as_default())

  def test_by_full_name_and_by_op_name(self):
    a, b = tf.unique(tf.constant([1, 2]), name="u")
    self.assertIs(lookup.lookup("u:0", self.graph), a)
    self.assertIs(lookup.lookup("u:1", self.graph), b)
    self.assertIs(lookup.lookup("u", self.graph), a)

  @parameterized.named_parameters(
      ("misspelt", "model/logit:0", "'model/logits:0'"),
      ("without_scope", "logits", "'model/logits:0'"),
      ("output", "model/logits:7", "'model/logits:0'"))
  def test_unknown_name_tells_the_nearest(self, name, nearest):
    tf.constant(1., name="model/logits")
    with self.assertRaisesRegex(
        gf.TensorNotFoundError,
        "no tensor '{}'(.|\n)*{}".format(name, nearest)):
      lookup.lookup(name, self.graph)

  def test_unlike_any_name(self):
    tf.constant(1., name="a")
    with self.assertRaisesRegex(gf.TensorNotFoundError, "1 ops"):
      lookup.lookup("qqqqqqqqqq", self.graph)

  @parameterized.named_parameters(
      ("empty", ""), ("colon", ":0"), ("letters", "a:x"), ("two", "a:0:0"),
      ("control", "^a"))
  def test_what_is_no_name_at_all(self, name):
    tf.constant(1., name="a")
    with self.assertRaises(gf.TensorNotFoundError):
      lookup.lookup(name, self.graph)

  def test_s14_warns_of_younger_siblings(self):
    for _ in range(3):  # A notebook cell that is run three times.
      x = tf.placeholder(tf.float64, [], name="x")
      tf.square(x, name="y")
    with self.assertWarnsRegex(
        gf.GradfeedWarning, "'y:0' is the oldest.*'y_1:0', 'y_2:0'") as caught:
      gf.gradient("y:0", x, unconnected="none")
    self.assertEqual(os.path.basename(caught.filename), "tensors_test.py")

  def test_s14_the_newest_is_not_warned_of(self):
    for _ in range(3):
      x = tf.placeholder(tf.float64, [], name="x")
      tf.square(x, name="y")
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      gf.gradient("y_2:0", "x_2:0")

  def test_s14_another_op_of_such_a_name_is_no_sibling(self):
    x = tf.placeholder(tf.float64, [], name="layer")
    tf.square(x, name="layer_1")
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      gf.gradient("layer_1", "layer")

  def test_s14_through_function_and_feeds(self):
    for _ in range(2):
      x = tf.placeholder(tf.float64, [], name="x")
      y = tf.square(x, name="y")
    with tf.Session() as session:
      with self.assertWarnsRegex(gf.GradfeedWarning, "'y_1:0'"):
        gf.function(tf.get_default_graph().get_tensor_by_name("x:0"), "y:0",
                    session=session)
      with self.assertWarnsRegex(gf.GradfeedWarning, "'x_1:0'"):
        with self.assertRaises(gf.GradfeedError):  # The old x, the new y.
          gf.run(session, y, {"x:0": 3.})


class ResolveTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.graph = tf.Graph()
    self.enter_context(self.graph.as_default())

  @parameterized.named_parameters(
      ("number", 3.), ("array", np.ones(2)), ("none", None), ("bytes", b"x:0"),
      ("type", tf.float32), ("function", len))
  def test_what_is_no_tensor(self, thing):
    x = tf.placeholder(tf.float64, [], name="x")
    before = len(self.graph.get_operations())
    for arguments in ((x, thing), (thing, x)):
      with self.assertRaisesRegex(
          gf.ArgumentError, "not a tensor(.|\n)*'logits:0'"):
        gf.gradient(*arguments)
    self.assertEqual(len(self.graph.get_operations()), before)

  @parameterized.named_parameters(
      ("list", []), ("tuple", ()), ("dict", {}), ("nested", [[], {}]))
  def test_nothing_to_differentiate(self, nothing):
    x = tf.placeholder(tf.float64, [])
    for arguments, role in (((x, nothing), "x"), ((nothing, x), "y")):
      with self.assertRaisesRegex(gf.ArgumentError, role + " is empty"):
        gf.gradient(*arguments)

  def test_op_instead_of_its_output(self):
    x = tf.placeholder(tf.float64, [], name="x")
    with self.assertRaisesRegex(gf.ArgumentError, "(?s)x is.*Operation"):
      gf.gradient(x, x.op)

  def test_e2_tensor_of_another_graph(self):
    x = tf.placeholder(tf.float64, [], name="x")
    y = tf.square(x, name="y")
    with tf.Graph().as_default():
      other = tf.placeholder(tf.float64, [], name="x")  # The same name.
    before = len(self.graph.get_operations())
    with self.assertRaisesRegex(
        gf.GraphMismatchError, "'x:0'(.|\n)*as_default"):
      gf.gradient(y, other)
    with self.assertRaisesRegex(gf.GraphMismatchError, "grad_ys"):
      gf.gradient(y, x, grad_ys=other)
    with self.assertRaisesRegex(gf.GraphMismatchError, "stop_gradients"):
      gf.gradient(y, x, stop_gradients=[other])
    self.assertEqual(len(self.graph.get_operations()), before)

  @parameterized.named_parameters(
      ("ref", False, "VariableV2"), ("resource", True, "VarHandleOp"))
  def test_variable_and_what_stands_for_it(self, use_resource, op_type):
    v = tf.get_variable("v", [2, 3], tf.float64, use_resource=use_resource)
    point = tensors.resolve(v)
    self.assertEqual(point.op.type, op_type)
    self.assertEqual(str(point), "'v:0' (float64, [2, 3])")
    self.assertTrue(point.is_variable)
    self.assertEqual(point.is_handle, use_resource)
    self.assertEqual(tensors.resolve("v").name, point.name)

  def test_reference_that_can_be_hashed(self):
    x = tf.placeholder(tf.float64, [])
    y = x * x
    key = x.ref() if hasattr(x, "ref") else x.experimental_ref()
    self.assertIs(gf.gradient(y, key), gf.gradient(y, x))


class DescribeTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.enter_context(tf.Graph().as_default())

  @parameterized.named_parameters(
      ("unknown", None, "<unknown>"), ("scalar", [], "[]"),
      ("some", [None, 8], "[?, 8]"))
  def test_shape(self, shape, text):
    x = tf.placeholder(tf.int32, shape, name="ids")
    self.assertEqual(
        tensors.describe(x), "'ids:0' (int32, {})".format(text))

  def test_op(self):
    self.assertEqual(
        tensors.describe(tf.no_op(name="nothing")), "'nothing' (NoOp)")

  def test_sparse(self):
    sparse = tf.sparse_placeholder(tf.float32, name="s")
    self.assertRegex(
        tensors.describe(tensors.resolve(sparse)), "'s.*:0' .float32")

  def test_partitioned(self):
    v = tf.get_variable("v", [4, 2], partitioner=tf.fixed_size_partitioner(2))
    self.assertEqual(tensors.describe(tensors.resolve(v)),
                     "'v' (float32, [4, 2], 2 parts)")


class StructureTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ("leaf", 1), ("list", [1, 2]), ("nested", (1, [2, (3,)], {})),
      ("dict", {"b": 1, "a": [2]}), ("namedtuple", _Pair(1, _Pair(2, 3))),
      ("ordered", collections.OrderedDict([("z", 1), ("a", 2)])),
      ("default", collections.defaultdict(list, {"z": 1, "a": [2]})))
  def test_pack_undoes_flatten(self, structure):
    packed = nest.pack(structure, nest.flatten(structure))
    self.assertEqual(packed, structure)
    if not isinstance(structure, collections.defaultdict):
      self.assertIs(type(packed), type(structure))

  def test_flatten_orders_by_key(self):
    self.assertEqual(nest.flatten({"b": 1, "a": [2, 3]}), [2, 3, 1])

  def test_flatten_as_stops_at_the_leaves(self):
    self.assertEqual(
        nest.flatten_as({"b": 1, "a": [2]}, {"a": [[5, 6]], "b": [7]}),
        [[5, 6], [7]])

  @parameterized.named_parameters(
      ("length", [1, 2], [1]), ("kind", [1], 5), ("keys", {"a": 1}, {"b": 1}),
      ("list_for_dict", {"a": 1}, [1]))
  def test_flatten_as_refuses_another_structure(self, structure, value):
    with self.assertRaisesRegex(gf.FeedError, "structure of the input"):
      nest.flatten_as(structure, value)

  def test_sparse_value_is_a_leaf(self):
    value = tf.SparseTensorValue([[0]], [1.], [2])
    self.assertEqual(nest.flatten([value]), [value])


_EAGER = """
import tensorflow.compat.v1 as tf
import gradfeed as gf

assert tf.executing_eagerly()

def refused(call):
  try:
    call()
  except gf.EagerModeError as error:
    assert isinstance(error, RuntimeError)
    assert "disable_eager_execution" in str(error), error
    assert "as_default" in str(error), error
  else:
    raise AssertionError("not refused")

eager = tf.constant(2.)
variable = tf.Variable(2.)
refused(lambda: gf.gradient(eager * eager, eager))
refused(lambda: gf.gradient("y:0", "x:0"))
refused(lambda: gf.gradient(variable, variable))
refused(lambda: gf.gradients(eager, [eager]))
refused(lambda: gf.value_and_gradient([eager], {"a": variable}))
refused(lambda: gf.function(eager, eager))
with tf.Graph().as_default(), tf.Session() as session:
  x = tf.placeholder(tf.float32, [])
  refused(lambda: gf.gradient(x * x, eager))
  refused(lambda: gf.gradient(x * x, variable))
  refused(lambda: gf.gradient(x * x, x, grad_ys=eager))
  dx = gf.gradient(x * x, x)
  assert session.run(dx, {x: 3.}) == 6.
print("all refused")
"""


class EagerModeTest(parameterized.TestCase):

  @modes.without_mode
  def test_e7_in_eager_mode(self):
    # TF 1.15 is not eager unless it is told to be.
    switch = "import tensorflow.compat.v1 as tf\ntf.enable_eager_execution()\n"
    done = processes.run(["-c", switch + _EAGER], cwd=folders.ROOT,
                         env=dict(os.environ, CUDA_VISIBLE_DEVICES=""))
    self.assertEqual(done.returncode, 0, done.stderr[-3000:])
    self.assertIn("all refused", done.stdout)

  def test_e7_in_this_process(self):
    if not tf.executing_eagerly():
      self.skipTest("This run is not eager.")
    exec(compile(_EAGER, "eager", "exec"), {})  # pylint: disable=exec-used

  def test_e7_tensor_of_keras_3(self):
    # Keras 3 is not installed beside TF 1; its tensors are told by the name
    # of their class.
    keras_tensor = type("KerasTensor", (), {"__module__": "keras.src"})()
    with tf.Graph().as_default():
      x = tf.placeholder(tf.float32, [])
      with self.assertRaisesRegex(
          gf.EagerModeError, "(?s)Keras 3.*disable_eager_execution"):
        gf.gradient(x, keras_tensor)
