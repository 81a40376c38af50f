"""E1: the gradient through While, If, Case and calls of functions.

TensorFlow's own gradient adds outputs to these ops, after which no session
that has run can run again. Here the path is copied first.
"""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import flows
from tests.testing import numeric


# The nodes in between, each a function from a float64 tensor of shape [2], and
# the type of the op that it makes.


def _while(x):
  return tf.while_loop(lambda i, a: i < 3,
                       lambda i, a: (i + 1, tf.sin(a) * x), [0, x])[1]


def _if(x):
  return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.exp(x) * x, lambda: 3. * x)


def _case(x):
  return tf.switch_case(
      tf.cast(tf.reduce_sum(x), tf.int32),
      [lambda: x, lambda: tf.tanh(x) * x, lambda: x * x])


def _stateless_call(x):
  return tf.function(lambda a: tf.sin(a) * a, autograph=False)(x)


def _stateful_call(x):
  def body(a):
    with tf.control_dependencies([tf.print(end="")]):
      return tf.exp(a) * a
  return tf.function(body, autograph=False)(x)


def _while_in_if(x):
  return tf.cond(tf.reduce_sum(x) > 0, lambda: _while(x), lambda: x)


def _if_in_while(x):
  return tf.while_loop(
      lambda i, a: i < 3,
      lambda i, a: (i + 1, tf.cond(i < 1, lambda: a * x, lambda: tf.sin(a))),
      [0, x])[1]


def _while_in_while(x):
  return tf.while_loop(
      lambda i, a: i < 2,
      lambda i, a: (i + 1, _while(tf.sin(a))), [0, x])[1]


def _call_in_while(x):
  call = tf.function(lambda a: tf.sin(a) * a, autograph=False)
  return tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, call(a) + x),
                       [0, x])[1]


def _call_without_native_gradient_in_while(x):
  call = tf.function(lambda a: tf.nn.elu(tf.cumsum(a)), autograph=False)
  return tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, call(a) + x),
                       [0, x])[1]


def _if_in_call_in_while(x):
  call = tf.function(_if, autograph=False)
  return tf.while_loop(
      lambda i, a: i < 2, lambda i, a: (i + 1, tf.sin(call(a)) + x),
      [0, x])[1]


def _if_in_call(x):
  return tf.function(_if, autograph=False)(x)


def _map(x):
  return tf.map_fn(lambda a: tf.sin(a) * a, x)


def _scan(x):
  return tf.scan(lambda a, b: tf.sin(a) * b, x, tf.constant(1., tf.float64))


def _one_after_the_other(x):
  return _if(tf.tanh(_while(x))) + _while(x)


_FLOWS = {
    "while": (_while, {"While", "StatelessWhile"}),
    "if": (_if, {"If", "StatelessIf"}),
    "case": (_case, {"Case", "StatelessCase"}),
    "stateless_call": (_stateless_call, {
        "PartitionedCall", "StatefulPartitionedCall"}),
    "stateful_call": (_stateful_call, {"StatefulPartitionedCall"}),
    "while_in_if": (_while_in_if, {"If", "StatelessIf"}),
    "if_in_while": (_if_in_while, {"While", "StatelessWhile"}),
    "while_in_while": (_while_in_while, {"While", "StatelessWhile"}),
    "call_in_while": (_call_in_while, {"While", "StatelessWhile"}),
    "elu_in_call_in_while": (_call_without_native_gradient_in_while, {
        "While", "StatelessWhile"}),
    "if_in_call_in_while": (_if_in_call_in_while, {
        "While", "StatelessWhile"}),
    "if_in_call": (_if_in_call, {
        "PartitionedCall", "StatefulPartitionedCall"}),
    "map": (_map, {"While", "StatelessWhile"}),
    "scan": (_scan, {"While", "StatelessWhile"}),
    "one_after_the_other": (_one_after_the_other, {"If", "StatelessIf"})}

_NAMES = [(name, name) for name in _FLOWS]

_AT = np.array([0.3, 0.9])


class _SessionTest(parameterized.TestCase):
  """Control flow v2, a graph, a session."""

  def setUp(self):
    super().setUp()
    self.graph = tf.Graph()
    self.enter_context(self.graph.as_default())
    self.enter_context(flows.control_flow(2))
    self.session = self.enter_context(tf.Session())

  def differences(self, y, x, at=_AT, session=None):
    total = tf.reduce_sum(y)
    with tf.Session(graph=y.graph) as other:  # One that never saw a gradient.
      return numeric.central_differences(
          lambda value: (session or other).run(total, {x: value}), at)


