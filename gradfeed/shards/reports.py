"""What a shard comes back with."""

import collections
import os

_FIELDS = ["index", "path", "files", "start", "rows", "resumed", "reasons",
           "not_finite", "first_not_finite", "was_there", "fingerprint",
           "seconds"]


class ShardReport(collections.namedtuple("ShardReport", _FIELDS)):
  """What `StreamShard` did for one shard; small, and can be pickled.

  Attributes:
    index: int, the number of the shard.
    path: str, the file of results; `files` has all of them, a list.
    start: int, the number of the first row of the shard in all the points; None
      where the files before it do not tell how many rows they have (TFRecord,
      CSV).
    rows: int, how many rows the shard has.
    resumed: int, how many of them an earlier attempt had done.
    reasons: dict from the number of each point in the shard that was skipped to
      what is wrong with it. Its row in the results is NaN.
    not_finite: int, how many rows of the results have a NaN or infinity, with
      those that were skipped.
    first_not_finite: int, the number in the shard of the first of them, or
      None.
    was_there: bool, whether the shard was finished before, so that nothing was
      evaluated.
    fingerprint: str, that of the model.
    seconds: float, how long it took.
  """

  __slots__ = ()

  @property
  def skipped(self):
    """dict from the number of each skipped point to the reason.

    The number is that in all the points where `start` is known, and that in the
    shard where it is not.
    """
    return {(self.start or 0) + i: why
            for i, why in sorted(self.reasons.items())}

  def __reduce__(self):
    return ShardReport, tuple(self)  # PySpark pickles others in its own way.

  def to_dict(self):
    """All of it.

    Returns:
      dict of what JSON can hold.
    """
    return dict(self._asdict())

  def __repr__(self):
    return "<gradfeed.ShardReport {}: {} rows, {} skipped{}>".format(
        self.index, self.rows, len(self.reasons),
        ", was there" if self.was_there else "")


def of_manifest(index, path, manifest, start, was_there, resumed=0):
  """The `ShardReport` of a finished shard.

  Args:
    index: int.
    path: str, the first file of results.
    manifest: dict, as `manifests.read` returns it.
    start, was_there: as in `ShardReport`.
    resumed: int, as in `ShardReport`, where it was not there: then it is all.
  """
  folder = os.path.dirname(path)
  return ShardReport(
      index=index, path=path,
      files=[os.path.join(folder, name) for name, _ in manifest["results"]],
      start=start, rows=manifest["rows"],
      resumed=manifest["rows"] if was_there else resumed,
      reasons={int(i): why for i, why in manifest["reasons"].items()},
      not_finite=manifest["not_finite"],
      first_not_finite=manifest["first_not_finite"],
      was_there=was_there, fingerprint=manifest["model"], seconds=0.0)
