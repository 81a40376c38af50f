"""What an evaluation runs: found out, checked, and built when it is wanted.

Placeholders are fed. Any other tensor that gets a value is cut: the ops that
depend on it are copied with a placeholder in its place, because TensorFlow may
ignore a value that is fed to an op that could compute its own.
"""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation.calls import callables
from gradfeed.evaluation.calls import substitutes
from gradfeed.evaluation import computations
from gradfeed.evaluation import feed_checks
from gradfeed.evaluation import fetchables
from gradfeed.evaluation.inputs import feeds
from gradfeed.graph import cache
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import python_functions
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.rewriting import cloning
from gradfeed.rewriting import differentiable_copy
from gradfeed.rewriting import shape_specialization
from gradfeed.rewriting import subgraphs

#: Ops whose value is a handle of a tensor that is kept in the session.
_HANDLES = ("GetSessionHandle", "GetSessionHandleV2")


class Plan:
  """How to compute tensors of a graph from values of others, in any session.

  Attributes:
    graph: `tf.Graph`.
    slots: list of `feeds.Slot`, one for each dense tensor that gets a value.
    active: list of the indices of the slots that TensorFlow is fed at.
    unused: list of the leaves, placeholders all, that have no effect.
    needs: dict from each placeholder without a value to what uses it.
    variables: list of the ops of the variables that are read.
    assigned: set of the names of the variables that have a value after a run.
    is_run: whether it does what `Session.run` does: then no op is added but
      the copy of what depends on cut tensors.
    keeps_graph: whether it is a run that adds no op at all.
    makes_handles: whether a wanted tensor is a session handle.
    waiting: list of the ops that wait for something outside of the run.
    is_repeatable: bool; whether a run that fails leaves nothing behind.
    has_derivatives: bool; whether a derivative of gradfeed is wanted.
    tapes: list of the tokens of the functions of `tf.py_function` that are run.
    sources: list with the source of each wanted tensor or op, as
      `fetchables.find_sources` gives it; None until `prepare` is called.
    call_spec: `callables.CallSpec`, or None until `prepare` is called.
    call_key: `callables.CallKey` of it, likewise.
    decided_by: dict from the index of each slot whose value may decide which
      branches are taken to that value, or to None.
    needs_too_much: whether it may read a variable only to pass its value to a
      branch that is not taken.
  """

  def __init__(self, graph, leaves, wanted, points, timeout, may_assign,
               held=None, spares_variables=False):
    """Finds out what is run, and checks it; adds no op.

    Args:
      graph: `tf.Graph`.
      leaves: list of `tensors.Dense` and the like that get values.
      wanted: list of `tf.Tensor` and `tf.Operation` to run.
      points: names of tensors at which derivatives are taken though they lie
        between x and y.
      timeout: seconds for one run, or None.
      may_assign: whether the run may change variables.
      held: function without arguments that gives a dict from the name of a
        dense tensor of `leaves` to the value that it has in every run of this
        plan; what this decides, and what constants decide, is not run. None if
        all branches count. Where variables may change, all count unless they
        need a value or race.
      spares_variables: bool; whether variables whose values are passed only to
        branches that are not taken are not read, which takes a copy.
    """
    self.graph = graph
    self.slots = [feeds.Slot(component) for leaf in leaves
                  for component in leaf.components()]
    wanted = computations.from_one_forward_pass(graph, wanted)
    feed_checks.check_fetches(wanted)
    computation = computations.find_computation(
        graph, leaves, self.slots, wanted)
    if held is not None and not may_assign:
      computation = computations.decide(
          computation, held(), may_assign, spares_variables)
    needs, race = _hindrances(computation, may_assign)
    if held is not None and may_assign and (needs or race):
      computation = computations.decide(computation, held(), may_assign)
      needs, race = _hindrances(computation, may_assign)
    self.unused = feed_checks.check(computation, points, may_assign, race)
    self.active = sorted({i for name, i in computation.fed.items()
                          if name in computation.read})
    if may_assign:  # The same feeds in another order are the same call.
      self.active.sort(key=lambda i: self.slots[i].component.name)
    self.needs = needs
    self.variables = computations.variables_read(computation)
    self.assigned = (
        effects.variables_assigned(computation.ops) if may_assign else set())
    self.decided_by = {computation.fed[name]: value
                       for name, value in computation.asked.items()}
    self.needs_too_much = not spares_variables and (
        computations.hands_on_variables(computation))
    self.waiting = effects.waiting_ops(computation.ops)
    self.is_repeatable = effects.is_repeatable(computation.ops)
    self.has_derivatives = bool(computations.derivatives_of(graph, wanted))
    self.is_run = may_assign
    self.keeps_graph = may_assign and not (computation.cut & computation.read)
    self.makes_handles = any(
        isinstance(item, tf.Tensor) and item.op.type in _HANDLES
        for item in wanted)
    self.tapes = sorted(python_functions.Tapes(computation.ops).left)
    self.sources = self.call_spec = self.call_key = None
    self._computation = computation  # None once it is prepared.
    self._wanted = wanted
    self._fetched = None
    self._timeout = timeout
    self._specialized = self._may_specialize = self._is_step = None

  def prepare(self):
    """Adds the ops that are needed, once, and makes the `call_spec`.

    Raises:
      FinalizedGraphError: ops are needed and the graph is closed.
      UnsupportedGraphError: an op needs a variable, not its value.
    """
    if self.call_spec is not None:
      return
    with cache.cache_of(self.graph).lock:
      if self.call_spec is None:
        self._prepare()

  def _prepare(self):
    """Does what `prepare` says, with the lock held."""
    computation = self._computation
    wanted = _with_cuts(computation)
    self.sources, self._fetched = fetchables.find_sources(
        wanted, computation.fed)
    for slot in self.slots:
      slot.target = slot.component.tensor
    for i in self.active:
      if self.slots[i].component.name in computation.cut:
        self.slots[i].target = _stand_in(self.slots[i].component)
    call_spec = self._make_call_spec(
        [self.slots[i].target for i in self.active], self._fetched,
        [item.name for item in wanted if isinstance(item, tf.Operation)],
        computation.all_ops, not computation.cut)
    self._computation = None  # Else the graph of all ops stays reachable.
    self.call_key = callables.key_of(self.graph, call_spec)
    self.call_spec = call_spec  # Last: other threads look at it.

  def is_step(self):
    """Whether something that is no derivative changes a variable."""
    if self._is_step is None:
      derivatives = {t.name for t in computations.derivatives_of(
          self.graph, self._wanted)}
      self._is_step = bool(effects.assigning_ops(traversal.ancestors(
          [item for item in self._wanted if item.name not in derivatives])))
    return self._is_step

  def ends(self):
    """Between which tensors TensorFlow computes, once this is prepared.

    Returns:
      (list with the tensor that is fed for each slot, None where none is; list
      with the tensor that has the value of each wanted one).
    """
    active = set(self.active)
    return ([slot.target if i in active else None
             for i, slot in enumerate(self.slots)],
            [source.tensor(self._fetched, self.slots)
             for source in self.sources])

  def program(self, arrays, session, is_straight=False):
    """What XLA compiles for the shapes of some values, added to the graph.

    Args:
      arrays: list of the arrays of the active feeds of a call that succeeded.
      session: raw `tf.Session` of that call.
      is_straight: bool, as in `programs.build`.

    Returns:
      `substitutes.Program`; raises UnsupportedGraphError where there is none.
    """
    active = [self.slots[i].target for i in self.active]
    key = ("program", is_straight, tuple(array.shape for array in arrays),
           tuple(t.name for t in active + list(self._fetched)))
    return cache.cached(self.graph, key, lambda: self._new_program(
        active, arrays, session, is_straight))

  def _new_program(self, active, arrays, session, is_straight):
    """The `substitutes.Program` of `program`, with the targets `active`."""
    # pylint: disable=import-outside-toplevel
    from gradfeed.compilation import programs  # Rare, as first calls are not.
    if self.graph.finalized:
      raise errors.UnsupportedGraphError(
          "XLA cannot compile the outputs.",
          "The graph is closed, so that no op can be added.",
          "Leave jit_compile out, or call the function at values of these "
          "shapes before graph.finalize(), which a MonitoredSession calls.")
    results = self._fetched
    kinds = traversal.by_type(traversal.ancestors(results))
    if not (op_types.CONTROL_FLOW_V1 | op_types.STACK_OPS).isdisjoint(kinds):
      clones = differentiable_copy.differentiable_gradients(self.graph, results)
      results = computations.from_one_forward_pass(
          self.graph, [clones.get(t.name, t) for t in results])
    made = programs.build(self.graph, active, results, self._fetched, arrays,
                          session, is_straight)
    spec = self._make_call_spec(made.feeds, made.results + made.checks, [], {})
    return substitutes.Program(
        spec, callables.key_of(self.graph, spec), bool(made.checks),
        made.tolerance, made.has_loops)

  def unrolled(self, arrays, most_ops, **options):
    """As `program`, for ops without loops; raises `values.NotUnrolled`."""
    from gradfeed.rewriting.unrolling import unrolled_copies  # As above.
    with cache.cache_of(self.graph).lock:
      feeds, results, precision = unrolled_copies.for_shapes(
          self.graph, [self.slots[i].target for i in self.active],
          self._fetched, [array.shape for array in arrays], most_ops, **options)
      spec = self._make_call_spec(
          feeds, results, [], traversal.ancestors(results))
      return substitutes.Program(spec, callables.key_of(self.graph, spec),
                                 False, precision ** 0.75, False)

  def _make_call_spec(self, targets, fetched, operations, ops,
                      as_earlier=False):
    """The `callables.CallSpec` of one run.

    Args:
      targets: list of `tf.Tensor` to feed.
      fetched: list of `tf.Tensor` to fetch.
      operations: list of the names of ops to run for their effect.
      ops: dict from name to op, of all that runs.
      as_earlier: bool; whether to fetch earlier tensors that are equal, so that
        what is compiled for them serves again.
    """
    if as_earlier:
      fetched = [self.graph.get_tensor_by_name(
          cache.earlier_of(self.graph, tensor.name)) for tensor in fetched]
    # In a run results are copied: it keeps the number of ops in the graph, and
    # optimizers, which a new consumer may lead to another rounding.
    fetches = [(tensor, False) if self.is_run else _fetchable(tensor)
               for tensor in fetched]
    return callables.CallSpec(
        [target.name for target in targets],
        [fetch.name for fetch, _ in fetches],
        [is_private for _, is_private in fetches],
        [tensor.shape.ndims == 0 for tensor in fetched], operations,
        len(ops), effects.has_loop(ops), effects.keeps_feeds(ops),
        self._timeout)

  def may_specialize(self):
    """Whether a call for certain shapes alone might be faster; adds no op."""
    if self._may_specialize is None:
      self._may_specialize = not (
          self.is_run or self.graph.finalized or self.call_spec.in_pool or
          self.call_spec.targets) and shape_specialization.is_suitable(
              traversal.ancestors(self._fetched))
    return self._may_specialize

  def specialized(self, shapes):
    """A call for these shapes alone, where that is faster; made once.

    Args:
      shapes: tuple of the shapes of the active feeds, with which a call has
        succeeded.

    Returns:
      (shapes, `callables.CallSpec`) for the shapes of the first call of this
      method, or None.
    """
    with cache.cache_of(self.graph).lock:
      if self._specialized is None:
        self._specialized = shapes, self._specialize(shapes)
      return self._specialized if self._specialized[1] is not None else None

  def _specialize(self, shapes):
    """The `CallSpec` for fixed shapes, or None where that is no gain."""
    if self.graph.finalized:
      return None
    ops = traversal.ancestors(self._fetched)
    shape_by_name = {self.slots[i].target.name: shape
                     for i, shape in zip(self.active, shapes)}
    key = ("fixed", tuple(sorted(shape_by_name.items())),
           tuple(t.name for t in self._fetched))
    try:
      copied = cache.cached(
          self.graph, key, lambda: shape_specialization.specialize(
              self.graph, ops, self._fetched, shape_by_name))
    except (ValueError, tf.errors.OpError):
      return None  # The rules for shapes refuse what the kernels take.
    if copied is None:
      return None
    stand_ins, results = copied
    return self._make_call_spec(
        [stand_ins[self.slots[i].target.name] for i in self.active], results,
        [], traversal.ancestors(results))


