"""Checks of a session before a call: is it open, are variables initialised.

A session does not survive `os.fork`: its threads are not there in the child,
and a run waits for them for ever. So sessions are marked with the process that
they were first used in, and what holds one is told of a fork.
"""

import os
import weakref

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import tensors
from gradfeed.graph import traversal


def default_session():
  """The default session of the calling thread.

  Raises:
    SessionError: there is none.
  """
  session = tf.get_default_session()
  if session is None:
    raise errors.SessionError(
        "There is no session.",
        "None was given, and no `with session:` block surrounds the call.",
        "Pass session=..., or call inside `with tf.Session() as session:`.")
  return session


def graph_of(session):
  """The graph that `session` runs; refuses what is no session."""
  if _tf.is_closed(session):
    raise closed()
  graph = getattr(session, "graph", None)
  if not isinstance(graph, tf.Graph) or not hasattr(session, "run") or (
      isinstance(session, tf.Operation)):
    raise errors.SessionError(
        "{!r} is not a session.".format(session),
        "It is a {}, and has no graph to run.".format(
            type(session).__name__),
        "Pass a tf.Session, a MonitoredSession or a wrapper of one.")
  return graph


def check_open(session, graph):
  """Refuses a session that is closed or runs another graph."""
  if graph_of(session) is not graph:
    raise errors.SessionError(
        "The session runs another graph.",
        "The outputs are not in it.",
        "Pass a session made for their graph: "
        "tf.Session(graph=outputs.graph).")


class _Process:
  """This process, among the ones that forks made.

  Attributes:
    generation: int, how many forks it is away from the first process.
    callbacks: weak dict from what `on_fork` was called for to the function.
  """

  generation = 0
  callbacks = weakref.WeakKeyDictionary()


class _ProcessKey:
  """The type of the key of the process in a session's cache."""


_PROCESS = _ProcessKey()


def on_fork(holder, callback):
  """Has `callback(holder)` called in each child, as long as `holder` lives."""
  _Process.callbacks[holder] = callback


def _after_fork():
  """Called in the child; what took the fast path finds out at its next call."""
  _Process.generation += 1
  for holder, callback in list(_Process.callbacks.items()):
    callback(holder)


if hasattr(os, "register_at_fork"):  # Where there is a fork.
  os.register_at_fork(after_in_child=_after_fork)


def check_process(session):
  """Refuses a session that was used before this process was forked.

  Args:
    session: whatever stands for a session; marked if it is a new one.
  """
  innermost = _tf.innermost_session(session)
  if hasattr(innermost, "__dict__") and _tf.session_cache(
      innermost).setdefault(_PROCESS, _Process.generation) != (
          _Process.generation):
    raise forked("The session")


def forked(what):
  """The error for something that a fork left without its threads.

  Args:
    what: str, what cannot be used.
  """
  return errors.SessionError(
      "{} was made before this process was forked.".format(what),
      "A fork has none of the threads of TensorFlow: a run would wait for them "
      "for ever.",
      "Make the session and the function after the fork, in the process that "
      "calls it; or start processes with multiprocessing's 'spawn'.")


def closed():
  """The error for a session that is closed."""
  return errors.SessionError(
      "The session is closed.", "Attempted to use a closed Session.",
      "Evaluate inside its `with` block, or pass an open session.")


