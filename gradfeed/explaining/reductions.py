"""Finds the sums and means that make y, and whether they are over a batch."""

from gradfeed.analysis import dependence_rules
from gradfeed.analysis import symbolic_shapes
from gradfeed import findings
from gradfeed.graph import op_types
from gradfeed.graph import tensors
from gradfeed.graph import traversal

#: Ops between a reduction and y.
_PASSED = frozenset([
    "Add", "AddN", "AddV2", "Identity", "Mul", "Neg", "Sub", "Select",
    "SelectV2", "RealDiv", "DivNoNan", "Div"])
_DIVIDING = frozenset(["RealDiv", "DivNoNan", "Div"])
_REDUCING = frozenset(["Mean", "Sum"])


class Reduction:
  """An op between x and y that makes one number of a tensor.

  Attributes:
    op: `tf.Operation`, a Mean or a Sum.
    tensor: `tf.Tensor` that it reads, [B, ...] for a loss.
    is_mean: bool, whether the result is divided by a number of elements, by
      this op or by one after it.
    counts: list of `tf.Tensor`, the numbers that ops after it divide by.
  """

  def __init__(self, op, counts):
    self.op = op
    self.tensor = op.inputs[0]
    self.counts = counts
    self.is_mean = bool(counts) or op.type == "Mean"


def find_reductions(y, trace):
  """The `Reduction`s that end in the scalar `y`, those nearest to it first."""
  result, seen, queue = [], set(), [(y.tensor, [])]
  while queue:
    tensor, counts = queue.pop(0)
    op = tensor.op
    if op.name in seen or op.name not in trace.path:
      continue
    seen.add(op.name)
    if op.type in _REDUCING and tensor.shape.ndims == 0 and (
        op.inputs[0].shape.ndims != 0):
      result.append(Reduction(op, counts))
    elif op.type in _PASSED:
      if op.type in _DIVIDING and _is_count(op.inputs[1]):
        counts = counts + [op.inputs[1]]
      queue.extend((t, counts) for t in op.inputs if trace.is_on_path(t))
  return result


def _is_count(tensor):
  """Whether a scalar is computed from the shape of a tensor, or by a sum."""
  return tensor.shape.ndims == 0 and any(
      op.type in op_types.SHAPE_READING or op.type == "Sum"
      for op in traversal.ancestors([tensor]).values())


class BatchAxes:
  """Finds out which axes of tensors count the rows of an x."""

  def __init__(self):
    self._sizes = symbolic_shapes.Sizes(dependence_rules.demands)

  def is_batch(self, tensor, x, trace):
    """Whether the first axis of `tensor` counts the rows of `x`.

    A size that cannot be derived from the shape of x is taken for it, if the
    tensor that has this size is computed from x: no rule gives the size where
    an op mixes rows. A number that is fixed, that of the elements of a vector
    say, may count anything.

    Args:
      tensor: `tf.Tensor`.
      x: `tensors.Dense`.
      trace: `gradient_flow.GradientTrace`.

    Returns:
      bool.
    """
    if _is_of_known_size(x) or not tensor.shape.ndims:
      return False
    try:
      own, rows = self._sizes.of(tensor)[0], self._sizes.of(x.tensor)[0]
    except symbolic_shapes.UnknownStatically:
      return False
    if own == rows or own.number != 1 or len(own.symbols) != 1:
      return own == rows
    (name, _), = own.symbols
    return name != x.name and trace.carries(
        tensor.graph.get_tensor_by_name(name))

  def is_averaged(self, reduction, x):
    """Whether `reduction` is over the rows of `x`, their number not fixed."""
    if _is_of_known_size(x):
      return False
    source = reduction.tensor
    try:
      rows, *others = [
          set(size.symbols) for size in self._sizes.of(x.tensor)]
      axes = symbolic_shapes.axes_of(reduction.op.inputs[1],
                                     symbolic_shapes.rank_of(source))
      sizes = {axis: set(self._sizes.of(source)[axis].symbols)
               for axis in axes}
      # Where the size cannot be derived, or is that of the labels, the first
      # axis is taken for rows, unless it is another axis of x.
      summed = any(rows & symbols or (not axis and symbols and
                                      symbols not in others)
                   for axis, symbols in sizes.items())
      return summed and (reduction.op.type == "Mean" or any(
          self._may_count(count, rows) for count in reduction.counts))
    except symbolic_shapes.UnknownStatically:
      return source.shape.ndims is None

  def _may_count(self, count, rows):
    """Whether a number may have the number of rows as a factor.

    Args:
      count: `tf.Tensor`, a scalar.
      rows: set of the symbols of the number of rows.
    """
    try:
      size, = self._sizes.entries(count)
    except symbolic_shapes.UnknownStatically:
      return True
    return size is None or bool(rows & set(size.symbols))


def _is_of_known_size(x):
  """Whether `x` has no first axis of any length."""
  return x.is_variable or not x.shape.ndims or x.shape.as_list()[0] is not None


def describe_reduction(y, xs, trace):
  """Yields what the gradient of `y` sums over.

  Args:
    y: `tensors.Dense`.
    xs: list of `tensors.Dense`.
    trace: `gradient_flow.GradientTrace`.

  Yields:
    `findings.Finding` of kind "reduction", "mean_over_batch" or
    "constant_sum".
  """
  if y.shape.ndims != 0:
    yield _sum_of_elements_finding(y)
    return
  batch_axes = BatchAxes()
  for reduction in find_reductions(y, trace):
    rows = [x for x in xs if batch_axes.is_averaged(reduction, x)]
    what = "{} is {} over {}, by {} '{}'.".format(
        tensors.describe(y), "a mean" if reduction.is_mean else "a sum",
        tensors.describe(reduction.tensor), reduction.op.type,
        reduction.op.name)
    names = [reduction.op.name, reduction.tensor.name]
    details = dict(op=reduction.op.name, type=reduction.op.type,
                   over=reduction.tensor.name, is_mean=reduction.is_mean)
    if reduction.is_mean and rows:
      yield findings.Finding(
          "mean_over_batch", findings.WARNING, what,
          "The gradient by one row of {} is divided by the number of rows "
          "that are fed with it.".format(tensors.describe_all(rows)),
          "Differentiate '{}' for gradients that do not depend on it.".format(
              reduction.tensor.name), names, **details)
    else:
      yield findings.Finding(
          "reduction", findings.NOTE, what, "", "", names, **details)


def _sum_of_elements_finding(y):
  """The finding for a `y` that is not a scalar: its elements are summed."""
  op = y.op
  while op.type in ("Identity", "Reshape"):
    op = op.inputs[0].op
  if op.type == "Softmax":
    return findings.Finding(
        "constant_sum", findings.WARNING,
        "{} is a softmax, and the gradient is that of the sum of its "
        "elements.".format(tensors.describe(y)),
        "They sum to 1 at every x: the gradient is 0 but for rounding.",
        "Differentiate one class of it (`class_gradient`), or the logits, "
        "'{}'.".format(op.inputs[0].name), [y.name, op.name],
        op=op.name, type=op.type)
  return findings.Finding(
      "reduction", findings.NOTE,
      "The gradient is that of the sum of all elements of {}.".format(
          tensors.describe(y)), "",
      "By element: `jacobian`; by row: `batch_jacobian`.", [y.name])
