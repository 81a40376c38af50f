"""What went wrong, why, and how to mend it: one class per situation.

Every error is three sentences, so that no message can lack one, and every
class is also the builtin exception that code written before gradfeed catches.
"""


class GradfeedError(Exception):
  """The base of every error that gradfeed raises.

  Attributes:
    what: str, what was refused, with the tensor by name.
    why: str, the cause.
    fix: str, the next step.
  """

  def __init__(self, what, why, fix):
    super().__init__(what, why, fix)
    self.what = what
    self.why = why
    self.fix = fix

  def __str__(self):
    return "{}\n  Why: {}\n  Fix: {}".format(self.what, self.why, self.fix)


class ArgumentError(GradfeedError, TypeError, ValueError):
  """An argument is of a type, or has a value, that the call cannot use.

  Fix: Pass one of the values that the message lists.
  """


class AssignmentError(GradfeedError, RuntimeError):
  """Evaluating the outputs would change a variable, or race with a change.

  Fix: Evaluate the update by itself with `gf.run`, or leave it out of the
  outputs.
  """


class CotangentError(GradfeedError, ValueError):
  """A value of `grad_ys` does not have the shape or dtype of its `y`.

  Fix: Pass a value of exactly the shape and dtype that the message shows.
  """


class CoupledRowsError(GradfeedError, ValueError):
  """A row of y depends on other rows of x than its own.

  Fix: Evaluate the model as it runs outside of training; or pass
  `coupled=True` if the dependence is meant. The message names the op that
  mixes the rows.
  """


class DependencyError(GradfeedError, ImportError):
  """A package that this call needs is not installed.

  Fix: Install it; the message has the command.
  """


class DisconnectedError(GradfeedError, ValueError, TypeError):
  """No differentiable path leads from `x` to `y`.

  Fix: Differentiate by the tensor that the message proposes; or ask for zeros
  with `unconnected="zero"`.
  """


class EagerModeError(GradfeedError, RuntimeError):
  """An eager tensor, or no graph, where a tensor of a graph is needed.

  Fix: Build the tensors inside of `with tf.Graph().as_default():`, or call
  `tf.disable_v2_behavior()` first.
  """


class FeedError(GradfeedError, ValueError, TypeError):
  """Values that cannot be fed as they are; lists every one of them.

  Fix: Pass values of the dtypes and shapes shown, and leave out what has no
  effect.
  """


class FinalizedGraphError(GradfeedError, RuntimeError):
  """Ops are needed in a graph that is finalized.

  Fix: Build the gradient before the session is made, or work on a clone:
  `gf.snapshot(session)`.
  """


class GraphMismatchError(GradfeedError, ValueError):
  """Tensors, or a tensor and a session, belong to different graphs.

  Fix: Take all tensors from the graph of the session.
  """


class GraphTooLargeError(GradfeedError, ValueError):
  """A graph is over the two gigabytes that a GraphDef can hold.

  Fix: Keep large arrays out of the graph: feed them, or make them variables.
  """


class MissingFeedError(GradfeedError, ValueError):
  """Placeholders that the outputs need have no value.

  Fix: Feed every placeholder that the message lists: `feed_dict={...}`.
  """


class MissingGradientError(GradfeedError, LookupError):
  """TensorFlow has no gradient for an op between `x` and `y`.

  Fix: It may be a first or a second derivative that is missing. Use in the
  place of the op what the message proposes, or differentiate by a tensor
  after it.
  """


class ModelFileError(GradfeedError, OSError):
  """A file is not the model, or the points, that it was said to be.

  Fix: Name a file of the kind that the message says was expected; a damaged
  one has to be copied anew.
  """


class SessionError(GradfeedError, RuntimeError):
  """There is no session, it is closed, or it belongs to another graph.

  Fix: Pass `session=`, open a default session, or use one that runs the graph
  of the tensors.
  """


class StreamError(GradfeedError, OSError):
  """Results cannot be written, or belong to another stream.

  Fix: Make room and call it again to go on; or choose another name for the
  output, or delete what the message names.
  """


class TensorNotFoundError(GradfeedError, KeyError, ValueError):
  """No tensor of the graph has the given name.

  Fix: Use one of the names that the message proposes; `gradfeed inspect`
  lists those of a model on disk.
  """


class TimeLimitError(GradfeedError, TimeoutError):
  """A run took longer than its time limit.

  Fix: Feed the output of the op that waits, start its queue runners, or give
  a longer `timeout`.
  """


class TangentError(GradfeedError, ValueError):
  """A direction `v` does not have the shape or dtype of its `x`.

  Fix: Pass a direction of exactly the shape and dtype that the message shows.
  """


class UninitializedError(GradfeedError, RuntimeError):
  """Variables that the outputs read have no value in the session.

  Fix: Run their initializers, or restore a checkpoint into the session; the
  message lists the variables.
  """


class UnsupportedGraphError(GradfeedError, NotImplementedError):
  """The graph has a construction that cannot be copied or differentiated.

  Fix: Use what the message proposes in the place of the construction. Among
  these are derivatives that TensorFlow is known to compute wrongly.
  """


class GradfeedWarning(UserWarning):
  """Something that is probably not what was meant."""


def check_chunk(chunk, what, why, fix):
  """Refuses a `chunk` that is no positive int, as a number of `what`."""
  if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
    raise ArgumentError(
        "chunk={!r} is no number of {}.".format(chunk, what), why, fix)


def coupled_rows(y, x, op, why="This op reads all rows for one:"):
  """The `CoupledRowsError` for a y and an x, told with the op to blame."""
  return CoupledRowsError(
      "A row of {} depends on other rows of {} than its own.".format(y, x),
      "{} {}.".format(why, op),
      "Evaluate the model as it runs outside of training (is_training=False); "
      "or pass coupled=True: each row is then differentiated by itself, with "
      "that dependence.")