class FunctionalOpsTest(_SessionTest):

  def _build(self, name):
    x = tf.placeholder(tf.float64, [2], name="x")
    build, types = _FLOWS[name]
    h = tf.identity(x * x, name="h")
    y = tf.identity(tf.tanh(build(h)) * x, name="y")
    self.assertNotEmpty(
        types & {op.type for op in self.graph.get_operations()})
    return x, h, y

  @parameterized.named_parameters(*_NAMES)
  def test_e1_the_session_that_has_run_goes_on(self, name):
    x, h, y = self._build(name)
    expected = self.differences(y, x)
    value = self.session.run(y, {x: _AT})
    nodes = self.graph.as_graph_def()
    dx = gf.gradient(y, x)
    np.testing.assert_allclose(
        self.session.run(dx, {x: _AT}), expected, rtol=1e-7, atol=1e-8)
    np.testing.assert_array_equal(self.session.run(y, {x: _AT}), value)
    again = gf.gradient(tf.square(tf.reduce_sum(y)), [h, x])
    np.testing.assert_allclose(
        self.session.run(again[1], {x: _AT}), 2. * value.sum() * expected,
        rtol=1e-7, atol=1e-8)
    np.testing.assert_array_equal(self.session.run(y, {x: _AT}), value)
    np.testing.assert_allclose(
        self.session.run(dx, {x: _AT}), expected, rtol=1e-7, atol=1e-8)
    self.assert_still_there(nodes)

  @parameterized.named_parameters(*_NAMES)
  def test_e1_gradient_of_a_gradient(self, name):
    x, _, y = self._build(name)
    self.session.run(y, {x: _AT})
    nodes = self.graph.as_graph_def()
    dx = gf.gradient(y, x)
    first = self.session.run(dx, {x: _AT})
    twice = gf.gradient(dx, x)
    expected = self.differences(dx, x)
    np.testing.assert_allclose(
        self.session.run(twice, {x: _AT}), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(self.session.run(dx, {x: _AT}), first)
    self.session.run(y, {x: _AT})
    self.assert_still_there(nodes)

  @parameterized.named_parameters(*_NAMES)
  def test_e1_gradients(self, name):
    x, h, y = self._build(name)
    expected = self.differences(y, x)
    self.session.run(y, {x: _AT})
    dx, dh, none = gf.gradients([y], [x, h, tf.constant(1.)])
    self.assertIsNone(none)
    got_x, got_h, part = self.session.run(
        [dx, dh, y / x], {x: _AT})  # dy/dx = h'(x) dy/dh + y / x.
    np.testing.assert_allclose(got_x, expected, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(
        2. * _AT * got_h + part, expected, rtol=1e-7, atol=1e-8)

  @parameterized.named_parameters(*_NAMES)
  def test_e1_value_and_gradient(self, name):
    x, _, y = self._build(name)
    value = self.session.run(y, {x: _AT})
    got = self.session.run(gf.value_and_gradient(y, x), {x: _AT})
    np.testing.assert_allclose(got[0], value, rtol=1e-12)
    np.testing.assert_allclose(
        got[1], self.differences(y, x), rtol=1e-7, atol=1e-8)

  @parameterized.named_parameters(*_NAMES)
  def test_e1_a_second_graph_of_the_same_definition(self, name):
    x, _, y = self._build(name)
    expected = self.differences(y, x)
    self.session.run(y, {x: _AT})
    definition = self.graph.as_graph_def()
    dx = gf.gradient(y, x)
    with tf.Graph().as_default() as other, tf.Session() as session:
      tf.import_graph_def(definition, name="")
      session.run("y:0", {"x:0": _AT})
      for _ in range(2):
        theirs = gf.gradient("y:0", "x:0")
        np.testing.assert_allclose(
            session.run(theirs, {"x:0": _AT}), expected, rtol=1e-7, atol=1e-8)
        twice = gf.gradient(theirs, "x:0")
        self.assertTrue(np.isfinite(session.run(twice, {"x:0": _AT})).all())
        session.run("y:0", {"x:0": _AT})
      self.assertIs(twice.graph, other)
    np.testing.assert_allclose(
        self.session.run(dx, {x: _AT}), expected, rtol=1e-7, atol=1e-8)

  @parameterized.named_parameters(*_NAMES)
  def test_e1_ops_stand_under_the_scope(self, name):
    x, _, y = self._build(name)
    before = {op.name for op in self.graph.get_operations()}
    gf.gradient(gf.gradient(y, x), x)
    self.assertEmpty([
        op.name for op in self.graph.get_operations()
        if op.name not in before and not op.name.startswith("gradfeed/")])

  def assert_still_there(self, nodes):
    """Every node of a GraphDef taken before is in the graph, unchanged."""
    now = {node.name: node for node in self.graph.as_graph_def().node}
    for node in nodes.node:
      self.assertEqual(now[node.name], node)


class CustomGradientTest(_SessionTest):

  @parameterized.named_parameters(
      ("call", lambda x, op: tf.function(op, autograph=False)(x), 100.),
      ("call_in_call", lambda x, op: tf.function(
          lambda: tf.function(op, autograph=False)(x), autograph=False)(),
       100.),
      ("if", lambda x, op: tf.cond(x > 0., lambda: op(x), lambda: x), 100.),
      ("while", lambda x, op: tf.while_loop(
          lambda i, a: i < 2, lambda i, a: (i + 1, op(a)), [0, x])[1], 1e4),
      ("call_in_while", lambda x, op: tf.while_loop(
          lambda i, a: i < 2, lambda i, a: (
              i + 1, tf.function(op, autograph=False)(a)), [0, x])[1], 1e4))
  def test_e1_custom_gradient_is_kept(self, build, expected):
    @tf.custom_gradient
    def hundredfold(a):
      return tf.sin(a), lambda g: g * 100.

    x = tf.placeholder(tf.float64, [])
    y = build(x, hundredfold)
    self.session.run(y, {x: 1.})
    dx = gf.gradient(y, x)
    self.assertEqual(self.session.run(dx, {x: 1.}), expected)
    self.session.run(y, {x: 1.})


class OwnGradientsTest(_SessionTest):
  """Custom gradients that read tensors of the body that they are in."""

  @parameterized.named_parameters(
      ("while", lambda x, op: tf.while_loop(
          lambda i, a: i < 3, lambda i, a: (i + 1, op(a) + x), [0, x])[1]),
      ("cond", lambda x, op: tf.cond(
          x > 0.0, lambda: op(x) * op(op(x)), lambda: x)),
      ("waiting", lambda x, op: tf.while_loop(
          lambda i, a: i < 2, lambda i, a: (i + 1, tf.nn.swish(a) * op(x)),
          [0, x])[1]),
      ("called", lambda x, op: tf.function(lambda a: tf.while_loop(
          lambda i, b: i < 2, lambda i, b: (i + 1, op(b) + a), [0, a])[1],
                                           autograph=False)(x)))
  def test_e1_follow_the_copy(self, build):
    @tf.custom_gradient
    def cube(a):
      inner = a * 1.1
      return inner ** 3, lambda dy: dy * 3.3 * inner * inner

    x = tf.placeholder(tf.float64, [])
    y = build(x, cube)
    if tf.__version__.startswith("1.") and "function" in (
        build.__code__.co_names):  # There TensorFlow has none.
      with self.assertRaises(gf.UnsupportedGraphError):
        gf.gradient(y, x)
      return
    dx = gf.gradient(y, x)
    step = 1e-6
    for at in (0.7, -0.4):
      ahead, behind = [self.session.run(y, {x: at + h})
                       for h in (step, -step)]
      np.testing.assert_allclose(self.session.run(dx, {x: at}),
                                 (ahead - behind) / (2.0 * step), rtol=1e-8)

  def test_e1_what_is_read_elsewhere_is_named(self):
    @tf.custom_gradient
    def cube(a):
      return a ** 3, lambda dy: dy * 3.0 * a * a

    x = tf.placeholder(tf.float64, [], name="x")
    inner = tf.function(cube, autograph=False)
    y = tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, inner(a) + x),
                      [0, x])[1]
    with self.assertRaisesRegex(
        gf.UnsupportedGraphError, "tf.custom_gradient.*\n.*'.*:0'"):
      gf.gradient(y, x)
    self.session.run(y, {x: 0.5})


