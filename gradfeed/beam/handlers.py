"""`GradientModelHandler`: a derivative of a model for Beam's `RunInference`."""

from collections import abc
import time

from apache_beam.metrics import metric
from apache_beam.ml.inference import base
import numpy as np

from gradfeed import errors
from gradfeed.beam import elements
from gradfeed.beam import row_functions
from gradfeed.shards import worker_models

#: The namespace of the metrics.
NAMESPACE = "gradfeed"


class Stop(BaseException):
  """Ends a pipeline: what is wrong is no fault of the rows in this batch.

  Beam puts a batch aside where an `Exception` is raised, so that this is none.
  It makes a RuntimeError with the text of this.
  """


class GradientModelHandler(base.ModelHandler):
  """Evaluates a derivative of a TensorFlow 1 model at each element.

  It is for `apache_beam.ml.inference.base.RunInference`, also in a
  `KeyedModelHandler`. An element is the value of x at one row, an array with or
  without the axis of the batch; where there are `rows`, a tuple with the values
  of x and of each of them; or a dict of these by the name of the tensor or by
  key; or a serialized `tf.train.Example`, read as `gradfeed.stream` reads
  TFRecord files.

  The `inference` of each `PredictionResult` is an array (with
  of="value_and_gradient" a tuple of two), or `Refused` with the reason where
  the row is not finite, does not fit or cannot be evaluated: rows beside it are
  not touched. `model_id` is the path of the model and its fingerprint.

  The model is read when the handler is made: names, feeds and rows are checked
  then, and every worker has to find the same model at the path. In a worker it
  is loaded once for a process, and used by all threads.

  Metrics in the namespace "gradfeed" are the counters `rows` and
  `refused_rows`, and the distributions `tensorflow_micro_secs` (of a batch) and
  `model_load_milli_secs` (in a process).

  Example:
    >>> import tensorflow.compat.v1 as tf
    >>> import gradfeed.beam, numpy as np
    >>> with tf.Graph().as_default() as graph:
    ...   x = tf.placeholder(tf.float64, [None, 2], name="x")
    ...   y = tf.reduce_sum(x ** 3, axis=1, name="y")
    >>> path = tf.train.write_graph(graph, ".", "cube.pb", as_text=False)
    >>> handler = gradfeed.beam.GradientModelHandler("cube.pb", "y:0", "x:0")
    >>> points = [np.array([1.0, 2.0]), np.array([1.0, np.nan])]
    >>> for result in handler.run_inference(points, handler.load_model()):
    ...   print(result.inference)
    [ 3. 12.]
    Refused('is not finite')
  """

  def __init__(self, model_uri, y, x, *, rows=(), keys=None, feed_dict=None,
               of="gradient", class_index=None, tags=None,
               min_batch_size=None, max_batch_size=256, threads=1,
               env_vars=None):
    """Loads the model once, and checks the arguments with it.

    Args:
      model_uri: str, the path of a model that all workers can read: see
        `gradfeed.load`.
      y: str, the name of the tensor that is differentiated.
      x: str, the name of the tensor that it is differentiated by.
      rows: list of the names of other tensors that have a value of their own at
        each row, such as labels.
      keys: list of what x and each of `rows` is called in a dict or an Example,
        or a dict from the name of the tensor; None for the name of the tensor.
      feed_dict: dict from names of tensors to the values that they have at
        every row.
      of: "gradient", "value", "value_and_gradient", "jacobian" or "hessian".
      class_index: int, the element of the last axis of y; "top" for the
        greatest at each row; or the key of the class of each row, which comes
        last in a tuple.
      tags: str or list of str, of the graph in a SavedModel that has several.
      min_batch_size: int, the fewest rows that Beam puts together where there
        are as many; None for `max_batch_size`.
      max_batch_size: int, the most rows that are evaluated together.
      threads: int, the threads of TensorFlow in each worker, of which a machine
        has as many as processors, most times; None for as many as TensorFlow
        takes.
      env_vars: dict of variables of the environment that a worker sets before
        it loads the model.

    Raises:
      ModelFileError, TensorNotFoundError, ArgumentError, FeedError: the model
        cannot be read, or an argument does not fit it.
      MissingFeedError: a placeholder has no value.
      CoupledRowsError: a row depends on other rows. That it does not is shown
        by the ops, or tried at rows that are made up; where neither is
        possible, it is tried in the workers, and the pipeline fails.
      DisconnectedError, MissingGradientError, UnsupportedGraphError: as
        `gradfeed.gradient`.
    """
    super().__init__()
    self._env_vars = dict(env_vars or {})
    for name, number in (("min_batch_size", min_batch_size),
                         ("max_batch_size", max_batch_size),
                         ("threads", threads)):
      _check_count(name, number, number is None and name != "max_batch_size")
    self._batch_sizes = {
        "min_batch_size": min(min_batch_size or max_batch_size, max_batch_size),
        "max_batch_size": max_batch_size}
    self._model_path = model_uri
    self._arguments = dict(
        y=y, x=x, rows=rows, keys=keys, feed_dict=feed_dict, of=of,
        class_index=class_index, tags=tags, threads=threads)
    self._derivative = worker_models.ModelDerivative(
        model_uri, **self._arguments)
    self._is_independent = row_functions.RowFunction(
        self._derivative.check(), self._derivative.keys).is_independent

  def load_model(self):
    """Loads the model in a worker, as `RunInference` calls it.

    Returns:
      What `run_inference` takes.

    Raises:
      Stop: another model is at the path, or there is none.
    """
    start = time.perf_counter()
    try:
      loaded = self._derivative.acquire()
      return row_functions.RowFunction(
          loaded, self._derivative.keys, time.perf_counter() - start,
          self._is_independent)
    except errors.GradfeedError as error:
      raise Stop(error) from error

  def run_inference(self, batch, model, inference_args=None):
    """Evaluates a batch, as `RunInference` calls it.

    Args:
      batch: sequence of elements.
      model: what `load_model` returns.
      inference_args: None.

    Returns:
      list of `PredictionResult`.

    Raises:
      Stop: a row depends on the others.
    """
    batch = list(batch)
    try:
      results, seconds = model(batch)
    except errors.CoupledRowsError as error:
      raise Stop(error) from error
    _report(results, model, seconds)
    model_id = "{}@{}".format(self._derivative.path, model.fingerprint)
    return [base.PredictionResult(element, result, model_id)
            for element, result in zip(batch, results)]

  def update_model_path(self, model_path=None):
    """Takes another model, where a side input of `RunInference` says one.

    The next `load_model` loads and checks it.

    Args:
      model_path: str, or None to stay with the one that there is.
    """
    if model_path and model_path != self._model_path:
      self._model_path = model_path
      self._derivative = worker_models.ModelDerivative(
          model_path, **self._arguments)
      self._is_independent = None

  def validate_inference_args(self, inference_args):
    """Refuses arguments of `RunInference`.

    Args:
      inference_args: what it was given.

    Raises:
      ArgumentError: they are not None, nor empty.
    """
    if inference_args:
      raise errors.ArgumentError(
          "inference_args={!r} are of no use here.".format(inference_args),
          "What is evaluated is said where the handler is made.",
          "Pass them to GradientModelHandler, as in feed_dict=.")

  def get_num_bytes(self, batch):
    """The size of a batch, for a metric of Beam.

    Args:
      batch: sequence of elements.

    Returns:
      int, bytes.
    """
    return sum(map(_size_of, batch))

  def get_metrics_namespace(self):
    """The namespace of the metrics that Beam counts itself.

    Returns:
      str.
    """
    return NAMESPACE

  def batch_elements_kwargs(self):
    """How many elements `RunInference` puts together.

    Returns:
      dict with "min_batch_size" and "max_batch_size".
    """
    return self._batch_sizes


