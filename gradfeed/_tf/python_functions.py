"""The Python functions of `tf.py_function`, and the tapes of their runs.

The op `EagerPyFunc` runs its function on a tape and puts that into a table of
the process, under the token of the function. Its gradient, which is an
`EagerPyFunc` too, takes the tape from there: it reads what the function read
through no edge of the graph.
"""

import contextlib
import inspect
import threading

from tensorflow.python.ops import script_ops

# pylint: disable=protected-access

_locks_guard = threading.Lock()

#: dict from token to the lock of a run that leaves or takes its tape.
_locks = {}


def has_python_functions():
  """Whether there is a function of `tf.py_function` in this process."""
  return bool(script_ops._py_funcs._funcs)


def token_of(node):
  """The token of an `EagerPyFunc`, by which its tape is found.

  Args:
    node: NodeDef.

  Returns:
    str.
  """
  return node.attr["token"].s.decode()


def taken_tape(token):
  """The token of the function whose gradient that of `token` computes.

  Returns:
    str; None if the function of `token` computes no gradient.
  """
  function = script_ops._py_funcs._funcs.get(token)
  if not getattr(function, "_is_grad_func", False):
    return None
  gradient = inspect.unwrap(function._func)  # AutoGraph wraps it.
  names = gradient.__code__.co_freevars
  if "token" not in names:
    return None
  taken = gradient.__closure__[names.index("token")].cell_contents
  return taken.decode() if isinstance(taken, bytes) else taken


def _keeps_tape(token):
  """Whether a run of a function leaves a tape: TF 1's always, TF 2's where the
  function has been differentiated."""
  return getattr(script_ops._py_funcs._funcs.get(token),
                 "_support_graph_mode_gradient", True)


@contextlib.contextmanager
def holding_tapes(tokens):
  """A context in which no other run leaves or takes tapes of some functions.

  Args:
    tokens: sorted list of str.
  """
  with contextlib.ExitStack() as stack:
    for token in tokens:
      if _keeps_tape(token):
        with _locks_guard:
          lock = _locks.setdefault(token, threading.RLock())
        stack.enter_context(lock)
    yield