class VariablesTest(_SessionTest):
  """Weights that are read inside of the functions."""

  def _variable(self, use_resource):
    v = tf.get_variable("v", dtype=tf.float64, use_resource=use_resource,
                        initializer=np.array([0.5, 2.]))
    self.session.run(v.initializer)
    return v

  def _expected(self, y, v, x):
    at = self.session.run(v)
    total = tf.reduce_sum(y)

    def value(weights):
      self.session.run(assign, {holder: weights})
      return self.session.run(total, {x: _AT})

    holder = tf.placeholder(tf.float64, [2])
    assign = tf.assign(v, holder)
    expected = numeric.central_differences(value, at)
    self.session.run(assign, {holder: at})
    return expected

  @parameterized.named_parameters(
      ("ref_while", False, "while"), ("resource_while", True, "while"),
      ("ref_if", False, "if"), ("resource_if", True, "if"),
      ("resource_call", True, "call"), ("ref_call", False, "call"),
      ("resource_if_in_while", True, "if_in_while"),
      ("resource_while_in_if", True, "while_in_if"),
      ("resource_while_in_while", True, "while_in_while"),
      ("resource_while_in_if_in_while", True, "while_in_if_in_while"))
  def test_e1_by_a_variable(self, use_resource, name):
    v = self._variable(use_resource)
    x = tf.placeholder(tf.float64, [2])

    def nest(kinds):
      if not kinds:
        return tf.sin(v * x) + v * v
      if kinds[0] == "if":
        return tf.cond(x[0] > 0., lambda: nest(kinds[1:]), lambda: x)
      if kinds[0] == "call":
        return tf.function(lambda: nest(kinds[1:]), autograph=False)()
      return tf.while_loop(
          lambda i, a: i < 2, lambda i, a: (i + 1, tf.sin(a) + nest(kinds[1:])),
          [0, x])[1]

    y = nest(name.split("_in_"))
    expected = self._expected(y, v, x)
    value = self.session.run(y, {x: _AT})
    try:
      dv, dx = gf.gradient(y, [v, x])
    except gf.UnsupportedGraphError as error:
      # TF 1.15 itself loses such gradients, or cannot build them.
      self.assertStartsWith(tf.__version__, "1.")
      self.assertTrue(use_resource)
      self.assertIn("'v:0'", error.what)
      np.testing.assert_array_equal(self.session.run(y, {x: _AT}), value)
      return
    for _ in range(2):
      got = self.session.run([dv, dx], {x: _AT})
      np.testing.assert_allclose(got[0], expected, rtol=1e-6, atol=1e-8)
      np.testing.assert_array_equal(self.session.run(y, {x: _AT}), value)
    np.testing.assert_allclose(
        got[1], self.differences(y, x, session=self.session), rtol=1e-6,
        atol=1e-8)

  def test_e1_training_and_gradient_side_by_side(self):
    v = self._variable(True)
    x = tf.placeholder(tf.float64, [2])
    loss = tf.reduce_sum(tf.square(_while(v * x)))
    train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    first = self.session.run(loss, {x: _AT})
    dx = gf.gradient(loss, x)
    for _ in range(3):
      self.session.run(train, {x: _AT})
      np.testing.assert_allclose(
          self.session.run(dx, {x: _AT}),
          self.differences(loss, x, session=self.session), rtol=1e-6,
          atol=1e-8)
    self.assertLess(self.session.run(loss, {x: _AT}), first)


