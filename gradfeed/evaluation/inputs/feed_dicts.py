"""The keys and values of a `feed_dict`, as `Session.run` takes them apart."""

import collections

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.branches import folding
from gradfeed import errors
from gradfeed.evaluation.inputs import arguments
from gradfeed.evaluation.inputs import feeds
from gradfeed.graph import cache
from gradfeed.graph import nest
from gradfeed.graph import tensors


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
  arguments.check_mapping(feed_dict)
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
