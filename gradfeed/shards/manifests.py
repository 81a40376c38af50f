"""Manifests: what a finished shard was made of, in a file beside it."""

import json
import os

from gradfeed import errors
from gradfeed.shards import file_systems
from gradfeed.streaming import skips

#: What the name of a manifest has after that of the results.
ENDING = ".manifest"


def read(output):
  """Reads the manifest of a shard.

  Args:
    output: str, the file of results.

  Returns:
    dict; None where the shard is not finished: there is no manifest, or one of
    the files of results that it names is gone.

  Raises:
    StreamError: the manifest cannot be read, or a file of results is not as it
      was left.
  """
  path = output + ENDING
  content = file_systems.read(path)
  if content is None:
    return None
  try:
    manifest = json.loads(content.decode())
    results = [(os.path.join(os.path.dirname(path), name), size)
               for name, size in manifest["results"]]
  except (ValueError, KeyError, TypeError):
    raise errors.StreamError(
        "'{}' is no manifest of a shard.".format(path), "It cannot be read.",
        "Delete it: the shard is then evaluated again.") from None
  for name, size in results:
    found = file_systems.size(name)
    if found is None:
      return None
    if found != size:
      raise errors.StreamError(
          "'{}' is not as it was left.".format(name),
          "It has {} bytes, and had {} when the shard was finished.".format(
              found, size),
          "Delete it to have it evaluated again.")
  return manifest


def write(output, manifest):
  """Writes the manifest of a shard, as a whole or not at all.

  Args:
    output: str, the file of results, on this machine.
    manifest: dict that JSON can hold.
  """
  path = output + ENDING
  with open(path + ".partial", "w") as target:
    json.dump(manifest, target)
    target.flush()
    os.fsync(target.fileno())
  os.replace(path + ".partial", path)


def check(output, manifest, wanted, points, task):
  """Refuses a finished shard that is not the one that is wanted.

  Args:
    output: str, the file of results.
    manifest: dict, as `read` returns it.
    wanted: dict with the "model" and what is "asked" of it.
    points: `shard_points.ShardPoints`.
    task: what has `on_error` and `max_skipped`.

  Raises:
    StreamError: it belongs to another model, another derivative or other
      points; or too many points were skipped.
  """
  different = []
  if manifest["model"] != wanted["model"]:
    different.append("another model ({}, now {})".format(
        manifest["model"], wanted["model"]))
  asked = manifest["asked"]
  names = sorted(name for name in wanted["asked"]
                 if asked.get(name) != wanted["asked"][name])
  if names:
    different.append("another {}".format(", ".join(
        "{} ({!r}, now {!r})".format(
            name, asked.get(name), wanted["asked"][name]) for name in names)))
  if not different and not _has_same_points(manifest, points):
    different.append("other points")
  if different:
    raise errors.StreamError(
        "'{}' was finished with {}.".format(output, " and ".join(different)),
        "It is there, and is not what is asked for now.",
        "Name another output; or delete '{}' to have it evaluated "
        "again.".format(output + ENDING))
  if task.on_error == "stop" and manifest["reasons"]:
    first = min(map(int, manifest["reasons"]))
    raise errors.StreamError(
        "'{}' was finished without {} of its points.".format(
            output, len(manifest["reasons"])),
        "Point {} of the shard {}; now on_error is 'stop'.".format(
            first, manifest["reasons"][str(first)]),
        "Pass on_error='skip'; or mend the points.")
  skips.check(_Skipped(manifest["reasons"]), manifest["rows"],
              task.max_skipped)


class _Skipped:
  """What `skips.check` reads of a report."""

  def __init__(self, reasons):
    self.reasons = {int(i): why for i, why in reasons.items()}
    self.skipped = sorted(self.reasons)


def _has_same_points(manifest, points):
  """Whether the points are those that the shard was made of."""
  identity = points.identity()
  if identity is not None and identity == manifest["points"]["identity"]:
    return True
  return points.digest(
      manifest["points"]["sizes"]) == manifest["points"]["digest"]
