"""Tests of `run`: all that `Session.run` takes, with its values and types."""

import collections
import gc
import threading
from unittest import mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.client import session as session_lib

import gradfeed as gf
from gradfeed import _tf
from gradfeed.evaluation.calls import trials
from tests.testing import graphs

_State = collections.namedtuple("State", ["c", "h"])


class _Squared:
  """A type of the user's, registered below; no tensor, and without a name."""

  def __init__(self, tensor):
    self.square = tf.square(tensor)


class _Pair:
  """One that is put together by what each object says."""

  def __init__(self, tensor, scale):
    self.tensor = tensor
    self.scale = scale


class _ReadOnly:
  """One that is fetched, and cannot be fed."""

  def __init__(self, tensor):
    self.tensor = tensor


def _register():
  """Registers the types above."""
  for kind, fetch, feed in (
      (_Squared, lambda v: ([v.square], lambda values: values[0]),
       lambda v, value: [(v.square, value)]),
      (_Pair, lambda v: ([v.tensor, v.tensor.op, v.tensor.name],
                         lambda values: (values[0] * v.scale,) + tuple(
                             values[1:])),
       lambda v, value: [(v.tensor, value[0])]),
      (_ReadOnly, lambda v: ([v.tensor], lambda values: values[0]), None)):
    session_lib.register_session_run_conversion_functions(kind, fetch, feed)


_register()


class _Attributes:
  """What the package `attrs` makes of a class with two attributes."""

  class _Attribute:

    def __init__(self, name):
      self.name = name

  __attrs_attrs__ = (_Attribute("first"), _Attribute("second"))

  def __init__(self, first, second):
    self.first = first
    self.second = second

  def __eq__(self, other):
    return (type(other) is _Attributes and
            np.array_equal(self.first, other.first) and
            np.array_equal(self.second, other.second))


class _ListOfMine(list):
  pass


def _fetches(g):
  """The forms of fetches, from the names of tensors in `_graph`."""
  return collections.OrderedDict([
      ("tensor", g.y), ("scalar", g.s), ("int", g.i), ("op", g.op),
      ("string", g.text), ("bool", g.flag), ("half", g.half),
      ("complex", g.z), ("empty_tensor", g.none), ("constant", g.c),
      ("placeholder", g.x), ("variable", g.v), ("resource", g.r),
      ("name", "y:0"), ("name_of_op", "op"), ("bytes", b"y:0"),
      ("bytes_of_op", b"op"), ("bytes_of_op_with_value", b"y"),
      ("list", [g.y, g.s]), ("tuple", (g.y, g.op)), ("one", [g.s]),
      ("empty_list", []), ("empty_tuple", ()), ("empty_dict", {}),
      ("with_empty", [g.s, [], {"a": ()}]),
      ("repeated", [g.y, g.y, "y:0", (g.y,)]),
      ("dict", {"b": g.y, "a": g.s}),
      ("dict_of_tensors", {1: g.y, "a": g.s}),
      ("ordered", collections.OrderedDict([("b", g.y), ("a", g.s)])),
      ("default", collections.defaultdict(list, b=g.y, a=[g.s])),
      ("named", _State(g.y, [g.s])),
      ("nested", {"a": [g.y, (g.s, {"b": g.op})], "c": _State(g.s, g.i)}),
      ("subclass", _ListOfMine([g.y, g.s])),
      ("attributes", _Attributes(g.y, [g.s, g.op])),
      ("in_attributes", [_Attributes(_Attributes(g.y, g.s), {"a": g.i})]),
      ("sparse", g.sparse), ("sparse_in_list", [g.sparse, g.s]),
      ("slices", g.slices), ("slices_with_shape", [g.shaped]),
      ("sparse_value", tf.SparseTensorValue(g.ids, g.numbers, g.ids)),
      ("registered", g.squared), ("registered_in_dict", {
          "a": g.squared, "b": [g.pair, g.s]}),
      ("other_object", [g.pair, g.other_pair, g.squared]),
      ("read_only", g.read_only),
  ])


