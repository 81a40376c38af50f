"""What ops of tensor lists and of optionals do.

A list is a tuple of its elements.
"""

import numpy as np

from gradfeed._tf import tf
from gradfeed.rewriting.unrolling import values as kinds


def is_of_lists(op, inputs):
  """Whether an op works on tensor lists or on optionals.

  Args:
    op: `tf.Operation`.
    inputs: list with the value of each input.
  """
  return op.type in _RULES or any(
      isinstance(value, (kinds.TensorList, kinds.Optional))
      for value in inputs)


def evaluate(op, inputs, emitter):
  """The outputs of an op that works on tensor lists.

  Args:
    op: `tf.Operation`.
    inputs: list with the value of each input.
    emitter: `emission.Emitter`.

  Returns:
    list with the value of each output.

  Raises:
    NotUnrolled: no rule tells.
  """
  rule = _RULES.get(op.type) or _OF_ANY.get(op.type)
  if rule is None:
    raise kinds.NotUnrolled("{} '{}' reads a list".format(op.type, op.name))
  outputs = rule(op, emitter, *inputs)
  return outputs if isinstance(outputs, list) else [outputs]


def has_shape(values):
  """Whether a `TensorList` tells the shape of elements that were not written.
  """
  return values.shape.is_fully_defined() or any(
      element is not None for element in values.elements)


def _number(value):
  """A value that has to be known, as an int."""
  if not isinstance(value, np.ndarray) or value.ndim:
    raise kinds.NotUnrolled("a place in a list is not known before the run")
  return int(value)


def _list(value):
  if not isinstance(value, kinds.TensorList):
    raise kinds.NotUnrolled("a list comes from outside")
  return value


def _shape(value):
  """The `tf.TensorShape` that a value, -1 or dimensions, stands for."""
  if not isinstance(value, np.ndarray):
    return tf.TensorShape(None)
  if not value.ndim:
    return tf.TensorShape(None)
  return tf.TensorShape([
      None if size < 0 else size for size in value.tolist()])


def _dtype(op):
  return tf.as_dtype(op.get_attr("element_dtype"))


def _empty(op, unused_emitter, shape, unused_most):
  return kinds.TensorList((), _shape(shape), _dtype(op))


def _reserved(op, unused_emitter, shape, count):
  return kinds.TensorList((None,) * _number(count), _shape(shape), _dtype(op))


def _from_tensor(op, emitter, value, shape):
  dtype = _dtype(op)
  return kinds.TensorList(
      tuple(emitter.unpacked(value, dtype)), _shape(shape), dtype)


def _shape_of(values, index, *shapes):
  """The `tf.TensorShape` of an element, as far as anything tells."""
  shape = values.shape
  for other in shapes:
    shape = shape.merge_with(other)
  for element in values.elements:
    if not shape.is_fully_defined() and element is not None and not isinstance(
        element, kinds.TensorList):
      shape = shape.merge_with(tf.TensorShape(element.shape))
  return shape


def _element(values, index, emitter, shape):
  """Element `index`: zeros, where it was not written."""
  if not 0 <= index < len(values.elements):
    raise kinds.NotUnrolled("a list has no element {}".format(index))
  element = values.elements[index]
  if element is not None:
    return element
  if not has_shape(values) and not _shape(shape).is_fully_defined():
    raise kinds.Unwritten("nothing was written to a list")
  return emitter.zeros(_shape_of(values, index, _shape(shape)), values.dtype)


def _get(unused_op, emitter, values, index, shape):
  return _element(_list(values), _number(index), emitter, shape)


def _set(unused_op, unused_emitter, values, index, element):
  elements, index = list(_list(values).elements), _number(index)
  if not 0 <= index < len(elements):
    raise kinds.NotUnrolled("a list has no element {}".format(index))
  elements[index] = element
  return values._replace(elements=tuple(elements))


def _push(unused_op, unused_emitter, values, element):
  return _list(values)._replace(elements=values.elements + (element,))


def _pop(unused_op, emitter, values, shape):
  last = _element(_list(values), len(values.elements) - 1, emitter, shape)
  return [values._replace(elements=values.elements[:-1]), last]


def _stack(unused_op, emitter, values, shape):
  values = _list(values)
  if not values.elements:
    return emitter.zeros(tf.TensorShape([0]).concatenate(
        values.shape.merge_with(_shape(shape))), values.dtype)
  return emitter.packed([
      _element(values, i, emitter, shape)
      for i in range(len(values.elements))], values.dtype)


