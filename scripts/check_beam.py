"""Evaluates gradients by the runners of Beam that are on this machine.

  python scripts/check_beam.py
  python scripts/check_beam.py kill --kills=10

"runners" evaluates points by the direct runner in memory and in two processes,
by the portable runner with the workers in this process (LOOPBACK), and by a pool
of workers (EXTERNAL): row by row, with 4 bad rows of 600, and in shards. "kill"
kills a worker that evaluates shards at a moment that is drawn, and starts the
same command again. Beam has to be installed.

Every row has to be there once, and be what `gradfeed.stream` gives in one
process; bad rows have to be told by their keys, and finished shards to be left
alone. Workers may print nothing of TensorFlow's sessions. The status is 1 if
not.
"""

import glob
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings

from absl import app
from absl import flags
import numpy as np

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, _ROOT)

# pylint: disable=wrong-import-position
import gradfeed as gf
from gradfeed._tf import tf

_KILLS = flags.DEFINE_integer("kills", 10, "Workers that are killed.")
_SEED = flags.DEFINE_integer("seed", 0, "What the moments are drawn from.")
_SECONDS = flags.DEFINE_integer("seconds", 150, "How long a run may take.")
_ONLY = flags.DEFINE_list(
    "only", None, "The runners, of 'in memory', 'two processes', 'LOOPBACK' and "
    "'EXTERNAL'.")
_FOLDER = flags.DEFINE_string("folder", None, "The folder of a run.")

#: The options of each runner.
RUNNERS = {
    "in memory": ["--runner=DirectRunner", "--direct_running_mode=in_memory"],
    "two processes": ["--runner=DirectRunner", "--direct_num_workers=2",
                      "--direct_running_mode=multi_processing"],
    "LOOPBACK": ["--runner=PortableRunner", "--job_endpoint=embed",
                 "--environment_type=LOOPBACK"],
    "EXTERNAL": ["--runner=PortableRunner", "--job_endpoint=embed",
                 "--environment_type=EXTERNAL", "--environment_config=POOL"],
}
BAD = {3: "is not finite", 77: "has the shape [5]", 300: "has the shape []",
       599: "is not finite"}
_SHARDS, _KILLED_SHARDS, _KILLED_ROWS = 8, 12, 240000
_SECONDS_TO_FAIL = 20


def write_inputs(folder, rows):
  """Writes a model, points and what one stream gives at them."""
  random_state = np.random.RandomState(0)
  with tf.Graph().as_default() as graph:
    x = tf.placeholder(tf.float64, [None, 64], name="x")
    weights = tf.constant(random_state.normal(size=[64, 128]))
    tf.reduce_sum(tf.tanh(tf.matmul(x, weights)) ** 2, 1, name="y")
    tf.train.write_graph(graph, folder, "model.pb", as_text=False)
  points = random_state.normal(size=[rows, 64])
  np.save(os.path.join(folder, "points.npy"), points)
  with gf.load(os.path.join(folder, "model.pb")):
    gf.stream(gf.function("x:0", gf.gradient("y:0", "x:0")), points,
              os.path.join(folder, "wanted.npy"))


def task_of(folder, shards):
  """The task of all shards in the folder."""
  from gradfeed import shards as shards_lib  # pylint: disable=g-import-not-at-top
  return shards_lib.StreamShard(
      os.path.join(folder, "model.pb"), "y:0", "x:0",
      os.path.join(folder, "points.npy"), os.path.join(folder, "shards.npy"),
      shards)


def evaluate_rows(folder, options):
  """Evaluates each row in a pipeline; what a process of its own does."""
  import apache_beam as beam  # pylint: disable=g-import-not-at-top
  from apache_beam.options import pipeline_options
  from gradfeed import beam as gradients_lib
  dumps = json.dumps  # A worker of a pool does not have the globals of this.
  points = np.load(os.path.join(folder, "points.npy"))
  bad = {3: np.full(64, np.nan), 77: np.ones(5), 300: "text",
         599: np.full(64, -np.inf)}
  elements = [(i, bad.get(i, point)) for i, point in enumerate(points)]
  with beam.Pipeline(
      options=pipeline_options.PipelineOptions(options)) as pipeline:
    results = pipeline | beam.Create(elements) | gradients_lib.Gradients(
        os.path.join(folder, "model.pb"), "y:0", "x:0", max_batch_size=64)
    _ = (results.gradients
         | "Text" >> beam.MapTuple(
             lambda key, row: dumps([key, [float(v) for v in row]]))
         | "Write" >> beam.io.WriteToText(os.path.join(folder, "rows")))
    _ = (results.refused
         | "Bad text" >> beam.MapTuple(
             lambda key, why, _: dumps([key, why]))
         | "Write bad" >> beam.io.WriteToText(os.path.join(folder, "bad")))


