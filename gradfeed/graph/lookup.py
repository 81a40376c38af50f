"""Finds tensors by their names, and later copies of a tensor."""

import sys
import warnings

from gradfeed import errors

_KEPT = "_gradfeed_names_are_kept"


def lookup(name, graph):
  """The tensor called `name` ("logits:0", or "logits" for its first output).

  Warns with `GradfeedWarning` when the graph also holds `logits_1` or the
  like: a notebook cell that was run twice leaves the old tensor its old name.

  Raises:
    TensorNotFoundError: with the closest names that there are.
  """
  full = name if ":" in name else name + ":0"
  try:
    tensor = graph.get_tensor_by_name(full)
  except (KeyError, ValueError, TypeError):
    raise errors.TensorNotFoundError(
        "There is no tensor '{}' in the graph.".format(name),
        _nearby(name, graph),
        "Use the `.name` of a tensor of this graph, as in 'logits:0'."
    ) from None
  younger = younger_copies(tensor)
  if younger:
    warnings.warn(errors.GradfeedWarning(
        "'{}' is the oldest of several: the graph also has {}. If the code "
        "that made it was run again, '{}' is the old copy; pass the tensor "
        "itself instead of its name.".format(
            full, ", ".join("'{}'".format(copy.name) for copy in younger),
            full)),
                  stacklevel=stacklevel_of_caller())
  return tensor


def younger_copies(tensor):
  """The tensors that the code which made `tensor` made when it ran again.

  They are outputs of ops of the same type, and have the name of `tensor` with a
  number added: y_1, model_1/y. There are none where
  `keep_names` was called for the graph.
  """
  if getattr(tensor.graph, _KEPT, False):
    return []
  name, index = tensor.name.split(":")
  copies = [tensor.graph.get_operation_by_name(copy)
            for copy in _names_of_copies(name)
            if _has_op(tensor.graph, copy, tensor.op.type)]
  return [copy.outputs[int(index)] for copy in copies
          if [t.dtype for t in copy.outputs] == [
              t.dtype for t in tensor.op.outputs]]


def keep_names(graph):
  """States that numbers in the names of `graph` do not tell copies apart.

  A SavedModel of TF2 numbers the calls of different functions.
  """
  setattr(graph, _KEPT, True)


def _names_of_copies(name):
  """Yields the names that an op may get when its code runs again: y_1."""
  parts = name.split("/")
  for i in reversed(range(len(parts))):
    for count in (1, 2, 3):
      yield "/".join(parts[:i] + ["{}_{}".format(parts[i], count)] +
                     parts[i + 1:])


def stacklevel_of_caller():
  """The `stacklevel` of a warning that points at the caller of gradfeed."""
  frame, count = sys._getframe(1), 1  # pylint: disable=protected-access
  while frame is not None and frame.f_globals.get(
      "__name__", "").split(".")[0] == "gradfeed":
    frame, count = frame.f_back, count + 1
  return count


def is_called_by_tensorflow():
  """Whether TensorFlow itself, such as an optimizer, calls gradfeed.

  AutoGraph, which calls what the user wrote, does not count.
  """
  frame = sys._getframe(1)  # pylint: disable=protected-access
  while frame is not None:
    module = frame.f_globals.get("__name__", "")
    if module.split(".")[0] != "gradfeed":
      return module.split(".")[0] in ("tensorflow", "tensorflow_core") and (
          ".autograph." not in module)
    frame = frame.f_back
  return False


def _has_op(graph, name, op_type):
  try:
    return graph.get_operation_by_name(name).type == op_type
  except (KeyError, ValueError):
    return False


def _nearby(name, graph):
  """A sentence with the names of the graph that are most like `name`."""
  import difflib  # pylint: disable=g-import-not-at-top
  wanted = name.split(":")[0]
  names = [op.name for op in graph.get_operations() if op.outputs]
  ends = [n for n in names if n.split("/")[-1] == wanted.split("/")[-1]]
  close = (ends + difflib.get_close_matches(wanted, names, n=3))[:3]
  if not close:
    return "The graph has {} ops, and none has a name like it.".format(
        len(names))
  return "The nearest names are {}.".format(
      ", ".join("'{}:0'".format(n) for n in dict.fromkeys(close)))
