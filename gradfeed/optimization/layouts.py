"""Which elements of SciPy's vector x stand for which variable or tensor."""

import collections

import numpy as np

from gradfeed import _tf
from gradfeed import errors
from gradfeed.evaluation import session_run
from gradfeed.evaluation import sessions
from gradfeed.graph import nest
from gradfeed.graph import tensors
from gradfeed.graph import traversal

_ASSIGNING = ("Assign", "AssignVariableOp")


class Layout:
  """The variables or tensors that a vector x is put together from.

  Attributes:
    graph: `tf.Graph`.
    structure: what the caller passed.
    given: list of its leaves, as they were passed.
    leaves: list of its leaves, resolved.
    shapes: list with the shape of each, a tuple.
    ranges: list with the slice of x for each.
    x0: float64 array of shape [n], the values at the beginning.
  """

  def __init__(self, structure, graph, session, x0):
    """Reads the values of variables, where no `x0` is given.

    Args:
      structure: variables, tensors, names, or nested structure of them.
      graph: `tf.Graph`.
      session: session, or None for the default one.
      x0: None, or arrays in that structure, or one vector of all elements.
    """
    self.graph = graph
    self.structure = structure
    self.given = [_tf.dereference(leaf) for leaf in nest.flatten(structure)]
    if not self.given:
      raise errors.ArgumentError(
          "variables_or_x is empty.", "There is nothing to optimize.",
          "Pass at least one variable or tensor.")
    self.leaves = [tensors.resolve(leaf, graph, "variables_or_x")
                   for leaf in self.given]
    _check(self.leaves)
    values = (self._read(session) if x0 is None else
              self._fit_values(x0))
    self.shapes = [value.shape for value in values]
    edges = np.cumsum([0] + [value.size for value in values])
    self.ranges = [slice(int(start), int(end))
                   for start, end in zip(edges, edges[1:])]
    self.x0 = np.concatenate(
        [value.ravel().astype(np.float64) for value in values])
    self._dtypes = [leaf.dtype.as_numpy_dtype for leaf in self.leaves]

  def _read(self, session):
    """The values of the variables in the session."""
    for leaf in self.leaves:
      if not all(part.is_variable for part in leaf.differentiable()):
        raise errors.ArgumentError(
            "There is no x0 for {}.".format(tensors.describe(leaf)),
            "Only variables have a value to begin with.",
            "Pass x0=..., an array of its shape; of several, in the structure "
            "of variables_or_x.")
    parts = iter(session_run.run(session, [
        tensors.read_of(part) for leaf in self.leaves
        for part in leaf.differentiable()]))
    return [np.concatenate([next(parts) for _ in leaf.parts], leaf.axis)
            if isinstance(leaf, tensors.Partitioned) else
            np.asarray(next(parts)) for leaf in self.leaves]

  def _fit_values(self, x0):
    """The values that the caller passed, checked."""
    sizes = [leaf.shape.num_elements() for leaf in self.leaves]
    if isinstance(x0, np.ndarray) and x0.ndim == 1 and None not in sizes and (
        x0.size == sum(sizes)):
      parts = np.split(x0, np.cumsum(sizes)[:-1])
      values = [part.reshape(leaf.shape.as_list())
                for part, leaf in zip(parts, self.leaves)]
    else:
      values = nest.flatten_as(self.structure, x0, "x0")
    return [_fit(value, leaf) for value, leaf in zip(values, self.leaves)]

  def split(self, x):
    """The values of all leaves at `x`, each in its shape and dtype.

    Args:
      x: array of shape [n].

    Returns:
      list of arrays, which may be views of `x`.
    """
    x = np.asarray(x)
    if x.shape != self.x0.shape:
      raise errors.ArgumentError(
          "x has shape {}, not [{}].".format(
              tensors.format_shape(x.shape), self.x0.size),
          "It holds the elements of {}.".format(
              tensors.describe_all(self.leaves[:8])),
          "Pass one vector, such as x0.")
    return [x[part].astype(dtype, copy=False).reshape(shape)
            for part, dtype, shape in zip(
                self.ranges, self._dtypes, self.shapes)]

  def join(self, indices, arrays):
    """The reverse of `split`, with zeros for leaves that are not there.

    Args:
      indices: list of int, which leaves.
      arrays: iterable with an array for each of them.

    Returns:
      float64 array of shape [n].
    """
    x = np.zeros(self.x0.size)
    for i, array in zip(indices, arrays):
      x[self.ranges[i]] = array.ravel()
    return x

  def index_of(self, key):
    """Which leaf a key of a dict stands for.

    Args:
      key: variable, tensor or name.

    Returns:
      int; None where it is none of them.
    """
    name = tensors.resolve(key, self.graph, "bounds").name
    names = [leaf.name for leaf in self.leaves]
    return names.index(name) if name in names else None

  def assign(self, x, session):
    """Writes values into the variables of a session.

    Args:
      x: array of shape [n].
      session: session, or None for the default one.
    """
    values = []
    for leaf, value in zip(self.leaves, self.split(x)):
      parts = leaf.differentiable()
      if all(part.is_variable for part in parts):
        values += zip(parts, leaf.split(value) if isinstance(
            leaf, tensors.Partitioned) else [value])
    if not values:
      raise errors.ArgumentError(
          "There is no variable to assign to.",
          "The values are those of {}.".format(
              tensors.describe_all(self.leaves[:8])),
          "Take them from `unflatten(x)`, and feed them.")
    session = session if session is not None else sessions.default_session()
    sessions.check_open(session, self.graph)
    raw = _tf.raw_session(session) or session
    pending = [(_assignment(part), value) for part, value in values]
    while pending:  # Two may be fed through one tensor: one after the other.
      now = collections.OrderedDict()
      for op, value in pending:
        now.setdefault(op.inputs[1].name, (op, value))
      _tf.session_run(raw, [op for op, _ in now.values()], {
          name: value for name, (_, value) in now.items()})
      done = {op.name for op, _ in now.values()}
      pending = [item for item in pending if item[0].name not in done]


