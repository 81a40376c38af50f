"""`function`: tensors of a graph as a callable of NumPy values."""

from gradfeed.evaluation import functions


def function(inputs, outputs, session=None, feed_dict=None, points=(),
             timeout=None, chunk=None, on_unused_input="warn",
             jit_compile=None):
  """Makes a callable: `outputs` of the graph at given values of `inputs`.

  Anything may be an input. A placeholder is fed; everything else (a variable,
  a layer in the middle, an iterator's batch, a constant) is cut: the part of
  the graph between the inputs and the outputs is copied, once, with a
  placeholder in the input's place, and all else is shared with the original.
  The session's own weights are used, and no variable is changed.

  Args:
    inputs: tensor, variable, `tf.SparseTensor` or name, or a list or tuple of
      them (one argument each), possibly nested; or a dict of them.
    outputs: tensor, variable, `tf.SparseTensor`, `tf.IndexedSlices` or name,
      or nested lists, tuples and dicts of them.
    session: `tf.Session`, `tf.InteractiveSession`, `MonitoredSession` (no hook
      fires) or a wrapper of one; None for the default session at each call.
    feed_dict: dict from tensors, variables or names to values that are held
      for every call. Values are taken now; the dict is not kept.
    points: tensors among what is fed that lie between the x and the y of a
      derivative in `outputs`. The gradient then goes through them, at the
      value that is given. Without being named here they are refused.
    timeout: float, seconds that one call may take, or None.
    chunk: int, or None: how many rows of a batch are evaluated at a time, so
      that memory does not grow with the batch. The inputs whose first axis is
      of any size are divided along it; every output has to have a row for each
      row. At the first batch that is divided, two rows are evaluated together
      and apart, and refused where that is not the same.
    on_unused_input: "warn", "raise" or "ignore": what to do about a placeholder
      among the inputs on which no output depends.
    jit_compile: None; or, with TF 2, True to have XLA compile the outputs, one
      program for each set of shapes of the inputs (at most 16; other calls run
      op by op), or "auto" to have that done in the background after two seconds
      of calls and to keep what is faster. XLA is many times faster for loops
      and recurrent networks at small batches, and slower for large
      convolutions. What it cannot compile, or computes in another way, is
      refused by name; with "auto" such calls go on op by op, with one warning.
      A program is used after it gave the results of TensorFlow, to rounding, at
      the values of a call. See `Function.jit` and `Function.compiled`.

  Returns:
    `Function`.

  Raises:
    FeedError: an input that is no placeholder has no effect on the outputs, or
      any with `on_unused_input="raise"`; one appears twice, or lies between x
      and y of a derivative; or a held value does not fit.
    AssignmentError: the outputs cannot be computed without changing a
      variable.
    FinalizedGraphError: something has to be cut and the graph is closed.
    UnsupportedGraphError: an input that cannot be replaced by a value; or, at
      the first call of some shapes, outputs that XLA cannot compile.
    GraphMismatchError, TensorNotFoundError, ArgumentError, SessionError.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [])
    ...   h = tf.exp(x)
    ...   f = gf.function(h, gf.gradient(h * h, h))
    ...   print(f(5.0))
    10.0
  """
  return functions.Function(inputs, outputs, session, feed_dict, points, timeout,
                            chunk, on_unused_input, jit_compile)
