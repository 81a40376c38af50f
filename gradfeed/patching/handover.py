"""Hands calls to TensorFlow that gradfeed refuses and that may be healthy.

Some refusals mean that a result would be wrong: a value that is lost in a cast,
a layer that is fed without effect. Others mean that gradfeed does not know what
was passed, or that something is missing which a run may not come to need, such
as a variable that is read in the branch that is not taken. TensorFlow decides
about these. Where it fails too, the error that is raised is gradfeed's, if code
that expects TensorFlow's catches it.
"""

import warnings

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation import session_run

# pylint: disable=protected-access

_LEFT_TO_TENSORFLOW = (
    errors.ArgumentError, errors.EagerModeError, errors.GraphMismatchError,
    errors.GraphTooLargeError, errors.MissingFeedError,
    errors.MissingGradientError, errors.TensorNotFoundError,
    errors.UninitializedError)


def or_tensorflow(checked, original):
  """What `checked` returns, or `original` where it refuses without certainty.

  Args:
    checked: function without arguments, of gradfeed.
    original: function without arguments, of TensorFlow.

  Raises:
    GradfeedError: as `checked`, where that is a subclass of what `original`
      raises, or where the result of `original` may be wrong.
  """
  try:
    return checked()
  except _LEFT_TO_TENSORFLOW as error:
    refusal = error
  try:
    return original()
  except Exception as error:
    if not isinstance(refusal, type(error)):
      raise
    if isinstance(error, tf.errors.OpError):
      refusal._op, refusal._node_def = error.op, error.node_def
    raise refusal from error


def run_or_tensorflow(checked, original, fed=()):
  """As `or_tensorflow`, for what runs ops.

  A derivative that is fetched together with a step of training is run as
  TensorFlow does, with a warning. So is a value for something else than a
  placeholder in a finalized graph, where TensorFlow 1 has it take effect.

  Args:
    checked: as in `or_tensorflow`.
    original: as in `or_tensorflow`.
    fed: what is fed: tensors, variables, names.
  """
  try:
    return or_tensorflow(checked, original)
  except errors.AssignmentError as refusal:
    warnings.warn(errors.GradfeedWarning(
        "{} It is run all the same, as TensorFlow does.".format(refusal)),
                  stacklevel=2)
  except errors.FinalizedGraphError:
    if _tf.IS_TF2 or any(map(_tf.is_resource_variable, fed)):
      raise  # TensorFlow may ignore what is fed.
  return original()


def checked_run(session, fetches, feed_dict, options, run_metadata,
                original=_tf.session_run):
  """`gf.run` of what was passed to `Session.run`.

  Args:
    session: `tf.Session`.
    fetches: as in `Session.run`.
    feed_dict: as in `Session.run`.
    options: as in `Session.run`.
    run_metadata: as in `Session.run`.
    original: the `run` that it takes the place of, unbound.

  Returns:
    As `Session.run`.
  """

  def by_tensorflow():
    return original(session, fetches, feed_dict, options, run_metadata)

  if not session.graph.version or not _is_feedable(session.graph, feed_dict):
    return by_tensorflow()
  return run_or_tensorflow(
      lambda: session_run.run(
          session, fetches, feed_dict, options, run_metadata),
      by_tensorflow, feed_dict or ())


def _is_feedable(graph, feed_dict):
  """Whether TensorFlow has not read the value of a key while it built."""
  return not isinstance(feed_dict, dict) or all(
      not isinstance(key, tf.Tensor) or graph.is_feedable(key)
      for key in feed_dict)
