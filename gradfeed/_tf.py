"""The one door to TensorFlow: every version switch and private name is here."""

import contextlib
import importlib
import inspect
import logging
import types
import weakref

import numpy as np

from gradfeed import errors

try:
  import tensorflow.compat.v1 as tf
except ImportError as _error:
  raise errors.DependencyError(
      "gradfeed needs TensorFlow, which cannot be imported ({}).".format(
          _error),
      "TensorFlow is left to you, so that installing gradfeed never replaces "
      "the tensorflow, tensorflow-cpu or tensorflow-gpu of a project.",
      "pip install 'gradfeed[tf]' (or the TensorFlow that your project uses, "
      "1.15 to 2.x).") from _error

# pylint: disable=g-direct-tensorflow-import, wrong-import-position
# pylint: disable=protected-access
from tensorflow.core.framework import op_def_pb2
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import config_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.client import session as session_lib
from tensorflow.python.framework import func_graph
from tensorflow.python.framework import function_def_to_graph
from tensorflow.python.framework import indexed_slices
from tensorflow.python.framework import kernels
from tensorflow.python.framework import meta_graph
from tensorflow.python.framework import ops
from tensorflow.python.ops import resource_variable_ops
from tensorflow.python.ops import variables
from tensorflow.python.ops.parallel_for import control_flow_ops as parallel_for
from tensorflow.python.saved_model import loader_impl

# TF 1 registers the gradients of If and While where it first builds one, which
# is too late for a model that was read from a file.
# pylint: disable=unused-import
from tensorflow.python.ops import cond_v2 as _cond_v2
from tensorflow.python.ops import while_v2 as _while_v2
# pylint: enable=unused-import

IndexedSlicesValue = indexed_slices.IndexedSlicesValue
SavedModel = saved_model_pb2.SavedModel
TensorProto = tensor_pb2.TensorProto
SavedModelLoader = loader_impl.SavedModelLoader
read_meta_graph = meta_graph.read_meta_graph_file
VERSION = tf.__version__
HAS_HANDLE_DATA = "handle_data" in (
    op_def_pb2.OpDef.ArgDef.DESCRIPTOR.fields_by_name)
IS_TF2 = not VERSION.startswith("1.")

#: The name scope of every op that gradfeed adds, with the closing slash that
#: makes `tf.name_scope` take it as it stands.
SCOPE = "gradfeed/"


def is_eager(value):
  """Whether `value` is an eager tensor or variable, or one of Keras 3."""
  if type(value).__name__ == "KerasTensor":
    return True
  if not isinstance(value, tf.Tensor) and not is_variable(value):
    return type(value).__module__.split(".")[0] == "keras"
  return isinstance(getattr(value, "handle", value), ops.EagerTensor)


def is_variable(value):
  return isinstance(value, variables.Variable) or is_resource_variable(value)


def is_partitioned(value):
  return isinstance(value, variables.PartitionedVariable)


def partition_axis(variable):
  """The axis that a partitioned variable is cut along."""
  return variable._partition_axes()[0]


def graph_element(variable):
  """What `Session.run` fetches for a variable: a read, or the ref itself.

  The result of `tf.assign` passes for a variable too; its element is the read
  that waits for the assignment.
  """
  return variable._as_graph_element()


def is_resource_variable(value):
  return resource_variable_ops.is_resource_variable(value)


def executing_eagerly():
  return tf.executing_eagerly()


def dereference(key):
  """The tensor or variable behind `.ref()`, or `key` itself."""
  dereferenced = getattr(key, "deref", None)
  return dereferenced() if callable(dereferenced) else key


def gradient_function(op):
  """The registered gradient function of `op`; None if declared to have none.

  Raises:
    LookupError: nothing is registered for the type of `op`.
  """
  return ops.get_gradient_function(op)


def has_gradient(op):
  """Whether a gradient function is registered for `op`, if only as none."""
  try:
    gradient_function(op)
  except LookupError:
    return False
  return True


def registered_gradient(name):
  """The gradient function registered as `name`, or None."""
  try:
    return ops._gradient_registry.lookup(name)
  except LookupError:
    return None


