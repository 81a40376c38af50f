"""Shows gradients at values of your choice, checked by differences.

Trains a small TF1 softmax classifier on points it makes, saves a checkpoint,
restores it, and prints tables: f, the cross entropy, and f', its derivative
by the input x, by a variable and by a layer in the middle, at the values x_t.
Next to each stands what central finite differences of f give, and what plain
Session.run with a feed_dict says.

  gradfeed demo --x_t=-1.5,0.2,3
"""

import collections
import math
import os
import tempfile
import time

from absl import flags
import numpy as np

from gradfeed import errors
from gradfeed._tf import tf
from gradfeed.commands import classifier
from gradfeed.derivatives import gradient
from gradfeed.functions import function

_X_T = flags.DEFINE_list(
    "x_t", None, "Values of x, such as -1.5,0.2,3. The default is --points of "
    "them from -2 to 2.")
_POINTS = flags.DEFINE_integer(
    "points", 5, "How many values each table has.", lower_bound=1)
_SEED = flags.DEFINE_integer(
    "seed", 0, "The seed of the points that the classifier learns.",
    lower_bound=0, upper_bound=2**32 - 1)
_STEPS = flags.DEFINE_integer(
    "steps", 300, "Steps of gradient descent.", lower_bound=0)
_LABEL = flags.DEFINE_integer(
    "label", 1, "The class whose cross entropy f is.", lower_bound=0,
    upper_bound=classifier.CLASSES - 1)
_CALLS = flags.DEFINE_integer(
    "calls", 200, "How often each call is timed.", lower_bound=1)

#: Half the distance of the two values that a difference is taken of.
_STEP = 1e-5

#: Differences in float64 are right to about this, for derivatives around 1.
_TOLERANCE = 1e-7

#: One way to get f and f' at a value.
Row = collections.namedtuple("Row", [
    "at", "value", "slope", "difference", "plain_value", "plain_slope"])


@flags.validator("x_t", "must be numbers with commas between, as in -1.5,0,3")
def _are_numbers(texts):
  try:
    return all(math.isfinite(float(text)) for text in texts or ())
  except ValueError:
    return False


def main():
  """Prints the tables; 1 if a derivative is apart from the differences."""
  tabulate = _import_tabulate()
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "model.ckpt")
    loss, accuracy = classifier.train(_SEED.value, _STEPS.value, path)
    print("Trained a softmax classifier: {} steps, cross entropy {:.3f}, "
          "accuracy {:.0%}.\nSaved a checkpoint and restored it in a new "
          "session. f is the cross entropy of class {}.".format(
              _STEPS.value, loss, accuracy, _LABEL.value))
    labels = np.array([_LABEL.value])
    with tf.Graph().as_default(), tf.Session() as session:
      model = classifier.Classifier()
      model.saver.restore(session, path)
      x_t = _values(_X_T.value, -2.0, 2.0)
      rows = []
      for show in (_show_placeholder, _show_variable, _show_hidden):
        rows.append(show(tabulate, model, session, labels, x_t, path))
  return _conclude(rows[0], rows[1] + rows[2])


def _import_tabulate():
  try:
    import tabulate  # pylint: disable=g-import-not-at-top
  except ImportError:
    raise errors.DependencyError(
        "The tables need the package tabulate, which is not installed.",
        "gradfeed itself does without it.",
        "pip install 'gradfeed[cli]' (or: pip install tabulate)") from None
  return tabulate.tabulate


def _values(texts, first, last):
  if texts:
    return [float(text) for text in texts]
  if _POINTS.value == 1:
    return [last]
  return [float(value) for value in np.linspace(first, last, _POINTS.value)]


def difference(f, at):
  """The central finite difference of `f`, a function of a float, at `at`."""
  return (f(at + _STEP) - f(at - _STEP)) / (2 * _STEP)


def microseconds(call):
  """The median time of `call()`."""
  times = []
  for _ in range(_CALLS.value):
    start = time.perf_counter()
    call()
    times.append(time.perf_counter() - start)
  return 1e6 * float(np.median(times))
