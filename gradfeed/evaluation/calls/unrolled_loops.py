"""Loops unrolled for the shapes of a call: when, and if the copy is used.

They take the place of calls as programs of XLA do, and nobody has to ask for
them. A turn of a loop of a small network
takes longer for frames, stacks and tensor arrays than for what it computes;
the copy has none of them, and gives the same but for rounding.
"""

from gradfeed import errors
from gradfeed.evaluation.calls import substitutes
from gradfeed.rewriting.unrolling import values

#: Seconds of calls of some shapes after which their loops are unrolled, and to
#: how many ops: what takes longer to build has to save more.
STAGES = ((1.0, 2000), (5.0, 8000))

_FIX = "Calls go on with the loops."

#: Sets of shapes that may have a copy of their own.
MOST_COPIES = 4


def may_help(plan):
  """Whether calls of a plan might be faster with unrolled loops; adds no op.

  Args:
    plan: `plans.Plan`, prepared.
  """
  return plan.call_spec.has_loop and not (
      plan.is_run or plan.graph.finalized or plan.tapes or plan.waiting or
      plan.call_spec.targets)


class UnrolledLoops(substitutes.Substitutes):
  """What takes the place of the calls of a plan that has loops.

  The function that makes a program takes the arrays that are fed and the number
  of ops that there may be; it raises `values.NotUnrolled`.
  """

  told = "loops are unrolled"

  def _new_choice(self):
    choice = super()._new_choice()
    choice.stages = list(STAGES)
    choice.left = STAGES[0][0]
    return choice

  def _build(self, choice, session, arrays):
    del session  # Shapes tell how often a loop turns.
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
      # What builds ops raises errors of any class. The loop itself has run.
      choice.settle("op by op", str(error))
    return choice.program is not None

  def _failed(self, error):
    return errors.UnsupportedGraphError(
        "The copy without loops does not run.",
        str(error).strip().split("\n")[0][:400], _FIX)

  def _differing(self, why):
    return errors.UnsupportedGraphError(
        "The copy without loops computes something else.", why, _FIX)
