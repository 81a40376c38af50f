"""Nodes of a graph rewritten so that they compute in float64.

Every dtype that a node names becomes the widest of its kind: float64, or
complex128. An op without a kernel for that stays as it is, between casts; fused
batch normalization is written out in ops that have one.
"""

import copy
import uuid

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import op_types
from gradfeed.rewriting import custom_gradient_ops

_WIDE = {tf.float16: tf.float64, tf.bfloat16: tf.float64,
         tf.float32: tf.float64, tf.complex64: tf.complex128}
_NUMBERS = {narrow.as_datatype_enum: broad.as_datatype_enum
            for narrow, broad in _WIDE.items()}

#: Types of ops whose results depend on the width of the numbers they read.
_BY_BITS = frozenset(["Bitcast", "DecodeRaw", "EncodeProtoV2",
                      "SerializeTensor"])

_NORMALIZING = frozenset(["FusedBatchNorm", "FusedBatchNormV2",
                          "FusedBatchNormV3"])


def wide(dtype):
  """The `tf.DType` that `dtype` becomes: float64, complex128, or itself."""
  return _WIDE.get(dtype.base_dtype, dtype.base_dtype)


def eps(dtype):
  """The machine epsilon of a `tf.DType`, a float; 0 for integers and others.
  """
  if dtype.base_dtype == tf.bfloat16:
    return 2.0 ** -8
  if not _tf.is_number(dtype):
    return 0.0
  return float(np.finfo(_tf.numpy_dtype(dtype)).eps)


def cannot(why):
  """The error for a graph that has no copy in float64.

  Args:
    why: str, a sentence without the period.

  Returns:
    `UnsupportedGraphError`.
  """
  return errors.UnsupportedGraphError(
      "There is no copy of this graph in float64.", why + ".",
      "Build the graph in float64.")


