"""Makes errors of gradfeed those of `tf.errors` as well.

Code that was written for `Session.run` catches `tf.errors.OpError` and its
subclasses, and reads their attributes. `gradfeed.errors` does without
TensorFlow, which may be missing: so its classes get these bases here, when
TensorFlow has been imported, before anything can raise them.
"""

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
