"""One gradient for each example of a batch, by weights that all of them share.
"""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import row_dependence
from gradfeed.derivatives import arguments
from gradfeed.derivatives import pullbacks
from gradfeed.derivatives import result_forms
from gradfeed.derivatives.rows import batch_jacobians
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import nest
from gradfeed.graph import op_types
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.rewriting import vectorization


@_tf.unconverted
def per_example_gradient(y, x, coupled=False, stop_gradients=None,
                         unconnected="error", chunk=None):
  """Builds d sum(y[b]) / dx for each example b of a batch; once.

  What lies between x and y is computed for each example alone, with its own
  row of the data, and differentiated by itself: the price of one gradient of
  the batch, where a gradient for each example takes B of them. First the ops
  are looked at. Where one of them mixes rows (batch normalization in training,
  a mean over the batch), the call is refused; where one is not known, each
  example is differentiated within the batch: the same numbers, but B times the
  price of one gradient.

  Args:
    y: floating `tf.Tensor` of shape `[B, ...]`, such as the loss of each
      example, or name. Each row is summed. No mean over the batch.
    x: what to differentiate by, as in `gradient`: weights, usually.
    coupled: bool; True states that rows depend on each other. Each example is
      then differentiated within the batch.
    stop_gradients: tensors to hold constant, or None.
    unconnected: "error", "zero" or "none", as in `gradient`.
    chunk: int, how many examples are computed at a time, or None for all.
      Memory grows with it.

  Returns:
    The structure of `x`, with a `tf.Tensor` of shape [B] + x.shape and the
    dtype of x, in units of `y` per unit of `x`. Summed over the first axis it
    is `gradient(y, x)`.

  Raises:
    The same errors as `gradient`.
    CoupledRowsError: an example depends on others; names the op.
    ArgumentError: y has no rows; `chunk` is no positive int.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [None, 2])
    ...   w = tf.get_variable("w", initializer=tf.ones([2], tf.float64))
    ...   losses = tf.reduce_sum(x * w, axis=1) ** 2
    ...   session.run(w.initializer)
    ...   f = gf.function(x, gf.per_example_gradient(losses, w))
    ...   print(f([[1.0, 0.0], [2.0, 1.0]]))
    [[ 2.  0.]
     [12.  6.]]
  """
  arguments.check_unconnected(unconnected)
  arguments.check_chunk(chunk)
  arguments.check_flag("coupled", coupled)
  request = arguments.Request(y, x, stop_gradients)
  if nest.is_container(y):
    raise errors.ArgumentError(
        "y is a {} of tensors.".format(type(y).__name__),
        "The examples are the rows of one.", "Pass one tensor.")
  losses, = request.ys
  batch_jacobians.check_rows("y", losses)
  pullback = pullbacks.Pullback(
      request.graph, request.ys, request.xs, request.stops,
      unconnected == "error")
  stacked = None if coupled else _gradients_apart(request, pullback, chunk)
  if stacked is None:
    stacked = _gradients_within_batch(pullback, chunk)
  return nest.pack(x, [
      _in_form(losses, leaf, own, unconnected)
      for leaf, own in request.by_leaf(stacked)])


def _gradients_apart(request, pullback, chunk):
  """The gradients by each x, every example being computed by itself.

  Returns:
    list with a `tf.Tensor` or None for each x; None if the examples cannot be
    computed apart.
  """
  examples = _SeparateExamples(request, pullback)
  stacked = examples.stacked(chunk)
  if stacked is None:
    return None
  return pullback.remember(stacked, recomputed=examples.op_names)


def _gradients_within_batch(pullback, chunk):
  """The gradients by each x, the batch being computed as it is.

  Returns:
    list with a `tf.Tensor` or None for each x.
  """
  y, = pullback.ys
  stacked = pullback.stacked(
      ("examples",), lambda: pullbacks.numbers(y)[0],
      lambda scratch: _rows_of_ones(scratch, y), chunk)
  return pullback.remember(stacked)


