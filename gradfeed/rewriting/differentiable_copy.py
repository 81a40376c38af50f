"""A copy of what lies between x and y that has derivatives of any order.

Loops and branches of control flow v1 become `While` and `If`, which have a
second derivative and which TensorFlow can vectorize. `tf.nn.moments` takes the
mean within the variance for a constant, by a StopGradient: the first derivative
is the same without, the second is not. The copy has an Identity there. Its
value is that of the original; random ops in it draw numbers of their own.
"""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.analysis import blockers
from gradfeed.analysis import gradient_flow
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import control_flow
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.rewriting import cloning
from gradfeed.rewriting import function_calls
from gradfeed.rewriting import subgraphs


def differentiable_copy(graph, ys, trace, free_means=False):
  """Copies the ops of a path so that they can be differentiated again.

  The copy has no control flow v1. It is made once for a path.

  Args:
    graph: `tf.Graph`, not finalized.
    ys: list of `tf.Tensor`.
    trace: `gradient_flow.GradientTrace` of them.
    free_means: bool; whether the StopGradient ops that `blockers.held_means`
      finds are left out of the copy.

  Returns:
    dict from the names of the tensors that were copied to their copies; empty
    if there is nothing to copy.

  Raises:
    UnsupportedGraphError: an op has no functional form; or one of `ys` is
      inside a loop or a branch.
  """
  freed = blockers.held_means(trace) if free_means else set()
  start = freed | {
      name for name, op in trace.path.items()
      if control_flow.is_control_flow_v1(op)
  }
  if not start:
    return {}
  ops = traversal.ancestors(ys)
  op_names = subgraphs.closed(ops, start & set(ops))

  def build():
    with _tf.without_runs(graph), _tf.building(graph):
      return _build(graph, {y.name for y in ys}, ops, op_names, trace, freed)

  key = ("functional", tuple(y.name for y in ys), tuple(sorted(start)))
  return cache.cached(graph, key, build)


def _build(graph, ys, ops, op_names, trace, freed):
  """Builds the copy that `differentiable_copy` returns.

  Args:
    graph: `tf.Graph`.
    ys: set of tensor names.
    ops: dict from name to op that holds what `ys` need.
    op_names: set of names of the ops to copy.
    trace: `gradient_flow.GradientTrace`.
    freed: set of names of the ops that become an Identity.
  """
  # pylint: disable-next=import-outside-toplevel
  from gradfeed.rewriting import vectorization  # Rare, as first calls are not.
  scratch = vectorization.ScratchGraph(graph)
  values = _values_read(graph, ops, op_names, trace)
  with scratch.building():
    new = scratch.copy_functional(op_names, ops, freed, values)
  names = sorted(set(new) & trace.tensors)
  others = sorted(set(new) - trace.tensors)  # They may be fed.
  for name in sorted(trace.tensors):
    if name in ys and name.split(":")[0] in op_names and name not in new:
      raise errors.UnsupportedGraphError(
          "{} cannot be differentiated any further.".format(
              tensors.describe(graph.get_tensor_by_name(name))),
          "It is inside a loop or a branch of control flow v1.",
          "Take the output of the tf.while_loop or the tf.cond.")
  clones = {name: clone for name, clone in zip(names + others, scratch.export(
      [new[name] for name in names], "functional",
      [new[name] for name in others])) if clone is not None}
  for name, clone in clones.items():
    clone.set_shape(graph.get_tensor_by_name(name).shape)
  cache.record_clones(graph, clones)
  return clones


def _values_read(graph, ops, op_names, trace):
  """The values of the variables that TF 1 cannot read in a functional loop.

  It takes the gradient by the handle, which is dropped, for one of float32.

  Args:
    graph: `tf.Graph`.
    ops: dict from name to op that holds what the ys need.
    op_names: set of names of the ops to copy.
    trace: `gradient_flow.GradientTrace`.

  Returns:
    dict from the name of each handle that nothing is differentiated by to a
    `tf.Tensor`; empty for TF 2.
  """
  if _tf.IS_TF2:
    return {}
  handles = function_calls.handles([ops[name] for name in op_names])
  values = {}
  with tf.control_dependencies(None):
    for name, dtype, shape in handles.values():
      if not trace.depends(graph.get_tensor_by_name(name)):
        values[name] = tf.raw_ops.ReadVariableOp(
            resource=graph.get_tensor_by_name(name), dtype=dtype)
        values[name].set_shape(tf.TensorShape(shape))
  return values


