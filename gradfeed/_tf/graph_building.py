"""Adds ops to a graph of the user's, whatever scopes the caller is in."""

import contextlib

from tensorflow.python.ops import while_v2

from gradfeed._tf import api
from gradfeed._tf.api import tf

# pylint: disable=protected-access


def loop_ended_by(op):
  """The context of the loop of control flow v1 that `op` hands a result of.

  None for an op of another kind, and for a loop without a context.
  """
  return (op._get_control_flow_context() if op.type in ("Exit", "RefExit")
          else None)


def control_flow_context(op):
  """The context of control flow v1 that the outputs of `op` are in, or None."""
  loop = loop_ended_by(op)
  return op._get_control_flow_context() if loop is None else loop.outer_context


def add_control_inputs(op, control_inputs):
  """Makes `op`, which no session has seen yet, wait for `control_inputs`."""
  op._add_control_inputs(control_inputs)


def import_nodes(graph, nodes, inputs, name, functions=()):
  """Imports nodes into the default graph.

  Args:
    graph: `tf.Graph` that the nodes are of: it tells for which version of the
      ops they were written.
    nodes: iterable of NodeDef, with inputs named as in a GraphDef.
    inputs: dict from the name of a tensor, "op:index", to the `tf.Tensor` that
      the nodes read in its place; what none of them reads is left out.
    name: str, the name scope of the new ops; "" for none.
    functions: iterable of FunctionDef that the nodes call and that the default
      graph may lack.

  Returns:
    dict from the name of each node to its `tf.Operation`.
  """
  graph_def = tf.GraphDef()
  graph_def.versions.CopyFrom(graph.graph_def_versions)
  graph_def.node.extend(nodes)
  graph_def.library.function.extend(functions)
  names = [node.name for node in graph_def.node]
  read = {source if ":" in source else source + ":0"
          for node in graph_def.node for source in node.input}
  ops = tf.import_graph_def(
      graph_def, return_elements=names, name=name, input_map={
          source: tensor for source, tensor in inputs.items()
          if source in read})
  for node, op in zip(graph_def.node, ops):
    if node.op in ("While", "StatelessWhile"):
      _keep_handle_data(op)
  return dict(zip(names, ops))


def _keep_handle_data(loop):
  """Tells what the variables are that an imported loop hands on.

  TensorFlow does so where it builds a loop, and not where it reads one.
  """
  handles = [(before, after) for before, after in zip(loop.inputs, loop.outputs)
             if after.dtype == tf.resource]
  if handles:
    while_v2._copy_handle_data(*zip(*handles))


@contextlib.contextmanager
def _without_overrides(graph):
  """Suspends scopes that set attributes, gradients or kernels of new ops."""
  saved = {name: getattr(graph, name) for name in (
      "_attr_scope_map", "_gradient_override_map", "_gradient_function_map",
      "_op_to_kernel_label_map") if hasattr(graph, name)}
  for name in saved:
    setattr(graph, name, {})
  try:
    yield
  finally:
    for name, value in saved.items():
      setattr(graph, name, value)


def without_runs(graph):
  """A context in which no session can run on `graph`.

  An op must not change after a session has seen it.
  """
  return graph._mutation_lock()


@contextlib.contextmanager
def building(graph, context_of=None):
  """A context in which new ops go to `graph`, under the scope `gradfeed/`.

  The scopes, devices and control dependencies of the caller do not apply to
  them. No session can run on the graph meanwhile: TensorFlow breaks a session
  for good if an op changes after that session has seen it.

  Args:
    graph: `tf.Graph`.
    context_of: `tf.Operation` or None; inside a `tf.while_loop` or `tf.cond`
      the caller's control flow context has to stay.
  """
  inside = (context_of is not None and
            control_flow_context(context_of) is not None)
  with graph.as_default(), without_runs(graph):
    with contextlib.ExitStack() as stack:
      if not inside:
        stack.enter_context(tf.control_dependencies(None))
      stack.enter_context(tf.device(None))
      stack.enter_context(graph.container(""))
      stack.enter_context(graph.colocate_with(None, ignore_existing=True))
      stack.enter_context(_without_overrides(graph))
      stack.enter_context(tf.name_scope(api.SCOPE))
      yield


@contextlib.contextmanager
def arrays_of_v1(are_there=True):
  """A context in which new tensor arrays are those of control flow v1.

  The gradient of a tensor array makes another, of the kind that the process is
  set to, which fails if the array itself is of the other kind.

  Args:
    are_there: bool; without tensor arrays nothing is set.
  """
  is_set = are_there and tf.control_flow_v2_enabled()
  if is_set:
    tf.disable_control_flow_v2()
  try:
    yield
  finally:
    if is_set:
      tf.enable_control_flow_v2()


def is_inside(op):
  """Whether `op` lies in a loop or a branch of control flow v1."""
  return control_flow_context(op) is not None


def is_inside_while(op):
  """Whether `op` lies in a `tf.while_loop` of control flow v1."""
  context = control_flow_context(op)
  while context is not None:
    if context.IsWhileContext():
      return True
    context = context.outer_context
  return False
