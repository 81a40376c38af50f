"""Resolves and checks what callers pass to the functions that differentiate."""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import cotangent_types
from gradfeed.derivatives import preconditions
from gradfeed.derivatives import result_forms
from gradfeed.derivatives import vjps
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import nest
from gradfeed.graph import tensors

_UNCONNECTED = ("error", "zero", "none")


class Request:
  """The y, the x and the constants of one call, resolved.

  Attributes:
    graph: `tf.Graph` of all of them.
    y: the structure that was passed.
    x: the structure that was passed.
    ys: list of the leaves of y.
    xs: list of the leaves of x.
    stops: list of `tensors.Dense` to hold constant.
  """

  def __init__(self, y, x, stop_gradients=None, roles=("y", "x")):
    self.graph = tensors.graph_of(y, x)
    self.y, self.x = y, x
    self.ys = _leaves(y, self.graph, roles[0])
    self.xs = _leaves(x, self.graph, roles[1])
    self.stops = [
        component for leaf in _leaves(
            stop_gradients, self.graph, "stop_gradients")
        for component in leaf.differentiable()
    ] if stop_gradients is not None else []

  def product(self, cotangents, settings=None,
              incomplete=preconditions.REFUSED):
    """The `vjps.VJP` of a call, not built yet.

    Args:
      cotangents: list with a cotangent, or None for ones, for each of `ys`.
      settings: dict of further arguments of `tf.gradients`.
      incomplete: as in `vjps.VJP`.
    """
    return vjps.VJP(self.graph, self.ys, self.xs, cotangents, self.stops,
                    settings or {}, incomplete)

  def components(self):
    """The `tensors.Dense` of each x that are differentiated by, as one list."""
    return [
        component for leaf in self.xs for component in leaf.differentiable()
    ]

  def by_leaf(self, derivatives):
    """Groups derivatives by the leaf of x that they belong to.

    Args:
      derivatives: list with one for each of `components`.

    Returns:
      list of (leaf, list of its derivatives).
    """
    derivatives = iter(derivatives)
    return [(leaf, [next(derivatives) for _ in leaf.differentiable()])
            for leaf in self.xs]

  def shaped(self, gradients, unconnected="zero", sparse=False):
    """The gradients in the form of each x; see `result_forms.shaped`.

    Args:
      gradients: list with one for each of `components`.
      unconnected: as in `gradient`.
      sparse: as in `gradient`.

    Returns:
      list with one for each of `xs`.
    """
    return [result_forms.shaped(self.graph, leaf, own, unconnected, sparse)
            for leaf, own in self.by_leaf(gradients)]


def check_unconnected(unconnected):
  """Refuses an `unconnected` that is not known."""
  if not isinstance(unconnected, str) or unconnected not in _UNCONNECTED:
    raise errors.ArgumentError(
        "unconnected={!r} is not known.".format(unconnected),
        "It says what stands for an x that y does not depend on.",
        "Use one of {}.".format(", ".join(map(repr, _UNCONNECTED))))


def check_flag(name, value):
  """Refuses a value of the argument `name` that is neither True nor False."""
  if not isinstance(value, (bool, int, np.bool_)):
    raise errors.ArgumentError(
        "{}={!r} is neither True nor False.".format(name, value),
        "It says whether something is done or not.", "Pass True or False.")


def _leaves(structure, graph, role):
  """The resolved leaves of a structure; refuses an empty one."""
  leaves = nest.flatten(structure)
  if not leaves:
    raise errors.ArgumentError(
        "{} is empty.".format(role), "There is nothing to differentiate.",
        "Pass at least one tensor.")
  return [tensors.resolve(leaf, graph, role) for leaf in leaves]


def cotangents(values, structure, ys, graph, role="grad_ys"):
  """Checks the cotangents that a caller passed.

  Args:
    values: what the caller passed, in the structure of `structure`.
    structure: the y that the caller passed.
    ys: list of the leaves of it.
    graph: `tf.Graph`.
    role: str, what the values are called in an error.

  Returns:
    list with a `cotangent_types.Cotangent` for each y, or None where there is
    no value.
  """
  if values is None:
    return [None] * len(ys)
  values = _values(values, structure, role, errors.CotangentError, "y")
  return [None if value is None else cotangent_types.Cotangent(
      _tf.dereference(value), y, graph, role)
          for value, y in zip(values, ys)]


def tangents(values, structure, xs, graph):
  """Checks the tangents that a caller passed.

  Args:
    values: what the caller passed, in the structure of `structure`.
    structure: the x that the caller passed.
    xs: list of the leaves of it.
    graph: `tf.Graph`.

  Returns:
    list with a `cotangent_types.Cotangent` for each component of each x.
  """
  values = _values(values, structure, "v", errors.TangentError, "x")
  return [tangent for value, x in zip(values, xs)
          for tangent in _tangents(_tf.dereference(value), x, graph)]


def _tangents(value, x, graph):
  """The `cotangent_types.Cotangent` of each component of one x."""
  if value is None:
    raise errors.TangentError(
        "There is no v for {}.".format(tensors.describe(x)),
        "It is the direction in which x moves.",
        "Pass an array of the shape of x; zeros where it stands still.")
  if isinstance(x, tensors.Sparse):
    value = getattr(value, "values", value)  # Of a SparseTensor or its value.
  elif isinstance(x, tensors.Partitioned):
    return [
        cotangent_types.Cotangent(component_value, component, graph,
                                  cotangent_types.TANGENT)
        for component_value, component in zip(
            _split(value, x, graph), x.parts)
    ]
  return [cotangent_types.Cotangent(
      value, x.differentiable()[0], graph, cotangent_types.TANGENT)]


def _split(value, x, graph):
  """The tangent of a partitioned variable in the pieces of the variable.

  Args:
    value: partitioned variable, tensor, variable, name or array.
    x: `tensors.Partitioned`.
    graph: `tf.Graph`.

  Returns:
    list of tensors, variables or arrays.
  """
  if _tf.is_partitioned(value):
    return list(value)
  if isinstance(value, (tf.Tensor, str)) or _tf.is_variable(value):
    component = tensors.resolve(value, graph, "v")
    if not component.shape.is_compatible_with(x.shape):
      raise cotangent_types.unfit(cotangent_types.TANGENT, component.dtype,
                                  component.shape, x)

    def build():
      with _tf.building(graph):
        return tf.split(tensors.read_of(component), x.sizes, x.axis)

    return cache.cached(graph, ("split", component.name, x.name), build)
  return x.split(cotangent_types.as_array(value, x, cotangent_types.TANGENT))


def _values(values, structure, role, error_class, letter):
  """The leaves of `values`, which must have the form of `structure`.

  Args:
    values: what the caller passed; for a single leaf also a list of one.
    structure: the y or x that the caller passed.
    role: str, what the values are called in an error.
    error_class: the class of the error for another structure.
    letter: "y" or "x", for the error.
  """
  if not nest.is_container(structure):
    return (list(values) if isinstance(values, (list, tuple)) and
            len(values) == 1 else [values])
  try:
    return nest.flatten_as(structure, values, role)
  except errors.FeedError as error:
    raise error_class(
        "{} does not have the structure of {}.".format(role, letter),
        error.why,
        "Pass the values in the same lists, tuples and dicts as {}.".format(
            letter)) from None


def check_chunk(chunk):
  """Refuses a `chunk` that is no positive int, nor None."""
  if chunk is not None:
    errors.check_chunk(
        chunk, "products",
        "It is how many are computed at a time; memory grows with it.",
        "Pass a positive int, or None for all at once.")
