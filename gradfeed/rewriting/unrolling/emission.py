"""Makes the ops of a copy, one after the other, with the shapes that they have.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.branches import constant_values
from gradfeed.rewriting.unrolling import products
from gradfeed.rewriting.unrolling import values as kinds

#: How much memory the tensors of a copy may take, all together. TensorFlow runs
#: all turns that do not wait for each other side by side, where a loop keeps to
#: its `parallel_iterations`; and where tensors are large nothing is gained.
MOST_BYTES = 2 ** 26


class Emitter:
  """Makes ops in the default graph, each of them once.

  What is computed twice from the same tensors in the same way, as by an op in a
  loop that reads nothing of it, is there once.

  Attributes:
    count: int, how many ops were made.
  """

  def __init__(self, most_ops, most_bytes=MOST_BYTES, exchanges=False):
    """Makes nothing yet.

    Args:
      most_ops: int; `TooManyOps` is raised where there would be more.
      most_bytes: int; how much memory their results may take, all together.
      exchanges: bool; whether factors of products are exchanged, where that is
        faster with TensorFlow's own kernels.
    """
    self.count = 0
    self._exchanges = exchanges
    self._most_ops = most_ops
    self._most_bytes = most_bytes
    self._bytes = 0
    self._made = {}
    self._attributes = {}
    self._constants = {}

  def tensor(self, value, dtype):
    """The tensor that has a value.

    Args:
      value: array or `tf.Tensor`.
      dtype: `tf.DType`, of an array.
    """
    if isinstance(value, tf.Tensor):
      return value
    if not isinstance(value, np.ndarray):
      raise kinds.NotUnrolled("an op reads what is no tensor")
    key = dtype.base_dtype, constant_values.token(value)
    if key not in self._constants:
      self._count()
      self._constants[key] = tf.constant(
          value, dtype.base_dtype, value.shape, name="known")
    return self._constants[key]

  def copy(self, op, inputs):
    """The outputs of a copy of an op.

    Args:
      op: `tf.Operation`, of a graph or of the body of a function.
      inputs: list with the value of each input.

    Returns:
      list of `tf.Tensor`.
    """
    tensors = [self.tensor(value, t.dtype)
               for value, t in zip(inputs, op.inputs)]
    key = (op.graph, op.name) + tuple(t.name for t in tensors)
    if key not in self._made:
      self._count()
      self._made[key] = self._copied(op, tensors)
    return self._made[key]

  def _copied(self, op, tensors):
    with tf.device(op.device or None):
      outputs = self._new_outputs(op, tensors)
    for output, original in zip(outputs, op.outputs):
      if original.shape.is_compatible_with(output.shape):
        output.set_shape(original.shape)
      if output.shape.is_fully_defined():
        self._bytes += output.shape.num_elements() * output.dtype.size
    if self._bytes > self._most_bytes:
      raise kinds.NotUnrolled("its tensors take much memory")
    return outputs

  def _new_outputs(self, op, tensors):
    """The outputs of what is made to compute what an op does of `tensors`."""
    if self._exchanges and products.may_be_exchanged(op):
      product = products.exchanged(*tensors)
      if product is not None:
        return [product]
    attributes = self._attributes.get((op.graph, op.name))
    if attributes is None:
      attributes = self._attributes[op.graph, op.name] = {
          name: value for name, value in op.node_def.attr.items()
          if name not in ("_class", "_output_shapes")}
    return list(tf.get_default_graph().create_op(
        op.type, tensors, [t.dtype.base_dtype for t in op.outputs],
        name=op.name.rsplit("/", 1)[-1], attrs=attributes).outputs)

  def packed(self, values, dtype):
    """The stack of some values along a new first axis."""
    tensors = [self.tensor(value, dtype) for value in values]
    return self._own(("Pack",) + tuple(t.name for t in tensors), lambda: (
        tf.raw_ops.Pack(values=tensors, axis=0)))

  def unpacked(self, value, dtype):
    """The list of the parts of a value along its first axis.

    Raises:
      NotUnrolled: it is not known how many these are.
    """
    if isinstance(value, np.ndarray):
      return list(value)
    tensor = self.tensor(value, dtype)
    if not tensor.shape.ndims or tensor.shape.as_list()[0] is None:
      raise kinds.NotUnrolled("a sequence has no length before the run")
    count = tensor.shape.as_list()[0]
    return self._own(("Unpack", tensor.name), lambda: list(
        tf.raw_ops.Unpack(value=tensor, num=count, axis=0)))

  def sum(self, values, dtype):
    """The sum of values of one shape; the one that there is, as it is."""
    if len(values) == 1:
      return values[0]
    tensors = [self.tensor(value, dtype) for value in values]
    return self._own(("AddN",) + tuple(t.name for t in tensors), lambda: (
        tf.raw_ops.AddN(inputs=tensors)))

  def select(self, predicate, one, other, dtype):
    """The one value where a bool scalar `tf.Tensor` is True, or the other."""
    tensors = [self.tensor(value, dtype) for value in (one, other)]
    return self._own(("Select", predicate.name) + tuple(
        t.name for t in tensors), lambda: tf.raw_ops.SelectV2(
            condition=predicate, t=tensors[0], e=tensors[1]))

  def zeros(self, shape, dtype):
    """Zeros of a `tf.TensorShape`.

    Raises:
      NotUnrolled: it is not known.
    """
    if not shape.is_fully_defined() or _tf.numpy_dtype(dtype) is None:
      raise kinds.NotUnrolled("an element that was not written has no shape")
    return np.zeros(shape.as_list(), _tf.numpy_dtype(dtype))

  def zeros_like(self, value, dtype):
    """Zeros of the shape of a value."""
    if isinstance(value, np.ndarray):
      return np.zeros_like(value)
    tensor = self.tensor(value, dtype)
    return self._own(("ZerosLike", tensor.name), lambda: (
        tf.raw_ops.ZerosLike(x=tensor)))

  def _own(self, key, build):
    """What `build` makes, once for a key."""
    if key not in self._made:
      self._count()
      self._made[key] = build()
    return self._made[key]

  def _count(self):
    self.count += 1
    if self.count > self._most_ops:
      raise kinds.TooManyOps("there would be more than {} ops".format(
          self._most_ops))