class Uncompiled:
  """Evaluates a `CallSpec` by the `run` of a session that wraps another.

  Called as a `callables.Compiled` is, with the list of fed arrays.
  """

  def __init__(self, session, call_spec, options=None, run_metadata=None):
    """Takes what is run.

    Args:
      session: whatever stands for a session.
      call_spec: `callables.CallSpec`.
      options: `tf.RunOptions`, or None.
      run_metadata: `tf.RunMetadata`, or None.
    """
    self._session = session
    self._call_spec = call_spec
    self._arguments = {}
    if call_spec.timeout is not None:
      limit = _tf.milliseconds(call_spec.timeout)
      options = tf.RunOptions.FromString(
          b"" if options is None else options.SerializeToString())
      options.timeout_in_ms = limit
    if options is not None:
      self._arguments["options"] = options
    if run_metadata is not None:
      self._arguments["run_metadata"] = run_metadata

  def __call__(self, arrays):
    """Runs once; the results belong to the caller."""
    fetches = [list(self._call_spec.fetches), [
        self._session.graph.get_operation_by_name(name)
        for name in self._call_spec.targets]]
    results = _tf.session_run(
        self._session, fetches, feed_dict=dict(zip(
            [self._session.graph.get_tensor_by_name(name)
             for name in self._call_spec.feeds],
            [array if _tf.is_session_handle(array) else np.array(array)
             for array in arrays])), **self._arguments)
    if isinstance(results, tf.errors.OpError):
      raise results  # A session for debugging returns what was raised.
    results = results[0]
    return [np.array(r) if isinstance(r, np.ndarray) else r for r in results]


def check_initialized(session, variables, adds_ops=True, anew=False):
  """Names every variable that has no value yet, before anything runs.

  Args:
    session: a raw `tf.Session`.
    variables: list of the variables' ops.
    adds_ops: bool, whether ops that tell it may be added to the graph.
    anew: bool, whether to ask for those that had a value before, too: one that
      is destroyed has none any more.

  Raises:
    UninitializedError: lists them. Nothing is ever initialised here.
  """
  initialized = _tf.session_cache(session).setdefault(_INITIALIZED, set())
  if anew:
    initialized.difference_update([op.name for op in variables])
  unchecked = [op for op in variables if op.name not in initialized]
  if not unchecked:
    return
  empty = set() if _can_be_read(session, unchecked) else uninitialized(
      session, unchecked, adds_ops)
  if empty:
    raise errors.UninitializedError(
        "Not initialised in this session: {}.".format(
            tensors.describe_all(op.outputs[0] for op in unchecked
                                 if op.name in empty)),
        "The outputs read them. gradfeed never initialises a variable by "
        "itself: random weights would give a plausible number.",
        "Restore a checkpoint (tf.train.Saver().restore(session, path)) or run "
        "the initialiser, in the same session.")
  initialized.update(op.name for op in unchecked)


def set_initialized(session, names):
  """Remembers that variables have values, of which no run has to tell it.

  Args:
    session: whatever stands for a session.
    names: set of the names of the variables' ops.
  """
  _tf.session_cache(_tf.innermost_session(session)).setdefault(
      _INITIALIZED, set()).update(names)


def values_of(session, variables):
  """The values of variables, where something in the graph can tell them.

  Args:
    session: whatever stands for a session.
    variables: list of the variables' ops.

  Returns:
    list of arrays.
  """
  check_initialized(session, variables)
  reads = []
  for op in variables:
    try:
      reads.append(tensors.read_of(tensors.Dense(op.outputs[0])))
    except errors.ArgumentError:
      continue  # Nothing in the graph can tell its value.
  return _tf.session_run(session, reads)


def new_read(variable):
  """A tensor with the value of a resource variable; the op is added once.

  Args:
    variable: `tensors.Dense`, the handle.

  Raises:
    FinalizedGraphError.
  """

  def build():
    cache.check_not_finalized(
        variable.graph, "Reading the variable {}".format(variable))
    with _tf.building(variable.graph):
      return tf.raw_ops.ReadVariableOp(
          resource=variable.tensor, dtype=variable.dtype)

  return cache.cached(variable.graph, ("read", variable.name), build)


