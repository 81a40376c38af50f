"""`tf.gradients`, with right gradients in the place of those that are wrong."""

import contextlib
import functools
import threading

from tensorflow.python.framework import ops
from tensorflow.python.ops import gradients_impl
from tensorflow.python.ops import gradients_util

from gradfeed._tf import api
from gradfeed._tf import graph_building
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
_originals_of_outputs = []
_users = []
_of_thread = threading.local()


def gradients(*arguments, stop_gradients=None, **options):
  """`tf.gradients` with the gradients of scatters and max-pools corrected.

  It also holds the tensors that are among `stop_gradients`, and these alone:
  TensorFlow holds all outputs of an op by one of them, but no result of the
  call of a function.
  """
  before = getattr(_of_thread, "held", None)
  _of_thread.held = _Held(stop_gradients) if stop_gradients else None
  try:
    with _registered():
      return ORIGINAL_GRADIENTS(*arguments, **options)
  finally:
    _of_thread.held = before


class _Held:
  """The tensors that one call of `tf.gradients` takes for constants.

  It may call itself, in gradient functions of the user, which hold their own.
  """

  def __init__(self, stops):
    self._outputs = {(stop.op, stop.value_index) for stop in stops}
    self._call = None

  def gradients(self, original, found, op, call, *arguments):
    """The gradients by the outputs of an op: None for those that are held.

    Args:
      original: TensorFlow's function that gives them.
      found: dict from `tf.Operation` to what is known of its outputs.
      op: `tf.Operation`.
      call: str, by which TensorFlow tells calls of `tf.gradients` apart.
      *arguments: the others of `original`.
    """
    grads = original(found, op, call, *arguments)
    self._call = self._call or call
    if call != self._call:
      return grads
    return [self._of_held(found, op, grad) if (op, i) in self._outputs else grad
            for i, grad in enumerate(grads)]

  def _of_held(self, found, op, grad):
    """What takes the place of `grad`, by an output of `op` that is held.

    The gradient of a loop of control flow v1 needs one by each of its results.
    """
    loop = graph_building.loop_ended_by(op)
    if grad is None or loop is None or not any(
        # pylint: disable-next=protected-access
        gradients_util._HasAnyNotNoneGrads(found, result.op)
        for result in loop.loop_exits
        if (result.op, result.value_index) not in self._outputs):
      return None
    if isinstance(grad, tf.IndexedSlices):
      return tf.IndexedSlices(
          tf.zeros_like(grad.values), grad.indices, grad.dense_shape)
    return tf.zeros_like(grad)


def _of_outputs(original, *arguments):
  """Takes the place of TensorFlow's function: see `_Held.gradients`."""
  held = getattr(_of_thread, "held", None)
  return (original(*arguments) if held is None else
          held.gradients(original, *arguments))


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
      _originals_of_outputs.append(gradients_util._AggregatedGrads)
      gradients_util._AggregatedGrads = functools.partial(
          _of_outputs, gradients_util._AggregatedGrads)
    _users.append(None)
  try:
    yield
  finally:
    with _lock:
      _users.pop()
      if not _users:
        registry.update(_originals)
        _originals.clear()
        gradients_util._AggregatedGrads = _originals_of_outputs.pop()


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
