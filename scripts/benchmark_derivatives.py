"""The ways to Jacobians, Hessians and per-example gradients, to be timed.

Run through `python scripts/benchmark.py derivatives`, which starts this file
once for each library, as it does `benchmark_workers.py` for `calls`.
"""

import collections
import importlib
import time

import numpy as np

import benchmark_tasks
import benchmark_workers

#: A network in a graph of its own; `inputs` are what the verb is a function of.
_Graph = collections.namedtuple("_Graph", [
    "task", "session", "layers", "inputs", "x", "v", "logits", "losses"])


class _Tensorflow(benchmark_workers.Tensorflow):
  """What all ways to ask TensorFlow for a derivative have in common."""

  def model(self, task, seed):
    tf = self.tf
    graph = tf.Graph()
    with graph.as_default():
      layers = self.variables(benchmark_workers.weights_of(task.sizes, seed))
      width = {"x": task.sizes[0], "labels": task.sizes[-1],
               "v": task.sizes[0]}
      fed = {name: tf.placeholder(tf.float32, [None, width[name]], name=name)
             for name in task.inputs()}
      logits = self.logits(task, fed["x"], layers) if layers else None
      losses = (self.losses(logits, fed["labels"]) if "labels" in fed
                else None)
      session = tf.Session()
      session.run(tf.global_variables_initializer())
    return _Graph(task, session, layers,
                  [fed[name] for name in task.inputs()],
                  fed["x"], fed.get("v"), logits, losses)

  def logits(self, task, x, layers):
    activate = {"relu": self.tf.nn.relu, "tanh": self.tf.tanh}[task.activation]
    hidden = x
    for i, (matrix, bias) in enumerate(layers):
      hidden = self.tf.matmul(activate(hidden) if i else hidden, matrix) + bias
    return hidden

  def losses(self, logits, labels):
    return self.tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=labels, logits=logits)

  def residual(self, model):
    return benchmark_tasks.residual(self.tf.pad(model.x[0], [[1, 1]]))

  def on_diagonals(self, dense):
    return self.tf.gather_nd(dense, np.stack(benchmark_tasks.diagonals(
        int(dense.shape[0])), -1))

  def ops(self, model):
    return len(model.session.graph.get_operations())

  def run(self, model, fetch):
    """Session.run of `fetch` as a function of the inputs."""
    run, inputs = model.session.run, model.inputs
    return lambda *values: run(fetch, dict(zip(inputs, values)))


def _flat(layers):
  return [value for layer in layers for value in layer]


class Gradfeed(_Tensorflow):
  """gradfeed.function of gradfeed's verbs."""

  def __init__(self, mode):
    super().__init__(mode)
    self._gf = benchmark_workers.import_gradfeed()

  def _function(self, model, outputs):
    return self._gf.function(model.inputs, outputs, session=model.session)

  def jacobian(self, model):
    return self._function(model, self._gf.jacobian(model.logits, model.x))

  wide_jacobian = jacobian

  def sparse_jacobian(self, model):
    return self._function(model, self._gf.jacobian(
        self.residual(model), model.x, sparse=True,
        sparsity=benchmark_tasks.diagonals(model.task.sizes[0])).values)

  def dense_jacobian(self, model):
    return self._function(model, self.on_diagonals(
        self._gf.jacobian(self.residual(model), model.x)[:, 0]))

  def batch_jacobian(self, model):
    return self._function(
        model, self._gf.batch_jacobian(model.logits, model.x))

  def jvp(self, model):
    return self._function(
        model, self._gf.jvp(model.logits, model.x, model.v))

  def hessian(self, model):
    return self._function(model, self._gf.hessian(model.losses, model.x))

  def hvp(self, model):
    return self._function(
        model, self._gf.hvp(model.losses, model.x, model.v))

  def per_example_gradient(self, model):
    return self._function(model, self._gf.per_example_gradient(
        model.losses, _flat(model.layers)))


