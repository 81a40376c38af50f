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

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation.calls import callables
from gradfeed.evaluation.calls import substitutes
from gradfeed.graph import traversal
from gradfeed.rewriting.unrolling import products
from gradfeed.rewriting.unrolling import values

#: Seconds of calls of some shapes after which a copy is made. The others come
#: after the calls that showed that they are slow.
WORTH = 1.0

#: How many ops it may have.
MOST_OPS = 8000

#: Sets of shapes that may have one.
MOST_COPIES = 4

_FIX = "Calls go on op by op."


def may_help(plan):
  """Whether slow calls of a plan might be faster by a copy; adds no op.

  Args:
    plan: `plans.Plan`, prepared.
  """
  if plan.is_run or plan.graph.finalized or plan.tapes or plan.waiting or (
      plan.call_spec.targets or plan.call_spec.has_loop):
    return False
  return _tf.uses_onednn() or any(map(
      products.may_be_exchanged, traversal.ancestors(plan.ends()[1]).values()))


class CopiedCalls(substitutes.Substitutes):
  """What takes the place of the calls of a plan that has no loops.

  The function that makes a program is `plans.Plan.unrolled`.
  """

  told = "run by a copy"

  def is_for(self, op_by_op):
    return op_by_op.is_slow

  def fast_path(self, unused_session, unused_op_by_op):
    return callables.no_reference

  def _run(self, choice, session, op_by_op, arrays):
    try:
      return super()._run(choice, session, op_by_op, arrays)
    except (tf.errors.DeadlineExceededError, tf.errors.CancelledError):
      raise
    except tf.errors.OpError:
      return op_by_op(arrays)  # Its error names the op of the user.

  def _new_choice(self):
    return substitutes.Choice(WORTH)

  def _build(self, choice, session, arrays):
    del session  # It has the weights of the moment.
    if choice.program is not None:
      return True
    if len(self.compiled) >= MOST_COPIES:
      choice.settle("op by op", "{} sets of shapes have copies".format(
          MOST_COPIES))
      return False
    try:
      choice.program = self._make_program(
          arrays, MOST_OPS, most_bytes=float("inf"),
          in_one_op=_tf.uses_onednn())
    except values.NotUnrolled as error:
      choice.settle("op by op", str(error))
    except Exception as error:  # pylint: disable=broad-except
      # What builds ops raises errors of any class. The ops themselves have run.
      choice.settle("op by op", str(error))
    return choice.program is not None

  def _failed(self, error):
    return errors.UnsupportedGraphError(
        "The copy does not run.", str(error).strip().split("\n")[0][:400],
        _FIX)

  def _differing(self, why):
    return errors.UnsupportedGraphError(
        "The copy computes something else.", why, _FIX)