def _rows_of_ones(scratch, y):
  """The cotangents that have ones in row i, and zeros in all others.

  Returns:
    function from i to a list with the cotangent.
  """
  count, width, shape = pullbacks.held_numbers(scratch, y)
  return lambda i: [tf.reshape(tf.tile(
      tf.one_hot(i, count, dtype=y.dtype)[:, tf.newaxis], [1, width]), shape)]


def _in_form(y, leaf, gradients, unconnected):
  """The gradients by the components of one x, in the form of that x."""
  def fill_zeros():
    count = tf.shape(tensors.read_of(y))[:1]
    return [tf.zeros(tf.concat(
        [count, tf.shape(tensors.read_of(component))], 0), component.dtype)
            if gradient is None else gradient
            for gradient, component in zip(gradients, leaf.differentiable())]

  return result_forms.stacked(
      y, leaf, gradients, unconnected, ("examples", y.name, leaf.name),
      fill_zeros, leading=1)


def _indices_with_row_numbers(dependence, ops):
  """The tensors of indices whose first column is the number of their own row.

  `GatherNd` reads them, from a tensor with a row for each row of them.

  Args:
    dependence: `row_dependence.RowDependence`.
    ops: list of `tf.Operation` that are copied for each example.

  Returns:
    set of names; None where something else reads one of them too.
  """
  gathers = [op for op in ops if op.type == "GatherNd" and all(
      dependence.axes.get(t.name) == 0 for t in op.inputs)]
  indices = {op.inputs[1].name for op in gathers}
  is_shared = any(t.name in indices for op in ops if op not in gathers
                  for t in op.inputs)
  return None if is_shared else indices


def _with_row_zero(indices):
  """Indices in which the number of the row is that of the only row, zero."""
  return tf.concat([tf.zeros_like(indices[:, :1]), indices[:, 1:]], 1)


