"""What takes the place of TensorFlow's functions while they are replaced.

Each has the signature of the function that it replaces, and calls that one when
nothing is replaced any more: other modules may have kept it.
"""

import functools
import sys

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import gradients as gradients_lib
from gradfeed.patching import callers
from gradfeed.patching import handover
from gradfeed.patching import keras_functions

# pylint: disable=protected-access


class State:
  """Whether functions are replaced at this moment."""

  is_active = False


def _is_passed_by(frame):
  """Whether a call from `frame` goes to TensorFlow."""
  return not State.is_active or callers.is_own(frame)


@functools.wraps(_tf.ORIGINAL_GRADIENTS)
def _gradients(ys, xs, grad_ys=None, name="gradients",
               colocate_gradients_with_ops=False, gate_gradients=False,
               aggregation_method=None, stop_gradients=None,
               unconnected_gradients=tf.UnconnectedGradients.NONE):
  arguments = (ys, xs, grad_ys, name, colocate_gradients_with_ops,
               gate_gradients, aggregation_method, stop_gradients,
               unconnected_gradients)
  if _is_passed_by(sys._getframe(1)):
    return _tf.ORIGINAL_GRADIENTS(*arguments)
  return _checked_gradients(*arguments)


@functools.wraps(_tf.ORIGINAL_GRADIENTS_OF_V2)
def _gradients_of_v2(ys, xs, grad_ys=None, name="gradients",
                     gate_gradients=False, aggregation_method=None,
                     stop_gradients=None,
                     unconnected_gradients=tf.UnconnectedGradients.NONE):
  # As in TensorFlow, gradients are colocated with their ops.
  arguments = (ys, xs, grad_ys, name, True, gate_gradients, aggregation_method,
               stop_gradients, unconnected_gradients)
  if _is_passed_by(sys._getframe(1)):
    return _tf.ORIGINAL_GRADIENTS(*arguments)
  return _checked_gradients(*arguments)


def _checked_gradients(*arguments):
  """`gf.gradients`, with `tf.IndexedSlices` where TensorFlow gives them."""
  return handover.or_tensorflow(
      lambda: gradients_lib.gradients(*arguments, dense=False),
      lambda: _tf.ORIGINAL_GRADIENTS(*arguments))


@functools.wraps(_tf.ORIGINAL_HESSIANS)
def _hessians(ys, xs, name="hessians", colocate_gradients_with_ops=False,
              gate_gradients=False, aggregation_method=None):
  arguments = (ys, xs, name, colocate_gradients_with_ops, gate_gradients,
               aggregation_method)
  if _is_passed_by(sys._getframe(1)):
    return _tf.ORIGINAL_HESSIANS(*arguments)
  return _checked_hessians(*arguments)


@functools.wraps(_tf.ORIGINAL_HESSIANS_OF_V2)
def _hessians_of_v2(ys, xs, gate_gradients=False, aggregation_method=None,
                    name="hessians"):
  arguments = ys, xs, name, True, gate_gradients, aggregation_method
  if _is_passed_by(sys._getframe(1)):
    return _tf.ORIGINAL_HESSIANS(*arguments)
  return _checked_hessians(*arguments)


def _checked_hessians(*arguments):
  # pylint: disable-next=import-outside-toplevel
  from gradfeed.derivatives import hessians as hessians_lib  # Rarely used.
  return handover.or_tensorflow(
      lambda: hessians_lib.hessians(*arguments),
      lambda: _tf.ORIGINAL_HESSIANS(*arguments))


def session_run(original):
  """What takes the place of `original`, the `run` of a class of sessions."""

  @functools.wraps(original)
  def run(self, fetches, feed_dict=None, options=None, run_metadata=None):
    if _is_passed_by(sys._getframe(1)):
      return original(self, fetches, feed_dict, options, run_metadata)
    return handover.checked_run(
        self, fetches, feed_dict, options, run_metadata, original)

  return run


@functools.lru_cache(maxsize=None)
def keras_gradients(original):
  """What takes the place of `original`, the `gradients` of Keras' backend."""

  @functools.wraps(original)
  def gradients(loss, variables):
    if _is_passed_by(sys._getframe(1)):
      return original(loss, variables)
    return handover.or_tensorflow(
        lambda: gradients_lib.gradients(
            loss, variables, colocate_gradients_with_ops=True, dense=False),
        lambda: original(loss, variables))

  return gradients


@functools.lru_cache(maxsize=None)
def keras_function(original):
  """What takes the place of `original`, the `function` of Keras' backend."""

  @functools.wraps(original)
  def function(inputs, outputs, updates=None, name=None, **kwargs):
    made = original(inputs, outputs, updates=updates, name=name, **kwargs)
    if _is_passed_by(sys._getframe(1)) or kwargs:
      return made
    return keras_functions.checked(made, inputs)

  return function


#: From TensorFlow's functions to those that take their places.
OF_FUNCTIONS = {
    _tf.ORIGINAL_GRADIENTS: _gradients,
    _tf.ORIGINAL_GRADIENTS_OF_V2: _gradients_of_v2,
    _tf.ORIGINAL_HESSIANS: _hessians,
    _tf.ORIGINAL_HESSIANS_OF_V2: _hessians_of_v2,
}

#: Functions of Keras' backend, by name, to what makes their replacements.
OF_KERAS = {"function": keras_function, "gradients": keras_gradients}