def _check(leaves):
  """Refuses leaves that are no real dense tensors, and one that is there twice.

  Args:
    leaves: list of what `tensors.resolve` gives.
  """
  seen = set()
  for leaf in leaves:
    if isinstance(leaf, tensors.Sparse) or not leaf.dtype.is_floating:
      raise errors.ArgumentError(
          "variables_or_x {} is not dense and real.".format(
              tensors.describe(leaf)),
          "SciPy moves a vector of real numbers.",
          "Pass floating variables or tensors; of a SparseTensor its values, "
          "of a complex tensor the real ones that it is made from.")
    if leaf.name in seen:
      raise errors.ArgumentError(
          "{} is there twice.".format(tensors.describe(leaf)),
          "It has one value.", "Leave it out once.")
    seen.add(leaf.name)


def _fit(value, leaf):
  """The value of one leaf in x0, checked."""
  try:
    array = np.asarray(value)
  except Exception:  # pylint: disable=broad-except
    array = np.asarray(None)
  if array.dtype.kind not in "iufV" or array.dtype.names or not (
      leaf.shape.is_compatible_with(array.shape)):
    raise errors.ArgumentError(
        "x0 ({}, {}) does not fit {}.".format(
            array.dtype, tensors.format_shape(array.shape),
            tensors.describe(leaf)),
        "It is the value to begin with.",
        "Pass an array of numbers of that shape.")
  return array.astype(leaf.dtype.as_numpy_dtype)


def _assignment(part):
  """An op that assigns its second input to a variable: an old one, or new.

  Args:
    part: `tensors.Dense`, a variable.

  Returns:
    `tf.Operation`.
  """
  for op in traversal.consumers(part.tensor):
    if op.type in _ASSIGNING and op.inputs[0] is part.tensor and not (
        op.control_inputs or _tf.is_inside(op)) and (
            part.graph.is_feedable(op.inputs[1])):
      return op
  return sessions.assignment(part)[1]