def _feeds(g):
  """The forms of feeds: (feed_dict, fetches)."""
  indices, numbers = np.array([[0, 1]]), np.array([4.], np.float32)
  values = (np.float32([1., 2.]), np.float32([3., 4.]))
  state = _State(g.a, g.b)
  return collections.OrderedDict([
      ("tensor", ({g.a: values[0]}, g.a * 2.)),
      ("name", ({"a:0": values[0]}, g.a * 2.)),
      ("bytes", ({b"a:0": values[0]}, g.a * 2.)),
      ("list_as_value", ({g.a: [1, 2]}, g.a * 2.)),
      ("array_of_ints", ({g.a: np.array([1, 2])}, g.a * 2.)),
      ("fetched", ({g.a: values[0]}, [g.a, "a:0"])),
      ("pair", ({(g.a, g.b): values}, g.a - g.b)),
      ("pair_as_list", ({(g.a, g.b): list(values)}, g.a - g.b)),
      ("state", ({state: _State(*values)}, g.a - g.b)),
      ("state_as_tuple", ({state: values}, g.a - g.b)),
      ("nested", ({(g.a, (g.b, g.k)): (values[0], (values[1], np.float32(2)))},
                  (g.a - g.b) * g.k)),
      ("of_states", ({(state, _State(g.k, g.i)): (values, (5., 2))},
                     [g.a - g.b, g.k * 1., g.i + 1])),
      ("with_names", ({("a:0", g.b): values}, g.a - g.b)),
      ("leaves_alone", ({(g.k, (g.i, g.flag_in)): [5., 2, True]},
                        [g.k * 1., g.i + 1, tf.logical_not(g.flag_in)])),
      ("sparse", ({g.sp: tf.SparseTensorValue(indices, numbers, [3, 3])},
                  tf.sparse_tensor_to_dense(g.sp))),
      ("sparse_tuple", ({g.sp: (indices, numbers, [3, 3])}, g.sp)),
      ("sparse_list", ({g.sp: [indices, numbers, [3, 3]]}, g.sp)),
      ("sparse_static", ({g.sp_static: (indices, numbers, [3, 3])},
                         tf.sparse_tensor_to_dense(g.sp_static))),
      ("sparse_static_two", ({g.sp_static: (indices, numbers)},
                             tf.sparse_tensor_to_dense(g.sp_static))),
      ("sparse_static_fetched", ({g.sp_static: tf.SparseTensorValue(
          indices, numbers, np.array([3, 3]))}, g.sp_static)),
      ("slices", ({g.fed_slices: (numbers, [2])},
                  [g.fed_slices.values * 2., g.fed_slices.indices + 1])),
      ("slices_value", ({g.fed_slices: _slices_value(numbers, [2], None)},
                        [g.fed_slices.values * 2., g.fed_slices.indices + 1])),
      ("slices_with_shape", ({g.fed_shaped: (numbers, [2], [7])},
                             [g.fed_shaped.dense_shape + 1,
                              g.fed_shaped.values, g.fed_shaped.indices])),
      ("registered", ({g.squared: values[0]}, g.squared)),
      ("registered_in_a_pair", ({(g.squared, g.k): (values[0], 2.)},
                                [g.squared, g.k * 1.])),
      ("pair_object", ({g.pair: [values[0]]}, [g.pair, g.other_pair])),
      ("string", ({g.s_in: "text"}, g.s_in + "!")),
      ("strings", ({g.s_in: b"\n\x00"}, g.s_in + "!")),
      ("resource_placeholder_default", ({g.defaulted: 5.}, g.defaulted * 2.)),
      ("nothing_reads_it", ({g.a: values[0], g.b: values[1]}, g.a)),
      ("no_feeds", ({}, g.c)), ("none", (None, g.c)),
      ("of_a_constant", ({g.c: [5., 6.]}, g.c * 2.)),
  ])


