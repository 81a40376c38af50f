"""Second derivatives of max-pools, in ops that XLA computes as TensorFlow does.

The op of XLA takes the largest of the cotangents at a tie, and half of the
digits of some. TensorFlow takes the cotangent of the first element of a window
that is the maximum, and zero where none is, as with NaN.
"""

import itertools

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.compilation.loops import nodes as nodes_lib
from gradfeed.compilation.loops import variants

#: Ops to whether the window and the strides are inputs.
TYPES = {"MaxPoolGradGrad": False, "MaxPoolGradGradV2": True}

#: How many elements a window may have.
_LARGEST = 256


def can_be_replaced(op):
  """Whether `replace` knows what an op computes.

  Args:
    op: `tf.Operation` whose type is in `TYPES`.
  """
  window = _window(op)
  return window is not None and np.prod(window[0]) <= _LARGEST and (
      op.get_attr("data_format") == b"NHWC") and all(
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
        _replace(op, nodes, static.graph_def.library.function)


def _replace(op, nodes, functions):
  """Has the node of an op call a new function."""
  with tf.Graph().as_default():
    given = [tf.placeholder(t.dtype, t.shape) for t in list(op.inputs)[:3]]
    definition = _tf.definition_of("second_of_max_pool_{}".format(
        len(functions)), given, [_computed(op, *given)])
  functions.add().CopyFrom(definition)
  node = nodes[op.name]
  read = list(node.input)[:3]
  nodes.become_call(node, definition)
  del node.input[:]
  node.input.extend(read)


def _window(op):
  """The sizes of the window and the strides of an op, or None."""
  if not TYPES[op.type]:
    return op.get_attr("ksize"), op.get_attr("strides")
  known = [_tf.constant_value(t) for t in op.inputs[3:]]
  return None if any(value is None for value in known) else [
      value.tolist() for value in known]


def _computed(op, pooled, result, cotangent):
  """What an op computes of its first three inputs."""
  window, strides = _window(op)
  axes = list(zip(
      pooled.shape.as_list(), result.shape.as_list(), window, strides))
  paddings = [_padding(*axis, is_same=op.get_attr("padding") == b"SAME")
              for axis in axes]
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
