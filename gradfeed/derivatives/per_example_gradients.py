"""One gradient for each example of a batch, by weights that all of them share.
"""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import row_dependence
from gradfeed.derivatives import arguments
from gradfeed.derivatives import batch_jacobians
from gradfeed.derivatives import pullbacks
from gradfeed.derivatives import result_forms
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import nest
from gradfeed.graph import op_types
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.rewriting import vectorization


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
  ask = arguments.Request(y, x, stop_gradients)
  if nest.is_container(y):
    raise errors.ArgumentError(
        "y is a {} of tensors.".format(type(y).__name__),
        "The examples are the rows of one.", "Pass one tensor.")
  component, = ask.ys
  batch_jacobians.check_rows("y", component)
  linear = pullbacks.Pullback(
      ask.graph, ask.ys, ask.xs, ask.stops, unconnected == "error")
  alone = None if coupled else _Alone(ask, linear)
  stacked = alone and alone.stacked(chunk)
  if stacked is None:
    y, = linear.ys
    stacked = linear.stacked(
        ("examples",), lambda: pullbacks.numbers(y)[0],
        lambda scratch: _rows_of_ones(scratch, y), chunk)
    linear.remember(stacked)
  else:
    linear.remember(stacked, recomputed=alone.part)
  return nest.pack(x, [
      _in_form(component, leaf, own, unconnected)
      for leaf, own in ask.by_leaf(stacked)])


def _rows_of_ones(scratch, y):
  """Ones in row i, zeros in all others."""
  count, width, shape = pullbacks.held_numbers(scratch, y)
  return lambda i: [tf.reshape(tf.tile(
      tf.one_hot(i, count, dtype=y.dtype)[:, tf.newaxis], [1, width]), shape)]


def _in_form(y, leaf, own, unconnected):
  """The gradients by the parts of one x, in the form of that x."""
  if all(part is None for part in own) and unconnected == "none":
    return None
  if len(own) == 1 and own[0] is not None:
    return own[0]

  def build():
    with _tf.building(y.graph):
      count = tf.shape(tensors.read_of(y))[:1]
      dense = [tf.zeros(tf.concat(
          [count, tf.shape(tensors.read_of(component))], 0), component.dtype)
               if part is None else part
               for part, component in zip(own, leaf.differentiable())]
      return (tf.concat(dense, leaf.axis + 1)
              if isinstance(leaf, tensors.Partitioned) else dense[0])

  key = ("examples", y.name, leaf.name, tuple(
      part if part is None else part.name for part in own))
  return cache.cached(y.graph, key, build)


def _numbered(known, ops):
  """The tensors of indices that begin with the number of their own row.

  Args:
    known: `row_dependence.RowDependence`.
    ops: list of `tf.Operation` that are copied for each example.

  Returns:
    set of names; None where something else reads one of them too.
  """
  picking = [op for op in ops if op.type == "GatherNd" and all(
      known.axes.get(t.name) == 0 for t in op.inputs)]
  numbered = {op.inputs[1].name for op in picking}
  shared = any(t.name in numbered for op in ops if op not in picking
               for t in op.inputs)
  return None if shared else numbered


def _of_the_only_row(indices):
  """One row of indices, for an example that is alone in its batch."""
  return tf.concat([tf.zeros_like(indices[:, :1]), indices[:, 1:]], 1)


