"""Compiled calls: one set of feeds and fetches in one session, fast and safe.

A compiled call answers in a fraction of the time of `Session.run`, and lacks
what `Session.run` does around the call. That is made good here: results that
belong to the caller, one behaviour for denormals, stacks that do not overflow,
and the faster of two ways to run.
"""

import ctypes.util
import platform
import struct
import sys
import threading
import time
import weakref

import numpy as np

from gradfeed import _tf

#: Below this many seconds a call in the caller's thread always wins, since
#: handing it to TensorFlow's threads alone costs a good part of it.
_WORTH_TRYING = 250e-6
_TRIALS = 3

#: Slow calls in a row after which a choice is made, and quick ones after which
#: it no longer is: a busy machine makes single calls slow.
_SLOW_STREAK = 3
_QUICK_STREAK = 64

_CLEARLY = 0.97
_clock = time.perf_counter

_ARRAY = np.ndarray

_SHAPES_REMEMBERED = 256

#: More ops than this, one in the other, might fill the stack of a thread.
_DEEPEST = 5000

_ENVIRONMENT_BYTES = 64  # fenv_t has 32 bytes with glibc on x86-64.
_MXCSR_OFFSET = 28
_FLUSH_AND_ZERO = 0x8040


def _flushing_environment():
  """(get, set, environment) of the C library; all None where not known."""
  unknown = None, None, None
  if sys.platform != "linux" or platform.machine() != "x86_64":
    return unknown
  try:
    library = ctypes.PyDLL(ctypes.util.find_library("m") or "libm.so.6")
    get, set_ = library.fegetenv, library.fesetenv
    environment = ctypes.create_string_buffer(_ENVIRONMENT_BYTES)
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


_get_environment, _set_environment, _FLUSHING = _flushing_environment()


class _Spare(threading.local):
  """Buffers of this thread; several where calls nest (through a py_func)."""

  def __init__(self):
    super().__init__()
    self.buffers = []


_SPARE = _Spare()


def _run_here(way, arrays):
  """Runs in the caller's thread, denormals flushed to zero.

  So TensorFlow's own threads have them. The floating point environment belongs
  to a thread: it is saved, changed around the call, and put back.
  """
  spare = _SPARE.buffers
  saved = spare.pop() if spare else ctypes.create_string_buffer(
      _ENVIRONMENT_BYTES)
  _get_environment(saved)
  _set_environment(_FLUSHING)
  try:
    return way(arrays)
  finally:
    _set_environment(saved)
    spare.append(saved)


class CallSpec:
  """What is fed and fetched, whatever the session.

  Attributes:
    feeds: list of names of tensors to feed.
    fetches: list of names of tensors to fetch.
    private: list of bool, whether each fetch, unless folded into a constant,
      has a buffer of its own at each run.
    scalars: list of bool, whether each fetch is known to have no axis.
    targets: list of names of ops to run.
    in_pool: bool; TensorFlow's threads have to run it: a loop may recurse for
      each iteration and overflow the stack of the caller's thread.
    copy_feeds: bool; an op of the run may keep the buffer of a feed.
    timeout: seconds or None.
  """

  def __init__(self, feeds, fetches, private, scalars, targets, size,
               has_loop, copy_feeds, timeout):
    self.feeds = feeds
    self.fetches = fetches
    self.private = private
    self.scalars = scalars
    self.targets = targets
    self.in_pool = (has_loop or size > _DEEPEST or timeout is not None or
                    _FLUSHING is None)
    self.copy_feeds = copy_feeds
    self.timeout = timeout


class _Pace:
  """Whether a choice of ways is worth while: are calls slow, time and again."""

  __slots__ = ("has_choice", "streak")

  def __init__(self):
    self.has_choice = False
    self.streak = 0

  def tell(self, is_slow):
    """Counts one call; enough calls of the other kind change the answer."""
    if is_slow != self.has_choice:
      self.streak += 1
    else:
      self.streak = 0
    if self.streak >= (_QUICK_STREAK if self.has_choice else _SLOW_STREAK):
      self.has_choice, self.streak = not self.has_choice, 0


