"""What a run of a derivative asks for: feeds, variables, and what it takes.

Nothing is run: it is read from the graph.
"""

import re

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import findings
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import provenance
from gradfeed.graph import tensors
from gradfeed.graph import traversal

#: What a placeholder probably wants, by its dtype and its name: pattern, value,
#: what the value means, and whether it switches random numbers off.
_LIKELY = [
    (("bool", "int32", "int64", "float32"), r"learning_phase", 0,
     "outside of training", True),
    (("bool",), r"train|phase|dropout", False, "outside of training", True),
    (("float16", "float32", "float64"), r"keep", 1.0, "nothing is dropped",
     True),
    (("float16", "float32", "float64"), r"drop(?!.*keep)", 0.0,
     "nothing is dropped", True),
    (("int32", "int64"), r"batch_?size", None, "the number of rows", False),
    (("int32", "int64"), r"(seq|sequence)\w*len|length", None,
     "the length of each row", False)]

#: What stands between a random number and its comparison with a probability.
_SCALING = frozenset(["Add", "AddV2", "Floor", "GreaterEqual", "Less", "Mul",
                      "Sub"])

_STEPS = 4

_SOURCES = ("Queue", "QueueV2", "OneShotIterator", "Iterator", "IteratorV2")


def needed(found, fed):
  """The placeholders of `found` that want a value, and those with a default.

  Args:
    found: dict from name to op, as `traversal.ancestors` gives it.
    fed: container of the names of tensors that get one.

  Yields:
    `findings.Finding`, notes of kind "feed" and "default".
  """
  for tensor in effects.placeholders(found):
    if tensor.name not in fed:
      yield _feed(tensor, effects.user_of(tensor, found))
  for op in found.values():
    if op.type == "PlaceholderWithDefault" and op.outputs[0].name not in fed:
      value = _default(op)
      yield findings.Finding(
          "default", findings.NOTE, "{} is {} unless it is fed.".format(
              tensors.describe(op.outputs[0]),
              "computed" if value is None else value),
          "", "", [op.outputs[0].name], default=value)


def _feed(tensor, user):
  likely = likely_value(tensor)
  guess, value = "", None
  if likely is not None:
    value, meaning, _ = likely
    guess = "Probably {}.".format(
        meaning if value is None else "{} ({})".format(value, meaning))
  return findings.Finding(
      "feed", findings.NOTE, "Feed {}, used by {}.".format(
          tensors.describe(tensor), user), guess, "", [tensor.name],
      dtype=tensor.dtype.base_dtype.name, user=user, likely=value,
      shape=None if tensor.shape.ndims is None else tensor.shape.as_list())


def likely_value(tensor):
  """(value or None, what it means, whether it turns off what is random).

  None for a placeholder that may be anything. The names are those that people
  give to such placeholders.
  """
  if tensor.shape.ndims and not re.search("len", tensor.name, re.I):
    return None
  dtype = tensor.dtype.base_dtype.name
  for dtypes, pattern, value, meaning, is_off in _LIKELY:
    if dtype in dtypes and re.search(pattern, tensor.op.name, re.I):
      return (bool(value) if dtype == "bool" else value), meaning, is_off
  return None


def _default(op):
  """The value that a placeholder with a default has, if it is one number."""
  value = _tf.constant_value(op.inputs[0])
  return value.item() if value is not None and value.size == 1 and (
      value.dtype.kind in "biuf") else None


def variables(found, targets):
  """The variables that are read, as one finding.

  Yields:
    `findings.Finding`, a note of kind "variables".
  """
  read = effects.variables_read(found, targets)
  kinds = {op.name: "resource" if op.type == "VarHandleOp" else "ref"
           for op in read}
  if read:
    names = ", ".join("'{}'".format(op.name) for op in read[:4])
    yield findings.Finding(
        "variables", findings.NOTE, "Reads {} variable{} ({}): {}{}.".format(
            len(read), "" if len(read) == 1 else "s",
            " and ".join(sorted(set(kinds.values()))), names,
            " and {} more".format(len(read) - 4) if len(read) > 4 else ""),
        "", "", list(kinds), kinds=kinds)


def find_unsteady_ops(found):
  """What makes two runs at one point differ, or changes something.

  Args:
    found: dict from name to op, as `traversal.ancestors` gives it.

  Yields:
    `findings.Finding` of kind "random", "waiting" and "assigning".
  """
  for name, op in _distinct(op for op, kind in effects.op_types_of_run(found)
                            if op_types.RANDOM.search(kind)):
    yield _random(name, op, found)
  for op in effects.waiting_ops(found):
    if not op.type.endswith(_SOURCES):
      yield _with_line(
          "waiting", op, "{} '{}' takes the next element at every run.",
          "With other elements the gradient at the same x is another one; with "
          "none left it waits, or ends.", "Feed {}.".format(", ".join(
              tensors.describe(t) for t in op.outputs[:3])))
  for op in effects.assigning_ops(found):
    yield _with_line(
        "assigning", op, "{} '{}' changes a variable when y is evaluated.",
        "The next run is then of another model, and `function` refuses it.",
        "Take a y that does not wait for it (is_training=False, or updates in "
        "tf.GraphKeys.UPDATE_OPS).")


def _distinct(operations):
  return list({op.name: op for op in operations}.items())


def _with_line(kind, op, what, why, fix, severity=findings.WARNING):
  line = provenance.made_at(op)
  return findings.Finding(
      kind, severity, what.format(op.type, op.name), why, fix, [op.name],
      op=op.name, type=op.type, line=line)


def _random(name, op, found):
  switch = _switch(op, found)
  if switch is None:
    return _with_line(
        "random", op, "{} '{}'" + provenance.in_line(op) +
        " draws numbers at every run.",
        "Value and gradient differ from run to run at the same x.",
        "Build the model without it (is_training=False), or feed {}.".format(
            ", ".join(repr(t.name) for t in op.outputs[:2]) or name))
  tensor, value = switch
  return _with_line(
      "random", op, "{} '{}' draws numbers at every run.", "They change "
      "nothing where {!r} is {}.".format(tensor.name, value), "",
      findings.NOTE)


def _switch(op, found):
  """(placeholder, value) that makes what `op` draws of no effect; or None."""
  near = [t for t in op.inputs if t.dtype == tf.bool]  # Of a tf.cond of v2.
  for user in _scaled(op, found):
    near.extend(t for t in user.inputs if not t.shape.ndims)
  above = traversal.ancestors([op] + near)
  for maker in above.values():
    if maker.type.startswith("Placeholder") and maker.outputs:
      likely = likely_value(maker.outputs[0])
      if likely is not None and likely[2] and (
          maker.type != "PlaceholderWithDefault" or
          _default(maker) == likely[0]):
        return maker.outputs[0], likely[0]
  return None


def _scaled(op, found):
  """What scales the numbers that `op` draws and compares them."""
  users, front = [], [op]
  for _ in range(_STEPS):
    front = [user for before in front for tensor in before.outputs
             for user in traversal.consumers(tensor)
             if user.type in _SCALING and user.name in found]
    users.extend(front)
  return users
