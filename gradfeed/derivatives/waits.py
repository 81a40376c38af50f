"""Derivatives that wait for the ops that they were built on copies of.

A loop or a branch may read a variable, and so does its copy, at a moment of its
own. A train op that waits for the copy alone may assign while the original, of
which the user fetches the loss, is still reading. `tf.gradients` differentiates
the original, so that legacy code never had to mind. What is built on a copy
that reads a variable therefore waits for the original too. A run that fetches
derivatives and assigns nothing need not: it takes what is recorded in
`cache.GraphCache.waiting`.
"""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import cache
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import provenance


def after_originals(graph, ys, results, copied):
  """Derivatives that no op has before the originals have read the variables.

  Args:
    graph: `tf.Graph`, the default one.
    ys: list of `tf.Tensor`, what was differentiated.
    results: list of `tf.Tensor`, `tf.IndexedSlices` or None.
    copied: dict from the names of tensors and ops to the copies on which the
      results were built.

  Returns:
    list like `results`.
  """
  readers = [copy for name, copy in copied.items()
             if ":" not in name and _reads_alone(copy)]
  context = _tf.control_flow_context(ys[0].op)
  originals = {}
  for reader in readers:
    original = _original(reader)
    if _tf.control_flow_context(original) is not context:
      original = _original(ys[0].op)  # One in a branch may not run.
    originals[original.name] = original
  before = [tf.raw_ops.IdentityN(input=list(original.outputs))[0].op
            for _, original in sorted(originals.items())]
  return [_after(graph, before, result) for result in results]


def through(graph, results, make):
  """What is made from derivatives, which waits as they do.

  Args:
    graph: `tf.Graph`, the default one.
    results: list of `tf.Tensor`, `tf.IndexedSlices` or None.
    make: function from such a list to a `tf.Tensor` or `tf.IndexedSlices`.
  """
  before = []
  for result in results:
    tensor = result.values if isinstance(result, tf.IndexedSlices) else result
    if getattr(tensor, "name", None) in cache.cache_of(graph).waiting:
      before += [op for op in tensor.op.control_inputs if op not in before]
  return _after(
      graph, before, make([alone(graph, result) for result in results]))


def alone(graph, result):
  """A `tf.Tensor`, or `tf.IndexedSlices`, without its wait; else `result`."""
  if isinstance(result, tf.IndexedSlices):
    return tf.IndexedSlices(alone(graph, result.values), result.indices,
                            result.dense_shape)
  name = cache.cache_of(graph).waiting.get(getattr(result, "name", None))
  return result if name is None else graph.get_tensor_by_name(name)


def _reads_alone(op):
  """Whether an op calls functions that read variables, and does no more.

  Where they assign or draw random numbers, a run has to have the copy alone.
  """
  return (op.type in op_types.FUNCTIONAL and
          any(tensor.dtype == tf.resource for tensor in op.inputs) and
          not any(op_types.ASSIGNING.search(op_type) or
                  op_types.RANDOM.search(op_type) for _, op_type in
                  effects.op_types_of_run({op.name: op})))


def _original(op):
  """The op of the user that `op` is a copy of."""
  return op.graph.get_operation_by_name(provenance.original_name(op))


def _after(graph, before, result):
  """`result` as the output of an op that waits for the ops `before`."""
  if result is None or not before:
    return result
  if isinstance(result, tf.IndexedSlices):
    return tf.IndexedSlices(_after(graph, before, result.values),
                            result.indices, result.dense_shape)
  with tf.control_dependencies(before):
    waiting = tf.identity(result)
  cache.record_clones(graph, {waiting.name: result})
  cache.cache_of(graph).waiting[waiting.name] = result.name
  return waiting
