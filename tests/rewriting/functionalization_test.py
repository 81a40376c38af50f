"""Tests of the functional forms of loops, branches and tensor arrays."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed import _tf
from gradfeed import errors
from gradfeed.graph import traversal
from gradfeed.rewriting import functionalization
from tests.testing import flows

_STEP = 1e-6


def _frozen(graph):
  """The graph as a file has it, without contexts and the shapes in loops."""
  frozen = tf.Graph()
  with frozen.as_default():
    tf.import_graph_def(graph.as_graph_def(), name="")
  return frozen


def _loop(body, start, turns):
  """`body` applied `turns` times to `start`."""
  return tf.while_loop(lambda i, a: i < turns,
                       lambda i, a: (i + 1, body(a)), [0, start])[1]


def _recurrent(x, lengths):
  """An LSTM over the time axis of x, shape [batch, time, 2]."""
  outputs, (_, state) = tf.nn.dynamic_rnn(_Cell(), x, lengths, dtype=x.dtype)
  return tf.reduce_sum(outputs, 1) * state


class _Cell:
  """A small LSTM; TensorFlow's own is gone where Keras 3 is."""

  output_size = 2
  state_size = (2, 2)

  def zero_state(self, batch_size, dtype):
    zero = tf.zeros(tf.stack([batch_size, 2]), dtype)
    zero.set_shape([tf.get_static_value(batch_size), 2])
    return zero, zero

  def __call__(self, inputs, state, scope=None):
    c, h = state
    kernel = tf.constant(np.cos(np.arange(32.)).reshape([4, 8]), inputs.dtype)
    i, j, f, o = tf.split(tf.matmul(tf.concat([inputs, h], 1), kernel), 4, 1)
    c = c * tf.sigmoid(f + 1.) + tf.sigmoid(i) * tf.tanh(j)
    h = tf.tanh(c) * tf.sigmoid(o)
    return h, (c, h)


def _nodes(ops):
  """The NodeDefs of `ops`, with their inputs named in full."""
  nodes = []
  for op in ops:
    node = op.node_def
    del node.input[:]
    node.input.extend([t.name for t in op.inputs])
    node.input.extend("^" + before.name for before in op.control_inputs)
    nodes.append(node)
  return nodes


def _functional(graph, x, y):
  """A graph of x, y, dy/dx and its gradient, with `y` in functional form.

  Args:
    graph: `tf.Graph`.
    x: name of the placeholder.
    y: name of a tensor.

  Returns:
    (`tf.Graph`, dict from "x", "y", "dx", "ddx" to name; "ddx" is the gradient
    of the sum of the squares of dx).
  """
  x = graph.get_tensor_by_name(x)
  found = traversal.ancestors([graph.get_tensor_by_name(y)], {x.name})
  nodes = _nodes(found.values())
  made = _tf.scratch_graph()
  with made.as_default():
    new_x = tf.placeholder(x.dtype, x.shape)
    tensors = functionalization.emit(
        nodes, {x.name: new_x},
        lambda name: graph.get_tensor_by_name(name).shape,
        graph.as_graph_def().library.function)
    new_y = tensors[y]
    dx = tf.gradients(new_y, new_x)[0]
    ddx = tf.gradients(tf.square(dx), new_x)[0]
    names = {"x": new_x.name, "y": new_y.name, "dx": dx.name}
    if ddx is not None:
      names["ddx"] = ddx.name
  exported = tf.Graph()
  with exported.as_default():
    tf.import_graph_def(made.as_graph_def(), name="")
  return exported, names


def _second(run, value):
  """The gradient of the sum of squares of dx, by central differences.

  Args:
    run: function from a value of x to [y, dx].
    value: float64 array.
  """
  result = np.zeros_like(value)
  for index in np.ndindex(*value.shape):
    step = np.zeros_like(value)
    step[index] = _STEP
    up = np.sum(np.square(run(value + step)[1]))
    down = np.sum(np.square(run(value - step)[1]))
    result[index] = (up - down) / (2. * _STEP)
  return result


