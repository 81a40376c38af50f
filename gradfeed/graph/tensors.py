"""What may be passed for a tensor, and how a message describes a tensor."""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import captures
from gradfeed.graph import lookup
from gradfeed.graph import nest
from gradfeed.graph import op_types
from gradfeed.graph import traversal


class Dense:
  """A dense tensor or variable that is differentiated by, fed or fetched.

  Attributes:
    tensor: `tf.Tensor`; the handle, if this is a resource variable; the ref
      tensor, if it is a ref variable.
    dtype: `tf.DType` of the value, never a reference.
    shape: `tf.TensorShape` of the value.
    is_handle: whether `tensor` is the handle of a resource variable, also as
      a function captures it.
  """

  __slots__ = ("tensor", "dtype", "shape", "is_handle")

  def __init__(self, tensor, dtype=None, shape=None):
    self.tensor = tensor
    self.is_handle = tensor.dtype == tf.resource and (
        dtype is not None or tensor.op.type == "VarHandleOp")
    if self.is_handle:
      self.dtype = tf.as_dtype(dtype or tensor.op.get_attr("dtype")).base_dtype
      self.shape = tf.TensorShape(
          tensor.op.get_attr("shape") if shape is None else shape)
    else:
      self.dtype = tensor.dtype.base_dtype
      self.shape = tensor.shape

  @property
  def name(self):
    return self.tensor.name

  @property
  def op(self):
    return self.tensor.op

  @property
  def graph(self):
    return self.tensor.graph

  @property
  def is_placeholder(self):
    return self.op.type in op_types.PLACEHOLDERS

  @property
  def is_variable(self):
    return self.op.type in op_types.VARIABLES

  def components(self):
    """The list of `Dense` that are fed: this one."""
    return [self]

  def differentiable(self):
    """The list of `Dense` that are differentiated by: this one."""
    return [self]

  def __str__(self):
    return describe(self)


class Sparse:
  """A `tf.SparseTensor`: its values are differentiated by, all are fed.

  A shape that is a constant is not fed: a value has to have that very shape.

  Attributes:
    indices, values, dense_shape: `Dense`, its three tensors.
    shape: `tf.TensorShape` of the dense form.
  """

  __slots__ = ("indices", "values", "dense_shape", "shape")

  def __init__(self, sparse):
    self.shape = _tf.sparse_shape(sparse)
    self.indices = Dense(sparse.indices)
    self.values = Dense(sparse.values)
    self.dense_shape = Dense(sparse.dense_shape)

  @property
  def name(self):
    return self.values.name

  @property
  def dtype(self):
    return self.values.dtype

  @property
  def graph(self):
    return self.values.graph

  def components(self):
    """The list of the two or three `Dense` that are fed."""
    if self.dense_shape.op.type == "Const":
      return [self.indices, self.values]
    return [self.indices, self.values, self.dense_shape]

  def parts(self):
    """The list of its three `tf.Tensor`, as in a `tf.SparseTensorValue`."""
    return [self.indices.tensor, self.values.tensor, self.dense_shape.tensor]

  def differentiable(self):
    """The list of the `Dense` that is differentiated by."""
    return [self.values]

  def __str__(self):
    return describe(self.values)


class Partitioned:
  """A partitioned variable: one value, kept in slices along one axis.

  Attributes:
    parts: list of `Dense`, the slices.
    axis: int, the axis that is cut.
    sizes: list of int, the size of each slice along that axis.
    label: str, the name of the whole variable.
    shape: `tf.TensorShape` of the whole value.
  """

  __slots__ = ("parts", "axis", "sizes", "label", "shape")

  def __init__(self, variable):
    self.parts = [dense_of_variable(part) for part in variable]
    self.label = variable.name
    self.shape = variable.get_shape()
    self.axis = _tf.partition_axis(variable)
    self.sizes = [_tf.slice_info(part)[1][self.axis] for part in variable]

  @property
  def name(self):
    return self.label

  @property
  def dtype(self):
    return self.parts[0].dtype

  @property
  def graph(self):
    return self.parts[0].graph

  def components(self):
    """The list of `Dense` that are fed: one for each slice."""
    return self.parts

  def differentiable(self):
    """The list of `Dense` that are differentiated by: one for each slice."""
    return self.parts

  def split(self, value):
    """The list of the slices of `value`, an array, one for each part."""
    edges = np.cumsum(self.sizes)[:-1]
    return np.split(value, edges, axis=self.axis)

  def __str__(self):
    return "'{}' ({}, {}, {} parts)".format(
        self.label, self.dtype.name, format_shape(self.shape), len(self.parts))


def format_shape(shape):
  """Writes a shape as `[?, 8]`, or `<unknown>` where the rank is unknown."""
  shape = tf.TensorShape(shape)
  if shape.ndims is None:
    return "<unknown>"
  return "[{}]".format(
      ", ".join("?" if d is None else str(d) for d in shape.as_list()))


def describe(tensor):
  """Describes a tensor or op in a message: `'ids:0' (int32, [?, 8])`."""
  if isinstance(tensor, (Sparse, Partitioned)):
    return str(tensor)
  if isinstance(tensor, tf.Operation):
    return "'{}' ({})".format(tensor.name, tensor.type)
  if not isinstance(tensor, Dense):
    tensor = Dense(tensor)
  return "'{}' ({}, {})".format(
      tensor.name, tensor.dtype.name, format_shape(tensor.shape))


def describe_all(values):
  """The descriptions of tensors or ops, with commas between them."""
  return ", ".join(map(describe, values))


