"""Copies ops of a graph, with some of the tensors that they read replaced.

The copies are in the same graph, under `gradfeed/`, and share all that is not
copied: variables, constants, inputs. `subgraphs.py` finds which ops have to be
copied together; `variable_reads.py` turns the reads of a resource variable into
reads of a value.
"""

import collections

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import op_types
from gradfeed.graph import tensors
from gradfeed.rewriting import custom_gradient_ops
from gradfeed.rewriting import function_calls
from gradfeed.rewriting import variable_reads

#: Ops of a graph as nodes to import: `nodes`, list of NodeDef, inputs named
#: "op:index"; `functions`, list of FunctionDef that they call; `external`, dict
#: from the name of each tensor that is read and that none of the nodes makes to
#: the `tf.Tensor` to read; `waits`, list of (node name, op that it has to wait
#: for); `renamed`, dict from the names of tensors that are gone to the names of
#: those that have their values.
Subgraph = collections.namedtuple(
    "Nodes", ["nodes", "functions", "external", "waits", "renamed"])


def clone_subgraph(graph,
                   op_names,
                   ops,
                   replaced,
                   label,
                   pivots=None,
                   renew=None,
                   rewrite=None):
  """Copies ops into their graph with some of their inputs replaced.

  Args:
    graph: `tf.Graph`, not finalized.
    op_names: set of names of the ops to copy.
    ops: dict from name to op that holds them, inputs before users.
    replaced: dict from tensor name to the `tf.Tensor` that is read in its
      place. The handle of a resource variable is replaced by its *value*.
    label: str, the last part of the copy's name scope.
    pivots: dict from a replaced tensor's name to the op that runs only when
      the branch runs that the tensor is computed in; see `pivot_of`.
    renew: None, or the names of the handles that the copy will be
      differentiated by: the functions that it calls get names of their own.
    rewrite: function from the `Subgraph` of the copy to the one to import,
      which may read other tensors; or None.

  Returns:
    dict from the name of each tensor and op that was copied to its copy.

  Raises:
    UnsupportedGraphError: an op needs the variable itself, not its value.
  """
  subgraph = subgraph_of(graph, op_names, ops, replaced, pivots, renew)
  with _tf.building(graph):
    if rewrite is not None:
      subgraph = rewrite(subgraph)
    _rename_frames(subgraph.nodes, graph.unique_name(label, mark_as_used=False))
    new = import_subgraph(graph, subgraph, subgraph.external, label)
    for name, before in subgraph.waits:
      _tf.add_control_inputs(new[name], [before])
  return _copies(ops, op_names, subgraph, new)


def subgraph_of(graph, op_names, ops, replaced, pivots=None, renew=None):
  """The copies of ops as nodes, which `clone_subgraph` imports.

  The arguments are those of `clone_subgraph`.

  Returns:
    `Subgraph`.

  Raises:
    UnsupportedGraphError: an op needs the variable itself, not its value.
  """
  external, waits = {}, []
  guards = [_guard(name, pivot, replaced[name], op_names, external, waits)
            for name, pivot in sorted((pivots or {}).items())]
  guarded = {name: _guard_name(name) + ":0" for name in pivots or ()}
  reads = variable_reads.VariableReads(graph, [
      name for name in replaced
      if graph.get_tensor_by_name(name).dtype == tf.resource])
  order = [op for name, op in ops.items() if name in op_names]
  defs = {op.name: _node(op, op_names, replaced, guarded, external, waits)
          for op in order}
  reads.lift(order, defs)
  for op in order:
    _drop_references(op, defs[op.name], replaced)
  nodes = guards + [defs[op.name] for op in order]
  functions, inlined = reads.functions, {}
  if renew is not None:
    nodes, inlined, first = function_calls.inline_in_copy(graph, order, nodes)
    waits += [(inner, before) for name, before in waits
              for inner in first.get(name, ())]
    waits += _waits_outside(nodes, external)
    functions = function_calls.renew_functions(graph,
                                               function_calls.handles(order),
                                               nodes, renew)
  return Subgraph(nodes, functions, external, waits, inlined)


def _waits_outside(nodes, external):
  """Takes from nodes what they wait for that is not among them.

  A node of a function may wait for an argument. Once it is inlined, it waits
  for the op that makes the argument, which may not be copied.

  Args:
    nodes: list of NodeDef; changed.
    external: dict of a `Subgraph`.

  Returns:
    list of (node name, op that it has to wait for).
  """
  waits, names = [], {"^" + node.name for node in nodes}
  makers = {"^" + name.split(":")[0]: tensor.op
            for name, tensor in external.items()}
  for node in nodes:
    outside = [name for name in node.input
               if name in makers and name not in names]
    for name in outside:
      node.input.remove(name)
      waits.append((node.name, makers[name]))
  return waits


