"""Programs in the place of calls: when one is made, and if it is used.

There is one program for each set of shapes. Before it is used, it is run once
on the values of a call that TensorFlow has answered op by op, and has to give
the same; and it has to be faster:

1. Calls are counted until they have taken as long as making it may take.
2. The program is built in the next call, and compiled in a thread while calls
   go on.
3. Both are timed on calls that are made anyway, in turn, and the faster is
   kept.
"""

import collections
import functools
import threading
import time
import weakref

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.evaluation.calls import callables
from gradfeed import numeric_comparison

_clock = time.perf_counter

#: Sets of shapes of which is remembered how calls of them run.
_MOST_CHOICES = 256

#: Seconds of calls of some shapes after which a program is made for them.
WORTH = 2.0

#: How many calls of each kind are timed, after one that fills caches.
_TIMED_CALLS = 3

#: The program is taken if it takes less than this share of the time.
_CLEARLY_FASTER = 0.97

#: What a program of a plan is called by.
#:   call_spec: `callables.CallSpec`.
#:   key: `callables.CallKey`, under which a session keeps what it compiled.
#:   is_guarded: bool; whether the last result says if the values were valid.
#:   tolerance: float; by how much of the largest element its results may differ
#:     from those of the ops, with the precision that it computes in.
#:   has_loops: bool; whether there may be another one, without loops and
#:     branches.
Program = collections.namedtuple(
    "Program", ["call_spec", "key", "is_guarded", "tolerance", "has_loops"])


class Choice:
  """How calls of one set of shapes are run.

  Attributes:
    state: "counting", "compiling", "timing", "compiled" or "op by op".
    why: str, the reason for it.
    program: `Program`, or None.
    left: seconds of calls until a program is made.
    seconds: (list, list), of calls op by op and of calls of the program.
  """

  def __init__(self, worth):
    self.state, self.why = "counting", "few calls of these shapes so far"
    self.program = None
    self.left = worth
    self.seconds = [], []

  def settle(self, state, why):
    """Decides how calls are run from now on."""
    self.why = why
    self.state = state

  def wait(self, why, seconds=None):
    """Has the program tried again once calls have taken some seconds more."""
    self.left = WORTH if seconds is None else seconds
    self.settle("counting", why)


