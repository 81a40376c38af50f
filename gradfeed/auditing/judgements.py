"""Findings, from what was recorded of a program."""

import collections

from gradfeed import findings
from gradfeed.auditing import gone_names
from gradfeed.auditing import records

#: From how many calls on a habit is one.
_MANY_BUILDS = 3
_MANY_RUNS = 8
_MANY_CLASSES = 3
_MANY_STEPS = 3


def judge(recorder, replays, more_paths=()):
  """All findings about what was recorded.

  Args:
    recorder: `records.Recorder`.
    replays: list of (`records.Run`, seconds, seconds by gradfeed).
    more_paths: paths of files to read besides those that were seen.

  Returns:
    list of `findings.Finding`.
  """
  found = []
  for record in recorder.graphs:
    for build in record.builds.values():
      found += _of_build(build, recorder.fetched_none)
    for growth in record.growths.values():
      found += _of_growth(growth)
    for run in record.runs.values():
      found += _of_run(run)
  found += [_of_replay(*one) for one in replays]
  return found + list(_of_files(recorder, more_paths))


def _finding(kind, severity, site, what, why="", fix="", **details):
  where = records.label(site)
  return findings.Finding(
      kind, severity, "{}: {}".format(where, what), why, fix, [where],
      file=site.path, line=site.line, **details)


def _of_build(build, fetched_none):
  """Findings about the calls of `tf.gradients` of one line."""
  slices = [(whole, count) for (whole, _), count in build.slices.items()
            if count >= _MANY_CLASSES]
  for whole, count in slices:
    yield _finding(
        "one_op_per_class", findings.WARNING, build.site,
        "tf.gradients is called for {} elements of '{}', one at a time.".format(
            count, whole),
        "Each call added {} ops on average.".format(build.ops // build.count),
        "gf.jacobian or gf.batch_jacobian build all of them at once; "
        "gf.class_gradient takes the class as a value.",
        count=count, ops=build.ops)
  if build.rebuilds + 1 >= _MANY_BUILDS:
    yield _finding(
        "built_in_loop", findings.WARNING, build.site,
        "tf.gradients built {} times, between the runs of its graph.".format(
            build.count),
        "The calls added {} ops, {} each; the session prepares its graph "
        "again after each.".format(build.ops, build.ops // build.count),
        "Call it once before the loop; gf.gradient returns the same tensor at "
        "each call.", count=build.count, ops=build.ops)
  if build.none_xs:
    names = list(dict.fromkeys(build.none_xs))
    yield _finding(
        "none", findings.BAD if fetched_none else findings.NOTE, build.site,
        "tf.gradients returned None for {}{}.".format(
            ", ".join(map(repr, names[:3])),
            ", ..." if len(names) > 3 else ""),
        "A None was fetched at {}.".format(
            ", ".join(sorted(map(records.label, fetched_none))))
        if fetched_none else "It was not fetched.",
        "gf.gradient says why there is no gradient; gf.explain shows where "
        "the way ends.", xs=names, fetched=bool(fetched_none))


def _of_growth(growth):
  """A finding about a graph that grows between the runs of one line."""
  if growth.steps >= _MANY_STEPS:
    yield _finding(
        "graph_grows", findings.WARNING, growth.site,
        "Session.run finds a larger graph, {} times: {} ops more each "
        "time.".format(growth.steps, growth.ops // growth.steps),
        "{}The session prepares its graph again for each such "
        "run.".format("Ops are added at {}. ".format(growth.made_at)
                      if growth.made_at else ""),
        "Build all ops before the loop; tf.Graph.finalize() finds the others.",
        steps=growth.steps, ops=growth.ops, made_at=growth.made_at)


def _of_run(run):
  """Findings about the runs of one line with the same fetches and feeds."""
  fetched = ", ".join(map(repr, run.fetches[:2])) + (
      ", ..." if len(run.fetches) > 2 else "")
  if run.singles >= _MANY_RUNS and not run.changes:
    yield _finding(
        "one_run_per_example", findings.WARNING, run.site,
        "Session.run of {} is called {} times with one row.".format(
            fetched, run.singles),
        "The placeholder takes any number of rows, and the calls took "
        "{:.2g} s.".format(run.seconds),
        "Where a call does not need the result of the one before, feed all "
        "rows at once; gf.batch_jacobian and gf.per_example_gradient keep "
        "them apart.", count=run.singles, seconds=run.seconds)
  for name, why in run.problems:
    yield _finding(
        "ignored_feed", findings.BAD, run.site,
        "The value fed to '{}' is ignored for {}.".format(name, fetched),
        "It is no placeholder, and {}.".format(why),
        "gf.function and gf.run have it take effect, or refuse it.",
        tensor=name, count=run.count)


def _of_replay(run, seconds, by_gradfeed):
  """A finding about what gradfeed would save."""
  saved = max(0.0, (seconds - by_gradfeed) * run.count)
  return _finding(
      "saving", findings.NOTE, run.site,
      "This gradient takes {:.3g} ms in Session.run and {:.3g} ms in "
      "gf.run.".format(1e3 * seconds, 1e3 * by_gradfeed),
      "Measured by running the last call again. It was called {} time{}: gf.run "
      "would save {:.2g} s of {:.2g} s.".format(
          run.count, "" if run.count == 1 else "s", saved, run.seconds),
      seconds=seconds, gradfeed_seconds=by_gradfeed, saved=saved)


def _of_files(recorder, more_paths):
  """Findings about names that are gone in TF 2, one for each file."""
  paths = list(more_paths)
  for record in recorder.graphs:
    for kind in (record.builds.values(), record.runs.values()):
      paths += [one.site.path for one in kind]
  for path in dict.fromkeys(paths):
    lines = collections.OrderedDict()
    for line, name in gone_names.gone_names(path):
      lines.setdefault(name, []).append(line)
    if lines:
      first = min(min(numbers) for numbers in lines.values())
      yield _finding(
          "gone_names", findings.NOTE, records.Site(path, first),
          "{} names that are gone in TF 2: {}{}.".format(
              len(lines), ", ".join(
                  "{} (line {})".format(name, numbers[0])
                  for name, numbers in list(lines.items())[:5]),
              ", ..." if len(lines) > 5 else ""),
          "Most are in tf.compat.v1; tf.contrib is not.",
          names_by_line={name: numbers for name, numbers in lines.items()})
