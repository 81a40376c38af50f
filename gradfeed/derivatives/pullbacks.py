"""Products of one Jacobian with a stack of cotangents, built once.

One product is built with cotangents that stand for any
(`cotangent_types.Seed`). What depends on them is linear in them; it is repeated
for each cotangent of a stack, which `vectorization` does by a number of ops
that does not grow.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import row_dependence
from gradfeed.derivatives import cotangent_types
from gradfeed.derivatives import result_forms
from gradfeed.derivatives import vjps
from gradfeed.graph import cache
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.rewriting import subgraphs
from gradfeed.rewriting import vectorization


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

  def __init__(self, graph, ys, xs, stops, strict):
    """Builds it once.

    Args:
      graph: `tf.Graph`.
      ys: list of leaves, as `tensors.resolve` gives them.
      xs: list of leaves.
      stops: list of `tensors.Dense` to hold constant.
      strict: bool; whether an x that no y depends on is refused.
    """
    original = vjps.VJP(
        graph, ys, xs, [cotangent_types.Seed(leaf) for leaf in _points(ys)],
        stops, {})
    product = original.on_functional_copy(strict)
    built = product.build(strict=False)
    self.graph = graph
    self.ys, self.xs = product.ys, original.xs
    self.key = product.key()
    with _tf.building(graph, self.ys[0].op):
      self.seeds = [seed.tensor() for seed in product.cotangents]
    self.results = [dense(graph, result, x)
                    for result, x in zip(built.gradients, self.xs)]
    self._original, self._product, self._built = original, product, built

  def coupling(self, x):
    """See `row_dependence.coupling`, of all ys and one of the xs."""
    return row_dependence.coupling([y.tensor for y in self._original.ys],
                                   x.tensor, self._original.path(x))

  def refuse_hidden(self):
    """See `vjps.VJP.refuse_hidden`."""
    self._product.refuse_hidden(self._built)

  def remember(self, results, recomputed=()):
    """Tells the cache that `results`, one for each x, are derivatives by it."""
    self._original.remember(self._built.ys, results, recomputed=recomputed)

  def passes_of(self, built):
    """See `vjps.BuiltVJP.passes_of`."""
    return self._built.passes_of(built)

  def remember_moved(self, results):
    """The same for `results` of which there is one for each y, by all xs."""
    self._original.remember_moved(self._built.ys, results)

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

    found = iter(cache.cached(
        self.graph, ("stack", self.key, label, chunk), build))
    return [None if result is None else next(found)
            for result in self.results]

  def _build(self, wanted, label, count, cotangents, chunk, take):
    seeds = {seed.name for seed in self.seeds}
    found = traversal.ancestors(wanted, cut=seeds)
    part = subgraphs.dependent_ops(found, seeds)
    scratch = vectorization.ScratchGraph(self.graph)
    with scratch.building():
      cotangent = cotangents(scratch)
      kept = (lambda i, product: product) if take is None else take(scratch)
      if isinstance(count, tf.Tensor):
        count = scratch.placeholder_for(count)

      def body(i):
        given = dict(zip([seed.name for seed in self.seeds], cotangent(i)))
        for seed in self.seeds:
          given[seed.name].set_shape(seed.shape)
        at = scratch.copy(part, found, given, "body", same_shapes=True)
        return [kept(i, at(result.name)) for result in wanted]

      stacked = scratch.map_rows(body, count, chunk)
    stacked = scratch.export(stacked, label)
    static = count if isinstance(count, int) else None
    for result, one in zip(stacked, wanted):
      shape = one.shape if take is None else tf.TensorShape(None)
      result.set_shape(tf.TensorShape([static]).concatenate(shape))
    return stacked


def _points(leaves):
  return [component for leaf in leaves for component in leaf.differentiable()]


def numbers(y):
  """(rows, elements of a row, shape) of y, as ints where they are known."""
  def build():
    if y.shape.is_fully_defined():
      shape = y.shape.as_list()
      return shape[0], int(np.prod(shape[1:], dtype=np.int64)), shape
    with _tf.building(y.graph):
      shape = tf.shape(tensors.read_of(y))
      known = y.shape[1:].num_elements() if y.shape.ndims else None
      width = tf.reduce_prod(shape[1:]) if known is None else known
      return shape[0], width, shape

  return cache.cached(y.graph, ("numbers", y.name), build)


def held_numbers(scratch, y):
  """What `numbers` gives, as it can be read in a scratch graph."""
  return [
      scratch.placeholder_for(value) if isinstance(value, tf.Tensor) else value
      for value in numbers(y)
  ]


def dense(graph, result, x):
  """A dense tensor with the value of one result of a product; None stays.

  Args:
    graph: `tf.Graph`.
    result: `tf.Tensor`, `tf.IndexedSlices` or None.
    x: `tensors.Dense` that has its shape.
  """
  if result is None or isinstance(result, tf.Tensor):
    return result

  def build():
    with _tf.building(graph):
      return result_forms.dense(result, x)

  return cache.cached(graph, ("dense", result_forms.name_of(result)), build)
