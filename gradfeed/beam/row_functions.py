"""A derivative of a model that is evaluated at elements, from many threads."""

import collections
import contextlib
import threading
import time

from gradfeed import errors
from gradfeed.beam import elements as elements_lib
from gradfeed.graph import nest
from gradfeed.streaming import coupling
from gradfeed.streaming import row_evaluation

#: What `row_evaluation.RowEvaluator` wants to know of rows.
_Source = collections.namedtuple("_Source", ["inputs", "batch_forms"])

#: Shapes of rows for which an evaluator is kept.
_MOST_SHAPES = 64


class RowFunction:
  """Evaluates a derivative at elements, each by itself.

  Attributes:
    fingerprint: str, of the model.
    is_independent: bool, whether the ops show that no row depends on others.
  """

  def __init__(self, loaded, keys, load_seconds=None, is_independent=None):
    """Looks whether rows depend on each other.

    Args:
      loaded: `worker_models.LoadedDerivative`.
      keys: list of str or None, what each of its inputs is called in a dict or
        an Example.
      load_seconds: float, how long it took to load it, or None.
      is_independent: bool, what was found out of this model before, or None.

    Raises:
      CoupledRowsError: a row depends on other rows.
      ArgumentError: an output has no rows.
    """
    self.fingerprint = loaded.fingerprint
    self._f = loaded.f
    self._parser = elements_lib.ElementParser(self._f.inputs, keys)
    self.is_independent = is_independent
    if is_independent is None:
      self.is_independent = self._check_rows()
    self._evaluators = collections.OrderedDict()
    self._lock = threading.Lock()
    self._load_seconds = [] if load_seconds is None else [load_seconds]

  def _check_rows(self):
    """Whether the ops show that rows are independent; refuses coupled ones."""
    if not all(leaf.shape.ndims and leaf.shape.as_list()[0] is None
               for leaf in self._f.inputs):
      return False  # They are evaluated one by one, or proven where they are.
    with translated():
      return coupling.check_before_use(self._f)

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
      with translated():
        values, failed = self._evaluator_of(rows).evaluate_rows(
            rows.arrays, rows.places)
      bad.update((rows.places[i], why) for i, why in failed.items())
      good = [place for i, place in enumerate(rows.places) if i not in failed]
      for i, place in enumerate(good):
        results[place] = nest.pack(
            self._f.structure, [value[i] for value in values])
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
            self._f, _Source(self._f.inputs, rows.forms), True,
            self.is_independent)
      self._evaluators[key] = evaluator
      if len(self._evaluators) > _MOST_SHAPES:
        self._evaluators.popitem(last=False)
      return evaluator

  def take_load_seconds(self):
    """The seconds that loading took; None but for the first who asks."""
    try:
      return self._load_seconds.pop()
    except IndexError:
      return None


@contextlib.contextmanager
def translated():
  """Says of a `CoupledRowsError` what can be done about it in a pipeline."""
  try:
    yield
  except errors.CoupledRowsError as error:
    error.fix = (
        "Evaluate the model as it runs outside of training "
        "(is_training=False). Which rows are in one batch is left to the "
        "runner, so that no batch can be meant; gradfeed.stream(coupled=True) "
        "has chunks of one size.")
    raise
