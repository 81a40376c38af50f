"""The ways to derivatives in a graph: gradfeed, by hand, and parallel_for."""

import collections
import importlib

import numpy as np

from benchmarks import workers
from benchmarks.derivatives import tasks

#: A network in a graph of its own; `inputs` are what the verb is a function of.
_Graph = collections.namedtuple("_Graph", [
    "task", "session", "layers", "inputs", "x", "v", "logits", "losses"])


class _Tensorflow(workers.Tensorflow):
  """What all ways to ask TensorFlow for a derivative have in common."""

  def model(self, task, seed):
    tf = self.tf
    graph = tf.Graph()
    with graph.as_default():
      layers = self.variables(workers.weights_of(task.sizes, seed))
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
    return tasks.residual(self.tf.pad(model.x[0], [[1, 1]]))

  def on_diagonals(self, dense):
    return self.tf.gather_nd(dense, np.stack(tasks.diagonals(
        int(dense.shape[0])), -1))

  def ops(self, model):
    return len(model.session.graph.get_operations())

  def run(self, model, fetch):
    """Session.run of `fetch` as a function of the inputs."""
    run, inputs = model.session.run, model.inputs
    return lambda *values: run(fetch, dict(zip(inputs, values)))


def flat(layers):
  return [value for layer in layers for value in layer]


class Gradfeed(_Tensorflow):
  """gradfeed.function of gradfeed's verbs."""

  def __init__(self, mode):
    super().__init__(mode)
    self._gf = workers.import_gradfeed()

  def _function(self, model, outputs):
    return self._gf.function(model.inputs, outputs, session=model.session)

  def jacobian(self, model):
    return self._function(model, self._gf.jacobian(model.logits, model.x))

  wide_jacobian = jacobian

  def sparse_jacobian(self, model):
    return self._function(model, self._gf.jacobian(
        self.residual(model), model.x, sparse=True,
        sparsity=tasks.diagonals(model.task.sizes[0])).values)

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
        model.losses, flat(model.layers)))


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
    rows, columns = tasks.diagonals(model.task.sizes[0])
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
        model.losses, flat(model.layers)))

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
      raise workers.Unavailable("TensorFlow {} says {}".format(
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
          self.losses(logits, tf.gather(labels, [i])), flat(model.layers))

    return self._run(model, lambda: self._pfor(gradients, tf.shape(x)[0]))
