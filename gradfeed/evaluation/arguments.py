"""Checks what is passed to `function` and `run`, and resolves it."""

import collections
from collections import abc
import warnings

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.branches import folding
from gradfeed import errors
from gradfeed.evaluation import feeds
from gradfeed.graph import cache
from gradfeed.graph import lookup
from gradfeed.graph import nest
from gradfeed.graph import tensors

#: Seconds; TensorFlow counts milliseconds in a number of 64 bits.
_LONGEST = 1e9

_ON_UNUSED_INPUT = ("warn", "raise", "ignore")


def names(structure, graph):
  """The names of all dense tensors of the leaves of `structure`.

  Args:
    structure: `points` as a caller passed them, nested or not.
    graph: `tf.Graph`.

  Returns:
    list of str.
  """
  return [component.name for leaf in nest.flatten(structure)
          for component in tensors.resolve(leaf, graph, "points").components()]


def resolve_feeds(feed_dict, graph, inputs=()):
  """The keys of a `feed_dict` as leaves, none of them twice.

  Args:
    feed_dict: dict as `taken_apart` takes it.
    graph: `tf.Graph`.
    inputs: leaves that get their values otherwise.

  Returns:
    dict from the leaf's name and kind to (leaf, value), in the order of
    `feed_dict`.

  Raises:
    FeedError: lists the keys that are unknown or name one tensor twice.
  """
  return resolve_pairs(taken_apart(feed_dict), graph, inputs)


def taken_apart(feed_dict):
  """The keys and values of a `feed_dict`, as `Session.run` takes them apart.

  A key may be a tuple of tensors, such as a state of an LSTM, nested or not, an
  object of a class of the package `attrs`, `tf.IndexedSlices`, or of a type of
  `tf.register_session_run_conversion_functions`.

  Args:
    feed_dict: dict, or None.

  Returns:
    list of (tensor, variable, `tf.SparseTensor` or name, value).

  Raises:
    FeedError: a value does not have the structure of its key.
  """
  check_mapping(feed_dict)
  pairs = []
  for key, value in (feed_dict or {}).items():
    if isinstance(key, (tf.Tensor, str)):
      pairs.append((key, value))
    else:
      pairs.extend(_apart(key, value))
  return pairs


def _apart(key, value):
  """The list of pairs for one key of a `feed_dict` and its value."""
  key = _tf.dereference(key)
  if isinstance(key, bytes):
    key = key.decode("utf-8", "replace")
  if isinstance(key, (str, tf.Tensor)):
    return [(key, value)]
  if nest.is_container(key):
    return [pair for leaf, part in zip(nest.flatten(key), _parts(key, value))
            for pair in _apart(leaf, part)]
  if isinstance(key, tf.IndexedSlices):
    return _of_slices(key, value)
  conversion = _tf.feed_conversion(key)
  if conversion is None:
    return [(key, value)]
  return [pair for tensor, part in conversion(key, value)
          for pair in _apart(tensor, part)]


def _parts(key, value):
  """The parts of a value for the leaves of a structured key, in their order."""
  try:
    return nest.flatten_as(key, value)
  except errors.FeedError:
    parts = nest.flatten(value)  # TensorFlow counts the leaves alone.
    if len(parts) != len(nest.flatten(key)):
      raise
    return parts


def _of_slices(key, value):
  """The pairs for `tf.IndexedSlices` and a tuple (values, indices[, shape])."""
  if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
    raise feeds.feed_error([feeds.Problem(
        "'{}'".format(key.values.name), "tf.IndexedSlices take an "
        "IndexedSlicesValue, or the tuple (values, indices, dense_shape)")])
  return [(tensor, part) for tensor, part in zip(
      [key.values, key.indices, key.dense_shape], value)
          if tensor is not None and part is not None]


def resolve_pairs(pairs, graph, inputs=()):
  """As `resolve_feeds`, for what `taken_apart` gave."""
  fed, problems = collections.OrderedDict(), []
  taken = {component.name for leaf in inputs for component in leaf.components()}
  if len(taken) < sum(len(leaf.components()) for leaf in inputs):
    problems.append(("the inputs", "one of them appears twice"))
  for key, value in pairs:
    try:
      leaf = tensors.resolve(key, graph, "feed")
    except (errors.TensorNotFoundError, errors.ArgumentError,
            errors.GraphMismatchError) as error:
      problems.append((repr(key), "{} {}".format(error.what, error.why)))
      continue
    own = {component.name for component in leaf.components()}
    if own & taken:
      problems.append((leaf, "it has a value already; two keys, or a key and "
                       "an input, name the same tensor"))
    taken |= own
    fed[leaf.name, type(leaf).__name__] = (leaf, value)
  if problems:
    raise feeds.feed_error(problems)
  return fed


def held_values(fed, strict=False):
  """The values of dense tensors, by name; those that do not fit are left out.

  Args:
    fed: dict with values (leaf, value), as `resolve_feeds` gives it.
    strict: bool, whether values that do not fit are refused.

  Returns:
    dict from the name of a tensor to its array.

  Raises:
    FeedError: lists the values that do not fit, if `strict`.
  """
  held, problems = {}, []
  for leaf, value in fed.values():
    try:
      held.update((component.name, feeds.Slot(component).fit(array))
                  for component, array in zip(leaf.components(), feeds.split(
                      leaf, value)))
    except feeds.Unfit as unfit:
      problems.append(feeds.Problem(leaf, str(unfit)))
  if strict and problems:
    raise feeds.feed_error(problems)
  return held


