"""Checks the arguments of `stream`, before anything is opened."""

from collections import abc
import os

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation import functions


def check(f, points, out, chunk, on_error, coupled, progress, keys,
          max_skipped):
  """Refuses arguments of another type or value than `streams.stream` takes.

  Args: those of `streams.stream`.

  Raises:
    ArgumentError: with the name of the argument.
  """
  if not isinstance(f, functions.Function):
    raise _wrong("f", f, "It is what is evaluated at each point.",
                 "Pass what gradfeed.function(x, outputs) returns.")
  _check_points(points)
  check_settings(out, chunk, on_error, max_skipped)
  if not isinstance(coupled, (bool, np.bool_)):
    raise _wrong("coupled", coupled, "It states whether rows depend on each "
                 "other.", "Pass True or False.")
  if progress not in (None, True, False) and not callable(progress) if (
      not isinstance(progress, np.ndarray)) else True:
    raise _wrong("progress", progress, "It is called after each chunk.",
                 "Pass a function of two numbers, True, or None.")
  _check_keys(keys)


def check_settings(out, chunk, on_error, max_skipped):
  """Refuses settings of another type or value than `streams.stream` takes.

  Args: those of `streams.stream`.

  Raises:
    ArgumentError: with the name of the argument.
  """
  paths = list(out) if isinstance(out, (list, tuple)) else [out]
  if not paths or not all(map(_is_path, paths)):
    raise _wrong("out", out, "It is the path of the file to write.",
                 "Pass a str such as 'gradients.npy', or a list of them.")
  errors.check_chunk(
      chunk, "rows", "It is how many points are evaluated at a time.",
      "Pass a positive int.")
  if not isinstance(on_error, str) or on_error not in ("stop", "skip"):
    raise errors.ArgumentError(
        "on_error={!r} is not known.".format(on_error),
        "It says what happens at a point that cannot be evaluated.",
        "Use 'stop' or 'skip'.")
  if max_skipped is not None and (
      isinstance(max_skipped, (bool, np.bool_)) or
      not isinstance(max_skipped, (int, float, np.integer, np.floating)) or
      not 0 <= max_skipped <= 1):
    raise _wrong("max_skipped", max_skipped, "It is the share of the points "
                 "that may be skipped.", "Pass a number from 0 to 1, or None.")


def _check_points(points):
  """Refuses points, or parts of them, that are no file, array or iterator."""
  parts = [points]
  if isinstance(points, abc.Mapping):
    parts = list(points.values())
  elif isinstance(points, (list, tuple)):
    parts = list(points)
  for part in parts:
    if part is None or isinstance(part, (tf.Tensor, tf.Operation, bytes, set,
                                         frozenset, type)) or (
        _tf.is_variable(part) or callable(part) or
        isinstance(part, (str, os.PathLike)) and not _is_path(part)):
      raise _wrong("points", points, "They are the values of the inputs.",
                   "Pass the path of a file, an array, an iterator, or a list "
                   "or dict of them, one for each input.")


def _check_keys(keys):
  """Refuses keys that are no names."""
  if keys is None or isinstance(keys, str):
    return
  names = list(keys.values()) if isinstance(keys, abc.Mapping) else keys
  if not isinstance(names, (list, tuple)) or not all(
      key is None or isinstance(key, str) for key in names):
    raise _wrong("keys", keys, "They are names in the file of points.",
                 "Pass a str, or a list or dict with a str or None for each "
                 "input.")


def _is_path(path):
  """Whether a file can have this path."""
  if not isinstance(path, (str, os.PathLike)):
    return False
  path = os.fspath(path)
  return isinstance(path, str) and bool(path) and "\0" not in path


def _wrong(name, value, why, fix):
  """Makes the `ArgumentError` for an argument."""
  text = " ".join(repr(value).split())
  return errors.ArgumentError("{}={} is of no use here.".format(
      name, text if len(text) < 80 else text[:77] + "..."), why, fix)
