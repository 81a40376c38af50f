"""One library of the benchmark, in a process of its own.

`benchmark.py` starts it once for each library and asks it, through a pipe, to
build, to check and to time:

  python scripts/benchmarks benchmarks.workers session_run --mode=v1

It needs NumPy and the library alone (JAX may live in another Python), and
changes no setting of the library: threads and kernels are as it finds them.
"""

import argparse
import importlib
import itertools
import os
import pickle
import sys
import time

import numpy as np

#: Sizes of the layers: no layer means that x are the logits themselves.
NETWORKS = {
    "tiny": (3,),
    "softmax": (784, 10),
    "dense": (784, 512, 512, 10),
}
_POINTS = 4
_CHUNK_SECONDS = 2e-3
_WARM_SECONDS = 0.3
_WARM_CALLS = 16

#: Results are compared at as many points as come to this, and at one at least.
_BYTES_COMPARED = 64 << 20

#: A rectifier this near to its kink may fall on either side of it.
_KINK = 1e-5


#: How TensorFlow 2 runs graphs: as TensorFlow 1, as itself without eager
#: execution, or in graphs of their own while that is on.
MODES = ("v1", "v2", "eager")


class Unavailable(Exception):
  """This library cannot run here; `str` of it is the reason."""


def imported(module, library):
  """The module; raises Unavailable where this Python has no such library."""
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise Unavailable("{} cannot be imported ({})".format(library, error))


def set_mode(tf, mode):
  """Puts this process into a mode, before it builds anything.

  Args:
    tf: the module tensorflow.compat.v1.
    mode: str, of `MODES`.
  """
  if mode == "v1":
    tf.disable_v2_behavior()
  elif mode == "v2":
    tf.disable_eager_execution()


def weights_of(sizes, seed):
  """[(matrix, bias)] of float32, the same in every process."""
  random = np.random.RandomState(seed)
  return [(random.normal(0.0, (2.0 / rows) ** 0.5, (rows, columns)).astype("f"),
           random.normal(0.0, 0.1, columns).astype("f"))
          for rows, columns in zip(sizes, sizes[1:])]


def points_of(sizes, batch, seed):
  """[(x, labels)] of float32, none of them at the kink of a rectifier."""
  random = np.random.RandomState(seed + batch)
  weights = weights_of(sizes, seed)
  points = []
  for _ in range(_POINTS):
    x = random.normal(size=(batch, sizes[0])).astype("f")
    near = _near_kink(x, weights)
    while near.any():
      x[near] = random.normal(size=(near.sum(), sizes[0]))
      near = _near_kink(x, weights)
    labels = np.eye(sizes[-1], dtype="f")[random.randint(sizes[-1], size=batch)]
    points.append((x, labels))
  return points


def _near_kink(x, weights):
  near, hidden = np.zeros(len(x), bool), x.astype(np.float64)
  for matrix, bias in weights[:-1]:
    hidden = hidden.dot(matrix) + bias
    near |= (np.abs(hidden) < _KINK).any(axis=1)
    hidden = np.maximum(hidden, 0.0)
  return near


def import_gradfeed():
  """The package of this checkout, where it is asked for."""
  return importlib.import_module("gradfeed")


def _cross_entropy(tf, x, labels, weights):
  """The cross entropy, summed over the batch, in TensorFlow's words."""
  hidden = x
  for i, (matrix, bias) in enumerate(weights):
    hidden = tf.matmul(tf.nn.relu(hidden) if i else hidden, matrix) + bias
  return tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits_v2(
      labels=labels, logits=hidden))


class Tensorflow:
  """What all ways to ask TensorFlow have in common."""

  def __init__(self, mode):
    import tensorflow.compat.v1 as tf  # pylint: disable=g-import-not-at-top
    self.tf = tf
    set_mode(tf, mode)

  def versions(self):
    return "TensorFlow {}".format(self.tf.__version__)

  def variables(self, weights):
    return [(self.tf.Variable(matrix), self.tf.Variable(bias))
            for matrix, bias in weights]

  def _graph(self, weights, columns):
    """(session, x, labels, cross entropy) in a graph of their own."""
    tf = self.tf
    graph = tf.Graph()
    with graph.as_default():
      x = tf.placeholder(tf.float32, [None, columns[0]], name="x")
      labels = tf.placeholder(tf.float32, [None, columns[-1]], name="labels")
      loss = _cross_entropy(tf, x, labels, self.variables(weights))
      session = tf.Session()
      session.run(tf.global_variables_initializer())
    return session, x, labels, loss


