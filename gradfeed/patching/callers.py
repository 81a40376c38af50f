"""Whether a call comes from TensorFlow's own code or from that of a user.

TensorFlow differentiates and runs by the same functions as its users: in
optimizers, to save and restore, to start queues, in Keras. These calls stay
with TensorFlow, so that they do exactly what they did. Some of its modules only
pass on what a user asks for.
"""

_ROOTS = frozenset([
    "tensorflow", "tensorflow_core", "tensorflow_estimator", "keras",
    "tf_keras"])

#: Modules of TensorFlow, below its root, that pass on calls of a user:
#: `Tensor.eval`, `make_callable`, monitored sessions, debuggers.
_PASSED_ON = (
    "python.client.session", "python.debug.", "python.framework.ops",
    "python.framework.tensor", "python.framework.test_util",
    "python.profiler.", "python.training.monitored_session")


def is_own(frame):
  """Whether the code of a frame is TensorFlow's, and acts for itself.

  Args:
    frame: that of the caller of a replaced function.
  """
  root, _, module = frame.f_globals.get("__name__", "").partition(".")
  return root in _ROOTS and not module.startswith(_PASSED_ON)