def differentiable_gradients(graph, targets):
  """Builds gradients among the ancestors of some tensors again.

  Such gradients cannot be differentiated as they are: those of a loop of v1
  keep the values of each turn on stacks, through which no gradient passes;
  those of `tf.nn.moments` hold the mean constant. They are built again on a
  functional copy, which has neither.

  Args:
    graph: `tf.Graph`.
    targets: list of `tf.Tensor`.

  Returns:
    dict from the names of such gradients, and of what is computed from them,
    to what is to be differentiated in their places; empty where there are none.
  """
  ops = traversal.ancestors(targets)
  replaced = {}
  for name, derivative in list(cache.cache_of(graph).derivatives.items()):
    vjp = derivative.vjp
    if vjp is not None and name.split(":")[0] in ops and (
        vjp.needs_differentiable_gradients()):
      built = vjp.on_functional_copy(
          strict=False, free_means=True).build(strict=False)
      for old, new in zip(derivative.results, built.gradients):
        if old is not None and new is not None:
          replaced.update(_in_the_place_of(
              graph, graph.get_tensor_by_name(old), new))
  op_names = subgraphs.dependent_ops(ops, set(replaced)) if replaced else ()
  if op_names:
    cache.check_not_finalized(graph, "A gradient that can be differentiated")
  copied = cloning.clone_subgraph(
      graph, op_names, ops, replaced, "again") if op_names else {}
  cache.record_clones(graph, copied)
  return dict(copied, **replaced)


def one_copy_of_each(graph, ys, xs, stops):
  """Finds which copies of the xs a derivative among the ancestors of ys reads.

  It reads those that it was built on. They have the values of the xs, and the
  ys are functions of an x by all of them: where they read several, what is
  computed from the others is copied, with one in their place.

  Args:
    graph: `tf.Graph`.
    ys, xs: lists of `tf.Tensor`.
    stops: list of `tf.Tensor` that are held constant.

  Returns:
    dict from names of tensors to what is to be differentiated, and to be
    differentiated by, in their places; empty if the ys read the xs alone.
  """
  chosen, replaced = {}, {}
  for x in xs:
    group = [x] + [graph.get_tensor_by_name(name)
                   for name in cache.other_copies_of(graph, x.name)]
    if len(group) > 1:
      trace = gradient_flow.GradientTrace(ys, group, stops + group)
      read = [t for t in group if t.name in trace.tensors]
      if read and read != [x]:
        chosen[x.name] = read[-1]
        replaced.update((t.name, read[-1]) for t in read[:-1])
  if not replaced:
    return chosen
  cache.check_not_finalized(graph, "A derivative of a derivative")
  ops = traversal.ancestors(ys)
  copied = cloning.clone_subgraph(
      graph, subgraphs.dependent_ops(ops, set(replaced)), ops, replaced, "one")
  cache.record_clones(graph, copied)
  return dict(copied, **chosen)


def _in_the_place_of(graph, old, new):
  """What stands in the place of a gradient that is built again.

  Args:
    graph: `tf.Graph`.
    old: `tf.Tensor`: the gradient, or, of one of slices, their values.
    new: `tf.Tensor` or `tf.IndexedSlices`, the same gradient by another way;
      one of slices may have them in another order, or be dense.

  Returns:
    dict from the names of tensors to `tf.Tensor`.
  """
  sums = [op.outputs[0] for op in old.consumers() if op.name.startswith(
      _tf.SCOPE) and op.type == "UnsortedSegmentSum" and op.inputs[0] is old]
  if isinstance(new, tf.Tensor) and not sums:
    return {old.name: new}
  if isinstance(new, tf.Tensor):
    return {dense.name: new for dense in sums}
  with _tf.building(graph):
    return {dense.name: tf.math.unsorted_segment_sum(
        new.values, new.indices, dense.op.inputs[2]) for dense in sums}
