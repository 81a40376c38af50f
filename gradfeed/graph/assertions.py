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

#: Asserted where the shape of a tensor whose Jacobian has stated zeros is known
#: only in a run: what the elements of the tensor are, "rows" or "columns", and
#: its name. The size is added.
SIZE_OF_SPARSITY = "gradfeed: sparsity does not have the {} of {} ;"

#: Asserted with a Jacobian whose zeros are stated: the names of y, of x, and of
#: the one along which products are compared. The largest difference and the
#: element at which it is are added.
ELEMENTS_OUTSIDE = "gradfeed: {} by {} has more than sparsity says, along {} ;"

#: The error for a cotangent of another shape, by what the caller calls it.
SHAPE_ERRORS = {
    "grad_ys": errors.CotangentError,
    "cotangent v": errors.CotangentError,
    "tangent v": errors.TangentError,
}

_NAME = r"(\S+)"
#: A number that TensorFlow writes after the message.
_NUMBER = r"\S*\s+\[(\S+?)\]"
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


def _sparsity_size_error(graph, places, name, size):
  """The error for `SIZE_OF_SPARSITY`."""
  return errors.ArgumentError(
      "sparsity does not have the {} of {}, which has {} elements at this "
      "call.".format(places, tensors.describe(graph.get_tensor_by_name(name)),
                     size),
      "It states which elements of the Jacobian may differ from zero: it has "
      "one row for each element of y and one column for each of x.",
      "Feed a value of the size that the pattern was made for; or build the "
      "Jacobian anew, with a pattern for this size.")


def _outside_error(graph, *parts):
  """The error for `ELEMENTS_OUTSIDE`."""
  y, x, along = [tensors.describe(graph.get_tensor_by_name(name))
                 for name in parts[:3]]
  difference, index = parts[3:]
  return errors.SparsityError(
      "The Jacobian of {} by {} has elements where sparsity has none.".format(
          y, x),
      "Products with the elements that were found differ from products with "
      "the Jacobian itself: most at element {} of {}, counted row by row, by "
      "{}. A place is missing there; or an op between has a gradient of its "
      "own that is not linear.".format(index, along, difference),
      "Add the missing places to sparsity: `gf.jacobian` without it, of a "
      "smaller model, shows them; too many do no harm.")


#: (regular expression, function from the graph and its groups to the error).
_TRANSLATIONS = [
    (SHAPE_OF_COTANGENT.format(_ROLE, _NAME, _NAME), _shape_error),
    (COUPLED_ROWS.replace("{}", _NAME), _rows_error),
    (INDEX_OF_CLASS.replace("{}", _NAME), _index_error),
    (SIZE_OF_SPARSITY.format("(rows|columns)", _NAME) + _NUMBER,
     _sparsity_size_error),
    (ELEMENTS_OUTSIDE.replace("{}", _NAME) + _NUMBER * 2, _outside_error),
    (LENGTH_OF_VECTOR.replace("{}", _NAME), _length_error),
]
