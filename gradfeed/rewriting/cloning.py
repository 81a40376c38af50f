"""Copies a part of a graph, with some of its tensors replaced.

The copy stands in the same graph, under `gradfeed/`, and shares everything
that is not copied: variables, constants, inputs. What has to be copied with
what is worked out in `subgraphs.py`; `variable_reads.py` turns the reads of a
resource variable into reads of a value.
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

#: A part of a graph as it can be imported: `nodes`, list of NodeDef, inputs
#: named "op:index"; `functions`, list of FunctionDef that they call;
#: `external`, dict from the name of each tensor that is read and not made here
#: to what is read; `waits`, list of (node name, op that it has to wait for);
#: `renamed`, dict from names of tensors that are gone to what has their values.
Subgraph = collections.namedtuple(
    "Nodes", ["nodes", "functions", "external", "waits", "renamed"])


def clone_subgraph(graph,
                   part,
                   found,
                   replaced,
                   label,
                   pivots=None,
                   renew=None,
                   rewrite=None):
  """Copies the ops of `part` into `graph` with some inputs replaced.

  Args:
    graph: `tf.Graph`, not finalized.
    part: set of names of the ops to copy.
    found: dict from name to op that holds them, inputs before users.
    replaced: dict from tensor name to the `tf.Tensor` that is read in its
      place. The handle of a resource variable is replaced by its *value*.
    label: str, the last part of the copy's name scope.
    pivots: dict from a replaced tensor's name to the op that runs only when
      the branch runs that the tensor is computed in; see `pivot_of`.
    renew: None, or the names of the handles that the copy will be
      differentiated by: the functions that it calls get names of their own.
    rewrite: function from the `Subgraph` of the copy to those to import, which
      may read other tensors; or None.

  Returns:
    dict from the name of each tensor and op that was copied to its copy.

  Raises:
    UnsupportedGraphError: an op needs the variable itself, not its value.
  """
  made = subgraph_of(graph, part, found, replaced, pivots, renew)
  with _tf.building(graph):
    if rewrite is not None:
      made = rewrite(made)
    _rename_frames(made.nodes, graph.unique_name(label, mark_as_used=False))
    new = import_subgraph(graph, made, made.external, label)
    for name, before in made.waits:
      _tf.add_control_inputs(new[name], [before])
  return _copies(found, part, made, new)


def subgraph_of(graph, part, found, replaced, pivots=None, renew=None):
  """What `clone_subgraph` imports; the arguments are those of `clone_subgraph`.

  Returns:
    `Subgraph`.
  """
  external, waits = {}, []
  guards = [_guard(name, pivot, replaced[name], part, external, waits)
            for name, pivot in sorted((pivots or {}).items())]
  guarded = {name: _guard_name(name) + ":0" for name in pivots or ()}
  lifted = variable_reads.VariableReads(graph, [
      name for name in replaced
      if graph.get_tensor_by_name(name).dtype == tf.resource])
  order = [op for name, op in found.items() if name in part]
  defs = {op.name: _node(op, part, replaced, guarded, external, waits)
          for op in order}
  lifted.lift(order, defs)
  for op in order:
    _drop_references(op, defs[op.name], replaced)
  nodes = guards + [defs[op.name] for op in order]
  functions, inlined = lifted.functions, {}
  if renew is not None:
    nodes, inlined, first = function_calls.inline_in_copy(graph, order, nodes)
    waits += [(inner, before) for name, before in waits
              for inner in first.get(name, ())]
    functions = function_calls.renew_functions(graph,
                                               function_calls.handles(order),
                                               nodes, renew)
  return Subgraph(nodes, functions, external, waits, inlined)


def import_subgraph(graph, made, external, label):
  """Imports `Subgraph` into the default graph.

  Args:
    graph: `tf.Graph` that they are of.
    made: `Subgraph`.
    external: dict from the names of `made.external` to the tensors to read.
    label: str, the name scope.

  Returns:
    dict from the name of each node to its op.
  """
  graph_def = tf.GraphDef()
  graph_def.versions.CopyFrom(graph.graph_def_versions)
  graph_def.node.extend(made.nodes)
  graph_def.library.function.extend(made.functions)
  names = [node.name for node in made.nodes]
  cache.cache_of(tf.get_default_graph()).functions.update(
      function.signature.name for function in made.functions)
  imported = tf.import_graph_def(
      graph_def, input_map=external, return_elements=names, name=label)
  return dict(zip(names, imported))


def _copies(found, part, made, new):
  """The copy of each tensor and op of `part`, by name."""
  copies = {}
  for name in part:
    op = found[name]
    copies[name] = new[name]
    _tf.keep_gradient_function(new[name], op)
    for tensor in op.outputs:
      copies[tensor.name] = output_of(made, new, tensor.name)
  return copies


def output_of(made, new, name):
  """The tensor that has the value of the one called `name` among the copies.

  Args:
    made: `Subgraph`.
    new: what `import_subgraph` returned.
    name: str.
  """
  name = function_calls.last_name(name, made.renamed)
  node, index = name.split(":")
  return (new[node].outputs[int(index)] if node in new
          else made.external[name])


def _guard_name(name):
  return name.replace(":", "_") + "_in_its_branch"


def _guard(name, pivot, value, part, external, waits):
  """An Identity of `value` that runs only when `pivot` does."""
  node = tf.NodeDef(name=_guard_name(name), op="Identity")
  node.attr["T"].type = value.dtype.as_datatype_enum
  external[_guard_name(name) + "_value:0"] = value
  node.input.append(_guard_name(name) + "_value:0")
  if pivot.name in part:
    node.input.append("^" + pivot.name)
  else:
    waits.append((node.name, pivot))
  return node


def _node(op, part, replaced, guarded, external, waits):
  """The NodeDef of `op`, its inputs named as the import will find them."""
  node = op.node_def
  custom_gradient_ops.mark(op, node)
  del node.input[:]
  for tensor in op.inputs:
    if tensor.name in replaced and tensor.name not in guarded:
      external[tensor.name] = replaced[tensor.name]
    elif tensor.op.name not in part and tensor.name not in guarded:
      external[tensor.name] = tensor
    node.input.append(guarded.get(tensor.name, tensor.name))
  for before in op.control_inputs:
    if before.name in part:
      node.input.append("^" + before.name)
    else:
      waits.append((op.name, before))
  places = node.attr["_class"].list.s if "_class" in node.attr else []
  kept = [place for place in places
          if place.startswith(b"loc:@") and place[5:].decode() in part]
  if places:
    del node.attr["_class"].list.s[:]
    if kept:
      node.attr["_class"].list.s.extend(kept)
    else:
      del node.attr["_class"]
  return node


_WITHOUT_REFERENCE = {"RefEnter": "Enter", "RefExit": "Exit",
                      "RefIdentity": "Identity", "RefMerge": "Merge",
                      "RefNextIteration": "NextIteration",
                      "RefSwitch": "Switch"}


def _drop_references(op, node, replaced):
  """Reads of a ref variable become reads of the value in its place."""
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
  """Two copies of one loop in one run must not share a frame."""
  for node in nodes:
    if node.op in op_types.ENTERS:
      frame = node.attr["frame_name"]
      frame.s = (prefix + "/").encode() + frame.s
