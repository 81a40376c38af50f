"""Models in the processes of workers: loaded once, shared by their threads."""

import atexit
import collections
from collections import abc
import contextlib
import json
import os
import shutil
import tempfile
import threading

import numpy as np

from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation import making
from gradfeed.evaluation import model_digests
from gradfeed.graph import tensors
from gradfeed.models import derivative_choices
from gradfeed.models import loading
from gradfeed.shards import file_systems

#: Hexadecimal digits of a fingerprint.
_DIGITS = 16
#: Models that a process keeps; the one that was used longest ago goes first.
_MOST_MODELS = 4

_lock = threading.Lock()
_entries = collections.OrderedDict()  # From the key of each model to `_Entry`.
_owner = []  # The number of the process that has loaded the first of them.


class ModelDerivative:
  """A derivative of a model on disk, by names: what a worker needs to build it.

  It is small and can be pickled: it has the path of the model and the names of
  tensors, and no weights.

  Attributes:
    path: str, of the model.
    names: dict of what is asked for, that JSON can hold: "y", "x", "rows",
      "of", "class_index", "tags".
    keys: list of str or None, what each input is called in the points.
    inputs: int, how many there are: x, the rows, and the class of each point
      where it has one of its own.
    fingerprint: str, that the model has to have; None as long as it is not
      known.
  """

  def __init__(self, model, y, x, rows=(), keys=None, feed_dict=None,
               of="gradient", class_index=None, tags=None, threads=1,
               fingerprint=None, jit_compile=False):
    """Loads nothing yet.

    Args:
      model: str or os.PathLike, as for `gradfeed.load`; or a path of
        TensorFlow's gfile, such as "gs://bucket/model.pb".
      y, x: str, names of tensors, or "signature/key".
      rows: list of str, names of tensors that have a value at each point too.
      keys: list of str or None, for x and each of `rows`, or dict from their
        names: what they are called in the points.
      feed_dict: dict from names of tensors to what they are at every point.
      of: str, one of "gradient", "value", "value_and_gradient", "jacobian" and
        "hessian".
      class_index: int, the element of the last axis of y; "top" for the
        greatest; another str for the name of the class of each point, in the
        points; or None.
      tags: as for `gradfeed.load`.
      threads: int, how many threads of TensorFlow the session has; None for
        as many as TensorFlow takes.
      fingerprint: str, that the model has to have, or None.
      jit_compile: as for `gradfeed.function`.

    Raises:
      ArgumentError: one of them is of another type.
    """
    self.path = file_systems.absolute(_checked_path(model))
    rows = [rows] if isinstance(rows, str) else list(rows)
    _check_names(y, x, rows, of, class_index)
    class_index = _as_int(class_index)
    self.names = {"y": y, "x": x, "rows": rows, "of": of,
                  "class_index": class_index, "tags": tags}
    self.feed_dict = dict(feed_dict or {})
    self.threads = threads
    self.fingerprint = fingerprint
    self.jit_compile = jit_compile
    has_own_class = isinstance(class_index, str) and class_index != "top"
    self.inputs = 1 + len(rows) + has_own_class
    self.keys = _keys_of(keys, [x] + rows) + [class_index] * has_own_class

  def check(self):
    """Loads the model in this process, and holds workers to it from now on.

    Returns:
      `LoadedDerivative`, in a session with TensorFlow's own threads.

    Raises:
      ModelFileError, TensorNotFoundError, MissingFeedError, ...: what is wrong
        with the model or the names.
    """
    loaded = _acquire(self, None)
    self.fingerprint = loaded.fingerprint
    return loaded

  def acquire(self):
    """The derivative in this process, loaded by the first thread that asks.

    Returns:
      `LoadedDerivative`.

    Raises:
      StreamError: another model is at the path than the one that was checked.
    """
    return _acquire(self, self.threads)

  def key(self):
    """What tells models in a process apart.

    Returns:
      tuple that can be hashed: the path, the sizes and times of the files, what
      is asked for, and the digests of what is fed.
    """
    feeds = [(str(getattr(name, "name", name)), model_digests.sha256(
        [str(np.asarray(value).dtype).encode(),
         repr(np.asarray(value).tolist()).encode()]))
             for name, value in self.feed_dict.items()]
    return (self.path, file_systems.model_identity(self.path),
            json.dumps(self.names, sort_keys=True), tuple(sorted(feeds)),
            self.jit_compile)


