"""Compiled calls: one set of feeds and fetches in one session, fast and safe.

A compiled call takes a fraction of the time of `Session.run`, and lacks what
`Session.run` does around the call. `Compiled` adds that: results that belong to
the caller, denormals flushed to zero in every thread alike, and no recursion
that overflows the stack of a thread.

A `Compiled` finds out from its own calls what it may leave out:

1. First call: every result is copied, and the originals are kept.
2. Second call: the addresses of the results of both calls tell which of them
   TensorFlow returns in a new buffer each time (`_ResultCopies`). From now on
   only the others are copied.
3. If no result has to be copied, nor a feed, and the ops may run in the thread
   of the caller, `fast_path` is set: a function that does a call in one Python
   frame.

Apart from that it chooses the thread in which the ops run, as `thread_choice`
says. To compare threads it has to compile once more, and does so when slow
calls have taken several times as long as the first compilation. While threads
are compared the fast path returns None, so that a call takes the longer path,
which measures. Where the callables of TensorFlow copy results, and these are
large, what is compiled then is a run that does not copy them.

A `Compiled` is held by its session alone (`_tf.session_cache`) and is released
with it. All else holds weak references to it and to its `fast_path`.
"""

import ctypes
import time
import weakref

import numpy as np

from gradfeed import _tf
from gradfeed.evaluation.calls import thread_choice
from gradfeed.graph import cache

_clock = time.perf_counter

_ARRAY = np.ndarray

#: More ops than this in a chain might overflow the stack of a thread.
_DEEPEST = 5000


#: Slow calls have to take this many times as long as it took to compile before
#: it is worth it to compile once more.
_WORTH = 4

#: Results of more bytes than this are not copied where that can be avoided: to
#: copy them takes longer than what a run takes more than a callable.
_LARGE = 2 ** 19


