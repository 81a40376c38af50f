"""Loops unrolled for the shapes of a call: when, and if the copy is used.

They take the place of calls as programs of XLA do, and nobody has to ask for
them. A turn of a loop of a small network takes longer for frames, stacks and
tensor arrays than for what it computes; the copy has none of them, and gives
the same but for rounding.
"""

from gradfeed.evaluation.calls import copied_calls

#: Seconds of calls of some shapes after which their loops are unrolled, and to
#: how many ops: what takes longer to build has to save more.
STAGES = ((1.0, 2000), (5.0, 8000))


def may_help(plan):
  """Whether calls of a plan might be faster with unrolled loops; adds no op.

  Args:
    plan: `plans.Plan`, prepared.
  """
  return plan.call_spec.has_loop and copied_calls.may_be_made(plan)


class UnrolledLoops(copied_calls.Copies):
  """What takes the place of the calls of a plan that has loops."""

  told = "loops are unrolled"

  def _stages(self):
    return STAGES