def has_own_gradient(node):
  """Whether a NodeDef names a gradient function, as of `tf.custom_gradient`.
  """
  return "_gradient_op_type" in node.attr


def is_restored_gradient(name):
  """Whether the gradient `name` came with a model, by `tf.saved_model.load`.

  It numbers them anew in this process, and has the functions of some.
  """
  return getattr(registered_gradient(name), "__module__", "").endswith(
      "function_deserialization")


def was_imported(op):
  """Whether `op` was read from a GraphDef, and not made in Python.

  TF 2 keeps no stack of such an op, and TF 1 that of the import.
  """
  for frame in reversed(op.traceback or ()):
    if frame[0].endswith("importer.py"):
      return True
    if frame[0].endswith("custom_gradient.py"):
      return False
  return op.traceback is None


def was_node_imported(graph, function, name):
  """`was_imported` of the op that is the node `name` of a function.

  Args:
    graph: `tf.Graph` whose library holds the function.
    function: str, its name.
    name: str.
  """
  made = graph._get_function(function)
  body = getattr(made, "graph", None)
  if body is None:  # `tf.Defun` keeps what it was made from.
    return getattr(made, "_func", None) is None
  try:
    return was_imported(body.get_operation_by_name(name))
  except KeyError:
    return True


def is_reference(tensor):
  return tensor.dtype._is_ref_dtype


def is_trainable_dtype(dtype):
  """Whether TensorFlow lets gradients flow through a tensor of `dtype`."""
  return is_number(dtype) or dtype.base_dtype in (tf.resource, tf.variant)


def is_number(dtype):
  """Whether `dtype` is floating or complex, a reference or not."""
  return dtype.base_dtype.is_floating or dtype.base_dtype.is_complex


def control_flow_context(op):
  """The context of control flow v1 that the outputs of `op` are in, or None."""
  context = op._get_control_flow_context()
  if context is not None and op.type in ("Exit", "RefExit"):
    return context.outer_context  # A loop's result is outside of the loop.
  return context


def function_definition(graph, name):
  """The FunctionDef called `name` in the library of `graph`, or None."""
  function = graph._get_function(name)
  if function is None:
    return None
  for attribute in ("cached_definition", "definition", "function_def"):
    definition = getattr(function, attribute, None)
    if definition is not None:
      return definition
  return None


def flat_nodes(graph, definition):
  """The nodes of a FunctionDef with inputs named as in a graph.

  Args:
    graph: `tf.Graph` whose library holds what the function calls.
    definition: FunctionDef.

  Returns:
    (list of NodeDef, first a placeholder for each argument; dict from the
    names of tensors in the function to their names in the nodes).
  """
  with graph.as_default():
    graph_def, names = function_def_to_graph.function_def_to_graph_def(
        definition)
  return list(graph_def.node), names


def scratch_graph():
  """A graph to build in that no session ever runs.

  It is a FuncGraph, so that loops and branches made in it are functional, in
  either mode of TensorFlow.
  """
  return func_graph.FuncGraph("gradfeed")


def is_function(graph):
  """Whether `graph` is the body of a function."""
  return isinstance(graph, func_graph.FuncGraph)


def captures(graph):
  """[(tensor outside, tensor inside)] of what a function reads from outside."""
  return list(zip(graph.external_captures, graph.internal_captures))


def vectorised(body, count):
  """`body(i)` for all i below `count`, stacked, by ops on whole stacks.

  Args:
    body: function from an int32 scalar tensor to a list of tensors.
    count: int or int32 scalar tensor.

  Raises:
    ValueError, NotImplementedError, TypeError and others, where TensorFlow has
    no vectorised form of an op.
  """
  graph = tf.get_default_graph()
  before = len(graph.get_operations())
  with _quiet():
    results = parallel_for.pfor(_as_it_stands(body), count)
  _bear_no_rows(graph.get_operations()[before:])
  return results


