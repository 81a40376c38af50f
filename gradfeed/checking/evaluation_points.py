"""Evaluates tensors of the caller's graph at the x_t of a check.

It is the caller's session that runs. No variable is changed, no op that takes
an element of a queue or an iterator is run, and evaluating the same tensors
again adds no op, whatever shapes the values have.
"""

import re

from gradfeed.checking import budgets
from gradfeed import errors
from gradfeed.evaluation import executables
from gradfeed.evaluation import fetchables
from gradfeed.evaluation.inputs import feed_dicts
from gradfeed.evaluation.inputs import feeds
from gradfeed.evaluation import sessions
from gradfeed.graph import cache
from gradfeed.graph import effects
from gradfeed.graph import nest
from gradfeed.graph import tensors
from gradfeed.graph import traversal

#: The types of ops that wait and give data, unlike those that put data in.
_TAKING = re.compile("Dequeue|Read|Take|Unstage|GetNext")


class EvaluationPoint:
  """A session and all values that are fed: x_t and the other feeds.

  Attributes:
    graph: `tf.Graph`.
    xs: list of `tensors.Dense`, what is differentiated by.
    values: list of arrays, one for each of `xs`, of exactly its dtype.
    cut: set of the names of all tensors that get a value.
    fed: list of (leaf, value), the other feeds.
    has_sparse: bool, whether an x is a `SparseTensor`: the first axis of its
      values does not count rows.
    session: the session that evaluates.
    budget: `budgets.Budget` that each evaluation is counted in.
  """

  def __init__(self, graph, x, x_t, session, feed_dict, budget=None):
    """Finds the tensors that a caller means, and checks the values for them.

    Args:
      graph: `tf.Graph`.
      x: as in `function`: what is differentiated by, or a list of that.
      x_t: the value, or a list of values.
      session: a session, or None for the default one.
      feed_dict: dict from tensors to values, or None.
      budget: `budgets.Budget`, or None for no limit.
    """
    self.graph = graph
    self.budget = budget or budgets.Budget()
    self.session = session or sessions.default_session()
    sessions.check_open(self.session, graph)
    leaves = [tensors.resolve(leaf, graph, "x") for leaf in nest.flatten(x)]
    fed = feed_dicts.resolve_feeds(feed_dict, graph, leaves)
    self.fed = [fed[key] for key in sorted(fed)]
    self.xs, self.values = [], []
    self.has_sparse = any(isinstance(leaf, tensors.Sparse) for leaf in leaves)
    for leaf, value in zip(leaves, nest.flatten_as(x, x_t, "x_t")):
      self._add_x(leaf, value)
    self.cut = {component.name for component in self.xs} | {
        component.name
        for leaf, _ in self.fed
        for component in leaf.components()
    }

  def _add_x(self, leaf, value):
    """Adds the components of one x, with their values, to `xs` and `fed`."""
    try:
      arrays = [feeds.Slot(component).fit(array) for component, array in zip(
          leaf.components(), feeds.split(leaf, value))]
    except feeds.Unfit as unfit:
      raise feeds.feed_error([feeds.Problem(leaf, str(unfit))]) from None
    names = {component.name for component in leaf.differentiable()}
    for component, array in zip(leaf.components(), arrays):
      if component.name in names:
        self.xs.append(component)
        self.values.append(array)
      else:  # The indices of a sparse tensor.
        self.fed.append((component, array))

  def require_steady(self, targets):
    """Refuses targets that take elements from queues or iterators.

    Args:
      targets: list of `tf.Tensor`.

    Raises:
      MissingFeedError: names what to feed.
    """
    waiting = effects.waiting_ops(self.ops_run(targets)[0])
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

  def sample(self, targets, values=None, extra_feeds=(), fed=None,
             strict=False, is_needed=False):
    """Evaluates tensors, all in one run.

    Args:
      targets: list of `tf.Tensor`.
      values: list of arrays, one for each of `xs`; None for `self.values`.
      extra_feeds: list of (tensor, array): more tensors that are fed.
      fed: list of arrays instead of those of `self.fed`, or None.
      strict: bool, whether a value that has no effect on the targets is
        refused; otherwise it is not fed.
      is_needed: bool, whether it is evaluated even if there is no time.

    Returns:
      list of arrays, one for each target.

    Raises:
      budgets.OutOfTime: there is no time for it.
    """
    self.budget.begin_evaluation(is_needed)
    leaves = self.xs + [tensors.Dense(t) for t, _ in extra_feeds] + [
        leaf for leaf, _ in self.fed]
    key = ("samples", strict, tuple(t.name for t in targets),
           tuple((leaf.name, type(leaf).__name__) for leaf in leaves))
    arrays = (list(self.values if values is None else values) +
              [array for _, array in extra_feeds] +
              ([value for _, value in self.fed] if fed is None else list(fed)))
    made = cache.cached(self.graph, key, list)
    for executable, indices in made:
      if executable.serves(self._held()):
        break
    else:
      executable, indices = self._executable(leaves, targets, strict)
      made.append((executable, indices))
    executable.require_all_fed()
    return executable.evaluate(
        self.session, executable.fit([arrays[i] for i in indices]))

  def _executable(self, leaves, targets, strict):
    """(`executables.Executable`, list of the indices of its leaves)."""
    indices = list(range(len(leaves)))
    if not strict:
      names = [{
          name for component in leaf.components() for name in [component.name] +
          cache.clones_of(self.graph, component.name)
      } for leaf in leaves]
      ops = traversal.ancestors(targets, set().union(*names))
      read = {t.name for op in ops.values() for t in op.inputs}
      read.update(t.name for t in targets)
      read.update(t.name for t in effects.placeholders(ops))
      indices = [i for i in indices if names[i] & read]
    return executables.Executable(
        self.graph, [leaves[i] for i in indices],
        [fetchables.resolve(t, self.graph) for t in targets],
        held=lambda: feed_dicts.held_values(self._held())), indices

  def _held(self):
    """The other feeds, as `feed_dicts.resolve_feeds` gives them."""
    return dict(enumerate(self.fed))

  def folded(self, targets, ops):
    """What the other feeds decide of a computation.

    Args:
      targets: list of `tf.Tensor`.
      ops: dict from name to op, the `traversal.ancestors` of `targets`.

    Returns:
      `folding.Folding` or None.
    """
    return feed_dicts.folded(targets, ops, self.xs, self._held())

  def ops_run(self, targets):
    """What runs to compute some tensors.

    Args:
      targets: list of `tf.Tensor`.

    Returns:
      (dict from name to op; `folding.Folding` or None).
    """
    ops = traversal.ancestors(targets, self.cut)
    folded = self.folded(targets, ops)
    return (ops if folded is None else folded.ops), folded
