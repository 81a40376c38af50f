"""Why no gradient arrives at x, and what to do instead."""

import re

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows
from tests.testing import graphs

_FLOWS = (("control_flow_v1", 1), ("control_flow_v2", 2))

_KINDS = (("ref", False), ("resource", True))


def _py_func(x):
  return tf.reshape(tf.py_func(lambda a: np.sin(a), [x], tf.float64), [2])


def _there_and_back(x):
  return tf.cast(tf.cast(x, tf.int32, name="whole"), tf.float64)


def _argmax(x):
  return tf.cast(tf.argmax(x, name="largest"), tf.float64)


def _dense_layer(units):
  """A layer of float64 units, of Keras where tf.layers is no more."""
  try:
    return tf.layers.Dense(units, tf.nn.relu)
  except (AttributeError, ImportError):
    return tf.keras.layers.Dense(units, tf.nn.relu, dtype="float64")


class DisconnectedTest(graphs.GraphTest):
  """E2: which of the causes it is, the op, and what to use instead."""

  def _refused(self, y, x, *patterns):
    """The error; the graph stays as it was; other doors say None or zero."""
    before = len(self.graph.get_operations())
    with self.assertRaises(gf.DisconnectedError) as caught:
      gf.gradient(y, x)
    self.assertIsInstance(caught.exception, (ValueError, TypeError))
    message = str(caught.exception)
    for pattern in patterns:
      self.assertRegex(message, pattern)
    self.assertEqual(len(self.graph.get_operations()), before)
    return caught.exception

  def _follow(self, error, y, x, at, expected):
    """The gradient by the tensor that the fix names."""
    name, = re.findall(r"'([^']+:\d+)'", error.fix)[:1]
    dx = gf.gradient(y, name)
    with tf.Session() as session:
      session.run(tf.global_variables_initializer())
      np.testing.assert_allclose(session.run(dx, {x: at}), expected)

  @parameterized.named_parameters(
      ("copy", tf.identity), ("part", lambda x: x[:1]),
      ("reshaped", lambda x: tf.reshape(x, [1, 2])),
      ("computed", lambda x: tf.exp(x) * 2.))
  def test_e2_a_copy_that_is_made_later(self, make):
    x = tf.placeholder(tf.float64, [2], name="x")
    y = tf.square(x, name="y")
    later = tf.identity(make(x), name="later")
    error = self._refused(
        y, later, r"'y:0' \(float64, \[2\]\) by 'later:0'",
        "'y:0'.* does not depend on 'later:0'.*copy or a part made of 'x:0'",
        "Fix: Differentiate by 'x:0'")
    self._follow(error, y, x, [3., 4.], [6., 8.])

  @parameterized.named_parameters(*_KINDS)
  def test_e2_read_value(self, use_resource):
    v = tf.get_variable("v", use_resource=use_resource, dtype=tf.float64,
                        initializer=np.array([3., 4.]))
    x = tf.placeholder(tf.float64, [], name="x")
    y = tf.multiply(v * v, x, name="y")
    error = self._refused(
        y, v.read_value(), "by '.*:0'", "copy or a part made of 'v:0'",
        "Fix: Differentiate by 'v:0'")
    self._follow(error, y, x, 1., [6., 8.])

  @parameterized.named_parameters(
      ("int32", tf.int32), ("int64", tf.int64), ("uint8", tf.uint8))
  def test_e2_whole_numbers(self, dtype):
    x = tf.placeholder(dtype, [2], name="x")
    h = tf.cast(x, tf.float64, name="h")
    y = tf.square(h, name="y")
    error = self._refused(
        y, x, r"'x:0' \({}, \[2\]\) is {}, not floating".format(
            dtype.name, dtype.name), r"Fix: .*'h:0' \(float64, \[2\]\)")
    self._follow(error, y, x, [3, 4], [6., 8.])

  def test_e2_ids_of_an_embedding(self):
    ids = tf.placeholder(tf.int32, [None, 2], name="ids")
    table = tf.get_variable("table", [5, 3], tf.float64)
    rows = tf.nn.embedding_lookup(table, ids, name="rows")
    y = tf.reduce_sum(tf.square(rows), name="y")
    self._refused(y, ids, "not floating point", r"Fix: .*'rows.*:0' \(float64, "
                  r"\[\?, 2, 3\]\)")

  def test_e2_truth(self):
    x = tf.placeholder(tf.bool, [2], name="x")
    h = tf.cast(x, tf.float64, name="h")
    y = tf.square(h, name="y")
    self._refused(y, x, "'x:0'.*is bool, not floating", "Fix: .*'h:0'")

  def test_e2_string(self):
    x = tf.placeholder(tf.string, [2], name="x")
    h = tf.string_to_number(x, tf.float64, name="h")
    y = tf.square(h, name="y")
    error = self._refused(
        y, x, "'x:0'.*is string, not floating", "Fix: .*'h:0'")
    self._follow(error, y, x, ["3", "4"], [6., 8.])

  @parameterized.named_parameters(
      ("stop_gradient", lambda x: tf.stop_gradient(x, name="hold"),
       "StopGradient 'hold'"),
      ("round", lambda x: tf.round(x, name="off"), "Round 'off'"),
      ("floor", lambda x: tf.floor(x, name="off"), "Floor 'off'"),
      ("ceil", lambda x: tf.ceil(x, name="off"), "Ceil 'off'"),
      ("sign", lambda x: tf.cast(x > 0., tf.float64, name="off"), "Greater"),
      ("py_func", _py_func, "PyFunc"),
      ("cast", _there_and_back, "Cast 'whole'"),
      ("argmax", _argmax, "ArgMax 'largest'"))
  def test_e2_blocked(self, block, named):
    x = tf.placeholder(tf.float64, [2], name="x")
    h = tf.identity(block(x), name="h")
    y = tf.square(h, name="y")
    error = self._refused(
        y, x, r"'y:0' \(float64, .* by 'x:0' \(float64, \[2\]\)", named,
        r"disconnection_test\.py:\d+", "Fix: Differentiate by '.*:0' .float64")
    with tf.Session() as session:
      at = [3.2, 4.7]
      self._follow(error, y, x, at, 2. * session.run(h, {x: at}))
    self.assertEqual(gf.gradients(y, x), [None])
    self.assertIsNone(gf.gradient(y, x, unconnected="none"))

  def test_e2_all_the_blockers(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    y = tf.add(tf.round(x, name="one"), tf.stop_gradient(x, name="two"))
    self._refused(y, x, "Round 'one'", "StopGradient 'two'", "lie between")

  def test_s5_one_way_that_is_open_is_enough(self):
    x = tf.placeholder(tf.float64, [], name="x")
    y = tf.add(tf.round(x), 5. * x)
    with tf.Session() as session:
      self.assertEqual(session.run(gf.gradient(y, x), {x: 3.2}), 5.)

  @parameterized.named_parameters(
      ("betainc", lambda x: tf.math.betainc(x, x + 1., 0.5)),
      ("zeta", lambda x: tf.math.zeta(x + 2., 0.5)))
  def test_e2_op_without_a_gradient_by_this_input(self, function):
    x = tf.placeholder(tf.float64, [], name="x")
    y = tf.multiply(function(x), 1., name="y")
    theirs = tf.gradients(y, x)
    if theirs == [None]:
      self._refused(y, x, "by 'x:0'")
    else:
      with tf.Session() as session:
        mine, theirs = session.run(
            [gf.gradient(y, x), theirs[0]], {x: 1.5})
        self.assertEqual(mine, theirs)

  def test_e2_loop_without_backprop(self):
    x = tf.placeholder(tf.float64, [], name="x")
    with flows.control_flow(1):
      y = tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, tf.sin(a)),
                        [0, x], back_prop=False)[1]
    self._refused(y, x, "Exit 'while/Exit_1' of a loop with back_prop=False")

  def test_e2_what_reads_the_shape_is_not_blamed(self):
    x = tf.placeholder(tf.float64, [None], name="x")
    error = self._refused(tf.ones_like(x) * 2.0, x, "shape of 'x:0'.* alone")
    self.assertNotIn("OnesLike", str(error))

  @parameterized.named_parameters(*_KINDS)
  def test_e2_an_assignment_on_the_way(self, use_resource):
    u = tf.placeholder(tf.float64, [], name="u")
    v = tf.get_variable("v", initializer=np.float64(2.0),
                        use_resource=use_resource)
    written = tf.multiply(u, u, name="written")
    y = tf.multiply(tf.assign(v, written), 3.0, name="y")
    error = self._refused(
        y, u, "through an assignment: Assign", "variable 'v'",
        r"disconnection_test\.py:\d+", "Fix: Compute y from .*'written:0'")
    self.assertNotIn("shape", str(error))

  @parameterized.named_parameters(*_KINDS)
  def test_e2_an_assignment_that_y_does_not_wait_for(self, use_resource):
    u = tf.placeholder(tf.float64, [], name="u")
    v = tf.get_variable("v", initializer=np.float64(2.0),
                        use_resource=use_resource)
    tf.assign_add(v, tf.sin(u, name="written"))
    self._refused(tf.multiply(v, 3.0, name="y"), u,
                  "through an assignment: Assign", "'written:0'")

  @parameterized.named_parameters(*_KINDS)
  def test_e2_a_second_call_of_a_layer(self, use_resource):
    x = tf.placeholder(tf.float64, [2, 3], name="x")
    other = tf.placeholder(tf.float64, [2, 3], name="other")
    w = tf.get_variable("w", initializer=np.ones([3, 2]),
                        use_resource=use_resource)
    b = tf.get_variable("b", initializer=np.ones([2]),
                        use_resource=use_resource)

    def layer(value, name):
      with tf.name_scope(name):
        return tf.tanh(tf.nn.bias_add(tf.matmul(value, w), b), name="out")

    h = layer(x, "first")
    y = tf.reduce_sum(tf.square(h), name="y")
    for later in (layer(x, "second"), layer(other, "third")):
      error = self._refused(y, later, "second call of a layer",
                            "Fix: Differentiate by 'first/out:0'")
      self._follow(error, y, x, np.zeros([2, 3]),
                   np.full([2, 2], 2.0 * np.tanh(1.0)))

  def test_e2_a_second_call_of_a_layer_of_tf_layers(self):
    x = tf.placeholder(tf.float64, [2, 3], name="x")
    layer = _dense_layer(2)
    y = tf.reduce_sum(tf.square(layer(x)), name="y")
    model_output = next(
        op for op in self.graph.get_operations() if op.type == "Relu")
    error = self._refused(y, layer(x), "second call of a layer")
    self.assertIn("Differentiate by '{}:0'".format(model_output.name),
                  error.fix)

  def test_e2_no_twin_for_another_part(self):
    x = tf.placeholder(tf.float64, [2, 3], name="x")
    y = tf.reduce_sum(x[:, 0] * x[:, 1], name="y")
    self._refused(y, x[:, 2], "Fix: Differentiate by 'x:0'")
    self._refused(y, x[:, 1], "Fix: Differentiate by 'strided_slice_1:0'")

  def test_e2_what_iterators_and_queues_give(self):
    dataset = tf.data.Dataset.from_tensors(
        (np.ones([2]), np.ones([2], np.int64)))
    image, _ = tf.data.make_one_shot_iterator(dataset).get_next()
    x = tf.placeholder(tf.float64, [2], name="x")
    self._refused(tf.square(image), x, "It depends on '{}'".format(image.name))

  def test_e2_integer_y(self):
    x = tf.placeholder(tf.float64, [3], name="x")
    h = tf.square(x, name="h")
    y = tf.argmax(h, name="y")
    self._refused(y, x, r"'y:0' \(int64, \[\]\) is int64, and only floating",
                  "Fix: Differentiate 'h:0'")

  def test_e2_a_y_among_others_is_no_number(self):
    x = tf.placeholder(tf.float64, [3], name="x")
    y = tf.argmax(x, name="y")
    self._refused([tf.square(x), y], x, "'y:0'.* is int64")

  def test_e2_y_of_something_else(self):
    x = tf.placeholder(tf.float64, [3], name="x")
    z = tf.placeholder(tf.float64, [3], name="z")
    w = tf.get_variable("w", [3], tf.float64)
    self._refused(tf.multiply(z, w, name="y"), x,
                  "'y:0'.* does not depend on 'x:0'", "Fix: .*'z:0'",
                  "Fix: .*'w:0'", "pass one of these")

  def test_e2_y_of_nothing(self):
    x = tf.placeholder(tf.float64, [3], name="x")
    self._refused(tf.constant(1., name="y"), x, "nor on any placeholder")

  def test_e2_several_x_each_with_its_reason(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    ids = tf.placeholder(tf.int32, [2], name="ids")
    y = tf.multiply(x, tf.cast(ids, tf.float64), name="y")
    later = tf.identity(x, name="later")
    self._refused(y, {"a": x, "b": [ids, later]}, "by 'ids:0'",
                  "'ids:0'.*is int32", "by 'later:0'", "copy or a part")

  def test_e2_old_code_catches_it(self):
    x = tf.placeholder(tf.float64, [], name="x")
    for old in (ValueError, TypeError):
      with self.assertRaises(old):
        gf.gradient(tf.constant(1.), x)

  def test_e2_none_among_the_fetches(self):
    x = tf.placeholder(tf.float64, [], name="x")
    dx, = tf.gradients(tf.constant(1.), [x])
    with tf.Session() as session:
      with self.assertRaisesRegex(
          gf.DisconnectedError, "(?s)None.*gradfeed.gradient"):
        gf.run(session, dx, {x: 1.})
      with self.assertRaisesRegex(
          gf.DisconnectedError, "(?s)None.*gradfeed.gradient"):
        gf.function(x, dx, session=session)

  @parameterized.named_parameters(*_FLOWS)
  def test_e2_blocked_inside_of_a_branch(self, flow):
    x = tf.placeholder(tf.float64, [], name="x")
    with flows.control_flow(flow):
      y = tf.cond(tf.placeholder_with_default(True, []),
                  lambda: tf.round(x), lambda: tf.floor(x))
    # TensorFlow finds zero inside of a function, and None outside.
    theirs = tf.gradients(y, x)
    mine = gf.gradients(y, x)
    count = None
    self.assertEqual([g is None for g in mine], [g is None for g in theirs])
    if mine[0] is not None:
      with tf.Session() as session:
        self.assertEqual(session.run(mine[0], {x: 3.2}), 0.)
    else:
      for _ in range(2):  # Known once it is built; not built again.
        with self.assertRaisesRegex(gf.DisconnectedError, "by 'x:0'"):
          gf.gradient(y, x)
        count = count or len(self.graph.get_operations())
      self.assertEqual(len(self.graph.get_operations()), count)
