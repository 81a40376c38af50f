"""Derivatives of max-pools, in ops that XLA computes as TensorFlow does.

For second derivatives the op of XLA takes the largest of the cotangents at a
tie, and half of the digits of some. TensorFlow takes the cotangent of the first
element of a window that is the maximum, and zero where none is, as with NaN.
For first derivatives XLA takes the first maximum, too, but another one where it
adds more after an axis than before it.
"""

import itertools

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.compilation.loops import nodes as nodes_lib
from gradfeed.compilation.loops import variants

#: Ops of second derivatives to whether the window and the strides are inputs.
TYPES = {"MaxPoolGradGrad": False, "MaxPoolGradGradV2": True}

#: The same of first derivatives.
_FIRST_TYPES = {"MaxPoolGrad": False, "MaxPoolGradV2": True}

#: How many elements a window may have.
_LARGEST = 256


def can_be_replaced(op):
  """Whether `replace` knows what an op computes.

  Args:
    op: `tf.Operation` whose type is in `TYPES`.
  """
  window = _window(op)
  return window is not None and np.prod(window[0]) <= _LARGEST and (
      op.get_attr("data_format") == b"NHWC") and _knows_lengths(op, window)


def _knows_lengths(op, window):
  """Whether the lengths of all axes are known on which a window moves."""
  return all(
      t.shape.rank is not None and not any(
          size is None and sizes != (1, 1)
          for size, sizes in zip(t.shape.as_list(), zip(*window)))
      for t in list(op.inputs)[:3])


def replace(static):
  """Replaces such ops.

  Args:
    static: `static_graphs.StaticGraph`; its `graph_def` is changed.
  """
  for place, function in variants.places(
      static.graph_def, static.graph, static.bodies_of):
    nodes = nodes_lib.Nodes(static.graph_def.node if function is None else
                            function.node_def, function is not None)
    for op in place.get_operations():
      if op.type in TYPES:
        _replace(op, nodes, static.graph_def.library.function, _picked_of)
      elif op.type in _FIRST_TYPES and _may_be_uneven(op):
        _replace(op, nodes, static.graph_def.library.function, _spread_of)


def _may_be_uneven(op):
  """Whether XLA may add more on one side of an axis than on the other."""
  window = _window(op)
  if window is None or op.get_attr("data_format") != b"NHWC" or (
      op.get_attr("padding") != b"SAME" or
      not op.inputs[0].dtype.is_floating):
    return False
  return not _knows_lengths(op, window) or any(
      before != after for before, after in _paddings(op, *op.inputs[:2]))


def _replace(op, nodes, functions, compute):
  """Has the node of an op call a new function.

  Args:
    op: `tf.Operation`.
    nodes: `nodes.Nodes` with its node.
    functions: repeated field of FunctionDef; one is added.
    compute: function from the op and its first three inputs to its output.
  """
  with tf.Graph().as_default():
    given = [tf.placeholder(t.dtype, t.shape) for t in list(op.inputs)[:3]]
    definition = _tf.definition_of("of_max_pool_{}".format(
        len(functions)), given, [compute(op, *given)])
  functions.add().CopyFrom(definition)
  node = nodes[op.name]
  read = list(node.input)[:3]
  nodes.become_call(node, definition)
  del node.input[:]
  node.input.extend(read)


def _window(op):
  """The sizes of the window and the strides of an op, or None."""
  if not dict(TYPES, **_FIRST_TYPES)[op.type]:
    return op.get_attr("ksize"), op.get_attr("strides")
  known = [_tf.constant_value(t) for t in op.inputs[3:]]
  return None if any(value is None for value in known) else [
      value.tolist() for value in known]


def _axes(op, pooled, result):
  """For each axis: its length, that of the result, the window, the stride."""
  return list(zip(pooled.shape.as_list(), result.shape.as_list(), *_window(op)))


def _paddings(op, pooled, result):
  """For each axis [before, after]: how much there is added."""
  return [_padding(*axis, is_same=op.get_attr("padding") == b"SAME")
          for axis in _axes(op, pooled, result)]


def _spread_of(op, pooled, result, cotangent):
  """A cotangent of a pool at the maxima, with nothing for XLA to add."""
  window, strides = _window(op)
  lengths = tf.shape(pooled)  # XLA knows them where the graph does not.
  added = tf.maximum(
      (tf.shape(result) - 1) * strides + window - lengths, 0)
  before = added // 2
  spread = tf.raw_ops.MaxPoolGrad(
      orig_input=tf.pad(pooled, tf.stack([before, added - before], 1),
                        constant_values=-np.inf),
      orig_output=result, grad=cotangent, ksize=window, strides=strides,
      padding="VALID")
  return tf.slice(spread, before, lengths)


def _picked_of(op, pooled, result, cotangent):
  """Of a cotangent of what is pooled, that of the maximum of each window."""
  window, _ = _window(op)
  axes = _axes(op, pooled, result)
  paddings = _paddings(op, pooled, result)
  # NaN is no maximum.
  pooled = tf.pad(pooled, paddings, constant_values=np.nan)
  cotangent = tf.pad(cotangent, paddings)
  picked = tf.zeros_like(result)
  for place in reversed(list(itertools.product(*map(range, window)))):
    part = tuple(_picked(first, *axis) for first, axis in zip(place, axes))
    picked = tf.where_v2(
        tf.equal(pooled[part], result), cotangent[part], picked)
  return picked


def _picked(first, unused_size, length, window, stride):
  """The slice of one axis with an element of each window."""
  if window == stride == 1:
    return slice(None)
  return slice(first, first + (length - 1) * stride + 1, stride)


def _padding(size, length, window, stride, is_same):
  """[before, after]: how much there is added along one axis."""
  if not is_same or window == stride == 1:
    return [0, 0]
  total = max((length - 1) * stride + window - size, 0)
  return [total // 2, total - total // 2]