def _bear_no_rows(ops_made):
  """Mends the shapes that parallel_for leaves to be found out.

  The product of a stack of matrices with a matrix is reshaped to
  [count, rows, -1], or to [-1, count, columns]. Where there are no rows, or
  nothing to count, TensorFlow finds out something else.
  """
  for op in ops_made:
    if op.type == "Reshape" and op.inputs[0].op.type == "MatMul" and (
        op.inputs[1].op.type == "Pack"):
      product, lengths = op.inputs[0], list(op.inputs[1].op.inputs)
      for place, axis in ((0, 0), (-1, 1)):
        if tf.get_static_value(lengths[place]) == -1:
          lengths[place] = tf.shape(product)[axis]
          op._update_input(1, tf.stack(lengths))


class _NotOfConversions(logging.Filter):
  """Leaves out what parallel_for says of ops that it cannot convert."""

  def filter(self, record):
    return "parallel_for" not in record.pathname


@contextlib.contextmanager
def _quiet():
  """A conversion that fails is no error: another way is taken then."""
  leave_out = _NotOfConversions()
  logger = logging.getLogger("tensorflow")
  logger.addFilter(leave_out)
  try:
    yield
  finally:
    logger.removeFilter(leave_out)


def show_bodies(graph):
  """Makes the bodies of imported functions known to parallel_for.

  It looks for the graph that a function was traced from, which one that was
  read from a GraphDef lacks.

  Args:
    graph: FuncGraph that no session runs; its record of functions is changed.
  """
  if not IS_TF2:
    return  # There it converts no calls of functions.
  for name, function in list(graph._functions.items()):
    if isinstance(getattr(function, "graph", None), func_graph.FuncGraph):
      continue
    function.graph = body = function_graph(
        graph, function_definition(graph, name))
    function.function_type = types.SimpleNamespace(flat_outputs=body.outputs)
    function._func_graph_outputs = body.outputs  # What older TF reads.
    show_bodies(body)


def looped(body, dtypes, count):
  """What `vectorised` gives, one i after the other; `dtypes` of the results."""
  return parallel_for.for_loop(
      _as_it_stands(body), dtypes, count, parallel_iterations=1)


def _as_it_stands(body):
  """`body` without what AutoGraph would make of it."""
  return tf.autograph.experimental.do_not_convert(body)


def function_graph(graph, definition):
  """A FunctionDef of the library of `graph` as a graph of its own."""
  with graph.as_default():
    return function_def_to_graph.function_def_to_graph(definition)


def traced_graph(graph, name, definition):
  """The graph that a function was traced from, or None: one read from a file.

  Its ops know the lines of code that made them.
  """
  traced = getattr(graph._get_function(name), "graph", None)
  signature = definition.signature
  if is_function(traced) and (
      len(traced.inputs) == len(signature.input_arg) and
      len(traced.outputs) == len(signature.output_arg)):
    return traced
  return None


def keep_gradient_function(copy, original):
  """Calls of a `tf.function` know their gradient in Python, not in the graph.
  """
  function = getattr(original, "_gradient_function", None)
  if function is not None:
    copy._gradient_function = function


def set_handle_data(argument, dtype, shape):
  """Writes into an argument of a FunctionDef which variable it stands for.

  Args:
    argument: OpDef.ArgDef of type DT_RESOURCE; changed.
    dtype: `tf.DType` of the variable.
    shape: TensorShapeProto of the variable.
  """
  if HAS_HANDLE_DATA:
    del argument.handle_data[:]
    argument.handle_data.add(
        dtype=dtype.as_datatype_enum).shape.CopyFrom(shape)


def add_control_inputs(op, control_inputs):
  """Makes `op`, which no session has seen yet, wait for `control_inputs`."""
  op._add_control_inputs(control_inputs)


def slice_info(variable):
  """(offset, shape) of one part of a partitioned variable in the whole."""
  info = variable._get_save_slice_info()
  return list(info.var_offset), list(info.var_shape)


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
      stack.enter_context(tf.name_scope(SCOPE))
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