class LoadedDerivative:
  """A derivative of a model that is loaded, in a session of its own.

  Attributes:
    f: `Function` of `inputs`, in the order of `ModelDerivative.keys`.
    inputs: list of `tf.Tensor`.
    model: `gradfeed.Model`.
    fingerprint: str, the digest of the model behind y, and of what is fed.
  """

  def __init__(self, derivative, threads):
    """Loads the model, and builds the derivative."""
    names = derivative.names
    with _local_model(derivative.path) as path:
      self.model = loading.load(path, names["tags"], config=_config(threads))
    try:
      graph = self.model.graph
      y, x = self._tensor("y", names["y"]), self._tensor("x", names["x"])
      self.inputs = [x] + [
          self._tensor("rows", name) for name in names["rows"]]
      y, class_of_point = derivative_choices.select_class(
          y, names["class_index"], "class_index")
      if class_of_point is not None:
        self.inputs.append(class_of_point)
      with graph.as_default():
        outputs = derivative_choices.derivative(names["of"], y, x)
      self.f = making.function(self.inputs, outputs, self.model.session,
                               feed_dict=derivative.feed_dict,
                               jit_compile=derivative.jit_compile)
      _require_all_fed(self.f, x)
      self.fingerprint = model_digests.digest_of(
          self.f.outputs, self.f.constants())[:_DIGITS]
    except Exception:
      self.model.close()
      raise

  def _tensor(self, role, name):
    return tensors.resolve(
        self.model.tensor(name), self.model.graph, role).tensor


class _Entry:
  """A place for a model, which one thread loads."""

  def __init__(self):
    self.lock = threading.Lock()
    self.loaded = None


def _acquire(derivative, threads):
  """The `LoadedDerivative` of this process."""
  _check_process()
  key = (derivative.key(), threads)
  with _lock:
    entry = _entries.pop(key, None) or _Entry()
    _entries[key] = entry
    while len(_entries) > _MOST_MODELS:
      _entries.popitem(last=False)
  with entry.lock:
    if entry.loaded is None:
      _owner[:] = [os.getpid()]
      entry.loaded = LoadedDerivative(derivative, threads)
    loaded = entry.loaded
  if derivative.fingerprint not in (None, loaded.fingerprint):
    raise errors.StreamError(
        "'{}' is another model here than the one that was checked.".format(
            derivative.path),
        "It has the fingerprint {}, and {} is expected.".format(
            loaded.fingerprint, derivative.fingerprint),
        "Give all workers the same file; or make the task anew, and call "
        "check(), if the model is meant to be this one.")
  return loaded


def _check_process():
  """Refuses a process that was forked from one that has run TensorFlow.

  Raises:
    SessionError: it would wait for ever for threads that it does not have.
  """
  if _owner and _owner[0] != os.getpid():
    raise errors.SessionError(
        "No model can run in this process.",
        "It was forked from process {}, which has run one: the threads of "
        "TensorFlow are not there in a fork.".format(_owner[0]),
        "Start workers with multiprocessing.get_context('spawn'); or call "
        "check() in a process of its own.")


@atexit.register
def _close_all():
  """Closes sessions while TensorFlow is there: it prints errors later."""
  if _owner and _owner[0] == os.getpid():
    for entry in list(_entries.values()):
      if entry.loaded is not None:
        entry.loaded.model.close()
    _entries.clear()


def _config(threads):
  """The `tf.ConfigProto` of a session with so many threads; or None."""
  return threads and tf.ConfigProto(
      intra_op_parallelism_threads=threads,
      inter_op_parallelism_threads=threads, use_per_session_threads=True)


