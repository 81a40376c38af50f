"""The gradients of networks as people have them, by each library.

Run through `python scripts/benchmark.py models`, which starts it once for
each library and network, as it does `benchmarks.workers` for `calls`. The
networks are those of `benchmarks.networks`, or models on disk; the derivative
is that of one output by x, summed over the rows.
"""

import collections
import time

import numpy as np

from benchmarks import functional
from benchmarks import libraries
from benchmarks import networks
from benchmarks import workers

#: Networks that are measured only if they are named: they take minutes.
_ON_REQUEST = ("resnet_50",)

#: Values of x that are fed in turn.
_POINTS = 4

#: A rectifier this near to its kink, as a part of the largest of its layer, may
#: fall on either side of it; rows with one are drawn again, so often at most.
_KINK = 1e-6
_DRAWN_AGAIN = 50

#: Characters of the reason why a library has no number.
_LONGEST_NOTE = 100


class _Tensorflow(workers.Tensorflow):
  """What all ways to ask a graph have in common; each has a `call`."""

  def network(self, name, batch, folder):
    """(session, network) in a graph of their own."""
    tf = self.tf
    with tf.Graph().as_default():
      session = tf.Session()
      if name in networks.NETWORKS:
        network = networks.made(tf, name, batch)
        session.run(tf.global_variables_initializer())
      else:
        network = networks.read(
            tf, session, networks.models(folder, loops=True)[name])
        session.run(tf.constant(0.0))
    return session, network

  def batches(self, name, batches, folder):
    """Those that the network can be given: list of int."""
    _, network = self.network(name, 1, folder)
    shape = network.x.shape
    if shape.ndims and shape.as_list()[0] is None:
      return batches
    return [(network.feed_dict[network.x].shape or (1,))[0]]

  def points(self, name, batch, folder):
    """Values for x, none at the kink of a rectifier: list of arrays.

    There a derivative is one number or another, as rounding has it.
    """
    session, network = self.network(name, batch, folder)
    value = network.feed_dict[network.x]
    shape = (batch,) + value.shape[1:] if value.shape else ()
    with session.graph.as_default():
      nearest = self._nearest(network.x)
    points = []
    for seed in range(_POINTS):
      x_t = networks.image(shape, seed).astype(value.dtype)
      for again in range(1, _DRAWN_AGAIN if nearest else 1):
        near = np.min(session.run(nearest, dict(
            list(network.feed_dict.items()) + [(network.x, x_t)])), 0) < _KINK
        if not near.any():
          break
        other = networks.image(shape, seed + _POINTS * again)
        x_t[near] = other[near]
      points.append(x_t)
    return points

  def _nearest(self, x):
    """How near each row is to the kink of each rectifier: list of tensors."""
    tf = self.tf
    nearest = []
    for op in x.graph.get_operations():
      if op.type not in ("Relu", "Relu6") or not x.shape.ndims:
        continue
      if op._get_control_flow_context() is not None:  # pylint: disable=protected-access
        continue
      h = tf.reshape(op.inputs[0], [tf.shape(x)[0], -1])
      away = tf.abs(h)
      if op.type == "Relu6":
        away = tf.minimum(away, tf.abs(h - 6))
      nearest.append(tf.reduce_min(away, 1) / tf.reduce_max(tf.abs(h), 1))
    return nearest

  def ready(self, name, batch, folder):
    """What makes the call that is timed, with everything before it done."""
    session, network = self.network(name, batch, folder)
    held = dict(network.feed_dict)
    del held[network.x]

    def build():
      with session.graph.as_default():
        return self.call(session, network, held)

    return build

  def gradient(self, network):
    """That of TensorFlow; of gradfeed, where TensorFlow cannot.

    These are loops that were read from a file without what TensorFlow would
    have to know of them.
    """
    try:
      return self.tf.gradients(network.y, network.x)[0]
    except (AttributeError, ValueError):
      return workers.import_gradfeed().gradient(
          network.y, network.x)


class SessionRun(_Tensorflow):
  """Session.run of tf.gradients: the reference of every result."""

  def call(self, session, network, held):
    dx, run, x = self.gradient(network), session.run, network.x
    if not held:
      return lambda x_t: run(dx, {x: x_t})
    held = list(held.items())
    return lambda x_t: run(dx, dict(held + [(x, x_t)]))