def _report(results, model, seconds):
  """Adds a batch to the metrics of the step that runs."""
  metric.Metrics.counter(NAMESPACE, "rows").inc(len(results))
  metric.Metrics.counter(NAMESPACE, "refused_rows").inc(
      sum(isinstance(result, elements.Refused) for result in results))
  metric.Metrics.distribution(NAMESPACE, "tensorflow_micro_secs").update(
      int(1e6 * seconds))
  load_seconds = model.take_load_seconds()
  if load_seconds is not None:
    metric.Metrics.distribution(NAMESPACE, "model_load_milli_secs").update(
        int(1e3 * load_seconds))


def _size_of(element):
  """The bytes of an element, as far as they are told without pickling it."""
  if isinstance(element, abc.Mapping):
    return sum(map(_size_of, element.values()))
  if isinstance(element, (tuple, list)):
    return sum(map(_size_of, element))
  return len(element) if isinstance(element, (bytes, str)) else getattr(
      element, "nbytes", 8)


def _check_count(name, number, is_none_allowed):
  """Refuses what is no positive number."""
  if not is_none_allowed and (isinstance(number, bool) or not isinstance(
      number, (int, np.integer)) or number < 1):
    raise errors.ArgumentError(
        "{}={!r} is no positive number.".format(name, number),
        "It is how many there are at most, or at least.", "Pass an int.")
