"""The time that a check may take, and what it has done of what it is to do."""

import numbers
import time

from gradfeed import errors
from gradfeed import progress_lines

#: The seconds before a line of progress appears: most checks take less.
_SECONDS_BEFORE_LINE = 2.0

_clock = time.monotonic


class OutOfTime(Exception):  # Not an error: nothing that catches these may.
  """The time of a check is used up: no more is evaluated."""


class Budget:
  """The seconds and the evaluations of one check.

  A run of TensorFlow goes on to its end, whatever timeout it was given: that
  makes it fail after its end. So no run is begun once the time is up.

  Attributes:
    seconds: float, or None for no limit.
    is_spent: bool, whether something was left out because the time was up.
    compared: int, along how many directions was compared.
    directions: int, along how many there is to be compared, as far as known.
    missing: list of str, what has not been looked at yet.
  """

  def __init__(self, seconds=None, progress=False):
    """Begins now.

    Args:
      seconds: float, or None for no limit.
      progress: as in `progress_lines.reporter`; a function is told the numbers
        of evaluations, of directions compared, and of all directions.
    """
    _check(seconds, progress)
    self.seconds = seconds
    self.is_spent = False
    self.compared = self.directions = 0
    self.missing = []
    self._evaluations = 0
    self._start = _clock()
    self._report = progress_lines.reporter(
        progress, self._line, _SECONDS_BEFORE_LINE)

  def begin_evaluation(self, is_needed=False):
    """Counts an evaluation.

    Args:
      is_needed: bool, whether there is nothing to report without it.

    Raises:
      OutOfTime: it must not begin.
    """
    if not is_needed and self.seconds is not None and (
        self.elapsed() >= self.seconds):
      self.is_spent = True
      raise OutOfTime
    self._evaluations += 1
    if self._report is not None:
      self._report(self._evaluations, self.compared, self.directions)

  def finish(self, what):
    """Takes something from what is `missing`."""
    self.missing.remove(what)

  def elapsed(self):
    """The seconds since the beginning, a float."""
    return _clock() - self._start

  def close(self):
    """Ends the line of progress."""
    if self._report is not None:
      self._report.close()

  def _line(self, evaluations, compared, directions):
    return "check: {}{} evaluations, {:.0f} s{}".format(
        "{} of {} directions, ".format(compared, directions) if directions
        else "", evaluations, self.elapsed(),
        "" if self.seconds is None else " of {:g}".format(self.seconds))


def _check(seconds, progress):
  """Refuses what is no time, and no way to show progress."""
  if seconds is not None and (
      isinstance(seconds, bool) or not isinstance(seconds, numbers.Real) or
      not 0 < seconds < float("inf")):
    raise errors.ArgumentError(
        "seconds={!r} is no time.".format(seconds),
        "It is how long the check may take.",
        "Pass a positive number, or None for no limit.")
  if not (progress is None or isinstance(progress, bool) or
          callable(progress)):
    raise errors.ArgumentError(
        "progress={!r} cannot be told of progress.".format(progress),
        "It is called with the numbers of evaluations and of directions.",
        "Pass a function, True or False, or None for a line on a terminal.")
