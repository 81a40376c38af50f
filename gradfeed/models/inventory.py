"""Lists what is in a model: what to feed, differentiate and take care of."""

import re

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.evaluation import sessions
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.models import loading
from gradfeed.models import outside_ops

#: Ops whose first input are logits.
_READ_LOGITS = frozenset([
    "LogSoftmax", "Softmax", "SoftmaxCrossEntropyWithLogits",
    "SparseSoftmaxCrossEntropyWithLogits"])

#: Ops that read the values of variables.
_READING_VALUES = frozenset(["Restore", "RestoreSlice", "RestoreV2"])

#: How the constant is called that stands for the input of a model.
_NAMES_OF_INPUTS = re.compile(
    r"^(in|inputs?|x|images?|data|features)[_0-9]*$", re.I)


#: Ops that make a step of an optimizer, or ask whether a variable has a value.
_STEPS = re.compile("^(Resource)?(Sparse)?Apply[A-Z]|^IsVariableInitialized$|"
                    "^VarIsInitializedOp$")


def inventory(model):
  """Lists what a user has to know of a model; builds and runs nothing of it.

  Args:
    model: `loading.Model`.

  Returns:
    dict of what JSON can hold:
      path, kind: str; as in `loading.Model`.
      ops: int, how many.
      x: list of candidates to differentiate by: floating inputs of signatures,
        floating placeholders, what iterators and queues give, and where there
        are others (text, images in bytes) the first floating tensors that are
        made of them; constants that are named as inputs are, if there is
        nothing else. Each is a dict of
        name, dtype, shape (a list with None for what is not known; None where
        the rank is not).
      y: list of candidates to differentiate, in the same form: outputs of
        signatures, what nothing reads, and logits.
      feeds: list of the other placeholders, and of what else iterators and
        queues give, in the same form.
      signatures: dict from name to a dict of method, inputs and outputs, both
        from key to the name of a tensor.
      variables: list in the same form, each with "is_resource" and
        "has_value", which is None where no values were read.
      loops, branches, random, waiting, assigning: lists of names of ops that
        run where a `y` is evaluated: while loops, conditions, ops that draw
        numbers, that wait for a queue or a file, that change variables.
      outside: list of the ops that reach outside of the graph where a `y` is
        evaluated, each a dict of name, type and reach ("files", "Python",
        "network").
      outside_when_loaded: the same of what `gradfeed.load` runs, apart from
        reading the values of variables.
  """
  operations = model.graph.get_operations()
  x, y = _x_candidates(model), _y_candidates(model)
  ops = traversal.ancestors(y)
  types = list(effects.op_types_of_run(ops))
  return {
      "path": model.path,
      "kind": model.kind,
      "ops": len(operations),
      "x": _as_dicts(x),
      "y": _as_dicts(y),
      "feeds": _as_dicts(t for t in list(model.inputs.values()) + _given(model)
                         if not any(t is candidate for candidate in x)),
      "signatures": {
          name: {"method": signature.method,
                 "inputs": _names_of_tensors(signature.inputs),
                 "outputs": _names_of_tensors(signature.outputs)}
          for name, signature in model.signatures.items()},
      "variables": _variables(model, operations),
      "loops": _loops(types),
      "branches": _branches(types),
      "random": _names_of_ops(types, op_types.RANDOM),
      "waiting": _names_of_ops(types, op_types.WAITING),
      "assigning": [op.name for op in effects.assigning_ops(ops)],
      "outside": _outside(ops),
      "outside_when_loaded": _outside(traversal.ancestors([
          model.graph.get_operation_by_name(name)
          for name in model.run_when_loaded])),
  }


def _as_dicts(candidates):
  """Name, dtype and shape of each of some tensors, as JSON can hold them."""
  return [{"name": t.name, "dtype": t.dtype.base_dtype.name,
           "shape": None if t.shape.ndims is None else t.shape.as_list()}
          for t in candidates]


def _names_of_tensors(signature_part):
  """dict from key to the name of the tensor, for inputs or for outputs."""
  return {key: _values_of(t).name for key, t in signature_part.items()}


def _values_of(tensor):
  """The values of a sparse tensor; a dense tensor itself."""
  return getattr(tensor, "values", tensor)


