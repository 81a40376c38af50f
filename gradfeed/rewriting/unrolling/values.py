"""What a tensor of a graph with loops stands for while these are unrolled.

Beside what is here it is an `np.ndarray`, where the value is known, or a
`tf.Tensor` of the copy.
"""

import collections


class NotUnrolled(Exception):
  """Raised with the reason why something is not unrolled."""


class TooManyOps(NotUnrolled):
  """Raised where a copy would have more ops than it may have."""


class Unwritten(NotUnrolled):
  """Raised where TensorFlow refuses to read a list, as nothing was written."""


#: What an op in a branch that is not taken gives.
DEAD = object()


#: A tensor list. `elements` is a tuple, of None where nothing was written;
#: `shape` the `tf.TensorShape` that elements have; `dtype` theirs.
TensorList = collections.namedtuple(
    "TensorList", ["elements", "shape", "dtype"])


#: An optional of one component; `value` is that of the component, an `Either`,
#: or None.
Optional = collections.namedtuple("Optional", ["value"])


#: What both sides of a branch give, or an optional that they make holds: `one`
#: where the `predicate`, a `tf.Tensor`, is True, or `other`. They need not be
#: alike.
Either = collections.namedtuple("Either", ["predicate", "one", "other"])


class TensorArray:
  """A tensor array of control flow v1, or that of its gradient.

  Attributes:
    key: hashable, the same for all handles of one array.
    size: int.
    dtype: `tf.DType` of the elements.
    shape: `tf.TensorShape` of them, as far as it is stated.
    is_uniform: bool; all elements have one shape, so that those which are not
      written are zeros of it.
    source: `TensorArray` that this one has the gradient of, or None.
    written: dict from index to the value that was written, in this order,
      where `source` is None.
  """

  def __init__(self, key, size, dtype, shape, is_uniform, source=None):
    self.key = key
    self.size = size
    self.dtype = dtype
    self.shape = shape
    self.is_uniform = is_uniform
    self.source = source
    self.written = collections.OrderedDict()


class Flow:
  """What was written to tensor arrays before a certain point.

  Attributes:
    writes: dict from (key of the array, index) to a dict from the number of
      each write to the value.
  """

  def __init__(self, writes):
    self.writes = writes

  def having(self, array, values, number):
    """This flow after some values were written.

    Args:
      array: `TensorArray`.
      values: dict from index to value.
      number: int, which no other write has.
    """
    writes = dict(self.writes)
    for index, value in values.items():
      key = array.key, index
      writes[key] = dict(writes.get(key, ()))
      writes[key][number] = value
    return Flow(writes)


def joined(flows):
  """The flow after all that is in one of `flows`; what is no `Flow` is empty.
  """
  flows = [flow for flow in flows if isinstance(flow, Flow)]
  if len(flows) == 1:
    return flows[0]
  writes = {}
  for flow in flows:
    for key, parts in flow.writes.items():
      if key in writes and writes[key] is not parts:
        parts = collections.OrderedDict(writes[key])
        parts.update(flow.writes[key])
      writes[key] = parts
  return Flow(writes)


class Stack:
  """A stack of control flow v1.

  Attributes:
    values: list, the last one on top.
  """

  def __init__(self):
    self.values = []
