"""When it is worth it to compile a call for the shapes of its feeds."""

import time

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.evaluation.calls import callables
from gradfeed import numeric_comparison


class Trial:
  """When a call for the shapes of one call alone is made and tried.

  It costs as much as the first call, which compiles, and saves a small part of
  each later one: so it is made where many calls follow.

  Attributes:
    is_over: bool; True once it was tried, or is known to be of no use.
  """

  #: Calls after which it is tried.
  CALLS = 100

  #: Seconds that calls have taken after which it is tried, if that is also ten
  #: times what it may cost.
  SECONDS = 1.0

  def __init__(self, cost):
    """Begins to count.

    Args:
      cost: seconds that it took to compile the call for any shapes.
    """
    self._calls = 0
    self._seconds = max(self.SECONDS, 10 * cost)
    self.is_over = False

  def count(self, seconds):
    """Counts a call that took `seconds`."""
    self._calls += 1
    self._seconds -= seconds

  def counted(self, call):
    """`call`, counted, until it is time to try: then it returns None.

    Args:
      call: a `callables.Compiled.fast_path`.
    """
    clock = time.perf_counter

    def counted_call(values):
      if self.is_over or self.is_due():
        return None
      start = clock()
      results = call(values)
      if results is not None:
        self.count(clock() - start)
      return results

    return counted_call

  def is_due(self):
    """Whether the next call is the one to try it at."""
    return not self.is_over and (
        self._calls >= self.CALLS or self._seconds <= 0)


def try_specialized(plan, slots, session, for_any_shapes, active):
  """Compiles for the shapes of one call, if the results are the same.

  Both are run on the values of that call, the one for any shapes first: if it
  fails, nothing is built. If the results differ, something depends on more than
  values and shapes, and what is specialized is not used.

  Args:
    plan: `plans.Plan`.
    slots: list of those of its slots that TensorFlow is fed at.
    session: raw `tf.Session`.
    for_any_shapes: `callables.Compiled` for feeds of any shapes; gets its
      `specialized`.
    active: sequence of the arrays of this call.
  """
  if _tf.is_remote(session) or not plan.may_specialize():
    return
  expected = for_any_shapes(active)
  shapes_and_spec = plan.specialized(tuple(map(np.shape, active)))
  if shapes_and_spec is None or (
      shapes_and_spec[0] != tuple(map(np.shape, active))):
    return
  shapes, call_spec = shapes_and_spec
  compiled = callables.Compiled(
      session, call_spec, [(slot.dtype, frozenset([shape]))
                           for slot, shape in zip(slots, shapes)],
      for_any_shapes)
  try:
    is_same = all(numeric_comparison.has_same_bits(*pair) for pair in zip(
        expected, compiled(active)))
  except tf.errors.OpError:
    return
  if is_same:
    for_any_shapes.specialized = compiled
