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
  """An argument is of a type, or has a value, that the call cannot use."""


class AssignmentError(GradfeedError, RuntimeError):
  """Evaluating the outputs would change a variable, or race with a change."""


class CotangentError(GradfeedError, ValueError):
  """A value of `grad_ys` does not have the shape or dtype of its `y`."""


class CoupledRowsError(GradfeedError, ValueError):
  """A row of y depends on other rows of x than its own."""


class DependencyError(GradfeedError, ImportError):
  """A package that this call needs is not installed."""


class DisconnectedError(GradfeedError, ValueError, TypeError):
  """No differentiable path leads from `x` to `y`."""


class EagerModeError(GradfeedError, RuntimeError):
  """An eager tensor, or no graph, where a tensor of a graph is needed."""


class FeedError(GradfeedError, ValueError, TypeError):
  """Values that cannot be fed as they are; lists every one of them."""


class FinalizedGraphError(GradfeedError, RuntimeError):
  """Ops are needed in a graph that is finalized."""


class GraphMismatchError(GradfeedError, ValueError):
  """Tensors, or a tensor and a session, belong to different graphs."""


class GraphTooLargeError(GradfeedError, ValueError):
  """A graph is over the two gigabytes that a GraphDef can hold."""


class MissingFeedError(GradfeedError, ValueError):
  """Placeholders that the outputs need have no value."""


class MissingGradientError(GradfeedError, LookupError):
  """TensorFlow has no gradient for an op between `x` and `y`."""


class ModelFileError(GradfeedError, OSError):
  """A file is not the model, or the points, that it was said to be."""


class SessionError(GradfeedError, RuntimeError):
  """There is no session, it is closed, or it belongs to another graph."""


class StreamError(GradfeedError, OSError):
  """Results cannot be written, or belong to another stream."""


class TensorNotFoundError(GradfeedError, KeyError, ValueError):
  """No tensor of the graph has the given name."""


class TimeLimitError(GradfeedError, TimeoutError):
  """A run took longer than its time limit."""


class TangentError(GradfeedError, ValueError):
  """A direction `v` does not have the shape or dtype of its `x`."""


class UninitializedError(GradfeedError, RuntimeError):
  """Variables that the outputs read have no value in the session."""


class UnsupportedGraphError(GradfeedError, NotImplementedError):
  """The graph has a construction that cannot be copied or differentiated."""


class GradfeedWarning(UserWarning):
  """Something that is probably not what was meant."""


def first_line(error):
  """The first line of the message of an exception, without a full stop."""
  return str(error).split("\n")[0].rstrip(".")


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
