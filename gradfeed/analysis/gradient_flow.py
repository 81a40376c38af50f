"""Which ops and tensors a gradient passes between ys and xs."""

import collections

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import unpassed_inputs
from gradfeed.graph import op_types
from gradfeed.graph import traversal

#: Ops whose gradient is registered as zero.
ZERO = ("Sign",)

#: Ops that write numbers in another form: as bits, as text.
_REWRITING = frozenset(["AsString", "Bitcast", "SerializeTensor"])

#: Ops that no gradient passes though they are functions of numbers as smooth as
#: what is behind them: Python code, another form of the same numbers, and those
#: that a sweep over single ops cannot try.
_OPAQUE = _REWRITING | frozenset(["PyFunc", "PyFuncStateless", "RandomShuffle"])


#: dict from a dtype to whether gradients pass tensors of it.
_trainable = {}


class GradientFlow:
  """The ops and tensors that the gradient of `ys` passes, also in functions.

  Attributes:
    trace: the `GradientTrace` of the graph itself.
    traces: list of (op of the graph or None, `GradientTrace`): the trace of the
      graph itself first; then those of what its ops call, and what these call.
    tensors: set of the names of the tensors of the graph that a gradient
      arrives at.
  """

  def __init__(self, trace, ys, root=None, outer=None):
    """Follows the gradient.

    Args:
      trace: `GradientTrace` of `ys`.
      ys: list of `tf.Tensor`.
      root: `tf.Graph` whose library holds the functions; None for that of ys.
      outer: the op of the root whose functions `ys` are in, or None.
    """
    self.traces = [(outer, trace)]
    self.tensors = set()
    self.trace, self._outer = trace, outer
    self._root = root or ys[0].graph
    self._inputs = {}
    queue = list(ys)
    while queue:
      tensor = queue.pop()
      if tensor.name not in self.tensors:
        self.tensors.add(tensor.name)
        if tensor.op.name in trace.path and tensor.name not in trace.stopped:
          queue.extend(self._before(tensor.op))

  def _before(self, op):
    """The inputs of `op` that a gradient reaches from its outputs."""
    call = op_types.FUNCTION_CALLS.get(op.type)
    skipped = 0 if call is None else call.first_argument
    names = _callees(op, call)
    if self.trace.folded is not None:
      names = self.trace.folded.callees_among(op, names)
    bodies = [_body(self._root, name) for name in names]
    if any(body is None for body in bodies):
      return differentiable_inputs(op)
    if op.name not in self._inputs:
      self._inputs[op.name] = self._through(op, bodies, skipped)
    return self._inputs[op.name]

  def _through(self, op, bodies, skipped):
    """The inputs of an op that a gradient reaches through its functions.

    Args:
      op: `tf.Operation`.
      bodies: list of graphs, one for each function that it calls.
      skipped: int, the number of its inputs before the first argument.
    """
    wanted = {i for i, t in enumerate(op.outputs) if (
        t.name in self.trace.tensors and t.name not in self.trace.stopped)}
    given = {i - skipped for i, t in enumerate(op.inputs)
             if i >= skipped and self.trace.depends(t)}
    reached = set()
    for body in bodies:
      flow, arguments = self._inside(
          op, body, given, wanted, op.type in op_types.FUNCTIONAL_LOOPS)
      if flow is not None:
        self.traces.extend(flow.traces)
        reached |= arguments
    return [t for t in differentiable_inputs(op)
            if any(t is op.inputs[i + skipped] for i in reached)]

  def _inside(self, op, body, given, wanted, is_loop):
    """Follows the gradient in the body of one function.

    Args:
      op: `tf.Operation` that calls it.
      body: graph with `inputs` and `outputs`.
      given: set of int, the arguments that depend on an x.
      wanted: set of int, the results that a gradient arrives at.
      is_loop: whether the results are the arguments of the next turn.

    Returns:
      (`GradientFlow` or None, set of int: the arguments that it reaches).
    """
    flow, reached = None, set()
    while True:
      ys = [body.outputs[i] for i in sorted(wanted)
            if _tf.is_trainable_dtype(body.outputs[i].dtype)]
      if not ys or not given:
        return flow, reached
      trace = GradientTrace(ys, [body.inputs[i] for i in sorted(given)])
      flow = GradientFlow(trace, ys, self._root, self._outer or op)
      reached = {i for i in given if body.inputs[i].name in flow.tensors}
      # What comes out of one turn of a loop goes into the next.
      after = {i for i, t in enumerate(body.outputs) if trace.depends(t)}
      if not is_loop or (after <= given and reached <= wanted):
        return flow, reached
      given, wanted = given | after, wanted | reached


