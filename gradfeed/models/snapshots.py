"""Clones a graph with the values of its variables; the clone is open to ops."""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation import sessions
from gradfeed.graph import effects
from gradfeed.graph import lookup
from gradfeed.graph import tensors
from gradfeed.rewriting import custom_gradient_ops

#: The size of a GraphDef is limited to 2 GB; some bytes are left for the
#: message that it is part of.
_LARGEST_BYTES = (1 << 31) - (1 << 20)


def snapshot(session):
  """Clones the graph of `session`, with the values of its variables.

  The way out where a graph is finalized (MonitoredSession, Supervisor): in the
  clone everything can be built. The original graph and session are only read;
  neither ever sees what becomes of the clone.

  Variables that have no value in `session` have none in the clone. Queues,
  tables and iterators are there, as they are before their first use. While
  loops of control flow v1 can be differentiated in the clone too.

  Args:
    session: `tf.Session`, `MonitoredSession` (no hook fires) or a wrapper of
      one.

  Returns:
    `Snapshot`, which closes its session at the end of a `with` block.

  Raises:
    GraphTooLargeError: the graph is over two gigabytes.
    SessionError: the session is closed.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default() as graph, tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [], name="x")
    ...   y = x ** 3
    ...   graph.finalize()
    ...   with gf.snapshot(session) as clone:
    ...     dx = gf.gradient(clone.tensor(y), clone.tensor(x))
    ...     print(clone.session.run(dx, {"x:0": 2.0}))
    12.0
  """
  source = sessions.graph_of(session)
  sessions.check_process(session)
  raw = _tf.innermost_session(session)
  graph = _clone_graph(source)
  clone = _tf.Session(graph=graph)
  try:
    _copy_values(raw, source, clone)
  except Exception:
    clone.close()
    raise
  return Snapshot(source, graph, clone)


class Snapshot:
  """What `snapshot` returns; a context manager that closes the session.

  Attributes:
    graph: `tf.Graph`, the clone, not finalized; names are the original's.
    session: `tf.Session` on it, with the values of the variables.
  """

  def __init__(self, source, graph, session):
    self.graph = graph
    self.session = session
    self._source = source

  def tensor(self, original):
    """The clone's tensor for one of the original graph.

    Args:
      original: `tf.Tensor`, variable, or name.

    Returns:
      `tf.Tensor` of `graph`; for a variable what stands for it in a call of
      gradfeed.

    Raises:
      TensorNotFoundError: the original has no tensor of that name.
      GraphMismatchError: it is a tensor of another graph.
    """
    if not isinstance(original, str):
      original = tensors.resolve(original, self._source, "tensor").name
    return lookup.lookup(original, self.graph)

  def close(self):
    """Closes the session of the clone."""
    self.session.close()

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.close()


def _clone_graph(source):
  """Makes a new graph with the ops, functions and collections of `source`.

  Raises:
    GraphTooLargeError: the graph is over two gigabytes.
  """
  with source.as_default():
    try:
      meta = tf.train.export_meta_graph(graph=source)
      size = meta.graph_def.ByteSize()
    except ValueError as error:
      if "2GB" not in str(error):
        raise
      size = _LARGEST_BYTES + 1
  if size > _LARGEST_BYTES:
    raise errors.GraphTooLargeError(
        "The graph cannot be cloned: it is over 2 GB.",
        "Large constants are part of a graph, and its serialised form can "
        "hold 2 GB.", "Put them into variables, or feed them.")
  custom_gradient_ops.keep_all(source, meta.graph_def)
  graph = tf.Graph()
  with graph.as_default():
    # Its devices may be those of a cluster; the clone runs here.
    tf.train.import_meta_graph(meta, clear_devices=True)
  return graph


def _copy_values(session, source, clone):
  """Gives the variables of a clone the values of those of the original.

  Args:
    session: `tf.Session` on the original graph.
    source: `tf.Graph`, the original.
    clone: `tf.Session` on the clone.
  """
  variables = effects.variables(source.get_operations())
  with source.as_default():
    uninitialized = sessions.uninitialized(session, variables)
  reads = {}
  for op in variables:
    if op.name in uninitialized:
      continue
    variable = tensors.Dense(op.outputs[0])
    try:
      reads[op.name] = tensors.read_of(variable)
    except errors.ArgumentError:
      if not source.finalized:  # Else no op can be added that reads it.
        reads[op.name] = sessions.new_read(variable)
  values = _tf.session_run(session, reads)
  with clone.graph.as_default():
    for name, value in values.items():
      _assign(clone, name, value)


def _assign(session, name, value):
  """Gives one variable a value.

  Args:
    session: `tf.Session` on the default graph.
    name: str, the name of the op that is the variable.
    value: array.
  """
  target = session.graph.get_operation_by_name(name).outputs[0]
  component = tensors.Dense(target)
  fed = tf.placeholder(component.dtype, np.shape(value))
  if component.is_handle:
    assign = tf.raw_ops.AssignVariableOp(resource=target, value=fed)
  else:
    assign = tf.raw_ops.Assign(ref=target, value=fed, validate_shape=False)
  # A copy: an assignment may keep the memory of an array that is fed.
  _tf.session_run(
      session, assign if isinstance(assign, tf.Operation) else assign.op,
      {fed: np.array(value)})
