"""`function` and `run`: tensors of a graph as a callable of NumPy values."""

import collections
from collections import abc
import weakref

import numpy as np

from gradfeed import _tf
from gradfeed import callables
from gradfeed import chunks
from gradfeed import errors
from gradfeed import evaluations
from gradfeed import feeds
from gradfeed import memos
from gradfeed import outputs as outputs_lib
from gradfeed import paths
from gradfeed import sessions
from gradfeed import tensors
from gradfeed._tf import tf

def function(inputs, outputs, session=None, feed_dict=None, points=(),
             timeout=None, chunk=None):
  """Makes a callable: `outputs` of the graph at given values of `inputs`.

  Anything may be an input. A placeholder is fed; everything else (a variable,
  a layer in the middle, an iterator's batch, a constant) is cut: the part of
  the graph between the inputs and the outputs is copied, once, with a
  placeholder in the input's place, and all else is shared with the original.
  The session's own weights are used, and no variable is changed.

  Args:
    inputs: tensor, variable, `tf.SparseTensor` or name, or a list or tuple of
      them (one argument each), possibly nested.
    outputs: tensor, variable, `tf.SparseTensor`, `tf.IndexedSlices` or name,
      or nested lists, tuples and dicts of them.
    session: `tf.Session`, `tf.InteractiveSession`, `MonitoredSession` (no hook
      fires) or a wrapper of one; None for the default session at each call.
    feed_dict: dict from tensors, variables or names to values that are held
      for every call. Values are taken now; the dict is not kept.
    points: tensors among what is fed that lie between the x and the y of a
      derivative in `outputs`. The gradient then goes through them, at the
      value that is given. Without being named here they are refused.
    timeout: float, seconds that one call may take, or None.
    chunk: int, or None: how many rows of a batch are evaluated at a time, so
      that memory does not grow with the batch. The inputs whose first axis is
      of any size are divided along it; every output has to have a row for each
      row. At the first batch that is divided, two rows are evaluated together
      and apart, and refused where that is not the same.

  Returns:
    `Function`.

  Raises:
    FeedError: an input has no effect on the outputs, appears twice, lies
      between x and y of a derivative, or a held value does not fit.
    AssignmentError: the outputs cannot be computed without changing a
      variable.
    FinalizedGraphError: something has to be cut and the graph is closed.
    UnsupportedGraphError: an input that cannot be replaced by a value.
    GraphMismatchError, TensorNotFoundError, ArgumentError, SessionError.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [])
    ...   h = tf.exp(x)
    ...   f = gf.function(h, gf.gradient(h * h, h))
    ...   print(f(5.0))
    10.0
  """
  return Function(
      inputs, outputs, session, feed_dict, points, timeout, chunk)


