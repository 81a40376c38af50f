"""Kinds of tensors and variables; static values and dtypes of tensors."""

import importlib

import numpy as np
from tensorflow.python.eager import context
from tensorflow.python.eager import tape
from tensorflow.python.framework import ops
from tensorflow.python.ops import resource_variable_ops
from tensorflow.python.ops import variables

from gradfeed._tf import api
from gradfeed._tf.api import tf

#: What tells whether a tape records, which newer versions have elsewhere.
_record = importlib.import_module("tensorflow.python.eager.{}".format(
    "tape" if hasattr(tape, "could_possibly_record") else "record"))

# pylint: disable=protected-access


#: The distance of two neighbouring numbers, as a part of them.
PRECISIONS = {tf.bfloat16: 2.0 ** -7, tf.float16: 2.0 ** -10,
              tf.float32: 2.0 ** -23, tf.float64: 2.0 ** -52,
              tf.complex64: 2.0 ** -23}


def is_eager(value):
  """Whether `value` is an eager tensor or variable, or one of Keras 3."""
  if is_keras_tensor(value):
    return True
  if not isinstance(value, tf.Tensor) and not is_variable(value):
    return type(value).__module__.split(".")[0] == "keras"
  return isinstance(getattr(value, "handle", value), ops.EagerTensor)


def eager_array(value):
  """The array in an eager tensor or variable: its memory, where NumPy can."""
  if is_variable(value):
    with context.eager_mode():
      value = value.read_value()
  return np.asarray(value)


def is_recorded(value):
  """Whether a `tf.GradientTape` watches an eager tensor or variable."""
  if not api.IS_TF2 or not _record.could_possibly_record():
    return False
  if is_variable(value):
    return bool(value.trainable)
  return _record.should_record_backprop([value])


def is_keras_tensor(value):
  """Whether `value` is a symbolic tensor of a model of Keras."""
  return type(value).__name__ == "KerasTensor"


def is_variable(value):
  return isinstance(value, variables.Variable) or is_resource_variable(value)


def is_partitioned(value):
  return isinstance(value, variables.PartitionedVariable)


def partition_axis(variable):
  """The axis that a partitioned variable is cut along."""
  return variable._partition_axes()[0]


def graph_element(variable):
  """The tensor that `Session.run` fetches for a variable: a read, or the ref.

  The result of `tf.assign` is a variable too: its tensor is a read after the
  assignment.
  """
  return variable._as_graph_element()


def is_resource_variable(value):
  return resource_variable_ops.is_resource_variable(value)


def executing_eagerly():
  return tf.executing_eagerly()


def as_key(tensor):
  """A tensor as a key of a dict: by itself, or by `Tensor.ref` of TF 2."""
  return tensor.ref() if hasattr(tensor, "ref") else tensor


def dereference(key):
  """The tensor or variable behind `.ref()`, or `key` itself."""
  dereferenced = getattr(key, "deref", None)
  return dereferenced() if callable(dereferenced) else key


def is_reference(tensor):
  return tensor.dtype._is_ref_dtype


def is_trainable_dtype(dtype):
  """Whether tf.gradients passes through tensors of `dtype`."""
  return is_number(dtype) or dtype.base_dtype in (tf.resource, tf.variant)


def is_number(dtype):
  """Whether `dtype` is floating or complex, a reference or not."""
  return dtype.base_dtype.is_floating or dtype.base_dtype.is_complex


def slice_info(variable):
  """(offset, shape) of one part of a partitioned variable in the whole."""
  info = variable._get_save_slice_info()
  return list(info.var_offset), list(info.var_shape)


def constant_value(tensor):
  """The value of a constant, as an array; None for any other tensor.

  `tf.get_static_value` would make a tensor that it evaluates unfeedable.
  """
  if tensor.op.type != "Const":
    return None
  return tf.make_ndarray(tensor.op.get_attr("value"))


def static_value(tensor, partial=False):
  """`tf.get_static_value`, after which the tensor can still be fed."""
  return _with_feedable(
      tensor.graph, lambda: tf.get_static_value(tensor, partial))


def sparse_shape(sparse):
  """The static shape of a `tf.SparseTensor`, which can still be fed then."""
  return _with_feedable(getattr(sparse.dense_shape, "graph", None),
                        sparse.get_shape)


def _with_feedable(graph, evaluate):
  """What `evaluate` returns; it makes no tensor of `graph` unfeedable."""
  if graph is None:  # Of an eager tensor.
    return evaluate()
  graph.prevent_feeding = lambda unused_tensor: None
  try:
    return evaluate()
  finally:
    del graph.prevent_feeding


def numpy_dtype(dtype):
  """The NumPy dtype of a value of TensorFlow's `dtype`, or None (resources)."""
  try:
    return np.dtype(dtype.base_dtype.as_numpy_dtype)
  except (TypeError, KeyError):
    return None