class MakeCallable(_Tensorflow):
  """Session.make_callable of tf.gradients."""

  def call(self, session, network, held):
    values = list(held.values())
    call = session.make_callable(
        self.gradient(network), [network.x] + list(held))
    return lambda x_t: call(x_t, *values)


class Gradfeed(_Tensorflow):
  """gradfeed.function of gradfeed.gradient."""

  jit_compile = None
  warm_seconds = 6.0  # After which it is decided how calls are run.

  def __init__(self, mode):
    super().__init__(mode)
    self._gradfeed = workers.import_gradfeed()

  def call(self, session, network, held):
    dx = self._gradfeed.gradient(network.y, network.x)
    return self._gradfeed.function(network.x, dx, session, feed_dict=held,
                                   jit_compile=self.jit_compile)


class GradfeedJit(workers.Compiled, Gradfeed):
  """The same, compiled by XLA."""


class TfFunction(workers.Eager):
  """tf.function of a GradientTape, for the networks that are made here."""

  def ready(self, name, unused_batch, unused_folder):
    tf = self.tf
    if name not in networks.NETWORKS:
      return None
    network, shape = networks.NETWORKS[name]
    weights = networks.Weights(tf.Variable)
    network(tf, tf.zeros((1,) + shape), weights)

    def gradient(x):
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        y = network(tf, x, networks.Weights(made=weights.made))
      return tape.gradient(y, x)

    def build():
      traced = tf.function(gradient, input_signature=[
          tf.TensorSpec((None,) + shape, tf.float32)])
      return lambda x_t: traced(tf.convert_to_tensor(x_t)).numpy()

    return build


class _Functional:
  """What JAX and PyTorch have in common."""

  def ready(self, name, unused_batch, unused_folder):
    network = functional.NETWORKS.get(name)
    if network is None:
      return None
    weights = networks.Weights(self.held)
    x_t = networks.image(
        (1,) + networks.NETWORKS[name][1])
    network(self.ops, self.held(x_t), weights)
    return lambda: self.compiled(network, weights.made)


class Jax(_Functional):
  """jax.jit of jax.grad, weights as arguments, so that they may change."""

  def __init__(self, unused_mode):
    self._jax = workers.imported("jax", "JAX")
    self.ops = functional.Jax(self._jax)
    self.held = self._jax.device_put

  def versions(self):
    return "JAX {}".format(self._jax.__version__)

  def compiled(self, network, made):
    gradient = self._jax.jit(self._jax.grad(lambda x, weights: network(
        self.ops, x, networks.Weights(made=weights)).sum()))
    return lambda x_t: np.asarray(gradient(x_t, made))


class Torch(_Functional):
  """PyTorch's autograd, as it is, without torch.compile."""

  def __init__(self, unused_mode):
    self._torch = workers.imported("torch", "PyTorch")
    self.ops = functional.Torch(self._torch)
    self.held = self._torch.from_numpy

  def versions(self):
    return "PyTorch {}".format(self._torch.__version__)

  def compiled(self, network, made):
    def call(x_t):
      x = self.held(x_t).requires_grad_()
      y = network(self.ops, x, networks.Weights(made=made)).sum()
      return self._torch.autograd.grad(y, x)[0].numpy()

    return call


#: The libraries by name; the first is what the others are held against.
LIBRARIES = collections.OrderedDict([
    ("session_run", SessionRun),
    ("gradfeed", Gradfeed),
    ("gradfeed_jit", GradfeedJit),
    ("make_callable", MakeCallable),
    ("tf_function", TfFunction),
    ("jax", Jax),
    ("torch", Torch),
])