def _hindrances(computation, may_assign):
  """What keeps a run from being done as it is.

  Returns:
    (dict from each placeholder without a value to what uses it,
    `feed_checks.Race` or None). Where nothing is assigned there are no races.
  """
  needs = computations.placeholders_without_value(computation.ops, [
      computation.slots[i] for name, i in computation.fed.items()
      if name in computation.read])
  return needs, feed_checks.find_race(computation) if may_assign else None


def _with_cuts(computation):
  """Copies what depends on cut tensors, with placeholders in their places.

  In the place of an idle tensor stands a constant.

  Returns:
    list of what to run in the place of `computation.wanted`.
  """
  graph, wanted = computation.graph, computation.wanted
  cut, idle = computation.cut & computation.read, computation.idle
  # What makes a default that is fed has no copy.
  kept = (computation.given - computation.cut) & computation.read
  if not cut and not idle:
    return wanted
  components = {name: computation.slots[computation.fed[name]].component
                for name in cut}

  def build():
    cache.check_not_finalized(graph, "Another value at {}".format(
        tensors.describe_all(components[name] for name in sorted(cut))))
    replaced = {name: _stand_in(components[name]) for name in sorted(cut)}
    replaced.update((name, _idle_value(idle[name])) for name in sorted(idle))
    op_names = subgraphs.dependent_ops(computation.all_ops, set(replaced))
    return cloning.clone_subgraph(
        graph, op_names, computation.all_ops, replaced, "cut",
        {name: op for name, op in computation.pivots.items() if name in cut})

  clones = cache.cached(
      graph, ("cut", tuple(sorted(cut)), tuple(sorted(kept)),
              tuple(sorted(idle)), tuple(t.name for t in wanted)), build)
  return [item if item.name in computation.fed else
          clones.get(item.name, item) for item in wanted]


