"""A recorded run again, by gradfeed and by TensorFlow, to compare the times."""

import time

import numpy as np

from gradfeed import _tf
from gradfeed.evaluation import session_run
from gradfeed.graph import op_types

#: The calls of each kind, and the seconds that all may take.
_MOST_CALLS = 5
_MOST_SECONDS = 0.1


def replay(run):
  """Times a run of the program by both.

  Only runs that change nothing, draw nothing and feed placeholders alone are
  run again, as no op is added to the graph for them.

  Args:
    run: `records.Run`.

  Returns:
    (seconds by `Session.run`, seconds by `gradfeed.run`) for a call, or None
    where it cannot be run again.
  """
  if run.recorded is None or run.changes or (
      2 * run.seconds / run.count > _MOST_SECONDS):
    return None
  (session, fetches, feed_dict) = (run.recorded[0](),) + run.recorded[1:]
  if session is None or _tf.is_closed(session) or not all(
      session.graph.as_graph_element(key).op.type in op_types.PLACEHOLDERS
      for key in feed_dict or {}):
    return None
  times = []
  try:
    session_run.run(session, fetches, feed_dict)  # The first one compiles.
    begin = time.perf_counter()
    while len(times) < _MOST_CALLS and (
        time.perf_counter() - begin < _MOST_SECONDS / 2):
      times.append((_seconds(_tf.session_run, session, fetches, feed_dict),
                    _seconds(session_run.run, session, fetches, feed_dict)))
  except Exception:  # pylint: disable=broad-except
    return None  # The state of the program is another one by now.
  return tuple(np.min(times, axis=0).tolist())


def _seconds(run, *arguments):
  start = time.perf_counter()
  run(*arguments)
  return time.perf_counter() - start
