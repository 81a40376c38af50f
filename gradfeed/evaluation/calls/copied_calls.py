"""Slow calls by a copy of their ops: when one is made, and if it is used.

The copy is for the shapes of the calls, which takes the place of calls as
unrolled loops do, gives the same but for rounding, and nobody has to ask for:

- On processors with AVX-512 VNNI TensorFlow puts kernels of oneDNN into graphs.
  Where ops are small, as at a batch of 1, these take several times as long as
  its own: each is shared out among threads, and layouts are changed before and
  after. They stay out of the function of one op.
- Products of few rows and a large factor that is transposed, as in the gradient
  of a dense layer, are made the other way round
  (`rewriting.unrolling.products`).
"""

import functools

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation.calls import callables
from gradfeed.evaluation.calls import substitutes
from gradfeed.graph import traversal
from gradfeed.rewriting.unrolling import products
from gradfeed.rewriting.unrolling import values

#: Seconds of calls of some shapes after which a copy is made, and how many ops
#: it may have. They come after the calls that showed that they are slow.
STAGES = ((1.0, 8000),)

#: Sets of shapes that may have one.
MOST_COPIES = 4

_FIX = "Calls go on as they are."


def may_help(plan):
  """Whether slow calls of a plan might be faster by a copy; adds no op.

  Args:
    plan: `plans.Plan`, prepared.
  """
  return may_be_made(plan) and not plan.call_spec.has_loop and (
      _tf.uses_onednn() or any(map(
          products.may_be_exchanged,
          traversal.ancestors(plan.ends()[1]).values())))


def may_be_made(plan):
  """Whether a copy may take the place of calls of a plan that is prepared."""
  return not (plan.is_run or plan.graph.finalized or plan.tapes or
              plan.waiting or plan.call_spec.targets)


class Copies(substitutes.Substitutes):
  """Copies of ops in the places of the calls of a plan.

  The function that makes a program takes the arrays that are fed and the number
  of ops that there may be; it raises `values.NotUnrolled`.
  """

  def _stages(self):
    """list of (seconds of calls, how many ops may be made after these)."""
    raise NotImplementedError

  def _new_choice(self):
    choice = super()._new_choice()
    choice.stages = list(self._stages())
    choice.left = choice.stages[0][0]
    return choice

  def _build(self, choice, session, arrays):
    del session  # Shapes alone tell what is copied.
    if choice.program is not None:
      return True
    if len(self.compiled) >= MOST_COPIES:
      choice.settle("op by op", "{} sets of shapes have copies".format(
          MOST_COPIES))
      return False
    _, most_ops = choice.stages.pop(0)
    try:
      choice.program = self._make_program(arrays, most_ops)
    except values.TooManyOps as error:
      if choice.stages:
        choice.wait(str(error), choice.stages[0][0])
      else:
        choice.settle("op by op", str(error))
    except Exception as error:  # pylint: disable=broad-except
      # What builds ops raises errors of any class. The calls themselves run.
      choice.settle("op by op", str(error))
    return choice.program is not None

  def _failed(self, error):
    return errors.UnsupportedGraphError(
        "The copy does not run.", str(error).strip().split("\n")[0][:400],
        _FIX)

  def _differing(self, why):
    return errors.UnsupportedGraphError(
        "The copy computes something else.", why, _FIX)


class CopiedCalls(Copies):
  """What takes the place of slow calls of a plan that has no loops."""

  told = "run by a copy"

  def __init__(self, plan, dtypes):
    """Makes nothing yet.

    Args:
      plan: `plans.Plan` that a copy `may_help`.
      dtypes: list of the NumPy dtypes of what is fed.
    """
    super().__init__(functools.partial(
        plan.unrolled, most_bytes=float("inf"), in_one_op=_tf.uses_onednn()),
                     dtypes)

  def is_for(self, op_by_op):
    return op_by_op.is_slow

  def fast_path(self, unused_session, unused_op_by_op):
    return callables.no_reference

  def _stages(self):
    return STAGES

  def _run(self, choice, session, op_by_op, arrays):
    try:
      return super()._run(choice, session, op_by_op, arrays)
    except (tf.errors.DeadlineExceededError, tf.errors.CancelledError):
      raise
    except tf.errors.OpError:
      return op_by_op(arrays)  # Its error names the op of the user.
