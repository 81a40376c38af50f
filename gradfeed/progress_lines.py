"""One line on a terminal that tells how far a long computation is."""

import sys
import time

_SECONDS_ON_TERMINAL = 0.2
_SECONDS_IN_LOG = 30.0


def reporter(progress, describe, after=0.0):
  """Makes what is told of each evaluation.

  Args:
    progress: None for a line on a terminal; True for that, or a line each half
      minute in a log; False for nothing; or a function of the user's, which is
      told the state.
    describe: function from the parts of a state to a str, what a line says.
    after: float, the seconds before the first line on a terminal.

  Returns:
    function of the parts of a state, with a method `close`; None for nothing.
  """
  if progress is None:
    progress = sys.stderr.isatty()
  if progress is False:
    return None
  return (_Line(sys.stderr, describe, after) if progress is True else
          _Callback(progress))


class _Callback:
  """Calls a function of the user's."""

  def __init__(self, function):
    self._function = function

  def __call__(self, *state):
    self._function(*state)

  def close(self):
    pass


class _Line:
  """Writes over one line on a terminal; in a log, a line each half minute."""

  def __init__(self, stream, describe, after):
    self._stream = stream
    self._describe = describe
    self._on_terminal = stream.isatty()
    self._seconds_between = (
        _SECONDS_ON_TERMINAL if self._on_terminal else _SECONDS_IN_LOG)
    wait = after if self._on_terminal else self._seconds_between
    self._next = time.perf_counter() + wait
    self._state = None
    self._is_shown = False

  def __call__(self, *state):
    self._state = state
    now = time.perf_counter()
    if now >= self._next:
      self._next = now + self._seconds_between
      self._write()

  def _write(self):
    """Shows the present state."""
    self._is_shown = True
    text = "gradfeed: " + self._describe(*self._state)
    self._stream.write("\r" + text + "\x1b[K" if self._on_terminal else
                       text + "\n")
    self._stream.flush()

  def close(self):
    """Leaves the last state on the terminal, if there is a line."""
    if self._on_terminal and self._is_shown:
      self._write()
      self._stream.write("\n")
      self._stream.flush()
