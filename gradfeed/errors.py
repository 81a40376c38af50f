"""Errors that say what went wrong, why, and how to mend it.

There is one class per situation. Every error is made of these three parts, so
that no message can lack one, and every class is also the exception that code
written before gradfeed catches: the builtin one, named here, and that of
`tf.errors`, which `_tf.run_errors` adds, since this module does without
TensorFlow.
"""


class GradfeedError(Exception):
  """The base of every error that gradfeed raises.

  `except gradfeed.GradfeedError` catches all of them.

  Other code makes an error anew, to add to its text: with the text alone, as
  Keras and multiprocessing do, or with the arguments of a `tf.errors.OpError`:
  (node_def, op, message), and an error code, which is not looked at. The whole
  text is then `what`, and `why` and `fix` are empty.

  Attributes:
    what: str, what was refused, with the tensor by name.
    why: str, the cause.
    fix: str, the next step.
  """

  def __init__(self, *parts):
    if len(parts) in (3, 4) and not isinstance(parts[0], str):
      self._node_def, self._op = parts[:2]
      parts = parts[2:3]
    if len(parts) not in (1, 3):
      raise TypeError(
          "{} takes what, why and fix, or one text, and got {} "
          "arguments".format(type(self).__name__, len(parts)))
    # The other bases would read something else into the parts.
    Exception.__init__(self, *parts)  # pylint: disable=non-parent-init-called
    self.what, self.why, self.fix = (
        parts if len(parts) == 3 else (str(parts[0]), "", ""))
    # AutoGraph, which converts the code of a `tf.function`, makes a
    # StagingError of others.
    self.ag_pass_through = True

  def __str__(self):
    if not self.why and not self.fix:  # One text, which may have lines.
      return "\n".join(map(printable, self.what.split("\n")))
    return "{}\n  Why: {}\n  Fix: {}".format(
        *map(printable_lines, (self.what, self.why, self.fix)))

  def __reduce__(self):
    """What `copy` and `pickle` make it anew from: its parts and attributes.

    The op that failed, and its NodeDef, stay behind: they belong to a graph.
    """
    state = {name: value for name, value in self.__dict__.items()
             if name not in ("_node_def", "_op")}
    return type(self), (self.what, self.why, self.fix), state


class ArgumentError(GradfeedError, TypeError, ValueError):
  """An argument is of a type, or has a value, that the call cannot use.

  The message names the argument, says what was given, and what it may be.

  Fix: Pass one of the values that the message lists.
  """


class AssignmentError(GradfeedError, RuntimeError):
  """Evaluating the outputs would change a variable, or race with a change.

  An op that assigns a variable runs together with the outputs, such as the
  update of a moving average or a step of training, and whether an output
  reads the value before or after is left to chance.

  Fix: Evaluate the update by itself with `gf.run`, or leave it out of the
  outputs.
  """


class CotangentError(GradfeedError, ValueError, TypeError):
  """A value of `grad_ys` does not have the shape or dtype of its `y`.

  Each y needs one weight for each of its elements.

  Fix: Pass a value of exactly the shape and dtype that the message shows.
  """


class CoupledRowsError(GradfeedError, ValueError):
  """A row of y depends on other rows of x than its own.

  An op between x and y, such as batch normalization in training or a mean
  over the batch, mixes rows. A derivative of each row by itself, or a chunk
  of rows evaluated by itself, would not be what the whole batch gives.

  Fix: Evaluate the model as it runs outside of training; or pass
  `coupled=True` if the dependence is meant. The message names the op that
  mixes the rows.
  """


class DependencyError(GradfeedError, ImportError):
  """A package that this call needs is not installed.

  gradfeed itself needs TensorFlow, NumPy and absl alone; some formats, tables
  and pictures need more. The message says what to install.

  Fix: Install it; the message has the command.
  """


