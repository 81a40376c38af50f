"""What of a legacy graph TF 2 code cannot do: refused by name."""

import re

from gradfeed import _tf
from gradfeed import errors
from gradfeed.graph import effects
from gradfeed.graph import tensors

#: Types of the ops of lookup tables.
TABLES = re.compile(r"^(Mutable)?(Dense)?HashTable(OfTensors)?V2$")

#: Types of ops with a state outside of the graph, to what they do.
_KINDS = (
    (re.compile(r"^(Eager)?PyFunc"), "calls Python of this process",
     "Write it with TensorFlow's ops, or make what it gives an input of the "
     "function: gf.function([x, {0}], ...)."),
    (re.compile(r"Queue|Reader|Barrier|^(Unstage|Stage|MapStage|Ordered)"),
     "takes from a queue, which the new code does not have",
     "Make what it gives an input of the function: gf.function([x, {0}], ...)."
    ),
    (re.compile(r"Iterator|Dataset"),
     "takes the next element of an iterator, which the new code does not have",
     "Make what it gives an input of the function: gf.function([x, {0}], ...)."
    ),
    (re.compile(r"Table(?!Find|Size|Export)|^LookupTableRemove"),
     "changes a table, or makes one of another kind",
     "Leave it out of what is computed, or make what is looked up an input: "
     "gf.function([x, {0}], ...)."),
    (re.compile(r"^SymbolicGradient$"),
     "is the gradient of a tf.Defun, which has no gradient of its own",
     "Make the function of y alone: `gradient` of the module is dy/dx."),
    (re.compile(r"^(VarIsInitializedOp|IsVariableInitialized)$"),
     "asks whether the variable of a session has a value",
     "Leave it out of what is computed."),
)


def check(graph, ops, whole="a module of TF 2", allowed=()):
  """Raises `UnsupportedGraphError` for ops that TF 2 code cannot do.

  Args:
    graph: `tf.Graph`.
    ops: dict from name to `tf.Operation`, all that is computed.
    whole: str, what they would be part of, for the message.
    allowed: types of ops that it can have.
  """
  found = []
  for op, op_type in effects.op_types_of_run(ops):
    if TABLES.search(op_type) or op_type in allowed:
      continue
    for pattern, why, fix in _KINDS:
      if pattern.search(op_type):
        found.append((op, op_type, why, fix))
        break
  assigning = effects.assigning_ops(ops)
  found += [(op, op.type, "changes a variable", "Leave it out.")
            for op in assigning]
  if not found:
    return
  op, op_type, why, fix = found[0]
  floats = [t.name for t in op.outputs] or [op.name]
  raise errors.UnsupportedGraphError(
      "{} cannot be part of {}.".format(", ".join(
          "{} '{}'".format(op_type, op.name) + (
              "" if op_type == op.type else " (in its function)")
          for op, op_type in dict.fromkeys(
              (op, op_type) for op, op_type, _, _ in found)), whole),
      "{} '{}' {}.".format(op_type, op.name, why),
      fix.format(repr(floats[0])))


def check_needs(needs, whole="A module"):
  """Raises `MissingFeedError` if placeholders have no value.

  Args:
    needs: list of `tf.Tensor`.
    whole: str, what they would be part of, for the message.
  """
  if needs:
    raise errors.MissingFeedError(
        "The function has no value for {}.".format(
            tensors.describe_all(needs)),
        "{} has no feed_dict: what f needs is held, or is an input.".format(
            whole),
        "Hold it: gf.function(..., feed_dict={{{}}}); or add it to the "
        "inputs.".format(", ".join(
            "{!r}: ...".format(t.name) for t in needs)))


def check_version():
  """Raises `UnsupportedGraphError` where TensorFlow is older than TF 2."""
  if not _tf.IS_TF2:
    raise errors.UnsupportedGraphError(
        "A module needs TensorFlow 2, and this is {}.".format(_tf.VERSION),
        "It is made of tf.function and variables of TF 2.",
        "Save the graph (tf.train.Saver, with its .meta), and load it where "
        "TF 2 is installed: gf.load(path), then gf.to_module(f).")