def import_subgraph(graph, subgraph, external, label):
  """Imports a `Subgraph` into the default graph.

  Args:
    graph: `tf.Graph` that the nodes are of.
    subgraph: `Subgraph`.
    external: dict from the names in `subgraph.external` to the tensors to read.
    label: str, the name scope.

  Returns:
    dict from the name of each node to its op.
  """
  cache.cache_of(tf.get_default_graph()).functions.update(
      function.signature.name for function in subgraph.functions)
  return _tf.import_nodes(
      graph, subgraph.nodes, external, label, subgraph.functions)


def without_assignments(graph, subgraph):
  """Leaves the assignments in copied branches to the ops that were copied.

  A run of both would assign twice. A branch whose assignments are left out
  waits for the original; it has the same values, as nothing else in it may
  read what is assigned. Other branches stay as they are.

  Args:
    graph: `tf.Graph` that the nodes are of.
    subgraph: `Subgraph`; its functions are changed.

  Returns:
    `Subgraph`.
  """
  functions = {f.signature.name: f for f in subgraph.functions}
  waits = list(subgraph.waits)
  for node in subgraph.nodes:
    if node.op in op_types.FUNCTIONAL_BRANCHES:
      branches = [functions[callee.name] for callee in _tf.callees(node)
                  if callee.name in functions]
      kept = [_nodes_without_assignments(branch) for branch in branches]
      if None not in kept and any(
          len(nodes) < len(branch.node_def)
          for nodes, branch in zip(kept, branches)):
        for nodes, branch in zip(kept, branches):
          _keep_nodes(branch, nodes)
        # To wait for the op alone does not make its assignments run.
        waits.extend((node.name, tf.identity(output).op) for output in
                     graph.get_operation_by_name(node.name).outputs)
  return subgraph._replace(waits=waits)


def _nodes_without_assignments(function):
  """The names of the nodes of a FunctionDef that it needs beside assignments.

  Returns:
    set of str, all if nothing is assigned; None if something else in it needs
    an assignment or reads what is assigned.
  """
  nodes = {node.name: node for node in function.node_def}
  assigning = {name for name, node in nodes.items()
               if op_types.ASSIGNING.search(node.op)}
  if not assigning:
    return set(nodes)
  assigned = {nodes[name].input[0] for name in assigning}
  read = {name.lstrip("^").split(":")[0] for node in nodes.values()
          for name in node.input}
  queue = [name.split(":")[0] for name in function.ret.values()]
  queue += list(function.control_ret.values()) + sorted(set(nodes) - read)
  needed = set()
  while queue:
    name = queue.pop()
    if name in nodes and name not in needed | assigning:
      needed.add(name)
      if any(given in assigned or given.split(":")[0] in assigning
             for given in nodes[name].input):
        return None
      queue.extend(given.lstrip("^").split(":")[0]
                   for given in nodes[name].input)
  return needed


def _keep_nodes(function, names):
  """Takes all nodes from a FunctionDef but those of some names, in place."""
  kept = [node for node in function.node_def if node.name in names]
  gone = {"^" + node.name for node in function.node_def} - {
      "^" + name for name in names}
  for node in kept:
    given = [name for name in node.input if name not in gone]
    del node.input[:]
    node.input.extend(given)
  del function.node_def[:]
  function.node_def.extend(kept)
  for output, name in list(function.control_ret.items()):
    if name not in names:
      del function.control_ret[output]
  outputs = [name for name in function.signature.control_output
             if name in function.control_ret]
  del function.signature.control_output[:]
  function.signature.control_output.extend(outputs)


def _copies(ops, op_names, subgraph, new):
  """dict from the name of each op of `op_names`, and each output, to the copy.
  """
  copies = {}
  for name in op_names:
    op = ops[name]
    copies[name] = new[name]
    _tf.keep_gradient_function(new[name], op)
    for tensor in op.outputs:
      copies[tensor.name] = output_of(subgraph, new, tensor.name)
  return copies


