"""Tests of `snapshot`: a clone of a graph, with its values."""

from unittest import mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.models import snapshots
from tests.testing import flows

_KINDS = (("ref", False), ("resource", True))


def _variable(name, value, use_resource, partitioner=None, **settings):
  value = np.asarray(value)

  def initialize(shape, dtype=None, partition_info=None):
    whole = tf.constant(value, dtype)
    return whole if partitioner is None else tf.slice(
        whole, partition_info.var_offset, shape)

  return tf.get_variable(
      name, shape=value.shape, dtype=value.dtype, use_resource=use_resource,
      initializer=initialize, partitioner=partitioner, **settings)


class SnapshotTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.graph = tf.Graph()
    self.enter_context(self.graph.as_default())

  @parameterized.named_parameters(*_KINDS)
  def test_values_are_those_of_the_session(self, use_resource):
    v = _variable("v", [1., 2.], use_resource)
    x = tf.placeholder(tf.float64, [2], name="x")
    y = tf.multiply(v * v, x, name="y")
    with tf.Session() as session:
      session.run(v.initializer)
      session.run(v.assign([3., 4.]))  # Not what the initialiser would give.
      self.graph.finalize()
      with gf.snapshot(session) as clone:
        self.assertIsNot(clone.graph, self.graph)
        self.assertFalse(clone.graph.finalized)
        dx, dv = gf.gradient(clone.tensor(y), [clone.tensor(x),
                                               clone.tensor(v)])
        got = clone.session.run([dx, dv], {"x:0": [1., 10.]})
        np.testing.assert_allclose(got[0], [9., 16.])
        np.testing.assert_allclose(got[1], [6., 80.])

  @parameterized.named_parameters(*_KINDS)
  def test_original_never_sees_the_clone(self, use_resource):
    v = _variable("v", [1., 2.], use_resource)
    y = tf.reduce_sum(v * v, name="y")
    with tf.Session() as session:
      session.run(v.initializer)
      nodes = self.graph.as_graph_def()
      self.graph.finalize()
      with gf.snapshot(session) as clone:
        gf.gradient(clone.tensor(y), clone.tensor(v))
        with clone.graph.as_default():
          other, = tf.global_variables()
          clone.session.run(other.assign([7., 8.]))
          self.assertEqual(clone.session.run("y:0"), 113.)
        self.assertEqual(session.run(y), 5.)
      self.assertEqual(session.run(y), 5.)
      self.assertEqual(self.graph.as_graph_def(), nodes)
    self.assertIs(tf.get_default_graph(), self.graph)

  @parameterized.named_parameters(*_KINDS)
  def test_clone_never_sees_the_original(self, use_resource):
    v = _variable("v", [1., 2.], use_resource)
    train = v.assign_add([10., 10.])
    y = tf.reduce_sum(v * v, name="y")
    with tf.Session() as session:
      session.run(v.initializer)
      with gf.snapshot(session) as clone:
        session.run(train.op if hasattr(train, "op") else train)
        self.assertEqual(clone.session.run("y:0"), 5.)
        self.assertEqual(session.run(y), 265.)

  @parameterized.named_parameters(*_KINDS)
  def test_partitioned_variable(self, use_resource):
    value = np.arange(10.).reshape(5, 2)
    v = _variable("v", value, use_resource,
                  partitioner=tf.fixed_size_partitioner(2))
    rows = tf.nn.embedding_lookup(v, [4, 0], partition_strategy="div")
    y = tf.reduce_sum(rows * rows, name="y")
    with tf.Session() as session:
      session.run(tf.global_variables_initializer())
      expected = session.run(y)
      with gf.snapshot(session) as clone:
        self.assertEqual(clone.session.run("y:0"), expected)

  @parameterized.named_parameters(*_KINDS)
  def test_uninitialised_stays_so(self, use_resource):
    v = _variable("v", [1., 2.], use_resource)
    w = _variable("w", [3., 4.], use_resource)
    y = tf.reduce_sum(v * v, name="y")
    z = tf.reduce_sum(w * w, name="z")
    for finalize in (False, True):
      with tf.Session() as session:
        session.run(v.initializer)
        if finalize:
          self.graph.finalize()
        with gf.snapshot(session) as clone:
          self.assertEqual(clone.session.run(clone.tensor(y)), 5.)
          with self.assertRaisesRegex(gf.UninitializedError, "'w:0'"):
            gf.run(clone.session, clone.tensor(z))

  @parameterized.named_parameters(
      ("half", np.float16), ("whole", np.int64), ("truth", np.bool_),
      ("complex", np.complex128), ("bytes", np.object_))
  def test_other_dtypes(self, dtype):
    for name, use_resource in _KINDS:
      value = np.array([b"a", b""] if dtype is np.object_ else [1, 0], dtype)
      v = tf.Variable(value, use_resource=use_resource, name=name)
      tf.identity(v, name=name + "_read")
    with tf.Session() as session:
      session.run(tf.global_variables_initializer())
      with gf.snapshot(session) as clone:
        for name, _ in _KINDS:
          np.testing.assert_array_equal(
              clone.session.run(name + "_read:0"), value)

  @parameterized.named_parameters(*_KINDS)
  def test_local_variables_and_those_in_no_collection(self, use_resource):
    local = _variable("local", [1.], use_resource,
                      collections=[tf.GraphKeys.LOCAL_VARIABLES])
    nowhere = _variable("nowhere", [2.], use_resource, collections=[])
    tf.add(local, nowhere, name="y")
    with tf.Session() as session:
      session.run([local.initializer, nowhere.initializer])
      with gf.snapshot(session) as clone:
        np.testing.assert_array_equal(clone.session.run("y:0"), [3.])

  def test_variable_of_unknown_shape(self):
    v = tf.Variable(tf.placeholder_with_default([1., 2.], None),
                    validate_shape=False, use_resource=False, name="v")
    tf.reduce_sum(v, name="y")
    with tf.Session() as session:
      session.run(v.initializer)
      session.run(tf.assign(v, [[1., 2.], [3., 4.]], validate_shape=False))
      with gf.snapshot(session) as clone:
        self.assertEqual(clone.session.run("y:0"), 10.)

  @parameterized.named_parameters(*_KINDS)
  def test_e9_monitored_session(self, use_resource):
    calls = []

    class Hook(tf.train.SessionRunHook):

      def before_run(self, run_context):
        calls.append(run_context)

    v = _variable("v", 5., use_resource)
    tf.train.get_or_create_global_step()
    x = tf.placeholder(tf.float64, [], name="x")
    y = tf.multiply(v * x, x, name="y")
    with tf.train.MonitoredTrainingSession(
        hooks=[Hook()], save_summaries_steps=None,
        save_summaries_secs=None) as session:
      session.run(y, {x: 1.})
      before = len(self.graph.get_operations()), len(calls)
      with gf.snapshot(session) as clone:
        dx = gf.gradient(clone.tensor(y), clone.tensor(x))
        self.assertEqual(clone.session.run(dx, {"x:0": 3.}), 30.)
      self.assertEqual((len(self.graph.get_operations()), len(calls)), before)
      self.assertEqual(session.run(y, {x: 3.}), 45.)

  @parameterized.named_parameters(("control_flow_v1", 1),
                                  ("control_flow_v2", 2))
  def test_loops_and_branches_can_be_differentiated(self, flow):
    x = tf.placeholder(tf.float64, [], name="x")
    v = _variable("v", 2., True)
    scale = tf.identity(v)
    with flows.control_flow(flow):
      h = tf.while_loop(
          lambda i, a: i < 3, lambda i, a: (i + 1, tf.cond(
              i < 1, lambda: a * a, lambda: a * scale)), [0, x])[1]
      tf.identity(h, name="y")  # 4 x^2.
    with tf.Session() as session:
      session.run(v.initializer)
      session.run("y:0", {x: 1.})
      self.graph.finalize()
      with gf.snapshot(session) as clone:
        dx = gf.gradient(clone.tensor("y"), clone.tensor("x:0"))
        self.assertEqual(clone.session.run(dx, {"x:0": 3.}), 24.)
        self.assertEqual(clone.session.run("y:0", {"x:0": 3.}), 36.)

  def test_gradients_that_are_built_come_along(self):
    x = tf.placeholder(tf.float64, [], name="x")
    dx = gf.gradient(x ** 3, x)
    with tf.Session() as session:
      with gf.snapshot(session) as clone:
        self.assertEqual(
            clone.session.run(clone.tensor(dx), {"x:0": 2.}), 12.)
        twice = gf.gradient(clone.tensor(dx), clone.tensor(x))
        self.assertEqual(clone.session.run(twice, {"x:0": 2.}), 12.)

  def test_tables_and_queues_are_as_before_their_first_use(self):
    queue = tf.FIFOQueue(3, tf.float64, [[]], name="queue")
    put = queue.enqueue(5.)
    queue.size(name="size")
    with tf.Session() as session:
      session.run(put)
      with gf.snapshot(session) as clone:
        self.assertEqual(clone.session.run("size:0"), 0)
      self.assertEqual(session.run("size:0"), 1)

  def test_graph_without_variables(self):
    x = tf.placeholder(tf.float64, [], name="x")
    tf.square(x, name="y")
    with tf.Session() as session:
      with gf.snapshot(session) as clone:
        self.assertEqual(clone.session.run("y:0", {"x:0": 3.}), 9.)

  @parameterized.named_parameters(*_KINDS)
  def test_devices_of_a_cluster(self, use_resource):
    server = tf.train.Server.create_local_server()
    with tf.device("/job:{}/task:0".format(server.server_def.job_name)):
      v = _variable("v", 2., use_resource)
      y = tf.multiply(v, v, name="y")
    with tf.Session(server.target) as session:
      session.run(v.initializer)
      with gf.snapshot(session) as clone:
        self.assertEmpty([op.name for op in clone.graph.get_operations()
                          if "job" in op.device])
        dv = gf.gradient(clone.tensor(y), clone.tensor(v))
        self.assertEqual(clone.session.run(dv), 4.)

  def test_tensor_of_another_graph_and_unknown_name(self):
    with tf.Graph().as_default():
      other = tf.constant(1., name="x")
    tf.constant(1., name="x")
    with tf.Session() as session:
      with gf.snapshot(session) as clone:
        with self.assertRaisesRegex(gf.GraphMismatchError, "'x:0'"):
          clone.tensor(other)
        with self.assertRaisesRegex(gf.TensorNotFoundError, "'nope'"):
          clone.tensor("nope")

  def test_closed_session(self):
    with tf.Session() as session:
      pass
    with self.assertRaisesRegex(gf.SessionError, "(?s)closed.*open session"):
      gf.snapshot(session)

  def test_session_of_the_clone_is_closed(self):
    tf.constant(1., name="y")
    with tf.Session() as session:
      with gf.snapshot(session) as clone:
        clone.session.run("y:0")
      with self.assertRaises(RuntimeError):
        clone.session.run("y:0")
      clone = gf.snapshot(session)
      clone.close()
      with self.assertRaises(RuntimeError):
        clone.session.run("y:0")
      self.assertEqual(session.run("y:0"), 1.)

  def test_e13_graph_over_the_limit(self):
    tf.constant(np.zeros(1000), name="large")
    with tf.Session() as session:
      with mock.patch.object(snapshots, "_LARGEST_BYTES", 8000):
        with self.assertRaisesRegex(
            gf.GraphTooLargeError, "(?s)2 GB.*variables, or feed"):
          gf.snapshot(session)
      with gf.snapshot(session) as clone:
        self.assertEqual(clone.session.run("large:0").shape, (1000,))

  def test_e13_what_tensorflow_says_of_it(self):
    tf.constant(1.)
    with tf.Session() as session:
      with mock.patch.object(
          tf.train, "export_meta_graph",
          side_effect=ValueError("GraphDef cannot be larger than 2GB.")):
        with self.assertRaisesRegex(gf.GraphTooLargeError, "2 GB"):
          gf.snapshot(session)

  def test_e13_points_are_no_constants(self):
    x = tf.placeholder(tf.float64, [None], name="x")
    h = tf.exp(x)
    v = _variable("v", [1., 2.], True)
    y = tf.reduce_sum(h * h) * tf.reduce_sum(v)
    point = np.zeros(20000)
    with tf.Session() as session:
      session.run(v.initializer)
      f = gf.function([h, v], gf.gradient(y, [h, v]), session=session)
      f(point, [3., 4.])
      gf.run(session, y, {x: point, v: [1., 1.]})
      self.assertLess(self.graph.as_graph_def().ByteSize(), point.nbytes)
      with gf.snapshot(session) as clone:
        self.assertLess(clone.graph.as_graph_def().ByteSize(), point.nbytes)