def dense_of_variable(variable):
  """The `Dense` of a ref or resource variable of a graph."""
  if _tf.is_resource_variable(variable):
    return Dense(variable.handle, variable.dtype, variable.shape)
  return Dense(variable.op.outputs[0])


def resolve(value, graph=None, role="x", around=False):
  """Turns what a caller passes for a tensor into one of the classes above.

  Args:
    value: tensor, variable, partitioned variable, `SparseTensor`, or a name.
    graph: `tf.Graph` that names are looked up in and that tensors have to be
      of; None for the default graph and no demand.
    role: str, what `value` is called in an error.
    around: bool; whether it may also be of a graph around `graph`, if that is
      the body of a function, and an eager tensor that the function captures.

  Returns:
    `Dense`, `Sparse` or `Partitioned`.
  """
  value = _tf.dereference(value)
  if _tf.is_eager(value):
    captured = _captured_eager(value, graph) if around else None
    if captured is not None:
      return captured
    raise errors.EagerModeError(
        "{} is an eager tensor or variable, or one of Keras 3, not a tensor "
        "of a graph.".format(role),
        "Only a graph has a symbolic gradient that can be fed.",
        "Call tf.compat.v1.disable_eager_execution() before anything is "
        "built, or build under `with tf.Graph().as_default():`.")
  if isinstance(value, str):
    if graph is None:
      graph = default_graph()
    value = lookup.lookup(
        value, _graph_with(value, graph) if around else graph)
  resolved = _wrap(value, role)
  if graph is not None and resolved.graph is not graph and not (
      around and resolved.graph in captures.enclosing(graph)):
    raise errors.GraphMismatchError(
        "{} {} is not in the same graph as the rest.".format(
            role, describe(resolved)),
        "Two graphs share no ops, even where the names are the same.",
        "Build or import everything under one `with graph.as_default():`.")
  return resolved


def _graph_with(name, graph):
  """The innermost of a graph and those around it that has a tensor `name`."""
  full = name if ":" in name else name + ":0"
  for around in captures.enclosing(graph):
    try:
      around.get_tensor_by_name(full)
      return around
    except (KeyError, ValueError, TypeError):
      pass
  return graph


def _captured_eager(value, graph):
  """The `Dense` of an eager tensor or variable in a function, or None."""
  if not isinstance(value, tf.Tensor) and not _tf.is_variable(value):
    return None
  inside = captures.inside_of_eager(getattr(value, "handle", value), graph)
  if inside is None:
    return None
  if _tf.is_resource_variable(value):
    return Dense(inside, value.dtype, value.shape)
  return Dense(inside)


def _wrap(value, role):
  """The `Dense`, `Sparse` or `Partitioned` of a tensor or variable."""
  if _tf.is_partitioned(value):
    return Partitioned(value)
  if _tf.is_variable(value):
    return dense_of_variable(value)
  if isinstance(value, tf.SparseTensor):
    return Sparse(value)
  if isinstance(value, tf.Tensor):
    return Dense(value)
  raise errors.ArgumentError(
      "{} is {}, not a tensor.".format(role, _shorten(value)),
      "A {} does not stand for a place in a graph.".format(
          type(value).__name__),
      "Pass a tensor, a variable, a SparseTensor or a name such as "
      "'logits:0'.")


def default_graph():
  """The current default graph; there is none in eager mode."""
  if _tf.executing_eagerly():
    raise errors.EagerModeError(
        "There is no graph to look in: TensorFlow runs eagerly.",
        "TF 2 executes every op at once unless told otherwise.",
        "Call tf.compat.v1.disable_eager_execution() first, or work under "
        "`with graph.as_default():`.")
  return tf.get_default_graph()


def _shorten(value):
  """The repr of `value` in at most 60 characters."""
  text = repr(value)
  return text if len(text) <= 60 else text[:57] + "..."


def graph_of(*structures):
  """The graph of the tensors in `structures`, else the default one.

  Of several it is the innermost, where one is the body of a function and the
  others are around it, and else that of the first tensor.
  """
  graphs = []
  for structure in structures:
    for leaf in nest.flatten(structure):
      graph = _graph_of(_tf.dereference(leaf))
      if graph is not None and graph not in graphs:
        graphs.append(graph)
  if not graphs:
    return default_graph()
  return captures.innermost(graphs) if len(graphs) > 1 else graphs[0]


def _graph_of(leaf):
  """The graph of a tensor or variable; None for a name or another value."""
  if leaf is None or isinstance(leaf, str) or _tf.is_eager(leaf):
    return None
  graph = getattr(leaf, "graph", None)
  if isinstance(graph, tf.Graph):
    return graph
  return next(iter(leaf)).graph if _tf.is_partitioned(leaf) else None


def read_of(component):
  """The tensor that holds the value of `component` when it is fetched.

  The handle of a resource variable has no value to fetch; a read of it, which
  every variable made in Python has, does.
  """
  if not component.is_handle:
    return component.tensor
  reads = [op for op in traversal.consumers(component.tensor)
           if op.type == "ReadVariableOp" and not op.control_inputs]
  reads = [op for op in reads if not _tf.is_inside_while(op)]
  own = [op for op in reads if op.name.startswith(component.op.name + "/Read")]
  for op in own + reads:
    return op.outputs[0]
  raise errors.ArgumentError(
      "The variable {} cannot be fetched.".format(describe(component)),
      "The graph has no op that reads it.",
      "Fetch the `variable.value()` that you make before the graph is "
      "finalized.")
