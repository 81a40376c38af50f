"""A model in a worker: loaded once, evaluated at elements from many threads."""

import collections
import threading
import time

from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.beam import elements as elements_lib
from gradfeed.evaluation.making import function
from gradfeed.graph import nest
from gradfeed.graph import tensors
from gradfeed.models import derivative_choices
from gradfeed.models import loading
from gradfeed.streaming import coupling
from gradfeed.streaming import point_sources
from gradfeed.streaming import row_evaluation

#: What is evaluated: names and plain values, which every worker gets. They are
#: as in `handlers.GradientModelHandler`.
Spec = collections.namedtuple("Spec", [
    "path", "tags", "y", "x", "rows", "keys", "feed_dict", "of", "class_index",
    "threads"])

#: What `row_evaluation.RowEvaluator` wants to know of rows.
_Source = collections.namedtuple("_Source", ["inputs", "batch_forms"])

#: Shapes of rows for which an evaluator is kept.
_MOST_SHAPES = 64


class LoadedModel:
  """A model of disk, and the function of its tensors that is evaluated.

  Attributes:
    function: `functions.Function` of x, of the tensors in `rows` and perhaps of
      the class.
    fingerprint: str, that of y: see `loading.Model.fingerprint`.
  """

  def __init__(self, spec):
    """Loads the model.

    Args:
      spec: `Spec`.

    Raises:
      ModelFileError, ArgumentError, TensorNotFoundError, MissingFeedError, and
      what the derivatives and `function` raise.
    """
    start = time.perf_counter()
    self._model = loading.load(
        spec.path, spec.tags, config=_session_config(spec.threads))
    try:
      self.function, keys = _function_of(spec, self._model)
      self.fingerprint = self._model.fingerprint(spec.y)[:16]
      self._is_independent = self._check_rows()
    except Exception:
      self.close()
      raise
    self._parser = elements_lib.ElementParser(self.function.inputs, keys)
    self._evaluators = collections.OrderedDict()
    self._lock = threading.Lock()
    self._load_times = [int(1000 * (time.perf_counter() - start))]

  def _check_rows(self):
    """Whether the ops show that rows are independent; refuses coupled ones."""
    if not all(leaf.shape.ndims and leaf.shape.as_list()[0] is None
               for leaf in self.function.inputs):
      return False  # They are evaluated one by one, or it is proven at them.
    try:
      return coupling.check_before_use(self.function)
    except errors.CoupledRowsError as error:
      raise explained(error)

  def __call__(self, elements):
    """Evaluates the function at elements.

    Args:
      elements: list.

    Returns:
      (list with the result at each element, or `elements.Refused`; float, the
      seconds that evaluating took).

    Raises:
      CoupledRowsError: a row depends on the others.
      tf.errors.OpError: no row by itself is the reason.
    """
    together, bad = self._parser.parse(elements)
    results = [None] * len(elements)
    start = time.perf_counter()
    for rows in together:
      values, failed = self._evaluator_of(rows).evaluate_rows(
          rows.arrays, rows.places)
      bad.update((rows.places[i], why) for i, why in failed.items())
      good = [place for i, place in enumerate(rows.places) if i not in failed]
      for i, place in enumerate(good):
        results[place] = nest.pack(
            self.function.structure, [value[i] for value in values])
    seconds = time.perf_counter() - start
    for place, why in bad.items():
      results[place] = elements_lib.Refused(why)
    return results, seconds

  def _evaluator_of(self, rows):
    """The `row_evaluation.RowEvaluator` for rows of these shapes."""
    key = rows.forms, tuple(array.shape[1:] for array in rows.arrays)
    with self._lock:
      evaluator = self._evaluators.pop(key, None)
      if evaluator is None:
        evaluator = row_evaluation.RowEvaluator(
            self.function, _Source(self.function.inputs, rows.forms), True,
            self._is_independent)
      self._evaluators[key] = evaluator
      if len(self._evaluators) > _MOST_SHAPES:
        self._evaluators.popitem(last=False)
      return evaluator

  def take_load_time(self):
    """The milliseconds that loading took; None but for the first who asks."""
    try:
      return self._load_times.pop()
    except IndexError:
      return None

  def close(self):
    self._model.close()


def explained(error):
  """A `CoupledRowsError` with what can be done about it in a pipeline."""
  return errors.CoupledRowsError(
      error.what, error.why, "Evaluate the model as it runs outside of training "
      "(is_training=False). Which rows are in one batch is left to the runner, "
      "so that a batch cannot be what is meant; gradfeed.stream(coupled=True) "
      "has chunks of one size.")


def _session_config(threads):
  """The settings of a session with so many threads; None for TensorFlow's."""
  if threads is None:
    return None
  return tf.ConfigProto(
      intra_op_parallelism_threads=threads,
      inter_op_parallelism_threads=threads, use_per_session_threads=True)


def _function_of(spec, model):
  """Makes the function that is evaluated.

  Args:
    spec: `Spec`.
    model: `loading.Model`.

  Returns:
    (`functions.Function`, list of the key of each of its inputs).
  """
  x, y = [tensors.resolve(model.tensor(name), model.graph, role).tensor
          for name, role in ((spec.x, "x"), (spec.y, "y"))]
  rows = [tensors.resolve(model.tensor(name), model.graph, "rows").tensor
          for name in spec.rows]
  keys = point_sources.keys_per_input(spec.keys, [x] + rows)
  y, class_of_row = derivative_choices.select_class(
      y, spec.class_index, "class_index")
  if class_of_row is not None:
    rows.append(class_of_row)
    keys.append(spec.class_index)
  with model.graph.as_default():
    outputs = derivative_choices.derivative(spec.of, y, x)
  f = function([x] + rows, outputs, model.session,
               feed_dict={model.tensor(name): value
                          for name, value in spec.feed_dict.items()})
  if f.needs:
    raise errors.MissingFeedError(
        "No value for {}.".format(tensors.describe_all(f.needs)),
        "What is evaluated depends on it.",
        "Add it to rows= where each row has its own value, or pass "
        "feed_dict={{{}}}.".format(", ".join(
            "{!r}: ...".format(tensor.name) for tensor in f.needs)))
  return f, keys
