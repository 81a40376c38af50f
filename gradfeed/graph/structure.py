"""Tensors that were built twice: equal by what computes them, not by name.

Code that asks for the derivative of `tf.reduce_mean(layer[..., k])` for each
image builds the same few ops again each time. Two tensors are equal here if
they have the same value in every run: the ops above them have the same types,
attributes, devices and static shapes, down to ops that both have in common.

What may have another value in each place, or at each time, is equal to itself
alone: ops with state (variables, random numbers, queues), reads of variables,
placeholders, ops in loops and branches, calls of functions, and what waits for
another op.
"""

import hashlib

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import cache
from gradfeed.graph import op_types
from gradfeed.graph import traversal

#: Types of ops that are equal to themselves alone, besides those with state.
_UNIQUE = op_types.FUNCTIONAL | op_types.CONTROL_FLOW_V1 | (
    op_types.PYTHON_CALLS) | frozenset(op_types.PLACEHOLDERS) | frozenset(
        op_types.VARIABLES) | op_types.STACK_OPS | op_types.PER_RUN_STATE | (
            frozenset(["PlaceholderWithDefault"]))

#: Parts of a node whose serialized form is longer than this are hashed.
_LONGEST_KEPT = 256


class Structures:
  """The tensors of one graph that were differentiated, and their structures.

  Nothing is compared before a second one of a group asks for it, so that
  whoever builds no tensor twice pays nothing.
  """

  def __init__(self):
    self._waiting = []  # Lists of the names of tensors, not looked at yet.
    self._canonical = {}  # From the name of an op to the first one equal to it.
    self._first_op = {}  # From what is equal in two ops to the name of one.
    self._first_of_group = {}
    self._known = {}  # From (group, what the tensors are equal to) to names.

  def find(self, graph, group, targets, kept):
    """Earlier tensors of a group that `targets` are equal to.

    Args:
      graph: `tf.Graph`.
      group: hashable; tensors of another group do not matter.
      targets: list of `tf.Tensor`; from now on they are earlier ones.
      kept: set of the names of the tensors that must be the same on both sides,
        and not only equal: what is differentiated by, and held constant.

    Returns:
      (tuple of the names of the earlier tensors, dict from the names of the
      tensors that make `targets` to those that they are equal to); both None
      where there are none.
    """
    names = tuple(target.name for target in targets)
    self._waiting.append(names)
    first = self._first_of_group.setdefault(group, names)
    if first is names:
      return None, None
    self._take_in(graph)
    self._known.setdefault((group, self._canonical_names(first)), first)
    key = group, self._canonical_names(names)
    known = self._known.setdefault(key, names)
    if known == names:
      return None, None
    equal = _compared(targets, list(map(graph.get_tensor_by_name, known)))
    if equal is None:
      self._known[key] = names
    if equal is None or any(name in kept for pair in equal.items()
                            for name in pair):
      return None, None
    return known, equal

  def _canonical_names(self, names):
    """The tensors that the tensors called `names` are equal to."""
    parts = [name.rpartition(":") for name in names]
    return tuple((self._canonical[op], index) for op, _, index in parts)

  def _take_in(self, graph):
    """Finds out what the tensors that wait are equal to."""
    waiting = [[graph.get_tensor_by_name(name) for name in names]
               for names in self._waiting]
    self._waiting = []
    if not self._canonical and len(waiting) > 1:
      # What all have in common need not be looked at: it is most of a network.
      first, last = [traversal.ancestors(targets)
                     for targets in (waiting[0], waiting[-1])]
      self._canonical = {name: name for name in first if name in last}
    for targets in waiting:
      for op in _new_ops(targets, self._canonical):
        key = _key(op, self._canonical)
        self._canonical[op.name] = op.name if key is None else (
            self._first_op.setdefault(key, op.name))


def find(graph, group, targets, kept):
  """As `Structures.find`; called with the lock of the graph's cache held."""
  structures = cache.cached(graph, "structures", Structures)
  return structures.find(graph, group, targets, kept)


def _new_ops(targets, known):
  """The ops above `targets` that are not in `known`, inputs first."""
  visited, ops = set(), []
  stack = [(target.op, False) for target in reversed(targets)]
  while stack:
    op, is_done = stack.pop()
    if is_done:
      ops.append(op)
    elif op.name not in visited and op.name not in known:
      visited.add(op.name)
      stack.append((op, True))
      stack.extend((before, False) for before in traversal.predecessors(op))
  return ops


def _key(op, canonical):
  """A hashable that equal ops share; None for an op that is equal to no other.

  Args:
    op: `tf.Operation`.
    canonical: dict from the names of the ops that it reads to those that they
      are equal to.
  """
  own = _own_key(op)
  if own is None or any(t.op.name not in canonical for t in op.inputs):
    return None  # What reads an op that comes later is part of a loop.
  return own, tuple((canonical[t.op.name], t.value_index) for t in op.inputs)


def _own_key(op):
  """What equal ops have in common, apart from their inputs; or None."""
  if op.control_inputs or op.type in _UNIQUE or not op.outputs or (
      _tf.is_inside(op) or _tf.has_state(op)) or (
          _tf.function_definition(op.graph, op.type) is not None):
    return None
  if any(not _is_plain(t.dtype) for t in list(op.inputs) + list(op.outputs)):
    return None
  if getattr(op, "_gradient_function", None) is not None:
    return None
  node = op.node_def
  node.name = ""
  del node.input[:]
  if any(value.HasField("func") or value.list.func
         for value in node.attr.values()):
    return None
  text = node.SerializeToString(deterministic=True)
  return (op.type, text if len(text) < _LONGEST_KEPT else (
      hashlib.sha256(text).digest()), tuple(str(t.shape) for t in op.outputs))


def _is_plain(dtype):
  """Whether tensors of `dtype` hold a value, and no reference or handle."""
  return dtype == dtype.base_dtype and dtype not in (tf.resource, tf.variant)


def _compared(targets, others):
  """Compares tensors as they are now, whatever was found out before.

  An op may have got another attribute, input or device since.

  Returns:
    dict from the names of the tensors that make `targets`, and not `others`, to
    those that they are equal to; None if one is not equal.
  """
  equal, compared = {}, {}
  queue = list(zip(targets, others))
  while queue:
    tensor, other = queue.pop()
    op, other_op = tensor.op, other.op
    if tensor.value_index != other.value_index:
      return None
    if op is other_op:
      continue
    if op.name in compared:
      if compared[op.name] != other_op.name:
        return None
      continue
    own = _own_key(op)
    if own is None or own != _own_key(other_op) or (
        len(op.inputs) != len(other_op.inputs)):
      return None
    compared[op.name] = other_op.name
    equal.update((mine.name, its.name)
                 for mine, its in zip(op.outputs, other_op.outputs))
    queue.extend(zip(op.inputs, other_op.inputs))
  return equal