class Gradfeed(Tensorflow):
  """gradfeed.function of gradfeed.gradient."""

  jit_compile = None
  warm_seconds = 4.0  # After which it is decided how calls are run.

  def build(self, weights, columns):
    gf = import_gradfeed()
    session, x, labels, loss = self._graph(weights, columns)
    return gf.function([x, labels], gf.gradient(loss, x), session=session,
                       jit_compile=self.jit_compile)


class Compiled:
  """What goes for functions of gradfeed that XLA compiles."""

  jit_compile = True
  warm_seconds = 0.3

  def __init__(self, mode):
    super().__init__(mode)
    if self.tf.__version__.startswith("1."):
      raise Unavailable("jit_compile needs TensorFlow 2; this is {}".format(
          self.tf.__version__))


class GradfeedJit(Compiled, Gradfeed):
  """The same, compiled by XLA."""


class SessionRun(Tensorflow):
  """Session.run of tf.gradients: the reference of every result."""

  def build(self, weights, columns):
    session, x, labels, loss = self._graph(weights, columns)
    with session.graph.as_default():
      gradient, = self.tf.gradients(loss, x)
    run = session.run
    return lambda x_t, y_t: run(gradient, {x: x_t, labels: y_t})


class MakeCallable(Tensorflow):
  """Session.make_callable of tf.gradients."""

  def build(self, weights, columns):
    session, x, labels, loss = self._graph(weights, columns)
    with session.graph.as_default():
      gradient, = self.tf.gradients(loss, x)
    return session.make_callable(gradient, [x, labels])


class Eager(Tensorflow):
  """An eager GradientTape."""

  def __init__(self, unused_mode):
    super().__init__("eager")
    if self.tf.__version__.startswith("1."):
      raise Unavailable("TensorFlow {} runs graphs here".format(
          self.tf.__version__))

  def build(self, weights, columns):
    gradient = self._taped(self.variables(weights))
    convert = self.tf.convert_to_tensor
    return lambda x_t, y_t: gradient(convert(x_t), convert(y_t)).numpy()

  def _taped(self, variables):
    tf = self.tf

    def gradient(x, labels):
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        loss = _cross_entropy(tf, x, labels, variables)
      return tape.gradient(loss, x)

    return gradient


class TfFunction(Eager):
  """tf.function of a GradientTape."""

  def build(self, weights, columns):
    convert = self.tf.convert_to_tensor
    spec = [self.tf.TensorSpec([None, n], self.tf.float32)
            for n in (columns[0], columns[-1])]
    gradient = self.tf.function(
        self._taped(self.variables(weights)), input_signature=spec)
    return lambda x_t, y_t: gradient(convert(x_t), convert(y_t)).numpy()


class Jax:
  """jax.jit of jax.grad, weights as arguments, so that they may change."""

  def __init__(self, unused_mode):
    self._jax = imported("jax", "JAX")

  def versions(self):
    return "JAX {}".format(self._jax.__version__)

  def build(self, weights, unused_columns):
    jax, numpy = self._jax, self._jax.numpy

    def loss(x, labels, layers):
      hidden = x
      for i, (matrix, bias) in enumerate(layers):
        hidden = (numpy.maximum(hidden, 0) if i else hidden) @ matrix + bias
      return -numpy.sum(labels * jax.nn.log_softmax(hidden))

    gradient = jax.jit(jax.grad(loss))
    weights = jax.device_put(weights)
    return lambda x_t, y_t: np.asarray(gradient(x_t, y_t, weights))


#: The libraries by name; the first is what the others are held against.
LIBRARIES = {
    "gradfeed": Gradfeed,
    "session_run": SessionRun,
    "gradfeed_jit": GradfeedJit,
    "make_callable": MakeCallable,
    "tf_function": TfFunction,
    "eager": Eager,
    "jax": Jax,
}


