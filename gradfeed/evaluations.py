"""A plan with values, in a session: checked, compiled, run, explained."""

import re
import weakref

import numpy as np

from gradfeed import _tf
from gradfeed import callables
from gradfeed import errors
from gradfeed import feeds
from gradfeed import plans
from gradfeed import sessions
from gradfeed import tensors
from gradfeed._tf import tf


class Evaluation:
  """Outputs as a function of the values at some places of one graph.

  Attributes:
    leaves: list of `tensors.Point` and the like that get values.
    slots: list of `feeds.Slot`, one for each dense tensor that is fed, in the
      order of the leaves.
    needs: list of `tf.Tensor`, the placeholders that have no value yet.
  """

  def __init__(self, graph, leaves, outputs, points=(), timeout=None,
               may_assign=False):
    """Works out what has to be copied, and checks it; adds no op.

    Args:
      graph: `tf.Graph`.
      leaves: list of `tensors.Point` and the like that get values.
      outputs: list of `outputs.Output`.
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
    self._single = False
    self._last = self._last_session = lambda: None

  def prepare(self):
    """Adds the ops that the first run would add."""
    self._plan.prepare()
    self._single = (len(self._outputs) == 1 and self._plan.sources == [0] and
                    self._outputs[0].is_plain)

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
      own = [next(slots) for _ in leaf.points()]
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
    compiled = self._last()
    if compiled is None or self._last_session() is not session:
      compiled = self._compile(session)
    if self._all_active:
      active = arrays
    else:
      active = tuple(arrays[i] for i in self._plan.active)
    try:
      results = compiled(active)
    except (tf.errors.OpError, RuntimeError) as error:
      raise self._explained(error, session) or error
    if self._single:
      return results
    values = iter(self._gathered(results, arrays))
    return [output.assemble([next(values) for _ in output.tensors()])
            for output in self._outputs]

  def _gathered(self, results, arrays):
    """A value for each wanted tensor; none of them twice."""
    used = set()
    for source in self._plan.sources:
      if source is None:
        yield None
      elif source < 0:
        yield np.array(arrays[~source])
      else:
        yield np.array(results[source]) if source in used else results[source]
        used.add(source)

  def _compile(self, session):
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
    memo = _tf.session_memo(raw)
    compiled = memo.get(self)
    if compiled is None:
      sessions.check_initialized(raw, self._plan.variables)
      compiled = memo[self] = callables.Compiled(raw, recipe)
    if raw is session:
      self._last_session = weakref.ref(session)
      self._last = weakref.ref(compiled)
    return compiled

  def _explained(self, error, session):
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
    return _explained_cotangent(str(error), self._graph)


def _explained_cotangent(message, graph):
  pattern = errors.SHAPE_OF_COTANGENT.replace("{}", r"(\S+)")
  found = re.search(pattern, message)
  if not found:
    return None
  given, y = [tensors.describe(graph.get_tensor_by_name(name))
              for name in found.groups()]
  return errors.CotangentError(
      "grad_ys {} has, at this call, another shape than y = {}.".format(
          given, y),
      "TensorFlow broadcasts a cotangent of another shape without a word, and "
      "the result is the gradient of something else.",
      "Feed a cotangent of the shape that y has at this call.")
