"""`Function`: tensors of a graph as a callable of NumPy values."""

import weakref

from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation.calls import callables
from gradfeed.evaluation.calls import jit
from gradfeed.evaluation import chunks
from gradfeed.evaluation import executables
from gradfeed.evaluation import fetchables
from gradfeed.evaluation.inputs import arguments as arguments_lib
from gradfeed.evaluation.inputs import call_forms
from gradfeed.evaluation.inputs import feed_dicts
from gradfeed.evaluation.inputs import feeds
from gradfeed.evaluation import sessions
from gradfeed.graph import cache
from gradfeed.graph import effects
from gradfeed.graph import nest
from gradfeed.graph import tensors
from gradfeed.graph import traversal

#: How many `executables.Executable`s are kept for other values of one feed.
_MOST_DECISIONS = 32


class Function:
  """What `gradfeed.function` returns: a callable, safe from many threads.

  Attributes:
    needs: list of the placeholders that have no value yet, as `tf.Tensor`;
      pass them in the `feed_dict` of a call.
    graph: `tf.Graph`.
    inputs: list of what is fed, flat, each with a name, dtype and shape.
    outputs: list of `tf.Tensor`, flat; of what is put together from several
      tensors, the first.
    structure: the outputs as they were given.
    held: dict of what is held for every call, as `feed_dicts.resolve_feeds`
      gives it.
  """

  def __init__(self, inputs, outputs, session, feed_dict, points, timeout,
               chunk, on_unused_input="warn", jit_compile=None):
    self.graph = (sessions.graph_of(session) if session is not None
                  else tensors.graph_of(inputs, outputs))
    self._form = call_forms.CallForm(inputs, self.graph)
    self._inputs = self._form.leaves
    self.structure = outputs
    self._outputs = fetchables.resolve_all(outputs, self.graph)
    self._is_single = not nest.is_container(outputs)
    self.inputs = list(self._inputs)
    self.outputs = [output.tensors()[0] for output in self._outputs]
    self._session = session
    if session is not None:
      sessions.check_process(session)
    arguments_lib.check_timeout(timeout)
    arguments_lib.check_on_unused_input(on_unused_input)
    jit.check_mode(jit_compile)
    self._jit_compile = jit_compile or None
    self._timeout = timeout
    self._points = arguments_lib.names(points, self.graph)
    self._executables = {}
    self._chunks = {}
    self.held = feed_dicts.frozen(
        feed_dicts.resolve_feeds(feed_dict, self.graph, self._inputs))
    self._executable = self._executable_for(self.held)
    arguments_lib.report_unused(
        [leaf for leaf in self._inputs if leaf in self._executable.unused],
        on_unused_input)
    self._chunk = chunk
    if chunk is not None:
      chunks.check(chunk, self._input_slots(), self._outputs)
    self._executable.prepare()
    self.needs = list(self._executable.needs)
    self._held_arrays = self._fit_held()
    self._slots = self._executable.slots[:len(self._inputs)]
    self._is_dense = not self.needs and chunk is None and all(
        isinstance(leaf, tensors.Dense) for leaf in self._inputs)
    self._takes_flat_values = self._is_dense and not any(
        map(nest.is_container, self._form.structures))
    # Weak references to the fast path of a session, and to that session.
    self._fast_path = callables.no_reference, callables.no_reference
    self._is_forked = False
    sessions.on_fork(self, Function._refuse_from_now_on)

  @property
  def compiled(self):
    """list of the sets of shapes of the inputs that XLA has a program for.

    Each is a tuple with the shape of each value that is fed: that of each input
    on which the outputs depend, then of held values. At most 16 sets have one.
    """
    return self._executable.jit.compiled if self._jit_compile else []

  @property
  def jit(self):
    """str: how calls of each set of shapes are run, and why, a line for each.

    "compiled" or "op by op", and with `jit_compile="auto"` at first "counting",
    "compiling" and "timing". Without `jit_compile`, the sets of shapes whose
    loops are unrolled or that run by a copy.
    """
    substitute = self._executable.jit
    if self._jit_compile:
      return substitute.report()
    return "\n".join(["op by op (jit_compile was not asked for)"] + (
        substitute.report_used() if substitute else []))

  def _refuse_from_now_on(self):
    """Called in a child that a fork made: calls are refused from now on."""
    self._is_forked, self._takes_flat_values = True, False
    self._is_dense = False
    self._fast_path = callables.no_reference, callables.no_reference

  def _session_now(self):
    """The session of a call at this moment; refuses one after a fork."""
    if self._is_forked:
      raise sessions.forked("The function")
    return self._session or sessions.default_session()

  def __copy__(self):
    """The function itself, which nothing changes."""
    return self

  def __reduce__(self):
    """Refuses to be pickled."""
    raise errors.ArgumentError(
        "A gf.Function cannot be pickled, nor copied deeply.",
        "It belongs to a session and a graph in the memory of this process.",
        "Send what it is made from: the path of the model and the names of its "
        "tensors; call gf.load and gf.function in the other process.")

  def _fit_held(self):
    """The values that are held for every call, as a tuple of arrays to feed."""
    values = [value for leaf, held in self.held.values()
              for value in feeds.split(leaf, held)]
    slots = self._executable.slots[self._input_count():]
    return tuple(map(feeds.Slot.fit, slots, values))

  def _input_slots(self):
    """The slots of the inputs, which come before those of other feeds."""
    return self._executable.slots[:self._input_count()]

  def _input_count(self):
    """The number of dense tensors of all inputs."""
    return sum(len(leaf.components()) for leaf in self._inputs)

  def __call__(self, *values, feed_dict=None, **named):
    """Evaluates the outputs.

    Args:
      *values: one for each input: array of the input's shape, and of its dtype
        or of one that can be cast without loss (float64 to float32 will do).
        All in one list (or by name in one dict) will do for several inputs.
      **named: the values of inputs that are passed by name: that of the
        tensor, without scopes, or the key in a dict of inputs.
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
    if self._takes_flat_values and not named and (
        feed_dict is None or type(feed_dict) is dict and not feed_dict):
      fast_path_reference, session_reference = self._fast_path
      fast_path = fast_path_reference()
      if fast_path is not None and (
          self._session is not None or
          session_reference() is tf.get_default_session()):
        try:
          results = fast_path(values + self._held_arrays)
        except (tf.errors.OpError, RuntimeError) as error:
          raise self._executable.translate(
              error, self._session or session_reference(),
              values + self._held_arrays) or error
        if results is not None:
          return results[0] if self._is_single else nest.pack(
              self.structure, results)
      if len(values) == len(self._slots):
        return self._call_flat(values, self._session_now())
    return self._call(values, named, feed_dict)

  def _call_flat(self, values, session):
    """A call with one value for each dense input, and no other feeds."""
    try:
      arrays = tuple(map(feeds.Slot.fit, self._slots, values))
    except feeds.Unfit:
      return self._evaluate(session, values, None)
    arrays += self._held_arrays
    fast_path_reference, session_reference = self._fast_path
    fast_path = fast_path_reference()
    results = None
    if fast_path is not None and session_reference() is session:
      try:
        results = fast_path(arrays)
      except (tf.errors.OpError, RuntimeError) as error:
        raise self._executable.translate(error, session, arrays) or error
    if results is None:
      results = self._executable.evaluate(session, arrays)
      self._fast_path = (self._executable.fast_path(session),
                         weakref.ref(session))
    return self._packed(results)

  def _packed(self, results):
    """The values of the outputs in their structure."""
    return results[0] if self._is_single else nest.pack(
        self.structure, results)

  def require_rows(self, *values):
    """Refuses outputs whose rows depend on other rows of the inputs.

    Args:
      *values: two rows for each input, which are evaluated together and apart.

    Raises:
      CoupledRowsError: they differ; names the op that may be the reason.
      ArgumentError: an input or an output has no rows; or as in a call.
    """
    executable, arrays = self._prepare_call(self._form.bind(values), None)
    session = self._session_now()
    slots = executable.slots[:self._input_count()]
    chunks.check(1, slots, self._outputs)
    chunks.Chunks(1, slots, self._outputs)(
        arrays, lambda rows: executable.evaluate(session, rows))

  def constants(self):
    """What all calls share, at this moment.

    Returns:
      list of arrays: held feeds, then the variables that the outputs read.

    Raises:
      UninitializedError, SessionError.
    """
    ops = traversal.ancestors(self.outputs,
                              {leaf.name for leaf in self._inputs})
    return list(self._held_arrays) + sessions.values_of(
        self._session_now(), effects.variables_read(ops, self.outputs))

  def ends(self):
    """Between which tensors this computes, with placeholders for what is cut.

    Returns:
      (list with the tensor that is fed for each input, None where nothing that
      is computed reads it; list with the tensor of each output), or None where
      an input or an output is put together from several tensors.
    """
    if not all(output.is_plain for output in self._outputs) or not all(
        isinstance(leaf, tensors.Dense) for leaf in self._inputs):
      return None
    targets, results = self._executable.ends()
    return targets[:len(self._inputs)], results

  def arguments(self, values):
    """What to call this with, where values are not in the inputs' structure.

    Args:
      values: list with the value of each input, flat.

    Returns:
      list with the value of each argument of a call.
    """
    arguments_lib.check_list("values", values, len(self._inputs))
    return nest.pack(self._form.structures, values)

  def between(self, inputs, outputs):
    """The function with other tensors of the graph in the places of its own.

    Args:
      inputs: list of `tf.Tensor`, one for each input.
      outputs: list of `tf.Tensor`, one for each output.

    Returns:
      `Function` with the same structures, session and time limit, and the same
      values held.
    """
    arguments_lib.check_list("inputs", inputs, len(self._inputs))
    arguments_lib.check_list("outputs", outputs, len(self._outputs))
    targets, _ = self._executable.ends()
    held = zip(targets[self._input_count():], self._held_arrays)
    return Function(
        nest.pack(self._form.structures, inputs),
        nest.pack(self.structure, outputs), self._session,
        {target: value for target, value in held if target is not None}, (),
        self._timeout, None, "ignore", self._jit_compile)

  def _call(self, values, named, feed_dict):
    """Any call: nested inputs, names, other feeds, values that are refused."""
    session = self._session_now()
    flat = self._form.bind(values, named)
    arguments_lib.check_mapping(feed_dict)
    if self._is_dense and not feed_dict:
      return self._call_flat(flat, session)
    return self._evaluate(session, flat, feed_dict)

  def _evaluate(self, session, flat, feed_dict):
    """A call with the value of each leaf of the inputs, and other feeds."""
    try:
      executable, arrays = self._prepare_call(flat, feed_dict)
    except errors.FeedError as error:
      error.fix += self._form.hint(flat)
      raise
    if self._chunk is None:
      results = executable.evaluate(session, arrays)
    else:
      if executable not in self._chunks:
        self._chunks[executable] = chunks.Chunks(
            self._chunk, executable.slots[:self._input_count()], self._outputs)
      results = self._chunks[executable](
          arrays, lambda rows: executable.evaluate(session, rows))
    return self._packed(results)

  def _prepare_call(self, flat, feed_dict):
    """Checks the values of one call.

    Args:
      flat: list with the value of each leaf of the inputs.
      feed_dict: as in a call.

    Returns:
      (`executables.Executable`, list of its arrays).
    """
    fed = dict(self.held)
    fed.update(feed_dicts.resolve_feeds(feed_dict, self.graph, self._inputs))
    fed = feed_dicts.ordered(fed)
    feed_dicts.check_overlaps(fed)
    executable = self._executable_for(fed)
    executable.require_all_fed()
    return executable, executable.fit(
        list(flat) + [value for _, value in fed.values()])

  def _executable_for(self, fed):
    """The `executables.Executable` with these feeds; made once.

    Values that decide which branches of conditionals are taken have one each.

    Args:
      fed: ordered dict, as `feed_dicts.resolve_feeds` gives it.
    """
    made = self._executables.setdefault(tuple(fed), [])
    for executable in made:
      if executable.serves(fed):
        return executable
    with cache.cache_of(self.graph).lock:
      try:
        executable = executables.Executable(
            self.graph, self._inputs + [leaf for leaf, _ in fed.values()],
            self._outputs, self._points, self._timeout,
            held=lambda: feed_dicts.held_values(fed),
            jit_compile=self._jit_compile)
      except errors.AssignmentError:
        # A value that does not fit decides nothing, and is the reason.
        feed_dicts.held_values(fed, strict=True)
        raise
      made.append(executable)
      del made[1:-_MOST_DECISIONS]
    return executable
