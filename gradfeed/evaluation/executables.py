"""Runs a plan in a session: checks the values, compiles, runs, assembles."""

import collections
import weakref

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation import callables
from gradfeed.evaluation.callables import no_reference
from gradfeed.evaluation import feeds
from gradfeed.evaluation import fetchables
from gradfeed.evaluation import plans
from gradfeed.evaluation import runtime_errors
from gradfeed.evaluation import sessions
from gradfeed.graph import tensors
from gradfeed import numeric_comparison

#: Weak references to the session of the last call and to the
#: `callables.Compiled` in it: for feeds of any shapes, and for those of the
#: first call alone (see `plans.Plan.specialized`), if there is one. It is
#: replaced as a whole, since other threads read it meanwhile.
_LastSession = collections.namedtuple(
    "_LastSession", ["session", "for_any_shapes", "specialized"])

#: What a `Function` computes between. Of each dense tensor of the inputs, then
#: of the held feeds: `targets`, the `tf.Tensor` that is fed, or None; `slots`.
#: `results`: the `tf.Tensor` of each dense tensor of the outputs; `held`: the
#: arrays that are held; `leaves`: those of the inputs; `structures`: the
#: structure of each argument; `outputs`: list of `fetchables.Fetchable`;
#: `session`: that of a call at this moment.
Program = collections.namedtuple(
    "Program", ["targets", "results", "slots", "held", "leaves", "structures",
                "outputs", "session"])


