"""One evaluation: some tensors at given values, others computed from them.

Placeholders are fed. Anything else is cut: what depends on it is copied with a
placeholder in its place, because TensorFlow may ignore a value that is fed to
an op that could compute its own.
"""

import collections
import re
import weakref

import numpy as np

from gradfeed import _tf
from gradfeed import callables
from gradfeed import copies
from gradfeed import errors
from gradfeed import feeds
from gradfeed import memos
from gradfeed import paths
from gradfeed import tensors
from gradfeed._tf import tf

_Problem = collections.namedtuple("_Problem", ["leaf", "reason"])


def feed_error(problems):
  """One `FeedError` that lists every problem."""
  problems = list(problems)
  if len(problems) == 1:
    what = "Cannot feed {}: {}.".format(*problems[0]).replace("..", ".")
  else:
    what = "Cannot feed {} values:".format(len(problems)) + "".join(
        "\n    {}: {}".format(*problem) for problem in problems)
  return errors.FeedError(
      what, "A value is fed as it is or not at all: another shape, a lossy "
      "cast or a feed that nothing reads would give the derivative of "
      "something else.",
      "Pass, for each tensor named above, a value of the dtype and shape shown "
      "with it, or leave out what has no effect.")


class Evaluation:
  """Outputs as a function of the values at some places of one graph.

  Attributes:
    graph: `tf.Graph`.
    slots: list of `feeds.Slot`, one for each dense tensor that is fed, in the
      order of the leaves.
    needs: list of `tf.Tensor`, the placeholders that have no value yet.
  """

  def __init__(self, graph, leaves, outputs, points=(), timeout=None,
               may_assign=False):
    """Works out what has to be copied and checked; adds ops at most once.

    Args:
      graph: `tf.Graph`.
      leaves: list of `tensors.Point` and the like that get values.
      outputs: list of `outputs.Output`-like objects: `tensors()` and
        `assemble(values)`.
      points: list of names of tensors at which derivatives are taken though
        they lie between x and y.
      timeout: seconds for one run, or None.
      may_assign: whether the run may change variables.
    """
    self.graph = graph
    self.leaves = leaves
    self.outputs = outputs
    self.slots = [feeds.Slot(point) for leaf in leaves
                  for point in leaf.points()]
    wanted = [t for output in outputs for t in output.tensors()]
    self._fed = {name: i for i, slot in enumerate(self.slots)
                 for name in [slot.point.name] + memos.twins_of(
                     graph, slot.point.name)}
    cut = {name for name, i in self._fed.items()
           if not self.slots[i].point.is_placeholder}
    pivots = {name: copies.pivot_of(graph.get_tensor_by_name(name))
              for name in cut}
    pivots = {name: pivot for name, pivot in pivots.items() if pivot}
    found = paths.ancestors(wanted + list(pivots.values()), cut)
    consumed = self._consumed(found, wanted)
    for t in wanted:
      _check_fetch(t)
    self._check_between(found, wanted, cut, points)
    self._check_effect(consumed, wanted, cut)
    if not may_assign:
      _check_assignments(found, wanted)
    _check_races(found, wanted)
    wanted = self._cut(found, wanted, cut & consumed, pivots)
    self._set_up(wanted, consumed, timeout)
    self._last = lambda: None
    self._last_session = lambda: None

  def _consumed(self, found, wanted):
    names = {t.name for op in found.values() for t in op.inputs}
    names.update(t.name for t in wanted if isinstance(t, tf.Tensor))
    names.update(t.name for op in found.values() for t in op.outputs
                 if op.type in ("Placeholder", "PlaceholderV2"))
    names.update(self.slots[i].point.name for twin, i in self._fed.items()
                 if twin in names)
    return names

  def _check_effect(self, consumed, wanted, cut):
    """A feed must reach an output, or the y of a derivative among them."""
    idle = [leaf for leaf in self.leaves
            if not any(p.name in consumed for p in leaf.points())]
    if not idle:
      return
    known = memos.memo_of(self.graph).derivatives
    ys = [self.graph.get_tensor_by_name(y) for t in wanted
          if t.name in known for y in known[t.name].ys]
    also = self._consumed(paths.ancestors(ys, cut), ys)
    idle = [leaf for leaf in idle
            if not any(p.name in also for p in leaf.points())]
    if idle:
      raise feed_error(_Problem(leaf, "nothing that is evaluated depends on "
                                "it") for leaf in idle)

  def _check_between(self, found, wanted, cut, points):
    """A cut between the x and y of a derivative makes it mean nothing."""
    known = memos.memo_of(self.graph).derivatives
    names = [name for name in known if name.split(":")[0] in found or any(
        t.name == name for t in wanted)]
    problems = []
    for derivative in {id(known[n]): known[n] for n in names}.values():
      allowed = set(derivative.stops) | set(derivative.xs) | set(points)
      suspects = [name for name in cut if name not in allowed]
      if not suspects:
        continue
      ys = [self.graph.get_tensor_by_name(y) for y in derivative.ys]
      above = paths.ancestors(ys)
      after = paths.descendants(above, set(derivative.xs), control=False)
      read = self._consumed(above, ys)
      for name in suspects:
        op = self.graph.get_tensor_by_name(name).op
        if op.name in after and name in read:
          problems.append(_Problem(
              self._leaf_of(name), "it lies between x = {} and y = {}, so the "
              "gradient would mix this value with what x makes of it".format(
                  ", ".join(map(repr, derivative.xs)),
                  ", ".join(map(repr, derivative.ys)))))
    if problems:
      error = feed_error(problems)
      error.fix = (
          "Say which derivative is meant: by this tensor itself "
          "(gradient(y, {0!r})), with it held constant (gradient(..., "
          "stop_gradients=[{0!r}])), or at this point of it, with the chain "
          "rule through it (points=[{0!r}]).".format(problems[0].leaf.name))
      raise error

  def _leaf_of(self, name):
    for leaf in self.leaves:
      if any(point.name == name for point in leaf.points()):
        return leaf
    return None

  def _cut(self, found, wanted, cut, pivots):
    """Puts placeholders in the places of `cut`; returns the outputs to run."""
    if not cut:
      return wanted
    key = ("cut", tuple(sorted(cut)), tuple(t.name for t in wanted))
    points = {name: self.slots[self._fed[name]].point for name in cut}

    def build():
      memos.require_open(self.graph, "Another value at {}".format(
          tensors.describe_all(points[name] for name in sorted(cut))))
      replaced = {name: _stand_in(points[name]) for name in sorted(cut)}
      part = copies.part_to_copy(found, set(cut))
      return copies.copy(
          self.graph, part, found, replaced, "cut",
          {name: pivot for name, pivot in pivots.items() if name in cut})

    twins = memos.once(self.graph, key, build)
    return [t if t.name in cut else twins.get(t.name, t) for t in wanted]

  def _set_up(self, wanted, consumed, timeout):
    fetched, private, targets, places = [], [], [], {}
    self._sources = []
    for item in wanted:
      if isinstance(item, tf.Operation):
        targets.append(item.name)
        self._sources.append(None)
      elif item.name in self._fed:
        self._sources.append(~self._fed[item.name])
      else:
        if item.name not in places:
          places[item.name] = len(fetched)
          fetch, is_private = _fetchable(item)
          fetched.append(fetch)
          private.append(is_private)
        self._sources.append(places[item.name])
    computed = [t for t in wanted if isinstance(t, tf.Operation) or
                t.name not in self._fed]
    found = paths.ancestors(computed)
    self._active = []
    for i, slot in enumerate(self.slots):
      slot.target = slot.point.tensor
      if slot.point.name in consumed:
        if not slot.point.is_placeholder:
          slot.target = _stand_in(slot.point)
        if slot.target.op.name in found:
          self._active.append(i)
    targets_fed = {self.slots[i].target.name for i in self._active}
    self.needs = [t for t in paths.placeholders(found)
                  if t.name not in targets_fed]
    self._uses = {t.name: _user_of(t, found) for t in self.needs}
    self._variables = paths.variables_read(found, wanted)
    self._waiting = paths.waiting(found)
    self._recipe = callables.Recipe(
        [self.slots[i].target.name for i in self._active],
        [t.name for t in fetched], private, targets, len(found),
        paths.has_loop(found), paths.keeps_feeds(found), timeout)
    self._fetched = fetched
    self._all_active = len(self._active) == len(self.slots)
    self._single = (len(self.outputs) == 1 and self._sources == [0] and
                    self.outputs[0].is_plain)

  def require_all_fed(self):
    """Raises MissingFeedError if a placeholder has no value."""
    if not self.needs:
      return
    raise errors.MissingFeedError(
        "No value for {} of the placeholders that are needed:{}".format(
            len(self.needs), "".join(
                "\n    {}, used by {}".format(
                    tensors.describe(t), self._uses[t.name])
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
        problems.append(_Problem(leaf, str(unfit)))
    if problems:
      raise feed_error(problems)
    return arrays

  def evaluate(self, session, arrays):
    """The outputs at checked values.

    Args:
      session: whatever stands for a session.
      arrays: list of `np.ndarray` from `fit`.

    Returns:
      list with the value of each output.
    """
    compiled = self._last()
    if compiled is None or self._last_session() is not session:
      compiled = self._compile(session)
    if not self._all_active:
      active = [arrays[i] for i in self._active]
    else:
      active = arrays
    try:
      results = compiled(active)
    except (tf.errors.OpError, RuntimeError) as error:
      raise self._explained(error, session) or error
    if self._single:
      return results
    values = iter([
        None if source is None else results[source] if source >= 0
        else np.array(arrays[~source]) for source in self._sources])
    return [output.assemble([next(values) for _ in output.tensors()])
            for output in self.outputs]

  def _compile(self, session):
    if session.graph is not self.graph:
      raise errors.SessionError(
          "The session runs another graph.",
          "The outputs ({}) are not in it.".format(", ".join(
              "'{}'".format(t.name) for t in self._fetched[:3])),
          "Pass a session made for their graph: "
          "tf.Session(graph=outputs.graph).")
    if _tf.is_closed(session):
      raise _closed()
    raw = _tf.raw_session(session)
    if raw is None:
      check_initialized(_tf.innermost_session(session), self._variables)
      return _Uncompiled(session, self._recipe)
    memo = _tf.session_memo(raw)
    compiled = memo.get(self)
    if compiled is None:
      check_initialized(raw, self._variables)
      compiled = memo[self] = callables.Compiled(raw, self._recipe)
    if raw is session:
      self._last_session = weakref.ref(session)
      self._last = weakref.ref(compiled)
    return compiled

  def _explained(self, error, session):
    """A clearer error for what TensorFlow said, or None to let it stand."""
    if isinstance(error, errors.GradfeedError):
      return None
    if _tf.is_closed(session):
      return _closed()
    if isinstance(error, tf.errors.DeadlineExceededError) and (
        self._recipe.timeout is not None):
      waits = ", ".join("{} '{}'".format(op.type, op.name)
                        for op in self._waiting)
      return errors.TimeLimitError(
          "The run took longer than {:g} s.".format(self._recipe.timeout),
          "It waits for {}.".format(waits) if waits
          else "The computation is longer than that.",
          "Feed the output of that op, or start its queue runners "
          "(tf.train.start_queue_runners)." if waits
          else "Give a longer timeout.")
    return _explained_cotangent(str(error), self.graph)


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


class _Uncompiled:
  """A `callables.Recipe` through the `run` of a session that wraps another."""

  def __init__(self, session, recipe):
    self._session = session
    self._recipe = recipe

  def __call__(self, arrays):
    fetches = [list(self._recipe.fetches), [
        self._session.graph.get_operation_by_name(name)
        for name in self._recipe.targets]]
    results = self._session.run(
        fetches, feed_dict=dict(zip(
            [self._session.graph.get_tensor_by_name(name)
             for name in self._recipe.feeds],
            [np.array(array) for array in arrays])))[0]
    return [np.array(r) if isinstance(r, np.ndarray) else r for r in results]


def _closed():
  return errors.SessionError(
      "The session is closed.", "A closed session cannot run anything.",
      "Evaluate inside its `with` block, or pass an open session.")


def _stand_in(point):
  """The placeholder that takes the place of `point`; one for each point."""

  def build():
    memos.require_open(point.graph, "Another value at {}".format(point))
    with _tf.building(point.graph):
      return tf.placeholder(point.dtype, point.shape,
                            name="at/" + point.op.name.lstrip("_"))

  return memos.once(point.graph, ("at", point.name), build)


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
  known = memos.memo_of(tensor.graph).built.get(key)
  if known is None and tensor.graph.finalized:
    return tensor, False

  def build():
    with _tf.building(tensor.graph):
      return tf.raw_ops.Snapshot(input=tensor)

  return memos.once(tensor.graph, key, build), True


def _user_of(tensor, found):
  for consumer in tensor.consumers():
    if consumer.name in found:
      return "{} '{}'".format(consumer.type, consumer.name)
  return "the outputs"


def _check_fetch(item):
  """A tensor inside a while loop has a value at each turn, and none after."""
  op = item if isinstance(item, tf.Operation) else item.op
  if _tf.is_inside_while(op):
    raise errors.ArgumentError(
        "{} cannot be evaluated.".format(tensors.describe(item)),
        "It is inside a while loop, where it has a value at each turn.",
        "Take the output of the loop, or collect the values in a TensorArray.")


def _check_assignments(found, wanted):
  changing = paths.assigning(found)
  if changing:
    raise errors.AssignmentError(
        "Evaluating {} would run {}.".format(
            ", ".join("'{}'".format(t.name) for t in wanted[:3]),
            tensors.describe_all(changing[:4])),
        "That changes a variable at each call, and whether the value before or "
        "after is read is left to chance.",
        "Take outputs that do not depend on it (moving averages: build the "
        "network with is_training=False, or with updates in "
        "tf.GraphKeys.UPDATE_OPS), or run it with gradfeed.run.")


def _check_races(found, wanted):
  """A derivative must not read a variable while the same run changes it."""
  known = memos.memo_of(wanted[0].graph).derivatives if wanted else {}
  derivatives = [t for t in wanted
                 if isinstance(t, tf.Tensor) and t.name in known]
  changing = paths.assigning(found) if derivatives else []
  for op in changing:
    before = paths.ancestors([op])
    changed = {t.name for t in op.inputs
               if t.op.type in ("VarHandleOp", "VariableV2", "Variable")}
    for derivative in derivatives:
      for reader in paths.ancestors([derivative]).values():
        if reader.name not in before and _reads(reader, changed):
          raise errors.AssignmentError(
              "{} is fetched together with {}.".format(
                  tensors.describe(derivative), tensors.describe(op)),
              "'{}' reads {} while the same run changes it: the derivative "
              "would be at the old weights, the new ones, or some of "
              "each.".format(reader.name, ", ".join(sorted(changed))),
              "Evaluate the derivative in a run of its own.")


def _reads(op, variables):
  for tensor in op.inputs:
    if tensor.name in variables:
      return True
    if tensor.op.type == "Identity" and any(
        t.name in variables for t in tensor.op.inputs):
      return True
  return False


def check_initialized(session, variables):
  """Names every variable that has no value yet, before anything runs.

  Args:
    session: a raw `tf.Session`.
    variables: list of the variables' ops.

  Raises:
    UninitializedError: lists them. Nothing is ever initialised here.
  """
  known = _tf.session_memo(session).setdefault(_INITIALIZED, set())
  unknown = [op for op in variables if op.name not in known]
  empty = uninitialized(session, unknown)
  if empty:
    raise errors.UninitializedError(
        "Not initialised in this session: {}.".format(
            tensors.describe_all(op.outputs[0] for op in unknown
                                 if op.name in empty)),
        "The outputs read them. gradfeed never initialises a variable by "
        "itself: random weights would give a plausible number.",
        "Restore a checkpoint (tf.train.Saver().restore(session, path)) or run "
        "the initialiser, in the same session.")
  known.update(op.name for op in unknown)


def uninitialized(session, variables):
  """The names of those among `variables` (ops) without a value in `session`.

  In a finalized graph that has no op to ask a variable, it is read instead.
  """
  asked = [(op, _is_initialized(op)) for op in variables]
  questions = [(op, question) for op, question in asked
               if question is not None]
  answers = session.run([question for _, question in questions])
  empty = {op.name for (op, _), answer in zip(questions, answers)
           if not answer}
  for op, question in asked:
    if question is None:
      try:
        session.run(_reader(op))
      except tf.errors.FailedPreconditionError:
        empty.add(op.name)
      except errors.ArgumentError:
        continue  # Nothing reads it outside of a loop; TensorFlow will tell.
  return empty


def _reader(variable):
  """An op that fails without the value of `variable`, else the value."""
  read = tensors.read_of(tensors.Point(variable.outputs[0]))
  if read.op is not variable:
    return read.op
  for consumer in read.consumers():
    if consumer.type == "Identity" and not _tf.is_inside_while(consumer):
      return consumer
  return read


class _Initialized:
  """The key under which a session's memo keeps the initialised variables."""


_INITIALIZED = _Initialized()


def _is_initialized(op):
  """The tensor that says whether a variable has a value, or None."""
  handle = op.outputs[0]
  for consumer in handle.consumers():
    if consumer.type in ("VarIsInitializedOp", "IsVariableInitialized"):
      return consumer.outputs[0]
  if op.graph.finalized:
    return None

  def build():
    with _tf.building(op.graph):
      if op.type == "VarHandleOp":
        return tf.raw_ops.VarIsInitializedOp(resource=handle)
      return tf.raw_ops.IsVariableInitialized(ref=handle)

  return memos.once(op.graph, ("is_initialized", op.name), build)
