"""Cotangents times Jacobians: checked, then built once, by `tf.gradients`."""

import copy
import itertools

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import blockers
from gradfeed.analysis import gradient_flow
from gradfeed.derivatives import cotangent_types
from gradfeed.derivatives import path_copies
from gradfeed.derivatives import preconditions
from gradfeed.derivatives import result_forms
from gradfeed.derivatives import waits
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import captures
from gradfeed.graph import control_flow
from gradfeed.graph import structure
from gradfeed.graph import tensors
from gradfeed.rewriting import differentiable_copy


class VJP:
  """d sum(ys) / d xs with cotangents and stops: checked, then built once.

  Attributes:
    graph: `tf.Graph`.
    ys: list of `tensors.Dense`, what is differentiated.
    xs: list of `tensors.Dense`, what it is differentiated by.
    leaves: list of the leaves of x that `xs` are the components of.
    cotangents: list with a cotangent (see `cotangent_types`), or None for ones,
      for each of `ys`.
    stops: list of `tensors.Dense` that are held constant.
    settings: dict of further arguments of `tf.gradients`.
    incomplete: what is done where a part would be left out; see
      `preconditions.check_complete`.
    home: `tf.Graph` to build in: `graph`, or a function inside of it.
  """

  def __init__(self, graph, ys, xs, cotangents, stops, settings,
               incomplete=preconditions.REFUSED, home=None):
    """Adds no op. The arguments are those of the attributes, save `ys` and
    `xs`, which are lists of leaves, as `tensors.resolve` gives them.
    """
    self.graph = graph
    self.home = home or graph
    self.ys = [component for leaf in ys for component in leaf.differentiable()]
    self.xs = [component for leaf in xs for component in leaf.differentiable()]
    self.leaves = xs
    if any(len(leaf.differentiable()) != 1 for leaf in ys):
      raise errors.ArgumentError(
          "y {} is a partitioned variable.".format(tensors.describe_all(ys)),
          "It is several tensors.", "Pass `variable.as_tensor()`.")
    self.cotangents = cotangents
    self.stops = stops
    self.settings = settings
    self.incomplete = incomplete
    self._key = (
        "gradients",
        tuple(y.name for y in self.ys), tuple(x.name for x in self.xs),
        tuple(c and c.key for c in cotangents),
        tuple(sorted(stop.name for stop in stops)),
        tuple(sorted(settings.items())),
        captures.enclosing(self.home).index(graph))

  def key(self):
    """The hashable under which the cache keeps what is built."""
    return self._key

  def build(self, strict):
    """Builds it the first time.

    Args:
      strict: bool; whether an x that no y depends on is refused.

    Returns:
      `result_forms.BuiltVJP`.
    """
    preconditions.check_built_again(self)
    graph_cache = cache.cache_of(self.home)
    built = graph_cache.built.get(self.key(), cache.MISSING)
    if not self._is_served_by(built):
      with graph_cache.lock:
        built = self._build_once(strict)
    if isinstance(built, cache.Refusal):
      raise built.error()
    preconditions.check_complete(self)
    if strict and any(g is None for g in built.gradients):
      preconditions.refuse(
          self, [x for x, g in zip(self.xs, built.gradients) if g is None],
          self.trace())
    return built

  def _build_once(self, strict):
    """What is cached for this product; built if there is nothing yet.

    Returns:
      `result_forms.BuiltVJP`, or the `cache.Refusal` of another thread.
    """
    built_by_key = cache.cache_of(self.home).built
    if not self._is_served_by(built_by_key.get(self.key(), cache.MISSING)):
      built = self._built_for_equal_ys()
      if built is not None:
        return built_by_key.setdefault(self.key(), built)
      one, trace = self.at_one_copy(), self.trace()
      replacement = self._on_differentiable_gradients(trace) if (
          one is self) else one
      if replacement is None and (
          control_flow.has_loops_without_context(trace) or
          path_copies.lead_into_loops(self, trace)):
        replacement = self.on_functional_copy(strict)
      if replacement is not None:
        built = built_by_key[self.key()] = copy.copy(replacement.build(strict))
        built.read, built.vjp = trace.settings(), self
        self.remember(built.ys, built.gradients, None if one is self else one)
        return built
      self._check(trace, strict)
      try:
        built_by_key[self.key()] = self._build(trace)
      except errors.UnsupportedGraphError as error:  # Found while building.
        built_by_key[self.key()] = cache.Refusal.of(error)
        raise
    return built_by_key[self.key()]

  def _is_served_by(self, built):
    """Whether what is cached is the result for this product too."""
    read = getattr(built, "read", ())
    return built is not cache.MISSING and (
        read == () or built.vjp is self or
        read == self.trace().settings() is not None)

  def _built_for_equal_ys(self):
    """What was built for earlier ys that are equal to these, or None."""
    if self.home is not self.graph or not all(
        cotangent is None or isinstance(cotangent, cotangent_types.Cotangent)
        for cotangent in self.cotangents):
      return None  # Others belong to one y.
    kind, _, *group = self.key()
    names, equal = structure.find(
        self.graph, tuple(group), [y.tensor for y in self.ys],
        {component.name for component in self.xs + self.stops})
    built = cache.cache_of(self.graph).built.get((kind, names, *group))
    if not isinstance(built, result_forms.BuiltVJP) or (
        built.copied or built.read != ()):
      return None  # A copy of y has random numbers of its own.
    cache.record_equal(self.graph, equal,
                       map(result_forms.name_of, built.gradients))
    return result_forms.BuiltVJP(
        list(map(tensors.read_of, self.ys)), built.gradients, {})

  def on_functional_copy(self, strict, order=1, free_means=False):
    """This product on a copy of its path that has no control flow of v1.

    It is checked as `build` does. What is built on the copy can be vectorized
    and differentiated.

    Args:
      strict: as in `build`.
      order: int; 2 where a derivative of the result is asked for, so that an op
        without one is named before anything is built.
      free_means: bool; as in `differentiable_copy.differentiable_copy`. So it
        is with `order` 2.

    Returns:
      `VJP`; this one where there is nothing to copy.
    """
    preconditions.check_built_again(self)
    one = self.at_one_copy()
    if one is not self:
      return one.on_functional_copy(strict, order, free_means)
    if order > 1:
      cache.cached(self.home, ("has a second",) + self.key(),
                   lambda: preconditions.check_second(self, self.trace()))
    graph_cache = cache.cache_of(self.home)
    free_means = free_means or order > 1
    key = ("functional copy", strict, free_means) + self.key()
    with graph_cache.lock:
      if key not in graph_cache.built:
        base = (self._on_differentiable_gradients(self.trace()) or self
               ).at_one_copy()
        trace = base.checked_trace(strict)
        graph_cache.built[key] = base.with_clones(
            differentiable_copy.differentiable_copy(
                self.graph, [tensors.read_of(y) for y in base.ys], trace,
                free_means))
    preconditions.check_complete(self)
    return copy.copy(graph_cache.built[key])

  def built_again(self):
    """What this product was built as on copies of its path.

    Returns:
      list of lists with the name of a gradient, or None, for each of `xs`.
    """
    built = cache.cache_of(self.home).built
    products = [built.get(("functional copy",) + flags + self.key())
                for flags in itertools.product((True, False), repeat=2)]
    results = [built.get(product.key()) for product in products if product]
    return [list(map(result_forms.name_of, result.gradients)) for result in
            results if isinstance(result, result_forms.BuiltVJP)]

  def _on_differentiable_gradients(self, trace):
    """This product with gradients among its ancestors built again.

    Args:
      trace: the `gradient_flow.GradientTrace` of this product.

    Returns:
      `VJP`, or None where there is nothing to replace.
    """
    if not trace.second_order and not any(
        op.type == "StopGradient" for op in trace.blocked.values()):
      return None
    cache.check_not_finalized(self.graph, self.purpose())
    copied = differentiable_copy.differentiable_gradients(
        self.graph, [y.tensor for y in self.ys])
    return self.with_clones(copied) if copied else None

  def at_one_copy(self):
    """This product by those copies of the xs that the ys read.

    Returns:
      `VJP`; this one where they read the xs alone.
    """
    if self.home is not self.graph or not any(
        cache.other_copies_of(self.graph, x.name) for x in self.xs):
      return self
    return self.with_clones(cache.cached(
        self.graph, ("one copy",) + self.key(),
        lambda: differentiable_copy.one_copy_of_each(
            self.graph, [tensors.read_of(y) for y in self.ys],
            [x.tensor for x in self.xs], self._stopped())))

  def needs_differentiable_gradients(self):
    """Whether a derivative of what this product builds would lack a part."""
    trace = self.trace()
    return bool(blockers.held_means(trace)) or any(
        control_flow.is_control_flow_v1(op) for op in trace.path.values())

  def with_clones(self, copied):
    """This product with copies in the place of its tensors.

    Args:
      copied: dict from names of tensors to copies; if empty, this is returned.
    """
    if not copied:
      return self

    def component(original):
      return (tensors.Dense(copied[original.name])
              if original.name in copied else original)

    cotangents = [cotangent.of(component(y)) if cotangent else None
                  for cotangent, y in zip(self.cotangents, self.ys)]
    return VJP(self.graph, [component(y) for y in self.ys],
               [component(x) for x in self.xs], cotangents,
               [component(stop) for stop in self.stops], self.settings,
               self.incomplete, self.home)

  def path(self, x):
    """The ops between one x and the ys that a gradient passes, by name."""
    return self._trace([x]).path

  def trace(self, folded=None):
    """The `gradient_flow.GradientTrace` of this product, unchecked.

    Args:
      folded: as in `gradient_flow.GradientTrace`.
    """
    return self._trace(self.xs, folded)

  def _trace(self, xs, folded=None):
    return gradient_flow.GradientTrace(*[
        [component.tensor for component in components]
        for components in (self.ys, xs)], self._stopped(), folded=folded)

  def _stopped(self):
    """The tensors that are held: the stops, and other copies of these."""
    return [self.graph.get_tensor_by_name(name) for name in cache.with_copies(
        self.graph, [stop.name for stop in self.stops])]

  def purpose(self, kind="The gradient"):
    """`kind` of the ys by the xs, in words, for errors."""
    return "{} of {} by {}".format(kind, tensors.describe_all(self.ys),
                                   tensors.describe_all(self.leaves))

  def checked_trace(self, strict):
    """The `GradientTrace` of this product, after everything was checked."""
    trace = self.trace()
    self._check(trace, strict)
    return trace

  def _check(self, trace, strict):
    """Refuses what has no right gradient; see `preconditions.check`."""
    cache.check_not_finalized(self.home, self.purpose())
    preconditions.check(self, trace, strict)

  def _build(self, trace):
    """Builds the `result_forms.BuiltVJP`, while no session runs the graph."""
    with _tf.without_runs(self.home):
      copied = path_copies.of_functional_ops(self, trace)
      ys = [copied.get(tensors.read_of(y).name, tensors.read_of(y))
            for y in self.ys]
      xs = [copied.get(x.name, x.tensor) for x in self.xs]
      stops = [copied.get(stop.name, stop) for stop in self._stopped()]
      connected = [i for i, x in enumerate(self.xs) if x.name in trace.tensors]
      results = [None] * len(xs)
      source = self.ys[0] if self.home is self.graph else self.cotangents[0]
      with _tf.building(self.home, getattr(source, "op", None)), (
          _tf.arrays_of_v1(trace.has_arrays())):
        if connected:
          before = len(self.graph.get_operations()) if copied else 0
          built = self._differentiate(ys, [xs[i] for i in connected], stops)
          path_copies.read_by_gradient(self, before, copied)
          for i, result in zip(connected, built):
            results[i] = self._owned(result, self.xs[i])
        results = waits.after_originals(self.graph, ys, results, copied)
      self.remember(ys, results, self)
      return result_forms.BuiltVJP(
          ys, results, copied, trace.settings(), self)

  def _differentiate(self, ys, xs, stops):
    """Calls `tf.gradients`, with one kind of error for all that it raises."""
    cotangents = []
    for cotangent, y in zip(self.cotangents, ys):
      if cotangent is not None:
        cotangents.append(cotangent.tensor())
      else:  # TensorFlow takes None for ones only if y is real.
        cotangents.append(tf.ones_like(y) if y.dtype.is_complex else None)
    try:
      return _tf.gradients(ys, xs, grad_ys=cotangents,
                          stop_gradients=stops or None, **self.settings)
    except errors.GradfeedError:
      raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError,
            NotImplementedError, TypeError, ValueError,
            tf.errors.OpError) as error:
      raise _tf.caught_as(errors.UnsupportedGraphError, type(error))(
          "TensorFlow cannot differentiate {} by {}.".format(
              tensors.describe_all(self.ys), tensors.describe_all(self.leaves)),
          "tf.gradients raises {}: {}".format(
              type(error).__name__, str(error).split("\n")[0]),
          "Differentiate by a tensor further on the way, or hold the part in "
          "question constant (stop_gradients).") from error

  def _owned(self, result, x):
    """`result` as an op of gradfeed's own, with the static shape of `x`."""
    if not isinstance(result, tf.Tensor):
      return result
    if not result.name.startswith(_tf.SCOPE) or (
        result.name in cache.cache_of(self.home).derivatives):
      result = tf.identity(result)
    if x.dtype != tf.resource:
      result.set_shape(x.shape)
    return result

  def remember(self, built, results, vjp=None, recomputed=()):
    """Records that `results`, one for each x, are derivatives of the ys.

    Args:
      built: list of `tf.Tensor`, the ys that they were built on.
      results: list of `tf.Tensor`, `tf.IndexedSlices` or None.
      vjp: `VJP` whose gradients they are, unchanged, or None.
      recomputed: names of the ops whose copies are part of `results`.
    """
    if self.home is self.graph:
      cache.record_derivative(
          self.graph, [y.name for y in self.ys], [x.name for x in self.xs],
          [stop.name for stop in self.stops], [y.name for y in built],
          [result_forms.name_of(result) for result in results], vjp,
          recomputed)

  def remember_jvp(self, built, results):
    """Records that `results`, one for each y, are derivatives by all xs.

    Args:
      built: list of `tf.Tensor`, the ys that they were built on.
      results: list of `tf.Tensor` or None.
    """
    for y, clone, result in zip(self.ys, built, results):
      cache.record_derivative(
          self.graph, [y.name], [x.name for x in self.xs],
          [stop.name for stop in self.stops], [clone.name],
          [result_forms.name_of(result)] * len(self.xs))

  def hides_something(self):
    """Whether an op that no gradient passes hides a part of the result."""
    return any(map(gradient_flow.hides_dependence,
                   self.trace().blocked.values()))