def assignment(variable):
  """Adds what assigns to a variable, once.

  Args:
    variable: `tensors.Dense`.

  Returns:
    (placeholder, `tf.Operation` that assigns its value).

  Raises:
    FinalizedGraphError.
  """

  def build():
    cache.check_not_finalized(
        variable.graph, "Writing to the variable {}".format(variable))
    with _tf.building(variable.graph):
      value = tf.placeholder(variable.dtype, variable.shape)
      if variable.is_handle:
        return value, tf.raw_ops.AssignVariableOp(
            resource=variable.tensor, value=value)
      return value, tf.assign(variable.tensor, value).op

  return cache.cached(variable.graph, ("assign", variable.name), build)


def _can_be_read(session, variables):
  """Whether variables have values, found out without new ops where possible.

  Args:
    session: a raw `tf.Session`.
    variables: list of the variables' ops.

  Returns:
    bool; False where there are no ops to find out with.
  """
  readers = [_reader_that_is_there(op) for op in variables]
  if None in readers:
    return False
  try:
    _tf.session_run(session, readers)
  except (tf.errors.FailedPreconditionError, tf.errors.NotFoundError):
    return False
  return True


def _reader_that_is_there(variable):
  """An op of the graph that fails if `variable`, an op, has no value; or None.
  """
  reading = "ReadVariableOp" if variable.type == "VarHandleOp" else "Identity"
  for consumer in traversal.consumers(variable.outputs[0]):
    if consumer.type == reading and not (
        _tf.is_inside(consumer) or consumer.control_inputs):
      return consumer
  return None


def uninitialized(session, variables, adds_ops=True):
  """The variables that have no value in `session`.

  A variable that has no op which tells whether it is initialised, and may get
  none, is read instead.

  Args:
    session: a raw `tf.Session`.
    variables: list of the variables' ops.
    adds_ops: bool, whether such ops may be added, if the graph is not closed.

  Returns:
    set of the names of ops.
  """
  predicates = _predicates(variables, adds_ops)
  testable = [(op, predicate) for op, predicate in predicates
              if predicate is not None]
  values = _tf.session_run(
      session, [predicate for _, predicate in testable])
  empty = {op.name for (op, _), value in zip(testable, values) if not value}
  for op, predicate in predicates:
    if predicate is None:
      try:
        _tf.session_run(session, _reader(op))
      except tf.errors.FailedPreconditionError:
        empty.add(op.name)
      except errors.ArgumentError:
        continue  # Nothing reads it outside of a loop; TensorFlow will tell.
  return empty


def _reader(variable):
  """An op (or a tensor) whose run fails if `variable`, an op, has no value."""
  read = tensors.read_of(tensors.Dense(variable.outputs[0]))
  if read.op is not variable:
    return read.op
  for consumer in traversal.consumers(read):
    if consumer.type == "Identity" and not _tf.is_inside_while(consumer):
      return consumer
  return read


class _Initialized:
  """The type of the key of the initialised variables in a session's cache."""


_INITIALIZED = _Initialized()


def _predicates(variables, adds_ops):
  """Booleans that tell whether variables have values.

  Args:
    variables: list of the variables' ops, of one graph.
    adds_ops: bool, whether what is not there may be added.

  Returns:
    list of (op, `tf.Tensor`, or None where there is none and none can be
    added).
  """
  found = [(op, _found_predicate(op)) for op in variables]
  if not adds_ops or all(predicate is not None for _, predicate in found) or (
      variables[0].graph.finalized):
    return found
  graph = variables[0].graph
  with cache.cache_of(graph).lock, _tf.building(graph):
    return [(op, _built_predicate(op) if predicate is None else predicate)
            for op, predicate in found]


def _found_predicate(op):
  """The tensor in the graph that tells whether a variable has a value."""
  for consumer in traversal.consumers(op.outputs[0]):
    if consumer.type in ("VarIsInitializedOp", "IsVariableInitialized"):
      return consumer.outputs[0]
  return None


def _built_predicate(op):
  """Builds what `_found_predicate` did not find."""
  if op.type == "VarHandleOp":
    return tf.raw_ops.VarIsInitializedOp(resource=op.outputs[0])
  return tf.raw_ops.IsVariableInitialized(ref=op.outputs[0])
