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


def inside(compute, x, version, in_loop):
  """What `compute` gives in a loop that turns once, or in a branch.

  Args:
    compute: function without arguments that gives a tensor like `x`.
    x: scalar `tf.Tensor`; the branch is taken where it is above zero, and
      gives `x` itself elsewhere.
    version: as in `control_flow`.
    in_loop: bool; else it is the branch.
  """
  with control_flow(version):
    if in_loop:
      return tf.while_loop(
          lambda i, a: i < 1, lambda i, a: (i + 1, compute()), [0, x])[1]
    return tf.cond(x > 0.0, compute, lambda: x)
