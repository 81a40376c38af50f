"""The assertions that gradfeed adds to a graph, and what a failure means."""

import re

from gradfeed import errors
from gradfeed.graph import tensors

#: The message of the op that fails when a cotangent or tangent that is fed has
#: another shape than its tensor: a key of `SHAPE_ERRORS`, the names of both.
SHAPE_OF_COTANGENT = "gradfeed: {} {} must have the shape of {} ;"

#: The message of the op that fails when rows depend on each other: the names
#: of y, of x and of the first op that may be the reason.
COUPLED_ROWS = "gradfeed: rows of {} depend on other rows of {} through {} ;"

#: The message of the op that fails when an index is not that of a class: the
#: names of the index and of y.
INDEX_OF_CLASS = "gradfeed: index {} is no class of {} ;"

#: dict from the role of a cotangent or tangent in a call to the class of the
#: error for another shape.
SHAPE_ERRORS = {
    "grad_ys": errors.CotangentError,
    "cotangent v": errors.CotangentError,
    "tangent v": errors.TangentError,
}


def explained_cotangent(message, graph):
  """The error for a failed `SHAPE_OF_COTANGENT`.

  Args:
    message: str, what TensorFlow says of a failed run.
    graph: `tf.Graph` that was run.

  Returns:
    `errors.GradfeedError`; None if `message` is about something else.
  """
  pattern = SHAPE_OF_COTANGENT.format(
      "({})".format("|".join(SHAPE_ERRORS)), r"(\S+)", r"(\S+)")
  match = re.search(pattern, message)
  if not match:
    return None
  role, *names = match.groups()
  given, y = [tensors.describe(graph.get_tensor_by_name(name))
              for name in names]
  return SHAPE_ERRORS[role](
      "{} {} has, at this call, another shape than {}.".format(role, given, y),
      "TensorFlow broadcasts a cotangent of another shape without a word, and "
      "the result is the gradient of something else.",
      "Feed one of the shape that {} has at this call.".format(y))


def explained_rows(message, graph):
  """The error for a failed `COUPLED_ROWS`; as `explained_cotangent`."""
  match = re.search(COUPLED_ROWS.replace("{}", r"(\S+)"), message)
  if not match:
    return None
  y, x = [tensors.Dense(graph.get_tensor_by_name(name))
          for name in match.groups()[:2]]
  return errors.coupled_rows(
      tensors.describe(y), tensors.describe(x), tensors.describe(
          graph.get_operation_by_name(match.group(3))),
      "A probe found it at this call; the first op that may mix rows is")


def explained_index(message, graph):
  """The error for a failed `INDEX_OF_CLASS`; as `explained_cotangent`."""
  match = re.search(INDEX_OF_CLASS.replace("{}", r"(\S+)"), message)
  if not match:
    return None
  index, y = [tensors.describe(graph.get_tensor_by_name(name))
              for name in match.groups()]
  return errors.ArgumentError(
      "index {} has, at this call, a value that is no class of {}.".format(
          index, y),
      "Classes count from 0, and there is one index for all examples or one "
      "for each.", "Feed indices of classes that y has.")
