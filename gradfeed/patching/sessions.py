"""`Session` and `InteractiveSession`, whose `run` is `gf.run`."""

import sys

from gradfeed import _tf
from gradfeed.patching import callers
from gradfeed.patching import handover

# pylint: disable=protected-access


class _CheckedRuns:
  """What both kinds of session have in common."""

  def run(self, fetches, feed_dict=None, options=None, run_metadata=None):
    """Runs ops and evaluates tensors, by `gradfeed.run`.

    Calls of TensorFlow's own code, such as those of a Saver, are run as
    TensorFlow does.

    Args:
      fetches: as in `tf.Session.run`.
      feed_dict: as in `tf.Session.run`. Every value takes effect or is refused.
      options: as in `tf.Session.run`.
      run_metadata: as in `tf.Session.run`.

    Returns:
      As `tf.Session.run`; the arrays belong to the caller.

    Raises:
      The errors of `gradfeed.run`, which are those of `tf.Session.run` too.
    """
    run = (_tf.session_run if callers.is_own(sys._getframe(1)) else
           handover.checked_run)
    return run(self, fetches, feed_dict, options, run_metadata)

  def make_callable(self, fetches, feed_list=None, accept_options=False):
    """Makes a function that calls `run` with values for `feed_list`.

    Args:
      fetches: as in `tf.Session.make_callable`.
      feed_list: as in `tf.Session.make_callable`.
      accept_options: as in `tf.Session.make_callable`.

    Returns:
      A function of the values of `feed_list`.
    """
    made = super().make_callable(fetches, feed_list, accept_options)
    if feed_list is not None or callers.is_own(sys._getframe(1)):
      return made  # With feeds, TensorFlow calls `run` itself.
    if accept_options:
      return lambda options=None, run_metadata=None: self.run(
          fetches, options=options, run_metadata=run_metadata)
    return lambda: self.run(fetches)


class Session(_CheckedRuns, _tf.Session):
  """A `tf.Session` whose `run` is `gradfeed.run`.

  It takes the same arguments and has the same methods. `Tensor.eval`,
  `Operation.run` and what `make_callable` makes go through `run`;
  `partial_run` is TensorFlow's.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), gf.Session() as session:
    ...   h = tf.constant(3.0) * 3.0
    ...   y = tf.exp(-h)
    ...   print(session.run(y, {h: 0.0}), y.eval({h: 0.0}))
    1.0 1.0
  """


class InteractiveSession(_CheckedRuns, _tf.InteractiveSession):
  """A `tf.InteractiveSession` whose `run` is `gradfeed.run`.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default():
    ...   session = gf.InteractiveSession()
    ...   h = tf.constant(3.0) * 3.0
    ...   print(tf.exp(-h).eval({h: 0.0}))
    ...   session.close()
    1.0
  """
