"""A copy of y as a function of x in which every number is float64.

It stands in a graph of its own with a session of its own, on the processor: the
caller's graph gets no op. What does not depend on x (weights, other feeds,
dropout masks) are inputs, whose values one run of the caller's session tells.
"""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import gradients as gradients_lib
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import control_flow
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.rewriting import cloning
from gradfeed.rewriting import float64
from gradfeed.rewriting import subgraphs

#: How many integers are looked at to see whether they are constants.
_MOST_KNOWN = 64


class Float64Copy:
  """`ys` at any values of `xs`, in float64.

  Attributes:
    sources: list of `tf.Tensor` of the caller's graph that are not copied;
      their values are asked for at each evaluation.
    eps: float, the rounding of the least precise number in it: some ops have
      no float64 form and stay as they are.
  """

  def __init__(self, graph, ys, xs, held):
    """Copies.

    Args:
      graph: `tf.Graph`.
      ys: list of `tf.Tensor`.
      xs: list of `tensors.Dense`.
      held: set of names of tensors whose values are inputs too.

    Raises:
      UnsupportedGraphError: something cannot be copied so.
    """
    named = {name: i for i, x in enumerate(xs)
             for name in [x.name] + cache.clones_of(graph, x.name)}
    found, part = _part(ys, set(named), held)
    external = _external(found, part, ys)
    self.sources = [tensors.read_of(tensors.Dense(t))
                    for name, t in sorted(external.items())
                    if name not in named]
    with tf.Graph().as_default() as own:
      self._xs = [_stand_in(x) for x in xs]
      placed = {name: self._xs[i] for name, i in named.items()
                if name in external}
      self._sources = []
      for name, tensor in sorted(external.items()):
        if name not in named:
          placed[name] = _stand_in(tensors.Dense(tensor))
          self._sources.append(placed[name])
      made = cloning.subgraph_of(graph, part, found, placed)
      wide = float64.Float64Nodes(graph, made, found)
      self.eps = wide.eps
      new = _place(graph, wide, made.external)
      self._ys = [placed[y.name] if y.name in placed else
                  _output(new, wide, y.name) for y in ys]
      self._weights = [tf.placeholder(y.dtype, y.shape) for y in self._ys]
      self._gradients = _differentiated(self._ys, self._xs, self._weights)
    self._own, self._seconds = own, None
    self._session = _tf.plain_session(own)
    self._calls = {}

  @property
  def has_gradient(self):
    return self._gradients is not None

  def values(self, xs, sources):
    """The value of each y.

    Args:
      xs: list of arrays.
      sources: list of arrays, the values of `sources`.

    Returns:
      list of arrays.
    """
    return self._run("values", self._ys, self._xs + self._sources,
                     list(xs) + list(sources))

  def gradients(self, xs, sources, weights):
    """TensorFlow's gradients of sum(weights * ys), in float64.

    Args:
      xs: list of arrays.
      sources: list of arrays.
      weights: list of arrays, one for each y.

    Returns:
      list with an array for each x.
    """
    return self._run(
        "gradients", self._gradients, self._xs + self._sources +
        self._weights, list(xs) + list(sources) + list(weights))

  def seconds(self, xs, sources, weights, directions):
    """Second derivatives times directions, as TensorFlow has them, in float64.

    Args:
      xs: list of arrays.
      sources: list of arrays.
      weights: list of arrays, one for each y.
      directions: list of arrays, one for each x.

    Returns:
      list with an array for each x; None where there is no second derivative.
    """
    if self._seconds is None:
      with self._own.as_default():
        self._directions = [tf.placeholder(x.dtype, x.shape) for x in self._xs]
        self._seconds = (_differentiated(
            self._gradients, self._xs, self._directions),)
    if self._seconds[0] is None:
      return None
    return self._run(
        "seconds", self._seconds[0], self._xs + self._sources + self._weights +
        self._directions, list(xs) + list(sources) + list(weights) +
        list(directions))

  def widened(self, sources):
    """The values of `sources` as they are fed, so that it is done once."""
    return [np.asarray(value, _tf.numpy_dtype(feed.dtype))
            for feed, value in zip(self._sources, sources)]

  def _run(self, kind, fetches, feeds, values):
    if kind not in self._calls:
      self._calls[kind] = _tf.make_callable(
          self._session, [t.name for t in feeds], [t.name for t in fetches],
          [], on_caller_thread=False)
    results = self._calls[kind]([
        np.asarray(value, _tf.numpy_dtype(feed.dtype))
        for feed, value in zip(feeds, values)])
    # TensorFlow does not copy what is fed, and may hand it out as a result.
    return [np.array(result) for result in results]


def _differentiated(ys, xs, weights):
  try:
    return gradients_lib.gradient(ys, xs, grad_ys=weights, unconnected="zero")
  except errors.GradfeedError:
    return None


def _stand_in(component):
  return tf.placeholder(float64.wide(component.dtype), component.shape)


def _part(ys, xs, held):
  """(dict of the ops above `ys`, names of those that have to be copied)."""
  cut = xs | held
  found = traversal.ancestors(ys, cut)
  part, inside = subgraphs.dependent_ops(
      found, xs), control_flow.ops_without_a_value(found)
  while True:
    more = set()
    for name in part:
      op = found[name]
      more.update(t.op.name for t in op.inputs if t.name not in cut and (
          t.op.name in inside or not _has_value(t) or _settles_shapes(t)))
      more.update(before.name for before in op.control_inputs
                  if before.name in inside)
    if more <= part:
      return found, part
    part = subgraphs.with_shared_state(found, part | more)


def _has_value(tensor):
  """Whether a value of `tensor` can be asked for and fed."""
  return (_tf.numpy_dtype(tensor.dtype) is not None and
          tensor.dtype.base_dtype not in (tf.resource, tf.variant)) or (
              tensor.op.type == "VarHandleOp")


def _settles_shapes(tensor):
  """Whether `tensor` is a known integer or the like: an axis, a shape.

  As a constant it tells the shapes in the copy, as an input it would not.
  """
  if _tf.is_number(tensor.dtype) or tensor.dtype.base_dtype in (
      tf.resource, tf.variant) or not tensor.shape.is_fully_defined() or (
          tensor.shape.num_elements() > _MOST_KNOWN):
    return False
  return _tf.static_value(tensor) is not None


def _external(found, part, ys):
  """dict from name to tensor, of those that are read and not made."""
  read = [t for name in part for t in found[name].inputs] + list(ys)
  return {t.name: t for t in read if t.op.name not in part}


def _place(graph, wide, external):
  try:
    return _tf.import_nodes(
        graph, wide.nodes, external, "double", wide.functions)
  except (TypeError, ValueError, KeyError, tf.errors.OpError) as error:
    raise float64.cannot("TensorFlow refuses it ({})".format(
        str(error).split("\n")[0])) from None


def _output(new, wide, name):
  node, index = wide.renamed.get(name, name).split(":")
  return new[node].outputs[int(index)]
