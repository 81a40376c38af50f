"""Which op a NaN, an infinity or a vanished gradient comes from.

All tensors between x and its gradient that can be fetched are evaluated in one
run. The op to blame is the first one whose inputs are finite and whose outputs
are not, or whose inputs are not all zero and whose outputs are.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.checking import budgets
from gradfeed import errors
from gradfeed import findings
from gradfeed.graph import control_flow
from gradfeed.graph import provenance
from gradfeed.graph import tensors
from gradfeed.graph import traversal

#: How many elements of an input are shown in a message.
_MOST_ELEMENTS = 3

_SELECTING = ("Select", "SelectV2")

#: What to do about an op that is to blame, by its type.
_FIXES = {
    "Acos": "Keep its input between -1 and 1 (tf.clip_by_value).",
    "Asin": "Keep its input between -1 and 1 (tf.clip_by_value).",
    "Exp": "Keep its input small (tf.minimum), or use tf.reduce_logsumexp, "
           "tf.nn.softplus or tf.nn.log_softmax, which do not overflow.",
    "Log": "Keep its input away from 0 (tf.log(x + 1e-12)); or use "
           "tf.nn.log_softmax or a cross entropy of logits in the place of a "
           "softmax and its log.",
    "Pow": "Keep its base away from 0 (tf.maximum(x, 1e-12)).",
    "RealDiv": "Keep its divisor away from 0, or use tf.math.divide_no_nan.",
    "Rsqrt": "Add a small number to what it reads: tf.rsqrt(x + 1e-12).",
    "Sqrt": "Add a small number to what it reads: tf.sqrt(x + 1e-12), in a "
            "norm too."}
_FIXES.update(Div=_FIXES["RealDiv"], Reciprocal=_FIXES["RealDiv"],
              Inv=_FIXES["RealDiv"], Log1p=_FIXES["Log"])

_FIX_OF_SELECT = (
    "tf.where takes the other branch there, but the gradient of this one is 0 "
    "times infinity: give it a harmless input as well, "
    "tf.where(c, f(tf.where(c, x, 1.0)), ...).")


class ForwardAndBackwardValues:
  """The values of all tensors of the forward and the backward pass."""

  def __init__(self, point, ys, dxs, extra_feeds=()):
    """Evaluates all of them in one run.

    Args:
      point: `evaluation_points.EvaluationPoint`.
      ys: list of `tf.Tensor`.
      dxs: list of `tf.Tensor`, the gradients.
      extra_feeds: list of (tensor, array): placeholders of the gradients.
    """
    self._graph = point.graph
    self._ops = traversal.ancestors(list(ys) + list(dxs), point.cut)
    self._forward_names = set(traversal.ancestors(ys, point.cut))
    without_value = control_flow.ops_without_a_value(self._ops)
    targets = [t for name, op in self._ops.items() for t in op.outputs
              if name not in without_value and _tf.is_number(t.dtype) and
              not _tf.is_reference(t)]
    targets += [t for t in map(_tensor_of, point.xs) if t is not None]
    targets = list({t.name: t for t in targets}.values())
    self._values = dict(zip([t.name for t in targets], point.sample(
        targets, extra_feeds=extra_feeds)))
    self._values.update(_fed_numbers(point))

  def _values_of(self, fetched):
    return [self._values[t.name] for t in fetched if t.name in self._values]

  def origin(self, is_good, combine=all):
    """The first op that makes a bad output of good inputs.

    Args:
      is_good: function from an array to a bool.
      combine: `all` or `any`: how many of the inputs have to be good.

    Returns:
      (op of the model to blame, op with the bad output, that output), or None.
      The first two differ where the op is one of a gradient.
    """
    first = None
    for name, op in self._ops.items():
      outputs, inputs = self._values_of(op.outputs), self._values_of(op.inputs)
      bad = [array for array in outputs if not is_good(array)]
      if not bad or not combine(map(is_good, inputs)):
        continue
      # An op of the gradient is reported as the op whose gradient it is.
      if name not in self._forward_names:
        return self._model_op(op), op, bad[0]
      first = first or (op, op, bad[0])
    return first

  def _model_op(self, op):
    """The op whose gradient `op` is a part of, by its name; or `op`."""
    if "_grad/" in op.name:
      scopes = op.name.split("_grad/")[0].split("/")
      for i in range(len(scopes)):
        try:
          return self._graph.get_operation_by_name("/".join(scopes[i:]))
        except (KeyError, ValueError):
          continue
    return op

  def inputs_at(self, op, output):
    """str: the inputs of `op` at the elements of `output` not finite."""
    descriptions = []
    indices = np.argwhere(~np.isfinite(output))[:_MOST_ELEMENTS]
    for tensor in op.inputs:
      array = self._values.get(tensor.name)
      if array is None:
        continue
      if np.shape(array) == np.shape(output):
        descriptions.append("'{}' is {}".format(tensor.name, ", ".join(
            "{:.6g}{}".format(array[tuple(index)], _at(index))
            for index in indices)))
      elif np.ndim(array) == 0:
        descriptions.append("'{}' is {:.6g}".format(tensor.name, array[()]))
    return " and ".join(descriptions)

  def is_hidden(self, op):
    """Whether `tf.where` of the model chooses between `op` and another one."""
    below = traversal.descendants(
        {name: self._ops[name] for name in self._forward_names}, (), False,
        [op.name])
    return any(self._ops[name].type in _SELECTING for name in below)


def _tensor_of(component):
  """The tensor with the value of `component`; None if it cannot be read."""
  if component.is_handle:
    try:
      return tensors.read_of(component)
    except errors.ArgumentError:
      return None
  return component.tensor


def _at(index):
  return " at [{}]".format(", ".join(map(str, index))) if len(index) else ""


def is_finite(array):
  return bool(np.all(np.isfinite(array)))


def find_in_point(point):
  """Reports an x_t that is not finite: nothing at it can be checked.

  Args:
    point: `evaluation_points.EvaluationPoint`.

  Returns:
    list of `findings.Finding`, one for each x that is concerned.
  """
  result = []
  for component, value in zip(point.xs, point.values):
    array = np.asarray(value)
    places = np.argwhere(~np.isfinite(array))
    if len(places):
      rows = _rows_of(component, array)
      result.append(findings.Finding(
          "nonfinite_point", findings.WARNING,
          "x_t is not finite: {} of {} elements of the value of {} {} NaN or "
          "infinite{}.".format(
              len(places), array.size, tensors.describe(component),
              "is" if len(places) == 1 else "are",
              ", the first" + _at(places[0]) if array.ndim else ""),
          "There is no difference to compare with at such a point, and what "
          "comes of it says nothing about the model.",
          "Pass an x_t of finite numbers; look where it was read or computed.",
          [component.name], rows=rows))
  return result


def _rows_of(component, array):
  """The sorted numbers of the rows of an array that are not finite."""
  if not component.shape.ndims or component.shape.as_list()[0] is not None:
    return []
  return sorted({int(row) for row in np.argwhere(~np.isfinite(array))[:, 0]})


def _fed_in_words(point):
  """A sentence that names the feeds which are not finite, or ""."""
  names = [name for name, array in _fed_numbers(point).items()
           if not is_finite(array)]
  return "The value that is fed for {} is not finite.".format(
      " and ".join(map(repr, names[:3]))) if names else ""


def _fed_numbers(point):
  """dict from the name of a dense tensor that is fed to its floating value."""
  arrays = {leaf.name: np.asarray(value) for leaf, value in point.fed
            if isinstance(leaf, tensors.Dense)}
  return {name: array for name, array in arrays.items()
          if array.dtype.kind in "fc"}


def finding(point, ys, dxs, gradients, extra_feeds=()):
  """Reports a gradient or a y that is not finite, with the op to blame.

  Args:
    point: `evaluation_points.EvaluationPoint`.
    ys: list of `tf.Tensor`.
    dxs: list of `tf.Tensor`.
    gradients: list of arrays, the values of `dxs`.
    extra_feeds: as in `ForwardAndBackwardValues`.

  Returns:
    `findings.Finding`.
  """
  rows = _rows(point, gradients)
  bad = sum(int(np.sum(~np.isfinite(g))) for g in gradients)
  count = sum(int(np.size(g)) for g in gradients)
  what = "y is not finite."
  if bad:
    what = "{} of {} elements of the {} are NaN or infinite{}.".format(
        bad, count, "second derivative" if extra_feeds else "gradient",
        ", in row{} {} of x_t".format(
            "s" if len(rows) > 1 else "", _listed(rows)) if rows else "")
  try:
    values = ForwardAndBackwardValues(point, ys, dxs, extra_feeds)
  except budgets.OutOfTime:
    return findings.Finding(
        "nonfinite", findings.BAD, what, "There was no time left to look for "
        "the op that it comes from.", "Give the check more seconds.", rows=rows)
  except (tf.errors.OpError, errors.GradfeedError):
    values = None
  origin = values and values.origin(is_finite)
  if not origin:
    fed = _fed_in_words(point)
    return findings.Finding(
        "nonfinite", findings.BAD, what, fed or "It comes from inside of a "
        "loop, a branch or a function.",
        "Feed finite numbers." if fed else "Look there.", rows=rows)
  op, bad_op, output = origin
  read = values.inputs_at(op, output)
  if not read and op is not bad_op:
    read = values.inputs_at(bad_op, output)
  why = "The first op to blame is {}{}{}.".format(
      provenance.describe_op(op), "" if op is bad_op else " (its gradient)",
      ": " + read if read else "")
  fix = _FIXES.get(op.type, "Keep what it reads away from there.")
  if bad and values.is_hidden(op):
    fix = _FIX_OF_SELECT
  return findings.Finding("nonfinite", findings.BAD, what, why, fix,
                          [provenance.original_name(op)], rows=rows)


def _rows(point, gradients):
  """The sorted numbers of the rows of x_t whose gradient is not finite."""
  return sorted({row for component, g in zip(point.xs, gradients)
                 for row in _rows_of(component, g)})


def _listed(rows):
  return ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")


def vanishing_op(point, ys, dxs):
  """The op of the model whose gradient is zero at x_t, or None."""
  try:
    origin = ForwardAndBackwardValues(point, ys, dxs).origin(
        lambda array: bool(np.any(array)) or not np.size(array), any)
  except (tf.errors.OpError, errors.GradfeedError):
    return None
  return origin[0] if origin and origin[0] is not origin[1] else None