def output_of(subgraph, new, name):
  """The tensor that has the value of a certain one among the copies.

  Args:
    subgraph: `Subgraph`.
    new: dict from node name to op, as `import_subgraph` returned it.
    name: str, the name of the tensor in the original graph.

  Returns:
    `tf.Tensor`.
  """
  name = function_calls.last_name(name, subgraph.renamed)
  node, index = name.split(":")
  return (new[node].outputs[int(index)] if node in new
          else subgraph.external[name])


def _guard_name(name):
  """The name of the node that `_guard` makes for the tensor called `name`."""
  return name.replace(":", "_") + "_in_its_branch"


def _guard(name, pivot, value, op_names, external, waits):
  """An Identity that gives a value only when a branch runs.

  Args:
    name: str, the name of the tensor in the branch that is replaced.
    pivot: `tf.Operation` that runs only when the branch does.
    value: `tf.Tensor` that is read in its place.
    op_names: set of names of the ops that are copied.
    external: dict of a `Subgraph`, added to.
    waits: list of a `Subgraph`, added to.

  Returns:
    NodeDef.
  """
  node = tf.NodeDef(name=_guard_name(name), op="Identity")
  node.attr["T"].type = value.dtype.as_datatype_enum
  external[_guard_name(name) + "_value:0"] = value
  node.input.append(_guard_name(name) + "_value:0")
  if pivot.name in op_names:
    node.input.append("^" + pivot.name)
  else:
    waits.append((node.name, pivot))
  return node


def _node(op, op_names, replaced, guarded, external, waits):
  """The copy of an op as a node.

  Args:
    op: `tf.Operation`.
    op_names: set of names of the ops that are copied.
    replaced: dict from tensor name to the tensor that is read in its place.
    guarded: dict from the name of a replaced tensor to that of its guard.
    external: dict of a `Subgraph`, added to.
    waits: list of a `Subgraph`, added to.

  Returns:
    NodeDef, its inputs named "op:index".
  """
  node = op.node_def
  custom_gradient_ops.mark(op, node)
  del node.input[:]
  for tensor in op.inputs:
    if tensor.name in replaced and tensor.name not in guarded:
      external[tensor.name] = replaced[tensor.name]
    elif tensor.op.name not in op_names and tensor.name not in guarded:
      external[tensor.name] = tensor
    node.input.append(guarded.get(tensor.name, tensor.name))
  for before in op.control_inputs:
    if before.name in op_names:
      node.input.append("^" + before.name)
    else:
      waits.append((op.name, before))
  _keep_colocation(node, op_names)
  return node


def _keep_colocation(node, op_names):
  """Leaves a NodeDef colocated with those of the ops `op_names` alone."""
  places = node.attr["_class"].list.s if "_class" in node.attr else []
  kept = [place for place in places
          if place.startswith(b"loc:@") and place[5:].decode() in op_names]
  if kept:
    del node.attr["_class"].list.s[:]
    node.attr["_class"].list.s.extend(kept)
  elif places:
    del node.attr["_class"]


#: Type of an op on a reference to that of the op on the value.
_WITHOUT_REFERENCE = {"RefEnter": "Enter", "RefExit": "Exit",
                      "RefIdentity": "Identity", "RefMerge": "Merge",
                      "RefNextIteration": "NextIteration",
                      "RefSwitch": "Switch"}


def _drop_references(op, node, replaced):
  """Turns reads of a ref variable into reads of the value in its place.

  Args:
    op: `tf.Operation`.
    node: NodeDef, its copy; changed.
    replaced: dict from tensor name to the tensor that is read in its place.

  Raises:
    UnsupportedGraphError: the op needs the variable itself.
  """
  fed = [t for t in op.inputs if t.name in replaced]
  if node.op in _WITHOUT_REFERENCE and (
      fed or node.op != "RefEnter"):
    node.op = _WITHOUT_REFERENCE[node.op]
  elif fed:
    arguments = op.op_def.input_arg if op.op_def else []
    for argument, tensor in zip(arguments, op.inputs):
      if argument.is_ref and tensor.name in replaced:
        raise errors.UnsupportedGraphError(
            "{} cannot take another value here.".format(
                tensors.describe(tensor)),
            "{} '{}' changes or inspects the variable itself, and is run with "
            "the outputs.".format(op.type, op.name),
            "Leave that op out of what is evaluated, or assign the variable.")


def _rename_frames(nodes, prefix):
  """Puts `prefix` before the names of the frames of loops, in place.

  Two copies of one loop in one run must not share a frame.
  """
  for node in nodes:
    if node.op in op_types.ENTERS:
      frame = node.attr["frame_name"]
      frame.s = (prefix + "/").encode() + frame.s