def _slices_value(*parts):
  """A `tf.IndexedSlicesValue`, which TF 2 has under no public name."""
  graph = tf.Graph()
  with graph.as_default(), tf.Session() as session:
    kind = type(session.run(tf.IndexedSlices(
        tf.constant([1.]), tf.constant([0]))))
  return kind(*parts)


class _Graph:
  """Tensors of all kinds."""

  def __init__(self):
    f32 = tf.float32
    self.x = tf.placeholder(f32, [2], name="x")
    self.y = tf.multiply(self.x, 2., name="y")
    self.s = tf.reduce_sum(self.x)
    self.i = tf.placeholder_with_default(3, [], name="i")
    self.op = tf.no_op(name="op")
    self.text = tf.constant("a\0") + "b\0"
    self.flag = self.s > 1.
    self.flag_in = tf.placeholder(tf.bool, [])
    self.half = tf.cast(self.x, tf.float16)
    self.z = tf.complex(self.x, self.x)
    self.none = tf.zeros([0, 3]) * self.s
    self.c = tf.constant([1., 2.], name="c")
    self.v = tf.get_variable("v", initializer=[1., 2.], use_resource=False)
    self.r = tf.get_variable("r", initializer=[3., 4.], use_resource=True)
    self.ids = tf.constant([1], tf.int64)
    self.numbers = tf.constant([5.])
    self.sparse = tf.SparseTensor([[1]], self.numbers * self.s, [4])
    self.slices = tf.IndexedSlices(self.y, tf.constant([0, 1]))
    self.shaped = tf.IndexedSlices(
        self.y, tf.constant([0, 1]), tf.constant([7]))
    self.squared = _Squared(self.x)
    self.a = tf.placeholder(f32, [2], name="a")
    self.pair = _Pair(self.y, 2.)
    self.other_pair = _Pair(self.y, 10.)
    self.read_only = _ReadOnly(self.y)
    self.b = tf.placeholder(f32, [2], name="b")
    self.k = tf.placeholder(f32, [], name="k")
    self.sp = tf.sparse_placeholder(f32)
    self.sp_static = tf.sparse_placeholder(f32, [3, 3])
    self.fed_slices = tf.IndexedSlices(
        tf.placeholder(f32, [1]), tf.placeholder(tf.int32, [1]))
    self.fed_shaped = tf.IndexedSlices(
        tf.placeholder(f32, [1]), tf.placeholder(tf.int32, [1]),
        tf.placeholder(tf.int32, [1]))
    self.s_in = tf.placeholder(tf.string, [])
    self.defaulted = tf.placeholder_with_default(1., [])


def _names(table):
  """The keys of `_fetches` or of `_feeds`."""
  with tf.Graph().as_default():
    return list(table(_Graph()))


