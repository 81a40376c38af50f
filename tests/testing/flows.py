"""Both control flows of TensorFlow in one test."""

import contextlib

import tensorflow.compat.v1 as tf


@contextlib.contextmanager
def control_flow(version):
  """`tf.cond` and `tf.while_loop` are built in control flow `version` inside.

  Args:
    version: 1 or 2; None for that of the mode.
  """
  was_v2 = tf.control_flow_v2_enabled()
  version = version or was_v2 + 1
  _switch(version == 2)
  try:
    yield
  finally:
    _switch(was_v2)


def versions_of_this_mode():
  """The versions to test here, where both would take long: in TF 2 one a mode.
  """
  if tf.__version__.startswith("1."):
    return (1, 2)
  return (2,) if tf.control_flow_v2_enabled() else (1,)


def _switch(is_v2):
  if is_v2:
    tf.enable_control_flow_v2()
  else:
    tf.disable_control_flow_v2()
