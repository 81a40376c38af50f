"""Products of one Jacobian with a stack of cotangents, built once.

One product is built, with seeds as cotangents (`cotangent_types.Seed`). The ops
that depend on the seeds are linear in them. They are copied, with the
cotangents of a stack in the place of the seeds; `vectorization` makes a number
of ops of it that does not grow with the stack.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import element_dependence
from gradfeed.analysis import row_dependence
from gradfeed.derivatives import cotangent_types
from gradfeed.derivatives import preconditions
from gradfeed.derivatives import result_forms
from gradfeed.derivatives import vjps
from gradfeed.derivatives import waits
from gradfeed.graph import cache
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.rewriting import subgraphs
from gradfeed.rewriting import vectorization

#: Of several largest elements, the gradient of these takes all, and that of the
#: gradient one.
_OTHER_AT_TIES = ("MaxPool3D",)


class Pullback:
  """The map from cotangents of some ys to the gradients by some xs.

  Attributes:
    graph: `tf.Graph`.
    ys: list of `tensors.Dense`.
    xs: list of `tensors.Dense`.
    seeds: list of `tf.Tensor`, the cotangent of each y.
    results: list with a dense `tf.Tensor`, linear in `seeds`, for each x, or
      None if no y depends on it.
  """

  def __init__(self, graph, ys, xs, stops, strict, is_stacked=True):
    """Builds it once.

    Args:
      graph: `tf.Graph`.
      ys: list of leaves, as `tensors.resolve` gives them.
      xs: list of leaves.
      stops: list of `tensors.Dense` to hold constant.
      strict: bool; whether an x that no y depends on is refused.
      is_stacked: bool; whether `stacked` will be called.
    """
    original = vjps.VJP(
        graph, ys, xs, [cotangent_types.Seed(component) for leaf in ys
                        for component in leaf.differentiable()], stops, {})
    if is_stacked:
      preconditions.check_stacked(original)
    vjp = original.on_functional_copy(strict, free_means=True)
    built = vjp.build(strict=False)
    self.graph = graph
    self.ys, self.xs = vjp.ys, original.xs
    with _tf.building(graph, self.ys[0].op):
      self.seeds = [seed.tensor() for seed in vjp.cotangents]
    self.results = [
        result_forms.dense_or_none(graph, waits.alone(graph, result), x)
        for result, x in zip(built.gradients, self.xs)]
    self.key = vjp.key() + tuple(map(result_forms.name_of, self.results))
    self._original, self._vjp, self._built = original, vjp, built
    self._read = original.at_one_copy()

  def coupling(self, x):
    """Whether rows of the ys depend on other rows of `x`, in any run.

    Which branch of a conditional is taken is known in a run.

    Returns:
      As `row_dependence.coupling`.
    """
    read = self._read.xs[self.xs.index(x)]
    return row_dependence.coupling([y.tensor for y in self._read.ys],
                                   read.tensor, self._read.path(read),
                                   only_certain=True)

  def places(self):
    """Where the Jacobian of the only y by the only x may not be zero.

    Returns:
      As `element_dependence.places`, which may raise an `Unfollowed`.
    """
    (y,), (x,) = self._read.ys, self._read.xs
    return element_dependence.places(
        y.tensor, x.tensor, x.shape, self._read.path(x))

  def hides_something(self):
    """Whether an op that no gradient passes hides a part of a result."""
    return self._vjp.hides_something()

  def has_doubtful_columns(self):
    """Whether columns of the Jacobian may not be what its rows are.

    A gradient that a program gave an op need not be linear in the cotangent
    (one that is clipped); those of TensorFlow are.
    """
    ops = list(self._read.trace().path.values())
    nodes = [op.node_def for op in ops]
    for definition in traversal.functions_called(self.graph, nodes):
      nodes.extend(definition.node_def)
    return any(_tf.function_definition(self.graph, op.type) is not None
               for op in ops) or any(
                   _tf.has_own_gradient(node) or node.op in _OTHER_AT_TIES
                   for node in nodes)

  def dtypes(self):
    """The set of the floating dtypes of the ys, the xs and all between."""
    results = [tensor for op in self._read.trace().path.values()
               for tensor in op.outputs]
    return {tensor.dtype.base_dtype for tensor in self.ys + self.xs + results
            if tensor.dtype.is_floating}

  def refuse_hidden(self):
    """Refuses results that are None only because an op hides the dependence.

    See `preconditions.check_hidden`.
    """
    preconditions.check_hidden(self._vjp, self._built)

  def remember(self, results, recomputed=()):
    """Records that `results`, one for each x, are derivatives of the ys.

    Args:
      results: list of `tf.Tensor` or None.
      recomputed: names of the ops whose copies are part of `results`.

    Returns:
      list of the tensors to give to the caller.
    """
    results = self.after_originals(results)
    self._original.remember(self._built.ys, results, recomputed=recomputed)
    return results

  def passes_of(self, built):
    """The copies of the ys of `built` that this, a derivative of it, reads.

    Args:
      built: `result_forms.BuiltVJP`.
    """
    return self._built.passes_of(built)

  def remember_jvp(self, results):
    """As `remember`, for results that are derivatives by all xs, one for a y.
    """
    results = self.after_originals(results)
    self._original.remember_jvp(self._built.ys, results)
    return results

  def after_originals(self, results):
    """See `waits.after_originals`."""
    if not self._built.copied:
      return results

    def build():
      with _tf.building(self.graph):
        return waits.after_originals(
            self.graph, self._built.ys, results, self._built.copied)

    return cache.cached(self.graph, ("waiting",) + tuple(
        map(result_forms.name_of, results)), build)

  def stacked(self, label, count, cotangents, chunk=None, take=None):
    """The product with each cotangent of a stack.

    Args:
      label: tuple, names the stack among all of this map, and the scope.
      count: function without arguments to the number of cotangents: int, or
        int32 scalar tensor of the graph.
      cotangents: function from a `vectorization.ScratchGraph` to a function
        from an index, int32 scalar tensor, to the list of the cotangents of
        `ys`.
      chunk: int, how many products at a time, or None for all.
      take: function from a `vectorization.ScratchGraph` to a function from an
        index and a product to the part of the product to keep; None for all of
        it.

    Returns:
      list with a `tf.Tensor` of shape [count] + x.shape, or None, for each x.
    """
    wanted = [result for result in self.results if result is not None]
    if not wanted:
      return list(self.results)

    def build():
      cache.check_not_finalized(self.graph, "A {} of {} by {}".format(
          label[0], tensors.describe_all(self.ys),
          tensors.describe_all(self.xs)))
      with _tf.building(self.graph):
        return self._build(
            wanted, label[0], count(), cotangents, chunk, take)

    stacked = iter(cache.cached(
        self.graph, ("stack", self.key, label, chunk), build))
    return [None if result is None else next(stacked)
            for result in self.results]

  def _build(self, wanted, label, count, cotangents, chunk, take):
    """Builds the stack of each of `wanted`; see `stacked` for the arguments.

    Args:
      wanted: list of those of `results` that are not None.
      label: str, the scope.
    """
    seeds = {seed.name for seed in self.seeds}
    ops = traversal.ancestors(wanted, cut=seeds)
    op_names = subgraphs.dependent_ops(ops, seeds)
    scratch = vectorization.ScratchGraph(self.graph)
    with scratch.building():
      cotangent = cotangents(scratch)
      kept = (lambda i, product: product) if take is None else take(scratch)
      if isinstance(count, tf.Tensor):
        count = scratch.placeholder_for(count)

      def body(i):
        replaced = dict(zip([seed.name for seed in self.seeds], cotangent(i)))
        for seed in self.seeds:
          replaced[seed.name].set_shape(seed.shape)
        copy_of = scratch.copy(
            op_names, ops, replaced, "body", same_shapes=True)
        return [kept(i, copy_of(result.name)) for result in wanted]

      stacked = scratch.map_rows(body, count, chunk)
    stacked = scratch.export(stacked, label)
    static = count if isinstance(count, int) else None
    for result, product in zip(stacked, wanted):
      shape = product.shape if take is None else tf.TensorShape(None)
      result.set_shape(tf.TensorShape([static]).concatenate(shape))
    return stacked


def size_of(y):
  """The number of elements of y: int, or an int32 scalar tensor."""
  size = y.shape.num_elements()
  return tf.size(tensors.read_of(y)) if size is None else size


def units(scratch, y, unit=1):
  """The unit cotangents of y.

  Args:
    scratch: `vectorization.ScratchGraph`.
    y: `tensors.Dense`.
    unit: number that stands in the place of one.

  Returns:
    function from an index, int32 scalar tensor, to a list with the cotangent.
  """
  if y.shape.is_fully_defined():
    size, shape = y.shape.num_elements(), y.shape.as_list()
  else:
    read = tensors.read_of(y)
    with _tf.building(y.graph):
      size, shape = tf.size(read), tf.shape(read)
    size, shape = scratch.placeholder_for(size), scratch.placeholder_for(shape)
  vector = _unit_vectors(scratch, size, y.dtype, unit)
  return lambda i: [tf.reshape(vector(i), shape)]


def _unit_vectors(scratch, size, dtype, unit=1):
  """A function from an index to a vector of zeros, but for `unit` there.

  Args:
    scratch: `vectorization.ScratchGraph`.
    size: int or int32 scalar tensor of it, how long the vectors are.
    dtype: `tf.DType`.
    unit: number.
  """
  def one_hot(i):
    return tf.one_hot(i, size, on_value=tf.constant(unit, dtype), dtype=dtype)

  if _tf.IS_TF2 or unit != 1:
    return one_hot
  # A stack of them takes the OneHot of TensorFlow 1.15 ten times as long. There
  # is one more for a stack of none: map_rows asks for an index at least.
  one = tf.constant(1)
  places = tf.range(tf.constant(0), size, one)
  matrix = tf.scatter_nd(
      tf.stack([places, places], axis=1),
      tf.cast(tf.raw_ops.OnesLike(x=places), dtype),
      tf.stack([tf.add(size, one), size]))
  return lambda i: (tf.gather(matrix, i) if scratch.builds_whole_stacks
                    else one_hot(i))


def numbers(y):
  """The numbers that describe the shape of a batch.

  Args:
    y: `tensors.Dense` of shape [B, ...].

  Returns:
    (B, number of elements of a row, shape): ints and a list of ints if the
    shape is known, else int32 tensors; the second is an int if it is known.
  """
  def build():
    if y.shape.is_fully_defined():
      shape = y.shape.as_list()
      return shape[0], int(np.prod(shape[1:], dtype=np.int64)), shape
    with _tf.building(y.graph):
      shape = tf.shape(tensors.read_of(y))
      width = y.shape[1:].num_elements() if y.shape.ndims else None
      if width is None:
        width = tf.reduce_prod(shape[1:])
      return shape[0], width, shape

  return cache.cached(y.graph, ("numbers", y.name), build)


def held_numbers(scratch, y):
  """The result of `numbers`, tensors being replaced by those of `scratch`.

  Args:
    scratch: `vectorization.ScratchGraph`.
    y: `tensors.Dense` of shape [B, ...].
  """
  return [
      scratch.placeholder_for(value) if isinstance(value, tf.Tensor) else value
      for value in numbers(y)
  ]


def row_units(scratch, y):
  """The cotangents for independent rows: one element of each row at once.

  Returns:
    function from the index of the element to a list with the cotangent.
  """
  rows, width, shape = held_numbers(scratch, y)
  vector = _unit_vectors(scratch, width, y.dtype)
  return lambda i: [tf.reshape(
      tf.tile(vector(i)[tf.newaxis], [rows, 1]), shape)]
