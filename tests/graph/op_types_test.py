"""The tables of op types, where several packages go by one of them."""

import collections

import tensorflow.compat.v1 as tf

from gradfeed import _tf
from gradfeed.checking import held_constants
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.rewriting import vectorization
from tests.testing import graphs



class _Place(collections.namedtuple("_Place", ["xs", "cut"])):
  """Stands for an `evaluation_points.EvaluationPoint` where nothing is fed."""

  def folded(self, unused_targets, unused_ops):
    return None

  def ops_run(self, targets):
    return traversal.ancestors(targets, self.cut), None


class TablesTest(graphs.GraphTest):

  def test_every_type_is_one_of_tensorflow(self):
    if not _tf.IS_TF2:
      self.skipTest("Some types are younger than this version.")
    tables = [table for name, table in vars(op_types).items()
              if name.isupper() and isinstance(table, (tuple, frozenset))]
    self.assertGreater(len(tables), 15)
    for name in sorted({name for table in tables for name in table}):
      self.assertIsNotNone(_tf.op_definition(self.graph, name), name)

  def test_an_op_that_calls_functions_is_of_one_kind(self):
    self.assertSetEqual(
        op_types.FUNCTIONAL_BRANCHES,
        {"If", "StatelessIf", "Case", "StatelessCase"})
    for name, call in op_types.FUNCTION_CALLS.items():
      self.assertEqual(
          call.first_argument, int(name in op_types.FUNCTIONAL_BRANCHES))


class RandomTest(graphs.GraphTest):

  def test_every_op_that_has_a_seed_and_computes_numbers_draws_them(self):
    by_seed = set()
    for name in dir(tf.raw_ops):
      op_def = _tf.op_definition(self.graph, name)
      if op_def is not None and {"seed", "seed2"} <= {
          attribute.name for attribute in op_def.attr}:
        by_seed.add(name)
    # Dropout in cuDNN is a setting, a data set is no numbers, and the other
    # one looks for what a sampler has drawn.
    others = {name for name in by_seed if name.startswith("CudnnRNN") or (
        name.endswith("Dataset")) or name == "ComputeAccidentalHits"}
    self.assertGreater(len(by_seed - others), 15)
    for name in sorted(by_seed):
      self.assertEqual(bool(op_types.RANDOM.search(name)), name not in others,
                       name)

  def test_what_reads_or_moves_a_generator_draws(self):
    for name in ("NonDeterministicInts", "RngReadAndSkip", "RngSkip",
                 "StatefulStandardNormalV2", "StatefulUniformInt"):
      self.assertTrue(op_types.RANDOM.search(name), name)

  def test_what_has_its_numbers_given_does_not(self):
    for name in ("FractionalMaxPoolGrad", "RandomGammaGrad",
                 "StatelessRandomUniform", "StatelessTruncatedNormal",
                 "TruncateDiv"):
      self.assertFalse(op_types.RANDOM.search(name), name)


class ValueIndependentTest(graphs.GraphTest):

  def test_a_check_holds_nothing_because_of_the_size_of_an_array(self):
    x = tf.placeholder(tf.float64, [3], name="x")
    size = tf.TensorArray(x.dtype, 3, dynamic_size=True).unstack(x).size()
    y = tf.reduce_sum(tf.square(x)) * tf.stop_gradient(
        tf.cast(size, tf.float64))
    held = held_constants.HeldConstants(
        _Place([tensors.Dense(x)], frozenset()), [y])
    self.assertEmpty(held.intended_stops)


class StateOfARunTest(graphs.GraphTest):

  def test_the_gradient_of_an_array_is_state(self):
    x = tf.placeholder(tf.float64, [3], name="x")
    before = len(self.graph.get_operations())
    y = tf.TensorArray(x.dtype, 3).unstack(x).read(1)
    tf.gradients(y, x)
    ops = [op for op in self.graph.get_operations()[before:]
           if op.type.startswith("TensorArrayGrad")]
    if ops:  # Control flow v2 has lists in the place of arrays.
      self.assertFalse(vectorization.is_plain(ops))

  def test_stacks_of_old_graphs_are_loops(self):
    for name in ("StackPop", "StackPush"):
      self.assertIn(name, op_types.LOOPS)
    self.assertFalse(effects.has_loop({}))
