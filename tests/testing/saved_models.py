"""Writes a SavedModel of TF2, in a process of its own.

  python -m tests.testing.saved_models DIRECTORY KIND
"""

import sys

from tests.testing import folders
from tests.testing import processes


def save(directory, kind="calls"):
  """Runs this file: the process of the tests is one of graphs.

  Args:
    directory: str, where to save it.
    kind: "calls", "custom_gradient", "two_outputs" or "two_signatures", what
      is in it.
  """
  processes.run(["-m", "tests.testing.saved_models", directory, kind],
                cwd=folders.ROOT).check_returncode()


def _save(directory, kind):
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  tf.compat.v1.enable_v2_behavior()
  model = {"calls": _calls, "custom_gradient": _custom_gradient,
           "two_outputs": _two_outputs,
           "two_signatures": _two_outputs}[kind](tf)
  tf.saved_model.save(model, directory, signatures=(
      _served(tf, model) if kind == "two_signatures" else model.__call__))


def _custom_gradient(tf):
  class Model(tf.Module):
    """Has a gradient of its own."""

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float64, "x")])
    def __call__(self, x):
      return {"y": tf.custom_gradient(
          lambda a: (tf.sin(a), lambda g: g * 100.0))(x)}

  return Model()


def _two_outputs(tf):
  class Model(tf.Module):
    """Has two outputs."""

    def __init__(self):
      super().__init__()
      self.w = tf.Variable(tf.constant(2.0, tf.float64))

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float64, "x")])
    def __call__(self, x):
      return {"a": x * self.w, "b": x * x}

  return Model()


def _served(tf, model):
  """A signature for each output of `_two_outputs`."""
  return {
      name: tf.function(
          lambda x, name=name: {"y": model(x)[name]},
          input_signature=[tf.TensorSpec([None, 2], tf.float64, "x")])
      for name in ("a", "b")}


def _calls(tf):

  class Model(tf.Module):
    """Calls a function, with a loop and a branch in it."""

    def __init__(self):
      super().__init__()
      self.w = tf.Variable(tf.cos(tf.range(6, dtype=tf.float64)))

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float64, "x")])
    def __call__(self, x):
      h = tf.tanh(tf.matmul(x, tf.reshape(self.w, [3, 2])))
      for _ in tf.range(3):
        h = tf.sin(h) * h + 1.0
      return {"y": tf.cond(
          tf.reduce_sum(h) > 0.0, lambda: self.scaled(h), lambda: h)}

    @tf.function
    def scaled(self, h):
      return h * h

  return Model()


if __name__ == "__main__":
  _save(*sys.argv[1:])
