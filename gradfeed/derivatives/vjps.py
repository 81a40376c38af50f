"""One product of a cotangent with a Jacobian, checked and built once.

Everything that is differentiated goes through `VJP.build`, the only place
that calls `tf.gradients`.
"""

import contextlib

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import blockers
from gradfeed.analysis import gradient_flow
from gradfeed.derivatives import preconditions
from gradfeed.derivatives import result_forms
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import control_flow
from gradfeed.graph import op_types
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.rewriting import cloning
from gradfeed.rewriting import differentiable_copy
from gradfeed.rewriting import subgraphs


class BuiltVJP:
  """What one product added to the graph.

  Attributes:
    ys: list of `tf.Tensor`, the ys or the copies that were differentiated.
    gradients: list with a `tf.Tensor`, `tf.IndexedSlices` or None for each x.
    copied: dict from the names of tensors that were copied to their copies.
  """

  def __init__(self, ys, gradients_by_x, copied):
    self.ys = ys
    self.gradients = gradients_by_x
    self.copied = copied

  def passes_of(self, first):
    """The copies of the ys of `first` that this, a derivative of it, reads.

    Args:
      first: `BuiltVJP`, whose gradients were differentiated once more.
    """
    return [self.copied.get(y.name, y) for y in first.ys]


class VJP:
  """d sum(ys) / d xs with cotangents and stops: checked, then built once."""

  def __init__(self, graph, ys, xs, cotangents, stops, settings):
    self.graph = graph
    self.ys = [component for leaf in ys for component in leaf.differentiable()]
    self.xs = [component for leaf in xs for component in leaf.differentiable()]
    self.leaves = xs
    if any(len(leaf.differentiable()) != 1 for leaf in ys):
      raise errors.ArgumentError(
          "y {} is a partitioned variable.".format(
              tensors.describe_all(ys)),
          "It is several tensors.", "Pass `variable.as_tensor()`.")
    self.cotangents = cotangents
    self.stops = stops
    self.settings = settings

  def key(self):
    return ("gradients", tuple(y.name for y in self.ys),
            tuple(x.name for x in self.xs),
            tuple(c and c.key for c in self.cotangents),
            tuple(sorted(stop.name for stop in self.stops)),
            tuple(sorted(self.settings.items())))

  def build(self, strict):
    """Builds it the first time; an unconnected x is refused if `strict`.

    Returns:
      `BuiltVJP`.
    """
    built = cache.cache_of(self.graph).built.get(self.key())
    if isinstance(built, errors.GradfeedError):
      raise type(built)(built.what, built.why, built.fix)
    if built is None:
      with cache.cache_of(self.graph).lock:
        built = self._build_once(strict)
    if strict and any(g is None for g in built.gradients):
      preconditions.refuse(
          self, [x for x, g in zip(self.xs, built.gradients) if g is None],
          self.trace())
    return built

  def _build_once(self, strict):
    known = cache.cache_of(self.graph).built
    if self.key() not in known:
      trace = self.trace()
      other = self._on_differentiable_gradients(trace)
      if other is None and control_flow.has_loops_without_context(trace):
        other = self.on_functional_copy(strict)
      if other is not None:
        built = known[self.key()] = other.build(strict)
        self.remember(built.ys, built.gradients)
        return built
      self._check(trace, strict)
      try:
        known[self.key()] = self._build(trace)
      except errors.UnsupportedGraphError as error:  # Found while building.
        known[self.key()] = error
        raise
    return known[self.key()]

  def on_functional_copy(self, strict, order=1, free_means=False):
    """This product on a copy of its path that has no control flow of v1.

    Checked as `build` checks it. What is made on the copy is vectorized, and
    has derivatives of its own.

    Args:
      strict: as in `build`.
      order: int; 2 where a derivative of the result is asked for, so that an op
        without one is named before anything is built.
      free_means: bool; as in `differentiable_copy.differentiable_copy`. So it
        is with `order` 2.

    Returns:
      `VJP`; this one where there is nothing to copy.
    """
    if order > 1:
      cache.cached(self.graph, ("has a second",) + self.key(),
                   lambda: preconditions.check_second(self, self.trace()))
    known = cache.cache_of(self.graph)
    free_means = free_means or order > 1
    key = ("functional copy", strict, free_means) + self.key()
    with known.lock:
      if key not in known.built:
        base = self._on_differentiable_gradients(self.trace()) or self
        trace = base.checked_trace(strict)
        known.built[key] = base.with_clones(
            differentiable_copy.differentiable_copy(
                self.graph, [tensors.read_of(y) for y in base.ys], trace,
                free_means))
      return known.built[key]

  def _on_differentiable_gradients(self, trace):
    """This product with gradients that have no derivative built anew.

    What the gradient of a loop of v1 remembers of each turn lies on a stack,
    where no gradient passes. That of the functional form of the loop has none.
    So it is with the mean that `tf.nn.moments` holds constant.

    Args:
      trace: the `gradient_flow.GradientTrace` of this product.

    Returns:
      `VJP`, or None where there is nothing to replace.
    """
    if not trace.second_order and not any(
        op.type == "StopGradient" for op in trace.blocked.values()):
      return None
    cache.check_not_finalized(self.graph, self.purpose())
    found = traversal.ancestors([y.tensor for y in self.ys])
    replaced = {}
    for name, derivative in list(
        cache.cache_of(self.graph).derivatives.items()):
      product = derivative.product
      if product is not None and name.split(":")[0] in found and (
          product.needs_differentiable_gradients()):
        built = product.on_functional_copy(
            strict=False, free_means=True).build(strict=False)
        replaced.update((old, new) for old, new in zip(
            derivative.results, built.gradients)
                        if isinstance(new, tf.Tensor))
    if not replaced:
      return None
    part = subgraphs.dependent_ops(found, set(replaced))
    copied = cloning.clone_subgraph(self.graph, part, found, replaced, "again")
    copied.update(replaced)
    return self.with_clones(copied)

  def needs_differentiable_gradients(self):
    """Whether the derivative of this product, as it is built, lacks a part."""
    trace = self.trace()
    return bool(blockers.held_means(trace)) or any(
        control_flow.is_control_flow_v1(op) for op in trace.path.values())

  def with_clones(self, copied):
    """This product with the tensors in `copied` in the place of its own."""
    if not copied:
      return self

    def component(original):
      return (tensors.Dense(copied[original.name])
              if original.name in copied else original)

    cotangents = [cotangent.of(component(y)) if cotangent else None
                  for cotangent, y in zip(self.cotangents, self.ys)]
    return VJP(self.graph, [component(y) for y in self.ys],
               [component(x) for x in self.xs], cotangents,
               [component(stop) for stop in self.stops], self.settings)

  def path(self, x):
    """The ops between one x and the ys that a gradient passes, by name."""
    return gradient_flow.GradientTrace(
        [y.tensor for y in self.ys], [x.tensor],
        [stop.tensor for stop in self.stops]).path

  def trace(self):
    """The `gradient_flow.GradientTrace` of this product, unchecked."""
    return gradient_flow.GradientTrace([y.tensor for y in self.ys],
                                       [x.tensor for x in self.xs],
                                       [stop.tensor for stop in self.stops])

  def purpose(self, kind="The gradient"):
    """The `kind` of derivative that this is, of what by what, in words."""
    return "{} of {} by {}".format(kind, tensors.describe_all(self.ys),
                                   tensors.describe_all(self.leaves))

  def checked_trace(self, strict):
    """The `GradientTrace` of this product, after everything was checked."""
    trace = self.trace()
    self._check(trace, strict)
    return trace

  def _check(self, trace, strict):
    cache.check_not_finalized(self.graph, self.purpose())
    preconditions.check(self, trace, strict)

  def _build(self, trace):
    with _tf.without_runs(self.graph):
      return self._build_alone(trace)

  def _build_alone(self, trace):
    copied = self._copied_path(trace)
    ys = [copied.get(tensors.read_of(y).name, tensors.read_of(y))
          for y in self.ys]
    xs = [copied.get(x.name, x.tensor) for x in self.xs]
    stops = [copied.get(stop.name, stop.tensor) for stop in self.stops]
    connected = [i for i, x in enumerate(self.xs) if x.name in trace.tensors]
    results = [None] * len(xs)
    with _tf.building(self.graph, self.ys[0].op), _arrays_of(trace):
      if connected:
        built = self._differentiate(ys, [xs[i] for i in connected], stops)
        for i, result in zip(connected, built):
          results[i] = self._owned(result, self.xs[i])
    self.remember(ys, results, self)
    return BuiltVJP(ys, results, copied)

  def _differentiate(self, ys, xs, stops):
    cotangents = []
    for given, y in zip(self.cotangents, ys):
      if given is not None:
        cotangents.append(given.tensor())
      else:  # TensorFlow asks for the ones of a complex y.
        cotangents.append(tf.ones_like(y) if y.dtype.is_complex else None)
    try:
      return tf.gradients(ys, xs, grad_ys=cotangents,
                          stop_gradients=stops or None, **self.settings)
    except errors.GradfeedError:
      raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError,
            NotImplementedError, TypeError, ValueError,
            tf.errors.OpError) as error:
      raise errors.UnsupportedGraphError(
          "TensorFlow cannot differentiate {} by {}.".format(
              tensors.describe_all(self.ys),
              tensors.describe_all(self.leaves)),
          "tf.gradients raises {}: {}".format(
              type(error).__name__, str(error).split("\n")[0]),
          "Differentiate by a tensor further on the way, or hold the part in "
          "question constant (stop_gradients).") from error

  def _copied_path(self, trace):
    """Copies of what lies after the first functional op on the path."""
    functional = [op for op in trace.path.values()
                  if op.type in op_types.FUNCTIONAL]
    if not functional:
      return {}
    found = traversal.ancestors([y.tensor for y in self.ys])
    carrying = {name: op for name, op in found.items() if name in trace.path}
    part = {op.name for op in functional} | traversal.descendants(
        carrying, {t.name for op in functional for t in op.outputs},
        control=False)
    for name in part:
      if _tf.is_inside_while(found[name]):
        raise errors.UnsupportedGraphError(
            "{} by {} cannot be differentiated safely.".format(
                tensors.describe_all(self.ys),
                tensors.describe_all(self.leaves)),
            "{} is inside a while loop of control flow v1, and the call of a "
            "function before it ({}) has to be copied together with "
            "it.".format(tensors.describe(found[name]),
                         tensors.describe(functional[0])),
            "Build the loop with control flow v2 as well "
            "(tf.enable_control_flow_v2()), or differentiate by the function's "
            "output, {}.".format(tensors.describe(functional[0].outputs[0])))
    copied = cloning.clone_subgraph(self.graph,
                                    part,
                                    found, {},
                                    "path",
                                    renew={x.name for x in self.xs})
    known = cache.cache_of(self.graph).clones
    for name, clone in copied.items():
      if isinstance(clone, tf.Tensor):
        known[name].append(clone.name)
    return copied

  def _owned(self, result, x):
    """`result` as an op of gradfeed's own, with the static shape of `x`."""
    if result is None or isinstance(result, tf.IndexedSlices):
      return result
    if not result.name.startswith(_tf.SCOPE) or (
        result.name in cache.cache_of(self.graph).derivatives):
      result = tf.identity(result)
    result.set_shape(x.shape)
    return result

  def remember(self, built, results, product=None, recomputed=()):
    """Notes that `results`, one for each x, are derivatives of this kind.

    Args:
      built: list of `tf.Tensor`, the ys that they were built on.
      results: list of `tf.Tensor`, `tf.IndexedSlices` or None.
      product: `VJP` that gave them as they are, or None.
      recomputed: names of the ops whose copies are part of `results`.
    """
    cache.record_derivative(
        self.graph, [y.name for y in self.ys], [x.name for x in self.xs],
        [stop.name for stop in self.stops], [y.name for y in built],
        [result_forms.name_of(result) for result in results], product,
        recomputed)

  def remember_moved(self, built, results):
    """The same for the results of `jvp`, of which each is one by all xs."""
    for y, copy, result in zip(self.ys, built, results):
      cache.record_derivative(
          self.graph, [y.name], [x.name for x in self.xs],
          [stop.name for stop in self.stops], [copy.name],
          [result_forms.name_of(result)] * len(self.xs))

  def hides_something(self):
    """Whether an op that no gradient passes hides a part of the result."""
    return any(
        gradient_flow.hides_dependence(op)
        for op in self.trace().blocked.values())

  def refuse_hidden(self, built):
    """Refuses a product that is zero only because an op hides the dependence.

    A gradient that does not depend on x at all has a derivative, zero; one
    that depends on it through an op such as PyFunc has another one.

    Args:
      built: the `BuiltVJP` of this product.
    """
    lost = [x for x, g in zip(self.xs, built.gradients) if g is None]
    if not lost:
      return
    trace = self.trace()
    hidden = {
        name for name, op in trace.blocked.items()
        if gradient_flow.hides_dependence(op)
    }
    found = traversal.ancestors([y.tensor for y in self.ys])
    lost = [x for x in lost if hidden & traversal.descendants(
        found, {x.name}, control=False)]
    if lost:
      preconditions.refuse(self, lost, trace)


def _arrays_of(trace):
  """The setting in which what is on the path can be differentiated."""
  return (_tf.arrays_of_v1() if any(
      op.type.startswith(op_types.TENSOR_ARRAY) for op in trace.path.values())
          else contextlib.ExitStack())
