"""Shows gradients at values of your choice, checked by differences.

Trains a small TF1 softmax classifier on points it makes, saves a checkpoint,
restores it, and prints tables: f, the cross entropy, and f', its derivative
by the input x, by a variable and by a layer in the middle, at the values x_t.
Next to each stands what central finite differences of f give, and what plain
Session.run with a feed_dict says.

  gradfeed demo --x_t=-1.5,0.2,3

With --migrate it takes that classifier from its checkpoint to a model of
Keras, in four stages, each checked against the one before (TensorFlow 2).
"""

import collections
import math
import os
import tempfile
import time

from absl import flags
import numpy as np

from gradfeed._tf import tf
from gradfeed.commands import demo_model
from gradfeed.commands import migration_demo
from gradfeed.commands import tables
from gradfeed.derivatives.gradients import gradient
from gradfeed.evaluation.making import function

FLAGS = flags.FlagValues()
_X_T = flags.DEFINE_list(
    "x_t", None, "Values of x, such as -1.5,0.2,3. The default is --points of "
    "them from -2 to 2.", flag_values=FLAGS)
_POINTS = flags.DEFINE_integer(
    "points", 5, "How many values each table has.", lower_bound=1,
    flag_values=FLAGS)
_SEED = flags.DEFINE_integer(
    "seed", 0, "The seed of the points that the classifier learns.",
    lower_bound=0, upper_bound=2**32 - 1,
    flag_values=FLAGS)

_STEPS = flags.DEFINE_integer(
    "steps", 300, "Steps of gradient descent.", lower_bound=0,
    flag_values=FLAGS)
_LABEL = flags.DEFINE_integer(
    "label", 1, "The class whose cross entropy f is.", lower_bound=0,
    upper_bound=demo_model.CLASSES - 1, flag_values=FLAGS)

_CALLS = flags.DEFINE_integer(
    "calls", 200, "How often each call is timed.", lower_bound=1,
    flag_values=FLAGS)

_MIGRATE = flags.DEFINE_bool(
    "migrate", False, "Show how the classifier becomes code of TensorFlow 2.",
    flag_values=FLAGS)

#: Half the distance of the two values that a difference is taken of.
_STEP = 1e-5

#: Differences in float64 are right to about this, for derivatives around 1.
_TOLERANCE = 1e-7

#: f and f' at one value `at`: by gradfeed (`value`, `slope`), by differences,
#: and by plain Session.run.
Row = collections.namedtuple("Row", [
    "at", "value", "slope", "difference", "plain_value", "plain_slope"])


@flags.validator("x_t", "must be numbers with commas between, as in -1.5,0,3",
                 flag_values=FLAGS)
def _are_numbers(texts):
  """Whether all of `--x_t` are finite numbers."""
  try:
    return all(math.isfinite(float(text)) for text in texts or ())
  except ValueError:
    return False


def runs_eagerly():
  """Whether eager execution is left on."""
  return _MIGRATE.value


def main():
  """Prints the tables; 1 if a derivative is apart from the differences."""
  if _MIGRATE.value:
    return migration_demo.main(_SEED.value, _STEPS.value)
  tabulate = tables.tabulate()
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "model.ckpt")
    loss, accuracy = demo_model.train(_SEED.value, _STEPS.value, path)
    print("Trained a softmax classifier: {} steps, cross entropy {:.3f}, "
          "accuracy {:.0%}.\nSaved a checkpoint and restored it in a new "
          "session.\nf is the cross entropy of class {}.".format(
              _STEPS.value, loss, accuracy, _LABEL.value))
    with tf.Graph().as_default(), tf.Session() as session:
      model = demo_model.Classifier()
      model.saver.restore(session, path)
      by_x, times = by_placeholder(model, session)
      print("\n1. By the input x, a placeholder; with the time that f'(x_t) "
            "takes.\n")
      print(_timed_table(tabulate, by_x, times))
      print("\n2. By a resource variable, 'width', at x = 1. Nothing is "
            "assigned to it.\n")
      by_width = by_variable(model, session, path)
      print(_compared_table(tabulate, "width_t", by_width))
      print("\n3. By a layer in the middle, h: u = x / width; h = u * u; "
            "z = exp(-h).\n")
      by_h = by_layer(model, session, path)
      print(_compared_table(tabulate, "h_t", by_h))
  return _conclude(by_x + by_width + by_h, by_width + by_h)


def _values(texts, first, last):
  """The values of a table: those of a flag, or else evenly spaced ones."""
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


def _label():
  """The label of the one point that is evaluated, an int64 array `[1]`."""
  return np.array([_LABEL.value])


def by_placeholder(model, session):
  """Evaluates f and f', the derivative by x, at each value of x.

  Args:
    model: `demo_model.Classifier`.
    session: `tf.Session` with its weights.

  Returns:
    (list of `Row`; list of the times that f' takes, (by gradfeed, by
    Session.run), in microseconds).
  """
  slope = gradient(model.loss, model.x)
  f = function([model.x, model.labels], model.loss, session)
  f_prime = function([model.x, model.labels], slope, session)

  def plain(fetch, x):
    return session.run(fetch, {model.x: x, model.labels: _label()})

  rows, times = [], []
  for at in _values(_X_T.value, -2.0, 2.0):
    x_t, label = np.array([at]), _label()
    rows.append(Row(
        at, f(x_t, label), f_prime(x_t, label)[0],
        difference(lambda v: plain(model.loss, np.array([v])), at),
        plain(model.loss, x_t), plain(slope, x_t)[0]))
    times.append((microseconds(lambda x=x_t: f_prime(x, label)),
                  microseconds(lambda x=x_t: plain(slope, x))))
  return rows, times


