"""The assertions that gradfeed adds to a graph, and what a failure means."""

import re

from gradfeed import errors
from gradfeed.graph import tensors

#: What an op in the graph says when a cotangent that is fed has not the shape
#: of its y: a key of `SHAPE_ERRORS`, the names of both.
SHAPE_OF_COTANGENT = "gradfeed: {} {} must have the shape of {} ;"

#: What an op in the graph says when rows turn out to depend on each other: y,
#: x, the first op that may be the reason.
COUPLED_ROWS = "gradfeed: rows of {} depend on other rows of {} through {} ;"

#: What an op in the graph says when the index of a class is none: the index,
#: and y.
INDEX_OF_CLASS = "gradfeed: index {} is no class of {} ;"

#: The error for a cotangent of another shape, by what the caller knows it as.
SHAPE_ERRORS = {
    "grad_ys": errors.CotangentError,
    "cotangent v": errors.CotangentError,
    "tangent v": errors.TangentError,
}


def explained_cotangent(message, graph):
  pattern = SHAPE_OF_COTANGENT.format(
      "({})".format("|".join(SHAPE_ERRORS)), r"(\S+)", r"(\S+)")
  found = re.search(pattern, message)
  if not found:
    return None
  role, *names = found.groups()
  given, y = [tensors.describe(graph.get_tensor_by_name(name))
              for name in names]
  return SHAPE_ERRORS[role](
      "{} {} has, at this call, another shape than {}.".format(role, given, y),
      "TensorFlow broadcasts a cotangent of another shape without a word, and "
      "the result is the gradient of something else.",
      "Feed one of the shape that {} has at this call.".format(y))


def explained_rows(message, graph):
  found = re.search(
      COUPLED_ROWS.replace("{}", r"(\S+)"), message)
  if not found:
    return None
  y, x = [tensors.Dense(graph.get_tensor_by_name(name))
          for name in found.groups()[:2]]
  return errors.coupled_rows(
      tensors.describe(y), tensors.describe(x), tensors.describe(
          graph.get_operation_by_name(found.group(3))),
      "A probe found it at this call; the first op that may mix rows is")


def explained_index(message, graph):
  found = re.search(
      INDEX_OF_CLASS.replace("{}", r"(\S+)"), message)
  if not found:
    return None
  index, y = [tensors.describe(graph.get_tensor_by_name(name))
              for name in found.groups()]
  return errors.ArgumentError(
      "index {} has, at this call, a value that is no class of {}.".format(
          index, y),
      "Classes count from 0, and there is one index for all examples or one "
      "for each.", "Feed indices of classes that y has.")
