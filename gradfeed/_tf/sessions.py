"""Sessions, wrappers of sessions, and compiled calls."""

import atexit
import weakref

import numpy as np
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.client import session as session_lib
from tensorflow.python.framework import kernels
from tensorflow.python.ops import session_ops

from gradfeed._tf.api import tf

# pylint: disable=protected-access

#: TensorFlow's own classes, whatever stands in their place in its modules.
BaseSession = session_lib.BaseSession
Session = session_lib.Session
InteractiveSession = session_lib.InteractiveSession

_RUN = BaseSession.run


def session_run(session, *arguments, **options):
  """`session.run` as TensorFlow wrote it, also where it was replaced."""
  if isinstance(session, BaseSession):
    return _RUN(session, *arguments, **options)
  return session.run(*arguments, **options)


def raw_session(session):
  """The `tf.Session` that may be run in the place of `session`, or None.

  A monitored session has one under its hooks, and may replace it after a
  failure: so this is called for each run. A session that is wrapped for
  debugging has to be run through its wrapper, as the user wants to see it.
  """
  if isinstance(session, BaseSession):
    return session
  inner = getattr(session, "_tf_sess", None)
  if callable(inner):
    raw = inner()
    if isinstance(raw, BaseSession):
      return raw
  return None


def innermost_session(session):
  """The session under all wrappers, to read its state, not to be run."""
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


def session_cache(session):
  """A WeakKeyDictionary that lives as long as `session`.

  It is an attribute of the session: anywhere else, the callables in it, which
  refer to their session, would keep the memory of a closed session.
  """
  memo = session.__dict__.get("_gradfeed_memo")
  if memo is None:
    memo = session.__dict__.setdefault(
        "_gradfeed_memo", weakref.WeakKeyDictionary())
  return memo


def milliseconds(seconds):
  """Seconds as `timeout_in_ms`, where 0 would mean no limit: at least 1."""
  return max(1, int(seconds * 1000))


def make_callable(session, feeds, fetches, targets, on_caller_thread,
                  timeout=None):
  """Compiles one set of feeds and fetches of a raw session.

  Args:
    session: a session that `raw_session` returned.
    feeds: list of tensor names.
    fetches: list of tensor names.
    targets: list of op names, run and not fetched.
    on_caller_thread: bool; run the ops in the thread that calls. For a small
      graph this is several times faster than TensorFlow's thread pool.
    timeout: float, seconds, or None for no limit.

  Returns:
    function from the sequence of the values of `feeds`, arrays with the exact
    dtypes, to the list of the values of `fetches`. It checks nothing. Its
    attribute `parts` is (run, pointer, handle), for callers that save a Python
    frame and call `run(pointer, handle, tuple of arrays, None)`.
  """
  options = config_pb2.CallableOptions()
  options.feed.extend(feeds)
  options.fetch.extend(fetches)
  options.target.extend(targets)
  options.run_options.CopyFrom(_run_options(on_caller_thread, timeout))
  compiled = session._make_callable_from_options(options)
  _compiled.add(compiled)
  run, pointer, handle = (
      session_lib.tf_session.TF_SessionRunCallable, session._session,
      compiled._handle)

  def call(arrays, _keep=compiled):  # Released with the last reference.
    return run(pointer, handle, tuple(arrays), None)

  call.parts = run, pointer, handle
  return call


_compiled = weakref.WeakSet()  # What has to be released, or forgotten.


@atexit.register
def _forget():
  """Leaves to the end of the process what is compiled then.

  TensorFlow releases it with the object, which may be after its own modules
  are gone: it would print an error for each.
  """
  for compiled in list(_compiled):
    compiled._handle = None


def _run_options(on_caller_thread, timeout):
  options = config_pb2.RunOptions()
  if on_caller_thread:
    options.inter_op_thread_pool = -1
  if timeout is not None:
    options.timeout_in_ms = milliseconds(timeout)
  return options


def copied_bytes(results):
  """How many bytes of results TensorFlow copied out of its own buffers.

  The callables of TensorFlow 1.15 copy all of them, those of 2 none.

  Args:
    results: list of what a call from `make_callable` returned.
  """
  return sum(result.nbytes for result in results
             if type(result) is np.ndarray and result.base is None and
             result.dtype != object)


def make_run(session, feeds, fetches, targets, on_caller_thread,
             timeout=None):
  """As `make_callable`, by the function of TensorFlow under `Session.run`.

  That copies a result only where something else holds its buffer: the results
  belong to the caller, and large ones come sooner than from a callable that
  copies. Each call takes ten microseconds more than that of a callable. It is
  compiled at the first call, once for both values of `on_caller_thread`, and is
  released with the session.

  Returns:
    function, as `make_callable` returns it, without `parts`.
  """
  graph, run = session.graph, session_lib.tf_session.TF_SessionRun_wrapper
  keys, outputs = [[graph.get_tensor_by_name(name)._as_tf_output()
                    for name in names] for names in (feeds, fetches)]
  ops = [graph.get_operation_by_name(name)._c_op for name in targets]
  options = _run_options(on_caller_thread, timeout).SerializeToString()
  pointer = session._session

  def call(arrays, _keep=session):
    buffer = session_lib.tf_session.TF_NewBufferFromString(options)
    try:
      return run(pointer, buffer, dict(zip(keys, arrays)), outputs, ops, None)
    finally:
      session_lib.tf_session.TF_DeleteBuffer(buffer)

  return call


def plain_session(graph):
  """A session on the CPU alone, without optimizations of the graph."""
  config = tf.ConfigProto(device_count={"GPU": 0})
  config.graph_options.optimizer_options.opt_level = -1
  config.graph_options.rewrite_options.disable_meta_optimizer = True
  return Session(graph=graph, config=config)


def has_kernel(node):
  """Whether the CPU can run a NodeDef with the dtypes that it names."""
  registered = [kernel for kernel in
                kernels.get_registered_kernels_for_op(node.op).kernel
                if kernel.device_type == "CPU"]
  return not registered or any(
      all(node.attr[constraint.name].type in
          constraint.allowed_values.list.type
          for constraint in kernel.constraint
          if node.attr[constraint.name].type)
      for kernel in registered)


def fetch_conversion(value):
  """How `Session.run` fetches an object of a type that was registered.

  Returns:
    The function that `tf.register_session_run_conversion_functions` was given
    to fetch `value`, or None for what is fetched as it is.
  """
  return _conversion(value, 1)


def feed_conversion(key):
  """The function that was registered to feed at `key`, or None: see above."""
  return _conversion(key, 2)


def _conversion(value, index):
  for conversion in session_lib._REGISTERED_EXPANSIONS:
    if isinstance(value, conversion[0]):
      return (None if conversion[0] in _OWN_EXPANSIONS
              else conversion[index])
  return None


#: Those that gradfeed knows itself.
_OWN_EXPANSIONS = (tf.SparseTensor, tf.IndexedSlices, object)


def is_session_handle(value):
  """Whether `value` is a tensor kept in a session: `tf.get_session_handle`."""
  return isinstance(value, session_ops.TensorHandle)


def session_handle_dtype(handle):
  """The `tf.DType` of the tensor that a session handle stands for."""
  return handle._dtype
