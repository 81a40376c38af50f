"""The ways to derivatives by the transformations of JAX and of PyTorch."""

import collections

import numpy as np

from benchmarks import workers
from benchmarks.derivatives import graphs
from benchmarks.derivatives import tasks

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

    weights = workers.weights_of(task.sizes, seed)
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
        lambda layers, x: tasks.residual(self.padded(x)), 1)
    return self._call(model, lambda layers, x: dense(layers, x[0])[
        tasks.diagonals(x.shape[1])])

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
        np.asarray, graphs.flat(compiled(layers, x, labels))))


class Jax(_Functional):
  """jax.jit of JAX's transformations, weights as arguments."""

  def __init__(self, unused_mode):
    self.transforms = workers.imported("jax", "JAX")
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
    self._torch = workers.imported("torch", "PyTorch")
    self.transforms = workers.imported("torch.func", "torch.func")
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
