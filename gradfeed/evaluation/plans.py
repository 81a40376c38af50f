"""What an evaluation runs: found out, checked, and built when it is wanted.

Placeholders are fed. Anything else is cut: what depends on it is copied with a
placeholder in its place, because TensorFlow may ignore a value that is fed to
an op that could compute its own.
"""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import gradient_flow
from gradfeed.evaluation import callables
from gradfeed.evaluation import feed_checks
from gradfeed.evaluation import feeds
from gradfeed.graph import cache
from gradfeed.graph import control_flow
from gradfeed.graph import effects
from gradfeed.graph import provenance
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.rewriting import cloning
from gradfeed.rewriting import shape_specialization
from gradfeed.rewriting import subgraphs


class Plan:
  """Some tensors of one graph from the values at others, in any session.

  Attributes:
    graph: `tf.Graph`.
    slots: list of `feeds.Slot`, one for each dense tensor that gets a value.
    active: list of the indices of the slots that TensorFlow is fed at.
    sources: list, for each wanted thing: the index of its fetch; `~i` if it is
      the value of slot i itself; None for an op.
    needs: dict from each placeholder without a value to what uses it.
    variables: list of the ops of the variables that are read.
    waiting: list of the ops that wait for something outside of the run.
    recipe: `callables.CallSpec`, or None until `prepare` is called.
  """

  def __init__(self, graph, leaves, wanted, points, timeout, may_assign):
    """Finds out and checks; adds no op.

    Args:
      graph: `tf.Graph`.
      leaves: list of `tensors.Dense` and the like that get values.
      wanted: list of `tf.Tensor` and `tf.Operation` to run.
      points: names of tensors at which derivatives are taken though they lie
        between x and y.
      timeout: seconds for one run, or None.
      may_assign: whether the run may change variables.
    """
    self.graph = graph
    self.slots = [feeds.Slot(component) for leaf in leaves
                  for component in leaf.components()]
    self.recipe = None
    self._fixed = None
    self._leaves = leaves
    self._wanted = wanted = self._in_one_pass(wanted)
    self._timeout = timeout
    # A copy that was made to differentiate has the value of its original.
    self._fed = {name: i for i, slot in enumerate(self.slots)
                 for name in [slot.component.name] + cache.clones_of(
                     graph, slot.component.name)}
    self._cut = {name for name, i in self._fed.items()
                 if not self.slots[i].component.is_placeholder}
    for item in wanted:
      feed_checks.check_fetch(item)
    computed = [item for item in wanted if isinstance(item, tf.Operation) or
                item.name not in self._fed]
    self._found = traversal.ancestors(computed, self._cut)
    self._pivots = self._branches_of_cuts()
    if self._pivots:
      self._found = traversal.ancestors(
          computed + list(self._pivots.values()), self._cut)
    self._read = effects.names_read(self._found)
    self._check_feeds(points)
    if not may_assign:
      feed_checks.check_assignments(self._found, wanted)
    feed_checks.check_races(self._found, wanted)
    self._survey()

  def _in_one_pass(self, wanted):
    """The y of a derivative from the copy that the derivative was built on.

    The value and the derivative then come from one forward pass, and from the
    same random numbers.
    """
    known = cache.cache_of(self.graph).derivatives
    clones = {}
    for item in wanted:
      if item.name in known:
        derivative = known[item.name]
        clones.update(zip(derivative.ys, derivative.built))
    return [self.graph.get_tensor_by_name(clones[item.name])
            if item.name in clones else item for item in wanted]

  def _branches_of_cuts(self):
    """The pivot of the branch that each cut lies in, where it lies in one."""
    # From inside of a branch or a loop all ways out lead through a join.
    has_joins = control_flow.has_joins(self._found)
    pivots = {name: control_flow.pivot_of(
        self.graph.get_tensor_by_name(name), has_joins) for name in self._cut}
    return {name: op for name, op in pivots.items() if op is not None}

  def _survey(self):
    self.active = [i for i, slot in enumerate(self.slots) if any(
        name in self._read for name, j in self._fed.items() if i == j)]
    fed = {self.slots[i].component.name for i in self.active}
    self.needs = {t: effects.user_of(t, self._found)
                  for t in effects.placeholders(self._found)
                  if t.name not in fed}
    self.variables = effects.variables_read(self._found, self._wanted)
    self.waiting = effects.waiting_ops(self._found)

  def _check_feeds(self, points):
    derivatives = self._derivatives()
    self._check_recomputed(derivatives)
    problems = [problem for derivative in derivatives
                for problem in self._between(derivative, points)]
    problems += self._between_unknown(points)
    if problems:
      error = feeds.feed_error(problems)
      error.fix = (
          "Say which derivative is meant: by this tensor itself "
          "(gradient(y, {0!r})), with it held constant (gradient(..., "
          "stop_gradients=[{0!r}])), or at this point of it, with the chain "
          "rule through it (points=[{0!r}]).".format(
              getattr(problems[0].leaf, "name", problems[0].leaf)))
      raise error
    self._check_effect(derivatives)

  def _check_recomputed(self, derivatives):
    """Refuses a cut of what a derivative computes by itself once more."""
    problems = [
        feeds.Problem(self._leaf_of(name), "it lies between x and y = {}, and "
                      "is computed anew for each example".format(
                          ", ".join(map(repr, derivative.ys))))
        for derivative in derivatives
        for name in sorted(self._cut - set(derivative.xs))
        if name.split(":")[0] in derivative.recomputed]
    if problems:
      error = feeds.feed_error(problems)
      error.fix = ("Differentiate by this tensor itself, or build the "
                   "derivative with coupled=True, within the batch.")
      raise error

  def _derivatives(self):
    """The derivatives that gradfeed built and that are run here."""
    known = cache.cache_of(self.graph).derivatives
    return list({id(derivative): derivative
                 for name, derivative in list(known.items())
                 if self._is_run(name)}.values())

  def _is_run(self, name):
    return name.split(":")[0] in self._found or any(
        item.name == name for item in self._wanted)

  def _between(self, derivative, points):
    """A cut between x and y makes their derivative mean nothing."""
    ys, stops = [[self.graph.get_tensor_by_name(name) for name in names]
                 for names in (derivative.ys, derivative.stops)]
    allowed = set(derivative.stops) | set(points)
    for x, result in zip(derivative.xs, derivative.results):
      suspects = sorted(self._cut - allowed - {x})
      if not suspects or result is None or not self._is_run(result):
        continue
      trace = gradient_flow.GradientTrace(ys,
                                          [self.graph.get_tensor_by_name(x)],
                                          stops)
      for name in suspects:
        if name in trace.tensors and name.split(":")[0] in trace.path:
          yield feeds.Problem(
              self._leaf_of(name), "it lies between x = '{}' and y = {}, so "
              "the gradient would mix this value with what x makes of "
              "it".format(x, ", ".join(map(repr, derivative.ys))))

  def _between_unknown(self, points):
    """The same for gradients that were built without gradfeed.

    `tf.gradients` names the ops through which it passes back OP "OP_grad/...":
    a cut of what OP computes is then between the x and the y.
    """
    passed = {user: provenance.passed_back(user) for user in self._found
              if "_grad/" in user and not user.startswith(_tf.SCOPE)}
    for name in sorted(self._cut - set(points)) if passed else ():
      above = traversal.ancestors([self.graph.get_tensor_by_name(name)])
      for user, origins in passed.items():
        if any(origin in above for origin in origins):
          yield feeds.Problem(
              self._leaf_of(name) or name,
              "a gradient that is run ('{}') passes through it, and would mix "
              "this value with what is computed for it".format(user))
          break

  def _check_effect(self, derivatives):
    """A feed must reach an output, or the x or y of a derivative there."""
    reached = set(self._read)
    reached.update(item.name for item in self._wanted)
    for derivative in derivatives:
      reached.update(derivative.xs)
    if not self._idle(reached):
      return
    ys = [self.graph.get_tensor_by_name(y)
          for derivative in derivatives for y in derivative.ys]
    reached |= effects.names_read(traversal.ancestors(ys, self._cut))
    reached.update(y.name for y in ys)
    idle = self._idle(reached)
    if idle:
      raise feeds.feed_error(feeds.Problem(
          leaf, "nothing that is evaluated depends on it") for leaf in idle)

  def _idle(self, reached):
    reached = reached | {self.slots[i].component.name
                         for name, i in self._fed.items() if name in reached}
    return [
        leaf for leaf in self._leaves
        if not any(component.name in reached for component in leaf.components())
    ]

  def _leaf_of(self, name):
    for leaf in self._leaves:
      if any(component.name == name for component in leaf.components()):
        return leaf
    return None

  def prepare(self):
    """Adds the ops that are needed, once, and makes the `recipe`.

    Raises:
      FinalizedGraphError: ops are needed and the graph is closed.
      UnsupportedGraphError: an op needs a variable, not its value.
    """
    if self.recipe is not None:
      return
    with cache.cache_of(self.graph).lock:
      if self.recipe is None:
        self._prepare()

  def _prepare(self):
    wanted = self._with_cuts()
    self.sources = []
    fetched, places = [], {}
    for item in wanted:
      if isinstance(item, tf.Operation):
        self.sources.append(None)
      elif item.name in self._fed:
        self.sources.append(~self._fed[item.name])
      else:
        if item.name not in places:
          places[item.name] = len(fetched)
          fetched.append(item)
        self.sources.append(places[item.name])
    for slot in self.slots:
      slot.target = slot.component.tensor
    for i in self.active:
      if not self.slots[i].component.is_placeholder:
        self.slots[i].target = _stand_in(self.slots[i].component)
    found, self._found = self._found, None  # The ops stay reachable otherwise.
    self._fetched = fetched
    self.recipe = self._recipe(
        [self.slots[i].target for i in self.active], fetched,
        [item.name for item in wanted if isinstance(item, tf.Operation)],
        found)

  def ends(self):
    """Between which tensors TensorFlow computes, once this is prepared.

    Returns:
      (list with the tensor that is fed for each slot, None where none is; list
      with the tensor that has the value of each wanted one).
    """
    active = set(self.active)
    return ([slot.target if i in active else None
             for i, slot in enumerate(self.slots)],
            [self._fetched[source] if source >= 0 else
             self.slots[~source].target for source in self.sources])

  def _recipe(self, targets, fetched, operations, found):
    fetches = [_fetchable(tensor) for tensor in fetched]
    return callables.CallSpec(
        [target.name for target in targets],
        [fetch.name for fetch, _ in fetches],
        [private for _, private in fetches],
        [tensor.shape.ndims == 0 for tensor in fetched], operations,
        len(found), effects.has_loop(found), effects.keeps_feeds(found),
        self._timeout)

  def fixed(self, shapes):
    """A recipe for these shapes alone, where that is sooner; made once.

    Args:
      shapes: tuple of the shapes of the active feeds.

    Returns:
      (shapes, `callables.CallSpec`) of the first call that there was, or None.
    """
    with cache.cache_of(self.graph).lock:
      if self._fixed is None:
        self._fixed = shapes, self._fix(shapes)
      return self._fixed if self._fixed[1] is not None else None

  def _fix(self, shapes):
    if self.graph.finalized or self.recipe.in_pool or self.recipe.targets:
      return None
    found = traversal.ancestors(self._fetched)
    if not shape_specialization.is_suitable(found):
      return None
    fed = {self.slots[i].target.name: shape
           for i, shape in zip(self.active, shapes)}
    key = ("fixed", tuple(sorted(fed.items())),
           tuple(t.name for t in self._fetched))
    special, = cache.cached(
        self.graph, key, lambda: (shape_specialization.specialize(
            self.graph, found, self._fetched, fed),))
    if special is None:
      return None
    stand_ins, results = special
    return self._recipe(
        [stand_ins[self.slots[i].target.name] for i in self.active], results,
        [], traversal.ancestors(results))

  def _with_cuts(self):
    """Puts placeholders in the places of cuts; returns what to run then."""
    cut = self._cut & self._read
    if not cut:
      return self._wanted
    points = {name: self.slots[self._fed[name]].component for name in cut}

    def build():
      cache.check_not_finalized(self.graph, "Another value at {}".format(
          tensors.describe_all(points[name] for name in sorted(cut))))
      part = subgraphs.dependent_ops(self._found, cut)
      return cloning.clone_subgraph(
          self.graph, part, self._found,
          {name: _stand_in(points[name]) for name in sorted(cut)}, "cut",
          {name: op for name, op in self._pivots.items() if name in cut})

    clones = cache.cached(
        self.graph,
        ("cut", tuple(sorted(cut)), tuple(t.name for t in self._wanted)),
        build)
    return [item if item.name in self._fed else clones.get(item.name, item)
            for item in self._wanted]


def _stand_in(component):
  """The placeholder that takes the place of `component`; one for each point."""

  def build():
    cache.check_not_finalized(component.graph,
                              "Another value at {}".format(component))
    with _tf.building(component.graph):
      return tf.placeholder(component.dtype, component.shape,
                            name="at/" + component.op.name.lstrip("_"))

  return cache.cached(component.graph, ("at", component.name), build)


def _fetchable(tensor):
  """(what to fetch for `tensor`, whether its buffer is its own).

  TF 2 hands out the buffers of variables and constants themselves, as arrays
  that can be written to. A Snapshot costs next to nothing, unless the tensor
  is one of these: then it copies.
  """
  dtype = tensor.dtype.base_dtype
  numeric = dtype.is_floating or dtype.is_integer or dtype.is_complex
  if not _tf.IS_TF2 or not numeric or dtype.is_quantized:
    return tensor, False
  key = ("snapshot", tensor.name)
  known = cache.cache_of(tensor.graph).built.get(key)
  if known is None and tensor.graph.finalized:
    return tensor, False

  def build():
    with _tf.building(tensor.graph):
      return tf.raw_ops.Snapshot(input=tensor)

  return cache.cached(tensor.graph, key, build), True