class Float64Nodes:
  """The nodes of a copy, rewritten so that they compute in float64.

  Attributes:
    nodes: list of NodeDef.
    functions: list of FunctionDef that they call.
    renamed: dict from names of tensors that are gone to what has their values.
    eps: float, the machine epsilon of the least precise dtype that is left.
  """

  def __init__(self, graph, subgraph, ops):
    """Rewrites the nodes.

    Args:
      graph: `tf.Graph` that the nodes are of.
      subgraph: `cloning.Subgraph`; its nodes are changed.
      ops: dict from the names of nodes to the ops that they were.

    Raises:
      UnsupportedGraphError: an op cannot be in a copy in float64.
    """
    self.nodes, self.renamed = [], {}
    self.eps = eps(tf.float64)
    self._graph = graph
    self._ops = ops
    self._has_loops = any(node.op in ("Enter", "RefEnter")
                          for node in subgraph.nodes)
    self._read = {name for node in subgraph.nodes for name in node.input}
    self._flows = _flows(subgraph.nodes)
    self._suffix = "_gradfeed_" + uuid.uuid4().hex[:12]
    self.functions = self._widened_functions(subgraph)
    casts = []
    for node in subgraph.nodes:
      node.device = ""
      self._widen(node, casts)
    for node in self.nodes:
      for i, name in enumerate(node.input):
        node.input[i] = self.renamed.get(name, name)
    self.nodes += casts

  def _widen(self, node, casts):
    """Adds what a node becomes to `nodes`, and casts of its results to `casts`.
    """
    _refuse_bits(node)
    if node.op == "Print":
      self.nodes.append(_identity(node))
    elif node.op in _NORMALIZING and self._can_write_out(node):
      self._write_out(node)
    elif self._stays(node):
      self._keep(node, casts)
    else:
      self.nodes.append(node)
      if not self._flows.intersection(_outputs(node)) or (
          node.op.startswith(op_types.TENSOR_ARRAY)):
        _widen_node(node)

  def _stays(self, node):
    """Whether a node has to go on computing in the dtypes that it names."""
    if node.op in op_types.PYTHON_CALLS or node.op.startswith(
        op_types.TENSOR_ARRAY):
      return node.op in op_types.PYTHON_CALLS
    widened = copy.deepcopy(node)
    _widen_node(widened)
    return not _tf.has_kernel(widened) or self._is_fixed(node.op)

  def _is_fixed(self, op_type):
    """Whether ops of a type take or give float32 whatever their dtypes are."""
    definition = _tf.op_definition(self._graph, op_type)
    return definition is not None and any(
        argument.type in _NUMBERS for argument in
        list(definition.input_arg) + list(definition.output_arg))

  def _keep(self, node, casts):
    """Leaves a node as it is, between casts."""
    op = self._ops[node.name]
    for i, tensor in enumerate(op.inputs):
      dtype = tensor.dtype.base_dtype
      if dtype in (tf.resource, tf.variant):
        raise cannot("{} '{}' has no form in float64".format(op.type, op.name))
      if dtype in _WIDE:
        self.eps = max(self.eps, eps(dtype))
        name = "{}/narrow_{}".format(node.name, i)
        self.nodes.append(_cast(name, node.input[i], wide(dtype), dtype))
        node.input[i] = name + ":0"
    self.nodes.append(node)
    for i, tensor in enumerate(op.outputs):
      dtype = tensor.dtype.base_dtype
      if dtype in _WIDE:
        self.eps = max(self.eps, eps(dtype))
        name = "{}/wide_{}".format(node.name, i)
        casts.append(_cast(name, tensor.name, dtype, wide(dtype)))
        self.renamed[tensor.name] = name + ":0"

  def _can_write_out(self, node):
    """Whether a batch normalization may become plain ops.

    Only its first result is computed by them, and a loop would need frames.
    """
    other_results = {"{}:{}".format(node.name, i) for i in range(1, 6)}
    return not self._has_loops and not other_results & self._read

  def _write_out(self, node):
    """Puts the arithmetic of a batch normalization in its place."""
    with tf.Graph().as_default() as graph:
      _normalized(node)
    given = {"given_{}".format(i): name for i, name in enumerate(node.input)}
    for inner in graph.as_graph_def().node:
      if inner.name not in given:
        inner.name = "{}/{}".format(node.name, inner.name)
        for i, name in enumerate(inner.input):
          inner.input[i] = given.get(name, "{}/{}:0".format(node.name, name))
        self.nodes.append(inner)
    self.renamed["{}:0".format(node.name)] = node.name + "/result:0"
    self.renamed["^" + node.name] = "^{}/result".format(node.name)

  def _widened_functions(self, subgraph):
    """Copies of all functions that the nodes call, with a suffix of their own.

    TensorFlow keeps functions by name for the whole process, so that a copy
    must not have the name of another.

    Args:
      subgraph: `cloning.Subgraph`; its nodes are changed to call the copies.

    Returns:
      list of FunctionDef.
    """
    own = {f.signature.name: f for f in subgraph.functions}
    copies, seen, queue = {}, set(), list(subgraph.nodes)
    while queue:
      for name in _called(queue.pop()) - seen:
        seen.add(name)
        source = own.get(name)
        if source is None:
          source = _tf.function_definition(self._graph, name)
        if source is not None:
          copies[name] = copy.deepcopy(source)
          queue.extend(copies[name].node_def)
    for node in subgraph.nodes:
      _rename_callees(node, copies, self._suffix)
    for function in copies.values():
      self._widen_function(function)
      function.signature.name += self._suffix
      for node in function.node_def:
        _rename_callees(node, copies, self._suffix)
    return [copies[name] for name in sorted(copies)]

  def _widen_function(self, function):
    """Makes a FunctionDef compute in float64, in place.

    Raises:
      UnsupportedGraphError: a node in it would have to stay as it is.
    """
    signature = function.signature
    for argument in list(signature.input_arg) + list(signature.output_arg):
      argument.type = _NUMBERS.get(argument.type, argument.type)
      for data in (argument.handle_data if _tf.HAS_HANDLE_DATA else ()):
        data.dtype = _NUMBERS.get(data.dtype, data.dtype)
    for node in function.node_def:
      node.device = ""
      _refuse_bits(node)
      if self._stays(node):
        raise cannot("{} '{}' in a function has no form in float64".format(
            node.op, node.name))
      _widen_node(node)
      custom_gradient_ops.keep(node)


