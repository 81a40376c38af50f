"""What does not run where the values of some tensors are known.

A value that is held for every call, or a constant, may decide the predicate of
a conditional. What lies in the branch that is not taken does not run: it
assigns nothing, draws nothing, mixes no rows and needs no value.
"""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.branches import bodies
from gradfeed.branches import constant_values
from gradfeed.branches import scopes
from gradfeed.graph import control_flow
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import traversal


class Folding:
  """What some known values make of a computation.

  Attributes:
    ops: dict from name to op, of those ops that change what is computed.
    dead: set of the names of ops that do not run.
  """

  def __init__(self, scope, targets, cut, ops):
    self._scope = scope
    self.dead = scope.dead
    if ops.cut != cut:
      ops = traversal.ancestors(targets, cut)
    self.ops = traversal.still_ancestors(ops, targets, {
        op.name: scope.reads(op) for group in traversal.by_type(ops).values()
        if scope.may_ignore_inputs(group[0]) for op in group})

  def reads(self, op):
    """Those inputs of `op` whose values can change what it computes."""
    return self._scope.reads(op)

  def is_dead(self, tensor):
    """Whether `tensor` has no value in any run."""
    return self._scope.is_dead(tensor)

  def nodes_called(self, op):
    """Yields the NodeDefs in functions that run when `op` does."""
    return self._scope.nodes_called(op)

  def callees_among(self, op, names):
    """Those of the functions called `names` that `op` may call.

    All of them where `op` is no call of functions.
    """
    called = self._scope.functions_called(op)
    return [name for name in names if not called or name in called]

  def dependents_among(self, names, sources):
    """Those of some ops that depend on tensors where no dead branch counts.

    Args:
      names: set of names of ops that depend on them where all branches count.
      sources: set of names of tensors.

    Returns:
      set of op names.
    """
    dependent, count = set(), -1
    while len(dependent) > count:  # More than once for loops.
      count = len(dependent)
      for name, op in self.ops.items():
        if name in names and name not in dependent and (
            op.type in op_types.POPS or any(
                t.name in sources or t.op.name in dependent
                for t in self.reads(op))):
          dependent.add(name)
    return dependent

  def taken(self, tensor):
    """The tensor of whose values `tensor` is a copy, as a branch is decided.

    Args:
      tensor: `tf.Tensor`.

    Returns:
      `tf.Tensor`: what a Switch hands on, or the one input of a Merge that has
      a value; None for any other tensor.
    """
    op = tensor.op
    if self.chooses(op):
      return op.inputs[0]
    if op.type in op_types.MERGES and tensor.value_index == 0:
      alive = [t for t in op.inputs if not self.is_dead(t)]
      return alive[0] if len(alive) == 1 < len(op.inputs) else None
    return None

  def chooses(self, op):
    """Whether `op` is a Switch of which one output has no value."""
    return op.type in op_types.SWITCHES and any(
        t.name in self.dead for t in op.outputs)

  def without_dead(self, ops):
    """Those of `ops` that run, whether or not what they compute counts."""
    return ops.among(set(ops).difference(self.dead))

  def variables_read(self, ops, targets):
    """The variables that need a value before `ops` can run.

    Args:
      ops: `traversal.Ancestors`, all that runs.
      targets: as in `effects.variables_read`.

    Returns:
      list of `tf.Operation`.
    """
    # What hands a variable to a branch that is not taken does not read it.
    return effects.variables_read(ops.among({
        name for name, op in ops.items() if name in self.ops or
        not self.chooses(op)}), targets, self)

  def hands_on_variables(self, ops):
    """Whether variables are read for branches alone that are not taken."""
    return any(map(_has_variables_value, self._leaked(ops).values()))

  def _leaked(self, ops):
    """Those of `ops` that run for branches that are not taken."""
    return ops.among({
        name for name, op in ops.items() if name not in self.dead and
        name not in self.ops and not self.chooses(op)})

  def idle_tensors(self, ops, fed, spares_variables=False):
    """Tensors that are computed for branches alone that are not taken.

    They are computed outside of the branches, so that a run needs the
    placeholders and has the effects above them, for nothing. Only those below
    such a placeholder or effect are of interest.

    Args:
      ops: dict from name to op, the `traversal.ancestors` of what is run.
      fed: container of the names of the tensors that get values.
      spares_variables: bool, whether a need of a variable's value alone makes
        them of interest. Where something else does, it does, too.

    Returns:
      list of `tf.Tensor` in whose places anything may stand.
    """
    leaked = self._leaked(ops)
    changing = {op.name for op in effects.assigning_ops(leaked, self)}
    if not spares_variables and not changing and not any(
        _needs_or_waits(op, fed) for op in leaked.values()):
      return []
    tainted = set()
    for name, op in leaked.items():
      if name in changing or _needs_or_waits(op, fed) or (
          _has_variables_value(op)) or any(
          before.name in tainted for before in traversal.predecessors(op)):
        tainted.add(name)
    if not tainted:
      return []
    frames = control_flow.frames_of(ops)
    # A reference to a variable is handed on without its value.
    references = {t.name for op in ops.values() if op.type in
                  op_types.REFERENCE_PASSES for t in op.inputs}
    idle = [_before_loop(t) for name, op in ops.items()
            if name not in leaked for t in op.inputs if t.op.name in tainted]
    return sorted({t.name: t for t in idle if t.op.name not in frames and
                   t.name not in references and
                   _may_be_anything(t)}.values(), key=lambda t: t.name)