class Worker(workers.Worker):
  """Answers for one network at a time."""

  def batches(self, *network):
    return self._library.batches(*network)

  def points(self, *network):
    return [_sent(x_t) for x_t in self._library.points(*network)]

  def prepare(self, name, batch, folder, points):
    """Makes a network the one to time.

    Args:
      name: str.
      batch: int.
      folder: str or None.
      points: list of the values of x, as `points` gives them.

    Returns:
      None where this library has no such network, or a dict of the seconds
      "first" from the network to the first derivative, the "arrays" at all
      points, and "refused" and "failed": the reason why there are none.
    """
    build = self._library.ready(name, batch, folder)
    if build is None:
      return None
    self._points = [(x_t,) for x_t in libraries.arrays_of(points)]
    answer = {"first": None, "arrays": None, "refused": None, "failed": None}
    start = time.perf_counter()
    try:
      self._call = build()
      self._call(*self._points[0])
      answer["first"] = time.perf_counter() - start
      answer["arrays"] = [
          _sent(array) for point in self._points
          for array in _arrays(self._call(*point))]
    except Exception as error:  # pylint: disable=broad-except
      kind = type(error).__name__
      answer["refused" if kind == "UnsupportedGraphError" else "failed"] = (
          "{}: {}".format(kind, " ".join(
              str(error).partition("Why: ")[0].split())[:_LONGEST_NOTE]))
    return answer


def _arrays(result):
  """A result as a list of arrays; TensorFlow gives scalars as no array."""
  return workers.arrays_of(
      np.asarray(result) if isinstance(result, np.generic) else result)


def _sent(array):
  """An array as every version of NumPy reads it."""
  return array.dtype.str, array.shape, array.tobytes()


def names(folder):
  """The networks that are measured where none is named.

  Args:
    folder: str, of `networks.models`, or None for those made here.
  """
  if folder:
    return list(networks.models(folder, loops=True))
  return [name for name in networks.NETWORKS
          if name not in _ON_REQUEST]


def rows(running, name, batches, folder, rounds, seconds, seed):
  """Compares the libraries on one network, and times them.

  Args:
    running: list of `libraries.Library`; the first is session_run.
    name: str, a network.
    batches: list of int, rows of x; a network may have one of its own.
    folder: str or None, as in `names`.
    rounds: int, visits to each library, in random order.
    seconds: float, for each library, all rounds together.
    seed: int, of the order.

  Yields:
    A dict for each batch and library.
  """
  for batch in running[0].ask("batches", name, batches, folder):
    points = running[0].ask("points", name, batch, folder)
    answers = [library.ask("prepare", name, batch, folder, points)
               for library in running]
    if answers[0]["failed"]:
      raise libraries.BenchmarkError("{} by session_run: {}".format(
          name, answers[0]["failed"]))
    able = [library for library, answer in zip(running, answers)
            if answer and answer["arrays"]]
    times = _timed(able, rounds, seconds, np.random.RandomState(seed))
    expected = libraries.arrays_of(answers[0]["arrays"])
    for library, answer in zip(running, answers):
      if answer:
        yield dict([("network", name), ("batch", batch),
                    ("library", library.name)],
                   **_row(library, answer, times, expected))


def _timed(libraries, rounds, seconds, order):
  """dict from the name of each to an array of its medians, by round."""
  for library in libraries:
    library.ask("warm", seconds)
  times = {library.name: [] for library in libraries}
  for _ in range(rounds):
    for i in order.permutation(len(libraries)):
      times[libraries[i].name].append(
          np.median(libraries[i].ask("measure", seconds / rounds)))
  return {name: np.array(medians) for name, medians in times.items()}


def _row(library, answer, times, expected):
  """What one library showed; the reason, where it could not."""
  own = times.get(library.name)
  row = collections.OrderedDict([
      ("median ms", None), ("x session_run", None), ("x jax", None),
      ("first call s", answer["first"]), ("peak MB", None),
      ("largest difference", None), ("agrees", None),
      ("note", answer["refused"] or answer["failed"])])
  if own is None:
    row["agrees"] = "NO" if answer["failed"] else None
    return row
  for other in ("session_run", "jax"):
    if other in times:
      row["x " + other] = float(np.median(own / times[other]))
  peak = library.ask("memory")[1]
  part = libraries.difference_of(
      libraries.arrays_of(answer["arrays"]), expected)[1]
  row.update({
      "median ms": 1e3 * float(np.median(own)),
      "peak MB": None if peak is None else peak / 2 ** 20,
      "largest difference": float(part),
      "agrees": "yes" if part < libraries.TOLERANCE else "NO"})
  return row


def main():
  workers.serve(LIBRARIES, Worker)
