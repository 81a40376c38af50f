"""Functions of one row, for many: in one batch, or from several threads.

In a graph whose batch is fixed to 1 a function is evaluated row by row, though
TensorFlow could do hundreds at once for little more than the price of one.
`rebatched` makes a function of many rows of it, where two ways to do that
(`batch_size`) lead to one, and where the numbers show that it gives what the
function gives row by row. Where it does not, `one_by_one` makes use of more
than one processor.
"""

import concurrent.futures
import contextlib
import os
import re

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.evaluation import numeric_comparison
from gradfeed.graph import cache
from gradfeed.graph import effects
from gradfeed.graph import nest
from gradfeed.graph import op_types
from gradfeed.graph import traversal
from gradfeed.rewriting import batch_size

#: How one value is made of the values for all rows. It is the row itself; or it
#: is the same for all. With anything else (the "one" and "many" of `points`) it
#: is the row with the axis of the batch.
BARE, ONE, SHARED = "bare", "one", "shared"

#: Ops that may give another value at each run.
_DIFFERING = re.compile("|".join(
    [op_types.RANDOM.pattern, op_types.WAITING.pattern, "PyFunc"]))

_WAYS = (batch_size.enlarge, batch_size.repeat)
_MOST_THREADS = 8

#: Parts of the rows for each thread, so that none ends long after the others.
_PARTS = 8


def rebatched(f, values, forms=None):
  """A function of many rows that gives what `f` gives for each of them.

  It is in the graph and the session of `f`, shares the variables with it, holds
  the same values, and adds ops the first time only. It was tried at `values`,
  and gave what `f` gives row by row; see `prove`.

  Args:
    f: `functions.Function`.
    values: list with an array for each input, as the result takes them, of some
      rows that differ: two at least, better are some from all over the data.
    forms: list with "bare", "one", "many" or "shared" for each input, as
      `formats.fitting.way_of` tells them, or None: those whose first axis is
      1 (or of any size) have rows along it, and the value of any other is
      shared.

  Returns:
    `Rebatched`, or None: no way leads to one that gives the same, or there are
    ops on the way that give another value at each run. It never raises an
    error: `f` says better what is wrong with a row.
  """
  for way in _WAYS:
    try:
      batched = _built(f, forms or list(map(_form, f.inputs)), way)
    except Exception:  # pylint: disable=broad-except
      continue  # A closed graph, say, or an input that has no effect.
    if batched is not None and prove(batched, f, values):
      return batched
  return None


def _form(leaf):
  dims = leaf.shape.as_list() if leaf.shape.ndims else [0]
  return ONE if dims[0] in (1, None) else SHARED


class Rebatched:
  """A function of one row as a function of many.

  Attributes:
    f: `functions.Function` of one row.
    function: `functions.Function` of many rows: each input that has rows is of
      shape [None, ...], and so is each output. A result of `f` whose static
      shape begins with 1 has its rows in the place of that axis, any other has
      one more, before its own.
    forms: list of str, for each input.
    depends: list of bool, for each output: whether it depends on a row.
  """

  def __init__(self, f, function, forms, depends):
    self.f = f
    self.function = function
    self.forms = forms
    self.depends = depends

  def __call__(self, *values):
    """Evaluates `function`, which takes the structure of the inputs of `f`."""
    return self.function(*values)

  def row(self, values, i):
    """The arguments of `f` for row `i` of `values`, arrays for all inputs."""
    return self.f.arguments([
        value if form == SHARED else value[i] if form == BARE else
        value[i:i + 1] for value, form in zip(values, self.forms)])


def stacked(f, results):
  """The results of `f` for some rows, as those of one call for all of them.

  Args:
    f: `functions.Function` of one row.
    results: list with what `f` returned for each row, one at least.

  Returns:
    list with an array for each output.
  """
  rows = zip(*map(nest.flatten, results))
  return [np.stack([part[0] if batch_size.is_one_row(output) else part
                    for part in parts])
          for output, parts in zip(f.outputs, rows)]


def _built(f, forms, way):
  """`Rebatched` that one way leads to, the same ops on every call; or None."""
  ends = f.ends()
  if ends is None:
    return None
  targets, results = ends
  if targets.count(None) == len(targets):  # The same for each row.
    targets = [f.inputs[0].tensor] + targets[1:]
  given = [(target, form != BARE) for target, form in zip(targets, forms)
           if target is not None and form != SHARED]
  fed = [target for target, _ in given]
  found = traversal.ancestors(results, {target.name for target in fed})
  if not fed or f.needs or any(
      _DIFFERING.search(op_type)
      for _, op_type in effects.op_types_of_run(found)):
    return None
  sources = _sources(f.graph, given)
  made = _made(f.graph, way, results, sources)
  if made is None:
    return None
  rows = {source.tensor.name: source.rows for source in sources}
  inputs = [leaf.tensor if target is None else rows.get(
      target.name, target) for leaf, target in zip(f.inputs, targets)]
  return Rebatched(f, f.between(inputs, made), forms, [
      _depends(result, fed) for result in results])


