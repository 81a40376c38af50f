"""The classifier of the demonstration, from a checkpoint of TF 1 to Keras."""

import contextlib
import importlib
import os
import tempfile
import textwrap

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.commands import demo_model
from gradfeed.comparing.comparisons import compare
from gradfeed.derivatives.gradients import value_and_gradient
from gradfeed import errors
from gradfeed.evaluation.making import function
from gradfeed.migration.modules import to_module

#: Steps of gradient descent by the module, and their length.
_STEPS, _RATE = 20, 0.5


def main(seed, steps):
  """Prints the four stages.

  Args:
    seed: int, of the points.
    steps: int, of gradient descent in the old code.

  Returns:
    int, the exit status: 1 if a stage does not agree with the one before.

  Raises:
    UnsupportedGraphError: this is TensorFlow 1.
  """
  if not _tf.IS_TF2:
    raise errors.UnsupportedGraphError(
        "There is no migration to show.",
        "This is TensorFlow {}.".format(_tf.VERSION),
        "Run it where TensorFlow 2 is installed.")
  x, labels = demo_model.make_points(seed)
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "model.ckpt")
    loss, _ = demo_model.train(seed, steps, path)
    print("A classifier of TensorFlow 1 was trained: cross entropy {:.4f}.\n"
          "All that is left of it is the checkpoint and its code.".format(loss))
    with tf.Graph().as_default() as graph:
      model = demo_model.Classifier()
      session = tf.Session(graph=graph)
      model.saver.restore(session, path)
      f = function([model.x, model.labels],
                   value_and_gradient(model.loss, model.x), session)
  with contextlib.closing(session):  # A block of it would be one of its graph.
    return max(_by_arrays(f, model, session, x, labels),
               _by_eager_tensors(f, x, labels),
               _as_module(f, session, x, labels),
               _rewritten(f, x, labels))


def _verdict(is_right, text):
  """Prints what a stage has shown; its exit status."""
  print(textwrap.fill(
      "{}: {}".format("agrees" if is_right else "DIFFERS", text), 78,
      initial_indent="  ", subsequent_indent="  "))
  return 0 if is_right else 1


def _by_arrays(f, model, session, x, labels):
  """Stage 1: the old graph, with gradfeed in the place of Session.run."""
  print("\n1. The old graph, called by gradfeed: f(x, labels)")
  value, by_x = f(x, labels)
  own = session.run(model.loss, {model.x: x, model.labels: labels})
  step = 1e-6
  moved = [session.run(model.loss, {
      model.x: x + sign * step * np.cos(x), model.labels: labels})
           for sign in (1, -1)]
  difference = (moved[0] - moved[1]) / (2 * step)
  return _verdict(
      value == own and abs(by_x.dot(np.cos(x)) - difference) < 1e-8,
      "the value with Session.run; the slope along a direction, {:.8f}, with "
      "a difference of values, {:.8f}.".format(
          by_x.dot(np.cos(x)), difference))


def _by_eager_tensors(f, x, labels):
  """Stage 2: eager execution is on, and the same function takes its tensors."""
  print("\n2. Eager execution on, the old graph in a block: f takes eager "
        "tensors")
  results = f(tf.constant(x), tf.constant(labels))
  return _verdict(all(map(np.array_equal, results, f(x, labels))),
                  "bit for bit with the call on arrays.")


def _as_module(f, session, x, labels):
  """Stage 3: the piece is a module of TF 2, and is trained further."""
  print("\n3. The piece as a module of TF 2, trained further in a tf.function")
  module = to_module(f)

  @tf.function
  def train(x, labels):
    with tf.GradientTape() as tape:
      loss = module.value(x, labels)
    by_weight = tape.gradient(loss, module.trainable_variables)
    for variable, slope in zip(module.trainable_variables, by_weight):
      variable.assign_sub(_RATE * slope)
    return loss

  before = f(x, labels)[0]
  first = float(train(tf.constant(x), tf.constant(labels)))
  for _ in range(_STEPS - 1):
    train(tf.constant(x), tf.constant(labels))
  module.update(session)
  after, own = f(x, labels)[0], float(module.value(x, labels))
  status = _verdict(abs(first - before) < 1e-12, "the first loss of the module "
                    "with the old one.")
  return max(status, _verdict(
      after < before and abs(after - own) < 1e-12,
      "after {} steps, the old session with the weights that the module gave "
      "back: {:.6f}, it was {:.6f}.".format(_STEPS, after, before)))


def _rewritten(f, x, labels):
  """Stage 4: the code is written anew, and compared until it agrees."""
  keras = _keras()
  print("\n4. Written anew{}, and compared".format(
      " with Keras {}".format(keras.__version__) if keras else ""))
  weights = {name: variable.numpy()
             for name, variable in to_module(f).variables_by_name.items()}
  points = [(x[i:i + 20], labels[i:i + 20]) for i in range(0, 100, 20)]
  mistaken = compare(f, _new_code(keras, weights, lambda u: u), points)
  print("  With a mistake in it, h = u for h = u * u: {}, and it begins at "
        "{}.".format(mistaken.verdict, mistaken.begins))
  mended = compare(f, _new_code(keras, weights, lambda u: u * u), points)
  status = _verdict(
      mended.verdict == "agrees" and mistaken.begins == "h:0",
      "values and gradients at {} points, without the mistake.".format(
          len(points)))
  print("\nThe old code can be deleted.")
  return status


def _keras():
  """The Keras that belongs to this TensorFlow, or None."""
  try:
    keras = importlib.import_module("keras")
  except ImportError:
    return None
  backend = getattr(keras, "config", keras.backend).backend()
  return keras if backend == "tensorflow" else None


def _new_code(keras, weights, square):
  """The classifier in code of TF 2.

  Args:
    keras: the module, or None to do without.
    weights: dict from the names of the old variables to arrays.
    square: function from x / width to the layer in the middle.

  Returns:
    function from the points and their labels to (loss, dict of layers).
  """
  if keras is None:
    logits_of = lambda bell: tf.matmul(
        bell, weights["weights"]) + weights["biases"]
  else:
    logits_of = keras.layers.Dense(demo_model.CLASSES, dtype="float64")
    logits_of.build((None, 1))
    logits_of.set_weights([weights["weights"], weights["biases"]])

  def new_code(x, labels):
    h = square(x / weights["width"])
    bell = tf.exp(-h)
    logits = logits_of(tf.expand_dims(bell, 1))
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=logits))
    return loss, {"h": h, "bell": bell, "logits": logits}

  return new_code