class FunctionalTest(parameterized.TestCase):
  """Values and derivatives against those of control flow v1."""

  def check(self, build, *points, shape=(3,), has_second=True):
    """Holds the functional form of `build(x)` against the form that it has.

    Args:
      build: function from a placeholder to a tensor.
      *points: values of the placeholder.
      shape: the placeholder's.
      has_second: bool, whether to look at the second gradient.
    """
    graph = tf.Graph()
    with graph.as_default(), flows.control_flow(1):
      x = tf.placeholder(tf.float64, shape, name="x")
      y = tf.identity(build(x), name="y")
      frozen = _frozen(graph)
      dx = tf.convert_to_tensor(tf.gradients(y, x)[0])
    points = [np.asarray(point, np.float64) for point in points]
    with tf.Session(graph=graph) as session:
      run = session.make_callable([y, dx], [x])
      expected = [run(point) + ([_second(run, point)] if has_second else [])
                  for point in points]
    for original in (graph, frozen):
      exported, names = _functional(original, "x:0", "y:0")
      self.assertFalse(
          functionalization.is_needed(exported.as_graph_def().node))
      fetches = [names[name] for name in ("y", "dx", "ddx")[:2 + has_second]
                 if name in names]
      with tf.Session(graph=exported) as session:
        for point, wanted in zip(points, expected):
          got = session.run(fetches, {names["x"]: point})
          np.testing.assert_allclose(got[0], wanted[0], rtol=1e-12)
          np.testing.assert_allclose(got[1], wanted[1], rtol=1e-11)
          if not has_second:
            continue
          if "ddx" in names:
            np.testing.assert_allclose(got[2], wanted[2], rtol=1e-5, atol=1e-6)
          else:
            np.testing.assert_allclose(wanted[2], 0.)

  def test_loop(self):
    self.check(lambda x: _loop(lambda a: a * a, x, 3), [1., .5, 1.2])

  def test_loop_that_makes_no_turn(self):
    self.check(lambda x: x * _loop(lambda a: a * x, x, 0), [1., .5, 1.2])

  def test_loop_of_several_variables_and_an_invariant(self):
    def build(x):
      h = tf.exp(x)
      results = tf.while_loop(
          lambda i, a, b: tf.reduce_sum(a) < 40.,
          lambda i, a, b: (i + 1, a * h + b, tf.sin(b) + a), [0, x, 2. * x])
      return results[1] * tf.cast(results[0], tf.float64) + results[2]
    self.check(build, [1., .5, 1.2], [.3, .2, .1])

  def test_variable_that_is_not_a_result(self):
    self.check(lambda x: tf.while_loop(
        lambda i, a, b: i < 3, lambda i, a, b: (i + 1, a * b, b + a),
        [0, x, tf.cos(x)])[2], [1., .5, 1.2])

  def test_results_that_swap(self):
    self.check(lambda x: tf.while_loop(
        lambda i, a, b: i < 3, lambda i, a, b: (i + 1, b, a * b),
        [0, x, tf.cos(x)])[1], [1., .5, 1.2])

  @parameterized.named_parameters(
      # TensorFlow itself takes the shape of the first turn for that of all
      # when it simplifies the second gradient of a shape that is known.
      ("_known", (3,), False), ("_unknown", (None,), True))
  def test_loop_over_a_shape_that_grows(self, shape, has_second):
    self.check(lambda x: tf.reduce_prod(tf.while_loop(
        lambda i, a: i < 3, lambda i, a: (i + 1, tf.concat([a, x * a[:3]], 0)),
        [0, x], [tf.TensorShape([]), tf.TensorShape([None])])[1]),
               [1., .5, 1.2], shape=shape, has_second=has_second)

  def test_loop_over_a_batch_of_unknown_size(self):
    self.check(lambda x: _loop(lambda a: tf.tanh(a) * x, x, 3),
               np.ones([2, 3]) * .3, np.ones([4, 3]) * .7, shape=(None, 3))

  def test_shape_that_only_python_knows(self):
    def turn(a):
      a = tf.reshape(a * a, tf.concat([tf.shape(a)[:1]], 0))
      a.set_shape([3])
      return a
    self.check(lambda x: _loop(turn, x, 2), [1., .5, 1.2])

  def test_loop_over_a_truth_value(self):
    self.check(lambda x: tf.while_loop(
        lambda a, p: tf.reduce_all(p), lambda a, p: (
            a * x, tf.logical_and(p, a < 9.)), [x, x > 0.])[0], [1.5, 1.7, 2.])

  def test_nested_loops(self):
    self.check(lambda x: _loop(lambda a: a + _loop(
        lambda b: tf.sin(b) * x + a, a, 2), x, 3), [1., .5, 1.2])

  def test_loop_of_two_loops(self):
    def turn(a):
      b = _loop(lambda b: b * x_of[0], a, 2)
      return _loop(lambda c: tf.sin(c) + b, b, 2)
    x_of = []
    def build(x):
      x_of[:] = [x]
      return _loop(turn, x, 2)
    self.check(build, [1., .5, 1.2])

  def test_branches(self):
    self.check(lambda x: tf.cond(
        x[0] > .6, lambda: x * x * x, lambda: tf.sin(x)),
               [1., .5, 1.2], [.5, 1., 2.])

  def test_branch_that_returns_what_is_outside(self):
    def build(x):
      h = x * x
      return tf.cond(x[0] > .6, lambda: h, lambda: x) * tf.cond(
          x[0] > .6, lambda: tf.constant(2., tf.float64), lambda: h[0])
    self.check(build, [1., .5, 1.2], [.5, 1., 2.])

  def test_nested_branches(self):
    def inner(x):
      return tf.cond(x[1] > .6, lambda: tf.exp(x), lambda: x * x[0])
    self.check(lambda x: tf.cond(x[0] > .6, lambda: inner(x) * x, lambda: (
        tf.cond(x[2] > 1., lambda: inner(tf.sin(x)), lambda: x * 3.))),
               [1., .5, 1.2], [1., .7, 1.2], [.5, 1., 2.], [.5, .1, 2.],
               [.5, .1, .2])

  def test_branches_that_share_a_predicate(self):
    def build(x):
      p = x[0] > .6
      for _ in range(3):
        a, b = tf.cond(p, lambda x=x: (x * x, tf.sin(x)),
                       lambda x=x: (x, x * x[1]))
        x = tf.tanh(a) * b
      return tf.cond(p, lambda: tf.cond(p, lambda: x * x, lambda: x),
                     lambda: tf.cond(p, lambda: x, lambda: 3. * x * x))
    self.check(build, [1., .5, 1.2], [.5, 1., 2.])

  def test_cases(self):
    self.check(lambda x: tf.case([
        (x[0] > 1., lambda: x * x), (x[1] > 1., lambda: tf.sin(x))],
                                 default=lambda: x * x * x),
               [2., .5, 1.2], [.5, 2., 2.], [.5, .5, .5])

  def test_branch_that_is_not_a_number_where_it_is_not_taken(self):
    self.check(lambda x: tf.cond(
        tf.reduce_all(x > 0.), lambda: tf.sqrt(x) / x,
        lambda: tf.zeros_like(x) + x), [1., .5, 1.2], [0., 0., 0.])

  def test_loop_in_a_branch(self):
    self.check(lambda x: tf.cond(
        x[0] > .6, lambda: _loop(lambda a: a * x, x, 2),
        lambda: _loop(tf.sin, 2. * x, 2) * x), [1., .5, 1.2], [.5, 1., 2.])

  def test_branch_in_a_loop(self):
    def build(x):
      h = tf.sin(x)
      return _loop(lambda a: tf.cond(a[0] > .6, lambda: a * h, lambda: a + x),
                   x, 4)
    self.check(build, [1., .5, 1.2], [.5, 1., 2.])

  def test_branch_in_a_loop_on_a_predicate_from_outside(self):
    def build(x):
      p = x[0] > .6
      return tf.cond(p, lambda: _loop(lambda a: tf.cond(
          p, lambda: a * x, lambda: a), x, 2), lambda: _loop(
              lambda a: tf.cond(p, lambda: a, lambda: tf.sin(a)), x, 2))
    self.check(build, [1., .5, 1.2], [.5, 1., 2.])

  def test_loop_in_a_branch_in_a_loop(self):
    self.check(lambda x: _loop(lambda a: tf.cond(
        a[0] > .6, lambda: _loop(lambda b: tf.cond(
            b[1] > .9, lambda: b * x, lambda: b + a), a, 2),
        lambda: a * 2.), x, 3), [1., .5, 1.2], [.2, 1., 2.])

  def test_assertions(self):
    def build(x):
      with tf.control_dependencies([
          tf.assert_positive(x), tf.Assert(x[0] < 9., [x])]):
        x = x * x
      def turn(a):
        with tf.control_dependencies([tf.assert_positive(a)]):
          return a * x
      return _loop(turn, x, 2)
    self.check(build, [1., .5, 1.2])

  def test_random_numbers_of_one_branch_are_drawn_once(self):
    def build(x):
      def draw():
        r = tf.random.uniform([3], dtype=tf.float64)
        return x * r, x * r * r
      a, b = tf.cond(x[0] > .6, draw, lambda: (x, x))
      return a * a / b
    self.check(build, [1., .5, 1.2], [.5, 1., 2.])