def raw_session(session):
  """The `tf.Session` inside `session`, or None where there is none to reach.

  A monitored session holds its real one under hooks (and may replace it after
  a failure, so ask at each call); a debug-wrapped one must be run through its
  wrapper, because that is what the user asked for by wrapping it.
  """
  if isinstance(session, session_lib.BaseSession):
    return session
  inner = getattr(session, "_tf_sess", None)
  if callable(inner):
    raw = inner()
    if isinstance(raw, session_lib.BaseSession):
      return raw
  return None


def innermost_session(session):
  """The plain session under every wrapper, for questions about its state."""
  for _ in range(8):
    raw = raw_session(session)
    if raw is not None:
      return raw
    inner = getattr(session, "_sess", None) or getattr(
        session, "_session", None)
    if inner is None or inner is session:
      return session
    session = inner
  return session


def is_closed(session):
  monitored = getattr(session, "_is_closed", None)
  if callable(monitored) and monitored():
    return True
  raw = raw_session(session)
  return raw is not None and bool(getattr(raw, "_closed", False))


def is_remote(session):
  return bool(getattr(session, "sess_str", b""))


def session_memo(session):
  """A mapping that lives as long as `session`, with weakly held keys.

  It is kept on the session: kept anywhere else, the callables in it, which
  point back to their session, would keep a closed session's memory alive.
  """
  memo = session.__dict__.get("_gradfeed_memo")
  if memo is None:
    memo = session.__dict__.setdefault(
        "_gradfeed_memo", weakref.WeakKeyDictionary())
  return memo


def milliseconds(seconds):
  """What `timeout_in_ms` takes; none would be no limit at all."""
  return max(1, int(seconds * 1000))


def make_callable(session, feeds, fetches, targets, on_caller_thread,
                  timeout=None):
  """Compiles one set of feeds and fetches of a raw session.

  Args:
    session: a session that `raw_session` returned.
    feeds: list of tensor names.
    fetches: list of tensor names.
    targets: list of op names, run and not fetched.
    on_caller_thread: bool; run the ops in the thread that calls. This answers
      a small graph several times sooner than TensorFlow's thread pool.
    timeout: float, seconds, or None for no limit.

  Returns:
    A callable from the sequence of the values of `feeds`, in order, exact
    dtypes, to the list of the values of `fetches`. It checks nothing. Its
    attribute `parts` is what it is made of, for a caller that cannot afford
    one more Python frame: `run(pointer, handle, tuple of arrays, None)`.
  """
  options = config_pb2.CallableOptions()
  options.feed.extend(feeds)
  options.fetch.extend(fetches)
  options.target.extend(targets)
  if on_caller_thread:
    options.run_options.inter_op_thread_pool = -1
  if timeout is not None:
    options.run_options.timeout_in_ms = milliseconds(timeout)
  compiled = session._make_callable_from_options(options)
  run, pointer, handle = (
      session_lib.tf_session.TF_SessionRunCallable, session._session,
      compiled._handle)

  def call(arrays, _keep=compiled):  # Released with the last reference.
    return run(pointer, handle, tuple(arrays), None)

  call.parts = run, pointer, handle
  return call


def plain_session(graph):
  """A session on the processor alone that runs ops as they stand.

  It rewrites nothing and takes no memory of a GPU.
  """
  config = tf.ConfigProto(device_count={"GPU": 0})
  config.graph_options.optimizer_options.opt_level = -1
  config.graph_options.rewrite_options.disable_meta_optimizer = True
  return tf.Session(graph=graph, config=config)


def has_kernel(node):
  """Whether the processor can run a NodeDef with the dtypes that it names."""
  registered = [kernel for kernel in
                kernels.get_registered_kernels_for_op(node.op).kernel
                if kernel.device_type == "CPU"]
  return not registered or any(
      all(node.attr[constraint.name].type in
          constraint.allowed_values.list.type
          for constraint in kernel.constraint
          if node.attr[constraint.name].type)
      for kernel in registered)


def op_definition(graph, op_type):
  """The OpDef of an op or, by its name, of a function; None if unknown."""
  look_up = getattr(graph, "op_def_for_type", None) or graph._get_op_def
  try:
    return look_up(op_type)
  except (KeyError, ValueError, tf.errors.OpError):
    return None


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


