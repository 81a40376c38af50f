"""Building ops in a graph of the user's without any trace elsewhere."""

import contextlib

from gradfeed._tf import api
from gradfeed._tf.api import tf

# pylint: disable=protected-access


def control_flow_context(op):
  """The context of control flow v1 that the outputs of `op` are in, or None."""
  context = op._get_control_flow_context()
  if context is not None and op.type in ("Exit", "RefExit"):
    return context.outer_context  # A loop's result is outside of the loop.
  return context


def add_control_inputs(op, control_inputs):
  """Makes `op`, which no session has seen yet, wait for `control_inputs`."""
  op._add_control_inputs(control_inputs)


@contextlib.contextmanager
def _without_overrides(graph):
  """Leaves out what the caller's scopes would write on every new op."""
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
  """No session runs on `graph` inside: what it has seen must not change."""
  return graph._mutation_lock()


@contextlib.contextmanager

def building(graph, context_of=None):
  """Ops made inside go to `graph` under `gradfeed/`, and nowhere else.

  The scopes, devices and control dependencies that surround the caller do not
  reach in. No session can run on the graph meanwhile: TensorFlow breaks a
  session for good if an op changes after that session has seen it.

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
def arrays_of_v1():
  """Tensor arrays that are made inside are of the kind that TF 1 has.

  The gradient of one makes another, and of the kind that the process is set to,
  which fails for a graph of the other kind.
  """
  is_set = tf.control_flow_v2_enabled()
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