class DisconnectedError(GradfeedError, ValueError, TypeError):
  """No differentiable path leads from `x` to `y`.

  y does not depend on x; or an op on every path passes no gradient, such as
  `tf.argmax`, `tf.stop_gradient` or a cast to integers, which the message
  names.

  Fix: Differentiate by the tensor that the message proposes; or ask for zeros
  with `unconnected="zero"`.
  """


class EagerModeError(GradfeedError, RuntimeError):
  """An eager tensor, or no graph, where a tensor of a graph is needed.

  TensorFlow 2 runs every op at once unless it is told otherwise, and keeps no
  graph of them to differentiate.

  Fix: Build the tensors inside of `with tf.Graph().as_default():`, or call
  `tf.disable_v2_behavior()` first.
  """


class FeedError(GradfeedError, ValueError, TypeError):
  """Values that cannot be fed as they are; lists every one of them.

  A value has another shape or structure than its tensor, a cast of it would
  lose something, or nothing that is evaluated reads it: the result would be
  the derivative at another value.

  Fix: Pass values of the dtypes and shapes shown, and leave out what has no
  effect.
  """


class FinalizedGraphError(GradfeedError, RuntimeError):
  """Ops are needed in a graph that is finalized.

  MonitoredSession, Supervisor and `graph.finalize()` close a graph to new
  ops.

  Fix: Build the gradient before the session is made, or work on a clone:
  `gf.snapshot(session)`.
  """


class GraphMismatchError(GradfeedError, ValueError):
  """Tensors, or a tensor and a session, belong to different graphs.

  Two graphs share no ops, even where the names are the same.

  Fix: Take all tensors from the graph of the session.
  """


class GraphTooLargeError(GradfeedError, ValueError):
  """A graph is over the two gigabytes that a GraphDef can hold.

  Large constants are part of a graph. Put them into variables, or feed them.

  Fix: Keep large arrays out of the graph: feed them, or make them variables.
  """


class IncompleteGradientError(GradfeedError, ValueError):
  """A part of the way from `x` to `y` has no gradient in TensorFlow.

  An op on the way is a smooth function of an input that its gradient passes
  nothing to, such as the mean of an inference batch normalization or the
  argument of a `tf.py_func`. What x does through it would be left out of the
  result without a word.

  Fix: Write that part with other ops; or, if it is meant to be constant, pass
  the tensor that the message names in `stop_gradients`.
  """


class MissingFeedError(GradfeedError, ValueError):
  """Placeholders that the outputs need have no value.

  The message lists them, and the ops that use them.

  Fix: Feed every placeholder that the message lists: `feed_dict={...}`.
  """


class MissingGradientError(GradfeedError, LookupError):
  """TensorFlow has no gradient for an op between `x` and `y`.

  The type of the op has no registered gradient, or only a first and no second
  one.

  Fix: It may be a first or a second derivative that is missing. Use in the
  place of the op what the message proposes, or differentiate by a tensor
  after it.
  """


class ModelFileError(GradfeedError, OSError):
  """A file is not the model, or the points, that it was said to be.

  It is of another format, damaged or incomplete, or there is none at the
  path. The message says what was expected, and what is there.

  Fix: Name a file of the kind that the message says was expected; a damaged
  one has to be copied anew.
  """


class SessionError(GradfeedError, RuntimeError):
  """There is no session, it is closed, or it belongs to another graph.

  Fix: Pass `session=`, open a default session, or use one that runs the graph
  of the tensors.
  """


class SparsityError(GradfeedError, ValueError):
  """A Jacobian has elements where the stated `sparsity` has none.

  They would have been added to other elements, or left out. Products with all
  that was found are held against products with the Jacobian itself at each
  evaluation; the message says how large the largest difference is, and where.

  Fix: Add the missing places to `sparsity`; too many do no harm. Or leave
  `sparsity` out.
  """


class StreamError(GradfeedError, OSError):
  """Results cannot be written, or belong to another stream.

  The disk is full; or another process is writing the files; or an earlier
  call began them with another model, other tensors or other points. What is
  done is kept.

  Fix: Make room and call it again to go on; or choose another name for the
  output, or delete what the message names.
  """