def constant_value(tensor):
  """The value of a constant, as an array; None for any other tensor.

  `tf.get_static_value` would make a tensor that it evaluates unfeedable.
  """
  if tensor.op.type != "Const":
    return None
  return tf.make_ndarray(tensor.op.get_attr("value"))


def static_value(tensor):
  """`tf.get_static_value`, after which the tensor can still be fed."""
  graph = tensor.graph
  graph.prevent_feeding = lambda unused_tensor: None
  try:
    return tf.get_static_value(tensor)
  finally:
    del graph.prevent_feeding


def numpy_dtype(dtype):
  """The NumPy dtype of a value of TensorFlow's `dtype`, or None (resources)."""
  try:
    return np.dtype(dtype.base_dtype.as_numpy_dtype)
  except (TypeError, KeyError):
    return None


def captured(tensor):
  """`tensor` as the function that is being built reads it from outside.

  TF 1 adds up the gradients by the arguments of a branch, even those of truth
  values, which cannot be added: there, a truth value goes in as a number.
  """
  graph = tf.get_default_graph()
  if tensor.graph is graph:
    return tensor
  if IS_TF2 or tensor.dtype.base_dtype != tf.bool:
    return graph.capture(tensor)
  with tensor.graph.as_default():
    number = tf.cast(tensor, tf.int32)
  return tf.cast(graph.capture(number), tf.bool)


def records(path):
  """Iterates over the records of a TFRecord file, bytes each.

  Raises:
    tf.errors.DataLossError: the file is damaged.
  """
  options = tf.io.TFRecordOptions(
      tf.io.TFRecordCompressionType.GZIP if path.endswith(".gz") else
      tf.io.TFRecordCompressionType.NONE)
  # The iterator itself, without its advice to use eager execution.
  return tf.io.tf_record_iterator.__wrapped__(path, options)


def keras():
  """Keras 2, which can build in a graph of v1; Keras 3 cannot.

  Raises:
    DependencyError: this TensorFlow comes with Keras 3, and nothing else is
      installed.
  """
  if not IS_TF2:
    return tf.keras
  try:
    import tf_keras  # pylint: disable=g-import-not-at-top
    return tf_keras
  except ImportError:
    number = tuple(map(int, VERSION.split(".")[:2]))
    if number < (2, 16):
      return tf.keras
  raise errors.DependencyError(
      "A model of Keras 2 needs tf_keras with TensorFlow {}.".format(VERSION),
      "It comes with Keras 3, which cannot build in a graph of TensorFlow 1.",
      "pip install 'tf_keras=={}.{}.*'".format(*number))


def _keras_module(keras_package, *names):
  """The first module of Keras that there is of those called `names`."""
  root = keras_package.backend.learning_phase.__module__.rpartition(".")[0]
  for name in names:
    try:
      return importlib.import_module("{}.{}".format(root, name))
    except ImportError:
      continue
  raise errors.UnsupportedGraphError(
      "Keras {} is not known.".format(keras_package.__version__),
      "It has none of {}.".format(", ".join(names)),
      "Use the one that fits TensorFlow {}.".format(VERSION))


def set_inference(keras_package):
  """Makes the layers that are built in the default graph those of inference.

  The learning phase is of the graph: no other graph sees it.
  """
  backend = _keras_module(keras_package, "backend")
  getattr(backend, "deprecated_internal_set_learning_phase",
          backend.set_learning_phase)(0)


def leave_uninitialized(variable):
  """Keeps Keras from running the initializer when it first has a session."""
  variable._keras_initialized = True


def load_weights(keras_package, model, group):
  """Assigns the weights in an HDF5 group to those of a model of Keras.

  Args:
    keras_package: what `keras` returned.
    model: model of Keras, built.
    group: `h5py.Group`.
  """
  load = _keras_module(keras_package, "saving.legacy.hdf5_format",
                       "saving.hdf5_format").load_weights_from_hdf5_group
  takes_layers = "layers" in inspect.signature(load).parameters
  load(group, model.layers if takes_layers else model)