class RandomTest(_SessionTest):
  """A mask that is drawn inside of a function."""

  @parameterized.named_parameters(
      ("call", lambda x, drop: tf.function(drop, autograph=False)(x)),
      ("if", lambda x, drop: tf.cond(x[0] > 0., lambda: drop(x), lambda: x)),
      ("while", lambda x, drop: tf.while_loop(
          lambda i, a: i < 1, lambda i, a: (i + 1, drop(a)), [0, x])[1]))
  def test_e1_s8_value_and_gradient_share_the_mask(self, build):
    x = tf.placeholder(tf.float64, [40])
    y = build(x, lambda a: a * tf.floor(
        tf.random_uniform([40], dtype=tf.float64) + 0.5))
    self.session.run(y, {x: np.ones(40)})
    pair = gf.value_and_gradient(y, x)
    masks = []
    for _ in range(3):
      value, dx = self.session.run(pair, {x: np.full(40, 7.)})
      np.testing.assert_array_equal(value, 7. * dx)
      masks.append(dx.tolist())
    self.assertNotEqual(masks[0], masks[1])

  def test_s8_a_run_has_one_mask(self):
    x = tf.placeholder(tf.float64, [40])
    w = tf.get_variable("w", initializer=np.full(40, 2.0))
    h = tf.cond(x[0] > 0., lambda: w * x * tf.floor(
        tf.random_uniform([40], dtype=tf.float64) + 0.5), lambda: w * x)
    y = tf.reduce_sum(h * 3., name="y")
    dx, = gf.gradients(y, x)
    dw, = gf.gradients(y, w)
    train = tf.assign_sub(w, dw)
    self.session.run(tf.global_variables_initializer())
    feed = {x: np.full(40, 7.)}
    for fetches in [[h, dx, "y:0"], [h, dx.name]]:
      layer, gradient, *value = gf.run(self.session, fetches, feed)
      np.testing.assert_allclose(layer, 14. * gradient / 6.)
      self.assertIn(np.sum(3. * layer), value or [np.sum(3. * layer)])
    before = self.session.run(w)
    for _ in range(3):
      _, value, layer = gf.run(self.session, [train.op, y, h], feed)
      mask = layer / (7. * before)
      self.assertAlmostEqual(value, np.sum(3. * layer))
      np.testing.assert_allclose(self.session.run(w), before - 21. * mask)
      before = self.session.run(w)

  def test_e1_dropout_outside_is_shared_with_the_model(self):
    x = tf.placeholder(tf.float64, [40])
    mask = tf.floor(tf.random_uniform([40], dtype=tf.float64) + 0.5)
    y = tf.cond(x[0] > 0., lambda: x * x, lambda: x) * mask
    self.session.run(y, {x: np.ones(40)})
    dx = gf.gradient(y, x)
    got, drawn = self.session.run([dx, mask], {x: np.full(40, 3.)})
    np.testing.assert_array_equal(got, 6. * drawn)


