"""Evaluates a task of shards for a command, and tells what came of it."""

import importlib
import logging
import sys

from gradfeed import errors
from gradfeed import progress_lines
from gradfeed.shards import estimates
from gradfeed.shards import local_pools
from gradfeed.streaming import streams

#: An option of Beam: its workers print every step of theirs otherwise.
_QUIET = "--default_sdk_harness_log_level=WARNING"


def evaluate(task, settings):
  """Evaluates all shards, in processes here or by a runner of Beam.

  Args:
    task: `StreamShard`, which was checked.
    settings: `shard_flags.ShardFlags`.

  Returns:
    list of `ShardReport`, one for each shard.

  Raises:
    GradfeedError: what a worker raised.
  """
  if settings.runner is not None:
    logging.disable(logging.WARNING)  # Beam tells what it does without.
    beam = importlib.import_module("gradfeed.beam")
    logging.disable(logging.NOTSET)
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    return beam.run_shards(task, settings.runner, [_QUIET] + settings.options)
  show = progress_lines.reporter(
      None if sys.stderr.isatty() else True, lambda reports: (
          "{} of {} shards, {} points".format(
              len(reports), len(task), sum(each.rows for each in reports))))
  try:
    if settings.workers > 1:
      return local_pools.evaluate(task, settings.workers, show)
    reports = []
    for i in range(len(task)):
      reports.append(task(i))
      show(reports)
    return reports
  finally:
    show.close()


def merged(reports):
  """One report of all shards, with the numbers of points in all of them.

  Args:
    reports: list of `ShardReport`, one for each shard in their order.

  Returns:
    `gradfeed.Report`.
  """
  whole, start = streams.Report(), 0
  for report in reports:
    whole.reasons.update(
        (start + i, why) for i, why in sorted(report.reasons.items()))
    if whole.first_not_finite is None and report.not_finite:
      whole.first_not_finite = start + report.first_not_finite
    whole.not_finite += report.not_finite
    whole.resumed += report.resumed
    whole.files.extend(report.files)
    start += report.rows
  whole.rows = start
  return whole


def describe_files(task, reports):
  """What was written, for the line at the end: the pattern of the files."""
  there = sum(report.was_there for report in reports)
  last = task.paths(0)
  return "{} ({} shard{}{})".format(
      ", ".join(path.replace("-00000-of-", "-*-of-", 1) for path in last),
      len(task), "" if len(task) == 1 else "s",
      "" if not there else ", {} of them from before".format(there))


def estimate(task, workers):
  """Measures one chunk, and tells what so many workers would take.

  Args:
    task: `StreamShard`.
    workers: int.

  Returns:
    list of str, the lines to print.
  """
  found = estimates.estimate(task, workers)
  lines = [
      "one chunk of {} points, with {} here: {} in TensorFlow, {} to read, {} "
      "to write; {} before the first.".format(
          found.chunk, _threads(task.derivative.threads), *map(_time, (
              found.compute_seconds * found.chunk,
              found.read_seconds * found.chunk,
              found.write_seconds * found.chunk, found.load_seconds)))]
  if found.rows is None:
    return lines + [
        "how many points there are is not known: a point is {} in and {} "
        "out.".format(_bytes(found.bytes_in), _bytes(found.bytes_out))]
  return lines + [
      "{}{:,} points: {} in, {} out.".format(
          "" if found.is_exact else "about ", found.rows,
          _bytes(found.rows * found.bytes_in),
          _bytes(found.rows * found.bytes_out)),
      "{} worker{}: {} of computing; {} of storage, if all share one that is as "
      "fast as here.".format(
          workers, "" if workers == 1 else "s", _time(found.computing),
          _time(found.storage)),
      "{} holds it: {}.".format(found.holds, (
          "more workers are faster, up to about {:,}".format(
              found.workers_for_storage) if found.holds == "computing" else
          "more workers are not faster, unless storage is (each worker needs {} "
          "a second)".format(_bytes(found.bytes_per_second))))]


def _threads(count):
  return "TensorFlow's threads" if count is None else "{} thread{}".format(
      count, "" if count == 1 else "s")


def _time(seconds):
  """A time as text: "3.1 ms", "12.0 s", "5 min", "3.2 h"."""
  for limit, factor, text in ((1e-3, 1e6, "{:.0f} us"), (1.0, 1e3, "{:.1f} ms"),
                              (120.0, 1.0, "{:.1f} s"),
                              (7200.0, 1 / 60.0, "{:.0f} min"),
                              (1e6, 1 / 3600.0, "{:.1f} h")):
    if seconds < limit:
      return text.format(seconds * factor)
  return "{:.0f} days".format(seconds / 86400.0)


def _bytes(count):
  """A number of bytes as text: "6,272 bytes", "627 GB"."""
  for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
    if count >= size:
      return "{:.3g} {}".format(count / size, unit) if (
          count < 1000 * size) else "{:,.0f} {}".format(count / size, unit)
  return "{:,.0f} bytes".format(count)


def refuse(coupled):
  """Refuses what shards cannot do.

  Args:
    coupled: bool, the flag.

  Raises:
    ArgumentError: with the flag.
  """
  if coupled:
    raise errors.ArgumentError(
        "--coupled does not go with shards.",
        "A chunk is the batch that is meant, and shards would be other "
        "batches.",
        "Leave out --shards, --workers and --runner: one process has the "
        "chunks that are meant.")