def _gather(unused_op, emitter, values, indices, shape):
  if not isinstance(indices, np.ndarray) or not indices.size:
    raise kinds.NotUnrolled("a place in a list is not known before the run")
  return emitter.packed([
      _element(_list(values), i, emitter, shape) for i in indices.tolist()],
                        values.dtype)


def _scatter(unused_op, emitter, values, tensor, indices):
  parts = emitter.unpacked(tensor, _list(values).dtype)
  if not isinstance(indices, np.ndarray) or len(set(indices.tolist())) != len(
      parts):
    raise kinds.NotUnrolled("an element is written twice")
  elements = list(values.elements)
  for index, part in zip(indices.tolist(), parts):
    if not 0 <= index < len(elements):
      raise kinds.NotUnrolled("a list has no element {}".format(index))
    elements[index] = part
  return values._replace(elements=tuple(elements))


def _length(unused_op, unused_emitter, values):
  return np.array(len(_list(values).elements), np.int32)


def _element_shape(op, unused_emitter, values):
  shape = _list(values).shape
  dims = -1 if shape.ndims is None else [
      -1 if size is None else size for size in shape.as_list()]
  return np.array(dims, tf.as_dtype(op.get_attr("shape_type")).as_numpy_dtype)


def _resize(unused_op, unused_emitter, values, count):
  count, elements = _number(count), _list(values).elements
  return values._replace(elements=(
      elements + (None,) * (count - len(elements)))[:count])


def _concatenated(unused_op, unused_emitter, values, others):
  return _list(values)._replace(
      elements=values.elements + _list(others).elements)


def _zeros(unused_op, emitter, value):
  """Zeros in the place of all numbers of a value."""
  if value is None:
    return None
  if isinstance(value, kinds.Optional):
    return kinds.Optional(_zeros(None, emitter, value.value))
  if isinstance(value, kinds.Either):
    return value._replace(one=_zeros(None, emitter, value.one),
                          other=_zeros(None, emitter, value.other))
  if isinstance(value, kinds.TensorList):
    return value._replace(elements=tuple(
        _zeros(None, emitter, element) for element in value.elements))
  return emitter.zeros_like(value, None)


def _sum(unused_op, emitter, *values):
  """The sum of values of one kind; of those that are there."""
  either = [value for value in values if isinstance(value, kinds.Either)]
  if either:
    predicate = either[0].predicate
    sides = zip(*[(value.one, value.other) if isinstance(value, kinds.Either)
                  and value.predicate is predicate else (value, value)
                  for value in values])
    return kinds.Either(predicate, *[_sum_of_those_there(emitter, side)
                                     for side in sides])
  if isinstance(values[0], kinds.Optional):
    parts = [value.value for value in values]
    return kinds.Optional(_sum_of_those_there(emitter, parts))
  if not isinstance(values[0], kinds.TensorList):
    dtypes = [value.dtype for value in values if isinstance(value, tf.Tensor)]
    return emitter.sum(values, tf.as_dtype((dtypes or [values[0].dtype])[0]))
  values = list(map(_list, values))
  if len({len(value.elements) for value in values}) != 1:
    raise kinds.NotUnrolled("lists of different lengths are added")
  return values[0]._replace(elements=tuple(
      _sum_of_those_there(emitter, elements)
      for elements in zip(*[value.elements for value in values])))


def _sum_of_those_there(emitter, values):
  there = [value for value in values if value is not None]
  return _sum(None, emitter, *there) if there else None


def _value_of(unused_op, unused_emitter, optional):
  if not isinstance(optional, kinds.Optional) or optional.value is None:
    raise kinds.NotUnrolled("it is not known what an optional holds")
  return optional.value


#: dict from the type of an op of lists to a function of the op, the emitter and
#: the values that it reads.
_RULES = {
    "EmptyTensorList": _empty,
    "OptionalFromValue": lambda op, emitter, value: kinds.Optional(value),
    "OptionalGetValue": _value_of,
    "OptionalNone": lambda op, emitter: kinds.Optional(None),
    "TensorListConcatLists": _concatenated,
    "TensorListElementShape": _element_shape,
    "TensorListFromTensor": _from_tensor,
    "TensorListGather": _gather,
    "TensorListGetItem": _get,
    "TensorListLength": _length,
    "TensorListPopBack": _pop,
    "TensorListPushBack": _push,
    "TensorListReserve": _reserved,
    "TensorListResize": _resize,
    "TensorListScatterIntoExistingList": _scatter,
    "TensorListSetItem": _set,
    "TensorListStack": _stack,
}

#: The same for ops that work on anything.
_OF_ANY = {"AddN": _sum, "ZerosLike": _zeros}
