"""Programs of XLA in the place of calls: `jit_compile`.

How they are tried and timed is told in `substitutes`. With True there is one
after the first call of some shapes; with "auto" once calls took long enough, if
it is faster.
"""

import os
import time
import warnings

from gradfeed import _tf
from gradfeed import errors
from gradfeed.evaluation.calls import substitutes

_clock = time.perf_counter

#: What `jit_compile` may be.
MODES = (None, False, True, "auto")

#: Sets of shapes that have a program; calls of others run op by op.
MOST_PROGRAMS = 16

#: The process in which XLA has compiled something, or None.
_compiled_in = None


class Jit(substitutes.Substitutes):
  """Programs of XLA that take the place of the calls of a plan."""

  cancelled = 1e-3

  def __init__(self, mode, make_program, dtypes):
    """Makes nothing yet.

    Args:
      mode: True or "auto".
      make_program: function from the arrays that are fed and the raw session
        that they are fed in to a `substitutes.Program` for their shapes, that
        has no loops where a third argument is True; raises
        `errors.UnsupportedGraphError`.
      dtypes: list of the NumPy dtypes of what is fed.
    """
    super().__init__(make_program, dtypes)
    self._mode = mode
    self._has_warned = False

  def _count(self, choice, session, op_by_op, arrays):
    """A call op by op; with True there is a program for its shapes after it."""
    if self._mode == "auto":
      return super()._count(choice, session, op_by_op, arrays)
    with self._lock:
      expected = op_by_op(arrays)
      if self._begins(choice, session, arrays):
        start = _clock()
        self._try(choice, session, arrays, expected)
        if choice.state == "compiling":
          choice.settle("compiled", "asked for; XLA took {:.1f} s".format(
              _clock() - start))
      return expected

  def _build(self, choice, session, arrays):
    if len(self.compiled) >= MOST_PROGRAMS:
      choice.settle("op by op", "{} sets of shapes have programs".format(
          MOST_PROGRAMS))
      return False
    try:
      _check_process()
      choice.program = self._make_program(arrays, session)
    except errors.GradfeedError as error:
      self._give_up(choice, error)
      return False
    return True

  def _has_another(self, choice, session, arrays):
    if not choice.program.has_loops:
      return False
    try:
      choice.program = self._make_program(arrays, session, True)
    except errors.GradfeedError:
      return False
    return True

  def _failed(self, error):
    return errors.UnsupportedGraphError(
        "XLA does not compile the outputs.",
        "It says: {}".format(str(error).strip().split("\n")[0][:400]),
        "Leave jit_compile out, or take outputs that do not need it.")

  def _differing(self, why):
    return errors.UnsupportedGraphError(
        "XLA computes something else than TensorFlow does op by op.", why,
        "Leave jit_compile out.")

  def _give_up(self, choice, error):
    """Runs calls op by op from now on; raises `error` where XLA is a must."""
    is_built = choice.program is not None
    choice.program = None
    if is_built or self._mode == "auto":
      choice.settle("op by op", "{} {}".format(error.what, error.why))
    if self._mode is True:
      raise error
    if not self._has_warned:
      self._has_warned = True
      warnings.warn(errors.GradfeedWarning(
          "jit_compile=\"auto\": calls go on op by op. {} {}".format(
              error.what, error.why)), stacklevel=2)


def _check_process():
  """Refuses to compile in a fork of a process in which XLA has compiled."""
  global _compiled_in  # pylint: disable=global-statement
  if _compiled_in not in (None, os.getpid()):
    raise errors.UnsupportedGraphError(
        "XLA cannot compile in this process.",
        "It was forked from one in which XLA has compiled, and has none of its "
        "threads: it would wait for them for ever.",
        "Start processes with multiprocessing's 'spawn', or leave jit_compile "
        "out before the fork or after it.")
  _compiled_in = os.getpid()


def check_mode(mode):
  """Refuses a `jit_compile` that is none of `MODES`, or that cannot be."""
  if not (mode is None or isinstance(mode, bool) or mode == "auto"):
    raise errors.ArgumentError(
        "jit_compile={!r} is none of its values.".format(mode),
        "They are {}.".format(", ".join(map(repr, MODES))), "Pass one of them.")
  if mode and not _tf.IS_TF2:
    raise errors.UnsupportedGraphError(
        "jit_compile={!r} needs TensorFlow 2; this is {}.".format(
            mode, _tf.VERSION),
        "XLA of TensorFlow 1.15 makes calls on the CPU slower.",
        "Leave jit_compile out.")
