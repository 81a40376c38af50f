"""Puts a program of XLA into the user's graph, as one op."""

import collections

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.compilation.loops import growing_lists
from gradfeed.compilation.loops import list_sizes
from gradfeed.compilation import pools
from gradfeed.compilation import static_graphs
from gradfeed.compilation import verdicts
from gradfeed import errors

#: A program for one set of shapes.
#:   feeds: list of the placeholders to feed.
#:   results: list of `tf.Tensor`, what it computes.
#:   checks: list of one bool scalar `tf.Tensor`, whether the results are finite
#:     and TensorFlow would have taken the values; empty where it takes all.
#:   tolerance: float, how far apart rounding may take results, by their largest
#:     element: half of the digits of the least precise dtype in between.
#:   has_loops: bool; whether there are loops or branches in it.
Program = collections.namedtuple(
    "Program", ["feeds", "results", "checks", "tolerance", "has_loops"])


def build(graph, targets, results, originals, values, session,
          is_straight=False):
  """Adds a program to a graph, for the shapes of some values.

  A value that is fed and decides a shape or an axis is a part of the program,
  which is not valid for others. Loops are loops where XLA can have them, and
  written out elsewhere.

  Args:
    graph: `tf.Graph`, not finalized.
    targets: list of `tf.Tensor` that are fed.
    results: list of `tf.Tensor` to compute.
    originals: list of `tf.Tensor` in whose places they are.
    values: list of arrays, what is fed in a call that has succeeded.
    session: raw `tf.Session` of that call.
    is_straight: bool; whether it may have no loops and no branches: XLA has
      refused the program that does.

  Returns:
    `Program`.

  Raises:
    UnsupportedGraphError: XLA cannot compile it, or would not compute the same.
  """
  shapes = [np.shape(value) for value in values]
  parts = graph, targets, results, originals, shapes
  try:
    static, call = _made(parts, values, session, is_straight)
  except errors.UnsupportedGraphError as error:
    made = None if is_straight else _made_straight(parts, values, session)
    if made is None:
      raise error
    static, call = made
  with _tf.building(graph), tf.name_scope("compiled"):
    feeds = [tf.placeholder(t.dtype.base_dtype, shape)
             for t, shape in zip(targets, shapes)]
    outputs = call(*feeds + _read(graph, static.variables))
  count = len(results)
  return Program(feeds, outputs[:count], outputs[count:], _tolerance(static),
                 static.has_calls)


def _made(parts, values, session, is_straight):
  """A `static_graphs.StaticGraph` and the function that XLA compiles.

  Args:
    parts: tuple, the first arguments of `StaticGraph`.
    values, session, is_straight: as in `build`.
  """
  try:
    static = static_graphs.StaticGraph(*parts, is_straight=is_straight)
    deciding = static.deciding(len(values))
    if deciding:
      static = static_graphs.StaticGraph(*parts, known={
          i: values[i] for i in deciding}, is_straight=is_straight)
    static.refuse()
    with static.running(values, lambda: _tf.session_run(
        session, _read(parts[0], static.variables))) as run:
      list_sizes.ListSizes(static, run).apply()
      growing_lists.count_turns(static, run)
      growing_lists.fix(static, run)
    pools.replace(static)
    looked_at = verdicts.add(static)
    static.drop_checks()
    return static, _traced(static, looked_at)
  except errors.GradfeedError:
    raise
  except Exception as error:  # pylint: disable=broad-except
    # What builds loops and reads functions raises errors of any class.
    raise errors.UnsupportedGraphError(
        "TensorFlow cannot build a program for XLA.",
        "It raises {}: {}".format(
            type(error).__name__, str(error).split("\n")[0]),
        "Leave jit_compile out, or take outputs that do not need it."
    ) from error


def _made_straight(parts, values, session):
  """The same without loops and branches; None where that cannot be."""
  try:
    return _made(parts, values, session, True)
  except errors.UnsupportedGraphError:
    return None


def _traced(static, looked_at):
  """A `static_graphs.StaticGraph` as a concrete function that XLA compiles.

  It returns the results, then, if some values are checked, whether TensorFlow
  would take them.

  Args:
    static: `static_graphs.StaticGraph`.
    looked_at: list of the names of bool tensors in it that are True where
      TensorFlow takes the values.
  """
  def compute(*values):
    made = tf.import_graph_def(
        static.graph_def, {name + ":0": value for name, value in zip(
            static.arguments, values)},
        static.results + static.conditions + looked_at, name="")
    count = len(static.results)
    # TensorFlow and XLA may disagree on what is not finite.
    valid = [_is_finite(result) for result in made[:count]
             if result.dtype.is_floating or result.dtype.is_complex]
    valid += [tf.reduce_all(condition) for condition in made[count:]]
    return made[:count] + ([tf.reduce_all(tf.stack(valid))] if valid else [])

  return _tf.traced(compute, [
      tf.TensorSpec(t.shape, t.dtype) for t in (
          static.graph.get_tensor_by_name(name + ":0")
          for name in static.arguments)], jit_compile=True)


def _is_finite(tensor):
  """Whether all elements of a floating or complex tensor are finite."""
  parts = ([tf.math.real(tensor), tf.math.imag(tensor)]
           if tensor.dtype.is_complex else [tensor])
  return tf.reduce_all([tf.reduce_all(tf.math.is_finite(part))
                        for part in parts])


def _tolerance(static):
  """The `Program.tolerance` of a `static_graphs.StaticGraph`."""
  dtypes = {t.dtype.base_dtype for op in static.graph.get_operations()
            for t in op.outputs}
  precisions = [_tf.PRECISIONS.get(dtype, 0.0) for dtype in dtypes]
  return float(np.sqrt(max(precisions + [np.finfo(np.float64).eps])))


def _read(graph, variables):
  """The values of the variables of a program, read in a run: list of tensors.
  """
  with _tf.building(graph), tf.name_scope("compiled"):
    return list(map(_value, variables))


def _value(variable):
  """The value of a variable, read now."""
  if variable.dtype != tf.resource:
    return tf.identity(variable)
  dtype, shape = static_graphs.dtype_and_shape(variable)
  value = tf.raw_ops.ReadVariableOp(resource=variable, dtype=dtype)
  value.set_shape(shape)
  return value
