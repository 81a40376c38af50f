"""Loads damaged models, and counts how that ends.

  python scripts/fuzz_models.py --models=FOLDER --mutations=2000

A mutation takes one file of a model in the folder, and flips, cuts, inserts,
swaps or zeroes some of its bytes. Each damaged model is loaded in a process of
its own, a fork of this one, so that a crash of TensorFlow is counted and ends
nothing. The same seed gives the same mutations.

Every one should be loaded, or refused with an error of gradfeed. The status is
1 if any raised another error.
"""

import collections
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time

from absl import app
from absl import flags

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_MODELS = flags.DEFINE_string(
    "models", os.path.join(os.path.dirname(_ROOT), "models"),
    "A folder with models, each in a folder of its own.")
_MUTATIONS = flags.DEFINE_integer(
    "mutations", 2000, "How many to load.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "What the mutations are drawn from.")
_LARGEST = flags.DEFINE_integer(
    "largest", 1 << 20, "Leave out models over this many bytes.")
_SECONDS = flags.DEFINE_integer(
    "seconds", 60, "How long a load may take.", lower_bound=1)
_PROCESSES = flags.DEFINE_integer(
    "processes", 2, "How many to load at a time.", lower_bound=1)
_KEEP = flags.DEFINE_string(
    "keep", None, "Keep the models that raised another error, crashed or "
    "took too long in this folder.")

KINDS = ("flip", "cut", "insert", "swap", "zero")

#: How a load can end, by the exit status of its process.
OUTCOMES = ("loaded", "ModelFileError", "other error of gradfeed",
            "another error")


def mutate(content, kind, source):
  """Damages some bytes.

  Args:
    content: bytes.
    kind: str, of `KINDS`.
    source: `random.Random`.

  Returns:
    bytes.
  """
  changed = bytearray(content)
  at = source.randrange(len(changed) + 1) if changed else 0
  size = min(source.choice([1, 1, 2, 4, 16, 64]), len(changed))
  if kind == "flip":
    for _ in range(size):
      changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
  elif kind == "cut":
    del changed[at:(len(changed) if source.random() < 0.3 else at + size)]
  elif kind == "insert":
    changed[at:at] = bytes(source.randrange(256) for _ in range(size or 1))
  elif kind == "swap":
    other = source.randrange(len(changed) + 1) if changed else 0
    first, second = changed[at:at + size], changed[other:other + size]
    if len(first) == len(second):
      changed[at:at + size], changed[other:other + size] = second, first
  else:
    changed[at:at + size] = bytes(len(changed[at:at + size]))
  return bytes(changed)


def models_in(folder, largest):
  """The models in a folder, smallest first.

  Args:
    folder: str.
    largest: int, bytes; larger ones are left out.

  Returns:
    list of (path of the folder to copy, path within it to load).
  """
  found = []
  for root, _, names in sorted(os.walk(folder)):
    size = sum(os.path.getsize(os.path.join(base, name))
               for base, _, files in os.walk(root) for name in files)
    if size > largest:
      continue
    if "saved_model.pb" in names or "checkpoint" in names:
      found.append((size, root, "."))
    found.extend(
        (size, root, name) for name in sorted(names)
        if name.endswith((".pb", ".pbtxt", ".meta", ".h5")) and
        not name.startswith(("saved_model", "fingerprint", "keras_metadata")))
  return [(root, name) for _, root, name in sorted(found)]


def plan(models, mutations, seed):
  """Draws mutations.

  Args:
    models: as `models_in` returns them.
    mutations: int, how many.
    seed: int.

  Returns:
    list of (index of the model, name of the file, kind, seed of its bytes).
  """
  source, drawn = random.Random(seed), []
  for i in range(mutations):
    index = source.randrange(len(models))
    root, name = models[index]
    files = [name] if name != "." else sorted(
        os.path.relpath(os.path.join(base, file), root)
        for base, _, files in os.walk(root) for file in files
        if not file.endswith((".md", ".txt")))
    drawn.append((index, source.choice(files), KINDS[i % len(KINDS)],
                  source.randrange(1 << 30)))
  return drawn


def write(model, mutation, folder):
  """Writes a damaged copy of a model; returns the path to load.

  Args:
    model: (path of its folder, path within it to load).
    mutation: as `plan` returns it.
    folder: str, where the copy goes.
  """
  root, name = model
  _, file, kind, seed = mutation
  copy = os.path.join(folder, "model")
  shutil.copytree(root, copy)
  path = os.path.join(copy, file)
  os.chmod(path, 0o644)
  with open(path, "rb") as source:
    content = source.read()
  os.remove(path)
  with open(path, "wb") as output:
    output.write(mutate(content, kind, random.Random(seed)))
  return os.path.normpath(os.path.join(copy, name))


def outcome_of(path, gradfeed):
  """Loads a model and lets go of it.

  Args:
    path: str.
    gradfeed: the module.

  Returns:
    (index in `OUTCOMES`, the exception or None).
  """
  try:
    gradfeed.load(path).close()
  except gradfeed.ModelFileError as error:
    return 1, error
  except gradfeed.GradfeedError as error:
    return 2, error
  except Exception as error:  # pylint: disable=broad-except
    return 3, error
  return 0, None


def _child(path, log):
  """Loads a model in a fork of this process, and ends it."""
  import gradfeed  # pylint: disable=g-import-not-at-top
  with open(log, "w") as output:
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    status, error = outcome_of(path, gradfeed)
    if status:
      output.write("{}: {}\n".format(type(error).__name__, error))
      output.flush()
  os._exit(status)  # pylint: disable=protected-access


def _reap(running, limit):
  """Waits until one of `running` has ended, and yields (entry, outcome)."""
  while True:
    for entry in list(running):
      pid, started = entry[:2]
      done, status = os.waitpid(pid, os.WNOHANG)
      if done:
        running.remove(entry)
        return entry, (OUTCOMES[os.WEXITSTATUS(status)]
                       if os.WIFEXITED(status) and
                       os.WEXITSTATUS(status) < len(OUTCOMES) else "crash")
      if time.time() - started > limit:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        running.remove(entry)
        return entry, "time-out"
    time.sleep(0.005)


def whole(models):
  """Which models can be loaded as they are; prints the others."""
  loaded = []
  for model in models:
    with tempfile.TemporaryDirectory() as folder:
      log = os.path.join(folder, "log")
      pid = os.fork()
      if not pid:
        _child(os.path.normpath(os.path.join(*model)), log)
      if os.waitpid(pid, 0)[1] == 0:
        loaded.append(model)
      else:
        with open(log, errors="replace") as lines:
          print("left out, cannot be loaded: {}: {}".format(
              model, lines.read()[-300:]), flush=True)
  return loaded


def run(models, mutations):
  """Loads damaged models; returns a Counter of outcomes, and prints the bad.

  Args:
    models: as `models_in` returns them.
    mutations: as `plan` returns them.
  """
  counts, running, folder = collections.Counter(), [], tempfile.mkdtemp()

  def finish():
    (_, _, i, place), outcome = _reap(running, _SECONDS.value)
    counts[outcome] += 1
    if outcome in ("another error", "crash", "time-out"):
      with open(os.path.join(place, "log"), errors="replace") as log:
        lines = log.read().strip().split("\n")
      index, file, kind, seed = mutations[i]
      print("{}: {} {} of {} ({}): {}".format(
          outcome, kind, file, models[index], seed, lines[-1][:300]),
            flush=True)
      if _KEEP.value:
        shutil.copytree(place, os.path.join(_KEEP.value, str(i)))
    shutil.rmtree(place)

  for i, mutation in enumerate(mutations):
    while len(running) >= _PROCESSES.value:
      finish()
    place = os.path.join(folder, str(i))
    os.mkdir(place)
    path = write(models[mutation[0]], mutation, place)
    pid = os.fork()
    if not pid:
      _child(path, os.path.join(place, "log"))
    running.append((pid, time.time(), i, place))
  while running:
    finish()
  shutil.rmtree(folder)
  return counts


def main(argv):
  if len(argv) > 1:
    raise app.UsageError("not a flag: {}".format(" ".join(argv[1:])))
  models = models_in(_MODELS.value, _LARGEST.value)
  if not models:
    raise app.UsageError("there are no models in '{}'; name a folder with "
                         "--models".format(_MODELS.value))
  sys.path.insert(0, _ROOT)
  for name in ("gradfeed", "h5py", "tf_keras"):  # Once, and not in each fork.
    try:
      importlib.import_module(name)
    except ImportError:
      pass
  models = whole(models)
  counts = run(models, plan(models, _MUTATIONS.value, _SEED.value))
  for outcome in OUTCOMES + ("crash", "time-out"):
    print("{:>6} {}".format(counts[outcome], outcome))
  return 1 if counts["another error"] else 0


if __name__ == "__main__":
  app.run(main)
