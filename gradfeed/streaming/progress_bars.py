"""How far a stream is: a bar on a terminal, a line now and then in a log."""

import os
import sys
import time

_SECONDS_BETWEEN = 30.0


def shown(progress):
  """What is called after each chunk, and closed at the end.

  Args:
    progress: function of the number of rows done and of all; True; or None.

  Returns:
    function of the same, with a method `close`.
  """
  if progress is True:
    return _bar() or Lines()
  return _Called(progress)


class _Called:
  """A function of the caller's, or nothing."""

  def __init__(self, function):
    self._function = function

  def __call__(self, done, count):
    if self._function is not None:
      self._function(done, count)

  def close(self):
    pass


def _bar():
  """A bar of tqdm, if there is a terminal to show it on, and tqdm."""
  if not sys.stderr.isatty():
    return None
  try:
    import tqdm  # pylint: disable=g-import-not-at-top
  except ImportError:
    return None
  return _Bar(tqdm.tqdm)


class _Bar:
  """A bar with the rate and the time left."""

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
  """A line at the beginning, if it goes on, and one each half minute."""

  def __init__(self):
    self._start = self._last = time.perf_counter()
    self._first = None

  def __call__(self, done, count):
    now = time.perf_counter()
    if self._first is None:
      self._first = done
      if done:
        _print("going on after {}{} points.".format(done, _of(count)))
    elif now - self._last > _SECONDS_BETWEEN and done != count:
      self._last = now
      rate = (done - self._first) / (now - self._start)
      _print("{}{} points, {:.0f} in a second{}.".format(
          done, _of(count), rate, "" if not (count and rate) else
          ", {:.0f} s left".format(max(count - done, 0) / rate)))

  def close(self):
    pass


def _of(count):
  return "" if count is None else " of {}".format(count)


def _print(line):
  print("gradfeed: " + line, file=sys.stderr, flush=True)
