"""Which thread runs a call: the caller's, or those of TensorFlow's pool.

The caller's thread answers a small graph several times sooner. The pool runs
ops beside each other, and flushes denormals to zero; `run_on_caller` has them
flushed in the caller's thread too.

The choice for one compiled call:

1. At first it is the caller's thread, which is faster for all small graphs.
2. After several slow calls in a row (`Slowness`), once it is worth it to
   compile a call in the pool, both are timed, on calls that are made anyway,
   and the faster is kept: one choice for each tuple of shapes of the fed arrays
   (`ThreadTimings`).
3. After many quick calls in a row it is the caller's thread again, as in 1.
"""

import collections
import ctypes
import platform
import struct
import sys
import threading

#: A call of more seconds than this is slow. Quicker calls are always faster in
#: the caller's thread: to hand a call to the pool takes a good part of this.
SLOW = 250e-6

#: How many calls are counted for each thread before the faster is chosen.
_TIMED_CALLS = 3

#: Slow calls in a row after which the threads are compared, and quick ones
#: after which they no longer are: a busy machine makes single calls slow.
_SLOW_STREAK = 3
_QUICK_STREAK = 64

#: The caller's thread is chosen if it takes less than this share of the time in
#: the pool. Otherwise it is the pool, as in `Session.run`.
_CLEARLY_FASTER = 0.97

_SHAPES_REMEMBERED = 256

ENVIRONMENT_BYTES = 64  # fenv_t has 32 bytes with glibc on x86-64.
_MXCSR_OFFSET = 28
_FLUSH_AND_ZERO = 0x8040


def _flushing_environment():
  """How to have denormals flushed to zero in the calling thread.

  Returns:
    (fegetenv, fesetenv, buffer with the environment to set), the functions
    being those of the C library; all None where its layout is not known.
  """
  unknown = None, None, None
  if sys.platform != "linux" or platform.machine() != "x86_64":
    return unknown
  try:
    library = ctypes.PyDLL("libm.so.6")
    get, set_ = library.fegetenv, library.fesetenv
    environment = ctypes.create_string_buffer(ENVIRONMENT_BYTES)
    if get(environment):
      return unknown
  except (OSError, AttributeError):
    return unknown
  mxcsr, = struct.unpack_from("I", environment, _MXCSR_OFFSET)
  # The default control word; anything else means another layout.
  if mxcsr & 0xFFC0 & ~_FLUSH_AND_ZERO != 0x1F80:
    return unknown
  struct.pack_into("I", environment, _MXCSR_OFFSET, mxcsr | _FLUSH_AND_ZERO)
  return get, set_, environment


#: Functions that save and set the floating point environment of the calling
#: thread, each given a buffer, and the environment in which denormals are
#: flushed to zero; None where this is not known of the machine.
get_environment, set_environment, FLUSHING = _flushing_environment()


class _SpareBuffers(threading.local):
  """Buffers for the environment of this thread, which no call uses now.

  There are several where calls nest (through a py_func).
  """

  def __init__(self):
    super().__init__()
    self.buffers = []


SPARE = _SpareBuffers()


def run_on_caller(call, arrays):
  """Runs `call` in the caller's thread, with denormals flushed to zero.

  TensorFlow's own threads flush them too. The floating point environment
  belongs to a thread: it is saved, changed around the call, and put back.
  """
  spare = SPARE.buffers
  saved = spare.pop() if spare else ctypes.create_string_buffer(
      ENVIRONMENT_BYTES)
  get_environment(saved)
  set_environment(FLUSHING)
  try:
    return call(arrays)
  finally:
    set_environment(saved)
    spare.append(saved)


class Slowness:
  """Whether calls are slow, time and again.

  Attributes:
    is_slow: bool; changes after enough calls of the other kind in a row.
    streak: int, how many of the last calls were of the other kind.
  """

  __slots__ = ("is_slow", "streak")

  def __init__(self):
    self.is_slow = False
    self.streak = 0

  def count(self, was_slow):
    """Counts one call."""
    if was_slow != self.is_slow:
      self.streak += 1
    else:
      self.streak = 0
    if self.streak >= (_QUICK_STREAK if self.is_slow else _SLOW_STREAK):
      self.is_slow, self.streak = not self.is_slow, 0


#: Seconds of the calls that were timed in the caller's thread and in the pool.
_Timings = collections.namedtuple("_Timings", ["caller", "pool"])


class ThreadTimings:
  """Whether the caller's thread or the pool is faster, for each shape.

  Ops that could run beside each other run one after the other in the caller's
  thread: that takes up to half as long again, or, if there is nothing to run
  beside each other, as little as a quarter of the time.
  """

  def __init__(self):
    self._faster_on_caller = {}
    self._timings = {}

  def choose(self, shapes):
    """Whether to run a call with arrays of these shapes in the caller's thread.
    """
    is_faster = self._faster_on_caller.get(shapes)
    if is_faster is not None:
      return is_faster
    timings = self._timings.get(shapes)
    return timings is None or len(timings.caller) <= len(timings.pool)

  def record(self, shapes, on_caller, seconds):
    """Takes the time of one call into account.

    Args:
      shapes: tuple of the shapes of the fed arrays.
      on_caller: bool, whether it ran in the caller's thread.
      seconds: float.
    """
    if shapes in self._faster_on_caller:
      return
    timings = self._timings.get(shapes)
    if timings is None:
      if on_caller and seconds > SLOW:
        forget_if_many(self._timings)
        self._timings[shapes] = _Timings([], [])
      return
    (timings.caller if on_caller else timings.pool).append(seconds)
    # The first call in each thread fills caches and is not counted.
    if min(map(len, timings)) > _TIMED_CALLS:
      forget_if_many(self._faster_on_caller)
      self._faster_on_caller[shapes] = (
          min(timings.caller[1:]) < _CLEARLY_FASTER * min(timings.pool[1:]))
      self._timings.pop(shapes, None)


def forget_if_many(by_shapes):
  """Empties a dict or a set before it grows too large."""
  if len(by_shapes) >= _SHAPES_REMEMBERED:
    by_shapes.clear()