class AgreementTest(graphs.GraphTest):
  """`run` and `Session.run` give the same values, in the same types."""

  def setUp(self):
    super().setUp()
    self.g = _Graph()
    self.initialize()

  def _same(self, got, want):
    self.assertIs(type(got), type(want))
    if isinstance(want, dict):
      self.assertEqual(list(got), list(want))
      for key in want:
        self._same(got[key], want[key])
    elif isinstance(want, (list, tuple)):
      self.assertLen(got, len(want))
      for pair in zip(got, want):
        self._same(*pair)
    elif isinstance(want, _Attributes):
      self._same([got.first, got.second], [want.first, want.second])
    elif isinstance(want, (np.ndarray, np.generic)):
      self.assertEqual(got.dtype, want.dtype)
      self.assertEqual(got.shape, want.shape)
      self.assertEqual(got.tolist(), want.tolist())
    else:
      self.assertEqual(got, want)

  def _agree(self, fetches, feed_dict):
    want = self.session.run(fetches, feed_dict)
    count = self.count()
    for options in (None, None, tf.RunOptions()):
      got = gf.run(self.session, fetches, feed_dict, options)
      self._same(got, want)
    self.assertEqual(self.count(), count)
    return got

  @parameterized.parameters(_names(_fetches))
  def test_fetches(self, name):
    got = self._agree(_fetches(self.g)[name],
                      {self.g.x: np.float32([1., 2.])})
    if name == "default":
      self.assertIs(got.default_factory, list)

  @parameterized.parameters([name for name in _names(_feeds)
                             if name not in ("of_a_constant",)])
  def test_feeds(self, name):
    feed_dict, fetches = _feeds(self.g)[name]
    if feed_dict:
      feed_dict = dict(feed_dict)
      feed_dict[self.g.x] = [1., 2.]
    if name in ("registered", "registered_in_a_pair", "pair_object"):
      self._registered(feed_dict, fetches)
    else:
      self._agree(fetches, feed_dict)

  def _registered(self, feed_dict, fetches):
    """What is no placeholder is cut: ops are added, once."""
    want = self.session.run(fetches, feed_dict)
    for _ in range(2):
      self._same(gf.run(self.session, fetches, feed_dict), want)
    count = self.count()
    self._same(gf.run(self.session, fetches, feed_dict), want)
    self.assertEqual(self.count(), count)

  def test_a_feed_that_cannot_be(self):
    for bad, message in (
        ({(self.g.a, self.g.b): ([1., 2., 3.],)}, "structure"),
        ({self.g.fed_slices: [1.]}, "IndexedSlicesValue"),
        ({self.g.sp: (1, 2)}, "SparseTensorValue"),
        ({(self.g.a, self.g.b): ([1., 2.], [3.])}, "'b:0'.*shape"),
        ({(self.g.a, self.g.b): ([1., 2.], [3., 4.]), self.g.a: [1., 1.]},
         "'a:0'.*already"),
        ({self.g.read_only: [1.]}, "Cannot feed.*not a tensor")):
      with self.assertRaisesRegex(gf.FeedError, "(?s)" + message):
        gf.run(self.session, self.g.c, bad)

  def test_two_objects_of_one_registered_type(self):
    for _ in range(2):
      self.assertEqual(gf.run(
          self.session, [self.g.pair, self.g.other_pair],
          {self.g.x: [1., 2.]})[1][0].tolist(), [20., 40.])
      self.assertEqual(gf.run(
          self.session, self.g.pair, {self.g.x: [1., 2.]})[0].tolist(),
                       [4., 8.])
    f = gf.function(self.g.x, [self.g.squared, self.g.y], self.session)
    self.assertEqual(f([2., 3.])[0].tolist(), [4., 9.])


class OptionsTest(graphs.GraphTest):
  """Options, metadata and the order of arguments."""

  def test_a_trace(self):
    x = tf.placeholder(tf.float64, [], name="x")
    h = tf.multiply(x, x, name="h")
    y = tf.exp(-h)
    trace = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    for feeds, expected in (({x: 3.}, -9.), ({h: 4.}, -4.)):
      metadata = tf.RunMetadata()
      self.assertAlmostEqual(gf.run(
          self.session, y, feeds, options=trace, run_metadata=metadata),
                             np.exp(expected))
      self.assertNotEmpty(metadata.step_stats.dev_stats)
    with self.assertRaisesRegex(gf.FeedError, "'x:0'"):
      gf.run(self.session, y, {x: "text"}, trace, tf.RunMetadata())
    with self.assertRaisesRegex(gf.MissingFeedError, "'x:0'"):
      gf.run(self.session, y, None, trace, tf.RunMetadata())

  def test_a_time_limit_of_the_options(self):
    queue = tf.FIFOQueue(1, tf.float32)
    item = queue.dequeue()
    with self.assertRaises(tf.errors.DeadlineExceededError):
      gf.run(self.session, item, options=tf.RunOptions(timeout_in_ms=50))
    with self.assertRaises(gf.TimeLimitError):
      gf.run(self.session, item, options=tf.RunOptions(), timeout=.05)

  def test_other_objects_are_refused(self):
    x = tf.placeholder(tf.float64, [], name="x")
    for options, metadata in ((["x"], None), (None, {})):
      with self.assertRaisesRegex(gf.ArgumentError, "points="):
        gf.run(self.session, x, {x: 1.}, options, metadata)

  def test_what_was_feedable_stays_so(self):
    sparse = tf.sparse_placeholder(tf.float32, [3, 3])
    y = tf.sparse_reduce_sum(sparse)
    dense_shape = sparse.dense_shape
    was = dense_shape.graph.is_feedable(dense_shape)
    gf.run(self.session, y, {sparse: ([[0, 1]], [2.0], [3, 3])})
    gf.run(self.session, tf.gradients(
        tf.reduce_sum(tf.sparse_tensor_to_dense(sparse)), sparse.values), {
            sparse: ([[0, 1]], [2.0], [3, 3])})
    gf.gradients(tf.sparse_tensor_to_dense(sparse), sparse.values)
    self.assertEqual(dense_shape.graph.is_feedable(dense_shape), was)

  def test_an_empty_graph(self):
    for fetches in ([], (), {}):
      with self.assertRaisesRegex(RuntimeError, "graph.* is empty"):
        gf.run(self.session, fetches)