class ArrayTest(parameterized.TestCase):
  """Tensor arrays become lists."""

  check = FunctionalTest.check

  def test_map(self):
    self.check(lambda x: tf.map_fn(lambda a: tf.sin(a) * x, x), [1., .5, 1.2])

  def test_map_over_several(self):
    self.check(lambda x: tf.map_fn(
        lambda ab: ab[0] * ab[1][0], (x, tf.stack([x * x, x], 1)),
        dtype=tf.float64), [1., .5, 1.2])

  def test_scan(self):
    self.check(lambda x: tf.scan(lambda a, b: tf.sin(a) * b, x), [1., .5, 1.2])

  def test_scan_of_rows_of_unknown_number(self):
    self.check(lambda x: tf.scan(lambda a, b: tf.sin(a) * b, x),
               np.ones([2, 3]) * .3, np.ones([4, 3]) * .7, shape=(None, 3))

  def test_fold(self):
    self.check(lambda x: tf.foldl(lambda a, b: tf.sin(a) + a * b, x)
               + tf.foldr(lambda a, b: tf.sin(a) + a * b, x), [1., .5, 1.2])

  def test_map_in_a_map(self):
    self.check(lambda x: tf.map_fn(lambda a: tf.map_fn(
        lambda b: a * tf.sin(b), x), x), [1., .5, 1.2])

  def test_map_in_a_branch(self):
    self.check(lambda x: tf.cond(
        x[0] > .6, lambda: tf.map_fn(tf.sin, x), lambda: tf.scan(
            lambda a, b: a * b, x)), [1., .5, 1.2], [.5, 1., 2.])

  def test_branch_that_writes(self):
    def build(x):
      array = tf.TensorArray(tf.float64, 3)
      def turn(i, array):
        return i + 1, tf.cond(x[i] > .6, lambda: array.write(i, x[i] * x[0]),
                              lambda: array.write(i, tf.sin(x[i])))
      return tf.while_loop(lambda i, _: i < 3, turn, [0, array])[1].stack()
    self.check(build, [1., .5, 1.2])

  def test_array_that_grows(self):
    def build(x):
      array = tf.TensorArray(tf.float64, 0, dynamic_size=True)
      array = tf.while_loop(
          lambda i, a, _: tf.reduce_sum(a) < 9.,
          lambda i, a, array: (i + 1, a + x, array.write(i, a * a)),
          [0, x, array])[2]
      return array.stack() * tf.cast(array.size(), tf.float64)
    self.check(build, [1., .5, 1.2])

  def test_single_writes_and_reads(self):
    def build(x):
      array = tf.TensorArray(tf.float64, 3, clear_after_read=False)
      array = array.write(0, x).write(1, x * x).write(2, tf.sin(x))
      return array.read(0) * array.read(1) + array.gather([2, 1])
    self.check(build, [1., .5, 1.2])

  def test_all_elements_and_their_number(self):
    def build(x):
      array = tf.TensorArray(tf.float64, 3, clear_after_read=False).unstack(
          x * x)
      return array.stack() * tf.cast(array.size(), tf.float64) * array.read(1)
    self.check(build, [1., .5, 1.2])
    self.check(build, [1., .5, 1.2], shape=(None,))

  def test_elements_of_different_shapes(self):
    def build(x):
      array = tf.TensorArray(tf.float64, 2, infer_shape=False)
      array = array.write(0, x[:2] * x[0]).write(1, x * x)
      return array.concat() * x[0]
    self.check(build, [1., .5, 1.2])

  def test_split(self):
    def build(x):
      array = tf.TensorArray(tf.float64, 3, clear_after_read=False).split(
          tf.concat([x, x * x], 0), [2, 2, 2])
      return array.read(0) * array.read(2) + array.concat()[1:3]
    self.check(build, [1., .5, 1.2])

  @parameterized.named_parameters(("_whole", False), ("_lengths", True))
  def test_recurrent_network(self, has_lengths):
    self.check(lambda x: _recurrent(x, tf.constant([2, 3, 1, 3])
                                    if has_lengths else None),
               np.linspace(-1., 1., 24).reshape([4, 3, 2]), shape=(4, 3, 2))

  @parameterized.named_parameters(("_whole", False), ("_lengths", True))
  def test_recurrent_network_of_unknown_size(self, has_lengths):
    self.check(lambda x: _recurrent(x, tf.minimum(
        tf.range(tf.shape(x)[0]) + 1, 3) if has_lengths else None),
               np.linspace(-1., 1., 24).reshape([4, 3, 2]),
               shape=(None, None, 2))