def _callees(op, call):
  """The names of the functions that an op calls and a gradient may pass.

  Args:
    op: `tf.Operation`.
    call: `op_types.FunctionCall` of its type; None for an op of TF 1's Defun,
      whose type is the name of its function.
  """
  if call is None:
    return [op.type]
  # No gradient passes the condition of a loop.
  attributes = [op.node_def.attr[name] for name in call.functions
                if name != "cond"]
  return [function.name for attribute in attributes
          for function in attribute.list.func or [attribute.func]]


def _body(graph, name):
  """The body of a function as a graph; None if `name` is no function."""
  definition = _tf.function_definition(graph, name)
  if definition is None:
    return None
  return _tf.traced_graph(graph, name, definition) or _tf.function_graph(
      graph, definition)


class GradientTrace:
  """The ops of one graph that the gradient of `ys` by `xs` passes.

  It is found before anything is built, from the types of the ops.

  Attributes:
    reached: dict from name to op that depends on x and that a gradient
      arrives at.
    tensors: set of the names of the tensors that a gradient arrives at.
    blocked: dict from name to op that a gradient arrives at and does not pass.
    missing: list of ops between x and y that have no registered gradient.
    second_order: list of ops of gradients of loops of control flow v1, which
      have no gradient themselves: those that take from a stack what depends on
      x, and the ends of such loops.
    path: dict from name to op between x and y that a gradient passes.
    stopped: set of the names of the tensors that are held constant.
    folded: `branches.folding.Folding` or None, as it was passed.
  """

  def __init__(self, ys, xs, stops=(), folded=None):
    """Follows the gradient.

    Args:
      ys: list of `tf.Tensor`.
      xs: list of `tf.Tensor`.
      stops: list of `tf.Tensor` that are held constant.
      folded: `branches.folding.Folding`, so that branches which are not taken
        are left out; or None.
    """
    self.folded = folded
    self.reached = collections.OrderedDict()
    self.blocked = collections.OrderedDict()
    self.tensors = set()
    self.second_order = []
    self.stopped = {stop.name for stop in stops}
    self._xs = {x.name for x in xs}
    self._sources = list(xs)
    self._on_path = self._carrying = None
    # From x on, as TensorFlow does: what lies above x does not matter.
    self._dependent = traversal.dependents(xs)
    if folded is not None:
      self._dependent = folded.dependents_among(self._dependent, self._xs)
    self.missing = self._walk(ys)
    self.path = collections.OrderedDict(
        (name, op) for name, op in self.reached.items()
        if name not in self.blocked)

  def settings(self):
    """What the gradient functions of the user that it calls read.

    The gradient is another one once a setting has changed.

    Returns:
      tuple; None where a setting may change without a trace.
    """
    by_op = list(map(_tf.gradient_settings, self.path.values()))
    return None if None in by_op else sum(filter(None, by_op), ())

  def has_arrays(self):
    """Whether it passes ops of a `TensorArray`."""
    return any(op.type.startswith(op_types.TENSOR_ARRAY)
               for op in self.path.values())

  def is_on_path(self, tensor):
    """Whether a gradient arrives at `tensor` and goes on to an x."""
    if self._on_path is None:
      self._on_path = self._forward()
    return tensor.name in self._on_path

  def depends(self, tensor):
    """Whether `tensor` is an x, or is computed from one in some way."""
    return tensor.name in self._xs or tensor.op.name in self._dependent

  def carries(self, tensor):
    """Whether the value of `tensor` depends on that of an x.

    What depends on the shape of an x alone does not, nor what depends on it
    through a tensor that is held constant.
    """
    if self._carrying is None:
      self._carrying = traversal.dependents(
          self._sources, op_types.VALUE_INDEPENDENT, self.stopped)
    return tensor.name in self._xs or (
        tensor.name not in self.stopped and tensor.op.name in self._carrying)

  def _forward(self):
    """The names of the tensors on the path that depend on an x along it."""
    readers = collections.defaultdict(list)
    for op in self.path.values():
      for tensor in differentiable_inputs(op):
        readers[tensor.name].append(op)
    names, queue = set(), [name for name in self._xs if name in self.tensors]
    passed = self.tensors - self.stopped
    while queue:
      name = queue.pop()
      if name not in names:
        names.add(name)
        queue.extend(t.name for op in readers[name] for t in op.outputs
                     if t.name in passed)
    return names

  def _walk(self, ys):
    """Walks back from `ys`; returns the ops without a registered gradient."""
    missing = []
    queue = collections.deque(ys)
    self.tensors.update(y.name for y in ys)
    while queue:
      tensor = queue.popleft()
      op = tensor.op
      if (op.name in self.reached or op.name not in self._dependent or
          tensor.name in self.stopped):
        continue
      if op.type in op_types.POPS or _ends_gradient(op):
        self.second_order.append(op)
      self.reached[op.name] = op
      passes = _passes_gradient(op)
      if passes is None:
        missing.append(op)
      elif not passes:
        self.blocked[op.name] = op
        continue
      for tensor in differentiable_inputs(op):
        if self.folded is None or not self.folded.is_dead(tensor):
          self.tensors.add(tensor.name)
          queue.append(tensor)
    return missing