class HandlesTest(graphs.GraphTest):
  """Tensors that are kept in the session."""

  def test_a_tensor_is_kept_and_read(self):
    a = tf.constant([1., 2.]) * 3.
    keep = tf.get_session_handle(a)
    handle, value = gf.run(self.session, [keep, a])
    self.assertIs(type(handle), type(self.session.run(keep)))
    holder, read = tf.get_session_tensor(handle.handle, tf.float32)
    y = read * 10.
    for _ in range(2):
      np.testing.assert_array_equal(
          gf.run(self.session, y, {holder: handle.handle}), [30., 60.])
    np.testing.assert_array_equal(value, handle.eval())

  def test_a_handle_is_the_value_of_a_feed(self):
    handle = gf.run(self.session,
                    tf.get_session_handle(tf.constant([1., 2.]) * 3.))
    x = tf.placeholder(tf.float32, [2], name="x")
    h = x * x
    y = tf.exp(-h)
    np.testing.assert_allclose(
        gf.run(self.session, [h, x], {x: handle}), [[9., 36.], [3., 6.]])
    np.testing.assert_allclose(
        gf.run(self.session, y, {h: handle}), np.exp([-3., -6.]), rtol=1e-6)
    other = tf.placeholder(tf.float64, [2], name="other")
    with self.assertRaisesRegex(gf.FeedError, "'other:0'.*float32"):
      gf.run(self.session, other * 1., {other: handle})
    with self.assertRaisesRegex(gf.FeedError, "'x:0'.*eval"):
      gf.function(x, h, self.session)(handle)


