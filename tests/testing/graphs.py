"""What tests of graphs have in common: a graph of their own, and variables."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

#: Both kinds of variable, as named parameters.
KINDS = (("ref", False), ("resource", True))


def variable(name, value, use_resource, partitioner=None):
  """A float64 variable of either kind.

  Args:
    name: str.
    value: array-like, its initial value.
    use_resource: bool.
    partitioner: as in `tf.get_variable`, or None.
  """
  value = np.asarray(value, np.float64)

  def initialize(shape, dtype=None, partition_info=None):
    part = tf.constant(value, dtype)
    return part if partitioner is None else tf.slice(
        part, partition_info.var_offset, shape)

  return tf.get_variable(
      name, shape=value.shape, dtype=tf.float64, use_resource=use_resource,
      initializer=initialize, partitioner=partitioner)


class GraphTest(parameterized.TestCase):
  """A graph and a session for each test."""

  def setUp(self):
    super().setUp()
    self.graph = tf.Graph()
    self.enter_context(self.graph.as_default())
    self.session = self.enter_context(tf.Session())

  def initialize(self):
    self.session.run(tf.global_variables_initializer())

  def count(self):
    return len(self.graph.get_operations())

  def leaves(self, structure):
    """The leaves of lists, tuples and dicts, in their own order."""
    if isinstance(structure, dict):
      structure = list(structure.values())
    if not isinstance(structure, (list, tuple)):
      return [structure]
    return [leaf for child in structure for leaf in self.leaves(child)]
