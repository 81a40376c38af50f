"""Watches a program as it is, and reports what to mend: `audit`."""

import contextlib
import functools
import time

from gradfeed import _tf
from gradfeed import errors
from gradfeed import findings
from gradfeed.auditing import hooks
from gradfeed.auditing import judgements
from gradfeed.auditing import records
from gradfeed.auditing import replays
from gradfeed.explaining import pages
from gradfeed.patching import entry_points
from gradfeed.patching import installation

#: How many recorded runs are run again.
_MOST_REPLAYS = 3


class Audit(findings.FindingsReport):
  """What `audit` found; complete once its block has ended.

  The kinds of findings: "built_in_loop", "graph_grows", "one_op_per_class",
  "one_run_per_example", "ignored_feed", "none", "gone_names", "saving". Their
  `details` have the file, the line and the counts.

  Attributes:
    verdict: str, "watching" until the block ends; then "nothing to mend" or
      "to mend".
    summary: str, the times, in a sentence.
    findings: list of `Finding`, the worst first.
    seconds: float, from the beginning of the block to its end.
    run_seconds: float, of that in `Session.run`.
    gradient_seconds: float, of that in runs that compute a gradient of
      `tf.gradients`.
  """

  def __init__(self):
    super().__init__("watching", "the block of gf.audit() has not ended.", [])
    self.seconds = self.run_seconds = self.gradient_seconds = 0.0

  def to_dict(self):
    """The report as data, for programs.

    Returns:
      dict of what JSON can hold: verdict, summary, findings and seconds.
    """
    return dict(
        super().to_dict(), seconds=self.seconds, run_seconds=self.run_seconds,
        gradient_seconds=self.gradient_seconds)

  def to_html(self):
    """The report as a page of HTML that needs no other file.

    Returns:
      str.
    """
    return pages.html(self)

  def _complete(self, found, seconds, recorder):
    """Takes what was found and measured."""
    self.seconds, self.run_seconds = seconds, recorder.run_seconds
    self.gradient_seconds = sum(
        run.seconds for record in recorder.graphs
        for run in record.runs.values() if run.has_gradient)
    places = sum(f.severity != findings.NOTE for f in found)
    super().__init__(
        "to mend" if places else "nothing to mend",
        "{}{:.3g} s, {:.3g} s of it in Session.run, {:.3g} s ({:.0%}) in runs "
        "that compute gradients.".format(
            "" if not places else "{} place{} in ".format(
                places, "" if places == 1 else "s"),
            seconds, self.run_seconds, self.gradient_seconds,
            self.gradient_seconds / max(seconds, 1e-9)), found)


@contextlib.contextmanager
def audit(files=()):
  """Watches what a legacy program does with gradients, and says what to mend.

  The program runs as it is, on TensorFlow's own functions, and its numbers do
  not change. The report names the line of the program where gradients are built
  in a loop or one for each class, where the graph grows, where there is one
  `Session.run` for each example, where a feed is ignored or a gradient is None,
  and the names that are gone in TF 2. It says what share of the time gradients
  take. When a session is closed, and at the end, the gradient that took the
  longest is run a few times more by TensorFlow and by gradfeed, to say what
  `gf.run` would save; only where a run changes and draws nothing.

  Calls of `tf.gradients`, `tf.hessians` and `Session.run` are watched in the
  whole process, save those of TensorFlow's own code. What was imported by
  name before (`from tensorflow import gradients`), `make_callable` and
  `K.function` are not seen.

  Args:
    files: paths of Python files that are read for names that are gone in TF 2,
      besides those that were seen.

  Yields:
    `Audit`, complete once the block has ended, also after an exception.

  Raises:
    ArgumentError: inside of `install`, `patched` or another audit; or `files`
      is a str.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with gf.audit() as report:
    ...   with tf.Graph().as_default(), tf.Session() as session:
    ...     x = tf.placeholder(tf.float32, [])
    ...     y = x * x
    ...     for step in range(4):
    ...       dx, = tf.gradients(y, x)
    ...       dx_t = session.run(dx, {x: 3.0})
    >>> print(dx_t, report.verdict, report.findings[0].kind)
    6.0 to mend built_in_loop
  """
  if isinstance(files, (str, bytes)):
    raise errors.ArgumentError(
        "files is a {}.".format(type(files).__name__),
        "It is a list of paths.", "Pass [{!r}].".format(files))
  report, recorder, replayed = Audit(), records.Recorder(), []
  with installation.unreplaced():
    watched = entry_points.EntryPoints(hooks.Hooks(recorder))
    close = _tf.BaseSession.close
    start = time.perf_counter()
    try:
      _tf.BaseSession.close = watching = _watched_close(
          close, recorder, replayed)
      watched.replace()
      yield report
    finally:
      seconds = time.perf_counter() - start
      watched.restore()
      if _tf.BaseSession.close is watching:
        _tf.BaseSession.close = close
      _replay(recorder, replayed)
      recorder.forget()
      # pylint: disable=protected-access
      report._complete(
          judgements.judge(recorder, replayed, files), seconds, recorder)


def _watched_close(original, recorder, replayed):
  """A `close` of sessions, before which a run is measured."""

  @functools.wraps(original)
  def close(self):
    _replay(recorder, replayed, self)
    return original(self)

  return close


def _replay(recorder, replayed, session=None):
  """Measures the run that took the longest, of one session or of all.

  Args:
    recorder: `records.Recorder`.
    replayed: list of what was measured, which is added to.
    session: session or None.
  """
  done = {one[0].site for one in replayed}
  runs = [run for record in recorder.graphs
          for run in list(record.runs.values())
          if run.recorded is not None and run.site not in done and
          (session is None or run.recorded[0]() is session)]
  if runs and len(replayed) < _MOST_REPLAYS:
    run = max(runs, key=lambda run: run.seconds)
    times = replays.replay(run)
    if times is not None:
      replayed.append((run,) + times)
