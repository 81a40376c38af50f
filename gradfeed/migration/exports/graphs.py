"""The graph of a SavedModel: a copy of what a function computes, and weights.

Variables become resource variables with the names that they have, whatever kind
they were. Held values are constants, lookup tables are filled when the model is
loaded. Functions, loops and branches are copied as they are.
"""

import collections

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.migration import refusals
from gradfeed.migration import tables
from gradfeed.migration import weights
from gradfeed.rewriting import cloning
from gradfeed.rewriting import custom_gradient_ops

#: The size of a GraphDef is limited to 2 GB; some bytes are left for the rest
#: of the file.
_LARGEST_BYTES = (1 << 31) - (1 << 20)

#: What is written: `graph`, `tf.Graph`; `session` on it, with the weights;
#: `inputs` and `outputs`, dicts from the name of each signature to a dict from
#: names to `tf.Tensor`; `main_op`, what a loader has to run, or None;
#: `tolerances`, list with how far each result may be off when it is computed
#: again, in units of its size; `draws`, whether there are ops that draw random
#: numbers.
Exported = collections.namedtuple(
    "Exported",
    ["graph", "session", "inputs", "outputs", "main_op", "tolerances",
     "draws"])


def build(program):
  """Copies what a program computes into a graph of its own.

  Args:
    program: `programs.Program`.

  Returns:
    `Exported`, whose session the caller closes.

  Raises:
    UnsupportedGraphError: an op cannot be exported; names it.
    UninitializedError: a variable or a table has no value in the session.
    GraphTooLargeError: the graph is over two gigabytes.
  """
  source = _Source(program)
  graph = tf.Graph()
  session = _tf.Session(graph=graph)
  try:
    with graph.as_default(), tf.device(None):
      return source.copy_into(graph, session)
  except Exception:
    session.close()
    raise


class _Source:
  """The part of a legacy graph that is exported."""

  def __init__(self, program):
    self._program = program
    fed = {i.target.name for i in program.inputs if i.target is not None}
    self._ops = traversal.ancestors(
        program.results, fed | set(program.held))
    refusals.check(program.graph, self._ops, "a SavedModel",
                   ("SymbolicGradient",))
    self._variables = [tensors.Dense(op.outputs[0])
                       for op in effects.variables(self._ops.values())]
    self._tables = [op for op in self._ops.values()
                    if refusals.TABLES.search(op.type)]

  def copy_into(self, graph, session):
    """Builds all in the default graph; an `Exported`."""
    program = self._program
    raw = weights.raw(program.session, program.graph)
    values = weights.values(raw, self._variables)
    variables = {}
    trainable = weights.trainable_names(program.graph)
    for variable in self._variables:
      name = variable.op.name
      variables[name] = _variable(
          name, values[name], variable.dtype, name in trainable)
      _assign(session, variables[name], values[name])
    main_op, handles = self._copy_tables(raw)
    replaced, placeholders = self._ends()
    results = self._place(replaced, variables, handles)
    named = self._named(results)
    if _size(graph) > _LARGEST_BYTES:
      raise errors.GraphTooLargeError(
          "The function cannot be exported: its graph is over 2 GB.",
          "Large constants and held values are part of a graph, and a file of "
          "it can hold 2 GB.", "Put them into variables, or make them inputs.")
    return Exported(graph, session, placeholders, named, main_op,
                    self._tolerances(), self._draws())

  def _ends(self):
    """(dict from names of tensors to what is read, dict of placeholders)."""
    replaced, placeholders = {}, collections.OrderedDict()
    for given in self._program.inputs:
      component = given.component
      with tf.name_scope(None):
        placeholder = tf.placeholder(
            component.dtype, component.shape, name=given.name)
      placeholders[given.name] = placeholder
      if given.target is not None:
        replaced[given.target.name] = placeholder
    with tf.name_scope("held"):
      for name, (tensor, array) in self._program.held.items():
        replaced[name] = tf.constant(array, tensor.dtype.base_dtype)
    return replaced, placeholders

  def _place(self, replaced, variables, handles):
    """Imports the ops; list with the copy of each result."""
    graph = self._program.graph
    outside = {v.op.name for v in self._variables}
    outside.update(op.name for op in self._tables)
    names = set(self._ops) - outside - {
        name.split(":")[0] for name in replaced
        if len(graph.get_tensor_by_name(name).op.outputs) == 1}
    replaced = dict(replaced)
    inputs = {}
    for variable in self._variables:
      own = variables[variable.op.name]
      if variable.is_handle:
        inputs[variable.name] = own.handle
      else:
        replaced[variable.name] = own.read_value()
    for op in self._tables:
      inputs[op.outputs[0].name] = handles[op.name]
    subgraph = cloning.subgraph_of(graph, names, self._ops, replaced)
    for node in subgraph.nodes:
      node.device = ""
    functions = subgraph.functions + [
        function for function in traversal.functions_called(
            graph, subgraph.nodes)]
    for holder in [subgraph.nodes] + [f.node_def for f in functions]:
      for node in holder:
        node.device = ""
    holder = tf.GraphDef(node=subgraph.nodes)
    holder.library.function.extend(functions)
    custom_gradient_ops.settle(holder)
    inputs.update(replaced)
    new = _tf.import_nodes(graph, holder.node, inputs, "",
                           holder.library.function)
    return [inputs[t.name] if t.name in inputs else
            new[t.op.name].outputs[t.value_index]
            for t in self._program.results]

  def _named(self, results):
    """dict from signature to dict from the name of each output to a tensor."""
    made, named = {}, collections.OrderedDict()
    for kind, outputs in self._program.signatures.items():
      named[kind] = collections.OrderedDict()
      for output in outputs:
        key = output.name, tuple(output.indices)
        if key not in made:
          parts = [results[i] for i in output.indices]
          with tf.name_scope("outputs/"):
            made[key] = (
                tf.identity(parts[0], output.name) if len(parts) == 1 else
                tf.concat(parts, output.axis, name=output.name))
        named[kind][output.name] = made[key]
    return named

  def _copy_tables(self, session):
    """(what fills the tables, dict from op name to handle)."""
    fillings, handles = [], {}
    for op, (keys, values) in zip(
        self._tables, tables.contents(session, self._tables)):
      handle, filling = _table(op, keys, values)
      handles[op.name] = handle
      fillings.append(filling)
    return (tf.group(*fillings, name="fill_tables") if fillings else None,
            handles)

  def _tolerances(self):
    """The `tolerances` of an `Exported`.

    Half of the digits of the least precise number that a result is made of.
    """
    tolerances = []
    for result in self._program.results:
      ops = traversal.ancestors([result])
      tolerances.append(max(
          _half_of_digits(dtype) for dtype in {
              t.dtype.base_dtype for op in ops.values() for t in op.outputs}))
    return tolerances

  def _draws(self):
    """Whether an op draws random numbers, maybe in a branch not taken."""
    return any(op_types.RANDOM.search(op_type)
               for _, op_type in effects.op_types_of_run(self._ops))