class OpsTest(graphs.GraphTest):
  """A run of what is there adds nothing to the graph."""

  @parameterized.named_parameters(*graphs.KINDS)
  def test_no_op_is_added(self, use_resource):
    v = graphs.variable("v", [1., 2.], use_resource)
    x = tf.placeholder(tf.float64, [None], name="x")
    y = tf.reduce_sum(x * v)
    raw = tf.gradients(y, x)[0]
    step = tf.assign_add(v, [1., 1.])
    init = tf.global_variables_initializer()
    count, version = self.count(), self.graph.version
    gf.run(self.session, init)
    for _ in range(12):
      gf.run(self.session, [y, v, raw, step.op], {x: [1., 1.]})
      gf.run(self.session, {"y": y}, {x: [1., 1.]})
    self.assertEqual((self.count(), self.graph.version), (count, version))
    self.graph.finalize()
    got = gf.run(self.session, [y, v, x], {x: [1., 2.]})
    self.assertEqual(got[0], 13. + 2. * 14.)

  def test_no_op_is_added_by_many_runs_of_a_derivative(self):
    x = tf.placeholder(tf.float64, [None, 3], name="x")
    h = tf.tanh(x * tf.cast(tf.shape(x)[0], tf.float64), name="h")
    dx, = gf.gradients(tf.reduce_sum(h ** 2), x)
    dh, = gf.gradients(tf.reduce_sum(h ** 2), h)
    self.enter_context(mock.patch.object(trials.Trial, "CALLS", 3))
    count = self.count()
    for _ in range(8):
      value = gf.run(self.session, dx, {x: np.ones([2, 3])})
    self.assertEqual(self.count(), count)
    feed = {h: np.full([2, 3], 5.)}
    gf.run(self.session, dh, feed)  # Adds the copy that has this value.
    count = self.count()
    for _ in range(8):
      np.testing.assert_array_equal(
          gf.run(self.session, dh, feed), np.full([2, 3], 10.))
    self.assertEqual(self.count(), count)
    np.testing.assert_allclose(
        value, 4. * np.tanh(2.) * (1. - np.tanh(2.) ** 2) * np.ones([2, 3]))

  @parameterized.named_parameters(*graphs.KINDS)
  def test_results_belong_to_the_caller(self, use_resource):
    v = graphs.variable("v", np.arange(300.), use_resource)
    x = tf.placeholder(tf.float64, [300], name="x")
    c = tf.constant(np.arange(300.))
    fetches = [v, c, tf.identity(x), tf.reshape(c, [3, 100]), x * 2., x * 2.]
    self.initialize()
    x_t = np.arange(300.)
    step = tf.assign_add(v, np.ones(300))
    for turn in range(4):
      expected = [np.array(value) for value in
                  self.session.run(fetches, {x: x_t})]
      for _ in range(3):
        got = gf.run(self.session, fetches, {x: x_t})
        for value, want in zip(got, expected):
          np.testing.assert_array_equal(value, want)
          value[...] = -1.
      np.testing.assert_array_equal(x_t, np.arange(300.))
      gf.run(self.session, step.op)
      self.assertEqual(gf.run(self.session, v)[0], turn + 1.)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_all_that_is_not_initialised_is_named(self, use_resource):
    v = graphs.variable("v", [1., 2.], use_resource)
    w = graphs.variable("w", [1., 2.], use_resource)
    known = graphs.variable("known", [1., 2.], use_resource)
    y = v * w + known
    rows = tf.gather(v, [0])
    self.session.run(known.initializer)
    for finalized in (False, True):
      if finalized:
        self.graph.finalize()
      count = self.count()
      with self.assertRaisesRegex(
          gf.UninitializedError, "(?s)'v:0'.*'w:0'") as caught:
        gf.run(self.session, y)
      self.assertNotIn("known", str(caught.exception))
      self.assertIsInstance(
          caught.exception, tf.errors.FailedPreconditionError)
      with self.assertRaisesRegex(gf.UninitializedError, "'v:0'"):
        gf.run(self.session, rows)
      with self.assertRaisesRegex(gf.UninitializedError, "(?s)'v:0'.*'w:0'"):
        gf.run(self.session, y, options=tf.RunOptions())
      self.assertEqual(self.count(), count)
    self.session.run([v.initializer, w.initializer])
    np.testing.assert_array_equal(gf.run(self.session, y), [2., 6.])

  def _step(self, v):
    """A derivative at v and an update of another variable, for one run."""
    return [gf.gradient(v ** 2, v), tf.assign_add(
        graphs.variable("steps", 0., True), 1.)]

  @parameterized.named_parameters(*graphs.KINDS)
  def test_no_run_asks_for_what_a_run_has_initialised(self, use_resource):
    v = graphs.variable("v", 3., use_resource)
    step = self._step(v)
    for run, asks in ((gf.run, False), (tf.Session.run, True)):
      with tf.Session() as session:
        run(session, tf.global_variables_initializer())
        with mock.patch.object(
            _tf, "session_run", wraps=_tf.session_run) as ask:
          self.assertEqual(gf.run(session, step[:1]), [6.])
          self.assertEqual(gf.run(session, step)[0], 6.)
        self.assertEqual(ask.called, asks)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_a_branch_may_not_have_initialised_a_variable(self, use_resource):
    v = graphs.variable("v", 3., use_resource)
    step = self._step(v)
    on = tf.placeholder(tf.bool, [])
    value = tf.raw_ops.Switch(data=tf.constant(3., tf.float64), pred=on)
    initialise = tf.group(tf.assign(v, value.output_true))
    gf.run(self.session, tf.global_variables()[1].initializer)
    gf.run(self.session, initialise, {on: False})
    with self.assertRaisesRegex(gf.UninitializedError, "'v:0'"):
      gf.run(self.session, step)
    gf.run(self.session, initialise, {on: True})
    self.assertEqual(gf.run(self.session, step)[0], 6.)

  @parameterized.named_parameters(*graphs.KINDS)
  def test_a_run_that_fails_initialises_nothing(self, use_resource):
    v = graphs.variable("v", 3., use_resource)
    step = self._step(v)
    x = tf.placeholder(tf.float64, [])
    with tf.control_dependencies([tf.debugging.assert_positive(x)]):
      initialise = tf.assign(v, x)
    gf.run(self.session, tf.global_variables()[1].initializer)
    with self.assertRaises(tf.errors.InvalidArgumentError):
      gf.run(self.session, initialise.op, {x: -1.})
    with self.assertRaisesRegex(gf.UninitializedError, "'v:0'"):
      gf.run(self.session, step)

  def test_a_variable_that_was_destroyed_is_named(self):
    v = graphs.variable("v", 3., True)
    y = v * 2.
    destroy = tf.raw_ops.DestroyResourceOp(resource=v.handle)
    gf.run(self.session, v.initializer)
    self.assertEqual(gf.run(self.session, y), 6.)
    gf.run(self.session, destroy)
    with self.assertRaisesRegex(gf.UninitializedError, "'v:0'"):
      gf.run(self.session, y)

  def test_a_variable_of_the_other_branch_may_lack_a_value(self):
    v = graphs.variable("v", 2., True)
    on = tf.placeholder(tf.bool, [])
    y = tf.cond(on, lambda: v * 2., lambda: tf.constant(1., tf.float64))
    self.assertEqual(gf.run(self.session, y, {on: False}), 1.)
    with self.assertRaisesRegex(gf.UninitializedError, "'v:0'"):
      gf.run(self.session, y, {on: True})

  def test_a_precondition_of_another_op_is_passed_on(self):
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer([1], [2]), -1)
    y = table.lookup(tf.constant([1]))
    with self.assertRaises(tf.errors.FailedPreconditionError) as caught:
      gf.run(self.session, y)
    self.assertNotIsInstance(caught.exception, gf.GradfeedError)
    gf.run(self.session, tf.tables_initializer())
    self.assertEqual(gf.run(self.session, y).tolist(), [2])


