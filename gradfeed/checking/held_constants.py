"""The ops between x and y whose values a derivative takes for constants.

They are random numbers, results of `tf.stop_gradient`, functions in Python.
With these held at their values, y is the function of x that TensorFlow
differentiates; finite differences have to be those of this function.
"""

import collections

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import blockers
from gradfeed.analysis import gradient_flow
from gradfeed.graph import control_flow
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import traversal
from gradfeed.rewriting import float64


class HeldConstants:
  """The ops that are constants for the derivative of `ys` at a point.

  Attributes:
    randoms: list of ops that draw random numbers and are held.
    unheld_randoms: list of ops that draw random numbers where no value can be
      fed: in loops and functions.
    intended_stops: list of ops that depend on x and by which the model stops
      the gradient (`tf.stop_gradient`).
    unintended_stops: list of other ops that depend on x and that no gradient
      passes.
    unheld_stops: list of ops that stop the gradient as the model says, where no
      value can be fed.
    trace: the `gradient_flow.GradientTrace`.
    eps: float, the rounding of the least precise number between x and y.
  """

  def __init__(self, point, ys):
    """Looks through the ops between x and y; runs nothing.

    Args:
      point: `evaluation_points.EvaluationPoint`.
      ys: list of `tf.Tensor`.
    """
    self._ys = ys
    self._names = {component.name for component in point.xs}
    self.trace = gradient_flow.GradientTrace(
        ys, [component.tensor for component in point.xs],
        folded=point.folded(ys, traversal.ancestors(ys, point.cut)))
    self._ops, folded = point.ops_run(ys)
    ops = self._ops
    self._without_value = control_flow.ops_without_a_value(ops)
    self._dependent_names = traversal.descendants(
        {name: op for name, op in ops.items()
         if op.type not in op_types.VALUE_INDEPENDENT},
        self._names, control=False)
    drawing_ops = list(
        collections.OrderedDict.fromkeys(
            op for op, kind in effects.op_types_of_run(ops, folded)
            if op_types.RANDOM.search(kind)))
    self.randoms = [op for op in drawing_ops if self._can_hold(op) and
                    not self._is_differentiated(op)]
    self.unheld_randoms = [op for op in drawing_ops if op not in self.randoms]
    blocked = [op for name, op in self.trace.blocked.items()
               if name in self._dependent_names]
    intended = [op for op in blocked if op.type == "StopGradient" and
                not blockers.ends_loop(op)]
    self.intended_stops = [op for op in intended if self._can_hold(op)]
    self.unintended_stops = [op for op in blocked if op not in intended and
                             self._can_hold(op)]
    self.unheld_stops = [
        op for op in intended if op not in self.intended_stops] + [
        op for op, kind in effects.op_types_of_run(
            {name: ops[name] for name in self._dependent_names}, folded)
        if kind == "StopGradient" and op.type != kind]
    self.eps = self._largest_eps(point)

  def _can_hold(self, op):
    """Whether the outputs of `op` can be fed."""
    return (op.name not in self._without_value and
            op.type not in op_types.FUNCTIONAL)

  def _is_differentiated(self, op):
    return op.name in self._dependent_names and op.name in self.trace.path

  def _largest_eps(self, point):
    """The `eps` of the least precise dtype of x, of y and between them."""
    result = [float64.eps(component.dtype) for component in point.xs]
    result += [float64.eps(t.dtype) for t in self._ys]
    result += [float64.eps(t.dtype) for op in self.trace.path.values()
               if not op.type.startswith(op_types.TENSOR_ARRAY)
               for t in op.outputs]
    return max(result)

  def tensors(self, operations):
    """The outputs of `operations` that y depends on when they are fed.

    Args:
      operations: list of ops.

    Returns:
      list of `tf.Tensor`.
    """
    outputs = [t for op in operations for t in op.outputs
               if _tf.numpy_dtype(t.dtype) is not None and
               t.dtype.base_dtype not in (tf.resource, tf.variant, tf.string)]
    cut = {t.name for t in outputs} | self._names
    ops = traversal.ancestors(self._ys, cut)
    read = {t.name for op in ops.values() for t in op.inputs}
    read.update(y.name for y in self._ys)
    return [t for t in outputs if t.name in read]

  def operations(self):
    """The ops on the path of the gradient that can be fetched, y's first."""
    return [op for name, op in reversed(list(self._ops.items()))
            if name in self.trace.path and name in self._dependent_names and
            name not in self._without_value]

  def dependent(self):
    """dict from name to op, of the ops whose values depend on values of x."""
    return {name: op for name, op in self._ops.items()
            if name in self._dependent_names}

  def blocking_op(self, op):
    """The op that ends the path of the gradient that `op` is a part of.

    Where `op` reads integers, say, it is the op that made integers of floating
    numbers.
    """
    seen = set()
    while op.name not in seen and not any(
        _tf.is_trainable_dtype(t.dtype) for t in op.inputs):
      seen.add(op.name)
      before = [t.op for t in op.inputs if t.op.name in self._dependent_names]
      op = before[0] if before else op
    return op
