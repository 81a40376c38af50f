"""Checks the arguments of a task, where it is made."""

from collections import abc
import os

import numpy as np

from gradfeed import errors
from gradfeed.shards import file_systems
from gradfeed.streaming import point_sources
from gradfeed.streaming import sinks


def check_outputs(paths, loaded):
  """Refuses files that cannot hold the results, or have no folder.

  Args:
    paths: list of str.
    loaded: `worker_models.LoadedDerivative`.

  Raises:
    ArgumentError, StreamError.
  """
  sinks.Sink(paths, loaded.f)
  for path in paths:
    folder = os.path.dirname(path)
    if not file_systems.is_remote(path) and not os.path.isdir(folder):
      raise errors.StreamError(
          "'{}' cannot be written.".format(path),
          "There is no folder '{}'.".format(folder),
          "Make it, where every worker sees it, or name one that is there.")


def patterns_of(points, derivative):
  """The path or pattern of each input.

  Args:
    points: as in `tasks.StreamShard`.
    derivative: `worker_models.ModelDerivative`.

  Returns:
    list of str.

  Raises:
    ArgumentError: they are no paths, or not as many as inputs.
  """
  names = [derivative.names["x"]] + derivative.names["rows"]
  names += [derivative.names["class_index"]] * (derivative.inputs - len(names))
  if isinstance(points, abc.Mapping):
    unknown = sorted(set(points) - set(names))
    given = [points.get(name) for name in names]
    if unknown:
      raise errors.ArgumentError(
          "There is no input {!r} of points.".format(unknown[0]),
          "The inputs are {}.".format(", ".join(map(repr, names))),
          "Name one of them.")
  else:
    given = list(points) if isinstance(points, (list, tuple)) else (
        [points] * len(names))
  if len(given) != len(names) or not all(
      isinstance(path, (str, os.PathLike)) and os.fspath(path)
      for path in given):
    raise errors.ArgumentError(
        "points={!r} are no files for {}.".format(
            points, ", ".join(map(repr, names))),
        "A worker reads them itself: it is sent paths, and no arrays.",
        "Pass a path or a pattern of names; or a list with one for each.")
  given = [file_systems.absolute(path) for path in given]
  for path in given:
    if given.count(path) > 1 and point_sources.is_array_file(path):
      raise errors.ArgumentError(
          "'{}' has the values of one input, and is named for {}.".format(
              path, given.count(path)), "A .npy file has one array.",
          "Name a file for each of {}.".format(", ".join(map(repr, names))))
  return given


def check_counts(shards, threads):
  """Refuses numbers of shards and threads that are none.

  Raises:
    ArgumentError: with the name of the argument.
  """
  for name, value in (("shards", shards), ("threads", threads)):
    if value is not None and (isinstance(value, bool) or not isinstance(
        value, (int, np.integer)) or value < 1):
      raise errors.ArgumentError(
          "{}={!r} is no number of {}.".format(name, value, name),
          "It is 1 at least, or None.", "Pass a positive int, or None.")