class SessionRun(_Tensorflow):
  """By hand, with tf.gradients and Session.run: the reference of all results.

  Of many classes it takes a part, `Task.step`.
  """

  def jacobian(self, model):
    tf, task = self.tf, model.task
    rows = [tf.gradients(model.logits[0, i], model.x)[0]
            for i in range(0, task.sizes[-1], task.step)]
    run = self.run(model, tf.stack(rows))
    return lambda x: run(x)[np.newaxis]

  def wide_jacobian(self, model):
    """As many products with a direction as x has elements, in one run."""
    tf = self.tf
    columns = [self._product(model, row[tf.newaxis])
               for row in tf.unstack(tf.eye(model.task.sizes[0]))]
    return self.run(model, tf.stack(columns, -1)[:, :, tf.newaxis])

  def sparse_jacobian(self, model):
    """Three rows of zeros and ones: in none of them do two rows of it meet."""
    rows, columns = benchmark_tasks.diagonals(model.task.sizes[0])
    weights = np.eye(3, dtype="f")[:, np.arange(model.task.sizes[0]) % 3]
    y = self.residual(model)
    products = [self.tf.gradients(y, model.x, weight)[0][0]
                for weight in weights]
    return self.run(model, self.tf.gather_nd(
        self.tf.stack(products), np.stack([rows % 3, columns], -1)))

  dense_jacobian = sparse_jacobian

  def batch_jacobian(self, model):
    tf = self.tf
    return self.run(model, tf.stack(
        [tf.gradients(model.logits[:, i], model.x)[0]
         for i in range(model.task.sizes[-1])], axis=1))

  def jvp(self, model):
    return self.run(model, self._product(model, model.v))

  def _product(self, model, v):
    """The gradient is linear in its cotangent: it is differentiated by that."""
    cotangent = self.tf.zeros_like(model.logits)
    gradient = self.tf.gradients(model.logits, model.x, cotangent)
    return self.tf.gradients(gradient, cotangent, [v])[0]

  def hessian(self, model):
    return self.run(model, self.tf.hessians(
        self.tf.reduce_sum(model.losses), model.x)[0])

  def hvp(self, model):
    gradient = self.tf.gradients(model.losses, model.x)
    return self.run(model, self.tf.gradients(
        gradient, model.x, [model.v])[0])

  def per_example_gradient(self, model):
    run = self.run(model, self.tf.gradients(
        model.losses, _flat(model.layers)))

    def call(x, labels):
      examples = [run(x[i:i + 1], labels[i:i + 1]) for i in range(len(x))]
      return [np.stack(gradients) for gradients in zip(*examples)]

    return call


class ParallelFor(_Tensorflow):
  """Session.run of TensorFlow's own vectorised loop."""

  def __init__(self, mode):
    super().__init__(mode)
    package = "tensorflow.python.ops.parallel_for."
    self._gradients = importlib.import_module(package + "gradients")
    self._pfor = importlib.import_module(package + "control_flow_ops").pfor

  def _run(self, model, build):
    try:
      return self.run(model, build())
    except (AttributeError, ValueError) as error:
      raise benchmark_workers.Unavailable("TensorFlow {} says {}".format(
          self.tf.__version__, str(error).split("\n")[0]))

  def jacobian(self, model):
    return self._run(
        model, lambda: self._gradients.jacobian(model.logits, model.x))

  wide_jacobian = jacobian

  def dense_jacobian(self, model):
    return self._run(model, lambda: self.on_diagonals(
        self._gradients.jacobian(self.residual(model), model.x)[:, 0]))

  def batch_jacobian(self, model):
    return self._run(
        model, lambda: self._gradients.batch_jacobian(model.logits, model.x))

  def hessian(self, model):
    return self._run(model, lambda: self._gradients.jacobian(
        self.tf.gradients(model.losses, model.x)[0], model.x))

  def per_example_gradient(self, model):
    tf = self.tf
    x, labels = model.inputs

    def gradients(i):
      logits = self.logits(model.task, tf.gather(x, [i]), model.layers)
      return tf.gradients(
          self.losses(logits, tf.gather(labels, [i])), _flat(model.layers))

    return self._run(model, lambda: self._pfor(gradients, tf.shape(x)[0]))


_Functions = collections.namedtuple("_Functions", ["layers", "logits", "loss"])


