"""`scipy_objective`: a loss of a graph as SciPy's functions of a vector x."""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import gradients
from gradfeed.derivatives import hessians
from gradfeed.derivatives import jacobians
from gradfeed import errors
from gradfeed.evaluation import making
from gradfeed.evaluation.inputs import arguments
from gradfeed.graph import cache
from gradfeed.graph import nest
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.optimization import layouts


def scipy_objective(loss, variables_or_x, session=None, feed_dict=None,
                    x0=None, unconnected="error"):
  """Makes what SciPy's optimizers call: a loss and its derivatives at any x.

  The variables are inputs, as in `function`: while an optimizer runs, no
  variable is assigned. `ScipyObjective.assign` does that, when it is called.

  Args:
    loss: floating `tf.Tensor` or name of one element.
    variables_or_x: what x stands for: ref, resource or partitioned variables,
      placeholders, other floating tensors or names, in nested lists, tuples and
      dicts. Their elements follow each other as in `flatten`; unlike there, the
      dtypes may differ.
    session: as in `function`.
    feed_dict: dict from tensors, variables or names to values, held for all
      calls: values are taken now.
    x0: arrays in the structure of `variables_or_x`, or one array of shape [n].
      None for the values that variables have in the session now; what is no
      variable needs one.
    unconnected: "error", or "zero": variables that the loss does not depend on
      have zeros in the gradient.

  Returns:
    `ScipyObjective`.

  Raises:
    ArgumentError: the loss has several elements, x is complex or has no x0.
    DisconnectedError: the loss does not depend on a variable; says why.
    The errors of `gradient` and `function`.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float32, [2])
    ...   objective = gf.scipy_objective(
    ...       tf.reduce_sum((x - 1.0) ** 2), x, session, x0=[1.0, 3.0])
    ...   print(objective.fun(objective.x0))
    (4.0, array([0., 4.]))
  """
  return ScipyObjective(
      loss, layout_of(loss, variables_or_x, session, feed_dict, x0,
                      unconnected), session, feed_dict, unconnected)


def layout_of(loss, variables_or_x, session, feed_dict, x0, unconnected):
  """The `layouts.Layout` of x; the arguments are those of `scipy_objective`.

  Raises:
    ArgumentError: one of them cannot be used.
  """
  arguments.check_mapping(feed_dict)
  if not isinstance(unconnected, str) or (
      unconnected not in ("error", "zero")):
    raise errors.ArgumentError(
        "unconnected={!r} is not known.".format(unconnected),
        "It says what is done with an x that the loss does not depend on.",
        "Use 'error' or 'zero'.")
  return layouts.Layout(variables_or_x, tensors.graph_of(
      loss, variables_or_x), session, x0)


