"""A copy of y as a function of x in which every number is float64.

It is in a graph of its own with a session of its own, on the CPU: the caller's
graph gets no op. Tensors that do not depend on x (weights, other feeds, dropout
masks) are inputs, whose values come from one run of the caller's session.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import gradients as gradients_lib
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import control_flow
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.rewriting import cloning
from gradfeed.rewriting import float64
from gradfeed.rewriting import subgraphs

#: The bytes that the address of a tensor in TensorFlow is a multiple of.
_ALIGNMENT = 64

#: A tensor of more integers than this is not copied as a constant.
_MOST_KNOWN = 64


class Float64Copy:
  """Evaluates `ys` and their derivatives at any values of `xs`, in float64.

  Attributes:
    sources: list of `tf.Tensor` of the caller's graph that are not copied; each
      evaluation takes their values.
    eps: float, the `eps` of the least precise dtype in the copy: an op without
      a float64 kernel keeps its dtype.
  """

  def __init__(self, graph, ys, xs, held_names, live_names=None):
    """Copies the ops between `xs` and `ys` into a new graph.

    Args:
      graph: `tf.Graph`.
      ys: list of `tf.Tensor`.
      xs: list of `tensors.Dense`.
      held_names: set of the names of more tensors that become inputs.
      live_names: container of the names of the ops that count; other ops are in
        branches that are not taken, or computed for these alone, so that any
        value will do for their results. None for all.

    Raises:
      UnsupportedGraphError: an op has no such copy.
    """
    index_of = {name: i for i, x in enumerate(xs)
                for name in [x.name] + cache.clones_of(graph, x.name)}
    ops, copied_names = _ops_to_copy(ys, set(index_of), held_names)
    external = _tensors_not_copied(ops, copied_names, ys)
    sources = {name: t for name, t in sorted(external.items())
               if name not in index_of and (
                   live_names is None or t.op.name in live_names or
                   _tf.numpy_dtype(t.dtype) is None)}
    self.sources = [tensors.read_of(tensors.Dense(t))
                    for t in sources.values()]
    with tf.Graph().as_default() as graph_of_copy:
      self._xs = [_float64_placeholder(x) for x in xs]
      inputs = {name: self._xs[i] for name, i in index_of.items()
                if name in external}
      self._sources = []
      for name, tensor in sorted(external.items()):
        if name not in index_of:
          inputs[name] = _float64_placeholder(
              tensors.Dense(tensor), is_fed=name in sources)
          if name in sources:
            self._sources.append(inputs[name])
      subgraph = cloning.subgraph_of(graph, copied_names, ops, inputs)
      wide_nodes = float64.Float64Nodes(graph, subgraph, ops)
      self.eps = wide_nodes.eps
      imported = _import_nodes(graph, wide_nodes, subgraph.external)
      self._ys = [inputs[y.name] if y.name in inputs else
                  _output(imported, wide_nodes, y.name) for y in ys]
      self._weights = [tf.placeholder(y.dtype, y.shape) for y in self._ys]
      self._gradients = _gradients_or_none(self._ys, self._xs, self._weights)
    self._graph_of_copy = graph_of_copy
    self._seconds = None  # Later a tuple of one: list of tensors, or None.
    self._session = _tf.plain_session(graph_of_copy)
    self._calls = {}

  @property
  def has_gradient(self):
    return self._gradients is not None

  def values(self, xs, sources):
    """Evaluates each y.

    Args:
      xs: list of arrays.
      sources: list of arrays, the values of `sources`.

    Returns:
      list of arrays.
    """
    return self._run("values", self._ys, self._xs + self._sources,
                     list(xs) + list(sources))

  def gradients(self, xs, sources, weights):
    """Evaluates TensorFlow's gradients of sum(weights * ys).

    Args:
      xs: list of arrays.
      sources: list of arrays.
      weights: list of arrays, one for each y.

    Returns:
      list with an array for each x.
    """
    return self._run(
        "gradients", self._gradients, self._xs + self._sources +
        self._weights, list(xs) + list(sources) + list(weights))

  def seconds(self, xs, sources, weights, directions):
    """Evaluates TensorFlow's second derivatives times directions.

    Args:
      xs: list of arrays.
      sources: list of arrays.
      weights: list of arrays, one for each y.
      directions: list of arrays, one for each x.

    Returns:
      list with an array for each x; None where there is no second derivative.
    """
    if self._seconds is None:
      with self._graph_of_copy.as_default():
        self._directions = [tf.placeholder(x.dtype, x.shape) for x in self._xs]
        self._seconds = (_gradients_or_none(
            self._gradients, self._xs, self._directions),)
    if self._seconds[0] is None:
      return None
    return self._run(
        "seconds", self._seconds[0], self._xs + self._sources + self._weights +
        self._directions, list(xs) + list(sources) + list(weights) +
        list(directions))

  def widened(self, sources):
    """The values of `sources` as TensorFlow takes them without a copy.

    Weights are fed at each evaluation, and may be the largest part of it.
    """
    return [_aligned(value, _tf.numpy_dtype(feed.dtype))
            for feed, value in zip(self._sources, sources)]

  def _run(self, kind, fetches, feeds, values):
    """Evaluates `fetches`, by a call that is compiled once for each `kind`."""
    if kind not in self._calls:
      self._calls[kind] = _tf.make_callable(
          self._session, [t.name for t in feeds], [t.name for t in fetches],
          [], on_caller_thread=False)
    results = self._calls[kind]([
        np.asarray(value, _tf.numpy_dtype(feed.dtype))
        for feed, value in zip(feeds, values)])
    # TensorFlow does not copy what is fed, and may hand it out as a result.
    return [np.array(result) for result in results]


def _aligned(value, dtype):
  """`value` in a dtype and at an address that TensorFlow computes with."""
  value = np.asarray(value)
  if dtype == object or not value.size:
    return np.asarray(value, dtype)
  size = value.size * np.dtype(dtype).itemsize
  memory = np.empty(size + _ALIGNMENT, np.uint8)
  start = -memory.ctypes.data % _ALIGNMENT
  result = memory[start:start + size].view(dtype).reshape(value.shape)
  result[...] = value
  return result


def _gradients_or_none(ys, xs, weights):
  try:
    return gradients_lib.value_and_gradient_as_built(
        ys, xs, weights, unconnected="zero")[1]
  except errors.GradfeedError:
    return None


def _float64_placeholder(component, is_fed=True):
  dtype, shape = float64.wide(component.dtype), component.shape
  if is_fed:
    return tf.placeholder(dtype, shape)
  sizes = [size or 0 for size in shape.as_list()] if shape.ndims else []
  return tf.placeholder_with_default(tf.zeros(sizes, dtype), shape)


def _ops_to_copy(ys, xs, held_names):
  """Which ops a copy of `ys` consists of.

  Args:
    ys: list of `tf.Tensor`.
    xs: set of names of tensors.
    held_names: set of names of tensors, inputs as well.

  Returns:
    (dict from name to op, of all that `ys` depend on; set of the names of those
    to copy: they depend on `xs`, or their results cannot be fed).
  """
  cut = xs | held_names
  ops = traversal.ancestors(ys, cut)
  copied_names = subgraphs.dependent_ops(ops, xs)
  without_value = control_flow.ops_without_a_value(ops)
  while True:
    added = set()
    for name in copied_names:
      op = ops[name]
      added.update(t.op.name for t in op.inputs if t.name not in cut and (
          t.op.name in without_value or not _has_value(t) or
          _is_known_integer(t)))
      added.update(before.name for before in op.control_inputs
                   if before.name in without_value)
    if added <= copied_names:
      return ops, copied_names
    copied_names = subgraphs.with_shared_state(ops, copied_names | added)


def _has_value(tensor):
  """Whether the value of `tensor` can be fetched, and fed to the copy."""
  return (_tf.numpy_dtype(tensor.dtype) is not None and
          tensor.dtype.base_dtype not in (tf.resource, tf.variant)) or (
              tensor.op.type == "VarHandleOp")


def _is_known_integer(tensor):
  """Whether `tensor` has a few known integers or booleans: an axis, a shape.

  Shape inference in the copy needs them as constants, not as inputs.
  """
  if _tf.is_number(tensor.dtype) or tensor.dtype.base_dtype in (
      tf.resource, tf.variant) or not tensor.shape.is_fully_defined() or (
          tensor.shape.num_elements() > _MOST_KNOWN):
    return False
  return _tf.static_value(tensor) is not None


def _tensors_not_copied(ops, copied_names, ys):
  """dict from name to tensor, of the inputs of the ops that are copied."""
  read = [t for name in copied_names for t in ops[name].inputs] + list(ys)
  return {t.name: t for t in read if t.op.name not in copied_names}


def _import_nodes(graph, wide_nodes, external):
  """Adds the nodes to the current graph; returns a dict from name to op."""
  try:
    return _tf.import_nodes(
        graph, wide_nodes.nodes, external, "double", wide_nodes.functions)
  except (TypeError, ValueError, KeyError, tf.errors.OpError) as error:
    raise float64.cannot("TensorFlow refuses it ({})".format(
        str(error).split("\n")[0])) from None


def _output(imported, wide_nodes, name):
  """The tensor of the copy for the tensor `name` of the caller's graph."""
  node, index = wide_nodes.renamed.get(name, name).split(":")
  return imported[node].outputs[int(index)]
