"""What a derivative takes for constant though y depends on it.

A random number that an op draws, a `tf.stop_gradient`, a function in Python:
held at their values, y is the function of x that TensorFlow differentiates.
"""

import collections

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import gradient_flow
from gradfeed.graph import control_flow
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import traversal
from gradfeed.rewriting import float64

#: Ops that say in the model that nothing is to pass.
_MEANT = frozenset(["Exit", "RefExit", "StopGradient"])


class HeldConstants:
  """What is constant for the derivative of `ys` by the points of a place.

  Attributes:
    randoms: list of ops that draw numbers and are held.
    loose: list of ops that draw numbers where they cannot be held: in loops.
    meant: list of ops that the model stops the gradient with.
    hidden: list of ops that depend on x and that no gradient passes.
    loose_stops: list of ops as `meant`, in loops and functions.
    trace: the `gradient_flow.GradientTrace`.
    eps: float, the rounding of the least precise number between x and y.
  """

  def __init__(self, place, ys):
    self._ys = ys
    self._names = {component.name for component in place.points}
    self.trace = gradient_flow.GradientTrace(
        ys, [component.tensor for component in place.points])
    self._found = found = traversal.ancestors(ys, place.cut)
    self._inside = control_flow.ops_without_a_value(found)
    self._valued = traversal.descendants(
        {name: op for name, op in found.items()
         if op.type not in op_types.VALUE_INDEPENDENT},
        self._names, control=False)
    drawing = list(
        collections.OrderedDict.fromkeys(
            op for op, kind in effects.op_types_of_run(found)
            if op_types.RANDOM.search(kind)))
    self.randoms = [op for op in drawing if self._can_hold(op) and
                    not self._is_differentiated(op)]
    self.loose = [op for op in drawing if op not in self.randoms]
    blocked = [op for name, op in self.trace.blocked.items()
               if name in self._valued]
    self.meant = [op for op in blocked if op.type in _MEANT and
                  self._can_hold(op)]
    self.hidden = [op for op in blocked if op.type not in _MEANT and
                   self._can_hold(op)]
    self.loose_stops = [op for op in blocked if op.type in _MEANT and
                        op not in self.meant] + [
        op for op, kind in effects.op_types_of_run(
            {name: found[name] for name in self._valued})
        if kind == "StopGradient" and op.type != kind]
    self.eps = self._least_precise(place)

  def _can_hold(self, op):
    return op.name not in self._inside and op.type not in op_types.FUNCTIONAL

  def _is_differentiated(self, op):
    return op.name in self._valued and op.name in self.trace.path

  def _least_precise(self, place):
    found = [float64.eps(component.dtype) for component in place.points]
    found += [float64.eps(t.dtype) for t in self._ys]
    found += [float64.eps(t.dtype) for op in self.trace.path.values()
              if not op.type.startswith(op_types.TENSOR_ARRAY)
              for t in op.outputs]
    return max(found)

  def tensors(self, operations):
    """The outputs of `operations` that y reads when they are held."""
    outputs = [t for op in operations for t in op.outputs
               if _tf.numpy_dtype(t.dtype) is not None and
               t.dtype.base_dtype not in (tf.resource, tf.variant, tf.string)]
    cut = {t.name for t in outputs} | self._names
    found = traversal.ancestors(self._ys, cut)
    read = {t.name for op in found.values() for t in op.inputs}
    read.update(y.name for y in self._ys)
    return [t for t in outputs if t.name in read]

  def operations(self):
    """The ops between x and y that stand for themselves, those near y first."""
    return [op for name, op in reversed(list(self._found.items()))
            if name in self.trace.path and name in self._valued and
            name not in self._inside]

  def dependent(self):
    """dict from name to op, of those whose values depend on those of x."""
    return {name: op for name, op in self._found.items()
            if name in self._valued}

  def blocking_op(self, op):
    """The op that cuts the path, where `op` only reads what is left of it."""
    seen = set()
    while op.name not in seen and not any(
        _tf.is_trainable_dtype(t.dtype) for t in op.inputs):
      seen.add(op.name)
      before = [t.op for t in op.inputs if t.op.name in self._valued]
      op = before[0] if before else op
    return op
