"""Finds the feeds, variables and side effects of a run, in the graph alone."""

import re

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import findings
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import provenance
from gradfeed.graph import tensors
from gradfeed.graph import traversal

#: Likely values of placeholders: dtypes, pattern of the name, value or None,
#: what it means, whether it switches random numbers off.
_LIKELY_VALUES = [
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

#: Ops between a random number and its comparison with a probability.
_SCALING = frozenset(["Add", "AddV2", "Floor", "GreaterEqual", "Less", "Mul",
                      "Sub"])

#: How many such ops there may be.
_MOST_STEPS = 4

#: Ends of the types of ops that are queues and iterators, and take nothing.
_SOURCES = ("Queue", "QueueV2", "OneShotIterator", "Iterator", "IteratorV2")


def find_needed_feeds(ops, fed):
  """Finds placeholders that need a value, and those with a default.

  Args:
    ops: dict from name to op, as `traversal.ancestors` gives it.
    fed: container of the names of tensors that are fed.

  Yields:
    `findings.Finding`, notes of kind "feed" and "default".
  """
  for tensor in effects.placeholders(ops):
    if tensor.name not in fed:
      yield _feed_finding(tensor, effects.user_of(tensor, ops))
  for op in ops.values():
    if op.type == "PlaceholderWithDefault" and op.outputs[0].name not in fed:
      value = _default_number(op)
      yield findings.Finding(
          "default", findings.NOTE, "{} is {} unless it is fed.".format(
              tensors.describe(op.outputs[0]),
              "computed" if value is None else value),
          "", "", [op.outputs[0].name], default=value)


def _feed_finding(tensor, user):
  """The note that `tensor` needs a value.

  Args:
    tensor: `tf.Tensor`, a placeholder.
    user: str, the op that reads it, in words.

  Returns:
    `findings.Finding`.
  """
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
  """Guesses the value of a placeholder for evaluation from its name.

  Args:
    tensor: `tf.Tensor`, a placeholder.

  Returns:
    (value or None, str with its meaning, whether it switches random numbers
    off); None where the name and the dtype are none of `_LIKELY_VALUES`.
  """
  if tensor.shape.ndims and not re.search("len", tensor.name, re.I):
    return None
  dtype = tensor.dtype.base_dtype.name
  for dtypes, pattern, value, meaning, is_off in _LIKELY_VALUES:
    if dtype in dtypes and re.search(pattern, tensor.op.name, re.I):
      return (bool(value) if dtype == "bool" else value), meaning, is_off
  return None


def _default_number(op):
  """The default of a placeholder, if it is one constant number; else None."""
  value = _tf.constant_value(op.inputs[0])
  return value.item() if value is not None and value.size == 1 and (
      value.dtype.kind in "biuf") else None


def find_variables(ops, targets, folded=None):
  """Finds the variables that `targets` read, as one finding.

  Args:
    ops: dict from name to op, as `traversal.ancestors` gives it.
    targets: list of `tf.Tensor`.
    folded: `branches.folding.Folding`, so that branches which are not taken do
      not count; or None.

  Yields:
    `findings.Finding`, a note of kind "variables".
  """
  read = effects.variables_read(ops, targets, folded)
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


def given_by_sources(ops, targets, fed=frozenset()):
  """The tensors that iterators and queues give, and that are read.

  Args:
    ops: dict from name to op, as `traversal.ancestors` gives it.
    targets: list of `tf.Tensor` that are evaluated.
    fed: container of the names of tensors that are fed.

  Returns:
    dict from the name of each op that takes the next element to the list of its
    `tf.Tensor`s.
  """
  read = {t.name for op in ops.values() for t in op.inputs}
  read.update(t.name for t in targets)
  return {op.name: [t for t in op.outputs if t.name in read - set(fed)]
          for op in effects.waiting_ops(ops) if not op.type.endswith(_SOURCES)}


def find_unsteady_ops(ops, targets, fed=frozenset(), partial=frozenset(),
                      folded=None):
  """Finds ops that make two runs differ, or that change a variable.

  Args:
    ops: dict from name to op, as `traversal.ancestors` gives it.
    targets: list of `tf.Tensor` that are evaluated.
    fed: container of the names of tensors that are fed.
    partial: container of the names of assignments by which x reaches y.
    folded: as in `find_variables`.

  Yields:
    `findings.Finding` of kind "random", "waiting" and "assigning".
  """
  for name, op in _distinct(
      op for op, kind in effects.op_types_of_run(ops, folded)
      if op_types.RANDOM.search(kind)):
    yield _random_finding(name, op, ops)
  for name, given in given_by_sources(ops, targets, fed).items():
    yield _finding_for_op(
        "waiting", ops[name], "{} '{}' takes the next element at every run.",
        "With other elements the gradient at the same x is another one; with "
        "none left it waits, or ends.", "Feed {}.".format(", ".join(
            map(tensors.describe, given or ops[name].outputs[:3]))),
        feeds=[t.name for t in given])
  for op in effects.assigning_ops(ops, folded):
    yield _finding_for_op(
        "assigning", op, "{} '{}' changes a variable when y is evaluated.",
        "What it writes depends on x, and no gradient passes from there to "
        "what y reads of the variable: that part is left out."
        if op.name in partial else
        "The next run is then of another model, and `function` refuses it.",
        "Take a y that does not wait for it (is_training=False, or updates in "
        "tf.GraphKeys.UPDATE_OPS).")


def _distinct(operations):
  """List of (name, op), each op once."""
  return list({op.name: op for op in operations}.items())


def _finding_for_op(kind, op, what, why, fix, severity=findings.WARNING,
                    **details):
  """A finding about `op` with the line where it was made.

  Args:
    kind: str.
    op: `tf.Operation`.
    what: str, a format that takes its type and its name.
    why: str.
    fix: str.
    severity: str.
    **details: more of the finding, as JSON can hold it.

  Returns:
    `findings.Finding`.
  """
  line = provenance.made_at(op)
  return findings.Finding(
      kind, severity, what.format(op.type, op.name), why, fix, [op.name],
      op=op.name, type=op.type, line=line, **details)


def _random_finding(name, op, ops):
  """A warning that `op` draws numbers; a note where they have no effect."""
  switch = _find_switch(op, ops)
  if switch is None:
    return _finding_for_op(
        "random", op, "{} '{}'" + provenance.in_line(op) +
        " draws numbers at every run.",
        "Value and gradient differ from run to run at the same x.",
        "Build the model without it (is_training=False), or feed {}.".format(
            ", ".join(repr(t.name) for t in op.outputs[:2]) or name))
  tensor, value = switch
  return _finding_for_op(
      "random", op, "{} '{}' draws numbers at every run.", "They change "
      "nothing where {!r} is {}.".format(tensor.name, value), "",
      findings.NOTE)


def _find_switch(op, ops):
  """(placeholder, value) that switches off what `op` draws, or None."""
  candidates = [t for t in op.inputs if t.dtype == tf.bool]  # Of a v2 tf.cond.
  for user in _scaling_ops(op, ops):
    candidates.extend(t for t in user.inputs if not t.shape.ndims)
  above = traversal.ancestors([op] + candidates)
  for source in above.values():
    if source.type.startswith("Placeholder") and source.outputs:
      likely = likely_value(source.outputs[0])
      if likely is not None and likely[2] and (
          source.type != "PlaceholderWithDefault" or
          _default_number(source) == likely[0]):
        return source.outputs[0], likely[0]
  return None


def _scaling_ops(op, ops):
  """The ops that scale the numbers that `op` draws, and compare them."""
  users, front = [], [op]
  for _ in range(_MOST_STEPS):
    front = [user for before in front for tensor in before.outputs
             for user in traversal.consumers(tensor)
             if user.type in _SCALING and user.name in ops]
    users.extend(front)
  return users