class AssignmentsTest(_SessionTest):
  """A moving average that the branch of training updates in place."""

  def _build(self):
    x = tf.placeholder(tf.float64, [3])
    training = tf.placeholder(tf.bool, [])
    average = tf.get_variable("average", initializer=np.float64(5.0),
                              trainable=False, use_resource=True)
    mean = tf.reduce_mean(x)

    def update():
      step = tf.assign_sub(average, 0.5 * (average - mean))
      with tf.control_dependencies([step]):
        return tf.identity(mean)

    center = tf.cond(training, update, lambda: tf.identity(average))
    self.session.run(average.initializer)
    return x, training, average, tf.square(x - center) * x

  def _expected(self, at, center, slope):
    """d sum((x - c)^2 x) / dx, where dc / dx is `slope`."""
    d = at - center
    return d * d + 2. * d * at - slope * np.sum(2. * d * at)

  @parameterized.named_parameters(
      ("gradient", gf.gradient),
      ("gradients", lambda y, x: gf.gradients(y, x)[0]),
      ("second_order", lambda y, x: gf.gradient(
          tf.reduce_sum(gf.gradient(y, x)), x)))
  def test_each_run_updates_once(self, differentiate):
    x, training, average, y = self._build()
    at = np.array([1.0, 2.0, 6.0])
    feeds = {x: at, training: True}
    self.session.run(y, {x: at, training: False})
    dx = differentiate(y, x)
    for fetches, after in ((dx, 4.0), ([dx, y], 3.5), (y, 3.25), (dx, 3.125)):
      self.session.run(fetches, feeds)
      self.assertEqual(self.session.run(average), after)
    self.session.run([dx, y], {x: at, training: False})
    self.assertEqual(self.session.run(average), 3.125)

  def test_numbers_of_both_branches(self):
    x, training, _, y = self._build()
    at = np.array([1.0, 2.0, 6.0])
    dx = gf.gradient(y, x)
    np.testing.assert_allclose(
        self.session.run(dx, {x: at, training: False}),
        self._expected(at, 5.0, 0.0))
    np.testing.assert_allclose(
        self.session.run(dx, {x: at, training: True}),
        self._expected(at, 3.0, 1.0 / 3))
    np.testing.assert_allclose(
        self.session.run(dx, {x: at, training: False}),
        self._expected(at, 4.0, 0.0))

  def test_what_reads_the_assigned_value_keeps_its_assignment(self):
    x = tf.placeholder(tf.float64, [3])
    count = tf.get_variable("count", initializer=np.float64(0.0),
                            trainable=False, use_resource=True)

    def counted():
      with tf.control_dependencies([tf.assign_add(count, 1.0)]):
        return x * x * count.read_value()

    dx = gf.gradient(tf.cond(x[0] > 0., counted, lambda: x), x)
    self.session.run(count.initializer)
    at = np.array([1.0, 2.0, 6.0])
    np.testing.assert_allclose(self.session.run(dx, {x: at}), 2. * at)
    np.testing.assert_allclose(self.session.run(dx, {x: at}), 4. * at)

  def test_e1_a_run_of_a_step_counts_once(self):
    x = tf.placeholder(tf.float64, [3])
    count = tf.get_variable("count", initializer=np.float64(0.0),
                            trainable=False, use_resource=True)
    total = tf.get_variable("total", initializer=np.zeros(3),
                            trainable=False, use_resource=True)

    def counted():
      with tf.control_dependencies([tf.assign_add(count, 1.0)]):
        return x * count.read_value()

    h = tf.cond(x[0] > 0., counted, lambda: x)
    y = tf.reduce_sum(h * h)
    step = tf.assign_add(total, gf.gradient(y, x))
    self.session.run([count.initializer, total.initializer])
    for n in (1, 2, 3):
      _, value, layer = gf.run(
          self.session, [step.op, y, h], {x: np.array([1.0, 2.0, 6.0])})
      self.assertEqual(self.session.run(count), n)
      self.assertEqual(value, 41. * n ** 2)
      np.testing.assert_array_equal(layer, n * np.array([1.0, 2.0, 6.0]))
    np.testing.assert_array_equal(
        self.session.run(total), 28. * np.array([1.0, 2.0, 6.0]))