def evaluate_shards(folder, shards, options):
  """Evaluates all shards by a runner; what a process of its own does."""
  from gradfeed import beam as shards_of_beam  # pylint: disable=g-import-not-at-top
  shards_of_beam.run_shards(
      task_of(folder, shards), options[0].partition("=")[2], options[1:])


def check_rows(folder):
  """What is wrong with the results of `evaluate_rows`; "" if nothing is."""
  wanted = np.load(os.path.join(folder, "wanted.npy"))
  good = _lines(os.path.join(folder, "rows*"))
  bad = dict(_lines(os.path.join(folder, "bad*")))
  keys = sorted(key for key, _ in good)
  if keys != [i for i in range(len(wanted)) if i not in BAD]:
    return "{} rows, {} of them different".format(len(keys), len(set(keys)))
  if sorted(bad) != sorted(BAD) or any(
      not bad[key].startswith(why) for key, why in BAD.items()):
    return "refused are {}".format(bad)
  return max((_difference(np.array(row), wanted[key]) for key, row in good),
             key=len)


def check_shards(folder, shards):
  """What is wrong with the results of `evaluate_shards`."""
  files = [path for i in range(shards)
           for path in task_of(folder, shards).paths(i)]
  if not all(map(os.path.exists, files)):
    return "a shard is missing"
  left = glob.glob(os.path.join(folder, "shards*.partial*"))
  return "left behind: {}".format(left) if left else _difference(
      np.concatenate([np.load(path) for path in files]),
      np.load(os.path.join(folder, "wanted.npy")))


def _difference(found, wanted):
  """"" where arrays are equal to rounding, and no NaN is in them."""
  if found.shape != wanted.shape:
    return "shape {}, not {}".format(found.shape, wanted.shape)
  if not np.isfinite(found).all():
    return "a NaN"
  return "" if np.allclose(found, wanted, 1e-10, 1e-10) else "other numbers"


def _lines(pattern):
  return [json.loads(line) for path in glob.glob(pattern)
          for line in open(path, encoding="utf-8")]


class Run:
  """This script with a job, as a process with a group of its own."""

  def __init__(self, *arguments):
    self._output = tempfile.TemporaryFile("w+")
    self._process = subprocess.Popen(
        [sys.executable, "-W", "ignore"] + list(arguments),
        stdout=self._output, stderr=subprocess.STDOUT, start_new_session=True,
        env=dict(os.environ, PYTHONPATH=_ROOT, TF_CPP_MIN_LOG_LEVEL="3",
                 PATH=os.path.dirname(sys.executable) + os.pathsep +
                 os.environ["PATH"]))
    self.pid = self._process.pid

  def is_running(self):
    return self._process.poll() is None

  def wait(self, seconds):
    """The status at the end; None where it had to be ended."""
    try:
      return self._process.wait(seconds)
    except subprocess.TimeoutExpired:
      self.end()
      return None

  def end(self):
    """Ends it, and all that it has started."""
    try:
      os.killpg(self.pid, signal.SIGKILL)
    except ProcessLookupError:
      pass
    self._process.wait()

  def text(self):
    """What it has printed."""
    self._output.seek(0)
    return self._output.read()


def job(kind, folder, options):
  """Starts a process that evaluates rows or shards."""
  return Run(os.path.abspath(__file__), kind, "--folder=" + folder, "--",
             *options)


