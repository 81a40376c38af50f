"""Nested lists, tuples and dicts of tensors: their leaves and structure.

An object of a class of the package `attrs` is a container too, as in
`Session.run`: its attributes are its elements.
"""

import collections
from collections import abc

import numpy as np

from gradfeed._tf import tf
from gradfeed import errors


def is_container(value):
  """Whether `value` is a list, tuple or mapping that may hold tensors.

  The value of a sparse tensor, a tuple of arrays, is none; one of tensors is.
  """
  if isinstance(value, (tf.Tensor, np.ndarray)):
    return False
  if isinstance(value, tf.SparseTensorValue):
    return isinstance(value.values, tf.Tensor)
  return isinstance(value, (list, tuple, abc.Mapping)) or _is_attrs(value)


def _is_attrs(value):
  """Whether the class of `value` was made by the package `attrs`."""
  return getattr(type(value), "__attrs_attrs__", None) is not None


def children(structure):
  """List of (key, index or attribute, value), in the order of `flatten`."""
  if _is_attrs(structure):
    return [(attribute.name, getattr(structure, attribute.name))
            for attribute in type(structure).__attrs_attrs__]
  if isinstance(structure, abc.Mapping):
    return [(key, structure[key]) for key in _ordered_keys(structure)]
  return list(enumerate(structure))


def _ordered_keys(mapping):
  try:
    return sorted(mapping)
  except TypeError:
    return list(mapping)


def flatten(structure):
  """The leaves of nested lists, tuples and mappings (by sorted key)."""
  if not is_container(structure):
    return [structure]
  return [leaf for _, child in children(structure) for leaf in flatten(child)]


def names_of(structure):
  """The path to each leaf, such as "losses/0"; "result" for a lone leaf."""
  if not is_container(structure):
    return ["result"]
  fields = getattr(structure, "_fields", None)
  names = []
  for key, child in children(structure):
    name = str(fields[key] if fields else key)
    names += [name + "/" + below for below in names_of(child)] if (
        is_container(child)) else [name]
  return names


def flatten_as(structure, value, label="value"):
  """The parts of `value` that stand at the leaves of `structure`.

  The leaves of `value` may themselves be lists (of numbers), so `structure`
  alone says how deep to go.
  """
  if not is_container(structure):
    return [value]
  if _is_attrs(structure):
    value = _attributes(value)
    structure = dict(children(structure))
  keys = [key for key, _ in children(structure)]
  if isinstance(structure, abc.Mapping):
    fits = (isinstance(value, abc.Mapping) and
            set(value) == set(keys))
  else:
    fits = isinstance(value, (list, tuple, np.ndarray)) and (
        getattr(value, "ndim", 1) and len(value) == len(keys))
  if not fits:
    raise errors.FeedError(
        "The {} does not have the structure of the input.".format(label),
        "The input is a {} of {} ({}); the {} is a {}.".format(
            type(structure).__name__, len(keys),
            ", ".join(map(str, keys)), label, type(value).__name__),
        "Pass the values in the same lists, tuples and dicts as the tensors.")
  return [leaf for key, child in children(structure)
          for leaf in flatten_as(child, value[key], label)]


def flattener(structure):
  """`flatten_as` of one structure as a function of the value, made once."""
  slow = lambda value: flatten_as(structure, value)
  if not is_container(structure):
    return lambda value: (value,)
  if type(structure) not in (list, tuple, dict):
    return slow
  keys = [key for key, _ in children(structure)]
  below = [flattener(child) for _, child in children(structure)]
  kinds = (dict,) if type(structure) is dict else (list, tuple)
  is_flat = not any(map(is_container, [c for _, c in children(structure)]))
  expected = set(keys)

  def flat(value):
    if type(value) not in kinds or len(value) != len(keys) or (
        kinds[0] is dict and value.keys() != expected):
      return slow(value)
    if is_flat:
      return [value[key] for key in keys]
    return [leaf for key, part in zip(keys, below) for leaf in part(value[key])]

  return flat


def _attributes(value):
  """An object of a class of `attrs` as a dict; anything else as it is."""
  return dict(children(value)) if _is_attrs(value) else value


def pack(structure, leaves):
  """Puts `leaves`, in the order of `flatten`, into a copy of `structure`."""
  return _pack(structure, iter(leaves))


def _pack(structure, leaves):
  if not is_container(structure):
    return next(leaves)
  if isinstance(structure, abc.Mapping):
    packed = {key: _pack(child, leaves) for key, child in children(structure)}
    ordered = [(key, packed[key]) for key in structure]
    if isinstance(structure, collections.defaultdict):
      return type(structure)(structure.default_factory, ordered)
    try:
      return type(structure)(ordered)
    except TypeError:
      return dict(ordered)
  packed = [_pack(child, leaves) for _, child in children(structure)]
  if hasattr(structure, "_fields") or _is_attrs(structure):
    return type(structure)(*packed)
  return tuple(packed) if isinstance(structure, tuple) else packed