def _has_variables_value(op):
  """Whether `op` is a variable that is read as it is, not by its handle."""
  return op.type in op_types.VARIABLES and op.type != "VarHandleOp"


def _needs_or_waits(op, fed):
  """Whether `op` cannot run without a value, or without an event outside."""
  return (op.type in op_types.PLACEHOLDERS and op.outputs[0].name not in fed or
          bool(op_types.WAITING.search(op.type)))


def _before_loop(tensor):
  """What enters the loops that `tensor` enters, or `tensor` itself."""
  while tensor.op.type in op_types.ENTERS:
    tensor = tensor.op.inputs[0]
  return tensor


def _may_be_anything(tensor):
  """Whether a value can be made that may stand for `tensor`."""
  dtype = tensor.dtype.base_dtype
  return (_tf.numpy_dtype(dtype) is not None and not dtype.is_quantized and
          dtype not in (tf.resource, tf.variant))


def fold(targets, ops, values, cut=frozenset(), has_defaults=True):
  """What is decided where some tensors have known values.

  Args:
    targets: list of `tf.Tensor` and `tf.Operation` that are run.
    ops: `traversal.Ancestors` of `targets`, without what is above `cut`.
    values: dict from the name of each tensor that gets a value to that as an
      array, or to None where it differs from call to call.
    cut: set of the names of tensors above which nothing is run.
    has_defaults: bool, whether a placeholder with a default that is not in
      `values` has its default.

  Returns:
    (`Folding`, or None where no branch is decided; dict from the name of each
    of `values` that was asked for to its value or None: as long as these are
    the same, so is the result).
  """
  if not targets:
    return None, {}
  library = bodies.Library(targets[0].graph, has_defaults)
  if not any(kind in op_types.SWITCHES or library.calls(kind)
             for kind in traversal.by_type(ops)):
    return None, {}
  values = {name: constant_values.comparable(value)
            for name, value in values.items()}
  scope = scopes.Graph(library, values, ops, lambda: effects.names_read(
      ops).union(t.name for t in targets))
  is_decided = scope.find_dead(list(ops.values()))
  makers = [t if isinstance(t, tf.Operation) else t.op for t in targets]
  if not is_decided or any(op.name in scope.dead for op in makers):
    # What is asked for and has no value is refused by the run.
    return None, scope.asked
  return Folding(scope, targets, cut, ops), scope.asked
