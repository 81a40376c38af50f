"""`tf.gradients`, with right gradients in the place of those that are wrong."""

import contextlib
import functools
import threading

from tensorflow.python.framework import ops
from tensorflow.python.ops import gradients_impl
from tensorflow.python.ops import gradients_util

from gradfeed._tf import api
from gradfeed._tf import max_pool_gradients
from gradfeed._tf import scatter_gradients
from gradfeed._tf.api import tf

#: TensorFlow's own functions, whatever stands in their place in its modules.
ORIGINAL_GRADIENTS = gradients_impl.gradients
ORIGINAL_GRADIENTS_OF_V2 = gradients_impl.gradients_v2
ORIGINAL_HESSIANS = gradients_impl.hessians
ORIGINAL_HESSIANS_OF_V2 = gradients_impl.HessiansV2

_CORRECTED = dict(max_pool_gradients.GRADIENTS, **scatter_gradients.GRADIENTS)

_lock = threading.Lock()
_originals = {}
_originals_of_calls = []
_users = []
_of_thread = threading.local()


def gradients(*arguments, stop_gradients=None, **options):
  """`tf.gradients` with the gradients of scatters and max-pools corrected.

  It also holds the results of functions that are among `stop_gradients`:
  TensorFlow differentiates the call of a function all the same.
  """
  before = getattr(_of_thread, "stopped", ())
  _of_thread.stopped = [stop.op for stop in stop_gradients or ()]
  try:
    with _registered():
      return ORIGINAL_GRADIENTS(
          *arguments, stop_gradients=stop_gradients, **options)
  finally:
    _of_thread.stopped = before


def _of_call(original, op, dys):
  """The gradients by the inputs of an op that calls a function.

  Args:
    original: TensorFlow's function of `op` and `dys` that gives them.
    op: `tf.Operation`.
    dys: list of `tf.Tensor`, the gradients by its outputs.
  """
  if any(op is stopped for stopped in getattr(_of_thread, "stopped", ())):
    return [None] * len(op.inputs)
  return original(op, dys)


@contextlib.contextmanager
def _registered():
  """A context in which the corrected gradients are registered.

  The registry is that of the process. It is as it was when no thread is in the
  context any more.
  """
  # pylint: disable-next=protected-access
  registry = ops._gradient_registry._registry
  with _lock:
    if not _users:
      for op_type, gradient in _CORRECTED.items():
        if op_type in registry:
          original = _originals[op_type] = registry[op_type]
          registry[op_type] = dict(
              original, type=_bound(gradient, original["type"]))
      # pylint: disable=protected-access
      _originals_of_calls.append(gradients_util._SymGrad)
      gradients_util._SymGrad = functools.partial(
          _of_call, gradients_util._SymGrad)
    _users.append(None)
  try:
    yield
  finally:
    with _lock:
      _users.pop()
      if not _users:
        registry.update(_originals)
        _originals.clear()
        gradients_util._SymGrad = _originals_of_calls.pop()


def _bound(gradient, original):
  """A gradient function that hands TensorFlow's own to `gradient`."""
  return lambda op, *dys: gradient(original, op, *dys)


#: Types of ops whose gradients are ops with a corrected gradient.
_POOLS = {"MaxPool": "MaxPoolGrad", "MaxPoolV2": "MaxPoolGradV2",
          "MaxPool3D": "MaxPool3DGrad"}


def corrected_name(op_type):
  """The name of the corrected gradient of a type of ops, now registered.

  An op that names it has that gradient wherever it is differentiated, and to
  any order.

  Returns:
    str; None for a type whose gradient is right.
  """
  if op_type not in _CORRECTED and op_type not in _POOLS:
    return None
  name = "{}corrected/{}".format(api.SCOPE, op_type)
  with _lock:
    try:
      ops._gradient_registry.lookup(name)
    except LookupError:
      tf.RegisterGradient(name)(_by_name(op_type))
  return name


def _by_name(op_type):
  """The gradient function that `corrected_name` registers."""

  def gradient(op, *dys):
    # pylint: disable-next=protected-access
    original = (_originals.get(op_type) or
                ops._gradient_registry._registry[op_type])["type"]
    if op_type in _CORRECTED:
      return _CORRECTED[op_type](original, op, *dys)
    made = _POOLS[op_type]
    with tf.get_default_graph().gradient_override_map(
        {made: corrected_name(made)}):
      return original(op, *dys)

  return gradient
