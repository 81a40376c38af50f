"""The gradient functions that are registered with TensorFlow."""

import types

import numpy as np
from tensorflow.python.framework import ops

# TF 1 registers the gradients of If and While where it first builds one, which
# is too late for a model that was read from a file.
# pylint: disable=unused-import
from tensorflow.python.ops import cond_v2 as _cond_v2
from tensorflow.python.ops import while_v2 as _while_v2
# pylint: enable=unused-import

from gradfeed._tf.api import tf

# pylint: disable=protected-access

#: Packages whose gradient functions read no setting of the user.
_OWN_ROOTS = frozenset([
    "gradfeed", "keras", "tensorflow", "tensorflow_core",
    "tensorflow_estimator", "tf_keras"])

#: Types of values that cannot change, but only be replaced by another one.
_FIXED_VALUES = (
    bool, bytes, complex, float, int, np.generic, str, tf.DType, type(None))

#: dict from the type of an op to whether it has state. Functions of `tf.Defun`
#: have none as ops, and are told apart elsewhere.
_stateful = {}


def is_gradient_of(op, differentiated):
  """Whether the gradient function of one op made another in this process.

  Args:
    op: `tf.Operation`, perhaps made so.
    differentiated: `tf.Operation` that has the gradient function.
  """
  return op._original_op is differentiated


def gradient_function(op):
  """The registered gradient function of `op`; None for tf.NotDifferentiable.

  Raises:
    LookupError: nothing is registered for the type of `op`.
  """
  return ops.get_gradient_function(op)


def has_gradient(op):
  """Whether a gradient or tf.NotDifferentiable is registered for `op`."""
  try:
    gradient_function(op)
  except LookupError:
    return False
  return True


def registered_gradient(name):
  """The gradient function registered as `name`, or None."""
  try:
    return ops._gradient_registry.lookup(name)
  except LookupError:
    return None


def registered_types():
  """The sorted types of all ops that a gradient, or none, is registered for."""
  return sorted(ops._gradient_registry._registry)


def has_own_gradient(node):
  """Whether a NodeDef names a gradient function, as of `tf.custom_gradient`.
  """
  return "_gradient_op_type" in node.attr


def gradient_function_name(node):
  """The name that the gradient of a NodeDef is registered by, a str."""
  if has_own_gradient(node):
    return node.attr["_gradient_op_type"].s.decode("utf-8", "replace")
  return node.op


def has_attribute(op, name):
  """Whether the node of `op` has the attribute `name`."""
  try:
    op.get_attr(name)
  except ValueError:
    return False
  return True


def has_state(op):
  """Whether the type of `op` has state, or is not known to have none."""
  op_type = op.type
  if op_type not in _stateful:
    definition = op.op_def
    _stateful[op_type] = definition is None or definition.is_stateful
  return _stateful[op_type]


def gradient_settings(op):
  """What the gradient function of `op` reads beside its arguments and modules.

  TensorFlow's own functions read nothing. One of the user was registered for
  the type of `op`, is named by a `graph.gradient_override_map`, or belongs to a
  `tf.custom_gradient`.

  Returns:
    tuple of numbers, strings and the like; None if it reads something that may
    change without a trace, such as an attribute of an object.
  """
  try:
    function = gradient_function(op)
  except LookupError:
    return ()
  return () if function is None else _settings_of(function)


def _settings_of(function, depth=4):
  """The settings that a function reads, as `gradient_settings` gives them."""
  root = (getattr(function, "__module__", None) or "").partition(".")[0]
  is_own = root in _OWN_ROOTS
  if not is_own and not isinstance(function, types.FunctionType):
    return None
  read = [] if is_own else list(function.__defaults__ or ()) + _globals_of(
      function)
  for cell in getattr(function, "__closure__", None) or ():
    try:
      value = cell.cell_contents
    except ValueError:
      continue  # It is not set yet.
    if not is_own or isinstance(value, types.FunctionType):
      read.append(value)
  settings = []
  for value in read:
    if isinstance(value, _FIXED_VALUES):
      settings.append(value)
    elif isinstance(value, types.FunctionType) and (depth or is_own):
      own = _settings_of(value, depth - 1) if depth else ()
      if own is None:
        return None
      settings.extend(own)
    elif not isinstance(value, (tf.Tensor, types.ModuleType)):
      return None
  return tuple(settings)


def _globals_of(function):
  """The values of the names of its module that a function reads."""
  codes, names = [function.__code__], set()
  while codes:
    code = codes.pop()
    names.update(code.co_names)
    codes.extend(part for part in code.co_consts
                 if isinstance(part, types.CodeType))
  return [function.__globals__[name] for name in sorted(names)
          if name in function.__globals__]


def is_restored_gradient(name):
  """Whether `tf.saved_model.load` registered the gradient `name`.

  It registers the gradients of a model under numbers of this process.
  """
  return getattr(registered_gradient(name), "__module__", "").endswith(
      "function_deserialization")


def was_imported(op):
  """Whether `op` was read from a GraphDef, and not made in Python.

  TF 2 keeps no traceback of such an op, and TF 1 that of the import.
  """
  for frame in reversed(op.traceback or ()):
    if frame[0].endswith("importer.py"):
      return True
    if frame[0].endswith("custom_gradient.py"):
      return False
  return op.traceback is None


def was_node_imported(graph, function, name):
  """Whether a node of a function was read from a GraphDef.

  Args:
    graph: `tf.Graph` whose library holds the function.
    function: str, the name of the function.
    name: str, the name of the node.
  """
  registered = graph._get_function(function)
  body = getattr(registered, "graph", None)
  if body is None:  # `tf.Defun` keeps the Python function.
    return getattr(registered, "_func", None) is None
  try:
    return was_imported(body.get_operation_by_name(name))
  except KeyError:
    return True


def keep_gradient_function(copy, original):
  """Gives a copied call of a `tf.function` the gradient of the original.

  TensorFlow keeps it as an attribute of the Python object, not in the graph.

  Args:
    copy: `tf.Operation`, changed.
    original: `tf.Operation`.
  """
  function = getattr(original, "_gradient_function", None)
  if function is not None:
    copy._gradient_function = function