def _outputs(node):
  """The names of the first two outputs of a node, whether it has both or not.
  """
  return ["{}:{}".format(node.name, i) for i in range(2)]


def _flows(nodes):
  """The names of the flows of tensor arrays: float32, without a meaning."""
  flows, count = set(), -1
  for node in nodes:
    if node.op in ("TensorArrayV3", "TensorArrayGradV3"):
      flows.add(node.name + ":1")
    elif node.op in ("TensorArrayWriteV3", "TensorArrayScatterV3",
                     "TensorArraySplitV3"):
      flows.add(node.name + ":0")
  while flows and count != len(flows):
    count = len(flows)
    for node in nodes:
      if node.op in op_types.FORWARDING and flows.intersection(node.input):
        flows.update(_outputs(node))
  return flows


def _refuse_bits(node):
  """Raises `UnsupportedGraphError` for a node that reads bits of numbers."""
  if node.op in _BY_BITS:
    raise cannot("{} '{}' looks at the bits of numbers".format(
        node.op, node.name))


def _called(node):
  """The names that may be those of functions that a node calls: a set."""
  return {node.op}.union(
      callee.name for callee in _tf.callees(node) if callee.name)


def _rename_callees(node, names, suffix):
  """Adds a suffix to the names of those of the functions `names` it calls."""
  if node.op in names:
    node.op += suffix
  for callee in _tf.callees(node):
    if callee.name in names:
      callee.name += suffix


def _identity(node):
  """The NodeDef of an Identity in the place of a `tf.Print`, in float64."""
  made = tf.NodeDef(name=node.name, op="Identity")
  made.input.extend(
      [node.input[0]] + [name for name in node.input if name[0] == "^"])
  made.attr["T"].type = _NUMBERS.get(
      node.attr["T"].type, node.attr["T"].type)
  return made


def _cast(name, source, before, after):
  """The NodeDef of a Cast of the tensor `source` from one dtype to another."""
  node = tf.NodeDef(name=name, op="Cast")
  node.input.append(source)
  node.attr["SrcT"].type = before.as_datatype_enum
  node.attr["DstT"].type = after.as_datatype_enum
  return node


def _widen_node(node):
  """Widens every dtype and every constant that a NodeDef names, in place."""
  for value in node.attr.values():
    kind = value.WhichOneof("value")
    if kind == "type":
      value.type = _NUMBERS.get(value.type, value.type)
    elif kind == "tensor" and value.tensor.dtype in _NUMBERS:
      array = tf.make_ndarray(value.tensor)
      value.tensor.CopyFrom(tf.make_tensor_proto(
          array.astype(np.complex128 if array.dtype.kind == "c"
                       else np.float64), shape=array.shape))
    elif kind == "list":
      for i, dtype in enumerate(value.list.type):
        value.list.type[i] = _NUMBERS.get(dtype, dtype)


def _normalized(node):
  """Builds the first result of a fused batch normalization in float64.

  Args:
    node: NodeDef of a type in `_NORMALIZING`. The new ops go to the default
      graph: a placeholder "given_0" to "given_4" for each of its inputs, and
      "result".
  """
  given = [tf.placeholder(tf.float64, name="given_{}".format(i))
           for i in range(5)]
  x, parameters = given[0], given[1:]
  layout = node.attr["data_format"].s.decode() or "NHWC"
  rank = len(layout)
  channels = layout.index("C")
  axes = [axis for axis in range(rank) if axis != channels]
  shape = [-1 if axis == channels else 1 for axis in range(rank)]
  scale, offset, mean, variance = [
      tf.reshape(parameter, shape) for parameter in parameters]
  if "is_training" not in node.attr or node.attr["is_training"].b:
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean((x - mean) ** 2, axes, keepdims=True)
  epsilon = node.attr["epsilon"].f if "epsilon" in node.attr else 1e-4
  tf.add((x - mean) * tf.rsqrt(variance + epsilon) * scale, offset,
         name="result")