def _sources(graph, given):
  """The `batch_size.Source` of each (tensor that is fed, whether it has an axis
  for rows); the same on every call.
  """

  def build():
    cache.check_not_finalized(graph, "A larger batch")
    with _tf.building(graph):
      return [batch_size.Source(*pair) for pair in given]

  return cache.cached(graph, ("rows",) + tuple(
      (tensor.name, has_axis) for tensor, has_axis in given), build)


def _made(graph, way, results, sources):
  """What one way makes of `results`, once; None where it leads nowhere."""

  def build():
    cache.check_not_finalized(graph, "A larger batch")
    with _tf.building(graph):
      try:
        return way(graph, results, sources),
      except Exception:  # pylint: disable=broad-except
        return None,  # Not tried again.

  made, = cache.cached(graph, (
      "rows", way.__name__, tuple(t.name for t in results),
      tuple(source.rows.name for source in sources)), build)
  return made


def _depends(result, fed):
  """Whether `result` is computed from one of the tensors that are fed."""
  found = traversal.ancestors([result])
  return any(t.op.name in found for t in fed)


def prove(batched, f, values):
  """Whether rows in one batch give what they give by themselves.

  All rows are evaluated by `f` one by one; then together; and the first two
  once more in the other order, in a batch of another size: numbers that are
  right for one size, or for one place in the batch, are not for both. Rounding
  is allowed for. Rows of which all give the same prove nothing, as then every
  mistake gives it too.

  Args:
    batched: `Rebatched`.
    f: `functions.Function` of one row.
    values: list with an array for each input, of two rows at least, which
      differ.

  Returns:
    bool; False as well where an evaluation fails.
  """
  try:
    counts = {len(value) for value, form in zip(values, batched.forms)
              if form != SHARED}
    if len(counts) != 1 or min(counts) < 2:
      return False
    count, = counts
    apart = stacked(f, [f(*batched.row(values, i)) for i in range(count)])
    return (_tells_rows_apart(apart, batched.depends) and
            _agrees(batched, values, np.arange(count), apart) and
            _agrees(batched, values, np.array(
                [1, 0] if count > 2 else [1, 0, 1]), apart))
  except Exception:  # pylint: disable=broad-except
    return False  # The caller meets it again, if it is in a row.


def _tells_rows_apart(apart, depends):
  """Whether results that depend on a row differ from row to row."""
  return all(_differ(result) for result, depending in zip(apart, depends)
             if depending)


def _differ(rows):
  """Whether one of `rows` is not the first one, where both are finite.

  That is not `numeric_comparison.is_close`, to which NaN is equal to NaN: rows
  that are all NaN would look right whatever a batch makes of them.
  """
  if rows.dtype.kind in "fc":  # NaN differs from NaN, and tells nothing.
    rows = np.where(np.isfinite(rows), rows, 0)
  return not all(np.array_equal(row, rows[0]) for row in rows[1:])


def _agrees(batched, values, order, apart):
  together = nest.flatten(batched(*batched.f.arguments([
      value if form == SHARED else np.asarray(value)[order]
      for value, form in zip(values, batched.forms)])))
  return all(
      one.dtype == other.dtype and
      numeric_comparison.is_close(one, other[order])
      for one, other in zip(together, apart))


def one_by_one(f, calls, threads=None):
  """Evaluates `f` at one row after the other, from several threads.

  Args:
    f: `functions.Function`, or what calls one.
    calls: list with the tuple of the arguments of each call.
    threads: int, how many; None for one for each processor, up to 8.

  Returns:
    list of what `f` returns, in the order of `calls`.

  Raises:
    The error of the first of `calls` that has one, in their order.
  """
  threads = threads or min(os.cpu_count() or 1, _MOST_THREADS)
  session = tf.get_default_session()  # A thread has none of its own.

  def evaluate(part):
    with contextlib.ExitStack() as stack:
      if session is not None:
        stack.enter_context(session.as_default())
      return [f(*call) for call in part]

  size = max(1, -(-len(calls) // (threads * _PARTS)))
  if threads == 1 or len(calls) <= size:
    return evaluate(calls)
  pool = concurrent.futures.ThreadPoolExecutor(threads)
  try:
    parts = [calls[i:i + size] for i in range(0, len(calls), size)]
    return [result for part in pool.map(evaluate, parts) for result in part]
  finally:
    pool.shutdown()