class CallSpec:
  """What is fed and fetched, whatever the session.

  Attributes:
    feeds: list of names of tensors to feed.
    fetches: list of names of tensors to fetch.
    private: list of bool, whether each fetch, unless folded into a constant,
      has a buffer of its own at each run.
    scalars: list of bool, whether each fetch is known to have no axis.
    targets: list of names of ops to run.
    has_loop: bool.
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
    self.has_loop = has_loop
    self.in_pool = (has_loop or size > _DEEPEST or timeout is not None or
                    thread_choice.FLUSHING is None)
    self.copy_feeds = copy_feeds
    self.timeout = timeout


class CallKey:
  """Stands for all equal `CallSpec`s of a graph, as long as one is in use.

  What is compiled for them is kept in a session under this key, which it does
  not refer to: so it is released with the last that holds the key.
  """


def key_of(graph, call_spec):
  """The `CallKey` of a `CallSpec`."""
  known = cache.cached(graph, "call keys", weakref.WeakValueDictionary)
  content = repr(sorted(vars(call_spec).items()))
  with cache.cache_of(graph).lock:
    key = known.get(content)
    if key is None:
      key = known[content] = CallKey()
  return key


class _ResultCopies:
  """Which results have to be copied, so that nobody else has their memory.

  TensorFlow returns its own buffers. That of a fetch which was folded into a
  constant is the same at each call, and two fetches that were found to be the
  same share one; any other is new. The buffers of two calls, alive together,
  tell by their addresses which it is.

  Attributes:
    none_needed: bool; True once no result has to be copied.
  """

  def __init__(self, call_spec):
    self._call_spec = call_spec
    self._first_views = None  # The results of the first call.
    self._is_copied = None  # list of bool; known at the second call.
    self.none_needed = False

  def owned(self, results):
    """The results of one call as arrays that belong to the caller."""
    views = [result if type(result) is _ARRAY and result.base is not None
             else None for result in results]
    if self._is_copied is None:
      first_views = self._first_views
      if first_views is None:
        self._first_views = views
        return [result if view is None else view.copy()
                for result, view in zip(results, views)]
      self._decide(first_views, results, views)
    return [result if view is None or not is_copied else view.copy()
            for result, view, is_copied in zip(
                results, views, self._is_copied)]

  def _decide(self, first_views, results, views):
    """Finds out from the arrays of two calls which results to copy."""
    addresses = {view.ctypes.data for view in first_views if view is not None}
    is_copied = []
    for result, view, is_private, is_scalar in zip(
        results, views, self._call_spec.private, self._call_spec.scalars):
      if view is None:  # A scalar, or an array that owns its memory.
        is_copied.append(not is_scalar and type(result) is not _ARRAY)
      else:
        is_copied.append(not is_private or not view.size or
                         view.ctypes.data in addresses)
        addresses.add(view.ctypes.data)
    self._is_copied, self._first_views = is_copied, None
    self.none_needed = not any(is_copied)


class Compiled:
  """A `CallSpec` in one raw session; call it with the fed arrays in order.

  Safe from many threads. The caller may write into what it returns. The states
  that it goes through are described at the top of this module.

  Attributes:
    fast_path: None, or a function from the tuple of fed values to the list of
      results. It does a call in one frame: Python that runs between two calls
      of a large network runs from cold caches. It returns None for a call that
      has to take the longer path, through `Compiled` itself.
    trial: the `trials.Trial` that its owner keeps with it.
    specialized: None, or a `Compiled` for feeds of certain shapes alone.
  """

  def __init__(self, session, call_spec, accepted, for_any_shapes=None):
    """Compiles.

    Args:
      session: raw `tf.Session`.
      call_spec: `CallSpec`.
      accepted: list of (dtype, set of shapes), for each feed the arrays that
        `fast_path` may take as they are.
      for_any_shapes: `Compiled` whose `fast_path` takes values of other shapes,
        or None.
    """
    self._for_any_shapes = (no_reference if for_any_shapes is None
                            else weakref.ref(for_any_shapes))
    self._accepted = accepted
    self._copies_feeds = call_spec.copy_feeds
    self._is_remote = _tf.is_remote(session)
    self._is_pool_only = call_spec.in_pool or self._is_remote
    self._result_copies = _ResultCopies(call_spec)
    self._slowness = thread_choice.Slowness()
    self._timings = thread_choice.ThreadTimings()
    self._make = lambda make, on_caller: make(
        session, call_spec.feeds, call_spec.fetches, call_spec.targets,
        on_caller, call_spec.timeout)
    # From (whether it is a run, whether it is in the caller's thread).
    self._calls = {}
    self._large = set()  # Shapes of feeds with large results, copied.
    start = _clock()
    self._first_choice = self._call_in(not self._is_pool_only, False)
    # Seconds of slow calls until threads are compared.
    self._wait = _WORTH * (_clock() - start)
    self.fast_path = self.trial = self.specialized = None
    self._counted = self._checked = None

  @property
  def is_slow(self):
    """bool, whether calls are slow, time and again."""
    return self._slowness.is_slow

  def counted_fast_path(self):
    """A weak reference to the `fast_path` that its trial counts, if any."""
    if self.fast_path is None:
      return no_reference
    if self._counted is None:
      self._counted = self.trial.counted(self.fast_path)
    return weakref.ref(self._counted)

  def checked_fast_path(self):
    """A weak reference to a `fast_path` without the last result, if any.

    That result tells whether the others are valid; where they are not, the call
    takes the longer path.
    """
    fast_path = self.fast_path
    if fast_path is None:
      return no_reference
    if self._checked is None:
      def checked(values):
        results = fast_path(values)
        return results[:-1] if results is not None and results[-1] else None
      self._checked = checked
    return weakref.ref(self._checked)

  def accepts(self, arrays):
    """Whether arrays of the right dtypes have shapes that it is made for."""
    return all(array.shape in shapes
               for array, (_, shapes) in zip(arrays, self._accepted))

  def __call__(self, arrays):
    """Runs once.

    Args:
      arrays: list of `np.ndarray` of exactly the dtypes of the feeds.

    Returns:
      list with the value of each fetch.
    """
    if self._copies_feeds:
      arrays = [np.array(array) for array in arrays]
    is_slow = self._slowness.is_slow
    if is_slow and self._wait <= 0:
      results = self._timed(arrays)
    else:
      start = _clock()
      results = self._run(self._first_choice, arrays, not self._is_pool_only)
      seconds = _clock() - start
      self._slowness.count(seconds > thread_choice.SLOW)
      if is_slow:
        self._wait -= seconds
        self._look_at(arrays, results)
    if self._result_copies.none_needed:
      return results
    results = self._result_copies.owned(results)
    if self._result_copies.none_needed and not (
        self._is_pool_only or self._copies_feeds):
      self.fast_path = _make_fast_path(
          self._accepted, self._slowness, self._first_choice,
          self._for_any_shapes)
    return results

  def _call_in(self, on_caller, is_run):
    """A callable, or a run, in the caller's thread or the pool; made once."""
    call = self._calls.get((is_run, on_caller))
    if call is None:
      call = self._calls[is_run, on_caller] = self._make(
          _tf.make_run if is_run else _tf.make_callable, on_caller)
    return call

  def _run(self, call, arrays, on_caller):
    return (thread_choice.run_on_caller(call, arrays) if on_caller
            else call(arrays))

  def _timed(self, arrays):
    """One call, in the thread that is faster for these shapes or to be timed.
    """
    shapes = tuple(array.shape for array in arrays)
    on_caller = not self._is_pool_only and self._timings.choose(shapes)
    call = self._call_in(on_caller, shapes in self._large)
    start = _clock()
    results = self._run(call, arrays, on_caller)
    seconds = _clock() - start
    self._slowness.count(seconds > thread_choice.SLOW)
    if not self._is_pool_only:
      self._timings.record(shapes, on_caller, seconds)
    self._look_at(arrays, results)
    return results

  def _look_at(self, arrays, results):
    """Remembers the shapes of feeds that have large results, copied."""
    if not self._is_remote and _tf.copied_bytes(results) > _LARGE:
      thread_choice.forget_if_many(self._large)
      self._large.add(tuple(array.shape for array in arrays))


