"""What ops of tensor arrays and stacks of control flow v1 do.

What was written to tensor arrays goes along their flow, as what was written
before an op is what its flow has passed.
"""

import numpy as np

from gradfeed._tf import tf
from gradfeed.graph import op_types
from gradfeed.rewriting.unrolling import values as kinds


class StateOps:
  """Evaluates ops of tensor arrays and stacks."""

  def __init__(self, emitter):
    """Starts without any.

    Args:
      emitter: `emission.Emitter`.
    """
    self._emitter = emitter
    self._arrays = {}
    self._number = 0

  def evaluate(self, op, inputs):
    """The outputs of an op on tensor arrays or stacks.

    Args:
      op: `tf.Operation`.
      inputs: list with the value of each input.

    Returns:
      list with the value of each output; None where it is no such op.

    Raises:
      NotUnrolled: no rule tells.
    """
    if op.type in _RULES:
      self._number += 1
      outputs = _RULES[op.type](self, op, *inputs)
      return outputs if isinstance(outputs, list) else [outputs]
    if any(isinstance(value, kinds.Flow) for value in inputs) and (
        op.type in ("Add", "AddN", "AddV2")):
      return [kinds.joined(inputs)]
    if op.type == "ZerosLike" and isinstance(inputs[0], kinds.Flow):
      return [np.zeros([], np.float32)]
    if op.type.startswith(op_types.TENSOR_ARRAY) or (
        op.type in op_types.STACK_OPS) or any(isinstance(
            value, (kinds.Flow, kinds.TensorArray, kinds.Stack))
                                              for value in inputs):
      raise kinds.NotUnrolled("{} '{}' has no rule".format(op.type, op.name))
    return None

  def _new(self, op, size):
    if op.get_attr("dynamic_size") or not isinstance(size, np.ndarray):
      raise kinds.NotUnrolled("tensor array '{}' has no size before the "
                              "run".format(op.name))
    array = kinds.TensorArray(
        (op.name, self._number), int(size), tf.as_dtype(op.get_attr("dtype")),
        tf.TensorShape(op.get_attr("element_shape")),
        op.get_attr("identical_element_shapes"))
    return [array, kinds.Flow({})]

  def _of_gradient(self, op, array, flow):
    source = op.get_attr("source")
    key = array.key, source
    if key not in self._arrays:
      self._arrays[key] = kinds.TensorArray(
          key, array.size, array.dtype, array.shape, array.is_uniform, array)
    return [self._arrays[key], kinds.joined([flow])]

  def _read(self, unused_op, array, index, flow):
    return self._element(array, _index(index), flow)

  def _element(self, array, index, flow):
    parts = list(kinds.joined([flow]).writes.get(
        (array.key, index), {}).values())
    if parts:
      return self._emitter.sum(parts, array.dtype)
    written = (array.source or array).written
    if array.source is not None and index in written:
      return self._emitter.zeros_like(written[index], array.dtype)
    if array.shape.is_fully_defined():
      return self._emitter.zeros(array.shape, array.dtype)
    if not array.is_uniform or not written or index in written:
      raise kinds.NotUnrolled("an element is read that was not written")
    return self._emitter.zeros_like(
        next(iter(written.values())), array.dtype)

  def _written(self, array, values, flow):
    """The flow after the dict `values` was written to an array."""
    if any(not 0 <= index < array.size for index in values):
      raise kinds.NotUnrolled("something is written beyond a tensor array")
    if array.source is None:
      if any(index in array.written for index in values):
        raise kinds.NotUnrolled("an element is written twice")
      array.written.update(values)
    return kinds.joined([flow]).having(array, values, self._number)

  def _write(self, unused_op, array, index, value, flow):
    return self._written(array, {_index(index): value}, flow)

  def _scatter(self, unused_op, array, indices, value, flow):
    parts = self._emitter.unpacked(value, array.dtype)
    places = _indices(indices)
    if len(places) != len(set(places)) or len(places) != len(parts):
      raise kinds.NotUnrolled("an element is written twice")
    return self._written(array, dict(zip(places, parts)), flow)

  def _gather(self, unused_op, array, indices, flow):
    places = _indices(indices)
    if not places:
      raise kinds.NotUnrolled("no element is read")
    return self._emitter.packed(
        [self._element(array, i, flow) for i in places], array.dtype)

  def _size(self, unused_op, array, unused_flow):
    return np.array(array.size, np.int32)

  def _new_stack(self, unused_op, *unused_most):
    return kinds.Stack()

  def _push(self, op, stack, value):
    if op.get_attr("swap_memory"):
      raise kinds.NotUnrolled("'{}' swaps memory".format(op.name))
    if not isinstance(stack, kinds.Stack):
      raise kinds.NotUnrolled("a stack comes from outside")
    stack.values.append(value)
    return value

  def _pop(self, unused_op, stack):
    if not isinstance(stack, kinds.Stack) or not stack.values:
      raise kinds.NotUnrolled("nothing is on a stack")
    return stack.values.pop()


def _index(value):
  return _indices(value, 0)


def _indices(value, rank=1):
  """A value that has to be known, as an int or a list of int."""
  if not isinstance(value, np.ndarray) or value.ndim != rank:
    raise kinds.NotUnrolled(
        "a place in a tensor array is not known before the run")
  return value.tolist()


#: dict from op type to a function of the `StateOps`, the op and its inputs.
# pylint: disable=protected-access
_RULES = {
    "StackCloseV2": lambda ops, op, stack: [],
    "StackPopV2": StateOps._pop,
    "StackPushV2": StateOps._push,
    "StackV2": StateOps._new_stack,
    "TensorArrayCloseV3": lambda ops, op, array: [],
    "TensorArrayGatherV3": StateOps._gather,
    "TensorArrayGradV3": StateOps._of_gradient,
    "TensorArrayReadV3": StateOps._read,
    "TensorArrayScatterV3": StateOps._scatter,
    "TensorArraySizeV3": StateOps._size,
    "TensorArrayV3": StateOps._new,
    "TensorArrayWriteV3": StateOps._write,
}