class Function:
  """What `function` returns: a callable, safe from many threads.

  Attributes:
    needs: list of the placeholders that have no value yet, as `tf.Tensor`;
      pass them in the `feed_dict` of a call.
    graph: `tf.Graph`.
    inputs: list of what is fed, flat, each with a name, dtype and shape.
    outputs: list of `tf.Tensor`, flat; of what is put together from several
      tensors, the first.
    structure: the outputs as they were given.
  """

  def __init__(self, inputs, outputs, session, feed_dict, points, timeout,
               chunk):
    self.graph = (sessions.graph_of(session) if session is not None
                  else tensors.graph_of(inputs, outputs))
    self._structures = (list(inputs) if isinstance(inputs, (list, tuple)) and
                        not isinstance(inputs, tf.SparseTensorValue)
                        else [inputs])
    self._inputs = [tensors.resolve(leaf, self.graph, "input")
                    for leaf in tensors.flatten(self._structures)]
    self.structure = outputs
    flat = tensors.flatten(outputs)
    if not flat:
      raise errors.ArgumentError(
          "There are no outputs.", "There is nothing to evaluate.",
          "Pass at least one tensor.")
    self._outputs = [outputs_lib.resolve(leaf, self.graph) for leaf in flat]
    self._is_single = not tensors.is_container(outputs)
    self.inputs = list(self._inputs)
    self.outputs = [output.tensors()[0] for output in self._outputs]
    self._session = session
    _check_timeout(timeout)
    self._timeout = timeout
    self._points = _names(points, self.graph)
    self._evaluations = {}
    self._chunks = {}
    self._held = _frozen(resolve_feeds(feed_dict, self.graph, self._inputs))
    self._base = self._evaluation(self._held)
    self._base.prepare()
    self.needs = list(self._base.needs)
    self._chunk = chunk
    if chunk is not None:
      chunks.check(chunk, self._base.slots[:self._input_count()],
                   self._outputs)
    self._is_direct = (
        not self.needs and chunk is None and
        len(self._structures) == len(self._inputs) and
        all(isinstance(leaf, tensors.Point) for leaf in self._inputs) and
        not any(map(tensors.is_container, self._structures)))
    self._slots = self._base.slots[:len(self._inputs)]
    self._direct = callables.nothing, callables.nothing
    self._held_arrays = tuple(
        slot.fit(part) for slot, part in zip(
            self._base.slots[self._input_count():],
            [part for leaf, value in self._held.values()
             for part in feeds.split(leaf, value)]))

  def _input_count(self):
    return sum(len(leaf.points()) for leaf in self._inputs)

  def __call__(self, *values, feed_dict=None):
    """Evaluates the outputs.

    Args:
      *values: one for each input: array of the input's shape, and of its dtype
        or of one that can be cast without loss (float64 to float32 will do).
      feed_dict: dict from tensors or names to values for this call, over those
        that are held.

    Returns:
      The structure of the outputs, with NumPy arrays or scalars that belong to
      the caller.

    Raises:
      FeedError: lists every value that does not fit.
      MissingFeedError: lists every placeholder without a value.
      UninitializedError: lists the variables without a value.
      SessionError: no session, a closed one, or one of another graph.
      TimeLimitError: after `timeout` seconds.
      CoupledRowsError: a batch cannot be divided into chunks.
    """
    if not feed_dict and self._is_direct:
      direct_reference, session_reference = self._direct
      direct = direct_reference()
      if direct is not None and (
          self._session is not None or
          session_reference() is tf.get_default_session()):
        try:
          results = direct(values + self._held_arrays)
        except (tf.errors.OpError, RuntimeError) as error:
          raise self._base.explained(
              error, self._session or session_reference()) or error
        if results is not None:
          return results[0] if self._is_single else tensors.pack(
              self.structure, results)
      if len(values) == len(self._slots):
        return self._call_flat(values)
    return self._call(values, feed_dict)

  def _call_flat(self, values):
    """A call with one value for each input, and no other feeds."""
    try:
      values = tuple(map(feeds.Slot.fit, self._slots, values))
    except feeds.Unfit:
      return self._call(values, None)
    session = self._session or sessions.default_session()
    results = self._base.evaluate(session, values + self._held_arrays)
    self._direct = self._base.direct(session), weakref.ref(session)
    return results[0] if self._is_single else tensors.pack(
        self.structure, results)

  def require_rows(self, *values):
    """Refuses outputs whose rows depend on other rows of the inputs.

    Args:
      *values: two rows for each input, which are evaluated together and apart.

    Raises:
      CoupledRowsError: they differ; names the op that may be the reason.
      ArgumentError: an input or an output has no rows.
      The errors of a call.
    """
    evaluation, arrays, session = self._prepared(values, None)
    slots = evaluation.slots[:self._input_count()]
    chunks.check(1, slots, self._outputs)
    chunks.Chunks(1, slots, self._outputs)(
        arrays, lambda part: evaluation.evaluate(session, part))

  def constants(self):
    """What all calls share, at this moment.

    Returns:
      list of arrays: held feeds, then the variables that the outputs read.

    Raises:
      UninitializedError, SessionError.
    """
    found = paths.ancestors(self.outputs, {leaf.name for leaf in self._inputs})
    session = self._session or sessions.default_session()
    variables, reads = paths.variables_read(found, self.outputs), []
    sessions.check_initialized(session, variables)
    for op in variables:
      try:
        reads.append(tensors.read_of(tensors.Point(op.outputs[0])))
      except errors.ArgumentError:
        continue  # Nothing in the graph can tell its value.
    return list(self._held_arrays) + session.run(reads)

  def ends(self):
    """Between which tensors this computes, with placeholders for what is cut.

    Returns:
      (list with the tensor that is fed for each input, None where nothing that
      is computed reads it; list with the tensor of each output), or None where
      an input or an output is put together from several tensors.
    """
    if not all(output.is_plain for output in self._outputs) or not all(
        isinstance(leaf, tensors.Point) for leaf in self._inputs):
      return None
    targets, results = self._base.ends()
    return targets[:len(self._inputs)], results

  def arguments(self, values):
    """What to call this with, where values are not in the inputs' structure.

    Args:
      values: list with the value of each input, flat.

    Returns:
      list with the value of each argument of a call.
    """
    return tensors.pack(self._structures, values)

  def between(self, inputs, outputs):
    """The function with other tensors of the graph in the places of its own.

    Args:
      inputs: list of `tf.Tensor`, one for each input.
      outputs: list of `tf.Tensor`, one for each output.

    Returns:
      `Function` with the same structures, session and time limit, and the same
      values held.
    """
    targets, _ = self._base.ends()
    held = zip(targets[self._input_count():], self._held_arrays)
    return Function(
        tensors.pack(self._structures, inputs),
        tensors.pack(self.structure, outputs), self._session,
        {target: value for target, value in held if target is not None}, (),
        self._timeout, None)

  def _call(self, values, feed_dict):
    """Any call: nested inputs, other feeds, values that are refused."""
    evaluation, arrays, session = self._prepared(values, feed_dict)
    if self._chunk is None:
      results = evaluation.evaluate(session, arrays)
    else:
      results = self._in_chunks(evaluation)(
          arrays, lambda part: evaluation.evaluate(session, part))
    return results[0] if self._is_single else tensors.pack(
        self.structure, results)

  def _prepared(self, values, feed_dict):
    """(evaluation, its arrays, session) of one call."""
    if len(values) != len(self._structures):
      raise errors.FeedError(
          "{} values for {} inputs.".format(
              len(values), len(self._structures)),
          "The inputs are {}.".format(tensors.describe_all(self._inputs)),
          "Pass one value for each, in this order.")
    values = [leaf for structure, value in zip(self._structures, values)
              for leaf in tensors.flatten_as(structure, value)]
    fed = dict(self._held)
    fed.update(resolve_feeds(feed_dict, self.graph, self._inputs))
    fed = _ordered(fed)
    _check_overlaps(fed)
    evaluation = self._evaluation(fed)
    evaluation.require_all_fed()
    arrays = evaluation.fit(values + [value for _, value in fed.values()])
    return evaluation, arrays, self._session or sessions.default_session()

  def _in_chunks(self, evaluation):
    known = self._chunks.get(evaluation)
    if known is None:
      known = self._chunks[evaluation] = chunks.Chunks(
          self._chunk, evaluation.slots[:self._input_count()], self._outputs)
    return known

  def _evaluation(self, fed):
    key = tuple(fed)
    known = self._evaluations.get(key)
    if known is None:
      with memos.memo_of(self.graph).lock:
        known = self._evaluations[key] = evaluations.Evaluation(
            self.graph, self._inputs + [leaf for leaf, _ in fed.values()],
            self._outputs, self._points, self._timeout)
    return known