def no_reference():
  """Stands for a weak reference to what does not exist (any more)."""
  return None


def _make_fast_path(accepted, slowness, call, for_any_shapes):
  """The function for `Compiled.fast_path`.

  Args:
    accepted: list of (dtype, set of shapes), as in `Compiled`.
    slowness: the `thread_choice.Slowness` of the `Compiled`.
    call: its callable in the caller's thread, from `_tf.make_callable`.
    for_any_shapes: weak reference to another `Compiled`, or to nothing.
  """
  run, pointer, handle = call.parts
  # In local variables, which are read faster.
  spare, slow = thread_choice.SPARE, thread_choice.SLOW
  flushing = thread_choice.FLUSHING
  get_environment = thread_choice.get_environment
  set_environment = thread_choice.set_environment

  def fast_path(values, _keep=call):
    if slowness.is_slow or len(values) != len(accepted):
      return None
    for (dtype, shapes), value in zip(accepted, values):
      if not (type(value) is _ARRAY and value.dtype is dtype and
              value.shape in shapes):
        compiled = for_any_shapes()
        return None if compiled is None or compiled.fast_path is None else (
            compiled.fast_path(values))
    buffers = spare.buffers
    saved = buffers.pop() if buffers else ctypes.create_string_buffer(
        thread_choice.ENVIRONMENT_BYTES)
    start = _clock()
    get_environment(saved)
    set_environment(flushing)
    try:
      results = run(pointer, handle, values, None)
    finally:
      set_environment(saved)
      buffers.append(saved)
    was_slow = _clock() - start > slow
    if was_slow or slowness.streak:
      slowness.count(was_slow)
    return results

  return fast_path
