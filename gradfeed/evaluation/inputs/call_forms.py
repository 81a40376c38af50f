"""The forms in which the values of a function's inputs may be passed."""

from collections import abc

from gradfeed import errors
from gradfeed.evaluation.inputs import feeds
from gradfeed.graph import nest
from gradfeed.graph import tensors


class CallForm:
  """In which forms the values of the inputs may be passed in a call.

  Attributes:
    structures: list with the structure of each argument of a call.
  """

  def __init__(self, inputs, graph):
    """Takes the inputs.

    Args:
      inputs: as in `function`.
      graph: `tf.Graph`.

    Raises:
      TensorNotFoundError, ArgumentError: an input stands for no tensor.
    """
    is_list = isinstance(inputs, (list, tuple)) and nest.is_container(inputs)
    self.structures = list(inputs) if is_list else [inputs]
    self.leaves = [tensors.resolve(leaf, graph, "input")
                   for leaf in nest.flatten(self.structures)]
    self._graph = graph
    self._flatteners = list(map(nest.flattener, self.structures))
    self._indices = {}  # From each name that was passed, see `_index`.
    self._keys = ([key for key, _ in nest.children(inputs)]
                  if isinstance(inputs, abc.Mapping) else None)

  def bind(self, values, named=None):
    """The value of each leaf, in their order.

    Args:
      values: tuple of what was passed by place.
      named: dict from names to what was passed by name.

    Returns:
      list.

    Raises:
      FeedError: the values are not in a form of the inputs.
    """
    if named or len(values) != len(self.structures):
      values, named = self._told_apart(values, named or {})
    if not named and len(values) != len(self.structures) or (
        len(values) > len(self.structures)):
      raise errors.FeedError(
          "{} values for {} inputs.".format(len(values), len(self.structures)),
          "The inputs are {}.".format(tensors.describe_all(self.leaves)),
          "Pass one value for each, in this order.")
    flat = [leaf for flattened, value in zip(self._flatteners, values)
            for leaf in flattened(value)]
    return self._with_named(flat, named) if named else flat

  def _told_apart(self, values, named):
    """What is passed by place, one for each structure, and what by name.

    The values may be in one list, if the inputs were; those of one list of
    inputs may be passed one by one; a dict may have the names. What can be read
    as one value for each argument is read so.
    """
    count, first = len(self.structures), self.structures[0:1]
    if len(values) == 1 and count > 1 and not named:
      value, = values
      if isinstance(value, abc.Mapping):
        return (), value
      if isinstance(value, (list, tuple)) and len(value) == count:
        return tuple(value), named
    if len(values) > 1 and count == 1 and not named and (
        isinstance(first[0], (list, tuple)) and len(first[0]) == len(values)):
      return (values,), named
    return values, named

  def _with_named(self, flat, named):
    """`flat`, the values of the first leaves, and those that have names."""
    by_index, problems = {}, []
    for name, value in named.items():
      index = self._indices.get(name) if isinstance(name, str) else None
      if index is None:
        index = self._index(name)
        if isinstance(name, str) and index is not None:
          self._indices[name] = index
      if index is None:
        problems.append((repr(name), "no input is called that: they are " +
                         self._described()))
      elif index < len(flat) or index in by_index:
        problems.append((self.leaves[index], "it has two values"))
      else:
        by_index[index] = value
    problems += [] if problems else [
        (leaf, "it has no value; the inputs are " + self._described())
        for i, leaf in enumerate(self.leaves)
        if i >= len(flat) and i not in by_index]
    if problems:
      raise feeds.feed_error(feeds.Problem(*problem) for problem in problems)
    return flat + [by_index[i] for i in range(len(flat), len(self.leaves))]

  def _index(self, name):
    """The index of the leaf that `name`, a str or a tensor, is for, or None."""
    if not isinstance(name, str):
      try:
        name = tensors.resolve(name, self._graph, "input").name
      except errors.GradfeedError:
        return None
    names = [leaf.name for leaf in self.leaves]
    for known in (self.identifiers(), names,
                  [name.split(":")[0] for name in names]):
      if known.count(name) == 1:
        return known.index(name)
    return None

  def identifiers(self):
    """What each leaf is called in Python: its key, or the end of its name."""
    if self._keys is not None and len(self._keys) == len(self.leaves):
      return self._keys
    return [leaf.name.split(":")[0].split("/")[-1] for leaf in self.leaves]

  def _described(self):
    """The inputs and what they are called, for a message."""
    identifiers = self.identifiers()
    return ", ".join(
        "{}={}".format(identifier, tensors.describe(leaf))
        if identifiers.count(identifier) == 1 else tensors.describe(leaf)
        for identifier, leaf in zip(identifiers, self.leaves))

  def hint(self, values):
    """What to try where values do not fit that can be read in another way."""
    if len(values) == 1 == len(self.leaves) and (
        isinstance(values[0], (list, tuple)) and len(values[0]) == 1 and
        not nest.is_container(self.structures[0])):
      return (" There is one input, and the list of one is read as its value: "
              "leave out the brackets.")
    return ""