class FailedOpsTest(graphs.GraphTest):
  """Errors name the op that failed, as those of `Session.run` do."""

  def _failed_op(self, error, fetch, feed_dict=None):
    with self.assertRaises(error) as caught:
      gf.run(self.session, fetch, feed_dict)
    self.assertEqual(caught.exception.node_def.name, caught.exception.op.name)
    return caught.exception.op

  def test_a_file_that_is_not_there(self):
    contents = tf.read_file("/there/is/none")
    self.assertIs(
        self._failed_op(tf.errors.NotFoundError, contents), contents.op)

  def test_the_end_of_a_data_set(self):
    item = tf.data.make_one_shot_iterator(
        tf.data.Dataset.range(1)).get_next()
    gf.run(self.session, item)
    self.assertEqual(self._failed_op(
        tf.errors.OutOfRangeError, item).type, "IteratorGetNext")

  def test_a_python_function_that_raises(self):
    x = tf.placeholder(tf.float64, [])

    def fail(value):
      raise NotImplementedError(value)

    y = tf.py_func(fail, [x], tf.float64)
    self.assertIs(self._failed_op(
        tf.errors.UnimplementedError, y, {x: 1.0}), y.op)


class _Count(tf.train.SessionRunHook):
  """Counts the runs that it sees."""

  def __init__(self):
    self.count = 0

  def after_run(self, run_context, run_values):
    self.count += 1


