"""The old code: values and gradients of a `Function`, its layers, weights."""

import collections
import warnings

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import gradients
from gradfeed.derivatives import hessians
from gradfeed import errors
from gradfeed.evaluation import functions
from gradfeed.graph import nest
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.migration import differentiable_functions

# pylint: disable=protected-access

#: What a side gives at a point. y: list of arrays; dx: list, one for each x;
#: layers, dlayers, weights, dweights: dict from name to array; second: list,
#: the second derivatives along a direction. A gradient that is not connected is
#: None.
Sample = collections.namedtuple("Sample", [
    "y", "dx", "layers", "dlayers", "weights", "dweights", "second"])

#: The most tensors that are matched by their values.
_MOST_TENSORS = 600


class LegacySide:
  """A `Function` and all that is compared of it.

  Attributes:
    ys: list of `tf.Tensor`.
    xs: list of the `tf.Tensor` that are differentiated by.
    numbers: list of the indices of these among the inputs.
  """

  def __init__(self, f, role="f"):
    if not isinstance(f, functions.Function):
      raise errors.ArgumentError(
          "{} is a {}, not a gradfeed.Function.".format(role, type(f).__name__),
          "It is the old code: inputs, outputs, session, held values.",
          "Pass gradfeed.function(x, y, session).")
    if not all(isinstance(leaf, tensors.Dense) for leaf in f.inputs) or any(
        map(nest.is_container, f._form.structures)):
      raise errors.ArgumentError(
          "{} has inputs in a structure, or sparse ones.".format(role),
          "Both sides are called with one array for each input.",
          "Pass a function of a list of dense tensors.")
    if f.needs:
      raise errors.MissingFeedError(
          "No value for {}.".format(tensors.describe_all(f.needs)),
          "The old code depends on it.",
          "Hold it: gradfeed.function(x, y, session, feed_dict={...}).")
    self._f = f
    derivatives, ys = differentiable_functions.values_of(f)
    own = [t for i, t in enumerate(f.outputs) if i not in derivatives]
    self.ys = own or ys
    floating = [leaf.tensor for leaf in f.inputs]
    self.numbers = [i for i, x in enumerate(floating) if _tf.is_number(x.dtype)]
    self.xs = [floating[i] for i in self.numbers]
    if not self.xs or not any(_tf.is_number(y.dtype) for y in self.ys):
      raise errors.ArgumentError(
          "{} has no floating input, or no floating output.".format(role),
          "Gradients are compared of the one by the other.",
          "Pass a function of a floating tensor, or of a layer after it.")
    self._made = {}

  @property
  def graph(self):
    """The `tf.Graph`."""
    return self._f.graph

  def between(self):
    """The floating tensors between the xs and y, in order of creation."""
    names = {x.name for x in self.xs}
    ops = traversal.ancestors(self.ys, names)
    position = {op.name: i for i, op in enumerate(self.graph.get_operations())}
    reached, found = set(names), []
    for op in sorted(ops.values(), key=lambda op: position[op.name]):
      if any(t.name in reached for t in op.inputs):
        reached.update(t.name for t in op.outputs)
        found += [t for t in op.outputs if _tf.is_number(t.dtype)]
    return found[:_MOST_TENSORS]

  def sort(self, layers):
    """Tensors in the order in which the graph computes them."""
    position = {op.name: i for i, op in enumerate(self.graph.get_operations())}
    return sorted(layers, key=lambda t: position[t.op.name])

  def values(self, wanted, point):
    """The values of tensors at a point, a list of arrays."""
    return self._run(list(wanted), point)

  def sample(self, point, layers, weights, directions=None):
    """Evaluates all that is compared, in one run.

    Args:
      point: list with the value of each input.
      layers: list of `tf.Tensor`.
      weights: dict from name to `tf.Tensor`, a variable's value.
      directions: list of arrays like the xs, or None.

    Returns:
      `Sample`.
    """
    key = (tuple(t.name for t in layers), tuple(weights), bool(directions))
    if key not in self._made:
      self._made[key] = self._build(layers, weights, bool(directions))
    targets, places, f = self._made[key]
    results = f(*(list(point) + list(directions or [])))
    got = [None if i is None else results[i] for i in places]
    y, dx, values, dlayers, ws, dws, second = _split(got, [
        len(self.ys), len(self.xs), len(layers), len(layers), len(weights),
        len(weights), len(self.xs) if directions else 0])
    names = [t.name for t in layers]
    return Sample(y, dx, dict(zip(names, values)), dict(zip(names, dlayers)),
                  dict(zip(weights, ws)), dict(zip(weights, dws)), second)

  def _build(self, layers, weights, second):
    """(list of `tf.Tensor`, place of each result among them, `Function`)."""
    weight_tensors = list(weights.values())
    with warnings.catch_warnings():
      # What the old code stops gradients at is part of what it does.
      warnings.simplefilter("ignore", errors.GradfeedWarning)
      numbers = [y for y in self.ys if _tf.is_number(y.dtype)]
      ds = gradients.gradients(numbers, self.xs + layers + weight_tensors)
      vs, hv = [], []
      if second:
        with _tf.building(self.graph):
          vs = [tf.placeholder(x.dtype, x.shape, name="v") for x in self.xs]
        hv = hessians.hvp(numbers, self.xs, vs)
    dx, dlayers, dweights = _split(
        ds, [len(self.xs), len(layers), len(weights)])
    wanted = (self.ys + dx + layers + dlayers + [
        tensors.read_of(tensors.resolve(w, self.graph, "weights"))
        if not isinstance(w, tf.Tensor) else w for w in weight_tensors
    ] + dweights + list(hv))
    targets, places = [], []
    for t in wanted:
      places.append(None if t is None else len(targets))
      if t is not None:
        targets.append(t)
    return targets, places, self._function(targets, vs)

  def _run(self, wanted, point):
    key = tuple(t.name for t in wanted)
    if key not in self._made:
      self._made[key] = self._function(wanted, [])
    return self._made[key](*point)

  def _function(self, targets, vs):
    f = self._f
    fed = [slot.component.tensor for slot in f._executable.slots]
    fed = [t.ref() if _tf.IS_TF2 else t for t in fed]  # Hashable in both.
    held = dict(zip(fed[f._input_count():], f._held_arrays))
    return functions.Function(
        list(f._form.structures) + vs, targets, f._session, held, (),
        f._timeout, None, "ignore")


def _split(items, counts):
  """Cuts a list into lists of given lengths."""
  starts = np.cumsum([0] + list(counts))
  return [list(items[a:b]) for a, b in zip(starts, starts[1:])]