class _Alone:
  """The way to compute each example alone: what is copied, what is sliced.

  Attributes:
    part: set of the names of the ops that are copied for each example.
  """

  def __init__(self, ask, linear):
    self._graph = ask.graph
    self._stops = ask.stops
    self._linear = linear
    self._y, = linear.ys
    self._xs = [x for x, result in zip(linear.xs, linear.results)
                if result is not None]
    self._numbered = set()
    self.part = None

  def stacked(self, chunk):
    """The gradients by each x; None where there is no such way.

    Raises:
      CoupledRowsError: an op between x and y mixes rows.
    """
    if not self._xs:
      return None
    y = tensors.read_of(self._y)
    found = traversal.ancestors([y])
    part = self.part = self._part(found)
    sliced = part and self._sliced(y, found, part)
    if sliced is None:
      return None
    key = ("alone", self._linear.key, chunk)

    def build():
      with _tf.building(self._graph):
        try:
          return self._build(y, found, part, sliced, chunk),
        except Exception:  # pylint: disable=broad-except
          return None,  # The number of rows is part of the graph.

    stacked, = cache.cached(self._graph, key, build)
    if stacked is None:
      return None
    results = iter(stacked)
    return [None if result is None else next(results)
            for result in self._linear.results]

  def _part(self, found):
    """The ops that depend on an x, and those that tell them about shapes."""
    # What was drawn at random is sliced as data are, and not drawn again.
    fixed = {name: op for name, op in found.items()
             if not op_types.RANDOM.search(op.type)}
    part = traversal.descendants(fixed, {x.name for x in self._xs},
                                 control=False)
    part &= set(fixed)
    if not vectorization.is_plain(found[name] for name in part):
      return None
    y = tensors.read_of(self._y)
    while True:
      known = row_dependence.RowDependence([y],
                                           {name: found[name] for name in part})
      more = {name.split(":")[0] for name in known.shapes} - part
      more = {name for name in more if found[name].inputs and
              found[name].name in fixed}
      if not more:
        return part
      part |= more

  def _sliced(self, y, found, part):
    """{name of a tensor outside of the part: axis of its rows}, or None."""
    known = row_dependence.RowDependence([y],
                                         {name: found[name] for name in part})
    inside = {t.name for name in part for t in found[name].outputs}
    mixed = (set(known.axes) | set(known.blocks)) & set(known.whole)
    for name in sorted(mixed & inside - known.picked):
      op = known.whole[name]
      if not any(t.name in mixed for t in op.outputs):  # Here it begins.
        raise errors.coupled_rows(
            tensors.describe(self._y), tensors.describe(
                self._graph.get_tensor_by_name(name)), tensors.describe(op))
    own = {x.name for x in self._xs}
    if known.unknown or mixed or known.blocks or own & (
        set(known.axes)) or self._batch_numbers(known, inside):
      return None
    self._numbered = _numbered(known, [found[name] for name in part])
    if self._numbered is None or self._numbered & inside:
      return None
    return {name: axis for name, axis in known.axes.items()
            if name not in inside}

  def _batch_numbers(self, known, inside):
    """Whether a shape of the whole batch is read as a number or a shape."""
    for name in set(known.whole) | set(known.shapes):
      op = self._graph.get_tensor_by_name(name).op
      if op.type in ("Shape", "ShapeN", "Size") and (
          name in known.whole or any(
              t.name not in known.axes and t.name not in inside
              for t in op.inputs)):
        return True
    return False

  def _build(self, y, found, part, sliced, chunk):
    scratch = vectorization.ScratchGraph(self._graph)
    with scratch.building():
      values = [scratch.placeholder_for(tensors.read_of(x)) for x in self._xs]
      count = pullbacks.held_numbers(scratch, self._y)[0]
      pickers = {name: scratch.row_reader(
          self._graph.get_tensor_by_name(name), axis)
                 for name, axis in sliced.items()}

      def body(i):
        own = [tf.identity(_tf.captured(value)) for value in values]
        replaced = {x.name: value for x, value in zip(self._xs, own)}
        replaced.update((name, pick(i)) for name, pick in pickers.items())
        replaced.update((name, _of_the_only_row(replaced[name]))
                        for name in self._numbered)
        at = scratch.copy(part, found, replaced, "example")
        if at(y.name).shape.as_list()[0] != 1:
          raise ValueError("Some other number of rows is in the graph.")
        stops = [at(stop.name) for stop in self._stops
                 if stop.op.name in part]
        gradients = tf.gradients(
            at(y.name), own, stop_gradients=stops or None)
        return [result_forms.dense(gradient, tensors.Dense(value))
                for gradient, value in zip(gradients, own)]

      stacked = scratch.map_rows(body, count, chunk)
    stacked = scratch.export(stacked, "examples")
    for result, x in zip(stacked, self._xs):
      result.set_shape(self._y.shape[:1].concatenate(x.shape))
    return stacked
