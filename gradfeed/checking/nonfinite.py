"""Which op a NaN, an infinity or a vanished gradient comes from.

All that can be asked for between x and its gradient is evaluated in one run,
and the first op is looked for that makes of finite numbers what is not, or of
numbers nothing but zeros.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed import findings
from gradfeed.graph import control_flow
from gradfeed.graph import provenance
from gradfeed.graph import tensors
from gradfeed.graph import traversal

_MOST_PLACES = 3
_SELECTING = ("Select", "SelectV2")

_CURES = {
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
_CURES.update(Div=_CURES["RealDiv"], Reciprocal=_CURES["RealDiv"],
              Inv=_CURES["RealDiv"], Log1p=_CURES["Log"])

_OF_SELECT = ("tf.where takes the other branch there, but the gradient of this "
              "one is 0 times infinity: give it a harmless input as well, "
              "tf.where(c, f(tf.where(c, x, 1.0)), ...).")


class ForwardAndBackwardValues:
  """The values of all that is computed forth and back, at one point."""

  def __init__(self, place, ys, dxs, held=()):
    """Evaluates.

    Args:
      place: `evaluation_points.EvaluationPoint`.
      ys: list of `tf.Tensor`.
      dxs: list of `tf.Tensor`, the gradients.
      held: list of (tensor, array): placeholders that the gradients need.
    """
    self._graph = place.graph
    self._found = traversal.ancestors(list(ys) + list(dxs), place.cut)
    self._forth = set(traversal.ancestors(ys, place.cut))
    inside = control_flow.ops_without_a_value(self._found)
    wanted = [t for name, op in self._found.items() for t in op.outputs
              if name not in inside and _tf.is_number(t.dtype) and
              not _tf.is_reference(t)]
    wanted += [t for t in map(_tensor_of, place.points) if t is not None]
    wanted = list({t.name: t for t in wanted}.values())
    self._values = dict(zip([t.name for t in wanted], place.sample(
        wanted, held=held)))

  def _known(self, found):
    return [self._values[t.name] for t in found if t.name in self._values]

  def origin(self, is_good, gather=all):
    """(the op of the model to blame, the op and the array it shows in).

    Args:
      is_good: function from an array to whether nothing is wrong with it.
      gather: `all` or `any`, of the inputs that have to be good.
    """
    first = None
    for name, op in self._found.items():
      outputs, inputs = self._known(op.outputs), self._known(op.inputs)
      bad = [array for array in outputs if not is_good(array)]
      if not bad or not gather(map(is_good, inputs)):
        continue
      # What goes wrong on the way back is named by the op it is the way of.
      if name not in self._forth:
        return self._model_op(op), op, bad[0]
      first = first or (op, op, bad[0])
    return first

  def _model_op(self, op):
    if "_grad/" in op.name:
      parts_of_name = op.name.split("_grad/")[0].split("/")
      for i in range(len(parts_of_name)):
        try:
          return self._graph.get_operation_by_name(
              "/".join(parts_of_name[i:]))
        except (KeyError, ValueError):
          continue
    return op

  def inputs_at(self, op, bad):
    """What `op` reads where `bad` is not finite, in words."""
    told = []
    places = np.argwhere(~np.isfinite(bad))[:_MOST_PLACES]
    for tensor in op.inputs:
      array = self._values.get(tensor.name)
      if array is None:
        continue
      if np.shape(array) == np.shape(bad):
        told.append("'{}' is {}".format(tensor.name, ", ".join(
            "{:.6g}{}".format(array[tuple(at)], _at(at)) for at in places)))
      elif np.ndim(array) == 0:
        told.append("'{}' is {:.6g}".format(tensor.name, array[()]))
    return " and ".join(told)

  def is_hidden(self, op):
    """Whether a `tf.where` of the model chooses between `op` and others."""
    below = traversal.descendants(
        {name: self._found[name] for name in self._forth}, (), False,
        [op.name])
    return any(self._found[name].type in _SELECTING for name in below)


def _tensor_of(component):
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


def finding(place, ys, dxs, gradients, held=()):
  """What is found of a gradient, or a y, that is not finite.

  Args:
    place: `evaluation_points.EvaluationPoint`.
    ys: list of `tf.Tensor`.
    dxs: list of `tf.Tensor`.
    gradients: list of arrays, the values of `dxs`.
    held: as in `ForwardAndBackwardValues`.

  Returns:
    `findings.Finding`.
  """
  rows = _rows(place, gradients)
  bad = sum(int(np.sum(~np.isfinite(g))) for g in gradients)
  count = sum(int(np.size(g)) for g in gradients)
  what = "y is not finite."
  if bad:
    what = "{} of {} elements of the {} are NaN or infinite{}.".format(
        bad, count, "second derivative" if held else "gradient",
        ", in row{} {} of x_t".format(
            "s" if len(rows) > 1 else "", _listed(rows)) if rows else "")
  try:
    passes = ForwardAndBackwardValues(place, ys, dxs, held)
  except (tf.errors.OpError, errors.GradfeedError):
    passes = None
  found = passes and passes.origin(is_finite)
  if not found:
    return findings.Finding(
        "nonfinite", findings.BAD, what, "It comes from inside of a loop, a "
        "branch or a function.", "Look there.", rows=rows)
  op, shows, array = found
  read = passes.inputs_at(op, array)
  if not read and op is not shows:
    read = passes.inputs_at(shows, array)
  why = "The first op to blame is {}{}{}.".format(
      provenance.describe_op(op), "" if op is shows else " (its gradient)",
      ": " + read if read else "")
  fix = _CURES.get(op.type, "Keep what it reads away from there.")
  if bad and passes.is_hidden(op):
    fix = _OF_SELECT
  return findings.Finding("nonfinite", findings.BAD, what, why, fix,
                          [provenance.original_name(op)], rows=rows)


def _rows(place, gradients):
  """The rows of x_t at whose gradient something is not finite."""
  rows = set()
  for component, g in zip(place.points, gradients):
    if component.shape.ndims and component.shape.as_list()[0] is None:
      rows.update(int(row) for row in np.argwhere(~np.isfinite(g))[:, 0])
  return sorted(rows)


def _listed(rows):
  return ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")


def vanished(place, ys, dxs):
  """The op of the model that makes the gradient zero, or None."""
  try:
    found = ForwardAndBackwardValues(place, ys, dxs).origin(
        lambda array: bool(np.any(array)) or not np.size(array), any)
  except (tf.errors.OpError, errors.GradfeedError):
    return None
  return found[0] if found and found[0] is not found[1] else None
