"""Tests of to_module: against the graph, its gradients, and differences."""

import contextlib
import copy
import unittest

from absl.testing import parameterized
import numpy as np
import tensorflow as tf2
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from tests.testing import graphs

_X = np.random.RandomState(3).normal(size=(4, 3))
_DIRECTION = np.random.RandomState(9).normal(size=(4, 3))


def _weights(name, *shape, **options):
  seed = sum(map(ord, name))
  return tf.get_variable(
      name, initializer=np.random.RandomState(seed).normal(size=shape),
      **options)


@contextlib.contextmanager
def _control_flow(is_v2):
  before = tf.control_flow_v2_enabled()
  (tf.enable_control_flow_v2 if is_v2 else tf.disable_control_flow_v2)()
  try:
    yield
  finally:
    (tf.enable_control_flow_v2 if before else tf.disable_control_flow_v2)()


def _dense(x, **options):
  return tf.tanh(tf.matmul(x, _weights("w", 3, 4, **options)))


def _resource(x):
  return _dense(x, use_resource=True)


def _ref(x):
  return _dense(x, use_resource=False)


def _partitioned(x):
  w = tf.get_variable(
      "w", shape=[3, 4], dtype=tf.float64, partitioner=(
          tf.fixed_size_partitioner(2)),
      initializer=tf.random_normal_initializer(seed=1))
  return tf.matmul(x, tf.convert_to_tensor(w))


def _loop(is_v2, use_resource=True):
  def build(x):
    w = _weights("w", 3, 4, use_resource=use_resource)
    with _control_flow(is_v2):
      return tf.while_loop(
          lambda i, a: i < 3,
          lambda i, a: (i + 1, tf.sin(a) + tf.reduce_sum(w) * 0.1 * a),
          (tf.constant(0), tf.matmul(x, w)))[1]
  return build


def _branch(is_v2):
  def build(x):
    w = _weights("w", 3, 4, use_resource=True)
    h = tf.matmul(x, w)
    with _control_flow(is_v2):
      return tf.cond(tf.reduce_sum(x) > 0,
                     lambda: tf.exp(h * 0.3) * tf.reduce_sum(w),
                     lambda: h * h * tf.reduce_sum(w))
  return build


def _loop_of_arrays(x):
  h = _resource(x)
  with _control_flow(False):
    array = tf.TensorArray(tf.float64, 3)
    _, last, array = tf.while_loop(
        lambda i, a, t: i < 3,
        lambda i, a, t: (i + 1, tf.sin(a) * 1.1, t.write(i, a * a)),
        (tf.constant(0), h, array))
    return tf.reduce_sum(array.stack(), 0) + last


def _array(x):
  h, array = _resource(x), tf.TensorArray(tf.float64, 3)
  for i in range(3):
    array = array.write(i, h * (i + 1.0))
  return tf.reduce_sum(array.stack() ** 2, 0)


def _table(x):
  table = tf2.lookup.StaticHashTable(
      tf2.lookup.KeyValueTensorInitializer(
          tf.constant(["a", "b"]), tf.constant([1.5, 2.5], tf.float64)), 0.5)
  return _resource(x) * table.lookup(tf.constant("b"))


def _function_calls(x):
  w = _weights("w", 3, 4, use_resource=True)

  @tf2.function
  def double(a):
    return tf.while_loop(
        lambda i, a: i < 2,
        lambda i, a: (i + 1, tf.sin(a) * tf.reduce_sum(w)), (0, a))[1]

  @tf2.function
  def outer(a):
    return double(tf.matmul(a, w)) + double(tf.matmul(a, w) * 0.5)

  return outer(x)


def _embedding(x):
  table = _weights("e", 7, 3, use_resource=True)
  return tf.gather(table, [1, 1, 5, 6]) * x


def _partitioned_embedding(x):
  table = tf.get_variable(
      "e", shape=[8, 3], dtype=tf.float64,
      initializer=tf.random_normal_initializer(seed=1),
      partitioner=tf.fixed_size_partitioner(3))
  return tf.nn.embedding_lookup(
      table, [1, 1, 5, 6], partition_strategy="div") * x


def _convolution(x):
  kernel = _weights("k", 3, 1, 2, use_resource=True)
  return tf.nn.conv1d(_resource(x)[:, :, None], kernel, 1, "SAME")[:, :, 0]


def _max_pool(x):
  w = _weights("w", 3, 8, use_resource=True)
  h = tf.reshape(tf.matmul(x, w), [-1, 2, 4, 1]) ** 2
  return tf.reshape(tf.nn.max_pool2d(h, 2, 1, "SAME"), [-1, 8])


