"""What is in a model: what to feed, what to differentiate, what to mind."""

import re

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.evaluation import sessions
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.models import loading

_OF_LOGITS = frozenset([
    "LogSoftmax", "Softmax", "SoftmaxCrossEntropyWithLogits",
    "SparseSoftmaxCrossEntropyWithLogits"])
_AS_INPUT = re.compile(r"^(in|inputs?|x|images?|data|features)[_0-9]*$", re.I)


def inventory(model):
  """Lists what a user has to know of a model; builds and runs nothing of it.

  Args:
    model: `loading.Model`.

  Returns:
    dict of what JSON can hold:
      path, kind: str; as in `loading.Model`.
      ops: int, how many.
      x: list of candidates to differentiate by: floating inputs of signatures,
        floating placeholders, and where there are others (text, images in
        bytes) the first floating tensors that are made of them; constants that
        are named as inputs are, if there is nothing else. Each is a dict of
        name, dtype, shape (a list with None for what is not known; None where
        the rank is not).
      y: list of candidates to differentiate, in the same form: outputs of
        signatures, what nothing reads, and logits.
      feeds: list of the other placeholders, in the same form.
      signatures: dict from name to a dict of method, inputs and outputs, both
        from key to the name of a tensor.
      variables: list in the same form, each with "is_resource" and
        "has_value".
      loops, branches, random, waiting, assigning: lists of names of ops that
        run where a `y` is evaluated: while loops, conditions, ops that draw
        numbers, that wait for a queue or a file, that change variables.
  """
  operations = model.graph.get_operations()
  x, y = _starts(model), _results(model)
  found = traversal.ancestors(y)
  types = list(effects.op_types_of_run(found))
  return {
      "path": model.path,
      "kind": model.kind,
      "ops": len(operations),
      "x": _told(x),
      "y": _told(y),
      "feeds": _told(t for t in model.inputs.values()
                     if not any(t is start for start in x)),
      "signatures": {
          name: {"method": signature.method,
                 "inputs": _names(signature.inputs),
                 "outputs": _names(signature.outputs)}
          for name, signature in model.signatures.items()},
      "variables": _variables(model, operations),
      "loops": _loops(types),
      "branches": _branches(types),
      "random": _named(types, op_types.RANDOM.search),
      "waiting": _named(types, op_types.WAITING.search),
      "assigning": [op.name for op in effects.assigning_ops(found)],
  }


def _told(found):
  return [{"name": t.name, "dtype": t.dtype.base_dtype.name,
           "shape": None if t.shape.ndims is None else t.shape.as_list()}
          for t in found]


def _names(found):
  """{key: name of the tensor}, of the inputs or outputs of a signature."""
  return {key: _dense(tensor).name for key, tensor in found.items()}


def _dense(tensor):
  """The values of a sparse tensor; a dense one as it is."""
  return getattr(tensor, "values", tensor)


def _starts(model):
  """The floating placeholders, or what comes of those that are none."""
  named = [_dense(t) for signature in model.signatures.values()
           for t in signature.inputs.values()]
  found, seen = [], set()
  queue = [t for t in model.inputs.values() if not (
      _tf.is_number(t.dtype) or t.dtype.is_integer or t.dtype == tf.bool)]
  while queue:
    for op in traversal.consumers(queue.pop()):
      for tensor in op.outputs:
        if tensor.name not in seen:
          seen.add(tensor.name)
          (found if _tf.is_number(tensor.dtype) else queue).append(tensor)
  return _numbers(named + list(model.inputs.values()) + sorted(
      found, key=lambda t: t.name)) or _numbers(
          op.outputs[0] for op in model.graph.get_operations()
          if op.type == "Const" and _AS_INPUT.match(op.name))


def _results(model):
  """Outputs of signatures, what nothing reads, and logits."""
  outputs = [_dense(t) for signature in model.signatures.values()
             for t in signature.outputs.values()]
  return _numbers(outputs + list(model.outputs.values()) + _logits(model))


def _logits(model):
  """What a softmax or a cross entropy of the model reads."""
  found = []
  for op in model.graph.get_operations():
    if op.type in _OF_LOGITS and not loading.BESIDE.search(op.name):
      tensor = op.inputs[0]
      while tensor.op.type == "Reshape":
        tensor = tensor.op.inputs[0]
      found.append(tensor)
  return found


def _numbers(found):
  """Those of `found` that are floating or complex, once each."""
  return list({t.name: t for t in found if _tf.is_number(t.dtype)}.values())


def _variables(model, operations):
  found = effects.variables(operations)
  with model.graph.as_default():
    empty = sessions.uninitialized(model.session, found)
  return [dict(_told([tensors.Dense(op.outputs[0])])[0],
               is_resource=op.type == "VarHandleOp",
               has_value=op.name not in empty) for op in found]


def _loops(types):
  """Frames of loops of v1, and the ops that are loops of v2."""
  names = set()
  for op, kind in types:
    if kind in op_types.ENTERS and op.type == kind:
      names.add(op.get_attr("frame_name").decode())
    elif kind in op_types.FUNCTIONAL_LOOPS:
      names.add(op.name)
  return sorted(names)


def _branches(types):
  """Predicates of conditions of v1, and the ops that are conditions of v2."""
  names = set()
  for op, kind in types:
    if kind in op_types.SWITCHES and op.type == kind:
      if op.inputs[1].op.type != "LoopCond":
        names.add(op.inputs[1].op.name)
    elif kind in op_types.FUNCTIONAL_BRANCHES:
      names.add(op.name)
  return sorted(names)


def _named(types, matches):
  return sorted({op.name for op, kind in types if matches(kind)})
