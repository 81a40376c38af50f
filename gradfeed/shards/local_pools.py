"""Shards in several processes of this machine."""

import multiprocessing
from multiprocessing import connection as connections
import signal

from gradfeed._tf import tf
from gradfeed import errors

#: Attempts at a shard whose worker was killed each time.
_MOST_ATTEMPTS = 3
_SECONDS_TO_END = 10.0


def evaluate(task, workers, done=None):
  """Evaluates all shards of a task in processes of this machine.

  Each process is a new one (spawn), and loads the model once. A worker that is
  killed is replaced, and its shard goes on where it was. At the first error no
  other shard is begun; what is finished, and the beginnings of what is not, are
  kept for the next call.

  In a program it is called under `if __name__ == "__main__":`, as new processes
  import the program.

  Args:
    task: `StreamShard`.
    workers: int, how many processes.
    done: function of the list of the `ShardReport` there are so far, called
      after each shard; or None.

  Returns:
    list of `ShardReport`, one for each shard.

  Raises:
    ArgumentError: `workers` is no number of processes.
    StreamError: a worker was killed at the same shard again and again.
    GradfeedError: what a worker raised first, with the number of the shard.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> import numpy as np
    >>> with tf.Graph().as_default() as graph:
    ...   x = tf.placeholder(tf.float64, [None, 2], name="x")
    ...   y = tf.reduce_sum(x ** 3, axis=1, name="y")
    >>> path = tf.train.write_graph(graph, ".", "cube.pb", as_text=False)
    >>> np.save("points.npy", np.ones([100, 2]))
    >>> task = gf.shards.StreamShard(
    ...     "cube.pb", "y:0", "x:0", "points.npy", "cubes.npy").check()
    >>> reports = [task(0)]  # Elsewhere: gf.shards.evaluate(task, workers=2)
    >>> print(gf.shards.evaluate(task, workers=2)[0].was_there)
    True
  """
  if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
    raise errors.ArgumentError(
        "workers={!r} is no number of processes.".format(workers),
        "It is 1 at least.", "Pass a positive int.")
  found = [task.finished(i) for i in range(len(task))]
  reports = {report.index: report for report in found if report is not None}
  waiting = [i for i in range(len(task)) if i not in reports]
  attempts = dict.fromkeys(waiting, 0)
  pool = [_Worker(task) for _ in range(min(workers, len(waiting)))]
  try:
    for worker in pool:
      worker.begin(waiting.pop(0))
    while any(worker.index is not None for worker in pool):
      ready = connections.wait(
          [worker.connection for worker in pool if worker.index is not None])
      for place, worker in enumerate(pool):
        if worker.connection not in ready:
          continue
        index = worker.index
        report = worker.finish()
        if report is None:
          attempts[index] += 1
          _check_attempts(task, index, attempts[index], worker)
          waiting.insert(0, index)
          worker = pool[place] = _Worker(task)
        else:
          reports[index] = report
          if done is not None:
            done([reports[i] for i in sorted(reports)])
        if waiting:
          worker.begin(waiting.pop(0))
    return [reports[i] for i in sorted(reports)]
  finally:
    for worker in pool:
      worker.close()


class _Worker:
  """A process that evaluates one shard after the other.

  Attributes:
    connection: of which there is something to read when a shard is finished, or
      the process is gone.
    index: int, the shard that it evaluates; None where it waits.
  """

  def __init__(self, task):
    context = multiprocessing.get_context("spawn")
    self.connection, other = context.Pipe()
    self.index = None
    self.process = context.Process(
        target=_work, args=(task, other), daemon=True)
    self.process.start()
    other.close()

  def begin(self, index):
    """Has the process evaluate a shard."""
    self.index = index
    try:
      self.connection.send(index)
    except OSError:
      pass  # It is gone, which `finish` tells.

  def finish(self):
    """Takes what the process has to say of its shard.

    Returns:
      `ShardReport`; None where the process was killed.

    Raises:
      GradfeedError: what it raised.
    """
    self.index = None
    try:
      report, error = self.connection.recv()
    except (EOFError, OSError):
      self.process.join()
      self.connection.close()
      return None
    if error is not None:
      raise error
    return report

  def close(self):
    """Ends the process, at once where it evaluates."""
    if self.index is None and not self.connection.closed:
      try:
        self.connection.send(None)
      except OSError:
        pass  # It is gone.
      self.process.join(_SECONDS_TO_END)
    if self.process.is_alive():
      self.process.terminate()
      self.process.join()
    self.connection.close()


def _work(task, connection):
  """What runs in the process of a worker."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # It is ended by the other.
  tf.logging.set_verbosity(tf.logging.ERROR)
  while True:
    try:
      index = connection.recv()
    except EOFError:
      return  # The process that has started this one is gone.
    if index is None:
      return
    try:
      connection.send((task(index), None))
    except errors.GradfeedError as error:
      connection.send((None, error))
    except Exception as error:  # pylint: disable=broad-except
      connection.send((None, errors.StreamError(
          "Shard {} of {} cannot be evaluated.".format(index, len(task)),
          "{}: {}.".format(type(error).__name__, errors.first_line(error)),
          "What is finished is kept: mend this, and call it again.")))


def _check_attempts(task, index, attempts, worker):
  """Gives up a shard whose workers were killed again and again.

  Raises:
    StreamError: they were killed too often.
  """
  if attempts >= _MOST_ATTEMPTS:
    raise errors.StreamError(
        "Shard {} of {}: its worker was ended {} times.".format(
            index, len(task), attempts),
        "The exit status is {}, which the system gives where memory is not "
        "enough, or somebody has killed it.".format(worker.process.exitcode)
        if worker.process.exitcode == -signal.SIGKILL else
        "The exit status is {}.".format(worker.process.exitcode),
        "Take fewer workers or a smaller chunk. What is finished is kept, and "
        "the same call goes on.")