class HooksTest(parameterized.TestCase):
  """What changes variables is a step of a monitored session; all else not."""

  def test_hooks_of_a_train_op(self):
    with tf.Graph().as_default():
      w = tf.get_variable("w", initializer=2.0)
      x = tf.placeholder(tf.float32, [], name="x")
      step = tf.train.get_or_create_global_step()
      loss = w * w * x
      dw = gf.gradient(loss, w)
      train = tf.train.GradientDescentOptimizer(.1).minimize(
          loss, global_step=step)
      hook = _Count()
      with tf.train.MonitoredSession(
          hooks=[hook, tf.train.StopAtStepHook(num_steps=3)]) as session:
        seen = []
        while not session.should_stop():
          self.assertAlmostEqual(gf.run(session, dw, {x: 1.}),
                                 2. * 2. * .8 ** len(seen), places=5)
          gf.run(session, [loss, dw, step], {x: 1.})
          self.assertEqual(hook.count, len(seen))
          seen.append(gf.run(session, {"t": train, "l": loss}, {x: 1.})["l"])
          self.assertEqual(hook.count, len(seen))
          if len(seen) > 5:
            break
        np.testing.assert_allclose(seen, [4. * .64 ** i for i in range(3)],
                                   rtol=1e-5)

  def test_feeds_are_checked_before(self):
    with tf.Graph().as_default():
      w = tf.get_variable("w", initializer=2.0)
      x = tf.placeholder(tf.float32, [], name="x")
      train = tf.assign_add(w, x)
      hook = _Count()
      with tf.train.MonitoredSession(hooks=[hook]) as session:
        for feeds in ({x: "text"}, {x: [1.]}, {}):
          with self.assertRaisesRegex(gf.GradfeedError, "'x:0'"):
            gf.run(session, train.op, feeds)
        self.assertEqual(hook.count, 0)
        gf.run(session, train.op, {x: 3.})
        self.assertEqual(hook.count, 1)
        self.assertEqual(gf.run(session, w), 5.)
        gf.run(session, w, options=tf.RunOptions())
        self.assertEqual(hook.count, 2)


class ThreadsTest(graphs.GraphTest):
  """One set of fetches from many threads, and what is kept."""

  def test_many_threads(self):
    x = tf.placeholder(tf.float64, [3], name="x")
    y, failures = x * 2., []

    def call(seed):
      for i in range(30):
        value = np.full(3, seed * 100. + i)
        if not np.array_equal(gf.run(self.session, y, {x: value}), 2. * value):
          failures.append(seed)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(6)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    self.assertEmpty(failures)

  def test_both_values_of_a_flag_are_compiled_once(self):
    x = tf.placeholder(tf.float64, [3], name="x")
    is_training = tf.placeholder(tf.bool, [], name="is_training")
    average = tf.get_variable(
        "average", initializer=np.zeros(3), use_resource=True)
    self.session.run(average.initializer)

    def train():
      with tf.control_dependencies([average.assign(x)]):
        return tf.identity(x)

    y = tf.exp(tf.cond(is_training, train, lambda: x + 1.0))
    by_x = gf.gradient(y, x)
    point = np.array([0.5, 1.0, -2.0])
    np.testing.assert_allclose(
        gf.run(self.session, by_x, {x: point, is_training: False}),
        np.exp(point + 1.0), rtol=1e-12)
    kept = len(self.session.__dict__["_gradfeed_memo"])
    np.testing.assert_allclose(
        gf.run(self.session, by_x, {is_training: True, x: point}),
        np.exp(point), rtol=1e-12)
    self.assertLen(self.session.__dict__["_gradfeed_memo"], kept)

  def test_registered_objects_are_compiled_once(self):
    x = tf.placeholder(tf.float64, [3], name="x")
    pair = _Pair(x * 2., 3.)
    gf.run(self.session, pair, {x: np.ones(3)})
    gc.collect()
    kept = len(self.session.__dict__["_gradfeed_memo"])
    for _ in range(5):
      gf.run(self.session, pair, {x: np.ones(3)})
    self.assertLen(self.session.__dict__["_gradfeed_memo"], kept)
