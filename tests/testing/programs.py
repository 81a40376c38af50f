"""Looks into what `jit_compile` has made."""

import numpy as np


def takes(f, session, *values):
  """Whether the program of a function takes certain values, by itself.

  Args:
    f: `gf.Function` with jit_compile=True, that was called with values of
      these shapes.
    session: raw `tf.Session`.
    *values: arrays, in the order of its inputs, all of which are fed.

  Returns:
    bool; False where the program leaves the answer to TensorFlow's ops.
  """
  jit = f._executable.jit
  arrays = [np.asarray(value, dtype) for value, dtype in zip(
      values, jit._dtypes)]
  choice = jit._choice_of(tuple(array.shape for array in arrays))
  assert choice.state == "compiled", f.jit
  results = jit._compiled(choice.program, session, arrays)(arrays)
  return bool(not choice.program.is_guarded or results[-1])
