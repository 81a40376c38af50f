"""Values of ops against those that TensorFlow computes."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed import _tf
from gradfeed.branches import bodies
from gradfeed.branches import constant_values
from gradfeed.branches import scopes
from gradfeed.graph import traversal
from tests.testing import graphs

_DTYPES = ("bool", "int32", "int64", "int8", "uint8", "float32", "float64")
_SHAPES = ((), (1,), (3,), (2, 1), (0,), (2, 3))

#: Functions of two tensors of one dtype, by the dtypes that they take.
_BINARY = {
    "equal": (tf.equal, "bif"), "not_equal": (tf.not_equal, "bif"),
    "greater": (tf.greater, "if"), "less_equal": (tf.less_equal, "if"),
    "less": (tf.less, "if"), "greater_equal": (tf.greater_equal, "if"),
    "and": (tf.logical_and, "b"), "or": (tf.logical_or, "b"),
    "add": (tf.add, "if"), "sub": (tf.subtract, "if"),
    "mul": (tf.multiply, "if"), "maximum": (tf.maximum, "if"),
    "minimum": (tf.minimum, "if"), "floormod": (tf.floormod, "if"),
    "where": (lambda a, b: _tf_where(tf.reduce_any(tf.equal(a, b)), a, b),
              "bif"),
}

#: Functions of one tensor.
_UNARY = {
    "not": (tf.logical_not, "b"),
    "identity": (tf.identity, "bif"),
    "stopped": (tf.stop_gradient, "bif"),
    "all": (tf.reduce_all, "b"), "any": (tf.reduce_any, "b"),
    "any_kept": (lambda a: tf.reduce_any(a, 0, keepdims=True), "b"),
    "sum": (tf.reduce_sum, "if"), "max": (tf.reduce_max, "if"),
    "min_last": (lambda a: tf.reduce_min(a, -1), "if"),
    "squeeze": (tf.squeeze, "bif"),
    "flat": (lambda a: tf.reshape(a, [-1]), "bif"),
    "to_bool": (lambda a: tf.cast(a, tf.bool), "bif"),
    "to_uint8": (lambda a: tf.cast(a, tf.uint8), "bi"),
    "to_int8": (lambda a: tf.cast(a, tf.int8), "bi"),
    "to_int32": (lambda a: tf.cast(a, tf.int32), "bif"),
    "to_float32": (lambda a: tf.cast(a, tf.float32), "bif"),
}


def _tf_where(condition, a, b):
  return tf.where_v2(condition, a, b)


def _constant(random):
  """A constant whose numbers are small, or at the ends of their range."""
  dtype = np.dtype(_DTYPES[random.randint(len(_DTYPES))])
  shape = _SHAPES[random.randint(len(_SHAPES))]
  values = random.randint(-3, 4, size=shape)
  if dtype.kind in "iu" and random.rand() < 0.3:
    info = np.iinfo(dtype)
    values = random.choice([info.min, info.max, info.max - 1, 1], size=shape)
  if dtype.kind == "f" and random.rand() < 0.3:
    values = random.choice([np.nan, np.inf, 0.1, -0.0], size=shape)
  return tf.constant(np.asarray(values).astype(dtype))


def _grown(tensors, random):
  """A random function of some of `tensors`, or None where it does not fit."""
  kind = lambda t: np.dtype(t.dtype.as_numpy_dtype).kind.replace("u", "i")
  one, other = (tensors[random.randint(len(tensors))] for _ in range(2))
  if random.rand() < 0.5:
    compute, kinds = _UNARY[sorted(_UNARY)[random.randint(len(_UNARY))]]
    operands = [one]
  else:
    compute, kinds = _BINARY[sorted(_BINARY)[random.randint(len(_BINARY))]]
    operands = [one, other]
  if kind(one) not in kinds or len({t.dtype for t in operands}) > 1:
    return None
  try:
    return compute(*operands)
  except (ValueError, TypeError):
    return None  # The shapes do not fit.


def scope_of(graph, values=None, has_defaults=True):
  """The nodes of `graph` with values at some tensors, by name."""
  return scopes.Graph(
      bodies.Library(graph, has_defaults), values or {},
      traversal.ancestors(graph.get_operations()), set)


class ConstantValuesTest(graphs.GraphTest):

  @parameterized.parameters(*range(8))
  def test_random_graphs_against_tensorflow(self, seed):
    random = np.random.RandomState(seed)
    tensors = [_constant(random) for _ in range(6)]
    while len(tensors) < 80:
      grown = _grown(tensors, random)
      if grown is not None:
        tensors.append(grown)
    scope = scope_of(self.graph)
    count, known = self.count(), 0
    for tensor in tensors:
      value = scope.value(tensor)
      try:
        expected = np.asarray(self.session.run(tensor))
      except tf.errors.OpError:
        continue  # An integer modulo 0; the last element of none.
      if value is None:
        continue
      known += 1
      self.assertEqual(value.dtype, expected.dtype, tensor)
      self.assertEqual(value.shape, expected.shape, tensor)
      np.testing.assert_array_equal(value, expected, str(tensor.op))
    self.assertGreater(known, 40)
    self.assertEqual(self.count(), count)

  @parameterized.parameters(*range(4))
  def test_what_is_known_in_part_holds_for_all_values(self, seed):
    random = np.random.RandomState(seed)
    unknown = [tf.placeholder(tf.bool, shape) for shape in ((), (), (3,))]
    tensors = unknown + [tf.constant(True), tf.constant(False),
                         tf.constant([True, False, True])]
    while len(tensors) < 60:
      grown = _grown(tensors, random)
      if grown is not None and grown.dtype == tf.bool:
        tensors.append(grown)
    scope = scope_of(self.graph)
    known = [t for t in tensors[6:] if scope.value(t) is not None]
    self.assertNotEmpty(known)
    for bits in range(8):
      feeds = {t: np.full(t.shape.as_list(), bool(bits >> i & 1))
               for i, t in enumerate(unknown)}
      for tensor, value in zip(known, self.session.run(known, feeds)):
        np.testing.assert_array_equal(
            np.broadcast_to(scope.value(tensor), np.shape(value)), value)

  def test_strings(self):
    scope = scope_of(self.graph)
    a, b = tf.constant(["train", "eval\0"]), tf.constant(b"eval\0")
    np.testing.assert_array_equal(scope.value(tf.equal(a, b)), [False, True])
    np.testing.assert_array_equal(
        scope.value(tf.not_equal(a, b)), [True, False])
    self.assertIsNone(scope.value(tf.cast(tf.strings.length(b), tf.bool)))

  def test_one_input_decides(self):
    unknown = tf.placeholder(tf.bool, [])
    scope = scope_of(self.graph)
    for tensor, expected in (
        (tf.logical_and(unknown, False), False),
        (tf.logical_or(True, unknown), True),
        (tf.logical_and(unknown, True), None),
        (tf.logical_or(unknown, False), None),
        (tf.logical_not(tf.logical_and(False, unknown)), True),
        (tf.where(tf.constant(True), tf.constant(False), unknown), False),
        (tf.where(tf.constant(False), tf.constant(False), unknown), None)):
      value = scope.value(tensor)
      self.assertEqual(value if value is None else bool(value), expected)

  def test_elements_that_are_decided_are_no_predicate(self):
    # A branch with a predicate of some elements is taken where there are any.
    unknown = tf.placeholder(tf.bool, [3])
    taken = tf.raw_ops.If if hasattr(tf, "raw_ops") else None
    if taken is None or not _tf.IS_TF2:
      self.skipTest("tf.raw_ops.If takes functions of TF 2.")
    branch = [tf.function(lambda v=v: tf.constant(v)).get_concrete_function()
              for v in (1.0, 2.0)]
    y, = tf.raw_ops.If(
        cond=tf.logical_and(tf.constant(False), unknown), input=[],
        Tout=[tf.float32], then_branch=branch[0], else_branch=branch[1])
    self.assertEqual(self.session.run(y, {unknown: [True] * 3}), 1.0)
    scope = scope_of(self.graph)
    self.assertIsNone(scope.value(y))

  def test_uncertain_casts(self):
    scope = scope_of(self.graph)
    for value, dtype in ((1e20, tf.int32), (-1.0, tf.uint8), (300.0, tf.uint8),
                         (np.nan, tf.int32), (np.inf, tf.float32)):
      self.assertIsNone(scope.value(tf.cast(
          tf.constant(value, tf.float64), dtype)), (value, dtype))
    self.assertEqual(scope.value(tf.cast(tf.constant(-2.7), tf.int32)), -2)

  def test_arithmetic_of_floats_is_not_known(self):
    scope = scope_of(self.graph)
    a = tf.constant(0.1) + tf.constant(0.2)
    self.assertIsNone(scope.value(a))
    self.assertIsNone(scope.value(tf.greater(a, 0.3)))
    self.assertIsNone(scope.value(tf.reduce_sum(tf.constant([0.1, 0.2]))))

  def test_what_depends_on_shapes_variables_or_chance_is_not_known(self):
    x = tf.placeholder(tf.float32, [2, 3])
    scope = scope_of(self.graph)
    for tensor in (
        tf.identity(graphs.variable("ref", 1.0, False)),
        graphs.variable("resource", 1.0, True).read_value(),
        tf.random_uniform([], 0, 2, tf.int32), x):
      self.assertIsNone(scope.value(tensor))
      self.assertIsNone(scope.value(tf.cast(tensor, tf.bool)))
    # Static shapes are constants of TensorFlow's own; others have no value.
    self.assertIsNone(scope.value(tf.shape(tf.placeholder(
        tf.float32, [None]))))

  def test_large_values_are_not_looked_at(self):
    scope = scope_of(self.graph)
    size = constant_values.MOST_ELEMENTS
    self.assertIsNotNone(scope.value(tf.constant([True] * size)))
    for tensor in (tf.constant([True] * (size + 1)),
                   tf.fill([size + 1], True)):
      self.assertIsNone(scope.value(tensor))
      self.assertIsNone(scope.value(tf.reduce_all(tensor)))
    row, column = tf.constant(np.ones([1, 16])), tf.constant(np.ones([16, 1]))
    self.assertIsNone(scope.value(tf.equal(row, column)))

  def test_a_default_counts_where_it_is_not_fed(self):
    flag = tf.placeholder_with_default(True, [])
    self.assertEqual(scope_of(self.graph).value(flag), True)
    self.assertIsNone(scope_of(self.graph, has_defaults=False).value(flag))
    fed = {flag.name: np.array(False)}
    self.assertEqual(scope_of(self.graph, fed, False).value(flag), False)
    self.assertIsNone(scope_of(self.graph, {flag.name: None}).value(flag))


class HeldValuesTest(parameterized.TestCase):

  @parameterized.parameters(
      0.0, [np.nan], 1j, None, [np.zeros(100, np.int32)],
      np.float32(1), np.float16(1))
  def test_decide_nothing(self, value):
    self.assertIsNone(constant_values.comparable(
        value[0] if isinstance(value, list) else value))

  def test_are_the_same(self):
    comparable = constant_values.comparable
    same = lambda a, b: constant_values.same(comparable(a), comparable(b))
    self.assertTrue(same(np.array(True), True))
    self.assertTrue(same(np.array(["a"]), np.array([b"a"], object)))
    self.assertTrue(same(None, np.array(0.5)))
    self.assertFalse(same(np.int32(1), np.int64(1)))
    self.assertFalse(same(np.array([1]), np.array(1)))
    self.assertFalse(same(np.array(True), None))
    self.assertFalse(same(np.array([b"a\0"], object), np.array([b"a"], object)))

  @parameterized.parameters(
      (np.array(2), True), (np.array(0, np.uint8), False),
      (np.array(b"", object), False), (np.array(b"no", object), True),
      (np.zeros([0]), False), (np.array([False]), True))
  def test_truth(self, value, expected):
    self.assertEqual(constant_values.truth(value), expected)
