"""Resolves and checks what callers pass to the functions that differentiate."""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import cotangent_types
from gradfeed.derivatives import nested_vjps
from gradfeed.derivatives import preconditions
from gradfeed.derivatives import result_forms
from gradfeed.derivatives import vjps
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import captures
from gradfeed.graph import nest
from gradfeed.graph import tensors

_UNCONNECTED = ("error", "zero", "none")


class Request:
  """The y, the x and the constants of one call, resolved.

  In the body of a function, a loop or a branch, x may be of a graph around it.
  The gradient of y by it passes what the function captures; for the other
  derivatives, x is replaced by the one tensor in the function that has its
  value.

  Attributes:
    graph: `tf.Graph` of all of them.
    y: the structure that was passed.
    x: the structure that was passed.
    ys: list of the leaves of y.
    xs: list of the leaves of x.
    stops: list of `tensors.Dense` to hold constant.
  """

  def __init__(self, y, x, stop_gradients=None, roles=("y", "x"),
               nested=False, weights=None):
    """Resolves what a caller passed.

    Args:
      y: as in `gradient`.
      x: as in `gradient`.
      stop_gradients: as in `gradient`.
      roles: what y and x are called in errors.
      nested: bool; whether `product` alone is asked for, which is given by the
        tensors of all graphs around a function.
      weights: the cotangents that the caller passed, or None.
    """
    self.graph = _graph_of(y, x, _tensors_among(weights))
    self.y, self.x = y, x
    self.ys = _leaves(y, self.graph, roles[0])
    self.xs = _leaves(x, self.graph, roles[1])
    if not nested:
      self.xs = _inside_of(self.graph, self.ys, self.xs, roles[1])
    stops = nest.flatten(stop_gradients)
    self.stops = [] if not stops or len(stops) == 1 and stops[0] is None else [
        component for leaf in _leaves(
            stop_gradients, self.graph, "stop_gradients")
        for component in leaf.differentiable()]

  def product(self, cotangents, settings=None,
              incomplete=preconditions.REFUSED):
    """The `vjps.VJP` of a call, not built yet.

    Args:
      cotangents: list with a cotangent, or None for ones, for each of `ys`.
      settings: dict of further arguments of `tf.gradients`.
      incomplete: as in `vjps.VJP`.
    """
    if any(leaf.graph is not self.graph for leaf in self.ys + self.xs):
      return nested_vjps.NestedVJP(
          self.graph, self.ys, self.xs, cotangents, self.stops, settings or {},
          incomplete)
    return vjps.VJP(self.graph, self.ys, self.xs, cotangents, self.stops,
                    settings or {}, incomplete)

  def without_constants(self, values):
    """Leaves out the ys of integers and the like, which have no derivative.

    Args:
      values: list with what the caller passed as the cotangent of each y.

    Returns:
      list of those of the ys that are left.
    """
    kept = [i for i, y in enumerate(self.ys)
            if _tf.is_trainable_dtype(y.dtype)]
    self.ys = self.y = [self.ys[i] for i in kept]
    return [values[i] for i in kept]

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
  return [tensors.resolve(leaf, graph, role, around=True) for leaf in leaves]


def _tensors_among(weights):
  """The tensors among cotangents: list."""
  return [weight for weight in (
      weights if isinstance(weights, (list, tuple)) else [weights])
          if isinstance(weight, (tf.Tensor, tf.IndexedSlices)) or
          _tf.is_variable(weight)]


def _graph_of(y, x, weights):
  """The graph to differentiate in: the innermost of those of y, x and weights.

  Names are those of the graph that is being built, where that is the body of a
  function inside of it.
  """
  graph = tensors.graph_of(y, x, weights)
  if not _tf.executing_eagerly() and any(
      isinstance(leaf, str) for leaf in nest.flatten([y, x])):
    current = tf.get_default_graph()
    if graph in captures.enclosing(current):
      return current
  return graph


def _inside_of(graph, ys, xs, role):
  """The xs with the placeholder of a function in the place of a capture.

  Args:
    graph: `tf.Graph` of the function, or any other.
    ys: list of the leaves of y.
    xs: list of the leaves of x, which may be of a graph around it.
    role: str, what x is called in an error.

  Returns:
    list of leaves of `graph`.

  Raises:
    GraphMismatchError: the function has no tensor that stands for an x.
  """
  if all(leaf.graph is graph for leaf in ys + xs):
    return xs
  for y in ys:
    if y.graph is not graph:
      raise _not_inside(y, "y")
  return [x if x.graph is graph else _replaced(x, graph, role) for x in xs]


def _replaced(x, graph, role):
  """The placeholder by which a function reads `x`, as a `tensors.Dense`."""
  graphs = captures.enclosing(graph)
  found = sum(captures.dependent_captures(
      graphs, [part.tensor for part in x.differentiable()]), [])
  if len(found) != 1 or not isinstance(x, tensors.Dense) or (
      found[0].inside.graph is not graph) or not captures.is_read(
          found[0].outside, x.tensor):
    raise _not_inside(x, role)
  inside = found[0].inside
  if inside.dtype == tf.resource:
    return tensors.Dense(inside, x.dtype, x.shape)
  return tensors.Dense(inside)


def _not_inside(leaf, role):
  return errors.GraphMismatchError(
      "{} {} is not in the same graph as the rest.".format(
          role, tensors.describe(leaf)),
      "It is in a graph around the function, loop or branch that is built, "
      "which reads it in several ways, or not at all.",
      "Use `gradient`, `value_and_gradient`, `vjp` or `gradients`, which pass "
      "from one graph to the other; or differentiate by a tf.identity that is "
      "made inside and that all else is computed from.")


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
  return cotangents_of_leaves(values, ys, graph, role)


def weights(values, structure, count):
  """What `tf.gradients` takes for `grad_ys`, as a list of one for each y.

  Args:
    values: what the caller passed: None, a list, or one value for one y.
    structure: the y that the caller passed.
    count: int, the number of its leaves.
  """
  if values is None:
    return [None] * count
  if count == 1 and not isinstance(values, (list, tuple)):
    return [values]
  return _values(values, structure, "grad_ys", errors.CotangentError, "y")


def of_itself(x, targets):
  """What `tf.gradients` gives for an x of integers that is a y itself.

  Args:
    x: `tensors.Dense`.
    targets: list of (leaf of y, cotangent that the caller passed or None).

  Returns:
    `tf.Tensor`, or None for any other x.
  """
  own = [weight for y, weight in targets if y.name == x.name and
         y.graph is x.graph and x.dtype.is_integer]
  if not own:
    return None

  def build():
    with _tf.building(x.graph, x.op):
      return tf.add_n([tf.ones_like(x.tensor) if weight is None else
                       tf.convert_to_tensor(weight, x.dtype)
                       for weight in own])

  if any(weight is not None for weight in own):
    return build()
  return cache.cached(x.graph, ("of itself", x.name, len(own)), build)


def cotangents_of_leaves(values, ys, graph, role="grad_ys"):
  """`cotangents` of lists: one value, or None, for each y."""
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
