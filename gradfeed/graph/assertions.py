"""The assertions that gradfeed adds to a graph, and the error of a failed one.

An assertion carries a message with names of tensors in it. TensorFlow puts the
message into the error that it raises when the assertion fails; `translate`
reads the names from there.
"""

import re

from gradfeed import errors
from gradfeed.graph import tensors

#: Asserted where a cotangent or tangent is fed: a key of `SHAPE_ERRORS`, the
#: name of what is fed, the name of the tensor whose shape it must have.
SHAPE_OF_COTANGENT = "gradfeed: {} {} must have the shape of {} ;"

#: Asserted where a probe compares rows: the names of y, of x, and of the first
#: op between them that may be the reason.
COUPLED_ROWS = "gradfeed: rows of {} depend on other rows of {} through {} ;"

#: Asserted where the index of a class is fed: the names of the index and of y.
INDEX_OF_CLASS = "gradfeed: index {} is no class of {} ;"

#: Asserted where a vector is cut into tensors of shapes that are known only in
#: a run: the name of the vector, and the number of tensors.
LENGTH_OF_VECTOR = "gradfeed: vector {} must have the size of {} tensors ;"

#: The error for a cotangent of another shape, by what the caller calls it.
SHAPE_ERRORS = {
    "grad_ys": errors.CotangentError,
    "cotangent v": errors.CotangentError,
    "tangent v": errors.TangentError,
}

_NAME = r"(\S+)"
_ROLE = "({})".format("|".join(SHAPE_ERRORS))


def translate(message, graph):
  """The error that a failed assertion of gradfeed stands for.

  Args:
    message: str, that of an error of TensorFlow.
    graph: `tf.Graph` that was run.

  Returns:
    `errors.GradfeedError`, or None where no such assertion failed.
  """
  for pattern, error in _TRANSLATIONS:
    match = re.search(pattern, message)
    if match:
      return error(graph, *match.groups())
  return None


def _shape_error(graph, role, *names):
  """The error for `SHAPE_OF_COTANGENT`."""
  given, y = [tensors.describe(graph.get_tensor_by_name(name))
              for name in names]
  return SHAPE_ERRORS[role](
      "{} {} has, at this call, another shape than {}.".format(role, given, y),
      "TensorFlow broadcasts a cotangent of another shape without a word, and "
      "the result is the gradient of something else.",
      "Feed one of the shape that {} has at this call.".format(y))


def _rows_error(graph, y_name, x_name, op_name):
  """The error for `COUPLED_ROWS`."""
  y, x = [tensors.Dense(graph.get_tensor_by_name(name))
          for name in (y_name, x_name)]
  return errors.coupled_rows(
      tensors.describe(y), tensors.describe(x),
      tensors.describe(graph.get_operation_by_name(op_name)),
      "A probe found it at this call; the first op that may mix rows is")


def _index_error(graph, *names):
  """The error for `INDEX_OF_CLASS`."""
  index, y = [tensors.describe(graph.get_tensor_by_name(name))
              for name in names]
  return errors.ArgumentError(
      "index {} has, at this call, a value that is no class of {}.".format(
          index, y),
      "Classes count from 0, and there is one index for all examples or one "
      "for each.", "Feed indices of classes that y has.")


def _length_error(graph, name, count):
  """The error for `LENGTH_OF_VECTOR`."""
  return errors.FeedError(
      "{} has, at this call, another length than the {} tensors that it is cut "
      "into.".format(tensors.describe(graph.get_tensor_by_name(name)), count),
      "It holds their elements, one after the other.",
      "Feed as many numbers as they have elements at this call.")


#: (regular expression, function from the graph and its groups to the error).
_TRANSLATIONS = [
    (SHAPE_OF_COTANGENT.format(_ROLE, _NAME, _NAME), _shape_error),
    (COUPLED_ROWS.replace("{}", _NAME), _rows_error),
    (INDEX_OF_CLASS.replace("{}", _NAME), _index_error),
    (LENGTH_OF_VECTOR.replace("{}", _NAME), _length_error),
]
