"""`Gradients`: keyed points to gradients, with the refused rows apart."""

import collections

import apache_beam as beam
from apache_beam.ml.inference import base
from apache_beam.transforms import window

from gradfeed import errors
from gradfeed.beam import elements
from gradfeed.beam import handlers

#: What `Gradients` makes: a PCollection of (key, gradient), and one of (key,
#: reason, point).
GradientsAndRefused = collections.namedtuple(
    "GradientsAndRefused", ["gradients", "refused"])

_MOST_NAMED = 3


class Gradients(beam.PTransform):
  """Evaluates a derivative at keyed points, and sets apart what is refused.

  It takes a PCollection of (key, point), and returns two: of (key, gradient),
  and of (key, reason, point) for the points that are not finite, do not fit or
  cannot be evaluated. Points are as `GradientModelHandler` takes them.

  The pipeline fails where more than a share of all rows are refused, and always
  where all are: files that other steps write may be there nevertheless. In a
  pipeline without an end the share is that of each window; without windows it
  is not looked at.

  Example:
    >>> import tensorflow.compat.v1 as tf
    >>> import apache_beam as beam, gradfeed.beam
    >>> with tf.Graph().as_default() as graph:
    ...   x = tf.placeholder(tf.float64, [None, 2], name="x")
    ...   y = tf.reduce_sum(x ** 3, axis=1, name="y")
    >>> path = tf.train.write_graph(graph, ".", "cube.pb", as_text=False)
    >>> step = gradfeed.beam.Gradients("cube.pb", "y:0", "x:0")
    >>> with beam.Pipeline("DirectRunner") as pipeline:
    ...   gradients, refused = pipeline | beam.Create(
    ...       [("a", [1.0, 2.0]), ("b", [1.0, 2.0, 3.0])]) | step
    ...   _ = gradients | beam.Map(lambda pair: print(pair[0], pair[1]))
    a [ 3. 12.]
  """

  def __init__(self, model_uri, y, x, *, threshold=1.0, **options):
    """Loads the model once, and checks the arguments with it.

    Args:
      model_uri, y, x: as in `GradientModelHandler`.
      threshold: float, the share of the rows, 0 to 1, that may be refused.
      **options: others of `GradientModelHandler`.

    Raises:
      ArgumentError: `threshold` is no share; and what `GradientModelHandler`
        raises.
    """
    super().__init__()
    if isinstance(threshold, bool) or not isinstance(
        threshold, (int, float)) or not 0 <= threshold <= 1:
      raise errors.ArgumentError(
          "threshold={!r} is no share of the rows.".format(threshold),
          "It is how many of them may be refused.",
          "Pass a number from 0 to 1.")
    self._threshold = threshold
    self._handler = handlers.GradientModelHandler(model_uri, y, x, **options)

  def expand(self, points):
    """Builds the steps.

    Args:
      points: PCollection of (key, point).

    Returns:
      `GradientsAndRefused`.
    """
    results = points | "Evaluate" >> base.RunInference(
        base.KeyedModelHandler(self._handler))
    divided = results | "Divide" >> beam.ParDo(_Divide()).with_outputs(
        "refused", main="gradients")
    if points.is_bounded or not isinstance(
        points.windowing.windowfn, window.GlobalWindows):
      _ = (results | "Outcome" >> beam.Map(_outcome)
           | "Count" >> beam.CombineGlobally(_Count()).without_defaults()
           | "Check" >> beam.Map(check_share, self._threshold))
    return GradientsAndRefused(divided.gradients, divided.refused)


class _Divide(beam.DoFn):
  """Puts refused rows into an output of their own."""

  def process(self, element):
    key, result = element
    if isinstance(result.inference, elements.Refused):
      yield beam.pvalue.TaggedOutput(
          "refused", (key, result.inference.reason, result.example))
    else:
      yield key, result.inference


def _outcome(element):
  """None for a row with a result; (key, reason) for one without, as a str."""
  key, result = element
  if not isinstance(result.inference, elements.Refused):
    return None
  return "{!r} {}".format(key, result.inference.reason)


class _Count(beam.CombineFn):
  """(number of rows, number of refused ones, some of these with the reason)."""

  def create_accumulator(self):
    return 0, 0, []

  def add_input(self, accumulator, outcome):
    rows, refused, named = accumulator
    if outcome is None:
      return rows + 1, refused, named
    return rows + 1, refused + 1, (named + [outcome])[:_MOST_NAMED]

  def merge_accumulators(self, accumulators):
    rows, refused, named = zip(*accumulators)
    return sum(rows), sum(refused), sum(named, [])[:_MOST_NAMED]

  def extract_output(self, accumulator):
    return accumulator


def check_share(counts, threshold):
  """Fails where too many rows were refused.

  Args:
    counts: (int, the number of rows; int, how many were refused; list of str,
      some of these and the reason).
    threshold: float.

  Raises:
    StreamError: they are too many.
  """
  rows, refused, named = counts
  if not refused or refused < rows and refused <= threshold * rows:
    return
  raise errors.StreamError(
      "None of the {} rows could be evaluated.".format(rows) if
      refused == rows else
      "{} of {} rows were refused, more than threshold={:g}.".format(
          refused, rows, threshold),
      "; ".join("row {}".format(text) for text in named) + (
          "." if refused <= len(named) else
          "; and {} more.".format(refused - len(named))),
      "Look at the points, and at the inputs that they are for; a larger "
      "threshold= lets the pipeline go on with the rest.")