def _moments(x):
  h = tf.matmul(x, _weights("w", 3, 4, use_resource=True))
  mean, variance = tf.nn.moments(h, [1], keepdims=True)
  return (h - mean) * tf.rsqrt(variance + 1e-3)


def _statistics(x):
  mean = _weights("mean", 4, trainable=False, use_resource=True)
  return (_resource(x) - mean) / 1.3


def _penalty(x):
  h = tf.reduce_sum(_resource(x) ** 2, 1, keepdims=True)
  return h + gf.gradient(h, x) ** 2


_KINDS = [
    ("resource", _resource), ("ref", _ref), ("partitioned", _partitioned),
    ("loop_v1", _loop(False)), ("loop_v2", _loop(True)),
    ("loop_v1_of_a_ref", _loop(False, False)),
    ("branch_v1", _branch(False)), ("branch_v2", _branch(True)),
    ("loop_of_arrays", _loop_of_arrays), ("array", _array), ("table", _table),
    ("function_calls", _function_calls), ("embedding", _embedding),
    ("partitioned_embedding", _partitioned_embedding),
    ("convolution", _convolution), ("max_pool", _max_pool),
    ("moments", _moments), ("statistics", _statistics), ("penalty", _penalty),
]


def _relative(value, expected):
  value, expected = np.asarray(value), np.asarray(expected)
  return np.abs(value - expected).max() / max(np.abs(expected).max(), 1e-300)


def _array_of(gradient):
  return tf.convert_to_tensor(gradient).numpy()


def _name(variable):
  return getattr(variable, "handle", variable).op.name


