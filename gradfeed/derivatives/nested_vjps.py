"""Products in the body of a function, also by what the function captures.

A function reads tensors of the graphs around it through placeholders. The
product goes from the ys to these placeholders, and from the tensors that they
stand for on to the xs, one graph after the other. All of it is built in the
function, as `tf.gradients` does.
"""

import collections
import contextlib

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import preconditions
from gradfeed.derivatives import result_forms
from gradfeed.derivatives import vjps
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import captures
from gradfeed.graph import tensors


class NestedVJP:
  """A `vjps.VJP` of ys and xs that are in a function and in graphs around it.

  Attributes:
    graph: `tf.Graph`, the innermost of all.
  """

  def __init__(self, graph, ys, xs, cotangents, stops, settings, incomplete):
    """The arguments are those of `vjps.VJP`."""
    self.graph = graph
    self._graphs = captures.enclosing(graph)
    self._ys, self._leaves = ys, xs
    self._xs = [part for leaf in xs for part in leaf.differentiable()]
    self._cotangents, self._stops = cotangents, stops
    self._settings, self._incomplete = settings, incomplete
    self._innermost = None  # The product in the function itself.
    self._captures = captures.dependent_captures(
        self._graphs, [x.tensor for x in self._xs])

  def build(self, strict):
    """Builds it the first time; as `vjps.VJP.build`.

    Returns:
      `result_forms.BuiltVJP`.
    """
    with contextlib.ExitStack() as stack:
      for graph in self._graphs:
        stack.enter_context(cache.cache_of(graph).lock)
      return self._build(strict)

  def _build(self, strict):
    ys = [y.differentiable()[0].tensor for y in self._ys]
    gradients = [[] for _ in self._xs]  # What arrives at each x.
    arrived = collections.defaultdict(list)  # By graph: (tensor, cotangent).
    copied = {}
    for level, graph in enumerate(self._graphs):
      for tensor, cotangent in arrived[graph]:
        self._arrive(tensor, cotangent, level, gradients, arrived)
      built = self._product(graph, level, arrived[graph], ys, gradients,
                            arrived)
      if built is not None and not level:
        copied = built.copied
    results = [self._sum(x, terms) for x, terms in zip(self._xs, gradients)]
    lost = [x for x, result in zip(self._xs, results) if result is None]
    if strict and lost:
      self._refuse(lost)
    return result_forms.BuiltVJP(ys, results, copied)

  def _arrive(self, tensor, cotangent, level, gradients, arrived):
    """Passes on what arrives at a tensor that no op of its graph makes."""
    if not _is_source(tensor):
      return
    for capture in self._captures[level]:
      if capture.inside is tensor:
        _leave(capture, cotangent, arrived)
    for x, terms in zip(self._xs, gradients):
      if x.tensor is tensor:
        terms.append(cotangent)

  def _product(self, graph, level, arrived, ys, gradients, onward):
    """Builds the product in one graph.

    Args:
      graph: `tf.Graph`, one of those around the function, or its own.
      level: int, how many functions are inside of it.
      arrived: list of (`tf.Tensor` of `graph`, cotangent in the function).
      ys: list of `tf.Tensor`; those of `graph` are replaced by their copies.
      gradients: list with the list of what arrives at each x; added to.
      onward: dict from each graph to what arrives at its tensors; added to.

    Returns:
      `result_forms.BuiltVJP`, or None where there is nothing to differentiate.
    """
    own = [i for i, y in enumerate(self._ys) if y.graph is graph]
    begins = [(tensors.Dense(tensor), Arrived(cotangent))
              for tensor, cotangent in arrived if not _is_source(tensor)]
    begins += [(self._ys[i], self._cotangents[i]) for i in own]
    xs = [i for i, x in enumerate(self._xs) if x.graph is graph]
    doors = [capture for capture in self._captures[level] if not any(
        capture.inside is x.tensor for x in self._xs)]
    if not begins or not xs and not doors:
      return None
    vjp = vjps.VJP(
        graph, [y for y, _ in begins],
        [self._xs[i] for i in xs] + [
            self._inside(capture) for capture in doors],
        [cotangent for _, cotangent in begins],
        [stop for stop in self._stops if stop.graph is graph],
        self._settings, self._incomplete, self.graph)
    vjp.leaves = self._leaves  # For errors.
    if not level:
      self._innermost = vjp
    built = vjp.build(strict=False)
    for i, copy in zip(own, built.ys[len(begins) - len(own):]):
      ys[i] = copy
    for i, gradient in zip(xs, built.gradients):
      if gradient is not None:
        gradients[i].append(gradient)
    for capture, gradient in zip(doors, built.gradients[len(xs):]):
      if gradient is not None:
        _leave(capture, gradient, onward)
    return built

  def _inside(self, capture):
    """The `tensors.Dense` that is differentiated by for a capture."""
    outside = capture.outside
    while outside.op.type == "Placeholder":  # Of a function around this one.
      found = [around.outside for around in captures.captures_of(outside.graph)
               if around.inside is outside]
      if not found or _tf.is_eager(found[0]):
        break
      outside = found[0]
    for x in self._xs + [tensors.Dense(outside)]:
      if x.tensor is outside and x.is_handle:
        return tensors.Dense(capture.inside, x.dtype, x.shape)
    return tensors.Dense(capture.inside)

  def _sum(self, x, terms):
    """The sum of what arrives at one x; None of nothing."""
    if len(terms) < 2:
      return terms[0] if terms else None

    def build():
      with _tf.building(self.graph, terms[0].op):
        return tf.add_n([result_forms.dense(term, x) for term in terms])

    return cache.cached(self.graph, (
        "sum", tuple(map(result_forms.name_of, terms))), build)

  def _refuse(self, lost):
    """Raises the error for xs that no gradient arrives at."""
    what = "No gradient of {} by {}.".format(
        tensors.describe_all(self._ys), tensors.describe_all(lost))
    inside = [self._inside(capture) for capture in self._captures[0]
              if any(capture.outside is x.tensor for x in lost)]
    if inside and self._innermost is not None:
      try:
        preconditions.refuse(
            self._innermost, inside, self._innermost.trace())
      except errors.DisconnectedError as error:
        raise errors.DisconnectedError(what, error.why, error.fix) from None
    raise errors.DisconnectedError(
        what,
        "They are not in one graph: a function, a loop or a branch is built, "
        "and nothing that it reads from the graphs around it leads from x to y "
        "on a path that a gradient passes.",
        "Differentiate by a tensor that the function reads, or pass "
        "unconnected='zero' if zeros are meant.")


class Arrived:
  """A cotangent that is a gradient which was built before."""

  def __init__(self, gradient):
    self._gradient = gradient
    self.op = gradient.op
    self.key = result_forms.name_of(gradient)

  def of(self, unused_copy):
    """The cotangent of a copy of y: the same value."""
    return self

  def tensor(self):
    """The gradient: `tf.Tensor` or `tf.IndexedSlices`."""
    return self._gradient


def _leave(capture, cotangent, arrived):
  """Passes what arrives at a placeholder on to the graph around it."""
  arrived[capture.outside.graph].append((capture.outside, cotangent))


def _is_source(tensor):
  """Whether no gradient goes on from `tensor` in its own graph."""
  return tensor.dtype == tf.resource or tensor.op.type == "Placeholder"