def _size(graph):
  """The size of a graph in bytes, or infinity if it is too large to be known.
  """
  try:
    return graph.as_graph_def().ByteSize()
  except (ValueError, tf.errors.InvalidArgumentError):
    return float("inf")


def _half_of_digits(dtype):
  """The relative error that half of the digits of a dtype leave; 0 for others.
  """
  if not (dtype.is_floating or dtype.is_complex):
    return 0.0
  numpy_dtype = np.dtype(dtype.as_numpy_dtype)
  if numpy_dtype.kind not in "fc":  # bfloat16 has 8 bits.
    return 2.0 ** -4
  return float(np.sqrt(np.finfo(numpy_dtype).eps))


def _variable(name, value, dtype, is_trainable):
  """A resource variable with a certain name, which a Saver restores."""
  shape = np.shape(value)
  return tf.Variable(
      lambda: tf.zeros(shape, dtype), trainable=is_trainable, name=name,
      dtype=dtype, use_resource=True)


def _assign(session, variable, value):
  """Gives a variable its value, with the ops that it has."""
  initializer = variable.initializer
  _tf.session_run(session, initializer, {initializer.inputs[1]: value})


def _table(op, keys, values):
  """A table like that of an op, with a content.

  Returns:
    (handle, op that fills it).
  """
  key_dtype, value_dtype = op.get_attr("key_dtype"), op.get_attr("value_dtype")
  keys = tf.constant(keys, key_dtype)
  values = tf.constant(values, value_dtype)
  if values.shape.ndims > 1:
    handle = tf.raw_ops.MutableHashTableOfTensorsV2(
        key_dtype=key_dtype, value_dtype=value_dtype,
        value_shape=values.shape[1:], shared_name=op.name, name=op.name)
    # TF 1.15 takes no vectors in LookupTableImportV2.
    return handle, tf.raw_ops.LookupTableInsertV2(
        table_handle=handle, keys=keys, values=values)
  handle = tf.raw_ops.HashTableV2(
      key_dtype=key_dtype, value_dtype=value_dtype, shared_name=op.name,
      name=op.name)
  return handle, tf.raw_ops.InitializeTableV2(
      table_handle=handle, keys=keys, values=values)