class Compiled:
  """A `CallSpec` in one raw session; call it with the fed arrays in order.

  Safe from many threads. The caller may write into what it returns.

  Attributes:
    direct: None, or, when nothing is left to find out, a function from the
      tuple of fed values to the list of results that does it all in one
      frame: Python that runs between two calls of a large network runs from
      cold caches. It returns None for values that it does not know.
  """

  def __init__(self, session, recipe, accepted, general=None):
    """Compiles.

    Args:
      session: raw `tf.Session`.
      recipe: `CallSpec`.
      accepted: list of (dtype, set of shapes), for each feed the arrays that
        `direct` may take as they are.
      general: `Compiled` whose `direct` is asked for values of other shapes,
        or None.
    """
    self._general = nothing if general is None else weakref.ref(general)
    self._copy_feeds = recipe.copy_feeds
    self._pool_only = recipe.in_pool or _tf.is_remote(session)
    self._recipe = recipe
    self._accepted = accepted
    self._copies = None  # Which results to copy; known at the second call.
    self._held = None
    self._all_fresh = False
    self._pace = _Pace()
    self.direct = None
    self._make = lambda on_caller: _tf.make_callable(
        session, recipe.feeds, recipe.fetches, recipe.targets, on_caller,
        recipe.timeout)
    self._ways = {}
    self._chosen = {}
    self._trials = {}
    self._first = self._way(not self._pool_only)

  def accepts(self, arrays):
    """Whether arrays of the right dtypes have shapes that it is made for."""
    return all(array.shape in shapes
               for array, (_, shapes) in zip(arrays, self._accepted))

  def _way(self, on_caller):
    way = self._ways.get(on_caller)
    if way is None:
      way = self._ways[on_caller] = self._make(on_caller)
    return way

  def __call__(self, arrays):
    """Runs once.

    Args:
      arrays: list of `np.ndarray` of exactly the dtypes of the feeds.

    Returns:
      list with the value of each fetch.
    """
    if self._copy_feeds:
      arrays = [np.array(array) for array in arrays]
    if self._pool_only:
      results = self._first(arrays)
    elif self._pace.has_choice:
      results = self._measured(arrays)
    else:
      start = _clock()
      results = _run_here(self._first, arrays)
      self._pace.tell(_clock() - start > _WORTH_TRYING)
    return results if self._all_fresh else self._owned(results)

  def _measured(self, arrays):
    """One call, by the way that is faster for values of these shapes.

    Ops that could run beside each other run one after the other in the
    caller's thread: up to a half slower, or, without anything to share, up to
    four times sooner. Both ways are timed on calls that are wanted anyway.
    """
    shapes = _shapes(arrays)
    on_caller = self._chosen.get(shapes)
    trial = None
    if on_caller is None:
      trial = self._trials.get(shapes)
      on_caller = trial is None or len(trial[0]) <= len(trial[1])
    way = self._way(on_caller)
    start = _clock()
    results = _run_here(way, arrays) if on_caller else way(arrays)
    elapsed = _clock() - start
    self._pace.tell(elapsed > _WORTH_TRYING)
    if trial is not None:
      self._judge(shapes, trial, on_caller, elapsed)
    elif on_caller and elapsed > _WORTH_TRYING and shapes not in self._chosen:
      if len(self._trials) >= _SHAPES_REMEMBERED:
        self._trials.clear()
      self._trials[shapes] = ([], [])
    return results

  def _judge(self, shapes, trial, on_caller, elapsed):
    trial[0 if on_caller else 1].append(elapsed)
    # The first call of each way fills caches and is not counted.
    if min(map(len, trial)) > _TRIALS:
      if len(self._chosen) >= _SHAPES_REMEMBERED:
        self._chosen.clear()
      # A draw goes to the pool, which is what Session.run does.
      self._chosen[shapes] = (
          min(trial[0][1:]) < _CLEARLY * min(trial[1][1:]))
      self._trials.pop(shapes, None)

  def _owned(self, results):
    """The results as arrays that nobody else can see.

    TensorFlow hands out its own buffers. That of a fetch which was folded into
    a constant is the same at each call, and two fetches that were found to be
    the same share one; any other is fresh. The views of two calls, alive
    together, tell by their addresses which it is.
    """
    views = [result if type(result) is _ARRAY and result.base is not None
             else None for result in results]
    if self._copies is None:
      held = self._held
      if held is None:
        self._held = views
        return [result if view is None else view.copy()
                for result, view in zip(results, views)]
      self._settle(held, results, views)
    return [result if view is None or not copies else view.copy()
            for result, view, copies in zip(results, views, self._copies)]

  def _settle(self, held, results, views):
    seen = {view.ctypes.data for view in held if view is not None}
    copies = []
    for result, view, private, scalar in zip(
        results, views, self._recipe.private, self._recipe.scalars):
      if view is None:  # A scalar, or an array that owns its memory.
        copies.append(not scalar and type(result) is not _ARRAY)
      else:
        copies.append(not private or not view.size or
                      view.ctypes.data in seen)
        seen.add(view.ctypes.data)
    self._copies, self._held = copies, None
    self._all_fresh = not any(copies)
    if self._all_fresh and not self._pool_only and not self._copy_feeds:
      self.direct = _direct(
          self._accepted, self._pace, self._first, self._general)


def nothing():
  """A weak reference to nothing."""
  return None


def _direct(accepted, pace, call, general):
  """The function that `Compiled.direct` is; see there."""
  run, pointer, handle = call.parts
  spare = _SPARE

  def direct(values, _keep=call):
    if pace.has_choice or len(values) != len(accepted):
      return None
    for (dtype, shapes), value in zip(accepted, values):
      if not (type(value) is _ARRAY and value.dtype is dtype and
              value.shape in shapes):
        other = general()
        return None if other is None or other.direct is None else (
            other.direct(values))
    buffers = spare.buffers
    saved = buffers.pop() if buffers else ctypes.create_string_buffer(
        _ENVIRONMENT_BYTES)
    start = _clock()
    _get_environment(saved)
    _set_environment(_FLUSHING)
    try:
      results = run(pointer, handle, values, None)
    finally:
      _set_environment(saved)
      buffers.append(saved)
    is_slow = _clock() - start > _WORTH_TRYING
    if is_slow or pace.streak:
      pace.tell(is_slow)
    return results

  return direct


def _shapes(arrays):
  return tuple(array.shape for array in arrays)
