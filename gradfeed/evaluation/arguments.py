"""Checks what is passed to `function` and `run`, and resolves it."""

import collections
from collections import abc

import numpy as np

from gradfeed import _tf
from gradfeed.branches import folding
from gradfeed import errors
from gradfeed.evaluation import feeds
from gradfeed.graph import cache
from gradfeed.graph import nest
from gradfeed.graph import tensors

#: Seconds; TensorFlow counts milliseconds in a number of 64 bits.
_LONGEST = 1e9


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
    feed_dict: dict from tensors, variables or names to values, or None.
    graph: `tf.Graph`.
    inputs: leaves that get their values otherwise.

  Returns:
    dict from the leaf's name and kind to (leaf, value), in the order of
    `feed_dict`.

  Raises:
    FeedError: lists the keys that are unknown or name one tensor twice.
  """
  check_mapping(feed_dict)
  feed_dict = feed_dict or {}
  fed, problems = collections.OrderedDict(), []
  taken = {component.name for leaf in inputs for component in leaf.components()}
  if len(taken) < sum(len(leaf.components()) for leaf in inputs):
    problems.append(("the inputs", "one of them appears twice"))
  for key, value in feed_dict.items():
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