@unittest.skipUnless(_tf.IS_TF2, "A module is code of TF 2.")
class ToModuleTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.x = tf.placeholder(tf.float64, [None, 3], name="x")

  def start(self):
    self.initialize()
    self.session.run(tf.tables_initializer())

  def assert_close(self, value, expected, tolerance=1e-12):
    self.assertLess(_relative(value, expected), tolerance)

  @parameterized.named_parameters(*_KINDS)
  def test_is_the_function_and_its_derivatives(self, kind):
    y = tf.reduce_sum(kind(self.x) ** 3, 1, name="y")
    self.start()
    f = gf.function(self.x, [y, gf.gradient(y, self.x)], self.session)
    value, slope = f(_X)
    parts = [part for v in tf.trainable_variables()
             for part in (v if _tf.is_partitioned(v) else [v])]
    by_weights = self.session.run(
        [tf.convert_to_tensor(g) for g in gf.gradients(y, parts)],
        {self.x: _X})
    step = 1e-5
    curvature = (f(_X + step * _DIRECTION)[1].sum() -
                 f(_X - step * _DIRECTION)[1].sum()) / (2 * step)
    with _tf.eagerly():
      module = gf.to_module(f)
      at = tf.constant(_X)
      with tf.GradientTape(persistent=True) as outer:
        outer.watch(at)
        with tf.GradientTape() as tape:
          tape.watch(at)
          taped = module.value(at)
        by_x, *by_own = tape.gradient(
            taped, [at] + [module.variables_by_name[_name(v)] for v in parts])
        built = module.gradient(at)
      second = [outer.gradient(g, at) for g in (by_x, built)]
      results = module(_X)
      self.assert_close(results[0], value)
      self.assert_close(results[1], slope)
      self.assert_close(built, slope)
      self.assert_close(by_x, slope)
      for own, expected in zip(by_own, by_weights):
        self.assert_close(_array_of(own), expected)
      for hessian in second:
        self.assert_close(np.sum(_array_of(hessian) * _DIRECTION), curvature,
                          1e-6)
      self.assertCountEqual(
          [v.name for v in module.trainable_variables],
          [module.variables_by_name[_name(v)].name for v in parts])

  def test_trains_as_the_legacy_graph_does(self):
    w = _weights("w", 3, 4, use_resource=True)
    loss = tf.reduce_mean(tf.tanh(tf.matmul(self.x, w)) ** 2)
    train = tf.train.GradientDescentOptimizer(
        tf.constant(0.1, tf.float64)).minimize(loss)
    self.start()
    with _tf.eagerly():
      module = gf.to_module(gf.function(self.x, loss, self.session))
    for _ in range(20):
      self.session.run(train, {self.x: _X})
      with _tf.eagerly():
        with tf.GradientTape() as tape:
          value = module(tf.constant(_X))
        for variable, gradient in zip(
            module.trainable_variables,
            tape.gradient(value, module.trainable_variables)):
          variable.assign_sub(0.1 * gradient)
    with _tf.eagerly():
      self.assert_close(module.variables[0].numpy(), self.session.run(w))

  @parameterized.named_parameters(*graphs.KINDS)
  def test_takes_weights_from_a_session_and_gives_them_back(self, is_resource):
    w = graphs.variable("w", [2.0, 3.0], is_resource)
    y = tf.reduce_sum(w) * self.x
    self.start()
    f = gf.function(self.x, y, self.session)
    module = gf.to_module(f)
    self.session.run(w.assign([5.0, 6.0]))
    self.assert_close(module(_X), 5 * _X)
    module.update_from(self.session)
    self.assert_close(module(_X), 11 * _X)
    with _tf.eagerly():
      module.variables_by_name["w"].assign([0.5, 0.25])
    self.assert_close(f(_X), 11 * _X)
    module.update(self.session)
    self.assert_close(f(_X), 0.75 * _X)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_gives_weights_back_after_another_assignment(self, is_resource):
    w = graphs.variable("w", [2.0, 3.0], is_resource)
    # So that neither can use an assignment that is there.
    self.graph.prevent_feeding(w.initializer.inputs[1])
    loss = tf.reduce_sum(w ** 2)
    self.start()
    f = gf.function(self.x, tf.reduce_sum(w) * self.x, self.session)
    gf.scipy_objective(loss, w, self.session).assign([5.0, 6.0])
    module = gf.to_module(f)
    with _tf.eagerly():
      module.variables_by_name["w"].assign([0.5, 0.25])
    module.update(self.session)
    self.assert_close(self.session.run(w), [0.5, 0.25])
    gf.scipy_objective(loss, w, self.session).assign([1.0, 2.0])
    self.assert_close(self.session.run(w), [1.0, 2.0])

  def test_value_and_gradient_of_each_kind_of_outputs(self):
    y = tf.reduce_sum(self.x ** 3, 1)
    dx = gf.gradient(y, self.x)
    for outputs in (y, dx, (y, dx), {"a": dx, "b": y}):
      module = gf.to_module(gf.function(self.x, outputs, self.session))
      for value, slope in (
          (module.value(_X), module.gradient(_X)),
          module.value_and_gradient(_X)):
        self.assert_close(value, (_X ** 3).sum(1))
        self.assert_close(slope, 3 * _X ** 2)
    results = module(_X)
    self.assertCountEqual(results, ["a", "b"])
    self.assert_close(results["a"], 3 * _X ** 2)

  def test_held_values_and_cuts_are_those_of_the_function(self):
    scale = tf.placeholder(tf.float64, [], name="scale")
    w = graphs.variable("w", [[2.0, 1.0, 3.0]], True)
    h = self.x * w
    y = tf.reduce_sum(w * tf.exp(h * scale))
    self.start()
    f = gf.function([h, w], gf.gradient(y, h), self.session,
                    feed_dict={scale: 0.5})
    module = gf.to_module(f)
    at_w = np.full((1, 3), 3.0)
    self.assert_close(module(_X, at_w), 1.5 * np.exp(0.5 * _X))
    self.assert_close(module(_X, at_w), f(_X, at_w))
    self.assertEmpty(module.variables)

  def test_runs_in_a_tf_function_and_in_a_graph_block(self):
    y = _resource(self.x)
    self.start()
    f = gf.function(self.x, y, self.session)
    module = gf.to_module(f)
    with _tf.eagerly():
      self.assert_close(tf2.function(module)(tf.constant(_X)), f(_X))
    self.assert_close(module(_X), f(_X))
    with self.assertRaisesRegex(gf.GraphMismatchError, "legacy graph"):
      module(self.x)

  def test_a_backward_function_that_reads_other_tensors(self):
    other = tf.exp(self.x * 0.1)

    @tf.custom_gradient
    def rounded(a):
      return tf.round(a), lambda up: up * 3.0 * tf.reduce_mean(other)

    y = tf.reduce_sum(rounded(self.x) * self.x)
    module = gf.to_module(gf.function(self.x, y, self.session))
    factor = 3.0 * np.exp(_X * 0.1).mean()
    self.assert_close(module.gradient(_X), _X * factor + np.round(_X))

  def test_variables_are_given(self):
    w = graphs.variable("w", [2.0, 3.0], True)
    y = tf.reduce_sum(w) * self.x
    self.start()
    f = gf.function(self.x, y, self.session)
    with _tf.eagerly():
      own = tf2.Variable([1.0, 1.5], dtype=tf.float64)
      short = tf2.Variable([1.0], dtype=tf.float64)
    module = gf.to_module(f, {"w": own})
    self.assertIs(module.variables_by_name["w"], own)
    self.assert_close(module(_X), 2.5 * _X)
    with self.assertRaisesRegex(
        gf.ArgumentError, r"(?s)'v' is none.*'w'.*\[1\].*\[2\]"):
      gf.to_module(f, {"v": own, "w": short})
    with self.assertRaisesRegex(gf.ArgumentError, "It maps names"):
      gf.to_module(f, [own])

  def test_values_that_do_not_fit_are_refused(self):
    module = gf.to_module(gf.function(self.x, self.x * 2.0, self.session))
    with self.assertRaisesRegex(gf.FeedError, r"'x:0'.*\[2\]"):
      module([1.0, 2.0])
    with self.assertRaisesRegex(gf.FeedError, "got 2 values"):
      module(_X, _X)
    with _tf.eagerly(), self.assertRaisesRegex(gf.FeedError, "tf.cast"):
      module(tf.constant(_X, tf.float32))

  def test_of_sparse_tensors_and_structures(self):
    sparse = tf.sparse_placeholder(tf.float64, [2, 4], name="sparse")
    product = tf.sparse_tensor_dense_matmul(sparse, self.x)
    value = tf.SparseTensorValue(
        np.array([[0, 1], [1, 3]]), np.array([2.0, 3.0]), np.array([2, 4]))
    module = gf.to_module(gf.function(
        [{"points": self.x, "sparse": sparse}], {"product": product},
        self.session))
    results = module({"points": _X, "sparse": value})
    self.assert_close(results["product"], [2 * _X[1], 3 * _X[3]])

  def test_is_not_copied(self):
    module = gf.to_module(gf.function(self.x, self.x * 2.0, self.session))
    with self.assertRaisesRegex(gf.ArgumentError, "saved_model"):
      copy.deepcopy(module)

  def test_goes_on_when_the_session_is_closed_and_the_graph_finalized(self):
    y = _resource(self.x)
    self.start()
    f = gf.function(self.x, y, self.session)
    expected, module = f(_X), gf.to_module(f)
    self.graph.finalize()
    module.update(self.session)
    self.assert_close(gf.to_module(f)(_X), expected)
    self.session.close()
    self.assert_close(module(_X), expected)
    with self.assertRaises(gf.SessionError):
      gf.to_module(f)

  def test_refused_by_name(self):
    queue = tf.FIFOQueue(3, [tf.float64], [[3]], name="examples")
    python = tf.numpy_function(np.sin, [self.x], tf.float64, name="sines")
    w = graphs.variable("w", [2.0, 3.0, 1.0], True)
    for y, name in ((self.x + queue.dequeue(), "examples_Dequeue"),
                    (self.x * python, "sines")):
      with self.assertRaisesRegex(
          gf.UnsupportedGraphError, "(?s)'{}'.*Fix: ".format(name)):
        gf.to_module(gf.function(self.x, y, self.session))
    with self.assertRaisesRegex(gf.UninitializedError, "'w:0'"):
      gf.to_module(gf.function(self.x, self.x * w, self.session))
    scale = tf.placeholder(tf.float64, [], name="scale")
    with self.assertRaisesRegex(gf.MissingFeedError, "'scale:0'"):
      gf.to_module(gf.function(self.x, self.x * scale, self.session))
    with self.assertRaisesRegex(gf.ArgumentError, "not a gradfeed.Function"):
      gf.to_module(self.x)

  def test_a_gradient_by_an_input_without_a_path_is_refused(self):
    module = gf.to_module(
        gf.function(self.x, tf.round(self.x), self.session))
    with self.assertRaisesRegex(gf.DisconnectedError, "'x:0'"):
      module.gradient(_X)

  def test_warns_of_what_a_tape_leaves_out(self):
    last = tf.placeholder(tf.float64, [], name="last")
    y = tf.raw_ops.LinSpace(start=tf.constant(0.0, tf.float64), stop=last,
                            num=5)
    f = gf.function(last, tf.reduce_sum(y) + last ** 2, self.session)
    with self.assertWarnsRegex(gf.GradfeedWarning, "LinSpace") as caught:
      gf.to_module(f)
    self.assertEqual(caught.filename, __file__)

  def test_of_a_frozen_loop(self):
    y = tf.reduce_sum(_loop(False)(self.x), 1, name="y")
    self.start()
    graph_def = tf.graph_util.convert_variables_to_constants(
        self.session, self.graph.as_graph_def(), ["y"])
    expected = gf.function(self.x, gf.gradient(y, self.x), self.session)(_X)
    with tf.Graph().as_default(), tf.Session() as session:
      tf.import_graph_def(graph_def, name="")
      module = gf.to_module(gf.function("x:0", "y:0", session))
      self.assert_close(module.gradient(_X), expected)


class OldVersionTest(graphs.GraphTest):

  @unittest.skipIf(_tf.IS_TF2, "A module is code of TF 2.")
  def test_names_the_version(self):
    x = tf.placeholder(tf.float64, [])
    with self.assertRaisesRegex(gf.UnsupportedGraphError, "this is 1"):
      gf.to_module(gf.function(x, x * x, self.session))
