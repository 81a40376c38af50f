"""Makes errors of gradfeed those that TensorFlow raises as well.

Code that was written for `Session.run` catches `tf.errors.OpError` and its
subclasses, and reads their attributes. `gradfeed.errors` does without
TensorFlow, which may be missing: so its classes get these bases here, when
TensorFlow has been imported, before anything can raise them.

`tf.gradients` raises builtin errors of any type, of which code catches one.
"""

import functools

from gradfeed._tf.api import tf
from gradfeed import errors

# pylint: disable=protected-access

#: What `Session.run` raises in the situation of each class.
ERROR_BASES = {
    errors.CotangentError: tf.errors.InvalidArgumentError,
    errors.FeedError: tf.errors.InvalidArgumentError,
    errors.MissingFeedError: tf.errors.InvalidArgumentError,
    errors.TangentError: tf.errors.InvalidArgumentError,
    errors.TimeLimitError: tf.errors.DeadlineExceededError,
    errors.UninitializedError: tf.errors.FailedPreconditionError,
}


def _add_base(kind, base):
  """Makes one class of errors a subclass of one of `tf.errors`.

  Args:
    kind: subclass of `errors.GradfeedError`.
    base: subclass of `tf.errors.OpError`. Its `message` is the whole text, its
      `op` and `node_def` are None where no op is known that failed.
  """
  if base in kind.__bases__:
    return  # This module is imported a second time.
  kind.__bases__ += (base,)
  kind._node_def = kind._op = None
  kind._error_code = base(None, None, "").error_code
  kind._experimental_payloads = {}
  kind._message = property(str)


for _kind, _base in ERROR_BASES.items():
  _add_base(_kind, _base)


def caught_as(kind, error_type):
  """A class of errors that who expects another one catches too.

  Args:
    kind: subclass of `errors.GradfeedError`.
    error_type: type of an exception, such as TensorFlow raised.

  Returns:
    `kind`, or a subclass of the same name that is also a subclass of the
    builtin error that `error_type` is.
  """
  builtin = next(base for base in error_type.__mro__
                 if base.__module__ == "builtins")
  return kind if issubclass(kind, builtin) else _both(kind, builtin)


@functools.lru_cache(maxsize=None)
def _both(kind, builtin):
  """A subclass of two classes of errors, called as the first one."""

  def reduce(error):
    _, parts, state = kind.__reduce__(error)
    return _made_anew, (kind, builtin, parts), state

  return type(kind.__name__, (kind, builtin), {
      "__doc__": kind.__doc__, "__module__": kind.__module__,
      "__reduce__": reduce})


def _made_anew(kind, builtin, parts):
  """An error of `caught_as`, after `copy` or `pickle`."""
  return _both(kind, builtin)(*parts)
