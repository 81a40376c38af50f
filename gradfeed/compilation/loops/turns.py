"""How often a loop turns at most, where its condition compares a counter."""

import math

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import op_types
from gradfeed.graph import traversal


class Place:
  """A graph with loops in it, and where it is.

  Attributes:
    graph: `tf.Graph`: the outermost, or that of the body or the condition of a
      loop.
    loop: `tf.Operation` that it belongs to, or None.
    around: `Place` of that loop, or None.
  """

  def __init__(self, graph, fixed, bodies_of, loop=None, around=None):
    """Describes it.

    Args:
      graph, loop, around: as the attributes.
      fixed: set of the names of the tensors of `graph` that depend on shapes
        alone, whatever the values of its arguments are.
      bodies_of: as in `value_checks.FixedValues`.
    """
    self.graph, self.loop, self.around = graph, loop, around
    self._fixed, self._bodies_of = fixed, bodies_of

  def inside(self, loop, attribute="body"):
    """The `Place` that is the body or the condition ("cond") of a loop here."""
    graph, = self._bodies_of(loop, attribute)
    return Place(graph, _fixed_alone(graph), self._bodies_of, loop, self)

  def value(self, tensor):
    """The value of a tensor that shapes decide, as an array; or None."""
    if tensor.name in self._fixed:
      return _evaluated(self.graph, self._outermost().graph, tensor)
    outside = self._outside(tensor)
    return None if outside is None else self.around.value(outside)

  def upper(self, tensor):
    """A number that the value of an integer tensor never exceeds, or None."""
    value = self.value(tensor)
    if value is not None:
      return int(value) if np.ndim(value) == 0 else None
    op = tensor.op
    if op.type in ("Identity", "Cast"):
      return self.upper(op.inputs[0])
    if op.type in ("Minimum", "Maximum"):
      numbers = [self.upper(given) for given in op.inputs]
      known = [number for number in numbers if number is not None]
      if op.type == "Minimum":
        return min(known) if known else None
      return max(known) if len(known) == len(numbers) else None
    if op.type in op_types.FUNCTIONAL_LOOPS:
      return self._upper_after(op, tensor.value_index)
    outside = self._outside(tensor)
    return None if outside is None else self.around.upper(outside)

  def _upper_after(self, loop, index):
    """The `upper` of a result of a loop: of a counter, or what stays the same.

    The gradient of a loop turns as often as the loop has counted.
    """
    body, = self._bodies_of(loop, "body")
    start = self.upper(loop.inputs[index])
    if start is None or is_kept(body, index):
      return start
    step, turns = _step(body, index), most_turns(self, loop)
    return start + step * turns if step and turns is not None else None

  def _outermost(self):
    return self if self.around is None else self.around._outermost()

  def _outside(self, tensor):
    """What an argument is at every turn of the loop: a tensor outside; or None.
    """
    if self.loop is None:
      return None
    body, = self._bodies_of(self.loop, "body")
    for i, argument in enumerate(self.graph.inputs):
      if argument is tensor:
        return self.loop.inputs[i] if is_kept(body, i) else None
    return None


def is_kept(body, index):
  """Whether a body hands its argument `index` on unchanged."""
  return source(body.outputs[index]) is body.inputs[index]


def most_turns(place, loop):
  """How often a loop turns at most: an int, or None where nothing tells.

  Args:
    place: `Place` that the loop is in.
    loop: `tf.Operation`.
  """
  inside, body = place.inside(loop, "cond"), place.inside(loop).graph

  def limit(predicate):
    op = source(predicate).op
    if op.type == "LogicalAnd":
      known = [number for number in map(limit, op.inputs) if number is not None]
      return min(known) if known else None
    if op.type in ("Greater", "GreaterEqual"):
      larger, counter = op.inputs
    elif op.type in ("Less", "LessEqual"):
      counter, larger = op.inputs
    else:
      return None
    for i, argument in enumerate(inside.graph.inputs):
      if argument is source(counter):
        step, start = _step(body, i), place.value(loop.inputs[i])
        most = inside.upper(larger)
        if step and start is not None and most is not None:
          turns = (most - int(start)) / step
          return max(0, math.floor(turns) + 1 if op.type.endswith("Equal")
                     else math.ceil(turns))
    return None

  return limit(inside.graph.outputs[0])


def is_counter(body, loop):
  """Whether the first variable of a loop is the number of its turns."""
  return _step(body, 0) == 1 and _tf.constant_value(
      source(loop.inputs[0])) == 0


def _step(body, index):
  """By how much an integer argument grows at each turn; 0 if that is unknown.
  """
  op = source(body.outputs[index]).op
  if op.type not in ("Add", "AddV2") or not op.outputs[0].dtype.is_integer:
    return 0
  for given, other in (op.inputs, reversed(op.inputs)):
    step = _tf.constant_value(source(other))
    if source(given) is body.inputs[index] and step is not None and step > 0:
      return int(step)
  return 0


def source(tensor):
  """The tensor that `tensor` is an Identity of."""
  while tensor.op.type == "Identity":
    tensor = tensor.op.inputs[0]
  return tensor


def _fixed_alone(graph):
  """The names of tensors that are computed from shapes and constants."""
  fixed = set()
  for op in graph.get_operations():
    if op.type in op_types.SHAPE_READING or op.type == "Const" or (
        op.inputs and all(t.name in fixed for t in op.inputs)):
      fixed.update(t.name for t in op.outputs)
  return fixed


def _evaluated(graph, library, tensor):
  """The value of a tensor that depends on shapes alone.

  Args:
    graph: `tf.Graph` of it.
    library: `tf.Graph` that has the functions that are called there.
    tensor: `tf.Tensor`.
  """
  ops = traversal.ancestors([tensor])
  nodes = [op.node_def for op in ops.values()]
  scratch = tf.Graph()
  with scratch.as_default():
    imported = _tf.import_nodes(
        graph, nodes, {}, "", traversal.functions_called(library, nodes))
  zeros = {
      op.outputs[0]: np.zeros(op.outputs[0].shape.as_list(),
                              _tf.numpy_dtype(op.outputs[0].dtype))
      for op in imported.values() if op.type == "Placeholder" and
      op.outputs[0].dtype not in (tf.variant, tf.resource)}
  with _tf.plain_session(scratch) as session:
    return _tf.session_run(
        session, imported[tensor.op.name].outputs[tensor.value_index], zeros)