def by_variable(model, session, path):
  """Evaluates f and f', the derivative by the width, at values of the width.

  The differences are of f in a session of their own, where the variable is
  assigned each value.

  Args:
    model: `demo_model.Classifier`.
    session: `tf.Session` with its weights.
    path: str, what the names of the files of its checkpoint begin with.

  Returns:
    list of `Row`.
  """
  slope = gradient(model.loss, model.width)
  fed = {model.x: np.array([1.0]), model.labels: _label()}
  f = function(model.width, [model.loss, slope], session, fed)
  rows = []
  with tf.Session(graph=model.loss.graph) as session_of_differences:
    model.saver.restore(session_of_differences, path)

    def loss_at(value):
      model.width.load(value, session_of_differences)
      return session_of_differences.run(model.loss, fed)

    for at in _values(None, 0.5, 2.0):
      feed = dict(fed)
      feed[model.width] = at
      rows.append(Row(at, *f(at), difference(loss_at, at),
                      *session.run([model.loss, slope], feed)))
  return rows


def by_layer(model, session, path):
  """Evaluates f and f', the derivative by h, at values of h.

  The differences are of f in another graph, which has a placeholder for h and
  is restored from the same checkpoint.

  Args:
    model: `demo_model.Classifier`.
    session: `tf.Session` with its weights.
    path: str, what the names of the files of its checkpoint begin with.

  Returns:
    list of `Row`.
  """
  slope = gradient(model.loss, model.h)
  f = function(model.h, [model.loss, slope], session,
               {model.labels: _label()})
  rows = []
  with tf.Graph().as_default(), tf.Session() as session_of_differences:
    h = tf.placeholder(tf.float64, [None])
    rewritten = demo_model.Classifier(h)
    rewritten.saver.restore(session_of_differences, path)

    def loss_at(value):
      return session_of_differences.run(rewritten.loss, {
          h: np.array([value]), rewritten.labels: _label()})

    for at in _values(None, 0.1, 2.5):
      h_t = np.array([at])
      value, slope_t = f(h_t)
      plain, plain_slope = session.run([model.loss, slope], {
          model.h: h_t, model.x: np.array([1.0]), model.labels: _label()})
      rows.append(Row(at, value, slope_t[0], difference(loss_at, at), plain,
                      plain_slope[0]))
  return rows


def is_right(slope, expected):
  """Whether a derivative agrees with the difference, within `_TOLERANCE`."""
  return abs(slope - expected) <= _TOLERANCE * max(1.0, abs(expected))


def _digits(value):
  """A number as it is printed in a table."""
  return "{:.6f}".format(round(value, 6) + 0.0)  # No -0.000000.


def _timed_table(tabulate, rows, times):
  """The first table, of `by_placeholder`, as text."""
  return tabulate(
      [["{:g}".format(row.at), _digits(row.value), _digits(row.slope),
        _digits(row.difference),
        "{:.0e}".format(abs(row.slope - row.difference)),
        "{:.0f} us".format(time_here), "{:.0f} us".format(time_of_run)]
       for row, (time_here, time_of_run) in zip(rows, times)],
      ["x_t", "f(x_t)", "f'(x_t)", "differences", "apart", "gradfeed",
       "Session.run"], disable_numparse=True, stralign="right")


def _compared_table(tabulate, name, rows):
  """A table that compares with feeding alone, as text.

  Args:
    tabulate: the function of that name.
    name: str, the title of the column of values.
    rows: list of `Row`.
  """
  return tabulate(
      [["{:g}".format(row.at), _digits(row.value), _digits(row.plain_value),
        _digits(row.difference), _digits(row.slope), _digits(row.plain_slope),
        "" if is_right(row.plain_slope, row.difference) else "wrong"]
       for row in rows],
      [name, "f\ngradfeed", "f\nfeed_dict", "f'\ndifferences",
       "f'\ngradfeed", "f'\nfeed_dict", ""],
      disable_numparse=True, stralign="right")


def _conclude(rows, compared):
  """Prints how many derivatives are right.

  Args:
    rows: list of `Row`, of all tables.
    compared: list of `Row`, of those in which Session.run may be wrong.

  Returns:
    int, the exit status: 1 where gradfeed and the differences disagree.
  """
  apart = sum(not is_right(row.slope, row.difference) for row in rows)
  wrong = sum(not is_right(row.plain_slope, row.difference)
              for row in compared)
  print("\ngradfeed agrees with the differences in {} of {}.\nIn tables 2 and "
        "3, plain Session.run with a feed_dict is wrong in {} of {},\nwithout "
        "a word.".format(
            len(rows) - apart, len(rows), wrong, len(compared)))
  return 1 if apart else 0