class EmitTest(parameterized.TestCase):
  """What is read in the place of a tensor, order, functions, names."""

  def emit(self, graph, y, values, made):
    """`functionalization.emit` of what `y` needs, in `made`."""
    found = traversal.ancestors([y], set(values))
    with made.as_default():
      tensors = functionalization.emit(
          _nodes(found.values()),
          {name: tf.constant(value, tf.float64)
           for name, value in values.items()},
          lambda name: graph.get_tensor_by_name(name).shape,
          graph.as_graph_def().library.function)
    return tensors

  def run_in(self, made, name):
    with tf.Graph().as_default(), tf.Session() as session:
      tf.import_graph_def(made.as_graph_def(), name="")
      return session.run(name)

  def evaluate(self, graph, y, values):
    made = _tf.scratch_graph()
    return self.run_in(made, self.emit(graph, y, values, made)[y.name].name)

  def test_value_of_another_size(self):
    with tf.Graph().as_default() as graph, flows.control_flow(1):
      x = tf.placeholder(tf.float64, [1, 3])
      array = tf.TensorArray(tf.float64, 1).write(
          0, _loop(lambda a: a * x, x, 2))
      y = tf.reduce_prod(array.stack(), [0, 2])
    np.testing.assert_allclose(
        self.evaluate(graph, y, {x.name: [[1., 2., 3.], [2., 1., 1.]]}),
        [216., 8.])

  def test_shape_of_what_only_python_knows(self):
    with tf.Graph().as_default() as graph, flows.control_flow(1):
      x = tf.placeholder(tf.float64, [3])
      def turn(a):
        a = tf.boolean_mask(a, a > 0.)
        a.set_shape([3])
        return a
      y = _loop(turn, x, 2)
    tensors = self.emit(graph, y, {x.name: [1., 2., 3.]}, _tf.scratch_graph())
    self.assertEqual(tensors[y.name].shape.as_list(), [3])

  def test_size_of_an_array_that_is_not_full(self):
    with tf.Graph().as_default() as graph, flows.control_flow(1):
      x = tf.placeholder(tf.float64, [3])
      array = tf.TensorArray(tf.float64, 5).unstack(x)
      y = tf.cast(array.size(), tf.float64) + array.write(3, x[0]).read(3)
    self.assertEqual(self.evaluate(graph, y, {x.name: [1., 2., 3.]}), 6.)

  def test_random_number_of_results_that_come_at_different_times(self):
    with tf.Graph().as_default() as graph, flows.control_flow(1):
      x = tf.placeholder(tf.float64, [])
      h = _loop(lambda a: a * x, x, 1)
      def draw():
        r = tf.random.uniform([], dtype=tf.float64)
        return x * r, h * r
      a, b = tf.cond(x > 1., draw, lambda: (x, x))
      y = b / a
    self.assertAlmostEqual(self.evaluate(graph, y, {x.name: 3.}), 3.)

  def test_merge_in_the_other_order(self):
    with tf.Graph().as_default() as graph, flows.control_flow(1):
      x = tf.placeholder(tf.float64, [])
      no, yes = tf.raw_ops.Switch(data=x, pred=x > 1.)
      y = tf.raw_ops.Merge(inputs=[yes * 2., no * 3.]).output
    self.assertEqual(self.evaluate(graph, y, {x.name: 2.}), 4.)
    self.assertEqual(self.evaluate(graph, y, {x.name: 1.}), 3.)

  def test_value_in_a_branch(self):
    with tf.Graph().as_default() as graph, flows.control_flow(1):
      x = tf.placeholder(tf.float64, [])
      inside = []
      def branch():
        inside.append(x * 2.)
        return tf.identity(inside[0])
      y = tf.cond(x > 1., branch, lambda: -x)
    for value, expected in ((2., 9.), (.5, -.5)):
      self.assertEqual(self.evaluate(
          graph, y, {x.name: value,
                     inside[0].name: 9.}), expected)

  def test_value_that_a_branch_returns(self):
    with tf.Graph().as_default() as graph, flows.control_flow(1):
      x = tf.placeholder(tf.float64, [])
      y = tf.cond(x > 1., lambda: x * 2., lambda: -x)
    result, = [t.name for t in y.op.inputs if "mul" in t.name]
    for value, expected in ((2., 9.), (.5, -.5)):
      self.assertEqual(self.evaluate(
          graph, y, {x.name: value,
                     result: 9.}), expected)

  def test_order_is_kept(self):
    with tf.Graph().as_default() as graph, flows.control_flow(1):
      x = tf.placeholder(tf.float64, [])
      check = tf.raw_ops.Assert(condition=x < 9., data=[x])
      with tf.control_dependencies([check]):
        y = tf.identity(_loop(tf.sin, x, 1))
    self.assertEqual(self.evaluate(graph, y, {x.name: 0.}), 0.)
    with self.assertRaises(tf.errors.InvalidArgumentError):
      self.evaluate(graph, y, {x.name: 10.})

  def test_functions(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, [])
      with flows.control_flow(2):
        h = tf.cond(x > 1., lambda: _loop(lambda a: a * x, x, 2), lambda: x)
      with flows.control_flow(1):
        def turn(a):
          with flows.control_flow(2):
            return tf.cond(a > 30., lambda: a, lambda: a * h)
        y = _loop(turn, h, 3)
    self.assertEqual(self.evaluate(graph, y, {x.name: 2.}), 64.)
    self.assertEqual(self.evaluate(graph, y, {x.name: .5}), .0625)

  def test_twice_in_one_graph(self):
    with tf.Graph().as_default() as graph, flows.control_flow(1):
      x = tf.placeholder(tf.float64, [])
      y = _loop(tf.square, x, 2)
    made = _tf.scratch_graph()
    first, second = [
        self.emit(graph, y, {x.name: value}, made)[y.name].name
        for value in (2., 3.)]
    self.assertEqual(self.run_in(made, first), 16.)
    self.assertEqual(self.run_in(made, second), 81.)

  def test_names_of_what_is_outside(self):
    with tf.Graph().as_default() as graph, flows.control_flow(1):
      x = tf.placeholder(tf.float64, [])
      h = tf.sin(x)
      a, b = tf.cond(x > 1., lambda: (h * x, h), lambda: (h, x))
      y = _loop(lambda c: c * b, a, 2)
      z = y + h
    tensors = self.emit(graph, z, {x.name: 2.},
                        _tf.scratch_graph())
    self.assertContainsSubset(
        {t.name for t in (h, a, b, y, z)}, set(tensors))
    self.assertNotIn(x.name, tensors)
    for name in tensors:
      op = graph.get_tensor_by_name(name).op
      self.assertNotIn(op.type, ("Switch", "Enter", "NextIteration"))

  def test_one_op_for_one_branch(self):
    with tf.Graph().as_default() as graph, flows.control_flow(1):
      x = tf.placeholder(tf.float64, [])
      a, b = tf.cond(x > 1., lambda: (x * x, x), lambda: (x, x + x))
      y = a + b
    made = _tf.scratch_graph()
    self.emit(graph, y, {x.name: 2.}, made)
    kinds = [op.type for op in made.get_operations()]
    self.assertLen([kind for kind in kinds if kind.endswith("If")], 1)