def pool():
  """Starts a pool of workers: (`Run`, its address)."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  run = Run("-m", "apache_beam.runners.worker.worker_pool_main",
            "--service_port={}".format(port))
  while run.is_running():
    try:
      socket.create_connection(("localhost", port), 1).close()
      break
    except OSError:
      time.sleep(0.2)
  return run, "localhost:{}".format(port)


def check_runner(name, options):
  """What is wrong with each kind of evaluation by a runner.

  Returns:
    list of str.
  """
  faults = []
  with tempfile.TemporaryDirectory() as folder:
    write_inputs(folder, 600)
    workers = None
    if name == "EXTERNAL":
      workers, address = pool()
      options = [option.replace("POOL", address) for option in options]
    try:
      for kind, check in (("rows", lambda: check_rows(folder)), (
          "shards", lambda: check_shards(folder, _SHARDS))):
        run = job(kind, folder, options)
        status = run.wait(_SECONDS.value)
        fault = check() if status == 0 else "status {}: {}".format(
            status, run.text()[-2000:])
        if "ReleaseCallable" in run.text():
          fault += " a message at the end"
        faults += ["{}: {}".format(kind, fault)] if fault else []
    finally:
      if workers is not None:
        time.sleep(2)
        workers.end()
        if "ReleaseCallable" in workers.text():
          faults.append("a message at the end of a worker")
  return faults


def workers_of(pid):
  """The processes of workers that a runner has started, as list of int."""
  found = []
  for path in glob.glob("/proc/[0-9]*/stat"):
    try:
      with open(path) as stat, open(path[:-4] + "cmdline") as command:
        fields = stat.read().rpartition(")")[2].split()
        if int(fields[2]) == pid and "sdk_worker" in command.read():
          found.append(int(path.split("/")[2]))
    except (OSError, ValueError):
      pass
  children = [number for number in found if not glob.glob(
      "/proc/{0}/task/{0}/children".format(number)) or not open(
          "/proc/{0}/task/{0}/children".format(number)).read().split()]
  return sorted(children)


def check_kill(draw, inputs):
  """Kills a worker in a run, and does the run again.

  Args:
    draw: `random.Random`.
    inputs: str, a folder with what `write_inputs` writes.

  Returns:
    (str, what came of the run; str, what is wrong or "").
  """
  with tempfile.TemporaryDirectory() as folder:
    for name in os.listdir(inputs):
      os.symlink(os.path.join(inputs, name), os.path.join(folder, name))
    pattern, count = os.path.join(folder, "*.manifest"), draw.randrange(
        _KILLED_SHARDS)
    run = job("many_shards", folder, RUNNERS["two processes"])
    while run.is_running() and (
        not glob.glob(os.path.join(folder, "shards-*")) or
        len(glob.glob(pattern)) < count):
      time.sleep(0.01)
    time.sleep(draw.uniform(0.0, 0.3))
    victims = workers_of(run.pid)
    if not victims:
      return "was done", _end(run, folder)
    os.kill(draw.choice(victims), signal.SIGKILL)
    finished = {path: os.stat(path).st_mtime_ns
                for path in glob.glob(pattern)}
    status = run.wait(_SECONDS_TO_FAIL)
    outcome = "killed with {} of {} shards finished, {}".format(
        len(finished), _KILLED_SHARDS, "went on" if status == 0 else
        "failed" if status else "hung and was ended")
    fault = _end(job("many_shards", folder, RUNNERS["two processes"]), folder)
    if any(os.stat(path).st_mtime_ns != when
           for path, when in finished.items()):
      fault += " a finished shard was evaluated again"
    return outcome, fault


def _end(run, folder):
  """Waits for the end of a run of shards; what is wrong with it."""
  status = run.wait(_SECONDS.value)
  return check_shards(folder, _KILLED_SHARDS) if status == 0 else (
      "status {}: {}".format(status, run.text()[-2000:]))


def main(arguments):
  warnings.simplefilter("ignore")
  options = arguments[2:]
  jobs = {
      "rows": lambda: evaluate_rows(_FOLDER.value, options),
      "shards": lambda: evaluate_shards(_FOLDER.value, _SHARDS, options),
      "many_shards": lambda: evaluate_shards(
          _FOLDER.value, _KILLED_SHARDS, options)}
  what = arguments[1] if len(arguments) > 1 else "runners"
  if what in jobs:
    jobs[what]()
    return 0
  faults = 0
  if what == "runners":
    for name in _ONLY.value or RUNNERS:
      runner_options = RUNNERS[name]
      found = check_runner(name, runner_options)
      faults += len(found)
      print("{}: {}".format(name, "; ".join(found) or "right"), flush=True)
  elif what == "kill":
    draw = random.Random(_SEED.value)
    with tempfile.TemporaryDirectory() as folder:
      write_inputs(folder, _KILLED_ROWS)
      for i in range(_KILLS.value):
        outcome, fault = check_kill(draw, folder)
        faults += bool(fault)
        print("kill {}: {}; {}".format(
            i, outcome, fault or "right"), flush=True)
  else:
    raise app.UsageError("{!r} is neither 'runners' nor 'kill'.".format(what))
  return int(bool(faults))


if __name__ == "__main__":
  app.run(main)