class BothControlFlowsTest(_SessionTest):
  """A functional op beside the while loops and conds of control flow v1."""

  def _v1_loop(self, x):
    with flows.control_flow(1):
      return _while(x)

  def test_e1_loop_of_v1_before_and_after_a_call(self):
    x = tf.placeholder(tf.float64, [2])
    before = _stateless_call(self._v1_loop(x))
    expected = self.differences(before, x)
    self.session.run(before, {x: _AT})
    dx = gf.gradient(before, x)
    np.testing.assert_allclose(
        self.session.run(dx, {x: _AT}), expected, rtol=1e-7)
    self.session.run(before, {x: _AT})

  def test_e1_loop_of_v1_after_a_call_is_right_or_explained(self):
    x = tf.placeholder(tf.float64, [2])
    after = self._v1_loop(_stateless_call(x))
    expected = self.differences(after, x)
    self.session.run(after, {x: _AT})
    before = len(self.graph.get_operations())
    try:
      dx = gf.gradient(after, x)
    except gf.UnsupportedGraphError as error:
      self.assertEqual(len(self.graph.get_operations()), before)
      self.assertIn("differentiate by the function's output", str(error))
    else:
      np.testing.assert_allclose(
          self.session.run(dx, {x: _AT}), expected, rtol=1e-7)
    self.session.run(after, {x: _AT})

  def test_cond_of_v1_after_a_call(self):
    x = tf.placeholder(tf.float64, [2])
    h = _stateless_call(x)
    with flows.control_flow(1):
      y = _if(h)
    expected = self.differences(y, x)
    self.session.run(y, {x: _AT})
    dx = gf.gradient(y, x)
    np.testing.assert_allclose(
        self.session.run(dx, {x: _AT}), expected, rtol=1e-7)
    self.session.run(y, {x: _AT})

  def test_loop_of_v1_needs_no_copy(self):
    x = tf.placeholder(tf.float64, [2])
    y = self._v1_loop(x)
    expected = self.differences(y, x)
    self.session.run(y, {x: _AT})
    nodes = self.graph.as_graph_def()
    value, dx = gf.value_and_gradient(y, x)
    self.assertIs(value, y)
    np.testing.assert_allclose(
        self.session.run(dx, {x: _AT}), expected, rtol=1e-7)
    self.session.run(y, {x: _AT})
    now = {node.name: node for node in self.graph.as_graph_def().node}
    for node in nodes.node:
      self.assertEqual(now[node.name], node)
