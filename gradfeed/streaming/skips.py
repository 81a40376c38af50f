"""How many points of a stream may be skipped."""

from gradfeed import errors

_MOST_NAMED = 3


def check(report, count, max_skipped):
  """Stops a stream as soon as too many of its points were skipped.

  Args:
    report: `streams.Report`, of what is done.
    count: int, the number of all points; None where it is not known yet.
    max_skipped: as in `streams.stream`.

  Raises:
    StreamError: they are too many.
  """
  skipped = len(report.reasons)
  if max_skipped is None or not count or skipped <= max_skipped * count:
    return
  raise errors.StreamError(
      "{} of {} points were skipped, more than max_skipped={:g}.".format(
          skipped, count, max_skipped), _reasons(report),
      "Mend the points; or pass a larger max_skipped to go on, as what is done "
      "is kept.")


def check_end(report, sink, max_skipped):
  """Refuses the results of a stream of which too many points were skipped.

  Args:
    report: `streams.Report`, of the whole stream.
    sink: `sinks.Sink`, whose files are deleted where no point was evaluated.
    max_skipped: as in `streams.stream`.

  Raises:
    StreamError: they are too many.
  """
  if report.rows and len(report.reasons) == report.rows:
    sink.discard()
    raise errors.StreamError(
        "None of the {} points could be evaluated.".format(report.rows),
        _reasons(report), "Look at the points, and at the inputs that they are "
        "for; nothing was written.")
  check(report, report.rows, max_skipped)


def _reasons(report):
  """What is wrong with the first of the points that were skipped."""
  skipped = report.skipped
  return "; ".join("point {} {}".format(
      i, " ".join(report.reasons[i].split()).rstrip("."))
                   for i in skipped[:_MOST_NAMED]) + (
                       "." if len(skipped) <= _MOST_NAMED else
                       "; and {} more.".format(len(skipped) - _MOST_NAMED))
