"""What watches `tf.gradients` and `Session.run`, and hands each call on.

It stands in the place of TensorFlow's functions as `patching.replacements`
does, and returns what they return.
"""

import functools
import sys

from gradfeed import _tf
from gradfeed.patching import callers

# pylint: disable=protected-access


class Hooks:
  """A source of replacements for `patching.entry_points.EntryPoints`."""

  def __init__(self, recorder):
    """Takes the `records.Recorder` that is told of each call."""

    class State:
      """Whether calls are recorded at this moment."""

      is_active = False

    self.State = State  # pylint: disable=invalid-name
    self._recorder = recorder
    self.OF_FUNCTIONS = {  # pylint: disable=invalid-name
        original: self._gradients(original) for original in (
            _tf.ORIGINAL_GRADIENTS, _tf.ORIGINAL_GRADIENTS_OF_V2,
            _tf.ORIGINAL_HESSIANS, _tf.ORIGINAL_HESSIANS_OF_V2)}
    self.OF_KERAS = {  # pylint: disable=invalid-name
        "gradients": self._gradients}

  def _gradients(self, original):
    """What takes the place of `original`, which takes ys and xs first."""

    @functools.wraps(original)
    def gradients(*arguments, **options):
      frame = sys._getframe(1)
      if not self.State.is_active or callers.is_own(frame):
        return original(*arguments, **options)
      ys, xs = (list(arguments) + [None, None])[:2]
      return self._recorder.gradients(
          lambda: original(*arguments, **options), frame,
          options.get("ys", options.get("loss", ys)),
          options.get("xs", options.get("variables", xs)))

    return gradients

  def session_run(self, original):
    """What takes the place of `original`, the `run` of a class of sessions."""

    @functools.wraps(original)
    def run(session, fetches, feed_dict=None, options=None, run_metadata=None):
      frame = sys._getframe(1)
      if not self.State.is_active or callers.is_own(frame):
        return original(session, fetches, feed_dict, options, run_metadata)
      return self._recorder.run(
          lambda: original(session, fetches, feed_dict, options, run_metadata),
          frame, session, fetches, feed_dict)

    return run