def hides_dependence(op):
  """Whether `op`, which no gradient passes, may depend on its inputs."""
  return op.type != "StopGradient" and not is_flat(op)


def is_flat(op, inputs=None):
  """Whether `op` is constant but for jumps where some inputs change.

  Args:
    op: `tf.Operation`.
    inputs: list of its inputs, or None for all that are floating.

  Returns:
    bool; False where it is not known.
  """
  if op.type in ZERO:
    return True
  if op.type not in _OPAQUE and op.outputs and all(
      t.dtype.base_dtype.is_integer or t.dtype.base_dtype == tf.bool
      for t in op.outputs):
    return True
  flat = _listed(unpassed_inputs.FLAT, op)
  names = None if inputs is None else {t.name for t in inputs}
  return all(i in flat for i, t in enumerate(op.inputs)
             if _tf.is_trainable_dtype(t.dtype) and (
                 names is None or t.name in names))


def smooth_inputs(op):
  """The inputs that `op` is a smooth function of, and gets no gradient by."""
  if op.type in _OPAQUE:
    return [t for t in op.inputs if _tf.is_trainable_dtype(t.dtype)]
  if op.type in ("Exit", "RefExit"):
    return list(op.inputs) if _has_no_back_prop(op) and (
        _tf.is_trainable_dtype(op.inputs[0].dtype)) else []
  if op.type == "StopGradient" or _normalizes_by_batch(op):
    return []
  return [op.inputs[i] for i in _listed(unpassed_inputs.SMOOTH, op)]


def unpassed(op):
  """The inputs that the gradient of `op` passes nothing to."""
  return [op.inputs[i] for table in (
      unpassed_inputs.SMOOTH, unpassed_inputs.FLAT) for i in _listed(table, op)
          if i < len(op.inputs)]


def _listed(table, op):
  """The indices that a table of `unpassed_inputs` has for an op."""
  return table.get(op.type, ((), ()))[_tf.IS_TF2]


def _normalizes_by_batch(op):
  """Whether `op` is batch normalization that reads no mean and variance."""
  return op.type.startswith("FusedBatchNorm") and op.get_attr("is_training")


def differentiable_inputs(op):
  """The inputs of `op` that its gradient goes to."""
  without = {t.name for t in unpassed(op)}
  return [tensor for tensor in op.inputs if not (
      without and tensor.name in without) and _is_trainable(tensor.dtype)]


def _is_trainable(dtype):
  """`_tf.is_trainable_dtype`, asked for once for each dtype."""
  if dtype not in _trainable:
    _trainable[dtype] = _tf.is_trainable_dtype(dtype)
  return _trainable[dtype]


def _passes_gradient(op):
  """Whether `op` has a gradient.

  Returns:
    True; False if it is declared to be zero; None if it is not defined.
  """
  if not op.inputs:
    return True
  if not differentiable_inputs(op):
    return False
  if op.type == "Exit" and _has_no_back_prop(op):
    return False
  if op.type in op_types.CALLS or (
      _tf.function_definition(op.graph, op.type) is not None):
    return True
  if op.type == "PreventGradient":
    return None  # Its gradient function is there to raise an error.
  try:
    return _tf.gradient_function(op) is not None
  except LookupError:
    return None


def _ends_gradient(op):
  """Whether an op is the end of a loop that is the gradient of a loop."""
  if op.type not in op_types.EXITS:
    return False
  context = _tf.control_flow_context(op.inputs[0].op)
  return getattr(context, "grad_state", None) is not None


def _has_no_back_prop(exit_op):
  """Whether an Exit is of a loop that was built with back_prop=False."""
  context = _tf.control_flow_context(exit_op.inputs[0].op)
  return context is not None and not getattr(context, "back_prop", True)