class ScipyObjective:
  """What `scipy_objective` returns: functions of one float64 vector x.

  The gradient comes with the value: `scipy.optimize.minimize(objective.fun,
  objective.x0, jac=True, hessp=objective.hessp)`. With float32 variables x is
  rounded to float32 where it is evaluated: steps under 6e-8 of an element do
  nothing, and differences of the loss under 1e-7 of it are rounding; set the
  tolerances of a method accordingly. NaN and infinities go to SciPy as they
  are.

  Attributes:
    x0: float64 array of shape [n], the values to begin with.
    shapes: the shape of each variable or tensor, in the structure of
      `variables_or_x`.
  """

  def __init__(self, loss, layout, session, feed_dict, unconnected):
    self._loss = _one_element(loss, layout.graph)
    self._layout = layout
    self._session, self._feed_dict = session, dict(feed_dict or {})
    if unconnected == "zero":
      by_leaf = gradients.value_and_gradient(
          self._loss, self._layout.given, unconnected="none")[1]
      self._connected = [i for i, g in enumerate(by_leaf) if g is not None]
    else:
      self._connected = list(range(len(self._layout.given)))
    self._inputs = [self._layout.given[i] for i in self._connected]
    value, by_leaf = gradients.value_and_gradient(self._loss, self._inputs)
    self._both = self._function(self._inputs, [value] + list(by_leaf))
    self._value = self._product = self._dense = None
    self.x0 = self._layout.x0.copy()
    self.shapes = nest.pack(layout.structure, layout.shapes)

  def _function(self, inputs, outputs):
    return making.function(inputs, outputs, self._session, self._feed_dict)

  def _function_of_part(self, inputs, outputs, tensor):
    """As `_function`, with the feeds alone that `tensor` depends on."""
    ops = traversal.ancestors([tensor])
    fed = {key: value for key, value in self._feed_dict.items() if any(
        component.op.name in ops for component in tensors.resolve(
            key, self._layout.graph, "feed").components())}
    return making.function(inputs, outputs, self._session, fed)

  def _at(self, x):
    """The values at x of what the loss depends on."""
    values = self._layout.split(x)
    return [values[i] for i in self._connected]

  def fun(self, x):
    """The loss and its gradient, from one pass.

    Args:
      x: array of shape [n].

    Returns:
      (float, float64 array of shape [n]).
    """
    results = self._both(*self._at(x))
    return _number(results[0]), self._layout.join(self._connected, results[1:])

  def jac(self, x):
    """The gradient alone; `fun` has both.

    Args:
      x: array of shape [n].

    Returns:
      float64 array of shape [n].
    """
    return self.fun(x)[1]

  def value(self, x):
    """The loss alone, for methods without a gradient.

    Args:
      x: array of shape [n].

    Returns:
      float.
    """
    if self._value is None:
      self._value = self._function(self._inputs, self._loss)
    return _number(self._value(*self._at(x)))

  def hessp(self, x, v):
    """The Hessian times a vector, as `hvp`. The Hessian is not built.

    Args:
      x: array of shape [n].
      v: array of shape [n], the direction.

    Returns:
      float64 array of shape [n].
    """
    if self._product is None:
      directions = [_direction(self._layout.leaves[i])
                    for i in self._connected]
      products = hessians.hvp(self._loss, self._inputs, directions)
      # All inputs have an effect also where the loss is quadratic or linear.
      self._product = self._function(
          self._inputs + directions, list(products) + [self._loss] + [
              _sum(direction) for direction in directions])
    results = self._product(*(self._at(x) + self._at(v)))
    return self._layout.join(self._connected, results)

  def hess(self, x):
    """The Hessian, for methods that factorize it: n^2 numbers.

    Args:
      x: array of shape [n].

    Returns:
      float64 array of shape [n, n].
    """
    if self._dense is None:
      blocks = hessians.hessian(self._loss, self._inputs)
      self._dense = self._function(self._inputs, [blocks, self._loss])
    matrix = np.zeros([self.x0.size] * 2)
    ranges = [self._layout.ranges[i] for i in self._connected]
    for rows, blocks in zip(ranges, self._dense(*self._at(x))[0]):
      for columns, block in zip(ranges, blocks):
        matrix[rows, columns] = block.reshape(matrix[rows, columns].shape)
    return matrix

  def unflatten(self, x):
    """The values that x stands for.

    Args:
      x: array of shape [n].

    Returns:
      The structure of `variables_or_x`, with an array of the shape and dtype of
      each.
    """
    return nest.pack(self._layout.structure, [
        np.array(value) for value in self._layout.split(x)])

  def assign(self, x):
    """Writes x into the variables of the session; nothing else does.

    What is no variable is left out.

    Args:
      x: array of shape [n].

    Raises:
      ArgumentError: there is no variable among `variables_or_x`.
    """
    self._layout.assign(x, self._session)

  def constraint(self, tensor):
    """A tensor of the graph as functions of x, for SciPy's constraints.

    Args:
      tensor: floating tensor or name of any shape.

    Returns:
      (function from x to the elements, function from x to their Jacobian).
    """
    tensor = tensors.read_of(tensors.resolve(
        tensor, self._layout.graph, "constraint"))
    by_leaf = gradients.value_and_gradient(
        tensor, self._layout.given, unconnected="none")[1]
    used = [i for i, g in enumerate(by_leaf) if g is not None]
    if not used:
      gradients.gradient(tensor, self._layout.given)  # Says why.
    inputs = [self._layout.given[i] for i in used]
    values = self._function_of_part(inputs, tensor, tensor)
    rows = self._function_of_part(inputs, [tensor] + list(
        jacobians.jacobian(tensor, inputs)), tensor)

    def at(x):
      split = self._layout.split(x)
      return [split[i] for i in used]

    def jac(x):
      results = rows(*at(x))
      count = results[0].size
      matrix = np.zeros([count, self.x0.size])
      for i, block in zip(used, results[1:]):
        part = self._layout.ranges[i]
        matrix[:, part] = block.reshape(count, part.stop - part.start)
      return matrix

    return lambda x: np.asarray(values(*at(x)), np.float64).ravel(), jac


def _one_element(loss, graph):
  """The tensor of a loss; refuses one of several elements."""
  leaves = nest.flatten(loss)
  resolved = [tensors.resolve(leaf, graph, "loss") for leaf in leaves]
  if len(leaves) != 1 or resolved[0].shape.num_elements() not in (1, None):
    raise errors.ArgumentError(
        "loss {} has more than one element, or none.".format(
            tensors.describe_all(resolved)),
        "SciPy minimizes one number.",
        "Add them up: tf.reduce_sum or tf.reduce_mean.")
  return tensors.read_of(resolved[0])


def _number(value):
  """The value of a loss as a float."""
  if value.size != 1:
    raise errors.ArgumentError(
        "The loss has {} elements at this call.".format(value.size),
        "SciPy minimizes one number.",
        "Add them up: tf.reduce_sum or tf.reduce_mean.")
  return float(value.item())


def _direction(leaf):
  """The placeholder for a direction of one x; made once."""
  def build():
    cache.check_not_finalized(leaf.graph, "A direction of {}".format(
        tensors.describe(leaf)))
    with _tf.building(leaf.graph):
      return tf.placeholder(leaf.dtype, leaf.shape, name="direction")

  return cache.cached(leaf.graph, ("direction", leaf.name), build)


def _sum(tensor):
  """The sum of the elements of a tensor; built once."""
  def build():
    with _tf.building(tensor.graph):
      return tf.reduce_sum(tensor)

  return cache.cached(tensor.graph, ("sum", tensor.name), build)