def folded(targets, ops, inputs, fed):
  """What the values that are fed decide.

  Args:
    targets: list of `tf.Tensor`.
    ops: dict from name to op, the `traversal.ancestors` of `targets`.
    inputs: leaves whose values differ from call to call.
    fed: dict with values (leaf, value), as `resolve_feeds` gives it.

  Returns:
    `folding.Folding` or None.
  """
  graph = targets[0].graph
  varying = [component.name for leaf in inputs
             for component in leaf.components()]
  values = dict(dict.fromkeys(varying), **held_values(fed))
  values.update((clone, value) for name, value in list(values.items())
                for clone in cache.clones_of(graph, name))
  return folding.fold(targets, ops, values, set(varying))[0]


def check_overlaps(fed):
  """Refuses two leaves that have a tensor in common.

  Such are a held sparse tensor and a value for its values alone in one call.

  Args:
    fed: dict with values (leaf, value), as `resolve_feeds` gives it.
  """
  taken = {}
  for leaf, _ in fed.values():
    for component in leaf.components():
      if component.name in taken:
        raise feeds.feed_error([feeds.Problem(
            leaf, "'{}' has a value already, through {}".format(
                component.name, tensors.describe(taken[component.name])))])
      taken[component.name] = leaf


def check_timeout(timeout):
  """Refuses a `timeout` that is no positive number, nor None."""
  if timeout is not None and not (
      isinstance(timeout, (int, float)) and 0 < timeout <= _LONGEST):
    raise errors.ArgumentError(
        "timeout={!r} is no time.".format(timeout),
        "It is the seconds that one run may take.",
        "Pass a positive number of at most {:g}, or None for no limit.".format(
            _LONGEST))


def check_on_unused_input(value):
  """Refuses an `on_unused_input` that is none of its values."""
  if value not in _ON_UNUSED_INPUT:
    raise errors.ArgumentError(
        "on_unused_input={!r} is none of its values.".format(value),
        "They are {}.".format(", ".join(map(repr, _ON_UNUSED_INPUT))),
        "Pass one of them.")


def report_unused(leaves, on_unused_input):
  """Warns of inputs on which no output depends, or refuses them, if any.

  Args:
    leaves: list of those inputs.
    on_unused_input: "warn", "raise" or "ignore".
  """
  if leaves and on_unused_input == "raise":
    raise feeds.feed_error(
        feeds.Problem(leaf, "no output depends on it") for leaf in leaves)
  if leaves and on_unused_input == "warn":
    warnings.warn(errors.GradfeedWarning(
        "No output depends on {}: a value makes no difference. Leave it out, "
        "or say on_unused_input=\"ignore\".".format(tensors.describe_all(leaves))),
                  stacklevel=lookup.stacklevel_of_caller())


def check_list(name, values, count):
  """Refuses an argument `name` that is no list (or tuple) of `count` values."""
  if not isinstance(values, (list, tuple)) or len(values) != count:
    raise errors.ArgumentError(
        "{} is {}.".format(name, "a list of {}".format(len(values))
                           if isinstance(values, (list, tuple)) else
                           "a {}".format(type(values).__name__)),
        "There has to be one for each of those of the function.",
        "Pass a list of {}.".format(count))


def check_mapping(feed_dict):
  """Refuses a `feed_dict` that is no mapping, nor None."""
  if feed_dict is not None and not isinstance(feed_dict, abc.Mapping):
    raise errors.ArgumentError(
        "feed_dict is a {}.".format(type(feed_dict).__name__),
        "It maps tensors to values.", "Pass a dict: {tensor: value}.")


def ordered(fed):
  """`fed` in the order of its keys, whatever their order was in a call."""
  return collections.OrderedDict(sorted(fed.items()))


def frozen(fed):
  """Copies held values, so that later changes of the caller have no effect.

  Args:
    fed: dict with values (leaf, value), as `resolve_feeds` gives it.

  Returns:
    ordered dict of the same kind.

  Raises:
    FeedError: lists the values that do not fit.
  """
  copies, problems = {}, []
  for name, (leaf, value) in fed.items():
    try:
      arrays = [
          np.array(feeds.Slot(component).fit(array))
          if _tf.numpy_dtype(component.dtype) else array
          for component, array in zip(leaf.components(), feeds.split(
              leaf, value))
      ]
    except feeds.Unfit as unfit:
      problems.append((leaf, str(unfit)))
      continue
    if isinstance(leaf, tensors.Sparse):
      value = tuple(arrays)
    elif isinstance(leaf, tensors.Partitioned):
      value = np.concatenate(arrays, leaf.axis)
    else:
      value = arrays[0]
    copies[name] = (leaf, value)
  if problems:
    raise feeds.feed_error(problems)
  return ordered(copies)


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
    values, named = self._told_apart(values, named or {})
    if not named and len(values) != len(self.structures) or (
        len(values) > len(self.structures)):
      raise errors.FeedError(
          "{} values for {} inputs.".format(len(values), len(self.structures)),
          "The inputs are {}.".format(tensors.describe_all(self.leaves)),
          "Pass one value for each, in this order.")
    flat = [leaf for structure, value in zip(self.structures, values)
            for leaf in nest.flatten_as(structure, value)]
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
      index = self._index(name)
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
    for known in (self._identifiers(), names,
                  [name.split(":")[0] for name in names]):
      if known.count(name) == 1:
        return known.index(name)
    return None

  def _identifiers(self):
    """What each leaf is called in Python: its key, or the end of its name."""
    if self._keys is not None and len(self._keys) == len(self.leaves):
      return self._keys
    return [leaf.name.split(":")[0].split("/")[-1] for leaf in self.leaves]

  def _described(self):
    """The inputs and what they are called, for a message."""
    identifiers = self._identifiers()
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
