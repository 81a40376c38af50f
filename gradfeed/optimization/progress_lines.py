"""One line on a terminal that tells how far an optimizer is."""

import sys
import time

_SECONDS_ON_TERMINAL = 0.2
_SECONDS_IN_LOG = 30.0


def reporter(progress):
  """Makes what is told of each evaluation.

  Args:
    progress: as in `minimizing.minimize`.

  Returns:
    function of the number of evaluations and the loss, with a method `close`;
    None for nothing.
  """
  if progress is None:
    progress = sys.stderr.isatty()
  if progress is False:
    return None
  return _Line(sys.stderr) if progress is True else _Callback(progress)


class _Callback:
  """Calls a function of the user's."""

  def __init__(self, function):
    self._function = function

  def __call__(self, evaluations, value):
    self._function(evaluations, value)

  def close(self):
    pass


class _Line:
  """Writes over one line on a terminal; in a log, a line each half minute."""

  def __init__(self, stream):
    self._stream = stream
    self._on_terminal = stream.isatty()
    self._last = time.perf_counter() if not self._on_terminal else 0.0
    self._state = None

  def __call__(self, evaluations, value):
    self._state = evaluations, value
    now = time.perf_counter()
    if now - self._last >= (_SECONDS_ON_TERMINAL if self._on_terminal else
                            _SECONDS_IN_LOG):
      self._last = now
      self._write()

  def _write(self):
    """Shows the present state."""
    text = "gradfeed: {} evaluations, loss {:.8g}".format(*self._state)
    self._stream.write("\r" + text + "\x1b[K" if self._on_terminal else
                       text + "\n")
    self._stream.flush()

  def close(self):
    """Leaves the last state on the terminal."""
    if self._on_terminal and self._state is not None:
      self._write()
      self._stream.write("\n")
      self._stream.flush()
