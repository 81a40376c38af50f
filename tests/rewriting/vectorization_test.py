"""Scratch graphs: what moves back, and that both ways give the same."""

import logging
import unittest.mock

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from gradfeed._tf import parallel_for
from gradfeed.graph import traversal
from gradfeed.rewriting import subgraphs
from gradfeed.rewriting import vectorization
from tests.testing import flows
from tests.testing import graphs


class ScratchTest(graphs.GraphTest):

  def _mapped(self, y, x, values, chunk=None):
    """`y` with each row of `values` in the place of `x`."""
    found = traversal.ancestors([y], cut={x.name})
    part = subgraphs.dependent_ops(found, {x.name})
    with _tf.building(self.graph):
      stack = tf.constant(values)
    scratch = vectorization.ScratchGraph(self.graph)
    with scratch.building():
      pick = scratch.row_reader(stack, 0)

      def body(i):
        row = tf.reshape(pick(i), values.shape[1:])
        return [scratch.copy(part, found, {x.name: row}, "body")(y.name)]

      result = scratch.map_rows(body, len(values), chunk)
    with _tf.building(self.graph):
      return scratch.export(result, "mapped")[0]

  @parameterized.named_parameters(
      ("all", None), ("two", 2), ("one", 1), ("many", 9))
  def test_gives_the_value_for_each(self, chunk):
    x = tf.placeholder(tf.float64, [2])
    w = tf.constant([[1.0, 2.0], [3.0, 4.0]], tf.float64)
    y = tf.sin(tf.linalg.matvec(w, x))
    values = np.random.RandomState(0).normal(size=[5, 2])
    mapped = self._mapped(y, x, values, chunk)
    np.testing.assert_allclose(self.session.run(mapped), np.sin(
        values.dot([[1.0, 3.0], [2.0, 4.0]])))

  def test_ops_stand_in_the_graph_of_the_user_and_nothing_else(self):
    x = tf.placeholder(tf.float64, [2])
    y = tf.sin(x) * 2.0
    before = {op.name for op in self.graph.get_operations()}
    self._mapped(y, x, np.ones([3, 2]))
    added = [op for op in self.graph.get_operations()
             if op.name not in before]
    self.assertEmpty([op.name for op in added
                      if not op.name.startswith("gradfeed/")])
    self.assertEmpty([op.name for op in added
                      if op.type.startswith("Placeholder")])

  def test_what_waited_still_waits(self):
    with tf.device("/cpu:0"):
      v = tf.Variable(1.0, dtype=tf.float64, use_resource=True)
    x = tf.placeholder(tf.float64, [])
    with tf.control_dependencies([v.assign_add(1.0)]):
      y = tf.multiply(x, x)
    mapped = self._mapped(y, x, np.array([2.0, 3.0]))
    self.initialize()
    np.testing.assert_array_equal(self.session.run(mapped), [4.0, 9.0])
    self.assertEqual(self.session.run(v), 2.0)

  def test_an_attempt_that_fails_leaves_nothing_and_says_nothing(self):
    x = tf.placeholder(tf.float64, [None, 3])
    y = tf.tanh(x) * x
    counts = []

    def fails(body, count):
      body(count)
      logging.getLogger("tensorflow").error("never")
      raise NotImplementedError("no converter")

    for way in (None, fails):
      with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float64, [None, 3])
        y = tf.tanh(x) * x
        before = len(graph.get_operations())
        # pylint: disable-next=protected-access
        taken = way or vectorization._vectorized_at_once
        with unittest.mock.patch.object(vectorization, "_vectorized_at_once",
                                        taken):
          gf.jacobian(y, x)
        counts.append(len(graph.get_operations()) - before)
    self.assertLess(counts[1], counts[0] + 30)

  def test_where_neither_way_is_there(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    y = x * x
    before = self.count()

    def fail(*unused):
      raise ValueError("Shapes do not fit.")

    with unittest.mock.patch.object(vectorization, "_vectorized_at_once", fail):
      with unittest.mock.patch.object(_tf, "map_rows_in_loop", fail):
        with self.assertRaisesRegex(
            gf.UnsupportedGraphError, "Shapes do not fit.*\n.*vjp"):
          gf.jacobian(y, x)
    self.assertEmpty([op.name for op in self.graph.get_operations()[before:]
                      if "jacobian" in op.name])

  def test_what_parallel_for_says_of_its_failures_is_left_out(self):
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger("tensorflow")
    logger.addHandler(handler)
    try:
      with parallel_for._quiet():  # pylint: disable=protected-access
        record = logger.makeRecord(
            "tensorflow", logging.ERROR, "/a/parallel_for/pfor.py", 1,
            "cannot convert", (), None)
        logger.handle(record)
        logger.error("another")
      logger.handle(record)
    finally:
      logger.removeHandler(handler)
    self.assertEqual([r.getMessage() for r in records],
                     ["another", "cannot convert"])

  def test_what_is_vectorized_wrongly_runs_in_a_loop(self):
    # Of a gather from a list, the vectorized form mixes up the axes.
    x = tf.placeholder(tf.float64, [3, 2])
    with flows.control_flow(2):
      array = tf.TensorArray(tf.float64, 3)
      y = array.scatter([2, 0, 1], x * x).gather([1, 0]) if (
          _tf.IS_TF2) else tf.gather(x * x, [2, 1])
    at = np.random.RandomState(0).normal(size=[3, 2])
    expected = np.zeros([2, 2, 3, 2])
    for row, source in enumerate((2, 1)):
      for column in range(2):
        expected[row, column, source, column] = 2.0 * at[source, column]
    np.testing.assert_allclose(
        self.session.run(gf.jacobian(y, x), {x: at}), expected)

  @parameterized.named_parameters(
      ("rows", [0, 3], [3, 2]), ("columns", [4, 3], [3, 0]),
      ("inner", [4, 0], [0, 2]))
  def test_products_of_matrices_without_elements(self, left, right):
    a = tf.placeholder(tf.float64, [None, None])
    b = tf.placeholder(tf.float64, [None, None])
    y = tf.matmul(a, b)
    at = {a: np.ones(left), b: np.ones(right)}
    shape = (left[0], right[1])
    by_a, by_b = self.session.run(gf.jacobian(y, [a, b]), at)
    self.assertEqual(by_a.shape, shape + tuple(left))
    self.assertEqual(by_b.shape, shape + tuple(right))

  def test_a_function_in_a_loop_of_chunks(self):
    x = tf.placeholder(tf.float64, [3])
    with flows.control_flow(2):
      y = tf.cond(tf.reduce_sum(x) > 0.0, lambda: x ** 3, lambda: x)
    j = gf.jacobian(y, x, chunk=2)
    np.testing.assert_allclose(self.session.run(
        j, {x: [1.0, 2.0, 3.0]}), np.diag([3.0, 12.0, 27.0]))