class Executable:
  """Outputs of one graph as a function of the values of some of its tensors.

  Attributes:
    leaves: list of `tensors.Dense` and the like that get values.
    slots: list of `feeds.Slot`, one for each dense tensor that is fed, in the
      order of the leaves.
    needs: list of `tf.Tensor`, the placeholders that have no value yet.
  """

  def __init__(self, graph, leaves, outputs, points=(), timeout=None,
               may_assign=False):
    """Finds out what has to be run and copied, and checks it; adds no op.

    Args:
      graph: `tf.Graph`.
      leaves: list of `tensors.Dense` and the like that get values.
      outputs: list of `fetchables.Fetchable`.
      points: names of tensors at which derivatives are taken though they lie
        between x and y.
      timeout: seconds for one run, or None.
      may_assign: whether the run may change variables.
    """
    self._plan = plans.Plan(
        graph, leaves, [t for output in outputs for t in output.tensors()],
        points, timeout, may_assign)
    self._graph = graph
    self._outputs = outputs
    self.leaves = leaves
    self.slots = self._plan.slots
    self.needs = list(self._plan.needs)
    self._all_active = len(self._plan.active) == len(self.slots)
    self._is_plain = False
    self._forget_session()
    sessions.on_fork(self, Executable._forget_session)

  def _forget_session(self):
    """Forgets the last session, so that the next one is looked at."""
    self._last = _LastSession(no_reference, no_reference, no_reference)

  def prepare(self):
    """Adds the ops that the first run would add."""
    self._plan.prepare()
    sources = self._plan.sources
    self._is_plain = all(output.is_plain for output in self._outputs) and (
        sources == [fetchables.Fetched(i, False) for i in range(len(sources))])

  def ends(self):
    """The tensors that are fed and that have the outputs' values.

    Returns:
      As `plans.Plan.ends`; the wanted tensors are those of all outputs.
    """
    return self._plan.ends()

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

  def fit(self, values):
    """Checks one value for each leaf.

    Args:
      values: list, in the order of the leaves.

    Returns:
      list of arrays, in the order of the slots.

    Raises:
      FeedError: lists every value that does not fit.
    """
    arrays, problems = [], []
    slots = iter(self.slots)
    for leaf, value in zip(self.leaves, values):
      own = [next(slots) for _ in leaf.components()]
      try:
        arrays.extend(map(feeds.Slot.fit, own, feeds.split(leaf, value)))
      except feeds.Unfit as unfit:
        problems.append(feeds.Problem(leaf, str(unfit)))
    if problems:
      raise feeds.feed_error(problems)
    return arrays

  def evaluate(self, session, arrays):
    """The outputs at checked values.

    Args:
      session: whatever stands for a session.
      arrays: sequence of `np.ndarray` from `fit`.

    Returns:
      list with the value of each output.
    """
    active = (arrays if self._all_active else
              tuple(arrays[i] for i in self._plan.active))
    try:
      results = self._compiled(session, active)(active)
    except (tf.errors.OpError, RuntimeError) as error:
      raise self.translate(error, session, arrays) or error
    if self._is_plain:
      return results
    values = iter([source.value(results, arrays)
                   for source in self._plan.sources])
    return [output.assemble([next(values) for _ in output.tensors()])
            for output in self._outputs]

  def _compiled(self, session, active):
    """What to call with the arrays `active`, compiled at the first call."""
    last = self._last
    for_any_shapes = last.for_any_shapes()
    if for_any_shapes is None or last.session() is not session:
      return self._compile(session, active)
    specialized = last.specialized()
    return (specialized if specialized is not None and
            specialized.accepts(active) else for_any_shapes)

  def fast_path(self, session):
    """The fast path of what is compiled for `session`, if there is one.

    Args:
      session: that of a call before.

    Returns:
      A weak reference to a `callables.Compiled.fast_path`, or `no_reference`.
    """
    last = self._last
    if last.session() is session and self._is_plain and self._all_active:
      # That of the specialized one hands other shapes to the other itself.
      for compiled in (last.specialized(), last.for_any_shapes()):
        if compiled is not None and compiled.fast_path is not None:
          return weakref.ref(compiled.fast_path)
    return no_reference

  def _compile(self, session, active):
    """Compiles for `session`; what to call with the arrays `active`."""
    sessions.check_open(session, self._graph)
    sessions.check_process(session)
    if self._plan.tapes:
      return self._holding_tapes(self._compile_unlocked(session))
    compiled = self._compile_unlocked(session)
    raw = _tf.raw_session(session)
    if raw is not session or not isinstance(compiled, callables.Compiled):
      return compiled
    specialized = self._compile_specialized(raw, compiled, active)
    self._last = _LastSession(
        weakref.ref(session), weakref.ref(compiled), specialized)
    return specialized() or compiled

  def _compile_unlocked(self, session):
    """Compiles for `session`, for feeds of any shapes; what to call."""
    self.prepare()
    call_spec = self._plan.call_spec
    if not call_spec.fetches and not call_spec.targets:
      return lambda arrays: []
    raw = _tf.raw_session(session)
    if raw is None:
      sessions.check_initialized(
          _tf.innermost_session(session), self._plan.variables)
      return sessions.Uncompiled(session, call_spec)
    session_cache = _tf.session_cache(raw)
    compiled = session_cache.get(self)
    if compiled is None:
      sessions.check_initialized(raw, self._plan.variables)
      compiled = session_cache[self] = callables.Compiled(
          raw, call_spec,
          [(slot.dtype, slot.shapes) for slot in self._active_slots()])
    return compiled

  def _holding_tapes(self, call):
    """`call` while no other call uses the tapes of its Python functions.

    Args:
      call: function from the list of arrays to the list of results.
    """
    def locked(arrays):
      with _tf.holding_tapes(self._plan.tapes):
        return call(arrays)

    return locked

  def _compile_specialized(self, session, for_any_shapes, active):
    """Compiles for the shapes of the first call, if the results are the same.

    Both are run on the values of that call, the one for any shapes first: if
    it fails, nothing is built. If the results differ, something depends on more
    than values and shapes, and what is specialized is not used.

    Args:
      session: raw `tf.Session`.
      for_any_shapes: `callables.Compiled` for feeds of any shapes.
      active: sequence of the arrays of this call.

    Returns:
      A weak reference to a `callables.Compiled`, or `no_reference`.
    """
    if _tf.is_remote(session) or not self._plan.may_specialize():
      return no_reference
    expected = for_any_shapes(active)
    shapes_and_spec = self._plan.specialized(tuple(map(np.shape, active)))
    if shapes_and_spec is None or (
        shapes_and_spec[0] != tuple(map(np.shape, active))):
      return no_reference
    shapes, call_spec = shapes_and_spec
    session_cache = _tf.session_cache(session)
    if self._plan not in session_cache:
      compiled = callables.Compiled(session, call_spec, [
          (slot.dtype, frozenset([shape]))
          for slot, shape in zip(self._active_slots(), shapes)], for_any_shapes)
      try:
        is_same = all(numeric_comparison.has_same_bits(*pair) for pair in zip(
            expected, compiled(active)))
      except tf.errors.OpError:
        return no_reference
      if not is_same:
        return no_reference
      session_cache[self._plan] = compiled
    return weakref.ref(session_cache[self._plan])

  def _active_slots(self):
    """The slots that TensorFlow is fed at."""
    return [self.slots[i] for i in self._plan.active]

  def translate(self, error, session, arrays):
    """A clearer error for one that a run of this raised, or None.

    Args:
      error, session: as in `runtime_errors.translate`.
      arrays: sequence of the arrays of the run, in the order of the slots.
    """
    return runtime_errors.translate(
        error, self._plan, session, self._graph, arrays)