def memory():
  """(bytes now, most bytes, threads) of this process; Nones but on Linux."""
  fields = {}
  try:
    with open("/proc/self/status") as status:
      for line in status:
        key, _, value = line.partition(":")
        fields[key] = value.split()
    return (int(fields["VmRSS"][0]) << 10, int(fields["VmHWM"][0]) << 10,
            int(fields["Threads"][0]))
  except (OSError, KeyError):
    return None, None, None


class Worker:
  """Answers what the parent asks; each method is one question."""

  def __init__(self, library):
    self._library = library
    self._built = {}  # {what names it: (call, points)}
    self._points = None
    self._call = None

  def hello(self):
    return "{}, NumPy {}, Python {}".format(
        self._library.versions(), np.__version__, sys.version.split()[0])

  def build(self, network, batch, seed):
    """Builds one cell; one shape each, as most programs have."""
    sizes = NETWORKS[network]
    self._built[network, batch, seed] = (
        self._library.build(weights_of(sizes, seed), sizes),
        points_of(sizes, batch, seed))

  def prepare(self, *cell):
    """Makes a cell the one to time, built once; [(dtype, shape, bytes)]."""
    if cell not in self._built:
      self.build(*cell)
    self._call, self._points = self._built[cell]
    results, size = [], 0
    for point in self._points:
      if size > _BYTES_COMPARED:
        break
      for array in arrays_of(self._call(*point)):
        results.append((array.dtype.str, array.shape, array.tobytes()))
        size += array.nbytes
    return results

  def warm(self, seconds):
    """Runs until everything is compiled and chosen; returns the memory."""
    end, calls = time.perf_counter() + getattr(
        self._library, "warm_seconds", min(seconds, _WARM_SECONDS)), 0
    while calls < _WARM_CALLS or time.perf_counter() < end:
      self._call(*self._points[calls % _POINTS])
      calls += 1
    return memory()

  def measure(self, seconds):
    """Seconds per call, of chunks of calls, in about `seconds`."""
    call, points = self._call, itertools.cycle(self._points)
    clock = time.perf_counter
    per_call = self._chunk(call, points, clock, 1)  # Others ran since.
    if per_call < _CHUNK_SECONDS:
      per_call = self._chunk(call, points, clock, 4)
    length = max(1, min(int(_CHUNK_SECONDS / per_call),
                        int(seconds / per_call)))
    chunks, end = [], clock() + seconds
    while not chunks or clock() < end:
      chunks.append(self._chunk(call, points, clock, length))
    return chunks

  def _chunk(self, call, points, clock, length):
    chunk = list(itertools.islice(points, length))
    start = clock()
    for point in chunk:
      call(*point)
    return (clock() - start) / length

  def memory(self):
    return memory()


def arrays_of(result):
  """A result as a list; raises TypeError for what is not of NumPy."""
  arrays = result if isinstance(result, list) else [result]
  for array in arrays:
    if type(array) is not np.ndarray:
      raise TypeError("{} is not an array".format(type(array)))
  return arrays


def serve(libraries, worker):
  """Answers the questions that come through the pipe until it is closed.

  Args:
    libraries: dict from str to what makes a library of a mode.
    worker: what makes, of a library, the object with the answers.
  """
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("library", choices=sorted(libraries))
  parser.add_argument("--mode", choices=MODES, default="v1")
  arguments = parser.parse_args()
  # Whatever libraries print goes to standard error; the pipe is for answers.
  pipe = os.fdopen(os.dup(1), "wb")
  os.dup2(2, 1)
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

  def answer(kind, value):
    pickle.dump((kind, value), pipe, protocol=2)
    pipe.flush()

  try:
    answers = worker(libraries[arguments.library](arguments.mode))
    answer("ok", answers.hello())
    while True:
      question, values = pickle.load(sys.stdin.buffer)
      try:
        answer("ok", getattr(answers, question)(*values))
      except Unavailable as error:
        answer("unavailable", str(error))
  except EOFError:
    return
  except Unavailable as error:
    answer("unavailable", str(error))
  except Exception as error:  # pylint: disable=broad-except
    answer("error", "{}: {}".format(type(error).__name__, error))


def main():
  serve(LIBRARIES, Worker)