@contextlib.contextmanager
def _local_model(path):
  """A path of this machine with the model, copied if it is elsewhere."""
  if not file_systems.is_remote(path):
    yield path
    return
  found = file_systems.model_files(path)
  if not found:
    raise errors.ModelFileError(
        "There is no model '{}'.".format(path),
        "No file has that name, nor begins with it.", "Look at the path.")
  base = path.rstrip("/")
  folder = tempfile.mkdtemp(prefix="gradfeed-model-")
  try:
    for name in found:
      local = os.path.join(folder, os.path.basename(base) + name[len(base):])
      if not name.startswith(base):  # Of a checkpoint named by its ".meta".
        local = os.path.join(folder, os.path.basename(name))
      os.makedirs(os.path.dirname(local), exist_ok=True)
      file_systems.copy(name, local)
    yield os.path.join(folder, os.path.basename(base))
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def _checked_path(model):
  """The path of a model, as it was given."""
  if not isinstance(model, (str, os.PathLike)) or not os.fspath(model):
    raise errors.ArgumentError(
        "model={!r} is no path of a model.".format(model),
        "A worker loads the model itself: it is sent a path, and no weights.",
        "Pass the path, as in model='model.pb'.")
  return model


def _check_names(y, x, rows, of, class_index):
  """Refuses what is no name of a tensor, or of a derivative.

  Raises:
    ArgumentError: with the name of the argument.
  """
  for role, name in [("y", y), ("x", x)] + [("rows", row) for row in rows]:
    if not isinstance(name, str) or not name:
      raise errors.ArgumentError(
          "{}={!r} is no name of a tensor.".format(role, name),
          "A worker finds it in the model that it loads.",
          "Pass a str, as in {}='{}:0'.".format(role, role[0]))
  if of not in derivative_choices.DERIVATIVES:
    raise errors.ArgumentError(
        "of={!r} is not known.".format(of), "It says what is evaluated.",
        "Use one of {}.".format(", ".join(derivative_choices.DERIVATIVES)))
  if class_index is not None and (isinstance(class_index, bool) or not (
      isinstance(class_index, (int, np.integer, str)))):
    raise errors.ArgumentError(
        "class_index={!r} is no class.".format(class_index),
        "It is an element of the last axis of y.",
        "Pass an int, 'top', or the name of the classes in the points.")


def _as_int(class_index):
  """The class as int where it is a number, and as it is where it is not."""
  try:
    return None if class_index is None else int(class_index)
  except ValueError:
    return class_index


def _keys_of(keys, names):
  """The key of each input, or None.

  Args:
    keys: as in `ModelDerivative`.
    names: list of str, those of the inputs.

  Returns:
    list of str or None.

  Raises:
    ArgumentError: there are not as many keys as inputs, or keys of others.
  """
  if keys is None:
    return [None] * len(names)
  if isinstance(keys, abc.Mapping):
    left = dict(keys)
    found = [left.pop(name, None) for name in names]
  else:
    found = [keys] if isinstance(keys, str) else list(keys)
    left = {}
  if left or len(found) != len(names) or not all(
      key is None or isinstance(key, str) for key in found):
    raise errors.ArgumentError(
        "keys={!r} do not fit the inputs {}.".format(
            keys, ", ".join(map(repr, names))),
        "They say what x and each of rows is called in the points.",
        "Pass a str or None for each, in this order, or a dict from their "
        "names.")
  return found


def _require_all_fed(f, x):
  """Refuses a derivative with placeholders that have no value.

  Raises:
    MissingFeedError: there are some.
  """
  if f.needs:
    raise errors.MissingFeedError(
        "No value for {}.".format(tensors.describe_all(f.needs)),
        "The derivative by {} depends on it.".format(tensors.describe(x)),
        "Add feed_dict={{'{}': VALUE}}, or rows=['{}'] if each point has its "
        "own.".format(f.needs[0].name, f.needs[0].name))
