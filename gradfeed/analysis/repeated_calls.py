"""Finds the tensor of a model that another tensor computes once more.

A second call of a layer, or the same code run again on the same tensors, makes
ops that the model does not read. Their twins in the model have the same types,
and read the same tensors or variables.
"""

import numpy as np

from gradfeed import _tf
from gradfeed.graph import op_types
from gradfeed.graph import traversal


def find_twin(tensor, ops):
  """The tensor of a model that is computed as `tensor` is.

  The model's one may read another input where both read the same variables, as
  two calls of a layer do; else all that they read has to be the same.

  Args:
    tensor: `tf.Tensor` that is not in the model.
    ops: dict from name to op, the model.

  Returns:
    `tf.Tensor`, the first one in the model; None if there is none, or if
    `tensor` is no more than a read of a variable.
  """
  if all(t.op.type in op_types.VARIABLES for t in tensor.op.inputs):
    return None
  twins = {}  # dict from the name of an op to the list of those in the model.
  exact = {}  # dict from the name of an op to whether all that it reads is.
  anchored = set()  # Names of ops that are computed from a shared variable.
  for name, op in traversal.ancestors([tensor]).items():
    if any(t.op.name in anchored or t.op.type in op_types.VARIABLES and
           t.op.name in ops for t in op.inputs):
      anchored.add(name)
    if name in ops:
      twins[name], exact[name] = [op], True
      continue
    twins[name] = _twins_of(op, twins, ops) if op.inputs else []
    exact[name] = all(exact.get(t.op.name, False) or _is_constant(t)
                      for t in op.inputs) and bool(twins[name])
  name = tensor.op.name
  if not twins[name] or not (exact[name] or name in anchored):
    return None
  return twins[name][0].outputs[tensor.value_index]


def _twins_of(op, twins, ops):
  """The ops of the model that do with the twins of its inputs what `op` does.

  Args:
    op: `tf.Operation`.
    twins: dict from name to list of ops, for all that `op` reads.
    ops: as in `find_twin`.

  Returns:
    list of `tf.Operation`, in the order in which the model runs.
  """
  known = [i for i, t in enumerate(op.inputs) if twins.get(t.op.name)]
  if not known:
    return []
  first = op.inputs[known[0]]
  users = {user.name for source in twins[first.op.name]
           for user in traversal.consumers(source.outputs[first.value_index])}
  return [other for name, other in ops.items() if name in users and
          other.type == op.type and len(other.inputs) == len(op.inputs) and
          all(_may_be_twins(mine, theirs, twins)
              for mine, theirs in zip(op.inputs, other.inputs))]


def _may_be_twins(mine, theirs, twins):
  """Whether two tensors are twins, or nothing is known that speaks against it.
  """
  if _is_constant(mine) or _is_constant(theirs):
    return _is_constant(mine) and _is_constant(theirs) and np.array_equal(
        _tf.constant_value(mine), _tf.constant_value(theirs))
  found = twins.get(mine.op.name)
  return not found or mine.value_index == theirs.value_index and any(
      other is theirs.op for other in found)


def _is_constant(tensor):
  return tensor.op.type == "Const"
