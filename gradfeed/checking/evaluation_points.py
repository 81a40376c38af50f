"""Tensors of the caller's graph at values, in the caller's session.

No variable is changed, nothing that waits is run, and the second sampling of
the same tensors adds no op, whatever shapes the values have.
"""

import re

from gradfeed import errors
from gradfeed.evaluation import arguments
from gradfeed.evaluation import executables
from gradfeed.evaluation import feeds
from gradfeed.evaluation import fetchables
from gradfeed.evaluation import sessions
from gradfeed.graph import cache
from gradfeed.graph import effects
from gradfeed.graph import nest
from gradfeed.graph import tensors
from gradfeed.graph import traversal

#: Those of the ops that wait which give the data.
_TAKING = re.compile("Dequeue|Read|Take|Unstage|GetNext")


class EvaluationPoint:
  """Where tensors are sampled: the session, the values, all that is fed.

  Attributes:
    graph: `tf.Graph`.
    points: list of `tensors.Dense`, what is differentiated by.
    values: list of arrays, one for each point, of exactly its dtype.
    cut: set of the names of all that gets a value.
    fed: list of (leaf, value), the other feeds.
    has_sparse: bool, whether an x is sparse: its values are no rows.
    session: what stands for a session.
  """

  def __init__(self, graph, x, x_t, session, feed_dict):
    """Resolves what a caller passes.

    Args:
      graph: `tf.Graph`.
      x: as in `function`: what is differentiated by, or a list of that.
      x_t: the value, or a list of values.
      session: a session, or None for the default one.
      feed_dict: dict from tensors to values, or None.
    """
    self.graph = graph
    self.session = session or sessions.default_session()
    sessions.check_open(self.session, graph)
    leaves = [tensors.resolve(leaf, graph, "x") for leaf in nest.flatten(x)]
    fed = arguments.resolve_feeds(feed_dict, graph, leaves)
    self.fed = [fed[key] for key in sorted(fed)]
    self.points, self.values = [], []
    self.has_sparse = any(isinstance(leaf, tensors.Sparse) for leaf in leaves)
    given = nest.flatten_as(x, x_t, "x_t")
    for leaf, value in zip(leaves, given):
      self._take(leaf, value)
    self.cut = {component.name for component in self.points} | {
        component.name
        for leaf, _ in self.fed
        for component in leaf.components()
    }

  def _take(self, leaf, value):
    try:
      arrays = [feeds.Slot(component).fit(part) for component, part in zip(
          leaf.components(), feeds.split(leaf, value))]
    except feeds.Unfit as unfit:
      raise feeds.feed_error([feeds.Problem(leaf, str(unfit))]) from None
    moved = {component.name for component in leaf.differentiable()}
    for component, array in zip(leaf.components(), arrays):
      if component.name in moved:
        self.points.append(component)
        self.values.append(array)
      else:  # The indices of a sparse tensor.
        self.fed.append((component, array))

  def require_steady(self, targets):
    """Refuses targets that an evaluation would take something away for.

    Args:
      targets: list of `tf.Tensor`.

    Raises:
      MissingFeedError: names what to feed.
    """
    waiting = effects.waiting_ops(traversal.ancestors(targets, self.cut))
    if waiting:
      waiting = [op for op in waiting if _TAKING.search(op.type)] or waiting
      taken = [t for op in waiting for t in op.outputs]
      raise errors.MissingFeedError(
          "A check of {} would use up {}.".format(
              tensors.describe(targets[0]), tensors.describe(waiting[0])),
          "It evaluates many times, and each time other data would be taken, "
          "so that no two values belong together.",
          "Feed what it gives: feed_dict={{{}}}.".format(", ".join(
              "{!r}: ...".format(t.name) for t in taken)))

  def sample(self, targets, values=None, held=(), fed=None, strict=False):
    """Evaluates tensors, all in one run.

    Args:
      targets: list of `tf.Tensor`.
      values: list of arrays, those of the points; None for the own ones.
      held: list of (tensor, array): other tensors that take values.
      fed: list of arrays in the place of those of `fed`, or None.
      strict: whether a value without an effect is refused; else it is left.

    Returns:
      list of arrays.
    """
    leaves = self.points + [tensors.Dense(t) for t, _ in held] + [
        leaf for leaf, _ in self.fed]
    key = ("samples", strict, tuple(t.name for t in targets),
           tuple((leaf.name, type(leaf).__name__) for leaf in leaves))
    evaluation, places = cache.cached(
        self.graph, key, lambda: self._evaluation(leaves, targets, strict))
    evaluation.require_all_fed()
    arrays = (list(self.values if values is None else values) +
              [array for _, array in held] +
              ([value for _, value in self.fed] if fed is None else list(fed)))
    return evaluation.evaluate(
        self.session, evaluation.fit([arrays[i] for i in places]))

  def _evaluation(self, leaves, targets, strict):
    """(an `executables.Executable`, the places of the leaves that it has)."""
    places = list(range(len(leaves)))
    if not strict:
      names = [{
          name for component in leaf.components() for name in [component.name] +
          cache.clones_of(self.graph, component.name)
      } for leaf in leaves]
      found = traversal.ancestors(targets, set().union(*names))
      read = {t.name for op in found.values() for t in op.inputs}
      read.update(t.name for t in targets)
      read.update(t.name for t in effects.placeholders(found))
      places = [i for i in places if names[i] & read]
    return executables.Executable(
        self.graph, [leaves[i] for i in places],
        [fetchables.resolve(t, self.graph) for t in targets]), places
