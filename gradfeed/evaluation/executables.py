"""A plan with values, in a session: checked, compiled, run, explained."""

import collections
import weakref

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation import callables
from gradfeed.evaluation.callables import nothing
from gradfeed.evaluation import feeds
from gradfeed.evaluation import plans
from gradfeed.evaluation import sessions
from gradfeed.graph import assertions
from gradfeed.graph import tensors

#: The session of the last call and what was compiled in it, by weak
#: references; replaced as a whole, since other threads read it meanwhile.
_State = collections.namedtuple("_State", ["session", "general", "fixed"])


class Executable:
  """Outputs as a function of the values at some places of one graph.

  Attributes:
    leaves: list of `tensors.Dense` and the like that get values.
    slots: list of `feeds.Slot`, one for each dense tensor that is fed, in the
      order of the leaves.
    needs: list of `tf.Tensor`, the placeholders that have no value yet.
  """

  def __init__(self, graph, leaves, outputs, points=(), timeout=None,
               may_assign=False):
    """Works out what has to be copied, and checks it; adds no op.

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
    self._state = _State(nothing, nothing, nothing)

  def prepare(self):
    """Adds the ops that the first run would add."""
    self._plan.prepare()
    sources = self._plan.sources
    self._is_plain = (sources == list(range(len(sources))) and all(
        output.is_plain for output in self._outputs))

  def ends(self):
    """See `plans.Plan.ends`; the wanted tensors are those of all outputs."""
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
        parts = feeds.split(leaf, value)
        arrays.extend(slot.fit(part) for slot, part in zip(own, parts))
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
    compiled = self._compiled(session, active)
    try:
      results = compiled(active)
    except (tf.errors.OpError, RuntimeError) as error:
      raise self.explained(error, session) or error
    if self._is_plain:
      return results
    values = iter(self._gathered(results, arrays))
    return [output.assemble([next(values) for _ in output.tensors()])
            for output in self._outputs]

  def _compiled(self, session, active):
    """What to call with the arrays `active`."""
    state = self._state
    general = state.general()
    if general is None or state.session() is not session:
      return self._compile(session, active)
    fixed = state.fixed()
    return fixed if fixed is not None and fixed.accepts(active) else general

  def direct(self, session):
    """The shortest way to evaluate in `session`, where there is one.

    Args:
      session: that of a call before.

    Returns:
      A weak reference to a `callables.Compiled.direct`, or to None.
    """
    state = self._state
    if state.session() is session and self._is_plain and self._all_active:
      # The fixed one asks the general one about other shapes itself.
      for way in (state.fixed(), state.general()):
        if way is not None and way.direct is not None:
          return weakref.ref(way.direct)
    return nothing

  def _gathered(self, results, arrays):
    """A value for each wanted tensor; none of them twice."""
    used = set()
    for source in self._plan.sources:
      if source is None:
        yield None
      elif source < 0:
        yield _copied(arrays[~source])
      else:
        yield _copied(results[source]) if source in used else results[source]
        used.add(source)

  def _compile(self, session, active):
    sessions.check_open(session, self._graph)
    self.prepare()
    recipe = self._plan.recipe
    if not recipe.fetches and not recipe.targets:
      return lambda arrays: []
    raw = _tf.raw_session(session)
    if raw is None:
      sessions.check_initialized(
          _tf.innermost_session(session), self._plan.variables)
      return sessions.Uncompiled(session, recipe)
    memo = _tf.session_cache(raw)
    compiled = memo.get(self)
    if compiled is None:
      sessions.check_initialized(raw, self._plan.variables)
      slots = [self.slots[i] for i in self._plan.active]
      compiled = memo[self] = callables.Compiled(
          raw, recipe, [(slot.dtype, slot.shapes) for slot in slots])
    if raw is not session:
      return compiled
    fixed = self._compile_fixed(raw, compiled, active)
    self._state = _State(weakref.ref(session), weakref.ref(compiled), fixed)
    return fixed() or compiled

  def _compile_fixed(self, session, general, active):
    """The recipe for the shapes of the first call, if its results agree.

    Both are run on that call's values. The short way is not taken where they
    differ: then something depends on more than values and shapes.
    """
    if _tf.is_remote(session):
      return nothing
    special = self._plan.fixed(tuple(map(np.shape, active)))
    if special is None or special[0] != tuple(map(np.shape, active)):
      return nothing
    shapes, recipe = special
    memo = _tf.session_cache(session)
    if self._plan not in memo:
      slots = [self.slots[i] for i in self._plan.active]
      fixed = callables.Compiled(session, recipe, [
          (slot.dtype, frozenset([shape]))
          for slot, shape in zip(slots, shapes)], general)
      try:
        same = all(_same_bits(*pair)
                   for pair in zip(general(active), fixed(active)))
      except tf.errors.OpError:
        return nothing  # The general way will say so again.
      if not same:
        return nothing
      memo[self._plan] = fixed
    return weakref.ref(memo[self._plan])

  def explained(self, error, session):
    """A clearer error for what TensorFlow said, or None to let it stand."""
    if isinstance(error, errors.GradfeedError):
      return None
    timeout = self._plan.recipe.timeout
    if _tf.is_closed(session):
      return sessions.closed()
    if isinstance(error, tf.errors.DeadlineExceededError) and (
        timeout is not None):
      waits = ", ".join("{} '{}'".format(op.type, op.name)
                        for op in self._plan.waiting)
      return errors.TimeLimitError(
          "The run took longer than {:g} s.".format(timeout),
          "It waits for {}.".format(waits) if waits
          else "The computation is longer than that.",
          "Feed the output of that op, or start its queue runners "
          "(tf.train.start_queue_runners)." if waits
          else "Give a longer timeout.")
    if "of resource is not in the list of allowed values" in str(error):
      return errors.UnsupportedGraphError(
          "The gradient of a function of Defun cannot run.",
          "It reads a resource variable more than once, and TensorFlow's "
          "gradient of it adds up handles as if they were numbers.",
          "Give the variable a value here (make it an input), pass its value "
          "to the function as an argument, or make it with tf.function.")
    for explain in (assertions.explained_cotangent, assertions.explained_rows,
                    assertions.explained_index):
      clearer = explain(str(error), self._graph)
      if clearer is not None:
        return clearer
    return None


def _copied(value):
  """A copy, a scalar without axes being a NumPy scalar as in any result."""
  if isinstance(value, (bytes, str)):
    return value  # As an array it would lose the zeros at its end.
  return np.array(value)[()]


def _same_bits(a, b):
  a, b = np.asarray(a), np.asarray(b)
  if a.shape != b.shape or a.dtype != b.dtype or a.dtype.kind == "O":
    return a.shape == b.shape and a.tobytes() == b.tobytes()
  # Without copies: results may be large.
  one, other = [np.ascontiguousarray(x).reshape(-1).view(np.uint8)
                for x in (a, b)]
  return np.array_equal(one, other)