class _Functional:
  """What JAX and PyTorch have in common: transformations of functions.

  Attributes:
    transforms: module with jacrev, jacfwd, jvp, hessian, grad and vmap.
    activations: dict with the functions "relu" and "tanh".
    log_softmax: function of logits and axis.
  """

  transforms = None
  activations = {}
  log_softmax = None

  def model(self, task, seed):
    activate = self.activations.get(task.activation)

    def logits(layers, x):
      hidden = x
      for i, (matrix, bias) in enumerate(layers):
        hidden = (activate(hidden) if i else hidden) @ matrix + bias
      return hidden

    def loss(layers, x, labels):
      return -(labels * self.log_softmax(logits(layers, x), -1)).sum()

    weights = benchmark_workers.weights_of(task.sizes, seed)
    return _Functions(
        [tuple(map(self.held, layer)) for layer in weights], logits, loss)

  def ops(self, unused_model):
    return None

  def held(self, array):
    raise NotImplementedError

  def padded(self, x):
    """A vector with a zero before it and one after it."""
    raise NotImplementedError

  def compiled(self, function):
    """`function` of the layers and of arrays, as it is called many times."""
    raise NotImplementedError

  def _call(self, model, function):
    compiled, layers = self.compiled(function), model.layers
    return lambda *values: np.asarray(compiled(layers, *values))

  def jacobian(self, model):
    return self._call(model, self.transforms.jacrev(model.logits, 1))

  def wide_jacobian(self, model):
    return self._call(model, self.transforms.jacfwd(model.logits, 1))

  def dense_jacobian(self, model):
    dense = self.transforms.jacrev(
        lambda layers, x: benchmark_tasks.residual(self.padded(x)), 1)
    return self._call(model, lambda layers, x: dense(layers, x[0])[
        benchmark_tasks.diagonals(x.shape[1])])

  def batch_jacobian(self, model):
    return self._call(model, self.transforms.vmap(
        self.transforms.jacrev(model.logits, 1), (None, 0)))

  def jvp(self, model):
    return self._call(model, lambda layers, x, v: self.transforms.jvp(
        lambda x_t: model.logits(layers, x_t), (x,), (v,))[1])

  def hessian(self, model):
    return self._call(model, self.transforms.hessian(model.loss, 1))

  def hvp(self, model):
    gradient = self.transforms.grad(model.loss, 1)
    return self._call(model, lambda layers, x, labels, v: self.transforms.jvp(
        lambda x_t: gradient(layers, x_t, labels), (x,), (v,))[1])

  def per_example_gradient(self, model):
    compiled, layers = self.compiled(self.transforms.vmap(
        self.transforms.grad(model.loss), (None, 0, 0))), model.layers
    return lambda x, labels: list(map(
        np.asarray, _flat(compiled(layers, x, labels))))


class Jax(_Functional):
  """jax.jit of JAX's transformations, weights as arguments."""

  def __init__(self, unused_mode):
    self.transforms = benchmark_workers.imported("jax", "JAX")
    self.activations = {"relu": self.transforms.nn.relu,
                        "tanh": self.transforms.numpy.tanh}
    self.log_softmax = self.transforms.nn.log_softmax

  def versions(self):
    return "JAX {}".format(self.transforms.__version__)

  def held(self, array):
    return self.transforms.device_put(array)

  def padded(self, x):
    return self.transforms.numpy.pad(x, 1)

  def compiled(self, function):
    return self.transforms.jit(function)


class Torch(_Functional):
  """PyTorch's transformations, as they are, without torch.compile."""

  def __init__(self, unused_mode):
    self._torch = benchmark_workers.imported("torch", "PyTorch")
    self.transforms = benchmark_workers.imported("torch.func", "torch.func")
    self.activations = {"relu": self._torch.relu, "tanh": self._torch.tanh}
    self.log_softmax = self._torch.log_softmax

  def versions(self):
    return "PyTorch {}".format(self._torch.__version__)

  def held(self, array):
    return self._torch.from_numpy(array)

  def padded(self, x):
    return self._torch.nn.functional.pad(x, (1, 1))

  def compiled(self, function):
    held = self.held
    return lambda layers, *values: function(layers, *map(held, values))


#: The libraries by name; the first is what the others are held against.
LIBRARIES = collections.OrderedDict([
    ("gradfeed", Gradfeed),
    ("session_run", SessionRun),
    ("parallel_for", ParallelFor),
    ("jax", Jax),
    ("torch", Torch),
])


class Worker(benchmark_workers.Worker):
  """Answers what the parent asks about derivatives."""

  def build(self, name, shrink, whole, seed):
    """Builds a task in a new graph, and calls it once.

    Returns:
      dict with what that took; no number of ops where there is no graph.

    Raises:
      Unavailable: the library has no such way here.
    """
    task, library = benchmark_tasks.tasks(
        shrink, whole)[name], self._library
    derive = getattr(library, task.verb, None)
    if derive is None:
      raise benchmark_workers.Unavailable("it has no way of its own")
    model, points = library.model(task, seed), task.points(seed)
    ops, clocks = library.ops(model), [time.perf_counter()]
    if ops is None:
      call = derive(model)
    else:
      with model.session.graph.as_default():
        call = derive(model)
    clocks.append(time.perf_counter())
    benchmark_workers.arrays_of(call(*points[0]))
    clocks.append(time.perf_counter())
    self._built[name, shrink, whole, seed] = call, points
    build, first = np.diff(clocks).tolist()
    return {"build s": build, "first call s": first,
            "ops added": None if ops is None else library.ops(model) - ops}


if __name__ == "__main__":
  benchmark_workers.serve(LIBRARIES, Worker)
