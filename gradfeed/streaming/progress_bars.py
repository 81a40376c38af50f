"""Shows the progress of a stream: a bar on a terminal, lines in a log."""

import os
import sys
import time

_SECONDS_BETWEEN = 30.0


def reporter(progress):
  """Makes what shows the progress of a stream.

  Args:
    progress: as in `streams.stream`: a function of (the number of rows that are
      done, the number of all or None); True for a bar or lines on stderr; or
      None or False for nothing.

  Returns:
    function of the same two numbers, to be called after each chunk; with a
    method `close` to be called at the end.
  """
  if progress is True:
    return _new_bar() or Lines()
  return _Callback(progress or None)


class _Callback:
  """Calls a function of the user's, if there is one."""

  def __init__(self, function):
    self._function = function

  def __call__(self, done, count):
    if self._function is not None:
      self._function(done, count)

  def close(self):
    pass


def _new_bar():
  """A bar of tqdm; None without a terminal to show it on, or without tqdm."""
  if not sys.stderr.isatty():
    return None
  try:
    import tqdm  # pylint: disable=g-import-not-at-top
  except ImportError:
    return None
  return _Bar(tqdm.tqdm)


class _Bar:
  """Shows a bar of tqdm, with the rate and the time left."""

  def __init__(self, tqdm):
    self._tqdm = tqdm
    self._bar = None

  def __call__(self, done, count):
    if self._bar is None:
      # A terminal that does not tell its size is not one of size zero.
      has_size = os.get_terminal_size(sys.stderr.fileno()).columns > 0
      size = {"dynamic_ncols": True} if has_size else {
          "ncols": 79, "nrows": 24}
      self._bar = self._tqdm(
          total=count, initial=done, unit=" points", unit_scale=True,
          file=sys.stderr, **size)
    self._bar.total = count
    self._bar.update(done - self._bar.n)

  def close(self):
    if self._bar is not None:
      self._bar.close()


class Lines:
  """Prints a line each half minute, and one where a stream is resumed."""

  def __init__(self):
    self._start = self._last = time.perf_counter()
    self._first = None  # The rows that were done at the first call.

  def __call__(self, done, count):
    now = time.perf_counter()
    if self._first is None:
      self._first = done
      if done:
        _print("going on after {}{} points.".format(done, _of_all(count)))
    elif now - self._last > _SECONDS_BETWEEN and done != count:
      self._last = now
      rate = (done - self._first) / (now - self._start)
      _print("{}{} points, {:.0f} in a second{}.".format(
          done, _of_all(count), rate, "" if not (count and rate) else
          ", {:.0f} s left".format(max(count - done, 0) / rate)))

  def close(self):
    pass


def _of_all(count):
  """" of 100" for a count of 100; nothing where it is not known."""
  return "" if count is None else " of {}".format(count)


def _print(line):
  print("gradfeed: " + line, file=sys.stderr, flush=True)