class RefusalTest(parameterized.TestCase):
  """Errors name the op that has no functional form."""

  def check(self, build, pattern):
    graph = tf.Graph()
    with graph.as_default(), flows.control_flow(1):
      x = tf.placeholder(tf.float64, [3], name="x")
      y = build(x)
    found = traversal.ancestors([y], {x.name})
    with _tf.scratch_graph().as_default():
      new_x = tf.placeholder(x.dtype, x.shape)
      with self.assertRaisesRegex(errors.UnsupportedGraphError, pattern):
        functionalization.emit(
            _nodes(found.values()), {x.name: new_x},
            lambda name: graph.get_tensor_by_name(name).shape)

  def test_gradient_of_a_loop(self):
    self.check(lambda x: tf.gradients(_loop(lambda a: a * a, x, 3), x)[0],
               "Stack")

  def test_gradient_of_an_array(self):
    self.check(lambda x: tf.gradients(tf.TensorArray(tf.float64, 3).unstack(
        x * x).stack(), x)[0], "TensorArrayGradV3 '")

  def test_scatter_in_another_order(self):
    self.check(lambda x: tf.TensorArray(tf.float64, 3).scatter(
        [2, 0, 1], x).stack(), "TensorArrayScatterV3 '")

  def test_scatter_after_a_write(self):
    self.check(lambda x: tf.TensorArray(tf.float64, 4).write(3, x[0]).unstack(
        x).stack(), "TensorArrayScatterV3 '")

  def test_index_of_a_merge(self):
    def build(x):
      no, yes = tf.raw_ops.Switch(data=x, pred=x[0] > 0.)
      return -tf.raw_ops.Merge(inputs=[no, yes], name="joint").value_index
    self.check(build, "Merge 'joint'")

  def test_merge_without_branches(self):
    self.check(lambda x: tf.raw_ops.Merge(inputs=[x, 2. * x],
                                          name="joint").output, "'joint'")


class IsNeededTest(parameterized.TestCase):
  """`is_needed` sees control flow v1 and tensor arrays, and nothing else."""

  @parameterized.named_parameters(
      ("_loop", True, lambda x: _loop(tf.sin, x, 2)),
      ("_branch", True, lambda x: tf.cond(x > 0., lambda: x, lambda: 2. * x)),
      ("_array", True, lambda x: tf.TensorArray(tf.float64, 1).write(
          0, x).read(0)),
      ("_neither", False, tf.sin))
  def test_control_flow_1(self, expected, build):
    with tf.Graph().as_default() as graph, flows.control_flow(1):
      build(tf.placeholder(tf.float64, []))
    self.assertEqual(
        functionalization.is_needed(graph.as_graph_def().node), expected)

  def test_control_flow_2(self):
    with tf.Graph().as_default() as graph, flows.control_flow(2):
      x = tf.placeholder(tf.float64, [])
      tf.cond(x > 0., lambda: _loop(tf.sin, x, 2), lambda: 2. * x)
    self.assertFalse(functionalization.is_needed(graph.as_graph_def().node))