class _SeparateExamples:
  """Gradients of each example, computed on a copy of the ops for one example.

  The ops between the xs and y are copied into a function of the number of the
  example. What they read from elsewhere is sliced, where it has rows.

  Attributes:
    op_names: set of the names of the ops that are copied; None until `stacked`
      has found them.
  """

  def __init__(self, request, pullback):
    self._graph = request.graph
    self._stops = request.stops
    self._pullback = pullback
    self._y, = pullback.ys
    self._xs = [x for x, result in zip(pullback.xs, pullback.results)
                if result is not None]
    self._row_numbers = set()  # Of `_indices_with_row_numbers`.
    self.op_names = None

  def stacked(self, chunk):
    """The gradients by each x, stacked; None where there is no such copy.

    Raises:
      CoupledRowsError: an op between x and y mixes rows.
    """
    if not self._xs:
      return None
    y = tensors.read_of(self._y)
    ops = traversal.ancestors([y])
    op_names = self.op_names = self._find_op_names(ops)
    sliced = op_names and self._find_sliced(y, ops, op_names)
    if sliced is None:
      return None
    key = ("alone", self._pullback.key, chunk)

    def build():
      with _tf.building(self._graph):
        try:
          return self._build(y, ops, op_names, sliced, chunk)
        except Exception:  # pylint: disable=broad-except
          return None  # The number of rows is part of the graph.

    stacked = cache.cached(self._graph, key, build)
    if stacked is None:
      return None
    results = iter(stacked)
    return [None if result is None else next(results)
            for result in self._pullback.results]

  def _find_op_names(self, ops):
    """The ops that depend on an x, and those that give them their shapes.

    Args:
      ops: dict from name to op, of all that y depends on.

    Returns:
      set of names; None if some of them cannot be copied.
    """
    # What was drawn at random is sliced as data are, and not drawn again.
    fixed = {name: op for name, op in ops.items()
             if not op_types.RANDOM.search(op.type)}
    op_names = traversal.descendants(fixed, {x.name for x in self._xs},
                                     control=False)
    op_names &= set(fixed)
    if not vectorization.is_plain(ops[name] for name in op_names):
      return None
    y = tensors.read_of(self._y)
    while True:
      dependence = row_dependence.RowDependence(
          [y], {name: ops[name] for name in op_names})
      more = {name.split(":")[0] for name in dependence.shapes} - op_names
      more = {name for name in more if ops[name].inputs and
              ops[name].name in fixed}
      if not more:
        return op_names
      op_names |= more

  def _find_sliced(self, y, ops, op_names):
    """The tensors of which each example reads its own row.

    Args:
      y: `tf.Tensor`.
      ops: dict from name to op, of all that y depends on.
      op_names: set of the names of the ops that are copied.

    Returns:
      dict from the name of a tensor that is not copied to the axis of its rows;
      None if the examples cannot be computed apart.

    Raises:
      CoupledRowsError: an op mixes rows.
    """
    dependence = row_dependence.RowDependence(
        [y], {name: ops[name] for name in op_names})
    copied = {t.name for name in op_names for t in ops[name].outputs}
    mixed = (set(dependence.axes) | set(dependence.blocks)) & set(
        dependence.whole)
    self._refuse_mixed(mixed & copied - dependence.picked, mixed, dependence)
    xs = {x.name for x in self._xs}
    if dependence.unknown or mixed or dependence.blocks or xs & (
        set(dependence.axes)) or self._reads_batch_size(dependence, copied):
      return None
    indices = _indices_with_row_numbers(
        dependence, [ops[name] for name in op_names])
    if indices is None or indices & copied:
      return None
    self._row_numbers = indices
    return {name: axis for name, axis in dependence.axes.items()
            if name not in copied}

  def _refuse_mixed(self, names, mixed, dependence):
    """Refuses an op in which rows are mixed first.

    Args:
      names: set of the names of the tensors to look at.
      mixed: set of the names of all tensors that are read both by rows and
        whole.
      dependence: `row_dependence.RowDependence`.
    """
    for name in sorted(names):
      op = dependence.whole[name]
      if not any(t.name in mixed for t in op.outputs):
        raise errors.coupled_rows(
            tensors.describe(self._y), tensors.describe(
                self._graph.get_tensor_by_name(name)), tensors.describe(op))

  def _reads_batch_size(self, dependence, copied):
    """Whether the shape of a whole batch is read, as a value or as a shape.

    Args:
      dependence: `row_dependence.RowDependence`.
      copied: set of the names of the tensors that are copied.
    """
    for name in set(dependence.whole) | set(dependence.shapes):
      op = self._graph.get_tensor_by_name(name).op
      if op.type in ("Shape", "ShapeN", "Size") and (
          name in dependence.whole or any(
              t.name not in dependence.axes and t.name not in copied
              for t in op.inputs)):
        return True
    return False

  def _build(self, y, ops, op_names, sliced, chunk):
    """Builds the copy, and the gradients of all examples by each x."""
    scratch = vectorization.ScratchGraph(self._graph)
    with scratch.building():
      values = [scratch.placeholder_for(tensors.read_of(x)) for x in self._xs]
      count = pullbacks.held_numbers(scratch, self._y)[0]
      readers = {name: scratch.row_reader(
          self._graph.get_tensor_by_name(name), axis)
                 for name, axis in sliced.items()}

      def body(i):
        own = [tf.identity(_tf.captured(value)) for value in values]
        replaced = {x.name: value for x, value in zip(self._xs, own)}
        replaced.update((name, read(i)) for name, read in readers.items())
        replaced.update((name, _with_row_zero(replaced[name]))
                        for name in self._row_numbers)
        copy_of = scratch.copy(op_names, ops, replaced, "example")
        if copy_of(y.name).shape.as_list()[0] != 1:
          raise ValueError("Some other number of rows is in the graph.")
        stops = [copy_of(stop.name) for stop in self._stops
                 if stop.op.name in op_names]
        gradients = _tf.gradients(
            copy_of(y.name), own, stop_gradients=stops or None)
        return [result_forms.dense(gradient, tensors.Dense(value))
                for gradient, value in zip(gradients, own)]

      stacked = scratch.map_rows(body, count, chunk)
    stacked = scratch.export(stacked, "examples")
    for result, x in zip(stacked, self._xs):
      result.set_shape(self._y.shape[:1].concatenate(x.shape))
    return stacked
