"""Kills workers that evaluate shards, at random moments, and counts the rest.

  python scripts/kill_workers.py --engine=processes --moments=10
  python scripts/kill_workers.py --engine=dask --moments=10
  python scripts/kill_workers.py --engine=spark --moments=10

A job evaluates the shards of a data set with two workers. At moments that are
drawn, one of the processes that write a shard at that moment is killed (kill
-9), and the engine does what it does then. A job that fails is started again,
by the same command. Jobs follow each other until all moments have been.

Each job should end with the rows that one process computes, each once and at
its place, none of them NaN, and nothing beside them; a shard that was finished
before a worker was killed should stay as it was. The status is 1 if not.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from absl import app
from absl import flags
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# pylint: disable=wrong-import-position
import gradfeed as gf
from gradfeed._tf import tf

_ENGINE = flags.DEFINE_enum(
    "engine", "processes", ["processes", "dask", "spark"], "Who starts workers.")
_MOMENTS = flags.DEFINE_integer("moments", 10, "How many kills.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "What moments are drawn from.")
_SHARDS = flags.DEFINE_integer("shards", 8, "How many shards.", lower_bound=1)
_ROWS = flags.DEFINE_integer("rows", 800, "Rows of a shard.", lower_bound=10)
_SECONDS = flags.DEFINE_integer(
    "seconds", 400, "How long a job may take.", lower_bound=1)
_LONGEST = flags.DEFINE_float(
    "longest", 3.0, "The longest pause before a kill, in seconds after a shard "
    "is being written.", lower_bound=0.0)
_JOB = flags.DEFINE_string(
    "job", None, "The folder of a job to do, in a process of its own.")

_WIDTH = 64
#: How often a job is started that fails.
_ATTEMPTS = 20


def write_inputs(folder):
  """Writes a model and points; returns the gradients, computed by `stream`."""
  random_state = np.random.RandomState(0)
  with tf.Graph().as_default() as graph:
    x = tf.placeholder(tf.float64, [None, _WIDTH], name="x")
    y = x
    for _ in range(12):
      y = tf.tanh(tf.matmul(y, tf.constant(
          random_state.normal(size=[_WIDTH, _WIDTH]) / _WIDTH ** 0.5)))
    tf.reduce_sum(y, axis=1, name="y")
    tf.train.write_graph(graph, folder, "model.pb", as_text=False)
  points = os.path.join(folder, "points.npy")
  np.save(points, random_state.normal(
      size=[_SHARDS.value * _ROWS.value, _WIDTH]))
  with gf.load(os.path.join(folder, "model.pb")):
    f = gf.function("x:0", gf.gradient("y:0", "x:0"))
    gf.stream(f, points, os.path.join(folder, "expected.npy"))
  return np.load(os.path.join(folder, "expected.npy"))


def make_task(folder):
  """The task of all jobs: small chunks, so that a shard takes a while."""
  return gf.shards.StreamShard(
      os.path.join(folder, "model.pb"), "y:0", "x:0",
      os.path.join(folder, "points.npy"), os.path.join(folder, "out", "g.npy"),
      shards=_SHARDS.value, chunk=4)


def _by_processes(task):
  return gf.shards.evaluate(task, workers=2)


def _by_dask(task):
  import dask  # pylint: disable=g-import-not-at-top
  from dask import distributed  # pylint: disable=g-import-not-at-top
  dask.config.set({"distributed.deploy.lost-worker-timeout": "10 minutes"})
  with distributed.Client(n_workers=2, threads_per_worker=1,
                          dashboard_address=None) as client:
    futures = client.map(task, range(len(task)), pure=False, retries=3)
    return client.gather(futures)


def _by_spark(task):
  from pyspark import sql  # pylint: disable=g-import-not-at-top
  spark = sql.SparkSession.builder.master("local[2,4]").config(
      "spark.ui.enabled", "false").getOrCreate()
  try:
    return spark.sparkContext.parallelize(
        range(len(task)), len(task)).map(task).collect()
  finally:
    spark.stop()


_ENGINES = {"processes": _by_processes, "dask": _by_dask, "spark": _by_spark}


def do_job(folder):
  """Evaluates all shards by an engine, and writes what it reports."""
  reports = _ENGINES[_ENGINE.value](make_task(folder).check())
  with open(os.path.join(folder, "reports.json"), "w") as output:
    json.dump([report.to_dict() for report in reports], output)


def _descendants(pid):
  """The numbers of the processes that a process has started, at any depth."""
  parents = {}
  for name in os.listdir("/proc"):
    if name.isdigit():
      try:
        with open("/proc/{}/stat".format(name)) as stat:
          parents[int(name)] = int(stat.read().rpartition(")")[2].split()[1])
      except (OSError, ValueError, IndexError):
        continue  # It is gone.
  found, queue = [], [pid]
  while queue:
    parent = queue.pop()
    children = [child for child, of in parents.items() if of == parent]
    found.extend(children)
    queue.extend(children)
  return found


def writing(pid, folder):
  """Those of the processes that `pid` has started which write in a folder."""
  found = []
  for process in _descendants(pid):
    directory = "/proc/{}/fd".format(process)
    try:
      names = [os.readlink(os.path.join(directory, name))
               for name in os.listdir(directory)]
    except OSError:
      continue  # It is gone.
    if any(name.startswith(folder + os.sep) and ".partial" in name
           for name in names):
      found.append(process)
  return found


def _finished(folder):
  """dict from each finished shard to the time of its last change, and bytes."""
  found = {}
  for name in sorted(os.listdir(folder)):
    if name.endswith(".manifest"):
      path = os.path.join(folder, name[:-len(".manifest")])
      if os.path.exists(path):
        status = os.stat(path)
        found[path] = status.st_mtime_ns, status.st_ino, status.st_size
  return found


def _end_of(log):
  """The last lines that a job has printed."""
  with open(log, errors="replace") as source:
    return "".join(source.readlines()[-40:])


def run_job(folder, moments, draw):
  """Runs one job, and kills workers of it.

  Args:
    folder: str, which has the inputs.
    moments: int, how many workers are killed at most.
    draw: `random.Random`.

  Returns:
    dict of counts: "kills", "restarts" and "faults", a list of str.
  """
  output = os.path.join(folder, "out")
  shutil.rmtree(output, ignore_errors=True)
  os.mkdir(output)
  kills, restarts, faults, kept = 0, 0, [], {}
  for attempt in range(_ATTEMPTS):
    log = os.path.join(folder, "log-{}.txt".format(attempt))
    with open(log, "w") as screen:
      job = subprocess.Popen(
          [sys.executable, os.path.abspath(__file__), "--job=" + folder] + [
              "--{}={}".format(name, flags.FLAGS[name].value)
              for name in ("engine", "shards", "rows")],
          stdout=screen, stderr=screen, env=dict(
              os.environ, PYSPARK_PYTHON=sys.executable,
              SPARK_LOCAL_IP="127.0.0.1", PYTHONPATH=os.path.dirname(
                  os.path.dirname(os.path.abspath(__file__)))))
    try:
      begin, next_kill = time.time(), None
      while job.poll() is None:
        if time.time() - begin > _SECONDS.value:
          faults.append("a job takes more than {} s:\n{}".format(
              _SECONDS.value, _end_of(log)))
          return {"kills": kills, "restarts": restarts, "faults": faults}
        workers = writing(job.pid, output) if kills < moments else []
        if workers and next_kill is None:
          next_kill = time.time() + draw.uniform(0.0, _LONGEST.value)
        elif workers and time.time() > next_kill:
          kept = _finished(output)
          os.kill(draw.choice(workers), signal.SIGKILL)
          kills, next_kill = kills + 1, None
          print("killed {}, {} of {} shards finished".format(
              kills, len(kept), _SHARDS.value), flush=True)
        time.sleep(0.01)
    finally:
      if job.poll() is None:
        job.terminate()
        job.wait()
    now = _finished(output)
    faults.extend("{} was finished, and was written again".format(path)
                  for path in kept if now.get(path) != kept[path])
    if job.returncode == 0:
      return {"kills": kills, "restarts": restarts, "faults": faults}
    restarts += 1
  faults.append("the job failed {} times:\n{}".format(_ATTEMPTS, _end_of(log)))
  return {"kills": kills, "restarts": restarts, "faults": faults}


def faults_of(folder, expected):
  """What is wrong with the results of a job, as list of str."""
  task, faults = make_task(folder), []
  names = {os.path.basename(path) for i in range(len(task))
           for path in task.paths(i)}
  others = set(os.listdir(os.path.join(folder, "out"))) - names - {
      name + ".manifest" for name in names}
  if others:
    faults.append("there is also {}".format(sorted(others)))
  with open(os.path.join(folder, "reports.json")) as source:
    reports = json.load(source)
  if sorted(report["index"] for report in reports) != list(range(len(task))):
    faults.append("shards are missing, or told twice")
  try:
    found = np.concatenate([np.load(task.paths(i)[0])
                            for i in range(len(task))])
  except OSError as error:
    return faults + ["results are missing: {}".format(error)]
  if np.isnan(found).any():
    faults.append("{} rows are NaN".format(int(np.isnan(found).any(1).sum())))
  if found.shape != expected.shape or not np.allclose(
      found, expected, rtol=1e-9, atol=1e-12):
    faults.append("rows are wrong, or not at their place")
  return faults


def main(unused_argv):
  tf.logging.set_verbosity(tf.logging.ERROR)
  if _JOB.value:
    do_job(_JOB.value)
    return 0
  draw, kills, restarts, jobs, faults = random.Random(_SEED.value), 0, 0, 0, []
  with tempfile.TemporaryDirectory() as folder:
    folder = os.path.realpath(folder)
    expected = write_inputs(folder)
    while kills < _MOMENTS.value and jobs < 2 * _MOMENTS.value:
      done = run_job(folder, _MOMENTS.value - kills, draw)
      jobs += 1
      kills, restarts = kills + done["kills"], restarts + done["restarts"]
      faults.extend(done["faults"] or faults_of(folder, expected))
      if done["faults"]:
        break
  print("{}: {} workers killed in {} job{}, {} started again; {}".format(
      _ENGINE.value, kills, jobs, "" if jobs == 1 else "s", restarts,
      "; ".join(faults) or "nothing lost, nothing twice, no row is NaN"))
  return 1 if faults or kills < _MOMENTS.value else 0


if __name__ == "__main__":
  app.run(main)