class TensorNotFoundError(GradfeedError, KeyError, ValueError):
  """No tensor of the graph has the given name.

  A tensor is called "op:0" where its op is called "op", and has the name
  scopes in it that it was built under. The message lists names that are
  similar.

  Fix: Use one of the names that the message proposes; `gradfeed inspect`
  lists those of a model on disk.
  """


class TimeLimitError(GradfeedError, TimeoutError):
  """A run took longer than its time limit.

  The computation takes longer; or it waits for a queue that nothing fills.

  Fix: Feed the output of the op that waits, start its queue runners, or give
  a longer `timeout`.
  """


class TangentError(GradfeedError, ValueError):
  """A direction `v` does not have the shape or dtype of its `x`.

  The direction has one number for each element of x.

  Fix: Pass a direction of exactly the shape and dtype that the message shows.
  """


class UninitializedError(GradfeedError, RuntimeError):
  """Variables that the outputs read have no value in the session.

  gradfeed does not initialize variables by itself, as random weights would
  give a plausible number.

  Fix: Run their initializers, or restore a checkpoint into the session; the
  message lists the variables.
  """


class UnsupportedGraphError(GradfeedError, NotImplementedError):
  """The graph has a construction that cannot be copied or differentiated.

  It is one that TensorFlow itself fails at, or whose derivative would be
  wrong; or the file of a model has an op that this version of TensorFlow does
  not know. The message names the op and what to differentiate instead.

  Fix: Use what the message proposes in the place of the construction. Among
  these are derivatives that TensorFlow is known to compute wrongly.
  """


class GradfeedWarning(UserWarning):
  """Something that is probably not what was meant.

  The result is computed all the same. Make it an error with
  `warnings.simplefilter("error", gradfeed.GradfeedWarning)`.
  """

  def __str__(self):
    return printable_lines(super().__str__())


def printable(text):
  """Escapes what a terminal would act on, or not show, in a name or a sentence.

  Names in a file may hold control characters (a sequence that clears the
  screen), and characters that turn the direction of writing.

  Args:
    text: str, or what `str` makes one of.

  Returns:
    str in which every character that cannot be printed is an escape of Python's
    such as `\\x1b`; printable text is as it was.
  """
  text = str(text)
  if text.isprintable():
    return text
  return "".join(
      char if char.isprintable() else
      char.encode("unicode_escape").decode() for char in text)


def printable_lines(text):
  """As `printable`, for a list with an indented item in each line."""
  return _ITEM.join(map(printable, str(text).split(_ITEM)))


#: How an item of a list in a message begins.
_ITEM = "\n    "


def first_line(error):
  """The first line of the message of an exception, without a full stop."""
  return str(error).split("\n")[0].rstrip(".")


def check_chunk(chunk, what, why, fix):
  """Refuses a `chunk` that is not a positive int.

  Args:
    chunk: what the caller was given.
    what: str, what it is a number of, such as "rows".
    why, fix: str, as in `GradfeedError`.

  Raises:
    ArgumentError: it is not.
  """
  if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
    raise ArgumentError(
        "chunk={!r} is no number of {}.".format(chunk, what), why, fix)


def coupled_rows(y, x, op, why="This op reads all rows for one:"):
  """Makes the error for a row of y that depends on other rows of x.

  Args:
    y, x: str, the descriptions of the tensors.
    op: str, the description of the op that mixes rows.
    why: str, what stands before it.

  Returns:
    `CoupledRowsError`, which the caller raises.
  """
  return CoupledRowsError(
      "A row of {} depends on other rows of {} than its own.".format(y, x),
      "{} {}.".format(why, op),
      "Evaluate the model as it runs outside of training (is_training=False); "
      "or pass coupled=True: each row is then differentiated by itself, with "
      "that dependence.")