def run(session, fetches, feed_dict=None, points=(), timeout=None):
  """Takes the place of `session.run`: any feed takes effect or is refused.

  What differs: a value fed to anything but a placeholder is never ignored; a
  feed that nothing reads, a lossy cast and a wrong shape are errors before
  anything runs; so are placeholders without a value and variables that are
  not initialised, all at once; a None among the fetches is explained; the
  same fetches and feeds are compiled once and run in a fraction of the time.

  Args:
    session: a session, as in `function`; None for the default one.
    fetches: tensor, op, variable, `tf.SparseTensor`, `tf.IndexedSlices` or
      name, or nested lists, tuples and dicts of them.
    feed_dict: dict from tensors, variables or names to values. Not changed.
    points: tensors of `feed_dict` between the x and the y of a derivative, as
      in `function`.
    timeout: float, seconds that the run may take, or None.

  Returns:
    The structure of `fetches`: NumPy arrays or scalars, None for an op.

  Raises:
    FeedError, MissingFeedError, UninitializedError, SessionError,
    TimeLimitError: as in `function`.
    DisconnectedError: a fetch is None.
    AssignmentError: a derivative and an op that changes a variable it reads
      are fetched together.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   h = tf.constant(3.0) * 3.0
    ...   print(gf.run(session, tf.exp(-h), {h: 0.0}))
    1.0
  """
  session = session if session is not None else sessions.default_session()
  graph = sessions.graph_of(session)
  _check_mapping(feed_dict)
  _check_timeout(timeout)
  key = ("run", _token(fetches, graph), timeout, _token(points, graph),
         tuple(_token(key, graph) for key in feed_dict or ()))
  evaluation = memos.memo_of(graph).built.get(key)
  if evaluation is None:
    fed = resolve_feeds(feed_dict, graph)
    found = [outputs_lib.resolve(leaf, graph, allow_operations=True)
             for leaf in tensors.flatten(fetches)]
    evaluation = memos.once(graph, key, lambda: evaluations.Evaluation(
        graph, [leaf for leaf, _ in fed.values()], found,
        _names(points, graph), timeout, may_assign=True))
  evaluation.require_all_fed()
  arrays = evaluation.fit(list((feed_dict or {}).values()))
  return tensors.pack(fetches, evaluation.evaluate(session, arrays))


