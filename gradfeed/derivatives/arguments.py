"""What callers pass to a verb, resolved at the door; and what they get back."""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import cotangent_types
from gradfeed.derivatives import vjps
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import nest
from gradfeed.graph import tensors

_UNCONNECTED = ("error", "zero", "none")


class Request:
  """The y, the x and the constants of one call of a verb.

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

  def product(self, cotangents, settings=None):
    """The `vjps.VJP` of `cotangents`, one for each of `ys`."""
    return vjps.VJP(self.graph, self.ys, self.xs, cotangents, self.stops,
                    settings or {})

  def components(self):
    """list of the parts of each x, as `tensors.Dense`."""
    return [
        component for leaf in self.xs for component in leaf.differentiable()
    ]

  def by_leaf(self, parts):
    """[(leaf, its parts)] of what there is one of for each part of each x."""
    parts = iter(parts)
    return [(leaf, [next(parts) for _ in leaf.differentiable()])
            for leaf in self.xs]


def check_unconnected(unconnected):
  if unconnected not in _UNCONNECTED:
    raise errors.ArgumentError(
        "unconnected={!r} is not known.".format(unconnected),
        "It says what stands for an x that y does not depend on.",
        "Use one of {}.".format(", ".join(map(repr, _UNCONNECTED))))


def _leaves(structure, graph, role):
  leaves = nest.flatten(structure)
  if not leaves:
    raise errors.ArgumentError(
        "{} is empty.".format(role), "There is nothing to differentiate.",
        "Pass at least one tensor.")
  return [tensors.resolve(leaf, graph, role) for leaf in leaves]


def cotangents(values, structure, ys, graph, role="grad_ys"):
  """The `cotangent_types.Cotangent` of each y, None where there is no value.

  Args:
    values: what the caller passed, in the structure of `structure`.
    structure: the y that the caller passed.
    ys: list of the leaves of it.
    graph: `tf.Graph`.
    role: str, what the values are called in an error.
  """
  if values is None:
    return [None] * len(ys)
  values = _values(values, structure, role, errors.CotangentError, "y")
  return [None if value is None else cotangent_types.Cotangent(
      _tf.dereference(value), y, graph, role)
          for value, y in zip(values, ys)]


def tangents(values, structure, xs, graph):
  """The `cotangent_types.Cotangent` of each part of each x.

  Args:
    values: what the caller passed, in the structure of `structure`.
    structure: the x that the caller passed.
    xs: list of the leaves of it.
    graph: `tf.Graph`.
  """
  values = _values(values, structure, "v", errors.TangentError, "x")
  return [tangent for value, x in zip(values, xs)
          for tangent in _tangents(_tf.dereference(value), x, graph)]


def _tangents(value, x, graph):
  if value is None:
    raise errors.TangentError(
        "There is no v for {}.".format(tensors.describe(x)),
        "It is the direction in which x moves.",
        "Pass an array of the shape of x; zeros where it stands still.")
  if isinstance(x, tensors.Sparse):
    value = getattr(value, "values", value)  # Of a SparseTensor or its value.
  elif isinstance(x, tensors.Partitioned):
    return [
        cotangent_types.Cotangent(part, component, graph,
                                  cotangent_types.TANGENT)
        for part, component in zip(_split(value, x, graph), x.parts)
    ]
  return [cotangent_types.Cotangent(
      value, x.differentiable()[0], graph, cotangent_types.TANGENT)]


def _split(value, x, graph):
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
  if chunk is not None:
    errors.check_chunk(
        chunk, "products",
        "It is how many are computed at a time; memory grows with it.",
        "Pass a positive int, or None for all at once.")
