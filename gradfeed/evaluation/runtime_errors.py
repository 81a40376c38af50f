"""Translates errors that TensorFlow raises during a run."""

import re

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation import sessions
from gradfeed.graph import assertions
from gradfeed.graph import tensors
from gradfeed.graph import traversal

#: What TensorFlow says when the tape of a Python function is not there.
_TAPE_TAKEN = re.compile(r"KeyError: b?'pyfunc_\d+'")

#: What TensorFlow says when it adds up handles of variables as numbers.
_RESOURCE_SUM = "of resource is not in the list of allowed values"

#: How it names the op that failed.
_FAILED_OP = re.compile(r"\{\{(?:function_)?node ([^\s}]+)\}\}")

#: The scope of a copy for fixed shapes, before the name of the original.
_FIXED = re.compile("^{}fixed[^/]*/part[^/]*/".format(_tf.SCOPE))

#: How many of the fed tensors a message lists.
_MOST_LISTED = 6


def translate(error, plan, session, graph, arrays):
  """A clearer error for one that was raised by a run.

  Args:
    error: `tf.errors.OpError` or `RuntimeError`.
    plan: `plans.Plan` that was run.
    session: whatever stands for a session; the one that ran it.
    graph: `tf.Graph`.
    arrays: sequence of the arrays that were fed, in the order of `plan.slots`.

  Returns:
    `errors.GradfeedError`, or None where `error` is to be raised as it is; it
    names the op that failed, as in `Session.run`.
  """
  if isinstance(error, errors.GradfeedError):
    return None
  _name_op(error, graph)
  if _tf.is_closed(session):
    return sessions.closed()
  timeout = plan.call_spec.timeout
  if isinstance(error, tf.errors.DeadlineExceededError) and timeout is not None:
    return _timeout_error(timeout, plan.waiting)
  if _RESOURCE_SUM in str(error):
    return _defun_error()
  if _TAPE_TAKEN.search(str(error)):
    return _tape_error()
  translated = assertions.translate(str(error), graph)
  if translated is None and isinstance(error, tf.errors.InvalidArgumentError):
    return _value_error(error, plan, graph, arrays)
  return translated


def _value_error(error, plan, graph, arrays):
  """The error for values that an op cannot take.

  Args:
    error: `tf.errors.InvalidArgumentError`.
    plan, graph, arrays: as in `translate`.

  Returns:
    `errors.FeedError`, or None where the op that failed reads nothing fed.
  """
  fed = [(plan.slots[i], arrays[i]) for i in plan.active]
  op = error.op
  if op is not None:
    above = traversal.ancestors([op])
    fed = [(slot, array) for slot, array in fed if slot.target.op.name in above]
  if not fed:
    return None
  message = error.message.strip().split("\n")[0].rstrip(".:")
  translated = errors.FeedError(
      "{} cannot take the values that were fed: {}.".format(
          "An op" if op is None else tensors.describe(op), message),
      "It reads {}{}.".format("; ".join(
          "{} with a value of shape {}".format(
              tensors.describe(slot.component),
              tensors.format_shape(np.shape(array)))
          for slot, array in fed[:_MOST_LISTED]), "; and {} more".format(
              len(fed) - _MOST_LISTED) if len(fed) > _MOST_LISTED else ""),
      "Feed values of a shape and content that the op can take.")
  # What code that catches a `tf.errors.InvalidArgumentError` looks at.
  translated._op = op  # pylint: disable=protected-access
  translated._node_def = (  # pylint: disable=protected-access
      error.node_def if op is None else op.node_def)
  return translated


def _name_op(error, graph):
  """Gives an error the op that its message names, if it has none.

  Compiled calls raise errors without it, and code that catches them reads it.
  """
  if isinstance(error, tf.errors.OpError) and error.op is None:
    op = _failed_op(error.message, graph)
    if op is not None:
      error._op = op  # pylint: disable=protected-access
      error._node_def = op.node_def  # pylint: disable=protected-access


def _failed_op(message, graph):
  """The op of `graph` that a message of TensorFlow names, or None."""
  for name in _FAILED_OP.findall(message):
    try:
      return graph.get_operation_by_name(_FIXED.sub("", name))
    except (KeyError, ValueError):
      continue  # It is in the body of a function.
  return None


def _tape_error():
  """The error for a gradient of `tf.py_function` that finds no tape."""
  return errors.UnsupportedGraphError(
      "A gradient of tf.py_function cannot run.",
      "TensorFlow keeps one tape for the function, that of its last call, and "
      "its gradient takes it once: here it was taken already, by another "
      "gradient of the same run, by another turn of a loop, or by a "
      "session.run of another thread.",
      "Evaluate one gradient of the function in one call, build it outside of "
      "loops, and leave the evaluation to gradfeed where there are threads; "
      "or write the function from TensorFlow's ops.")


def _timeout_error(timeout, waiting):
  """The error for a run of more than `timeout` seconds.

  Args:
    timeout: float, seconds.
    waiting: list of the ops of the run that wait for something outside of it.
  """
  names = ", ".join("{} '{}'".format(op.type, op.name) for op in waiting)
  return errors.TimeLimitError(
      "The run took longer than {:g} s.".format(timeout),
      "It waits for {}.".format(names) if names
      else "The computation is longer than that.",
      "Feed the output of that op, or start its queue runners "
      "(tf.train.start_queue_runners)." if names
      else "Give a longer timeout.")


def _defun_error():
  """The error for a sum of handles in the gradient of a function of Defun."""
  return errors.UnsupportedGraphError(
      "The gradient of a function of Defun cannot run.",
      "It reads a resource variable more than once, and TensorFlow's "
      "gradient of it adds up handles as if they were numbers.",
      "Give the variable a value here (make it an input), pass its value "
      "to the function as an argument, or make it with tf.function.")