def _x_candidates(model):
  """The tensors that a user may want to differentiate by, as a list.

  They are the floating inputs, and what iterators and queues give in their
  place; the first floating tensors that are computed
  from inputs of other kinds (text, images in bytes); or else constants that are
  named as inputs are.
  """
  of_signatures = [_values_of(t) for signature in model.signatures.values()
                   for t in signature.inputs.values()]
  computed, seen = [], set()
  queue = [t for t in list(model.inputs.values()) + _given(model) if not (
      _tf.is_number(t.dtype) or t.dtype.is_integer or t.dtype == tf.bool)]
  while queue:
    for op in traversal.consumers(queue.pop()):
      for tensor in op.outputs:
        if tensor.name not in seen:
          seen.add(tensor.name)
          (computed if _tf.is_number(tensor.dtype) else queue).append(tensor)
  given = list(model.inputs.values()) + _given(model)
  return _floating(of_signatures + given + sorted(
      computed, key=lambda t: t.name)) or _floating(
          op.outputs[0] for op in model.graph.get_operations()
          if op.type == "Const" and _NAMES_OF_INPUTS.match(op.name))


def _given(model):
  """The numbers and texts that iterators and queues of a model give."""
  ops = {op.name: op for op in model.graph.get_operations()
         if not loading.BESIDE.search(op.name)}
  return [t for op in effects.waiting_ops(ops) for t in op.outputs
          if op.inputs and t.dtype not in (tf.resource, tf.variant) and
          traversal.consumers(t)]


def _trains(tensor):
  """Whether what makes `tensor` is there for training or initialization."""
  return any(_STEPS.search(op.type)
             for op in traversal.ancestors([tensor]).values())


def _y_candidates(model):
  """The tensors that a user may want to differentiate, as a list.

  They are the outputs of signatures, tensors that nothing reads, and logits;
  not what waits for a step of training.
  """
  of_signatures = [_values_of(t) for signature in model.signatures.values()
                   for t in signature.outputs.values()]
  others = _floating(list(model.outputs.values()) + _logits(model))
  return _floating(of_signatures + [t for t in others if not _trains(t)])


def _logits(model):
  """The tensors that a softmax or a cross entropy of the model reads."""
  logits = []
  for op in model.graph.get_operations():
    if op.type in _READ_LOGITS and not loading.BESIDE.search(op.name):
      tensor = op.inputs[0]
      while tensor.op.type == "Reshape":
        tensor = tensor.op.inputs[0]
      logits.append(tensor)
  return logits


def _floating(candidates):
  """Those of some tensors that are floating or complex, once each."""
  return list(
      {t.name: t for t in candidates if _tf.is_number(t.dtype)}.values())


def _variables(model, operations):
  """The variables among the ops of a model, as `inventory` lists them."""
  variables = effects.variables(operations)
  if not model.has_values:
    return [_variable(op, None) for op in variables]
  with model.graph.as_default():
    uninitialized = sessions.uninitialized(model.session, variables)
  return [_variable(op, op.name not in uninitialized) for op in variables]


def _variable(op, has_value):
  """A variable as `inventory` lists it."""
  return dict(_as_dicts([tensors.Dense(op.outputs[0])])[0],
              is_resource=op.type == "VarHandleOp", has_value=has_value)


def _outside(ops):
  """The ops that reach outside of the graph, as `inventory` lists them."""
  return [{"name": name, "type": op_type, "reach": reach}
          for name, op_type, reach in outside_ops.outside_ops(ops)
          if op_type not in _READING_VALUES]


def _loops(types):
  """The names of while loops: frames of control flow v1, ops of v2.

  Args:
    types: list of (op, type that it runs), as `effects.op_types_of_run` yields
      them; those in the bodies of functions are given with the op that calls.
  """
  names = set()
  for op, op_type in types:
    if op_type in op_types.ENTERS and op.type == op_type:
      names.add(op.get_attr("frame_name").decode())
    elif op_type in op_types.FUNCTIONAL_LOOPS:
      names.add(op.name)
  return sorted(names)


def _branches(types):
  """The names of conditions: predicates of control flow v1, ops of v2.

  Args:
    types: as in `_loops`.
  """
  names = set()
  for op, op_type in types:
    if op_type in op_types.SWITCHES and op.type == op_type:
      if op.inputs[1].op.type != "LoopCond":
        names.add(op.inputs[1].op.name)
    elif op_type in op_types.FUNCTIONAL_BRANCHES:
      names.add(op.name)
  return sorted(names)


def _names_of_ops(types, pattern):
  """The names of the ops whose type matches a pattern, sorted."""
  return sorted({op.name for op, op_type in types if pattern.search(op_type)})