def _names(things, graph):
  return [point.name for leaf in tensors.flatten(things)
          for point in tensors.resolve(leaf, graph, "points").points()]


def _token(thing, graph):
  """A hashable that names what to fetch or to feed."""
  if tensors.is_container(thing):
    keys = list(thing) if isinstance(
        thing, abc.Mapping) else range(len(thing))
    return (type(thing).__name__,) + tuple(
        (key, _token(thing[key], graph)) for key in keys)
  thing = _tf.dereference(thing)
  if isinstance(thing, (tf.Tensor, tf.Operation)) and (
      not _tf.is_eager(thing)) and thing.graph is graph:
    return thing.name
  if isinstance(thing, str):
    return thing
  # Whatever is left is told apart by what it is, and checked when resolved.
  parts = [getattr(thing, attribute, None) for attribute in (
      "values", "indices", "dense_shape")]
  return (type(thing).__name__, id(getattr(thing, "graph", None)),
          getattr(thing, "name", None) if parts[0] is None else tuple(
              getattr(part, "name", None) for part in parts))


def resolve_feeds(feed_dict, graph, inputs=()):
  """The keys of a `feed_dict` as leaves, none of them twice.

  Args:
    feed_dict: dict from tensors, variables or names to values, or None.
    graph: `tf.Graph`.
    inputs: leaves that get their values otherwise.

  Returns:
    dict from the leaf's name and kind to (leaf, value), in the order of
    `feed_dict`.

  Raises:
    FeedError: lists the keys that are unknown or name one tensor twice.
  """
  _check_mapping(feed_dict)
  feed_dict = feed_dict or {}
  fed, problems = collections.OrderedDict(), []
  taken = {point.name for leaf in inputs for point in leaf.points()}
  if len(taken) < sum(len(leaf.points()) for leaf in inputs):
    problems.append(("the inputs", "one of them appears twice"))
  for key, value in feed_dict.items():
    try:
      leaf = tensors.resolve(key, graph, "feed")
    except (errors.TensorNotFoundError, errors.ArgumentError,
            errors.GraphMismatchError) as error:
      problems.append((repr(key), "{} {}".format(error.what, error.why)))
      continue
    names = {point.name for point in leaf.points()}
    if names & taken:
      problems.append((leaf, "it has a value already; two keys, or a key and "
                       "an input, name the same tensor"))
    taken |= names
    fed[leaf.name, type(leaf).__name__] = (leaf, value)
  if problems:
    raise feeds.feed_error(problems)
  return fed


def _check_overlaps(fed):
  """A held sparse tensor, say, and a call's value for a part of it."""
  taken = {}
  for leaf, _ in fed.values():
    for point in leaf.points():
      if point.name in taken:
        raise feeds.feed_error([feeds.Problem(
            leaf, "'{}' has a value already, through {}".format(
                point.name, tensors.describe(taken[point.name])))])
      taken[point.name] = leaf


def _check_timeout(timeout):
  if timeout is not None and not (
      isinstance(timeout, (int, float)) and timeout > 0):
    raise errors.ArgumentError(
        "timeout={!r} is no time.".format(timeout),
        "It is the seconds that one run may take.",
        "Pass a positive number, or None for no limit.")


def _check_mapping(feed_dict):
  if feed_dict is not None and not isinstance(feed_dict, abc.Mapping):
    raise errors.ArgumentError(
        "feed_dict is a {}.".format(type(feed_dict).__name__),
        "It maps tensors to values.", "Pass a dict: {tensor: value}.")


def _ordered(fed):
  return collections.OrderedDict(sorted(fed.items()))


def _frozen(fed):
  """Held values as they are now, whatever becomes of the caller's arrays."""
  frozen, problems = {}, []
  for name, (leaf, value) in fed.items():
    try:
      parts = [np.array(feeds.Slot(point).fit(part))
               if _tf.numpy_dtype(point.dtype) else part
               for point, part in zip(leaf.points(),
                                      feeds.split(leaf, value))]
    except feeds.Unfit as unfit:
      problems.append((leaf, str(unfit)))
      continue
    if isinstance(leaf, tensors.Sparse):
      value = tuple(parts)
    elif isinstance(leaf, tensors.Partitioned):
      value = np.concatenate(parts, leaf.axis)
    else:
      value = parts[0]
    frozen[name] = (leaf, value)
  if problems:
    raise feeds.feed_error(problems)
  return _ordered(frozen)