def _stand_in(component):
  """The one placeholder that takes the place of a `tensors.Dense`."""

  def build():
    cache.check_not_finalized(component.graph,
                              "Another value at {}".format(component))
    with _tf.building(component.graph):
      return tf.placeholder(component.dtype, component.shape,
                            name="at/" + component.op.name.lstrip("_"))

  return cache.cached(component.graph, ("at", component.name), build)


def _idle_value(tensor):
  """A tensor of the dtype and static shape of `tensor`, of no certain value."""

  def build():
    dtype, shape = tensor.dtype.base_dtype, tensor.shape
    sizes = [size or 0 for size in shape.as_list()] if shape.ndims else []
    with _tf.building(tensor.graph):
      return tf.placeholder_with_default(tf.zeros(sizes, dtype), shape, "idle")

  return cache.cached(tensor.graph, ("idle", tensor.name), build)


def _fetchable(tensor):
  """What to fetch for the value of `tensor`.

  TF 2 returns the buffers of variables and constants themselves, as arrays that
  can be written to. A Snapshot costs next to nothing, unless the tensor is one
  of these: then it copies.

  Returns:
    (`tf.Tensor`, whether its buffer is its own at each run).
  """
  dtype = tensor.dtype.base_dtype
  numeric = dtype.is_floating or dtype.is_integer or dtype.is_complex
  if not _tf.IS_TF2 or not numeric or dtype.is_quantized:
    return tensor, False
  key = ("snapshot", tensor.name)
  is_built = key in cache.cache_of(tensor.graph).built
  if tensor.graph.finalized and not is_built:
    return tensor, False

  def build():
    with _tf.building(tensor.graph):
      return tf.raw_ops.Snapshot(input=tensor)

  return cache.cached(tensor.graph, key, build), True