class Substitutes:
  """What takes the place of the calls of a plan.

  Safe from many threads. Subclasses say how a program is built.

  Attributes:
    cancelled: float; results that are smaller than this share of the largest
      number that goes in or comes out are compared as if they were as large.
    told: str, what `report_used` says of the shapes that have a program.
  """

  cancelled = 0.0
  told = ""

  def __init__(self, make_program, dtypes):
    """Makes nothing yet.

    Args:
      make_program: function that makes a `Program`, as the subclass calls it.
      dtypes: list of the NumPy dtypes of what is fed.
    """
    self._make_program = make_program
    self._dtypes = dtypes
    self._choices = collections.OrderedDict()
    self._last = None  # The choice of the last call.
    self._lock = threading.RLock()

  @property
  def compiled(self):
    """list of the tuples of shapes for which there is a program."""
    return [shapes for shapes, choice in list(self._choices.items())
            if choice.program is not None]

  def report(self):
    """str, how calls of each set of shapes are run, and why: a line for each.
    """
    return "\n".join("{}: {} ({})".format(
        ", ".join(map(str, shapes)), choice.state, choice.why)
                     for shapes, choice in list(self._choices.items()))

  def is_for(self, unused_op_by_op):
    """Whether calls of a `callables.Compiled` may be run in another way."""
    return True

  def report_used(self):
    """list of str: the sets of shapes of which calls run by a program."""
    return ["{}: {}".format(", ".join(map(str, shapes)), self.told)
            for shapes, choice in list(self._choices.items())
            if choice.state == "compiled"]

  def call(self, session, op_by_op, arrays):
    """One call.

    Args:
      session: raw `tf.Session`.
      op_by_op: function from the fed arrays to the results, which runs the ops.
      arrays: sequence of `np.ndarray`.

    Returns:
      list of the results.
    """
    choice = self._last = self._choice_of(
        tuple(np.shape(array) for array in arrays))
    if choice.state == "compiled":
      return self._run(choice, session, op_by_op, arrays)
    if choice.state == "counting":
      return self._count(choice, session, op_by_op, arrays)
    if choice.state == "timing":
      return self._timed(choice, session, op_by_op, arrays)
    return op_by_op(arrays)

  def fast_path(self, session, op_by_op):
    """The `callables.Compiled.fast_path` for calls like the last, if any.

    Args:
      session: raw `tf.Session`.
      op_by_op: `callables.Compiled` that runs the ops.

    Returns:
      Weak reference, or `callables.no_reference`.
    """
    last, compiled = self._last, None
    if last is None:
      return callables.no_reference
    if last.state == "compiled":
      compiled = _tf.session_cache(session).get(last.program.key)
      if compiled is not None and last.program.is_guarded:
        return compiled.checked_fast_path()
    elif all(choice.state == "op by op"
             for choice in list(self._choices.values())):
      compiled = op_by_op
    if compiled is None or compiled.fast_path is None:
      return callables.no_reference
    return weakref.ref(compiled.fast_path)

  def _choice_of(self, shapes):
    """The `Choice` of a set of shapes."""
    choice = self._choices.get(shapes)
    if choice is not None:
      return choice
    with self._lock:
      if len(self._choices) >= _MOST_CHOICES:
        self._forget_one()
      if len(self._choices) >= _MOST_CHOICES:
        choice = self._new_choice()  # Not kept: memory stays bounded.
        choice.settle("op by op", "too many sets of shapes")
        return choice
      return self._choices.setdefault(shapes, self._new_choice())

  def _new_choice(self):
    """The `Choice` of shapes of which there was no call before."""
    return Choice(WORTH)

  def _forget_one(self):
    """Forgets the first set of shapes of which few calls were made."""
    for shapes, choice in self._choices.items():
      if choice.state == "counting" and choice.program is None:
        del self._choices[shapes]
        return

  def _run(self, choice, session, op_by_op, arrays):
    """A call of the program, or op by op where it does not take the values."""
    results = self._compiled(choice.program, session, arrays)(arrays)
    if not choice.program.is_guarded:
      return results
    return results[:-1] if results[-1] else op_by_op(arrays)

  def _compiled(self, program, session, arrays):
    """The `callables.Compiled` of a program in a session; made once."""
    kept = _tf.session_cache(session)
    compiled = kept.get(program.key)
    if compiled is None:
      compiled = kept.setdefault(program.key, callables.Compiled(
          session, program.call_spec,
          [(dtype, frozenset([np.shape(array)]))
           for dtype, array in zip(self._dtypes, arrays)]))
    return compiled

  def _count(self, choice, session, op_by_op, arrays):
    """A call op by op; when such calls took long, a program is begun."""
    start = _clock()
    results = op_by_op(arrays)
    choice.left -= _clock() - start
    if choice.left > 0:
      return results
    with self._lock:
      if self._begins(choice, session, arrays):
        # The caller may write into its arrays.
        threading.Thread(target=self._compile_meanwhile, args=(
            choice, session, [np.array(array) for array in arrays],
            [np.array(result) for result in results])).start()
    return results

  def _compile_meanwhile(self, choice, session, arrays, expected):
    """Has the program compiled, in a thread of its own."""
    self._try(choice, session, arrays, expected)
    if choice.state == "compiling":
      choice.settle("timing", "op by op and the program are compared")

  def _begins(self, choice, session, arrays):
    """Whether a program is to be tried now, which is built if need be."""
    if choice.state != "counting" or (
        choice.program is None and not self._build(choice, session, arrays)):
      return False
    choice.settle("compiling", "it is compiled")
    return True

  def _try(self, choice, session, arrays, expected):
    """Runs the program once, and gives it up if it fails or differs.

    Where nothing can be said of it, it is tried again in a later call.
    """
    try:
      results = self._compiled(choice.program, session, arrays)(arrays)
    except (tf.errors.OpError, RuntimeError) as error:
      if _tf.is_closed(session):
        choice.wait("the session was closed meanwhile")
        return
      if self._has_another(choice, session, arrays):
        self._try(choice, session, arrays, expected)
        return
      self._give_up(choice, self._failed(error))
      return
    if choice.program.is_guarded and not results[-1]:
      choice.wait("at the values of the last call TensorFlow has to be asked")
      return
    # What cancels is as small as the rounding of what it was computed from.
    least = self.cancelled * numeric_comparison.largest(
        [np.asarray(value) for value in list(arrays) + list(expected)
         if np.asarray(value).dtype.kind in "fc"])
    for result, own in zip(results, expected):
      if not _is_same(np.asarray(own), np.asarray(result),
                      choice.program.tolerance, least):
        self._give_up(choice, self._differing(
            "At the values of this call a result differs by {:.2g}, its "
            "largest element being {:.2g}.".format(
                np.max(np.abs(np.subtract(result, own, dtype=np.float64))),
                np.max(np.abs(own)))))
        return

  def _timed(self, choice, session, op_by_op, arrays):
    """A call that is timed, op by op or by the program, in turn."""
    plain, compiled = choice.seconds
    is_compiled = len(compiled) < len(plain)
    start = _clock()
    results = (functools.partial(self._run, choice, session, op_by_op)
               if is_compiled else op_by_op)(arrays)
    (compiled if is_compiled else plain).append(_clock() - start)
    if min(len(plain), len(compiled)) > _TIMED_CALLS:
      seconds = min(plain[1:]), min(compiled[1:])
      is_faster = seconds[1] < _CLEARLY_FASTER * seconds[0]
      choice.settle("compiled" if is_faster else "op by op", (
          "op by op {:.3g} ms, compiled {:.3g} ms".format(
              *[1e3 * one for one in seconds])))
    return results

  def _build(self, choice, session, arrays):
    """Builds the program of a choice; whether there is one."""
    raise NotImplementedError

  def _has_another(self, unused_choice, unused_session, unused_arrays):
    """Whether another program is in the place of one that fails."""
    return False

  def _failed(self, error):
    """The `errors.UnsupportedGraphError` for a program that fails."""
    raise NotImplementedError

  def _differing(self, why):
    """The `errors.UnsupportedGraphError` for one with another result."""
    raise NotImplementedError

  def _give_up(self, choice, error):
    """Runs calls op by op from now on."""
    choice.program = None
    choice.settle("op by op", "{} {}".format(error.what, error.why))


def _is_same(own, result, tolerance, least):
  """Whether two arrays are the same; numbers that are no integers, nearly.

  Args:
    own, result: arrays.
    tolerance: float, by their largest element.
    least: float, the size that counts where all elements are smaller.
  """
  if own.dtype.kind not in "fcV":
    return np.array_equal(own, result)
  return numeric_comparison.is_within(
      own, result, tolerance, max(least, numeric_comparison.largest([own])))
