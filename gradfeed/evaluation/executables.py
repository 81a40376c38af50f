"""Runs a plan in a session: checks the values, compiles, runs, assembles."""

import collections
import functools
import time
import weakref

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.branches import constant_values
from gradfeed import errors
from gradfeed.evaluation.calls import callables
from gradfeed.evaluation.calls.callables import no_reference
from gradfeed.evaluation.calls import copied_calls
from gradfeed.evaluation.calls import jit
from gradfeed.evaluation.calls import trials
from gradfeed.evaluation.calls import unrolled_loops
from gradfeed.evaluation import fetchables
from gradfeed.evaluation.inputs import feed_dicts
from gradfeed.evaluation.inputs import feeds
from gradfeed.evaluation import plans
from gradfeed.evaluation import runtime_errors
from gradfeed.evaluation import sessions
from gradfeed.graph import cache
from gradfeed.graph import tensors

_clock = time.perf_counter

#: Weak references to the session of the last call and to the
#: `callables.Compiled` in it, which is for feeds of any shapes. It is replaced
#: as a whole, since other threads read it meanwhile.
_LastSession = collections.namedtuple("_LastSession", ["session", "compiled"])


class Executable:
  """Outputs of one graph as a function of the values of some of its tensors.

  Attributes:
    leaves: list of `tensors.Dense` and the like that get values.
    slots: list of `feeds.Slot`, one for each dense tensor that is fed, in the
      order of the leaves.
    needs: list of `tf.Tensor`, the placeholders that have no value yet.
    unused: list of those of the leaves, placeholders all, that have no effect.
    jit: `jit.Jit`; where XLA is not asked for `unrolled_loops.UnrolledLoops` or
      `copied_calls.CopiedCalls`; None where calls are run as they are.
  """

  def __init__(self, graph, leaves, outputs, points=(), timeout=None,
               may_assign=False, held=None, jit_compile=None):
    """Finds out what has to be run and copied, and checks it; adds no op.

    Args:
      graph: `tf.Graph`.
      leaves: list of `tensors.Dense` and the like that get values.
      outputs: list of `fetchables.Fetchable`.
      points: names of tensors at which derivatives are taken though they lie
        between x and y.
      timeout: seconds for one run, or None.
      may_assign: whether the run may change variables.
      held: function without arguments that gives a dict from the names of
        dense tensors of the leaves to the values that they have in every run,
        or None if all branches count.
      jit_compile: None, True or "auto", as in `function`.
    """
    self._jit_compile = jit_compile
    self._make_plan = functools.partial(
        plans.Plan, graph, leaves,
        [t for output in outputs for t in output.tensors()], points, timeout,
        may_assign)
    self._graph = graph
    self._outputs = outputs
    self._is_plain = False
    self._follow(self._make_plan(held))
    self.leaves = leaves
    self.slots = self._plan.slots
    self.needs = list(self._plan.needs)
    self.unused = self._plan.unused
    sessions.on_fork(self, Executable._forget_session)

  def _follow(self, plan):
    """Runs what `plan` says from now on."""
    self._plan = plan
    self._all_active = plan.active == list(range(len(plan.slots)))
    self.jit = jit.Jit(
        self._jit_compile, plan.program,
        self._active_dtypes(plan)) if self._jit_compile else None
    self._forget_session()

  def _active_dtypes(self, plan):
    """The NumPy dtypes of what a plan is fed."""
    return [plan.slots[i].dtype for i in plan.active]

  def _forget_session(self):
    """Forgets the last session, so that the next one is looked at."""
    self._last = _LastSession(no_reference, no_reference)

  def prepare(self):
    """Adds the ops that the first run would add."""
    self._plan.prepare()
    if self.jit is None and unrolled_loops.may_help(self._plan):
      self.jit = unrolled_loops.UnrolledLoops(
          self._plan.unrolled, self._active_dtypes(self._plan))
    sources = self._plan.sources
    self._is_plain = all(output.is_plain for output in self._outputs) and (
        sources == [fetchables.Fetched(i, False) for i in range(len(sources))])

  def ends(self):
    """The tensors that are fed and that have the outputs' values.

    Returns:
      As `plans.Plan.ends`; the wanted tensors are those of all outputs. Between
      them is no variable whose value nothing takes.
    """
    self._needs_less()
    return self._plan.ends()

  def _needs_less(self):
    """Takes what only branches read that are not taken out of the run.

    It takes a copy of what depends on it, and so it waits until such a variable
    has no value.

    Returns:
      bool, whether there may be something that is not needed any more.
    """
    with cache.cache_of(self._graph).lock:
      plan = self._plan
      if not plan.needs_too_much:
        return False
      self._follow(self._make_plan(lambda: {
          plan.slots[i].component.name: value
          for i, value in plan.decided_by.items() if value is not None}, True))
      self.prepare()
      return True

  @property
  def serves_always(self):
    """Whether no value that is fed has decided what is run."""
    return not self._plan.decided_by

  def serves(self, fed):
    """Whether the plan that was made is that for certain values, too.

    Args:
      fed: dict with values (leaf, value), of the leaves that have the same
        value in every run.
    """
    if self.serves_always:
      return True
    held = feed_dicts.held_values(fed)
    return all(
        constant_values.same(value, constant_values.comparable(
            held.get(self.slots[i].component.name)))
        for i, value in self._plan.decided_by.items())

  def require_all_fed(self):
    """Raises MissingFeedError if a placeholder has no value."""
    if not self.needs:
      return
    raise errors.MissingFeedError(
        "No value for {} of the placeholders that are needed:{}".format(
            len(self.needs), "".join(
                "\n    {}, used by {}".format(
                    tensors.describe(t), self._plan.needs[t])
                for t in self.needs)),
        "The outputs depend on them, so that they have no value without.",
        "Feed them: feed_dict={{{}}}.".format(", ".join(
            "{!r}: ...".format(t.name) for t in self.needs)))

  def fit(self, values, fit=feeds.Slot.fit):
    """Checks one value for each leaf.

    Args:
      values: list, in the order of the leaves.
      fit: method of `feeds.Slot` that checks one of its values.

    Returns:
      list of arrays, in the order of the slots.

    Raises:
      FeedError: lists every value that does not fit.
    """
    return feeds.fit_all(self.leaves, self.slots, values, fit, feeds.split)

  def evaluate(self, session, arrays):
    """The outputs at checked values.

    Args:
      session: whatever stands for a session.
      arrays: sequence of `np.ndarray` from `fit`.

    Returns:
      list with the value of each output.
    """
    start = _clock()
    results = self._results(session, arrays, functools.partial(
        self._compiled if self.jit is None else self._jitted, session))
    compiled = self._last.compiled()
    if compiled is not None and not compiled.trial.is_over:
      compiled.trial.count(_clock() - start)
    return results

  def evaluate_by(self, session, arrays, options=None, run_metadata=None):
    """As `evaluate`, by the `run` of `session` itself.

    Args:
      session, arrays: as in `evaluate`; arrays may be session handles.
      options: `tf.RunOptions`, or None.
      run_metadata: `tf.RunMetadata`, or None.
    """
    sessions.check_open(session, self._graph)
    sessions.check_process(session)
    self.prepare()
    call_spec = self._plan.call_spec
    if not call_spec.fetches and not call_spec.targets:
      return self._results(session, arrays, lambda unused_active: _nothing)
    self._check_initialized(session)
    call = sessions.Uncompiled(session, call_spec, options, run_metadata)
    if self._plan.tapes:
      call = self._holding_tapes(call)
    return self._results(session, arrays, lambda unused_active: call)

  def is_run_by(self, session):
    """Whether a run has to be one of `session` itself: see `evaluate_by`.

    A session handle is made by TensorFlow's own run. A session with hooks has
    to see what changes a variable; an evaluation of derivatives is not a step.
    """
    return self._plan.makes_handles or (
        _tf.raw_session(session) is not session and self._plan.is_step())

  def _results(self, session, arrays, compiled):
    """The outputs at checked values.

    Args:
      session, arrays: as in `evaluate`.
      compiled: function from the arrays that TensorFlow is fed, to what to call
        with them.
    """
    active = (arrays if self._all_active else
              tuple(arrays[i] for i in self._plan.active))
    try:
      results = compiled(active)(active)
    except (tf.errors.OpError, RuntimeError) as error:
      error = self.translate(error, session, arrays) or error
      if not isinstance(error, errors.UninitializedError) or (
          not self._needs_less()):
        raise error
      return self._results(session, arrays, compiled)
    if self._plan.assigned:
      sessions.set_initialized(session, self._plan.assigned)
    if self._is_plain:
      return results
    values = iter([source.value(results, arrays)
                   for source in self._plan.sources])
    return [output.assemble([next(values) for _ in output.tensors()])
            for output in self._outputs]

  def _compiled(self, session, active):
    """What to call with the arrays `active`, compiled at the first call."""
    last = self._last
    compiled = last.compiled()
    if compiled is None or last.session() is not session:
      return self._compile(session)
    if compiled.trial.is_due():
      compiled.trial.is_over = True  # First: no other thread has to try.
      trials.try_specialized(
          self._plan, self._active_slots(), session, compiled, active)
      if compiled.is_slow and self.jit is None and (
          copied_calls.may_help(self._plan)):
        self.jit = copied_calls.CopiedCalls(
            self._plan, self._active_dtypes(self._plan))
    specialized = compiled.specialized
    return (specialized if specialized is not None and
            specialized.accepts(active) else compiled)

  def _jitted(self, session, active):
    """As `_compiled`, by a program of XLA where there is one."""
    compiled, raw = self._compiled(session, active), _tf.raw_session(session)
    if raw is None or _tf.is_remote(raw) or self._plan.call_spec is None or (
        not self.jit.is_for(compiled)):
      return compiled
    return functools.partial(self.jit.call, raw, compiled)

  def fast_path(self, session):
    """The fast path of what is compiled for `session`, if there is one.

    Args:
      session: that of a call before.

    Returns:
      A weak reference to a `callables.Compiled.fast_path`, or `no_reference`.
    """
    last = self._last
    compiled = last.compiled()
    if compiled is None or last.session() is not session or not (
        self._is_plain and self._all_active):
      return no_reference
    if self.jit is not None and self.jit.is_for(compiled):
      return self.jit.fast_path(session, compiled)
    if not compiled.trial.is_over:
      return compiled.counted_fast_path()
    # That of the specialized one hands other shapes to the other itself.
    for one in (compiled.specialized, compiled):
      if one is not None and one.fast_path is not None:
        return weakref.ref(one.fast_path)
    return no_reference

  def _compile(self, session):
    """Compiles for `session`, for feeds of any shapes; what to call."""
    sessions.check_open(session, self._graph)
    sessions.check_process(session)
    if self._plan.tapes:
      return self._holding_tapes(self._compile_unlocked(session))
    compiled = self._compile_unlocked(session)
    if _tf.raw_session(session) is session and (
        isinstance(compiled, callables.Compiled)):
      self._last = _LastSession(weakref.ref(session), weakref.ref(compiled))
    return compiled

  def _compile_unlocked(self, session):
    """As `_compile`, whatever other calls do with tapes at the same time."""
    self.prepare()
    call_spec = self._plan.call_spec
    if not call_spec.fetches and not call_spec.targets:
      return _nothing
    raw = _tf.raw_session(session)
    if raw is None:
      self._check_initialized(session)
      return sessions.Uncompiled(session, call_spec)
    session_cache = _tf.session_cache(raw)
    compiled = session_cache.get(self._plan.call_key)
    if compiled is None:
      self._check_initialized(session)
      start = _clock()
      compiled = callables.Compiled(
          raw, call_spec,
          [(slot.dtype, slot.shapes) for slot in self._active_slots()])
      compiled.trial = trials.Trial(_clock() - start)
      # Other threads may hold what they have compiled meanwhile.
      compiled = session_cache.setdefault(self._plan.call_key, compiled)
    return compiled

  def _check_initialized(self, session):
    """Names the variables without a value before a run may change others.

    Else TensorFlow tells of them: see `translate`.
    """
    plan = self._plan
    if not plan.is_repeatable and (
        plan.has_derivatives or not plan.keeps_graph):
      sessions.check_initialized(_tf.innermost_session(session), plan.variables,
                                 adds_ops=not plan.keeps_graph)

  def _holding_tapes(self, call):
    """`call` while no other call uses the tapes of its Python functions.

    Args:
      call: function from the list of arrays to the list of results.
    """
    def locked(arrays):
      with _tf.holding_tapes(self._plan.tapes):
        return call(arrays)

    return locked

  def _active_slots(self):
    """The slots that TensorFlow is fed at."""
    return [self.slots[i] for i in self._plan.active]

  def translate(self, error, session, arrays):
    """A clearer error for one that a run of this raised, or None.

    Args:
      error, session: as in `runtime_errors.translate`.
      arrays: sequence of the arrays of the run, in the order of the slots.
    """
    innermost = _tf.innermost_session(session)
    if isinstance(error, (tf.errors.FailedPreconditionError,
                          tf.errors.NotFoundError)) and not (
                              isinstance(error, errors.GradfeedError) or
                              _tf.is_closed(innermost)):
      try:
        sessions.check_initialized(
            innermost, self._plan.variables,
            adds_ops=not self._plan.keeps_graph, anew=True)
      except errors.UninitializedError as uninitialized:
        return uninitialized
    return runtime_errors.translate(
        error, self._plan, session, self._graph, arrays)


def _nothing(unused_arrays):
  """Stands for a call that has nothing to run."""
  return []
